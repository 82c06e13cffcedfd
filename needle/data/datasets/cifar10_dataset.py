"""CIFAR-10 as a dataset, from either of its two published forms."""

from __future__ import annotations

import os
import tarfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd import Tensor
from ..data_basic import Dataset
from ..data_collate import stack_items
from ..fetch import fetch
from .plain_pickle import read_plain_pickle

__all__ = ["CIFAR10Dataset"]

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
# SHA-256 of the archive, as the published checksum list of TensorFlow Datasets has it.
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
PIXELS = 3 * 32 * 32


class CIFAR10Dataset(Dataset):
    """CIFAR-10: item i is (image float32 (3, 32, 32) in [0, 1], label uint8). `X` and `y` are all of them.

    `base_folder` holds data_batch_1 to 5 and test_batch, pickled (the Python version; read by an unpickler that
    runs no code) or as .bin (the binary version); `download=True` fetches the latter where neither is there.
    Transforms see an image as (32, 32, 3); the array they give is turned back, a Tensor (ToTensor) is taken as it is.
    `p` is accepted for homework code and changes nothing.
    """

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(
        self,
        base_folder: str | PathLike[str],
        train: bool = True,
        p: float = 0.5,
        transforms: Any = None,
        *,
        download: bool = False,
    ):
        super().__init__(transforms)
        folder, names = Path(base_folder), TRAIN if train else TEST
        if download and any(_find(folder, name) is None for name in names):
            _download(folder)
        missing = [name for name in names if _find(folder, name) is None]
        if missing:
            raise FileNotFoundError(
                f"CIFAR-10 is not there: looked in {folder} for {', '.join(missing)} (pickled, or with .bin). Name the "
                "folder that holds these files (usually cifar-10-batches-py or cifar-10-batches-bin), or let them be "
                "fetched with download=True"
            )
        parts = [_read(path) for name in names if (path := _find(folder, name)) is not None]
        self.y = np.concatenate([labels for labels, _ in parts])
        # Part by part in place: four bytes a pixel are enough, no second copy of them.
        self.X = np.empty((len(self.y), 3, 32, 32), np.float32)
        start = 0
        for labels, pixels in parts:
            rows = self.X[start : start + len(labels)].reshape(-1, PIXELS)
            np.divide(pixels, 255, out=rows, dtype=np.float32)
            start += len(labels)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        if not isinstance(index, slice):
            return self._transformed(self.X[index]), self.y[index]
        chosen = range(len(self))[index]
        if not chosen or not self.transforms:
            return self.X[index], self.y[index]
        images, labels = stack_items([self[i] for i in chosen], chosen)
        return images, labels

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...] | None:
        return None if self.transforms else (self.X[indices], self.y[indices])

    def _transformed(self, image: np.ndarray) -> Any:
        if not self.transforms:
            return self.apply_transforms(image)
        result = self.apply_transforms(image.transpose(1, 2, 0))
        if isinstance(result, Tensor):
            return result
        if np.ndim(result) != 3:
            raise ValueError(f"CIFAR10Dataset: the transforms gave shape {np.shape(result)}, wanted an image (H, W, C)")
        return np.ascontiguousarray(np.asarray(result).transpose(2, 0, 1))


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.bin", folder / name) if path.is_file()), None)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and pixels (N, 3072) of one file, both uint8."""
    labels, pixels = _read_binary(path) if path.suffix == ".bin" else _read_pickle(path)
    if labels.max() > 9:
        raise ValueError(f"{path}: label {labels.max()} at row {int(labels.argmax())}, wanted 0 to 9; get it again")
    return labels, pixels


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one label byte and 3072 pixels: red, green, blue, each row by row."""
    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % (1 + PIXELS):
        raise ValueError(
            f"{path}: {content.size} bytes, wanted a multiple of {1 + PIXELS} (label and 32x32x3 pixels); get it again"
        )
    rows = content.reshape(-1, 1 + PIXELS)
    return rows[:, 0], rows[:, 1:]


def _read_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A dict with `data` (N, 3072) uint8 and `labels`, a list of N."""
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, wanted CIFAR-10's dict; get it again")
    entries = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    if "fine_labels" in entries:
        raise ValueError(f"{path}: this is CIFAR-100, wanted CIFAR-10")
    pixels, labels = entries.get("data"), entries.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        met = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else f"a {type(pixels).__name__}"
        raise ValueError(f"{path}: data is {met}, wanted uint8 (N, {PIXELS}); get it again")
    if not isinstance(labels, (list, np.ndarray)) or len(labels) != len(pixels) or not len(labels):
        raise ValueError(f"{path}: wanted {len(pixels)} labels in a list, one an image; get it again")
    if not all(isinstance(label, (int, np.integer)) and 0 <= label <= 255 for label in labels):
        raise ValueError(f"{path}: labels must be whole numbers from 0 to 9; get it again")
    return np.asarray(labels, np.uint8), pixels


def _download(folder: Path) -> None:
    archive = fetch([ARCHIVE_URL], ARCHIVE_SHA256, folder / "cifar-10-binary.tar.gz", max_bytes=1 << 28)
    _unpack(archive, folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Only the six files, by their own names: whatever else or wherever an archive says, nothing is written there."""
    with tarfile.open(archive) as content:
        for member in content:
            name = Path(member.name).name
            if not member.isfile() or name.removesuffix(".bin") not in TRAIN + TEST:
                continue
            source = content.extractfile(member)
            assert source is not None  # a regular file has content
            part = folder / f"{name}.{os.getpid()}.part"
            part.write_bytes(source.read())
            os.replace(part, folder / name)
