"""Why must initial weights differ from one another?

Units of a layer that start alike get the same gradient, take the same step, and stay alike for ever: fifty of them then
compute what one would. So it is if all weights are 0, and if all are any other number.

    h_j = f(Σ_i x_i W1_ij)    ∂L/∂W1_ij = x_i f'(·) Σ_k δ_k W2_jk    the same for all j, as long as W1_ij and W2_jk are

The textbook's network of 50 hidden units is trained from four starts, on the same mini-batches and as one compiled
program. Expect one distinct unit from start to end, and a poor network, where all weights start equal; fifty, and a
good one, from N(0, 0.01²). With relu and zeros not even that one unit learns: no gradient passes it. (Row C3.)

    python -m experiments.weight_symmetry
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, curve, panels, smooth, tiles


@dataclass(frozen=True)
class Config:
    """The book's network and loop."""

    hidden_size: int = 50
    """Units of the hidden layer."""
    constant: float = 0.01
    """What all weights are, in the start from a constant."""
    weight_init_std: float = 0.01
    """Standard deviation of the weights, in the start from the normal distribution."""
    learning_rate: float = 0.1
    """Of SGD."""
    batch_size: int = 100
    """Images per step, drawn with replacement."""
    iterations: int = 2000
    """Steps."""
    looks: int = 40
    """How often units are counted, the first time at the start."""
    seeds: int = 2
    """Independent runs of each start."""

    def __post_init__(self) -> None:
        if self.looks < 1 or self.iterations % self.looks or self.iterations < 1:
            raise ValueError(f"{self.looks} looks do not divide {self.iterations} iterations")


