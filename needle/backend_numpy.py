"""The NumPy backend: one device, the CPU, whose arrays are `numpy.ndarray`.

Everything that makes, draws or copies an array is a method of the device, so that the floors above
never name an array library.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy

from . import kernels
from .kernels import legacy_random


class Device:
    """A place where arrays live. Devices of one type are equal.

    The methods here serve every array that follows NumPy's rules; `CPUDevice` shows what else a device has.
    """

    def __repr__(self) -> str:
        return "needle." + type(self).__name__.removesuffix("Device").lower() + "()"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def enabled(self) -> bool:
        return False

    def synchronize(self) -> None:
        """Wait until all that was asked of the device is done."""

    def batch(self, values: Any) -> Any:
        """A batch of data as tensors hold it here, without a copy where the device can do without."""
        return self.share(values)  # type: ignore[attr-defined]

    def reshape(self, array: Any, shape: Any) -> Any:
        """The same elements in row-major order under another shape, however they lie in memory."""
        return array.reshape(shape)

    def getitem(self, array: Any, index: Any) -> Any:
        """array[index] by NumPy's rules."""
        return array[index]

    def setitem(self, array: Any, index: Any, value: Any) -> None:
        """array[index] = value by NumPy's rules."""
        array[index] = value

    def numpys_dtype(self, values: Any) -> Any:
        """The dtype that NumPy has for `values`; None where `array` takes that by itself."""
        return None

    def drawn(self, method: Any, *args: Any) -> Any:
        """method(*args), which gives random numbers: anew in each call where a recording is replayed."""
        return method(*args)

    def check(self, function: Any, *args: Any) -> Any:
        """function(*args), which raises where a value is wrong: in each call where a recording is replayed."""
        return function(*args)


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

    def owns(self, array: Any) -> bool:
        """Whether `array` has memory of its own that may be written to: is no view, and not read-only."""
        return array.base is None and array.flags.writeable

    def laid_out_as(self, array: numpy.ndarray, like: numpy.ndarray) -> numpy.ndarray:
        """`array`, or a copy of it in the memory order of `like` where that is another dense one."""
        if array.strides == like.strides or array.shape != like.shape or not like.flags.forc:
            return array
        copy = numpy.empty_like(like, dtype=array.dtype)
        copy[...] = array
        return copy

    def add_at(self, array: numpy.ndarray, index: Any, value: Any) -> None:
        """array[index] += value, where an element named twice gets both."""
        numpy.add.at(array, index, value)

    def add_scaled(self, target: numpy.ndarray, source: numpy.ndarray, factor: float) -> bool:
        """target += factor · source in one pass over memory, where target owns its memory and both lie in one order.
        Whether it was done."""
        if not self.owns(target) or target.dtype != source.dtype or target.shape != source.shape:
            return False
        if not target.flags.forc:
            return False
        if target.strides != source.strides:  # first into target's order, so that the order changes no rounding
            source = numpy.array(numpy.broadcast_to(source, target.shape), order="F" if target.flags.fnc else "C")
        _add_scaled(target.ravel("K"), source.ravel("K"), target.dtype.type(factor))  # views, in memory's order
        return True

    def adam(self, arrays: tuple[Any, ...], t: int, **options: Any) -> None:
        """The t-th step of optim.Adam in one pass over memory, with the options that `adam_factors` takes. arrays:
        parameter, gradient, m and v; all are written to but the gradient."""
        _adam(arrays, tuple(map(arrays[0].dtype.type, adam_factors(t, **options))))

    def zeros(self, *shape: int, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.zeros(shape, dtype=dtype)

    def ones(self, *shape: int, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.ones(shape, dtype=dtype)

    def empty(self, shape: Any, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.empty(shape, dtype=dtype)

    def full(self, shape: Any, fill_value: Any, dtype: Any = "float32") -> numpy.ndarray:
        array = numpy.empty(shape, dtype=dtype)
        array.fill(fill_value)  # a third of numpy.full's time, for small arrays
        return array

    def arange(self, n: int, dtype: Any = "int64") -> numpy.ndarray:
        """0, 1 … n − 1."""
        return numpy.arange(n, dtype=dtype)

    def eye(self, n: int, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.eye(n, dtype=dtype)

    def rand(self, *shape: int, dtype: Any = "float64") -> numpy.ndarray:
        """Uniform draws from [0, 1), made in float64. rand() of no axes is a 0-d array."""
        size = math.prod(shape)
        drawn = legacy_random.uniform(size) if size >= MANY else None
        array = numpy.asarray(numpy.random.rand(*shape)) if drawn is None else drawn.reshape(shape)
        return array.astype(dtype, copy=False)

    def randn(self, *shape: int, dtype: Any = "float64") -> numpy.ndarray:
        """Standard normal draws, made in float64."""
        return numpy.asarray(numpy.random.randn(*shape), dtype)

    def one_hot(self, n: int, i: Any, dtype: Any = "float32") -> numpy.ndarray:
        return numpy.eye(n, dtype=dtype)[i]

    def generator(self, seed: Any) -> numpy.random.Generator:
        """Counter-based draws from a seed of their own (a whole number or several)."""
        return numpy.random.Generator(numpy.random.Philox(seed))

    def seed(self, seed: int) -> None:
        numpy.random.seed(seed)

    def random_state(self) -> Any:
        return numpy.random.get_state()

    def set_random_state(self, state: Any) -> None:
        numpy.random.set_state(state)


MANY = 2000  # draws that are worth a kernel
BLOCK = 8192  # elements that stay in the first-level cache between the two calls


def _add_scaled(target: numpy.ndarray, source: numpy.ndarray, factor: Any) -> None:
    kernel = kernels.add_scaled.get() if kernels.fits(target) and kernels.fits(source) else None
    if kernel is not None:
        kernel(target, source, factor)
        return
    scratch = numpy.empty(min(BLOCK, target.size), target.dtype)
    for start in range(0, target.size, BLOCK):
        part = target[start : start + BLOCK]
        scaled = numpy.multiply(source[start : start + BLOCK], factor, out=scratch[: part.size])
        numpy.add(part, scaled, out=part)


def adam_factors(
    t: int,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[float, ...]:
    """What optim.Adam's options come to at the t-th step, as kernels.adam takes them."""
    penalty, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    rate, root = lr / (1 - beta1**t), (1 - beta2**t) ** -0.5
    return beta1, 1 - beta1, beta2, 1 - beta2, rate, root, eps, penalty, keep


def _adam(arrays: tuple[numpy.ndarray, ...], factors: tuple) -> None:
    if not all(map(kernels.fits, arrays)):
        _adam_on_copies(arrays, factors)
        return
    x, g, m, v = (a.reshape(-1) for a in arrays)  # views
    kernel = kernels.adam.get()
    if kernel is not None:
        kernel(x, g, m, v, *factors)
        return
    scratch = numpy.empty((2, min(BLOCK, x.size)), x.dtype)
    for start in range(0, x.size, BLOCK):
        part = slice(start, start + BLOCK)
        _adam_block(x[part], g[part], m[part], v[part], scratch[:, : x[part].size], factors)


def _adam_on_copies(arrays: tuple[numpy.ndarray, ...], factors: tuple) -> None:
    """By way of row-major copies, so that the order of the arrays in memory changes no rounding."""
    x, g, m, v = (numpy.array(a, order="C") for a in arrays)
    if kernels.fits(x):
        _adam((x, g, m, v), factors)
    else:  # a dtype that no kernel takes
        _adam_block(x, g, m, v, numpy.empty((2, *x.shape), x.dtype), factors)
    for array, copy in zip((arrays[0], *arrays[2:]), (x, m, v), strict=True):
        array[...] = copy


def _adam_block(x: Any, g: Any, m: Any, v: Any, scratch: Any, factors: tuple) -> None:
    """What kernels.adam computes, in NumPy; scratch holds two arrays like x."""
    beta1, rest1, beta2, rest2, rate, root, eps, penalty, keep = factors
    a, b = scratch
    numpy.multiply(x, penalty, out=a)
    a += g
    numpy.multiply(a, rest1, out=b)
    m *= beta1
    m += b
    numpy.multiply(a, a, out=b)
    b *= rest2
    v *= beta2
    v += b
    numpy.sqrt(v, out=b)
    b *= root
    b += eps
    numpy.multiply(m, rate, out=a)
    a /= b
    x *= keep
    x -= a


def _unreadable(values: Any, error: Exception) -> str:
    if "inhomogeneous" in str(error):
        return f"the rows of this {type(values).__name__} differ in length; wanted a regular shape ({error})"
    return f"cannot make an array of this {type(values).__name__}: {error}"


def checked_state(state: Any) -> Any:
    """The state of a legacy generator (get_state(legacy=False)), where a position outside its table is refused: NumPy
    believes it, and reads memory that is not its own."""
    inner = state.get("state") if isinstance(state, dict) else None
    if not isinstance(inner, dict):
        raise ValueError(f"a generator's state is a dict, got {type(state).__name__}")
    if "pos" in inner and not 0 <= inner["pos"] <= len(inner.get("key", ())) <= 624:
        raise ValueError(f"a generator's position must lie in its table, got {inner['pos']}")
    return state


_CPU = CPUDevice()


class _Recording(threading.local):
    device: Any = None


_recording = _Recording()


def recording_on(device: Any) -> None:
    """Have this thread's CPU be `device`, which records what is made on it; None: no longer."""
    _recording.device = device


def cpu() -> CPUDevice:
    return _recording.device or _CPU


def default_device() -> CPUDevice:
    return _recording.device or _CPU


def all_devices() -> list[Device]:
    return [_CPU]


def device_of(array: Any) -> Any:
    """The device an array lives on: its own `.device` where that is one of ours, else the CPU."""
    device = getattr(array, "device", _CPU)
    return device if isinstance(device, Device) else _CPU
