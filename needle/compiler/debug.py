"""`ndl.jit(debug=True)`: each call runs eager too, and what the two give is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy

from ..autograd import Tensor
from .errors import JitError
from .streams import streams_of
from .trees import flatten
from .variant import Variant

BANDS = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}  # of differences, relative to the largest number


def compared(variant: Variant, leaves: list[Any], eager: Callable[[], Any]) -> Any:
    """The result of `eager()`, which is the call; JitError where the program gives something else."""
    before = list(streams_of(variant.graph))
    made = variant.computed(leaves)
    for put_back, state in before:
        put_back(state)
    result = eager()
    for name, mine, its in _pairs(variant, leaves, made, flatten(result)[0]):
        if not agree(mine, its):
            raise JitError(f"jit: {name} differs from eager's: {_shown(mine)} compiled, {_shown(its)} eager")
    return result


def _pairs(variant: Variant, leaves: list[Any], made: list[Any], given: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    plumbing = variant.plumbing
    space = {**plumbing.space, "leaves": leaves, "made": made}
    for i, (text, leaf) in enumerate(zip(plumbing.wanted, given, strict=True)):
        if "made[" in text:
            yield f"result {i}", _array(eval(text, space)), _array(leaf)
    for text, place in plumbing.states:
        yield "a tensor that the call assigned", made[place], plumbing.find(text, leaves).cached_data
    for text, what in plumbing.grads:
        grad = plumbing.find(text, leaves).grad
        if "made[" in what and grad is not None:
            yield "a gradient", _array(eval(what, space)), grad.cached_data


def _array(x: Any) -> Any:
    return x.cached_data if isinstance(x, Tensor) else x


def agree(mine: Any, its: Any) -> bool:
    mine, its = numpy.asarray(mine), numpy.asarray(its)
    if mine.shape != its.shape or mine.dtype != its.dtype:
        return False
    if mine.dtype.kind != "f":
        return bool((mine == its).all())
    size = numpy.abs(its[numpy.isfinite(its)]).max(initial=1.0)
    return bool(numpy.allclose(mine, its, rtol=0, atol=BANDS[str(its.dtype)] * float(size), equal_nan=True))


def _shown(array: Any) -> str:
    array = numpy.asarray(array)
    return f"{array.dtype} {array.shape} {numpy.array2string(array, threshold=6, precision=6)}"
