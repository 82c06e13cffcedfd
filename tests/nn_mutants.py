"""Broken layers, losses and modules: the usual mistakes, each a small change to one function's text.

The checks of tests/test_nn.py must catch every one. A mutant is data: add one by adding an entry.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from needle import nn
from needle.nn import nn_containers, nn_losses, nn_module, nn_normalization
from needle.ops import ops_normalization
from needle.ops.ops_normalization import BatchNormalize, LayerNormalize


@dataclass(frozen=True)
class Mutant:
    """`owner.function` with `new` for `old`, which stands in its text once."""

    name: str
    owner: Any
    function: str
    old: str
    new: str


MUTANTS: list[Mutant] = []


def mutant(owner: Any, function: str, name: str, old: str, new: str) -> None:
    MUTANTS.append(Mutant(f"{owner.__name__.rpartition('.')[2]}: {name}", owner, function, old, new))


def changed(one: Mutant) -> Any:
    """The function, compiled again with the change."""
    own = getattr(one.owner, one.function)
    source = textwrap.dedent(inspect.getsource(own))
    assert source.count(one.old) == 1, f"{one.name}: {one.old!r} stands {source.count(one.old)} times in\n{source}"
    body = textwrap.indent(source.replace(one.old, one.new), "    ")
    found: dict[str, Any] = {}
    # An argument of that name is what super() looks for.
    exec(f"def make(__class__):\n{body}\n    return {one.function}", vars(sys.modules[own.__module__]), found)
    return found["make"](None if isinstance(one.owner, ModuleType) else one.owner)


@contextmanager
def broken(one: Mutant) -> Iterator[None]:
    """Within it the function is the changed one."""
    own = vars(one.owner)[one.function]
    setattr(one.owner, one.function, changed(one))
    try:
        yield
    finally:
        setattr(one.owner, one.function, own)


# --- layers ----------------------------------------------------------------------------------------------------

mutant(nn.Linear, "forward", "bias forgotten", "return y + bias if", "return y if")
mutant(nn.Linear, "forward", "bias twice", "return y + bias if", "return y + bias * 2 if")
mutant(nn.Linear, "forward", "bias of one sample as a row", "y + bias.reshape(-1)", "y + bias")
mutant(nn.Linear, "forward", "weight detached", "x @ weight", "x @ weight.detach()")
mutant(nn.Linear, "__init__", "weight's fan is the other one", "kaiming_uniform(self.in_features, self.out_features,",
       "kaiming_uniform(self.out_features, 1, (self.in_features, self.out_features),")  # fmt: skip
mutant(nn.Linear, "__init__", "bias's fan is in_features", "kaiming_uniform(self.out_features, 1,",
       "kaiming_uniform(self.in_features, 1, (self.out_features, 1),")  # fmt: skip
mutant(nn.Linear, "__init__", "bias without its first axis", "reshape((1, self.out_features))",
       "reshape((self.out_features,))")  # fmt: skip
mutant(nn.Linear, "__init__", "no bias although wanted", "if bias:", "if not bias:")
mutant(nn.Linear, "__init__", "weight is no Parameter", "self.weight = Parameter(", "self.weight = (")
mutant(nn.Dropout, "forward", "not scaled", "mask / keep if", "mask if")
mutant(nn.Dropout, "forward", "multiplied by the share kept", "mask / keep if", "mask * keep if")
mutant(nn.Dropout, "forward", "scaled by p", "mask / keep if", "mask / self.p if")
mutant(nn.Dropout, "forward", "keeps with probability p", "p=keep,", "p=self.p,")
mutant(nn.Dropout, "forward", "one mask for all rows", "*x.shape,", "*x.shape[1:],")
mutant(nn.Dropout, "forward", "active in eval mode", "not self.training", "False")
mutant(nn.Dropout, "forward", "active in eval mode alone", "not self.training", "self.training")
mutant(nn.Dropout, "forward", "draws in eval mode", "return x\n", "return x + randb(*x.shape) * 0\n")
mutant(nn.Dropout, "forward", "p = 1 divides by 0", "mask * 0", "mask * float('nan')")
mutant(nn.Dropout, "forward", "generator not used", "generator=self.generator", "generator=None")
mutant(nn.Dropout, "forward", "detached", "x * (", "x.detach() * (")
mutant(nn.Embedding, "_rows", "one off", "return rows", "return rows - 1")
mutant(nn.Embedding, "forward", "weight detached", "getitem(self.weight,", "getitem(self.weight.detach(),")
mutant(nn.Embedding, "_rows", "range not checked", "if rows.size:", "if False:")
mutant(nn.Embedding, "_check", "one too many allowed", "highest > last:", "highest > last + 1:")
mutant(nn.Embedding, "_check", "negative allowed", "lowest < 0 or", "")
mutant(nn.Embedding, "__init__", "uniform weight", "randn(", "kaiming_uniform(")
mutant(nn.Flatten, "forward", "batch flattened too", "(x.shape[0], math", "(1, x.shape[0] * math")
mutant(nn.LeakyReLU, "forward", "default slope", "leaky_relu(x, self.negative_slope)", "leaky_relu(x)")
mutant(nn.GELU, "forward", "approximation not passed on", "gelu(x, self.approximate)", "gelu(x)")
mutant(nn.Softmax, "forward", "axis not passed on", "softmax(x, self.axis)", "softmax(x)")
mutant(nn.SiLU, "forward", "no factor", "silu(x)", "silu(x) / x")

# --- normalisation ---------------------------------------------------------------------------------------------

SUM = "(deviation * deviation).sum(axis=axis, keepdims=True) / n"
mutant(ops_normalization, "_moments", "unbiased variance", SUM, SUM + " * (n / max(n - 1, 1))")
mutant(
    ops_normalization, "_moments", "variance in one pass", SUM, "(x * x).sum(axis=axis, keepdims=True) / n - mu * mu"
)
mutant(ops_normalization, "_moments", "mean not subtracted", "deviation = x - mu", "deviation = x - 0 * mu")
mutant(ops_normalization, "_moments", "missing eps", "variance + eps", "variance")
mutant(ops_normalization, "_moments", "eps outside the root", "sqrt(variance + eps)", "sqrt(variance) + eps")
mutant(
    ops_normalization,
    "_moments",
    "divided by the variance",
    "1 / array_api.sqrt(variance + eps)",
    "1 / (variance + eps)",
)
for op in (BatchNormalize, LayerNormalize):
    mutant(op, "compute", "shift forgotten", "hat * w + b", "hat * w + 0 * b")
    mutant(op, "compute", "scale forgotten", "hat * w + b", "hat + 0 * w + b")
mutant(BatchNormalize, "_by_arrays", "mean taken as constant", "(g_mu - factor * db)", "(g_mu - 0 * db)")
mutant(BatchNormalize, "_by_arrays", "variance taken as constant", "- factor * dw / n", "- 0 * dw / n")
mutant(BatchNormalize, "_by_arrays", "scale not in dx", "factor = scale * w", "factor = scale + 0 * w")
mutant(BatchNormalize, "_by_arrays", "dw without x̂", "(g * hat).sum", "(g * 1).sum")
mutant(BatchNormalize, "gradient", "mean taken as constant, recorded", "g - db / n", "g - 0 * db / n")
mutant(BatchNormalize, "gradient", "dw detached", "hat * (dw / n)", "hat * (dw.detach() / n)")
mutant(LayerNormalize, "_by_arrays", "mean taken as constant", "dx -= h.sum", "dx -= 0 * h.sum")
mutant(LayerNormalize, "_by_arrays", "variance taken as constant", "hat * -along", "hat * 0 * along")
mutant(LayerNormalize, "_by_arrays", "db over the features", "g.sum(axis=rows)", "g.sum(axis=rows)[::-1]")
mutant(LayerNormalize, "gradient", "x̂ detached", "hat * mean(h * hat", "hat * mean(h * hat.detach()")
NORM = nn.BatchNorm1d
mutant(NORM, "forward", "eval uses the batch", "if not self.training:", "if False:")
mutant(NORM, "forward", "train uses the running ones", "if not self.training:", "if True:")
mutant(NORM, "forward", "eval without eps", "rsqrt(self.running_var + self.eps)", "rsqrt(self.running_var)")
mutant(NORM, "forward", "eval without the running mean", "x - self.running_mean", "x - 0 * self.running_mean")
mutant(NORM, "forward", "eval without shift", "return y * self.weight + self.bias", "return y * self.weight")
mutant(NORM, "forward", "eval without scale", "return y * self.weight + self.bias", "return y + self.bias")
mutant(NORM, "forward", "unbiased running variance", "self.running_var, variance)",
       "self.running_var, variance * (x.shape[0] / (x.shape[0] - 1)))")  # fmt: skip
mutant(NORM, "forward", "running mean not kept", "self._remember(self.running_mean, mu)", "pass")
mutant(NORM, "forward", "batch of one taken", "x.shape[0] < 2", "False")
mutant(NORM, "forward", "default eps", "self.bias, self.eps)", "self.bias)")
mutant(NORM, "_remember", "momentum the other way round", "running.data * (1 - self.momentum) + new * self.momentum",
       "running.data * self.momentum + new * (1 - self.momentum)")  # fmt: skip
mutant(NORM, "_remember", "default momentum", "running.data * (1 - self.momentum) + new * self.momentum",
       "running.data * 0.9 + new * 0.1")  # fmt: skip
mutant(NORM, "_remember", "lost", "running.data = ", "running = ")
mutant(NORM, "__init__", "running variance begins at 0", "self.running_var = ones(", "self.running_var = zeros(")
mutant(NORM, "__init__", "running mean is a parameter",
       "self.running_mean = zeros(self.dim, device=device, dtype=dtype)",
       "self.running_mean = Parameter(zeros(self.dim, device=device, dtype=dtype))")  # fmt: skip
mutant(nn.LayerNorm, "forward", "default eps", "bias.reshape(-1), self.eps)", "bias.reshape(-1))")
mutant(nn_normalization, "last_axes", "the last axis alone", "range(-len(shape), 0)", "range(-1, 0)")
mutant(nn.LayerNorm1d, "forward", "by column", "layer_normalize(x, self.weight, self.bias, self.eps)",
       "batch_normalize(x, self.weight, self.bias, self.eps).tuple()[0]")  # fmt: skip
mutant(nn.RMSNorm, "forward", "sum for mean", "square + self.eps", "square * x.shape[-1] + self.eps")
mutant(nn.RMSNorm, "forward", "missing eps", "square + self.eps", "square")
mutant(nn.RMSNorm, "forward", "scale forgotten", "y if self.weight is None else y * self.weight", "y")

# --- losses ----------------------------------------------------------------------------------------------------

Loss, ClassLoss, PairLoss = nn_losses.Loss, nn_losses._ClassLoss, nn_losses._PairLoss
mutant(Loss, "reduced", "sum for mean", "else mean(losses)", "else summation(losses)")
mutant(Loss, "reduced", "mean for sum", 'if self.reduction == "sum"', 'if self.reduction == "total"')
mutant(Loss, "reduced", "none is reduced", 'if self.reduction == "none"', 'if self.reduction == "no"')
mutant(nn.SoftmaxLoss, "forward", "sum for mean", "(logits, y)", '(logits, y, "sum")')
mutant(ClassLoss, "forward", "ignored rows counted", "losses = where(keep, self.losses(scores, labels), 0)",
       "losses = self.losses(scores, labels)")  # fmt: skip
mutant(ClassLoss, "forward", "ignored rows in the divisor", "where(keep, self.weights(scores, labels), 0)",
       "self.weights(scores, labels)")  # fmt: skip
mutant(ClassLoss, "forward", "divided by the number of rows", "summation(where(keep, self.weights(scores, labels), 0))",
       "labels.size")  # fmt: skip
mutant(ClassLoss, "forward", "classes in the last axis", "classes_last(input)", "input")
mutant(nn_losses, "classes_last", "axes in the wrong order", "(0, *axes[2:], 1)", "(0, *axes[:1:-1], 1)")
mutant(nn.NLLLoss, "losses", "sign", "-self.chosen", "self.chosen")
mutant(nn.NLLLoss, "losses", "not weighted", "scores * self.class_weights(scores)", "scores")
CROSS = nn.CrossEntropyLoss
mutant(CROSS, "losses", "not weighted", "losses * self.weights(scores, labels)", "losses")
mutant(CROSS, "losses", "smoothed over the other classes", "/ scores.shape[-1])", "/ (scores.shape[-1] - 1))")
mutant(CROSS, "losses", "label keeps its whole share", "(self.label_smoothing - 1)", "-1.0")
mutant(CROSS, "losses", "smoothing not weighted", "self.weighted(logsoftmax(scores))", "logsoftmax(scores)")
mutant(CROSS, "forward", "shares not smoothed",
       "q = q * (1 - self.label_smoothing) + self.label_smoothing / scores.shape[-1]", "pass")  # fmt: skip
mutant(CROSS, "forward", "shares not weighted", "self.weighted(logsoftmax(scores))", "logsoftmax(scores)")
mutant(nn.MSELoss, "losses", "half", "difference * difference", "difference * difference * 0.5")
mutant(nn.L1Loss, "losses", "no absolute value", "abs(input - target)", "input - target")
mutant(nn.HuberLoss, "losses", "half forgotten", "limited * 0.5", "limited")
mutant(nn.HuberLoss, "losses", "delta 1", "-self.delta, self.delta", "-1.0, 1.0")
BCE = nn.BCEWithLogitsLoss
mutant(BCE, "losses", "target the other way round", "(1 - target) * softplus(input)", "target * softplus(input)")
mutant(BCE, "losses", "pos_weight forgotten", "positive * astype(self.pos_weight, input.dtype)", "positive")
mutant(BCE, "losses", "weight forgotten", "losses * astype(self.weight, input.dtype)", "losses")
mutant(BCE, "losses", "overflows", "target * softplus(-input)", "target * log(exp(-input) + 1)")
KL = nn.KLDivLoss
mutant(KL, "reduced", "batchmean over all elements", "/ losses.shape[0]", "/ losses.size")
mutant(KL, "losses", "the other way round", "exp(target) * (target - input)", "exp(input) * (input - target)")
mutant(KL, "losses", "zero shares give NaN", "where(some, target, 1)", "target")
mutant(KL, "losses", "entropy forgotten", "(log(where(some, target, 1)) - input)", "(-input)")
mutant(PairLoss, "beside", "broadcasts", "if target.shape != input.shape:", "if False:")
mutant(PairLoss, "beside", "promotes", "return astype(target, input.dtype)", "return target")

# --- modules ---------------------------------------------------------------------------------------------------

mutant(nn.Sequential, "forward", "last module first", "in self.modules", "in self.modules[::-1]")
mutant(nn.Sequential, "forward", "last module left out", "in self.modules", "in self.modules[:-1]")
mutant(nn.Residual, "forward", "x not added", "return y + x", "return y")
mutant(nn.Residual, "forward", "x detached", "return y + x", "return y + x.detach()")
mutant(nn.Residual, "forward", "broadcasts", "if y.shape != x.shape:", "if False:")
mutant(nn_containers, "as_module", "takes anything", "if isinstance(value, Module):", "if True:")
Module = nn.Module
mutant(Module, "train", "this module alone", "for _, module in self.named_modules():", "for module in [self]:")
mutant(Module, "eval", "stays in training", "self.train(False)", "self.train()")
mutant(Module, "named_parameters", "plain tensors count", "isinstance(x, Parameter)", "isinstance(x, Tensor)")
mutant(Module, "named_buffers", "none", "is not None", "is None")
mutant(Module, "_state", "buffers left out", ", *self.named_buffers()", "")
mutant(Module, "_state", "one of two tensors of one name", "if name in state:", "if False:")
mutant(Module, "state_dict", "not a copy", "_copy(tensor.cached_data, tensor)", "tensor.detach()")
mutant(Module, "load_state_dict", "tensors replaced", "own[name].data = value", "pass")
mutant(Module, "load_state_dict", "loads before it raises", "given[name] = _copy(state[name], own[name])",
       "given[name] = _copy(state[name], own[name]); own[name].cached_data = given[name].cached_data")  # fmt: skip
mutant(Module, "load_state_dict", "shapes not looked at", "_form(given[name]) != _form(own[name])", "False")
mutant(
    Module, "load_state_dict", "missing names forgiven", "for name in missing] if strict", "for name in []] if strict"
)
mutant(
    Module,
    "load_state_dict",
    "unexpected names forgiven",
    "for name in unexpected] if strict",
    "for name in []] if strict",
)
mutant(Module, "apply", "outer modules first", "reversed(list(self.named_modules()))", "self.named_modules()")
mutant(Module, "requires_grad_", "does nothing", "requires_grad_(requires_grad)", "requires_grad_()")
mutant(nn_module, "_walk", "a shared tensor counts twice", "seen.add(id(value))",
       "seen.add(id(value) * isinstance(value, Module))")  # fmt: skip
mutant(nn_module, "_open", "tuples not opened", "(dict, list, tuple)", "(dict, list)")
mutant(nn_module, "_open", "dicts not opened", "(dict, list, tuple)", "(list, tuple)")
mutant(nn_module, "_copy", "loaded arrays shared",
       "like.device.array(values, values.dtype)",
       "value.cached_data if isinstance(value, Tensor) else value")  # fmt: skip