ZEROS, CONSTANT, NORMAL, RELU = range(4)
STARTS = ("zeros", "a constant", "normal", "zeros with relu")


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Losses `[4, seeds, iterations]`, distinct units `[4, seeds, looks]`, accuracy, and the hidden layers."""
    train = data.official

    def one(start: dict[str, Array], key: PRNGKeyArray) -> Outcomes:
        def initializer(key: PRNGKeyArray, shape: tuple[int, ...], dtype: None = None) -> Array:
            return nn.constant(start["constant"])(key, shape, dtype) + nn.normal(start["std"])(key, shape, dtype)

        def activation(z: Array) -> Array:
            return jnp.where(start["is_relu"], nn.relu(z), nn.sigmoid(z))

        model = nn.mlp([config.hidden_size], 10, activation=activation, initializer=initializer)
        optimizer = nn.sgd(config.learning_rate)
        first, order = jax.random.split(key)
        x, labels = jnp.asarray(train.x), jnp.asarray(train.y)
        state = nn.init_state(model, optimizer, x.shape[1:], first)

        def step(state: nn.TrainState, batch: Array) -> tuple[nn.TrainState, Array]:
            return nn.train_step(
                model, nn.softmax_cross_entropy, optimizer, state, x[batch], labels[batch], preprocess=data.scale
            )

        def look(state: nn.TrainState, batches: Array) -> tuple[nn.TrainState, tuple[Array, Array]]:
            units = distinct_units(state.params)
            state, losses = jax.lax.scan(step, state, batches)
            return state, (losses, units)

        shape = (config.looks, config.iterations // config.looks, config.batch_size)
        batches = jax.random.randint(order, shape, 0, len(x))
        last, (losses, units) = jax.lax.scan(look, state, batches)
        return {
            "losses": losses.reshape(-1),
            "units": units,
            "initial_W1": state.params["dense1"]["W"],
            "W1": last.params["dense1"]["W"],
            **nn.evaluate(model, last.params, last.model_state, data.test, preprocess=data.scale),
        }

    starts = {
        "constant": np.array([0, config.constant, 0, 0], np.float32),
        "std": np.array([0, 0, config.weight_init_std, 0], np.float32),
        "is_relu": np.array([False, False, False, True]),
    }
    return nn.sweep(one, starts, key=key, seeds=config.seeds, progress=False).outcomes


def distinct_units(params: PyTree) -> Array:
    """How many hidden units there are, of which no two have the same weights in and out, to a thousandth."""
    units = jnp.concatenate([params["dense1"]["W"].T, params["dense1"]["b"][:, None], params["dense2"]["W"]], axis=1)
    apart = jnp.abs(units[:, None] - units[None]).max(axis=-1)
    is_like_an_earlier_one = jnp.tril(apart <= 1e-3 * jnp.abs(units).max(), -1).any(axis=1)
    return jnp.sum(~is_like_an_earlier_one)


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Loss and number of distinct units over the iterations; and the hidden layers in the end."""
    figure, axes = panels(1, 2, width=4.6)
    iterations = np.arange(1, config.iterations + 1)
    looks = np.arange(config.looks) * (config.iterations // config.looks)
    window = max(1, config.iterations // 40)
    lines = zip((COLOURS[1], COLOURS[5], COLOURS[0], COLOURS[6]), ("-", "--", "-", ":"), strict=True)
    for start, (colour, style) in enumerate(lines):
        label = f"{STARTS[start]}: test accuracy {outcomes['accuracy'][start].mean():.2f}"
        curve(axes[0, 0], iterations, smooth(outcomes["losses"][start], window), label, colour, ls=style)
        curve(axes[0, 1], looks, outcomes["units"][start], label, colour, ls=style)
    axes[0, 0].set(xlabel="iteration", ylabel="loss of the mini-batch", ylim=(0, None))
    axes[0, 0].set_title(f"Mean of the last {window} mini-batches", fontsize=9)
    axes[0, 1].legend(frameon=False, fontsize=9, loc="center")
    axes[0, 1].set(xlabel="iteration", ylabel="distinct hidden units", ylim=(0, 1.1 * config.hidden_size))
    for start, words in ((NORMAL, "normal"), (ZEROS, "zeros, a constant, zeros with relu")):
        count = outcomes["units"][start, 0, 0]
        axes[0, 1].annotate(f"{words}: {count}", (looks[len(looks) // 2], count), (0, 5), textcoords="offset points",
                            ha="center", fontsize=9)  # fmt: skip
    alt = (
        f"Two panels, on {data.title}. From normal weights the loss falls to a fraction and all "
        f"{config.hidden_size} hidden units are distinct throughout. From zeros and from a constant the number of "
        "distinct units is 1 throughout, and the loss falls late and little; with relu and zeros it stays where it was."
    )
    hidden, axes = panels(1, 2, width=4.6, height=2.6)
    for axis, start in zip(axes.flat, (CONSTANT, NORMAL), strict=True):
        W1 = outcomes["W1"][start, 0].T.reshape(config.hidden_size, *data.train.x.shape[1:3])
        largest = np.abs(W1).max()
        tiles(axis, W1, 10, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axis.set_title(f"start: {STARTS[start]}", fontsize=10)
    hidden.suptitle("Weights into each hidden unit after training, as images", fontsize=10)
    return {
        "symmetry": Picture(figure, alt),
        "units": Picture(
            hidden,
            f"The weights into the {config.hidden_size} hidden units as small images, red for positive and blue for "
            "negative: from a constant the same image at every unit, from normal weights a different one at each.",
        ),
    }


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Who stays alike, who does not, and what it costs."""
    units, W1, accuracy = outcomes["units"], outcomes["W1"], outcomes["accuracy"]
    alike = "distinct hidden units, the most at any look"
    found = [
        equal("C3", f"from {STARTS[start]}: {alike}", units[start].max(), 1, source="the notes")
        for start in (ZEROS, CONSTANT, RELU)
    ]
    apart = [np.ptp(W1[start], axis=-1).max() for start in (ZEROS, CONSTANT)]
    return [
        equal("C3", "initial weights of the starts from zeros and from a constant",
              [outcomes["initial_W1"][start].max() for start in (ZEROS, CONSTANT)], (0, config.constant), 1e-7),
        *found,
        at_most("C3", "from zeros, a constant: how far units are apart in the end", max(apart), 1e-3, "arithmetic"),
        at_least("C3", "from zeros the weights do move: largest of W1 in the end", np.abs(W1[ZEROS]).max(), 0.05),
        equal("C3", "from zeros with relu they do not: largest of W1", np.abs(W1[RELU]).max(), 0, source="arithmetic"),
        equal("C3", "from normal weights: the fewest at any look", units[NORMAL].min(), config.hidden_size),
        at_least("C3", "from normal weights: test accuracy", accuracy[NORMAL], 0.8),
        at_most("C3", "from zeros: test accuracy", accuracy[ZEROS], 0.6),
        at_most("C3", "from a constant: test accuracy", accuracy[CONSTANT], 0.6),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="weight_symmetry",
    rows=("C3",),
    formula=r"W_{1,j} = W_{1,j'},\; W_{2,j} = W_{2,j'} \;\Rightarrow\; \nabla_{W_{1,j}} L = \nabla_{W_{1,j'}} L",
    config=Config(),
    quick=Config(learning_rate=0.5, iterations=600, looks=20),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
