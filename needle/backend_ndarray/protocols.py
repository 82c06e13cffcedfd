"""NumPy's functions and ufuncs on NDArrays, and NDArrays in other libraries."""

from __future__ import annotations

from typing import Any

import numpy

from .arithmetic import apply, matmul, write_into
from .strided import Strided, as_view, foreign, must_be_writable, wrapped


class Protocols(Strided):
    """numpy.exp(a), numpy.where(c, a, b) … give NDArrays. Ufuncs and the functions of OURS run on the device's
    kernels, all others in its array library over views without a copy."""

    __slots__ = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        """The numbers as a NumPy array of its own, for numpy.array and numpy.asarray."""
        if copy is False:
            raise ValueError("NDArray: a NumPy array of it is always a copy; numpy.from_dlpack shares the memory")
        array = self._device.to_numpy(self)
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if method == "__call__" and ufunc is numpy.matmul and not options:
            return matmul(*inputs)
        if method == "__call__" and _has_kernel(ufunc) and any(isinstance(x, Strided) for x in inputs):
            if not options:
                return apply(name, inputs)
            (out,) = options["out"] if options.keys() == {"out"} else (None,)
            if isinstance(out, Strided):
                write_into(out, name, inputs)
                return out
        if method == "reduce" and name in _REDUCTIONS:
            return _reduced(_REDUCTIONS[name], *inputs, **options)
        full = name if method == "__call__" else f"{name}.{method}"
        return _in_library(self._device, getattr(ufunc, method), full, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        ours = OURS.get(function)
        if ours is not None and isinstance(args[0] if args else None, Strided):
            result = ours(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return _in_library(self._device, function, function.__name__, args, kwargs)

    def __dlpack__(self, **options: Any) -> Any:
        return self._view().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._view().__dlpack_device__()


def _has_kernel(ufunc: Any) -> bool:
    return ufunc.nout == 1 and ufunc.signature is None and getattr(numpy, ufunc.__name__, None) is ufunc


def _in_library(device: Any, function: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """`function` over views of the NDArrays in its arguments; its arrays come back as NDArrays."""
    out = kwargs.get("out")
    for target in (*(out if isinstance(out, tuple) else (out,)), *_first_if_written(name, args, kwargs)):
        if isinstance(target, Strided):
            must_be_writable(target, name)
    handles: dict[int, Any] = {}
    result = function(*_opened(args, name, device, handles), **_opened(kwargs, name, device, handles))
    if out is not None:  # what was given to be written to comes back
        return out[0] if isinstance(out, tuple) and len(out) == 1 else out
    return wrapped(device, result, tuple(handles.values()))


def _opened(value: Any, name: str, device: Any, handles: dict[int, Any]) -> Any:
    """`value` with views in place of NDArrays, whose handles are noted, and Python's numbers for NumPy's."""
    if isinstance(value, Strided):
        handles[id(value._handle)] = value._handle
        return as_view(value, name, device)
    if isinstance(value, (list, tuple)):
        return type(value)([_opened(part, name, device, handles) for part in value])
    if isinstance(value, dict):
        return {key: _opened(part, name, device, handles) for key, part in value.items()}
    if isinstance(value, numpy.ndarray):
        raise foreign(name, device, value)
    return value.item() if isinstance(value, numpy.generic) and value.dtype.kind in "biuf" else value


# What writes into its first argument, and the name of that.
WRITERS = {
    "copyto": "dst",
    "fill_diagonal": "a",
    "place": "arr",
    "put": "a",
    "put_along_axis": "arr",
    "putmask": "a",
}


def _first_if_written(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, ...]:
    if name not in WRITERS and not name.endswith(".at"):
        return ()
    return tuple(args[:1]) or (kwargs.get(WRITERS.get(name, "")),)


def _reduced(name: str, a: Any, axis: Any = 0, keepdims: bool = False, **options: Any) -> Any:
    return getattr(numpy, name)(a, axis=axis, keepdims=keepdims, **options)


def _method(name: str, known: tuple[str, ...] = ("axis", "keepdims")) -> Any:
    """numpy.<name>(a, axis, keepdims=…) by the method of that name, where it knows all that is asked."""

    def function(a: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 1 or not kwargs.keys() <= set(known):
            return NotImplemented
        return getattr(a, name)(*args, **kwargs)

    return function


def _full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, **device: Any
) -> Any:
    """In NumPy's order of arguments; fill_value None: uninitialised."""
    shape, dtype = a.shape if shape is None else shape, a.dtype if dtype is None else dtype
    return a.device.empty(shape, dtype) if fill_value is None else a.device.full(shape, fill_value, dtype)


def _like(value: Any) -> Any:
    return lambda a, *args, **options: _full_like(a, value, *args, **options)


def _reshape(a: Any, shape: Any, order: str = "C", **options: Any) -> Any:
    return NotImplemented if options or order != "C" else a.compact().reshape(shape)


_REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
OURS: dict[Any, Any] = {
    numpy.sum: _method("sum", ("axis", "keepdims", "dtype")),
    numpy.prod: _method("prod", ("axis", "keepdims", "dtype")),
    numpy.max: _method("max"),
    numpy.amax: _method("max"),
    numpy.min: _method("min"),
    numpy.amin: _method("min"),
    numpy.mean: _method("mean"),
    numpy.reshape: _reshape,
    numpy.transpose: lambda a, axes=None: a.transpose(axes),
    numpy.broadcast_to: lambda a, shape, subok=False: a._stretched(shape),
    numpy.flip: lambda a, axis=None: a.flip(axis),
    numpy.copy: lambda a, order="K", subok=False: a.copy(),
    numpy.empty_like: _like(None),
    numpy.zeros_like: _like(0),
    numpy.ones_like: _like(1),
    numpy.full_like: _full_like,
}
