"""By which paths do SGD, Momentum, AdaGrad and Adam go down a narrow valley?

The textbook's f(x, y) = x²/20 + y² is twenty times steeper across the valley than along it: its gradient hardly ever
points at the minimum. All start at (-7, 2) and take 30 steps, with the book's rates.

    SGD         W <- W - lr g
    Momentum    v <- a v - lr g,    W <- W + v
    AdaGrad     h <- h + g²,        W <- W - lr g / (sqrt(h) + 1e-7)
    Adam        moving means m of g and v of g², freed of their start;  W <- W - lr m_hat / sqrt(v_hat)

Expect SGD to cross the valley at every step, Momentum to swing beyond the minimum, and AdaGrad, whose first step is as
long along the valley as across it, to go almost straight. Nesterov and RMSprop are shown beside them. Every path is
compared with the rules in plain NumPy, below, in float64, as the book computes. (Rows C1, A12.)

    python -m experiments.optimizer_paths
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal, true
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.pictures import COLOURS, GREY, Animation, Picture, panels
from jaxnn.older_jax import enable_x64


@dataclass(frozen=True)
class Config:
    """The book's numbers; it draws no path of Nesterov and RMSprop."""

    start: tuple[float, float] = (-7.0, 2.0)
    """Where all begin."""
    steps: int = 30
    """Of each."""
    sgd: float = 0.95
    """Learning rate of SGD."""
    momentum: float = 0.1
    """Of Momentum."""
    nesterov: float = 0.1
    """Of Nesterov."""
    adagrad: float = 1.5
    """Of AdaGrad."""
    rmsprop: float = 0.1
    """Of RMSprop."""
    adam: float = 0.3
    """Of Adam."""


NAMES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
FOUR = ("SGD", "Momentum", "AdaGrad", "Adam")


def f(place: Any) -> Any:
    """The valley."""
    return place[0] ** 2 / 20 + place[1] ** 2


def path(optimizer: optax.GradientTransformation, start: Array, steps: int) -> Array:
    """Where an optimizer comes by, `[1 + steps, 2]`."""

    def step(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], Array]:
        place, state = carry
        updates, state = optimizer.update(jax.grad(f)(place), state, place)
        return (place + updates, state), place + updates

    _, places = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
    return jnp.concatenate([start[None], places])


