"""Fused kernels against NumPy node by node: the text run by Python, and compiled."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from graph_maker import Recording, near, random_graph, reference

from needle.compiler import kernels_numba
from needle.compiler.fuse import fuse
from needle.compiler.ir import Node, Slot, evaluate
from needle.compiler.kernels_numba import compile_kernel
from needle.ops.ops_elementwise import _ERF_P, _ERF_Q, _ERFC_P, _ERFC_Q
from needle.optional import have

WAYS = ["python", pytest.param("numba", marks=pytest.mark.skipif(not have("numba"), reason="Numba is not installed"))]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """A cache of its own, so that nothing compiled by another version is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEEDLE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def kernels_of(graph):
    return [node.options[0] for node in fuse(graph).nodes if node.kind == "kernel"]


def called(kernel, way, arrays):
    """The results of a kernel, of which no element is left out."""
    results = [np.full(x.shape, 77, x.dtype) for x in kernel.results]
    given = [np.ascontiguousarray(a) if np.ndim(a) else a[()] if isinstance(a, np.ndarray) else a for a in arrays]
    given = [float(a) if isinstance(a, int) else a for a in given]
    with np.errstate(all="ignore"):
        (compile_kernel(kernel) if way == "numba" else kernel.function())(*given, *results)
    return results


def fused(graph, way, arrays):
    """The outputs of the fused graph, other nodes by NumPy."""
    made = fuse(graph)
    values = dict(zip(graph.inputs, arrays, strict=True))
    with np.errstate(all="ignore"):
        for node in made.nodes:
            if node.kind == "kernel":
                results = called(node.options[0], way, [values[x] for x in node.inputs])
                values[node] = results if node.dtype is None else results[0]
            elif node not in values:
                values[node] = evaluate(node, tuple(values[x] for x in node.inputs), None)
    return [values[node] for node in made.outputs]


def band(node):
    """The dtype that tells how near a value must come: float32 as soon as one went into it."""
    waiting, seen = [node], set()
    while waiting:
        x = waiting.pop()
        if x not in seen:
            seen.add(x)
            waiting.extend(x.inputs)
    return "float32" if any(x.dtype == "float32" for x in seen if x.dtype is not None) else "float64"


def check(graph, way, arrays):
    for node, value, wanted in zip(graph.outputs, fused(graph, way, arrays), reference(graph, arrays), strict=True):
        assert np.shape(value) == node.shape and np.asarray(value).dtype == node.dtype
        assert near(value, wanted, band(node)), f"{node.kind} {node.options}:\n{value}\n{wanted}"


# --- what must fuse whole -------------------------------------------------------------------------------------------


class Building(Recording):
    """Nodes from nodes, numbers and arrays."""

    def of(self, x):
        return x if isinstance(x, Node) else self.constant(x)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *inputs: self.ufunc(name, *map(self.of, inputs))

    def node(self, kind, *inputs, options=()):
        return Recording.add(self, kind, *inputs, options=options)

    def ufunc(self, name, *inputs):
        return self.node("ufunc", *inputs, options=(name,))

    def add(self, a, b):
        return self.ufunc("add", self.of(a), self.of(b))

    def total(self, name, x, *axes, keepdims=True):
        return self.node("reduce", x, options=(name, axes, keepdims))

    def shaped(self, x, *shape):
        return self.node("reshape", x, options=(shape,))

    def cast(self, x, dtype):
        return self.node("ufunc", x, options=("astype", np.dtype(dtype)))


def numbers(dtype, *shape, seed=0, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale + shift).astype(dtype)


def cross_entropy(g, dtype, rows, columns):
    """Mean loss and its gradient."""
    labels = np.random.default_rng(1).integers(0, columns, rows)
    arrays = [numbers(dtype, rows, columns, scale=3), labels]
    z, y = map(g.input, arrays)
    shifted = g.subtract(z, g.total("max", z, 1))
    e = g.exp(shifted)
    total = g.total("sum", e, 1)
    hot = g.cast(g.equal(g.shaped(y, rows, 1), np.arange(columns)), dtype)
    picked = g.total("sum", g.multiply(shifted, hot), 1, keepdims=False)
    losses = g.subtract(g.log(g.shaped(total, rows)), picked)
    gradient = g.divide(g.subtract(g.divide(e, total), hot), float(rows))
    return g.graph(g.total("mean", losses, 0, keepdims=False), gradient), arrays


