"""The data sets as datasets: MNIST and its like, CIFAR-10 in both its forms, text. Checks that data_mutants.py names
take no fixtures."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from test_data import idx_bytes

import needle as ndl
from needle.data import (
    CIFAR10Dataset,
    Corpus,
    DataLoader,
    Dictionary,
    FashionMNIST,
    IDXError,
    MNISTDataset,
    RandomCrop,
    RandomFlipHorizontal,
    ToTensor,
    batchify,
    get_batch,
)
from needle.data.datasets import cifar10_dataset, mnist_dataset
from needle.data.datasets.plain_pickle import PickleError, read_plain_pickle
from needle.data.sources import MNIST_FILES

# ---- MNIST


def digits_of(n):
    """Images whose first pixels say which they are, and labels that do not repeat in order."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 28, 28), np.uint8)
    return images, (np.arange(n) * 7 % 10).astype(np.uint8)


def write_pair(folder, images, labels, kind="train", pack=gzip.compress, ending=".gz"):
    paths = [Path(folder) / f"{kind}-{what}-ubyte{ending}" for what in ("images-idx3", "labels-idx1")]
    for path, array in zip(paths, (images, labels), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(idx_bytes(array)))
    return paths


def mnist_of(images, labels, transforms=None):
    with tempfile.TemporaryDirectory() as folder:
        return MNISTDataset(*write_pair(folder, images, labels), transforms=transforms)


def small_mnist():
    """Twenty images whose labels are their numbers, as far as a byte of pixels tells."""
    images = np.zeros((20, 28, 28), np.uint8)
    images[np.arange(20), 0, 0] = np.arange(20)
    dataset = mnist_of(images, np.zeros(20, np.uint8))
    dataset.labels = np.arange(20, dtype=np.uint8)
    return dataset


def test_mnist_items_and_slices():
    images, labels = digits_of(12)
    dataset = mnist_of(images, labels)
    assert len(dataset) == 12
    X, y = dataset[3]
    assert X.shape == (28, 28, 1) and X.dtype == np.float32 and y == labels[3] and y.dtype == np.uint8
    np.testing.assert_array_equal(X[..., 0], images[3].astype(np.float32) / np.float32(255))  # to the bit
    X, y = dataset[2:7]
    assert X.shape == (5, 28, 28, 1) and y.tolist() == labels[2:7].tolist()
    np.testing.assert_array_equal(X[1], dataset[3][0])
    assert dataset[-1][1] == labels[-1]
    with pytest.raises(IndexError):
        dataset[12]


def test_mnist_slices_are_what_the_loader_gives():
    images, labels = digits_of(12)
    for transforms in (None, [RandomCrop(3), RandomFlipHorizontal()]):
        dataset = mnist_of(images, labels, transforms)
        for batch_size in (1, 5):
            np.random.seed(0)
            batches = [[field.numpy() for field in batch] for batch in DataLoader(dataset, batch_size)]
            np.random.seed(0)
            for i, (X, y) in enumerate(batches):
                want_X, want_y = dataset[i * batch_size : (i + 1) * batch_size]
                np.testing.assert_array_equal(X, want_X, strict=True)
                np.testing.assert_array_equal(y, want_y, strict=True)


def test_transforms_see_one_image_and_run_at_every_access():
    seen = []
    images, labels = digits_of(6)
    dataset = mnist_of(images, labels, [lambda x: seen.append(x.shape) or x + np.float32(1)])
    assert dataset[0][1] == labels[0] and len(seen) == 1
    assert dataset[0][0].min() >= 1 and len(seen) == 2
    assert dataset[1:4][0].min() >= 1 and len(seen) == 5
    assert next(iter(DataLoader(dataset, 6)))[0].numpy().min() >= 1 and len(seen) == 11
    assert set(seen) == {(28, 28, 1)}
    assert dataset[3:3][0].shape == (0, 28, 28, 1)


