"""How does a network say what it believes, and how is it told that it is wrong?

Its last layer gives one number for each class, the logits. Softmax makes probabilities of them; sigmoid is its form for
two classes:

    softmax(z)_k = exp(z_k) / Σ_j exp(z_j)        sigmoid(z) = 1 / (1 + exp(-z)) = softmax(z, 0)_1

Where a number is to be predicted the error is squared. The slope of (z - y)² shrinks towards the minimum, so that
steps of a fixed rate settle there; the slope of |z - y| stays 1, and they jump to and fro for ever. Where a class is to
be predicted the loss is the cross-entropy of the probabilities p and the targets t, and its slope in the logits is the
simplest there could be:

    L = -Σ_k t_k log p_k, which is -log p of the right class        ∂L/∂z = p - t

Expect the notes' three probabilities, and the book's two losses: 0.51 where the right class is given 0.6, 2.30 where it
is given 0.1. (Rows A6, A7, A8.)

    python -m experiments.softmax_and_cross_entropy
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_most, equal
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
    sure: tuple[float, ...] = (0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0)
    """The book's probabilities of ten digits where the right one, a 2, is believed in."""
    mistaken: tuple[float, ...] = (0.1, 0.05, 0.1, 0, 0.05, 0.1, 0, 0.6, 0, 0)
    """The same where a 7 is believed in instead."""
    right: int = 2
    """The right digit."""
    start: float = 2
    """Where the descents of both errors start, as a distance from the minimum."""
    learning_rate: float = 0.3
    """Of both, the same in every step."""
    steps: int = 20
    """Of both."""


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """Curves and numbers of the three rows."""
    return {**activations(config), **errors(config), **cross_entropies(config, key)}


def activations(config: Config) -> Outcomes:
    """Sigmoid; and softmax of the notes' logits, also where the first of them takes other values."""
    z = jnp.linspace(-6, 6, 241)
    others = jnp.broadcast_to(jnp.array(config.logits[1:], float), (len(z), len(config.logits) - 1))
    return {
        "z": z,
        "sigmoid": nn.sigmoid(z),
        "softmax": nn.softmax(jnp.concatenate([z[:, None], others], axis=1)),
        "softmax_of_two": nn.softmax(jnp.stack([z, jnp.zeros_like(z)], axis=1))[:, 0],
        "probabilities": nn.softmax(jnp.array(config.logits, float)),
        "large": nn.softmax(jnp.array(config.large_logits, float)),
    }


def errors(config: Config) -> Outcomes:
    """Both errors of one prediction at some distance from its target, their slopes, and a descent on each."""
    distances = jnp.linspace(-2, 2, 201)
    found: Outcomes = {"distances": distances}
    for name, loss in (("squared", nn.mean_squared_error), ("absolute", nn.mean_absolute_error)):
        found[name] = of_one_prediction(config, loss, distances)
    return found


def of_one_prediction(config: Config, loss: Callable[[Array, Array], Array], distances: Array) -> Outcomes:
    """The loss, its slope, and z - y after each step of a descent."""

    def error(distance: Array) -> Array:
        return loss(distance[None], jnp.zeros(1))

    def step(z: Array, _: None) -> tuple[Array, Array]:
        z = z - config.learning_rate * jax.grad(error)(z)
        return z, z

    start = jnp.array(config.start, float)
    _, after = jax.lax.scan(step, start, length=config.steps)
    return {
        "error": jax.vmap(error)(distances),
        "slope": jax.vmap(jax.grad(error))(distances),
        "slope_at": jax.vmap(jax.grad(error))(jnp.array([2.0, 1.0, 0.1])),
        "descent": jnp.concatenate([start[None], after]),
    }


