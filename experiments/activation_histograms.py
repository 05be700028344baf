"""What becomes of a signal on its way through five layers?

1,000 examples of Gaussian noise pass through five layers of 100 units, untrained. How large the initial weights are
decides whether anything is left of them at the end:

    a_l = h(a_{l-1} W_l),    W_l ~ N(0, std²),    std = 1, 0.01, Xavier's sqrt(1/n), He's sqrt(2/n)

Too large, and sigmoid and tanh end at their limits, where they have no slope: saturation. Too small, and all comes out
alike: collapse. Xavier's keeps a spread with sigmoid and tanh. A relu silences half of what it is given, and so
Xavier's loses half the mean square in each layer; He's, twice as large, keeps it. (Row C4.)

The book's histograms do not show one thing: of sigmoid, what is left with Xavier's is the spread between units. Over
the examples a unit hardly varies, for the slope of 1/4 at most takes three quarters away in each layer.

    python -m experiments.activation_histograms --seeds 20
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels


@dataclass(frozen=True)
class Config:
    """The book's numbers."""

    examples: int = 1000
    """Of Gaussian noise, standard deviation 1."""
    width: int = 100
    """Inputs, and units of each layer."""
    layers: int = 5
    """One after the other."""
    seeds: int = 20
    """Independent draws of examples and weights (the book has one; the histograms are of the first)."""


class Setting(NamedTuple):
    """An activation, its range in the histograms, and the initial weights that are tried with it."""

    h: Callable[[Array], Array]
    limits: tuple[int, int]
    initializers: tuple[str, ...]


SETTINGS = {
    "sigmoid": Setting(nn.sigmoid, (0, 1), ("std 1", "std 0.01", "Xavier")),
    "tanh": Setting(nn.tanh, (-1, 1), ("std 1", "std 0.01", "Xavier")),
    "relu": Setting(nn.relu, (0, 2), ("std 0.01", "Xavier", "He")),
}
BINS = 30


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """By activation, measure and initializer, `[seeds, layers, …]`."""

    def one_seed(key: PRNGKeyArray) -> dict[str, dict[str, dict[str, Array]]]:
        examples_key, weights_key = jax.random.split(key)
        x = jax.random.normal(examples_key, (config.examples, config.width))
        found = {}
        for name, setting in SETTINGS.items():
            a = activations(config, setting, x, weights_key)
            measured = jax.vmap(lambda a, limits=setting.limits: measure(a, *limits))(a)
            found[name] = {what: dict(zip(setting.initializers, each, strict=True)) for what, each in measured.items()}
        return found

    return jax.jit(lambda keys: jax.lax.map(one_seed, keys))(jax.random.split(key, config.seeds))


def activations(config: Config, setting: Setting, x: Array, key: PRNGKeyArray) -> Array:
    """What comes out of each layer, `[initializers, layers, examples, units]`."""
    by_name = {"std 1": nn.normal(1.0), "std 0.01": nn.normal(0.01), "Xavier": nn.xavier(), "He": nn.he()}
    layers = [
        nn.sequential(nn.dense(config.width, by_name[name]), nn.activation(setting.h)) for name in setting.initializers
    ]
    keys = jax.random.split(key, config.layers)  # the same draws for all, times each one's standard deviation
    weights = [jax.vmap(lambda key, layer=layer: layer.init(key, (config.width,))[0])(keys) for layer in layers]

    def through(a: Array, params: nn.layers.Params) -> tuple[Array, Array]:
        a, _ = layers[0].apply(params, {}, a)
        return a, a

    stacked = jax.tree.map(lambda *each: jnp.stack(each), *weights)
    return jax.vmap(lambda params: jax.lax.scan(through, x, params)[1])(stacked)


def measure(a: Array, low: int, high: int) -> dict[str, Array]:
    """Of the activations of each layer."""
    return {
        "counts": jax.vmap(lambda layer: jnp.histogram(layer, BINS, (low, high))[0])(a),
        "std": a.std(axis=(1, 2)),
        "std over examples": a.std(axis=1).mean(axis=1),
        "mean square": (a**2).mean(axis=(1, 2)),
        "near a limit": ((a < low + 0.1) | (a > high - 0.1)).mean(axis=(1, 2)),
    }


INK = {"std 1": COLOURS[1], "std 0.01": COLOURS[3], "Xavier": COLOURS[0], "He": COLOURS[2]}
ALT = {
    "sigmoid": "Histograms of the activations of five layers of sigmoid, a row for each standard deviation of the "
    "weights. With 1 they pile up at 0 and at 1; with 0.01 all are near 0.5; with Xavier's they spread around 0.5.",
    "tanh": "The same for tanh. With 1 the activations pile up at -1 and at 1; with 0.01 all are at 0 from the second "
    "layer on; with Xavier's they spread over most of the range in every layer.",
    "relu": "The same for relu, whose bar at 0 is cut off. With 0.01 all are at 0 from the second layer on; with "
    "Xavier's they crowd towards 0 from layer to layer; with He's the histograms stay alike.",
    "spread": "Standard deviations over the layers, on a logarithmic scale. With weights of 0.01 they fall by a factor "
    "of ten or more in each layer; with Xavier's they nearly hold for tanh and fall for relu; with He's they hold. Of "
    "sigmoid all activations together, dashed, keep their spread; a unit over the examples, solid, loses it.",
}


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """The book's histograms, a picture for each activation; and how the spread changes from layer to layer."""
    pictures = {name: Picture(_histograms(config, name, outcomes[name]), ALT[name]) for name in SETTINGS}
    figure, (axes,) = panels(1, 3, width=3.4, height=3.2, sharey=True)
    layers = np.arange(1, config.layers + 1)
    for axis, (name, found) in zip(axes, outcomes.items(), strict=True):
        for initializer in SETTINGS[name].initializers:
            colour, one_unit = INK[initializer], found["std over examples"][initializer]
            curve(axis, layers, one_unit, initializer, colour, marker="o", ms=4)
            axis.plot(layers, np.mean(found["std"][initializer], axis=0), "--", color=colour, lw=1)
        axis.set(yscale="log", xlabel="layer", xticks=layers)
        axis.set_title(name, fontsize=10)
    axes[0].plot([], [], color=GREY, label="of a unit, over examples")
    axes[0].plot([], [], "--", color=GREY, lw=1, label="of all activations")
    axes[0].set_ylabel("standard deviation")
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    return pictures | {"spread": Picture(figure, ALT["spread"])}


