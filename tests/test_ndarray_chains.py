"""Random chains of views, assignments, reductions and arithmetic, the same on NDArrays and on NumPy's, step by step.

In debug mode, which checks every view against its buffer and fills new arrays with NaN.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from needle import backend_ndarray as nd

STEPS = 10
CHAINS = 5_000  # on each of the two CPU devices: 10,000
LARGEST = 400  # elements


class Pair:
    """One array twice: NumPy's and ours. `base` is what both are views of."""

    def __init__(self, rng, device):
        shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 5)))
        dtype = str(rng.choice(["float32", "float32", "float64", "int64"]))
        self.rng, self.device = rng, device
        self.base = self.numpy = rng.integers(-9, 9, shape).astype(dtype)
        self.whole = self.mine = nd.array(self.base, dtype=dtype, device=device)

    def view(self, theirs, mine):
        assert mine._handle is self.mine._handle, "a view has a buffer of its own"
        assert theirs.size == 0 or mine.strides == tuple(s // theirs.itemsize for s in theirs.strides)
        self.numpy, self.mine = theirs, mine

    def fresh(self, theirs, mine):
        """What is computed has memory of its own; numbers stay small, so that float32 holds them exactly."""
        theirs = np.asarray(theirs)
        assert mine.is_compact() and mine._handle is not self.mine._handle
        assert mine.dtype == theirs.dtype
        if theirs.size and np.abs(theirs).max() > 1e4:
            theirs, mine = theirs * 0, mine * 0
        self.base = self.numpy = np.array(theirs, order="C")
        self.whole = self.mine = mine

    def agree(self):
        assert self.mine.shape == self.numpy.shape
        assert self.mine.dtype == self.numpy.dtype
        assert np.array_equal(self.mine.numpy(), self.numpy, equal_nan=True)
        assert np.array_equal(self.whole.numpy(), self.base, equal_nan=True), "another element was written to"


def random_slice(rng, n):
    start, stop = (None if rng.random() < 0.3 else int(rng.integers(-n - 1, n + 2)) for _ in range(2))
    step = int(rng.choice([1, 1, 2, 3, -1, -2]))
    return slice(start, stop, None if step == 1 and rng.random() < 0.5 else step)


def random_index(rng, shape):
    """One int or slice an axis, for us, and what NumPy needs to keep all axes."""
    ours, theirs = [], []
    for n in shape:
        if n and rng.random() < 0.2:
            i = int(rng.integers(-n, n))
            ours.append(i)
            theirs.append(slice(i % n, i % n + 1))
        else:
            ours.append(random_slice(rng, n))
            theirs.append(ours[-1])
    return tuple(ours), tuple(theirs)


def random_axes(rng, ndim):
    chosen = rng.permutation(ndim)[: rng.integers(0, ndim + 1)]
    return tuple(int(a) - (ndim if rng.random() < 0.3 else 0) for a in chosen)


def written_to(p):
    """What broadcast_to gave cannot be written to, its copy can."""
    if not p.numpy.flags.writeable:
        p.fresh(p.numpy.copy(), p.mine.copy())


def step_slice(p):
    ours, theirs = random_index(p.rng, p.numpy.shape)
    p.view(p.numpy[theirs], p.mine[ours])


def step_permute(p):
    order = tuple(int(i) for i in p.rng.permutation(p.numpy.ndim))
    p.view(p.numpy.transpose(order), p.mine.permute(order))


def step_broadcast(p):
    shape = tuple(int(p.rng.integers(1, 4)) if n == 1 and p.rng.random() < 0.5 else n for n in p.numpy.shape)
    if math.prod(shape) <= LARGEST:
        p.view(np.broadcast_to(p.numpy, shape), p.mine.broadcast_to(shape))


def step_reshape(p):
    n = p.numpy.size
    divisors = [d for d in range(1, n + 1) if n % d == 0] or [1]
    first = int(p.rng.choice(divisors)) if n else 0
    shape = (first, -1) if n else (0, 2)
    if p.rng.random() < 0.5 and n:
        shape = (1, n // first, first, 1)
    if p.mine.is_compact():
        p.view(p.numpy.reshape(shape), p.mine.reshape(shape))
    else:
        p.fresh(p.numpy.reshape(shape).copy(), np.reshape(p.mine, shape))


def step_rows(p):
    """The view without its first axis."""
    if p.numpy.ndim > 1 and p.numpy.shape[0]:
        i = int(p.rng.integers(p.numpy.shape[0]))
        p.view(p.numpy[i], list(p.mine)[i])


def step_assign_number(p):
    written_to(p)
    ours, theirs = random_index(p.rng, p.numpy.shape)
    number = int(p.rng.integers(-9, 9))
    p.numpy[theirs] = number
    p.mine[ours] = number


def step_assign_array(p):
    written_to(p)
    ours, theirs = random_index(p.rng, p.numpy.shape)
    target = p.numpy[theirs]
    values = p.rng.integers(-9, 9, target.shape[::-1]).astype(p.numpy.dtype)
    p.numpy[theirs] = values.T
    p.mine[ours] = nd.array(values, dtype=values.dtype, device=p.device).T


def step_assign_itself(p):
    """Overlapping memory: read first, then written."""
    written_to(p)
    if p.numpy.ndim and p.numpy.shape[0] > 1:
        p.numpy[1:] = p.numpy[:-1][::-1].copy()
        p.mine[1:, ...] = p.mine[:-1, ...][::-1, ...]


def step_in_place(p):
    written_to(p)
    values = p.rng.integers(-3, 4, p.numpy.shape[-1:]).astype(p.numpy.dtype)
    p.numpy += values
    same = p.mine
    p.mine += nd.array(values, dtype=values.dtype, device=p.device)
    assert p.mine is same


def step_flat(p):
    written_to(p)
    if p.numpy.size and p.numpy.ndim:
        j = int(p.rng.integers(p.numpy.size))
        p.numpy.flat[j] += 2
        p.mine.flat[j] += 2


def step_pick(p):
    """Integer arrays along the first axis, by NumPy's rules; and added back, with repetitions."""
    written_to(p)
    if p.numpy.ndim and p.numpy.shape[0]:
        places = p.rng.integers(0, p.numpy.shape[0], 3)
        picked = p.device.getitem(p.mine, places)
        assert np.array_equal(picked.numpy(), p.numpy[places])
        np.add.at(p.numpy, places, 1)
        p.device.add_at(p.mine, nd.array(places, dtype="int64", device=p.device), 1)


def step_elementwise(p):
    other = p.rng.integers(-3, 4, p.numpy.shape[-2:]).astype(p.numpy.dtype)
    ours = nd.array(other, dtype=other.dtype, device=p.device)
    name = str(p.rng.choice(["add", "subtract", "multiply", "maximum", "minimum", "less", "equal", "not_equal"]))
    call = getattr(np, name)
    theirs, mine = call(p.numpy, other), call(p.mine, ours)
    if theirs.dtype == bool:
        theirs, mine = theirs.astype(p.numpy.dtype), mine.astype(p.numpy.dtype)
    p.fresh(theirs, mine)


def step_number(p):
    number = int(p.rng.integers(1, 4))
    p.fresh(number - p.numpy, number - p.mine)


def step_unary(p):
    call = [np.negative, np.abs, np.square, np.sign][p.rng.integers(4)]
    p.fresh(call(p.numpy), call(p.mine))


def step_compare(p):
    p.fresh((p.numpy >= 1).astype(p.numpy.dtype), p.mine >= 1)


def step_reduce(p):
    axes, keepdims = random_axes(p.rng, p.numpy.ndim), bool(p.rng.random() < 0.7)
    name = str(p.rng.choice(["sum", "max", "min"]))
    if name == "sum" or p.numpy.size:
        theirs, mine = (getattr(x, name)(axis=axes, keepdims=keepdims) for x in (p.numpy, p.mine))
        p.fresh(theirs, mine)


def step_flip(p):
    axes = random_axes(p.rng, p.numpy.ndim)
    p.fresh(np.flip(p.numpy, axes), p.mine.flip(axes))


def step_pad(p):
    pairs = [tuple(int(n) for n in p.rng.integers(0, 2, 2)) for _ in p.numpy.shape]
    if p.numpy.ndim and p.numpy.size < LARGEST // 16:
        p.fresh(np.pad(p.numpy, pairs), p.mine.pad(pairs))


def step_matmul(p):
    if p.numpy.ndim >= 1:
        matrix = p.rng.integers(-2, 3, (p.numpy.shape[-1], 3)).astype(p.numpy.dtype)
        ours = nd.array(matrix, dtype=matrix.dtype, device=p.device)
        theirs, mine = p.numpy @ matrix, p.mine @ ours
        p.fresh(theirs, mine.compact() if mine.is_compact() else mine.copy())


def step_compact(p):
    if not p.mine.is_compact():
        p.fresh(p.numpy.copy(), p.mine.compact())


ALL = [step for name, step in sorted(globals().items()) if name.startswith("step_")]
VIEWS = [step_slice, step_permute, step_broadcast, step_reshape]


def run_chain(device, seed):
    """The names of the steps taken."""
    rng = np.random.default_rng(seed)
    p, taken = Pair(rng, device), []
    for _ in range(STEPS):
        if p.numpy.size == 0 or p.numpy.size > LARGEST or (p.numpy.size < 2 and rng.random() < 0.5):
            p = Pair(rng, device)
        among = VIEWS if rng.random() < 0.4 else ALL
        step = among[rng.integers(len(among))]
        taken.append(step.__name__)
        try:
            step(p)
            p.agree()
        except Exception as error:
            raise AssertionError(f"{device}, seed {seed}, after {taken}: {type(error).__name__}: {error}") from error
    return taken


@pytest.mark.parametrize("device", [nd.cpu(), nd.cpu_numpy()], ids=str)
def test_random_chains_agree_with_numpy(device):
    with nd.debug(True):
        for seed in range(CHAINS):
            run_chain(device, seed)


@pytest.mark.cuda
@pytest.mark.skipif(not nd.cuda().enabled(), reason="cuda() is not enabled on this machine")
def test_random_chains_on_the_gpu():
    with nd.debug(True):
        for seed in range(20):
            run_chain(nd.cuda(), seed)


def test_every_step_is_taken():
    taken = [name for seed in range(500) for name in run_chain(nd.cpu_numpy(), seed)]
    assert {step.__name__ for step in ALL if taken.count(step.__name__) < 50} == set()
