"""What every test gets: the same random numbers each time, and the data sets where they are."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Tests open no window, and JAX, where it is installed, looks for no GPU.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder that holds `mnist/` and its kin: NEEDLE_DATA, else shared/data beside the repository."""
    folder = Path(os.environ.get("NEEDLE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data sets: there is no folder {folder}; NEEDLE_DATA can name another")
    return folder
