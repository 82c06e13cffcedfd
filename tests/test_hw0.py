"""Homework 0: its gradients against central differences, its compiled loops against NumPy, its reader."""

import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
HW0 = ROOT / "apps" / "hw0"


def load(name):
    """The module, fresh and under a name of its own: homework 1 has another `simple_ml`."""
    spec = importlib.util.spec_from_file_location("hw0_" + name, HW0 / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ml = load("simple_ml")


def run_python(code, folder):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


def data(N=50, n=5, k=3, dtype=np.float64, seed=0):
    random = np.random.RandomState(seed)
    return random.randn(N, n).astype(dtype), random.randint(k, size=N).astype(np.uint8)


def numeric_gradient(loss, W, h=1e-5):
    """Central differences of loss() by each entry of W, which is changed and put back."""
    G = np.zeros_like(W)
    for at in np.ndindex(W.shape):
        kept = W[at]
        W[at] = kept + h
        above = loss()
        W[at] = kept - h
        G[at] = (above - loss()) / (2 * h)
        W[at] = kept
    return G


# ---- add, softmax_loss, loss_err ----


def test_add():
    assert ml.add(5, 6) == 11 and type(ml.add(5, 6)) is int
    assert ml.add(4.0, 4) == 8.0 and type(ml.add(4.0, 4)) is float
    np.testing.assert_array_equal(ml.add(np.array([1, 2]), np.array([3, 4])), [4, 6])


def test_softmax_loss_of_equal_logits_is_log_k():
    np.testing.assert_allclose(ml.softmax_loss(np.zeros((7, 10)), np.arange(7)), np.log(10), rtol=1e-15)


def test_softmax_loss_is_the_mean_of_minus_log_probability():
    Z, y = data(k=5)
    P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    np.testing.assert_allclose(ml.softmax_loss(Z, y), -np.mean(np.log(P[np.arange(50), y])), rtol=1e-14)


def test_softmax_loss_is_stable_and_exact_in_float64():
    np.testing.assert_allclose(ml.softmax_loss(np.array([[1e4, 0.0], [-1e4, 0.0]]), np.array([1, 0])), 1e4)
    assert ml.softmax_loss(np.array([[1e4, 0.0]]), np.array([0])) == 0
    assert ml.softmax_loss(np.array([[0.0, -np.inf]]), np.array([0])) == 0
    Z, y = data(N=1000, dtype=np.float32)
    assert ml.softmax_loss(Z, y) == ml.softmax_loss(Z.astype(np.float64), y)


def test_loss_err():
    Z, y = np.eye(4), np.array([0, 1, 2, 0])
    loss, err = ml.loss_err(Z, y)
    assert err == 0.25 and loss == ml.softmax_loss(Z, y)


@pytest.mark.parametrize(
    "Z, y, message",
    [
        (np.zeros((2, 3)), np.array([0, -1]), "y must hold integers from 0 to 2"),
        (np.zeros((2, 3)), np.array([0, 3]), "y must hold integers from 0 to 2"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "y must hold integers"),
        (np.zeros((2, 3)), np.array([0]), r"logits \(2, 3\), y \(1,\): wanted \(N, k\), \(N,\)"),
        (np.zeros(3), np.array([0, 1, 2]), r"logits \(3,\), y \(3,\): wanted"),
    ],
)
def test_losses_refuse_labels_that_are_no_class(Z, y, message):
    for loss in (ml.softmax_loss, ml.loss_err):
        with pytest.raises(ValueError, match=message):
            loss(Z, y)


# ---- gradients ----


def test_softmax_regression_step_is_the_numeric_gradient():
    X, y = data()
    theta = np.random.RandomState(1).randn(5, 3)
    G = numeric_gradient(lambda: ml.softmax_loss(X @ theta, y), theta)
    before = theta.copy()
    ml.softmax_regression_epoch(X, y, theta, lr=1.0, batch=50)
    np.testing.assert_allclose(before - theta, G, rtol=1e-6, atol=1e-9)


def test_nn_step_is_the_numeric_gradient():
    X, y = data()
    random = np.random.RandomState(2)
    W1, W2 = random.randn(5, 8), random.randn(8, 3)

    def loss():
        return ml.softmax_loss(np.maximum(X @ W1, 0) @ W2, y)

    G1, G2 = numeric_gradient(loss, W1), numeric_gradient(loss, W2)
    before1, before2 = W1.copy(), W2.copy()
    ml.nn_epoch(X, y, W1, W2, lr=1.0, batch=50)
    np.testing.assert_allclose(before1 - W1, G1, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(before2 - W2, G2, rtol=1e-5, atol=1e-8)


def both_epochs(compiled):
    return [ml.softmax_regression_epoch, compiled.softmax_regression_epoch_cpp]


@pytest.fixture(params=["numba", "no numba"])
def compiled(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setitem(sys.modules, "numba", None)
    return load("simple_ml")


def test_an_epoch_is_its_batches_in_order_the_last_one_smaller(compiled):
    X, y = data(N=47)
    for epoch in both_epochs(compiled):
        theta, wanted = np.zeros((5, 3)), np.zeros((5, 3))
        epoch(X, y, theta, 0.3, 10)
        for start in range(0, 47, 10):
            rows = slice(start, start + 10)
            G = numeric_gradient(lambda rows=rows, W=wanted: ml.softmax_loss(X[rows] @ W, y[rows]), wanted)
            wanted -= 0.3 * G
        np.testing.assert_allclose(theta, wanted, atol=1e-8)


def test_nn_epoch_is_its_batches_in_order():
    X, y = data(N=47)
    random = np.random.RandomState(2)
    start = random.randn(5, 8), random.randn(8, 3)
    whole, pieces = [W.copy() for W in start], [W.copy() for W in start]
    ml.nn_epoch(X, y, *whole, lr=0.3, batch=20)
    for rows in (slice(0, 20), slice(20, 40), slice(40, 47)):
        ml.nn_epoch(X[rows], y[rows], *pieces, lr=0.3, batch=len(y[rows]))
    np.testing.assert_array_equal(whole[0], pieces[0])
    np.testing.assert_array_equal(whole[1], pieces[1])


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_compiled_epoch_equals_numpy(compiled, dtype, tolerance):
    X, y = data(N=330, n=40, k=10, dtype=dtype)
    theta = np.random.RandomState(3).randn(40, 10).astype(dtype)
    wanted = theta.copy()
    ml.softmax_regression_epoch(X, y, wanted, 0.2, 100)
    compiled.softmax_regression_epoch_cpp(X, y, theta, 0.2, 100)
    assert theta.dtype == dtype and not np.array_equal(wanted, 0)
    np.testing.assert_allclose(theta, wanted, rtol=tolerance, atol=tolerance)


def test_compiled_epoch_takes_large_logits_and_views(compiled):
    X, y = data(N=64, n=12)
    X, y = X[::2, ::2] * 1e3, y[::2]
    theta = np.asfortranarray(np.random.RandomState(3).randn(6, 3))
    wanted = theta.copy()
    ml.softmax_regression_epoch(X, y, wanted, 0.1, 7)
    compiled.softmax_regression_epoch_cpp(X, y, theta, 0.1, 7)
    assert np.isfinite(theta).all()
    np.testing.assert_allclose(theta, wanted, rtol=1e-9)


def test_numba_really_compiles_and_is_imported_late():
    pytest.importorskip("numba")
    code = (
        "import sys; import simple_ml, numpy as np; assert 'numba' not in sys.modules\n"
        "theta = np.zeros((2, 2)); X = np.eye(2); y = np.array([0, 1])\n"
        "simple_ml.softmax_regression_epoch_cpp(X, y, theta, .1, 1)\n"
        "print(len(simple_ml._compiled_epoch().signatures))"
    )
    assert run_python(code, HW0).stdout == "1\n"


@pytest.mark.slow
def test_numba_cache_serves_every_name_of_the_module(tmp_path):
    """Numba keeps the importing name on disk; where that name is unknown, loading would fail."""
    pytest.importorskip("numba")
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(HW0 / "simple_ml.py", package)
    epoch = "softmax_regression_epoch_cpp(np.eye(2), np.arange(2), np.zeros((2, 2)), .1, 1)"
    unlisted = (
        "from importlib.util import *; spec = spec_from_file_location('nobody', 'simple_ml.py');"
        "m = module_from_spec(spec); spec.loader.exec_module(m)"
    )
    run_python(f"import numpy as np; import package.simple_ml as m; m.{epoch}", tmp_path)
    for how in ("import simple_ml as m", unlisted, unlisted):
        run_python(f"import numpy as np; {how}; m.{epoch}", package)
    kept = {path.name.partition("-")[0] for path in package.rglob("*.nbi")}
    assert kept == {"simple_ml._epoch_loops_of_package.simple_ml", "simple_ml._epoch_loops_of_simple_ml"}


def test_numba_without_a_folder_for_its_cache(monkeypatch):
    def njit(error_model, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: "compiled"

    monkeypatch.setitem(sys.modules, "numba", types.SimpleNamespace(njit=njit))
    assert load("simple_ml")._compiled_epoch() == "compiled"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"y": np.array([0, 1, 3])}, "y must hold integers from 0 to 2"),
        ({"y": np.array([0, -1, 2])}, "y must hold integers from 0 to 2"),
        ({"y": np.array([0.0, 1, 2])}, "y must hold integers"),
        ({"y": np.array([0, 1])}, r"X \(3, 4\), y \(2,\)"),
        ({"y": np.eye(3, dtype=int)}, r"y \(3, 3\)"),
        ({"X": np.ones((3, 5))}, r"X \(3, 5\) does not go with weights \(4, 3\)"),
        ({"X": np.ones(3)}, r"X \(3,\), y \(3,\), weights \(4, 3\): wanted"),
        ({"theta": np.ones(4)}, r"weights \(4,\): wanted"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
    ],
)
def test_epochs_refuse_nonsense(compiled, change, message):
    call = {"X": np.ones((3, 4)), "y": np.array([0, 1, 2]), "theta": np.ones((4, 3)), "lr": 0.1, "batch": 2}
    for epoch in both_epochs(compiled):
        with pytest.raises(ValueError, match=message):
            epoch(**(call | change))


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_epochs_refuse_weights_that_are_no_floats(compiled, dtype):
    X, y = data()
    for epoch in both_epochs(compiled):
        theta = np.ones((5, 3), dtype)
        with pytest.raises(TypeError, match=f"weights are {dtype}, wanted a float dtype"):
            epoch(X, y, theta, 0.1, 10)
        assert (theta == 1).all()


@pytest.mark.parametrize("X_dtype, y_dtype, dtype", [(">f4", "u1", "f4"), (">f8", ">i4", "f8"), ("f8", "u1", ">f8"),
                                                     ("f2", "u1", "f4"), ("f4", "u1", "f2"), (">i2", "u1", "f8"),
                                                     ("g", "u1", "f8")])  # fmt: skip
def test_compiled_epoch_takes_what_numpy_takes(compiled, X_dtype, y_dtype, dtype):
    X, y = data(N=30)
    X, y = (X * 3).astype(X_dtype), y.astype(y_dtype)
    theta = np.random.RandomState(3).randn(5, 3).astype(dtype)
    start, wanted = theta.copy(), theta.copy()
    ml.softmax_regression_epoch(X, y, wanted, 0.2, 10)
    compiled.softmax_regression_epoch_cpp(X, y, theta, 0.2, 10)
    assert theta.dtype == np.dtype(dtype) and not np.array_equal(theta, start)
    np.testing.assert_allclose(theta, wanted, rtol=1e-4, atol=1e-4)


def test_nn_epoch_refuses_weights_that_do_not_fit():
    X, y = data()
    with pytest.raises(ValueError, match=r"does not go with weights \(5, 8\) and \(7, 3\)"):
        ml.nn_epoch(X, y, np.ones((5, 8)), np.ones((7, 3)))


# ---- parse_mnist ----

PIXELS = (np.arange(2 * 784) % 256).astype(np.uint8)
IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + PIXELS.tobytes()
LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3])
PACKED = gzip.compress(IMAGES)


