"""Reductions over axes. `axes` is None (all), an int or several; NumPy's spelling `axis` is understood too."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, TensorOp
from ..backend_selection import array_api
from .ops_comparison import eq
from .ops_elementwise import abs
from .ops_mathematic import astype, flip, permute, reshape, summation
from .ops_support import as_axes, as_floats, expand, kept_shape

__all__ = [
    "ArgMax",
    "ArgMin",
    "CumSum",
    "Max",
    "Min",
    "Norm",
    "argmax",
    "argmin",
    "cumsum",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "var",
]


def chosen(axes: Any, axis: Any) -> Any:
    """The axes meant by the two spellings."""
    if axes is not None and axis is not None:
        raise TypeError("give axes or axis, not both: they are two spellings of one thing")
    return axis if axes is None else axes


def count(shape: tuple[int, ...], axes: Any, who: str) -> int:
    """How many elements a reduction over `axes` folds into one."""
    return math.prod(shape[i] for i in as_axes(axes, len(shape), who))


def mean(a: Tensor, axes: Any = None, keepdims: bool = False, *, axis: Any = None) -> Tensor:
    """Arithmetic mean over `axes`; of nothing: NaN."""
    axes = chosen(axes, axis)
    n = count(a.shape, axes, "mean")
    return astype(summation(_roomy(a), axes, keepdims) / (n if n else math.nan), _mean_dtype(a))


def _roomy(a: Tensor) -> Tensor:
    """float16 as float32, as NumPy does for means: sums pass float16's largest number, 65504."""
    return astype(a, "float32") if a.dtype == "float16" else a


def _mean_dtype(a: Tensor) -> Any:
    return a.dtype if a.dtype.kind == "f" else "float64"


def var(a: Tensor, axes: Any = None, keepdims: bool = False, *, ddof: int = 0, axis: Any = None) -> Tensor:
    """Variance over `axes`: Σ (a − mean)² / (n − ddof), in two passes. ddof=1 is the unbiased estimate."""
    axes = chosen(axes, axis)
    degrees, wide = _degrees(a, axes, ddof, "var"), _roomy(a)
    deviation = wide - mean(wide, axes, keepdims=True)
    return astype(summation(deviation * deviation, axes, keepdims) / degrees, _mean_dtype(a))


def std(a: Tensor, axes: Any = None, keepdims: bool = False, *, ddof: int = 0, axis: Any = None) -> Tensor:
    """Standard deviation, the root of `var`; where it is 0 its gradient is 0."""
    axes = chosen(axes, axis)
    degrees, wide = _degrees(a, axes, ddof, "std"), _roomy(a)
    deviation = wide - mean(wide, axes, keepdims=True)
    return astype(norm(deviation, axes, keepdims) / math.sqrt(degrees), _mean_dtype(a))


def _degrees(a: Tensor, axes: Any, ddof: int, name: str) -> int:
    n = count(a.shape, axes, name)
    if n - ddof <= 0:
        raise ValueError(f"{name}: {n} element(s) a group and ddof={ddof} leave nothing to divide by")
    return n - ddof


class _Extremum(TensorOp):
    """Largest or smallest over `axes`.   Elements that tie share the gradient equally."""

    def __init__(self, axes: Any = None, keepdims: bool = False):
        self.axes = tuple(axes) if isinstance(axes, list) else axes
        self.keepdims = keepdims

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        winners = astype(eq(a, expand(node, a.shape, self.axes)), out_grad.dtype)
        ties = summation(winners, self.axes, keepdims=True)
        return expand(out_grad, a.shape, self.axes) * (winners / ties)


class Max(_Extremum):
    """Largest over `axes`.   Elements that tie share the gradient equally. An Op: it chooses."""

    def compute(self, a):
        return a.max(axis=self.axes, keepdims=self.keepdims)


def max(a: Tensor, axes: Any = None, keepdims: bool = False, *, axis: Any = None) -> Tensor:
    """Largest element over `axes`; NaN wins. Raises ValueError over an empty axis."""
    return Max(chosen(axes, axis), keepdims)(a)


class Min(_Extremum):
    """Smallest over `axes`.   Elements that tie share the gradient equally. An Op: it chooses."""

    def compute(self, a):
        return a.min(axis=self.axes, keepdims=self.keepdims)


