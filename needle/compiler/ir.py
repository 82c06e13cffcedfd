"""What a recorded function is made of: nodes, each a value computed once from older ones, and the graph they form.

No second vocabulary: a node is a call of a NumPy ufunc, reduction or function, of `numpy.matmul`, or of an op that
could not be taken apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy

# What `Node.kind` may be. Inputs of a node come first, its options behind them in `options`.
#   input     an array that is given at each call                     options: ()
#   number    a Python float that is given at each call; 0-d, weak    options: ()
#   constant  a Python number, weak where dtype is None, or an array that no call changes   options: (value,)
#   random    draws of a device                                        options: (method, shape), in the order recorded
#   ufunc     elementwise with broadcasting                            options: (name,), or ("astype", dtype)
#   reduce    over axes                                                options: (name, axes, keepdims)
#   matmul    numpy.matmul of two arrays                               options: ()
#   reshape, transpose, broadcast_to, getitem (basic index)            options: (shape), (axes), (shape), (index)
#   call      any function of arrays, which simply runs                options: (function, pattern of its arguments)
#   kernel    several nodes fused into one function                    options: (Kernel,)
#   part      one of several results of a call or kernel               options: (place,)
SOURCES = ("input", "number", "constant", "random")
VIEWS = ("reshape", "transpose", "broadcast_to", "getitem")


@dataclass(eq=False)
class Node:
    """One value: how it is made, its shape and dtype (None: a Python number, which takes the dtype it meets)."""

    kind: str
    inputs: tuple[Node, ...] = ()
    options: tuple = ()
    shape: tuple[int, ...] = ()
    dtype: numpy.dtype | None = None
    label: str = ""  # what the user would call it: "argument 0", "Linear.weight", the op that made it
    line: str = ""  # the user's line that it comes from, as "file:line"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def effect(self) -> bool:
        """Whether it must run at each call, in order, even where nobody uses its value: draws, and checks of values."""
        return self.kind == "random" or (self.kind == "call" and getattr(self.options[0], "checks", False))


@dataclass
class Graph:
    """inputs: nodes of kind input and number, in the order in which a call gives them; outputs: the values wanted.
    nodes: all of them, inputs before users, effects in the order recorded."""

    inputs: list[Node]
    outputs: list[Node]
    nodes: list[Node] = field(default_factory=list)


class Slot:
    """Stands in a call's pattern of arguments for the i-th input of the node."""

    def __init__(self, place: int):
        self.place = place

    def __repr__(self) -> str:
        return f"Slot({self.place})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slot) and other.place == self.place

    def __hash__(self) -> int:
        return hash(("Slot", self.place))


def filled(pattern: Any, arrays: tuple) -> Any:
    """The pattern of arguments with arrays in place of the slots."""
    if isinstance(pattern, Slot):
        return arrays[pattern.place]
    if isinstance(pattern, (list, tuple)):
        return type(pattern)(filled(part, arrays) for part in pattern)
    if isinstance(pattern, dict):
        return {key: filled(part, arrays) for key, part in pattern.items()}
    return pattern


def ordered(nodes: Iterable[Node], roots: Iterable[Node]) -> list[Node]:
    """Those of `nodes` (in this order) that the roots or an effect need."""
    nodes = list(nodes)
    needed = {id(root) for root in roots}
    for node in reversed(nodes):
        if id(node) in needed or node.effect:
            needed.add(id(node))
            needed.update(id(x) for x in node.inputs)
    return [node for node in nodes if id(node) in needed]


def evaluate(node: Node, arrays: tuple, draw: Callable[[str, tuple], Any]) -> Any:
    """The value of a node from those of its inputs, by NumPy: what every faster way must agree with.

    draw(method, shape) gives random numbers. The kinds `input`, `number` and `kernel` are not evaluated here.
    """
    options = node.options
    if node.kind == "ufunc":
        if options[0] == "astype":
            return numpy.asarray(arrays[0]).astype(options[1])
        function = numpy.where if options[0] == "where" else getattr(numpy, options[0])
        return function(*arrays)
    if node.kind == "reduce":
        name, axes, keepdims = options
        return getattr(numpy, name)(arrays[0], axis=axes, keepdims=keepdims)
    if node.kind == "matmul":
        return numpy.matmul(*arrays)
    if node.kind in ("reshape", "transpose", "broadcast_to"):
        return getattr(numpy, node.kind)(arrays[0], *options)
    if node.kind == "getitem":
        return arrays[0][options[0]]
    if node.kind == "constant":
        return options[0]
    if node.kind == "random":
        return draw(*options)
    if node.kind == "part":
        return arrays[0][options[0]]
    if node.kind == "call":
        args, kwargs = filled(options[1], arrays)
        return options[0](*args, **kwargs)
    raise ValueError(f"evaluate: a node of kind {node.kind!r} has no value of its own")
