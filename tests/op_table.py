"""The test table: one row for each op and each public function made of ops.

A row says how to call it, what NumPy or SciPy gives, at which inputs to try it, which gradient is promised at its
kinks (docs/gradients.md shows the same promises), and what it is called in PyTorch and JAX. `check_row` holds a row
to all that NumPy alone can tell. A new op needs one new row here and nothing else.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.special
from op_check import Case, Fixed, Kink, Row, case, check_row

import needle as ndl
from needle import backend_ndarray
from needle.functional import Alias, Checkpoint, CustomGradient
from needle.ops import ops_elementwise, ops_logarithmic, ops_mathematic, ops_reduction

__all__ = ["ROWS", "check_row", "functions_of_needle", "ops_of_needle"]


class Oracle:
    """A module that is imported when first used, so that rows may name it where it is not installed."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


torch, F = Oracle("torch"), Oracle("torch.nn.functional")
jax, jnp, jsp = Oracle("jax"), Oracle("jax.numpy"), Oracle("jax.scipy.special")


ROWS: list[Row] = []


def row(name: str, op: type | None, call: Callable, reference: Callable, *cases: Case, **more: Any) -> None:
    more["samplers"] = more.get("samplers", (normal,))
    ROWS.append(Row(name, op, call, reference, cases, **more))


# --- samplers: (generator, shape) -> float64 array -------------------------------------------------------------


def normal(rng, shape):
    return rng.uniform(-2, 2, shape)


def positive(rng, shape):
    return rng.uniform(0.4, 2.5, shape)


def nonzero(rng, shape):
    return rng.uniform(0.3, 2, shape) * rng.choice([-1, 1], shape)


def even(rng, shape):
    """Multiples of 0.4 (with `odd`: never a tie)."""
    return rng.integers(-4, 5, shape) * 0.4


def odd(rng, shape):
    return rng.integers(-4, 5, shape) * 0.4 + 0.2


def distinct(rng, shape):
    """No two elements, nor any sizes of two, closer than 0.1."""
    n = math.prod(shape)
    return ((rng.permutation(n) - n // 2) * 0.3 + 0.1).reshape(shape)


def steps(rng, shape):
    """Few different values, so that many are equal."""
    return rng.integers(-1, 2, shape).astype(float)


# --- what needs a row ------------------------------------------------------------------------------------------


def ops_of_needle() -> set[type]:
    """Every op class in needle that computes something."""

    def below(kind: type) -> Iterator[type]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return {op for op in below(ndl.Op) if op.__module__.startswith("needle.") and op.compute is not ndl.Op.compute}


def functions_of_needle() -> set[str]:
    """Every function that the files of ops export."""
    return {name for name in ndl.ops.__all__ if not isinstance(getattr(ndl, name), type)}


# --- the rows --------------------------------------------------------------------------------------------------

BOTH_WAYS = (
    case((3, 4), (3, 4)),
    case((3, 3), (3, 3)),
    case((3, 4), (4,)),
    case((4,), (3, 4)),
    case((3, 1), (1, 4)),
    case((2, 1, 3), (4, 1)),
    case((), (2, 3)),
    case((2, 3), ()),
    case((), ()),
    case((1,), (1, 1)),
    case((0, 3), (1, 3)),
    case((2, 1), (2, 0)),
)
SHAPES = (case((3, 4)), case((3, 3)), case(()), case((1,)), case((2, 1, 3)), case((0, 2)))
BOOLS = np.array([[True, False, True], [False, False, True]])
ODD_FLOATS = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5])
INTS = np.array([[3, 0, -2], [1, 5, 4]])

# --- arithmetic ---

row("add", ops_mathematic.EWiseAdd, ndl.add, np.add, *BOTH_WAYS,
    torch=lambda a, b: a + b, jax=lambda a, b: a + b)  # fmt: skip
row("multiply", ops_mathematic.EWiseMul, ndl.multiply, np.multiply, *BOTH_WAYS,
    torch=lambda a, b: a * b, jax=lambda a, b: a * b)  # fmt: skip
row("divide", ops_mathematic.EWiseDiv, ndl.divide, np.divide, *BOTH_WAYS,
    samplers=(normal, nonzero), torch=lambda a, b: a / b, jax=lambda a, b: a / b)  # fmt: skip

NUMBERS = tuple(case((3, 3), scalar=s) for s in (2.5, -3, 0, np.array([1.5]), np.float64(-0.5), np.int64(2), True))
row("add_scalar", ops_mathematic.AddScalar, ndl.add_scalar, lambda a, scalar: a + float(np.ravel(scalar)[0]),
    *NUMBERS, case((), scalar=0.5), case((0,), scalar=1.0))  # fmt: skip
row("mul_scalar", ops_mathematic.MulScalar, ndl.mul_scalar, lambda a, scalar: a * float(np.ravel(scalar)[0]),
    *NUMBERS, case((), scalar=0.5), case((0,), scalar=1.0))  # fmt: skip
row("divide_scalar", ops_mathematic.DivScalar, ndl.divide_scalar, lambda a, scalar: a / float(np.ravel(scalar)[0]),
    *[one for one in NUMBERS if one.options["scalar"]], case((), scalar=0.5), case((0,), scalar=1.0))  # fmt: skip
