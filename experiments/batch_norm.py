"""Does batch normalisation make the scale of the initial weights matter less?

Sixteen scales of the initial weights, from 1 down to 1/10,000, each without batch norm and with it: five hidden layers
of 100, relu, SGD 0.01, 1,000 images, 20 epochs. Between a layer and its activation batch norm takes the mini-batch's
mean away, divides by its standard deviation, and lets the network learn a scale gamma and a shift beta of its own:

    x_hat = (x - mean) / sqrt(variance + eps)        y = gamma x_hat + beta        (Ioffe & Szegedy 2015, algorithm 1)

In training mean and variance are the mini-batch's, at inference running averages. Expect two scales of sixteen to
learn without it, and nearly all with it. The thirty-two networks of every seed see the same mini-batches, and train as
one compiled program. (Rows C6, C7, and X1 for the one program.)

    python -m experiments.batch_norm --seeds 5
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, equal, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels


@dataclass(frozen=True)
class Config:
    """The book's numbers."""

    hidden_sizes: tuple[int, ...] = (100,) * 5
    """Units of each hidden layer."""
    examples: int = 1000
    """Of the training data."""
    scales: int = 16
    """Of the initial weights: so many from 1 to 1/10,000, logarithmic."""
    learning_rate: float = 0.01
    """Of SGD."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    epochs: int = 20
    """Passes, after each of which the accuracy on the training data is measured."""
    seeds: int = 5
    """Independent runs of each setting."""


# Accuracy after epoch 20 by scale: the notes' run without and with batch norm, and the range of three runs of the
# book's code. (The notes' network had 100 outputs by a slip.)
BOOK = (
    ((0.116, 0.357), (0.10, 0.12), (0.39, 0.46)),
    ((0.097, 0.418), (0.10, 0.10), (0.49, 0.52)),
    ((0.982, 0.601), (0.95, 0.99), (0.63, 0.67)),
    ((0.841, 0.789), (0.86, 0.87), (0.78, 0.83)),
    ((0.100, 0.853), (0.32, 0.34), (0.89, 0.92)),
    ((0.125, 0.960), (0.12, 0.12), (0.94, 0.95)),
    ((0.117, 0.985), (0.12, 0.12), (0.99, 0.99)),
    ((0.116, 0.998), (0.12, 0.12), (1.00, 1.00)),
    ((0.116, 1.000), (0.12, 0.12), (1.00, 1.00)),
    ((0.116, 0.997), (0.12, 0.12), (1.00, 1.00)),
    ((0.116, 0.998), (0.12, 0.12), (0.99, 1.00)),
    ((0.117, 0.987), (0.12, 0.12), (0.61, 0.99)),
    ((0.117, 0.801), (0.12, 0.12), (0.61, 0.72)),
    ((0.116, 0.619), (0.12, 0.12), (0.61, 0.62)),
    ((0.116, 0.524), (0.12, 0.12), (0.53, 0.62)),
    ((0.116, 0.458), (0.12, 0.12), (0.44, 0.59)),
)


BOOKS = ("", "_", "the book's code, three runs")  # in the legend once


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Accuracies `[2 (without, with), scales, seeds, epochs]`, and what batch norm does to a batch, by hand."""
    train = data.first(config.examples)

    def both(scale: dict[str, Array], key: PRNGKeyArray) -> list[Array]:
        start, order = jax.random.split(key)
        return [accuracies(scale["scale"], start, order, batch_norm=batch_norm) for batch_norm in (False, True)]

    def accuracies(scale: Array, start: PRNGKeyArray, order: PRNGKeyArray, *, batch_norm: bool) -> Array:
        model = nn.mlp(config.hidden_sizes, 10, initializer=nn.normal(scale), batch_norm=batch_norm)
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.sgd(config.learning_rate), train, key=start, data_key=order,
            epochs=config.epochs, batch_size=config.batch_size, sampling="replacement", preprocess=data.scale,
        )  # fmt: skip
        return result.history.train["accuracy"]

    scales = jnp.logspace(0, -4, config.scales)
    found = nn.sweep(both, {"scale": scales}, key=key, seeds=config.seeds, progress=False)
    return {"scales": scales, "accuracies": np.stack(found.outcomes), "programs": found.programs, **one_batch(key)}


