"""How each NumPy ufunc reads as a formula of scalars, in the dtype in which NumPy would compute it.

A ufunc without a line here is not fused: it runs as NumPy's own.
"""

from __future__ import annotations

from typing import Any

import numpy

from .ir import Node

FLOATS = {numpy.dtype("float32"): "32", numpy.dtype("float64"): "64"}
DTYPES = {numpy.dtype(name) for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64")}

# For floats, and for integers where they have no fraction. {w} is the width, 32 or 64.
ARITHMETIC = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "absolute": "abs({0})",
    "square": "{0} * {0}",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
}
FLOATING = {
    "divide": "{0} / {1}",
    "true_divide": "{0} / {1}",
    "reciprocal": "float{w}(1) / {0}",
    "fabs": "abs({0})",
    "sqrt": "sqrt({0})",
    "floor": "floor({0})",
    "ceil": "ceil({0})",
    "exp": "exp{w}({0})",
    "log": "log{w}({0})",
    "tanh": "tanh{w}({0})",
    "expm1": "expm1_{w}({0})",
    "log1p": "log1p_{w}({0})",
    "copysign": "copysign{w}({0}, {1})",
}
PREDICATES = {
    "isnan": "{0} != {0}",
    "isfinite": "{0} - {0} == float{w}(0)",
    "isinf": "abs({0}) == float{w}(inf)",
}
COMPARISONS = {
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "logical_not": "{0} == {zero}",
    "logical_and": "({0} != {zero}) & ({1} != {zero})",
    "logical_or": "({0} != {zero}) | ({1} != {zero})",
    "logical_xor": "({0} != {zero}) != ({1} != {zero})",
}
# What is 0 or 1 stays so: NumPy's + of two bools is "or".
OF_BOOLS = {"add": "{0} | {1}", "multiply": "{0} & {1}", "maximum": "{0} | {1}", "minimum": "{0} & {1}"}
# power(x, number) for the numbers that need no logarithm
POWERS = {1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}", -1: "float{w}(1) / {0}", -2: "float{w}(1) / ({0} * {0})"}

REDUCTIONS = {"sum": "sum", "prod": "prod", "max": "max", "amax": "max", "min": "min", "amin": "min", "mean": "mean"}

# In additions; of the rest one each.
COSTS = {"divide": 4, "true_divide": 4, "reciprocal": 4, "sqrt": 4}
COSTS |= {"exp": 20, "log": 20, "expm1": 20, "tanh": 30, "log1p": 30}


def cost(node: Node) -> int:
    """Of one element, in about the time of an addition."""
    return COSTS.get(node.options[0], 1) if node.kind == "ufunc" else int(node.kind == "reduce")


def is_number(node: Node) -> bool:
    """Whether it takes the dtype that it meets."""
    return node.dtype is None


def loop_dtypes(node: Node) -> tuple[numpy.dtype, ...] | None:
    """In which dtypes NumPy takes the inputs of a ufunc node; None where it would not, or where kernels cannot."""
    name, first, result = node.options[0], node.inputs[0].dtype, node.dtype
    if name in ("astype", "where"):
        if first is None or result is None or (name == "where" and first.kind != "b"):
            return None
        return (first,) if name == "astype" else (first, result, result)
    ufunc = getattr(numpy, name, None)
    if not isinstance(ufunc, numpy.ufunc) or len(node.inputs) != ufunc.nin:
        return None
    given: list[Any] = [_value_type(x) if x.dtype is None else x.dtype for x in node.inputs]
    try:
        found: Any = ufunc.resolve_dtypes((*given, *[None] * ufunc.nout))
    except TypeError:
        return None
    return tuple(found[: ufunc.nin])


def _value_type(node: Node) -> type:
    return float if node.kind == "number" or isinstance(node.options[0], float) else int


def template(node: Node) -> str | None:
    """The formula of a ufunc node, {0} and {1} for the inputs in the loop's dtypes; None where there is none."""
    dtypes = loop_dtypes(node)
    given = {x.dtype for x in node.inputs if x.dtype is not None}  # a float16 beside a float32 is no float32 yet
    if dtypes is None or node.dtype is None or not {node.dtype, *dtypes, *given} <= DTYPES:
        return None
    name = node.options[0]
    if name == "astype":
        return cast("{0}", dtypes[0], node.dtype)
    if name == "where":
        return "{1} if {0} else {2}"
    return _fill(_formula(name, node, dtypes[0]), dtypes[0], node.dtype)


def _formula(name: str, node: Node, dtype: numpy.dtype) -> str | None:
    if name in COMPARISONS:
        return COMPARISONS[name]
    if dtype.kind == "b":
        return OF_BOOLS.get(name)
    if name == "power":
        return _power(node) if dtype in FLOATS else None
    if dtype in FLOATS and name in (FLOATING | PREDICATES):
        return (FLOATING | PREDICATES)[name]
    text = ARITHMETIC.get(name)
    return text.replace("imum", "") if text and dtype not in FLOATS else text  # Python's max and min


def _power(node: Node) -> str | None:
    exponent = node.inputs[1]
    fixed = exponent.kind == "constant" and isinstance(exponent.options[0], (int, float))
    return POWERS.get(exponent.options[0]) if fixed else None


def _fill(formula: str | None, dtype: numpy.dtype, result: numpy.dtype) -> str | None:
    if formula is None:
        return None
    zero = "False" if dtype.kind == "b" else f"{dtype.name}(0)"
    text = formula.replace("{w}", FLOATS.get(dtype, "")).replace("{zero}", zero)
    return f"{result.name}({text})" if result.kind in "iu" else text  # or a compiler widens it


def cast(text: str, source: numpy.dtype | None, target: numpy.dtype) -> str:
    """`text` of dtype `source` as `target`; None stands for a number, which comes as float64."""
    if source is not None and source == target:  # numpy.dtype("float64") == None
        return text
    return f"({text} != 0)" if target.kind == "b" else f"{target.name}({text})"


def formula_of(node: Node, operands: list[str]) -> str:
    """The formula with names of operands in place, cast to the dtypes in which NumPy would take them."""
    text, dtypes = template(node), loop_dtypes(node)
    assert text is not None and dtypes is not None
    names = [cast(name, x.dtype, dtype) for name, x, dtype in zip(operands, node.inputs, dtypes, strict=True)]
    return text.format(*names)


def fusable(node: Node) -> bool:
    """Whether a kernel can compute it."""
    if node.kind == "ufunc":
        return template(node) is not None
    if node.kind == "reduce":
        known = node.options[0] in REDUCTIONS and node.inputs[0].dtype in DTYPES and node.dtype in DTYPES
        whole = node.inputs[0].dtype is not None and node.inputs[0].dtype.kind in "biu"
        return known and not (whole and node.dtype in FLOATS and node.options[0] != "mean")
    return node.kind in ("reshape", "broadcast_to") and node.dtype in DTYPES
