"""One LSTM layer, its cell written out in plain ops over all moments; mean square of its outputs, SGD. Each function
makes `step(i)` of its framework, which trains on batch i and gives the loss."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle.optional import optional

from .inputs import sequences

LENGTH, BATCH, INPUT, HIDDEN = 20, 32, 64, 128
LR = 100.0  # for the slope of a mean over 81,920 outputs; with 1 the first losses would hardly tell a wrong update
SHAPE = LENGTH, BATCH, INPUT


def parameters() -> list[np.ndarray]:
    """(INPUT, 4 HIDDEN) and (HIDDEN, 4 HIDDEN) of variance 1/HIDDEN, and a bias: input, forget, new and output gate."""
    random = np.random.RandomState(2)
    matrices = [random.randn(rows, 4 * HIDDEN) / np.sqrt(HIDDEN) for rows in (INPUT, HIDDEN)]
    return [values.astype("float32") for values in (*matrices, random.randn(4 * HIDDEN) / 10)]


def data() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (BATCHES, LENGTH, BATCH, INPUT), and what the outputs should be, (…, HIDDEN), in (−1, 1)."""
    x, target = sequences(*SHAPE, HIDDEN)
    return x, np.tanh(target)


def needle(wrap=lambda function: function):
    x, target = ([ndl.Tensor(part, requires_grad=False) for part in parts] for parts in data())
    wx, wh, b = map(ndl.Tensor, parameters())
    zeros = ndl.zeros(BATCH, HIDDEN)
    sgd = ndl.optim.SGD([wx, wh, b], lr=LR)

    def cell(x, h, c):
        z = x @ wx + h @ wh + b
        i, f, g, o = (z[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        c = ndl.sigmoid(f) * c + ndl.sigmoid(i) * ndl.tanh(g)
        return ndl.sigmoid(o) * ndl.tanh(c), c

    @wrap
    def train(x, target):
        sgd.reset_grad()
        h, c, outputs = zeros, zeros, []
        for t in range(LENGTH):
            h, c = cell(x[t], h, c)
            outputs.append(h)
        loss = ndl.mean((ndl.stack(outputs) - target) ** 2)
        loss.backward()
        sgd.step()
        return loss

    return lambda i: train(x[i], target[i])


def needle_jit():
    return needle(wrap=ndl.jit)


def torch_eager(wrap=lambda function: function):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    x, target = map(torch.from_numpy, data())
    wx, wh, b = (torch.from_numpy(values).requires_grad_() for values in parameters())
    zeros = torch.zeros(BATCH, HIDDEN)
    sgd = torch.optim.SGD([wx, wh, b], lr=LR)

    def cell(x, h, c):
        i, f, g, o = (x @ wx + h @ wh + b).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    @wrap
    def loss_of(x, target):
        h, c, outputs = zeros, zeros, []
        for t in range(LENGTH):
            h, c = cell(x[t], h, c)
            outputs.append(h)
        return torch.nn.functional.mse_loss(torch.stack(outputs), target)

    def step(i):
        sgd.zero_grad()
        loss = loss_of(x[i], target[i])
        loss.backward()
        sgd.step()
        return loss

    return step


def torch_compiled():
    return torch_eager(wrap=optional("torch", extra="bench", why="the PyTorch rows").compile)


def jax_jit():
    jax = optional("jax", extra="bench", why="the JAX rows")
    jnp = jax.numpy
    x, target = ([jnp.array(part) for part in parts] for parts in data())
    p = [jnp.array(values) for values in parameters()]
    zeros = jnp.zeros((BATCH, HIDDEN))

    def loss_of(p, x, target):
        wx, wh, b = p

        def cell(state, x):
            h, c = state
            i, f, g, o = jnp.split(x @ wx + h @ wh + b, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        _, outputs = jax.lax.scan(cell, (zeros, zeros), x)
        return ((outputs - target) ** 2).mean()

    @jax.jit
    def update(p, x, target):
        loss, grads = jax.value_and_grad(loss_of)(p, x, target)
        return [w - LR * g for w, g in zip(p, grads, strict=True)], loss

    def step(i):
        nonlocal p
        p, loss = update(p, x[i], target[i])
        return loss

    return step
