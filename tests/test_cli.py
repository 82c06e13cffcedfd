"""The command line: `python -m needle info` and `python -m needle gradcheck`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from needle import __main__ as cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]

MODULE = """
import numpy as np

import needle as ndl


class Half(ndl.TensorOp):
    def compute(self, a):
        return a * a

    def gradient(self, out_grad, node):
        return out_grad * node.inputs[0]


def right(x, w):
    return ndl.tanh(x @ w)


right.shapes = [(3, 4), (4, 2)]


def wrong(x):
    return Half()(x)


def noisy(x):
    return x * np.random.rand()


def logarithm(x):
    return ndl.log(x)


def number(x):
    return x * x


def leaves(x):
    raise SystemExit(0)


def told_wrongly(x):
    return x


told_wrongly.shapes = [3]


def told_nothing():
    return ndl.Tensor([1.0])


told_nothing.shapes = []


def _private(x):
    return x


class Box:
    @staticmethod
    def inside(x):
        return ndl.exp(x)


TWO = 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a user's module in it; what gets imported is forgotten afterwards."""
    (tmp_path / "my_ops.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "exits.py").write_text("import sys\n\nsys.exit(0)\n", encoding="utf-8")
    (tmp_path / "needy.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("my_ops", "broken", "exits", "needy"):
            del sys.modules[name]


def run(capsys, *argv: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command."""
    try:
        status = cli.main(argv)
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


# --- gradcheck -------------------------------------------------------------------------------------------------


def test_a_right_gradient(folder, capsys):
    status, out, err = run(capsys, "gradcheck", "my_ops:right")
    assert (status, err) == (0, "") and out.startswith("gradcheck: pass"), out


def test_a_wrong_gradient_names_op_and_line(folder, capsys):
    status, out, err = run(capsys, "gradcheck", "my_ops:wrong", "--shape", "3")
    assert (status, err) == (1, "") and out.startswith("gradcheck: fail: Half"), out
    assert "my_ops.py:23" in out.replace(os.sep, "/") and "return Half()(x)" in out


def test_cannot_tell(folder, capsys):
    status, out, _ = run(capsys, "gradcheck", "my_ops:noisy", "--shape", "3")
    assert status == 2 and out.startswith("gradcheck: cannot tell"), out


@pytest.mark.parametrize("shape", ["()", "", "2,", "(2, 3)"])
def test_shapes(folder, capsys, shape, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "gradcheck", lambda f, *inputs, **options: seen.append((inputs, options)) or Passed())
    assert run(capsys, "gradcheck", "my_ops:number", "--shape", shape)[0] == 0
    ((x,), options) = seen[0]
    assert x.shape == {"()": (), "": (), "2,": (2,), "(2, 3)": (2, 3)}[shape] and x.dtype == "float64"
    assert options == {"order": 1, "full": False, "seed": 0}


def test_some_inputs_may_be_empty(folder, capsys, monkeypatch):
    monkeypatch.setattr(cli, "gradcheck", lambda f, *inputs, **options: Passed())
    assert run(capsys, "gradcheck", "my_ops:right", "--shape", "0,3", "--shape", "3,2")[0] == 0


@pytest.mark.parametrize("option", [["--range", "-2,-1"], ["--range=-2,-1"], ["--range", "-2e0,-.5"]], ids=" ".join)
def test_ranges_below_zero(folder, capsys, monkeypatch, option):
    seen = []
    monkeypatch.setattr(cli, "gradcheck", lambda f, *inputs, **options: seen.append(inputs[0]) or Passed())
    assert run(capsys, "gradcheck", "my_ops:number", "--shape", "50", *option)[0] == 0
    assert -2 <= seen[0].min() < -1.5 and seen[0].max() < -0.5


class Passed:
    verdict = "pass"


def test_options_reach_the_checker(folder, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "gradcheck", lambda f, *inputs, **options: seen.append((inputs, options)) or Passed())
    command = "gradcheck my_ops:logarithm --shape 50 --range 0.5,2 --order 2 --full --seed 7"
    assert run(capsys, *command.split())[0] == 0
    ((x,), options) = seen[0]
    assert 0.5 <= x.min() < 0.7 and 1.8 < x.max() < 2
    assert options == {"order": 2, "full": True, "seed": 7}


def test_the_seed_decides_the_inputs(folder, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "gradcheck", lambda f, *inputs, **options: seen.append(inputs[0]) or Passed())
    for seed in ("1", "1", "2"):
        run(capsys, "gradcheck", "my_ops:number", "--shape", "3", "--seed", seed)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).all()


def test_a_function_inside_a_class(folder, capsys):
    assert run(capsys, "gradcheck", "my_ops:Box.inside", "--shape", "2")[0] == 0


TROUBLE = [
    (["nowhere:f"], "there is no module nowhere in"),
    (["nowhere.deeper:f"], "there is no module nowhere.deeper in"),
    (["my_ops.py:wrong"], "name it without the .py: my_ops"),
    (
        ["my_ops:missing"],
        "my_ops has no missing; it has right, wrong, noisy, logarithm, number, leaves, told_wrongly, told_nothing",
    ),
    (["my_ops:TWO"], "wanted a function, this is of type int"),
    (["my_ops"], "'my_ops': wanted MODULE:FUNCTION, as in my_ops:swish"),
    (["my_ops:"], "wanted MODULE:FUNCTION"),
    (["broken:f"], "broken cannot be imported: ZeroDivisionError: division by zero"),
    (["exits:f"], "exits cannot be imported: SystemExit: 0"),
    (["my_ops:leaves", "--shape", "3"], "my_ops:leaves could not be checked: SystemExit: 0"),
    (["my_ops:number", "--shape", "0"], "my_ops:number: nothing to check: the inputs [(0,)] have no entries"),
    (["my_ops:right", "--shape", "0,3", "--shape", "3,0"], "nothing to check: the inputs [(0, 3), (3, 0)]"),
    (["my_ops:told_nothing"], "nothing to check: the inputs [] have no entries"),
    (["my_ops:told_wrongly"], "my_ops:told_wrongly.shapes is [3], wanted an attribute of the function, f.shapes ="),
    (["my_ops:number", "--shape", "100000,100000,1000000"], "an input of shape (100000, 100000, 1000000) cannot be"),
    (["my_ops:number", "--shape", "100000,100000,100000,100000"], "cannot be made: "),
    (["needy:f"], "needy cannot be imported: No module named 'nowhere_to_be_found'"),
    (["my_ops:wrong"], "say the shape of each input, --shape 3,4 --shape 4, or as an attribute"),
    (
        ["my_ops:right", "--shape", "3"],
        "my_ops:right(x, w) does not go with 1 shapes: missing a required argument: 'w'",
    ),
    (["my_ops:number", "--shape", "3", "--shape", "3"], "does not go with 2 shapes: too many positional arguments"),
]


@pytest.mark.parametrize("arguments, sentence", TROUBLE, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_trouble_is_told_in_one_line(folder, capsys, arguments, sentence):
    status, out, err = run(capsys, "gradcheck", *arguments)
    assert (status, out) == (2, "") and err.startswith("needle: ") and err.count("\n") == 1, err
    assert sentence in err


def test_a_function_that_raises(folder, capsys):
    status, out, err = run(capsys, "gradcheck", "my_ops:right", "--shape", "3,4", "--shape", "3,4")
    assert (status, out) == (2, "")
    assert err.startswith("needle: my_ops:right could not be checked: ValueError: MatMul: "), err
    assert "got (3, 4) float64, (3, 4) float64" in err and "Traceback" not in err


BAD_OPTIONS = [["--shape", "a"], ["--shape", "-3"], ["--shape", "2.5"], ["--range", "2,1"], ["--range", "1"],
               ["--range", "1,inf"], ["--range", "-inf,1"], ["--range", "nan,1"], ["--range", "-1e308,1e308"],
               ["--order", "3"], ["--seed", "x"], ["--seed", "-1"]]  # fmt: skip


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=" ".join)
def test_bad_options(folder, capsys, options):
    status, out, err = run(capsys, "gradcheck", "my_ops:number", f"{options[0]}={options[1]}")
    assert (status, out) == (2, "") and f"argument {options[0]}: invalid" in err and repr(options[1])[1:-1] in err


# --- info, help ------------------------------------------------------------------------------------------------


def test_info_tells_of_versions_machine_and_packages(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    status, out, err = run(capsys, "info")
    assert (status, err) == (0, "")
    for line in (
        rf"^NumPy +{re.escape(np.__version__)}$",
        rf"^Python +{sys.version_info.major}\.{sys.version_info.minor}",
        r"^backend +np .*devices: needle\.cpu\(\)",
        r"^processors +\d+, of which this process may use \d+$",
        r"^memory +(\d+\.\d GiB free of \d+\.\d GiB|unknown)",
        r"^BLAS +\w",
        r"^threads +.*OMP_NUM_THREADS=1",
    ):
        assert re.search(line, out, re.MULTILINE), f"{line} not in\n{out}"


def test_info_is_a_doctor_for_missing_packages(capsys, monkeypatch):
    monkeypatch.setattr(cli, "have", lambda module: module == "pytest")
    _, out, _ = run(capsys, "info")
    assert re.search(rf"^  pytest +{re.escape(pytest.__version__)}$", out, re.MULTILINE)
    assert "scikit-learn  missing, for the digits data set: pip install scikit-learn, or '.[apps]' in a clone" in out
    assert "unknown without threadpoolctl" in out
    assert "advice: numba would speed up eager ops: pip install numba" in out


def test_info_finds_more_threads_than_processors(capsys, monkeypatch):
    monkeypatch.setattr(cli, "thread_pools", lambda: [{"internal_api": "openblas", "num_threads": 10_000}])
    _, out, _ = run(capsys, "info")
    assert re.search(r"advice: openblas runs 10000 threads on \d+ processors.* set OMP_NUM_THREADS=\d+", out)


def test_info_where_the_system_tells_nothing(capsys, monkeypatch):
    monkeypatch.setattr(cli, "MEMORY_FILE", Path("nowhere"))
    monkeypatch.setattr(cli.numpy, "show_config", lambda: None)  # as before NumPy 1.25
    monkeypatch.delattr(cli.os, "sched_getaffinity", raising=False)
    status, out, _ = run(capsys, "info")
    assert status == 0 and "unknown on this system" in out and "unknown (this NumPy does not say)" in out


def test_info_knows_every_package_of_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        extra: {re.match(r"[\w-]+", need)[0] for need in needs if not need.startswith("needle")}
        for extra, needs in project["optional-dependencies"].items()
        if extra not in ("all", "dev")
    }
    told = {(cli.distribution(module), extra) for module, extra, _ in cli.PACKAGES}
    assert {name for name, _ in told} == set().union(*extras.values())
    assert [(name, extra) for name, extra in sorted(told) if name not in extras[extra]] == []


def test_no_command_prints_the_help(capsys):
    status, out, _ = run(capsys)
    assert status == 0 and "python -m needle" in out and "info" in out and "gradcheck" in out


def test_help_tells_of_shapes_and_exit_status(capsys):
    status, out, _ = run(capsys, "gradcheck", "--help")
    assert status == 0
    out = " ".join(out.split())
    assert "f.shapes = [(3, 4), (4,)]" in out and "0 pass, 1 fail, 2 cannot tell" in out


def test_an_unknown_command(capsys):
    status, _, err = run(capsys, "train")
    assert status == 2 and "invalid choice: 'train'" in err


# --- as a process of its own -----------------------------------------------------------------------------------


def process(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "needle", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_python_m_needle(folder):
    done = process(folder, "gradcheck", "my_ops:wrong", "--shape", "3")
    assert done.returncode == 1 and done.stdout.startswith("gradcheck: fail: Half") and done.stderr == ""
    lost = process(folder, "gradcheck", "my_ops:right", "--shape", "3,4", "--shape", "3,4")
    assert lost.returncode == 2 and lost.stderr.startswith("needle: my_ops:right could not be checked")
    assert "made at" not in lost.stderr  # needle itself made the inputs: there is no line of the user's
