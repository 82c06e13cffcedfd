"""The course's ops: arithmetic, shape, sum and matmul. Every other file of this folder builds on this one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import kernels
from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_selection import array_api, device_of
from ..failures import mismatch, not_tensors
from ..modes import is_dtype
from .ops_comparison import eq, ne
from .ops_support import as_axes, as_floats, as_number, expand, reduce_to
from .ops_tuple import cast_parts, make_tuple

__all__ = [
    "AddScalar",
    "AsType",
    "BroadcastTo",
    "DivScalar",
    "EWiseAdd",
    "EWiseDiv",
    "EWiseMul",
    "EWisePow",
    "Exp",
    "Flip",
    "Log",
    "MatMul",
    "MulScalar",
    "Negate",
    "Permute",
    "PowerScalar",
    "ReLU",
    "Reshape",
    "Split",
    "Stack",
    "StepMask",
    "Summation",
    "Tanh",
    "Transpose",
    "add",
    "add_scalar",
    "astype",
    "broadcast_to",
    "divide",
    "divide_scalar",
    "exp",
    "flip",
    "log",
    "matmul",
    "mul_scalar",
    "multiply",
    "negate",
    "permute",
    "power",
    "power_scalar",
    "relu",
    "reshape",
    "split",
    "stack",
    "summation",
    "tanh",
    "transpose",
]

SKINNY = 32  # below so many columns, aᵀg is faster as (gᵀa)ᵀ: 12 against 16 µs for 784×100 @ 100×10, OpenBLAS 0.3


# --- arithmetic ------------------------------------------------------------------------------------------------


class EWiseAdd(TensorOp):
    """a + b with broadcasting."""

    def compute(self, a, b):
        return a + b

    def gradient(self, out_grad, node):
        a, b = node.inputs
        return reduce_to(out_grad, a), reduce_to(out_grad, b)


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b with broadcasting."""
    return EWiseAdd()(a, b)


class AddScalar(TensorOp):
    """a + scalar; the number takes the tensor's dtype."""

    def __init__(self, scalar: Any):
        self.scalar = as_number(scalar, "AddScalar")

    def compute(self, a):
        return a + self.scalar

    def gradient(self, out_grad, node):
        return out_grad


def add_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a + scalar."""
    return AddScalar(scalar)(a)


class EWiseMul(TensorOp):
    """a * b with broadcasting."""

    def compute(self, a, b):
        return a * b

    def gradient(self, out_grad, node):
        a, b = node.inputs
        return (
            reduce_to(out_grad * b, a) if a.requires_grad else None,
            reduce_to(out_grad * a, b) if b.requires_grad else None,
        )


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a * b, elementwise, with broadcasting."""
    return EWiseMul()(a, b)


class MulScalar(TensorOp):
    """a * scalar; the number takes the tensor's dtype."""

    def __init__(self, scalar: Any):
        self.scalar = as_number(scalar, "MulScalar")

    def compute(self, a):
        return a * self.scalar

    def gradient(self, out_grad, node):
        return reduce_to(out_grad * self.scalar, node.inputs[0])


def mul_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a * scalar."""
    return MulScalar(scalar)(a)


class EWisePow(TensorOp):
    """a ** b with broadcasting.

    d/da = b·a^(b−1), 0 where b = 0;  d/db = a^b·ln a, 0 where a = 0 (NaN where a < 0, as ln a).
    """

    def compute(self, a, b):
        return array_api.power(a, b)

    def gradient(self, out_grad, node):
        a, b = node.inputs
        return (
            reduce_to(out_grad * PowerBaseSlope()(a, b), a) if a.requires_grad else None,
            reduce_to(out_grad * node * LogOrZero()(a), b) if b.requires_grad else None,
        )


def power(a: Tensor, b: Tensor) -> Tensor:
    """a ** b, elementwise, with broadcasting. Gradients to the base and to the exponent."""
    return EWisePow()(a, b)


class PowerBaseSlope(TensorOp):
    """b·a^(b−1), the slope of a^b in a; 0 where b = 0, also at a = 0. An Op: composed it is 0·∞ there."""

    def compute(self, a, b):
        slope = array_api.power(array_api.where(array_api.equal(b, 0), 1, a), b - 1.0)
        return slope * b

    def gradient(self, out_grad, node):
        a, b = node.inputs
        return (
            reduce_to(out_grad * b * PowerBaseSlope()(a, b - 1), a) if a.requires_grad else None,
            reduce_to(out_grad * (power(a, b - 1) + node * LogOrZero()(a)), b) if b.requires_grad else None,
        )


class LogOrZero(TensorOp):
    """ln a, but 0 at a = 0. An Op: the exponent's slope a^b·ln a is 0 at a = 0, where ln a has none."""

    def compute(self, a):
        return array_api.log(array_api.where(array_api.equal(a, 0), 1, as_floats(a)))

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        return out_grad * ne(a, 0) / (a + eq(a, 0))


