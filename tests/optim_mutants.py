"""Broken optimizers and schedules: the usual mistakes, each a change of a few characters in one function.

The trajectory checks must catch every one (tests/test_optim.py). A mutant is data: add one by adding an entry.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from optim_check import BY_CLASS, PLATEAUS, SCHEDULES, check, check_plateau, check_schedule, ways

from needle import backend_numpy, kernels, optim
from needle.optim import muon, optimizer, schedules


@dataclass(frozen=True)
class Mutant:
    """`function` with `old`, which stands in its source once, replaced by `new`. shows: runs the checks, any of which
    may fail."""

    name: str
    function: Any
    old: str
    new: str
    shows: Callable[[], None]


MUTANTS: list[Mutant] = []


def mutant(name: str, function: Any, old: str, new: str, shows: Callable[[], None]) -> None:
    MUTANTS.append(Mutant(f"{function.__qualname__}: {name}", function, old, new, shows))


@contextmanager
def broken(one: Mutant) -> Iterator[None]:
    """Within it the function runs the changed source, wherever it was imported to."""
    source = textwrap.dedent(inspect.getsource(one.function))
    assert source.count(one.old) == 1, f"{one.name}: {one.old!r} stands {source.count(one.old)} times in the source"
    made: dict[str, Any] = {"Kernel": lambda function: function}
    exec(compile("from __future__ import annotations\n" + source.replace(one.old, one.new), one.name, "exec"), made)
    before = one.function.__code__
    one.function.__code__ = made[one.function.__name__].__code__
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        one.function.__code__ = before


def shows_in(*classes: type, way: str | None = None) -> Callable[[], None]:
    """Runs the trajectories of these optimizers, in one way or in all there are."""

    def run() -> None:
        for make in classes:
            for case in BY_CLASS[make]:
                for each in [way] if way else ways(case):
                    check(case, each)

    return run


def shows_in_schedules() -> None:
    for case in SCHEDULES:
        check_schedule(case)


def shows_in_plateaus() -> None:
    for settings in PLATEAUS.values():
        check_plateau(settings)


# --- what all share --------------------------------------------------------------------------------------------

IN_SGD, IN_ADAGRAD = shows_in(optim.SGD), shows_in(optim.Adagrad)

mutant("upwards", optimizer.descend, "add_scaled(x, d, -lr)", "add_scaled(x, d, lr)", IN_SGD)
mutant("no learning rate", optimizer.descend, "add_scaled(x, d, -lr)", "add_scaled(x, d, -1)", IN_SGD)
mutant("counts from 0", optimizer.count, "return t", "return t - 1", IN_ADAGRAD)
mutant("does not count", optimizer.count, "step.device.array(t,", "step.device.array(1,", IN_ADAGRAD)
mutant("counts by twos", optimizer.count, "+ 1", "+ 2", IN_ADAGRAD)
mutant("starts at 0", optimizer.new_slot, "p.shape, start", "p.shape, 0", IN_ADAGRAD)
mutant("those of the constructor", optim.Optimizer.options_of, "group[name] for", "self.defaults[name] for", IN_SGD)

# --- SGD -------------------------------------------------------------------------------------------------------

SGD = optim.SGD.direction
mutant("PyTorch's momentum", SGD, 'share = state["u"], 1 - momentum if', 'share = state["u"], 1.0 if', IN_SGD)
mutant("momentum and its rest swapped", SGD, "u.data = u * momentum", "u.data = u * (1 - momentum)", IN_SGD)
mutant("momentum kept for ever", SGD, "u.data = u * momentum", "u.data = u * 1", IN_SGD)
mutant("nothing remembered", SGD, "u.data = u * momentum + g * share", "u.data = g * share", IN_SGD)
mutant("step before momentum", SGD, "return u\n", "return g\n", IN_SGD)
mutant("nesterov forgotten", SGD, 'if not options["nesterov"]', 'if True or options["nesterov"]', IN_SGD)
mutant("nesterov always", SGD, 'if not options["nesterov"]', "if False", IN_SGD)
mutant("nesterov with the whole gradient", SGD, "u * momentum + g * share if", "u * momentum + g if", IN_SGD)
mutant("nesterov without momentum", SGD, "else g + u * momentum", "else g + u", IN_SGD)
mutant("first step damped", SGD, 'count(state["step"]) == 1', 'count(state["step"]) == 0', IN_SGD)
mutant("first two steps undamped", SGD, 'count(state["step"]) == 1', 'count(state["step"]) <= 2', IN_SGD)
mutant("first step undamped by contract too", SGD, "1 - momentum if dampening is None",
       '(1.0 if state["u"].norm().item() == 0 else 1 - momentum) if dampening is None', IN_SGD)  # fmt: skip
mutant("dampening ignored", SGD, "else 1 - dampening", "else 1", IN_SGD)
mutant("dampening for its rest", SGD, "else 1 - dampening", "else dampening", IN_SGD)
mutant("no decay", SGD, 'if options["weight_decay"]', 'if options["weight_decay"] < 0', IN_SGD)
mutant("decay upwards", SGD, "g + p * options", "g - p * options", IN_SGD)
mutant("decay halved", SGD, "g + p * options", "g + p * 0.5 * options", IN_SGD)

# --- Adam: the formula, the kernel, its twin in NumPy -----------------------------------------------------------

IN_OPS = shows_in(optim.Adam, optim.AdamW, way="ops")
IN_KERNEL = shows_in(optim.Adam, optim.AdamW, way="uncompiled")
IN_NUMPY = shows_in(optim.Adam, optim.AdamW, way="NumPy")
ADAM, KERNEL, TWIN = optim.Adam.direction, kernels.adam.function, backend_numpy._adam_block
DEVICE, UPDATE = backend_numpy.adam_factors, optim.Adam.update

mutant("correction one step late", ADAM, "(1 - beta1**t)", "(1 - beta1 ** (t + 1))", IN_OPS)
mutant("correction of v one step late", ADAM, "(1 - beta2**t)", "(1 - beta2 ** (t + 1))", IN_OPS)
mutant("no correction of m", ADAM, " / (1 - beta1**t)", "", IN_OPS)
mutant("no correction of v", ADAM, " / (1 - beta2**t)", "", IN_OPS)
mutant("one beta for both corrections", ADAM, "(1 - beta2**t)", "(1 - beta1**t)", IN_OPS)
mutant("eps inside the root", ADAM, ').sqrt() + options["eps"])', ' + options["eps"]).sqrt())', IN_OPS)
mutant("no eps", ADAM, ' + options["eps"]', "", IN_OPS)
mutant("no root", ADAM, ".sqrt()", "", IN_OPS)
mutant("v of g, not of its square", ADAM, "g * g * (1", "g * (1", IN_OPS)
mutant("v of m", ADAM, "v.data = v * beta2 + g * g", "v.data = v * beta2 + m * m", IN_OPS)
mutant("betas swapped", ADAM, "m.data = m * beta1 + g * (1 - beta1)", "m.data = m * beta2 + g * (1 - beta2)", IN_OPS)
mutant("rest of the other beta", ADAM, "g * (1 - beta1)", "g * (1 - beta2)", IN_OPS)
mutant("decay coupled where it is not", ADAM, "if decay and not self.decoupled", "if decay", IN_OPS)
mutant("coupled and decoupled swapped, first half", ADAM, "not self.decoupled", "self.decoupled", IN_OPS)
mutant("decoupled where it is coupled", ADAM, "if decay and self.decoupled else", "if decay else", IN_OPS)
mutant("no decay decoupled", ADAM, "d + p * decay if decay and self.decoupled else d", "d", IN_OPS)
mutant("decay before the moments only", ADAM, "d + p * decay", "d - p * decay", IN_OPS)

mutant("correction one step late", DEVICE, "(1 - beta1**t)", "(1 - beta1 ** (t + 1))", IN_KERNEL)
mutant("correction of v one step late", DEVICE, "(1 - beta2**t)", "(1 - beta2 ** (t + 1))", IN_KERNEL)
mutant("correction of v without root", DEVICE, "** -0.5", "** -1", IN_KERNEL)
mutant("coupled and decoupled swapped", DEVICE, "if decoupled", "if not decoupled", IN_KERNEL)
mutant("decay without learning rate", DEVICE, "1 - lr * weight_decay", "1 - weight_decay", IN_KERNEL)
mutant("t is not counted", UPDATE, 'count(state["step"])', "1", IN_KERNEL)
mutant("always coupled", UPDATE, "decoupled=self.decoupled", "decoupled=False", IN_KERNEL)

mutant(
    "eps inside the root", KERNEL, "(root * math.sqrt(v[i]) + eps)", "math.sqrt(root * root * v[i] + eps)", IN_KERNEL
)
mutant("eps corrected too", KERNEL, "root * math.sqrt(v[i]) + eps", "root * (math.sqrt(v[i]) + eps)", IN_KERNEL)
mutant("moments after the step", KERNEL, "rate * m[i] /", "rate * slope /", IN_KERNEL)
mutant("no square", KERNEL, "rest2 * slope * slope", "rest2 * abs(slope)", IN_KERNEL)
mutant("moments of the bare gradient", KERNEL, "g[i] + penalty * x[i]", "g[i]", IN_KERNEL)
mutant("no decay", KERNEL, "keep * x[i]", "x[i]", IN_KERNEL)
mutant("rests swapped", KERNEL, "rest1 * slope", "rest2 * slope", IN_KERNEL)
mutant("betas swapped", KERNEL, "beta1 * m[i]", "beta2 * m[i]", IN_KERNEL)

mutant("eps before the root", TWIN, "    b *= root\n    b += eps\n", "    b += eps\n    b *= root\n", IN_NUMPY)
mutant("no decay", TWIN, "    x *= keep\n", "", IN_NUMPY)
mutant("no penalty", TWIN, "multiply(x, penalty", "multiply(x, 0", IN_NUMPY)
mutant("v of the bare gradient", TWIN, "multiply(a, a, out=b)", "multiply(g, g, out=b)", IN_NUMPY)
mutant("m of the bare gradient", TWIN, "multiply(a, rest1", "multiply(g, rest1", IN_NUMPY)
mutant("no root", TWIN, "    numpy.sqrt(v, out=b)\n", "    b[...] = v\n", IN_NUMPY)
mutant("upwards", TWIN, "x -= a", "x += a", IN_NUMPY)

# --- RMSprop, Adagrad, Lion, Muon -------------------------------------------------------------------------------

RMS, IN_RMS = optim.RMSprop.direction, shows_in(optim.RMSprop)
mutant("alpha and its rest swapped", RMS, "v * alpha + g * g * (1 - alpha)", "v * (1 - alpha) + g * g * alpha", IN_RMS)
mutant("a sum, no average", RMS, "g * g * (1 - alpha)", "g * g", IN_RMS)
mutant("never centred", RMS, "(v - a * a)", "v", IN_RMS)
mutant("centred by a, not by its square", RMS, "v - a * a", "v - a * 0.5", IN_RMS)
mutant("centre not averaged", RMS, "a * alpha + g * (1 - alpha)", "g", IN_RMS)
mutant("eps inside the root", RMS, '(spread.sqrt() + options["eps"])', '(spread + options["eps"]).sqrt()', IN_RMS)
mutant("momentum of the contract", RMS, "u * momentum + d", "u * momentum + d * (1 - momentum)", IN_RMS)
mutant("momentum of the bare gradient", RMS, "u * momentum + d", "u * momentum + g", IN_RMS)
mutant("momentum forgotten", RMS, "return u", "return d", IN_RMS)
mutant("no decay", RMS, "g = g + p * options", "g = g + 0 * p * options", IN_RMS)

GRAD = optim.Adagrad.direction
mutant("an average, no sum", GRAD, "s + g * g", "(s + g * g) * 0.5", IN_ADAGRAD)
mutant("sum after the step", GRAD, "(s.sqrt()", "((s - g * g).abs().sqrt()", IN_ADAGRAD)
mutant("eps inside the root", GRAD, '(s.sqrt() + options["eps"])', '(s + options["eps"]).sqrt()', IN_ADAGRAD)
mutant("rate decays one step early", GRAD, "(t - 1)", "t", IN_ADAGRAD)
mutant("rate does not decay", GRAD, "(t - 1)", "0", IN_ADAGRAD)
mutant("no decay", GRAD, "g = g + p * options", "g = g + 0 * p * options", IN_ADAGRAD)

LION, IN_LION = optim.Lion.direction, shows_in(optim.Lion)
mutant("betas swapped", LION, "m * beta1 + g * (1 - beta1)", "m * beta2 + g * (1 - beta2)", IN_LION)
mutant("momentum as it was stepped along", LION, "m * beta2 + g * (1 - beta2)", "m * beta1 + g * (1 - beta1)", IN_LION)
mutant("no sign", LION, "d = sign(", "d = (", IN_LION)
mutant("sign of 0 is 1", LION, "sign(m", "sign(1e-300 + m", IN_LION)
mutant("no decay", LION, "d + p * options", "d + 0 * p * options", IN_LION)
mutant("remembers the sign", LION, "m * beta2 + g", "m * beta2 + d", IN_LION)
mutant("momentum first", LION, "    d = sign(m", "    m.data = m * beta2 + g * (1 - beta2)\n    d = sign(m", IN_LION)

MUON, NEWTON, IN_MUON = optim.Muon.direction, muon.orthogonalize, shows_in(optim.Muon)
mutant("nesterov forgotten", MUON, 'if options["nesterov"]', "if False", IN_MUON)
mutant("nesterov always", MUON, 'if options["nesterov"]', "if True", IN_MUON)
mutant("rows over columns", MUON, "columns / rows", "rows / columns", IN_MUON)
mutant("no size", MUON, " * max(1.0, columns / rows) ** 0.5", "", IN_MUON)
mutant("size without root", MUON, ") ** 0.5", ")", IN_MUON)
mutant("decay coupled", MUON, "d + p * options", "d * options", IN_MUON)
mutant("not made orthogonal", MUON, 'orthogonalize(d, options["ns_steps"], options["eps"])', "d", IN_MUON)
mutant("one step fewer", NEWTON, "range(steps)", "range(steps - 1)", IN_MUON)
mutant("not normalised", NEWTON, "x / maximum(x.norm(), eps)", "x * 1", IN_MUON)
mutant("coefficients swapped", NEWTON, "square * b + square @ square * c", "square * c + square @ square * b", IN_MUON)
mutant("square entry by entry", NEWTON, "square @ square * c", "square * square * c", IN_MUON)
mutant("tall one not turned back", NEWTON, "return x.T if tall else x", "return x.reshape(matrix.shape)", IN_MUON)

# --- schedules -------------------------------------------------------------------------------------------------

SCHEDULE_MUTANTS = [
    ("one step late", schedules.Schedule.step, "self.t += 1", "self.t += 2"),
    ("never set", schedules.Schedule.step, "self._set_options()", "pass"),
    ("rises with gamma inverted", schedules.StepLR.at, "self.gamma **", "(1 / self.gamma) **"),
    ("every step", schedules.StepLR.at, "t // self.step_size", "t / self.step_size"),
    ("one step early", schedules.StepLR.at, "t // self", "(t + 1) // self"),
    ("one rate for all groups", schedules.StepLR.at, "self.base_lrs[group]", "self.base_lrs[0]"),
    ("twice as fast", schedules.between, "math.pi * s", "2 * math.pi * s"),
    ("ends swapped", schedules.between, "end + (start - end)", "start + (end - start)"),
    ("not halved", schedules.between, "/ 2", "/ 1"),
    ("down to 0", schedules.CosineLR.at, "self.eta_min", "0.0"),
    ("one step early", schedules.CosineLR.at, "t / self", "(t + 1) / self"),
    ("one step shorter", schedules.WarmUp.at, "t >= self.steps", "t >= self.steps - 1"),
    ("rises from 0", schedules.WarmUp.at, "factor = self.start_factor +", "factor ="),
    ("the other goes on meanwhile", schedules.WarmUp.at, "t - self.steps", "t"),
    ("peak one step late", schedules.OneCycle.at, "self.total_steps - 1, self", "self.total_steps, self"),
    ("end one step late", schedules.OneCycle.at, ", self.total_steps - 1\n", ", self.total_steps\n"),
    ("on after the end", schedules.OneCycle.at, "min(t, last)", "t"),
    ("down to low only", schedules.OneCycle.at, "low / self.final_div_factor", "low"),
    ("from nearly nothing", schedules.OneCycle.at, "self.anneal(low, high", "self.anneal(0, high"),
    ("momentum the other way", schedules.OneCycle.at, "self.max_momentum, self.base_momentum",
     "self.base_momentum, self.max_momentum"),
    ("momentum still", schedules.OneCycle.at, "if self.momentum is None", "if True"),
    ("slope only", schedules.on_a_line, "start + (end - start) * s", "end * s"),
]  # fmt: skip
for what, function, old, new in SCHEDULE_MUTANTS:
    mutant(what, function, old, new, shows_in_schedules)

PLATEAU = schedules.ReduceOnPlateau
PLATEAU_MUTANTS = [
    ("patience one shorter", PLATEAU.step, "self.bad > self.patience", "self.bad >= self.patience"),
    ("patience for ever", PLATEAU.step, "self.best, self.bad = value, 0", "self.best, self.bad = value, self.bad"),
    ("best is the last", PLATEAU.step, "self.bad += 1\n",
     "self.bad, self.best = self.bad + 1, value\n"),
    ("never cools down", PLATEAU.step, "self.cooling, self.bad = self.cooldown, 0", "self.bad = 0"),
    ("cools for ever", PLATEAU.step, "self.cooling - 1, 0", "self.cooling, 0"),
    ("counts on after a reduction", PLATEAU.step, "self.cooldown, 0", "self.cooldown, self.bad"),
    ("modes swapped", PLATEAU._is_better, 'value < bar if self.mode == "min"', 'value < bar if self.mode == "max"'),
    ("threshold the other way", PLATEAU._is_better, "margin = -self", "margin = self"),
    ("threshold always relative", PLATEAU._is_better, 'if self.threshold_mode == "rel"', "if True"),
    ("threshold never relative", PLATEAU._is_better, 'if self.threshold_mode == "rel"', "if False"),
    ("infinity is the best", PLATEAU._is_better, 'value != (math.inf if', "value != 0 * (1 if"),
    ("no number is the best", PLATEAU._is_better, "not math.isnan(value) and", ""),
    ("no floor", PLATEAU._reduce, "self.min_lr)", "0)"),
    ("small changes too", PLATEAU._reduce, "> self.eps", "> 0"),
    ("factor subtracted", PLATEAU._reduce, 'group["lr"] * self.factor', 'group["lr"] * (1 - self.factor)'),
]  # fmt: skip
for what, function, old, new in PLATEAU_MUTANTS:
    mutant(what, function, old, new, shows_in_plateaus)
