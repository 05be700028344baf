"""`jaxnn diff`: the first step at which two runs part."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from jaxnn._tensors import Tensors
from jaxnn.checkpoint import read_history
from jaxnn.checkpoint_folder import checkpoints_in
from jaxnn.run_folder import CHECKPOINTS, RunConfig, read_config, settings_of
from jaxnn.terminal import FAILED, print_json
from jaxnn.training import History

__all__ = ["DiffConfig", "run"]


@dataclass(frozen=True)
class DiffConfig:
    """Compare two runs, bit by bit: settings, losses of every step, figures of every epoch, what was learned.

    The exit status is 0 if they are the same as far as both have come, and 1 if they part.
    """

    runs: tyro.conf.Positional[Annotated[tuple[Path, Path], tyro.conf.arg(metavar="RUN RUN")]]
    """Folders of runs that jaxnn train made."""
    json: bool = False
    """Print it in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


class _Run(NamedTuple):
    config: RunConfig
    history: History
    tensors: Tensors
    about: dict[str, Any]


def run(config: DiffConfig, console: Console) -> int:
    """Print where they part, and return the exit status."""
    one, other = (_read(folder) for folder in config.runs)
    settings = _other_settings(one, other)
    verdict = _compare(one, other, [str(folder) for folder in config.runs])
    if config.json:
        print_json({"same": verdict.same, "steps": verdict.steps, "sentence": verdict.sentence, "settings": settings})
    else:
        for name, values in settings.items():
            console.print(f"{name}: {' | '.join(map(str, values))}")
        console.print(verdict.sentence)
    return 0 if verdict.same else FAILED


class _Verdict(NamedTuple):
    same: bool
    steps: int  # that both have taken alike
    sentence: str


def _compare(one: _Run, other: _Run, names: list[str]) -> _Verdict:
    steps = min(len(one.history.loss), len(other.history.loss))
    parted = _first_difference(one.history.loss[:steps], other.history.loss[:steps])
    if parted is not None:
        epoch, step = parted // one.about["steps"] + 1, parted + 1
        losses = [float(run.history.loss[parted]) for run in (one, other)]
        return _Verdict(False, parted, f"part at step {step} (epoch {epoch}): {_two(names, 'loss', losses)}")
    for part in ("train", "validation"):
        ours, theirs = (getattr(run.history, part) for run in (one, other))
        for metric in sorted(ours.keys() & theirs.keys()):
            epochs = min(len(ours[metric]), len(theirs[metric]))
            parted = _first_difference(ours[metric][:epochs], theirs[metric][:epochs])
            if parted is not None:
                figures = [float(values[metric][parted]) for values in (ours, theirs)]
                said = f"part after epoch {parted + 1}: {_two(names, f'{part} {metric}', figures)}"
                return _Verdict(False, steps, said)
    if len(one.history.loss) != len(other.history.loss):
        counts = [len(run.history.loss) for run in (one, other)]
        return _Verdict(True, steps, f"the same in the first {steps} steps, to the bit; {_two(names, 'steps', counts)}")
    for name in sorted(one.tensors.keys() | other.tensors.keys()):
        ours, theirs = one.tensors.get(name), other.tensors.get(name)
        if ours is None or theirs is None or ours.tobytes() != theirs.tobytes() or ours.shape != theirs.shape:
            return _Verdict(False, steps, f"the same losses in all {steps} steps, and part in {name}")
    of_all = "losses, figures, parameters, optimizer state"
    return _Verdict(True, steps, f"the same in all {steps} steps, to the bit: {of_all}")


def _read(folder: Path) -> _Run:
    config = read_config(folder)
    paths = checkpoints_in(folder / CHECKPOINTS)
    if not paths:
        raise ValueError(f"{folder} has no checkpoint, which alone holds the loss of every step")
    history, tensors, about = read_history(paths[-1])
    return _Run(config, history, tensors, about)


def _other_settings(one: _Run, other: _Run) -> dict[str, tuple[Any, Any]]:
    """The settings, versions or devices that differ, with both values."""
    ours, theirs = (
        {
            **settings_of(run.config.config),
            **run.config.options,
            **{f"version of {name}": version for name, version in run.about["versions"].items()},
            "computed on": run.about["devices"],
            "data": run.config.data_sha256[:16],
        }
        for run in (one, other)
    )
    names = [name for name in dict.fromkeys(itertools.chain(ours, theirs)) if name not in ("out", "data_dir")]
    both = {name: (ours.get(name), theirs.get(name)) for name in names}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _first_difference(ours: Any, theirs: Any) -> int | None:
    """The first place where two curves have other bits."""
    differs = [a.tobytes() != b.tobytes() for a, b in zip(np.asarray(ours), np.asarray(theirs), strict=True)]
    return differs.index(True) if True in differs else None


def _two(names: list[str], what: str, values: list[Any]) -> str:
    said = [f"{value:.9g}" if isinstance(value, float) else str(value) for value in values]
    return f"{what} {said[0]} in {names[0]}, {said[1]} in {names[1]}"
