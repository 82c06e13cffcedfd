"""MNIST and Fashion-MNIST as datasets."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..data_basic import Dataset
from ..data_collate import stack_items
from ..fetch import fetch, sha256_of
from ..idx import IDXError, read_mnist_pair
from ..sources import MNIST_FILES

__all__ = ["FashionMNIST", "MNISTDataset"]

FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
# SHA-256 of the packed files, as the published checksum list of TensorFlow Datasets has them.
FASHION_FILES = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
FASHION_MAX_BYTES = 1 << 26


class MNISTDataset(Dataset):
    """MNIST from a pair of IDX files, gzipped or plain: item i is (image float32 (28, 28, 1) in [0, 1], label uint8).

    A slice gives stacked images (N, 28, 28, 1) and labels (N,). Transforms see one image (28, 28, 1), and run at
    every access. Raises FileNotFoundError, IDXError for a file that is not what it should be.
    """

    def __init__(
        self, image_filename: str | PathLike[str], label_filename: str | PathLike[str], transforms: Any = None
    ):
        super().__init__(transforms)
        images, self.labels = read_mnist_pair(image_filename, label_filename)
        # Divided in float32: multiplying by 1/255 differs in the last bit.
        self.images = np.divide(images[..., None], 255, dtype=np.float32)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        if not isinstance(index, slice):
            return self.apply_transforms(self.images[index]), self.labels[index]
        chosen = range(len(self))[index]
        if not chosen or not self.transforms:
            return self.images[index], self.labels[index]
        images, labels = stack_items([self[i] for i in chosen], chosen)
        return images, labels

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...] | None:
        return None if self.transforms else (self.images[indices], self.labels[indices])


class FashionMNIST(MNISTDataset):
    """Fashion-MNIST, ten kinds of clothes in MNIST's format: 60000 items, 10000 with `train=False`.

    `folder` holds its files, or has them in a subfolder `fashion-mnist`, which counts first; `download=True` fetches
    the two that are missing into that. They are named like MNIST's: give each set a folder of its own.
    """

    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip

    def __init__(
        self, folder: str | PathLike[str], train: bool = True, transforms: Any = None, *, download: bool = False
    ):
        kind = "train" if train else "t10k"
        names = f"{kind}-images-idx3-ubyte", f"{kind}-labels-idx1-ubyte"
        images, labels = (_fashion_file(Path(folder), name, download) for name in names)
        if sha256_of(labels, of_content=labels.suffix == ".gz") in MNIST_FILES.values():
            raise IDXError(f"{labels}: these are MNIST's labels, wanted Fashion-MNIST's; give each a folder of its own")
        super().__init__(images, labels, transforms)


def _fashion_file(folder: Path, name: str, download: bool) -> Path:
    places = (folder / "fashion-mnist", folder)
    for path in (place / file for place in places for file in (f"{name}.gz", name)):
        if path.is_file():
            return path
    if not download:
        raise FileNotFoundError(
            f"Fashion-MNIST is not there: looked in {places[0]} and {folder} for {name} (.gz or plain). "
            "Name the folder that holds the files, or let them be fetched with download=True"
        )
    place = folder if folder.name == "fashion-mnist" else places[0]
    urls = [f"{mirror}{name}.gz" for mirror in FASHION_MIRRORS]
    return fetch(urls, FASHION_FILES[name], place / f"{name}.gz", max_bytes=FASHION_MAX_BYTES)