row(
    "power_scalar", ops_mathematic.PowerScalar, ndl.power_scalar, lambda a, scalar: a ** float(np.ravel(scalar)[0]),
    *[case((3, 3), scalar=s) for s in (0, 1, 2, 3, -1, 0.5, -1.5, 2.5, 0.0, np.array([3.0]), np.int64(2))],
    case((), scalar=3), case((0,), scalar=2),
    samplers=(positive,),
    kinks=(
        Kink("a = 0, scalar = 0", "0", ([0.0],), ([0.0],), lambda a: ndl.power_scalar(a, 0)),
        Kink("a = 0, scalar = 1", "1", ([0.0],), ([1.0],), lambda a: ndl.power_scalar(a, 1)),
        Kink("a = 0, 0 < scalar < 1", "+∞", ([0.0],), ([np.inf],), lambda a: ndl.power_scalar(a, 0.5)),
    ),
    torch=lambda a, scalar: a ** float(np.ravel(scalar)[0]), jax=lambda a, scalar: a ** float(np.ravel(scalar)[0]),
)  # fmt: skip
row(
    "power", ops_mathematic.EWisePow, ndl.power, np.power,
    *BOTH_WAYS, case((2, 3), np.array([[0, 1, 2], [3, -1, -2]])), case((2, 3), np.array(2)),
    samplers=(positive, normal),
    kinks=(
        Kink("a = 0, b = 0", "0 for a, 0 for b", ([0.0], [0.0]), ([0.0], [0.0])),
        Kink("a = 0, b = 1", "1 for a, 0 for b", ([0.0], [1.0]), ([1.0], [0.0])),
        Kink("a = 0, b = 2", "0 for a, 0 for b", ([0.0], [2.0]), ([0.0], [0.0])),
        Kink("a = 0, 0 < b < 1", "+∞ for a, 0 for b", ([0.0], [0.5]), ([np.inf], [0.0])),
        Kink("a < 0", "NaN for b", ([-2.0], [3.0]), ([12.0], [np.nan])),
    ),
    torch=lambda a, b: a**b, jax=lambda a, b: a**b,
)  # fmt: skip
row("PowerBaseSlope", ops_mathematic.PowerBaseSlope, lambda a, b: ops_mathematic.PowerBaseSlope()(a, b),
    lambda a, b: b * a ** (b - 1.0), *BOTH_WAYS, case((2, 3), np.array([[0, 1, 2], [3, -1, -2]])),
    samplers=(positive, nonzero))  # fmt: skip
row("LogOrZero", ops_mathematic.LogOrZero, lambda a: ops_mathematic.LogOrZero()(a), np.log, *SHAPES,
    samplers=(positive,))  # fmt: skip
row("negate", ops_mathematic.Negate, ndl.negate, np.negative, *SHAPES, torch=lambda a: -a, jax=lambda a: -a)
row(
    "astype", ops_mathematic.AsType, ndl.astype, lambda a, dtype: a.astype(dtype),
    case((3, 3), dtype="float32"), case((3, 3), dtype="float64"), case((), dtype=np.float32),
    case(np.array([1.7, -0.3]), dtype="int64"), case(INTS, dtype=float), case(INTS, dtype=bool),
    rule_band=1e-2,  # differences of numbers rounded to float32
)  # fmt: skip

# --- elementwise ---


def smooth(name: str, op: type | None, call: Callable, reference: Callable, *cases: Case, **more: Any) -> None:
    """A row of a function of one tensor, tried at the usual shapes."""
    row(name, op, call, reference, *(cases or SHAPES), **more)


smooth("exp", ops_mathematic.Exp, ndl.exp, np.exp, torch=lambda a: a.exp(), jax=lambda a: jnp.exp(a))
smooth("log", ops_mathematic.Log, ndl.log, np.log, samplers=(positive,),
       kinks=(Kink("a = 0", "+∞", ([0.0],), ([np.inf],)),),
       torch=lambda a: a.log(), jax=lambda a: jnp.log(a))  # fmt: skip
smooth("log1p", ops_elementwise.Log1p, ndl.log1p, np.log1p, samplers=(positive,),
       torch=lambda a: a.log1p(), jax=lambda a: jnp.log1p(a))  # fmt: skip
smooth("expm1", ops_elementwise.Expm1, ndl.expm1, np.expm1, torch=lambda a: a.expm1(), jax=lambda a: jnp.expm1(a))
smooth("sqrt", ops_elementwise.Sqrt, ndl.sqrt, np.sqrt, samplers=(positive,),
       kinks=(Kink("a = 0", "+∞", ([0.0],), ([np.inf],)),),
       torch=lambda a: a.sqrt(), jax=lambda a: jnp.sqrt(a))  # fmt: skip
smooth("rsqrt", ops_elementwise.Rsqrt, ndl.rsqrt, lambda a: 1 / np.sqrt(a), samplers=(positive,),
       kinks=(Kink("a = 0", "−∞", ([0.0],), ([-np.inf],)),),
       torch=lambda a: a.rsqrt(), jax=lambda a: jax.lax.rsqrt(a))  # fmt: skip
smooth("sin", ops_elementwise.Sin, ndl.sin, np.sin, torch=lambda a: a.sin(), jax=lambda a: jnp.sin(a))
smooth("cos", ops_elementwise.Cos, ndl.cos, np.cos, torch=lambda a: a.cos(), jax=lambda a: jnp.cos(a))
smooth("tanh", ops_mathematic.Tanh, ndl.tanh, np.tanh, torch=lambda a: a.tanh(), jax=lambda a: jnp.tanh(a))
smooth("sigmoid", ops_elementwise.Sigmoid, ndl.sigmoid, scipy.special.expit,
       torch=lambda a: a.sigmoid(), jax=lambda a: jax.nn.sigmoid(a))  # fmt: skip
smooth("softplus", ops_elementwise.Softplus, ndl.softplus, lambda a: np.logaddexp(a, np.zeros_like(a)),
       torch=lambda a: F.softplus(a, threshold=800), jax=lambda a: jax.nn.softplus(a))  # fmt: skip
smooth("silu", None, ndl.silu, lambda a: a * scipy.special.expit(a),
       torch=lambda a: F.silu(a), jax=lambda a: jax.nn.silu(a))  # fmt: skip
smooth("erf", ops_elementwise.Erf, ndl.erf, scipy.special.erf, *SHAPES, case(np.linspace(-7, 7, 57)),
       torch=lambda a: a.erf(), jax=lambda a: jsp.erf(a))  # fmt: skip


def gelu(a, approximate="none"):
    if approximate == "tanh":
        return a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) / 2
    return a * scipy.special.ndtr(a)


row("gelu", None, ndl.gelu, gelu, *SHAPES, case((3, 4), approximate="tanh"), case((), approximate="tanh"),
    torch=lambda a, approximate="none": F.gelu(a, approximate=approximate),
    jax=lambda a, approximate="none": jax.nn.gelu(a, approximate=approximate == "tanh"))  # fmt: skip
