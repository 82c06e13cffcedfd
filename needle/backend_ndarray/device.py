"""Devices of NDArrays: a device module with a name, and what makes, draws or moves arrays there."""

from __future__ import annotations

from sys import getrefcount
from typing import Any

import numpy

from ..backend_numpy import CPUDevice, Device, adam_factors
from . import ndarray_backend_cpu, ndarray_backend_cuda, ndarray_backend_numpy
from .strided import Strided, as_dtype, as_view, empty, must_be_writable, new, spanned, wrapped
from .views import as_shape

HOST = CPUDevice()
ALONE = 2  # references to a buffer that one array holds: the array's, and that of whoever counts


class BackendDevice(Device):
    """A place where NDArrays live. Equal to another of the same name; other attributes are those of its module."""

    def __init__(self, name: str, mod: Any):
        self.name, self.mod = name, mod

    def __repr__(self) -> str:
        return self.name + "()"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, BackendDevice) and self.name == other.name)

    def __hash__(self) -> int:
        return hash(self.name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__tile_size__" or name == "mod":
            raise AttributeError(name)
        return getattr(self.mod, name)

    def __reduce__(self) -> Any:
        return _named, (self.name,)

    def enabled(self) -> bool:
        return self.mod is not None and bool(self.mod.enabled())

    def synchronize(self) -> None:
        """Wait until all that was asked of the device is done."""
        self.mod.synchronize()

    # --- from elsewhere and back --------------------------------------------------------------------------------

    def array(self, values: Any, dtype: Any = None) -> Any:
        """A new array holding a copy of `values`; without a dtype float32, as the course's NDArray."""
        dtype = as_dtype("float32" if dtype is None else dtype, "array")
        if isinstance(values, Strided):
            if values.device == self:
                return values.astype(dtype)
            values = values.numpy()
        if not isinstance(values, numpy.ndarray) and self.mod.holds(values) and values.dtype.kind in "biuf":
            return self._adopted(self.mod.xp.array(values, dtype=dtype, order="C"))
        return self._adopted(_read(values, dtype))

    def numpys_dtype(self, values: Any) -> Any:
        """The dtype that NumPy has for `values`, where `array` without one takes float32."""
        return values.dtype if hasattr(values, "dtype") else numpy.asarray(values).dtype

    def share(self, values: Any) -> Any:
        """The array behind `values` in its dtype, without a copy where the device can do without."""
        if isinstance(values, Strided):
            return values if values.device == self else self._adopted(values.numpy())
        values = numpy.asarray(values)
        array = self._adopted(numpy.asarray(values, dtype=as_dtype(values.dtype, "share"), order="C"))
        array._is_view = True  # of memory that others may write to
        return array

    def batch(self, values: Any) -> Any:
        """A batch of data as tensors hold it here: float32, as all that is given without a dtype."""
        return self.share(numpy.asarray(values, dtype="float32"))

    def cast(self, array: Any, dtype: Any) -> Any:
        if isinstance(array, Strided) and array.device == self:
            return array.astype(dtype, copy=False)
        return self.array(array, dtype)

    def _adopted(self, array: numpy.ndarray) -> Any:
        return new(self, self.mod.adopt(array), array.shape)

    def to_numpy(self, array: Any, *layout: Any) -> numpy.ndarray:
        """The numbers as a NumPy array of its own; also the module's to_numpy(handle, shape, strides, offset)."""
        if layout:
            return self.mod.to_numpy(array, *layout)
        return array.numpy() if isinstance(array, Strided) else numpy.array(array)

    def from_dlpack(self, source: Any) -> Any:
        """An NDArray over the memory of an array of another library on this device."""
        return spanned(self, self.mod.xp.from_dlpack(source))

    # --- memory -------------------------------------------------------------------------------------------------

    def storage(self, array: Any) -> Any:
        """The buffer that `array` looks at: one object for all views of it."""
        return array._handle

    def owns(self, array: Any) -> bool:
        """Whether `array` has memory of its own that may be written to: is no view, has none, and is not read-only."""
        if array._is_view or getrefcount(array._handle) > ALONE:
            return False
        flat = array._handle.array
        if getrefcount(flat) > ALONE + 1 or (flat.base is not None and getrefcount(flat.base) > ALONE):
            return False  # another library looks at it
        return getattr(flat.flags, "writeable", True)

    def laid_out_as(self, array: Any, like: Any) -> Any:
        """`array` as a compact one: the only order in memory that is kept here."""
        return array.compact()

    def add_scaled(self, target: Any, source: Any, factor: float) -> bool:
        """target += factor · source, where target owns its memory. Whether it was done."""
        if not self.owns(target) or not target.is_compact():
            return False
        if target.dtype != source.dtype or target.shape != source.shape:
            return False
        self.mod.add_scaled(target._handle, source.compact()._handle, factor)
        return True

    def adam(self, arrays: tuple[Any, ...], t: int, **options: Any) -> None:
        """The t-th step of optim.Adam. arrays: parameter, gradient, m and v; all are written to but the gradient."""
        compact = [a.compact() for a in arrays]
        self.mod.adam([a._handle for a in compact], adam_factors(t, **options))
        for array, done in zip(arrays, compact, strict=True):
            if array is not done and array is not arrays[1]:
                array[...] = done

    def reshape(self, array: Any, shape: Any) -> Any:
        """The same elements in row-major order under another shape: a view where the array is compact."""
        return array.compact().reshape(shape)

    def getitem(self, array: Any, index: Any) -> Any:
        """array[index] by NumPy's rules: ints drop their axis, integer and boolean arrays choose."""
        view = as_view(array, "getitem", self)
        return wrapped(self, view[self._index(view, index)], (array._handle,))

    def setitem(self, array: Any, index: Any, value: Any) -> None:
        """array[index] = value by NumPy's rules; of an element named twice the last value stays."""
        must_be_writable(array, "setitem")
        view = as_view(array, "setitem", self)
        view[self._index(view, index)] = as_view(value, "setitem", self)

    def add_at(self, array: Any, index: Any, value: Any) -> None:
        """array[index] += value, where an element named twice gets both."""
        must_be_writable(array, "add_at")
        view = as_view(array, "add_at", self)
        self.mod.xp.add.at(view, self._index(view, index), as_view(value, "add_at", self))

    def _index(self, view: Any, index: Any) -> Any:
        """An index of a view, in the device's library; IndexError where it is out of range."""
        return self.mod.held_index(view, _plain(index, self))

    # --- new arrays ---------------------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any = "float32") -> Any:
        return empty(self, as_shape(shape, "empty"), as_dtype(dtype, "empty"))

    def full(self, shape: Any, fill_value: Any, dtype: Any = "float32") -> Any:
        array = self.empty(shape, dtype)
        array.fill(fill_value)
        return array

    def zeros(self, *shape: int, dtype: Any = "float32") -> Any:
        return self.full(shape, 0, dtype)

    def ones(self, *shape: int, dtype: Any = "float32") -> Any:
        return self.full(shape, 1, dtype)

    def arange(self, n: int, dtype: Any = "int64") -> Any:
        """0, 1 … n − 1."""
        return self._adopted(numpy.arange(n, dtype=dtype))

    def eye(self, n: int, dtype: Any = "float32") -> Any:
        return self._adopted(numpy.eye(n, dtype=dtype))

    def one_hot(self, n: int, i: Any, dtype: Any = "float32") -> Any:
        """Rows of the n×n identity; i: whole numbers, also if held as floats."""
        given = i.numpy() if isinstance(i, Strided) else numpy.asarray(i)
        labels = given.astype("int64")
        if (labels != given).any() or (labels < -n).any() or (labels >= n).any():
            raise IndexError(f"one_hot: wanted whole numbers from 0 to {n - 1}, got {given}")
        rows = numpy.zeros((*labels.shape, n), as_dtype(dtype, "one_hot"))
        numpy.put_along_axis(rows, labels[..., None], 1, axis=-1)
        return self._adopted(rows)

    # --- random numbers: NumPy's global legacy generator, in float64, then rounded ----------------------------------

    def rand(self, *shape: int, dtype: Any = "float32") -> Any:
        """Uniform draws from [0, 1)."""
        return self.array(numpy.random.rand(*shape), dtype)

    def randn(self, *shape: int, dtype: Any = "float32") -> Any:
        """Standard normal draws."""
        return self.array(numpy.random.randn(*shape), dtype)

    def generator(self, seed: Any) -> numpy.random.Generator:
        return HOST.generator(seed)

    def seed(self, seed: int) -> None:
        HOST.seed(seed)

    def random_state(self) -> Any:
        return HOST.random_state()

    def set_random_state(self, state: Any) -> None:
        HOST.set_random_state(state)


def _read(values: Any, dtype: numpy.dtype) -> numpy.ndarray:
    """A copy in `dtype`. Numbers that it does not hold raise OverflowError; those of arrays wrap around, as NumPy's."""
    if not (isinstance(values, numpy.ndarray) and values.dtype.kind in "biuf"):
        read = HOST.array(values)  # raises for what holds no numbers
        values = HOST.array(values, dtype) if dtype.kind in "iu" else read
    return numpy.array(values, dtype=dtype, order="C")


def _plain(index: Any, device: BackendDevice) -> Any:
    """An index in the device's library: views in place of NDArrays."""
    if isinstance(index, tuple):
        return tuple(_plain(part, device) for part in index)
    if isinstance(index, numpy.ndarray):
        return device.mod.xp.asarray(index)
    return as_view(index, "index", device) if isinstance(index, Strided) else index


_DEVICES = {
    "cpu": BackendDevice("cpu", ndarray_backend_cpu),
    "cuda": BackendDevice("cuda", ndarray_backend_cuda),
    "cpu_numpy": BackendDevice("cpu_numpy", ndarray_backend_numpy),
}


def _named(name: str) -> BackendDevice:
    return _DEVICES[name]


def cpu() -> BackendDevice:
    """Compiled kernels on all cores where Numba is installed, else NumPy."""
    return _DEVICES["cpu"]


def cuda(index: int = 0) -> BackendDevice:
    """The first GPU, by CuPy. Without one it can be asked for, and is not enabled."""
    if index:
        raise ValueError(f"cuda({index}): NDArray knows the first GPU alone; use ndl.cuda({index}) of the np backend")
    return _DEVICES["cuda"]


def cpu_numpy() -> BackendDevice:
    """The readable reference in NumPy."""
    return _DEVICES["cpu_numpy"]


def default_device() -> BackendDevice:
    return _DEVICES["cpu"]


def all_devices() -> list[BackendDevice]:
    return list(_DEVICES.values())
