"""Loops that Numba compiles for eager ops, where it is installed; without it the ops use NumPy.

A kernel is the fast twin of an op's readable `compute`, and tests hold both against each other.
"""

from .dense import adam, add_scaled, all_within, mask_positive, shift_logits, softmax_residual
from .loader import Kernel, fits, holds_whole_numbers

__all__ = [
    "Kernel",
    "adam",
    "add_scaled",
    "all_within",
    "fits",
    "holds_whole_numbers",
    "mask_positive",
    "shift_logits",
    "softmax_residual",
]
