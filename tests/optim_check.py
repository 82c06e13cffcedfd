"""Trajectories: what each optimizer does in 50 steps, beside its formula in NumPy and beside PyTorch.

A formula takes a parameter, its gradient, its own memory (a dict) and the learning rate, and gives the new parameter.
`check` runs needle against the formula; `in_torch` runs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import needle as ndl
from needle import kernels, optim

STEPS, TOLERANCE = 50, 1e-10
SHAPES = [(3, 4), (4,), (), (4, 3)]
MATRICES = [(3, 4), (4, 3), (5, 5)]


@dataclass(frozen=True)
class Case:
    """`make(params, **settings)` beside `formula(**settings)`; torch: the name there and what differs in settings."""

    make: type[optim.Optimizer]
    formula: Callable[..., Any]
    settings: dict[str, Any]
    torch: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]] | None = None
    shapes: list[tuple[int, ...]] = field(default_factory=lambda: SHAPES)

    @property
    def name(self) -> str:
        return " ".join([self.make.__name__, *(f"{name}={value}" for name, value in self.settings.items())])


def starts(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.random.default_rng((7, i)).standard_normal(shape) for i, shape in enumerate(shapes)]


def slope(x: np.ndarray, i: int, t: int) -> np.ndarray | None:
    """A gradient that depends on where we are and on chance. Parameter 1 has none at times, parameter 0 one of zeros
    at first in a column."""
    if i == 1 and t in (0, 4, 11):
        return None
    noise = np.random.default_rng((t, i)).standard_normal(x.shape)
    g = 0.5 * x + noise
    if i == 0 and t < 3:
        g[..., 0] = 0
    return g


def rate_at(lr: float, t: int) -> float:
    """The learning rate is halved half-way."""
    return lr if t < STEPS // 2 else lr / 2


def by_formula(case: Case) -> Iterator[list[np.ndarray]]:
    settings = dict(case.settings)
    lr, step = settings.pop("lr"), case.formula(**settings)
    xs, memories = starts(case.shapes), [{} for _ in case.shapes]
    for t in range(STEPS):
        for i, memory in enumerate(memories):
            g = slope(xs[i], i, t)
            xs[i] = xs[i] if g is None else step(xs[i], g, memory, rate_at(lr, t))
        yield list(xs)


def in_needle(case: Case, device: Any = None) -> Iterator[list[np.ndarray]]:
    where = {"device": device, "dtype": "float64"}
    params = [ndl.Tensor(x, **where) for x in starts(case.shapes)]
    optimizer = case.make(params, **case.settings)
    for t in range(STEPS):
        optimizer.lr = rate_at(case.settings["lr"], t)
        for i, p in enumerate(params):
            g = slope(p.numpy(), i, t)
            p.grad = None if g is None else ndl.Tensor(g, **where)
        optimizer.step()
        yield [p.numpy() for p in params]


def in_torch(case: Case, torch: Any) -> Iterator[list[np.ndarray]]:
    assert case.torch is not None
    name, settings = case.torch(case.settings)
    params = [torch.tensor(x, requires_grad=True) for x in starts(case.shapes)]
    optimizer = getattr(torch.optim, name)(params, **settings)
    for t in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate_at(settings["lr"], t)
        for i, p in enumerate(params):
            g = slope(p.detach().numpy(), i, t)
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
        yield [p.detach().numpy().copy() for p in params]


def compare(got: Iterator[list[np.ndarray]], wanted: Iterator[list[np.ndarray]]) -> None:
    for t, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            far = np.max(np.abs(x - y))
            assert x.shape == y.shape and far < TOLERANCE, f"parameter {i} is {far} off after step {t + 1}"


# --- ways to run an optimizer that has a kernel ----------------------------------------------------------------


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


WAYS = {
    "as installed": lambda: patched(kernels.Kernel, "get", kernels.Kernel.get),
    "NumPy": lambda: patched(kernels.Kernel, "get", lambda self: None),
    "uncompiled": lambda: patched(kernels.Kernel, "get", lambda self: self.function),
    "ops": lambda: patched(optim.Adam, "update", optim.Optimizer.update),
}


def ways(case: Case) -> list[str]:
    return list(WAYS) if issubclass(case.make, optim.Adam) else ["as installed"]


def check(case: Case, way: str = "as installed", device: Any = None) -> None:
    with WAYS[way]():
        compare(in_needle(case, device), by_formula(case))


# --- formulas --------------------------------------------------------------------------------------------------


def sgd(momentum=0.0, weight_decay=0.0, nesterov=False, dampening=None):
    def step(x, g, memory, lr):
        g = g + weight_decay * x
        if momentum and dampening is None:
            u = memory["u"] = momentum * memory.get("u", 0) + (1 - momentum) * g
            g = momentum * u + (1 - momentum) * g if nesterov else u
        elif momentum:
            u = memory["u"] = momentum * memory["u"] + (1 - dampening) * g if "u" in memory else g
            g = g + momentum * u if nesterov else u
        return x - lr * g

    return step


def adam(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False):
    def step(x, g, memory, lr):
        shrunk = x - lr * weight_decay * x if decoupled else x
        g = g if decoupled else g + weight_decay * x
        t = memory["t"] = memory.get("t", 0) + 1
        m = memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
        v = memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g**2
        return shrunk - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)

    return step


def rmsprop(alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    def step(x, g, memory, lr):
        g = g + weight_decay * x
        v = memory["v"] = alpha * memory.get("v", 0) + (1 - alpha) * g**2
        a = memory["a"] = alpha * memory.get("a", 0) + (1 - alpha) * g
        d = g / (np.sqrt(v - a**2 if centered else v) + eps)
        u = memory["u"] = momentum * memory.get("u", 0) + d
        return x - lr * u

    return step


def adagrad(lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    def step(x, g, memory, lr):
        g = g + weight_decay * x
        t = memory["t"] = memory.get("t", 0) + 1
        s = memory["s"] = memory.get("s", initial_accumulator_value) + g**2
        return x - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s) + eps)

    return step


def lion(beta1=0.9, beta2=0.99, weight_decay=0.0):
    def step(x, g, memory, lr):
        m = memory.get("m", 0)
        memory["m"] = beta2 * m + (1 - beta2) * g
        return x - lr * (np.sign(beta1 * m + (1 - beta1) * g) + weight_decay * x)

    return step


def muon(momentum=0.95, nesterov=True, weight_decay=0.1, ns_steps=5, eps=1e-7):
    """Through the singular values: a Newton-Schulz step takes each s to a·s + b·s³ + c·s⁵."""

    def step(x, g, memory, lr):
        u = memory["u"] = momentum * memory.get("u", 0) + (1 - momentum) * g
        d = momentum * u + (1 - momentum) * g if nesterov else u
        left, s, right = np.linalg.svd(d, full_matrices=False)
        s = s / max(np.sqrt(np.sum(s**2)), eps)
        for _ in range(ns_steps):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        size = np.sqrt(max(1, x.shape[1] / x.shape[0]))
        return x - lr * size * (left * s) @ right - lr * weight_decay * x

    return step


# --- cases -----------------------------------------------------------------------------------------------------


def in_torch_sgd(s: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Ours from theirs: u_ours = (1 − momentum)·u_theirs, where PyTorch does not dampen."""
    if s.get("dampening") is not None:
        return "SGD", s
    return "SGD", {**s, "lr": s["lr"] * (1 - s.get("momentum", 0))}


