"""Writes a planned graph as one Python module: NumPy calls with their results' places, one line a node.

    allocate()                              makes the arrays that every call reuses
    step(inputs, buffers, draw, donate)     computes the outputs

`t7` is node %7 of the last printed graph. The text runs under NumPy alone; arrays and functions that have no short
text are given to it by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy

from ..kernels import vector_math
from .buffers import Plan, is_written, results_of
from .ir import Graph, Node
from .kernel import plain_names
from .layouts import REDUCTIONS, is_view
from .show import function_text, index_text
from .source import CHECKED, HEADER, UNSHARED, Line, Source
from .text import Texts, dtype_text

OUT_BY_NAME = ("numpy.maximum", "numpy.minimum")  # which want no third argument without a name


def emit(graph: Graph, plan: Plan, poison: bool = False) -> Source:
    """The program. poison: fill each buffer with NaN or the like when nobody needs it any more."""
    return _Emitter(graph, plan, poison).source()


class _Emitter:
    def __init__(self, graph: Graph, plan: Plan, poison: bool):
        self.graph, self.plan, self.poison = graph, plan, poison
        self.names = {node: f"t{i}" for i, node in enumerate(graph.nodes)}
        self.texts = Texts(self.names)
        self.result_names: list[str] = []
        self.copies: dict[Node, list[str]] = {}
        self.helpers: list[str] = []
        self.kernels = merged_kernels(graph, plan)
        self.results = results_of(graph)
        self.arrays: dict[str, str] = {}  # where a buffer lies, and its first name
        self._name_results()

    def source(self) -> Source:
        lines: list[Line] = []
        for node in self.graph.nodes:
            lines += self._lines(node)
        lines = _commented(lines)
        allocate = self._allocate()
        opening, closing = self._opening(), self._closing()
        kernels = list({kernel.name: kernel for kernel in self.kernels.values()}.values())
        return Source(self._head() + allocate, opening, lines, closing, self.texts.given, kernels)

    # --- around the nodes ---

    def _head(self) -> str:
        given = [f"# {name}: {told}\n" for name, told in self.texts.told.items()]
        kernels = {kernel.name: kernel.source for kernel in self.kernels.values()}
        comment = ["\n# Given by name when the module is loaded:\n", *given] if given else []
        made = [f"\n{name} = {text}" for name, text in self.texts.defined.items()]
        functions = [f"\n\n{text.strip()}\n" for text in kernels.values()]
        helpers = [f"\n{text}" for text in self.helpers]
        head = [HEADER, kernel_imports(kernels.values()), *comment, *made, "\n" if made else ""]
        return "".join([*head, *helpers, *functions])

    def _allocate(self) -> str:
        """The function that makes buffers and the views of them."""
        if not self.plan.fixed:
            return "\n\ndef allocate():\n    return ()\n"
        fixed = [node for node in self.graph.nodes if node in self.plan.fixed]
        lines = [f'    memory = numpy.empty({self.plan.size + 63}, "uint8")\n']
        lines.append('    memory = memory[-memory.__array_interface__["data"][0] % 64 :]\n')
        names = []
        for node in fixed:
            for name, text in self._made_once(node):
                lines.append(f"    {name} = {text}\n")
                names.append(name)
        self.fixed_names = names
        doc = '    """The arrays that every call reuses; those that are never needed at once share memory."""\n'
        return "\n\ndef allocate():\n" + doc + "".join(lines) + f"    return {_tuple(names)}\n"

    def _made_once(self, node: Node) -> list[tuple[str, str]]:
        name = self.names[node]
        if node not in self.plan.offsets:
            return [(name, self._view(node))]
        strides = self.plan.strides(node)
        usual = not node.size or strides == numpy.empty(node.shape, node.dtype).strides
        where = f"{node.shape}, {dtype_text(node.dtype)}, memory, {self.plan.offsets[node]}"
        where += "" if usual else f", {strides}"
        # NumPy sees at once that a result is the very array of an operand; another array there costs it 0.2 µs.
        same = self.arrays.setdefault(where, name)
        made = [(name, f"numpy.ndarray({where})" if same == name else same)]
        if node.kind == "reshape":
            made.append((f"{name}_as_before", f"{name}.reshape({node.inputs[0].shape})"))
        return made

    def _opening(self) -> list[str]:
        inputs = _tuple([self.names[node] for node in self.graph.inputs])
        fixed = _tuple(self.fixed_names) if self.plan.fixed else "()"
        opening = [f"{inputs} = inputs"] if self.graph.inputs else []
        wanted = {x for node in self.kernels for x in (*node.inputs, *self.plan.direct.values())}
        dense = [self.names[x] for x in self.graph.inputs if x in wanted and x.shape]
        opening += [f"{name} = numpy.ascontiguousarray({name})" for name in dense]
        return [*opening, *([f"{fixed} = buffers"] if self.plan.fixed else [])]

    def _closing(self) -> list[str]:
        closing = []
        for place, target in self.plan.late.items():
            name, over = self.result_names[place], self.names[target]
            closing += ["if donate:", f"    {over}[...] = {name}"]
            self.result_names[place] = f"{over} if donate else {name}"
        return [*closing, f"return [{', '.join(self.result_names)}]"]

    def _name_results(self) -> None:
        for place, (node, owned) in enumerate(zip(self.graph.outputs, self.plan.owned, strict=True)):
            if owned or node.dtype is None:
                self.result_names.append(self.texts.operand(node))
            else:
                self.result_names.append(f"r{place}")
                self.copies.setdefault(node, []).append(f"r{place}")

    # --- nodes ---

    def _lines(self, node: Node) -> list[Line]:
        found = self._computed(node)
        lines = [Line(text, node, main=i == len(found) - 1) for i, text in enumerate(found)]
        lines += [Line(f"{r} = {self._copy(node, i)}", node, False) for i, r in enumerate(self.copies.get(node, ()))]
        if self.poison:
            lines += [Line(f"{self.names[x]}[...] = {_poison(x)}", node, False) for x in self.plan.dead[node]]
        return lines

    def _copy(self, node: Node, i: int) -> str:
        """A copy for an output. A function's result needs none, the first time, if it is its own."""
        name = self.texts.operand(node)
        owner = node.inputs[0] if node.kind == "part" else node
        if owner.kind != "call" or i > 0:
            return f"{name}.copy()"
        if UNSHARED not in self.helpers:
            self.helpers.append(UNSHARED)
        return f"unshared({', '.join([name, *(self.texts.operand(x) for x in owner.inputs)])})"

    def _computed(self, node: Node) -> list[str]:
        if node.kind in ("input", "number", "constant") or node in self.plan.fixed and node not in self.plan.offsets:
            return []
        if node.kind == "part" and is_written(node, self.plan.like):
            return []  # its kernel has written it
        writers: dict[str, Callable] = {"ufunc": self._ufunc, "reduce": self._reduce, "matmul": self._matmul}
        if node.kind in writers:
            return [writers[node.kind](node)]
        if node.kind == "kernel":
            return self._kernel(node)
        if node.kind == "reshape" and node in self.plan.offsets:
            return [f"{self.names[node]}_as_before[...] = {self.texts.operand(node.inputs[0])}"]
        return [f"{self.names[node]} = {self._value(node)}"]

    def _value(self, node: Node) -> str:
        """An expression for what cannot be told where to write."""
        if is_view(node, self.plan.like) or node.kind in ("reshape", "getitem"):
            return self._view(node)
        if node.kind == "random":
            method = repr(node.options[0]) if isinstance(node.options[0], str) else self._function(node)
            return f"draw({method}, {node.options[1]!r})"
        if node.kind == "part":
            value = f"{self.names[node.inputs[0]]}[{node.options[0]}]"
        else:
            value = f"{self._function(node)}({self.texts.arguments(node)})"
        return value if node.dtype is None else self._checked(node, value)

    def _checked(self, node: Node, value: str) -> str:
        if CHECKED not in self.helpers:
            self.helpers.append(CHECKED)
        owner = node.inputs[0] if node.kind == "part" else node
        label = node.label or function_text(owner.options[0])
        return f"checked({value}, {label!r}, {node.shape}, {dtype_text(node.dtype)})"

    def _function(self, node: Node) -> str:
        return self.texts.function(node.options[0], f"f{self.names[node][1:]}")

    def _view(self, node: Node) -> str:
        name = self.texts.operand(node.inputs[0])
        if node.kind == "getitem":
            return f"{name}[{index_text(node.options[0])}]"
        if node.kind == "broadcast_to" or node.inputs[0].dtype is None:
            return f"numpy.{node.kind}({name}, {node.options[0]})"
        return f"{name}.{node.kind}({node.options[0]})"

    def _ufunc(self, node: Node) -> str:
        name = node.options[0]
        if name == "astype":
            return self._astype(node)
        operands = self.texts.operands(node)
        if name == "where":
            return f"{self.names[node]} = numpy.where({', '.join(operands)})"
        return self._placed(node, f"numpy.{name}", operands)

    def _placed(self, node: Node, function: str, operands: list[str], behind: str = "") -> str:
        """A call that takes the place of its result as its last argument."""
        name, target = self.names[node], self.plan.direct.get(node)
        out = "out=" if function in OUT_BY_NAME else ""
        if node in self.plan.fixed:
            return f"{function}({', '.join([*operands, out + name])}{behind})"
        if target is not None:
            place = f"{out}{self.names[target]} if donate else None"
            return f"{name} = {function}({', '.join([*operands, place])}{behind})"
        return f"{name} = {function}({', '.join([*operands, *(['None'] if behind else [])])}{behind})"

    def _astype(self, node: Node) -> str:
        name, (x,) = self.names[node], node.inputs
        operand = self.texts.operand(x)
        if node in self.plan.fixed:
            return f"{name}[...] = {operand}"
        array = operand if x.dtype is not None else f"numpy.asarray({operand})"
        return f"{name} = {array}.astype({dtype_text(node.dtype)})"

    def _reduce(self, node: Node) -> str:
        name, axes, keepdims = node.options
        operand = self.texts.operand(node.inputs[0])
        if name not in REDUCTIONS:
            return f"{self.names[node]} = numpy.{name}({operand}, {axes}, keepdims={keepdims})"
        operands = [operand, str(axes), "None"]
        return self._placed(node, f"numpy.{REDUCTIONS[name]}.reduce", operands, ", True" if keepdims else "")

    def _matmul(self, node: Node) -> str:
        operands = [self.texts.operand(x) for x in node.inputs]
        if self._is_plain_product(node):
            return f"{operands[0]}.dot({operands[1]}, {self.names[node]})"
        return self._placed(node, "numpy.matmul", operands)

    def _is_plain_product(self, node: Node) -> bool:
        """Whether a.dot(b, out), with half the overhead of numpy.matmul, adds up in the same order."""
        matrices = all(len(x.shape) == 2 and min(x.shape) > 1 for x in node.inputs)
        dense = all(self.plan.like[x].flags.forc for x in node.inputs)  # row-major, or the transpose of such
        one_type = node.dtype is not None and node.dtype.char in "fd" and {x.dtype for x in node.inputs} == {node.dtype}
        return node in self.plan.fixed and matrices and dense and one_type

    def _kernel(self, node: Node) -> list[str]:
        """Places for its results, then the call. A merged kernel takes a result's old value where it writes the new."""
        kernel, merged = self.kernels[node], self.plan.merged.get(node, {})
        operands = [self._kernel_operand(x) for x in node.inputs]
        found = []
        for place, result in enumerate(self.results[node]):
            name = self.names[result]
            if place in merged:
                operands[merged[place]] = name
            else:
                operands.append(name)
            if result not in self.plan.fixed:
                found.append(f"{name} = {self._new_place(result, place in merged)}")
        return [*found, f"{kernel.name}({', '.join(operands)})"]

    def _new_place(self, node: Node, merged: bool) -> str:
        target = self.plan.direct.get(node)
        if target is None:
            return f"numpy.empty({node.shape}, {dtype_text(node.dtype)})"
        given = self.names[target]
        made = f"{given}.copy()" if merged else f"numpy.empty_like({given})"
        return f"{given} if donate else {made}"

    def _kernel_operand(self, node: Node) -> str:
        """Kernels take row-major arrays, and scalars for arrays without axes."""
        text = self.texts.operand(node)
        if node.dtype is None:
            return text
        if not node.shape:
            return f"{text}[()]"
        return text if self._is_dense(node) else f"numpy.ascontiguousarray({text})"

    def _is_dense(self, node: Node) -> bool:
        known = (
            node in self.plan.fixed or node.kind in ("input", "random", "constant", "kernel") or node in self.plan.new
        )
        return known and self.plan.like[node].flags.c_contiguous


