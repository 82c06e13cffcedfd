"""`ndl.jit` against eager: every op of the table, every layer, every optimizer, the apps' steps."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tracemalloc

import nn_examples
import numpy as np
import optim_check
import pytest
from op_check import draw, parts
from op_table import ROWS

import needle as ndl
from needle import nn

BACKENDS = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="Numba is not installed"))]  # fmt: skip
BANDS = {"float64": 1e-11, "float32": 2e-5}


def agrees(made, wanted, dtype):
    """Whether numbers agree within the band of their dtype, relative to the largest."""
    made, wanted = np.asarray(made), np.asarray(wanted)
    assert made.shape == wanted.shape and made.dtype == wanted.dtype
    finite = np.abs(wanted[np.isfinite(wanted)]) if wanted.dtype.kind == "f" else np.zeros(0)
    band = BANDS[str(dtype)] * max(1.0, finite.max(initial=0.0))
    np.testing.assert_allclose(made, wanted, rtol=0, atol=band if wanted.dtype.kind == "f" else 0)


# --- ops -------------------------------------------------------------------------------------------------------


def forward_and_backward(row, one, *inputs):
    """The outputs of a row's call, and the gradients that its float inputs get from a fixed out_grad."""
    outputs = parts(row.call(*inputs, **one.options))
    total = None
    for y in outputs:
        if y.requires_grad:
            seed = ndl.ones_like(y) * 0.5 + y.detach() * 0.25 if y.dtype.kind == "f" else ndl.ones_like(y)
            term = (y * seed).sum().astype("float64")
            total = term if total is None else total + term
    if total is not None:
        total.backward()
    return outputs


def inputs_of(row, one, dtype, seed):
    arrays, variable = draw(row, one)
    shift = np.random.default_rng(seed)
    if seed:
        shuffled = [shift.permutation(a.reshape(-1)).reshape(a.shape) for a in arrays]
        arrays = [b if v else a for a, b, v in zip(arrays, shuffled, variable, strict=True)]
    arrays = [a.astype(dtype) if a.dtype == np.float64 else a for a in arrays]
    return [ndl.Tensor(a, requires_grad=v) for a, v in zip(arrays, variable, strict=True)]


# What a recording cannot hold, and says so: index arrays of the host, other devices, the state of the random stream.
REFUSED = {
    **dict.fromkeys(["getitem", "take", "ScatterAdd"], "NumPy array"),
    "to_device": "a recording cannot hold",
    "checkpoint": "random stream",
}


def check_case(row, one, dtype, backend):
    """A recording, then replays on other numbers of the same form."""
    step = ndl.jit(lambda *inputs: forward_and_backward(row, one, *inputs), backend=backend)
    try:
        step(*inputs_of(row, one, dtype, 0))
    except ndl.JitError as error:
        assert REFUSED.get(row.name, "is not refused") in str(error)
        return
    for seed in (1, 2):
        mine, eager = inputs_of(row, one, dtype, seed), inputs_of(row, one, dtype, seed)
        made, wanted = step(*mine), forward_and_backward(row, one, *eager)
        for m, w in zip(made, wanted, strict=True):
            agrees(m.numpy(), w.numpy(), dtype)
        for m, w in zip(mine, eager, strict=True):
            assert (m.grad is None) == (w.grad is None)
            if w.grad is not None:
                agrees(m.grad.numpy(), w.grad.numpy(), dtype)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_ops(row):
    for i, one in enumerate(row.cases):
        check_case(row, one, ("float64", "float32")[i % 2], "numpy")


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_ops_as_kernels(row):
    check_case(row, row.cases[0], "float32", "numba")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_every_case_of_every_op(row, backend):
    for one in row.cases:
        for dtype in ("float64", "float32"):
            check_case(row, one, dtype, backend)


