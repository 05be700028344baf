"""What is typed: one experiment with flags for its numbers, or several; what is printed while they run."""

import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.shared.experiment import RESULTS, Experiment, check_folder, is_the_books, perform, use_all_cores
from experiments.shared.images import Place
from jaxnn.progress import format_seconds
from jaxnn.terminal import BAD_INPUT, FAILED, INTERRUPTED, sentence_of

__all__ = ["STYLE", "Options", "guarded", "main", "run_all"]

STYLE = (tyro.conf.FlagCreatePairsOff,)


@dataclass(frozen=True)
class Options:
    """How an experiment is run."""

    quick: bool = False
    """A smaller form of the same, in seconds: with the bundled digits, unless --data-dir is given."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder with the real images, or with mnist and cifar10 in it. Without it: $JAXNN_DATA, the cache, a download; and
    where they cannot be had the bundled digits."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: experiments/results; else runs/experiments)"),
    ] = None
    """Where a folder for the experiment is written: result.json and the figures. What is not the full form with its own
    numbers goes to runs/experiments, lest it replace the results that are kept."""


def main(experiment: Experiment) -> None:
    """The command of one experiment: a flag for each of its numbers. Ends the process, with 1 if a claim fails."""
    config = experiment.quick if "--quick" in sys.argv else experiment.config
    numbers = [field.name for field in dataclasses.fields(config)]

    @dataclass(frozen=True)
    class Flags(Options, type(config)):  # type: ignore[misc]
        pass

    flags = tyro.cli(
        Flags,
        default=Flags(**{name: getattr(config, name) for name in numbers}),
        description=experiment.description,
        prog=f"python -m experiments.{experiment.name}",
        config=STYLE,
    )
    chosen = type(config)(**{name: getattr(flags, name) for name in numbers})
    raise SystemExit(guarded(lambda: run_all([experiment], flags, lambda _: chosen)))


def run_all(experiments: Sequence[Experiment], options: Options, config_of: Callable[[Experiment], Any]) -> int:
    """Run one after the other, print the claims of each; 1 if a claim fails, or an experiment itself.

    One of several that needs an extra which is not installed is left out, and that is said.
    """
    use_all_cores()
    folders = {experiment.name: _folder(experiment, config_of(experiment), options) for experiment in experiments}
    for folder in folders.values():
        check_folder(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 150)  # a table that is folded to fit cannot be read
    warn = Console(stderr=True, highlight=False, soft_wrap=True, style="yellow", markup=False).print
    place = Place(options.data_dir, options.quick)
    results: list[dict[str, Any]] = []
    broken: list[str] = []
    left_out: list[str] = []
    for number, experiment in enumerate(experiments, start=1):
        title = f"[bold]{experiment.name}[/bold]  {escape(experiment.question)}"
        console.print(f"[dim]{number}/{len(experiments)}[/dim] {title}" if len(experiments) > 1 else title)
        try:
            with console.status("running …"):
                result = perform(experiment, config_of(experiment), place, folders[experiment.name], warn)
        except Exception as error:
            if len(experiments) == 1:
                raise
            if is_of_an_extra(error):
                console.print(f"  [yellow]left out[/yellow]: {escape(sentence_of(error))}\n")
                left_out.append(experiment.name)
                continue
            # The others are not to suffer; where it went wrong is for whoever mends it.
            traceback.print_exc()
            console.print(f"  [red]broken[/red]: {escape(sentence_of(error))}")
            broken.append(experiment.name)
            continue
        _say(result, console, folders[experiment.name])
        results.append(result)
    if len(experiments) > 1:
        _sum_up(results, broken, left_out, console)
    return FAILED if broken or any(not claim["holds"] for result in results for claim in result["claims"]) else 0


def _folder(experiment: Experiment, config: Any, options: Options) -> Path:
    """Where its result goes."""
    is_kept = not options.quick and is_the_books(config)
    return (options.out or (RESULTS if is_kept else Path("runs/experiments"))) / experiment.name


def guarded(run: Callable[[], int]) -> int:
    """Exit status of a command: errors are one line on stderr, as those of `jaxnn` are."""
    try:
        return run()
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; what had finished is written", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and not is_of_an_extra(error):
            raise
        print(f"experiments: {sentence_of(error)}", file=sys.stderr)
        return BAD_INPUT


def is_of_an_extra(error: Exception) -> bool:
    """Whether it says which extra is missing; one that Python itself raises has the name of a module."""
    return isinstance(error, ModuleNotFoundError) and error.name is None


def _say(result: dict[str, Any], console: Console, folder: Path) -> None:
    """The claims of one experiment, as a table, and where its figures are."""
    table = Table(show_edge=False, pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for header in ("", "row", "claim", "measured", "reference", "from"):
        table.add_column(header, style="dim" if header in ("row", "from") else None)
    for claim in result["claims"]:
        verdict = "[green]✓[/green]" if claim["holds"] else "[red]✗[/red]"
        words = (escape(claim[part]) for part in ("row", "words", "measured", "reference", "source"))
        table.add_row(verdict, *words)
    console.print(table)
    data = f" · {result['data']}" if result["data"] else ""
    is_compared = result["book_seconds"] and not result["quick"]
    book = f" (the book's code: {format_seconds(result['book_seconds'])})" if is_compared else ""
    console.print(
        f"[dim]{format_seconds(result['seconds'])}{book}, {format_seconds(result['compile_seconds'])} of it compiling"
        f"{escape(data)} · {escape(str(folder))}[/dim]\n"
    )


def _sum_up(results: list[dict[str, Any]], broken: list[str], left_out: list[str], console: Console) -> None:
    """One line of all, and the claims that fail."""
    claims = [(result["name"], claim) for result in results for claim in result["claims"]]
    failed = [(name, claim) for name, claim in claims if not claim["holds"]]
    rows = {claim["row"] for _, claim in claims}
    seconds = sum(result["seconds"] for result in results)
    console.print(
        f"{len(results)} experiment{'s' * (len(results) != 1)} in {format_seconds(seconds)}: "
        f"{len(claims) - len(failed)} of {len(claims)} claims hold, on {len(rows)} row{'s' * (len(rows) != 1)} of the "
        "textbook"
    )
    for name, claim in failed:
        console.print(
            f"[red]✗[/red] {name}: {escape(claim['words'])}: {escape(claim['measured'])}; "
            f"expected {escape(claim['reference'])}"
        )
    for name in left_out:
        console.print(f"[yellow]–[/yellow] {name} was left out: it needs what is not installed")
    for name in broken:
        console.print(f"[red]✗[/red] {name} broke off")
