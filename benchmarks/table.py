"""What is measured, and beside whom. A new workload is a file and a line here; so is a new rival."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Workload:
    """`module` has one function per rival, which takes `options` and makes `step(i)`; `block` steps are timed at once.

    A time is that of one step, or of one op where a step has `ops` of them.
    """

    name: str
    title: str
    module: str
    block: int
    options: dict[str, Any] = field(default_factory=dict)
    ops: int = 1


@dataclass(frozen=True)
class Rival:
    """A framework: the `function` that makes its step, the packages that it must not see, and the one workload that
    it is for, if it is not for all."""

    name: str
    function: str
    without: tuple[str, ...] = ()
    only: str = ""


# fmt: off
WORKLOADS = [
    Workload("softmax", "softmax regression 784×10, batch 100", "benchmarks.softmax", 200),
    Workload("hidden100", "two layers 784×100×10, batch 100", "benchmarks.two_layer", 60, {"hidden": 100}),
    Workload("hidden500", "two layers 784×500×10, batch 100", "benchmarks.two_layer", 20, {"hidden": 500}),
    Workload("mlp_resnet", "MLPResNet 784-100, 3 blocks, batch 250, Adam, dropout 0.1", "benchmarks.mlp_resnet", 20),
    Workload("forward", "one 4×4 addition, forward", "benchmarks.per_op", 100, {"backward": False}, ops=100),
    Workload("backward", "one 4×4 addition, and its gradient", "benchmarks.per_op", 50, {"backward": True}, ops=100),
]
# fmt: on

NEEDLE = Rival("needle", "needle")
REFERENCE = Rival("PyTorch eager", "torch_eager")
RIVALS = [
    NEEDLE,
    Rival("needle without Numba", "needle", without=("numba",)),
    REFERENCE,
    Rival("PyTorch fused Adam", "torch_fused", only="mlp_resnet"),
    Rival("torch.compile", "torch_compiled"),
    Rival("jax.jit", "jax_jit"),
    Rival("NumPy by hand", "by_hand"),
]
