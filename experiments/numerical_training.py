"""Can a network be trained without derivatives, by differences alone?

It can, and nobody does it: the textbook's network has 39,760 parameters, and a central difference takes two evaluations
of the loss for each. On its mini-batch of 100 images that takes the book's code 10.3 seconds, for a single step.

    g_i = (L(W + h e_i) - L(W - h e_i)) / 2h        W <- W - lr g        h = 1e-4, in float64

Here such a gradient is timed beside jax.grad. Then a network of the same kind is trained by it for real, on the 8x8
digits, beside one that is trained by jax.grad from the same start on the same mini-batches. Expect the two to go the
same way, step for step, and to read nine digits of ten; and jax.grad to be a thousand times faster. (Row B3.)

    python -m experiments.numerical_training
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most
from experiments.shared.clock import seconds_of
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_images
from experiments.shared.pictures import COLOURS, GREY, Picture, panels
from jaxnn.older_jax import enable_x64
from jaxnn.progress import format_seconds


@dataclass(frozen=True)
class Config:
    """What is timed is the book's; training it would take hours, and so what is trained is smaller."""

    hidden_size: int = 50
    """Units of the hidden layer."""
    weight_init_std: float = 0.01
    """Standard deviation of the initial weights."""
    step: float = 1e-4
    """h of the differences."""
    pixels: int = 784
    """Of the images with which a gradient is timed; their values do not matter to that, and are random."""
    batch_size: int = 100
    """Of these images, as in the book."""
    learning_rate: float = 2.0
    """Of the training; digits of 64 pixels take a larger one than the book's 0.1."""
    training_batch_size: int = 20
    """Digits per step, drawn with replacement."""
    iterations: int = 500
    """Steps of the training."""


