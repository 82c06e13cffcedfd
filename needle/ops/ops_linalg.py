"""Products of tensors beyond matmul."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, TensorOp
from ..backend_selection import array_api
from ..failures import mismatch, not_tensors
from .ops_mathematic import broadcast_to, matmul, permute, reshape
from .ops_support import as_axes, reduce_to

__all__ = ["Einsum", "einsum", "outer", "tensordot"]

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Einsum(TensorOp):
    """Einstein summation with explicit subscripts, as "ij,jk->ik" (no ellipsis: `einsum` spells it out).

    d/d(operand) is again one einsum: of g and the other operands, with ones for an index that only this operand
    has, and a unit matrix for an index that it has twice. An Op for speed: the contraction order is planned.
    """

    def __init__(self, subscripts: str):
        self.subscripts = subscripts

    def compute(self, *arrays):
        return array_api.einsum(self.subscripts, *arrays, optimize=len(arrays) > 1)

    def gradient(self, out_grad, node):
        return tuple(
            self._gradient_of(k, out_grad, node.inputs) if x.requires_grad else None for k, x in enumerate(node.inputs)
        )

    def _gradient_of(self, k, out_grad, operands):
        left, _, result = self.subscripts.partition("->")
        terms = left.split(",")
        mine, others = terms[k], terms[:k] + terms[k + 1 :]
        given = [out_grad, *operands[:k], *operands[k + 1 :]]
        inputs, target, x = [result, *others], "", operands[k]
        sizes = _sizes(terms, operands)
        for letter in mine:
            if letter in target:
                fresh = next(c for c in LETTERS if c not in self.subscripts + "".join(inputs))
                inputs.append(letter + fresh)
                given.append(Tensor.make_const(x.device.eye(sizes[letter], dtype=x.dtype)))
                letter = fresh
            elif letter not in "".join(inputs):
                inputs.append(letter)
                given.append(Tensor.make_const(x.device.ones(sizes[letter], dtype=x.dtype)))
            target += letter
        grad = Einsum(f"{','.join(inputs)}->{target}")(*given)
        # An index that others have with length 1 alone was repeated for them: so is the gradient.
        return reduce_to(broadcast_to(grad, [max(pair) for pair in zip(grad.shape, x.shape, strict=True)]), x)


def _sizes(terms: list[str], operands: Any) -> dict[str, int]:
    """The length of each index; an operand may have 1 where others have more."""
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            sizes[letter] = n if sizes.get(letter, 1) == 1 else sizes[letter]
    return sizes


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """Einstein summation by numpy.einsum's rules: "bij,bjk->bik", implicit output, "..." for leading axes."""
    if not hasattr(subscripts, "partition"):
        met = type(subscripts).__name__
        raise TypeError(f"einsum: subscripts come first, as a string such as 'ij,jk->ik'; got {met}")
    if not all(isinstance(x, Tensor) for x in operands):
        raise not_tensors("einsum", operands)
    return Einsum(_explicit(subscripts.replace(" ", ""), operands))(*operands)


def _explicit(subscripts: str, operands: Any) -> str:
    """Subscripts with an output and without an ellipsis."""
    left, arrow, result = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(operands)}")
    spare = [letter for letter in LETTERS if letter not in subscripts]
    terms, widest = _spell_out(subscripts, terms, operands, spare)
    if arrow:
        return f"{','.join(terms)}->{result.replace('...', widest)}"
    named = "".join(terms)
    once = sorted(letter for letter in set(named) if named.count(letter) == 1 and letter not in widest)
    return f"{','.join(terms)}->{widest}{''.join(once)}"


def _spell_out(subscripts: str, terms: list[str], operands: Any, spare: list[str]) -> tuple[list[str], str]:
    """Letters in place of each ellipsis, aligned at the right; also the longest such run."""
    widest, spelled = "", []
    for term, x in zip(terms, operands, strict=True):
        rank = len(x.shape)
        hidden = rank - len(term.replace("...", ""))
        if hidden < 0 or (hidden > 0 and "..." not in term):
            problem = f"{term!r} in {subscripts!r} does not go with an operand of shape {x.shape}"
            raise mismatch("einsum", problem, operands)
        run = "".join(spare[:hidden][::-1]) if "..." in term else ""
        widest = run if len(run) > len(widest) else widest
        spelled.append(term.replace("...", run))
    return spelled, widest


def outer(a: Tensor, b: Tensor) -> Tensor:
    """a_i · b_j of two tensors, flattened: (m,), (n,) -> (m, n)."""
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


def tensordot(a: Tensor, b: Tensor, axes: Any = 2) -> Tensor:
    """Sum over pairs of axes: the last `axes` of a with the first of b, or axes=(of a, of b)."""
    if isinstance(axes, int):
        axes = (range(len(a.shape) - axes, len(a.shape)), range(axes))
    mine, theirs = as_axes(axes[0], len(a.shape), "tensordot"), as_axes(axes[1], len(b.shape), "tensordot")
    if [a.shape[i] for i in mine] != [b.shape[i] for i in theirs]:
        problem = f"axes {mine} of {a.shape} and {theirs} of {b.shape} differ in length"
        raise mismatch("tensordot", problem, (a, b))
    rows = tuple(i for i in range(len(a.shape)) if i not in mine)
    columns = tuple(i for i in range(len(b.shape)) if i not in theirs)
    inner = math.prod(a.shape[i] for i in mine)
    left = reshape(permute(a, rows + mine), (math.prod(a.shape[i] for i in rows), inner))
    right = reshape(permute(b, theirs + columns), (inner, math.prod(b.shape[i] for i in columns)))
    return reshape(matmul(left, right), tuple(a.shape[i] for i in rows) + tuple(b.shape[i] for i in columns))
