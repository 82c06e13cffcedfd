"""The emitted module: its text in parts, and the functions that it may need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .ir import Node

HEADER = '''"""One step, as ndl.jit recorded it. Behind each line of it: the line that it comes from."""

import numpy
'''

CHECKED = '''
ShapeChanged = RuntimeError


def checked(value, label, shape, dtype):
    """What a function gave, if it is as it was when the step was recorded."""
    found = getattr(value, "shape", type(value).__name__), getattr(value, "dtype", None)
    if found != (shape, dtype):
        raise ShapeChanged(
            f"jit: {label}: gave {found[1]} {found[0]} where {numpy.dtype(dtype)} {shape} was recorded; its shape "
            "depends on values, which a jitted function cannot follow. Leave it out of the jitted function"
        )
    return value
'''

UNSHARED = '''
def unshared(value, *others):
    """`value`, copied where it may lie in memory of others."""
    if isinstance(value, numpy.ndarray) and (value.base is not None or any(value is x for x in others)):
        return value.copy()
    return value
'''


@dataclass
class Line:
    """A statement of `step`, and the node that it computes or, if it is not `main`, prepares or copies."""

    text: str
    node: Node
    main: bool = True


@dataclass
class Source:
    """The module's text, in parts, and what is given to it by name."""

    head: str = ""
    opening: list[str] = field(default_factory=list)  # the first statements of `step`
    lines: list[Line] = field(default_factory=list)
    closing: list[str] = field(default_factory=list)  # its last ones
    given: dict[str, Any] = field(default_factory=dict)
    kernels: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"{self.head}\n\n{self.step([line.text for line in self.lines])}"

    def step(self, lines: list[str]) -> str:
        """The function with these statements for the nodes."""
        body = [*self.opening, *lines, *self.closing]
        return "def step(inputs, buffers, draw, donate):\n" + "".join(f"    {x}\n" for x in body)