def one_batch(key: PRNGKeyArray) -> Outcomes:
    """A batch through batch norm: in training, and at inference once the running moments have settled."""
    model = nn.batch_norm()
    x = 3 * jax.random.normal(key, (100, 4)) + 7
    params, model_state, _ = model.init(key, (4,))
    in_training, _ = model.apply(params, model_state, x, training=True)
    for _ in range(200):
        _, model_state = model.apply(params, model_state, x, training=True)
    at_inference, _ = model.apply(params, model_state, x)
    return {"x": x, "in_training": in_training, "at_inference": at_inference}


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """The book's figure: a panel for each scale; and all scales in one."""
    scales, accuracies = np.asarray(outcomes["scales"]), outcomes["accuracies"]
    rows = -(-config.scales // 4)
    figure, axes = panels(rows, 4, width=2.5, height=2.0, sharex=True, sharey=True)
    epochs = np.arange(1, config.epochs + 1)
    labels = (("without batch norm", COLOURS[1]), ("with batch norm", COLOURS[0]))
    for axis, scale, without, with_it in zip(axes.flat, scales, *accuracies, strict=False):
        for runs, (label, colour) in zip((without, with_it), labels, strict=True):
            curve(axis, epochs, runs, label, colour)
        axis.set_title(f"scale {scale:.2g}", fontsize=9)
    axes[0, 0].set(ylim=(0, 1.03), xlim=(1, config.epochs))
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("accuracy on the training data", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)

    summary, ((axis,),) = panels(width=6.4, height=3.6)
    for runs, (label, colour) in zip(accuracies[..., -1], labels, strict=True):
        curve(axis, scales, runs.T, label, colour, marker="o", ms=4)
    if len(scales) == len(BOOK) and data.name == "mnist":
        for part in (1, 2):
            middle = [np.mean(row[part]) for row in BOOK]
            spread = [np.ptp(row[part]) / 2 for row in BOOK]
            axis.errorbar(scales * 1.08, middle, spread, fmt="_", color=GREY, capsize=3, lw=1, label=BOOKS[part])
    axis.set(xscale="log", xlabel="standard deviation of the initial weights", ylim=(0, 1.03))
    axis.set_ylabel(f"accuracy after epoch {config.epochs}")
    axis.legend(frameon=False, fontsize=9)
    return {
        "by_epoch": Picture(
            figure,
            f"{config.scales} panels, one for each scale of the initial weights on {data.title}: accuracy over the "
            "epochs, without batch norm in orange and with it in blue. Without it all but two curves stay near one in "
            "ten; with it they rise to almost 1 for medium scales and more slowly for the largest and the smallest.",
        ),
        "by_scale": Picture(
            summary,
            "Final accuracy over the scale of the initial weights: without batch norm a narrow peak near 0.3, with it "
            "a broad plateau near 1 from 0.05 to 0.002. Grey bars, the book's own runs, lie on both curves.",
        ),
    }


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of what batch norm computes; and of every one of the thirty-two accuracies."""
    final = outcomes["accuracies"][..., -1]
    found = [
        equal("C6", "a batch after batch norm in training: mean of each unit", outcomes["in_training"].mean(axis=0),
              np.zeros(4), margin=1e-5, source="arithmetic"),
        equal("C6", "its standard deviation", outcomes["in_training"].std(axis=0), np.ones(4), margin=1e-4,
              source="arithmetic"),
        at_most("C6", "inference with running moments of one batch, away from training on it",
                float(jnp.abs(outcomes["at_inference"] - outcomes["in_training"]).max()), 0.02, source="arithmetic"),
        near("X1", f"compiled programs for {2 * config.scales * config.seeds} networks", outcomes["programs"], 1, 0,
             source="our own"),
        at_least("C7", "share of the scales at which it learns with batch norm (accuracy above 0.3)",
                 (final[1] > 0.3).mean(axis=0), 0.75, source="the notes"),
        at_most("C7", "the same without batch norm", (final[0] > 0.3).mean(axis=0), 0.4, source="the notes"),
    ]  # fmt: skip
    if data.name == "mnist" and is_the_books(config):
        for row, scale in enumerate(np.asarray(outcomes["scales"])):
            for part, words in enumerate(("without", "with")):
                low, high = BOOK[row][part + 1]
                margin = 0.15 if high - low >= 0.15 else 0.06  # where the book's own runs spread as much
                claim = between("C7", f"accuracy at scale {scale:.2g}, {words}", final[part, row], low, high, margin)
                found.append(replace(claim, reference=f"{claim.reference} (notes: {BOOK[row][0][part]:.3f})"))
    return found


EXPERIMENT = Experiment(
    name="batch_norm",
    rows=("C6", "C7", "X1"),
    formula=r"\hat{x} = \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \varepsilon}}, \qquad y = \gamma \hat{x} + \beta",
    config=Config(),
    quick=Config(scales=4, epochs=6, seeds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
    book_seconds=19.5,
)

if __name__ == "__main__":
    main(EXPERIMENT)
