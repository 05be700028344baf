"""Optimizers, each an `optax.GradientTransformation` written out from the textbook. Ordered by complexity.

`init(params)` makes the state, a NamedTuple in the textbook's letters; `update(grads, state, params)` returns
what is added to the parameters, and the next state. They chain with optax, and optax's own can stand in their
place. A `learning_rate` is a number, a traced scalar, or a schedule `step -> rate` such as optax's. The state is
kept in float32 at least; updates come in the dtype of the gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxnn._checks import Scalar, check_number
from jaxnn._dtypes import at_least_float32

__all__ = ["adagrad", "adam", "momentum", "rmsprop", "sgd"]

Rate: TypeAlias = Scalar | Callable[[Any], Any]


class SGDState(NamedTuple):
    """State of `sgd`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken


class MomentumState(NamedTuple):
    """State of `momentum`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken
    v: PyTree  # velocity, structure of params


class AdaGradState(NamedTuple):
    """State of `adagrad`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken
    h: PyTree  # sum of squared gradients, structure of params


class RMSPropState(NamedTuple):
    """State of `rmsprop`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken
    h: PyTree  # moving mean of squared gradients, structure of params


class AdamState(NamedTuple):
    """State of `adam`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken, t
    m: PyTree  # first moment, structure of params
    v: PyTree  # second moment, structure of params


def sgd(learning_rate: Rate) -> optax.GradientTransformation:
    """Stochastic gradient descent (Robbins & Monro 1951).

        W <- W - lr g

    Equals `optax.sgd(lr)` and `torch.optim.SGD(lr)`.

    Raises:
        ValueError: a `learning_rate` given as a number is negative or not finite.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.sgd(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")
    -0.20
    """
    _check_rate(learning_rate)

    def init(params: PyTree) -> SGDState:
        del params
        return SGDState(_zero_count())

    def update(grads: PyTree, state: SGDState, params: PyTree = None) -> tuple[PyTree, SGDState]:
        del params
        lr = _rate_at(learning_rate, state.count)
        return _map(lambda g: -lr(g) * g, grads), SGDState(state.count + 1)

    return optax.GradientTransformation(init, update)


def momentum(learning_rate: Rate, momentum: Scalar = 0.9) -> optax.GradientTransformation:
    """Momentum (Polyak 1964, equation 9), in the textbook's form.

        v <- a v - lr g,    W <- W + v        a = momentum, in [0, 1)

    `optax.sgd(lr, momentum)` and `torch.optim.SGD` gather v <- a v + g and step by -lr v: the same path while
    the rate is constant; when it changes, theirs rescales the whole velocity and this only what comes in.

    Raises:
        ValueError: `learning_rate` or `momentum` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.momentum(0.1, momentum=0.9)
    >>> state = optimizer.init(jnp.array(1.0))
    >>> for _ in range(2):
    ...     update, state = optimizer.update(jnp.array(2.0), state)
    ...     print(f"{update:.2f}")
    -0.20
    -0.38
    """
    _check_rate(learning_rate)
    check_number("momentum", momentum, at_least=0, below=1)

    def init(params: PyTree) -> MomentumState:
        return MomentumState(_zero_count(), _map(_zeros, params))

    def update(grads: PyTree, state: MomentumState, params: PyTree = None) -> tuple[PyTree, MomentumState]:
        del params
        lr = _rate_at(learning_rate, state.count)
        v = _map(lambda v, g: _like(v, momentum) * v - lr(v) * _like(v, g), state.v, grads)
        return _map(_like, grads, v), MomentumState(state.count + 1, v)

    return optax.GradientTransformation(init, update)


def adagrad(learning_rate: Rate, eps: Scalar = 1e-7) -> optax.GradientTransformation:
    """AdaGrad (Duchi, Hazan & Singer 2011, section 1.1).

        h <- h + g²,    W <- W - lr g / (sqrt(h) + eps)        h starts at 0

    `torch.optim.Adagrad` is the same with eps = 1e-10. `optax.adagrad` starts h at 0.1 and has eps under
    the root, sqrt(h + eps): its first steps are far shorter for small gradients. `eps` is the textbook's.

    Raises:
        ValueError: `learning_rate` or `eps` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.adagrad(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # the first step has length lr, whatever the gradient
    -0.10
    """
    _check_rate(learning_rate)
    check_number("eps", eps, above=0)

    def init(params: PyTree) -> AdaGradState:
        return AdaGradState(_zero_count(), _map(_zeros, params))

    def update(grads: PyTree, state: AdaGradState, params: PyTree = None) -> tuple[PyTree, AdaGradState]:
        del params
        lr = _rate_at(learning_rate, state.count)
        h = _map(lambda h, g: h + _like(h, g) ** 2, state.h, grads)
        step = _map(lambda h, g: -lr(h) * _like(h, g) / (_sqrt(h) + _like(h, eps)), h, grads)
        return _map(_like, grads, step), AdaGradState(state.count + 1, h)

    return optax.GradientTransformation(init, update)


