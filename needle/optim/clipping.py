"""Keep gradients small. Both functions put new gradients in place of old ones, which stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ..autograd import Tensor
from ..modes import mode
from ..ops import minimum, summation


def clip_grad_norm(params: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm/norm), where norm = √Σ g² over all of them. Gives norm, of before.

    ValueError, with nothing scaled, where a gradient is not finite, since scaling would spread that to all others.
    """
    limit = _limit("clip_grad_norm: max_norm", max_norm)
    learnt = _with_gradient(params)
    if mode.recorder is not None:
        return _recorded_clip(learnt, limit)
    norms = [_norm(p.grad) for p in learnt if p.grad is not None]
    for i, norm in enumerate(norms):
        if not math.isfinite(norm):
            raise ValueError(
                f"clip_grad_norm: gradient {i} of {len(norms)}, {learnt[i].shape} {learnt[i].dtype}, has the norm "
                f"{norm}; nothing was scaled; look for the cause with ndl.detect_anomaly()"
            )
    total = math.hypot(*norms)
    if total > limit:
        for p in learnt:
            _replace(p, lambda g: g * (limit / total))
    return total


def _recorded_clip(learnt: list[Tensor], limit: float) -> Any:
    """The same without looking at a value, for a function that is recorded; the norm as a tensor."""
    wide = [Tensor.make_const(p.device.cast(p.grad.cached_data, "float64")) for p in learnt if p.grad is not None]
    total = sum((summation(g * g) for g in wide[1:]), start=summation(wide[0] * wide[0])).sqrt()
    total.device.check(_finite, total.cached_data)
    for p in learnt:
        scale = minimum(limit / total, 1.0).astype(p.dtype)
        _replace(p, lambda g, scale=scale: g * scale)  # type: ignore[misc]
    return total


def _finite(total: Any) -> Any:
    if not math.isfinite(total):
        raise ValueError(f"clip_grad_norm: the gradients have the norm {total}; nothing was scaled")
    return total


def clip_grad_value(params: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every entry of every gradient to [−clip_value, clip_value]."""
    limit = _limit("clip_grad_value: clip_value", clip_value)
    for p in _with_gradient(params):
        _replace(p, lambda g: g.clip(-limit, limit))


def _limit(what: str, number: float) -> float:
    if not number >= 0:
        raise ValueError(f"{what} must be >= 0, got {number}")
    return float(number)


def _with_gradient(params: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p for p in ([params] if isinstance(params, Tensor) else params) if p.grad is not None]


def _norm(g: Tensor) -> float:
    """In float64, where the squares of float32 numbers neither overflow nor vanish."""
    return Tensor.make_const(g.device.cast(g.cached_data, "float64")).norm().item()


def _replace(p: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    assert p.grad is not None
    p.grad = change(Tensor.make_const(p.grad.cached_data))
