"""A stand-in for CuPy where there is no GPU: NumPy inside, and outside as strict as CuPy where that matters.

It never becomes a NumPy array by itself, refuses NumPy's arrays beside its own, knows only the functions and options
that CuPy 14 has, gives 0-d arrays where NumPy gives scalars, wraps indices out of range, and counts memory. What it
cannot show are CuPy's own numbers and speed; for these tests/test_devices.py has tests that want a GPU.
"""

from __future__ import annotations

import sys
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from needle import backend_cupy

# NumPy's functions that CuPy has too, with the options of CuPy's own.
FUNCTIONS = {
    "all": "a axis out keepdims", "any": "a axis out keepdims", "argmax": "a axis dtype out keepdims",
    "argmin": "a axis dtype out keepdims", "argsort": "a axis kind", "ascontiguousarray": "a dtype",
    "broadcast_to": "array shape", "concatenate": "tup axis out dtype casting", "copy": "a order",
    "copyto": "dst src casting where", "cumsum": "a axis dtype out", "diagonal": "a offset axis1 axis2",
    "einsum": "operands optimize dtype order casting", "empty_like": "prototype dtype order subok shape",
    "expand_dims": "a axis", "flip": "a axis", "full_like": "a fill_value dtype order subok shape",
    "max": "a axis out keepdims", "mean": "a axis dtype out keepdims", "min": "a axis out keepdims",
    "moveaxis": "a source destination", "nan_to_num": "x copy nan posinf neginf", "ndim": "a",
    "ones_like": "a dtype order subok shape", "outer": "a b out",
    "pad": "array pad_width mode constant_values", "prod": "a axis dtype out keepdims", "ravel": "a order",
    "repeat": "a repeats axis", "reshape": "a newshape order copy", "result_type": "arrays_and_dtypes",
    "roll": "a shift axis", "shape": "a", "sort": "a axis kind", "squeeze": "a axis", "stack": "tup axis out dtype",
    "std": "a axis dtype out ddof keepdims", "sum": "a axis dtype out keepdims", "swapaxes": "a axis1 axis2",
    "take_along_axis": "a indices axis", "tensordot": "a b axes", "transpose": "a axes",
    "var": "a axis dtype out ddof keepdims", "where": "condition x y",
    "zeros_like": "a dtype order subok shape", "linalg.norm": "x ord axis keepdims", "linalg.qr": "a mode",
}  # fmt: skip
UFUNCS = set(
    "abs absolute add bitwise_and bitwise_or ceil copysign cos divide equal exp expm1 floor floor_divide greater "
    "greater_equal invert isfinite isinf isnan less less_equal log log1p logical_and logical_not logical_or matmul "
    "maximum minimum multiply negative not_equal positive power reciprocal remainder sign signbit sin sqrt square "
    "subtract tanh true_divide".split()
)
METHODS = (
    "all any argmax argmin argsort astype clip copy cumsum flatten max mean min nonzero prod ravel repeat reshape "
    "round squeeze std sum swapaxes take transpose var".split()
)
FLAGS = ("c_contiguous", "f_contiguous", "owndata", "fnc", "forc")


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int):
        super().__init__(f"CUDA error {status}")
        self.status = status


class OutOfMemoryError(MemoryError):
    def __init__(self, size: int, total: int, limit: int = 0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")
        self._size, self._total, self._limit = size, total, limit


class PerformanceWarning(RuntimeWarning):
    pass


class State(threading.local):
    """The machine: shared but for the thread's current device and stream."""

    device = 0
    stack: tuple = ()
    count, trouble, free, total = 1, 0, 2**30, 2**31
    log: list = []  # noqa: RUF012 — one list for all threads


state = State()


class Device:
    def __init__(self, device: Any = None):
        self.id = state.device if device is None else getattr(device, "id", device)

    def __enter__(self) -> Device:
        if self.id >= State.count:
            raise CUDARuntimeError(101)
        state.stack += (state.device,)
        state.device = self.id
        return self

    def __exit__(self, *error: object) -> None:
        state.device, state.stack = state.stack[-1], state.stack[:-1]

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def synchronize(self) -> None:
        State.log.append(("synchronize", self.id))


class Stream:
    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False):
        self.name = "null" if null else "blocking" if not non_blocking else "own"

    def record(self, event: Any = None) -> str:
        State.log.append(("record", self.name))
        return f"event of {self.name}"

    def wait_event(self, event: str) -> None:
        State.log.append(("wait", self.name, event))

    def synchronize(self) -> None:
        State.log.append(("synchronize", self.name))


