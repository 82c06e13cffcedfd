"""The passes behind ndl.jit: what simplify may drop, where buffers lie, what the emitted source says and computes."""

from __future__ import annotations

import gc
import linecache
import math
import threading
import traceback

import numpy as np
import pytest
from graph_maker import Recording, near, random_graph, reference, same_bits

from needle.compiler import profile as profiling
from needle.compiler.buffers import completed, plan
from needle.compiler.emit import emit
from needle.compiler.errors import JitError
from needle.compiler.fuse import fuse
from needle.compiler.ir import Slot
from needle.compiler.layouts import layouts
from needle.compiler.profile import work_of
from needle.compiler.run import compile_graph, device_draw, load
from needle.compiler.show import show
from needle.compiler.simplify import simplify

SEEDS = range(150)


def array(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def kinds(graph):
    """What is computed, in order."""
    return [n.options[0] if n.kind in ("ufunc", "reduce") else n.kind for n in graph.nodes if n.inputs]


def numpy_program(recording, *outputs, **options):
    return compile_graph(recording.graph(*outputs), backend="numpy", **options)


# --- the program computes what the nodes say ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("first", SEEDS[::10])
def test_a_random_program_equals_its_nodes_bit_for_bit(first):
    for seed in range(first, first + 10):
        graph, arrays, _ = random_graph(seed)
        program = compile_graph(graph, backend="numpy", poison=bool(seed % 2))
        wanted = reference(graph, arrays)
        for _ in range(2):  # the second call finds the buffers as the first one left them
            found = program(arrays)
            assert all(map(same_bits, found, wanted)), f"seed {seed}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("first", SEEDS[:60:10])
def test_a_random_fused_program_is_near_its_nodes(first):
    """Its kernels run as plain Python; whether Numba agrees is for the tests of fuse."""
    for seed in range(first, first + 10):
        graph, arrays, _ = random_graph(seed)
        fused = completed(fuse(simplify(graph)))
        source = emit(fused, plan(fused), poison=True)
        module = load(source.text, source.given)
        found = module["step"](arrays, module["allocate"](), device_draw, False)
        for a, b in zip(found, reference(graph, arrays), strict=True):
            assert np.shape(a) == np.shape(b) and a.dtype == b.dtype
            assert near(a, b, "float32"), f"seed {seed}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_outputs_are_fresh_and_share_no_memory():
    for seed in SEEDS[:60]:
        graph, arrays, _ = random_graph(seed)
        program = compile_graph(graph, backend="numpy")
        first, second = program(arrays), program(arrays)
        made = [x for x in first + second if isinstance(x, np.ndarray)]
        held = [x for x in (*arrays, *program.buffers, *program.emitted.given.values()) if isinstance(x, np.ndarray)]
        for i, x in enumerate(made):
            assert not any(np.shares_memory(x, y) for y in (*made[:i], *held)), f"seed {seed}"
            assert x.flags.writeable


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_random_graphs_hold_what_they_should():
    """Or the tests above would say little."""
    nodes = [node for seed in SEEDS for node in random_graph(seed)[0].nodes]
    found = {node.options[0] if node.kind in ("ufunc", "reduce") else node.kind for node in nodes}
    assert {"matmul", "reshape", "transpose", "broadcast_to", "getitem", "call", "where", "sum", "mean"} <= found
    taken_over = 0
    for seed in SEEDS:
        made = plan(simplify(random_graph(seed)[0]))
        taken_over += len(made.offsets) - len(set(made.offsets.values()))
    assert taken_over > len(SEEDS)


# --- simplify ----------------------------------------------------------------------------------------------------


def test_constants_are_folded():
    r = Recording()
    x = r.input(array(3))
    scale = r.ufunc("exp", r.ufunc("add", r.constant(1.0), r.constant(np.float32(2))))
    graph = simplify(r.graph(r.ufunc("multiply", x, scale)))
    assert kinds(graph) == ["multiply"]
    assert graph.outputs[0].inputs[1].options[0] == np.exp(np.float32(3))


def test_a_large_constant_is_not_made_out_of_small_ones():
    r = Recording()
    column, row = r.constant(array(1000, 1)), r.constant(array(1, 1000))
    assert kinds(simplify(r.graph(r.ufunc("add", column, row)))) == ["add"]


def test_common_parts_are_computed_once():
    r = Recording()
    x = r.input(array(3, 2))
    twice = [r.ufunc("exp", r.add("transpose", x, options=((1, 0),))) for _ in range(2)]
    graph = simplify(r.graph(r.ufunc("multiply", *twice)))
    assert kinds(graph) == ["transpose", "exp", "multiply"]


def test_numbers_that_compare_equal_are_not_shared():
    r = Recording()
    x = r.input(np.ones(2, "int32"))
    outputs = [r.ufunc("multiply", x, r.constant(number)) for number in (2, 2.0)]
    outputs += [r.ufunc("copysign", x, r.constant(number)) for number in (0.0, -0.0)]
    found = numpy_program(r, *outputs)([np.ones(2, "int32")])
    assert [str(x.dtype) for x in found] == ["int32", "float64", "float64", "float64"]
    assert found[2][0] == 1 and found[3][0] == -1


def test_what_nobody_uses_is_dropped_but_effects_stay():
    def looked_at(a):
        seen.append(a.sum())
        return a

    looked_at.checks = True
    seen = []
    r = Recording(draw=lambda method, args: np.zeros(args))
    x = r.input(array(3))
    r.ufunc("exp", x)
    r.call(np.sort, x)
    r.add("random", options=("rand", (2,)))
    r.call(looked_at, x)
    program = numpy_program(r, r.ufunc("negative", x), draw=lambda method, args: seen.append(method))
    seen.clear()
    program([np.ones(3, "float32")])
    assert seen == ["rand", 3]
    assert kinds(program.graph) == ["call", "negative"]


@pytest.mark.parametrize("with_kernels", [False, True])
def test_effects_run_in_the_order_recorded(with_kernels):
    drawn = []

    def draw(method, args):
        drawn.append(args)
        return np.full(args, len(drawn), "float32")

    r = Recording(draw)
    x = r.input(array(2, 3))
    first, second = (r.add("random", options=("rand", shape)) for shape in ((2, 3), (3,)))
    late = r.call(np.cumsum, first)
    a = r.ufunc("multiply", r.ufunc("exp", x), second)
    graph = simplify(r.graph(a, r.ufunc("add", a, first), late))
    graph = completed(fuse(graph)) if with_kernels else graph
    source = emit(graph, plan(graph))
    module = load(source.text, source.given)
    drawn.clear()
    found = module["step"]([np.zeros((2, 3), "float32")], module["allocate"](), draw, False)
    assert drawn == [(2, 3), (3,)]
    assert (found[0] == 2).all() and (found[1] == 3).all()


DROPPED = [
    ("x·1", "multiply", 1, "float32"),
    ("x·1.0", "multiply", 1.0, "float32"),
    ("x·1 of whole numbers", "multiply", 1, "int32"),
    ("x/1", "divide", 1, "float64"),
    ("x**1", "power", 1, "float32"),
    ("x − 0", "subtract", 0, "float32"),
    ("x + −0", "add", -0.0, "float32"),
    ("x + 0 of whole numbers", "add", 0, "int64"),
    ("x·ones", "multiply", np.ones((2, 5), "float32"), "float32"),
    ("x·one", "multiply", np.ones(1, "float32"), "float32"),
]


@pytest.mark.parametrize("name, ufunc, number, dtype", DROPPED, ids=[row[0] for row in DROPPED])
def test_what_does_nothing_is_dropped(name, ufunc, number, dtype):
    r = Recording()
    x = r.input(special(dtype))
    out = r.ufunc(ufunc, x, r.constant(number))
    program = numpy_program(r, out)
    assert kinds(program.graph) == []
    assert same_bits(program([special(dtype)])[0], r.values[out])


KEPT = [
    ("x + 0 turns −0 into 0", "add", 0, "float32"),
    ("x − −0 does so too", "subtract", -0.0, "float32"),
    ("x·0 is NaN for ∞", "multiply", 0, "float32"),
    ("x·1.0 of whole numbers are floats", "multiply", 1.0, "int32"),
    ("x/1 of whole numbers are floats", "divide", 1, "int32"),
    ("x·ones of more rows", "multiply", np.ones((3, 2, 5), "float32"), "float32"),
    ("x·ones of wider floats", "multiply", np.ones((2, 5), "float64"), "float32"),
    ("1 − x is not x", "subtract", 1, "float32"),
]


@pytest.mark.parametrize("name, ufunc, number, dtype", KEPT, ids=[row[0] for row in KEPT])
def test_what_does_something_is_kept(name, ufunc, number, dtype):
    r = Recording()
    x = r.input(special(dtype))
    out = r.ufunc(ufunc, x, r.constant(number))
    program = numpy_program(r, out)
    assert kinds(program.graph) == [ufunc]
    with np.errstate(invalid="ignore"):
        assert same_bits(program([special(dtype)])[0], r.values[out])


@pytest.mark.parametrize("name, number", [("divide", 1), ("power", 1), ("subtract", 0)])
def test_a_number_before_x_is_another_matter(name, number):
    r = Recording()
    out = r.ufunc(name, r.constant(number), r.input(array(3)))
    assert kinds(simplify(r.graph(out))) == [name]


def test_two_transposes_are_one():
    r = Recording()
    x = r.input(array(2, 3, 4))
    out = r.add("transpose", r.add("transpose", x, options=((2, 0, 1),)), options=((1, 0, 2),))
    program = numpy_program(r, out)
    assert kinds(program.graph) == ["transpose"]
    assert same_bits(program([array(2, 3, 4)])[0], r.values[out])


def special(dtype):
    """Zeros of both signs, NaN, infinities, numbers large and small."""
    if dtype.startswith("int"):
        return np.array([[0, 1, -1, 2, 7], [0, -7, 100, -100, 3]], dtype)
    return np.array([[0.0, -0.0, np.nan, np.inf, -np.inf], [1.5, -1e-45, 3e38, 2.0, -7.0]]).astype(dtype)


def test_views_that_show_everything_are_dropped_and_chains_shortened():
    r = Recording()
    x = r.input(array(2, 3))
    same = r.add("reshape", x, options=((2, 3),))
    same = r.add("broadcast_to", same, options=((2, 3),))
    same = r.add("transpose", same, options=((0, 1),))
    same = r.add("getitem", same, options=((slice(None), Ellipsis),))
    same = r.add("ufunc", same, options=("astype", np.dtype("float32")))
    chain = r.add("reshape", r.add("reshape", same, options=((6,),)), options=((3, 2),))
    turned = r.add("transpose", r.add("transpose", same, options=((1, 0),)), options=((1, 0),))
    graph = simplify(r.graph(chain, turned))
    assert kinds(graph) == ["reshape"]
    assert graph.outputs[1] is graph.inputs[0]


def test_a_view_of_one_element_or_a_flipped_one_is_not_everything():
    r = Recording()
    x = r.input(array(3))
    flipped = r.add("getitem", x, options=((slice(None, None, -1),),))
    assert kinds(simplify(r.graph(flipped))) == ["getitem"]


def test_a_ufunc_broadcasts_by_itself():
    r = Recording()
    x, b = r.input(array(4, 3)), r.input(array(3))
    wide = r.add("broadcast_to", b, options=((4, 3),))
    assert kinds(simplify(r.graph(r.ufunc("add", x, wide)))) == ["add"]
    assert kinds(simplify(r.graph(r.ufunc("exp", wide)))) == ["broadcast_to", "exp"]


@pytest.mark.parametrize("turned", [False, True])
def test_adding_a_negative_is_subtracting(turned):
    r = Recording()
    a, b = special("float32"), special("float32")[::-1].copy()
    x, negative = r.input(a), r.ufunc("negative", r.input(b))
    out = r.ufunc("add", *((negative, x) if turned else (x, negative)))
    program = numpy_program(r, out)
    assert kinds(program.graph) == ["subtract"]
    with np.errstate(all="ignore"):
        assert same_bits(program([a, b])[0], r.values[out])


def test_a_negative_of_another_dtype_stays():
    r = Recording()
    x = r.input(array(3, dtype="float64"))
    negative = r.ufunc("negative", r.input(np.array([1, 0, 200], "uint8")))
    assert kinds(simplify(r.graph(r.ufunc("add", x, negative)))) == ["negative", "add"]


def test_twice_negative_is_nothing():
    r = Recording()
    x = r.input(array(3))
    graph = simplify(r.graph(r.ufunc("negative", r.ufunc("negative", x))))
    assert kinds(graph) == [] and graph.outputs == graph.inputs


@pytest.mark.parametrize("dtype, found", [("float32", ["sum", "divide"]), ("int32", ["mean"]), ("float16", ["mean"])])
def test_a_mean_is_a_sum_and_a_division_where_that_is_exact(dtype, found):
    r = Recording()
    a = (array(7, 5) * 9).astype(dtype)
    out = r.add("reduce", r.input(a), options=("mean", (0,), True))
    program = numpy_program(r, out)
    assert kinds(program.graph) == found
    assert same_bits(program([a])[0], r.values[out])


# --- buffers -----------------------------------------------------------------------------------------------------


def chain(n=6):
    r = Recording()
    node = r.input(array(50, 40))
    for name in ("exp", "tanh", "square", "sqrt", "floor", "exp")[:n]:
        node = r.ufunc(name, node)
    return r, node


def test_a_chain_needs_one_buffer():
    r, node = chain()
    program = numpy_program(r, node)
    assert program.plan.size == 50 * 40 * 4
    assert len(program.plan.offsets) == 5  # the last one is the output, in an array of its own


def test_a_buffer_is_not_taken_over_where_another_view_of_it_is_read():
    r = Recording()
    x = r.input(array(4, 4))
    y = r.ufunc("exp", x)
    z = r.ufunc("negative", r.ufunc("subtract", y, r.add("transpose", y, options=((1, 0),))))
    assert len(set(plan(r.graph(z)).offsets.values())) == 2
    assert same_bits(numpy_program(r, z)([array(4, 4)])[0], r.values[z])


def test_what_a_function_returns_keeps_its_argument_alive():
    r = Recording()
    x = r.input(array(30))
    kept = r.call(np.ravel, r.ufunc("exp", x))  # a view
    others = [r.ufunc(name, x) for name in ("tanh", "square")]
    total = r.ufunc("add", r.ufunc("multiply", *others), kept)
    assert same_bits(numpy_program(r, total, poison=True)([array(30)])[0], r.values[total])


def test_buffers_lie_on_cache_lines_and_do_not_overlap_while_needed():
    r = Recording()
    x = r.input(array(3, 5))
    parts = [r.ufunc(name, x) for name in ("exp", "tanh", "square")]
    total = r.ufunc("add", r.ufunc("add", parts[0], parts[1]), parts[2])
    made = plan(r.graph(total))
    starts = [made.offsets[x] for x in parts]
    assert starts == [0, 64, 128]
    program = numpy_program(r, total)
    assert all(b.__array_interface__["data"][0] % 64 == 0 for b in program.buffers)


def test_poison_finds_a_buffer_that_is_freed_too_early(monkeypatch):
    """The plan is broken on purpose: everything dies at once."""
    from needle.compiler import buffers

    def die(graph, roots):
        return {node: i for i, node in enumerate(graph.nodes)}

    r = Recording()
    x = r.input(array(5))
    a = r.ufunc("exp", x)
    out = r.ufunc("subtract", r.ufunc("tanh", x), a)
    monkeypatch.setattr(buffers, "_last_uses", die)
    (found,) = numpy_program(r, out, poison=True)([array(5)])
    assert np.isnan(found).all()


def test_a_transposed_value_is_laid_out_as_numpy_does():
    """Or sums would add in another order, and copies go across the grain."""
    r = Recording()
    x = r.input(array(40, 30))
    turned = r.ufunc("exp", r.add("transpose", x, options=((1, 0),)))
    total = r.add("reduce", turned, options=("sum", (0, 1), False))
    program = numpy_program(r, total)
    (buffer,) = (b for b in program.buffers if b.shape == (30, 40))
    assert buffer.strides == (4, 120)
    assert same_bits(program([array(40, 30)])[0], r.values[total])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_value_is_laid_out_as_numpy_does():
    looked_at = 0
    for seed in SEEDS:
        graph, _, recording = random_graph(seed)
        like = layouts(graph)
        for node in graph.nodes:
            value = np.asarray(recording.values[node])
            if node.kind == "call" and steps(value) != steps(like[node]):
                break  # a function lays its result out as it likes
            assert steps(value) == steps(like[node]), f"seed {seed}: {node}"
            looked_at += value.size > 0 and not like[node].flags.c_contiguous
    assert looked_at > 100


def steps(a):
    """Strides in elements, of the axes along which one can go."""
    return [step // a.itemsize for step, n in zip(a.strides, a.shape, strict=True) if n > 1 and a.size]


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (2, 0, 1, 3), (0, 1, 3, 2), (0, 2, 1, 3)])
def test_matmul_orders_its_batches_as_numpy_does(order):
    r = Recording()
    x = r.add("transpose", r.input(array(2, 3, 4, 5)), options=(order,))
    product = r.add("matmul", x, r.input(array(x.shape[3], 6)))
    assert steps(layouts(r.graph(product))[product]) == steps(r.values[product])


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_reduction_keeps_the_order_of_axes(order, keepdims):
    r = Recording()
    x = r.add("transpose", r.input(array(3, 4, 5)), options=(order,))
    total = r.add("reduce", x, options=("sum", (1,), keepdims))
    assert steps(layouts(r.graph(total))[total]) == steps(r.values[total])


