"""Does it matter in which order a network sees its examples?

Each epoch the textbook shuffles a list of indices, takes it a stretch at a time, and lets a Python generator yield the
arrays x[index], y[index]:

    for x, y in nn.data.batches(train, 100, key=key, epoch=epoch): ...

Here the training data is sorted by label, first all zeros, last all nines. A network sees it as it lies, another one
shuffled. The last batches weigh most, for none comes after them to undo what they have done. Expect the one to believe
at any moment in the class that it has just been shown, and to end each epoch with far too many nines; and the other to
learn. Both start from the same weights. (Row A3.)

    python -m experiments.shuffling --seeds 5
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, curve, panels
from jaxnn.data import Dataset

ORDERS = {"in_order": "sorted by label", "shuffle": "shuffled"}


@dataclass(frozen=True)
class Config:
    """The book's way of training; the number of epochs is ours."""

    hidden_size: int = 50
    """Units of the network."""
    learning_rate: float = 0.1
    """Of SGD."""
    batch_size: int = 100
    """Examples per step."""
    epochs: int = 3
    """Passes over the training data."""
    looks: int = 20
    """In each epoch at what the network takes the test data for."""
    tested: int = 2000
    """Of the test data."""
    seeds: int = 3
    """Independent runs of each order."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Loss of each step `[orders, seeds, steps]`, and at each look how often which class was taken for which."""
    in_classes = np.argsort(data.train.y, kind="stable")
    train = Dataset(data.train.x[in_classes], data.train.y[in_classes])
    test = Dataset(data.test.x[: config.tested], data.test.y[: config.tested])
    model, optimizer = nn.mlp([config.hidden_size], 10), nn.sgd(config.learning_rate)
    steps, rest = divmod(len(train.x) // config.batch_size, config.looks)
    if rest or not steps:
        raise ValueError(f"{config.looks} looks do not divide the {steps * config.looks + rest} steps of an epoch")

    def learn(order: dict[str, Any], key: PRNGKeyArray) -> Outcomes:
        start_key, data_key = jax.random.split(key)

        def until_the_next_look(state: nn.TrainState, _: None) -> tuple[nn.TrainState, Outcomes]:
            state, losses = nn.train_epoch(
                model, nn.softmax_cross_entropy, optimizer, state, train, batch_size=config.batch_size,
                data_key=data_key, sampling=order["sampling"], preprocess=data.scale, steps=steps,
            )  # fmt: skip
            logits = model.apply(state.params, state.model_state, data.scale(test.x))[0]
            return state, {"loss": losses, "taken_for": nn.confusion_matrix(logits, jnp.asarray(test.y))}

        state = nn.init_state(model, optimizer, train.x.shape[1:], start_key)
        return jax.lax.scan(until_the_next_look, state, length=config.epochs * config.looks)[1]

    found = nn.sweep(learn, [{"sampling": name} for name in ORDERS], key=key, seeds=config.seeds, progress=False)
    losses = found.outcomes["loss"].reshape(len(ORDERS), config.seeds, -1)
    last_shown = train.y[config.batch_size * steps * np.arange(1, config.looks + 1) - 1]
    return {
        "loss": losses,
        "taken_for": found.outcomes["taken_for"],
        "last_shown": np.tile(last_shown, config.epochs),
        **by_generator(config, data, train, jax.random.fold_in(key, 0)),
    }


def by_generator(config: Config, data: Images, train: Dataset, key: PRNGKeyArray) -> Outcomes:
    """The first epoch of the first seed once more, in plain Python: index list, generator, one step at a time."""
    start_key, data_key = jax.random.split(key)
    model, optimizer = nn.mlp([config.hidden_size], 10), nn.sgd(config.learning_rate)

    @jax.jit
    def step(state: nn.TrainState, x: Array, y: Array) -> tuple[nn.TrainState, Array]:
        return nn.train_step(model, nn.softmax_cross_entropy, optimizer, state, x, y, preprocess=data.scale)

    state, losses = nn.init_state(model, optimizer, train.x.shape[1:], start_key), []
    for x, y in nn.data.batches(train, config.batch_size, key=data_key, epoch=0, drop_last=True):
        state, loss = step(state, x, y)
        losses.append(loss)
    numbers = Dataset(np.arange(len(train.x)), train.y)
    epochs = [nn.data.batches(numbers, config.batch_size, key=data_key, epoch=epoch) for epoch in (0, 1)]
    return {
        "generator_loss": np.stack(losses),
        "indices": np.stack([np.concatenate([index for index, _ in epoch]) for epoch in epochs]),
    }


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Predictions over time for both orders, the accuracy, and what each ends with."""
    figure, axes = panels(2, 2, width=5.0, height=3.1)
    taken_for = outcomes["taken_for"]
    predicted = shares(taken_for)
    epochs = np.arange(1, predicted.shape[2] + 1) / config.looks
    for axis, share, name in zip(axes[0], predicted[:, 0], ORDERS.values(), strict=True):
        axis.grid(visible=False)
        shown = axis.imshow(
            share.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(0, config.epochs, 9.5, -0.5),
            interpolation="nearest",
        )  # fmt: skip
        axis.set(title=f"{name}: what test images are taken for", xlabel="epoch", ylabel="predicted class")
        axis.set_yticks(range(10))
    figure.colorbar(shown, ax=axes[0, 1], label="share of the test images")
    for number, (name, colour) in enumerate(zip(ORDERS.values(), (COLOURS[1], COLOURS[0]), strict=True)):
        curve(axes[1, 0], epochs, accuracies(taken_for)[number], name, colour)
        places = np.arange(10) + 0.4 * (number - 0.5)
        at_end = predicted[number, :, -1]
        axes[1, 1].bar(places, at_end.mean(axis=0), 0.36, yerr=at_end.std(axis=0), color=colour, label=name)
    axes[1, 0].set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title="accuracy")
    axes[1, 1].stairs(
        taken_for[0, 0, 0].sum(axis=1) / taken_for[0, 0, 0].sum(), np.arange(11) - 0.5, color="black", label="truth"
    )
    axes[1, 1].set(xlabel="class", ylabel="share of the test images", title=f"predictions after epoch {config.epochs}")
    axes[1, 1].set_xticks(range(10))
    axes[1, 1].legend(frameon=False, fontsize=9)
    axes[1, 0].legend(frameon=False, fontsize=9)
    alt = (
        "Top: over the epochs, how many test images are taken for each of ten classes. With sorted data dark stripes "
        "run from 0 down to 9 in every epoch: all are taken for the class that was shown last. Shuffled all classes "
        "are equally pale. Below left: shuffled the accuracy rises at once to above 0.9; sorted it stays far below and "
        "jumps up and down. Below right: at the end a tall bar of nines with sorted data; shuffled all bars are as "
        "high as the truth."
    )
    return {"orders": Picture(figure, alt)}


def shares(taken_for: np.ndarray) -> np.ndarray:
    """Of the test images, which part is taken for which class, `[orders, seeds, looks, classes]`."""
    return taken_for.sum(axis=-2) / taken_for[0, 0, 0].sum()


def accuracies(taken_for: np.ndarray) -> np.ndarray:
    """Which part is taken for what it is, `[orders, seeds, looks]`."""
    return np.trace(taken_for, axis1=-2, axis2=-1) / taken_for[0, 0, 0].sum()


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of the generator; and of what the order does."""
    in_order, shuffled = accuracies(outcomes["taken_for"])[..., -1]
    predicted = shares(outcomes["taken_for"])
    ends = predicted[:, :, config.looks - 1 :: config.looks, -1].mean(axis=-1)
    followed = predicted[:, :, np.arange(predicted.shape[2]), outcomes["last_shown"]].mean(axis=-1)
    first, second = outcomes["indices"]
    by_generator = outcomes["generator_loss"]
    in_scan = outcomes["loss"][1, 0, : len(by_generator)]
    return [
        near("A3", "examples that the generator yields other than once in an epoch",
             (np.bincount(first, minlength=len(data.train.x)) != 1).sum(), 0, 0, "the notes"),
        at_most("A3", "places that hold the same example in the next epoch, of all", (first == second).mean(), 0.02),
        at_most("A3", "loss of the generator's steps against those of the compiled epoch: largest difference",
                np.abs(by_generator[: len(in_scan)] - in_scan).max(), 1e-3, "arithmetic"),
        at_least("A3", f"test accuracy after epoch {config.epochs}, shuffled", shuffled, 0.85),
        at_most("A3", f"test accuracy after epoch {config.epochs}, sorted by label", in_order, 0.7),
        at_least("A3", "share of nines among the predictions at the end of each epoch, sorted", ends[0], 0.3),
        at_most("A3", "share of nines among the predictions at the end of each epoch, shuffled", ends[1], 0.15),
        at_least("A3", "share of predictions for the class that was shown last, sorted", followed[0], 0.25),
        at_most("A3", "share of predictions for the class that was shown last, shuffled", followed[1], 0.15),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="shuffling",
    rows=("A3",),
    formula=r"i_1, \dots, i_n \sim \text{permutation}(1 \dots n), \qquad "
    r"W \leftarrow W - \eta\,\nabla L(x_{i_{k+1} \dots i_{k+B}})",
    config=Config(),
    quick=Config(learning_rate=0.3, batch_size=50, epochs=8, looks=25, seeds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
