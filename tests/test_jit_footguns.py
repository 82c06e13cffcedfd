"""What other compilers get silently wrong, one test each: `ndl.jit` gives eager's numbers, or says why it cannot."""

from __future__ import annotations

import copy
import functools
import gc
import os
import pickle
import random
import sys
import threading
import weakref

import numpy as np
import pytest

import needle as ndl
from needle import backend_ndarray, nn

SCALE = 2.0
TABLE = np.array([1.0, 2.0])


def tensor(*shape, seed=0, requires_grad=False, dtype="float32"):
    return ndl.Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=requires_grad)


def descent(lr=0.1, **options):
    """A parameter, its optimizer, and a jitted step along −x."""
    w = tensor(3, requires_grad=True)
    sgd = ndl.optim.SGD([w], lr=lr)

    @ndl.jit(**options)
    def step(x):
        sgd.reset_grad()
        (w * x).sum().backward()
        sgd.step()

    return w, sgd, step


def same(made, wanted, atol=1e-5):
    np.testing.assert_allclose(np.asarray(made.numpy() if hasattr(made, "numpy") else made), wanted, atol=atol)


# --- what steers Python ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [
        lambda y: y.item(), float, bool, int, lambda y: y.numpy(), np.asarray,
        lambda y: f"{y:.2f}", lambda y: [0][y.astype("int64")],
    ],
    ids=["item", "float", "bool", "int", "numpy", "asarray", "format", "index"],
)  # fmt: skip
def test_a_value_cannot_steer_python(look):
    @ndl.jit
    def step(x):
        look((x * 0).sum())
        return x

    with pytest.raises(ndl.JitError, match=r"asks for a value.*ndl\.where.*test_jit_footguns\.py"):
        step(tensor(3))


def test_after_an_error_everything_is_as_eager_would_leave_it():
    w = tensor(3, requires_grad=True)
    sgd = ndl.optim.SGD([w], lr=0.5)

    @ndl.jit
    def step(x):
        sgd.reset_grad()
        (w * x).sum().backward()
        sgd.step()
        raise KeyError("later")

    before, x = w.numpy(), tensor(3, seed=1)
    with pytest.raises(KeyError):
        step(x)
    same(w, before - 0.5 * x.numpy())
    assert (w + 1).shape == (3,) and (x + 1).shape == (3,)


# --- arguments -------------------------------------------------------------------------------------------------


def test_lists_dicts_and_keywords():
    @ndl.jit
    def step(xs, *, table, flag=True, name="a"):
        return xs[0] * table["k"][0] if flag and name == "a" else xs[1] - table["k"][0]

    a, b, c = tensor(3), tensor(3, seed=1), tensor(3, seed=2)
    for _ in range(2):
        same(step([a, b], table={"k": (c,)}), a.numpy() * c.numpy())
        same(step([b, a], table={"k": (a,)}), b.numpy() * a.numpy())
        same(step([a, b], table={"k": (c,)}, flag=False), b.numpy() - c.numpy())
        same(step([a, b], table={"k": (c,)}, name="b"), b.numpy() - c.numpy())
    assert len(step.history) == 4  # once for each structure, and where two arguments are one tensor


def test_numbers_as_arguments():
    @ndl.jit
    def step(x, factor, power):
        return x * factor**power + factor

    x = tensor(4)
    for factor in (2.0, 3.0, -1.0):
        for power in (2, 3):
            same(step(x, factor, power), x.numpy() * factor**power + factor)
    assert len(step.history) == 2  # once for each whole number; floats are read at each call


def test_a_branch_on_a_float_argument_is_taken_each_time_anew():
    @ndl.jit
    def step(x, threshold):
        return x if threshold > 0.5 else -x

    x = tensor(2)
    for threshold in (0.1, 0.9, 0.2, 0.7):
        same(step(x, threshold), x.numpy() if threshold > 0.5 else -x.numpy())
    assert len(step.history) == 2


