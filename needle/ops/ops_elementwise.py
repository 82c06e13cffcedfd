"""Elementwise functions beyond arithmetic. Slopes at kinks: see docs/gradients.md."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, TensorOp
from ..backend_selection import array_api
from .ops_comparison import as_pair, as_tensor, eq, ge, gt, le, logical_and
from .ops_mathematic import exp, tanh
from .ops_support import as_floats, as_number, reduce_to

__all__ = [
    "Abs",
    "Clip",
    "Cos",
    "Erf",
    "Expm1",
    "Log1p",
    "Maximum",
    "Minimum",
    "Rsqrt",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Sqrt",
    "Where",
    "abs",
    "clip",
    "cos",
    "erf",
    "expm1",
    "gelu",
    "leaky_relu",
    "log1p",
    "maximum",
    "minimum",
    "rsqrt",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softplus",
    "sqrt",
    "where",
]


class Sqrt(TensorOp):
    """√a.   d/da = 1/(2√a), +∞ at 0."""

    def compute(self, a):
        return array_api.sqrt(a)

    def gradient(self, out_grad, node):
        return out_grad * 0.5 / node


def sqrt(a: Tensor) -> Tensor:
    """Square root; NaN below 0."""
    return Sqrt()(a)


class Rsqrt(TensorOp):
    """1/√a.   d/da = −1/(2a√a).   An Op for speed: one division instead of two."""

    def compute(self, a):
        return 1 / array_api.sqrt(a)

    def gradient(self, out_grad, node):
        return out_grad * (node * node * node) * -0.5


def rsqrt(a: Tensor) -> Tensor:
    """1 / √a."""
    return Rsqrt()(a)


class Log1p(TensorOp):
    """ln(1 + a).   An Op for stability: 1 + a rounds small a away."""

    def compute(self, a):
        return array_api.log1p(a)

    def gradient(self, out_grad, node):
        return out_grad / (node.inputs[0] + 1)


def log1p(a: Tensor) -> Tensor:
    """ln(1 + a), exact for small a."""
    return Log1p()(a)


class Expm1(TensorOp):
    """e^a − 1.   An Op for stability: the difference cancels for small a."""

    def compute(self, a):
        return array_api.expm1(a)

    def gradient(self, out_grad, node):
        return out_grad * (node + 1)


def expm1(a: Tensor) -> Tensor:
    """e^a − 1, exact for small a."""
    return Expm1()(a)


class Sin(TensorOp):
    """sin a.   d/da = cos a."""

    def compute(self, a):
        return array_api.sin(a)

    def gradient(self, out_grad, node):
        return out_grad * cos(node.inputs[0])


def sin(a: Tensor) -> Tensor:
    """Sine of radians."""
    return Sin()(a)


class Cos(TensorOp):
    """cos a.   d/da = −sin a."""

    def compute(self, a):
        return array_api.cos(a)

    def gradient(self, out_grad, node):
        return -(out_grad * sin(node.inputs[0]))


def cos(a: Tensor) -> Tensor:
    """Cosine of radians."""
    return Cos()(a)


class Sign(TensorOp):
    """−1, 0 or 1.   Its slope is 0 everywhere."""

    def compute(self, a):
        return array_api.sign(a)

    def gradient(self, out_grad, node):
        return node.inputs[0].filled(0)


def sign(a: Tensor) -> Tensor:
    """−1, 0 or 1; its slope is 0 everywhere."""
    return Sign()(a)


class Abs(TensorOp):
    """|a|.   d/da = sign a, 0 at 0."""

    def compute(self, a):
        return array_api.abs(a)

    def gradient(self, out_grad, node):
        return out_grad * sign(node.inputs[0])


def abs(a: Tensor) -> Tensor:
    """Absolute value; its slope at 0 is 0."""
    return Abs()(a)


class Sigmoid(TensorOp):
    """1/(1 + e^−a).   d/da = y(1 − y).   An Op for stability: e^−a overflows for a < −88 in float32."""

    def compute(self, a):
        small = array_api.exp(-array_api.abs(as_floats(a)))
        return array_api.where(array_api.greater_equal(a, 0), 1, small) / (1 + small)

    def gradient(self, out_grad, node):
        return out_grad * (node * (1 - node))


def sigmoid(a: Tensor) -> Tensor:
    """1/(1 + e^−a)."""
    return Sigmoid()(a)


class Softplus(TensorOp):
    """ln(1 + e^a).   d/da = sigmoid a.   An Op for stability: e^a overflows for a > 88 in float32."""

    def compute(self, a):
        return array_api.maximum(a, 0) + array_api.log1p(array_api.exp(-array_api.abs(as_floats(a))))

    def gradient(self, out_grad, node):
        return out_grad * sigmoid(node.inputs[0])


def softplus(a: Tensor) -> Tensor:
    """ln(1 + e^a), a smooth relu."""
    return Softplus()(a)


def silu(a: Tensor) -> Tensor:
    """a · sigmoid(a) (arXiv:1702.03118)."""
    return a * sigmoid(a)


def leaky_relu(a: Tensor, negative_slope: float = 0.01) -> Tensor:
    """a where positive, else negative_slope · a (that slope also at 0)."""
    return where(gt(a, 0), a, a * negative_slope)


def gelu(a: Tensor, approximate: str = "none") -> Tensor:
    """a · Φ(a) with the normal distribution function Φ (arXiv:1606.08415); approximate "none" or "tanh"."""
    if approximate == "none":
        return a * ((erf(a * math.sqrt(0.5)) + 1) * 0.5)
    if approximate == "tanh":
        return a * ((tanh((a + a * a * a * 0.044715) * math.sqrt(2 / math.pi)) + 1) * 0.5)
    raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


class Erf(TensorOp):
    """2/√π · ∫₀ᵃ e^(−t²) dt.   An Op: it has no closed form.

    Rational approximations of S. Moshier's Cephes library (after W. J. Cody, 1969), good to 2e-16.
    """

    def compute(self, a):
        if a.dtype == "float16":  # the polynomials pass its largest number
            return self.compute(a.astype("float32")).astype("float16")
        x = array_api.minimum(array_api.abs(as_floats(a)), 27)  # beyond 6 it is 1
        square = x * x
        near = x * _ratio(square, _ERF_P, _ERF_Q)
        tail = array_api.minimum(x, 6)
        far = 1 - array_api.exp(-square) * _ratio(tail, _ERFC_P, _ERFC_Q)
        return array_api.copysign(array_api.where(array_api.less(x, 1), near, far), a)

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        return out_grad * (exp(-(a * a)) * (2 / math.sqrt(math.pi)))


_ERF_P = (9.60497373987051638749, 9.00260197203842689217e1, 2.23200534594684319226e3, 7.00332514112805075473e3,
          5.55923013010394962768e4)  # fmt: skip
_ERF_Q = (1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3,
          2.26290000613890934246e4, 4.92673942608635921086e4)  # fmt: skip
_ERFC_P = (2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687, 4.86371970985681366614e1,
           1.96520832956077098242e2, 5.26445194995477358631e2, 9.34528527171957607540e2, 1.02755188689515710272e3,
           5.57535335369399327526e2)  # fmt: skip
_ERFC_Q = (1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
           9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3, 1.65666309194161350182e3,
           5.57535340817727675546e2)  # fmt: skip


def _ratio(x: Any, p: tuple[float, ...], q: tuple[float, ...]) -> Any:
    """p(x)/q(x) by Horner's rule, highest power first."""
    top, bottom = x * 0 + p[0], x * 0 + q[0]
    for coefficient in p[1:]:
        top = top * x + coefficient
    for coefficient in q[1:]:
        bottom = bottom * x + coefficient
    return top / bottom