@pytest.mark.parametrize("m, k, n", [(100, 392, 1), (1, 392, 10), (100, 1, 10), (64, 392, 10)])
@pytest.mark.parametrize("way", ["as it is", "strided", "transposed"])
def test_products_of_matrices_bit_for_bit(m, k, n, way):
    r = Recording()
    a = r.input(array(*{"as it is": (m, k), "strided": (m, 2 * k), "transposed": (k, m)}[way]))
    if way == "strided":
        a = r.add("getitem", a, options=((slice(None), slice(None, None, 2)),))
    if way == "transposed":
        a = r.add("transpose", a, options=((1, 0),))
    out = r.ufunc("negative", r.add("matmul", a, r.input(array(k, n, seed=1))))
    program = numpy_program(r, out)
    assert (".dot(" in program.source) == (min(m, k, n) > 1 and way != "strided")
    assert same_bits(program([r.values[x] for x in r.inputs])[0], r.values[out])


def test_a_vector_times_a_stack_of_matrices():
    r = Recording()
    out = r.ufunc("negative", r.add("matmul", r.input(array(4)), r.input(array(3, 4, 5))))
    assert same_bits(numpy_program(r, out)([array(4), array(3, 4, 5)])[0], r.values[out])


# --- outputs and donated inputs ----------------------------------------------------------------------------------


