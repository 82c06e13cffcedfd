"""The device module `cpu` beside the readable reference: large and small operands in every layout, threads, forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest

from needle import backend_ndarray as nd
from needle.backend_ndarray import ndarray_backend_cpu as cpu
from needle.backend_ndarray import ndarray_backend_numpy as reference
from needle.kernels import strided, threads
from needle.kernels.threads import Pool

RNG = np.random.default_rng(0)
BUFFER = {dtype: RNG.standard_normal(1_100_000).astype(dtype) for dtype in ("float32", "float64")}
BUFFER |= {dtype: RNG.integers(-50, 50, 1_100_000).astype(dtype) for dtype in ("int64", "int32", "bool")}
KERNELS = (strided.copy_crosswise, strided.sum_along, strided.sum_across)

# name: shape, strides, offset. All within BUFFER; a size of 1 or 0, a step of 0 or below it wherever one can be.
LAYOUTS = {
    "0-d": ((), (), 7),
    "empty": ((0, 5), (5, 1), 0),
    "no columns": ((5, 0), (1, 1), 0),
    "one": ((1, 1, 1), (9, 0, -4), 3),
    "small": ((3, 4), (4, 1), 1),
    "small transposed": ((4, 3), (1, 4), 0),
    "row": ((1, 40_000), (0, 1), 5),
    "rows": ((200, 300), (300, 1), 0),
    "flat": ((400_000,), (1,), 0),
    "backwards": ((400_000,), (-1,), 400_000),
    "transposed": ((311, 257), (1, 311), 0),
    "transposed by 1024": ((1024, 1024), (1, 1024), 17),
    "transposed, negative": ((311, 257), (-1, 311), 310),
    "turned over": ((311, 257), (1, -311), 311 * 256),
    "transposed, few rows": ((9, 3000), (1, 9), 0),
    "few columns": ((3000, 7), (1, 3000), 0),
    "every second, every third": ((500, 334), (2000, 3), 0),
    "row broadcast": ((700, 900), (0, 1), 4),
    "column broadcast": ((700, 900), (1, 0), 4),
    "number broadcast": ((300, 400), (0, 0), 4),
    "channels last": ((6, 17, 18, 40), (12240, 18, 1, 306), 0),
    "channels first": ((6, 40, 17, 18), (12240, 1, 720, 40), 0),
    "middle swapped": ((5, 60, 7, 33), (60 * 7 * 33, 33, 60 * 33, 1), 0),
    "reversed axes": ((40, 30, 20, 10), (1, 40, 1200, 24000), 0),
    "windows": ((90, 100, 3, 3), (102, 1, 102, 1), 0),
    "transposed windows": ((3, 3, 90, 100), (1, 102, 1, 102), 0),
    "rows, large": ((650, 700), (700, 1), 0),
    "transposed, large": ((650, 700), (1, 650), 0),
    "few columns, large": ((80_000, 5), (5, 1), 0),
}


@pytest.fixture(autouse=True)
def _many_parts(monkeypatch):
    """As if these arrays were larger: the larger ones are cut into several parts."""
    monkeypatch.setattr(cpu, "PART", 1 << 18)


def view(module, name, dtype):
    """(handle, strides, offset) of a layout, over numbers that a module may not write to without being seen."""
    shape, strides, offset = LAYOUTS[name]
    return module.Array.of(BUFFER[dtype]), strides, offset


def compare(call, size, dtype="float32", band=0.0):
    """`call(module, out)` under both modules, into memory full of another number."""
    results = []
    for module in (cpu, reference):
        out = module.Array.of(np.full(size, 77, dtype))
        call(module, out)
        results.append(out.array)
    np.testing.assert_allclose(*results, rtol=band, atol=band)
    assert results[0].dtype == results[1].dtype == dtype


def compact(shape):
    return tuple(int(np.prod(shape[i + 1 :])) if 0 not in shape else 1 for i in range(len(shape)))


def subsets(shape):
    axes = range(len(shape))
    return [tuple(axes)] + [(i,) for i in axes] + ([(0, len(shape) - 1)] if len(shape) > 2 else [])


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_copy_out_of_a_view(name, dtype):
    shape = LAYOUTS[name][0]
    operand = view(cpu, name, dtype)
    compare(lambda m, out: m.compact(operand[0], out, shape, *operand[1:]), int(np.prod(shape)), dtype)
    np.testing.assert_array_equal(
        cpu.to_numpy(operand[0], shape, *operand[1:]), cpu.view(operand[0], shape, *operand[1:])
    )


@pytest.mark.parametrize("dtype", ["float32", "bool"])
@pytest.mark.parametrize("name", [name for name, (_, strides, _) in LAYOUTS.items() if "broadcast" not in name])
def test_copy_into_a_view(name, dtype):
    if "windows" in name:
        pytest.skip("its places overlap")
    shape, strides, offset = LAYOUTS[name]
    values = cpu.Array.of(BUFFER[dtype][: int(np.prod(shape))])
    size = offset + 1 + sum(max(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True))
    compare(lambda m, out: m.ewise_setitem(values, out, shape, strides, offset), size, dtype)


@pytest.mark.parametrize("kinds", [("int64", "float32"), ("float32", "float64"), ("float64", "float32")])
@pytest.mark.parametrize("name", ["small transposed", "transposed", "rows, large", "transposed, large"])
def test_copy_into_another_dtype(name, kinds):
    shape = LAYOUTS[name][0]
    source, dtype = kinds
    operand = view(cpu, name, source)
    compare(lambda m, out: m.copy((out, compact(shape), 0), operand, shape), int(np.prod(shape)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_elementwise(name, dtype):
    shape, strides, _ = LAYOUTS[name]
    x = view(cpu, name, dtype)
    size = int(np.prod(shape))
    y = cpu.Array.of(BUFFER[dtype][100 : 100 + size]), compact(shape), 0
    reach = sum(max(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True))
    flipped = cpu.Array.of(BUFFER[dtype]), tuple(-s for s in strides), reach
    for operands in ((x, y), (y, y), (x, 3), (2, x), (flipped, x)):
        compare(lambda m, out, o=operands: m.elementwise("multiply", out, shape, o), size, dtype)
    compare(lambda m, out: m.elementwise("less", out, shape, (x, y)), size, "bool")
    compare(lambda m, out: m.elementwise("negative", out, shape, (x,)), size, dtype)
    if dtype != "int64":
        compare(
            lambda m, out: m.elementwise("exp", out, shape, (x,)), size, dtype, 1e-6
        )  # NumPy's SIMD differs by ends


@pytest.mark.parametrize("side", [3, 300])
def test_elementwise_of_a_transposed_view_of_a_whole_buffer(side):
    x = cpu.Array.of(BUFFER["float32"][: side * side]), (1, side), 0
    y = cpu.Array.of(BUFFER["float32"][-side * side :]), (side, 1), 0
    compare(lambda m, out: m.elementwise("subtract", out, (side, side), (x, y)), side * side)
    compare(lambda m, out: m.elementwise("negative", out, (side, side), (x,)), side * side)


def test_elementwise_of_several_dtypes():
    shape = (650, 700)
    x, y = view(cpu, "transposed, large", "bool"), view(cpu, "rows, large", "float32")
    z = view(cpu, "transposed, large", "float32")
    compare(lambda m, out: m.elementwise("multiply", out, shape, (x, y)), 650 * 700)
    compare(lambda m, out: m.elementwise("greater", out, shape, (y, z)), 650 * 700, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_reduce(name, dtype):
    shape = LAYOUTS[name][0]
    operand = view(cpu, name, dtype)
    for axes in subsets(shape):
        size = int(np.prod([n for i, n in enumerate(shape) if i not in axes]))
        total = dtype if dtype[0] == "f" else "int64"
        band = {"float32": 3e-7, "float64": 1e-11}.get(dtype, 0.0)
        compare(lambda m, out, a=axes: m.reduce("sum", out, operand, shape, a), size, total, band)
        if np.prod(shape):
            compare(lambda m, out, a=axes: m.reduce("max", out, operand, shape, a), size, dtype)
            compare(lambda m, out, a=axes: m.reduce("min", out, operand, shape, a), size, dtype)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_products_and_sums_in_another_dtype(axes):
    shape = (650, 700)
    size = {(0,): 700, (1,): 650}.get(axes, 1)
    near_one = cpu.Array.of(np.exp(BUFFER["float32"] / 1000)), (1, 650), 0
    compare(lambda m, out: m.reduce("prod", out, near_one, shape, axes), size, "float32", 1e-6)
    single = cpu.Array.of(BUFFER["float32"]), (700, 1), 0
    compare(lambda m, out: m.reduce("sum", out, single, shape, axes), size, "float64", 1e-9)


@pytest.mark.parametrize("name", ["rows, large", "transposed, large", "flat"])
def test_nan_and_infinity_go_through_reductions(name):
    shape, strides, offset = LAYOUTS[name]
    values = BUFFER["float32"].copy()
    values[[50_000, 300_000]] = np.nan, np.inf
    operand = cpu.Array.of(values), strides, offset
    for axes in subsets(shape):
        size = int(np.prod([n for i, n in enumerate(shape) if i not in axes]))
        for fold in ("sum", "max", "min"):
            compare(lambda m, out, f=fold, a=axes: m.reduce(f, out, operand, shape, a), size, "float32", 3e-7)


def test_float32_adds_up_in_float64():
    n = 1 << 21
    values = np.full(2 * n, 0.1, "float32")
    exact = float(values[0]) * n
    for shape, strides, axes in (((n,), (1,), (0,)), ((n, 2), (2, 1), (0,)), ((2, n), (1, 2), (1,))):
        out = cpu.Array(2 if len(shape) == 2 else 1)
        cpu.reduce("sum", out, (cpu.Array.of(values), strides, 0), shape, axes)
        np.testing.assert_allclose(out.array, exact, rtol=1e-7)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    shape = 650, 700
    values = np.exp(10 * BUFFER["float32"])  # of so many sizes that the order of addition shows in float64
    operand = cpu.Array.of(values), (1, 650), 0

    def results():
        found = []
        for axes in ((0,), (1,), (0, 1)):
            out = cpu.Array({(0,): 700, (1,): 650}.get(axes, 1), "float64")
            cpu.reduce("sum", out, operand, shape, axes)
            found.append(out.array)
        return found

    monkeypatch.setattr(cpu, "pool", Pool(1))
    alone = results()
    monkeypatch.setattr(cpu, "pool", Pool(4))
    for one, several in zip(alone, results(), strict=True):
        np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (72, 73, 74), (128, 128, 128), (256, 3, 2), (300, 200, 100), (3, 0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul(sizes, dtype):
    m, n, p = sizes
    a, b = cpu.Array.of(BUFFER[dtype][: m * n]), cpu.Array.of(BUFFER[dtype][5000 : 5000 + n * p])
    compare(lambda module, out: module.matmul(a, b, out, m, n, p), m * p, dtype, 1e-6 if max(sizes) > 255 else 0)


def test_matmul_below_256_is_exact_to_float32():
    a, b = BUFFER["float32"][:16384].reshape(128, 128), BUFFER["float32"][16384:32768].reshape(128, 128)
    out = cpu.Array(16384)
    cpu.matmul(cpu.adopt(a), cpu.adopt(b), out, 128, 128, 128)
    wanted = (a.astype("float64") @ b.astype("float64")).astype("float32")
    np.testing.assert_array_equal(out.array.reshape(128, 128), wanted)


def test_matmul_tiled():
    t = cpu.__tile_size__
    m, n, p = 3 * t, 2 * t, 4 * t
    a, b = cpu.Array.of(BUFFER["float32"][: m * n]), cpu.Array.of(BUFFER["float32"][: n * p])
    compare(lambda module, out: module.matmul_tiled(a, b, out, m, n, p), m * p)


def test_what_optimizers_run():
    g = cpu.Array.of(BUFFER["float32"][:1000])
    compare(lambda m, out: m.add_scaled(out, g, -0.5), 1000, band=1e-6)
    factors = (0.9, 0.1, 0.999, 0.001, 0.01, 1.0, 1e-8, 0.0, 1.0)

    def step(module, out):
        m, v = module.Array.of(np.zeros(1000, "float32")), module.Array.of(np.zeros(1000, "float32"))
        module.adam((out, g, m, v), factors)

    compare(step, 1000, band=1e-6)


def test_both_modules_have_the_whole_interface():
    assert not [name for name in reference.INTERFACE if not (hasattr(cpu, name) and hasattr(reference, name))]


# ---- without Numba


@pytest.fixture
def without_numba(monkeypatch):
    """As where Numba is not installed: no kernel is to be had."""
    cpu._crosswise.cache_clear()
    for kernel in KERNELS:
        monkeypatch.setattr(kernel, "tried", True)
        monkeypatch.setattr(kernel, "compiled", None)
    yield
    cpu._crosswise.cache_clear()


@pytest.mark.parametrize("name", ["transposed", "transposed, large", "few columns, large", "channels last"])
def test_without_numba_it_is_the_reference(name, without_numba):
    test_copy_out_of_a_view(name, "float32")
    test_elementwise(name, "float32")
    test_reduce(name, "float32")


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.function.__name__)
def test_a_kernel_runs_where_numba_is(kernel, monkeypatch):
    calls, compiled = [], kernel.get()
    monkeypatch.setattr(kernel, "compiled", lambda *layout: calls.append(1) or compiled(*layout))
    test_copy_out_of_a_view("transposed", "float32")
    test_reduce("transposed", "float32")
    assert calls


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.function.__name__)
def test_a_kernel_is_plain_python_too(kernel, monkeypatch):
    monkeypatch.setattr(cpu, "WORTH", 1)
    cpu._crosswise.cache_clear()
    for each in KERNELS:
        if each is kernel or each.get() is None:  # without Numba all of them, as a sum takes either of two
            monkeypatch.setattr(each, "tried", True)
            monkeypatch.setattr(each, "compiled", each.function)
    shape, steps = (11, 2, 19), (1, 11 * 19, 11)
    operand = cpu.Array.of(BUFFER["float32"]), steps, 5
    compare(lambda m, out: m.compact(operand[0], out, shape, *operand[1:]), 11 * 2 * 19)
    for axes in subsets(shape):
        size = int(np.prod([n for i, n in enumerate(shape) if i not in axes]))
        compare(lambda m, out, a=axes: m.reduce("sum", out, operand, shape, a), size, band=3e-7)
    cpu._crosswise.cache_clear()


# ---- threads


def several_results():
    """What a few large calls give, as one list of arrays."""
    shape, found = (650, 700), []
    x, y = view(cpu, "transposed, large", "float32"), view(cpu, "rows, large", "float32")
    for operands in ((x, y), (y, y), (x, 2)):
        out = cpu.Array(650 * 700)
        cpu.elementwise("add", out, shape, operands)
        found.append(out.array)
    for axes in ((0,), (1,), (0, 1)):
        out = cpu.Array({(0,): 700, (1,): 650}.get(axes, 1))
        cpu.reduce("sum", out, x, shape, axes)
        found.append(out.array)
    return found


@pytest.fixture
def three_threads(monkeypatch):
    """A pool with helpers, whatever the machine has, and parts enough for them."""
    pool = Pool(3)
    monkeypatch.setattr(cpu, "pool", pool)
    yield pool
    if pool.executor is not None:
        pool.executor.shutdown()


def test_calls_from_several_threads_at_once(three_threads):
    wanted, results = several_results(), {}

    def repeat(name):
        results[name] = [several_results() for _ in range(3)]

    callers = [threading.Thread(target=repeat, args=(name,)) for name in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for found in (round_ for rounds in results.values() for round_ in rounds):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(results) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning"
)  # from Python 3.12 on: just that is tested
def test_after_a_fork_the_child_starts_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(threads.pool, "helpers", 2)
    wanted = several_results()
    assert threads.pool.executor is not None
    child = os.fork()
    if child == 0:
        threading.Timer(20, os._exit, (3,)).start()  # rather than for ever
        same = all(np.array_equal(a, b) for a, b in zip(several_results(), wanted, strict=True))
        os._exit(0 if same and threads.pool.executor is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_tasks_run_once_each_and_on_several_threads(three_threads):
    done, together = [], threading.Barrier(3, timeout=20)

    def task(i):
        done.append((i, threading.get_ident()))
        if i < 3:
            together.wait()  # passes only if three threads are here at once

    three_threads.run([lambda i=i: task(i) for i in range(50)])
    assert sorted(i for i, _ in done) == list(range(50))
    assert len({thread for _, thread in done}) == 3


@pytest.mark.parametrize("helpers_fail", [True, False])
def test_an_error_in_a_task_comes_out(three_threads, helpers_fail):
    here, both = threading.get_ident(), threading.Barrier(2, timeout=20)

    def task():
        both.wait()
        if (threading.get_ident() != here) == helpers_fail:
            raise ZeroDivisionError("of one task")

    with pytest.raises(ZeroDivisionError, match="of one task"):
        three_threads.run([task, task])


def test_what_numpy_ignores_is_ignored_on_all_threads(three_threads):
    zeros = cpu.Array.of(np.zeros(400_000, "float32"))
    out = cpu.Array(400_000)
    with np.errstate(divide="ignore"):
        cpu.elementwise("log", out, (400_000,), [(zeros, (1,), 0)])
    assert (out.array == -np.inf).all()
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        cpu.elementwise("log", out, (400_000,), [(zeros, (1,), 0)])


def test_without_helpers_the_caller_does_it_all(monkeypatch):
    pool, done = Pool(3), []

    def refuse(*arguments):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(threads.ThreadPoolExecutor, "submit", refuse)
    pool.run([lambda i=i: done.append(i) for i in range(5)])
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("setting, wanted", [("1", 1), ("100000", None), ("0", 1), ("2,1", None), ("", None)])
def test_cores(monkeypatch, setting, wanted):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    everything = threads.cores()
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert threads.cores() == (everything if wanted is None else wanted)
    assert everything >= 1


def test_a_program_may_end_with_threads_asleep():
    code = (
        "from needle import backend_ndarray as nd\n"
        "from needle.kernels import threads\n"
        "threads.pool.helpers = 1\n"
        "x = nd.array([1.0] * 10, device=nd.cpu()).as_strided((8_000_000,), (0,)).copy() * 2\n"
        "print(float(x.sum()), threads.pool.executor is not None)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr, run.returncode) == ("16000000.0 True\n", "", 0)


# ---- bounds, which kernels do not look at


def test_raw_functions_of_the_module_stay_within_their_buffers():
    big, small = 300 * 300, cpu.Array(100)
    calls = [
        lambda: cpu.compact(small, cpu.Array(big), (300, 300), (1, 300), 0),
        lambda: cpu.compact(cpu.Array(big), cpu.Array(big), (300, 300), (1, 300), -1),
        lambda: cpu.ewise_setitem(cpu.Array(big), small, (300, 300), (1, 300), 0),
        lambda: cpu.reduce_sum(cpu.Array(10), cpu.Array(30), 2000),
        lambda: cpu.reduce("sum", cpu.Array(1), (cpu.Array(big), (300, 1), 0), (300, 300), (1,)),
        lambda: cpu.elementwise(
            "add", cpu.Array(big), (300, 300), [(cpu.Array(big), (300, 1), 0), (small, (1, 300), 0)]
        ),
        lambda: cpu.add_scaled(cpu.Array(100), cpu.Array(10), 1.0),
        lambda: cpu.adam([cpu.Array(100), cpu.Array(10), cpu.Array(100), cpu.Array(100)], (0.5,) * 9),
    ]
    for call in calls:
        with pytest.raises(
            (IndexError, ValueError), match="reach from element|requested array|reshape array|buffers of one size|add"
        ):
            call()


def test_read_only_memory_is_not_written_to():
    D, locked = nd.cpu(), np.ones((300, 300), "float32")
    locked.flags.writeable = False
    x = D.share(locked)
    for write in (
        lambda: x.__setitem__(..., D.zeros(300, 300).T),
        lambda: x.__setitem__(..., 0.0),
        lambda: x.__setitem__(..., D.zeros(300, 300)),
        lambda: x.__iadd__(1),
        lambda: D.mod.reduce("sum", cpu.Array.of(locked[0]), (cpu.Array(90000), (300, 1), 0), (300, 300), (1,)),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()
    assert locked.all()
