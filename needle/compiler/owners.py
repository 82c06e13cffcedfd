"""Things that can change, and how to look into them: what a walk finds, and what a guard reads."""

from __future__ import annotations

import argparse
import functools
import operator
import pickle
import random
import threading
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy

from ..autograd import Tensor, Value
from ..backend_selection import device_of
from ..nn.nn_module import Module, Parameter
from ..optim.optimizer import Optimizer
from ..optim.schedules import Schedule
from .objects import is_a, is_plain, noun
from .watch import NEEDLE, is_foreign

ARRAY = vars(Value)["cached_data"]  # the slot; a class of tensors without arrays hides it
WRAPPERS = (property, staticmethod, classmethod, functools.cached_property, functools.partialmethod)
CONTAINERS = (
    (dict, "dict"), ((list, tuple, deque), "list"), ((set, frozenset), "set"), ((bytearray, array), "buffer"),
)  # fmt: skip
IN_PLACE = ("list", "dict", "set", "buffer", "method", "partial")  # read where they stand: others may stand for them
WRITTEN_IN_PYTHON = (UserDict, UserList, UserString, ChainMap)  # of Python's library, with attributes as users' have
NAMESPACES = {SimpleNamespace, argparse.Namespace, threading.local}
VIEWS = {MappingProxyType, type({}.keys()), type({}.values()), type({}.items())}
GETTERS = (operator.attrgetter, operator.methodcaller)


@dataclass(eq=False)
class Owner:
    """thing: what holds the items. via: where it is read from, an owner and a key; None: from the thing itself."""

    kind: str
    thing: Any
    path: str
    via: tuple[Owner, Any] | None = None
    items: dict[Any, Any] = field(default_factory=dict)
    paths: dict[Any, str] = field(default_factory=dict)  # of items that are not called by owner and key
    absent: set[Any] = field(default_factory=set)  # keys that code asks for, and that are not there
    whole: bool = True  # whether all that the thing holds is among the items
    live: bool = False  # a group of an optimizer, whose floats are read at each call
    weak: bool = False  # an object that a guard must not keep alive

    def path_of(self, key: Any) -> str:
        if key in self.paths:
            return self.paths[key]
        if self.kind in ("list", "dict", "state"):
            return f"{self.path}[{repr(key) if is_plain(key) else noun(key)}]"
        return f"{self.path}.{key}" if self.path else str(key)


class Form(NamedTuple):
    """Of an array, what a recording depends on."""

    kind: type
    shape: tuple[int, ...]
    dtype: Any
    device: Any


class Flags(NamedTuple):
    """Of a tensor, what a recording depends on besides its array."""

    requires_grad: bool
    without_grad: bool
    hooks: tuple
    form: Form | None  # None: it has no array of its own


def form_of(array: Any) -> Form:
    return Form(type(array), array.shape, array.dtype, device_of(array))


def flags_of(tensor: Tensor) -> Flags:
    hooks = tuple((tensor.notes or {}).get("hooks", {}).values())
    kind: Any = type(tensor)
    return Flags(
        tensor.requires_grad,
        tensor.grad is None,
        hooks,
        form_of(tensor.cached_data) if kind.cached_data is ARRAY else None,
    )


# --- what a value is ---------------------------------------------------------------------------------------------


def kind_of(value: Any) -> str:
    """How to look into a value: the kind of its Owner; "" if not at all."""
    kind = type(value)
    if issubclass(kind, (Value, numpy.ndarray)):
        return ""
    if kind is FunctionType:
        return "function"
    if kind is MethodType:
        return "method"
    if issubclass(kind, functools.partial):
        return "partial"
    if issubclass(kind, WRAPPERS):
        return "wrapper"
    if issubclass(kind, ModuleType):
        return "" if is_foreign(vars(value).get("__name__")) else "module"
    if issubclass(kind, type):
        return "" if is_foreign(value.__module__) and not issubclass(value, Module) else "class"
    if issubclass(kind, Optimizer):
        return "optimizer"
    if issubclass(kind, Schedule):
        return ""
    return _kind_of_instance(kind)


def _kind_of_instance(kind: type) -> str:
    if kind in NAMESPACES or kind in WRITTEN_IN_PYTHON:
        return "object"
    if is_foreign(kind.__module__):
        if issubclass(kind, Module) or is_needles(kind, ".training"):
            return "object"
    elif not any(is_needles(cls, ".data") for cls in kind.__mro__):
        named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
        return "list" if named_tuple else "object"
    return next((name for bases, name in CONTAINERS if issubclass(kind, bases)), "")


def is_needles(cls: type, part: str = "") -> bool:
    return f"{cls.__module__}.".startswith(f"{NEEDLE}{part}.")


def carries(value: Any, depth: int = 8) -> bool:
    """Whether it is, or holds, what `Module.parameters` would find."""
    if is_a(value, (Parameter, Module)):
        return True
    if type(value) not in (list, tuple, dict) or not depth:
        return False
    parts = value.values() if type(value) is dict else value
    return any(carries(part, depth - 1) for part in parts)


def state_of(generator: Any) -> bytes:
    """Where a generator of random numbers is."""
    if is_a(generator, random.Random):
        return pickle.dumps(generator.getstate())
    if is_a(generator, numpy.random.RandomState):
        return pickle.dumps(generator.get_state(legacy=False))
    return pickle.dumps(generator.bit_generator.state)
