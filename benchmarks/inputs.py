"""The numbers that every framework starts from: the same batches, the same weights."""

from __future__ import annotations

import numpy as np

BATCHES, BATCH, PIXELS, CLASSES = 10, 100, 784, 10
LR = 0.1
CHECKED_STEPS = 5  # the first ones, whose numbers every rival must share


def batches(batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (BATCHES, batch, PIXELS), float32 in [0, 1), and labels (BATCHES, batch), int64. As MNIST in shape only:
    speed does not depend on what they show."""
    random = np.random.RandomState(0)
    x = random.rand(BATCHES, batch, PIXELS).astype("float32")
    return x, random.randint(CLASSES, size=(BATCHES, batch)).astype("int64")


def weights(*widths: int) -> list[np.ndarray]:
    """One float32 matrix between each two widths, normal with variance 1 / (rows)."""
    random = np.random.RandomState(1)
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [(random.randn(m, n) / np.sqrt(m)).astype("float32") for m, n in pairs]


def sequences(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """x (BATCHES, n, m, features) and targets (BATCHES, n, m, wanted), float32, normal.   shape: n, m, features, and
    wanted if it is not features."""
    n, m, features, wanted = shape if len(shape) == 4 else (*shape, shape[-1])
    random = np.random.RandomState(3)
    x, target = (random.randn(BATCHES, n, m, width).astype("float32") for width in (features, wanted))
    return x, target
