"""Losses: functions `(outputs, targets) -> scalar`, the mean over the batch. Penalties: `(params) -> scalar`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PyTree

from jaxnn._checks import Scalar, check_array, check_floating, check_labels, check_number

__all__ = [
    "cross_entropy",
    "l2_penalty",
    "mean_absolute_error",
    "mean_squared_error",
    "softmax_cross_entropy",
]


def mean_squared_error(outputs: Float[Array, "*shape"], targets: Num[Array, "..."]) -> Float[Array, ""]:
    """Mean squared error, for regression.

        L = mean over all entries of (z - y)²        ∂L/∂z = 2 (z - y) / number of entries

    Smooth, and its slope shrinks towards the minimum, where the absolute error's stays 1. The textbook halves
    it so that the 2 cancels: write `0.5 * mean_squared_error(z, y)`. Equals `torch.nn.MSELoss()`.

    Raises:
        ValueError: shapes differ; `(n, 1)` against `(n,)` would broadcast to `(n, n)` in silence.
        TypeError: outputs that are not floating point, or targets that are not numbers.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.mean_squared_error(jnp.array([[1.0], [2.0]]), jnp.array([[0.0], [4.0]])))
    2.5
    """
    return jnp.mean(_difference(outputs, targets) ** 2)


def mean_absolute_error(outputs: Float[Array, "*shape"], targets: Num[Array, "..."]) -> Float[Array, ""]:
    """Mean absolute error, for regression with outliers.

        L = mean over all entries of |z - y|        ∂L/∂z = sign(z - y) / number of entries, 0 at z = y

    Equals `torch.nn.L1Loss()`.

    Raises:
        ValueError: shapes differ; `(n, 1)` against `(n,)` would broadcast to `(n, n)` in silence.
        TypeError: outputs that are not floating point, or targets that are not numbers.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> print(nn.mean_absolute_error(jnp.array([[1.0], [2.0]]), jnp.array([[0.0], [4.0]])))
    1.5
    """
    difference = _difference(outputs, targets)
    # JAX's derivative of abs at 0 is 1.
    return jnp.mean(jnp.where(difference == 0, 0, jnp.abs(difference)))


def cross_entropy(
    probabilities: Float[Array, "*batch classes"], targets: Num[Array, "..."], eps: float | int = 1e-7
) -> Float[Array, ""]:
    """Cross-entropy of probabilities, as a softmax gives them.

        L = mean over the batch of -Σ_k t_k log p_k,        that is -log p[label] for integer labels

    Below `eps` the logarithm goes on along its tangent, so that a probability of 0 costs 1 - log(eps), about
    17, with slope -1/eps: large, and finite. From `eps` upwards the value is exact. The default is the
    textbook's, which adds it instead, -log(p + eps), and so is off by a hundredth at p = 1e-5.

    `targets` are integer labels `[batch]`, or rows of one-hot or other probabilities `[batch, classes]`. A label
    outside the classes is refused where it can be seen; under `jit` it makes the loss NaN.

    Raises:
        ValueError: fewer than two classes, shapes that do not match, labels out of range, or `eps` not above 0.
        TypeError: outputs that are not floating point, or labels that are not integers.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> p = jnp.array([[0.6, 0.4], [0.1, 0.9]])
    >>> print(f"{nn.cross_entropy(p[:1], jnp.array([0])):.2f} {nn.cross_entropy(p[1:], jnp.array([0])):.2f}")
    0.51 2.30
    """
    check_number("eps", eps, above=0)
    weights = _as_weights(probabilities, targets)
    surprise = -jnp.log(jnp.maximum(probabilities, eps)) + (1 - jnp.minimum(probabilities, eps) / eps)
    return _mean_over_classes(weights, surprise)


def softmax_cross_entropy(logits: Float[Array, "*batch classes"], targets: Num[Array, "..."]) -> Float[Array, ""]:
    """Softmax and cross-entropy in one, exact to rounding for logits of any size.

        L = mean over the batch of -Σ_k t_k log p_k,        p = softmax(z)
        -log p_k = log Σ_j e^(z_j) - z_k = log(1 + Σ_{j≠m} e^(z_j - z_m)) + z_m - z_k,    z_m the largest logit
        ∂L/∂z = (p - t) / batch

    The last form of -log p_k keeps even a loss of 1e-9 exact, where log(1 + 1e-9) would round to 0. Equals
    `torch.nn.CrossEntropyLoss()` and `optax.softmax_cross_entropy_with_integer_labels(…).mean()`. A logit of
    -inf is a class ruled out.

    `targets` are integer labels `[batch]`, or rows of one-hot or other probabilities `[batch, classes]`. A label
    outside the classes is refused where it can be seen; under `jit` it makes the loss NaN.

    Raises:
        ValueError: fewer than two classes, shapes that do not match, or labels out of range.
        TypeError: outputs that are not floating point, or labels that are not integers.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> logits = jnp.array([[1e4, -1e4], [0.0, 0.0]])
    >>> print(f"{nn.softmax_cross_entropy(logits, jnp.array([1, 0])):.2f}")  # (20000 + log 2) / 2
    10000.35
    """
    weights = _as_weights(logits, targets)
    # Any index would do for m, so the derivative treats it as fixed and is exact at ties too.
    is_largest = class_index(logits) == jnp.argmax(logits, axis=-1, keepdims=True).astype(jnp.int32)
    largest = jnp.sum(jnp.where(is_largest, logits, 0), axis=-1, keepdims=True)
    shifted = jnp.where(is_largest, 0, logits - largest)  # 0 by itself, so that no slope 1 - 1 cancels there
    rest = jnp.sum(jnp.where(is_largest, 0, jnp.exp(shifted)), axis=-1, keepdims=True)
    return _mean_over_classes(weights, jnp.log1p(rest) - shifted)


def l2_penalty(weight_decay: Scalar) -> Callable[[PyTree], Float[Array, ""]]:
    """Weight decay as a part of the loss (Krogh & Hertz 1991, equation 3).

        penalty = 1/2 · weight_decay · Σ W²        ∂penalty/∂W = weight_decay · W

    The sum goes over the weights: the leaves of `params` with two axes or more. Biases and batch norm's scales,
    which have one, are left alone, as the textbook does. With plain SGD this equals decoupled decay; with Adam it
    does not (Loshchilov & Hutter 2019). `weight_decay` may be traced.

    Raises:
        ValueError: `weight_decay` is negative or not finite; or, when called, no leaf is a weight.
        TypeError: when called: weights that are not floating point.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> params = {"dense1": {"W": jnp.array([[3.0, 4.0]]), "b": jnp.array([100.0])}}
    >>> print(nn.l2_penalty(0.1)(params))
    1.25
    """
    check_number("weight_decay", weight_decay, at_least=0)

    def penalty(params: PyTree) -> Float[Array, ""]:
        weights = [leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) >= 2]
        if not weights:
            raise ValueError("l2_penalty found no weights: no leaf of params has two axes or more")
        for W in weights:
            check_floating("l2_penalty", "weights", W)
        squares = sum((jnp.sum(W**2) for W in weights[1:]), start=jnp.sum(weights[0] ** 2))
        return jnp.asarray(0.5 * weight_decay, squares.dtype) * squares

    return penalty


def as_labels(outputs: Float[Array, "*batch classes"], targets: Num[Array, "..."]) -> Int[Array, "*batch"]:
    """Labels in int32, from integer labels or one-hot rows, once the shapes are known to fit."""
    check_floating("classification", "outputs", outputs)
    check_array("targets", targets, real=True)
    if 0 in outputs.shape[:-1]:
        raise ValueError(f"outputs have shape {outputs.shape}; expected one example or more")
    if outputs.ndim == 0 or outputs.shape[-1] < 2:
        raise ValueError(f"outputs have shape {outputs.shape}; expected [batch, classes] with two classes or more")
    if targets.shape == outputs.shape:
        return jnp.argmax(targets, axis=-1).astype(jnp.int32)
    if targets.shape != outputs.shape[:-1]:
        hint = " (use targets[:, 0])" if targets.shape == (*outputs.shape[:-1], 1) else ""
        raise ValueError(
            f"targets have shape {targets.shape}; expected integer labels {outputs.shape[:-1]}{hint} "
            f"or one-hot rows {outputs.shape}"
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets have dtype {targets.dtype}; expected integer labels (use targets.astype(int))")
    return targets.astype(jnp.int32)


def class_index(outputs: Float[Array, "*batch classes"]) -> Int[Array, "*batch classes"]:
    """The number of each output's class: 0, 1, 2 … along the last axis."""
    return jax.lax.broadcasted_iota(jnp.int32, outputs.shape, outputs.ndim - 1)