def path_by_hand(name: str, start: tuple[float, float], lr: float, steps: int) -> np.ndarray:
    """The same by the textbook's rules, in NumPy."""
    W, v, h, m = np.array(start), np.zeros(2), np.zeros(2), np.zeros(2)
    places = [W]
    for t in range(1, steps + 1):
        g = W * (1 / 10, 2)
        if name == "SGD":
            W = W - lr * g
        elif name == "Momentum":
            v = 0.9 * v - lr * g
            W = W + v
        elif name == "Nesterov":
            W = W + 0.9 * 0.9 * v - (1 + 0.9) * lr * g
            v = 0.9 * v - lr * g
        elif name == "AdaGrad":
            h = h + g * g
            W = W - lr * g / (np.sqrt(h) + 1e-7)
        elif name == "RMSprop":
            h = 0.99 * h + (1 - 0.99) * g * g
            W = W - lr * g / (np.sqrt(h) + 1e-7)
        elif name == "Adam":
            m = m + (1 - 0.9) * (g - m)
            v = v + (1 - 0.999) * (g * g - v)
            W = W - lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        places.append(W)
    return np.stack(places)


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """Paths `[1 + steps, 2]` by our optimizers, with the textbook's settings, and by hand."""
    optimizers = {
        "SGD": nn.sgd(config.sgd),
        "Momentum": nn.momentum(config.momentum),
        "Nesterov": nn.nesterov(config.nesterov),
        "AdaGrad": nn.adagrad(config.adagrad),
        "RMSprop": nn.rmsprop(config.rmsprop),
        "Adam": nn.adam(config.adam, eps=1e-7, eps_beside="v"),
    }

    @jax.jit
    def paths(start: Array) -> Outcomes:
        return {name: path(optimizer, start, config.steps) for name, optimizer in optimizers.items()}

    with enable_x64(True):
        ours = jax.device_get(paths(jnp.array(config.start, jnp.float64)))
    rates = {name: getattr(config, name.lower()) for name in NAMES}
    by_hand = {name: path_by_hand(name, config.start, rate, config.steps) for name, rate in rates.items()}
    return {"ours": ours, "by_hand": by_hand}


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """Each path by itself; and a race of the four."""
    figure, axes = panels(2, 3, width=4.0, height=2.3, sharex=True, sharey=True)
    for axis, name in zip(axes.flat, NAMES, strict=True):
        draw_valley(axis)
        axis.plot(*outcomes["ours"][name].T, "o-", color=COLOURS[1], ms=3, lw=1)
        axis.set_title(f"{name}, learning rate {getattr(config, name.lower()):g}", fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("x")
    for axis in axes[:, 0]:
        axis.set_ylabel("y")
    alt = (
        "Six panels with the contours of a valley, long ellipses around the minimum, and on each the path of one "
        "optimizer from the upper left. SGD zigzags across the valley at every step. Momentum and Nesterov swing "
        "across in a few wide curves. AdaGrad and RMSprop go down to the floor of the valley and along it, without "
        "crossing. Adam crosses it once and comes back."
    )
    return {"paths": Picture(figure, alt), "race": race(config, outcomes["ours"])}


def draw_valley(axis: Axes) -> None:
    """The contours of f, and its minimum."""
    turn = np.linspace(0, 2 * np.pi, 100)
    for level in (0.05, 0.2, 0.5, 1, 1.8, 2.8, 4, 5.4, 7):
        axis.plot((20 * level) ** 0.5 * np.cos(turn), level**0.5 * np.sin(turn), color=GREY, lw=0.6, alpha=0.6)
    axis.plot(0, 0, "+", color="black", ms=9)
    axis.set(xlim=(-8, 3), ylim=(-2.4, 2.4), aspect="equal")
    axis.grid(visible=False)


def race(config: Config, paths: dict[str, np.ndarray]) -> Picture:
    """The book's four on one map, and how deep they are; as an animation, step by step."""
    figure, axes = panels(1, 2, width=4.8, height=2.9)
    draw_valley(axes[0, 0])
    axes[0, 0].axis("off")
    axes[0, 1].set(xlabel="step", ylabel="f(x, y)", yscale="log", xlim=(-0.5, config.steps + 0.5))
    axes[0, 1].minorticks_off()
    lines = []
    for name, colour in zip(FOUR, COLOURS, strict=False):
        (trace,) = axes[0, 0].plot(*paths[name].T, color=colour, lw=1.2, alpha=0.8)
        (runner,) = axes[0, 0].plot(*paths[name][-1], "o", color=colour, ms=7)
        (depth,) = axes[0, 1].plot(f(paths[name].T), color=colour, label=name)
        lines.append((paths[name], trace, runner, depth))
    axes[0, 1].legend(frameon=False, fontsize=9, loc="lower left")

    def show(step: int) -> None:
        figure.set_layout_engine("none")  # the panels stay where they are
        for places, trace, runner, depth in lines:
            trace.set_data(*places[: step + 1].T)
            runner.set_data(*places[step, :, None])
            depth.set_data(np.arange(step + 1), f(places[: step + 1].T))

    alt = (
        "Left, the paths of the four on one map of the valley, with a dot where each ends. Right, f over the steps, "
        "logarithmic: all go down, Momentum with wide swings, AdaGrad fastest and farthest."
    )
    return Picture(figure, alt, Animation(show, config.steps + 1, per_second=5))


def crossings(places: np.ndarray) -> int:
    """How often y changes its sign."""
    return int((np.diff(np.sign(places[:, 1])) != 0).sum())


def detour(places: np.ndarray) -> float:
    """Length of a path, beside that of the straight line to the minimum."""
    return float(np.hypot(*np.diff(places, axis=0).T).sum() / np.hypot(*places[0]))


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """That the formulas are the textbook's; with the book's rates also what the paths look like."""
    ours, by_hand = outcomes["ours"], outcomes["by_hand"]
    found = [
        equal("C1", f"path of {name}, and by the rule in NumPy", ours[name], by_hand[name], 1e-10, "the book")
        for name in NAMES
    ]
    if not is_the_books(config):
        return found
    closed_form = np.array([-7, 2]) * np.array([0.905, -0.9]) ** np.arange(config.steps + 1)[:, None]
    heights = {name: f(ours[name].T) for name in FOUR}
    last = {name: float(height[-1]) for name, height in heights.items()}
    listed = ", ".join(f"{name} {height:.2g}" for name, height in last.items())
    return [
        *found,
        equal("C1", "path of SGD, and (-7 · 0.905^k, 2 · (-0.9)^k)", ours["SGD"], closed_form, 1e-10, "arithmetic"),
        equal("C1", "SGD zigzags: changes of the sign of y", crossings(ours["SGD"]), config.steps, source="the book"),
        equal("C1", "AdaGrad does not", crossings(ours["AdaGrad"]), 0, source="the book"),
        at_least("C1", "Momentum swings beyond the minimum, to x", ours["Momentum"][:, 0].max(), 0.5),
        at_least("A12", "length of SGD's path, in straight lines to the minimum", detour(ours["SGD"]), 4),
        at_most("A12", "length of AdaGrad's path", detour(ours["AdaGrad"]), 1.1),
        at_most("A12", "f after the last step beside f at the start, the largest of four",
                max(last.values()) / heights["SGD"][0], 0.05),
        true("A12", "AdaGrad is deepest after the last step", min(last, key=last.__getitem__) == "AdaGrad", listed,
             "AdaGrad least"),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="optimizer_paths",
    rows=("C1", "A12"),
    formula=r"f(x, y) = \frac{x^2}{20} + y^2",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
