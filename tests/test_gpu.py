"""On a real GPU: the op table, optimizers, trainings, batches, want of memory, DLPack. Without one all is skipped."""

from __future__ import annotations

import fake_cupy
import numpy as np
import optim_check
import pytest
from nn_examples import distinct
from op_check import check_row, near
from op_table import ROWS
from test_backends import mlp_resnet, softmax_regression

import needle as ndl
from needle import backend_cupy
from needle import backend_ndarray as nd
from needle.data import DataLoader, NDArrayDataset

CPU = ndl.Tensor.make_const(np.zeros(1)).device  # NumPy's, under both backends
GPU = backend_cupy.cuda()
BOTH = pytest.mark.parametrize("device", [GPU, nd.cuda()], ids=str)

if not GPU.enabled():
    pytest.skip(f"needs a GPU: {GPU.why_not()}", allow_module_level=True)


@BOTH
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_every_op_on_a_real_gpu(row, device):
    check_row(row, device)


@BOTH
@pytest.mark.parametrize("train", [softmax_regression, mlp_resnet])
def test_trainings_on_a_real_gpu(train, device):
    for got, wanted in zip(train(device), train(CPU), strict=True):
        near(got, wanted, 1e-3, "after training")


@pytest.mark.parametrize("case", optim_check.CASES, ids=lambda case: case.name)
def test_every_optimizer_on_a_real_gpu(case):
    optim_check.check(case, device=GPU)


def test_batches_on_a_real_gpu():
    wanted = distinct(1000, 3).astype("float32")
    loader = DataLoader(NDArrayDataset(wanted, np.arange(1000)), 10, device=GPU, prefetch=3)
    got = [(X * 1).numpy() for X, _ in loader]
    assert np.concatenate(got).tolist() == wanted.tolist()


def test_want_of_memory_on_a_real_gpu():
    free, total = GPU.memory()
    with pytest.raises(MemoryError, match=r"out of memory on needle.cuda\(\): .* were asked for, .* were free"):
        GPU.zeros(2 * total)
    assert free <= total


def test_dlpack_with_pytorch_on_a_real_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    theirs = torch.arange(3.0, device="cuda")
    ours = ndl.from_dlpack(theirs)
    theirs += 1
    torch.cuda.synchronize()
    assert ours.device == GPU and ours.tolist() == [1, 2, 3]
    assert torch.from_dlpack(ours).data_ptr() == theirs.data_ptr()


def test_the_stand_in_claims_nothing_that_cupy_lacks():
    cupy = backend_cupy.library()
    for name in [*fake_cupy.FUNCTIONS, *fake_cupy.UFUNCS]:
        found = cupy
        for part in name.split("."):
            found = getattr(found, part)
    assert all(hasattr(cupy.ndarray, name) for name in fake_cupy.METHODS)
