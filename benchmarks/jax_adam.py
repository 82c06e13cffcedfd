"""Adam for the rows of JAX, which brings no optimizer."""

from __future__ import annotations

from typing import Any


def start(jax: Any, parameters: Any) -> list[Any]:
    """The two moments, of zeros."""
    return [jax.tree.map(jax.numpy.zeros_like, parameters) for _ in range(2)]


def descend(jax: Any, parameters: Any, moments: list[Any], grads: Any, rate: Any, root: Any) -> tuple[Any, list[Any]]:
    """Parameters and moments after a step, inside what is compiled. rate and root: of `factors`."""
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], grads)
    new = jax.tree.map(lambda w, m, v: w - rate * m / (jax.numpy.sqrt(v) / root + 1e-8), parameters, m, v)
    return new, [m, v]


def factors(lr: float, t: int) -> tuple[float, float]:
    """The bias corrections of step t, in float64: 1 − 0.999 has 4 digits in float32."""
    return lr / (1 - 0.9**t), (1 - 0.999**t) ** 0.5
