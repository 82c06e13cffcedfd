"""Holds the floors of needle: a module imports from lower floors only. Reads the imports, runs nothing.

A new module goes into FLOORS: on the lowest floor whose rules it keeps, after what it imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FunctionType

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Floor 0 is the ground. Within a floor a module imports from earlier entries only. An entry that ends with
# a slash is a whole package, whose files import each other as they like, but in no circle.
FLOORS = [
    [
        "needle/optional.py",
        "needle/axes.py",
        "needle/kernels/",
        "needle/backend_numpy.py",
        "needle/backend_cupy.py",
        "needle/backend_ndarray/",
    ],
    ["needle/backend_selection.py"],
    [
        "needle/modes.py",
        "needle/writes.py",
        "needle/failures.py",
        "needle/tensor_protocol.py",
        "needle/graph.py",
        "needle/autograd.py",
    ],
    ["needle/init/"],
    [
        "needle/ops/ops_support.py",
        "needle/ops/ops_tuple.py",
        "needle/ops/ops_devices.py",
        "needle/ops/ops_comparison.py",
        "needle/ops/ops_mathematic.py",
        "needle/ops/ops_elementwise.py",
        "needle/ops/ops_reduction.py",
        "needle/ops/ops_indexing.py",
        "needle/ops/ops_shape.py",
        "needle/ops/ops_logarithmic.py",
        "needle/ops/ops_linalg.py",
        "needle/ops/ops_normalization.py",
        "needle/ops/tensor_methods.py",
        "needle/ops/__init__.py",
    ],
    [
        "needle/functional.py",
        "needle/numeric_check/",
        "needle/debug.py",
        "needle/nn/",
        "needle/optim/",
        "needle/progress.py",
        "needle/data/",
        "needle/storage/",
        "needle/training/",
        "needle/testing.py",
        "needle/compiler/",
    ],
    ["needle/__init__.py", "needle/__main__.py"],
]

# On this floor the order counts for nothing: its modules do not know each other, but for these.
SIBLINGS_FLOOR = 5
SIBLINGS = {
    "needle/compiler/": {"needle/nn/", "needle/optim/"},
    "needle/data/": {"needle/progress.py"},
    "needle/numeric_check/": {"needle/functional.py"},
    "needle/training/": {"needle/progress.py", "needle/storage/"},
}

NO_ARRAY_LIBRARY = (
    "needle/graph.py",
    "needle/autograd.py",
    "needle/modes.py",
    "needle/writes.py",
    "needle/failures.py",
    "needle/functional.py",
    "needle/debug.py",
    "needle/init/",
    "needle/ops/",
    "needle/nn/",
    "needle/optim",
)
ARRAY_LIBRARIES = {"numpy", "np", "cupy", "cp", "numba", "scipy", "torch", "jax", "jnp"}

# What makes arrays out of nothing, and so on no device that anybody named.
MAKERS = {
    "arange", "array", "empty", "eye", "full", "identity", "indices", "linspace", "mgrid", "ogrid", "ones", "tri",
    "zeros",
}  # fmt: skip

# Who may import by name at run time: the door for optional packages, and the command line (a user's module).
DYNAMIC = ("needle/optional.py", "needle/__main__.py")


@dataclass(frozen=True)
class Import:
    """One imported name: `import module` (level 0, name None) or `from module import name`."""

    line: int
    module: str
    level: int = 0
    name: str | None = None
    hidden: bool = False  # within a function or a class
    runs: bool = True  # not for type checkers only


def imports(source: str) -> list[Import]:
    return list(_imports(ast.parse(source), hidden=False, runs=True))


def _imports(node: ast.AST, hidden: bool, runs: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(node.lineno, alias.name, hidden=hidden, runs=runs)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield Import(node.lineno, node.module or "", node.level, alias.name, hidden, runs)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.body:
            yield from _imports(child, hidden, runs=False)
        for child in node.orelse:
            yield from _imports(child, hidden, runs)
    else:
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, hidden or inside, runs)


def target(path: str, found: Import, files: set[str]) -> str | None:
    """The file of needle that is imported, None if it is none of needle's."""
    parts = found.module.split(".") if found.module else []
    if found.level:
        parts = [*PurePosixPath(path).parent.parts[: -(found.level - 1) or None], *parts]
    name = [found.name] if found.name else []
    for dotted in ([*parts, *name], parts):
        for file in ("/".join(dotted) + ".py", "/".join([*dotted, "__init__.py"])):
            if file in files:
                return file
    return None