def merged_kernels(graph: Graph, plan: Plan) -> dict[Node, Any]:
    """The kernels as they are called: with one argument for a result and the input that it is written over."""
    kernels = {node: node.options[0] for node in graph.nodes if node.kind == "kernel"}
    kernels.update({node: kernels[node].merged(pairs) for node, pairs in plan.merged.items()})
    return kernels


def kernel_imports(sources: Iterable[str]) -> str:
    """What the text of kernels uses."""
    words = set(re.findall(r"\w+", " ".join(sources)))
    own = sorted(words & set(vector_math.__all__))
    numpys = sorted(words & plain_names().keys() - set(own))
    found = f"from numpy import {', '.join(numpys)}\n" if numpys else ""
    return found + (f"from needle.kernels.vector_math import {', '.join(own)}\n" if own else "")


def _tuple(names: list[str]) -> str:
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def _commented(lines: list[Line]) -> list[Line]:
    """Each statement with the user's line behind it, in one column."""
    width = min(max((len(line.text) for line in lines), default=0), 60)
    return [
        replace(line, text=f"{line.text:<{width}}  # {line.node.line}") if line.node.line else line for line in lines
    ]


def _poison(node: Node) -> str:
    kind = node.dtype.kind if node.dtype is not None else ""
    if kind in "iu":
        return str(numpy.iinfo(node.dtype).max)
    return "True" if kind == "b" else "numpy.nan"
