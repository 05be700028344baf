"""What `jaxnn train` takes beside the settings of a run: how it is kept, and which earlier run it goes on with."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxnn._checks import check_choice, check_number, check_size
from jaxnn.config import PLACE, TrainConfig
from jaxnn.run_folder import RunConfig

__all__ = ["KEPT", "TrainOptions", "check_options", "earlier", "goes_on_with", "options_of"]


@dataclass(frozen=True)
class TrainOptions(TrainConfig):
    """Train a network and keep the run in a folder: settings, weights, figures, curves, checkpoints.

    Without any option it trains an mlp on the built-in digits, in seconds.
    """

    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: a new run)")] = None
    """Go on with a run that was interrupted or killed, or, with more --epochs, has ended."""
    from_run: Annotated[
        Path | None, tyro.conf.arg(name="from", metavar="RUN", help_behavior_hint="(default: the model's settings)")
    ] = None
    """Take all settings from an earlier run, and repeat it in a new folder. Other options change some of them."""
    checkpoint_seconds: Annotated[float, tyro.conf.arg(metavar="FLOAT")] = 60.0
    """Seconds between checkpoints, at least; a run that is killed loses no more. One is saved besides at the end."""
    keep_checkpoints: Annotated[int, tyro.conf.arg(metavar="INT")] = 2
    """How many of the newest checkpoints are kept, beside that of the best epoch."""
    on_divergence: Annotated[str, tyro.conf.arg(metavar="NAME")] = "stop"
    """What is done when the loss is no longer a number: stop, restore (go back to the last good epoch, with a third of
    the learning rate, five times at most), ignore."""
    debug_nans: bool = False
    """When the loss is no longer a number, name the operation that made it so."""


# What config.json says of them.
KEPT = ("checkpoint_seconds", "keep_checkpoints", "on_divergence", "devices")
# What may be another when a run goes on; the data is compared by its digest, wherever it lies.
_MAY_CHANGE = ("out", "epochs", *KEPT, *PLACE, "resume", "from_run", "debug_nans", "debug", "dataset", "data_dir")


def check_options(config: TrainOptions) -> None:
    """Refuse what cannot be meant."""
    check_number("--checkpoint-seconds", config.checkpoint_seconds, at_least=0)
    check_size("--keep-checkpoints", config.keep_checkpoints)
    check_choice("--on-divergence", config.on_divergence, ["stop", "restore", "ignore"])
    if config.resume is not None and config.from_run is not None:
        raise ValueError("--resume goes on with a run, and --from begins another one like it: which is meant?")
    if config.resume is not None and config.out is not None:
        raise ValueError("--resume writes into the folder of its run; leave out --out")


def earlier(config: TrainOptions) -> Path | None:
    """The run whose settings are taken."""
    return config.from_run if config.resume is None else config.resume


def options_of(run: RunConfig) -> TrainOptions:
    """What an earlier run was told; its folder is no setting of the next one."""
    settings = {field.name: getattr(run.config, field.name) for field in fields(TrainConfig)}
    options = {name: run.options[name] for name in KEPT if name in run.options}
    return TrainOptions(**{**settings, **options, "out": None})


def goes_on_with(config: TrainConfig, began: TrainConfig, run: Path) -> None:
    """Refuse settings that a run cannot change on its way."""
    for field in fields(TrainConfig):
        then, now = getattr(began, field.name), getattr(config, field.name)
        flag = field.name.replace("_", "-")
        if then != now and field.name not in _MAY_CHANGE:
            raise ValueError(
                f"--{flag} was {_word(then)} when {run} began, and cannot become {_word(now)}; what may change is "
                "--epochs, --checkpoint-seconds, --keep-checkpoints and --on-divergence. To begin another run like it: "
                f"jaxnn train --from {run} --{flag} {_word(now)}"
            )
    if config.epochs != began.epochs and config.schedule != "constant":
        raise ValueError(
            f"--epochs was {began.epochs} when {run} began, and cannot change: its learning rate moves by the schedule "
            f"{config.schedule}, which depends on it"
        )


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