# --- layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", nn_examples.EXAMPLES)
def test_layers(name, training, backend):
    one = nn_examples.EXAMPLES[name]

    def run(wrap):
        module = nn_examples.build(one, training)
        inputs = [ndl.Tensor(x) if getattr(x, "dtype", None) == np.float64 else x for x in one.inputs]
        optimizer = ndl.optim.SGD(list(module.parameters()), lr=0.01) if list(module.parameters()) else None

        def step(*xs):
            y = module(*xs)
            y = y[0] if isinstance(y, tuple) else y
            if y.requires_grad:
                (y * y).sum().backward()
            if optimizer:
                optimizer.step()
            return y

        function = wrap(step)
        np.random.seed(3)
        outputs = [function(*inputs).numpy() for _ in range(4)]
        return [*outputs, *(t.numpy() for _, t in [*module.named_parameters(), *module.named_buffers()])]

    for made, wanted in zip(run(lambda f: ndl.jit(f, backend=backend)), run(lambda f: f), strict=True):
        agrees(made, wanted, wanted.dtype if wanted.dtype.kind == "f" else "float64")


# --- optimizers ------------------------------------------------------------------------------------------------


def optimizer_cases():
    """All by NumPy, and the first of each class with Numba; the rest with Numba is slow."""
    for case in optim_check.CASES:
        first = optim_check.BY_CLASS[case.make][0] is case
        for backend in BACKENDS:
            compiled = not isinstance(backend, str)
            marks = [*backend.marks, *([] if first else [pytest.mark.slow])] if compiled else []
            yield pytest.param(
                case,
                "numba" if compiled else backend,
                marks=marks,
                id=f"{case.name}-{'numba' if compiled else backend}",
            )


@pytest.mark.parametrize(("case", "backend"), list(optimizer_cases()))
def test_optimizers(case, backend):
    """20 steps on a bowl, with a learning rate that changes: parameters and state."""

    def run(wrap):
        params = [ndl.Tensor(x, dtype="float64") for x in optim_check.starts(case.shapes)]
        optimizer = case.make(params, **case.settings)

        def step():
            optimizer.reset_grad()
            loss = sum(((p - 0.3) ** 2 * 0.5 + p).sum() for p in params)
            loss.backward()
            optimizer.step()
            return loss

        function = wrap(step)
        losses = []
        for t in range(20):
            optimizer.lr = optim_check.rate_at(case.settings["lr"], 2 * t)
            losses.append(function().numpy())
        slots = [slot.numpy() for state in optimizer.state.values() for slot in state.values()]
        return [*losses, *(p.numpy() for p in params), *slots], function

    wanted, _ = run(lambda f: f)
    made, step = run(lambda f: ndl.jit(f, backend=backend))
    for m, w in zip(made, wanted, strict=True):
        agrees(m, w, "float64")
    assert len(step.history) <= 2, step.explain()  # a schedule records nothing anew


# --- whole steps -----------------------------------------------------------------------------------------------


def mlp(seed=0, drop=0.1):
    np.random.seed(seed)
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Residual(nn.Sequential(nn.Linear(16, 16), nn.LayerNorm1d(16), nn.Tanh())),
        nn.Dropout(drop), nn.Linear(16, 4),
    )  # fmt: skip


def batches(n, rows=8):
    rng = np.random.default_rng(1)
    return [(ndl.Tensor(rng.standard_normal((rows, 12)).astype("float32"), requires_grad=False),
             rng.integers(4, size=rows)) for _ in range(n)]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_steps_of_a_model_with_dropout_and_adam(backend):
    def run(wrap):
        model, loss_of = mlp(), nn.SoftmaxLoss()
        adam = ndl.optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            adam.reset_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            adam.step()
            return loss

        function = wrap(step)
        np.random.seed(5)
        losses = [function(x, y).numpy() for x, y in batches(20)]
        return [*losses, *(p.numpy() for p in model.parameters())], np.random.rand()

    wanted, drawn = run(lambda f: f)
    made, drawn_too = run(lambda f: ndl.jit(f, backend=backend))
    assert drawn == drawn_too  # as many draws from the stream
    for m, w in zip(made, wanted, strict=True):
        np.testing.assert_allclose(m, w, atol=3e-5)


# --- which ops fuse --------------------------------------------------------------------------------------------

WHOLE = {
    "SoftmaxCrossEntropy", "BatchNormalize", "LayerNormalize", "Erf", "LogSumExp", "LogSoftmax", "Sigmoid", "Tanh",
    "Softplus", "ReLU", "StepMask", "Exp", "Log", "Sqrt", "Where", "Clip", "Maximum", "Max", "Summation", "Norm",
}  # fmt: skip


