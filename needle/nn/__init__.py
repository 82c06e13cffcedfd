"""Layers and losses."""

from .nn_activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .nn_basic import Dropout, Embedding, Flatten, Identity, Linear
from .nn_containers import ModuleDict, ModuleList, Residual, Sequential
from .nn_losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SoftmaxLoss,
)
from .nn_module import Module, Parameter
from .nn_normalization import BatchNorm1d, LayerNorm, LayerNorm1d, RMSNorm
from .summary import Summary, summary

__all__ = [
    "GELU",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LayerNorm1d",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SoftmaxLoss",
    "Summary",
    "Tanh",
    "summary",
]
