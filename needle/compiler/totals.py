"""Sums, products and extrema in kernels: in which dtype they run, how they begin and what one more number does."""

from __future__ import annotations

import numpy

from .formulas import FLOATS, REDUCTIONS
from .ir import Node


def total_dtype(node: Node) -> numpy.dtype:
    """float64 for sums of floats, whatever NumPy takes: at least as exact as its sums in pairs."""
    x = node.inputs[0].dtype
    assert x is not None
    if REDUCTIONS[node.options[0]] in ("max", "min"):
        return x
    return numpy.dtype("float64" if node.dtype in FLOATS else "int64")


def start_of(node: Node) -> str:
    """What a total is before anything is added."""
    name, dtype = REDUCTIONS[node.options[0]], total_dtype(node)
    if name in ("max", "min"):
        low, high = (False, True) if dtype.kind == "b" else ("-inf", "inf") if dtype in FLOATS else _limits(dtype)
        value = low if name == "max" else high
        return str(value) if dtype.kind == "b" else f"{dtype.name}({value})"
    if name == "prod":
        return f"{dtype.name}(1)"
    return "float64(-0.0)" if dtype in FLOATS else f"{dtype.name}(0)"  # the sum of -0.0 alone is -0.0


def _limits(dtype: numpy.dtype) -> tuple[int, int]:
    return int(numpy.iinfo(dtype).min), int(numpy.iinfo(dtype).max)


def combination(node: Node) -> str:
    """The formula of a total and what is added to it."""
    name, dtype = REDUCTIONS[node.options[0]], total_dtype(node)
    if name in ("max", "min"):
        if dtype.kind == "b":
            return "{0} | {1}" if name == "max" else "{0} & {1}"
        return f"{name}imum({{0}}, {{1}})" if dtype in FLOATS else f"{dtype.name}({name}({{0}}, {{1}}))"
    if dtype in FLOATS:
        return "multiply_any_order({0}, {1})" if name == "prod" else "add_any_order({0}, {1})"
    return "{0} * {1}" if name == "prod" else "{0} + {1}"
