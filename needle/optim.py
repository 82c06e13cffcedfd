"""Optimizers: they turn gradients into new parameters."""

from __future__ import annotations

from collections.abc import Iterable
from sys import getrefcount
from typing import Any

from .autograd import Tensor, mark_written


class Optimizer:
    """Holds the parameters; `step` updates those that have a gradient, `reset_grad` forgets the gradients."""

    def __init__(self, params: Iterable[Tensor]):
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            met = type(params).__name__
            raise TypeError(f"{type(self).__name__}: wanted the parameters in a list or another iterable, got {met}")
        self.params = list(params)
        for i, p in enumerate(self.params):
            if not isinstance(p, Tensor) or not p.is_leaf():
                met = "the result of an op" if isinstance(p, Tensor) else f"a {type(p).__name__}"
                raise TypeError(f"{type(self).__name__}: parameter {i} is {met}, wanted a leaf Tensor")

    def step(self) -> None:
        raise NotImplementedError

    def reset_grad(self) -> None:
        for p in self.params:
            p.grad = None

    zero_grad = reset_grad


def _descend(p: Tensor, direction: Any, lr: float) -> None:
    """p ← p − lr·direction: in place where nobody else holds p's array, else in a new one, so that a snapshot
    (`p.data`, `p.detach()`) keeps its values."""
    if held_by(p) > ALONE or not p.device.add_scaled(p.cached_data, direction, -lr):
        update = direction * -lr
        update += p.cached_data
        p.cached_data = update
    mark_written(p)


def held_by(p: Tensor) -> int:
    return getrefcount(p.cached_data)


ALONE = held_by(Tensor([0.0]))


class SGD(Optimizer):
    """Stochastic gradient descent: θ ← θ − lr·u.

    g = grad + weight_decay·θ;  u ← momentum·u + (1 − momentum)·g, from u = 0;
    with nesterov the step is taken along momentum·u + (1 − momentum)·g.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(params)
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not 0 <= value or (name == "momentum" and value >= 1):
                raise ValueError(f"SGD: {name} must be {'in [0, 1)' if name == 'momentum' else '>= 0'}, got {value}")
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        self.lr, self.momentum, self.weight_decay, self.nesterov = lr, momentum, weight_decay, nesterov
        self.u: dict[Tensor, Any] = {}

    def step(self) -> None:
        for p in self.params:
            if p.grad is not None:
                _descend(p, self._direction(p, p.grad.cached_data), self.lr)

    def _direction(self, p: Tensor, g: Any) -> Any:
        if self.weight_decay:
            g = g + self.weight_decay * p.cached_data
        if not self.momentum:
            return g
        u = self.u.get(p, 0) * self.momentum + (1 - self.momentum) * g
        self.u[p] = u
        return u * self.momentum + (1 - self.momentum) * g if self.nesterov else u
