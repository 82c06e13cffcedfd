"""Writes docs/ops.md from the docstrings of the ops: `python docs/make_ops.py`. A test compares."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from needle import Op, ops  # noqa: E402

OPS = ROOT / "docs" / "ops.md"
HEAD = """# Every op

Written by `python docs/make_ops.py` from the docstrings; a test sees to it that it was run. Functions first, then the
classes behind them: a function is an op of its own where that is more stable or faster than a composition of others,
and the text of its class says which. In a rule, g is the gradient that arrives, y the result."""


def page() -> str:
    return "\n".join([HEAD, *[section(module) for module in ops.MODULES], ""])


def section(module: ModuleType) -> str:
    things = [getattr(module, name) for name in module.__all__]
    functions = [entry(thing, thing.__name__ + signature(thing)) for thing in things if inspect.isfunction(thing)]
    classes = [entry(thing, thing.__name__) for thing in things if inspect.isclass(thing) and issubclass(thing, Op)]
    title = inspect.getdoc(module) or ""
    return "\n".join([f"\n## {module.__name__.rpartition('.')[2]}\n", title + "\n", *functions, *classes])


def signature(function: object) -> str:
    """The parameters without their types, which stand in the source."""
    given = inspect.signature(function)  # type: ignore[arg-type]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in given.parameters.values()]
    return str(given.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def entry(thing: object, name: str) -> str:
    first, *rest = (inspect.getdoc(thing) or "").splitlines()
    return "\n".join([f"- **`{name}`** {first}", *[f"  {line}".rstrip() for line in rest]])


if __name__ == "__main__":
    OPS.write_text(page(), encoding="utf-8")