def normalized(g, x, w, b, axis, n):
    deviation = g.subtract(x, g.divide(g.total("sum", x, axis), n))
    variance = g.divide(g.total("sum", g.multiply(deviation, deviation), axis), n)
    hat = g.multiply(deviation, g.divide(1.0, g.sqrt(g.add(variance, 1e-5))))
    return hat, g.add(g.multiply(hat, w), b)


def batch_norm(g, dtype, rows, columns):
    """Forward, and backward for a gradient that is given."""
    arrays = [numbers(dtype, rows, columns, shift=3), *(numbers(dtype, columns, seed=i) for i in (1, 2))]
    arrays.append(numbers(dtype, rows, columns, seed=3))
    x, w, b, up = map(g.input, arrays)
    hat, y = normalized(g, x, w, b, 0, rows)
    db, dw = g.total("sum", up, 0, keepdims=False), g.total("sum", g.multiply(up, hat), 0, keepdims=False)
    inner = g.subtract(g.subtract(up, g.divide(db, rows)), g.multiply(hat, g.divide(dw, rows)))
    return g.graph(y, g.multiply(inner, w), dw, db), arrays


def layer_norm(g, dtype, rows, columns):
    """Over the last of three axes."""
    arrays = [numbers(dtype, 2, rows, columns, shift=3), numbers(dtype, columns), numbers(dtype, columns, seed=2)]
    return g.graph(normalized(g, *map(g.input, arrays), 2, columns)[1]), arrays


def gelu(g, dtype, rows, columns):
    """a·(1 + erf(a/√2))/2 of a = x + b, with erf as needle has it."""
    arrays = [numbers(dtype, rows, columns, scale=3), numbers(dtype, columns, seed=1)]
    a = g.add(*map(g.input, arrays))
    scaled = g.divide(a, math.sqrt(2))
    x = g.minimum(g.absolute(scaled), 27)
    square = g.multiply(x, x)
    near_0 = g.multiply(x, ratio(g, square, _ERF_P, _ERF_Q))
    far = g.subtract(1, g.multiply(g.exp(g.negative(square)), ratio(g, g.minimum(x, 6), _ERFC_P, _ERFC_Q)))
    erf = g.copysign(g.where(g.less(x, 1), near_0, far), scaled)
    return g.graph(g.multiply(g.multiply(a, 0.5), g.add(erf, 1))), arrays


def ratio(g, x, p, q):
    parts = []
    for coefficients in (p, q):
        part = g.add(g.multiply(x, 0), coefficients[0])
        for coefficient in coefficients[1:]:
            part = g.add(g.multiply(part, x), coefficient)
        parts.append(part)
    return g.divide(*parts)


def adam(g, dtype, rows, columns):
    arrays = [np.abs(numbers(dtype, rows, columns, seed=i)) for i in range(4)] + [0.01, 0.3, 0.4]
    x, slope, m, v, rate, rest1, rest2 = map(g.input, arrays)
    m = g.add(g.multiply(m, 0.9), g.multiply(slope, 0.1))
    v = g.add(g.multiply(v, 0.999), g.multiply(g.multiply(slope, slope), 0.001))
    step = g.divide(g.divide(m, rest1), g.add(g.sqrt(g.divide(v, rest2)), 1e-8))
    return g.graph(g.subtract(x, g.multiply(step, rate)), m, v), arrays


MODELS = [cross_entropy, batch_norm, layer_norm, gelu, adam]
SHAPES = [(20, 10), (7, 50), (1, 5), (5, 1), (1, 1)]


