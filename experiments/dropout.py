"""Does dropout keep a network from learning its examples by heart?

300 images again, seven layers, 301 epochs. In training each hidden unit is silent with probability 0.2, by another draw
in every step; at inference all take part. One of the two is scaled, so that a unit's expectation is the same in both
(Srivastava et al. 2014):

    the book's form         training  y = x mask                  inference  y = x (1 - ratio)
    that of the libraries   training  y = x mask / (1 - ratio)    inference  y = x

Expect the training accuracy to come to 1 later, or not at all, and a narrower gap to the test accuracy. The book's form
is 1 - ratio times the other one, in training and at inference. So it makes the signal of six layers 0.8^6, a quarter,
and learns more slowly. A network that has not come as far has a narrower gap in any case; so the last panel compares
the three at equal training accuracy. (Row C9.)

    python -m experiments.dropout --seeds 5
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels


@dataclass(frozen=True)
class Config:
    """The book's numbers."""

    examples: int = 300
    """Of the training data."""
    hidden_sizes: tuple[int, ...] = (100,) * 6
    """Units of each hidden layer."""
    ratio: float = 0.2
    """Of the hidden units that are silent in a step."""
    learning_rate: float = 0.01
    """Of SGD."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    epochs: int = 301
    """Passes over the examples."""
    measured: int = 7
    """Epochs from one measurement to the next (the book measures after each)."""
    seeds: int = 5
    """Independent runs of each (the book has one)."""
    masks: int = 10_000
    """Drawn to see what a unit is worth on average."""


SETTINGS = ("without dropout", "the book's form", "the libraries' form")


def network(config: Config, ratio: Array, gain: Array) -> nn.Layer:
    """For each hidden layer dense, relu, dropout, times `gain`; then dense for the logits."""
    hidden = [
        (nn.dense(size, nn.he()), nn.activation(nn.relu), nn.dropout(ratio), nn.activation(lambda x: gain * x))
        for size in config.hidden_sizes
    ]
    return nn.sequential(nn.flatten(), *itertools.chain(*hidden), nn.dense(10, nn.he()))


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Accuracies `[settings, seeds, measurements]`; and many masks, in both forms."""
    train, test = data.first(config.examples), data.test
    optimizer = nn.sgd(config.learning_rate)

    def learn(setting: dict[str, Array], key: PRNGKeyArray) -> dict[str, Array]:
        model = network(config, **setting)
        start, order = jax.random.split(key)

        def epoch(state: nn.TrainState, _: None) -> tuple[nn.TrainState, Array]:
            return nn.train_epoch(
                model, nn.softmax_cross_entropy, optimizer, state, train, batch_size=config.batch_size, data_key=order,
                sampling="replacement", preprocess=data.scale,
            )  # fmt: skip

        def epochs(state: nn.TrainState, _: None) -> tuple[nn.TrainState, dict[str, Array]]:
            state = jax.lax.scan(epoch, state, length=config.measured)[0]
            return state, {
                name: nn.evaluate(model, state.params, state.model_state, examples, preprocess=data.scale)["accuracy"]
                for name, examples in {"train": train, "test": test}.items()
            }

        state = nn.init_state(model, optimizer, train.x.shape[1:], start)
        return jax.lax.scan(epochs, state, length=config.epochs // config.measured)[1]

    # The book's form as 1 - ratio times the other, so that both are one program; `claims` checks that it is so.
    settings = {"ratio": jnp.array([0.0, config.ratio, config.ratio]), "gain": jnp.array([1.0, 1 - config.ratio, 1.0])}
    found = nn.sweep(learn, settings, key=key, seeds=config.seeds, progress=False).outcomes
    return found | {"forms": {"book": masked(config, "inference", key), "libraries": masked(config, "training", key)}}


def masked(config: Config, scale_at: Literal["training", "inference"], key: PRNGKeyArray) -> dict[str, Array]:
    """Four units of 1 through dropout, in training with so many masks, and at inference."""
    layer, units = nn.dropout(config.ratio, scale_at=scale_at), jnp.ones((config.masks, 4))
    in_training, _ = layer.apply({}, {}, units, training=True, key=key)
    at_inference, _ = layer.apply({}, {}, units[:1])
    return {"training": in_training, "inference": at_inference[0]}


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """The book's two figures, the other form, and test accuracy over training accuracy."""
    figure, (axes,) = panels(1, 4, width=3.1, height=3.3)
    epochs = config.measured * np.arange(1, config.epochs // config.measured + 1)
    train, test = outcomes["train"], outcomes["test"]
    for number, (axis, setting) in enumerate(zip(axes, SETTINGS, strict=False)):
        curve(axis, epochs, train[number], "train", COLOURS[0])
        curve(axis, epochs, test[number], "test", COLOURS[1])
        ends = f"at the end {train[number, :, -1].mean():.2f} and {test[number, :, -1].mean():.2f}"
        axis.set(xlabel="epoch", ylim=(0, 1.03), xlim=(0, config.epochs))
        axis.set_title(f"{setting}\n{ends}", fontsize=10)
        colour = (GREY, COLOURS[2], COLOURS[3])[number]
        axes[-1].plot(train[number].mean(axis=0), test[number].mean(axis=0), color=colour, label=setting)
    axes[0].set_ylabel("accuracy")
    axes[0].legend(frameon=False, loc="lower right", fontsize=9)
    axes[-1].plot([0, 1], [0, 1], ":", color="black", lw=1, label="no gap")
    axes[-1].set(xlabel="training accuracy", ylabel="test accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    axes[-1].set_title("at equal\ntraining accuracy", fontsize=10)
    axes[-1].legend(frameon=False, loc="upper left", fontsize=8)
    alt = (
        f"Accuracy over {config.epochs} epochs on {config.examples} images of {data.title}. Without dropout the "
        "training accuracy comes to 1, or nearly, and the test accuracy stays below it. With dropout both rise more "
        "slowly, most of all in the book's form. The last panel has test accuracy over training accuracy: three curves "
        "near one another, below the diagonal."
    )
    return {"accuracies": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of the two forms; and of what they do to the accuracies at the end."""
    forms, kept = outcomes["forms"], 1 - config.ratio
    train, test = outcomes["train"][..., -1], outcomes["test"][..., -1]
    gap = (train - test).mean(axis=1)
    # The mean over the masks has a standard error of sqrt(ratio (1 - ratio) / masks); five of those.
    margin = round(5 * (config.ratio * kept / config.masks) ** 0.5, 3)
    return [
        near("C9", "share of the units that a mask silences", (forms["book"]["training"] == 0).mean(), config.ratio,
             margin, source="arithmetic"),
        equal("C9", "the book's form: mean of four units of 1 over all masks, and what they are at inference",
              forms["book"]["training"].mean(axis=0), forms["book"]["inference"], margin, source="arithmetic"),
        equal("C9", "the libraries' form: the same", forms["libraries"]["training"].mean(axis=0),
              forms["libraries"]["inference"], margin / kept, source="arithmetic"),
        equal("C9", "the book's form is 1 - ratio times the libraries', mask by mask", forms["book"]["training"],
              kept * forms["libraries"]["training"], 1e-6, source="arithmetic"),
        at_least("C9", "without dropout: training accuracy (the book: 1.0)", train[0], 0.95),
        at_least("C9", "the book's form: how far the training accuracy is below that", train[0] - train[1], 0.03),
        at_most("C9", "the book's form: gap from training to test accuracy, as a part of that without", gap[1] / gap[0],
                0.9),
        at_least("C9", "the libraries' form: how far the training accuracy is above that of the book's",
                 train[2] - train[1], 0),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="dropout",
    rows=("C9",),
    formula=r"\text{training: } y = x \odot m, \quad m_i \sim \text{Bernoulli}(1 - r) \qquad "
    r"\text{inference: } y = (1 - r)\, x",
    config=Config(),
    quick=Config(hidden_sizes=(50,) * 5, seeds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
