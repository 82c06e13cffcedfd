"""Reading pickles of plain data without trusting them: containers, numbers, text and NumPy arrays, nothing else.

A pickle is a program that may call whatever it names. Here it can name nothing but an array's parts, and these are
stand-ins of ours that check what they are given: no code of the file's choice runs, in NumPy or elsewhere.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from os import PathLike, fsdecode
from typing import Any

import numpy as np

__all__ = ["PickleError", "read_plain_pickle"]


class PickleError(ValueError):
    """A pickle that holds more than plain data, or is damaged; the message names the file and why."""


def read_plain_pickle(path: str | PathLike[str]) -> Any:
    """What the pickle at `path` holds, arrays as `numpy.ndarray`, text of Python 2 as bytes.

    Raises FileNotFoundError, or PickleError for all else.
    """
    with open(path, "rb") as file:
        try:
            return _plain(_Unpickler(file, encoding="bytes").load())
        except Exception as error:  # a damaged pickle can fail anywhere in the unpickler
            said = str(error) or type(error).__name__
            raise PickleError(f"{fsdecode(path)}: not a pickle of plain data ({said}); get the file again") from error


class _Dtype:
    """Stands in for numpy.dtype: a code such as 'u1', and a byte order."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise pickle.UnpicklingError(f"an array of dtype {code!r}, wanted numbers")
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("|", "<", ">", "="):
            raise pickle.UnpicklingError(f"byte order {order!r}")
        self.order = order

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands in for numpy.ndarray: empty until its state comes."""

    def __init__(self) -> None:
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    # A list instead of bytes is how arrays of Python objects are pickled.
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array that holds objects, wanted numbers")
    return np.frombuffer(raw, dtype.dtype()).reshape(shape, order=order).copy()


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> _Array:
    if axis_order is not None:
        raise pickle.UnpicklingError(f"an array with its axes in the order {axis_order}")
    result = _Array()
    result.array = _array(raw, dtype, shape, "F" if order == "F" else "C")
    return result


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


class _Call:
    """A stand-in that can be called and nothing more: a pickle may also set attributes of what it names."""

    __slots__ = ("_make",)
    _make: Callable

    def __init__(self, make: Callable):
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes what it names")


_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
_ADMITTED: dict[tuple[str, str], Callable] = {
    ("numpy", "ndarray"): _reconstruct,  # named only as an argument of the next
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in _CORES},
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain data")
        return _Call(_ADMITTED[module, name])


def _plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """`value` with arrays in place of their stand-ins; what is shared is turned once, or a small file could be vast."""
    seen = {} if seen is None else seen
    if id(value) not in seen:
        seen[id(value)] = _turned(value, seen)
    return seen[id(value)]


def _turned(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {_plain(key, seen): _plain(entry, seen) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_plain(entry, seen) for entry in value)
    if isinstance(value, (_Call, _Dtype)):
        raise pickle.UnpicklingError("it holds parts of an array, no whole one")
    return value
