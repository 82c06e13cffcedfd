"""Layers that bring activations to mean 0 and variance 1, by feature (batch) or by sample (layer)."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor
from ..failures import mismatch
from ..init import ones, zeros
from ..ops import batch_normalize, layer_normalize, mean, rsqrt
from .nn_module import Module, Parameter
from .nn_support import as_eps, as_fraction, as_shape, as_size, check_last_axes

__all__ = ["BatchNorm1d", "LayerNorm", "LayerNorm1d", "RMSNorm"]


class BatchNorm1d(Module):
    """(x − μ)/√(σ² + eps) · weight + bias with mean and biased variance of each feature (arXiv:1502.03167).   (N, dim)

    In training they are the batch's, and running ← (1 − momentum)·running + momentum·batch; else the running ones.
    Raises ValueError for another shape, and for a batch of one in training, whose variance is 0.
    """

    buffer_names = ("running_mean", "running_var")

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1, device: Any = None, dtype: Any = "float32"):
        super().__init__()
        self.dim = as_size(dim, "BatchNorm1d", "dim")
        self.eps = as_eps(eps, "BatchNorm1d")
        self.momentum = as_fraction(momentum, "BatchNorm1d", "momentum")
        self.weight = Parameter(ones(self.dim, device=device, dtype=dtype))
        self.bias = Parameter(zeros(self.dim, device=device, dtype=dtype))
        self.running_mean = zeros(self.dim, device=device, dtype=dtype)
        self.running_var = ones(self.dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        if len(x.shape) != 2 or x.shape[1] != self.dim:
            raise mismatch(repr(self), f"wanted an input of shape (batch, {self.dim}), got {x.shape}", (x,))
        if not self.training:
            y = (x - self.running_mean) * rsqrt(self.running_var + self.eps)
            return y * self.weight + self.bias
        if x.shape[0] < 2:
            raise ValueError(
                f"{self!r}: a batch of {x.shape[0]} has no variance to train with; "
                "use larger batches, drop the last one, or call .eval()"
            )
        parts: Any = batch_normalize(x, self.weight, self.bias, self.eps)
        y, mu, variance = parts
        self._remember(self.running_mean, mu)
        self._remember(self.running_var, variance)
        return y

    def _remember(self, running: Tensor, batch: Tensor) -> None:
        new = batch.detach().astype(running.dtype)
        running.data = running.data * (1 - self.momentum) + new * self.momentum


class LayerNorm(Module):
    """(x − μ)/√(σ² + eps) · weight + bias over the last axes of each sample (arXiv:1607.06450).

    (…, *normalized_shape), as are weight and bias; elementwise_affine=False leaves both out, bias=False the bias.
    Raises ValueError for other last axes.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = "float32",
    ):
        super().__init__()
        self.normalized_shape = as_shape(normalized_shape, "LayerNorm", "normalized_shape")
        self.eps, self.elementwise_affine = as_eps(eps, "LayerNorm"), elementwise_affine
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = Parameter(ones(*self.normalized_shape, device=device, dtype=dtype))
        if elementwise_affine and bias:
            self.bias = Parameter(zeros(*self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        check_last_axes(self, x, self.normalized_shape)
        flat = x.reshape((*x.shape[: -len(self.normalized_shape)], math.prod(self.normalized_shape)))
        weight, bias = self._scale_and_shift(x)
        return layer_normalize(flat, weight.reshape(-1), bias.reshape(-1), self.eps).reshape(x.shape)

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """weight and bias, ones and zeros where the layer has none."""
        sizes, like = self.normalized_shape, {"device": x.device, "dtype": x.dtype}
        weight = ones(*sizes, **like) if self.weight is None else self.weight
        return weight, zeros(*sizes, **like) if self.bias is None else self.bias


class LayerNorm1d(Module):
    """`LayerNorm` over the features of a matrix.   (N, dim); weight and bias (dim,)."""

    def __init__(self, dim: int, eps: float = 1e-5, device: Any = None, dtype: Any = "float32"):
        super().__init__()
        self.dim = as_size(dim, "LayerNorm1d", "dim")
        self.eps = as_eps(eps, "LayerNorm1d")
        self.weight = Parameter(ones(self.dim, device=device, dtype=dtype))
        self.bias = Parameter(zeros(self.dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        if len(x.shape) != 2 or x.shape[1] != self.dim:
            raise mismatch(repr(self), f"wanted an input of shape (batch, {self.dim}), got {x.shape}", (x,))
        return layer_normalize(x, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """x/√(mean x² + eps) · weight over the last axes (arXiv:1910.07467).   (…, *normalized_shape), as is weight."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-6,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = "float32",
    ):
        super().__init__()
        self.normalized_shape = as_shape(normalized_shape, "RMSNorm", "normalized_shape")
        self.eps, self.elementwise_affine = as_eps(eps, "RMSNorm"), elementwise_affine
        self.weight = None
        if elementwise_affine:
            self.weight = Parameter(ones(*self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        check_last_axes(self, x, self.normalized_shape)
        square = mean(x * x, last_axes(self.normalized_shape), keepdims=True)
        y = x * rsqrt(square + self.eps)
        return y if self.weight is None else y * self.weight


def last_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))
