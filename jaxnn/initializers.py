"""Initial weights: functions `(key, shape, dtype) -> array`, or functions that make one.

The form is that of `jax.nn.initializers`, whose own functions can stand wherever these can. Each raises a TypeError or
ValueError, when drawn, for what is not one key, a tuple of sizes and a floating-point dtype.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn._checks import Scalar, check_dtype, check_key, check_number, check_shape

__all__ = ["Initializer", "constant", "he", "normal", "xavier", "zeros"]


Initializer: TypeAlias = Callable[..., Array]  # (key, shape, dtype=None) -> array; None is JAX's default float


def zeros(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = None) -> Float[Array, "..."]:
    """All zeros: right for biases; for weights it keeps all units of a layer equal for ever.

    >>> import jax, jaxnn as nn
    >>> print(nn.zeros(jax.random.key(0), (2,)))
    [0. 0.]
    """
    _check_draw(key, shape, dtype)
    return jnp.zeros(shape, dtype)


def constant(value: Scalar) -> Initializer:
    """Every entry `value`.

    Raises:
        ValueError: a `value` given as a number is not finite.

    >>> import jax, jaxnn as nn
    >>> print(nn.constant(1.0)(jax.random.key(0), (2,)))
    [1. 1.]
    """
    check_number("value", value)

    def init(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = None) -> Array:
        _check_draw(key, shape, dtype)
        return jnp.full(shape, value, _float(dtype))

    return init


def normal(std: Scalar = 0.01) -> Initializer:
    """Gaussian of mean 0 and standard deviation `std`; the textbook's first choice is 0.01.

        W ~ N(0, std²)

    `std` may be traced: a sweep over initial scales is a `vmap`.

    Raises:
        ValueError: `std` is negative or not finite.

    >>> import jax, jaxnn as nn
    >>> W = nn.normal(0.01)(jax.random.key(0), (1000, 100))
    >>> print(f"{W.std():.3f}")
    0.010
    """
    check_number("std", std, at_least=0)

    def init(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = None) -> Array:
        _check_draw(key, shape, dtype)
        dtype = _float(dtype)
        # Drawn flat: the same numbers, and XLA compiles narrow matrices of random bits four times slower.
        return jnp.asarray(std, dtype) * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)

    return init


def xavier() -> Initializer:
    """Gaussian that keeps the variance through a layer with sigmoid or tanh (the textbook's Xavier).

        W ~ N(0, 1 / n_in),    n_in = the number of inputs that feed one unit

    Glorot & Bengio (2010, equation 12) average over both directions, 2 / (n_in + n_out): that is
    `jax.nn.initializers.glorot_normal()`, and PyTorch's `xavier_normal_`. This is the one-sided form
    of the textbook and of LeCun et al. (1998, section 4.6), without truncation.

    Raises:
        ValueError: the shape has fewer than two axes, when drawn.

    >>> import jax, jaxnn as nn
    >>> print(f"{nn.xavier()(jax.random.key(0), (100, 50)).std():.2f}")  # 1 / sqrt(100)
    0.10
    """
    return _fan_in_normal(1.0)


def he() -> Initializer:
    """Gaussian that keeps the variance through a layer with relu (He et al. 2015, equation 10).

        W ~ N(0, 2 / n_in),    n_in = the number of inputs that feed one unit

    Equals PyTorch's `kaiming_normal_(nonlinearity="relu")`; `jax.nn.initializers.he_normal()` truncates the
    Gaussian at two standard deviations (and widens it to make up for that), this does not.

    Raises:
        ValueError: the shape has fewer than two axes, when drawn.

    >>> import jax, jaxnn as nn
    >>> print(f"{nn.he()(jax.random.key(0), (50, 200)).std():.2f}")  # sqrt(2 / 50)
    0.20
    """
    return _fan_in_normal(2.0)


def _fan_in_normal(gain: float) -> Initializer:
    def init(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = None) -> Array:
        _check_draw(key, shape, dtype)
        if len(shape) < 2:
            raise ValueError(f"the number of inputs is not defined for weights of shape {shape}; it takes two axes")
        # W[in, out] and W[kernel_h, kernel_w, in, out]: all axes but the last feed a unit.
        n_in = math.prod(shape[:-1])
        return normal(math.sqrt(gain / max(n_in, 1)))(key, shape, dtype)

    return init


def _check_draw(key: Any, shape: Any, dtype: Any) -> None:
    check_key("key", key)
    check_shape("shape", shape, at_least=0)
    if dtype is not None:
        check_dtype("dtype", dtype)


def _float(dtype: Any) -> Any:
    return jnp.result_type(float) if dtype is None else dtype
