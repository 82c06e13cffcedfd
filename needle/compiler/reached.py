"""What a function reaches: from its globals, closure, defaults and arguments, through modules, optimizers, containers
and the user's objects. Runs no code of theirs, and does not look into needle, NumPy or Python's library.

Each thing that can change is an Owner: a list, the attributes of an object, the globals of a file. What an owner
holds is its items; those that are owners themselves come behind it.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any

import numpy

from ..autograd import Tensor
from ..nn.nn_module import Module
from ..optim.optimizer import Optimizer
from ..optim.schedules import Schedule
from .objects import content, contents, dict_of, is_a, is_plain, listed, mapped, marks, slot, slots_of
from .owners import (
    CONTAINERS,
    GETTERS,
    IN_PLACE,
    VIEWS,
    WRITTEN_IN_PYTHON,
    Owner,
    carries,
    flags_of,
    is_needles,
    kind_of,
    state_of,
)
from .trees import flatten
from .watch import Names, Watch, is_foreign, names_in, with_nested

LARGE = 10_000  # items; a longer list or dict is data, which is not looked into
INSIDE_WRAPPERS = ("fget", "fset", "func", "__func__", "__wrapped__", "args", "keywords")
GENERATORS = (numpy.random.Generator, numpy.random.RandomState, random.Random)


class Reached:
    """What `function`, called with these arguments, reaches. With a Watch: what the code that ran in it uses.

    tensors: each with its path. arrays: pairs of path and NumPy array. optimizers, schedules, iterators: by path.
    large: paths of containers that were not looked into. getters: names in attrgetters, which C code reads.
    """

    def __init__(
        self,
        function: Callable,
        args: tuple,
        kwargs: dict[str, Any],
        watch: Watch | None = None,
        getters: Iterable[str] = (),
    ):
        self.function, self.args, self.kwargs, self.watch = function, args, kwargs, watch
        self.owners: list[Owner] = []
        self.tensors: dict[Tensor, str] = {}
        self.remembered: set[Tensor] = set()  # by optimizers
        self.arrays: list[tuple[str, Any]] = []
        self.optimizers: list[tuple[str, Optimizer]] = []
        self.schedules: list[tuple[str, Schedule, int]] = []
        self.iterators: list[tuple[str, Any]] = []
        self.generators: list[tuple[str, Any, bytes]] = []
        self.large: list[str] = []
        self.getters: set[str] = set()
        self.names = Names(attributes=set(getters))
        self._by_id: dict[tuple[int, str], Owner] = {}
        self._open: list[Owner] = []  # met, and not yet looked into
        self._later: list[tuple[Optimizer, str, bool]] = []  # so that a parameter's path is its model's
        self._arrays_met: set[int] = set()
        self._weakly = False  # whether what is met is an argument's
        self._walk()
        self.flags = {tensor: flags_of(tensor) for tensor in self.tensors}

    def owner_of(self, thing: Any, kind: str) -> Owner | None:
        return self._by_id.get((id(thing), kind))

    def holds(self, value: Any) -> bool:
        """Whether it was there: an argument, or held by something that was reached."""
        met = any(value is x for owner in self.owners for x in (owner.thing, *owner.items.values()))
        return met or any(value is leaf for leaf in flatten((self.args, self.kwargs))[0])

    def container(self, value: Any) -> Owner | None:
        """The owner of a value that is read where it stands, as lists are, if it is such a value."""
        kind = kind_of(value)
        return self.owner_of(value, kind) if kind in IN_PLACE else None

    # --- the walk ---

    def _walk(self) -> None:
        if self.watch is not None:
            for code, names in self.watch.ran:
                self._see_names([code], names)
        self._see(self.function, _name_of(self.function))
        self._weakly = True
        for i, leaf in enumerate(flatten((self.args, self.kwargs))[0]):
            self._see(leaf, f"argument {i}")
        while self._open or self._later or self._new_in_modules():
            if not self._open and self._later:
                self._see_optimizer(*self._later.pop(0))
            while self._open:
                owner = self._open.pop()
                self.owners.append(owner)
                place, self._weakly = len(self._open), owner.weak
                getattr(self, f"_in_{owner.kind}")(owner)
                self._open[place:] = self._open[place:][::-1]  # the first item first

    def _new_in_modules(self) -> bool:
        """Look at what code names of the user's modules; whether there was anything new."""
        modules = [owner for owner in self.owners if owner.kind == "namespace" and owner.path]
        found = [(m, n) for m in modules for n in self.names.attributes if n in m.thing and n not in m.items]
        for owner, name in found:
            self._item(owner, name, owner.thing[name])
        return bool(found)

    def _item(self, owner: Owner, key: Any, value: Any, path: str = "") -> None:
        if path:
            owner.paths[key] = path
        owner.items[key] = value
        self._see(value, owner.path_of(key), (owner, key))

    def _see(self, value: Any, path: str, via: tuple[Owner, Any] | None = None) -> None:
        if is_plain(value):
            return
        kind = kind_of(value)
        if kind in IN_PLACE:
            self._open_owner(kind, value, path, via)
        elif kind == "module":
            self._namespace(vars(value), path)
        elif kind == "optimizer":
            self._later.append((value, path, self._weakly))
        elif kind:
            self._open_owner(kind, value, path)
        else:
            self._note(value, path)

    def _open_owner(self, kind: str, thing: Any, path: str, via: tuple[Owner, Any] | None = None) -> Owner | None:
        """A new owner, unless there is one."""
        if (id(thing), kind) in self._by_id:
            return None
        owner = self._by_id[id(thing), kind] = Owner(kind, thing, path, via, weak=self._weakly)
        self._open.append(owner)
        return owner

    def _note(self, value: Any, path: str) -> None:
        """What is kept as one thing, and not looked into."""
        if is_a(value, Tensor):
            self.tensors.setdefault(value, path)
        elif is_a(value, numpy.ndarray) and id(value) not in self._arrays_met:
            self._arrays_met.add(id(value))
            self.arrays.append((path, value))
        elif is_a(value, Schedule):
            self.schedules.append((path, value, value.t))
            self._see(value.optimizer, f"{path}.optimizer")
        elif type(value) in GENERATORS:
            self.generators.append((path, value, state_of(value)))
        elif type(value) in VIEWS:
            self._see(gc.get_referents(value)[0], path)
        elif type(value) in GETTERS:
            self.getters.update(word for text in _texts_of(value) for word in text.split("."))
        elif hasattr(type(value), "__next__") and not is_needles(type(value)):
            self.iterators.append((path, value))
        elif "__wrapped__" in (own := dict_of(value) or {}):  # a function within something: a cache, another ndl.jit
            self._see(own["__wrapped__"], path)
            self._open_owner("attributes", value, path)

    # --- functions ---

    def _in_function(self, owner: Owner) -> None:
        function = owner.thing
        foreign = is_foreign(function.__globals__.get("__name__"))
        if not foreign and (self.watch is None or vars(function)):
            self._open_owner("attributes", function, owner.path)
        if not foreign and self.watch is not None and not self.watch.saw(function.__code__, function.__globals__):
            owner.items["__code__"] = function.__code__
            return
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self._item(owner, name, getattr(function, name), f"{owner.path}.{name}")
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            opened = self._open_owner("cell", cell, name)
            if opened is not None:
                opened.paths["cell_contents"] = name
        if not foreign and self.watch is None:
            self._see_names(with_nested(function.__code__), function.__globals__)

    def _in_attributes(self, owner: Owner) -> None:
        """What the user has put on a function, jitted or not."""
        owner.whole, mine = False, _set_by_class(owner.thing)
        for name, value in (dict_of(owner.thing) or {}).items():
            if not name.startswith("__") and name not in mine and self._matters(owner.thing, name, value):
                self._item(owner, name, value)

    def _see_names(self, codes: Iterable[Any], names: dict[str, Any]) -> None:
        """What code names of its globals, and of modules that it imports itself."""
        used = Names()
        for code in codes:
            used.add(names_in(code))
        self.names.add(used)
        owner = self._namespace(names, "")
        for name in sorted(used.globals):
            if name in owner.items:
                continue
            if name in names:
                self._item(owner, name, names[name], name)
            else:
                owner.absent.add(name)
        for name in used.imports:
            for full in (name, f"{names.get('__package__')}.{name}"):
                self._see(sys.modules.get(full), name)

    def _namespace(self, names: dict[str, Any], path: str) -> Owner:
        """The owner of a file's globals; path: what code calls the module, "" if it runs in it."""
        owner = self._by_id.get((id(names), "namespace"))
        if owner is None:
            owner = self._by_id[id(names), "namespace"] = Owner("namespace", names, path, whole=False)
            self.owners.append(owner)
        owner.path = owner.path or path
        return owner

    def _in_cell(self, owner: Owner) -> None:
        self._item(owner, "cell_contents", contents(owner.thing))

    def _in_method(self, owner: Owner) -> None:
        self._item(owner, "__func__", owner.thing.__func__, owner.path)
        self._item(owner, "__self__", owner.thing.__self__, _name_of_self(owner))

    def _in_partial(self, owner: Owner) -> None:
        for name in ("func", "args", "keywords"):
            self._item(owner, name, getattr(owner.thing, name))

    def _in_wrapper(self, owner: Owner) -> None:
        """A property and its like: what it wraps cannot be exchanged, but has globals and a closure."""
        for name in INSIDE_WRAPPERS:
            inner = getattr(owner.thing, name, None)
            if inner is not None:
                self._see(inner, owner.path)

    # --- containers ---

    def _in_list(self, owner: Owner) -> None:
        if not is_foreign(type(owner.thing).__module__):
            self._open_owner("class", type(owner.thing), type(owner.thing).__name__)
        items = listed(owner.thing)
        self._fill(owner, enumerate(items), len(items))

    def _in_dict(self, owner: Owner) -> None:
        self._fill(owner, mapped(owner.thing).items(), dict.__len__(owner.thing))

    def _fill(self, owner: Owner, pairs: Iterable[tuple[Any, Any]], length: int) -> None:
        if length > LARGE:
            self.large.append(owner.path)
            owner.via = None  # known by what it is, and by its length
            return
        for key, value in pairs:
            self._item(owner, key, value)

    def _in_set(self, owner: Owner) -> None:
        base = frozenset if is_a(owner.thing, frozenset) else set
        owner.items[None], owner.paths[None] = marks(owner.thing), owner.path
        for element in base.__iter__(owner.thing):
            self._see(element, f"an element of {owner.path}")

    def _in_buffer(self, owner: Owner) -> None:
        if memoryview(owner.thing).nbytes > LARGE:
            self._fill(owner, (), LARGE + 1)
            return
        owner.items[None], owner.paths[None] = content(owner.thing), owner.path

    # --- objects ---

    def _in_object(self, owner: Owner) -> None:
        thing = owner.thing
        for name, value in (dict_of(thing) or {}).items():
            if self._matters(thing, name, value):
                self._item(owner, name, value)
        owner.whole = self._all_matter(thing)
        if not is_foreign(type(thing).__module__):
            self._open_owner("slots", thing, owner.path)
        for cls in type(thing).__mro__:
            if issubclass(cls, Module) or not is_foreign(cls.__module__):
                self._open_owner("class", cls, cls.__name__)
        self._see_items_of(owner)

    def _see_items_of(self, owner: Owner) -> None:
        """What a user's list, dict, set or tuple with attributes of its own holds."""
        for bases, kind in CONTAINERS:
            if is_a(owner.thing, bases):
                self._open_owner(kind, owner.thing, owner.path)

    def _in_slots(self, owner: Owner) -> None:
        for name, descriptor in slots_of(owner.thing):
            value = slot(descriptor, owner.thing)
            if self._matters(owner.thing, name, value):
                self._item(owner, name, value)

    def _in_class(self, owner: Owner) -> None:
        cls = owner.thing
        if is_foreign(cls.__module__):  # needle's layers: only that nobody has put another forward there
            owner.whole = False
            owner.items.update({name: vars(cls)[name] for name in ("forward", "__call__") if name in vars(cls)})
            return
        for name, value in vars(cls).items():
            special = name.startswith("__") and name.endswith("__") and not callable(value) and name != "__match_args__"
            if not special and name != "_abc_impl" and (callable(value) or self._matters(cls, name, value)):
                self._item(owner, name, value)
        for base in cls.__mro__[1:]:
            if issubclass(base, Module) or not is_foreign(base.__module__):
                self._open_owner("class", base, base.__name__)

    def _all_matter(self, thing: Any) -> bool:
        """Whether code may use any attribute: needle's and Python's own, which is not watched, does of its classes."""
        if self.watch is None or self.names.dynamic or is_a(thing, WRITTEN_IN_PYTHON):
            return True
        return any(issubclass(cls, Module) and cls is not Module and is_needles(cls) for cls in type(thing).__mro__)

    def names_of(self, thing: Any) -> set[str]:
        """The names of attributes that code may use of this object."""
        names = self.names.attributes | vars(Module).keys() if is_a(thing, Module) else self.names.attributes
        return names | _matched(thing) if "__match_args__" in names else names

    def _matters(self, thing: Any, name: str, value: Any) -> bool:
        if self._all_matter(thing) or name in self.names_of(thing):
            return True
        return is_a(thing, Module) and (name in type(thing).buffer_names or carries(value))

    # --- optimizers ---

    def _see_optimizer(self, optimizer: Optimizer, path: str, weakly: bool) -> None:
        self._weakly = weakly
        owner = self._open_owner("optimizer", optimizer, path)
        if owner is not None:
            self.optimizers.append((path, optimizer))

    def _in_optimizer(self, owner: Owner) -> None:
        optimizer, own = owner.thing, vars(owner.thing)
        owner.items["param_groups"] = optimizer.param_groups
        self._open_owner("list", optimizer.param_groups, f"{owner.path}.param_groups")
        for i, group in enumerate(optimizer.param_groups):
            opened = self._open_owner("dict", group, f"{owner.path}.param_groups[{i}]")
            if opened is not None:
                opened.live = True
        owner.items["state"] = optimizer.state
        self._open_owner("state", optimizer.state, f"{owner.path}.state")
        for name, value in own.items():
            mine = name in ("param_groups", "state", "_seen", "defaults")
            if not mine and self._matters(optimizer, name, value):
                self._item(owner, name, value)
        for cls in type(optimizer).__mro__:
            if not is_foreign(cls.__module__):
                self._open_owner("class", cls, cls.__name__)
        owner.whole = False

    def _in_state(self, owner: Owner) -> None:
        """What an optimizer remembers: a dict of tensors for each parameter."""
        for parameter, slots in owner.thing.items():
            path = f"{owner.path}[{self.tensors.get(parameter, 'a tensor')}]"
            owner.items[parameter], owner.paths[parameter] = slots, path
            for name, tensor in slots.items():
                self.tensors.setdefault(tensor, f"{path}[{name!r}]")
                self.remembered.add(tensor)