def test_mnist_with_random_transforms_draws_in_the_order_of_the_items():
    images, labels = digits_of(4)
    np.random.seed(5)
    X, _ = next(iter(DataLoader(mnist_of(images, labels, [RandomCrop(2), RandomFlipHorizontal()]), 4)))
    reference = np.random.RandomState(5)
    for img, got in zip(images / np.float32(255), X.numpy()[..., 0], strict=True):
        sx, sy = reference.randint(-2, 3, size=2)
        want = np.pad(img, 2)[2 + sx : 30 + sx, 2 + sy : 30 + sy]
        np.testing.assert_array_equal(got, want[:, ::-1] if reference.rand() < 0.5 else want)


def test_mnist_files_that_are_not_a_pair_are_refused(tmp_path):
    images, labels = write_pair(tmp_path, *digits_of(5))
    with pytest.raises(IDXError, match="they are swapped, give the images first"):
        MNISTDataset(labels, images)
    with pytest.raises(FileNotFoundError, match="no such file; check the folder and the name"):
        MNISTDataset(tmp_path / "elsewhere", labels)
    none = write_pair(tmp_path / "none", np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="the dataset is empty"):
        DataLoader(MNISTDataset(*none))


def test_a_transform_that_changes_the_shape_now_and_then_is_caught():
    images, labels = digits_of(5)
    images[3] = 255
    dataset = mnist_of(images, labels, [lambda x: x[:14] if x.min() == 1 else x])
    text = r"field 0 of item 3 has shape \(14, 28, 1\), of item 0 \(28, 28, 1\); its transforms must give one shape"
    with pytest.raises(ValueError, match=text):
        list(DataLoader(dataset, 5))
    with pytest.raises(ValueError, match=text):
        dataset[:]


def test_the_whole_of_mnist(data_folder):
    files = [data_folder / "mnist" / f"t10k-{what}-ubyte.gz" for what in ("images-idx3", "labels-idx1")]
    if not all(file.exists() for file in files):
        pytest.skip("no MNIST there")
    dataset = MNISTDataset(*files)
    total = np.zeros(10, int)
    for X, y in DataLoader(dataset, 256, shuffle=True):
        assert X.dtype == np.float32 and X.shape[1:] == (28, 28, 1)
        total += np.bincount(y.numpy(), minlength=10)
    assert total.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(dataset.images.mean() - 0.1325) < 1e-4


# ---- Fashion-MNIST


@pytest.mark.parametrize("subfolder", ["", "fashion-mnist"])
@pytest.mark.parametrize("pack, ending", [(gzip.compress, ".gz"), (bytes, "")], ids=["gzip", "plain"])
def test_fashion_mnist_reads_its_files(tmp_path, subfolder, pack, ending):
    images, labels = digits_of(7)
    write_pair(tmp_path / subfolder, images, labels, "train", pack, ending)
    write_pair(tmp_path / subfolder, images[:3], labels[:3], "t10k", pack, ending)
    train, test = FashionMNIST(tmp_path), FashionMNIST(tmp_path, train=False, transforms=[ToTensor()])
    assert (len(train), len(test)) == (7, 3)
    assert train[1][0].shape == (28, 28, 1) and train[1][1] == labels[1] and len(train.classes) == 10
    assert test[1][0].shape == (1, 28, 28)


def test_fashion_mnist_is_fetched_on_request_only(tmp_path, monkeypatch):
    def fetch(urls, sha256, destination, *, max_bytes):
        asked.append((destination.name, sha256))
        assert all(url.endswith(destination.name) for url in urls) and max_bytes > 60000 * 784
        write_pair(destination.parent, *digits_of(4))
        return destination

    asked = []
    monkeypatch.setattr(mnist_dataset, "fetch", fetch)
    with pytest.raises(
        FileNotFoundError, match="looked in .*fashion-mnist and .* for train-images-idx3-ubyte .*download=T"
    ):
        FashionMNIST(tmp_path)
    assert not asked
    assert len(FashionMNIST(tmp_path, download=True)) == 4
    assert asked == [("train-images-idx3-ubyte.gz", mnist_dataset.FASHION_FILES["train-images-idx3-ubyte"])]
    assert (tmp_path / "fashion-mnist" / "train-labels-idx1-ubyte.gz").exists()


