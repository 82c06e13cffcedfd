"""One op by itself, at the inputs it met: its `compute` to differentiate numerically, its own rule to compare with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor, TensorTuple
from ..functional import Checkpoint, CustomGradient
from ..graph import Op, Value, as_tuple
from ..ops import make_tuple
from .guesses import guess_of_shape
from .probes import Probe, coarsest, fitted, is_float, parts

__all__ = ["BadRule", "RuleProbe", "name_of", "stretched"]


class BadRule(Exception):
    """A rule whose answer has the wrong form."""

    def __init__(self, text: str, argument: int | None = None, guess: str | None = None):
        super().__init__(text)
        self.text, self.argument, self.guess = text, argument, guess


def name_of(op: Any) -> str:
    inner = op.function if isinstance(op, CustomGradient) else op.f if isinstance(op, Checkpoint) else None
    return type(op).__name__ + (f"({getattr(inner, '__name__', '…')})" if inner is not None else "")


class RuleProbe(Probe):
    """One op at given inputs: it computes with the op's `compute` and is differentiated by the op's own rule alone.

    Only inputs that a gradient was asked for move; `spots` says which argument, and which part of a tuple, each is.
    """

    def __init__(self, op: Op, inputs: Sequence[Value], device: Any, widen: bool = True):
        self.op, self.inputs, self.device, self.widen = op, inputs, device, widen
        self.spots = [
            (k, part)
            for k, x in enumerate(inputs)
            for part, array in enumerate(parts(x))
            if x.requires_grad and is_float(array)
        ]
        super().__init__(self._node, [self._array(k, part) for k, part in self.spots], device)
        self.eps = coarsest(self.values(self.record()[1]))

    def name(self, spot: int) -> str:
        """How a report calls the place of array number `spot`."""
        if spot >= len(self.spots):
            return "out_grad"
        k, part = self.spots[spot]
        return f"argument {k}" + (f"[{part}]" if isinstance(self.inputs[k], TensorTuple) else "")

    def _array(self, k: int, part: int) -> np.ndarray:
        array = self.device.to_numpy(parts(self.inputs[k])[part])
        return array.astype(np.float64) if self.widen and is_float(array) else array

    def _node(self, tensors: Sequence[Tensor]) -> list[Any]:
        given = dict(zip(self.spots, tensors, strict=True))
        # A copy, since an op may keep for its rule what `compute` met last.
        return [copy.copy(self.op)(*[self._argument(k, x, given) for k, x in enumerate(self.inputs)])]

    def _argument(self, k: int, x: Value, given: dict[tuple[int, int], Tensor]) -> Value:
        tensors = [given.get((k, part)) for part in range(len(parts(x)))]
        filled = [self._constant(k, part) if t is None else t for part, t in enumerate(tensors)]
        return make_tuple(*filled) if isinstance(x, TensorTuple) else filled[0]

    def _constant(self, k: int, part: int) -> Tensor:
        return self.tensors([self._array(k, part)])[0].detach()

    def pull(self, outputs: Sequence[Any], seeds: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Any]:
        (node,) = outputs
        if node.op is None:
            return [None] * len(self.spots)
        given = [fitted(s, y) for s, y in zip(seeds, parts(node), strict=True)]
        seed = make_tuple(*given) if isinstance(node, TensorTuple) else given[0]
        grads = as_tuple(node.op.gradient(seed, node))
        self._check_form(grads, node)
        return [self._part(grads[k], part, node.inputs[k]) for k, part in self.spots]

    def _check_form(self, grads: tuple, node: Any) -> None:
        if len(grads) != len(node.inputs):
            raise BadRule(f"returns {len(grads)} gradients for {len(node.inputs)} arguments")
        for k, (grad, x) in enumerate(zip(grads, node.inputs, strict=True)):
            if grad is None or x.fits(grad):
                continue
            if not isinstance(grad, Value):
                raise BadRule(f"returns a {type(grad).__name__} for argument {k}, wanted a Tensor", k)
            guess = guess_of_shape(*[getattr(value, "shape", ()) for value in (grad, x, node)])
            raise BadRule(f"returns {_form(grad)} for argument {k}, which is {_form(x)}", k, guess)

    def _part(self, grad: Any, part: int, x: Value) -> Any:
        return grad[part] if isinstance(x, TensorTuple) and grad is not None else grad


def _form(value: Any) -> str:
    return " ".join(f"{part.shape} {part.dtype}" for part in parts(value))


def stretched(rule: RuleProbe) -> RuleProbe | None:
    """The same op at arguments that are broadcast beforehand, None where that changes nothing or its result."""
    shapes = [getattr(x, "shape", None) for x in rule.inputs]
    values = rule.values(rule.record()[1])
    if None in shapes or len(values) != 1 or all(shape == values[0].shape for shape in shapes):
        return None
    try:
        wide = RuleProbe(rule.op, [_spread(rule, x, values[0].shape) for x in rule.inputs], rule.device)
        return wide if np.array_equal(wide.run(), rule.run()) else None
    except Exception:  # an op that does not broadcast
        return None


def _spread(rule: RuleProbe, x: Value, shape: tuple[int, ...]) -> Tensor:
    array = np.broadcast_to(rule.device.to_numpy(x.cached_data), shape)
    return Tensor(array, device=rule.device, dtype=array.dtype, requires_grad=x.requires_grad)
