"""The device module `cpu`: the reference, made faster where arrays are large.

Three means. Contiguous numbers go through NumPy's vector loops, which no compiled loop of ours beats. What lies
crosswise (a transposed view) is first copied in tiles by a Numba kernel, and float32 adds up in float64 in another;
without Numba both are the reference's. And work on megabytes is cut into parts that all cores share. How it is cut
depends on sizes alone, so that results do not depend on the number of cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy

from ..backend_numpy import _adam, _add_scaled
from ..kernels.strided import copy_crosswise, sum_across, sum_along
from ..kernels.threads import pool
from .ndarray_backend_numpy import INTERFACE, SMALL, Array, Reference
from .views import check, compact_strides

Axis = tuple[int, int, int]  # size, step in the target, step in the source

WORTH = 1 << 14  # elements from which on a view is looked at closely, which takes some µs
BLOCK = 1 << 16  # elements of a crosswise operand that are copied at once, and still in the cache when they are used
PART = 16 << 20  # bytes read and written by one task; two or more go to the pool, which megabytes alone do not repay
COLUMNS = 1024  # sums that run side by side
LINE = 16  # elements of a cache line: closer ones come together
UFUNCS = {"sum": numpy.add, "prod": numpy.multiply, "max": numpy.maximum, "min": numpy.minimum}
UNSIGNED = {1: numpy.uint8, 2: numpy.uint16, 4: numpy.uint32, 8: numpy.uint64}  # copies do not ask what bits mean


class Compiled(Reference):
    """The reference's functions by the same names; those that are not here are the reference's own."""

    # --- elementwise ------------------------------------------------------------------------------------------------

    def elementwise(self, name: str, out: Any, shape: Any, operands: Sequence[Any]) -> None:
        size, steps = out.size, compact_strides(shape)
        if all(type(o) is not tuple or (o[1] == steps and o[0].size == size) for o in operands):
            shape, axis, target = (size,), 0, out.array
            views = [o[0].array if type(o) is tuple else o for o in operands]
            if size < WORTH:
                getattr(numpy, name)(*views, out=target)
                return
        elif size < WORTH:
            super().elementwise(name, out, shape, operands)
            return
        else:
            axis, target = _longest(shape), self.whole(out, shape)
            views = [self._in_order(o, shape, axis) if type(o) is tuple else o for o in operands]
        parts = _parts(size, (*(o[0] for o in operands if type(o) is tuple), out))
        copied = any(isinstance(v, _Crosswise) for v in views)
        work = partial(_apply, getattr(numpy, name), target, views, axis)
        _share(work, shape[axis], parts, max(1, size // BLOCK) if copied else parts)

    def _in_order(self, operand: tuple, shape: tuple[int, ...], axis: int) -> Any:
        """The view, or what makes row-major copies of its parts where those are faster to work on."""
        handle, strides, offset = operand
        if _crosswise(handle.dtype.itemsize, shape, compact_strides(shape), strides):
            check((shape, strides, offset), handle.size, "elementwise")
            return _Crosswise(operand, shape, axis)
        return self.view(handle, shape, strides, offset)

    # --- copies -----------------------------------------------------------------------------------------------------

    def copy(self, out: tuple, in_: tuple, shape: Any) -> None:
        size, dtype = math.prod(shape), in_[0].dtype
        if size < WORTH:
            super().copy(out, in_, shape)
            return
        axes = _crosswise(dtype.itemsize, tuple(shape), tuple(out[1]), tuple(in_[1])) if dtype == out[0].dtype else ()
        parts = _parts(size, (out[0], in_[0]))
        if axes:
            check((shape, out[1], out[2]), out[0].size, "copy: target")
            check((shape, in_[1], in_[2]), in_[0].size, "copy: source")
            _must_be_writeable(out[0].array)
            _copy_in_tiles(out, in_, axes, parts)
        elif parts == 1:
            super().copy(out, in_, shape)
        else:
            target, source = (self.view(x[0], shape, *x[1:]) for x in (out, in_))
            axis = _longest(shape)
            _share(partial(_assign, target, source, axis), shape[axis], parts)

    def to_numpy(self, handle: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> numpy.ndarray:
        out = Array(math.prod(shape), handle.dtype)
        self.copy((out, compact_strides(shape), 0), (handle, strides, offset), shape)
        return out.array.reshape(shape)

    # --- reductions -------------------------------------------------------------------------------------------------

    def reduce(self, name: str, out: Any, operand: tuple, shape: Any, axes: Any) -> None:
        size, dtype = math.prod(shape), operand[0].dtype
        if size < WORTH:
            super().reduce(name, out, operand, shape, axes)
        elif name == "sum" and dtype == numpy.float32 and out.dtype.kind == "f" and sum_along.get() is not None:
            check((shape, *operand[1:]), operand[0].size, "sum")
            self.whole(out, [n for i, n in enumerate(shape) if i not in axes])  # raises where it does not fit
            _must_be_writeable(out.array)
            _sum(out, operand, shape, axes)
        else:
            self._reduce_in_parts(UFUNCS[name], out, operand, shape, axes)

    def _reduce_in_parts(self, ufunc: Any, out: Any, operand: tuple, shape: Any, axes: Any) -> None:
        """By NumPy: the longest axis in parts, whose results are put side by side or folded in turn."""
        view, axis = self.view(operand[0], shape, *operand[1:]), _longest(shape)
        target = self.whole(out, [n for i, n in enumerate(shape) if i not in axes])
        wide = numpy.dtype("float64") if ufunc in (numpy.add, numpy.multiply) and out.dtype.kind == "f" else out.dtype
        parts = list(_ranges(shape[axis], _parts(view.size, (operand[0],))))
        if len(parts) == 1:
            target[...] = ufunc.reduce(view, axis=axes, dtype=wide)
            return
        place = sum(i not in axes for i in range(axis))
        totals = numpy.empty((len(parts), *target.shape), wide) if axis in axes else None

        def part(k: int, low: int, high: int) -> None:
            result = ufunc.reduce(_along(view, axis, low, high), axis=axes, dtype=wide)
            if totals is None:
                _along(target, place, low, high)[...] = result
            else:
                totals[k] = result

        pool.run([partial(part, k, *ends) for k, ends in enumerate(parts)])
        if totals is not None:
            target[...] = ufunc.reduce(totals, axis=0)

    # --- products, optimizers ---------------------------------------------------------------------------------------

    def matmul(self, a: Any, b: Any, out: Any, m: int, n: int, p: int) -> None:
        left, right, target = self.whole(a, (m, n)), self.whole(b, (n, p)), self.whole(out, (m, p))
        if a.dtype == numpy.float32 and max(m, n, p) < SMALL:
            target[...] = numpy.matmul(left.astype(numpy.float64), right.astype(numpy.float64))
        else:
            numpy.matmul(left, right, out=target)

    def add_scaled(self, target: Any, source: Any, factor: float) -> None:
        _must_be_as_long(target, source)
        _add_scaled(target.array, source.array, target.dtype.type(factor))

    def adam(self, handles: Sequence[Any], factors: Sequence[float]) -> None:
        _must_be_as_long(*handles)
        arrays = tuple(h.array for h in handles)
        _adam(arrays, tuple(map(arrays[0].dtype.type, factors)))


# --- what a kernel, which looks at no bounds, must not be given ------------------------------------------------------


def _must_be_writeable(target: numpy.ndarray) -> None:
    if not target.flags.writeable:
        raise ValueError("assignment destination is read-only")


def _must_be_as_long(*handles: Any) -> None:
    if len({h.size for h in handles}) > 1:
        raise ValueError(f"wanted buffers of one size, got {', '.join(str(h.size) for h in handles)} elements")


# --- parts of an array ----------------------------------------------------------------------------------------------


def _longest(shape: Sequence[int]) -> int:
    """The axis to cut: the longest, and of those the first."""
    return max(range(len(shape)), key=shape.__getitem__)


def _parts(size: int, buffers: Sequence[Any]) -> int:
    """In how many tasks to cut work on `size` elements of each of some buffers; Python numbers count for nothing."""
    return max(1, size * sum(b.dtype.itemsize for b in buffers if hasattr(b, "dtype")) // PART)


def _ranges(n: int, parts: int) -> Iterator[tuple[int, int]]:
    step = max(1, -(-n // parts))
    return ((low, min(low + step, n)) for low in range(0, n, step))


def _share(work: Callable[[int, int], None], n: int, parts: int, blocks: int = 1) -> None:
    """work(low, high) over parts of range(n), on all cores if there is more than one; in `blocks` if those are more."""
    tasks = [partial(work, low, high) for low, high in _ranges(n, max(parts, blocks))]
    if parts > 1:
        pool.run(tasks)
    else:
        for task in tasks:
            task()


def _along(array: numpy.ndarray, axis: int, low: int, high: int) -> numpy.ndarray:
    return array[(slice(None),) * axis + (slice(low, high),)]


def _assign(out: numpy.ndarray, source: numpy.ndarray, axis: int, low: int, high: int) -> None:
    _along(out, axis, low, high)[...] = _along(source, axis, low, high)


def _apply(ufunc: Any, out: numpy.ndarray, operands: Sequence[Any], axis: int, low: int, high: int) -> None:
    """The part low:high along an axis of out = ufunc(*operands)."""
    if high - low < out.shape[axis]:
        out = _along(out, axis, low, high)
        operands = [_along(o, axis, low, high) if type(o) is numpy.ndarray else o for o in operands]
    ufunc(*(o.part(low, high) if type(o) is _Crosswise else o for o in operands), out=out)


class _Crosswise:
    """An operand of elementwise that lies crosswise. A part of it, along an axis, is a row-major copy."""

    def __init__(self, operand: tuple, shape: tuple[int, ...], axis: int):
        self.handle, self.strides, self.offset = operand
        self.shape, self.axis = shape, axis

    def part(self, low: int, high: int) -> numpy.ndarray:
        shape = (*self.shape[: self.axis], high - low, *self.shape[self.axis + 1 :])
        scratch, steps = Array(math.prod(shape), self.handle.dtype), compact_strides(shape)
        source = self.handle, self.strides, self.offset + low * self.strides[self.axis]
        axes = _crosswise(self.handle.dtype.itemsize, shape, steps, self.strides)
        if axes:
            _copy_axes(scratch, self.handle, (0, source[2]), axes)
        else:  # so small a part that it lies crosswise no longer
            Reference.copy(compiled, (scratch, steps, 0), source, shape)
        return scratch.array.reshape(shape)


# --- layouts for kernels --------------------------------------------------------------------------------------------


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """The same elements over as few axes as can be: those of size 1 go, and one that continues the next joins it."""
    merged: list[Axis] = []
    for n, to, come in axes:
        if merged and merged[-1][1:] == (n * to, n * come):
            merged[-1] = merged[-1][0] * n, to, come
        elif n != 1:
            merged.append((n, to, come))
    return merged


@lru_cache(maxsize=4096)
def _crosswise(itemsize: int, shape: tuple[int, ...], out_steps: tuple, in_steps: tuple) -> tuple[Axis, ...]:
    """The axes for copy_crosswise, where neighbours in the target are far apart in the source and the other way round;
    else none, and NumPy copies as well."""
    if itemsize not in UNSIGNED or copy_crosswise.get() is None:
        return ()
    axes = _merged(sorted(zip(shape, out_steps, in_steps, strict=True), key=lambda axis: -abs(axis[1])))
    if len(axes) < 2:
        return ()
    right = axes[-1]
    down = min((axis for axis in axes if axis[2]), key=lambda axis: abs(axis[2]), default=right)
    if down is right or min(down[0], right[0]) < 8 or abs(right[2]) < LINE:
        return ()
    return (*(axis for axis in axes[:-1] if axis is not down), down, right)


def _cut(axes: Sequence[Axis], place: int, low: int, high: int) -> tuple[Axis, ...]:
    """The axes of the part low:high along one of them."""
    return (*axes[:place], (high - low, *axes[place][1:]), *axes[place + 1 :])


def _copy_in_tiles(out: tuple, in_: tuple, axes: tuple[Axis, ...], parts: int) -> None:
    """By copy_crosswise, in parts of the longest axis."""
    place = _longest([n for n, _, _ in axes])
    n, to, come = axes[place]

    def part(low: int, high: int) -> None:
        _copy_axes(out[0], in_[0], (out[2] + low * to, in_[2] + low * come), _cut(axes, place, low, high))

    _share(part, n, parts)


def _copy_axes(out: Any, in_: Any, starts: tuple[int, int], axes: tuple[Axis, ...]) -> None:
    bits = UNSIGNED[out.dtype.itemsize]
    copy_crosswise.get()(out.array.view(bits), in_.array.view(bits), _uint64(starts), *_columns(axes))


@lru_cache(maxsize=4096)
def _columns(axes: tuple[Axis, ...]) -> tuple[numpy.ndarray, ...]:
    """Sizes, steps in the target and steps in the source, as kernels want them."""
    return tuple(map(_uint64, zip(*axes, strict=True)))


def _uint64(numbers: Sequence[int]) -> numpy.ndarray:
    """Negative ones as 2⁶⁴ more, which wraps around to the same place."""
    return numpy.array(numbers, numpy.int64).view(numpy.uint64)


def _sum(out: Any, operand: tuple, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Sums in float64 by the kernels, in parts: of the axes that stay or, where those are short, of the others."""
    handle, strides, offset = operand
    kept, folded = _kept_and_folded(shape, strides, axes)
    parts = _parts(math.prod(shape), (handle,))
    if parts == 1:
        _sum_axes(out.array, handle.array, offset, kept, folded)
        return
    place = _longest([n for n, _, _ in kept])
    n, step, come = kept[place]
    if n < parts * LINE:
        _sum_in_turn(out.array, handle.array, offset, kept, folded, parts)
        return

    def part(low: int, high: int) -> None:
        _sum_axes(out.array[low * step :], handle.array, offset + low * come, _cut(kept, place, low, high), folded)

    _share(part, n, parts)


