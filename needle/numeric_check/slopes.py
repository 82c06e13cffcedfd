"""A numeric derivative along a line, and how far it can be trusted.

Central differences at two step sizes give, by Richardson's rule, one better value; their disagreement and the
rounding of the function's value bound its error. One step size is never right for all functions: large ones
cross kinks, small ones drown in rounding. So there is a ladder of them, climbed only as far as needed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..optional import have, optional

__all__ = ["Finding", "Line", "Tolerance", "direction_at", "judge", "overruled", "sizes", "slope_at"]

# Shares of |x|. 2^-10 is near the best for two steps in float64; smaller ones evade kinks, larger ones rounding.
STEPS = tuple(2.0**-k for k in (10, 14, 18, 22, 26, 30, 6, 2))
SHARP = 1e-4  # a numeric derivative that may be off by a larger share than this settles nothing
TRUST = 3.0  # so many times the estimated error is thought possible


@dataclass(frozen=True)
class Tolerance:
    """How far an analytic derivative may lie from the numeric one beyond the latter's own error."""

    rtol: float = 1e-6
    atol: float = 0.0

    def __call__(self, analytic: float, numeric: float) -> float:
        return self.atol + self.rtol * max(abs(analytic), abs(numeric))


@dataclass(frozen=True)
class Slope:
    """A numeric derivative from steps of `step` and half of it; `kink`: by how much one-sided slopes differ."""

    step: float
    value: float
    error: float
    kink: float

    def agrees_with(self, other: Slope) -> bool:
        return abs(self.value - other.value) <= TRUST * (self.error + other.error)


@dataclass(frozen=True)
class Finding:
    """verdict: "agree", "differ", "kink", "flat" (the output never changed) or "unclear", with both numbers."""

    verdict: str
    analytic: float
    numeric: float | None = None
    error: float | None = None
    step: float | None = None

    def scaled(self, by: float) -> Finding:
        """The same per unit, where the line's direction had the size `by`."""
        numeric, error = (None if v is None else v / by for v in (self.numeric, self.error))
        return replace(self, analytic=self.analytic / by, numeric=numeric, error=error and abs(error))

    def share(self, floor: float = 0.0) -> float:
        """How wrong, as a share of the larger number, or of `floor`."""
        if self.numeric is None or not math.isfinite(self.analytic):
            return math.inf
        return abs(self.analytic - self.numeric) / (max(abs(self.analytic), abs(self.numeric), floor) or 1.0)


def sizes(x: np.ndarray) -> np.ndarray:
    """The natural step of each element: its own size, but not below the array's typical size or 1."""
    typical = float(np.sqrt(np.mean(x * x))) if x.size else 1.0
    return np.maximum(np.abs(x), min(1.0, typical) or 1.0)


