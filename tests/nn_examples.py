"""One example of each layer and loss: how to make it, what it shall give, its twin in PyTorch. tests/test_nn.py runs
them; a new layer needs one entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

import needle as ndl
from needle import nn

F64 = {"dtype": "float64"}


def distinct(*shape: int) -> np.ndarray:
    """Numbers of either sign, none within 0.1 of another or of 0."""
    n = math.prod(shape)
    order = np.random.default_rng(shape).permutation(n)
    return ((order - n // 2) * 0.25 + 0.13).reshape(shape)


@dataclass(frozen=True)
class Example:
    """`make` gives the module in float64; `wanted(module, *inputs)` its result by NumPy, in train mode as in eval mode
    where it says nothing else; `twin` PyTorch's module."""

    make: Callable[[], nn.Module]
    inputs: tuple
    wanted: Callable
    twin: Callable | None = None


EXAMPLES: dict[str, Example] = {}


def example(name: str, make: Callable, inputs: Any, wanted: Callable, twin: Callable | None = None):
    EXAMPLES[name] = Example(make, inputs if isinstance(inputs, tuple) else (inputs,), wanted, twin)


def build(one: Example, training: bool = True) -> nn.Module:
    """The module with parameters and buffers that are not special: a missing scale or shift shows."""
    module = one.make().train(training)
    rng = np.random.default_rng(0)
    for _, tensor in [*module.named_parameters(), *module.named_buffers()]:
        tensor.data = ndl.Tensor(rng.uniform(0.5, 1.5, tensor.shape), dtype=tensor.dtype)
    return module


def value(tensor: Any) -> np.ndarray:
    return tensor.numpy()


# --- layers ----------------------------------------------------------------------------------------------------


def linear(m: Any, x: np.ndarray) -> np.ndarray:
    return x @ value(m.weight) + (0 if m.bias is None else value(m.bias).reshape(-1))


for bias in (True, False):
    example(
        f"Linear bias={bias}", lambda bias=bias: nn.Linear(4, 3, bias=bias, **F64), distinct(5, 4), linear,
        lambda t, bias=bias: t.nn.Linear(4, 3, bias=bias),
    )  # fmt: skip
example("Linear 3-D", lambda: nn.Linear(4, 3, **F64), distinct(2, 5, 4), linear, lambda t: t.nn.Linear(4, 3))
example("Linear 1-D", lambda: nn.Linear(4, 3, **F64), distinct(4), linear, lambda t: t.nn.Linear(4, 3))

sigmoid = scipy.special.expit
example("ReLU", nn.ReLU, distinct(4, 3), lambda m, x: np.where(x > 0, x, 0), lambda t: t.nn.ReLU())
example("GELU", nn.GELU, distinct(4, 3), lambda m, x: x * scipy.special.ndtr(x), lambda t: t.nn.GELU())
example("GELU tanh", lambda: nn.GELU("tanh"), distinct(4, 3),
        lambda m, x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        lambda t: t.nn.GELU("tanh"))  # fmt: skip
example("SiLU", nn.SiLU, distinct(4, 3), lambda m, x: x * sigmoid(x), lambda t: t.nn.SiLU())
example("Sigmoid", nn.Sigmoid, distinct(4, 3), lambda m, x: sigmoid(x), lambda t: t.nn.Sigmoid())
example("Tanh", nn.Tanh, distinct(4, 3), lambda m, x: np.tanh(x), lambda t: t.nn.Tanh())
example("LeakyReLU", lambda: nn.LeakyReLU(0.2), distinct(4, 3), lambda m, x: np.where(x > 0, x, 0.2 * x),
        lambda t: t.nn.LeakyReLU(0.2))  # fmt: skip
example("Softmax", nn.Softmax, distinct(4, 3), lambda m, x: scipy.special.softmax(x, -1), lambda t: t.nn.Softmax(-1))
example("Softmax axis 0", lambda: nn.Softmax(0), distinct(4, 3), lambda m, x: scipy.special.softmax(x, 0),
        lambda t: t.nn.Softmax(0))  # fmt: skip