NULL = Stream(null=True)


class Memory:
    """Memory of a GPU. Not weakly referable, as CuPy's is not."""

    __slots__ = ("device_id", "host")

    def __init__(self, host: np.ndarray, device_id: int):
        self.host, self.device_id = host, device_id


class PooledMemory(Memory):
    """Of CuPy's own pool; `Memory` stands for another library's."""

    __slots__ = ()


class OwnMemory(Memory):
    __slots__ = ()


class MemoryPointer:
    def __init__(self, mem: Memory, offset: int):
        self.mem, self.offset, self.device_id = mem, offset, mem.device_id

    @property
    def ptr(self) -> int:
        return self.mem.host.ctypes.data + self.offset

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + offset)


class PinnedMemory(bytearray):
    pass


def alloc_pinned_memory(size: int) -> PinnedMemory:
    State.log.append(("pinned", size))
    return PinnedMemory(size)


class Flags:
    def __init__(self, flags: Any):
        for name in FLAGS:
            setattr(self, name, getattr(flags, name))


class ndarray:
    """shape, dtype, memptr, strides; `_host` is the NumPy array inside."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"):
        if memptr is None:
            made = on_gpu(np.empty(shape, dtype, order))
            self._host, self.data = made._host, made.data
        else:
            self._host = np.ndarray(shape, dtype, memptr.mem.host, memptr.offset, strides)
            self.data = memptr
        self.base: ndarray | None = None

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host.flags))
    device = property(lambda self: Device(self.data.device_id))
    T = property(lambda self: self.transpose())

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if ufunc.__name__ not in UFUNCS or not options.keys() <= {"dtype", "casting", "axis", "keepdims"}:
            return NotImplemented
        if out is not None:
            if len(out) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            options["out"] = out[0]
        return run(getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        name = f"linalg.{name}" if "linalg" in function.__module__ else name
        if name not in FUNCTIONS or not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
            return NotImplemented
        if name == "array2string":
            return np.array2string(args[0].get(), *args[1:], **kwargs)
        known = FUNCTIONS[name].split()
        if not kwargs.keys() <= set(known):
            raise TypeError(f"cupy.{name} got an unexpected keyword argument: {sorted(kwargs.keys() - set(known))}")
        if name != "einsum" and name != "result_type" and len(args) > len(known):
            raise TypeError(f"cupy.{name} takes {len(known)} arguments, got {len(args)}")
        return run(function, args, kwargs)

    def __getitem__(self, index: Any) -> ndarray:
        return wrap(self._host[wrapped_index(self, index)], [self])

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._host[wrapped_index(self, index)] = inner(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __index__(self) -> int:
        return self._host.__index__()

    def __repr__(self) -> str:
        return repr(self._host)

    def __reduce__(self) -> Any:
        return asarray, (self._host,)

    def __dlpack__(self, stream: Any = None, **options: Any) -> Any:
        return self._host.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.data.device_id

    def get(self, stream: Any = None, order: str = "C", out: Any = None) -> np.ndarray:
        return self._host.copy(order)

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        State.log.append(("copy", "null" if stream is None else stream.name, type(arr.base).__name__))
        self._host[...] = arr

    def fill(self, value: Any) -> None:
        self._host.fill(value)

    def item(self, *index: int) -> Any:
        return self._host.item(*index)

    def tolist(self) -> Any:
        return self._host.tolist()


def _method(name: str) -> Callable:
    return lambda self, *args, **kwargs: run(getattr(np.ndarray, name), (self, *args), kwargs)


def _operator(name: str) -> Callable:
    def operate(self: Any, *other: Any) -> Any:
        if not all(isinstance(x, (ndarray, np.ndarray, np.generic, int, float)) for x in other):
            return NotImplemented
        result = run(getattr(np.ndarray, name), (self, *other), {})
        return self if name.startswith("__i") and name != "__invert__" else result

    return operate


for _name in METHODS:
    setattr(ndarray, _name, _method(_name))
for _name in "add sub mul truediv pow floordiv mod and or xor matmul".split():
    for _kind in ("", "r", "i"):
        setattr(ndarray, f"__{_kind}{_name}__", _operator(f"__{_kind}{_name}__"))
for _name in "eq ne lt le gt ge neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


def run(function: Callable, args: Any, kwargs: dict[str, Any]) -> Any:
    """NumPy's function on the arrays inside; a GPU warns of no NaN."""
    found: list[ndarray] = []
    args, kwargs = inner(args, found), inner(kwargs, found)
    for array in found:
        if array.data.device_id != state.device:
            text = f"The device where the array resides ({array.data.device_id}) is different from the current device"
            warnings.warn(f"{text} ({state.device}). Peer access has been activated.", PerformanceWarning, stacklevel=3)
    with np.errstate(all="ignore"):
        return wrap(function(*args, **kwargs), found)


