"""Shapes that nobody thought of, made up by Hypothesis: broadcasting pairs, axes, slices, products, chains of views.

Values are held against NumPy; a gradient of what only moves, repeats or adds elements against counting where each went.
"""

import numpy as np
import pytest

import needle as ndl

pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
pairs = hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=4, max_dims=4)
triples = hnp.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=3, max_dims=3)


def numbers(shape, salt=0):
    return np.random.default_rng([salt, *shape]).uniform(0.5, 2, shape)


def places(shape):
    """Each element's own number, 0, 1, 2, …, in its place."""
    return np.arange(np.prod(shape, dtype=int)).reshape(shape)


def sent_back(out_grad, origin, shape):
    """`out_grad` added up where `origin` says that its elements came from."""
    total = np.zeros(int(np.prod(shape)))
    np.add.at(total, np.ravel(origin), np.ravel(out_grad))
    return total.reshape(shape)


def pulled(y, *inputs):
    """A random out_grad for y, and the gradient it gives each input."""
    g = numbers(y.shape, salt=7)
    y.backward(ndl.Tensor(g))
    return g, *[x.grad.numpy() for x in inputs]


# --- broadcasting ----------------------------------------------------------------------------------------------


@quick
@given(pairs)
def test_broadcasting_pairs_are_summed_back(both):
    a, b = (ndl.Tensor(numbers(shape, i)) for i, shape in enumerate(both.input_shapes))
    y = a * 2 + b
    assert y.shape == both.result_shape
    np.testing.assert_array_equal(y.numpy(), a.numpy() * 2 + b.numpy())
    g, grad_a, grad_b = pulled(y, a, b)
    for x, grad, factor in ((a, grad_a, 2), (b, grad_b, 1)):
        wanted = sent_back(factor * g, np.broadcast_to(places(x.shape), y.shape), x.shape)
        np.testing.assert_allclose(grad, wanted, rtol=1e-12, strict=True)


SLOPES = {  # d/da, d/db
    ndl.multiply: (lambda a, b: b, lambda a, b: a),
    ndl.divide: (lambda a, b: 1 / b, lambda a, b: -a / b**2),
    ndl.power: (lambda a, b: b * a ** (b - 1), lambda a, b: a**b * np.log(a)),
}


@pytest.mark.parametrize("op", SLOPES, ids=lambda op: op.__name__)
@quick
@given(pairs)
def test_products_of_broadcasting_pairs(op, both):
    a, b = (ndl.Tensor(numbers(shape, i)) for i, shape in enumerate(both.input_shapes))
    g, *grads = pulled(op(a, b), a, b)
    for x, grad, slope in zip((a, b), grads, SLOPES[op], strict=True):
        spread = np.broadcast_to(slope(a.numpy(), b.numpy()) * g, g.shape)
        wanted = sent_back(spread, np.broadcast_to(places(x.shape), g.shape), x.shape)
        np.testing.assert_allclose(grad, wanted, rtol=1e-11, atol=1e-13, strict=True)


@quick
@given(triples)
def test_where_of_broadcasting_triples(three):
    shapes_of = three.input_shapes
    mask = numbers(shapes_of[0]) > 1.2
    a, b = (ndl.Tensor(numbers(shape, i)) for i, shape in enumerate(shapes_of[1:]))
    y = ndl.where(mask, a, b)
    np.testing.assert_array_equal(y.numpy(), np.where(mask, a.numpy(), b.numpy()), strict=True)
    g, grad_a, grad_b = pulled(y, a, b)
    for x, grad, chosen in ((a, grad_a, mask), (b, grad_b, ~mask)):
        wanted = sent_back(g * chosen, np.broadcast_to(places(x.shape), y.shape), x.shape)
        np.testing.assert_allclose(grad, wanted, rtol=1e-12, atol=1e-14, strict=True)


@quick
@given(shapes, shapes)
def test_pairs_that_do_not_broadcast_raise(first, second):
    try:
        np.broadcast_shapes(first, second)
    except ValueError:
        with pytest.raises(ValueError, match=r"EWiseAdd: operands could not be broadcast.*\n  got "):
            ndl.Tensor(np.ones(first)) + ndl.Tensor(np.ones(second))


# --- axes ------------------------------------------------------------------------------------------------------

REDUCTIONS = {"summation": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod}