example("Identity", nn.Identity, distinct(4, 3), lambda m, x: x, lambda t: t.nn.Identity())
example("Flatten", nn.Flatten, distinct(4, 3, 2), lambda m, x: x.reshape(4, 6), lambda t: t.nn.Flatten())
example("Flatten of a matrix", nn.Flatten, distinct(4, 3), lambda m, x: x, lambda t: t.nn.Flatten())


def dropped(m: Any, x: np.ndarray) -> np.ndarray:
    """By the stream that every test begins with."""
    np.random.seed(0)
    return x * (np.random.rand(*x.shape) <= 1 - m.p) / (1 - m.p) if m.training else x


example("Dropout", lambda: nn.Dropout(0.3), distinct(6, 5), dropped)
example("Dropout p=0", lambda: nn.Dropout(0), distinct(6, 5), lambda m, x: x, lambda t: t.nn.Dropout(0))
example(
    "Dropout p=1", lambda: nn.Dropout(1), distinct(6, 5), lambda m, x: x * (not m.training), lambda t: t.nn.Dropout(1)
)


def batch_norm(m: Any, x: np.ndarray) -> np.ndarray:
    mu, variance = (x.mean(0), x.var(0)) if m.training else (value(m.running_mean), value(m.running_var))
    return (x - mu) / np.sqrt(variance + m.eps) * value(m.weight) + value(m.bias)


def normalized(m: Any, x: np.ndarray, axes: Any) -> np.ndarray:
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + m.eps)
    y = y * (1 if m.weight is None else value(m.weight))
    return y + (0 if m.bias is None else value(m.bias))


def rms_norm(m: Any, x: np.ndarray) -> np.ndarray:
    axes = tuple(range(-len(m.normalized_shape), 0))
    y = x / np.sqrt((x * x).mean(axes, keepdims=True) + m.eps)
    return y * (1 if m.weight is None else value(m.weight))


example("BatchNorm1d", lambda: nn.BatchNorm1d(3, eps=0.1, momentum=0.3, **F64), distinct(5, 3), batch_norm,
        lambda t: t.nn.BatchNorm1d(3, eps=0.1, momentum=0.3))  # fmt: skip
example("LayerNorm1d", lambda: nn.LayerNorm1d(4, eps=0.1, **F64), distinct(3, 4), lambda m, x: normalized(m, x, -1),
        lambda t: t.nn.LayerNorm(4, eps=0.1))  # fmt: skip
example("LayerNorm", lambda: nn.LayerNorm((3, 4), eps=0.1, **F64), distinct(2, 3, 4),
        lambda m, x: normalized(m, x, (-2, -1)), lambda t: t.nn.LayerNorm((3, 4), eps=0.1))  # fmt: skip
example("LayerNorm bias=False", lambda: nn.LayerNorm(4, bias=False, **F64), distinct(2, 3, 4),
        lambda m, x: normalized(m, x, -1), lambda t: t.nn.LayerNorm(4, bias=False))  # fmt: skip
example("LayerNorm plain", lambda: nn.LayerNorm(4, elementwise_affine=False), distinct(3, 4),
        lambda m, x: normalized(m, x, -1), lambda t: t.nn.LayerNorm(4, elementwise_affine=False))  # fmt: skip
example("RMSNorm", lambda: nn.RMSNorm(4, eps=0.1, **F64), distinct(2, 3, 4), rms_norm,
        lambda t: t.nn.RMSNorm(4, eps=0.1))  # fmt: skip
example("RMSNorm of matrices", lambda: nn.RMSNorm((3, 4), **F64), distinct(2, 3, 4), rms_norm,
        lambda t: t.nn.RMSNorm((3, 4), eps=1e-6))  # fmt: skip
example("RMSNorm plain", lambda: nn.RMSNorm(4, elementwise_affine=False), distinct(3, 4), rms_norm,
        lambda t: t.nn.RMSNorm(4, eps=1e-6, elementwise_affine=False))  # fmt: skip

