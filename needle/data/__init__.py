"""Data: readers and sources of the examples' data sets. Downloads only where asked for."""

from __future__ import annotations

from .fetch import FetchError
from .idx import IDXError, read_idx, read_mnist_pair
from .sources import digits, mnist

__all__ = ["FetchError", "IDXError", "digits", "mnist", "read_idx", "read_mnist_pair"]
