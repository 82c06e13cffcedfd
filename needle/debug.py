"""Switches for finding a fault: where tensors were made, which op made a NaN, where float32 became float64.

Each is a context manager and a decorator, for this thread alone, and they nest. See docs/errors.md.
"""

from __future__ import annotations

import os
import runpy
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from linecache import getline
from types import CodeType, FrameType
from typing import Any

from .autograd import Tensor, Value, as_tuple, find_topo_sort, reverse_pass
from .backend_selection import array_api, device_of
from .failures import arrays_of, describe, made_at, site_of
from .modes import mode, no_grad
from .ops import DivScalar, EWiseDiv, EWisePow, Exp, Expm1, Log, Log1p, PowerScalar, Rsqrt, Sqrt, Where
from .writes import was_written

__all__ = [
    "AnomalyError",
    "PromotionError",
    "PromotionWarning",
    "detect_anomaly",
    "detect_promotion",
    "record_sites",
]


class AnomalyError(ArithmeticError):
    """A NaN or an infinity, and the op that made it."""


class PromotionError(TypeError):
    """An op mixed floats of two widths."""


class PromotionWarning(UserWarning):
    """An op mixed floats of two widths."""


# --- watching -------------------------------------------------------------------------------------------------------


class Watcher:
    """Is told of every new value and every backward in its thread. This one does nothing about it."""

    def made(self, value: Value, op: Any, inputs: Sequence[Value]) -> None:
        pass

    def before_backward(self, output: Value) -> None:
        pass

    def after_backward(self, output: Value, seed: Value, kept: Sequence[tuple[Value, Value]]) -> None:
        pass


class _Both(Watcher):
    """Two watchers as one."""

    def __init__(self, first: Any, second: Any):
        self.first, self.second = first, second

    def made(self, value: Value, op: Any, inputs: Sequence[Value]) -> None:
        self.first.made(value, op, inputs)
        self.second.made(value, op, inputs)

    def before_backward(self, output: Value) -> None:
        self.first.before_backward(output)
        self.second.before_backward(output)

    def after_backward(self, output: Value, seed: Value, kept: Sequence[tuple[Value, Value]]) -> None:
        self.first.after_backward(output, seed, kept)
        self.second.after_backward(output, seed, kept)


@contextmanager
def watched_by(watcher: Any) -> Iterator[None]:
    """`watcher` looks on, beside those who already do; None sends them all away for a while."""
    before = mode.observer
    mode.observer = _Both(before, watcher) if before is not None and watcher is not None else watcher
    try:
        yield
    finally:
        mode.observer = before


# --- lines ----------------------------------------------------------------------------------------------------------

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
NOT_THE_USER = (PACKAGE, "<frozen", runpy.__file__)  # Python 3.10 does not freeze runpy, which runs `python -m needle`


