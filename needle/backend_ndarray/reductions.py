"""Sums, products, extrema and truths of NDArrays over axes."""

from __future__ import annotations

import math
from typing import Any

import numpy

from ..axes import as_axes
from .strided import Strided, as_dtype, empty, wrapped
from .views import check, debug


def reduce(a: Any, name: str, axis: Any, keepdims: bool, dtype: Any = None) -> Any:
    """sum, prod, max or min over `axis` (None: all, an int, or several). Small whole numbers add up in 64 bits."""
    shape = a._shape
    axes = _axes(axis, len(shape), name)
    left = tuple(n for i, n in enumerate(shape) if i not in axes)
    if name in ("max", "min") and 0 in shape and 0 not in left:
        raise ValueError(f"{name}: shape {shape} has no elements along axis {axis}, so there is no {name}")
    out = empty(a._device, left, _total_dtype(name, a.dtype) if dtype is None else as_dtype(dtype, name))
    if debug.on:
        check((shape, a._strides, a._offset), a._handle.size, name)
    a._device.mod.reduce(name, out._handle, a._operand(), shape, axes)
    return out.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape))) if keepdims else out


def _axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """`as_axes`; as in NumPy a 0-d array may be folded along axis 0 or −1, which it does not have."""
    return () if ndim == 0 and axis in (0, -1) else as_axes(axis, ndim, name)


def _total_dtype(name: str, dtype: numpy.dtype) -> Any:
    if name in ("max", "min") or dtype.kind == "f" or dtype.itemsize == 8:
        return dtype
    return numpy.dtype("uint64" if dtype.kind == "u" else "int64")


class Reductions(Strided):
    """Methods that fold axes, with NumPy's arguments."""

    __slots__ = ()

    def sum(self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None) -> Any:
        """Sum over `axis`; floats add up in float64."""
        return reduce(self, "sum", axis, keepdims, dtype)

    def prod(self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None) -> Any:
        return reduce(self, "prod", axis, keepdims, dtype)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Largest over `axis`; NaN wins. Raises ValueError over an empty axis."""
        return reduce(self, "max", axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Smallest over `axis`; NaN wins. Raises ValueError over an empty axis."""
        return reduce(self, "min", axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Arithmetic mean over `axis`, of whole numbers in float64; of nothing: NaN."""
        count = math.prod(self._shape[i] for i in _axes(axis, self.ndim, "mean"))
        dtype = self.dtype if self.dtype.kind == "f" else numpy.dtype("float64")
        wide = numpy.dtype("float32") if dtype.itemsize == 2 else dtype  # sums pass float16's largest number
        return (reduce(self, "sum", axis, keepdims, wide) / (count or math.nan)).astype(dtype, copy=False)

    def any(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._folded("any", axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._folded("all", axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Index of the first largest element along `axis`; None: in the flattened array."""
        return self._folded("argmax", axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Any:
        return self._folded("argmin", axis=axis, keepdims=keepdims)

    def _folded(self, name: str, **options: Any) -> Any:
        return wrapped(self._device, getattr(self._device.mod.xp, name)(self._view(), **options), ())
