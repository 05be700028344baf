"""What does a network see in an image, and how do its weights move while it learns to?

One layer multiplies the flattened image, a row of numbers, by a column of W for each class. Put into the grid of the
image, that column is a template, laid upon it; the products of all pixels add up to the class's output:

    z_c = Σ x[i, j] W[width i + j, c] + b_c        over the rows i and the columns j

W begins at 0, and the first step of gradient descent on all n images makes it the mean image of the class, against that
of all: W_c = lr (n_c / n mean_c - mean / 10). Where every image is black it never moves.

The textbook's convolutional network learns small filters instead. From the book's normal(0.01), noise becomes blobs and
edges: filters go many times their own length, and neighbouring weights grow alike. From he() the same network learns
faster, and its filters hardly move: among thirty random ones there are good ones, and the layers behind find them.
(Row D5.)

    python -m experiments.inside_the_network
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Animation, Picture, panels, tiles


@dataclass(frozen=True)
class Config:
    """The networks are the book's; how long they learn, and how often we look, is our own."""

    filters: int = 30
    """Of the convolution."""
    filter_size: int = 5
    """Their height and width."""
    weight_init_std: float = 0.01
    """Of the book's initial weights."""
    learning_rate: float = 0.001
    """Of Adam, for the convolutional network."""
    sgd_rate: float = 0.1
    """Of SGD, for the one layer."""
    examples: int = 10_000
    """Of the training data."""
    batch_size: int = 100
    """Examples per step, drawn with replacement."""
    looks: int = 25
    """Besides the one at the start."""
    steps_between: int = 16
    """From one look to the next."""


BEGINNINGS = ("from normal(0.01), as in the book", "from he()")
LAYERS = ("convolution", "first dense layer", "last dense layer")


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """First layers as they move, `[looks, …]`; how far each layer has gone; and an image, as they see it."""
    x, y = map(jnp.asarray, data.first(config.examples))
    image = data.scale(data.test.x[:1])
    return jax.jit(functools.partial(_watched, config, data.scale))(x, y, image, key)


def _watched(config: Config, scale: nn.data.MinMax, x: Array, y: Array, image: Array, key: PRNGKeyArray) -> Outcomes:
    """One layer, and the convolutional network from two beginnings, on the same mini-batches."""
    one_layer, sgd = nn.mlp([], 10, initializer=nn.zeros), nn.sgd(config.sgd_rate)
    start = nn.init_state(one_layer, sgd, x.shape[1:], key)
    first_step, _ = nn.train_step(one_layer, nn.softmax_cross_entropy, sgd, start, x, y, preprocess=scale)
    watch = functools.partial(_looks, config, scale, x, y, key)
    templates = watch(one_layer, sgd)
    learned = {"dense1": {"W": templates["W"][-1], "b": templates["b"][-1]}}
    convnets = [
        watch(
            nn.simple_convnet(10, filters=config.filters, filter_size=config.filter_size, initializer=initializer),
            nn.adam(config.learning_rate),
        )
        for initializer in (nn.normal(config.weight_init_std), nn.he())
    ]
    return {
        "first_step": first_step.params["dense1"]["W"],
        "templates": templates,
        "convnets": convnets,
        "image": image[0, :, :, 0],
        "flattened": nn.flatten().apply({}, {}, image)[0][0],
        "outputs": one_layer.apply(learned, {}, image)[0][0],
        "seen": [nn.relu(nn.convolution.conv2d(image, net["W"][-1])[0] + net["b"][-1][None, None]) for net in convnets],
    }


def _looks(
    config: Config,
    scale: nn.data.MinMax,
    x: Array,
    y: Array,
    key: PRNGKeyArray,
    model: nn.Layer,
    optimizer: optax.GradientTransformation,
) -> dict[str, Array]:
    """Train, and look at the start and after every few steps: first layer, length and way of each layer, loss."""

    def step(state: nn.TrainState, _: None) -> tuple[nn.TrainState, Array]:
        batch = jax.random.randint(jax.random.fold_in(key, state.step), (config.batch_size,), 0, len(x))
        return nn.train_step(model, nn.softmax_cross_entropy, optimizer, state, x[batch], y[batch], preprocess=scale)

    def look(state: nn.TrainState) -> dict[str, Array]:
        first, *_ = state.params.values()
        weights = [(layer["W"], start.params[name]["W"]) for name, layer in state.params.items()]
        lengths = jnp.stack([jnp.linalg.norm(W.ravel()) for W, _ in weights])
        ways = jnp.stack([jnp.linalg.norm((W - before).ravel()) for W, before in weights])
        return {**first, "length": lengths, "way": ways}

    def next_look(state: nn.TrainState, _: None) -> tuple[nn.TrainState, tuple[dict[str, Array], Array]]:
        state, losses = jax.lax.scan(step, state, length=config.steps_between)
        return state, (look(state), losses.mean())

    start = nn.init_state(model, optimizer, x.shape[1:], key)
    _, (others, losses) = jax.lax.scan(next_look, start, length=config.looks)
    seen = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), look(start), others)
    return {**seen, "loss": losses}


