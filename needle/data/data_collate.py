"""From single items to a batch: one array a field, and clear words where items do not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor

__all__ = ["as_fields", "stack_items"]


def stack_items(items: Sequence[Any], indices: Sequence[int] | np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """One array a field, the items stacked along a new first axis.

    Raises ValueError, naming the first item that does not fit, where items differ in their number of fields or a
    field differs in shape or dtype. `indices` are the items' numbers.
    """
    names = range(len(items)) if indices is None else indices
    rows = [as_fields(item) for item in items]
    for row, name in zip(rows, names, strict=True):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"batch: item {name} has {len(row)} fields, item {names[0]} has {len(rows[0])}; "
                "give every item the same fields, or a collate= of your own"
            )
    return tuple(_stacked(place, column, names) for place, column in enumerate(zip(*rows, strict=True)))


def as_fields(item: Any) -> tuple[np.ndarray, ...]:
    """An item's fields as arrays; an item that is no tuple or list is its own single field."""
    fields = item if isinstance(item, (tuple, list)) else (item,)
    return tuple(field.numpy() if isinstance(field, Tensor) else np.asarray(field) for field in fields)


def _stacked(place: int, column: tuple[np.ndarray, ...], names: Sequence[int] | np.ndarray | range) -> np.ndarray:
    first = column[0]
    for entry, name in zip(column, names, strict=True):
        # Shapes first: an image of another size would be told by NumPy, another dtype silently promoted.
        for what, met, wanted in (("shape", entry.shape, first.shape), ("dtype", entry.dtype, first.dtype)):
            if met != wanted:
                raise ValueError(
                    f"batch: field {place} of item {name} has {what} {met}, of item {names[0]} {wanted}; "
                    f"its transforms must give one {what}, or give a collate= of your own"
                )
    return np.stack(column)
