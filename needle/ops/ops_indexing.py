"""Taking parts of a tensor, and putting gradients back where the parts came from."""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..autograd import Tensor, TensorOp, Value
from ..backend_selection import array_api, default_device, device_of
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
    """An index as arrays, ints and slices: arrays, tensors and lists in it become arrays of their own."""
    if isinstance(index, tuple):
        return tuple(as_index(part) for part in index)
    array = index.cached_data if isinstance(index, Value) else index
    if isinstance(array, list):
        array = array_api.asarray(array)
    elif isinstance(array, array_api.generic) or not hasattr(array, "strides"):
        return array
    else:
        array = array_api.copy(array)
    return array if array.size or array.dtype.kind in "iub" else array.astype("int64")  # [] has no numbers at all


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
        return device_of(a).getitem(a, self.index)

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
        out, device = array_api.zeros_like(a, shape=self.shape), device_of(a)
        put = device.setitem if is_basic(self.index) else device.add_at
        put(out, self.index, a)
        return out

    def gradient(self, out_grad, node):
        return GetItem(self.index)(out_grad)


def take(a: Tensor, indices: Any, axis: int = 0) -> Tensor:
    """The slices of `a` along `axis` that integer `indices` (any shape) name."""
    (axis,) = as_axes(axis, len(a.shape), "take")
    indices = _index_array("take", indices, a)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"take: indices must be integers, got dtype {indices.dtype}")
    return getitem(a, (slice(None),) * axis + (indices,))


def gather(a: Tensor, index: Any, axis: int) -> Tensor:
    """out[i, j, …] = a[i, …, index[i, j, …], …]: one pick along `axis` for each place of the integer `index`."""
    (axis,) = as_axes(axis, len(a.shape), "gather")
    index = _index_array("gather", index, a)
    if index.ndim != len(a.shape) or any(
        n > have for i, (n, have) in enumerate(zip(index.shape, a.shape, strict=True)) if i != axis
    ):
        problem = f"index of shape {index.shape} does not go with {a.shape}; wanted as many axes, none longer"
        raise mismatch("gather", f"{problem} except axis {axis}", (a,))
    if index.dtype.kind not in "iu":
        raise TypeError(f"gather: index must be integers, got dtype {index.dtype}")
    device, ndim = a.device, index.ndim
    places = [device.arange(n).reshape([-1 if i == j else 1 for j in range(ndim)]) for i, n in enumerate(index.shape)]
    places[axis] = index
    return getitem(a, tuple(places))


def _index_array(who: str, index: Any, a: Tensor) -> Any:
    """Whole numbers as an array on the device of `a`; a tensor must be there already."""
    if isinstance(index, Tensor) and index.device != a.device:
        problem = f"the tensor is on {a.device}, the index on {index.device}; move it there: index.to(x.device)"
        raise mismatch(who, problem, (a, index))
    index = as_index(index)
    return index if getattr(index, "device", None) == a.device else a.device.share(index)


class OneHot(TensorOp):
    """1 at the label's place, else 0. Constant: a label has no slope."""

    differentiable = False

    def __init__(self, num_classes: int, dtype: Any):
        self.num_classes, self.dtype = num_classes, dtype

    def compute(self, labels):
        device = device_of(labels)
        labels = device.check(checked_labels, labels, self.num_classes)
        column = device.reshape(labels, (*labels.shape, 1))
        return array_api.equal(column, device.arange(self.num_classes)).astype(self.dtype)


def checked_labels(labels: Any, classes: int) -> Any:
    """`labels` as integers, or an error that names the first one that is no whole number in [0, classes)."""
    within = kernels.all_within.get() if kernels.holds_whole_numbers(labels) else None
    if within and within(labels.reshape(-1), classes):
        return labels
    if labels.dtype.kind not in "iuf":
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    if labels.dtype.kind == "f":
        whole = array_api.equal(labels, array_api.floor(labels))
        if not whole.all():
            raise ValueError(f"labels must be whole numbers, got {_first_outside(whole, labels)}")
    fits = array_api.logical_and(array_api.greater_equal(labels, 0), array_api.less(labels, classes))
    if not fits.all():
        worst = _first_outside(fits, labels)
        raise IndexError(f"label {worst} is out of range for {classes} classes (0 to {classes - 1})")
    return labels.astype("int64", copy=False)


def _first_outside(mask: Any, labels: Any) -> Any:
    device = device_of(labels)
    return device.to_numpy(device.getitem(labels, array_api.logical_not(mask)))[0]


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
    largest_first = array_api.flip(argsort(a, axis).cached_data, axis)
    return gather(a, a.device.getitem(largest_first, (slice(None),) * axis + (slice(k),)), axis)
