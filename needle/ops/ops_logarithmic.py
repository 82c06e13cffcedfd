"""Log-sum-exp and its family, stable for logits of any size."""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..autograd import Tensor, TensorOp
from ..backend_selection import array_api, device_of
from ..modes import is_grad_enabled
from .ops_comparison import as_tensor
from .ops_indexing import checked_labels, one_hot
from .ops_mathematic import exp, reshape, summation
from .ops_support import as_axes, as_floats, expand, kept_shape

__all__ = [
    "LogSoftmax",
    "LogSumExp",
    "SoftmaxCrossEntropy",
    "logsoftmax",
    "logsumexp",
    "softmax",
    "softmax_cross_entropy",
]


def _finite_max(x: Any, axes: Any) -> Any:
    """Largest over `axes`, kept; the largest finite number for ±∞, so that −∞ rows stay −∞ and do not become NaN."""
    limit = float(array_api.finfo(x.dtype).max)
    return array_api.maximum(array_api.minimum(x.max(axis=axes, keepdims=True), limit), -limit)


def _log_sum_exp(x: Any, axes: Any) -> Any:
    m = _finite_max(x, axes)
    total = array_api.exp(x - m).sum(axis=axes, keepdims=True)
    with array_api.errstate(divide="ignore"):
        return array_api.log(total) + m


class LogSumExp(TensorOp):
    """ln Σ e^x over `axes` (all of them if None).

    y = m + ln Σ e^(x − m), m = max x.   An Op for stability: e^x overflows float32 at x = 89.
    Shapes: x (d1, …, dn) -> y with `axes` removed (kept as 1 with keepdims).   dy/dx = e^(x − y), the softmax.
    """

    def __init__(self, axes: Any = None, keepdims: bool = False):
        self.axes, self.keepdims = axes, keepdims

    def compute(self, x):
        axes = as_axes(self.axes, x.ndim)
        y = _log_sum_exp(as_floats(x), axes)
        shape = kept_shape(x.shape, axes)
        return y if self.keepdims else y.reshape(tuple(n for i, n in enumerate(shape) if i not in axes))

    def gradient(self, out_grad, node):
        (x,) = node.inputs
        return expand(out_grad, x.shape, self.axes) * exp(x - expand(node, x.shape, self.axes))


def logsumexp(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """ln Σ e^a over `axes` (None: all)."""
    return LogSumExp(axes, keepdims)(a)


class LogSoftmax(TensorOp):
    """x − ln Σ e^x along `axis`.   d/dx = g − softmax(x)·Σ g.   An Op for stability and speed."""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def compute(self, x):
        x = as_floats(x)
        z = x - _finite_max(x, self.axis)
        with array_api.errstate(divide="ignore"):
            return z - array_api.log(array_api.exp(z).sum(axis=self.axis, keepdims=True))

    def gradient(self, out_grad, node):
        return out_grad - exp(node) * summation(out_grad, self.axis, keepdims=True)


def logsoftmax(a: Tensor, axis: int = -1) -> Tensor:
    """Logarithm of the softmax along `axis`."""
    return LogSoftmax(axis)(a)


def softmax(a: Tensor, axis: int = -1) -> Tensor:
    """e^a / Σ e^a along `axis`."""
    return exp(logsoftmax(a, axis))


class SoftmaxCrossEntropy(TensorOp):
    """ln Σ e^z − z[label] for each row of logits z, then "mean", "sum" or "none" over the rows.

    Shapes: logits (…, C), labels (…) integers in [0, C) -> () or, for "none", (…).
    d/dz = softmax(z) − one_hot(label), divided by the number of rows for "mean".
    An Op for speed and stability: one pass makes the loss and what the gradient needs.
    """

    def __init__(self, reduction: str = "mean"):
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"softmax_cross_entropy: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.reduction = reduction
        self.residual: Any = None
        self.result: Any = None  # what `residual` belongs to: the op may be called again

    def compute(self, logits, labels):
        if kernels.fits(logits) and logits.ndim == 2 and labels.shape == logits.shape[:1] and labels.dtype.kind in "iu":
            shift, residual_of = kernels.shift_logits.get(), kernels.softmax_residual.get()
            if shift:
                return self._compiled(shift, residual_of, logits, labels)
        labels, device = _checked_labels(labels, logits.shape), device_of(logits)
        scale, classes = self._scale(labels), logits.shape[-1]
        z = as_floats(logits)
        z = z - _finite_max(z, -1)
        p = array_api.exp(z)
        total = p.sum(axis=-1, keepdims=True)
        chosen = array_api.equal(device.reshape(labels, (*labels.shape, 1)), device.arange(classes))
        picked = array_api.where(chosen, z, 0).sum(axis=-1)
        with array_api.errstate(divide="ignore", invalid="ignore"):  # rows of −∞ alone give NaN
            losses = device.reshape(array_api.log(total), labels.shape) - picked
            p = p * (scale / total)
        self.residual = array_api.where(chosen, p - scale, p)
        total_of = losses.astype("float32") if losses.dtype == "float16" else losses  # whose sum may pass 65504
        whole = (total_of.sum() * scale).astype(losses.dtype)
        self.result = losses if self.reduction == "none" else whole
        return self.result

    def _scale(self, labels):
        return 1 if self.reduction != "mean" else 1 / labels.size if labels.size else math.nan

    def _compiled(self, shift, residual_of, logits, labels):
        e, losses = array_api.empty_like(logits), device_of(logits).empty(labels.shape, logits.dtype)
        if not shift(logits, labels, e, losses):
            _checked_labels(labels, logits.shape)
        array_api.exp(e, out=e)  # NumPy's, since compilers give one that takes element by element
        loss = residual_of(e, labels, logits.dtype.type(self._scale(labels)), losses)
        self.residual = e
        self.result = losses if self.reduction == "none" else logits.dtype.type(loss)
        return self.result

    def gradient(self, out_grad, node):
        logits, labels = node.inputs
        each = self.reduction == "none"
        if not is_grad_enabled() and self.result is node.cached_data:
            g = out_grad.cached_data
            factor = device_of(g).reshape(g, (*g.shape, 1)) if each else g
            return Tensor.make_const(self.residual * factor), None
        residual = softmax(logits) - one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        residual = residual / labels.cached_data.size if self.reduction == "mean" else residual
        return residual * (reshape(out_grad, (*out_grad.shape, 1)) if each else out_grad), None


def _checked_labels(labels: Any, shape: tuple[int, ...]) -> Any:
    """`labels` as indices, or an error that names the first bad one."""
    if len(shape) < 1 or labels.shape != shape[:-1]:
        raise ValueError(f"labels of shape {labels.shape} do not go with logits of shape {shape}; wanted {shape[:-1]}")
    return device_of(labels).check(checked_labels, labels, shape[-1])


def softmax_cross_entropy(logits: Tensor, labels: Any, reduction: str = "mean") -> Tensor:
    """Cross-entropy of softmax(logits) against integer labels, stable for logits of any size.

    logits (…, C) floats, labels (…) integers in [0, C). reduction: "mean" or "sum" over all rows, or "none".
    Raises IndexError for a label out of range, ValueError for shapes that do not go together.
    """
    if isinstance(logits, Tensor) and (isinstance(labels, int) or getattr(labels, "shape", None) == ()):
        labels = Tensor(
            labels, device=logits.device, requires_grad=False
        )  # in its own dtype, so that it is not rounded
    return SoftmaxCrossEntropy(reduction)(logits, as_tensor(labels, logits, "softmax_cross_entropy"))
