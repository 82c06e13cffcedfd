"""Muon: momentum, made orthogonal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd import Tensor
from ..ops import maximum
from .optimizer import Optimizer
from .options import at_least_0, below_1, flag, whole

# Of x ← a·x + b·x³ + c·x⁵, on singular values. The slope at 0 is what they were chosen for (Jordan 2024), not
# convergence: singular values end between about 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """Near U·Vᵀ of matrix = U·S·Vᵀ, by `steps` Newton-Schulz steps: X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ, from
    X = matrix/max(‖matrix‖, eps). matrix (m, n)."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # so that A is the smaller of the two products
    x = x / maximum(x.norm(), eps)
    for _ in range(steps):
        square = x @ x.T
        x = x * a + (square * b + square @ square * c) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Muon (Jordan et al. 2024): θ ← θ − lr·(√max(1, n/m)·orthogonalize(d) + weight_decay·θ) for θ of shape (m, n).

    u ← momentum·u + (1 − momentum)·grad;  d = momentum·u + (1 − momentum)·grad with nesterov, else u.
    Our weights are (in, out), so n/m is the paper's rows over columns. All is computed in θ's dtype.
    Matrices only: ValueError for any other parameter. Give those, and usually embeddings and the last layer, to AdamW.
    """

    lr, weight_decay, momentum = at_least_0(), at_least_0(), below_1()
    nesterov, eps, ns_steps = flag(), at_least_0(), whole()
    slot_names = ("u",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        eps: float = 1e-7,
        ns_steps: int = 5,
    ):
        more = {"nesterov": nesterov, "eps": eps, "ns_steps": ns_steps}
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum, **more)

    def _check_parameters(self, params: list[Any]) -> None:
        super()._check_parameters(params)
        wrong = [f"{i} {p.shape}" for i, p in enumerate(params, start=len(self.params)) if p.ndim != 2]
        if wrong:
            listed = ", ".join(wrong)
            raise ValueError(f"Muon: wanted matrices, got parameter {listed}; give parameters of other shapes to AdamW")

    def slots(self, options: dict[str, Any]) -> dict[str, float]:
        return {"u": 0.0}

    def direction(self, p: Tensor, g: Tensor, state: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
        momentum, u = options["momentum"], state["u"]
        u.data = u * momentum + g * (1 - momentum)
        d = u * momentum + g * (1 - momentum) if options["nesterov"] else u
        rows, columns = p.shape
        d = orthogonalize(d, options["ns_steps"], options["eps"]) * max(1.0, columns / rows) ** 0.5
        return d + p * options["weight_decay"] if options["weight_decay"] else d
