"""Work that several cores share: tasks that release Python's lock, taken one after the other by whoever is free.

Threads of Python's own, that sleep between the tasks. Waking one takes some 0.1 ms, which only large arrays repay; but
threads that wait awake, as OpenMP's do, keep the processor from those of the BLAS, for milliseconds a turn.
"""

from __future__ import annotations

import contextvars
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

Task = Callable[[], None]


def cores() -> int:
    """Processors that this process may use; fewer where OMP_NUM_THREADS says so, as for other libraries."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, max(int(wanted), 1)) if wanted.isdecimal() else allowed


class Pool:
    """Helpers beside the calling thread, which itself takes tasks too and so never waits for one that sleeps on."""

    def __init__(self, threads: int):
        self.helpers = threads - 1
        self.executor: ThreadPoolExecutor | None = None

    def run(self, tasks: Iterable[Task]) -> None:
        """Do all tasks, in any order and some at once. Raises what one of them raised, after all others."""
        waiting = deque(tasks)
        helping = [self._help(waiting) for _ in range(min(self.helpers, len(waiting) - 1))]
        try:
            _drain(waiting)
        finally:
            begun = [future for future in helping if future is not None and not future.cancel()]
            errors = [future.exception() for future in begun]
        for error in filter(None, errors):
            raise error

    def _help(self, waiting: deque[Task]) -> Future | None:
        """A helper at work, in the caller's context (NumPy keeps there which errors it ignores)."""
        if self.executor is None:
            self.executor = ThreadPoolExecutor(self.helpers, "needle")
        try:
            return self.executor.submit(contextvars.copy_context().run, _drain, waiting)
        except RuntimeError:  # Python shuts down, and starts no thread any more
            return None

    def forget(self) -> None:
        """After a fork the child has no helpers: let it start its own."""
        self.executor = None


def _drain(waiting: deque[Task]) -> None:
    while True:
        try:
            task = waiting.popleft()
        except IndexError:
            return
        task()


pool = Pool(cores())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget)
