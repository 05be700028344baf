"""How well does a network of two layers read handwritten digits?

The textbook's first network: 784 pixels, 50 hidden units, 10 classes. It is four pure functions of a tree of
parameters: predict, loss, accuracy, and the gradient, which is jax.grad of the loss.

    h = sigmoid(x W1 + b1)        y = softmax(h W2 + b2)        L = -mean(log y[label])        W from N(0, 0.01²), b = 0

The loop: draw a mini-batch of 100 with replacement, take the gradient, step, 10,000 times. The book has the sigmoid in
chapter 4, where the gradient is numerical, and relu in chapter 5, where it is propagated back; the 0.980 and 0.971
quoted are those of relu. Both are trained here, on the same mini-batches, as one compiled program. Expect the loss to
fall from ln 10, that of a guess, and relu to end above the sigmoid. (Rows B1, B2.)

    python -m experiments.two_layer_net --seeds 4
"""

import operator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from matplotlib.ticker import MaxNLocator

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels, smooth


@dataclass(frozen=True)
class Config:
    """The book's numbers."""

    hidden_size: int = 50
    """Units of the hidden layer."""
    weight_init_std: float = 0.01
    """Standard deviation of the initial weights."""
    learning_rate: float = 0.1
    """How far a step goes down the gradient."""
    batch_size: int = 100
    """Images per step, drawn with replacement."""
    iterations: int = 10_000
    """Steps."""
    seeds: int = 3
    """Independent runs of each activation."""


ACTIVATIONS = ("sigmoid", "relu")
# Accuracy of the book's network of chapter 5, with relu, after 10,000 iterations.
BOOK = {"training": 0.980, "test": 0.971}
# Nothing but the parameters goes from step to step: the model's state is empty.
NO_STATE: dict[str, Array] = {}


def predict(model: nn.Layer, params: PyTree, x: Array) -> Array:
    """The probability of each class."""
    return nn.softmax(model.apply(params, NO_STATE, x)[0])


def loss(model: nn.Layer, params: PyTree, x: Array, labels: Array) -> Array:
    """Cross-entropy of what is predicted; softmax and logarithm in one, so that nothing overflows."""
    return nn.softmax_cross_entropy(model.apply(params, NO_STATE, x)[0], labels)


def accuracy(model: nn.Layer, params: PyTree, part: nn.data.Dataset, scale: nn.data.MinMax) -> Array:
    """The share of the images that are read rightly."""
    return nn.evaluate(model, params, NO_STATE, part, preprocess=scale)["accuracy"]


gradient = jax.grad(loss, argnums=1)