def _name_of(function: Any) -> str:
    return function.__name__ if type(function) in (FunctionType, MethodType) else "function"


def _name_of_self(owner: Owner) -> str:
    """Of model.forward: "model"; of a function `forward` that is a method: "self"."""
    return owner.path.rpartition(".")[0] or "self"


def _matched(thing: Any) -> set[str]:
    """The names of attributes that `case Class(a, b)` takes."""
    names = next((vars(cls)["__match_args__"] for cls in type(thing).__mro__ if "__match_args__" in vars(cls)), ())
    return {name for name in names if type(name) is str} if type(names) is tuple else set()


def _texts_of(getter: Any) -> list[str]:
    """The names that an attrgetter or a methodcaller was made with."""
    return [text for text in getter.__reduce__()[1] if type(text) is str]


def _set_by_class(thing: Any) -> set[str]:
    """The attributes that needle's class gives its instance: an ndl.jit's recordings and its lock."""
    code = getattr(type(thing).__init__, "__code__", None)
    return set() if code is None else names_in(code).attributes


def reached(function: Callable, args: tuple, kwargs: dict[str, Any]) -> Reached:
    """All that the function can reach, before or after it runs; see Reached."""
    return Reached(function, args, kwargs)


def live_numbers(found: Reached) -> list[tuple[dict[str, Any], str]]:
    """(group, name) of the options of optimizers that are floats: not guarded, but read at each call."""
    groups = [group for _, optimizer in found.optimizers for group in optimizer.param_groups]
    return [(group, name) for group in groups for name, value in group.items() if type(value) is float]
