"""What a thread does with new values: whether they are recorded, and who watches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from .backend_selection import array_api


class _Mode(threading.local):
    recording = True
    observer: Any = None  # made(value, op, inputs), before_backward(output), after_backward(output, seed, kept)


mode = _Mode()


class Recording:
    """Context manager and decorator that switches recording and puts the old state back."""

    __slots__ = ("before", "recording")

    def __init__(self, recording: bool):
        self.recording = recording
        self.before: tuple[bool, ...] = ()

    def __enter__(self) -> None:
        self.before = (*self.before, mode.recording)
        mode.recording = self.recording

    def __exit__(self, *_: object) -> None:
        *self.before, mode.recording = self.before  # type: ignore[assignment]

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with Recording(self.recording):
                return function(*args, **kwargs)

        return wrapped


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
