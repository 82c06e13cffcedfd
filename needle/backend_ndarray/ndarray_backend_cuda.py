"""The device module `cuda`: the reference's text over CuPy, whose arrays are the flat buffers.

CuPy is imported when the device is first asked for something; see needle.backend_cupy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy

from .. import backend_cupy
from . import ndarray_backend_numpy
from .ndarray_backend_numpy import INTERFACE, Reference


class Array(ndarray_backend_numpy.Array):
    """A flat buffer on the GPU."""

    __slots__ = ()

    def __init__(self, size: int, dtype: Any = "float32"):
        self.array = backend_cupy.cuda().empty(size, dtype)

    def ptr(self) -> int:
        return self.array.data.ptr

    def meets(self, other: Any) -> bool:
        first, second = self.ptr(), other.ptr()
        return first < second + other.array.nbytes and second < first + self.array.nbytes


class Unusable(RuntimeError, AttributeError):
    """Why the GPU cannot be used; also an AttributeError, so that hasattr says False."""


class Cuda(Reference):
    """The functions that cannot be NumPy's text: where an array looks at memory, and where it leaves the GPU."""

    def synchronize(self) -> None:
        backend_cupy.cuda().synchronize()

    def view(self, handle: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> Any:
        flat = handle.array
        step = flat.itemsize
        if 0 in shape:
            return self.xp.empty(tuple(shape), flat.dtype)
        start = flat.data + offset * step
        return self.xp.ndarray(tuple(shape), flat.dtype, memptr=start, strides=tuple(s * step for s in strides))

    def to_numpy(self, handle: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> numpy.ndarray:
        return self.view(handle, shape, strides, offset).get()

    def held_index(self, array: Any, index: Any) -> Any:
        """As NumPy does: raises IndexError for what CuPy would wrap around."""
        return backend_cupy.held_index(self.xp, array, index)


@cache
def reference(xp: Any) -> Cuda:
    return Cuda(xp, Array)


def enabled() -> bool:
    return backend_cupy.cuda().enabled()


def __getattr__(name: str) -> Any:
    """The names of INTERFACE, as functions of this module. Where the GPU cannot be used: Unusable, with the reason."""
    if name == "__tile_size__":
        return ndarray_backend_numpy.__tile_size__
    if name in INTERFACE:
        try:
            xp = backend_cupy.cuda().xp
        except RuntimeError as error:
            raise Unusable(str(error)) from error
        return getattr(reference(xp), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *INTERFACE})
