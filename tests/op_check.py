"""What a row of the test table is made of, and how it is held to its promises.

`check_row` needs NumPy alone: forward against the reference in float64 and float32, gradients of first and second
order against differences, shapes, dtypes, recording. It shares nothing with `ndl.gradcheck`, so that neither hides
the other's faults.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import needle as ndl
from needle.autograd import find_topo_sort, reverse_pass

# --- a row -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Inputs and options of one call.

    An input is a shape (numbers are drawn from the row's sampler), an array (a constant, as it is), or a
    `Fixed` (drawn floats that get no gradient).
    """

    inputs: tuple
    options: dict


@dataclass(frozen=True)
class Fixed:
    shape: tuple


def case(*inputs: Any, **options: Any) -> Case:
    return Case(inputs, options)


@dataclass(frozen=True)
class Kink:
    """A place without one derivative, and the gradient needle promises there (for an out_grad of ones)."""

    where: str
    promise: str
    inputs: tuple
    gradients: tuple
    call: Callable | None = None  # the row's own if None
    shown: str | None = None  # how the docs write the call, if not by the row's name


@dataclass(frozen=True)
class Row:
    """`call` takes tensors, `reference` arrays, `torch` and `jax` theirs; all take the options of a case.

    `samplers`: one for each input, the last for all further ones. `band`: how far float32 may lie off float64,
    relative to the largest number. `rule_band`: how far a derivative
    may lie off the one by differences. `smooth` is False where no gradient flows at all.
    """

    name: str
    op: type | None
    call: Callable
    reference: Callable
    cases: tuple
    samplers: tuple = ()
    kinks: tuple = ()
    torch: Callable | None = None
    jax: Callable | None = None
    smooth: bool = True
    band: float = 1e-5
    rule_band: float = 2e-7


# --- checking it -----------------------------------------------------------------------------------------------


def check_row(row: Row, device: Any = None) -> None:
    """Raise AssertionError where the row's op breaks a promise: values, shapes, dtypes, gradients of both orders."""
    for number, one in enumerate(row.cases):
        with failing_as(f"{row.name}, case {number}: {one.inputs} {one.options}"):
            _check_case(row, one, device)
    for kink in row.kinks:
        with failing_as(f"{row.name} at {kink.where}"):
            _check_kink(row, kink, device)


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Any error inside is a failure of `what`."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}\n{type(error).__name__}: {error}") from error


def draw(row: Row, one: Case) -> tuple[list[np.ndarray], list[bool]]:
    """The inputs of a case in float64, the same every time, and which of them get a gradient."""
    rng = np.random.default_rng(zlib.crc32(f"{row.name}{one}".encode()))
    arrays, variable = [], []
    for i, given in enumerate(one.inputs):
        sampler = row.samplers[min(i, len(row.samplers) - 1)]
        if isinstance(given, np.ndarray):
            arrays.append(given)
        else:
            shape = given.shape if isinstance(given, Fixed) else given
            arrays.append(np.asarray(sampler(rng, shape), dtype=np.float64))
        variable.append(isinstance(given, tuple))
    return arrays, variable


def as_float32(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]


def parts(output: Any) -> list[Any]:
    """The tensors (or arrays) of a result that may be a tuple of them."""
    if isinstance(output, ndl.TensorTuple):
        return list(output.tuple())
    return list(output) if isinstance(output, (tuple, list)) else [output]


def leaves(arrays: list[np.ndarray], variable: list[bool], device: Any = None) -> list[ndl.Tensor]:
    return [tensor(a, device, v) for a, v in zip(arrays, variable, strict=True)]


def tensor(array: np.ndarray, device: Any, requires_grad: bool = False) -> ndl.Tensor:
    """In the dtype of the array, whatever the device makes of one by itself."""
    return ndl.Tensor(array, device=device, dtype=array.dtype, requires_grad=requires_grad)


def forward(row: Row, one: Case, arrays: list[np.ndarray], variable: list[bool], device: Any = None) -> tuple:
    """(tensors that went in, tensors that came out)"""
    tensors = leaves(arrays, variable, device)
    return tensors, parts(row.call(*tensors, **one.options))


def expected(row: Row, one: Case, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(a) for a in parts(row.reference(*arrays, **one.options))]


def seeds(outputs: list[Any], rng: np.random.Generator, dtype: Any = None) -> list[np.ndarray]:
    """A random out_grad for each output."""
    return [np.asarray(rng.uniform(-1, 1, y.shape), dtype=dtype or y.dtype) for y in outputs]


def _check_case(row: Row, one: Case, device: Any) -> None:
    arrays, variable = draw(row, one)
    before = [a.copy() for a in arrays]
    tensors, outputs = forward(row, one, arrays, variable, device)
    _check_values(outputs, expected(row, one, arrays), 1e-12)
    kept = [np.array_equal(t.numpy(), a, equal_nan=True) for t, a in zip(tensors, before, strict=True)]
    assert all(kept), "an input was changed"
    _check_float32(row, one, arrays, device)
    _check_strided(row, one, arrays, variable, device)
    _check_recording(row, one, arrays, variable, device)
    if row.smooth and any(variable):
        _check_first(row, one, arrays, variable, device)
        _check_second(row, one, arrays, variable, device)


