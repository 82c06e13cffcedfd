"""Parts of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .data_basic import Dataset, order_source, take_at_once
from .data_collate import stack_items

__all__ = ["Subset", "random_split"]


class Subset(Dataset):
    """The items of `dataset` with the numbers `indices`, in their order. IndexError for a number it does not have."""

    def __init__(self, dataset: Any, indices: Iterable[int]):
        super().__init__()
        self.dataset, self.indices = dataset, _whole_numbers(indices)
        wrong = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if wrong.size:
            raise IndexError(f"Subset: there is no item {wrong[0]}, the dataset has {len(dataset)}")

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self.dataset[int(self.indices[index])]
        chosen = np.arange(len(self))[index]
        at_once = self.take(chosen)
        return stack_items([self[i] for i in chosen], chosen) if at_once is None else at_once

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...] | None:
        return take_at_once(self.dataset, self.indices[indices])


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Disjoint random parts of `dataset`, of these lengths, or of these fractions where they are floats and sum to 1.

    One permutation(n) is drawn from `generator`, from NumPy's global one without. ValueError where the lengths
    do not add up.
    """
    bounds = _bounds(lengths, len(dataset))
    order = np.asarray(order_source(generator, "random_split").permutation(len(dataset)))
    return [Subset(dataset, order[start:stop]) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]


def _whole_numbers(indices: Iterable[int]) -> np.ndarray:
    numbers = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise TypeError(f"Subset: indices must be whole numbers in one row, got {numbers.dtype} {numbers.shape}")
    return numbers.astype(np.intp)


def _bounds(lengths: Sequence[float], n: int) -> list[int]:
    """0, then where each part ends."""
    ends = np.cumsum(lengths)
    if len(ends) and min(lengths) >= 0:
        if ends.dtype.kind in "iu" and ends[-1] == n:
            return [0, *ends.tolist()]
        if ends.dtype.kind == "f" and np.isclose(ends[-1], 1):
            return [0, *np.rint(ends * n).astype(int).tolist()]
    raise ValueError(
        f"random_split: lengths must add up to the {n} items of the dataset, or as fractions to 1, got {list(lengths)}"
    )