@pytest.mark.parametrize("model", MODELS)
def test_fuses_whole(model):
    graph, _ = model(Building(), "float32", 20, 10)
    kinds = [node.kind for node in fuse(graph).nodes if node.kind not in ("input", "number", "constant", "part")]
    assert kinds.count("kernel") == 1 and set(kinds) <= {"kernel", "reshape"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", MODELS)
def test_by_python(model, dtype, shape):
    graph, arrays = model(Building(), dtype, *shape)
    check(graph, "python", arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", MODELS)
def test_compiled(model, dtype):
    pytest.importorskip("numba")
    graph, arrays = model(Building(), dtype, 20, 50)
    check(graph, "numba", arrays)
    (kernel,) = kernels_of(graph)
    given = [x.options[0] if x.kind == "constant" else arrays[graph.inputs.index(x)] if x in graph.inputs
             else np.reshape(arrays[1], x.shape) for x in kernel.inputs]  # fmt: skip  # the reshape of labels
    for a, b in zip(called(kernel, "python", given), called(kernel, "numba", given), strict=True):
        assert near(a, b, dtype)


@pytest.mark.parametrize("way", WAYS)
def test_nan_and_infinity_pass_on(way):
    graph, (z, labels) = cross_entropy(Building(), "float32", 6, 10)
    z = z.copy()
    z[1, 3], z[2, 3], z[3] = np.nan, np.inf, -np.inf
    z[4, 2] = -np.inf
    check(graph, way, [z, labels])


@pytest.mark.parametrize("rows, columns", [(0, 3), (3, 0)])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_to_loop_over(way, rows, columns):
    g = Building()
    arrays = [np.empty((rows, columns), "float32"), np.ones(columns, "float32")]
    x, b = map(g.input, arrays)
    y = g.exp(g.add(x, b))
    check(g.graph(y, g.total("sum", y, 0), g.total("sum", y, 1), g.total("prod", y, 0, 1)), way, arrays)


@pytest.mark.parametrize("way", WAYS)
def test_integers_and_bools(way):
    g = Building()
    arrays = [np.arange(-6, 6, dtype="int32").reshape(3, 4), np.array([True, False, True, True])]
    n, mask = map(g.input, arrays)
    few = g.logical_and(g.greater(n, -3), mask)
    chosen = g.where(few, n, 7)
    outputs = [few, g.multiply(chosen, n), g.total("sum", few, 1), g.total("max", chosen, 0), g.total("mean", n, 0)]
    outputs += [g.add(few, mask), g.divide(n, 2), g.multiply(n, 0.5), g.total("min", few, 0, 1), g.cast(n, bool)]
    check(g.graph(*outputs), way, arrays)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float16", ">f4"])
def test_dtypes_that_kernels_do_not_take_stay_outside(way, dtype):
    """Where NumPy's loop would have cast them."""
    g = Building()
    arrays = [numbers("float32", 4, 5).astype(dtype), numbers("float32", 4, 5), np.arange(20).reshape(4, 5) % 2 == 0]
    x, y, mask = map(g.input, arrays)
    graph = g.graph(g.add(g.multiply(x, y), y), g.exp(g.where(mask, x, y)), g.logical_not(g.less(x, y)))
    for kernel in kernels_of(graph):
        assert x not in kernel.inputs
    check(graph, way, arrays)


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_that_begins_again(way):
    """Attention: one (T, T) mask for each of N·H matrices, softmax over the last axis."""
    g = Building()
    arrays = [numbers("float32", 2, 3, 4, 4), np.tril(np.ones((4, 4), bool))]
    x, mask = map(g.input, arrays)
    scores = g.where(mask, g.multiply(x, 0.5), -math.inf)
    e = g.exp(g.subtract(scores, g.total("max", scores, 3)))
    graph = g.graph(g.divide(e, g.total("sum", e, 3)))
    assert len(kernels_of(graph)) == 1
    check(graph, way, arrays)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_costly_waits_for_the_next_loops(way, axis):
    """exp is computed once, and kept in a row for the sum along it, in an array for the sum down the columns."""
    g = Building()
    arrays = [numbers("float32", 5, 6)]
    (x,) = map(g.input, arrays)
    e = g.exp(g.multiply(x, 0.5))
    graph = g.graph(g.divide(e, g.total("sum", e, axis)))
    (kernel,) = kernels_of(graph)
    assert kernel.source.count("exp32") == 1
    check(graph, way, arrays)


@pytest.mark.parametrize("way", WAYS)
def test_leading_axes_collapse(way):
    g = Building()
    arrays = [numbers("float32", 6, 5), numbers("float32", 5), numbers("float32", 2, 3, 5)]
    x, b, y = map(g.input, arrays)
    graph = g.graph(g.tanh(g.add(g.shaped(g.add(x, b), 2, 3, 5), y)))
    (kernel,) = kernels_of(graph)
    assert len(kernel.nodes) == 4
    check(graph, way, arrays)


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_a_reshape_cuts_elsewhere(way):
    g = Building()
    arrays = [numbers("float32", 6, 3), numbers("float32", 6)]
    x, rows = map(g.input, arrays)
    a = g.add(x, g.shaped(rows, 6, 1))
    graph = g.graph(a, g.exp(g.shaped(a, 3, 6)))
    assert len(kernels_of(graph)) == 1
    check(graph, way, arrays)


@pytest.mark.parametrize("way", WAYS)
def test_numbers_alone_are_of_float64(way):
    g = Building()
    a, b = g.input(0.0), g.input(-0.25)
    graph = g.graph(g.exp(g.divide(a, a)), g.sqrt(g.absolute(g.divide(b, 3))), g.divide(b, a))
    check(graph, way, [0.0, -0.25])


# --- graphs at random -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of means of nothing
def test_random_graphs():
    found = 0
    for seed in range(300):
        graph, arrays, _ = random_graph(seed)
        check(graph, "python", arrays)
        found += len(kernels_of(graph))
    assert found > 300


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_graphs_compiled():
    pytest.importorskip("numba")
    for seed in (1, 2, 3):
        graph, arrays, _ = random_graph(seed)
        check(graph, "numba", arrays)


def test_effects_keep_their_order():
    def looked(x):
        return x

    looked.checks = True
    g = Building()
    x = g.input(numbers("float32", 4))
    early = g.exp(x)  # its kernel waits for the second one
    checked(g, looked, x)
    graph = g.graph(g.multiply(early, checked(g, looked, x)))
    assert len(kernels_of(graph)) == 1
    wanted = [node.line for node in graph.nodes if node.effect]
    assert [node.line for node in fuse(graph).nodes if node.effect] == wanted


def checked(g, function, x):
    return g.node("call", x, options=(function, ((Slot(0),), {})))


def test_no_path_leaves_a_kernel_and_comes_back():
    g = Building()
    arrays = [numbers("float32", 4, 4)]
    (x,) = map(g.input, arrays)
    a = g.exp(g.multiply(x, 0.1))
    product = g.node("matmul", a, a)
    graph = g.graph(g.add(g.negative(a), product))
    check(graph, "python", arrays)
    for kernel in kernels_of(graph):
        assert not {a, graph.outputs[0]} <= set(kernel.nodes)


# --- numbers, memory, layouts, cache --------------------------------------------------------------------------------


def test_other_numbers_and_batches_do_not_compile_again():
    names = set()
    for rows, rate in ((8, 0.1), (9, 0.2), (100, 0.3)):
        g = Building()
        x, w, lr = g.input(numbers("float32", rows, 50)), g.input(numbers("float32", 50)), g.input(rate)
        (kernel,) = kernels_of(g.graph(g.subtract(x, g.multiply(g.exp(w), lr))))
        names.add(kernel.name)
    assert len(names) == 1


@pytest.mark.parametrize("way", WAYS)
def test_results_written_over_inputs(way):
    graph, arrays = adam(Building(), "float32", 8, 30)
    (kernel,) = kernels_of(graph)
    places = {place: i for i, place in enumerate(kernel.inputs)}
    x, slope, m, v = (places[node] for node in graph.inputs[:4])
    pairs = {kernel.results.index(node): place for node, place in zip(graph.outputs, (x, m, v), strict=True)}
    given = [node.options[0] if node.kind == "constant" else arrays[graph.inputs.index(node)] for node in kernel.inputs]
    wanted = called(kernel, way, given)
    merged = kernel.merged(pairs)
    own = [a.copy() if isinstance(a, np.ndarray) else float(a) for a in given]
    (compile_kernel(merged) if way == "numba" else merged.function())(*own)
    for result, place in pairs.items():
        np.testing.assert_allclose(own[place], wanted[result], rtol=1e-6)
    assert np.array_equal(own[slope], given[slope])
    with pytest.raises(ValueError, match="cannot be written over"):
        kernel.merged({0: 1})
    assert kernels_of(cross_entropy(Building(), "float32", 4, 5)[0])[0].in_place == []


@pytest.mark.parametrize("way", WAYS)
def test_transposes_stay_outside(way):
    """(gᵀx)ᵀ becomes xᵀg, and what is elementwise on transposes alone runs before them."""
    g = Building()
    arrays = [numbers("float32", 6, 4), numbers("float32", 6, 3), numbers("float32", 3, 4), numbers("float32", 4, 3)]
    up, x, w, other = map(g.input, arrays)
    slope = g.node("matmul", g.node("transpose", up, options=((1, 0),)), x)
    slope = g.node("transpose", slope, options=((1, 0),))
    turned = g.exp(g.multiply(g.node("transpose", other, options=((1, 0),)), 2.0))
    graph = g.graph(g.subtract(w, g.multiply(slope, 0.1)), turned)
    made = fuse(graph)
    (product,) = [node for node in made.nodes if node.kind == "matmul"]
    assert product.shape == (3, 4)
    for node in made.nodes:
        assert node.kind != "kernel" or not any(x.kind == "transpose" for x in node.inputs)
    check(graph, way, arrays)


def test_sums_are_at_least_as_exact_as_numpys():
    pytest.importorskip("numba")
    g = Building()
    array = np.random.default_rng(0).random((64, 4096)).astype("float32")
    x = g.input(array)
    square = g.multiply(x, x)
    axes = [(0,), (1,), (0, 1)]
    graph = g.graph(*(g.total("sum", square, *gone, keepdims=False) for gone in axes))
    ours, numpys = fused(graph, "numba", [array]), reference(graph, [array])
    for i, gone in enumerate(axes):
        wanted = square_of(array).sum(axis=gone)
        off = np.abs(ours[i] - wanted).max()
        assert off <= np.abs(numpys[i] - wanted).max()
        assert off <= np.abs(wanted).max() * 2**-24  # only the result is rounded, after sums in float64


def square_of(array):
    return (array * array).astype("float64")


PROGRAM = """
import sys, numpy, numba
from test_compiler_fuse import Building, adam, called, kernels_of
graph, arrays = adam(Building(), "float32", 3, 5)
(kernel,) = kernels_of(graph)
given = [n.options[0] if n.kind == "constant" else arrays[graph.inputs.index(n)] for n in kernel.inputs]
called(kernel, "numba", given)
from needle.compiler.kernels_numba import compile_kernel
print(sum(compile_kernel(kernel).stats.cache_hits.values()))
"""


def test_a_second_process_finds_it_compiled(tmp_path):
    pytest.importorskip("numba")
    paths = os.pathsep.join(path for path in [os.path.dirname(__file__), *sys.path] if path)
    environment = {**os.environ, "NEEDLE_CACHE_DIR": str(tmp_path), "PYTHONPATH": paths}
    found = [
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [process.stdout.strip() for process in found] == ["0", "1"]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEEDLE_CACHE_DIR", str(tmp_path / "file"))
    graph, arrays = layer_norm(Building(), "float32", 3, 4)
    monkeypatch.setattr(kernels_numba, "_compiled", {})
    check(graph, "numba", arrays)


def damaged(folder, pattern, content):
    """The files of this pattern, overwritten."""
    found = sorted(folder.rglob(pattern))
    for path in found:
        path.write_bytes(content)
    return found


@pytest.mark.parametrize("content", [b"", b"garbage (", b"\x80\x05garbage"], ids=["empty", "text", "bytes"])
@pytest.mark.parametrize("pattern", ["*.py", "*.nbi", "*.nbc", "*.pyc"])
def test_a_broken_cache_is_made_anew(tmp_path, monkeypatch, pattern, content):
    pytest.importorskip("numba")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setenv("NEEDLE_CACHE_DIR", str(tmp_path))
    graph, arrays = layer_norm(Building(), "float32", 3, 4)

    def again():
        monkeypatch.setattr(kernels_numba, "_compiled", {})
        check(graph, "numba", arrays)
        (function,) = kernels_numba._compiled.values()
        return sum(function.stats.cache_hits.values())

    assert again() == 0 and again() == 1
    before = {path.name for path in tmp_path.rglob("*.*")}
    assert damaged(tmp_path, pattern, content)
    again()
    assert again() == 1  # found whole again
    assert {path.name for path in tmp_path.rglob("*.*")} == before


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")
@pytest.mark.parametrize("mine", [False, True])
def test_a_cache_that_others_may_write_is_not_read(tmp_path, monkeypatch, mine):
    """What lies there is run."""
    pytest.importorskip("numba")
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o777 if mine else 0o755)
    monkeypatch.setenv("NEEDLE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels_numba, "_compiled", {})
    if not mine and os.getuid() == 0:
        os.chown(folder, 1, 1)
    elif not mine:
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    graph, arrays = layer_norm(Building(), "float32", 3, 4)
    with pytest.warns(UserWarning, match="others may write to"):
        check(graph, "numba", arrays)
    assert not list(folder.iterdir())


def test_without_numba(monkeypatch):
    monkeypatch.setattr(kernels_numba, "have", lambda name: False)
    monkeypatch.setattr(kernels_numba, "_compiled", {})
    assert kernels_numba.compile_kernels(kernels_of(adam(Building(), "float32", 2, 2)[0])) == [None]


def test_long_compiling_is_told(monkeypatch, capsys):
    pytest.importorskip("numba")
    monkeypatch.setattr(kernels_numba, "_compiled", {})
    monkeypatch.setattr(kernels_numba, "_compile", lambda kernel: None)
    monkeypatch.setattr(kernels_numba, "PATIENCE", -1.0)
    kernels = kernels_of(adam(Building(), "float32", 2, 2)[0]) + kernels_of(layer_norm(Building(), "float32", 3, 4)[0])
    kernels_numba.compile_kernels(kernels)
    assert "compiling 2 kernels" in capsys.readouterr().err
