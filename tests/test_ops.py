"""Drives the test table (op_table.py), and what no table holds: extreme numbers, kernels, the other libraries."""

from __future__ import annotations

import importlib.util
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from op_check import (
    as_float32,
    check_row,
    draw,
    expected,
    forward,
    leaves,
    near,
    parts,
    pull,
    seeds,
    strided,
)
from op_table import ROWS, functions_of_needle, ops_of_needle

import needle as ndl
from needle import kernels
from needle.ops import ops_shape

BY_NAME = {row.name: row for row in ROWS}
DOCS = Path(__file__).resolve().parents[1] / "docs" / "gradients.md"


def named(rows):
    return [pytest.param(row, id=row.name) for row in rows]


# --- the table -------------------------------------------------------------------------------------------------


def test_every_op_has_a_row():
    without = ops_of_needle() - {row.op for row in ROWS}
    assert not without, f"ops without a row in op_table.py: {sorted(op.__name__ for op in without)}"


def test_every_exported_function_has_a_row():
    without = functions_of_needle() - set(BY_NAME)
    assert not without, f"functions without a row in op_table.py: {sorted(without)}"


def test_no_two_rows_have_one_name():
    assert len(BY_NAME) == len(ROWS)


@pytest.mark.parametrize("device", [d for d in ndl.all_devices() if d.enabled()], ids=str)
@pytest.mark.parametrize("row", named(ROWS))
def test_row(row, device):
    check_row(row, device)


@pytest.mark.parametrize("row", named(row for row in ROWS if row.op))
def test_a_row_runs_its_op(row, monkeypatch):
    def refuse(self, *arrays):
        raise NotImplementedError("seen")

    monkeypatch.setattr(row.op, "compute", refuse)
    arrays, variable = draw(row, row.cases[0])
    with pytest.raises(NotImplementedError, match="seen"):
        forward(row, row.cases[0], arrays, variable)


def checks(row, seed=0):
    """(case, what gradcheck says of it to second order) for each case in which something moves."""
    for one in row.cases:
        arrays, variable = draw(row, one)
        constants = [None if v else ndl.Tensor(a, requires_grad=False) for a, v in zip(arrays, variable, strict=True)]

        def f(*moving, one=one, constants=constants):
            given = iter(moving)
            return parts(row.call(*[next(given) if c is None else c for c in constants], **one.options))

        moving = [a for a, v in zip(arrays, variable, strict=True) if v]
        if moving:
            yield one, ndl.gradcheck(f, *moving, order=2, seed=seed)


@pytest.mark.parametrize("row", named(row for row in ROWS if row.smooth))
def test_row_by_gradcheck(row):
    """needle's own checker is of the same opinion as the table."""
    for one, result in checks(row):
        assert result, f"{one}: {result}"


@pytest.mark.slow
@pytest.mark.parametrize("row", named(row for row in ROWS if row.smooth))
def test_no_seed_makes_gradcheck_accuse_a_right_row(row):
    for seed in range(1, 12):
        for one, result in checks(row, seed):
            assert result.verdict != "fail", f"{one}, seed {seed}: {result}"


# --- promises at kinks -----------------------------------------------------------------------------------------

KINKS = [(row, kink) for row in ROWS for kink in row.kinks]


@pytest.mark.parametrize(
    ("row", "kink"), [pytest.param(*pair, id=f"{pair[0].name}: {pair[1].where}") for pair in KINKS]
)
def test_gradient_at_a_kink(row, kink):
    tensors = leaves([np.array(x, dtype=float) for x in kink.inputs], [True] * len(kink.inputs))
    with np.errstate(all="ignore"):
        (kink.call or row.call)(*tensors).backward()
    for x, wanted in zip(tensors, kink.gradients, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), wanted)


