"""What one op costs beside its arithmetic: a chain of 100 additions of 4 × 4 matrices, forward alone or with the
gradient of the sum. One function per framework: it makes `step(i)`, which gives the last result, or the gradient."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle.optional import optional

from .inputs import weights

OPS = 100
START = 4, 4


def needle(backward):
    x = ndl.Tensor(weights(*START)[0])

    def step(i):
        y = x
        for _ in range(OPS):
            y = y + x
        if not backward:
            return y
        y.sum().backward()
        return x.grad

    return step


def torch_eager(backward, wrap=lambda function: function):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    x = torch.from_numpy(weights(*START)[0]).requires_grad_()

    @wrap
    def chain(x):
        y = x
        for _ in range(OPS):
            y = y + x
        return y

    def step(i):
        if not backward:
            return chain(x)
        x.grad = None
        chain(x).sum().backward()
        return x.grad

    return step


def torch_compiled(backward):
    return torch_eager(backward, wrap=optional("torch", extra="bench", why="the PyTorch rows").compile)


def jax_jit(backward):
    jax = optional("jax", extra="bench", why="the JAX rows")
    x = jax.numpy.array(weights(*START)[0])

    def chain(x):
        y = x
        for _ in range(OPS):
            y = y + x
        return y

    run = jax.jit(jax.grad(lambda x: chain(x).sum()) if backward else chain)
    return lambda i: run(x)


def by_hand(backward):
    (x,) = weights(*START)

    def step(i):
        y = x
        for _ in range(OPS):
            y = y + x
        if not backward:
            return y
        g = np.ones_like(y)  # of the sum; each addition hands it to both sides
        gradient = g
        for _ in range(OPS):
            gradient = gradient + g
        return gradient

    return step
