"""Corners: narrow integers, half precision, foreign byte orders, shared memory, hooks that write, rules that forget."""

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.special

import needle as ndl


def narrow(dtype, *numbers):
    return ndl.Tensor(np.array(numbers, dtype), requires_grad=False)


# --- narrow integers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "int64", "bool"])
@pytest.mark.parametrize("other", [[5.0], [5], np.array([5.0]), 5.0, 7])
def test_differences_of_mixed_dtypes_are_those_of_numpy(dtype, other):
    numbers = np.array([1, 0, 1], dtype)
    small = ndl.Tensor(numbers, requires_grad=False)
    big, array = (ndl.Tensor(other), np.array(other)) if isinstance(other, list) else (other, other)
    for got, wanted in ((big - small, array - numbers), (small - big, numbers - array)):
        np.testing.assert_array_equal(got.numpy(), wanted)


def test_differences_of_unsigned_numbers_wrap_round_as_in_numpy():
    a, b = np.array([3], np.uint8), np.array([5], np.uint8)
    assert (ndl.Tensor(a) - ndl.Tensor(b)).numpy() == a - b == 254
    assert (narrow("int16", 0) - narrow("int8", -128)).numpy() == 128


def test_a_number_that_does_not_fit_is_not_wrapped_round():
    small, c = narrow("int8", 100), np.array([False])
    assert (300 / small).numpy() == 3.0 and (-1 / narrow("uint8", 2)).numpy() == -0.5
    assert not ndl.eq(narrow("int8", 1), 257).numpy() and 257 not in narrow("int8", 1)
    assert (narrow("uint8", 1) > -1).numpy()
    assert ndl.maximum(small, 300).numpy() == 300 and ndl.where(c, small, 300).numpy() == 300


def test_bits_are_no_truth_values():
    six, three = narrow("int64", 6), narrow("int64", 3)
    for call in (lambda: six & three, lambda: six | three, lambda: ~six, lambda: (six > 0) & 3):
        with pytest.raises(TypeError, match=r"[&|~]: wanted boolean tensors, got int"):
            call()
    assert ((six > 0) & True).numpy() and (~(six > 9)).numpy()


# --- half precision and foreign byte orders --------------------------------------------------------------------


def test_half_precision_does_not_overflow_on_the_way():
    x = np.array([0.8, 0.9, 0.99, 1.3, -1.3], np.float16)
    np.testing.assert_allclose(ndl.erf(ndl.Tensor(x)).numpy(), scipy.special.erf(x.astype(float)), rtol=1e-3)
    assert ndl.erf(ndl.Tensor(x)).dtype == np.float16
    many = np.full(1000, 100, np.float16)
    assert ndl.mean(ndl.Tensor(many)).item() == np.mean(many) == 100
    spread = np.random.randn(100_000).astype(np.float16)
    for name in ("var", "std"):
        got = getattr(ndl, name)(ndl.Tensor(spread))
        assert got.dtype == np.float16 and abs(got.item() - 1) < 0.02
    loss = ndl.softmax_cross_entropy(ndl.Tensor(np.zeros((100_000, 2), np.float16)), np.zeros(100_000, int))
    assert loss.dtype == np.float16 and abs(loss.item() - math.log(2)) < 1e-3


def test_a_label_is_not_rounded_to_the_dtype_of_the_logits():
    logits = np.zeros(3000, np.float16)
    logits[2049] = 10
    for label in (2049, np.int64(2049), np.array(2049)):
        assert ndl.softmax_cross_entropy(ndl.Tensor(logits), label).item() < 1


def test_numbers_of_another_byte_order_become_native():
    x = ndl.Tensor(np.array([1.0, 2.0], ">f8"))
    (x * x + 1).sum().backward()
    assert x.dtype.isnative and x.grad.numpy().tolist() == [2, 4]
    labels = np.array([0, 1], ">i4")
    assert ndl.softmax_cross_entropy(ndl.Tensor(np.zeros((2, 2))), labels).item() == pytest.approx(math.log(2))


def test_complex_numbers_are_refused_on_every_way_in():
    with pytest.raises(TypeError, match="from_dlpack: wanted real numbers"):
        ndl.from_dlpack(np.zeros(2, complex))


# --- memory ----------------------------------------------------------------------------------------------------


def test_an_index_array_is_copied():
    for pick in (ndl.getitem, ndl.take, lambda x, index: ndl.gather(x, index, 0)):
        index = np.array([0, 1])
        x = ndl.Tensor(np.arange(4.0))
        y = pick(x, index)
        index[:] = 3
        y.backward()
        assert x.grad.numpy().tolist() == [1, 1, 0, 0]
    x, mask = ndl.Tensor(np.arange(4.0)), np.array([True, True, False, False])
    y = x[mask]
    mask[:] = True
    y.backward()
    assert x.grad.numpy().tolist() == [1, 1, 0, 0]


