"""Elementwise operators, comparisons and products of NDArrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy

from .strided import NUMBERS, Strided, empty, foreign, mixed, wrapped
from .views import broadcast_shape, broadcast_strides, check, debug

OPERANDS = (Strided, *NUMBERS, numpy.generic)


def apply(name: str, operands: Sequence[Any], dtype: Any = None) -> Any:
    """A new array of the ufunc `name` over NDArrays of one device and numbers, broadcast; dtypes by NumPy's rules,
    where every single number adapts to the arrays."""
    device, shape, operands = common(name, operands)
    out = empty(device, shape, result_dtype(name, tuple(map(_kind, operands))) if dtype is None else dtype)
    device.mod.elementwise(name, out._handle, shape, [operand(x, shape) for x in operands])
    return out


def common(name: str, operands: Sequence[Any]) -> tuple[Any, tuple[int, ...], list[Any]]:
    """The one device of the operands, their common shape, and themselves with all numbers as Python's."""
    device = shape = None
    plain = []
    for x in operands:
        if isinstance(x, Strided):
            if device is None:
                device, shape = x._device, x._shape
            elif x._device != device:
                raise mixed(name, device, x._device)
            elif x._shape != shape:
                shapes = [y._shape for y in operands if isinstance(y, Strided)]
                shape = broadcast_shape(name, shapes)
            plain.append(x)
        else:
            plain.append(_number(x, name, operands))
    assert shape is not None
    return device, shape, plain


def _number(x: Any, name: str, operands: Sequence[Any]) -> Any:
    """A number as Python's own int, float or bool; NumPy hands its scalars to a comparison as 0-d arrays."""
    if type(x) in (int, float, bool):
        return x
    x = x.item() if isinstance(x, numpy.generic) or (isinstance(x, numpy.ndarray) and x.ndim == 0) else x
    if not isinstance(x, NUMBERS):
        raise foreign(name, next(y._device for y in operands if isinstance(y, Strided)), x)
    return x if isinstance(x, bool) else int(x) if isinstance(x, int) else float(x)


def _kind(x: Any) -> Any:
    return x._handle.dtype if isinstance(x, Strided) else type(x)


def operand(x: Any, shape: tuple[int, ...]) -> Any:
    """What a kernel gets: a number, or (handle, strides, offset) in the broadcast shape."""
    if not isinstance(x, Strided):
        return x
    strides = x._strides if x._shape == shape else broadcast_strides(x._shape, x._strides, shape)
    if debug.on:
        check((shape, strides, x._offset), x._handle.size, "operand")
    return x._handle, strides, x._offset


@lru_cache(maxsize=1024)
def result_dtype(name: str, kinds: tuple) -> numpy.dtype:
    """The dtype of a ufunc's result; kinds: dtypes of arrays, and Python's int, float and bool for numbers."""
    wanted = tuple(numpy.dtype(bool) if kind is bool else kind for kind in kinds)
    return getattr(numpy, name).resolve_dtypes((*wanted, None))[-1]


def matmul(a: Any, b: Any) -> Any:
    """a @ b by NumPy's rules: vectors, matrices and stacks of matrices, which broadcast."""
    _must_multiply(a, b)
    device = a._device
    if a.ndim == b.ndim == 2 and a.dtype == b.dtype and a.is_compact() and b.is_compact():
        (m, n), p = a._shape, b._shape[1]
        out = empty(device, (m, p), a.dtype)
        device.mod.matmul(a._handle, b._handle, out._handle, m, n, p)
        return out
    return wrapped(device, _product(device, _for_blas(a), _for_blas(b)), ())


def _must_multiply(a: Any, b: Any) -> None:
    for x, other in ((a, b), (b, a)):
        if not isinstance(x, Strided) and not isinstance(x, OPERANDS):
            raise foreign("matmul", other._device, x)
        if not isinstance(x, Strided) or not x._shape:
            raise ValueError("matmul: wanted arrays of at least one axis; multiply by a number with *")
    if a._device != b._device:
        raise mixed("matmul", a._device, b._device)
    if a._shape[-1] != b._shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {a._shape} and {b._shape} do not fit; the inner sizes must be equal")
    if a.ndim > 2 and b.ndim > 2:
        broadcast_shape("matmul: stacks", (a._shape[:-2], b._shape[:-2]))


