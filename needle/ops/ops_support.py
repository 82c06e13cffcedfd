"""What the ops share: broadcasting undone, axes and numbers read. No op is defined here."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from ..autograd import Tensor, Value
from ..axes import as_axes

__all__ = ["as_axes", "as_count", "as_floats", "as_number", "expand", "expanded_axes", "kept_shape", "reduce_to"]


def reduce_to(grad: Tensor, like: Value) -> Tensor:
    """`grad` summed over the axes along which `like` was broadcast, and cast back to its dtype if a float."""
    have, want = grad.cached_data, like.cached_data
    if have.shape != want.shape:
        grad = grad.sum(expanded_axes(have.shape, want.shape)).reshape(want.shape)
    if have.dtype != want.dtype and want.dtype.kind == "f":
        grad = grad.astype(want.dtype)
    return grad


def expanded_axes(shape: Sequence[int], original: Sequence[int]) -> tuple[int, ...]:
    """The axes of `shape` that broadcasting added to or stretched from `original`."""
    added = len(shape) - len(original)
    return tuple(i for i, n in enumerate(shape) if i < added or (original[i - added] == 1 and n != 1))


def as_count(number: Any, who: str, what: str) -> int:
    """A whole number, not negative, or an error in the name of `who`."""
    if not hasattr(number, "__index__"):
        raise TypeError(f"{who}: {what} must be a whole number, got {number!r}")
    if index(number) < 0:
        raise ValueError(f"{who}: {what} must not be negative, got {number}")
    return index(number)


def kept_shape(shape: Sequence[int], axes: Any) -> tuple[int, ...]:
    """`shape` with 1 in place of the reduced axes."""
    gone = as_axes(axes, len(shape))
    return tuple(1 if i in gone else n for i, n in enumerate(shape))


def expand(grad: Tensor, shape: Sequence[int], axes: Any) -> Tensor:
    """Undo a reduction's change of shape: repeat `grad` along the reduced axes."""
    return grad.reshape(kept_shape(shape, axes)).broadcast_to(shape)


def as_number(scalar: Any, op: str) -> Any:
    """A scalar operand as a Python number, which adapts to the tensor's dtype; also a one-element array."""
    if type(scalar) in (int, float, bool):
        return scalar
    if isinstance(scalar, Value) or getattr(scalar, "size", 1) != 1:
        raise TypeError(
            f"{op}: scalar must be one number, got {type(scalar).__name__} of shape "
            f"{getattr(scalar, 'shape', '?')}; use the elementwise op for tensors"
        )
    number = scalar.item() if hasattr(scalar, "item") else scalar
    if not isinstance(number, (int, float)):
        raise TypeError(f"{op}: scalar must be one real number, got {type(scalar).__name__}")
    return number


def as_floats(a: Any) -> Any:
    """The array as floats: small and unsigned integers would wrap round when subtracted or squared."""
    return a if a.dtype.kind == "f" else a + 0.0
