"""Softmax regression, one matrix, plain SGD. One function per framework: it makes `step(i)`, which trains on batch i
and gives the loss."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle.optional import optional

from .inputs import BATCH, CLASSES, LR, PIXELS, batches, weights


def needle(wrap=lambda function: function):
    pictures, labels = batches()
    x = [ndl.Tensor(part, requires_grad=False) for part in pictures]
    w = ndl.Tensor(weights(PIXELS, CLASSES)[0])
    sgd = ndl.optim.SGD([w], lr=LR)

    @wrap
    def train(x, labels):
        sgd.reset_grad()
        loss = ndl.softmax_cross_entropy(x @ w, labels)
        loss.backward()
        sgd.step()
        return loss

    return lambda i: train(x[i], labels[i])


def needle_jit():
    return needle(wrap=ndl.jit)


def torch_eager(wrap=lambda function: function):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    x, labels = map(torch.from_numpy, batches())
    w = torch.from_numpy(weights(PIXELS, CLASSES)[0]).requires_grad_()
    sgd = torch.optim.SGD([w], lr=LR)
    loss_of = wrap(lambda x, y: torch.nn.functional.cross_entropy(x @ w, y))

    def step(i):
        sgd.zero_grad()
        loss = loss_of(x[i], labels[i])
        loss.backward()
        sgd.step()
        return loss

    return step


def torch_compiled():
    return torch_eager(wrap=optional("torch", extra="bench", why="the PyTorch rows").compile)


def jax_jit():
    jax = optional("jax", extra="bench", why="the JAX rows")
    x, labels = batches()
    x, labels = [jax.numpy.array(part) for part in x], [jax.numpy.array(part) for part in labels]
    w = jax.numpy.array(weights(PIXELS, CLASSES)[0])

    def loss_of(w, x, y):
        logits = jax.nn.log_softmax(x @ w)
        return -jax.numpy.take_along_axis(logits, y[:, None], axis=1).mean()

    @jax.jit
    def update(w, x, y):
        loss, g = jax.value_and_grad(loss_of)(w, x, y)
        return w - LR * g, loss

    def step(i):
        nonlocal w
        w, loss = update(w, x[i], labels[i])
        return loss

    return step


def by_hand():
    x, labels = batches()
    (w,) = weights(PIXELS, CLASSES)
    rows = np.arange(BATCH)

    def step(i):
        z = x[i] @ w
        z -= z.max(axis=1, keepdims=True)
        picked = z[rows, labels[i]]
        p = np.exp(z, out=z)
        total = p.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - picked).mean()
        p /= total
        p[rows, labels[i]] -= 1
        p *= np.float32(LR / BATCH)
        np.subtract(w, x[i].T @ p, out=w)
        return loss

    return step
