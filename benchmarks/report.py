"""What was measured, as a table and as a picture."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles

from needle.optional import optional

from .rounds import CHECKED_STEPS, ROOT, RTOL, THREADS, Row, ratios
from .table import NEEDLE

PACKAGES = ("numpy", "numba", "scipy", "torch", "jax")
HEADER = ("", "best µs", "median µs", "needle is faster by", "first step s", "off by")


def circumstances(rounds: int) -> list[str]:
    """Date, commit, machine, versions, threads: one line each."""
    return [
        f"date: {datetime.date.today().isoformat()}, commit {commit()}",
        f"processor: {processor()}, {THREADS} of {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        f"threads: {THREADS} for every rival",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        f"BLAS of NumPy: {blas()}",
        f"rounds: {rounds}, each rival once a round",
    ]


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + (" with changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def blas() -> str:
    """Which library multiplies NumPy's matrices, and which of its kernels, as threadpoolctl sees it."""
    try:
        pools = optional("threadpoolctl", extra="bench", why="naming the BLAS").threadpool_info()
    except ImportError as error:
        return str(error)
    found = [f"{p['internal_api']} {p['version']} ({p.get('architecture')})" for p in pools if p["user_api"] == "blas"]
    return ", ".join(found) or "unknown"


def table(rows: Sequence[Row]) -> str:
    """The rows of one workload as a Markdown table."""
    lines = [(rows[0].workload.title, *HEADER[1:]), ("---", *["---:"] * 5), *(cells(row, rows) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    if row.missing:
        return (row.rival.name, "–", "–", row.missing.replace("|", "/"), "–", "–")
    return (
        row.rival.name,
        number(min(row.times)),
        number(median(row.times)),
        spread(ratios(row, rows)) if row.rival is not NEEDLE else "",
        f"{row.first:.2f}",
        f"{row.off:.0e}",
    )


def number(x: float) -> str:
    return f"{x:.3g}" if x < 100 else f"{x:.0f}"


def spread(values: Sequence[float]) -> str:
    """Median, and between which values the middle half lies."""
    if len(values) < 2:
        return "".join(f"{x:.2f}×" for x in values)
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f}× ({low:.2f}–{high:.2f})"


def results(groups: Sequence[Sequence[Row]], lines: Iterable[str]) -> str:
    """The whole of RESULTS.md."""
    return "\n\n".join(
        [
            "# Results",
            "Written by `python -m benchmarks --save`; [README.md](README.md) says what is measured, and how.",
            "\n".join(f"- {line}" for line in lines),
            f"“Needle is faster by”: the rival's time over needle's in the same round; median, and the middle half of "
            f"the rounds. “First step” includes compilation. “Off by”: largest relative difference of the first "
            f"{CHECKED_STEPS} steps' numbers from PyTorch's; above {RTOL:.0e} the command fails.",
            *(table(rows) for rows in groups),
            "![How many times longer than needle each rival takes](results.png)\n",
        ]
    )


def picture(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """A bar for each rival and workload: how many times longer than needle, from 1 to the right or to the left."""
    matplotlib = optional("matplotlib", extra="bench", why="the picture of the results")
    matplotlib.use("Agg")
    pyplot = optional("matplotlib.pyplot", extra="bench", why="the picture of the results")
    names = list(dict.fromkeys(row.rival.name for rows in groups for row in rows if row.rival is not NEEDLE))
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.24 * len(names) * len(groups)), layout="constrained")
    for i, name in enumerate(names):
        for j, rows in enumerate(groups):
            values = next((ratios(row, rows) for row in rows if row.rival.name == name), [])
            if values:
                y = j + (i - len(names) / 2 + 0.5) * 0.8 / len(names)
                middle = median(values)
                told = name in axes.get_legend_handles_labels()[1]
                axes.barh(y, middle - 1, 0.75 / len(names), left=1, color=f"C{i}", label=None if told else name)
                axes.text(max(middle, 1), y, f" {middle:.2f}×", va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(groups)), [rows[0].workload.title for rows in groups])
    axes.invert_yaxis()
    axes.set_xlabel("time over needle's (right of the line, needle is faster)")
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=len(names), fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
