"""What does a single layer see in an image?

One layer multiplies the flattened image, a row of numbers, by a column of W for each class. Put into the grid of the
image, that column is a template, laid upon it; the products of all pixels add up to the class's output:

    z_c = Σ x[i, j] W[width i + j, c] + b_c        over the rows i and the columns j

W begins at 0, and the first step of gradient descent on all n images makes it the mean image of the class, against that
of all: W_c = lr (n_c / n mean_c - mean / 10). Where every image is black it never moves. Expect templates that look
like the digits that they stand for, and say where ink speaks against them. (Row D5.)

    python -m experiments.inside_one_layer
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import Animation, Picture, panels, signed_tiles, tiles


@dataclass(frozen=True)
class Config:
    """How long it learns, and how often we look, is our own."""

    learning_rate: float = 0.1
    """Of SGD."""
    examples: int = 10_000
    """Of the training data."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    looks: int = 25
    """Besides the one at the start."""
    steps_between: int = 16
    """From one look to the next."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """W and b as they move, `[looks, …]`; what the first step of all makes of them; and an image, as they see it."""
    model, optimizer = nn.mlp([], 10, initializer=nn.zeros), nn.sgd(config.learning_rate)
    x, y = map(jnp.asarray, data.first(config.examples))
    start = nn.init_state(model, optimizer, x.shape[1:], key)

    @jax.jit
    def step(state: nn.TrainState, x: Array, y: Array) -> tuple[nn.TrainState, Array]:
        return nn.train_step(model, nn.softmax_cross_entropy, optimizer, state, x, y, preprocess=data.scale)

    def next_step(state: nn.TrainState, _: None) -> tuple[nn.TrainState, Array]:
        batch = jax.random.randint(jax.random.fold_in(key, state.step), (config.batch_size,), 0, len(x))
        return step(state, x[batch], y[batch])

    def next_look(state: nn.TrainState, _: None) -> tuple[nn.TrainState, dict[str, dict[str, Array]]]:
        reached = jax.lax.scan(next_step, state, length=config.steps_between)[0]
        return reached, reached.params

    _, others = jax.lax.scan(next_look, start, length=config.looks)
    params = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start.params, others)
    image = data.scale(data.test.x[:1])
    return {
        "first_step": step(start, x, y)[0].params["dense1"]["W"],
        **params["dense1"],
        "image": image[0, :, :, 0],
        "flattened": nn.flatten().apply({}, {}, image)[0][0],
        "outputs": model.apply(jax.tree.map(lambda leaf: leaf[-1], params), {}, image)[0][0],
    }


def class_means(config: Config, data: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean image of each class `[10, pixels]`, the share that each class has, and the mean of all."""
    x, y = data.first(config.examples)
    pixels = np.asarray(data.scale(x), float).reshape(len(x), -1)
    means = np.stack([pixels[y == label].mean(axis=0) for label in range(10)])
    return means, np.bincount(y, minlength=10) / len(y), pixels.mean(axis=0)


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """The layer at work; and templates as they form."""
    return {"one_layer": draw_one_layer(outcomes), "templates": draw_templates(config, data, outcomes)}


def draw_one_layer(outcomes: Outcomes) -> Picture:
    """An image as a row; and in its grid, times the weights of its class."""
    image, flattened = np.asarray(outcomes["image"]), np.asarray(outcomes["flattened"])
    label, width = int(np.argmax(outcomes["outputs"])), image.shape[1]
    template = np.asarray(outcomes["W"][-1][:, label]).reshape(image.shape)
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    axes = figure.subplot_mosaic("AAA;BCD", height_ratios=(1, 7))
    axes["A"].imshow(flattened[None], aspect="auto", cmap="gray_r", extent=(0, flattened.size, 0, 1))
    axes["A"].set_title(f"an image x, flattened: {flattened.size} numbers in a row", fontsize=10)
    axes["A"].set_xticks(range(0, flattened.size + 1, width * max(1, len(image) // 7)))
    axes["A"].set_yticks([])
    tiles(axes["B"], image[None], 1)
    signed_tiles(axes["C"], template[None], 1)
    signed_tiles(axes["D"], (image * template)[None], 1)
    axes["B"].set_title("x, in its grid", fontsize=10)
    axes["C"].set_title(f"× W of class {label}, in the same grid", fontsize=10)
    axes["D"].set_title(f"= what adds up to z = {outcomes['outputs'][label]:.2f}", fontsize=10)
    return Picture(
        figure,
        "Above, an image as one row of grey values. Below, the same image in its grid; the weights of its class in "
        "that grid, red where ink speaks for the class and blue where it speaks against it; and the product of both, "
        "whose sum, with b, is the class's output.",
    )


def draw_templates(config: Config, data: Images, outcomes: Outcomes) -> Picture:
    """The mean image of each class, and W as it comes to look like it."""
    means, _, mean = class_means(config, data)
    looks = np.asarray(outcomes["W"])
    figure, ((above,), (below,)) = panels(2, 1, width=8.4, height=1.25)
    signed_tiles(above, (means - mean).reshape(10, *outcomes["image"].shape), 10)
    above.set_title("mean image of each class, less the mean of all", fontsize=10)

    def show(look: int) -> None:
        below.clear()
        signed_tiles(below, looks[look].T.reshape(10, *outcomes["image"].shape), 10)
        below.set_title(f"W of each class, after {look * config.steps_between} steps", fontsize=10)

    show(config.looks)
    return Picture(
        figure,
        "Above, the mean image of each class less the mean of all, red where there is more ink and blue where there "
        "is less. Below, the weights of each class in the same grid, which look like them.",
        Animation(show, config.looks + 1),
    )


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """The row and the grid; and what the layer learns."""
    image = np.asarray(outcomes["image"], float)
    means, shares, mean = class_means(config, data)
    W = np.asarray(outcomes["W"][-1], float)
    by_grid = np.einsum("ij,ijc->c", image, W.reshape(*image.shape, 10)) + np.asarray(outcomes["b"][-1])
    alike = np.corrcoef(W.T, means - mean)[:10, 10:]
    black = (data.first(config.examples).x == 0).all(axis=0).ravel()
    return [
        equal("D5", "a flattened image, put back into its grid", outcomes["flattened"].reshape(image.shape), image,
              source="arithmetic"),
        at_most("D5", "outputs of the layer, away from the sums over the grid",
                np.abs(outcomes["outputs"] - by_grid).max(), 1e-4, source="arithmetic"),
        equal("D5", "its first step on all images, by the classes' means", outcomes["first_step"],
              config.learning_rate * (shares[:, None] * means - mean / 10).T, margin=1e-6, source="arithmetic"),
        at_most("D5", f"largest weight of the {black.sum()} pixels that are black in every image",
                np.abs(W[black]).max(initial=0), 0, source="arithmetic"),
        at_least("D5", "correlation of W with the mean image, mean of the classes", alike.diagonal().mean(), 0.5),
        equal("D5", "classes whose W is more like the mean of another class",
              (alike.argmax(axis=1) != np.arange(10)).sum(), 0, source="our own"),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="inside_one_layer",
    rows=("D5",),
    formula=r"z_c = \sum_{i,j} x_{ij}\, W_{(w i + j),\, c} + b_c",
    config=Config(),
    quick=Config(looks=10, steps_between=40),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
