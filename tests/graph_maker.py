"""Graphs for the tests of the compiler: recorded call by call, or drawn at random, and evaluated node by node."""

from __future__ import annotations

from typing import Any

import numpy as np

from needle.compiler.ir import Graph, Node, Slot, evaluate

UNARY = ("negative", "exp", "tanh", "absolute", "sqrt", "square", "sign", "isnan", "floor")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "less", "equal", "power")
REDUCTIONS = ("sum", "max", "min", "prod", "mean", "all", "any")
KINDS = ["unary", "binary", "binary", "binary", "where", "astype", "reduce", "reduce", "matmul", "view", "view", "call"]
KINDS += ["again"]
NUMBERS = (0, 0.0, -0.0, 1, 1.0, 2, 0.5, -3.25)


class Recording:
    """Builds a graph; each node gets the shape and dtype that NumPy gives it, and keeps its value in `values`."""

    def __init__(self, draw: Any = None):
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []
        self.values: dict[Node, Any] = {}
        self.draw = draw

    def input(self, value: Any) -> Node:
        kind = "number" if isinstance(value, (int, float)) else "input"
        node = self._listed(Node(kind, label=f"argument {len(self.inputs)}"), value)
        self.inputs.append(node)
        return node

    def constant(self, value: Any) -> Node:
        return self._listed(Node("constant", (), (value,)), value)

    def add(self, kind: str, *inputs: Node, options: tuple = (), label: str = "") -> Node:
        node = Node(kind, inputs, options, label=label, line=f"step.py:{len(self.nodes)}")
        with np.errstate(all="ignore"):
            value = evaluate(node, tuple(self.values[x] for x in inputs), self.draw)
        return self._listed(node, value)

    def ufunc(self, name: str, *inputs: Node) -> Node:
        return self.add("ufunc", *inputs, options=(name,))

    def call(self, function: Any, *inputs: Node, **kwargs: Any) -> Node:
        pattern = tuple(Slot(i) for i in range(len(inputs))), kwargs
        return self.add("call", *inputs, options=(function, pattern), label=function.__name__)

    def _listed(self, node: Node, value: Any) -> Node:
        if isinstance(value, (np.ndarray, np.generic)):
            node.shape, node.dtype = np.shape(value), value.dtype
        self.nodes.append(node)
        self.values[node] = value
        return node

    def graph(self, *outputs: Node) -> Graph:
        return Graph(self.inputs, list(outputs), self.nodes)


def reference(graph: Graph, arrays: list, draw: Any = None) -> list:
    """The outputs, node by node, each in memory of its own."""
    values = dict(zip(graph.inputs, arrays, strict=True))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                values[node] = evaluate(node, tuple(values[x] for x in node.inputs), draw)
    return [values[node] for node in graph.outputs]