def sgd():
    """w − lr·g, and the old w once more in the loss."""
    r = Recording()
    w, g, lr = r.input(array(4, 3)), r.input(array(4, 3, seed=1)), r.input(0.5)
    loss = r.add("reduce", r.ufunc("square", w), options=("sum", (0, 1), False))
    return r, w, r.ufunc("subtract", w, r.ufunc("multiply", g, lr)), loss


def test_an_output_can_be_written_to_and_holds_no_larger_memory():
    r = Recording()
    x = r.input(array(300))
    wide = r.add("broadcast_to", r.ufunc("exp", x), options=((1, 300),))
    first = r.add("getitem", r.ufunc("tanh", x), options=(slice(0, 1),))
    found = numpy_program(r, wide, first)([array(300)])
    assert all(x.flags.writeable for x in found)
    assert found[1].base is None


@pytest.mark.parametrize("donate", [False, True])
def test_an_output_is_written_over_a_donated_input_and_only_then(donate):
    r, _, new, loss = sgd()
    program = numpy_program(r, new, loss, destinations={0: 0})
    w, g = array(4, 3), array(4, 3, seed=1)
    found = program([w, g, 0.5], donate=donate)
    assert same_bits(found[0], r.values[new]) and same_bits(found[1], r.values[loss])
    assert (found[0] is w) == donate
    assert same_bits(w, found[0] if donate else array(4, 3))


