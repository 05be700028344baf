"""The lines of PyTorch or Keras that build the network of a run, load its weights and predict with them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn import data
from jaxnn.data_options import Scaling
from jaxnn.interop import Layout
from jaxnn.presets import ModelConfig
from jaxnn.trained import Trained

__all__ = ["NETWORKS", "peer_source"]


def _mlp(config: ModelConfig) -> list[str]:
    assert config.hidden_sizes is not None
    block = ["dense", *["batch_norm"] * bool(config.batch_norm), "activation", *["dropout"] * bool(config.dropout)]
    return ["flatten", *block * len(config.hidden_sizes), "dense"]


def _simple_convnet(config: ModelConfig) -> list[str]:
    padding = ["zero_padding"] * bool(config.padding)
    return [*padding, "conv", "activation", "max_pool", "flatten", "dense", "activation", "dense"]


def _convnet(config: ModelConfig) -> list[str]:
    assert config.filters is not None
    block = [*["conv", "batch_norm", "activation"] * 2, "max_pool"]
    return [*block * len(config.filters), "average_pool", "flatten", *["dropout"] * bool(config.dropout), "dense"]


NETWORKS: dict[str, Callable[[ModelConfig], list[str]]] = {
    "mlp": _mlp,
    "two-layer-net": _mlp,
    "simple-convnet": _simple_convnet,
    "convnet": _convnet,
}
"""The kinds of the layers, in order, of each network that the command knows by name."""

_ACTIVATIONS = {
    "torch": {"relu": "ReLU", "leaky_relu": "LeakyReLU", "sigmoid": "Sigmoid", "tanh": "Tanh", "identity": "Identity"},
    "keras": {
        "relu": 'Activation("relu"',
        "leaky_relu": "LeakyReLU(negative_slope=0.01",
        "sigmoid": 'Activation("sigmoid"',
        "tanh": 'Activation("tanh"',
        "identity": 'Activation("linear"',
    },
}

_TORCH = """\
from collections import OrderedDict

import torch
from safetensors.torch import load_file
from torch import nn

network = nn.Sequential(OrderedDict([
{layers}
]))
network.load_state_dict(load_file({file!r}))
network.eval()


def predict(x):
    x = torch.as_tensor(x, dtype=torch.float32)  # as in the data, {batch}
{scaling}
    with torch.no_grad():
        y = network(x)
    return {answer}"""

_KERAS = """\
import keras
import numpy as np
from safetensors.numpy import load_file

network = keras.Sequential([
{layers}
])
weights = load_file({file!r})
for layer in network.layers:
    for variable in layer.weights:
        variable.assign(weights[f"{{layer.name}}/{{variable.name}}"])


def predict(x):
    x = np.asarray(x, "float32")  # as in the data, {batch}
{scaling}
    y = network.predict(x, verbose=0)
    return {answer}"""


def peer_source(layout: Layout, config: ModelConfig, trained: Trained, file: Path) -> str:
    """Python that defines `network`, with the weights of `file` in it, and `predict`, which scales as the run did."""
    shape = trained.about.shape
    template, write = (_TORCH, _torch_layer) if layout == "torch" else (_KERAS, _keras_layer)
    layers = [] if layout == "torch" else [f"    keras.Input({shape}),"]
    numbers: Counter[str] = Counter()
    for kind in NETWORKS[config.model](config):
        numbers[kind] += 1
        name = f"{kind}{numbers[kind]}"
        layers += write(kind, name, trained.params.get(name, {}), config)
    scaling = _scaled("x = (x - {}) / {}", trained.scale, layout)
    batch = f"[batch, {', '.join(map(str, shape))}]"
    if len(shape) == 3:
        batch = f"{batch}: height, width, channels"
        scaling += ["x = x.permute(0, 3, 1, 2)  # PyTorch has the channels first"] * (layout == "torch")
    answer = "".join(_scaled("y * {1} + {0}  # in the units of the data", trained.targets, layout))
    return template.format(
        layers="\n".join(layers),
        file=str(file),
        batch=batch,
        scaling="\n".join(f"    {line}" for line in scaling),
        answer=answer or "y  # logits: an output for each class",
    ).replace("\n\n    ", "\n    ")


def _torch_layer(kind: str, name: str, params: Any, config: ModelConfig) -> list[str]:
    match kind:
        case "flatten":
            layer = "Flatten()"
        case "dense":
            layer = "Linear({}, {})".format(*params["W"].shape)
        case "conv":
            height, width, inputs, filters = params["W"].shape
            padding = '"same"' if config.padding is None else config.padding
            bias = "" if "b" in params else ", bias=False"
            options = f"stride={config.stride or 1}, padding={padding}{bias}"
            layer = f"Conv2d({inputs}, {filters}, ({height}, {width}), {options})"
        case "batch_norm":
            dimensions = 2 if config.model == "convnet" else 1
            layer = f"BatchNorm{dimensions}d({params['gamma'].shape[0]}, eps=1e-6)"
        case "activation":
            layer = f"{_ACTIVATIONS['torch'][str(config.activation)]}()"
        case "dropout":
            layer = f"Dropout({config.dropout})"
        case "max_pool":
            layer = "MaxPool2d(2)"
        case "average_pool":
            layer = "AdaptiveAvgPool2d(1)"
        case "zero_padding":  # the convolution's own in PyTorch
            return []
    return [f'    ("{name}", nn.{layer}),']


def _keras_layer(kind: str, name: str, params: Any, config: ModelConfig) -> list[str]:
    match kind:
        case "flatten":
            layer = "Flatten("
        case "dense":
            layer = f"Dense({params['W'].shape[1]}, "
        case "conv":
            height, width, _, filters = params["W"].shape
            padding = '"same"' if config.padding is None else '"valid"'
            bias = "" if "b" in params else "use_bias=False, "
            layer = f"Conv2D({filters}, ({height}, {width}), strides={config.stride or 1}, padding={padding}, {bias}"
        case "batch_norm":
            layer = "BatchNormalization(momentum=0.9, epsilon=1e-6, "
        case "activation":
            layer = f"{_ACTIVATIONS['keras'][str(config.activation)]}, "
        case "dropout":
            layer = f"Dropout({config.dropout}, "
        case "max_pool":
            layer = "MaxPooling2D(2, "
        case "average_pool":
            layer = "GlobalAveragePooling2D("
        case "zero_padding":
            layer = f"ZeroPadding2D({config.padding}, "
    return [f'    keras.layers.{layer}name="{name}"),']


def _scaled(formula: str, scale: Scaling, layout: Layout) -> list[str]:
    """A line with what a scaling subtracts and what it divides by in it; none without a scaling."""
    if scale is None:
        return []
    if isinstance(scale, data.MinMax):
        zero, one = np.asarray(scale.minimum), np.asarray(scale.maximum) - np.asarray(scale.minimum)
    else:
        zero, one = np.asarray(scale.mean), np.asarray(scale.std)
    one = np.where(one > 0, one, np.ones_like(one))
    return [formula.format(_number(zero, layout), _number(one, layout))]


def _number(values: np.ndarray, layout: Layout) -> str:
    """A number, or numbers, in digits that read back as the same float32."""
    if values.ndim == 0:
        return str(values)
    array = "torch.tensor([{}])" if layout == "torch" else 'np.array([{}], "float32")'
    return array.format(", ".join(map(str, values)))
