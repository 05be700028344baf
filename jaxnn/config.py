"""The settings of a run, as the command takes them and `config.json` keeps them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import optax
import tyro
from jax import Array

from jaxnn import activations, decoupled_optimizers, models, optimizers
from jaxnn._checks import check_choice, check_number, check_size
from jaxnn.data import find
from jaxnn.layers import Layer

__all__ = [
    "ACTIVATIONS",
    "OPTIMIZERS",
    "PRESETS",
    "TrainConfig",
    "build_model",
    "build_optimizer",
    "decouples",
    "resolve",
]


def _of_the_model(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the model's; see jaxnn models)")


@dataclass(frozen=True)
class TrainConfig:
    """Train a network and keep the run in a folder: settings, weights, figures, curves.

    Without any option it trains an mlp on the built-in digits, in seconds.
    """

    dataset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """Data set to learn; jaxnn data lists them."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder that holds the data set's files. Without it: $JAXNN_DATA, the cache, or a download."""
    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = "mlp"
    """Network to train; jaxnn models lists them."""
    hidden_sizes: Annotated[tuple[int, ...] | None, _of_the_model("INT ...")] = None
    """Units of each hidden layer, such as 200 100."""
    filters: Annotated[tuple[int, ...] | None, _of_the_model("INT ...")] = None
    """Filters of the convolutions: one number for simple-convnet, one per block of two for convnet."""
    filter_size: Annotated[int | None, _of_the_model("INT")] = None
    """Height and width of the filters."""
    stride: Annotated[int | None, _of_the_model("INT")] = None
    """Step of the filters over the image (simple-convnet)."""
    padding: Annotated[int | None, _of_the_model("INT")] = None
    """Zeros around the image (simple-convnet)."""
    activation: Annotated[str | None, _of_the_model("NAME")] = None
    """What hidden units compute: relu, leaky_relu, sigmoid, tanh, identity."""
    batch_norm: Annotated[bool | None, _of_the_model("True|False")] = None
    """Normalise each hidden layer over the mini-batch."""
    dropout: Annotated[float | None, _of_the_model("FLOAT")] = None
    """Fraction of hidden units dropped at random in training, from 0 to below 1."""
    weight_init_std: Annotated[float | None, _of_the_model("FLOAT")] = None
    """Standard deviation of the initial weights (two-layer-net)."""
    optimizer: Annotated[str | None, _of_the_model("NAME")] = None
    """Rule of the updates: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lion, muon."""
    learning_rate: Annotated[float | None, _of_the_model("FLOAT")] = None
    """Size of the steps. Too small learns slowly, too large diverges."""
    schedule: Annotated[str | None, _of_the_model("NAME")] = None
    """How the learning rate moves over the run: constant, cosine (down to 0), one_cycle (up to it, then down to 0)."""
    weight_decay: Annotated[
        float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 0.01 for adamw, else 0)")
    ] = None
    """Decay of weights: beside the gradient for adamw, lion, muon; else a penalty, 1/2 · weight_decay · (sum of W²)."""
    epochs: Annotated[int | None, _of_the_model("INT")] = None
    """Passes over the training data."""
    batch_size: Annotated[int | None, _of_the_model("INT")] = None
    """Examples per step."""
    sampling: Annotated[str | None, _of_the_model("NAME")] = None
    """How an epoch draws its examples: shuffle (each once), replacement (at random each step), in_order."""
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Random seed; the same seed and settings give the same network."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: a new one in runs/)")] = None
    """Folder for the run, which must not exist yet."""
    debug: bool = False
    """Show the whole traceback of an error."""


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "identity": activations.identity,
}


def _build_mlp(config: TrainConfig, outputs: int) -> Layer:
    assert config.hidden_sizes is not None and config.activation is not None
    assert config.batch_norm is not None and config.dropout is not None
    return models.mlp(
        config.hidden_sizes,
        outputs,
        activation=ACTIVATIONS[config.activation],
        batch_norm=config.batch_norm,
        dropout=config.dropout,
    )


def _build_two_layer_net(config: TrainConfig, outputs: int) -> Layer:
    assert config.hidden_sizes is not None and config.activation is not None and config.weight_init_std is not None
    (hidden_size,) = config.hidden_sizes
    return models.two_layer_net(hidden_size, outputs, config.weight_init_std, activation=ACTIVATIONS[config.activation])


def _build_simple_convnet(config: TrainConfig, outputs: int) -> Layer:
    assert config.filters is not None and config.filter_size is not None and config.hidden_sizes is not None
    assert config.stride is not None and config.padding is not None
    assert config.activation is not None
    (filters,), (hidden_size,) = config.filters, config.hidden_sizes
    return models.simple_convnet(
        outputs,
        filters=filters,
        filter_size=config.filter_size,
        stride=config.stride,
        padding=config.padding,
        hidden_size=hidden_size,
        activation=ACTIVATIONS[config.activation],
    )


def _build_convnet(config: TrainConfig, outputs: int) -> Layer:
    assert config.filters is not None and config.filter_size is not None
    assert config.activation is not None and config.dropout is not None
    return models.convnet(
        outputs,
        blocks=[(filters, filters) for filters in config.filters],
        filter_size=config.filter_size,
        activation=ACTIVATIONS[config.activation],
        dropout=config.dropout,
    )


