"""Axes as a user gives them, read as numbers: what ops and NDArray share."""

from __future__ import annotations

from operator import index
from typing import Any


def as_axes(axes: Any, ndim: int, who: str = "") -> tuple[int, ...]:
    """`axes` (None, an int, or several) as non-negative numbers, or an error in the name of `who`."""
    if axes is None:
        return tuple(range(ndim))
    name = f"{who}: " if who else ""
    try:
        numbers = (index(axes),) if hasattr(axes, "__index__") else tuple(map(index, axes))
    except TypeError:
        raise TypeError(f"{name}wanted an axis as a whole number, several of them, or None; got {axes!r}") from None
    for axis in numbers:
        if not -ndim <= axis < ndim:
            raise IndexError(f"{name}axis {axis} is out of range for {ndim} dimension{'s' * (ndim != 1)}")
    positive = tuple(axis % ndim for axis in numbers)
    if len(set(positive)) != len(positive):
        raise ValueError(f"{name}axes {axes} name one axis twice")
    return positive
