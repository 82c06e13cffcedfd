"""The device module `cpu_numpy`: every function on flat buffers in a few lines of NumPy, to be read and compared with.

A device module has the names of INTERFACE. An operand is (handle, strides, offset), counted in elements; strides
may be 0 or negative. `out` is a compact handle, filled whole. The module functions below are one `Reference` over
NumPy; over CuPy it is the cuda module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from ..backend_numpy import _adam_block
from .views import compact_strides

__tile_size__ = 8
SMALL = 256  # float32 products with no side as long as this add up in float64

# fmt: off
INTERFACE = (
    "Array", "__tile_size__", "adam", "add_scaled", "adopt", "compact", "copy", "elementwise", "enabled", "ewise_add",
    "ewise_div", "ewise_eq", "ewise_exp", "ewise_ge", "ewise_log", "ewise_maximum", "ewise_mul", "ewise_setitem",
    "ewise_tanh", "fill", "from_numpy", "held_index", "holds", "matmul", "matmul_tiled", "product", "reduce",
    "reduce_max", "reduce_sum", "scalar_add", "scalar_div", "scalar_eq", "scalar_ge", "scalar_maximum", "scalar_mul",
    "scalar_power", "scalar_setitem", "synchronize", "to_numpy", "view", "xp",
)
# fmt: on


class Array:
    """A flat buffer of `size` elements, uninitialised. `array` is the same memory as a 1-D array."""

    __slots__ = ("__weakref__", "array")
    xp: Any = numpy

    def __init__(self, size: int, dtype: Any = "float32"):
        self.array = self.xp.empty(size, dtype)

    @classmethod
    def of(cls, array: Any) -> Any:
        """The handle whose memory is that of a 1-D array without gaps."""
        handle = object.__new__(cls)
        handle.array = array
        return handle

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def dtype(self) -> numpy.dtype:
        return self.array.dtype

    def ptr(self) -> int:
        """The address of the first element."""
        return self.array.ctypes.data

    def meets(self, other: Any) -> bool:
        """Whether some of the memory is also that of `other`: two handles may look at one array of another library."""
        return self is other or numpy.may_share_memory(self.array, other.array)


class Reference:
    """The functions of a device module over the array library `xp`."""

    __tile_size__ = __tile_size__

    def __init__(self, xp: Any, array: Any):
        self.xp, self.Array = xp, array

    def enabled(self) -> bool:
        return True

    def synchronize(self) -> None:
        """Wait until all that was asked of the device is done: NumPy never returns earlier."""

    # --- memory: handles and the arrays that look at them -------------------------------------------------------

    def view(self, handle: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> Any:
        """The elements as an array of `xp` over the same memory."""
        flat = handle.array
        step = flat.itemsize
        if 0 in shape:  # which may begin behind the end
            return numpy.empty(shape, flat.dtype)
        return numpy.ndarray(shape, flat.dtype, flat, offset * step, [s * step for s in strides])

    def whole(self, handle: Any, shape: Sequence[int]) -> Any:
        """The view of a compact handle."""
        return handle.array.reshape(shape)

    def adopt(self, array: Any) -> Any:
        """A handle over an array, sharing its memory where it is row-major and lies on this device."""
        return self.Array.of(self.xp.ascontiguousarray(self.xp.asarray(array)).reshape(-1))

    def holds(self, value: Any) -> bool:
        """Whether `value` is an array of this device's library."""
        return isinstance(value, self.xp.ndarray)

    def held_index(self, array: Any, index: Any) -> Any:
        """An index of the view `array` that is held to its axes: by NumPy itself."""
        return index

    def from_numpy(self, a: numpy.ndarray, handle: Any) -> None:
        """handle = a, element by element in row-major order."""
        handle.array[...] = self.xp.asarray(a).reshape(-1)

    def to_numpy(self, handle: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> numpy.ndarray:
        """The elements as a NumPy array of its own."""
        return numpy.array(self.view(handle, shape, strides, offset), order="C")

    # --- the four kernels ---------------------------------------------------------------------------------------

    def elementwise(self, name: str, out: Any, shape: Sequence[int], operands: Sequence[Any]) -> None:
        """out = ufunc(*operands); each is a number or (handle, strides, offset) in the broadcast shape."""
        views = [self.view(o[0], shape, o[1], o[2]) if isinstance(o, tuple) else o for o in operands]
        getattr(self.xp, name)(*views, out=self.whole(out, shape))

    def reduce(self, name: str, out: Any, operand: tuple, shape: Sequence[int], axes: Sequence[int]) -> None:
        """out = sum, prod, max or min over `axes`; sums and products of floats add up in float64."""
        view = self.view(operand[0], shape, *operand[1:])
        left = [n for i, n in enumerate(shape) if i not in axes]
        if name in ("max", "min"):
            result = getattr(self.xp, name)(view, axis=tuple(axes))
        else:
            wide = numpy.float64 if out.dtype.kind == "f" else out.dtype
            result = getattr(self.xp, name)(view, axis=tuple(axes), dtype=wide)
        self.whole(out, left)[...] = result

    def copy(self, out: tuple, in_: tuple, shape: Sequence[int]) -> None:
        """out = in_, both (handle, strides, offset); they do not overlap."""
        self.view(out[0], shape, *out[1:])[...] = self.view(in_[0], shape, *in_[1:])

    def product(self, a: Any, b: Any) -> Any:
        """a @ b of two views (…, m, n) and (…, n, p) as a new array of `xp`.

        float32 with no side of SMALL or more adds up in float64: rounding by float32 is seen there.
        """
        if a.dtype == b.dtype == numpy.float32 and max(*a.shape[-2:], *b.shape[-2:]) < SMALL:
            return self.xp.matmul(a.astype(numpy.float64), b.astype(numpy.float64)).astype(numpy.float32)
        return self.xp.matmul(a, b)

    def matmul(self, a: Any, b: Any, out: Any, m: int, n: int, p: int) -> None:
        """out (m, p) = a (m, n) @ b (n, p), all compact."""
        self.whole(out, (m, p))[...] = self.product(self.whole(a, (m, n)), self.whole(b, (n, p)))

    def matmul_tiled(self, a: Any, b: Any, out: Any, m: int, n: int, p: int) -> None:
        """The product of matrices cut into t×t tiles: (m/t, n/t, t, t) and (n/t, p/t, t, t) to (m/t, p/t, t, t)."""
        t = self.__tile_size__
        left = self.whole(a, (m // t, n // t, t, t)).transpose(0, 2, 1, 3).reshape(m, n)
        right = self.whole(b, (n // t, p // t, t, t)).transpose(0, 2, 1, 3).reshape(n, p)
        tiles = self.product(left, right).reshape(m // t, t, p // t, t).transpose(0, 2, 1, 3)
        self.whole(out, tiles.shape)[...] = tiles

    # --- what optimizers run in place ---------------------------------------------------------------------------

    def add_scaled(self, target: Any, source: Any, factor: float) -> None:
        """target += factor · source, compact handles of one size and dtype."""
        target.array += source.array * target.dtype.type(factor)

    def adam(self, handles: Sequence[Any], factors: Sequence[float]) -> None:
        """What needle.kernels.adam computes; handles: parameter, gradient, m and v, compact."""
        x, g, m, v = (h.array for h in handles)
        _adam_block(x, g, m, v, self.xp.empty((2, x.size), x.dtype), tuple(map(x.dtype.type, factors)))

    # --- the course's names: compact handles, whole buffers ------------------------------------------------------

    def fill(self, out: Any, value: float) -> None:
        out.array[...] = value

    def compact(self, a: Any, out: Any, shape: Any, strides: Any, offset: int) -> None:
        self.copy((out, compact_strides(tuple(shape)), 0), (a, strides, offset), shape)

    def ewise_setitem(self, a: Any, out: Any, shape: Any, strides: Any, offset: int) -> None:
        self.copy((out, strides, offset), (a, compact_strides(tuple(shape)), 0), shape)

    def scalar_setitem(self, size: int, val: float, out: Any, shape: Any, strides: Any, offset: int) -> None:
        self.view(out, shape, strides, offset)[...] = val

    def _flat(self, name: str, out: Any, *operands: Any) -> None:
        self.elementwise(name, out, (out.size,), [(x, (1,), 0) if hasattr(x, "array") else x for x in operands])

    def ewise_add(self, a: Any, b: Any, out: Any) -> None:
        self._flat("add", out, a, b)

    def ewise_mul(self, a: Any, b: Any, out: Any) -> None:
        self._flat("multiply", out, a, b)

    def ewise_div(self, a: Any, b: Any, out: Any) -> None:
        self._flat("divide", out, a, b)

    def ewise_maximum(self, a: Any, b: Any, out: Any) -> None:
        self._flat("maximum", out, a, b)

    def ewise_eq(self, a: Any, b: Any, out: Any) -> None:
        self._flat("equal", out, a, b)

    def ewise_ge(self, a: Any, b: Any, out: Any) -> None:
        self._flat("greater_equal", out, a, b)

    def ewise_log(self, a: Any, out: Any) -> None:
        self._flat("log", out, a)

    def ewise_exp(self, a: Any, out: Any) -> None:
        self._flat("exp", out, a)

    def ewise_tanh(self, a: Any, out: Any) -> None:
        self._flat("tanh", out, a)

    scalar_add, scalar_mul, scalar_div = ewise_add, ewise_mul, ewise_div
    scalar_maximum, scalar_eq, scalar_ge = ewise_maximum, ewise_eq, ewise_ge

    def scalar_power(self, a: Any, val: float, out: Any) -> None:
        self._flat("power", out, a, val)

    def reduce_max(self, a: Any, out: Any, reduce_size: int) -> None:
        self.reduce("max", out, (a, (reduce_size, 1), 0), (out.size, reduce_size), (1,))

    def reduce_sum(self, a: Any, out: Any, reduce_size: int) -> None:
        self.reduce("sum", out, (a, (reduce_size, 1), 0), (out.size, reduce_size), (1,))


reference = Reference(numpy, Array)


def __getattr__(name: str) -> Any:
    """The names of INTERFACE, as functions of this module."""
    if name in INTERFACE:
        return getattr(reference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *INTERFACE})