def test_an_input_that_is_read_later_is_written_over_in_the_end():
    r, w, new, _ = sgd()
    late = r.add("reduce", w, options=("sum", (0, 1), False))
    program = numpy_program(r, new, late, destinations={0: 0})
    a = array(4, 3)
    found = program([a, array(4, 3, seed=1), 0.5], donate=True)
    assert found[0] is a and same_bits(a, r.values[new])
    assert same_bits(found[1], r.values[late])


def test_the_old_value_of_a_donated_input_can_be_an_output_too():
    r, w, new, _ = sgd()
    program = numpy_program(r, new, w, new, destinations={0: 0})
    a = array(4, 3)
    found = program([a, array(4, 3, seed=1), 0.5], donate=True)
    assert found[0] is a
    assert same_bits(found[1], array(4, 3)) and same_bits(found[2], r.values[new])
    assert not np.shares_memory(found[0], found[2])


def test_a_donated_input_may_lie_in_memory_as_it_likes():
    r, _, new, _ = sgd()
    program = numpy_program(r, new, destinations={0: 0})
    a = np.asfortranarray(array(4, 3))
    (found,) = program([a, array(4, 3, seed=1), 0.5], donate=True)
    assert found is a and same_bits(a, r.values[new])


def test_destinations_must_fit():
    r, _, new, loss = sgd()
    with pytest.raises(ValueError, match=r"output 1 is float32 \(\).*input 0 \(argument 0\).*float32 \(4, 3\)"):
        numpy_program(r, new, loss, destinations={1: 0})
    with pytest.raises(ValueError, match="two outputs cannot be written over one input"):
        numpy_program(r, new, new, destinations={0: 0, 1: 0})