def cross_entropies(config: Config, key: PRNGKeyArray) -> Outcomes:
    """The loss of one probability; of the book's answers; and the slope in the logits, beside p - t."""
    p = jnp.linspace(0.01, 1, 200)
    book = jnp.array([config.sure, config.mistaken], float)
    labels = jnp.full(2, config.right)
    one_hot = jax.nn.one_hot(labels, book.shape[1])

    def of_each(targets: Array) -> Array:
        return jax.vmap(lambda p, t: nn.cross_entropy(p[None], t[None]))(book, targets)

    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, (32, 10))
    some_labels = jax.random.randint(labels_key, (32,), 0, 10)
    small = jnp.array([config.logits], float)
    return {
        "p": p,
        "surprise": jax.vmap(lambda p: nn.cross_entropy(jnp.stack([p, 1 - p])[None], jnp.zeros(1, int)))(p),
        "of_labels": of_each(labels),
        "of_one_hot": of_each(one_hot),
        "gradient": jax.grad(nn.softmax_cross_entropy)(logits, some_labels),
        "p_minus_t": (nn.softmax(logits) - jax.nn.one_hot(some_labels, 10)) / len(logits),
        "small_gradient": jax.grad(nn.softmax_cross_entropy)(small, jnp.ones(1, int))[0],
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
    figure, ((left, middle, right),) = panels(1, 3, width=3.7, height=3.1)
    z, probabilities = np.asarray(outcomes["z"]), np.asarray(outcomes["probabilities"])
    curve(left, z, outcomes["sigmoid"], "", COLOURS[0])
    left.set(title="sigmoid", xlabel="z", ylabel="sigmoid(z)", ylim=(-0.03, 1.03))
    first, *others = config.logits
    names = [f"logit {logit:g}" for logit in config.logits]
    for number, (name, values) in enumerate(zip(("logit z", *names[1:]), np.asarray(outcomes["softmax"]).T, strict=True)):
        curve(middle, z, values, name, COLOURS[number])
        middle.plot(first, probabilities[number], "o", color=COLOURS[number], ms=5)
    middle.axvline(first, color=GREY, lw=0.8, ls=":")
    middle.set(title=f"softmax of z, {', '.join(f'{logit:g}' for logit in others)}", xlabel="z", ylabel="probability")
    middle.set_ylim(-0.03, 1.03)
    middle.legend(frameon=False, fontsize=8, loc="center left")
    bars = right.bar(names, probabilities, color=COLOURS[: len(names)], width=0.6)
    right.bar_label(bars, [f"{value:.2f}" for value in probabilities], padding=2)
    right.set(title=f"at z = {first:g}: they add up to 1", ylim=(0, 1.03), ylabel="probability")
    return Picture(
        figure,
        "Left: the sigmoid, from 0 to 1 in the form of an S. Middle: the three probabilities of a softmax while the "
        "first logit grows: the first rises in the same S, the others fall. Right: bars of 0.88, 0.12 and 0.00, which "
        "softmax makes of the logits 3, 1 and -3.",
    )


def draw_errors(config: Config, outcomes: Outcomes) -> Picture:
    """Squared and absolute error, their slopes, and where a descent with a fixed rate goes."""
    figure, ((left, middle, right),) = panels(1, 3, width=3.7, height=3.1)
    distances = outcomes["distances"]
    for name, label, colour in (("squared", "(z − y)²", COLOURS[0]), ("absolute", "|z − y|", COLOURS[1])):
        found = outcomes[name]
        curve(left, distances, found["error"], label, colour)
        curve(middle, distances, found["slope"], label, colour)
        curve(right, np.arange(config.steps + 1), found["descent"], label, colour, marker="o", ms=3, lw=1)
    left.set(title="error", xlabel="z − y", ylim=(0, 4))
    middle.set(title="its slope in z", xlabel="z − y")
    right.set(title=f"descent from {config.start:g}, rate {config.learning_rate:g}", xlabel="step", ylabel="z − y")
    right.set_xticks(range(0, config.steps + 1, 5))
    left.legend(frameon=False, fontsize=9, loc="upper center")
    return Picture(
        figure,
        "Left: the squared error is a smooth bowl, the absolute error a V with a kink. Middle: the slope of the square "
        "goes through 0 in a straight line, that of the other jumps from -1 to 1. Right: descent on the square settles "
        "at 0 within ten steps; on the absolute error it goes down evenly and then jumps to and fro around 0.",
    )


def draw_cross_entropy(config: Config, outcomes: Outcomes) -> Picture:
    """The loss of a probability, and the gradient in the logits as the difference of two rows of bars."""
    figure, (left, right) = (found := panels(1, 2, width=4.6, height=3.3))[0], found[1][0]
    curve(left, outcomes["p"], outcomes["surprise"], "", COLOURS[0])
    for answer, loss in zip((config.sure, config.mistaken), np.asarray(outcomes["of_labels"]), strict=True):
        p = answer[config.right]
        left.plot(p, loss, "o", color=COLOURS[1])
        left.annotate(f"p = {p:g}: {loss:.2f}", (p, loss), (8, 6), textcoords="offset points")
    left.set(title="cross-entropy", xlabel="p of the right class", ylabel="−log p", xlim=(0, 1.03), ylim=(0, 4.7))

    places, t = np.arange(len(config.logits)), np.eye(len(config.logits))[1]
    rows = {"p": outcomes["probabilities"], "t": t, "slope ∂L/∂z = p − t": outcomes["small_gradient"]}
    for number, (label, values) in enumerate(rows.items()):
        right.bar(places + 0.27 * (number - 1), values, 0.25, label=label, color=(COLOURS[4], GREY, COLOURS[1])[number])
    right.axhline(0, color="black", lw=0.8)
    right.set_xticks(places, [f"logit {logit:g}" for logit in config.logits])
    right.set(title="where the second class is right", ylim=(-1.05, 1.05))
    right.legend(frameon=False, fontsize=8, loc="lower right")
    return Picture(
        figure,
        "Left: minus the logarithm of the probability of the right class, without bound near 0 and 0 at 1, with two "
        "points: 0.51 at 0.6 and 2.30 at 0.1. Right: for each of three logits bars of the probability, of the target "
        "and of the slope, which is their difference: it pulls the right logit up and the wrong one down.",
    )


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """The notes' and the book's numbers, and what arithmetic says."""
    z = np.asarray(outcomes["z"], np.float64)
    squared, absolute = outcomes["squared"], outcomes["absolute"]
    rate = config.learning_rate
    found = [
        equal("A6", "sigmoid against 1 / (1 + exp(-z)) in float64, z from -6 to 6", outcomes["sigmoid"],
              1 / (1 + np.exp(-z)), margin=1e-6, source="arithmetic"),
        equal("A6", "softmax of z and 0 against the sigmoid of z", outcomes["softmax_of_two"], outcomes["sigmoid"],
              margin=1e-6, source="arithmetic"),
        equal("A7", "slope of the squared error at z - y = 2, 1 and 0.1: it shrinks", squared["slope_at"],
              (4, 2, 0.2), margin=1e-5, source="arithmetic"),
        equal("A7", "slope of the absolute error there: it does not", absolute["slope_at"], (1, 1, 1),
              margin=1e-5, source="arithmetic"),
        at_most("A7", "descent on the squared error: distance at the end over that at the start",
                abs(squared["descent"][-1] / config.start), abs(1 - 2 * rate) ** config.steps * 1.01,
                source="arithmetic"),
        equal("A7", "on the absolute error: length of each of the last four steps", abs(np.diff(absolute["descent"])[-4:]),
              np.full(4, rate), margin=1e-5, source="arithmetic"),
        equal("A8", "integer labels against one-hot rows", outcomes["of_labels"], outcomes["of_one_hot"],
              source="arithmetic"),
        equal("A8", "gradient of softmax_cross_entropy against (p - t) / 32 on 32 random examples",
              outcomes["gradient"], outcomes["p_minus_t"], margin=1e-7, source="the book"),
    ]  # fmt: skip
    if is_the_books(config):
        found += [
            equal("A6", "softmax of 3, 1, -3", outcomes["probabilities"], (0.88, 0.12, 0.00), margin=0.005),
            equal("A6", "softmax of 1010, 1000, 990, times 1, 1e5 and 1e9", outcomes["large"] * jnp.array([1, 1e5, 1e9]),
                  (0.99995460, 4.5397868, 2.0610600), margin=1e-4, source="the book"),
            equal("A8", "cross-entropy where the right class has p = 0.6, and 0.1", outcomes["of_labels"],
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