def in_torch_adam(s: dict[str, Any], name: str = "Adam") -> tuple[str, dict[str, Any]]:
    rest = {key: value for key, value in s.items() if not key.startswith("beta")}
    return name, {**rest, "betas": (s.get("beta1", 0.9), s.get("beta2", 0.999))}


def in_torch_adamw(s: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return in_torch_adam(s, "AdamW")


def adamw(**settings):
    return adam(**{"weight_decay": 0.01, **settings}, decoupled=True)


SGD, ADAM, ADAMW = optim.SGD, optim.Adam, optim.AdamW
CASES = [
    Case(SGD, sgd, {"lr": 0.1}, in_torch_sgd),
    Case(SGD, sgd, {"lr": 0.1, "weight_decay": 0.05}, in_torch_sgd),
    Case(SGD, sgd, {"lr": 0.1, "momentum": 0.9}, in_torch_sgd),
    Case(SGD, sgd, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.05, "nesterov": True}, in_torch_sgd),
    Case(SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0}, in_torch_sgd),
    Case(SGD, sgd, {"lr": 0.1, "momentum": 0.7, "dampening": 0.3, "weight_decay": 0.05}, in_torch_sgd),
    Case(SGD, sgd, {"lr": 0.05, "momentum": 0.9, "dampening": 0, "nesterov": True}, in_torch_sgd),
    Case(ADAM, adam, {"lr": 0.1}, in_torch_adam),
    Case(ADAM, adam, {"lr": 0.02, "beta1": 0.7, "beta2": 0.9, "eps": 0.1}, in_torch_adam),
    Case(ADAM, adam, {"lr": 0.02, "beta1": 0.0, "beta2": 0.5, "weight_decay": 0.2}, in_torch_adam),
    Case(ADAMW, adamw, {"lr": 0.1}, in_torch_adamw),
    Case(ADAMW, adamw, {"lr": 0.02, "beta1": 0.7, "beta2": 0.9, "eps": 0.1, "weight_decay": 0.3}, in_torch_adamw),
    Case(optim.RMSprop, rmsprop, {"lr": 0.02}, lambda s: ("RMSprop", s)),
    Case(optim.RMSprop, rmsprop, {"lr": 0.02, "alpha": 0.8, "eps": 0.1, "momentum": 0.7}, lambda s: ("RMSprop", s)),
    Case(optim.RMSprop, rmsprop, {"lr": 0.02, "centered": True, "weight_decay": 0.2}, lambda s: ("RMSprop", s)),
    Case(optim.RMSprop, rmsprop, {"lr": 0.02, "centered": True, "momentum": 0.5}, lambda s: ("RMSprop", s)),
    Case(optim.Adagrad, adagrad, {"lr": 0.1}, lambda s: ("Adagrad", s)),
    Case(optim.Adagrad, adagrad, {"lr": 0.1, "lr_decay": 0.1, "eps": 0.1, "weight_decay": 0.2,
                                  "initial_accumulator_value": 0.3}, lambda s: ("Adagrad", s)),
    Case(optim.Lion, lion, {"lr": 0.01}),
    Case(optim.Lion, lion, {"lr": 0.01, "beta1": 0.6, "beta2": 0.8, "weight_decay": 0.2}),
    Case(optim.Muon, muon, {"lr": 0.02}, shapes=MATRICES),
    Case(optim.Muon, muon, {"lr": 0.02, "momentum": 0.8, "nesterov": False, "weight_decay": 0.0, "ns_steps": 3},
         shapes=MATRICES),
]  # fmt: skip
BY_CLASS = {make: [case for case in CASES if case.make is make] for make in {case.make for case in CASES}}


