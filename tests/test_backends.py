"""The framework above the arrays, on NDArrays: every op, layer, optimizer, draw and two trainings as on NumPy's.

Here both kinds of arrays live in one process. What homework code sees where NEEDLE_BACKEND=nd is in test_nd_backend.py,
which the last test runs.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import optim_check
import pytest
from nn_examples import EXAMPLES, build, distinct
from op_check import Row, check_row, near, tensor
from op_table import ROWS

import needle as ndl
from needle import backend_ndarray as nd
from needle import init, optim

ROOT = Path(__file__).resolve().parents[1]
BAND = 1e-5  # of float32
DEVICES = [pytest.param(device, id=str(device)) for device in (nd.cpu_numpy(), nd.cpu())]
every_device = pytest.mark.parametrize("device", DEVICES)
NUMPY = ndl.Tensor.make_const(np.zeros(1)).device  # under both backends


# --- every op --------------------------------------------------------------------------------------------------


@every_device
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_every_op(row: Row, device):
    check_row(row, device)


def hidden(x):
    return ndl.tanh(x @ x.T).sum(1)


TRANSFORMS = [
    lambda x: ndl.grad(lambda a: hidden(a).sum())(x),
    lambda x: ndl.jacobian(hidden)(x),
    lambda x: ndl.jacobian(lambda a: a[:0])(x),
    lambda x: ndl.hessian(lambda a: hidden(a).sum())(x),
    lambda x: ndl.jvp(hidden, [x], [np.ones(x.shape)])[1],
    lambda x: ndl.vjp(hidden, x)[1](np.arange(2.0))[0],
    lambda x: ndl.hvp(lambda a: hidden(a).sum(), x, np.ones(x.shape)),
]


@every_device
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(transform, device):
    x = distinct(2, 3)
    got, wanted = transform(tensor(x, device)), transform(tensor(x, NUMPY))
    assert got.device == device and got.dtype == wanted.dtype
    near(got.numpy(), wanted.numpy(), 1e-13, "the transform")


# --- the Tensor itself -----------------------------------------------------------------------------------------


def used(x):
    """What Python's protocols and the methods say of a tensor, as plain things."""
    y = x.detach() * 1
    y[0, 1] = 7
    y[1] = [1, 2, 3]
    y[:, 2] = ndl.Tensor.make_const(x.cached_data)[:, 0]
    with ndl.no_grad():
        x -= 0.5
    return [
        repr(x), str(x), len(x), [row.tolist() for row in y], y.tolist(), 7.0 in y, y.argmax().item(), f"{y[0, 1]:.2f}",
        bool(y[0, 1] > 6), float(y[0, 1]), [10, 20, 30][y.argmin(1)[1]], np.asarray(y).tolist(), x[[1, 0]].tolist(),
        x[y > 1].tolist(), x[ndl.argsort(x, 1)[0]].tolist() if x.shape[0] > 2 else 0, x.astype("int32").tolist(),
        np.from_dlpack(y).tolist(), ndl.where(y > 1, y, 0.3).tolist(), (y + np.arange(3)).tolist(), (2 / y).tolist(),
        (np.float32(2) * y).tolist(), np.exp(y).tolist(), (np.arange(3.0) - y).tolist(),
    ]  # fmt: skip


@every_device
def test_methods_and_protocols(device):
    x = distinct(2, 3)
    assert used(tensor(x, device, True)) == used(tensor(x, NUMPY, True))


@every_device
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_copies_are_on_the_same_device_in_the_same_dtype(device, dtype):
    x = ndl.Tensor(distinct(2, 3) > 0, device=device, dtype=dtype, requires_grad=False)
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), ndl.Tensor(x), x.detach()):
        assert twin.device == device and twin.dtype == dtype and twin.tolist() == x.tolist()
    assert ndl.zeros_like(x).device == device and ndl.zeros_like(x).dtype == dtype


@every_device
def test_gradients_that_one_array_would_serve_are_apart(device):
    a, b, c = (tensor(distinct(3), device, True) for _ in range(3))
    y = a + b + c
    y.backward(tensor(np.ones(3), device))
    handles = {id(x.grad.cached_data._handle) for x in (a, b, c)}
    assert len(handles) == 3 and {x.grad.dtype.name for x in (a, b, c)} == {"float64"}


@every_device
def test_writes_are_seen_by_backward(device):
    w = tensor(distinct(3), device, True)
    y = (w * w).sum()
    with ndl.no_grad():
        w.detach()[1:] = 0  # another tensor over the same buffer
    with pytest.raises(RuntimeError, match="argument 0 of EWiseMul .* was written to after the forward pass"):
        y.backward()


@every_device
def test_mixed_devices_are_told(device):
    with pytest.raises(ValueError, match=r"EWiseAdd: arguments are on different devices, (cpu|cpu_numpy)\(\) and"):
        tensor(np.ones(2), device) + tensor(np.ones(2), NUMPY)


