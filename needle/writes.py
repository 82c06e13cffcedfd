"""Who was written to, and when, so that a backward pass never uses numbers that the forward pass did not see."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Any

from .backend_selection import device_of

next_stamp = count(1).__next__  # the clock: every new value and every write gets the next number

storage_writes: dict[int, tuple[weakref.ref, int]] = {}  # id of a storage -> (it, stamp of the last write into it)


def mark_written(tensor: Any, in_place: bool = False) -> None:
    """Note that `tensor` changed: got a new array or, `in_place`, new numbers that all views of its storage see.

    A graph that read the old values can no longer be differentiated, so the one its `.grad` holds is let go.
    """
    tensor.written = next_stamp()
    if in_place:
        storage = tensor.device.storage(tensor.cached_data)
        key = id(storage)
        storage_writes[key] = (weakref.ref(storage, lambda _: storage_writes.pop(key, None)), tensor.written)
    if tensor.grad is not None:
        tensor.grad.let_go()


def was_written(value: Any, since: int) -> bool:
    """Whether the value, or memory that it shares, changed after the moment `since`."""
    if value.written > since:
        return True
    storage = device_of(value.cached_data).storage(value.cached_data)
    owner, stamp = storage_writes.get(id(storage), (None, 0))
    return stamp > since and owner is not None and owner() is storage