smooth("relu", ops_mathematic.ReLU, ndl.relu, lambda a: np.maximum(a, 0), samplers=(nonzero,),
       kinks=(Kink("a = 0", "0", ([0.0, -0.0],), ([0.0, 0.0],)),),
       torch=lambda a: a.relu(), jax=lambda a: jax.nn.relu(a))  # fmt: skip
row("StepMask", ops_mathematic.StepMask, lambda g, y: ops_mathematic.StepMask()(g, y), lambda g, y: g * (y > 0),
    case((3, 3), Fixed((3, 3))), case((2, 3), Fixed((2, 3))), case((), Fixed(())),
    case((0, 2), Fixed((0, 2))))  # fmt: skip
row("leaky_relu", None, ndl.leaky_relu, lambda a, negative_slope=0.01: np.where(a > 0, a, a * negative_slope),
    *SHAPES, case((3, 4), negative_slope=0.3), samplers=(nonzero,),
    kinks=(Kink("a = 0", "negative_slope", ([0.0],), ([0.01],)),),
    torch=lambda a, negative_slope=0.01: F.leaky_relu(a, negative_slope),
    jax=lambda a, negative_slope=0.01: jax.nn.leaky_relu(a, negative_slope))  # fmt: skip
smooth("abs", ops_elementwise.Abs, ndl.abs, np.abs, samplers=(nonzero,),
       kinks=(Kink("a = 0", "0", ([0.0, -0.0],), ([0.0, 0.0],)),),
       torch=lambda a: a.abs(), jax=lambda a: jnp.abs(a))  # fmt: skip
smooth("sign", ops_elementwise.Sign, ndl.sign, np.sign, samplers=(nonzero,),
       kinks=(Kink("anywhere", "0", ([-1.0, 0.0, 2.0],), ([0.0, 0.0, 0.0],)),),
       torch=lambda a: a.sign(), jax=lambda a: jnp.sign(a))  # fmt: skip
row(
    "clip", ops_elementwise.Clip, ndl.clip, lambda a, low, high: np.clip(a, low, high),
    *[case((5, 5), low=low, high=high) for low, high in ((-0.8, 0.8), (None, 0.8), (-0.8, None))],
    case((), low=-0.8, high=0.8), case((0,), low=-0.8, high=0.8), case((5,), low=0.4, high=0.4),
    samplers=(odd,),
    kinks=(Kink("a = a limit", "1", ([-1.0, 1.0, 2.0],), ([1.0, 1.0, 0.0],), lambda a: ndl.clip(a, -1, 1)),),
    torch=lambda a, low, high: a.clamp(low, high), jax=lambda a, low, high: jnp.clip(a, low, high),
)  # fmt: skip
row("maximum", ops_elementwise.Maximum, ndl.maximum, np.maximum, *BOTH_WAYS, samplers=(even, odd),
    kinks=(Kink("a = b", "½ each", ([1.0, 2.0], [1.0, 0.0]), ([0.5, 1.0], [0.5, 0.0])),),
    torch=lambda a, b: torch.maximum(a, b), jax=lambda a, b: jnp.maximum(a, b))  # fmt: skip
row("minimum", ops_elementwise.Minimum, ndl.minimum, np.minimum, *BOTH_WAYS, samplers=(even, odd),
    kinks=(Kink("a = b", "½ each", ([1.0, 2.0], [1.0, 0.0]), ([0.5, 0.0], [0.5, 1.0])),),
    torch=lambda a, b: torch.minimum(a, b), jax=lambda a, b: jnp.minimum(a, b))  # fmt: skip
row(
    "where", ops_elementwise.Where, ndl.where, np.where,
    case(BOOLS, (2, 3), (2, 3)), case(BOOLS[:, 1:], (2, 2), (2, 2)), case(BOOLS, (), (3,)),
    case(BOOLS, (2, 1), ()), case(BOOLS[:, :1], (3,), (2, 3)),
    case(np.array(True), (2,), (2,)), case(np.zeros((0, 3), bool), (3,), ()), case(BOOLS, (4, 1, 1), (3,)),
    kinks=(
        Kink("the branch not taken has an infinite slope", "NaN (0·∞)", ([0.0],), ([np.nan],),
             lambda x: ndl.where(x > 0, ndl.sqrt(x), 0), "where(x > 0, sqrt(x), 0)"),
        Kink("its argument is chosen first", "0", ([0.0],), ([0.0],),
             lambda x: ndl.where(x > 0, ndl.sqrt(ndl.where(x > 0, x, 1)), 0),
             "where(x > 0, sqrt(where(x > 0, x, 1)), 0)"),
    ),
    torch=lambda c, a, b: torch.where(c, a, b), jax=lambda c, a, b: jnp.where(c, a, b),
)  # fmt: skip

# --- comparisons ---

PAIRS = (*BOTH_WAYS, case(INTS, INTS.T.reshape(2, 3)), case(ODD_FLOATS, ODD_FLOATS[::-1].copy()))
for name, op, reference in [
    ("eq", ndl.ops.Equal, np.equal), ("ne", ndl.ops.NotEqual, np.not_equal),
    ("lt", ndl.ops.Less, np.less), ("le", ndl.ops.LessEqual, np.less_equal),
    ("gt", ndl.ops.Greater, np.greater), ("ge", ndl.ops.GreaterEqual, np.greater_equal),
    ("logical_and", ndl.ops.LogicalAnd, np.logical_and), ("logical_or", ndl.ops.LogicalOr, np.logical_or),
]:  # fmt: skip
    row(name, op, getattr(ndl, name), reference, *PAIRS, samplers=(steps,), smooth=False,
        torch=lambda a, b, name=name: getattr(torch, name)(a, b))  # fmt: skip
for name, op, reference in [
    ("logical_not", ndl.ops.LogicalNot, np.logical_not), ("isnan", ndl.ops.IsNaN, np.isnan),
    ("isinf", ndl.ops.IsInf, np.isinf), ("isfinite", ndl.ops.IsFinite, np.isfinite),
]:  # fmt: skip
    row(name, op, getattr(ndl, name), reference, *SHAPES, case(ODD_FLOATS), case(INTS), samplers=(steps,),
        smooth=False, torch=lambda a, name=name: getattr(torch, name)(a))  # fmt: skip

