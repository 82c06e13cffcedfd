"""Comparing a gradient with differences: along random directions, or one element at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .probes import Probe, row, some_signs
from .slopes import STEPS, Finding, Line, Tolerance, judge, overruled, sizes, slope_at

__all__ = ["Look", "same"]

MANY = 256  # elements looked at one by one; of a larger array a random sample, and what halving finds


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
        terms = np.asarray(self.grads[k], dtype=np.float64) * line.direction
        found = judge(line, float(terms.sum()), self.tolerance, noise=1e-12 * float(np.abs(terms).sum()))
        return replace(found, verdict="agree") if found.verdict == "flat" and self._is_rounding(k, line) else found

    def _is_rounding(self, k: int, line: Line) -> bool:
        """Whether the gradient along a line is rounding alone (it should be 0): then it is another one nearby."""
        arrays = list(self.probe.arrays)
        slopes = [float(np.sum(self.grads[k] * line.direction))]
        for t in (0.001, 0.002, 0.003):
            arrays[k] = self.probe.arrays[k] + t * line.direction
            slopes.append(float(np.sum(self.probe.gradient(self.weights, arrays=arrays)[k] * line.direction)))
        return np.ptp(slopes) > 0.1 * abs(slopes[0])

    def along_random(self, k: int) -> Finding:
        """Along a direction in which every element moves."""
        return self.along(k, self.steps(k))

    def steps(self, k: int) -> np.ndarray:
        return sizes(self.probe.arrays[k]) * some_signs(self.probe.arrays[k].shape, self.rng)

    def at_element(self, k: int, j: int) -> Finding:
        direction = self.unit(k, j)
        found = self.along(k, direction)
        return found.scaled(float(self.line(k, direction).direction.flat[j]))

    def unit(self, k: int, j: int) -> np.ndarray:
        """A natural step of the j-th element alone."""
        direction = np.zeros(self.probe.arrays[k].shape)
        direction.flat[j] = sizes(self.probe.arrays[k]).flat[j]
        return direction

    def worst(self, k: int, elements: dict[int, Finding]) -> int | None:
        """The element whose gradient is most wrong, None if none is."""
        wrong = sorted((j for j, f in elements.items() if f.verdict == "differ"), key=lambda j: -elements[j].share())
        if not wrong:
            return None
        line = self.line(k, self.unit(k, wrong[0]))
        found = elements[wrong[0]].scaled(1 / float(line.direction.flat[wrong[0]]))
        return None if overruled(line, found, self.tolerance) else wrong[0]

    def at_elements(self, k: int) -> dict[int, Finding]:
        """What each element says; of a large array a sample, and one that halving leads to."""
        size = self.probe.arrays[k].size
        chosen = range(size) if size <= MANY else [*self.rng.choice(size, MANY, replace=False), self._halving(k)]
        return {int(j): self.at_element(k, int(j)) for j in chosen}

    def _halving(self, k: int) -> int:
        steps = self.steps(k)
        low, high = 0, steps.size
        while high - low > 1:
            middle = (low + high) // 2
            half = np.zeros(steps.shape)
            half.flat[low:middle] = steps.flat[low:middle]
            if self.along(k, half).verdict == "differ":
                high = middle
            else:
                low = middle
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
