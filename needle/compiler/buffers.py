"""Decides where each value lies: in memory that every call reuses, in a new array, or in an array that was given.

Values of one call that are never needed at once share memory. A view keeps the memory that it shows; what a function
returns may show its arguments; outputs are never in reused memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy

from .ir import VIEWS, Graph, Node
from .layouts import REDUCTIONS, is_view, layouts
from .simplify import same_dtype

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


@dataclass
class Plan:
    """What `emit` needs to know beyond the graph. Offsets, strides and size are in bytes."""

    like: dict[Node, numpy.ndarray]  # how each value lies, see layouts.py
    size: int = 0  # of the memory in which the buffers lie
    offsets: dict[Node, int] = field(default_factory=dict)  # a node with a buffer, and where the buffer begins
    fixed: set[Node] = field(default_factory=set)  # those nodes, and views of them: arrays that are made once
    dead: dict[Node, list[Node]] = field(default_factory=dict)  # whose buffers nobody needs after a node
    new: set[Node] = field(default_factory=set)  # whose arrays are made anew at each call, to be given away
    owned: list[bool] = field(default_factory=list)  # for each output: whether it lies in such an array
    direct: dict[Node, Node] = field(default_factory=dict)  # an output, and the input that it may be written over
    merged: dict[Node, dict[int, int]] = field(default_factory=dict)  # a kernel: its results written over its inputs
    late: dict[int, Node] = field(default_factory=dict)  # place of an output, and the input that gets a copy of it

    def strides(self, node: Node) -> tuple[int, ...]:
        return tuple(step * itemsize(node) for step in self.like[node].strides)

    def show(self, graph: Graph) -> str:
        """One line a buffer, and what is written over the inputs."""
        names = {node: f"%{i}" for i, node in enumerate(graph.nodes)}
        alone = sum(nbytes(node) for node in self.offsets)
        lines = [f"{len(self.offsets)} values of {alone} bytes share {self.size} bytes of memory"]
        for node, offset in self.offsets.items():
            lines.append(f"{names[node]} lies in bytes {offset} to {offset + nbytes(node)}")
        lines += [f"{names[x]} is written over {names[y]}, if that is donated" for x, y in self.direct.items()]
        for i, y in self.late.items():
            lines.append(f"{names[graph.outputs[i]]} is copied to {names[y]} in the end, if that is donated")
        return "\n".join(lines)


def itemsize(node: Node) -> int:
    return node.dtype.itemsize if node.dtype is not None else 0


def nbytes(node: Node) -> int:
    return node.size * itemsize(node)


def plan(graph: Graph, destinations: dict[int, int] | None = None) -> Plan:
    """Where each value lies. destinations: place of an output -> place of the input that it may be written over."""
    made = Plan(like=layouts(graph))
    roots = _roots(graph, made)
    last = _last_uses(graph, roots)
    _outputs(graph, roots, made)
    _destinations(graph, last, destinations or {}, made)
    _buffers(graph, roots, last, made)
    return made


def is_written(node: Node, like: dict[Node, numpy.ndarray]) -> bool:
    """Whether NumPy, or a kernel, can be told where to write this value."""
    if node.dtype is None or node.dtype.hasobject:
        return False
    if node.kind == "ufunc":
        return node.options[0] != "where"
    if node.kind == "reduce":
        return node.options[0] in REDUCTIONS
    if node.kind == "part":
        return node.inputs[0].kind == "kernel"
    if node.kind == "reshape":  # one that has to copy
        return not is_view(node, like)
    return node.kind in ("matmul", "kernel")


def results_of(graph: Graph) -> dict[Node, list[Node]]:
    """The nodes that each node writes: itself, but a kernel of several results its parts."""
    found: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node.kind == "part" and node.inputs[0].kind == "kernel":
            found[node.inputs[0]].append(node)
        else:
            found[node] = [node] if node.kind != "kernel" or node.dtype is not None else []
    return found


def completed(graph: Graph) -> Graph:
    """With what nobody uses but a call has: inputs, and results of kernels, which write all of them."""
    parts = {node: results for node, results in results_of(graph).items() if node.kind == "kernel"}
    there = set(graph.nodes)
    nodes = [node for node in graph.inputs if node not in there]
    for node in graph.nodes:
        if node.kind != "part" or node.inputs[0] not in parts:
            nodes.append(node)
        if node in parts and node.dtype is None:
            known = {part.options[0]: part for part in parts[node]}
            results = enumerate(node.options[0].results)
            nodes += [known.get(i) or Node("part", (node,), (i,), x.shape, x.dtype, x.label) for i, x in results]
    return Graph(graph.inputs, graph.outputs, nodes)


# --- who needs whose memory -----------------------------------------------------------------------------------------


def _roots(graph: Graph, made: Plan) -> dict[Node, frozenset[Node]]:
    """For each node those whose memory its value may lie in."""
    roots: dict[Node, frozenset[Node]] = {}
    for node in graph.nodes:
        view = is_view(node, made.like)
        unknown = node.kind in ("call", "part") and not is_written(node, made.like)
        own = () if view else (node,)
        roots[node] = frozenset(own).union(*(roots[x] for x in node.inputs if view or unknown))
    return roots


def _last_uses(graph: Graph, roots: dict[Node, frozenset[Node]]) -> dict[Node, int]:
    """For each node the place of the last node that reads its memory."""
    last = {node: i for i, node in enumerate(graph.nodes)}
    for i, node in enumerate(graph.nodes):
        for x in node.inputs:
            last.update((root, i) for root in roots[x])
    return last


# --- outputs --------------------------------------------------------------------------------------------------------


def _outputs(graph: Graph, roots: dict[Node, frozenset[Node]], made: Plan) -> None:
    """An output is given away as it is if its array is new at each call and no other output lies in it."""
    given: set[Node] = set()
    for node in graph.outputs:
        new = all(_is_new(root, made.like) and root.size == node.size for root in roots[node])
        made.owned.append(new and not roots[node] & given and not _is_broadcast(node))
        given |= roots[node]
        if made.owned[-1]:
            made.new |= roots[node]


def _is_new(node: Node, like: dict[Node, numpy.ndarray]) -> bool:
    return is_written(node, like) or node.kind in ("ufunc", "reduce", "random")


def _is_broadcast(node: Node) -> bool:
    """Whether a broadcast, which is read-only, lies between the node and the array that it shows."""
    while node.kind in VIEWS:
        if node.kind == "broadcast_to":
            return True
        node = node.inputs[0]
    return False


def _destinations(graph: Graph, last: dict[Node, int], destinations: dict[int, int], made: Plan) -> None:
    """An input may be written over by the node itself if nobody reads it later; else it gets a copy in the end."""
    if len(set(destinations.values())) < len(destinations):
        raise ValueError(f"two outputs cannot be written over one input: destinations {destinations}")
    at = {node: i for i, node in enumerate(graph.nodes)}
    for place, source in destinations.items():
        node, target = graph.outputs[place], graph.inputs[source]
        if node.shape != target.shape or not same_dtype(node.dtype, target.dtype):
            raise ValueError(
                f"output {place} is {node.dtype} {node.shape} and cannot be written over input {source} "
                f"({target.label}), which is {target.dtype} {target.shape}"
            )
        writer = node.inputs[0] if node.kind == "part" else node
        if not made.owned[place] or node not in made.new or not is_written(node, made.like):
            made.late[place] = target
        elif last[target] < at[writer] or (last[target] == at[writer] and _may_write_over(writer, node, target, made)):
            made.direct[node] = target
        else:
            made.late[place] = target


def _may_write_over(writer: Node, node: Node, target: Node, made: Plan) -> bool:
    """Whether the writer may read the target and write there: a ufunc may, a kernel as it says."""
    if writer.kind != "kernel":
        return writer.kind == "ufunc"
    result = node.options[0] if node.kind == "part" else 0
    for place, x in enumerate(writer.inputs):
        if x is target and writer.inputs.count(x) == 1 and (result, place) in writer.options[0].in_place:
            made.merged.setdefault(writer, {})[result] = place
            return True
    return False


# --- buffers --------------------------------------------------------------------------------------------------------


def _buffers(graph: Graph, roots: dict[Node, frozenset[Node]], last: dict[Node, int], made: Plan) -> None:
    """Goes through the nodes in order and gives each the lowest bytes that are free then."""
    results = results_of(graph)
    live: dict[Node, tuple[int, int]] = {}  # a buffer in use: its first byte, and the one behind its last
    for i, node in enumerate(graph.nodes):
        for new in results.get(node, ()):
            if is_written(new, made.like) and new not in made.new:
                _place(new, _taken_over(new, i, roots, last, live, made), live, made)
        if is_view(node, made.like) and node.inputs[0] in made.fixed:
            made.fixed.add(node)
        made.dead[node] = [x for x in live if last[x] <= i]
        for x in made.dead[node]:
            del live[x]


def _place(node: Node, taken_over: Node | None, live: dict[Node, tuple[int, int]], made: Plan) -> None:
    size = max(nbytes(node), 1)
    start = live.pop(taken_over)[0] if taken_over else _first_gap(live, size)
    live[node] = start, start + size
    made.offsets[node] = start
    made.size = max(made.size, start + size)
    made.fixed.add(node)


def _first_gap(live: dict[Node, tuple[int, int]], size: int) -> int:
    """The lowest aligned offset at which `size` bytes are free."""
    free = 0
    for start, end in sorted(live.values()):
        if start - free >= size:
            break
        free = max(free, -(-end // ALIGNMENT) * ALIGNMENT)
    return free


def _taken_over(node: Node, i: int, roots: dict, last: dict, live: dict, made: Plan) -> Node | None:
    """A buffer that a ufunc reads for the last time, element by element where it writes its result."""
    if node.kind != "ufunc":
        return None
    for x in node.inputs:
        for root in roots[x] & live.keys():
            readers = [y for y in node.inputs if root in roots[y]]
            if last[root] == i and all(_is_same_place(y, node, root, made.like) for y in readers):
                return root
    return None


def _is_same_place(x: Node, node: Node, root: Node, like: dict[Node, numpy.ndarray]) -> bool:
    """Whether each element of x, which lies in root's buffer, lies where that of the node would."""
    same = x.shape == node.shape and like[x].strides == like[node].strides and same_dtype(root.dtype, node.dtype)
    while same and x is not root:
        same = x.kind in ("reshape", "transpose")
        x = x.inputs[0]
    return same
