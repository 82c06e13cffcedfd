"""The data sets, one file each."""

from __future__ import annotations

from .cifar10_dataset import CIFAR10Dataset
from .mnist_dataset import FashionMNIST, MNISTDataset
from .ndarray_dataset import NDArrayDataset
from .ptb_dataset import Corpus, Dictionary, batchify, get_batch

__all__ = [
    "CIFAR10Dataset",
    "Corpus",
    "Dictionary",
    "FashionMNIST",
    "MNISTDataset",
    "NDArrayDataset",
    "batchify",
    "get_batch",
]
