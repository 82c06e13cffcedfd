"""Devices: which there are and why one is not, moving tensors and modules, batches that arrive on a GPU, errors.

`gpu` is the stand-in of tests/fake_cupy.py: with it the whole framework runs on `ndl.cuda()` without a GPU. The tests
that want a real one are in test_gpu.py.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings

import fake_cupy
import numpy as np
import optim_check
import pytest
from nn_examples import EXAMPLES, distinct
from op_check import check_row, near, tensor
from op_table import ROWS
from test_backends import DRAWS, TRANSFORMS, mlp_resnet, run_layer, softmax_regression, used

import needle as ndl
from needle import __main__ as cli
from needle import backend_cupy, init, nn, optim
from needle import backend_ndarray as nd
from needle.backend_selection import device_holding, device_of, moved
from needle.data import DataLoader, NDArrayDataset

if ndl.BACKEND != "np":
    pytest.skip("the devices of the np backend; the last test starts the other one", allow_module_level=True)

CPU, cuda = ndl.cpu(), ndl.cuda


@pytest.fixture
def gpu(monkeypatch):
    """One GPU, as `ndl.cuda()`."""
    fake_cupy.install(monkeypatch)
    return cuda()


@pytest.fixture
def two_gpus(monkeypatch):
    fake_cupy.install(monkeypatch, count=2)
    return cuda(0), cuda(1)


def on(device, *shape, requires_grad=True):
    return tensor(distinct(*shape), device, requires_grad)


# --- whether it is there ---------------------------------------------------------------------------------------


def test_the_cpu_is_the_default_and_a_gpu_can_be_asked_for():
    assert ndl.default_device() == ndl.cpu() and ndl.cpu().enabled()
    assert ndl.cpu() in ndl.all_devices() and ndl.cuda() in ndl.all_devices()
    assert isinstance(ndl.cuda(), ndl.Device) and isinstance(ndl.cuda().enabled(), bool)


def test_gpus_are_equal_by_number():
    assert cuda() == cuda(0) == copy.deepcopy(cuda()) == pickle.loads(pickle.dumps(cuda(0)))
    assert cuda(1) != cuda() and cuda() != CPU and cuda() != nd.cuda() and cuda() != "cuda"
    assert len({cuda(), cuda(0), cuda(1), cuda(np.int64(1)), CPU}) == 3
    assert (repr(cuda()), str(cuda(1))) == ("needle.cuda()", "needle.cuda(1)")


@pytest.mark.parametrize("number", [-1, 1.0, "0", None])
def test_what_is_no_number_of_a_gpu(number):
    with pytest.raises(ValueError, match="cuda: the number of a GPU is a whole number from 0 on, got "):
        cuda(number)


def without_cupy(monkeypatch):
    monkeypatch.setattr(backend_cupy, "have", lambda module: False)


def with_broken_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(backend_cupy, "have", lambda module: True)


def machine(**settings):
    return lambda monkeypatch: fake_cupy.install(monkeypatch, **settings)


MISSING = {
    "CuPy is not installed: `pip install cupy-cuda12x`": without_cupy,
    "cupy-cuda12x is needed for needle.cuda()": with_broken_cupy,
    "no NVIDIA driver was found, or it is older than CuPy needs (CUDA error 35)": machine(trouble=35),
    "the driver finds no GPU (CUDA error 100)": machine(trouble=100),
    "CUDA does not start (CUDA error 999)": machine(trouble=999),
    "the driver finds no GPU": machine(count=0),
}


@pytest.mark.parametrize("why, arrange", MISSING.items(), ids=lambda x: x if isinstance(x, str) else "")
def test_a_device_that_cannot_be_used_is_silent_until_used_and_says_why(why, arrange, monkeypatch, capfd):
    monkeypatch.setattr(backend_cupy, "_device", backend_cupy.cache(backend_cupy.CUDADevice))
    arrange(monkeypatch)
    with warnings.catch_warnings(record=True) as heard:
        assert not cuda().enabled() and not nd.cuda().enabled() and len(backend_cupy.all_gpus()) == 1
    assert not heard and capfd.readouterr() == ("", "")
    for use in (
        lambda: ndl.Tensor([1.0], device=cuda()),
        lambda: cuda().zeros(3),
        lambda: nn.Linear(2, 2, device=cuda()),
        lambda: ndl.Tensor([1.0]).to(cuda()),
        lambda: nn.Linear(2, 2).to(cuda()),
        lambda: nd.cuda().zeros(3),
    ):
        with pytest.raises(RuntimeError) as caught:
            use()
        assert f"needle.cuda() cannot be used: {why}" in str(caught.value)


def test_a_gpu_beyond_the_last_one(gpu, monkeypatch):
    assert gpu.enabled() and not cuda(1).enabled()
    with pytest.raises(RuntimeError, match=r"needle.cuda\(1\) cannot be used: there is one GPU, numbered from 0"):
        cuda(1).zeros(3)
    monkeypatch.setattr(fake_cupy.State, "count", 2)
    with pytest.raises(RuntimeError, match="there are 2 GPUs, numbered from 0"):
        cuda(2).zeros(3)
    assert backend_cupy.all_gpus() == [cuda(0), cuda(1)]


def test_a_noisy_cupy_is_hushed(gpu, monkeypatch):
    def noisy(*args, **kwargs):
        warnings.warn("the CUDA path could not be found", stacklevel=2)
        return sys.modules["cupy"]

    monkeypatch.setattr(backend_cupy, "optional", noisy)
    assert gpu.enabled()


def info(capsys):
    assert cli.main(["info"]) == 0
    return capsys.readouterr().out


def test_info_tells_what_each_device_can_do(capsys, two_gpus):
    text = info(capsys)
    assert "devices: needle.cpu(), needle.cuda(), needle.cuda(1)\n" in text
    told = "Fake GPU, compute capability 9.0, 1.00 GiB free of 2.00 GiB; CuPy 14.0 (fake)\n"
    assert f"\ncuda()      {told}cuda(1)     {told}" in text and "\ncpu()       NumPy" in text


def test_info_tells_why_a_device_is_missing(capsys, monkeypatch):
    fake_cupy.install(monkeypatch, trouble=35)
    text = info(capsys)
    assert "cuda() (not enabled)" in text
    assert "\ncuda()      not enabled: no NVIDIA driver was found, or it is older than CuPy needs" in text


# --- everything on a GPU ---------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("device", [cuda, nd.cuda], ids=["cuda", "nd.cuda"])


@BOTH
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_every_op(row, device, gpu):
    check_row(row, device())


@BOTH
@pytest.mark.parametrize("one", [pytest.param(one, id=name) for name, one in EXAMPLES.items()])
def test_every_layer_and_loss(one, device, gpu):
    pairs = zip(run_layer(one, True, device(), "float64"), run_layer(one, True, CPU, "float64"), strict=True)
    for got, wanted in pairs:
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        near(got, wanted, 1e-12, "result, gradients or buffers")


@BOTH
@pytest.mark.parametrize("case", optim_check.CASES, ids=lambda case: case.name)
def test_every_optimizer(case, device, gpu):
    optim_check.check(case, device=device())


@BOTH
@pytest.mark.parametrize("train", [softmax_regression, mlp_resnet])
def test_trainings(train, device, gpu):
    for got, wanted in zip(train(device()), train(CPU), strict=True):
        near(got, wanted, 2e-4, "after training")


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(transform, gpu):
    got, wanted = transform(on(gpu, 2, 3)), transform(on(CPU, 2, 3))
    assert got.device == gpu
    near(got.numpy(), wanted.numpy(), 1e-13, "the transform")


@pytest.mark.parametrize("make", DRAWS)
def test_random_numbers_are_those_of_the_cpu(make, gpu):
    for options in ({}, {"generator": 5}):
        drawn = []
        for device in (gpu, CPU):
            ndl.manual_seed(3)
            seeded = {name: ndl.Generator(seed) for name, seed in options.items()}
            drawn.append(make(device=device, **seeded))
        assert drawn[0].device == gpu
        near(drawn[0].numpy(), drawn[1].numpy(), 1e-6, "draws")
    gpu.set_random_state(state := gpu.random_state())
    assert gpu.rand(3).tolist() == [CPU.set_random_state(state), CPU.rand(3).tolist()][1]


def test_methods_and_tools(gpu):
    # NumPy reads no memory of a GPU: its from_dlpack in `used` is the one thing that stays behind.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "from_dlpack", lambda x: np.asarray(x))
        assert used(on(gpu, 2, 3)) == used(on(CPU, 2, 3))
    x = on(gpu, 3)
    assert pickle.loads(pickle.dumps(x)).device == copy.deepcopy(x).device == gpu
    with ndl.detect_anomaly(), pytest.raises(ndl.AnomalyError, match="First made in the forward pass, by Log"):
        ndl.log(-x.detach().requires_grad_() * x).sum().backward()
    assert "pass" in str(ndl.gradcheck(lambda a: ndl.tanh(a * a), x))


def test_no_gradient_is_shared_on_a_gpu(gpu):
    a, b = on(gpu, 3), on(gpu, 3)
    (a + b).backward(on(gpu, 3, requires_grad=False))
    assert gpu.storage(a.grad.cached_data) is not gpu.storage(b.grad.cached_data)


def test_a_write_is_seen_by_backward_through_a_view(gpu):
    w = on(gpu, 4)
    y = (w * w).sum()
    part = w.detach()[1:]
    part[0] = 0
    with pytest.raises(RuntimeError, match="argument 0 of EWiseMul .* was written to"):
        y.backward()


def test_optimizers_write_only_to_memory_that_is_theirs(gpu):
    whole = gpu.array(np.ones((2, 3)))
    assert gpu.owns(whole) and not gpu.owns(whole[1]) and not gpu.owns(whole.T)
    assert not gpu.owns(gpu.from_dlpack(Foreign(np.ones(3))))
    assert not gpu.add_scaled(whole[1], whole[0], 1.0) and gpu.add_scaled(whole, whole, 1.0)
    assert whole.tolist() == [[2.0] * 3] * 2
    turned = gpu.laid_out_as(whole, gpu.array(np.zeros((3, 2))).T)
    assert turned.flags.f_contiguous and turned.tolist() == whole.tolist() and turned.base is None


def test_whole_numbers_out_of_range_are_refused_where_cupy_wraps_them(gpu):
    x = on(gpu, 3, 2)
    for index in ([3], np.array([0, -4]), (slice(None), [2]), (..., [-3]), (None, [3]), tensor(np.array([7]), gpu)):
        with pytest.raises(IndexError, match="index -?[0-9] is out of bounds for axis [01] with size [23]"):
            x[index]
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        x.detach()[[0, 3]] = 1.0
    with pytest.raises(IndexError, match="labels run from 5 to 5, wanted 0 to 2"):
        init.one_hot(3, tensor(np.array([5]), gpu), device=gpu)
    picked = x[np.array([[True, False], [False, True], [False, False]])]
    assert picked.tolist() == x.numpy()[[0, 1], [0, 1]].tolist() and x[[-1]].tolist() == x.numpy()[[-1]].tolist()


def test_ndarrays_on_a_gpu_refuse_whole_numbers_out_of_range_too(gpu):
    device = nd.cuda()
    a = nd.array(np.arange(6).reshape(3, 2), device=device)
    far = device.array([0, -4], "int64")
    for index in ([3], np.array([0, -4]), far, (slice(None), [2]), (..., [-3]), (None, [3])):
        with pytest.raises(IndexError, match="index -?[0-9] is out of bounds for axis [01] with size [23]"):
            device.getitem(a, index)
        with pytest.raises(IndexError, match="is out of bounds"):
            device.setitem(a, index, 1.0)
        with pytest.raises(IndexError, match="is out of bounds"):
            device.add_at(a, index, 1.0)
    assert a.numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert device.getitem(a, [-1]).numpy().tolist() == [[4, 5]]
    assert device.getitem(a, device.array([2, 0], "int64")).numpy().tolist() == [[4, 5], [0, 1]]
    device.add_at(a, [0, 0], 1.0)
    assert a.numpy().tolist() == [[2, 3], [2, 3], [4, 5]]


def test_arrays_of_cupy_become_ndarrays(gpu):
    theirs = gpu.array(np.arange(6.0).reshape(2, 3))
    for given, wanted in ((theirs, [[0, 1, 2], [3, 4, 5]]), (theirs.T, [[0, 3], [1, 4], [2, 5]])):
        ours = nd.array(given, device=nd.cuda())
        assert ours.dtype == "float32" and ours.numpy().tolist() == wanted
    ours[0, 0] = 9.0
    assert theirs.tolist()[0][0] == 0


def test_ndarrays_on_a_gpu_know_what_shares_their_memory(gpu):
    whole = nd.array(np.arange(9).reshape(3, 3), device=nd.cuda())
    same = nd.NDArray.make((3, 3), device=nd.cuda(), handle=nd.cuda().Array.of(nd.cuda().storage(whole).array))
    handle, twin = whole.device.storage(whole), whole.device.storage(same)
    assert handle is not twin and handle.meets(twin) and handle.meets(handle) and not handle.meets(nd.cuda().Array(9))
    whole += same.T
    assert whole.numpy().tolist() == (np.arange(9).reshape(3, 3) + np.arange(9).reshape(3, 3).T).tolist()
    assert [row.shape for row in nd.array(np.zeros((3, 0)), device=nd.cuda())] == [(0,)] * 3


def test_without_a_gpu_a_device_can_be_asked_what_it_has(monkeypatch):
    fake_cupy.install(monkeypatch, trouble=100)
    assert not hasattr(nd.cuda(), "matmul_tiled") and not nd.cuda().enabled()
    with pytest.raises(RuntimeError, match="cannot be used: the driver finds no GPU"):
        nd.cuda().Array(3)


# --- moving ----------------------------------------------------------------------------------------------------


def test_to_another_device_and_the_gradient_back(gpu):
    x = on(CPU, 2, 3)
    there = x.to(gpu)
    assert there.device == gpu and there.numpy().tolist() == x.tolist() and there.dtype == x.dtype
    (there**3).sum().backward()
    assert x.grad.device == CPU and there.grad is None
    near(x.grad.numpy(), 3 * x.numpy() ** 2, 1e-13, "gradient")
    second = ndl.grad(lambda a: ndl.grad(lambda b: (b.to(gpu) ** 3).sum())(a).to(gpu).sum())(x)
    assert second.device == CPU
    near(second.numpy(), 6 * x.numpy(), 1e-13, "second derivative")


def test_to_where_it_is_gives_the_tensor_itself(gpu):
    for x in (on(CPU, 3), on(gpu, 3), on(nd.cpu_numpy(), 3)):
        assert x.to(x.device) is x and x.to(device_of(x.cached_data)) is x
    assert on(gpu, 3).cuda().device == gpu and on(gpu, 3).cpu().cuda().cpu().device == ndl.cpu()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "float16"])
def test_the_dtype_stays(dtype, gpu):
    x = ndl.Tensor(np.ones((2, 3)), dtype=dtype, requires_grad=False)
    for device in (gpu, nd.cpu(), nd.cuda(), nd.cpu_numpy(), CPU):
        x = x.to(device)
        assert (x.device, x.dtype, x.tolist()) == (device, np.dtype(dtype), np.ones((2, 3)).tolist())


def test_moving_under_no_grad_is_not_recorded(gpu):
    with ndl.no_grad():
        assert on(CPU, 3).to(gpu).op is None


@pytest.mark.parametrize("thing", ["cuda", None, 0, np, ndl.cuda], ids=str)
def test_what_is_no_device(thing):
    with pytest.raises(TypeError, match=r"to_device: wanted a device such as ndl.cpu\(\) or ndl.cuda\(\), got "):
        on(CPU, 3).to(thing)
    with pytest.raises(TypeError, match=r"Linear.to: wanted a device such as ndl.cpu\(\) or ndl.cuda\(\), got "):
        nn.Linear(2, 2).to(thing)


def test_what_is_no_device_of_a_loader():
    with pytest.raises(TypeError, match=r"DataLoader: device must be a device such as .*, got 'cuda'"):
        DataLoader(NDArrayDataset(np.ones((2, 3))), device="cuda")


def test_what_is_no_tensor():
    with pytest.raises(TypeError, match="ToDevice: argument 0 is of type ndarray, wanted a Tensor"):
        ndl.to_device(np.ones(3), ndl.cpu())


def test_mixed_devices_name_the_op_and_both(gpu):
    with pytest.raises(ValueError, match=r"EWiseAdd: .* different devices, needle.cuda\(\) and needle.cpu\(\); move"):
        on(gpu, 3) + on(CPU, 3)
    with pytest.raises(ValueError, match=r"the array is on needle.cuda\(\), the value on needle.cpu\(\)"):
        on(gpu, 3, requires_grad=False)[0] = on(CPU, 1, requires_grad=False)


# --- modules ---------------------------------------------------------------------------------------------------


def test_a_module_moves_in_place(gpu):
    model = nn.Sequential(nn.Linear(4, 3, dtype="float64"), nn.BatchNorm1d(3, dtype="float64"))
    model.twice = model[0]
    before, state = [*model.parameters()], {name: x.numpy() for name, x in model.state_dict().items()}
    model(on(CPU, 5, 4)).sum().backward()
    state = {name: x.numpy() for name, x in model.state_dict().items()}
    grads = [p.grad.numpy() for p in before]
    assert model.to(gpu) is model
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert all(isinstance(p, nn.Parameter) and p.device == p.grad.device == gpu for p in before)
    assert all(x.device == gpu and x.tolist() == state[name].tolist() for name, x in model.state_dict().items())
    assert [p.grad.tolist() for p in before] == [g.tolist() for g in grads]
    assert model(on(gpu, 5, 4)).device == gpu


def test_a_module_that_is_there_is_left_alone():
    model = nn.Linear(3, 2)
    y = model(on(CPU, 4, 3)).sum()
    arrays = [p.cached_data for p in model.parameters()]
    model.to(ndl.cpu())
    assert all(p.cached_data is a for p, a in zip(model.parameters(), arrays, strict=True))
    y.backward()


def test_a_graph_from_before_the_move_is_not_differentiated(gpu):
    model = nn.Linear(3, 2)
    y = model(on(CPU, 4, 3).astype("float32")).sum()
    model.to(gpu)
    with pytest.raises(RuntimeError, match="was written to after the forward pass"):
        y.backward()


def test_a_module_moves_whole_or_not_at_all(gpu, monkeypatch):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 500))
    monkeypatch.setattr(fake_cupy.State, "free", 1000)
    with pytest.raises(MemoryError, match=r"ToDevice: out of memory on needle.cuda\(\): 8000 bytes were asked for"):
        model.to(gpu)
    assert {p.device for p in model.parameters()} == {ndl.cpu()}


def test_frozen_stays_frozen(gpu):
    model = nn.Linear(3, 2).requires_grad_(False).to(gpu)
    assert not any(p.requires_grad for p in model.parameters())


def test_an_optimizer_made_before_the_move_says_what_is_wrong(gpu):
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for device in (CPU, gpu):
        model.to(device)
        model(on(device, 4, 3).astype("float32")).sum().backward()
        if device == CPU:
            optimizer.step()
    with pytest.raises(ValueError, match=r"different devices, needle\.(cpu|cuda)\(\) and needle\.(cpu|cuda)\(\)"):
        optimizer.step()


# --- batches ---------------------------------------------------------------------------------------------------


def dataset(n=10):
    return NDArrayDataset(distinct(n, 3).astype("float32"), np.arange(n))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_arrive_on_the_device(prefetch, gpu):
    for device in (gpu, nd.cuda(), nd.cpu(), CPU):
        loader = DataLoader(dataset(), 4, device=device, prefetch=prefetch)
        X, y = zip(*loader, strict=True)
        labels = "float32" if isinstance(device, nd.BackendDevice) else "int64"
        assert {t.device for t in (*X, *y)} == {device} and (X[0].dtype, y[0].dtype) == ("float32", labels)
        assert [t.shape for t in X] == [(4, 3), (4, 3), (2, 3)] and not X[0].requires_grad
        assert np.concatenate([t.numpy() for t in X]).tolist() == distinct(10, 3).astype("float32").tolist()
        assert np.concatenate([t.numpy() for t in y]).tolist() == list(range(10))


def test_batches_read_ahead_cross_by_pinned_memory_on_a_stream_of_their_own(gpu):
    next(iter(DataLoader(dataset(4), 4, device=gpu, prefetch=1)))

    def crossing(size):
        waited = [("pinned", size), ("record", "null"), ("wait", "own", "event of null")]
        return [*waited, ("copy", "own", "PinnedMemory"), ("synchronize", "own")]

    assert fake_cupy.State.log == [*crossing(48), *crossing(32)]


def test_batches_that_are_not_read_ahead_need_no_stream(gpu):
    next(iter(DataLoader(dataset(4), 4, device=gpu)))
    assert fake_cupy.State.log == []


def test_what_is_no_array_stays_on_the_host(gpu):
    def collate(items):
        return [np.array([x for x, _ in items]), [y for _, y in items], np.array(["a"])]

    X, y, names = next(iter(DataLoader(dataset(4), 4, device=gpu, prefetch=1, collate=collate)))
    assert X.device == gpu and y == [0, 1, 2, 3] and isinstance(names, np.ndarray)
    assert next(iter(DataLoader(dataset(4), 4, device=gpu, prefetch=1, collate=len))) == 4


def test_a_field_that_changes_its_dtype_is_told_there_too(gpu):
    class Changing(NDArrayDataset):
        def __getitem__(self, i):
            return (np.float32(1) if i < 2 else 1,)

    loader = DataLoader(Changing(np.ones(4)), 2, device=gpu, prefetch=1)
    with pytest.raises(ValueError, match=r"DataLoader: batch 1 has fields of \(int64\), those before had \(float32\)"):
        list(loader)


def test_want_of_memory_in_a_reading_thread_reaches_the_caller(gpu, monkeypatch):
    monkeypatch.setattr(fake_cupy.State, "free", 10)
    with pytest.raises(MemoryError, match="48 bytes were asked for, 10 bytes of 2.00 GiB were free"):
        next(iter(DataLoader(dataset(4), 4, device=gpu, prefetch=1)))


# --- want of memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda device: device.zeros(2**29),
        lambda device: device.full((2**14, 2**15), 1.0),
        lambda device: init.ones(2**29, device=device),
        lambda device: nd.cuda().empty((2**29,)),
    ],
)
def test_want_of_memory_tells_what_was_asked_and_what_was_free(make, gpu):
    with pytest.raises(MemoryError) as caught:
        make(gpu)
    told = "out of memory on needle.cuda(): 2.00 GiB were asked for, 1.00 GiB of 2.00 GiB were free"
    assert told in str(caught.value)


@BOTH
def test_want_of_memory_in_an_op_names_the_op(device, gpu, monkeypatch):
    x = on(device(), 50)
    monkeypatch.setattr(fake_cupy.State, "free", 1000)
    column = x.reshape((50, 1))
    with pytest.raises(MemoryError) as caught:
        column * x
    told = "out of memory on needle.cuda(): 20000 bytes were asked for, 1000 bytes of 2.00 GiB were free; take"
    assert str(caught.value).startswith(f"EWiseMul: {told}")
    assert "got (50, 1) float64, (50,) float64" in str(caught.value)


def test_memory(gpu):
    assert gpu.memory() == (2**30, 2**31)
    gpu.synchronize()
    assert fake_cupy.State.log == [("synchronize", 0)]


# --- several GPUs ----------------------------------------------------------------------------------------------


def test_a_tensor_lives_on_the_gpu_that_was_named(two_gpus):
    first, second = two_gpus
    x = on(second, 3)
    assert x.device == second != first and init.ones(3, device=second).device == second
    with second:
        y = (x * 2).sum()
        y.backward()
    assert y.device == x.grad.device == second
    assert fake_cupy.state.device == 0


def test_from_gpu_to_gpu_without_the_cpu(two_gpus, monkeypatch):
    first, second = two_gpus
    x = on(first, 3)
    wanted = x.tolist()
    monkeypatch.setattr(fake_cupy.ndarray, "get", None)
    y = x.to(second)
    assert y.device == second and y.cached_data.tolist() == wanted and moved(y.cached_data, second) is y.cached_data
    assert x.cuda(1).device == second


def test_an_op_off_its_gpu_is_an_error_that_says_what_to_do(two_gpus):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        x = on(two_gpus[1], 3)
        with pytest.raises(Warning, match=r"MulScalar: The device where the array resides \(1\) .*with tensor.device"):
            x * 2
        with x.device:
            assert (x * 2).device == two_gpus[1]


def test_gpus_can_be_nested(two_gpus):
    first, second = two_gpus
    with second, first:
        assert fake_cupy.state.device == 0
    with second:
        with first:
            pass
        assert fake_cupy.state.device == 1
    with pytest.raises(RuntimeError, match="there are 2 GPUs"), cuda(2):
        pass
    assert fake_cupy.state.device == 0


# --- DLPack ----------------------------------------------------------------------------------------------------


class Foreign:
    """Another library's tensor on a GPU."""

    def __init__(self, host, kind=2, index=0):
        self.host, self.kind, self.index = host, kind, index

    def __dlpack__(self, *, stream=None, **options):
        return self.host.__dlpack__()

    def __dlpack_device__(self):
        return self.kind, self.index


