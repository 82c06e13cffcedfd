"""How good is our own test table? Every broken rule of mutants.py is put into its op, and the rows that use the op are
run: `python tests/mutation_score.py` prints the score and the mutants that survive.

A mutant is killed when `check_row` fails for a row whose graph holds its op; what gradcheck thinks has no part in it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from mutants import MUTANTS, Mutant, broken
from op_check import Row, check_row, draw, parts, pull_tensors
from op_table import ROWS

import needle as ndl
from needle.autograd import find_topo_sort

__all__ = ["killer", "ops_in", "survivors"]


def ops_in(row: Row) -> set[type]:
    """The ops whose rules the row can put to the test: those in its graphs and in the graphs of its gradients."""
    found = {row.op}
    if not row.smooth:
        return found
    for one in row.cases:
        arrays, variable = draw(row, one)
        tensors = [ndl.Tensor(a, requires_grad=v) for a, v in zip(arrays, variable, strict=True)]
        outputs = parts(row.call(*tensors, **one.options))
        seeds = [ndl.Tensor(np.ones(y.shape)) for y in outputs]
        nodes = find_topo_sort([*outputs, *pull_tensors(outputs, seeds, tensors)])
        found |= {type(node.op) for node in nodes if node.op is not None}
    return found


def killer(mutant: Mutant, rows: Sequence[Row]) -> str | None:
    """The name of the first row that fails while the op is broken, None if the mutant survives."""
    with broken(mutant):
        for row in rows:
            try:
                check_row(row)
            except AssertionError:
                return row.name
    return None


def survivors(mutants: Sequence[Mutant] = MUTANTS, rows: Sequence[Row] = ROWS) -> list[Mutant]:
    """The mutants that no row kills. Rows of an op's own come first, since they are likeliest to."""
    used = [(row, ops_in(row)) for row in rows]
    alive = []
    for mutant in mutants:
        using = [row for row, ops in used if mutant.op in ops]
        if killer(mutant, sorted(using, key=lambda row: row.op is not mutant.op)) is None:
            alive.append(mutant)
    return alive


def main() -> int:
    start = time.perf_counter()
    alive = survivors()
    killed, all_of_them = len(MUTANTS) - len(alive), len(MUTANTS)
    share, seconds = 100 * killed / all_of_them, time.perf_counter() - start
    print(f"killed {killed} of {all_of_them} broken rules: {share:.0f} % ({seconds:.0f} s)")
    for mutant in alive:
        print(f"  survives: {mutant.name}{' (at a kink)' if mutant.at_kink else ''}")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
