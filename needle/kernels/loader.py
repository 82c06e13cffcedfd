"""Compiles a kernel when it is first wanted, and remembers that it could not be."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import numpy

from ..optional import have, optional


def fits(array: Any) -> bool:
    """Whether kernels take `array`: NumPy's own, float32 or float64 of this machine's byte order, row-major."""
    return (
        type(array) is numpy.ndarray and array.dtype.char in "fd" and array.flags.c_contiguous and array.dtype.isnative
    )


def holds_whole_numbers(array: Any) -> bool:
    """Whether `array` is NumPy's own, int64 and row-major."""
    return type(array) is numpy.ndarray and array.dtype == "int64" and array.flags.c_contiguous


# Not "reassoc", which would take z − max z apart again; a kernel that only adds up may ask for it.
FASTMATH = {"contract", "afn", "arcp", "nsz"}
OPTIONS = {"nogil": True, "error_model": "numpy"}


class Kernel:
    """A Python loop over arrays. `get()` gives it compiled, or None where Numba is not installed.

    Compiled once a machine: Numba keeps the result on disk beside the source or in the user's cache folder.
    """

    def __init__(self, function: Callable, fastmath: Set[str] = frozenset()):
        self.function = function
        self.options = {**OPTIONS, "fastmath": FASTMATH | fastmath}
        self.compiled: Any = None
        self.tried = False

    def get(self) -> Any:
        if not self.tried:
            self.tried = True
            self.compiled = self._compile() if have("numba") else None
        return self.compiled

    def _compile(self) -> Any:
        numba = optional("numba", extra="jit", why="compiled kernels")
        try:
            return numba.njit(cache=True, **self.options)(self.function)
        except RuntimeError:  # no folder that Numba may write its cache to
            return numba.njit(**self.options)(self.function)
