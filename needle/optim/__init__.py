"""Optimizers: they turn gradients into new parameters. Read `optimizer.py` first, then `sgd.py`; each other file is
one formula. `schedules.py` changes learning rates as training goes on, `clipping.py` keeps gradients small.
"""

from .adam import Adam, AdamW
from .adaptive import Adagrad, RMSprop
from .clipping import clip_grad_norm, clip_grad_value
from .lion import Lion
from .muon import Muon
from .optimizer import Optimizer
from .schedules import CosineLR, OneCycle, ReduceOnPlateau, Schedule, StepLR, WarmUp
from .sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineLR",
    "Lion",
    "Muon",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "StepLR",
    "WarmUp",
    "clip_grad_norm",
    "clip_grad_value",
]