def _check_values(outputs: list[ndl.Tensor], wanted: list[np.ndarray], band: float) -> None:
    assert len(outputs) == len(wanted), f"{len(outputs)} results, wanted {len(wanted)}"
    for y, w in zip(outputs, wanted, strict=True):
        assert isinstance(y, ndl.Tensor), f"a {type(y).__name__} came out"
        assert y.shape == w.shape, f"shape {y.shape}, wanted {w.shape}"
        assert y.dtype == w.dtype, f"dtype {y.dtype}, wanted {w.dtype}"
        near(y.numpy(), w, band, "values")


def near(got: np.ndarray, wanted: np.ndarray, band: float, what: str) -> None:
    """Equal to within `band` times the largest of the numbers (at least 1); NaN and infinities in the same places."""
    finite = np.isfinite(wanted)
    assert np.array_equal(got[~finite], wanted[~finite], equal_nan=True), f"{what}:\n{got}\nwanted\n{wanted}"
    got, wanted = got[finite].astype(float), wanted[finite].astype(float)
    if wanted.size:
        scale = max(1, np.abs(wanted).max())
        worst = np.abs(got - wanted).max()
        assert worst <= band * scale, f"{what}: off by {worst:.3g}\n{got}\nwanted\n{wanted}"


def _check_float32(row: Row, one: Case, arrays: list[np.ndarray], device: Any) -> None:
    """float32 in, float32 out (where NumPy says so) and in the gradients, in a band around float64."""
    small, (_, variable) = as_float32(arrays), draw(row, one)
    tensors, outputs = forward(row, one, small, variable, device)
    wanted = expected(row, one, arrays)
    for y, w, w32 in zip(outputs, wanted, expected(row, one, small), strict=True):
        assert y.dtype == w32.dtype, f"float32 gives dtype {y.dtype}, wanted {w32.dtype}"
        near(y.numpy(), w, row.band, "float32 values")
    if row.smooth and any(variable):
        _, exact = forward(row, one, arrays, variable, device)
        out_grads = seeds(exact, np.random.default_rng(1))
        rounded = [g.astype(y.dtype) for g, y in zip(out_grads, outputs, strict=True)]
        for x, g, w in zip(
            tensors,
            pull(outputs, rounded, tensors),
            first_gradients(row, one, arrays, variable, out_grads, device),
            strict=True,
        ):
            if x.requires_grad:
                assert g.dtype == x.dtype, f"gradient of dtype {g.dtype} for an input of {x.dtype}"
                near(g, w, 10 * row.band, "float32 gradient")


def strided(array: np.ndarray, device: Any = None) -> Any:
    """The same numbers on the device, in memory that is neither row-major nor without gaps."""
    device = device or ndl.default_device()
    if array.ndim == 0:
        return device.array(array, array.dtype)
    roomy = np.ones((*array.shape[::-1][:-1], 2 * array.shape[0]), dtype=array.dtype)
    roomy.T[::2] = array
    return device.getitem(device.array(roomy, roomy.dtype).T, slice(None, None, 2))


def _check_strided(row: Row, one: Case, arrays: list[np.ndarray], variable: list[bool], device: Any) -> None:
    """Values and gradients do not depend on how the inputs lie in memory."""
    compact, wanted = forward(row, one, arrays, variable, device)
    spread = [ndl.Tensor.make_const(strided(a, device), v) for a, v in zip(arrays, variable, strict=True)]
    outputs = parts(row.call(*spread, **one.options))
    for y, w in zip(outputs, wanted, strict=True):
        near(y.numpy(), w.numpy(), 1e-13, "values of inputs with strides")
    if row.smooth and any(variable):
        out_grads = seeds(outputs, np.random.default_rng(4))
        pairs = zip(pull(outputs, out_grads, spread), pull(wanted, out_grads, compact), strict=True)
        for g, w in pairs:
            near(g, w, 1e-13, "gradient of inputs with strides")


def _check_recording(row: Row, one: Case, arrays: list[np.ndarray], variable: list[bool], device: Any) -> None:
    """What requires a gradient is recorded, what does not is constant; each rule answers for every input."""
    _, constants = forward(row, one, arrays, [False] * len(arrays), device)
    assert all(y.op is None and not y.requires_grad for y in constants), "recorded, but nothing requires a gradient"
    _, outputs = forward(row, one, arrays, variable, device)
    flows = row.smooth and any(variable)
    assert all(y.requires_grad == flows for y in outputs), f"requires_grad is not {flows}"
    for node in find_topo_sort(outputs) if flows else ():
        if node.op is not None:
            answers = node.op.gradient_as_tuple(node.filled(1), node)
            assert len(answers) == len(node.inputs), f"{len(answers)} gradients for {len(node.inputs)} inputs"
            for x, answer in zip(node.inputs, answers, strict=True):
                assert x.fits(answer), f"{type(node.op).__name__}: gradient {answer.shape} for an input {x.shape}"


