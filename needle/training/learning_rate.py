"""The learning-rate range test: which rate to begin with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..storage import restore_states, snapshot
from .trainer import Trainer, in_mode

__all__ = ["LRSearch", "find_lr"]

MEMORY = 0.9  # of the running mean that smooths the loss
BLOWN_UP = 4.0  # times the lowest loss
WARM = 10  # steps until the running mean is worth comparing


class LRSearch(NamedTuple):
    """The rates tried, the smoothed loss at each, and a tenth of the rate at which it was lowest.

    That is a rule of thumb: by the lowest point the rate is about to be too high, and a noisy batch moves it little.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def find_lr(trainer: Trainer, loader: Any, low: float = 1e-6, high: float = 10.0, steps: int = 100) -> LRSearch:
    """Train one step at each of `steps` rates that rise from low to high (arXiv:1506.01186), until the loss blows up.

    Afterwards model, optimizer, schedule, loader and generators are as they were before. Callbacks are not called.
    Raises ValueError where the loss blew up too soon to tell.
    """
    if not 0 < low < high or steps < 5:
        raise ValueError(f"find_lr: wanted 0 < low < high and at least 5 steps, got {low}, {high} and {steps}")
    parts = {**trainer.parts(loader), "numpy_random": np.random}
    parts = {name: part for name, part in parts.items() if name != "loader" or hasattr(part, "load_state_dict")}
    before = snapshot(parts)
    try:
        with in_mode(trainer.model, training=True), np.errstate(all="ignore"):
            tried = list(_losses(Trainer(trainer.model, trainer.loss, trainer.optimizer), loader, low, high, steps))
    finally:
        restore_states(parts, before, "find_lr")
        trainer.optimizer.reset_grad()
    return _search(tried)


def _losses(trainer: Trainer, loader: Any, low: float, high: float, steps: int) -> Iterator[tuple[float, float]]:
    """(rate, smoothed loss) as long as it is worth going on."""
    batches, mean, best = _again_and_again(loader), 0.0, math.inf
    for i, rate in enumerate(np.geomspace(low, high, steps).tolist()):
        trainer.optimizer.lr = rate
        try:
            mean = MEMORY * mean + (1 - MEMORY) * trainer.step(next(batches))
        except FloatingPointError:
            return
        smooth = mean / (1 - MEMORY ** (i + 1))
        best = min(best, smooth)
        if i >= WARM and smooth > BLOWN_UP * best:
            return
        yield rate, smooth


def _again_and_again(loader: Any) -> Iterator[Any]:
    while True:
        batch = None
        for batch in loader:
            yield batch
        if batch is None:
            raise ValueError("find_lr: the loader gave no batch; was it an iterator that is used up?")


def _search(tried: list[tuple[float, float]]) -> LRSearch:
    if len(tried) < 5:
        raise ValueError(f"find_lr: the loss blew up after {len(tried)} steps; take a smaller `low`")
    rates, losses = map(list, zip(*tried, strict=True))
    return LRSearch(rates, losses, rates[losses.index(min(losses))] / 10)