# --- reductions ---

REDUCTIONS = (
    case((3, 4)),
    case((3, 3)),
    case((3, 3), axes=0),
    case((3, 4), axes=0),
    case((3, 4), axes=1, keepdims=True),
    case((2, 3, 4), axes=(0, 2)),
    case((2, 3, 4), axes=(-1, 0), keepdims=True),
    case((2, 3, 4), axes=-2),
    case((2, 3), axes=()),
    case((2, 3), keepdims=True),
    case(()),
    case((1, 3), axes=0),
    case((0, 3), axes=1),
)
EMPTY_AXIS = (case((0, 3), axes=0), case((0,)))


def in_numpy(function: Callable, **fixed: Any) -> Callable:
    """NumPy's reduction under needle's names of options."""

    def reference(a, axes=None, keepdims=False, **options):
        axes = tuple(axes) if isinstance(axes, list) else axes
        return function(a, axis=axes, keepdims=keepdims, **fixed, **options)

    return reference


def in_torch(name: str, **fixed: Any) -> Callable:
    """PyTorch's reduction; all axes are written out, since some of its functions take no None."""

    def call(a, axes=None, keepdims=False, **options):
        axes = tuple(range(a.ndim)) if axes is None else axes
        if axes == ():  # in PyTorch no axes means all
            return call(a[None], 0, False, **options)
        return getattr(torch, name)(a, axes, keepdim=keepdims, **fixed, **options)

    return call


def in_jax(name: str) -> Callable:
    return lambda a, axes=None, keepdims=False, **options: getattr(jnp, name)(
        a, axis=axes, keepdims=keepdims, **options
    )


row("summation", ops_mathematic.Summation, ndl.summation, in_numpy(np.sum), *REDUCTIONS, *EMPTY_AXIS,
    case((2, 3), axes=[0]), torch=in_torch("sum"), jax=in_jax("sum"))  # fmt: skip
row("mean", None, ndl.mean, in_numpy(np.mean), *REDUCTIONS, torch=in_torch("mean"), jax=in_jax("mean"))
row("var", None, ndl.var, in_numpy(np.var), *REDUCTIONS, case((3, 4), axes=0, ddof=1), case((5,), ddof=2),
    torch=lambda a, axes=None, keepdims=False, ddof=0: in_torch("var", correction=ddof)(a, axes, keepdims),
    jax=in_jax("var"))  # fmt: skip
SPREAD = tuple(one for one in REDUCTIONS if one.inputs[0] not in ((), (1, 3)) and one.options.get("axes") != ())
row("std", None, ndl.std, in_numpy(np.std), *SPREAD, case((3, 4), axes=0, ddof=1),
    kinks=(Kink("all elements equal", "0", ([2.0, 2.0, 2.0],), ([0.0, 0.0, 0.0],)),),
    torch=lambda a, axes=None, keepdims=False, ddof=0: in_torch("std", correction=ddof)(a, axes, keepdims),
    jax=in_jax("std"))  # fmt: skip


def norm(a, axes=None, keepdims=False, ord=2):
    size = np.abs(a)
    reduce = {2: lambda **o: np.sqrt(np.sum(size * size, **o)), 1: lambda **o: np.sum(size, **o)}
    return reduce.get(ord, lambda **o: np.max(size, **o))(axis=axes, keepdims=keepdims)


row("norm", ops_reduction.Norm, ndl.norm, norm, *REDUCTIONS,
    *[case((3, 4), axes=axes, ord=ord) for ord in (1, math.inf) for axes in (None, 0, (0, 1))],
    samplers=(distinct,),
    kinks=(
        Kink("all elements 0", "0", ([0.0, 0.0],), ([0.0, 0.0],)),
        Kink("all elements 0, ord=1", "0", ([0.0, 0.0],), ([0.0, 0.0],), lambda a: ndl.norm(a, ord=1)),
        Kink("several of the largest size, ord=inf", "equal shares", ([3.0, -3.0, 1.0],), ([0.5, -0.5, 0.0],),
             lambda a: ndl.norm(a, ord=math.inf)),
    ),
    torch=lambda a, axes=None, keepdims=False, ord=2: torch.linalg.vector_norm(
        a[None] if axes == () else a, ord, 0 if axes == () else axes, keepdim=keepdims and axes != ()),
    jax=lambda a, axes=None, keepdims=False, ord=2: {
        2: lambda **o: jnp.sqrt(jnp.sum(a * a, **o)), 1: lambda **o: jnp.sum(jnp.abs(a), **o)
    }.get(ord, lambda **o: jnp.max(jnp.abs(a), **o))(axis=axes, keepdims=keepdims),
)  # fmt: skip
TIES = ([2.0, 1.0, 2.0],)
row("max", ops_reduction.Max, ndl.max, in_numpy(np.max), *REDUCTIONS, samplers=(distinct,),
    kinks=(Kink("several largest", "equal shares", TIES, ([0.5, 0.0, 0.5],)),),
    torch=in_torch("amax"), jax=in_jax("max"))  # fmt: skip
row("min", ops_reduction.Min, ndl.min, in_numpy(np.min), *REDUCTIONS, samplers=(distinct,),
    kinks=(Kink("several smallest", "equal shares", ([1.0, 2.0, 1.0],), ([0.5, 0.0, 0.5],)),),
    torch=in_torch("amin"), jax=in_jax("min"))  # fmt: skip
row("prod", None, ndl.prod, in_numpy(np.prod), *REDUCTIONS, *EMPTY_AXIS, case((7,)), case((2, 5), axes=1),
    samplers=(nonzero,),
    kinks=(
        Kink("one factor 0", "the product of the others", ([0.0, 2.0, 3.0],), ([6.0, 0.0, 0.0],)),
        Kink("two factors 0", "0", ([0.0, 0.0, 3.0],), ([0.0, 0.0, 0.0],)),
    ),
    jax=in_jax("prod"))  # fmt: skip
