"""The core of NDArray: a buffer, shape, strides and offset; how views are made and how NumPy (or CuPy) sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy

from .views import as_shape, check, compact_strides, debug, overlaps_itself, span

NUMBERS = (int, float)  # and bool, which is an int


class Strided:
    """A view of a flat buffer. `kind`: the class of new arrays; `default_device`: where they live if none is given."""

    __slots__ = ("_device", "_handle", "_is_view", "_offset", "_shape", "_strides")
    kind: Any = None
    default_device: Any = None
    _device: Any
    _handle: Any
    _is_view: bool
    _offset: int
    _shape: tuple[int, ...]
    _strides: tuple[int, ...]

    if TYPE_CHECKING:  # what the classes above it add

        def __getattr__(self, name: str) -> Any: ...

    @staticmethod
    def make(
        shape: Any, strides: Any = None, device: Any = None, handle: Any = None, offset: int = 0, dtype: Any = "float32"
    ) -> Any:
        """An array over `handle`, or over new uninitialised memory. Strides None: compact.
        Raises IndexError where it would reach beyond its buffer."""
        shape = as_shape(shape, "NDArray.make")
        strides = compact_strides(shape) if strides is None else tuple(map(index, strides))
        device, fresh = device or Strided.default_device(), handle is None
        if fresh:
            handle = device.mod.Array(max(0, span(shape, strides, offset)[1] + 1), as_dtype(dtype, "NDArray.make"))
        check((shape, strides, offset), handle.size, "NDArray.make")
        array = look(device, handle, shape, strides, offset)
        array._is_view = not fresh
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps along the axes, in elements."""
        return self._strides

    @property
    def device(self) -> Any:
        return self._device

    @property
    def dtype(self) -> Any:
        return self._handle.dtype

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> int:
        return math.prod(self._shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def is_compact(self) -> bool:
        """Whether the elements lie row by row and fill the buffer."""
        return self._strides == compact_strides(self._shape) and self._handle.size == math.prod(self._shape)

    def _view(self) -> Any:
        """The elements as an array of the device's library, over the same memory."""
        return self._device.mod.view(self._handle, self._shape, self._strides, self._offset)

    def _operand(self) -> tuple[Any, tuple[int, ...], int]:
        """What kernels take."""
        return self._handle, self._strides, self._offset


def look(device: Any, handle: Any, shape: tuple, strides: tuple, offset: int) -> Any:
    """A view of `handle`; in debug mode checked against its size."""
    if debug.on:
        check((shape, strides, offset), handle.size, "NDArray")
    array = object.__new__(Strided.kind)
    array._device, array._handle, array._shape = device, handle, shape
    array._strides, array._offset, array._is_view = strides, offset, True
    return array


def new(device: Any, handle: Any, shape: tuple) -> Any:
    """A compact array that has `handle` for itself."""
    array = look(device, handle, shape, compact_strides(shape), 0)
    array._is_view = False
    return array


def empty(device: Any, shape: tuple, dtype: Any) -> Any:
    """A new compact array, uninitialised; in debug mode floats are NaN, so that what stays unwritten is seen."""
    array = new(device, device.mod.Array(math.prod(shape), dtype), shape)
    if debug.on and array.dtype.kind == "f":
        device.mod.fill(array._handle, math.nan)
    return array


def as_dtype(dtype: Any, who: str) -> numpy.dtype:
    """A dtype of real numbers or booleans, in the byte order of the machine."""
    made = numpy.dtype(dtype)
    if made.kind not in "biuf":
        raise TypeError(f"{who}: wanted a dtype of floats, whole numbers or booleans, got {made}")
    return made if made.isnative else made.newbyteorder("=")


def relook(array: Strided, shape: tuple, strides: tuple, offset: int | None = None) -> Any:
    """Another view of the memory of `array`."""
    return look(array._device, array._handle, shape, strides, array._offset if offset is None else offset)


def as_view(value: Any, who: str, device: Any = None) -> Any:
    """The array of the device's library behind an NDArray; numbers as they are. Raises for all else, and for an
    NDArray of a device other than `device`."""
    if isinstance(value, Strided):
        if device is not None and value._device != device:
            raise mixed(who, device, value._device)
        return value._view()
    if isinstance(value, (*NUMBERS, numpy.generic)):
        return value
    raise foreign(who, device, value)


def must_be_writable(array: Strided, who: str) -> None:
    if overlaps_itself(array._shape, array._strides):
        raise ValueError(f"{who}: strides {array._strides} show one element in several places; write to a .copy()")


def mixed(who: str, one: Any, other: Any) -> ValueError:
    return ValueError(f"{who}: one operand is on {one}, another on {other}; move one with .to(device)")


def foreign(who: str, device: Any, value: Any) -> TypeError:
    what = f"{type(value).__module__}.{type(value).__qualname__}"
    host = f"a {what}" + (", which is on the host" if isinstance(value, numpy.ndarray) else "")
    return TypeError(f"{who}: an NDArray on {device} does not mix with {host}; use nd.array(x, device=...)")


def wrapped(device: Any, result: Any, handles: Sequence[Any]) -> Any:
    """What the device's library gave back as NDArrays: views where they lie in one of `handles`, else new ones."""
    if isinstance(result, (tuple, list)):
        parts = [wrapped(device, part, handles) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    xp = device.mod.xp
    if isinstance(result, numpy.generic):
        result = xp.asarray(result)
    if not isinstance(result, xp.ndarray):
        return result
    as_dtype(result.dtype, "NDArray")
    for handle in handles:
        offset = _place(device, result, handle)
        if offset is not None:
            return look(device, handle, result.shape, tuple(s // result.itemsize for s in result.strides), offset)
    return new(device, device.mod.adopt(result), result.shape)


def _place(device: Any, result: Any, handle: Any) -> int | None:
    """Where in `handle` the array `result` begins, in elements; None where it lies elsewhere."""
    if result.size == 0 or result.dtype != handle.dtype:
        return None
    distance = device.mod.Array.of(result).ptr() - handle.ptr()
    return distance // result.itemsize if 0 <= distance < handle.size * result.itemsize else None


def spanned(device: Any, array: Any) -> Any:
    """An NDArray over the memory of an array of the device's library, however that lies; a view, not the owner."""
    xp, step = device.mod.xp, array.itemsize
    strides = tuple(s // step for s in array.strides)  # DLPack counts in elements too
    lowest, highest = span(array.shape, strides, 0)
    upward = array[tuple(slice(None, None, -1 if s < 0 else 1) for s in strides)]  # begins at the lowest element
    flat = xp.lib.stride_tricks.as_strided(upward, (highest - lowest + 1,), (step,)) if array.size else array.ravel()
    return look(device, device.mod.adopt(flat), array.shape, strides, -lowest)