def min(a: Tensor, axes: Any = None, keepdims: bool = False, *, axis: Any = None) -> Tensor:
    """Smallest element over `axes`; NaN wins. Raises ValueError over an empty axis."""
    return Min(chosen(axes, axis), keepdims)(a)


class ArgMax(TensorOp):
    """Index of the first largest element. Constant: an index has no slope."""

    differentiable = False

    def __init__(self, axis: int | None = None, keepdims: bool = False):
        self.axis, self.keepdims = axis, keepdims

    def compute(self, a):
        return array_api.argmax(a, axis=self.axis, keepdims=self.keepdims)


def argmax(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element along `axis` (None: of the flattened array)."""
    return ArgMax(axis, keepdims)(a)


class ArgMin(TensorOp):
    """Index of the first smallest element. Constant: an index has no slope."""

    differentiable = False

    def __init__(self, axis: int | None = None, keepdims: bool = False):
        self.axis, self.keepdims = axis, keepdims

    def compute(self, a):
        return array_api.argmin(a, axis=self.axis, keepdims=self.keepdims)


def argmin(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element along `axis` (None: of the flattened array)."""
    return ArgMin(axis, keepdims)(a)


def prod(a: Tensor, axes: Any = None, keepdims: bool = False, *, axis: Any = None) -> Tensor:
    """Product over `axes`, halving again and again: right to any order of derivative, zeros included."""
    axes = chosen(axes, axis)
    gone = as_axes(axes, len(a.shape), "prod")
    kept = tuple(i for i in range(len(a.shape)) if i not in gone)
    n = count(a.shape, axes, "prod")
    if a.dtype.kind != "f":  # small integers grow, as in NumPy
        a = astype(a, array_api.prod(a.device.empty((0,), a.dtype)).dtype)
    rest = reshape(permute(a, kept + gone), (*[a.shape[i] for i in kept], n))
    odd = [] if n else [summation(rest, -1) + 1]
    while n > 1:
        if n % 2:
            odd.append(rest[..., n - 1])
        n //= 2
        rest = rest[..., :n] * rest[..., n : 2 * n]
    flat = math.prod(odd, start=rest[..., 0]) if n else odd[0]
    return reshape(flat, kept_shape(a.shape, axes)) if keepdims else flat


class CumSum(TensorOp):
    """Running sum along `axis`.   The gradient is the running sum from the other end."""

    def __init__(self, axis: int):
        self.axis = axis

    def compute(self, a):
        if self.axis is None or not a.ndim:
            raise ValueError(f"wants one axis to run along, got axis={self.axis} for {a.ndim} dimensions")
        return array_api.cumsum(a, axis=self.axis)

    def gradient(self, out_grad, node):
        return flip(cumsum(flip(out_grad, self.axis), self.axis), self.axis)


def cumsum(a: Tensor, axis: int) -> Tensor:
    """Running sum along `axis`."""
    return CumSum(axis)(a)


class Norm(TensorOp):
    """√Σ a² over `axes`.   d/da = a/y, 0 where y = 0. An Op: composed, the slope at 0 is 0·∞."""

    def __init__(self, axes: Any = None, keepdims: bool = False):
        self.axes = tuple(axes) if isinstance(axes, list) else axes
        self.keepdims = keepdims

    def compute(self, a):
        a = as_floats(a)
        return array_api.sqrt((a * a).sum(axis=self.axes, keepdims=self.keepdims))

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        return a * expand(out_grad / (node + eq(node, 0)), a.shape, self.axes)


def norm(a: Tensor, axes: Any = None, keepdims: bool = False, *, ord: float = 2, axis: Any = None) -> Tensor:
    """Vector norm over `axes`: ord 2 (Euclid), 1 (sum of sizes) or inf (largest size). Its slope at 0 is 0."""
    axes = chosen(axes, axis)
    if ord == 2:
        return Norm(axes, keepdims)(a)
    if ord == 1:
        return summation(abs(a), axes, keepdims)
    if ord == math.inf:
        return max(abs(a), axes, keepdims)
    raise ValueError(f"norm: ord must be 1, 2 or inf, got {ord!r}")
