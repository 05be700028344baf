"""How are learning rate and weight decay found, and with which data?

By trying. A round draws a hundred pairs at random, each order of magnitude as likely as any other, and trains with each
for a short while; then the ranges are narrowed to where the best lie, and the next round draws from those.

    log10(rate) ~ U(-6, -2)        log10(decay) ~ U(-8, -4)        score: accuracy on the validation data

The book takes 500 images of MNIST, 100 of them for validation, and six hidden layers of 100. Never the test data: what
has been chosen by some data looks better on it than it is. To show that, every trial's test accuracy is measured here
as well, and used for nothing. Expect good rates between 0.001 and 0.01, and that the decay hardly matters. The trials
of a round are one compiled program; the book's hundred take 111 s. (Rows C10, C11.)

    python -m experiments.hyperparameter_search --trials 100 --rounds 3
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, curve, panels
from jaxnn.plotting import plot_search


@dataclass(frozen=True)
class Config:
    """The book's numbers; the rounds after the first are the notes'."""

    hidden_sizes: tuple[int, ...] = (100,) * 6
    """Units of each hidden layer."""
    examples: int = 500
    """Images, of which some are kept for validation."""
    validation: int = 100
    """So many."""
    learning_rates: tuple[float, float] = (1e-6, 1e-2)
    """The range of SGD's rate."""
    decays: tuple[float, float] = (1e-8, 1e-4)
    """The range of lambda in 1/2 lambda sum W²."""
    trials: int = 100
    """Of each round."""
    rounds: int = 3
    """How often the ranges are narrowed, and once more."""
    keep: float = 0.2
    """The part of the trials that the next ranges hold."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    epochs: int = 50
    """Of each trial."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """The search; of each trial the accuracy by epoch on training and validation data, and in the end on test data."""
    first, size = data.first(config.examples), config.examples - config.validation
    train = nn.data.Dataset(first.x[:size], first.y[:size])
    validation = nn.data.Dataset(first.x[size:], first.y[size:])
    model = nn.mlp(config.hidden_sizes, 10)

    def trial(drawn: dict[str, jax.Array], key: PRNGKeyArray) -> Outcomes:
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.sgd(drawn["learning_rate"]), train, key=key, epochs=config.epochs,
            batch_size=config.batch_size, sampling="replacement", penalty=nn.l2_penalty(drawn["weight_decay"]),
            validation=validation, preprocess=data.scale,
        )  # fmt: skip
        test = nn.evaluate(model, result.params, result.model_state, data.test, preprocess=data.scale)
        history = result.history
        return {"train": history.train, "validation": history.validation, "test": test["accuracy"]}

    space = nn.SearchSpace(
        learning_rate=nn.log_uniform(*config.learning_rates), weight_decay=nn.log_uniform(*config.decays)
    )
    found = nn.random_search(
        trial, space, key=key, trials=config.trials, rounds=config.rounds, keep=config.keep,
        metric=("validation/accuracy", "validation/loss"), progress=False,
    )  # fmt: skip
    return {"search": found, "validation": validation, "train": train}


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Every trial; and the best twenty of the first round as they learn."""
    found: nn.SearchResult = outcomes["search"]
    trials = plot_search(
        found, "validation/accuracy", f"{config.rounds} rounds of {config.trials} trials, {data.title}"
    )
    order = [row for row in found.trials.order(("validation/accuracy", "validation/loss")) if found.round[row] == 0]
    figure, axes = panels(4, 5, width=1.9, height=1.5, sharex=True, sharey=True)
    epochs = np.arange(1, config.epochs + 1)
    for place, (axis, row) in enumerate(zip(axes.flat, order, strict=False)):
        curve(axis, epochs, found.trials.outcomes["train"]["accuracy"][row], "training data", COLOURS[0], ls="--")
        curve(axis, epochs, found.trials.outcomes["validation"]["accuracy"][row], "validation data", COLOURS[1])
        rate, decay = (float(found.trials.configs[name][row]) for name in ("learning_rate", "weight_decay"))
        axis.set_title(f"{place + 1}. rate {rate:.1e}\ndecay {decay:.1e}", fontsize=7.5)
    axes[0, 0].set(ylim=(0, 1.03), xlim=(1, config.epochs))
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return {
        "trials": Picture(
            trials,
            "Validation accuracy of every trial over its learning rate, left, and its weight decay, right, in a colour "
            "for each round. Over the rate it rises from chance to a peak at the right end of the range, where later "
            "rounds lie; over the decay good and bad trials lie everywhere. Bars above show the range of each round.",
        ),
        "best": Picture(
            figure,
            "Twenty panels, one for each of the best trials of the first round, from the best to the worst: accuracy "
            "over the epochs on training data, dashed, and on validation data. The best have rates near the upper end "
            "of the range; the smaller the rate, the flatter the curves.",
        ),
    }


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Where the good rates are; and what a score is worth by which one has chosen."""
    found: nn.SearchResult = outcomes["search"]
    score = found.trials.score("validation/accuracy")[:, 0]
    test = found.trials.outcomes["test"][:, 0]
    rates, decays = (np.array(found.spaces[1][name][:2], float) for name in ("learning_rate", "weight_decay"))
    last = found.round == found.round.max()
    by_round = [float(score[found.round == number].mean()) for number in range(config.rounds)]
    flat = [set(map(bytes, part.x)) for part in (outcomes["train"], outcomes["validation"], data.test)]
    optimism = (score[found.best.row] - test[found.best.row]) - (score - test)[last].mean()
    return [
        near("C10", "images that training, validation and test data have in common",
             len(flat[0] & flat[1]) + len(flat[1] & flat[2]) + len(flat[0] & flat[2]), 0, 0, source="the notes"),
        at_least("C10", "how much better the chosen trial looks on the data that chose it than on test data, beside "
                 "the average trial of its round", optimism, 0),
        between("C11", "learning rate of the best trial", found.best.config["learning_rate"], 1e-3, 1e-2),
        between("C11", "the least learning rate among the best fifth of the first round", rates[0],
                1e-3, 1e-2, margin=5e-4),
        at_least("C11", "orders of magnitude of weight decay that the best fifth still spans, of four",
                 float(np.log10(decays[1] / decays[0])), 2),
        at_least("C11", "mean accuracy of the last round's trials above that of the first's",
                 by_round[-1] - by_round[0], 0.1),
        at_most("C11", "seconds for a round of trials, compiling included",
                (found.trials.run_seconds + found.trials.compile_seconds) / config.rounds, 111, source="the book"),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="hyperparameter_search",
    rows=("C10", "C11"),
    formula=r"\log_{10} \eta \sim U(-6, -2), \qquad \log_{10} \lambda \sim U(-8, -4)",
    config=Config(),
    quick=Config(hidden_sizes=(50,) * 3, trials=30, rounds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
    book_seconds=111.0,
)

if __name__ == "__main__":
    main(EXPERIMENT)
