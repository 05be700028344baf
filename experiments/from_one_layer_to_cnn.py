"""How does a network grow from one layer to a convolutional one?

The notes' two-way method: first the least that runs from end to end, data to accuracy; then one part after the other is
made better, and each time the whole is measured again. Here the part is the network, and all else stays as it is:

    one layer        softmax(x W + b)
    linear layers    softmax(((x W1 + b1) W2 + b2) W3 + b3), which is x W + b again
    relu layers      softmax(relu(relu(x W1 + b1) W2 + b2) W3 + b3)
    a CNN            the image in its grid: conv - relu - max pool - dense - relu - dense

Expect the test accuracy to rise with each step, but for the linear layers: without a non-linearity in between, three
layers can say no more than one. All see the same mini-batches. (Row A14.)

Then the loop's own settings, on the one layer: n // batch_size steps make an epoch, so with the same number of epochs a
smaller batch takes more steps and learns more; the whole data as one batch is plain gradient descent. (Row A11.)

    python -m experiments.from_one_layer_to_cnn --seeds 4
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, between, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, curve, panels


@dataclass(frozen=True)
class Config:
    """Our own numbers; of the notes is the method."""

    examples: int = 10_000
    """Of the training data."""
    hidden_sizes: tuple[int, ...] = (100, 100)
    """Units of the layers between the first and the last."""
    filter_size: int = 5
    """Of the CNN's 30 filters."""
    learning_rate: float = 0.001
    """Of Adam, for the four networks."""
    batch_size: int = 100
    """Examples per step, for the four networks."""
    epochs: int = 8
    """Passes over the examples, for the four networks."""
    batch_sizes: tuple[int, ...] = (10, 100, 1000, 10_000)
    """Compared on one layer; the last one is all examples."""
    batch_epochs: int = 8
    """Passes over the examples with each of them."""
    sgd_rate: float = 0.1
    """Of SGD, with which the one layer then learns."""
    seeds: int = 2
    """Independent runs of each training."""


STEPS = ("one layer", "linear layers", "relu layers", "a CNN")


