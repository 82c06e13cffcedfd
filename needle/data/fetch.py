"""Downloading a file, on request only: mirrors in turn, resumed where cut, checked, moved in place whole."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from ..progress import meter

__all__ = ["FetchError", "fetch", "sha256_of"]

PIECE = 1 << 16
RESUMES = 5  # at one mirror, and only as long as each try brings some more bytes


class FetchError(OSError):
    """No mirror gave the wanted file; the message names what was tried and the ways out."""


class _MirrorError(Exception):
    """What one mirror did wrong. A class of its own, so that a full disk is not blamed on a mirror."""


class _Cut(_MirrorError):
    """The connection broke on the way; what came so far is kept."""


class _Wanted(NamedTuple):
    """The promise that a download must keep."""

    name: str
    sha256: str
    of_content: bool
    max_bytes: int
    timeout: float

    def sha256_at(self, path: Path) -> str:
        return sha256_of(path, of_content=self.of_content, max_bytes=self.max_bytes)

    def is_at(self, path: Path) -> bool:
        return path.exists() and self.sha256_at(path) == self.sha256


def fetch(
    urls: str | Sequence[str],
    sha256: str,
    destination: str | PathLike[str],
    *,
    of_content: bool = False,
    max_bytes: int = 1 << 32,
    timeout: float = 20.0,
) -> Path:
    """Download the wanted bytes from the first of `urls` (http, https) that has them; returns the path.

    `sha256` is the file's, or with `of_content` that of what gzip unpacks from it, so that mirrors
    which pack the same data differently all pass. Neither may be larger than `max_bytes`. Nothing is
    fetched where `destination` is right already; another file there is left alone (FetchError).
    A cut download waits beside it as `.part` for the next call. Proxies come from the environment.
    Raises FetchError when no mirror serves, ValueError for arguments that cannot be meant.
    """
    urls = [urls] if isinstance(urls, str) or not isinstance(urls, Iterable) else list(urls)
    _check_arguments(urls, sha256, timeout)
    target = Path(destination)
    wanted = _Wanted(target.name, sha256.lower(), of_content, max_bytes, timeout)
    if target.exists():
        _require_same(target, wanted)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renaming claims what an earlier try left: two downloads at once never write into one file.
    waiting, part = _beside(target, "part"), _beside(target, f"{os.getpid()}-{threading.get_ident()}.part")
    _move_if_there(waiting, part)
    try:
        _from_any(urls, part, wanted)
        os.replace(part, target)
    finally:
        _move_if_there(part, waiting)
    return target


def sha256_of(path: str | PathLike[str], *, of_content: bool = False, max_bytes: int = 1 << 32) -> str:
    """SHA-256 of a file, in hexadecimal; with `of_content`, of what gzip unpacks from it.

    "" where the file is no sound gzip file or unpacks to more than `max_bytes`.
    """
    digest, left = hashlib.sha256(), max_bytes
    try:
        with gzip.open(path, "rb") if of_content else open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                left -= len(piece)
                if left < 0:
                    return ""
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return ""
    return digest.hexdigest()


def _check_arguments(urls: Sequence[Any], sha256: Any, timeout: Any) -> None:
    if not urls or not all(_is_address(url) for url in urls):
        raise ValueError(f"fetch: wanted one or more http or https addresses, got {urls}")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"fetch: sha256 must be 64 hexadecimal digits, got {sha256!r}")
    if not isinstance(timeout, Real) or not 0 < float(timeout) <= threading.TIMEOUT_MAX:
        raise ValueError(f"fetch: timeout must be a positive number of seconds, got {timeout!r}")


def _is_address(url: Any) -> bool:
    return isinstance(url, str) and url.startswith(("http://", "https://"))


def _require_same(target: Path, wanted: _Wanted) -> None:
    if target.is_dir() or not wanted.is_at(target):
        raise FetchError(
            f"{target} is there but is not the file wanted (SHA-256 {wanted.sha256}): "
            "move it away, or choose another folder"
        )


def _from_any(urls: Sequence[str], part: Path, wanted: _Wanted) -> None:
    """Leave the wanted bytes in `part`, or raise with what each mirror did."""
    failures = []
    for url in urls:
        try:
            return _from_one(url, part, wanted)
        except _MirrorError as error:
            failures.append(f"{url} ({error})")
    raise FetchError(
        f"could not download {wanted.name}; tried {', '.join(failures)}. Is there a network (and a proxy "
        "set, if it needs one)? Or copy the file here by other means and name its folder in NEEDLE_DATA"
    )


def _from_one(url: str, part: Path, wanted: _Wanted) -> None:
    if wanted.is_at(part):
        return
    resumed = _size(part) > 0
    _pull_through(url, part, wanted)
    if resumed and not wanted.is_at(part):  # its start was of another file: once more, whole
        part.unlink()
        _pull_through(url, part, wanted)
    if not wanted.is_at(part):
        met = wanted.sha256_at(part) or "not to be had, it is too large or no sound gzip file"
        part.unlink()
        raise _MirrorError(f"wrong bytes, removed: SHA-256 {met}; wanted {wanted.sha256}")


def _pull_through(url: str, part: Path, wanted: _Wanted) -> None:
    """Pull, and take a cut connection up again where it broke."""
    for tries_left in reversed(range(RESUMES)):
        before = _size(part)
        try:
            return _pull(url, part, wanted)
        except _Cut:
            if tries_left == 0 or _size(part) <= before:
                raise


def _pull(url: str, part: Path, wanted: _Wanted) -> None:
    """One request: append to `part` what it lacks, or write it anew where the server does not resume."""
    asked = _size(part)
    with _open(url, asked, wanted.timeout) as reply:
        start = asked if _resumes_at(reply, asked) else 0
        total = None if reply.length is None else start + reply.length
        if total is not None and total > wanted.max_bytes:
            raise _MirrorError(f"it has {total} bytes, wanted at most {wanted.max_bytes}")
        bar = meter(total=total, desc=wanted.name, unit="B")
        with open(part, "ab" if start else "wb") as file, bar:
            bar.update(start)
            for piece in _pieces(reply, room=wanted.max_bytes - start):
                file.write(piece)
                bar.update(len(piece))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) < total:
        raise _Cut(f"connection cut after {_size(part)} of {total} bytes")


def _open(url: str, start: int, timeout: float) -> HTTPResponse:
    headers = {"User-Agent": "needle", "Range": f"bytes={start}-"} if start else {"User-Agent": "needle"}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == 416:  # the server's file ends before `start`: ours is another
            return _open(url, 0, timeout)
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _MirrorError(_said(error)) from None
    except ValueError as error:  # urllib cannot read the address
        raise _MirrorError(f"no address that can be asked: {error}") from None


def _resumes_at(reply: HTTPResponse, start: int) -> bool:
    """Whether the reply begins at byte `start`: a server without Range answers 200 and the whole file."""
    met = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return reply.status == 206 and met is not None and int(met[1]) == start


def _pieces(reply: HTTPResponse, room: int) -> Iterator[bytes]:
    while True:
        try:
            piece = reply.read(PIECE)
        except (OSError, HTTPException) as error:
            raise _Cut(f"connection cut: {_said(error)}") from None
        room -= len(piece)
        yield piece
        if not piece or room < 0:  # a server that says no length and never ends: the checksum will tell
            return


def _said(error: Exception) -> str:
    """An error's own words; URLError hides them in `reason`."""
    return str(getattr(error, "reason", error)) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{target.name}.{ending}")


def _move_if_there(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        os.replace(source, target)
