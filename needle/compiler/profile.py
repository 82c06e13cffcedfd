"""Where the time of a program goes, line by line, and how near each line is to what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

from .buffers import nbytes
from .ir import SOURCES, VIEWS, Node
from .source import Line
from .streams import streams_of

TRIES = 5


@dataclass
class Row:
    """A line of the program: its best time, and what it moves and computes in that time."""

    code: str
    line: str  # the user's
    seconds: float
    bytes: int
    flops: int
    share: float  # of the roofline: 1 is what the machine can do, more is possible where data lies in cache


@dataclass
class Profile:
    """A row for each line of the program, and what they are held against."""

    rows: list[Row]
    bandwidth: float  # bytes a second, adding arrays of the size of what the program works on
    peak: float  # operations a second, multiplying matrices of float32

    def __str__(self) -> str:
        title = f"{'µs':>9} {'kB':>9} {'kflop':>9} {'roofline':>8}  {'from':<20}  code"
        rows = [
            f"{row.seconds * 1e6:9.2f} {row.bytes / 1e3:9.1f} {row.flops / 1e3:9.1f} {row.share:8.0%}  "
            f"{row.line:<20}  {row.code}"
            for row in self.rows
        ]
        total = f"{sum(row.seconds for row in self.rows) * 1e6:9.2f} in all"
        limits = f"roofline: {self.bandwidth / 1e9:.1f} GB/s, {self.peak / 1e9:.0f} Gflop/s, measured just now"
        return "\n".join([title, *rows, total, limits])


def profile(program: Any, arrays: list, seconds: float) -> Profile:
    """Runs the program for about so long, at least five times, and keeps the best time of each line.

    Random streams are left as they were. The machine is measured before and after, as others may use it too.
    """
    lines = program.emitted.lines
    used = program.plan.size + sum(nbytes(node) for node in program.graph.nodes if node.kind in SOURCES)
    before = measured_bandwidth(used), measured_peak()
    streams = list(streams_of(program.graph))
    try:
        best = _best_times(program, lines, arrays, seconds)
    finally:
        for put_back, state in streams:
            put_back(state)
    bandwidth, peak = map(max, before, (measured_bandwidth(used), measured_peak()))
    work = [work_of(line.node) if line.main else (0, 0) for line in lines]
    rows = [
        Row(*_split(line), took, moved, flops, max(moved / bandwidth, flops / peak) / max(took, 1e-9))
        for line, took, (moved, flops) in zip(lines, best, work, strict=True)
    ]
    return Profile(rows, bandwidth, peak)


def _split(line: Line) -> tuple[str, str]:
    return line.text.partition("  # ")[0].rstrip(), line.node.line


def _best_times(program: Any, lines: list[Line], arrays: list, seconds: float) -> list[float]:
    """A clock is read after each line; what that takes by itself is measured and taken off."""
    ticked = [f"{line.text.partition('  # ')[0].rstrip()}; clock({i})" for i, line in enumerate(lines)]
    clock = _Clock(len(lines))
    module = dict(program.module, clock=clock.tick)
    exec(compile(program.emitted.step(["clock(-1)", *ticked]), "<profile>", "exec"), module)
    end = time.perf_counter() + seconds
    tries = 0
    while tries < TRIES or time.perf_counter() < end:
        module["step"](arrays, program.buffers, program.draw, False)
        tries += 1
    own = _own_time(clock)
    return [max(took - own, 0) / 1e9 for took in clock.best]


class _Clock:
    def __init__(self, n: int):
        self.best = [1 << 62] * n
        self.last = 0

    def tick(self, i: int) -> None:
        now = time.perf_counter_ns()
        if i >= 0 and now - self.last < self.best[i]:
            self.best[i] = now - self.last
        self.last = time.perf_counter_ns()


def _own_time(clock: _Clock) -> int:
    idle = _Clock(1)
    for _ in range(1000):
        idle.tick(0)
    return idle.best[0]


# --- what a node moves and computes ---------------------------------------------------------------------------------


def work_of(node: Node) -> tuple[int, int]:
    """(bytes read and written, arithmetic operations): an element of a ufunc counts as one, whatever the function."""
    if node.kind == "kernel":
        return node.options[0].bytes, node.options[0].flops
    if node.kind in VIEWS and node.kind != "reshape":
        return 0, 0
    read = sum(_bytes_shown(x) for x in set(node.inputs))
    flops = {"ufunc": node.size, "reduce": node.inputs[0].size if node.inputs else 0}.get(node.kind, 0)
    if node.kind == "matmul":
        flops = 2 * node.size * node.inputs[0].shape[-1]
    return read + nbytes(node), flops


def _bytes_shown(node: Node) -> int:
    """A broadcast is read from an array that is smaller."""
    while node.kind == "broadcast_to":
        node = node.inputs[0]
    return nbytes(node)


# --- what the machine can do ----------------------------------------------------------------------------------------


def measured_bandwidth(size: int) -> float:
    """Bytes a second of z = x + y where the three arrays together take `size` bytes, at least 1 MiB."""
    n = max(size, 1 << 20) // 12
    x, y, z = (numpy.ones(n, "float32") for _ in range(3))
    return 12 * n / _best(lambda: numpy.add(x, y, z))


def measured_peak() -> float:
    """Operations a second of a product of two matrices of float32, of the size at which that goes best."""
    return max(_product_speed(n) for n in (128, 256, 512))


def _product_speed(n: int) -> float:
    x = numpy.ones((n, n), "float32")
    z = numpy.empty_like(x)
    return 2 * n**3 / _best(lambda: x.dot(x, z))


def _best(function: Callable[[], Any], seconds: float = 0.05) -> float:
    """The best time of several in about so long."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < TRIES or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
