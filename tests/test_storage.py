"""Files of tensors and checkpoints: what is read is what was written, or an error says why not."""

from __future__ import annotations

import ast
import errno
import json
import os
import random
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle.storage import StorageError, atomic, read_checkpoint, replacing, restore_states, snapshot
from needle.storage.safetensors_format import write_safetensors

ROOT = Path(__file__).resolve().parents[1]
ENDINGS = (".safetensors", ".npz")
DTYPES = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64".split()


def numbers(dtype, shape):
    return (np.random.standard_normal(shape) * 100).astype(dtype) if shape else np.asarray(3, dtype)


def same(x, y):
    """Equal to the bit, dtype and shape included."""
    x, y = (np.asarray(v.numpy() if isinstance(v, ndl.Tensor) else v) for v in (x, y))
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


# ---- dicts of tensors


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back(tmp_path, ending, dtype):
    given = {str(shape): numbers(dtype, shape) for shape in [(), (1,), (3, 4), (0,), (2, 0, 3), (2, 1, 3)]}
    ndl.save(given, tmp_path / f"a{ending}")
    loaded = ndl.load(tmp_path / f"a{ending}")
    assert list(loaded) == list(given)
    assert all(same(loaded[name], given[name]) for name in given)
    assert all(isinstance(x, ndl.Tensor) and not x.requires_grad for x in loaded.values())


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_the_order_in_memory(tmp_path, ending):
    x = np.random.rand(4, 6, 2)
    given = {"a": x.T, "b": x[::2, ::-1], "c": x.astype(">f8"), "d": x.transpose(1, 0, 2), "e": np.float32(2)}
    ndl.save(given | {"t": ndl.Tensor(x).transpose()}, tmp_path / f"a{ending}")
    loaded = ndl.load(tmp_path / f"a{ending}")
    assert all(loaded[name].numpy().tolist() == given[name].tolist() for name in given)
    assert loaded["c"].dtype == np.float64 and loaded["c"].dtype.isnative
    assert same(loaded["t"], ndl.Tensor(x).transpose())


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_the_name(tmp_path, ending):
    given = {
        name: np.arange(i) for i, name in enumerate(["", "a", "a.b", "a/b", "x.npy", "file", "ψ", "0", "none" * 9])
    }
    ndl.save(given, tmp_path / f"a{ending}")
    assert list(ndl.load(tmp_path / f"a{ending}")) == list(given)
    ndl.save({}, tmp_path / f"a{ending}")
    assert ndl.load(tmp_path / f"a{ending}") == {}


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    for ending in ENDINGS:
        for name in "ab":
            ndl.save({"x": np.arange(3), "y": np.ones(2, "f2")}, tmp_path / f"{name}{ending}")
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_where_arrays_lie_in_a_file(tmp_path):
    path = tmp_path / "a.safetensors"
    given = {name: np.ones(3, name) for name in ("int8", "float64", "bool", "float16", "int32")}
    ndl.save(given, path)
    assert list(ndl.load(path)) == list(given)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert length % 8 == 0
    assert all(header[name]["data_offsets"][0] % array.itemsize == 0 for name, array in given.items())


