"""Comparisons and tests, elementwise with broadcasting: boolean tensors, through which no gradient flows."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorOp, Value
from ..backend_selection import array_api
from ..failures import not_tensors

__all__ = [
    "Equal",
    "Greater",
    "GreaterEqual",
    "IsFinite",
    "IsInf",
    "IsNaN",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "NotEqual",
    "eq",
    "ge",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "ne",
]


def as_tensor(value: Any, like: Tensor, who: str) -> Tensor:
    """`value` as a tensor beside `like`: a Python or NumPy number takes its dtype, unless it is of a wider kind or
    does not fit into it.

    Raises TypeError in the name of `who` for what is neither tensor nor array nor number.
    """
    if isinstance(value, Value):
        return value  # type: ignore[return-value]
    if not isinstance(like, Tensor):
        raise not_tensors(who, [like])
    if not isinstance(value, (int, float)) and not hasattr(value, "__array__"):
        cure = "; wrap it: ndl.Tensor(...)" if isinstance(value, (list, tuple)) else ""
        met = type(value).__name__
        raise TypeError(f"{who}: wanted a Tensor, an array or a number beside a Tensor, got {met}{cure}")
    if _adapts(value, like.dtype):
        if hasattr(value, "recorder"):  # which may not be looked at
            return Tensor.make_const(like.device.cast(value, like.dtype))
        number = value if isinstance(value, (int, float)) else value.item()
        return Tensor.make_const(like.device.full((), number, dtype=like.dtype))
    return Tensor.make_const(_array(value, like))


def _adapts(value: Any, dtype: Any) -> bool:
    """Whether `value` is a number that takes the dtype: floats hold all (rounded), integers what is within limits."""
    if isinstance(value, (int, float)):
        kind = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"
    elif getattr(value, "shape", None) == () and hasattr(value, "dtype"):
        kind = getattr(value.dtype, "kind", "")
    else:
        return False
    if kind != dtype.kind and dtype.kind + kind not in WEAK:
        return False
    if dtype.kind not in "iu":
        return True
    limits = array_api.iinfo(dtype)
    return limits.min <= int(value) <= limits.max


def _array(value: Any, like: Tensor) -> Any:
    """A copy of an array or number on the device of `like`: in its own dtype where it lies there, has that of `like`
    or stands beside whole numbers or booleans (which float32 may not hold); else in the one that the device chooses."""
    dtype = getattr(value, "dtype", None)
    if like.dtype.kind != "f":
        return like.device.array(value, like.device.numpys_dtype(value))
    keeps = dtype == like.dtype or getattr(value, "device", None) == like.device
    return like.device.array(value, dtype if keeps else None)


WEAK = ("fi", "fb", "ib", "ui", "iu", "ub", "fu")  # (tensor, number): the number adapts to the tensor


def as_pair(who: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two operands as tensors, where at least one is."""
    if isinstance(a, Tensor):
        return a, as_tensor(b, a, who)
    if isinstance(b, Tensor):
        return as_tensor(a, b, who), b
    raise TypeError(f"{who}: wanted at least one Tensor, got {type(a).__name__} and {type(b).__name__}")


class Comparison(TensorOp):
    """Base of ops whose result is boolean and constant."""

    differentiable = False


class Equal(Comparison):
    """a == b, elementwise."""

    def compute(self, a, b):
        return array_api.equal(a, b)


def eq(a: Any, b: Any) -> Tensor:
    """a == b, elementwise, as booleans. (`==` between tensors asks whether they are the same object.)"""
    return Equal()(*as_pair("eq", a, b))


class NotEqual(Comparison):
    """a != b, elementwise."""

    def compute(self, a, b):
        return array_api.not_equal(a, b)


def ne(a: Any, b: Any) -> Tensor:
    """a != b, elementwise, as booleans."""
    return NotEqual()(*as_pair("ne", a, b))


class Less(Comparison):
    """a < b, elementwise."""

    def compute(self, a, b):
        return array_api.less(a, b)


def lt(a: Any, b: Any) -> Tensor:
    """a < b, elementwise, as booleans."""
    return Less()(*as_pair("lt", a, b))


class LessEqual(Comparison):
    """a <= b, elementwise."""

    def compute(self, a, b):
        return array_api.less_equal(a, b)


def le(a: Any, b: Any) -> Tensor:
    """a <= b, elementwise, as booleans."""
    return LessEqual()(*as_pair("le", a, b))


class Greater(Comparison):
    """a > b, elementwise."""

    def compute(self, a, b):
        return array_api.greater(a, b)


def gt(a: Any, b: Any) -> Tensor:
    """a > b, elementwise, as booleans."""
    return Greater()(*as_pair("gt", a, b))


class GreaterEqual(Comparison):
    """a >= b, elementwise."""

    def compute(self, a, b):
        return array_api.greater_equal(a, b)


def ge(a: Any, b: Any) -> Tensor:
    """a >= b, elementwise, as booleans."""
    return GreaterEqual()(*as_pair("ge", a, b))


class LogicalAnd(Comparison):
    """a and b, elementwise, of truth values."""

    def compute(self, a, b):
        return array_api.logical_and(a, b)


def logical_and(a: Any, b: Any) -> Tensor:
    """Whether both are true (not zero), elementwise."""
    return LogicalAnd()(*as_pair("logical_and", a, b))


class LogicalOr(Comparison):
    """a or b, elementwise, of truth values."""

    def compute(self, a, b):
        return array_api.logical_or(a, b)


def logical_or(a: Any, b: Any) -> Tensor:
    """Whether one or both are true (not zero), elementwise."""
    return LogicalOr()(*as_pair("logical_or", a, b))


class LogicalNot(Comparison):
    """not a, elementwise, of truth values."""

    def compute(self, a):
        return array_api.logical_not(a)


def logical_not(a: Tensor) -> Tensor:
    """Whether it is false (zero), elementwise."""
    return LogicalNot()(a)


class IsNaN(Comparison):
    """Whether a is NaN, elementwise."""

    def compute(self, a):
        return array_api.isnan(a)


def isnan(a: Tensor) -> Tensor:
    """Whether it is NaN, elementwise."""
    return IsNaN()(a)


class IsInf(Comparison):
    """Whether a is plus or minus infinity, elementwise."""

    def compute(self, a):
        return array_api.isinf(a)


def isinf(a: Tensor) -> Tensor:
    """Whether it is plus or minus infinity, elementwise."""
    return IsInf()(a)


class IsFinite(Comparison):
    """Whether a is neither infinite nor NaN, elementwise."""

    def compute(self, a):
        return array_api.isfinite(a)


def isfinite(a: Tensor) -> Tensor:
    """Whether it is neither infinite nor NaN, elementwise."""
    return IsFinite()(a)
