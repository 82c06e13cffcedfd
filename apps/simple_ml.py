"""Homework 1: the functions of a two-layer network on needle's tensors. Homework 0's NumPy twins are in `hw0/`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs in a clone where nothing is installed

import needle as ndl  # noqa: E402
from needle.data import read_mnist_pair  # noqa: E402

__all__ = ["loss_err", "nn_epoch", "parse_mnist", "softmax_loss"]


def parse_mnist(image_filename: str, label_filename: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST from two IDX files, gzipped or plain: X (N, 784) float32 in [0, 1], y (N,) uint8.

    Raises FileNotFoundError, or IDXError (a ValueError) for a file that is not what it should be.
    """
    images, labels = read_mnist_pair(image_filename, label_filename)
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32), labels


def softmax_loss(Z: ndl.Tensor, y_one_hot: ndl.Tensor) -> ndl.Tensor:
    """Mean over rows of log Σ exp(Z) − Z[y], for logits and one-hot labels (N, k); a tensor of no axes.

    Raises ValueError where the two differ in shape.
    """
    if Z.shape != y_one_hot.shape or len(Z.shape) != 2:
        raise ValueError(f"softmax_loss: logits {Z.shape} and labels {y_one_hot.shape} must both be (N, k), one-hot")
    chosen = (Z * y_one_hot.astype(Z.dtype)).sum(axes=1)
    return (ndl.logsumexp(Z, axes=1) - chosen).sum() / Z.shape[0]


def nn_epoch(
    X: np.ndarray, y: np.ndarray, W1: ndl.Tensor, W2: ndl.Tensor, lr: float = 0.1, batch: int = 100
) -> tuple[ndl.Tensor, ndl.Tensor]:
    """One epoch of SGD on relu(X W1) W2, rows in order; gives new W1 (n, d) and W2 (d, k). X (N, n), y (N,)."""
    if len(X) != len(y) or batch < 1:
        raise ValueError(
            f"nn_epoch: {len(X)} rows of X, {len(y)} labels, batch {batch}; wanted as many of both, and 1+"
        )
    classes = W2.shape[1]
    for start in range(0, len(X), batch):
        rows = slice(start, start + batch)
        images = ndl.Tensor(X[rows], requires_grad=False)
        labels = ndl.one_hot(ndl.Tensor(y[rows], requires_grad=False), classes, dtype=W2.dtype)
        softmax_loss(ndl.relu(images @ W1) @ W2, labels).backward()
        W1, W2 = (ndl.Tensor(W.numpy() - lr * W.grad.numpy(), dtype=W.dtype) for W in (W1, W2))  # type: ignore[union-attr]
    return W1, W2


def loss_err(h: ndl.Tensor, y: np.ndarray) -> tuple[np.ndarray, np.floating]:
    """Softmax loss and error rate of the logits h (N, k) for labels y (N,)."""
    labels = ndl.one_hot(ndl.Tensor(y, requires_grad=False), h.shape[1], dtype=h.dtype)
    return softmax_loss(h, labels).numpy(), np.mean(h.numpy().argmax(axis=1) != y)