TOKENS = np.array([[1, 0, 4], [1, 1, 2]])
example("Embedding", lambda: nn.Embedding(5, 3, **F64), TOKENS, lambda m, x: value(m.weight)[x],
        lambda t: t.nn.Embedding(5, 3))  # fmt: skip


def through(m: Any, x: np.ndarray) -> np.ndarray:
    return batch_norm(m[2], np.tanh(linear(m[0], x)))


example("Sequential", lambda: nn.Sequential(nn.Linear(4, 3, **F64), nn.Tanh(), nn.BatchNorm1d(3, **F64)),
        distinct(5, 4), through,
        lambda t: t.nn.Sequential(t.nn.Linear(4, 3), t.nn.Tanh(), t.nn.BatchNorm1d(3)))  # fmt: skip
example("Residual", lambda: nn.Residual(nn.Linear(3, 3, **F64)), distinct(4, 3), lambda m, x: linear(m.fn, x) + x)

# --- losses ----------------------------------------------------------------------------------------------------

LOGITS, LABELS = distinct(4, 3), np.array([2, 0, 0, 1])
IMAGES, PIXELS = distinct(2, 3, 2, 2), np.array([[[0, 1], [2, 2]], [[1, 1], [0, 2]]])
TARGET = distinct(3, 4).T + 0.06  # never so near that |x − y| has a kink
SOME = np.array([2, -100, 0, -100])
SHARES = scipy.special.softmax(distinct(3, 4).T, -1)
LOG_P = scipy.special.log_softmax(LOGITS, -1)
WEIGHT = np.array([0.5, 1.0, 3.0])


def classes_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1) if x.ndim > 2 else x


def reduced(m: Any, losses: np.ndarray, total: Any = None) -> Any:
    if m.reduction == "none":
        return losses
    if m.reduction == "batchmean":
        return losses.sum() / len(losses)
    return losses.sum() if m.reduction == "sum" else losses.sum() / (losses.size if total is None else total)


def nll(m: Any, x: np.ndarray, labels: np.ndarray) -> Any:
    """Label by label."""
    x, weight = classes_last(x), np.ones(x.shape[min(1, x.ndim - 1)]) if m.weight is None else value(m.weight)
    losses, total = np.zeros(labels.shape), 0.0
    for place in np.ndindex(labels.shape):
        if labels[place] != m.ignore_index:
            losses[place] = -weight[labels[place]] * x[place][labels[place]]
            total += weight[labels[place]]
    return reduced(m, losses, total)


def cross_entropy(m: Any, x: np.ndarray, target: np.ndarray) -> Any:
    log_p = scipy.special.log_softmax(classes_last(x), -1)
    classes = log_p.shape[-1]
    weight = np.ones(classes) if m.weight is None else value(m.weight)
    if target.dtype.kind == "f":
        q = classes_last(target) * (1 - m.label_smoothing) + m.label_smoothing / classes
        return reduced(m, -(q * weight * log_p).sum(-1))
    losses, total = np.zeros(target.shape), 0.0
    for place in np.ndindex(target.shape):
        if target[place] != m.ignore_index:
            q = np.full(classes, m.label_smoothing / classes)
            q[target[place]] += 1 - m.label_smoothing
            losses[place] = -(q * weight * log_p[place]).sum()
            total += weight[target[place]]
    return reduced(m, losses, total)


