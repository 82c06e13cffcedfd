"""Error messages of the graph: which op, which argument, what came, what was wanted, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def op_failure(op: Any, inputs: Sequence[Any], error: Exception) -> Exception:
    """An error of the same type as `error` that also names the op and what it was given."""
    name = type(op).__name__
    for index, x in enumerate(inputs):
        if not hasattr(x, "cached_data"):
            return TypeError(
                f"{name}: argument {index} is a {type(x).__name__}, wanted a Tensor (wrap it: ndl.Tensor(...))"
            )
    text = f"{name}: {error}\n  got {describe(inputs)}"
    devices = {str(x.device): None for x in inputs if hasattr(x, "device")}
    if len(devices) > 1:
        text = f"{name}: arguments are on different devices, {' and '.join(devices)}; move them to one device first"
        return ValueError(text)
    hint = getattr(op, "hint", None)
    if hint is not None:
        advice = hint(*[getattr(x, "shape", None) for x in inputs])
        text += f"\n  {advice}" if advice else ""
    for index, x in enumerate(inputs):
        site = site_of(x)
        text += f"\n  argument {index} was made at {site}" if site else ""
    return same_type(error, text)


def same_type(error: Exception, text: str) -> Exception:
    """A new error with the type of `error` where that type takes a text alone, else the nearest that does."""
    try:
        return type(error)(text)
    except TypeError:
        return ValueError(text) if isinstance(error, ValueError) else RuntimeError(text)


def wrong_gradient(op: Any, inputs: Sequence[Any], grads: Sequence[Any], index: int | None) -> Exception:
    """The error for a rule that gave the wrong number of gradients (index None), or a wrong index-th one."""
    name = type(op).__name__
    if index is None:
        return ValueError(
            f"{name}.gradient returned {len(grads)} gradients for {len(inputs)} arguments; wanted one each "
            "(None where there is no derivative)"
        )
    x, grad = inputs[index], grads[index]
    if not hasattr(grad, "cached_data"):
        return TypeError(f"{name}.gradient returned a {type(grad).__name__} for argument {index}, wanted a Tensor")
    return ValueError(
        f"{name}.gradient returned {describe([grad])} for argument {index}, which is {describe([x])}; "
        "a gradient has exactly its input's shape and dtype (after broadcasting: sum over the axes that were "
        "expanded, see reduce_to in ops/ops_mathematic.py)"
    )


def describe(values: Sequence[Any]) -> str:
    return ", ".join(
        f"{getattr(x, 'shape', type(x).__name__)} {getattr(x, 'dtype', '')}".strip() for x in values
    )


def site_of(value: Any) -> str | None:
    """The line that made `value`, where `ndl.record_sites()` was on."""
    return (getattr(value, "notes", None) or {}).get("site")
