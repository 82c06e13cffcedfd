"""Reading IDX, the format of MNIST: a magic number, the dimensions, then the numbers, big-endian.

    00 00 TT NN   TT type code, NN number of dimensions
    NN times      one dimension, 4 bytes
    the rest      the numbers, last dimension fastest

Nothing that a file says is believed before it is checked, and no more is unpacked than its header promises.
"""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import zlib
from os import PathLike
from typing import BinaryIO

import numpy as np

__all__ = ["IDXError", "read_idx", "read_mnist_pair"]

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMS = 32  # NumPy 1 has no more
PIECE = 1 << 20  # memory grows with what is there, not with what a header promises
MIXED_UP = {
    b"\x1f\x8b": "gzip data, packed twice",
    b"PK": "a zip archive",
    b"<": "a web page",
    b"\x93N": "a .npy file",
}

Path = str | PathLike[str]
Stream = BinaryIO | gzip.GzipFile


class IDXError(ValueError):
    """A file that is not the IDX file it should be; the message names the file and what to do."""


def read_idx(path: Path, *, ndim: int | None = None, max_bytes: int = 1 << 31) -> np.ndarray:
    """The array in an IDX file, gzipped or plain (told by content, not by name), in native byte order.

    `ndim` is the wanted number of dimensions, `max_bytes` the most that the array may take.
    Raises FileNotFoundError, or IDXError for anything else that is wrong with the file.
    """
    _require_regular_file(path)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return _read_array(gzip.GzipFile(fileobj=file) if packed else file, ndim, max_bytes)
    except EOFError:
        problem = "the gzip data ends too early, it is cut off; get the file again"
    except (gzip.BadGzipFile, zlib.error) as error:
        problem = f"the gzip data is damaged ({error}); get the file again"
    except IDXError as error:
        problem = str(error)
    except FileNotFoundError:  # removed since it was looked at
        raise _missing(path) from None
    except OSError as error:
        problem = f"it cannot be read ({error.strerror or error}); check the disk and your rights to the file"
    raise IDXError(f"{os.fsdecode(path)}: {problem}")


def read_mnist_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,), both uint8, of one MNIST set.

    Raises FileNotFoundError, or IDXError where the two files are swapped, differ in count, hold
    another shape or type, or a label is not 0 to 9.
    """
    X, y = read_idx(images), read_idx(labels)
    images, labels = os.fsdecode(images), os.fsdecode(labels)
    if X.ndim == 1 and y.ndim == 3:
        raise IDXError(f"{images} holds labels and {labels} images: they are swapped, give the images first")
    _require_uint8(images, X, "images (N, 28, 28)", X.shape[1:] == (28, 28))
    _require_uint8(labels, y, "labels (N,)", y.ndim == 1)
    if len(X) != len(y):
        raise IDXError(
            f"{images} holds {len(X)} images, {labels} holds {len(y)} labels: "
            "take both files from the same set (train or t10k)"
        )
    if y.size and y.max() > 9:
        row = int(np.argmax(y > 9))
        raise IDXError(f"{labels}: label {y[row]} at row {row}, wanted 0 to 9; take the labels file of MNIST")
    return X, y


def _require_regular_file(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as error:  # a file where a folder should be, a name too long or with a NUL byte
        problem = getattr(error, "strerror", None) or error
        raise IDXError(f"{os.fsdecode(path)!r} cannot be a file ({problem}); check the folder and the name") from None
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise IDXError(f"{os.fsdecode(path)}: it is {kind}, wanted an IDX file; give its own path")


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"{os.fsdecode(path)}: no such file; check the folder and the name")


def _require_uint8(name: str, array: np.ndarray, wanted: str, shape_ok: bool) -> None:
    if not shape_ok or array.dtype != np.uint8:
        raise IDXError(f"{name}: it holds {array.dtype} {array.shape}, wanted uint8 {wanted}; take MNIST's own file")


def _read_array(stream: Stream, ndim: int | None, max_bytes: int) -> np.ndarray:
    dtype, dims = _read_magic(stream)
    if ndim is not None and dims != ndim:
        raise IDXError(
            f"the array has {dims} dimensions, wanted {ndim}; "
            "perhaps another file was given in its place (images for labels or the reverse)"
        )
    shape = _read_shape(stream, dims)
    # Zeros count as ones: a shape of (0, 2**32 - 1, ...) is as absurd, and NumPy refuses it less clearly.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > max_bytes:
        raise IDXError(
            f"the header promises an array of shape {shape}, wanted at most {max_bytes} bytes; "
            "get the file again, or raise max_bytes if it is meant"
        )
    payload = _read_payload(stream, math.prod(shape) * dtype.itemsize, shape)
    return np.frombuffer(payload, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_magic(stream: Stream) -> tuple[np.dtype, int]:
    magic = _read_at_most(stream, 4)
    if len(magic) < 4:
        raise IDXError(f"it has {len(magic)} bytes, wanted an IDX file; get the file again")
    code, dims = magic[2], magic[3]
    if magic[:2] != b"\0\0":
        guess = next((f" (like {what})" for start, what in MIXED_UP.items() if magic.startswith(start)), "")
        raise IDXError(f"it starts with {magic.hex(' ')}{guess}, wanted 00 00; get the file again")
    if code not in DTYPES:
        known = ", ".join(f"{known:02x}" for known in DTYPES)
        raise IDXError(f"type code {code:02x}, wanted one of {known}; get the file again")
    if dims > MAX_DIMS:
        raise IDXError(f"the header says {dims} dimensions, wanted at most {MAX_DIMS}; get the file again")
    return np.dtype(DTYPES[code]), dims


def _read_shape(stream: Stream, dims: int) -> tuple[int, ...]:
    sizes = _read_at_most(stream, 4 * dims)
    if len(sizes) < 4 * dims:
        raise IDXError(
            f"it is cut off in the header: {len(sizes)} bytes of sizes, "
            f"wanted {4 * dims} for {dims} dimensions; get the file again"
        )
    return struct.unpack(f">{dims}I", sizes)


def _read_payload(stream: Stream, promised: int, shape: tuple[int, ...]) -> bytearray:
    # One byte more than promised tells a file that goes on, and makes gzip check its own checksum.
    payload = _read_at_most(stream, promised + 1)
    if len(payload) == promised:
        return payload
    met = f"only {len(payload)}" if len(payload) < promised else "more"
    raise IDXError(f"{met} bytes of numbers, wanted {promised} by the header's shape {shape}; get the file again")


def _read_at_most(stream: Stream, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        piece = stream.read(min(PIECE, count - len(data)))
        if not piece:
            break
        data += piece
    return data
