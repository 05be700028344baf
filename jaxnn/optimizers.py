"""Optimizers, each an `optax.GradientTransformation` written out from its source. Ordered by complexity.

`init(params)` makes the state, a NamedTuple in the textbook's letters; `update(grads, state, params)` returns
what is added to the parameters, and the next state. They chain with optax, and optax's own can stand in their
place. A `learning_rate` is a number, a traced scalar, or a schedule `step -> rate` such as optax's. The state is
kept in float32 at least, and the arithmetic done in it; updates come in the dtype of the gradients or of the
parameters, whichever is wider. The settings in the tables of differences are run by the tests, from the page
`docs/optimizers.md`; the textbook is *Deep Learning from Scratch*.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from jaxnn._checks import Scalar, check_choice, check_flag, check_number
from jaxnn._transitions import (
    Rate,
    check_floating,
    check_rate,
    check_state,
    check_update,
    gradient,
    like,
    map_leaves,
    moving_mean,
    one_minus_power,
    rate_at,
    root,
    times,
    updates_of,
    widened,
    zero_count,
    zeros,
)

__all__ = ["adagrad", "adam", "momentum", "nesterov", "rmsprop", "sgd"]


class SGDState(NamedTuple):
    """State of `sgd`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken


class MomentumState(NamedTuple):
    """State of `momentum` and `nesterov`."""

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
    m: PyTree | None  # moving mean of gradients where `centered`
    v: PyTree | None  # velocity where there is momentum


