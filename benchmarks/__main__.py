"""jaxnn beside what a user would pick instead.

python -m benchmarks                                 all rows
python -m benchmarks two_layer_net convolutions      these rows
python -m benchmarks --quick                         a short form of all

Each contender runs in a process of its own; they are timed in turns, after a first run that compiles. The values of
their runs must agree. The table goes to the terminal, every figure and a chart to `benchmarks/results/`.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.catalogue import MEMORY, PRODUCTS, catalogue, groups
from benchmarks.judge import judge
from benchmarks.measure import MachineRate, machine, measure_row
from benchmarks.row import Row


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to measure; all, if none is named")
    parser.add_argument("--list", action="store_true", help="say which rows there are")
    parser.add_argument("--quick", action="store_true", help="less data and fewer rounds; a file of its own")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder for the figures and the chart")
    options = parser.parse_args(arguments)
    known = groups()
    if options.list:
        for name, rows in known.items():
            print(f"{name}: {'; '.join(row.work for row in rows[:1])}")
        return 0
    unknown = [name for name in options.names if name not in known]
    if unknown:
        print(f"no row is called {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    rows = [row for row in catalogue(quick=options.quick) if not options.names or row.group in options.names]
    try:
        measure_and_report(rows, quick=options.quick, folder=options.out)
    except KeyboardInterrupt:
        return 130
    return 0


def measure_and_report(rows: list[Row], *, quick: bool, folder: Path) -> None:
    """Measure the rows one after the other, print and write what was found."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 150)  # a table that is folded to fit cannot be read
    here = machine()
    console.print(f"{here['processor']}, {here['cores']} cores · " + " ".join(map(" ".join, report.versions().items())))
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        rates = {
            moves: stack.enter_context(contextlib.closing(MachineRate(MEMORY if moves else PRODUCTS, quick=quick)))
            for moves in {row.bytes_moved > 0 for row in rows}
        }
        for row in rows:
            console.print(f"{row.name}: {row.work}", markup=False)
            machine_rate = rates[row.bytes_moved > 0].measure
            measured, rate = measure_row(
                row, machine_rate, quick=quick, say=lambda line: console.print("  " + line, markup=False)
            )
            result = judge(row, measured, rate)
            for name, one in result["contenders"].items():
                console.print(report.contender_line(name, one, row.unit), markup=False)
            results.append(result)
            # After every row: what is measured is not lost when a later one is interrupted.
            path = report.write(results, here, quick=quick, folder=folder)
    report.print_table(results, console)
    console.print(f"every figure: {path} · chart: {path.with_suffix('.png')}")


if __name__ == "__main__":
    raise SystemExit(main())