def _histograms(config: Config, name: str, found: dict[str, dict[str, Array]]) -> Figure:
    """A row for each initializer, a column for each layer."""
    _, limits, initializers = SETTINGS[name]
    figure, axes = panels(len(initializers), config.layers, width=2.0, height=1.45, sharex=True, sharey="row")
    edges = np.linspace(*limits, BINS + 1)
    for row, initializer in zip(axes, initializers, strict=True):
        shares = np.asarray(found["counts"][initializer])[0] / (config.examples * config.width)
        stds = np.asarray(found["std"][initializer])[0]
        for layer, (axis, share, std) in enumerate(zip(row, shares, stds, strict=True), start=1):
            axis.stairs(share, edges, fill=True, color=INK[initializer])
            axis.set_title(f"layer {layer}: std {std:.2g}", fontsize=9)
            if name == "relu":  # else the units that are silent leave no room for the others
                axis.set_ylim(0, 0.12)
                axis.text(1.9, 0.11, f"first bar: {share[0]:.0%}", ha="right", va="top", fontsize=8, color=GREY)
        row[0].set_ylabel(f"weights: {initializer}", fontsize=9)
        row[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.supxlabel(f"activation of {name}", fontsize=10)
    figure.supylabel("share of all activations", fontsize=10)
    return figure


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """Saturation, collapse and a healthy spread, in the last layer; by arithmetic where there is any."""

    def of(name: str, initializer: str, what: str, layer: int = -1) -> np.ndarray:
        return np.asarray(outcomes[name][what][initializer])[:, layer]

    def kept(name: str, what: str) -> np.ndarray:
        return of(name, "Xavier", what) / of(name, "Xavier", what, layer=0)

    shrunk = (0.01 * config.width**0.5) ** config.layers
    near_a_limit, std = "activations of the last layer within 0.1 of a limit", "standard deviation in the last layer"
    found = [
        at_least("C4", f"sigmoid, std 1: {near_a_limit}", of("sigmoid", "std 1", "near a limit"), 0.6),
        at_least("C4", f"tanh, std 1: {near_a_limit}", of("tanh", "std 1", "near a limit"), 0.7),
        at_most("C4", f"sigmoid, Xavier: {near_a_limit}", of("sigmoid", "Xavier", "near a limit"), 0.01),
        at_most("C4", f"tanh, Xavier: {near_a_limit}", of("tanh", "Xavier", "near a limit"), 0.01),
        at_most("C4", f"sigmoid, std 0.01: {std}", of("sigmoid", "std 0.01", "std"), 0.02),
        near("C4", f"tanh, std 0.01: {std}, from 1 by 0.01 sqrt(n) in each", of("tanh", "std 0.01", "std"),
             shrunk, 0.2 * shrunk, source="arithmetic"),
        at_least("C4", f"sigmoid, Xavier: {std}, over the first's", kept("sigmoid", "std"), 0.4),
        at_least("C4", f"tanh, Xavier: {std}, over the first's", kept("tanh", "std"), 0.4),
        at_most("C4", "sigmoid, Xavier: that of a unit over the examples, over the first's; the slope is 1/4 at most",
                kept("sigmoid", "std over examples"), 0.25 ** (config.layers - 1), source="arithmetic"),
    ]  # fmt: skip
    # Of one draw the mean square after five relus has a relative standard deviation of 0.3; few seeds get no more room
    # than this, lest the wrong initializer, a factor of 1/32 or 32, or no signal at all pass.
    margin = min(0.8, round(4 * 0.3 / config.seeds**0.5, 2))
    for initializer, words, part in (
        ("std 0.01", "0.01² n/2", 0.01**2 * config.width / 2), ("Xavier", "1/2", 0.5), ("He", "1", 1.0),
    ):  # fmt: skip
        words = f"relu, {initializer}: mean square in the last layer, over ({words})^{config.layers}"
        square = of("relu", initializer, "mean square") / part**config.layers
        found.append(near("C4", words, square, 1, margin, source="arithmetic"))
    return found


EXPERIMENT = Experiment(
    name="activation_histograms",
    rows=("C4",),
    formula=r"a_l = h(a_{l-1} W_l), \qquad W_l \sim \mathcal{N}(0, \sigma^2), \quad "
    r"\sigma_{\text{Xavier}} = \sqrt{1/n}, \quad \sigma_{\text{He}} = \sqrt{2/n}",
    config=Config(),
    quick=Config(examples=500, seeds=10),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