def barriers(step):
    """The ops of what was recorded that run as they are, since their `compute` cannot be taken apart."""
    graph = step.kept[0].variant.graph
    return {node.label for node in graph.nodes if node.kind == "call" and not node.effect}


def test_which_ops_fuse(capsys):
    """An op is fusable because its `compute` traces: there is no second list of ops to keep. This prints one."""
    found = {}
    for row in ROWS:
        if row.name in REFUSED:
            continue
        step = ndl.jit(lambda *inputs, row=row: parts(row.call(*inputs, **row.cases[0].options)), backend="numpy")
        step(*inputs_of(row, row.cases[0], "float32", 0))
        if step.kept:
            found[row.name] = barriers(step)
    whole = sorted(name for name, labels in found.items() if not labels)
    with capsys.disabled():
        print(f"\n{len(whole)} of {len(found)} rows trace whole; with barriers:")
        print("  " + "; ".join(f"{name} ({', '.join(sorted(labels))})" for name, labels in found.items() if labels))
    barred = set().union(*found.values())
    assert not barred & WHOLE
    assert len(whole) > 80


@pytest.mark.parametrize("name", ["GELU  approximate=none", "BatchNorm1d", "LayerNorm1d"])
def test_layers_that_fuse_whole(name):
    one = nn_examples.EXAMPLES[next(key for key in nn_examples.EXAMPLES if key.startswith(name.split()[0]))]
    module = nn_examples.build(one)
    adam = ndl.optim.Adam(list(module.parameters()) or [ndl.Tensor([1.0])])

    @ndl.jit
    def step(x):
        (module(x) ** 2).sum().backward()
        adam.step()

    x = ndl.Tensor(one.inputs[0])
    for _ in range(2):
        step(x)
    assert not barriers(step)


def test_a_step_needs_no_more_memory_than_eager():
    def peak(wrap):
        np.random.seed(0)
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 4))
        loss_of = nn.SoftmaxLoss()
        sgd = ndl.optim.SGD(model.parameters(), lr=0.01)
        x, y = ndl.Tensor(np.random.rand(500, 64).astype("float32"), requires_grad=False), np.arange(500) % 4

        def step(x, y):
            sgd.reset_grad()
            loss_of(model(x), y).backward()
            sgd.step()

        function = wrap(step)
        for _ in range(4):
            function(x, y)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(3):
                function(x, y)
            return tracemalloc.get_traced_memory()[1] - before, function
        finally:
            tracemalloc.stop()

    eager, _ = peak(lambda f: f)
    jitted, step = peak(lambda f: ndl.jit(f, backend="numpy"))
    kept = {id(b if b.base is None else b.base): b for b in step.kept[0].variant.program.buffers}
    buffers = sum((b if b.base is None else b.base).nbytes for b in kept.values())
    assert jitted + buffers < eager


BUSY = """
import subprocess, sys, time
import numpy as np
import needle as ndl
w1, w2 = ndl.randn(784, 100, requires_grad=True), ndl.randn(100, 10, requires_grad=True)
x, y = ndl.rand(100, 784), np.arange(100) % 10
sgd = ndl.optim.SGD([w1, w2], lr=0.001)
@ndl.jit
def step(x, y):
    sgd.reset_grad()
    ndl.softmax_cross_entropy(ndl.relu(x @ w1) @ w2, y).backward()
    sgd.step()
step(x, y), step(x, y)
busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    times = []
    for _ in range(500):
        begun = time.perf_counter()
        step(x, y)
        times.append(time.perf_counter() - begun)
finally:
    busy.kill()
print(np.median(times[20:]))
"""


@pytest.mark.slow
def test_a_busy_core_does_not_stop_it():
    """500 steps beside a process that keeps one core busy: the median is at most 1.3 times that of one thread."""

    def median(threads):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        run = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=120, env=env)
        assert run.returncode == 0, run.stderr
        return float(run.stdout)

    assert median(os.cpu_count() or 1) <= 1.3 * median(1)
