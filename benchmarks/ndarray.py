"""Arrays alone, without a graph: one operation of NDArray beside NumPy and PyTorch, contiguous and strided. Each
function makes `step(i)` of its library, which gives the result. Results are row-major, as NDArray's always are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from needle import backend_ndarray as nd
from needle.optional import optional

SIDE = 1000  # of the square arrays; a million float32


@dataclass
class Library:
    """What differs between the libraries: how an array is made, and what a few operations are called."""

    array: Callable[[np.ndarray], Any]
    exp: Callable[[Any], Any]
    largest: Callable[[Any, int], Any]
    compact: Callable[[Any], Any]
    add: Callable[[Any, Any], Any]  # into a new row-major array


def needle(op, side=SIDE, device="cpu"):
    device = getattr(nd, device)()
    library = Library(
        array=lambda a: nd.array(a, device=device),
        exp=nd.exp,
        largest=lambda x, axis: x.max(axis=axis),
        compact=lambda x: x.compact(),
        add=lambda x, y: x + y,
    )
    return steps(library, op, side)


def needle_cpu_numpy(op, side=SIDE):
    return needle(op, side, "cpu_numpy")


def by_hand(op, side=SIDE):
    library = Library(
        array=np.array,
        exp=np.exp,
        largest=lambda x, axis: x.max(axis=axis),
        compact=np.ascontiguousarray,
        add=lambda x, y: np.add(x, y, order="C"),
    )
    return steps(library, op, side)


def torch_eager(op, side=SIDE):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    library = Library(
        array=torch.from_numpy,
        exp=torch.exp,
        largest=torch.amax,
        compact=lambda x: x.contiguous(),
        add=lambda x, y: torch.add(x, y, out=torch.empty(side, side)),
    )
    return steps(library, op, side)


def steps(library: Library, op: str, side: int) -> Callable[[int], Any]:
    random = np.random.RandomState(3)
    x, y = (library.array(random.rand(side, side).astype("float32")) for _ in range(2))
    row = library.array(random.rand(1, side).astype("float32"))
    part = library.array(random.rand(-(-side // 2), -(-side // 3)).astype("float32"))
    run = {
        "add": lambda: x + y,
        "add_transposed": lambda: library.add(x.T, row),
        "exp": lambda: library.exp(x),
        "sum": lambda: x.sum(),
        "sum_0": lambda: x.sum(axis=0),
        "sum_1": lambda: x.sum(axis=1),
        "max_0": lambda: library.largest(x, 0),
        "max_1": lambda: library.largest(x, 1),
        "compact_transposed": lambda: library.compact(x.T),
        "compact_slice": lambda: library.compact(x[::2, ::3]),
        "setitem_slice": lambda: assigned(y, part),
        "matmul": lambda: x @ y,
        "matmul_transposed": lambda: x.T @ y,
    }[op]
    return lambda i: run()


def assigned(target: Any, part: Any) -> Any:
    target[::2, ::3] = part
    return target