def test_an_archive_tells_no_time(tmp_path):
    ndl.save({"x": np.ones(3)}, tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_what_is_loaded_can_be_written_to(tmp_path):
    for ending in ENDINGS:
        ndl.save({"x": np.zeros(3)}, tmp_path / f"a{ending}")
        ndl.load(tmp_path / f"a{ending}")["x"].realize_cached_data()[0] = 1


SAVE_ERRORS = [
    ({"a": [1.0]}, TypeError, "save: 'a' is a list, wanted a tensor or an array; save_checkpoint"),
    ({"a": np.ones(2, complex)}, TypeError, "save: 'a' has dtype complex128, wanted one of bool"),
    ({"a": np.array(["x"])}, TypeError, "save: 'a' has dtype <U1, wanted"),
    ({"a": np.array([None])}, TypeError, "save: 'a' has dtype object, wanted"),
    ({1: np.ones(2)}, ValueError, "save: 1 cannot be a tensor's name"),
    ({"__metadata__": np.ones(2)}, ValueError, "save: '__metadata__' cannot be a tensor's name"),
    ({"a\0b": np.ones(2)}, ValueError, "cannot be a tensor's name; wanted a printable text"),
    ({"\ud800": np.ones(2)}, ValueError, "cannot be a tensor's name"),
    ([np.ones(2)], TypeError, "save: wanted a dict of tensors by name, got a list"),
]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("given, kind, text", SAVE_ERRORS)
def test_what_cannot_be_saved(tmp_path, ending, given, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        ndl.save(given, tmp_path / f"a{ending}")
    assert os.listdir(tmp_path) == []


def test_the_ending_chooses_the_format(tmp_path):
    for function in (lambda path: ndl.save({}, path), ndl.load):
        with pytest.raises(ValueError, match=r"x\.pt ends in '\.pt', wanted \.safetensors or \.npz"):
            function(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError):
        ndl.load(tmp_path / "none.npz")


# ---- other programs


def test_safetensors_is_read_and_written_by_the_package_of_that_name(tmp_path):
    other = pytest.importorskip("safetensors.numpy")
    given = {f"{dtype} {shape}": numbers(dtype, shape) for dtype in DTYPES for shape in [(), (3,), (2, 0), (2, 3)]}
    ndl.save(given, tmp_path / "a.safetensors")
    theirs = other.load_file(tmp_path / "a.safetensors")
    assert theirs.keys() == given.keys() and all(same(theirs[name], given[name]) for name in given)
    other.save_file(given, tmp_path / "b.safetensors", {"format": "np"})
    ours = ndl.load(tmp_path / "b.safetensors")
    assert ours.keys() == given.keys() and all(same(ours[name], given[name]) for name in given)


def test_a_checkpoint_is_a_safetensors_file_to_others(tmp_path):
    other = pytest.importorskip("safetensors")
    ndl.save_checkpoint(tmp_path / "c.safetensors", model=Part({"w": np.arange(3.0)}))
    with other.safe_open(tmp_path / "c.safetensors", "numpy") as file:
        assert same(file.get_tensor("model.w"), np.arange(3.0))


@pytest.mark.oracle
def test_pytorch_reads_and_writes_safetensors(tmp_path):
    torch, other = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    ndl.save({"w": np.arange(6.0, dtype="f4").reshape(2, 3)}, tmp_path / "a.safetensors")
    assert other.load_file(tmp_path / "a.safetensors")["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    state = {"b": torch.randn(5).bfloat16(), "n": torch.tensor(7), "z": torch.tensor(1.5).bfloat16()}
    other.save_file(state, tmp_path / "b.safetensors")
    ours = ndl.load(tmp_path / "b.safetensors")
    assert all(same(ours[name], state[name].float().numpy()) for name in "bz") and ours["n"].item() == 7


def test_bfloat16_becomes_float32(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], "<u2")  # 1, -2, infinity, the smallest
    write_raw(tmp_path / "a.safetensors", {"x": ["BF16", [4], [0, 8]]}, bits.tobytes())
    assert ndl.load(tmp_path / "a.safetensors")["x"].numpy().tolist() == [1, -2, np.inf, 2.0**-133]


def test_npz_is_read_and_written_by_numpy(tmp_path):
    given = {dtype: numbers(dtype, (3, 4)) for dtype in DTYPES} | {"F": np.asfortranarray(np.random.rand(3, 4))}
    ndl.save(given, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as theirs:
        assert list(theirs) == list(given) and all(same(theirs[name], given[name]) for name in given)
    zeros = np.zeros((1000, 1000))
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "b.npz", **given, zeros=zeros, big=np.arange(3, dtype=">i4"), zero_d=np.array(1.5))
        ours = ndl.load(tmp_path / "b.npz")
        assert all(same(ours[name], given[name]) for name in given) and same(ours["zeros"], zeros)
        assert same(ours["big"], np.arange(3, dtype="i4")) and same(ours["zero_d"], np.array(1.5))


# ---- what is not sound


def write_raw(path, entries, data=b"", length=None):
    """A safetensors file from {name: [dtype, shape, offsets]} or from the header itself."""
    if isinstance(entries, dict):
        keys = ("dtype", "shape", "data_offsets")
        entries = {n: dict(zip(keys, v, strict=True)) if isinstance(v, list) else v for n, v in entries.items()}
        entries = json.dumps(entries)
    header = entries if isinstance(entries, bytes) else entries.encode()
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)


U8 = ["U8", [2], [0, 2]]
BROKEN = [
    ({}, b"", 1 << 40, "begin with no header of sound length"),
    ({}, b"", 0, "begin with no header of sound length"),
    ({}, b"", 3, "begin with no header of sound length"),
    (" {}", b"", None, "its header does not begin with {"),
    ("[]", b"", None, "its header does not begin with {"),
    ("{]", b"", None, "its header is no JSON"),
    (b'{"\xff":1}', b"", None, "its header is no JSON"),
    ('{"a":' + "[" * 100_000, b"", None, "its header is no JSON"),
    ('{"a":NaN}', b"", None, "its header is no JSON"),
    ('{"a":' + "9" * 5000 + "}", b"", None, "no sound safetensors file"),
    ('{"a":1,"b":2,"a":3}', b"", None, "its header has 'a' twice"),
    ('{"__metadata__":{"a":"","a":""}}', b"", None, "its header has 'a' twice"),
    ({"__metadata__": {"a": 1}}, b"", None, "its __metadata__ does not hold texts by name"),
    ({"__metadata__": None}, b"", None, "its __metadata__ does not hold texts by name"),
    ({"a": 3}, b"", None, "the entry of 'a' is not one of dtype, shape and data_offsets"),
    ({"a": {"dtype": "U8", "shape": []}}, b"", None, "the entry of 'a' is not one of"),
    ({"a": ["F8_E4M3", [2], [0, 2]]}, b"ab", None, "'a' has dtype 'F8_E4M3', wanted one of BOOL"),
    ({"a": [["U8"], [2], [0, 2]]}, b"ab", None, "'a' has dtype ['U8'], wanted one of"),
    ({"a": ["U8", [-1, -2], [0, 2]]}, b"ab", None, "'a' has shape [-1, -2], wanted at most 64 whole numbers"),
    ({"a": ["U8", [2.0], [0, 2]]}, b"ab", None, "'a' has shape [2.0]"),
    ({"a": ["U8", [True, 2], [0, 2]]}, b"ab", None, "'a' has shape [True, 2]"),
    ({"a": ["U8", 2, [0, 2]]}, b"ab", None, "'a' has shape 2"),
    ({"a": ["U8", [1] * 65, [0, 1]]}, b"a", None, "'a' has shape [1, 1"),
    ({"a": ["U8", [0, 10**30], [0, 0]]}, b"", None, "'a' has shape [0, 1000"),
    ({"a": ["U8", [2], [0, 2, 2]]}, b"ab", None, "'a' has data_offsets [0, 2, 2], wanted two whole numbers"),
    ({"a": ["U8", [2], [-2, 0]]}, b"ab", None, "'a' has data_offsets [-2, 0]"),
    ({"a": ["U8", [2], [0, 1]]}, b"a", None, "'a' has bytes 0 to 1, wanted 2 for U8 of shape (2,)"),
    ({"a": ["F64", [2], [0, 2]]}, b"ab", None, "'a' has bytes 0 to 2, wanted 16 for F64"),
    ({"a": ["U8", [0], [2, 0]]}, b"ab", None, "'a' has bytes 2 to 0, wanted 0"),
    ({"a": ["U8", [2**31, 2**31], [0, 2**61]]}, b"ab", None, "wanted 4611686018427387904 for U8"),
    ({"a": ["U8", [2**40], [0, 2**40]]}, b"ab", None, "it has 2 bytes of data, its header tells of 1099511627776"),
    ({"a": U8}, b"abc", None, "it has 3 bytes of data, its header tells of 2"),
    ({"a": U8}, b"a", None, "it has 1 bytes of data, its header tells of 2"),
    ({"a": U8, "b": U8}, b"ab", None, "'b' begins at byte 0 of the data, wanted 2: it overlaps the tensor before"),
    (
        {"a": U8, "b": ["U8", [2], [3, 5]]},
        b"abcde",
        None,
        "'b' begins at byte 3 of the data, wanted 2: it leaves",
    ),
    ({"a": ["U8", [2], [1, 3]]}, b"abc", None, "'a' begins at byte 1 of the data, wanted 0: it leaves a gap"),
    ({"a": U8, "b": ["U8", [0], [1, 1]]}, b"ab", None, "begins at byte 1 of the data, wanted 2"),
]


@pytest.mark.parametrize("entries, data, length, text", BROKEN)
def test_a_safetensors_file_that_is_not_sound(tmp_path, entries, data, length, text):
    path = tmp_path / "a.safetensors"
    write_raw(path, entries, data, length)
    with pytest.raises(StorageError, match=re.escape(text)) as told:
        ndl.load(path)
    assert str(told.value).startswith(f"{path}: ") and "\n" not in str(told.value)


def test_the_files_that_the_faults_were_made_from_are_sound(tmp_path):
    write_raw(tmp_path / "a.safetensors", {"a": U8, "b": ["U8", [0], [2, 2]], "c": ["F16", [], [2, 4]]}, b"abcd")
    assert ndl.load(tmp_path / "a.safetensors")["a"].numpy().tolist() == [97, 98]


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)


