"""Which backend is on: read once, from the environment variable NEEDLE_BACKEND, silently.

"np" (or unset, or empty): NumPy's arrays on the CPU, CuPy's on a GPU. "nd": the NDArray of needle.backend_ndarray on
all its devices.
"""

from __future__ import annotations

import os
from typing import Any

import numpy

from . import backend_cupy, backend_numpy
from .backend_cupy import explained
from .backend_numpy import Device

BACKEND = os.environ.get("NEEDLE_BACKEND") or "np"

if BACKEND == "np":
    import numpy as array_api
    from numpy import ndarray as NDArray

    from .backend_cupy import cuda
    from .backend_numpy import cpu, default_device

    def all_devices() -> list[Device]:
        """The CPU, and every GPU (the first one also where it is not enabled)."""
        return [cpu(), *backend_cupy.all_gpus()]

elif BACKEND == "nd":
    from . import backend_ndarray as array_api  # type: ignore[no-redef]
    from .backend_ndarray import NDArray, all_devices, cpu, cpu_numpy, cuda, default_device  # type: ignore
else:
    raise RuntimeError(
        f"NEEDLE_BACKEND={BACKEND!r} is not a backend of needle; known: 'np' (or leave it unset) and 'nd'"
    )

__all__ = [
    "BACKEND",
    "Device",
    "NDArray",
    "all_devices",
    "array_api",
    "cpu",
    "cuda",
    "default_device",
    "device_holding",
    "device_of",
    "explained",
    "moved",
]
if BACKEND == "nd":
    __all__ += ["cpu_numpy"]

HOST = backend_numpy.cpu()
DLPACK_CPU, DLPACK_CUDA = (1, 3), (2, 13)  # kinds of memory: 3 is pinned, 13 is managed by CUDA


def device_of(array: Any) -> Any:
    """The device an array lives on: its own `.device` where that is one of ours, the GPU of a CuPy array, else the
    CPU."""
    if type(array) is numpy.ndarray:  # the question is asked at every op
        return HOST
    device: Any = getattr(array, "device", None)
    if isinstance(device, Device):
        return device
    return backend_cupy.cuda(device.id) if hasattr(device, "id") else HOST


def moved(array: Any, device: Any) -> Any:
    """The array on `device`: itself where it is there, else a copy. From GPU to GPU it does not pass the CPU."""
    source = device_of(array)
    if source == device:
        return array
    return device.array(array if type(source) is type(device) else source.to_numpy(array), array.dtype)


def device_holding(source: Any) -> Any:
    """The device on which the memory of another library's tensor lies, by DLPack's protocol."""
    kind, index = source.__dlpack_device__()
    if kind in DLPACK_CPU:
        return default_device()
    if kind in DLPACK_CUDA:
        return cuda(index) if BACKEND == "np" else cuda()
    raise ValueError(f"from_dlpack: wanted memory of the CPU or of a CUDA GPU, got DLPack's kind {int(kind)}")