def says(device):
    """What the tools for finding faults say of a NaN, and what the checker says of a right rule and of a wrong one."""
    x, found = tensor(np.array([[1.0, -2.0, 0.0]]), device, True), []
    for loss in (
        lambda: ndl.log(x).sum(),
        lambda: (x**0.5).sum(),
        lambda: (x**x).sum(),
        lambda: ndl.exp(x * 1e3).sum(),
    ):
        with ndl.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(ndl.AnomalyError) as caught:
            loss().backward()
        found.append(str(caught.value).replace("test_backends.py", ""))
    y = x * 2
    y.cached_data.flat[0] += 1
    found.append(str(ndl.gradcheck(lambda a: ndl.tanh(a @ a.T), x, order=2)))
    found.append(str(ndl.gradcheck(ndl.custom_gradient(lambda a: (a * a, lambda g: g * a)), x)))
    return found


@every_device
def test_tools_say_the_same(device):
    assert says(device) == says(NUMPY)


@every_device
def test_an_array_that_changed_behind_the_graphs_back_is_found(device):
    with ndl.detect_anomaly(), pytest.raises(RuntimeError, match="argument 0 of EWiseMul"):
        x = tensor(distinct(3), device, True)
        y = (x * x).sum()
        x.realize_cached_data().flat[0] += 1
        y.backward()


# --- layers and losses -----------------------------------------------------------------------------------------


def run_layer(one, training, device, dtype):
    """The module's result, then the gradients of inputs and parameters, then its buffers."""
    module = build(one, training).to(device)
    for _, x in [*module.named_parameters(), *module.named_buffers()]:
        x.cached_data = device.cast(x.cached_data, dtype)
    inputs = [
        ndl.Tensor(x, device=device, dtype=dtype) if np.asarray(x).dtype.kind == "f" else np.asarray(x)
        for x in one.inputs
    ]
    np.random.seed(0)
    y = module(*inputs)
    y.backward(tensor(distinct(*y.shape).astype(dtype), device))
    moving = [x for x in [*inputs, *module.parameters()] if isinstance(x, ndl.Tensor)]
    assert all(x.device == device for x in (y, *moving))
    return [x.numpy() for x in (y, *[x.grad for x in moving], *[b for _, b in module.named_buffers()])]


@every_device
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("one", [pytest.param(one, id=name) for name, one in EXAMPLES.items()])
def test_every_layer_and_loss(one, training, device):
    for dtype, band in (("float64", 1e-12), ("float32", 10 * BAND)):
        wanted = run_layer(one, training, NUMPY, dtype)
        for got, its in zip(run_layer(one, training, device, dtype), wanted, strict=True):
            assert got.dtype == its.dtype == dtype and got.shape == its.shape
            near(got, its, band, f"in {dtype}")


# --- optimizers ------------------------------------------------------------------------------------------------


@every_device
@pytest.mark.parametrize("case", optim_check.CASES, ids=lambda case: case.name)
def test_every_optimizer_follows_its_formula(case, device):
    optim_check.check(case, device=device)


@every_device
@pytest.mark.parametrize("make", [optim.SGD, lambda p: optim.SGD(p, momentum=0.9), optim.Adam, optim.RMSprop])
@pytest.mark.parametrize("hold", [lambda w: w.data, lambda w: w.reshape(12), lambda w: w.T, lambda w: w[1:]])
def test_what_others_hold_of_a_parameter_stays_as_it_was(hold, make, device):
    w = tensor(distinct(3, 4).astype("float32"), device, True)
    held = hold(w.detach())
    before, start = held.tolist(), w.tolist()
    w.grad = tensor(np.ones((3, 4), "float32"), device)
    make([w]).step()
    assert held.tolist() == before and w.tolist() != start
    assert w.dtype == "float32" and w.grad.tolist() == np.ones((3, 4)).tolist()


@every_device
def test_an_optimizers_state_goes_on_where_it_was(device):
    def step(p, optimizer):
        p.grad = p.detach() * 0.5 + 1
        optimizer.step()

    ps = [tensor(distinct(3, 4), device, True) for _ in range(2)]
    first, second = (optim.Adam([p]) for p in ps)
    step(ps[0], first)
    ps[1].data = ps[0].detach()
    second.load_state_dict(first.state_dict())
    for p, optimizer in zip(ps, (first, second), strict=True):
        step(p, optimizer)
    assert ps[0].tolist() == ps[1].tolist() and ps[1].device == device


# --- initial values --------------------------------------------------------------------------------------------