def erf(a: Tensor) -> Tensor:
    """The error function 2/√π · ∫₀ᵃ e^(−t²) dt."""
    return Erf()(a)


class Clip(TensorOp):
    """a limited to [low, high] (None: no limit).   Slope 1 inside and on the limits, 0 outside."""

    def __init__(self, low: Any = None, high: Any = None):
        self.low = None if low is None else as_number(low, "Clip")
        self.high = None if high is None else as_number(high, "Clip")
        if any(limit is not None and math.isnan(limit) for limit in (self.low, self.high)):
            raise ValueError(f"Clip: a limit is NaN, got low {low} and high {high}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"Clip: low {low} is above high {high}")

    def compute(self, a):
        a = a if self.low is None else array_api.maximum(a, self.low)
        return a if self.high is None else array_api.minimum(a, self.high)

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return out_grad * logical_and(ge(a, low), le(a, high))


def clip(a: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """a limited to [low, high]; None: no limit on that side."""
    return Clip(low, high)(a)


class Maximum(TensorOp):
    """The larger of a and b.   Where they tie, each gets half of the gradient."""

    def compute(self, a, b):
        return array_api.maximum(a, b)

    def gradient(self, out_grad, node):
        a, b = node.inputs
        tie = out_grad * eq(a, b) * 0.5
        return reduce_to(out_grad * gt(a, b) + tie, a), reduce_to(out_grad * gt(b, a) + tie, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise, with broadcasting; NaN wins."""
    return Maximum()(*as_pair("maximum", a, b))


class Minimum(TensorOp):
    """The smaller of a and b.   Where they tie, each gets half of the gradient."""

    def compute(self, a, b):
        return array_api.minimum(a, b)

    def gradient(self, out_grad, node):
        a, b = node.inputs
        tie = out_grad * eq(a, b) * 0.5
        return reduce_to(out_grad * gt(b, a) + tie, a), reduce_to(out_grad * gt(a, b) + tie, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise, with broadcasting; NaN wins."""
    return Minimum()(*as_pair("minimum", a, b))


class Where(TensorOp):
    """a where condition, else b.   Each side gets the gradient of the places where it was chosen."""

    def compute(self, condition, a, b):
        return array_api.where(condition, a, b)

    def gradient(self, out_grad, node):
        condition, a, b = node.inputs
        return (
            None,
            reduce_to(where(condition, out_grad, 0), a) if a.requires_grad else None,
            reduce_to(where(condition, 0, out_grad), b) if b.requires_grad else None,
        )


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where condition is true, else b, elementwise, with broadcasting.

    The branch that was not chosen is still computed: where its own slope is infinite, its gradient is 0·∞ = NaN.
    Choose the argument first: `where(x > 0, log(where(x > 0, x, 1)), 0)`.
    """
    like = next((x for x in (a, b, condition) if isinstance(x, Tensor)), None)
    if like is None:
        raise TypeError(f"where: wanted at least one Tensor, got {type(a).__name__} and {type(b).__name__}")
    return Where()(*[as_tensor(x, like, "where") for x in (condition, a, b)])
