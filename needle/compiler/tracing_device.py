"""The CPU while a function is recorded: arrays that are made, drawn or written to become nodes."""

from __future__ import annotations

from typing import Any

import numpy

from ..backend_numpy import CPUDevice, adam_factors
from .errors import JitError, UnseenArray
from .live_numbers import is_traced_number
from .tracing import Traced, rebind


class TracingDevice(CPUDevice):
    """Equal to `ndl.cpu()`. Whatever it makes is traced."""

    def __init__(self, recorder: Any):
        self.recorder = recorder

    def __repr__(self) -> str:
        return "needle.cpu()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CPUDevice)

    __hash__ = CPUDevice.__hash__

    def array(self, values: Any, dtype: Any = None) -> Any:
        if type(values) is Traced:
            return values.copy() if dtype is None else values.astype(dtype)
        if is_traced_number(values):
            return self.full((), 0, dtype or "float64") + values
        if isinstance(values, numpy.ndarray):
            raise self.recorder.unseen(values)
        return self.recorder.constant(super().array(values, dtype))

    def share(self, values: Any) -> Any:
        return values if type(values) is Traced else self.array(values)

    def cast(self, array: Any, dtype: Any) -> Any:
        array = self.share(array)
        return array if array.dtype == dtype else array.astype(dtype)

    def to_numpy(self, array: Any) -> Any:
        if type(array) is Traced:
            return array._steers(".numpy(), print() or a repr", numpy.array)
        return super().to_numpy(array)

    def from_dlpack(self, source: Any) -> Any:
        raise UnseenArray("jit: from_dlpack inside a jitted function; give the tensor as an argument")

    def storage(self, array: Any) -> Any:
        return array.memory if type(array) is Traced else super().storage(array)

    def owns(self, array: Any) -> bool:
        return not array.view

    def laid_out_as(self, array: Any, like: Any) -> Any:
        return array

    def add_scaled(self, target: Any, source: Any, factor: Any) -> bool:
        if target.dtype != source.dtype or target.shape != source.shape:
            return False
        rebind(target, target + source * factor)
        return True

    def adam(self, arrays: tuple, t: Any, **options: Any) -> None:
        x, g, m, v = arrays
        beta1, rest1, beta2, rest2, rate, root, eps, penalty, keep = adam_factors(t, **options)
        decay, decoupled = options["weight_decay"], options["decoupled"]
        if decay and not decoupled:
            g = g + x * penalty
        rebind(m, m * beta1 + g * rest1)
        rebind(v, v * beta2 + g * g * rest2)
        kept = x * keep if decay and decoupled else x
        rebind(x, kept - m * rate / (numpy.sqrt(v) * root + eps))

    def zeros(self, *shape: int, dtype: Any = "float32") -> Any:
        return self.full(shape, 0, dtype)

    def ones(self, *shape: int, dtype: Any = "float32") -> Any:
        return self.full(shape, 1, dtype)

    def empty(self, shape: Any, dtype: Any = "float32") -> Any:
        return self.full(shape, 0, dtype)

    def full(self, shape: Any, fill_value: Any, dtype: Any = "float32") -> Any:
        number, made = fill_value, super().full(shape, 0 if is_traced_number(fill_value) else fill_value, dtype)
        traced = self.recorder.constant(made)
        return (traced + number).astype(dtype) if is_traced_number(number) else traced

    def arange(self, n: int, dtype: Any = "int64") -> Any:
        return self.recorder.constant(super().arange(n, dtype))

    def eye(self, n: int, dtype: Any = "float32") -> Any:
        return self.recorder.constant(super().eye(n, dtype))

    def rand(self, *shape: int, dtype: Any = "float64") -> Any:
        return self.cast(self.recorder.random("rand", *shape), dtype)

    def randn(self, *shape: int, dtype: Any = "float64") -> Any:
        return self.cast(self.recorder.random("randn", *shape), dtype)

    def drawn(self, method: Any, *args: Any) -> Any:
        return self.recorder.random(method, *args)

    def one_hot(self, n: int, i: Any, dtype: Any = "float32") -> Any:
        return numpy.equal(i.reshape((*i.shape, 1)), self.arange(n)).astype(dtype)

    def add_at(self, array: Any, index: Any, value: Any) -> None:
        rebind(array, self.recorder.call(added_at, (array, index, value), {}))

    def check(self, function: Any, *args: Any) -> Any:
        return self.recorder.call(Checking(function), args, {})

    def generator(self, seed: Any) -> Any:
        raise JitError("jit: a Generator is made inside a jitted function, so that every call would draw the same; "
                       "make it outside")  # fmt: skip

    def seed(self, seed: int) -> None:
        raise JitError("jit: the random stream is seeded inside a jitted function; seed it outside")

    def random_state(self) -> Any:
        raise JitError("jit: the state of the random stream is read inside a jitted function (ndl.checkpoint does so)")

    def set_random_state(self, state: Any) -> None:
        raise JitError("jit: the state of the random stream is set inside a jitted function; set it outside")


class Checking:
    """A function that raises where a value is wrong; it runs at each call, whether its result is used or not."""

    checks = True

    def __init__(self, function: Any):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __repr__(self) -> str:
        return self.function.__name__


def added_at(base: Any, index: Any, value: Any) -> Any:
    """A copy of `base` in which [index] += value."""
    copy = numpy.array(base)
    numpy.add.at(copy, index, value)
    return copy
