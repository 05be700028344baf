"""The networks that the command knows by name, and the settings that make one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import tyro
from jax import Array

from jaxnn import activations, models
from jaxnn._checks import check_choice, check_number, check_size
from jaxnn.data_options import DataOptions
from jaxnn.layers import Layer

__all__ = [
    "ACTIVATIONS",
    "PRESETS",
    "ModelConfig",
    "Preset",
    "build_model",
    "check_model",
    "of_the_model",
    "resolve_model",
]


def of_the_model(metavar: str) -> Any:
    """A flag whose default is the model's."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the model's; see jaxnn models)")


@dataclass(frozen=True)
class ModelConfig(DataOptions):
    """A data set, and a network for it."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = "mlp"
    """Network; jaxnn models lists them."""
    hidden_sizes: Annotated[tuple[int, ...] | None, of_the_model("INT ...")] = None
    """Units of each hidden layer, such as 200 100."""
    filters: Annotated[tuple[int, ...] | None, of_the_model("INT ...")] = None
    """Filters of the convolutions: one number for simple-convnet, one per block of two for convnet."""
    filter_size: Annotated[int | None, of_the_model("INT")] = None
    """Height and width of the filters."""
    stride: Annotated[int | None, of_the_model("INT")] = None
    """Step of the filters over the image (simple-convnet)."""
    padding: Annotated[int | None, of_the_model("INT")] = None
    """Zeros around the image (simple-convnet)."""
    activation: Annotated[str | None, of_the_model("NAME")] = None
    """What hidden units compute: relu, leaky_relu, sigmoid, tanh, identity."""
    batch_norm: Annotated[bool | None, of_the_model("True|False")] = None
    """Normalise each hidden layer over the mini-batch."""
    dropout: Annotated[float | None, of_the_model("FLOAT")] = None
    """Fraction of hidden units dropped at random in training, from 0 to below 1."""
    weight_init_std: Annotated[float | None, of_the_model("FLOAT")] = None
    """Standard deviation of the initial weights (two-layer-net)."""


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "identity": activations.identity,
}


def _build_mlp(config: ModelConfig, outputs: int) -> Layer:
    assert config.hidden_sizes is not None and config.activation is not None
    assert config.batch_norm is not None and config.dropout is not None
    return models.mlp(
        config.hidden_sizes,
        outputs,
        activation=ACTIVATIONS[config.activation],
        batch_norm=config.batch_norm,
        dropout=config.dropout,
    )


def _build_two_layer_net(config: ModelConfig, outputs: int) -> Layer:
    assert config.hidden_sizes is not None and config.activation is not None and config.weight_init_std is not None
    (hidden_size,) = config.hidden_sizes
    return models.two_layer_net(hidden_size, outputs, config.weight_init_std, activation=ACTIVATIONS[config.activation])


def _build_simple_convnet(config: ModelConfig, outputs: int) -> Layer:
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


def _build_convnet(config: ModelConfig, outputs: int) -> Layer:
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
    build: Callable[[ModelConfig, int], Layer]
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


Config = TypeVar("Config", bound=ModelConfig)


def resolve_model(config: Config) -> Config:
    """Fill in the settings that were left to the model, and refuse those that are not this model's."""
    filled = dict(PRESETS[config.model].settings)
    for flag in _MODEL_FLAGS:
        value = getattr(config, flag)
        if value is None:
            continue
        if flag not in filled:
            raise ValueError(f"--{flag.replace('_', '-')} is no setting of {config.model}; see jaxnn models")
        filled[flag] = value
    return replace(config, **filled)


def check_model(config: ModelConfig) -> None:
    """Refuse names that are unknown and settings of the model that are out of range."""
    check_choice("model", config.model, list(PRESETS))
    if config.activation is not None:
        check_choice("activation", config.activation, list(ACTIVATIONS))
    if config.weight_init_std is not None:
        check_number("--weight-init-std", config.weight_init_std, at_least=0)
    if config.dropout is not None:
        check_number("--dropout", config.dropout, at_least=0, below=1)
    for name, least in {"filter_size": 1, "stride": 1, "padding": 0}.items():
        value = getattr(config, name)
        if value is not None:
            check_size(f"--{name.replace('_', '-')}", value, at_least=least)
    for name in ("hidden_sizes", "filters"):
        sizes, own = getattr(config, name), PRESETS[config.model].settings.get(name)
        for size in sizes or ():
            check_size(f"--{name.replace('_', '-')}", size)
        if sizes is not None and own is not None and len(own) == 1 and len(sizes) != 1:
            raise ValueError(f"--{name.replace('_', '-')} of {config.model} is one number; got {len(sizes)}")


def build_model(config: ModelConfig, outputs: int) -> Layer:
    """The network of a resolved config."""
    return PRESETS[config.model].build(config, outputs)
