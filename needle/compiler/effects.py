"""What of the user's state changed while a function was recorded, which a replay would not do again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .objects import MISSING, said, same_through
from .owners import Owner, state_of
from .reached import Reached


def changes(before: Reached, after: Reached) -> list[str]:
    """In words, what was rebound, added or taken away between two walks. Not among it: numbers in tensors, `.grad`,
    what an optimizer remembers, and what a schedule that was stepped has set (see `stepped`)."""
    found = [text for owner in before.owners for text in _of_owner(owner, after, bool(stepped(before)))]
    found += [f"{path}: numbers were drawn from it" for path, x, state in before.generators if state_of(x) != state]
    return [*found, *_of_tensors(before, after)]


def stepped(before: Reached) -> list[Any]:
    """The schedules that were stepped since."""
    return [schedule for _, schedule, t in before.schedules if schedule.t != t]


def _of_owner(was: Owner, after: Reached, scheduled: bool) -> Iterator[str]:
    now = after.owner_of(was.thing, was.kind)
    if now is None or was.kind == "state":
        return
    if was.kind in ("set", "buffer"):
        if was.items != now.items:
            yield f"{was.path} (other elements)"
        return
    if was.kind == "list" and len(was.items) != len(now.items):
        yield f"{was.path} ({len(was.items)} items, now {len(now.items)})"
        return
    for key, old in was.items.items():
        new = now.items.get(key, MISSING)
        if not same_through(old, new) and not (scheduled and was.live):
            yield f"{was.path_of(key)} (was {said(old)}, is {_new(new, old)})"
    for key in now.items.keys() - was.items.keys():
        if was.kind != "namespace" or key in was.absent:
            yield f"{now.path_of(key)} (new)"


def _new(new: Any, old: Any) -> str:
    return f"another {said(new)[2:]}" if said(new) == said(old) and new is not MISSING else said(new)


def _of_tensors(before: Reached, after: Reached) -> Iterator[str]:
    for tensor, was in before.flags.items():
        now = after.flags.get(tensor, was)
        if now.requires_grad != was.requires_grad:
            yield f"{before.tensors[tensor]}.requires_grad (was {was.requires_grad}, is {now.requires_grad})"
        if len(now.hooks) != len(was.hooks) or any(a is not b for a, b in zip(now.hooks, was.hooks, strict=True)):
            yield f"the hooks of {before.tensors[tensor]}"
