"""Gives Tensor and TensorTuple their operators and methods: the one place where that happens.

Loaded last of all ops. `needle/tensor_protocol.py` declares the same names for type checkers.
"""

from __future__ import annotations

from typing import Any

from ..autograd import LazyGradient, Tensor, TensorTuple, Value, mark_written
from ..backend_selection import array_api, device_holding
from ..failures import same_type
from ..modes import is_grad_enabled
from . import (
    ops_comparison,
    ops_devices,
    ops_elementwise,
    ops_indexing,
    ops_mathematic,
    ops_reduction,
    ops_shape,
)
from .ops_comparison import as_tensor
from .ops_mathematic import (
    AddScalar,
    DivScalar,
    EWiseAdd,
    EWiseDiv,
    EWiseMul,
    EWisePow,
    MulScalar,
    Negate,
    PowerScalar,
    matmul,
    permute,
    reshape,
)
from .ops_support import as_number
from .ops_tuple import make_tuple, tuple_get_item

NUMBERS = (int, float)


def is_number(x: Any) -> bool:
    """Whether an operand is a number (Python's or NumPy's) and not an array."""
    if isinstance(x, NUMBERS):
        return True
    return getattr(x, "shape", None) == () and not hasattr(x, "recorder")  # which may not be looked at


def _operand(name: str, x: Any, like: Tensor) -> Tensor:
    """The other side of an operator as a tensor, or TypeError."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (Value, int, float)):
        raise TypeError(f"{name}: wanted a Tensor or an array beside a Tensor, got {type(x).__name__}")
    return as_tensor(x, like, name)


# --- arithmetic ------------------------------------------------------------------------------------------------


def _add(a: Tensor, b: Any) -> Tensor:
    if isinstance(b, Tensor):
        return EWiseAdd()(a, b)
    return AddScalar(b)(a) if is_number(b) else EWiseAdd()(a, _operand("+", b, a))


def _radd(a: Tensor, b: Any) -> Tensor:
    return AddScalar(b)(a) if is_number(b) else EWiseAdd()(_operand("+", b, a), a)


def _sub(a: Tensor, b: Any) -> Tensor:
    if isinstance(b, Tensor):
        return EWiseAdd()(a, _minus(b, a))
    if is_number(b) and a.dtype.kind != "u":
        return AddScalar(-as_number(b, "-"))(a)
    return EWiseAdd()(a, _minus(as_tensor(b, a, "-"), a))


def _rsub(a: Tensor, b: Any) -> Tensor:
    if is_number(b) and a.dtype.kind == "f":
        return AddScalar(b)(Negate()(a))
    other = as_tensor(b, a, "-") if is_number(b) else _operand("-", b, a)
    return EWiseAdd()(other, _minus(a, other))


def _minus(b: Tensor, a: Tensor) -> Tensor:
    """−b, to be added to a. Integers take the dtype of the sum first: in a narrower one −b can wrap round."""
    if b.dtype.kind != "f" and b.dtype != a.dtype:
        b = ops_mathematic.astype(b, array_api.result_type(a.dtype, b.dtype))
    return Negate()(b)


def _mul(a: Tensor, b: Any) -> Tensor:
    if isinstance(b, Tensor):
        return EWiseMul()(a, b)
    return MulScalar(b)(a) if is_number(b) else EWiseMul()(a, _operand("*", b, a))


def _rmul(a: Tensor, b: Any) -> Tensor:
    return MulScalar(b)(a) if is_number(b) else EWiseMul()(_operand("*", b, a), a)


def _truediv(a: Tensor, b: Any) -> Tensor:
    if isinstance(b, Tensor):
        return EWiseDiv()(a, b)
    return DivScalar(b)(a) if is_number(b) else EWiseDiv()(a, _operand("/", b, a))


def _rtruediv(a: Tensor, b: Any) -> Tensor:
    return EWiseDiv()(as_tensor(b, a, "/") if is_number(b) else _operand("/", b, a), a)


def _pow(a: Tensor, b: Any) -> Tensor:
    if isinstance(b, Tensor):
        return EWisePow()(a, b)
    return PowerScalar(b)(a) if is_number(b) else EWisePow()(a, _operand("**", b, a))


def _rpow(a: Tensor, b: Any) -> Tensor:
    return EWisePow()(as_tensor(b, a, "**") if is_number(b) else _operand("**", b, a), a)


def _matmul(a: Tensor, b: Any) -> Tensor:
    return matmul(a, b if isinstance(b, Tensor) else _operand("@", b, a))


def _rmatmul(a: Tensor, b: Any) -> Tensor:
    return matmul(_operand("@", b, a), a)


def _eq(a: Tensor, b: Any) -> Any:
    """Identity between tensors, so that they can be dict keys; a number or an array would never be it."""
    if not isinstance(b, Value) and (is_number(b) or hasattr(b, "__array__")):
        raise TypeError(
            f"==: asks of a Tensor whether it is the same object, which no {type(b).__name__} is; "
            "compare values with ndl.eq(a, b) or ndl.ne(a, b)"
        )
    return NotImplemented


def _of_booleans(operator: str, function: Any) -> Any:
    """&, | and ~ are bitwise in NumPy, which is the same as logical for booleans alone."""

    def combine(a: Tensor, *other: Any) -> Tensor:
        for x in (a, *other):
            if not isinstance(x, bool) and getattr(x, "dtype", "no") != "bool":
                met = getattr(x, "dtype", type(x).__name__)
                raise TypeError(f"{operator}: wanted boolean tensors, got {met}; compare first, as in (x > 0)")
        return function(a, *other)

    return combine


def _in_place(operator: Any) -> Any:
    """`w -= …` under no_grad changes a parameter itself, as PyTorch's users expect; else it names a new tensor."""

    def change(a: Tensor, b: Any) -> Tensor:
        result = operator(a, b)
        if is_grad_enabled() or not a.requires_grad or isinstance(a, LazyGradient) or not a.is_leaf():
            return result
        if result.shape != a.shape or result.dtype != a.dtype:
            raise ValueError(
                f"in-place operator: the result is {result.shape} {result.dtype}, which does not fit into the "
                f"parameter of {a.shape} {a.dtype}"
            )
        a.cached_data = a.device.share(result.cached_data)  # a 0-d array, where NumPy gave a number
        mark_written(a)
        return a

    return change


