"""How are a learning rate and a weight decay found, and what is known of them afterwards?

By random trials (Bergstra & Bengio 2012): draw both from wide ranges, each order of magnitude as likely as any other,
train a short while, compare by accuracy on validation data, narrow the ranges to the best fifth, and draw again:

    rate = 10^u,  u uniform from -6 to -2        decay = 10^v,  v uniform from -8 to -4

Validation data is kept apart from the training data for this; the test data is looked at when all is chosen. Expect
good rates between 0.001 and 0.01, the best at the upper end, where a further search would look; decays so small make no
difference. Of the network that is chosen the training accuracy promises too much. The validation accuracy comes nearer,
but it is a winner's, and of 100 images: only the test says what to expect of new ones. (Rows C10, C11.)

All trials are one compiled program, for both settings are numbers to it. The book's code takes 111 s for one round of
100 trials; here there are two rounds.

    python -m experiments.hyperparameter_search --rounds 3
"""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.patches import Rectangle

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, panels


@dataclass(frozen=True)
class Config:
    """The book's numbers."""

    examples: int = 500
    """Of the training data, those for validation among them."""
    validation: int = 100
    """Of these examples, to choose by."""
    hidden_sizes: tuple[int, ...] = (100,) * 6
    """Units of each hidden layer."""
    learning_rate: tuple[float, float] = (1e-6, 1e-2)
    """Range of SGD's."""
    weight_decay: tuple[float, float] = (1e-8, 1e-4)
    """Range of lambda."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    epochs: int = 50
    """Passes over the examples that are left for training."""
    trials: int = 100
    """Of each round."""
    rounds: int = 2
    """The book has one, and says how to go on."""


BEST = 20
ALT = {
    "search": "Left: the trials by learning rate and weight decay, coloured by validation accuracy, which rises to the "
    "right and not upwards; a box around the best fifth of the first round holds the trials of the second. Right: "
    "accuracy over the learning rate, low for small ones, then a steep rise. Crosses, the test accuracy of the best, "
    "lie near their validation accuracy.",
    "best": "Small panels, the best trials of the first round in order: accuracy over the epochs on the "
    "validation data, solid, and on the training data, dashed. It rises fast in the first panels, and less and less in "
    "the last ones, whose learning rates are smaller.",
}


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Every trial; the ranges of the second round; and of the best trials the accuracy on the test data."""
    x, y = data.first(config.examples)
    validation = (x[: config.validation], y[: config.validation])
    train = (x[config.validation :], y[config.validation :])
    model = nn.mlp(config.hidden_sizes, 10)

    def trial(setting: dict[str, Array], key: PRNGKeyArray) -> Outcomes:
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.sgd(setting["learning_rate"]), train, key=key, epochs=config.epochs,
            batch_size=config.batch_size, sampling="replacement", penalty=nn.l2_penalty(setting["weight_decay"]),
            validation=validation, preprocess=data.scale,
        )  # fmt: skip
        return {"training": result.history.train, "validation": result.history.validation, "params": result.params}

    space = nn.SearchSpace(
        learning_rate=nn.log_uniform(*config.learning_rate), weight_decay=nn.log_uniform(*config.weight_decay)
    )
    search = nn.random_search(
        trial, space, key=key, trials=config.trials, rounds=config.rounds, progress=False,
        metric=("validation/accuracy", "validation/loss"),
    )  # fmt: skip

    best = np.array(search.trials.order(("validation/accuracy", "validation/loss"))[:BEST])
    params_of_best = jax.tree.map(lambda leaf: leaf[best, 0], search.trials.outcomes["params"])

    def on_test(params: nn.layers.Params, test: tuple[Array, Array]) -> Array:
        return jax.lax.map(lambda one: nn.evaluate(model, one, {}, test, preprocess=data.scale)["accuracy"], params)

    return {
        **search.trials.configs,
        "round": search.round,
        "training": search.trials.outcomes["training"]["accuracy"][:, 0],
        "validation": search.trials.outcomes["validation"]["accuracy"][:, 0],
        "loss": search.trials.outcomes["validation"]["loss"][:, 0, -1],
        "best": best,
        "test": jax.jit(on_test)(params_of_best, tuple(map(jnp.asarray, data.test))),
        "narrowed": {name: tuple(limits) for name, limits in search.spaces[1].items()},  # (low, high)
        "programs": search.trials.programs,
    }


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Where the trials lie, and how good they are; and the book's figure of the twenty best."""
    rate, decay, number = outcomes["learning_rate"], outcomes["weight_decay"], outcomes["round"]
    training, validation, best = outcomes["training"], outcomes["validation"], outcomes["best"]
    figure, ((left, right),) = panels(1, 2, width=5.0, height=3.8)
    for which, marker in enumerate(itertools.islice(itertools.cycle("osD^v"), config.rounds)):
        there = number == which
        points = left.scatter(
            rate[there], decay[there], c=validation[there, -1], marker=marker, s=26, vmin=0, vmax=1,
            edgecolors="white", linewidths=0.4, label=f"round {which + 1}",
        )  # fmt: skip
        colour = GREY if which == 0 else COLOURS[0]
        right.plot(
            rate[there], validation[there, -1], marker, color=colour, ms=4, label=f"validation, round {which + 1}"
        )
    (low, high), (lowest, highest) = outcomes["narrowed"]["learning_rate"], outcomes["narrowed"]["weight_decay"]
    left.add_patch(Rectangle((low, lowest), high - low, highest - lowest, fill=False, ec=COLOURS[1], lw=1.2))
    left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="weight decay λ")
    left.set_title("in the box the best fifth of round 1, and round 2", fontsize=10)
    figure.colorbar(points, ax=left, label="validation accuracy")
    right.plot(rate[best], outcomes["test"], "x", color=COLOURS[1], ms=5, label=f"test, of the {len(best)} best")
    right.set(xscale="log", xlabel="learning rate", ylabel="accuracy at the end", ylim=(0, 1.03))
    right.set_title("what the rate does", fontsize=10)
    right.legend(frameon=False, loc="upper left", fontsize=9)
    for axis in (left, right):
        axis.set_xlim(config.learning_rate[0] / 1.5, config.learning_rate[1] * 1.5)

    curves, axes = panels(4, 5, width=2.0, height=1.5, sharex=True, sharey=True)
    first = np.flatnonzero(number == 0)
    ranked = first[np.argsort(-validation[first, -1], kind="stable")]
    epochs = np.arange(1, config.epochs + 1)
    for place, (axis, trial) in enumerate(zip(axes.flat, ranked, strict=False), start=1):
        axis.plot(epochs, validation[trial], color=COLOURS[0], label="validation")
        axis.plot(epochs, training[trial], "--", color=COLOURS[1], lw=1.2, label="training")
        axis.set_title(f"{place}. rate {rate[trial]:.2g}", fontsize=9)
    axes[0, 0].set(ylim=(0, 1.03), xlim=(1, config.epochs))
    curves.supxlabel("epoch", fontsize=10)
    curves.supylabel("accuracy", fontsize=10)
    curves.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return {"search": Picture(figure, ALT["search"]), "best": Picture(curves, ALT["best"])}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of what is found, and of what is then known."""
    first, last = (outcomes["round"] == number for number in (0, config.rounds - 1))
    rate, decay, loss = (outcomes[name][first] for name in ("learning_rate", "weight_decay", "loss"))
    training, validation = outcomes["training"][:, -1], outcomes["validation"][:, -1]
    best_tenth = np.argsort(-validation[first], kind="stable")[: max(1, config.trials // 10)]
    middle = float(np.sqrt(np.prod(config.learning_rate)))
    winner, on_test = outcomes["best"][0], np.asarray(outcomes["test"])
    return [
        near("C11", f"compiled programs for {len(training)} trials", outcomes["programs"], 1, 0, source="our own"),
        near("C11", f"round 1: share of the learning rates below {middle:g}, the middle of the orders of magnitude",
             (rate < middle).mean(), 0.5, round(2 / config.trials**0.5, 2), source="arithmetic"),
        at_least("C11", "round 1: lowest learning rate of the best tenth", rate[best_tenth].min(), 1e-3, "the book"),
        at_least("C11", "round 1: lower end of the range to which it narrows the learning rate",
                 outcomes["narrowed"]["learning_rate"][0], 5e-4),
        at_most("C11", "round 1: rank correlation of learning rate and validation loss",
                rank_correlation(rate, loss), -0.7),
        at_most("C11", "round 1: that of weight decay and validation loss, either way",
                abs(rank_correlation(decay, loss)), 0.5),
        at_least("C11", f"median validation accuracy of round {config.rounds}, above that of round 1",
                 np.median(validation[last]) - np.median(validation[first]), 0.2),
        # On 100 images an accuracy has a standard deviation of 0.04 to 0.05.
        near("C10", "the trial chosen: validation accuracy above test accuracy",
             validation[winner] - on_test[0], 0, 0.15, source="our own"),
        at_least("C10", "the trial chosen: training accuracy above test accuracy",
                 training[winner] - on_test[0], 0.05 if data.name == "mnist" else 0),
        at_most("C10", "test accuracy that choosing by test data would have gained", on_test.max() - on_test[0], 0.05),
    ]  # fmt: skip


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of values without ties."""
    ranks = np.stack([a, b]).argsort(axis=1).argsort(axis=1)
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


EXPERIMENT = Experiment(
    name="hyperparameter_search",
    rows=("C10", "C11"),
    formula=r"\eta = 10^u, \quad u \sim \mathcal{U}(-6, -2), \qquad \lambda = 10^v, \quad v \sim \mathcal{U}(-8, -4)",
    config=Config(),
    quick=Config(hidden_sizes=(50,) * 3, batch_size=25, epochs=30, trials=40),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
    book_seconds=111,
)

if __name__ == "__main__":
    main(EXPERIMENT)