def _product(device: Any, a: Any, b: Any) -> Any:
    """The device's product of matrices; a vector is a matrix of one row on the left, of one column on the right."""
    out = device.mod.product(a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
    if b.ndim == 1:
        out = out[..., 0]  # (…, m)
    if a.ndim == 1:
        out = out[..., 0] if b.ndim == 1 else out[..., 0, :]  # (…, p)
    return out


def _for_blas(a: Any) -> Any:
    """A view whose matrices lie row by row or column by column, as BLAS wants them; a copy if need be."""
    if a.ndim < 2:
        return a._view()
    (m, n), (row, column) = a._shape[-2:], a._strides[-2:]
    fits = (column == 1 and row >= n) or (row == 1 and column >= m)
    return (a if fits else a.compact())._view()


def _binary(name: str, reflected: bool = False) -> Callable:
    def method(self: Any, other: Any) -> Any:
        if isinstance(other, OPERANDS):
            return apply(name, (other, self) if reflected else (self, other))
        return _not_mine(name, self, other)

    return method


def _comparison(name: str) -> Callable:
    """1 where it holds and 0 elsewhere, in the dtype of the left array; numpy.less & co. give booleans."""

    def method(self: Any, other: Any) -> Any:
        if isinstance(other, OPERANDS):
            return apply(name, (self, other), self.dtype)
        return _not_mine(name, self, other)

    return method


def _inplace(name: str) -> Callable:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, OPERANDS):
            return _not_mine(name, self, other)
        write_into(self, name, (self, other))
        return self

    return method


def write_into(out: Any, name: str, operands: Sequence[Any]) -> None:
    """out[...] = ufunc(*operands) without a new array where that is safe; `out` keeps its dtype and shape."""
    device, shape, operands = common(name, operands)
    dtype = result_dtype(name, tuple(map(_kind, operands)))
    _must_fit(out, name, shape, dtype)
    if dtype == out.dtype and out.is_compact() and not any(_crosses(out, x) for x in operands):
        device.mod.elementwise(name, out._handle, shape, [operand(x, shape) for x in operands])
    else:
        out[...] = apply(name, operands)


def _must_fit(out: Any, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> None:
    if shape != out._shape:
        raise ValueError(f"{name}: a result of shape {shape} does not fit into an array of shape {out._shape}")
    if not numpy.can_cast(dtype, out.dtype, "same_kind"):
        raise TypeError(f"{name}: a result of dtype {dtype} does not go into an array of dtype {out.dtype}")


def _crosses(out: Any, x: Any) -> bool:
    """Whether an element of `x` may lie where another one of `out` is written."""
    if not isinstance(x, Strided) or not x._handle.meets(out._handle):
        return False
    return x._handle is not out._handle or (x._shape, x._strides, x._offset) != (out._shape, out._strides, out._offset)


def _unary(name: str) -> Callable:
    return lambda self: apply(name, (self,))


def _not_mine(name: str, array: Any, other: Any) -> Any:
    if isinstance(other, numpy.ndarray):
        raise foreign(name, array._device, other)
    return NotImplemented


class Arithmetic(Strided):
    """Operators. Binary ones broadcast and take numbers; `==` and its kin give 1 and 0 in the operand's dtype."""

    __slots__ = ()

    __add__, __radd__, __iadd__ = _binary("add"), _binary("add", True), _inplace("add")
    __sub__, __rsub__, __isub__ = _binary("subtract"), _binary("subtract", True), _inplace("subtract")
    __mul__, __rmul__, __imul__ = _binary("multiply"), _binary("multiply", True), _inplace("multiply")
    __truediv__, __rtruediv__, __itruediv__ = _binary("divide"), _binary("divide", True), _inplace("divide")
    __pow__, __rpow__, __ipow__ = _binary("power"), _binary("power", True), _inplace("power")
    __mod__, __rmod__, __imod__ = _binary("remainder"), _binary("remainder", True), _inplace("remainder")
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _binary("floor_divide", True)
    __and__, __rand__, __iand__ = _binary("bitwise_and"), _binary("bitwise_and", True), _inplace("bitwise_and")
    __or__, __ror__, __ior__ = _binary("bitwise_or"), _binary("bitwise_or", True), _inplace("bitwise_or")
    __xor__, __rxor__, __ixor__ = _binary("bitwise_xor"), _binary("bitwise_xor", True), _inplace("bitwise_xor")
    __lshift__, __rlshift__, __ilshift__ = _binary("left_shift"), _binary("left_shift", True), _inplace("left_shift")
    __rshift__, __rrshift__ = _binary("right_shift"), _binary("right_shift", True)
    __ifloordiv__, __irshift__ = _inplace("floor_divide"), _inplace("right_shift")
    __neg__, __pos__, __abs__, __invert__ = _unary("negative"), _unary("positive"), _unary("absolute"), _unary("invert")

    __eq__, __ne__ = _comparison("equal"), _comparison("not_equal")
    __lt__, __le__ = _comparison("less"), _comparison("less_equal")
    __gt__, __ge__ = _comparison("greater"), _comparison("greater_equal")
    __hash__ = None  # type: ignore[assignment]

    log, exp, tanh = _unary("log"), _unary("exp"), _unary("tanh")
    maximum = _binary("maximum")

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def round(self, decimals: int = 0) -> Any:
        """To so many decimals; halves go to the even neighbour."""
        return numpy.round(self, decimals)

    def __matmul__(self, other: Any) -> Any:
        return matmul(self, other) if isinstance(other, Strided) else _not_mine("matmul", self, other)

    def __imatmul__(self, other: Any) -> Any:
        if not isinstance(other, Strided):
            return _not_mine("matmul", self, other)
        result = matmul(self, other)
        _must_fit(self, "matmul", result._shape, result.dtype)
        self[...] = result
        return self
