"""Normalisation by statistics of the array itself, with scale and shift, as one op each.

Both rules are written twice: on tensors, for derivatives of derivatives, and on arrays that `compute` kept.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_selection import array_api
from ..kernels import fits
from ..kernels.normalization import normalize_columns, normalize_columns_gradient
from ..modes import is_grad_enabled
from .ops_elementwise import rsqrt
from .ops_mathematic import summation
from .ops_reduction import mean
from .ops_support import as_floats, reduce_to

__all__ = ["BatchNormalize", "LayerNormalize", "batch_normalize", "layer_normalize"]


class BatchNormalize(TensorTupleOp):
    """((x − μ)/√(σ² + ε) · w + b, μ, σ²) with mean and biased variance of each column, in two passes.

    Shapes: x (N, C), w (C,), b (C,) -> (N, C), (C,), (C,).   With x̂ = (x − μ)/√(σ² + ε):
    db = Σ g,  dw = Σ g·x̂,  dx = w/√(σ² + ε) · (g − db/N − x̂·dw/N), and what comes through μ and σ².
    An Op for speed: forward and backward of 250 × 100 take 70 µs (without Numba 125), composed 240.
    """

    def __init__(self, eps: float = 1e-5):
        self.eps = eps
        self.kept: Any = None
        self.result: Any = None  # what `kept` belongs to: the op may be called again

    def compute(self, x, w, b):
        if x.ndim != 2 or not x.shape[0] or not w.shape == b.shape == x.shape[1:]:
            raise ValueError("wants x of shape (N, C), N at least 1, scale and shift of shape (C,)")
        kernel = normalize_columns.get() if _dense(x, w, b) else None
        if kernel:
            return self._compiled(kernel, x, w, b)
        deviation, mu, variance, scale = _moments(x, 0, self.eps)
        hat = deviation * scale
        self.kept = hat, scale.reshape(-1)
        self.result = hat * w + b, mu.reshape(-1), variance.reshape(-1)
        return self.result

    def _compiled(self, kernel, x, w, b):
        sums, columns = array_api.empty_like(w, dtype="float64"), [array_api.empty_like(w) for _ in range(3)]
        hat, y = array_api.empty_like(x), array_api.empty_like(x)
        kernel(x, w, b, self.eps, sums, *columns, hat, y)
        mu, variance, scale = columns
        self.kept = hat, scale
        self.result = y, mu, variance
        return self.result

    def gradient(self, out_grad, node):
        if not is_grad_enabled() and self.result is node.cached_data:
            return _cast(self._by_arrays(out_grad.cached_data, node.inputs[1].cached_data), node)
        x, w, _ = node.inputs
        g, g_mu, g_variance = out_grad.tuple()
        _, mu, variance = node.tuple()
        deviation, scale = x - mu, rsqrt(variance + self.eps)
        hat, n = deviation * scale, x.shape[0]
        db, dw = summation(g, 0), summation(g * hat, 0)
        dx = (g - db / n - hat * (dw / n)) * (w * scale) + (g_mu + deviation * g_variance * 2) / n
        return reduce_to(dx, x), reduce_to(dw, w), reduce_to(db, w)

    def _by_arrays(self, grads, w):
        (g, g_mu, g_variance), (hat, scale) = grads, self.kept
        kernel = normalize_columns_gradient.get() if _dense(*grads, hat, w, scale) else None
        if kernel:
            dx, dw, db = array_api.empty_like(g), array_api.empty_like(w), array_api.empty_like(w)
            sums = array_api.empty_like(w, dtype="float64", shape=(3, *w.shape))
            kernel(*grads, hat, w, scale, sums, dx, dw, db)
            return dx, dw, db
        n = g.shape[0]
        db, dw = g.sum(axis=0), (g * hat).sum(axis=0)
        factor = scale * w
        slope = 2 * g_variance / (n * scale) - factor * dw / n  # of all that is a multiple of x̂
        dx = hat * slope
        dx += g * factor
        dx += (g_mu - factor * db) / n
        return dx, dw, db


def batch_normalize(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5) -> TensorTuple:
    """((x − μ)/√(σ² + eps) · w + b, μ, σ²) by column.   x (N, C), w and b (C,)."""
    return BatchNormalize(eps)(x, w, b)


class LayerNormalize(TensorOp):
    """(x − μ)/√(σ² + ε) · w + b with mean and biased variance over the last axis, in two passes.

    Shapes: x (…, C), w (C,), b (C,) -> (…, C).   With x̂ = (x − μ)/√(σ² + ε), h = g·w and means over the last axis:
    db = Σ g,  dw = Σ g·x̂,  dx = (h − mean h − x̂·mean(h·x̂))/√(σ² + ε).   An Op for speed: 130 µs, composed 250.
    """

    def __init__(self, eps: float = 1e-5):
        self.eps = eps
        self.kept: Any = None
        self.result: Any = None

    def compute(self, x, w, b):
        if not x.ndim or not x.shape[-1] or not w.shape == b.shape == x.shape[-1:]:
            raise ValueError("wants x of shape (…, C), C at least 1, scale and shift of shape (C,)")
        deviation, _, _, scale = _moments(x, -1, self.eps)
        hat = deviation * scale
        self.kept = hat, scale
        self.result = hat * w + b
        return self.result

    def gradient(self, out_grad, node):
        if not is_grad_enabled() and self.result is node.cached_data:
            return _cast(self._by_arrays(out_grad.cached_data, node.inputs[1].cached_data), node)
        x, w, b = node.inputs
        deviation = x - mean(x, -1, keepdims=True)
        scale = rsqrt(mean(deviation * deviation, -1, keepdims=True) + self.eps)
        hat, h = deviation * scale, out_grad * w
        dx = (h - mean(h, -1, keepdims=True) - hat * mean(h * hat, -1, keepdims=True)) * scale
        return reduce_to(dx, x), reduce_to(out_grad * hat, w), reduce_to(out_grad, b)

    def _by_arrays(self, g, w):
        (hat, scale), n = self.kept, g.shape[-1]
        h, rows = g * w, tuple(range(g.ndim - 1))
        along = (h * hat).sum(axis=-1, keepdims=True) / n
        dx = hat * -along
        dx += h
        dx -= h.sum(axis=-1, keepdims=True) / n
        dx *= scale
        return dx, (g * hat).sum(axis=rows), g.sum(axis=rows)


def layer_normalize(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """(x − μ)/√(σ² + eps) · w + b over the last axis.   x (…, C), w and b (C,)."""
    return LayerNormalize(eps)(x, w, b)


def _moments(x: Any, axis: int, eps: float) -> tuple:
    """x − μ, μ, σ² and 1/√(σ² + eps) over `axis`, which is kept."""
    n = x.shape[axis]
    mu = as_floats(x).sum(axis=axis, keepdims=True) / n
    deviation = x - mu
    variance = (deviation * deviation).sum(axis=axis, keepdims=True) / n
    return deviation, mu, variance, 1 / array_api.sqrt(variance + eps)


def _dense(*arrays: Any) -> bool:
    """Whether a kernel takes them: dense, and of one dtype."""
    return all(map(fits, arrays)) and len({array.dtype for array in arrays}) == 1


def _cast(grads: tuple, node: Any) -> tuple:
    """Arrays as the gradients of the node's inputs, cast back where inputs of several dtypes met."""
    return tuple(reduce_to(Tensor.make_const(grad), x) for grad, x in zip(grads, node.inputs, strict=True))
