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
    numbers(result)
    start = time.perf_counter()
    for i in which:
        result = step(i)
    numbers(result)
    return time.perf_counter() - start


def numbers(result: Any) -> list[float]:
    array = result.detach() if hasattr(result, "detach") else result
    return np.asarray(array, dtype="float64").ravel().tolist()


if __name__ == "__main__":
    main(*sys.argv[1:])
