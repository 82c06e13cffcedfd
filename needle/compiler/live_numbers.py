"""Python numbers that each call may give anew: an option of an optimizer, a step counter, a float argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy

Where = Callable[[Any], float]  # finds a number when a call is made


class TracedNumber:
    """A number whose value of now is `value`, and an expression that gives it at a call.

    `text` is that expression in Python, over names that `leaves` finds the values of. Arithmetic makes further
    expressions; where Python wants to know one (`if`, `float()`, math.sqrt), it goes into `looked_at`: the recording
    holds as long as the expression gives this value.
    """

    __slots__ = ("leaves", "looked_at", "text", "value")

    def __init__(self, value: float, text: str, leaves: dict[str, Where], looked_at: dict[str, TracedNumber]):
        self.value, self.text, self.leaves, self.looked_at = value, text, leaves, looked_at

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # isinstance(x, float) is to be as in eager mode
        return type(self.value)

    def __repr__(self) -> str:
        return repr(self._known())

    def __array__(self, *args: Any, **options: Any) -> Any:
        return numpy.array(self._known(), *args, **options)

    def __getattr__(self, name: str) -> Any:
        """Whatever else a float has: of its value of now, which is thereby looked at."""
        if name.startswith("_") or not hasattr(self.value, name):
            raise AttributeError(f"{type(self.value).__name__!r} object has no attribute {name!r}")
        return getattr(self._known(), name)

    def __abs__(self) -> float:
        return abs(self._known())

    def __round__(self, *digits: int) -> float:
        return round(self._known(), *digits)

    def __pos__(self) -> TracedNumber:
        return self

    def __hash__(self) -> int:
        return hash(self._known())

    def __bool__(self) -> bool:
        return self._derived(bool(self.value), f"bool({self.text})")._known()  # type: ignore[return-value]

    def __float__(self) -> float:
        return float(self._known())

    def __int__(self) -> int:
        return int(self._known())

    def __index__(self) -> int:
        return operator.index(self._known())  # type: ignore[arg-type]

    def __format__(self, spec: str) -> str:
        return format(self._known(), spec)

    def __neg__(self) -> TracedNumber:
        return self._derived(-self.value, f"(-{self.text})")

    def _derived(self, value: float, text: str) -> TracedNumber:
        return TracedNumber(value, text, self.leaves, self.looked_at)

    def _known(self) -> float:
        self.looked_at[self.text] = self
        return self.value


def is_traced_number(value: Any) -> bool:
    return type(value) is TracedNumber


def _method(function: Callable, sign: str, swapped: bool = False) -> Callable:
    def method(self: TracedNumber, other: Any) -> Any:
        if not is_traced_number(other) and type(other) not in (int, float, bool):
            return NotImplemented
        a, b = (other, self) if swapped else (self, other)
        value = function(*(x.value if is_traced_number(x) else x for x in (a, b)))
        leaves = self.leaves | other.leaves if is_traced_number(other) else self.leaves
        return TracedNumber(value, f"({_text(a)} {sign} {_text(b)})", leaves, self.looked_at)

    return method


def _text(x: Any) -> str:
    return x.text if is_traced_number(x) else f"({x!r})"


def _comparison(function: Callable, sign: str) -> Callable:
    compare = _method(function, sign)

    def method(self: TracedNumber, other: Any) -> Any:
        made = compare(self, other)
        return made._known() if is_traced_number(made) else made

    return method


for _name, _sign in {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "pow": "**",
    "floordiv": "//",
    "mod": "%",
}.items():
    _function = getattr(operator, _name)
    setattr(TracedNumber, f"__{_name}__", _method(_function, _sign))
    setattr(TracedNumber, f"__r{_name}__", _method(_function, _sign, swapped=True))
for _name, _sign in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    setattr(TracedNumber, f"__{_name}__", _comparison(getattr(operator, _name), _sign))


def numbers_function(numbers: Sequence[TracedNumber]) -> Callable[[Any], list[float]]:
    """One Python function from the leaves of a call's arguments to all these numbers, each leaf read once."""
    leaves = {name: at for number in numbers for name, at in number.leaves.items()}
    lines = [f"    {name} = read_{name}(leaves)" for name in leaves]
    texts = ", ".join(number.text for number in numbers)
    namespace: dict[str, Any] = {"inf": math.inf, "nan": math.nan}
    namespace |= {f"read_{name}": at for name, at in leaves.items()}
    exec("\n".join(["def numbers(leaves):", *lines, f"    return [{texts}]"]), namespace)
    return namespace["numbers"]
