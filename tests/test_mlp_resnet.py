"""The app: the course's network and functions by the contract, and a training that nothing can spoil."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.data import DataLoader, NDArrayDataset

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "apps" / "mlp_resnet.py"


def load():
    spec = importlib.util.spec_from_file_location("mlp_resnet_app", APP)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


app = load()


# --- the course's functions ------------------------------------------------------------------------------------


def test_the_network_has_the_layers_of_the_course():
    model = app.MLPResNet(784, hidden_dim=100, num_blocks=3, num_classes=10)
    block = (100 * 50 + 50) + 2 * 50 + (50 * 100 + 100) + 2 * 100
    assert sum(p.size for p in model.parameters()) == 784 * 100 + 100 + 3 * block + 100 * 10 + 10
    kinds = [type(layer).__name__ for layer in app.ResidualBlock(8, 4).modules]
    assert kinds == ["Residual", "ReLU"]
    inner = [
        type(layer).__name__ for layer in app.ResidualBlock(8, 4, norm=nn.LayerNorm1d, drop_prob=0.3).modules[0].fn
    ]
    assert inner == ["Linear", "LayerNorm1d", "ReLU", "Dropout", "Linear", "LayerNorm1d"]


def test_weights_are_drawn_in_the_order_in_which_they_are_used():
    np.random.seed(7)
    drawn = [p for p in app.MLPResNet(5, 4, 1, 3).parameters() if p.numpy().std() > 0 and p.size > 1]
    np.random.seed(7)
    for p in drawn[:2]:
        fan_in, fan_out = (5, 4) if p.shape == (5, 4) else (4, 1)
        bound = (6 / fan_in) ** 0.5
        wanted = np.random.rand(fan_in, fan_out).astype("float32") * np.float32(2 * bound) - np.float32(bound)
        np.testing.assert_allclose(p.numpy().ravel(), wanted.ravel(), atol=1e-6)


def loader(n=40, batch=15, shuffle=False):
    rng = np.random.default_rng(0)
    images, labels = rng.random((n, 2, 3, 1), dtype=np.float32), rng.integers(3, size=n).astype(np.uint8)
    return DataLoader(NDArrayDataset(images, labels), batch, shuffle=shuffle), images, labels


def test_an_epoch_of_evaluation():
    data, images, labels = loader()
    model = app.MLPResNet(6, 8, 1, 3)
    before = [p.numpy() for p in model.parameters()]
    error, loss = app.epoch(data, model)
    logits = model(ndl.Tensor(images.reshape(40, 6), requires_grad=False)).numpy().astype(float)
    wanted = np.log(np.exp(logits).sum(1)) - logits[np.arange(40), labels]
    assert not model.training and error == np.mean(logits.argmax(1) != labels)
    np.testing.assert_allclose(loss, wanted.mean(), rtol=1e-5)  # a mean over samples: the last batch is smaller
    assert all(np.array_equal(p.numpy(), b) for p, b in zip(model.parameters(), before, strict=True))


def test_an_epoch_of_training_seeds_first_and_is_the_loop_by_hand():
    results = []
    for by_hand in (False, True):
        np.random.seed(1)
        model = app.MLPResNet(6, 8, 2, 3)
        opt, data = ndl.optim.Adam(model.parameters(), lr=0.01), loader(shuffle=True)[0]
        if by_hand:
            np.random.seed(4)
            for X, y in data:
                opt.reset_grad()
                nn.SoftmaxLoss()(model(X.reshape((-1, 6))), y).backward()
                opt.step()
        else:
            model.eval()
            app.epoch(data, model, opt)
            assert model.training
        results.append([p.numpy() for p in model.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.slow
def test_train_mnist_on_its_files(data_folder):
    done = app.train_mnist(batch_size=500, epochs=1, hidden_dim=50, data_dir=str(data_folder / "mnist"))
    train_error, train_loss, test_error, test_loss = done
    assert test_error < 0.15 and train_error < 0.5 and 0 < test_loss < train_loss
    assert app.train_mnist(500, 1, hidden_dim=50, data_dir=str(data_folder / "mnist")) == done  # seeded


# --- the command -----------------------------------------------------------------------------------------------


def command(folder, *arguments):
    return [sys.executable, str(APP), "--figure", str(folder / "f.png"), *map(str, arguments)]


def run(folder, *arguments):
    return subprocess.run(command(folder, *arguments), cwd=folder, capture_output=True, text=True)


def test_the_command_keeps_its_promise(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(re.fullmatch(r"test accuracy: (.+) %", done.stdout.splitlines()[-1])[1]) > 97
    assert (tmp_path / "f.png").exists() and (tmp_path / "mlp_resnet_digits.csv").exists()
    again = run(tmp_path)  # nothing is left to do
    assert again.returncode == 0 and "going on after 20 epochs" in again.stdout
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]


SHORT = ("--epochs", 2, "--batch", 100, "--hidden", 20, "--every", 1)


def test_a_killed_training_ends_as_one_that_was_not(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir(), torn.mkdir()
    assert run(whole, *SHORT).returncode == 0
    file = "mlp_resnet_digits.safetensors"
    for wanted in (1, 2):  # killed once the checkpoint is there, and again once it has changed
        process = subprocess.Popen(
            command(torn, *SHORT), cwd=torn, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        seen, deadline = set(), time.monotonic() + 60
        while len(seen) < wanted and process.poll() is None and time.monotonic() < deadline:
            if (torn / file).exists():
                seen.add((torn / file).stat().st_mtime_ns)
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    assert (torn / file).exists()
    last = run(torn, *SHORT)
    assert last.returncode == 0 and "going on after" in last.stdout, last.stderr
    parts = [ndl.storage.read_checkpoint(folder / file)["state"] for folder in (whole, torn)]
    for name in ("model", "optimizer", "numpy_random", "schedule"):
        assert same(*[part[name] for part in parts]), name


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, ndl.Tensor):
        return same(a.numpy(), b.numpy())
    return np.array_equal(a, b)


def test_a_checkpoint_of_other_settings_is_refused_and_kept(tmp_path):
    assert run(tmp_path, *SHORT).returncode == 0
    before = (tmp_path / "mlp_resnet_digits.safetensors").read_bytes()
    other = run(tmp_path, *SHORT, "--lr", 0.1)
    assert other.returncode == 2 and "run with lr 0.003, not 0.1" in other.stderr and "--fresh" in other.stderr
    assert (tmp_path / "mlp_resnet_digits.safetensors").read_bytes() == before
    assert run(tmp_path, *SHORT, "--lr", 0.1, "--fresh").returncode == 0


def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path):
    assert run(tmp_path, *SHORT).returncode == 0
    file = tmp_path / "mlp_resnet_digits.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    done = run(tmp_path, *SHORT)
    assert done.returncode == 2 and file.name in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", "0"), "--epochs must be above 0"),
        (("--batch", "-3"), "--batch must be above 0"),
        (("--dropout", "1.5"), "Dropout"),
        (("--every", "0"), "--every must be above 0"),
        (("--checkpoint", "d.csv"), "--checkpoint must end in .safetensors"),
        (("--figure", "f.foo"), "--figure must end in .png"),
        (("--data", "mnist", "--folder", "nowhere"), "MNIST is not there"),
    ],
)
def test_bad_input_is_one_sentence(capsys, tmp_path, arguments, words):
    os.chdir(tmp_path)
    try:
        assert app.main(list(arguments)) == 2
    finally:
        os.chdir(ROOT)
    out, err = capsys.readouterr()
    assert words in err and len(err.splitlines()) == 1 and out == ""


@pytest.mark.slow
def test_mnist(tmp_path, data_folder):
    done = run(tmp_path, "--data", "mnist", "--folder", data_folder)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"^test accuracy: (.+) %$", done.stdout, re.MULTILINE)[1]) > 97.5
