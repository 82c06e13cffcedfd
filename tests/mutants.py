"""Broken derivative rules: the usual mistakes, each a small change to one op of needle.

`gradcheck` must catch every one, name the op and guess the cause (tests/test_gradcheck.py); the test table must
catch every one too (tests/mutation_score.py). A mutant is data: add one by adding an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import needle as ndl
from needle import ops
from needle.ops.ops_mathematic import LogOrZero, PowerBaseSlope
from needle.ops.ops_support import expand, reduce_to


@dataclass(frozen=True)
class Mutant:
    """`op` with its `rule` replaced. `call(*inputs)` runs it; `guess` is part of the likely cause to be named.

    order: at which it shows. argument: the one whose gradient is wrong, None where that is not the point.
    at_kink: wrong only where no numeric derivative exists, so that promises at kinks must catch it.
    """

    name: str
    op: type
    rule: Callable
    call: Callable
    inputs: tuple
    guess: str | None = None
    argument: int | None = 0
    order: int = 1
    at_kink: bool = False


MUTANTS: list[Mutant] = []


def mutant(name: str, op: type, rule: Callable, call: Callable, *inputs: Any, **more: Any) -> None:
    MUTANTS.append(Mutant(f"{op.__name__}: {name}", op, rule, call, inputs, **more))


@contextmanager
def broken(one: Mutant) -> Iterator[None]:
    """Within it the op has the wrong rule."""
    own = vars(one.op).get("gradient")
    one.op.gradient = one.rule  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if own is None:
            del one.op.gradient  # type: ignore[attr-defined]  # the base class has the rule
        else:
            one.op.gradient = own  # type: ignore[attr-defined]


# --- inputs ----------------------------------------------------------------------------------------------------


def real(*shape: int) -> np.ndarray:
    """Numbers of either sign, none near 0, all different."""
    rng = np.random.default_rng(shape + (1,))
    return rng.uniform(0.3, 1.8, shape) * rng.choice([-1.0, 1.0], shape)


def positive(*shape: int) -> np.ndarray:
    return np.abs(real(*shape)) + 0.2


def inputs_of(node: Any) -> Any:
    return node.inputs[0] if len(node.inputs) == 1 else node.inputs


SIGN, ZERO, FACTOR, UNSUMMED = "the sign", "zero", "constant factor", "not summed over a broadcast axis"
IGNORES, TRANSPOSED, SWAPPED = "ignores out_grad", "transposed", "swapped arguments"
PASSED, DETACHED, PLACES = "returns out_grad as it is", "detached", "the right numbers in the wrong places"
MEAN_FOR_SUM, SUM_FOR_MEAN, POWER = "mean for sum", "sum for mean", "x**n for x**(n-1)"

# --- arithmetic ------------------------------------------------------------------------------------------------

A, B, ROW, COLUMN = real(4, 3), real(1, 4, 3)[0], real(3), real(4, 1)


def add(a, b):
    return a + b


mutant("sign of the right operand", ops.EWiseAdd, lambda s, g, n: (g, -g), add, A, B, guess=SIGN, argument=1)
mutant("nothing for the right operand", ops.EWiseAdd, lambda s, g, n: (g, None), add, A, B, guess=ZERO, argument=1)
mutant("zeros for the left operand", ops.EWiseAdd, lambda s, g, n: (g * 0, g), add, A, B, guess=ZERO)
mutant("not summed", ops.EWiseAdd, lambda s, g, n: (g, g), add, A, ROW, guess=UNSUMMED, argument=1)
mutant("stretched axis not summed", ops.EWiseAdd, lambda s, g, n: (g, g), add, A, COLUMN, guess=UNSUMMED, argument=1)
mutant("new axis not summed, left", ops.EWiseAdd, lambda s, g, n: (g, g), add, ROW, A, guess=UNSUMMED)
mutant("one row for the sum", ops.EWiseAdd, lambda s, g, n: (g, g[0]), add, A, ROW, guess=UNSUMMED, argument=1)
mutant(
    "mean over the broadcast axis", ops.EWiseAdd,
    lambda s, g, n: (g, reduce_to(g, n.inputs[1]) / (n.size / n.inputs[1].size)),
    add, A, ROW, guess=MEAN_FOR_SUM, argument=1,
)  # fmt: skip
mutant("one gradient for two arguments", ops.EWiseAdd, lambda s, g, n: g, add, A, B, argument=None)
mutant("times the scalar", ops.AddScalar, lambda s, g, n: g * s.scalar, lambda a: a + 3.0, A, guess=FACTOR)
mutant("zero", ops.AddScalar, lambda s, g, n: n.inputs[0].filled(0), lambda a: a + 3.0, A, guess=ZERO)


def multiply(a, b):
    return a * b


def mul_rule(left: Callable, right: Callable) -> Callable:
    """A rule for two operands from one for each, which take (g, a, b, y) and are reduced over broadcast axes."""

    def rule(self, g, node):
        a, b = node.inputs
        return reduce_to(left(g, a, b, node), a), reduce_to(right(g, a, b, node), b)

    return rule


OWN_A, OWN_B = (lambda g, a, b, y: g * b), (lambda g, a, b, y: g * a)
mutant("operands swapped", ops.EWiseMul, mul_rule(OWN_B, OWN_A), multiply, A, B, guess=SWAPPED)
mutant("ignores out_grad", ops.EWiseMul, lambda s, g, n: (n.inputs[1], n.inputs[0]), multiply, A, B, guess=IGNORES)
mutant("other operand forgotten", ops.EWiseMul, mul_rule(lambda g, a, b, y: g, OWN_B), multiply, A, B,
       guess="missing factor: argument 1")  # fmt: skip
mutant("not summed", ops.EWiseMul, lambda s, g, n: (g * n.inputs[1], g * n.inputs[0]), multiply, A, ROW,
       guess=UNSUMMED, argument=1)  # fmt: skip
mutant("factor 2", ops.EWiseMul, mul_rule(lambda g, a, b, y: 2 * g * b, OWN_B), multiply, A, B, guess="factor 2")
mutant("wrong and broadcast", ops.EWiseMul, mul_rule(OWN_A, lambda g, a, b, y: g), multiply, A, ROW,
       guess="missing factor: argument 0", argument=1)  # fmt: skip
mutant("the output for the operand", ops.EWiseMul, mul_rule(lambda g, a, b, y: g * y, OWN_B), multiply, A, B,
       guess="extra factor: its own input")  # fmt: skip
mutant("detached operand", ops.EWiseMul, mul_rule(lambda g, a, b, y: g * b.detach(), OWN_B), multiply, A, B,
       guess=DETACHED, order=2, argument=None)  # fmt: skip
mutant("scalar forgotten", ops.MulScalar, lambda s, g, n: g, lambda a: a * 3.0, A, guess="not multiplied by")
mutant("divides", ops.MulScalar, lambda s, g, n: g / s.scalar, lambda a: a * 3.0, A, guess=FACTOR)
mutant("sign", ops.MulScalar, lambda s, g, n: g * -s.scalar, lambda a: a * 3.0, A, guess=SIGN)
mutant("ones", ops.MulScalar, lambda s, g, n: n.inputs[0].filled(s.scalar), lambda a: a * 3.0, A, guess=IGNORES)


def power(a, b):
    return a**b


P, Q = positive(4, 3), real(4, 3)
BASE, EXPONENT = (lambda g, a, b, y: g * b * y / a), (lambda g, a, b, y: g * y * ndl.log(a))
mutant("a**b for a**(b-1)", ops.EWisePow, mul_rule(lambda g, a, b, y: g * b * y, EXPONENT), power, P, Q, guess=POWER)
mutant("exponent forgotten", ops.EWisePow, mul_rule(lambda g, a, b, y: g * y / a, EXPONENT), power, P, Q,
       guess="missing factor: argument 1")  # fmt: skip
mutant("logarithm forgotten", ops.EWisePow, mul_rule(BASE, lambda g, a, b, y: g * y), power, P, Q, argument=1)
mutant("nothing for the exponent", ops.EWisePow, lambda s, g, n: (BASE(g, *n.inputs, n), None), power, P, Q,
       guess=ZERO, argument=1)  # fmt: skip
mutant("logarithm to base 10", ops.EWisePow, mul_rule(BASE, lambda g, a, b, y: g * y * ndl.log(a) / np.log(10)),
       power, P, Q, guess=FACTOR, argument=1)  # fmt: skip


def cube(a):
    return a**3


def scalar_power(c: Callable, p: Callable) -> Callable:
    return lambda s, g, n: g * ops.power_scalar(n.inputs[0], p(s.scalar)) * c(s.scalar)


mutant("x**n for x**(n-1)", ops.PowerScalar, scalar_power(lambda n: n, lambda n: n), cube, A, guess=POWER)
mutant("factor n forgotten", ops.PowerScalar, scalar_power(lambda n: 1, lambda n: n - 1), cube, A,
       guess="not multiplied by")  # fmt: skip
mutant("power forgotten", ops.PowerScalar, lambda s, g, n: g * s.scalar, cube, A,
       guess="off by the factor (its own input)**-2")  # fmt: skip
mutant("factor n-1", ops.PowerScalar, scalar_power(lambda n: n - 1, lambda n: n - 1), cube, A, guess="factor 2/3")
mutant("x**(n-2)", ops.PowerScalar, scalar_power(lambda n: n, lambda n: n - 2), cube, A,
       guess="missing factor: its own input")  # fmt: skip
mutant("ignores out_grad", ops.PowerScalar, lambda s, g, n: s.scalar * n.inputs[0] ** (s.scalar - 1), cube, A,
       guess=IGNORES)  # fmt: skip
mutant("detached", ops.PowerScalar, lambda s, g, n: g * (s.scalar * n.inputs[0].detach() ** (s.scalar - 1)), cube, A,
       guess=DETACHED, order=2)  # fmt: skip


def divide(a, b):
    return a / b


ABOVE, BELOW = (lambda g, a, b, y: g / b), (lambda g, a, b, y: -g * y / b)
mutant("sign of the divisor", ops.EWiseDiv, mul_rule(ABOVE, lambda g, a, b, y: g * y / b), divide, A, P,
       guess=SIGN, argument=1)  # fmt: skip
mutant("divisor once", ops.EWiseDiv, mul_rule(ABOVE, lambda g, a, b, y: -g * y), divide, A, P,
       guess="extra factor: its own input", argument=1)  # fmt: skip
mutant("times the divisor", ops.EWiseDiv, mul_rule(lambda g, a, b, y: g * b, BELOW), divide, A, P,
       guess="off by the factor (argument 1)**2")  # fmt: skip
mutant("dividend forgotten", ops.EWiseDiv, mul_rule(ABOVE, lambda g, a, b, y: -g / (b * b)), divide, A, P,
       guess="missing factor: argument 0", argument=1)  # fmt: skip
mutant("ignores out_grad", ops.EWiseDiv, lambda s, g, n: (1 / n.inputs[1], -n / n.inputs[1]), divide, A, P,
       guess=IGNORES)  # fmt: skip
mutant("not summed", ops.EWiseDiv, lambda s, g, n: (g / n.inputs[1], -g * n / n.inputs[1]), divide, A, positive(3),
       guess=UNSUMMED, argument=1)  # fmt: skip
mutant("detached divisor", ops.EWiseDiv, mul_rule(lambda g, a, b, y: g / b.detach(), BELOW), divide, A, P,
       guess=DETACHED, order=2, argument=None)  # fmt: skip
mutant("multiplies", ops.DivScalar, lambda s, g, n: g * s.scalar, lambda a: a / 3.0, A, guess="instead of divided")
mutant("scalar forgotten", ops.DivScalar, lambda s, g, n: g, lambda a: a / 3.0, A, guess="not divided by")
mutant("minus forgotten", ops.Negate, lambda s, g, n: g, lambda a: -a, A, guess=SIGN)

# --- elementwise -----------------------------------------------------------------------------------------------


def slope(of: Callable) -> Callable:
    """A rule g · of(x, y)."""
    return lambda s, g, n: g * of(n.inputs[0], n)


mutant("times x", ops.Log, slope(lambda x, y: x), ndl.log, P, guess="off by the factor (its own input)**2")
mutant("ignores out_grad", ops.Log, lambda s, g, n: 1 / n.inputs[0], ndl.log, P, guess=IGNORES)
mutant("divides by the output", ops.Log, lambda s, g, n: g / n, ndl.log, P + 1)
mutant("base 2", ops.Log, lambda s, g, n: g / n.inputs[0] / np.log(2), ndl.log, P, guess=FACTOR)
mutant("detached", ops.Log, lambda s, g, n: g / n.inputs[0].detach(), ndl.log, P, guess=DETACHED, order=2)
mutant("NumPy inside", ops.Log, lambda s, g, n: ndl.Tensor(g.numpy() / n.inputs[0].numpy()), ndl.log, P,
       guess=DETACHED, order=2, argument=None)  # fmt: skip
mutant("its input for its output", ops.Exp, slope(lambda x, y: x), ndl.exp, A)
mutant("slope forgotten", ops.Exp, lambda s, g, n: g, ndl.exp, A, guess="missing factor: its output")
mutant("0.1 % too large", ops.Exp, slope(lambda x, y: y * 1.001), ndl.exp, A, guess=FACTOR)
mutant("detached", ops.Exp, slope(lambda x, y: y.detach()), ndl.exp, A, guess=DETACHED, order=2)
mutant("mask forgotten", ops.ReLU, lambda s, g, n: g, ndl.relu, A, guess=PASSED)
mutant("mask inverted", ops.ReLU, slope(lambda x, y: x < 0), ndl.relu, A, guess="inverted")
mutant("value for mask", ops.ReLU, slope(lambda x, y: y), ndl.relu, A, guess="extra factor: its own input")
mutant("sign for mask", ops.ReLU, slope(lambda x, y: ndl.sign(x)), ndl.relu, A, guess="where its own input is negative")
mutant("ignores out_grad", ops.ReLU, lambda s, g, n: (n > 0).astype(g.dtype), ndl.relu, A, guess=IGNORES)
mutant("slope 1 at 0", ops.ReLU, slope(lambda x, y: x >= 0), ndl.relu, A, at_kink=True)
mutant("mask forgotten", ops.StepMask, lambda s, g, n: (g, None), ndl.relu, A, guess=PASSED, order=2)
mutant("square forgotten", ops.Tanh, slope(lambda x, y: 1 - y), ndl.tanh, A)
mutant("1 + y²", ops.Tanh, slope(lambda x, y: 1 + y * y), ndl.tanh, A, guess="1 + u for 1 − u")
mutant("y² − 1", ops.Tanh, slope(lambda x, y: y * y - 1), ndl.tanh, A, guess=SIGN)
mutant("x for y", ops.Tanh, slope(lambda x, y: 1 - x * x), ndl.tanh, A)
mutant("detached", ops.Tanh, lambda s, g, n: g * (1 - n * n).detach(), ndl.tanh, A, guess=DETACHED, order=2)
mutant("1/2 forgotten", ops.Sqrt, slope(lambda x, y: 1 / y), ndl.sqrt, P, guess="factor 2")
mutant("times the root", ops.Sqrt, slope(lambda x, y: y * 0.5), ndl.sqrt, P, guess=POWER)
mutant("sign", ops.Rsqrt, slope(lambda x, y: y * y * y * 0.5), ndl.rsqrt, P, guess=SIGN)
mutant("y² for y³", ops.Rsqrt, slope(lambda x, y: y * y * -0.5), ndl.rsqrt, P, guess="off by the factor")
mutant("1 forgotten", ops.Log1p, slope(lambda x, y: 1 / x), ndl.log1p, P)
mutant("1 forgotten", ops.Expm1, slope(lambda x, y: y), ndl.expm1, P, guess="a term is missing")
mutant("sign", ops.Sin, slope(lambda x, y: -ndl.cos(x)), ndl.sin, A, guess=SIGN)
mutant("its own value", ops.Sin, slope(lambda x, y: y), ndl.sin, A)
mutant("minus forgotten", ops.Cos, slope(lambda x, y: ndl.sin(x)), ndl.cos, A, guess=SIGN)
mutant("straight through", ops.Sign, lambda s, g, n: g, ndl.sign, A, guess=PASSED)
mutant("sign forgotten", ops.Abs, lambda s, g, n: g, ndl.abs, A, guess="the sign of its own input is missing")
mutant("slope 1 at 0", ops.Abs, lambda s, g, n: ndl.where(n.inputs[0] >= 0, g, -g), ndl.abs, A, at_kink=True)
mutant("1 + y", ops.Sigmoid, slope(lambda x, y: y * (1 + y)), ndl.sigmoid, A)
mutant("sign", ops.Sigmoid, slope(lambda x, y: y * (y - 1)), ndl.sigmoid, A, guess=SIGN)
mutant("x for y", ops.Sigmoid, slope(lambda x, y: x * (1 - x)), ndl.sigmoid, A)
mutant("1 − y forgotten", ops.Sigmoid, slope(lambda x, y: y), ndl.sigmoid, A)
mutant("slope forgotten", ops.Softplus, lambda s, g, n: g, ndl.softplus, A, guess=PASSED)
mutant("tanh for sigmoid", ops.Softplus, slope(lambda x, y: ndl.tanh(x)), ndl.softplus, A)
mutant("2/√π forgotten", ops.Erf, slope(lambda x, y: ndl.exp(-(x * x))), ndl.erf, A, guess=FACTOR)
mutant("sign in the exponent", ops.Erf, slope(lambda x, y: ndl.exp(x * x) * 2 / np.sqrt(np.pi)), ndl.erf, A)


def clip(a):
    return ndl.clip(a, -1.0, 1.0)


mutant("limits forgotten", ops.Clip, lambda s, g, n: g, clip, A, guess=PASSED)
mutant("outside for inside", ops.Clip, slope(lambda x, y: ndl.abs(x) > 1), clip, A, guess="inverted")
mutant("slope 0 on the limits", ops.Clip, slope(lambda x, y: (x > -1) & (x < 1)), clip, A, at_kink=True)


LARGER = (lambda g, a, b, y: g * (a > b)), (lambda g, a, b, y: g * (b > a))
mutant("the smaller one", ops.Maximum, mul_rule(*LARGER[::-1]), ndl.maximum, A, B, guess=SWAPPED)
mutant("both get all", ops.Maximum, lambda s, g, n: (g, g), ndl.maximum, A, B, guess=PASSED)
mutant("ties to the left", ops.Maximum, mul_rule(lambda g, a, b, y: g * (a >= b), LARGER[1]), ndl.maximum, A, B,
       at_kink=True)  # fmt: skip
mutant("the larger one", ops.Minimum, mul_rule(*LARGER), ndl.minimum, A, B, guess=SWAPPED)
mutant("ties to nobody", ops.Minimum, mul_rule(*LARGER[::-1]), ndl.minimum, A, B, at_kink=True)


def where(a, b):
    return ndl.where(A > 0, a, b)


mutant("condition forgotten", ops.Where, lambda s, g, n: (None, g, g), where, A, B, guess=PASSED, argument=1)
mutant("sides swapped", ops.Where,
       lambda s, g, n: (None, ndl.where(n.inputs[0], 0, g), ndl.where(n.inputs[0], g, 0)), where, A, B,
       guess=SWAPPED, argument=1)  # fmt: skip
mutant("not summed", ops.Where,
       lambda s, g, n: (None, ndl.where(n.inputs[0], g, 0), ndl.where(n.inputs[0], 0, g)), where, A, ROW,
       guess=UNSUMMED, argument=2)  # fmt: skip
mutant("not cast back", ops.AsType, lambda s, g, n: g, lambda a: a.astype("float32").astype("float64") * 1.0, A,
       guess="dtype")  # fmt: skip

# --- shape -----------------------------------------------------------------------------------------------------

SQUARE, CUBE, BOX = real(3, 3), real(3, 3, 3), real(2, 3, 4)


def transpose(a):
    return ndl.transpose(a)


mutant("not transposed back", ops.Transpose, lambda s, g, n: g, transpose, A, guess=TRANSPOSED)
mutant("not transposed back, square", ops.Transpose, lambda s, g, n: g, transpose, SQUARE, guess=TRANSPOSED)
mutant("always the last two axes", ops.Transpose, lambda s, g, n: g.transpose(), lambda a: a.transpose((0, 1)), CUBE,
       guess=TRANSPOSED)  # fmt: skip


def permute(a):
    return ndl.permute(a, (1, 2, 0))


mutant("forward again", ops.Permute, lambda s, g, n: ndl.permute(g, s.axes), permute, BOX, guess=TRANSPOSED)
mutant("forward again, cube", ops.Permute, lambda s, g, n: ndl.permute(g, s.axes), permute, CUBE, guess=TRANSPOSED)
mutant("not reshaped back", ops.Reshape, lambda s, g, n: g, lambda a: a.reshape(12), A, guess="not reshaped")
mutant("columns first", ops.Reshape, lambda s, g, n: g.reshape(3, 4).T, lambda a: a.reshape(12), A, guess=PLACES)


def spread(a):
    return ndl.broadcast_to(a, (4, 3))


mutant("not summed", ops.BroadcastTo, lambda s, g, n: g, spread, ROW, guess=UNSUMMED)
mutant("mean", ops.BroadcastTo, lambda s, g, n: reduce_to(g, n.inputs[0]) / 4, spread, ROW, guess=MEAN_FOR_SUM)
mutant("first only", ops.BroadcastTo, lambda s, g, n: g[0], spread, ROW, guess=UNSUMMED)
mutant("not flipped back", ops.Flip, lambda s, g, n: g, lambda a: ndl.flip(a, 0), A, guess="reversed along axis 0")
mutant("all axes flipped", ops.Flip, lambda s, g, n: ndl.flip(g), lambda a: ndl.flip(a, 0), A,
       guess="reversed along axis 1")  # fmt: skip


def stack(a, b):
    return ndl.stack([a, b], axis=0)


mutant("parts swapped", ops.Stack, lambda s, g, n: ndl.split(ndl.flip(g, 0), 0), stack, A, B, guess=SWAPPED)
mutant("another axis", ops.Stack, lambda s, g, n: ndl.split(g, 1), lambda a, b: ndl.stack([a, b], 0), real(2), real(2),
       argument=None)  # fmt: skip


def split_twice(a):
    first, second, third = ndl.split(a, 1)
    return first * second + third


mutant("another axis", ops.Split, lambda s, g, n: ndl.stack(g, 0), split_twice, A, guess=TRANSPOSED)
mutant("another axis, square", ops.Split, lambda s, g, n: ndl.stack(g, 0), split_twice, SQUARE)
mutant("all parts get it", ops.TupleGetItem, lambda s, g, n: ndl.make_tuple(*[g] * len(n.inputs[0])), split_twice, A,
       argument=None)  # fmt: skip


def fused(a):
    first, second = ndl.fused_add_scalars(a, 1.0, 2.0)
    return first * second


mutant("first only", ops.FusedAddScalars, lambda s, g, n: g.tuple()[0], fused, A)


def join(a, b):
    return ndl.concatenate([a, b], axis=0)


def join_reversed(self, g, node):
    first, second = (array.shape[0] for array in node.inputs[0].cached_data)
    return ndl.make_tuple(g[second:], g[:second])


mutant("parts in the wrong order", ops.Concatenate, join_reversed, join, A, B, guess=SWAPPED)
mutant("border not cut off", ops.Pad, lambda s, g, n: g, lambda a: ndl.pad(a, ((1, 1), (0, 2))), A)
mutant("cut at the wrong end", ops.Pad, lambda s, g, n: g[: n.inputs[0].shape[0], : n.inputs[0].shape[1]],
       lambda a: ndl.pad(a, ((1, 0), (2, 0))), A)  # fmt: skip
mutant("rolled on", ops.Roll, lambda s, g, n: ndl.roll(g, s.shift, s.axes), lambda a: ndl.roll(a, 1, 0), A,
       guess=PLACES)  # fmt: skip

# --- reductions and products -----------------------------------------------------------------------------------


def total(a):
    return ndl.summation(a, 1)


mutant("not expanded", ops.Summation, lambda s, g, n: g, total, A, guess="not expanded")
mutant("divided by the count", ops.Summation, lambda s, g, n: expand(g, n.inputs[0].shape, s.axes) / 3, total, A,
       guess=MEAN_FOR_SUM)  # fmt: skip
mutant("along the wrong axis", ops.Summation, lambda s, g, n: ndl.broadcast_to(g, n.inputs[0].shape), total, SQUARE,
       guess=TRANSPOSED)  # fmt: skip
mutant("ones", ops.Summation, lambda s, g, n: n.inputs[0].filled(1), total, A, guess=IGNORES)
mutant("times the count", ops.Summation, lambda s, g, n: expand(g, n.inputs[0].shape, s.axes) * 3, total, A,
       guess=FACTOR)  # fmt: skip

S, T = SQUARE, real(3, 3) * 0.7 + np.arange(9.0).reshape(3, 3) / 5


def product(a, b):
    return a @ b


def matmul_rule(left: Callable, right: Callable) -> Callable:
    return lambda s, g, n: (left(g, *n.inputs), right(g, *n.inputs))


LEFT, RIGHT = (lambda g, a, b: g @ b.transpose()), (lambda g, a, b: a.transpose() @ g)
mutant("right not transposed", ops.MatMul, matmul_rule(lambda g, a, b: g @ b, RIGHT), product, S, T, guess=TRANSPOSED)
mutant("wrong order", ops.MatMul, matmul_rule(LEFT, lambda g, a, b: g @ a.transpose()), product, S, T,
       guess=TRANSPOSED, argument=1)  # fmt: skip
mutant("transposed", ops.MatMul, matmul_rule(LEFT, lambda g, a, b: g.transpose() @ a), product, S, T,
       guess=TRANSPOSED, argument=1)  # fmt: skip
mutant("transposed, oblong", ops.MatMul, matmul_rule(LEFT, lambda g, a, b: g.transpose() @ a), product, A, real(3, 5),
       guess=TRANSPOSED, argument=1)  # fmt: skip
mutant("swapped", ops.MatMul, matmul_rule(RIGHT, LEFT), product, S, T, guess=SWAPPED, argument=None)
mutant("stack not summed", ops.MatMul, matmul_rule(LEFT, RIGHT), product, BOX, real(4, 2), guess=UNSUMMED, argument=1)
mutant("elementwise", ops.MatMul, matmul_rule(lambda g, a, b: g * b, RIGHT), product, S, T)
mutant("sign of the right", ops.MatMul, matmul_rule(LEFT, lambda g, a, b: -RIGHT(g, a, b)), product, S, T,
       guess=SIGN, argument=1)  # fmt: skip
mutant("detached right", ops.MatMul, matmul_rule(lambda g, a, b: g @ b.detach().transpose(), RIGHT), product, S, T,
       guess=DETACHED, order=2, argument=None)  # fmt: skip
mutant("operand not transposed", ops.Einsum,
       lambda s, g, n: (ndl.einsum("ik,kj->ij", g, n.inputs[1]), ndl.einsum("ij,ik->jk", n.inputs[0], g)),
       lambda a, b: ndl.einsum("ij,jk->ik", a, b), S, T, guess=TRANSPOSED)  # fmt: skip


def largest(a):
    return ndl.max(a, 1)


def all_share(self, g, node):
    return expand(g, node.inputs[0].shape, self.axes)


def every_winner(self, g, node):
    (a,) = node.inputs
    return all_share(self, g, node) * ndl.eq(a, expand(node, a.shape, self.axes))


mutant("everybody wins", ops.Max, all_share, largest, A, guess=PASSED)
mutant("each tie gets all", ops.Max, every_winner, largest, A, at_kink=True)
mutant("ignores out_grad", ops.Max,
       lambda s, g, n: ndl.eq(n.inputs[0], expand(n, n.inputs[0].shape, s.axes)).astype(g.dtype), largest, A,
       guess=IGNORES)  # fmt: skip
mutant("everybody wins", ops.Min, all_share, lambda a: ndl.min(a, 1), A, guess=PASSED)


def running(a):
    return ndl.cumsum(a, 0)


mutant("from the same end", ops.CumSum, lambda s, g, n: ndl.cumsum(g, s.axis), running, A)
mutant("last element only", ops.CumSum, lambda s, g, n: g, running, A, guess=PASSED)
mutant("flipped once", ops.CumSum, lambda s, g, n: ndl.cumsum(ndl.flip(g, 0), 0), running, A,
       guess="reversed along axis 0")  # fmt: skip


def length(a):
    return ndl.norm(a, 1)


def norm_rule(of: Callable) -> Callable:
    return lambda s, g, n: of(n.inputs[0], expand(g, n.inputs[0].shape, s.axes), expand(n, n.inputs[0].shape, s.axes))


mutant("not divided", ops.Norm, norm_rule(lambda a, g, y: a * g), length, A, guess="extra factor: its output")
mutant("factor 2", ops.Norm, norm_rule(lambda a, g, y: 2 * a * g / y), length, A, guess="factor 2")
mutant("sign of a", ops.Norm, norm_rule(lambda a, g, y: ndl.abs(a) * g / y), length, A,
       guess="the sign of its own input is missing")  # fmt: skip
mutant("NaN at 0", ops.Norm, norm_rule(lambda a, g, y: a * g / y), length, A, at_kink=True)
mutant("detached", ops.Norm, norm_rule(lambda a, g, y: a * (g / y.detach())), length, A, guess=DETACHED, order=2)

# --- indexing --------------------------------------------------------------------------------------------------

TWICE = np.array([0, 2, 2, 1])


def put(self, g, node):
    out = np.zeros(node.inputs[0].shape, dtype=g.dtype)
    out[self.index] = g.numpy()
    return ndl.Tensor(out, requires_grad=False)


mutant("taken twice, counted once", ops.GetItem, put, lambda a: a[TWICE], A, guess="right except")
mutant("put at the front", ops.GetItem, lambda s, g, n: ndl.pad(g, ((0, 2), (0, 0))), lambda a: a[2:], A, guess=PLACES)
mutant("zero", ops.ScatterAdd, lambda s, g, n: g[s.index] * 0, lambda a: a[TWICE] * 1.0, A, guess=ZERO, order=2)

# --- softmax and its kin ---------------------------------------------------------------------------------------

Z = real(4, 3) * 1.5


def lse(z):
    return ndl.logsumexp(z, 1)


def lse_rule(of: Callable) -> Callable:
    return norm_rule(lambda x, g, y: g * of(x, y))


mutant("slope forgotten", ops.LogSumExp, lse_rule(lambda x, y: 1), lse, Z, guess=PASSED)
mutant("not normalised", ops.LogSumExp, lse_rule(lambda x, y: ndl.exp(x)), lse, Z)
mutant("logarithm of softmax", ops.LogSumExp, lse_rule(lambda x, y: x - y), lse, Z)
mutant("output detached", ops.LogSumExp, lse_rule(lambda x, y: ndl.exp(x - y.detach())), lse, Z,
       guess=DETACHED, order=2)  # fmt: skip
mutant("sign", ops.LogSumExp, lse_rule(lambda x, y: -ndl.exp(x - y)), lse, Z, guess=SIGN)


def softmax_rule(of: Callable) -> Callable:
    return lambda s, g, n: of(g, ndl.exp(n), ndl.summation(g, s.axis, keepdims=True))


mutant("second term forgotten", ops.LogSoftmax, lambda s, g, n: g, ndl.logsoftmax, Z, guess=PASSED)
mutant("out_grad not summed", ops.LogSoftmax, softmax_rule(lambda g, p, total: g - p * g), ndl.logsoftmax, Z)
mutant("mean for sum", ops.LogSoftmax, softmax_rule(lambda g, p, total: g - p * total / 3), ndl.logsoftmax, Z)
mutant("plus", ops.LogSoftmax, softmax_rule(lambda g, p, total: g + p * total), ndl.logsoftmax, Z,
       guess="1 + u for 1 − u")  # fmt: skip
mutant("rule of softmax", ops.LogSoftmax, softmax_rule(lambda g, p, total: p * (g - total)), ndl.logsoftmax, Z)
mutant("sums the wrong axis", ops.LogSoftmax, lambda s, g, n: g - ndl.exp(n) * ndl.summation(g, 0, keepdims=True),
       ndl.logsoftmax, Z)  # fmt: skip

LABELS = np.array([0, 2, 1, 1])


def entropy(z):
    return ndl.softmax_cross_entropy(z, LABELS)


def entropy_rule(of: Callable) -> Callable:
    """A rule from (g, softmax, one-hot labels, share of a row)."""

    def rule(self, g, node):
        z, labels = node.inputs
        share = 1 / labels.size if self.reduction == "mean" else 1
        column = g.reshape(*g.shape, 1) if g.shape else g
        return of(column, ndl.softmax(z), ndl.one_hot(labels, z.shape[-1], z.dtype), share), None

    return rule


mutant("labels forgotten", ops.SoftmaxCrossEntropy, entropy_rule(lambda g, p, one, w: g * p * w), entropy, Z,
       guess="right except")  # fmt: skip
mutant("not divided by the batch", ops.SoftmaxCrossEntropy, entropy_rule(lambda g, p, one, w: g * (p - one)), entropy,
       Z, guess=SUM_FOR_MEAN)  # fmt: skip
mutant("sign", ops.SoftmaxCrossEntropy, entropy_rule(lambda g, p, one, w: g * (one - p) * w), entropy, Z, guess=SIGN)
mutant("ignores out_grad", ops.SoftmaxCrossEntropy, entropy_rule(lambda g, p, one, w: (p - one) * w), entropy, Z,
       guess=IGNORES)  # fmt: skip
mutant("divided by the classes", ops.SoftmaxCrossEntropy, entropy_rule(lambda g, p, one, w: g * (p - one) / 3),
       entropy, Z, guess="factor 4/3")  # fmt: skip
mutant("probabilities detached", ops.SoftmaxCrossEntropy,
       entropy_rule(lambda g, p, one, w: g * (p.detach() - one) * w), entropy, Z, guess=DETACHED, order=2)  # fmt: skip


def forgets_while_recording(self, g, node):
    z, labels = node.inputs
    one = ndl.one_hot(labels, z.shape[-1], z.dtype)
    return g * (ndl.softmax(z) - (0 if ndl.is_grad_enabled() else one)) / labels.size, None


mutant("labels forgotten while recording", ops.SoftmaxCrossEntropy, forgets_while_recording, entropy, Z, argument=None)

# --- rules of rules --------------------------------------------------------------------------------------------

mutant("slope forgotten", PowerBaseSlope, lambda s, g, n: (g, g), power, P, Q, order=2, argument=None)
mutant("zero", LogOrZero, lambda s, g, n: g * 0, power, P, Q, order=2, guess=ZERO)
