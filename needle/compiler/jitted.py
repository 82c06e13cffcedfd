"""`ndl.jit`: a function runs once as it is and is recorded; later calls run what was recorded.

The order of things: `recorder` and `tracing` write the graph (`ir`), `guards` says when a recording no longer holds,
`simplify`, `fuse`, `buffers` and `emit` make one Python source of it, `run` runs that, and `variant` connects it with
the tensors outside.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import MethodType
from typing import Any

import numpy

from ..autograd import Tensor
from ..backend_selection import BACKEND
from ..modes import get_default_dtype, mode
from .debug import compared
from .errors import JitError
from .guards import make_guard
from .live_numbers import TracedNumber, numbers_function
from .recording import Recording, by_identity
from .show import show
from .trees import array_of, flatten, unflatten
from .variant import Variant

RECORDING = threading.RLock()  # one at a time, since a recording lends the tensors it meets traced arrays
MOST_VARIANTS = 32  # of one function; the oldest goes first


class Jitted:
    """A function under `ndl.jit`. Call it as the function itself."""

    def __init__(self, function: Callable, backend: str, keep_grads: bool, debug: bool):
        functools.update_wrapper(self, function)
        self.function, self.backend, self.keep_grads, self.debug = function, backend, keep_grads, debug
        self.kept: list[_Kept] = []
        self.history: list[str] = []
        self.lock = threading.RLock()
        _all.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Inside another recording, under a debugging tool, or with arrays that no kernel takes, it runs as it is.
        if mode.recorder is not None or mode.observer is not None or BACKEND == "nd":
            return self.function(*args, **kwargs)
        leaves, structure = _flat(args, kwargs)
        with self.lock:
            for i, kept in enumerate(self.kept):
                if kept.matches(leaves, structure):
                    if i:
                        self.kept.insert(0, self.kept.pop(i))
                    if self.debug:
                        return compared(kept.variant, leaves, lambda: self.function(*args, **kwargs))
                    return unflatten(kept.variant.structure, kept.variant.run(leaves))
            return self._record(leaves, structure)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __repr__(self) -> str:
        return f"<ndl.jit of {self._name}, {len(self._alive())} recording(s)>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> tuple:
        """Copies and pickles begin without recordings."""
        return Jitted, (self.function, self.backend, self.keep_grads, self.debug)

    def _record(self, leaves: list[Any], structure: Any) -> Any:
        self.kept = self._alive()
        reason = self.kept[0].reason(leaves, structure) if self.kept else "first call"
        signature = _signature(leaves)  # before the run, which may give arguments a .grad
        with RECORDING:
            recording = Recording(self.function, leaves, structure, self.keep_grads, self.backend)
            result = recording.run()
        self.history.append("; ".join([reason, *recording.notes]))
        if recording.variant is not None:
            self.kept.insert(0, _Kept(recording, leaves, structure, signature))
            del self.kept[MOST_VARIANTS:]
        return result

    # --- looking at it ---

    @property
    def source(self) -> str:
        """The Python source of the program that the last call ran, or the next one of its kind will run."""
        return self._last().source

    def graph(self) -> str:
        """What was recorded, a line a node."""
        return show(self._variant().graph)

    def passes(self) -> str:
        """The graph after each pass."""
        return self._last().passes()

    def profile(self, *args: Any, seconds: float = 0.5, **kwargs: Any) -> Any:
        """The time of each line of the program on these arguments, with the bytes it moves and the share of the
        machine's speed that it reaches. Nothing is updated."""
        leaves, structure = _flat(args, kwargs)
        with self.lock:
            variant = next((kept.variant for kept in self.kept if kept.matches(leaves, structure)), None)
            if variant is None:
                alive = self._alive()
                why = alive[0].reason(leaves, structure) if alive else "nothing was recorded that lasts"
                raise JitError(
                    f"jit: profile: no recording is good for this call ({why}); call the function with them first"
                )
            return variant.compiled().profile(variant.plumbing.inputs(leaves), seconds)

    def explain(self) -> str:
        """Each recording and its cause, what was guarded, which numbers and constants were kept."""
        alive = self._alive()
        lines = [f"{self._name}: {len(self.history)} recording(s), {len(alive)} kept"]
        lines += [f"  {i}. {reason}" for i, reason in enumerate(self.history, start=1)]
        for kept in alive:
            lines += [f"  kept, {kept.variant.calls} call(s):", *(f"    {line}" for line in kept.described())]
        return "\n".join(lines)

    def _alive(self) -> list[_Kept]:
        """Without those for an object among the arguments that is gone."""
        return [kept for kept in self.kept if not kept.dead]

    def _variant(self) -> Variant:
        alive = self._alive()
        if not alive:
            raise JitError(
                "jit: nothing was recorded that lasts; call the function (twice, where it makes state first)"
            )
        return alive[0].variant

    def _last(self) -> Any:
        with self.lock:
            return self._variant().compiled()


