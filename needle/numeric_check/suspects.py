"""When derivatives disagree: each op's own rule, checked by itself at the inputs it met. Which one is guilty?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..autograd import Tensor, TensorTuple
from ..failures import site_of
from ..functional import Checkpoint
from ..graph import Value, as_tuple, reverse_pass
from ..modes import enable_grad
from .guesses import Evidence, guess_of_numbers
from .looks import Look, same
from .probes import Probe, derivative, parts, random_weights, users_of
from .rules import BadRule, RuleProbe, name_of, stretched
from .slopes import Finding, Tolerance

__all__ = ["Blame", "Fault", "blame", "fault_of_form", "first_bad_gradient"]

NODES = 5000


@dataclass(frozen=True)
class Fault:
    """A wrong rule: `text` completes "op ...". Numbers are None where the rule is wrong by its form."""

    op: str
    text: str
    argument: int | None = None
    index: tuple[int, ...] | None = None
    finding: Finding | None = None
    guess: str | None = None
    site: str | None = None
    order: int = 1


@dataclass
class Blame:
    """The guilty rule if there is one; else what may excuse a disagreement.

    `doubts` pairs the name of an op with a verdict on its rule that is neither "agree" nor "differ"; `blind` names
    ops that could not be run by themselves.
    """

    fault: Fault | None = None
    doubts: list[tuple[str, str]] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)


# --- all nodes -------------------------------------------------------------------------------------------------


def blame(probe: Probe, order: int, rng: np.random.Generator, tolerance: Tolerance, k: int | None = None) -> Blame:
    """Checks the rule of every op between the inputs (or the k-th alone) and the outputs of `probe`, first at order
    1, then at `order`: a wrong rule makes those wrong at order 2 that use its op."""
    found = Blame()
    nodes = _unlike_first(_nodes(probe, order, rng, k))[:NODES]
    for level in range(1, order + 1):
        for node, rule in _rule_probes(nodes, probe.device, found):
            fault = _fault_of(rule, level, rng, tolerance, found.doubts)
            if fault is not None:
                found.fault = replace(fault, site=site_of(node))
                return found
    return found


def _nodes(probe: Probe, order: int, rng: np.random.Generator, k: int | None = None) -> list[Any]:
    """The nodes of the recorded graph; at order 2 also those of the gradient's graph."""
    inputs, outputs = probe.record()
    nodes = list(_unfolded(users_of(inputs if k is None else [inputs[k]], outputs)))
    if order > 1:
        second = derivative(probe, random_weights(probe.values(outputs), rng))
        seeded, grads = second.record()
        nodes += users_of(seeded if k is None else [seeded[k]], grads)
    return list(dict.fromkeys(nodes))


def _unfolded(nodes: Sequence[Any]) -> Iterator[Any]:
    """The nodes, and those that a checkpoint hides."""
    for node in nodes:
        if isinstance(node.op, Checkpoint):
            own = [Tensor.make_const(x, x.requires_grad) for x in node.inputs[: node.op.count]]
            with enable_grad():
                yield from _unfolded(users_of(own, [node.op.f(*own)]))
        else:
            yield node


def _unlike_first(nodes: Sequence[Any]) -> list[Any]:
    """One node of each op and shape first, then the second of each: a wrong rule is met early."""
    seen: Counter = Counter()
    ranked = []
    for node in nodes:
        kind = (type(node.op), tuple(getattr(x, "shape", None) for x in node.inputs))
        ranked.append((seen[kind], node))
        seen[kind] += 1
    return [node for _, node in sorted(ranked, key=lambda pair: pair[0])]


def _rule_probes(nodes: Sequence[Any], device: Any, found: Blame) -> Iterator[tuple[Any, RuleProbe]]:
    """The nodes whose rule can be checked; the others are noted as blind spots."""
    for node in nodes:
        rule = _rule_probe(node, device)
        if rule is None:
            found.blind.append(name_of(node.op))
        elif rule.arrays:
            yield node, rule


def _rule_probe(node: Any, device: Any) -> RuleProbe | None:
    """The node's op by itself; None where it meets NaN or infinity, or does not do the same again."""
    try:
        rule = RuleProbe(node.op, node.inputs, device)
        again = rule.run(), rule.run()
    except Exception:  # an op that cannot be run by itself is no reason to stop looking at the others
        return None
    steady = np.array_equal(*again) and all(_finite(value) for value in (node, *node.inputs))
    return rule if steady else None


def _finite(value: Value) -> bool:
    return all(np.isfinite(part).all() for part in parts(value))


# --- other questions about the nodes ---------------------------------------------------------------------------


def fault_of_form(probe: Probe) -> Fault | None:
    """The first rule that gives a wrong shape or dtype at the very inputs and precision of `probe`."""
    for node in _nodes(probe, 1, np.random.default_rng(0)):
        rule = RuleProbe(node.op, node.inputs, probe.device, widen=False)
        try:
            rule.gradient([np.ones(v.shape, dtype=v.dtype) for v in rule.values(rule.record()[1])])
        except BadRule as error:
            return Fault(name_of(node.op), error.text, error.argument, guess=error.guess, site=site_of(node))
    return None


