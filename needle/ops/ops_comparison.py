"""Comparisons and tests, elementwise with broadcasting: boolean tensors, through which no gradient flows."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorOp, Value
from ..backend_selection import array_api

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


def as_tensor(value: Any, like: Tensor) -> Tensor:
    """`value` as a tensor beside `like`: a Python or NumPy number takes its dtype, unless it is of a wider kind."""
    if isinstance(value, Value):
        return value  # type: ignore[return-value]
    if isinstance(value, (list, tuple)):
        raise TypeError(f"wanted a Tensor, array or number, got a {type(value).__name__}; wrap it: ndl.Tensor(...)")
    array = like.device.array(value)
    weak = array.ndim == 0 and (like.dtype.kind == array.dtype.kind or like.dtype.kind + array.dtype.kind in WEAK)
    return Tensor.make_const(like.device.cast(array, like.dtype) if weak else array)


WEAK = ("fi", "fb", "ib", "ui", "iu", "ub", "fu")  # (tensor, number): the number adapts to the tensor


def _pair(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    if isinstance(a, Tensor):
        return a, as_tensor(b, a)
    if isinstance(b, Tensor):
        return as_tensor(a, b), b
    raise TypeError(f"wanted at least one Tensor, got {type(a).__name__} and {type(b).__name__}")


class Comparison(TensorOp):
    """Base of ops whose result is boolean and constant."""

    differentiable = False


class Equal(Comparison):
    """a == b, elementwise."""

    def compute(self, a, b):
        return array_api.equal(a, b)


def eq(a: Any, b: Any) -> Tensor:
    """a == b, elementwise, as booleans. (`==` between tensors asks whether they are the same object.)"""
    return Equal()(*_pair(a, b))


class NotEqual(Comparison):
    """a != b, elementwise."""

    def compute(self, a, b):
        return array_api.not_equal(a, b)


def ne(a: Any, b: Any) -> Tensor:
    """a != b, elementwise, as booleans."""
    return NotEqual()(*_pair(a, b))


class Less(Comparison):
    """a < b, elementwise."""

    def compute(self, a, b):
        return array_api.less(a, b)


def lt(a: Any, b: Any) -> Tensor:
    """a < b, elementwise, as booleans."""
    return Less()(*_pair(a, b))


class LessEqual(Comparison):
    """a <= b, elementwise."""

    def compute(self, a, b):
        return array_api.less_equal(a, b)


def le(a: Any, b: Any) -> Tensor:
    """a <= b, elementwise, as booleans."""
    return LessEqual()(*_pair(a, b))


class Greater(Comparison):
    """a > b, elementwise."""

    def compute(self, a, b):
        return array_api.greater(a, b)


def gt(a: Any, b: Any) -> Tensor:
    """a > b, elementwise, as booleans."""
    return Greater()(*_pair(a, b))


class GreaterEqual(Comparison):
    """a >= b, elementwise."""

    def compute(self, a, b):
        return array_api.greater_equal(a, b)


def ge(a: Any, b: Any) -> Tensor:
    """a >= b, elementwise, as booleans."""
    return GreaterEqual()(*_pair(a, b))


class LogicalAnd(Comparison):
    """a and b, elementwise, of truth values."""

    def compute(self, a, b):
        return array_api.logical_and(a, b)


def logical_and(a: Any, b: Any) -> Tensor:
    """Whether both are true (not zero), elementwise."""
    return LogicalAnd()(*_pair(a, b))


class LogicalOr(Comparison):
    """a or b, elementwise, of truth values."""

    def compute(self, a, b):
        return array_api.logical_or(a, b)


def logical_or(a: Any, b: Any) -> Tensor:
    """Whether one or both are true (not zero), elementwise."""
    return LogicalOr()(*_pair(a, b))


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
