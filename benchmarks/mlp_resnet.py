"""Homework 2's residual MLP: 784-100, 3 blocks, Adam, batches of 250. Each function makes `step(i)` of its framework,
which trains on batch i and gives the loss. Dropout begins after the first steps, so that those can be compared."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle import nn
from needle.optional import optional

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


def needle():
    x, labels = batches(BATCH)
    x, labels = ([ndl.Tensor(part, requires_grad=False) for part in parts] for parts in (x, labels))
    linears = []
    for weight, bias in layers():
        linear = nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = ndl.Tensor(weight), ndl.Tensor(bias[None])
        linears.append(linear)
    first, *inner, last = linears
    drops = [nn.Dropout(0.0) for _ in range(BLOCKS)]
    blocks = []
    for a, drop, b in zip(inner[::2], drops, inner[1::2], strict=True):
        fn = nn.Sequential(a, nn.BatchNorm1d(HIDDEN), nn.ReLU(), drop, b, nn.BatchNorm1d(WIDTH))
        blocks += [nn.Residual(fn), nn.ReLU()]
    model = nn.Sequential(first, nn.ReLU(), *blocks, last)
    adam, loss_of = ndl.optim.Adam(model.parameters(), lr=LR), nn.SoftmaxLoss()
    begin = starter(drops)

    def step(i):
        begin()
        adam.reset_grad()
        loss = loss_of(model(x[i]), labels[i])
        loss.backward()
        adam.step()
        return loss

    return step


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
    x, labels = map(torch.from_numpy, batches(BATCH))
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
