"""Two matrices with relu between them, plain SGD. One function per framework: it makes `step(i)`, which trains on
batch i and gives the loss."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle.optional import optional

from .inputs import BATCH, CLASSES, LR, PIXELS, batches, weights


def needle(hidden, wrap=lambda function: function):
    pictures, labels = batches()
    x = [ndl.Tensor(part, requires_grad=False) for part in pictures]
    w1, w2 = map(ndl.Tensor, weights(PIXELS, hidden, CLASSES))
    sgd = ndl.optim.SGD([w1, w2], lr=LR)

    @wrap
    def train(x, labels):
        sgd.reset_grad()
        loss = ndl.softmax_cross_entropy(ndl.relu(x @ w1) @ w2, labels)
        loss.backward()
        sgd.step()
        return loss

    return lambda i: train(x[i], labels[i])


def needle_jit(hidden):
    return needle(hidden, wrap=ndl.jit)


def torch_eager(hidden, wrap=lambda function: function):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    x, labels = map(torch.from_numpy, batches())
    w1, w2 = (torch.from_numpy(w).requires_grad_() for w in weights(PIXELS, hidden, CLASSES))
    sgd = torch.optim.SGD([w1, w2], lr=LR)
    loss_of = wrap(lambda x, y: torch.nn.functional.cross_entropy(torch.relu(x @ w1) @ w2, y))

    def step(i):
        sgd.zero_grad()
        loss = loss_of(x[i], labels[i])
        loss.backward()
        sgd.step()
        return loss

    return step


def torch_compiled(hidden):
    return torch_eager(hidden, wrap=optional("torch", extra="bench", why="the PyTorch rows").compile)


def jax_jit(hidden):
    jax = optional("jax", extra="bench", why="the JAX rows")
    x, labels = batches()
    x, labels = [jax.numpy.array(part) for part in x], [jax.numpy.array(part) for part in labels]
    parameters = [jax.numpy.array(w) for w in weights(PIXELS, hidden, CLASSES)]

    def loss_of(parameters, x, y):
        w1, w2 = parameters
        logits = jax.nn.log_softmax(jax.nn.relu(x @ w1) @ w2)
        return -jax.numpy.take_along_axis(logits, y[:, None], axis=1).mean()

    @jax.jit
    def update(parameters, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        return [w - LR * g for w, g in zip(parameters, gradients, strict=True)], loss

    def step(i):
        nonlocal parameters
        parameters, loss = update(parameters, x[i], labels[i])
        return loss

    return step


def by_hand(hidden):
    x, labels = batches()
    w1, w2 = weights(PIXELS, hidden, CLASSES)
    rows, lr = np.arange(BATCH), np.float32(LR)

    def step(i):
        h = x[i] @ w1
        np.maximum(h, 0, out=h)
        z = h @ w2
        z -= z.max(axis=1, keepdims=True)
        picked = z[rows, labels[i]]
        p = np.exp(z, out=z)
        total = p.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - picked).mean()
        p /= total
        p[rows, labels[i]] -= 1
        p *= np.float32(1 / BATCH)
        g1, g2 = p @ w2.T, h.T @ p
        g1 *= h > 0
        for w, g in ((w1, x[i].T @ g1), (w2, g2)):
            g *= lr
            w -= g
        return loss

    return step