def network(step: str, config: Config) -> nn.Layer:
    """The model at a step of the method."""
    if step == "one layer":
        return nn.mlp([], 10)
    if step == "a CNN":
        return nn.simple_convnet(10, filter_size=config.filter_size)
    return nn.mlp(config.hidden_sizes, 10, activation=nn.identity if step == "linear layers" else nn.relu)


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Accuracies of the four networks `[steps, seeds, …]`, and of one layer for each batch size; all in one program."""
    train = data.first(config.examples)
    sizes = [min(size, len(train.x)) for size in config.batch_sizes]

    def grown(step: str, rate: Array, key: PRNGKeyArray) -> dict[str, Array]:
        model = network(step, config)
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.adam(rate), train, key=key, epochs=config.epochs,
            batch_size=config.batch_size, validation=data.validation, preprocess=data.scale,
        )  # fmt: skip
        test = nn.evaluate(model, result.params, result.model_state, data.test, preprocess=data.scale)
        return {"validation": result.history.validation["accuracy"], "test": test["accuracy"]}

    def batched(size: int, key: PRNGKeyArray) -> dict[str, Array]:
        result = nn.fit(
            nn.mlp([], 10), nn.softmax_cross_entropy, nn.sgd(config.sgd_rate), train, key=key,
            epochs=config.batch_epochs, batch_size=size, preprocess=data.scale,
        )  # fmt: skip
        return {"steps": jnp.asarray(len(result.history.loss)), "accuracy": result.history.train["accuracy"]}

    def all_of_a_seed(setting: dict[str, Array], key: PRNGKeyArray) -> dict[str, Any]:
        return {
            "networks": [grown(step, setting["learning_rate"], key) for step in STEPS],
            "batches": [batched(size, key) for size in sizes],
        }

    rates = {"learning_rate": jnp.array([config.learning_rate])}
    found = nn.sweep(all_of_a_seed, rates, key=key, seeds=config.seeds, progress=False).outcomes
    networks, batches = (
        jax.tree.map(lambda *parts: np.concatenate(parts), *found[part]) for part in ("networks", "batches")
    )
    linear, one = jax.jit(lambda key, x: collapsed(config, data.scale(x), key))(key, data.test.x[:100])
    return {**networks, "batches": batches, "sizes": sizes, "examples": len(train.x), "linear": linear, "one": one}


def collapsed(config: Config, x: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Logits of the linear layers, and of the one layer that they are: W = W1 W2 W3, b = (b1 W2 + b2) W3 + b3."""
    model = network("linear layers", config)
    params, model_state, _ = model.init(key, x.shape[1:])
    params = jax.tree.map(lambda leaf: leaf + 1 if leaf.ndim == 1 else leaf, params)  # biases begin as 0
    first, *others = params.values()
    W, b = first["W"], first["b"]
    for layer in others:
        W, b = W @ layer["W"], b @ layer["W"] + layer["b"]
    linear, _ = model.apply(params, model_state, x)
    one, _ = nn.mlp([], 10).apply({"dense1": {"W": W, "b": b}}, {}, x)
    return linear, one


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Validation accuracy by epoch and test accuracy by step of the method; then batch sizes, by epoch and by step."""
    grown, ((left, right),) = panels(1, 2, width=4.8, height=3.4)
    epochs = np.arange(1, config.epochs + 1)
    for place, (step, runs, test) in enumerate(zip(STEPS, outcomes["validation"], outcomes["test"], strict=True)):
        curve(left, epochs, runs, step, COLOURS[place])
        right.plot([test.min(), test.max()], [place, place], color=COLOURS[place], lw=6, alpha=0.35)
        right.scatter(test.mean(), place, marker="|", s=220, color=COLOURS[place], zorder=3)
        above = {"xytext": (0, 11), "textcoords": "offset points", "ha": "center", "fontsize": 9}
        right.annotate(f"{test.mean():.3f}", (test.mean(), place), **above)
    left.set(xlabel="epoch", ylabel="accuracy on the validation data")
    left.legend(frameon=False, fontsize=9, loc="lower right")
    right.set_yticks(range(len(STEPS)), STEPS)
    right.set(ylim=(len(STEPS) - 0.6, -0.6), xlabel="accuracy on the test data, at the end")
    right.margins(x=0.12)

    batches, ((by_epoch, by_step),) = panels(1, 2, width=4.8, height=3.4, sharey=True)
    epochs = np.arange(1, config.batch_epochs + 1)
    for place, (size, steps) in enumerate(zip(outcomes["sizes"], outcomes["batches"]["steps"], strict=True)):
        label = f"{size:,}" + (" (all examples)" if size == outcomes["examples"] else "")
        for axis, x in ((by_epoch, epochs), (by_step, epochs * steps[0] / config.batch_epochs)):
            curve(axis, x, outcomes["batches"]["accuracy"][place], label, COLOURS[place], marker="o", ms=3)
    by_epoch.set(xlabel="epoch", ylabel="accuracy on the training data", ylim=(0, 1))
    by_step.set(xlabel="step", xscale="log")
    by_step.legend(title="batch size", frameon=False, fontsize=9, title_fontsize=9, loc="lower right")
    return {
        "networks": Picture(
            grown,
            "Left, accuracy on the validation data over the epochs for four networks; right, their accuracy on the "
            "test data at the end. One layer and the linear layers end side by side, the relu layers lie higher, the "
            "CNN highest.",
        ),
        "batch_sizes": Picture(
            batches,
            f"Accuracy on the training data with {len(outcomes['sizes'])} batch sizes. Over the epochs, left, the "
            "smaller batches lie higher and the whole data as one batch far below. Over the steps, right, on a "
            "logarithmic axis, the curves of all sizes follow one another along a single line.",
        ),
    }


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Each step of the method against the one before; steps and gains by batch size."""
    one, linear, relu, cnn = outcomes["test"]
    batches, sizes = outcomes["batches"], outcomes["sizes"]
    first, last = batches["accuracy"][..., 0], batches["accuracy"][..., -1]
    better = (0.01, 0.005) if data.name == "mnist" else (0.002, 0.002)  # the digits' test data are 270 images
    return [
        at_least("A14", "test accuracy of one layer", one, 0.85),
        between("A14", "linear layers above one layer", linear - one, -0.02, 0.02),
        equal("A14", "logits of the linear layers, by one layer with the product of their W", outcomes["one"],
              outcomes["linear"], margin=1e-4, source="arithmetic"),
        at_least("A14", "relu layers above linear layers", relu - linear, better[0]),
        at_least("A14", "the CNN above relu layers", cnn - relu, better[1]),
        equal("A11", f"steps in {config.batch_epochs} epochs, by batch size", batches["steps"][:, 0],
              [config.batch_epochs * (outcomes["examples"] // size) for size in sizes], source="arithmetic"),
        at_least("A11", "accuracy after one epoch, above that of the next larger batch size, at least",
                 (first[:-1] - first[1:]).min(axis=0), 0.01),
        at_least("A11", f"batches of {sizes[0]} after one epoch, above one batch of all after {config.batch_epochs}",
                 first[0] - last[-1], 0.02),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="from_one_layer_to_cnn",
    rows=("A14", "A11"),
    formula=r"\operatorname{softmax}(xW + b) \to \operatorname{softmax}(h(xW_1 + b_1)\,W_2 + b_2) \to \text{CNN}",
    config=Config(),
    quick=Config(
        hidden_sizes=(40, 40),
        filter_size=3,
        learning_rate=0.003,
        batch_size=50,
        epochs=30,
        batch_sizes=(10, 100, 10_000),
        seeds=4,
    ),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
