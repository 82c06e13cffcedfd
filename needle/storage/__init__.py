"""Files: dicts of tensors, and checkpoints that a training goes on from. Loading runs no code of the file."""

from .atomic import replacing
from .checkpoints import load_checkpoint, read_checkpoint, restore_parts, restore_states, save_checkpoint, snapshot
from .errors import StorageError
from .tensor_files import load, save

__all__ = [
    "StorageError",
    "load",
    "load_checkpoint",
    "read_checkpoint",
    "replacing",
    "restore_parts",
    "restore_states",
    "save",
    "save_checkpoint",
    "snapshot",
]
