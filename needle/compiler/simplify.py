"""Makes a graph smaller without changing a number: constants folded, equal parts computed once, what does nothing or
serves nobody left out.

Each rule looks at one node whose inputs are simplified already, and gives a node in its place or None. A rule holds
for every value: x + 0 is not x where x is -0.0, x · 0 is not 0 where x is NaN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy

from .ir import VIEWS, Graph, Node, evaluate, ordered

FOLDED = ("ufunc", "reduce", "matmul", *VIEWS)
SHARED = (*FOLDED, "constant", "part")
LARGE = 1 << 20  # bytes above which a constant is not made out of smaller ones

# ufunc: the operand that leaves the other one as it is, and on which side it may stand.
NEUTRAL = {
    "multiply": (1.0, (0, 1)),
    "divide": (1.0, (1,)),
    "power": (1.0, (1,)),
    "subtract": (0.0, (1,)),
    "add": (-0.0, (0, 1)),
}


def simplify(graph: Graph) -> Graph:
    """The same outputs from fewer nodes."""
    made = _Made()
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        inputs = tuple(new[x] for x in node.inputs)
        new[node] = made.add(node if inputs == node.inputs else replace(node, inputs=inputs))
    outputs = [new[node] for node in graph.outputs]
    inputs = tuple(new[node] for node in graph.inputs)
    return Graph(list(inputs), outputs, ordered(made.nodes, [*outputs, *inputs]))


class _Made:
    """The nodes of the new graph."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.known: dict[tuple, Node] = {}

    def add(self, node: Node) -> Node:
        """The node, or what stands for it."""
        for rule in RULES:
            other = rule(node, self.add)
            if other is not None:
                return other
        key = _key(node)
        if key is None:
            self.nodes.append(node)
            return node
        if key not in self.known:
            self.nodes.append(node)
        return self.known.setdefault(key, node)


def _key(node: Node) -> tuple | None:
    """Equal for two nodes of equal value; None for one that is computed as often as it is written."""
    if node.kind not in SHARED:
        return None
    options = _constant_key(node.options[0]) if node.kind == "constant" else repr(node.options)
    return node.kind, node.inputs, options, node.shape, str(node.dtype)


def _constant_key(value: Any) -> Any:
    if not isinstance(value, (numpy.ndarray, numpy.generic)):
        return type(value), repr(value)  # 0.0 is not -0.0, and 1 not True
    return value.tobytes() if value.nbytes <= 4096 and value.dtype.kind in "biuf" else id(value)


def same_dtype(a: numpy.dtype | None, b: numpy.dtype | None) -> bool:
    """Whether both are dtypes, and equal. (For NumPy, float64 == None.)"""
    return a is not None and b is not None and a == b


# --- rules ----------------------------------------------------------------------------------------------------------


def _fold(node: Node, add: Callable) -> Node | None:
    """A value of constants alone is a constant."""
    if node.kind not in FOLDED or node.dtype is None or any(x.kind != "constant" for x in node.inputs):
        return None
    size = node.size * node.dtype.itemsize
    if node.kind not in VIEWS and size > max(LARGE, sum(numpy.asarray(x.options[0]).nbytes for x in node.inputs)):
        return None
    with numpy.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was told when the function was recorded
        value = numpy.asarray(evaluate(node, tuple(x.options[0] for x in node.inputs), _no_draw))
    if value.dtype != node.dtype or value.shape != node.shape:
        return None
    return add(Node("constant", (), (value,), node.shape, node.dtype, node.label, node.line))


def _no_draw(method: Any, args: tuple) -> Any:
    raise AssertionError("a constant is not drawn")


def _same_dtype(node: Node, add: Callable) -> Node | None:
    """x.astype(the dtype of x) is x, and so is a copy, where nothing is written in place."""
    if node.kind == "ufunc" and node.options[0] == "astype" and same_dtype(node.dtype, node.inputs[0].dtype):
        return node.inputs[0]
    return None


def _same_view(node: Node, add: Callable) -> Node | None:
    """A view that shows all of its input as it is."""
    if node.kind not in VIEWS or node.inputs[0].dtype is None or node.shape != node.inputs[0].shape:
        return None
    ndim = len(node.shape)
    same = {
        "reshape": True,
        "broadcast_to": True,
        "transpose": node.options[0] == tuple(range(ndim)),
        "getitem": _is_whole(node.options[0]),
    }
    return node.inputs[0] if same[node.kind] else None


