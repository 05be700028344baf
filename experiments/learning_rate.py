"""What if the learning rate is too small, and what if it is too large?

The rate is how far a step goes against the gradient. On the book's bowl f = x0² + x1² each step multiplies the way to
the minimum by 1 - 2 rate:

    x <- x - rate ∂f/∂x = (1 - 2 rate) x

A rate of 1e-10 gets nowhere, 0.1 arrives, and 10 jumps over the minimum and farther away with every step. A network is
no different: one hidden layer of 50, relu, SGD on mini-batches of 100, with twelve rates from 1/10,000 to 30. Expect a
loss that hardly moves, then one that falls the faster the larger the rate, and beyond about 1 none that learns. All
rates see the same mini-batches, and train as one compiled program. (Rows A13, and X1 for the one program.)

    python -m experiments.learning_rate --seeds 5
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, equal, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels, smooth
from jaxnn.older_jax import enable_x64

WORDS = ("too small", "good", "too large")


@dataclass(frozen=True)
class Config:
    """The book's bowl; for the network, its way of training."""

    start: tuple[float, float] = (-3, 4)
    """On the bowl."""
    bowl_rates: tuple[float, float, float] = (1e-10, 0.1, 10)
    """On the bowl: too small, good, too large."""
    bowl_steps: int = 100
    """On the bowl."""
    hidden_size: int = 50
    """Units of the network."""
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
    """Of SGD."""
    shown: tuple[float, float, float] = (1e-3, 0.3, 10)
    """Those of them whose curves are drawn: too small, good, too large."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    epochs: int = 2
    """Passes over the training data, 600 steps each."""
    seeds: int = 3
    """Independent runs of each rate."""

    def __post_init__(self) -> None:
        if not set(self.shown) <= set(self.rates):
            raise ValueError(f"the rates shown, {self.shown}, have to be among the rates, {self.rates}")


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Where the descents on the bowl end; the loss of every step `[rates, seeds, steps]`, and the test accuracy."""
    train = data.official
    model = nn.mlp([config.hidden_size], 10)

    def learn(setting: dict[str, Array], key: PRNGKeyArray) -> Outcomes:
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.sgd(setting["rate"]), train, key=key, epochs=config.epochs,
            batch_size=config.batch_size, sampling="replacement", preprocess=data.scale, metrics={},
        )  # fmt: skip
        measured = nn.evaluate(model, result.params, result.model_state, data.test, preprocess=data.scale)
        return {"loss": result.history.loss, **measured}

    found = nn.sweep(learn, {"rate": jnp.array(config.rates)}, key=key, seeds=config.seeds, progress=False)
    return {**found.outcomes, "programs": found.programs, "bowl": down_the_bowl(config)}


