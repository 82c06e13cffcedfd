"""A table of a model's layers: what each gives and how many parameters it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..autograd import Tensor
from ..init import zeros
from ..modes import no_grad
from .nn_module import Module

__all__ = ["Summary", "summary"]


@dataclass(frozen=True)
class Row:
    """One module: its name and class, the shape of its first output (None: not run), its own parameters, its calls."""

    name: str
    kind: str
    output: Any
    parameters: int
    calls: int


@dataclass(frozen=True)
class Summary:
    """What `summary` found; str() is a table."""

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    buffers: int

    def __str__(self) -> str:
        cells = [("layer", "output", "parameters"), *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in cells]
        rule = "-" * len(lines[0])
        total = f"{self.parameters:,} parameters, {self.trainable:,} of them trainable; {self.buffers:,} in buffers"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])


def _cells(row: Row) -> tuple[str, str, str]:
    depth = row.name.count(".") + 1 if row.name else 0
    label = f"({row.name.rpartition('.')[2]}): {row.kind}" if row.name else row.kind
    output = "not run" if not row.calls else str(row.output) + (f" in {row.calls} calls" if row.calls > 1 else "")
    return "  " * depth + label, output, f"{row.parameters:,}" if row.parameters else "-"


def summary(model: Module, input_shape: Any) -> Summary:
    """Run the model once on zeros of `input_shape`, batch axis included, or on a given Tensor, and tell of each layer.

    It runs in eval mode, so that nothing is drawn and no statistics change; the modes are restored. A parameter that
    two layers share counts for the first.
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: wanted a Module, got {type(model).__name__}")
    x = input_shape if isinstance(input_shape, Tensor) else _zeros(model, input_shape)
    outputs: dict[int, list[Any]] = {}
    with _watched(model, lambda module, y: outputs.setdefault(id(module), []).append(_shape(y))), no_grad():
        model(x)
    own = _own_parameters(model)
    rows = [
        Row(name, type(m).__name__, outputs.get(id(m), [None])[0], own.get(name, 0), len(outputs.get(id(m), [])))
        for name, m in model.named_modules()
    ]
    sizes = [(p.size, p.requires_grad) for p in model.parameters()]
    buffers = sum(buffer.size for _, buffer in model.named_buffers())
    return Summary(tuple(rows), sum(n for n, _ in sizes), sum(n for n, learnt in sizes if learnt), buffers)


def _zeros(model: Module, shape: Any) -> Tensor:
    """In the dtype and on the device of the first parameter."""
    like = next(iter(model.parameters()), None)
    return zeros(*shape) if like is None else zeros(*shape, dtype=like.dtype, device=like.device)


def _own_parameters(model: Module) -> dict[str, int]:
    """How many numbers the parameters of each module hold, without those of the modules in it."""
    names = [name for name, _ in model.named_modules()]
    counts = dict.fromkeys(names, 0)
    for path, parameter in model.named_parameters():
        owner = max((n for n in names if not n or path.startswith(n + ".")), key=len)
        counts[owner] += parameter.size
    return counts


@contextmanager
def _watched(model: Module, note: Callable[[Module, Any], None]) -> Iterator[None]:
    """Within it the model is in eval mode and `note` sees what each of its modules gives."""
    before = [(module, dict(vars(module))) for _, module in model.named_modules()]
    model.eval()
    for module, _ in before:
        vars(module)["forward"] = _noting(module, note)
    try:
        yield
    finally:
        for module, attributes in before:
            del vars(module)["forward"]
            vars(module).update({name: attributes[name] for name in ("training", "forward") if name in attributes})


def _noting(module: Module, note: Callable[[Module, Any], None]) -> Callable:
    forward = module.forward

    def noting(*args: Any, **kwargs: Any) -> Any:
        y = forward(*args, **kwargs)
        note(module, y)
        return y

    return noting


def _shape(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(map(_shape, value))
    return getattr(value, "shape", type(value).__name__)
