"""From a recorded graph to a program that runs: the passes one after the other, and what each of them made."""

from __future__ import annotations

import itertools
import linecache
import weakref
from collections.abc import Callable
from typing import Any

from ..backend_numpy import CPUDevice
from ..optional import have, optional
from .buffers import Plan, completed, plan
from .emit import emit
from .errors import JitError
from .fuse import fuse
from .ir import Graph
from .kernels_numba import compile_kernels
from .profile import Profile, profile
from .show import show
from .simplify import simplify
from .source import Source

NUMBER = itertools.count()  # of the sources in this process


def compile_graph(
    graph: Graph,
    *,
    backend: str = "auto",
    destinations: dict[int, int] | None = None,
    draw: Callable[[Any, tuple], Any] | None = None,
    poison: bool = False,
) -> Program:
    """The program that computes the graph's outputs.

    backend: "numpy" calls NumPy alone, "numba" fused kernels, "auto" these where Numba is installed.
    destinations: place of an output -> place of the input over whose array it may be written if the caller donates it.
    draw(method, arguments) gives random numbers, as the CPU device does if None.
    poison: overwrite each buffer once nobody needs it, so that a read too many shows.
    """
    if backend not in ("auto", "numpy", "numba"):
        raise ValueError(f"backend must be 'auto', 'numpy' or 'numba', got {backend!r}")
    stages = {"recorded": graph, "simplified": simplify(graph)}
    if backend == "numba" or (backend == "auto" and have("numba")):
        optional("numba", extra="jit", why="compiled kernels")
        stages["fused"] = completed(fuse(stages["simplified"]))
    made = list(stages.values())[-1]
    planned = plan(made, destinations)
    return Program(stages, planned, emit(made, planned, poison), draw or device_draw)


def device_draw(method: Any, arguments: tuple) -> Any:
    """Random numbers from a method of the CPU device, by name, or from any function."""
    return method(*arguments) if callable(method) else getattr(CPUDevice(), method)(*arguments)


class Program:
    """A compiled graph. `program(arrays)` computes it; one call at a time, as calls share their buffers.

    source: the Python module that runs, as text.
    """

    def __init__(self, stages: dict[str, Graph], plan: Plan, source: Source, draw: Callable):
        self.stages, self.plan, self.emitted, self.draw = stages, plan, source, draw
        self.source = source.text
        self.module = load(self.source, source.given)
        compiled = zip(source.kernels, compile_kernels(source.kernels), strict=True)
        self.module.update((kernel.name, function) for kernel, function in compiled if function is not None)
        self.module["ShapeChanged"] = JitError  # the text by itself knows NumPy alone
        weakref.finalize(self, linecache.cache.pop, self.module["__name__"], None)
        self.step = self.module["step"]
        self.buffers = self.module["allocate"]()

    @property
    def graph(self) -> Graph:
        """The graph after the last pass."""
        return list(self.stages.values())[-1]

    def __call__(self, arrays: list, donate: bool = False) -> list:
        """The outputs, in arrays of their own; arrays and numbers as the graph's inputs want them.

        donate: an output with a destination may be written over the array given there, which must share memory with no
        other input; what is returned is the output, written there or not.
        """
        return self.step(arrays, self.buffers, self.draw, donate)

    def passes(self) -> str:
        """What each pass made of the graph."""
        parts = [f"--- {name}: {len(graph.nodes)} nodes\n{show(graph)}" for name, graph in self.stages.items()]
        return "\n\n".join([*parts, f"--- buffers: {self.plan.show(self.graph)}"])

    def profile(self, arrays: list, seconds: float = 0.5) -> Profile:
        """The time of each line, beside the bytes that it moves and what it computes. Runs the step many times."""
        return profile(self, arrays, seconds)


def load(text: str, given: dict[str, Any]) -> dict[str, Any]:
    """The names that a module of this text defines. Error messages show its lines."""
    file = f"<ndl.jit {next(NUMBER)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    module = {"__name__": file, **given}
    exec(compile(text, file, "exec"), module)
    return module
