"""NDArray: an n-dimensional array over a flat buffer of a device. Views, copies and items; the rest is inherited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from operator import index
from typing import Any

import numpy

from ..axes import as_axes
from .arithmetic import Arithmetic
from .device import BackendDevice, all_devices, cpu, cpu_numpy, cuda, default_device
from .protocols import Protocols
from .reductions import Reductions
from .strided import NUMBERS, Strided, as_dtype, empty, foreign, mixed, must_be_writable, relook
from .views import (
    as_shape,
    broadcast_strides,
    check,
    compact_strides,
    one_stride,
    resolved_shape,
    sliced,
)

__all__ = ["BackendDevice", "NDArray", "all_devices", "cpu", "cpu_numpy", "cuda", "default_device"]


class NDArray(Arithmetic, Reductions, Protocols):
    """A strided view of a buffer.

    other: an NDArray (copied, dtype kept) or what numpy.array reads (float32); device None: that of `other`, or the
    default one. Shape, strides and offset count elements. Reshape, permute, broadcast_to and [...] give views.
    """

    __slots__ = ()

    def __init__(self, other: Any, device: Any = None):
        if isinstance(other, Strided):
            made = (device or other.device).array(other, other.dtype)
        else:
            made = (device or default_device()).array(other)
        self._device, self._handle, self._is_view = made._device, made._handle, False
        self._shape, self._strides, self._offset = made._shape, made._strides, made._offset

    def __repr__(self) -> str:
        text = numpy.array2string(self.numpy(), separator=", ", prefix="NDArray(")
        dtype = "" if self.dtype == "float32" else f", dtype={self.dtype}"
        return f"NDArray({text}{dtype}, device={self._device})"

    def __str__(self) -> str:
        return str(self.numpy())

    # --- out of it ----------------------------------------------------------------------------------------------

    def numpy(self) -> numpy.ndarray:
        """The numbers as a NumPy array of its own."""
        return self._device.mod.to_numpy(self._handle, self._shape, self._strides, self._offset)

    def to(self, device: Any) -> NDArray:
        """This array if it is on `device`, else a copy there."""
        return self if device == self._device else device.array(self, self.dtype)

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.size != 1:
            raise ValueError(f"NDArray of shape {self._shape}: wanted one element, got {self.size}")
        return self.numpy().item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("NDArray of shape (): has no length")
        return self._shape[0]

    def __iter__(self) -> Iterator[NDArray]:
        """The rows, without the first axis."""
        return (self._row(i) for i in range(len(self)))

    def _row(self, i: int) -> NDArray:
        return relook(self, self._shape[1:], self._strides[1:], self._offset + i * self._strides[0])

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), self.numpy(), self._device), getattr(self, "__dict__", None) or None

    def __copy__(self) -> NDArray:
        return self._twin(getattr(self, "__dict__", {}))

    def __deepcopy__(self, memo: Any) -> NDArray:
        return self._twin(deepcopy(getattr(self, "__dict__", {}), memo))

    def _twin(self, attributes: dict[str, Any]) -> NDArray:
        """A copy of the same class, with the attributes of a subclass."""
        twin = _rebuilt(type(self), self.copy(), self._device)
        for name, value in attributes.items():
            setattr(twin, name, value)
        return twin

    # --- copies -------------------------------------------------------------------------------------------------

    def copy(self) -> NDArray:
        """A compact array with memory of its own."""
        out = empty(self._device, self._shape, self.dtype)
        self._device.mod.copy(out._operand(), self._operand(), self._shape)
        return out

    def compact(self) -> NDArray:
        """This array if it is compact, else a copy that is."""
        return self if self.is_compact() else self.copy()

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        dtype = as_dtype(dtype, "astype")
        if dtype == self.dtype:
            return self.copy() if copy else self
        out = empty(self._device, self._shape, dtype)
        self._device.mod.copy(out._operand(), self._operand(), self._shape)
        return out

    def flip(self, axes: Any = None) -> NDArray:
        """A compact copy, reversed along `axes`."""
        chosen = as_axes(axes, self.ndim, "flip")
        return self._sliced([slice(None, None, -1 if i in chosen else 1) for i in range(self.ndim)]).copy()

    def pad(self, axes: Sequence[tuple[int, int]]) -> NDArray:
        """A copy with zeros around it: one pair (before, after) for each axis."""
        if len(axes) != self.ndim or any(n < 0 for pair in axes for n in pair):
            raise ValueError(f"pad: wanted {self.ndim} pairs (before, after), not negative, one an axis; got {axes}")
        pairs = list(zip(axes, self._shape, strict=True))
        out = self._device.full(tuple(before + n + after for (before, after), n in pairs), 0, self.dtype)
        out[tuple(slice(before, before + n) for (before, _), n in pairs)] = self
        return out

    # --- views --------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> NDArray:
        """The same memory in another shape, one size of which may be −1. Raises ValueError unless compact."""
        given = shape[0] if len(shape) == 1 and not hasattr(shape[0], "__index__") else shape
        wanted = resolved_shape(tuple(map(index, given)), self._shape)
        if not self.is_compact():
            raise ValueError(
                f"reshape: an array of shape {self._shape} and strides {self._strides} is not compact; "
                "call .compact() first, which copies"
            )
        return relook(self, wanted, compact_strides(wanted))

    def permute(self, *axes: Any) -> NDArray:
        """Axes in another order: out.shape[i] = shape[axes[i]]."""
        given = axes[0] if len(axes) == 1 and not hasattr(axes[0], "__index__") else axes
        order = as_axes(given, self.ndim, "permute")
        if len(order) != self.ndim:
            raise ValueError(f"permute: axes {given} do not name each of {self.ndim} axes once")
        return relook(self, tuple(self._shape[i] for i in order), tuple(self._strides[i] for i in order))

    def transpose(self, *axes: Any) -> NDArray:
        """`permute`; without axes the order is reversed."""
        return self.permute(range(self.ndim)[::-1] if axes in ((), (None,)) else axes[0] if len(axes) == 1 else axes)

    T = property(transpose)

    def swapaxes(self, axis1: int, axis2: int) -> NDArray:
        order, (i, j) = list(range(self.ndim)), as_axes((axis1, axis2), self.ndim, "swapaxes")
        order[i], order[j] = j, i
        return self.permute(order)

    def broadcast_to(self, shape: Any) -> NDArray:
        """A view in which axes of size 1 are repeated. Raises AssertionError for any other change of shape."""
        wanted = as_shape(shape, "broadcast_to")
        fits = len(wanted) == self.ndim and all(n in (1, m) for n, m in zip(self._shape, wanted, strict=True))
        if not fits:
            raise AssertionError(f"broadcast_to: shape {self._shape} cannot be stretched to {wanted}")
        return self._stretched(wanted)

    def _stretched(self, shape: Any) -> NDArray:
        """NumPy's broadcast_to: axes may be added on the left."""
        wanted = as_shape(shape, "broadcast_to")
        added = len(wanted) - self.ndim
        if added < 0 or any(n not in (1, m) for n, m in zip(self._shape, wanted[added:], strict=True)):
            raise ValueError(f"broadcast_to: shape {self._shape} cannot be stretched to {wanted}")
        return relook(self, wanted, broadcast_strides(self._shape, self._strides, wanted))

    def as_strided(self, shape: Any, strides: Any) -> NDArray:
        """A view by any shape and strides (in elements) that stay within the buffer."""
        layout = as_shape(shape, "as_strided"), tuple(map(index, strides)), self._offset
        check(layout, self._handle.size, "as_strided")
        return relook(self, *layout)

    @property
    def flat(self) -> Any:
        """The elements in row-major order as a 1-D view."""
        step = one_stride(self._shape, self._strides)
        if step is None:
            return _Flat(self)
        return relook(self, (self.size,), (step,))

    # --- items --------------------------------------------------------------------------------------------------

    def process_slice(self, sl: slice, dim: int) -> slice:
        """`sl` along axis `dim` with whole numbers for start, stop and step, which choose the same again."""
        n = self._shape[dim]
        start, stop, step = sl.indices(n)
        return slice(start if start >= 0 else -n - 1, stop if stop >= 0 else -n - 1, step)  # −1 is the last element

    def __getitem__(self, idxs: Any) -> NDArray:
        """A view by ints and slices, one for each axis. No axis is dropped: an int i acts like i:i+1."""
        return self._sliced(self._parts(idxs))

    def _parts(self, idxs: Any) -> list[slice]:
        parts = idxs if isinstance(idxs, tuple) else (idxs,)
        if sum(p is Ellipsis for p in parts) == 1:
            at = next(i for i, p in enumerate(parts) if p is Ellipsis)
            parts = (*parts[:at], *(slice(None),) * (self.ndim - len(parts) + 1), *parts[at + 1 :])
        if len(parts) != self.ndim:
            raise IndexError(
                f"NDArray of shape {self._shape}: wanted {self.ndim} indices, one an axis, got {len(parts)}"
            )
        return [self._part(p, i) for i, p in enumerate(parts)]

    def _part(self, part: Any, dim: int) -> slice:
        if isinstance(part, slice):
            return part
        if isinstance(part, (bool, numpy.ndarray)) or not hasattr(part, "__index__"):
            raise TypeError(
                f"NDArray: an index is ints and slices, got {type(part).__name__}; "
                "a.device.getitem(a, index) and setitem take arrays by NumPy's rules"
            )
        i, n = index(part), self._shape[dim]
        if not -n <= i < n:
            raise IndexError(f"NDArray of shape {self._shape}: index {i} is out of range for axis {dim}")
        return slice(i % n, i % n + 1, 1)

    def _sliced(self, parts: Sequence[slice]) -> NDArray:
        whole = [self.process_slice(p, i) for i, p in enumerate(parts)]
        return relook(self, *sliced((self._shape, self._strides, self._offset), whole))

    def __setitem__(self, idxs: Any, other: Any) -> None:
        """Write into the view of `__getitem__`: a number, or an NDArray of as many elements or that broadcasts."""
        view = NDArray.__getitem__(self, idxs)
        must_be_writable(view, "setitem")
        if isinstance(other, numpy.generic):
            other = other.item()
        mod = self._device.mod
        if isinstance(other, NUMBERS):
            mod.scalar_setitem(view.size, other, view._handle, view._shape, view._strides, view._offset)
            return
        other = view._source(other)
        mod.copy(view._operand(), other._operand(), view._shape)

    def _source(self, other: Any) -> NDArray:
        """`other` in the shape of this view, over other memory, ready to be copied into it."""
        if not isinstance(other, NDArray):
            raise foreign("setitem", self._device, other)
        if other._device != self._device:
            raise mixed("setitem", self._device, other._device)
        if other._handle.meets(self._handle):
            other = other.copy()
        if other.size == self.size:
            return other if other._shape == self._shape else other.compact().reshape(self._shape)
        try:
            return other._stretched(self._shape)
        except ValueError:
            problem = f"{other.size} elements of shape {other._shape} do not go into shape {self._shape}"
            raise ValueError(f"setitem: {problem}") from None

    def fill(self, value: float) -> None:
        """Set every element."""
        self[(slice(None),) * self.ndim] = value


