"""Arrays from scratch: NDArray, its devices, and NumPy's functions by the same names for those it lacks itself."""

from __future__ import annotations

from typing import Any

import numpy

from .functions import (
    arange,
    array,
    broadcast_to,
    empty,
    exp,
    eye,
    flip,
    full,
    log,
    maximum,
    ones,
    reshape,
    sum,
    tanh,
    zeros,
)
from .ndarray import BackendDevice, NDArray, all_devices, cpu, cpu_numpy, cuda, default_device
from .views import debug

__all__ = [
    "BackendDevice",
    "NDArray",
    "all_devices",
    "arange",
    "array",
    "broadcast_to",
    "cpu",
    "cpu_numpy",
    "cuda",
    "debug",
    "default_device",
    "empty",
    "exp",
    "eye",
    "flip",
    "full",
    "log",
    "maximum",
    "ones",
    "reshape",
    "sum",
    "tanh",
    "zeros",
]


def __getattr__(name: str) -> Any:
    """Any other name is NumPy's, whose functions dispatch to NDArray."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(numpy, name)