INDEX_CASES = (
    case((3, 4)), case((3, 4), axis=0), case((3, 4), axis=-1, keepdims=True), case(()), case((0, 3), axis=1),
    case(INTS, axis=1), case((2, 3), keepdims=True),
)  # fmt: skip
for name, op, reference in [("argmax", ndl.ops.ArgMax, np.argmax), ("argmin", ndl.ops.ArgMin, np.argmin)]:
    row(name, op, getattr(ndl, name), reference, *INDEX_CASES, samplers=(distinct,), smooth=False)
row("cumsum", ops_reduction.CumSum, ndl.cumsum, np.cumsum,
    *[case((2, 3, 4), axis=axis) for axis in (0, 1, -1)], case((3, 3), axis=0), case((5,), axis=0),
    case((0, 3), axis=0),
    torch=lambda a, axis: a.cumsum(axis), jax=lambda a, axis: jnp.cumsum(a, axis))  # fmt: skip

# --- exponentials that must not overflow ---

row("logsumexp", ops_logarithmic.LogSumExp, ndl.logsumexp, in_numpy(scipy.special.logsumexp), *REDUCTIONS,
    torch=in_torch("logsumexp"),
    jax=lambda a, axes=None, keepdims=False: jsp.logsumexp(a, axis=axes, keepdims=keepdims))  # fmt: skip
AXIS = (
    case((3, 4)),
    case((3, 3)),
    case((3, 3), axis=0),
    case((2, 3, 4), axis=1),
    case((5,)),
    case((3, 1)),
    case((0, 3)),
)
row("logsoftmax", ops_logarithmic.LogSoftmax, ndl.logsoftmax,
    lambda a, axis=-1: scipy.special.log_softmax(a, axis), *AXIS,
    torch=lambda a, axis=-1: a.log_softmax(axis), jax=lambda a, axis=-1: jax.nn.log_softmax(a, axis))  # fmt: skip
row("softmax", None, ndl.softmax, lambda a, axis=-1: scipy.special.softmax(a, axis), *AXIS,
    torch=lambda a, axis=-1: a.softmax(axis), jax=lambda a, axis=-1: jax.nn.softmax(a, axis))  # fmt: skip


def cross_entropy(z, labels, reduction="mean"):
    labels = labels.astype(int)
    losses = -np.take_along_axis(scipy.special.log_softmax(z, -1), labels[..., None], -1)[..., 0]
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def standard(x, axis, eps):
    mu = x.mean(axis, keepdims=True)
    return (x - mu) / np.sqrt(((x - mu) ** 2).mean(axis, keepdims=True) + eps)


row("batch_normalize", ndl.ops.BatchNormalize, ndl.batch_normalize,
    lambda x, w, b, eps=1e-5: [standard(x, 0, eps) * w + b, x.mean(0), x.var(0)],
    case((4, 3), (3,), (3,)), case((5, 2), (2,), (2,), eps=0.1), case((3, 3), (3,), (3,)), case((2, 1), (1,), (1,)),
    case((4, 0), (0,), (0,)), samplers=(distinct, normal))  # fmt: skip
row("layer_normalize", ndl.ops.LayerNormalize, ndl.layer_normalize,
    lambda x, w, b, eps=1e-5: standard(x, -1, eps) * w + b,
    case((4, 3), (3,), (3,)), case((2, 3, 4), (4,), (4,), eps=0.1), case((3, 3), (3,), (3,)), case((3,), (3,), (3,)),
    case((0, 3), (3,), (3,)), samplers=(distinct, normal),
    torch=lambda x, w, b, eps=1e-5: F.layer_norm(x, w.shape, w, b, eps))  # fmt: skip

LABELS = np.array([2, 0, 1, 2, 2])
row("softmax_cross_entropy", ops_logarithmic.SoftmaxCrossEntropy, ndl.softmax_cross_entropy, cross_entropy,
    *[case((5, 3), LABELS, reduction=r) for r in ("mean", "sum", "none")],
    case((5, 3), LABELS.astype(np.uint8)), case((5, 3), LABELS.astype(np.float32)), case((3,), np.array(1)),
    *[case((2, 5, 3), np.stack([LABELS, LABELS[::-1]]), reduction=r) for r in ("mean", "sum", "none")],
    case((3, 3), LABELS[:3]), case((5, 100), 30 * LABELS), case((1, 1), np.array([0])),
    case((0, 3), LABELS[:0], reduction="sum"),
    case((0, 3), LABELS[:0], reduction="none"),
    torch=lambda z, labels, reduction="mean": F.cross_entropy(
        z.reshape(-1, z.shape[-1]), labels.long().reshape(-1), reduction=reduction
    ).reshape(labels.shape if reduction == "none" else ()),
)  # fmt: skip

# --- shape ---

row("reshape", ops_mathematic.Reshape, ndl.reshape, lambda a, shape: np.reshape(a, shape),
    *[case((2, 6), shape=shape) for shape in ((3, 4), (-1,), (12,), 12, [4, -1], (2, 1, 6))],
    case((2, 2), shape=(4,)), case((), shape=(1, 1)), case((1, 1), shape=()), case((0, 3), shape=(3, 0)),
    torch=lambda a, shape: a.reshape(shape), jax=lambda a, shape: a.reshape(shape))  # fmt: skip


def swapped(a, axes=None):
    return np.swapaxes(a, *(axes or (-2, -1)))


row("transpose", ops_mathematic.Transpose, ndl.transpose, swapped,
    case((3, 4)), case((2, 3, 4)), case((2, 3, 4), axes=(0, 2)), case((2, 3, 4), axes=(-3, 1)), case((0, 2)),
    case((3, 3)), case((2, 2, 2), axes=(1, 0)),
    torch=lambda a, axes=None: a.transpose(*(axes or (-2, -1))),
    jax=lambda a, axes=None: jnp.swapaxes(a, *(axes or (-2, -1))))  # fmt: skip
row("permute", ops_mathematic.Permute, ndl.permute, np.transpose,
    *[case((2, 3, 4), axes=axes) for axes in ((1, 2, 0), (2, 0, 1), (0, -1, 1), [2, 1, 0])], case((), axes=()),
    case((2, 2, 2), axes=(1, 2, 0)),
    torch=lambda a, axes: a.permute(tuple(axes)), jax=lambda a, axes: jnp.transpose(a, axes))  # fmt: skip