def test_results_of_every_kind():
    @ndl.jit
    def step(x, k):
        return {"sum": x.sum(), "pair": (x, [x * 2, None]), "text": "t", "number": k * 2, "whole": 3}

    for k in (1.5, 2.5):
        x = tensor(3, seed=int(k))
        out = step(x, k)
        assert out["pair"][0] is x and out["pair"][1][1] is None
        assert (out["text"], out["number"], out["whole"]) == ("t", k * 2, 3)
        same(out["sum"], x.numpy().sum())


def test_new_shapes_and_dtypes():
    @ndl.jit
    def step(x):
        return (x * 2).sum(0)

    for shape in ((3, 2), (5, 2), (3, 2)):
        for dtype in ("float32", "float64"):
            x = tensor(*shape, dtype=dtype)
            made = step(x)
            assert made.dtype == dtype
            same(made, (x.numpy() * 2).sum(0))
    assert len(step.history) == 4 and "became" in step.explain()


def test_arrays_that_are_not_contiguous_read_only_or_transposed():
    @ndl.jit
    def step(x, w):
        return ndl.relu(x @ w + 1).sum(0) * x[0, 0]

    base = np.arange(48.0).reshape(6, 8) / 10
    w = np.asfortranarray(np.linspace(-1, 1, 8).reshape(4, 2))
    frozen = base[:3, :4].copy()
    frozen.flags.writeable = False
    for x in (base[:3, :4].copy(), base[::2, ::2], base[2::-1, 3::-1], np.asfortranarray(base[:3, :4]), frozen):
        t = ndl.Tensor.make_const(x)
        same(step(t, ndl.Tensor.make_const(w)), np.maximum(x @ w + 1, 0).sum(0) * x[0, 0])


def test_numpy_arrays_as_arguments_are_read_at_each_call():
    @ndl.jit
    def step(x, labels):
        return ndl.softmax_cross_entropy(x, labels)

    x = tensor(5, 3)
    for seed in range(3):
        labels = np.random.default_rng(seed).integers(3, size=5)
        same(step(x, labels), ndl.softmax_cross_entropy(x, labels).numpy())
    assert len(step.history) == 1


def test_labels_out_of_range_raise_at_replay_and_nothing_is_updated():
    w = tensor(4, 3, requires_grad=True)
    sgd = ndl.optim.SGD([w], lr=0.1)

    @ndl.jit
    def step(x, labels):
        sgd.reset_grad()
        loss = ndl.softmax_cross_entropy(x @ w, labels)
        loss.backward()
        sgd.step()
        return loss

    x = tensor(2, 4)
    for _ in range(3):
        step(x, np.array([0, 2]))
    before = w.numpy()
    with pytest.raises(IndexError, match="label 7 is out of range for 3 classes"):
        step(x, np.array([0, 7]))
    np.testing.assert_array_equal(w.numpy(), before)


def test_one_tensor_given_twice_and_one_that_the_function_also_holds():
    w = tensor(3, requires_grad=True)

    @ndl.jit
    def step(a, b):
        (a * b * w).sum().backward()
        return a + b

    def grads(*tensors):
        return [None if t.grad is None else t.grad.numpy() for t in tensors]

    for _ in range(2):
        a, b = tensor(3, seed=1, requires_grad=True), tensor(3, seed=2, requires_grad=True)
        step(a, b)
        u, v, ww = a.numpy(), b.numpy(), w.numpy()
        for got, wanted in zip(grads(a, b, w), [v * ww, u * ww, u * v], strict=True):
            same(got, wanted)
        step(a, a)
        same(a.grad, 2 * a.numpy() * w.numpy())
        step(w, w)
        same(w.grad, 3 * w.numpy() ** 2)


# --- what is captured ------------------------------------------------------------------------------------------


def test_a_captured_array_is_refused():
    @ndl.jit
    def step(x):
        return x * TABLE

    with pytest.raises(ndl.JitError, match="NumPy array of shape"):
        step(ndl.Tensor([1.0, 1.0]))