def first_bad_gradient(probe: Probe, weights: Sequence[np.ndarray]) -> str | None:
    """The op whose rule makes NaN or infinity out of a finite gradient, first on the way back."""
    inputs, outputs = probe.record()
    live = probe.live(outputs, probe.tensors(weights))
    for node, grad in reverse_pass(*live, set(inputs)):
        if node.op is not None and node not in inputs and _finite(grad):
            made = as_tuple(node.op.gradient(grad, node))
            if not all(_finite(g) for g in made if g is not None):
                return name_of(node.op)
    return None


# --- one rule --------------------------------------------------------------------------------------------------


def _fault_of(
    rule: RuleProbe, order: int, rng: np.random.Generator, tolerance: Tolerance, doubts: list[tuple[str, str]]
) -> Fault | None:
    """What is wrong with a rule at `order`, None if nothing is. `doubts` takes what could not be decided."""
    try:
        look = _look(rule, order, rng, tolerance)
        wrong = _wrong_while_recording(rule, look) if order == 1 else None
        return wrong or _wrong_numbers(rule, look, order, doubts)
    except BadRule as error:
        return Fault(name_of(rule.op), error.text, error.argument, guess=error.guess, order=order)
    except Exception as error:
        return Fault(name_of(rule.op), f"has a rule that raises {type(error).__name__}: {error}", order=order)


def _look(rule: RuleProbe, order: int, rng: np.random.Generator, tolerance: Tolerance) -> Look:
    weights = random_weights(rule.values(rule.record()[1]), rng)
    if order == 1:
        return Look.at(rule, weights, tolerance, rng)
    probe = derivative(rule, weights)
    return Look.at(probe, random_weights(probe.values(probe.record()[1]), rng), tolerance, rng)


def _wrong_while_recording(rule: RuleProbe, look: Look) -> Fault | None:
    if same(look.grads, rule.gradient(look.weights, recording=True)):
        return None
    text = "has a rule that gives another gradient while its own graph is recorded (create_graph) than otherwise"
    return Fault(name_of(rule.op), text)


def _wrong_numbers(rule: RuleProbe, look: Look, order: int, doubts: list[tuple[str, str]]) -> Fault | None:
    for k in range(len(look.probe.arrays)):
        if look.along_random(k).verdict == "agree":
            continue
        elements = look.at_elements(k)
        worst = look.worst(k, elements)
        if worst is not None:
            return _fault(rule, look, k, order, elements, worst)
        doubts += {(name_of(rule.op), f.verdict) for f in elements.values() if f.verdict not in ("agree", "differ")}
    return None


def _fault(rule: RuleProbe, look: Look, k: int, order: int, elements: dict[int, Finding], worst: int) -> Fault:
    index = tuple(int(i) for i in np.unravel_index(worst, look.grads[k].shape))
    by = rule.name(k)
    argument = rule.spots[k][0] if k < len(rule.spots) else None
    evidence = _evidence(look, k, order, elements)
    if order == 1:
        _add_circumstances(evidence, rule, look, k)
        text, guess = f"has a wrong rule for its {by}", _guess(rule, look, evidence)
    else:
        text = f"has a rule that is right at order 1, wrong at order 2: its own derivative by {by} is wrong"
        guess = guess_of_numbers(evidence)
    return Fault(name_of(rule.op), text, argument, index, elements[worst], guess, order=order)


# --- why it is wrong -------------------------------------------------------------------------------------------


def _evidence(look: Look, k: int, order: int, elements: dict[int, Finding]) -> Evidence:
    numeric = np.full(look.grads[k].shape, math.nan)
    for j, finding in elements.items():
        if finding.numeric is not None and finding.verdict in ("agree", "differ"):
            numeric.flat[j] = finding.numeric
    return Evidence(np.asarray(look.grads[k], dtype=np.float64), numeric, look.probe.arrays[k], order=order)


def _add_circumstances(evidence: Evidence, rule: RuleProbe, look: Look, k: int) -> None:
    evidence.rivals = {rule.name(i): partial(look.differences, i) for i in range(len(rule.spots)) if i != k}
    evidence.others = {
        f"argument {a}": rule.device.to_numpy(x.cached_data).astype(np.float64)
        for a, x in enumerate(rule.inputs)
        if a != rule.spots[k][0] and not isinstance(x, TensorTuple)
    }
    evidence.scalars = {
        f"the op's {name}": float(value)
        for name, value in getattr(rule.op, "__dict__", {}).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    values = rule.values(rule.record()[1])
    if len(values) == 1:
        evidence.output = np.asarray(values[0], dtype=np.float64)
        evidence.out_grad = look.weights[0]
        evidence.again = lambda out_grad: np.asarray(rule.gradient([out_grad])[k], dtype=np.float64)


def _guess(rule: RuleProbe, look: Look, evidence: Evidence) -> str | None:
    """Where arguments were broadcast, a second look with all of one shape tells a wrong rule from a wrong sum."""
    guess = guess_of_numbers(evidence)
    wide = stretched(rule)
    if wide is None or (guess is not None and not guess.startswith("right except")):
        return guess
    fault = _fault_of(wide, 1, look.rng, look.tolerance, [])
    return "not summed over a broadcast axis" if fault is None or fault.finding is None else fault.guess