class PowerScalar(TensorOp):
    """a ** scalar.   d/da = scalar·a^(scalar−1), 0 for scalar 0."""

    def __init__(self, scalar: Any):
        self.scalar = as_number(scalar, "PowerScalar")

    def compute(self, a):
        return a**self.scalar

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        if self.scalar == 0:
            return a.filled(0)
        return out_grad * (power_scalar(a, self.scalar - 1) * self.scalar)


def power_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a ** scalar for one number."""
    return PowerScalar(scalar)(a)


class EWiseDiv(TensorOp):
    """a / b with broadcasting.   d/da = 1/b,  d/db = −(a/b)/b."""

    def compute(self, a, b):
        return a / b

    def gradient(self, out_grad, node):
        a, b = node.inputs
        return (
            reduce_to(out_grad / b, a) if a.requires_grad else None,
            reduce_to(-(out_grad * (node / b)), b) if b.requires_grad else None,
        )


def divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, elementwise, with broadcasting."""
    return EWiseDiv()(a, b)


class DivScalar(TensorOp):
    """a / scalar; the number takes the tensor's dtype."""

    def __init__(self, scalar: Any):
        self.scalar = as_number(scalar, "DivScalar")

    def compute(self, a):
        return a / self.scalar

    def gradient(self, out_grad, node):
        return reduce_to(out_grad / self.scalar, node.inputs[0])


def divide_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a / scalar."""
    return DivScalar(scalar)(a)


class Negate(TensorOp):
    """−a."""

    def compute(self, a):
        return -a

    def gradient(self, out_grad, node):
        return -out_grad


def negate(a: Tensor) -> Tensor:
    """−a."""
    return Negate()(a)


class Log(TensorOp):
    """ln a.   d/da = 1/a."""

    def compute(self, a):
        return array_api.log(a)

    def gradient(self, out_grad, node):
        return out_grad / node.inputs[0]


def log(a: Tensor) -> Tensor:
    """Natural logarithm."""
    return Log()(a)


class Exp(TensorOp):
    """e^a, its own derivative."""

    def compute(self, a):
        return array_api.exp(a)

    def gradient(self, out_grad, node):
        return out_grad * node


def exp(a: Tensor) -> Tensor:
    """e to the power of a."""
    return Exp()(a)


class ReLU(TensorOp):
    """max(a, 0).   d/da = 1 where a > 0, else 0 (also at 0)."""

    def compute(self, a):
        return array_api.maximum(a, 0)

    def gradient(self, out_grad, node):
        return StepMask()(out_grad, node)


def relu(a: Tensor) -> Tensor:
    """max(a, 0), elementwise; its slope at 0 is 0."""
    return ReLU()(a)


class StepMask(TensorOp):
    """g where y > 0, else 0. An Op for speed: one pass, and y, which only chooses, needs no gradient."""

    def compute(self, g, y):
        kernel = kernels.mask_positive.get() if kernels.fits(g) and kernels.fits(y) else None
        if kernel and g.shape == y.shape and g.dtype == y.dtype:
            out = array_api.empty_like(g)
            kernel(g.reshape(-1), y.reshape(-1), out.reshape(-1))
            return out
        return array_api.where(y > 0, g, 0)  # not g·(y > 0), which is NaN where g is infinite

    def gradient(self, out_grad, node):
        return StepMask()(out_grad, node.inputs[1]), None


class Tanh(TensorOp):
    """tanh a.   d/da = 1 − tanh² a."""

    def compute(self, a):
        return array_api.tanh(a)

    def gradient(self, out_grad, node):
        return out_grad * (1 - node * node)


def tanh(a: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh()(a)


class AsType(TensorOp):
    """a in another dtype; the gradient is cast back. Rounding floats to integers has slope 0."""

    def __init__(self, dtype: Any):
        self.dtype = dtype

    def compute(self, a):
        if not is_dtype(self.dtype) or array_api.dtype(self.dtype).kind not in "biuf":
            raise TypeError(f"wanted a dtype of real numbers or booleans, got {self.dtype!r}")
        return a.astype(self.dtype)

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        rounded = a.dtype.kind == "f" and node.dtype.kind != "f"
        return (None if rounded else reduce_to(out_grad, a),)


def astype(a: Tensor, dtype: Any) -> Tensor:
    """a in another dtype; no gradient flows from integers and booleans back to floats."""
    return a if is_dtype(dtype) and a.dtype == dtype else AsType(dtype)(a)


# --- shape -----------------------------------------------------------------------------------------------------


class Transpose(TensorOp):
    """Two axes swapped, the last two by default. Its own inverse."""

    def __init__(self, axes: Any = None):
        self.axes = axes

    def compute(self, a):
        if self.axes is None and a.ndim < 2:
            raise ValueError("swaps the last two axes, so it wants at least 2 dimensions")
        if self.axes is not None and len(as_axes(self.axes, a.ndim)) != 2:
            raise ValueError(f"axes names two axes to swap, got {self.axes}; use permute for more")
        return a.swapaxes(*(self.axes or (-2, -1)))

    def gradient(self, out_grad, node):
        return transpose(out_grad, self.axes)


def transpose(a: Tensor, axes: Any = None) -> Tensor:
    """Swap two axes (None: the last two). (…, m, n) -> (…, n, m)"""
    return Transpose(axes)(a)


class Permute(TensorOp):
    """Axes reordered: output axis i is input axis axes[i]."""

    def __init__(self, axes: Any):
        self.axes = (axes,) if hasattr(axes, "__index__") else tuple(axes)

    def compute(self, a):
        if sorted(as_axes(self.axes, a.ndim)) != list(range(a.ndim)):
            raise ValueError(f"axes {self.axes} must name each of the {a.ndim} axes once")
        return a.transpose(self.axes)

    def gradient(self, out_grad, node):
        positive = as_axes(self.axes, len(self.axes))
        return permute(out_grad, sorted(range(len(positive)), key=positive.__getitem__))


def permute(a: Tensor, axes: Any) -> Tensor:
    """All axes reordered, as numpy.transpose(a, axes)."""
    return Permute(axes)(a)


class Reshape(TensorOp):
    """The same elements in row-major order under another shape; one entry may be −1."""

    def __init__(self, shape: Any):
        self.shape = shape

    def compute(self, a):
        return device_of(a).reshape(a, self.shape)

    def gradient(self, out_grad, node):
        return reshape(out_grad, node.inputs[0].shape)


def reshape(a: Tensor, shape: Any) -> Tensor:
    """The same elements under another shape; one entry may be −1."""
    return Reshape(shape)(a)


class BroadcastTo(TensorOp):
    """Repeated to `shape` by NumPy's rules; the gradient sums over what was repeated."""

    def __init__(self, shape: Any):
        self.shape = (shape,) if hasattr(shape, "__index__") else tuple(shape)

    def compute(self, a):
        return array_api.broadcast_to(a, self.shape)

    def gradient(self, out_grad, node):
        return reduce_to(out_grad, node.inputs[0])


