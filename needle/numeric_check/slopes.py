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

__all__ = ["Finding", "Line", "Slope", "Tolerance", "judge", "overruled", "reading", "sizes", "slope_at"]

# Shares of |x|. 2^-10 is near the best for two steps in float64; smaller ones evade kinks, larger ones rounding.
STEPS = tuple(2.0**-k for k in (10, 14, 18, 22, 26, 30, 36, 42, 6, 2))
SHARP = 1e-4  # a numeric derivative that may be off by a larger share than this settles nothing
TRUST = 3.0  # so many times the estimated error is thought possible


@dataclass(frozen=True)
class Tolerance:
    """How far an analytic derivative may lie from the numeric one beyond the latter's own error."""

    rtol: float = 1e-7
    atol: float = 0.0

    def __call__(self, analytic: float, numeric: float) -> float:
        return self.atol + self.rtol * max(abs(analytic), abs(numeric))


@dataclass(frozen=True)
class Slope:
    """A numeric derivative from steps of `step` and half of it, and its error, of which `rounding` is a part.

    `kink`: by how much the slopes on both sides differ.
    """

    step: float
    value: float
    error: float
    rounding: float
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

    @property
    def gap(self) -> float:
        if self.numeric is None or not math.isfinite(self.analytic):
            return math.inf
        return abs(self.analytic - self.numeric)

    def share(self, floor: float = 0.0) -> float:
        """How wrong, as a share of the larger number, or of `floor`."""
        if not math.isfinite(self.gap):
            return math.inf
        return self.gap / (max(abs(self.analytic), abs(self.numeric or 0.0), floor) or 1.0)

    def badness(self) -> tuple[float, float]:
        """For sorting: by share; of those equal but for rounding, by gap."""
        return round(self.share(), 6), self.gap


def sizes(x: np.ndarray) -> np.ndarray:
    """The natural step of each element: its own size, but not below the array's typical size or 1."""
    typical = float(np.sqrt(np.mean(x * x))) if x.size else 1.0
    return np.maximum(np.abs(x), min(1.0, typical) or 1.0)


