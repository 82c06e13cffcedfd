"""The training loop: it does what the loop by hand does, and resumes as if nothing had happened."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.data import DataLoader, NDArrayDataset
from needle.storage import read_checkpoint
from needle.training import EVENTS, EarlyStopping, Trainer, accuracy, find_lr, plot_history, print_epoch

ROOT = Path(__file__).resolve().parents[1]
X = np.random.RandomState(1).randn(22, 6).astype("f4")
Y = (X[:, 0] * X[:, 1] > 0).astype("u1")


class Net(nn.Module):
    """All that has a state: parameters, running statistics, dropout from either kind of generator."""

    def __init__(self, generator=None):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3, generator=generator), nn.Linear(8, 2)
        )

    def forward(self, x):
        return self.layers(x)


def loader(shuffle=True, **options):
    return DataLoader(NDArrayDataset(X, Y), batch_size=5, shuffle=shuffle, **options)


def trainer(model=None, lr=0.1, **options):
    model = model or Net()
    return Trainer(model, nn.SoftmaxLoss(), optim.SGD(model.parameters(), lr=lr, momentum=0.9), **options)


def bits(module):
    return {name: (x.dtype, x.shape, x.numpy().tobytes()) for name, x in module.state_dict().items()}


def without_time(history):
    return {name: column for name, column in history.items() if name != "seconds"}


# ---- what the loop does


def test_it_does_what_the_loop_by_hand_does():
    np.random.seed(3)
    model = Net()
    optimizer, loss = optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.SoftmaxLoss()
    losses = []
    for _ in range(2):
        total = 0.0
        for x, y in loader():
            optimizer.reset_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            total += value.item() * len(y.numpy())
        losses.append(total / len(X))

    np.random.seed(3)
    shared = trainer()
    history = shared.fit(loader(), 2)
    assert bits(shared.model) == bits(model)
    assert history["loss"] == losses and history["epoch"] == [1, 2] and history["lr"] == [0.1, 0.1]


def test_evaluate_is_the_mean_over_items_in_eval_mode():
    this = trainer(metrics={"accuracy": accuracy, "top": lambda output, target: output.numpy().max()})
    this.fit(loader(), 1)
    before = bits(this.model)
    found = this.evaluate(loader(shuffle=False))  # 22 items in batches of 5: the last one is smaller
    assert this.model.training and bits(this.model) == before
    this.model.eval()
    output = this.model(ndl.Tensor(X))
    assert math.isclose(found["loss"], nn.SoftmaxLoss()(output, ndl.Tensor(Y)).item(), rel_tol=1e-6)
    assert math.isclose(found["accuracy"], np.mean(output.numpy().argmax(1) == Y))
    assert this.evaluate(loader()).keys() == {"loss", "accuracy", "top"} and not this.model.training


def test_evaluate_records_nothing():
    model, seen = Net(), []
    this = Trainer(model, lambda output, y: seen.append(output.requires_grad) or nn.SoftmaxLoss()(output, y), None)
    this.evaluate(loader())
    assert seen == [False] * 5


def test_validation_and_metrics_are_in_the_history():
    this = trainer(metrics={"accuracy": accuracy})
    history = this.fit(loader(), 2, valid_loader=loader(shuffle=False))
    columns = ["epoch", "loss", "accuracy", "valid_loss", "valid_accuracy", "lr", "seconds"]
    assert list(history) == columns and all(len(column) == 2 for column in history.values())
    assert history["valid_loss"][-1] == this.evaluate(loader(shuffle=False))["loss"]


def test_epochs_count_from_the_first_fit_on():
    this = trainer()
    this.fit(loader(), 1)
    assert this.fit(loader(), 3)["epoch"] == [1, 2, 3]


def test_several_inputs():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, a, b):
            return self.layer(a + b)

    pairs = DataLoader(NDArrayDataset(X, 2 * X, Y), batch_size=11)
    assert len(trainer(Sum()).fit(pairs, 1)["loss"]) == 1


def test_a_model_in_eval_mode_is_trained_in_train_mode():
    note = Note()
    this = trainer(callbacks=[note])
    this.model.eval()
    this.fit(loader(), 1)
    assert note.seen == [(0, i, True) for i in (1, 2, 3, 4, 5)]


def test_a_parameter_that_a_batch_does_not_use_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 2), nn.Linear(6, 2)])
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.layers[self.calls > 1](x)

    model = Twice()
    this = Trainer(model, nn.SoftmaxLoss(), optim.SGD(model.parameters(), lr=0.1))
    before = model.layers[0].weight.numpy()
    (batch,) = DataLoader(NDArrayDataset(X, Y), batch_size=len(X))
    this.step(batch)
    once = model.layers[0].weight.numpy()
    this.step(batch)
    assert (once != before).any() and (model.layers[0].weight.numpy() == once).all()


def test_gradients_can_be_clipped_between_backward_and_step():
    class Clip:
        def on_gradients(self, trainer):
            trainer.optimizer.clip_grad_norm(0.0)

    this = trainer(callbacks=[Clip()])
    before = {name: x.numpy() for name, x in this.model.named_parameters()}
    this.fit(loader(), 1)
    assert all((x.numpy() == before[name]).all() for name, x in this.model.named_parameters())


def test_an_epoch_is_told_in_a_line(capsys):
    trainer(callbacks=[print_epoch]).fit(loader(), 2)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch 1: loss [\d.]+, lr 0.1, seconds [\d.e-]+", first) and second.startswith("epoch 2: ")


# ---- schedules


def test_a_schedule_is_stepped_after_epochs_or_batches():
    for every, rates in [("epoch", [0.1, 0.05, 0.025]), ("batch", [0.1 / 2**4, 0.1 / 2**9, 0.1 / 2**14])]:
        this = trainer()
        this.schedule, this.schedule_on = optim.StepLR(this.optimizer, 1, gamma=0.5), every
        assert np.allclose(this.fit(loader(), 3)["lr"], rates) is (every == "epoch")
        assert math.isclose(this.optimizer.lr, 0.1 * 0.5 ** (3 if every == "epoch" else 15))


def test_a_schedule_can_look_at_a_number():
    this = trainer(schedule_on="valid_loss")
    seen = []

    class Plateau:
        def step(self, number):
            seen.append(number)

    this.schedule = Plateau()
    history = this.fit(loader(), 2, valid_loader=loader())
    assert seen == history["valid_loss"]
    this.schedule_on = "val_loss"
    with pytest.raises(KeyError, match=r"Trainer: the history has no 'val_loss'; it has epoch, loss, valid_loss"):
        this.fit(loader(), 3, valid_loader=loader())


# ---- callbacks


def test_the_events_in_their_order():
    told = []

    class All:
        pass

    for event in EVENTS:
        setattr(All, event, lambda self, trainer, event=event: told.append(event))
    trainer(callbacks=[All(), lambda trainer: told.append("function")]).fit(loader(drop_last=True), 1)
    batch = ["on_gradients", "on_batch_end"]
    assert told == ["on_fit_begin", "on_epoch_begin", *batch * 4, "on_epoch_end", "function", "on_fit_end"]


def test_a_callback_that_would_never_be_called():
    class Typo:
        def on_epoch_ends(self, trainer):
            pass

    for callback, met in [(Typo(), "Typo has on_epoch_ends"), (3, "int has none")]:
        with pytest.raises(ValueError, match=f"a callback is a function or has methods named on_fit_begin.*; {met}"):
            trainer(callbacks=[callback])


def test_a_callback_can_stop_the_training():
    def stop(trainer):
        trainer.stop = trainer.epoch == 2

    assert trainer(callbacks=[stop]).fit(loader(), 9)["epoch"] == [1, 2]


class Given:
    """Has the history say what the test wants, and the parameters tell the epoch."""

    def __init__(self, numbers):
        self.numbers = numbers

    def on_epoch_end(self, trainer):
        trainer.rows[-1]["valid_loss"] = self.numbers[trainer.epoch - 1]
        for parameter in trainer.model.parameters():
            parameter.data = ndl.Tensor(np.full(parameter.shape, trainer.epoch), dtype=parameter.dtype)


STOPS = [  # numbers, settings, epochs trained, best epoch
    ([5, 4, 6, 7, 1, 1], {"patience": 2}, 4, 2),
    ([5, 4, 6, 3, 7, 8], {"patience": 2}, 6, 4),
    ([5, 4, 4, 4, 1, 1], {"patience": 2}, 4, 2),
    ([1, 2, 1, 1, 9, 9], {"patience": 2, "mode": "max"}, 4, 2),
    ([5, 4.6, 4.2, 4.1, 1, 1], {"patience": 1, "min_delta": 0.5}, 2, 1),
    ([float("nan")] * 6, {"patience": 3}, 3, None),
    ([5, 4, 3, 2, 1, 2], {"patience": 2}, 6, 5),
]


@pytest.mark.parametrize("numbers, settings, trained, best", STOPS)
def test_early_stopping(numbers, settings, trained, best):
    stopping = EarlyStopping(**settings)
    this = trainer(callbacks=[Given(numbers), stopping])
    assert len(this.fit(loader(), 6)["epoch"]) == trained
    kept = trained if best is None else best
    assert all((parameter.numpy() == kept).all() for parameter in this.model.parameters())
    assert stopping.best_epoch == (best or 0)


def test_early_stopping_is_told_what_to_look_at():
    with pytest.raises(KeyError, match="the history has no 'valid_loss'; it has epoch, loss, lr"):
        trainer(callbacks=[EarlyStopping()]).fit(loader(), 1)
    for wrong in ({"mode": "least"}, {"patience": 0}, {"min_delta": -1.0}):
        with pytest.raises(ValueError, match="EarlyStopping: wanted mode 'min' or 'max', patience from 1"):
            EarlyStopping(**wrong)


# ---- checkpoints


class Killed(BaseException):
    pass


class Kill:
    """Ends the process, as it were, in the middle of a step: after backward, before the optimizer."""

    def __init__(self, steps):
        self.steps = steps

    def on_gradients(self, trainer):
        self.steps -= 1
        if self.steps == 0:
            raise Killed


def make(kind, folder, *callbacks):
    """A Trainer and its loaders, as a script would make them each time that it is started."""
    numpy_alone = kind == "sgd"
    model = Net(generator=None if numpy_alone else ndl.Generator(5))
    if numpy_alone:
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    else:
        optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    this = Trainer(
        model,
        nn.SoftmaxLoss(),
        optimizer,
        schedule=optim.CosineLR(optimizer, 20),
        schedule_on="batch",
        metrics={"accuracy": accuracy},
        callbacks=[EarlyStopping(patience=2), *callbacks],
        checkpoint=folder / "run.safetensors",
        checkpoint_every=2,
        log=folder / "run.csv",
    )
    options = {} if numpy_alone else {"generator": np.random.default_rng(9), "prefetch": 2}
    return this, loader(**options), loader(shuffle=False)


def run(kind, folder, epochs, *callbacks):
    this, train, valid = make(kind, folder, *callbacks)
    this.fit(train, epochs, valid)
    return this


# 5 batches an epoch; the checkpoint is written after batches 2 and 4, and after the epoch.
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("kills", [[1], [3], [5], [6], [8], [12], [3, 1, 1, 3, 6], [15]])
def test_resumed_equals_uninterrupted(tmp_path, kind, kills):
    (tmp_path / "whole").mkdir()
    np.random.seed(3)
    whole = run(kind, tmp_path / "whole", 3)
    drawn = np.random.rand()
    (tmp_path / "cut").mkdir()
    np.random.seed(3)
    for steps in kills:
        with pytest.raises(Killed):
            run(kind, tmp_path / "cut", 3, Kill(steps))
        if (tmp_path / "cut" / "run.safetensors").exists():
            np.random.seed(99)  # another process begins anywhere
        else:
            np.random.seed(3)
    cut = run(kind, tmp_path / "cut", 3)
    assert bits(cut.model) == bits(whole.model)
    assert without_time(cut.history) == without_time(whole.history)
    assert str(cut.optimizer.state_dict()) == str(whole.optimizer.state_dict())
    assert cut.optimizer.lr == whole.optimizer.lr and cut.schedule.t == whole.schedule.t == 15
    assert np.random.rand() == drawn
    logs = [list(csv.DictReader((tmp_path / name / "run.csv").read_text().splitlines())) for name in ("cut", "whole")]
    assert [without_time(row) for row in logs[0]] == [without_time(row) for row in logs[1]]


SCRIPT = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_training import bits, run
folder, kind, seconds = Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
if seconds:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
np.random.seed(3)
this = run(kind, folder, 40)
print(sorted(bits(this.model).items()), this.history["loss"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a system without SIGKILL")
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path, kind):
    def process(name, seconds):
        (tmp_path / name).mkdir(exist_ok=True)
        command = [sys.executable, "-c", SCRIPT, str(ROOT / "tests"), str(tmp_path / name), kind, str(seconds)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    whole = process("whole", 0)
    assert whole.returncode == 0, whole.stderr
    kills, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        cut = process("cut", random.uniform(0.01, 0.1) * (5 + kills))  # longer and longer, so that it ends
        status, kills = cut.returncode, kills + 1
    assert status == 0, cut.stderr
    assert kills > 1 and cut.stdout == whole.stdout


class Note:
    def __init__(self):
        self.seen = []

    def on_batch_end(self, trainer):
        self.seen.append((trainer.epoch, trainer.batch, trainer.model.training))


def test_a_checkpoint_in_the_middle_of_an_epoch(tmp_path):
    with pytest.raises(Killed):
        run("sgd", tmp_path, 2, Kill(4))
    extra = read_checkpoint(tmp_path / "run.safetensors")["state"]["extra"]
    assert (extra["epoch"], extra["batch"], extra["totals"]["items"]) == (0, 2, 10)
    note = Note()
    run("sgd", tmp_path, 2, note)
    assert note.seen == [(0, i, True) for i in (3, 4, 5)] + [(1, i, True) for i in (1, 2, 3, 4, 5)]


def test_early_stopping_goes_on_counting(tmp_path):
    numbers, left = [5, 4, 6, 7, 1, 1], []
    for epochs in (2, 3, 6):  # as if killed after each
        stopping = EarlyStopping(patience=2)
        this = trainer(callbacks=[Given(numbers), stopping], checkpoint=tmp_path / "a.safetensors")
        this.fit(loader(), epochs)
        left.append((this.epoch, stopping.best_epoch, stopping.waited))
    assert left == [(2, 2, 0), (3, 2, 1), (4, 2, 2)]
    assert all((parameter.numpy() == 2).all() for parameter in this.model.parameters())


def test_a_finished_training_is_not_repeated(tmp_path):
    first = run("sgd", tmp_path, 2)
    second = run("sgd", tmp_path, 2)
    assert bits(second.model) == bits(first.model) and second.history == first.history


def test_a_training_that_was_stopped_stays_so(tmp_path):
    def stop(trainer):
        trainer.stop = True

    assert run("sgd", tmp_path, 5, stop).history["epoch"] == [1]
    assert run("sgd", tmp_path, 5).history["epoch"] == [1]


def test_resume_can_be_refused(tmp_path):
    run("sgd", tmp_path, 2)
    this, train, valid = make("sgd", tmp_path)
    assert this.fit(train, 1, valid, resume=False)["epoch"] == [1]
    assert run("sgd", tmp_path, 1).history == this.history


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run("sgd", tmp_path, 1)
    other = trainer(nn.Sequential(nn.Linear(6, 2)), checkpoint=tmp_path / "run.safetensors")
    other.schedule = optim.CosineLR(other.optimizer, 4)
    with pytest.raises(ndl.StorageError, match=r"run\.safetensors: the state of model does not fit, nothing was"):
        other.fit(loader(), 1)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run("sgd", tmp_path, 1)
    os.truncate(tmp_path / "run.safetensors", (tmp_path / "run.safetensors").stat().st_size - 1)
    with pytest.raises(ndl.StorageError, match=r"run\.safetensors: no sound safetensors file"):
        run("sgd", tmp_path, 2)


def test_a_loader_without_a_state_cannot_be_resumed(tmp_path):
    batches = list(loader())
    assert trainer().fit(batches, 2)["epoch"] == [1, 2]
    this = trainer(checkpoint=tmp_path / "a.safetensors", callbacks=[Kill(1)])
    with pytest.raises(TypeError, match=r"loader is a list, wanted something with state_dict\(\)"):
        this.fit(batches, 1)  # before the first step, not at the first checkpoint


# ---- log and picture


def test_the_log_is_the_history(tmp_path):
    for name in ("a.csv", "a.jsonl"):
        history = trainer(log=tmp_path / name, metrics={"accuracy": accuracy}).fit(loader(), 3, loader())
        with open(tmp_path / name) as file:
            rows = list(csv.DictReader(file)) if name == "a.csv" else [json.loads(line) for line in file]
        assert {key: [float(row[key]) for row in rows] for key in rows[0]} == history
    with pytest.raises(ValueError, match=r"log must end in \.csv or \.jsonl, got a\.txt"):
        trainer(log="a.txt")


def test_columns_that_begin_later():
    this = trainer()
    this.fit(loader(), 1)
    history = this.fit(loader(), 2, valid_loader=loader())
    assert history["valid_loss"][0] is None and history["valid_loss"][1] > 0


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_the_history_as_a_picture(tmp_path):
    history = {"epoch": [1, 2], "loss": [3.0, 2.0], "valid_loss": [None, 4.0], "lr": [0.1, 0.1], "seconds": [1, 1]}
    figure = plot_history(history, tmp_path / "a.png")
    loss, lr = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "valid"] and len(lr.lines) == 1
    assert loss.lines[0].get_ydata().tolist() == [3, 2] and (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="plot_history: the history is empty; train for an epoch first"):
        plot_history({})


# ---- learning rate


def parabola(curvature, n=40):
    """Least squares in one weight, where gradient descent converges below the rate 2/curvature."""
    x = np.full((n, 1), math.sqrt(curvature / 2), "f4")
    y = 3 * x + 0.1 * np.random.RandomState(1).randn(n, 1).astype("f4") * x
    return DataLoader(NDArrayDataset(x, y), batch_size=10, shuffle=True)


@pytest.mark.parametrize("curvature", [0.1, 10.0])
def test_the_suggested_rate_is_below_the_one_that_diverges(curvature):
    model = nn.Linear(1, 1, bias=False)
    model.weight.data = ndl.Tensor([[0.0]], dtype="float32")
    this = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.5))
    found = find_lr(this, parabola(curvature), low=1e-5, high=1e4, steps=200)
    assert 0.01 / curvature < found.suggestion < 2 / curvature
    assert found.losses[-1] <= 4 * min(found.losses)  # it ended where the loss rose, not where it overflowed
    assert found.rates[-1] < 100 / curvature and len(found.rates) == len(found.losses) < 200


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_search_leaves_no_trace(tmp_path, kind):
    np.random.seed(3)
    first, train, valid = make(kind, tmp_path)
    first.checkpoint = first.log = None
    find_lr(first, train, steps=20)
    assert first.epoch == 0 and first.rows == [] and first.model.training
    assert all(parameter.grad is None for parameter in first.model.parameters())
    first.fit(train, 2, valid)
    np.random.seed(3)
    second, train, valid = make(kind, tmp_path)
    second.checkpoint = second.log = None
    second.fit(train, 2, valid)
    assert bits(first.model) == bits(second.model)
    assert without_time(first.history) == without_time(second.history)


def test_a_search_that_cannot_be():
    this = trainer()
    for wrong in ({"low": 0.0}, {"low": 1.0, "high": 0.1}, {"steps": 4}):
        with pytest.raises(ValueError, match="find_lr: wanted 0 < low < high and at least 5 steps"):
            find_lr(this, loader(), **wrong)
    with pytest.raises(ValueError, match="find_lr: the loss blew up after [0-4] steps; take a smaller `low`"):
        model = nn.Linear(1, 1, bias=False)
        find_lr(Trainer(model, nn.MSELoss(), optim.SGD(model.parameters())), parabola(1.0), low=1e8, high=1e12)
    with pytest.raises(ValueError, match="find_lr: the loader gave no batch"):
        find_lr(this, [])


# ---- the page


def test_the_examples_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    space: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "checkpoints.md", "exec"), space)
    assert capsys.readouterr().out.count("epoch ") == len(space["history"]["epoch"])
    assert {"model.safetensors", "run.safetensors", "trainer.safetensors", "history.csv"} == set(os.listdir())
    assert all(f"`{event}`" in page for event in EVENTS)


# ---- bad input


def test_a_loss_that_is_not_finite():
    this = trainer()
    this.loss = lambda output, y: nn.SoftmaxLoss()(output, y) * float("nan")
    before = bits(this.model.layers[0])
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 1, batch 1; take a smaller learning rate"):
        this.fit(loader(), 1)
    assert bits(this.model.layers[0]) == before


def test_bad_batches():
    with pytest.raises(TypeError, match=r"a batch must be \(inputs, target\), got a Tensor"):
        trainer().fit([ndl.Tensor(X)], 1)
    with pytest.raises(TypeError, match=r"a batch must be \(inputs, target\), got 1 things"):
        trainer().fit([(ndl.Tensor(X),)], 1)
    used_up = iter([])
    with pytest.raises(ValueError, match="the loader gave no batch; was it an iterator that is used up"):
        trainer().fit(used_up, 1)
    with pytest.raises(ValueError, match="the loader gave no batch"):
        trainer().evaluate([])


@pytest.mark.parametrize("name", ["loss", "epoch", "lr", "seconds", "items", "valid_accuracy"])
def test_metrics_have_names_of_their_own(name):
    with pytest.raises(ValueError, match=f"a metric cannot be named {name}, which means something else already"):
        trainer(metrics={name: accuracy})


# --- what a reviewer found -------------------------------------------------------------------------------------


def review_trainer(path=None, dropout=0.0):
    rng = np.random.default_rng(0)
    data = ndl.data.NDArrayDataset(rng.random((12, 3), dtype=np.float32), rng.integers(2, size=12))
    model = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.BatchNorm1d(4), ndl.nn.Linear(4, 2))
    optimizer = ndl.optim.Adam(model.parameters(), lr=0.01)
    trainer = Trainer(model, ndl.nn.SoftmaxLoss(), optimizer, checkpoint=path)
    return trainer, ndl.data.DataLoader(data, 4)


def test_frozen_layers_stay_frozen_through_evaluation_and_search():
    trainer, loader = review_trainer()
    trainer.model[1].eval()
    trainer.evaluate(loader)
    find_lr(trainer, loader, steps=5, high=1e-3)
    assert trainer.model.training and not trainer.model[1].training and trainer.model[2].training


def test_to_begin_anew_forgets_what_was(tmp_path):
    trainer, loader = review_trainer(tmp_path / "c.safetensors")
    trainer.fit(loader, 2)
    assert len(trainer.fit(loader, 2, resume=False)["loss"]) == 2 and trainer.epoch == 2
    with pytest.raises(TypeError, match="epochs must be a whole number, got '3'"):
        trainer.fit(loader, "3")


@pytest.mark.parametrize(
    "extra", [None, {"epoch": 1}, {"epoch": -1, "batch": 0, "totals": {}, "rows": [], "stop": False},
              {"epoch": 1, "batch": 0, "totals": {}, "rows": [], "stop": False, "checkpoint": "elsewhere"}]
)  # fmt: skip
def test_a_checkpoint_that_no_trainer_wrote_changes_nothing(tmp_path, extra):
    path = tmp_path / "c.safetensors"
    other, loader = review_trainer(path)
    ndl.save_checkpoint(path, extra=extra, model=other.model, optimizer=other.optimizer, loader=loader)
    trainer, loader = review_trainer(path)
    before = trainer.model.parameters()[0].numpy()
    with pytest.raises(ndl.StorageError, match="is no checkpoint of a Trainer"):
        trainer.fit(loader, 3)
    assert np.array_equal(trainer.model.parameters()[0].numpy(), before) and trainer.checkpoint == path


def test_a_checkpoint_with_a_schedule_wants_one(tmp_path):
    path = tmp_path / "c.safetensors"
    trainer, loader = review_trainer(path)
    trainer.schedule = ndl.optim.CosineLR(trainer.optimizer, 4)
    trainer.fit(loader, 1)
    without, loader = review_trainer(path)
    with pytest.raises(ndl.StorageError, match="is of a training with a schedule, which this Trainer has not"):
        without.fit(loader, 2)
