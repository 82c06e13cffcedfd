"""Derivatives as functions of functions: checkpoint, arguments, errors; modes of recording."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

import needle as ndl


def leaf(*numbers: float) -> ndl.Tensor:
    return ndl.Tensor(list(numbers), dtype="float64")


def numbers(tensor: ndl.Tensor | None) -> list | None:
    return None if tensor is None else tensor.numpy().tolist()


# --- checkpoint ------------------------------------------------------------------------------------------------


def counted(calls, factor=10.0):
    return lambda g: calls.append(numbers(g)) or g * factor


def test_checkpoint_runs_the_hook_of_a_closed_over_tensor_once_with_its_complete_gradient():
    w, calls = leaf(2.0), []
    w.register_hook(counted(calls))
    (ndl.checkpoint(lambda a: a * w + w, leaf(1.0)) + 5 * w).backward()
    assert (calls, numbers(w.grad)) == ([[7]], [70])


def test_checkpoint_runs_the_hook_of_a_closed_over_intermediate_once():
    w, calls = leaf(3.0), []
    h = w * 2
    h.register_hook(counted(calls))
    ndl.checkpoint(lambda a: a * h, leaf(1.0)).backward()
    assert (calls, numbers(w.grad)) == ([[1]], [20])


@pytest.mark.parametrize(
    "f", [lambda a, w: w, lambda a, w: ndl.checkpoint(lambda b: b * w, a)], ids=["itself", "nested"]
)
def test_checkpoint_whose_result_is_or_hides_a_tensor_with_a_hook(f):
    w, calls = leaf(2.0), []
    w.register_hook(counted(calls))
    ndl.checkpoint(lambda a: f(a, w), leaf(1.0)).backward()
    assert (calls, numbers(w.grad)) == ([[1]], [10])


def test_checkpoint_runs_hooks_registered_inside_once():
    x, calls = leaf(2.0), []

    def f(a):
        a.register_hook(counted(calls, 2.0))
        h = a * a
        h.register_hook(counted(calls))
        return h * 3

    ndl.checkpoint(f, x).backward()
    assert (calls, numbers(x.grad)) == ([[3], [120]], [240])


@pytest.mark.parametrize("hooked", [False, True])
def test_checkpoint_has_second_derivatives_by_what_it_closes_over(hooked):
    w, x = leaf(4.0), leaf(5.0)
    if hooked:
        w.register_hook(lambda g: None)
    ndl.checkpoint(lambda a: a * w * w * w, x).backward(create_graph=True)
    w.grad.sum().backward()
    assert (numbers(w.grad), numbers(x.grad)) == ([120], [48])


def test_checkpoint_with_a_hook_behind_a_backward_inside_says_so():
    w = leaf(2.0)
    w.register_hook(lambda g: g * 10)

    def f(a):
        b = a.detach().requires_grad_()
        (b * w).backward()
        return b.grad * a

    with pytest.raises(RuntimeError, match="checkpoint: f calls backward on a tensor that has a hook; use grad"):
        ndl.checkpoint(f, leaf(1.0)).backward()


def test_checkpoint_without_arguments():
    w = leaf(3.0, 4.0)
    ndl.checkpoint(lambda: (w * w).sum()).backward()
    assert numbers(w.grad) == [6, 8]


def test_checkpoint_of_a_function_that_makes_its_parameter_in_its_first_call():
    kept = []

    def f(a):
        if not kept:
            kept.append(leaf(3.0))
        return a * kept[0]

    ndl.checkpoint(f, leaf(2.0)).backward()
    assert numbers(kept[0].grad) == [2]


def test_checkpoint_keeps_no_constant_that_it_makes_anew():
    x = leaf(2.0)
    y = ndl.checkpoint(lambda a: a * leaf(3.0) * leaf(4.0), x)
    assert len(y.inputs) == 1
    y.backward()
    assert numbers(x.grad) == [12]


def test_checkpoint_of_a_function_that_uses_another_tensor_the_second_time():
    tensors = [leaf(2.0), leaf(3.0)]
    left = list(tensors)
    y = ndl.checkpoint(lambda a: a * left.pop(), leaf(1.0))
    with pytest.raises(RuntimeError, match=r"checkpoint: called again .* used a tensor \(\(1,\) float64\) that"):
        y.backward()


def test_checkpoint_that_raises_when_called_again_leaves_the_random_numbers_alone():
    calls = []

    def f(a):
        calls.append(1)
        noise = ndl.init.rand(1)
        if len(calls) > 1:
            raise KeyError("second call")
        return a * noise

    y = ndl.checkpoint(f, leaf(1.0))
    ndl.init.rand(5)
    now = ndl.cpu().random_state()
    with pytest.raises(KeyError):
        y.backward()
    np.testing.assert_equal(ndl.cpu().random_state(), now)


# --- arguments -------------------------------------------------------------------------------------------------


def product(a, b, *rest):
    return (a * b * b * b).sum()


def test_negative_argnums_count_from_the_last_argument():
    a, b = leaf(1.0), leaf(2.0)
    for i in (-1, 1):
        assert numbers(ndl.hessian(product, i)(a, b)) == [[12]]
        assert numbers(ndl.jacobian(lambda a, b: a * b * b, i)(a, b)) == [[4]]
        assert numbers(ndl.grad(product, i)(a, b)) == [12]
    assert numbers(ndl.hessian(lambda a, b: product(a, b), -2)(a, b)) == [[0]]
    assert [numbers(g) for g in ndl.grad(product, (-1, 0))(a, b)] == [[12], [8]]


@pytest.mark.parametrize("kind", [OrderedDict, dict, lambda pairs: defaultdict(list, pairs)])
def test_gradients_have_the_type_of_their_container(kind):
    tree = kind([("b", leaf(2.0)), ("a", leaf(3.0))])
    found = ndl.grad(lambda t: (t["a"] * t["b"] * t["b"]).sum())(tree)
    assert type(found) is type(tree) and list(found) == ["b", "a"]
    assert (numbers(found["b"]), numbers(found["a"]), numbers(tree["a"])) == ([12], [4], [3])


def test_jvp_takes_structures():
    point, direction = [{"a": leaf(2.0), "b": leaf(3.0)}], [{"a": leaf(1.0), "b": leaf(0.5)}]
    value, change = ndl.jvp(lambda t: t["a"] * t["b"], point, direction)
    assert (numbers(value), numbers(change)) == ([6], [4])


def test_directions_may_be_lists_of_numbers():
    x = np.array([1.0, 2.0])
    assert numbers(ndl.vjp(lambda x: x * x, x)[1]([1.0, 10.0])[0]) == [2, 40]
    assert numbers(ndl.hvp(lambda x: (x * x * x).sum(), x, [1, 10])) == [6, 120]


def aux_missing(x):
    return x.sum()


X = np.array([2.0])
COMPLAINTS = {
    "jvp without lists": (lambda: ndl.jvp(ndl.exp, leaf(1.0), leaf(1.0)), TypeError,
                          "jvp: primals must be a list or tuple, one entry an argument, got Tensor"),
    "jvp without a list of tangents": (lambda: ndl.jvp(ndl.exp, [X], X), TypeError,
                                       "jvp: tangents must be a list or tuple, one entry an argument, got ndarray"),
    "jvp with too few tangents": (lambda: ndl.jvp(ndl.add, [X, X], [X]), ValueError,
                                  "jvp: got 1 tangents for 2 primals, wanted one each"),
    "argnums too large": (lambda: ndl.grad(aux_missing, 5)(X), ValueError,
                          "grad: argnums names argument 5, but the function was given 1 arguments"),
    "argnums too small": (lambda: ndl.hessian(aux_missing, -2)(X), ValueError, "hessian: argnums names argument -2"),
    "argnums of jacobian too large": (lambda: ndl.jacobian(ndl.exp, 1)(X), ValueError,
                                      "jacobian: argnums names argument 1"),
    "argnums twice": (lambda: ndl.grad(product, (0, 0))(X, X), ValueError,
                      r"grad: argnums \(0, 0\) names an argument twice"),
    "argnums twice by sign": (lambda: ndl.value_and_grad(product, (1, -1))(X, X), ValueError,
                              r"value_and_grad: argnums \(1, -1\) names an argument twice"),
    "argnums no integer": (lambda: ndl.grad(product, "x")(X, X), TypeError,
                           "grad: argnums must be an integer or several, got 'x'"),
    "argnums several for jacobian": (lambda: ndl.jacobian(product, (0, 1))(X, X), TypeError,
                                     "jacobian: argnums must be one"),
    "aux missing": (lambda: ndl.grad(aux_missing, has_aux=True)(X), TypeError,
                    r"grad: with has_aux the function must return a pair \(value, aux\), got Tensor"),
    "aux of three": (lambda: ndl.value_and_grad(lambda x: (x, 1, 2), has_aux=True)(X), TypeError,
                     r"value_and_grad: with has_aux .* got 3 values"),
    "jacobian of a dict": (lambda: ndl.jacobian(lambda t: t["a"])({"a": X}), TypeError,
                           "jacobian: argument 0 must be one Tensor, array or number, got a dict"),
    "hessian of a vector": (lambda: ndl.hessian(ndl.exp)(np.ones(3)), ValueError,
                            r"hessian: the function must return one number, got \(3,\)"),
    "custom_gradient with an array": (lambda: ndl.custom_gradient(lambda x: (x.numpy(), lambda g: g))(X), TypeError,
                                      "custom_gradient: the function must return a Tensor, got ndarray"),
    "hvp with a wrong shape": (lambda: ndl.hvp(aux_missing, X, np.ones(3)), ValueError,
                               r"hvp: v has shape \(3,\), wanted \(1,\), the shape of x"),
    "hvp with nothing": (lambda: ndl.hvp(aux_missing, X, None), TypeError, "hvp: v is a NoneType, wanted a"),
    "hvp with a list": (lambda: ndl.hvp(aux_missing, X, [X]), ValueError, r"hvp: v has shape \(1, 1\)"),
    "hvp at a dict": (lambda: ndl.hvp(lambda t: t["a"].sum(), {"a": X}, X), TypeError, "hvp: x must be one Tensor"),
    "vjp with a wrong shape": (lambda: ndl.vjp(ndl.exp, X)[1](np.ones(3)), ValueError,
                               r"vjp: v has shape \(3,\), wanted \(1,\), the shape of the function's result"),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPLAINTS)
def test_what_cannot_be_meant_is_told_by_the_transform(case):
    call, kind, message = COMPLAINTS[case]
    with pytest.raises(kind, match=message):
        call()


# --- modes -----------------------------------------------------------------------------------------------------


@ndl.no_grad()
def steps(x):
    """doc"""
    try:
        got = yield (x * 2).requires_grad
        yield got, (x * 2).requires_grad
    except KeyError:
        yield "thrown", (x * 2).requires_grad
    return "end"


def test_no_grad_holds_in_each_step_of_a_generator_and_not_between():
    x = leaf(1.0)
    generator = steps(x)
    assert (inspect.isgeneratorfunction(steps), steps.__doc__) == (True, "doc")
    assert next(generator) is False and ndl.is_grad_enabled()
    assert generator.send("sent") == ("sent", False) and ndl.is_grad_enabled()
    assert generator.throw(KeyError()) == ("thrown", False) and ndl.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "end" and ndl.is_grad_enabled()


def test_no_grad_holds_while_a_generator_is_closed():
    seen = []

    @ndl.no_grad()
    def waits():
        try:
            yield
        finally:
            seen.append(ndl.is_grad_enabled())

    generator = waits()
    next(generator)
    generator.close()
    assert seen == [False] and ndl.is_grad_enabled()


def test_no_grad_refuses_async_functions():
    async def later():
        pass

    async def many():
        yield

    for function in (later, many):
        with pytest.raises(TypeError, match=rf"no_grad, enable_grad: .*{function.__name__} is async"):
            ndl.no_grad()(function)


def test_one_no_grad_object_in_two_threads_keeps_their_states_apart():
    shared, entered, leave, seen = ndl.no_grad(), threading.Event(), threading.Event(), []

    def other():
        with ndl.no_grad():
            with shared:
                entered.set()
                leave.wait(10)
            seen.append(ndl.is_grad_enabled())  # False: the outer no_grad still holds

    thread = threading.Thread(target=other)
    with shared:
        thread.start()
        entered.wait(10)
    seen.append(ndl.is_grad_enabled())
    leave.set()
    thread.join()
    assert seen == [True, False]
