"""Merges elementwise nodes and reductions into kernels: loops that read each array once and keep the rest in registers.

Groups grow along edges of the graph, as long as their nodes share one space of rows and columns (`spaces.py`) and no
path leaves a group and comes back. `loops.py` writes a group's loops.
"""

from __future__ import annotations

from collections.abc import Iterable

from .formulas import fusable
from .ir import SOURCES, Graph, Node, ordered
from .kernel import Kernel
from .loops import write_kernel
from .spaces import Space, cuts, joined, space_of
from .transposes import move_transposes


class Group:
    """Nodes of one kernel, in the order of the graph, in one space."""

    def __init__(self, nodes: list[Node], space: Space):
        self.nodes, self.space = nodes, space

    def cuts(self) -> set[int]:
        inside = set(self.nodes)
        leaves = {node for node in self.space.labels if node not in inside}
        return cuts(self.space, leaves, [node for node in self.nodes if node.kind == "reduce"])


class Groups:
    """Which group each node is in, and who uses whom."""

    def __init__(self, graph: Graph):
        self.place = {node: place for place, node in enumerate(graph.nodes)}
        self.users: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
        for node in graph.nodes:
            for x in dict.fromkeys(node.inputs):
                self.users[x].append(node)
        self.before = _one_after_another(graph)
        for node, earlier in self.before.items():
            self.users[earlier].append(node)
        self.of: dict[Node, Group] = {}
        for node in graph.nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Puts a node into a group of its own, then merges it with those of its inputs."""
        space = space_of(node) if fusable(node) else None
        if space is None:
            return
        self.of[node] = Group([node], space)
        for x in node.inputs:
            if x in self.of and self.of[x] is not self.of[node]:
                self.merge(self.of[x], self.of[node])

    def merge(self, a: Group, b: Group) -> None:
        space = joined(a.space, b.space)
        if space is None:
            return
        both = Group(sorted([*a.nodes, *b.nodes], key=self.place.__getitem__), space)
        if both.cuts() and not self.comes_back(both):
            self.of.update(dict.fromkeys(both.nodes, both))

    def comes_back(self, group: Group) -> bool:
        """Whether a path, other groups taken as one node each, leaves the group and enters it again."""
        inside, last = set(group.nodes), self.place[group.nodes[-1]]
        waiting = [user for node in group.nodes for user in self.users[node] if user not in inside]
        seen: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in inside:
                return True
            if node in seen:
                continue
            other = self.of.get(node)
            members = other.nodes if other else [node]
            seen.update(members)
            if self.place[members[0]] < last:
                waiting.extend(user for member in members for user in self.users[member])
        return False

    def worthwhile(self) -> list[Group]:
        """Groups of more than one computing node, and numpy.where, which takes no place for its result."""
        return [group for group in dict.fromkeys(self.of.values()) if _pays(group)]


def fuse(graph: Graph) -> Graph:
    """The graph with nodes of kind "kernel" in place of groups, and of kind "part" where one gives several results."""
    graph = move_transposes(graph)
    groups = Groups(graph)
    wanted = set(graph.outputs)
    replaced: dict[Node, Node] = {}
    made: list[Node] = []
    chosen = [_trimmed(group, groups, wanted) for group in groups.worthwhile()]
    home = {node: group for group in chosen for node in group.nodes}
    for unit in _in_order(graph.nodes, home, groups.before):
        if isinstance(unit, Group):
            made.extend(_kernel_nodes(unit, groups, wanted, replaced))
        else:
            made.append(_rebuilt(unit, replaced))
    outputs = [replaced.get(node, node) for node in graph.outputs]
    return Graph(graph.inputs, outputs, ordered(made, [*outputs, *graph.inputs]))


def _pays(group: Group) -> bool:
    computing = [node for node in group.nodes if node.kind in ("ufunc", "reduce")]
    alone = any(
        node.options[0] == "where" for node in computing
    )  # as no grouping saw to it that it is rows and columns
    return len(computing) > 1 or (alone and bool(group.cuts()))


def _one_after_another(graph: Graph) -> dict[Node, Node]:
    """For each effect the one before it."""
    effects = [node for node in graph.nodes if node.effect]
    return dict(zip(effects[1:], effects, strict=False))


def _trimmed(group: Group, groups: Groups, wanted: set[Node]) -> Group:
    """Without the reshapes and broadcasts on its rim, which cost nothing outside."""
    inside = set(group.nodes)
    for node in reversed(group.nodes):
        if node.kind in ("reshape", "broadcast_to") and not any(user in inside for user in groups.users[node]):
            inside.discard(node)
    for node in group.nodes:
        if node.kind == "reshape" and node in inside and not any(x in inside for x in node.inputs):
            inside.discard(node)
    nodes = [node for node in group.nodes if node in inside]
    near = inside.union(*(node.inputs for node in nodes))
    return Group(nodes, Space(group.space.axes, {x: label for x, label in group.space.labels.items() if x in near}))


def _in_order(nodes: list[Node], home: dict[Node, Group], before: dict[Node, Node]) -> list[Node | Group]:
    """Nodes and groups, each after what it needs, effects one after another, otherwise in the order of the graph."""
    done: set[Node] = set()
    order: list[Node | Group] = []
    waiting = nodes[::-1]
    while waiting:
        node = waiting[-1]
        group = home.get(node)
        members = group.nodes if group else [node]
        missing = {x for m in members for x in (*m.inputs, *([before[m]] if m in before else []))} - done - set(members)
        if node in done or not missing:
            waiting.pop()
            if node not in done:
                done.update(members)
                order.append(group or node)
        else:
            waiting.extend(sorted(missing, key=nodes.index, reverse=True))
    return order


def _kernel_nodes(group: Group, groups: Groups, wanted: set[Node], replaced: dict[Node, Node]) -> Iterable[Node]:
    inside = set(group.nodes)
    results = [n for n in group.nodes if n in wanted or any(user not in inside for user in groups.users[n])]
    kernel = write_kernel(group.nodes, group.space, min(group.cuts()), results)
    inputs = tuple(replaced.get(x, x) for x in kernel.inputs)
    line = kernel.lines[0] if kernel.lines else ""
    single = kernel.results[0] if len(kernel.results) == 1 else None
    shape, dtype = (single.shape, single.dtype) if single else ((), None)
    node = Node("kernel", inputs, (kernel,), shape, dtype, kernel.label, line)
    if single:
        replaced[single] = node
        return [node]
    parts = [Node("part", (node,), (i,), x.shape, x.dtype, x.label, x.line) for i, x in enumerate(kernel.results)]
    replaced.update(zip(kernel.results, parts, strict=True))
    return [node, *parts]


def _rebuilt(node: Node, replaced: dict[Node, Node]) -> Node:
    if node.kind in SOURCES or not any(x in replaced for x in node.inputs):
        return node
    inputs = tuple(replaced.get(x, x) for x in node.inputs)
    new = Node(node.kind, inputs, node.options, node.shape, node.dtype, node.label, node.line)
    replaced[node] = new
    return new


__all__ = ["Kernel", "fuse"]
