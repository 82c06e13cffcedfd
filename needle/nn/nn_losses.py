"""Losses. Each gives a tensor in the dtype of its input.

reduction: "mean" over all elements (or as the loss says), "sum", or "none". Targets are tensors or arrays.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..failures import mismatch
from ..ops import (
    abs,
    astype,
    clip,
    exp,
    log,
    logsoftmax,
    mean,
    ne,
    one_hot,
    permute,
    softmax_cross_entropy,
    softplus,
    summation,
    where,
)
from ..ops.ops_comparison import as_tensor
from .nn_module import Module
from .nn_support import as_choice, as_fraction, as_real

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SoftmaxLoss",
]

REDUCTIONS = ("mean", "sum", "none")


class Loss(Module):
    """Base of losses: holds the reduction."""

    reductions: tuple[str, ...] = REDUCTIONS

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = as_choice(reduction, type(self).__name__, "reduction", self.reductions)

    def reduced(self, losses: Tensor) -> Tensor:
        if self.reduction == "none":
            return losses
        return summation(losses) if self.reduction == "sum" else mean(losses)


class SoftmaxLoss(Module):
    """Mean over the rows of ln Σ e^z − z[y].   logits z (N, C), labels y (N,) integers, floats allowed -> ()."""

    def forward(self, logits: Tensor, y: Any) -> Tensor:
        return softmax_cross_entropy(logits, y)


# --- on classes ------------------------------------------------------------------------------------------------


class _ClassLoss(Loss):
    """Base of losses on classes. Input (N, C), (N, C, …) or (C,); labels without the C.

    weight (C,): of each class; "mean" divides by the sum of the weights of the labels. Rows whose label is
    ignore_index count for nothing.
    """

    buffer_names = ("weight",)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = None if weight is None else Tensor(weight, requires_grad=False)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Any) -> Tensor:
        labels, scores = as_tensor(target, input, type(self).__name__), classes_last(input)
        if labels.shape != scores.shape[:-1]:
            problem = f"labels of shape {labels.shape} do not go with {input.shape}, wanted {scores.shape[:-1]}"
            raise mismatch(type(self).__name__, problem, (input, labels))
        keep = ne(labels, self.ignore_index)
        labels = where(keep, labels, 0)
        losses = where(keep, self.losses(scores, labels), 0)
        if self.reduction != "mean":
            return self.reduced(losses)
        return summation(losses) / summation(where(keep, self.weights(scores, labels), 0))

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def chosen(self, values: Tensor, labels: Tensor) -> Tensor:
        """values (…, C), or (C,), at the labels. Not by a product with 0 and 1: values may be −∞."""
        return summation(where(one_hot(labels, values.shape[-1], dtype="bool"), values, 0), -1)

    def weights(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The weight of each label."""
        ones = labels.astype(scores.dtype) * 0 + 1
        return ones if self.weight is None else self.chosen(self.class_weights(scores), labels)

    def class_weights(self, scores: Tensor) -> Tensor:
        assert self.weight is not None
        if self.weight.shape != scores.shape[-1:]:
            name, classes = type(self).__name__, scores.shape[-1]
            raise mismatch(name, f"weight has shape {self.weight.shape}, wanted ({classes},)", (self.weight,))
        return astype(self.weight, scores.dtype)


class NLLLoss(_ClassLoss):
    """−weight[y] · x[y] for log-probabilities x, as `LogSoftmax` gives."""

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        values = scores if self.weight is None else scores * self.class_weights(scores)
        return -self.chosen(values, labels)


