"""One check: what is asked of f, in which order, and what each answer means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_selection import default_device
from ..functional import flatten, unflatten
from ..modes import enable_grad
from .entries import reverse_rows, worst_entry
from .looks import DIRECTIONS, Look, same
from .probes import (
    FINE,
    NotATensor,
    Probe,
    coarsest,
    derivative,
    is_float,
    outputs_of,
    parts,
    push,
    random_weights,
    row,
    some_signs,
    users_of,
)
from .result import GradcheckResult
from .rules import name_of
from .slopes import Finding, Line, Tolerance, overruled, sizes
from .suspects import Blame, Fault, blame, fault_of_form, first_bad_gradient

__all__ = ["Check"]


@dataclass(frozen=True)
class _Disagreement:
    """Where reverse mode and the numeric derivative by array `k` part: in `text`, at `index`, along `line`."""

    k: int
    text: str
    found: Finding
    index: tuple[int, ...] | None = None
    line: Line | None = None

    def numbers(self) -> dict[str, Any]:
        found = self.found
        return {"index": self.index, "analytic": found.analytic, "numeric": found.numeric, "error": found.error}


class Check:
    """One run of the checker. Each question is a method that gives a result, or None where all is well so far."""

    def __init__(self, f: Callable, inputs: tuple, order: int, full: bool, tolerance: Tolerance, seed: int):
        self.f, self.inputs, self.order, self.full, self.tolerance = f, inputs, order, full, tolerance
        self.rng = np.random.default_rng(seed)
        self.leaves = flatten(inputs)
        self.places = [i for i, leaf in enumerate(self.leaves) if _moves(leaf)]
        self.device = next((x.device for x in self.leaves if isinstance(x, Tensor)), default_device())
        self.given = [self._to_numpy(self.leaves[i]) for i in self.places]
        self.probe = Probe(self._call, [np.array(a, dtype=np.float64) for a in self.given], self.device)
        self.notes: list[str] = []
        self.worst = 0.0
        self.only_here = False  # whether what keeps from judging may be gone nearby

    def _to_numpy(self, leaf: Any) -> np.ndarray:
        return self.device.to_numpy(leaf.cached_data) if isinstance(leaf, Tensor) else np.array(leaf)

    def _call(self, tensors: list[Tensor]) -> list[Tensor]:
        leaves = list(self.leaves)
        for i, tensor in zip(self.places, tensors, strict=True):
            leaves[i] = tensor
        with enable_grad():
            return outputs_of(self.f(*unflatten(self.inputs, iter(leaves))))

    def moved(self, share: float) -> tuple:
        """The inputs with each float moved by about a share of its size."""
        leaves = list(self.leaves)
        for i, a in zip(self.places, self.probe.arrays, strict=True):
            (leaves[i],) = self.probe.tensors([a + share * sizes(a) * some_signs(a.shape, self.rng)])
        return tuple(unflatten(self.inputs, iter(leaves)))

    # --- answers ---

    def verdict(self) -> GradcheckResult:
        for question in (self.do_inputs_move, self.does_f_behave, self.first, self.second, self.dtypes):
            answer = question()
            if answer is not None:
                return answer
        what = "gradient and second derivatives agree" if self.order == 2 else "the gradient agrees"
        how = "at every entry" if self.full else f"to {self.worst:.0e}"
        reason = f"{what} with differences {how} ({self.probe.runs} runs of f)"
        return self.result("pass", reason, self.order)

    def result(self, verdict: str, reason: str, order: int = 1, **details: Any) -> GradcheckResult:
        return GradcheckResult(verdict, reason, order, notes=tuple(self.notes), **details)

    def cannot_tell(self, reason: str) -> GradcheckResult:
        """No verdict on f; but each op's own rule can still be judged."""
        fault = self.blame().fault
        return self.result("cannot tell", reason) if fault is None else self.guilty(fault)

    def guilty(self, fault: Fault, seen: _Disagreement | None = None) -> GradcheckResult:
        if seen is not None and seen.found.numeric is not None:
            self.notes.append(f"seen from f: {seen.found.analytic:.6g}, numerically {seen.found.numeric:.6g}")
        found = fault.finding
        numbers = {} if found is None else {"analytic": found.analytic, "numeric": found.numeric, "error": found.error}
        return self.result(
            "fail", f"{fault.op} {fault.text}", fault.order, op=fault.op, argument=fault.argument, index=fault.index,
            guess=fault.guess, site=fault.site, **numbers,
        )  # fmt: skip

    def blame(self, order: int | None = None, k: int | None = None) -> Blame:
        return blame(self.probe, order or self.order, self.rng, self.tolerance, k)

    # --- questions ---

    def do_inputs_move(self) -> GradcheckResult | None:
        if not self.places:
            return self.result("cannot tell", "no input is a float, and only floats can move; use .astype('float64')")
        for i, a in zip(self.places, self.given, strict=True):
            if not np.isfinite(a).all():
                return self.result("cannot tell", f"input {i} holds NaN or infinity, which cannot move")
        return None

    def does_f_behave(self) -> GradcheckResult | None:
        try:
            inputs, outputs = self.probe.record()
        except NotATensor as error:
            return self.result("cannot tell", f"f must return a Tensor, it returned a {error}")
        for i, x, a in zip(self.places, inputs, self.probe.arrays, strict=True):
            if not np.array_equal(self.device.to_numpy(x.cached_data), a):
                return self.cannot_tell(f"f writes into its input {i}, so that it cannot run twice at one place")
        nodes = users_of(inputs, outputs)
        self.probe.eps = coarsest(part for node in nodes for part in parts(node))
        self.outputs = self.probe.values(outputs)
        start = row(self.outputs)
        if not np.isfinite(start).all():
            return self.cannot_tell(_not_finite(start, nodes))
        off = max(_distance(self.probe.run(), start), _distance(self.probe.run(), start))
        if off:
            return self.cannot_tell(f"f gives another result when it runs again at the same place (off by {off:.1e})")
        return None

    def first(self) -> GradcheckResult | None:
        self.weights = random_weights(self.outputs, self.rng)
        try:
            look = Look.at(self.probe, self.weights, self.tolerance, self.rng)
            recorded = self.probe.gradient(self.weights, recording=True)
        except Exception as error:
            return self.broken(error, 1)
        if not same(look.grads, recorded):
            text = "reverse mode gives another gradient while its graph is recorded (create_graph) than otherwise"
            fault = self.blame().fault
            return self.result("fail", text) if fault is None else self.guilty(fault)
        return self.agreement(look, 1)

    def second(self) -> GradcheckResult | None:
        if self.order == 1:
            return None
        probe = derivative(self.probe, self.weights)
        try:
            weights = random_weights(probe.values(probe.record()[1]), self.rng)
            look = Look.at(probe, weights, self.tolerance, self.rng)
        except Exception as error:
            return self.broken(error, 2)
        if not np.isfinite(look.start).all():
            return self.cannot_tell("the gradient is not finite here, so that order 2 says nothing")
        return self.agreement(look, 2)

    def dtypes(self) -> GradcheckResult | None:
        """Looks at the gradient's form in float32 or what else was given, since rules may get dtypes wrong."""
        coarse = sorted({str(a.dtype) for a in self.given if a.dtype.itemsize < 8})
        probe = Probe(self._call, self.given if coarse else [a.astype(np.float32) for a in self.given], self.device)
        answer = self.form(probe)
        if answer is not None or not coarse:
            return answer
        return self.result(
            "cannot tell",
            f"inputs are {' and '.join(coarse)}, too coarse for numeric derivatives. Copies of them in float64 "
            "passed; give float64, by .astype('float64')",
        )

    def form(self, probe: Probe) -> GradcheckResult | None:
        try:
            outputs = probe.values(probe.record()[1])
        except Exception:  # f wants float64; nothing follows for its gradient
            return None
        try:
            grads = probe.gradient([np.ones(y.shape, dtype=y.dtype) for y in outputs])
        except Exception as error:
            fault = fault_of_form(probe)
            return self.result("fail", f"backward raises {error}") if fault is None else self.guilty(fault)
        for i, g, a in zip(self.places, grads, probe.arrays, strict=True):
            if g.shape != a.shape or (g.any() and g.dtype != a.dtype):
                return self.result("fail", f"input {i} is {a.shape} {a.dtype}, its gradient {g.shape} {g.dtype}")
        return None

    def broken(self, error: Exception, order: int) -> GradcheckResult:
        """The reverse pass raised."""
        fault = self.blame(order).fault
        text = f"backward raises {type(error).__name__}: {error}"
        return self.result("fail", text, order) if fault is None else self.guilty(fault)

    # --- comparing ---

    def agreement(self, look: Look, order: int) -> GradcheckResult | None:
        # Projections come also after all entries: they see what is flat, and kinks with equal slopes on both sides.
        for seen in chain(self.entries(look, order) if self.full else (), self.projections(look, order)):
            answer = self.judged(seen, look, order)
            if answer is not None:
                return answer
        return self.forward(look, order)

    def projections(self, look: Look, order: int) -> Iterator[_Disagreement]:
        for k in [k for k in range(len(look.probe.arrays)) for _ in range(DIRECTIONS)]:
            direction = look.steps(k)
            found, line = look.along(k, direction), look.line(k, direction)
            if found.verdict == "agree":
                self.worst = max(self.worst, found.share(line.floor))
            else:
                yield _Disagreement(k, self.where(k, order), found, None, line)

    def entries(self, look: Look, order: int) -> Iterator[_Disagreement]:
        shapes = [w.shape for w in look.weights]
        for k, jacobian in enumerate(reverse_rows(look.probe, shapes)):
            entry = worst_entry(look.probe, k, jacobian, look.start, self.tolerance)
            if entry is not None:
                text = f"{self.where(k, order)} (output element {entry.output})"
                yield _Disagreement(k, text, entry.found, entry.index, entry.line)

    def where(self, k: int, order: int) -> str:
        what = "the gradient of f" if order == 2 else "f"
        by = f"input {self.places[k]}" if k < len(self.places) else "out_grad (forward mode)"
        return f"the derivative of {what} by {by}"

    def judged(self, seen: _Disagreement, look: Look, order: int) -> GradcheckResult | None:
        """The verdict on a disagreement; None where the referee takes reverse mode's side."""
        suspects = self.blame(order, seen.k if seen.k < len(self.places) else None)
        if suspects.fault is not None:
            return self.guilty(suspects.fault, seen)
        # No kink of an op excuses NaN where f has a slope: a masked branch does that.
        lost = seen.found.verdict == "differ" and not math.isfinite(seen.found.analytic)
        excuse = None if lost else _excuse(seen.found, suspects, self.probe.eps)
        if excuse is not None:
            self.only_here = EXCUSES["flat"] not in excuse
            return self.result("cannot tell", f"{seen.text} has no numeric one to compare with: {excuse}", order,
                               **seen.numbers())  # fmt: skip
        if seen.line is not None and overruled(seen.line, seen.found, self.tolerance):
            return None
        return self.unexplained(self.pinpointed(seen, look), suspects, order)

    def pinpointed(self, seen: _Disagreement, look: Look) -> _Disagreement:
        """The same at the worst element, where one element alone shows it."""
        if seen.index is not None:
            return seen
        elements = look.at_elements(seen.k)
        worst = look.worst(seen.k, elements)
        if worst is None:
            return seen
        index = tuple(int(i) for i in np.unravel_index(worst, look.grads[seen.k].shape))
        return _Disagreement(seen.k, seen.text, elements[worst], index)

    def unexplained(self, seen: _Disagreement, suspects: Blame, order: int) -> GradcheckResult:
        """A failure that no single rule explains."""
        argument = self.places[seen.k] if seen.k < len(self.places) else None
        text = f"{seen.text} is not the numeric one"
        if not math.isfinite(seen.found.analytic):
            culprit = first_bad_gradient(self.probe, self.weights)
            why = f"{culprit or 'the reverse pass'} was first to give it, perhaps by 0 times infinity"
            guess = "a branch that was not chosen has no finite slope: choose the argument first, see ndl.where"
            return self.result("fail", f"{text}; {why}", order, argument=argument, guess=guess, **seen.numbers())
        if suspects.blind:
            why = f"no rule that could be checked by itself is wrong (not checked: {_names(suspects.blind)})"
        else:
            why = "each op's own rule is right, so part of f bypasses the graph"
        guess = "detach, .data, .numpy() or no_grad within f"
        return self.result("fail", f"{text}; {why}", order, argument=argument, guess=guess, **seen.numbers())

    def forward(self, look: Look, order: int) -> GradcheckResult | None:
        """Forward mode (over reverse, at order 2) against reverse mode, which has agreed with the differences."""
        tangents = [look.steps(k) for k in range(len(look.probe.arrays))]
        pulled = row(look.grads) @ row(tangents)
        try:
            pushed = float(row(look.weights) @ row(push(look.probe, tangents)))
        except Exception as error:
            return self.forward_differs(f"forward mode raises {type(error).__name__}: {error}", order)
        share = max(1e-9, 10 * look.probe.eps)
        noise = share * float(np.abs(row(look.grads)) @ np.abs(row(tangents))) + 1e-12 * self.scale()
        if abs(pushed - pulled) <= self.tolerance(pushed, pulled) + noise:
            return None
        return self.forward_differs(f"forward mode (jvp) gives {pushed:.6g}, reverse mode rightly {pulled:.6g}", order)

    def scale(self) -> float:
        return float(np.abs(row(self.weights)) @ np.abs(row(self.outputs)))

    def forward_differs(self, text: str, order: int) -> GradcheckResult | None:
        """At order 1 a remark: backward needs no rule that can itself be differentiated, forward mode does."""
        if self.order == 1:
            self.notes.append(f"note: {text}; some rule does not follow out_grad: see order=2")
            return None
        fault = self.blame(2).fault
        return self.result("fail", text, order) if fault is None else self.guilty(fault)


