"""When each node of a kernel is computed, and where its value waits for later loops.

A level is (phase, stage). A phase is one pass over all rows and ends with sums down the columns, which later phases
use; a stage is one pass over the columns of a row and ends with sums along the row, which later stages use.
"""

from __future__ import annotations

from .formulas import cost
from .ir import Node
from .spaces import Space

Level = tuple[int, int]
CHEAP = 8  # up to here computing again is faster than storing and loading


class Schedule:
    """kind: "full", "row", "column", "cycle" or "scalar"; at: the level of a node; uses: levels where it is read.
    scratch: full nodes that wait in an array of one row; results: nodes that come out, or wait in an array of their
    own for a later phase."""

    def __init__(self, nodes: list[Node], space: Space, cut: int, results: list[Node]):
        self.nodes, self.space, self.cut = nodes, space, cut
        self.inside = set(nodes)
        self.leaves = list(dict.fromkeys(x for node in nodes for x in node.inputs if x not in self.inside))
        self.kind = {node: self._kind(node) for node in [*self.leaves, *nodes]}
        self.at: dict[Node, Level] = {}
        self.ready: dict[Node, Level] = dict.fromkeys(self.leaves, (0, 0))
        for node in nodes:
            self._place(node)
        self.users: dict[Node, list[Node]] = {node: [] for node in [*self.leaves, *nodes]}
        for node in nodes:
            for x in dict.fromkeys(node.inputs):
                self.users[x].append(node)
        self.results = list(results)
        self.scratch: list[Node] = []
        self.uses: dict[Node, set[Level]] = {}
        weight = self._weights()
        for node in reversed(nodes):
            self._store(node, weight[node])

    def _kind(self, node: Node) -> str:
        places, count = self.space.places(node), len(self.space.axes)
        if not places:
            return "row" if not self.cut and node in self.inside else "scalar"
        if len(places) == count:
            return "full"
        if places[0] == 0:
            return "row"
        return "column" if places[0] == self.cut else "cycle"

    def reduces(self, node: Node) -> str:
        """ "along" rows, "down" the columns (to a number of each column, or one), or "" where nothing goes."""
        if node.kind != "reduce" or len(self.space.places(node)) == len(self.space.places(node.inputs[0])):
            return ""
        return "along" if self.kind[node] == "row" else "down"

    def _place(self, node: Node) -> None:
        phase, stage = self.at[node] = max((self.ready[x] for x in node.inputs), default=(0, 0))
        step = self.reduces(node)
        self.ready[node] = (phase, stage + 1) if step == "along" else (phase + 1, 0) if step else (phase, stage)

    def _weights(self) -> dict[Node, int]:
        """What computing a full node again would cost."""
        weight: dict[Node, int] = {}
        for node in self.nodes:
            weight[node] = cost(node) + sum(weight[x] for x in node.inputs if self.kind[x] == "full" and x in weight)
        return weight

    def _store(self, node: Node, weight: int) -> None:
        uses: set[Level] = set()
        for user in self.users[node]:
            again = self.kind[user] == "full" and not self.waits(user) and not self.reduces(user)
            uses |= {self.at[user]} | (self.uses[user] if again else set())
        self.uses[node] = uses
        later = {level for level in uses if level > self.at[node]} if not self.reduces(node) else set()
        if self.kind[node] == "full" and later and node not in self.results and weight > CHEAP:
            same_phase = all(phase == self.at[node][0] for phase, _ in later)
            (self.scratch if same_phase else self.results).append(node)
        other_phase = any(phase > self.ready[node][0] for phase, _ in uses)
        if self.kind[node] == "row" and self.cut and other_phase and node not in self.results:
            self.results.append(node)

    def waits(self, node: Node) -> bool:
        return node in self.results or node in self.scratch

    def in_columns(self, node: Node) -> bool:
        """Whether a node of kind column needs an array: beyond the loop over columns that computes it."""
        home = self.ready[node][0]
        return any(self.kind[user] == "full" or self.at[user][0] != home for user in self.users[node])

    def computed(self, level: Level) -> list[Node]:
        """Full nodes computed in the inner loop of this level, for the first time or again."""
        return [n for n in self.nodes if self.kind[n] == "full" and self._computes(n, level)]

    def _computes(self, node: Node, level: Level) -> bool:
        if self.at[node] == level:
            return self.waits(node) or level in self.uses[node]
        return self.at[node] < level and not self.waits(node) and level in self.uses[node]

    def levels(self, phase: int) -> list[Level]:
        """Of the loop over rows."""
        here = {self.at[node] for node in self.nodes if self.kind[self._body(node)] in ("full", "row")}
        return sorted(level for level in here if level[0] == phase)

    def _body(self, node: Node) -> Node:
        """In whose loop it is computed: a reduction in its operand's."""
        return node.inputs[0] if self.reduces(node) else node

    def phases(self) -> range:
        return range(1 + max(phase for phase, _ in [*self.at.values(), *self.ready.values()]))
