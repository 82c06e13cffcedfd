"""Loops that Numba compiles for eager ops, where it is installed; without it the ops use NumPy.

A kernel is the fast twin of an op's readable `compute`, and tests hold both against each other.
"""

from .dense import adam, add_scaled, mask_positive, shift_logits, softmax_residual
from .loader import Kernel, fits

__all__ = ["Kernel", "adam", "add_scaled", "fits", "mask_positive", "shift_logits", "softmax_residual"]