def test_fashion_mnist_does_not_take_mnist_for_itself(tmp_path, data_folder):
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        if not (data_folder / "mnist" / name).exists():
            pytest.skip("no MNIST there")
        os.symlink(data_folder / "mnist" / name, tmp_path / name)
    with pytest.raises(IDXError, match="these are MNIST's labels, wanted Fashion-MNIST's; give each a folder"):
        FashionMNIST(tmp_path)


def test_the_checksums_are_sha256_and_all_different():
    sums = [*mnist_dataset.FASHION_FILES.values(), cifar10_dataset.ARCHIVE_SHA256, *MNIST_FILES.values()]
    assert all(len(bytes.fromhex(text)) == 32 for text in sums) and len(set(sums)) == len(sums) == 9


# ---- CIFAR-10: its two forms


def pictures(n=4, seed=0):
    """Labels (n,) and pixels (n, 3, 32, 32), bytes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 10, n).astype(np.uint8), rng.integers(0, 256, (n, 3, 32, 32), np.uint8)


def write_binary(folder, labels, pixels, name="test_batch"):
    rows = np.concatenate([labels[:, None], pixels.reshape(len(labels), -1)], axis=1)
    (Path(folder) / f"{name}.bin").write_bytes(rows.tobytes())


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: bytes and text both as its str, NumPy's functions by their old names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_str2(self, text):
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_str2

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else "numpy"
        self.write(f"c{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type] = dispatch[type(len)] = save_global


def python2_pickle(labels, pixels):
    file = io.BytesIO()
    content = {"data": pixels.reshape(len(labels), -1), "labels": labels.tolist(), "batch_label": "one of 1"}
    Python2Pickler(file, 2).dump(content | {"filenames": [f"{i}.png" for i in labels]})
    return file.getvalue()


def cifar_of(write, transforms=None, train=False):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return CIFAR10Dataset(folder, train, transforms=transforms)


def small_cifar():
    labels, pixels = pictures(20)
    return cifar_of(lambda folder: write_binary(folder, labels, pixels))


def check_pictures(dataset, labels, pixels):
    np.testing.assert_array_equal(dataset.X, pixels.astype(np.float32) / np.float32(255), strict=True)
    np.testing.assert_array_equal(dataset.y, labels, strict=True)


def test_cifar_reads_the_binary_version():
    labels, pixels = pictures()
    dataset = cifar_of(lambda folder: write_binary(folder, labels, pixels))
    check_pictures(dataset, labels, pixels)
    item = dataset[2]
    assert isinstance(item, tuple) and item[0].shape == (3, 32, 32) and item[1] == labels[2] and len(dataset) == 4
    X, y = next(iter(DataLoader(dataset, 3)))
    np.testing.assert_array_equal(X.numpy(), dataset[:3][0], strict=True)
    assert y.numpy().tolist() == labels[:3].tolist()


def test_cifar_reads_the_five_training_files_in_order():
    parts = [pictures(2 + i, seed=i) for i in range(5)]

    def write(folder):
        for i, part in enumerate(parts, 1):
            write_binary(folder, *part, f"data_batch_{i}")

    dataset = cifar_of(write, train=True)
    check_pictures(dataset, *(np.concatenate([part[k] for part in parts]) for k in (0, 1)))


def test_cifar_reads_pickles_of_python_2():
    labels, pixels = pictures()
    content = python2_pickle(labels, pixels)
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content and b"_codecs" not in content
    dataset = cifar_of(lambda folder: (folder / "test_batch").write_bytes(content))
    check_pictures(dataset, labels, pixels)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cifar_reads_pickles_of_every_protocol(protocol):
    labels, pixels = pictures()
    flat = pixels.reshape(4, -1)
    for data in (flat, np.asfortranarray(flat)):
        for these in (labels.tolist(), labels, labels.astype(">i8")):
            content = pickle.dumps({b"data": data, b"labels": these}, protocol)
            check_pictures(cifar_of(lambda folder, c=content: (folder / "test_batch").write_bytes(c)), labels, pixels)


def test_cifar_transforms_see_height_width_channels():
    labels, pixels = pictures()
    write = lambda folder: write_binary(folder, labels, pixels)  # noqa: E731
    plain, seen = cifar_of(write), []
    flipped = cifar_of(write, [lambda x: seen.append(x.shape) or x, RandomFlipHorizontal(1.0)])
    np.testing.assert_array_equal(flipped[1][0], plain[1][0][:, :, ::-1])
    assert seen == [(32, 32, 3)] and flipped[:3][0].shape == (3, 3, 32, 32) and len(seen) == 4
    X, _ = next(iter(DataLoader(flipped, 4)))
    np.testing.assert_array_equal(X.numpy(), plain.X[..., ::-1])
    X, _ = next(iter(DataLoader(cifar_of(write, ToTensor()), 4)))
    np.testing.assert_array_equal(X.numpy(), plain.X)


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def as_pickle(**content):
    return written("test_batch", pickle.dumps(content))


DATA = np.zeros((2, 3072), np.uint8)
BAD_CIFAR = {
    "cut off": (written("test_batch.bin", bytes(3072)), "3072 bytes, wanted a multiple of 3073"),
    "empty": (written("test_batch.bin", b""), "0 bytes, wanted a multiple of 3073"),
    "label": (written("test_batch.bin", bytes(3073) + b"\x0a" + bytes(3072)), "label 10 at row 1, wanted 0 to 9"),
    "a web page": (written("test_batch", b"<!DOCTYPE html>"), "not a pickle of plain data"),
    "no dict": (written("test_batch", pickle.dumps([1])), "holds a list, wanted CIFAR-10's dict"),
    "no data": (as_pickle(labels=[1]), r"data is a NoneType, wanted uint8 \(N, 3072\)"),
    "data dtype": (as_pickle(data=DATA / 1, labels=[1, 2]), r"data is float64 \(2, 3072\), wanted uint8"),
    "data shape": (as_pickle(data=DATA[:, 1:], labels=[1, 2]), r"data is uint8 \(2, 3071\), wanted uint8"),
    "labels missing": (as_pickle(data=DATA, labels=[1]), "wanted 2 labels in a list, one an image"),
    "labels of text": (as_pickle(data=DATA, labels=["a", "b"]), "labels must be whole numbers from 0 to 9"),
    "labels below 0": (as_pickle(data=DATA, labels=[-1, 0]), "labels must be whole numbers from 0 to 9"),
    "labels too high": (as_pickle(data=DATA, labels=[3, 10]), "label 10 at row 1, wanted 0 to 9"),
    "CIFAR-100": (as_pickle(data=DATA, fine_labels=[1, 2]), "this is CIFAR-100, wanted CIFAR-10"),
}


@pytest.mark.parametrize("case", BAD_CIFAR)
def test_cifar_refuses_what_is_not_cifar(case):
    write, text = BAD_CIFAR[case]
    with pytest.raises(ValueError, match=f"test_batch.*: .*{text}"):
        cifar_of(write)


def test_cifar_in_the_wrong_folder_says_where_it_looked(tmp_path):
    text = "CIFAR-10 is not there: looked in .* for data_batch_1, .*data_batch_5 .*usually cifar-10-batches-py"
    with pytest.raises(FileNotFoundError, match=text):
        CIFAR10Dataset(tmp_path, train=True)


def test_cifar_a_transform_that_gives_no_image_is_named():
    dataset = cifar_of(lambda folder: write_binary(folder, *pictures()), [lambda x: x.mean(axis=-1)])
    with pytest.raises(ValueError, match=r"the transforms gave shape \(32, 32\), wanted an image \(H, W, C\)"):
        dataset[0]


def archive_of(path, labels, pixels):
    """The six files, and beside them what an archive may try."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path, "w:gz") as archive:
        for name in (*cifar10_dataset.TRAIN, "test_batch"):
            write_binary(folder, labels, pixels, name)
            archive.add(Path(folder) / f"{name}.bin", f"cifar-10-batches-bin/{name}.bin")
        for name, kind, link in (
            ("../outside.bin", tarfile.REGTYPE, ""),
            ("sub/test_batch", tarfile.SYMTYPE, "/etc/passwd"),
            ("readme.html", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 0
            archive.addfile(member, io.BytesIO())
    return path


def test_cifar_is_fetched_on_request_and_only_its_files_unpacked(tmp_path, monkeypatch):
    def fetch(urls, sha256, destination, *, max_bytes):
        asked.append((sha256, max_bytes > 170_052_171))
        destination.parent.mkdir(exist_ok=True)
        return archive_of(destination, labels, pixels)

    asked, (labels, pixels) = [], pictures()
    monkeypatch.setattr(cifar10_dataset, "fetch", fetch)
    folder = tmp_path / "cifar"
    check_pictures(CIFAR10Dataset(folder, train=False, download=True), labels, pixels)
    assert len(CIFAR10Dataset(folder, train=True, download=True)) == 20
    assert asked == [(cifar10_dataset.ARCHIVE_SHA256, True)]
    names = {f"{name}.bin" for name in (*cifar10_dataset.TRAIN, "test_batch")} | {"cifar-10-binary.tar.gz"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["cifar"]


# ---- CIFAR-10: pickles that mean harm


def load(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch"
        path.write_bytes(content)
        return read_plain_pickle(path)


class Harm:
    def __init__(self, function, *arguments):
        self.calls = function, arguments

    def __reduce__(self):
        return self.calls


NAMED = [
    (os.system, "true"),
    (eval, "1"),
    (exec, "1"),
    (getattr, "", "upper"),
    (open, "x"),
    (__import__, "os"),
    (np.load, "x"),
    (np.frombuffer, b"x"),
    (bytearray, 3),
    (gzip.decompress, b""),
]


@pytest.mark.parametrize("call", NAMED, ids=[function.__name__ for function, *_ in NAMED])
def test_a_pickle_can_name_nothing_but_an_arrays_parts(call):
    for protocol in (0, 2, 4):
        content = pickle.dumps({b"data": [Harm(*call)]}, protocol)
        with pytest.raises(PickleError, match=r"it names [\w.]+, which is no plain data\); get the file again"):
            load(content)


def test_a_pickle_that_would_call_runs_nothing():
    ran = []
    globals()["_run"] = lambda: ran.append(1)  # only a name that is found can be called
    content = f"c{__name__}\n_run\n(tR.".encode()
    pickle.loads(content)
    assert ran == [1]
    with pytest.raises(PickleError, match="_run, which is no plain data"):
        load(content)
    assert ran == [1]


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
DTYPE_U1 = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
HOSTILE = {
    "sets an attribute of what it names": (b"cnumpy\ndtype\n(dS'__doc__'\nS'x'\nsb.", "it changes what it names"),
    "sets an attribute through slots": (b"cnumpy\ndtype\n(N(dS'code'\nS'O'\nstb.", "it changes what it names"),
    "an attribute of an array": (b"cnumpy\nndarray.tofile\n.", "it names numpy.ndarray.tofile"),
    "an array of objects": (pickle.dumps(np.array([{}, 1], object)), "dtype 'O8', wanted numbers"),
    "an array of records": (pickle.dumps(np.zeros(2, "u1,u2")), "dtype 'V3', wanted numbers"),
    "an array of text": (pickle.dumps(np.array(["a"])), "dtype 'U1', wanted numbers"),
    "a date": (pickle.dumps(np.zeros(2, "M8[s]")), "dtype 'M8', wanted numbers"),
    "objects said to be bytes": (
        RECONSTRUCT + b"(I1\n(I1\nt" + DTYPE_U1 + b"I00\n(I1\nltb.",
        "an array that holds obj",
    ),
    "too few bytes": (RECONSTRUCT + b"(I1\n(I9\nt" + DTYPE_U1 + b"I00\nS'abc'\ntb.", "cannot reshape array of size 3"),
    "a vast shape": (
        RECONSTRUCT + b"(I1\n(L9000000000000L\nI9000000\nt" + DTYPE_U1 + b"I00\nS'abc'\ntb.",
        "not a pickle of plain data",
    ),
    "a strange byte order": (DTYPE_U1 + b"(I3\nS'!'\ntb.", "byte order '!'"),
    "axes in an order of their own": (
        b"cnumpy._core.numeric\n_frombuffer\n(S'abc'\n" + DTYPE_U1 + b"(I3\ntS'K'\n(I0\nttR.",
        "an array with its axes in the order (0,)",
    ),
    "half an array": (b"cnumpy\ndtype\n.", "parts of an array, no whole one"),
    "half an array as a key": (b"(dcnumpy\ndtype\nI1\ns.", "parts of an array, no whole one"),
    "a dtype alone": (DTYPE_U1 + b".", "parts of an array, no whole one"),
    "another codec": (b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.", "text in the encoding b'zlib'"),
    "a persistent number": (b"Px\n.", "persistent"),
    "an extension code": (b"\x82\x01.", "unregistered extension code 1"),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "not a pickle of plain data"),
    "itself within itself": (b"\x80\x02]q\x00h\x00a.", "recursion"),
    "nothing": (b"", "Ran out of input"),
    "only a stop": (b".", "not a pickle of plain data"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle_is_refused(case):
    content, text = HOSTILE[case]
    with pytest.raises(PickleError) as caught:
        load(content)
    assert "not a pickle of plain data" in str(caught.value) and text in str(caught.value)


def test_what_a_pickle_shares_stays_shared():
    """Forty lists, each twice the one before: unshared, there would be a million million entries."""
    value = [np.arange(3)]
    for _ in range(40):
        value = [value, value]
    result = load(pickle.dumps(value))
    assert result[0] is result[1]
    while isinstance(result, list):
        result = result[-1]
    assert result.tolist() == [0, 1, 2]


def test_plain_data_comes_back_as_it_was():
    value = {"a": (1, 2.5, None, True), b"b": [{"c": ()}, "text", 1 << 100], 3: np.eye(2)}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        got = load(pickle.dumps(value, protocol))
        assert got["a"] == value["a"] and got[b"b"] == value[b"b"]
        np.testing.assert_array_equal(got[3], np.eye(2), strict=True)
    assert load(pickle.dumps([{1, 2}, frozenset([3])], 4)) == [{1, 2}, frozenset([3])]


def test_damaged_pickles_load_or_are_refused_never_worse():
    labels, pixels = pictures(1)
    whole = pickle.dumps({b"data": pixels[..., :2, :2], b"labels": labels.tolist()}, 2)
    rng = np.random.default_rng(0)
    refused = 0
    cuts = [whole[:n] for n in range(len(whole))]
    flips = [bytearray(whole) for _ in range(400)]
    for flip in flips:
        flip[rng.integers(len(flip))] = rng.integers(256)
    for content in [*cuts, *map(bytes, flips)]:
        try:
            load(content)
        except PickleError:
            refused += 1
    assert len(cuts) <= refused < len(cuts) + len(flips)


# ---- text

TEXT = {
    "train.txt": " the cat sat \n the dog\n\n a cat\n",
    "test.txt": "a bird the\nsat\ndog\n",
}


def corpus_of(texts, max_lines=None):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return Corpus(folder, max_lines)


def words(corpus, numbers):
    return " ".join(corpus.dictionary.idx2word[n] for n in numbers)


def test_a_dictionary_numbers_words_as_they_come():
    dictionary = Dictionary()
    assert [dictionary.add_word(word) for word in "a b a c b".split()] == [0, 1, 0, 2, 1]
    assert len(dictionary) == 3 and dictionary.idx2word == ["a", "b", "c"]
    assert dictionary.word2idx == {"a": 0, "b": 1, "c": 2}


def test_a_corpus_shares_one_dictionary_and_ends_lines():
    corpus = corpus_of(TEXT)
    assert words(corpus, corpus.train) == "the cat sat <eos> the dog <eos> <eos> a cat <eos>"
    assert words(corpus, corpus.test) == "a bird the <eos> sat <eos> dog <eos>"
    assert corpus.train[:8] == [0, 1, 2, 3, 0, 4, 3, 3] and len(corpus.dictionary) == 7


def test_max_lines_are_so_many_of_each_file():
    corpus = corpus_of(TEXT, 2)
    assert words(corpus, corpus.train) == "the cat sat <eos> the dog <eos>"
    assert words(corpus, corpus.test) == "a bird the <eos> sat <eos>"
    assert corpus_of(TEXT, 100).train == corpus_of(TEXT).train


def test_the_columns_of_batches_are_contiguous_text():
    batches = batchify(list(range(11)), 3)
    assert isinstance(batches, np.ndarray) and batches.T.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    as_floats = batchify(list(range(11)), 3, device=ndl.cpu(), dtype="float32")
    assert as_floats.dtype == np.float32
    np.testing.assert_array_equal(as_floats, batches)


def test_targets_are_the_next_words():
    batches = batchify(list(range(20)), 4, None, "float32")  # columns 0.., 5.., 10.., 15..
    X, y = get_batch(batches, 1, 2, device=ndl.cpu(), dtype="float32")
    assert X.numpy().tolist() == [[1, 6, 11, 16], [2, 7, 12, 17]]
    assert y.numpy().tolist() == [2, 7, 12, 17, 3, 8, 13, 18]
    assert X.dtype == y.dtype == np.float32 and X.device == ndl.cpu()
    X, y = get_batch(batches, 3, 40)  # the last row has nothing after it
    assert X.numpy().tolist() == [[3, 8, 13, 18]] and y.numpy().tolist() == [4, 9, 14, 19]
    rows = [get_batch(batches, i, 3)[0].shape[0] for i in range(0, len(batches) - 1, 3)]
    assert rows == [3, 1]


def test_a_batch_of_text_does_not_share_memory():
    batches = batchify(list(range(20)), 4, None, "float32")
    X, y = get_batch(batches, 0, 2)
    X.cached_data[:] = y.cached_data[:] = -1
    assert batches.min() == 0


BAD_TEXT = {
    "no file": (lambda: corpus_of({"train.txt": "a"}), "there is no file .*test.txt; name the folder that holds train"),
    "no lines": (lambda: corpus_of(TEXT, 0), "max_lines must be at least 1, or None for all, got 0"),
    "batch of 0": (lambda: batchify([1, 2], 0), "batch_size must lie between 1 and the 2 words, got 0"),
    "batch too large": (lambda: batchify([1, 2], 3), "batch_size must lie between 1 and the 2 words, got 3"),
    "small dtype": (lambda: batchify([1, 4097], 1, dtype="float16"), "float16 cannot hold the word number 4097"),
    "past the end": (lambda: get_batch(np.zeros((5, 2)), 4, 2), r"i must lie in \[0, 3\] .* got i 4, bptt 2"),
    "before the start": (lambda: get_batch(np.zeros((5, 2)), -1, 2), "got i -1, bptt 2"),
    "no steps": (lambda: get_batch(np.zeros((5, 2)), 0, 0), "bptt be at least 1 for 5 rows, got i 0, bptt 0"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_text_is_refused_with_a_clear_error(case):
    run, text = BAD_TEXT[case]
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        run()


def test_penn_treebank(data_folder, tmp_path):
    source = data_folder / "ptb" / "ptb.test.txt"
    if not source.exists():
        pytest.skip("no Penn Treebank there")
    for name in ("train.txt", "test.txt"):
        os.symlink(source, tmp_path / name)
    corpus = Corpus(tmp_path)
    assert corpus.train == corpus.test and len(corpus.train) == 78669 + 3761  # words, and lines
    assert len(Corpus(tmp_path, 10).train) == len(" ".join(source.read_text().splitlines()[:10]).split()) + 10
    batches = batchify(corpus.train, 20, None, "float32")
    assert batches.shape == (82430 // 20, 20)
    X, y = get_batch(batches, 0, 35)
    np.testing.assert_array_equal(X.numpy()[1:].ravel(), y.numpy()[:-20])
