"""Kernels over dense arrays in row-major order. Each is plain Python that runs without Numba too, slowly."""

from __future__ import annotations

import math

from .loader import Kernel


@Kernel
def softmax_cross_entropy(z, labels, scale, residual, losses):
    """losses[i] = ln Σ_j e^z[i,j] − z[i, labels[i]];  residual = scale·(softmax(z) − one_hot(labels)).

    z and residual (N, C), labels (N,), losses (N,). Gives scale · Σ losses, NaN where a label is out of range.
    """
    rows, classes = z.shape
    everything = 0.0
    for i in range(rows):
        label = labels[i]
        if label < 0 or label >= classes:
            return math.nan
        largest = z[i, 0]
        for j in range(1, classes):
            largest = max(largest, z[i, j])
        total = scale * 0  # of the right dtype; not z[i, 0] * 0, which is NaN where that is −∞
        for j in range(classes):
            e = math.exp(z[i, j] - largest)
            residual[i, j] = e
            total += residual[i, j]
        losses[i] = math.log(total) - (z[i, label] - largest)
        share = scale / total
        for j in range(classes):
            residual[i, j] *= share
        residual[i, label] -= scale
        everything += losses[i]
    return everything * scale


@Kernel
def add_scaled(target, source, factor):
    """target += factor · source, for flat arrays of one length."""
    for i in range(target.size):
        target[i] += factor * source[i]


@Kernel
def mask_positive(g, y, out):
    """out = g where y > 0, else 0, for flat arrays of one length."""
    for i in range(g.size):
        out[i] = g[i] if y[i] > 0 else 0


@Kernel
def adam(x, g, m, v, beta1, rest1, beta2, rest2, rate, root, eps, penalty, keep):
    """One step of Adam on flat arrays of one length; x, m and v are written to.

    g += penalty·x;  m = beta1·m + rest1·g;  v = beta2·v + rest2·g²;  x = keep·x − rate·m/(root·√v + eps).
    """
    for i in range(x.size):
        slope = g[i] + penalty * x[i]
        m[i] = beta1 * m[i] + rest1 * slope
        v[i] = beta2 * v[i] + rest2 * slope * slope
        x[i] = keep * x[i] - rate * m[i] / (root * math.sqrt(v[i]) + eps)
