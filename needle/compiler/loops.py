"""Writes the loops of a kernel as a plain Python function, which runs as it stands and which Numba compiles."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from .formulas import cast, cost, formula_of, is_number
from .ir import Node
from .kernel import Kernel, named
from .schedule import Level, Schedule
from .spaces import Space
from .totals import REDUCTIONS, combination, start_of, total_dtype

INDENT = "    "
COSTLY = 20  # from here on a function gets a loop for itself
WIDE = 32  # in rows of at least so many columns


def write_kernel(nodes: list[Node], space: Space, cut: int, results: list[Node]) -> Kernel:
    """The kernel of these nodes, whose values in `results` (and some more) come out."""
    return _Writer(Schedule(nodes, space, cut, results)).kernel()


class _Writer:
    def __init__(self, schedule: Schedule):
        self.s = schedule
        self.cut, self.space = schedule.cut, schedule.space
        self.names: dict[Node, str] = {}
        for place, node in enumerate(schedule.leaves):
            self.names[node] = f"{'n' if is_number(node) else 'x'}{place}"
        for place, node in enumerate(schedule.nodes):
            self.names[node] = f"v{place}"
        self.outs = {node: f"y{place}" for place, node in enumerate(schedule.results)}
        self.at = "i, j" if self.cut else "j"
        self.lines: list[str] = []
        # What is being written: the level, whether in the loop over columns at its start, what that loop computed
        self.level: Level = (0, 0)
        self.in_columns = False
        self.local: set[Node] = set()

    def kernel(self) -> Kernel:
        for phase in self.s.phases():
            self._phase(phase)
        names = [self.names[node] for node in self.s.leaves] + [*self.outs.values()]
        body = self._head() + self.lines
        text = f"def kernel({', '.join(names)}):\n" + "".join(f"{INDENT}{line}\n" for line in body)
        arrays = [node for node in [*self.s.leaves, *self.s.results] if not is_number(node)]
        size = sum(node.size * node.dtype.itemsize for node in arrays if node.dtype)
        flops = sum(cost(node) * max(node.size, *(x.size for x in node.inputs)) for node in self.s.nodes if node.inputs)
        leaves = [(None if is_number(n) else _name(n), len(n.shape), False) for n in self.s.leaves]
        parameters = (*leaves, *((_name(n), len(n.shape), True) for n in self.s.results))
        made = Kernel("kernel", text, self.s.leaves, self.s.results, self.s.nodes, parameters, size, flops)
        return named(replace(made, in_place=self._in_place()))

    def _in_place(self) -> list[tuple[int, int]]:
        """In a single loop over full arrays each element is read before it is written."""
        if any(self.s.kind[node] != "full" or self.s.at[node] != (0, 0) for node in self.s.nodes):
            return []
        leaves = [(place, leaf) for place, leaf in enumerate(self.s.leaves) if self.s.kind[leaf] == "full"]
        return [(r, place) for r, result in enumerate(self.s.results) for place, leaf in leaves
                if (leaf.shape, leaf.dtype) == (result.shape, result.dtype)]  # fmt: skip

    # The head: sizes, arrays as rows and columns, numbers in their dtypes, arrays that are needed inside

    def _head(self) -> list[str]:
        lines = self._sizes()
        for node in [*self.s.leaves, *self.s.results]:
            lines.extend(self._viewed(node, self.outs.get(node, self.names[node])))
        if any("padded" in line for line in self.lines):
            lines.append("padded = (cols + 15) // 16 * 16")
        lines += [f"s{self.names[n]} = zeros(padded, {_scratch(n)})" if self._is_padded(n) else
                  f"s{self.names[n]} = empty(cols, {_scratch(n)})" for n in self.s.scratch]  # fmt: skip
        lines += [f"c{self.names[n]} = empty(cols, {_scratch(n)})" for n in self.s.nodes if self._waits_in_columns(n)]
        text = "\n".join(self.lines)
        pattern = r"\b(float32|float64|int\d+|uint8)\((n\d+)\)"
        casts = sorted(set(re.findall(pattern, text)), key=lambda cast: (cast[0], int(cast[1][1:])))
        lines += [f"{number}_{dtype} = {dtype}({number})" for dtype, number in casts]
        self.lines = [re.sub(pattern, r"\2_\1", line) for line in self.lines]
        return lines

    def _is_padded(self, node: Node) -> bool:
        return node in self._alone(self.s.at[node])

    def _sizes(self) -> list[str]:
        rows, columns = self.space.axes[: self.cut], self.space.axes[self.cut :]
        lines = [f"rows = {self._extent(rows)}"] if self.cut else []
        return [*lines, f"cols = {self._extent(columns) if columns else 1}"]

    def _extent(self, axes: list) -> str:
        """The product of the sizes of these axes, from the shape of an array."""
        for node in [*self.s.leaves, *self.s.results]:
            text = self._extent_in(node, axes)
            if text:
                return text
        return str(math.prod(axis.size for axis in axes))

    def _extent_in(self, node: Node, axes: list) -> str:
        label, name = self.space.labels[node], self.outs.get(node, self.names[node])
        dims = [dim for dim, part in enumerate(label) if part and set(part) <= set(axes)]
        if not dims or [axis for dim in dims for axis in label[dim]] != axes:
            return ""
        return " * ".join(f"{name}.shape[{dim}]" for dim in dims)

    def _viewed(self, node: Node, name: str) -> list[str]:
        kind, label = self.s.kind[node], self.space.labels[node]
        if is_number(node) or not node.shape:
            return []
        if not any(label):
            return [f"{name} = {name}.reshape(1){'' if node in self.outs else '[0]'}"]
        wanted = {"full": "rows, cols" if self.cut else "cols", "row": "rows", "column": "cols"}.get(kind)
        if kind == "cycle":
            inner = [axis for part in label for axis in part if axis in self.space.axes[: self.cut]]
            period = self._extent_in(node, inner) or str(math.prod(axis.size for axis in inner))
            return [f"p_{name} = {period}", f"{name} = {name}.reshape(p_{name}, cols)"]
        assert wanted is not None
        rows, columns = tuple(self.space.axes[: self.cut]), tuple(self.space.axes[self.cut :])
        as_it_is = {"full": (rows, columns) if self.cut else (columns,), "row": (rows,), "column": (columns,)}[kind]
        return [] if label == as_it_is else [f"{name} = {name}.reshape({wanted})"]

    def _waits_in_columns(self, node: Node) -> bool:
        return self.s.kind[node] == "column" and node not in self.outs and self.s.in_columns(node)

    # The loops of a phase

    def _phase(self, phase: int) -> None:
        self.level = (phase, 0)
        for node in self.s.nodes:
            if self.s.kind[node] == "scalar" and self.s.ready[node] == (phase, 0):
                self._scalar(node)
        self.in_columns = True
        self._columns(phase)
        self.in_columns = False
        self._rows(phase)

    def _add(self, depth: int, *lines: str) -> None:
        self.lines += [INDENT * depth + line for line in lines]

    def _scalar(self, node: Node) -> None:
        name = self.names[node]
        self._add(0, f"{name} = {self._total(node) if self.s.reduces(node) else self._formula(node)}")
        if node in self.outs:
            self._add(0, f"{self.outs[node]}[{'0' if node.shape else '()'}] = {name}")

    def _columns(self, phase: int) -> None:
        """What is one number for each column, then sums of those."""
        s, lines = self.s, []
        for node in s.nodes:
            if s.kind[node] == "column" and s.ready[node][0] == phase:
                lines.append(f"{self.names[node]} = {self._total(node) if s.reduces(node) else self._formula(node)}")
                if node in self.outs or self._waits_in_columns(node):
                    lines.append(f"{self._column(node)} = {self.names[node]}")
        for node in s.nodes:
            if s.reduces(node) and s.kind[node.inputs[0]] == "column" and s.at[node][0] == phase:
                self._add(0, f"a{self.names[node]} = {start_of(node)}")
                lines.append(self._accumulate(node))
        if lines:
            self._add(0, "for j in range(cols):")
            self._add(1, *lines)

    def _rows(self, phase: int) -> None:
        levels = self.s.levels(phase)
        for node in self.s.nodes:
            if self._sums_down(node) and self.s.at[node][0] == phase:
                start = start_of(node)
                value = f"full(cols, {start})" if self.s.kind[node] == "column" else start
                self._add(0, f"a{self.names[node]} = {value}")
        before, self.lines = self.lines, []
        for level in levels:
            self.level = level
            self._row_values(level)
            self._inner(level)
        loop = ["for i in range(rows):", *self._rows_that_return()] if self.cut and self.lines else []
        self.lines = before + loop + self.lines

    def _rows_that_return(self) -> list[str]:
        """The rows of operands that begin again after some: looked up once a row, so that the loops vectorise."""
        names = [self.names[node] for node, kind in self.s.kind.items() if kind == "cycle"]
        used = [name for name in names if any(f"r{name}[j]" in line for line in self.lines)]
        return [f"    r{name} = {name}[i % p_{name}]" for name in used]

    def _sums_down(self, node: Node) -> bool:
        return self.s.reduces(node) == "down" and self.s.kind[node.inputs[0]] != "column"

    def _row_values(self, level: Level) -> None:
        """What is one number for the row."""
        depth = 1 if self.cut else 0
        for node in self.s.nodes:
            if self.s.at[node] != level:
                continue
            if self.s.kind[node] == "row" and not self.s.reduces(node):
                self._add(depth, f"{self.names[node]} = {self._formula(node)}")
                self._give_row(node, depth)
            if self._sums_down(node) and self.s.kind[node.inputs[0]] == "row":
                self._add(depth, self._accumulate(node))

    def _give_row(self, node: Node, depth: int) -> None:
        if node in self.outs:
            place = "i" if self.cut else "0" if node.shape else "()"
            self._add(depth, f"{self.outs[node]}[{place}] = {self.names[node]}")

    def _inner(self, level: Level) -> None:
        """The loops over the columns of a row."""
        s, depth = self.s, 1 if self.cut else 0
        sums = [n for n in s.nodes if s.reduces(n) and s.kind[n.inputs[0]] == "full" and s.at[n] == level]
        along = [node for node in sums if s.reduces(node) == "along"]
        nodes = s.computed(level)
        alone = self._alone(level)
        for node in alone:
            self._loop_alone(node, nodes, alone, depth)
        kept = [node for node in nodes if s.at[node] == level and s.waits(node) and node not in alone]
        body = self._needed([*kept, *(node.inputs[0] for node in sums)], nodes, alone)
        self._add(depth, *(f"a{self.names[node]} = {start_of(node)}" for node in along))
        if body or sums:
            self._add(depth, "for j in range(cols):")
            self._statements(body, depth + 1)
            self._add(depth + 1, *(self._accumulate(node) for node in sums))
            self._add(depth + 1, *(f"{self._store(node)} = {self.names[node]}" for node in kept))
        self.local = set()
        for node in along:
            self._add(depth, f"{self.names[node]} = {self._total(node)}")
            self._give_row(node, depth)

    def _alone(self, level: Level) -> list[Node]:
        """Costly functions whose values wait for a later stage. They get a loop for themselves, over whole vectors of
        numbers: what is left of a short row beyond them would be taken one by one."""
        if not self.cut or math.prod(axis.size for axis in self.space.axes[self.cut :]) < WIDE:
            return []
        nodes = [node for node in self.s.scratch if self.s.at[node] == level and cost(node) >= COSTLY]
        alike = [n for n in nodes if len(n.inputs) == 1 and n.inputs[0].dtype == n.dtype]
        return sorted((n for n in alike if self.s.kind[n.inputs[0]] == "full"), key=self.s.nodes.index)

    def _loop_alone(self, node: Node, nodes: list[Node], alone: list[Node], depth: int) -> None:
        x, place = node.inputs[0], self._store(node)
        self._add(depth, "for j in range(cols):")
        self._statements(self._needed([x], nodes, alone), depth + 1)
        self._add(depth + 1, f"{place} = {self._read(x)}")
        self._add(depth, "for j in range(padded):")
        self._add(depth + 1, f"{place} = {formula_of(node, [place])}")

    def _needed(self, targets: list[Node], nodes: list[Node], known: list[Node]) -> list[Node]:
        """Those of `nodes` that the targets need, when some are known."""
        needed = set(targets)
        for node in reversed(nodes):
            if node in needed and node not in known:
                needed.update(node.inputs)
        return [node for node in nodes if node in needed and node not in known]

    def _statements(self, nodes: list[Node], depth: int) -> None:
        self.local = set(nodes)
        self._add(depth, *(f"{self.names[node]} = {self._formula(node)}" for node in nodes))

    # Values

    def _store(self, node: Node) -> str:
        return f"{self.outs[node]}[{self.at}]" if node in self.outs else f"s{self.names[node]}[j]"

    def _column(self, node: Node) -> str:
        return f"{self.outs[node]}[j]" if node in self.outs else f"c{self.names[node]}[j]"

    def _read(self, node: Node) -> str:
        kind, name = self.s.kind[node], self.names[node]
        if node in self.local or kind == "scalar":
            return name
        if node not in self.s.inside:
            full = f"{name}[{self.at}]"
            return {"full": full, "row": f"{name}[i]", "column": f"{name}[j]", "cycle": f"r{name}[j]"}[kind]
        since = self.s.ready[node][0]
        if kind == "full":
            return self._store(node)
        if kind == "row":
            return f"{self.outs[node]}[i]" if self.cut and self.level[0] > since else name
        return name if self.in_columns and self.level[0] == since else self._column(node)

    def _formula(self, node: Node) -> str:
        operands = [self._read(x) for x in node.inputs]
        if node.kind == "ufunc":
            return formula_of(node, operands)
        assert node.dtype is not None
        return cast(operands[0], node.inputs[0].dtype, node.dtype)

    def _accumulate(self, node: Node) -> str:
        x, dtype = node.inputs[0], total_dtype(node)
        total = f"a{self.names[node]}" + ("[j]" if self.s.kind[node] == "column" else "")
        return f"{total} = {combination(node).format(total, cast(self._read(x), x.dtype, dtype))}"

    def _total(self, node: Node) -> str:
        """What the sum comes to in the end, in the dtype of the node."""
        dtype, assumed = total_dtype(node), node.dtype
        assert assumed is not None
        text = f"a{self.names[node]}" + ("[j]" if self.s.kind[node] == "column" else "")
        if REDUCTIONS[node.options[0]] == "mean":
            text = f"{text} / {self._count(node)}"
        return cast(text, dtype, assumed)

    def _count(self, node: Node) -> str:
        gone = set(self.space.places(node.inputs[0])) - set(self.space.places(node))
        parts = ["rows"] * any(place < self.cut for place in gone) + ["cols"] * any(p >= self.cut for p in gone)
        return f"({' * '.join(parts)})" if len(parts) > 1 else parts[0]


def _name(node: Node) -> str:
    assert node.dtype is not None
    return node.dtype.name


def _scratch(node: Node) -> str:
    return "bool_" if node.dtype == bool else _name(node)
