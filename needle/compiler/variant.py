"""What a recording becomes: a program, where its inputs are read at each call, and what its outputs are given to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy

from ..autograd import Tensor, mark_written
from ..backend_numpy import CPUDevice
from .ir import Graph
from .run import Program, compile_graph

Where = Callable[["Call"], Any]  # finds a tensor, array or number when a call is made


class Call:
    """One call of a jitted function: the leaves of its arguments."""

    __slots__ = ("leaves",)

    def __init__(self, leaves: list[Any]):
        self.leaves = leaves


@dataclass
class Variant:
    """One recording, good for the calls that `matches` admits."""

    graph: Graph
    reads: list[Where]  # one for each array among the inputs of the graph
    numbers: Callable[[Call], list[float]]  # the numbers among them, which come behind the arrays
    states: list[tuple[Where, int]]  # a tensor, and the output that it is to hold
    grads: list[tuple[Where, Any]]  # a tensor, and the output that its .grad is to be, None, or SPENT
    counters: list[tuple[Tensor, int]]  # a step counter, and by how much it grows
    results: list[tuple[str, Any]]
    structure: Any
    backend: str = "auto"
    program: Program | None = None
    calls: int = 0
    notes: list[str] = field(default_factory=list)

    def compiled(self) -> Program:
        if self.program is None:
            self.program = compile_graph(self.graph, backend=self.backend)
        return self.program

    def run(self, call: Call) -> list[Any]:
        """The leaves of the result. Nothing is written before everything was computed."""
        made = self.computed(call)
        counts = [(step, int(step.cached_data) + n) for step, n in self.counters]
        results = [self._result(kind, what, made, call) for kind, what in self.results]
        for where, place in self.states:
            tensor = where(call)
            tensor.cached_data = made[place]
            mark_written(tensor)
        for step, count in counts:
            step.cached_data = CPUDevice().array(count, "int64")
            mark_written(step)
        for where, what in self.grads:
            where(call).grad = Tensor.make_const(made[what]) if isinstance(what, int) else what
        self.calls += 1
        return results

    def inputs(self, call: Call) -> list[Any]:
        """The arrays and numbers that the program wants."""
        return [*[read(call) for read in self.reads], *self.numbers(call)]

    def computed(self, call: Call) -> list[Any]:
        """What the program gives for a call."""
        program = self.program or self.compiled()
        made = program(self.inputs(call))
        return [x if type(x) is numpy.ndarray else numpy.asarray(x) for x in made]  # not NumPy's scalars

    def _result(self, kind: str, what: Any, made: list[Any], call: Call) -> Any:
        if kind == "tensor":
            return Tensor.make_const(made[what])
        if kind == "array":
            return made[what]
        return what(call) if kind == "read" else what