def test_an_empty_list_takes_nothing():
    x = ndl.Tensor(np.ones((3, 2)))
    assert x[[]].shape == ndl.take(x, []).shape == (0, 2)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_do_not_share_memory(create_graph):
    a, b, seed = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0]), ndl.Tensor([1.0, 1.0], requires_grad=False)
    (a + b + 1).backward(seed, create_graph=create_graph)
    arrays = [a.grad.cached_data, b.grad.cached_data, seed.cached_data]
    a.grad.cached_data[0] = 99.0
    assert [array.tolist() for array in arrays] == [[99, 1], [1, 1], [1, 1]]


def test_a_gradient_that_was_copied_can_be_differentiated():
    a, b = ndl.Tensor([2.0]), ndl.Tensor([3.0])
    ((a + b) * (a + b) * (a + b)).backward(create_graph=True)
    first = b.grad
    first.backward()
    assert a.grad.numpy() == b.grad.numpy() == 30


def test_a_hook_may_not_write_into_the_gradient():
    w, v = ndl.Tensor([1.0, 2.0]), ndl.Tensor([1.0, 2.0])
    w.register_hook(lambda grad: grad.__setitem__(0, 9.0))
    with pytest.raises(RuntimeError, match="hook: it wrote into the gradient"):
        (w + v).backward()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_leaf_is_copied_with_the_numbers_of_its_gradient(copied):
    x = ndl.Tensor([2.0])
    (x * x).backward(create_graph=True)
    twin = copied(x)
    assert twin.grad.numpy() == 4 and twin.grad.is_leaf()


def test_a_parameter_of_no_axes_stays_an_array():
    w = ndl.Tensor(1.0)
    with ndl.no_grad():
        w -= 0.5
    w.realize_cached_data().flat[0] += 1
    assert w.item() == 1.5


# --- rules and their mistakes ----------------------------------------------------------------------------------


class Forgets(ndl.TensorOp):
    def compute(self, a):
        return a * 2

    def gradient(self, out_grad, node):
        out_grad * 2  # noqa: B018


def test_a_rule_without_return_is_told():
    with pytest.raises(TypeError, match=r"Forgets.gradient returned None.*`return` missing"):
        Forgets()(ndl.Tensor([1.0])).backward()


@pytest.mark.parametrize("made", [1.0, [1.0], None])
def test_a_compute_that_gives_no_array_is_told(made):
    class Gives(ndl.TensorOp):
        def compute(self, a):
            return made

    with pytest.raises(TypeError, match=f"Gives: compute returned a {type(made).__name__}, wanted an array"):
        Gives()(ndl.Tensor([1.0]))


def test_hooks_and_retain_grad_want_a_tensor_that_gets_a_gradient():
    constant = ndl.Tensor([1.0], requires_grad=False)
    with pytest.raises(RuntimeError, match="register_hook: this tensor does not require a gradient"):
        constant.register_hook(print)
    with pytest.raises(RuntimeError, match="retain_grad: this tensor does not require"):
        constant.retain_grad()
    with pytest.raises(TypeError, match="register_hook: wanted a function of the gradient, got a int"):
        ndl.Tensor([1.0]).register_hook(3)


def test_a_tuple_of_tensors_is_no_array():
    with pytest.raises(TypeError, match="gradients would be lost"):
        ndl.Tensor(ndl.split(ndl.Tensor([1.0, 2.0])))


def test_a_slope_of_infinity_behind_relu_does_not_depend_on_the_memory_order():
    for x in (np.full((2, 2), -1.0), np.full((2, 2), -1.0).T, np.array(-1.0), np.full(2, -1, np.float16)):
        x = ndl.Tensor.make_const(x, requires_grad=True)
        with np.errstate(divide="ignore"):
            ndl.sqrt(ndl.relu(x)).backward()
        assert not x.grad.numpy().any()


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [("ij,jk->ik", ((2, 3), (1, 4))), ("ij,jk->ik", ((2, 1), (3, 4))), ("i,i->", ((3,), (1,)))],
)
def test_einsum_over_an_index_of_length_one_against_more(subscripts, shapes):
    inputs = [np.random.randn(*shape) for shape in shapes]
    ndl.gradcheck(lambda a, b: ndl.einsum(subscripts, a, b), *inputs, order=2).assert_ok()


def test_one_axis_may_be_a_number():
    x = ndl.Tensor([1.0, 2.0, 3.0])
    assert ndl.broadcast_to(ndl.Tensor(1.0), 3).shape == x.broadcast_to(np.int64(3)).shape == (3,)
    assert ndl.permute(x, 0).shape == (3,)


def test_a_limit_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="Clip: a limit is NaN"):
        ndl.clip(ndl.Tensor([1.0]), math.nan, 1)
