"""Shape and position: axes added and dropped, tensors joined, padded, rolled and repeated."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from ..autograd import Tensor, TensorOp, TensorTuple
from ..backend_selection import array_api
from .ops_elementwise import where
from .ops_indexing import getitem
from .ops_mathematic import broadcast_to, reshape
from .ops_support import as_axes, as_count
from .ops_tuple import cast_parts, make_tuple

__all__ = [
    "Concatenate",
    "Pad",
    "Roll",
    "concatenate",
    "expand_dims",
    "pad",
    "repeat",
    "roll",
    "squeeze",
    "tile",
    "tril",
    "triu",
]


def expand_dims(a: Tensor, axis: int) -> Tensor:
    """A new axis of length 1 at position `axis` of the result."""
    (axis,) = as_axes(axis, len(a.shape) + 1, "expand_dims")
    return reshape(a, (*a.shape[:axis], 1, *a.shape[axis:]))


def squeeze(a: Tensor, axes: Any = None) -> Tensor:
    """Axes of length 1 dropped: all of them, or those named. ValueError where a named one is longer."""
    named = as_axes(axes, len(a.shape), "squeeze")
    if axes is None:
        named = tuple(i for i in named if a.shape[i] == 1)
    for axis in named:
        if a.shape[axis] != 1:
            raise ValueError(f"squeeze: axis {axis} of shape {a.shape} has length {a.shape[axis]}, not 1")
    return reshape(a, tuple(n for i, n in enumerate(a.shape) if i not in named))


class Concatenate(TensorOp):
    """Tensors joined along an existing axis. Input is a TensorTuple; each gets its slice of the gradient."""

    def __init__(self, axis: int = 0):
        self.axis = axis

    def compute(self, arrays):
        if self.axis is None:
            raise TypeError("axis must be a whole number, got None; use reshape to flatten first")
        return array_api.concatenate(arrays, axis=self.axis)

    def gradient(self, out_grad, node):
        (axis,) = as_axes(self.axis, len(out_grad.shape))
        parts, start = [], 0
        for array in node.inputs[0].cached_data:
            stop = start + array.shape[axis]
            parts.append(getitem(out_grad, (slice(None),) * axis + (slice(start, stop),)))
            start = stop
        return cast_parts(make_tuple(*parts), node.inputs[0])


def concatenate(args: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis; the other axes must agree."""
    return Concatenate(axis)(args if isinstance(args, TensorTuple) else make_tuple(*args))


class Pad(TensorOp):
    """A constant border: pad_width is one (before, after) for each axis."""

    def __init__(self, pad_width: Sequence[tuple[int, int]], value: float = 0):
        try:
            self.pad_width = tuple((index(before), index(after)) for before, after in pad_width)
        except (TypeError, ValueError):
            raise TypeError(f"Pad: pad_width must be a (before, after) pair for each axis, got {pad_width!r}") from None
        self.value = value

    def compute(self, a):
        if len(self.pad_width) != a.ndim:
            raise ValueError(f"wants one (before, after) pair for each of {a.ndim} axes, got {len(self.pad_width)}")
        return array_api.pad(a, self.pad_width, constant_values=self.value)

    def gradient(self, out_grad, node):
        shape = node.inputs[0].shape
        inside = zip(self.pad_width, shape, strict=True)
        return getitem(out_grad, tuple(slice(before, before + n) for (before, _), n in inside))


def pad(a: Tensor, pad_width: Sequence[tuple[int, int]], value: float = 0) -> Tensor:
    """A border of `value`: pad_width is one (before, after) for each axis."""
    return Pad(pad_width, value)(a)


def as_list(x: Any) -> list:
    return list(x) if isinstance(x, (tuple, list)) else [x]


class Roll(TensorOp):
    """Elements moved `shift` places along `axes`, round the end (axes None: of the flattened array)."""

    def __init__(self, shift: Any, axes: Any = None):
        self.shift, self.axes = shift, axes

    def compute(self, a):
        if not all(hasattr(s, "__index__") for s in as_list(self.shift)):
            raise TypeError(f"shift must be whole numbers, got {self.shift!r}")
        return array_api.roll(a, self.shift, axis=self.axes)

    def gradient(self, out_grad, node):
        back = [-s for s in as_list(self.shift)]
        return roll(out_grad, back if isinstance(self.shift, (tuple, list)) else back[0], self.axes)


def roll(a: Tensor, shift: Any, axes: Any = None) -> Tensor:
    """Elements moved `shift` places along `axes`, round the end."""
    return Roll(shift, axes)(a)


def repeat(a: Tensor, repeats: int, axis: int) -> Tensor:
    """Each slice along `axis` `repeats` times in a row: 1 2 -> 1 1 2 2."""
    (axis,) = as_axes(axis, len(a.shape), "repeat")
    repeats = as_count(repeats, "repeat", "repeats")
    lead, tail = a.shape[: axis + 1], a.shape[axis + 1 :]
    copies = broadcast_to(reshape(a, (*lead, 1, *tail)), (*lead, repeats, *tail))
    return reshape(copies, (*lead[:-1], lead[-1] * repeats, *tail))


def tile(a: Tensor, reps: Any) -> Tensor:
    """The whole tensor repeated reps[i] times along axis i: 1 2 -> 1 2 1 2. NumPy's rules for missing axes."""
    reps = tuple(reps) if isinstance(reps, (tuple, list)) else (reps,)
    reps = tuple(as_count(times, "tile", "reps") for times in reps)
    ndim = max(len(reps), len(a.shape))
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - len(a.shape)) + a.shape
    pairs = list(zip(reps, shape, strict=True))
    between = reshape(a, tuple(n for _, size in pairs for n in (1, size)))
    copies = broadcast_to(between, tuple(n for pair in pairs for n in pair))
    return reshape(copies, tuple(times * size for times, size in pairs))


def _triangle(a: Tensor, k: int, lower: bool) -> Tensor:
    if len(a.shape) < 2:
        raise ValueError(f"{'tril' if lower else 'triu'}: wants at least 2 dimensions, got shape {a.shape}")
    rows, columns = (a.device.arange(n) for n in a.shape[-2:])
    kept = array_api.less_equal if lower else array_api.greater_equal
    return where(Tensor.make_const(kept(columns - rows.reshape(-1, 1), k)), a, 0)


def tril(a: Tensor, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes, up to the k-th diagonal; 0 elsewhere."""
    return _triangle(a, k, lower=True)


def triu(a: Tensor, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes, from the k-th diagonal; 0 elsewhere."""
    return _triangle(a, k, lower=False)
