"""Arrays that compute with NumPy and write down what was computed.

A `Traced` array stands for a NumPy array while a function is recorded: NumPy's functions reach it through
`__array_ufunc__` and `__array_function__`, compute its value as always, and leave a node of the graph behind.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from ..backend_numpy import CPUDevice
from .errors import JitError, ValueNeeded
from .ir import Slot

REDUCTIONS = {"add": "sum", "maximum": "max", "minimum": "min", "multiply": "prod"}
METADATA = {numpy.result_type, numpy.shape, numpy.ndim, numpy.size, numpy.can_cast, numpy.iscomplexobj}


class Memory:
    """What a Traced array and its views share; writing is refused as long as there are views."""

    __slots__ = ("__weakref__", "views")

    def __init__(self) -> None:
        self.views: weakref.WeakSet[Traced] = weakref.WeakSet()


class Traced:
    """A NumPy array `value` and the `node` that computes it. Only NumPy's functions and a few methods: no `float()`,
    `bool()`, `item()` or `numpy.asarray()`, which would take a value out of what is recorded.

    In other threads, and once the recording is over, it is like the array that it holds.
    """

    __slots__ = ("__weakref__", "memory", "node", "recorder", "value", "view")

    def __init__(self, recorder: Any, value: Any, node: Any, memory: Memory | None = None):
        self.recorder, self.value, self.node = recorder, value, node
        self.view = memory is not None
        self.memory = memory or Memory()
        if memory is not None:
            memory.views.add(self)

    # --- what it is ---

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # isinstance(x, numpy.ndarray) is to be as in eager mode
        return numpy.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> numpy.dtype:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def device(self) -> Any:
        return CPUDevice() if self.recorder.off else self.recorder.device

    @property
    def T(self) -> Traced:
        return numpy.transpose(self)  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"Traced({self.shape}, {self.dtype})"

    # --- NumPy's protocols ---

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if self.recorder.off:
            return getattr(ufunc, method)(
                *values_of(inputs), **({} if out is None else {"out": values_of(out)}), **options
            )
        if method == "reduce" and ufunc.__name__ in REDUCTIONS and set(options) <= {"axis", "keepdims"}:
            name, axis = REDUCTIONS[ufunc.__name__], options.get("axis", 0)
            return _written(out, _reduced(self, name, axis, options.get("keepdims", False)))
        if method != "__call__" or options:
            return self.recorder.call(getattr(ufunc, method), inputs, options, out=out)
        if ufunc is numpy.matmul:
            return _written(out, self.recorder.make("matmul", inputs))
        if ufunc.nout != 1 or ufunc.signature is not None:
            return self.recorder.call(ufunc, inputs, options, out=out)
        return _written(out, self.recorder.make("ufunc", inputs, (ufunc.__name__,)))

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        if function in METADATA or self.recorder.off:
            return function(*values_of(args), **values_of(kwargs))
        own = FUNCTIONS.get(function)
        if own is not None:
            return own(*args, **kwargs)
        out = kwargs.pop("out", None)
        return self.recorder.call(function, args, kwargs, out=out)

    # --- what would take its value out ---

    def _steers(self, what: str, otherwise: Callable) -> Any:
        """What `otherwise` gives of the array, once the recording is over."""
        if self.recorder.off:
            return otherwise(self.value)
        raise self.recorder.refused(
            ValueNeeded(
                f"jit: {what} asks for a value while the function is recorded, where Python cannot follow values "
                "that each call computes anew. Use ndl.where for a choice, return the tensor and look at it outside, "
                f"or leave this part out of the jitted function. Asked in {self.recorder.place()}"
            )
        )

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self._steers("numpy.asarray()", lambda value: numpy.array(value, *args, **options))

    def __float__(self) -> float:
        return self._steers("float()", float)

    def __int__(self) -> int:
        return self._steers("int()", int)

    def __index__(self) -> int:
        return self._steers("an index or a count", operator.index)

    def __bool__(self) -> bool:
        return self._steers("`if`, `while`, `and`, bool()", bool)

    def item(self, *args: Any) -> Any:
        return self._steers(".item(), float() or a format", lambda value: value.item(*args))

    def tolist(self) -> Any:
        return self._steers(".tolist()", lambda value: value.tolist())

    # --- methods ---

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "sum", axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "max", axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "min", axis, keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "prod", axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "mean", axis, keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "all", axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(self, "any", axis, keepdims)

    def astype(self, dtype: Any, copy: bool = True) -> Traced:
        return self.recorder.make("ufunc", (self,), ("astype", numpy.dtype(dtype)))

    def copy(self) -> Traced:
        return self.astype(self.dtype)

    def reshape(self, *shape: Any) -> Traced:
        wanted = shape[0] if len(shape) == 1 else shape
        done = self.value.reshape(wanted).shape
        return self.recorder.make("reshape", (self,), (done,), memory=self.memory)

    def ravel(self) -> Traced:
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> Traced:
        order = axes[0] if len(axes) == 1 and not hasattr(axes[0], "__index__") else axes
        full = tuple(range(self.ndim))[::-1] if not axes or order is None else tuple(order)
        positive = tuple(operator.index(i) % max(self.ndim, 1) for i in full)
        return self.recorder.make("transpose", (self,), (positive,), memory=self.memory)

    def swapaxes(self, i: int, j: int) -> Traced:
        order = list(range(self.ndim))
        order[i], order[j] = order[j], order[i]
        return self.transpose(tuple(order))

    def squeeze(self, axis: Any = None) -> Traced:
        return self.reshape(self.value.squeeze(axis).shape)

    def dot(self, other: Any) -> Any:
        return self.recorder.call(numpy.dot, (self, other), {})

    def fill(self, value: Any) -> None:
        self[...] = value

    def __getitem__(self, index: Any) -> Traced:
        if _is_basic(index):
            return self.recorder.make("getitem", (self,), (index,), memory=self.memory)
        return self.recorder.call(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        rebind(self, self.recorder.call(with_item, (self, index, value), {}))

    def __iter__(self) -> Iterator[Traced]:
        return (self[i] for i in range(len(self)))


def _binary(ufunc: Any) -> tuple[Callable, Callable, Callable]:
    def forward(self: Any, other: Any) -> Any:
        if hasattr(other, "cached_data"):  # a tensor knows what to do with an array on its left
            return NotImplemented
        return self.__array_ufunc__(ufunc, "__call__", self, other)

    def backward(self: Any, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", other, self)

    def in_place(self: Any, other: Any) -> Any:
        return self.__array_ufunc__(ufunc, "__call__", self, other, out=(self,))

    return forward, backward, in_place


ARITHMETIC = {
    "add": numpy.add, "sub": numpy.subtract, "mul": numpy.multiply, "truediv": numpy.true_divide,
    "floordiv": numpy.floor_divide, "mod": numpy.remainder, "pow": numpy.power, "matmul": numpy.matmul,
    "and": numpy.bitwise_and, "or": numpy.bitwise_or, "xor": numpy.bitwise_xor,
}  # fmt: skip
COMPARISONS = {
    "eq": numpy.equal, "ne": numpy.not_equal, "lt": numpy.less, "le": numpy.less_equal,
    "gt": numpy.greater, "ge": numpy.greater_equal,
}  # fmt: skip
UNARY = {"neg": numpy.negative, "pos": numpy.positive, "abs": numpy.absolute, "invert": numpy.invert}

for _name, _ufunc in ARITHMETIC.items():
    for _prefix, _method in zip(("", "r", "i"), _binary(_ufunc), strict=True):
        setattr(Traced, f"__{_prefix}{_name}__", _method)


def _power(self: Any, other: Any) -> Any:
    """As an array's `**`, which takes other ufuncs for some exponents."""
    plain = type(other) in (int, float) and (self.dtype.kind == "f" or (other in (1, 2) and self.dtype.kind in "biu"))
    ufunc = POWERS.get(other) if plain else None
    if ufunc is not None:
        return self.__array_ufunc__(ufunc, "__call__", self)
    return _binary(numpy.power)[0](self, other)


