"""The textbook's questions, each a script that draws its figure and checks its claims."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.shared.catalogue import NAMES, experiments, find
from experiments.shared.command import STYLE, Options, guarded, run_all
from experiments.shared.experiment import RESULTS, has_seeds, with_seeds


@dataclass(frozen=True)
class Run(Options):
    """Run experiments: print and write their claims, draw their figures. Exit status 1 if a claim fails."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME…", help_behavior_hint="")] = ()
    """Which; `list` names them."""
    all: bool = False
    """Every one."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: each one's own)")] = None
    """Independent runs of each training, for the spread."""


@dataclass(frozen=True)
class List:
    """Name the experiments, with the question and the textbook's rows of each."""


@dataclass(frozen=True)
class Report:
    """Make one page of the results that there are: questions, formulas, figures, claims."""

    results: Annotated[Path, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: experiments/results)")] = (
        RESULTS
    )
    """Folder with the results."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: index.html there)")] = None
    """The page."""
    open: bool = False
    """Serve it to this machine alone, and open it in the browser."""


def run(options: Run) -> int:
    """The command `run`."""
    if options.all == bool(options.names):
        raise ValueError(
            "name the experiments to run, or say --all" if not options.names else "names, or --all: not both"
        )
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; expected 1 or more")
    chosen = find(options.names or NAMES)
    without = [experiment.name for experiment in chosen if not has_seeds(experiment.config)]
    if options.seeds is not None and without:
        print(f"nothing to repeat with other seeds in: {', '.join(without)}", file=sys.stderr)
    return run_all(
        chosen,
        options,
        lambda experiment: with_seeds(experiment.quick if options.quick else experiment.config, options.seeds),
    )


def list_all() -> int:
    """The command `list`."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    width = max(map(len, NAMES))
    for experiment in experiments():
        console.print(f"{experiment.name:{width}}  {experiment.question} ({', '.join(experiment.rows)})")
    return 0


def report(options: Report) -> int:
    """The command `report`."""
    from experiments.shared import page

    path = page.write(options.results, options.out or options.results / "index.html")
    print(path)
    if options.open:
        page.serve(path)
    return 0


def main() -> int:
    """The command; returns its exit status."""
    options: Run | List | Report = tyro.extras.subcommand_cli_from_dict(
        {"run": Run, "list": List, "report": Report},
        prog="python -m experiments",
        description=__doc__,
        config=STYLE,
    )
    match options:
        case Run():
            return guarded(lambda: run(options))
        case List():
            return guarded(list_all)
        case Report():
            return guarded(lambda: report(options))


if __name__ == "__main__":
    sys.exit(main())
