"""What code sees where NEEDLE_BACKEND=nd: the facts of the course's contract that homeworks 3 and 4 rely on.

Skipped under the NumPy backend; tests/test_backends.py runs it in a process of its own.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import backend_ndarray as nd
from needle import init, nn, optim
from needle.data import DataLoader, NDArrayDataset

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(ndl.BACKEND != "nd", reason="asks what happens where NEEDLE_BACKEND=nd")

if ndl.BACKEND == "nd":
    devices = [pytest.param(d, id=str(d)) for d in ndl.all_devices() if d.enabled()]
else:
    devices = []
every_device = pytest.mark.parametrize("device", devices)


def test_names():
    assert ndl.NDArray is nd.NDArray and ndl.array_api is nd and ndl.BACKEND == "nd"
    assert ndl.cpu() == nd.cpu() and ndl.cpu_numpy() == nd.cpu_numpy() and ndl.cuda() == nd.cuda()
    assert ndl.default_device() == ndl.Tensor([1.0]).device == init.rand(1).device == nn.Linear(1, 1).weight.device
    assert str(ndl.cpu()) == "cpu()" and str(ndl.cuda()) == "cuda()" and str(ndl.cpu_numpy()) == "cpu_numpy()"
    assert isinstance(ndl.cuda().enabled(), bool) and ndl.cpu() in ndl.all_devices()


# --- Tensor ----------------------------------------------------------------------------------------------------

GIVEN = [1, 2.5, True, [1, 2], [[1.5], [2]], np.arange(3), np.random.randn(2, 3), np.ones((2, 2), bool), np.float64(2)]


@every_device
@pytest.mark.parametrize("given", GIVEN, ids=repr)
def test_a_tensor_is_always_float32(given, device):
    x = ndl.Tensor(given, device=device)
    assert isinstance(x.cached_data, nd.NDArray) and x.dtype == x.cached_data.dtype == "float32" == x.dtype
    assert x.device == device and x.requires_grad and x.shape == np.shape(given) and isinstance(x.shape, tuple)
    assert isinstance(x.numpy(), np.ndarray) and x.numpy().dtype == np.float32
    np.testing.assert_array_equal(x.numpy(), np.asarray(given, np.float32))


def test_an_explicit_dtype_is_honoured():
    assert ndl.Tensor([1.5], dtype="float64").dtype == "float64" and init.ones(2, dtype="int32").dtype == "int32"
    assert ndl.Tensor(ndl.Tensor([1], dtype="int64"), device=nd.cpu_numpy()).dtype == "int64"


@every_device
def test_an_array_of_the_backend_moves_where_it_is_told_to(device):
    for there in (nd.cpu(), nd.cpu_numpy()):
        x = ndl.Tensor(nd.array([[1, 2]], device=there), device=device)
        assert x.device == device and x.tolist() == [[1, 2]]
        assert ndl.Tensor(ndl.Tensor([1.0], device=there), device=device).device == device
    assert ndl.Tensor(ndl.Tensor([1.0], device=device)).device == device


@every_device
def test_the_storage_is_live(device):
    x = ndl.Tensor(np.ones((2, 3)), device=device)
    x.realize_cached_data().flat[4] += 1
    assert x.realize_cached_data().size == 6
    assert (x * 2).numpy().tolist() == [[2, 2, 2], [2, 4, 2]]
    x.numpy()[0] = 5
    assert x.numpy()[0].tolist() == [1, 1, 1]


@every_device
def test_data_is_rebound_by_tensors_of_one_dtype_and_any_shape(device):
    x = ndl.Tensor(np.ones((1, 5)), device=device)
    x.data = ndl.Tensor(np.arange(5), device=device)
    assert x.shape == (5,) and not x.data.requires_grad
    with pytest.raises(AssertionError):
        x.data = ndl.Tensor([1], dtype="float64")


# --- ops -------------------------------------------------------------------------------------------------------


@every_device
def test_ops_on_what_homework_4_gives_them(device):
    a = np.random.randn(5, 3).astype("float32")
    x = ndl.Tensor(a, device=device)
    assert ndl.summation(x).shape in ((), (1,))
    found = {
        ndl.summation(x): a.sum(), ndl.summation(x, axes=1): a.sum(1), ndl.summation(x, axes=(0, 1)): a.sum(),
        x.transpose().reshape((15,)): a.T.reshape(15), ndl.broadcast_to(x.reshape((5, 1, 3)), (5, 2, 3)): a[:, None]
        + np.zeros((5, 2, 3)), ndl.logsumexp(x, axes=(1,)): np.log(np.exp(a).sum(1)), x @ x.transpose(): a @ a.T,
        ndl.stack([x, x], 1): np.stack([a, a], 1), ndl.flip(x, (0,)): a[::-1], x / 2 + 1: a / 2 + 1,
        (x > 0).astype("float32"): a > 0, ndl.add_scalar(x, np.array([2.0])): a + 2, -x**2: -(a**2),
        ndl.make_tuple(*ndl.split(x, 1))[2] - x[:, 0]: a[:, 2] - a[:, 0],
    }  # fmt: skip
    for got, wanted in found.items():
        assert got.dtype == "float32" and got.device == device and isinstance(got.cached_data, nd.NDArray)
        np.testing.assert_allclose(got.numpy(), np.asarray(wanted).reshape(got.shape), rtol=1e-5, atol=1e-6)


@every_device
def test_host_arrays_beside_a_tensor_are_float32_too(device):
    x = ndl.Tensor(np.ones(3), device=device)
    for y in (
        x + np.arange(3),
        np.arange(3.0) * x,
        ndl.where(np.array([True, False, True]), x, 0.5),
        x**2 / np.ones(3),
    ):
        assert y.dtype == "float32" and y.device == device


@every_device
def test_gradients_of_gradients(device):
    x = ndl.Tensor([1.0, 2.0], device=device)
    (x**3).backward()
    x.grad.backward()
    assert x.grad.tolist() == [6, 12] and x.grad.dtype == "float32"
    out = ndl.add(x, x)
    assert [g.numpy().tolist() for g in out.op.gradient_as_tuple(ndl.Tensor([1.0, 3.0], device=device), out)] == [
        [1, 3],
        [1, 3],
    ]


# --- init ------------------------------------------------------------------------------------------------------


@every_device
def test_draws_are_rounded_before_they_are_scaled(device):
    np.random.seed(3)
    got = init.rand(4, 5, low=-2.0, high=3.0, device=device)
    np.random.seed(3)
    np.testing.assert_array_equal(got.numpy(), np.random.rand(4, 5).astype("float32") * np.float32(5) + np.float32(-2))
    assert got.dtype == "float32" and not got.requires_grad


@every_device
def test_randb_and_one_hot(device):
    np.random.seed(3)
    mask, kept = init.randb(3, 4, p=0.4, device=device), init.randb(3, 4, p=0.4, device=device, dtype="float32")
    np.random.seed(3)
    draws = np.random.rand(2, 3, 4)
    assert mask.dtype == "bool" and kept.dtype == "float32"
    np.testing.assert_array_equal(mask.numpy(), draws[0] <= 0.4)
    np.testing.assert_array_equal(kept.numpy(), draws[1] <= 0.4)
    labels = ndl.Tensor([[2.0, 0.0]], device=device)
    hot = init.one_hot(3, labels, device=device)
    assert hot.dtype == "float32" and hot.device == device and hot.tolist() == [[[0, 0, 1], [1, 0, 0]]]


# --- nn and optim ----------------------------------------------------------------------------------------------


@every_device
def test_softmax_loss_takes_labels_as_floats(device):
    logits, labels = np.random.randn(4, 3).astype("float32"), np.array([2, 0, 0, 1])
    z = ndl.Tensor(logits, device=device)
    loss = nn.SoftmaxLoss()(z, ndl.Tensor(labels, device=device))
    wanted = np.log(np.exp(logits).sum(1)) - logits[np.arange(4), labels]
    assert loss.dtype == "float32" and loss.device == device and loss.item() == pytest.approx(wanted.mean(), rel=1e-6)
    loss.backward()
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(z.grad.numpy(), (soft - np.eye(3)[labels]) / 4, atol=1e-6)


@every_device
def test_dropout(device):
    layer, x = nn.Dropout(0.25), init.ones(20, 30, device=device)
    np.random.seed(3)
    y = layer(x)
    after = np.random.rand()
    np.random.seed(3)
    draws = np.random.rand(20, 30).astype("float32")
    np.testing.assert_array_equal(y.numpy(), np.where(draws <= np.float32(0.75), np.float32(1 / 0.75), 0))
    assert after == np.random.rand() and layer.eval()(x) is x and y.dtype == "float32"


@every_device
def test_embedding_takes_tokens_as_floats(device):
    layer = nn.Embedding(6, 2, device=device)
    y = layer(ndl.Tensor([[0, 5], [2, 2]], device=device))
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[[[0, 5], [2, 2]]])


@every_device
def test_linear_with_a_bias_of_one_axis(device):
    layer = nn.Linear(3, 2, device=device)
    assert layer.bias.shape == (1, 2)
    layer.bias = ndl.Tensor([1.0, 2.0], device=device)
    x = np.random.randn(4, 3).astype("float32")
    y = layer(ndl.Tensor(x, device=device))
    np.testing.assert_allclose(y.numpy(), x @ layer.weight.numpy() + [1, 2], rtol=1e-5)


@every_device
def test_batch_norm_keeps_its_statistics(device):
    layer, x = nn.BatchNorm1d(3, device=device), np.random.randn(6, 3).astype("float32")
    layer(ndl.Tensor(x, device=device))
    assert layer.running_var.shape == (3,) and layer.running_mean.dtype == "float32"
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * x.var(0), rtol=1e-5)
    assert layer.running_mean.device == device


@every_device
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1, momentum=0.5), lambda p: optim.Adam(p, 0.1), optim.Muon])
def test_optimizer_steps_stay_float32_and_leave_the_gradient(make, device):
    w = ndl.Tensor(np.ones((3, 4)), device=device)
    optimizer = make([w])
    for _ in range(3):
        optimizer.reset_grad()
        assert w.grad is None
        (w * w * 0.5).sum().backward()
        before = w.grad.numpy()
        optimizer.step()
        np.testing.assert_array_equal(w.grad.numpy(), before)
    assert w.dtype == "float32" and w.device == device and (w.numpy() < 1).all()


# --- data and apps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_float32_on_the_default_device(prefetch):
    images, labels = np.random.rand(10, 3), np.arange(10, dtype="uint8")
    batches = list(DataLoader(NDArrayDataset(images, labels), 4, prefetch=prefetch))
    assert [x.shape for x, _ in batches] == [(4, 3), (4, 3), (2, 3)]
    for x, y in batches:
        assert x.device == y.device == ndl.default_device() and not x.requires_grad
        assert x.dtype == y.dtype == "float32" and isinstance(x.cached_data, nd.NDArray)
    np.testing.assert_array_equal(np.concatenate([y.numpy() for _, y in batches]), labels)


def app(name):
    spec = importlib.util.spec_from_file_location(f"{name}_app", ROOT / "apps" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_softmax_regression(capsys, tmp_path):
    status = app("softmax_regression").main(["--epochs", "2", "--promise", "8", "--figure", str(tmp_path / "f.png")])
    out, err = capsys.readouterr()
    assert status == 0 and "gradcheck: pass" in out, out + err


def test_mlp_resnet(capsys, tmp_path):
    main = app("mlp_resnet").main
    where = ["--checkpoint", str(tmp_path / "c.safetensors"), "--figure", str(tmp_path / "f.png"), "--promise", "60"]
    for _ in range(2):  # the second time it goes on where the first ended
        status = main(["--epochs", "2", "--lr", "0.01", "--hidden", "30", "--blocks", "1", *where])
        out, err = capsys.readouterr()
        assert status == 0 and "test accuracy" in out, out + err
    assert "going on after 2 epochs" in out


def test_homework_1s_functions():
    course = app("simple_ml")
    np.random.seed(0)
    X, y = np.random.rand(40, 6).astype("float32"), np.arange(40) % 3
    W1, W2 = ndl.Tensor(np.random.randn(6, 5) / 3), ndl.Tensor(np.random.randn(5, 3) / 3)
    before = course.loss_err(ndl.relu(ndl.Tensor(X) @ W1) @ W2, y)[0]
    for _ in range(20):
        W1, W2 = course.nn_epoch(X, y, W1, W2, lr=0.5, batch=10)
    after = course.loss_err(ndl.relu(ndl.Tensor(X) @ W1) @ W2, y)[0]
    assert after < before and W1.dtype == "float32" and isinstance(W1.cached_data, nd.NDArray)


# --- the rest of the framework ---------------------------------------------------------------------------------


def test_saving_and_loading(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ndl.save(model.state_dict(), tmp_path / "m.safetensors")
    twin = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    twin.load_state_dict(ndl.load(tmp_path / "m.safetensors"))
    for ours, its in zip(model.parameters(), twin.parameters(), strict=True):
        assert ours.tolist() == its.tolist() and its.device == ndl.default_device()
    ndl.save_checkpoint(tmp_path / "c.safetensors", model=model, extra={"x": ndl.Tensor([1.0]), "a": np.arange(3)})
    extra = ndl.load_checkpoint(tmp_path / "c.safetensors", model=twin)
    assert "x" in str(extra)


def test_transforms_checker_and_tools():
    x = ndl.Tensor([[1.0, 2.0]])
    assert ndl.grad(lambda a: (a**3).sum())(x).tolist() == [[3, 12]]
    assert ndl.hessian(lambda a: (a**3).sum())(ndl.Tensor([1.0, 2.0])).tolist() == [[6, 0], [0, 12]]
    assert ndl.gradcheck(lambda a: ndl.tanh(a @ a.T), ndl.Tensor([[1.0, 2.0]], dtype="float64"), order=2)
    assert "inputs are float32, too coarse" in str(ndl.gradcheck(ndl.tanh, x))
    with pytest.raises(ndl.AnomalyError, match="First made in the forward pass, by Log"), np.errstate(all="ignore"):
        with ndl.detect_anomaly():
            ndl.log(x - 1.5).sum().backward()


def test_everything_can_be_indexed_by_tensors():
    x = ndl.Tensor(np.arange(12).reshape(3, 4))
    assert x[ndl.argmax(x, 0)].shape == (4, 4) and x[np.array([0, 2]), 1].tolist() == [1, 9]
    assert ndl.topk(x, 2)[0].tolist() == [3, 2] and ndl.sort(-x)[0].tolist() == [-3, -2, -1, 0]
    assert ndl.gather(x, ndl.argsort(x, 1), 1).tolist() == x.tolist()


def test_a_jitted_function_runs_as_it_is():
    w = ndl.Tensor([1.0, 2.0])
    step = ndl.jit(lambda x: w * x)
    for k in (1.0, 3.0):
        np.testing.assert_array_equal(step(ndl.Tensor([k, k])).numpy(), [k, 2 * k])
    assert not step.history
