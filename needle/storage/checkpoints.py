"""Checkpoints: all that a training needs to go on to the bit, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np

from ..backend_numpy import checked_state
from .errors import StorageError, broken
from .nesting import pack, unpack
from .safetensors_format import SHA256, read_safetensors, write_safetensors

__all__ = ["load_checkpoint", "read_checkpoint", "restore_parts", "restore_states", "save_checkpoint", "snapshot"]

ENTRY = "needle.checkpoint"  # the metadata that makes a safetensors file a checkpoint
VERSION = 1
NUMPY_RANDOM = "numpy_random"


def save_checkpoint(path: Any, *, extra: Any = None, **parts: Any) -> None:
    """Write the state of each part under its name, NumPy's global generator, and `extra`, in place of `path`.

        save_checkpoint("run.safetensors", model=model, optimizer=optimizer, loader=loader, extra={"epoch": 3})

    A part has state_dict() and load_state_dict(state), or is a generator, needle's or NumPy's. `extra` holds numbers,
    texts, tensors, arrays, and dicts, lists and tuples of them. A process that is killed meanwhile leaves the old file.
    """
    if NUMPY_RANDOM in parts:
        raise ValueError(f"checkpoint: no part can be named {NUMPY_RANDOM}: NumPy's global generator is saved as that")
    states = {name: _state(name, part) for name, part in {**parts, NUMPY_RANDOM: np.random}.items()}
    tree, arrays = pack({**states, "extra": extra})
    whole = {"version": VERSION, "needle": _version(), "numpy": np.__version__, "state": tree}
    write_safetensors(path, arrays, {ENTRY: json.dumps(whole, allow_nan=False)})


def load_checkpoint(path: Any, *, numpy_random: bool = True, **parts: Any) -> Any:
    """Give each part the state that `save_checkpoint` saved under its name, and NumPy's global generator its own
    (but for numpy_random=False); returns `extra`.

    Runs no code of the file. Raises StorageError (a ValueError) where the file is cut, altered or no checkpoint, or a
    part is missing in it or refuses its state; no part is changed then.
    """
    wanted = {**parts, NUMPY_RANDOM: np.random} if numpy_random else parts
    return restore_parts(wanted, read_checkpoint(path)["state"], path)


def restore_parts(wanted: Mapping[str, Any], states: Mapping[str, Any], path: Any) -> Any:
    """`load_checkpoint` of states that were read already; returns `extra`."""
    missing = [name for name in wanted if name not in states]
    if missing:
        has = ", ".join(name for name in states if name not in ("extra", NUMPY_RANDOM))
        raise StorageError(f"{path}: has no state of {', '.join(missing)}; it has those of {has or 'nothing'}")
    restore_states(wanted, states, path)
    return states["extra"]


def read_checkpoint(path: Any) -> dict[str, Any]:
    """What is in a checkpoint: the versions of `needle` and `numpy` that wrote it, and `state`, by part."""
    arrays, texts = read_safetensors(path)
    if ENTRY not in texts:
        raise StorageError(f"{path}: is no checkpoint of needle; ndl.load reads plain dicts of tensors")
    if SHA256 not in texts:
        raise broken(path, f"a checkpoint without its SHA-256 ({SHA256} in its metadata)")
    try:
        whole = json.loads(texts[ENTRY])
        version, tree = whole["version"], whole["state"]
        if version == VERSION:
            return {"needle": whole["needle"], "numpy": whole["numpy"], "state": unpack(tree, arrays)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(path, f"no sound checkpoint ({error!r})") from None
    raise StorageError(f"{path}: is a checkpoint of version {version!r}, wanted {VERSION}; it needs a newer needle")


def snapshot(parts: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of each part's state, for `restore_states`. Raises TypeError for a part that has none."""
    return {name: _copied(_state(name, part)) for name, part in parts.items()}


def restore_states(parts: Mapping[str, Any], states: Mapping[str, Any], source: Any) -> None:
    """Give each part its state. Where one refuses, all get back what they had, and StorageError names `source`."""
    before = snapshot(parts)
    for name, part in parts.items():
        try:
            _set_state(part, states[name])
        except Exception as error:  # whatever a part says of a state that it cannot take
            for other, state in before.items():
                _set_state(parts[other], state)
            raise StorageError(f"{source}: the state of {name} does not fit, nothing was loaded: {error}") from error


def _state(name: str, part: Any) -> Any:
    if hasattr(part, "load_state_dict"):
        return part.state_dict()
    if hasattr(part, "get_state"):  # numpy.random, numpy.random.RandomState
        return part.get_state(legacy=False)
    if hasattr(part, "bit_generator"):  # numpy.random.Generator
        return part.bit_generator.state
    if isinstance(getattr(part, "state", None), dict):  # needle.Generator
        return part.state
    raise TypeError(
        f"checkpoint: {name} is a {type(part).__name__}, wanted something with state_dict() and "
        "load_state_dict(state), or a generator; plain values go into extra"
    )


def _set_state(part: Any, state: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif hasattr(part, "get_state"):
        part.set_state(checked_state(state))
    elif hasattr(part, "bit_generator"):
        part.bit_generator.state = state
    else:
        part.state = state


def _copied(state: Any) -> Any:
    tree, arrays = pack(state)
    return unpack(tree, {name: array.copy() for name, array in arrays.items()})


def _version() -> str:
    try:
        return metadata.version("needle")
    except metadata.PackageNotFoundError:  # run from a clone
        return "not installed"