def broadcast_to(a: Tensor, shape: Any) -> Tensor:
    """Repeated to `shape` by NumPy's rules."""
    return BroadcastTo(shape)(a)


class Flip(TensorOp):
    """Order reversed along `axes` (all if None). Its own gradient."""

    def __init__(self, axes: Any = None):
        self.axes = axes

    def compute(self, a):
        return array_api.flip(a, self.axes)

    def gradient(self, out_grad, node):
        return flip(out_grad, self.axes)


def flip(a: Tensor, axes: Any = None) -> Tensor:
    """Order reversed along `axes` (all if None)."""
    return Flip(axes)(a)


class Stack(TensorOp):
    """Equal shapes joined along a new axis. Input is a TensorTuple."""

    def __init__(self, axis: int):
        self.axis = axis

    def compute(self, arrays):
        return array_api.stack(arrays, axis=self.axis)

    def gradient(self, out_grad, node):
        return cast_parts(split(out_grad, self.axis), node.inputs[0])


def stack(args: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of equal shape joined along a new axis."""
    return Stack(axis)(args if isinstance(args, TensorTuple) else make_tuple(*args))


class Split(TensorTupleOp):
    """The slices along `axis`, which disappears."""

    def __init__(self, axis: int):
        self.axis = axis

    def compute(self, a):
        (axis,) = as_axes(self.axis, a.ndim)
        lead, device = (slice(None),) * axis, device_of(a)
        return tuple(device.getitem(a, lead + (i,)) for i in range(a.shape[axis]))

    def gradient(self, out_grad, node):
        return stack(out_grad, self.axis)


def split(a: Tensor, axis: int = 0) -> TensorTuple:
    """The slices along `axis` as a TensorTuple; the axis disappears. Undoes `stack`."""
    return Split(axis)(a)


# --- reduction and product -------------------------------------------------------------------------------------


class Summation(TensorOp):
    """Sum over `axes` (None, an int, or several), which vanish unless keepdims."""

    def __init__(self, axes: Any = None, keepdims: bool = False):
        self.axes = tuple(axes) if isinstance(axes, list) else axes
        self.keepdims = keepdims

    def compute(self, a):
        return a.sum(axis=self.axes, keepdims=self.keepdims)

    def gradient(self, out_grad, node):
        (a,) = node.inputs
        return expand(out_grad, a.shape, self.axes)


def summation(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over `axes` (None: all of them)."""
    return Summation(axes, keepdims)(a)


class MatMul(TensorOp):
    """a @ b of matrices, or of stacks of matrices with broadcasting over the leading axes.

    (…, m, k) @ (…, k, n) -> (…, m, n).   d/da = g bᵀ,  d/db = aᵀ g: the same op with one side transposed, which
    `transpose_a` and `transpose_b` (not both) ask for, as BLAS does.
    """

    def __init__(self, transpose_a: bool = False, transpose_b: bool = False):
        self.transpose_a, self.transpose_b = transpose_a, transpose_b

    def compute(self, a, b):
        if a.ndim < 2 or b.ndim < 2:
            raise ValueError("wants at least 2 dimensions on both sides; ndl.matmul and @ also take vectors")
        if a.ndim > 2 and b.ndim == 2 and not self.transpose_a and a.size:
            return self._stacked(a, b.T if self.transpose_b else b)
        if self.transpose_b:
            return a @ b.swapaxes(-2, -1)
        if not self.transpose_a:
            return a @ b
        if b.shape[-1] < SKINNY and a.ndim == b.ndim == 2:
            return (b.T @ a).T
        return a.swapaxes(-2, -1) @ b

    def _stacked(self, a, b):
        """A stack of matrices times one matrix, as one tall product: 0.4 ms where 16 of 64×128 @ 128×512 take 0.8."""
        tall = device_of(a).reshape(a, (math.prod(a.shape[:-1]), a.shape[-1])) @ b
        return tall.reshape((*a.shape[:-1], b.shape[1]))

    def gradient(self, out_grad, node):
        a, b = node.inputs
        if self.transpose_a:
            grad_a, grad_b = (RIGHT, b, out_grad), (PLAIN, a, out_grad)
        elif self.transpose_b:
            grad_a, grad_b = (PLAIN, out_grad, b), (LEFT, out_grad, a)
        else:
            grad_a, grad_b = (RIGHT, out_grad, b), (LEFT, *_as_one_matrix(a, b, out_grad))
        return (
            reduce_to(grad_a[0](*grad_a[1:]), a) if a.requires_grad else None,
            reduce_to(grad_b[0](*grad_b[1:]), b) if b.requires_grad else None,
        )

    def hint(self, a, b):
        if self.transpose_a or self.transpose_b or not (a and b) or a[-1] == b[-2:][0]:
            return None
        fits = "; did you mean b.T?" if len(b) == 2 and a[-1] == b[-1] else ""
        fits = "; did you mean a.T?" if len(a) == 2 and a[0] == b[-2:][0] else fits
        return f"the last axis of the left ({a[-1]}) must equal the last but one of the right ({b[-2:][0]}){fits}"


PLAIN, LEFT, RIGHT = MatMul(), MatMul(transpose_a=True), MatMul(transpose_b=True)


def _as_one_matrix(a: Tensor, b: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Where one matrix b met a whole stack: the stack as one tall matrix, so that nothing is summed afterwards."""
    if b.cached_data.ndim == 2 and a.cached_data.ndim > 2:
        rows = math.prod(a.shape[:-1])  # not −1, which an empty stack leaves open
        return reshape(a, (rows, a.shape[-1])), reshape(g, (rows, g.shape[-1]))
    return a, g


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product as numpy.matmul: broadcasts over leading axes; a vector on either side gives up its axis."""
    try:
        matrices = a.cached_data.ndim > 1 and b.cached_data.ndim > 1
    except AttributeError:
        raise not_tensors("matmul", (a, b)) from None
    if matrices:
        return PLAIN(a, b)
    if not a.shape or not b.shape:
        raise mismatch(
            "matmul", f"wants at least 1 dimension on both sides, got {a.shape} @ {b.shape}; use * to scale", (a, b)
        )
    row = reshape(a, (1, -1)) if len(a.shape) == 1 else a
    column = reshape(b, (-1, 1)) if len(b.shape) == 1 else b
    product = PLAIN(row, column)
    shape = product.shape[:-2] + (() if len(a.shape) == 1 else product.shape[-2:-1])
    return reshape(product, shape + (() if len(b.shape) == 1 else product.shape[-1:]))
