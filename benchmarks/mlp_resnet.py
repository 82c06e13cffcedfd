"""Homework 2's residual MLP: 784-100, 3 blocks, Adam, batches of 250. Each function makes `step(i)` of its framework,
which trains on batch i and gives the loss. Dropout begins after the first steps, so that those can be compared."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle import nn
from needle.optional import optional

from . import jax_adam
from .inputs import CHECKED_STEPS, CLASSES, PIXELS, batches

BATCH, WIDTH, HIDDEN, BLOCKS, P, LR = 250, 100, 50, 3, 0.1, 1e-3


def layers() -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight (in, out) and bias of each Linear, in order: the first, two a block, the last."""
    widths = [(PIXELS, WIDTH), *[(WIDTH, HIDDEN), (HIDDEN, WIDTH)] * BLOCKS, (WIDTH, CLASSES)]
    random = np.random.RandomState(2)
    return [
        ((random.randn(m, n) / np.sqrt(m)).astype("float32"), (random.randn(n) / 10).astype("float32"))
        for m, n in widths
    ]


def centred() -> tuple[np.ndarray, np.ndarray]:
    """Batches around 0. With pixels that are all positive a unit is on or off for a whole batch; where rounding decides
    which, Adam's first steps, whose size is the same for every gradient, lead somewhere else."""
    x, labels = batches(BATCH)
    return x - np.float32(0.5), labels


def needle(wrap=lambda function: function, generator=None):
    x, labels = centred()
    x, labels = ([ndl.Tensor(part, requires_grad=False) for part in parts] for parts in (x, labels))
    linears = []
    for weight, bias in layers():
        linear = nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = ndl.Tensor(weight), ndl.Tensor(bias[None])
        linears.append(linear)
    first, *inner, last = linears
    drops = [nn.Dropout(0.0, generator) for _ in range(BLOCKS)]
    blocks = []
    for a, drop, b in zip(inner[::2], drops, inner[1::2], strict=True):
        fn = nn.Sequential(a, nn.BatchNorm1d(HIDDEN), nn.ReLU(), drop, b, nn.BatchNorm1d(WIDTH))
        blocks += [nn.Residual(fn), nn.ReLU()]
    model = nn.Sequential(first, nn.ReLU(), *blocks, last)
    adam, loss_of = ndl.optim.Adam(model.parameters(), lr=LR), nn.SoftmaxLoss()
    begin = starter(drops)

    @wrap
    def train(x, labels):
        adam.reset_grad()
        loss = loss_of(model(x), labels)
        loss.backward()
        adam.step()
        return loss

    def step(i):
        begin()
        return train(x[i], labels[i])

    return step


def needle_jit():
    return needle(wrap=ndl.jit)


def needle_jit_generator():
    return needle(wrap=ndl.jit, generator=ndl.Generator(0))


def starter(drops):
    """A function to call before each step: it switches dropout on once the steps that are compared are done."""
    steps = 0

    def begin():
        nonlocal steps
        steps += 1
        if steps == CHECKED_STEPS + 1:
            for drop in drops:
                drop.p = P

    return begin


def torch_eager(fused=False, wrap=lambda function: function):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    x, labels = map(torch.from_numpy, centred())
    linears = []
    for weight, bias in layers():
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(weight.T.copy()), torch.from_numpy(bias)
        linears.append(linear)
    first, *inner, last = linears
    drops = [torch.nn.Dropout(0.0) for _ in range(BLOCKS)]

    class Residual(torch.nn.Module):
        def __init__(self, fn):
            super().__init__()
            self.fn = fn

        def forward(self, x):
            return torch.relu(self.fn(x) + x)

    norm, relu = torch.nn.BatchNorm1d, torch.nn.ReLU
    blocks = [
        Residual(torch.nn.Sequential(a, norm(HIDDEN), relu(), drop, b, norm(WIDTH)))
        for a, drop, b in zip(inner[::2], drops, inner[1::2], strict=True)
    ]
    model = torch.nn.Sequential(first, relu(), *blocks, last)
    adam = torch.optim.Adam(model.parameters(), lr=LR, fused=fused)
    loss_of = wrap(lambda x, y: torch.nn.functional.cross_entropy(model(x), y))
    begin = starter(drops)

    def step(i):
        begin()
        adam.zero_grad()
        loss = loss_of(x[i], labels[i])
        loss.backward()
        adam.step()
        return loss

    return step


def torch_fused():
    return torch_eager(fused=True)


def torch_compiled():
    return torch_eager(fused=True, wrap=optional("torch", extra="bench", why="the PyTorch rows").compile)


def jax_jit():
    jax = optional("jax", extra="bench", why="the JAX rows")
    jnp = jax.numpy
    x, labels = centred()
    x, labels = [jnp.array(part) for part in x], [jnp.array(part) for part in labels]
    scales = [(jnp.ones(n), jnp.zeros(n)) for _ in range(BLOCKS) for n in (HIDDEN, WIDTH)]
    parameters = [[(jnp.array(w), jnp.array(b)) for w, b in layers()], scales]
    moments = jax_adam.start(jax, parameters)

    def normed(h, scale):
        return (h - h.mean(0)) * jax.lax.rsqrt(h.var(0) + 1e-5) * scale[0] + scale[1]

    def loss_of(parameters, x, y, key, p):
        (first, *inner, last), scales = parameters
        h = jax.nn.relu(x @ first[0] + first[1])
        for k in range(BLOCKS):
            a, b = inner[2 * k], inner[2 * k + 1]
            r = jax.nn.relu(normed(h @ a[0] + a[1], scales[2 * k]))
            r = r * (jax.random.uniform(jax.random.fold_in(key, k), r.shape) >= p) / (1 - p)
            h = jax.nn.relu(h + normed(r @ b[0] + b[1], scales[2 * k + 1]))
        logits = jax.nn.log_softmax(h @ last[0] + last[1])
        return -jnp.take_along_axis(logits, y[:, None], axis=1).mean()

    @jax.jit
    def update(parameters, moments, t, rate, root, x, y, p):
        key = jax.random.fold_in(jax.random.PRNGKey(0), t)
        loss, grads = jax.value_and_grad(loss_of)(parameters, x, y, key, p)
        return *jax_adam.descend(jax, parameters, moments, grads, rate, root), loss

    done = 0

    def step(i):
        nonlocal parameters, moments, done
        done += 1
        p = P if done > CHECKED_STEPS else 0.0
        rate, root = jax_adam.factors(LR, done)
        parameters, moments, loss = update(parameters, moments, done, rate, root, x[i], labels[i], p)
        return loss

    return step