def _sum_in_turn(
    out: numpy.ndarray, in_: numpy.ndarray, offset: int, kept: tuple[Axis, ...], folded: tuple[Axis, ...], parts: int
) -> None:
    place = _longest([n for n, _, _ in folded])
    n, _, come = folded[place]
    ranges = list(_ranges(n, parts))
    totals = numpy.empty((len(ranges), out.size))

    def part(k: int, low: int, high: int) -> None:
        _sum_axes(totals[k], in_, offset + low * come, kept, _cut(folded, place, low, high))

    pool.run([partial(part, k, *ends) for k, ends in enumerate(ranges)])
    out[...] = totals.sum(axis=0)


@lru_cache(maxsize=4096)
def _kept_and_folded(
    shape: tuple[int, ...], strides: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The axes that stay, with their steps in the compact result, and those that are summed."""
    left = [i for i in range(len(shape)) if i not in axes]
    to = dict(zip(left, compact_strides(tuple(shape[i] for i in left)), strict=True))
    return _by_step([(shape[i], to[i], strides[i]) for i in left]), _by_step([(shape[i], 0, strides[i]) for i in axes])


def _by_step(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Merged, the one with the smallest step in the source last; one axis at least."""
    return tuple(_merged(sorted(axes, key=lambda axis: -abs(axis[2])))) or ((1, 0, 0),)


def _sum_axes(
    out: numpy.ndarray, in_: numpy.ndarray, start: int, kept: tuple[Axis, ...], folded: tuple[Axis, ...]
) -> None:
    """By the kernel for which the smallest step is in the innermost loop."""
    columns, _, across = kept[-1]
    rows, _, along = folded[-1]
    folded_sizes, _, folded_steps = _columns(folded)
    layout = (*_columns(kept), folded_sizes, folded_steps)
    begin = _uint64((start,))[0]
    if columns == 1 or (rows > 1 and abs(along) < abs(across)):
        sum_along.get()(out, in_, begin, *layout)
    else:
        sum_across.get()(out, in_, begin, *layout, numpy.empty(min(COLUMNS, columns)))


compiled = Compiled(numpy, Array)
globals().update({name: getattr(compiled, name) for name in INTERFACE})
