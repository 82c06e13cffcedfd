"""What must not have changed since a function was recorded, as one generated function that says so quickly.

    def unchanged():
        if not (D3['training'] is True and D3['weight'] is T7): return False  # model
        …

Names: T tensors, D the dicts of attributes and globals, K anything else that is compared with, c what was just read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from functools import partial
from textwrap import indent
from typing import Any

from ..autograd import Tensor
from .effects import changes
from .errors import JitError
from .guard_checks import Check, Writer
from .objects import MISSING, is_a, is_plain, noun
from .reached import Reached, live_numbers, reached
from .trees import flatten
from .watch import Watch

__all__ = ["Guard", "Reached", "Watch", "changes", "live_numbers", "make_guard", "reached"]


class Guard:
    """Call it: whether all is as it was. `reason` says in words what is not, `described` what was kept, `source` how.

    Holds what it compares with; data (arrays, data sets) and the objects among the arguments weakly. on_death: called
    once one of those is gone, when the guard can hold no more. They must not lead back to the guard.
    """

    def __init__(self, checks: list[Check], names: dict[str, Any], objects: Collection[Any] = ()):
        self.checks, self.names = checks, names
        self.on_death: list[Callable[[], None]] = []
        died = partial(_tell, self.on_death)
        self.held = [_weak(x, died) or x for x in objects]  # known by their ids, which must not come twice
        self.source = _source(checks)
        self._unchanged = _compiled(self.source, names)

    def __call__(self) -> bool:
        return self._unchanged()

    def reason(self) -> str:
        """The first thing that changed; "" if none did."""
        space, local = dict(self.names), dict[str, Any]()
        for check in self.checks:
            if not _evaluated(check.test, space, local):
                return check.tell(_evaluated(check.read, space, local, MISSING))
        return ""

    def described(self) -> list[str]:
        """The numbers, texts and the like that the recording keeps, a line each."""
        return [check.kept for check in self.checks if check.kept]


def make_guard(
    found: Reached, watch: Watch | None, args: tuple, kwargs: dict[str, Any], grads: Collection[Tensor] | None = None
) -> Guard:
    """The guard of a recording, made behind it, once the tensors hold arrays again.

    found: what was reached before; watch: what ran. Of all that was reached, what the code that ran names is guarded.
    grads: the tensors of which it matters whether they have a `.grad`; None: all.
    Raises JitError for an iterator that the code uses, since a replay would not advance it.
    """
    now = Reached(found.function, args, kwargs, watch, found.getters)
    if watch is not None and now.iterators:
        path, iterator = now.iterators[0]
        raise JitError(
            f"jit: {path} is an iterator ({noun(iterator)}), which only the recording would advance; "
            "take the next item outside, and give it as an argument"
        )
    writer = Writer(now)
    objects = [leaf for leaf in flatten((args, kwargs))[0] if not is_plain(leaf) and not is_a(leaf, Tensor)]
    writer.arguments(objects)
    for owner in now.owners:
        writer.owner(owner)
    for tensor, path in now.tensors.items():
        writer.tensor(tensor, path, found.flags.get(tensor, now.flags[tensor]), grads is None or tensor in grads)
    return Guard([*writer.checks, *writer.later], writer.names, objects)


def _weak(thing: Any, died: Callable[[Any], None]) -> Any:
    return weakref.ref(thing, died) if type(thing).__weakrefoffset__ else None


def _tell(callbacks: list[Callable[[], None]], _: Any) -> None:
    for callback in [*callbacks]:
        callback()


def _source(checks: list[Check]) -> str:
    lines = ["def unchanged():", "    try:", "        pass"]
    for i, check in enumerate(checks):
        if i and checks[i - 1].owner == check.owner:
            lines[-1] = lines[-1].replace("): return False", f" and {check.test}): return False")
        else:
            lines.append(f"        if not ({check.test}): return False  # {check.owner}")
    lines += ["    except (AttributeError, KeyError, IndexError, TypeError, ValueError):", "        return False"]
    return "\n".join([*lines, "    return True", ""])


def _compiled(source: str, names: dict[str, Any]) -> Callable[[], bool]:
    """The function, with the names in its closure, where Python finds them fastest; and no circle that keeps a model
    alive, as globals that hold the function would be."""
    space: dict[str, Any] = {}
    text = f"def made({', '.join(names)}):\n{indent(source, '    ')}\n    return unchanged"
    exec(compile(text, "<ndl.jit guard>", "exec"), space)
    return space["made"](*names.values())


def _evaluated(expression: str, space: dict[str, Any], local: dict[str, Any], otherwise: Any = False) -> Any:
    try:
        return eval(expression, space, local)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, NameError):
        return otherwise
