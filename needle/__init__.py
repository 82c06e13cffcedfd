"""needle: automatic differentiation and deep learning, to be read and to be used."""

from typing import TYPE_CHECKING

from . import autograd, backend_selection, compiler, data, debug, functional, init, nn, ops, optim, storage, training
from .autograd import (
    Op,
    Tensor,
    TensorOp,
    TensorTuple,
    TensorTupleOp,
    Value,
)
from .backend_selection import BACKEND, Device, NDArray, all_devices, array_api, cpu, cuda, default_device
from .compiler import JitError, jit
from .debug import (
    AnomalyError,
    PromotionError,
    PromotionWarning,
    detect_anomaly,
    detect_promotion,
    record_sites,
)
from .functional import checkpoint, custom_gradient, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .init import Generator, constant, ones, ones_like, rand, randn, zeros, zeros_like
from .modes import enable_grad, get_default_dtype, is_grad_enabled, no_grad, set_default_dtype
from .numeric_check import GradcheckResult, gradcheck
from .ops import from_dlpack
from .optim import SGD, Adagrad, Adam, AdamW, Lion, Muon, RMSprop, clip_grad_norm, clip_grad_value
from .storage import StorageError, load, load_checkpoint, save, save_checkpoint

if BACKEND == "nd":
    from .backend_selection import cpu_numpy

if TYPE_CHECKING:
    from .ops import *
else:
    globals().update({name: getattr(ops, name) for name in ops.__all__})


def manual_seed(seed: int) -> None:
    """Seed the generator that the default device draws from (NumPy's global one)."""
    default_device().seed(seed)