def inner(value: Any, found: list | None = None) -> Any:
    """`value` with NumPy's arrays in place of the fakes, which are added to `found`."""
    if isinstance(value, ndarray):
        if found is not None:
            found.append(value)
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, dict):
        return {key: inner(part, found) for key, part in value.items()}
    return type(value)(inner(part, found) for part in value) if type(value) in (tuple, list) else value


def wrap(result: Any, parents: list[ndarray]) -> Any:
    """Fakes in place of NumPy's arrays and scalars; a view is one of a parent's memory."""
    if isinstance(result, tuple):  # also a named one, as of linalg.qr
        return tuple(wrap(part, parents) for part in result)
    if isinstance(result, list):
        return [wrap(part, parents) for part in result]
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    for parent in parents:
        if result is parent._host:
            return parent
        if isinstance(result, np.ndarray) and result.base is not None and np.may_share_memory(result, parent._host):
            return view(result, parent)
    return on_gpu(np.array(result) if isinstance(result, np.generic) or result.base is not None else result)


def view(host: np.ndarray, parent: ndarray) -> ndarray:
    array = object.__new__(ndarray)
    array._host, array.base = host, parent if parent.base is None else parent.base
    distance = host.__array_interface__["data"][0] - parent.data.mem.host.ctypes.data
    array.data = MemoryPointer(parent.data.mem, distance)
    return array


def on_gpu(host: np.ndarray) -> ndarray:
    """A new array with memory of its own, that of `host`."""
    if host.nbytes > State.free:
        raise OutOfMemoryError(host.nbytes, State.total - State.free)
    array = object.__new__(ndarray)
    flat = host.ravel("K")
    assert np.shares_memory(flat, host) or not host.size
    array._host, array.base = host, None
    array.data = MemoryPointer(PooledMemory(flat.view(np.uint8), state.device), 0)
    return array


def wrapped_index(array: ndarray, index: Any) -> Any:
    """The index inside, with whole numbers out of range wrapped round: CuPy does not look at them."""
    parts = [part._host if isinstance(part, ndarray) else part for part in np_tuple(index)]
    parts = [np.asarray(part) if isinstance(part, list) else part for part in parts]
    if not any(isinstance(part, np.ndarray) for part in parts):
        return tuple(parts)
    widths = [0 if p is None or p is Ellipsis else p.ndim if is_mask(p) else 1 for p in parts]
    axis = 0
    for i, part in enumerate(parts):
        if part is Ellipsis:
            axis += array.ndim - sum(widths)
        elif isinstance(part, np.ndarray) and part.dtype.kind in "iu" and array.shape[axis]:
            parts[i] = part % array.shape[axis]
        axis += widths[i]
    return tuple(parts)


