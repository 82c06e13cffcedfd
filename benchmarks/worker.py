"""One rival on one workload in a process of its own, so that no two frameworks' thread pools share a process.

Reads requests and writes answers, one JSON value a line: a number of steps, with true if they are to be timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .inputs import BATCHES

MANY = 20_000


def main(module: str, function: str, options: str, *without: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints is no answer
    for package in without:
        sys.modules[package] = None  # type: ignore[assignment]  # Python's own way to say: not installed
    step = getattr(import_module(module), function)(**json.loads(options))
    done = 0
    for line in sys.stdin:
        steps, timed = json.loads(line)
        which = [i % BATCHES for i in range(done, done + steps)]
        answer = seconds(step, which) if timed else [numbers(step(i)) for i in which]
        done += steps
        print(json.dumps(answer), file=out, flush=True)


def seconds(step: Callable[[int], Any], which: list[int]) -> float:
    """How long these steps take, until the last result can be read. Some steps before them wake caches and threads."""
    for i in which[: len(which) // 5 + 1]:
        result = step(i)
    array_of(result)
    start = time.perf_counter()
    for i in which:
        result = step(i)
    array_of(result)
    return time.perf_counter() - start


def array_of(result: Any) -> np.ndarray:
    """The result in memory, once it is there, without a copy where its library can do without."""
    result = result.detach() if hasattr(result, "detach") else result
    return np.from_dlpack(result) if hasattr(result, "__dlpack__") else np.asarray(result)


def numbers(result: Any) -> list[float]:
    """All numbers of a result; of a large one some thousands, and two totals in which every number counts."""
    flat = array_of(result).astype("float64").ravel()
    if flat.size <= MANY:
        return flat.tolist()
    weights = np.arange(flat.size) % 101 / 101  # so that numbers in the wrong places are seen
    return [flat.mean(), (flat * weights).mean(), *flat[:: flat.size // MANY + 1]]


if __name__ == "__main__":
    main(*sys.argv[1:])
