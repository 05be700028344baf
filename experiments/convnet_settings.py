"""Which settings of a convolutional network matter?

The number of layers, the filters' size F, the stride S (of 2, instead of pooling), the padding P, the activation: one
at a time is another, on a few thousand photographs of CIFAR-10. The network has some layers, each of them

    convolution - batch norm - activation - max pool (2x2)

    size <- (size + 2 P - F) / S + 1, rounded down, by the convolution; half of it, rounded down, by the pooling

and the mean over what is left of the image, then one dense layer. Expect a layer more to help most, and relu to learn
faster than the sigmoid. All networks and seeds are one compiled program. (Row D2.)

    python -m experiments.convnet_settings --filter-sizes 5 7
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.convnet_cifar10 import up_and_down
from experiments.shared.claims import Claim, at_least, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_images
from experiments.shared.pictures import COLOURS, GREY, Picture, panels


@dataclass(frozen=True)
class Config:
    """Our own numbers."""

    filters: tuple[int, ...] = (16, 32, 64)
    """Of the layers."""
    numbers_of_layers: tuple[int, ...] = (1, 2)
    """Instead of all of them."""
    filter_sizes: tuple[int, ...] = (5,)
    """Instead of 3, with as much padding as keeps the size."""
    strides: tuple[int, ...] = (2,)
    """Instead of 1, without pooling."""
    paddings: tuple[int, ...] = (0,)
    """Instead of 1."""
    activations: tuple[str, ...] = ("tanh", "sigmoid")
    """Instead of relu."""
    highest_rate: float = 0.01
    """Of Adam, after a quarter of the steps; it rises to it, and then falls to 0."""
    examples: int = 5_000
    """Of the training data."""
    batch_size: int = 50
    """Examples per step."""
    epochs: int = 4
    """Passes over them."""
    seeds: int = 2
    """Independent runs of each setting."""


class Setting(NamedTuple):
    """What is varied, and what it is called."""

    name: str
    filters: tuple[int, ...]
    filter_size: int = 3
    stride: int = 1
    padding: int = 1
    activation: str = "relu"

    def layers(self) -> list[nn.Layer]:
        """All before the mean over the image."""
        layers = []
        for filters in self.filters:
            initializer = nn.he() if self.activation == "relu" else nn.xavier()
            layers += [
                nn.conv2d(filters, self.filter_size, initializer, stride=self.stride, padding=self.padding, bias=False),
                nn.batch_norm(),
                nn.activation(getattr(nn, self.activation)),
            ]
            if self.stride == 1:
                layers.append(nn.max_pool2d(2))
        return layers

    def size_left(self, size: int) -> int:
        """What they leave of an image's height, by the formula."""
        for _ in self.filters:
            size = (size + 2 * self.padding - self.filter_size) // self.stride + 1
            size = size // 2 if self.stride == 1 else size
        return size

    def model(self) -> nn.Layer:
        """The network."""
        return nn.sequential(*self.layers(), nn.average_pool2d(), nn.flatten(), nn.dense(10))


