"""Activation functions: elementwise, but for softmax. Ordered by complexity.

Each raises a TypeError for what is not floating point.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn._checks import check_floating, check_number, check_size

__all__ = ["identity", "leaky_relu", "relu", "sigmoid", "sign", "softmax", "tanh"]


def identity(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The activation that changes nothing, for an output layer of a regression.

        h(x) = x

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.identity(jnp.array([-1.5, 2.0])))
    [-1.5  2. ]
    """
    _check("identity", x)
    return x


def sign(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The perceptron's step (Rosenblatt 1958), with sign(0) = 1.

        h(x) = 1 if x >= 0, else -1

    `jnp.sign` gives 0 at 0, which is neither of the perceptron's two answers. NaN stays NaN. The derivative is
    0 everywhere, so nothing is learned through it; see `jaxnn.perceptron`.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.sign(jnp.array([-3.0, 0.0, 0.2])))
    [-1.  1.  1.]
    """
    _check("sign", x)
    return jnp.where(x >= 0, jnp.ones_like(x), jnp.where(x < 0, -jnp.ones_like(x), x))


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Rectified linear unit (Nair & Hinton 2010, section 2).

        h(x) = max(0, x)        h'(x) = 1 if x > 0, else 0

    The derivative at 0 is 0, as in the textbook, PyTorch and `jax.nn.relu` (`jnp.maximum(x, 0)` has 1/2).
    NaN stays NaN.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> print(nn.relu(jnp.array([-3.0, 0.0, 2.0])))
    [0. 0. 2.]
    >>> print(jax.grad(nn.relu)(0.0))
    0.0
    """
    _check("relu", x)
    return jnp.where(x <= 0, jnp.zeros_like(x), x)


def leaky_relu(x: Float[Array, "*shape"], negative_slope: float | int = 0.01) -> Float[Array, "*shape"]:
    """Leaky rectified linear unit (Maas, Hannun & Ng 2013, section 2).

        h(x) = x if x > 0, else negative_slope · x

    `negative_slope` is 0.01 as in the paper, PyTorch and JAX. The derivative at 0 is `negative_slope`.

    Raises:
        ValueError: a `negative_slope` given as a number is not finite.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.leaky_relu(jnp.array([-3.0, 2.0])))
    [-0.03  2.  ]
    """
    _check("leaky_relu", x)
    check_number("negative_slope", negative_slope)
    return jnp.where(x <= 0, negative_slope * x, x)


def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Hyperbolic tangent, the sigmoid centred on 0 (LeCun et al. 1998, section 4.4).

        h(x) = (e^x - e^-x) / (e^x + e^-x)        h'(x) = 1 - h(x)²

    `jnp.tanh` computes it without the overflow of the formula.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.tanh(jnp.array([0.0, 1000.0])))
    [0. 1.]
    """
    _check("tanh", x)
    return jnp.tanh(x)


def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Logistic function, from (-inf, inf) to (0, 1) (Rumelhart, Hinton & Williams 1986, equation 2).

        h(x) = 1 / (1 + e^-x) = e^x / (1 + e^x)        h'(x) = h(x) (1 - h(x))

    The first form serves x >= 0 and the second x < 0, so that the exponential never exceeds 1: nothing
    overflows, and the tail at -80 keeps its relative precision.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.sigmoid(jnp.array([-1000.0, 0.0, 1000.0])))
    [0.  0.5 1. ]
    """
    _check("sigmoid", x)
    small = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Turn logits into probabilities: positive, of sum 1 along `axis` (Bridle 1990, equation 1).

        y_k = e^(x_k) / Σ_j e^(x_j)

    The largest logit is subtracted first: the quotient stays the same and nothing overflows. For training use
    `jaxnn.softmax_cross_entropy`, which is exact where log(softmax(x)) is not.

    Raises:
        ValueError: x has no such `axis`.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.softmax(jnp.array([3.0, 1.0, -3.0])).round(2))
    [0.88 0.12 0.  ]
    """
    _check("softmax", x)
    if jnp.ndim(x) == 0:
        raise ValueError("softmax takes x with an axis of classes; got a scalar")
    check_size("axis", axis, at_least=-jnp.ndim(x), below=jnp.ndim(x))
    exponentials = jnp.exp(x - jnp.max(x, axis=axis, keepdims=True))
    return exponentials / jnp.sum(exponentials, axis=axis, keepdims=True)


def _check(function: str, x: Any) -> None:
    if not isinstance(x, float):  # which is an array without axes
        check_floating(function, "x", x)
