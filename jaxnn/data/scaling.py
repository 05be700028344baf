"""Scaling of features, fitted on the training data alone."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from jaxnn._checks import check_finite, first_bad, in_words, is_concrete

__all__ = ["MinMax", "Standardize", "min_max", "standardize"]

_BLOCK = 2**22  # values that are taken to float64 at a time


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class MinMax:
    """A fitted scaling to [0, 1]: a function `x -> (x - minimum) / (maximum - minimum)`, and a pytree."""

    minimum: Any  # array, of one feature each or a scalar for all
    maximum: Any

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Scale a batch `[n, …]`; a feature that was constant in training becomes its distance from that constant."""
        minimum, maximum = _beside(x, self.minimum), _beside(x, self.maximum)
        extent = jnp.where(maximum > minimum, maximum - minimum, 1)
        return (jnp.asarray(x, minimum.dtype) - minimum) / extent


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Standardize:
    """A fitted scaling to mean 0 and standard deviation 1: a function `x -> (x - mean) / std`, and a pytree."""

    mean: Any  # array, of one feature each or a scalar for all
    std: Any  # 0 where the feature was constant

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Scale a batch `[n, …]`; a feature that was constant in training becomes its distance from that constant."""
        mean, std = _beside(x, self.mean), _beside(x, self.std)
        return (jnp.asarray(x, mean.dtype) - mean) / jnp.where(std > 0, std, 1)

    def inverse(self, x: Array | np.ndarray) -> Array:
        """Undo the scaling, as for what a network that was trained on scaled targets predicts.

        >>> import numpy as np, jaxnn as nn
        >>> scale = nn.data.standardize(np.array([[1.0], [3.0]]))
        >>> print(scale.inverse(scale(np.array([[2.0], [7.0]]))).ravel())
        [2. 7.]
        """
        mean, std = _beside(x, self.mean), _beside(x, self.std)
        return jnp.asarray(x, mean.dtype) * jnp.where(std > 0, std, 1) + mean


def min_max(x: Num[Array | np.ndarray, "examples *shape"], axis: int | None = 0) -> MinMax:
    """Fit the scaling of each feature to [0, 1] (for `preprocess`).

        x' = (x - min) / (max - min)        min, max over the training data alone

    `axis=0` fits each feature by itself, right for columns of different units; `axis=None` fits one range to
    all, right for pixels. Values outside the training range land outside [0, 1]: give it the training data, and
    nothing that is measured later.

    Raises:
        TypeError: x is no array of real numbers.
        ValueError: x is empty, holds a value that is not finite, or a feature that varies by less than 64 times what
            float32 resolves at its size (an identity number, seconds since 1970): scaled, it would be steps.

    >>> import numpy as np, jaxnn as nn
    >>> scale = nn.data.min_max(np.array([[0, 10], [2, 30]]))
    >>> print(scale(np.array([[1, 30]])))
    [[0.5 1. ]]
    """
    _check(x, axis)
    dtype = jax.dtypes.canonicalize_dtype(float)
    return MinMax(np.asarray(np.min(x, axis=axis), dtype), np.asarray(np.max(x, axis=axis), dtype))


def standardize(x: Num[Array | np.ndarray, "examples *shape"], axis: int | None = 0) -> Standardize:
    """Fit the scaling of each feature to mean 0 and standard deviation 1 (for `preprocess`).

        x' = (x - mean) / std        mean, std = sqrt(mean of (x - mean)²) over the training data alone

    `axis=0` fits each feature by itself, `axis=None` one mean and one deviation to all. Usual for tables, whose columns
    have different units and sometimes long tails that would squeeze the rest of [0, 1]; LeCun et al. 1998, section 4.3.
    Mean and deviation are summed in float64. The deviation is that of the data, divided by n, as scikit-learn's
    StandardScaler has it.

    Raises:
        TypeError: x is no array of real numbers.
        ValueError: x is empty, holds a value that is not finite, or a feature that varies by less than 64 times what
            float32 resolves at its size (an identity number, seconds since 1970): scaled, it would be steps.

    >>> import numpy as np, jaxnn as nn
    >>> scale = nn.data.standardize(np.array([[0, 5], [2, 5]]))
    >>> print(scale(np.array([[2, 5], [4, 6]])))
    [[1. 0.]
     [3. 1.]]
    """
    _check(x, axis)
    dtype = jax.dtypes.canonicalize_dtype(float)
    x = np.asarray(x)
    mean = _mean(x, axis)
    low, high = (np.asarray(end(x, axis=axis), np.float64) for end in (np.min, np.max))
    # A power of two, which rounds nothing; without it, squares of what is near 1e±200 would be infinite or 0.
    unit = np.ldexp(0.5, np.frexp(np.maximum(high - mean, mean - low))[1])
    std = unit * np.sqrt(_mean(x, axis, around=mean, unit=unit))
    # Of a constant feature, rounding would leave a deviation that is tiny and not zero.
    std = np.where(low == high, 0.0, std)
    return Standardize(np.asarray(mean, dtype), np.asarray(std, dtype))


def _check(x: Array | np.ndarray, axis: int | None) -> None:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("x is a masked array, of which some examples have no value; fill or leave out what is masked")
    _check_real(x)
    if np.size(x) == 0 or np.ndim(x) == 0:
        raise ValueError(f"x must hold examples to fit a scaling to; got shape {np.shape(x)}")
    if axis is not None and (type(axis) is not int or axis != 0):
        raise ValueError(f"axis must be 0 (each feature by itself) or None (one range for all); got {in_words(axis)}")
    if not is_concrete(x):
        raise TypeError("x is traced; a scaling is fitted to values, outside of jit and vmap")
    check_finite("x", x)
    _check_resolved(x, axis)


def _check_real(x: Any) -> None:
    if not isinstance(x, np.ndarray | np.generic | jax.Array) or not (
        jnp.issubdtype(x.dtype, jnp.integer) or jnp.issubdtype(x.dtype, jnp.floating) or x.dtype == bool
    ):
        raise TypeError(f"x must be an array of real numbers; got {getattr(x, 'dtype', type(x).__name__)}")


def _check_resolved(x: Array | np.ndarray, axis: int | None) -> None:
    """Refuse features that differ, but not by enough for the floats that jax computes in."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    low, high = (np.asarray(end(x, axis=axis, keepdims=True), np.float64)[0] for end in (np.min, np.max))
    with np.errstate(over="ignore"):
        extent = (high - low).astype(dtype)
        bad = ~np.isfinite(extent) | ((high > low) & (extent < np.finfo(dtype).tiny))  # less than tiny may count as 0
        if not np.can_cast(x.dtype, dtype):
            bad |= (high > low) & (high - low < 64 * np.spacing(np.maximum(-low, high).astype(dtype)))
    if bad.any():
        where = first_bad(bad)
        name = f"x[:, {', '.join(map(str, where))}]" if axis == 0 else "x"
        raise ValueError(
            f"{name} lies between {low[where]} and {high[where]}, which {dtype} cannot hold or tell apart; "
            "subtract a constant first, or divide by one"
        )


def _mean(
    x: np.ndarray, axis: int | None, around: np.ndarray | None = None, unit: np.ndarray | float = 1.0
) -> np.ndarray:
    """The mean in float64, of x or of its squared distance from `around` in `unit`; no copy of all x is made."""
    examples = max(1, _BLOCK * len(x) // x.size)
    total = np.zeros(x.shape[1:] if axis == 0 else ())
    for start in range(0, len(x), examples):
        block = x[start : start + examples].astype(np.float64)
        total += np.sum(block if around is None else ((block - around) / unit) ** 2, axis=axis)
    return np.asarray(total / (len(x) if axis == 0 else x.size))


def _beside(x: Array | np.ndarray, fitted: Any) -> Array:
    """What was fitted, with as many axes as the batch.

    Raises:
        TypeError: the batch is no array of real numbers.
        ValueError: it has other features; broadcasting would scale them all the same, or by all.
    """
    _check_real(x)
    shape = np.shape(fitted)
    if shape and x.shape[-len(shape) :] != shape:
        raise ValueError(f"x has shape {x.shape}; this scaling was fitted to features of shape {shape}")
    return jnp.asarray(fitted).reshape((1,) * (x.ndim - len(shape)) + shape)
