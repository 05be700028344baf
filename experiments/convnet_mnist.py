"""How well does a small convolutional network read handwritten digits, and what do its settings change?

The whole pipeline from end to end: read and prepare the data, build the network, choose the optimizer, train, evaluate.
The network is the book's: 30 filters of 5x5, relu, max pooling of 2, 100 hidden units, Adam 0.001, batches of 100.
Expect 0.985 on the test data after a few epochs. Then one setting at a time is another, on fewer examples: the filters'
size F, the stride S, the padding P, the activation. The first three decide how much the convolution leaves of an image:

    size = (H + 2 P - F) / S + 1        rounded down

All of them train as one compiled program. (Rows D1, D2.)

    python -m experiments.convnet_mnist --epochs 5 --filter-sizes 3 9
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, equal, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels, tiles


@dataclass(frozen=True)
class Config:
    """The book's numbers; and our own, of what is varied."""

    filters: int = 30
    """Of the convolution."""
    filter_size: int = 5
    """Their height and width."""
    hidden_size: int = 100
    """Units of the dense layer behind it."""
    weight_init_std: float = 0.01
    """Of the book's initial weights; where a setting is varied, they are drawn for their layer."""
    learning_rate: float = 0.001
    """Of Adam."""
    batch_size: int = 100
    """Examples per step."""
    epochs: int = 3
    """Passes over all training data."""
    filter_sizes: tuple[int, ...] = (3, 7)
    """Instead of the book's."""
    strides: tuple[int, ...] = (2,)
    """Instead of 1."""
    paddings: tuple[int, ...] = (2,)
    """Instead of 0."""
    activations: tuple[str, ...] = ("tanh", "sigmoid")
    """Instead of relu."""
    varied_examples: int = 10_000
    """Of the training data, where a setting is varied."""
    varied_epochs: int = 3
    """Passes over them."""
    seeds: int = 2
    """Independent runs of each training."""


class Setting(NamedTuple):
    """What is varied, and what it is called."""

    name: str
    filter_size: int
    stride: int = 1
    padding: int = 0
    activation: str = "relu"

    def model(self, config: Config) -> nn.Layer:
        """The book's network with it."""
        return nn.simple_convnet(
            10, filters=config.filters, filter_size=self.filter_size, stride=self.stride, padding=self.padding,
            hidden_size=config.hidden_size, activation=getattr(nn, self.activation),
        )  # fmt: skip


def settings(config: Config) -> list[Setting]:
    """The book's, and those that differ from it in one thing."""
    own = config.filter_size
    return [
        Setting("as in the book", own),
        *(Setting(f"filters of {size}x{size}", size) for size in config.filter_sizes),
        *(Setting(f"stride {stride}", own, stride=stride) for stride in config.strides),
        *(Setting(f"padding {padding}", own, padding=padding) for padding in config.paddings),
        *(Setting(name, own, activation=name) for name in config.activations),
    ]


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Accuracies of the book's network `[seeds, epochs]` and of its variants."""
    some = data.first(config.varied_examples)
    book = nn.simple_convnet(
        10, filters=config.filters, filter_size=config.filter_size, hidden_size=config.hidden_size,
        initializer=nn.normal(config.weight_init_std),
    )  # fmt: skip

    def learned(one: Setting, rate: Array, key: PRNGKeyArray) -> Array:
        result = nn.fit(
            one.model(config), nn.softmax_cross_entropy, nn.adam(rate), some, key=key, epochs=config.varied_epochs,
            batch_size=config.batch_size, metrics={}, preprocess=data.scale,
        )  # fmt: skip
        return nn.evaluate(one.model(config), *result[:2], data.test, preprocess=data.scale)["accuracy"]

    def of_a_seed(rates: dict[str, Array], key: PRNGKeyArray) -> dict[str, Any]:
        # Read and prepare: `data`, its pixels from 0 to 1 by `data.scale`. Build: `book`. The rest:
        optimizer, untrained = nn.adam(rates["learning_rate"]), book.init(key, data.train.x.shape[1:])
        result = nn.fit(
            book, nn.softmax_cross_entropy, optimizer, data.official, key=key, epochs=config.epochs,
            batch_size=config.batch_size, validation=data.test, preprocess=data.scale,
        )  # fmt: skip
        return {
            "train": result.history.train["accuracy"],
            "test": result.history.validation["accuracy"],
            "untrained": nn.evaluate(book, *untrained[:2], data.test, preprocess=data.scale)["accuracy"],
            "outputs": outputs(book, result, data),
            "varied": [learned(one, rates["learning_rate"], key) for one in settings(config)],
        }

    rates = {"learning_rate": jnp.array([config.learning_rate])}
    found = nn.sweep(of_a_seed, rates, key=key, seeds=config.seeds, progress=False).outcomes
    return {
        "train": found["train"][0],
        "test": found["test"][0],
        "untrained": found["untrained"][0],
        "outputs": found["outputs"][0, 0],
        "varied": np.concatenate(found["varied"]),
        "left": [left_of(one.model(config), data.train.x.shape[1:]) for one in settings(config)],
    }


