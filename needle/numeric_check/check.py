"""The public function: it looks at its options, asks the questions, and steps aside where a kink is in the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..modes import enable_grad
from .questions import Check
from .result import GradcheckResult
from .slopes import Tolerance

__all__ = ["gradcheck"]

ASIDE = 0.01  # how far inputs are moved off a kink, as a share of their size


def gradcheck(
    f: Callable,
    *inputs: Any,
    order: int = 1,
    full: bool = False,
    rtol: float | None = None,
    atol: float | None = None,
    seed: int = 0,
) -> GradcheckResult:
    """Whether reverse mode gives the derivatives of f at `inputs`: "pass", "fail" or "cannot tell", with a reason.

    f takes tensors for the floats among `inputs` (tensors, arrays, numbers, nested lists and dicts of them; others
    stay as they are) and gives a Tensor of any shape, or several. order=2 also checks the gradient's gradient, and
    forward mode. Random projections by default; full=True looks at every entry of the Jacobian and names the worst.
    rtol (1e-7), atol (0): allowed beyond the error of the numeric derivative. seed: of the checker's own generator.
    """
    if not callable(f):
        raise TypeError(f"gradcheck: f must be a function, got a {type(f).__name__}; call it as gradcheck(f, *inputs)")
    rtol, atol = 1e-7 if rtol is None else rtol, 0.0 if atol is None else atol
    _validate(order, full, rtol, atol, seed)
    tolerance = Tolerance(rtol, atol)
    with np.errstate(all="ignore"), enable_grad():
        check = Check(f, inputs, order, full, tolerance, seed)
        result = check.verdict()
        if not check.only_here:
            return result
        beside = Check(f, check.moved(ASIDE), order, full, tolerance, seed)
        return _with_what_is_beside(result, beside.verdict)


def _validate(order: Any, full: Any, rtol: Any, atol: Any, seed: Any) -> None:
    """Raise ValueError for an option that makes no sense."""
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, got {order!r}")
    if not isinstance(full, (bool, np.bool_)):
        raise ValueError(f"gradcheck: full must be True or False, got {full!r}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not (isinstance(value, (int, float, np.number)) and 0 <= value < math.inf):
            raise ValueError(f"gradcheck: {name} must be a number that is not negative, got {value!r}")
    if not (isinstance(seed, (int, np.integer)) and seed >= 0):
        raise ValueError(f"gradcheck: seed must be a whole number that is not negative, got {seed!r}")


def _with_what_is_beside(here: GradcheckResult, look_nearby: Callable[[], GradcheckResult]) -> GradcheckResult:
    """What could not be told at the given inputs, by what is found beside them: a failure there is one."""
    try:
        there = look_nearby()
    except Exception:  # f need not be defined there
        return here
    if there.verdict == "fail":
        return replace(there, notes=(*there.notes, f"seen at inputs moved by 1 %; at those given, {here.reason}"))
    return replace(here, notes=(*here.notes, "note: at inputs moved by 1 % it passes")) if there else here
