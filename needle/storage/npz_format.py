"""NumPy's .npz: a zip archive of one .npy file an array. Arrays of Python objects, which run code, are refused."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from .atomic import replacing
from .errors import broken

__all__ = ["read_npz", "write_npz"]

LAST_RECORD = 22  # bytes, without its comment
NO_PROMISE = 0xFFFF  # what it says of 65535 members and more
DEFLATE_AT_MOST = 1032  # bytes that one packed byte can stand for


def write_npz(path: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays`, in place of a file of that name, whole or not at all. The same arrays give the same bytes."""
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


def read_npz(path: Any) -> dict[str, np.ndarray]:
    """The arrays by name. Raises StorageError for a file that is not sound in every respect."""
    with open(path, "rb") as file:
        try:
            return _read_all(file)
        # zipfile's own for the various ways in which an archive can be broken, packed strangely, or encrypted
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            raise broken(path, f"no sound .npz file: {error}") from None


def _read_all(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise ValueError(f"it has {max(names, key=names.count)!r} twice")
        if (promised := _promised(file)) not in (len(members), NO_PROMISE):
            raise ValueError(f"it has {len(members)} arrays, its end tells of {promised}")
        return {member.filename.removesuffix(".npy"): _read(archive, member) for member in members}


def _promised(file: BinaryIO) -> int:
    """The number of members that the archive's last record tells of, which zipfile does not look at."""
    size = file.seek(0, 2)
    file.seek(max(0, size - LAST_RECORD - (1 << 16)))
    tail = file.read()
    record = tail.rfind(b"PK\5\6")
    return int.from_bytes(tail[record + 10 : record + 12], "little")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename!r} in it is no .npy file")
    most = member.compress_size * (1 if member.compress_type == zipfile.ZIP_STORED else DEFLATE_AT_MOST)
    if member.file_size > most:
        raise ValueError(f"{member.filename!r} in it has {member.file_size} bytes in {member.compress_size}")
    with archive.open(member) as file:
        shape, columns_first, dtype = _npy_header(file)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise ValueError(f"{member.filename!r} in it is of dtype {dtype}, wanted numbers or booleans")
        count, header = math.prod(shape), file.tell()
        if header + count * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename!r} in it has {member.file_size} bytes, its shape is {shape} {dtype}")
        array = np.empty(count, dtype)
        raw = array.view(np.uint8).data
        while len(raw) and (got := file.readinto(raw)):  # type: ignore[attr-defined]
            raw = raw[got:]
        if len(raw) or file.read(1):  # the read at the end has zipfile compare the check sum
            raise ValueError(f"{member.filename!r} in it has another length than told")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array.reshape(shape, order="F" if columns_first else "C")


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    if version == (2, 0):
        return npy.read_array_header_2_0(file)
    raise ValueError(f"its .npy files are of version {version[0]}.{version[1]}, wanted 1.0 or 2.0")
