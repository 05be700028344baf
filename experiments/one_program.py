"""What does it cost to train sixty-four networks instead of one?

The textbook trains one network after the other: one for each learning rate, one for each seed. But a training is a
function of its settings and a key, and what maps a function over an axis maps a whole training:

    W[i] <- W[i] - lr[i] ∂L/∂W[i]        for all i at once

`nn.sweep` compiles that as one program and deals its networks out to the devices, here one for each core. Expect a
network to cost the less the more of them there are: the many small products become a few wide ones, and all cores have
work. The numbers stay those of a loop, to rounding, on one device as on all. (Row X1.)

    python -m experiments.one_program --networks 1 2 4 8 16 32 64
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, panels


@dataclass(frozen=True)
class Config:
    """Our own numbers; the network is the textbook's."""

    networks: tuple[int, ...] = (1, 4, 16, 64)
    """How many are trained as one program."""
    hidden_size: int = 50
    """Units of the hidden layer."""
    examples: int = 10_000
    """Of the training data."""
    batch_size: int = 100
    """Examples per step."""
    epochs: int = 2
    """Passes over the examples."""
    smallest_rate: float = 0.003
    """Of the learning rates of SGD, which are spaced evenly on a logarithmic axis."""
    largest_rate: float = 3.0
    """Of them."""
    rounds: int = 3
    """Of timing, in turns; the quickest counts."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Losses `[networks, steps]` in one program, on one device alone and in a loop; seconds of each network."""
    train = data.first(config.examples)
    rates = np.geomspace(config.smallest_rate, config.largest_rate, max(config.networks), dtype=np.float32)

    def losses(rate: Array, key: PRNGKeyArray, train: nn.data.Dataset) -> Array:
        model = nn.two_layer_net(config.hidden_size)
        return nn.fit(
            model, nn.softmax_cross_entropy, nn.sgd(rate), train, key=key, epochs=config.epochs,
            batch_size=config.batch_size, metrics={}, preprocess=data.scale,
        ).history.loss  # fmt: skip

    def sweep(count: int, devices: list[jax.Device] | None = None) -> nn.SweepResult:
        def of_one(setting: dict[str, Array], key: PRNGKeyArray) -> Array:
            return losses(setting["learning_rate"], key, train)

        return nn.sweep(of_one, {"learning_rate": rates[:count]}, key=key, devices=devices, progress=False)

    loop = one_after_another(losses, rates, jax.random.fold_in(key, 0), train)  # the key of a sweep's first seed
    swept: dict[int, nn.SweepResult] = {}
    seconds: dict[int, list[float]] = {count: [] for count in config.networks}
    seconds_looped = []
    for _ in range(config.rounds):
        for count in config.networks:
            swept[count] = sweep(count)
            seconds[count].append(swept[count].run_seconds / count)
        began = time.perf_counter()
        looped = loop()
        seconds_looped.append((time.perf_counter() - began) / len(rates))
    return {
        "rates": rates,
        "swept": swept[len(rates)].outcomes[:, 0],
        "alone": sweep(len(rates), jax.devices()[:1]).outcomes[:, 0],
        "looped": looped,
        "programs": [result.programs for result in swept.values()],
        "seconds": [min(rounds) for rounds in seconds.values()],
        "seconds_looped": min(seconds_looped),
        "devices": len(jax.devices()),
    }


def one_after_another(
    losses: Callable[..., Array], rates: np.ndarray, key: PRNGKeyArray, train: nn.data.Dataset
) -> Callable[[], np.ndarray]:
    """The same trainings in a loop; the program of one is compiled once."""
    train = jax.tree.map(jnp.asarray, train)
    compiled = jax.jit(losses).lower(rates[0], key, train).compile()
    return lambda: np.stack([np.asarray(compiled(rate, key, train)) for rate in rates])


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Seconds of a network over their number; and what sixty-four rates are good for."""
    figure, ((left, right),) = panels(1, 2, width=4.8, height=3.5)
    count, milliseconds = np.array(config.networks), 1000 * np.array(outcomes["seconds"])
    looped = 1000 * outcomes["seconds_looped"]
    left.axhline(looped, color=COLOURS[1], lw=1.6, label=f"one after another: {looped:.3g} ms")
    left.plot(count, milliseconds, color=COLOURS[0], lw=1.6, marker="o", ms=4,
              label=f"as one program: {milliseconds[-1]:.3g} ms with {count[-1]}")  # fmt: skip
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    left.set_xticks(count, count)
    left.yaxis.set_major_formatter("{x:g}")
    low, high = min(looped, *milliseconds), max(looped, *milliseconds)
    left.set(ylim=(low / 1.5, 2.5 * high), xlabel="networks", ylabel="milliseconds a network")
    devices = f"{outcomes['devices']} devices" if outcomes["devices"] > 1 else "1 device"
    left.set_title(f"Time, on {devices}, compilation apart", fontsize=10)
    left.legend(frameon=False, fontsize=9, loc="upper right")

    steps = outcomes["swept"].shape[1] // config.epochs
    for label, values, style in (
        ("as one program", outcomes["swept"], {"color": COLOURS[0], "lw": 1.6}),
        (
            "one after another",
            outcomes["looped"],
            {"color": COLOURS[1], "marker": "o", "ms": 3.5, "mfc": "none", "lw": 0},
        ),
    ):
        right.plot(outcomes["rates"], values[:, -steps:].mean(axis=1), label=label, **style)
    right.set(xscale="log", xlabel="learning rate", ylabel=f"loss, mean over epoch {config.epochs}", ylim=(0, None))
    right.set_title("What they learn: the same", fontsize=10)
    right.legend(frameon=False, fontsize=9, loc="lower left")
    return {
        "time": Picture(
            figure,
            "Left, milliseconds that a network takes, over the number of networks that are trained as one program: "
            f"it ends at {milliseconds[-1]:.3g}, and one network after another takes {looped:.3g}. Right, the loss "
            "that they reach, over the learning rate: the circles of the loop lie on the line of the one program.",
        )
    }


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """One program, the same numbers, less time."""
    most = max(config.networks)

    def apart(name: str) -> float:
        return float(np.abs(outcomes[name] / outcomes["swept"] - 1).max())

    found = [
        equal("X1", "programs compiled for " + ", ".join(map(str, config.networks)) + " networks",
              outcomes["programs"], np.ones(len(config.networks))),
        at_most("X1", f"losses of {most} networks as one program, relatively away from those of a loop",
                apart("looped"), 1e-5, source="arithmetic"),
        at_most("X1", f"the same on one device, away from {outcomes['devices']}", apart("alone"), 1e-5,
                source="arithmetic"),
    ]  # fmt: skip
    if is_the_books(config):  # what is smaller is over too soon to be timed
        words = f"one network after another takes so many times the time of a network among {most}"
        found.append(at_least("X1", words, outcomes["seconds_looped"] / outcomes["seconds"][-1], 1.0))
    return found


EXPERIMENT = Experiment(
    name="one_program",
    rows=("X1",),
    formula=r"W_i \leftarrow W_i - \eta_i\, \partial L / \partial W_i \quad \text{for all } i \text{ at once}",
    config=Config(),
    quick=Config(networks=(1, 64), epochs=10, rounds=1),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
