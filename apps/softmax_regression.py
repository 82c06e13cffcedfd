"""Softmax regression, the lecture's example whole: ten linear scores of an image's pixels, trained to tell digits.

The three ingredients are three functions of a line or two: `hypothesis`, `loss`, and the step of SGD in `train`. The
gradient stands nowhere: needle derives it, and at the end the numeric checker says what it found of it.

    python apps/softmax_regression.py                  scikit-learn's digits, nothing is fetched
    python apps/softmax_regression.py --data mnist     MNIST from the folder that NEEDLE_DATA names, or ./data
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs in a clone where nothing is installed

import needle as ndl  # noqa: E402
from needle.optional import have, optional  # noqa: E402
from needle.progress import progress  # noqa: E402


@dataclass(frozen=True)
class Settings:
    """lr is the first learning rate: it falls linearly to 0. promise: test error in % that these settings keep."""

    epochs: int
    batch: int
    lr: float
    promise: float


DEFAULTS = {
    "digits": Settings(epochs=20, batch=10, lr=0.5, promise=5.0),
    "mnist": Settings(epochs=1, batch=50, lr=2.0, promise=8.0),
}
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


# --- the three ingredients -------------------------------------------------------------------------------------


def hypothesis(X: ndl.Tensor, W: ndl.Tensor) -> ndl.Tensor:
    """Images (B, n) and weights (n, k) -> logits (B, k)."""
    return X @ W


def loss(X: ndl.Tensor, y: np.ndarray, W: ndl.Tensor) -> ndl.Tensor:
    """Mean cross-entropy between softmax(logits) and the labels y (B,)."""
    return ndl.softmax_cross_entropy(hypothesis(X, W), y)


@dataclass
class Run:
    """What a training leaves behind: the weights, a number for each step, and how the test set did on the way.

    `last`: the images, labels, weights and gradient of the last step.
    """

    W: ndl.Tensor
    losses: list[float] = field(default_factory=list)
    curve: list[tuple[int, float, float]] = field(default_factory=list)  # step, test loss, test error
    last: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
    seconds: float = 0.0


POINTS = 40  # of the learning curve


def train(data: Split, settings: Settings, seed: int, compiled: bool = False) -> Run:
    """Minibatch SGD from zero weights, each step by `ndl.jit` if compiled; prints a line an epoch."""
    X, y, X_test, y_test = data
    rng = np.random.default_rng(seed)
    run = Run(ndl.zeros(X.shape[1], 10, requires_grad=True))
    optimizer = ndl.optim.SGD([run.W], lr=settings.lr)

    def update(X: ndl.Tensor, y: np.ndarray) -> ndl.Tensor:
        value = loss(X, y, run.W)
        optimizer.reset_grad()
        value.backward()
        optimizer.step()
        return value

    update = ndl.jit(update, keep_grads=True) if compiled else update
    steps = settings.epochs * -(-len(X) // settings.batch)
    for epoch in range(settings.epochs):
        order = rng.permutation(len(X))
        starts = range(0, len(X), settings.batch)
        for start in progress(starts, desc=f"epoch {epoch + 1}/{settings.epochs}", unit="batch"):
            optimizer.lr = settings.lr * (1 - len(run.losses) / steps)
            step(run, update, X[order[start : start + settings.batch]], y[order[start : start + settings.batch]])
            if len(run.losses) % max(1, steps // POINTS) == 0:
                run.curve.append((len(run.losses), *evaluate(X_test, y_test, run.W)))
        (train_loss, train_error), (test_loss, test_error) = evaluate(X, y, run.W), evaluate(X_test, y_test, run.W)
        print(
            f"epoch {epoch + 1}/{settings.epochs}: train loss {train_loss:.4f}, error {100 * train_error:.2f} %; "
            f"test loss {test_loss:.4f}, error {100 * test_error:.2f} %",
            flush=True,
        )
    return run


def step(run: Run, update: Callable, X: np.ndarray, y: np.ndarray) -> None:
    """One step of SGD on a batch."""
    before = run.W.numpy()
    begun = perf_counter()
    value = update(ndl.Tensor(X, requires_grad=False), y)
    run.seconds += perf_counter() - begun
    run.losses.append(value.item())
    run.last = (X, y, before, run.W.grad.numpy())  # type: ignore[union-attr]


def evaluate(X: np.ndarray, y: np.ndarray, W: ndl.Tensor) -> tuple[float, float]:
    """Mean loss, and the share of images whose largest score is not their label's."""
    with ndl.no_grad():
        logits = hypothesis(ndl.Tensor(X, requires_grad=False), W)
        return ndl.softmax_cross_entropy(logits, y).item(), float(np.mean(logits.numpy().argmax(1) != y))


def check(run: Run) -> tuple[bool, str]:
    """What the numeric checker finds of the last step's gradient: the same loss, images and weights, in float64."""
    assert run.last is not None
    X, y, weights, gradient = run.last
    images, W = ndl.Tensor(X, dtype="float64", requires_grad=False), ndl.Tensor(weights, dtype="float64")
    result = ndl.gradcheck(lambda W: loss(images, y, W), W)
    loss(images, y, W).backward()
    exact = W.grad.numpy()  # type: ignore[union-attr]
    if not np.isfinite(gradient).all() or not exact.any():
        return False, f"{str(result).splitlines()[0]}; but the gradient is 0 or not finite: take a smaller --lr"
    off = np.abs(gradient - exact).max() / np.abs(exact).max()
    right = bool(result) and off < 1e-3
    return right, f"{str(result).splitlines()[0]}; the float32 gradient of the last step is within {off:.0e} of it"


# --- the picture -----------------------------------------------------------------------------------------------


