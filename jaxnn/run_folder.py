"""The folder of a run: written aside and renamed when whole, never over an earlier one."""

import csv
import dataclasses
import json
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnn.config import TrainConfig, from_json
from jaxnn.training import History

__all__ = ["RunFolder", "create", "read_config", "write_config", "write_metrics"]


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder in the making."""

    aside: Path
    """Where files are written until the run is whole."""
    out: Path | None
    """Its final name; None for the next free one in runs/."""
    label: str

    def finish(self) -> Path:
        """Give the folder its final name, and return that."""
        for final in [self.out] if self.out is not None else _fresh(self.aside.parent, self.label):
            try:
                self.aside.rename(final)
                return final
            except OSError:
                if self.out is not None or not final.exists():
                    raise
        raise AssertionError("the fresh names do not end")


@contextmanager
def create(out: Path | None, label: str) -> Iterator[RunFolder]:
    """Make a run folder aside, before any work: where nothing can be written, that is said at once.

    What is not finished is removed at the end of the block.

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
    parent = Path("runs") if out is None else out.absolute().parent
    if out is not None and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise ValueError(f"{out} exists already, and an earlier run is never overwritten; choose another --out")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=parent, prefix=".unfinished-"))
        aside.chmod(0o755)
    except OSError as error:
        raise ValueError(f"{out or parent}: cannot be written ({error.strerror}); choose another --out") from None
    try:
        yield RunFolder(aside, out, label)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_config(folder: Path, config: TrainConfig, **facts: Any) -> None:
    """Write `config.json`: every setting, and the versions and device that it ran with."""
    settings = {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(config).items()
    }
    packages = ("jaxnn", "jax", "jaxlib", "numpy", "optax")
    content = {
        "config": settings,
        **facts,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")


def read_config(folder: Path) -> TrainConfig:
    """Read the settings of a run.

    Raises:
        ValueError: there is no run in the folder, or its config is damaged.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
        return from_json(content["config"])
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no run: there is no config.json in it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be used ({error})") from None


def write_metrics(folder: Path, history: History) -> None:
    """Write `metrics.csv`, a row for each epoch; its loss is the mean over the epoch's steps."""
    measured = {f"train_{name}": values for name, values in history.train.items()}
    measured |= {f"validation_{name}": values for name, values in history.validation.items()}
    epochs = len(next(iter(measured.values())))
    loss = np.asarray(history.loss).reshape(epochs, -1)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "loss", *measured])
        for epoch in range(epochs):
            figures = [loss[epoch].mean(), *(values[epoch] for values in measured.values())]
            writer.writerow([epoch + 1, (epoch + 1) * loss.shape[1], *(f"{value:.6g}" for value in figures)])


def _fresh(parent: Path, label: str) -> Iterator[Path]:
    taken = [re.fullmatch(rf"{re.escape(label)}-(\d+)", path.name) for path in parent.iterdir()]
    number = max((int(match[1]) for match in taken if match), default=0)
    while True:
        number += 1
        yield parent / f"{label}-{number:03d}"
