"""Error messages of the graph: which op, which argument, what came, what was wanted, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .backend_selection import device_of, explained


def op_failure(op: Any, inputs: Sequence[Any], error: Exception) -> Exception:
    """An error of the same kind as `error` that also names the op and what it was given."""
    name = type(op).__name__
    if not all(hasattr(x, "cached_data") for x in inputs):
        return not_tensors(name, inputs)
    devices = {str(device_of(array)): None for x in inputs for array in arrays_of(x)}
    if len(devices) > 1:
        return ValueError(
            f"{name}: arguments are on different devices, {' and '.join(devices)}; move them to one device "
            f"first: x.to(device)\n  got {describe(inputs)}{made_at(inputs)}"
        )
    advice = _advice(op, [getattr(x, "shape", None) for x in inputs], str(error))
    return same_type(
        error, f"{name}: {explained(error)}\n  got {describe(inputs)}{_settings(op)}{advice}{made_at(inputs)}"
    )


def not_tensors(name: str, inputs: Sequence[Any]) -> TypeError:
    """The error for an op that was called on something else than Tensors; `inputs` holds such a thing."""
    index, x = next((i, x) for i, x in enumerate(inputs) if not hasattr(x, "cached_data"))
    return TypeError(
        f"{name}: argument {index} is of type {type(x).__name__}, wanted a Tensor; wrap it: ndl.Tensor(...)"
    )


def arrays_of(value: Any) -> tuple[Any, ...]:
    """The array of a Tensor, or those of a TensorTuple."""
    data = value.cached_data
    return data if isinstance(data, tuple) else (data,)


def _settings(op: Any) -> str:
    """What the op was constructed with, as far as it is short."""
    plain = (bool, int, float, str, tuple, list)
    named = [(name, value) for name, value in getattr(op, "__dict__", {}).items() if isinstance(value, plain)]
    text = ", ".join(f"{name}={repr(value)}" for name, value in named if value is not False)
    return f" with {text}" if 0 < len(text) < 200 else ""


def _advice(op: Any, shapes: list[Any], text: str) -> str:
    """What to do about it, on a line of its own: the op's own hint, or one about broadcasting."""
    if hasattr(op, "hint"):
        hint = op.hint(*shapes)
    else:
        hint = broadcast_hint(shapes) if "broadcast" in text and None not in shapes else None
    return f"\n  {hint}" if hint else ""


def broadcast_hint(shapes: Sequence[Sequence[int]]) -> str | None:
    """Which axis of which arguments does not broadcast, counted from the right, and a likely cure."""
    for i, a in enumerate(shapes):
        for j, b in enumerate(shapes[:i]):
            for axis in range(1, min(len(a), len(b)) + 1):
                if a[-axis] != b[-axis] and 1 not in (a[-axis], b[-axis]):
                    return (
                        f"axis -{axis}: {b[-axis]} in argument {j} against {a[-axis]} in argument {i}; "
                        f"counted from the right, sizes must be equal or 1{_reshape_hint(j, b, i, a)}"
                    )
    return None


def _reshape_hint(i: int, a: Sequence[int], j: int, b: Sequence[int]) -> str:
    """For (n, m) beside (n,): the column that was probably meant."""
    if len(a) < len(b):
        return _reshape_hint(j, b, i, a)
    column = (*b, *[1] * (len(a) - len(b)))
    if len(b) == len(a) or any(m not in (n, 1) for n, m in zip(a, column, strict=True)):
        return ""
    return f"; did you mean argument {j} as {column}?"


def made_at(inputs: Sequence[Any]) -> str:
    """A line for each input of which it is known where it was made; the parts of a tuple one by one."""
    lines = []
    for index, x in enumerate(inputs):
        parts = (getattr(x, "notes", None) or {}).get("parts")
        named = [(f"part {i} of argument {index}", site) for i, site in enumerate(parts or ())]
        named = named or [(f"argument {index}", site_of(x))]
        lines += [f"\n  {name} was made at {site}" for name, site in named if site]
    return "".join(lines)


def mismatch(name: str, problem: str, inputs: Sequence[Any]) -> ValueError:
    """The error of a function made of ops whose arguments do not go together."""
    return ValueError(f"{name}: {problem}{made_at(inputs)}")


def same_type(error: Exception, text: str) -> Exception:
    """A new error with the type of `error`, or with the nearest type above it that takes a text alone."""
    for kind in type(error).__mro__:
        try:
            made = kind(text)
        except TypeError:
            continue
        if isinstance(made, Exception) and text in str(made):
            return made
    return RuntimeError(text)


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
        met = type(grad).__name__
        return TypeError(f"{name}.gradient returned a {met} for argument {index}, wanted a Tensor")
    return ValueError(
        f"{name}.gradient returned {describe([grad])} for argument {index}, which is {describe([x])}; "
        "a gradient has exactly its input's shape and dtype (after broadcasting: sum over the axes that were "
        "expanded, see reduce_to in ops/ops_support.py)"
    )


def written_since(op: Any, index: int | None, x: Any) -> RuntimeError:
    which = "the result" if index is None else f"argument {index}"
    return RuntimeError(
        f"backward: {which} of {type(op).__name__} ({describe([x])}) was written to after the forward pass "
        "read it (.data =, item assignment, in-place operator or optimizer step), so its gradient would be wrong; "
        "run the forward pass again, or write to a copy"
    )


def wrong_hook(node: Any, replaced: Any) -> ValueError:
    return ValueError(
        f"gradient hook: returned {describe([replaced])} for a gradient of {describe([node])}; a hook returns a Tensor "
        "of exactly that shape and dtype, or None to leave the gradient as it is"
    )


def describe(values: Sequence[Any]) -> str:
    """Shape and dtype of each value."""
    return ", ".join(_describe(getattr(x, "cached_data", x)) for x in values)


def _describe(x: Any) -> str:
    if isinstance(x, tuple):
        return f"a tuple of {', '.join(_describe(part) for part in x) or 'nothing'}"
    return f"{getattr(x, 'shape', type(x).__name__)} {getattr(x, 'dtype', '')}".strip()


def site_of(value: Any) -> str | None:
    """The line that made `value`, where `ndl.record_sites()` was on."""
    site = (getattr(value, "notes", None) or {}).get("site")
    return None if site is None else str(site)