def npy(header, data=b"", version=(1, 0)):
    header = repr(header).encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little") + header + data


HEADER = {"descr": "<f8", "fortran_order": False, "shape": (2,)}
BROKEN_NPZ = [
    ({"a_txt": b"hello"}, "'a.txt' in it is no .npy file"),
    ({"a_npy": b"hello"}, "no sound .npz file"),
    ({"a_npy": npy(HEADER, b"x" * 15)}, "bytes, its shape is (2,) float64"),
    ({"a_npy": npy(HEADER, b"x" * 17)}, "bytes, its shape is (2,) float64"),
    ({"a_npy": npy(HEADER | {"shape": (10**12,)}, b"x" * 16)}, "its shape is (1000000000000,) float64"),
    ({"a_npy": npy(HEADER | {"shape": (-2,)}, b"x" * 16)}, "no sound .npz file"),
    ({"a_npy": npy(HEADER | {"descr": "|O"}, b"x" * 16)}, "'a.npy' in it is of dtype object, wanted numbers"),
    ({"a_npy": npy(HEADER | {"descr": [("x", "<f8")]}, b"x" * 16)}, "wanted numbers or booleans"),
    ({"a_npy": npy(HEADER | {"descr": "<c16"}, b"x" * 32)}, "is of dtype complex128"),
    ({"a_npy": npy(HEADER, b"x" * 16), "b_npy": b""}, "no sound .npz file"),
    ({"a_npy": npy(HEADER, b"x" * 16, version=(9, 0))}, "of version 9.0"),
]