def is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind == "b"


def np_tuple(index: Any) -> tuple:
    return index if isinstance(index, tuple) else (index,)


# --- the module ------------------------------------------------------------------------------------------------


def asarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        if a.data.device_id == state.device:
            return a if dtype is None else a.astype(dtype, copy=False)
        return on_gpu(np.array(a._host, dtype))
    return on_gpu(np.array(a, dtype, order=order))


def array(obj: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> ndarray:
    return on_gpu(np.array(obj._host if isinstance(obj, ndarray) else obj, dtype, order=order))


def from_dlpack(source: Any) -> ndarray:
    kind, index = source.__dlpack_device__()
    if kind != 2:
        raise BufferError("the array is not on a GPU")

    class OnHost:
        def __dlpack__(self, **options: Any) -> Any:
            return source.__dlpack__(stream=1)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    host = np.from_dlpack(OnHost())
    made = object.__new__(ndarray)
    made._host, made.base = host, None
    made.data = MemoryPointer(Memory(host.ravel("K").view(np.uint8), index), 0)
    return made


def creating(name: str) -> Callable:
    def create(*args: Any, **kwargs: Any) -> ndarray:
        if name in ("empty", "zeros", "full"):  # before NumPy makes it
            dtype = kwargs.get("dtype") or (args[1] if name == "empty" and len(args) > 1 else float)
            size = int(np.prod(args[0], dtype=float)) * np.dtype(dtype).itemsize
            if size > State.free:
                raise OutOfMemoryError(size, State.total - State.free)
        return on_gpu(getattr(np, name)(*args, **kwargs))

    return create


class Ufunc:
    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any, out: Any = None, **options: Any) -> Any:
        result = run(getattr(np, self.name), args, options if out is None else {**options, "out": out})
        return result if out is None else out

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        getattr(np, self.name).at(a._host, wrapped_index(a, indices), inner(b))


def function(name: str) -> Callable:
    return lambda *args, **kwargs: run(getattr(np, name), args, kwargs)


def device_count() -> int:
    if State.trouble:
        raise CUDARuntimeError(State.trouble)
    return State.count


def module() -> types.ModuleType:
    cupy: Any = types.ModuleType("cupy")
    cupy.__version__ = "14.0 (fake)"
    cupy.ndarray, cupy.asarray, cupy.array, cupy.from_dlpack = ndarray, asarray, array, from_dlpack
    for name in ("empty", "zeros", "ones", "full", "arange", "eye"):
        setattr(cupy, name, creating(name))
    for name in FUNCTIONS:
        if "." not in name:
            setattr(cupy, name, function(name))
    for name in UFUNCS:
        setattr(cupy, name, Ufunc(name))
    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError, Memory=OwnMemory, PooledMemory=PooledMemory)
    runtime = types.SimpleNamespace(
        getDeviceCount=device_count,
        memGetInfo=lambda: (State.free, State.total),
        getDeviceProperties=lambda index: {"name": b"Fake GPU", "major": 9, "minor": 0},
    )
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        alloc_pinned_memory=alloc_pinned_memory,
        get_current_stream=lambda: NULL,
        memory=memory,
        runtime=runtime,
    )
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 0)
    return cupy


def install(monkeypatch: Any, **machine: Any) -> types.ModuleType:
    """Have needle find this CuPy on a machine of `count` GPUs (or in `trouble`) until the test is over."""
    cupy = module()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name, value in {"count": 1, "trouble": 0, "free": 2**30, "total": 2**31, "log": [], **machine}.items():
        monkeypatch.setattr(State, name, value)
    monkeypatch.setattr(backend_cupy, "_device", backend_cupy.cache(backend_cupy.CUDADevice))
    return cupy