def test_a_tensor_from_a_host_array_is_refused_and_from_numbers_taken():
    host = np.ones(3)

    @ndl.jit
    def wrong(x):
        return x + ndl.Tensor(host)

    with pytest.raises(ndl.JitError, match="argument, or hold it in a Tensor"):
        wrong(tensor(3))

    @ndl.jit
    def right(x):
        return x + ndl.Tensor([1.0, 2.0, 3.0]) + ndl.zeros(3) + ndl.ones(3)

    for seed in range(2):
        x = tensor(3, seed=seed)
        same(right(x), x.numpy() + [2, 3, 4])


def test_numpys_own_random_numbers_are_refused():
    @ndl.jit
    def step(x):
        return x + np.random.rand(3)

    with pytest.raises(ndl.JitError, match="NumPy array"):
        step(tensor(3))


def test_a_captured_tensor_is_read_at_each_call():
    w = tensor(3)

    @ndl.jit
    def step(x):
        return x * w

    x = tensor(3, seed=1)
    for seed in range(3):
        w.data = tensor(3, seed=seed)
        same(step(x), x.numpy() * w.numpy())
    w.realize_cached_data()[:] = 7  # also by way of the live array
    same(step(x), x.numpy() * 7)
    assert len(step.history) == 1


def test_a_captured_scalar_and_a_global_that_change():
    global SCALE
    factor = 1.0

    @ndl.jit
    def step(x):
        return x * factor + SCALE

    x = tensor(3)
    try:
        for factor in (1.0, 5.0, 1.0):
            for SCALE in (2.0, 3.0):
                same(step(x), x.numpy() * factor + SCALE)
    finally:
        SCALE = 2.0
    assert "SCALE" in step.explain()


def test_a_module_attribute_that_changes():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.options = 2.0, {"shift": 1.0}

        def forward(self, x):
            return x * self.scale + self.options["shift"]

    module = Scaled()
    step = ndl.jit(lambda x: module(x))
    x = tensor(3)
    for scale, shift in ((2.0, 1.0), (3.0, 1.0), (3.0, 4.0), (2.0, 1.0)):
        module.scale, module.options["shift"] = scale, shift
        same(step(x), x.numpy() * scale + shift)


def test_weights_bound_anew():
    layer = nn.Linear(3, 2)
    step = ndl.jit(lambda x: layer(x))
    x = tensor(4, 3)
    for seed in range(3):
        layer.weight = nn.Parameter(tensor(3, 2, seed=seed))
        same(step(x), x.numpy() @ layer.weight.numpy() + layer.bias.numpy())


