"""Learning rates that change as training goes on.

A schedule sets the options of its optimizer's groups when it is made, for t = 0, and at each `step()`, which adds one
to t. What it sets is a pure function of t and of the learning rate that the group had at first (`base`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .optimizer import Optimizer


class Schedule:
    """Base of all schedules with a formula: a subclass says in `at` what holds at step t."""

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{_type(self)}: wanted an optimizer, got {_type(optimizer)}")
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.t = 0
        self._set_options()

    def at(self, t: int, group: int) -> dict[str, float]:
        """The options of a group at step t, in terms of t and `base_lrs[group]`."""
        raise NotImplementedError(f"{_type(self)} has no at(t, group)")

    def step(self) -> None:
        self.t += 1
        self._set_options()

    def _set_options(self) -> None:
        for i, group in enumerate(self.optimizer.param_groups):
            group.update(self.at(self.t, i))

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where it is: plain numbers and lists. What it is, the constructor's arguments say."""
        return {"t": self.t, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` was taken, and set the options for it. ValueError, with nothing changed, where
        `saved` does not fit."""
        refuse_misfits(self, saved, self.misfits(saved))
        self.restore(saved)
        self._set_options()

    def misfits(self, saved: Any) -> list[str]:
        return misfits_of(saved, t=as_count, base_lrs=as_numbers(len(self.optimizer.param_groups)))

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.t, self.base_lrs = saved["t"], list(saved["base_lrs"])


class StepLR(Schedule):
    """lr(t) = base · gamma^⌊t/step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size, self.gamma = at_least(self, "step_size", step_size, 1), at_least(self, "gamma", gamma, 0)
        super().__init__(optimizer)

    def at(self, t: int, group: int) -> dict[str, float]:
        return {"lr": self.base_lrs[group] * self.gamma ** (t // self.step_size)}


class CosineLR(Schedule):
    """lr(t) = eta_min + (base − eta_min)·(1 + cos(π·t/T_max))/2 (arXiv:1608.03983, without restarts).

    It rises again after T_max, as PyTorch's CosineAnnealingLR does.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max, self.eta_min = at_least(self, "T_max", T_max, 1), at_least(self, "eta_min", eta_min, 0)
        super().__init__(optimizer)

    def at(self, t: int, group: int) -> dict[str, float]:
        return {"lr": between(self.base_lrs[group], self.eta_min, t / self.T_max)}


class WarmUp(Schedule):
    """A linear rise in front of another schedule: with f(t) what that one gives at its step t,
    lr(t) = f(0)·(start_factor + (1 − start_factor)·t/steps) while t < steps, then f(t − steps).

    Step this one only; it tells the other where it is. Given an optimizer, the rate stays as it is after the rise.
    """

    def __init__(self, schedule: Schedule | Optimizer, steps: int, start_factor: float = 1 / 3):
        if not isinstance(schedule, Schedule | Optimizer):
            raise TypeError(f"WarmUp: wanted an optimizer or a Schedule, which has a formula, got {_type(schedule)}")
        self.steps = at_least(self, "steps", steps, 1)
        self.start_factor = at_least(self, "start_factor", start_factor, 0)
        self.after = schedule if isinstance(schedule, Schedule) else Constant(schedule)
        super().__init__(self.after.optimizer)

    def at(self, t: int, group: int) -> dict[str, float]:
        if t >= self.steps:
            return self.after.at(t - self.steps, group)
        options = self.after.at(0, group)
        factor = self.start_factor + (1 - self.start_factor) * t / self.steps
        return {**options, "lr": options["lr"] * factor}

    def _set_options(self) -> None:
        self.after.t = max(0, self.t - self.steps)
        super()._set_options()

    def state_dict(self) -> dict[str, Any]:
        return {"t": self.t, "after": self.after.state_dict()}

    def misfits(self, saved: Any) -> list[str]:
        found = misfits_of(saved, t=as_count, after=lambda x: "" if isinstance(x, Mapping) else "a dict")
        return found or [f"after: {text}" for text in self.after.misfits(saved["after"])]

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.t = saved["t"]
        self.after.restore(saved["after"])


class Constant(Schedule):
    """lr(t) = base."""

    def at(self, t: int, group: int) -> dict[str, float]:
        return {"lr": self.base_lrs[group]}


class OneCycle(Schedule):
    """Up to max_lr, then down to nearly nothing, along cosines or lines (arXiv:1708.07120; PyTorch's OneCycleLR).

    With peak = pct_start·total_steps − 1, last = total_steps − 1, low = max_lr/div_factor and a(x, y, s) going from
    x to y as s goes from 0 to 1: lr(t) = a(low, max_lr, t/peak) while t ≤ peak, then
    a(max_lr, low/final_div_factor, (t − peak)/(last − peak)). cycle_momentum: momentum or beta1, whichever the
    optimizer has, goes from max_momentum to base_momentum and back meanwhile.
    max_lr: a number, or one for each group. After `last` all stays; ValueError from `step` after total_steps of them.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ):
        self.max_lr, self.total_steps = max_lr, at_least(self, "total_steps", total_steps, 1)
        self.pct_start = at_least(self, "pct_start", pct_start, 0)
        if pct_start > 1:
            raise ValueError(f"OneCycle: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycle: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.anneal = between if anneal_strategy == "cos" else on_a_line
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.momentum = self._name_of_momentum(optimizer) if cycle_momentum else None
        super().__init__(optimizer)

    @staticmethod
    def _name_of_momentum(optimizer: Optimizer) -> str:
        for name in ("momentum", "beta1"):
            if name in optimizer.defaults:
                return name
        raise ValueError(
            f"OneCycle: {_type(optimizer)} has neither momentum nor beta1 to cycle; say cycle_momentum=False"
        )

    def _peak_of(self, group: int) -> float:
        several = isinstance(self.max_lr, Sequence)
        if several and len(self.max_lr) != len(self.base_lrs):  # type: ignore[arg-type]
            raise ValueError(f"OneCycle: wanted one max_lr for each of {len(self.base_lrs)} groups, got {self.max_lr}")
        return at_least(self, "max_lr", self.max_lr[group] if several else self.max_lr, 0)  # type: ignore[index]

    def at(self, t: int, group: int) -> dict[str, float]:
        high = self._peak_of(group)
        low, peak, last = high / self.div_factor, self.pct_start * self.total_steps - 1, self.total_steps - 1
        if t <= peak:
            rising, s = True, t / peak if peak else 1.0
        else:
            rising, s = False, (min(t, last) - peak) / (last - peak)
        lr = self.anneal(low, high, s) if rising else self.anneal(high, low / self.final_div_factor, s)
        if self.momentum is None:
            return {"lr": lr}
        start, end = self.max_momentum, self.base_momentum
        return {"lr": lr, self.momentum: self.anneal(start, end, s) if rising else self.anneal(end, start, s)}

    def step(self) -> None:
        if self.t >= self.total_steps:
            raise ValueError(f"OneCycle: all {self.total_steps} steps were made; total_steps says how many there are")
        super().step()


class ReduceOnPlateau:
    """lr ← max(factor·lr, min_lr) each time `step(metric)` saw more than `patience` metrics in a row that are not
    better than the best one so far.

    Better (mode "min"): metric < best·(1 − threshold), or < best − threshold with threshold_mode "abs"; mode "max":
    metric > best·(1 + threshold), or > best + threshold. NaN is never better. After a reduction `cooldown` metrics
    count as good. A change of at most eps is left out. As PyTorch's ReduceLROnPlateau.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"ReduceOnPlateau: wanted an optimizer, got {_type(optimizer)}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            met = f"mode {mode!r} and threshold_mode {threshold_mode!r}"
            raise ValueError(f"ReduceOnPlateau: mode is 'min' or 'max', threshold_mode 'rel' or 'abs', got {met}")
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceOnPlateau: factor must be in [0, 1), got {factor}")
        self.optimizer, self.mode, self.factor, self.eps = optimizer, mode, float(factor), eps
        self.patience, self.cooldown = at_least(self, "patience", patience, 0), at_least(self, "cooldown", cooldown, 0)
        self.threshold, self.threshold_mode = at_least(self, "threshold", threshold, 0), threshold_mode
        self.min_lr = at_least(self, "min_lr", min_lr, 0)
        self.best: float | None = None
        self.bad, self.cooling = 0, 0

    def step(self, metric: Any) -> None:
        """Take a metric (a number or a one-element Tensor) into account."""
        value = float(metric)
        if self._is_better(value):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            self._reduce()
            self.cooling, self.bad = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value) and value != (math.inf if self.mode == "min" else -math.inf)
        margin = -self.threshold if self.mode == "min" else self.threshold
        bar = self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin
        return value < bar if self.mode == "min" else value > bar

    def _reduce(self) -> None:
        for group in self.optimizer.param_groups:
            lr = max(group["lr"] * self.factor, self.min_lr)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "bad": self.bad, "cooling": self.cooling, "lrs": self.get_last_lr()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` was taken, and set the learning rates of then. ValueError, with nothing changed,
        where it does not fit."""
        lrs = as_numbers(len(self.optimizer.param_groups))
        refuse_misfits(self, saved, misfits_of(saved, best=as_best, bad=as_count, cooling=as_count, lrs=lrs))
        self.best, self.bad, self.cooling = saved["best"], saved["bad"], saved["cooling"]
        for group, lr in zip(self.optimizer.param_groups, saved["lrs"], strict=True):
            group["lr"] = lr


# --- arithmetic ------------------------------------------------------------------------------------------------


def between(start: float, end: float, s: float) -> float:
    """From start to end along half a cosine, as s goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * s)) / 2


