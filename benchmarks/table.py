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
    rivals: tuple[str, ...] = ()  # beside needle; none named: all


@dataclass(frozen=True)
class Rival:
    """A framework: the `function` that makes its step, the packages that it must not see, and, if it is not for all
    workloads, how the names of those begin that it is for."""

    name: str
    function: str
    without: tuple[str, ...] = ()
    only: str | tuple[str, ...] = ""


# fmt: off
WORKLOADS = [
    Workload("softmax", "softmax regression 784×10, batch 100", "benchmarks.softmax", 200),
    Workload("hidden100", "two layers 784×100×10, batch 100", "benchmarks.two_layer", 60, {"hidden": 100}),
    Workload("hidden500", "two layers 784×500×10, batch 100", "benchmarks.two_layer", 20, {"hidden": 500}),
    Workload("mlp_resnet", "MLPResNet 784-100, 3 blocks, batch 250, Adam, dropout 0.1", "benchmarks.mlp_resnet", 20),
    Workload("transformer_block", "transformer block 128, 8 heads, 16×64, Adam", "benchmarks.transformer_block", 10),
    Workload("lstm_step", "LSTM 64→128 over 20 moments, batch 32", "benchmarks.lstm_step", 20),
    Workload("forward", "one 4×4 addition, forward", "benchmarks.per_op", 100, {"backward": False}, ops=100),
    Workload("backward", "one 4×4 addition, and its gradient", "benchmarks.per_op", 50, {"backward": True}, ops=100),
]

ARRAYS = "needle cpu_numpy", "PyTorch eager", "NumPy by hand"


def _array(op: str, title: str, block: int, side: int = 1000) -> Workload:
    name = f"ndarray_{op}" + (f"_{side}" if side != 1000 else "")
    return Workload(name, title, "benchmarks.ndarray", block, {"op": op, "side": side}, rivals=ARRAYS)


WORKLOADS += [
    _array("add", "NDArray: x + y, a million float32", 40),
    _array("add_transposed", "NDArray: x.T + row, 1000×1000", 20),
    _array("exp", "NDArray: exp(x), a million float32", 40),
    _array("sum", "NDArray: sum of 1000×1000", 80),
    _array("sum_0", "NDArray: sum of 1000×1000, axis 0", 80),
    _array("sum_1", "NDArray: sum of 1000×1000, axis 1", 80),
    _array("max_0", "NDArray: max of 1000×1000, axis 0", 80),
    _array("max_1", "NDArray: max of 1000×1000, axis 1", 80),
    _array("compact_transposed", "NDArray: compact copy of x.T, 1000×1000", 20),
    _array("compact_transposed", "NDArray: compact copy of x.T, 1024×1024", 20, 1024),
    _array("compact_slice", "NDArray: compact copy of x[::2, ::3]", 100),
    _array("setitem_slice", "NDArray: x[::2, ::3] = y", 100),
    _array("matmul", "NDArray: x @ y, 64×64", 1000, 64),
    _array("matmul", "NDArray: x @ y, 128×128", 300, 128),
    _array("matmul", "NDArray: x @ y, 256×256", 100, 256),
    _array("matmul", "NDArray: x @ y, 512×512", 20, 512),
    _array("matmul_transposed", "NDArray: x.T @ y, 512×512", 20, 512),
]
# fmt: on

TRAININGS = ("softmax", "hidden", "mlp_resnet", "transformer_block", "lstm_step")
NEEDLE = Rival("needle", "needle")
REFERENCE = Rival("PyTorch eager", "torch_eager")
RIVALS = [
    NEEDLE,
    Rival("needle without Numba", "needle", without=("numba",)),
    Rival("needle jit", "needle_jit", only=TRAININGS),
    Rival("needle jit with a Generator", "needle_jit_generator", only="mlp_resnet"),
    Rival("needle jit without Numba", "needle_jit", without=("numba",), only=TRAININGS),
    Rival("needle cpu_numpy", "needle_cpu_numpy", only="ndarray_"),
    REFERENCE,
    Rival("PyTorch fused Adam", "torch_fused", only=("mlp_resnet", "transformer_block")),
    Rival("torch.compile", "torch_compiled"),
    Rival("jax.jit", "jax_jit"),
    Rival("NumPy by hand", "by_hand"),
]