def test_a_method_as_a_jitted_function():
    class Model(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.w = nn.Parameter(tensor(3, seed=seed))

        @ndl.jit
        def double(self, x):
            return self.w * x * 2

    x = tensor(3, seed=9)
    for model in (Model(0), Model(1)):
        for _ in range(3):
            same(model.double(x), model.w.numpy() * x.numpy() * 2)


# --- state -----------------------------------------------------------------------------------------------------


def test_train_and_eval_and_running_statistics():
    def run(wrap):
        np.random.seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
        step = wrap(lambda x: model(x))
        outputs = []
        for i in range(6):
            model.eval() if i % 3 == 2 else model.train()
            outputs.append(step(tensor(8, 4, seed=i)).numpy())
        return [*outputs, model.modules[1].running_mean.numpy(), model.modules[1].running_var.numpy()]

    for made, wanted in zip(run(ndl.jit), run(lambda f: f), strict=True):
        same(made, wanted)


def test_a_learning_rate_schedule_never_records_again():
    w, sgd, step = descent(lr=1.0)
    schedule = ndl.optim.StepLR(sgd, step_size=1, gamma=0.5)
    x, lr = tensor(3, seed=1), 1.0
    for _ in range(5):
        before = w.numpy()
        step(x)
        same(w, before - lr * x.numpy())
        schedule.step()
        lr *= 0.5
    assert len(step.history) == 1


def test_a_wrong_learning_rate_still_raises():
    w = tensor(3, requires_grad=True)
    sgd = ndl.optim.SGD([w], lr=1.0)

    @ndl.jit
    def step():
        sgd.reset_grad()
        (w * w).sum().backward()
        sgd.step()

    step()
    step()
    sgd.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr must be"):
        step()


def test_gradients_that_accumulate_over_calls():
    def run(wrap):
        w = tensor(3, requires_grad=True)
        sgd = ndl.optim.SGD([w], lr=0.1)

        def step(x, last):
            (w * w * x).sum().backward(accumulate=True)
            if last:
                sgd.step()
                sgd.reset_grad()

        function = wrap(step)
        seen = []
        for i in range(9):
            function(tensor(3, seed=i), i % 3 == 2)
            seen.append(np.zeros(3) if w.grad is None else w.grad.numpy())
            seen.append(w.numpy())
        return seen

    for made, wanted in zip(run(ndl.jit), run(lambda f: f), strict=True):
        same(made, wanted)


def test_gradients_are_kept_on_request_and_else_say_that_they_are_gone():
    x = tensor(3, seed=1)
    w, _, step = descent(keep_grads=True)
    for _ in range(3):
        step(x)
        same(w.grad, x.numpy())
    w, _, step = descent()
    for _ in range(3):
        step(x)
        with pytest.raises(ndl.JitError, match="keep_grads=True"):
            w.grad.numpy()
    w.grad = None
    (w * 2).sum().backward()  # eager goes on
    same(w.grad, np.full(3, 2))


def test_random_masks_differ_from_step_to_step_and_obey_the_seed():
    drop = nn.Dropout(0.5)
    step = ndl.jit(lambda x: drop(x))
    x = ndl.ones(200)
    ndl.manual_seed(1)
    first = [step(x).numpy() for _ in range(3)]
    ndl.manual_seed(1)
    again = [step(x).numpy() for _ in range(3)]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[1], first[2])
    ndl.manual_seed(1)
    np.testing.assert_array_equal(first, [drop(x).numpy() for _ in range(3)])


def test_random_masks_of_a_generator():
    def run(wrap):
        drop = nn.Dropout(0.5, generator=ndl.init.Generator(3))
        step = wrap(lambda x: drop(x))
        return [step(ndl.ones(50)).numpy() for _ in range(4)]

    np.testing.assert_array_equal(run(ndl.jit), run(lambda f: f))


def test_seeding_inside_is_refused():
    @ndl.jit
    def step(x):
        ndl.manual_seed(0)
        return x

    with pytest.raises(ndl.JitError, match="seed it outside"):
        step(tensor(2))


def test_python_state_that_a_replay_would_not_change_is_refused():
    seen = []

    @ndl.jit
    def step(x):
        seen.append(1)
        return x

    with pytest.raises(ndl.JitError, match="seen"):
        step(tensor(2))

    @ndl.jit
    def fills(xs):
        xs.append(1)

    with pytest.raises(ndl.JitError, match="arguments"):
        fills([tensor(2)])


def test_two_functions_share_parameters():
    w, _, train = descent()
    predict = ndl.jit(lambda x: w * x)
    x = tensor(3, seed=1)
    for _ in range(4):
        before = w.numpy()
        train(x)
        same(w, before - 0.1 * x.numpy())
        same(predict(x), w.numpy() * x.numpy())


# --- arrays that are handed out --------------------------------------------------------------------------------


def test_results_of_earlier_calls_stay_as_they_are():
    @ndl.jit
    def step(x):
        y = x * 2
        return y, y.reshape(-1), y.T, x

    inputs = [tensor(2, 3, seed=i) for i in range(4)]
    outputs = [step(x) for x in inputs]
    for x, (y, flat, turned, itself) in zip(inputs, outputs, strict=True):
        same(y, x.numpy() * 2)
        same(flat, (x.numpy() * 2).reshape(-1))
        same(turned, (x.numpy() * 2).T)
        assert itself is x


def test_a_result_is_not_an_input_under_another_name():
    step = ndl.jit(lambda x: (x.reshape(-1), x + 0, ndl.clip(x, -9, 9)))
    x = ndl.Tensor(np.arange(4.0).reshape(2, 2))
    for _ in range(3):
        outputs = step(x)
        for y in outputs:
            y.realize_cached_data()[...] = 99
        np.testing.assert_array_equal(x.numpy(), [[0, 1], [2, 3]])


