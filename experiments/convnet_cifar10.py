"""How far does a convolutional network come on real photographs?

CIFAR-10: 60,000 colour photographs of 32x32 pixels, in ten classes such as cat, dog and ship; harder than digits, for a
cat has no template. A modest network of three layers, each of them

    convolution - batch norm - relu - max pool (2x2)

and the mean over what is left of the image, then one dense layer, learns them for a few minutes. Every image comes
mirrored half of the time and shifted by some pixels, so that it is never quite the same twice (augmentation); the
learning rate rises, then falls to 0. Expect seven of ten photographs right, and cats taken for dogs. (Row D2.)

    python -m experiments.convnet_cifar10 --epochs 20
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, equal, true
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_images
from experiments.shared.pictures import COLOURS, Picture, curve, panels, tiles

CLASSES = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Config:
    """Our own numbers."""

    filters: tuple[int, ...] = (32, 64, 128)
    """Of the layers."""
    batch_size: int = 128
    """Examples per step."""
    epochs: int = 8
    """Passes over all training data."""
    highest_rate: float = 0.01
    """Of Adam, after a quarter of the steps; it rises to it, and then falls to 0."""
    mirror: bool = True
    """Half of the images, left to right."""
    shift: int = 3
    """By how many pixels an image may be moved, up or down and sideways."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Loss and accuracy on the validation data by epoch; accuracy on, and outputs for, the test data at the end."""
    splits = jax.tree.map(jnp.asarray, (data.train, data.validation, data.test))
    compiled = jax.jit(lambda splits, key: learn(config, data.scale, splits, key))
    return {
        "augmented": jax.jit(lambda x: augmented(config, key, data.scale(x)))(splits[0].x[:20]),
        **compiled(splits, key),
    }


def learn(
    config: Config,
    scale: nn.data.MinMax,
    splits: tuple[nn.data.Dataset, nn.data.Dataset, nn.data.Dataset],
    key: PRNGKeyArray,
) -> Outcomes:
    """The whole training, a pure function of data and key."""
    train, validation, test = splits
    steps = config.epochs * (len(train.x) // config.batch_size)

    model = nn.convnet(10, blocks=[[filters] for filters in config.filters])
    optimizer = nn.adam(up_and_down(config.highest_rate, steps))

    def epoch(state: nn.TrainState, _: None) -> tuple[nn.TrainState, tuple[Array, Array]]:
        state, losses = nn.train_epoch(
            model, nn.softmax_cross_entropy, optimizer, state, train, batch_size=config.batch_size,
            preprocess=scale, augment=lambda key, x: augmented(config, key, x),
        )  # fmt: skip
        reached = nn.evaluate(model, state.params, state.model_state, validation, preprocess=scale)
        return state, (losses.mean(), reached["accuracy"])

    state = nn.init_state(model, optimizer, train.x.shape[1:], key)
    state, (losses, accuracies) = jax.lax.scan(epoch, state, length=config.epochs)

    def outputs(image: Array) -> Array:
        return model.apply(state.params, state.model_state, scale(image[None]))[0][0]

    logits = jax.lax.map(outputs, test.x, batch_size=500)
    return {
        "loss": losses,
        "validation": accuracies,
        "test": nn.accuracy(logits, jnp.asarray(test.y)),
        "outputs": logits,
    }


def augmented(config: Config, key: PRNGKeyArray, x: Array) -> Array:
    """Each image mirrored or not, and moved by some pixels; where it has moved away, it is black."""
    mirror_key, shift_key = jax.random.split(key)
    if config.mirror:
        x = jnp.where(jax.random.bernoulli(mirror_key, 0.5, (len(x), 1, 1, 1)), x[:, :, ::-1], x)
    margin = (config.shift, config.shift)
    wide = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))
    corners = jax.random.randint(shift_key, (len(x), 2), 0, 2 * config.shift + 1)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), x.shape[1:]))(wide, corners)


def up_and_down(highest: float | Array, steps: int) -> Callable[[Array], Array]:
    """A learning rate that rises to the highest in a quarter of the steps and falls to 0, in straight lines."""

    def rate(step: Array) -> Array:
        done = step.astype(jnp.float32) / steps
        return highest * jnp.minimum(4 * done, (1 - done) / 0.75)

    return rate


