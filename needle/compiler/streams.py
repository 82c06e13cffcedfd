"""The random streams that a graph draws from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..backend_numpy import CPUDevice
from .ir import Graph


def streams_of(graph: Graph) -> Iterator[tuple[Callable, Any]]:
    """How to put each stream back, and its state of now."""
    cpu = CPUDevice()
    yield cpu.set_random_state, cpu.random_state()
    for node in graph.nodes:
        owner = getattr(node.options[0], "__self__", None) if node.kind == "random" else None
        if owner is not None:
            yield (lambda state, owner=owner: setattr(owner, "state", state)), owner.state