# --- indexing and Python protocols -----------------------------------------------------------------------------


def _setitem(a: Tensor, index: Any, value: Any) -> None:
    """Write into the storage, where no gradient can be wrong by it."""
    mine = a.requires_grad and not isinstance(a, LazyGradient)
    if is_grad_enabled() and (mine or (isinstance(value, Tensor) and value.requires_grad)):
        which = "this tensor requires a gradient" if mine else "the value requires a gradient"
        raise RuntimeError(
            f"item assignment: {which}, which the assignment would lose; use ndl.where, ndl.stack or ndl.concatenate, "
            "or assign within no_grad()"
        )
    if isinstance(a, LazyGradient) or not hasattr(a.cached_data, "__setitem__"):  # shared, or a NumPy scalar
        a.cached_data = a.device.array(a.cached_data, a.dtype)
    try:
        if isinstance(value, Tensor):
            value = value.cached_data
        elif not is_number(value):
            value = a.device.share(value)
        a.device.setitem(a.cached_data, ops_indexing.as_index(index), value)
    except (IndexError, TypeError, ValueError) as error:
        raise same_type(error, f"item assignment to a Tensor of shape {a.shape}: {error}") from error
    mark_written(a, in_place=True)


def _len(a: Tensor) -> int:
    if not a.shape:
        raise TypeError("len() of a 0-d Tensor")
    return a.shape[0]


def _iter(a: Tensor) -> Any:
    if not a.shape:
        raise TypeError("iteration over a 0-d Tensor")
    return (a[i] for i in range(a.shape[0]))


def _item(a: Tensor) -> Any:
    """The value of a one-element tensor as a Python number."""
    if a.cached_data.size != 1:
        raise ValueError(f"item: wanted a Tensor with one element, got shape {a.shape}")
    return a.cached_data.item()


def _bool(a: Tensor) -> bool:
    if a.cached_data.size != 1:
        raise ValueError(f"the truth of a Tensor of shape {a.shape} is ambiguous; reduce it, or ask `is None`")
    return bool(a.cached_data.item())


def _index(a: Tensor) -> int:
    if a.dtype.kind not in "iu" or a.cached_data.size != 1:
        raise TypeError(f"only a one-element integer Tensor can be an index, got {a.shape} {a.dtype}")
    return int(a.cached_data.item())


def _numpy(a: Tensor) -> Any:
    """The values as a new numpy.ndarray."""
    return a.device.to_numpy(a.cached_data)


def _array(a: Tensor, dtype: Any = None, copy: Any = None) -> Any:
    if copy is False:
        raise ValueError("a Tensor is always copied into an array; realize_cached_data() gives the live storage")
    values = _numpy(a)
    return values if dtype is None else values.astype(dtype, copy=False)


def _contains(a: Tensor, x: Any) -> bool:
    """Whether an element equals x. (Without this, Python would ask which element *is* x.)"""
    return bool(ops_comparison.eq(a, x).cached_data.any())


def _format(a: Tensor, spec: str) -> str:
    return format(_item(a), spec) if spec else str(a)