def entry(path: str) -> tuple[int, int, str] | None:
    """Floor, place on it, and the entry of FLOORS that `path` belongs to."""
    for floor, entries in enumerate(FLOORS):
        for place, name in enumerate(entries):
            if path == name or (name.endswith("/") and path.startswith(name)):
                return floor, place, name
    return None


def may_import(path: str, other: str) -> bool:
    here, there = entry(path), entry(other)
    assert here and there
    if here[2] == there[2]:
        return True
    if here[0] == there[0] == SIBLINGS_FLOOR:
        return there[2] in SIBLINGS.get(here[2], ())
    return there[:2] < here[:2]


def homeless(sources: dict[str, str]) -> list[str]:
    return [
        f"{path}: is not in the table of tests/test_floors.py; give it a floor there"
        for path in sources
        if entry(path) is None
    ]


def upward(sources: dict[str, str]) -> list[str]:
    return [
        f"{path}:{line}: imports {other}, which is not on a lower floor, nor earlier on its own"
        for path, line, other in edges(sources)
        if entry(path) and entry(other) and not may_import(path, other)
    ]


def edges(sources: dict[str, str]) -> Iterator[tuple[str, int, str]]:
    """(file, line, imported file) of every import that runs, within needle."""
    for path, source in sources.items():
        for found in imports(source):
            other = target(path, found, set(sources))
            if found.runs and other and other != path:
                yield path, found.line, other


def cycles(sources: dict[str, str]) -> list[str]:
    """Drops files that import nothing of what is left, until none can go; what stays goes in circles."""
    left: dict[str, set[str]] = {path: set() for path in sources}
    for path, _, other in edges(sources):
        left[path].add(other)
    while free := [path for path, others in left.items() if not others & left.keys()]:
        for path in free:
            del left[path]
    return [f"import cycle among, or leading to: {', '.join(sorted(left))}"] if left else []


def habits(path: str, source: str) -> list[str]:
    """What no file may do, wherever it lives."""
    found = []
    for item in imports(source):
        top = item.module.partition(".")[0]
        if item.level == 0 and top == "needle":
            found.append((item.line, "imports needle by name: inside the package, imports are relative"))
        if item.hidden and item.runs:
            found.append((item.line, "hides an import in a function or class: imports stand on top"))
        if item.name == "*" and (item.runs or not path.endswith("__init__.py")):
            found.append((item.line, "has a star import: name what you take"))
        if item.level == 0 and item.runs and top not in sys.stdlib_module_names | {"needle", "numpy"}:
            found.append((item.line, f"imports {top}: optional packages come in through needle.optional"))
    for call in calls(source):
        if name_of(call.func) in ("import_module", "__import__") and path not in DYNAMIC:
            found.append((call.lineno, "imports by name at run time: that is for needle.optional alone"))
    return [f"{path}:{line}: {text}" for line, text in found]


def array_libraries(path: str, source: str) -> list[str]:
    """Where a file that knows arrays only through the backend names an array library."""
    if not path.startswith(NO_ARRAY_LIBRARY):
        return []
    named = [(item.line, item.module.partition(".")[0]) for item in imports(source) if item.level == 0]
    named += [(n.lineno, n.id) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)]
    for call in calls(source):
        if name_of(call.func) in ("optional", "have", "import_module"):
            named += [(call.lineno, str(a.value)) for a in call.args if isinstance(a, ast.Constant)]
    return [
        f"{path}:{line}: names the array library {name}; take arrays from backend_selection"
        for line, name in named
        if name.partition(".")[0] in ARRAY_LIBRARIES
    ]