def gradient_by_hand(params: PyTree, x: Array, labels: Array) -> PyTree:
    """As the book writes it out for the sigmoid, from the last layer to the first (section 5.7)."""
    (W1, b1), (W2, b2) = ((params[name]["W"], params[name]["b"][None]) for name in ("dense1", "dense2"))
    h = 1 / (1 + jnp.exp(-(x @ W1 + b1)))
    y = jnp.exp(h @ W2 + b2)
    y = y / y.sum(axis=1, keepdims=True)
    delta2 = (y - jax.nn.one_hot(labels, y.shape[1])) / len(x)
    delta1 = delta2 @ W2.T * h * (1 - h)
    return {
        "dense1": {"W": x.T @ delta1, "b": delta1.sum(axis=0)},
        "dense2": {"W": h.T @ delta2, "b": delta2.sum(axis=0)},
    }


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Of both activations: losses `[2, seeds, iterations]`, accuracies `[2, seeds, epochs, 2]`, the networks."""
    train, test = data.official, data.test
    per_epoch = len(train.x) // config.batch_size

    def two_layer_net(is_relu: Array) -> nn.Layer:
        def activation(z: Array) -> Array:
            return jnp.where(is_relu, nn.relu(z), nn.sigmoid(z))

        return nn.two_layer_net(config.hidden_size, 10, config.weight_init_std, activation=activation)

    def one(choice: dict[str, Array], key: PRNGKeyArray) -> Outcomes:
        model = two_layer_net(choice["is_relu"])
        start, order = jax.random.split(key)
        x, labels = jnp.asarray(train.x), jnp.asarray(train.y)
        initial, _, _ = model.init(start, x.shape[1:])

        def accuracies(params: PyTree) -> Array:
            return jnp.stack([accuracy(model, params, part, data.scale) for part in (train, test)])

        def iteration(params: PyTree, turn: tuple[Array, Array]) -> tuple[PyTree, tuple[Array, Array]]:
            number, batch = turn
            value, grads = jax.value_and_grad(loss, argnums=1)(model, params, data.scale(x[batch]), labels[batch])
            params = jax.tree.map(lambda W, g: W - config.learning_rate * g, params, grads)
            measured = jax.lax.cond(number % per_epoch == 0, accuracies, lambda _: jnp.zeros(2), params)
            return params, (value, measured)

        batches = jax.random.randint(order, (config.iterations, config.batch_size), 0, len(x))
        params, (losses, measured) = jax.lax.scan(iteration, initial, (jnp.arange(config.iterations), batches))
        return {
            "losses": losses,
            "accuracies": jnp.concatenate([measured[::per_epoch], accuracies(params)[None]]),
            "initial": initial,
            "params": params,
            "seen": jnp.zeros(len(x)).at[batches[:per_epoch]].set(1.0).mean(),
        }

    found = nn.sweep(one, {"is_relu": np.array([False, True])}, key=key, seeds=config.seeds, progress=False).outcomes

    @jax.jit
    def answers(sigmoid: PyTree, relu: PyTree, batch: nn.data.Dataset, x: Array) -> Outcomes:
        inputs = data.scale(batch.x)
        return {
            "probabilities": predict(two_layer_net(jnp.array(True)), relu, data.scale(x)),
            "gradient": gradient(two_layer_net(jnp.array(False)), sigmoid, inputs, batch.y),
            "by_hand": gradient_by_hand(sigmoid, inputs.reshape(len(inputs), -1), jnp.asarray(batch.y)),
        }

    first_runs = (jax.tree.map(operator.itemgetter((number, 0)), found["params"]) for number in range(2))
    batch = nn.data.Dataset(train.x[: config.batch_size], train.y[: config.batch_size])
    return found | answers(*first_runs, batch, test.x)


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Loss and accuracy on the way; and what is misread."""
    iterations = np.arange(1, config.iterations + 1)
    per_epoch = len(data.official.x) // config.batch_size
    epochs = np.append(iterations[::per_epoch], config.iterations) / per_epoch
    window = max(1, config.iterations // 100)
    figure, axes = panels(1, 2, width=4.8)
    for name, losses, accuracies, colour in zip(
        ACTIVATIONS, outcomes["losses"], outcomes["accuracies"], (COLOURS[1], COLOURS[0]), strict=True
    ):
        axes[0, 0].plot(iterations, losses[0], color=colour, alpha=0.25, lw=0.3)
        curve(axes[0, 0], iterations, smooth(losses, window), name, colour)
        for part, style in ((0, "-"), (1, "--")):
            label = f"{name}, {'training' if part == 0 else 'test'} data"
            curve(axes[0, 1], epochs, accuracies[..., part], label, colour, ls=style)
    axes[0, 0].axhline(np.log(10), color=GREY, ls=":", lw=1)
    axes[0, 0].text(config.iterations, np.log(10) + 0.03, "a guess: ln 10", ha="right", color=GREY, fontsize=8)
    axes[0, 0].set(xlabel="iteration", ylabel="loss of the mini-batch", ylim=(0, 2.6))
    axes[0, 0].set_title(f"Pale: each of a run; line: mean of the last {window}, of all runs", fontsize=9)
    axes[0, 0].legend(frameon=False, fontsize=9, loc="center right")
    axes[0, 1].set(xlabel="epoch", ylabel="accuracy")
    axes[0, 1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if data.name == "mnist" and is_the_books(config):
        axes[0, 1].set_ylim(0.84, 1)
        for end in BOOK.values():
            axes[0, 1].annotate("the book", (epochs[-1], end), (14, 0), textcoords="offset points", va="center",
                                fontsize=8, arrowprops={"arrowstyle": "-", "lw": 1})  # fmt: skip
    axes[0, 1].legend(frameon=False, fontsize=9, loc="lower right")
    alt = (
        f"Two panels, on {data.title}. The loss stays at that of a guess at first, then falls steeply, and goes on "
        "falling slowly; that of relu, in blue, falls earlier and lower than that of the sigmoid, in orange. Accuracy "
        "rises steeply and flattens; relu is above the sigmoid, and in the end the training data a little above the "
        "test data."
    )
    return {"training": Picture(figure, alt), "misread": misread(data, np.asarray(outcomes["probabilities"]))}


def misread(data: Images, probabilities: np.ndarray) -> Picture:
    """The test images about whose wrong class the first network with relu is most certain."""
    labels, answers, certainty = data.test.y, probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    figure, axes = panels(2, 8, width=1.1, height=1.5)
    for axis in axes.flat:
        axis.axis("off")
    for axis, place in zip(axes.flat, wrong[np.argsort(-certainty[wrong])], strict=False):
        axis.imshow(data.test.x[place, ..., 0], cmap="gray_r")
        axis.set_title(f"{labels[place]}, read as {answers[place]}\n({100 * certainty[place]:.1f} %)", fontsize=8)
    figure.suptitle(
        f"Relu misreads {len(wrong)} of {len(labels):,} test images; these it is most certain of", fontsize=10
    )
    return Picture(
        figure, f"Test images of {data.title} that were misread, each with its digit and the network's answer."
    )


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of the network, of the loop, and of where it ends."""
    initial, accuracies = outcomes["initial"], np.asarray(outcomes["accuracies"])
    pixels, examples = data.train.x[0].size, len(data.official.x)
    draws = examples // config.batch_size * config.batch_size
    weights = np.concatenate([layer["W"][0].reshape(config.seeds, -1) for layer in initial.values()], axis=1)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max() / np.abs(b).max(), outcomes["gradient"], outcomes["by_hand"])
    found = [
        equal("B1", "parameters", sum(leaf[0, 0].size for leaf in jax.tree.leaves(initial)),
              (pixels + 1) * config.hidden_size + (config.hidden_size + 1) * 10, source="arithmetic"),
        near("B1", "standard deviation of the initial weights", weights.std(axis=1), config.weight_init_std,
             0.05 * config.weight_init_std, source="the book"),
        equal("B1", "largest initial bias", max(np.abs(layer["b"]).max() for layer in initial.values()), 0,
              source="the book"),
        at_most("B1", "predict: the ten probabilities, away from a sum of 1",
                np.abs(outcomes["probabilities"].sum(axis=1) - 1).max(), 1e-5, source="arithmetic"),
        at_most("B1", "jax.grad, away from the book's gradient by hand, beside the largest entry of a leaf",
                max(jax.tree.leaves(apart)), 1e-4, source="the book"),
        at_least("B2", "test accuracy, measured every epoch: the last above the first, after one step",
                 accuracies[..., -1, 1] - accuracies[..., 0, 1], 0.5),
        near("B2", "loss of the first mini-batch: a guess, ln 10", outcomes["losses"][..., 0], np.log(10), 0.1,
             source="arithmetic"),
        near("B2", "of all images, the share that an epoch of draws with replacement has seen", outcomes["seen"],
             1 - (1 - 1 / examples) ** draws, 0.03, source="arithmetic"),
    ]  # fmt: skip
    for name, of_one in zip(ACTIVATIONS, accuracies, strict=True):
        found.append(at_least("B2", f"accuracy on the test data with {name}", of_one[:, -1, 1], 0.92))
    if data.name == "mnist" and is_the_books(config):
        for part, (name, book) in enumerate(BOOK.items()):
            words = f"accuracy on the {name} data with relu, as the book's run"
            found.append(near("B2", words, accuracies[1, :, -1, part], book, 0.005, "the book"))
        gain = accuracies[1, :, -1, 1] - accuracies[0, :, -1, 1]
        found.append(at_least("B2", "test accuracy of relu above that of the sigmoid", gain, 0.01))
    return found


EXPERIMENT = Experiment(
    name="two_layer_net",
    rows=("B1", "B2"),
    formula=r"y = \operatorname{softmax}(\sigma(x W_1 + b_1)\,W_2 + b_2), \qquad W \leftarrow W - \eta\,\nabla L",
    config=Config(),
    quick=Config(learning_rate=0.5, iterations=1500, seeds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
    book_seconds=18.0,
)

if __name__ == "__main__":
    main(EXPERIMENT)
