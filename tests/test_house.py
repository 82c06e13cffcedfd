"""The house around the code: packaging, what `import needle` does and does not do, python/needle."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from needle.optional import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, cwd: Path, path: Path | None = None) -> dict:
    """Runs `code` in a process of its own, in `cwd`, with PYTHONPATH `path`; gives what it left in `told`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "NEEDLE"))}
    env = clean | ({"PYTHONPATH": str(path)} if path else {})
    code = f"told = {{}}\n{code}\nimport json\nprint(json.dumps(told))"
    run = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)  # fails if anything else was printed


# ---- packaging


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_setup_py_is_a_stub():
    docstring, load, call = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
    assert isinstance(ast.literal_eval(docstring.value), str)
    assert ast.unparse([load, call]) == "from setuptools import setup\nsetup()"


def test_the_core_needs_numpy_alone(project):
    assert [re.match(r"[\w-]+", need)[0] for need in project["dependencies"]] == ["numpy"]


def test_every_extra_that_a_message_may_name_exists(project):
    assert set(EXTRAS) <= set(project["optional-dependencies"])


def test_the_version_is_told_once(project):
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == project["version"]


def test_no_file_carries_a_path_of_somebodys_machine():
    names = files_of_the_repository()
    assert len(names) > 10
    found = [line for name in names for line in machine_paths(name, ROOT / name)]
    assert not found, "\n".join(found)


