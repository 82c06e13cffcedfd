"""The full Jacobian, entry by entry: slower than projections, but it knows where the fault lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .probes import Probe
from .slopes import SHARP, STEPS, TRUST, Finding, Line, Tolerance, judge, sizes

__all__ = ["Entry", "reverse_rows", "worst_entry"]

CLOSER_LOOKS = 200  # entries that did not agree at once and are judged alone, the most wrong first


@dataclass(frozen=True)
class Entry:
    """d(output element)/d(input element): the place of both, the line along the latter, and what was found."""

    index: tuple[int, ...]
    output: int
    found: Finding
    line: Line


def reverse_rows(probe: Probe, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The Jacobian by reverse mode, one pass an output element: an array (outputs, size of the input) an input."""
    count = sum(int(np.prod(shape)) for shape in shapes)
    rows = [probe.gradient(_split(unit, shapes)) for unit in np.eye(count)]
    return [np.array([grads[k] for grads in rows]).reshape(count, x.size) for k, x in enumerate(probe.arrays)]


def _split(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]


def worst_entry(probe: Probe, k: int, jacobian: np.ndarray, start: np.ndarray, tolerance: Tolerance) -> Entry | None:
    """The entry for input k that is most wrong; else one that nothing can be said of; None where all agree."""
    doubtful = None
    for i, j in _suspects(probe, k, jacobian, start, tolerance):
        entry = _judged(probe, k, i, j, jacobian[i, j], start, tolerance)
        if entry.found.verdict == "differ":
            return entry
        if entry.found.verdict != "agree":
            doubtful = doubtful or entry
    return doubtful


def _suspects(
    probe: Probe, k: int, jacobian: np.ndarray, start: np.ndarray, tolerance: Tolerance
) -> list[tuple[int, int]]:
    """(output, input) of the entries that the first step size does not settle, the most wrong first."""
    found = []
    for j in range(probe.arrays[k].size):
        value, error = _column(probe, k, j, start, STEPS[0])
        known = np.maximum(np.maximum(np.abs(value), np.abs(jacobian[:, j])), 1e-5 * np.abs(start))
        allowed = tolerance.atol + tolerance.rtol * known
        if (TRUST * error > allowed).any():
            closer, its_error = _column(probe, k, j, start, STEPS[1])
            sharper = its_error < error
            value, error = np.where(sharper, closer, value), np.where(sharper, its_error, error)
        gap = np.abs(jacobian[:, j] - value)
        settled = (gap <= allowed + TRUST * error) & (TRUST * error <= SHARP * known)
        found += [(float(gap[i] / (known[i] or 1.0)), i, j) for i in np.flatnonzero(~settled)]
    found.sort(key=lambda suspect: -np.nan_to_num(suspect[0], nan=np.inf))
    return [(int(i), j) for _, i, j in found[:CLOSER_LOOKS]]


def _column(probe: Probe, k: int, j: int, start: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Numeric derivatives of all outputs by one input element, and their errors; the step is a share of its size."""
    size = float(sizes(probe.arrays[k]).flat[j])
    coarse, fine = (_central(probe, k, j, step, start) for step in (share * size, share * size / 2))
    rounding = probe.eps * (np.abs(start) / size + np.abs(fine)) / share
    return (4 * fine - coarse) / 3, np.abs(fine - coarse) + 4 * rounding


def _central(probe: Probe, k: int, j: int, step: float, start: np.ndarray) -> np.ndarray:
    up, down = probe.arrays[k].copy(), probe.arrays[k].copy()
    up.flat[j] += step
    down.flat[j] -= step
    above, below = probe.run_at(k, up), probe.run_at(k, down)
    if above.shape != start.shape or below.shape != start.shape:  # the output's shape depends on the input
        return np.full(start.shape, np.nan)
    return (above - below) / (up.flat[j] - down.flat[j])


def _judged(probe: Probe, k: int, i: int, j: int, analytic: float, start: np.ndarray, tolerance: Tolerance) -> Entry:
    direction, weights = np.zeros(probe.arrays[k].shape), np.zeros(start.size)
    direction.flat[j], weights[i] = sizes(probe.arrays[k]).flat[j], 1.0
    line = Line(probe, k, direction, weights, start)
    size = float(line.direction.flat[j])
    found = judge(line, float(analytic) * size, tolerance)
    index = tuple(int(n) for n in np.unravel_index(j, probe.arrays[k].shape))
    return Entry(index, i, found.scaled(size), line)
