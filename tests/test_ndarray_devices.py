"""Devices of NDArrays: the course's functions of their modules, new arrays, and what the floors above ask."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ndarray_check import DEVICES, ON_CPU, RNG, pair, same

import needle as ndl
from needle import backend_ndarray as nd
from needle import optim
from needle.backend_ndarray import ndarray_backend_numpy
from needle.backend_ndarray.ndarray_backend_numpy import INTERFACE
from needle.backend_numpy import CPUDevice

HOST = CPUDevice()


@pytest.fixture(params=DEVICES)
def device(request):
    with nd.debug(True):
        yield request.param


@pytest.fixture(params=ON_CPU)
def host(request):
    with nd.debug(True):
        yield request.param


# --- devices -----------------------------------------------------------------------------------------------------


def test_the_three_devices_can_be_asked_for_without_a_gpu():
    assert [str(d) for d in nd.all_devices()] == ["cpu()", "cuda()", "cpu_numpy()"]
    assert nd.cpu().enabled() is True and nd.cpu_numpy().enabled() is True
    assert isinstance(nd.cuda().enabled(), bool)
    assert nd.default_device() in (nd.cpu(), nd.cpu_numpy())


def test_devices_are_equal_by_name_and_safe_to_compare():
    assert nd.cpu() == nd.cpu() and nd.cpu() != nd.cpu_numpy() and nd.cpu().name == "cpu"
    assert nd.cpu() != "cpu" and nd.cpu() != None  # noqa: E711
    assert len({nd.cpu(), nd.cpu(), nd.cuda()}) == 2
    assert nd.BackendDevice("cpu", None) == nd.cpu()
    assert copy.deepcopy(nd.cpu()) == pickle.loads(pickle.dumps(nd.cpu())) == nd.cpu()


def test_a_device_answers_for_its_module(device):
    assert all(hasattr(device, name) for name in INTERFACE)
    assert not hasattr(device, "no_such_thing")


def test_the_reference_module_has_the_course_s_functions():
    mod = ndarray_backend_numpy
    a, b, out = (mod.Array(6) for _ in range(3))
    assert a.size == 6 and a.dtype == "float32" and isinstance(a.ptr(), int)
    mod.from_numpy(np.arange(6, dtype="float32").reshape(2, 3), a)
    mod.fill(b, 2.0)
    mod.ewise_mul(a, b, out)
    assert np.array_equal(mod.to_numpy(out, (3, 2), (1, 3), 0), [[0, 6], [2, 8], [4, 10]])
    mod.scalar_power(a, 2.0, out)
    mod.ewise_setitem(b, out, (2, 3), (3, 1), 0)
    mod.scalar_setitem(2, 9.0, out, (2,), (-3,), 4)
    assert np.array_equal(out.array, [2, 9, 2, 2, 9, 2])
    small = mod.Array(2)
    mod.reduce_sum(a, small, 3)
    assert np.array_equal(small.array, [3, 12])
    mod.compact(a, out, (3, 2), (1, 3), 0)
    assert np.array_equal(out.array, [0, 3, 1, 4, 2, 5])
    assert set(INTERFACE) <= set(dir(mod))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = mod.no_such_thing


ONE_OPERAND = ["log", "exp", "tanh"]
TWO_OPERANDS = {
    "add": np.add,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "eq": np.equal,
    "ge": np.greater_equal,
}


@pytest.mark.parametrize("name", [*ONE_OPERAND, *TWO_OPERANDS])
def test_the_course_s_elementwise_functions(device, name):
    a, b, out = nd.full((6,), 2.0, device=device), nd.full((6,), 3.0, device=device), nd.empty((6,), device=device)
    b[0] = 2.0
    if name in ONE_OPERAND:
        getattr(device, f"ewise_{name}")(b._handle, out._handle)
        same(out, getattr(np, name)(b.numpy()))
        return
    getattr(device, f"ewise_{name}")(a._handle, b._handle, out._handle)
    same(out, TWO_OPERANDS[name](a.numpy(), b.numpy()).astype("float32"))
    getattr(device, f"scalar_{name}")(b._handle, 2.0, out._handle)
    same(out, TWO_OPERANDS[name](b.numpy(), np.float32(2)).astype("float32"))


def test_devices_draw_from_the_global_generator_in_float64_and_round(device):
    np.random.seed(3)
    wanted = np.random.rand(2, 3), np.random.randn(4)
    device.seed(3)
    got = device.rand(2, 3), device.randn(4, dtype="float32")
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == "float32" and g.device == device
        assert np.array_equal(g.numpy(), w.astype("float32"))
    assert device.rand().shape == () and device.randn(2, dtype="float64").dtype == "float64"
    state = device.random_state()
    first = device.rand(3).numpy()
    device.set_random_state(state)
    assert np.array_equal(device.rand(3).numpy(), first)


def test_one_hot(device):
    wanted = np.eye(4, dtype="float32")[[3, 0, 2]]
    for labels in ([3, 0, 2], np.array([3.0, 0.0, 2.0]), nd.array([3, 0, 2], device=device)):
        same(device.one_hot(4, labels), wanted)
    assert device.one_hot(3, np.zeros((2, 2), int), dtype="int64").shape == (2, 2, 3)
    for wrong in ([4], [0.5], [-5]):
        with pytest.raises(IndexError, match="one_hot: wanted whole numbers from 0 to 3"):
            device.one_hot(4, wrong)


def test_arrays_made_by_a_device(device):
    same(device.zeros(2, 3), np.zeros((2, 3), "float32"))
    same(device.ones(2, dtype="float64"), np.ones(2))
    same(device.full((2, 1), 7), np.full((2, 1), 7, "float32"))
    same(device.full((), 2.5), np.float32(2.5).reshape(()))
    same(device.arange(4), np.arange(4))
    same(device.eye(3, "int64"), np.eye(3, dtype="int64"))
    assert device.empty((2, 0, 3), dtype="float64").shape == (2, 0, 3)
    assert device.empty(4).shape == (4,)
    with pytest.raises(ValueError, match="no negative numbers"):
        device.empty((2, -1))
    with pytest.raises(TypeError, match="wanted a dtype of floats"):
        device.empty((2,), "complex64")


# --- what optimizers and the graph ask of a device ---------------------------------------------------------------


def test_storage_and_ownership(device):
    _, a = pair(device, 3, 4)
    assert device.storage(a) is device.storage(a.T) is device.storage(a.reshape((12,)))
    assert device.storage(a) is not device.storage(a.copy())
    assert device.owns(a) and device.owns(a + 1) and device.owns(a.copy()) and not device.owns(a.reshape((12,)))
    view = a.T
    assert not device.owns(a)  # another array looks at its memory
    del view
    assert device.owns(a)
    assert device.laid_out_as(a, a.T) is a and device.laid_out_as(a.T, a).is_compact()


def test_share_takes_memory_as_it_is(host):
    values = np.arange(6, dtype="int64").reshape(2, 3)
    theirs = np.zeros(3, "float32")
    a = host.share(theirs)
    theirs[0] = 5
    assert a.tolist() == [5, 0, 0] and not host.owns(a) and host.share(a) is a
    assert host.share(values.T).dtype == "int64" and host.share(values.T).tolist() == values.T.tolist()
    assert host.share(values.astype(">f8")).dtype.isnative and host.share(np.float64(2)).shape == ()
    borrowed = host.share(np.frombuffer(bytearray(8), "float32"))
    assert not host.owns(borrowed)
    with pytest.raises(TypeError, match="share"):
        host.share(np.array(["a"]))


def test_cast_and_to_numpy(device):
    values, a = pair(device, 2, 3)
    assert device.cast(a, "float32") is a
    same(device.cast(a.T, "float64"), values.T.astype("float64"))
    same(device.cast(values, "float64"), values.astype("float64"))
    np.testing.assert_array_equal(device.to_numpy(a.T), values.T)
    np.testing.assert_array_equal(device.to_numpy(a._handle, (3,), (2,), 1), values.ravel()[1::2])
    assert device.to_numpy(values) is not values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_add_scaled(device, dtype):
    values, a = pair(device, 3, 4, dtype=dtype)
    others, b = pair(device, 4, 3, dtype=dtype)
    pointer = a._handle.ptr()
    assert device.add_scaled(a, b.T, -0.5) is True
    same(a, values + others.T * np.dtype(dtype).type(-0.5))
    assert a._handle.ptr() == pointer
    gappy = nd.NDArray.make((3, 4), strides=(5, 1), device=device, dtype=dtype)
    for target in (a.T, a, gappy):
        assert not device.add_scaled(target, b if target is a else target.copy(), 1.0)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_agrees_with_the_one_on_numpy_arrays(device, decoupled):
    arrays = [(RNG.standard_normal((3, 4)) ** 2).astype("float32") for _ in range(4)]
    mine = [nd.array(x, device=device) for x in arrays]
    turned = nd.array(arrays[2].T, device=device).T  # a moment that is no compact array
    mine[2] = turned
    options = dict(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, decoupled=decoupled)
    gradient = arrays[1].copy()
    HOST.adam(tuple(arrays), 2, **options)
    device.adam(tuple(mine), 2, **options)
    for got, wanted in zip(mine, arrays, strict=True):
        same(got, wanted, 1e-5)
    assert np.array_equal(mine[1].numpy(), gradient)


def test_a_generator_of_its_own(device):
    assert np.array_equal(device.generator([3]).random(4), device.generator([3]).random(4))


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16"])
def test_tensors_of_whole_numbers_meet_wider_numbers_as_under_numpy(device, dtype):
    def results(place):
        x = ndl.Tensor.make_const(place.array(np.array([1, 0]), dtype))
        large = 2**40 + 1
        yield 2**40 - x if dtype != "bool" else 2**40 + x
        yield x + np.array([large])
        yield ndl.where(ndl.gt(x, 0), x, large)
        yield ndl.maximum(x, large)
        yield ndl.minimum(x, -1)
        yield ndl.maximum(x, 2.5)
        yield x + np.array([0.5])
        yield x + np.array([3], "int16")
        yield ndl.maximum(x, np.float32(2.5))

    for got, wanted in zip(results(device), results(HOST), strict=True):
        assert got.dtype == wanted.dtype and got.tolist() == wanted.tolist()
    floats = ndl.Tensor([1.0], device=device)
    assert (floats + np.array([2.0])).dtype == "float32"  # what is given without a dtype, as the course has it


def test_an_index_tensor_of_another_device_is_refused():
    x = ndl.Tensor(np.ones((2, 2)), device=nd.cpu())
    there = ndl.Tensor.make_const(nd.cpu_numpy().array([[0, 1]], "int64"))
    for call in (lambda: ndl.take(x, there), lambda: ndl.gather(x, there, 0)):
        with pytest.raises(
            ValueError, match=r"(take|gather): the tensor is on cpu\(\), the index on cpu_numpy\(\); move"
        ):
            call()
    assert ndl.take(x, [0, 1]).shape == (2, 2) and ndl.gather(x, np.array([[0, 1]]), 0).shape == (1, 2)


def model_after_a_step(make, device):
    weights = [ndl.Tensor(np.ones(3), device=device, requires_grad=True) for _ in range(2)]
    optimizer = make(weights)
    for w in weights:
        (w * w).sum().backward()
    optimizer.step()
    return weights, optimizer


OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, momentum=0.9),
    "SGD, PyTorch's": lambda params: optim.SGD(params, momentum=0.9, dampening=0.1),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": optim.RMSprop,
    "Adagrad": optim.Adagrad,
    "Lion": lambda params: optim.Lion(params, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_whose_state_stayed_behind_changes_nothing_and_says_so(name):
    weights, optimizer = model_after_a_step(OPTIMIZERS[name], nd.cpu())
    weights[1].data = weights[1].to(nd.cpu_numpy())  # the last one alone
    weights[1].grad = weights[1].grad.to(nd.cpu_numpy())
    before = optimizer.state_dict()["state"], [w.tolist() for w in weights]
    with pytest.raises(
        ValueError, match=r"parameter 1 and .* on different devices, cpu_numpy\(\) and cpu\(\); .* new opt"
    ):
        optimizer.step()
    after = optimizer.state_dict()["state"], [w.tolist() for w in weights]
    assert str(after) == str(before)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("place", [nd.cpu(), nd.cpu_numpy(), HOST], ids=["cpu", "cpu_numpy", "numpy"])
def test_optimizers_of_float16(name, place):
    w = ndl.Tensor.make_const(place.array(np.ones(3), "float16"), requires_grad=True)
    optimizer = OPTIMIZERS[name]([w])
    for _ in range(2):
        optimizer.reset_grad()
        (w * w).sum().backward()
        optimizer.step()
    assert w.dtype == "float16" and all(0 < x < 1 for x in w.tolist())


def test_float16_without_momentum_takes_the_plain_step():
    w = ndl.Tensor.make_const(nd.cpu().array([1.0, 2.0], "float16"), requires_grad=True)
    (w * w).sum().backward()
    optim.SGD([w], lr=0.5).step()
    assert w.tolist() == [0.0, 0.0]
