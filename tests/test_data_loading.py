"""DataLoader, transforms and parts of datasets. The checks that data_mutants.py names take no fixtures."""

import json
import threading
import time

import data_mutants
import numpy as np
import pytest
import test_datasets
from data_mutants import MUTANTS, broken

import needle as ndl
from needle.data import (
    Compose,
    DataLoader,
    Dataset,
    NDArrayDataset,
    Normalize,
    RandomCrop,
    RandomFlipHorizontal,
    Subset,
    ToTensor,
    Transform,
    random_source,
    random_split,
)


def pairs(n=10):
    """Item i is (row of three numbers around i, i): whether labels follow images can be seen."""
    return NDArrayDataset((np.arange(n)[:, None] + [0.0, 0.25, 0.5]).astype(np.float32), np.arange(n))


class Singly(Dataset):
    """Items made one by one, with transforms."""

    def __init__(self, n=10, transforms=None, shape=(4, 4, 1)):
        super().__init__(transforms)
        self.n, self.shape = n, shape

    def __getitem__(self, i):
        return self.apply_transforms(np.full(self.shape, i, np.float32)), i

    def __len__(self):
        return self.n


class Noise(Transform):
    """Adds one random number to the image."""

    def __call__(self, x):
        return x + np.float32(random_source().rand())


def numbers(loader):
    """The batches of one epoch, as nested lists."""
    return [[field.numpy().tolist() for field in batch] for batch in loader]


def labels(loader):
    return [batch[1].numpy().tolist() for batch in loader]


# ---- DataLoader: batches and their order


