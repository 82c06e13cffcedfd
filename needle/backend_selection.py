"""Which backend is on: read once, from the environment variable NEEDLE_BACKEND, silently."""

from __future__ import annotations

import os

import numpy as array_api

from .backend_numpy import Device, all_devices, cpu, default_device, device_of

BACKEND = os.environ.get("NEEDLE_BACKEND", "np")
if BACKEND != "np":
    raise RuntimeError(f"NEEDLE_BACKEND={BACKEND!r} is not a backend of needle; known: 'np' (or leave it unset)")

NDArray = array_api.ndarray

__all__ = ["BACKEND", "Device", "NDArray", "all_devices", "array_api", "cpu", "default_device", "device_of"]
