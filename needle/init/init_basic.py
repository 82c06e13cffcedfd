"""Constants and random tensors. dtype None is the default dtype, float32 where none was set."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..backend_selection import array_api, default_device
from ..modes import get_default_dtype


def _chosen(dtype: Any) -> Any:
    return dtype or get_default_dtype() or "float32"


def as_leaf(array: Any, device: Any, dtype: Any, requires_grad: bool) -> Tensor:
    return Tensor.make_const(device.cast(array, _chosen(dtype)), requires_grad)


def on_device(device: Any) -> Any:
    """The device that was asked for, or the default one; TypeError for what is none, such as its name."""
    if device is None:
        return default_device()
    if not hasattr(device, "rand"):
        raise TypeError(f"init: device must be a device such as ndl.cpu() or ndl.cuda(), got {device!r}")
    return device


def _sizes(shape: tuple) -> tuple:
    """`shape` as whole numbers, or an error that says how to give one."""
    if not all(hasattr(n, "__index__") for n in shape):
        raise TypeError(f"init: a shape is given as separate whole numbers, as in zeros(2, 3); got {shape}")
    if any(n < 0 for n in shape):
        raise ValueError(f"init: a shape has no negative numbers, got {shape}")
    return shape


def uniform(shape: tuple, device: Any, dtype: Any, generator: Any) -> Any:
    """Draws from [0, 1) as an array: the device's own stream, float64, or that of an `init.Generator`, in `dtype`."""
    if generator is None:
        return device.rand(*_sizes(shape), **_width(dtype))
    return device.drawn(generator.uniform, _sizes(shape), _chosen(dtype))


def normal(shape: tuple, device: Any, dtype: Any, generator: Any) -> Any:
    """Standard normal draws as an array, from the same streams."""
    if generator is None:
        return device.randn(*_sizes(shape), **_width(dtype))
    return device.drawn(generator.normal, _sizes(shape), _chosen(dtype))


def _width(dtype: Any) -> dict[str, Any]:
    """How wide to draw: as the device does by itself, unless more is wanted."""
    return {"dtype": "float64"} if _chosen(dtype) == "float64" else {}


def rand(
    *shape: int,
    low: float = 0.0,
    high: float = 1.0,
    device: Any = None,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """Uniform draws from [low, high); from the device's own stream, or from `generator`, an `init.Generator`."""
    device = on_device(device)
    return as_leaf(uniform(shape, device, dtype, generator) * (high - low) + low, device, dtype, requires_grad)


def randn(
    *shape: int,
    mean: float = 0.0,
    std: float = 1.0,
    device: Any = None,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """Normal draws with the given mean and standard deviation; from the device's own stream, or from `generator`."""
    device = on_device(device)
    return as_leaf(normal(shape, device, dtype, generator) * std + mean, device, dtype, requires_grad)


def constant(*shape: int, c: float = 1.0, device: Any = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor filled with c."""
    device = on_device(device)
    return Tensor.make_const(device.full(_sizes(shape), c, dtype=_chosen(dtype)), requires_grad)


def ones(*shape: int, device: Any = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return constant(*shape, c=1.0, device=device, dtype=dtype, requires_grad=requires_grad)


def zeros(*shape: int, device: Any = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return constant(*shape, c=0.0, device=device, dtype=dtype, requires_grad=requires_grad)


def randb(
    *shape: int,
    p: float = 0.5,
    device: Any = None,
    dtype: Any = "bool",
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """True (1) with probability p: where a uniform draw is at most p. From a `generator` the draws are float32."""
    device = on_device(device)
    draws = uniform(shape, device, "float32", generator)
    return as_leaf(array_api.less_equal(draws, p), device, dtype, requires_grad)


def one_hot(n: int, i: Any, device: Any = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Rows of the n × n identity that the whole numbers in i, a tensor, array or list, name: i.shape + (n,)."""
    device = on_device(device)
    i = i if isinstance(i, Tensor) else Tensor(i, device=device, requires_grad=False)
    labels = i.device.check(_within, i.device.share(i.cached_data).astype("int64"), n)
    return Tensor.make_const(device.one_hot(n, labels, dtype=_chosen(dtype)), requires_grad)


def _within(labels: Any, n: int) -> Any:
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < n:
        raise IndexError(f"one_hot: labels run from {int(labels.min())} to {int(labels.max())}, wanted 0 to {n - 1}")
    return labels


def zeros_like(array: Tensor, *, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, dtype and device of `array`."""
    return zeros(*array.shape, dtype=array.dtype, device=device or array.device, requires_grad=requires_grad)


def ones_like(array: Tensor, *, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, dtype and device of `array`."""
    return ones(*array.shape, dtype=array.dtype, device=device or array.device, requires_grad=requires_grad)
