"""A training loop for apps and notebooks to share. Read `trainer.py` first."""

from .callbacks import EarlyStopping, accuracy, print_epoch
from .history import plot_history
from .learning_rate import LRSearch, find_lr
from .trainer import EVENTS, Trainer

__all__ = ["EVENTS", "EarlyStopping", "LRSearch", "Trainer", "accuracy", "find_lr", "plot_history", "print_epoch"]
