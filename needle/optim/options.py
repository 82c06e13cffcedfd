"""The options of an optimizer: numbers that every parameter group has of its own, checked wherever they are set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Option:
    """One option, declared in the body of an optimizer's class, where its name is found.

    `optimizer.lr` reads it from the groups, which must agree; `optimizer.lr = 0.1` sets it in all of them.
    wanted: what it must be, in words; allowed: the same as a function. A number becomes Python's own, since NumPy's
    float64 would promote float32 parameters.
    """

    def __init__(self, wanted: str, allowed: Callable[[Any], bool], kind: type = float, optional: bool = False):
        self.wanted, self.allowed, self.kind, self.optional = wanted, allowed, kind, optional
        self.name = ""

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name
        owner.options = {**owner.options, name: self}

    def clean(self, who: str, value: Any) -> Any:
        """`value` as the number that it is. TypeError where it is none, ValueError where it is out of range."""
        if value is None and self.optional:
            return None
        try:
            number = value if type(value) is self.kind else self._converted(value)
        except (TypeError, ValueError):
            raise TypeError(f"{who}: {self.name} must be a number {self.wanted}, got {value!r}") from None
        if not self.allowed(number):
            raise ValueError(f"{who}: {self.name} must be {self.wanted}, got {value}")
        return number

    def _converted(self, value: Any) -> Any:
        number = self.kind(value)
        if isinstance(value, str) or number != value and value == value:  # float("nan") is refused for its range
            raise TypeError
        return number

    def __get__(self, optimizer: Any, owner: Any) -> Any:
        if optimizer is None:
            return self
        values = [group[self.name] for group in optimizer.param_groups]
        if any(value != values[0] for value in values):
            raise AttributeError(
                f"{type(optimizer).__name__}: the parameter groups differ in {self.name} ({values}); "
                f"read optimizer.param_groups[i][{self.name!r}]"
            )
        return values[0]

    def __set__(self, optimizer: Any, value: Any) -> None:
        number = self.clean(type(optimizer).__name__, value)
        for group in optimizer.param_groups:
            group[self.name] = number


def at_least_0(optional: bool = False) -> Option:
    return Option(">= 0", lambda x: 0 <= x < float("inf"), optional=optional)


def below_1() -> Option:
    return Option("in [0, 1)", lambda x: 0 <= x < 1)


def flag() -> Option:
    return Option("True or False", lambda x: True, kind=bool)


def whole() -> Option:
    return Option(">= 1 and whole", lambda x: x >= 1, kind=int)


def with_betas(options: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's `betas=(beta1, beta2)`, where it is given, as the two options that it means."""
    betas = options.pop("betas", None)
    if betas is None:
        return options
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas must be two numbers in [0, 1), got {betas!r}")
    return {**options, "beta1": betas[0], "beta2": betas[1]}
