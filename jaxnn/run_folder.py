"""The folder of a run: written aside and renamed when whole, never over an earlier one."""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn import hosts
from jaxnn._tensors import write_aside
from jaxnn.config import PLACE, TrainConfig, from_json
from jaxnn.data.dataset import Splits
from jaxnn.data.description import Description, Drawing
from jaxnn.host_loop import EpochReport
from jaxnn.terminal import complain
from jaxnn.training import History
from jaxnn.versions import describe_devices, versions

__all__ = [
    "CHECKPOINTS",
    "WEIGHTS",
    "MetricsLog",
    "RunConfig",
    "RunFolder",
    "create",
    "data_digest",
    "read_config",
    "settings_of",
    "write_config",
    "write_json",
    "write_metrics",
]

WEIGHTS = "weights.safetensors"
CHECKPOINTS = "checkpoints"
_LONGEST_LABEL = 200  # bytes of the 255 that a file's name may have: a number follows


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder in the making."""

    aside: Path
    """Where files are written until the run has its name."""
    out: Path | None
    """Its final name; None for the next free one in runs/."""
    label: str

    def finish(self) -> Path:
        """Give the folder its final name, or the next free one like it if that has been taken meanwhile."""
        names = _fresh(self.aside.parent, self.label)
        for final in names if self.out is None else itertools.chain([self.out], names):
            if final.exists():
                continue
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                self.aside.rename(final)
                return final
        raise AssertionError("the fresh names do not end")


@contextlib.contextmanager
def create(out: Path | None, label: str) -> Iterator[RunFolder]:
    """Make a run folder aside, before any work: where nothing can be written, that is said at once.

    What is not finished is removed at the end of the block, with the folders that were made for it.

    Raises:
        ValueError: `out` exists already, or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as base:
    ...     with create(Path(base, "first"), "digits-mlp") as folder:
    ...         _ = (folder.aside / "summary.txt").write_text("done")
    ...         _ = folder.finish()
    ...     print([str(path.relative_to(base)) for path in Path(base).rglob("*.txt")])
    ['first/summary.txt']
    """
    parent = Path("runs") if out is None else out.parent
    aside = parent / f".unfinished-{uuid.uuid4().hex[:8]}"
    try:
        if out is not None and (out.exists() or out.is_symlink()):
            raise ValueError(f"{out} exists already, and nothing is ever overwritten; choose another --out")
        made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        aside.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out or parent}: cannot be written ({error.strerror}); choose another --out") from None
    hosts.at_end(functools.partial(shutil.rmtree, aside, ignore_errors=True))
    try:
        label = label if out is None else out.name
        yield RunFolder(aside, out, os.fsencode(label)[:_LONGEST_LABEL].decode(errors="ignore"))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # there is a run in it
                folder.rmdir()


def data_digest(splits: Splits) -> str:
    """The SHA-256 of all examples: their division included.

    >>> import jaxnn as nn
    >>> print(data_digest(nn.data.load("digits"))[:8] == data_digest(nn.data.load("digits", seed=1))[:8])
    False
    """
    digest = hashlib.sha256()
    for array in (array for part in splits for array in part):
        values = np.ascontiguousarray(array)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


class RunConfig(NamedTuple):
    """What `config.json` says of a run."""

    config: TrainConfig
    options: dict[str, Any]  # of those in `TrainOptions` that are kept
    about: Description
    data_sha256: str
    run: str  # its own name among all runs, which its weights and checkpoints have in them
    facts: dict[str, Any]  # of a run that has ended: figures, seconds


def write_config(folder: Path, run: RunConfig) -> None:
    """Write `config.json`: settings, what the data is, and the versions and devices that the run had."""
    content = {
        "config": settings_of(run.config),
        "options": run.options,
        "data": dataclasses.asdict(run.about),
        "data_sha256": run.data_sha256,
        "run": run.run,
        **run.facts,
    }
    write_json(folder / "config.json", content)


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings as JSON has them, with whole paths."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in PLACE}
    if config.data_dir is not None:
        settings["data_dir"] = str(config.data_dir.expanduser().absolute())
    if config.out is not None:
        settings["out"] = str(config.out)
    return settings


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that says as well with which versions, and on what, it was made."""
    content = {**content, "versions": versions(), "devices": describe_devices()}
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


