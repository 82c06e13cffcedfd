"""A kernel: the text of one function of loops, what goes in and what comes out."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy

from ..kernels import vector_math
from .ir import Node


@dataclass(eq=False)
class Kernel:
    """A function of arrays in row-major order that writes its results into the last ones.

    Call it as name(*inputs, *results): arrays as they are, of shape () as NumPy scalars (`x[()]`), numbers as floats.
    No result may share memory with another argument. parameters: (dtype, ndim, written) of each, dtype None: a number.
    """

    name: str
    source: str
    inputs: list[Node]
    results: list[Node]
    nodes: list[Node]
    parameters: tuple[tuple[str | None, int, bool], ...]
    bytes: int = 0
    flops: int = 0
    in_place: list[tuple[int, int]] = field(default_factory=list)  # (result, input) that may be one array: `merged`

    @property
    def label(self) -> str:
        return " ".join(dict.fromkeys(node.label for node in self.nodes if node.label))

    @property
    def lines(self) -> list[str]:
        return list(dict.fromkeys(node.line for node in self.nodes if node.line))

    def function(self) -> Any:
        """The source, run by Python itself: slow, for reading and for tests."""
        names = dict(plain_names())
        exec(compile(self.source, self.name, "exec"), names)
        return names[self.name]

    def merged(self, pairs: dict[int, int]) -> Kernel:
        """The kernel that writes result k over input pairs[k], and takes one array for both.

        `results` keep their places; the call leaves out those that are merged.
        """
        if not set(pairs.items()) <= set(self.in_place) or len(set(pairs.values())) < len(pairs):
            raise ValueError(f"merged: results {pairs} cannot be written over those inputs; possible: {self.in_place}")
        head, _, body = self.source.partition("\n")
        names = head[head.index("(") + 1 : head.rindex(")")].split(", ")
        for result, place in pairs.items():
            body = re.sub(rf"\by{result}\b", names[place], body)
        lines = body.splitlines(keepends=True)
        body = "".join(line for i, line in enumerate(lines) if ".reshape(" not in line or line not in lines[:i])
        written, count = set(pairs.values()), len(self.inputs)
        kept = [place for place in range(len(names)) if place - count not in pairs]
        parameters = tuple((*self.parameters[i][:2], self.parameters[i][2] or i in written) for i in kept)
        text = f"def {self.name}({', '.join(names[i] for i in kept)}):\n{body}"
        return named(replace(self, source=text, parameters=parameters, in_place=[]))


def plain_names() -> dict[str, Any]:
    """What the text of a kernel may use."""
    names = {name: getattr(vector_math, name) for name in vector_math.__all__}
    numpys = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool_", "inf", "sqrt", "floor", "ceil")
    return {**names, **{name: getattr(numpy, name) for name in (*numpys, "empty", "zeros", "full")}}


def named(kernel: Kernel) -> Kernel:
    """The kernel under a name that tells its content."""
    text = kernel.source.replace(kernel.name, "kernel")
    digest = hashlib.sha256(f"{text}{kernel.parameters}".encode()).hexdigest()[:16]
    name = f"kernel_{digest}"
    return replace(kernel, name=name, source=kernel.source.replace(kernel.name, name))