def test_an_input_written_to_after_the_call():
    w = tensor(3)
    step = ndl.jit(lambda x: x * w)
    host = np.ones(3, "float32")
    x = ndl.Tensor.make_const(host)
    results = []
    for i in range(3):
        host[:] = i
        results.append(step(x))
    for i, y in enumerate(results):
        same(y, i * w.numpy())


def test_snapshots_of_a_parameter_keep_their_values():
    w, _, step = descent()
    x = tensor(3, seed=1)
    kept, wanted = [], []
    for _ in range(4):
        kept.append(w.detach())
        wanted.append(w.numpy())
        step(x)
    for snapshot, value in zip(kept, wanted, strict=True):
        np.testing.assert_array_equal(snapshot.numpy(), value)


def test_a_result_says_that_it_has_no_gradient():
    w = tensor(3, requires_grad=True)
    step = ndl.jit(lambda x: (w * x).sum())
    for _ in range(2):
        with pytest.raises(ndl.JitError, match="inside the function"):
            step(tensor(3)).backward()


# --- calls within calls, threads, processes --------------------------------------------------------------------


def test_a_jitted_function_inside_another_and_in_itself():
    @ndl.jit
    def inner(x, n):
        return x * 2 if n == 0 else inner(x, n - 1) + 1

    outer = ndl.jit(lambda x: inner(x, 3) * 10)
    for seed in range(3):
        x = tensor(3, seed=seed)
        same(outer(x), (x.numpy() * 2 + 3) * 10)
        same(inner(x, 2), x.numpy() * 2 + 2)


def test_threads_that_call_at_once():
    w = tensor(50, 50, seed=3)
    step = ndl.jit(lambda x: ndl.tanh(x @ w).sum(0))
    failures = []

    def work(seed):
        for i in range(20):
            x = tensor(8 + seed % 2, 50, seed=100 * seed + i)
            try:
                same(step(x), np.tanh(x.numpy() @ w.numpy()).sum(0), atol=1e-4)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures, failures[0]


def test_eager_work_in_another_thread_is_not_recorded():
    started, go = threading.Event(), threading.Event()
    results = []

    def other():
        started.wait(10)
        results.append((ndl.Tensor([1.0, 2.0]) * 3).numpy())
        go.set()

    thread = threading.Thread(target=other)
    thread.start()

    @ndl.jit
    def step(x):
        started.set()
        go.wait(10)
        return x * 2

    step(tensor(2))
    thread.join()
    np.testing.assert_array_equal(results, [[3.0, 6.0]])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")
def test_a_forked_child_goes_on():
    w = tensor(20, 20, seed=3)
    step = ndl.jit(lambda x: ndl.tanh(x @ w))
    x = tensor(5, 20)
    wanted = [step(x).numpy() for _ in range(3)][-1]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.allclose(step(x).numpy(), wanted, atol=1e-6) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- what it holds on to ---------------------------------------------------------------------------------------


def test_a_dropped_step_lets_its_model_go():
    layer = nn.Linear(3, 2)
    gone = weakref.ref(layer)
    step = ndl.jit(lambda x, layer=layer: layer(x))
    for _ in range(3):
        step(tensor(4, 3))
    del layer, step
    gc.collect()
    assert gone() is None


def test_steps_do_not_pile_up_memory():
    w = tensor(30, 30, requires_grad=True)
    sgd = ndl.optim.SGD([w], lr=0.1)

    @ndl.jit
    def step(x):
        sgd.reset_grad()
        ndl.tanh(x @ w).sum().backward()
        sgd.step()

    x = tensor(5, 30)
    for _ in range(5):
        step(x)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects()), sys.getallocatedblocks()
        for _ in range(200):
            step(x)
        after = len(gc.get_objects()), sys.getallocatedblocks()
    finally:
        gc.enable()
    assert after[0] - before[0] < 20 and after[1] - before[1] < 200


