"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd import Tensor
from .optimizer import Optimizer, count
from .options import at_least_0, below_1, flag


class SGD(Optimizer):
    """Stochastic gradient descent: θ ← θ − lr·u.

    g = grad + weight_decay·θ;  u ← momentum·u + (1 − momentum)·g, from u = 0;
    with nesterov the step is taken along momentum·u + (1 − momentum)·g.
    A number for `dampening` chooses PyTorch's rule: u ← momentum·u + (1 − dampening)·g, at first u = g undamped; with
    nesterov, which wants dampening 0, along g + momentum·u. Without momentum u = g in both.
    """

    lr, momentum, weight_decay = at_least_0(), below_1(), at_least_0()
    nesterov, dampening = flag(), at_least_0(optional=True)
    slot_names = ("step", "u")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        dampening: float | None = None,
    ):
        super().__init__(
            params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, dampening=dampening
        )

    def check_together(self, options: dict[str, Any]) -> None:
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        if options["nesterov"] and options["dampening"]:
            raise ValueError(f"SGD: nesterov needs dampening None or 0, got {options['dampening']}")

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        if not options["momentum"]:
            return {}
        return {"u": 0.0} if options["dampening"] is None else {"step": 0, "u": 0.0}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        momentum, dampening = options["momentum"], options["dampening"]
        if options["weight_decay"]:
            g = g + p * options["weight_decay"]
        if not momentum:
            return g
        u, share = state["u"], 1 - momentum if dampening is None else 1 - dampening
        if dampening is not None and count(state["step"]) == 1:
            share = 1.0
        u.data = u * momentum + g * share
        if not options["nesterov"]:
            return u
        return u * momentum + g * share if dampening is None else g + u * momentum