def relative_way(net: dict[str, Array]) -> np.ndarray:
    """How far each layer is from where it began, against its length there, `[looks, layers]`."""
    return np.asarray(net["way"]) / np.asarray(net["length"][0])


def neighbours(net: dict[str, Array]) -> np.ndarray:
    """Correlation of the weights of filters with those beside and below them, by look."""
    W = np.asarray(net["W"], float)
    these, those = (
        np.concatenate([beside.reshape(len(W), -1), below.reshape(len(W), -1)], axis=1)
        for beside, below in ((W[:, :, :-1], W[:, :-1]), (W[:, :, 1:], W[:, 1:]))
    )
    return np.array([np.corrcoef(*pair)[0, 1] for pair in zip(these, those, strict=True)])


def class_means(config: Config, data: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean image of each class `[10, pixels]`, the share that each class has, and the mean of all."""
    x, y = data.first(config.examples)
    pixels = np.asarray(data.scale(x), float).reshape(len(x), -1)
    means = np.stack([pixels[y == label].mean(axis=0) for label in range(10)])
    return means, np.bincount(y, minlength=10) / len(y), pixels.mean(axis=0)


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """One layer at work; templates and filters as they form; how far all layers go."""
    return {
        "one_layer": _draw_one_layer(outcomes),
        "templates": _draw_templates(config, data, outcomes),
        "filters": _draw_filters(config, outcomes),
        "answers": _draw_answers(config, outcomes),
        "movement": _draw_movement(config, outcomes),
    }


def _signed(axis: Axes, values: ArrayLike, columns: int) -> None:
    """Tiles, each in colours of its own scale: red above 0, blue below; few colours, for the GIF's sake."""
    values = np.asarray(values)
    most = np.abs(values).max(axis=(1, 2), keepdims=True) + 1e-12
    colours = matplotlib.colormaps["RdBu_r"].resampled(21)
    tiles(axis, values / most, columns, cmap=colours, vmin=-1, vmax=1)


def _draw_one_layer(outcomes: Outcomes) -> Picture:
    image, flattened = np.asarray(outcomes["image"]), np.asarray(outcomes["flattened"])
    label, width = int(np.argmax(outcomes["outputs"])), image.shape[1]
    template = np.asarray(outcomes["templates"]["W"][-1][:, label]).reshape(image.shape)
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    axes = figure.subplot_mosaic("AAA;BCD", height_ratios=(1, 7))
    axes["A"].imshow(flattened[None], aspect="auto", cmap="gray_r", extent=(0, flattened.size, 0, 1))
    axes["A"].set_title(f"an image x, flattened: {flattened.size} numbers in a row", fontsize=10)
    axes["A"].set_xticks(range(0, flattened.size + 1, width * max(1, len(image) // 7)))
    axes["A"].set_yticks([])
    tiles(axes["B"], image[None], 1)
    _signed(axes["C"], template[None], 1)
    _signed(axes["D"], (image * template)[None], 1)
    axes["B"].set_title("x, in its grid", fontsize=10)
    axes["C"].set_title(f"× W of class {label}, in the same grid", fontsize=10)
    axes["D"].set_title(f"= what adds up to z = {outcomes['outputs'][label]:.2f}", fontsize=10)
    return Picture(
        figure,
        "Above, an image as one row of grey values. Below, the same image in its grid; the weights of its class in "
        "that grid, red where ink speaks for the class and blue where it speaks against it; and the product of both, "
        "whose sum, with b, is the class's output.",
    )


def _draw_templates(config: Config, data: Images, outcomes: Outcomes) -> Picture:
    means, _, mean = class_means(config, data)
    looks = np.asarray(outcomes["templates"]["W"])
    figure, ((above,), (below,)) = panels(2, 1, width=8.4, height=1.25)
    _signed(above, (means - mean).reshape(10, *outcomes["image"].shape), 10)
    above.set_title("mean image of each class, less the mean of all", fontsize=10)

    def show(look: int) -> None:
        below.clear()
        _signed(below, looks[look].T.reshape(10, *outcomes["image"].shape), 10)
        below.set_title(f"W of each class, after {look * config.steps_between} steps", fontsize=10)

    show(config.looks)
    return Picture(
        figure,
        "Above, the mean image of each class less the mean of all, red where there is more ink and blue where there "
        "is less. Below, the weights of each class in the same grid, which look like them.",
        Animation(show, config.looks + 1),
    )


def _draw_filters(config: Config, outcomes: Outcomes) -> Picture:
    figure, axes = panels(2, 2, width=2.6, height=2.3)
    networks = list(zip(axes, BEGINNINGS, outcomes["convnets"], strict=True))

    def show_filters(axis: Axes, net: dict[str, Array], look: int) -> None:
        axis.clear()
        W = np.asarray(net["W"][look])
        _signed(axis, np.moveaxis(W[:, :, 0], -1, 0), 6)
        when = f"after {look * config.steps_between} steps" if look else "before"
        axis.set_title(f"{when}, up to ±{np.abs(W).max():.2f}", fontsize=10)

    def show(look: int) -> None:
        for (_, right), _, net in networks:
            show_filters(right, net, look)

    for (left, _), beginning, net in networks:
        show_filters(left, net, 0)
        left.text(-0.05, 0.5, beginning, rotation=90, transform=left.transAxes, ha="right", va="center", fontsize=10)
    show(config.looks)
    return Picture(
        figure,
        f"{config.filters} filters before and after training, from two beginnings. Above, from normal(0.01), noise has "
        "turned into blobs and edges. Below, from he(), the filters look as they did before.",
        Animation(show, config.looks + 1),
    )


def _draw_answers(config: Config, outcomes: Outcomes) -> Picture:
    figure, ((left, middle, right),) = panels(1, 3, width=3.0, height=2.7, width_ratios=(1, 3, 3))
    tiles(left, outcomes["image"][None], 1)
    left.set_title("an image", fontsize=10)
    for axis, beginning, seen in zip((middle, right), BEGINNINGS, outcomes["seen"], strict=True):
        tiles(axis, np.moveaxis(np.asarray(seen), -1, 0), 6)
        axis.set_title(f"seen by filters {beginning}", fontsize=10)
    return Picture(
        figure,
        f"An image, and what {config.filters} filters make of it once they have learned: each has other parts of it "
        "in black. Those from normal(0.01) are more alike than those from he().",
    )


def _draw_movement(config: Config, outcomes: Outcomes) -> Picture:
    figure, ((left, middle, right),) = panels(1, 3, width=3.7, height=3.3)
    steps = np.arange(1, config.looks + 1) * config.steps_between
    for net, beginning, style in zip(outcomes["convnets"], BEGINNINGS, ("-", "--"), strict=True):
        for layer, way, colour in zip(LAYERS, relative_way(net)[1:].T, COLOURS, strict=False):
            left.plot(steps, way, style, color=colour, lw=1.6, label=layer if style == "-" else None)
        middle.plot([0, *steps], neighbours(net), style, color=COLOURS[0], lw=1.6, label=beginning)
        right.plot(steps, net["loss"], style, color="black", lw=1.6, label=beginning)
    left.set_title("way from the start, in lengths of W there", fontsize=10)
    left.set(yscale="log", ylim=(0.01, None))
    middle.set_title("correlation of a filter's neighbouring weights", fontsize=10)
    middle.set(ylim=(-0.2, 1))
    right.set_title("loss", fontsize=10)
    right.set(yscale="log")
    for axis in (left, middle, right):
        axis.set_xlabel("step")
        axis.legend(frameon=False, fontsize=8)
    return Picture(
        figure,
        "Three panels over the steps, for two beginnings, solid from normal(0.01) and dashed from he(). The solid "
        "layers go several times their own length, the dashed ones less than it; neighbouring weights of a filter "
        "come to agree on the solid line and hardly on the dashed one; the dashed loss falls first.",
    )


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """The row and the grid; what one layer learns; how filters move."""
    image, templates = np.asarray(outcomes["image"], float), outcomes["templates"]
    means, shares, mean = class_means(config, data)
    W = np.asarray(templates["W"][-1], float)
    by_grid = np.einsum("ij,ijc->c", image, W.reshape(*image.shape, 10)) + np.asarray(templates["b"][-1])
    alike = np.corrcoef(W.T, means - mean)[:10, 10:]
    black = (data.first(config.examples).x == 0).all(axis=0).ravel()
    book, he = outcomes["convnets"]
    return [
        equal("D5", "a flattened image, put back into its grid", outcomes["flattened"].reshape(image.shape), image,
              source="arithmetic"),
        at_most("D5", "outputs of one layer, away from the sums over the grid",
                np.abs(outcomes["outputs"] - by_grid).max(), 1e-4, source="arithmetic"),
        equal("D5", "its first step on all images, by the classes' means", outcomes["first_step"],
              config.sgd_rate * (shares[:, None] * means - mean / 10).T, margin=1e-6, source="arithmetic"),
        at_most("D5", f"largest weight of the {black.sum()} pixels that are black in every image",
                np.abs(W[black]).max(initial=0), 0, source="arithmetic"),
        at_least("D5", "correlation of W with the mean image, mean of the classes", alike.diagonal().mean(), 0.5),
        equal("D5", "classes whose W is more like the mean of another class",
              (alike.argmax(axis=1) != np.arange(10)).sum(), 0, source="our own"),
        at_least("D5", "way of the filters from normal(0.01), in lengths", relative_way(book)[-1, 0], 3),
        at_most("D5", "way of the filters from he(), in lengths", relative_way(he)[-1, 0], 0.6),
        between("D5", "correlation of a filter's neighbouring weights, at the start", neighbours(book)[0], -0.2, 0.2,
                source="arithmetic"),
        at_least("D5", "the same at the end, from normal(0.01)", neighbours(book)[-1], 0.3),
        at_least("D5", "mean loss from normal(0.01), above that from he()",
                 book["loss"].mean() - he["loss"].mean(), 0.05),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="inside_the_network",
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