def _moves(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        return is_float(leaf.cached_data)
    return isinstance(leaf, float) or (isinstance(leaf, (np.ndarray, np.floating)) and is_float(leaf))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else math.inf


def _not_finite(values: np.ndarray, nodes: Sequence[Any]) -> str:
    met = "NaN" if np.isnan(values).any() else "infinity"
    first = next((node for node in nodes if not all(np.isfinite(a).all() for a in parts(node))), None)
    return f"the result of f holds {met}" + ("" if first is None else f"; {name_of(first.op)} was first to give it")


EXCUSES = {
    "kink": "has a kink here, or too near to step aside: its one-sided slopes differ; move the input off it",
    "flat": "gives the same output for every step: what moves is too small a part of a large number",
    "unclear": "has no slope that settles at any step size (a jump, an infinite slope, the edge of a domain, or noise)",
}


def _excuse(found: Finding, suspects: Blame, eps: float) -> str | None:
    """Why a disagreement need not mean that reverse mode is wrong: an op's doubt, else f's own."""
    for verdict, excuse in EXCUSES.items():
        named = [name for name, doubt in suspects.doubts if doubt == verdict]
        if named:
            return f"{_names(named)} {excuse}"
    coarse = "; it computes in a float coarser than float64" if eps > FINE else ""
    return f"f {EXCUSES[found.verdict]}{coarse}" if found.verdict in EXCUSES else None


def _names(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(names)))