def hosts(path: str, source: str) -> list[str]:
    """Where such a file makes an array without saying on which device."""
    made = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute) and n.attr in MAKERS]
    return [
        f"{path}:{n.lineno}: array_api.{n.attr} is on no device; use the device's method, or {n.attr}_like"
        for n in made
        if path.startswith(NO_ARRAY_LIBRARY) and ast.unparse(n.value) == "array_api"
    ]


def calls(source: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def name_of(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def named_like_functions(paths: list[str], names: dict[str, object]) -> list[str]:
    """Modules that bear the name of a function: after `import needle`, `needle.x` would be either."""
    functions = {name for name, value in names.items() if isinstance(value, FunctionType)}
    return [f"{path}: has the name of a function that needle exports" for path in paths if Path(path).stem in functions]


def violations(sources: dict[str, str]) -> list[str]:
    found = [*homeless(sources), *upward(sources), *cycles(sources)]
    for path, source in sources.items():
        found += [*habits(path, source), *array_libraries(path, source), *hosts(path, source)]
    return found


@pytest.fixture(scope="module")
def needle_sources() -> dict[str, str]:
    files = sorted((ROOT / "needle").rglob("*.py"))
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def test_needle_keeps_its_floors(needle_sources):
    assert len(needle_sources) > 10
    found = violations(needle_sources)
    assert not found, "\n".join(found)


def test_no_module_is_named_like_an_exported_function(needle_sources):
    import needle

    assert named_like_functions(list(needle_sources), vars(needle)) == []


def test_the_name_check_finds_a_module_named_like_a_function():
    names = {"gradcheck": named_like_functions, "autograd": ast, "Tensor": Path}
    paths = ["needle/gradcheck.py", "needle/autograd.py", "needle/Tensor.py"]
    assert named_like_functions(paths, names) == ["needle/gradcheck.py: has the name of a function that needle exports"]


CLEAN = {
    "needle/optional.py": "from importlib import import_module\ndef optional(m): return import_module(m)",
    "needle/backend_numpy.py": "import numpy",
    "needle/backend_selection.py": "import os\nimport numpy as array_api\nfrom .backend_numpy import Device",
    "needle/autograd.py": "from typing import TYPE_CHECKING\nfrom .backend_selection import device\n"
    "if TYPE_CHECKING:\n    from .ops import add\n"
    "class Tensor:\n    def numpy(self): return self.device.numpy()",
    "needle/ops/ops_tuple.py": "from ..autograd import Tensor\ny = array_api.zeros_like(x) + device.zeros(3)",
    "needle/ops/ops_mathematic.py": "from ..autograd import Tensor\nfrom .ops_tuple import make_tuple",
    "needle/ops/__init__.py": "from typing import TYPE_CHECKING\nfrom . import ops_mathematic, ops_tuple\n"
    "if TYPE_CHECKING:\n    from .ops_tuple import *",
    "needle/progress.py": "from .optional import optional",
    "needle/data/__init__.py": "from .fetch import fetch",
    "needle/data/fetch.py": "import numpy as np\nfrom ..progress import meter\nfrom . import mirrors",
    "needle/data/mirrors.py": "from __future__ import annotations\nfrom ..optional import have\nhave('numba')",
    "needle/functional.py": "from .ops import stack\nfrom .optional import have\nhave('tqdm')",
    "needle/__init__.py": "from . import autograd, data, ops",
    "needle/__main__.py": "from . import ops\nfrom importlib import import_module\nimport_module('x')",
}


def test_the_checks_find_nothing_in_a_clean_house():
    assert violations(CLEAN) == []


LOW = "not on a lower floor"

BROKEN = [
    ("needle/autograd.py", "from .ops import add", LOW),
    ("needle/autograd.py", "from .ops.ops_tuple import make_tuple", LOW),
    ("needle/autograd.py", "from . import functional", LOW),
    ("needle/autograd.py", "from . import x", LOW),
    (
        "needle/autograd.py",
        "try:\n    from .ops import add\nexcept ImportError:\n    pass",
        "not on a lower floor",
    ),
    (
        "needle/autograd.py",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from .ops import add",
        "not on a lower floor",
    ),
    ("needle/ops/ops_tuple.py", "from .ops_mathematic import add", LOW),
    ("needle/ops/ops_tuple.py", "from . import add", LOW),
    ("needle/functional.py", "from .progress import meter", LOW),
    ("needle/progress.py", "from .data import fetch", LOW),
    ("needle/data/mirrors.py", "from .fetch import fetch", "import cycle among"),
    ("needle/data/mirrors.py", "from ..data import fetch", "import cycle among"),
    ("needle/functional.py", "import needle", "imports needle by name"),
    ("needle/functional.py", "import needle.ops as ops", "imports needle by name"),
    ("needle/functional.py", "from needle.ops import stack", "imports needle by name"),
    ("needle/functional.py", "def f():\n    from .ops import stack", "hides an import"),
    ("needle/functional.py", "class A:\n    def f(self):\n        import math", "hides an import"),
    ("needle/functional.py", "async def f():\n    if True:\n        import math", "hides an import"),
    ("needle/functional.py", "from importlib import import_module\nimport_module('math')", "at run time"),
    ("needle/functional.py", "import importlib\nimportlib.import_module('math')", "at run time"),
    ("needle/functional.py", "__import__('math')", "at run time"),
    ("needle/functional.py", "from .ops import *", "has a star import"),
    ("needle/functional.py", "if TYPE_CHECKING:\n    from .ops import *", "has a star import"),
    ("needle/__init__.py", "from .ops import *", "has a star import"),
    ("needle/functional.py", "import scipy.special", "imports scipy: optional packages"),
    ("needle/functional.py", "from tqdm import tqdm", "imports tqdm: optional packages"),
    ("needle/autograd.py", "import numpy as xp", "names the array library numpy"),
    ("needle/autograd.py", "from numpy.linalg import norm", "names the array library numpy"),
    ("needle/ops/ops_tuple.py", "y = np.exp(x)", "names the array library np"),
    ("needle/ops/ops_tuple.py", "nb = optional('numba', extra='jit')", "names the array library numba"),
    ("needle/init/init_basic.py", "import cupy", "names the array library cupy"),
    ("needle/nn/nn_basic.py", "import numpy", "names the array library numpy"),
    ("needle/optim.py", "import numpy", "names the array library numpy"),
    ("needle/optim/sgd.py", "import numpy", "names the array library numpy"),
    ("needle/debug.py", "import numpy", "names the array library numpy"),
    ("needle/ops/ops_tuple.py", "mask = array_api.tri(3, 3)", "array_api.tri is on no device"),
    ("needle/nn/nn_basic.py", "make = array_api.zeros", "array_api.zeros is on no device"),
    ("needle/newcomer.py", "", "give it a floor"),
    ("needle/ops/ops_new.py", "", "give it a floor"),
]


@pytest.mark.parametrize("path, source, complaint", BROKEN)
def test_the_checks_find(path, source, complaint):
    found = violations(CLEAN | {path: source})
    assert any(line.startswith((path, "import cycle")) and complaint in line for line in found), found


def test_a_cycle_names_its_files_and_leaves_the_others_out():
    sources = {"a.py": "import b", "b.py": "import c", "c.py": "import b", "d.py": "import math"}
    assert cycles(sources) == ["import cycle among, or leading to: a.py, b.py, c.py"]