def direction_at(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """`direction`, rounded so that x + step·direction is exact for the smallest step, and for most others."""
    smallest = min(STEPS) / 2
    return ((4 * x + smallest * direction) - 4 * x) / smallest  # 4: to spare for sums that cross a power of two


class Line:
    """φ(t) = Σ weights · outputs(x + t · direction), where only the k-th array of the probe moves."""

    def __init__(self, probe: Any, k: int, direction: np.ndarray, weights: np.ndarray, start: np.ndarray):
        self.probe, self.k, self.weights, self.start = probe, k, weights, start
        self.direction = direction_at(probe.arrays[k], direction)
        self.center = float(weights @ start)
        self.rounding = probe.eps * float(np.abs(weights) @ np.abs(start))
        self.flat = True
        self.chord = 0.0  # the slope across the largest usual step

    def __call__(self, t: float) -> float:
        values = self.probe.run_at(self.k, self.probe.arrays[self.k] + t * self.direction)
        if values.shape != self.start.shape:
            return math.nan
        self.flat = self.flat and not np.any((values != self.start) & (self.weights != 0))
        return float(self.weights @ values)

    @property
    def floor(self) -> float:
        """Slopes below this are small beside the size of the output, or of what a step changes in it."""
        return 1e-5 * max(self.rounding / self.probe.eps, self.chord)


def slope_at(line: Line, step: float) -> Slope:
    up, down = line(step), line(-step)
    up_half, down_half = line(step / 2), line(-step / 2)
    coarse, fine = (up - down) / (2 * step), (up_half - down_half) / step
    if step == STEPS[0]:
        line.chord = abs(coarse) if math.isfinite(coarse) else 0.0
    # Of the result and, since directions have the size of x, of x itself.
    rounding = (line.rounding + line.probe.eps * abs(fine)) / step
    bend = (up - 2 * line.center + down) / step
    bend_half = (up_half - 2 * line.center + down_half) / (step / 2)
    # The difference of the one-sided slopes at distance 0: for a smooth function it shrinks with the step.
    kink = max(0.0, abs(2 * bend_half - bend) - 16 * rounding)
    return Slope(step, (4 * fine - coarse) / 3, abs(fine - coarse) + 4 * rounding, 4 * rounding, kink)


def judge(line: Line, analytic: float, tolerance: Tolerance, noise: float = 0.0) -> Finding:
    """Whether `analytic`, itself good to `noise`, is the slope of the line at 0."""
    slopes: list[Slope] = []
    for step in STEPS:
        slope, right = reading(line, step, analytic, tolerance, noise)
        # One that agrees because it is not well known has nothing to say against better known ones of the same slope.
        better = [s for s in slopes if s.error < slope.error and s.agrees_with(slope)]
        if right and all(_near(s, analytic, tolerance, noise) for s in better):
            verdict = "kink" if _symmetric_kink(slope, line) else "agree"
            return Finding(verdict, analytic, slope.value, slope.error, slope.step)
        if math.isfinite(slope.value + slope.error):
            slopes.append(slope)
    return _dissent(line, analytic, slopes)


def reading(line: Line, step: float, analytic: float, tolerance: Tolerance, noise: float) -> tuple[Slope, bool]:
    """The slope by `step`, and whether `analytic` is right by it.

    Where it is right only because that slope is not known well, a smaller step has its say too.
    """
    slope = slope_at(line, step)
    if not _agrees(slope, line, analytic, tolerance, noise):
        return slope, False
    if TRUST * slope.error <= tolerance(analytic, slope.value) + noise:
        return slope, True
    closer = slope_at(line, step / 16)
    sharper = closer if closer.error < slope.error else slope
    return sharper, _agrees(sharper, line, analytic, tolerance, noise)


def _agrees(slope: Slope, line: Line, analytic: float, tolerance: Tolerance, noise: float) -> bool:
    allowed = tolerance(analytic, slope.value) + noise
    near = _near(slope, analytic, tolerance, noise)
    return near and _settles(slope, analytic, line, allowed) and not (line.flat and analytic)


def _near(slope: Slope, analytic: float, tolerance: Tolerance, noise: float) -> bool:
    allowed = tolerance(analytic, slope.value) + noise + TRUST * slope.error
    return abs(analytic - slope.value) <= allowed  # False where one is NaN


def _symmetric_kink(slope: Slope, line: Line) -> bool:
    """As of |x| at 0, where differences on both sides cancel: it does not fade with the step."""
    if slope.kink <= TRUST * slope.error + SHARP * max(abs(slope.value), line.floor):
        return False
    return slope_at(line, slope.step / 16).kink > 0.25 * slope.kink


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
    if any(s.step < nearest.step and s.error > 4 * s.rounding for s in slopes):
        return Finding("unclear", analytic, nearest.value, nearest.error)  # there is more to see below that step
    gap = abs(analytic - nearest.value)
    if nearest.kink > 0.25 * (gap if math.isfinite(gap) else 0.0):
        return Finding("kink", analytic, nearest.value, nearest.kink / 2, nearest.step)
    if nearest.value == 0 and any(abs(s.value - analytic) < 0.05 * abs(analytic) for s in slopes):
        return Finding("unclear", analytic, 0.0, 0.0)  # stairs: f rounds, and the smallest steps change nothing
    supported = [s for s in settled[1:] if s.agrees_with(nearest)]
    if not supported:
        return Finding("unclear", analytic, nearest.value, nearest.error)
    best = min([nearest, *supported], key=lambda s: s.error)
    if abs(analytic - best.value) <= TRUST * best.error:  # it did not agree because nothing moved near x
        return Finding("flat", analytic, best.value, best.error, best.step)
    return Finding("differ", analytic, best.value, best.error, best.step)


def overruled(line: Line, found: Finding, tolerance: Tolerance) -> bool:
    """Whether the referee takes the analytic derivative's side against our own differences, and sees well enough."""
    opinion = referee(line, found.step) if found.step is not None else None
    if opinion is None or found.numeric is None or not math.isfinite(found.analytic):
        return False
    value, error = opinion
    sees = error <= 0.1 * abs(found.analytic - found.numeric)
    return sees and abs(value - found.analytic) <= tolerance(found.analytic, value) + error


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
