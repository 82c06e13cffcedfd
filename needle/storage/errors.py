"""What is wrong with a file, in one sentence that names it."""

from __future__ import annotations

from typing import Any


class StorageError(ValueError):
    """A file that cannot be trusted, or does not fit what it is loaded into; nothing was loaded."""


def broken(path: Any, what: str) -> StorageError:
    return StorageError(f"{path}: {what}; take another copy, this one was cut, altered or made for something else")
