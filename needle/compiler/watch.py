"""Which Python functions ran, and which names they use."""

from __future__ import annotations

import dis
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

NEEDLE = __name__.partition(".")[0]
# Packages that know nothing of needle's tensors: what they hold is not looked into.
FOREIGN = {
    NEEDLE, "numpy", "builtins", "scipy", "numba", "llvmlite", "yaml", "cupy", "torch", "jax", "jaxlib", "pandas",
    "sklearn", "matplotlib", "PIL", "tqdm", "IPython", "ipykernel", "pytest", "_pytest", "pluggy", "hypothesis",
    "coverage",
}  # fmt: skip
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # needle's kernels run with globals without a name
STDLIB = os.path.dirname(os.__file__)

# With one of these, code may use names that do not stand in it.
DYNAMIC = {
    "getattr", "hasattr", "setattr", "delattr", "vars", "dir", "__dict__", "__getattribute__", "attrgetter", "eval",
    "exec", "globals", "copy", "deepcopy", "replace", "asdict", "astuple",
}  # fmt: skip

WORD = re.compile(r"[^\W\d]\w*")  # in "layers.0.weight" and in "{0.scale}"
GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "STORE_NAME", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "STORE_ATTR", "DELETE_ATTR", "IMPORT_FROM"}


def is_foreign(module: Any) -> bool:
    """Whether a module, by name, is needle's own, NumPy's, Python's, or of a package that knows nothing of needle."""
    root = module.partition(".")[0] if isinstance(module, str) else ""
    return root in FOREIGN or (root in sys.stdlib_module_names and _is_pythons(root))


@lru_cache
def _is_pythons(root: str) -> bool:
    """Whether the module comes with Python, and is not the user's of the same name."""
    file = getattr(sys.modules.get(root), "__file__", None)
    return file is None or file.startswith(STDLIB)


@dataclass
class Names:
    """Names that code uses: of globals, of attributes (texts in it may be such names too), of modules it imports."""

    globals: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)

    def add(self, other: Names) -> None:
        self.globals |= other.globals
        self.attributes |= other.attributes
        self.imports |= other.imports

    @property
    def dynamic(self) -> bool:
        return not DYNAMIC.isdisjoint(self.globals) or not DYNAMIC.isdisjoint(self.attributes)


@lru_cache(maxsize=2048)
def names_in(code: CodeType) -> Names:
    names = Names(attributes=set(_texts(code.co_consts)))
    for instruction in dis.get_instructions(code):
        if instruction.opname in GLOBALS:
            names.globals.add(instruction.argval)
        elif instruction.opname in ATTRIBUTES:
            names.attributes.add(instruction.argval)
        elif instruction.opname == "MATCH_CLASS":
            names.attributes.add("__match_args__")
        elif instruction.opname == "IMPORT_NAME":
            names.imports.add(instruction.argval)
    return names


def _texts(constants: Any) -> Iterator[str]:
    for value in constants:
        if isinstance(value, str):
            yield from [value] if value.isidentifier() else WORD.findall(value) if "." in value else ()
        elif isinstance(value, (tuple, frozenset)):
            yield from _texts(value)


def with_nested(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of all that is defined in it."""
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from with_nested(value)


class Watch:
    """Within it, in this thread, `ran` notes the user's Python functions that run: their code and their globals."""

    def __init__(self) -> None:
        self.ran: list[tuple[CodeType, dict[str, Any]]] = []
        self._met: dict[tuple[int, int], Any] = {}  # of codes and globals; held, so that no id comes twice
        self._before: Any = None
        self._imports = 0  # that are going on: a package that needle itself loads is none of the user's business

    def __enter__(self) -> Watch:
        self._before = sys.getprofile()
        if hasattr(self._before, "disable"):  # cProfile, which cannot be called: it pauses
            self._before.disable()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        before, self._before = self._before, None
        sys.setprofile(None if hasattr(before, "enable") else before)
        if hasattr(before, "enable"):
            before.enable()

    def _note(self, frame: Any, event: str, argument: Any) -> None:
        if frame.f_code.co_name == "_find_and_load" and event in ("call", "return"):
            self._imports += 1 if event == "call" else -1
        if event == "call" and self._imports <= 0:
            code, names = frame.f_code, frame.f_globals
            if (id(code), id(names)) not in self._met:
                self._met[id(code), id(names)] = code, names
                if not is_foreign(names.get("__name__")) and not code.co_filename.startswith(HERE):
                    self.ran.append((code, names))
        if callable(self._before):
            self._before(frame, event, argument)

    def saw(self, code: CodeType, names: dict[str, Any]) -> bool:
        return (id(code), id(names)) in self._met
