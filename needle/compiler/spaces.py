"""The loop space of a group of nodes: its axes, and along which of them each node lies.

Axes of size 1 do not count. All nodes must lie along all axes (full), the first ones (rows), the last ones (columns)
or none, for one cut of the axes into rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .ir import Node


class Axis:
    """One axis of a space; two that turn out to be one are merged by `Space.substitute`."""

    def __init__(self, size: int):
        self.size = size


# For each axis of a node, the axes of the space that it runs along: none where its size is 1, several where a
# reshape made one of them.
Label = tuple[tuple[Axis, ...], ...]


def flat(label: Label) -> list[Axis]:
    return [axis for part in label for axis in part]


def fresh(shape: tuple[int, ...]) -> Label:
    return tuple((Axis(n),) if n != 1 else () for n in shape)


def broadcast(label: Label, shape: tuple[int, ...]) -> Label:
    """The label of an operand of this shape, of a result with that label."""
    return tuple(part if n != 1 else () for part, n in zip(label[len(label) - len(shape) :], shape, strict=True))


class Space:
    """axes: in the order of memory; labels: of each node that is computed or read along them."""

    def __init__(self, axes: list[Axis], labels: dict[Node, Label]):
        self.axes, self.labels = axes, labels

    def substitute(self, old: Axis, new: tuple[Axis, ...]) -> None:
        def replaced(axes: Iterable[Axis]) -> tuple[Axis, ...]:
            return tuple(x for axis in axes for x in (new if axis is old else (axis,)))

        self.axes = list(replaced(self.axes))
        self.labels = {node: tuple(replaced(part) for part in label) for node, label in self.labels.items()}

    def places(self, node: Node) -> tuple[int, ...]:
        return tuple(self.axes.index(axis) for axis in flat(self.labels[node]))

    def copy(self) -> Space:
        return Space(list(self.axes), dict(self.labels))


def space_of(node: Node) -> Space | None:
    """The space of one node and its inputs; None where a reshape fits no common one."""
    if node.kind == "reduce":
        return _of_reduction(node)
    if node.kind == "reshape":
        return _of_reshape(node)
    label = fresh(node.shape)
    labels = {x: broadcast(label, x.shape) for x in node.inputs}
    return Space(flat(label), {**labels, node: label})


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes of a reduction as numbers from 0."""
    axes, ndim = node.options[1], len(node.inputs[0].shape)
    axes = range(ndim) if axes is None else axes if isinstance(axes, (tuple, list)) else (axes,)
    return tuple(sorted(axis % ndim for axis in axes))


def _of_reduction(node: Node) -> Space:
    (x,), gone = node.inputs, reduced_axes(node)
    label = fresh(x.shape)
    kept = [() if axis in gone else part for axis, part in enumerate(label)]
    if not node.options[2]:
        kept = [part for axis, part in enumerate(kept) if axis not in gone]
    return Space(flat(label), {x: label, node: tuple(kept)})


def _of_reshape(node: Node) -> Space | None:
    (x,) = node.inputs
    if not node.size:
        return None
    bounds = sorted(_bounds(x.shape) | _bounds(node.shape), reverse=True)
    if any(a % b for a, b in zip(bounds, bounds[1:], strict=False)):
        return None
    axes = [(b, Axis(a // b)) for a, b in zip(bounds, bounds[1:], strict=False)]
    return Space([axis for _, axis in axes], {x: _label(x.shape, axes), node: _label(node.shape, axes)})


def _bounds(shape: tuple[int, ...]) -> set[int]:
    """Steps in memory at which an axis begins or ends."""
    return {math.prod(shape[axis:]) for axis in range(len(shape) + 1)}


def _label(shape: tuple[int, ...], axes: list[tuple[int, Axis]]) -> Label:
    steps = [(math.prod(shape[axis + 1 :]), math.prod(shape[axis:])) for axis in range(len(shape))]
    return tuple(tuple(axis for step, axis in axes if low <= step < high) for low, high in steps)


def joined(a: Space, b: Space) -> Space | None:
    """One space for both, in which nodes of both have one label; None where there is none."""
    a, b = a.copy(), b.copy()
    if not all(_unify(a, b, node) for node in [*a.labels] if node in b.labels):
        return None
    if any(a.labels[node] != b.labels[node] for node in a.labels if node in b.labels):
        return None
    large, small = (a, b) if len(a.axes) >= len(b.axes) else (b, a)
    if not set(small.axes) <= set(large.axes):
        return None
    if [axis for axis in large.axes if axis in small.axes] != small.axes:
        return None
    return Space(large.axes, {**a.labels, **b.labels})


def _unify(a: Space, b: Space, node: Node) -> bool:
    """Makes the axes of `node` the same in both, cutting axes where one side has them finer."""
    place = 0
    while True:
        ours, theirs = flat(a.labels[node]), flat(b.labels[node])
        if place == len(ours) or place == len(theirs):
            return len(ours) == len(theirs)
        x, y = ours[place], theirs[place]
        if x is not y:
            if x.size == y.size:
                if x in b.axes or y in a.axes:
                    return False
                b.substitute(y, (x,))
            elif not _cut(a, x, y.size) and not _cut(b, y, x.size):
                return False
            else:
                continue
        place += 1


def _cut(space: Space, axis: Axis, inner: int) -> bool:
    """Cuts an axis in two, of which the first has the size `inner`."""
    if not 1 < inner < axis.size or axis.size % inner:
        return False
    space.substitute(axis, (Axis(inner), Axis(axis.size // inner)))
    return True


def cuts(space: Space, leaves: set[Node], reductions: list[Node]) -> set[int]:
    """After how many axes rows may end and columns begin."""
    count = len(space.axes)
    allowed = set(range(max(count, 1)))
    operands = {node.inputs[0] for node in reductions}
    for node in space.labels:
        allowed &= _cuts_of(space.places(node), count, node in leaves and node not in operands)
    for node in reductions:
        inside = set(space.places(node.inputs[0]))
        gone = inside - set(space.places(node))
        allowed = {cut for cut in allowed if gone in _parts(inside, cut)}
    return allowed


def _cuts_of(places: tuple[int, ...], count: int, leaf: bool) -> set[int]:
    everything = set(range(count + 1))
    if list(places) != sorted(set(places)):
        return set()
    if len(places) in (0, count):
        return everything
    if places[-1] == len(places) - 1:  # the first ones
        return {len(places)}
    if places[0] == count - len(places):  # the last ones; what is only read may begin again after some rows
        return set(range(places[0], count)) if leaf else {places[0]}
    return set()


def _parts(inside: set[int], cut: int) -> list[set[int]]:
    """What may go at once: nothing, the rows, the columns or both."""
    rows = {place for place in inside if place < cut}
    return [set(), rows, inside - rows, inside]
