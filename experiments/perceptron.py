"""How does a single neuron learn from its mistakes?

Rosenblatt's perceptron (1958) answers with the sign of w·x. Where it is right nothing happens; where it is wrong,
w moves towards the example or away from it:

    w <- w + rate (target - sign(w·x)) x        sign(0) = 1

The notes work it through by hand: three weights from (1, 0, 0), whose first input is always 1, rate 0.3, one pass over
six examples. Twice it is wrong and moves; then it tells new examples from one another. (Row D4.)

    python -m experiments.perceptron
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.pictures import COLOURS, GREY, Picture, panels


@dataclass(frozen=True)
class Config:
    """The notes' example."""

    learning_rate: float = 0.3
    """How far a mistake moves w."""
    examples: tuple[tuple[float, float], ...] = ((1, 3), (2, 5), (1, 8), (2, 15), (3, 7), (4, 29))
    """Inputs beside the constant 1, in the order in which they are shown."""
    targets: tuple[int, ...] = (1, 1, -1, -1, 1, -1)
    """Their classes, 1 and -1."""
    new_examples: tuple[tuple[float, float], ...] = ((9, 19), (9, 64), (5, 11))
    """To be classified afterwards."""
    passes: int = 1
    """Over the examples."""

    def __post_init__(self) -> None:
        if not len(self.examples) == len(self.targets) >= 6:
            raise ValueError("the figure takes six examples or more, each with its target")


def run(config: Config, key: PRNGKeyArray) -> Outcomes:
    """The weights before and after each example, and the answers to the new ones."""
    model, optimizer = nn.perceptron(), nn.sgd(config.learning_rate)
    x, y = jnp.array(config.examples, float), jnp.array(config.targets, float)[:, None]

    def show(state: nn.TrainState, example: tuple[Array, Array]) -> tuple[nn.TrainState, Array]:
        one_x, one_y = (part[None] for part in example)
        # Half the squared error, whose derivative is the rule's (sign(w·x) - target) x.
        state, _ = nn.train_step(model, lambda z, t: 0.5 * nn.mean_squared_error(z, t), optimizer, state, one_x, one_y)
        return state, weights(state.params)

    start = nn.init_state(model, optimizer, x.shape[1:], key)
    shown = (jnp.tile(x, (config.passes, 1)), jnp.tile(y, (config.passes, 1)))
    state, after = jax.lax.scan(show, start, shown)
    answers, _ = model.apply(state.params, state.model_state, jnp.array(config.new_examples, float))
    return {"w": jnp.concatenate([weights(start.params)[None], after]), "answers": answers[:, 0]}


def weights(params: nn.layers.Params) -> Array:
    """The bias is the weight of the constant 1: w = (b, W1, W2)."""
    return jnp.concatenate([params["dense1"]["b"], params["dense1"]["W"][:, 0]])


def draw(config: Config, outcomes: Outcomes) -> dict[str, Picture]:
    """A panel for each example: where w answers +, and where -."""
    w, x, y = np.asarray(outcomes["w"]), np.array(config.examples, float), np.array(config.targets)
    figure, axes = panels(2, 3, width=3.3, height=2.9, sharex=True, sharey=True)
    across, up = np.meshgrid(np.linspace(0, 10, 200), np.linspace(0, 68, 200))
    for number, axis in enumerate(axes.flat):
        before, now = w[number], w[number + 1]
        axis.contourf(
            across, up, now[0] + now[1] * across + now[2] * up >= 0, [-0.5, 0.5, 1.5], colors=["#fbe5d9", "#dbe9f4"]
        )
        for sign, marker, colour in ((1, "+", COLOURS[0]), (-1, "_", COLOURS[1])):
            seen = np.flatnonzero(y[: number + 1] == sign)
            axis.scatter(*x[seen].T, marker=marker, s=70, color=colour, linewidths=2)
        axis.scatter(*x[number], s=190, facecolors="none", edgecolors="black")
        moved = "right: w stays" if np.allclose(before, now) else "wrong: w moves to"
        axis.set_title(f"{number + 1}. {moved} ({', '.join(f'{value:.1f}' for value in now)})", fontsize=9)
    for point, answer in zip(np.array(config.new_examples, float), np.asarray(outcomes["answers"]), strict=True):
        axis.annotate("+" if answer > 0 else "−", point, ha="center", va="center", fontsize=11, color=GREY)
        axis.scatter(*point, s=140, marker="s", facecolors="none", edgecolors=GREY)
    for axis in axes[-1]:
        axis.set_xlabel("first input")
    for axis in axes[:, 0]:
        axis.set_ylabel("second input")
    alt = (
        "Six panels, one for each example shown, with the half plane that is answered plus in blue and minus in "
        "orange. The third example is answered wrongly, and all becomes minus; the fifth as well, and a border appears "
        "that separates all six. The three new examples, in squares, are answered plus, minus, plus."
    )
    return {"borders": Picture(figure, alt)}


def claims(config: Config, outcomes: Outcomes) -> list[Claim]:
    """Every weight that the notes have written down."""
    if not is_the_books(config):
        return []
    by_hand = [(1, 0, 0), (1, 0, 0), (0.4, -0.6, -4.8), (0.4, -0.6, -4.8), (1, 1.2, -0.6), (1, 1.2, -0.6)]
    return [
        *(
            equal("D4", f"w after example {number}", found, wanted, 1e-5, "the notes")
            for number, (found, wanted) in enumerate(zip(outcomes["w"][1:], by_hand, strict=True), start=1)
        ),
        equal("D4", "answers to (9, 19), (9, 64) and (5, 11)", outcomes["answers"], (1, -1, 1), source="the notes"),
    ]


EXPERIMENT = Experiment(
    name="perceptron",
    rows=("D4",),
    formula=r"w \leftarrow w + \eta\,(t - \operatorname{sign}(w \cdot x))\,x",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
)

if __name__ == "__main__":
    main(EXPERIMENT)
