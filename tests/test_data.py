"""Readers and sources of data, and the two helpers below them (optional packages, progress)."""

import gzip
import io
import os
import subprocess
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest

from needle import optional as optional_module
from needle import progress as progress_module
from needle.data import FetchError, IDXError, digits, mnist, read_idx, read_mnist_pair
from needle.data import idx as idx_module
from needle.data import sources as sources_module
from needle.data.fetch import sha256_of
from needle.optional import have, optional
from needle.progress import Meter, meter, progress

ROOT = Path(__file__).resolve().parent.parent

# ---- IDX: files to read ----

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    return header(code, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def write(tmp_path):
    def write(content, name="some-idx"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


IMAGES = (np.arange(3 * 28 * 28) % 251).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 4], np.uint8)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("dtype", CODES)
def test_idx_reads_every_type_in_native_order(write, dtype, packed):
    wanted = np.array([[1, 2, 100], [7, 0, 3]], dtype)
    if dtype in ("i1", "i2", "i4", "f4", "f8"):
        wanted[1, 1] = -5
    content = idx_bytes(wanted)
    got = read_idx(write(gzip.compress(content) if packed else content), ndim=2)
    np.testing.assert_array_equal(got, wanted, strict=True)
    assert got.dtype.isnative and got.flags.writeable


def test_idx_tells_gzip_by_content_not_by_name(write):
    assert read_idx(write(idx_bytes(LABELS), "labels.gz")).tolist() == [0, 9, 4]
    assert read_idx(write(gzip.compress(idx_bytes(LABELS)), "labels")).tolist() == [0, 9, 4]


@pytest.mark.parametrize("shape", [(0,), (0, 28, 28), (2, 0), (1, 1, 1, 1, 2)])
def test_idx_reads_empty_and_deep_arrays(write, shape):
    wanted = np.ones(shape, np.float64)
    np.testing.assert_array_equal(read_idx(write(idx_bytes(wanted))), wanted, strict=True)


def test_idx_reads_gzip_in_several_members(write):
    content = idx_bytes(IMAGES)
    path = write(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    np.testing.assert_array_equal(read_idx(path), IMAGES)


# ---- IDX: files to refuse ----

GOOD = idx_bytes(IMAGES)
PACKED = gzip.compress(GOOD, mtime=0)


def flipped(content, where):
    return content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :]


