"""Adam, and AdamW, which differs in where the weights decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd import Tensor, mark_written
from .optimizer import Optimizer, count, own_array
from .options import at_least_0, below_1, with_betas


class Adam(Optimizer):
    """Adam (arXiv:1412.6980): θ ← θ − lr·m̂/(√v̂ + eps).

    g = grad + weight_decay·θ, an L2 penalty;  m ← beta1·m + (1 − beta1)·g;  v ← beta2·v + (1 − beta2)·g²;
    m̂ = m/(1 − beta1ᵗ), v̂ = v/(1 − beta2ᵗ); t counts each parameter's updates, from 1.
    `betas=(beta1, beta2)`, PyTorch's way to give the two, is taken too.
    """

    lr, beta1, beta2, eps, weight_decay = at_least_0(), below_1(), below_1(), at_least_0(), at_least_0()
    decoupled = False
    slot_names = ("step", "m", "v")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        betas: tuple[float, float] | None = None,
    ):
        both = with_betas({"beta1": beta1, "beta2": beta2, "betas": betas})
        super().__init__(params, lr=lr, **both, eps=eps, weight_decay=weight_decay)

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        return {"step": 0, "m": 0.0, "v": 0.0}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        beta1, beta2, decay = options["beta1"], options["beta2"], options["weight_decay"]
        m, v, t = state["m"], state["v"], count(state["step"])
        if decay and not self.decoupled:
            g = g + p * decay
        m.data = m * beta1 + g * (1 - beta1)
        v.data = v * beta2 + g * g * (1 - beta2)
        d = m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + options["eps"])
        return d + p * decay if decay and self.decoupled else d

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> None:
        """The same in one pass over memory, which the device has for this formula."""
        m, v, t = state["m"], state["v"], count(state["step"])
        arrays = (own_array(p), g.cached_data, own_array(m), own_array(v))
        p.device.adam(arrays, t, **options, decoupled=self.decoupled)
        for tensor in (p, m, v):
            mark_written(tensor)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (arXiv:1711.05101):
    θ ← θ − lr·(m̂/(√v̂ + eps) + weight_decay·θ), with m and v of the bare gradient; see Adam."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        betas: tuple[float, float] | None = None,
    ):
        super().__init__(params, lr, beta1, beta2, eps, weight_decay, betas=betas)
