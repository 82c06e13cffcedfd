"""Files that are there whole or not at all, however the process that writes them ends."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: what killed processes left stays there
    LOCKS = False
else:
    LOCKS = True

__all__ = ["replacing"]

SURELY_LOCKED = 60.0  # seconds after which whoever made a temporary file has locked it, or is dead


@contextmanager
def replacing(path: Any) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `path` when the block ends; after an error there is no trace.

    Written beside `path`, brought to the disk, then renamed: who reads meets the old content or the new. A link stays
    a link, permissions stay, and what killed processes left of `path` is removed. Raises FileNotFoundError where the
    folder is missing.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {target.parent} to write into; make it first")
    if target.exists() and not target.is_file():
        raise OSError(f"{path}: is a folder or a device; wanted the name of a file")
    _sweep(target)
    part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    file = open(part, "xb")
    try:
        with file:
            _lock(file)
            yield file
            file.flush()
            if target.exists():
                os.chmod(part, target.stat().st_mode & 0o7777)
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise
    _sync_folder(target.parent)


def _lock(file: BinaryIO) -> bool:
    """Claim the file for this process until it is closed or the process ends; False where another one has it."""
    if not LOCKS:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken; or a file system without locks, where nothing is ever swept
        return False
    return True


def _sweep(target: Path) -> None:
    """Remove temporary files of `target` that no living process holds."""
    prefix, suffix = f".{target.name}.", ".part"
    for name in os.listdir(target.parent):
        if name.startswith(prefix) and name.endswith(suffix) and len(name) == len(prefix) + 12 + len(suffix):
            with suppress(OSError):
                _remove_if_left(target.with_name(name))


def _remove_if_left(part: Path) -> None:
    with open(part, "r+b") as file:
        if time() - os.fstat(file.fileno()).st_mtime > SURELY_LOCKED and _lock(file):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk as well, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
