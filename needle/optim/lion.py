"""Lion: steps of one size, whatever the gradient's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd import Tensor
from ..ops import sign
from .optimizer import Optimizer
from .options import at_least_0, below_1, with_betas


class Lion(Optimizer):
    """Lion (arXiv:2302.06675): θ ← θ − lr·(sign(beta1·m + (1 − beta1)·grad) + weight_decay·θ).

    Afterwards m ← beta2·m + (1 − beta2)·grad, from m = 0. sign(0) = 0. Takes `betas=(beta1, beta2)` too.
    """

    lr, beta1, beta2, weight_decay = at_least_0(), below_1(), below_1(), at_least_0()
    slot_names = ("m",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        *,
        betas: tuple[float, float] | None = None,
    ):
        both = with_betas({"beta1": beta1, "beta2": beta2, "betas": betas})
        super().__init__(params, lr=lr, **both, weight_decay=weight_decay)

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        return {"m": 0.0}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        beta1, beta2, m = options["beta1"], options["beta2"], state["m"]
        d = sign(m * beta1 + g * (1 - beta1))
        m.data = m * beta2 + g * (1 - beta2)
        return d + p * options["weight_decay"] if options["weight_decay"] else d
