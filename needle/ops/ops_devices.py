"""The op that moves a tensor to another device."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorOp
from ..backend_selection import Device, cpu, cuda, device_of, moved

__all__ = ["ToDevice", "to_device"]


class ToDevice(TensorOp):
    """The same numbers on another device.   The gradient goes back to where `a` is.   An op: it changes devices."""

    def __init__(self, device: Device):
        self.device = device

    def compute(self, a):
        return moved(a, self.device)

    def gradient(self, out_grad, node):
        return ToDevice(device_of(node.inputs[0].cached_data))(out_grad)


def to_device(a: Tensor, device: Any) -> Tensor:
    """`a` on `device`: the tensor itself where it is there, else a copy that gradients flow through.

    Raises TypeError for what is no device, RuntimeError where the device cannot be used.
    """
    checked_device(device, "to_device")
    return a if isinstance(a, Tensor) and a.device == device else ToDevice(device)(a)


def checked_device(device: Any, who: str) -> Any:
    """`device`, or TypeError in the name of `who`."""
    if not isinstance(device, Device):
        raise TypeError(f"{who}: wanted a device such as ndl.cpu() or ndl.cuda(), got {device!r}")
    return device


def to_cpu(a: Tensor) -> Tensor:
    """`a` on the CPU."""
    return to_device(a, cpu())


def to_cuda(a: Tensor, *index: int) -> Tensor:
    """`a` on a GPU, the first one if none is named."""
    return to_device(a, cuda(*index))
