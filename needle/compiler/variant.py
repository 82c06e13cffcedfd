"""What a recording becomes: a program, where its inputs are read at each call, and what its outputs are given to.

Both are generated Python functions (`Plumbing.source`), since a call on small arrays costs little more than they do.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy

from ..autograd import Op, Tensor, mark_written
from .errors import JitError
from .ir import Graph
from .live_numbers import TracedNumber
from .run import Program, compile_graph


class Compiled(Op):
    """Stands where a result of a jitted function would have its graph."""

    def gradient(self, out_grad: Any, node: Any) -> Any:
        raise JitError(
            "jit: a gradient is asked for through the result of a jitted function, which keeps no graph; call "
            "backward() (or ndl.grad) inside the function, or leave ndl.jit away here"
        )


COMPILED = Compiled()


def linked(array: Any) -> Tensor:
    """A result that would require a gradient: no constant, since then one through it would be silently 0."""
    tensor = Tensor.make_const(array, True)
    tensor.op = COMPILED
    return tensor


class Plumbing:
    """Functions of the leaves of a call's arguments and of what the program made.

    `inputs` gives what the program wants; `alone` whether nobody else holds the arrays that it may write over;
    `results` the leaves of the result; `store` gives tensors what they are to hold. Tensors are named in texts: T3 is
    an object that the function reaches, leaves[2] an argument, and either may have a .grad.
    """

    def __init__(self) -> None:
        self.space: dict[str, Any] = {
            "Tensor": Tensor,
            "const": Tensor.make_const,
            "linked": linked,
            "array": as_array,
            "written": mark_written,
            "count": lambda number: numpy.asarray(number, "int64"),
            "held": sys.getrefcount,
        }
        self.reads: list[str] = []  # arrays
        self.numbers: list[TracedNumber] = []  # come behind the arrays
        self.states: list[tuple[str, int]] = []  # a tensor, and the output that it is to hold
        self.donors: list[str] = []  # the tensors among them whose array the program may write over
        self.grads: list[tuple[str, str]] = []  # a tensor, and what its .grad is to be
        self.counters: list[tuple[str, int]] = []  # a step counter, and by how much it grows
        self.wanted: list[str] = []  # results
        self.source = ""

    def name(self, value: Any, letter: str) -> str:
        """A name for an object in the source."""
        known = next((name for name, other in self.space.items() if other is value), None)
        if known is None:
            known = f"{letter}{len(self.space)}"
            self.space[known] = value
        return known

    def finish(self) -> None:
        """Write the functions. The space they live in is not their own, so that no circle keeps a model alive."""
        leaves = {name: at for number in self.numbers for name, at in number.leaves.items()}
        self.space.update({f"read_{name}": at for name, at in leaves.items()})
        self.source = "\n".join(
            [
                "def inputs(leaves):",
                *(f"    {name} = read_{name}(leaves)" for name in leaves),
                f"    return [{', '.join([*self.reads, *(number.text for number in self.numbers)])}]",
                "def alone(leaves):",
                *(
                    f"    a = {t}.cached_data\n    if held(a) > 3 or a.base is not None: return False"
                    for t in self.donors
                ),
                "    return True",
                "def results(leaves, made):",
                f"    return [{', '.join(self.wanted)}]",
                "def store(leaves, made):",
                *(f"    c{i} = int({t}.cached_data) + {n}" for i, (t, n) in enumerate(self.counters)),
                *(f"    {t}.cached_data = made[{place}]; written({t})" for t, place in self.states),
                *(f"    {t}.cached_data = count(c{i}); written({t})" for i, (t, _) in enumerate(self.counters)),
                *(f"    {t}.grad = {what}" for t, what in self.grads),
                "    return",
                "",
            ]
        )
        exec(compile(self.source, "<ndl.jit plumbing>", "exec"), self.space)
        self.inputs, self.alone, self.results, self.store = map(self.space.pop, ("inputs", "alone", "results", "store"))

    def find(self, text: str, leaves: list[Any]) -> Any:
        """The tensor that a text names."""
        return eval(text, dict(self.space), {"leaves": leaves})


@dataclass
class Variant:
    """One recording, good for calls of one kind."""

    graph: Graph
    plumbing: Plumbing
    structure: Any  # of the result
    destinations: dict[int, int]  # an output -> the input over whose array it may be written
    backend: str
    program: Program | None = None
    calls: int = 0

    def compiled(self) -> Program:
        if self.program is None:
            self.program = compile_graph(self.graph, backend=self.backend, destinations=self.destinations)
        return self.program

    def run(self, leaves: list[Any]) -> list[Any]:
        """The leaves of the result. A tensor is given its new array only after everything was computed."""
        plumbing, program = self.plumbing, self.program or self.compiled()
        donate = plumbing.alone(leaves)
        made = [as_array(x) for x in program(plumbing.inputs(leaves), donate)]
        results = plumbing.results(leaves, made)
        plumbing.store(leaves, made)
        self.calls += 1
        return results

    def computed(self, leaves: list[Any]) -> list[Any]:
        """What the program gives for a call; nothing is stored."""
        return [as_array(x) for x in self.compiled()(self.plumbing.inputs(leaves))]


def as_array(x: Any) -> Any:
    """NumPy's own class, and not its scalars, which nobody can write to."""
    return x if type(x) is numpy.ndarray else numpy.asarray(x)