DRAWS = [
    lambda **o: init.rand(3, 4, low=-1.0, high=2.0, **o), lambda **o: init.randn(3, 4, mean=2.0, std=0.5, **o),
    lambda **o: init.rand(**o), lambda **o: init.rand(2, low=-np.float64(0.5), high=np.float64(0.5), **o),
    lambda **o: init.xavier_uniform(3, 4, gain=1.5, **o), lambda **o: init.xavier_normal(3, 4, gain=1.5, **o),
    lambda **o: init.kaiming_uniform(8, 4, shape=(2, 2, 4), **o), lambda **o: init.kaiming_normal(3, 4, **o),
    lambda **o: init.orthogonal(4, 3, gain=2.0, **o), lambda **o: init.orthogonal(3, 4, **o),
    lambda **o: init.truncated_normal(50, cut=0.8, **o), lambda **o: init.randb(3, 4, p=0.3, **o),
]  # fmt: skip


@every_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seeded", [False, True], ids=["the device's stream", "a Generator"])
@pytest.mark.parametrize("make", DRAWS)
def test_draws(make, seeded, dtype, device):
    made = []
    for where in (device, NUMPY):
        np.random.seed(11)
        made.append(make(device=where, dtype=dtype, generator=ndl.Generator((3, 1)) if seeded else None))
        made.append(np.random.rand())
    got, after, wanted, its = made
    assert after == its and got.device == device and got.dtype == wanted.dtype == dtype and got.shape == wanted.shape
    near(got.numpy(), wanted.numpy(), 1e-12 if dtype == "float64" and not seeded else BAND, "draws")


@every_device
def test_constants_and_whole_numbers(device):
    labels = tensor(np.array([[2.0, 0.0]], "float32"), device)
    assert init.one_hot(3, labels, device=device).tolist() == [[[0, 0, 1], [1, 0, 0]]]
    assert init.constant(2, c=5, dtype="int32", device=device).tolist() == [5, 5]
    generators = [ndl.Generator(5) for _ in range(2)]
    for draw in (lambda g, d: g.randint(9, size=4, device=d), lambda g, d: g.permutation(6, device=d)):
        got, wanted = (draw(g, d) for g, d in zip(generators, (device, NUMPY), strict=True))
        assert got.device == device and got.dtype == "int64" and got.tolist() == wanted.tolist()


# --- trainings -------------------------------------------------------------------------------------------------


def clusters(n=60, features=8, classes=3):
    """Points that lie about a place of their class."""
    rng = np.random.default_rng(5)
    y = np.arange(n) % classes
    return (rng.standard_normal((classes, features))[y] + rng.standard_normal((n, features))).astype("float32"), y


def softmax_regression(device):
    X, y = clusters()
    W = init.zeros(8, 3, device=device, requires_grad=True)
    optimizer, losses = optim.SGD([W], lr=0.5, momentum=0.5), []
    for start in [*range(0, 60, 10)] * 5:
        images = ndl.Tensor(X[start : start + 10], device=device, requires_grad=False)
        loss = ndl.softmax_cross_entropy(images @ W, y[start : start + 10])
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [np.array(losses), W.numpy()]


def app(name):
    spec = importlib.util.spec_from_file_location(f"{name}_on_devices", ROOT / "apps" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def mlp_resnet(device):
    course = app("mlp_resnet")
    np.random.seed(1)
    model = course.MLPResNet(8, hidden_dim=12, num_blocks=2, num_classes=3).to(device)
    loader = ndl.data.DataLoader(ndl.data.NDArrayDataset(*clusters()), 15, shuffle=True, device=device)
    optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001)
    found = [course.epoch(loader, model, optimizer) for _ in range(4)]
    return [np.array([*found, course.epoch(loader, model)]), *[x.numpy() for x in model.state_dict().values()]]


@every_device
@pytest.mark.parametrize("train", [softmax_regression, mlp_resnet])
def test_trainings(train, device):
    got, wanted = train(device), train(NUMPY)
    losses = wanted[0].reshape(len(wanted[0]), -1)[:, -1]
    assert losses[-1] < 0.6 * losses[0]
    for ours, its in zip(got, wanted, strict=True):
        assert ours.dtype == its.dtype
        near(ours, its, 20 * BAND, "after training")


# --- where it is the backend -----------------------------------------------------------------------------------


def run_python(backend, *arguments, cwd=ROOT):
    environment = {**os.environ, "NEEDLE_BACKEND": backend}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_what_homework_code_sees_where_it_is_the_backend():
    done = run_python("nd", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_nd_backend.py")
    assert done.returncode == 0 and "passed" in done.stdout and "skipped" not in done.stdout, done.stdout + done.stderr


def test_an_unknown_backend_is_refused():
    done = run_python("numpy", "-c", "import needle")
    assert done.returncode and "NEEDLE_BACKEND='numpy' is not a backend of needle; known: 'np'" in done.stderr
    assert "'nd'" in done.stderr
