"""Shapes, strides and offsets, in elements: what a view is, apart from the numbers it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import Any

Layout = tuple[tuple[int, ...], tuple[int, ...], int]  # shape, strides, offset


class Debug:
    """Whether every view is checked against its buffer. `debug()` switches it on, as a block it restores."""

    on = False

    def __call__(self, on: bool = True) -> Debug.Before:
        before, self.on = self.on, bool(on)
        return Debug.Before(self, before)

    class Before:
        def __init__(self, switch: Debug, before: bool):
            self.switch, self.before = switch, before

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: Any) -> None:
            self.switch.on = self.before


debug = Debug()


def as_shape(shape: Any, who: str) -> tuple[int, ...]:
    """A shape as a tuple of Python ints; one number is a shape of one axis."""
    try:
        sizes = (index(shape),) if hasattr(shape, "__index__") else tuple(map(index, shape))
    except TypeError:
        raise TypeError(f"{who}: a shape is a whole number or several, got {shape!r}") from None
    if any(n < 0 for n in sizes):
        raise ValueError(f"{who}: a shape has no negative numbers, got {sizes}")
    return sizes


@lru_cache(maxsize=4096)
def compact_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a row-major array without gaps."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def one_stride(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    """The step from one element to the next in row-major order, where it is the same everywhere; else None."""
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    if not axes or 0 in shape:
        return 1
    for (_, outer), (n, inner) in zip(axes, axes[1:], strict=False):
        if outer != n * inner:
            return None
    return axes[-1][1]


def resolved_shape(shape: tuple[int, ...], old: Sequence[int]) -> tuple[int, ...]:
    """`shape` with its one −1 worked out; an error where it does not hold the elements of an array of shape `old`."""
    size, known = math.prod(old), math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known and size % known == 0:
        shape = tuple(size // known if n == -1 else n for n in shape)
    if math.prod(shape) != size or any(n < 0 for n in shape):
        raise ValueError(f"reshape: an array of shape {tuple(old)} has {size} elements, which do not fill {shape}")
    return shape


def broadcast_shape(who: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape by NumPy's rule: aligned at the right, an axis of 1 is stretched."""
    out = [1] * max(map(len, shapes))
    for shape in shapes:
        for i, n in enumerate(shape, start=len(out) - len(shape)):
            if out[i] == 1:
                out[i] = n
            elif n not in (1, out[i]):
                raise ValueError(f"{who}: shapes {' and '.join(map(str, shapes))} do not fit together")
    return tuple(out)


def broadcast_strides(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """Strides that show an array in the larger shape `target`: 0 along added axes and those of one element."""
    return (0,) * (len(target) - len(shape)) + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def overlaps_itself(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two places of the view are plainly one in memory, as after broadcast_to."""
    return any(s == 0 and n > 1 for n, s in zip(shape, strides, strict=True))


def span(shape: Sequence[int], strides: Sequence[int], offset: int) -> tuple[int, int]:
    """The lowest and the highest element that a view reaches; (0, −1) if it has none."""
    if 0 in shape:
        return 0, -1
    steps = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return offset + sum(s for s in steps if s < 0), offset + sum(s for s in steps if s > 0)


def check(layout: Layout, size: int, who: str) -> None:
    """Raise IndexError where a view reaches beyond its buffer of `size` elements."""
    shape, strides, offset = layout
    if len(shape) != len(strides):
        raise ValueError(f"{who}: {len(shape)} axes, but {len(strides)} strides")
    lowest, highest = span(shape, strides, offset)
    if lowest < 0 or highest >= size:
        raise IndexError(
            f"{who}: shape {shape}, strides {strides} and offset {offset} reach from element {lowest} to {highest}, "
            f"but the buffer has {size}"
        )


def sliced(layout: Layout, parts: Sequence[slice]) -> Layout:
    """The layout of `a[parts]`, one slice for each axis."""
    shape, strides, offset = layout
    ranges = [range(*p.indices(n)) for p, n in zip(parts, shape, strict=True)]
    lengths = tuple(map(len, ranges))
    if 0 not in lengths:
        offset += sum(r.start * s for r, s in zip(ranges, strides, strict=True))
    return lengths, tuple(r.step * s for r, s in zip(ranges, strides, strict=True)), offset
