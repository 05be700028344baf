"""The settings of a run, as the command takes them and `config.json` keeps them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import optax
import tyro

from jaxnn import decoupled_optimizers, optimizers
from jaxnn._checks import check_choice, check_number, check_size
from jaxnn.data_options import check_options
from jaxnn.hosts import check_roll
from jaxnn.presets import PRESETS, ModelConfig, check_model, of_the_model, resolve_model
from jaxnn.sampling import Sampling

__all__ = [
    "CHOICES",
    "OPTIMIZERS",
    "PLACE",
    "TrainConfig",
    "build_optimizer",
    "check_names",
    "decouples",
    "from_json",
    "resolve",
]


@dataclass(frozen=True)
class TrainConfig(ModelConfig):
    """Train a network and keep the run in a folder: settings, weights, figures, curves.

    Without any option it trains an mlp on the built-in digits, in seconds.
    """

    optimizer: Annotated[str | None, of_the_model("NAME")] = None
    """Rule of the updates: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lion, muon."""
    learning_rate: Annotated[float | None, of_the_model("FLOAT")] = None
    """Size of the steps. Too small learns slowly, too large diverges."""
    schedule: Annotated[str | None, of_the_model("NAME")] = None
    """How the learning rate moves over the run: constant, cosine (down to 0), one_cycle (up to it, then down to 0)."""
    weight_decay: Annotated[
        float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 0.01 for adamw, else 0)")
    ] = None
    """Decay of weights: beside the gradient for adamw, lion, muon; else a penalty, 1/2 · weight_decay · (sum of W²)."""
    epochs: Annotated[int | None, of_the_model("INT")] = None
    """Passes over the training data."""
    batch_size: Annotated[int | None, of_the_model("INT")] = None
    """Examples per step."""
    sampling: Annotated[str | None, of_the_model("NAME")] = None
    """How an epoch draws its examples: shuffle (each once), replacement (at random each step), in_order."""
    compute_dtype: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: as its weights)")
    ] = None
    """What a network computes in while it trains: bfloat16, float32. Its weights stay float32, and so do its answers
    afterwards. bfloat16 pays on GPUs, where layers are large."""
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Random seed; the same seed and settings give the same network."""
    devices: Annotated[str | None, tyro.conf.arg(metavar="all|INT", help_behavior_hint="(default: one)")] = None
    """Devices that share every batch: all, or so many. A batch size that is not given is made a multiple of them."""
    coordinator: Annotated[
        str | None, tyro.conf.arg(metavar="HOST:PORT|auto", help_behavior_hint="(default: one process)")
    ] = None
    """Train with the devices of many processes: where process 0 listens, the same for all; auto on Slurm, Open MPI and
    cloud TPUs. Only process 0 prints and writes."""
    processes: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(with a coordinator)")] = None
    """How many processes there are."""
    process_id: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(with a coordinator)")] = None
    """Which of them this one is, from 0."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: a new one in runs/)")] = None
    """Folder for the run, which must not exist yet."""
    json: bool = False
    """Print the outcome in JSON, for a program; all else goes to stderr."""
    no_compilation_cache: bool = False
    """Compile everything anew, and keep none of it (JAX_ENABLE_COMPILATION_CACHE=false does so for all commands)."""
    debug: bool = False
    """Show the whole traceback of an error."""


# Where a run computes, and how it is told: no matter to the network, and not kept.
PLACE = ("devices", "coordinator", "processes", "process_id", "json", "no_compilation_cache")

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optimizers.sgd,
    "momentum": optimizers.momentum,
    "nesterov": optimizers.nesterov,
    "adagrad": optimizers.adagrad,
    "rmsprop": optimizers.rmsprop,
    "adam": optimizers.adam,
    "adamw": decoupled_optimizers.adamw,
    "lion": decoupled_optimizers.lion,
    "muon": decoupled_optimizers.muon,
}

# (rate, steps of the run) -> schedule
SCHEDULES: dict[str, Callable[[float, int], optax.ScalarOrSchedule]] = {
    "constant": lambda rate, steps: rate,
    "cosine": optax.cosine_decay_schedule,
    "one_cycle": lambda rate, steps: optax.cosine_onecycle_schedule(steps, rate),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": tuple(OPTIMIZERS),
    "sampling": get_args(Sampling),
    "schedule": tuple(SCHEDULES),
    "compute_dtype": ("bfloat16", "float32"),
}

# Rates that are reasonable for small networks; a preset's own is for its own optimizer.
_LEARNING_RATES = {
    "sgd": 0.1,
    "momentum": 0.01,
    "nesterov": 0.01,
    "adagrad": 0.01,
    "rmsprop": 0.001,
    "adam": 0.001,
    "adamw": 0.001,
    "lion": 0.001,
    "muon": 0.005,
}


Config = TypeVar("Config", bound=TrainConfig)


def resolve(config: Config, train_examples: int, devices: int = 1) -> Config:
    """Fill in what was left to the model, and refuse settings that are out of range or not this model's.

    So many devices share every batch.
    """
    check_names(config)
    preset = PRESETS[config.model]
    optimizer = config.optimizer or preset.optimizer
    own_rate = preset.learning_rate if optimizer == preset.optimizer else _LEARNING_RATES[optimizer]
    own_decay = _settings_of(optimizer).get("weight_decay", 0.0)
    # Of little data, batches small enough for ten steps an epoch.
    own_batch_size = min(preset.batch_size, max(2, train_examples // 10), train_examples)
    own_batch_size = max(own_batch_size // devices, 1) * devices
    batch_size = own_batch_size if config.batch_size is None else config.batch_size
    check_size("--batch-size", batch_size)
    if batch_size % devices:
        raise ValueError(
            f"--batch-size is {batch_size}, which {devices} devices cannot share evenly; use a multiple of {devices}"
        )
    if batch_size > train_examples:
        raise ValueError(f"--batch-size is {batch_size}, but there are only {train_examples} training examples")
    steps_per_epoch = train_examples // batch_size
    own_epochs = preset.epochs or -(-(preset.steps or 1) // steps_per_epoch)
    resolved = replace(
        resolve_model(config),
        optimizer=optimizer,
        learning_rate=own_rate if config.learning_rate is None else config.learning_rate,
        weight_decay=own_decay if config.weight_decay is None else config.weight_decay,
        batch_size=batch_size,
        sampling=config.sampling or preset.sampling,
        schedule=config.schedule or preset.schedule,
        epochs=own_epochs if config.epochs is None else config.epochs,
    )
    check_size("--epochs", resolved.epochs)
    return resolved


def check_names(config: TrainConfig) -> None:
    """Refuse unknown names and numbers out of range: all that can be said before the data is read."""
    check_options(config)
    check_model(config)
    for name, choices in CHOICES.items():
        value = getattr(config, name)
        if value is not None:
            check_choice(name, value, choices)
    for name in ("learning_rate", "weight_decay"):
        value = getattr(config, name)
        if value is not None:
            check_number(f"--{name.replace('_', '-')}", value, at_least=0)
    check_size("--seed", config.seed, at_least=0, below=2**32)
    for name in ("epochs", "batch_size"):
        value = getattr(config, name)
        if value is not None:
            check_size(f"--{name.replace('_', '-')}", value)
    _check_place(config)


def _check_place(config: TrainConfig) -> None:
    devices = config.devices
    if devices is not None and devices != "all" and not (devices.isascii() and devices.isdigit() and int(devices)):
        raise ValueError(f"--devices must be all, or how many, from 1; got {devices!r}")
    if config.coordinator is None:
        for name in ("processes", "process_id"):
            if getattr(config, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} goes with --coordinator HOST:PORT, which is missing")
    elif devices not in (None, "all"):
        raise ValueError("with --coordinator all devices of all processes share the work; leave out --devices")
    else:
        check_roll(config.coordinator, config.processes, config.process_id)


def build_optimizer(config: TrainConfig, train_examples: int) -> optax.GradientTransformation:
    """The optimizer of a resolved config; a constant rate is part of its state, not of the compiled program."""
    assert config.optimizer is not None and config.learning_rate is not None and config.schedule is not None
    assert config.epochs is not None and config.batch_size is not None
    rate = SCHEDULES[config.schedule](config.learning_rate, config.epochs * (train_examples // config.batch_size))
    others = _settings_of(config.optimizer)
    if decouples(config):
        others["weight_decay"] = config.weight_decay
    make = optax.inject_hyperparams(OPTIMIZERS[config.optimizer], static_args=others.keys())
    return make(learning_rate=rate, **others)


def decouples(config: TrainConfig) -> bool:
    """Whether the optimizer itself decays the weights; for the others it is a penalty's business."""
    assert config.optimizer is not None
    return "weight_decay" in _settings_of(config.optimizer)


def _settings_of(optimizer: str) -> dict[str, Any]:
    """What an optimizer takes beside the rate, and the defaults."""
    parameters = inspect.signature(OPTIMIZERS[optimizer]).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "learning_rate"}


def from_json(values: dict[str, Any]) -> TrainConfig:
    """The resolved config that `config.json` holds; what is unknown, missing or out of range is refused."""
    known = {field.name for field in fields(TrainConfig)} - set(PLACE)
    for name in sorted(values.keys() ^ known):
        state = "is missing" if name in known else "is unknown"
        raise ValueError(f"its setting {name!r} {state}: it was written by another version of jaxnn")
    paths = {name: Path(values[name]) for name in ("data_dir", "out") if values[name] is not None}
    sizes = {name: tuple(values[name]) for name in ("hidden_sizes", "filters") if values[name] is not None}
    config = TrainConfig(**{**values, **paths, **sizes})
    check_names(config)
    for name in (
        *PRESETS[config.model].settings,
        "optimizer",
        "learning_rate",
        "epochs",
        "batch_size",
        "sampling",
        "schedule",
        "weight_decay",
        "scaling",
    ):
        if getattr(config, name) is None:
            raise ValueError(f"its setting {name!r} is null")
    return config