def test_bad_use():
    with pytest.raises(ValueError, match="backend must be"):
        ndl.jit(lambda x: x, backend="cuda")
    with pytest.raises(TypeError, match="wanted a function, got a int"):
        ndl.jit(3)
    with pytest.raises(ndl.JitError, match="nothing was recorded"):
        _ = ndl.jit(lambda x: x).source


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_refusal_leaves_everything_as_it_was():
    w = tensor(3, requires_grad=True)
    adam = ndl.optim.Adam([w], lr=0.1)
    losses, x = [], tensor(3, seed=1)

    @ndl.jit
    def step(x):
        adam.reset_grad()
        loss = (w * x + ndl.randn(3)).sum()
        loss.backward()
        adam.step()
        losses.append(loss)
        return loss

    np.random.seed(3)
    before = w.numpy()
    for _ in range(2):
        with pytest.raises(ndl.JitError, match="losses"):
            step(x)
        np.testing.assert_array_equal(w.numpy(), before)
        assert w.grad is None and not adam.state and float(losses[0]) == float(losses[0])
    drawn = np.random.rand()
    np.random.seed(3)
    assert drawn == np.random.rand()
    (w * x).sum().backward()  # and eager goes on
    adam.step()
    np.testing.assert_allclose(w.numpy(), before - 0.1 * np.sign(x.numpy()), atol=1e-5)


def test_a_tensor_that_cannot_be_lent_leaves_the_others_alone():
    x, y = tensor(3), tensor(3, seed=1)
    other = ndl.Tensor([1.0], device=backend_ndarray.cpu())

    @ndl.jit
    def step(x, y, other):
        return x + y

    with pytest.raises(ndl.JitError):
        step(x, y, other)
    same(x + y, x.numpy() + y.numpy())


def test_a_refusal_that_is_caught_still_counts():
    @ndl.jit
    def step(x):
        try:
            return x * float(x.sum())
        except Exception:
            return x

    with pytest.raises(ndl.JitError, match="asks for a value"):
        step(tensor(3))


@pytest.mark.parametrize(
    "draw",
    [np.random.rand, np.random.normal, lambda: np.random.randint(10), random.random, lambda: random.choice([1, 2])],
    ids=["rand", "normal", "randint", "random", "choice"],
)
def test_random_numbers_of_others_are_refused(draw):
    step = ndl.jit(lambda x: x * draw())
    with pytest.raises(ndl.JitError, match="numbers"):
        step(tensor(3))


def test_random_numbers_of_another_thread_are_none_of_its_business():
    @ndl.jit
    def step(x):
        thread = threading.Thread(target=np.random.seed, args=(0,))
        thread.start()
        thread.join()
        return x * 2

    x = tensor(2)
    same(step(x), 2 * x.numpy())


def test_numbers_out_of_a_captured_array():
    factors = np.array([2.0, 3.0])
    step = ndl.jit(lambda x: x * factors[0])
    x = tensor(3)
    for factor in (2.0, 5.0, 7.0):
        factors[0] = factor
        same(step(x), x.numpy() * factor)


def test_an_argument_that_is_written_to():
    @ndl.jit
    def step(m, x):
        m *= 0.5
        m += x
        return ndl.Tensor([1.0])

    with pytest.raises(ndl.JitError, match="writes into argument 0"):
        step(np.zeros(3), np.ones(3))


def test_memory_mapped_arguments(tmp_path):
    mapped = np.memmap(tmp_path / "x", dtype="float32", mode="w+", shape=(4,))
    step = ndl.jit(lambda x: ndl.Tensor([1.0, 1.0, 1.0, 1.0], dtype="float32") * x)
    for i in range(3):
        mapped[:] = i
        same(step(mapped), np.full(4, i))
    assert len(step.history) == 1


def test_a_numpy_argument_on_the_left_of_a_tensor():
    w = tensor(3, 2)
    step = ndl.jit(lambda a: a @ w + a[0, 0])
    for seed in range(3):
        a = np.random.default_rng(seed).standard_normal((4, 3)).astype("float32")
        same(step(a), a @ w.numpy() + a[0, 0])


