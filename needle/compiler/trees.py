"""Arguments and results as a flat list of leaves, and the structure that puts them together again.

A structure is LEAF, or (type, keys, parts): plain tuples, which compare quickly and with `==`.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy

from ..autograd import Tensor, Value
from ..nn.nn_module import Module
from ..optim.optimizer import Optimizer
from .errors import JitError
from .objects import is_a, is_plain, noun

LEAF: Any = None
COMMON_LEAVES = {Tensor, numpy.ndarray, float, int, bool, str, type(None)}  # seen first, to be quick
LASTING = (
    Tensor,
    type,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    ModuleType,
    CodeType,
    numpy.ufunc,
    type(numpy.sum),
)
OTHER_ARITHMETIC = (numpy.matrix, numpy.ma.MaskedArray)
_new: Any = object.__new__


def flatten(value: Any) -> tuple[list[Any], Any]:
    """(leaves, structure) of lists, tuples, named tuples, dicts and dataclasses; all else is a leaf.

    Raises ValueError for what contains itself.
    """
    leaves: list[Any] = []
    try:
        return leaves, _structure(value, leaves)
    except RecursionError:
        raise ValueError("jit: an argument or a result contains itself, or is nested too deeply") from None


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """New containers of the structure around the leaves. ValueError where there are more or fewer of them."""
    left = iter(leaves)
    try:
        made = _built(structure, left)
    except StopIteration:
        raise ValueError(f"unflatten: {len(leaves)} leaves are too few for this structure") from None
    if next(left, left) is not left:
        raise ValueError(f"unflatten: {len(leaves)} leaves are too many for this structure")
    return made


def _structure(value: Any, leaves: list[Any]) -> Any:
    kind = type(value)
    if kind in COMMON_LEAVES:
        leaves.append(value)
        return LEAF
    if kind is tuple or kind is list or _is_named_tuple(kind):
        return kind, None, tuple([_structure(part, leaves) for part in value])
    if kind is dict or kind is OrderedDict or kind is defaultdict:
        return kind, _keys(value), tuple([_structure(part, leaves) for part in value.values()])
    if _is_record(kind):
        fields = dict(_fields(value))
        return kind, _keys(fields), tuple([_structure(part, leaves) for part in fields.values()])
    leaves.append(value)
    return LEAF


def _keys(value: dict) -> tuple:
    """The keys with their types, since 1 == True; and what a defaultdict makes where a key is missing."""
    return tuple(value), tuple(map(type, value)), getattr(value, "default_factory", None)


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _is_record(kind: type) -> bool:
    """Whether its instances are a dataclass's, and nothing that has a meaning as one object."""
    return (
        dataclasses.is_dataclass(kind)
        and not issubclass(kind, (Module, Optimizer, Value))
        and kind.__new__ is object.__new__
    )


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """All attributes of a dataclass's instance, those in slots too."""
    own = getattr(value, "__dict__", {})
    yield from own.items()
    for field in dataclasses.fields(value):
        if field.name not in own and hasattr(value, field.name):
            yield field.name, getattr(value, field.name)


def _built(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure is LEAF:
        return next(leaves)
    kind, keys, structures = structure
    parts = [_built(part, leaves) for part in structures]
    if keys is None:
        return parts if kind is list else tuple.__new__(kind, parts)
    if kind is dict:
        return dict(zip(keys[0], parts, strict=True))
    return _built_from_keys(kind, keys, parts)


def _built_from_keys(kind: Any, keys: tuple, parts: list[Any]) -> Any:
    if issubclass(kind, dict):
        made = kind() if kind is OrderedDict else kind(keys[2])
        made.update(zip(keys[0], parts, strict=True))
        return made
    made = _new(kind)
    for name, part in zip(keys[0], parts, strict=True):
        object.__setattr__(made, name, part)  # also where the class is frozen
    return made


# --- what a leaf is ----------------------------------------------------------------------------------------------


def array_of(leaf: Any) -> Any:
    """An array of a subclass (a memmap) as a plain one of the same memory; any other leaf as it is.

    Raises JitError for numpy.matrix and masked arrays, whose arithmetic is not an array's.
    """
    kind = type(leaf)
    if kind in COMMON_LEAVES or not issubclass(kind, numpy.ndarray):
        return leaf
    if issubclass(kind, OTHER_ARITHMETIC):
        raise JitError(
            f"jit: an argument is a {kind.__name__}, whose arithmetic is not that of an array; "
            "give numpy.asarray(x), or x.filled(...) where it is masked"
        )
    return leaf.view(numpy.ndarray)


def refuse_iterators(leaves: Sequence[Any]) -> None:
    """JitError where a result is used up by reading it, so that a later call would hand out an empty one."""
    for leaf in leaves:
        if any(hasattr(type(leaf), name) for name in ("__next__", "__anext__", "__await__")):
            raise JitError(
                f"jit: the function returned a {noun(leaf)}, which runs after the recording, and once; "
                "return a list or a tuple of what it gives"
            )


def opaque(leaf: Any) -> bool:
    """Whether a leaf of the results is an object that can change: a set, an array, a Module. Where the call made it,
    each call would have made another. By Python's convention, what is hashed by its value cannot change."""
    if is_plain(leaf) or is_a(leaf, LASTING):
        return False
    hashed: Any = type(leaf).__hash__
    return hashed is None or hashed is object.__hash__


# --- what differs ------------------------------------------------------------------------------------------------


def difference(was: Any, now: Any, path: str = "arguments") -> str:
    """Where two structures differ first, in words; "" where they do not."""
    if was == now:
        return ""
    if was is LEAF or now is LEAF or was[0] is not now[0]:
        return f"{path}: was a {_noun(was)}, is a {_noun(now)}"
    if was[1] != now[1]:
        return f"{path}: had the keys {_listed(was[1])}, has {_listed(now[1])}"
    if len(was[2]) != len(now[2]):
        return f"{path}: had {len(was[2])} items, has {len(now[2])}"
    places = range(len(was[2])) if was[1] is None else was[1][0]
    triples = zip(places, was[2], now[2], strict=True)
    return next(text for place, a, b in triples if (text := difference(a, b, f"{path}[{place!r}]")))


def altered(structure: Any, leaves: Sequence[Any], value: Any) -> str:
    """How a function changed the containers that it was given, in words; "" where they are as `unflatten` made them."""
    now, shape = flatten(value)
    if shape != structure:
        return difference(structure, shape)
    changed = [place for place, (a, b) in enumerate(zip(leaves, now, strict=True)) if a is not b]
    return f"arguments: leaf {changed[0]} was replaced" if changed else ""


def _noun(structure: Any) -> str:
    return "single value" if structure is LEAF else structure[0].__name__


def _listed(keys: tuple) -> str:
    return ", ".join(map(repr, keys[0])) or "none"
