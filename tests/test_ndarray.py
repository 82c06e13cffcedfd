"""NDArray by the course's contract, fact by fact, on every device that is enabled: making, viewing, writing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ndarray_check import DEVICES, pair, same, strides_of

from needle import backend_ndarray as nd


@pytest.fixture(params=DEVICES)
def device(request):
    with nd.debug(True):
        yield request.param


# --- making and leaving NDArrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [[[1, 2], [3, 4]], np.arange(4).reshape(2, 2), np.eye(4)[::2, ::2], 3, True])
def test_without_a_dtype_it_is_float32(device, given):
    for made in (nd.array(given, device=device), nd.NDArray(given, device=device), device.array(given)):
        same(made, np.array(given, dtype="float32"))
        assert made.dtype == "float32" and made.device == device and made.is_compact()


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int64", "uint8", "bool"])
def test_an_explicit_dtype_is_honoured(device, dtype):
    same(nd.array([[0, 1], [2, 3]], dtype=dtype, device=device), np.array([[0, 1], [2, 3]], dtype=dtype))
    assert nd.empty((2,), dtype, device=device).dtype == dtype
    assert nd.full((2,), 1, dtype, device=device).dtype == dtype
    same(nd.array([1.0, 0.0], device=device).astype(dtype), np.array([1, 0], dtype=dtype))


def test_what_holds_no_numbers_is_refused(device):
    for wrong in (["a"], [[1, 2], [3]], [1j], [None]):
        with pytest.raises((TypeError, ValueError)):
            device.array(wrong)
    with pytest.raises(TypeError, match="complex"):
        nd.array([1.0], device=device).astype("complex128")


def test_an_array_is_a_copy(device):
    values = np.zeros(3, "float32")
    a = nd.array(values, device=device)
    b = nd.NDArray(a)
    values[:] = 1
    a[:] = 2
    out = a.numpy()
    out[:] = 3
    assert a.numpy().tolist() == [2, 2, 2] and b.numpy().tolist() == [0, 0, 0]
    assert b._handle.ptr() != a._handle.ptr()
    assert device.owns(a) and device.owns(b)


def test_a_copy_of_an_ndarray_keeps_its_dtype_and_can_change_the_device(device):
    a = nd.array([1, 2], dtype="int64", device=nd.cpu_numpy())
    same(nd.NDArray(a, device=device), np.array([1, 2]))
    assert nd.NDArray(a, device=device).device == device
    moved = a.to(device)
    assert moved.device == device and moved.to(nd.cpu_numpy()).tolist() == [1, 2]
    assert a.to(nd.cpu_numpy()) is a


def test_make_allocates_and_looks(device):
    a = nd.NDArray.make((2, 3), device=device)
    assert a.shape == (2, 3) and a.strides == (3, 1) and a._offset == 0 and a._handle.size == 6
    a[:, :] = nd.array(np.arange(6).reshape(2, 3), device=device)
    b = nd.NDArray.make((2, 2), strides=(-3, 2), device=device, handle=a._handle, offset=3)
    assert b.numpy().tolist() == [[3, 5], [0, 2]] and b._handle is a._handle and b._is_view
    assert nd.NDArray.make((2, 2), strides=(5, 1), device=device)._handle.size == 7
    for strides, offset in (((3, 2), 2), ((-3, 1), 0), ((1, 1), -1)):
        with nd.debug(False), pytest.raises(IndexError, match="the buffer has 6"):
            nd.NDArray.make((2, 2), strides=strides, device=device, handle=a._handle, offset=offset)


def test_attributes(device):
    a = nd.array(np.zeros((2, 3)), device=device)
    assert a.shape == (2, 3) and a.strides == (3, 1) and a.ndim == 2 and a.size == 6 and a.nbytes == 24
    assert isinstance(a.shape, tuple) and isinstance(a.strides, tuple) and a.dtype == "float32"
    assert isinstance(a._handle.ptr(), int) and len(a) == 2
    zero = nd.array(1.5, device=device)
    assert zero.shape == () and zero.size == 1 and zero.item() == 1.5
    with pytest.raises(TypeError, match="has no length"):
        len(zero)


def test_one_element_is_a_number(device):
    a = nd.array([[2.5]], device=device)
    assert float(a) == 2.5 and int(a) == 2 and bool(a) and a.item() == 2.5 and a.tolist() == [[2.5]]
    assert not nd.array([0.0], device=device)
    for many in (nd.array([1, 2], device=device), nd.empty((0,), device=device)):
        for ask in (bool, float, int):
            with pytest.raises(ValueError, match="wanted one element"):
                ask(many)


def test_rows_can_be_walked(device):
    values, a = pair(device, 3, 2)
    rows = list(a)
    assert len(rows) == 3
    for row, wanted in zip(rows, values, strict=True):
        same(row, wanted)
    assert rows[1]._handle is a._handle
    with pytest.raises(TypeError, match="has no length"):
        iter(nd.array(1.0, device=device))


def test_repr_and_str(device):
    a = nd.array([1, 2], device=device)
    assert repr(a) == f"NDArray([1., 2.], device={device.name}())" and str(a) == "[1. 2.]"
    assert repr(a.astype("int64")) == f"NDArray([1, 2], dtype=int64, device={device.name}())"


def test_pickles_and_copies_stand_alone(device):
    values, a = pair(device, 3, 4, dtype="float64")
    view = a.permute((1, 0))[1:3, :]
    for made in (pickle.loads(pickle.dumps(view)), copy.copy(view), copy.deepcopy(view), view.copy()):
        same(made, values.T[1:3])
        assert made.device == device and made.is_compact() and made._handle.ptr() != a._handle.ptr()
        assert device.owns(made)


# --- views -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24,), (2, 12), (4, 6), (2, 1, 3, 4), (1, 2, 1, 3, 1, 4, 1), (-1,), (3, -1, 2)])
def test_reshape_is_a_view(device, shape):
    values, a = pair(device, 2, 3, 4)
    got = a.reshape(shape)
    same(got, values.reshape(shape))
    assert got._handle.ptr() == a._handle.ptr() and got.strides == strides_of(values.reshape(shape))
    same(a.reshape(*shape), values.reshape(shape))


def test_reshape_wants_a_compact_array_and_the_same_number_of_elements(device):
    values, a = pair(device, 2, 3, 4)
    for view in (a.permute((1, 0, 2)), a[:1, :, :], a.flip((0,)).permute((2, 1, 0))):
        with pytest.raises(ValueError, match="call .compact"):
            view.reshape((view.size,))
    same(np.reshape(a.permute((1, 0, 2)), (6, 4)), values.transpose(1, 0, 2).reshape(6, 4))
    same(nd.reshape(a.permute((1, 0, 2)), (6, 4)), values.transpose(1, 0, 2).reshape(6, 4))
    for wrong in ((5, 5), (-1, 5), (-1, -1), (23,), (-24,), (0, -1)):
        with pytest.raises(ValueError, match="do not fill"):
            a.reshape(wrong)


def test_permute_is_a_view(device):
    values, a = pair(device, 2, 3, 4)
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (-1, 0, 1)):
        got, wanted = a.permute(axes), values.transpose(axes)
        same(got, wanted)
        assert got.strides == strides_of(wanted) and got._handle.ptr() == a._handle.ptr()
    same(a.T, values.T)
    same(a.transpose(1, 0, 2), values.transpose(1, 0, 2))
    same(a.swapaxes(0, -1), values.swapaxes(0, -1))
    for wrong in ((0, 1), (0, 0, 1), (0, 1, 3)):
        with pytest.raises((ValueError, IndexError), match="axes|axis"):
            a.permute(wrong)


def test_broadcast_to_is_a_view_with_strides_of_zero(device):
    values, a = pair(device, 1, 3, 1)
    got = a.broadcast_to((2, 3, 4))
    same(got, np.broadcast_to(values, (2, 3, 4)))
    assert got.strides == (0, 1, 0) and got._handle.ptr() == a._handle.ptr()
    for wrong in ((2, 2, 4), (1, 3), (3, 1), (2, 1, 3, 1)):
        with pytest.raises(AssertionError, match="cannot be stretched"):
            a.broadcast_to(wrong)
    same(np.broadcast_to(a, (5, 2, 3, 4)), np.broadcast_to(values, (5, 2, 3, 4)))  # NumPy's rule adds axes
    with pytest.raises(ValueError, match="cannot be stretched"):
        np.broadcast_to(a, (2, 2, 4))
    with pytest.raises(ValueError, match="one element in several places"):
        got[:, :, :] = 1.0


SLICES = [
    (slice(None), slice(None), slice(None)),
    (1, 2, 3),
    (-1, -2, slice(None)),
    (slice(1, 3), slice(None, None, 2), slice(1, 4, 3)),
    (slice(0, 4, 3), slice(4, 5), slice(2, 3)),
    (slice(-3, -1), slice(-100, 100), slice(3, 3)),
    (slice(None, None, -1), slice(4, 0, -2), 0),
    (slice(2, 1), 0, slice(None, None, -3)),
]


@pytest.mark.parametrize("index", SLICES, ids=str)
def test_getitem_is_a_view_and_keeps_all_axes(device, index):
    values, a = pair(device, 4, 5, 6)
    kept = tuple(slice(i, i + 1 or None) if isinstance(i, int) else i for i in index)
    got, wanted = a[index], values[kept]
    same(got, wanted)
    assert got.ndim == 3 and got._handle is a._handle and got.strides == strides_of(wanted)
    if wanted.size:
        assert got._offset * 4 == wanted.ctypes.data - values.ctypes.data


def test_getitem_wants_one_int_or_slice_an_axis(device):
    _, a = pair(device, 4, 5)
    assert a[..., 1].shape == (4, 1) and a[...].shape == (4, 5) and a[np.int64(1), 0].shape == (1, 1)
    for wrong in (1, (1, 2, 3), slice(None)):
        with pytest.raises(IndexError, match="wanted 2 indices"):
            _ = a[wrong]
    for beyond in (4, -5):
        with pytest.raises(IndexError, match=f"index {beyond} is out of range for axis 0"):
            _ = a[beyond, 0]
    for foreign in ([0, 1], np.array([0]), None, 1.0, True):
        with pytest.raises(TypeError, match="device.getitem"):
            _ = a[foreign, 0]


def test_process_slice_gives_whole_numbers(device):
    _, a = pair(device, 4, 5)
    assert a.process_slice(slice(None), 1) == slice(0, 5, 1)
    assert a.process_slice(slice(-2, 100, 2), 0) == slice(2, 4, 2)
    assert a.process_slice(slice(1, -1), 1) == slice(1, 4, 1)


class Loud(nd.NDArray):
    """As a homework test has it: a subclass that looks at how it is indexed."""

    def __getitem__(self, idxs):
        self.seen.append(tuple(self.process_slice(s, i) for i, s in enumerate(idxs)))
        return super().__getitem__(idxs)

    seen: list = []


def test_it_can_be_subclassed_and_making_one_does_not_index(device):
    Loud.seen.clear()
    made = Loud(np.arange(6).reshape(2, 3), device=device)
    assert Loud.seen == [] and isinstance(made, Loud) and made.sum().item() == 15
    assert made[0:1, :].numpy().tolist() == [[0, 1, 2]]
    assert Loud.seen == [(slice(0, 1, 1), slice(0, 3, 1))]
    made[:, 0:1] = 5.0
    made.fill(2.0)
    assert Loud.seen == [(slice(0, 1, 1), slice(0, 3, 1))]
    assert type(copy.deepcopy(made)) is Loud


def test_as_strided_stays_within_the_buffer(device):
    values, a = pair(device, 6)
    same(a.as_strided((3, 2), (2, 1)), values.reshape(3, 2))
    same(a.as_strided((4, 3), (1, 1)), np.lib.stride_tricks.sliding_window_view(values, 3))
    for shape, strides in (((4, 2), (2, 1)), ((2,), (-1,))):
        with nd.debug(False), pytest.raises(IndexError, match="the buffer has 6"):
            a.as_strided(shape, strides)
    with pytest.raises(ValueError, match="strides"):
        a.as_strided((2, 2), (1,))


def test_compact(device):
    values, a = pair(device, 3, 4)
    assert a.is_compact() and a.compact() is a
    for view, wanted in ((a.permute((1, 0)), values.T), (a[1:3, :], values[1:3]), (a[:, ::-2], values[:, ::-2])):
        assert not view.is_compact()
        made = view.compact()
        same(made, wanted)
        assert made.is_compact() and made.strides == strides_of(np.ascontiguousarray(wanted))
        assert made._handle.ptr() != a._handle.ptr()


def test_flat_is_a_view_that_can_be_written_to(device):
    values, a = pair(device, 3, 4)
    pointer = a._handle.ptr()
    a.flat[5] += 2.0
    values.flat[5] += 2.0
    a.flat[-1] = 7.0
    values.flat[-1] = 7.0
    same(a, values)
    assert a.flat.shape == (12,) and a.flat[5].item() == values.flat[5] and a._handle.ptr() == pointer
    same(a[::-1, ::-1].flat, values[::-1, ::-1].ravel())
    turned, wanted = a.permute((1, 0)), values.T
    turned.flat[4] += 1.0
    wanted.flat[4] += 1.0
    same(a, values)
    assert len(turned.flat) == 12 and turned.flat[-1].item() == wanted.flat[-1]
    with pytest.raises(IndexError):
        turned.flat[12] = 0.0


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", SLICES, ids=str)
def test_setitem(device, index):
    kept = tuple(slice(i, i + 1 or None) if isinstance(i, int) else i for i in index)
    values, a = pair(device, 4, 5, 6)
    pointer = a._handle.ptr()
    a[index] = 2.5
    values[kept] = 2.5
    same(a, values)
    source, b = pair(device, *values[kept].shape[::-1])
    a[index] = b.permute((2, 1, 0))
    values[kept] = source.T
    same(a, values)
    assert a._handle.ptr() == pointer


def test_setitem_takes_as_many_elements_of_another_shape_or_what_broadcasts(device):
    values, a = pair(device, 2, 3)
    _, six = pair(device, 6)
    a[:, :] = six
    same(a, six.numpy().reshape(2, 3))
    _, row = pair(device, 3)
    a[:, :] = row
    same(a, np.broadcast_to(row.numpy(), (2, 3)))
    a[0, :] = np.float64(3)
    assert a.numpy()[0].tolist() == [3, 3, 3] and a.dtype == "float32"
    with pytest.raises(ValueError, match=r"4 elements of shape \(4,\) do not go into shape \(2, 3\)"):
        a[:, :] = nd.array([1, 2, 3, 4], device=device)
    with pytest.raises(TypeError, match="numpy.ndarray"):
        a[:, :] = values


def test_setitem_from_itself_reads_before_it_writes(device):
    for n in (5, 600):  # small and large arrays take different ways
        values, a = pair(device, n, n)
        a[1:, :] = a[:-1, :]
        values[1:] = values[:-1].copy()
        same(a, values)
        a[:, :] = a.permute((1, 0))
        same(a, values.T)
        a[::-1, :] = a
        same(a, values.T[::-1])


@pytest.mark.parametrize("operator", ["__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"])
def test_in_place_operators_write_into_the_memory(device, operator):
    values, a = np.full((3, 4), 2.0, "float32"), nd.full((3, 4), 2.0, device=device)
    pointer, view = a._handle.ptr(), a[1:, ::2]
    for target, wanted in ((a, values), (view, values[1:, ::2])):
        for other in (3.0, np.arange(1, target.shape[1] + 1, dtype="float32")):
            theirs = nd.array(other, device=device) if isinstance(other, np.ndarray) else other
            assert getattr(target, operator)(theirs) is target
            getattr(wanted, operator)(other)
    same(a, values)
    assert a._handle.ptr() == pointer


def test_in_place_operators_keep_shape_and_dtype(device):
    a = nd.array([[1, 2, 3]], dtype="int64", device=device)
    with pytest.raises(TypeError, match="float64 does not go into an array of dtype int64"):
        a += 0.5
    with pytest.raises(ValueError, match="does not fit"):
        a += nd.array([[1], [2]], dtype="int64", device=device)
    for n in (3, 600):  # small and large arrays take different ways
        values, b = pair(device, n, n)
        b += b.permute((1, 0))
        same(b, values + values.T)
    c = nd.array([1.0, 2.0], device=device)
    c += nd.array([0.5, 0.5], dtype="float64", device=device)
    same(c, np.array([1.5, 2.5], "float32"))


def test_fill(device):
    a = nd.empty((2, 3), device=device)
    a.fill(3)
    a[:, 1:2].fill(-1.0)
    assert a.tolist() == [[3, -1, 3], [3, -1, 3]]


# --- numbers, empty arrays, slices again -------------------------------------------------------------------------


def test_numbers_that_a_dtype_does_not_hold_raise_as_numpy_s(device):
    for given, dtype in [([300], "int8"), ([-1], "uint8"), (300, "int8"), ([[1], [2**40]], "int32")]:
        with pytest.raises(OverflowError):
            np.array(given, dtype)
        with pytest.raises(OverflowError, match="out of bounds"):
            nd.array(given, dtype, device=device)
    assert nd.array([1.5, 2], "int8", device=device).numpy().tolist() == [1, 2]
    assert nd.array(np.array([300]), "int8", device=device).numpy().tolist() == [44]  # of an array, as astype


def test_rows_and_views_of_nothing(device):
    assert [row.shape for row in nd.array(np.zeros((3, 0)), device=device)] == [(0,)] * 3
    nothing = nd.NDArray.make((0,), device=device, handle=device.Array(10), offset=100)
    assert nothing.numpy().tolist() == [] and (nothing + 1).shape == (0,) and nothing.sum().item() == 0


def test_a_slice_that_was_processed_chooses_the_same_again(device):
    values, a = pair(device, 5)
    ends = [None, *range(-7, 8)]
    for part in (slice(i, j, k) for i in ends for j in ends for k in (None, 1, 2, -1, -3)):
        whole = a.process_slice(part, 0)
        assert all(type(n) is int for n in (whole.start, whole.stop, whole.step))
        assert values[whole].tolist() == values[part].tolist() == a[whole].numpy().tolist() == a[part].numpy().tolist()


def test_flat_of_a_view_that_no_stride_reaches(device):
    values, a = pair(device, 3, 4)
    turned, flat = values.T.copy(), a.T.flat
    for part in (slice(None), slice(1, 7, 2), slice(None, None, -1), slice(3, 3)):
        same(flat[part], turned.flat[part])
    if device.name != "cuda":
        assert np.array_equal(np.array(flat), turned.ravel()) and np.array(flat).shape == (12,)
    flat[2:5] = 7.0
    turned.flat[2:5] = 7.0
    flat[::-4] = nd.array([1.0, 2.0, 3.0], device=device)
    turned.flat[::-4] = [1.0, 2.0, 3.0]
    same(a.T.compact(), turned)


class Named(nd.NDArray):
    """A subclass with an attribute of its own."""

    def __init__(self, other, device, names):
        super().__init__(other, device)
        self.names = names


def test_attributes_of_a_subclass_are_copied_and_pickled(device):
    made = Named([1.0, 2.0], device, ["a", "b"])
    for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert type(twin) is Named and twin.names == ["a", "b"] and twin.numpy().tolist() == [1.0, 2.0]
        assert twin.device == device and made.device.storage(twin) is not made.device.storage(made)
    assert copy.copy(made).names is made.names and copy.deepcopy(made).names is not made.names


def test_arrays_out_of_nothing():
    for made, wanted in [
        (nd.zeros((2, 3)), np.zeros((2, 3))),
        (nd.ones((2,), device=nd.cpu_numpy()), np.ones(2)),
        (nd.arange(4), np.arange(4)),
        (nd.eye(3, dtype="float64"), np.eye(3)),
    ]:
        assert isinstance(made, nd.NDArray)
        np.testing.assert_array_equal(made.numpy(), wanted)
    assert (nd.zeros(2).dtype, nd.eye(3, dtype="float64").dtype) == ("float32", "float64")


def test_there_is_one_gpu():
    assert nd.cuda(0) == nd.cuda()
    with pytest.raises(ValueError, match="the first GPU alone"):
        nd.cuda(1)
