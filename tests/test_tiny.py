"""The smoke test: the least of everything, in a second, with NumPy alone.

`python tests/test_tiny.py` runs it where no test runner is installed.
"""

from __future__ import annotations

import numpy as np

import needle as ndl


def test_a_tensor_holds_its_numbers():
    x = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.shape == (2, 2)
    assert x.numpy().tolist() == [[1, 2], [3, 4]]


def test_arithmetic():
    x = ndl.Tensor([1.0, 2.0, 4.0])
    assert ((1 - x) * 3 / x + x**2).numpy().tolist() == [1.0, 2.5, 13.75]


def test_the_gradient_of_a_matrix_product():
    a, b, g = np.random.randn(3, 4), np.random.randn(4, 2), np.random.randn(3, 2)
    x, y = ndl.Tensor(a, requires_grad=True), ndl.Tensor(b, requires_grad=True)
    ((x @ y) * ndl.Tensor(g)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), g @ b.T)
    np.testing.assert_allclose(y.grad.numpy(), a.T @ g)


def test_a_gradient_is_reduced_over_broadcast_axes():
    x, bias = ndl.Tensor(np.ones((5, 3))), ndl.Tensor(np.zeros(3), requires_grad=True)
    (x + bias).sum().backward()
    assert bias.grad.numpy().tolist() == [5, 5, 5]


def test_a_derivative_of_a_derivative():
    x = ndl.Tensor(np.array([2.0]), requires_grad=True)
    (x**3).sum().backward()
    first = x.grad
    first.sum().backward()
    assert first.numpy().tolist() == [12] and x.grad.numpy().tolist() == [12]  # 3x² and 6x at 2


def test_the_gradient_of_the_softmax_loss_is_softmax_minus_one_hot():
    logits, labels = np.random.randn(4, 3), np.array([0, 2, 1, 2])
    z = ndl.Tensor(logits, requires_grad=True)
    ndl.softmax_cross_entropy(z, labels).backward()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(z.grad.numpy(), (softmax - np.eye(3)[labels]) / 4, atol=1e-15)


def test_a_small_net_learns_xor():
    rng = np.random.default_rng(0)
    X, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])
    W, b = (ndl.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((2, 16), (16,)))
    V = ndl.Tensor(rng.standard_normal((16, 2)), requires_grad=True)
    sgd = ndl.optim.SGD([W, b, V], lr=0.2)
    for _ in range(200):
        logits = ndl.relu(ndl.Tensor(X) @ W + b) @ V
        loss = ndl.softmax_cross_entropy(logits, y)
        sgd.reset_grad()
        loss.backward()
        sgd.step()
    assert loss.item() < 0.1
    assert logits.numpy().argmax(axis=1).tolist() == y.tolist()


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: ok")
