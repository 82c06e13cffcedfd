"""The one door through which optional third-party packages come in.

Needle's core needs NumPy alone. Everything else is asked for here, at the moment of use, so that a
missing package costs one clear sentence and only the feature that wanted it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__all__ = ["DISTRIBUTIONS", "EXTRAS", "distribution", "have", "optional"]

EXTRAS = ("apps", "jit", "test", "bench", "cuda", "distributed", "onnx", "viz", "all")

# Only the packages that are installed under another name than they are imported.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "cupy": "cupy-cuda12x",
}


def optional(module: str, *, extra: str, why: str = "") -> ModuleType:
    """Import `module`, a package that needle can do without.

    `extra` is the extra of needle that brings it, `why` completes "X is needed for ...".
    Raises ImportError saying what is missing, for what, and how to get it.
    """
    if extra not in EXTRAS:
        raise ValueError(f"optional: extra must be one of {', '.join(EXTRAS)}, got {extra!r}")
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of it did not load
        raise ImportError(_sentence(module, extra, why, error), name=module) from error


def have(module: str) -> bool:
    """Whether the top-level package of `module` is installed; nothing is imported."""
    try:
        return find_spec(_top(module)) is not None
    except ValueError:  # a loaded module without a spec, such as __main__: it is there
        return True


def distribution(module: str) -> str:
    """The name under which pip knows the package of `module`."""
    return DISTRIBUTIONS.get(_top(module), _top(module))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _sentence(module: str, extra: str, why: str, error: Exception) -> str:
    name = distribution(module)
    purpose = f" for {why}" if why else ""
    # An installed package that fails inside (a wrong version of its own needs) is another trouble
    # than a missing one, and installing it again as told below would not be the cure.
    if have(module):
        return (
            f"{name} is needed{purpose}; it is installed but cannot be imported ({error}): "
            f"repair it with `pip install --upgrade --force-reinstall {name}`"
        )
    return (
        f"{name} is needed{purpose} and is not installed: `pip install {name}`, "
        f"or `pip install -e '.[{extra}]'` in a clone of needle"
    )
