"""The notebooks: committed without outputs, and running from top to bottom without an error or a warning."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

FOLDER = Path(__file__).resolve().parents[1] / "hw_notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PICTURES = {"softmax_regression.ipynb": 10}  # a new notebook gets a line
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
HARMLESS = ("Matplotlib is building the font cache",)  # what a machine may say that runs Matplotlib for the first time

# jupyter_core 5 asks those to change folders who use it as a library.
pytestmark = pytest.mark.filterwarnings("ignore:Jupyter is migrating its paths:DeprecationWarning")


class ThisPython(AsyncKernelManager):
    """Knows no installed kernel, so that python3 means the interpreter that runs the tests."""

    def __init__(self, **options):
        super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **options)


@pytest.fixture(autouse=True)
def _leave_no_files(tmp_path_factory, monkeypatch):
    """Connection files and IPython's history go elsewhere; nobody's startup files come in."""
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def run(notebook: NotebookNode, folder: Path, timeout: float = 60) -> NotebookNode:
    """Runs all cells in `folder`, under this very Python; raises at the first that fails or takes too long."""
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_manager_class=ThisPython, timeout=timeout, resources=where)
    # MPLBACKEND, as conftest.py sets it, would keep the pictures out of the notebook.
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "NEEDLE", "MPLBACKEND"))}
    return client.execute(env=own)


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def complaints(notebook: NotebookNode) -> list[str]:
    """The lines written to stderr, where warnings go."""
    written = "".join(output.text for output in outputs(notebook) if output.get("name") == "stderr")
    return [line for line in written.splitlines() if not line.startswith(HARMLESS)]


def pictures(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def flaws(notebook: NotebookNode) -> list[str]:
    """Why a notebook should not be committed as it is."""
    found = [f"metadata {key}" for key in notebook.metadata.keys() - {"kernelspec"}]
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        found.append("another kernelspec than python3")
    for cell in notebook.cells:
        if not re.fullmatch(r"[a-z][a-z0-9-]{1,31}", cell.id):
            found.append(f"{cell.id}: an id that nobody chose")
        if cell.metadata:
            found.append(f"{cell.id}: metadata")
        if cell.cell_type == "code" and cell.outputs:
            found.append(f"{cell.id}: outputs")
        if cell.cell_type == "code" and cell.execution_count is not None:
            found.append(f"{cell.id}: an execution count")
    return found


def small(*sources: str) -> NotebookNode:
    cells = [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    return new_notebook(cells=cells, metadata={"kernelspec": dict(KERNELSPEC)})


# --- the notebooks ---------------------------------------------------------------------------------------------

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def test_every_notebook_is_known():
    assert {path.name for path in NOTEBOOKS} == set(PICTURES)


@each
def test_is_committed_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert not flaws(notebook)


@each
def test_runs_from_top_to_bottom(path):
    notebook = run(read(path), path.parent)
    assert not complaints(notebook)
    assert pictures(notebook) == PICTURES[path.name]


@each
def test_is_in_the_table(path):
    assert f"| [{path.name}]({path.name}) |" in (FOLDER / "README.md").read_text(encoding="utf-8")


# --- what these tests would notice -----------------------------------------------------------------------------


def test_a_cell_that_fails_is_noticed(tmp_path):
    notebook = small("x = 2", "assert x + x == 5, '2 and 2'", "print('not reached')")
    with pytest.raises(CellExecutionError) as raised:
        run(notebook, tmp_path)
    assert (raised.value.ename, raised.value.evalue) == ("AssertionError", "2 and 2")
    assert not notebook.cells[2].outputs


def test_a_cell_that_takes_too_long_is_noticed(tmp_path):
    with pytest.raises(CellTimeoutError):
        run(small("import time\ntime.sleep(60)"), tmp_path, timeout=1)


def test_warnings_pictures_folder_and_python_are_seen(tmp_path, monkeypatch):
    another = tmp_path / "kernels" / "python3" / "kernel.json"  # an installed kernel of the same name
    another.parent.mkdir(parents=True)
    another.write_text(json.dumps({"argv": ["no-such-python", "{connection_file}"], "display_name": "Python 3"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    looks = "import os, sys, warnings\nprint(sys.executable)\nprint(os.getcwd())"
    draws = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    notebook = run(small(looks, "warnings.warn('beware')", draws), tmp_path)
    told = outputs(notebook)[0].text.splitlines()
    assert [os.path.realpath(line) for line in told] == [os.path.realpath(p) for p in (sys.executable, tmp_path)]
    assert "beware" in complaints(notebook)[0]
    assert pictures(notebook) == 1
    assert flaws(notebook)


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        (lambda nb: nb.cells[0].outputs.append({"output_type": "stream"}), "cell-0: outputs"),
        (lambda nb: nb.cells[0].update(execution_count=1), "cell-0: an execution count"),
        (lambda nb: nb.cells[0].update(id="5EED-ab"), "5EED-ab: an id that nobody chose"),
        (lambda nb: nb.cells[0].metadata.update(collapsed=True), "cell-0: metadata"),
        (lambda nb: nb.metadata.update(language_info={"version": "3.10"}), "metadata language_info"),
        (lambda nb: nb.metadata.kernelspec.update(name="venv"), "another kernelspec than python3"),
    ],
)
def test_what_must_not_be_committed_is_found(change, flaw):
    notebook = small("x = 1")
    assert not flaws(notebook)
    change(notebook)
    assert flaws(notebook) == [flaw]
