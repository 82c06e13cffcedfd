"""Comparing a gradient with differences: along random directions, or one element at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .probes import Probe, row, some_signs
from .slopes import STEPS, TRUST, Finding, Line, Tolerance, judge, overruled, reading, sizes, slope_at

__all__ = ["DIRECTIONS", "Look", "same"]

# Errors of two elements cancel along one direction in 400 (`direction_at` leaves 7 bits), so one is too few.
DIRECTIONS = 2

# How many elements are looked at one by one: fewer of larger arrays, whose functions take longer.
FEW, MANY, COST = 24, 256, 2_000_000
CLOSER, CLOSER_OF_FEW = 40, 6  # of these so many are looked at with all step sizes


def same(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Whether two lists of gradients are equal up to rounding."""
    return all(_near(a, b) for a, b in zip(some, others, strict=True))


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-9, atol=1e-12 * float(np.abs(a).max(initial=0)), equal_nan=True)


@dataclass
class Look:
    """Compares `grads`, said to be the gradient of Σ weights · outputs, with differences. `start`: the outputs."""

    probe: Probe
    weights: list[np.ndarray]
    grads: list[np.ndarray]
    start: np.ndarray
    tolerance: Tolerance
    rng: np.random.Generator

    @staticmethod
    def at(probe: Probe, weights: list[np.ndarray], tolerance: Tolerance, rng: np.random.Generator) -> Look:
        """A look at the gradient that reverse mode gives."""
        return Look(probe, weights, probe.gradient(weights), probe.run(), tolerance, rng)

    def line(self, k: int, direction: np.ndarray) -> Line:
        return Line(self.probe, k, direction, row(self.weights), self.start)

    def along(self, k: int, direction: np.ndarray) -> Finding:
        line = self.line(k, direction)
        terms = self._terms(k, line)
        found = judge(line, float(terms.sum()), self.tolerance, noise=1e-12 * float(np.abs(terms).sum()))
        return replace(found, verdict="agree") if found.verdict == "flat" and self._is_rounding(k, line) else found

    def _terms(self, k: int, line: Line) -> np.ndarray:
        """Gradient times direction, element by element, where the line moves at all."""
        moves = line.direction != 0
        return np.asarray(self.grads[k], dtype=np.float64)[moves] * line.direction[moves]

    def _is_rounding(self, k: int, line: Line) -> bool:
        """Whether the gradient along a line is rounding alone (it should be 0): then it is another one nearby."""
        arrays = list(self.probe.arrays)
        slopes = [float(np.sum(self.grads[k] * line.direction))]
        for t in (0.001, 0.002, 0.003):
            arrays[k] = self.probe.arrays[k] + t * line.direction
            slopes.append(float(np.sum(self.probe.gradient(self.weights, arrays=arrays)[k] * line.direction)))
        return np.ptp(slopes) > 0.1 * abs(slopes[0])

    def along_random(self, k: int) -> Finding:
        """What is found along directions in which every element moves: the first disagreement, if there is one."""
        for _ in range(DIRECTIONS):
            found = self.along(k, self.steps(k))
            if found.verdict != "agree":
                break
        return found

    def steps(self, k: int) -> np.ndarray:
        return sizes(self.probe.arrays[k]) * some_signs(self.probe.arrays[k].shape, self.rng)

    def unit(self, k: int, j: int) -> np.ndarray:
        """A natural step of the j-th element alone."""
        direction = np.zeros(self.probe.arrays[k].shape)
        direction.flat[j] = sizes(self.probe.arrays[k]).flat[j]
        return direction

    def worst(self, k: int, elements: dict[int, Finding]) -> int | None:
        """The element whose gradient is most wrong, None if none is."""
        wrong = [j for j, found in elements.items() if found.verdict == "differ"]
        if not wrong:
            return None
        worst = max(wrong, key=lambda j: elements[j].badness())
        line = self.line(k, self.unit(k, worst))
        found = elements[worst].scaled(1 / float(line.direction.flat[worst]))
        return None if overruled(line, found, self.tolerance) else worst

    def at_elements(self, k: int) -> dict[int, Finding]:
        """What each element says; of a large array a sample, and one that halving leads to.

        Of those that a glance does not settle only some are judged, kinks last.
        """
        found, suspects = {}, []
        chosen = self._chosen(k)
        for j in chosen:
            glance = self._glance(k, self.unit(k, j))
            if glance.verdict == "agree":
                found[j] = self._for_element(glance, k, j)
            else:
                suspects.append((glance.verdict != "kink", glance.badness(), j))
        closer = CLOSER_OF_FEW if len(chosen) < self.probe.arrays[k].size else CLOSER
        for _, _, j in sorted(suspects, reverse=True)[:closer]:
            found[j] = self._for_element(self.along(k, self.unit(k, j)), k, j)
        return found

    def _for_element(self, found: Finding, k: int, j: int) -> Finding:
        return found.scaled(float(self.line(k, self.unit(k, j)).direction.flat[j]))

    def _chosen(self, k: int) -> list[int]:
        size = self.probe.arrays[k].size
        most = max(FEW, min(MANY, COST // (size + self.start.size)))
        if size <= most:
            return list(range(size))
        return list(dict.fromkeys([self._halving(k), *self.rng.choice(size, most, replace=False).tolist()]))

    def _glance(self, k: int, direction: np.ndarray) -> Finding:
        """With the first step size only: "agree", "kink" (perhaps), or "differ" (perhaps)."""
        line = self.line(k, direction)
        terms = self._terms(k, line)
        analytic, noise = float(terms.sum()), 1e-12 * float(np.abs(terms).sum())
        slope, right = reading(line, STEPS[0], analytic, self.tolerance, noise)
        verdict = "kink" if slope.kink > 0.25 * abs(analytic - slope.value) else "differ"
        if right:
            verdict = "agree" if slope.kink <= TRUST * slope.error else "kink"
        return Finding(verdict, analytic, slope.value, slope.error, slope.step)

    def _halving(self, k: int) -> int:
        """An element that disagrees, found by asking half of the elements, half of those, and so on."""
        steps = self.steps(k)
        low, high = 0, steps.size
        while high - low > 1:
            middle = (low + high) // 2
            half = np.zeros(steps.shape)
            half.flat[low:middle] = steps.flat[low:middle]
            low, high = (low, middle) if self._glance(k, half).verdict == "differ" else (middle, high)
        return low

    def differences(self, k: int) -> np.ndarray | None:
        """The numeric gradient with respect to array k, where it is small."""
        shape = self.probe.arrays[k].shape
        if self.probe.arrays[k].size > MANY:
            return None
        slopes = np.zeros(shape)
        for j in range(slopes.size):
            direction = np.zeros(shape)
            direction.flat[j] = 1.0
            slopes.flat[j] = slope_at(self.line(k, direction), STEPS[0]).value
        return slopes
