"""Nested states (dicts, lists, tuples, numbers, texts, tensors) as JSON and a flat dict of arrays, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_selection import default_device
from .safetensors_format import CODES
from .tensor_files import as_numpy

__all__ = ["pack", "unpack"]

# JSON lacks these; each is a dict of one entry whose name says what it is.
TENSOR, ARRAY, SCALAR, TUPLE, PAIRS, FLOAT = "$tensor", "$array", "$scalar", "$tuple", "$pairs", "$float"


def pack(tree: Any, path: str = "") -> tuple[Any, dict[str, np.ndarray]]:
    """What json can write, and the arrays that it refers to, named by their path (`model.0.weight`).

    Raises TypeError, with the path, for anything but dicts, lists, tuples, numbers, texts, None, tensors and arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    return _pack(tree, path, arrays), arrays


def _pack(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, Mapping):
        return _pack_dict(value, path, arrays)
    if isinstance(value, (list, tuple)):
        items = [_pack(item, _join(path, i), arrays) for i, item in enumerate(value)]
        return {TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, str)):
        return value
    array = as_numpy(value)
    if array is not None:
        kind = TENSOR if isinstance(value, Tensor) else SCALAR if isinstance(value, np.generic) else ARRAY
        return {kind: _put(array, path, arrays)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {FLOAT: str(value)}
    raise TypeError(
        f"checkpoint: {path or 'the state'} is a {type(value).__name__}, which cannot be saved; "
        "wanted numbers, texts, None, tensors, arrays, or dicts, lists and tuples of them"
    )


def _pack_dict(value: Mapping, path: str, arrays: dict[str, np.ndarray]) -> Any:
    items = [(key, _pack(item, _join(path, key), arrays)) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
        return dict(items)
    return {PAIRS: [[_pack(key, path, arrays), item] for key, item in items]}


def _put(array: np.ndarray, path: str, arrays: dict[str, np.ndarray]) -> list[Any]:
    """The array's name, and its axes from the slowest to the quickest in memory, which matmul's last bits depend on."""
    dtype = array.dtype.newbyteorder("=")
    if dtype not in CODES:
        raise TypeError(f"checkpoint: {path or 'the state'} has dtype {dtype}, which cannot be saved")
    name, number = path, 1
    while name in arrays or name == "__metadata__":  # {"a": {"b": x}, "a.b": y}
        number += 1
        name = f"{path}#{number}"
    arrays[name] = array.astype(dtype, copy=False)
    axes = range(array.ndim)
    return [name, *(axes if array.flags.c_contiguous else sorted(axes, key=lambda i: -abs(array.strides[i])))]


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def unpack(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `pack` was given; arrays of other libraries come back as NumPy's."""
    if isinstance(tree, list):
        return [unpack(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = next(iter(tree), "")
    if not kind.startswith("$"):
        return {key: unpack(item, arrays) for key, item in tree.items()}
    return READERS[kind](tree[kind], arrays)


def _take(place: list[Any], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    name, *axes = place
    array = arrays[name]
    if axes == sorted(axes):
        return array
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


READERS: dict[str, Callable[[Any, Mapping[str, np.ndarray]], Any]] = {
    TENSOR: lambda place, arrays: Tensor.make_const(default_device().share(_take(place, arrays))),
    ARRAY: _take,
    SCALAR: lambda place, arrays: _take(place, arrays)[()],
    TUPLE: lambda items, arrays: tuple(unpack(items, arrays)),
    PAIRS: lambda items, arrays: {unpack(key, arrays): unpack(item, arrays) for key, item in items},
    FLOAT: lambda text, arrays: float(text),
}