def draw(run: Run, data: Split, file: Path) -> None:
    """Learning curve, the ten weight images and the confusion matrix of the test set, as one PNG."""
    optional("matplotlib", extra="apps", why="the figure").use("Agg")
    pyplot = optional("matplotlib.pyplot", extra="apps", why="the figure")
    figure = pyplot.figure(figsize=(13, 7), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1, 1.1))
    draw_curve(left, run)
    draw_weights(middle, run.W.numpy())
    draw_confusion(right, run.W, *data[2:])
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def draw_curve(figure: Any, run: Run) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    window = max(1, len(run.losses) // 50)
    smooth = np.convolve(run.losses, np.ones(window) / window, mode="valid")
    steps, losses, errors = zip(*run.curve, strict=True)
    above.plot(np.arange(len(smooth)) + window, smooth, color="tab:gray", label=f"of a batch, mean of {window} steps")
    above.plot(steps, losses, color="tab:orange", label="test")
    above.set(title="loss", yscale="log")
    above.legend()
    below.plot(steps, 100 * np.array(errors), color="tab:orange")
    below.set(title="test error", xlabel="step", ylabel="%", ylim=(0, None))
    below.grid(alpha=0.3)


def draw_weights(figure: Any, W: np.ndarray) -> None:
    """One image a class: red pixels speak for it, blue ones against."""
    side, largest = round(len(W) ** 0.5), np.abs(W).max()
    for label, axes in enumerate(figure.subplots(5, 2).flat):
        axes.imshow(W[:, label].reshape(side, side), cmap="coolwarm", vmin=-largest, vmax=largest)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(str(label), rotation=0, labelpad=10, va="center", fontsize=12)
    figure.suptitle("weights: red for the digit, blue against it")


def draw_confusion(figure: Any, W: ndl.Tensor, X: np.ndarray, y: np.ndarray) -> None:
    guesses = (X @ W.numpy()).argmax(1)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (y, guesses), 1)
    wrong = counts - np.diag(np.diag(counts))
    axes = figure.subplots()
    axes.imshow(wrong, cmap="Reds")
    for (i, j), n in np.ndenumerate(counts):
        color = "tab:green" if i == j else "white" if 2 * n > wrong.max() else "black"
        axes.text(j, i, n or "", ha="center", va="center", fontsize=8, color=color)
    axes.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="is", title="test digits, mistakes in red")


# --- the command -----------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        description="Trains softmax regression on handwritten digits, checks the gradient it trained with, draws a "
        "figure.",
        epilog="Exit status: 0 done; 1 the gradient is wrong, or the promised test error was missed (5 % on digits, "
        "8 % on MNIST; asked of the default settings, or of any with --promise); 2 bad input.",
    )
    whole.add_argument("--data", choices=DEFAULTS, default="digits", help="which data set (digits)")
    whole.add_argument("--folder", help="where the MNIST files are (NEEDLE_DATA, else ./data)")
    whole.add_argument("--download", action="store_true", help="fetch the MNIST files that are missing")
    whole.add_argument("--epochs", type=int, help="passes over the data (digits: 20, mnist: 1)")
    whole.add_argument("--batch", type=int, help="images a step (digits: 10, mnist: 50)")
    whole.add_argument("--lr", type=float, help="first learning rate, which falls to 0 (digits: 0.5, mnist: 2)")
    whole.add_argument("--seed", type=int, default=0, help="of the order of images (0)")
    whole.add_argument("--jit", action="store_true", help="compile the training step")
    whole.add_argument("--promise", type=float, metavar="PERCENT", help="exit with 1 above this test error")
    whole.add_argument("--figure", type=Path, default=Path("softmax_regression.png"), help="where to draw")
    return whole


def settings_of(args: argparse.Namespace) -> Settings:
    usual = DEFAULTS[args.data]
    chosen = {name: getattr(args, name) for name in ("epochs", "batch", "lr") if getattr(args, name) is not None}
    for name, value in chosen.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"--{name} must be above 0, got {value}")
    if args.seed < 0:
        raise ValueError(f"--seed must not be negative, got {args.seed}")
    if args.figure.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--figure must end in .png, .svg or .pdf, got {args.figure}")
    promise = args.promise if args.promise is not None else 100.0 if chosen else usual.promise
    return Settings(**{"epochs": usual.epochs, "batch": usual.batch, "lr": usual.lr} | chosen, promise=promise)


def load(args: argparse.Namespace) -> Split:
    if args.data == "digits":
        return ndl.data.digits()
    try:
        return ndl.data.mnist(args.folder, download=args.download)
    except FileNotFoundError as error:
        place = str(error).partition(" (.gz or plain)")[0]
        raise ValueError(
            f"{place}; name their folder with --folder, fetch them with --download, or take --data digits"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """Train, check, draw; gives the exit status."""
    args = parser().parse_args(argv)
    try:
        settings, data = settings_of(args), load(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"softmax_regression: {error}", file=sys.stderr)
        return 2
    print(f"{args.data}: {len(data[0])} images to learn from, {len(data[2])} to test, {data[0].shape[1]} pixels each")
    run = train(data, settings, args.seed, args.jit)
    print(f"trained for {run.seconds:.1f} s, {1e6 * run.seconds / len(run.losses):.0f} µs a step")
    right, found = check(run)
    print(found)
    if have("matplotlib"):
        draw(run, data, args.figure)
        print(f"figure: {args.figure}")
    else:
        print("no figure: matplotlib is not installed (pip install matplotlib)")
    reached = 100 * evaluate(*data[2:], run.W)[1]
    print(f"test error: {reached:.2f} %")
    if reached > settings.promise:
        print(f"softmax_regression: missed the promised test error of {settings.promise} %", file=sys.stderr)
    return 0 if right and reached <= settings.promise else 1


if __name__ == "__main__":
    sys.exit(main())
