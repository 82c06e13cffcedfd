"""The CUDA devices of the NumPy backend: arrays are `cupy.ndarray`, each on one GPU.

CuPy is imported when a device is first asked for something. Until then, and without CuPy, driver or GPU, nothing
happens: `enabled()` is False, and what is made on the device raises with the reason.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy

from .backend_numpy import CPUDevice, Device, _adam_block, adam_factors
from .optional import have, optional

HOST = CPUDevice()
NO_DRIVER, NO_GPU = 35, 100  # cudaErrorInsufficientDriver, cudaErrorNoDevice
OFF_ITS_GPU = "The device where the array resides"  # how a warning of CuPy begins
ADVICE = (
    "take smaller batches, or let tensors and graphs go that are no longer used (a loss that is kept keeps its graph)"
)


class CUDADevice(Device):
    """CuPy arrays on the GPU of a number. Random numbers are the CPU's, moved: one seed gives the same everywhere.

    `with device:` makes it the current GPU of this thread, on which ops run where there are several.
    """

    def __init__(self, index: int = 0):
        self.index = index
        self._xp: Any = None
        self._stream: Any = None
        self._entered = threading.local()

    def __repr__(self) -> str:
        return f"needle.cuda({self.index or ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CUDADevice) and self.index == other.index

    def __hash__(self) -> int:
        return hash((CUDADevice, self.index))

    def __reduce__(self) -> Any:
        return cuda, (self.index,)

    # --- whether it is there ------------------------------------------------------------------------------------

    def enabled(self) -> bool:
        return self.why_not() is None

    def why_not(self) -> str | None:
        """Why the device cannot be used; None where it can."""
        if self._xp is not None:
            return None
        found, trouble = gpus()
        if trouble is None and self.index >= found:
            trouble = f"there {'is one GPU' if found == 1 else f'are {found} GPUs'}, numbered from 0"
        return trouble

    @property
    def xp(self) -> Any:
        """CuPy. Raises RuntimeError, with the reason, where the device cannot be used."""
        if self._xp is None:
            trouble = self.why_not()
            if trouble is not None:
                raise RuntimeError(f"{self!r} cannot be used: {trouble}")
            if gpus()[0] > 1:  # an op off its arrays' GPU would leave its result on another one
                warnings.filterwarnings("error", message=OFF_ITS_GPU)
            self._xp = library()
        return self._xp

    @contextmanager
    def here(self) -> Iterator[Any]:
        """CuPy, with this GPU the current one, and its want of memory told in full."""
        xp = self.xp
        try:
            with xp.cuda.Device(self.index):
                yield xp
        except xp.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(out_of_memory(error, self.index)) from error

    def __enter__(self) -> CUDADevice:
        entered = self.xp.cuda.Device(self.index)
        entered.__enter__()
        self._entered.__dict__.setdefault("stack", []).append(entered)
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.stack.pop().__exit__(*error)

    def described(self) -> str:
        """The GPU's name and memory, and what needle drives it with."""
        with self.here() as xp:
            found, (free, total) = xp.cuda.runtime.getDeviceProperties(self.index), _memory(xp)
            name = found["name"].decode()
            return (
                f"{name}, compute capability {found['major']}.{found['minor']}, {_bytes(free)} free of "
                f"{_bytes(total)}; CuPy {xp.__version__}"
            )

    def memory(self) -> tuple[int, int]:
        """Bytes (free, in all). What CuPy keeps for new arrays counts as free."""
        with self.here() as xp:
            return _memory(xp)

    def synchronize(self) -> None:
        """Wait until all that was asked of the GPU is done."""
        with self.here() as xp:
            xp.cuda.Device(self.index).synchronize()

    # --- from elsewhere and back --------------------------------------------------------------------------------

    def array(self, values: Any, dtype: Any = None) -> Any:
        """A new array holding a copy of `values`, also of an array of another GPU; dtype as on the CPU."""
        with self.here() as xp:
            if isinstance(values, xp.ndarray):
                return xp.array(values, dtype=dtype)
            return xp.asarray(HOST.array(values, dtype))

    def share(self, values: Any) -> Any:
        """`values` on this GPU, without a copy where they are there."""
        with self.here() as xp:
            return xp.asarray(values)

    def send(self, values: numpy.ndarray) -> Any:
        """A copy of a NumPy array, for threads that read ahead: it crosses beside the work of the GPU.

        By way of page-locked memory, on a stream of its own. The new memory may have been another array's that
        work already asked for still reads: the copy begins after that work.
        """
        with self.here() as xp:
            if self._stream is None:
                self._stream = xp.cuda.Stream(non_blocking=True)
            array, pinned = xp.empty(values.shape, values.dtype), _pinned(xp, values)
            self._stream.wait_event(xp.cuda.get_current_stream().record())
            array.set(pinned, stream=self._stream)
            self._stream.synchronize()
            return array

    def cast(self, array: Any, dtype: Any) -> Any:
        with self.here() as xp:
            return xp.asarray(array).astype(dtype, copy=False)

    def to_numpy(self, array: Any) -> numpy.ndarray:
        with self.here():
            return array.get()

    def from_dlpack(self, source: Any) -> Any:
        with self.here() as xp:
            return xp.from_dlpack(source)

    # --- memory -------------------------------------------------------------------------------------------------

    def storage(self, array: Any) -> Any:
        """The array that owns the memory `array` looks at: one object for all views of it."""
        while array.base is not None:
            array = array.base
        return array

    def owns(self, array: Any) -> bool:
        """Whether `array` has memory of its own: is no view, and not another library's."""
        memory = self.xp.cuda.memory
        return array.base is None and isinstance(array.data.mem, (memory.PooledMemory, memory.Memory))

    def laid_out_as(self, array: Any, like: Any) -> Any:
        """`array`, or a copy of it in the memory order of `like` where that is another dense one."""
        if array.strides == like.strides or array.shape != like.shape or not like.flags.forc:
            return array
        with self.here() as xp:
            copy = xp.empty_like(like, dtype=array.dtype)
            copy[...] = array
            return copy

    def add_scaled(self, target: Any, source: Any, factor: float) -> bool:
        """target += factor · source, where target owns its memory. Whether it was done."""
        if not self.owns(target) or target.dtype != source.dtype or target.shape != source.shape:
            return False
        with self.here():
            target += source * target.dtype.type(factor)
        return True

    def adam(self, arrays: tuple[Any, ...], t: int, **options: Any) -> None:
        """The t-th step of optim.Adam. arrays: parameter, gradient, m and v; all are written to but the gradient."""
        x, g, m, v = arrays
        with self.here() as xp:
            factors = tuple(map(x.dtype.type, adam_factors(t, **options)))
            _adam_block(x, g, m, v, xp.empty((2, *x.shape), x.dtype), factors)

    # --- parts of arrays ----------------------------------------------------------------------------------------

    def getitem(self, array: Any, index: Any) -> Any:
        """array[index] by NumPy's rules. Whole numbers out of range raise IndexError, where CuPy would wrap them."""
        with self.here() as xp:
            return array[held_index(xp, array, index)]

    def setitem(self, array: Any, index: Any, value: Any) -> None:
        """array[index] = value; of an element named twice any one of the values stays."""
        if isinstance(value, numpy.ndarray):
            raise ValueError(f"the array is on {self!r}, the value on {HOST!r}; move it with .to(device)")
        with self.here() as xp:
            array[held_index(xp, array, index)] = value

    def add_at(self, array: Any, index: Any, value: Any) -> None:
        """array[index] += value, where an element named twice gets both."""
        with self.here() as xp:
            xp.add.at(array, held_index(xp, array, index), value)

    # --- new arrays ---------------------------------------------------------------------------------------------

    def zeros(self, *shape: int, dtype: Any = "float32") -> Any:
        with self.here() as xp:
            return xp.zeros(shape, dtype=dtype)

    def ones(self, *shape: int, dtype: Any = "float32") -> Any:
        return self.full(shape, 1, dtype)

    def empty(self, shape: Any, dtype: Any = "float32") -> Any:
        with self.here() as xp:
            return xp.empty(shape, dtype=dtype)

    def full(self, shape: Any, fill_value: Any, dtype: Any = "float32") -> Any:
        with self.here() as xp:
            return xp.full(shape, fill_value, dtype=dtype)

    def arange(self, n: int, dtype: Any = "int64") -> Any:
        """0, 1 … n − 1."""
        with self.here() as xp:
            return xp.arange(n, dtype=dtype)

    def eye(self, n: int, dtype: Any = "float32") -> Any:
        with self.here() as xp:
            return xp.eye(n, dtype=dtype)

    def one_hot(self, n: int, i: Any, dtype: Any = "float32") -> Any:
        return self.getitem(self.eye(n, dtype), self.share(i))

    # --- random numbers: the CPU's ------------------------------------------------------------------------------

    def rand(self, *shape: int, dtype: Any = "float64") -> Any:
        """Uniform draws from [0, 1), made in float64."""
        return self.share(HOST.rand(*shape, dtype=dtype))

    def randn(self, *shape: int, dtype: Any = "float64") -> Any:
        """Standard normal draws, made in float64."""
        return self.share(HOST.randn(*shape, dtype=dtype))

    def generator(self, seed: Any) -> numpy.random.Generator:
        return HOST.generator(seed)

    def seed(self, seed: int) -> None:
        HOST.seed(seed)

    def random_state(self) -> Any:
        return HOST.random_state()

    def set_random_state(self, state: Any) -> None:
        HOST.set_random_state(state)