def direction_at(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """`direction`, rounded so that x + step·direction is exact for the smallest step, and for most others."""
    smallest = min(STEPS) / 2
    return ((x + smallest * direction) - x) / smallest


class Line:
    """φ(t) = Σ weights · outputs(x + t · direction), where only the k-th array of the probe moves."""

    def __init__(self, probe: Any, k: int, direction: np.ndarray, weights: np.ndarray, start: np.ndarray):
        self.probe, self.k, self.weights, self.start = probe, k, weights, start
        self.direction = direction_at(probe.arrays[k], direction)
        self.center = float(weights @ start)
        self.rounding = probe.eps * float(np.abs(weights) @ np.abs(start))
        self.flat = True

    def __call__(self, t: float) -> float:
        values = self.probe.run_at(self.k, self.probe.arrays[self.k] + t * self.direction)
        if values.shape != self.start.shape:
            return math.nan
        self.flat = self.flat and not np.any((values != self.start) & (self.weights != 0))
        return float(self.weights @ values)

    @property
    def floor(self) -> float:
        """Slopes below this are small beside the size of the output."""
        return self.rounding / self.probe.eps * 1e-5


def slope_at(line: Line, step: float) -> Slope:
    up, down = line(step), line(-step)
    up_half, down_half = line(step / 2), line(-step / 2)
    coarse, fine = (up - down) / (2 * step), (up_half - down_half) / step
    rounding = line.rounding / step
    bend = (up - 2 * line.center + down) / step
    bend_half = (up_half - 2 * line.center + down_half) / (step / 2)
    # The difference of the one-sided slopes at distance 0: for a smooth function it shrinks with the step.
    kink = max(0.0, abs(2 * bend_half - bend) - 16 * rounding)
    return Slope(step, (4 * fine - coarse) / 3, abs(fine - coarse) + 4 * rounding, kink)


def judge(line: Line, analytic: float, tolerance: Tolerance, noise: float = 0.0) -> Finding:
    """Whether `analytic`, itself good to `noise`, is the slope of the line at 0."""
    slopes = []
    for step in STEPS:
        slope = slope_at(line, step)
        if not math.isfinite(slope.value + slope.error):
            continue
        slopes.append(slope)
        allowed = tolerance(analytic, slope.value) + noise
        near = abs(analytic - slope.value) <= allowed + TRUST * slope.error
        if near and _settles(slope, analytic, line, allowed) and not (line.flat and analytic):
            return Finding("agree", analytic, slope.value, slope.error, step)
    return _dissent(line, analytic, slopes)


def _settles(slope: Slope, analytic: float, line: Line, allowed: float = 0.0) -> bool:
    """Whether the numeric derivative is good enough to decide; where f computes in float32, less is asked of it."""
    known = max(abs(slope.value), abs(analytic) if math.isfinite(analytic) else 0.0, line.floor)
    return TRUST * slope.error <= max(max(SHARP, math.sqrt(line.probe.eps)) * known, allowed)


def _dissent(line: Line, analytic: float, slopes: list[Slope]) -> Finding:
    """Why no step size gave a numeric derivative that agrees."""
    if line.flat and slopes:
        if analytic == 0:
            return Finding("agree", 0.0, 0.0, 0.0)
        visible = abs(analytic) * max(s.step for s in slopes) > 1e3 * line.rounding
        verdict = "differ" if visible or not math.isfinite(analytic) else "flat"
        return Finding(verdict, analytic, 0.0, 0.0, STEPS[0])
    settled = sorted((s for s in slopes if _settles(s, analytic, line)), key=lambda s: s.step)
    if not settled:
        if not slopes:
            return Finding("unclear", analytic)
        best = min(slopes, key=lambda s: s.error)
        return Finding("unclear", analytic, best.value, best.error)
    # Nothing between x and the smallest step is crossed by it: it has the last word.
    nearest = settled[0]
    gap = abs(analytic - nearest.value)
    if nearest.kink > 0.25 * (gap if math.isfinite(gap) else 0.0):
        return Finding("kink", analytic, nearest.value, nearest.kink / 2, nearest.step)
    supported = [s for s in settled[1:] if s.agrees_with(nearest)]
    if not supported:
        return Finding("unclear", analytic, nearest.value, nearest.error)
    best = min([nearest, *supported], key=lambda s: s.error)
    return Finding("differ", analytic, best.value, best.error, best.step)


def overruled(line: Line, found: Finding, tolerance: Tolerance) -> bool:
    """Whether the referee takes the analytic derivative's side against our own differences."""
    opinion = referee(line, found.step) if found.step is not None else None
    if opinion is None or not math.isfinite(found.analytic):
        return False
    value, error = opinion
    return error <= SHARP * abs(value) and abs(value - found.analytic) <= tolerance(found.analytic, value) + error


def referee(line: Callable[[float], float], step: float) -> tuple[float, float] | None:
    """(derivative, error) by numdifftools, None without it. Its steps stay below `step`: kinks fool it silently."""
    if not have("numdifftools"):
        return None
    library = optional("numdifftools", extra="test", why="a second opinion on a numeric derivative")
    steps = library.MaxStepGenerator(base_step=step, step_ratio=2, num_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimate = library.Derivative(lambda t: line(float(np.ravel(t)[0])), step=steps, full_output=True)(0.0)
    return float(estimate[0]), float(estimate[1])