class _Kept:
    """A variant and the conditions under which it holds."""

    def __init__(self, recording: Recording, leaves: list[Any], structure: Any, signature: tuple):
        assert recording.variant is not None
        self.variant = recording.variant
        self.structure = structure
        self.signature = signature
        self.captured = recording.reached.tensors
        tensors = [(i, leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.shared = [(i, leaf if leaf in self.captured else None) for i, leaf in tensors]
        self.dead = False
        self.guard = make_guard(
            recording.reached, recording.watch, recording.args, recording.kwargs, recording.guarded_grads
        )
        looked_at = recording.recorder.looked_at
        self.numbers = numbers_function(list(looked_at.values()))
        self.known = [number.value for number in looked_at.values()]
        names = {name: label for label, name in recording.recorder.names.items()}
        self.texts = [_told(number, names) for number in looked_at.values()]
        self.guard.on_death.append(functools.partial(_let_go, weakref.ref(self)))

    def die(self) -> None:
        """An object among the arguments is gone, so that no call can match any more: let the tensors go."""
        self.dead = True
        del self.variant, self.captured, self.guard

    def matches(self, leaves: list[Any], structure: Any) -> bool:
        if self.dead or structure != self.structure or _signature(leaves) != self.signature or not self.guard():
            return False
        for i, was in self.shared:  # a tensor that the function also reaches by itself, which a replay would confuse
            if (leaves[i] if leaves[i] in self.captured else None) is not was:
                return False
        return self._numbers(leaves) == self.known

    def _numbers(self, leaves: list[Any]) -> list[Any]:
        """The numbers that Python looked at, as they are now."""
        try:
            return self.numbers(leaves)
        except ArithmeticError as error:  # behind a branch that is not taken now
            return [error] * len(self.known)

    def reason(self, leaves: list[Any], structure: Any) -> str:
        """What is not as it was, in words."""
        if structure != self.structure:
            return "the arguments have another structure"
        for i, (was, now) in enumerate(zip(self.signature, _signature(leaves), strict=True)):
            if was != now:
                return f"argument {i}: {_said(was)} became {_said(now)}"
        if not self.guard():
            return self.guard.reason()
        for text, was, now in zip(self.texts, self.known, self._numbers(leaves), strict=True):
            if was != now:
                return f"Python looked at a number that is {now} now: {text}"
        return "a tensor is both an argument and reached by the function itself, or no longer so"

    def described(self) -> list[str]:
        return [*self.guard.described(), *(f"number that Python looked at: {text}" for text in self.texts)]


def _flat(args: tuple, kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
    """The leaves of a call's arguments, arrays as NumPy's own class, and their structure."""
    leaves, structure = flatten((args, kwargs))
    return [array_of(leaf) if isinstance(leaf, numpy.ndarray) else leaf for leaf in leaves], structure


def _let_go(kept: Any) -> None:
    """Called by a guard; `kept` is a weak reference, so that no circle keeps a model alive."""
    if kept() is not None:
        kept().die()


def _told(number: TracedNumber, names: dict[str, str]) -> str:
    return f"{number.text} = {number.value}, where {', '.join(f'{x} is {names[x]}' for x in number.leaves)}"


def _signature(leaves: list[Any]) -> tuple:
    """What of the arguments a recording depends on, and the modes that it ran in."""
    first: dict[int, int] = {}
    parts = [_of_leaf(leaf, first.setdefault(id(leaf), i)) for i, leaf in enumerate(leaves)]
    return (*parts, mode.recording, get_default_dtype())


def _of_leaf(leaf: Any, first: int) -> Any:
    """Of an array its kind, of a float that it is one, of anything else the thing itself."""
    if isinstance(leaf, Tensor):
        hooks = tuple(map(id, (leaf.notes or {}).get("hooks", {}).values()))
        return Tensor, leaf.shape, leaf.dtype, leaf.requires_grad, leaf.grad is None, first, hooks
    if isinstance(leaf, numpy.ndarray):
        return numpy.ndarray, leaf.shape, leaf.dtype
    if isinstance(leaf, float):
        return float
    if by_identity(leaf):
        return type(leaf), id(leaf)
    return type(leaf), leaf


def _said(part: Any) -> str:
    return " ".join(map(str, part)) if isinstance(part, tuple) else str(part)


_all: weakref.WeakSet[Jitted] = weakref.WeakSet()


def _after_fork() -> None:
    """A lock that another thread held is held for ever in a forked child."""
    global RECORDING
    RECORDING = threading.RLock()
    for jitted in _all:
        jitted.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def jit(function: Any = None, *, backend: str = "auto", keep_grads: bool = False, debug: bool = False) -> Any:
    """Compile a function of tensors: recorded at its first call, replayed at later ones, with eager's numbers.

    backend: "numba", "numpy", or "auto", which takes Numba where it is installed. keep_grads: leave `.grad` also of
    parameters that the function itself updates. debug: run eager too at each call, and compare.
    Raises JitError where the function does what a recording cannot repeat; `explain()`, `source`, `passes()` and
    `profile()` of the result tell about it.
    """
    if backend not in ("auto", "numba", "numpy"):
        raise ValueError(f"jit: backend must be 'auto', 'numba' or 'numpy', got {backend!r}")
    if function is None:
        return functools.partial(jit, backend=backend, keep_grads=keep_grads, debug=debug)
    if not callable(function):
        met = type(function).__name__
        raise TypeError(f"jit: wanted a function, got a {met}; @classmethod and @staticmethod go above @ndl.jit")
    if any(is_kind(function) for is_kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
        raise TypeError("jit: wanted a function that returns its result, got one that is async or yields")
    return Jitted(function, backend, keep_grads, debug)
