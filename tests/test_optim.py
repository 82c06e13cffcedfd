"""Optimizers: trajectories against formulas and PyTorch, groups, state, clipping, bad input."""

from __future__ import annotations

import gc
import importlib.util
import json

import numpy as np
import optim_check
import pytest
from optim_check import CASES, WAYS, Case, check, compare, in_needle, in_torch, slope, starts, ways
from optim_mutants import MUTANTS, broken

import needle as ndl
from needle import kernels, optim

EACH = [(case, way) for case in CASES for way in ways(case)]


@pytest.mark.parametrize("case, way", EACH, ids=[f"{case.name} ({way})" for case, way in EACH])
def test_fifty_steps_equal_the_formula(case, way):
    check(case, way)


@pytest.mark.oracle
@pytest.mark.parametrize("case", [c for c in CASES if c.torch], ids=lambda c: c.name)
def test_fifty_steps_equal_those_of_pytorch(case):
    torch = pytest.importorskip("torch")
    compare(in_needle(case), in_torch(case, torch))


def test_every_optimizer_has_trajectories():
    made = {getattr(optim, name) for name in optim.__all__ if isinstance(getattr(optim, name), type)}
    wanted = {make for make in made if issubclass(make, optim.Optimizer)} - {optim.Optimizer}
    assert wanted == set(optim_check.BY_CLASS)


# --- broken ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_broken_optimizer_or_schedule_is_caught(mutant):
    with broken(mutant), pytest.raises(AssertionError, match="off after step|lr |momentum "):
        mutant.shows()


# --- groups -----------------------------------------------------------------------------------------------------


def test_each_group_has_options_of_its_own():
    a, b, c = (ndl.Tensor([1.0]) for _ in range(3))
    groups = [{"params": [a], "lr": 0.5, "name": "fast"}, {"params": b}, {"params": iter([c]), "weight_decay": 1.0}]
    optimizer = optim.SGD(groups, lr=0.1)
    for p in (a, b, c):
        p.grad = ndl.Tensor([1.0])
    optimizer.step()
    assert [p.item() for p in (a, b, c)] == pytest.approx([0.5, 0.9, 0.8])
    assert optimizer.params == [a, b, c] and optimizer.param_groups[0]["name"] == "fast"
    assert optimizer.momentum == 0
    with pytest.raises(AttributeError, match=r"SGD: the parameter groups differ in lr \(\[0.5, 0.1, 0.1\]\)"):
        _ = optimizer.lr
    optimizer.lr = np.float64(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25] * 3 and type(optimizer.lr) is float


def test_groups_and_constructor_take_pytorchs_betas():
    p, q = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    optimizer = optim.AdamW([{"params": [p]}, {"params": [q], "betas": (0.1, 0.2)}], betas=(0.5, 0.6))
    assert [(group["beta1"], group["beta2"]) for group in optimizer.param_groups] == [(0.5, 0.6), (0.1, 0.2)]


def test_a_group_that_joins_later():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    optimizer = optim.Adam([a], lr=0.1)
    optimizer.add_param_group({"params": [b], "lr": 0.2})
    for p in (a, b):
        p.grad = ndl.Tensor([3.0])
    optimizer.step()
    assert [p.item() for p in (a, b)] == pytest.approx([0.9, 0.8])


# --- what a step leaves alone -----------------------------------------------------------------------------------

ALL = {case.make.__name__: case for case in CASES}  # the last case of each optimizer
VARIANTS = [*ALL.values(), Case(optim.SGD, optim_check.sgd, {"lr": 0.1})]
BY_WAY = [(case, way) for case in VARIANTS for way in ways(case)]


def params_with_gradients(case, dtype="float64"):
    params = [ndl.Tensor(x, dtype=dtype) for x in starts(case.shapes)]
    for i, p in enumerate(params):
        p.grad = ndl.Tensor(slope(p.numpy(), i, 1), dtype=dtype)
    return params


@pytest.mark.parametrize("case, way", BY_WAY, ids=[f"{case.name} ({way})" for case, way in BY_WAY])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_stay_gradients_stay_and_snapshots_stay(case, way, dtype):
    with WAYS[way]():
        dtypes_gradients_and_snapshots_stay(case, dtype)