# --- schedules -------------------------------------------------------------------------------------------------

RATES = (0.1, 0.02)  # of two parameter groups


@dataclass(frozen=True)
class ScheduleCase:
    """`make(optimizer)` beside `formula(t, base)` for the learning rate, and PyTorch's from (lr_scheduler, optimizer).
    momentum: its formula of t, where that is scheduled too."""

    name: str
    make: Callable[[optim.Optimizer], optim.Schedule]
    formula: Callable[[int, float], float]
    torch: Callable[[Any, Any], Any]
    steps: int = 30  # the last of which is past the end of a cycle, where PyTorch's curve turns round
    momentum: Callable[[int], float] | None = None


def cosine(start: float, end: float, s: float) -> float:
    return end + (start - end) * 0.5 * (1 + np.cos(np.pi * s))


def warm_cosine_torch(L: Any, o: Any) -> Any:
    parts = [L.LinearLR(o, 0.2, total_iters=5), L.CosineAnnealingLR(o, 20, 0.001)]
    return L.SequentialLR(o, parts, milestones=[5])


def one_cycle(t: int, _: float) -> float:  # 20 steps: up until 5, the peak of 0.3·20 − 1, then down until 19
    return cosine(0.04, 1.0, t / 5) if t <= 5 else cosine(1.0, 4e-6, (min(t, 19) - 5) / 14)


def one_cycle_line(t: int, _: float) -> float:
    return 0.1 + 0.9 * t / 9 if t <= 9 else 1 - 0.99 * (min(t, 19) - 9) / 10


