"""From a wrong gradient and the right one to a likely cause: the usual mistakes, tried one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, permutations, product

import numpy as np

__all__ = ["Evidence", "guess_of_numbers", "guess_of_shape"]


@dataclass
class Evidence:
    """A rule's gradient for one argument beside the numeric one (NaN where that is not known).

    `out_grad` and `output` are None for an op with several outputs. `others`: the other arguments by name.
    `again(out_grad)` asks the rule with another out_grad. `rivals`: the numeric gradients of the other arguments.
    `scalars`: numbers that the op was made with.
    """

    rule: np.ndarray
    numeric: np.ndarray
    own: np.ndarray
    output: np.ndarray | None = None
    out_grad: np.ndarray | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    again: Callable[[np.ndarray], np.ndarray] | None = None
    rivals: dict[str, Callable[[], np.ndarray | None]] = field(default_factory=dict)
    order: int = 1

    def matches(self, candidate: np.ndarray) -> bool:
        """Whether the rule computes `candidate`."""
        return candidate.shape == self.rule.shape and near(self.rule, candidate)

    def factors(self) -> dict[str, np.ndarray]:
        """What a rule may have multiplied by once too often or too seldom."""
        found = {"its own input": self.own, **self.others}
        return found if self.output is None else {**found, "its output": self.output}


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a and b are equal wherever both are known, and not just nought."""
    known = np.isfinite(b)
    size = np.abs(b[known]).max(initial=0.0)
    return bool(size > 0 and np.abs(a - b)[known].max(initial=0.0) <= 1e-5 * size)  # False where a is NaN


def guess_of_shape(grad: tuple[int, ...], wanted: tuple[int, ...], output: tuple[int, ...]) -> str | None:
    """The likely cause of a gradient of the wrong shape."""
    if grad == wanted:
        return "cast to another dtype"
    if grad == output and _stretches(wanted, grad):
        return "not summed over a broadcast axis"
    if sorted(grad) == sorted(wanted):
        return "transposed"
    if np.prod(grad) == np.prod(wanted):
        return "not reshaped back to its input's shape"
    if _stretches(grad, wanted) or (grad == output and len(grad) < len(wanted)):
        return "not expanded back over the reduced axis"
    return "not summed over a broadcast axis" if _stretches(wanted, grad) else None


