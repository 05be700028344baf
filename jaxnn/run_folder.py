"""The folder of a run: written aside and renamed when whole, never over an earlier one."""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnn import hosts
from jaxnn.config import PLACE, TrainConfig, from_json
from jaxnn.data.dataset import Splits
from jaxnn.data.description import Description, Drawing
from jaxnn.training import History

__all__ = [
    "WEIGHTS",
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
_LONGEST_LABEL = 200  # bytes of the 255 that a file's name may have: a number follows


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder in the making."""

    aside: Path
    """Where files are written until the run is whole."""
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


def write_config(folder: Path, config: TrainConfig, about: Description, data_sha256: str, **facts: Any) -> None:
    """Write `config.json`: settings, what the data is, versions and devices it ran with, and digests."""
    content = {
        "config": settings_of(config),
        "data": dataclasses.asdict(about),
        "data_sha256": data_sha256,
        **facts,
        "weights_sha256": _digest(folder / WEIGHTS),
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
    packages = ("jaxnn", "jax", "jaxlib", "numpy", "optax")
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    path.write_text(json.dumps({**content, "versions": versions, "devices": devices}, indent=2) + "\n")


def read_config(folder: Path) -> tuple[TrainConfig, Description, str]:
    """Read the settings of a run, what its data was and its digest, after a look at that of the weights.

    Raises:
        ValueError: there is no run in the folder, or its config or weights are damaged.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not isinstance(content["config"], dict):
            raise TypeError("it holds no settings")
        config, about = from_json(content["config"]), _description(content["data"])
        data_sha256, expected = content["data_sha256"], content["weights_sha256"]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder} holds no run: there is no config.json in it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be used ({type(error).__name__}: {error})") from None
    try:
        digest = _digest(folder / WEIGHTS)
    except OSError as error:
        raise ValueError(f"{folder / WEIGHTS}: cannot be read ({error.strerror})") from None
    if digest != expected:
        raise ValueError(f"{folder / WEIGHTS}: is damaged: its SHA-256 is not the one in config.json")
    return config, about, data_sha256


def _description(values: dict[str, Any]) -> Description:
    lists = {name: tuple(values[name]) for name in ("shape", "classes", "targets", "columns")}
    drawing = None if values["drawing"] is None else Drawing(**values["drawing"])
    about = Description(**{**values, **lists, "drawing": drawing})
    if not about.shape or not all(isinstance(side, int) and side > 0 for side in about.shape) or not about.outputs:
        raise ValueError("its data has no shape, or nothing to predict")
    return about


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
