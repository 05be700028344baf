"""How does gradient descent find its way down, and why do features have to be scaled for it?

Linear regression is the smallest network there is. With the squared error halved, so that the 2 cancels, its gradient
is written down in a line:

    z = w x + b        L = (z - y)² / 2        ∂L/∂w = (z - y) x        ∂L/∂b = z - y

First it is held against jax.grad and central differences, on all columns of the bundled diabetes data. Then it leads
down: from random starts to the line through one of these columns, whose loss is a surface over w and b. Last come two
features, of which one is five times as large as the other. The slope in a weight grows with its feature, so that no
single learning rate suits both: the valley is narrow, and the descent jumps between its sides. Scaled to [0, 1], by the
minimum and maximum of the training part alone, it is rounder, and as many steps arrive. (Rows A2, A9, A10.)

    python -m experiments.linear_regression
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from matplotlib import colormaps
from matplotlib.figure import Figure

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal, near
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.pictures import COLOURS, GREY, Picture, curve, panels, plain
from jaxnn.older_jax import enable_x64

Params: TypeAlias = dict[str, Array]  # w [features] and b


@dataclass(frozen=True)
class Config:
    """Our own numbers; the notes leave them open."""

    column: int = 2
    """Of the diabetes data: the body mass index, from which the progression of the disease is told."""
    starts: int = 5
    """Of the descent on the surface of w and b."""
    learning_rate: float = 0.3
    """Of that descent."""
    steps: int = 1500
    """Of that descent."""
    ranges: tuple[float, float] = (1, 5)
    """Of the two features, each from 0."""
    weights: tuple[float, float] = (3, 0.2)
    """That their target is made with."""
    examples: int = 200
    """Of the two features, for training; as many are for testing."""
    scaled_steps: int = 30
    """Before scaling and after it, each with the best fixed rate that there is for it."""


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """The gradient in three ways; a surface and paths down it; two features as they are, and scaled."""
    train, _, _ = nn.data.load("diabetes")
    x, y = np.asarray(nn.data.min_max(train.x)(train.x)), np.asarray(train.y)[:, 0] / 100
    starts_key, features_key = jax.random.split(key)
    return {
        "gradients": gradients(x, y),
        **surface(config, x[:, [config.column]], y, starts_key),
        **two_features(config, features_key),
    }


def loss(params: Params, x: Array, y: Array) -> Array:
    """Half the mean squared error."""
    return 0.5 * nn.mean_squared_error(x @ params["w"] + params["b"], y)


def by_hand(params: Params, x: Array, y: Array) -> Params:
    """Its gradient: the mean over the examples of (z - y) x, and of z - y."""
    error = x @ params["w"] + params["b"] - y
    return {"w": x.T @ error / len(x), "b": jnp.mean(error)}


def descend(gradient: Callable[[PyTree], PyTree], start: PyTree, rate: float | Array, steps: int) -> PyTree:
    """Where gradient descent comes through, from the start to the end."""

    def step(params: PyTree, _: None) -> tuple[PyTree, PyTree]:
        return jax.tree.map(lambda value, slope: value - rate * slope, params, gradient(params)), params

    return jax.lax.scan(step, start, length=steps + 1)[1]


def gradients(x: np.ndarray, y: np.ndarray) -> Outcomes:
    """By hand, by jax.grad and by central differences; in float64, where the last have ten digits."""

    @jax.jit
    def three_ways(params: Params, x: Array, y: Array) -> list[Params]:
        return [
            by_hand(params, x, y),
            jax.grad(loss)(params, x, y),
            nn.numerical_gradient(lambda params: loss(params, x, y), params),
        ]

    with enable_x64(True):
        params = {"w": np.ones(x.shape[1]), "b": np.ones(())}
        found = jax.device_get(three_ways(params, x.astype(float), y.astype(float)))
    return {way: np.append(g["w"], g["b"]) for way, g in zip(("by_hand", "jax_grad", "numerical"), found, strict=True)}


def surface(config: Config, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray) -> Outcomes:
    """Paths of w and b `[starts, steps + 1]` with the loss there; the loss on a grid; and where it is lowest."""

    @jax.jit
    def compute(x: Array, y: Array, starts: Array) -> Outcomes:
        def down(start: Array) -> Params:
            params = {"w": start[:1], "b": start[1]}
            return descend(lambda params: by_hand(params, x, y), params, config.learning_rate, config.steps)

        def losses(w: Array, b: Array) -> Array:
            return jax.vmap(jax.vmap(lambda w, b: loss({"w": w[None], "b": b}, x, y)))(w, b)

        path = jax.vmap(down)(starts)
        w, b = path["w"][..., 0], path["b"]
        grid = jnp.meshgrid(jnp.linspace(-5, 8, 60), jnp.linspace(-5, 6, 60))
        return {"paths": (w, b, losses(w, b)), "grid": (*grid, losses(*grid))}

    starts = jax.random.uniform(key, (config.starts, 2), minval=-4.5, maxval=5.5)
    with_ones = np.hstack([x, np.ones_like(x)]).astype(float)
    return {"x": x[:, 0], "y": y, "lowest": np.linalg.lstsq(with_ones, y.astype(float))[0], **compute(x, y, starts)}


def two_features(config: Config, key: PRNGKeyArray) -> Outcomes:
    """The bowl of the loss over two weights before and after scaling, and what scaling makes of the test part."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    train = random.uniform(0, config.ranges, (config.examples, 2)).astype(np.float32)
    test = random.uniform(0, 1.5 * np.array(config.ranges), train.shape).astype(np.float32)  # beyond what was seen
    y = (train @ np.array(config.weights) + random.normal(0, 0.1, len(train))).astype(np.float32)
    scale = nn.data.min_max(train)

    @jax.jit
    def path(x: Array, y: Array, rate: Array) -> Array:
        slope = jax.grad(lambda w: 0.5 * nn.mean_squared_error(x @ w, y))
        return descend(slope, jnp.zeros(2), rate, config.scaled_steps)

    found: Outcomes = {"scaled": np.asarray(scale(train)), "scaled_test": np.asarray(scale(test))}
    for name, x in (("before", train), ("after", found["scaled"])):
        H = x.T @ x / len(x)  # the loss is (w - lowest) H (w - lowest) / 2, and a constant
        lowest = np.linalg.solve(H, x.T @ y / len(x))
        flat, steep = np.linalg.eigvalsh(H)
        w = np.asarray(path(x, y, 2 / (flat + steep)))  # no other fixed rate arrives sooner
        left = np.linalg.norm(w - lowest, axis=1) / np.linalg.norm(lowest)
        found[name] = {"H": H, "lowest": lowest, "condition": steep / flat, "path": w, "left": left}
    return found


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """The surface with the paths, and the bowls of the two features."""
    return {"surface": draw_surface(outcomes), "scaling": draw_scaling(config, outcomes)}


