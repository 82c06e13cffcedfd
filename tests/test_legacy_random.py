"""NumPy's global stream drawn by compiled code: the same numbers, and the stream stands where NumPy would leave it."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.kernels import legacy_random


@pytest.fixture(autouse=True)
def stream():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.mark.parametrize("before", [0, 1, 623, 624, 1001])
@pytest.mark.parametrize("shape", [(5000,), (3, 700), (9, 10, 40)])
def test_the_device_draws_what_numpy_draws(shape, before):
    """Also after an odd number of 32-bit words, as randint draws them."""
    drawn = []
    for draw in (np.random.rand, ndl.cpu().rand):
        np.random.seed(before)
        np.random.randint(2**31, size=before)
        drawn.append([draw(*shape), np.random.rand(3), np.random.randn(2), np.random.get_state()[2]])
    for mine, its in zip(*drawn, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_plain_python_draws_the_same():
    np.random.seed(4)
    state = np.array([*np.random.get_state()[1], np.random.get_state()[2]], "uint32")
    words, out = np.empty(1400, "uint32"), np.empty(700)
    legacy_random.draw_words.function(state, words)
    legacy_random.as_uniform.function(words, out)
    np.testing.assert_array_equal(out, np.random.rand(700))
    np.testing.assert_array_equal(state[:624], np.random.get_state()[1])


def test_another_generator_is_left_to_numpy():
    kept = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        assert legacy_random.uniform(10) is None
        drawn = ndl.cpu().rand(5000)
        np.random.set_bit_generator(np.random.PCG64(3))
        np.testing.assert_array_equal(drawn, np.random.rand(5000))
    finally:
        np.random.set_bit_generator(kept)


def test_a_numpy_that_keeps_its_state_elsewhere_draws_itself(monkeypatch):
    monkeypatch.setattr(legacy_random, "_is_laid_out_as_known", lambda: False)
    np.random.seed(0)
    drawn = ndl.cpu().rand(5000)
    np.random.seed(0)
    np.testing.assert_array_equal(drawn, np.random.rand(5000))
    assert legacy_random.uniform(10) is None
