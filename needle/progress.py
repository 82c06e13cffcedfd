"""Progress of long work, on stderr: a tqdm bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from time import monotonic
from typing import Any, TypeVar

from .optional import have, optional

__all__ = ["Meter", "meter", "progress"]

T = TypeVar("T")

LINE_EVERY = 3.0  # seconds between two plain lines: a log stays readable
WORTH_TELLING = 1.0  # work shorter than this ends without a line


def progress(iterable: Iterable[T], *, total: int | None = None, desc: str = "", unit: str = "it") -> Iterator[T]:
    """Yield from `iterable`, showing how far it is. `total` defaults to its length, where it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with meter(total=total, desc=desc, unit=unit) as bar:
        for item in iterable:
            yield item
            bar.update(1)


def meter(*, total: int | None = None, desc: str = "", unit: str = "it") -> Any:
    """A context manager with `update(n)` and `close()`: tqdm's bar on a terminal, else a Meter.

    `unit="B"` counts bytes and prints them as kB, MB and so on.
    """
    if _on_terminal() and have("tqdm"):
        tqdm = optional("tqdm.std", extra="apps", why="progress bars").tqdm
        return tqdm(total=total, desc=desc or None, unit=unit, unit_scale=unit == "B")
    return Meter(total=total, desc=desc, unit=unit)


class Meter:
    """Counts work and says so in plain lines: at most one every few seconds, and a last one."""

    def __init__(self, *, total: int | None = None, desc: str = "", unit: str = "it"):
        self.total, self.desc, self.unit = total, desc, unit
        self.n = 0
        self.start = self.last = monotonic()
        self.closed = False

    def update(self, n: int = 1) -> None:
        self.n += n
        now = monotonic()
        if now - self.last >= LINE_EVERY:
            self.last = now
            _say(self.line(now))

    def close(self) -> None:
        now = monotonic()
        if not self.closed and now - self.start > WORTH_TELLING:
            _say(self.line(now))
        self.closed = True

    def line(self, now: float) -> str:
        """For example `train: 1200/5000 it, 24 %, 3.4 s`."""
        label = f"{self.desc}: " if self.desc else ""
        return f"{label}{self.count()}, {now - self.start:.1f} s"

    def count(self) -> str:
        if not self.total:
            return _amount(self.n, self.unit)
        done = _amount(self.n, self.unit) if self.unit == "B" else str(self.n)
        return f"{done}/{_amount(self.total, self.unit)}, {100 * self.n // self.total} %"

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _amount(n: int, unit: str) -> str:
    if unit != "B" or n < 1000:
        return f"{n} {unit}"
    size, prefixes = n / 1000, "kMGT"
    while size >= 1000 and len(prefixes) > 1:
        size, prefixes = size / 1000, prefixes[1:]
    return f"{size:.1f} {prefixes[0]}B"


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError, OSError):  # no stderr at all, or a closed one
        return False


def _say(line: str) -> None:
    if sys.stderr is None:  # print(file=None) would write to stdout
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (ValueError, OSError):  # closed: progress is never worth an exception
        pass