def same_bits(a: Any, b: Any) -> bool:
    """Equal dtype, shape and bits; one NaN is like another."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    equal = np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return equal and (a.dtype.kind != "f" or bool(((np.signbit(a) == np.signbit(b)) | np.isnan(a)).all()))


def near(a: Any, b: Any, dtype: Any) -> bool:
    """Within the band that a sum in another order is promised, NaN and infinities at the same places."""
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    largest = max(np.abs(b[finite]).max(initial=0), 1)
    return bool((np.abs(a[finite] - b[finite]) <= largest * (1e-5 if dtype == "float32" else 1e-12)).all())


# --- at random ------------------------------------------------------------------------------------------------------


def random_array(rng: np.random.Generator, dtype: Any, shape: tuple) -> np.ndarray:
    """Normal numbers, and now and then a special one."""
    if np.dtype(dtype).kind != "f":
        return rng.integers(-5, 6, shape).astype(dtype)
    special = rng.choice([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf], shape)
    return np.where(rng.random(shape) < 0.02, special, rng.standard_normal(shape)).astype(dtype)


def random_graph(seed: int) -> tuple[Graph, list, Recording]:
    """A graph of some thirty nodes, arrays for its inputs, and the recording with the values of all nodes."""
    rng = np.random.default_rng(seed)
    recording = Recording()
    rows, columns = (int(n) for n in rng.integers(1, 7, 2))
    shapes = [(rows, columns), (columns,), (rows, 1), (3, rows, columns), (), (columns, rows)]
    arrays = [random_array(rng, rng.choice(["float32", "float32", "float64", "int32"]), s) for s in shapes]
    arrays.append(float(rng.standard_normal()))
    pool = [recording.input(a) for a in arrays]
    pool += [recording.constant(NUMBERS[i]) for i in rng.integers(0, len(NUMBERS), 2)]
    pool.append(recording.constant(random_array(rng, "float32", (rows, columns))))
    for _ in range(int(rng.integers(10, 80))):
        made = random_node(rng, recording, pool)
        if made is not None and made.size < 5000:
            pool.append(made)
    results = [node for node in pool if node.dtype is not None]
    outputs = [results[i] for i in rng.integers(0, len(results), 3)] + results[-2:]
    return recording.graph(*outputs), arrays, recording


def random_node(rng: np.random.Generator, recording: Recording, pool: list[Node]) -> Node | None:
    """One that NumPy agrees to, or None."""
    pick = lambda: pool[int(len(pool) * (1 - rng.random() ** 2) * 0.999)]  # noqa: E731  # later ones more often
    kind = str(rng.choice(KINDS))
    a, b, c = pick(), pick(), pick()
    try:
        if kind == "unary":
            return recording.ufunc(str(rng.choice(UNARY)), a)
        if kind == "binary":
            return recording.ufunc(str(rng.choice(BINARY)), a, b)
        if kind == "where":
            return recording.ufunc("where", recording.ufunc("less", c, a), a, b)
        if kind == "astype":
            wanted = rng.choice(["float32", "float64"]) if rng.random() < 0.5 else a.dtype
            return recording.add("ufunc", a, options=("astype", np.dtype(wanted)))
        if kind == "reduce" and a.dtype is not None:
            axes = tuple(int(i) for i in np.flatnonzero(rng.random(len(a.shape)) < 0.5))
            return recording.add("reduce", a, options=(str(rng.choice(REDUCTIONS)), axes, bool(rng.random() < 0.5)))
        if kind == "matmul":
            return recording.add("matmul", a, b)
        if kind == "view" and a.dtype is not None:
            return random_view(rng, recording, a)
        if kind == "call":
            return recording.call([np.cumsum, np.ravel, doubled, as_it_is][rng.integers(4)], a)
        if kind == "again":
            node = recording.nodes[rng.integers(len(recording.nodes))]
            return recording.add(node.kind, *node.inputs, options=node.options) if node.kind == "ufunc" else None
    except (ValueError, TypeError, IndexError):
        return None
    return None


def doubled(a: Any) -> Any:
    return np.asarray(a) * 2


def as_it_is(a: Any) -> Any:
    """The array itself, if it is row-major."""
    return np.ascontiguousarray(a)


def random_view(rng: np.random.Generator, recording: Recording, a: Node) -> Node:
    kind = rng.choice(["reshape", "transpose", "broadcast_to", "getitem"])
    n = len(a.shape)
    if kind == "reshape":
        shapes = [(a.size,), (1, *a.shape), (*a.shape, 1), a.shape[::-1], a.shape]
        return recording.add("reshape", a, options=(shapes[rng.integers(len(shapes))],))
    if kind == "transpose":
        return recording.add("transpose", a, options=(tuple(int(i) for i in rng.permutation(n)),))
    if kind == "broadcast_to":
        return recording.add("broadcast_to", a, options=((2, *a.shape) if rng.random() < 0.5 else a.shape,))
    choices = [slice(None), slice(None, None, -1), slice(1, None), slice(None, None, 2), 0, None, Ellipsis]
    index = [choices[i] for i in rng.integers(0, len(choices), rng.integers(1, n + 1))] if n else [Ellipsis]
    return recording.add("getitem", a, options=(tuple(index),))