def down_the_bowl(config: Config) -> np.ndarray:
    """Where each rate ends; in float64, for the largest goes beyond what float32 can hold."""

    def descend(rate: Array) -> Array:
        optimizer, start = nn.sgd(rate), jnp.array(config.start, float)

        def step(_: int, carried: tuple[Array, Any]) -> tuple[Array, Any]:
            x, state = carried
            update, state = optimizer.update(jax.grad(lambda x: jnp.sum(x**2))(x), state, x)
            return x + update, state

        return jax.lax.fori_loop(0, config.bowl_steps, step, (start, optimizer.init(start)))[0]

    with enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(descend))(np.array(config.bowl_rates, float)))


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Jumps in a bowl, the three curves, and the loss that each rate comes to."""
    figure, ((bowl, curves, by_rate),) = panels(1, 3, width=3.9, height=3.5)
    colours = (COLOURS[4], COLOURS[0], COLOURS[1])
    across = np.linspace(-6.5, 6.5, 200)
    bowl.plot(across, across**2, color=GREY, lw=0.8)
    for rate, word, colour in zip((0.02, 0.3, 1.05), WORDS, colours, strict=True):
        x = -3 * (1 - 2 * rate) ** np.arange(9)
        bowl.plot(x, x**2, "o-", color=colour, ms=4, lw=0.8, label=f"{word}, {rate:g}")
    bowl.set(title="eight steps in the bowl x²", xlabel="x", ylabel="x²", ylim=(-2, 58))
    bowl.legend(frameon=False, fontsize=8, loc="upper center")

    losses = outcomes["loss"]
    steps = np.arange(1, losses.shape[-1] + 1)
    for rate, word, colour in zip(config.shown, WORDS, colours, strict=True):
        curve(curves, steps, smooth(losses[config.rates.index(rate)], 20), f"{word}, {rate:g}", colour)
    curves.set(yscale="log", xlabel="step", ylabel="loss, mean over 20 steps", title=f"a network on {data.title}")
    curves.legend(frameon=False, fontsize=8)

    curve(by_rate, config.rates, at_the_end(losses).T, "", COLOURS[0], marker="o", ms=4)
    for rate, colour in zip(config.shown, colours, strict=True):
        by_rate.plot(rate, at_the_end(losses)[config.rates.index(rate)].mean(), "o", color=colour, ms=8)
    by_rate.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss of the last 100 steps", ylim=(0.03, 9))
    by_rate.set_title(f"after {len(steps):,} steps")
    alt = (
        "Left: eight steps in a parabola: with a rate too small they creep, with a good one they come to the bottom, "
        "with one too large they jump from side to side and climb. Middle: the loss of a network falls slowly with a "
        "rate too small, fast with a good one, and with one too large leaps up and ends where nothing is learned. "
        "Right: the loss at the end over the rate goes down to a minimum between 0.1 and 1, and then steeply up."
    )
    return {"rates": Picture(figure, alt)}


def at_the_end(losses: np.ndarray) -> np.ndarray:
    """Mean loss of the last hundred steps, `[rates, seeds]`."""
    return losses[..., -100:].mean(axis=-1)


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Three ends on the bowl; and what the rates do to the network."""
    small, good, large = (config.rates.index(rate) for rate in config.shown)
    ends, accuracy = at_the_end(outcomes["loss"]), outcomes["accuracy"]
    best = np.array(config.rates)[ends.argmin(axis=0)]
    found = [
        near("X1", f"compiled programs for {ends.size} networks", outcomes["programs"], 1, 0, source="our own"),
        at_least("A13", f"loss of the last 100 steps with rate {config.shown[0]:g}: too small", ends[small], 1.2),
        at_most("A13", f"with rate {config.shown[1]:g}: good", ends[good], 0.25),
        at_least("A13", f"with rate {config.shown[2]:g}: too large", ends[large], 1.5),
        at_least("A13", f"test accuracy with rate {config.shown[1]:g}", accuracy[good], 0.93),
        at_most("A13", f"with rate {config.shown[2]:g}", accuracy[large], 0.5),
        between("A13", "the rate whose loss is least at the end", best, 0.1, 1, source="our own"),
    ]  # fmt: skip
    if is_the_books(replace(config, epochs=Config.epochs)):  # of which the bowl knows nothing
        small_end, good_end, large_end = outcomes["bowl"]
        found += [
            equal("A13", "the bowl from (-3, 4), 100 steps of rate 1e-10: nothing has moved", small_end,
                  (-2.99999994, 3.99999992), margin=1e-7, source="the book"),
            equal("A13", "the bowl with rate 0.1, times 1e10", 1e10 * good_end, (-6.11110793, 8.14814391), margin=1e-3,
                  source="the book"),
            # The book prints 2.6e13, where its numerical gradient has no digit left; in truth it is (-19)^100 (-3, 4).
            equal("A13", "the bowl with rate 10, over (1 - 20)^100", large_end / 19.0**100, (-3, 4), margin=1e-9,
                  source="arithmetic"),
        ]  # fmt: skip
    return found


EXPERIMENT = Experiment(
    name="learning_rate",
    rows=("A13", "X1"),
    formula=r"W \leftarrow W - \eta\,\frac{\partial L}{\partial W}",
    config=Config(),
    quick=Config(epochs=20, seeds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
