"""Runs the rivals of one workload in turn, each in a process of its own, and holds their numbers against PyTorch's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .inputs import CHECKED_STEPS
from .table import NEEDLE, REFERENCE, Rival, Workload

ROOT = Path(__file__).resolve().parents[1]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

RTOL = 1e-5  # float32 rounds at 6e-8; sums of 784 products in another order differ by a few 1e-7
BUSY, PATIENCE = 0.1, 1.5  # share of the machine in use above which a block waits, for so many seconds at most


class WrongNumbers(Exception):
    """A rival did not compute what the reference computed."""


@dataclass
class Row:
    """A rival on a workload: µs of each round, seconds of the first step, how far its numbers are off, or why none."""

    workload: Workload
    rival: Rival
    times: list[float] = field(default_factory=list)
    first: float = 0.0
    off: float = 0.0
    missing: str = ""


class Missing(Exception):
    """The rival cannot run here: the last line of what it said."""


class Worker:
    """A rival's process. Asking it for steps gives their numbers, or their seconds."""

    def __init__(self, workload: Workload, rival: Rival):
        self.said = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "benchmarks.worker", workload.module, rival.function]
        self.process = subprocess.Popen(
            [*command, json.dumps(workload.options), *rival.without],
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(THREAD_SETTINGS, str(THREADS)), "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )

    def ask(self, steps: int, timed: bool) -> Any:
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps([steps, timed]), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # it has said why
        answer = self.process.stdout.readline()
        if not answer:
            raise Missing(self.last_words())
        return json.loads(answer)

    def last_words(self) -> str:
        self.process.wait()
        self.said.seek(0)
        lines = [line.strip() for line in self.said if line.strip()]
        return lines[-1] if lines else f"ended with status {self.process.returncode}"

    def end(self) -> None:
        """Let it go; where it does not listen, take it down."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.close()
            self.process.wait(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()


def measure(
    workload: Workload,
    rivals: Sequence[Rival],
    rounds: int,
    block: int | None = None,
    patience: float = PATIENCE,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """One row a rival. First the numbers are checked, then `rounds` times each rival in turn runs one timed block,
    for which it waits until the machine is idle, `patience` seconds at most.

    Raises WrongNumbers where the first steps of a rival differ from the reference's (PyTorch's; where that is
    missing, those of the first rival that runs).
    """
    rows, workers, numbers = [Row(workload, rival) for rival in rivals], {}, {}
    block = block or workload.block
    try:
        for row in rows:
            tell(f"{workload.name}: {row.rival.name} starts")
            workers[row.rival.name] = Worker(workload, row.rival)
            try:
                numbers[row.rival.name] = first_steps(workers[row.rival.name], row)
                workers[row.rival.name].ask(block, timed=True)  # warm-up
            except Missing as reason:
                row.missing = str(reason)
        check(rows, numbers)
        for i in range(rounds):
            tell(f"{workload.name}: round {i + 1} of {rounds}")
            for row in rows:
                if not row.missing:
                    wait_until_idle(patience)
                    seconds = workers[row.rival.name].ask(block, timed=True)
                    row.times.append(seconds / block / workload.ops * 1e6)
    finally:
        for worker in workers.values():
            worker.end()
    return rows


def first_steps(worker: Worker, row: Row) -> list[list[float]]:
    """The numbers of the first steps; how long the very first took is the row's `first`."""
    worker.ask(0, timed=False)  # imported, and its inputs made
    start = time.perf_counter()
    numbers = worker.ask(1, timed=False)
    row.first = time.perf_counter() - start
    return numbers + worker.ask(CHECKED_STEPS - 1, timed=False)


def check(rows: Sequence[Row], numbers: dict[str, list[list[float]]]) -> None:
    """Put into each row how far it is off, relative to the reference, or raise WrongNumbers."""
    against = REFERENCE.name if REFERENCE.name in numbers else next(iter(numbers), "")
    for row in rows:
        if row.missing:
            continue
        for step, (got, wanted) in enumerate(zip(numbers[row.rival.name], numbers[against], strict=True)):
            off = difference(got, wanted)
            row.off = max(row.off, off)
            if not off <= RTOL:
                raise WrongNumbers(
                    f"{row.workload.name}: {row.rival.name} gives {short(got)} in step {step + 1}, {against} gives "
                    f"{short(wanted)}: {off:.1e} apart, and {RTOL:.0e} is allowed"
                )


def difference(got: Sequence[float], wanted: Sequence[float]) -> float:
    """Largest |got − wanted|, relative to the largest |wanted|; ∞ where one is missing or not finite."""
    if len(got) != len(wanted) or not all(abs(x) < float("inf") for x in (*got, *wanted)):
        return float("inf")
    scale = max((abs(x) for x in wanted), default=0) or 1
    return max((abs(a - b) for a, b in zip(got, wanted, strict=True)), default=0) / scale


def short(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:.7g}" for x in numbers[:3]) + (" …" if len(numbers) > 3 else "")


def ratios(row: Row, rows: Sequence[Row]) -> list[float]:
    """How many times longer than needle the rival took, round by round: what both met at about the same moment."""
    base = next((other.times for other in rows if other.rival is NEEDLE), [])
    return sorted(mine / needle for mine, needle in zip(row.times, base, strict=False))


def wait_until_idle(patience: float) -> None:
    """Pools of threads spin for a while after their work: the next rival waits until they sleep, and until other
    programs do, but not for ever."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and busy_share(0.05) > BUSY:
        pass


def busy_share(seconds: float) -> float:
    """Share of the machine's processors in use during so many seconds; 0 where the system does not tell."""
    before = _processor_times()
    time.sleep(seconds)
    busy, total = (after - was for after, was in zip(_processor_times(), before, strict=True))
    return busy / total if total else 0.0


def _processor_times() -> tuple[int, int]:
    """Busy and all ticks since the machine started, over all processors (Linux)."""
    try:
        ticks = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