def test_the_page_on_gradients_tells_what_is_tested():
    told = set(re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    tested = {(kink.shown or row.name, kink.where, kink.promise) for row, kink in KINKS}
    assert told == tested


# --- extreme numbers -------------------------------------------------------------------------------------------

EXTREMES = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e4, -1e4, 1e10, -1e10, 88.9, -88.9, 710.0, -710.0]
OF_ONE = (
    "abs clip cos erf exp expm1 gelu isfinite isinf isnan leaky_relu log log1p logical_not negate relu rsqrt sigmoid "
    "sign silu sin softplus sqrt tanh"
)
OF_TWO = "add divide eq ge gt le logical_and logical_or lt maximum minimum multiply ne power"


def quietly(call, *args, **options):
    """What `call` gives, and the warnings it gave on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = parts(call(*args, **options))
    return result, {str(warning.message) for warning in caught}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", (OF_ONE + " " + OF_TWO).split())
def test_extreme_numbers_behave_as_in_numpy(name, dtype):
    """The same values, infinities, NaN and signs of zero; and no warning that NumPy does not give too."""
    limits = np.finfo(dtype)
    x = np.array([*EXTREMES, limits.smallest_subnormal, -limits.smallest_subnormal, limits.tiny, limits.max], dtype)
    arrays = [x] if name in OF_ONE.split() else [np.repeat(x, len(x)), np.tile(x, len(x))]
    row, options = BY_NAME[name], {"low": -1.0, "high": 1.0} if name == "clip" else {}
    (got,), warned = quietly(lambda: row.call(*[ndl.Tensor(a) for a in arrays], **options).numpy())
    (wanted,), allowed = quietly(row.reference, *arrays, **options)
    band = 1e-14 if dtype == "float64" else 1e-6
    sure = (x > -88) | (x < -1000) if name in ("sigmoid", "silu") else np.full(got.shape, True)
    np.testing.assert_allclose(got[sure], wanted[sure], rtol=band, atol=0)  # SciPy flushes to 0 a little early
    assert warned <= allowed
    number = ~np.isnan(got)
    assert got.dtype.kind != "f" or np.array_equal(np.signbit(got[number]), np.signbit(wanted[number]))


@pytest.mark.parametrize("name", "sigmoid softplus tanh erf relu gelu silu leaky_relu abs".split())
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_slopes_far_out_are_finite(name, dtype):
    x = ndl.Tensor(np.array([1e4, -1e4, 1e10, -1e10], dtype))
    getattr(ndl, name)(x).backward()
    left = {"abs": -1, "leaky_relu": np.float32(0.01)}.get(name, 0)
    right = 0 if name in ("sigmoid", "tanh", "erf") else 1
    np.testing.assert_allclose(x.grad.numpy(), np.array([right, left, right, left], dtype), rtol=1e-6)


ROWS_OF_LOGITS = {
    "ten thousand": [[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]],
    "ten billion": [[1e10, -1e10, 1e10], [1e10 - 1, 1e10, 1e10 - 2]],
    "masked": [[-math.inf, 1.0, 2.0], [0.0, -math.inf, -math.inf]],
    "one infinite": [[math.inf, 1000.0, -1000.0], [1.0, 2.0, math.inf]],
    "all masked": [[-math.inf, -math.inf, -math.inf], [1.0, 2.0, 3.0]],
    "NaN": [[math.nan, 1000.0, 2.0], [1.0, 2.0, 3.0]],
    "tiny": [[5e-324, -5e-324, 0.0], [2e-308, 1e-310, 0.0]],
}
EXPONENTIALS = {
    "logsumexp": (lambda z: ndl.logsumexp(z, axes=1), lambda z: scipy.special.logsumexp(z, axis=1)),
    "logsoftmax": (ndl.logsoftmax, lambda z: scipy.special.log_softmax(z, axis=1)),
    "softmax": (ndl.softmax, lambda z: scipy.special.softmax(z, axis=1)),
}


@pytest.mark.parametrize("logits", ROWS_OF_LOGITS)
@pytest.mark.parametrize("name", EXPONENTIALS)
def test_logits_of_any_size_behave_as_in_scipy(name, logits):
    call, reference = EXPONENTIALS[name]
    z = np.array(ROWS_OF_LOGITS[logits])
    (got,), warned = quietly(lambda: call(ndl.Tensor(z)).numpy())
    (wanted,), allowed = quietly(reference, z)
    if name == "softmax":  # SciPy gives NaN for the whole row as well
        wanted = np.where(np.isnan(wanted).any(1, keepdims=True), np.nan, wanted)
        got = np.where(np.isnan(got).any(1, keepdims=True), np.nan, got)
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-300)
    assert warned <= allowed


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_masked_logits_get_no_gradient(name):
    """A mask of −∞ takes an element out: the others get what they get without it."""
    weights = np.array([[0.3, -0.7, 1.1]])
    for call, of in [(EXPONENTIALS[name][0], ndl.Tensor([[-math.inf, 1.0, 3.0]]))]:
        y = call(of)
        y.backward(np.ones(1) if name == "logsumexp" else weights * [0, 1, 1])
        small = ndl.Tensor([[1.0, 3.0]])
        call(small).backward(np.ones(1) if name == "logsumexp" else weights[:, 1:])
        np.testing.assert_allclose(of.grad.numpy()[:, 1:], small.grad.numpy(), rtol=1e-14)
        assert of.grad.numpy()[0, 0] == 0


@pytest.mark.parametrize("scale", [1e4, 1e10])
def test_the_softmax_loss_is_stable(scale):
    z, labels = ndl.Tensor(np.array([[scale, -scale, 0], [0, scale, scale]])), np.array([1, 2])
    loss = ndl.softmax_cross_entropy(z, labels, reduction="none")
    np.testing.assert_allclose(loss.numpy(), [2 * scale, math.log(2)])
    loss.backward()
    np.testing.assert_allclose(z.grad.numpy(), [[1, -1, 0], [0, 0.5, -0.5]])


def test_the_softmax_loss_of_a_masked_class():
    z = ndl.Tensor([[-math.inf, 0.0, 0.0]])
    ndl.softmax_cross_entropy(z, np.array([1])).backward()
    assert z.grad.numpy().tolist() == [[0.0, -0.5, 0.5]]
    assert ndl.softmax_cross_entropy(z, np.array([0])).item() == math.inf


def test_the_softmax_loss_of_no_rows_is_nan_as_the_mean_of_nothing():
    z = ndl.Tensor(np.zeros((0, 3)))
    assert math.isnan(ndl.softmax_cross_entropy(z, np.zeros(0, int)).item())
    assert ndl.softmax_cross_entropy(z, np.zeros(0, int), reduction="sum").item() == 0


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "logsumexp", "logsoftmax"])
def test_over_an_empty_axis_there_is_no_extreme(name):
    with pytest.raises(ValueError, match="zero-size|empty"):
        getattr(ndl, name)(ndl.Tensor(np.zeros((2, 0))), 1)


def test_means_over_an_empty_axis_are_nan_and_variances_raise():
    x = ndl.Tensor(np.zeros((2, 0)))
    assert np.isnan(ndl.mean(x, 1).numpy()).all()
    for call in (ndl.var, ndl.std):
        with pytest.raises(ValueError, match="nothing to divide by"):
            call(x, 1)


def test_products_of_nothing():
    assert ndl.matmul(ndl.Tensor(np.ones((2, 0))), ndl.Tensor(np.ones((0, 3)))).numpy().tolist() == [[0] * 3] * 2
    assert ndl.prod(ndl.Tensor(np.zeros(0))).item() == 1
    assert ndl.norm(ndl.Tensor(np.zeros(0))).item() == 0


# --- softmax minus one-hot -------------------------------------------------------------------------------------


def composed_loss(z, labels):
    picked = ndl.summation(z * ndl.one_hot(labels, z.shape[1], dtype="float64"), axes=1)
    return ndl.mean(ndl.logsumexp(z, axes=1) - picked)


def from_exp(z, labels):
    picked = ndl.getitem(z, (np.arange(len(labels)), labels))
    return ndl.mean(ndl.log(ndl.summation(ndl.exp(z), axes=1)) - picked)


@pytest.mark.parametrize("loss", [composed_loss, from_exp, ndl.softmax_cross_entropy])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_derived_gradient_of_the_loss_is_softmax_minus_one_hot(loss, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kernels.Kernel, "get", lambda self: None)
    logits, labels = np.random.randn(50, 10) * 5, np.random.randint(10, size=50)
    z = ndl.Tensor(logits)
    loss(z, labels).backward()
    wanted = (scipy.special.softmax(logits, axis=1) - np.eye(10)[labels]) / 50
    np.testing.assert_allclose(z.grad.numpy(), wanted, rtol=0, atol=1e-12)
    recorded = ndl.Tensor(logits)
    loss(recorded, labels).backward(create_graph=True)
    np.testing.assert_allclose(recorded.grad.numpy(), wanted, rtol=0, atol=1e-12)


# --- compiled kernels ------------------------------------------------------------------------------------------

WITH_KERNELS = [BY_NAME[name] for name in ("relu", "StepMask", "softmax_cross_entropy", "batch_normalize")]


@pytest.mark.parametrize("row", named(WITH_KERNELS))
@pytest.mark.parametrize("get", [lambda self: None, lambda self: self.function], ids=["NumPy", "uncompiled"])
def test_a_kernel_and_its_twin_keep_the_same_row(row, get, monkeypatch):
    monkeypatch.setattr(kernels.Kernel, "get", get)
    check_row(row)


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
@pytest.mark.parametrize("logits", sorted(set(ROWS_OF_LOGITS) - {"one infinite"}))  # there it has no loss
def test_the_compiled_loss_agrees_on_extreme_logits(logits, monkeypatch):
    def loss_and_gradient():
        z = ndl.Tensor(np.array(ROWS_OF_LOGITS[logits]))
        loss = ndl.softmax_cross_entropy(z, np.array([0, 1]), reduction="none")
        loss.backward()
        return loss.numpy(), z.grad.numpy()

    compiled = loss_and_gradient()
    monkeypatch.setattr(kernels.Kernel, "get", lambda self: None)
    with np.errstate(invalid="ignore"):
        plain = loss_and_gradient()
    for got, wanted in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13)


# --- one op at a time ------------------------------------------------------------------------------------------


def test_an_op_that_is_called_twice_keeps_both_results_apart():
    op = ndl.SoftmaxCrossEntropy()
    first, second = ndl.Tensor([[1.0, 2.0]]), ndl.Tensor([[3.0, 1.0]])
    labels = ndl.Tensor([0], requires_grad=False)
    loss, _ = op(first, labels), op(second, labels)
    loss.backward()
    near(first.grad.numpy(), scipy.special.softmax([[1.0, 2.0]], axis=1) - [[1, 0]], 1e-15, "gradient")


@pytest.mark.parametrize("join", [ndl.stack, ndl.concatenate])
def test_joined_tensors_of_different_dtypes_get_gradients_of_their_own(join):
    x, y = ndl.Tensor([1.0, 2.0], dtype="float32"), ndl.Tensor([3.0, 4.0])
    joined = join([x, y])
    assert joined.dtype == "float64"
    (joined * joined).sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == ("float32", "float64")
    assert x.grad.numpy().tolist() == [2, 4]


def test_rounding_to_integers_has_slope_zero():
    x = ndl.Tensor([1.5, 2.5])
    (x.astype("int64").astype("float64") * x).sum().backward()
    assert x.grad.numpy().tolist() == [1, 2]


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "silu", "gelu", "erf", "norm", "logsumexp", "logsoftmax"])
def test_small_integers_do_not_wrap_round(name):
    numbers = np.array([0, 3, 200], dtype=np.uint8)
    got = getattr(ndl, name)(ndl.Tensor(numbers))
    near(got.numpy(), getattr(ndl, name)(ndl.Tensor(numbers.astype(float))).numpy(), 1e-15, name)


def test_a_product_of_small_integers_grows_as_in_numpy():
    numbers = np.array([16, 16, 16], dtype=np.uint8)
    assert ndl.prod(ndl.Tensor(numbers)).item() == np.prod(numbers) == 4096


def test_numpy_scalars_do_not_widen():
    x = ndl.Tensor([1.0, 5.0], dtype="float32")
    for y in (
        ndl.clip(x, np.float64(2), np.float64(3)), x + np.float64(1), np.float64(1) + x, x * np.array(2.0),
        ndl.maximum(x, np.float64(2)), ndl.maximum(np.float64(2), x), ndl.where(x > 2, x, np.float64(0)), 2.0**x,
    ):  # fmt: skip
        assert y.dtype == "float32"


def test_maximum_and_minimum_take_a_number_on_either_side():
    x = ndl.Tensor([-1.0, 2.0])
    assert ndl.maximum(0, x).numpy().tolist() == ndl.maximum(x, 0).numpy().tolist() == [0, 2]
    assert ndl.minimum(0, x).numpy().tolist() == ndl.minimum(x, 0).numpy().tolist() == [-1, 0]


def test_an_index_tensor_is_copied():
    x, index = ndl.Tensor([1.0, 2.0, 3.0]), ndl.Tensor([0, 0], requires_grad=False)
    y = x[index]
    index[:] = 2
    y.sum().backward()
    assert x.grad.numpy().tolist() == [2, 0, 0]


def test_an_extreme_that_is_nan_or_infinite():
    x = ndl.Tensor([math.inf, 1.0, math.inf])
    ndl.max(x).backward()
    assert x.grad.numpy().tolist() == [0.5, 0, 0.5]
    assert math.isnan(ndl.max(ndl.Tensor([1.0, math.nan])).item())


def test_bad_calls_of_functions_say_so():
    x = ndl.Tensor([[1.0, 2.0]])
    for call, error, words in [
        (lambda: ndl.concatenate([x, x], None), TypeError, "Concatenate: axis must be"),
        (lambda: ndl.cumsum(ndl.Tensor(1.0), 0), ValueError, "CumSum: wants one axis"),
        (lambda: ndl.split(x)[0:1], TypeError, "TensorTuple: wanted one whole number"),
        (lambda: ndl.gelu(x, "cubic"), ValueError, "gelu: approximate must be"),
        (lambda: ndl.clip(x, 2, 1), ValueError, "Clip: low 2 is above high 1"),
        (lambda: ndl.gather(x, np.array([[0.5]]), 1), TypeError, "gather: index must be integers"),
        (lambda: ndl.where(True, 1, 2), TypeError, "where: wanted at least one Tensor"),
        (lambda: ndl.norm(x, ord=3), ValueError, "norm: ord must be"),
        (lambda: ndl.tril(ndl.Tensor(1.0)), ValueError, "tril: wants at least 2"),
        (lambda: ndl.mean(x, 0, axis=0), TypeError, "axes or axis, not both"),
    ]:
        with pytest.raises(error, match=re.escape(words)):
            call()


def test_axis_is_understood_beside_axes():
    x = ndl.Tensor(np.random.randn(2, 3))
    for name in ("sum", "mean", "max", "min", "prod", "var", "std", "norm"):
        got, wanted = getattr(x, name)(axis=1, keepdims=True), getattr(x, name)(1, True)
        assert got.shape == (2, 1) and np.array_equal(got.numpy(), wanted.numpy())


def test_the_gradient_of_a_long_row_of_slices_is_exact():
    """`split` and the tuple it gives are put together again part by part."""
    x = ndl.Tensor(np.random.randn(6, 2))
    loss = sum((part * (i + 1)).sum() for i, part in enumerate(ndl.split(x)))
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.repeat(np.arange(1.0, 7), 2).reshape(6, 2))


def test_the_triangle_of_infinite_numbers_is_zero_elsewhere():
    x = ndl.Tensor([[1.0, math.inf], [math.nan, 2.0]])
    ops_shape.tril(x).sum().backward()
    assert x.grad.numpy().tolist() == [[1, 0], [1, 1]]


# --- the other libraries ---------------------------------------------------------------------------------------


def library(name: str):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


def ours(row, one, arrays, variable, rng):
    """Results, out_grads and the gradients of what varies."""
    tensors, outputs = forward(row, one, arrays, variable)
    out_grads = seeds(outputs, rng)
    if not (row.smooth and any(variable)):
        return outputs, out_grads, []
    grads = pull(outputs, out_grads, tensors)
    return outputs, out_grads, [g for g, v in zip(grads, variable, strict=True) if v]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("row", named(row for row in ROWS if row.torch))
def test_row_against_pytorch(row):
    torch = library("torch")
    for one in row.cases:
        arrays, variable = draw(row, one)
        outputs, out_grads, grads = ours(row, one, arrays, variable, np.random.default_rng(5))
        theirs = [torch.tensor(a, requires_grad=v and row.smooth) for a, v in zip(arrays, variable, strict=True)]
        results = parts(row.torch(*theirs, **one.options))
        for y, w in zip(outputs, results, strict=True):
            assert y.shape == tuple(w.shape)
            near(y.numpy(), w.detach().numpy(), 1e-12, f"{one}: values")
        if grads:
            torch.autograd.backward(results, [torch.tensor(g) for g in out_grads])
            for g, x in zip(grads, [x for x in theirs if x.requires_grad], strict=True):
                near(g, x.grad.numpy(), 1e-11, f"{one}: gradient")


@pytest.mark.oracle
@pytest.mark.parametrize("row", named(row for row in ROWS if row.jax))
def test_row_against_jax(row):
    jax = library("jax")
    with jax.enable_x64(True):
        for one in row.cases[:3]:
            arrays, variable = draw(row, one)
            outputs, out_grads, grads = ours(row, one, arrays, variable, np.random.default_rng(6))
            chosen = [i for i, v in enumerate(variable) if v]

            def f(*some, one=one, arrays=arrays, chosen=chosen):
                full = dict(enumerate(arrays)) | dict(zip(chosen, some, strict=True))
                return parts(row.jax(*full.values(), **one.options))

            results, pullback = jax.vjp(f, *[jax.numpy.asarray(arrays[i]) for i in chosen])
            for y, w in zip(outputs, results, strict=True):
                assert y.shape == w.shape
                near(y.numpy(), np.asarray(w), 1e-12, f"{one}: values")
            for g, w in zip(grads, pullback([jax.numpy.asarray(g) for g in out_grads]), strict=True):
                near(g, np.asarray(w), 1e-11, f"{one}: gradient")


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "logsumexp", "softmax", "gelu", "matmul", "divide", "norm"])
def test_second_order_against_pytorch(name):
    torch, row = library("torch"), BY_NAME[name]
    one = row.cases[0]
    arrays, variable = draw(row, one)
    tensors, (y,) = forward(row, one, arrays, variable)
    weights = np.asarray(np.random.randn(*y.shape))
    (y * y * ndl.Tensor(weights)).sum().backward(create_graph=True)
    first = [x.grad for x in tensors]
    sum((g * g).sum() for g in first).backward()
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    w = row.torch(*theirs, **one.options)
    grads = torch.autograd.grad((w * w * torch.tensor(weights)).sum(), theirs, create_graph=True)
    sum((g * g).sum() for g in grads).backward()
    for x, t in zip(tensors, theirs, strict=True):
        near(x.grad.numpy(), t.grad.numpy(), 1e-10, "second order")


@pytest.mark.parametrize("row", named([BY_NAME[n] for n in ("matmul", "einsum", "summation", "add", "getitem")]))
def test_strides_and_float32_at_once(row):
    for one in row.cases:
        arrays, variable = draw(row, one)
        spread = [ndl.Tensor.make_const(strided(a), v) for a, v in zip(as_float32(arrays), variable, strict=True)]
        for y, w in zip(parts(row.call(*spread, **one.options)), expected(row, one, arrays), strict=True):
            near(y.numpy(), w, row.band, "values")