@st.composite
def shape_and_axes(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    axes = draw(st.none() | st.integers(-len(shape), len(shape) - 1) | hnp.valid_tuple_axes(len(shape)))
    return shape, axes


@pytest.mark.parametrize("name", REDUCTIONS)
@quick
@given(shape_and_axes(), st.booleans())
def test_reductions_over_any_axes(name, case, keepdims):
    shape, axes = case
    x = ndl.Tensor(numbers(shape))
    y = getattr(ndl, name)(x, axes, keepdims)
    wanted = np.asarray(REDUCTIONS[name](x.numpy(), axis=axes, keepdims=keepdims))
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-13, strict=True)


@quick
@given(shape_and_axes(), st.booleans())
def test_the_gradient_of_a_sum_over_any_axes(case, keepdims):
    shape, axes = case
    x = ndl.Tensor(numbers(shape))
    y = ndl.summation(x, axes, keepdims)
    g, grad = pulled(y, x)
    kept = np.sum(x.numpy(), axis=axes, keepdims=True).shape
    np.testing.assert_array_equal(grad, np.broadcast_to(g.reshape(kept), shape), strict=True)


# --- slices ----------------------------------------------------------------------------------------------------


@st.composite
def shape_and_index(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    arrays = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    masks = hnp.arrays(bool, shape)
    return shape, draw(basic | arrays | masks)


@quick
@given(shape_and_index())
def test_any_index(case):
    shape, index = case
    x = ndl.Tensor(numbers(shape))
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), np.asarray(x.numpy()[index]), strict=True)
    g, grad = pulled(y, x)
    np.testing.assert_allclose(grad, sent_back(g, places(shape)[index], shape), rtol=1e-12, strict=True)


@quick
@given(shape_and_index())
def test_any_item_assignment(case):
    shape, index = case
    x, twin = ndl.Tensor(numbers(shape), requires_grad=False), numbers(shape)
    x[index] = 7.0
    twin[index] = 7.0
    np.testing.assert_array_equal(x.numpy(), twin)


# --- products --------------------------------------------------------------------------------------------------


@quick
@given(hnp.mutually_broadcastable_shapes(signature="(m,k),(k,n)->(m,n)", max_dims=2, min_side=0, max_side=4))
def test_stacks_of_matrices(both):
    a, b = (ndl.Tensor(numbers(shape, i)) for i, shape in enumerate(both.input_shapes))
    y = a @ b
    np.testing.assert_allclose(y.numpy(), np.matmul(a.numpy(), b.numpy()), rtol=1e-12, strict=True)
    g, grad_a, grad_b = pulled(y, a, b)
    assert grad_a.shape == a.shape and grad_b.shape == b.shape
    for x, grad, moved in (
        (a, grad_a, lambda d: np.matmul(d, b.numpy())),
        (b, grad_b, lambda d: np.matmul(a.numpy(), d)),
    ):
        direction = numbers(x.shape, 11)
        np.testing.assert_allclose((grad * direction).sum(), (g * moved(direction)).sum(), rtol=1e-11, atol=1e-12)


# --- chains of views -------------------------------------------------------------------------------------------


@quick
@given(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4) | shapes, st.data())
def test_chains_of_changes_of_shape(shape, data):
    x, twin = ndl.Tensor(numbers(shape)), places(shape)
    y = x
    for _ in range(data.draw(st.integers(1, 5))):
        step = data.draw(st.sampled_from(["permute", "flip", "flat", "new axis", "roll"]))
        if step == "permute":
            axes = data.draw(st.permutations(range(twin.ndim)))
            y, twin = ndl.permute(y, axes), np.transpose(twin, axes)
        elif step == "flip":
            y, twin = ndl.flip(y), np.flip(twin)
        elif step == "flat":
            y, twin = y.reshape((twin.size,)), twin.reshape(-1)
        elif step == "new axis":
            axis = data.draw(st.integers(-twin.ndim - 1, twin.ndim))
            y, twin = ndl.expand_dims(y, axis), np.expand_dims(twin, axis)
        elif twin.ndim:
            shift, axis = data.draw(st.integers(-5, 5)), data.draw(st.integers(-twin.ndim, twin.ndim - 1))
            y, twin = ndl.roll(y, shift, axis), np.roll(twin, shift, axis)
    np.testing.assert_array_equal(y.numpy(), x.numpy().reshape(-1)[twin], strict=True)
    if y is not x:
        g, grad = pulled(y, x)
        np.testing.assert_array_equal(grad, sent_back(g, twin, shape), strict=True)