def test_batches_are_consecutive_chunks_with_the_partial_last_one():
    loader = DataLoader(pairs(10), 4)
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    assert labels(DataLoader(pairs(8), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert labels(DataLoader(Singly(5), 2)) == [[0, 1], [2, 3], [4]]


def test_drop_last_leaves_out_the_partial_batch_and_len_says_so():
    loader = DataLoader(pairs(10), 4, drop_last=True)
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(loader) == 2
    assert len(DataLoader(pairs(8), 4, drop_last=True)) == 2


def test_labels_follow_images_when_shuffled():
    for dataset in (pairs(20), Singly(20), Subset(pairs(30), range(5, 25)), test_datasets.small_mnist()):
        shift = 5 if isinstance(dataset, Subset) else 0
        seen = []
        for X, y in DataLoader(dataset, 6, shuffle=True):
            wanted = [np.asarray(dataset[int(i) - shift][0]) for i in y.numpy()]
            np.testing.assert_array_equal(X.numpy(), np.stack(wanted))
            seen += y.numpy().tolist()
        assert sorted(seen) == list(range(shift, shift + 20)) and seen != sorted(seen)


def test_shuffling_draws_one_permutation_an_epoch_and_nothing_else():
    np.random.seed(7)
    loader = DataLoader(pairs(10), 10, shuffle=True)
    epochs = [labels(loader)[0] for _ in range(3)]
    after = np.random.rand()
    np.random.seed(7)
    assert epochs == [np.random.permutation(10).tolist() for _ in range(3)]
    assert after == np.random.rand()


def test_without_shuffling_nothing_is_drawn():
    np.random.seed(7)
    list(DataLoader(pairs(10), 3))
    list(DataLoader(Singly(10), 3))
    assert np.random.rand() == np.random.RandomState(7).rand()


def test_a_generator_is_drawn_from_instead_of_the_global_one():
    np.random.seed(7)
    made = DataLoader(pairs(10), 10, shuffle=True, generator=np.random.default_rng(3))
    got = labels(made)
    assert got == [np.random.default_rng(3).permutation(10).tolist()]
    assert np.random.rand() == np.random.RandomState(7).rand()


def test_needles_own_generator_shuffles():
    first, again, other = (
        labels(DataLoader(pairs(10), 10, shuffle=True, generator=ndl.Generator(s))) for s in (1, 1, 2)
    )
    assert first == again != other
    assert sorted(first[0]) == list(range(10))


def test_iter_resets_and_returns_the_loader():
    loader = DataLoader(pairs(6), 2)
    first = iter(loader)
    assert first is loader
    assert next(first)[1].numpy().tolist() == [0, 1]
    assert labels(loader) == [[0, 1], [2, 3], [4, 5]]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(loader)


def test_next_before_an_epoch_says_what_to_write():
    with pytest.raises(RuntimeError, match=r"no epoch has begun; write `for batch in loader`"):
        next(DataLoader(pairs(), 2))


def test_batches_are_tuples_of_tensors_without_gradient_that_keep_the_dtype():
    X, y = next(iter(DataLoader(pairs(), 4)))
    assert type(X) is ndl.Tensor and X.dtype == np.float32 and X.shape == (4, 3) and not X.requires_grad
    assert y.dtype == np.int64 and y.shape == (4,) and y.device == ndl.default_device()
    (only,) = next(iter(DataLoader(NDArrayDataset(np.arange(3)), 2)))
    assert isinstance(only, ndl.Tensor)
    (bare,) = next(iter(DataLoader([1.5, 2.5], 2)))
    assert bare.numpy().tolist() == [1.5, 2.5]


def test_writing_into_a_batch_leaves_the_dataset_alone():
    for dataset in (pairs(4), Singly(4)):
        (X, _) = next(iter(DataLoader(dataset, 4)))
        before = X.numpy()
        X.cached_data[:] = -1
        np.testing.assert_array_equal(next(iter(DataLoader(dataset, 4)))[0].numpy(), before)


def test_a_device_is_asked_for_the_tensors_arrays():
    class Recording(type(ndl.cpu())):
        def share(self, values):
            shared.append(values.shape)
            return super().share(values)

    shared = []
    list(DataLoader(pairs(4), 2, device=Recording()))
    assert shared == [(2, 3), (2,), (2, 3), (2,)]


def test_collate_makes_the_batch_and_its_arrays_become_tensors():
    ragged = [(np.arange(n), f"text {n}") for n in (1, 3, 2)]

    def pad(items):
        rows = np.zeros((len(items), max(len(x) for x, _ in items)))
        for row, (x, _) in zip(rows, items, strict=True):
            row[: len(x)] = x
        return rows, [text for _, text in items]

    batches = list(DataLoader(ragged, 2, collate=pad))
    assert isinstance(batches[0][0], ndl.Tensor)
    assert batches[0][0].numpy().tolist() == [[0, 0, 0], [0, 1, 2]] and batches[0][1] == ["text 1", "text 3"]
    assert list(DataLoader(ragged, 3, collate=len)) == [3]


def test_arrays_are_sliced_and_not_read_item_by_item():
    class Counting(np.ndarray):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    arrays, mnist, cifar = NDArrayDataset(np.arange(20)), test_datasets.small_mnist(), test_datasets.small_cifar()
    arrays.arrays = (arrays.arrays[0].view(Counting),)
    mnist.images, cifar.X = mnist.images.view(Counting), cifar.X.view(Counting)
    for dataset in (arrays, mnist, cifar):
        for whole in (dataset, Subset(dataset, range(20))):
            asked = []
            list(DataLoader(whole, 10, shuffle=True))
            assert [np.shape(index) for index in asked] == [(10,), (10,)]


def test_what_a_subclass_says_of_its_items_counts():
    class Doubled(NDArrayDataset):
        def __getitem__(self, i):
            return tuple(2 * field for field in super().__getitem__(i))

    assert numbers(DataLoader(Doubled(np.arange(4)), 4)) == [[[0, 2, 4, 6]]]
    assert numbers(DataLoader(Subset(Doubled(np.arange(4)), [1, 2]), 4)) == [[[2, 4]]]


def test_sixty_thousand_batches_of_one_are_quick():
    loader = DataLoader(NDArrayDataset(np.zeros((60_000, 28, 28, 1), np.uint8), np.zeros(60_000)), 1, shuffle=True)
    begin = time.perf_counter()
    assert sum(1 for _ in loader) == 60_000
    assert time.perf_counter() - begin < 5  # 0.3 s on a quiet machine


def test_a_dataset_can_be_gone_through():
    assert [i for _, i in Singly(3)] == [0, 1, 2]
    assert [int(i) for _, i in pairs(3)] == [int(i) for _, i in Subset(pairs(9), [0, 1, 2])] == [0, 1, 2]


# ---- DataLoader: bad input


class Empty(Singly):
    def __len__(self):
        return 0


BAD_LOADERS = {
    "empty": (lambda: DataLoader(Empty()), ValueError, "the dataset is empty, wanted at least one item"),
    "no arrays": (lambda: DataLoader(NDArrayDataset(np.zeros((0, 3)))), ValueError, "the dataset is empty"),
    "batch of 0": (lambda: DataLoader(pairs(), 0), ValueError, "batch_size must be at least 1, got 0"),
    "batch of -1": (lambda: DataLoader(pairs(), -1), ValueError, "batch_size must be at least 1, got -1"),
    "batch of 1.5": (lambda: DataLoader(pairs(), 1.5), TypeError, "batch_size must be a whole number, got 1.5"),
    "prefetch": (lambda: DataLoader(pairs(), prefetch=-1), ValueError, "prefetch must be at least 0, got -1"),
    "generator": (lambda: DataLoader(pairs(), generator=3), TypeError, r"must have permutation\(n\), got int"),
    "no length": (lambda: DataLoader(iter([1])), TypeError, "wanted a dataset with len.. and items by number"),
    "drop_last": (
        lambda: DataLoader(pairs(5), 10, drop_last=True),
        ValueError,
        "drop_last leaves no batch of 10 from 5 items",
    ),
}


@pytest.mark.parametrize("case", BAD_LOADERS)
def test_a_loader_that_cannot_work_says_so_at_once(case):
    make, kind, text = BAD_LOADERS[case]
    with pytest.raises(kind, match=text):
        make()


class Fields(Dataset):
    def __init__(self, *items):
        super().__init__()
        self.items = items

    def __getitem__(self, i):
        return self.items[i]

    def __len__(self):
        return len(self.items)


f4 = np.float32
BAD_ITEMS = {
    "fields": (Fields((1, 2), (1, 2, 3)), "item 1 has 3 fields, item 0 has 2; give every item the same fields"),
    "shape": (
        Fields((np.zeros((2, 2)),), (np.zeros((2, 3)),)),
        r"field 0 of item 1 has shape \(2, 3\), of item 0 \(2, 2\); its transforms must give one shape",
    ),
    "dtype": (
        Fields((1, np.zeros(2, f4)), (1, np.zeros(2))),
        "field 1 of item 1 has dtype float64, of item 0 float32; its transforms must give one dtype",
    ),
    "int and float": (Fields(1, 2.5), "field 0 of item 1 has dtype float64, of item 0 int64"),
    "text": (Fields("a", "b"), "field 0 has dtype <U1, wanted numbers or booleans; turn it into numbers"),
    "text in arrays": (NDArrayDataset([1, 2], ["a", "b"]), "field 1 has dtype <U1, wanted numbers or booleans"),
}


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("case", BAD_ITEMS)
def test_items_that_do_not_fit_together_are_named(case, prefetch):
    dataset, text = BAD_ITEMS[case]
    with pytest.raises((ValueError, TypeError), match=text):
        list(DataLoader(dataset, 2, prefetch=prefetch))


def test_a_transform_that_changes_the_dtype_now_and_then_is_caught():
    def sometimes(x):
        return x.astype(np.float64) if x.max() >= 2 else x

    loader = DataLoader(Singly(4, [sometimes]), 1)
    with pytest.raises(ValueError, match=r"batch 2 has fields of \(float64, int64\), those before had \(float32, int6"):
        list(loader)
    with pytest.raises(ValueError, match="field 0 of item 2 has dtype float64, of item 0 float32"):
        list(DataLoader(Singly(4, [sometimes]), 4))


def test_stop_iteration_in_an_item_is_not_the_end_of_the_epoch():
    class Ends(Singly):
        def __getitem__(self, i):
            return next(iter([]))

    for prefetch in (0, 1):
        with pytest.raises(RuntimeError, match="reading an item raised StopIteration"):
            list(DataLoader(Ends(), 2, prefetch=prefetch))


# ---- prefetch


def threads_of_loaders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("needle-batch")]


def no_thread_is_left():
    deadline = time.perf_counter() + 10
    while threads_of_loaders() and time.perf_counter() < deadline:
        time.sleep(0.005)
    return not threads_of_loaders()


def test_prefetching_gives_the_same_batches_and_leaves_no_thread():
    for dataset in (pairs(23), Singly(23)):
        for shuffle in (False, True):
            epochs = []
            for prefetch in (0, 1, 3, 50):
                loader = DataLoader(dataset, 4, shuffle, generator=np.random.default_rng(1), prefetch=prefetch)
                epochs.append(numbers(loader))
                assert len(loader) == len(epochs[-1]) == 6
            assert all(epoch == epochs[0] for epoch in epochs)
    assert no_thread_is_left()


def test_with_prefetch_items_draw_apart_whatever_the_timing():
    class Late(Noise):
        """The threads take turns at random."""

        def __call__(self, x):
            time.sleep(delays.random() / 1000)
            return super().__call__(x)

    delays = np.random.default_rng()
    epochs = []
    for prefetch, batch_size in ((1, 4), (4, 4), (3, 5)):
        np.random.seed(3)
        loader = DataLoader(Singly(20, [Late()], shape=()), batch_size, prefetch=prefetch)
        epochs.append([np.concatenate([batch[0].numpy() for batch in loader]) for _ in range(2)])
    for other in epochs[1:]:
        np.testing.assert_array_equal(other, epochs[0])
    drawn = (np.array(epochs[0]) - np.arange(20)).ravel()
    assert len(np.unique(drawn.round(6))) > 35  # every item of every epoch has its own number
    assert 0.3 < drawn.mean() < 0.7


def test_the_random_source_is_numpys_global_one_outside_prefetching():
    assert random_source() is np.random
    np.random.seed(3)
    got = np.concatenate([X.numpy() for X, _ in DataLoader(Singly(6, [Noise()], shape=()), 4)])
    want = np.arange(6) + np.random.RandomState(3).rand(6).astype(f4)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_prefetching_is_faster_where_the_transform_costs_something():
    def slow(x):
        time.sleep(0.004)  # like a file or an image codec: without the interpreter's lock
        return x

    def seconds(prefetch):
        begin = time.perf_counter()
        assert len(list(DataLoader(Singly(64, [slow]), 4, prefetch=prefetch))) == 16
        return time.perf_counter() - begin

    assert seconds(8) < 0.6 * seconds(0)  # an eighth and a bit on a quiet machine


def test_an_exception_of_a_reader_reaches_the_caller_and_leaves_no_thread():
    class Broken(Singly):
        def __getitem__(self, i):
            if i == 5:
                raise KeyError("no such thing")
            return super().__getitem__(i)

    loader = DataLoader(Broken(20), 2, prefetch=3)
    got = []
    with pytest.raises(KeyError, match="no such thing") as caught:
        got.extend(X.numpy()[0, 0, 0, 0] for X, _ in loader)
    assert got == [0, 2]
    assert any(entry.name == "__getitem__" for entry in caught.traceback)
    assert no_thread_is_left()
    with pytest.raises(KeyError):  # the same batch again, not the one after it
        next(loader)
    assert no_thread_is_left()


def test_an_epoch_abandoned_half_way_leaves_no_thread():
    loader = DataLoader(Singly(1000), 5, prefetch=4)
    for _ in loader:
        break
    assert no_thread_is_left()
    assert labels(loader)[0] == [0, 1, 2, 3, 4]
    del loader
    assert no_thread_is_left()


def test_a_new_epoch_tells_the_readers_of_the_old_one_to_stop():
    class Gate(Singly):
        def __getitem__(self, i):
            read.append(i)
            if i == 5:
                reached.set()
                assert gate.wait(10)
            return super().__getitem__(i)

    read, reached, gate = [], threading.Event(), threading.Event()
    loader = iter(DataLoader(Gate(1000), 4, prefetch=1))
    next(loader)
    assert reached.wait(10)
    iter(loader)
    gate.set()
    assert no_thread_is_left()
    assert read == [0, 1, 2, 3, 4, 5]


# ---- position: saved and taken up again


def resumed(make, at):
    """The rest of an epoch and the next one after `at` batches: gone on, and taken up by another loader."""
    loader = iter(make())
    for _ in range(at):
        next(loader)
    state, drawn = loader.state_dict(), np.random.get_state()
    wanted = [numbers_of_rest(loader), numbers(loader)]
    np.random.seed(999)
    again = make()
    again.load_state_dict(state)
    np.random.set_state(drawn)
    return [numbers(again), numbers(again)], wanted


def numbers_of_rest(loader):
    rest = []
    while True:
        try:
            rest.append([field.numpy().tolist() for field in next(loader)])
        except StopIteration:
            return rest


def test_a_loaders_position_is_saved_and_taken_up_to_the_bit():
    augment = [RandomCrop(1), RandomFlipHorizontal(), Noise()]
    kinds = [
        lambda: DataLoader(pairs(11), 3, shuffle=True),
        lambda: DataLoader(pairs(11), 3),
        lambda: DataLoader(Singly(11, augment), 3, shuffle=True),
        lambda: DataLoader(Singly(11, augment), 3, shuffle=True, prefetch=2),
        lambda: DataLoader(Singly(11, augment), 3, shuffle=True, prefetch=2, generator=np.random.default_rng(5)),
        lambda: DataLoader(pairs(11), 3, shuffle=True, generator=ndl.Generator(5)),
        lambda: DataLoader(pairs(11), 3, shuffle=True, generator=np.random.RandomState(5)),
    ]
    for make in kinds:
        for at in (0, 1, 3, 4):
            got, wanted = resumed(make, at)
            assert got == wanted
            assert len(got[0]) == 4 - at and len(got[1]) == 4


def test_between_epochs_the_state_is_a_fresh_start():
    loader = DataLoader(pairs(6), 2, shuffle=True, generator=np.random.default_rng(0))
    for epochs in (0, 1):
        for _ in range(epochs):
            list(loader)
        again = DataLoader(pairs(6), 2, shuffle=True, generator=np.random.default_rng(99))
        again.load_state_dict(loader.state_dict())
        assert numbers(again) == numbers(loader)


def test_a_state_survives_json():
    loader = iter(DataLoader(pairs(6), 2, shuffle=True, generator=ndl.Generator(3)))
    next(loader)
    state = loader.state_dict()
    text = json.dumps(state | {"order": state["order"].tolist()})
    again = DataLoader(pairs(6), 2, shuffle=True, generator=ndl.Generator(4))
    again.load_state_dict(json.loads(text))
    assert [numbers(again), numbers(again)] == [numbers_of_rest(loader), numbers(loader)]


def test_a_generator_whose_state_cannot_be_had_is_named():
    class Bare:
        def permutation(self, n):
            return np.arange(n)[::-1]

    loader = DataLoader(pairs(3), 3, shuffle=True, generator=Bare())
    assert labels(loader) == [[2, 1, 0]]
    with pytest.raises(TypeError, match="cannot save the state of a Bare; give it a property `state`"):
        loader.state_dict()


def state(n=6, batch_size=2, **more):
    loader = iter(DataLoader(pairs(n), batch_size, **more))
    next(loader)
    return loader.state_dict()


BAD_STATES = {
    "other length": (lambda: state(7, shuffle=True), "of items 7, this loader has 6"),
    "other batch size": (lambda: state(batch_size=3, shuffle=True), "of batch_size 3, this loader has 2"),
    "not shuffled": (lambda: state(), "of a loader without shuffle, this one is with"),
    "prefetch": (lambda: state(shuffle=True, prefetch=1), "of a loader with prefetch, this one is without"),
    "generator": (
        lambda: state(shuffle=True, generator=np.random.default_rng(0)),
        "of a loader with generator=, this one is without",
    ),
    "beyond the end": (lambda: state(shuffle=True) | {"batch": 4}, "is at batch 4, an epoch has 3"),
    "no permutation": (lambda: state(shuffle=True) | {"order": [0, 1, 2, 3, 4, 4]}, "no permutation of the items"),
    "entries": (lambda: {"batch": 1}, r"a state has the entries \[.*'order'\], got \['batch'\]"),
    "no dict": (lambda: 3, "a state has the entries .* got int"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_of_another_loader_is_refused_and_changes_nothing(case):
    make, text = BAD_STATES[case]
    loader = iter(DataLoader(pairs(6), 2, shuffle=True))
    rest = loader.state_dict()
    with pytest.raises(ValueError, match=text):
        loader.load_state_dict(make())
    assert sum(numbers_of_rest(loader), [])[1::2] == [rest["order"][i : i + 2].tolist() for i in (0, 2, 4)]


# ---- transforms

IMAGE = np.arange(5 * 4 * 2, dtype=np.float32).reshape(5, 4, 2)


def test_flip_changes_left_and_right_for_one_draw_below_p():
    for img in (IMAGE, IMAGE[..., 0]):
        np.testing.assert_array_equal(RandomFlipHorizontal(1.0)(img), np.flip(img, 1))
        np.testing.assert_array_equal(RandomFlipHorizontal(0.0)(img), img)
    for p_of_draw, flips in ((lambda r: r, False), (lambda r: np.nextafter(r, 1), True)):
        np.random.seed(1)
        flip = RandomFlipHorizontal(p_of_draw(np.random.RandomState(1).rand()))
        assert np.array_equal(flip(IMAGE), np.flip(IMAGE, 1)) == flips
    reference = np.random.RandomState(1)
    reference.rand(1)
    assert np.random.rand() == reference.rand()


def padded_and_cut(img, padding, rng):
    sx, sy = rng.randint(low=-padding, high=padding + 1, size=2)
    wide = np.pad(img, ((padding, padding), (padding, padding)) + ((0, 0),) * (img.ndim - 2))
    rows, columns = padding + sx, padding + sy
    return wide[rows : rows + img.shape[0], columns : columns + img.shape[1]]


def test_crop_is_zero_padding_and_cutting_out_again():
    for padding in (0, 1, 3, 9):
        np.random.seed(padding)
        reference = np.random.RandomState(padding)
        for img in [IMAGE, IMAGE[..., 0], IMAGE.astype(np.uint8)] * 8:
            np.testing.assert_array_equal(
                RandomCrop(padding)(img), padded_and_cut(img, padding, reference), strict=True
            )
        assert np.random.rand() == reference.rand()


def test_transforms_run_in_the_order_of_their_list():
    def double(x):
        return 2 * x

    def plus_one(x):
        return x + 1

    for transforms in ([double, plus_one], Compose([double, plus_one]), (double, plus_one)):
        assert Singly(4, transforms)[3][0].max() == 7
    assert Compose([plus_one, double])(3) == 8


def test_to_tensor_puts_channels_first_and_divides_bytes():
    img = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    x = ToTensor()(img)
    assert isinstance(x, ndl.Tensor) and x.dtype == np.float32 and x.shape == (3, 2, 4)
    for c in range(3):
        np.testing.assert_array_equal(x.numpy()[c], img[..., c].astype(f4) / f4(255))
    np.testing.assert_array_equal(ToTensor()(IMAGE).numpy(), np.moveaxis(IMAGE, -1, 0), strict=True)
    assert ToTensor()(IMAGE[..., 0]).shape == (1, 5, 4)


def test_normalize_takes_the_channels_where_they_are():
    mean, std = (10.0, 20.0), (2.0, 4.0)
    img = IMAGE[:, :2]  # as wide as it has channels: no shape tells the axes apart
    got = Normalize(mean, std)(img)
    for c in range(2):
        np.testing.assert_allclose(got[..., c], (img[..., c] - mean[c]) / std[c])
    assert got.dtype == np.float32
    after = Compose([ToTensor(), Normalize(mean, std)])(img)
    np.testing.assert_array_equal(after.numpy(), np.moveaxis(got, -1, 0), strict=True)
    np.testing.assert_allclose(Normalize(0.5, 0.25)(IMAGE), (IMAGE - 0.5) / 0.25)


def test_batches_of_tensors_are_stacked():
    X, y = next(iter(DataLoader(Singly(3, [ToTensor(), Normalize(1, 2)], shape=(4, 5, 2)), 3)))
    assert X.shape == (3, 2, 4, 5) and X.numpy()[:, 1, 3, 4].tolist() == [-0.5, 0, 0.5] and y.shape == (3,)


BAD_TRANSFORMS = {
    "flip p": (lambda: RandomFlipHorizontal(1.5), "RandomFlipHorizontal: p must lie in .0, 1., got 1.5"),
    "flip a flat row": (lambda: RandomFlipHorizontal()(np.zeros(784)), r"wanted an image .* of shape \(784,\)"),
    "crop a batch": (lambda: RandomCrop()(np.zeros((2, 3, 4, 1))), r"RandomCrop: wanted an image .* \(2, 3, 4, 1\)"),
    "crop padding": (lambda: RandomCrop(-1), "padding must be a whole number >= 0, got -1"),
    "crop a tensor": (lambda: RandomCrop()(ToTensor()(IMAGE)), r"got a Tensor; put ToTensor\(\) after it"),
    "a list for an image": (lambda: RandomCrop()([[1]]), "got a list"),
    "to tensor of ints": (lambda: ToTensor()(np.zeros((2, 2, 1), int)), "ToTensor: wanted uint8 or floats, got int64"),
    "normalize bytes": (lambda: Normalize(0, 1)(np.zeros((2, 2, 1), np.uint8)), r"put ToTensor\(\) before it"),
    "normalize channels": (
        lambda: Normalize([0, 0, 0], [1, 1, 1])(IMAGE),
        r"3 values, but the image \(5, 4, 2\) has its channels on the last axis; arrays are \(H, W, C\)",
    ),
    "normalize std": (lambda: Normalize(0, [1, 0]), r"std must be above 0, got \[1.0, 0.0\]"),
    "normalize mean": (lambda: Normalize(np.inf, 1), "mean must be a finite number or one a channel, got inf"),
    "not a function": (lambda: Singly(transforms=[RandomCrop(), 3]), "Singly: transform 1 is a int, wanted a function"),
    "a class": (lambda: Compose([RandomCrop]), "transform 0 is the class RandomCrop, .* make an instance of it"),
    "no call": (lambda: Transform()(IMAGE), r"Transform has no __call__\(x\)"),
}


@pytest.mark.parametrize("case", BAD_TRANSFORMS)
def test_transforms_refuse_with_a_clear_error(case):
    run, text = BAD_TRANSFORMS[case]
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=text):
        run()


# ---- parts of datasets


def test_a_subset_has_the_items_with_its_numbers():
    part = Subset(pairs(10), [7, 2, 2])
    assert len(part) == 3 and [part[i][1] for i in range(3)] == [7, 2, 2] and part[-3][1] == 7
    assert part[1:][1].tolist() == [2, 2]
    assert Subset(Singly(10), [7, 2])[:][1].tolist() == [7, 2]
    assert labels(DataLoader(part, 2)) == [[7, 2], [2]]
    assert labels(DataLoader(Subset(part, [0, 2]), 2)) == [[7, 2]]


def test_random_split_parts_the_items():
    np.random.seed(2)
    parts = random_split(pairs(10), [6, 3, 1])
    order = np.random.RandomState(2).permutation(10)
    assert [part.indices.tolist() for part in parts] == [order[:6].tolist(), order[6:9].tolist(), order[9:].tolist()]
    parts = random_split(pairs(10), [0.75, 0.25], generator=ndl.Generator(0))
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(10))
    assert [len(part) for part in random_split(pairs(100), [0.29, 0.01, 0.7], np.random.default_rng(0))] == [29, 1, 70]


BAD_PARTS = {
    "generator": (
        lambda: random_split(pairs(10), [9, 1], 3),
        r"random_split: generator must have permutation\(n\), got",
    ),
    "lengths": (lambda: random_split(pairs(10), [6, 3]), r"must add up to the 10 items .* got \[6, 3\]"),
    "fractions": (lambda: random_split(pairs(10), [0.5, 0.4]), r"or as fractions to 1, got \[0.5, 0.4\]"),
    "negative": (lambda: random_split(pairs(10), [11, -1]), "must add up"),
    "none": (lambda: random_split(pairs(10), []), "must add up"),
    "no such item": (lambda: Subset(pairs(10), [1, 10]), "Subset: there is no item 10, the dataset has 10"),
    "negative item": (lambda: Subset(pairs(10), [-1]), "there is no item -1"),
    "not whole": (lambda: Subset(pairs(10), [0.5]), "indices must be whole numbers in one row, got float64"),
    "empty": (lambda: DataLoader(Subset(pairs(10), [])), "the dataset is empty"),
    "arrays": (lambda: NDArrayDataset(np.zeros(3), np.zeros(4)), "array 1 has 4 items, array 0 has 3"),
    "no axis": (lambda: NDArrayDataset(np.array(3)), "array 0 has no axes"),
    "no array": (lambda: NDArrayDataset(), "wanted at least one array"),
    "no getitem": (lambda: Dataset()[0], "Dataset has no __getitem__"),
    "no len": (lambda: len(Dataset()), "Dataset has no __len__"),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_datasets_refuse_with_a_clear_error(case):
    run, text = BAD_PARTS[case]
    with pytest.raises((ValueError, TypeError, IndexError, NotImplementedError), match=text):
        run()


# ---- the checks themselves: each broken version of the code must make the check named for it fail


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.name for one in MUTANTS])
def test_a_broken_version_is_caught(mutant):
    check = globals().get(mutant.caught_by) or getattr(test_datasets, mutant.caught_by)
    with broken(mutant), pytest.raises((AssertionError, pytest.fail.Exception)):
        check()
    check()


def test_no_two_mutants_have_one_name():
    assert len({one.name for one in data_mutants.MUTANTS}) == len(data_mutants.MUTANTS) > 40
