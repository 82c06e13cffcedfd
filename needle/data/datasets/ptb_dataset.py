"""Text as numbers for language models: words, a corpus, and batches of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd import Tensor
from ...backend_selection import default_device

__all__ = ["Corpus", "Dictionary", "batchify", "get_batch"]


class Dictionary:
    """Words and their numbers: `word2idx` a dict, `idx2word` a list, in the order in which words were first added."""

    def __init__(self) -> None:
        self.word2idx: dict[str, int] = {}
        self.idx2word: list[str] = []

    def add_word(self, word: str) -> int:
        """The word's number; a new word gets the next one."""
        number = self.word2idx.setdefault(word, len(self.idx2word))
        if number == len(self.idx2word):
            self.idx2word.append(word)
        return number

    def __len__(self) -> int:
        return len(self.idx2word)


class Corpus:
    """The words of train.txt and test.txt in `base_dir` as lists of numbers, `train` and `test`.

    One `dictionary` for both. Words are what white space parts, and `<eos>` ends each line. `max_lines` takes that
    many lines of each file. FileNotFoundError where a file is not there.
    """

    def __init__(self, base_dir: str | PathLike[str], max_lines: int | None = None):
        if max_lines is not None and max_lines < 1:
            raise ValueError(f"Corpus: max_lines must be at least 1, or None for all, got {max_lines}")
        self.dictionary = Dictionary()
        self.train = self.tokenize(Path(base_dir) / "train.txt", max_lines)
        self.test = self.tokenize(Path(base_dir) / "test.txt", max_lines)

    def tokenize(self, path: str | PathLike[str], max_lines: int | None = None) -> list[int]:
        """The numbers of a file's words, new words added to the dictionary."""
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"Corpus: there is no file {path}; name the folder that holds train.txt and test.txt "
                "(Penn Treebank's own are called ptb.train.txt and ptb.test.txt)"
            )
        add, numbers = self.dictionary.add_word, []
        with open(path, encoding="utf-8") as file:
            for line in islice(file, max_lines):
                numbers += [add(word) for word in line.split()]
                numbers.append(add("<eos>"))
        return numbers


def batchify(data: Sequence[int], batch_size: int, device: Any = None, dtype: Any = None) -> np.ndarray:
    """The text in `batch_size` columns, each a contiguous piece of it: (len(data) // batch_size, batch_size).

    What does not fill a row more is left out. ValueError where a column would be empty, or `dtype` cannot hold a
    word's number. `device` is accepted for homework code: the result is a NumPy array, `get_batch` moves parts of it.
    """
    if batch_size < 1 or len(data) < batch_size:
        raise ValueError(f"batchify: batch_size must lie between 1 and the {len(data)} words, got {batch_size}")
    rows = len(data) // batch_size
    exact = np.asarray(data[: rows * batch_size])
    cast = exact if dtype is None else exact.astype(dtype)
    if not np.array_equal(cast, exact):
        raise ValueError(f"batchify: dtype {np.dtype(dtype)} cannot hold the word number {exact.max()} exactly")
    return np.ascontiguousarray(cast.reshape(batch_size, rows).T)


def get_batch(batches: np.ndarray, i: int, bptt: int, device: Any = None, dtype: Any = None) -> tuple[Tensor, Tensor]:
    """Rows i to i + L − 1 as X (L, batch), and each word's follower as y (L·batch,), row after row.

    L = min(bptt, len(batches) − 1 − i): the last row has no follower. ValueError where L would be below 1.
    """
    length = min(bptt, len(batches) - 1 - i)
    if i < 0 or length < 1:
        raise ValueError(
            f"get_batch: i must lie in [0, {len(batches) - 2}] and bptt be at least 1 for {len(batches)} rows, "
            f"got i {i}, bptt {bptt}"
        )
    device = default_device() if device is None else device
    X, y = batches[i : i + length], batches[i + 1 : i + 1 + length].reshape(-1)
    return (
        Tensor(X, device=device, dtype=dtype, requires_grad=False),
        Tensor(y, device=device, dtype=dtype, requires_grad=False),
    )