@cache
def _device(index: int) -> CUDADevice:
    return CUDADevice(index)


def cuda(index: int = 0) -> CUDADevice:
    """The GPU of a number, as the driver counts them. It can be asked for where there is none: see `enabled()`."""
    if not hasattr(index, "__index__") or index < 0:
        raise ValueError(f"cuda: the number of a GPU is a whole number from 0 on, got {index!r}")
    return _device(index.__index__())


def all_gpus() -> list[CUDADevice]:
    """Every GPU that is enabled, and the first one in any case."""
    return [cuda(i) for i in range(max(1, gpus()[0]))]


def library() -> Any:
    """CuPy; ImportError where it cannot be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what CuPy has to say about this machine, why_not() says
        return optional("cupy", extra="cuda", why="needle.cuda()")


def gpus() -> tuple[int, str | None]:
    """How many GPUs can be used; and if none, why."""
    if not have("cupy"):
        return 0, "CuPy is not installed: `pip install cupy-cuda12x`"
    try:
        found = library().cuda.runtime.getDeviceCount()
    except ImportError as error:
        return 0, str(error)
    except RuntimeError as error:  # CUDA's
        return 0, _explained(error)
    return found, None if found else "the driver finds no GPU"


def _explained(error: RuntimeError) -> str:
    status = getattr(error, "status", None)
    if status == NO_DRIVER:
        return f"no NVIDIA driver was found, or it is older than CuPy needs ({error})"
    return f"the driver finds no GPU ({error})" if status == NO_GPU else f"CUDA does not start ({error})"


def explained(error: BaseException) -> str:
    """The words of an error, and what to do where it is one of a GPU's."""
    if OFF_ITS_GPU in str(error):
        return f"{error}; run ops on the GPU of their arrays: `with tensor.device: ...`"
    return out_of_memory(error) or str(error)


