"""`python -m benchmarks`: needle beside its rivals, each workload in turn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .report import circumstances, picture, results, table
from .rounds import PATIENCE, Row, WrongNumbers, measure
from .table import NEEDLE, RIVALS, WORKLOADS, Rival, Workload

FOLDER = Path(__file__).resolve().parent
ROUNDS = 25
QUICK_ROUNDS, QUICK_BLOCK = 3, 10


def main(arguments: Sequence[str] | None = None) -> int:
    options = read(arguments)
    rounds = options.repeat or (QUICK_ROUNDS if options.quick else ROUNDS)
    lines = circumstances(rounds)
    print("\n".join(lines))
    try:
        groups = [run(workload, options.rivals, rounds, options.quick) for workload in options.only]
    except WrongNumbers as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    if options.save:
        save(groups, lines, options.save)
    return 0


def run(workload: Workload, rivals: Sequence[Rival], rounds: int, quick: bool) -> list[Row]:
    block, patience = (QUICK_BLOCK, 0.0) if quick else (workload.block, PATIENCE)
    rivals = [rival for rival in rivals if takes_part(rival, workload)]
    rows = measure(workload, rivals, rounds, block, patience, tell)
    tell("")
    print("\n" + table(rows), flush=True)
    return rows


def takes_part(rival: Rival, workload: Workload) -> bool:
    invited = not workload.rivals or rival.name in (NEEDLE.name, *workload.rivals)
    return invited and workload.name.startswith(rival.only)


def tell(text: str) -> None:
    """What goes on, on one line that the next text takes the place of; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}\r", end="", file=sys.stderr, flush=True)


def save(groups: Sequence[Sequence[Row]], lines: Sequence[str], folder: Path) -> None:
    (folder / "RESULTS.md").write_text(results(groups, lines), encoding="utf-8")
    picture(groups, folder / "results.png")
    print(f"\nwritten: {folder / 'RESULTS.md'}, {folder / 'results.png'}")


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(w.name for w in WORKLOADS)
    parser.add_argument("--only", default=",".join(w.name for w in WORKLOADS), help=f"workloads, of {names}")
    parser.add_argument("--rivals", default=",".join(r.name for r in RIVALS), help="rivals, as the table names them")
    parser.add_argument("--repeat", type=int, help=f"rounds, each rival once a round; {ROUNDS} if not given")
    parser.add_argument("--quick", action="store_true", help="a few rounds of a few steps: do they run, and agree?")
    help_save = "write RESULTS.md and results.png, into benchmarks/ or FOLDER"
    parser.add_argument("--save", nargs="?", type=Path, const=FOLDER, metavar="FOLDER", help=help_save)
    options = parser.parse_args(arguments)
    if options.repeat is not None and options.repeat < 1:
        parser.error(f"--repeat must be at least 1, got {options.repeat}")
    options.only = chosen(options.only, WORKLOADS, parser)
    options.rivals = chosen(options.rivals, RIVALS, parser)
    return options


def chosen(text: str, known: Sequence[Workload] | Sequence[Rival], parser: argparse.ArgumentParser) -> list:
    """The entries of `known` that `text` names, with commas between; `begin*` names all that begin so."""
    by_name = {entry.name: entry for entry in known}
    names = [name for word in text.split(",") for name in begun(word.strip(), by_name)]
    for name in names:
        if name not in by_name:
            parser.error(f"there is no {name!r}; choose from {', '.join(by_name)}")
    return [by_name[name] for name in names]


def begun(word: str, names: Iterable[str]) -> list[str]:
    """`word`, or the names that it stands for; itself too where there are none, for the error to tell."""
    found = [name for name in names if word.endswith("*") and name.startswith(word[:-1])]
    return found or [word]


if __name__ == "__main__":
    sys.exit(main())
