"""The layers that most networks begin with. Shapes: N batch, F features, "…" any axes."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor
from ..backend_selection import array_api
from ..init import kaiming_uniform, randb, randn
from ..ops import getitem
from ..ops.ops_comparison import as_tensor
from .nn_module import Module, Parameter
from .nn_support import as_fraction, as_size, check_last_axes

__all__ = ["Dropout", "Embedding", "Flatten", "Identity", "Linear"]


class Linear(Module):
    """x W + b.   (…, in_features) -> (…, out_features); weight (in, out), bias (1, out).

    Both are drawn from U(−√(6/fan), √(6/fan)), the weight first: its fan is in_features, the bias's out_features.
    Raises ValueError for another number of features.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = "float32"
    ):
        super().__init__()
        self.in_features = as_size(in_features, "Linear", "in_features")
        self.out_features = as_size(out_features, "Linear", "out_features")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = Parameter(kaiming_uniform(self.in_features, self.out_features, **where))
        self.bias = None
        if bias:
            self.bias = Parameter(kaiming_uniform(self.out_features, 1, **where).reshape((1, self.out_features)))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if x.shape[-1:] != weight.shape[:1]:
            flat = len(x.shape) > 2 and math.prod(x.shape[1:]) == self.in_features
            check_last_axes(self, x, weight.shape[:1], "; nn.Flatten() before it would fit" if flat else "")
        y = x @ weight
        if bias is None:
            return y
        return y + bias if len(y.shape) > 1 else y + bias.reshape(-1)  # of one sample without a batch axis


class Flatten(Module):
    """(N, …) -> (N, F), all axes but the first in one."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.shape:
            raise ValueError("Flatten: wanted a batch of something, got a 0-d Tensor")
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))


class Identity(Module):
    """x itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Dropout(Module):
    """In training, each element is 0 with probability p, else divided by 1 − p (arXiv:1207.0580); else x itself.

    An element is kept where a uniform draw is at most 1 − p. One draw an element and call, from the device's own
    stream, or from `generator`, an `init.Generator`, which is faster. Raises ValueError for p outside [0, 1].
    """

    def __init__(self, p: float = 0.5, generator: Any = None):
        super().__init__()
        self.p = as_fraction(p, "Dropout", "p")
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.p
        mask = randb(*x.shape, p=keep, device=x.device, dtype=x.dtype, generator=self.generator)
        return x * (mask / keep if keep else mask * 0)


class Embedding(Module):
    """A row of `weight` for each token.   x (…) whole numbers, floats allowed -> (…, embedding_dim).

    weight (num_embeddings, embedding_dim) ~ N(0, 1). Raises IndexError for a token outside [0, num_embeddings).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, device: Any = None, dtype: Any = "float32"):
        super().__init__()
        self.num_embeddings = as_size(num_embeddings, "Embedding", "num_embeddings")
        self.embedding_dim = as_size(embedding_dim, "Embedding", "embedding_dim")
        self.weight = Parameter(randn(self.num_embeddings, self.embedding_dim, device=device, dtype=dtype))

    def forward(self, x: Any) -> Tensor:
        tokens = as_tensor(x, self.weight, "Embedding")
        return getitem(self.weight, tokens.device.check(self._rows, tokens.cached_data))

    def _rows(self, tokens: Any) -> Any:
        """The tokens as whole numbers, or an error that names one that is none, or out of range."""
        rows = tokens.astype("int64") if tokens.dtype.kind in "iuf" else None
        if rows is None or array_api.not_equal(rows, tokens).any():
            raise TypeError(f"{self!r}: tokens must be whole numbers, got {tokens}")
        if rows.size:
            self._check(int(rows.min()), int(rows.max()))
        return rows

    def _check(self, lowest: int, highest: int) -> None:
        last = self.weight.shape[0] - 1
        if lowest < 0 or highest > last:
            worst = lowest if -lowest > highest - last else highest
            raise IndexError(f"{self!r}: token {worst} is out of range, wanted 0 to {last}")