# --- calls -------------------------------------------------------------------------------------------------------


def test_a_call_of_another_shape_or_dtype_raises_and_names_it():
    r = Recording()
    x = r.input(np.array([1.0, 2.0, 2.0]))
    out = r.call(np.unique, x)
    program = numpy_program(r, out)
    assert program([np.array([3.0, 5.0, 3.0])])[0].tolist() == [3, 5]
    with pytest.raises(JitError, match=r"unique: gave float64 \(3,\) where float64 \(2,\) was recorded"):
        program([np.array([1.0, 2.0, 3.0])])
    module = {}
    exec(program.source, module)  # without needle
    with pytest.raises(RuntimeError, match="unique: gave"):
        module["step"]([np.array([1.0, 2.0, 3.0])], module["allocate"](), None, False)


def test_a_call_gets_its_arguments_in_their_places():
    r = Recording()
    x, y = r.input(array(2, 3)), r.input(array(2, 3, seed=1))
    pattern = ([Slot(0), Slot(1)],), {"axis": 1}
    out = r.add("call", x, y, options=(np.concatenate, pattern))
    chosen = r.add("call", out, options=(np.take, ((Slot(0), np.array([3, 0]), 1), {"mode": "clip"})))
    program = numpy_program(r, chosen)
    assert "numpy.concatenate([t0, t1], axis=1)" in program.source
    assert same_bits(program([array(2, 3), array(2, 3, seed=1)])[0], r.values[chosen])


