"""What a training leaves to look at: columns of numbers, a log file, a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..optional import optional
from ..storage import replacing

__all__ = ["as_columns", "plot_history", "write_log"]

LOGS = (".csv", ".jsonl")


def as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """A list for each name that occurs, None where a row lacks it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def write_log(path: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows anew, in place of the old file: so that it fits the checkpoint, whenever the training was cut."""
    text = io.StringIO(newline="")
    if Path(path).suffix == ".csv":
        table = csv.DictWriter(text, list(as_columns(rows)), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    else:
        text.writelines(json.dumps(row) + "\n" for row in rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def plot_history(history: Mapping[str, Sequence], path: Any = None) -> Any:
    """A curve for each column over the epochs, `valid_x` in the panel of `x`; the figure, saved where a path is given.

    Raises ImportError where matplotlib is missing.
    """
    names = [name for name in history if name not in ("epoch", "seconds") and not name.startswith("valid_")]
    if not history.get("epoch") or not names:
        raise ValueError("plot_history: the history is empty; train for an epoch first")
    pyplot = optional("matplotlib.pyplot", extra="viz", why="plot_history")
    figure, panels = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3), layout="constrained", squeeze=False)
    for panel, name in zip(panels.flat, names, strict=True):
        for column, label in ((name, "train"), (f"valid_{name}", "valid")):
            if column in history:
                panel.plot(history["epoch"], _floats(history[column]), marker=".", label=label)
        panel.set(title=name, xlabel="epoch")
        if f"valid_{name}" in history:
            panel.legend()
    if path is not None:
        figure.savefig(path)
    return figure


def _floats(numbers: Sequence) -> list[float]:
    return [float("nan") if number is None else number for number in numbers]
