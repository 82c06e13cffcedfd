"""Operands, constants, dtypes and functions as Python text, or under a name by which they are given."""

from __future__ import annotations

import math
from typing import Any

import numpy

from .ir import Node, Slot
from .show import function_text

SHORT = 8  # elements of an array that is written out
PLAIN = (int, float, bool, str, type(None), type(Ellipsis))


class Texts:
    """Knows the names of nodes; collects what the module defines on top and what it is given."""

    def __init__(self, names: dict[Node, str]):
        self.names = names
        self.defined: dict[str, str] = {}  # name -> expression
        self.given: dict[str, Any] = {}
        self.told: dict[str, str] = {}  # what a given thing is
        self.numbers: dict[tuple, str] = {}  # (number, dtype) -> name

    def operand(self, node: Node) -> str:
        """A node's name, or the number that it is."""
        if node.kind != "constant":
            return self.names[node]
        if node.dtype is None:
            return number_text(node.options[0])
        name = f"c{self.names[node][1:]}"
        if name not in self.defined and name not in self.given:
            self._constant(name, numpy.asarray(node.options[0], node.dtype))
        return name

    def operands(self, node: Node) -> list[str]:
        """Those of a ufunc or kernel. A number becomes a constant array of the dtype that it would take: NumPy needs
        0.2 µs to turn a Python number into an array at each call."""
        texts = [self.operand(x) for x in node.inputs]
        for i, dtype in enumerate(_number_dtypes(node)):
            if dtype is not None:
                texts[i] = self._number(node.inputs[i].options[0], dtype, texts[i])
        return texts

    def _number(self, value: Any, dtype: numpy.dtype, text: str) -> str:
        key = repr(value), dtype
        if key not in self.numbers:
            self.numbers[key] = name = f"n{len(self.numbers)}"
            self.defined[name] = f"numpy.array({text}, {dtype_text(dtype)})"
        return self.numbers[key]

    def _constant(self, name: str, array: numpy.ndarray) -> None:
        usual = array.dtype.kind in "biuf" and array.flags.c_contiguous
        if usual and 0 < array.size <= SHORT:
            self.defined[name] = f"numpy.array({_nested(array.tolist())}, {dtype_text(array.dtype)})"
        elif usual and array.size and array.tobytes() == array.flat[0].tobytes() * array.size:
            value = number_text(array.flat[0].item())
            self.defined[name] = f"numpy.full({array.shape}, {value}, {dtype_text(array.dtype)})"
        else:
            self._give(name, array, f"{array.dtype} {array.shape}")

    def _give(self, name: str, value: Any, told: str) -> None:
        self.given[name], self.told[name] = value, told

    def function(self, function: Any, name: str) -> str:
        """A function of NumPy as one writes it; any other is given."""
        public = getattr(function, "__name__", "")
        if public and getattr(numpy, public, None) is function:
            return f"numpy.{public}"
        self._give(name, function, function_text(function))
        return name

    def arguments(self, node: Node) -> str:
        """Those of a call."""
        if node.kind == "random":
            return repr(node.options[1])
        args, kwargs = node.options[1]
        given = [self._argument(part, node) for part in args]
        return ", ".join([*given, *(f"{key}={self._argument(part, node)}" for key, part in kwargs.items())])

    def _argument(self, part: Any, node: Node) -> str:
        if isinstance(part, Slot):
            return self.operand(node.inputs[part.place])
        if type(part) is tuple:
            return f"({''.join(f'{self._argument(x, node)}, ' for x in part).rstrip(' ' if len(part) == 1 else ', ')})"
        if type(part) is list:
            return f"[{', '.join(self._argument(x, node) for x in part)}]"
        if type(part) is dict and all(type(key) in PLAIN for key in part):
            return f"{{{', '.join(f'{key!r}: {self._argument(x, node)}' for key, x in part.items())}}}"
        if type(part) is slice and all(type(x) in (int, type(None)) for x in (part.start, part.stop, part.step)):
            return repr(part)
        if type(part) in PLAIN:
            return number_text(part) if type(part) is float else repr(part)
        name = f"a{len(self.given)}"
        self._give(name, part, repr(part).partition("\n")[0][:60])
        return name


def dtype_text(dtype: numpy.dtype | None) -> str:
    """A dtype as an expression: NumPy's type, which is looked up faster than its name is read."""
    assert dtype is not None
    if dtype.isnative and dtype.kind in "biufc":
        return "numpy.bool_" if dtype.kind == "b" else f"numpy.{dtype.name}"
    return f"numpy.dtype({dtype.str!r})"


def number_text(value: Any) -> str:
    """A Python number as an expression; of a NumPy scalar its value alone."""
    value = value.item() if isinstance(value, numpy.generic) else value
    if type(value) is float and not math.isfinite(value):
        return "numpy.nan" if math.isnan(value) else f"{'-' if value < 0 else ''}numpy.inf"
    return repr(value)


def _nested(values: Any) -> str:
    return f"[{', '.join(_nested(x) for x in values)}]" if isinstance(values, list) else number_text(values)


def _number_dtypes(node: Node) -> list[numpy.dtype | None]:
    """For each input of a ufunc the dtype that it takes if it is a constant Python number, else None."""
    weak = [x.kind == "constant" and x.dtype is None and type(x.options[0]) in (int, float) for x in node.inputs]
    none: list[numpy.dtype | None] = [None] * len(weak)
    if node.kind != "ufunc" or node.options[0] in ("astype", "where") or all(weak) or not any(weak):
        return none
    if any(x.dtype is None or x.dtype.kind != "f" for x, w in zip(node.inputs, weak, strict=True) if not w):
        return none  # whole numbers and comparisons with them have rules of their own
    ufunc = getattr(numpy, node.options[0])
    met = [type(x.options[0]) if w else x.dtype for x, w in zip(node.inputs, weak, strict=True)]
    taken = ufunc.resolve_dtypes((*met, *[None] * ufunc.nout))
    return [t if w and _holds(t, x.options[0]) else None for x, w, t in zip(node.inputs, weak, taken, strict=False)]


def _holds(dtype: numpy.dtype, value: float) -> bool:
    """Whether a number stays finite, or infinite, as this float."""
    return dtype.kind == "f" and (not math.isfinite(value) or abs(value) <= float(numpy.finfo(dtype).max))