def test_what_cannot_be_given_again():
    with pytest.raises(ndl.JitError, match="returns a ndarray"):
        ndl.jit(lambda x: (x, np.zeros(3)))(tensor(3))
    with pytest.raises(ndl.JitError, match="returned a generator"):
        ndl.jit(lambda x: (x for _ in range(3)))(tensor(3))
    with pytest.raises(TypeError, match="async or yields"):

        @ndl.jit
        def step(x):
            yield x


# --- gradients across the border -------------------------------------------------------------------------------


def test_arguments_that_collect_gradients():
    step = ndl.jit(lambda x: (x * x).sum().backward(accumulate=True))
    x = tensor(3, requires_grad=True)
    for i in range(4):
        step(x)
        same(x.grad, 2 * x.numpy() * (i + 1))
    assert len(step.history) == 2
    fresh = ndl.jit(lambda x: (x * x).sum().backward())
    for seed in range(5):
        y = tensor(3, seed=seed, requires_grad=True)
        fresh(y)
        same(y.grad, 2 * y.numpy())
    assert len(fresh.history) == 1


def test_a_hook_on_an_argument():
    step = ndl.jit(lambda x: (x * 2).sum().backward())
    x = tensor(3, requires_grad=True)
    for _ in range(2):
        step(x)
    x.register_hook(lambda g: g * 10)
    step(x)
    same(x.grad, np.full(3, 20))


def test_python_that_looks_whether_there_is_a_gradient():
    def run(wrap):
        w = tensor(3, requires_grad=True)

        def step(x):
            old = w.grad
            (w * x).sum().backward()
            if old is not None:
                w.grad = old + w.grad

        function = wrap(step)
        seen = []
        for i in range(4):
            function(tensor(3, seed=i))
            seen.append(w.grad.numpy())
        return seen

    for made, wanted in zip(run(ndl.jit), run(lambda f: f), strict=True):
        same(made, wanted)


def test_no_gradient_is_silently_zero():
    w = tensor(3, requires_grad=True)
    step = ndl.jit(lambda x: (w * x).sum())
    x = tensor(3, seed=1)
    for _ in range(3):
        with pytest.raises(ndl.JitError, match="inside the function"):
            (step(x) + (w * w).sum()).backward()
        with pytest.raises(ndl.JitError, match="inside the function"):
            ndl.grad(step)(tensor(3, seed=2))
    inside = ndl.jit(lambda x: ndl.grad(lambda x: (x * x * w).sum())(x))
    for _ in range(2):
        same(inside(x), 2 * x.numpy() * w.numpy())


def test_backward_into_a_graph_from_outside_is_refused():
    w, x = tensor(3, requires_grad=True), tensor(3, seed=1)
    step = ndl.jit(lambda y: (y * y).sum().backward())
    y = w * x
    with pytest.raises(ndl.JitError, match="computed outside"):
        step(y)
    y.sum().backward()  # its graph is whole
    same(w.grad, x.numpy())


# --- numbers ---------------------------------------------------------------------------------------------------


def test_what_python_does_with_a_float_argument():
    def step(x, a):
        y = x * abs(a) + round(a, 1) + a // 2 + a % 2 + +a + min(a, float("inf")) + np.sqrt(abs(a))
        return y if a == 0.0 or 1 / a < 100 else -y

    jitted, x = ndl.jit(step), tensor(3)
    for a in (1.25, -2.5, 0.0, 0.001, 1.25):
        same(jitted(x, a), step(x, a).numpy())
        same(jitted(x, np.float64(a)), step(x, a).numpy())


def test_in_place_where_views_are_gone():
    def step(x):
        y = x * 2
        y[0] = y[0] + 1
        y += x
        return y

    jitted = ndl.jit(step)
    for seed in range(3):
        x = tensor(3, seed=seed)
        same(jitted(x), step(x).numpy())


