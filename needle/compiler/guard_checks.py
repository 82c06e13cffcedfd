"""Writes the checks of a guard: expressions that are true as long as what was reached is as it was."""

from __future__ import annotations

import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy

from ..autograd import Tensor
from ..backend_selection import device_of
from .guard_words import Added, Gone, counted, formed, keys_differ, label_of, other, other_tensor
from .objects import (
    MISSING,
    content,
    contents,
    dict_of,
    is_a,
    is_plain,
    listed,
    mapped,
    marked,
    marks,
    noun,
    said,
    same,
    slot,
)
from .owners import Flags, Form, Owner
from .reached import Reached

INDEXED = (list, tuple, dict, OrderedDict, defaultdict, deque)  # read where they stand; others' items are copied first
HELPERS = {
    "same": same, "slot": slot, "contents": contents, "listed": listed, "mapped": mapped, "marks": marks,
    "marked": marked, "content": content, "dict_of": dict_of,
}  # fmt: skip
WHOLE = {"set": "marks", "buffer": "content"}  # compared at once, as what this makes of them
WEAK = ("object", "optimizer", "attributes", "slots", "list", "dict", "set", "buffer")
SMALL = 1000  # items of an array whose numbers are compared


@dataclass
class Check:
    """One thing that must hold: `test` in Python, `read` what to look at where it does not, `tell` what to say then."""

    owner: str
    test: str
    read: str
    tell: Callable[[Any], str]
    kept: str = ""  # the value that was kept, for `described`


