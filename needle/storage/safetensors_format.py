"""The safetensors format: 8 bytes that tell the header's length, a JSON header, then the raw numbers.

The header maps each name to {"dtype", "shape", "data_offsets": [begin, end]}, and `__metadata__` to texts by name.
Numbers are little-endian, in C order, without gaps. Ours carry a SHA-256 over the whole file in their metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .atomic import replacing
from .errors import broken

__all__ = ["SHA256", "read_safetensors", "write_safetensors"]

DTYPES = {
    "BOOL": "bool", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
CODES = {np.dtype(name).newbyteorder("="): code for code, name in DTYPES.items()}
BFLOAT16 = "BF16"  # the upper half of a float32, which NumPy has no dtype for: read as float32
STORED = DTYPES | {BFLOAT16: "<u2"}

LONGEST_HEADER = 100_000_000  # of other readers too
MOST_AXES = 64  # of NumPy's
SHA256 = "needle.sha256"
BLANK = b"0" * 64  # stands for the SHA-256 while it is computed


def write_safetensors(path: Any, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write `arrays`, in place of a file of that name, whole or not at all."""
    # Wide numbers first, so that each array lies at a multiple of its item size.
    placed = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    header = _header(arrays, placed, metadata)
    raw = [_bytes_of(array) for array in placed.values()]
    digest = hashlib.sha256(header)
    for part in raw:
        digest.update(part)
    with replacing(path) as file:
        file.write(header.replace(BLANK, digest.hexdigest().encode(), 1))
        for part in raw:
            file.write(part)


def read_safetensors(path: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays by name, and the metadata. Raises StorageError for a file that is not sound in every respect."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise broken(path, f"no safetensors file: its {size} bytes begin with no header of sound length")
        header = file.read(length)
        try:
            entries, metadata = _parse(header)
            _check_places(entries, size - 8 - length)
        except ValueError as error:
            raise broken(path, f"no sound safetensors file: {error}") from None
        digest = hashlib.sha256(start + header.replace(metadata.get(SHA256, "none").encode(), BLANK, 1))
        placed = {e.name: _read(file, e, digest) for e in sorted(entries, key=lambda e: e.begin)}
        if any(array is None for array in placed.values()):
            raise broken(path, "it became shorter while it was read")
    if metadata.get(SHA256, digest.hexdigest()) != digest.hexdigest():
        raise broken(path, f"altered since needle wrote it: its SHA-256 is not the one in its metadata ({SHA256})")
    return {e.name: placed[e.name] for e in entries}, metadata


class _Entry(NamedTuple):
    name: str
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _header(arrays: Mapping[str, np.ndarray], placed: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    ends, end = {}, 0
    for name, array in placed.items():
        ends[name] = end = end + array.nbytes
    # The blank SHA-256 comes before all else that might look like it.
    header: dict[str, Any] = {"__metadata__": {SHA256: BLANK.decode(), **metadata}}
    for name, array in arrays.items():
        offsets = [ends[name] - array.nbytes, ends[name]]
        header[name] = {"dtype": CODES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ValueError(f"save: names and texts take {len(text)} bytes, readers take at most {LONGEST_HEADER}")
    return len(text).to_bytes(8, "little") + text


def _bytes_of(array: np.ndarray) -> Any:
    """The numbers in C order, little-endian, without a copy where they lie so."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8).data


def _parse(header: bytes) -> tuple[list[_Entry], dict[str, str]]:
    if not header.startswith(b"{"):
        raise ValueError("its header does not begin with {")
    try:
        whole = json.loads(header.decode(), object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"its header is no JSON ({error})") from None
    metadata = whole.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its __metadata__ does not hold texts by name")
    return [_entry(name, value) for name, value in whole.items()], metadata


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"its header has {max(names, key=names.count)!r} twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"its header is no JSON ({name} in it)")


def _entry(name: str, value: Any) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name!r} is not one of dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in STORED:
        raise ValueError(f"{name!r} has dtype {code!r}, wanted one of {', '.join(STORED)}")
    if not _are_sizes(shape) or len(shape) > MOST_AXES:
        raise ValueError(f"{name!r} has shape {str(shape)[:80]}, wanted at most {MOST_AXES} whole numbers from 0 on")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has data_offsets {str(offsets)[:80]}, wanted two whole numbers from 0 on")
    begin, end = offsets
    wanted = math.prod(shape) * np.dtype(STORED[code]).itemsize
    if end - begin != wanted:
        raise ValueError(f"{name!r} has bytes {begin} to {end}, wanted {wanted} for {code} of shape {tuple(shape)}")
    return _Entry(name, code, tuple(shape), begin, end)


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)


def _check_places(entries: list[_Entry], size: int) -> None:
    """Each byte belongs to one tensor."""
    reached = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != reached:
            what = "overlaps the tensor before it" if entry.begin < reached else "leaves a gap before it"
            raise ValueError(f"{entry.name!r} begins at byte {entry.begin} of the data, wanted {reached}: it {what}")
        reached = entry.end
    if reached != size:
        raise ValueError(f"it has {size} bytes of data, its header tells of {reached}")


def _read(file: BinaryIO, entry: _Entry, digest: Any) -> Any:
    array = np.empty(entry.shape, STORED[entry.code])
    raw = array.reshape(-1).view(np.uint8).data
    if file.readinto(raw) != len(raw):  # type: ignore[attr-defined]
        return None
    digest.update(raw)
    if entry.code == BFLOAT16:
        return np.left_shift(array, 16, dtype="u4", out=np.empty(entry.shape, "u4")).view("f4")
    if entry.code == "BOOL":  # a byte that is neither 0 nor 1 would be a bool that equals neither
        return np.not_equal(array.view("u1"), 0, out=array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
