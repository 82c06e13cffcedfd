"""The elementary functions of compiled kernels, against NumPy in a wider dtype."""

import numpy as np
import pytest

from needle.compiler.kernels_numba import names
from needle.kernels import vector_math
from needle.kernels.loader import FASTMATH, OPTIONS
from needle.optional import have

FUNCTIONS = {"exp": np.exp, "expm1_": np.expm1, "log": np.log, "log1p_": np.log1p, "tanh": np.tanh}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, 1e-45, -1e-45, 1e-310, 1e-40, 88.72284, 88.7229]
SPECIAL += [-87.4, -103.9, -104.1, 709.78, 709.79, -708.5, -745.1, -745.2, 0.55, 2.0**-126, 2.0**-1022, 3e38, 1e308]


def numbers(dtype, count):
    """Special ones, all magnitudes alike (random bits), and those where functions bend."""
    rng = np.random.default_rng(0)
    bits = {"float32": np.int32, "float64": np.int64}[dtype]
    limits = np.iinfo(bits)
    every = rng.integers(limits.min, limits.max, count, dtype=bits).view(dtype)
    reach = 100 if dtype == "float32" else 750
    parts = [rng.uniform(-reach, reach, count), rng.uniform(-3, 3, count), rng.uniform(0.5, 2, count)]
    with np.errstate(over="ignore"):
        return np.concatenate([np.array(SPECIAL).astype(dtype), every, *(part.astype(dtype) for part in parts)])


def distance(values, exact):
    """In units in the last place; ∞ where a NaN or an infinity is not one."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(values.dtype)
        finite = np.isfinite(rounded) & np.isfinite(values)
        same = (rounded == values) | (np.isnan(rounded) & np.isnan(values))
        steps = np.abs(values.astype(exact.dtype) - exact) / np.spacing(np.abs(rounded)).astype(exact.dtype)
    return np.where(finite, steps, np.where(same, 0, np.inf))


def exact(name, x):
    wider = {"float32": "float64", "float64": "longdouble"}[x.dtype.name]
    with np.errstate(all="ignore"):
        return FUNCTIONS[name](x.astype(wider))


def checked(name, x, values):
    apart = distance(values, exact(name, x))
    worst = apart.argmax()
    assert apart[worst] <= 2, f"{name}({x[worst]!r}) = {values[worst]!r} is {apart[worst]:.2f} units off"
    zeros = (x == 0) & (values == 0)
    assert np.array_equal(np.signbit(values[zeros]), np.signbit(exact(name, x[zeros])))


wide_enough = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wider float to compare float64 with")
DTYPES = ["float32", pytest.param("float64", marks=wide_enough)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_by_python_alone(name, dtype):
    function, x = getattr(vector_math, name + dtype[-2:]), numbers(dtype, 200)
    with np.errstate(all="ignore"):
        checked(name, x, np.array([function(number) for number in x], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled(name, dtype):
    x = numbers(dtype, 100_000)
    values = np.empty_like(x)
    loop_of(name + dtype[-2:])(x, values)
    checked(name, x, values)


@pytest.mark.parametrize("name", ["exp32", "tanh64"])
def test_several_numbers_at_a_time(name):
    """A loop with a call of a function of the C library in it would take one."""
    x = numbers("float" + name[-2:], 1000)
    loop = loop_of(name)
    loop(x, x.copy())
    text = loop.inspect_llvm(loop.signatures[0])
    assert "<4 x float>" in text or "<8 x float>" in text or "<4 x double>" in text or "<2 x double>" in text


def loop_of(name):
    numba = pytest.importorskip("numba")
    function = names()[name]

    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return numba.njit(fastmath=FASTMATH, **OPTIONS)(loop)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copysign(dtype):
    function = getattr(vector_math, "copysign" + dtype[-2:])
    values = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan], dtype)
    for a in values:
        for b in values:
            result = function(a, b)
            assert result.dtype == dtype and np.array_equal(result, np.copysign(a, b), equal_nan=True)
            assert np.signbit(result) == np.signbit(b)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("compiled", [False, True] if have("numba") else [False])
def test_extrema_pass_nan_on(name, compiled):
    values = np.array([0.0, 1.5, -2.5, np.inf, -np.inf, np.nan], "float32")
    a, b = (part.ravel() for part in np.meshgrid(values, values))
    function = getattr(vector_math, name)
    if compiled:
        result = extrema_loop(name)(a, b)
    else:
        result = np.array([function(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(result, getattr(np, name)(a, b))


def extrema_loop(name):
    numba = pytest.importorskip("numba")
    function = names()[name]

    def loop(a, b):
        out = np.empty_like(a)
        for i in range(a.size):
            out[i] = function(a[i], b[i])
        return out

    return numba.njit(loop)