def test_dlpack_shares_the_memory_of_a_gpu(two_gpus):
    theirs = np.arange(3.0)
    ours = ndl.from_dlpack(Foreign(theirs, index=1))
    theirs[0] = 7
    assert ours.device == cuda(1) == device_holding(ours) and ours.tolist() == [7, 1, 2]
    assert ours.__dlpack_device__() == (2, 1) and np.from_dlpack(ndl.Tensor([1.0])).tolist() == [1.0]
    ours = on(cuda(0), 3)
    assert ndl.from_dlpack(ours).cached_data.data.ptr == ours.cached_data.data.ptr


def test_dlpack_of_other_places():
    with pytest.raises(ValueError, match="wanted memory of the CPU or of a CUDA GPU, got DLPack's kind 10"):
        ndl.from_dlpack(Foreign(np.ones(3), kind=10))


# --- what is asked at every op ---------------------------------------------------------------------------------


def test_device_of(gpu):
    for array in (np.ones(3), np.float64(1), np.ones(3).view(np.memmap), 3.0, [1.0]):
        assert device_of(array) == CPU
    assert device_of(gpu.zeros(2)) == gpu and device_of(nd.cpu_numpy().zeros(2)) == nd.cpu_numpy()


# --- the other backend -----------------------------------------------------------------------------------------

UNDER_ND = """
import needle as ndl
from needle import backend_ndarray as nd
print(ndl.all_devices(), ndl.default_device(), ndl.cuda() == nd.cuda(), ndl.cpu_numpy() == nd.cpu_numpy(), ndl.BACKEND)
x = ndl.Tensor([1.0, 2.0]).to(ndl.cpu_numpy())
print(x, x.device, x.dtype, x.cpu().device, isinstance(x.cached_data, ndl.NDArray))
"""


def test_an_empty_setting_is_none():
    code = "import needle; print(needle.BACKEND)"
    env = {**os.environ, "NEEDLE_BACKEND": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "np\n" and done.stderr == ""


def test_the_nd_backend_has_devices_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", UNDER_ND], env={**os.environ, "NEEDLE_BACKEND": "nd"}, capture_output=True, text=True
    )
    assert done.stderr == "" and done.stdout.splitlines() == [
        "[cpu(), cuda(), cpu_numpy()] cpu() True True nd",
        "[1. 2.] cpu_numpy() float32 cpu() True",
    ]
