"""The benchmarks' harness in a tiny mode: it runs, it finds wrong numbers, it reports. No time is held to anything."""

import argparse
import textwrap
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import ndarray, report, rounds, worker
from benchmarks.__main__ import chosen, main, takes_part
from benchmarks.rounds import Row, WrongNumbers, measure, ratios
from benchmarks.table import NEEDLE, REFERENCE, RIVALS, WORKLOADS, Rival, Workload

ARRAYS = [w for w in WORKLOADS if w.module == ndarray.__name__]
WRITTEN_BY_HAND = [w for w in WORKLOADS if hasattr(import_module(w.module), "by_hand") and w not in ARRAYS]
TORCH = [pytest.mark.oracle, pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")]
BY_HAND = next(rival for rival in RIVALS if rival.name == "NumPy by hand")

STEPS = """
    import needle as ndl
    from needle.optional import optional

    def needle(slope=2.0):
        x = ndl.Tensor([1.0, 2.0])

        def step(i):
            nonlocal x
            (x * x).sum().backward()
            x = x.detach() - slope / 2 * 0.1 * x.grad.detach()
            x.requires_grad = True
            return x

        return step

    def torch_eager():
        return needle(slope=2.0)

    def half():
        return needle(slope=1.0)

    def nan():
        return lambda i: [float("nan"), 1.0]

    def absent():
        optional("no_such_package", extra="bench", why="this test")

    def talkative():
        print("a framework prints")
        return needle()
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    (tmp_path / "tiny_steps.py").write_text(textwrap.dedent(STEPS))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Workload("tiny", "a tiny step", "tiny_steps", block=3)


def run(workload, *functions):
    return measure(workload, [Rival(name, name) for name in functions], rounds=2, patience=0)


@pytest.mark.parametrize("workload", WRITTEN_BY_HAND, ids=lambda w: w.name)
def test_needle_computes_what_numpy_by_hand_computes(workload):
    rows = measure(workload, [NEEDLE, BY_HAND], rounds=1, block=2, patience=0)
    assert [row.missing for row in rows] == ["", ""]
    assert all(len(row.times) == 1 and row.times[0] > 0 and row.off <= rounds.RTOL for row in rows)


@pytest.mark.parametrize("function", ["needle_cpu_numpy", "by_hand", pytest.param("torch_eager", marks=TORCH)])
@pytest.mark.parametrize("workload", ARRAYS, ids=lambda w: w.name)
def test_every_operation_on_arrays_is_the_same_work(workload, function):
    options = {**workload.options, "side": 30}
    results = [getattr(ndarray, name)(**options)(0) for name in ("needle", function)]
    one, other = map(worker.array_of, results)
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert one.flags.c_contiguous and other.flags.c_contiguous


def test_needle_computes_what_numpy_by_hand_computes_with_arrays():
    workload = next(w for w in ARRAYS if w.name == "ndarray_compact_transposed")
    rows = measure(workload, [NEEDLE, BY_HAND], rounds=1, block=2, patience=0)
    assert [row.off for row in rows] == [0, 0] and all(row.times for row in rows)


@pytest.mark.parametrize("swap", [(0, 1), (7, 99_999), (50_001, 50_002)])
def test_of_a_large_result_every_number_counts(swap):
    result = np.random.default_rng(0).random(100_000).astype("float32")
    wanted = worker.numbers(result)
    assert len(wanted) <= worker.MANY + 2
    result[list(swap)] = result[list(swap)[::-1]]
    assert worker.numbers(result) != wanted


def test_who_takes_part():
    names = {w.name: [r.name for r in RIVALS if takes_part(r, w)] for w in WORKLOADS}
    assert names["ndarray_add"] == ["needle", "needle cpu_numpy", "PyTorch eager", "NumPy by hand"]
    assert "PyTorch fused Adam" in names["mlp_resnet"] and "PyTorch fused Adam" not in names["softmax"]
    assert "PyTorch fused Adam" in names["transformer_block"] and "PyTorch fused Adam" not in names["lstm_step"]
    assert "needle cpu_numpy" not in names["softmax"] and "jax.jit" in names["softmax"]


def test_a_star_stands_for_several_workloads(capsys):
    parser = argparse.ArgumentParser()
    assert chosen("ndarray_sum*, softmax", WORKLOADS, parser) == [
        *(w for w in WORKLOADS if w.name.startswith("ndarray_sum")),
        WORKLOADS[0],
    ]
    with pytest.raises(SystemExit):
        chosen("ndarrays*", WORKLOADS, parser)
    assert "there is no 'ndarrays*'; choose from softmax" in capsys.readouterr().err


@pytest.mark.oracle
@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("name", ["hidden100", "mlp_resnet", "transformer_block", "lstm_step"])
def test_needle_computes_what_pytorch_computes(name):
    workload = next(w for w in WORKLOADS if w.name == name)
    needle, torch = measure(workload, [NEEDLE, REFERENCE], rounds=1, block=2, patience=0)
    assert not torch.missing and torch.off == 0
    assert 0 < needle.off <= rounds.RTOL


def test_a_wrong_update_stops_the_benchmark(tiny):
    with pytest.raises(WrongNumbers, match="tiny: half gives .* in step 1, needle gives .* apart"):
        run(tiny, "needle", "half")


def test_not_a_number_stops_the_benchmark(tiny):
    with pytest.raises(WrongNumbers, match="nan gives nan"):
        run(tiny, "needle", "nan")


def test_pytorch_is_the_reference_wherever_it_stands(tiny):
    rivals = [Rival("half", "half"), Rival(REFERENCE.name, REFERENCE.function)]
    with pytest.raises(WrongNumbers, match="half gives .* PyTorch eager gives"):
        measure(tiny, rivals, rounds=1, patience=0)


def test_wrong_numbers_are_a_failed_command(monkeypatch, capsys):
    monkeypatch.setattr(rounds, "RTOL", -1.0)
    assert main(["--only", "softmax", "--rivals", "NumPy by hand", "--quick"]) == 1
    assert "softmax: NumPy by hand gives" in capsys.readouterr().err


@pytest.mark.parametrize(
    "got, wanted, off",
    [
        ([1.0], [1.0], 0),
        ([1.0, 3.0], [1.0, 2.0], 0.5),
        ([0.0], [0.0], 0),
        ([], [], 0),
        ([1.0], [1.0, 1.0], float("inf")),
        ([float("nan")], [float("nan")], float("inf")),
    ],
)
def test_difference(got, wanted, off):
    assert rounds.difference(got, wanted) == off


def test_a_missing_rival_says_so_and_the_others_run(tiny):
    absent, needle = run(tiny, "absent", "needle")
    assert "no_such_package is needed for this test and is not installed" in absent.missing
    assert absent.times == [] and len(needle.times) == 2
    assert "no_such_package is needed" in report.table([absent, needle])


def test_what_a_framework_prints_is_no_answer(tiny):
    assert [len(row.times) for row in run(tiny, "needle", "talkative")] == [2, 2]


def test_ratios_are_taken_round_by_round():
    workload = WORKLOADS[0]
    rows = [Row(workload, NEEDLE, [1.0, 2.0, 4.0]), Row(workload, REFERENCE, [3.0, 4.0, 4.0])]
    assert ratios(rows[1], rows) == [1.0, 2.0, 3.0]
    assert report.spread(ratios(rows[1], rows)) == "2.00× (1.50–2.50)"


def test_the_report_is_written(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    command = ["--only", "softmax", "--rivals", "needle,NumPy by hand", "--quick", "--save", str(tmp_path)]
    assert main(command) == 0
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    for words in ("date: ", "commit ", "processor: ", "threads: ", "numpy ", "BLAS of NumPy: ", "| NumPy by hand | "):
        assert words in text
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert "| needle | " in capsys.readouterr().out


@pytest.mark.parametrize(
    "option, words",
    [
        (["--only", "sofmax"], "there is no 'sofmax'; choose from softmax, hidden100"),
        (["--rivals", "Theano"], "there is no 'Theano'; choose from needle"),
        (["--repeat", "0"], "--repeat must be at least 1, got 0"),
    ],
)
def test_a_wrong_option_is_explained(option, words, capsys):
    with pytest.raises(SystemExit):
        main(option)
    assert words in capsys.readouterr().err
