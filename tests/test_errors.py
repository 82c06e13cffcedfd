"""Bad input: for each kind of it, what the message says: who complains, what came, what was wanted, what to do."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle.backend_numpy import Device
from needle.ops.ops_indexing import ScatterAdd
from needle.ops.ops_mathematic import StepMask

ROOT = Path(__file__).resolve().parents[1]


def ops() -> dict[str, type]:
    """Every op class of needle that computes something."""

    def below(kind: type) -> Iterator[type]:
        for sub in kind.__subclasses__():
            yield sub
            yield from below(sub)

    mine = [op for op in below(ndl.Op) if op.__module__.startswith("needle.")]
    return {op.__name__: op for op in mine if op.compute is not ndl.Op.compute}


def complaint(call: Callable, *kinds: type[BaseException]) -> str:
    """The message of the error that `call` raises."""
    with pytest.raises(kinds or (ValueError, TypeError, IndexError)) as caught:
        call()
    return str(caught.value)


def says(text: str, *parts: str) -> None:
    missing = [part for part in parts if part not in text]
    assert not missing, f"{missing} not in:\n{text}"


# --- shapes that do not go together ----------------------------------------------------------------------------

# Three lines that make a tensor, so that a message can be held to naming the right ones.


def left(shape: tuple[int, ...]) -> ndl.Tensor:
    return ndl.Tensor(np.ones(shape))


def middle(shape: tuple[int, ...]) -> ndl.Tensor:
    return ndl.Tensor(np.ones(shape))


def right(shape: tuple[int, ...]) -> ndl.Tensor:
    return ndl.Tensor(np.ones(shape))


def line_in(maker: Callable) -> str:
    return f"test_errors.py:{maker.__code__.co_firstlineno + 1}: return ndl.Tensor(np.ones(shape))"


class Clash(NamedTuple):
    op: str
    call: Callable
    shapes: tuple[tuple[int, ...], ...]


TWO = ((4, 3), (4,))
CLASHES = [
    Clash("EWiseAdd", lambda a, b: a + b, TWO),
    Clash("EWiseMul", lambda a, b: a * b, TWO),
    Clash("EWiseDiv", lambda a, b: a / b, TWO),
    Clash("EWisePow", lambda a, b: a**b, TWO),
    Clash("PowerBaseSlope", lambda a, b: ndl.ops.ops_mathematic.PowerBaseSlope()(a, b), TWO),
    Clash("StepMask", lambda a, b: StepMask()(a, b), TWO),
    Clash("Equal", ndl.eq, TWO),
    Clash("NotEqual", ndl.ne, TWO),
    Clash("Less", lambda a, b: a < b, TWO),
    Clash("LessEqual", lambda a, b: a <= b, TWO),
    Clash("Greater", lambda a, b: a > b, TWO),
    Clash("GreaterEqual", lambda a, b: a >= b, TWO),
    Clash("LogicalAnd", ndl.logical_and, TWO),
    Clash("LogicalOr", ndl.logical_or, TWO),
    Clash("Maximum", ndl.maximum, TWO),
    Clash("Minimum", ndl.minimum, TWO),
    Clash("Where", ndl.where, ((4, 3), (4, 3), (4,))),
    Clash("MatMul", lambda a, b: a @ b, ((4, 3), (4, 5))),
    Clash("Einsum", lambda a, b: ndl.einsum("ij,jk->ik", a, b), ((4, 3), (4, 5))),
    Clash("Stack", lambda a, b: ndl.stack([a, b]), TWO),
    Clash("Concatenate", lambda a, b, c: ndl.concatenate([a, b, c]), ((4, 3), (4, 2), (1, 3))),
    Clash("SoftmaxCrossEntropy", ndl.softmax_cross_entropy, ((4, 3), (3,))),
    Clash("BatchNormalize", ndl.batch_normalize, ((4, 3), (4,), (3,))),
    Clash("LayerNormalize", ndl.layer_normalize, ((4, 3), (3,), (4,))),
    Clash("BroadcastTo", lambda a: a.broadcast_to((3, 4)), ((4, 3),)),
    Clash("Reshape", lambda a: a.reshape((5, 2)), ((4, 3),)),
    Clash("GetItem", lambda a: a[np.array([True, False])], ((4, 3),)),
    Clash("ScatterAdd", lambda a: ScatterAdd(slice(0, 2), (5, 3))(a), ((4, 3),)),
    Clash("Pad", lambda a: ndl.pad(a, ((1, 1),)), ((4, 3),)),
    Clash("Transpose", lambda a: a.transpose(), ((4,),)),
    Clash("Permute", lambda a: a.permute((0,)), ((4, 3),)),
    Clash("Roll", lambda a: ndl.roll(a, (1, 2, 3), (0, 1)), ((4, 3),)),
    Clash("Split", lambda a: ndl.split(a), ((),)),
]

# These take any shape: of one argument each element goes its own way, or all axes are alike.
TAKE_ANY_SHAPE = set(
    "Abs AddScalar Alias AsType Clip Cos DivScalar Erf Exp Expm1 FusedAddScalars IsFinite IsInf IsNaN Log Log1p "
    "LogOrZero LogicalNot MulScalar Negate PowerScalar ReLU Rsqrt Sigmoid Sign Sin Softplus Sqrt Tanh "
    "ArgMax ArgMin ArgSort CumSum Flip LogSoftmax LogSumExp Max Min Norm Summation OneHot MakeTensorTuple "
    "ToDevice TupleGetItem".split()
)
RUN_A_FUNCTION_OF_THE_USER = {"Checkpoint", "CustomGradient"}


def test_every_op_that_can_meet_wrong_shapes_has_a_row():
    named = {clash.op for clash in CLASHES} | TAKE_ANY_SHAPE | RUN_A_FUNCTION_OF_THE_USER
    assert named == set(ops()), "a new op goes into CLASHES, or into TAKE_ANY_SHAPE"


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: clash.op)
def test_a_shape_mismatch_names_op_and_shapes(clash):
    text = complaint(lambda: clash.call(*[left(shape) for shape in clash.shapes]))
    assert text.startswith(f"{clash.op}: ")
    says(text, *[f"{shape} float64" for shape in clash.shapes])
    assert "made at" not in text


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: clash.op)
def test_a_shape_mismatch_names_the_lines_where_the_operands_were_made(clash):
    makers = (left, middle, right)[: len(clash.shapes)]
    with ndl.record_sites():
        operands = [maker(shape) for maker, shape in zip(makers, clash.shapes, strict=True)]
        text = complaint(lambda: clash.call(*operands))
    says(text, *[line_in(maker) for maker in makers])
    assert text.index(line_in(makers[0])) <= text.index(line_in(makers[-1]))


COMPOSED = [
    ("tensordot", lambda a, b: ndl.tensordot(a, b, 1), ((4, 3), (4, 5))),
    ("einsum", lambda a, b: ndl.einsum("ijk,k->i", a, b), ((4, 3), (4,))),
    ("matmul", lambda a, b: a @ b, ((4, 3), ())),
    ("gather", lambda a: ndl.gather(a, np.array([1]), 1), ((4, 3),)),
]


@pytest.mark.parametrize("name, call, shapes", COMPOSED, ids=lambda x: x if isinstance(x, str) else "")
def test_functions_made_of_ops_say_the_same(name, call, shapes):
    with ndl.record_sites():
        operands = [maker(shape) for maker, shape in zip((left, right), shapes, strict=False)]
        text = complaint(lambda: call(*operands))
    assert text.startswith(f"{name}: ")
    says(text, str(shapes[0]), *[line_in(maker) for maker in (left, right)[: len(shapes)]])


def test_a_broadcasting_error_says_which_axis_and_guesses_the_cure():
    text = complaint(lambda: left((4, 3)) + left((4,)))
    says(text, "axis -1: 3 in argument 0 against 4 in argument 1", "did you mean argument 1 as (4, 1)?")
    text = complaint(lambda: left((5,)) * left((5, 2, 7)))
    says(text, "axis -1: 5 in argument 0 against 7 in argument 1", "did you mean argument 0 as (5, 1, 1)?")
    assert "did you mean" not in complaint(lambda: left((4, 3)) + left((4, 2)))
    assert "did you mean" not in complaint(lambda: left((4, 3)) + left((2,)))


def test_a_matrix_product_guesses_the_transpose():
    text = complaint(lambda: left((64, 784)) @ left((100, 784)))
    says(text, "the last axis of the left (784)", "of the right (100)", "did you mean b.T?")
    says(complaint(lambda: left((3, 4)) @ left((3, 5))), "did you mean a.T?")
    assert "did you mean" not in complaint(lambda: left((3, 4)) @ left((5, 6)))


def test_the_line_of_an_operand_shows_which_part_of_it():
    with ndl.record_sites():
        x, w = left((4, 3)), left((3, 2))
        hidden = ndl.exp(x @ w)
        text = complaint(lambda: hidden @ left((5, 2)))
        nested = complaint(lambda: ndl.exp(x @ w) @ left((5, 2)))
    says(text, "hidden = ndl.exp(x @ w)\n")
    if sys.version_info >= (3, 11):
        says(nested, "(in it: ndl.exp(x @ w))")


# --- axes ------------------------------------------------------------------------------------------------------


class Along(NamedTuple):
    name: str
    call: Callable
    dims: int = 2  # how many axes there are to choose from
    list_of_axes: bool = True


def pair(a: ndl.Tensor) -> list[ndl.Tensor]:
    return [a, a]


ALONG = [
    Along("Summation", lambda a, axis: ndl.summation(a, axis)),
    Along("Max", lambda a, axis: ndl.max(a, axis)),
    Along("Min", lambda a, axis: ndl.min(a, axis)),
    Along("Norm", lambda a, axis: ndl.norm(a, axis)),
    Along("LogSumExp", lambda a, axis: ndl.logsumexp(a, axis)),
    Along("LogSoftmax", lambda a, axis: ndl.softmax(a, axis)),
    Along("Flip", lambda a, axis: ndl.flip(a, axis)),
    Along("ArgMax", lambda a, axis: ndl.argmax(a, axis), list_of_axes=False),
    Along("ArgMin", lambda a, axis: ndl.argmin(a, axis), list_of_axes=False),
    Along("ArgSort", lambda a, axis: ndl.sort(a, axis), list_of_axes=False),
    Along("CumSum", lambda a, axis: ndl.cumsum(a, axis), list_of_axes=False),
    Along("Stack", lambda a, axis: ndl.stack(pair(a), axis), dims=3, list_of_axes=False),
    Along("Concatenate", lambda a, axis: ndl.concatenate(pair(a), axis), list_of_axes=False),
    Along("Split", lambda a, axis: ndl.split(a, axis)),
    Along("Transpose", lambda a, axis: ndl.transpose(a, (0, axis))),
    Along("Permute", lambda a, axis: ndl.permute(a, (axis, 0))),
    Along("Roll", lambda a, axis: ndl.roll(a, 1, axis), list_of_axes=False),
    Along("mean", lambda a, axis: ndl.mean(a, axis)),
    Along("var", lambda a, axis: ndl.var(a, axis)),
    Along("std", lambda a, axis: ndl.std(a, axis)),
    Along("prod", lambda a, axis: ndl.prod(a, axis)),
    Along("expand_dims", lambda a, axis: ndl.expand_dims(a, axis), dims=3),
    Along("squeeze", lambda a, axis: ndl.squeeze(a, axis)),
    Along("repeat", lambda a, axis: ndl.repeat(a, 2, axis)),
    Along("take", lambda a, axis: ndl.take(a, [0], axis)),
    Along("gather", lambda a, axis: ndl.gather(a, np.zeros((1, 1), int), axis)),
    Along("topk", lambda a, axis: ndl.topk(a, 1, axis)),
    Along("tensordot", lambda a, axis: ndl.tensordot(a, a, ((axis,), (0,)))),
]


def test_every_op_with_axes_has_a_row():
    def has_axes(op: type) -> bool:
        return bool({"axis", "axes"} & set(inspect.signature(op).parameters))

    assert {name for name, op in ops().items() if has_axes(op)} == {row.name for row in ALONG} & set(ops())


@pytest.mark.parametrize("along", ALONG, ids=lambda along: along.name)
def test_a_wrong_axis_is_named_with_the_op(along):
    for axis in (along.dims, -along.dims - 1):
        text = complaint(lambda axis=axis: along.call(left((4, 4)), axis), IndexError)
        assert re.match(rf"{along.name}: axis {axis} is out of (range|bounds) for .*{along.dims}", text), text
    text = complaint(lambda: along.call(left((4, 4)), "rows"), TypeError)
    assert text.startswith(f"{along.name}: ") and "rows" in text, text


@pytest.mark.parametrize("along", [row for row in ALONG if row.list_of_axes], ids=lambda along: along.name)
def test_an_axis_named_twice_is_refused(along):
    text = complaint(lambda: along.call(left((4, 4)), (0, 0)))
    assert text.startswith(f"{along.name}: "), text


def test_axis_and_axes_at_once():
    says(complaint(lambda: left((2, 2)).sum(axes=0, axis=1), TypeError), "axes or axis, not both")


# --- labels ----------------------------------------------------------------------------------------------------

LABELS = [
    (np.array([0, 3]), IndexError, "label 3 is out of range for 3 classes (0 to 2)"),
    (np.array([-1, 0]), IndexError, "label -1 is out of range for 3 classes"),
    (np.array([0.0, 0.5]), ValueError, "labels must be whole numbers, got 0.5"),
    (np.array([np.nan, 0.0]), ValueError, "labels must be whole numbers, got nan"),
    (np.array([np.inf, 0.0]), IndexError, "label inf is out of range for 3 classes"),
    (np.array([True, False]), TypeError, "labels must be integers, got dtype bool"),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("labels, kind, sentence", LABELS, ids=lambda x: str(x) if isinstance(x, np.ndarray) else "")
def test_bad_labels(labels, kind, sentence, dtype):
    logits = left((2, 3)).astype(dtype)
    text = complaint(lambda: ndl.softmax_cross_entropy(logits, labels), kind)
    says(text, "SoftmaxCrossEntropy: ", sentence, f"got (2, 3) {dtype}, (2,) {labels.dtype}")
    says(complaint(lambda: ndl.one_hot(labels, 3), kind), "OneHot: ", sentence)


def test_labels_of_the_wrong_shape():
    text = complaint(lambda: ndl.softmax_cross_entropy(left((2, 3)), np.array([0, 1, 2])), ValueError)
    says(text, "labels of shape (3,) do not go with logits of shape (2, 3); wanted (2,)")
    text = complaint(lambda: ndl.softmax_cross_entropy(left((2, 3)), np.eye(3)[[0, 1]]), ValueError)
    says(text, "labels of shape (2, 3)", "wanted (2,)")
    text = complaint(lambda: ndl.softmax_cross_entropy(left((2, 3)), [0, 1]), TypeError)
    says(text, "softmax_cross_entropy: ", "got list", "ndl.Tensor(...)")
    says(complaint(lambda: ndl.softmax_cross_entropy(np.ones((2, 3)), np.array([0, 1])), TypeError), "of type ndarray")


def test_numbers_of_classes_and_reductions():
    says(complaint(lambda: ndl.one_hot(np.array([0]), -3), ValueError), "one_hot: num_classes must not be negative")
    says(complaint(lambda: ndl.one_hot(np.array([0]), 2.5), TypeError), "num_classes must be a whole number, got 2.5")
    text = complaint(lambda: ndl.init.one_hot(3, ndl.Tensor(np.array([3]))), IndexError)
    says(text, "one_hot", "3", "0 to 2")
    text = complaint(lambda: ndl.softmax_cross_entropy(left((2, 3)), np.array([0, 1]), "max"), ValueError)
    says(text, "reduction must be 'mean', 'sum' or 'none', got 'max'")


# --- backward --------------------------------------------------------------------------------------------------


def test_a_seed_of_the_wrong_shape():
    text = complaint(lambda: (left((4, 3)) * 2).backward(right((3,))), ValueError)
    says(text, "backward: out_grad has shape (3,), wanted (4, 3), the shape of the tensor")
    says(complaint(lambda: (left((4, 3)) * 2).backward("ones")), "str")


def test_backward_from_a_constant():
    text = complaint(lambda: ndl.Tensor([1.0], requires_grad=False).backward(), RuntimeError)
    says(text, "backward: ", "requires_grad=False", "no_grad()", "detach()")


def test_a_tensor_written_to_between_forward_and_backward():
    x = left((3,))
    y = x * x
    x.data = right((3,))
    text = complaint(y.backward, RuntimeError)
    says(text, "backward: argument 0 of EWiseMul ((3,) float64) was written to", "run the forward pass again")


def test_a_tangent_of_the_wrong_shape():
    text = complaint(lambda: ndl.jvp(ndl.exp, [np.ones(3)], [np.ones(2)]), ValueError)
    says(text, "jvp: ", "(2,)", "wanted (3,)")


def test_grad_of_a_function_with_many_results():
    says(complaint(lambda: ndl.grad(ndl.exp)(np.ones(3)), ValueError), "grad: ", "(3,)", "use jacobian or vjp")


# --- devices and dtypes ----------------------------------------------------------------------------------------


class ElsewhereDevice(Device):
    """A stand-in for a GPU."""


class FarArray:
    """An array elsewhere: NumPy can do nothing with it."""

    device, shape, dtype, ndim, size = ElsewhereDevice(), (3, 3), np.dtype("float64"), 2, 9
    __array_ufunc__ = None

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"{function.__name__} of an array on another device")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit copy to the CPU")


MIXED = [
    ("EWiseAdd", lambda a, b: a + b),
    ("EWiseMul", lambda a, b: b * a),
    ("EWiseDiv", lambda a, b: a / b),
    ("EWisePow", lambda a, b: a**b),
    ("MatMul", lambda a, b: a @ b),
    ("Equal", ndl.eq),
    ("Maximum", ndl.maximum),
    ("Where", lambda a, b: ndl.where(a, a, b)),
    ("Stack", lambda a, b: ndl.stack([a, b])),
    ("Concatenate", lambda a, b: ndl.concatenate([a, b])),
    ("Einsum", lambda a, b: ndl.einsum("ij,jk->ik", a, b)),
]


@pytest.mark.parametrize("op, call", MIXED, ids=lambda x: x if isinstance(x, str) else "")
def test_mixed_devices(op, call):
    text = complaint(lambda: call(left((3, 3)), ndl.Tensor.make_const(FarArray())), ValueError)
    assert text.startswith(f"{op}: arguments are on different devices, "), text
    says(text, "needle.cpu()", "needle.elsewhere()", "move them to one device", "x.to(device)")


def test_a_device_that_is_none():
    says(complaint(lambda: ndl.Tensor([1.0], device="cuda"), TypeError), "Tensor: device must be", "'cuda'")


def test_a_float32_that_met_a_float64_is_named_with_its_line():
    x, w = ndl.Tensor(np.ones((4, 3)), dtype="float32"), left((3,))
    with ndl.detect_promotion():
        text = complaint(lambda: (x * 2) * w, ndl.PromotionError)
    line = test_a_float32_that_met_a_float64_is_named_with_its_line.__code__.co_firstlineno + 3
    place = f"test_errors.py:{line}"
    assert re.match(rf"EWiseMul: float32 \(4, 3\) met float64 \(3,\) at .*{place} -> float64\n", text), text
    says(text, "to stay in float32", "astype('float32')")


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex128", "nonsense", str, object, 3, [1]], ids=str)
def test_a_default_dtype_that_is_no_float(dtype):
    text = complaint(lambda: ndl.set_default_dtype(dtype), TypeError)
    says(text, "set_default_dtype: wanted a float dtype such as 'float32', or None, got ", repr(dtype))
    assert ndl.get_default_dtype() is None


@pytest.mark.parametrize("dtype", ["nonsense", str, object, complex], ids=str)
def test_a_dtype_that_holds_no_real_numbers(dtype):
    text = complaint(lambda: left((3,)).astype(dtype), TypeError)
    says(text, "AsType: wanted a dtype of real numbers or booleans, got ", repr(dtype))
    says(complaint(lambda: ndl.Tensor([1.0], dtype=dtype), TypeError), "Tensor: ")


# --- NaN, and arrays changed behind the graph's back (more in test_debug.py) -------------------------------------


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_nan_of_the_forward_pass():
    x = ndl.Tensor([0.0, 1.0])
    with ndl.detect_anomaly():
        loss = (ndl.log(x) * x).sum()
        text = complaint(loss.backward, ArithmeticError)
    says(text, "is NaN", "First made in the forward pass, by Log", "loss = (ndl.log(x) * x).sum()")
    says(text, "argument 0: (2,) float64 from 0 to 1, 1 zero", "which became NaN in EWiseMul", "log of 0 is −∞")


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_nan_of_the_backward_pass():
    x = ndl.Tensor([0.0, 4.0])
    with ndl.detect_anomaly():
        y = ndl.where(x > 1, ndl.sqrt(x), 0)
        text = complaint(y.sum().backward, ArithmeticError)
    says(text, "the output is finite, but a gradient is NaN", "by the rule of Sqrt for argument 0", "ndl.sqrt(x)")
    says(text, "the `where` at", "0·∞ is NaN", "ndl.where(mask, f(ndl.where(mask, x, 1)), 0)")


def test_an_array_changed_behind_the_graphs_back():
    x, w = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])
    with ndl.detect_anomaly():
        loss = (x * w).sum()
        w.cached_data[0] = 7.0
        text = complaint(loss.backward, RuntimeError)
    says(text, "argument 1 of EWiseMul at ", "(2,) float64, was changed after the forward pass used it")


# --- making tensors --------------------------------------------------------------------------------------------

NO_NUMBERS = [
    ("abc", TypeError, "got str that NumPy reads as dtype <U3"),
    (["a"], TypeError, "got list that NumPy reads as dtype <U1"),
    ([1, "a"], TypeError, "wanted numbers or booleans in a regular shape"),
    (None, TypeError, "got NoneType"),
    ({}, TypeError, "got dict"),
    ({1, 2}, TypeError, "got set"),
    (object(), TypeError, "dtype object"),
    (1j, TypeError, "dtype complex128"),
    (np.array([1j]), TypeError, "dtype complex128"),
    (np.array([1, "a"], dtype=object), TypeError, "dtype object"),
    (10**30, TypeError, "dtype object"),
    ([[1, 2], [3]], ValueError, "rows of this list differ in length"),
    ([np.ones(2), np.ones(3)], ValueError, "rows of this list differ in length"),
]


@pytest.mark.parametrize("value, kind, sentence", NO_NUMBERS, ids=lambda x: type(x).__name__)
def test_a_tensor_of_what_holds_no_numbers(value, kind, sentence):
    says(complaint(lambda: ndl.Tensor(value), kind), "Tensor: ", sentence)


def test_a_tensor_of_tensors():
    x = left((2,))
    for nested in ([x, x], (x,), [[x], [x]]):
        text = complaint(lambda nested=nested: ndl.Tensor(nested), TypeError)
        says(text, "list of tensors", "gradients would be lost", "ndl.stack")


def test_a_number_too_large_for_the_dtype():
    says(complaint(lambda: ndl.Tensor([10**30], dtype="int32"), OverflowError), "Tensor: cannot make an array")


def test_shapes_of_new_tensors():
    says(complaint(lambda: ndl.zeros((2, 3)), TypeError), "as in zeros(2, 3)", "got ((2, 3),)")
    says(complaint(lambda: ndl.rand(2.5), TypeError), "separate whole numbers", "2.5")
    says(complaint(lambda: ndl.randn(-1), ValueError), "no negative numbers", "-1")


# --- operands and arguments ------------------------------------------------------------------------------------

STRANGERS = ["a", None, [1.0], (1.0,), {}, object(), 1j]


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda x: type(x).__name__)
def test_an_operator_beside_a_stranger(stranger):
    t, name = left((2, 2)), type(stranger).__name__
    for sign, call in {
        "+": lambda: t + stranger,
        "-": lambda: stranger - t,
        "*": lambda: stranger * t,
        "/": lambda: t / stranger,
        "**": lambda: t**stranger,
        "@": lambda: t @ stranger,
        "lt": lambda: t < stranger,
        "maximum": lambda: ndl.maximum(t, stranger),
        "where": lambda: ndl.where(t, t, stranger),
    }.items():
        text = complaint(call, TypeError)
        assert text.startswith(f"{sign}: wanted a Tensor"), text
        says(text, f"got {name}")


def test_a_matrix_product_with_a_number():
    text = complaint(lambda: left((2, 2)) @ 3, TypeError)
    says(text, "@: wanted a Tensor or an array beside a Tensor, got int")


RAW = [
    ("Exp", lambda a: ndl.exp(a)),
    ("Summation", lambda a: ndl.summation(a)),
    ("Reshape", lambda a: ndl.reshape(a, (4,))),
    ("LogSoftmax", lambda a: ndl.softmax(a)),
    ("EWiseAdd", lambda a: ndl.add(left((2, 2)), a)),
    ("MakeTensorTuple", lambda a: ndl.stack([a, a])),
    ("matmul", lambda a: ndl.matmul(a, a)),
    ("einsum", lambda a: ndl.einsum("ij->i", a)),
    ("softmax_cross_entropy", lambda a: ndl.softmax_cross_entropy(a, np.array([0, 1]))),
]


@pytest.mark.parametrize("name, call", RAW, ids=lambda x: x if isinstance(x, str) else "")
def test_ops_called_on_raw_arrays(name, call):
    text = complaint(lambda: call(np.ones((2, 2))), TypeError)
    assert re.match(rf"{name}: argument \d is of type ndarray, wanted a Tensor; wrap it", text), text
    assert re.match(r"\w+: ", complaint(lambda: call(None), TypeError, AttributeError))


def test_comparing_without_a_tensor():
    says(complaint(lambda: ndl.eq(1, 2), TypeError), "eq: wanted at least one Tensor, got int and int")
    says(complaint(lambda: ndl.maximum(np.ones(2), 2), TypeError), "maximum: wanted at least one Tensor, got ndarray")


def test_a_scalar_op_given_something_else():
    says(complaint(lambda: ndl.add_scalar(left((2,)), b"x"), TypeError), "AddScalar: scalar", "got bytes")
    says(complaint(lambda: ndl.mul_scalar(left((2,)), left((2,))), TypeError), "MulScalar: scalar", "elementwise")
    says(complaint(lambda: ndl.power_scalar(left((2,)), None), TypeError), "PowerScalar: scalar", "NoneType")
    says(complaint(lambda: left((2,)) * np.complex64(1j), TypeError), "MulScalar: scalar", "complex64")


def test_numpy_functions_without_an_op():
    x = left((2, 2))
    for name, call in {
        "numpy.arctan": lambda: np.arctan(x),
        "numpy.mean": lambda: np.mean(x),
        "numpy.concatenate": lambda: np.concatenate([x, x]),
        "numpy.add.reduce": lambda: np.add.reduce(x),
        "numpy.exp with out=": lambda: np.exp(x, out=np.ones((2, 2))),
    }.items():
        text = complaint(call, TypeError)
        says(text, f"{name} cannot record a Tensor's gradient", "tensor.numpy()")


def test_subscripts_in_the_wrong_place():
    says(complaint(lambda: ndl.einsum(left((2, 2)), "ij->i"), TypeError), "einsum: subscripts come first", "got Tensor")
    says(complaint(lambda: ndl.einsum("ij,jk->ik", left((2, 2))), ValueError), "names 2 operands, got 1")
    says(complaint(lambda: ndl.einsum("ij->k", left((2, 2))), ValueError), "Einsum: ", "'k'", "(2, 2) float64")


# --- indices and counts ----------------------------------------------------------------------------------------


def test_an_index_out_of_bounds():
    x = left((2, 3))
    says(complaint(lambda: x[5], IndexError), "GetItem: index 5 is out of bounds", "got (2, 3) float64 with index=5")
    says(complaint(lambda: x[0, 0, 0], IndexError), "GetItem: too many indices", "(2, 3)")
    says(complaint(lambda: x[np.array([0, 7])], IndexError), "GetItem: index 7 is out of bounds")
    says(complaint(lambda: x["a"], IndexError), "GetItem: only integers", "with index='a'")
    says(complaint(lambda: ndl.take(x, [5]), IndexError), "index 5 is out of bounds for axis 0 with size 2")
    says(complaint(lambda: ndl.take(x, [0.5]), TypeError), "take: indices must be integers, got dtype float64")
    says(complaint(lambda: ndl.gather(x, np.array([[0.5]]), 1), TypeError), "gather: index must be integers")


def test_assigning_to_a_place_that_is_not_there():
    x = ndl.Tensor(np.ones(3), requires_grad=False)
    for index, value in ((7, 1.0), (0, np.ones(4)), (0, "a")):
        text = complaint(lambda index=index, value=value: x.__setitem__(index, value))
        says(text, "item assignment to a Tensor of shape (3,): ")
    text = complaint(lambda: left((3,)).__setitem__(0, 1.0), RuntimeError)
    says(text, "item assignment: this tensor requires a gradient", "ndl.where", "no_grad()")


@pytest.mark.parametrize("k, kind, sentence", [
    (-1, ValueError, "k must not be negative, got -1"), (4, ValueError, "k=4 must be between 0 and 3"),
    (1.5, TypeError, "k must be a whole number, got 1.5"), (None, TypeError, "k must be a whole number, got None"),
])  # fmt: skip
def test_a_topk_of_more_than_there_is(k, kind, sentence):
    says(complaint(lambda: ndl.topk(left((2, 3)), k), kind), f"topk: {sentence}")


def test_counts_that_are_none():
    says(complaint(lambda: ndl.repeat(left((2,)), -1, 0), ValueError), "repeat: repeats must not be negative")
    says(complaint(lambda: ndl.tile(left((2,)), 1.5), TypeError), "tile: reps must be a whole number, got 1.5")
    says(complaint(lambda: ndl.roll(left((2,)), 1.5, 0), TypeError), "Roll: shift must be whole numbers, got 1.5")
    says(complaint(lambda: ndl.pad(left((2,)), 1), TypeError), "Pad: pad_width must be a (before, after) pair")
    says(complaint(lambda: ndl.pad(left((2,)), ((-1, 0),)), ValueError), "Pad: ", "negative")
    says(complaint(lambda: ndl.squeeze(left((2, 1)), 0), ValueError), "squeeze: axis 0 of shape (2, 1) has length 2")
    says(complaint(lambda: ndl.clip(left((2,)), 2, 1), ValueError), "Clip: low 2 is above high 1")
    says(complaint(lambda: ndl.clip(left((2,)), "a"), TypeError), "Clip: ", "str")


@pytest.mark.parametrize("name, call", [
    ("Max", ndl.max), ("Min", ndl.min), ("ArgMax", ndl.argmax), ("ArgMin", ndl.argmin),
    ("LogSumExp", ndl.logsumexp), ("LogSoftmax", lambda a: ndl.softmax(a, 0)),
], ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_the_largest_of_nothing(name, call):
    text = complaint(lambda: call(left((0, 3))), ValueError)
    says(text, f"{name}: ", "(0, 3) float64")


def test_the_spread_of_too_few():
    says(complaint(lambda: ndl.var(left((0, 3))), ValueError), "var: 0 element(s) a group")
    says(complaint(lambda: ndl.std(left((2, 3)), 0, ddof=2), ValueError), "std: 2 element(s) a group and ddof=2")


def test_one_number_wanted_of_many():
    x = left((2, 3))
    says(complaint(x.item, ValueError), "item: wanted a Tensor with one element, got shape (2, 3)")
    says(complaint(lambda: bool(x), ValueError), "the truth of a Tensor of shape (2, 3) is ambiguous")
    says(complaint(lambda: range(x), TypeError), "one-element integer Tensor", "(2, 3) float64")
    says(complaint(lambda: len(left(())), TypeError), "0-d Tensor")


# --- optimizers ------------------------------------------------------------------------------------------------


def test_parameters_that_are_none():
    says(complaint(lambda: ndl.SGD([np.ones(3)]), TypeError), "SGD: parameter 0 is a ndarray, wanted a leaf Tensor")
    text = complaint(lambda: ndl.SGD([left((3,)), left((3,)) * 2]), TypeError)
    says(text, "SGD: parameter 1 is the result of an op, wanted a leaf Tensor")
    says(complaint(lambda: ndl.SGD(left((3,))), TypeError), "SGD: wanted the parameters in a list", "got Tensor")
    says(complaint(lambda: ndl.SGD(None), TypeError), "SGD: wanted the parameters in a list", "got NoneType")


def test_rates_that_are_none():
    says(complaint(lambda: ndl.SGD([left((3,))], lr=-1), ValueError), "SGD: lr must be >= 0, got -1")
    says(complaint(lambda: ndl.SGD([left((3,))], lr=float("nan")), ValueError), "SGD: lr must be >= 0, got nan")
    says(complaint(lambda: ndl.SGD([left((3,))], momentum=1), ValueError), "SGD: momentum must be in [0, 1), got 1")


# --- the environment -------------------------------------------------------------------------------------------


def test_an_unknown_backend():
    env = os.environ | {"NEEDLE_BACKEND": "abacus", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", "import needle"], env=env, capture_output=True, text=True)
    assert run.returncode == 1
    says(run.stderr.splitlines()[-1], "NEEDLE_BACKEND='abacus' is not a backend of needle", "known: 'np'")
