"""The app: what it prints, draws and promises, and how it refuses. On scikit-learn's digits; on MNIST where it is."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def load():
    spec = importlib.util.spec_from_file_location("softmax_regression_app", ROOT / "apps" / "softmax_regression.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


app = load()


def run(capsys, *arguments):
    status = app.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_as_the_readme_has_it(tmp_path):
    command = [sys.executable, ROOT / "apps" / "softmax_regression.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 20
    assert any(line.startswith("gradcheck: pass") for line in lines)
    assert float(re.fullmatch(r"test error: (\d+\.\d\d) %", lines[-1])[1]) < 5
    assert (tmp_path / "softmax_regression.png").read_bytes().startswith(PNG)


def test_mnist_in_one_epoch(capsys, tmp_path, data_folder):
    status, out, _ = run(capsys, "--data", "mnist", "--folder", data_folder, "--figure", tmp_path / "m.png")
    assert status == 0 and "60000 images to learn from, 10000 to test" in out
    assert float(re.search(r"^test error: (.+) %$", out, re.MULTILINE)[1]) < 8
    assert float(re.search(r"trained for (.+) s,", out)[1]) < 10  # 0.5 s on a quiet machine


def short(tmp_path, *more):
    return ("--epochs", 1, "--figure", tmp_path / "f.png", *more)


def test_a_missed_promise_is_told(capsys, tmp_path):
    status, out, err = run(capsys, *short(tmp_path, "--lr", 1e-6, "--promise", 5))
    assert status == 1 and "missed the promised test error of 5.0 %" in err
    assert out.splitlines()[-1].startswith("test error: ")


def test_settings_of_ones_own_promise_nothing(capsys, tmp_path):
    assert run(capsys, *short(tmp_path, "--lr", 1e-6))[0] == 0


def test_a_wrong_gradient_is_told(capsys, tmp_path, monkeypatch):
    rule = ndl.ops.MatMul.gradient
    wrong = lambda self, out_grad, node: tuple(g if g is None else g * 1.5 for g in rule(self, out_grad, node))  # noqa: E731
    monkeypatch.setattr(ndl.ops.MatMul, "gradient", wrong)
    status, out, _ = run(capsys, *short(tmp_path))
    assert status == 1 and "gradcheck: fail: MatMul" in out


def test_the_float32_gradient_is_compared_too():
    data = ndl.data.digits()
    trained = app.train(data, app.Settings(epochs=1, batch=500, lr=0.5, promise=100), seed=0)
    right, found = app.check(trained)
    assert right and "within" in found
    X, y, weights, gradient = trained.last
    trained.last = (X, y, weights, gradient * 1.01)
    assert not app.check(trained)[0]
    trained.last = (X, y, weights, gradient * np.nan)
    right, found = app.check(trained)
    assert not right and "not finite: take a smaller --lr" in found


def test_a_compiled_step_trains_the_same():
    X, y, *test = ndl.data.digits()
    data, settings = (X[:300], y[:300], *test), app.Settings(epochs=1, batch=20, lr=0.5, promise=100)
    eager, compiled = (app.train(data, settings, 0, jit) for jit in (False, True))
    np.testing.assert_allclose(compiled.W.numpy(), eager.W.numpy(), atol=1e-5)
    np.testing.assert_allclose(compiled.losses, eager.losses, atol=1e-5)
    np.testing.assert_allclose(compiled.last[3], eager.last[3], atol=1e-5)  # the gradient that is checked


def test_the_seed_decides_the_order_of_images():
    data, settings = ndl.data.digits(), app.Settings(epochs=1, batch=100, lr=0.5, promise=100)
    first, again, other = (app.train(data, settings, seed).W.numpy() for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_batch_larger_than_the_data(capsys, tmp_path):
    status, out, _ = run(capsys, *short(tmp_path, "--batch", 5000))
    assert status == 0 and (tmp_path / "f.png").exists()


def test_without_matplotlib_it_trains_all_the_same(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "have", lambda name: False)
    status, out, _ = run(capsys, *short(tmp_path))
    assert status == 0 and "no figure: matplotlib is not installed" in out and not (tmp_path / "f.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", 0), "--epochs must be above 0, got 0"),
        (("--batch", -1), "--batch must be above 0, got -1"),
        (("--lr", "nan"), "--lr must be above 0, got nan"),
        (("--seed", -1), "--seed must not be negative"),
        (("--figure", "f.xyz"), "--figure must end in .png"),
        (("--figure", "."), "--figure must end in .png"),
        (("--data", "mnist", "--folder", "nowhere"), "MNIST is not there: looked in nowhere"),
        (("--data", "mnist", "--folder", "nowhere"), "--download, or take --data digits"),
    ],
)
def test_bad_input_is_one_sentence(capsys, arguments, words):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "") and words in err and len(err.splitlines()) == 1