class AdamState(NamedTuple):
    """State of `adam` and `adamw`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken, t
    m: PyTree  # first moment, structure of params
    v: PyTree  # second moment, structure of params


def sgd(learning_rate: Rate) -> optax.GradientTransformation:
    """Stochastic gradient descent (Robbins & Monro 1951).

        W <- W - lr g

    Differs from    in                          removed by
        optax       nothing                     optax.sgd(lr)
        PyTorch     nothing                     torch.optim.SGD(params, lr)
        textbook    nothing                     SGD(lr)

    Raises:
        ValueError: a `learning_rate` given as a number is negative or not finite.
        TypeError, ValueError: from `init` and `update`, for a leaf that is not floating point; from `update`, for
            gradients of another structure or shape than the parameters. So do all optimizers.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.sgd(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")
    -0.20
    """
    check_rate(learning_rate)

    def init(params: PyTree) -> SGDState:
        check_floating(params)
        return SGDState(zero_count())

    def update(grads: PyTree, state: SGDState, params: PyTree = None) -> tuple[PyTree, SGDState]:
        check_state(state, SGDState)
        check_update(grads, params, params)
        lr = rate_at(learning_rate, state.count)
        steps = map_leaves(lambda g: -lr(g) * g, map_leaves(widened, grads))
        return updates_of(steps, grads, params), SGDState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def momentum(learning_rate: Rate, momentum: Scalar = 0.9) -> optax.GradientTransformation:
    """Momentum (Polyak 1964, equation 9), in the textbook's form.

        v <- a v - lr g,    W <- W + v        a = momentum, in [0, 1)

    Differs from    in                          removed by
        optax       a rate that changes: its    optax.chain(optax.scale_by_learning_rate(schedule), optax.trace(a))
                    step is lr v of v <- a v    is this; optax.chain(optax.trace(a), nn.sgd(schedule)) is optax's
                    + g, so that a new rate     and PyTorch's. At a constant rate optax.sgd(lr, a) is the same
                    rescales the old velocity
        PyTorch     the same, under a           at a constant rate torch.optim.SGD(params, lr, a) is the same
                    scheduler
        textbook    nothing                     Momentum(lr, a)

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
    check_rate(learning_rate)
    check_number("momentum", momentum, at_least=0, below=1)

    def init(params: PyTree) -> MomentumState:
        check_floating(params)
        return MomentumState(zero_count(), map_leaves(zeros, params))

    def update(grads: PyTree, state: MomentumState, params: PyTree = None) -> tuple[PyTree, MomentumState]:
        check_state(state, MomentumState)
        check_update(grads, params, state.v)
        lr = rate_at(learning_rate, state.count)
        v = map_leaves(lambda v, g: times(momentum, v) - lr(v) * gradient(v, g), state.v, grads)
        return updates_of(v, grads, params), MomentumState(optax.safe_increment(state.count), v)

    return optax.GradientTransformation(init, update)


def nesterov(learning_rate: Rate, momentum: Scalar = 0.9) -> optax.GradientTransformation:
    """Nesterov's momentum (Nesterov 1983), at the point ahead (Sutskever et al. 2013, equations 3 and 4).

        v <- a v - lr g,    W <- W + a v - lr g        a = momentum, in [0, 1); v the new one

    W is where the velocity is about to lead, and so g is taken there. With the old v the step is
    a² v - (1 + a) lr g.

    Differs from    in                          removed by
        optax       a rate that changes, as     optax.chain(optax.scale_by_learning_rate(schedule),
                    in `momentum`               optax.trace(a, nesterov=True)) is this. At a constant rate
                                                optax.sgd(lr, a, nesterov=True) is the same
        PyTorch     the same, under a           at a constant rate torch.optim.SGD(params, lr, a, nesterov=True)
                    scheduler                   is the same
        textbook    nothing (an early printing  Nesterov(lr, a)
                    moves v before it uses it)

    Raises:
        ValueError: `learning_rate` or `momentum` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.nesterov(0.1, momentum=0.9)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # (1 + a) lr g
    -0.38
    """
    check_rate(learning_rate)
    check_number("momentum", momentum, at_least=0, below=1)

    def init(params: PyTree) -> MomentumState:
        check_floating(params)
        return MomentumState(zero_count(), map_leaves(zeros, params))

    def update(grads: PyTree, state: MomentumState, params: PyTree = None) -> tuple[PyTree, MomentumState]:
        check_state(state, MomentumState)
        check_update(grads, params, state.v)
        lr = rate_at(learning_rate, state.count)

        def rolled(v: Array, g: Any) -> Array:
            return times(momentum, v) - lr(v) * gradient(v, g)

        v = map_leaves(rolled, state.v, grads)
        step = map_leaves(rolled, v, grads)
        return updates_of(step, grads, params), MomentumState(optax.safe_increment(state.count), v)

    return optax.GradientTransformation(init, update)


def adagrad(
    learning_rate: Rate, eps: Scalar = 1e-7, *, initial_accumulator: Scalar = 0.0
) -> optax.GradientTransformation:
    """AdaGrad (Duchi, Hazan & Singer 2011, section 1.1).

        h <- h + g²,    W <- W - lr g / (sqrt(h) + eps)        h starts at `initial_accumulator`

    Differs from    in                          removed by
        optax       h starts at 0.1, and eps    nn.adagrad(lr, eps=1e-20, initial_accumulator=0.1) and
                    is under the root, sqrt(h   optax.adagrad(lr, eps=0.0); or nn.adagrad(lr, eps=1e-20) and
                    + eps): the first steps     optax.adagrad(lr, initial_accumulator_value=0.0, eps=0.0)
                    for small g are far shorter
        PyTorch     eps = 1e-10                 torch.optim.Adagrad(params, lr, eps=1e-7)
        textbook    nothing                     AdaGrad(lr)

    Raises:
        ValueError: `learning_rate`, `eps` or `initial_accumulator` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.adagrad(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # the first step has length lr, whatever the gradient
    -0.10
    """
    check_rate(learning_rate)
    check_number("eps", eps, above=0)
    check_number("initial_accumulator", initial_accumulator, at_least=0)

    def init(params: PyTree) -> AdaGradState:
        check_floating(params)
        h = map_leaves(lambda W: zeros(W) + like(zeros(W), initial_accumulator), params)
        return AdaGradState(zero_count(), h)

    def update(grads: PyTree, state: AdaGradState, params: PyTree = None) -> tuple[PyTree, AdaGradState]:
        check_state(state, AdaGradState)
        check_update(grads, params, state.h)
        lr = rate_at(learning_rate, state.count)
        h = map_leaves(lambda h, g: h + gradient(h, g) ** 2, state.h, grads)
        step = map_leaves(lambda h, g: -lr(h) * gradient(h, g) / (root(h) + like(h, eps)), h, grads)
        return updates_of(step, grads, params), AdaGradState(optax.safe_increment(state.count), h)

    return optax.GradientTransformation(init, update)


def rmsprop(
    learning_rate: Rate,
    decay: Scalar = 0.99,
    eps: Scalar = 1e-7,
    *,
    momentum: Scalar = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5); with momentum and centring, Graves 2013, equations 38 to 41.

        h <- decay h + (1 - decay) g²                       h starts at 0
        W <- W - lr g / (sqrt(h) + eps)

        with momentum a:    v <- a v - lr g / (sqrt(h) + eps),    W <- W + v
        centered:           m <- decay m + (1 - decay) g,    and h - m² under the root

    Rounding can bring h - m² below 0, which counts as 0. `decay` and `eps` are the textbook's. Centred, it needs
    an eps that suits the gradients: for one that hardly changes, eps is all that is left below the line.

    Differs from    in                          removed by
        optax       decay = 0.9, and eps =      optax.rmsprop(lr, decay=0.99, eps=1e-7, eps_in_sqrt=False)
                    1e-8 under the root
                    NaN where h < m²            nothing
        PyTorch     eps = 1e-8                  torch.optim.RMSprop(params, lr, eps=1e-7)
                    momentum gathers without    optax.chain(nn.rmsprop(1.0), optax.trace(a),
                    the rate                    optax.scale_by_schedule(schedule)) is PyTorch's under a scheduler;
                                                at a constant rate it is the same
                    NaN where h < m²            nothing
        Graves      1e-4 under the root         optax.rmsprop(lr, decay=0.95, eps=1e-4, momentum=0.9, centered=True)
        textbook    nothing                     RMSprop(lr)

    Without momentum no velocity is kept. Under `optax.inject_hyperparams` every number is an array, and so momentum
    too: name it among the `static_args`.

    Raises:
        TypeError: `centered` is not True or False.
        ValueError: `learning_rate`, `decay`, `eps` or `momentum` given as a number is out of range.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.rmsprop(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # lr / sqrt(1 - decay): the mean of squares starts at 0, uncorrected
    -1.00
    """
    check_rate(learning_rate)
    check_number("decay", decay, at_least=0, below=1)
    check_number("eps", eps, above=0)
    check_number("momentum", momentum, at_least=0, below=1)
    check_flag("centered", centered)
    has_velocity = isinstance(momentum, jax.Array) or momentum != 0

    def init(params: PyTree) -> RMSPropState:
        check_floating(params)
        h = map_leaves(zeros, params)
        m = map_leaves(zeros, params) if centered else None
        v = map_leaves(zeros, params) if has_velocity else None
        return RMSPropState(zero_count(), h, m, v)

    def update(grads: PyTree, state: RMSPropState, params: PyTree = None) -> tuple[PyTree, RMSPropState]:
        check_state(state, RMSPropState)
        check_update(grads, params, state.h)
        lr = rate_at(learning_rate, state.count)
        m, v = state.m, state.v
        h = map_leaves(lambda h, g: times(decay, h) + like(h, 1 - decay) * gradient(h, g) ** 2, state.h, grads)
        spread = h
        if centered:
            m = map_leaves(lambda m, g: times(decay, m) + like(m, 1 - decay) * gradient(m, g), m, grads)
            spread = map_leaves(lambda h, m: jnp.maximum(h - m**2, 0), h, m)
        step = map_leaves(lambda h, g: -lr(h) * gradient(h, g) / (root(h) + like(h, eps)), spread, grads)
        if has_velocity:
            step = v = map_leaves(lambda v, step: times(momentum, v) + step, v, step)
        return updates_of(step, grads, params), RMSPropState(optax.safe_increment(state.count), h, m, v)

    return optax.GradientTransformation(init, update)


def adam(
    learning_rate: Rate = 0.001,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    eps_beside: Literal["v_hat", "v"] = "v_hat",
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, algorithm 1), whose defaults these are.

        m <- beta1 m + (1 - beta1) g        m_hat = m / (1 - beta1^t)
        v <- beta2 v + (1 - beta2) g²       v_hat = v / (1 - beta2^t)
        W <- W - lr m_hat / (sqrt(v_hat) + eps)

        eps_beside="v" (the end of its section 2):
        W <- W - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)

    The two differ only for gradients near eps, and most at the start. In float32 0.999 rounds to 0.99900001. optax and
    PyTorch multiply by that and add 1 - 0.999 of what is new, so that their steps come out up to 7e-6 too short. Here
    it is 1 - 0.99900001 of what is new, and the weights of the mean add up to 1.

    Differs from    in                          removed by
        optax       nothing but that rounding   optax.adam(lr)
        PyTorch     nothing but that rounding   torch.optim.Adam(params, lr)
        textbook    eps = 1e-7, added to        nn.adam(lr, eps=1e-7, eps_beside="v") is Adam(lr)
                    sqrt(v)

    Raises:
        ValueError: `learning_rate`, `beta1`, `beta2` or `eps` given as a number is out of range, or `eps_beside`
            is another word.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.adam(0.1)
    >>> update, _ = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(1.0)))
    >>> print(f"{update:.2f}")  # the first step has length lr, whatever the gradient
    -0.10
    """
    check_rate(learning_rate)
    check_number("beta1", beta1, at_least=0, below=1)
    check_number("beta2", beta2, at_least=0, below=1)
    check_number("eps", eps, above=0)
    check_choice("eps_beside", eps_beside, ["v_hat", "v"])

    def init(params: PyTree) -> AdamState:
        check_floating(params)
        m = map_leaves(zeros, params)
        v = map_leaves(zeros, params)  # not `m` again: the state may be donated
        return AdamState(zero_count(), m, v)

    def update(grads: PyTree, state: AdamState, params: PyTree = None) -> tuple[PyTree, AdamState]:
        check_state(state, AdamState)
        check_update(grads, params, state.m)
        lr = rate_at(learning_rate, state.count)
        t = optax.safe_increment(state.count)
        m = map_leaves(lambda m, g: moving_mean(beta1, m, gradient(m, g)), state.m, grads)
        v = map_leaves(lambda v, g: moving_mean(beta2, v, gradient(v, g) ** 2), state.v, grads)

        def step(m: Array, v: Array) -> Array:
            correction1, correction2 = one_minus_power(beta1, t, m), one_minus_power(beta2, t, v)
            if eps_beside == "v":
                return -lr(m) * root(correction2) / correction1 * m / (root(v) + like(v, eps))
            m_hat, v_hat = m / correction1, v / correction2
            return -lr(m) * m_hat / (root(v_hat) + like(v, eps))

        return updates_of(map_leaves(step, m, v), grads, params), AdamState(t, m, v)

    return optax.GradientTransformation(init, update)