def pull(outputs: list[Any], out_grads: list[np.ndarray], inputs: list[ndl.Tensor]) -> list[np.ndarray]:
    """dL/d(inputs) as arrays, for L = Σ out_grad · output; zeros where L does not depend on an input."""
    found = pull_tensors(outputs, [tensor(g, y.device) for g, y in zip(out_grads, outputs, strict=True)], inputs)
    return [g.numpy() for g in found]


def pull_tensors(outputs: list[Any], out_grads: list[Any], inputs: list[ndl.Tensor]) -> list[ndl.Tensor]:
    live = [i for i, y in enumerate(outputs) if y.requires_grad]
    found = dict(reverse_pass([outputs[i] for i in live], [out_grads[i] for i in live]))
    return [found[x] if x in found else x.filled(0) for x in inputs]


def first_gradients(row, one, arrays, variable, out_grads, device=None) -> list[np.ndarray]:
    tensors, outputs = forward(row, one, arrays, variable, device)
    with ndl.no_grad():
        return pull(outputs, out_grads, tensors)


def slope(f: Callable, h: float = 2.5e-4) -> float:
    """f'(0) by central differences of order 4."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def moved(arrays: list[np.ndarray], i: int, direction: np.ndarray, t: float) -> list[np.ndarray]:
    return [a + t * direction if j == i else a for j, a in enumerate(arrays)]


def same_slope(got: float, wanted: float, band: float, what: str) -> None:
    assert abs(got - wanted) <= band * (1 + abs(wanted)), f"{what}: {got!r}, by differences {wanted!r}"


def _check_first(row: Row, one: Case, arrays: list[np.ndarray], variable: list[bool], device: Any) -> None:
    """The gradient along random directions, against differences of the forward pass."""
    rng = np.random.default_rng(2)
    with ndl.no_grad():
        _, constants = forward(row, one, arrays, variable, device)
    out_grads = seeds(constants, rng)
    grads = first_gradients(row, one, arrays, variable, out_grads, device)

    def total(at: list[np.ndarray]) -> float:
        with ndl.no_grad():
            _, outputs = forward(row, one, at, variable, device)
        return sum(float((g * y.numpy()).sum()) for g, y in zip(out_grads, outputs, strict=True))

    for i in np.flatnonzero(variable):
        for direction in rng.standard_normal((2, *arrays[i].shape)):
            wanted = slope(lambda t, i=i, d=direction: total(moved(arrays, i, d, t)))
            same_slope(float((grads[i] * direction).sum()), wanted, row.rule_band, f"gradient of argument {i}")
        alone = [j == i for j in range(len(arrays))]
        (again,) = (g for j, g in enumerate(first_gradients(row, one, arrays, alone, out_grads, device)) if j == i)
        near(again, grads[i], 1e-13, f"gradient of argument {i} when no other requires one")


def _check_second(row: Row, one: Case, arrays: list[np.ndarray], variable: list[bool], device: Any) -> None:
    """The derivative of S = Σ gradient · direction, against differences of the first gradient."""
    rng = np.random.default_rng(3)
    tensors, outputs = forward(row, one, arrays, variable, device)
    out_grads = seeds(outputs, rng)
    directions = [rng.standard_normal(a.shape) for a in arrays]
    seed_tensors = leaves(out_grads, [True] * len(out_grads), device)
    grads = pull_tensors(outputs, seed_tensors, tensors)
    chosen = [i for i, v in enumerate(variable) if v and grads[i].requires_grad]
    if not chosen:
        assert not any(g.numpy().any() for g in grads), "the gradient does not depend on out_grad"
    wanted_of = [*tensors, *seed_tensors]
    seconds = pull([grads[i] for i in chosen], [directions[i] for i in chosen], wanted_of)

    def total(at: list[np.ndarray], with_seeds: list[np.ndarray]) -> float:
        found = first_gradients(row, one, at, variable, with_seeds, device)
        return sum(float((found[i] * directions[i]).sum()) for i, v in enumerate(variable) if v)

    for i in np.flatnonzero(variable):
        d = rng.standard_normal(arrays[i].shape)
        wanted = slope(lambda t, i=i, d=d: total(moved(arrays, i, d, t), out_grads))
        same_slope(float((seconds[i] * d).sum()), wanted, row.rule_band, f"second derivative, argument {i}")
    for k, g in enumerate(out_grads):
        d = rng.standard_normal(g.shape)
        wanted = slope(lambda t, k=k, d=d: total(arrays, moved(out_grads, k, d, t)))
        same_slope(float((seconds[len(tensors) + k] * d).sum()), wanted, row.rule_band, "second derivative, out_grad")


def _check_kink(row: Row, kink: Kink, device: Any) -> None:
    inputs = [tensor(np.array(x, dtype=float), device, True) for x in kink.inputs]
    with np.errstate(all="ignore"):
        output = (kink.call or row.call)(*inputs)
        output.backward()
    for x, wanted in zip(inputs, kink.gradients, strict=True):
        got = x.grad.numpy()
        assert np.array_equal(got, wanted, equal_nan=True), f"gradient {got}, promised {wanted}"
