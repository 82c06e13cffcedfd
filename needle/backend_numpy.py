"""The NumPy backend: one device, the CPU, whose arrays are `numpy.ndarray`.

Everything that makes, draws or copies an array is a method of the device, so that the floors above
never name an array library.
"""

from __future__ import annotations

from typing import Any

import numpy

from . import kernels


class Device:
    """A place where arrays live. Devices of one type are equal."""

    def __repr__(self) -> str:
        return "needle." + type(self).__name__.removesuffix("Device").lower() + "()"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def enabled(self) -> bool:
        return False


class CPUDevice(Device):
    """NumPy arrays in main memory; random numbers come from NumPy's global legacy generator."""

    def enabled(self) -> bool:
        return True

    def array(self, values: Any, dtype: Any = None) -> numpy.ndarray:
        """A new array holding a copy of `values`; without a dtype, NumPy's own choice."""
        try:
            array = numpy.array(values, dtype=dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"Tensor: {_unreadable(values, error)}") from error
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"Tensor: got {type(values).__name__} that NumPy reads as dtype {array.dtype}; "
                "wanted numbers or booleans in a regular shape"
            )
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def share(self, values: Any) -> numpy.ndarray:
        """The array behind `values`, without a copy where NumPy can do without."""
        return numpy.asarray(values)

    def cast(self, array: Any, dtype: Any) -> numpy.ndarray:
        return numpy.asarray(array).astype(dtype, copy=False)

    def to_numpy(self, array: Any) -> numpy.ndarray:
        return numpy.array(array)

    def from_dlpack(self, source: Any) -> numpy.ndarray:
        return numpy.from_dlpack(source)

    def storage(self, array: Any) -> Any:
        """The object that owns the memory `array` looks at: equal for all views of one buffer."""
        while isinstance(getattr(array, "base", None), numpy.ndarray):
            array = array.base
        return array

    def add_scaled(self, target: numpy.ndarray, source: numpy.ndarray, factor: float) -> bool:
        """target += factor · source in one pass over memory, where target owns its memory and both lie in one order.
        Whether it was done."""
        if target.base is not None or target.dtype != source.dtype or target.shape != source.shape:
            return False
        if target.strides != source.strides or not (target.flags.forc and target.flags.writeable):
            return False
        _add_scaled(target.ravel("K"), source.ravel("K"), target.dtype.type(factor))  # views, in memory's order
        return True

    def zeros(self, *shape: int, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.zeros(shape, dtype=dtype)

    def ones(self, *shape: int, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.ones(shape, dtype=dtype)

    def empty(self, shape: Any, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.empty(shape, dtype=dtype)

    def full(self, shape: Any, fill_value: Any, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.full(shape, fill_value, dtype=dtype)

    def rand(self, *shape: int) -> numpy.ndarray:
        """Uniform draws from [0, 1), float64. rand() of no axes is a 0-d array."""
        return numpy.asarray(numpy.random.rand(*shape))

    def randn(self, *shape: int) -> numpy.ndarray:
        """Standard normal draws, float64."""
        return numpy.asarray(numpy.random.randn(*shape))

    def one_hot(self, n: int, i: Any, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.eye(n, dtype=dtype)[i]

    def seed(self, seed: int) -> None:
        numpy.random.seed(seed)

    def random_state(self) -> Any:
        return numpy.random.get_state()

    def set_random_state(self, state: Any) -> None:
        numpy.random.set_state(state)


BLOCK = 8192  # elements that stay in the first-level cache between the two calls


def _add_scaled(target: numpy.ndarray, source: numpy.ndarray, factor: Any) -> None:
    kernel = kernels.add_scaled.get()
    if kernel is not None:
        kernel(target, source, factor)
        return
    scratch = numpy.empty(min(BLOCK, target.size), target.dtype)
    for start in range(0, target.size, BLOCK):
        part = target[start : start + BLOCK]
        scaled = numpy.multiply(source[start : start + BLOCK], factor, out=scratch[: part.size])
        numpy.add(part, scaled, out=part)


def _unreadable(values: Any, error: Exception) -> str:
    if "inhomogeneous" in str(error):
        return f"the rows of this {type(values).__name__} differ in length; wanted a regular shape ({error})"
    return f"cannot make an array of this {type(values).__name__}: {error}"


_CPU = CPUDevice()


def cpu() -> CPUDevice:
    return _CPU


def default_device() -> CPUDevice:
    return _CPU


def all_devices() -> list[Device]:
    return [_CPU]


def device_of(array: Any) -> Any:
    """The device an array lives on: its own `.device` where that is one of ours, else the CPU."""
    device = getattr(array, "device", _CPU)
    return device if isinstance(device, Device) else _CPU