def settings(config: Config) -> list[Setting]:
    """The first, and those that differ from it in one thing."""
    own = config.filters
    return [
        Setting(f"{len(own)} layers, 3x3, relu", own),
        *(Setting(f"{number} layer{'s' * (number > 1)}", own[:number]) for number in config.numbers_of_layers),
        *(Setting(f"filters of {size}x{size}", own, size, padding=size // 2) for size in config.filter_sizes),
        *(Setting(f"stride {stride}, no pooling", own, stride=stride) for stride in config.strides),
        *(Setting(f"padding {padding}", own, padding=padding) for padding in config.paddings),
        *(Setting(name, own, activation=name) for name in config.activations),
    ]


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Accuracies on the test data `[settings, seeds]`, and what the layers leave of an image."""
    some = data.first(config.examples)
    steps = config.epochs * (len(some.x) // config.batch_size)

    def learned(one: Setting, highest_rate: Array, key: PRNGKeyArray) -> Array:
        model = one.model()
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.adam(up_and_down(highest_rate, steps)), some, key=key,
            epochs=config.epochs, batch_size=config.batch_size, metrics={}, preprocess=data.scale,
        )  # fmt: skip
        return nn.evaluate(model, result.params, result.model_state, data.test, preprocess=data.scale)["accuracy"]

    def of_a_seed(rates: dict[str, Array], key: PRNGKeyArray) -> list[Array]:
        return [learned(one, rates["highest_rate"], key) for one in settings(config)]

    rates = {"highest_rate": jnp.array([config.highest_rate])}
    found = nn.sweep(of_a_seed, rates, key=key, seeds=config.seeds, progress=False)
    return {
        "accuracies": np.concatenate(found.outcomes),
        "left": [height_left(one, data.train.x.shape[1:]) for one in settings(config)],
    }


def height_left(setting: Setting, image: tuple[int, ...]) -> int:
    """The height of what its layers leave of an image."""
    layers = nn.sequential(*setting.layers())

    def apply(key: PRNGKeyArray) -> Array:
        params, model_state, _ = layers.init(key, image)
        return layers.apply(params, model_state, jnp.zeros((1, *image)))[0]

    return jax.eval_shape(apply, jax.random.key(0)).shape[1]


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """A bar for each setting, from the least to the most."""
    figure, ((axis,),) = panels(width=6.4, height=3.2)
    names = [one.name for one in settings(config)]
    for place, (runs, size) in enumerate(zip(outcomes["accuracies"], outcomes["left"], strict=True)):
        colour = GREY if place else COLOURS[0]
        axis.plot([runs.min(), runs.max()], [place, place], color=colour, lw=6, alpha=0.35, solid_capstyle="butt")
        axis.scatter(runs.mean(), place, marker="|", s=160, color=colour, zorder=3)
        axis.annotate(f"{size}x{size}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axis.annotate("left of\nan image", (1.02, 1.02), xycoords="axes fraction", va="bottom", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel="accuracy on the test data")
    axis.set_title(f"one setting changed, {min(config.examples, len(data.train.x)):,} images", fontsize=10)
    alt = (
        "Accuracy on the test data with one setting changed at a time, and the size of what the layers leave of an "
        "image. A single layer is by far the worst."
    )
    return {"settings": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """What the settings leave of an image, and what they do."""
    pairs = list(zip(settings(config), outcomes["accuracies"], strict=True))
    first, relu = pairs[0]
    by_depth = [runs for one, runs in pairs[1:] if len(one.filters) < len(first.filters)] + [relu]
    return [
        equal("D2", "size of what the settings leave of an image, by the formula", outcomes["left"],
              [one.size_left(data.train.x.shape[1]) for one, _ in pairs], source="arithmetic"),
        at_least("D2", "test accuracy by a layer more, at least", np.diff(by_depth, axis=0).min(axis=0), 0.03),
        *(at_least("D2", "test accuracy with relu, above that with sigmoid", relu - runs, 0.03)
          for one, runs in pairs if one.activation == "sigmoid"),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="convnet_settings",
    rows=("D2",),
    formula=r"x \leftarrow \operatorname{maxpool}(h(\operatorname{batchnorm}(x * W))), \qquad "
    r"\text{size} \leftarrow \left\lfloor \tfrac{\text{size} + 2P - F}{S} \right\rfloor + 1 "
    r"\text{ by the convolution}, \quad \left\lfloor \tfrac{\text{size}}{2} \right\rfloor \text{ by the pooling}",
    config=Config(),
    quick=Config(
        filters=(8, 16), numbers_of_layers=(1,), filter_sizes=(), paddings=(), epochs=8, activations=("sigmoid",)
    ),
    run=run,
    draw=draw,
    claims=claims,
    load=lambda place: load_images("cifar10", place),
)

if __name__ == "__main__":
    main(EXPERIMENT)
