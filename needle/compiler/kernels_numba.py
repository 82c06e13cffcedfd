"""Compiles kernels by Numba, once a machine: text and machine code stay in a folder of the user's cache, by content."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from ..kernels import vector_math
from ..kernels.loader import FASTMATH, OPTIONS
from ..optional import have, optional
from .kernel import Kernel, plain_names

PATIENCE = 1.0  # seconds of compiling after which a line on stderr says so
HEAD = """# A kernel that needle generated. It may be deleted: it is made anew when it is wanted.

from needle.compiler.kernels_numba import names

globals().update(names())


"""

# Sums whose order is free become several sums side by side.
FREE_ORDER = {"add_any_order", "multiply_any_order"}

_compiled: dict[str, Any] = {}
_names: dict[str, Any] = {}


def cache_folder() -> Path:
    """$NEEDLE_CACHE_DIR, or needle's folder where the platform keeps caches."""
    given = os.environ.get("NEEDLE_CACHE_DIR")
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "needle"


def compile_kernels(kernels: Iterable[Kernel]) -> list[Any]:
    """Compiled functions of the kernels, or None for each where Numba is not installed."""
    kernels, start, told = list(kernels), time.perf_counter(), False
    for place, kernel in enumerate(kernels):
        compile_kernel(kernel)
        if not told and time.perf_counter() - start > PATIENCE and place + 1 < len(kernels):
            told = True
            print(f"needle: compiling {len(kernels)} kernels, once on this machine …", file=sys.stderr, flush=True)
    return [_compiled.get(kernel.name) for kernel in kernels]


def compile_kernel(kernel: Kernel) -> Any:
    """The compiled function of a kernel, or None where Numba is not installed."""
    if kernel.name not in _compiled and have("numba"):
        _compiled[kernel.name] = _compile(kernel)
    return _compiled.get(kernel.name)


def _compile(kernel: Kernel) -> Any:
    numba = optional("numba", extra="jit", why="compiled kernels")
    options = {**OPTIONS, "fastmath": FASTMATH, "pipeline_class": _pipeline()}
    path = _place(kernel)
    if _is_ours(path.parent):
        for _ in range(2):
            try:
                function = getattr(_module(kernel, path), kernel.name)
                return numba.njit(_signature(numba, kernel), cache=True, **options)(function)
            except Exception:  # no folder to write to, or a broken file, which may be anything when it is read
                _forget(path)
    function = FunctionType(kernel.function().__code__, names(), kernel.name)
    return numba.njit(_signature(numba, kernel), **options)(function)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else may write to the folder, as what lies there is run. One that does not exist yet is ours."""
    try:
        found = folder.stat()
    except OSError:
        return True
    ours = not hasattr(os, "getuid") or (found.st_uid in (os.getuid(), 0) and not found.st_mode & stat.S_IWOTH)
    if not ours:
        warnings.warn(
            f"jit: kernels are compiled anew in each process, as others may write to {folder}; "
            "set NEEDLE_CACHE_DIR to a folder of your own",
            stacklevel=2,
        )
    return ours


def _forget(path: Path) -> None:
    """Take the files of a kernel out of the cache, where that may be."""
    for file in [path, *path.parent.glob(f"__pycache__/{path.stem}.*")]:
        with contextlib.suppress(OSError):
            file.unlink()


def _signature(numba: Any, kernel: Kernel) -> Any:
    """Dense arrays, of which those that are only read may be read-only; 0-d ones and numbers as scalars."""
    types = []
    for dtype, ndim, written in kernel.parameters:
        scalar = numba.float64 if dtype is None else getattr(numba, "boolean" if dtype == "bool" else dtype)
        is_array = dtype is not None and (ndim or written)
        types.append(numba.types.Array(scalar, ndim, "C", readonly=not written) if is_array else scalar)
    return numba.void(*types)


def names() -> dict[str, Any]:
    """What the text of a kernel uses, compiled."""
    if not _names:
        _names.update(_compiled_names())
    return dict(_names)


def _compiled_names() -> dict[str, Any]:
    """vector_math, each function in a copy whose globals are the compiled ones, so that all of them are inlined."""
    numba = optional("numba", extra="jit", why="compiled kernels")
    found: dict[str, Any] = {**vars(vector_math)}
    for name, function in vars(vector_math).items():
        if isinstance(function, FunctionType):
            copy = FunctionType(function.__code__, found, name)
            flags = FASTMATH | ({"reassoc"} if name in FREE_ORDER else set())
            found[name] = numba.njit(forceinline=True, fastmath=flags, **OPTIONS)(copy)
    found.update(_extrema(numba))
    return {**plain_names(), **{name: found[name] for name in vector_math.__all__}}


def _extrema(numba: Any) -> dict[str, Any]:
    """maximum and minimum by the processor's instructions, which several lanes of a reduction may use."""
    llvm = optional("llvmlite.ir", extra="jit", why="compiled kernels")

    def extremum(name: str) -> Any:
        def typed(context: Any, a: Any, b: Any) -> Any:
            if a != b or a not in (numba.float32, numba.float64):
                return None

            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kind = args[0].type
                function = builder.module.declare_intrinsic(f"llvm.{name}", [kind], llvm.FunctionType(kind, [kind] * 2))
                return builder.call(function, args)

            return a(a, b), generate

        typed.__name__ = name
        return optional("numba.extending", extra="jit").intrinsic(typed)

    return {name: extremum(name) for name in ("maximum", "minimum")}


_pipelines: list[Any] = []


def _pipeline() -> Any:
    """Numba's own, told that no two arrays share memory, which `Kernel` promises."""
    if not _pipelines:
        compiler: Any = optional("numba.core.compiler", extra="jit", why="compiled kernels")

        def define_pipelines(self: Any) -> list:
            self.state.flags.noalias = True
            return [compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)]

        _pipelines.append(type("NoAlias", (compiler.CompilerBase,), {"define_pipelines": define_pipelines}))
    return _pipelines[0]


def _place(kernel: Kernel) -> Path:
    """The kernel's text in the cache, by a name that changes with all that its machine code depends on."""
    numba = optional("numba", extra="jit", why="compiled kernels")
    parts = (kernel.source, _source(vector_math), _source(sys.modules[__name__]), numba.__version__)
    name = f"{kernel.name}_{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"
    return cache_folder() / "kernels" / f"{name}.py"


def _module(kernel: Kernel, path: Path) -> ModuleType:
    """The kernel's text as a module in the cache."""
    text = HEAD + kernel.source
    if not path.exists() or path.read_bytes() != text.encode():
        _write(path, text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where Numba looks for it
    spec.loader.exec_module(module)
    return module


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """At once or not at all: other processes may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.replace(temporary, path)