# Of a numerical gradient by the book's code, on two cores.
BOOK_SECONDS = 10.3
METHODS = ("numerical gradient", "jax.grad")


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Seconds of both gradients; test accuracy of both trainings, `[iterations, 2]`, and how far apart they are."""
    model = nn.two_layer_net(config.hidden_size, 10, config.weight_init_std)

    def loss(params: PyTree, x: Array, labels: Array) -> Array:
        return nn.softmax_cross_entropy(model.apply(params, {}, x)[0], labels)

    def numerical(params: PyTree, x: Array, labels: Array) -> PyTree:
        return nn.numerical_gradient(lambda params: loss(params, x, labels), params, step=config.step)

    gradients = (numerical, jax.grad(loss))

    @jax.jit
    def to_be_timed(key: PRNGKeyArray) -> tuple[PyTree, Array, Array]:
        labels = jax.random.randint(key, (config.batch_size,), 0, 10)
        return model.init(key, (config.pixels,))[0], jax.random.uniform(key, (config.batch_size, config.pixels)), labels

    @jax.jit
    def train(key: PRNGKeyArray, x: Array, labels: Array, test: nn.data.Dataset) -> Outcomes:
        first, order = jax.random.split(key)
        start, _, _ = model.init(first, x.shape[1:])
        batches = jax.random.randint(order, (config.iterations, config.training_batch_size), 0, len(x))

        def step(gradient: Callable[..., PyTree], params: PyTree, batch: Array) -> PyTree:
            grads = gradient(params, x[batch], labels[batch])
            return jax.tree.map(lambda W, g: W - config.learning_rate * g, params, grads)

        def iteration(both: list[PyTree], batch: Array) -> tuple[list[PyTree], Outcomes]:
            both = [step(gradient, params, batch) for gradient, params in zip(gradients, both, strict=True)]
            accuracies = [nn.accuracy(model.apply(params, {}, test.x)[0], jnp.asarray(test.y)) for params in both]
            apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), *both)
            return both, {"accuracy": jnp.stack(accuracies), "apart": jnp.stack(jax.tree.leaves(apart)).max()}

        _, history = jax.lax.scan(iteration, [start, start], batches)
        return history

    with enable_x64(True):
        digits = [
            nn.data.Dataset(jnp.asarray(data.scale(part.x), float), jnp.asarray(part.y))
            for part in (data.official, data.test)
        ]
        history = jax.device_get(train(key, *digits[0], digits[1]))
        inputs = to_be_timed(key)
        seconds = [seconds_of(jax.jit(gradient), *inputs) for gradient in gradients]
    return {"seconds": seconds, "entries": sum(leaf.size for leaf in jax.tree.leaves(inputs[0]))} | history


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Test accuracy of both trainings, how far apart they are, and what a training costs."""
    figure, axes = panels(1, 3, width=4.0, height=3.2)
    iterations = np.arange(1, config.iterations + 1)
    by_differences, by_jax = outcomes["accuracy"].T
    some = slice(None, None, max(1, config.iterations // 80))
    axes[0, 0].plot(iterations, by_jax, color=COLOURS[1], lw=1.2, label=METHODS[1])
    axes[0, 0].plot(iterations[some], by_differences[some], "o", color=COLOURS[0], ms=4, mfc="none", label=METHODS[0])
    axes[0, 0].set(xlabel="iteration", ylabel="accuracy on the test data", ylim=(0, 1))
    axes[0, 0].legend(frameon=False, fontsize=9, loc="lower right")
    axes[0, 1].plot(iterations, outcomes["apart"], color=COLOURS[0])
    axes[0, 1].set(xlabel="iteration", ylabel="largest difference of a parameter", yscale="log", ylim=(1e-12, 1))
    bars = dict(zip((f"{name}, here" for name in METHODS), outcomes["seconds"], strict=True))
    if is_the_books(config):
        bars = {"numerical gradient, the book's code": BOOK_SECONDS, **bars}
    axes[0, 2].barh(range(len(bars)), [1e4 * seconds for seconds in bars.values()], color=GREY, height=0.35)
    for row, (name, seconds) in enumerate(bars.items()):
        axes[0, 2].text(0.1, row - 0.3, f" {name}: {format_seconds(1e4 * seconds)}", fontsize=9)
    axes[0, 2].set(xscale="log", xlim=(0.1, 1e6), xlabel="seconds", yticks=[], ylim=(len(bars) - 0.5, -0.7))
    axes[0, 2].set_title(f"10,000 steps with {outcomes['entries']:,} parameters", fontsize=10)
    alt = (
        "Left, test accuracy over the steps of the training on digits: the circles of the numerical gradient lie "
        "on the line of jax.grad, which rises above 0.9. Middle, the largest difference of their parameters, below a "
        "millionth throughout. Right, what 10,000 steps would take, as bars on a logarithmic axis: by numerical "
        "gradients some hundred or thousand times as long as by jax.grad."
    )
    return {"training": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """What a step costs, and where training by such steps leads."""
    numerical, analytic = outcomes["seconds"]
    accuracy, entries = outcomes["accuracy"], outcomes["entries"]
    found = [
        at_least("B3", f"seconds of a numerical gradient of {entries:,} entries over those of jax.grad",
                 numerical / analytic, entries / 400),
        at_least("B3", "trained by numerical gradients: accuracy on the test data", accuracy[-1, 0], 0.9),
        at_most("B3", "largest difference in accuracy, at any step, to training by jax.grad",
                np.abs(accuracy[:, 0] - accuracy[:, 1]).max(), 0.006),
        at_most("B3", "largest difference of a parameter, at any step", outcomes["apart"].max(), 1e-6),
    ]  # fmt: skip
    if is_the_books(config):
        words = f"seconds of a numerical gradient of {entries:,} entries, a mini-batch of {config.batch_size}"
        found.append(at_most("B3", words, numerical, BOOK_SECONDS, source="the book"))
    return found


EXPERIMENT = Experiment(
    name="numerical_training",
    rows=("B3",),
    formula=r"\frac{\partial L}{\partial W_i} \approx \frac{L(W + h e_i) - L(W - h e_i)}{2h}",
    config=Config(),
    quick=Config(hidden_size=10, batch_size=10),
    run=run,
    draw=draw,
    claims=claims,
    load=lambda place: load_images("digits", place),
)

if __name__ == "__main__":
    main(EXPERIMENT)