def test_parts_of_a_call():
    r = Recording()
    x = r.input(array(6))
    whole = r.add("call", x, options=(np.split, ((Slot(0), 3), {})))
    last = r.add("part", whole, options=(2,))
    program = numpy_program(r, last)
    a = array(6)
    (found,) = program([a])
    assert same_bits(found, a[4:]) and not np.shares_memory(found, a)


def test_draws_come_from_the_device_anew_at_each_call():
    r = Recording(device_draw)
    noise = r.add("random", options=("randn", (2, 3)))
    program = numpy_program(r, r.ufunc("multiply", noise, r.constant(2.0)))
    np.random.seed(5)
    first, second = program([])[0], program([])[0]
    np.random.seed(5)
    assert same_bits(first, np.random.randn(2, 3) * 2) and same_bits(second, np.random.randn(2, 3) * 2)


# --- show and source ---------------------------------------------------------------------------------------------


def test_show():
    r = Recording()
    x, w, lr = r.input(array(100, 20)), r.input(array(20, 10)), r.input(0.1)
    z = r.add("matmul", x, w)
    total = r.add("reduce", r.ufunc("exp", z), options=("sum", (1,), True))
    part = r.add("getitem", total, options=((slice(None, 5), Ellipsis),))
    out = r.ufunc("multiply", part, lr)
    assert [" ".join(line.split()) for line in show(r.graph(out)).splitlines()] == [
        "%0 = input argument 0 float32 (100, 20)",
        "%1 = input argument 1 float32 (20, 10)",
        "%2 = number argument 2 number",
        "%3 = matmul(%0, %1) float32 (100, 10) step.py:3",
        "%4 = exp(%3) float32 (100, 10) step.py:4",
        "%5 = sum(%4, axes (1,), keepdims) float32 (100, 1) step.py:5",
        "%6 = %5[:5, ...] float32 (5, 1) step.py:6",
        "%7 = multiply(%6, %2) float32 (5, 1) step.py:7",
        "return %7",
    ]


def test_show_tells_numbers_and_functions_by_name():
    r = Recording()
    x, lr = r.input(array(3)), r.input(0.1)
    bare = r.input(0.2)
    lr.label, bare.label = "Adam, group 0, lr", "number"
    out = r.call(np.cumsum, r.ufunc("multiply", x, lr))
    out.label = "Running"
    sorted_ = r.call(np.sort, r.ufunc("add", out, bare))
    lines = [" ".join(line.split()) for line in show(r.graph(sorted_)).splitlines()]
    assert lines[1:3] == ["%1 = number Adam, group 0, lr number", "%2 = number number"]
    assert lines[4] == "%4 = Running: cumsum(%3) float32 (3,) step.py:4"
    assert lines[6] == "%6 = sort(%5) float32 (3,) step.py:6"


SOURCE = '''"""One step, as ndl.jit recorded it. Behind each line of it: the line that it comes from."""

import numpy

n0 = numpy.array(0.5, numpy.float32)


def allocate():
    """The arrays that every call reuses; those that are never needed at once share memory."""
    memory = numpy.empty(623, "uint8")
    memory = memory[-memory.__array_interface__["data"][0] % 64 :]
    t2 = numpy.ndarray((10, 3), numpy.float32, memory, 0)
    t3 = t2
    t4 = t3.transpose((1, 0))
    t5 = numpy.ndarray((3,), numpy.float32, memory, 128)
    return t2, t3, t4, t5


def step(inputs, buffers, draw, donate):
    t0, t1 = inputs
    t2, t3, t4, t5 = buffers
    t0.dot(t1, t2)                        # step.py:2
    numpy.exp(t2, t3)                     # step.py:3
    numpy.add.reduce(t4, (1,), None, t5)  # step.py:5
    t7 = numpy.multiply(t5, n0)           # step.py:7
    return [t7]
'''


def test_source_reads_as_numpy():
    r = Recording()
    x, w = r.input(array(10, 4)), r.input(array(4, 3))
    e = r.ufunc("exp", r.add("matmul", x, w))
    total = r.add("reduce", r.add("transpose", e, options=((1, 0),)), options=("sum", (1,), False))
    program = numpy_program(r, r.ufunc("multiply", total, r.constant(0.5)))
    assert program.source == SOURCE.replace("623", str(program.plan.size + 63))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_source_runs_under_numpy_alone():
    ran = 0
    for seed in SEEDS[:80]:
        graph, arrays, _ = random_graph(seed)
        program = compile_graph(graph, backend="numpy")
        if not program.emitted.given:
            module = {}
            exec(program.source, module)
            found = module["step"](arrays, module["allocate"](), None, False)
            assert all(map(same_bits, found, program(arrays)))
            ran += 1
    assert ran > 10