def dtypes_gradients_and_snapshots_stay(case, dtype):
    params = params_with_gradients(case, dtype)
    settings = {name: np.float64(x) if isinstance(x, float) else x for name, x in case.settings.items()}
    optimizer = case.make(params, **settings)
    gradients = [(p.grad, p.grad.numpy()) for p in params]
    for _ in range(3):
        for group in optimizer.param_groups:
            group["lr"] = np.float64(0.1)
        snapshots = [(p.data, p.numpy()) for p in params]
        optimizer.step()
        for p, (snapshot, values) in zip(params, snapshots, strict=True):
            assert np.array_equal(snapshot.numpy(), values) and not np.array_equal(p.numpy(), values)
    for p, (grad, values) in zip(params, gradients, strict=True):
        assert p.grad is grad and np.array_equal(grad.numpy(), values)
        assert p.dtype == dtype and type(p.cached_data) is np.ndarray
    for state in optimizer.state.values():
        for name, tensor in state.items():
            assert tensor.is_leaf() and not tensor.requires_grad and type(tensor.cached_data) is np.ndarray
            assert tensor.dtype == ("int64" if name == "step" else dtype)


@pytest.mark.parametrize("case", VARIANTS, ids=lambda c: c.name)
def test_state_tensors_stay_the_same_objects(case):
    optimizer = case.make(params_with_gradients(case), **case.settings)
    optimizer.step()
    first = [tensor for state in optimizer.state.values() for tensor in state.values()]
    optimizer.step()
    second = [tensor for state in optimizer.state.values() for tensor in state.values()]
    assert all(a is b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("case", VARIANTS, ids=lambda c: c.name)
def test_the_updates_are_the_same_bits_whoever_looks_on_and_however_memory_lies(case):
    def run(change, watch=False):
        params = params_with_gradients(case)
        for p in params:
            change(p)
        optimizer = case.make(params, **case.settings)
        for _ in range(3):
            seen = [p.data for p in params] if watch else []
            optimizer.step()
        assert len(seen) == (len(params) if watch else 0)
        return [p.numpy().tobytes() for p in params]

    def nothing(p):
        pass

    def by_columns(p):
        p.data = ndl.Tensor.make_const(np.array(p.numpy(), order="F"))

    def gradient_by_columns(p):
        p.grad = ndl.Tensor.make_const(np.array(p.grad.numpy(), order="F"))

    plain = run(nothing)
    assert run(nothing, watch=True) == plain
    assert run(gradient_by_columns) == plain
    assert run(by_columns) == plain


@pytest.mark.parametrize("case", VARIANTS, ids=lambda c: c.name)
def test_memory_that_a_parameter_only_looks_at_stays(case):
    for readonly in (False, True):
        p = ndl.Tensor(np.ones((3, 4)))
        memory = np.arange(24.0).reshape(6, 4)
        kept = memory.copy()
        memory.flags.writeable = not readonly
        p.data = ndl.Tensor.make_const(memory[:3])
        p.grad = ndl.Tensor(np.ones((3, 4)))
        case.make([p], **case.settings).step()
        assert np.array_equal(memory, kept) and not np.array_equal(p.numpy(), kept[:3])


@pytest.mark.parametrize("case", VARIANTS, ids=lambda c: c.name)
def test_a_parameter_in_read_only_memory_gets_memory_of_its_own(case):
    p = ndl.Tensor(np.ones((3, 4)))
    p.cached_data.flags.writeable = False
    p.grad = ndl.Tensor(np.ones((3, 4)))
    case.make([p], **case.settings).step()
    assert p.cached_data.flags.writeable and not np.array_equal(p.numpy(), np.ones((3, 4)))


@pytest.mark.parametrize("case", VARIANTS, ids=lambda c: c.name)
def test_a_step_is_a_write_that_backward_sees(case):
    p = ndl.Tensor(np.ones((3, 4)))
    loss = (p * p).sum()
    loss.backward()
    case.make([p], **case.settings).step()
    with pytest.raises(RuntimeError, match="was let go|was written to"):
        loss.backward()


@pytest.mark.parametrize("case", VARIANTS, ids=lambda c: c.name)
def test_training_leaves_no_tensors_behind(case):
    p = ndl.Tensor(np.ones((3, 4)))
    optimizer = case.make([p], **case.settings)
    counted = []
    gc.disable()
    try:
        for t in range(20):
            (p * p).sum().backward()
            optimizer.clip_grad_norm(1e-9)  # always: a gradient that is not clipped keeps its seed
            optimizer.step()
            if t in (0, 19):  # it counts all that lives
                counted.append(ndl.autograd.TENSOR_COUNTER)
    finally:
        gc.enable()
    assert counted[1] == counted[0]


def test_what_has_no_gradient_is_left_and_reset_grad_forgets_all():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    optimizer = optim.Adam([a, b], weight_decay=1.0)
    a.grad = ndl.Tensor([1.0])
    optimizer.step()
    assert b.item() == 1 and b not in optimizer.state and a.item() != 1
    optimizer.zero_grad()
    assert a.grad is None and b.grad is None
    assert optim.Optimizer.zero_grad is optim.Optimizer.reset_grad


def test_a_gradient_of_another_dtype_promotes_nothing():
    for case in VARIANTS:
        p = ndl.Tensor(np.ones((3, 4)), dtype="float32")
        p.grad = ndl.Tensor(np.ones((3, 4)))
        case.make([p], **case.settings).step()
        assert p.dtype == "float32", case.name


def test_a_users_optimizer_after_the_course():
    class Momentum(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params)
            self.lr, self.u = lr, {}

        def step(self):
            for p in self.params:
                self.u[p] = 0.9 * self.u.get(p, 0) + 0.1 * p.grad.data
                p.data = p.data - self.lr * self.u[p]

    w = ndl.Tensor([1.0, 2.0])
    optimizer = Momentum([w])
    w.grad = ndl.Tensor([10.0, 20.0])
    optimizer.step()
    assert w.numpy() == pytest.approx([0.9, 1.8])


# --- one pass over memory ---------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("size", [1, 7, 20_000])
def test_the_compiled_step_agrees_with_its_twins(dtype, tolerance, size, monkeypatch):
    def run():
        p = ndl.Tensor(np.random.default_rng(0).standard_normal(size), dtype=dtype)
        optimizer = optim.AdamW([p], lr=0.01, weight_decay=0.1)
        for t in range(5):
            p.grad = ndl.Tensor(slope(p.numpy(), 2, t), dtype=dtype)
            optimizer.step()
        return p.numpy()

    compiled = run()
    monkeypatch.setattr(kernels.Kernel, "get", lambda self: None)
    np.testing.assert_allclose(run(), compiled, rtol=0, atol=tolerance)
    monkeypatch.setattr(optim.Adam, "update", optim.Optimizer.update)
    np.testing.assert_allclose(run(), compiled, rtol=0, atol=tolerance)


# --- saving and loading -----------------------------------------------------------------------------------------


def train(optimizer, params, first, last):
    for t in range(first, last):
        for i, p in enumerate(params):
            g = slope(p.numpy(), i, t)
            p.grad = None if g is None else ndl.Tensor(g, dtype=p.dtype)
        optimizer.step()
    return [p.numpy().tobytes() for p in params]


def through_json(saved):
    """The state_dict, its numbers having been JSON and its arrays copied."""
    if isinstance(saved, dict):
        return {name: through_json(value) for name, value in saved.items()}
    if isinstance(saved, list):
        return [through_json(value) for value in saved]
    return saved.copy() if isinstance(saved, np.ndarray) else json.loads(json.dumps(saved))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("at", [0, 1, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(case, at, dtype):
    params = [ndl.Tensor(x, dtype=dtype) for x in starts(case.shapes)]
    whole = train(case.make(params, **case.settings), params, 0, 20)
    params = [ndl.Tensor(x, dtype=dtype) for x in starts(case.shapes)]
    optimizer = case.make(params, **case.settings)
    train(optimizer, params, 0, at)
    saved, values = optimizer.state_dict(), [p.numpy() for p in params]
    train(optimizer, params, at, 20)  # what was saved does not change with it
    again = [ndl.Tensor(x) for x in values]
    other = case.make(again, lr=0.7)
    other.load_state_dict(through_json(saved))
    assert train(other, again, at, 20) == whole
    assert other.state_dict()["groups"] == optimizer.state_dict()["groups"]


def test_options_that_change_on_the_way_are_saved_too():
    params = [ndl.Tensor([1.0, 2.0])]
    optimizer = optim.SGD(params, momentum=0.5)
    train(optimizer, params, 0, 3)
    optimizer.dampening, optimizer.lr = 0.1, 0.3
    other = optim.SGD([ndl.Tensor([1.0, 2.0])])
    other.load_state_dict(optimizer.state_dict())
    assert (other.dampening, other.lr, other.momentum) == (0.1, 0.3, 0.5)


def test_writing_into_a_state_dict_changes_no_optimizer():
    optimizer = small_adam()
    optimizer.state_dict()["state"][0]["m"][:] = 7
    assert 7 not in optimizer.state_dict()["state"][0]["m"]
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    saved["state"][0]["m"][:] = 7
    assert 7 not in optimizer.state_dict()["state"][0]["m"]


def small_adam():
    a, b = ndl.Tensor([1.0, 2.0]), ndl.Tensor([[3.0]])
    optimizer = optim.Adam([{"params": [a]}, {"params": [b], "lr": 0.5}])
    train(optimizer, [a, b], 1, 3)
    return optimizer


def changed(change):
    saved = small_adam().state_dict()
    change(saved)
    return saved


BAD_STATES = {
    "shape and dtype": (
        lambda s: s["state"][0].update(m=np.zeros(3), v=np.zeros(2, "float32")),
        ["parameter 0: m is (3,) float64, wanted (2,) float64", "parameter 0: v is (2,) float32, wanted (2,) float64"],
    ),
    "missing and unknown": (
        lambda s: s["state"][1].update(u=s["state"][1].pop("m")),
        ["parameter 1 lacks m", "parameter 1: u is unknown"],
    ),
    "step": (lambda s: s["state"][1].update(step=1.5), ["step must be a whole number >= 0 that fits", "got 1.5"]),
    "no array": (lambda s: s["state"][1].update(m=[1.0]), ["parameter 1: m must be an array, got list"]),
    "a group less": (lambda s: s["groups"].pop(), ["1 parameter group(s), wanted 2"]),
    "a parameter less": (
        lambda s: (s["groups"][1]["params"].pop(), s["state"].pop()),
        ["group 1 has 0 parameter(s), wanted 1", "state of 1 parameter(s), wanted 2"],
    ),
    "options": (
        lambda s: (s["groups"][0].update(lr=-1.0), s["groups"][1].pop("eps"), s["groups"][1].update(momentum=1.0)),
        ["group 0: Adam: lr must be >= 0, got -1.0", "group 1 lacks the option eps", "has no option 'momentum'"],
    ),
    "another thing": (lambda s: s.pop("state"), ["this is no state_dict of an optimizer"]),
    "no list": (lambda s: s["groups"][0].update(params=3), ["this is no state_dict of an optimizer"]),
}


@pytest.mark.parametrize("change, texts", BAD_STATES.values(), ids=BAD_STATES)
def test_a_state_that_does_not_fit_is_refused_whole(change, texts):
    optimizer = small_adam()
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match="Adam.load_state_dict: nothing was loaded, since") as error:
        optimizer.load_state_dict(changed(change))
    assert all(text in str(error.value) for text in texts), str(error.value)
    assert "\n" not in str(error.value)
    np.testing.assert_equal(optimizer.state_dict(), before)


# --- clipping ---------------------------------------------------------------------------------------------------


def with_gradients(*gradients, dtype="float64"):
    params = [ndl.Tensor(np.zeros(np.shape(g)), dtype=dtype) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.grad = ndl.Tensor(g, dtype=dtype)
    return params


def test_clip_grad_norm_scales_all_gradients_by_one_factor():
    params = [*with_gradients([3.0, 0.0], [[4.0]], 12.0), ndl.Tensor([1.0])]
    before = [p.grad for p in params]
    assert optim.clip_grad_norm(iter(params), np.float64(6.5)) == 13
    assert [p.grad.tolist() for p in params[:3]] == [[1.5, 0], [[2.0]], 6.0] and params[3].grad is None
    assert [g.tolist() for g in before[:3]] == [[3.0, 0], [[4.0]], 12.0]
    assert optim.clip_grad_norm(params, 6.5) == 6.5
    assert optim.SGD(params).clip_grad_norm(1.0) == 6.5
    assert optim.Adam(params).clip_grad_norm() == 1.0
    assert optim.clip_grad_norm(params[0], 1.0) == pytest.approx(0.25 * 3 / 13)
    assert optim.clip_grad_norm([], 1.0) == 0


def test_small_gradients_are_not_touched():
    (p,) = with_gradients([0.3, 0.4])
    before = p.grad
    assert optim.clip_grad_norm([p], 0.5) == 0.5 and p.grad is before


def test_clipping_in_float32_overflows_nowhere_and_stays_float32():
    (p,) = with_gradients([3e30, 4e30], dtype="float32")
    assert optim.clip_grad_norm([p], 5.0) == pytest.approx(5e30)
    np.testing.assert_allclose(p.grad.numpy(), [3, 4], rtol=1e-6)
    assert p.grad.dtype == "float32"


def test_clip_grad_value_limits_every_entry():
    params = [*with_gradients([3.0, -5.0, 0.5]), ndl.Tensor([1.0])]
    before = params[0].grad
    optim.clip_grad_value(params, 2)
    assert params[0].grad.tolist() == [2.0, -2.0, 0.5] and before.tolist() == [3.0, -5.0, 0.5]


@pytest.mark.oracle
def test_clipping_equals_that_of_pytorch():
    torch = pytest.importorskip("torch")
    gradients = [np.random.randn(3, 4), np.random.randn(5)]
    ours = with_gradients(*gradients)
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 2.0)
    assert optim.clip_grad_norm(ours, 2.0) == pytest.approx(norm.item(), rel=1e-14)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6)  # it adds 1e-6 to the norm


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_scales_no_other(bad):
    params = with_gradients([3.0, 4.0], [bad, 1.0])
    with pytest.raises(ValueError, match=r"clip_grad_norm: gradient 1 of 2, \(2,\) float64, has the norm (nan|inf)"):
        optim.clip_grad_norm(params, 1.0)
    assert params[0].grad.tolist() == [3.0, 4.0]


# --- RMSprop ----------------------------------------------------------------------------------------------------


def test_gradients_that_do_not_vary_have_a_spread_of_zero_not_below():
    p = ndl.Tensor(np.zeros(50))
    optimizer = optim.RMSprop([p], alpha=0.7, centered=True, eps=1.0)
    p.grad = ndl.Tensor(np.linspace(0.1, 3, 50))
    for _ in range(200):
        optimizer.step()
    assert np.isfinite(p.numpy()).all()


# --- Muon -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    matrix = np.random.randn(*shape)
    near_polar = optim.muon.orthogonalize(ndl.Tensor(matrix), steps=10).numpy()
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    values = np.linalg.svd(near_polar, compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.3
    assert np.abs(left.T @ near_polar @ right.T - np.diag(values)).max() < 0.5


def test_muon_survives_a_gradient_of_zeros():
    p = ndl.Tensor(np.ones((2, 3)))
    p.grad = ndl.Tensor(np.zeros((2, 3)))
    optim.Muon([p], lr=0.1, weight_decay=0).step()
    assert np.array_equal(p.numpy(), np.ones((2, 3)))


# --- bad input --------------------------------------------------------------------------------------------------


def leaf(*shape):
    return ndl.Tensor(np.ones(shape or (3,)))


SAME = leaf()
BAD = {
    "lr": (lambda: optim.Adam([leaf()], lr=-0.1), "Adam: lr must be >= 0, got -0.1"),
    "infinite lr": (lambda: optim.Adam([leaf()], lr=float("inf")), "Adam: lr must be >= 0, got inf"),
    "lr as text": (lambda: optim.Adam([leaf()], lr="0.1"), "Adam: lr must be a number >= 0, got '0.1'"),
    "beta1": (lambda: optim.Adam([leaf()], beta1=1.0), "Adam: beta1 must be in [0, 1), got 1.0"),
    "beta2": (lambda: optim.Lion([leaf()], beta2=-0.5), "Lion: beta2 must be in [0, 1), got -0.5"),
    "betas by place": (lambda: optim.AdamW([leaf()], 0.1, (0.9, 0.99)), "AdamW: beta1 must be a number in [0, 1)"),
    "betas": (lambda: optim.AdamW([leaf()], betas=0.9), "betas must be two numbers in [0, 1), got 0.9"),
    "eps": (lambda: optim.AdamW([leaf()], eps=-1), "AdamW: eps must be >= 0, got -1"),
    "decay": (lambda: optim.Adagrad([leaf()], weight_decay=-1), "Adagrad: weight_decay must be >= 0, got -1"),
    "alpha": (lambda: optim.RMSprop([leaf()], alpha=float("nan")), "RMSprop: alpha must be in [0, 1), got nan"),
    "ns_steps": (lambda: optim.Muon([leaf(2, 2)], ns_steps=0), "Muon: ns_steps must be >= 1 and whole, got 0"),
    "part of a step": (
        lambda: optim.Muon([leaf(2, 2)], ns_steps=2.5),
        "Muon: ns_steps must be a number >= 1 and whole",
    ),
    "flag": (lambda: optim.SGD([leaf()], nesterov="no"), "SGD: nesterov must be a number True or False, got 'no'"),
    "nesterov": (lambda: optim.SGD([leaf()], nesterov=True), "SGD: nesterov needs a momentum above 0"),
    "nesterov, damped": (
        lambda: optim.SGD([leaf()], momentum=0.9, nesterov=True, dampening=0.5),
        "SGD: nesterov needs dampening None or 0, got 0.5",
    ),
    "constants": (lambda: optim.SGD([ndl.zeros(3), ndl.ones(2)]), "SGD: none of the parameters requires a gradient"),
    "nothing": (lambda: optim.SGD([]), "SGD: got no parameters; was the generator of parameters used up before?"),
    "twice": (lambda: optim.SGD([leaf(), SAME, SAME]), "SGD: parameter 2 is parameter 1 again; give each one once"),
    "twice over groups": (
        lambda: optim.SGD([{"params": [SAME]}, {"params": [leaf(), SAME]}]),
        "SGD: parameter 2 is parameter 0 again",
    ),
    "no leaf": (lambda: optim.Adam([leaf() * 2]), "Adam: parameter 0 is the result of an op, wanted a leaf Tensor"),
    "no tensor": (lambda: optim.Adam([leaf(), 3.0]), "Adam: parameter 1 is a float, wanted a leaf Tensor"),
    "one group alone": (lambda: optim.Adam({"params": [leaf()]}), "Adam: wanted the parameters in a list or another"),
    "whole numbers": (lambda: optim.SGD([ndl.Tensor([1, 2])]), "SGD: parameter 0 is of dtype int64, wanted floating"),
    "group without": (lambda: optim.SGD([{"lr": 0.1}]), "SGD: parameter group 0 has no 'params'"),
    "misspelt": (
        lambda: optim.SGD([{"params": [leaf()], "weigth_decay": 1}]),
        "SGD: has no option 'weigth_decay'; it has lr, momentum, weight_decay, nesterov, dampening",
    ),
    "no matrices": (
        lambda: optim.Muon([leaf(2, 2), leaf(3), leaf(1, 2, 3)]),
        "Muon: wanted matrices, got parameter 1 (3,), 2 (1, 2, 3); give parameters of other shapes to AdamW",
    ),
    "set later": (lambda: setattr(optim.SGD([leaf()]), "lr", -1), "SGD: lr must be >= 0, got -1"),
    "max_norm": (lambda: optim.clip_grad_norm([leaf()], -1), "clip_grad_norm: max_norm must be >= 0, got -1"),
    "clip_value": (
        lambda: optim.clip_grad_value([leaf()], float("nan")),
        "clip_grad_value: clip_value must be >= 0, got nan",
    ),
}


@pytest.mark.parametrize("call, text", BAD.values(), ids=BAD)
def test_bad_input(call, text):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert text in str(error.value)


def test_what_goes_wrong_later_is_told_at_the_step():
    p = leaf(2, 3)
    optimizer = optim.Adam([leaf(), p])
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="Adam: lr must be >= 0, got -1.0"):
        optimizer.step()
    optimizer.lr = 0.1
    p.grad = leaf(3, 2)
    with pytest.raises(ValueError, match=r"Adam: parameter 1 has shape \(2, 3\), but its gradient has \(3, 2\)"):
        optimizer.step()
    p.grad = leaf(2, 3)
    optimizer.step()
    p.data = leaf(4)
    p.grad = leaf(4)
    with pytest.raises(ValueError, match=r"parameter 1 has shape \(4,\), but m, which is remembered of it, \(2, 3\)"):
        optimizer.step()


def test_a_step_counter_that_does_not_fit_leaves_the_old_state():
    w = ndl.Tensor([1.0])
    adam = optim.Adam([w], lr=0.1)
    (w * w).sum().backward()
    adam.step()
    saved = adam.state_dict()
    with pytest.raises(ValueError, match="nothing was loaded.*fits into int64"):
        adam.load_state_dict({"groups": saved["groups"], "state": [{**saved["state"][0], "step": 2**70}]})
    assert adam.state_dict()["state"][0]["step"] == 1


def test_a_parameter_takes_the_memory_order_of_its_gradient_once():
    w = ndl.Tensor(np.ones((40, 3)))
    sgd, orders = optim.SGD([w], lr=0.1), []
    for _ in range(3):
        w.grad = ndl.Tensor.make_const(np.asfortranarray(np.full((40, 3), 0.5)))
        sgd.step()
        orders.append((w.cached_data.flags.f_contiguous, id(w.cached_data)))
    assert orders == [(True, orders[0][1])] * 3
    np.testing.assert_allclose(w.numpy(), 0.85)
