"""A trained network as its run folder keeps it: weights, scalings, and what its data was."""

from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import data
from jaxnn._tensors import Tensors, from_tensors, read_tensors, read_whole
from jaxnn.checkpoint import read_history
from jaxnn.checkpoint_folder import best_of, checkpoints_in
from jaxnn.data.description import Description
from jaxnn.data_options import Scaling, scaling_like
from jaxnn.evaluation import evaluate
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.objective import Objective, choose_objective
from jaxnn.presets import build_model
from jaxnn.run_folder import CHECKPOINTS, WEIGHTS, RunConfig, read_config
from jaxnn.weights import export

__all__ = ["Trained", "load_trained", "measure", "save_trained"]


class Trained(NamedTuple):
    """A network that a run has left behind."""

    about: Description
    model: Layer
    params: Params
    model_state: ModelState
    scale: Scaling
    targets: data.Standardize | None
    """Scaling of the numbers to predict; None for classes."""

    @property
    def objective(self) -> Objective:
        """What it was trained towards."""
        return choose_objective(self.targets)

    def scaled(self, part: data.Dataset) -> data.Dataset:
        """The data with its targets scaled, as the loss wants them."""
        return part if self.targets is None else part._replace(y=np.asarray(self.targets(part.y)))

    def tree(self) -> PyTree:
        """What is written to a file."""
        kept = {
            "params": self.params,
            "model_state": self.model_state,
            "preprocess": self.scale,
            "targets": self.targets,
        }
        return {name: part for name, part in kept.items() if part is not None}


def measure(trained: Trained, part: data.Dataset) -> float:
    """The objective's figure on all examples of a part."""
    objective = trained.objective
    metrics = {objective.metric_name: objective.metric}

    def of(params: Params, state: ModelState, part: data.Dataset) -> dict[str, jax.Array]:
        return evaluate(trained.model, params, state, part, metrics, preprocess=trained.scale)

    measured = jax.jit(of)(trained.params, trained.model_state, trained.scaled(part))
    return float(measured[objective.metric_name])


def save_trained(folder: Path, trained: Trained, run: str) -> None:
    """Write the network into the folder of its run."""
    export(folder / WEIGHTS, trained.tree(), {"run": run})


def load_trained(folder: Path, at: Literal["end", "last", "best"] = "end") -> tuple[RunConfig, Trained]:
    """Read a run folder: its settings, and the network at its end, its last checkpoint, or that of its best epoch.

    Raises:
        ValueError: it holds no run, one that is damaged, or no such checkpoint.
    """
    run = read_config(folder)
    config, about = run.config, run.about
    model = build_model(config, about.outputs)
    params, model_state = jax.eval_shape(lambda key: model.init(key, about.shape)[:2], jax.random.key(0))
    assert config.scaling is not None
    one = np.zeros((1, len(about.targets)), np.float32)
    targets = data.standardize(one) if about.targets else None
    like = Trained(about, model, params, model_state, scaling_like(config.scaling, about.shape), targets)
    path, tensors, own = _weights(folder) if at == "end" else _of_checkpoint(folder, at)
    if own != run.run:
        raise ValueError(f"{path}: is another run's than {folder / 'config.json'}")
    weights = from_tensors(tensors, like.tree(), str(path))
    loaded = {{"preprocess": "scale"}.get(name, name): part for name, part in weights.items()}
    return run, like._replace(**loaded)


def _weights(folder: Path) -> tuple[Path, Tensors, str | None]:
    path = folder / WEIGHTS
    if not path.exists():
        raise ValueError(
            f"{folder}: the run has not ended, and has no weights yet; jaxnn train --resume {folder} goes on with it"
        )
    tensors, about = read_tensors(read_whole(path), str(path))
    return path, tensors, about.get("run")


def _of_checkpoint(folder: Path, at: str) -> tuple[Path, Tensors, str | None]:
    """What of a checkpoint is the network."""
    paths = checkpoints_in(folder / CHECKPOINTS)
    path = best_of(folder / CHECKPOINTS) if at == "best" else paths[-1] if paths else None
    if path is None:
        raise ValueError(f"{folder}: has no checkpoint{' of a best epoch' if at == 'best' else ''}")
    _, tensors, about = read_history(path)
    kept = {name.removeprefix("beside/"): values for name, values in tensors.items()}
    parts = ("params/", "model_state/", "preprocess/", "targets/")
    return path, {name: values for name, values in kept.items() if name.startswith(parts)}, about["config"].get("run")
