"""Arguments of layers and losses, checked with the layer's name in the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Tensor
from ..failures import mismatch


def as_size(number: Any, layer: str, what: str) -> int:
    """A whole number above 0."""
    if not hasattr(number, "__index__") or isinstance(number, bool):
        raise TypeError(f"{layer}: {what} must be a whole number, got {number!r}")
    if number < 1:
        raise ValueError(f"{layer}: {what} must be at least 1, got {number}")
    return number.__index__()


def as_shape(shape: Any, layer: str, what: str) -> tuple[int, ...]:
    """One size or several."""
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    if not sizes:
        raise ValueError(f"{layer}: {what} must name at least one axis, got {shape!r}")
    return tuple(as_size(n, layer, what) for n in sizes)


def as_fraction(number: Any, layer: str, what: str) -> float:
    """A number between 0 and 1, as Python's float, which no dtype is promoted by."""
    return as_real(number, layer, what, lambda x: 0 <= x <= 1, "between 0 and 1")


def as_real(number: Any, layer: str, what: str, allowed: Any, wanted: str) -> float:
    try:
        value = float(number)
    except (TypeError, ValueError):
        raise TypeError(f"{layer}: {what} must be a number {wanted}, got {number!r}") from None
    if not allowed(value):
        raise ValueError(f"{layer}: {what} must be {wanted}, got {number}")
    return value


def as_eps(eps: Any, layer: str) -> float:
    return as_real(eps, layer, "eps", lambda x: x >= 0, "at least 0")


def as_choice(value: Any, layer: str, what: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{layer}: {what} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_last_axes(layer: Any, x: Tensor, sizes: tuple[int, ...], advice: str = "") -> None:
    """ValueError unless the last axes of `x` have these sizes."""
    if x.shape[-len(sizes) :] != sizes:
        wanted = ", ".join(map(str, sizes))
        raise mismatch(repr(layer), f"wanted an input of shape (..., {wanted}), got {x.shape}{advice}", (x,))
