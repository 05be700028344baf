"""How does a network say what it believes, and how is it told that it is wrong?

Its last layer gives a number for each class, the logits. Softmax makes probabilities of them; sigmoid is the same for
two classes:

    softmax(z)_k = exp(z_k) / Σ_j exp(z_j)        sigmoid(z) = 1 / (1 + exp(-z)) = softmax(z, 0)_1

Where a number is to be predicted, the error is squared: the slope of (z - y)² shrinks towards the minimum, and steps of
a fixed rate settle there. That of |z - y| stays 1, and they jump to and fro for ever. Where a class is to be predicted,
the loss is the cross-entropy of probabilities p and targets t. With softmax its slope is as simple as can be:

    L = -Σ_k t_k log p_k, that is -log p of the right class        ∂L/∂z = p - t

Expect the notes' three probabilities; and losses of 0.51 where the right class is given 0.6, and 2.30 where it is given
0.1. (Rows A6, A7, A8.)

    python -m experiments.softmax_and_cross_entropy
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels


@dataclass(frozen=True)
class Config:
    """The numbers of the notes and of the book."""

    logits: tuple[float, ...] = (3, 1, -3)
    """The notes' example for softmax."""
    large_logits: tuple[float, ...] = (1010, 1000, 990)
    """The book's, whose exponentials are beyond any float."""
    answers: tuple[tuple[float, ...], ...] = (
        (0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0),
        (0.1, 0.05, 0.1, 0, 0.05, 0.1, 0, 0.6, 0, 0),
    )
    """The book's probabilities of ten digits: of a network that believes in a 2, and of one that believes in a 7."""
    right: int = 2
    """The digit that it is."""
    start: float = 2
    """Where the descents of both errors start, as a distance from the minimum."""
    learning_rate: float = 0.3
    """Of both, the same in every step."""
    steps: int = 20
    """Of both."""


@functools.partial(jax.jit, static_argnums=0)
def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """Curves and numbers of the three rows, as one program."""
    z, distances, p = jnp.linspace(-6, 6, 241), jnp.linspace(-2, 2, 801), jnp.linspace(0.01, 1, 200)
    logits = jnp.array(config.logits, float)
    beside = jnp.broadcast_to(logits[1:], (len(z), len(logits) - 1))
    some_logits, some_labels = 3 * jax.random.normal(key, (32, 10)), jnp.arange(32) % 10

    def of_answers(target: Array) -> Array:
        return jnp.stack([nn.cross_entropy(jnp.array([answer], float), target) for answer in config.answers])

    return {
        "z": z,
        "sigmoid": nn.sigmoid(z),
        "softmax": nn.softmax(jnp.concatenate([z[:, None], beside], axis=1)),  # where z takes the first one's place
        "softmax_of_two": nn.softmax(jnp.stack([z, jnp.zeros_like(z)], axis=1))[:, 0],
        "probabilities": nn.softmax(logits),
        "of_large": nn.softmax(jnp.array(config.large_logits, float)),
        "distances": distances,
        "squared": error_and_descent(config, nn.mean_squared_error, distances),
        "absolute": error_and_descent(config, nn.mean_absolute_error, distances),
        "p": p,
        "loss": jax.vmap(lambda p: nn.cross_entropy(jnp.stack([p, 1 - p])[None], jnp.zeros(1, int)))(p),
        "slope": jax.grad(nn.softmax_cross_entropy)(logits[None], jnp.ones(1, int))[0],
        "of_labels": of_answers(jnp.array([config.right])),
        "of_one_hot": of_answers(jax.nn.one_hot(jnp.array([config.right]), len(config.answers[0]))),
        "gradient": jax.grad(nn.softmax_cross_entropy)(some_logits, some_labels),
        "p_minus_t": (nn.softmax(some_logits) - jax.nn.one_hot(some_labels, 10)) / len(some_logits),
    }


