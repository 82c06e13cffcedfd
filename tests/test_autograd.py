"""The graph, the reverse pass and Tensor, fact by fact: order, memory, modes, writing, hooks, users' own ops."""

from __future__ import annotations

import gc
import math
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import needle as ndl
from needle.autograd import Value, compute_gradient_of_variables, find_topo_sort, sum_node_list


def leaf(*numbers, **options):
    return ndl.Tensor(np.array(numbers, dtype=float), **options)


def const(array):
    return ndl.Tensor(array, requires_grad=False)


def gradient_of(x):
    return x.grad.numpy().tolist()


@pytest.fixture
def without_gc():
    """Whatever is freed is freed because nobody holds it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# --- order -----------------------------------------------------------------------------------------------------


def test_topological_order_is_depth_first_post_order_inputs_left_to_right():
    a, b, c = leaf(1), leaf(2), leaf(3)
    ab = a * b
    bc = b + c
    out = bc * ab
    assert find_topo_sort([out]) == [b, c, bc, a, ab, out]


def test_a_shared_node_comes_once_and_several_roots_keep_their_order():
    a = leaf(1)
    square = a * a
    left, right = square + 1, square * 2
    assert find_topo_sort([left, right]) == [a, square, left, right]
    assert find_topo_sort([right, left]) == [a, square, right, left]
    assert find_topo_sort([square, right]) == [a, square, right]


def test_subtraction_is_a_negation_and_an_addition():
    a, b = leaf(1, 2), leaf(3, 4)
    difference = a - b
    kinds = [type(node.op).__name__ for node in find_topo_sort([difference])]
    assert kinds == ["NoneType", "NoneType", "Negate", "EWiseAdd"]
    assert difference.inputs == (a, difference.inputs[1]) and difference.inputs[1].inputs == (b,)


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        (lambda a: a - 2, ["AddScalar"]),
        (lambda a: a + 2, ["AddScalar"]),
        (lambda a: 2 + a, ["AddScalar"]),
        (lambda a: 2 * a, ["MulScalar"]),
        (lambda a: a * 2, ["MulScalar"]),
        (lambda a: a / 2, ["DivScalar"]),
        (lambda a: a**2, ["PowerScalar"]),
        (lambda a: 2 - a, ["Negate", "AddScalar"]),
    ],
)
def test_an_operator_with_a_number_is_one_node(call, kinds):
    a = leaf(1, 2)
    nodes = find_topo_sort([call(a)])
    assert [type(node.op).__name__ for node in nodes[1:]] == kinds
    assert nodes[0] is a


# --- size ------------------------------------------------------------------------------------------------------


def test_a_chain_of_a_million_nodes(without_gc):
    x = leaf(1.0)
    before = ndl.autograd.TENSOR_COUNTER
    y = x
    for _ in range(1_000_000):
        y = -y
    y.backward()
    assert gradient_of(x) == [1]
    x.grad = None
    del y
    assert ndl.autograd.TENSOR_COUNTER == before


def test_a_doubling_diamond_of_ten_thousand(without_gc):
    """One call per path would take 2^10000 of them."""
    x = leaf(3.0)
    before = ndl.autograd.TENSOR_COUNTER
    y = x
    for _ in range(10_000):
        y = (y + y) * 0.5
    y.backward()
    assert gradient_of(x) == [1]
    x.grad = None
    del y
    assert ndl.autograd.TENSOR_COUNTER == before


def test_depth_does_not_meet_the_recursion_limit():
    x = leaf(1.0)
    y = x
    for _ in range(sys.getrecursionlimit() * 3):
        y = y * 1.0
    y.backward()
    x.grad.backward()  # also of a gradient
    assert gradient_of(x) == [0]


# --- backward --------------------------------------------------------------------------------------------------


def test_the_default_seed_is_ones_of_the_outputs_shape_and_dtype():
    x = ndl.Tensor(np.ones((2, 3)), dtype="float32")
    (x * 3).backward()
    assert gradient_of(x) == [[3] * 3] * 2 and x.grad.dtype == "float32"


def test_the_seed_may_be_a_tensor_an_array_or_a_number_of_the_right_shape():
    for seed in (ndl.Tensor([1.0, 2.0]), np.array([1, 2]), [1.0, 2.0], ndl.Tensor([1.0, 2.0], dtype="float32")):
        x = leaf(1, 1)
        (x * x).backward(seed)
        assert gradient_of(x) == [2, 4] and x.grad.dtype == "float64"


def test_a_seed_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"out_grad has shape \(3,\), wanted \(2,\)"):
        (leaf(1, 2) * 2).backward(leaf(1, 2, 3))


def test_backward_from_a_constant_is_refused():
    for y in (const([1.0]) * 2, leaf(1).detach(), const([1.0])):
        with pytest.raises(RuntimeError, match="depends on nothing that requires a gradient"):
            y.backward()


def test_backward_from_a_leaf_gives_the_seed():
    x = leaf(5.0)
    x.backward()
    assert gradient_of(x) == [1]


def test_a_later_backward_replaces_grad_and_accumulate_adds():
    x = leaf(1, 2)
    (x * 3).backward()
    (x * 5).backward()
    assert gradient_of(x) == [5, 5]
    (x * 7).backward(accumulate=True)
    assert gradient_of(x) == [12, 12]
    x.grad = None
    (x * 7).backward(accumulate=True)
    assert gradient_of(x) == [7, 7]


def test_accumulate_into_a_gradient_that_is_differentiated_again():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    (x**2).backward(create_graph=True, accumulate=True)
    x.grad.backward()
    assert gradient_of(x) == [6 * 2 + 2]


def test_a_gradient_is_shared_by_all_paths():
    x = leaf(2.0)
    y = x * x
    (y * x + y).backward()
    assert gradient_of(x) == [3 * 4 + 2 * 2]


def test_an_op_may_take_one_tensor_twice():
    x = leaf(2.0)
    ndl.add(x, x).backward()
    assert gradient_of(x) == [2]


def test_only_what_requires_a_gradient_gets_one():
    x, c = leaf(2.0), const([3.0])
    y = x * c
    y.backward()
    assert c.grad is None and y.grad is None
    assert gradient_of(x) == [3]


def test_gradients_of_one_backward_do_not_share_what_a_user_writes():
    """`a + b` sends one array to both; item assignment must not reach the other, nor the seed."""
    a, b, seed = leaf(1, 2), leaf(3, 4), const([1.0, 1.0])
    (a + b).backward(seed)
    a.grad[0] = 100.0
    assert gradient_of(b) == [1, 1] and seed.numpy().tolist() == [1, 1] and gradient_of(a) == [100, 1]


def test_a_gradient_can_be_scaled_in_place():
    x = leaf(1, 2)
    (x * 4).sum().backward()
    with ndl.no_grad():
        x.grad *= 0.5
    assert gradient_of(x) == [2, 2]


# --- derivatives of derivatives --------------------------------------------------------------------------------


def test_a_gradient_can_be_differentiated_again_and_again():
    x = leaf(2.0)
    (x**4).backward()
    for wanted in (4 * 8, 12 * 4, 24 * 2, 24, 0):
        grad = x.grad
        assert grad.numpy().tolist() == [wanted]
        if wanted:
            grad.backward()


def test_a_gradient_takes_part_in_new_graphs():
    x, y = leaf(2.0), leaf(5.0)
    (x * x * y).backward()
    gx, gy = x.grad, y.grad
    (gx * gy).backward()  # (2xy)(x²) = 2x³y
    assert gradient_of(x) == [6 * 4 * 5] and gradient_of(y) == [2 * 8]


def test_create_graph_gives_the_same_as_rebuilding():
    def second(create_graph):
        x = leaf(0.3, 1.2)
        ndl.exp(x * x).sum().backward(create_graph=create_graph)
        (x.grad * x.grad).sum().backward()
        return x.grad.numpy()

    np.testing.assert_array_equal(second(True), second(False))


def test_a_gradient_has_no_graph_until_somebody_asks():
    x = leaf(2.0)
    (x * x).backward()
    made = []

    class Watcher:
        def made(self, *node):
            made.append(node)

    ndl.modes.mode.observer = Watcher()
    try:
        x.grad.numpy(), x.grad.shape, x.grad.requires_grad
        assert not made
        x.grad.op  # noqa: B018
        assert made
    finally:
        ndl.modes.mode.observer = None


def test_a_gradient_of_a_linear_function_is_constant():
    x = leaf(2.0)
    (x * 3).backward(create_graph=True)
    assert not x.grad.requires_grad
    with pytest.raises(RuntimeError, match="depends on nothing"):
        x.grad.backward()


def test_a_seed_that_requires_a_gradient_is_differentiated_through():
    x, v = leaf(2.0, 3.0), leaf(1.0, 10.0)
    (x * x).backward(v, create_graph=True)  # 2xv
    x.grad.sum().backward()
    assert gradient_of(v) == [4, 6] and gradient_of(x) == [2, 20]


# --- letting graphs go -----------------------------------------------------------------------------------------


def test_backward_can_be_called_again_while_the_graph_is_held():
    x = leaf(2.0)
    y = x * x
    for _ in range(3):
        y.backward()
        assert gradient_of(x) == [4]


def test_a_graph_that_was_let_go_says_so():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=False)
    assert gradient_of(x) == [4]
    for again in (y.backward, x.grad.backward):
        with pytest.raises(RuntimeError, match="was let go .* run the forward pass again"):
            again()


def test_retain_graph_false_frees_the_graph(without_gc):
    x = leaf(2.0)
    middle = x * x
    watch = weakref.ref(middle)
    y = middle + 1
    del middle
    y.backward(retain_graph=False)
    assert watch() is None


def test_an_optimizer_step_lets_the_graph_go_and_frees_it(without_gc):
    w = leaf(1.0, 2.0)
    hidden = ndl.exp(w)
    watch = weakref.ref(hidden)
    loss = (hidden * 2).sum()
    del hidden
    loss.backward()
    assert watch() is not None  # held by the loss, and by w.grad
    ndl.optim.SGD([w], lr=0.1).step()
    assert watch() is None
    with pytest.raises(RuntimeError, match="was let go"):
        w.grad.backward()


def test_dropping_the_gradient_frees_its_graph(without_gc):
    w = leaf(1.0, 2.0)
    loss = (w * w).sum()
    watch = weakref.ref(loss)
    loss.backward()
    del loss
    assert watch() is not None
    w.grad = None
    assert watch() is None


def test_a_result_that_nobody_needs_is_freed_at_once(without_gc):
    x = leaf(1.0)
    watch = weakref.ref(x * 2)
    assert watch() is None


def train(steps, w, b, X, y, optimizer):
    for _ in range(steps):
        loss = ndl.softmax_cross_entropy(ndl.relu(X @ w) @ b, y)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_ten_thousand_steps_without_garbage_collector_need_no_more_memory(without_gc, momentum):
    X, y = const(np.random.randn(8, 5)), np.random.randint(3, size=8)
    w, b = ndl.Tensor(np.random.randn(5, 6)), ndl.Tensor(np.random.randn(6, 3))
    optimizer = ndl.optim.SGD([w, b], lr=0.01, momentum=momentum)
    train(20, w, b, X, y, optimizer)
    counted = ndl.autograd.TENSOR_COUNTER
    held = []
    tracemalloc.start()
    for _ in range(4):
        train(200, w, b, X, y, optimizer)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert min(np.diff(held)) < 4096  # a leak grows every time; what Python sets aside once does not
    train(10_000, w, b, X, y, optimizer)
    assert ndl.autograd.TENSOR_COUNTER == counted


def test_gradients_that_are_reset_leave_nothing_behind(without_gc):
    w = leaf(1.0, 2.0)
    before = ndl.autograd.TENSOR_COUNTER
    for _ in range(100):
        (w * w).sum().backward()
        w.grad = None
    assert ndl.autograd.TENSOR_COUNTER == before


def test_a_differentiated_gradient_leaves_nothing_behind(without_gc):
    w = leaf(1.0, 2.0)
    before = ndl.autograd.TENSOR_COUNTER
    for _ in range(20):
        (w * w * w).sum().backward()
        first = w.grad
        (first * first).sum().backward()
        del first
        w.grad = None
    gc.collect()  # parameter, gradient and its own graph may form a circle until the gradient is dropped
    assert ndl.autograd.TENSOR_COUNTER == before


# --- hooks and retained gradients ------------------------------------------------------------------------------


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * 3).backward()
    assert gradient_of(y) == [3]
    (y * 5).backward()
    assert gradient_of(y) == [5]


def test_a_retained_gradient_can_be_differentiated_again():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * y).backward()
    y.grad.backward()  # 2y = 2x²
    assert gradient_of(x) == [8]


def test_a_hook_sees_the_complete_gradient_once():
    x, seen = leaf(2.0), []
    y = x * x
    y.register_hook(lambda grad: seen.append(grad.numpy().tolist()))
    (y * 3 + y * 4).backward()
    assert seen == [[7]] and gradient_of(x) == [28]


def test_a_hook_may_replace_the_gradient_and_hooks_run_in_order():
    x = leaf(2.0)
    y = x * 1
    y.register_hook(lambda grad: grad * 2)
    y.register_hook(lambda grad: grad + 1)
    y.backward()
    assert gradient_of(x) == [3]


def test_a_hook_on_a_leaf_changes_what_is_left_in_grad():
    x = leaf(2.0)
    x.register_hook(lambda grad: -grad)
    (x * 3).backward()
    assert gradient_of(x) == [-3]


def test_a_hook_can_be_removed_twice_without_harm():
    x = leaf(2.0)
    remove = x.register_hook(lambda grad: grad * 10)
    (x * 3).backward()
    remove()
    remove()
    (x * 3).backward()
    assert gradient_of(x) == [3]


@pytest.mark.parametrize("wrong", [lambda g: ndl.stack([g, g]), lambda g: g.astype("float32"), lambda g: 1.0])
def test_a_hook_that_returns_the_wrong_thing_is_reported(wrong):
    x = leaf(2.0)
    x.register_hook(wrong)
    with pytest.raises((ValueError, TypeError), match="hook"):
        (x * 3).backward()


def test_a_hook_takes_part_in_second_derivatives():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda grad: grad * 2)
    (y * y).backward()  # by way of the hook: 2·2y·2x = 8xy
    assert gradient_of(x) == [64]
    x.grad.backward()  # d(8xy)/dx = 8y + 8x·(2·2x): the hook sees the second gradient that reaches y too, as in PyTorch
    assert gradient_of(x) == [160]


# --- writing ---------------------------------------------------------------------------------------------------

WRITES = {
    "data": lambda x: setattr(x, "data", ndl.Tensor([9.0, 9.0])),
    "item": lambda x: no_grad_item(x),
    "item of detach": lambda x: x.detach().__setitem__(0, 9.0),
    "item of data": lambda x: x.data.__setitem__(0, 9.0),
    "item of a view": lambda x: no_grad_item(x.detach()[:1]),
    "item of a reshaped view": lambda x: no_grad_item(x.detach().reshape((2, 1)).T),
    "item of a tensor of it": lambda x: no_grad_item(ndl.Tensor(x, requires_grad=False)),
    "operator": lambda x: no_grad_subtract(x),
    "optimizer": lambda x: step(x),
}


@ndl.no_grad()
def no_grad_item(x):
    x[0] = 9.0


@ndl.no_grad()
def no_grad_subtract(x):
    x -= 1.0


def step(x):
    x.grad = ndl.Tensor([1.0, 1.0])
    ndl.optim.SGD([x], lr=0.1).step()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_was_written_to_after_the_forward_pass_cannot_be_differentiated(write):
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    write(x)
    with pytest.raises(RuntimeError, match="EWiseMul .* was written to after the forward pass read it"):
        y.backward()
    assert x.numpy().tolist() != [1, 2]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_was_written_to_before_the_forward_pass_is_fine(write):
    x = leaf(1.0, 2.0)
    write(x)
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


@pytest.mark.parametrize("write", [WRITES["item of detach"], WRITES["item of a view"], WRITES["data"]])
def test_a_result_that_was_written_to_cannot_be_differentiated(write):
    """The rule of exp uses its own result."""
    x = leaf(1.0, 2.0)
    y = ndl.exp(x)
    write(y)
    with pytest.raises(RuntimeError, match="written to"):
        y.sum().backward()


def test_writing_to_something_else_does_no_harm():
    x, other = leaf(1.0, 2.0), leaf(1.0, 2.0)
    y = (x * x).sum()
    no_grad_item(other)
    y.backward()
    assert gradient_of(x) == [2, 4]


def test_a_write_also_spoils_the_graph_that_a_gradient_holds():
    x = leaf(1.0, 2.0)
    (x * x * x).sum().backward()
    no_grad_item(x)
    with pytest.raises(RuntimeError, match="let go|written to"):
        x.grad.sum().backward()


def test_item_assignment_that_would_lose_a_gradient_is_refused():
    x, c = leaf(1.0, 2.0), const([1.0, 2.0])
    with pytest.raises(RuntimeError, match="this tensor requires a gradient"):
        x[0] = 5.0
    with pytest.raises(RuntimeError, match="the value requires a gradient"):
        c[0] = leaf(5.0)[0]
    c[0] = 5.0
    assert c.numpy().tolist() == [5, 2]


def test_in_place_operators_name_a_new_tensor_while_recording():
    x = leaf(1.0, 2.0)
    y = x
    y += 1
    y *= 2
    y.sum().backward()
    assert y is not x and x.numpy().tolist() == [1, 2] and gradient_of(x) == [2, 2]


def test_in_place_operators_change_a_parameter_under_no_grad():
    x = leaf(1.0, 2.0)
    same = x
    with ndl.no_grad():
        x -= 0.5
        x *= 2
        x /= 4
        x **= 2
        x += 1
    assert x is same and x.requires_grad and x.is_leaf()
    assert x.numpy().tolist() == [1.0625, 1.5625]


def test_an_in_place_operator_that_would_change_shape_or_dtype_is_refused():
    x = leaf(1.0, 2.0)
    with ndl.no_grad():
        with pytest.raises(ValueError, match="does not fit into the parameter"):
            x += np.ones((2, 2))
        small = ndl.Tensor([1.0], dtype="float32")
        with pytest.raises(ValueError, match="does not fit into the parameter"):
            small += np.array([1.0])


def test_writing_through_the_live_array_is_not_seen():
    """As the contract hands it out; docs/gradients.md calls it unsafe."""
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.realize_cached_data()[0] = 10
    y.backward()
    assert gradient_of(x) == [20, 4]


# --- modes -----------------------------------------------------------------------------------------------------


def test_no_grad_makes_constants_and_enable_grad_records_again():
    x = leaf(1.0)
    with ndl.no_grad():
        assert not ndl.is_grad_enabled()
        y = x * 2
        with ndl.enable_grad():
            z = x * 2
        w = x * 2
    assert (y.requires_grad, z.requires_grad, w.requires_grad, ndl.is_grad_enabled()) == (False, True, False, True)
    assert y.op is None and y.inputs == ()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), ndl.no_grad():
        raise KeyError
    assert ndl.is_grad_enabled()


def test_no_grad_decorates_functions_and_can_be_nested_and_used_again():
    @ndl.no_grad()
    def double(x):
        """doc"""
        return x * 2

    assert double.__name__ == "double" and double.__doc__ == "doc"
    assert not double(leaf(1.0)).requires_grad
    mode = ndl.no_grad()
    with mode, mode:
        assert not ndl.is_grad_enabled()
    assert ndl.is_grad_enabled()


def test_no_grad_in_one_thread_does_not_reach_another():
    inside, checked, seen = threading.Event(), threading.Event(), []

    def quiet():
        with ndl.no_grad():
            inside.set()
            checked.wait(10)
            seen.append(ndl.is_grad_enabled())

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    seen.append((leaf(1.0) * 2).requires_grad)
    checked.set()
    thread.join()
    assert seen == [True, False]


def test_backward_within_no_grad_still_works():
    x = leaf(3.0)
    y = x * x
    with ndl.no_grad():
        y.backward()
    assert gradient_of(x) == [6]


def test_threads_may_build_and_differentiate_graphs_side_by_side():
    results = [None] * 4

    def work(i):
        x = leaf(float(i))
        for _ in range(200):
            (x * x * x).sum().backward()
        results[i] = x.grad.item()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0, 3, 12, 27]


def test_detach_shares_storage_and_is_a_constant_leaf():
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    assert y.is_leaf() and not y.requires_grad and y.op is None
    assert x.detach().cached_data is x.cached_data
    (x * y).sum().backward()
    assert gradient_of(x) == [2, 4]


def test_requires_grad_can_be_set():
    x = const([1.0, 2.0])
    assert x.requires_grad_() is x
    (x * 2).sum().backward()
    assert gradient_of(x) == [2, 2]
    x.requires_grad_(False)
    assert not (x * 2).requires_grad
    x.requires_grad = True
    assert (x * 2).requires_grad
    with pytest.raises(ValueError, match="result of an op; use detach"):
        (x * 2).requires_grad_(False)


# --- rules that are wrong --------------------------------------------------------------------------------------


class Double(ndl.TensorOp):
    """2a, with a rule that a test chooses. No __init__, as users write them."""

    rule = staticmethod(lambda out_grad, node: out_grad * 2)

    def compute(self, a):
        return a * 2

    def gradient(self, out_grad, node):
        return self.rule(out_grad, node)


def test_an_op_of_the_user_without_init_works_to_any_order():
    x = leaf(1.0, 2.0)
    y = Double()(x)
    assert y.numpy().tolist() == [2, 4] and isinstance(y.op, Double)
    (y * y).sum().backward()
    assert gradient_of(x) == [8, 16]
    x.grad.sum().backward()
    assert gradient_of(x) == [8, 8]


def with_rule(rule):
    op = Double()
    op.rule = rule
    return op(ndl.Tensor([[1.0, 2.0, 3.0]]))


WRONG_RULES = {
    "shape": (
        lambda g, node: ndl.summation(g),
        r"Double.gradient returned \(\) float64 .*argument 0.*\(1, 3\) float64",
    ),
    "transposed": (lambda g, node: ndl.transpose(g), r"Double.gradient returned \(3, 1\) .*argument 0.*\(1, 3\)"),
    "dtype": (lambda g, node: g.astype("float32"), r"\(1, 3\) float32 .*argument 0.*\(1, 3\) float64"),
    "count": (lambda g, node: (g, g), "Double.gradient returned 2 gradients for 1 argument"),
    "none at all": (lambda g, node: (), "Double.gradient returned 0 gradients for 1 argument"),
    "an array": (lambda g, node: g.numpy(), "Double.gradient returned .*ndarray.* for argument 0, wanted a Tensor"),
    "a number": (lambda g, node: 2.0, "Double.gradient returned .*float.* for argument 0, wanted a Tensor"),
    "a tuple of tensors": (lambda g, node: ndl.split(g, 0), "Double.gradient returned .*argument 0"),
}


@pytest.mark.parametrize("name", WRONG_RULES)
def test_a_wrong_rule_is_reported_with_op_argument_and_shapes(name):
    rule, words = WRONG_RULES[name]
    with pytest.raises((ValueError, TypeError), match=f"(?s){words}"):
        with_rule(rule).backward()


def test_the_second_argument_is_named_when_its_rule_is_wrong():
    class Product(ndl.TensorOp):
        def compute(self, a, b):
            return a * b

        def gradient(self, out_grad, node):
            a, b = node.inputs
            return out_grad * b, out_grad * a  # not summed over the broadcast axis of b

    y = Product()(ndl.Tensor(np.ones((4, 3))), ndl.Tensor(np.ones(3)))
    with pytest.raises(ValueError, match=r"(?s)Product.gradient returned \(4, 3\).*argument 1.*\(3,\)"):
        y.backward()


def test_a_rule_may_say_none_where_there_is_no_derivative():
    class First(ndl.TensorOp):
        def compute(self, a, b):
            return a + 0 * b

        def gradient(self, out_grad, node):
            return out_grad, None

    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = First()(a, b)
    y.backward()
    assert gradient_of(a) == [1, 1] and b.grad is None
    assert [g.numpy().tolist() for g in y.op.gradient_as_tuple(y, y)] == [[1, 2], [0, 0]]


def test_a_rule_may_return_a_list():
    y = with_rule(lambda g, node: [g * 2])
    y.backward()
    assert isinstance(y.op.gradient_as_tuple(ndl.Tensor([[1.0, 1.0, 1.0]]), y), tuple)


def test_ops_without_compute_or_gradient_say_so():
    class Nothing(ndl.TensorOp):
        pass

    class NoRule(ndl.TensorOp):
        def compute(self, a):
            return a + 1

    with pytest.raises(NotImplementedError, match="Nothing"):
        Nothing()(leaf(1.0))
    with pytest.raises(NotImplementedError, match="NoRule has no gradient"):
        NoRule()(leaf(1.0)).backward()


def test_an_op_takes_tensors_only_and_says_so():
    with pytest.raises(TypeError, match="EWiseAdd: argument 1 .*ndarray.*wanted a Tensor"):
        ndl.add(leaf(1.0), np.ones(1))
    with pytest.raises(TypeError, match="Exp: argument 0 .*float.*wanted a Tensor"):
        ndl.exp(1.0)


def test_an_op_that_never_has_a_slope_is_constant():
    class Rounded(ndl.TensorOp):
        differentiable = False

        def compute(self, a):
            return np.round(a)

    y = Rounded()(leaf(1.4))
    assert not y.requires_grad and y.op is None


# --- integers --------------------------------------------------------------------------------------------------


def test_integer_tensors_take_part_as_the_course_needs():
    x = ndl.Tensor([6])
    (x * x).backward()
    assert x.dtype == "int64" and gradient_of(x) == [12]


def test_a_float_gradient_may_reach_an_integer_leaf():
    x = ndl.Tensor([6])
    (x * 0.5).backward()
    assert gradient_of(x) == [0.5]


# --- tuples ----------------------------------------------------------------------------------------------------


def test_a_tensor_tuple_has_length_index_iteration_and_sum():
    parts = ndl.split(ndl.Tensor([[1.0, 2.0], [3.0, 4.0]]), 0)
    assert isinstance(parts, ndl.TensorTuple) and len(parts) == 2
    assert parts[1].numpy().tolist() == parts[-1].numpy().tolist() == [3, 4]
    assert [p.numpy().tolist() for p in parts] == [[1, 2], [3, 4]]
    assert isinstance(parts.tuple(), tuple)
    assert [p.numpy().tolist() for p in parts + parts] == [[2, 4], [6, 8]]
    assert len(parts.detach()) == 2 and not parts.detach().requires_grad
    assert "TensorTuple" in repr(parts)


def test_an_index_into_make_tuple_gives_the_very_tensor():
    a, b = leaf(1.0), leaf(2.0)
    pair = ndl.make_tuple(a, b)
    assert pair[0] is a and pair[1] is b


def test_gradients_flow_through_stack_and_split():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    first, second = ndl.split(ndl.stack([a, b], axis=1), axis=0)
    (first * 2 + second * 3).sum().backward()
    assert gradient_of(a) == [2, 3] and gradient_of(b) == [2, 3]


def test_an_unused_part_of_a_tuple_gets_zero():
    x = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]])
    ndl.split(x, 0)[1].sum().backward()
    assert gradient_of(x) == [[0, 0], [1, 1]]


def test_parts_of_a_tuple_may_differ_in_shape():
    x, y = ndl.fused_add_scalars(leaf(1.0, 2.0), 10, 20)
    assert (x.numpy().tolist(), y.numpy().tolist()) == ([11, 12], [21, 22])


# --- the contract, fact by fact --------------------------------------------------------------------------------


def test_a_tensor_requires_a_gradient_unless_told_otherwise():
    assert ndl.Tensor([1.0]).requires_grad
    assert not ndl.Tensor([1.0], requires_grad=False).requires_grad
    assert not ndl.zeros(2).requires_grad


def test_an_unknown_keyword_is_a_type_error():
    with pytest.raises(TypeError, match="require_grad"):
        ndl.Tensor([1.0], require_grad=False)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (1.0, "float64"), ([1.0, 2.0], "float64"), (1, "int64"), ([[1, 2]], "int64"), (True, "bool"),
        (np.float32(1), "float32"), (np.ones(2, np.float32), "float32"), (np.ones(2, np.int8), "int8"),
        (np.random.randn(2), "float64"),
    ],
)  # fmt: skip
def test_the_dtype_is_numpys_choice(given, dtype):
    assert ndl.Tensor(given).dtype == dtype


def test_a_dtype_can_be_asked_for_by_name_or_type():
    for dtype in ("float32", np.float32, np.dtype("float32")):
        x = ndl.Tensor([1, 2], dtype=dtype)
        assert x.dtype == "float32" and x.dtype == np.float32 and x.numpy().dtype == np.float32


def test_an_array_is_copied():
    array = np.ones(2)
    x = ndl.Tensor(array)
    array[0] = 5
    assert x.numpy().tolist() == [1, 1]


def test_a_number_becomes_a_writable_array_of_no_axes():
    x = ndl.Tensor(2.0)
    assert isinstance(x.cached_data, np.ndarray) and x.shape == ()
    x.realize_cached_data().flat[0] += 1
    assert (x * 2).item() == 6


def test_a_tensor_of_a_tensor_shares_storage_unless_it_is_converted():
    x = ndl.Tensor([1.0, 2.0])
    assert ndl.Tensor(x).cached_data is x.cached_data
    assert ndl.Tensor(x, dtype="float64", device=ndl.cpu()).cached_data is x.cached_data
    converted = ndl.Tensor(x, dtype="float32")
    assert converted.dtype == "float32" and converted.numpy().tolist() == [1, 2]
    assert ndl.Tensor(converted).dtype == "float32"
    assert ndl.Tensor(x * 2).is_leaf()


def test_numpy_is_a_fresh_copy_and_an_array_even_of_a_full_sum():
    x = ndl.Tensor([1.0, 2.0])
    x.numpy()[0] = 100
    assert x.numpy().tolist() == [1, 2]
    assert isinstance(ndl.summation(x).numpy(), np.ndarray)
    assert ndl.summation(x).numpy().shape == ()


def test_cached_data_is_there_after_every_op_and_live():
    x = ndl.Tensor([1.0, 2.0])
    assert (x * 2).cached_data.tolist() == [2, 4]
    live = x.realize_cached_data()
    assert live.size == 2
    live.flat[1] += 0.5
    assert (x * 2).numpy().tolist() == [2, 5]


def test_shape_dtype_and_device():
    x = ndl.Tensor([[1.0, 2.0]])
    assert type(x.shape) is tuple and x.shape == (1, 2)
    assert isinstance(x.dtype, np.dtype) and x.dtype == "float64"
    assert x.device == ndl.cpu() == ndl.default_device() and str(x.device) == "needle.cpu()"
    assert hash(ndl.cpu()) == hash(ndl.cpu()) and ndl.cpu().enabled()


def test_a_leaf_has_no_op_and_no_inputs():
    x = ndl.Tensor([1.0])
    assert x.op is None and x.is_leaf() and len(x.inputs) == 0
    y = x * 2
    assert not y.is_leaf() and y.inputs[0] is x


def test_equality_is_identity_and_tensors_are_keys():
    x, y = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    assert x == x and x != y and x != None and x != "x"  # noqa: E711
    for other in (1.0, np.float64(1), np.array([1.0])):
        with pytest.raises(TypeError, match=r"==: asks of a Tensor whether.*ndl.eq"):
            assert x == other
        with pytest.raises(TypeError, match="ndl.eq"):
            assert x != other
    assert ndl.Tensor(1.0) != ndl.Tensor(1.0)
    assert {x: "x", y: "y"}[x] == "x"
    assert (x, y) == (x, y) and (x, y) != (y, x)


def test_the_truth_of_one_element_is_its_own_and_of_many_an_error():
    assert ndl.Tensor([1.0]) and not ndl.Tensor(0.0) and not ndl.Tensor([[0]])
    for many in (ndl.Tensor([1.0, 2.0]), ndl.Tensor([])):
        with pytest.raises(ValueError, match="ambiguous"):
            bool(many)


def test_the_data_setter_wants_a_tensor_of_the_same_dtype_and_any_shape():
    bias = ndl.Tensor([[1.0, 2.0]])
    bias.data = ndl.Tensor([5.0, 6.0])
    assert bias.shape == (2,) and bias.requires_grad
    for wrong in (ndl.Tensor([1.0], dtype="float32"), np.ones(2), 1.0):
        with pytest.raises(AssertionError, match="wanted a Tensor of dtype float64"):
            bias.data = wrong


def test_data_is_detached_and_shares_storage():
    x = leaf(1.0, 2.0)
    assert not x.data.requires_grad and x.data.cached_data is x.cached_data
    x.data = x.data - 0.5 * x.data
    assert x.numpy().tolist() == [0.5, 1] and x.requires_grad and x.is_leaf()


def test_the_gradient_has_the_shape_of_the_current_data():
    bias = ndl.Tensor([[1.0, 2.0]])
    bias.data = ndl.Tensor([5.0, 6.0])
    (ndl.Tensor(np.ones((3, 2))) * bias).sum().backward()
    assert bias.grad.shape == (2,)


def test_scalars_may_be_arrays_of_one_element():
    x, s = ndl.Tensor([1.0, 2.0]), np.array([3.0])
    for call, wanted in [
        (ndl.add_scalar, [4, 5]), (ndl.mul_scalar, [3, 6]), (ndl.divide_scalar, [1 / 3, 2 / 3]),
        (ndl.power_scalar, [1, 8]),
    ]:  # fmt: skip
        y = call(x, scalar=s)
        y.backward()
        np.testing.assert_allclose(y.numpy(), wanted)
        assert x.grad.shape == (2,)


def test_rules_can_be_called_directly_and_answer_for_every_input():
    x, y = leaf(1.0, 2.0), const([3.0, 4.0])
    out = x * y
    grads = out.op.gradient_as_tuple(ndl.Tensor([1.0, 1.0]), out)
    assert isinstance(grads, tuple) and [g.numpy().tolist() for g in grads] == [[3, 4], [0, 0]]


def test_make_const():
    array = np.ones(2)
    assert ndl.Tensor.make_const(array).cached_data is array
    assert not ndl.Tensor.make_const(array).requires_grad
    assert ndl.Tensor.make_const(ndl.Tensor(array), requires_grad=True).requires_grad


def test_the_course_names_of_the_reverse_pass():
    x = leaf(2.0)
    compute_gradient_of_variables(x * x, ndl.Tensor([3.0]))
    assert gradient_of(x) == [12]
    assert sum_node_list([x, x, x]).numpy().tolist() == [6]
    assert ndl.autograd.LAZY_MODE is False


def test_the_counter_counts_values(without_gc):
    before = ndl.autograd.TENSOR_COUNTER
    kept = [leaf(1.0) for _ in range(5)]
    kept.append(ndl.make_tuple(*kept[:2]))
    assert isinstance(before, int) and ndl.autograd.TENSOR_COUNTER == before + 6
    kept.clear()
    assert ndl.autograd.TENSOR_COUNTER == before
    assert isinstance(leaf(1.0), Value)
    with pytest.raises(AttributeError, match="no_such_name"):
        ndl.autograd.no_such_name  # noqa: B018


def test_what_cannot_be_a_tensor_is_refused():
    for wrong in ("text", None, object(), [1j], np.array(["a"]), np.array([object()])):
        with pytest.raises(TypeError, match="Tensor: got"):
            ndl.Tensor(wrong)
    with pytest.raises(ValueError, match="regular shape|inhomogeneous"):
        ndl.Tensor([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match=r"ndl\.stack"):
        ndl.Tensor([leaf(1.0), leaf(2.0)])


def test_lists_of_numpy_numbers_become_tensors():
    assert ndl.Tensor([np.float32(1), np.float32(2)]).shape == (2,)
    assert math.isnan(ndl.Tensor([math.nan]).item())
    assert ndl.Tensor([]).shape == (0,)
