"""Kernels over strided views of flat buffers.

A view is given by where it begins and by its sizes and steps, counted in elements, all as numpy.uint64: a negative step
wraps around, and Numba does not ask of each index whether it is negative.
"""

from __future__ import annotations

from functools import partial

import numpy

from .loader import Kernel

_0, _2, _3, _4, _8 = map(numpy.uint64, (0, 2, 3, 4, 8))
TILE = numpy.uint64(32)  # so many rows of the target stay in the first-level cache, in strips of 8 columns


@Kernel
def copy_crosswise(out, in_, starts, sizes, out_steps, in_steps):
    """out = in_, where `out` has its smallest step along the last axis and `in_` along the last but one.

    starts: of out and of in_; sizes and steps have at least two axes. Strips of 8 columns, TILE rows at a time.
    """
    last = sizes.size - 1
    rows, columns = sizes[last - 1], sizes[last]
    out_down, out_right = out_steps[last - 1], out_steps[last]
    in_down, in_right = in_steps[last - 1], in_steps[last]
    planes = numpy.prod(sizes[: last - 1])
    for plane in range(planes):
        to, come, rest = starts[0], starts[1], plane
        for axis in range(last - 2, -1, -1):
            place = rest % sizes[axis]
            rest //= sizes[axis]
            to += place * out_steps[axis]
            come += place * in_steps[axis]
        for top in range(_0, rows, TILE):
            bottom = min(top + TILE, rows)
            for j in range(_0, columns - columns % _8, _8):
                for i in range(top, bottom):
                    a, b = to + i * out_down + j * out_right, come + i * in_down + j * in_right
                    for _ in range(2):
                        out[a] = in_[b]
                        out[a + out_right] = in_[b + in_right]
                        out[a + _2 * out_right] = in_[b + _2 * in_right]
                        out[a + _3 * out_right] = in_[b + _3 * in_right]
                        a += _4 * out_right
                        b += _4 * in_right
            for j in range(columns - columns % _8, columns):
                for i in range(top, bottom):
                    out[to + i * out_down + j * out_right] = in_[come + i * in_down + j * in_right]


@partial(Kernel, fastmath={"reassoc"})
def sum_along(out, in_, start, sizes, out_steps, in_steps, folded_sizes, folded_steps):
    """Sums in float64 over folded axes, of which the last has the smallest step of all.

    sizes, out_steps, in_steps: of the axes that stay, one at least; folded_sizes and folded_steps: one at least.
    """
    last = folded_sizes.size - 1
    length, step = folded_sizes[last], folded_steps[last]
    for element in range(numpy.prod(sizes)):
        to, come, rest = _0, start, element
        for axis in range(sizes.size - 1, -1, -1):
            place = rest % sizes[axis]
            rest //= sizes[axis]
            to += place * out_steps[axis]
            come += place * in_steps[axis]
        total = numpy.float64(0)
        for line in range(numpy.prod(folded_sizes[:last])):
            at, rest = come, line
            for axis in range(last - 1, -1, -1):
                at += rest % folded_sizes[axis] * folded_steps[axis]
                rest //= folded_sizes[axis]
            if step == 1:  # a loop of its own, which runs on vectors
                for i in range(length):
                    total += in_[at + i]
            else:
                for i in range(length):
                    total += in_[at + i * step]
        out[to] = total


@Kernel
def sum_across(out, in_, start, sizes, out_steps, in_steps, folded_sizes, folded_steps, sums):
    """Sums in float64 over folded axes, where the last of those that stay has the smallest step of all.

    As in sum_along; sums (n,) of float64 is scratch for n columns at a time. Four rows are added at once.
    """
    last, deep = sizes.size - 1, folded_sizes.size - 1
    columns, step, out_step = sizes[last], in_steps[last], out_steps[last]
    rows, down = folded_sizes[deep], folded_steps[deep]
    width = numpy.uint64(sums.size)
    for block in range(numpy.prod(sizes[:last])):
        to, come, rest = _0, start, block
        for axis in range(last - 1, -1, -1):
            place = rest % sizes[axis]
            rest //= sizes[axis]
            to += place * out_steps[axis]
            come += place * in_steps[axis]
        for left in range(_0, columns, width):
            count = min(width, columns - left)
            sums[:] = 0
            for plane in range(numpy.prod(folded_sizes[:deep])):
                at, rest = come + left * step, plane
                for axis in range(deep - 1, -1, -1):
                    at += rest % folded_sizes[axis] * folded_steps[axis]
                    rest //= folded_sizes[axis]
                for i in range(_0, rows - rows % _4, _4):
                    a = at + i * down
                    b, c, d = a + down, a + _2 * down, a + _3 * down
                    if step == 1:
                        for j in range(count):
                            first, second = (
                                numpy.float64(in_[a + j]) + in_[b + j],
                                numpy.float64(in_[c + j]) + in_[d + j],
                            )
                            sums[j] += first + second
                    else:
                        for j in range(count):
                            k = j * step
                            sums[j] += (numpy.float64(in_[a + k]) + in_[b + k]) + (
                                numpy.float64(in_[c + k]) + in_[d + k]
                            )
                for i in range(rows - rows % _4, rows):
                    for j in range(count):
                        sums[j] += in_[at + i * down + j * step]
            for j in range(count):
                out[to + (left + j) * out_step] = sums[j]