def error_and_descent(config: Config, loss: Callable[[Array, Array], Array], distances: Array) -> Outcomes:
    """Of one prediction z: loss and slope at some distances z - y, and z - y after each step of a descent."""

    def error(distance: Array) -> Array:
        return loss(distance[None], jnp.zeros(1))

    def step(z: Array, _: None) -> tuple[Array, Array]:
        return z - config.learning_rate * jax.grad(error)(z), z

    _, descent = jax.lax.scan(step, jnp.array(config.start, float), length=config.steps + 1)
    slope = jax.vmap(jax.grad(error))
    return {
        "error": jax.vmap(error)(distances),
        "slope": slope(distances),
        "slope_at_some": slope(jnp.array([2, 1, 0.1])),
        "descent": descent,
    }


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """A figure for each row."""
    return {
        "activations": draw_activations(config, outcomes),
        "errors": draw_errors(config, outcomes),
        "cross_entropy": draw_cross_entropy(config, outcomes),
    }


def draw_activations(config: Config, outcomes: Outcomes) -> Picture:
    """Sigmoid, softmax while one logit moves, and softmax of the notes' logits."""
    figure, ((left, middle, right),) = panels(1, 3, width=3.7, height=3.1, sharey=True)
    z, probabilities = outcomes["z"], np.asarray(outcomes["probabilities"])
    first, *others = (f"{logit:g}" for logit in config.logits)
    curve(left, z, outcomes["sigmoid"], "", COLOURS[0])
    left.set(title="sigmoid(z)", xlabel="z", ylabel="probability", ylim=(-0.03, 1.05))
    for name, values, p, colour in zip(("z", *others), outcomes["softmax"].T, probabilities, COLOURS, strict=False):
        curve(middle, z, values, f"of {name}", colour)
        middle.plot(config.logits[0], p, "o", color=colour, ms=5)
    middle.axvline(config.logits[0], color=GREY, lw=0.8, ls=":")
    middle.set(title=f"softmax(z, {', '.join(others)})", xlabel="z")
    middle.legend(frameon=False, fontsize=9, loc="center left")
    bars = right.bar([f"of {name}" for name in (first, *others)], probabilities, 0.6, color=COLOURS)
    right.bar_label(bars, [f"{p:.2f}" for p in probabilities], padding=2)
    right.set(title=f"softmax({first}, {', '.join(others)})")
    return Picture(
        figure,
        "Left: the sigmoid, which rises from 0 to 1 in the form of an S. Middle: the probabilities of a softmax while "
        "its first logit grows: the first rises in the same S, the others fall. Right: the probabilities 0.88, 0.12 "
        "and 0.00 that softmax makes of the logits 3, 1 and -3.",
    )


def draw_errors(config: Config, outcomes: Outcomes) -> Picture:
    """Squared and absolute error, their slopes, and where a descent with a fixed rate goes."""
    figure, ((left, middle, right),) = panels(1, 3, width=3.7, height=3.1)
    for name, label, colour in (("squared", "(z − y)²", COLOURS[0]), ("absolute", "|z − y|", COLOURS[1])):
        found = outcomes[name]
        curve(left, outcomes["distances"], found["error"], label, colour)
        curve(middle, outcomes["distances"], found["slope"], label, colour)
        curve(right, np.arange(config.steps + 1), found["descent"], label, colour, marker="o", ms=3, linewidth=1)
    left.set(title="error", xlabel="z − y", ylim=(0, 4))
    left.legend(frameon=False, loc="upper center")
    middle.set(title="its slope in z", xlabel="z − y")
    right.set(title=f"descent from {config.start:g} with rate {config.learning_rate:g}", xlabel="step", ylabel="z − y")
    right.set_xticks(range(0, config.steps + 1, 5))
    return Picture(
        figure,
        "Left: the squared error is a smooth bowl, the absolute error a V with a kink. Middle: the slope of the square "
        "goes through 0 in a straight line, that of the other jumps from -1 to 1. Right: descent on the square settles "
        "at 0 within ten steps; on the absolute error it goes down evenly, and then jumps to and fro around 0.",
    )


