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

# What is skipped where NEEDLE_BACKEND=nd, and why: a file, or a test with its parameters as far as they matter.
# test_backends.py holds every op, layer and optimizer to the same on NDArrays, in float64 too.
FLOAT32 = "asks for NumPy's choice of dtype; under nd what is given without one is float32"
STORAGE = "treats the storage as a numpy.ndarray"
NUMPY_ONLY = {
    "test_ops.py": FLOAT32,
    "test_nn.py": FLOAT32,
    "test_nn_mutants.py": FLOAT32,
    "test_optim.py": FLOAT32,
    "test_errors.py": FLOAT32,
    "test_shapes.py": FLOAT32,
    "test_autograd.py::test_the_seed_may_be": FLOAT32,
    "test_autograd.py::test_a_hook_that_returns_the_wrong_thing": FLOAT32,
    "test_autograd.py::test_an_in_place_operator_that_would_change": FLOAT32,
    "test_autograd.py::test_a_wrong_rule_is_reported": FLOAT32,
    "test_autograd.py::test_integer_tensors_take_part": FLOAT32,
    "test_autograd.py::test_the_dtype_is_numpys_choice": FLOAT32,
    "test_autograd.py::test_a_number_becomes_a_writable_array": STORAGE,
    "test_autograd.py::test_a_tensor_of_a_tensor_shares_storage": FLOAT32,
    "test_autograd.py::test_shape_dtype_and_device": FLOAT32,
    "test_autograd.py::test_the_data_setter_wants": FLOAT32,
    "test_cli.py::test_info_tells_of_versions": "asks for the name of the NumPy backend",
    "test_corners.py::test_differences_of_mixed_dtypes": FLOAT32,
    "test_corners.py::test_differences_of_unsigned_numbers": FLOAT32,
    "test_corners.py::test_bits_are_no_truth_values": FLOAT32,
    "test_corners.py::test_half_precision": FLOAT32,
    "test_data_loading.py::test_batches_are_tuples_of_tensors_without_gradient_that_keep_the_dtype": FLOAT32,
    "test_data_loading.py::test_writing_into_a_batch": STORAGE,
    "test_data_loading.py::test_a_broken_version_is_caught[the dataset's own memory": STORAGE,
    "test_data_loading.py::test_a_device_is_asked": "makes a device of its own out of NumPy's",
    "test_debug.py::test_switches_go_together": FLOAT32,
    "test_debug.py::test_a_tensor_that_was_bad_from_the_start": FLOAT32,
    "test_debug.py::test_a_promotion_": FLOAT32,
    "test_debug.py::test_a_warning_comes_once": FLOAT32,
    "test_debug.py::test_the_page_on_errors": "shows NumPy's own words",
    "test_gradcheck.py::test_a_broken_rule_is_caught_and_named[Log: NumPy inside": STORAGE,
    "test_gradcheck.py::test_a_broken_rule_is_caught_and_named[GetItem: taken twice": STORAGE,
    "test_gradcheck.py::test_what_is_wrong_at_order_2_alone_passes_at_order_1[Log: NumPy inside": STORAGE,
    "test_gradcheck.py::test_our_own_table_kills": FLOAT32,
    "test_gradcheck.py::test_a_promise_at_a_kink": FLOAT32,
    "test_gradcheck.py::test_what_bypasses_the_graph_is_told_from_a_wrong_rule[<lambda>2": FLOAT32,
    "test_gradcheck.py::test_what_bypasses_the_graph_is_told_from_a_wrong_rule[<lambda>3": FLOAT32,
    "test_gradcheck.py::test_an_op_that_is_not_deterministic": STORAGE,
    "test_gradcheck.py::test_inputs_of_which_none": FLOAT32,
    "test_gradcheck.py::test_inputs_and_outputs_may_be_nested": FLOAT32,
    "test_init.py::test_randb_is_true_up_to_p_itself": "asks of the last bit of a float64 draw",
    "test_init.py::test_constants": FLOAT32,
    "test_simple_ml.py::test_softmax_loss[float64": FLOAT32,
    "test_simple_ml.py::test_the_gradient": FLOAT32,
    "test_simple_ml.py::test_nn_epoch": FLOAT32,
    "test_storage.py::test_nan_and_tensors_come_back": FLOAT32,
    "test_tiny.py::test_the_gradient": FLOAT32,
}


def pytest_collection_modifyitems(items):
    if os.environ.get("NEEDLE_BACKEND") != "nd":
        return
    for item in items:
        name = f"{item.path.name}::{item.name}"
        for start, reason in NUMPY_ONLY.items():
            if name.startswith(start):
                item.add_marker(pytest.mark.skip(reason=reason))


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
