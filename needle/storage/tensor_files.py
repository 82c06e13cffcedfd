"""Dicts of tensors as files, .safetensors or .npz by the name's ending."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_selection import default_device
from .npz_format import read_npz, write_npz
from .safetensors_format import CODES, read_safetensors, write_safetensors

__all__ = ["as_numpy", "load", "save"]

FORBIDDEN = "__metadata__"  # safetensors keeps its texts there


def save(tensors: Mapping[str, Any], path: Any) -> None:
    """Write tensors and arrays by name: to .safetensors, which PyTorch and others read, or to .npz, which NumPy reads.

    A file of that name is replaced as a whole: whatever happens meanwhile, the old one is there or the new one.
    Raises TypeError for values other than numbers in tensors or arrays, ValueError for another ending.
    """
    ending = _ending(path, "save")
    if not isinstance(tensors, Mapping):
        raise TypeError(f"save: wanted a dict of tensors by name, got a {type(tensors).__name__}")
    arrays = {_checked(name): _array(name, value) for name, value in tensors.items()}
    if ending == ".npz":
        write_npz(path, arrays)
    else:
        write_safetensors(path, arrays, {})


def load(path: Any, *, device: Any = None) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .npz file by name, as constants. bfloat16 becomes float32.

    Runs no code of the file. Raises StorageError (a ValueError) for a file that is cut, altered or of another kind.
    """
    arrays = read_npz(path) if _ending(path, "load") == ".npz" else read_safetensors(path)[0]
    place = device or default_device()
    return {name: Tensor.make_const(place.share(array)) for name, array in arrays.items()}


def as_numpy(value: Any) -> np.ndarray | None:
    """The numbers of a Tensor, an array or a NumPy scalar, without a copy where NumPy holds them; None for the rest."""
    if isinstance(value, Tensor) and isinstance(value.cached_data, (np.ndarray, np.generic)):
        value = value.cached_data
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    return np.asarray(value.numpy()) if callable(getattr(value, "numpy", None)) else None


def _array(name: str, value: Any) -> np.ndarray:
    array = as_numpy(value)
    if array is None:
        raise TypeError(
            f"save: {name!r} is a {type(value).__name__}, wanted a tensor or an array; "
            "save_checkpoint(path, extra=...) keeps nested dicts, numbers and texts as well"
        )
    if array.dtype.newbyteorder("=") not in CODES:
        raise TypeError(f"save: {name!r} has dtype {array.dtype}, wanted one of {', '.join(map(str, CODES))}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _checked(name: Any) -> str:
    if not isinstance(name, str) or name == FORBIDDEN or "\0" in name or not name.isprintable():
        raise ValueError(f"save: {name!r} cannot be a tensor's name; wanted a printable text other than {FORBIDDEN!r}")
    return name


def _ending(path: Any, function: str) -> str:
    ending = Path(path).suffix.lower()
    if ending not in (".npz", ".safetensors"):
        raise ValueError(f"{function}: {path} ends in {ending!r}, wanted .safetensors or .npz")
    return ending