row("broadcast_to", ops_mathematic.BroadcastTo, ndl.broadcast_to, np.broadcast_to,
    case((3,), shape=(2, 3)), case((3, 3), shape=(2, 3, 3)), case((3, 1), shape=(3, 4)), case((), shape=(2, 2)),
    case((2, 1, 3), shape=(4, 2, 5, 3)),
    case((2, 3), shape=[2, 3]), case((1,), shape=(0,)), case((1, 1), shape=(1, 1, 1)),
    torch=lambda a, shape: a.broadcast_to(shape), jax=lambda a, shape: jnp.broadcast_to(a, shape))  # fmt: skip
row("expand_dims", None, ndl.expand_dims, np.expand_dims,
    *[case((2, 3), axis=axis) for axis in (0, 1, 2, -1, -3)], case((), axis=0),
    torch=lambda a, axis: a.unsqueeze(axis), jax=lambda a, axis: jnp.expand_dims(a, axis))  # fmt: skip
row("squeeze", None, ndl.squeeze, lambda a, axes=None: np.squeeze(a, axes),
    *[case((1, 3, 1), axes=axes) for axes in (None, 0, -1, (0, 2))], case((2, 3)), case((1, 1)),
    torch=lambda a, axes=None: a.squeeze() if axes is None else a.squeeze(axes),
    jax=lambda a, axes=None: jnp.squeeze(a, axes))  # fmt: skip
row("flip", ops_mathematic.Flip, ndl.flip, lambda a, axes=None: np.flip(a, axes),
    *[case((2, 3, 4), axes=axes) for axes in (None, 0, -1, (0, 2), [1])], case(()), case((3, 3)), case((0, 2), axes=0),
    torch=lambda a, axes=None: a.flip(list(range(a.ndim)) if axes is None else axes),
    jax=lambda a, axes=None: jnp.flip(a, tuple(axes) if isinstance(axes, list) else axes))  # fmt: skip
row("stack", ops_mathematic.Stack, lambda *xs, axis=0: ndl.stack(xs, axis), lambda *xs, axis=0: np.stack(xs, axis),
    *[case((2, 3), (2, 3), (2, 3), axis=axis) for axis in (0, 1, 2, -1)], case((2, 2), (2, 2)), case((), ()),
    case((3,)), case((0,), (0,)),
    torch=lambda *xs, axis=0: torch.stack(xs, axis), jax=lambda *xs, axis=0: jnp.stack(xs, axis))  # fmt: skip


def unstacked(a, axis=0):
    return [np.take(a, i, axis) for i in range(a.shape[axis])]


row("split", ops_mathematic.Split, ndl.split, unstacked,
    *[case((2, 3, 4), axis=axis) for axis in (0, 1, -1)], case((3,)), case((3, 3)), case((1, 2)), case((2, 0), axis=0),
    torch=lambda a, axis=0: torch.unbind(a, axis),
    jax=lambda a, axis=0: [jnp.take(a, i, axis) for i in range(a.shape[axis])])  # fmt: skip
row("concatenate", ndl.ops.Concatenate, lambda *xs, axis=0: ndl.concatenate(xs, axis),
    lambda *xs, axis=0: np.concatenate(xs, axis),
    case((2, 3), (4, 3)), case((2, 3), (2, 1), (2, 2), axis=1), case((2, 3), (2, 1), axis=-1), case((2, 3)),
    case((0, 3), (2, 3)), case((2, 2), (2, 2), axis=1),
    torch=lambda *xs, axis=0: torch.cat(xs, axis), jax=lambda *xs, axis=0: jnp.concatenate(xs, axis))  # fmt: skip
row("pad", ndl.ops.Pad, ndl.pad, lambda a, pad_width, value=0: np.pad(a, pad_width, constant_values=value),
    case((2, 3), pad_width=((1, 2), (0, 1))), case((2, 3), pad_width=[[0, 0], [2, 0]], value=1.5),
    case((3,), pad_width=((0, 0),)), case((0,), pad_width=((1, 1),)),
    case((1, 2, 2), pad_width=((0, 0), (1, 1), (3, 0))),
    torch=lambda a, pad_width, value=0: F.pad(a, [n for pair in reversed(pad_width) for n in pair], value=value),
    jax=lambda a, pad_width, value=0: jnp.pad(a, pad_width, constant_values=value))  # fmt: skip
row("roll", ndl.ops.Roll, ndl.roll, lambda a, shift, axes=None: np.roll(a, shift, axes),
    case((3, 3), shift=1), case((2, 3), shift=-4), case((2, 3), shift=2, axes=1),
    case((2, 3), shift=(1, -1), axes=(0, 1)),
    case((5,), shift=0, axes=0), case((0, 2), shift=1),
    torch=lambda a, shift, axes=None: torch.roll(a, shift, axes),
    jax=lambda a, shift, axes=None: jnp.roll(a, shift, axes))  # fmt: skip
row("repeat", None, ndl.repeat, np.repeat,
    *[case((2, 3), repeats=3, axis=axis) for axis in (0, 1, -1)], case((2,), repeats=0, axis=0),
    case((3,), repeats=1, axis=0), case((0, 2), repeats=2, axis=0),
    torch=lambda a, repeats, axis: a.repeat_interleave(repeats, axis),
    jax=lambda a, repeats, axis: jnp.repeat(a, repeats, axis))  # fmt: skip
row("tile", None, ndl.tile, np.tile,
    *[case((2, 3), reps=reps) for reps in (2, (2, 1), (1, 3), (2, 1, 2), (), (0, 1))], case((), reps=3),
    torch=lambda a, reps: torch.tile(a, (reps,) if isinstance(reps, int) else reps),
    jax=lambda a, reps: jnp.tile(a, reps))  # fmt: skip
for name, reference in [("tril", np.tril), ("triu", np.triu)]:
    row(name, None, getattr(ndl, name), reference,
        *[case((3, 4), k=k) for k in (-1, 0, 1, 9)], case((2, 3, 3)), case((0, 2)),
        torch=lambda a, k=0, name=name: getattr(torch, name)(a, k),
        jax=lambda a, k=0, name=name: getattr(jnp, name)(a, k))  # fmt: skip