@pytest.fixture
def parse(tmp_path):
    def parse(images, labels):
        (tmp_path / "images").write_bytes(images)
        (tmp_path / "labels").write_bytes(labels)
        return ml.parse_mnist(str(tmp_path / "images"), str(tmp_path / "labels"))

    return parse


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_parse_mnist(parse, pack):
    X, y = parse(pack(IMAGES), pack(LABELS))
    wanted = PIXELS.reshape(2, 784).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(X, wanted, strict=True)
    np.testing.assert_array_equal(y, np.array([7, 3], np.uint8), strict=True)


BAD_FILES = {
    "swapped": (LABELS, IMAGES, "images starts with '00 00 08 01', wanted '00 00 08 03' for images"),
    "empty": (b"", LABELS, "images starts with '', wanted"),
    "cut in the header": (IMAGES[:9], LABELS, "images is damaged"),
    "cut": (IMAGES[:-1], LABELS, r"does not hold the 1568 bytes of its shape \(2, 28, 28\)"),
    "too long": (IMAGES + b"x", LABELS, "does not hold the 1568 bytes"),
    "gzip cut": (PACKED[:-9], LABELS, "images is damaged"),
    "gzip damaged": (PACKED[:12] + b"\xff\xff" + PACKED[14:], LABELS, "images is damaged"),
    "counts": (IMAGES, LABELS[:7] + b"\1\5", "has 2 images, .*labels has 1 labels"),
    "huge promise": (bytes([0, 0, 8, 3]) + b"\xff" * 12, LABELS, "does not hold the 792281624589"),
    "bomb": (gzip.compress(IMAGES + bytes(10**7)), LABELS, "does not hold the 1568 bytes"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_parse_mnist_refuses(parse, case):
    images, labels, message = BAD_FILES[case]
    with pytest.raises(ValueError, match=message):
        parse(images, labels)


def test_parse_mnist_missing_file():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ml.parse_mnist("nowhere", "nowhere")


# ---- as the homework uses it ----


def test_homework_folder_finds_every_name(tmp_path):
    (tmp_path / "src").symlink_to(HW0, target_is_directory=True)
    code = (
        "import sys; sys.path.append('./src'); sys.modules['needle'] = None\n"
        "from simple_ml import *; from simple_ml import softmax_regression_epoch_cpp as first\n"
        "from simple_ml_ext import *\n"
        "assert softmax_regression_epoch_cpp is first\n"
        "print(add(4., 4), *(f.__name__ for f in (parse_mnist, train_softmax, train_nn, loss_err)))"
    )
    run = run_python(code, tmp_path)
    assert (run.stdout, run.stderr) == ("8.0 parse_mnist train_softmax train_nn loss_err\n", "")


def test_trainings_print_a_table_and_learn(capsys):
    X, _ = data(N=300, n=6, dtype=np.float32)
    y = X[:, :3].argmax(1).astype(np.uint8)
    state = np.random.get_state()[1].copy()
    for cpp in (False, True):
        theta = ml.train_softmax(X, y, X[:50], y[:50], epochs=20, batch=10, cpp=cpp)
        assert ml.loss_err(X @ theta, y)[1] < 0.05
    W1, W2 = ml.train_nn(X, y, X[:50], y[:50], hidden_dim=20, epochs=3, batch=10)
    assert W1.dtype == W2.dtype == np.float32 and (W1.shape, W2.shape) == ((6, 20), (20, 3))
    assert ml.loss_err(np.maximum(X @ W1, 0) @ W2, y)[1] < 0.1
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21 + 21 + 4 and {line.count("|") for line in lines} == {6}


@pytest.fixture(scope="module")
def mnist():
    for folder in (os.environ.get("NEEDLE_DATA"), ROOT.parent / "shared" / "data"):
        for place in (Path(folder, "mnist"), Path(folder)) if folder else ():
            if (place / "train-images-idx3-ubyte.gz").is_file():
                names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
                files = [str(place / f"{name}-ubyte.gz") for name in names]
                return (*ml.parse_mnist(*files[:2]), *ml.parse_mnist(*files[2:]))
    pytest.skip("no MNIST: name its folder in NEEDLE_DATA to run this")


@pytest.mark.slow
def test_one_epoch_of_the_network_on_mnist(mnist):
    X, y, X_test, y_test = mnist
    random = np.random.RandomState(0)
    W1 = (random.randn(784, 100) / 10).astype(np.float32)
    W2 = (random.randn(100, 10) / np.sqrt(10)).astype(np.float32)
    ml.nn_epoch(X, y, W1, W2, lr=0.2, batch=100)
    assert ml.loss_err(np.maximum(X_test @ W1, 0) @ W2, y_test)[1] < 0.07


def test_one_epoch_of_softmax_regression_on_mnist(mnist):
    """Plain SGD in file order stays near 9 %; shuffled rows and a falling step bring one epoch under 8 %."""
    X, y, X_test, y_test = mnist
    theta = np.zeros((784, 10), np.float32)
    ml.softmax_regression_epoch(X, y, theta, lr=0.2, batch=100)
    assert ml.loss_err(X_test @ theta, y_test)[1] < 0.1

    theta[:] = 0
    order = np.random.RandomState(0).permutation(60000)
    for part, rows in enumerate(np.split(order, 60)):
        ml.softmax_regression_epoch(X[rows], y[rows], theta, lr=0.5 * (1 - part / 60), batch=10)
    assert ml.loss_err(X_test @ theta, y_test)[1] < 0.08


def test_compiled_epoch_on_mnist_is_the_same_training(mnist):
    pytest.importorskip("numba")
    X, y, X_test, y_test = mnist
    thetas = np.zeros((2, 784, 10), np.float32)
    ml.softmax_regression_epoch(X, y, thetas[0], lr=0.2, batch=100)
    ml.softmax_regression_epoch_cpp(X, y, thetas[1], 0.2, 100)
    np.testing.assert_allclose(thetas[0], thetas[1], atol=1e-4)