def _stretches(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether broadcasting takes `shape` to `to`."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and shape != to and all(n in (1, m) for n, m in pairs)


def guess_of_numbers(evidence: Evidence) -> str | None:
    """The first mistake of the list that explains the wrong numbers exactly, None if none does."""
    for mistake in MISTAKES:
        guess = mistake(evidence)
        if guess is not None:
            return guess
    return None


def _zero(e: Evidence) -> str | None:
    if np.any(e.rule):
        return None
    return "zero: no gradient flows to this argument"


def _detached(e: Evidence) -> str | None:
    """At order 2 every op's rule has been found right at order 1, so something must bypass the rule's graph."""
    if e.order == 1:
        return None
    part = "a part of the rule" if np.any(e.rule) else "the rule"
    return f"{part} is detached from its graph: .data, detach, numpy or no_grad inside it"


def _not_finite(e: Evidence) -> str | None:
    bad = ~np.isfinite(e.rule)
    return f"it gives NaN or infinity at {int(bad.sum())} of {bad.size} elements" if bad.any() else None


def _ignores_out_grad(e: Evidence) -> str | None:
    if e.again is None or e.out_grad is None:
        return None
    if near(e.again(3 * e.out_grad), e.rule):
        return "ignores out_grad"
    odd = near(e.again(3 * e.out_grad), 3 * e.rule)
    return None if odd else "not linear in out_grad"


def _constant(e: Evidence) -> str | None:
    known = np.isfinite(e.numeric) & (e.numeric != 0)
    if not known.any():
        return None
    c = float(np.median(e.rule[known] / e.numeric[known]))
    if not np.isfinite(c) or not e.matches(c * e.numeric):
        return None
    if abs(c + 1) < 1e-5:
        return "the sign"
    return _and_sign(c) + f"constant factor {_readable(abs(c))}{_meaning(abs(c), e)}"


def _and_sign(c: float) -> str:
    return "the sign, and " if c < 0 else ""


def _readable(c: float) -> str:
    fraction = Fraction(c).limit_denominator(1000)
    exact = fraction and abs(float(fraction) / c - 1) < 1e-6 and fraction.denominator <= 100
    return str(fraction) if exact else f"{c:.6g}"


POWERS = {
    1: "multiplied by once too often, or not divided by",
    -1: "not multiplied by, or divided by once too often",
    2: "multiplied by instead of divided by",
    -2: "divided by instead of multiplied by",
}


def _meaning(c: float, e: Evidence) -> str:
    """Where a constant factor may come from: a number of the op, or the length of an axis."""
    for name, scalar in e.scalars.items():
        for power, text in POWERS.items():
            if abs(scalar) not in (0.0, 1.0) and abs(c / abs(scalar) ** power - 1) < 1e-5:
                return f" ({name}, {scalar:g}: {text})"
    shapes = e.own.shape, () if e.output is None else e.output.shape
    lengths = {n for shape in shapes for n in (*shape, int(np.prod(shape)))}
    lengths |= {e.own.size // max(1, int(np.prod(shapes[1])))}
    for n in sorted(lengths - {0, 1}):
        if abs(c / n - 1) < 1e-5:
            return f" (an axis has length {n}: sum for mean?)"
        if abs(c * n - 1) < 1e-5:
            return f" (an axis has length {n}: mean for sum?)"
    return ""


def _swapped(e: Evidence) -> str | None:
    for name, gradient in e.rivals.items():
        rival = gradient()
        if rival is not None and e.matches(rival):
            return f"swapped arguments: this is the gradient of {name}"
    return None


def _passed_through(e: Evidence) -> str | None:
    if e.out_grad is None:
        return None
    for sign, text in ((1, ""), (-1, "the negative of ")):
        if any(e.matches(sign * g) for g in _spread(e.out_grad, e.rule.shape)):
            return f"returns {text}out_grad as it is: the op's own slope is missing"
    return None


def _spread(a: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """`a` broadcast to `shape`, and all the ways in which it may be a reduction of that shape, repeated again."""
    if a.shape == shape or _stretches(a.shape, shape):
        yield np.broadcast_to(a, shape)
    for axes in combinations(range(len(shape)), len(shape) - a.ndim) if a.ndim < len(shape) else ():
        if tuple(n for i, n in enumerate(shape) if i not in axes) == a.shape:
            yield np.broadcast_to(np.expand_dims(a, axes), shape)


def _near_out_grad(e: Evidence) -> str | None:
    """Sums with out_grad: slopes u and 1 − u, 1 + u and 1 − u, u and 1 + u taken for each other."""
    if e.out_grad is None or e.out_grad.shape != e.rule.shape:
        return None
    for text, candidate in (
        ("inverted: what is 0 (or u) should be 1 (or 1 − u), as with a mask turned round", e.out_grad - e.numeric),
        ("a sign within the slope: 1 + u for 1 − u", 2 * e.out_grad - e.numeric),
        ("a term is missing in the slope: 1", e.numeric - e.out_grad),
        ("a term is too much in the slope: 1", e.numeric + e.out_grad),
    ):
        if e.matches(candidate):
            return text
    return None


def _transposed(e: Evidence) -> str | None:
    for axes in permutations(range(e.rule.ndim)) if e.rule.ndim <= 4 else ():
        if axes != tuple(sorted(axes)) and e.matches(e.numeric.transpose(axes)):
            return "transposed" if e.rule.ndim == 2 else f"transposed: its axes are permuted as {axes}"
    for axis in range(e.rule.ndim):
        if e.rule.shape[axis] > 1 and e.matches(np.flip(e.numeric, axis)):
            return f"reversed along axis {axis}"
    return None


def _wrong_product(e: Evidence) -> str | None:
    """A matrix product with a factor transposed, or in the wrong order."""
    if e.out_grad is None or e.out_grad.ndim != 2:
        return None
    for name, other in {**e.others, "its own input": e.own}.items():
        for text, a, b in _products("out_grad", e.out_grad, name, other) if other.ndim == 2 else ():
            if a.shape[1] == b.shape[0] and e.matches(a @ b):
                return f"transposed: a factor of a matrix product, or their order; it computes {text}"
    return None


def _products(g_name: str, g: np.ndarray, x_name: str, x: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for (gs, g_), (xs, x_) in product(((g_name, g), (g_name + "ᵀ", g.T)), ((x_name, x), (x_name + "ᵀ", x.T))):
        yield f"{gs} @ ({xs})", g_, x_
        yield f"({xs}) @ {gs}", x_, g_


def _power_of_a_factor(e: Evidence) -> str | None:
    for name, factor in e.factors().items():
        for base in _spread(factor, e.rule.shape):
            fitted = _fit_power(e, base)
            if fitted is not None:
                return _power_text(name, *fitted)
    return None


def _fit_power(e: Evidence, base: np.ndarray) -> tuple[float, float, bool] | None:
    """(c, p, odd) where rule = c · numeric · base**p; odd: with the sign of the base."""
    known = np.isfinite(e.numeric) & (e.numeric != 0) & (base != 0) & (e.rule != 0)
    sizes = np.log(np.abs(base[known]))
    if known.sum() < 3 or np.ptp(sizes) < 1e-3:
        return None
    ratio = e.rule[known] / e.numeric[known]
    p = round(2 * float(np.polyfit(sizes, np.log(np.abs(ratio)), 1)[0])) / 2
    for odd in (False, True):
        shape = np.abs(base) ** p * (np.sign(base) if odd else 1)
        c = float(np.median(ratio / shape[known]))
        with_factor = c * e.numeric * np.where((base == 0) & (p < 0), np.nan, shape)
        if (p or odd) and e.matches(with_factor):
            return c, p, odd
    return None


def _power_text(name: str, c: float, p: float, odd: bool) -> str:
    also = "" if abs(c - 1) < 1e-5 else ", and the sign" if abs(c + 1) < 1e-5 else f", and constant factor {c:.6g}"
    if p == 0:
        return f"the sign of {name} is missing{also}"
    if p == 1:
        power = " (x**n for x**(n-1)?)" if name == "its own input" else ""
        return f"extra factor: {name}{power}{also}"
    if p == -1:
        return f"missing factor: {name}{also}"
    return f"off by the factor ({name})**{p:g}{also}"


def _misplaced(e: Evidence) -> str | None:
    if not np.isfinite(e.numeric).all() or np.ptp(e.numeric) == 0:
        return None
    ordered = np.sort(e.rule, axis=None), np.sort(e.numeric, axis=None)
    return "the right numbers in the wrong places" if near(*ordered) else None


def _in_places(e: Evidence) -> str | None:
    known = np.isfinite(e.numeric)
    wrong = known & (np.abs(e.rule - e.numeric) > 1e-5 * np.abs(e.numeric[known]).max(initial=0.0))
    right = known & ~wrong
    if not right.any() or wrong.sum() == 0:
        return None
    text = f"right except at {int(wrong.sum())} of {int(known.sum())} elements"
    for name, base in e.factors().items():
        if base.shape == e.rule.shape:
            for condition, holds in (("is negative", base < 0), ("is positive", base > 0)):
                if np.array_equal(wrong, holds & known):
                    return f"{text}, those where {name} {condition}"
    if not e.rule[wrong].any():
        return f"{text}, where it is zero"
    return text if e.numeric[wrong].any() else f"{text}, where it should be zero"


MISTAKES = (
    _detached,
    _zero,
    _not_finite,
    _ignores_out_grad,
    _constant,
    _swapped,
    _transposed,
    _wrong_product,
    _power_of_a_factor,
    _passed_through,
    _near_out_grad,
    _misplaced,
    _in_places,
)
