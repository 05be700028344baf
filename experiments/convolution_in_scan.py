"""Does a convolutional network train as fast inside one compiled program as in PyTorch's loop?

A training is a `lax.scan` over its steps. On a CPU, XLA's own convolution crawls inside one; jaxnn's is matrix products
there, of the image's patches and the filters (im2col), with a derivative of the same kind:

    y = patches(x) W        dL/dW = patches(x)' dL/dy        dL/dx: what lies on one pixel, of dL/dy W', added up

A step of the book's network, 30 filters of 5x5 and 100 hidden units with Adam, is timed with both, and with PyTorch if
that is installed. Expect the same losses, a step many times as fast as with XLA's convolution, and no slower than
PyTorch's. On a GPU jaxnn's convolution is XLA's own; there nothing is claimed of the time. (Row X4. `run` looks at the
clock.)

    python -m experiments.convolution_in_scan
"""

import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.pictures import COLOURS, GREY, Picture, panels


@dataclass(frozen=True)
class Config:
    """The book's network on images of MNIST's size."""

    filters: int = 30
    """Of the convolution."""
    filter_size: int = 5
    """Their height and width."""
    hidden_size: int = 100
    """Units of the dense layer behind it."""
    learning_rate: float = 0.001
    """Of Adam."""
    batch_size: int = 100
    """Examples per step."""
    steps: int = 30
    """Of training, in each timing."""
    rounds: int = 5
    """Timings of each contender, in turns; the median counts."""
    pytorch: bool = True
    """Time PyTorch too, if it is installed."""


class Timed(NamedTuple):
    """Of a contender."""

    milliseconds: float  # of a step
    losses: np.ndarray  # of the first steps


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """Train on noise of MNIST's size, in several ways; a `Timed` of each."""
    examples = config.steps * config.batch_size
    x, y = jax.random.uniform(key, (examples, 28, 28, 1)), jax.random.randint(key, (examples,), 0, 10)
    contenders = {
        "jaxnn, in lax.scan": scanned(config, nn.conv2d(config.filters, config.filter_size), x, y, key),
        "XLA's convolution, in lax.scan": scanned(config, xla_conv2d(config), x, y, key),
    }
    if config.pytorch and importlib.util.find_spec("torch") is not None:
        contenders["PyTorch, in a loop"] = in_pytorch(config, np.array(x), np.array(y))
    losses = {name: contender() for name, contender in contenders.items()}  # not timed: it warms up
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(config.rounds):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - began)
    return {name: Timed(1000 * float(np.median(seconds[name])) / config.steps, losses[name]) for name in contenders}


def xla_conv2d(config: Config) -> nn.Layer:
    """The same layer with XLA's convolution."""
    layer = nn.conv2d(config.filters, config.filter_size)

    def apply(params: nn.layers.Params, model_state: Any, x: Array, **_: Any) -> tuple[Array, Any]:
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, params["W"], (1, 1), "VALID", dimension_numbers=dimensions)
        return y + params["b"].reshape(1, 1, 1, -1), model_state

    return nn.Layer(layer.init, apply, layer.kind)


def scanned(config: Config, convolution: nn.Layer, x: Array, y: Array, key: PRNGKeyArray) -> Callable[[], np.ndarray]:
    """An epoch, a `lax.scan` over its steps, compiled."""
    model = nn.sequential(
        convolution, nn.activation(nn.relu), nn.max_pool2d(2), nn.flatten(),
        nn.dense(config.hidden_size), nn.activation(nn.relu), nn.dense(10),
    )  # fmt: skip
    optimizer = nn.adam(config.learning_rate)

    def epoch(state: nn.TrainState, x: Array, y: Array) -> tuple[nn.TrainState, Array]:
        return nn.train_epoch(
            model, nn.softmax_cross_entropy, optimizer, state, (x, y), batch_size=config.batch_size
        )  # fmt: skip

    start = nn.init_state(model, optimizer, x.shape[1:], key)
    compiled = jax.jit(epoch).lower(start, x, y).compile()
    return lambda: np.asarray(jax.block_until_ready(compiled(start, x, y))[1])


def in_pytorch(config: Config, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
    """The same as one writes it in PyTorch, in the layout that is its faster one on CPUs."""
    torch = importlib.import_module("torch")
    left = config.filters * ((28 - config.filter_size + 1) // 2) ** 2
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, config.filters, config.filter_size), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(left, config.hidden_size), torch.nn.ReLU(),
        torch.nn.Linear(config.hidden_size, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(y).long()

    def epoch() -> np.ndarray:
        losses = []
        for batch in torch.randperm(len(labels)).split(config.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return np.asarray(torch.stack(losses))

    return epoch


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """A bar for each contender."""
    figure, ((axis,),) = panels(width=6.4, height=2.1)
    for place, (milliseconds, _) in enumerate(outcomes.values()):
        axis.barh(place, milliseconds, color=GREY if place else COLOURS[0], height=0.6)
        axis.annotate(f" {milliseconds:.1f} ms", (milliseconds, place), va="center", fontsize=9)
    axis.set_yticks(range(len(outcomes)), list(outcomes))
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel(f"milliseconds of a training step, on the {jax.default_backend().upper()}")
    alt = (
        "Bars of the milliseconds of a training step: "
        + ", ".join(f"{name}, {one.milliseconds:.1f}" for name, one in outcomes.items())
        + "."
    )
    return {"time": Picture(figure, alt)}


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """The same losses; and, on a CPU, sooner."""
    ours, xla, *pytorch = outcomes.values()
    found = [
        at_most("X4", "losses with jaxnn's convolution, away from those with XLA's",
                np.abs(ours.losses - xla.losses).max(), 1e-3, source="arithmetic"),
    ]  # fmt: skip
    if jax.default_backend() == "cpu":
        words = "a step with XLA's convolution inside lax.scan, in steps with jaxnn's"
        found += [
            at_least("X4", words + " (PyTorch was not timed)" * (not pytorch), xla.milliseconds / ours.milliseconds, 2),
            *(at_least("X4", "a step of PyTorch, in steps of jaxnn", one.milliseconds / ours.milliseconds, 0.95)
              for one in pytorch),
        ]  # fmt: skip
    return found


EXPERIMENT = Experiment(
    name="convolution_in_scan",
    rows=("X4",),
    formula=r"y = \operatorname{patches}(x)\, W, \qquad "
    r"\frac{\partial L}{\partial W} = \operatorname{patches}(x)^\top \frac{\partial L}{\partial y}",
    config=Config(),
    quick=Config(steps=8, rounds=3, pytorch=False),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
