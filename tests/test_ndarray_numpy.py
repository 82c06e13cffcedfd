"""NumPy's functions and indices on NDArray, and memory shared with others."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from ndarray_check import DEVICES, ON_CPU, pair, same, strides_of

from needle import backend_ndarray as nd
from needle.backend_ndarray import ndarray_backend_numpy, views
from needle.backend_ndarray.strided import look


@pytest.fixture(params=DEVICES)
def device(request):
    with nd.debug(True):
        yield request.param


@pytest.fixture(params=ON_CPU)
def host(request):
    with nd.debug(True):
        yield request.param


# --- NumPy's functions -------------------------------------------------------------------------------------------

FUNCTIONS = {
    "where": lambda a: np.where(np.greater(a, 0), a, 0),
    "where of numbers": lambda a: np.where(np.isfinite(a), 1, a),
    "concatenate": lambda a: np.concatenate([a, a * 2], axis=1),
    "stack": lambda a: np.stack((a, a[::-1, :]), axis=1),
    "split": lambda a: np.split(a, 2, axis=1)[1],
    "pad": lambda a: np.pad(a, ((1, 2), (0, 1))),
    "cumsum": lambda a: np.cumsum(a, axis=1),
    "sort": lambda a: np.sort(a, axis=0),
    "argsort": lambda a: np.argsort(a, axis=1, kind="stable"),
    "einsum": lambda a: np.einsum("ij,kj->ik", a, a),
    "tri": lambda a: np.tril(a),
    "diagonal": lambda a: np.diagonal(a),
    "roll": lambda a: np.roll(a, 1, axis=1),
    "squeeze": lambda a: np.squeeze(a[0:1, :], 0),
    "expand_dims": lambda a: np.expand_dims(a, 1),
    "moveaxis": lambda a: np.moveaxis(a, 0, 1),
    "nan_to_num": lambda a: np.nan_to_num(a, nan=1.0),
    "copysign": lambda a: np.copysign(1.0, a),
    "clip": lambda a: np.clip(a, -1, 1),
    "take": lambda a: np.take(a, [1, 0], axis=1),
    "outer": lambda a: np.multiply.outer(a, a),
    "accumulate": lambda a: np.add.accumulate(a, axis=1),
    "add.reduce": lambda a: np.add.reduce(a),
    "maximum.reduce": lambda a: np.maximum.reduce(a, axis=1),
    "sum initial": lambda a: np.sum(a, axis=0, initial=2.0),
    "add where": lambda a: np.add(a, 1.0, where=np.less(a, 1e9), out=np.zeros_like(a)),
    "add dtype": lambda a: np.add(a, 1.0, dtype="float64"),
    "median": lambda a: np.median(a, axis=0),
    "std": lambda a: np.std(a, axis=0),
    "zeros_like": lambda a: np.zeros_like(a, dtype="int64"),
    "ones_like": lambda a: np.ones_like(a.T, shape=(2, 2)),
    "full_like": lambda a: np.full_like(a, 3.5),
    "copy": lambda a: np.copy(a[:, ::2]),
    "transpose": lambda a: np.transpose(a, (1, 0)),
    "qr": lambda a: abs(np.linalg.qr(a).R),
    "modf": lambda a: np.modf(a)[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy_give_ndarrays(host, name):
    values, a = pair(host, 4, 6)
    got, wanted = FUNCTIONS[name](a), FUNCTIONS[name](values)
    same(got, np.asarray(wanted), 1e-5)
    assert got.device == host
    same(a, values)


def test_numpy_s_views_are_views(host):
    values, a = pair(host, 4, 6)
    for view in (np.transpose(a), np.squeeze(a[0:1, :]), np.moveaxis(a, 0, 1), np.split(a, 2)[1], np.diagonal(a)):
        assert view._handle is a._handle and not view.device.owns(view)
    np.split(a, 2)[1][:, :] = 0.0
    assert not a.numpy()[2:].any() and a.numpy()[:2].all()
    fresh = np.concatenate([a, a])
    assert fresh.device.owns(fresh)


def test_out_is_written_to_and_comes_back(host):
    values, a = pair(host, 3, 4)
    out = nd.empty((3, 4), device=host)
    assert np.multiply(a, 2.0, out=out) is out
    same(out, values * 2)
    view = out[:, ::-1]
    assert np.exp(a, out=view) is view
    same(out[:, ::-1], np.exp(values))
    assert np.add(1.0, 2.0, out=out[:1, :]).tolist() == [[3.0] * 4]
    assert np.cumsum(a, axis=1, out=out) is out
    same(out, np.cumsum(values, axis=1))
    for call in (lambda o: np.add(a, 1.0, out=o), lambda o: np.cumsum(a, axis=1, out=o)):
        with pytest.raises(ValueError, match="one element in several places"):
            call(nd.full((3, 1), 0.0, device=host).broadcast_to((3, 4)))


def test_answers_that_are_no_arrays_pass_through(host):
    _, a = pair(host, 3, 4)
    assert np.shape(a) == (3, 4) and np.ndim(a) == 2 and np.size(a) == 12
    assert np.allclose(a, a.copy()) and np.array_equal(a, a) and np.result_type(a, 1.0) == "float32"
    assert np.iscomplexobj(a) is False


def test_numpy_reads_it_as_a_copy(device):
    values, a = pair(device, 3, 4)
    for got in (np.array(a), np.asarray(a.T).T, np.asarray(a, dtype="float64")):
        np.testing.assert_allclose(got, values)
        got[:] = 0
    np.testing.assert_allclose(a, values)
    np.testing.assert_array_equal(a, values)
    assert np.array([a, a]).shape == (2, 3, 4) and np.asarray(a, dtype="float64").dtype == "float64"
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(a, copy=False)


def test_dlpack_shares_the_memory(host):
    values, a = pair(host, 3, 4)
    theirs = np.from_dlpack(a.T)
    assert not host.owns(a)
    a[0, 0] = 9.0
    assert theirs[0, 0] == 9.0 and theirs.shape == (4, 3)
    for given in (values, values.T, values[1:, ::-2], values[::-1, 1], values[:0]):
        mine = host.from_dlpack(given)
        same(mine, given)
        assert mine.strides == strides_of(given) or not given.size
        assert not host.owns(mine)
        if given.size:
            given[(0,) * given.ndim] = 5.0
            assert mine.numpy()[(0,) * given.ndim] == 5.0


@pytest.mark.oracle
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_dlpack_with_torch(host):
    torch = pytest.importorskip("torch")
    t = torch.arange(6.0).reshape(2, 3)
    a = host.from_dlpack(t.T)
    t[0, 1] = 9.0
    same(a, t.numpy().T)
    back = torch.from_dlpack(a)
    a[2, 1] = -1.0
    assert back[2, 1] == -1 and t[1, 2] == -1


# --- NumPy's indexing, by the device -----------------------------------------------------------------------------

INDICES = [
    0,
    (1, -1),
    (1, 2, 3),
    slice(None, None, -1),
    (Ellipsis, 0),
    (None, slice(1, 3)),
    [2, 0, 2],
    ([1, 0], [2, 2]),
    (slice(None), [0, 2, 2], 1),
    np.array([[0, 1], [3, 3]]),
    np.array([True, False, True, True]),
    (slice(None), np.array([True, False, True])),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_getitem_and_setitem_by_numpy_s_rules(device, index):
    values, a = pair(device, 4, 3, 5)
    same(device.getitem(a, index), np.asarray(values[index]))
    same(device.getitem(a.T, 0), values.T[0])
    a_index = nd.array(index, dtype=index.dtype, device=device) if isinstance(index, np.ndarray) else index
    same(device.getitem(a, a_index), np.asarray(values[index]))
    added, target = values.copy(), a.copy()
    np.add.at(added, index, 1.5)
    device.add_at(target, a_index, 1.5)
    same(target, added)
    values[index] = 2.0
    device.setitem(a, a_index, 2.0)
    same(a, values)


def test_setitem_with_repeated_places_keeps_the_last_value_and_add_at_adds_them(host):
    a = nd.full((3,), 0.0, device=host)
    host.setitem(a, [1, 1, 2], nd.array([5.0, 6.0, 7.0], device=host))
    assert a.tolist() == [0, 6, 7]
    host.add_at(a, nd.array([1, 1, 0], dtype="int64", device=host), nd.array([1.0, 2.0, 3.0], device=host))
    assert a.tolist() == [3, 9, 7]
    view = a[::-1]
    host.add_at(view, [0], 1.0)
    assert a.tolist() == [3, 9, 8]
    basic = host.getitem(a, slice(1, None))
    assert basic._handle is a._handle
    for call in (host.setitem, host.add_at):
        with pytest.raises(ValueError, match="one element in several places"):
            call(a[0].broadcast_to((3,)), 0, 1.0)
        with pytest.raises(TypeError, match="does not mix"):
            call(a, 0, np.ones(1))
    with pytest.raises(IndexError):
        host.getitem(a, 3)


# --- debug mode --------------------------------------------------------------------------------------------------


def test_debug_checks_every_view_and_marks_what_is_unwritten():
    handle = ndarray_backend_numpy.Array(6)
    with nd.debug(True):
        with pytest.raises(IndexError, match="the buffer has 6"):
            look(nd.cpu_numpy(), handle, (7,), (1,), 0)
        assert np.isnan(nd.empty((3,), device=nd.cpu_numpy()).numpy()).all()
        with nd.debug(False):
            assert look(nd.cpu_numpy(), handle, (7,), (1,), 0).shape == (7,)
        assert views.debug.on
    assert not views.debug.on


@pytest.mark.parametrize(
    "shape, strides, offset, reach",
    [((), (), 3, (3, 3)), ((2, 3), (3, 1), 0, (0, 5)), ((3,), (-2,), 5, (1, 5)), ((0, 9), (1, 1), 7, (0, -1))],
)
def test_span(shape, strides, offset, reach):
    assert views.span(shape, strides, offset) == reach


@pytest.mark.parametrize(
    "shape, strides, step",
    [
        ((2, 3), (3, 1), 1),
        ((2, 3), (1, 2), None),
        ((2, 3), (6, 1), None),
        ((1, 3), (9, 2), 2),
        ((3,), (-1,), -1),
        ((2,), (0,), 0),
        ((), (), 1),
    ],
)
def test_one_stride(shape, strides, step):
    assert views.one_stride(shape, strides) == step


def test_compact_strides():
    assert views.compact_strides((2, 3, 4)) == (12, 4, 1)
    assert views.compact_strides((2, 0, 3)) == (3, 3, 1) and views.compact_strides(()) == ()


# --- what NumPy's functions give and write -----------------------------------------------------------------------


def test_results_whose_numbers_lie_apart(host):
    values, a = pair(host, 3, 4)
    values[1, 2] = a[1, 2] = 0.0
    for got, wanted in zip(np.nonzero(a), np.nonzero(values), strict=True):
        same(got, wanted)
        same(got + 1, wanted + 1)
    for got, wanted in zip(np.where(np.greater(a, 0)), np.where(values > 0), strict=True):
        same(got, wanted)
        assert got.is_compact() and got.device.storage(got).array.flags.c_contiguous
    apart = host.mod.adopt(np.arange(10.0)[::2])
    assert host.mod.to_numpy(apart, (5,), (1,), 0).tolist() == [0, 2, 4, 6, 8]


def test_like_functions_take_numpy_s_arguments_in_numpy_s_order(host):
    _, a = pair(host, 2, 3)
    same(np.full_like(a, 1, "float64"), np.ones((2, 3)))
    same(np.full_like(a, fill_value=2.5), np.full((2, 3), 2.5, "float32"))
    same(np.zeros_like(a, "int32"), np.zeros((2, 3), "int32"))
    same(np.ones_like(a, "bool", "C", True, (4,)), np.ones(4, "bool"))
    assert np.empty_like(a, "int16", shape=(0, 2)).dtype == "int16"


@pytest.mark.parametrize("order", ["C", "F", "A"])
def test_reshape_in_an_order_of_numpy_s(host, order):
    values, a = pair(host, 4, 6)
    same(np.reshape(a, (3, 8), order), np.reshape(values, (3, 8), order))
    same(np.reshape(a[:, ::2], (3, 4), order=order), np.reshape(values[:, ::2], (3, 4), order=order))


def test_nothing_is_written_through_a_view_that_shows_an_element_twice(host):
    a = nd.array([1.0, 2.0], device=host)
    wide = np.broadcast_to(a, (3, 2))
    writes = [
        lambda: np.add.at(wide, 0, 1.0),
        lambda: np.copyto(wide, 5.0),
        lambda: np.copyto(src=5.0, dst=wide),
        lambda: np.put(wide, [0], 5.0),
        lambda: np.putmask(wide, np.less(wide, 2), 5.0),
        lambda: np.place(wide, np.less(wide, 2), 5.0),
        lambda: np.fill_diagonal(wide, 5.0),
        lambda: np.put_along_axis(wide, host.array([[0]], "int64"), 5.0, 1),
    ]
    for write in writes:
        with pytest.raises(ValueError, match="show one element in several places"):
            write()
    assert a.numpy().tolist() == [1.0, 2.0]
    np.copyto(a, 5.0)
    np.add.at(a, 0, 1.0)
    assert a.numpy().tolist() == [6.0, 5.0]
