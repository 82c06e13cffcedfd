"""The data sets of the examples, as arrays: scikit-learn's packaged digits, and MNIST from files.

Each comes as `(X_train, y_train, X_test, y_test)`: X float32 in [0, 1], one flat row an image; y uint8.
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

import numpy as np

from ..optional import optional
from .fetch import fetch
from .idx import read_mnist_pair

__all__ = ["MNIST_FILES", "digits", "mnist"]

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# SHA-256 of the unpacked files: they are the same everywhere, while copies of the .gz differ.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_MAX_BYTES = 1 << 26  # the largest, unpacked, has 47 million


def digits(test_fraction: float = 0.2, seed: int = 0) -> Split:
    """The 1797 handwritten digits, 8x8, that scikit-learn carries: X (N, 64), y (N,). Nothing is fetched.

    The split is fixed by `seed`: rows are permuted by `RandomState(seed)`, the first
    `round(1797 * test_fraction)` are the test set. Raises ImportError without scikit-learn.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"digits: test_fraction must lie between 0 and 1, got {test_fraction}")
    bunch = optional("sklearn.datasets", extra="apps", why="the digits data set").load_digits()
    X, y = bunch.data.astype(np.float32) / 16, bunch.target.astype(np.uint8)
    # RandomState, not default_rng: its stream is frozen, so the split is the same under every NumPy.
    order = np.random.RandomState(seed).permutation(len(X))
    test, train = np.split(order, [round(len(X) * test_fraction)])
    return X[train], y[train], X[test], y[test]


def mnist(folder: str | PathLike[str] | None = None, download: bool = False) -> Split:
    """MNIST: X (60000, 784) and (10000, 784), y (60000,) and (10000,).

    The four files, gzipped or plain, are looked for in `folder`, else in the folder that the variable
    NEEDLE_DATA names, else in ./data; in its subfolder `mnist` first. `download=True` fetches those
    that are missing. Raises FileNotFoundError that says where it looked, FetchError when a download
    fails, IDXError for a bad file.
    """
    root = _data_root(folder)
    if download:
        _download_mnist(root)
    found = {name: _find(root, name) for name in MNIST_FILES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(_not_found(root, missing))
    paths = [path for path in found.values() if path is not None]
    return (*_flat_pair(*paths[:2]), *_flat_pair(*paths[2:]))


def _data_root(folder: str | PathLike[str] | None) -> Path:
    if folder is not None:
        return Path(folder)
    return Path(os.environ.get("NEEDLE_DATA") or "data")


def _find(root: Path, name: str) -> Path | None:
    candidates = (place / file for place in (root / "mnist", root) for file in (f"{name}.gz", name))
    return next((path for path in candidates if path.is_file()), None)


def _download_mnist(root: Path) -> None:
    # Files that lie in the root itself, or a root that is already the subfolder, say where the rest belongs.
    place = root if root.name == "mnist" or any(root.glob("*-idx?-ubyte*")) else root / "mnist"
    for name, sha256 in MNIST_FILES.items():
        if _find(root, name) is None:
            urls = [f"{mirror}{name}.gz" for mirror in MNIST_MIRRORS]
            fetch(urls, sha256, place / f"{name}.gz", of_content=True, max_bytes=MNIST_MAX_BYTES)


def _not_found(root: Path, missing: list[str]) -> str:
    return (
        f"MNIST is not there: looked in {root / 'mnist'} and {root} for {', '.join(missing)} (.gz or plain). "
        "Name the folder that holds the files (the argument folder, or the variable NEEDLE_DATA), "
        "let it be fetched with download=True, or use digits(), which needs no files"
    )


def _flat_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    X, y = read_mnist_pair(images, labels)
    # Divided in float32: multiplying by 1/255 differs in the last bit.
    return np.divide(X.reshape(len(X), -1), 255, dtype=np.float32), y