def on_a_line(start: float, end: float, s: float) -> float:
    return start + (end - start) * s


# --- what is given ---------------------------------------------------------------------------------------------


def _type(thing: Any) -> str:
    return type(thing).__name__


def at_least(schedule: Any, name: str, value: Any, least: int) -> Any:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{_type(schedule)}: {name} must be a number, got {value!r}")
    if not value >= least:
        raise ValueError(f"{_type(schedule)}: {name} must be at least {least}, got {value}")
    return value if isinstance(value, int) else float(value)


def as_count(value: Any) -> str:
    return "" if type(value) is int and value >= 0 else "a whole number >= 0"


def as_best(value: Any) -> str:
    return "" if value is None or type(value) in (int, float) else "a number or None"


def as_numbers(count: int) -> Any:
    def wanted(value: Any) -> str:
        right = isinstance(value, (list, tuple)) and len(value) == count and all(type(x) in (int, float) for x in value)
        return "" if right else f"a list of {count} number(s), one a parameter group"

    return wanted


def misfits_of(saved: Any, **checks: Any) -> list[str]:
    """What is wrong with `saved`; each check gives what it wanted of one entry, or nothing."""
    if not isinstance(saved, Mapping):
        return [f"it is a {_type(saved)}, wanted a dict"]
    found = [f"{name} is missing" for name in checks if name not in saved]
    found += [f"{name} is unknown" for name in saved if name not in checks]
    for name, check in checks.items():
        if name in saved and check(saved[name]):
            found.append(f"{name} is {saved[name]!r}, wanted {check(saved[name])}")
    return found


def refuse_misfits(schedule: Any, saved: Any, found: list[str]) -> None:
    if found:
        listed = "; ".join(found)
        raise ValueError(f"{_type(schedule)}.load_state_dict: nothing was changed, since it does not fit: {listed}")
