"""Arrays as a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import Tensor
from ..data_basic import Dataset

__all__ = ["NDArrayDataset"]


class NDArrayDataset(Dataset):
    """Item i is the tuple of `a[i]` over the arrays; a slice gives the arrays' slices. ValueError where their first
    axes differ in length."""

    def __init__(self, *arrays: Any):
        super().__init__()
        if not arrays:
            raise ValueError("NDArrayDataset: wanted at least one array")
        self.arrays = tuple(a.numpy() if isinstance(a, Tensor) else np.asarray(a) for a in arrays)
        for place, array in enumerate(self.arrays):
            if array.ndim == 0:
                raise ValueError(f"NDArrayDataset: array {place} has no axes, wanted the items along a first one")
            if len(array) != len(self.arrays[0]):
                raise ValueError(
                    f"NDArrayDataset: array {place} has {len(array)} items, array 0 has {len(self.arrays[0])}; "
                    "all need the same first axis"
                )

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(array[index] for array in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(array[indices] for array in self.arrays)