def _is_whole(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is Ellipsis or part == slice(None) for part in parts if part is not None) and None not in parts


def _view_of_view(node: Node, add: Callable) -> Node | None:
    """Two reshapes are the last one, two transposes the one that both make."""
    if node.kind not in ("reshape", "transpose") or node.inputs[0].kind != node.kind:
        return None
    inner = node.inputs[0]
    if node.kind == "reshape":
        return add(replace(node, inputs=inner.inputs))
    return add(replace(node, inputs=inner.inputs, options=(tuple(inner.options[0][i] for i in node.options[0]),)))


def _operand_not_broadcast(node: Node, add: Callable) -> Node | None:
    """A ufunc broadcasts by itself."""
    if node.kind != "ufunc":
        return None
    for i, x in enumerate(node.inputs):
        if x.kind == "broadcast_to" and x.inputs[0].dtype is not None:
            inputs = (*node.inputs[:i], x.inputs[0], *node.inputs[i + 1 :])
            if numpy.broadcast_shapes(*(y.shape for y in inputs)) == node.shape:
                return add(replace(node, inputs=inputs))
    return None


def _neutral(node: Node, add: Callable) -> Node | None:
    """x·1, x/1, x¹, x − 0, x + (−0)."""
    if node.kind != "ufunc" or node.options[0] not in NEUTRAL:
        return None
    wanted, sides = NEUTRAL[node.options[0]]
    for side in sides:
        x = node.inputs[1 - side]
        if x.shape != node.shape or not same_dtype(x.dtype, node.dtype):
            continue
        if _is_number(node.inputs[side], wanted, x.dtype):
            return x
    return None


def _is_number(node: Node, wanted: float, dtype: numpy.dtype | None) -> bool:
    """Whether the node is the constant `wanted` everywhere, its sign included where zeros have one."""
    value = node.options[0] if node.kind == "constant" else None
    if value is None or not numpy.size(value) or not numpy.all(numpy.equal(value, wanted)):
        return False
    signed = wanted == 0 and dtype is not None and dtype.kind not in "biu"
    return not signed or bool(numpy.all(numpy.signbit(value) == (math.copysign(1, wanted) < 0)))


def _twice_negative(node: Node, add: Callable) -> Node | None:
    """−(−x) is x."""
    inner = node.inputs[0] if node.inputs else node
    if node.kind == inner.kind == "ufunc" and node.options[0] == inner.options[0] == "negative":
        return inner.inputs[0] if same_dtype(inner.inputs[0].dtype, node.dtype) else None
    return None


def _add_negative(node: Node, add: Callable) -> Node | None:
    """x + (−y) and (−y) + x are x − y, bit for bit."""
    if node.kind != "ufunc" or node.options[0] != "add":
        return None
    for x, y in (node.inputs, node.inputs[::-1]):
        if y.kind != "ufunc" or y.options[0] != "negative":
            continue
        if all(same_dtype(z.dtype, node.dtype) for z in (x, y, y.inputs[0])):
            return add(replace(node, inputs=(x, y.inputs[0]), options=("subtract",)))
    return None


def _mean(node: Node, add: Callable) -> Node | None:
    """A mean is a sum divided by a count, which float32 holds exactly up to 2²⁴."""
    if node.kind != "reduce" or node.options[0] != "mean" or node.dtype is None or node.dtype.char not in "fd":
        return None
    (x,) = node.inputs
    count = x.size // max(node.size, 1)
    if not same_dtype(x.dtype, node.dtype) or not 0 < count <= 1 << 24:
        return None
    total = add(replace(node, options=("sum", *node.options[1:])))
    number = add(Node("constant", (), (float(count),), line=node.line))
    return add(replace(node, kind="ufunc", inputs=(total, number), options=("divide",)))


RULES = (
    _fold,
    _same_dtype,
    _same_view,
    _view_of_view,
    _operand_not_broadcast,
    _neutral,
    _twice_negative,
    _add_negative,
    _mean,
)