def draw_cross_entropy(config: Config, outcomes: Outcomes) -> Picture:
    """The loss of a probability; and its slope in the logits, as the difference of two rows of bars."""
    figure, ((left, right),) = panels(1, 2, width=4.6, height=3.3)
    curve(left, outcomes["p"], outcomes["loss"], "", COLOURS[0])
    for answer, loss in zip(config.answers, outcomes["of_labels"], strict=True):
        p = answer[config.right]
        left.plot(p, loss, "o", color=COLOURS[1])
        left.annotate(f"p = {p:g}: {loss:.2f}", (p, float(loss)), (8, 6), textcoords="offset points")
    left.set(title="cross-entropy", xlabel="p of the right class", ylabel="−log p", xlim=(0, 1.03), ylim=(0, 4.7))
    p, slope = outcomes["probabilities"], outcomes["slope"]
    rows = (("p", p, COLOURS[4]), ("t", p - slope, GREY), ("∂L/∂z = p − t", slope, COLOURS[1]))
    for number, (label, values, colour) in enumerate(rows):
        right.bar(np.arange(len(p)) + 0.27 * (number - 1), values, 0.25, label=label, color=colour)
    right.axhline(0, color="black", lw=0.8)
    right.set_xticks(range(len(p)), [f"logit {logit:g}" for logit in config.logits])
    right.set(title="where the second class is the right one", ylim=(-1.05, 1.05))
    right.legend(frameon=False, fontsize=9, loc="upper right")
    return Picture(
        figure,
        "Left: minus the logarithm of the probability of the right class, without bound near 0 and 0 at 1, with two "
        "points: 0.51 at 0.6 and 2.30 at 0.1. Right: for each of three logits bars of the probability, of the target "
        "and of the slope, which is their difference: a step down it raises the right logit and lowers the wrong ones.",
    )


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """The notes' and the book's numbers, and what arithmetic says."""
    z = np.asarray(outcomes["z"], np.float64)
    squared, absolute, rate = outcomes["squared"], outcomes["absolute"], config.learning_rate
    found = [
        equal("A6", "sigmoid against 1 / (1 + exp(-z)) in float64, for z from -6 to 6", outcomes["sigmoid"],
              1 / (1 + np.exp(-z)), margin=1e-6, source="arithmetic"),
        equal("A6", "softmax of z and 0 against the sigmoid of z", outcomes["softmax_of_two"], outcomes["sigmoid"],
              margin=1e-6, source="arithmetic"),
        equal("A7", "slope of the squared error at a distance of 2, 1 and 0.1: it shrinks", squared["slope_at_some"],
              (4, 2, 0.2), margin=1e-5, source="arithmetic"),
        equal("A7", "slope of the absolute error there: it stays", absolute["slope_at_some"], (1, 1, 1), margin=1e-5,
              source="arithmetic"),
        equal("A7", "descent on the squared error against start times (1 - 2 rate)^step", squared["descent"],
              config.start * (1 - 2 * rate) ** np.arange(config.steps + 1), margin=1e-6, source="arithmetic"),
        equal("A7", "length of the last four steps on the absolute error: all are as long as the rate",
              abs(np.diff(absolute["descent"])[-4:]), np.full(4, rate), margin=1e-5, source="arithmetic"),
        equal("A8", "cross-entropy with integer labels against one-hot rows", outcomes["of_labels"],
              outcomes["of_one_hot"], margin=1e-6, source="arithmetic"),
        equal("A8", "gradient of softmax and cross-entropy against (p - t) / batch, of 32 random examples",
              outcomes["gradient"], outcomes["p_minus_t"], margin=1e-7, source="the book"),
    ]  # fmt: skip
    if is_the_books(config):
        found += [
            equal("A6", "softmax of 3, 1, -3", outcomes["probabilities"], (0.88, 0.12, 0), margin=0.005),
            equal("A6", "logarithm of the softmax of 1010, 1000, 990, whose exponentials would be infinite",
                  np.log(outcomes["of_large"]), np.log((9.99954600e-1, 4.53978686e-5, 2.06106005e-9)), margin=1e-3,
                  source="the book"),
            equal("A8", "cross-entropy where the right class is given 0.6, and 0.1", outcomes["of_labels"],
                  (0.51, 2.30), margin=0.005, source="the book"),
        ]  # fmt: skip
    return sorted(found, key=lambda claim: claim.row)


EXPERIMENT = Experiment(
    name="softmax_and_cross_entropy",
    rows=("A6", "A7", "A8"),
    formula=r"p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}, \qquad L = -\sum_k t_k \log p_k, \qquad "
    r"\frac{\partial L}{\partial z} = p - t",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