def out_of_memory(error: BaseException, index: int | None = None) -> str | None:
    """What was asked of the GPU and what was free, where `error` is CuPy's want of memory; else None."""
    asked = getattr(error, "_size", None)
    if type(error).__name__ != "OutOfMemoryError" or asked is None:
        return None
    xp = library()
    with xp.cuda.Device(index) as device:
        free, total = _memory(xp)
        return (
            f"out of memory on {cuda(device.id)!r}: {_bytes(asked)} were asked for, {_bytes(free)} of {_bytes(total)} "
            f"were free; {ADVICE}"
        )


def _memory(xp: Any) -> tuple[int, int]:
    free, total = xp.cuda.runtime.memGetInfo()
    return free + xp.get_default_memory_pool().free_bytes(), total


def _bytes(n: int) -> str:
    if n < 2**20:
        return f"{n} bytes"
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:.2f} MiB"


def _pinned(xp: Any, values: numpy.ndarray) -> numpy.ndarray:
    """A copy in page-locked memory, which the GPU reads by itself."""
    memory = xp.cuda.alloc_pinned_memory(max(1, values.nbytes))
    copy = numpy.ndarray(values.shape, values.dtype, memory)
    copy[...] = values
    return copy


def held_index(xp: Any, array: Any, index: Any) -> Any:
    """An index for CuPy: lists and NumPy arrays moved, and every array of whole numbers held to its axis."""
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return index
    parts = tuple(numpy.asarray(part) if isinstance(part, (list, numpy.generic)) else part for part in parts)
    widths = [_width(part) for part in parts]
    axis = 0
    for part, width in zip(parts, widths, strict=True):
        if part is Ellipsis:
            axis += array.ndim - sum(widths)
        elif hasattr(part, "dtype") and part.dtype.kind in "iu" and axis < array.ndim:
            _within(part, array.shape[axis], axis)
        axis += width
    moved = tuple(xp.asarray(part) if isinstance(part, numpy.ndarray) else part for part in parts)
    return moved if isinstance(index, tuple) else moved[0]


def _width(part: Any) -> int:
    """How many axes a part of an index takes."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if hasattr(part, "dtype") and part.dtype.kind == "b" else 1


def _within(numbers: Any, size: int, axis: int) -> None:
    if numbers.size and not (-size <= int(numbers.min()) and int(numbers.max()) < size):
        worst = int(numbers.min()) if int(numbers.min()) < -size else int(numbers.max())
        raise IndexError(f"index {worst} is out of bounds for axis {axis} with size {size}")
