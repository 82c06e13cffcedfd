"""What the tests of NDArray share: the devices, random arrays in two libraries, and a comparison of them."""

from __future__ import annotations

import numpy as np
import pytest

from needle import backend_ndarray as nd

DEVICES = [
    pytest.param(d, id=d.name, marks=pytest.mark.skipif(not d.enabled(), reason=f"{d} is not enabled on this machine"))
    for d in nd.all_devices()
]
ON_CPU = [d for d in DEVICES if d.id != "cuda"]
RNG = np.random.default_rng(0)


def pair(device, *shape, dtype="float32"):
    """Random numbers as a NumPy array and as an NDArray."""
    values = (RNG.standard_normal(shape) * 3).astype(dtype)
    return values, nd.array(values, dtype=dtype, device=device)


def strides_of(array):
    """In elements."""
    return tuple(s // array.itemsize for s in array.strides)


def same(got, wanted, band=1e-6):
    """An NDArray of the shape, dtype and numbers of a NumPy array."""
    assert isinstance(got, nd.NDArray), type(got)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got.numpy(), wanted, rtol=band, atol=band)
