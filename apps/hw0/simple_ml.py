"""Homework 0: softmax regression and a two-layer network in plain NumPy, gradients written by hand.

Needs NumPy alone. Letters: N rows, n inputs, d hidden units, k classes; labels y are integers (N,).
The training functions change their weights in place and visit the rows in order.
"""

from __future__ import annotations

import gzip
import importlib
import math
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

__all__ = [
    "add",
    "loss_err",
    "nn_epoch",
    "parse_mnist",
    "softmax_loss",
    "softmax_regression_epoch",
    "softmax_regression_epoch_cpp",
    "train_nn",
    "train_softmax",
]


def add(x, y):
    """x + y, for numbers and arrays alike."""
    return x + y


# ---- data ----

MOST_BYTES = 1 << 28  # MNIST has 47 million; a damaged header may promise anything


def parse_mnist(image_filename: str, label_filename: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST from two IDX files, gzipped or plain: X (N, 784) float32 in [0, 1], y (N,) uint8.

    Raises FileNotFoundError, or ValueError for a file that is not what it should be.
    """
    images = _read_idx(image_filename, ndim=3, what="images")
    labels = _read_idx(label_filename, ndim=1, what="labels")
    if len(images) != len(labels):
        raise ValueError(
            f"parse_mnist: {image_filename} has {len(images)} images, "
            f"{label_filename} has {len(labels)} labels; take both from the same set"
        )
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32), labels


def _read_idx(filename: str, ndim: int, what: str) -> np.ndarray:
    """The uint8 array of an IDX file: 00 00 08 ndim, then ndim sizes of 4 bytes, then the bytes."""
    with open(filename, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(filename, "rb") if packed else open(filename, "rb") as file:
            magic = file.read(4)
            if magic != bytes([0, 0, 8, ndim]):
                raise ValueError(
                    f"parse_mnist: {filename} starts with '{magic.hex(' ')}', wanted '00 00 08 0{ndim}' "
                    f"for {what}; give the images first, then the labels"
                )
            shape = struct.unpack(f">{ndim}I", file.read(4 * ndim))
            size = math.prod(shape)
            data = bytearray(file.read(min(size, MOST_BYTES) + 1))
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ValueError(f"parse_mnist: {filename} is damaged ({error}); get the file again") from None
    if len(data) != size:
        raise ValueError(
            f"parse_mnist: {filename} does not hold the {size} bytes of its shape {shape}; get the file again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


# ---- losses ----


def softmax_loss(Z: np.ndarray, y: np.ndarray) -> float:
    """Mean over rows of log Σ exp(Z) − Z[y], for logits Z (N, k); computed in float64."""
    Z, y = np.asarray(Z, dtype=np.float64), np.asarray(y)
    if Z.ndim != 2 or y.shape != (len(Z),):
        raise ValueError(f"logits {Z.shape}, y {y.shape}: wanted (N, k), (N,)")
    _check_labels(y, Z.shape[1])
    top = Z.max(axis=1, keepdims=True)  # exp would overflow without it
    log_sum = np.log(np.exp(Z - top).sum(axis=1)) + top[:, 0]
    return np.mean(log_sum - Z[np.arange(len(y)), y])


def loss_err(h: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Softmax loss and error rate of the logits h (N, k)."""
    return softmax_loss(h, y), np.mean(np.argmax(h, axis=1) != y)


def _softmax_minus_one_hot(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The derivative of N times the softmax loss by the logits."""
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1
    return P


# ---- one epoch of training, in place ----


def softmax_regression_epoch(
    X: np.ndarray, y: np.ndarray, theta: np.ndarray, lr: float = 0.1, batch: int = 100
) -> None:
    """One epoch of SGD on softmax regression; changes theta (n, k). X (N, n), y (N,)."""
    _check(X, y, (theta,), batch)
    for start in range(0, len(X), batch):
        Xb, yb = X[start : start + batch], y[start : start + batch]
        G = _softmax_minus_one_hot(Xb @ theta, yb)
        theta -= lr / len(Xb) * (Xb.T @ G)


def nn_epoch(X: np.ndarray, y: np.ndarray, W1: np.ndarray, W2: np.ndarray, lr: float = 0.1, batch: int = 100) -> None:
    """One epoch of SGD on relu(X W1) W2; changes W1 (n, d) and W2 (d, k). X (N, n), y (N,)."""
    _check(X, y, (W1, W2), batch)
    for start in range(0, len(X), batch):
        Xb, yb = X[start : start + batch], y[start : start + batch]
        H = np.maximum(Xb @ W1, 0)
        G2 = _softmax_minus_one_hot(H @ W2, yb)
        G1 = (G2 @ W2.T) * (H > 0)  # before W2 changes
        W1 -= lr / len(Xb) * (Xb.T @ G1)
        W2 -= lr / len(Xb) * (H.T @ G2)


def softmax_regression_epoch_cpp(X: np.ndarray, y: np.ndarray, theta: np.ndarray, lr: float, batch: int) -> None:
    """`softmax_regression_epoch` in plain loops, compiled by Numba when first called; or in NumPy."""
    _check(X, y, (theta,), batch)
    X, y = (a.astype(a.dtype.newbyteorder("="), copy=False) for a in (X, y))  # Numba knows no other
    compilable = theta.dtype in (np.float32, np.float64) and (
        X.dtype in (np.float32, np.float64) or X.dtype.kind in "iu"
    )
    (_compiled_epoch() if compilable else softmax_regression_epoch)(X, y, theta, lr, batch)


def _epoch_loops(X, y, theta, lr, batch):
    """What one would write in C: no array is made inside the loop over rows."""
    inputs, classes = theta.shape
    G = np.zeros(theta.shape, theta.dtype)
    p = np.zeros(classes, theta.dtype)
    for start in range(0, len(X), batch):
        end = min(start + batch, len(X))
        G[:] = 0
        for i in range(start, end):
            p[:] = 0
            for j in range(inputs):
                for c in range(classes):
                    p[c] += X[i, j] * theta[j, c]
            top = p[0]
            for c in range(1, classes):
                top = max(top, p[c])
            total = p[0] - p[0]
            for c in range(classes):
                p[c] = np.exp(p[c] - top)
                total += p[c]
            for c in range(classes):
                p[c] /= total
            p[y[i]] -= 1
            for j in range(inputs):
                for c in range(classes):
                    G[j, c] += X[i, j] * p[c]
        step = lr / (end - start)
        for j in range(inputs):
            for c in range(classes):
                theta[j, c] -= step * G[j, c]


@cache
def _compiled_epoch() -> Callable:
    # Numba takes half a second to import: only who asks for compiled code waits for it.
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return softmax_regression_epoch
    # What Numba keeps on disk can only be loaded by a module of the same name: one file a name.
    _epoch_loops.__qualname__ = f"_epoch_loops_of_{__name__}"
    try:
        return numba.njit(cache=__name__ in sys.modules, error_model="numpy")(_epoch_loops)
    except RuntimeError:  # no folder to keep the compiled code in
        return numba.njit(error_model="numpy")(_epoch_loops)


def _check(X: np.ndarray, y: np.ndarray, weights: tuple[np.ndarray, ...], batch: int) -> None:
    """Refuse what would train on nonsense; compiled loops would even write outside their arrays."""
    shapes = " and ".join(str(W.shape) for W in weights)
    if X.ndim != 2 or y.shape != (len(X),) or any(W.ndim != 2 for W in weights):
        raise ValueError(f"X {X.shape}, y {y.shape}, weights {shapes}: wanted (N, n), (N,), and matrices")
    if [W.shape[0] for W in weights] != [X.shape[1], *(W.shape[1] for W in weights[:-1])]:
        raise ValueError(f"X {X.shape} does not go with weights {shapes}: wanted X (N, n), weights (n, ...)")
    if any(W.dtype.kind != "f" for W in weights):
        kinds = " and ".join(str(W.dtype) for W in weights)
        raise TypeError(f"weights are {kinds}, wanted a float dtype: they are changed in place, by less than one")
    _check_labels(y, weights[-1].shape[1])
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")


def _check_labels(y: np.ndarray, classes: int) -> None:
    if y.dtype.kind not in "iu" or (y.size and not 0 <= y.min() <= y.max() < classes):
        raise ValueError(f"y must hold integers from 0 to {classes - 1}, one class a row")


# ---- training ----


def train_softmax(
    X_tr: np.ndarray,
    y_tr: np.ndarray,
    X_te: np.ndarray,
    y_te: np.ndarray,
    epochs: int = 10,
    lr: float = 0.5,
    batch: int = 100,
    cpp: bool = False,
) -> np.ndarray:
    """Train softmax regression from zero weights, printing a table; returns theta (n, k)."""
    theta = np.zeros((X_tr.shape[1], y_tr.max() + 1), np.float32)
    train = softmax_regression_epoch_cpp if cpp else softmax_regression_epoch
    _print_header()
    for epoch in range(epochs):
        train(X_tr, y_tr, theta, lr, batch)
        _print_row(epoch, loss_err(X_tr @ theta, y_tr), loss_err(X_te @ theta, y_te))
    return theta


def train_nn(
    X_tr: np.ndarray,
    y_tr: np.ndarray,
    X_te: np.ndarray,
    y_te: np.ndarray,
    hidden_dim: int = 500,
    epochs: int = 10,
    lr: float = 0.5,
    batch: int = 100,
) -> tuple[np.ndarray, np.ndarray]:
    """Train the two-layer network from a fixed random start, printing a table; returns (W1, W2)."""
    random = np.random.RandomState(0)
    W1 = (random.randn(X_tr.shape[1], hidden_dim) / np.sqrt(hidden_dim)).astype(np.float32)
    W2 = (random.randn(hidden_dim, y_tr.max() + 1) / np.sqrt(y_tr.max() + 1)).astype(np.float32)
    _print_header()
    for epoch in range(epochs):
        nn_epoch(X_tr, y_tr, W1, W2, lr, batch)
        train, test = (loss_err(np.maximum(X @ W1, 0) @ W2, y) for X, y in ((X_tr, y_tr), (X_te, y_te)))
        _print_row(epoch, train, test)
    return W1, W2


def _print_header() -> None:
    print("| Epoch | Train loss | Train err | Test loss | Test err |")


def _print_row(epoch: int, train: tuple[float, float], test: tuple[float, float]) -> None:
    (loss, err), (test_loss, test_err) = train, test
    print(f"| {epoch:5d} | {loss:10.5f} | {err:9.5f} | {test_loss:9.5f} | {test_err:8.5f} |", flush=True)


def main(folder: str = "data") -> None:
    """Train both on the MNIST files in `folder`."""
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = [str(Path(folder, f"{name}-ubyte.gz")) for name in names]
    data = (*parse_mnist(*files[:2]), *parse_mnist(*files[2:]))
    print("softmax regression")
    train_softmax(*data, epochs=10, lr=0.2)
    print("two-layer network, 100 hidden units")
    train_nn(*data, hidden_dim=100, epochs=20, lr=0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
