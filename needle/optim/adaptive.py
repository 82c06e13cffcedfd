"""RMSprop and Adagrad: each entry's rate is divided by the size of its past gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd import Tensor
from .optimizer import Optimizer, count
from .options import at_least_0, below_1, flag


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012, as PyTorch has it): θ ← θ − lr·u.

    g = grad + weight_decay·θ;  v ← alpha·v + (1 − alpha)·g²;  u ← momentum·u + g/(√v + eps);
    centered: √max(v − a², 0) for √v, with a ← alpha·a + (1 − alpha)·g.
    """

    lr, alpha, eps, weight_decay = at_least_0(), below_1(), at_least_0(), at_least_0()
    momentum, centered = at_least_0(), flag()
    slot_names = ("v", "a", "u")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        more = {"weight_decay": weight_decay, "momentum": momentum, "centered": centered}
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, **more)

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        wanted = {"v": True, "a": options["centered"], "u": options["momentum"]}
        return {name: 0.0 for name, is_wanted in wanted.items() if is_wanted}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        alpha, momentum, v = options["alpha"], options["momentum"], state["v"]
        if options["weight_decay"]:
            g = g + p * options["weight_decay"]
        v.data = v * alpha + g * g * (1 - alpha)
        spread: Tensor = v
        if options["centered"]:
            a = state["a"]
            a.data = a * alpha + g * (1 - alpha)
            spread = (v - a * a).clip(0.0)  # rounding takes it below 0 where gradients do not vary
        d = g / (spread.sqrt() + options["eps"])
        if not momentum:
            return d
        u = state["u"]
        u.data = u * momentum + d
        return u


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011, as PyTorch has it): θ ← θ − lr/(1 + (t − 1)·lr_decay)·g/(√s + eps).

    g = grad + weight_decay·θ;  s ← s + g², from s = initial_accumulator_value; t counts each parameter's updates.
    """

    lr, lr_decay, weight_decay = at_least_0(), at_least_0(), at_least_0()
    initial_accumulator_value, eps = at_least_0(), at_least_0()
    slot_names = ("step", "s")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        start = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps, **start)

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        return {"step": 0, "s": options["initial_accumulator_value"]}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        s, t = state["s"], count(state["step"])
        if options["weight_decay"]:
            g = g + p * options["weight_decay"]
        s.data = s + g * g
        return g / (s.sqrt() + options["eps"]) / (1 + (t - 1) * options["lr_decay"])