def test_an_error_shows_the_line_of_the_source():
    r = Recording()
    out = r.ufunc("multiply", r.input(array(3)), r.input(array(3)))
    program = numpy_program(r, out)
    try:
        program([array(3), array(4)])
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    assert "t2 = numpy.multiply(t0, t1)  # step.py:2" in text
    linecache.checkcache()


def test_the_lines_of_a_source_go_with_its_program():
    r = Recording()
    program = numpy_program(r, r.ufunc("exp", r.input(array(3))))
    file = program.module["__name__"]
    assert file in linecache.cache
    del program
    gc.collect()
    assert file not in linecache.cache


@pytest.mark.parametrize("value", [1 / np.sqrt(3), np.float64("-inf"), np.float64("nan")])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_scalar_of_numpy_keeps_its_dtype(backend, value):
    if backend == "numba":
        pytest.importorskip("numba")
    r = Recording()
    x = r.input(array(3))
    strong, weak = r.constant(value), r.constant(value)
    weak.dtype, r.values[weak] = None, float(value)  # as a Python number
    a, b = (r.ufunc("add", r.ufunc("multiply", x, scale), x) for scale in (strong, weak))
    found = compile_graph(r.graph(a, b), backend=backend)([array(3)])
    assert [y.dtype for y in found] == ["float64", "float32"]
    assert near(found[0], r.values[a], "float64") and near(found[1], r.values[b], "float32")


def test_numbers_that_have_no_digits():
    r = Recording()
    x = r.input(array(3))
    outputs = [r.ufunc("maximum", x, r.constant(number)) for number in (math.inf, -math.inf, math.nan)]
    outputs.append(r.ufunc("add", x, r.constant(np.array([np.inf, -0.0, np.nan], "float32"))))
    found = numpy_program(r, *outputs)([array(3)])
    assert all(same_bits(a, r.values[node]) for a, node in zip(found, outputs, strict=True))


def test_a_number_too_large_for_float32_becomes_infinite_as_in_numpy():
    r = Recording()
    x = r.input(np.ones(2, "float32"))
    out = r.ufunc("multiply", x, r.constant(1e300))
    program = numpy_program(r, out)
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert program([np.ones(2, "float32")])[0].tolist() == [math.inf] * 2


def test_passes_print_every_graph_and_the_buffers():
    r, _, new, loss = sgd()
    text = numpy_program(r, new, loss, destinations={0: 0}).passes()
    assert [line for line in text.splitlines() if line.startswith("---")] == [
        "--- recorded: 7 nodes",
        "--- simplified: 7 nodes",
        "--- buffers: 2 values of 96 bytes share 48 bytes of memory",
    ]
    assert "%6 is written over %0, if that is donated" in text


def test_an_unknown_backend_is_refused():
    r, node = chain(1)
    with pytest.raises(ValueError, match="backend must be 'auto', 'numpy' or 'numba', got 'cuda'"):
        compile_graph(r.graph(node), backend="cuda")


# --- profile -----------------------------------------------------------------------------------------------------


def test_profile_has_a_row_for_each_line():
    r = Recording()
    x, w = r.input(array(200, 100)), r.input(array(100, 50))
    product = r.add("matmul", x, w)
    program = numpy_program(r, r.ufunc("tanh", r.ufunc("exp", product)))
    calls = []
    program.draw = calls.append
    found = program.profile([array(200, 100), array(100, 50)], seconds=0.02)
    assert [(row.line, row.bytes, row.flops) for row in found.rows] == [
        ("step.py:2", 4 * (200 * 100 + 100 * 50 + 200 * 50), 2 * 200 * 100 * 50),
        ("step.py:3", 2 * 4 * 200 * 50, 200 * 50),
        ("step.py:4", 2 * 4 * 200 * 50, 200 * 50),
    ]
    assert all(row.seconds > 0 and row.share > 0 for row in found.rows)
    assert found.rows[1].code == "numpy.exp(t2, t3)"
    for row in found.rows:
        limit = max(row.bytes / found.bandwidth, row.flops / found.peak)
        assert row.share == pytest.approx(limit / row.seconds)
    assert "numpy.exp(t2, t3)" in str(found) and "GB/s" in str(found)


class Stream:
    """A generator of numbers with a state that can be put back."""

    def __init__(self):
        self.state = 0

    def draw(self, *shape):
        self.state += 1
        return np.full(shape, float(self.state))