@dataclass(frozen=True)
class Preset:
    """A model by name, and the settings that go with it."""

    description: str
    settings: dict[str, Any]
    """Of the model's own flags; a flag that is not among them is refused."""
    build: Callable[[TrainConfig, int], Layer]
    optimizer: str
    learning_rate: float
    batch_size: int
    sampling: str
    schedule: str = "constant"
    epochs: int | None = None
    steps: int | None = None
    """Mini-batches in all, where the textbook counts so: the epochs follow from the size of the data."""


PRESETS = {
    "mlp": Preset(
        "fully connected network of any depth, relu, batch norm, dropout",
        {"hidden_sizes": (200, 100), "activation": "relu", "batch_norm": True, "dropout": 0.2},
        _build_mlp,
        optimizer="adam",
        learning_rate=0.002,
        batch_size=100,
        sampling="shuffle",
        epochs=30,
    ),
    "two-layer-net": Preset(
        "the textbook's first network: one hidden layer, sigmoid, 10,000 steps of plain SGD",
        {"hidden_sizes": (50,), "activation": "sigmoid", "weight_init_std": 0.01},
        _build_two_layer_net,
        optimizer="sgd",
        learning_rate=0.1,
        batch_size=100,
        sampling="replacement",
        steps=10_000,
    ),
    "simple-convnet": Preset(
        "the textbook's convolutional network: one convolution, one hidden layer",
        {
            "filters": (30,),
            "filter_size": 5,
            "stride": 1,
            "padding": 0,
            "hidden_sizes": (100,),
            "activation": "relu",
        },
        _build_simple_convnet,
        optimizer="adam",
        learning_rate=0.001,
        batch_size=100,
        sampling="shuffle",
        schedule="cosine",
        epochs=3,
    ),
    "convnet": Preset(
        "deep convolutional network: blocks of two convolutions with batch norm, and a pool",
        {"filters": (32, 64, 128), "filter_size": 3, "activation": "relu", "dropout": 0.0},
        _build_convnet,
        optimizer="adam",
        learning_rate=0.003,
        batch_size=128,
        sampling="shuffle",
        schedule="one_cycle",
        epochs=5,
    ),
}

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

_MODEL_FLAGS = (
    "hidden_sizes",
    "filters",
    "filter_size",
    "stride",
    "padding",
    "activation",
    "batch_norm",
    "dropout",
    "weight_init_std",
)


def resolve(config: TrainConfig, train_examples: int) -> TrainConfig:
    """Fill in what was left to the model, and refuse settings that are out of range or not this model's."""
    check_names(config)
    preset = PRESETS[config.model]
    filled = dict(preset.settings)
    for flag in _MODEL_FLAGS:
        value = getattr(config, flag)
        if value is None:
            continue
        if flag not in preset.settings:
            raise ValueError(f"--{flag.replace('_', '-')} is no setting of {config.model}; see jaxnn models")
        filled[flag] = value
    optimizer = config.optimizer or preset.optimizer
    own_rate = preset.learning_rate if optimizer == preset.optimizer else _LEARNING_RATES[optimizer]
    own_decay = _settings_of(optimizer).get("weight_decay", 0.0)
    batch_size = preset.batch_size if config.batch_size is None else config.batch_size
    check_size("--batch-size", batch_size)
    if batch_size > train_examples:
        raise ValueError(f"--batch-size is {batch_size}, but there are only {train_examples} training examples")
    steps_per_epoch = train_examples // batch_size
    own_epochs = preset.epochs or -(-(preset.steps or 1) // steps_per_epoch)
    resolved = replace(
        config,
        **filled,
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
    check_choice("model", config.model, list(PRESETS))
    for name, choices in {
        "optimizer": OPTIMIZERS,
        "activation": ACTIVATIONS,
        "sampling": ("shuffle", "replacement", "in_order"),
        "schedule": SCHEDULES,
    }.items():
        value = getattr(config, name)
        if value is not None:
            check_choice(name, value, list(choices))
    for name in ("learning_rate", "weight_decay", "weight_init_std"):
        value = getattr(config, name)
        if value is not None:
            check_number(f"--{name.replace('_', '-')}", value, at_least=0)
    if config.dropout is not None:
        check_number("--dropout", config.dropout, at_least=0, below=1)
    check_size("--seed", config.seed, at_least=0, below=2**32)
    for name, least in {"epochs": 1, "batch_size": 1, "filter_size": 1, "stride": 1, "padding": 0}.items():
        value = getattr(config, name)
        if value is not None:
            check_size(f"--{name.replace('_', '-')}", value, at_least=least)
    for name in ("hidden_sizes", "filters"):
        sizes, own = getattr(config, name), PRESETS[config.model].settings.get(name)
        for size in sizes or ():
            check_size(f"--{name.replace('_', '-')}", size)
        if sizes is not None and own is not None and len(own) == 1 and len(sizes) != 1:
            raise ValueError(f"--{name.replace('_', '-')} of {config.model} is one number; got {len(sizes)}")


def build_model(config: TrainConfig, outputs: int) -> Layer:
    """The network of a resolved config."""
    return PRESETS[config.model].build(config, outputs)


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
    known = {field.name for field in fields(TrainConfig)}
    for name in sorted(values.keys() ^ known):
        state = "is missing" if name in known else "is unknown"
        raise ValueError(f"its setting {name!r} {state}: it was written by another version of jaxnn")
    paths = {name: Path(values[name]) for name in ("data_dir", "out") if values[name] is not None}
    sizes = {name: tuple(values[name]) for name in ("hidden_sizes", "filters") if values[name] is not None}
    config = TrainConfig(**{**values, **paths, **sizes})
    find(config.dataset)
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
    ):
        if getattr(config, name) is None:
            raise ValueError(f"its setting {name!r} is null")
    return config