UFUNCS: dict[str, Any] = {
    "add": _add, "subtract": _sub, "multiply": _mul, "divide": _truediv, "true_divide": _truediv, "power": _pow,
    "matmul": _matmul, "negative": ops_mathematic.negate, "exp": ops_mathematic.exp, "log": ops_mathematic.log,
    "tanh": ops_mathematic.tanh, "sqrt": ops_elementwise.sqrt, "absolute": ops_elementwise.abs,
    "sign": ops_elementwise.sign, "sin": ops_elementwise.sin, "cos": ops_elementwise.cos,
    "log1p": ops_elementwise.log1p, "expm1": ops_elementwise.expm1, "maximum": ops_elementwise.maximum,
    "minimum": ops_elementwise.minimum, "less": ops_comparison.lt, "less_equal": ops_comparison.le,
    "greater": ops_comparison.gt, "greater_equal": ops_comparison.ge, "equal": ops_comparison.eq,
    "not_equal": ops_comparison.ne, "isnan": ops_comparison.isnan, "isinf": ops_comparison.isinf,
    "isfinite": ops_comparison.isfinite, "logical_and": ops_comparison.logical_and,
    "logical_or": ops_comparison.logical_or, "logical_not": ops_comparison.logical_not,
}  # fmt: skip


def _array_ufunc(a: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """numpy.exp(tensor) is ndl.exp(tensor); what has no op refuses, so that no gradient is lost unseen."""
    op = UFUNCS.get(ufunc.__name__)
    if op is None or method != "__call__" or options:
        call = ufunc.__name__ + ("" if method == "__call__" else "." + method)
        with_options = f" with {', '.join(sorted(options))}=" if options else ""
        raise TypeError(
            f"numpy.{call}{with_options} cannot record a Tensor's gradient; use the op of needle, or "
            "tensor.numpy() where no gradient is wanted"
        )
    like = next(x for x in inputs if isinstance(x, Tensor))
    return op(*[x if isinstance(x, Tensor) else as_tensor(x, like, f"numpy.{ufunc.__name__}") for x in inputs])


def _array_function(a: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    raise TypeError(
        f"numpy.{function.__name__} cannot record a Tensor's gradient; use the op of needle, or tensor.numpy() "
        "where no gradient is wanted"
    )


def _dlpack(a: Tensor, **options: Any) -> Any:
    return a.device.share(a.cached_data).__dlpack__(**options)


def _dlpack_device(a: Tensor) -> Any:
    return a.device.share(a.cached_data).__dlpack_device__()


def from_dlpack(source: Any, requires_grad: bool = False) -> Tensor:
    """A Tensor over the memory of another library's tensor, without a copy, on the device where it lies."""
    if not hasattr(source, "__dlpack__"):
        raise TypeError(f"from_dlpack: wanted an object that speaks DLPack, got {type(source).__name__}")
    array = device_holding(source).from_dlpack(source)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"from_dlpack: wanted real numbers or booleans, got dtype {array.dtype}")
    return Tensor.make_const(array, requires_grad)


def _repr(a: Tensor) -> str:
    values = array_api.array2string(_numpy(a), separator=", ", prefix="Tensor(", threshold=1000)
    op = "" if isinstance(a, LazyGradient) or a.op is None else f", op={type(a.op).__name__}"
    return f"Tensor({values}, shape={a.shape}, dtype={a.dtype}, requires_grad={a.requires_grad}{op})"


def _str(a: Tensor) -> str:
    return array_api.array2string(_numpy(a), separator=" ", threshold=1000)


def _rebuild(kind: type, array: Any, requires_grad: bool, grad: Any) -> Tensor:
    tensor = Tensor.make_const(array, requires_grad)
    if kind is not Tensor:
        whole: Any = object.__new__(kind)
        for name in Value.__slots__:
            if name != "__weakref__":
                setattr(whole, name, getattr(tensor, name))
        tensor = whole
    tensor.grad = grad
    return tensor


def _reduce_ex(a: Tensor, protocol: Any) -> Any:
    """Pickles and deep-copies the values of a leaf; a result would silently lose its graph."""
    if not isinstance(a, LazyGradient) and not a.is_leaf():
        raise TypeError("pickle and copy take leaf tensors only; this is the result of an op: use detach()")
    kind = Tensor if isinstance(a, LazyGradient) else type(a)
    requires_grad = a.requires_grad and not isinstance(a, LazyGradient)
    grad = None if a.grad is None else a.grad.detach()
    parts = (kind, a.device.share(a.cached_data), requires_grad, grad)
    return _rebuild, parts, getattr(a, "__dict__", None) or None


# --- methods that are ops --------------------------------------------------------------------------------------


def _reshape(a: Tensor, *shape: Any) -> Tensor:
    return reshape(a, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)


def _broadcast_to(a: Tensor, *shape: Any) -> Tensor:
    return ops_mathematic.broadcast_to(a, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)


def _permute(a: Tensor, *axes: Any) -> Tensor:
    return permute(a, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


def _transpose(a: Tensor, *axes: Any) -> Tensor:
    """Swap two axes, given as a pair or as two numbers (none: the last two)."""
    return ops_mathematic.transpose(a, axes[0] if len(axes) == 1 else axes or None)


def _T(a: Tensor) -> Tensor:
    """All axes reversed."""
    return permute(a, range(len(a.shape))[::-1])


def _sum(a: Tensor, axes: Any = None, keepdims: bool = False, *, axis: Any = None) -> Tensor:
    return ops_mathematic.summation(a, ops_reduction.chosen(axes, axis), keepdims)


def _ndim(a: Tensor) -> int:
    return len(a.shape)


def _size(a: Tensor) -> int:
    return a.cached_data.size


def _zero_grad(a: Tensor) -> None:
    """Forget `.grad`."""
    a.grad = None


METHODS: dict[str, Any] = {
    "__add__": _add, "__radd__": _radd, "__sub__": _sub, "__rsub__": _rsub, "__mul__": _mul, "__rmul__": _rmul,
    "__truediv__": _truediv, "__rtruediv__": _rtruediv, "__pow__": _pow, "__rpow__": _rpow,
    "__matmul__": _matmul, "__rmatmul__": _rmatmul, "__neg__": ops_mathematic.negate, "__pos__": lambda a: a,
    "__iadd__": _in_place(_add), "__isub__": _in_place(_sub), "__imul__": _in_place(_mul),
    "__itruediv__": _in_place(_truediv), "__ipow__": _in_place(_pow),
    "__abs__": ops_elementwise.abs, "__lt__": ops_comparison.lt, "__le__": ops_comparison.le,
    "__gt__": ops_comparison.gt, "__ge__": ops_comparison.ge, "__eq__": _eq, "__hash__": object.__hash__,
    "__invert__": _of_booleans("~", ops_comparison.logical_not),
    "__and__": _of_booleans("&", ops_comparison.logical_and), "__or__": _of_booleans("|", ops_comparison.logical_or),
    "__getitem__": ops_indexing.getitem, "__setitem__": _setitem, "__len__": _len, "__iter__": _iter,
    "__bool__": _bool, "__float__": lambda a: float(_item(a)), "__int__": lambda a: int(_item(a)),
    "__index__": _index, "__contains__": _contains, "__repr__": _repr, "__str__": _str, "__format__": _format,
    "__array__": _array,
    "__array_ufunc__": _array_ufunc, "__array_function__": _array_function, "__dlpack__": _dlpack,
    "__dlpack_device__": _dlpack_device, "__reduce_ex__": _reduce_ex,
    "item": _item, "tolist": lambda a: a.cached_data.tolist(), "numpy": _numpy, "astype": ops_mathematic.astype,
    "reshape": _reshape, "broadcast_to": _broadcast_to, "transpose": _transpose, "permute": _permute,
    "matmul": ops_mathematic.matmul, "sum": _sum, "mean": ops_reduction.mean, "max": ops_reduction.max,
    "min": ops_reduction.min, "prod": ops_reduction.prod, "var": ops_reduction.var, "std": ops_reduction.std,
    "argmax": ops_reduction.argmax, "argmin": ops_reduction.argmin, "cumsum": ops_reduction.cumsum,
    "norm": ops_reduction.norm, "exp": ops_mathematic.exp, "log": ops_mathematic.log,
    "tanh": ops_mathematic.tanh, "relu": ops_mathematic.relu, "sqrt": ops_elementwise.sqrt,
    "abs": ops_elementwise.abs, "sigmoid": ops_elementwise.sigmoid, "clip": ops_elementwise.clip,
    "flip": ops_mathematic.flip, "squeeze": ops_shape.squeeze, "expand_dims": ops_shape.expand_dims,
    "zero_grad": _zero_grad, "to": ops_devices.to_device, "cpu": ops_devices.to_cpu, "cuda": ops_devices.to_cuda,
    "T": property(_T), "ndim": property(_ndim), "size": property(_size),
}  # fmt: skip

TUPLE_METHODS: dict[str, Any] = {
    "__getitem__": tuple_get_item,
    "__iter__": lambda value: (tuple_get_item(value, i) for i in range(len(value))),
    "tuple": lambda value: tuple(value),
    "__add__": lambda a, b: make_tuple(*[x + y for x, y in zip(a, b, strict=True)]),
    "__repr__": lambda value: f"TensorTuple{tuple(value)}",
}

for _name, _method in METHODS.items():
    setattr(Tensor, _name, _method)
for _name, _method in TUPLE_METHODS.items():
    setattr(TensorTuple, _name, _method)