def confusion_of(data: Images, outcomes: Outcomes) -> np.ndarray:
    """A row for each class, a column for what it was taken for."""
    return np.asarray(nn.confusion_matrix(jnp.asarray(outcomes["outputs"]), jnp.asarray(data.test.y)))


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Its way; what it takes for what; and what it sees of each image."""
    return {
        "training": draw_training(config, outcomes),
        "confusion": draw_confusion(data, outcomes),
        "augmentation": draw_augmentation(data, outcomes),
    }


def draw_training(config: Config, outcomes: Outcomes) -> Picture:
    """Loss and accuracy by epoch."""
    figure, ((left, right),) = panels(1, 2, width=3.9, height=3.0)
    epochs = np.arange(1, config.epochs + 1)
    curve(left, epochs, outcomes["loss"], "loss", COLOURS[1], marker="o", ms=3)
    left.set(xlabel="epoch", ylabel="loss, mean over the epoch", ylim=(0, None))
    curve(right, epochs, outcomes["validation"], "validation data", COLOURS[0], marker="o", ms=3)
    right.axhline(outcomes["test"], color="black", lw=1, ls=":")
    right.annotate(f"test data, at the end: {outcomes['test']:.3f}", (1, outcomes["test"]), xytext=(0, 4), fontsize=9,
                   textcoords="offset points")  # fmt: skip
    right.set(xlabel="epoch", ylabel="accuracy on the validation data")
    right.margins(y=0.15)
    return Picture(
        figure,
        "Left, the loss falls over the epochs. Right, the accuracy on the validation data rises to about that on the "
        "test data at the end, the dotted line.",
    )


def draw_confusion(data: Images, outcomes: Outcomes) -> Picture:
    """The matrix, its diagonal left white."""
    confusion = confusion_of(data, outcomes)
    names = CLASSES if data.name == "cifar10" else [str(label) for label in range(10)]
    figure, ((axis,),) = panels(width=6.2, height=5.2)
    axis.grid(visible=False)
    mistakes = np.where(np.eye(10, dtype=bool), np.nan, confusion)
    axis.imshow(mistakes, cmap="Oranges", vmin=0)
    for row, column in np.ndindex(10, 10):
        is_dark = mistakes[row, column] > 0.6 * np.nanmax(mistakes)
        axis.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", fontsize=8,
                  color="white" if is_dark else "black", weight="bold" if row == column else "normal")  # fmt: skip
    axis.set_xticks(range(10), names, rotation=45, ha="right")
    axis.set_yticks(range(10), names)
    axis.set(
        xlabel="taken for", ylabel="is", title=f"{confusion.trace():,} of {confusion.sum():,} test images are right"
    )
    return Picture(
        figure,
        "A matrix of counts: each row a class, each column what its images were taken for. The diagonal, in bold, is "
        "by far the largest; the darker a cell beside it, the more of these mistakes.",
    )


def draw_augmentation(data: Images, outcomes: Outcomes) -> Picture:
    """Twenty images before and after it."""
    figure, ((above,), (below,)) = panels(2, 1, width=8.0, height=0.75)
    before = np.asarray(data.scale(data.train.x[:20]))
    for axis, images, title in (
        (above, before, "as they are"),
        (below, outcomes["augmented"], "as training sees them"),
    ):
        shown = np.asarray(images)[..., 0] if before.shape[-1] == 1 else np.clip(images, 0, 1)
        tiles(axis, shown, 20)
        axis.set_title(title, fontsize=10, loc="left")
    return Picture(
        figure,
        "Twenty training images, above as they are and below as a step of training sees them: moved by some pixels "
        "and, if they are photographs, half of them mirrored.",
    )


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """How far it comes, and what it takes for what."""
    confusion, labels, is_cifar = confusion_of(data, outcomes), np.asarray(data.test.y), data.name == "cifar10"
    both_ways = np.triu(confusion + confusion.T, 1)
    pair = [CLASSES[label] for label in np.unravel_index(both_ways.argmax(), both_ways.shape)]
    found = [
        equal("D2", "test images of each class in the confusion matrix", confusion.sum(axis=1),
              np.bincount(labels, minlength=10), source="arithmetic"),
        at_least("D2", f"test accuracy after {config.epochs} epochs", outcomes["test"], 0.7 if is_cifar else 0.9),
    ]  # fmt: skip
    if is_cifar:
        found.append(true("D2", "the two classes most often taken for one another", pair == ["cat", "dog"],
                          " and ".join(pair), "cat and dog"))  # fmt: skip
    return found


EXPERIMENT = Experiment(
    name="convnet_cifar10",
    rows=("D2",),
    formula=r"x \leftarrow \operatorname{maxpool}(\operatorname{relu}(\operatorname{batchnorm}(x * W)))",
    config=Config(),
    quick=Config(filters=(16, 32), batch_size=50, epochs=10, mirror=False, shift=1),
    run=run,
    draw=draw,
    claims=claims,
    load=lambda place: load_images("cifar10", place),
)

if __name__ == "__main__":
    main(EXPERIMENT)