POWERS = {1: numpy.positive, 2: numpy.square, 0.5: numpy.sqrt, -1: numpy.reciprocal}
Traced.__pow__ = _power  # type: ignore[operator]

for _name, _ufunc in COMPARISONS.items():
    setattr(Traced, f"__{_name}__", _binary(_ufunc)[0])
for _name, _ufunc in UNARY.items():
    setattr(Traced, f"__{_name}__", lambda self, ufunc=_ufunc: self.__array_ufunc__(ufunc, "__call__", self))
Traced.__hash__ = object.__hash__  # type: ignore[method-assign]  # which a class with __eq__ loses


def rebind(target: Any, made: Any) -> None:
    """Have `target`, an array that was written to, stand for what it holds now."""
    if not isinstance(target, Traced):
        raise JitError("jit: a recorded value is written into an array that the recording does not see")
    if target.view or target.memory.views:
        raise ValueNeeded(
            f"jit: {target.recorder.place()} writes into an array of which there are views, which a recording cannot "
            "follow; make a new array, with ndl.where or ndl.concatenate"
        )
    if made.shape != target.shape:
        made = numpy.broadcast_to(made, target.shape)
    made = made if made.dtype == target.dtype else made.astype(target.dtype)
    target.value, target.node = made.value, made.node


def with_item(base: Any, index: Any, value: Any) -> Any:
    """A copy of `base` in which [index] = value."""
    copy = numpy.array(base)
    copy[index] = value
    return copy