SCHEDULES = [
    ScheduleCase("StepLR", lambda o: optim.StepLR(o, 4, 0.5), lambda t, base: base * 0.5 ** (t // 4),
                 lambda L, o: L.StepLR(o, 4, 0.5)),
    ScheduleCase("StepLR as it comes", lambda o: optim.StepLR(o, 7), lambda t, base: base * 0.1 ** (t // 7),
                 lambda L, o: L.StepLR(o, 7)),
    ScheduleCase("CosineLR", lambda o: optim.CosineLR(o, 20, 0.001),
                 lambda t, base: 0.001 + (base - 0.001) * (1 + np.cos(np.pi * t / 20)) / 2,
                 lambda L, o: L.CosineAnnealingLR(o, 20, 0.001)),
    ScheduleCase("WarmUp", lambda o: optim.WarmUp(o, 6), lambda t, base: base * (1 / 3 + 2 / 3 * min(t, 6) / 6),
                 lambda L, o: L.LinearLR(o, 1 / 3, total_iters=6)),
    ScheduleCase("WarmUp and CosineLR", lambda o: optim.WarmUp(optim.CosineLR(o, 20, 0.001), 5, 0.2),
                 lambda t, base: base * (0.2 + 0.8 * t / 5) if t < 5 else cosine(base, 0.001, (t - 5) / 20),
                 warm_cosine_torch),
    ScheduleCase("OneCycle", lambda o: optim.OneCycle(o, 1.0, 20), one_cycle, lambda L, o: L.OneCycleLR(o, 1.0, 20), 20,
                 lambda t: cosine(0.95, 0.85, t / 5) if t <= 5 else cosine(0.85, 0.95, (min(t, 19) - 5) / 14)),
    ScheduleCase("OneCycle along lines",
                 lambda o: optim.OneCycle(o, 1.0, 20, 0.5, "linear", False, div_factor=10, final_div_factor=10),
                 one_cycle_line,
                 lambda L, o: L.OneCycleLR(o, 1.0, 20, None, None, 0.5, "linear", False, div_factor=10,
                                           final_div_factor=10), 20),
]  # fmt: skip


def two_groups() -> optim.SGD:
    groups = [{"params": [ndl.Tensor([1.0])], "lr": lr} for lr in RATES]
    return optim.SGD(groups, momentum=0.9)


def check_schedule(case: ScheduleCase) -> None:
    optimizer = two_groups()
    schedule = case.make(optimizer)
    for t in range(case.steps + 1):
        for base, group in zip(RATES, optimizer.param_groups, strict=True):
            near(group["lr"], case.formula(t, base), f"lr at t = {t}")
            near(group["momentum"], case.momentum(t) if case.momentum else 0.9, f"momentum at t = {t}")
        if t < case.steps:
            schedule.step()


def near(got: float, wanted: float, what: str) -> None:
    assert abs(got - wanted) < 1e-12, f"{what} is {got}, wanted {wanted}"


# mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps
PLATEAUS = {
    "as it comes": {},
    "impatient": {"patience": 1, "factor": 0.5},
    "cooled": {"patience": 0, "cooldown": 2, "factor": 0.5},
    "up": {"mode": "max", "patience": 2, "factor": 0.3, "threshold": 0.1},
    "coarse": {"threshold": 0.4, "patience": 1, "factor": 0.5},
    "absolute": {"threshold_mode": "abs", "threshold": 0.3, "patience": 1},
    "absolute up": {"threshold_mode": "abs", "threshold": 0.3, "patience": 1, "mode": "max"},
    "floor": {"patience": 0, "min_lr": 0.01, "factor": 0.5},
    "small changes left out": {"patience": 0, "factor": 0.5, "eps": 0.003},
}


def metrics(mode: str) -> list[float]:
    """They fall, tremble, rise, tremble, fall; two are no numbers and one is infinite."""
    rng = np.random.default_rng(3)
    level = np.concatenate([np.linspace(3, 1, 15), np.full(15, 1.0), np.linspace(1, 2, 10), np.linspace(2, 0.5, 10)])
    noisy = [float(x) for x in level + 0.1 * rng.standard_normal(50)]
    return [float("nan"), float("inf" if mode == "min" else "-inf"), *noisy[:20], float("nan"), *noisy[20:]]


def plateau_by_formula(mode="min", factor=0.1, patience=10, threshold=1e-4, threshold_mode="rel", cooldown=0,
                       min_lr=0.0, eps=1e-8):  # fmt: skip
    """PyTorch's rule, written out: the two learning rates after each metric."""
    sign = 1 if mode == "min" else -1
    rates, best, bad, rest, told = list(RATES), sign * float("inf"), 0, 0, []
    for value in metrics(mode):
        bar = best * (1 - sign * threshold) if threshold_mode == "rel" else best - sign * threshold
        if sign * value < sign * bar:
            best, bad = value, 0
        else:
            bad += 1
        if rest > 0:
            rest, bad = rest - 1, 0
        if bad > patience:
            wanted = [max(lr * factor, min_lr) for lr in rates]
            rates = [new if lr - new > eps else lr for lr, new in zip(rates, wanted, strict=True)]
            bad, rest = 0, cooldown
        told.append(list(rates))
    return told


def check_plateau(settings: dict[str, Any]) -> None:
    optimizer = two_groups()
    schedule = optim.ReduceOnPlateau(optimizer, **settings)
    for i, (value, wanted) in enumerate(zip(metrics(schedule.mode), plateau_by_formula(**settings), strict=True)):
        schedule.step(value)
        for group, lr in zip(optimizer.param_groups, wanted, strict=True):
            near(group["lr"], lr, f"lr after metric {i}")
