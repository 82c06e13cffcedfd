"""Moves transposes out of the way of kernels, which take row-major arrays.

(g·xᵀ)ᵀ becomes x·gᵀ, which costs a matrix product nothing, and f(aᵀ, bᵀ) becomes f(a, b)ᵀ for elementwise f.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .ir import Graph, Node, ordered

Axes = tuple[int, ...]


def move_transposes(graph: Graph) -> Graph:
    """The same outputs, with fewer transposes in front of elementwise nodes."""
    users: dict[Node, int] = dict.fromkeys(graph.nodes, 0)
    for used in [*(x for node in graph.nodes for x in node.inputs), *graph.outputs]:
        users[used] += 1
    new: dict[Node, Node] = {}
    made: list[Node] = []

    def add(node: Node) -> Node:
        made.append(node)
        return node

    for node in graph.nodes:
        inputs = tuple(new[x] for x in node.inputs)
        node_now = node if inputs == node.inputs else replace(node, inputs=inputs)
        if node.kind == "transpose" and users[node.inputs[0]] == 1 and _is_product(inputs[0], _axes(node)):
            a, b = (_turned(x, add) for x in inputs[0].inputs)
            new[node] = add(replace(node_now, kind="matmul", inputs=(b, a), options=()))
        elif node.kind == "ufunc" and (axes := _common(node_now)):
            new[node] = _behind(node_now, axes, add)
        else:
            new[node] = add(node_now)
    outputs = [new[node] for node in graph.outputs]
    return Graph(graph.inputs, outputs, ordered(made, [*outputs, *graph.inputs]))


def _axes(node: Node) -> Axes:
    axes = node.options[0] if node.options else None
    return tuple(range(len(node.shape)))[::-1] if axes is None else tuple(axis % len(node.shape) for axis in axes)


def _is_product(node: Node, axes: Axes) -> bool:
    return node.kind == "matmul" and axes == (1, 0) and all(len(x.shape) == 2 for x in node.inputs)


def _turned(node: Node, add: Callable[[Node], Node]) -> Node:
    """The transpose of a matrix; of a transpose what lies before it."""
    if node.kind == "transpose" and _axes(node) == (1, 0):
        return node.inputs[0]
    return add(Node("transpose", (node,), ((1, 0),), node.shape[::-1], node.dtype, node.label, node.line))


def _common(node: Node) -> Axes | None:
    """The axes by which all inputs are transposed that are no scalars."""
    arrays = [x for x in node.inputs if x.shape]
    if not arrays or any(x.kind != "transpose" or x.shape != node.shape for x in arrays):
        return None
    axes = {_axes(x) for x in arrays}
    return axes.pop() if len(axes) == 1 else None


def _behind(node: Node, axes: Axes, add: Callable[[Node], Node]) -> Node:
    """The ufunc of what was transposed, then the transpose."""
    inputs = tuple(x.inputs[0] if x.shape else x for x in node.inputs)
    shape = tuple(node.shape[axes.index(axis)] for axis in range(len(axes)))
    inner = add(replace(node, inputs=inputs, shape=shape))
    return add(Node("transpose", (inner,), (axes,), node.shape, node.dtype, node.label, node.line))
