"""What is differentiated, as a function from float64 arrays to arrays: `f` itself, or the gradient of such a thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor, TensorTuple
from ..functional import flatten
from ..graph import Value, find_topo_sort, reverse_pass
from ..modes import enable_grad, is_grad_enabled, no_grad
from ..ops import astype, tuple_get_item
from .slopes import sizes

__all__ = [
    "NotATensor",
    "Probe",
    "coarsest",
    "derivative",
    "fitted",
    "is_float",
    "outputs_of",
    "parts",
    "push",
    "random_weights",
    "row",
    "some_signs",
    "users_of",
]

FINE = float(np.finfo(np.float64).eps)


class NotATensor(TypeError):
    """The function gave something else than tensors."""


def is_float(array: Any) -> bool:
    return array.dtype.kind == "f"


def parts(value: Value) -> list[Any]:
    """The arrays of a Tensor (one) or of a TensorTuple (several)."""
    return list(value.cached_data) if isinstance(value, TensorTuple) else [value.cached_data]


def outputs_of(result: Any) -> list[Tensor]:
    """The tensors that a function gave: one, a TensorTuple, or nested lists, tuples and dicts."""
    found = []
    for leaf in flatten(result):
        if isinstance(leaf, TensorTuple):
            found += [tuple_get_item(leaf, i) for i in range(len(leaf))]
        elif isinstance(leaf, Tensor):
            found.append(leaf)
        else:
            raise NotATensor(type(leaf).__name__)
    return found


class Probe:
    """A function `call` of one tensor for each of `arrays`, the point where it is looked at.

    `call` gives a list of values and records the graph between. `eps` is the rounding of its coarsest float.
    """

    def __init__(self, call: Callable[[list[Tensor]], list[Any]], arrays: Sequence[np.ndarray], device: Any):
        self.call, self.arrays, self.device = call, list(arrays), device
        self.eps = FINE
        self.runs = 0

    def tensors(self, arrays: Sequence[np.ndarray] | None = None) -> list[Tensor]:
        """Fresh copies, so that a function which writes into its inputs does no harm."""
        given = self.arrays if arrays is None else arrays
        return [Tensor(a, device=self.device, dtype=a.dtype) for a in given]

    def values(self, outputs: Sequence[Any]) -> list[np.ndarray]:
        return [self.device.to_numpy(part) for value in outputs for part in parts(value)]

    def run(self, arrays: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """All outputs in one row, as float64."""
        self.runs += 1
        with no_grad():
            return row(self.values(self.call(self.tensors(arrays))))

    def run_at(self, k: int, array: np.ndarray) -> np.ndarray:
        """The outputs where the k-th array is another."""
        return self.run([*self.arrays[:k], array, *self.arrays[k + 1 :]])

    def record(self, arrays: Sequence[np.ndarray] | None = None) -> tuple[list[Tensor], list[Any]]:
        """(inputs, outputs) with the graph between them."""
        inputs = self.tensors(arrays)
        with enable_grad():
            return inputs, self.call(inputs)

    def pull(self, outputs: Sequence[Any], seeds: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Any]:
        """dL/d(inputs) in reverse mode, None where nothing flows."""
        stop = set(inputs)
        found = {node: grad for node, grad in reverse_pass(*self.live(outputs, seeds), stop) if node in stop}
        return [found.get(x) for x in inputs]

    def live(self, outputs: Sequence[Any], seeds: Sequence[Tensor]) -> tuple[list[Any], list[Tensor]]:
        """The outputs that can be differentiated, and their seeds."""
        pairs = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad and is_float(y)]
        return [y for y, _ in pairs], [fitted(s, y) for y, s in pairs]

    def gradient(
        self, weights: Sequence[np.ndarray], recording: bool = False, arrays: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """d(Σ weights · outputs)/d(each array), in reverse mode; at other `arrays` if these are given."""
        inputs, outputs = self.record(arrays)
        with enable_grad() if recording else no_grad():
            grads = self.pull(outputs, self.tensors(weights), inputs)
        return [self.numpy_of(g, x.shape) for g, x in zip(grads, inputs, strict=True)]

    def numpy_of(self, tensor: Tensor | None, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape) if tensor is None else self.device.to_numpy(tensor.cached_data)


def coarsest(arrays: Iterable[Any]) -> float:
    """The rounding of the coarsest float among arrays."""
    return max([FINE, *[float(np.finfo(kind).eps) for kind in {a.dtype for a in arrays if is_float(a)}]])


def row(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *[np.asarray(a, dtype=np.float64).ravel() for a in arrays]])


def fitted(seed: Tensor, output: Any) -> Tensor:
    return seed if seed.dtype == output.dtype else astype(seed, output.dtype)


def derivative(probe: Probe, weights: Sequence[np.ndarray]) -> Probe:
    """The gradient of `probe` as a function of its arrays and of the weights: what order 2 looks at.

    It is recorded when asked to be, so that it has a gradient again.
    """
    count = len(probe.arrays)

    def call(tensors: list[Tensor]) -> list[Any]:
        recording = is_grad_enabled()
        inputs = tensors[:count]
        with enable_grad():
            outputs = probe.call(inputs)
        with enable_grad() if recording else no_grad():
            grads = probe.pull(outputs, tensors[count:], inputs)
        return [x.filled(0) if g is None else g for g, x in zip(grads, inputs, strict=True)]

    second = Probe(call, [*probe.arrays, *weights], probe.device)
    second.eps = probe.eps
    return second


def push(probe: Probe, tangents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """J · tangents, for each output: forward mode, out of two reverse ones as `functional.jvp` does it."""
    inputs, outputs = probe.record()
    with enable_grad():
        seeds = probe.tensors([np.zeros(y.shape) for y in outputs])
        rows = probe.pull(outputs, seeds, inputs)
    pairs = [(r, t) for r, t in zip(rows, probe.tensors(tangents), strict=True) if r is not None and r.requires_grad]
    with no_grad():
        stop = set(seeds)
        passed = reverse_pass([r for r, _ in pairs], [t for _, t in pairs], stop)
        found = {node: grad for node, grad in passed if node in stop}
    return [probe.numpy_of(found.get(s), s.shape) for s in seeds]


def random_weights(values: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """A random weight for each output, smaller for larger ones so that none drowns the others; 0 unless a float.

    Multiples of a power of two, which the output's float type holds exactly. Below 1e-12 of the largest is noise.
    """
    wide = [np.asarray(v, dtype=np.float64) if is_float(v) else np.zeros(v.shape) for v in values]
    least = 1e-12 * max((float(sizes(v).max(initial=0.0)) for v in wide), default=0.0)
    return [_weights(w, v.dtype, least, rng) if is_float(v) else w for v, w in zip(values, wide, strict=True)]


def _weights(values: np.ndarray, dtype: Any, least: float, rng: np.random.Generator) -> np.ndarray:
    size = np.exp2(np.round(np.log2(np.clip(sizes(values), max(least, 1e-300), 1e300))))
    return some_signs(values.shape, rng, bits=10 if dtype.itemsize < 4 else 20) / size


def some_signs(shape: tuple[int, ...], rng: np.random.Generator, bits: int = 20) -> np.ndarray:
    """Random numbers of size 1/2 to 3/2 and either sign: no element is left out, and no two are likely to cancel."""
    half = 2**bits // 2
    return rng.choice([-1.0, 1.0], shape) * rng.integers(half, 3 * half + 1, shape) / 2**bits


def users_of(inputs: Sequence[Value], outputs: Sequence[Any]) -> list[Any]:
    """The nodes between: those that depend on `inputs`, in topological order."""
    moved: set[Value] = set(inputs)
    found = []
    for node in find_topo_sort(outputs):
        if any(x in moved for x in node.inputs):
            moved.add(node)
            found.append(node)
    return found
