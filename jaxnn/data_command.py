"""`jaxnn data`: list, show, check and download data sets."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from jaxnn import data
from jaxnn.data._files import printable
from jaxnn.data_options import DivisionOptions, check_options, load_data
from jaxnn.plotting import save_figure
from jaxnn.terminal import FAILED, print_json

__all__ = ["DataConfig", "run"]

_PIPE = 10_000  # columns, enough for any line


@dataclass(frozen=True)
class DataConfig(DivisionOptions):
    """List the data sets that jaxnn knows, show samples of one, check it, or download it.

    show prints how many examples each class has and draws samples; check looks for what goes wrong in silence: NaN,
    duplicates, test data among the training data, classes without examples, outliers. Its status is 1 if it finds an
    error.
    """

    action: tyro.conf.Positional[
        Annotated[Literal["list", "show", "check", "download"], tyro.conf.arg(metavar="list|show|check|download")]
    ] = "list"
    """What to do."""
    name: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="NAME_OR_PATH", help_behavior_hint="")]] = (
        None
    )
    """Data set: a name of the list, or files of yours (download: a name)."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="PNG", help_behavior_hint="(default: the data's name, in this folder)")
    ] = None
    """Picture file for the samples that show draws."""
    json: bool = False
    """Print the list, or the report of check, in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


def run(config: DataConfig, console: Console) -> int:
    """Do it, and return the exit status."""
    if config.action == "list" and config.name is not None:
        raise ValueError(f"list takes no name; got {config.name!r} (jaxnn data show {config.name}?)")
    _refuse_idle_options(config)
    if config.action == "list":
        return _print_facts(config.data_dir) if config.json else _list(config.data_dir, console)
    if config.name is None:
        raise ValueError(f"name the data set: jaxnn data {config.action} digits")
    if config.out is not None and (config.out.exists() or not config.out.absolute().parent.is_dir()):
        raise ValueError(f"{config.out} must be a new file in a folder that is there")
    if config.out is not None and config.out.suffix.lower() != ".png":
        raise ValueError(f"--out is a PNG file, whose name ends in .png; got {config.out}")
    check_options(config)
    match config.action:
        case "show":
            return _show(config.name, config, console)
        case "check":
            return _check(config.name, config, console)
        case "download":
            return _download(config.name, config.data_dir, console)
    raise AssertionError(config.action)


def _refuse_idle_options(config: DataConfig) -> None:
    """Refuse what would be ignored in silence."""
    of_all = {"action", "name", "data_dir", "debug"}
    of_division = {field.name for field in fields(DivisionOptions)}
    of_action = {"list": {"json"}, "show": of_division | {"out"}, "check": of_division | {"json"}}
    used = of_action.get(config.action, set()) | of_all
    for field in fields(DataConfig):
        if field.name not in used and getattr(config, field.name) != field.default:
            raise ValueError(f"--{field.name.replace('_', '-')} is no setting of jaxnn data {config.action}")


def _print_facts(data_dir: Path | None) -> int:
    """The list, for a program."""
    print_json(
        [
            {
                "name": source.name,
                "title": source.about.title,
                "classes": source.about.classes,
                "targets": source.about.targets,
                "shape": source.about.shape,
                "built_in": not source.files,
                "folder": data.where(source, data_dir),
            }
            for source in data.sources()
        ]
    )
    return 0


def _list(data_dir: Path | None, console: Console) -> int:
    wide = Console(width=None if console.is_terminal else _PIPE, highlight=False, markup=False)
    with wide.capture() as drawn:
        wide.print(_table(data_dir), crop=False)
    for line in drawn.get().splitlines():
        print(line.rstrip())  # what a narrow terminal has no room for, it breaks itself: a path remains whole
    return 0


def _table(data_dir: Path | None) -> Table:
    """The data sets that have a name, and where they are."""
    absent = "not here: downloaded at first use" if data_dir is None else "not here"
    rows = []
    for source in data.sources():
        folder = data.where(source, data_dir)
        where = "built in" if not source.files else str(folder) if folder else absent
        words = source.about.classes or source.about.targets
        what = ", ".join(words) if len(words) <= 10 else f"{len(words)} classes: {', '.join(words[:5])}, …"
        rows.append((source.name, source.about.title, what, printable(where)))
    table = Table(box=None, pad_edge=False)
    table.add_column("data set", no_wrap=True)
    table.add_column("what it is", min_width=20)
    table.add_column("what to predict", min_width=15)
    table.add_column("where", no_wrap=True, min_width=max(cell_len(where) for *_, where in rows))
    for row in rows:
        table.add_row(*row)
    return table


def _show(name: str, config: DataConfig, console: Console) -> int:
    splits, about = load_data(name, config)
    preview = data.preview(splits, about.classes, columns=about.columns, targets=about.targets)
    path = config.out or _new_file(about.name)
    console.print(f"{printable(about.name)}: {about.title}; examples of shape {about.shape}")
    console.print(str(preview))
    save_figure(preview.figure(), path)
    console.print(f"drawn   {printable(path)}: look at it")
    return 0


def _new_file(name: str) -> Path:
    """A name that is free, in this folder."""
    number, path = 1, Path(f"{name}.png")
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}.png")
    return path


def _check(name: str, config: DataConfig, console: Console) -> int:
    splits, about = load_data(name, config)
    report = data.validate(splits, classes=about.classes or None, columns=about.columns)
    print(report.to_json()) if config.json else console.print(str(report))
    return 0 if report.ok else FAILED


def _download(name: str, data_dir: Path | None, console: Console) -> int:
    source = data.find(name)
    if not source.files:
        console.print(f"{source.name} is built in: there is nothing to download")
        return 0
    console.print(f"{source.name} is in {printable(data.download(source, data_dir))}, and right")
    return 0
