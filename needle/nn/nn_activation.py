"""Activations: elementwise functions as layers without parameters, and softmax."""

from __future__ import annotations

from ..autograd import Tensor
from ..ops import gelu, leaky_relu, relu, sigmoid, silu, softmax, tanh
from .nn_module import Module
from .nn_support import as_choice, as_real

__all__ = ["GELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class LeakyReLU(Module):
    """x where positive, else negative_slope · x."""

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = as_real(negative_slope, "LeakyReLU", "negative_slope", lambda s: s == s, "a slope")

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope)


class GELU(Module):
    """x · Φ(x) with the normal distribution function Φ (arXiv:1606.08415); approximate "none" or "tanh"."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = as_choice(approximate, "GELU", "approximate", ("none", "tanh"))

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, self.approximate)


class SiLU(Module):
    """x · sigmoid(x) (arXiv:1702.03118)."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class Sigmoid(Module):
    """1/(1 + e^−x)."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Softmax(Module):
    """e^x / Σ e^x along `axis`. For training, the losses take logits: they need no softmax."""

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.axis)
