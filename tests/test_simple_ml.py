"""Homework 1's functions (apps/simple_ml.py) by the course's contract: values, dtypes, no shuffling, new tensors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "apps"))
try:
    import simple_ml as ml
finally:
    sys.path.remove(str(ROOT / "apps"))


def one_hot(y, k):
    return np.eye(k)[y]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_loss(dtype):
    logits, y = np.random.randn(7, 4).astype(dtype) * 3, np.random.randint(4, size=7)
    got = ml.softmax_loss(ndl.Tensor(logits), ndl.Tensor(one_hot(y, 4)))
    exact = logits.astype(float)
    wanted = np.mean(np.log(np.exp(exact).sum(1)) - exact[np.arange(7), y])
    assert (got.shape, got.dtype) == ((), dtype)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-6 if dtype == "float32" else 1e-14)


def test_the_gradient_of_softmax_loss_is_softmax_minus_one_hot():
    logits, y = np.random.randn(5, 3), np.array([0, 2, 1, 1, 0])
    Z = ndl.Tensor(logits)
    ml.softmax_loss(Z, ndl.Tensor(one_hot(y, 3))).backward()
    P = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(Z.grad.numpy(), (P - one_hot(y, 3)) / 5, atol=1e-15)


def test_softmax_loss_of_large_logits():
    Z = ndl.Tensor([[1e4, -1e4], [0.0, 1e4]])
    assert ml.softmax_loss(Z, ndl.Tensor(one_hot([1, 1], 2))).item() == 1e4


def by_hand(X, y, W1, W2, lr, batch):
    for start in range(0, len(X), batch):
        A, labels = X[start : start + batch], y[start : start + batch]
        H = np.maximum(A @ W1, 0)
        P = np.exp(H @ W2)
        G = (P / P.sum(1, keepdims=True) - one_hot(labels, W2.shape[1])) / len(A)
        W1, W2 = W1 - lr * A.T @ (G @ W2.T * (H > 0)), W2 - lr * H.T @ G
    return W1, W2


@pytest.mark.parametrize("batch", [10, 17, 100])  # the last one: fewer rows than a batch
def test_nn_epoch(batch):
    X, y = np.random.randn(50, 5), np.random.randint(3, size=50).astype(np.uint8)
    W1, W2 = ndl.Tensor(np.random.randn(5, 8)), ndl.Tensor(np.random.randn(8, 3))
    before = W1.numpy(), W2.numpy()
    got = ml.nn_epoch(X, y, W1, W2, lr=0.2, batch=batch)
    for tensor, wanted in zip(got, by_hand(X, y, *before, 0.2, batch), strict=True):
        assert isinstance(tensor, ndl.Tensor) and tensor.is_leaf()
        np.testing.assert_allclose(tensor.numpy(), wanted, atol=1e-13)
    assert np.array_equal(W1.numpy(), before[0]) and np.array_equal(W2.numpy(), before[1])


def test_nn_epoch_keeps_float32():
    X, y = np.random.randn(20, 5).astype("float32"), np.zeros(20, np.uint8)
    W1, W2 = ndl.init.randn(5, 4, requires_grad=True), ndl.init.randn(4, 3, requires_grad=True)
    assert [W.dtype for W in ml.nn_epoch(X, y, W1, W2)] == ["float32", "float32"]


def test_loss_err():
    h, y = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 0, 0])
    loss, error = ml.loss_err(ndl.Tensor(h), y)
    assert isinstance(loss, np.ndarray) and error == 0.25
    np.testing.assert_allclose(loss, ml.softmax_loss(ndl.Tensor(h), ndl.Tensor(one_hot(y, 2))).numpy())


def test_parse_mnist(data_folder):
    files = [data_folder / "mnist" / f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    X, y = ml.parse_mnist(*map(str, files))
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((10000, 784), np.float32, (10000,), np.uint8)
    assert X.min() == 0 and X.max() == 1 and y[:3].tolist() == [7, 2, 1]
    with pytest.raises(ValueError, match="swapped"):
        ml.parse_mnist(*map(str, files[::-1]))


def test_bad_input():
    Z = ndl.Tensor(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"softmax_loss: logits \(3, 2\) and labels \(3,\)"):
        ml.softmax_loss(Z, ndl.Tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="nn_epoch: 3 rows of X, 2 labels"):
        ml.nn_epoch(np.zeros((3, 2)), np.zeros(2, int), Z, Z)


def test_star_import_from_a_folder_where_nothing_is_installed(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'apps')!r}); from simple_ml import *\n"
        "print(sorted(n for n in dir() if not n.startswith('_') and n != 'sys'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['loss_err', 'nn_epoch', 'parse_mnist', 'softmax_loss']"
