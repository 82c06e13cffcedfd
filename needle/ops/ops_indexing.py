"""Taking parts of a tensor, and putting gradients back where the parts came from."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorOp, Value
from ..backend_selection import NDArray, array_api, default_device
from ..failures import mismatch
from .ops_support import as_axes, as_count

__all__ = [
    "ArgSort",
    "GetItem",
    "OneHot",
    "ScatterAdd",
    "argsort",
    "gather",
    "getitem",
    "one_hot",
    "sort",
    "take",
    "topk",
]


def as_index(index: Any) -> Any:
    """An index as arrays, ints and slices: tensors and lists in it become arrays of their own."""
    if isinstance(index, tuple):
        return tuple(as_index(part) for part in index)
    if isinstance(index, Value):
        return array_api.array(index.cached_data)
    if not isinstance(index, (list, NDArray)):
        return index
    copied = array_api.array(index)
    return copied if copied.size or copied.dtype.kind in "iub" else copied.astype("int64")  # [] has no numbers at all


def is_basic(index: Any) -> bool:
    """Whether the index is made of ints, slices, ellipsis and None alone: then no element is taken twice."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = (int, slice, array_api.integer)
    return all(part is None or part is Ellipsis or isinstance(part, plain) for part in parts) and not any(
        isinstance(part, bool) for part in parts
    )


class GetItem(TensorOp):
    """a[index] by NumPy's rules.   The gradient goes back to where each element came from, summed."""

    def __init__(self, index: Any):
        self.index = as_index(index)

    def compute(self, a):
        return a[self.index]

    def gradient(self, out_grad, node):
        return ScatterAdd(self.index, node.inputs[0].shape)(out_grad)


def getitem(a: Tensor, index: Any) -> Tensor:
    """a[index]: ints, slices, ellipsis, None, integer and boolean arrays or tensors."""
    return GetItem(index)(a)


class ScatterAdd(TensorOp):
    """Zeros of `shape` to which a is added at `index`; an element named twice gets both. GetItem's transpose."""

    def __init__(self, index: Any, shape: Any):
        self.index, self.shape = index, shape

    def compute(self, a):
        out = array_api.zeros_like(a, shape=self.shape)
        if is_basic(self.index):
            out[self.index] = a
        else:
            array_api.add.at(out, self.index, a)
        return out

    def gradient(self, out_grad, node):
        return GetItem(self.index)(out_grad)


def take(a: Tensor, indices: Any, axis: int = 0) -> Tensor:
    """The slices of `a` along `axis` that integer `indices` (any shape) name."""
    (axis,) = as_axes(axis, len(a.shape), "take")
    indices = array_api.asarray(as_index(indices))
    if indices.dtype.kind not in "iu":
        raise TypeError(f"take: indices must be integers, got dtype {indices.dtype}")
    return getitem(a, (slice(None),) * axis + (indices,))


def gather(a: Tensor, index: Any, axis: int) -> Tensor:
    """out[i, j, …] = a[i, …, index[i, j, …], …]: one pick along `axis` for each place of the integer `index`."""
    (axis,) = as_axes(axis, len(a.shape), "gather")
    index = array_api.asarray(as_index(index))
    if index.ndim != len(a.shape) or any(
        n > have for i, (n, have) in enumerate(zip(index.shape, a.shape, strict=True)) if i != axis
    ):
        problem = f"index of shape {index.shape} does not go with {a.shape}; wanted as many axes, none longer"
        raise mismatch("gather", f"{problem} except axis {axis}", (a,))
    if index.dtype.kind not in "iu":
        raise TypeError(f"gather: index must be integers, got dtype {index.dtype}")
    places = list(array_api.ogrid[tuple(slice(n) for n in index.shape)])
    places[axis] = index
    return getitem(a, tuple(places))


class OneHot(TensorOp):
    """1 at the label's place, else 0. Constant: a label has no slope."""

    differentiable = False

    def __init__(self, num_classes: int, dtype: Any):
        self.num_classes, self.dtype = num_classes, dtype

    def compute(self, labels):
        labels = checked_labels(labels, self.num_classes)
        return (labels[..., None] == array_api.arange(self.num_classes)).astype(self.dtype)


def checked_labels(labels: Any, classes: int) -> Any:
    """`labels` as integers, or an error that names the first one that is no whole number in [0, classes)."""
    if labels.dtype.kind not in "iuf":
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    fits = (labels >= 0) & (labels < classes)
    if labels.dtype.kind == "f":
        broken = labels[~(labels == array_api.floor(labels))]
        if broken.size:
            raise ValueError(f"labels must be whole numbers, got {broken[0]}")
    if not fits.all():
        raise IndexError(f"label {labels[~fits][0]} is out of range for {classes} classes (0 to {classes - 1})")
    return labels.astype("int64", copy=False)


def one_hot(labels: Any, num_classes: int, dtype: Any = "float32") -> Tensor:
    """labels (…) of whole numbers in [0, num_classes) -> (…, num_classes) of 0 and 1."""
    as_count(num_classes, "one_hot", "num_classes")
    if not isinstance(labels, Tensor):
        labels = Tensor(labels, device=default_device(), requires_grad=False)
    return OneHot(num_classes, dtype)(labels)


class ArgSort(TensorOp):
    """The order that sorts along `axis`, equal elements in their old order. Constant: an index has no slope."""

    differentiable = False

    def __init__(self, axis: int = -1):
        self.axis = axis

    def compute(self, a):
        return array_api.argsort(a, axis=self.axis, kind="stable")


def argsort(a: Tensor, axis: int = -1) -> Tensor:
    """Indices that sort `a` along `axis`, smallest first, stable."""
    return ArgSort(axis)(a)


def sort(a: Tensor, axis: int = -1) -> Tensor:
    """`a` sorted along `axis`, smallest first; each gradient returns to where its element came from."""
    return gather(a, argsort(a, axis), axis)


def topk(a: Tensor, k: int, axis: int = -1) -> Tensor:
    """The k largest along `axis`, largest first."""
    (axis,) = as_axes(axis, len(a.shape), "topk")
    if as_count(k, "topk", "k") > a.shape[axis]:
        raise ValueError(f"topk: k={k} must be between 0 and {a.shape[axis]}, the size of axis {axis}")
    lead = (slice(None),) * axis
    largest_first = argsort(a, axis).cached_data[lead + (slice(None, None, -1),)]
    return gather(a, largest_first[lead + (slice(k),)], axis)
