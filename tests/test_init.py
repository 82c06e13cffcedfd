"""Initial values: the draws and their order, what comes of them, seeds of one's own, errors."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest

import needle as ndl
from needle import init

# --- the device's own stream, in the order that homeworks rely on ----------------------------------------------

DRAWS = [
    (lambda: init.rand(3, 4, low=-1.0, high=2.0), lambda: np.random.rand(3, 4) * 3 - 1),
    (lambda: init.randn(3, 4, mean=2.0, std=0.5), lambda: np.random.randn(3, 4) * 0.5 + 2),
    (lambda: init.randb(3, 4, p=0.3, dtype="float32"), lambda: np.random.rand(3, 4) <= 0.3),
    (lambda: init.xavier_uniform(3, 4, gain=1.5), lambda: (np.random.rand(3, 4) * 2 - 1) * 1.5 * math.sqrt(6 / 7)),
    (lambda: init.xavier_normal(3, 4, gain=1.5), lambda: np.random.randn(3, 4) * 1.5 * math.sqrt(2 / 7)),
    (lambda: init.kaiming_uniform(3, 4), lambda: (np.random.rand(3, 4) * 2 - 1) * math.sqrt(6 / 3)),
    (lambda: init.kaiming_uniform(8, 4, shape=(2, 2, 4)), lambda: (np.random.rand(2, 2, 4) * 2 - 1) * math.sqrt(6 / 8)),
    (lambda: init.kaiming_normal(3, 4), lambda: np.random.randn(3, 4) * math.sqrt(2 / 3)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "wanted"), DRAWS)
def test_draws_follow_numpys_global_stream(make, wanted):
    np.random.seed(11)
    made = make()
    after = np.random.rand()
    np.random.seed(11)
    np.testing.assert_allclose(made.numpy(), wanted(), rtol=1e-5)
    assert np.random.rand() == after
    assert made.dtype == "float32" and not made.requires_grad and made.is_leaf()


def test_randb_is_true_up_to_p_itself():
    np.random.seed(11)
    p = np.random.rand()
    for seen, wanted in ((p, True), (np.nextafter(p, 0), False)):
        np.random.seed(11)
        made = init.randb(p=seen)
        assert made.item() is wanted and made.dtype == "bool"


@pytest.mark.parametrize("make", [init.rand, init.randn, init.xavier_uniform, init.kaiming_normal, init.orthogonal])
def test_dtype_and_gradient_are_chosen(make):
    made = make(3, 4, dtype="float64", requires_grad=True, device=ndl.cpu())
    assert made.dtype == "float64" and made.requires_grad and made.device == ndl.cpu()


def test_bounds_that_are_numbers_of_numpy_do_not_promote():
    bound = np.float64(0.5)
    assert init.rand(2, low=-bound, high=bound).dtype == "float32"
    assert init.randn(2, std=bound).dtype == init.constant(2, c=bound).dtype == "float32"


def test_constants():
    assert init.constant(2, 3, c=5, dtype="int32").numpy().tolist() == [[5] * 3] * 2
    assert init.ones(2).numpy().tolist() == [1, 1] and init.zeros(2).numpy().tolist() == [0, 0]
    like = ndl.Tensor(np.ones((2, 3)))
    assert init.zeros_like(like).dtype == init.ones_like(like).dtype == "float64"
    assert init.zeros_like(like).shape == (2, 3)


def test_one_hot_takes_arrays_lists_and_numbers():
    for labels in (np.array([0, 2]), [0, 2], (0, 2), np.array([0, 2], "uint8"), ndl.Tensor([0, 2])):
        assert init.one_hot(3, labels).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert init.one_hot(3, 1).tolist() == [0, 1, 0]
    with pytest.raises(IndexError, match="one_hot: labels run from 0 to 3, wanted 0 to 2"):
        init.one_hot(3, np.array([0, 3]))
    with pytest.raises(TypeError):
        init.one_hot(3, "labels")


def test_one_hot_takes_labels_as_floats():
    labels = ndl.Tensor([[2.0, 0.0]], dtype="float32")
    assert init.one_hot(3, labels).numpy().tolist() == [[[0, 0, 1], [1, 0, 0]]]
    with pytest.raises(IndexError, match="one_hot: labels run from 0 to 2, wanted 0 to 1"):
        init.one_hot(2, labels)


# --- orthogonal and truncated normal ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (1, 3)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    q = init.orthogonal(*shape, gain=2.0, dtype="float64").numpy()
    assert q.shape == shape
    small = q.T @ q if shape[0] >= shape[1] else q @ q.T
    np.testing.assert_allclose(small, 4 * np.eye(min(shape)), atol=1e-12)


def test_orthogonal_prefers_no_sign():
    """QR alone gives a first column whose sign is that of no coin: the mean of many must be near 0."""
    first = [init.orthogonal(3, 3).numpy()[0, 0] for _ in range(600)]
    assert abs(np.mean(first)) < 4 / math.sqrt(3 * 600)  # four standard errors
    determinants = [np.linalg.det(init.orthogonal(3, 3).numpy()) for _ in range(200)]
    assert 60 < sum(d > 0 for d in determinants) < 140


def test_truncated_normal_has_no_tail_and_the_right_spread():
    x = init.truncated_normal(20000, mean=3.0, std=0.5, cut=1.5, dtype="float64").numpy()
    assert np.abs(x - 3).max() <= 0.75 and np.abs(x - 3).max() > 0.74
    density = math.exp(-(1.5**2) / 2) / math.sqrt(2 * math.pi)
    spread = 0.5 * math.sqrt(1 - 2 * 1.5 * density / math.erf(1.5 / math.sqrt(2)))
    assert abs(x.mean() - 3) < 0.02 and abs(x.std() / spread - 1) < 0.03
    assert init.truncated_normal().shape == () and init.truncated_normal(0, 3).shape == (0, 3)


# --- Generator -------------------------------------------------------------------------------------------------


def everything(generator):
    drawn = [
        generator.rand(3, 4), generator.randn(5), generator.randint(10, size=(2, 3)), generator.randint(-2, 3),
        generator.permutation(7), generator.rand(2, dtype="float64"), generator.randn(2, dtype="float64"),
    ]  # fmt: skip
    return [x.numpy() for x in drawn]


def same(a, b):
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_seed_decides_all_draws_and_touches_no_other_stream():
    before = np.random.get_state()[2]
    assert same(everything(ndl.Generator(3)), everything(ndl.Generator(3)))
    assert not same(everything(ndl.Generator(3)), everything(ndl.Generator(4)))
    assert not same(everything(ndl.Generator((3, 0, 1))), everything(ndl.Generator((3, 1, 0))))
    assert np.random.get_state()[2] == before


def test_the_stream_of_a_seed_is_numpys_philox():
    """So that numbers stay what they are, whoever changes the class."""
    wanted = np.random.Generator(np.random.Philox([3]))
    given = ndl.Generator(3)
    np.testing.assert_array_equal(given.rand(3, 4, dtype="float64").numpy(), wanted.random((3, 4)))
    np.testing.assert_array_equal(given.randn(3).numpy(), wanted.standard_normal(3, dtype="float32"))
    np.testing.assert_array_equal(given.randint(5, 9, size=4).numpy(), wanted.integers(5, 9, size=4))
    np.testing.assert_array_equal(given.permutation(9).numpy(), wanted.permutation(9))


def test_shapes_dtypes_and_ranges():
    generator = ndl.Generator(0)
    x = generator.rand(100, 100)
    assert x.dtype == "float32" and not x.requires_grad and 0 <= x.numpy().min() < 0.01 < 0.99 < x.numpy().max() < 1
    normal = generator.randn(100, 100, dtype="float64")
    assert normal.dtype == "float64" and abs(normal.numpy().mean()) < 0.04 and abs(normal.numpy().std() - 1) < 0.03
    assert generator.rand().shape == generator.randint(3).shape == ()
    assert generator.rand(2, dtype="float16").dtype == "float16"
    assert set(generator.randint(2, 5, size=100).numpy().tolist()) == {2, 3, 4}
    assert sorted(generator.permutation(6).numpy().tolist()) == list(range(6))
    assert generator.permutation(6).dtype == generator.randint(3).dtype == "int64"


def test_the_state_is_plain_data_and_goes_back():
    generator = ndl.Generator(3)
    generator.rand(3)
    generator.randint(7)  # leaves half a draw behind, which is part of the state
    state = generator.state
    wanted = everything(generator)
    assert not same(wanted, everything(generator))
    other = ndl.Generator(99)
    for target in (generator, other):
        target.state = json.loads(json.dumps(state))
        assert same(everything(target), wanted)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))], ids=["copy", "pickle"])
def test_a_copy_goes_on_from_the_same_place(again):
    generator = ndl.Generator((3, 1))
    generator.rand(5)
    twin = again(generator)
    assert repr(twin) == "Generator(seed=(3, 1))"
    assert same(everything(twin), everything(generator))


@pytest.mark.parametrize(
    "state",
    [{}, {"bit_generator": "PCG64"}, 3, None, {**ndl.Generator(0).state, "state": {"counter": [1], "key": [2]}}],
)
def test_a_wrong_state_is_refused_and_changes_nothing(state):
    generator, twin = ndl.Generator(1), ndl.Generator(1)
    with pytest.raises(ValueError, match=r"Generator.state: this is no state of a Generator"):
        generator.state = state
    assert same(everything(generator), everything(twin))


MAKERS = [
    lambda g: init.rand(3, 2, generator=g), lambda g: init.randn(3, 2, generator=g),
    lambda g: init.randb(3, 2, generator=g), lambda g: init.kaiming_uniform(3, 2, generator=g),
    lambda g: init.xavier_normal(3, 2, generator=g), lambda g: init.orthogonal(3, 2, generator=g),
    lambda g: init.truncated_normal(3, 2, generator=g),
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_initialisers_draw_from_a_generator(make):
    before = np.random.get_state()[2]
    one, other, third = make(ndl.Generator(1)), make(ndl.Generator(1)), make(ndl.Generator(2))
    assert np.random.get_state()[2] == before
    assert np.array_equal(one.numpy(), other.numpy()) and not np.array_equal(one.numpy(), third.numpy())


def test_rand_from_a_generator_is_the_generators_own():
    assert np.array_equal(init.rand(5, generator=ndl.Generator(1)).numpy(), ndl.Generator(1).rand(5).numpy())


# --- bad input -------------------------------------------------------------------------------------------------

BAD = [
    (lambda: init.zeros((2, 3)), TypeError, "init: a shape is given as separate whole numbers, as in zeros(2, 3)"),
    (lambda: init.rand(2, -1), ValueError, "init: a shape has no negative numbers, got (2, -1)"),
    (lambda: ndl.Generator(0).rand(2.5), TypeError, "a shape is given as separate whole numbers"),
    (lambda: init.kaiming_uniform(2, 3, nonlinearity="tanh"), ValueError, "nonlinearity must be 'relu', got 'tanh'"),
    (lambda: init.truncated_normal(2, cut=0), ValueError, "truncated_normal: cut must be above 0 (standard"),
    (lambda: init.truncated_normal(2, cut=math.nan), ValueError, "truncated_normal: cut must be above 0"),
    (lambda: ndl.Generator(-1), ValueError, "Generator: seed must be a whole number that is not negative, or several"),
    (lambda: ndl.Generator(1.5), ValueError, "got 1.5"),
    (lambda: ndl.Generator(()), ValueError, "got ()"),
    (lambda: ndl.Generator(0).randint(3, 3), ValueError, "Generator.randint: high must be above low, got low 3"),
    (lambda: ndl.Generator(0).randint(0), ValueError, "got low 0 and high 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), BAD, ids=[words[:50] for _, _, words in BAD])
def test_bad_input_is_told(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("make", [ndl.zeros, ndl.ones, ndl.rand, ndl.randn, lambda *a, **k: ndl.nn.Linear(*a, 2, **k)])
def test_a_device_is_no_name(make):
    with pytest.raises(TypeError, match=r"must be a device such as ndl\.cpu\(\).*'cuda'"):
        make(2, device="cuda")
