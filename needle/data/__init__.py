"""Data: files to arrays, arrays to datasets, datasets to batches. Downloads only where asked for."""

from __future__ import annotations

from .data_basic import DataLoader, Dataset
from .data_subset import Subset, random_split
from .data_transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomFlipHorizontal,
    ToTensor,
    Transform,
    random_source,
)
from .datasets import (
    CIFAR10Dataset,
    Corpus,
    Dictionary,
    FashionMNIST,
    MNISTDataset,
    NDArrayDataset,
    batchify,
    get_batch,
)
from .fetch import FetchError
from .idx import IDXError, read_idx, read_mnist_pair
from .sources import digits, mnist

__all__ = [
    "CIFAR10Dataset",
    "Compose",
    "Corpus",
    "DataLoader",
    "Dataset",
    "Dictionary",
    "FashionMNIST",
    "FetchError",
    "IDXError",
    "MNISTDataset",
    "NDArrayDataset",
    "Normalize",
    "RandomCrop",
    "RandomFlipHorizontal",
    "Subset",
    "ToTensor",
    "Transform",
    "batchify",
    "digits",
    "get_batch",
    "mnist",
    "random_source",
    "random_split",
    "read_idx",
    "read_mnist_pair",
]
