"""Initial weights whose scale keeps the size of activations: Glorot & Bengio (2010), He et al. (arXiv:1502.01852)."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor
from ..backend_selection import array_api, device_of
from .init_basic import as_leaf, normal, on_device, rand, randn


def xavier_uniform(fan_in: int, fan_out: int, gain: float = 1.0, **kwargs: Any) -> Tensor:
    """U(−a, a), a = gain·√(6/(fan_in + fan_out)); shape (fan_in, fan_out)."""
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return rand(fan_in, fan_out, low=-bound, high=bound, **kwargs)


def xavier_normal(fan_in: int, fan_out: int, gain: float = 1.0, **kwargs: Any) -> Tensor:
    """N(0, s²), s = gain·√(2/(fan_in + fan_out)); shape (fan_in, fan_out)."""
    return randn(fan_in, fan_out, std=gain * math.sqrt(2 / (fan_in + fan_out)), **kwargs)


def kaiming_uniform(fan_in: int, fan_out: int, shape: Any = None, nonlinearity: str = "relu", **kwargs: Any) -> Tensor:
    """U(−b, b), b = √2·√(3/fan_in); shape (fan_in, fan_out) unless given."""
    _only_relu("kaiming_uniform", nonlinearity)
    bound = math.sqrt(2) * math.sqrt(3 / fan_in)
    return rand(*(shape or (fan_in, fan_out)), low=-bound, high=bound, **kwargs)


def kaiming_normal(fan_in: int, fan_out: int, nonlinearity: str = "relu", **kwargs: Any) -> Tensor:
    """N(0, s²), s = √(2/fan_in); shape (fan_in, fan_out)."""
    _only_relu("kaiming_normal", nonlinearity)
    return randn(fan_in, fan_out, std=math.sqrt(2) / math.sqrt(fan_in), **kwargs)


def orthogonal(
    fan_in: int,
    fan_out: int,
    gain: float = 1.0,
    device: Any = None,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """gain · Q with orthonormal columns, or rows where they are fewer, uniform among all such (arXiv:1312.6120)."""
    device = on_device(device)
    tall = normal((max(fan_in, fan_out), min(fan_in, fan_out)), device, dtype, generator)
    q, r = array_api.linalg.qr(tall)
    q = q * array_api.copysign(gain, array_api.diagonal(r))  # QR alone prefers some signs
    return as_leaf(q if fan_in >= fan_out else q.T, device, dtype, requires_grad)


def truncated_normal(
    *shape: int,
    mean: float = 0.0,
    std: float = 1.0,
    cut: float = 2.0,
    device: Any = None,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """N(mean, std²) without what lies more than `cut` standard deviations away: such draws are drawn again."""
    if not cut > 0:
        raise ValueError(f"truncated_normal: cut must be above 0 (standard deviations), got {cut}")
    device = on_device(device)
    draws = normal(shape, device, dtype, generator)
    while (outside := array_api.greater(abs(draws), cut)).any():
        again = normal((int(outside.sum()),), device, dtype, generator)
        device_of(draws).setitem(draws, outside, again)
    return as_leaf(draws * std + mean, device, dtype, requires_grad)


def _only_relu(name: str, nonlinearity: str) -> None:
    if nonlinearity != "relu":
        raise ValueError(f"{name}: nonlinearity must be 'relu', got {nonlinearity!r}")
