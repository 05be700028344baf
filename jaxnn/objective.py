"""What a network is trained towards: classes, or numbers."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxnn import data
from jaxnn.evaluation import Loss
from jaxnn.losses import mean_squared_error, softmax_cross_entropy
from jaxnn.metrics import accuracy

__all__ = ["Objective", "choose_objective"]


class Objective(NamedTuple):
    """The loss, and the figure in which a person is told how good a network is."""

    loss: Loss
    metric_name: str
    metric: Loss


def choose_objective(targets: data.Standardize | None) -> Objective:
    """Cross-entropy and accuracy for classes; for numbers, scaled by `targets`, the squared error.

    A person is told the absolute error, in the units of the data.

    >>> import jax.numpy as jnp, numpy as np, jaxnn as nn
    >>> objective = choose_objective(nn.data.standardize(np.array([[50.0], [250.0]])))
    >>> print(objective.metric_name, objective.metric(jnp.array([[0.5]]), jnp.array([[0.0]])))
    mean_absolute_error 50.0
    """
    if targets is None:
        return Objective(softmax_cross_entropy, "accuracy", accuracy)

    def mean_absolute_error(outputs: Array, scaled: Array) -> Array:
        return jnp.mean(jnp.abs(targets.inverse(outputs) - targets.inverse(scaled)))

    return Objective(mean_squared_error, "mean_absolute_error", mean_absolute_error)
