"""Things to give a Trainer: a metric and callbacks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["EarlyStopping", "accuracy", "print_epoch"]


def accuracy(output: Any, target: Any) -> float:
    """The share of rows whose largest score is their label's.   output (N, k), target (N,) -> number."""
    return float((output.numpy().argmax(-1) == target.numpy()).mean())


def print_epoch(trainer: Any) -> None:
    """A line for each epoch, as `epoch 3: loss 0.1234, valid_loss 0.2345, lr 0.01, seconds 4.2`."""
    print(f"epoch {trainer.epoch}:", ", ".join(f"{k} {v:.4g}" for k, v in trainer.rows[-1].items() if k != "epoch"))


class EarlyStopping:
    """Ends the training once `patience` epochs in a row brought no better number, and gives the model back its best.

    monitor: a column of the history. mode "min" or "max": which is better; by less than min_delta does not count.
    After the training the model has the parameters of the best epoch, however it ended; the checkpoint has the last.
    """

    def __init__(self, monitor: str = "valid_loss", patience: int = 5, mode: str = "min", min_delta: float = 0.0):
        if mode not in ("min", "max") or patience < 1 or min_delta < 0:
            given = f"{mode!r}, {patience} and {min_delta}"
            raise ValueError(
                f"EarlyStopping: wanted mode 'min' or 'max', patience from 1 and min_delta from 0, got {given}"
            )
        self.monitor, self.patience, self.mode, self.min_delta = monitor, patience, mode, min_delta
        self.best = math.inf if mode == "min" else -math.inf
        self.best_epoch = self.waited = 0
        self.parameters: Any = None

    def on_epoch_end(self, trainer: Any) -> None:
        number = trainer.latest(self.monitor)
        sign = 1 if self.mode == "min" else -1
        if sign * number < sign * self.best - self.min_delta:
            self.best, self.best_epoch, self.waited = number, trainer.epoch, 0
            self.parameters = trainer.model.state_dict()
        else:
            self.waited += 1
            trainer.stop = trainer.stop or self.waited >= self.patience

    def on_fit_end(self, trainer: Any) -> None:
        if self.parameters is not None:
            trainer.model.load_state_dict(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("best", "best_epoch", "waited", "parameters")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self.parameters = state["parameters"]