class _Flat:
    """The elements of a view that no single stride reaches, one by one."""

    def __init__(self, array: NDArray):
        self.array = array

    def __len__(self) -> int:
        return self.array.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        return self.array.__array__(dtype, copy).reshape(-1)

    def _places(self, part: slice) -> tuple[numpy.ndarray, ...]:
        return numpy.unravel_index(numpy.arange(self.array.size)[part], self.array.shape)

    def _place(self, j: Any) -> tuple[int, ...]:
        n = self.array.size
        if not -n <= index(j) < n:
            raise IndexError(f"flat: index {j} is out of range for {n} elements")
        return tuple(map(int, numpy.unravel_index(index(j) % n, self.array.shape)))

    def __getitem__(self, j: Any) -> NDArray:
        """A view of one element; a copy of those of a slice."""
        if isinstance(j, slice):
            return self.array.device.getitem(self.array, self._places(j))
        return self.array[self._place(j)].flat

    def __setitem__(self, j: Any, value: Any) -> None:
        if isinstance(j, slice):
            self.array.device.setitem(self.array, self._places(j), value)
        else:
            self.array[self._place(j)] = value


def _rebuilt(kind: type, values: Any, device: Any) -> NDArray:
    made = values if isinstance(values, Strided) else device.array(values, values.dtype)
    out: Any = object.__new__(kind)
    for name in Strided.__slots__:
        setattr(out, name, getattr(made, name))
    return out


Strided.kind, Strided.default_device = NDArray, staticmethod(default_device)
