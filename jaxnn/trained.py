"""A trained network as its run folder keeps it: weights, scalings, and what its data was."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import data
from jaxnn.checkpoint import load_weights, save_weights
from jaxnn.config import TrainConfig
from jaxnn.data.description import Description
from jaxnn.data_options import Scaling, scaling_like
from jaxnn.evaluation import evaluate
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.objective import Objective, choose_objective
from jaxnn.presets import build_model
from jaxnn.run_folder import WEIGHTS, read_config

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


def save_trained(folder: Path, trained: Trained) -> None:
    """Write the network into its run folder."""
    save_weights(folder / WEIGHTS, trained.tree())


def load_trained(folder: Path) -> tuple[TrainConfig, Trained, str]:
    """Read a run folder: its settings, the network, and the digest of its data.

    Raises:
        ValueError: it holds no run, or one that is damaged.
    """
    config, about, data_sha256 = read_config(folder)
    model = build_model(config, about.outputs)
    params, model_state = jax.eval_shape(lambda key: model.init(key, about.shape)[:2], jax.random.key(0))
    assert config.scaling is not None
    one = np.zeros((1, len(about.targets)), np.float32)
    targets = data.standardize(one) if about.targets else None
    like = Trained(about, model, params, model_state, scaling_like(config.scaling, about.shape), targets)
    weights = load_weights(folder / WEIGHTS, like.tree())
    loaded = {{"preprocess": "scale"}.get(name, name): part for name, part in weights.items()}
    return config, like._replace(**loaded), data_sha256
