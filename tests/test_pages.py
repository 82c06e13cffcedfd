"""The pages around the code: examples run, links lead somewhere, the list of ops is up to date."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page for folder in (".", "docs", "apps/hw0", "benchmarks", "hw_notebooks") for page in (ROOT / folder).glob("*.md")
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def dead_links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page):
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.md").write_text("[b](b.md) [a](a.md#top)\n")
    assert dead_links(tmp_path / "a.md") == ["b.md"]


def test_every_page_of_the_docs_is_listed():
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and page.name not in listed
    ] == []


def test_the_list_of_ops_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_ops", ROOT / "docs" / "make_ops.py")
    make_ops = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_ops)
    assert make_ops.OPS.read_text(encoding="utf-8") == make_ops.page(), "run: python docs/make_ops.py"


def test_the_number_of_functions_in_the_readme():
    import_all = sys.modules["needle"].ops.__all__
    functions = [name for name in import_all if name[0].islower()]
    told = int(re.search(r"(\d+) functions on dense arrays", README)[1])
    assert abs(told - len(functions)) < 10


def test_the_examples_of_the_readme(capsys):
    first, second = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    space: dict = {}
    exec(compile(first, "README.md", "exec"), space)
    printed = capsys.readouterr().out
    assert np.isclose(float(printed), float(re.search(r"# error: ([\d.]+)", first)[1]), atol=0.003)
    exec(compile(second, "README.md", "exec"), space)
    told = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    assert capsys.readouterr().out.startswith(told.strip())


def test_the_numbers_of_the_readme_are_promises_of_the_app():
    source = (ROOT / "apps" / "softmax_regression.py").read_text(encoding="utf-8")
    for percent, data in [("5", "digits"), ("8", "mnist")]:
        assert re.search(rf'"{data}": Settings\(.*promise={percent}\.0\)', source)
        assert f"test error below {percent} %" in README


@pytest.mark.parametrize("ending", [r"apps/softmax_regression\.py", "-m pytest"])
def test_the_readme_has_the_two_commands(ending):
    assert len(re.findall(rf"^python3 -m venv .*{ending}$", README, re.MULTILINE)) == 1
