"""What a thread does with new values: whether they are recorded, and who watches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any

from .backend_selection import array_api


class _Mode(threading.local):
    recording = True
    observer: Any = None  # made(value, op, inputs), before_backward(output), after_backward(output, seed, kept)
    recorder: Any = None  # of ndl.jit: compute(op, inputs), options(…), count(step), drawn(…)


mode = _Mode()


class Recording:
    """Context manager and decorator that switches recording and puts the old state back.

    A decorated generator function switches for each of its steps, and back while it waits at a `yield`.
    Decorating an async function raises TypeError.
    """

    __slots__ = ("before", "recording")

    def __init__(self, recording: bool):
        self.recording = recording
        self.before: dict[int, list[bool]] = {}  # of each thread: one object may serve several

    def __enter__(self) -> None:
        self.before.setdefault(threading.get_ident(), []).append(mode.recording)
        mode.recording = self.recording

    def __exit__(self, *_: object) -> None:
        mode.recording = self.before[threading.get_ident()].pop()

    def __call__(self, function: Callable) -> Callable:
        if iscoroutinefunction(function) or isasyncgenfunction(function):
            name = getattr(function, "__qualname__", "a function")
            raise TypeError(
                f"no_grad, enable_grad: {name} is async, so other tasks would run in its mode; "
                "use `with` around the parts of it that do not await"
            )
        if isgeneratorfunction(function):
            return self._of_generator(function)

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with Recording(self.recording):
                return function(*args, **kwargs)

        return wrapped

    def _of_generator(self, function: Callable) -> Callable:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return (yield from _stepwise(function(*args, **kwargs), self.recording))

        return wrapped


def _stepwise(generator: Generator, recording: bool) -> Generator:
    """The same generator, each step of which records or not."""
    step: Callable[[Any], Any] = generator.send
    given: Any = None
    while True:
        try:
            with Recording(recording):
                made = step(given)
        except StopIteration as stop:
            return stop.value
        try:
            step, given = generator.send, (yield made)
        except GeneratorExit:
            with Recording(recording):
                generator.close()
            raise
        except BaseException as error:  # whatever the caller throws in
            step, given = generator.throw, error


def no_grad() -> Recording:
    """Within it (or within a function it decorates) results are constants: nothing is recorded."""
    return Recording(False)


def enable_grad() -> Recording:
    """Records again inside `no_grad`."""
    return Recording(True)


def is_grad_enabled() -> bool:
    return mode.recording


def is_dtype(dtype: Any) -> bool:
    """Whether `dtype` names one."""
    try:
        return dtype is not None and array_api.dtype(dtype) is not None
    except TypeError:
        return False


_default_dtype: list[Any] = [None]


def set_default_dtype(dtype: Any) -> None:
    """The dtype of tensors made from Python floats and of `init.*`; None: float64 as NumPy, float32 in `init`."""
    if dtype is not None and not (is_dtype(dtype) and array_api.dtype(dtype).kind == "f"):
        raise TypeError(f"set_default_dtype: wanted a float dtype such as 'float32', or None, got {dtype!r}")
    _default_dtype[0] = dtype


def get_default_dtype() -> Any:
    return _default_dtype[0]
