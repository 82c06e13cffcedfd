"""NDArray's operators, products and reductions, by the course's contract and by NumPy's rules beyond it."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from ndarray_check import DEVICES, ON_CPU, RNG, pair, same

import needle as ndl
from needle import backend_ndarray as nd


@pytest.fixture(params=DEVICES)
def device(request):
    with nd.debug(True):
        yield request.param


# --- arithmetic --------------------------------------------------------------------------------------------------

BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": lambda a, b: a % b,
    "//": lambda a, b: a // b,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "less": np.less,
    "logical_and": np.logical_and,
    "hypot": np.hypot,
}


@pytest.mark.parametrize("name", BINARY)
def test_binary(device, name):
    call = BINARY[name]
    values, a = pair(device, 4, 3)
    others, b = pair(device, 4, 3)
    same(call(a, b), call(values, others))
    same(call(a.permute((1, 0)), b[::-1, :].permute((1, 0))), call(values.T, others[::-1].T))
    same(call(a, b[1, :]), call(values, others[1:2]))
    same(call(a, b[:, 0]), call(values, others[:, :1]))
    for number in (2, 2.5, True, np.float64(2.5), np.int64(2)):
        plain = number.item() if isinstance(number, np.generic) else number
        same(call(a, number), call(values, plain))
        same(call(number, a), call(plain, values))


def test_methods_and_powers(device):
    values, a = np.array([0.5, 2.0, 3.0], "float32"), nd.array([0.5, 2.0, 3.0], device=device)
    same(a.maximum(1.0), np.maximum(values, 1))
    same(a.log(), np.log(values))
    same(a.exp(), np.exp(values))
    same(a.tanh(), np.tanh(values))
    same(-a, -values)
    same(abs(-a), values)
    same(a**2, values**2)
    same(2**a, 2**values)
    same(a**a, values**values)
    with np.errstate(invalid="ignore"):
        same((-a) ** 0.5, np.full(3, np.nan, "float32"))
    for name in ("log", "exp", "tanh"):
        same(getattr(nd, name)(a), getattr(np, name)(values))
    same(nd.maximum(a, 1.0), np.maximum(values, 1))


def test_comparisons_give_0_and_1_in_the_operand_s_dtype(device):
    for dtype in ("float32", "float64", "int64", "bool"):
        values = np.array([[0, 1, 2], [2, 1, 0]]).astype(dtype)
        a, b = nd.array(values, dtype=dtype, device=device), nd.array(values[::-1], dtype=dtype, device=device)
        for call in (
            lambda x, y: x == y,
            lambda x, y: x != y,
            lambda x, y: x < y,
            lambda x, y: x <= y,
            lambda x, y: x > y,
            lambda x, y: x >= y,
        ):
            same(call(a, b), call(values, values[::-1]).astype(dtype))
            same(call(a, 1), call(values, 1).astype(dtype))
        same(np.equal(a, b), np.equal(values, values[::-1]))
    assert (a == "x") is False and (a != None) is True  # noqa: E711
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("int8", "int64"), ("bool", "float32"), ("uint8", "int8")])
def test_dtypes_meet_as_numpy_has_it(device, dtypes):
    one, other = (np.array([1, 0, 1]).astype(d) for d in dtypes)
    a, b = (nd.array(x, dtype=x.dtype, device=device) for x in (one, other))
    for call in (np.add, np.multiply, np.hypot, np.less):
        same(call(a, b), call(one, other), 1e-3)
        same(call(a, 1.5), call(one, 1.5), 1e-3)
    same(b / 2, other / 2)
    same(a + np.float64(0.1), one + 0.1)


def test_whole_numbers_and_booleans(device):
    a, b = nd.array([1, 6], dtype="int64", device=device), nd.array([3, 3], dtype="int64", device=device)
    same(a & b, np.array([1, 2]))
    same(a | b, np.array([3, 7]))
    same(~np.less(a, b), np.array([False, True]))
    with pytest.raises(TypeError, match="invert"):
        ~nd.array([1.0], device=device)


def test_shapes_that_do_not_fit_are_named(device):
    with pytest.raises(ValueError, match=r"add: shapes \(2,\) and \(3,\) do not fit"):
        nd.full((2,), 1, device=device) + nd.full((3,), 1, device=device)


def test_two_devices_do_not_mix():
    a, b = nd.array([1.0], device=nd.cpu()), nd.array([1.0], device=nd.cpu_numpy())
    calls = [
        lambda: a + b,
        lambda: a == b,
        lambda: a @ b,
        lambda: np.maximum(a, b),
        lambda: np.where(np.less(a, 1), b, a),
        lambda: a.__setitem__(0, b),
        lambda: a.__iadd__(b),
        lambda: np.concatenate([a, b]),
        lambda: a.device.setitem(a, 0, b),
        lambda: a.device.getitem(a, b.astype("int64")),
        lambda: a.device.add_at(a, 0, b),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"cpu\(\).*cpu_numpy\(\)|cpu_numpy\(\).*cpu\(\)"):
            call()


def test_host_arrays_and_foreign_things_do_not_mix(device):
    a, h = nd.array([1.0, 2.0], device=device), np.ones(2, "float32")
    calls = [
        lambda: a + h,
        lambda: h + a,
        lambda: a == h,
        lambda: h @ a,
        lambda: a @ h,
        lambda: np.where(h > 0, a, a),
        lambda: np.concatenate([a, h]),
        lambda: np.add(a, h),
        lambda: a.maximum(h),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=rf"{device.name}\(\) does not mix with a numpy.ndarray.*nd.array"):
            call()
    for wrong in ([1.0, 2.0], "x", None, 1j):
        with pytest.raises(TypeError):
            a + wrong
        with pytest.raises(TypeError):
            np.add(a, np.complex64(1j) if wrong == 1j else wrong)


# --- products ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m, n, p", [(1, 2, 3), (8, 8, 8), (16, 16, 32), (72, 73, 74), (74, 73, 72), (128, 128, 128)])
def test_matmul_is_exact_to_a_hundred_thousandth(device, m, n, p):
    for _ in range(3):
        left, right = RNG.standard_normal((m, n)), RNG.standard_normal((n, p))
        a, b = nd.array(left, device=device), nd.array(right, device=device)
        exact = a.numpy().astype("float64") @ b.numpy().astype("float64")
        for got in (a @ b, a.permute((1, 0)).compact().permute((1, 0)) @ b, np.matmul(a, b)):
            assert got.dtype == "float32"
            np.testing.assert_allclose(got.numpy(), exact, rtol=1e-6, atol=1e-6)


MATMUL_SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((300, 3), (3, 2)),
]


@pytest.mark.parametrize("left, right", MATMUL_SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_matmul_of_vectors_and_stacks(device, left, right, dtype):
    values, a = pair(device, *left, dtype=dtype)
    others, b = pair(device, *right, dtype=dtype)
    same(a @ b, values @ others, 1e-5)
    same(a.copy().T @ b.T if a.ndim == b.ndim == 2 and left[0] == right[1] else a @ b, values @ others, 1e-5)


def test_matmul_of_views(device):
    values, a = pair(device, 6, 8)
    others, b = pair(device, 8, 6)
    same(a.T @ b.T, values.T @ others.T, 1e-5)
    same(a[::2, ::3] @ b[::3, ::-2], values[::2, ::3] @ others[::3, ::-2], 1e-5)
    same(a[0, :].broadcast_to((4, 8)) @ b, np.broadcast_to(values[:1], (4, 8)) @ others, 1e-5)
    same(a @ a.T, values @ values.T, 1e-5)
    same(a.astype("float64") @ b, values.astype("float64") @ others, 1e-5)
    same(a @ b.astype("float64"), values @ others.astype("float64"), 1e-5)


def test_matmul_says_what_does_not_fit(device):
    a = nd.full((2, 3), 1.0, device=device)
    with pytest.raises(ValueError, match=r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit"):
        a @ a
    with pytest.raises(ValueError, match="at least one axis"):
        a @ nd.array(1.0, device=device)
    with pytest.raises(ValueError, match="stacks"):
        nd.full((2, 2, 3), 1.0, device=device) @ nd.full((3, 3, 1), 1.0, device=device)


def test_matmul_tiled_overwrites_its_output(device):
    t = device.__tile_size__
    assert isinstance(t, int) and hasattr(device, "matmul_tiled")
    m, n, p = t, 2 * t, 3 * t
    values, a = pair(device, m // t, n // t, t, t)
    others, b = pair(device, n // t, p // t, t, t)
    out = nd.NDArray.make((m // t, p // t, t, t), device=device)
    device.matmul_tiled(a._handle, b._handle, out._handle, m, n, p)
    wanted = values.swapaxes(1, 2).reshape(m, n) @ others.swapaxes(1, 2).reshape(n, p)
    np.testing.assert_allclose(out.numpy().swapaxes(1, 2).reshape(m, p), wanted, rtol=1e-5, atol=1e-5)


# --- reductions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sum", "max", "min", "prod", "mean", "any", "all"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(device, name, keepdims):
    values, a = pair(device, 3, 4, 5)
    for axis in (None, 0, 1, 2, -1, (1,), (0, 2), (2, 1, 0), ()):
        wanted = np.asarray(getattr(np, name)(values, axis=axis, keepdims=keepdims))
        same(getattr(a, name)(axis=axis, keepdims=keepdims), wanted, 1e-5)
        same(getattr(np, name)(a, axis=axis, keepdims=keepdims), wanted, 1e-5)
        turned = np.asarray(getattr(np, name)(values.T[::-1], axis=axis, keepdims=keepdims))
        same(getattr(a.T[::-1, :, :], name)(axis=axis, keepdims=keepdims), turned, 1e-5)
    values, a = pair(device, 7)
    same(getattr(a, name)(keepdims=True), np.asarray(getattr(np, name)(values, keepdims=True)), 1e-5)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_of_extrema(device, name):
    values, a = pair(device, 3, 4, 5)
    for axis in (None, 0, -1):
        same(getattr(a, name)(axis=axis), np.asarray(getattr(np, name)(values, axis=axis)))
        same(getattr(np, name)(a.T, axis=axis), np.asarray(getattr(np, name)(values.T, axis=axis)))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float64"])
def test_reductions_of_other_dtypes(device, dtype):
    values, a = pair(device, 3, 4, dtype=dtype if dtype != "bool" else "int8")
    values, a = values.astype(dtype), a.astype(dtype)
    for name in ("sum", "max", "min", "prod", "mean"):
        with np.errstate(over="ignore"):
            same(getattr(a, name)(axis=0), getattr(values, name)(axis=0), 1e-2 if dtype == "float16" else 1e-6)
    same(a.sum(dtype="float32"), np.asarray(values.sum(dtype="float32")), 1e-2)
    same(np.sum(a, axis=0, dtype="float64"), values.sum(axis=0, dtype="float64"))


def test_sums_add_up_in_double(device):
    values = np.full((400_001, 3), 0.1, "float32")
    exact = values.astype("float64").sum(axis=0)
    a = nd.array(values, device=device)
    for total, wanted in ((a.sum(axis=0), exact), (a.T.sum(axis=1), exact), (a.sum(), exact.sum())):
        np.testing.assert_allclose(total.numpy(), wanted, rtol=1e-6)


def test_nan_wins_and_nothing_has_no_largest(device):
    a = nd.array([[1.0, math.nan], [3.0, 2.0]], device=device)
    assert math.isnan(a.max().item()) and a.max(axis=1).numpy()[1] == 3 and math.isnan(a.min(axis=0).numpy()[1])
    nothing = nd.empty((0, 3), device=device)
    same(nothing.sum(axis=0), np.zeros(3, "float32"))
    same(nothing.prod(), np.float32(1).reshape(()))
    assert math.isnan(nothing.mean().item())
    assert nd.full((100,), 6e4, "float16", device=device).mean().item() == 6e4  # the sum is beyond float16
    assert nothing.max(axis=1).shape == (0,)
    with pytest.raises(ValueError, match=r"max: shape \(0, 3\) has no elements along axis 0"):
        nothing.max(axis=0)
    for wrong in (2, -3, (0, 0)):
        with pytest.raises((IndexError, ValueError), match="sum: ax"):
            nothing.sum(axis=wrong)


# --- flip, pad and the course's functions ------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2), 1, -1, None])
def test_flip_is_a_compact_copy(device, axes):
    values, a = pair(device, 2, 3, 4)
    for got in (a.flip(axes), nd.flip(a, axes), np.flip(a, axes)):
        same(got, np.flip(values, axes))
        assert got.is_compact() and got._handle.ptr() != a._handle.ptr()


def test_pad(device):
    values, a = pair(device, 2, 3)
    same(a.pad(((1, 0), (2, 3))), np.pad(values, ((1, 0), (2, 3))))
    same(a.T.pad(((0, 0), (1, 1))), np.pad(values.T, ((0, 0), (1, 1))))
    for wrong in (((1, 1),), ((1, -1), (0, 0))):
        with pytest.raises(ValueError, match="pad: wanted 2 pairs"):
            a.pad(wrong)


def test_functions_of_the_package(device):
    values, a = pair(device, 1, 3)
    same(nd.broadcast_to(a, (2, 3)), np.broadcast_to(values, (2, 3)))
    same(nd.sum(a, axis=1, keepdims=True), values.sum(axis=1, keepdims=True))
    same(nd.sum(a), np.asarray(values.sum()))
    same(nd.reshape(a, (3, 1)), values.reshape(3, 1))
    same(nd.sqrt(abs(a)), np.sqrt(abs(values)))  # NumPy's, by the protocol
    assert nd.float32 is np.float32 and nd.errstate is np.errstate
    with pytest.raises(AttributeError):
        _ = nd.no_such_function


# --- in place ----------------------------------------------------------------------------------------------------


def over_one_memory(device, values):
    """Two NDArrays that share their memory and know nothing of each other."""
    pair = device.from_dlpack(values), device.from_dlpack(values)
    if not pair[0]._handle.array.flags.writeable:
        pytest.skip("this NumPy hands out by DLPack what may only be read")
    return pair


@pytest.mark.parametrize("host", ON_CPU)
def test_in_place_with_a_broadcast_view_of_the_same_array(host):
    start = np.arange(1, 401, dtype="float32").repeat(1000).reshape(400, 1000)  # so large that threads share it
    steps = [
        lambda a: a.__iadd__(a[0:1, :]),
        lambda a: a.__isub__(a[0, 0]),
        lambda a: np.divide(a, a[0:1, :], out=a),
        lambda a: np.add(a[399:400, :], a, out=a),
    ]
    wanted = [start + start[0], start - start[0, 0], start / start[0], start + start[399]]
    for step, right in zip(steps, wanted, strict=True):
        a = nd.array(np.tile(start, (10, 1)), device=host)
        step(a)
        assert np.array_equal(a.numpy(), np.tile(right, (10, 1)))


@pytest.mark.parametrize("host", ON_CPU)
def test_in_place_where_another_array_lies_in_the_same_memory(host):
    n = 1000
    a = np.arange(n * n, dtype="float32").reshape(n, n)
    for step, wanted in [
        (lambda x, y: x.__setitem__(..., y.T), a.T),
        (lambda x, y: x.__iadd__(y.T), a + a.T),
        (lambda x, y: np.add(x, y.T, out=x), a + a.T),
        (lambda x, y: x.__setitem__((slice(1, None), slice(None)), y[:-1, :]), np.concatenate([a[:1], a[:-1]])),
    ]:
        wanted, values = wanted.copy(), a.copy()
        step(*over_one_memory(host, values))
        assert np.array_equal(values, wanted)
    x = nd.array(a, device=host)
    x += host.from_dlpack(x).T
    assert np.array_equal(x.numpy(), a + a.T)


def test_handles_that_meet():
    memory = np.zeros(10, "float32")
    for mod in (nd.cpu(), nd.cpu_numpy()):
        whole, left, right = (mod.Array.of(m) for m in (memory, memory[:5], memory[5:]))
        assert whole.meets(whole) and whole.meets(left) and right.meets(whole) and left.meets(mod.Array.of(memory[4:]))
        assert not left.meets(right) and not whole.meets(mod.Array(10))


IN_PLACE = {
    "//=": (operator.ifloordiv, "int32"),
    "%=": (operator.imod, "int32"),
    "&=": (operator.iand, "int32"),
    "|=": (operator.ior, "int32"),
    "^=": (operator.ixor, "int32"),
    "<<=": (operator.ilshift, "int32"),
    ">>=": (operator.irshift, "int32"),
    "@=": (operator.imatmul, "float32"),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_every_in_place_operator_writes_into_the_memory(device, name):
    step, dtype = IN_PLACE[name]
    values, other = np.array([[7, 12], [9, 5]], dtype), np.array([[2, 3], [1, 2]], dtype)
    a, b = (nd.array(x, dtype=dtype, device=device) for x in (values, other))
    kept, view = a, a[0, :]
    a = step(a, b)
    assert a is kept
    same(a, step(values, other))
    assert view.numpy().tolist() == [values[0].tolist()]


def test_in_place_operators_refuse_what_numpy_refuses(device):
    a = nd.array(np.ones((2, 3)), device=device)
    with pytest.raises(ValueError, match=r"matmul: a result of shape \(2, 4\) does not fit"):
        a @= nd.array(np.ones((3, 4)), device=device)
    whole = nd.array([[1, 2], [3, 4]], dtype="int32", device=device)
    with pytest.raises(TypeError, match="matmul: a result of dtype float64 does not go into an array of dtype int32"):
        whole @= nd.array(np.ones((2, 2)), device=device)
    with pytest.raises(TypeError):
        a @= np.ones((3, 3))
    with pytest.raises(TypeError, match="floor_divide: a result of dtype float64 does not go"):
        whole //= 2.5
    assert whole.numpy().tolist() == [[1, 2], [3, 4]] and a.numpy().tolist() == [[1.0] * 3] * 2


def test_operators_with_the_number_on_the_left(device):
    values = np.array([1, 2, 5], "int32")
    a = nd.array(values, dtype="int32", device=device)
    for call in (
        lambda x: True & x,
        lambda x: 6 | x,
        lambda x: 3 ^ x,
        lambda x: 1 << x,
        lambda x: 64 >> x,
        lambda x: x << 2,
        lambda x: x >> 1,
        lambda x: divmod(x, 2)[0],
        lambda x: divmod(x, 2)[1],
        lambda x: divmod(7, x)[1],
    ):
        same(call(a), call(values))
    floats, b = np.array([0.5, 1.5, -1.25], "float32"), nd.array([0.5, 1.5, -1.25], device=device)
    same(b.round(), floats.round())
    same(b.round(1), floats.round(1))


def test_numpy_s_scalars_on_the_left_of_a_comparison(device):
    a, values = nd.array([1.0, 2.0, 3.0], device=device), np.array([1.0, 2.0, 3.0], "float32")
    for scalar in (np.float64(2), np.float32(2), np.int64(2), np.bool_(True)):
        for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
            assert compare(scalar, a).numpy().tolist() == compare(scalar, values).tolist()


def test_a_0_d_array_folds_along_axis_0_and_minus_1_as_numpy_s_does(device):
    a = nd.array(3.0, device=device)
    for axis in (0, -1):
        for name in ("sum", "max", "min", "prod", "mean"):
            assert getattr(a, name)(axis=axis).item() == 3.0 and getattr(a, name)(axis=axis, keepdims=True).shape == ()
    with pytest.raises(IndexError, match="axis 1 is out of range"):
        a.sum(axis=1)
    x = ndl.Tensor(a)
    assert ndl.softmax(x).tolist() == 1.0 and ndl.logsoftmax(x).tolist() == 0.0
