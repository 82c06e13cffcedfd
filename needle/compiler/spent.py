"""What stands in `.grad` after a jitted step that used the gradient up."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from .errors import JitError


class SpentGradient(Tensor):
    """Stands in `.grad` where a jitted step used the gradient up."""

    __slots__ = ()

    @property
    def cached_data(self) -> Any:
        raise JitError(
            "jit: this gradient was used up inside a jitted step, which does not keep it; "
            "ask for it with @ndl.jit(keep_grads=True)"
        )

    def let_go(self) -> None:
        pass

    def __repr__(self) -> str:
        return "Tensor(a gradient that a jitted step used up)"


def spent() -> SpentGradient:
    tensor = object.__new__(SpentGradient)
    tensor.op, tensor.inputs, tensor.requires_grad = None, (), False
    tensor.grad = tensor.notes = None
    tensor.stamp = tensor.written = 0
    return tensor


SPENT = spent()
