"""How do the filters of a convolutional network form while it learns?

The textbook's network has thirty filters of 5 x 5. From the book's initial weights, normal(0.01), noise becomes blobs
and edges: filters go many times their own length,

    way = |W - W_0| / |W_0|

and neighbouring weights grow alike. From he() the same network learns faster, and its filters hardly move: among thirty
random ones there are good ones, and the layers behind find them. (Row D5.)

    python -m experiments.inside_the_network
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Animation, Picture, panels, signed_tiles, tiles


@dataclass(frozen=True)
class Config:
    """The network is the book's; how long it learns, and how often we look, is our own."""

    filters: int = 30
    """Of the convolution."""
    filter_size: int = 5
    """Their height and width."""
    weight_init_std: float = 0.01
    """Of the book's initial weights."""
    learning_rate: float = 0.001
    """Of Adam."""
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
    """Filters from two beginnings as they move, `[looks, …]`; how far each layer goes; and an image, as they see it."""
    x, y = map(jnp.asarray, data.first(config.examples))
    image = data.scale(data.test.x[:1])
    initializers = (nn.normal(config.weight_init_std), nn.he())
    networks = jax.jit(lambda x, y, key: [watch(config, one, data.scale, x, y, key) for one in initializers])(x, y, key)
    return {
        "networks": networks,
        "image": image[0, :, :, 0],
        "seen": [nn.relu(nn.convolution.conv2d(image, net["W"][-1])[0] + net["b"][-1][None, None]) for net in networks],
    }


def watch(
    config: Config, initializer: nn.Initializer, scale: nn.data.MinMax, x: Array, y: Array, key: PRNGKeyArray
) -> dict[str, Array]:
    """Train, and look at the start and after every few steps: the filters, length and way of each layer, loss."""
    model = nn.simple_convnet(10, filters=config.filters, filter_size=config.filter_size, initializer=initializer)
    optimizer = nn.adam(config.learning_rate)
    start = nn.init_state(model, optimizer, x.shape[1:], key)

    def step(state: nn.TrainState, _: None) -> tuple[nn.TrainState, Array]:
        batch = jax.random.randint(jax.random.fold_in(key, state.step), (config.batch_size,), 0, len(x))
        return nn.train_step(model, nn.softmax_cross_entropy, optimizer, state, x[batch], y[batch], preprocess=scale)

    def look(state: nn.TrainState) -> dict[str, Array]:
        weights = [(layer["W"], start.params[name]["W"]) for name, layer in state.params.items()]
        lengths = jnp.stack([jnp.linalg.norm(W.ravel()) for W, _ in weights])
        ways = jnp.stack([jnp.linalg.norm((W - before).ravel()) for W, before in weights])
        return {**state.params["conv1"], "length": lengths, "way": ways}

    def next_look(state: nn.TrainState, _: None) -> tuple[nn.TrainState, tuple[dict[str, Array], Array]]:
        state, losses = jax.lax.scan(step, state, length=config.steps_between)
        return state, (look(state), losses.mean())

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


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Filters as they form; what they answer to an image; how far all layers go."""
    return {
        "filters": draw_filters(config, outcomes),
        "answers": draw_answers(config, outcomes),
        "movement": draw_movement(config, outcomes),
    }


def draw_filters(config: Config, outcomes: Outcomes) -> Picture:
    """All filters before training and as they form."""
    figure, axes = panels(2, 2, width=2.6, height=2.3)
    networks = list(zip(axes, BEGINNINGS, outcomes["networks"], strict=True))

    def show_filters(axis: Axes, net: dict[str, Array], look: int) -> None:
        axis.clear()
        W = np.asarray(net["W"][look])
        signed_tiles(axis, np.moveaxis(W[:, :, 0], -1, 0), 6)
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


def draw_answers(config: Config, outcomes: Outcomes) -> Picture:
    """An image, and the maps that the filters make of it."""
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


def draw_movement(config: Config, outcomes: Outcomes) -> Picture:
    """How far layers go, how filters become smooth, and the loss."""
    figure, ((left, middle, right),) = panels(1, 3, width=3.7, height=3.3)
    steps = np.arange(1, config.looks + 1) * config.steps_between
    for net, beginning, style in zip(outcomes["networks"], BEGINNINGS, ("-", "--"), strict=True):
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
    """How filters move."""
    book, he = outcomes["networks"]
    return [
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
    formula=r"\text{way} = \frac{\lVert W - W_0 \rVert}{\lVert W_0 \rVert}",
    config=Config(),
    quick=Config(looks=10, steps_between=40),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
