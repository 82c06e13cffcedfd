"""`ndl.jit(debug=True)`: each call runs eager too, and what the two give is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy

from ..autograd import Tensor
from ..backend_numpy import CPUDevice
from .errors import JitError
from .trees import flatten
from .variant import Call, Variant

BANDS = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}  # of differences, relative to the largest number


def compared(variant: Variant, call: Call, eager: Callable[[], Any]) -> Any:
    """The result of `eager()`, which is the call; JitError where the program gives something else."""
    before = list(_streams(variant))
    made = variant.computed(call)
    for put_back, state in before:
        put_back(state)
    result = eager()
    for name, mine, its in _pairs(variant, call, made, flatten(result)[0]):
        if not agree(mine, its):
            raise JitError(f"jit: {name} differs from eager's: {_shown(mine)} compiled, {_shown(its)} eager")
    return result


def _streams(variant: Variant) -> Iterator[tuple[Callable, Any]]:
    """The streams that the program draws from: how to put each back, and its state of now."""
    cpu = CPUDevice()
    yield cpu.set_random_state, cpu.random_state()
    for node in variant.graph.nodes:
        owner = getattr(node.options[0], "__self__", None) if node.kind == "random" else None
        if owner is not None:
            yield (lambda state, owner=owner: setattr(owner, "state", state)), owner.state


def _pairs(variant: Variant, call: Call, made: list[Any], leaves: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    for i, ((kind, what), leaf) in enumerate(zip(variant.results, leaves, strict=True)):
        if kind in ("tensor", "array"):
            yield f"result {i}", made[what], leaf.cached_data if isinstance(leaf, Tensor) else leaf
    for where, place in variant.states:
        yield "a tensor that the call assigned", made[place], where(call).cached_data
    for where, what in variant.grads:
        grad = where(call).grad
        if isinstance(what, int) and grad is not None:
            yield "a gradient", made[what], grad.cached_data


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
