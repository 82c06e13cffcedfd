"""Ops that make or take tuples of tensors."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp

__all__ = [
    "FusedAddScalars",
    "MakeTensorTuple",
    "TupleGetItem",
    "fused_add_scalars",
    "make_tuple",
    "tuple_get_item",
]


class MakeTensorTuple(TensorTupleOp):
    """(x1, …, xn) as one TensorTuple. An Op: it changes the kind of node."""

    def compute(self, *arrays):
        return arrays

    def gradient(self, out_grad, node):
        return out_grad.tuple()


def make_tuple(*args: Tensor) -> TensorTuple:
    """Tensors of any shapes as one TensorTuple."""
    return MakeTensorTuple()(*args)


class TupleGetItem(TensorOp):
    """The index-th tensor of a TensorTuple; the gradient is zero for the others."""

    def __init__(self, index: int):
        self.index = index

    def compute(self, arrays):
        return arrays[self.index]

    def gradient(self, out_grad, node):
        (whole,) = node.inputs
        parts = whole.cached_data
        mine = self.index % len(parts)
        return make_tuple(*[out_grad if i == mine else Tensor.make_const(x).filled(0) for i, x in enumerate(parts)])


def tuple_get_item(value: TensorTuple, index: int) -> Tensor:
    """value[index]; of a tuple just built by `make_tuple`, the very tensor that went in."""
    if not hasattr(index, "__index__"):
        raise TypeError(f"TensorTuple: wanted one whole number as index, got {index!r}")
    if isinstance(value.op, MakeTensorTuple):
        return value.inputs[index]  # type: ignore[return-value]
    return TupleGetItem(index)(value)


def cast_parts(grads: TensorTuple, like: TensorTuple) -> TensorTuple:
    """`grads` with each part in the dtype of that part of `like`, where they were promoted to be joined."""
    dtypes = [part.dtype for part in like.cached_data]
    if all(part.dtype == dtype for part, dtype in zip(grads.cached_data, dtypes, strict=True)):
        return grads
    parts = [tuple_get_item(grads, i) for i in range(len(dtypes))]
    return make_tuple(*[g.astype(dtype) if dtype.kind == "f" else g for g, dtype in zip(parts, dtypes, strict=True)])


class FusedAddScalars(TensorTupleOp):
    """x -> (x + c0, x + c1). An Op: two results of one pass."""

    def __init__(self, c0: Any, c1: Any):
        self.c0, self.c1 = c0, c1

    def compute(self, x):
        return x + self.c0, x + self.c1

    def gradient(self, out_grad, node):
        first, second = out_grad.tuple()
        return first + second


def fused_add_scalars(x: Tensor, c0: Any, c1: Any) -> TensorTuple:
    """The TensorTuple (x + c0, x + c1)."""
    return FusedAddScalars(c0, c1)(x)