class Site:
    """A place in the user's code. Takes two numbers to note; its text is read when somebody prints it."""

    __slots__ = ("code", "instruction", "line")

    def __init__(self, frame: FrameType):
        self.code: CodeType = frame.f_code
        self.instruction, self.line = frame.f_lasti, frame.f_lineno

    @property
    def place(self) -> str:
        """file:line, the file as seen from the working directory where it lies in it."""
        file, here = self.code.co_filename, os.getcwd() + os.sep
        return f"{file.removeprefix(here)}:{self.line}"

    @property
    def source(self) -> str:
        """The line's text, and which call or operator of it, where it holds several."""
        line = getline(self.code.co_filename, self.line)
        text, part = line.strip(), self._expression(line)
        return text if not part or _is_whole(text, part) else f"{text}  (in it: {part})"

    def __str__(self) -> str:
        return f"{self.place}: {self.source}".removesuffix(": ")

    def _expression(self, line: str) -> str | None:
        """The very call or operator within the line, where Python (3.11 and newer) knows it."""
        if not hasattr(self.code, "co_positions"):
            return None
        found = next(islice(self.code.co_positions(), self.instruction // 2, None), None)
        if found is None or found[0] != found[1] or None in found:
            return None
        return line.encode()[found[2] : found[3]].decode(errors="replace")


def _is_whole(text: str, part: str) -> bool:
    """Whether `part` is all that the line computes: nothing before it but a name, nothing behind but a comment."""
    before, _, after = text.partition(part)
    named = before.rstrip().endswith(("=", "return")) or not before
    return named and (not after.strip() or after.lstrip().startswith("#"))


def user_site() -> Site | None:
    """The line outside needle that is being executed; None under `python -m needle` where needle does it itself."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(NOT_THE_USER):
        frame = frame.f_back
    return None if frame is None else Site(frame)


class _SiteRecorder(Watcher):
    def made(self, value: Value, op: Any, inputs: Sequence[Value]) -> None:
        note_site(value, inputs)


def note_site(value: Value, inputs: Sequence[Value]) -> None:
    if value.notes is not None and "site" in value.notes:  # another watcher was here first
        return
    value.note(site=user_site())
    if isinstance(value.cached_data, tuple):
        value.note(parts=[site_of(x) for x in inputs])


@contextmanager
def record_sites() -> Iterator[None]:
    """Every tensor made within remembers the line that made it, and error messages name it: 2 µs each."""
    with watched_by(_SiteRecorder()):
        yield


# --- float32 meets float64 ------------------------------------------------------------------------------------------


class _PromotionWatcher(Watcher):
    def __init__(self, action: str):
        self.action = action

    def made(self, value: Value, op: Any, inputs: Sequence[Value]) -> None:
        if self.action and op is not None and not hasattr(op, "dtype") and widened(value, inputs):
            self._tell(value, op, inputs, user_site())

    def _tell(self, value: Value, op: Any, inputs: Sequence[Value], site: Site | None) -> None:
        message = _promotion_message(value, op, inputs, site)
        if self.action == "error" or site is None:
            raise PromotionError(message)
        self.action = ""
        warnings.warn_explicit(message, PromotionWarning, site.code.co_filename, site.line)


def widened(value: Value, inputs: Sequence[Value]) -> bool:
    """Whether the result is a wider float than one of the floats that went in."""
    if not isinstance(value, Tensor) or value.dtype.kind != "f":
        return False
    size = value.dtype.itemsize
    return any(a.dtype.kind == "f" and a.dtype.itemsize < size for x in inputs for a in arrays_of(x))


def _promotion_message(value: Value, op: Any, inputs: Sequence[Value], site: Site | None) -> str:
    arrays = [a for x in inputs for a in arrays_of(x)]
    met = " met ".join(f"{a.dtype} {a.shape}" for a in arrays)
    narrow = min((a.dtype for a in arrays if a.dtype.kind == "f"), key=lambda dtype: dtype.itemsize)
    where, source = (f" at {site.place}", f"\n  {site.source}") if site else ("", "")
    return (
        f"{type(op).__name__}: {met}{where} -> {value.cached_data.dtype}{source}{made_at(inputs)}\n  "
        f"to stay in {narrow}, make the other so: ndl.Tensor(..., dtype='{narrow}') or x.astype('{narrow}')"
    )


@contextmanager
def detect_promotion(action: str = "error") -> Iterator[None]:
    """Names the first op whose result is a wider float than one of its arguments, and its line.

    action: "error" raises PromotionError, "warn" gives one PromotionWarning. `astype` may widen.
    """
    if action not in ("error", "warn"):
        raise ValueError(f"detect_promotion: action must be 'error' or 'warn', got {action!r}")
    with watched_by(_PromotionWatcher(action)):
        yield


# --- NaN and infinity -----------------------------------------------------------------------------------------------


@contextmanager
def detect_anomaly(thorough: bool = True) -> Iterator[None]:
    """A backward that meets NaN or infinity raises AnomalyError, which names the op that made the first.

    It looks at the loss and at the gradients of the leaves; only when one of them is bad does it go through the graph:
    the values, or rule by rule the gradients. `.grad` stays as it was. `thorough` also notes the line of every op, as
    `record_sites` does, and finds an array of the graph that was changed behind its back (`x.cached_data[0] = 1`:
    RuntimeError), for which it reads every array twice; thorough=False saves all that.
    """
    with watched_by(_AnomalyDetector(thorough)):
        yield


class _AnomalyDetector(Watcher):
    def __init__(self, thorough: bool):
        self.thorough = thorough

    def made(self, value: Value, op: Any, inputs: Sequence[Value]) -> None:
        if self.thorough:
            note_site(value, inputs)
        if self.thorough and value.op is not None:
            value.note(read=[_noted_print(x) for x in inputs], result=fingerprint(value))

    def before_backward(self, output: Value) -> None:
        with watched_by(None), no_grad():
            if self.thorough:
                check_untouched(output)
            if not is_finite(output):
                raise AnomalyError(explain_forward(output))

    def after_backward(self, output: Value, seed: Value, kept: Sequence[tuple[Value, Value]]) -> None:
        with watched_by(None), no_grad():
            if not all(is_finite(grad) for _, grad in kept):
                raise AnomalyError(explain_backward(output, seed))


def is_finite(value: Value) -> bool:
    return all(_all_finite(a) for a in arrays_of(value))


def _all_finite(a: Any) -> bool:
    if a.dtype.kind != "f":
        return True
    with array_api.errstate(all="ignore"):
        total = a.sum()  # the quick answer; it can overflow where no element is infinite
    return bool(array_api.isfinite(total)) or bool(array_api.isfinite(a).all())


def has_nan(value: Value) -> bool:
    return any(a.dtype.kind == "f" and bool(array_api.isnan(a).any()) for a in arrays_of(value))


def has_inf(value: Value) -> bool:
    return any(a.dtype.kind == "f" and bool(array_api.isinf(a).any()) for a in arrays_of(value))


# --- arrays changed behind the graph's back -------------------------------------------------------------------------


def fingerprint(value: Value) -> int:
    """A checksum of the elements, in order."""
    total = 0
    for a in arrays_of(value):
        total = zlib.crc32(array_api.ascontiguousarray(device_of(a).to_numpy(a)).data, total)
    return total


def _noted_print(x: Value) -> int:
    """The fingerprint taken when x was made, or one taken now."""
    noted = (x.notes or {}).get("result")
    return fingerprint(x) if noted is None else noted


def check_untouched(output: Value) -> None:
    """Raise RuntimeError where an array below `output` is no longer what the forward pass read or wrote."""
    now: dict[Value, int] = {}
    for node in find_topo_sort([output]):
        notes = node.notes or {}
        if any(was_written(x, node.stamp) for x in node.inputs):
            return  # the reverse pass says so itself
        for index, (x, noted) in enumerate(zip(node.inputs, notes.get("read", ()), strict=False)):
            _compare(x, noted, now, node, f"argument {index}")
        _compare(node, notes.get("result"), now, node, "the result")


def _compare(x: Value, noted: int | None, now: dict[Value, int], node: Value, which: str) -> None:
    if noted is None:
        return
    if x not in now:
        now[x] = fingerprint(x)
    if now[x] != noted:
        made = site_of(x)
        raise RuntimeError(
            f"detect_anomaly: {which} of {type(node.op).__name__}{_at(node)}, {describe([x])}, was changed after the "
            "forward pass used it, through its NumPy array (cached_data and realize_cached_data() hand out the live "
            "one), so gradients would be wrong; write to a copy, x.numpy(), or to the tensor itself within no_grad()"
            + (f"\n  it was made at {made}" if made else "")
        )


def _at(node: Value) -> str:
    site = (node.notes or {}).get("site")
    return "" if site is None else f" at {site.place}"


# --- the op that made it, forward -----------------------------------------------------------------------------------


def explain_forward(output: Value) -> str:
    """Which op made the NaN or infinity that `output` holds."""
    kind = "NaN" if has_nan(output) else "infinite"
    origin = first_bad(output, has_nan if kind == "NaN" else has_inf)
    lines = [f"detect_anomaly: the output that backward() is called on is {kind}"]
    source = _source_of_infinity(origin)
    if source is not None:
        lines += [*_report_forward(source), f"  which became NaN in {type(origin.op).__name__}{_at(origin)}"]
        return "\n".join(lines)
    return "\n".join(lines + _report_forward(origin))


def first_bad(output: Value, bad: Callable[[Value], bool]) -> Value:
    """The oldest of the nodes through which badness came to `output`: nothing that went into it was bad."""
    seen, todo = {output}, [output]
    while todo:
        found = [x for x in todo.pop().inputs if x not in seen and bad(x)]
        seen.update(found)
        todo += found
    return min(seen, key=lambda node: node.stamp)


def _source_of_infinity(origin: Value) -> Value | None:
    """The op that made an infinity of which `origin` made a NaN, where an op did."""
    infinite = [x for x in origin.inputs if has_inf(x)]
    sources = [first_bad(x, has_inf) for x in infinite]
    made = [source for source in sources if source.inputs]
    return min(made, key=lambda node: node.stamp) if made else None


def _report_forward(node: Value) -> list[str]:
    if not node.inputs:
        return [f"It came with a tensor that no recorded op made{_at(node)}: {value_range(node)}"]
    headline = f"First made in the forward pass, by {type(node.op).__name__}:"
    lines = [headline, *_where(node), *_arguments(node), f"  result: {value_range(node)}"]
    return lines + _hint(node)


def _where(node: Value) -> list[str]:
    site = site_of(node)
    return [f"  at {site}"] if site else []


def _arguments(node: Value) -> list[str]:
    return [f"  argument {i}: {value_range(x)}" for i, x in enumerate(node.inputs)]


def value_range(value: Value) -> str:
    """Shape, dtype, smallest and largest finite element, and how many are not finite."""
    return "; ".join(_range(a) for a in arrays_of(value))


def _range(a: Any) -> str:
    text = f"{a.shape} {a.dtype}"
    if a.dtype.kind not in "iuf" or not a.size:
        return text
    finite = device_of(a).getitem(a, array_api.isfinite(a))
    counts = (("NaN", array_api.isnan(a)), ("infinite", array_api.isinf(a)), ("zero", array_api.equal(a, 0)))
    found = [f"{int(where.sum())} {name}" for name, where in counts if where.any()]
    text += f" from {finite.min().item():.4g} to {finite.max().item():.4g}" if finite.size else ""
    return f"{text}, {', '.join(found)}" if found else text


# --- the rule that made it, backward --------------------------------------------------------------------------------


def explain_backward(output: Value, seed: Value) -> str:
    """Which derivative rule made the NaN or infinity that a gradient below `output` holds."""
    grads: dict[Value, Value] = {}
    with array_api.errstate(all="ignore"):
        for node, grad in reverse_pass([output], [seed]):
            if not is_finite(grad):
                return "\n".join(_report_backward(node, grad, grads))
            grads[node] = grad
    return "detect_anomaly: a gradient was not finite, but was when computed again: an op or a rule is random"


def _report_backward(node: Value, grad: Value, grads: dict[Value, Value]) -> list[str]:
    kind = "NaN" if has_nan(grad) else "infinite"
    lines = [f"detect_anomaly: the output is finite, but a gradient is {kind}"]
    if not grads:
        return [*lines, f"It came with the seed that backward() was given: {value_range(grad)}"]
    for user, index in _uses(node, grads):
        part = as_tuple(user.op.gradient(grads[user], user))[index]  # type: ignore[union-attr]
        if part is not None and not is_finite(part):
            return lines + _report_rule(user, index, part, grads)
    return [*lines, f"Its parts were finite; their sum or a gradient hook made {value_range(grad)}{_at(node)}"]


def _uses(node: Value, grads: dict[Value, Value]) -> list[tuple[Value, int]]:
    return [(user, index) for user in grads for index, x in enumerate(user.inputs) if x is node]


def _report_rule(node: Value, index: int, part: Value, grads: dict[Value, Value]) -> list[str]:
    out_grad = grads[node]
    rule = f"the rule of {type(node.op).__name__} for argument {index}"
    lines = [f"First made in the backward pass, by {rule}:", *_where(node)]
    lines += [f"  out_grad: {value_range(out_grad)}", *_arguments(node)]
    lines += [f"  result: {value_range(node)}", f"  gradient of argument {index}: {value_range(part)}"]
    return lines + _hint(node) + _mask_hint(node, out_grad, part, grads)


def _mask_hint(node: Value, out_grad: Value, part: Value, grads: dict[Value, Value]) -> list[str]:
    """0·∞: what came in was 0, as it is below the branch that a `where` did not choose."""
    if not has_nan(part) or not any(bool((a == 0).any()) for a in arrays_of(out_grad)):
        return []
    chosen = next((user for user in grads if isinstance(user.op, Where)), None)
    if chosen is None:
        return ["  out_grad is 0 in places: 0·∞ is NaN"]
    return [
        f"  out_grad is 0 where the `where`{_at(chosen)} chose the other branch, and 0·∞ is NaN: choose the "
        "argument too, ndl.where(mask, f(ndl.where(mask, x, 1)), 0) with a 1 that f can take"
    ]


# --- likely causes --------------------------------------------------------------------------------------------------

POSITIVE = "keep it positive, as by ndl.maximum(x, 1e-12)"
ROOT_AT_0 = "the slope of a root at 0 is infinite: take ndl.sqrt(x + 1e-12)"
POWER_AT_0 = "the power or its slope is infinite at 0"
DIVISION = "division by 0: keep the divisor away from it, as by x / (y + 1e-12)"
NO_POWER = "a negative number has no fractional power"
OVERFLOW = (
    "exp overflows above 88 in float32 and 709 in float64: ndl.softmax, ndl.logsumexp, ndl.sigmoid and "
    "ndl.softplus do not"
)


def _overflows(op: Any, a: Any) -> Any:
    return a > array_api.log(array_api.finfo(a.dtype).max) if a.dtype.kind == "f" else a > 709


CAUSES: list[tuple[tuple[type, ...], Callable[..., Any], str]] = [
    ((Log,), lambda op, a: a < 0, f"a negative number has no logarithm: {POSITIVE}"),
    ((Log,), lambda op, a: a == 0, f"log of 0 is −∞, its slope ∞: {POSITIVE}, or use ndl.logsoftmax"),
    ((Log1p,), lambda op, a: a <= -1, "log1p wants numbers above −1"),
    ((Sqrt, Rsqrt), lambda op, a: a < 0, f"a negative number has no square root: {POSITIVE}"),
    ((Sqrt, Rsqrt), lambda op, a: a == 0, ROOT_AT_0),
    ((EWiseDiv,), lambda op, a, b: b == 0, DIVISION),
    ((DivScalar,), lambda op, a: op.scalar == 0, "division by 0"),
    ((Exp, Expm1), _overflows, OVERFLOW),
    ((PowerScalar,), lambda op, a: array_api.logical_and(a < 0, op.scalar % 1 != 0), NO_POWER),
    ((PowerScalar,), lambda op, a: array_api.logical_and(a == 0, op.scalar < 1), POWER_AT_0),
    ((EWisePow,), lambda op, a, b: array_api.logical_and(a < 0, b % 1 != 0), NO_POWER),
    ((EWisePow,), lambda op, a, b: array_api.logical_and(a == 0, b < 1), POWER_AT_0),
]


def _hint(node: Value) -> list[str]:
    """The first known cause that fits the op and what it was given."""
    arrays = [x.cached_data for x in node.inputs]
    for ops, applies, sentence in CAUSES:
        if isinstance(node.op, ops) and array_api.any(applies(node.op, *arrays)):
            return [f"  {sentence}"]
    if any(has_inf(x) for x in node.inputs):
        return ["  an argument is infinite, and ∞ − ∞, 0·∞ and ∞/∞ are NaN"]
    big = [a for x in (*node.inputs, node) for a in arrays_of(x) if a.dtype.kind == "f" and _too_big(a)]
    return [f"  too big for {big[0].dtype}: have values or weights grown without bound?"] if big else []


def _too_big(a: Any) -> bool:
    """Whether an element lies above the square root of the largest number: products overflow there."""
    return bool((array_api.abs(a) > array_api.finfo(a.dtype).max ** 0.5).any())
