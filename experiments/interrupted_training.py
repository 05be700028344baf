"""Can a training be killed at any moment and lose nothing?

A process trains and is killed with SIGKILL, at a moment that chance draws anew in every run: no warning, no last word.
Another one goes on after the newest checkpoint. Expect what nobody would notice: the same bits as those of a training
that was left alone, in every weight, in the optimizer's state, in the loss of every step. For all that a run carries
from step to step is

    (params, model_state, opt_state, key, step)        step n draws its random numbers from fold_in(key, n)

and a checkpoint has it all. The weights alone would not do: with Adam's m and v begun anew at 0, the same mini-batches
lead elsewhere. (Row X5.)

    python -m experiments.interrupted_training
"""

import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, between, equal, true
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, panels, smooth
from jaxnn import runner
from jaxnn.checkpoint import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Config:
    """Our own numbers."""

    hidden_size: int = 50
    """Units of the hidden layer."""
    dropout: float = 0.2
    """Of those units: so every step draws random numbers."""
    learning_rate: float = 0.001
    """Of Adam."""
    examples: int = 10_000
    """Of the training data."""
    batch_size: int = 100
    """Examples per step."""
    epochs: int = 30
    """Passes over the examples."""


PATIENCE = 900  # seconds, with the process that goes on


def network(config: Config) -> tuple[nn.Layer, optax.GradientTransformation]:
    """The model and its optimizer."""
    return nn.mlp([config.hidden_size], 10, dropout=config.dropout), nn.adam(config.learning_rate)


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Checkpoints: that which a killed training leaves, and the last ones of those that come to their end."""
    part = data.first(config.examples)
    model, optimizer = network(config)
    like = jax.eval_shape(lambda key: nn.init_state(model, optimizer, part.x.shape[1:], key), key)
    # Between a quarter and three quarters of the way; by then the process is somewhere in the next epoch.
    first, last = (quarters * config.epochs // 4 * (len(part.x) // config.batch_size) for quarters in (1, 3))
    kill_after = int(np.random.default_rng().integers(first, last))  # not from the key: another moment in every run

    new = multiprocessing.get_context("spawn")
    settings = config, part, jax.tree.map(np.asarray, data.scale), np.asarray(jax.random.key_data(key))
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, name) for name in ("alone", "killed", "weights_alone")]
        _, killed, weights_alone = folders
        is_dead = new.Event()
        victim = new.Process(target=train, args=(*settings, [killed], 0, is_dead), daemon=True)
        survivor = new.Process(target=train, args=(*settings, folders, 60, is_dead), daemon=True)
        victim.start()
        survivor.start()
        while victim.is_alive() and not any(step_of(path) >= kill_after for path in saved(killed)):
            time.sleep(0.002)
        victim.kill()
        victim.join()
        if not saved(killed):
            survivor.kill()
            raise RuntimeError(f"the process ended with status {victim.exitcode} before its first checkpoint")
        left = load_checkpoint(saved(killed)[-1], like)
        forgetful = left._replace(state=left.state._replace(opt_state=optimizer.init(left.state.params)))
        weights_alone.mkdir()
        save_checkpoint(weights_alone / saved(killed)[-1].name, forgetful)
        is_dead.set()
        survivor.join(PATIENCE)
        if survivor.exitcode != 0:
            survivor.kill()
            raise RuntimeError(f"the process that goes on did not come to its end: status {survivor.exitcode}")
        ends = {folder.name: load_checkpoint(saved(folder)[-1], like) for folder in folders}
    return {
        "exit_code": victim.exitcode,
        "kill_after": kill_after,
        "left": left.history.loss,
        "losses": {name: end.history.loss for name, end in ends.items()},
        "states": {name: jax.tree.leaves((end.state.params, end.state.opt_state)) for name, end in ends.items()},
    }


def train(
    config: Config,
    data: nn.data.Dataset,
    scale: nn.data.MinMax,
    key_data: np.ndarray,
    folders: list[Path],
    seconds: float,
    is_dead: Event,
) -> None:
    """What a process does: train in each folder, from where its newest checkpoint is; all but the first afterwards."""
    jax.config.update("jax_platforms", "cpu")  # where the same program gives the same bits, whoever runs it
    key = jax.random.wrap_key_data(jnp.asarray(key_data))
    model, optimizer = network(config)
    for folder in folders:
        if folder != folders[0]:
            is_dead.wait()
        runner.train(
            model, nn.softmax_cross_entropy, optimizer, data, key=key, epochs=config.epochs,
            batch_size=config.batch_size, metrics={}, preprocess=scale,
            checkpoints=nn.Checkpoints(folder, seconds=seconds, resume=True),
        )  # fmt: skip


def saved(folder: Path) -> list[Path]:
    """Its checkpoints, from the oldest to the newest."""
    return sorted(folder.glob("step-*.safetensors"))


def step_of(checkpoint: Path) -> int:
    """After which it was saved."""
    return int(checkpoint.stem.removeprefix("step-"))


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """The losses of all, and how far they are from those of the training that was left alone."""
    figure, ((above,), (below,)) = panels(2, 1, width=8.2, height=2.7, sharex=True)
    losses, left = outcomes["losses"], len(outcomes["left"])
    steps = len(losses["alone"]) // config.epochs
    epochs = np.arange(1, len(losses["alone"]) + 1) / steps
    after = slice(left, None)
    lines: tuple[Any, ...] = (
        ("left alone", slice(None), losses["alone"], GREY, {"lw": 5, "alpha": 0.35}),
        ("until it was killed", slice(0, left), losses["killed"], COLOURS[0], {}),
        ("continued", after, losses["killed"], COLOURS[2], {}),
        ("continued, Adam's state lost", after, losses["weights_alone"], COLOURS[1], {}),
    )
    for label, shown, values, colour, style in lines:
        above.plot(epochs[shown], smooth(values, steps)[shown], color=colour, label=label, **{"lw": 1.6, **style})
        if label != "left alone":
            away = values - losses["alone"]
            below.plot(
                epochs[shown], away[shown], color=colour, lw=2.0 if not away.any() else 0.7, zorder=3 - away.any()
            )
    for axis in (above, below):
        axis.axvline(left / steps, color="black", lw=1, ls=":")
    above.set(ylabel="loss, mean over an epoch", yscale="log", xlim=(0, config.epochs))
    above.annotate("killed", (left / steps, 1), xycoords=("data", "axes fraction"), xytext=(4, -2), va="top",
                   textcoords="offset points", fontsize=9)  # fmt: skip
    handles = above.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    below.set(xlabel="epoch", ylabel="loss of each step,\naway from left alone")
    return {
        "losses": Picture(
            figure,
            "Above, the loss over the epochs: the training that was killed, at the dotted line, and then continued "
            "lies on the one that was left alone. Below, the difference of each step's loss: zero all the way, but for "
            "the training that lost Adam's state, which scatters widely from the kill on.",
        )
    }


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Not a bit differs; and it would, were not all saved."""
    losses, states = outcomes["losses"], outcomes["states"]
    steps, left = len(losses["alone"]), len(outcomes["left"])
    values = sum(leaf.size for leaf in states["alone"])

    def differing(one: np.ndarray, other: np.ndarray) -> int:
        return int((np.asarray(one).view(np.uint32) != np.asarray(other).view(np.uint32)).sum())

    def of_state(name: str) -> int:
        return sum(map(differing, states["alone"], states[name]))

    def of_losses(name: str) -> int:
        return differing(losses["alone"], losses[name])

    return [
        true("X5", "exit status of the killed process", outcomes["exit_code"] != 0, f"{outcomes['exit_code']}",
             "not 0"),
        between("X5", f"killed once step {outcomes['kill_after']:,} of {steps:,} was saved: steps in its checkpoint",
                left, outcomes["kill_after"], steps - 1),
        equal("X5", f"weights, moments and counts, of {values:,}, with another bit once it has been continued",
              of_state("killed"), 0, source="our own"),
        equal("X5", f"losses, of {steps:,}, with another bit", of_losses("killed"), 0, source="our own"),
        at_least("X5", "weights, moments and counts with another bit, were Adam's state lost",
                 of_state("weights_alone"), 0.3 * values),
        at_least("X5", f"losses, of the remaining {steps - left:,}, with another bit, were Adam's state lost",
                 of_losses("weights_alone"), 0.9 * (steps - left)),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="interrupted_training",
    rows=("X5",),
    formula=r"\text{state}_{n+1} = f(\text{state}_n, n), \qquad "
    r"\text{state} = (W, \text{moments}, m, v, \text{key}, \text{step})",
    config=Config(),
    quick=Config(batch_size=50, epochs=100),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