class Writer:
    """Writes checks of owners, in the order in which they were reached, and of tensors."""

    def __init__(self, found: Reached):
        self.found = found
        self.checks: list[Check] = []
        self.later: list[Check] = []  # that one thing is found in two places
        self.names: dict[str, Any] = dict(HELPERS)
        self._named: dict[int, str] = {}
        self._locals: dict[int, int] = {}
        self._seen: list[Any] = []  # weak references to the tensors' arrays that were found right
        self._forms: list[Form] = []
        self.names.update(seen=self._seen, fits=_fits(self._seen, self._forms))

    def name(self, value: Any, letter: str = "K") -> str:
        """The name of a value in the generated source."""
        known = self._named.get(id(value))
        if known is None:
            known = self._named[id(value)] = f"{letter}{len(self._named)}"
            self.names[known] = value
        return known

    def check(self, owner: Owner, test: str, read: str, tell: Callable[[Any], str], kept: str = "") -> None:
        self.checks.append(Check(f"{owner.kind} {owner.path}".rstrip(), test, read, tell, kept))

    def arguments(self, objects: Collection[Any]) -> None:
        """That the objects among the arguments live, since they are known by their ids."""
        for thing in objects:
            if type(thing).__weakrefoffset__:
                test = f"{self.name(weakref.ref(thing))}() is not None"
                self.checks.append(Check("arguments", test, "None", Gone(noun(thing))))

    # --- owners ---

    def owner(self, owner: Owner) -> None:
        base = self._base(owner)
        self._outside(owner, base)
        if owner.kind == "state":
            self._state(owner, base)
        elif owner.kind == "list" and len(owner.items) > 1 and all(is_a(x, Tensor) for x in owner.items.values()):
            self._tensors(owner, base)
        else:
            for key, value in owner.items.items():
                self.item(owner, key, value, self._read(owner, base, key))

    def _tensors(self, owner: Owner, base: str) -> None:
        """A list of tensors, at once: == between tensors is identity."""
        was, path = list(owner.items.values()), owner.path
        read = f"[*{self._copied(owner, base)}]"
        self.check(owner, f"{read} == {self.name(was)}", read, lambda now: other_tensor(path, was, now))

    def _state(self, owner: Owner, base: str) -> None:
        """What an optimizer remembers, at once."""
        was = [tensor for slots in owner.thing.values() for tensor in slots.values()]
        read = f"[*chain(map(values, {base}.values()))]"
        self.names.update(chain=chain.from_iterable, values=dict.values)
        text = f"{owner.path} holds other tensors"
        self.check(owner, f"[*{base}] == {self.name(list(owner.thing))}", "None", lambda now: text)
        self.check(owner, f"{read} == {self.name(was)}", "None", lambda now: text)

    def _base(self, owner: Owner) -> str:
        """The expression of what the items are read from."""
        if owner.kind in ("object", "optimizer", "attributes"):
            own = dict_of(owner.thing)
            weak = own is not None and self._is_weak(owner)
            return self._local(owner, "d") if weak else self.name({} if own is None else own, "D")
        if owner.kind == "namespace":
            return self.name(owner.thing, "D")
        if owner.kind == "class":
            return self.name(vars(owner.thing), "D")
        return self._local(owner) if owner.via else self._thing(owner)

    def _local(self, owner: Owner, letter: str = "c") -> str:
        return f"{letter}{self._locals.setdefault(id(owner), len(self._locals))}"

    def _is_weak(self, owner: Owner) -> bool:
        """Whether the guard must not keep the owner alive: it is an argument's, or an ndl.jit, which holds it."""
        kind = type(owner.thing)
        jitted = owner.kind == "attributes" and kind is not FunctionType
        return (owner.weak or jitted) and owner.kind in WEAK and kind.__weakrefoffset__ != 0

    def _thing(self, owner: Owner) -> str:
        """The expression of the owner itself."""
        return f"{self.name(weakref.ref(owner.thing))}()" if self._is_weak(owner) else self.name(owner.thing)

    def _read(self, owner: Owner, base: str, key: Any) -> str:
        """The expression that reads an item."""
        if owner.kind in ("list", "dict", "object", "optimizer", "attributes", "namespace", "class"):
            plain = type(key) in (str, int)
            return f"{self._copied(owner, base)}[{key!r}]" if plain else f"{base}[{self.name(key)}]"
        if owner.kind == "slots":
            descriptor = next(d for cls in type(owner.thing).__mro__ if (d := vars(cls).get(key)) is not None)
            return f"slot({self.name(descriptor)}, {base})"
        if owner.kind == "cell":
            return f"contents({base})" if owner.items[key] is MISSING else f"{base}.cell_contents"
        return f"{WHOLE[owner.kind]}({base})" if owner.kind in WHOLE else f"{base}.{key}"

    def _copied(self, owner: Owner, base: str) -> str:
        return self._local(owner, "l") if owner.kind in ("list", "dict") and not _is_indexed(owner.thing) else base

    def _outside(self, owner: Owner, base: str) -> None:
        """Checks of what surrounds the items: the class, the length, the keys, names that were not there."""
        kind = owner.kind
        if kind in ("object", "optimizer"):
            self._type(owner, self._thing(owner))
        if kind in ("object", "optimizer", "attributes"):
            self._attributes(owner, base)
        if kind == "class" and owner.whole:
            n, path = len(vars(owner.thing)), owner.path
            self.check(owner, f"len({base}) == {n}", f"len({base})", lambda now: counted(path, n, now))
        if kind in ("list", "dict"):
            self._length(owner, base)
        for name in sorted(owner.absent):
            self.check(owner, f"{name!r} not in {base}", "None", Added(f"global {name}"))

    def _type(self, owner: Owner, thing: str) -> None:
        cls, path = type(owner.thing), owner.path
        self.check(
            owner, f"type({thing}) is {self.name(cls)}", f"type({thing})",
            lambda now: f"{path} was a {cls.__name__}, is a {now.__name__}",
        )  # fmt: skip

    def _attributes(self, owner: Owner, base: str) -> None:
        thing, own = owner.thing, dict_of(owner.thing)
        if own is None:
            return
        look: Any = type(thing).__getattribute__
        plain = look in (object.__getattribute__, ModuleType.__getattribute__)
        read = f"{self._thing(owner)}.__dict__" if plain else f"dict_of({self._thing(owner)})"
        path, n, names = owner.path, len(own), frozenset(own)
        test = f"({base} := {read}) is not None" if self._is_weak(owner) else f"{read} is {base}"
        self.check(owner, test, "None", lambda now: f"the attributes of {path} were exchanged")
        if owner.kind == "optimizer":
            return
        if owner.whole:
            self.check(owner, f"len({base}) == {n}", f"[*{base}]", lambda now: keys_differ(path, names, now))
        else:
            new = self.name(frozenset(self.found.names_of(thing) - own.keys()))
            self.check(owner, f"{new}.isdisjoint({base})", f"[*{base}]", lambda now: keys_differ(path, names, now))

    def _length(self, owner: Owner, base: str) -> None:
        """Of a list or dict. Items of a class that may have a `__getitem__` of its own are copied first."""
        thing, path = owner.thing, owner.path
        copied = self._copied(owner, base)
        if copied != base:
            copy = "mapped" if owner.kind == "dict" else "listed"
            self.check(owner, f"({copied} := {copy}({base})) is not None", "None", lambda now: f"{path} changed")
        n = len(mapped(thing) if owner.kind == "dict" else listed(thing))
        self.check(owner, f"len({copied}) == {n}", f"len({copied})", lambda now: counted(path, n, now))
        if owner.kind == "dict" and owner.items:
            self._keys(owner, copied)

    def _keys(self, owner: Owner, base: str) -> None:
        keys, path = list(owner.items), owner.path
        texts = all(type(key) is str for key in keys)
        plain = is_plain(tuple(keys))
        kept = self.name(keys if texts or not plain else tuple(keys))
        if plain:
            test = f"[*{base}] == {kept}" if texts else f"same(tuple({base}), {kept})"
        else:
            test = f"marked({base}) == {self.name(marked(keys))}"
        self.check(owner, test, f"[*{base}]", lambda now: keys_differ(path, keys, now))

    # --- items ---

    def item(self, owner: Owner, key: Any, value: Any, read: str) -> None:
        path, label = owner.path_of(key), label_of(owner, key)
        child = self.found.container(value)
        if owner.live and type(value) is float:
            test = f"type(c := {read}) is float"
            self.check(owner, test, read, lambda now: f"{label} was {said(value)}, is {said(now)}")
        elif value is MISSING:
            self.check(owner, f"{read} is {self._missing()}", read, lambda now: f"{label} was missing, is {said(now)}")
        elif is_plain(value) or owner.kind in WHOLE:
            self._plain(owner, label, value, read)
        elif child is not None and child.via is not None and child.via[0] is owner and child.via[1] is key:
            self._bound(owner, child, path, read)
        elif child is not None and child.via is not None:
            test, first = f"{read} is {self._local(child)}", child.path
            self.later.append(Check("found twice", test, read, lambda now: f"{path} is no longer {first}"))
        else:
            self._identity(owner, label, value, read)

    def _missing(self) -> str:
        return self.name(MISSING)

    def _plain(self, owner: Owner, label: str, value: Any, read: str) -> None:
        was = said(value)
        if owner.kind in WHOLE:
            self.check(owner, f"{read} == {self.name(value)}", read, lambda now: f"{label} has other elements")
            return
        if value is None or value is True or value is False:
            test = f"{read} is {value}"
        else:
            kept = self.name(value)
            test = f"((c := {read}) is {kept} or same(c, {kept}))"
        self.check(owner, test, read, lambda now: f"{label} was {was}, is {said(now)}", f"{label} = {was}")

    def _bound(self, owner: Owner, child: Owner, path: str, read: str) -> None:
        """A container is read where it stands, given a name, and checked in its own line."""
        cls = type(child.thing)
        test = f"type({self._local(child)} := {read}) is {self.name(cls)}"
        self.check(owner, test, read, lambda now: f"{path} was a {cls.__name__}, is {said(now)}")

    def _identity(self, owner: Owner, label: str, value: Any, read: str) -> None:
        was = noun(value)
        if self._held(value):
            test = f"{read} is {self.name(value, 'T' if is_a(value, Tensor) else 'K')}"
        else:  # no dataset is kept alive by a guard
            reference = self.name(weakref.ref(value))
            test = f"(c := {read}) is {reference}() and c is not None"
            if is_a(value, numpy.ndarray) and value.size <= SMALL:  # its items may enter as numbers
                test += f" and c.tobytes() == {self.name(value.tobytes())}"
        self.check(owner, test, read, lambda now: other(label, was, now))

    def _held(self, value: Any) -> bool:
        owners = [self.found.owner_of(value, kind) for kind in ("object", "function", "class", "optimizer")]
        looked_into = [owner for owner in owners if owner is not None]
        if looked_into:
            return not any(map(self._is_weak, looked_into))
        if is_a(value, (Tensor, FunctionType, CodeType, type, ModuleType)):
            return True
        return not type(value).__weakrefoffset__

    # --- tensors ---

    def tensor(self, tensor: Tensor, path: str, was: Flags, with_grad: bool) -> None:
        owner, name = Owner("tensor", tensor, path), self.name(tensor, "T")
        if tensor not in self.found.remembered:  # nobody differentiates by what an optimizer remembers
            self._flags(owner, name, was, with_grad)
        form = was.form
        if form is not None:
            i = len(self._forms)
            self._forms.append(form)
            self._seen.append(_nothing)
            test = f"((c := {name}.cached_data) is seen[{i}]() or fits({i}, c))"
            self.check(owner, test, f"{name}.cached_data", lambda now: formed(path, form, now))

    def _flags(self, owner: Owner, name: str, was: Flags, with_grad: bool) -> None:
        path = owner.path
        told = f"{path}.requires_grad was {was.requires_grad}, is {not was.requires_grad}"
        self.check(owner, f"{name}.requires_grad is {was.requires_grad}", "None", lambda now: told)
        if with_grad:
            no = "" if was.without_grad else "not "
            had = f"{path}.grad was None, is a tensor" if was.without_grad else f"{path}.grad was a tensor, is None"
            self.check(owner, f"{name}.grad is {no}None", "None", lambda now: had)
        self._hooks(owner, name, was.hooks)

    def _hooks(self, owner: Owner, name: str, was: tuple) -> None:
        hooks, without, path = self.name(was), "" if was else f"{name}.notes is None or ", owner.path
        self.names.setdefault("same_hooks", _same_hooks)
        test = f"({without}same_hooks({name}.notes, {hooks}))"
        self.check(owner, test, "None", lambda now: f"{path} has other hooks")


# --- what the generated source calls -------------------------------------------------------


def _nothing() -> None:
    return None


def _fits(seen: list[Any], forms: list[Form]) -> Callable[[int, Any], bool]:
    """A function: whether the i-th tensor's array is of the form that was recorded; remembers the array that is.

    Weakly, since an optimizer copies an array that somebody else holds.
    """

    def fits(i: int, array: Any) -> bool:
        kind, shape, dtype, device = forms[i]
        if array.shape != shape or array.dtype != dtype or type(array) is not kind:
            return False
        if kind is not numpy.ndarray and device_of(array) != device:
            return False
        seen[i] = weakref.ref(array) if type(array).__weakrefoffset__ else _nothing
        return True

    return fits


def _same_hooks(notes: dict[str, Any] | None, was: tuple) -> bool:
    now = tuple((notes or {}).get("hooks", {}).values())
    return len(now) == len(was) and all(a is b for a, b in zip(now, was, strict=True))


def _is_indexed(thing: Any) -> bool:
    kind = type(thing)
    return kind in INDEXED or (is_a(thing, tuple) and kind.__getitem__ is tuple.__getitem__)