def outputs(model: nn.Layer, result: nn.FitResult, data: Images) -> Array:
    """The network's for every test image, in parts that memory holds."""

    def of_one(image: Array) -> Array:
        return model.apply(result.params, result.model_state, data.scale(image[None]))[0][0]

    return jax.lax.map(of_one, jnp.asarray(data.test.x), batch_size=500)


def left_of(model: nn.Layer, image: tuple[int, ...]) -> int:
    """How many numbers convolution and pooling leave of an image: the inputs of the dense layer."""
    return jax.eval_shape(lambda key: model.init(key, image)[0], jax.random.key(0))["dense1"]["W"].shape[0]


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Accuracy by epoch and by setting; and images that were misread."""
    return {"accuracy": draw_accuracy(config, outcomes), "misread": draw_misread(data, outcomes)}


def draw_accuracy(config: Config, outcomes: Outcomes) -> Picture:
    """The book's network by epoch; and a bar from the least to the most of each setting."""
    figure, ((left, right),) = panels(1, 2, width=4.8, height=3.4, width_ratios=(2, 3))
    epochs = np.arange(1, config.epochs + 1)
    for part, colour in (("train", COLOURS[1]), ("test", COLOURS[0])):
        curve(left, epochs, outcomes[part], f"{part}{'ing' * (part == 'train')} data", colour, marker="o", ms=3)
    left.set(xlabel="epoch", ylabel="accuracy")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_title("the book's network", fontsize=10)
    left.legend(frameon=False, fontsize=9, loc="lower right")
    names = [one.name for one in settings(config)]
    for place, (runs, numbers) in enumerate(zip(outcomes["varied"], outcomes["left"], strict=True)):
        colour = GREY if place else COLOURS[0]
        right.plot([runs.min(), runs.max()], [place, place], color=colour, lw=6, alpha=0.35, solid_capstyle="butt")
        right.scatter(runs.mean(), place, marker="|", s=160, color=colour, zorder=3)
        right.annotate(f"{numbers:,}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    right.annotate("numbers left\nof an image", (1.02, 1.02), xycoords="axes fraction", va="bottom", fontsize=8)
    right.set_yticks(range(len(names)), names)
    right.set(ylim=(len(names) - 0.5, -0.5), xlabel="accuracy on the test data")
    right.set_title("one setting changed, on fewer examples", fontsize=10)
    return Picture(
        figure,
        "Left, the accuracy of the book's network over the epochs, on training and test data, which both rise. Right, "
        "the accuracy on the test data with one setting changed at a time, and how many numbers the convolution and "
        "the pooling leave of an image.",
    )


def draw_misread(data: Images, outcomes: Outcomes) -> Picture:
    """The twenty of which it was surest."""
    logits, labels = np.asarray(outcomes["outputs"]), data.test.y
    read, sure = logits.argmax(axis=1), np.asarray(jax.nn.softmax(logits)).max(axis=1)
    wrong = np.flatnonzero(read != labels)
    figure, axes = panels(2, 10, width=0.9, height=1.1)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, place in zip(axes.flat, wrong[np.argsort(-sure[wrong])], strict=False):
        tiles(axis, data.test.x[place, :, :, 0][None], 1)
        axis.set_title(f"{labels[place]}, not {read[place]}", fontsize=8)
    return Picture(
        figure,
        f"Up to twenty of the {len(wrong):,} test images, of {len(labels):,}, that the network misread: those of which "
        "it was surest, each with its label and with what was read.",
    )


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """What comes out of the pipeline, and what the settings do."""
    test, labels = outcomes["test"][:, -1], np.asarray(data.test.y)
    confusion = np.asarray(nn.confusion_matrix(jnp.asarray(outcomes["outputs"]), jnp.asarray(labels)))
    height = data.train.x.shape[1]
    sizes = [(height + 2 * one.padding - one.filter_size) // one.stride + 1 for one in settings(config)]
    words = f"test accuracy of the book's network after {config.epochs} epochs"
    return [
        at_least("D1", "test accuracy, above that before training", test - outcomes["untrained"], 0.7),
        equal("D1", "diagonal of the confusion matrix, of all images: the accuracy", confusion.trace() / len(labels),
              test[0], margin=1e-5, source="arithmetic"),
        near("D2", words, test, 0.985, 0.005, "the book") if data.name == "mnist" and is_the_books(config)
        else at_least("D2", words, test, 0.9),
        equal("D2", "numbers that the settings leave of an image, by the formula", outcomes["left"],
              [config.filters * (size // 2) ** 2 for size in sizes], source="arithmetic"),
        at_least("D2", "test accuracy with the worst setting", outcomes["varied"].min(axis=0), 0.8),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="convnet_mnist",
    rows=("D1", "D2"),
    formula=r"y_{nijo} = \sum_{a,b,c} x_{n,\, iS+a-P,\, jS+b-P,\, c}\, W_{abco}, \qquad "
    r"\text{size} = \left\lfloor \tfrac{H + 2P - F}{S} \right\rfloor + 1",
    config=Config(),
    quick=Config(
        filter_sizes=(3,),
        activations=("sigmoid",),
        batch_size=50,
        epochs=30,
        varied_epochs=30,
    ),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