BAD_FILES = {
    "empty": (b"", "0 bytes"),
    "three bytes": (b"\0\0\x08", "3 bytes"),
    "empty gzip": (gzip.compress(b""), "0 bytes"),
    "cut in the sizes": (GOOD[:10], "cut off in the header: 6 bytes of sizes, wanted 12"),
    "cut in the numbers": (GOOD[:-1], "only 2351 bytes of numbers, wanted 2352"),
    "header alone": (GOOD[:16], "only 0 bytes of numbers, wanted 2352"),
    "one byte more": (GOOD + b"\0", "more bytes of numbers, wanted 2352"),
    "count too low": (header(8, 2, 28, 28) + GOOD[16:], r"more bytes of numbers, wanted 1568"),
    "count too high": (header(8, 4, 28, 28) + GOOD[16:], r"only 2352 bytes of numbers, wanted 3136"),
    "wrong magic": (b"\x01" + GOOD[1:], "starts with 01 00 08 03, wanted 00 00"),
    "unknown type": (header(0x0A, 1) + b"\0", "type code 0a, wanted one of 08, 09, 0b"),
    "a web page": (b"<!DOCTYPE html><html>", "like a web page"),
    "a zip archive": (b"PK\x03\x04" + bytes(50), "like a zip archive"),
    "gzip twice": (gzip.compress(PACKED), "packed twice"),
    "too many dimensions": (header(8, *[1] * 33) + b"\0", "says 33 dimensions, wanted at most 32"),
    "size overflows": (header(0x0E, *[2**32 - 1] * 5), "wanted at most 2147483648 bytes"),
    "size overflows behind a zero": (header(8, 0, *[2**32 - 1] * 5), "wanted at most 2147483648 bytes"),
    "gzip cut": (PACKED[:-20], "gzip data ends too early"),
    "gzip without its end": (PACKED[:-4], "gzip data ends too early"),
    "gzip header alone": (PACKED[:5], "gzip data ends too early"),
    "gzip damaged": (flipped(PACKED, 15), "gzip data is damaged"),
    "gzip checksum wrong": (flipped(PACKED, len(PACKED) - 6), "gzip data is damaged"),
    "gzip followed by rubbish": (PACKED + b"rubbish", "gzip data is damaged"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_idx_refuses_with_one_clear_error(write, case):
    content, message = BAD_FILES[case]
    path = write(content)
    with pytest.raises(IDXError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value), "the message must name the file"
    assert "get the file again" in str(caught.value), "the message must say what to do"


def test_idx_any_damage_gives_the_array_or_idx_error(write):
    random = np.random.RandomState(0)
    for content in (GOOD, PACKED):
        for _ in range(200):
            damaged = bytearray(content[: random.randint(len(content) + 1)])
            for where in random.randint(len(damaged), size=random.randint(3)) if damaged else ():
                damaged[where] = random.randint(256)
            try:
                assert read_idx(write(damaged), max_bytes=1 << 20).size >= 0
            except IDXError:
                pass


def test_idx_never_unpacks_a_bomb(write):
    bomb = gzip.compress(header(8, 16) + bytes(200_000_000), 9)
    path = write(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(IDXError, match="more bytes of numbers, wanted 16"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_idx_promise_of_gigabytes_takes_no_memory(write):
    path = write(gzip.compress(header(8, 2_000_000_000) + bytes(10)))
    tracemalloc.start()
    try:
        with pytest.raises(IDXError, match="only 10 bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_idx_max_bytes_is_the_exact_limit(write):
    path = write(GOOD)
    assert read_idx(path, max_bytes=2352).shape == (3, 28, 28)
    with pytest.raises(IDXError, match=r"shape \(3, 28, 28\), wanted at most 2351 bytes"):
        read_idx(path, max_bytes=2351)


def test_idx_wrong_ndim_hints_at_a_swapped_file(write):
    with pytest.raises(IDXError, match="has 1 dimensions, wanted 3; perhaps another file"):
        read_idx(write(idx_bytes(LABELS)), ndim=3)


def test_idx_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file; check the folder"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(IDXError, match="it is a folder, wanted an IDX file"):
        read_idx(tmp_path)


NO_FILES = {
    "below a file": ("some-idx/x", "some-idx/x' cannot be a file"),
    "too long a name": ("x" * 5000, "x' cannot be a file"),
    "a NUL byte": ("some\0idx", r"some\\x00idx' cannot be a file"),
}


@pytest.mark.parametrize("case", NO_FILES)
def test_idx_path_that_can_be_no_file(write, case):
    name, message = NO_FILES[case]
    folder = write(idx_bytes(LABELS)).parent
    with pytest.raises(IDXError, match=message):
        read_idx(os.path.join(folder, name))


def test_idx_that_the_system_does_not_open_or_read(write, monkeypatch):
    path = write(idx_bytes(LABELS))

    def refuses(error):
        def opens(*_):
            raise error

        return opens

    monkeypatch.setattr(idx_module, "open", refuses(PermissionError(13, "Permission denied")), raising=False)
    with pytest.raises(IDXError, match=r"some-idx: it cannot be read \(Permission denied\); check the disk"):
        read_idx(path)
    monkeypatch.setattr(idx_module, "open", refuses(FileNotFoundError(2, "gone")), raising=False)
    with pytest.raises(FileNotFoundError, match="some-idx: no such file"):
        read_idx(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_idx_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IDXError, match="no regular file"):
        read_idx(tmp_path / "pipe")


# ---- MNIST pairs ----


@pytest.fixture
def pair(write):
    def pair(images, labels):
        return write(idx_bytes(images), "images-idx3"), write(idx_bytes(labels), "labels-idx1")

    return pair


def test_pair_returns_both(pair):
    X, y = read_mnist_pair(*pair(IMAGES, LABELS))
    np.testing.assert_array_equal(X, IMAGES, strict=True)
    np.testing.assert_array_equal(y, LABELS, strict=True)


BAD_PAIRS = {
    "swapped": (LABELS, IMAGES, "images-idx3 holds labels and .*labels-idx1 images: they are swapped"),
    "two images": (IMAGES, IMAGES, r"labels-idx1: it holds uint8 \(3, 28, 28\), wanted uint8 labels \(N,\)"),
    "two labels": (LABELS, LABELS, r"images-idx3: it holds uint8 \(3,\), wanted uint8 images \(N, 28, 28\)"),
    "other size": (IMAGES[:, :27], LABELS, r"uint8 \(3, 27, 28\), wanted uint8 images \(N, 28, 28\)"),
    "flat images": (IMAGES.reshape(3, 784), LABELS, r"uint8 \(3, 784\), wanted uint8 images"),
    "float images": (IMAGES.astype("f4"), LABELS, r"float32 \(3, 28, 28\), wanted uint8"),
    "wide labels": (IMAGES, LABELS.astype("i4"), r"int32 \(3,\), wanted uint8 labels"),
    "counts": (IMAGES, LABELS[:2], "holds 3 images, .*labels-idx1 holds 2 labels: take both"),
    "label range": (IMAGES, np.array([1, 10, 200], np.uint8), "label 10 at row 1, wanted 0 to 9"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_pair_refuses(pair, case):
    images, labels, message = BAD_PAIRS[case]
    with pytest.raises(IDXError, match=message):
        read_mnist_pair(*pair(images, labels))


# ---- sources ----


def test_digits_split_is_complete_and_fixed():
    pytest.importorskip("sklearn")
    before = np.random.get_state()[1].copy()
    X, y, X_test, y_test = digits()
    assert (X.shape, X_test.shape, y.shape, y_test.shape) == ((1438, 64), (359, 64), (1438,), (359,))
    assert X.dtype == X_test.dtype == np.float32 and y.dtype == y_test.dtype == np.uint8
    assert X.min() == 0 and X.max() == 1
    assert y_test[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5], "the documented split moved"
    for again, first in zip(digits(), (X, y, X_test, y_test), strict=True):
        np.testing.assert_array_equal(again, first, strict=True)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_digits_rows_keep_their_labels():
    datasets = pytest.importorskip("sklearn.datasets")
    X, y, X_test, y_test = digits(test_fraction=0.5, seed=3)
    together = np.column_stack([np.concatenate([X, X_test]) * 16, np.concatenate([y, y_test])])
    bunch = datasets.load_digits()
    wanted = np.column_stack([bunch.data, bunch.target])
    np.testing.assert_array_equal(sorted(together.tolist()), sorted(wanted.tolist()))
    assert not np.array_equal(digits(test_fraction=0.5, seed=4)[1], y)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_digits_refuses_a_senseless_fraction(fraction):
    with pytest.raises(ValueError, match="test_fraction must lie between 0 and 1"):
        digits(test_fraction=fraction)


def test_digits_without_scikit_learn_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="scikit-learn is needed for the digits data set"):
        digits()


def small_mnist(folder, ending="", pack=lambda content: content):
    """A folder with 3 training and 2 test images; the test set's are those of the training set, inverted."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (IMAGES, LABELS, 255 - IMAGES[:2], LABELS[:2])
    for name, array in zip(sources_module.MNIST_FILES, arrays, strict=True):
        (folder / (name + ending)).write_bytes(pack(idx_bytes(array)))
    return folder


@pytest.mark.parametrize("ending, pack", [("", bytes), (".gz", gzip.compress)], ids=["plain", "gzip"])
@pytest.mark.parametrize("inside", ["", "mnist"])
def test_mnist_from_a_folder(tmp_path, ending, pack, inside):
    small_mnist(tmp_path / inside, ending, pack)
    X, y, X_test, y_test = mnist(tmp_path)
    np.testing.assert_array_equal(X, IMAGES.reshape(3, 784).astype(np.float32) / np.float32(255), strict=True)
    np.testing.assert_array_equal(X_test[0], (255 - IMAGES[0]).ravel().astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(y, LABELS, strict=True)
    np.testing.assert_array_equal(y_test, LABELS[:2], strict=True)


def test_mnist_looks_in_argument_then_variable_then_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEEDLE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=f"looked in data{os.sep}mnist and data".replace("\\", r"\\")):
        mnist()
    small_mnist(tmp_path / "data" / "mnist")
    assert len(mnist()[0]) == 3
    monkeypatch.setenv("NEEDLE_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        mnist()
    assert len(mnist("data")[0]) == 3


def test_mnist_missing_file_names_it_and_the_ways_out(tmp_path):
    small_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist(tmp_path)
    message = str(caught.value)
    assert "for t10k-labels-idx1-ubyte (" in message and "train-images" not in message
    assert all(way in message for way in ("NEEDLE_DATA", "download=True", "digits()"))


def test_mnist_download_asks_only_for_what_is_missing(tmp_path, monkeypatch):
    small_mnist(tmp_path / "mnist")
    missing = "t10k-labels-idx1-ubyte"
    (tmp_path / "mnist" / missing).unlink()
    asked = []

    def fetch(urls, sha256, destination, **options):
        asked.append((urls, sha256, destination.name, options["of_content"]))
        destination.write_bytes(gzip.compress(idx_bytes(LABELS[:2])))

    monkeypatch.setattr(sources_module, "fetch", fetch)
    assert len(mnist(tmp_path, download=True)[3]) == 2
    urls = [f"{mirror}{missing}.gz" for mirror in sources_module.MNIST_MIRRORS]
    assert asked == [(urls, sources_module.MNIST_FILES[missing], f"{missing}.gz", True)]
    mnist(tmp_path, download=True)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "root, place",
    [("data", "data/mnist"), ("mnist", "mnist"), ("flat", "flat")],
    ids=["subfolder", "itself", "beside the others"],
)
def test_mnist_download_goes_where_the_files_belong(tmp_path, monkeypatch, root, place):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS))
    places = []
    monkeypatch.setattr(sources_module, "fetch", lambda urls, sha256, path, **_: places.append(path.parent))
    with pytest.raises(FileNotFoundError):
        mnist(tmp_path / root, download=True)
    assert set(places) == {tmp_path / place}


def test_mnist_never_downloads_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(sources_module, "fetch", lambda *_, **__: pytest.fail("downloaded unasked"))
    with pytest.raises(FileNotFoundError):
        mnist(tmp_path)


def real_mnist():
    for folder in (os.environ.get("NEEDLE_DATA"), ROOT.parent / "shared" / "data"):
        if folder and sources_module._find(Path(folder), "train-images-idx3-ubyte"):
            return Path(folder)
    pytest.skip("no MNIST: name its folder in NEEDLE_DATA to run this")


def test_real_mnist():
    folder = real_mnist()
    X, y, X_test, y_test = mnist(folder)
    assert (X.shape, X_test.shape) == ((60000, 784), (10000, 784)) and X.dtype == np.float32
    assert np.bincount(y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]
    np.testing.assert_allclose([X.mean(dtype="f8"), X.std(dtype="f8")], [0.1307, 0.3081], atol=1e-4)


def test_real_mnist_has_the_checksums_that_downloads_must_have():
    folder = real_mnist()
    for name, sha256 in sources_module.MNIST_FILES.items():
        path = sources_module._find(folder, name)
        assert sha256_of(path, of_content=path.suffix == ".gz") == sha256


# ---- optional packages ----


def test_optional_returns_the_module():
    assert optional("math", extra="apps") is sys.modules["math"]


def test_optional_says_what_is_missing_for_what_and_how_to_get_it():
    with pytest.raises(ImportError) as caught:
        optional("no_such_package.part", extra="viz", why="pictures")
    assert str(caught.value) == (
        "no_such_package is needed for pictures and is not installed: `pip install no_such_package`, "
        "or `pip install -e '.[viz]'` in a clone of needle"
    )
    assert caught.value.name == "no_such_package.part"


def test_optional_names_the_distribution(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="^scikit-learn is needed and is .*pip install scikit-learn`"):
        optional("sklearn", extra="apps")


def test_optional_tells_a_broken_package_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_inside.py").write_text("import surely_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="installed but cannot be imported .*surely_not_there"):
        optional("broken_inside", extra="jit")


def test_optional_refuses_an_unknown_extra():
    with pytest.raises(ValueError, match="extra must be one of apps, jit"):
        optional("math", extra="maths")


def test_have_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "would_fail.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert have("would_fail") and have("would_fail.part") and "would_fail" not in sys.modules
    assert not have("no_such_package")
    monkeypatch.setitem(sys.modules, "typed_in", types.ModuleType("typed_in"))  # has no spec
    assert have("typed_in")


# ---- progress ----


@pytest.fixture
def clock(monkeypatch):
    """Time that moves only when told to."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress_module, "monotonic", lambda: Clock.now)
    return Clock


def test_progress_yields_everything_and_is_silent_when_quick(capsys):
    assert list(progress(range(1000))) == list(range(1000))
    assert list(progress(iter("abc"), total=3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_progress_plain_lines_are_rare_and_end_with_the_total(capsys, clock):
    for _ in progress(range(100), desc="train", unit="rows"):
        clock.now += 0.125
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train: 24/100 rows, 24 %, 3.0 s",
        "train: 48/100 rows, 48 %, 6.0 s",
        "train: 72/100 rows, 72 %, 9.0 s",
        "train: 96/100 rows, 96 %, 12.0 s",
        "train: 100/100 rows, 100 %, 12.5 s",
    ]


def test_progress_stopped_halfway_tells_how_far(capsys, clock):
    steps = progress(range(100))
    for _ in range(5):
        next(steps)
        clock.now += 0.5
    steps.close()
    assert capsys.readouterr().err == "4/100 it, 4 %, 2.5 s\n"


def test_meter_counts_bytes(capsys, clock):
    with meter(total=11_500_000, desc="file", unit="B") as bar:
        bar.update(999)
        assert bar.count() == "999 B/11.5 MB, 0 %"
        bar.update(2_300_000)
        clock.now = 4
    assert capsys.readouterr().err == "file: 2.3 MB/11.5 MB, 20 %, 4.0 s\n"
    assert Meter(unit="B").count() == "0 B" and Meter(total=0).count() == "0 it"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_tqdm_on_a_terminal(monkeypatch):
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(range(7), desc="seven")) == list(range(7))
    assert "seven: 100%|" in terminal.getvalue() and "7/7" in terminal.getvalue()


def test_progress_is_plain_on_a_terminal_without_tqdm(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress_module, "have", lambda module: False)
    for _ in progress(range(2)):
        clock.now += 1
    assert sys.stderr.getvalue() == "2/2 it, 100 %, 2.0 s\n"


@pytest.mark.parametrize("stderr", ["none", "closed", "closes on the way", "terminal that closes"])
def test_progress_survives_without_stderr(monkeypatch, capsys, clock, stderr):
    stream = Terminal() if "terminal" in stderr else io.StringIO()
    if stderr == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", None if stderr == "none" else stream)
    seen = []
    for item in progress(range(8)):
        seen.append(item)
        clock.now += 2
        if item == 3:
            stream.close()
    assert seen == list(range(8))
    assert capsys.readouterr().out == ""


def test_import_is_silent_and_brings_no_optional_package():
    code = (
        "import sys, needle.data, needle.progress;"
        "print([m for m in ('sklearn', 'tqdm', 'urllib3') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_data_exports():
    import_names = {"FetchError", "IDXError", "digits", "mnist", "read_idx", "read_mnist_pair"}
    assert import_names <= set(sys.modules["needle.data"].__all__)
    assert issubclass(IDXError, ValueError) and issubclass(FetchError, OSError)
    assert "sklearn" in optional_module.DISTRIBUTIONS
