"""Kernels over dense arrays in row-major order. Each is plain Python that runs without Numba too, slowly."""

from __future__ import annotations

import math

from .loader import Kernel


@Kernel
def all_within(labels, classes):
    """Whether every one of flat whole numbers is in [0, classes)."""
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= classes:
            return False
    return True


@Kernel
def shift_logits(z, labels, shifted, losses):
    """shifted = z − max z of its row, of which nothing overflows in e^shifted;  losses[i] = −shifted[i, labels[i]].

    z and shifted (N, C), labels and losses (N,). Whether all labels are in range; if not, nothing is to be used.
    """
    rows, classes = z.shape
    for i in range(rows):
        label = labels[i]
        if label < 0 or label >= classes:
            return False
        largest = z[i, 0]
        for j in range(1, classes):
            largest = max(largest, z[i, j])
        for j in range(classes):
            shifted[i, j] = z[i, j] - largest
        losses[i] = -shifted[i, label]
    return True


@Kernel
def softmax_residual(e, labels, scale, losses):
    """e, which comes as e^shifted, becomes scale·(softmax(z) − one_hot(labels));  losses[i] += ln Σ_j e[i, j].

    Gives scale · Σ losses.
    """
    rows, classes = e.shape
    everything = 0.0
    for i in range(rows):
        total = scale * 0  # of the right dtype
        for j in range(classes):
            total += e[i, j]
        losses[i] += math.log(total)
        share = scale / total
        for j in range(classes):
            e[i, j] *= share
        e[i, labels[i]] -= scale
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
