"""What a guard says of a change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..autograd import Tensor
from .objects import MISSING, is_plain, noun, said
from .owners import Form, Owner, form_of


def label_of(owner: Owner, key: Any) -> str:
    """An item as a reason calls it: the path, with what it is where the path is a bare name."""
    path = owner.path_of(key)
    if owner.kind == "namespace" and path == key:
        return f"global {path}"
    return f"closure cell {path}" if owner.kind == "cell" else path


class Added:
    def __init__(self, label: str):
        self.label = label

    def __call__(self, now: Any) -> str:
        return f"{self.label} was not there, and is"


class Gone:
    def __init__(self, noun: str):
        self.noun = noun

    def __call__(self, now: Any) -> str:
        return f"a {self.noun} that was an argument is gone"


def counted(path: str, was: int, now: Any) -> str:
    return f"{path} had {was} items, has {now}"


def other(label: str, was: str, now: Any) -> str:
    if now is MISSING:
        return f"{label} is gone"
    return (
        f"{label} is another {was}"
        if noun(now) == was and not is_plain(now)
        else f"{label} was a {was}, is {said(now)}"
    )


def other_tensor(path: str, was: list[Tensor], now: list[Any]) -> str:
    if len(was) != len(now):
        return counted(path, len(was), len(now))
    return f"{path}[{next(i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a is not b)}] is another tensor"


def keys_differ(path: str, was: Collection[Any], now: Any) -> str:
    known, found = _known(was), _known(now)
    new, gone = [found[x] for x in found if x not in known], [known[x] for x in known if x not in found]
    parts = [f"gained {', '.join(map(said, new))}"] if new else []
    parts += [f"lost {', '.join(map(said, gone))}"] if gone else []
    return f"{path} {' and '.join(parts)}" if parts else f"{path} has its keys in another order"


def _known(keys: Any) -> dict[Any, Any]:
    """Keys by what they are looked for: a tensor by its identity, since == between it and a number is an error."""
    return {x if is_plain(x) else (object, id(x)): x for x in keys}


def formed(path: str, was: Form, now: Any) -> str:
    is_ = form_of(now)
    pairs = zip(("array", "shape", "dtype", "device"), was, is_, strict=True)
    name, a, b = next((name, a, b) for name, a, b in pairs if a != b)
    return f"{path}: {name} {a} became {b}"
