"""A training loop to share: epochs, metrics, checkpoints that it resumes from to the bit, callbacks, a history.

The loop itself is `_epoch` and `step`; by hand it takes four lines:

    for x, y in loader:
        optimizer.reset_grad()
        loss(model(x), y).backward()
        optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..modes import no_grad
from ..progress import progress
from ..storage import StorageError, read_checkpoint, restore_parts, save_checkpoint, snapshot
from .history import LOGS, as_columns, write_log

__all__ = ["EVENTS", "Trainer", "in_mode"]

EVENTS = ("on_fit_begin", "on_epoch_begin", "on_gradients", "on_batch_end", "on_epoch_end", "on_fit_end")
SAVED = {"epoch": int, "batch": int, "totals": dict, "rows": list, "stop": bool}  # of itself, in a checkpoint
TAKEN = ("epoch", "items", "loss", "lr", "seconds")


@contextmanager
def in_mode(model: Any, training: bool) -> Iterator[None]:
    """Within it the whole model trains, or does not; afterwards each layer is as it was, frozen ones frozen."""
    modules = [module for _, module in model.named_modules()] if hasattr(model, "named_modules") else [model]
    before = [module.training for module in modules]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode


class Trainer:
    """Trains `model` by `optimizer` on loss(model(*inputs), target), for batches (*inputs, target).

    metrics: functions of (output, target) by name. They and the loss are means over a batch; an epoch's number is
    their mean over all items. schedule_on: after each "epoch" or each "batch" the schedule's step() is called, or after
    each epoch step(number) with the history's number of that name, such as "valid_loss". callbacks: functions of the
    trainer, called after each epoch, or objects with methods named in EVENTS; `trainer.stop = True` ends the training
    after the epoch. checkpoint: a file, written after each epoch and every `checkpoint_every` batches. log: a .csv or
    .jsonl file of the history.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable[[Any, Any], Any],
        optimizer: Any,
        *,
        schedule: Any = None,
        schedule_on: str = "epoch",
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        callbacks: Sequence[Any] = (),
        checkpoint: Any = None,
        checkpoint_every: int = 0,
        log: Any = None,
    ):
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.schedule, self.schedule_on = schedule, schedule_on
        self.metrics, self.callbacks = dict(metrics or {}), [_checked(callback) for callback in callbacks]
        self.checkpoint, self.checkpoint_every, self.log = checkpoint, checkpoint_every, log
        if taken := [name for name in self.metrics if name in TAKEN or name.startswith("valid_")]:
            raise ValueError(f"Trainer: a metric cannot be named {taken[0]}, which means something else already")
        if log is not None and Path(log).suffix not in LOGS:
            raise ValueError(f"Trainer: log must end in {' or '.join(LOGS)}, got {log}")
        self.epoch = self.batch = 0  # whole epochs done, and batches of the one begun
        self.totals: dict[str, float] = {}  # of that one: sums over its items
        self.rows: list[dict[str, Any]] = []  # the history, a dict an epoch
        self.stop = False
        self._parts: dict[str, Any] = {}

    @property
    def history(self) -> dict[str, list]:
        """A list for each column: a number for each epoch, None where it was not taken."""
        return as_columns(self.rows)

    def fit(self, train_loader: Any, epochs: int, valid_loader: Any = None, resume: bool = True) -> dict[str, list]:
        """Train until `epochs` epochs are done, those before included; returns the history.

        Where the checkpoint is there, goes on from it, as if there had been no interruption: resume=False begins anew.
        Raises StorageError for a checkpoint of another model, FloatingPointError where the loss is not finite.
        """
        if not isinstance(epochs, int):
            raise TypeError(f"Trainer.fit: epochs must be a whole number, got {epochs!r}")
        self.batch, self.totals, self.stop = 0, {}, False
        if not resume:
            self.epoch, self.rows = 0, []
        self._parts = self.parts(train_loader, valid_loader)
        if self.checkpoint is not None:
            snapshot(self._parts)  # better a complaint now than after an hour
            if resume and Path(self.checkpoint).exists():
                self.load()
        self._tell("on_fit_begin")
        while self.epoch < epochs and not self.stop:
            self._epoch(train_loader, epochs, valid_loader)
        self._tell("on_fit_end")
        return self.history

    def evaluate(self, loader: Iterable) -> dict[str, float]:
        """Loss and metrics over all items, in eval mode."""
        totals: dict[str, float] = {}
        with in_mode(self.model, training=False), no_grad():
            for batch in loader:
                output, loss = self._forward(batch)
                self._count(totals, loss.item(), output, batch[-1])
        return _means(totals)

    def latest(self, column: str) -> float:
        """The number of the last epoch. KeyError where the history has no such column."""
        if column not in self.rows[-1]:
            raise KeyError(f"Trainer: the history has no {column!r}; it has {', '.join(self.rows[-1])}")
        return self.rows[-1][column]

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, extra={name: getattr(self, name) for name in SAVED}, **self._parts)

    def load(self) -> None:
        """Go on from the checkpoint. StorageError, and nothing changes, where it is not of a Trainer."""
        state = read_checkpoint(self.checkpoint)["state"]
        found = state.get("extra")
        if "schedule" in state and "schedule" not in self._parts:
            raise StorageError(f"{self.checkpoint}: is of a training with a schedule, which this Trainer has not")
        if not isinstance(found, dict) or {n: type(v) for n, v in found.items()} != SAVED or found["epoch"] < 0:
            raise StorageError(f"{self.checkpoint}: is no checkpoint of a Trainer; name another file, or remove it")
        parts = {**self._parts, "numpy_random": np.random}
        for name, value in restore_parts(parts, state, self.checkpoint).items():
            setattr(self, name, value)

    # --- the loop ---

    def _epoch(self, loader: Any, epochs: int, valid_loader: Any) -> None:
        begun = perf_counter()
        self.model.train()
        self._tell("on_epoch_begin")
        left = len(loader) - self.batch if hasattr(loader, "__len__") else None
        for batch in progress(loader, total=left, desc=f"epoch {self.epoch + 1}/{epochs}", unit="batch"):
            self.step(batch)
            self.batch += 1
            if self.schedule is not None and self.schedule_on == "batch":
                self.schedule.step()
            self._tell("on_batch_end")
            if self.checkpoint is not None and self.checkpoint_every and self.batch % self.checkpoint_every == 0:
                self.save()
        row = {"epoch": self.epoch + 1, **_means(self.totals)}
        if valid_loader is not None:
            row |= {f"valid_{name}": value for name, value in self.evaluate(valid_loader).items()}
        if hasattr(self.optimizer, "lr"):  # not where parameter groups differ in it
            row["lr"] = float(self.optimizer.lr)
        self.rows.append(row | {"seconds": perf_counter() - begun})
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, {}
        if self.schedule is not None and self.schedule_on != "batch":
            self.schedule.step(*self._watched())
        self._tell("on_epoch_end")
        if self.checkpoint is not None:
            self.save()
        if self.log is not None:
            write_log(self.log, self.rows)

    def step(self, batch: Any) -> float:
        """One step of the optimizer; gives the loss before it."""
        output, loss = self._forward(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Trainer: the loss is {value} in epoch {self.epoch + 1}, batch {self.batch + 1}; take a smaller "
                "learning rate, clip gradients, or look for the cause within ndl.detect_anomaly()"
            )
        self.optimizer.reset_grad()
        loss.backward()
        self._tell("on_gradients")
        self.optimizer.step()
        with no_grad():
            self._count(self.totals, value, output, batch[-1])
        return value

    def _forward(self, batch: Any) -> tuple[Any, Any]:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise TypeError(f"Trainer: a batch must be (inputs, target), got {_said(batch)}")
        *inputs, target = batch
        output = self.model(*inputs)
        return output, self.loss(output, target)

    def _count(self, totals: dict[str, float], loss: float, output: Any, target: Any) -> None:
        n = target.shape[0]
        found = {"loss": loss, **{name: _number(metric(output, target)) for name, metric in self.metrics.items()}}
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + n * value
        totals["items"] = totals.get("items", 0) + n

    def _watched(self) -> tuple[float, ...]:
        """What the schedule's step is given after an epoch."""
        return () if self.schedule_on == "epoch" else (self.latest(self.schedule_on),)

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            if hasattr(callback, event):
                getattr(callback, event)(self)
            elif event == "on_epoch_end" and callable(callback):
                callback(self)

    def parts(self, loader: Any, valid_loader: Any = None) -> dict[str, Any]:
        """All that a checkpoint keeps, by name; generators of layers, as Dropout's, included."""
        parts = {"model": self.model, "optimizer": self.optimizer, "loader": loader}
        others = [("schedule", self.schedule), ("valid_loader", valid_loader)]
        others += [(f"callback.{i}", callback) for i, callback in enumerate(self.callbacks)]
        parts |= {name: part for name, part in others if hasattr(part, "load_state_dict")}
        layers = self.model.named_modules() if hasattr(self.model, "named_modules") else ()
        for name, layer in layers:
            if getattr(layer, "generator", None) is not None:
                parts[f"generator.{name}"] = layer.generator
        return parts


def _checked(callback: Any) -> Any:
    """ValueError for a misspelt event, which would never be called."""
    events = [name for name in dir(callback) if name.startswith("on_")]
    unknown = [name for name in events if name not in EVENTS]
    if unknown or not (events or callable(callback)):
        met = f"{type(callback).__name__} has {unknown[0] if unknown else 'none'}"
        raise ValueError(f"Trainer: a callback is a function or has methods named {', '.join(EVENTS)}; {met}")
    return callback


def _means(totals: dict[str, float]) -> dict[str, float]:
    if not totals:
        raise ValueError("Trainer: the loader gave no batch; was it an iterator that is used up?")
    return {name: total / totals["items"] for name, total in totals.items() if name != "items"}


def _number(value: Any) -> float:
    return float(value.item() if hasattr(value, "item") else value)


def _said(batch: Any) -> str:
    return f"{len(batch)} things" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