class CrossEntropyLoss(_ClassLoss):
    """−Σ_c weight[c] · q[c] · ln softmax(x)[c], where q is 1 at the label and 0 elsewhere.

    label_smoothing ε mixes q with equal shares: (1 − ε)·q + ε/C (arXiv:1512.00567). The target may also be q itself,
    floats of the input's shape; then "mean" divides by the number of rows.
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ):
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = as_fraction(label_smoothing, "CrossEntropyLoss", "label_smoothing")

    def forward(self, input: Tensor, target: Any) -> Tensor:
        target = as_tensor(target, input, "CrossEntropyLoss")
        if target.shape != input.shape or target.dtype.kind != "f" or not input.shape:
            return super().forward(input, target)
        scores, q = classes_last(input), astype(classes_last(target), input.dtype)
        q = q * (1 - self.label_smoothing) + self.label_smoothing / scores.shape[-1]
        return self.reduced(-summation(self.weighted(logsoftmax(scores)) * q, -1))

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        if not self.label_smoothing:
            losses = softmax_cross_entropy(scores, labels, "none")
            return losses if self.weight is None else losses * self.weights(scores, labels)
        log_p = self.weighted(logsoftmax(scores))
        of_label, of_all = self.chosen(log_p, labels), summation(log_p, -1)
        return of_label * (self.label_smoothing - 1) - of_all * (self.label_smoothing / scores.shape[-1])

    def weighted(self, log_p: Tensor) -> Tensor:
        return log_p if self.weight is None else log_p * self.class_weights(log_p)


def classes_last(x: Tensor) -> Tensor:
    """(N, C, …) -> (N, …, C); (C,) and (N, C) as they are."""
    axes = range(len(x.shape))
    return permute(x, (0, *axes[2:], 1)) if len(axes) > 2 else x


# --- on numbers ------------------------------------------------------------------------------------------------


class _PairLoss(Loss):
    """Base of losses that compare each element of the input with that of a target of the same shape."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        return self.reduced(self.losses(input, self.beside(input, target)))

    def losses(self, input: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def beside(self, input: Tensor, target: Any) -> Tensor:
        """The target in the input's dtype. Shapes that differ are an error: (N, 1) against (N,) would give (N, N)."""
        name, target = type(self).__name__, as_tensor(target, input, type(self).__name__)
        if target.shape != input.shape:
            cure = f"; reshape one to {target.shape}" if input.size == target.size else ""
            raise mismatch(
                name, f"input is {input.shape}, target {target.shape}, wanted one shape{cure}", (input, target)
            )
        if input.dtype.kind != "f":
            raise TypeError(f"{name}: wanted an input of floats, got {input.dtype}; use .astype('float32')")
        return astype(target, input.dtype)


class MSELoss(_PairLoss):
    """(x − y)²."""

    def losses(self, input: Tensor, target: Tensor) -> Tensor:
        difference = input - target
        return difference * difference


class L1Loss(_PairLoss):
    """|x − y|."""

    def losses(self, input: Tensor, target: Tensor) -> Tensor:
        return abs(input - target)


class HuberLoss(_PairLoss):
    """½d² where |d| ≤ delta, else delta·(|d| − ½·delta), for d = x − y (Huber 1964)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = as_real(delta, "HuberLoss", "delta", lambda d: d > 0, "above 0")

    def losses(self, input: Tensor, target: Tensor) -> Tensor:
        difference = input - target
        limited = clip(difference, -self.delta, self.delta)
        return limited * (difference - limited * 0.5)


class BCEWithLogitsLoss(_PairLoss):
    """−pos_weight·y·ln σ(x) − (1 − y)·ln(1 − σ(x)) for logits x and probabilities y, times `weight`.

    Stable for logits of any size: −ln σ(x) = softplus(−x). weight and pos_weight broadcast against the input.
    """

    buffer_names = ("weight", "pos_weight")

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None):
        super().__init__(reduction)
        self.weight = None if weight is None else Tensor(weight, requires_grad=False)
        self.pos_weight = None if pos_weight is None else Tensor(pos_weight, requires_grad=False)

    def losses(self, input: Tensor, target: Tensor) -> Tensor:
        positive = target * softplus(-input)
        if self.pos_weight is not None:
            positive = positive * astype(self.pos_weight, input.dtype)
        losses = positive + (1 - target) * softplus(input)
        return losses if self.weight is None else losses * astype(self.weight, input.dtype)


class KLDivLoss(_PairLoss):
    """y·(ln y − x) for log-probabilities x and probabilities y, 0 where y = 0; log_target: y is given as ln y.

    reduction "batchmean" is the divergence itself: the sum divided by the size of the first axis.
    """

    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = log_target

    def losses(self, input: Tensor, target: Tensor) -> Tensor:
        if self.log_target:
            return exp(target) * (target - input)
        some = ne(target, 0)
        return where(some, target * (log(where(some, target, 1)) - input), 0)

    def reduced(self, losses: Tensor) -> Tensor:
        if self.reduction != "batchmean":
            return super().reduced(losses)
        if not losses.shape:
            raise ValueError("KLDivLoss: reduction 'batchmean' wants a batch axis, got a 0-d input")
        return summation(losses) / losses.shape[0]
