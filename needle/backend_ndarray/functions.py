"""The course's functions on NDArrays. Those that NumPy has too are NumPy's, which find their way by the protocols."""

from __future__ import annotations

from typing import Any

import numpy
from numpy import exp, log, maximum, tanh

from .device import default_device
from .ndarray import NDArray

__all__ = [
    "arange", "array", "broadcast_to", "empty", "exp", "eye", "flip", "full", "log", "maximum", "ones", "reshape",
    "sum", "tanh", "zeros",
]  # fmt: skip


def array(a: Any, dtype: Any = "float32", device: Any = None) -> NDArray:
    """A new array holding a copy of `a`; dtype None is float32 too."""
    return (device or default_device()).array(a, dtype)


def empty(shape: Any, dtype: Any = "float32", device: Any = None) -> NDArray:
    """Uninitialised."""
    return (device or default_device()).empty(shape, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = "float32", device: Any = None) -> NDArray:
    return (device or default_device()).full(shape, fill_value, dtype)


def zeros(shape: Any, dtype: Any = "float32", device: Any = None) -> NDArray:
    return full(shape, 0, dtype, device)


def ones(shape: Any, dtype: Any = "float32", device: Any = None) -> NDArray:
    return full(shape, 1, dtype, device)


def arange(n: int, dtype: Any = "float32", device: Any = None) -> NDArray:
    """0, 1 … n − 1."""
    return (device or default_device()).arange(n, dtype)


def eye(n: int, dtype: Any = "float32", device: Any = None) -> NDArray:
    return (device or default_device()).eye(n, dtype)


def broadcast_to(array: Any, new_shape: Any) -> Any:
    """A view in a larger shape; axes may be added on the left."""
    return numpy.broadcast_to(array, new_shape)


def reshape(array: Any, new_shape: Any) -> Any:
    """The array in another shape: a view where it is compact, else a copy."""
    return numpy.reshape(array, new_shape)


def sum(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return numpy.sum(a, axis=axis, keepdims=keepdims)


def flip(a: Any, axes: Any = None) -> Any:
    """A compact copy, reversed along `axes`."""
    return numpy.flip(a, axes)
