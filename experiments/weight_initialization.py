"""Which initial weights let a network of five layers learn?

The network of `optimizers_on_mnist`, relu and SGD 0.01, from three scales of the same Gaussian draws:

    W ~ N(0, std²),    std = 0.01,    Xavier's sqrt(1 / n_in),    He's sqrt(2 / n_in)

With 0.01 a tenth or less of the signal is left after each hidden layer, and as little of the error on its way back. A
weight's gradient is the product of the two, and next to nothing in every layer: the loss stays at log 10 = 2.30, that
of guessing. Xavier's learns; He's, made for relu, learns faster. The initializer is a number to the program, so that
all runs of all seeds train as one. (Row C5.)

The book has this network with He's weights twice: its loss at iteration 1,900 is 0.12 here, and 0.29 among the
optimizers. So much does the loss of a single mini-batch tell; hence the margins.

    python -m experiments.weight_initialization --seeds 6
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels, smooth


@dataclass(frozen=True)
class Config:
    """The book's numbers."""

    hidden_sizes: tuple[int, ...] = (100,) * 4
    """Units of each hidden layer."""
    std: float = 0.01
    """Of the initial weights that are too small."""
    learning_rate: float = 0.01
    """Of SGD."""
    batch_size: int = 128
    """Examples per step, drawn with replacement."""
    iterations: int = 2000
    """Mini-batches."""
    seeds: int = 6
    """Independent runs of each (the book has one)."""


# The book's loss at iteration 1,900, of one mini-batch in one run, and a margin of about three of the standard
# deviations that the losses of our mini-batches have there: 0.01, 0.06 and 0.06.
BOOK_ITERATION = 1900
BOOK = ((2.30, 0.03), (0.23, 0.18), (0.12, 0.18))


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """The loss of every mini-batch, `[initializers, seeds, iterations]`; and of the first one each layer's gradient."""
    x, y = map(jnp.asarray, data.official)
    initializers = (nn.normal(config.std), nn.xavier(), nn.he())

    def train(setting: dict[str, Array], key: PRNGKeyArray) -> dict[str, Array]:
        def initializer(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = None) -> Array:
            return jnp.stack([each(key, shape, dtype) for each in initializers])[setting["initializer"]]

        model, optimizer = nn.mlp(config.hidden_sizes, 10, initializer=initializer), nn.sgd(config.learning_rate)
        start, order = jax.random.split(key)
        begun = nn.init_state(model, optimizer, x.shape[1:], start)
        batches = jax.random.randint(order, (config.iterations, config.batch_size), 0, len(x))

        def loss(params: nn.layers.Params) -> Array:
            logits, _ = model.apply(params, begun.model_state, data.scale(x[batches[0]]))
            return nn.softmax_cross_entropy(logits, y[batches[0]])

        def step(state: nn.TrainState, batch: Array) -> tuple[nn.TrainState, Array]:
            return nn.train_step(
                model, nn.softmax_cross_entropy, optimizer, state, x[batch], y[batch], preprocess=data.scale
            )

        gradient = jax.grad(loss)(begun.params)
        sizes = jnp.stack([jnp.sqrt(jnp.mean(layer["W"] ** 2)) for layer in gradient.values()])
        return {"loss": jax.lax.scan(step, begun, batches)[1], "gradient": sizes}

    numbers = {"initializer": jnp.arange(len(initializers))}
    return nn.sweep(train, numbers, key=key, seeds=config.seeds, progress=False).outcomes


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """The book's figure; and beside it, why 0.01 does not learn."""
    figure, ((left, right),) = panels(1, 2, width=4.8, height=3.6)
    window = max(1, config.iterations // 50)
    labels = (f"std {config.std:g}", "Xavier", "He")
    layers = np.arange(1, len(config.hidden_sizes) + 2)
    for number, (label, colour) in enumerate(zip(labels, (COLOURS[3], COLOURS[0], COLOURS[2]), strict=True)):
        losses = smooth(outcomes["loss"][number], window)
        curve(left, np.arange(1, config.iterations + 1), losses, label, colour)
        if data.name == "mnist" and is_the_books(config):
            left.plot(BOOK_ITERATION, BOOK[number][0], "x", color=colour, ms=7, mew=2)
        curve(right, layers, outcomes["gradient"][number], label, colour, marker="o", ms=4)
    if data.name == "mnist" and is_the_books(config):
        left.plot([], [], "x", color=GREY, ms=7, mew=2, label="the book, one mini-batch")
    left.set(yscale="log", xlim=(0, config.iterations), xlabel="iteration", title="Training")
    left.set_ylabel(f"loss (mean of the last {window} mini-batches)")
    left.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2]))
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    left.yaxis.set_minor_locator(NullLocator())
    right.set(yscale="log", xlabel="layer", xticks=layers, title="The gradient before the first step")
    right.set_ylabel("root mean square over the weights")
    left.legend(frameon=False, fontsize=9)
    alt = (
        f"Left: loss over {config.iterations:,} mini-batches of {data.title} on a logarithmic scale. With weights of "
        f"{config.std:g} it stays at 2.3; with Xavier's it falls, and with He's it falls faster. Right: the gradient "
        "of the weights in each layer before the first step. With He's and Xavier's it has one size in all hidden "
        "layers, and with the small weights it is thousands of times smaller in every layer."
    )
    return {"losses": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """What is learned after most of the iterations; and the gradient that the first layer is given."""
    tenth = config.iterations // 10
    small, xavier, he = outcomes["loss"][..., -tenth:].mean(axis=-1)
    small_first, xavier_first, he_first = outcomes["gradient"][..., 0]
    last, first = "loss in the last tenth", "first gradient of the first layer, as a part of that with He's"
    found = [
        near("C5", f"std {config.std:g}: {last}; that of guessing is log 10", small, np.log(10), 0.03,
             source="arithmetic"),
        at_most("C5", f"Xavier: {last}", xavier, 0.8 * np.log(10)),
        at_most("C5", f"He: {last}, as a part of Xavier's, of the seed where it is largest", (he / xavier).max(), 0.9),
        at_most("C5", f"std {config.std:g}: {first}", small_first / he_first, 0.001),
        at_least("C5", f"Xavier: {first}", xavier_first / he_first, 0.05),
    ]  # fmt: skip
    if data.name == "mnist" and is_the_books(config):
        around = outcomes["loss"][..., BOOK_ITERATION - 50 : BOOK_ITERATION + 50].mean(axis=-1)
        for losses, (loss, margin), name in zip(around, BOOK, (f"std {config.std:g}", "Xavier", "He"), strict=True):
            words = f"{name}: mean loss around iteration 1,900; the book's is of one mini-batch"
            if loss > margin:
                found.append(near("C5", words, losses, loss, margin, source="the book"))
            else:  # so small a loss can be told from larger ones only
                found.append(at_most("C5", f"{words}, {loss:g}", losses, loss + margin))
    return found


EXPERIMENT = Experiment(
    name="weight_initialization",
    rows=("C5",),
    formula=r"W \sim \mathcal{N}(0, \sigma^2), \qquad \sigma_{\text{Xavier}} = \sqrt{1/n_{\text{in}}}, \quad "
    r"\sigma_{\text{He}} = \sqrt{2/n_{\text{in}}}",
    config=Config(),
    quick=Config(iterations=500, seeds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