def _as_weights(outputs: Float[Array, "*batch classes"], targets: Num[Array, "..."]) -> Float[Array, "*batch classes"]:
    """The weight of each class in the loss: one-hot rows for labels, NaN for a label outside the classes."""
    labels = as_labels(outputs, targets)
    if targets.shape == outputs.shape:
        return targets.astype(outputs.dtype)
    classes = outputs.shape[-1]
    check_labels("targets", targets, classes)
    is_inside = (targets >= 0) & (targets < classes)  # before int32 could wrap a larger one
    one_hot = (labels[..., None] == class_index(outputs)).astype(outputs.dtype)
    return jnp.where(is_inside[..., None], one_hot, jnp.nan)


def _mean_over_classes(
    weights: Float[Array, "*batch classes"], surprise: Float[Array, "*batch classes"]
) -> Float[Array, ""]:
    # A class of weight 0 counts nothing even if its surprise is infinite.
    return jnp.mean(jnp.sum(jnp.where(weights == 0, 0, weights * surprise), axis=-1))


def _difference(outputs: Float[Array, "*shape"], targets: Num[Array, "..."]) -> Float[Array, "*shape"]:
    check_floating("a loss", "outputs", outputs)
    check_array("targets", targets, real=True)
    if outputs.shape != targets.shape:
        hint = ""
        if outputs.shape == (*targets.shape, 1):
            hint = " (use targets[:, None])"
        elif targets.shape == (*outputs.shape, 1):
            hint = " (use targets[:, 0])"
        raise ValueError(f"outputs have shape {outputs.shape} and targets {targets.shape}; expected the same{hint}")
    if outputs.size == 0:
        raise ValueError(f"outputs have shape {outputs.shape}; expected one example or more")
    return outputs - targets.astype(outputs.dtype)
