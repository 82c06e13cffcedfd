"""Kernels of batch normalisation. Sums run in float64, which NumPy's do not."""

from __future__ import annotations

import math

from .loader import Kernel


@Kernel
def normalize_columns(x, w, b, eps, sums, mu, variance, scale, hat, y):
    """y = hat·w + b,  hat = (x − μ)·scale,  scale = 1/√(σ² + eps), by column.

    x, hat and y (N, C); w, b, mu, variance and scale (C,); sums (C,) of float64 is scratch.
    """
    rows, columns = x.shape
    sums[:] = 0
    for i in range(rows):
        for j in range(columns):
            sums[j] += x[i, j]
    for j in range(columns):
        mu[j] = sums[j] / rows
    sums[:] = 0
    for i in range(rows):
        for j in range(columns):
            deviation = x[i, j] - mu[j]
            hat[i, j] = deviation
            sums[j] += deviation * deviation
    for j in range(columns):
        variance[j] = sums[j] / rows
        scale[j] = 1 / math.sqrt(sums[j] / rows + eps)
    for i in range(rows):
        for j in range(columns):
            hat[i, j] *= scale[j]
            y[i, j] = hat[i, j] * w[j] + b[j]


@Kernel
def normalize_columns_gradient(g, g_mu, g_variance, hat, w, scale, sums, dx, dw, db):
    """What `ops_normalization.BatchNormalize` says of dx, dw and db; sums (3, C) of float64 is scratch."""
    rows, columns = g.shape
    sums[:] = 0
    for i in range(rows):
        for j in range(columns):
            sums[0, j] += g[i, j]
            sums[1, j] += g[i, j] * hat[i, j]
    factor, slope, constant = sums[2], dw, db  # each is read for the last time before it is written
    for j in range(columns):
        factor[j] = scale[j] * w[j]
    for j in range(columns):
        slope[j] = 2 * g_variance[j] / (rows * scale[j]) - factor[j] * sums[1, j] / rows
        constant[j] = (g_mu[j] - factor[j] * sums[0, j]) / rows
    for i in range(rows):
        for j in range(columns):
            dx[i, j] = g[i, j] * factor[j] + hat[i, j] * slope[j] + constant[j]
    for j in range(columns):
        dw[j] = sums[1, j]
        db[j] = sums[0, j]