def test_functions_without_a_name():
    x = tensor(3)
    for function in (functools.partial(lambda k, x: x * k, 2.0), nn.ReLU(), ndl.exp):
        step = ndl.jit(function)
        for _ in range(2):
            same(step(x), function(x).numpy())
        assert step.explain() and repr(step)


def test_copies_and_pickles_begin_anew():
    step = ndl.jit(ndl.exp)
    x = tensor(3)
    step(x)
    for other in (copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        assert not other.history
        same(other(x), np.exp(x.numpy()))


def test_two_functions_recorded_in_two_threads_share_a_parameter():
    w = tensor(4, 4, requires_grad=True)
    failures = []

    def work(seed):
        try:
            for i in range(15):
                step = ndl.jit(lambda x: ndl.tanh(x @ w).sum(0))
                x = tensor(3, 4, seed=seed * 100 + i)
                for _ in range(2):
                    same(step(x), np.tanh(x.numpy() @ w.numpy()).sum(0))
                same(ndl.tanh(x @ w), np.tanh(x.numpy() @ w.numpy()))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures, failures[0]


# --- looking at it ---------------------------------------------------------------------------------------------


def trained(**options):
    w = tensor(6, 3, requires_grad=True)
    sgd = ndl.optim.SGD([w], lr=0.1)
    drop = nn.Dropout(0.5)

    @ndl.jit(**options)
    def step(x, labels):
        sgd.reset_grad()
        loss = ndl.softmax_cross_entropy(drop(x) @ w, labels)
        loss.backward()
        sgd.step()
        return loss

    inputs = tensor(8, 6), np.arange(8) % 3
    np.random.seed(0)
    return step, inputs, w, [step(*inputs).numpy() for _ in range(4)]


def test_debug_runs_eager_too_and_finds_a_difference(monkeypatch):
    _, _, w, losses = trained()
    step, inputs, v, debugged = trained(debug=True)
    np.testing.assert_allclose(losses, debugged, atol=1e-6)
    same(v, w.numpy())
    variant = step.kept[0].variant
    monkeypatch.setattr(variant.program, "step", lambda *args, run=variant.program.step: [x * 1.01 for x in run(*args)])
    with pytest.raises(ndl.JitError, match="differs from eager's"):
        step(*inputs)


def test_what_it_shows():
    step, inputs, w, _ = trained(backend="numpy")
    assert "matmul" in step.graph() and "test_jit_footguns.py" in step.graph()
    assert "recorded" in step.passes() and "simplified" in step.passes()
    assert "first call" in step.explain()
    before = w.numpy()
    assert "test_jit_footguns.py" in str(step.profile(*inputs, seconds=0.01))
    np.testing.assert_array_equal(w.numpy(), before)
    with pytest.raises(ndl.JitError, match="argument 0.*call the function with them first"):
        step.profile(tensor(2, 6), np.array([0, 1]))


def test_the_source_runs_under_numpy_alone():
    step, (x, labels), w, _ = trained()
    variant = step.kept[0].variant
    program = variant.compiled()
    module = dict(program.emitted.given)
    exec(step.source, module)
    arrays = variant.plumbing.inputs([x, labels])
    np.random.seed(1)
    plain = module["step"](arrays, module["allocate"](), program.draw, False)
    np.random.seed(1)
    for mine, its in zip(plain, program(arrays), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)


def test_models_among_the_arguments_are_let_go():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(tensor(3))

        @ndl.jit
        def double(self, x):
            return self.w * x * 2

    gone = []
    step = ndl.jit(lambda model, x: model.w * x)
    for _ in range(3):
        model = Model()
        for _ in range(2):
            model.double(tensor(3))
            step(model, tensor(3))
        gone += [weakref.ref(model), weakref.ref(model.w)]
    del model
    gc.collect()
    assert not [ref for ref in gone if ref() is not None]
    assert "0 kept" in step.explain() and "0 recording(s)" in repr(step)
    with pytest.raises(ndl.JitError, match="nothing was recorded that lasts"):
        step.graph()
    same(step(Model(), tensor(3)), tensor(3).numpy() ** 2)