# --- indexing ---

INDEXES = [
    1, -1, np.s_[:], np.s_[0:2], np.s_[::-1], np.s_[..., 1], np.s_[1, 2], np.s_[:, None, 1:], np.s_[1:, ::2, -1],
    np.array([2, 0, 2]), [0, 0, 1], np.s_[:, [3, 1, 3]], np.s_[[0, 1], [2, 2]], np.s_[[0], :, [1]], np.int64(1),
    np.array([True, False, True]), np.s_[np.array([0, 2])[:, None], [1, 2]], np.s_[2:1], np.s_[None, 1, ..., None],
    np.zeros(0, dtype=int), np.s_[np.array([[0, 1], [1, 1]])],
]  # fmt: skip
ONE_OF_EACH = np.arange(24).reshape(3, 4, 2) % 5 == 0
row("getitem", ndl.ops.GetItem, ndl.getitem, lambda a, index: a[index],
    *[case((3, 4, 2), index=index) for index in (*INDEXES, ONE_OF_EACH)],
    case((3, 3), index=np.s_[::-1]), case((), index=()), case((), index=...), case((), index=None),
    case((5,), index=slice(None, None, -2)),
    case((3,), index=True), case((0, 3), index=np.s_[:, 1]),
    torch=lambda a, index: a.flatten()[torch.arange(a.numel()).numpy().reshape(a.shape)[index].copy()],
    jax=lambda a, index: a[tuple(map(np_index, index)) if isinstance(index, tuple) else np_index(index)],
)  # fmt: skip


def np_index(part: Any) -> Any:
    """JAX takes no lists as an index."""
    return np.array(part) if isinstance(part, list) else part


row("ScatterAdd", ndl.ops.ScatterAdd, lambda a, index, shape: ndl.ops.ScatterAdd(index, shape)(a),
    lambda a, index, shape: scattered(a, index, shape),
    case((2,), index=np.s_[1:3], shape=(4,)), case((3, 2), index=np.array([2, 0, 2]), shape=(3, 2)),
    case((2, 2), index=np.s_[1:], shape=(3, 2)), case((2,), index=np.s_[:, 1], shape=(2, 3)),
    case((2, 2), index=np.array([[0, 0], [0, 1]]), shape=(2,)))  # fmt: skip


def scattered(a, index, shape):
    out = np.zeros(shape, a.dtype)
    np.add.at(out, index, a)
    return out


row("take", None, ndl.take, lambda a, indices, axis=0: np.take(a, indices, axis),
    *[case((3, 4), indices=i, axis=axis) for i in (1, [0, 2, 2], np.array([[0, 1], [1, 1]])) for axis in (0, -1)],
    case((3, 4), indices=[-1, 0]), case((2, 3, 4), indices=[1, 1], axis=1), case((3,), indices=np.zeros(0, int)),
    jax=lambda a, indices, axis=0: jnp.take(a, np.asarray(indices), axis))  # fmt: skip
row("gather", None, ndl.gather, np.take_along_axis,
    case((3, 4), np.array([[0, 1, 1], [3, 0, 0], [2, 2, -1]]), axis=1),
    case((3, 4), np.array([[0, 1, 2, 2]]), axis=0),
    case((2, 3, 4), np.array([[[3], [0], [1]], [[1], [1], [2]]]), axis=-1),
    case((4,), np.array([3, 3]), axis=0), case((4,), np.zeros(0, int), axis=0),
    jax=lambda a, index, axis: jnp.take_along_axis(a, index, axis))  # fmt: skip
row("one_hot", ndl.ops.OneHot, ndl.one_hot,
    lambda labels, num_classes, dtype="float32": np.eye(num_classes, dtype=dtype)[labels.astype(int)],
    case(LABELS, num_classes=3), case(LABELS.astype(float), num_classes=4, dtype="float64"),
    case(np.array([[1, 0]], np.uint8), num_classes=2, dtype=bool), case(np.array(1), num_classes=2),
    case(np.zeros((0,), int), num_classes=2), smooth=False)  # fmt: skip
row("argsort", ndl.ops.ArgSort, ndl.argsort, lambda a, axis=-1: np.argsort(a, axis, kind="stable"),
    case((3, 4)), case((3, 4), axis=0), case((0,)), case(np.array([1.0, 0.0, 1.0, 0.0])),
    samplers=(distinct,), smooth=False)  # fmt: skip
row("sort", None, ndl.sort, lambda a, axis=-1: np.sort(a, axis),
    case((3, 4)), case((3, 4), axis=0), case((2, 3, 2), axis=1), case((0,)), case((1,)), samplers=(distinct,),
    kinks=(Kink("equal elements", "each its own, in their old order", ([1.0, 1.0, 0.0],), ([2.0, 3.0, 1.0],),
                lambda a: (ndl.sort(a) * np.array([1.0, 2.0, 3.0])).sum()),),
    torch=lambda a, axis=-1: a.sort(axis).values, jax=lambda a, axis=-1: jnp.sort(a, axis))  # fmt: skip


def largest(a, k, axis=-1):
    return np.take(np.flip(np.sort(a, axis), axis), np.arange(k), axis)


row("topk", None, ndl.topk, largest,
    case((3, 4), k=2), case((3, 4), k=3, axis=0), case((5,), k=5), case((5,), k=0), case((2, 3, 2), k=1, axis=1),
    samplers=(distinct,),
    torch=lambda a, k, axis=-1: a.topk(k, axis).values)  # fmt: skip

# --- products ---

MATRICES = (
    case((3, 4), (4, 2)),
    case((4, 4), (4, 4)),
    case((5, 3, 4), (5, 4, 2)),
    case((6, 1, 3, 4), (5, 4, 2)),
    case((2, 3, 4), (4, 2)),
    case((3, 4), (2, 4, 2)),
    case((3, 4), (2, 3, 4, 2)),
    case((1, 3, 4), (2, 4, 2)),
    case((3, 4), (4, 40)),
    case((40, 3), (3, 2)),
    case((3, 0), (0, 2)),
    case((0, 3), (3, 2)),
    case((2, 0, 3), (3, 2)),
    case((2, 3, 0), (0, 2)),
)
VECTORS = (
    case((3,), (3,)),
    case((3,), (3, 2)),
    case((2, 3), (3,)),
    case((3,), (4, 3, 2)),
    case((4, 2, 3), (3,)),
    case((0,), (0,)),
)
row("matmul", ops_mathematic.MatMul, ndl.matmul, np.matmul, *MATRICES, *VECTORS,
    torch=lambda a, b: a @ b, jax=lambda a, b: a @ b)  # fmt: skip