@pytest.mark.parametrize("members, text", BROKEN_NPZ)
def test_an_npz_file_that_is_not_sound(tmp_path, members, text):
    path = tmp_path / "a.npz"
    zipped(path, **members)
    with pytest.raises(StorageError, match=re.escape(text)) as told:
        ndl.load(path)
    assert str(told.value).startswith(f"{path}: ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_a_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for _ in range(2):
            archive.writestr("a.npy", npy(HEADER, b"x" * 16))
    with pytest.raises(StorageError, match=r"a\.npz: no sound \.npz file: it has 'a\.npy' twice"):
        ndl.load(tmp_path / "a.npz")


def test_a_small_archive_that_claims_to_be_huge(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(HEADER | {"shape": (10**8,)}, b"x" * 16))
    size = len(npy(HEADER | {"shape": (10**8,)}, b"x" * 16))
    claimed = 8 * 10**8 + size - 16
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little")))
    with pytest.raises(StorageError, match=f"'a.npy' in it has {claimed} bytes in "):
        ndl.load(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bang",)


def test_loading_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", a=np.array([Bomb()], object))
    with pytest.raises(StorageError, match="dtype object"):
        ndl.load("a.npz")
    assert os.listdir(tmp_path) == ["a.npz"]


def test_no_module_of_storage_can_run_code():
    for file in (ROOT / "needle" / "storage").glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
        names |= {alias.name for node in ast.walk(ast.parse(file.read_text())) for alias in getattr(node, "names", ())
                  if isinstance(alias, ast.alias)}  # fmt: skip
        assert not names & {"pickle", "marshal", "shelve", "eval", "exec", "import_module", "optional"}, file.name


# ---- systematic damage


def some_tensors():
    return {"w": np.arange(6, dtype="f4").reshape(2, 3), "mask": np.array([True, False]), "n": np.array(5)}


def written(path):
    """A file of the kind that the name says, and a function that reads it."""
    if path.name.startswith("checkpoint"):
        np.random.set_state(small_state())
        ndl.save_checkpoint(path, model=Part(some_tensors()), extra={"epoch": 3})
        return lambda: as_plain(read_checkpoint(path))
    ndl.save(some_tensors(), path)
    return lambda: as_plain(ndl.load(path))


def small_state():
    return np.random.RandomState(3).get_state()


def as_plain(tree):
    """Something to compare: dtype, shape and bytes of every array."""
    if isinstance(tree, dict):
        return {key: as_plain(value) for key, value in tree.items()}
    if isinstance(tree, (ndl.Tensor, np.ndarray)):
        array = np.asarray(tree.numpy() if isinstance(tree, ndl.Tensor) else tree)
        return str(array.dtype), array.shape, array.tobytes()
    return tree


KINDS = ["a.safetensors", "a.npz", "checkpoint.safetensors"]


@pytest.mark.parametrize("name", KINDS)
def test_every_truncation_is_refused(tmp_path, name):
    path = tmp_path / name
    read = written(path)
    whole = path.read_bytes()
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        with pytest.raises(StorageError):
            read()
    path.write_bytes(whole + b"\0")
    if name != "a.npz":  # what follows an archive is no part of it
        with pytest.raises(StorageError):
            read()
    path.write_bytes(whole)
    read()


@pytest.mark.parametrize("name", KINDS)
def test_every_flipped_bit_is_refused_or_harmless(tmp_path, name):
    path = tmp_path / name
    read = written(path)
    whole, right, harmless = path.read_bytes(), read(), 0
    places = [(i, bit) for i in range(len(whole)) for bit in (range(8) if i < 1200 else [i % 8])]
    with open(path, "r+b", buffering=0) as file:
        for i, bit in places:
            os.pwrite(file.fileno(), bytes([whole[i] ^ 1 << bit]), i)
            try:
                assert read() == right, f"bit {bit} of byte {i} changes what is read, unnoticed"
                harmless += 1
            except StorageError as error:
                assert str(error).startswith(f"{path}: ")
            os.pwrite(file.fileno(), whole[i : i + 1], i)
    if name == "a.safetensors":  # the name of the SHA-256: the file is as one of another program then
        assert 0 < harmless <= 8 * len("needle.sha256")
    else:  # dates and the like in a zip archive; in a checkpoint nothing at all
        assert (harmless == 0) == (name == "checkpoint.safetensors")


def test_a_changed_number_is_told_as_such(tmp_path):
    path = tmp_path / "a.safetensors"
    ndl.save({"w": np.zeros(3)}, path)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match=r"altered since needle wrote it: its SHA-256 is not the one"):
        ndl.load(path)


# ---- files whole or not at all


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert len(os.listdir(tmp_path)) == 2
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk(tmp_path, monkeypatch, ending, step):
    path = tmp_path / f"a{ending}"
    ndl.save({"x": np.zeros(3)}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, step, full)
    with pytest.raises(OSError, match="No space left"):
        ndl.save({"x": np.ones(3)}, path)
    monkeypatch.undo()
    assert ndl.load(path)["x"].numpy().tolist() == [0, 0, 0] and os.listdir(tmp_path) == [path.name]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else os.fstat(handle).st_size)
        fsync(handle)

    def noted_replace(*names):
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(atomic.os, "replace", noted_replace)
    with replacing(tmp_path / "a.bin") as file:
        file.write(b"12345")
    assert done == [5, "rename", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "a.bin", tmp_path / "link.bin"
    before = os.umask(0o027)
    try:
        with replacing(path) as file:
            file.write(b"1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        link.symlink_to("a.bin")
        with replacing(link) as file:
            file.write(b"2")
    finally:
        os.umask(before)
    assert link.is_symlink() and path.read_bytes() == b"2" and stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_place_that_cannot_be_written_to(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no/a\.npz: there is no folder .*no to write into; make it first"):
        ndl.save({}, tmp_path / "no" / "a.npz")
    (tmp_path / "b.npz").mkdir()
    with pytest.raises(OSError, match=r"b\.npz: is a folder or a device; wanted the name of a file"):
        ndl.save({}, tmp_path / "b.npz")


@pytest.mark.skipif(not atomic.LOCKS, reason="a system without flock")
def test_what_killed_processes_left_is_removed(tmp_path):
    names = {".a.bin.0123456789ab.part": True, ".b.bin.0123456789ab.part": False, ".a.bin.x.part": False}
    for name in names:
        (tmp_path / name).write_bytes(b"left")
        os.utime(tmp_path / name, (0, 0))
    young = tmp_path / ".a.bin.ffffffffffff.part"
    young.write_bytes(b"somebody just began")
    with replacing(tmp_path / "a.bin") as file:
        held = next(p for p in tmp_path.iterdir() if p.name.startswith(".a.bin.") and p.stat().st_size == 0)
        os.utime(held, (0, 0))
        with replacing(tmp_path / "a.bin") as other:  # another writer, while the first one holds its file
            other.write(b"other")
        assert held.exists()
        file.write(b"mine")
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    left = sorted(name for name, gone in names.items() if not gone)
    assert sorted(os.listdir(tmp_path)) == sorted([*left, young.name, "a.bin"])


SAVER = """
import os, random, signal, sys, time
import numpy as np
import needle as ndl

class Part:
    def __init__(self, n): self.n = n
    def state_dict(self): return {"w": np.full(50_000, float(self.n)), "n": self.n}
    def load_state_dict(self, state): self.n = state["n"]; assert (state["w"] == self.n).all()

path, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
for _ in range(3):  # the last one takes about as long as those to come
    begun = time.perf_counter()
    ndl.save_checkpoint(path, model=Part(0), extra=0)
span = 5 * (time.perf_counter() - begun)
last = torn = 0
for kill in range(kills):
    child = os.fork()
    if child == 0:
        for n in range(last + 1, 1_000_000):
            ndl.save_checkpoint(path, model=Part(n), extra=n)
    time.sleep(random.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    torn += any(name.endswith(".part") for name in os.listdir(os.path.dirname(path)))
    part = Part(0)
    extra = ndl.load_checkpoint(path, model=part)
    assert extra == part.n >= last, (extra, part.n, last)
    last = extra
    for name in os.listdir(os.path.dirname(path)):
        if name.endswith(".part"):
            os.unlink(os.path.join(os.path.dirname(path), name))
print(last, torn)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_the_last_good_checkpoint(tmp_path, kills):
    command = [sys.executable, "-W", "ignore", "-c", SAVER, str(tmp_path / "a.safetensors"), str(kills), "3"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    saved, torn = map(int, run.stdout.split())
    if kills > 100:  # otherwise the kills came at harmless moments only
        assert saved > 0 and torn > 0


# ---- checkpoints


class Part:
    """Anything with a state; takes only one with the names and shapes of its own."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        if state.keys() != self.state.keys():
            raise ValueError(f"wanted {sorted(self.state)}, got {sorted(state)}")
        self.state = state


TREES = [
    {"a": [1, 2.5, None, True, "x"], "b": {"c": (1, (2,), [])}, "d": {}},
    {0: {"exp": np.arange(3)}, 1: {"exp": np.ones((2, 2), "f2")}},
    {("a", 1): 2, None: 3, True: 4, 2.5: 5},
    {"$tensor": "not one", "x": {"$": 1}, "$pairs": [[1, 2]]},
    {"a.b": np.zeros(2), "a": {"b": np.ones(3)}, "__metadata__": np.arange(2)},
    {"big": 10**40, "small": -(2**70), "tiny": 5e-324, "third": 1 / 3, "inf": float("inf"), "low": -float("inf")},
    {"scalars": [np.float32(0.1), np.int8(-3), np.bool_(True), np.float64(0.1)], "text": 'ψ \n" \\ '},
    [np.array(3.5), np.zeros((0, 2)), np.array(True)],
]


@pytest.mark.parametrize("tree", TREES)
def test_any_nested_state_comes_back(tmp_path, tree):
    path = tmp_path / "a.safetensors"
    ndl.save_checkpoint(path, part=Part({"state": tree}), extra=tree)
    part = Part({"state": None})
    extra = ndl.load_checkpoint(path, part=part)
    for loaded in (extra, part.state["state"]):
        assert repr(loaded) == repr(tree)  # types included


class Bare(Part):
    """Its state is an array itself."""

    def load_state_dict(self, state):
        self.state = state


def test_a_part_may_have_any_name(tmp_path):
    given = {"__metadata__": np.arange(2), "extra_": np.ones(2), "": np.zeros(1), "a.b": np.ones(3)}
    ndl.save_checkpoint(tmp_path / "a.safetensors", **{name: Bare(array) for name, array in given.items()})
    parts = {name: Bare(None) for name in given}
    ndl.load_checkpoint(tmp_path / "a.safetensors", **parts)
    assert all(same(parts[name].state, given[name]) for name in given)


def test_nan_and_tensors_come_back(tmp_path):
    ndl.save_checkpoint(tmp_path / "a.safetensors", extra=[float("nan"), ndl.Tensor([1.0, 2.0]), np.float64("nan")])
    nan, tensor, scalar = ndl.load_checkpoint(tmp_path / "a.safetensors")
    assert nan != nan and scalar != scalar and type(scalar) is np.float64
    assert isinstance(tensor, ndl.Tensor) and same(tensor, np.array([1.0, 2.0])) and not tensor.requires_grad


def test_the_order_of_axes_in_memory_comes_back(tmp_path):
    x = np.random.rand(4, 3, 5)
    given = [x, x.T, x.transpose(1, 0, 2), x.transpose(2, 0, 1), x[:, :1].T, np.asfortranarray(x[0])]
    ndl.save_checkpoint(tmp_path / "a.safetensors", extra=given)
    for was, now in zip(given, ndl.load_checkpoint(tmp_path / "a.safetensors"), strict=True):
        assert same(was, now)
        assert was[..., 0, 0].strides == now[..., 0, 0].strides if was.ndim > 2 else was.strides == now.strides
        assert np.argsort(was.strides).tolist() == np.argsort(now.strides).tolist()


def streams():
    return {
        "needle": ndl.Generator(3),
        "pcg": np.random.default_rng(3),
        "mt": np.random.Generator(np.random.MT19937(3)),
        "philox": np.random.Generator(np.random.Philox(3)),
        "legacy": np.random.RandomState(3),
    }


def draws(generators):
    some = [g.uniform((3,)).tolist() if isinstance(g, ndl.Generator) else g.normal(size=3).tolist() for g in generators]
    return [*some, np.random.randn(3).tolist()]


def test_generators_go_on(tmp_path):
    mine = streams()
    draws(mine.values())
    ndl.save_checkpoint(tmp_path / "a.safetensors", **mine)
    wanted = draws(mine.values())
    np.random.seed(77)
    others = streams()
    ndl.load_checkpoint(tmp_path / "a.safetensors", **others)
    assert draws(others.values()) == wanted


def test_numpys_generator_can_be_left_alone(tmp_path):
    ndl.save_checkpoint(tmp_path / "a.safetensors")
    np.random.seed(5)
    ndl.load_checkpoint(tmp_path / "a.safetensors", numpy_random=False)
    assert np.random.rand() == np.random.RandomState(5).rand()


def test_versions_are_recorded(tmp_path):
    ndl.save_checkpoint(tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert found["numpy"] == np.__version__ and found["needle"]


def test_a_checkpoint_of_something_else_changes_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    ndl.save_checkpoint(path, model=Part({"w": np.ones(2)}), optimizer=Part({"u": np.ones(2)}))
    model, optimizer = Part({"w": np.zeros(2)}), Part({"momentum": np.zeros(2)})
    np.random.seed(5)
    with pytest.raises(StorageError) as told:
        ndl.load_checkpoint(path, model=model, optimizer=optimizer)
    wanted = "the state of optimizer does not fit, nothing was loaded: wanted ['momentum'], got ['u']"
    assert str(told.value) == f"{path}: {wanted}"
    assert same(model.state["w"], np.zeros(2)) and same(optimizer.state["momentum"], np.zeros(2))
    assert np.random.rand() == np.random.RandomState(5).rand()


def test_a_checkpoint_of_another_model_names_every_key(tmp_path):
    path = tmp_path / "a.safetensors"
    ndl.save_checkpoint(path, model=ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.Linear(4, 2, bias=False)))
    model = ndl.nn.Sequential(ndl.nn.Linear(3, 5), ndl.nn.Identity(), ndl.nn.Linear(5, 2))
    before = {name: x.numpy() for name, x in model.state_dict().items()}
    with pytest.raises(StorageError, match=re.escape(f"{path}: the state of model does not fit")) as told:
        ndl.load_checkpoint(path, model=model)
    for text in ("missing: 2.weight", "missing: 2.bias", "unexpected: 1.weight", "0.weight is (3, 4)", "0.bias is"):
        assert text in str(told.value)
    assert all(same(x, before[name]) for name, x in model.state_dict().items())


def test_a_part_that_the_file_lacks(tmp_path):
    path = tmp_path / "a.safetensors"
    ndl.save_checkpoint(path, model=Part({}))
    with pytest.raises(StorageError, match=r"has no state of optimizer, loader; it has those of model"):
        ndl.load_checkpoint(path, model=Part({}), optimizer=Part({}), loader=Part({}))


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    ndl.save({"w": np.ones(2)}, path)
    with pytest.raises(StorageError, match=re.escape(f"{path}: is no checkpoint of needle; ndl.load reads plain")):
        ndl.load_checkpoint(path)
    for text, message in [
        ('{"version": 2, "state": {}}', "is a checkpoint of version 2, wanted 1; it needs a newer needle"),
        (
            '{"version": 1, "needle": "", "numpy": "", "state": {"$eval": ""}}',
            "no sound checkpoint (KeyError('$eval'))",
        ),
        ("{", "no sound checkpoint (JSONDecodeError"),
        ("[]", "no sound checkpoint (TypeError"),
    ]:
        write_safetensors(path, {}, {"needle.checkpoint": text})
        with pytest.raises(StorageError, match=re.escape(f"{path}: {message}")):
            ndl.load_checkpoint(path)
    write_raw(path, {"__metadata__": {"needle.checkpoint": "{}"}})
    with pytest.raises(StorageError, match=r"a checkpoint without its SHA-256 \(needle\.sha256 in its metadata\)"):
        ndl.load_checkpoint(path)


def test_what_cannot_be_in_a_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(TypeError, match=r"model is a list, wanted something with state_dict\(\) and load_state_dict"):
        ndl.save_checkpoint(path, model=[1])
    with pytest.raises(TypeError, match=r"checkpoint: model\.a\.1 is a set, which cannot be saved; wanted numbers"):
        ndl.save_checkpoint(path, model=Part({"a": [1, {2}]}))
    with pytest.raises(TypeError, match=r"checkpoint: extra\.x has dtype complex128, which cannot be saved"):
        ndl.save_checkpoint(path, extra={"x": np.ones(2, complex)})
    with pytest.raises(ValueError, match="no part can be named numpy_random"):
        ndl.save_checkpoint(path, numpy_random=np.random)
    assert os.listdir(tmp_path) == []


def test_a_snapshot_is_a_copy_and_can_be_put_back():
    part = Part({"w": np.ones(2)})
    before = snapshot({"part": part})
    part.state["w"][:] = 5
    restore_states({"part": part}, before, "here")
    assert same(part.state["w"], np.ones(2))


def test_random_damage_of_a_larger_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    ndl.save_checkpoint(path, model=Part({"w": np.random.rand(1000)}))
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        begin = random.randrange(len(whole))
        end = min(len(whole), begin + random.randrange(1, 64))
        damaged[begin:end] = random.randbytes(end - begin)
        path.write_bytes(damaged)
        if bytes(damaged) != whole:
            with pytest.raises(StorageError):
                read_checkpoint(path)


def test_a_generator_state_that_would_read_foreign_memory_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    source = np.random.RandomState(0)
    for position in (625, 10**9, -1):
        state = source.get_state(legacy=False)
        state["state"]["pos"] = position

        class Hostile:
            def state_dict(self, state=state):
                return state

            def load_state_dict(self, state):
                raise AssertionError

        ndl.save_checkpoint(path, generator=Hostile())
        with pytest.raises(ndl.StorageError, match="a generator's position must lie in its table"):
            ndl.load_checkpoint(path, generator=np.random.RandomState(1))