def rmsprop(learning_rate: Rate, decay: Scalar = 0.99, eps: Scalar = 1e-7) -> optax.GradientTransformation:
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5).

        h <- decay h + (1 - decay) g²,    W <- W - lr g / (sqrt(h) + eps)        h starts at 0

    `decay` and `eps` are the textbook's. `torch.optim.RMSprop` is the same with eps = 1e-8. `optax.rmsprop` has
    decay = 0.9 and eps = 1e-8 under the root; `optax.rmsprop(lr, decay=0.99, eps=1e-7, eps_in_sqrt=False)`
    equals this.

    Raises:
        ValueError: `learning_rate`, `decay` or `eps` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.rmsprop(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # lr / sqrt(1 - decay): the mean of squares starts at 0, uncorrected
    -1.00
    """
    _check_rate(learning_rate)
    check_number("decay", decay, at_least=0, below=1)
    check_number("eps", eps, above=0)

    def init(params: PyTree) -> RMSPropState:
        return RMSPropState(_zero_count(), _map(_zeros, params))

    def update(grads: PyTree, state: RMSPropState, params: PyTree = None) -> tuple[PyTree, RMSPropState]:
        del params
        lr = _rate_at(learning_rate, state.count)
        h = _map(lambda h, g: _like(h, decay) * h + _like(h, 1 - decay) * _like(h, g) ** 2, state.h, grads)
        step = _map(lambda h, g: -lr(h) * _like(h, g) / (_sqrt(h) + _like(h, eps)), h, grads)
        return _map(_like, grads, step), RMSPropState(state.count + 1, h)

    return optax.GradientTransformation(init, update)


def adam(
    learning_rate: Rate = 0.001,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    eps: Scalar = 1e-8,
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, algorithm 1), whose defaults these are.

        m <- beta1 m + (1 - beta1) g        m_hat = m / (1 - beta1^t)
        v <- beta2 v + (1 - beta2) g²       v_hat = v / (1 - beta2^t)
        W <- W - lr m_hat / (sqrt(v_hat) + eps)

    Equals `optax.adam` and `torch.optim.Adam`. The textbook adds eps = 1e-7 to sqrt(v) instead of
    sqrt(v_hat), which matters only for gradients near eps.

    Raises:
        ValueError: `learning_rate`, `beta1`, `beta2` or `eps` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.adam(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # the first step has length lr, whatever the gradient
    -0.10
    """
    _check_rate(learning_rate)
    check_number("beta1", beta1, at_least=0, below=1)
    check_number("beta2", beta2, at_least=0, below=1)
    check_number("eps", eps, above=0)

    def init(params: PyTree) -> AdamState:
        m = _map(_zeros, params)
        v = _map(_zeros, params)  # not `m` again: the state may be donated
        return AdamState(_zero_count(), m, v)

    def update(grads: PyTree, state: AdamState, params: PyTree = None) -> tuple[PyTree, AdamState]:
        del params
        count = state.count + 1
        lr = _rate_at(learning_rate, state.count)
        m = _map(lambda m, g: _like(m, beta1) * m + _like(m, 1 - beta1) * _like(m, g), state.m, grads)
        v = _map(lambda v, g: _like(v, beta2) * v + _like(v, 1 - beta2) * _like(v, g) ** 2, state.v, grads)

        def step(m: Array, v: Array) -> Array:
            t = count.astype(m.dtype)
            m_hat = m / (1 - _like(m, beta1) ** t)
            v_hat = v / (1 - _like(v, beta2) ** t)
            return -lr(m) * m_hat / (_sqrt(v_hat) + _like(v, eps))

        return _map(_like, grads, _map(step, m, v)), AdamState(count, m, v)

    return optax.GradientTransformation(init, update)


_map = jax.tree.map


def _check_rate(learning_rate: Any) -> None:
    if not callable(learning_rate):
        check_number("learning_rate", learning_rate, at_least=0)


def _rate_at(learning_rate: Rate, count: Int[Array, ""]) -> Callable[[Array], Float[Array, ""]]:
    """The rate of this step, in the dtype of the array it will meet."""
    rate = learning_rate(count) if callable(learning_rate) else learning_rate
    return lambda like: _like(like, rate)


def _like(array: Array, value: Any) -> Array:
    """A value in an array's dtype: a rate in float64 must not widen float32 parameters."""
    return jnp.asarray(value, array.dtype)


def _zeros(param: Array) -> Array:
    """Zeros for the state, in float32 at least: bfloat16 would round 0.999 to 1, and forget nothing."""
    return jnp.zeros(param.shape, at_least_float32(param.dtype))


def _sqrt(h: Array) -> Array:
    """The root, with slope 0 at 0: a gradient through a whole run meets weights that no example moves."""
    return jnp.where(h > 0, jnp.sqrt(jnp.where(h > 0, h, 1)), 0)


def _zero_count() -> Int[Array, ""]:
    return jnp.zeros((), jnp.int32)