def draw_surface(outcomes: Outcomes) -> Picture:
    """The loss over w and b with the paths on it; and the line of the first one as it settles into the data."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    above = figure.add_subplot(1, 2, 1, projection="3d", computed_zorder=False)
    above.plot_surface(*outcomes["grid"], cmap="viridis", alpha=0.55, linewidth=0)
    for w, b, height, colour in zip(*outcomes["paths"], (COLOURS[1], *COLOURS[3:]), strict=False):
        above.plot(w, b, height, color=colour, lw=2)
        above.plot(w[:1], b[:1], height[:1], "o", color=colour, ms=6)
    w, b = outcomes["lowest"]
    above.plot([w], [b], [np.min(outcomes["paths"][2])], "*", color="black", ms=11)
    above.set(xlabel="w", ylabel="b", zlabel="loss", title="loss, and paths from random starts")
    above.view_init(elev=38, azim=-50)
    above.set_box_aspect(None, zoom=0.88)

    data = figure.add_subplot(1, 2, 2)
    plain(data)
    data.scatter(outcomes["x"], outcomes["y"], s=9, color=GREY, alpha=0.6, linewidths=0)
    w, b, _ = (np.asarray(part)[0] for part in outcomes["paths"])
    steps = [*(step for step in (0, 3, 10, 30, 100) if step < len(w) - 1), len(w) - 1]
    for step, colour in zip(steps, colormaps["Oranges"](np.linspace(0.35, 1, len(steps))), strict=True):
        data.plot([0, 1], [b[step], b[step] + w[step]], color=colour, lw=1.8, label=f"step {step:,}")
    data.legend(frameon=False, fontsize=8, loc="lower right")
    data.set(xlabel="body mass index, scaled to [0, 1]", ylabel="progression of the disease / 100", xlim=(-0.02, 1.02))
    data.set_title("the line z = w x + b along the orange path")
    return Picture(
        figure,
        "Left: the loss over w and b, a valley in three dimensions; paths from five random starts first drop into the "
        "valley and then follow its bottom to one lowest point, a star. Right: the line of one path over the data, "
        "pale at first and far off; it turns until it lies along the rising cloud of points.",
    )


def draw_scaling(config: Config, outcomes: Outcomes) -> Picture:
    """Contours of both bowls with the paths, at one scale, and what is left of the way."""
    figure, ((*bowls, left),) = panels(1, 3, width=3.7, height=3.6)
    for axis, name, colour in zip(bowls, ("before", "after"), (COLOURS[1], COLOURS[0]), strict=True):
        found = outcomes[name]
        away = np.stack(np.meshgrid(np.linspace(-3.6, 3.6, 120), np.linspace(-3.6, 3.6, 120)))
        height = 0.5 * np.einsum("iab,ij,jab->ab", away, found["H"], away)
        where = away + found["lowest"][:, None, None]
        axis.contour(*where, height, levels=0.04 * 3.0 ** np.arange(8), colors=GREY, linewidths=0.6)
        axis.plot(*found["path"].T, "o-", color=colour, ms=3, lw=1)
        axis.plot(*found["lowest"], "*", color="black", ms=9)
        axis.set(aspect="equal", xlabel="first weight", ylabel="second weight", title=f"{name} scaling")
        curve(left, np.arange(config.scaled_steps + 1), found["left"], f"{name} scaling", colour)
    left.set(yscale="log", xlabel="step", title="distance left to the minimum", ylabel="of that at the start")
    left.legend(frameon=False, loc="lower left")
    return Picture(
        figure,
        "Contours of the loss over two weights at one scale. Left, before scaling: long narrow ellipses, in which the "
        "path jumps from side to side and ends far from the minimum, a star. Middle, after scaling: rounder ellipses, "
        "and the path arrives. Right: the distance left, on a logarithmic scale: two straight lines, of which the one "
        "after scaling falls far more steeply.",
    )


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """What arithmetic says; and that scaling helps."""
    before, after, gradients = outcomes["before"], outcomes["after"], outcomes["gradients"]
    w, b, losses = (np.asarray(part) for part in outcomes["paths"])
    squared_ratio = (config.ranges[1] / config.ranges[0]) ** 2
    suits = [found["H"][1, 1] / found["H"][0, 0] for found in (before, after)]

    def apart(way: str) -> float:
        return np.abs(gradients[way] - gradients["by_hand"]).max() / np.abs(gradients["by_hand"]).max()

    return [
        equal("A2", "least and largest value of the training part, scaled",
              (outcomes["scaled"].min(), outcomes["scaled"].max()), (0, 1), margin=1e-6, source="arithmetic"),
        near("A2", "largest value of the test part, which goes half as far again: it had no say in the scaling",
             outcomes["scaled_test"].max(), 1.5, 0.1, "arithmetic"),
        near("A2", "learning rate that suits the first weight, over that for the second, before scaling", suits[0],
             squared_ratio, 0.3 * squared_ratio, "arithmetic"),
        near("A2", "the same after scaling", suits[1], 1, 0.3, "arithmetic"),
        at_least("A2", "condition number before scaling: length over width of the valley, squared",
                 before["condition"], 40),
        at_most("A2", "the same after scaling", after["condition"], 10),
        at_least("A2", f"distance left after {config.scaled_steps} steps before scaling", before["left"][-1], 0.25),
        at_most("A2", "the same after scaling", after["left"][-1], 0.005),
        at_most("A9", "gradient by hand against jax.grad: largest difference over largest entry, in float64",
                apart("jax_grad"), 1e-14, "arithmetic"),
        at_most("A9", "gradient by hand against central differences", apart("numerical"), 1e-9, "arithmetic"),
        at_most("A10", "distance between the end of any path and the least squares solution",
                np.hypot(w[:, -1] - outcomes["lowest"][0], b[:, -1] - outcomes["lowest"][1]).max(), 1e-3, "arithmetic"),
        at_most("A10", "largest rise of the loss in any step", np.diff(losses).max(), 1e-6, "arithmetic"),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="linear_regression",
    rows=("A2", "A9", "A10"),
    formula=r"L = \tfrac{1}{2}(z - y)^2, \quad z = w x + b, \qquad "
    r"\frac{\partial L}{\partial w} = (z - y)\,x, \quad \frac{\partial L}{\partial b} = z - y",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