def loss(name: str, kind: str, inputs: tuple, wanted: Callable, twin: bool = True, **options: Any):
    def other(t: Any) -> Any:
        tensors = {k: t.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return getattr(t.nn, kind)(**tensors)

    label = " ".join([kind, name, *[f"{k}={v}" for k, v in options.items() if not isinstance(v, np.ndarray)]])
    example(label, lambda: getattr(nn, kind)(**options), inputs, wanted, other if twin else None)


loss("", "SoftmaxLoss", (LOGITS, LABELS), lambda m, x, y: -LOG_P[np.arange(4), y].mean(), twin=False)
for reduction in ("mean", "sum", "none"):
    by = {"reduction": reduction}
    loss("", "CrossEntropyLoss", (LOGITS, LABELS), cross_entropy, **by)
    loss("weighted", "CrossEntropyLoss", (LOGITS, LABELS), cross_entropy, weight=WEIGHT, **by)
    loss("ignoring", "CrossEntropyLoss", (LOGITS, SOME), cross_entropy, **by)
    loss("smooth", "CrossEntropyLoss", (LOGITS, LABELS), cross_entropy, label_smoothing=0.2, **by)
    loss("all at once", "CrossEntropyLoss", (LOGITS, LABELS), cross_entropy,
         weight=WEIGHT, label_smoothing=0.2, ignore_index=0, **by)  # fmt: skip
    loss("images", "CrossEntropyLoss", (IMAGES, PIXELS), cross_entropy, weight=WEIGHT, ignore_index=1, **by)
    loss("shares", "CrossEntropyLoss", (LOGITS, SHARES), cross_entropy, weight=WEIGHT, label_smoothing=0.1, **by)
    loss("one sample", "CrossEntropyLoss", (LOGITS[0], LABELS[0]), cross_entropy, **by)
    loss("", "NLLLoss", (LOG_P, LABELS), nll, **by)
    loss("all at once", "NLLLoss", (LOG_P, LABELS), nll, weight=WEIGHT, ignore_index=0, **by)
    loss("images", "NLLLoss", (IMAGES, PIXELS), nll, **by)
    loss("", "MSELoss", (LOGITS, TARGET), lambda m, x, y: reduced(m, (x - y) ** 2), **by)
    loss("", "L1Loss", (LOGITS, TARGET), lambda m, x, y: reduced(m, np.abs(x - y)), **by)
    for delta in (1.0, 0.3):
        loss("", "HuberLoss", (LOGITS, TARGET),
             lambda m, x, y: reduced(m, scipy.special.huber(m.delta, x - y)), delta=delta, **by)  # fmt: skip
    loss("", "BCEWithLogitsLoss", (LOGITS, SHARES),
         lambda m, x, y: reduced(m, -y * np.log(sigmoid(x)) - (1 - y) * np.log(sigmoid(-x))), **by)  # fmt: skip
    loss("weighted", "BCEWithLogitsLoss", (LOGITS, SHARES),
         lambda m, x, y: reduced(m, (-y * value(m.pos_weight) * np.log(sigmoid(x)) - (1 - y) * np.log(sigmoid(-x)))
                                 * value(m.weight)),
         weight=WEIGHT, pos_weight=WEIGHT[::-1].copy(), **by)  # fmt: skip
for reduction in ("mean", "sum", "none", "batchmean"):
    by = {"reduction": reduction}
    loss("", "KLDivLoss", (LOG_P, SHARES), lambda m, x, y: reduced(m, y * (np.log(y) - x)), **by)
    loss("", "KLDivLoss", (LOG_P, np.log(SHARES)), lambda m, x, y: reduced(m, np.exp(y) * (y - x)),
         log_target=True, **by)  # fmt: skip

# --- parameters as arguments -----------------------------------------------------------------------------------


@contextmanager
def with_parameters(module: nn.Module, values: dict[str, Any]) -> Iterator[None]:
    """Within it the module's parameters are these tensors."""
    paths = {id(p): name for name, p in module.named_parameters()}
    slots = [(vars(m), k) for _, m in module.named_modules() for k, v in vars(m).items() if isinstance(v, nn.Parameter)]
    own = [(place, key, place[key]) for place, key in slots]
    try:
        for place, key, parameter in own:
            place[key] = values[paths[id(parameter)]]
        yield
    finally:
        for place, key, parameter in own:
            place[key] = parameter


def as_function(module: nn.Module) -> tuple[Callable, dict[str, np.ndarray]]:
    """(function of parameters and inputs, the parameters): the same random numbers in each call."""

    def call(parameters: dict[str, Any], *inputs: Any) -> Any:
        np.random.seed(0)
        with with_parameters(module, parameters):
            return module(*inputs)

    return call, {name: parameter.numpy() for name, parameter in module.named_parameters()}