def test_profile_leaves_random_streams_as_they_were():
    stream = Stream()
    r = Recording(device_draw)
    nodes = [r.add("random", options=(method, (2, 3))) for method in ("randn", stream.draw)]
    program = numpy_program(r, r.ufunc("add", *nodes))
    np.random.seed(3)
    wanted = np.random.randn()
    np.random.seed(3)
    before = stream.state
    program.profile([], seconds=0.01)
    assert stream.state == before and np.random.randn() == wanted


def test_profile_takes_the_machine_at_its_best(monkeypatch):
    """A moment at which somebody else uses it does not count."""
    bandwidths, peaks = iter([1e9, 5e9]), iter([7e9, 2e9])
    monkeypatch.setattr(profiling, "measured_bandwidth", lambda size: next(bandwidths))
    monkeypatch.setattr(profiling, "measured_peak", lambda: next(peaks))
    r = Recording()
    found = numpy_program(r, r.ufunc("exp", r.input(array(3)))).profile([array(3)], seconds=0.01)
    assert (found.bandwidth, found.peak) == (5e9, 7e9)


def test_profile_times_the_slow_line():
    """A line that sleeps takes that long, and the others do not."""

    def slow(a):
        pause.wait(0.002)
        return a

    pause = threading.Event()
    r = Recording()
    x = r.input(array(10))
    out = r.ufunc("exp", r.call(slow, r.ufunc("tanh", x)))
    rows = numpy_program(r, out).profile([array(10)], seconds=0.02).rows
    assert [row.seconds > 0.002 for row in rows] == [False, True, False]


def test_a_broadcast_is_read_once():
    r = Recording()
    wide = r.add("broadcast_to", r.input(array(1, 10)), options=((1000, 10),))
    assert work_of(wide) == (0, 0)
    assert work_of(r.ufunc("exp", wide)) == (4 * 10 + 4 * 10000, 10000)


# --- kernels -----------------------------------------------------------------------------------------------------


def fused(graph, destinations=None):
    """(planned graph, its module), the kernels as plain Python."""
    made = completed(fuse(simplify(graph)))
    source = emit(made, plan(made, destinations))
    return source, load(source.text, source.given)


def test_a_kernel_is_written_out_and_called():
    r, _, new, loss = sgd()
    source, module = fused(r.graph(new, loss))
    (*_, kernel) = source.kernels
    assert f"def {kernel.name}(" in source.text
    found = module["step"]([array(4, 3), array(4, 3, seed=1), 0.5], module["allocate"](), None, False)
    assert near(found[0], r.values[new], "float32") and near(found[1], r.values[loss], "float32")


@pytest.mark.parametrize("donate", [False, True])
def test_a_kernel_writes_over_a_donated_input(donate):
    r, _, new, _ = sgd()
    source, module = fused(r.graph(new), {0: 0})
    assert "t0 if donate else" in source.text
    w = array(4, 3)
    (found,) = module["step"]([w, array(4, 3, seed=1), 0.5], module["allocate"](), None, donate)
    assert near(found, r.values[new], "float32")
    assert (found is w) == donate
    assert same_bits(w, found if donate else array(4, 3))


def test_a_kernel_takes_inputs_that_are_not_row_major():
    pytest.importorskip("numba")
    r, _, new, _ = sgd()
    program = compile_graph(r.graph(new), backend="numba")
    w, g = np.asfortranarray(array(4, 3)), np.repeat(array(4, 3, seed=1), 2, axis=1)[:, ::2]
    assert near(program([w, g, 0.5])[0], r.values[new], "float32")
    assert same_bits(w, array(4, 3))


def test_a_kernel_gets_a_row_major_copy_of_a_transposed_value():
    r = Recording()
    x, y = r.add("transpose", r.input(array(3, 4)), options=((1, 0),)), r.input(array(4, 3, seed=1))
    out = r.ufunc("tanh", r.ufunc("add", x, y))
    source, module = fused(r.graph(out))
    (turned,) = (line.text.split(" = ")[0] for line in source.lines if ".transpose(" in line.text)
    assert f"numpy.ascontiguousarray({turned})" in source.lines[-1].text
    (found,) = module["step"]([array(3, 4), array(4, 3, seed=1)], module["allocate"](), None, False)
    assert near(found, r.values[out], "float32")


def test_compiled_kernels_run_and_are_profiled():
    pytest.importorskip("numba")
    r, _, new, loss = sgd()
    program = compile_graph(r.graph(new, loss), backend="numba", destinations={0: 0})
    arrays = [array(4, 3), array(4, 3, seed=1), 0.5]
    assert near(program(arrays)[0], r.values[new], "float32")
    assert sum(row.code.startswith("kernel_") for row in program.profile(arrays, seconds=0.01).rows) >= 1
    assert same_bits(arrays[0], array(4, 3))
