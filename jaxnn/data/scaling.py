"""Scaling of features, fitted on the training data alone."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from jaxnn._checks import check_finite

__all__ = ["MinMax", "min_max"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MinMax:
    """A fitted scaling to [0, 1]: a function `x -> (x - minimum) / (maximum - minimum)`, and a pytree."""

    minimum: Any  # array, of one feature each or a scalar for all
    maximum: Any

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Scale a batch `[n, …]`; a feature that was constant in training becomes its distance from that constant."""
        minimum, maximum = jnp.asarray(self.minimum), jnp.asarray(self.maximum)
        minimum, maximum = (part.reshape((1,) * (jnp.ndim(x) - part.ndim) + part.shape) for part in (minimum, maximum))
        extent = jnp.where(maximum > minimum, maximum - minimum, 1)
        return (jnp.asarray(x, minimum.dtype) - minimum) / extent


def min_max(x: Num[Array | np.ndarray, "examples *shape"], axis: int | None = 0) -> MinMax:
    """Fit the scaling of each feature to [0, 1] (for `preprocess`).

        x' = (x - min) / (max - min)        min, max over the training data alone

    `axis=0` fits each feature by itself, right for columns of different units; `axis=None` fits one range to
    all, right for pixels. Values outside the training range land outside [0, 1].

    Raises:
        ValueError: x is empty or holds a value that is not finite.

    >>> import numpy as np, jaxnn as nn
    >>> scale = nn.data.min_max(np.array([[0, 10], [2, 30]]))
    >>> print(scale(np.array([[1, 30]])))
    [[0.5 1. ]]
    """
    if np.size(x) == 0 or np.ndim(x) == 0:
        raise ValueError(f"x must hold examples to fit a scaling to; got shape {np.shape(x)}")
    if axis not in (0, None):
        raise ValueError(f"axis must be 0 (each feature by itself) or None (one range for all); got {axis}")
    check_finite("x", x)
    dtype = jax.dtypes.canonicalize_dtype(float)
    return MinMax(np.asarray(np.min(x, axis=axis), dtype), np.asarray(np.max(x, axis=axis), dtype))