def files_of_the_repository() -> list[str]:
    """Those that git has, and those that it would take."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return run.stdout.splitlines()


def machine_paths(name: str, file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError):  # a picture; or deleted, and not yet committed so
        return []
    own = f"|{re.escape(str(ROOT))}/" if len(ROOT.parts) > 2 else ""
    folders = rf"(?<![\w.])(/(home|Users)/\w|/roo[t]/{own})|\b[A-Za-z]:\\+Users\\"
    return [f"{name}:{n}: {line.strip()}" for n, line in enumerate(lines, 1) if re.search(folders, line)]


FOLDERS = ["/home" + "/ann/needle", "'/Users" + "/ann'", "C:\\Users" + "\\ann", "/root" + "/x", f"{ROOT}/x"]


@pytest.mark.parametrize("line", FOLDERS)
def test_a_path_of_a_machine_is_found(tmp_path, line):
    file = tmp_path / "a.txt"
    file.write_text(f"fine: ./home/x, /usr/bin/env\ncd {line}\n", encoding="utf-8")
    assert machine_paths("a.txt", file) == [f"a.txt:2: cd {line}"]


# ---- import needle


def test_importing_is_silent_draws_no_random_number_and_needs_numpy_alone():
    told = python(
        "import sys, random, numpy as np\n"
        "before = np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate()\n"
        "known = set(sys.modules)\n"
        "import needle\n"
        "after = np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate()\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - known}\n"
        "told['foreign'] = sorted(tops - sys.stdlib_module_names - {'needle', 'numpy'})\n"
        "told['drawn'] = before != after\n",
        cwd=ROOT,
    )
    assert told == {"foreign": [], "drawn": False}


def test_importing_is_quick():
    begin, end = "begin = time.perf_counter()", "told = time.perf_counter() - begin"
    told = python(f"import numpy, time\n{begin}\nimport needle\n{end}", cwd=ROOT)
    assert told < 1.0, f"import needle took {told:.2f} s on top of NumPy"  # 0.1 s on a machine at rest


def test_the_checkout_wins_where_it_is_the_working_directory():
    assert python("import needle; told = needle.__file__", ROOT) == str(ROOT / "needle" / "__init__.py")


# ---- python/needle, the forwarder

LOOK = """
import needle, needle.autograd, needle.ops.ops_tuple
from needle import autograd
from needle.autograd import Tensor
told["file"] = needle.__file__
told["one"] = (
    needle is sys.modules["needle"] and needle.autograd is autograd is sys.modules["needle.autograd"]
    and needle.Tensor is Tensor is needle.ops.ops_tuple.Tensor
)
told["isinstance"] = isinstance(needle.Tensor([1.0]) + 1, Tensor)
told["twice"] = [m for m in sys.modules if m.endswith(".autograd") and m != "needle.autograd"]
told["path"] = [entry for entry in sys.path if entry == root]
"""


def forwarded(folder: str | Path, cwd: Path, path: Path | None = None, before: str = "") -> dict:
    """What a process in `cwd` sees that puts `folder` first on its path and imports needle."""
    begin = f"import sys\nroot = {str(ROOT)!r}\nsys.path[:] = [p for p in sys.path if p not in ('', root)]\n"
    return python(f"{begin}{before}\nsys.path.insert(0, {str(folder)!r})\n{LOOK}", cwd, path)


REAL = {
    "file": str(ROOT / "needle" / "__init__.py"),
    "one": True,
    "isinstance": True,
    "twice": [],
    "path": [],
}


def test_forwarder_from_another_directory(tmp_path):
    assert forwarded(ROOT / "python", cwd=tmp_path) == REAL


@pytest.mark.parametrize("cwd, folder", [("apps", "../python"), (".", "./python")])
def test_forwarder_by_a_relative_path(cwd, folder):
    assert forwarded(folder, cwd=ROOT / cwd) == REAL


@pytest.mark.parametrize("link", ["python", "python/needle", "python/needle/__init__.py"])
def test_forwarder_through_a_symbolic_link(tmp_path, link):
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    try:
        (tmp_path / link).symlink_to(ROOT / link)
    except OSError:
        pytest.skip("this system makes no symbolic links")
    assert forwarded("./python", cwd=tmp_path) == REAL


@pytest.fixture
def another_needle(tmp_path) -> Path:
    """A folder with a package needle that is not ours, as an installed one would be."""
    (tmp_path / "site" / "needle").mkdir(parents=True)
    (tmp_path / "site" / "needle" / "__init__.py").write_text("autograd = 'none of ours'\n")
    return tmp_path / "site"


def test_forwarder_beside_another_installed_needle(tmp_path, another_needle):
    assert python("import needle; told = needle.autograd", tmp_path, path=another_needle) == "none of ours"
    assert forwarded(ROOT / "python", cwd=tmp_path, path=another_needle) == REAL


def test_forwarder_where_nothing_is_installed(tmp_path):
    bare = (
        "import importlib.util, os, numpy\n"  # NumPy may lie beside an installed needle
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
        "sys.path[:] = [p for p in sys.path if not os.path.isdir(os.path.join(p, 'needle'))]\n"
        "assert importlib.util.find_spec('needle') is None\n"
    )
    assert forwarded(ROOT / "python", cwd=tmp_path, before=bare) == REAL


def test_forwarder_leaves_a_needle_that_is_already_imported(tmp_path, another_needle):
    told = python(
        f"import sys, needle\nfirst = needle\nsys.path.insert(0, {str(ROOT / 'python')!r})\n"
        "import needle\ntold = needle is first and needle.autograd",
        tmp_path,
        path=another_needle,
    )
    assert told == "none of ours"


def test_forwarder_under_its_own_dotted_name(tmp_path):
    told = python("import needle, python.needle; told = python.needle is needle", ROOT)
    assert told is True


def test_forwarder_passes_on_why_the_package_does_not_load(tmp_path):
    (tmp_path / "needle").mkdir()
    (tmp_path / "needle" / "__init__.py").write_text("raise ImportError('broken on purpose')\n")
    (tmp_path / "python" / "needle").mkdir(parents=True)
    (tmp_path / "python" / "needle" / "__init__.py").write_bytes(
        (ROOT / "python" / "needle" / "__init__.py").read_bytes()
    )
    told = python(
        "import sys\nbefore = list(sys.path)\n"
        "try:\n    import needle\nexcept ImportError as error:\n    told = str(error)\n"
        "assert sys.path == before and 'needle' not in sys.modules",
        cwd=tmp_path / "python",
    )
    assert told == "broken on purpose"
