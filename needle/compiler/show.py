"""A graph as text, one line a node."""

from __future__ import annotations

from typing import Any

import numpy

from .ir import Graph, Node, Slot


def show(graph: Graph) -> str:
    """One line a node, such as `%7 = exp(%6)  float32 (100, 10)  step.py:12`, and what the graph gives."""
    names = {node: f"%{i}" for i, node in enumerate(graph.nodes)}
    rows = [(f"{names[node]} = {_made(node, names)}", _type(node), node.line) for node in graph.nodes]
    wide = [min(max((len(row[i]) for row in rows), default=0), limit) for i, limit in enumerate((60, 24))]
    lines = [f"{made:<{wide[0]}}  {kind:<{wide[1]}}  {line}".rstrip() for made, kind, line in rows]
    return "\n".join([*lines, f"return {', '.join(names[node] for node in graph.outputs)}"])


def _type(node: Node) -> str:
    return "number" if node.dtype is None else f"{node.dtype} {node.shape}"


def _made(node: Node, names: dict[Node, str]) -> str:
    values = [names[x] for x in node.inputs]
    options = node.options
    if node.kind in ("input", "number"):
        return node.kind if node.label in ("", node.kind) else f"{node.kind} {node.label}"
    if node.kind == "constant":
        return constant_text(options[0])
    if node.kind == "random":
        return f"{function_text(options[0])}{options[1]}"
    if node.kind == "getitem":
        return f"{values[0]}[{index_text(options[0])}]"
    if node.kind == "part":
        return f"{values[0]}[{options[0]}]"
    if node.kind == "call":
        return f"{call_text(node)}({pattern_text(options[1], values)})"
    if node.kind == "kernel":
        return f"{options[0].name}({', '.join(values)})"
    if node.kind == "ufunc":
        return f"{options[0]}({', '.join([*values, *map(str, options[1:])])})"
    if node.kind == "reduce":
        kept = ", keepdims" if options[2] else ""
        return f"{options[0]}({values[0]}, axes {options[1]}{kept})"
    return f"{node.kind}({', '.join([*values, *map(str, options)])})"


def constant_text(value: Any) -> str:
    """A number as it is; of an array only what it is like."""
    if not isinstance(value, numpy.ndarray):
        return str(value)
    if value.ndim == 0:
        return f"constant {value}"
    first = value.flat[0] if value.size else None
    return f"constant {first} everywhere" if value.size and (value == first).all() else "constant array"


def call_text(node: Node) -> str:
    """The op that made a call, and which function it calls."""
    function = function_text(node.options[0])
    return function if not node.label or node.label in function.split(".") else f"{node.label}: {function}"


def function_text(function: Any) -> str:
    """What a function is called: a method by its owner's class too."""
    if isinstance(function, str):
        return function
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", repr(function))
    return name if owner is None or isinstance(function, numpy.ufunc) else f"{type(owner).__name__}.{name}"


def index_text(index: Any) -> str:
    """A basic index as one writes it between brackets."""
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join(_index_part(part) for part in parts) or "()"


def _index_part(part: Any) -> str:
    if part is Ellipsis:
        return "..."
    if not isinstance(part, slice):
        return str(part)
    start, stop, step = ("" if x is None else str(x) for x in (part.start, part.stop, part.step))
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


def pattern_text(pattern: Any, values: list[str]) -> str:
    """The arguments of a call, its arrays by their names."""
    args, kwargs = pattern
    given = [_argument(part, values) for part in args]
    return ", ".join([*given, *(f"{key}={_argument(part, values)}" for key, part in kwargs.items())])


def _argument(part: Any, values: list[str]) -> str:
    if isinstance(part, Slot):
        return values[part.place]
    if isinstance(part, (list, tuple)):
        return f"({', '.join(_argument(x, values) for x in part)})"
    return repr(part)