def read_config(folder: Path) -> RunConfig:
    """Read what a run was told, and what its data was.

    Raises:
        ValueError: there is no run in the folder, or its config is damaged.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not isinstance(content["config"], dict):
            raise TypeError("it holds no settings")
        known = {name: content.pop(name) for name in ("config", "options", "data", "data_sha256", "run")}
        for name in ("versions", "devices"):
            del content[name]
        return RunConfig(
            from_json(known["config"]),
            dict(known["options"]),
            _description(known["data"]),
            str(known["data_sha256"]),
            str(known["run"]),
            content,
        )
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder} holds no run: there is no config.json in it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be used ({type(error).__name__}: {error})") from None


def _description(values: dict[str, Any]) -> Description:
    lists = {name: tuple(values[name]) for name in ("shape", "classes", "targets", "columns")}
    drawing = None if values["drawing"] is None else Drawing(**values["drawing"])
    about = Description(**{**values, **lists, "drawing": drawing})
    if not about.shape or not all(isinstance(side, int) and side > 0 for side in about.shape) or not about.outputs:
        raise ValueError("its data has no shape, or nothing to predict")
    return about


class MetricsLog:
    """`metrics.csv`, a row for each epoch as it ends; what cannot be written to it does not stop a training."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = folder / "metrics.csv"
        self._steps = steps  # of an epoch
        self._begun = self._failed = False

    def __call__(self, report: EpochReport) -> None:
        """Write the row of an epoch."""
        try:
            if not self._begun:
                self._begin(report)
            with self._path.open("a", newline="") as file:
                csv.writer(file).writerow(_row(report.epoch, self._steps, report.loss, report.train, report.validation))
        except OSError as error:
            if not self._failed:
                complain(f"{self._path}: cannot be written ({error.strerror}); the run goes on without this log")
            self._failed = True

    def _begin(self, first: EpochReport) -> None:
        """Keep the rows of a run that goes on, up to where it does."""
        header = _header(first.train, first.validation)
        kept: list[list[str]] = []
        with contextlib.suppress(OSError, ValueError, csv.Error):
            old_header, *rows = csv.reader(self._path.read_text().splitlines())
            if old_header == header:
                kept = [row for row in rows if row and int(row[0]) < first.epoch]
        with write_aside(self._path) as aside, aside.open("w", newline="") as file:
            csv.writer(file).writerows([header, *kept])
        self._begun = True


def write_metrics(folder: Path, history: History, epochs: int, steps: int) -> None:
    """Write all of `metrics.csv`, of epochs of so many steps; the loss is the mean over them."""
    with write_aside(folder / "metrics.csv") as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_header(history.train, history.validation))
        for epoch in range(epochs):
            loss = np.asarray(history.loss[epoch * steps : (epoch + 1) * steps]).mean()
            figures = ({name: values[epoch] for name, values in part.items()} for part in history[1:])
            writer.writerow(_row(epoch + 1, steps, loss, *figures))


def _header(train: Iterable[str], validation: Iterable[str]) -> list[str]:
    return [
        "epoch",
        "step",
        "loss",
        *(f"train_{name}" for name in train),
        *(f"validation_{name}" for name in validation),
    ]


def _row(epoch: int, steps: int, loss: Any, *parts: dict[str, Any]) -> list[Any]:
    figures = [loss, *(value for part in parts for value in part.values())]
    return [epoch, epoch * steps, *(f"{value:.6g}" for value in figures)]


def _fresh(parent: Path, label: str) -> Iterator[Path]:
    taken = [re.fullmatch(rf"{re.escape(label)}-(\d+)", path.name) for path in parent.iterdir()]
    number = max((int(match[1]) for match in taken if match), default=0)
    while True:
        number += 1
        yield parent / f"{label}-{number:03d}"
