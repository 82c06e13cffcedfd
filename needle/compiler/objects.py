"""Looks at Python objects without running any of their code: no property, no `__getattr__`, no `__eq__`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import local
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

import numpy

from ..autograd import Tensor

PLAIN = {type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented)}
MISSING = type("Missing", (), {"__repr__": lambda self: "missing"})()


def is_a(value: Any, kind: Any) -> bool:
    """isinstance, by the true type alone: `__class__` may be a property."""
    return issubclass(type(value), kind)


def is_plain(value: Any) -> bool:
    """Whether it is a number, text, None, dtype or a tuple of them: what never changes, and is known by its repr."""
    kind = type(value)
    if kind is tuple:
        return all(map(is_plain, value))
    if kind is slice:
        return is_plain((value.start, value.stop, value.step))
    return kind in PLAIN or issubclass(kind, (numpy.generic, numpy.dtype))


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are one: NaN is itself; 1, 1.0 and True differ, as do 0.0 and -0.0."""
    return a is b or (type(a) is type(b) and is_plain(a) and is_plain(b) and repr(a) == repr(b))


def same_through(a: Any, b: Any) -> bool:
    """`same`, of lists and dicts of plain values too."""
    if a is b or same(a, b):
        return True
    if type(a) is not type(b) or type(a) not in (list, tuple, dict) or len(a) != len(b):
        return False
    if type(a) is dict:
        return all(map(same, a, b)) and all(map(same_through, a.values(), b.values()))
    return all(map(same_through, a, b))


def dict_of(thing: Any) -> dict[str, Any] | None:
    """The instance's own dict of attributes (this thread's of a threading.local); None where there is none to see."""
    if is_a(thing, local):
        return local.__getattribute__(thing, "__dict__")
    for cls in type(thing).__mro__:
        found = vars(cls).get("__dict__")
        if found is not None:
            builtin = isinstance(found, (GetSetDescriptorType, MemberDescriptorType))
            return found.__get__(thing) if builtin else None
    return None


def slots_of(thing: Any) -> Iterator[tuple[str, Any]]:
    """Names and descriptors of what the classes of `thing` keep in slots."""
    for cls in type(thing).__mro__:
        for name, found in vars(cls).items():
            if isinstance(found, MemberDescriptorType) and "__slots__" in vars(cls):
                yield name, found


def slot(descriptor: Any, thing: Any) -> Any:
    try:
        return descriptor.__get__(thing)
    except AttributeError:
        return MISSING


def contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def listed(value: Any) -> list[Any]:
    """The items of a list, tuple or deque, whatever its class makes of `__iter__`."""
    base: Any = next(cls for cls in type(value).__mro__ if cls.__module__ in ("builtins", "collections"))
    return list(base.__iter__(value))


def mapped(value: dict) -> dict[Any, Any]:
    """The items of a dict, whatever its class makes of `__getitem__`."""
    return dict(dict.items(value))


def marks(value: Any) -> frozenset:
    """The elements of a set so that two sets can be compared: plain ones by type and value, others by identity."""
    base = frozenset if is_a(value, frozenset) else set
    return frozenset(marked(base.__iter__(value)))


def marked(values: Iterable[Any]) -> list[tuple[type, Any]]:
    """What is equal for the same values alone: plain ones by type and text, others by identity."""
    return [(type(x), repr(x)) if is_plain(x) else (object, id(x)) for x in values]


def content(value: Any) -> tuple[str, bytes]:
    """What a bytearray or an array.array holds."""
    view = memoryview(value)
    return view.format, view.tobytes()


def said(value: Any) -> str:
    """A plain value as it is written, of anything else what it is."""
    if value is MISSING:
        return "missing"
    if is_plain(value):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    return f"a {noun(value)}"


def noun(value: Any) -> str:
    return "tensor" if is_a(value, Tensor) else type(value).__name__
