"""Are the hand-written optimizers those of optax and PyTorch?

Where the formulas are equal, so are the paths: every one is taken down the valley of `optimizer_paths` in float64, by
ours, by optax's, and by PyTorch's if that is installed. Our optimizers are optax's citizens, and stand in its chains.

Elsewhere the same name stands for another formula. optax's AdaGrad begins with h = 0.1, the textbook's with 0; its
RMSprop forgets faster; both have eps under the root, the textbook beside it. PyTorch's have it beside the root too, but
smaller. And there are two formulas of Adam:

    W <- W - lr m_hat / (sqrt(v_hat) + eps)      Kingma & Ba 2015, algorithm 1; optax; PyTorch; nn.adam
    W <- W - lr_t m / (sqrt(v) + eps)            section 2; Keras; the textbook; nn.adam(eps_beside="v")

lr_t has the corrections of both means; eps counts for more in the early steps, as can be seen where it is 0.1. (Row
X6.)

    python -m experiments.optax_and_pytorch
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.optimizer_paths import draw_valley, f, path
from experiments.shared.claims import Claim, at_least, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.pictures import COLOURS, Picture, panels
from jaxnn.older_jax import enable_x64


@dataclass(frozen=True)
class Config:
    """The book's numbers of `optimizer_paths`; Nesterov's and RMSprop's are ours."""

    start: tuple[float, float] = (-7.0, 2.0)
    """Where all begin."""
    steps: int = 30
    """Of each."""
    sgd: float = 0.95
    """Learning rate of SGD."""
    momentum: float = 0.1
    """Of Momentum and Nesterov."""
    adagrad: float = 1.5
    """Of AdaGrad."""
    rmsprop: float = 0.1
    """Of RMSprop."""
    adam: float = 0.3
    """Of Adam."""


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """Paths `[1 + steps, 2]`: ours and PyTorch's; in pairs those of equal formulas, and of others of one name."""
    lr = config
    ours = {
        "SGD": nn.sgd(lr.sgd),
        "Momentum": nn.momentum(lr.momentum),
        "Nesterov": nn.nesterov(lr.momentum),
        "AdaGrad": nn.adagrad(lr.adagrad),
        "RMSprop": nn.rmsprop(lr.rmsprop),
        "Adam": nn.adam(lr.adam),
    }
    alike = {
        "SGD": (ours["SGD"], optax.sgd(lr.sgd)),
        "Momentum": (ours["Momentum"], optax.sgd(lr.momentum, 0.9)),
        "Nesterov": (ours["Nesterov"], optax.sgd(lr.momentum, 0.9, nesterov=True)),
        "AdaGrad, from h = 0 and without eps": (
            nn.adagrad(lr.adagrad, eps=1e-20),
            optax.adagrad(lr.adagrad, initial_accumulator_value=0.0, eps=0.0),
        ),
        "RMSprop, with the textbook's decay and eps beside the root": (
            ours["RMSprop"],
            optax.rmsprop(lr.rmsprop, decay=0.99, eps=1e-7, eps_in_sqrt=False),
        ),
        "Adam": (ours["Adam"], optax.adam(lr.adam)),
        "a chain of optax.trace and nn.sgd, and nn.momentum": (
            optax.chain(optax.trace(0.9), nn.sgd(lr.momentum)),
            ours["Momentum"],
        ),
    }
    apart = {
        "AdaGrad": (ours["AdaGrad"], optax.adagrad(lr.adagrad)),
        "RMSprop": (ours["RMSprop"], optax.rmsprop(lr.rmsprop)),
        "Adam, with eps 0.1": (nn.adam(lr.adam, eps=0.1, eps_beside="v"), optax.adam(lr.adam, eps=0.1)),
    }

    @jax.jit
    def paths(start: Array) -> Outcomes:
        is_optimizer = lambda node: isinstance(node, optax.GradientTransformation)  # noqa: E731
        optimizers = {"ours": ours, "alike": alike, "apart": apart}
        return jax.tree.map(lambda one: path(one, start, config.steps), optimizers, is_leaf=is_optimizer)

    # optax lets dtypes meet that are not the same.
    with enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = jax.device_get(paths(jnp.array(config.start, jnp.float64)))
    return found | {"pytorch": paths_by_pytorch(config)}


def path_by_pytorch(optimizer: Callable[..., Any], start: tuple[float, float], steps: int) -> np.ndarray:
    """A path by an optimizer of PyTorch."""
    torch = importlib.import_module("torch")
    place = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    moving = optimizer([place])
    places = [np.array(start)]
    for _ in range(steps):
        moving.zero_grad()
        f(place).backward()
        moving.step()
        places.append(place.detach().numpy().copy())
    return np.stack(places)


def paths_by_pytorch(config: Config) -> dict[str, np.ndarray]:
    """With the settings that make them equal."""
    if importlib.util.find_spec("torch") is None:
        return {}
    optim = importlib.import_module("torch").optim
    optimizers: dict[str, Callable[..., Any]] = {
        "SGD": lambda place: optim.SGD(place, config.sgd),
        "Momentum": lambda place: optim.SGD(place, config.momentum, 0.9),
        "Nesterov": lambda place: optim.SGD(place, config.momentum, 0.9, nesterov=True),
        "AdaGrad": lambda place: optim.Adagrad(place, config.adagrad, eps=1e-7),
        "RMSprop": lambda place: optim.RMSprop(place, config.rmsprop, eps=1e-7),
        "Adam": lambda place: optim.Adam(place, config.adam),
    }
    return {name: path_by_pytorch(one, config.start, config.steps) for name, one in optimizers.items()}


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """Where one name stands for two formulas."""
    figure, (axes,) = panels(1, 3, width=4.0, height=2.6, sharex=True, sharey=True)
    for axis, (name, (ours, other)) in zip(axes, outcomes["apart"].items(), strict=True):
        draw_valley(axis)
        axis.plot(*ours.T, "o-", color=COLOURS[0], ms=3, lw=1, label="textbook, jaxnn")
        axis.plot(*other.T, "s-", color=COLOURS[1], ms=3, lw=1, label="optax")
        axis.set(title=name, xlabel="x")
    axes[0].set_ylabel("y")
    axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    alt = (
        "Three panels with the contours of a valley and two paths each from the upper left, in blue by the textbook's "
        "formula and in orange by optax's. AdaGrad's two nearly agree. Of Adam's and RMSprop's one goes far ahead in "
        "thirty steps: with Adam optax's, with RMSprop the textbook's."
    )
    return {"apart": Picture(figure, alt)}


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """Equal where the formulas are; elsewhere apart."""
    found = [
        *(equal("X6", f"{name}: ours beside optax's", one, other, 1e-10, "optax")
          for name, (one, other) in outcomes["alike"].items()),
        *(equal("X6", f"{name}: ours beside PyTorch's", outcomes["ours"][name], other, 1e-9, "PyTorch")
          for name, other in outcomes["pytorch"].items()),
    ]  # fmt: skip
    if is_the_books(config):
        found += [
            at_least("X6", f"{name}: optax's is another formula, farthest apart", np.abs(one - other).max(),
                     0.1, "optax") for name, (one, other) in outcomes["apart"].items()
        ]  # fmt: skip
    return found


EXPERIMENT = Experiment(
    name="optax_and_pytorch",
    rows=("X6",),
    formula=r"W \leftarrow W - \frac{\eta\, \hat{m}}{\sqrt{\hat{v}} + \varepsilon}, \qquad "
    r"W \leftarrow W - \eta\, \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}\, \frac{m}{\sqrt{v} + \varepsilon}",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