def transposed_product(a, b, transpose_a=False, transpose_b=False):
    return np.matmul(np.swapaxes(a, -1, -2) if transpose_a else a, np.swapaxes(b, -1, -2) if transpose_b else b)


row("MatMul", ops_mathematic.MatMul, lambda a, b, **o: ndl.MatMul(**o)(a, b), transposed_product,
    *[case(a, b, transpose_a=True) for a, b in [((4, 3), (4, 2)), ((40, 3), (40, 50)), ((2, 4, 3), (4, 2)),
                                               ((4, 3), (2, 4, 2)), ((1, 4, 3), (5, 4, 2)), ((0, 3), (0, 2))]],
    *[case(a, b, transpose_b=True) for a, b in [((3, 4), (2, 4)), ((3, 4), (50, 4)), ((5, 3, 4), (2, 4)),
                                               ((3, 4), (5, 2, 4)), ((5, 3, 4), (1, 2, 4)), ((3, 0), (2, 0))]],
)  # fmt: skip
EINSUMS = (
    case((2, 3), (3, 4), s="ij,jk->ik"),
    case((3, 3), (3, 3), s="ij,jk->ik"),
    case((2, 3), (3, 4), s="ij,jk"),
    case((3,), (3,), s="i,i->"),
    case((3,), (2,), s="i,j->ij"),
    case((5, 2, 3), (5, 3, 4), s="bij,bjk->bik"),
    case((5, 2, 3), (3, 4), s="...ij,jk->...ik"),
    case((2, 1, 2, 3), (4, 3, 2), s="...ij,...jk->...ik"),
    case((3, 3), s="ii->i"),
    case((3, 3), s="ii->"),
    case((3, 3), s="ii"),
    case((2, 3), s="ij->ji"),
    case((2, 3), s="ij->"),
    case((2, 3), s="ij->i"),
    case((2, 3, 4), s="...i->..."),
    case((2, 3), (3,), (4, 3), s="ij,j,kj->ik"),
    case((2, 3), (2, 3), s="ij,ij->ij"),
    case((2, 3), (2, 3), s="ij, ij -> j"),
    case((3, 3), (3, 2), s="ii,ij->j"),
    case((2, 1), (2, 3), s="ij,ij->ij"),
    case((2, 3), (4,), s="ij,k->j"),
    case((), (2,), s=",i->i"),
    case((0, 3), (3, 2), s="ij,jk->ik"),
    case((3, 3, 3), s="iij->ij"),
)
row("einsum", ndl.ops.Einsum, lambda *xs, s: ndl.einsum(s, *xs), lambda *xs, s: np.einsum(s, *xs), *EINSUMS,
    torch=lambda *xs, s: torch.einsum(s, *xs), jax=lambda *xs, s: jnp.einsum(s, *xs))  # fmt: skip
row("outer", None, ndl.outer, np.outer, case((3,), (4,)), case((2, 2), (3,)), case((), (2,)), case((0,), (2,)),
    jax=lambda a, b: jnp.outer(a, b))  # fmt: skip
row("tensordot", None, ndl.tensordot, np.tensordot,
    case((2, 3, 4), (3, 4, 5)), case((2, 3), (3, 4), axes=1), case((2,), (3,), axes=0),
    case((2, 3, 4), (4, 5, 2), axes=((0, 2), (2, 0))), case((2, 3), (4, 3), axes=(1, 1)), case((2, 3), (2, 3)),
    case((2, 3), (4, 3), axes=([-1], [-1])), case((2, 0), (0, 3), axes=1),
    torch=lambda a, b, axes=2: torch.tensordot(
        a, b, axes if isinstance(axes, int) else [np.ravel(x).tolist() for x in axes]
    ),
    jax=lambda a, b, axes=2: jnp.tensordot(a, b, axes))  # fmt: skip

# --- devices ---


def there_and_back(a):
    return ndl.to_device(ndl.to_device(a, backend_ndarray.cpu_numpy()), a.device)


row("to_device", ndl.ops.ToDevice, there_and_back, lambda a: a + 0, *SHAPES)

# --- tuples ---

row("make_tuple", ndl.ops.MakeTensorTuple,
    lambda *xs: [ndl.TupleGetItem(i)(ndl.make_tuple(*xs)) for i in range(len(xs))], lambda *xs: xs,
    case((2, 3), (4,)), case((2, 2), (2, 2)), case(()))  # fmt: skip
row("tuple_get_item", ndl.ops.TupleGetItem,
    lambda a, axis, index: ndl.tuple_get_item(ndl.split(a, axis), index),
    lambda a, axis, index: unstacked(a, axis)[index],
    case((3, 2), axis=0, index=1), case((2, 3, 3), axis=0, index=1), case((3, 2), axis=1, index=-1),
    case((3, 2), axis=0, index=0))  # fmt: skip
row("fused_add_scalars", ndl.ops.FusedAddScalars, ndl.fused_add_scalars, lambda x, c0, c1: (x + c0, x + c1),
    case((3, 3), c0=1.5, c1=-2), case((), c0=0, c1=0.5))  # fmt: skip

# --- ops of the functional transforms ---


def cubed(x):
    return x.detach() ** 3, lambda g: g * (x * x) * 3


row("Alias", Alias, lambda a: Alias()(a), lambda a: a + 0, *SHAPES)
row("custom_gradient", CustomGradient, ndl.custom_gradient(cubed), lambda a: a**3, *SHAPES)
row("checkpoint", Checkpoint, lambda a, b: ndl.checkpoint(lambda x, y: ndl.tanh(x @ y) * 2, a, b),
    lambda a, b: np.tanh(a @ b) * 2, case((2, 3), (3, 4)), case((3, 3), (3, 3)))  # fmt: skip
