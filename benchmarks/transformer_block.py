"""A pre-norm transformer block from plain ops: causal attention and a GELU MLP, both with residuals; mean square, Adam.
Each function makes `step(i)` of its framework, which trains on batch i and gives the loss."""

from __future__ import annotations

import math

import numpy as np

import needle as ndl
from needle.optional import optional

from . import jax_adam
from .inputs import sequences

BATCH, LENGTH, WIDTH, HEADS, LR = 16, 64, 128, 8, 1e-3
HEAD = WIDTH // HEADS
SCALE = 1 / math.sqrt(HEAD)
SHAPE = BATCH, LENGTH, WIDTH


def parameters() -> dict[str, np.ndarray]:
    """Matrices (in, out) of variance 1/in, their biases, and the two normalisations' scales and shifts."""
    random, made = np.random.RandomState(2), {}
    for name, m, n in [("qkv", WIDTH, 3 * WIDTH), ("out", WIDTH, WIDTH), ("up", WIDTH, 4 * WIDTH)]:
        made[name], made[name + "_bias"] = random.randn(m, n) / np.sqrt(m), random.randn(n) / 10
    made["down"], made["down_bias"] = random.randn(4 * WIDTH, WIDTH) / np.sqrt(4 * WIDTH), random.randn(WIDTH) / 10
    for name in ("first", "second"):
        made[name + "_scale"], made[name + "_shift"] = np.ones(WIDTH), np.zeros(WIDTH)
    return {name: values.astype("float32") for name, values in made.items()}


def causal() -> np.ndarray:
    """True where a row, which is a moment, may look: at itself and before."""
    return np.tri(LENGTH, dtype=bool)


def needle(wrap=lambda function: function):
    x, target = ([ndl.Tensor(part, requires_grad=False) for part in parts] for parts in sequences(*SHAPE))
    p = {name: ndl.Tensor(values) for name, values in parameters().items()}
    seen = ndl.Tensor(causal(), dtype="bool", requires_grad=False)
    adam = ndl.optim.Adam(p.values(), lr=LR)

    def attention(h):
        qkv = (h @ p["qkv"] + p["qkv_bias"]).reshape((BATCH, LENGTH, 3, HEADS, HEAD))
        q, k, v = ndl.split(qkv.permute((2, 0, 3, 1, 4)))
        scores = ndl.where(seen, q @ k.transpose() * SCALE, -math.inf)
        mixed = (ndl.softmax(scores) @ v).permute((0, 2, 1, 3)).reshape(SHAPE)
        return mixed @ p["out"] + p["out_bias"]

    def mlp(h):
        return ndl.gelu(h @ p["up"] + p["up_bias"], "tanh") @ p["down"] + p["down_bias"]

    @wrap
    def train(x, target):
        adam.reset_grad()
        h = x + attention(ndl.layer_normalize(x, p["first_scale"], p["first_shift"]))
        h = h + mlp(ndl.layer_normalize(h, p["second_scale"], p["second_shift"]))
        loss = ndl.mean((h - target) ** 2)
        loss.backward()
        adam.step()
        return loss

    return lambda i: train(x[i], target[i])


def needle_jit():
    return needle(wrap=ndl.jit)


def torch_eager(fused=False, wrap=lambda function: function):
    torch = optional("torch", extra="bench", why="the PyTorch rows")
    functional = torch.nn.functional
    x, target = map(torch.from_numpy, sequences(*SHAPE))
    p = {name: torch.from_numpy(values).requires_grad_() for name, values in parameters().items()}
    unseen = torch.from_numpy(~causal())
    adam = torch.optim.Adam(p.values(), lr=LR, fused=fused)

    def attention(h):
        qkv = (h @ p["qkv"] + p["qkv_bias"]).reshape(BATCH, LENGTH, 3, HEADS, HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * SCALE).masked_fill(unseen, -math.inf)
        mixed = (torch.softmax(scores, -1) @ v).permute(0, 2, 1, 3).reshape(SHAPE)
        return mixed @ p["out"] + p["out_bias"]

    def mlp(h):
        return functional.gelu(h @ p["up"] + p["up_bias"], approximate="tanh") @ p["down"] + p["down_bias"]

    @wrap
    def loss_of(x, target):
        h = x + attention(functional.layer_norm(x, (WIDTH,), p["first_scale"], p["first_shift"]))
        h = h + mlp(functional.layer_norm(h, (WIDTH,), p["second_scale"], p["second_shift"]))
        return functional.mse_loss(h, target)

    def step(i):
        adam.zero_grad()
        loss = loss_of(x[i], target[i])
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
    x, target = ([jnp.array(part) for part in parts] for parts in sequences(*SHAPE))
    p = {name: jnp.array(values) for name, values in parameters().items()}
    moments = jax_adam.start(jax, p)
    seen = jnp.array(causal())

    def normed(h, scale, shift):
        centred = h - h.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale + shift

    def attention(p, h):
        qkv = (h @ p["qkv"] + p["qkv_bias"]).reshape(BATCH, LENGTH, 3, HEADS, HEAD)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = jnp.where(seen, q @ k.swapaxes(-2, -1) * SCALE, -math.inf)
        mixed = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(SHAPE)
        return mixed @ p["out"] + p["out_bias"]

    def loss_of(p, x, target):
        h = x + attention(p, normed(x, p["first_scale"], p["first_shift"]))
        h2 = normed(h, p["second_scale"], p["second_shift"])
        h = h + jax.nn.gelu(h2 @ p["up"] + p["up_bias"], approximate=True) @ p["down"] + p["down_bias"]
        return ((h - target) ** 2).mean()

    @jax.jit
    def update(p, moments, rate, root, x, target):
        loss, grads = jax.value_and_grad(loss_of)(p, x, target)
        return *jax_adam.descend(jax, p, moments, grads, rate, root), loss

    done = 0

    def step(i):
        nonlocal p, moments, done
        done += 1
        rate, root = jax_adam.factors(LR, done)
        p, moments, loss = update(p, moments, rate, root, x[i], target[i])
        return loss

    return step