def _written(out: Any, made: Any) -> Any:
    """`made`, written into the array that the caller gave for it, if any."""
    target = out[0] if isinstance(out, tuple) else out
    if target is None:
        return made
    rebind(target, made)
    return target


def _reduced(a: Any, name: str, axis: Any, keepdims: bool) -> Any:
    axes = axis if axis is None or hasattr(axis, "__index__") else tuple(axis)
    numbers = tuple(range(a.ndim)) if axes is None else axes if isinstance(axes, tuple) else (axes,)
    for n in numbers:
        if not -a.ndim <= n < a.ndim:
            raise numpy.exceptions.AxisError(n, a.ndim)
    positive = tuple(sorted(operator.index(n) % a.ndim for n in numbers))
    return a.recorder.make("reduce", (a,), (name, positive, bool(keepdims)))


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    plain = (int, slice, numpy.integer, type(None), type(Ellipsis))
    return all(isinstance(part, plain) and not isinstance(part, (bool, numpy.bool_)) for part in parts)


def values_of(args: Any) -> Any:
    """`args` with the arrays that traced ones hold in their place."""
    if isinstance(args, Traced):
        return args.value
    if isinstance(args, (list, tuple)):
        return type(args)(values_of(part) for part in args)
    return {key: values_of(part) for key, part in args.items()} if isinstance(args, dict) else args


# --- NumPy's functions that are more than a call ---------------------------------------------------------------


def _where(condition: Any, a: Any, b: Any) -> Any:
    recorder = next(x.recorder for x in (condition, a, b) if isinstance(x, Traced))
    return recorder.make("ufunc", (condition, a, b), ("where",))


def _broadcast_to(a: Traced, shape: Any) -> Traced:
    done = (shape,) if hasattr(shape, "__index__") else tuple(shape)
    return a.recorder.make("broadcast_to", (a,), (done,), memory=a.memory)


def _like(fill: Any) -> Callable:
    def made(a: Any, dtype: Any = None, shape: Any = None) -> Any:
        return a.recorder.device.full(a.shape if shape is None else shape, fill, dtype or a.dtype)

    return made


def _flip(a: Traced, axis: Any = None) -> Any:
    axes = range(a.ndim) if axis is None else (axis,) if hasattr(axis, "__index__") else axis
    turned = [operator.index(i) % a.ndim for i in axes]
    return a[tuple(slice(None, None, -1) if i in turned else slice(None) for i in range(a.ndim))]


def _reduction(name: str) -> Callable:
    def reduced(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduced(a, name, axis, keepdims)

    return reduced


FUNCTIONS: dict[Any, Callable] = {
    numpy.where: _where,
    numpy.broadcast_to: _broadcast_to,
    numpy.reshape: lambda a, shape: a.reshape(shape),
    numpy.ravel: lambda a: a.ravel(),
    numpy.transpose: lambda a, axes=None: a.transpose(axes),
    numpy.swapaxes: lambda a, i, j: a.swapaxes(i, j),
    numpy.squeeze: lambda a, axis=None: a.squeeze(axis),
    numpy.flip: _flip,
    numpy.zeros_like: _like(0),
    numpy.ones_like: _like(1),
    numpy.empty_like: _like(0),
    numpy.copy: lambda a: a.copy(),
    **{getattr(numpy, name): _reduction(name) for name in ("sum", "max", "min", "prod", "mean", "all", "any")},
}


def pattern_of(args: Any, found: list[Any]) -> Any:
    """`args` with a Slot in place of each traced array, which is appended to `found`."""
    if isinstance(args, Traced):
        found.append(args)
        return Slot(len(found) - 1)
    if isinstance(args, (list, tuple)):
        return type(args)(pattern_of(part, found) for part in args)
    return {key: pattern_of(part, found) for key, part in args.items()} if isinstance(args, dict) else args
