"""Optimizers that decay the weights beside the gradient, not through it: `adamw`, `lion`, `muon`.

What `jaxnn.optimizers` says holds here too. `update` needs the parameters, unless nothing decays.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxnn._checks import Scalar, check_flag, check_number
from jaxnn._transitions import (
    Mask,
    Rate,
    check_floating,
    check_rate,
    check_state,
    check_update,
    decay_weights,
    gradient,
    is_masked,
    like,
    map_leaves,
    mask_over,
    moving_mean,
    rate_at,
    root,
    times,
    updates_of,
    widened,
    zero_count,
    zeros,
)
from jaxnn.optimizers import AdamState, adam

__all__ = ["adamw", "lion", "muon"]


class LionState(NamedTuple):
    """State of `lion`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken
    m: PyTree  # moving mean of gradients, structure of params


class MuonState(NamedTuple):
    """State of `muon`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # steps taken
    B: PyTree  # momentum of the matrices; optax.MaskedNode() in place of the other leaves
    rest: PyTree  # state of the rule for the other leaves


def adamw(
    learning_rate: Rate = 0.001,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
    *,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

        m, v, m_hat, v_hat as in `adam`
        W <- W - lr (m_hat / (sqrt(v_hat) + eps) + lambda W)        lambda = weight_decay

    The paper multiplies lambda by the schedule alone, not by the rate: its lambda is lr lambda here. `mask` says
    which leaves decay: a tree of True and False, the beginning of one, or a function params -> tree. By default
    those of two axes or more do, as in `l2_penalty`; biases and the scales of batch norm are left alone.

    Differs from    in                          removed by
        optax       weight_decay = 1e-4, and    nn.adamw(lr, mask=lambda params: jax.tree.map(lambda _: True, params))
                    every leaf decays           is optax.adamw(lr, weight_decay=0.01)
        PyTorch     every leaf decays, by a     the same mask is torch.optim.AdamW(params, lr); in float32 its
                    factor 1 - lr lambda        factor is rounded: 1.4e-5 off after 1,000 steps of decay alone
        textbook    has none                    -

    Raises:
        ValueError: a number is out of range, `mask` does not fit, or `update` is not given the parameters.
        TypeError: `mask` holds something else than True or False.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.adamw(0.1, weight_decay=0.5)
    >>> params = {"W": jnp.array([[1.0]]), "b": jnp.array([1.0])}
    >>> zero = {"W": jnp.array([[0.0]]), "b": jnp.array([0.0])}
    >>> update, _ = optimizer.update(zero, optimizer.init(params), params)
    >>> print(params["W"] + update["W"], params["b"] + update["b"])
    [[0.95]] [1.]
    """
    check_number("weight_decay", weight_decay, at_least=0)
    rule = adam(learning_rate, beta1, beta2, eps)

    def init(params: PyTree) -> AdamState:
        mask_over(mask, params)  # a mask that does not fit is refused here
        return rule.init(params)

    def update(grads: PyTree, state: AdamState, params: PyTree = None) -> tuple[PyTree, AdamState]:
        check_state(state, AdamState)
        check_update(grads, params, state.m)
        lr = rate_at(learning_rate, state.count)
        steps, new_state = rule.update(map_leaves(widened, grads), state, params)  # not yet rounded
        steps = decay_weights("adamw", steps, params, lr, weight_decay, mask)
        return updates_of(steps, grads, params), new_state

    return optax.GradientTransformation(init, update)


def lion(
    learning_rate: Rate = 1e-4,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.99,
    weight_decay: Scalar = 0.0,
    *,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Lion (Chen et al. 2023, algorithm 2): every entry moves by the rate, up or down.

        c = beta1 m + (1 - beta1) g
        W <- W - lr (sign(c) + lambda W)        lambda = weight_decay
        m <- beta2 m + (1 - beta2) g

    The paper advises a rate 3 to 10 times smaller than AdamW's, and a lambda as many times larger. `mask` says
    which leaves decay, as in `adamw`. A c of 0 moves nothing; near 0 rounding decides, and two right programs
    can part there by 2 lr.

    Differs from    in                          removed by
        optax       weight_decay = 1e-3, and    nn.lion(lr, mask=lambda params: jax.tree.map(lambda _: True, params),
                    every leaf decays           weight_decay=1e-3) is optax.lion(lr)
        PyTorch     has none                    -
        textbook    has none                    -

    Raises:
        ValueError: a number is out of range, `mask` does not fit, or `update` is not given the parameters.
        TypeError: `mask` holds something else than True or False.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.lion(0.1)
    >>> update, _ = optimizer.update(jnp.array([2.0, 0.0, -1e-9]), optimizer.init(jnp.ones(3)))
    >>> print(update)
    [-0.1 -0.   0.1]
    """
    check_rate(learning_rate)
    check_number("beta1", beta1, at_least=0, below=1)
    check_number("beta2", beta2, at_least=0, below=1)
    check_number("weight_decay", weight_decay, at_least=0)

    def init(params: PyTree) -> LionState:
        check_floating(params)
        mask_over(mask, params)  # a mask that does not fit is refused here
        return LionState(zero_count(), map_leaves(zeros, params))

    def update(grads: PyTree, state: LionState, params: PyTree = None) -> tuple[PyTree, LionState]:
        check_state(state, LionState)
        check_update(grads, params, state.m)
        lr = rate_at(learning_rate, state.count)
        steps = map_leaves(lambda m, g: -lr(m) * jnp.sign(moving_mean(beta1, m, gradient(m, g))), state.m, grads)
        steps = decay_weights("lion", steps, params, lr, weight_decay, mask)
        m = map_leaves(lambda m, g: moving_mean(beta2, m, gradient(m, g)), state.m, grads)
        return updates_of(steps, grads, params), LionState(optax.safe_increment(state.count), m)

    return optax.GradientTransformation(init, update)


def muon(
    learning_rate: Rate = 0.001,
    momentum: Scalar = 0.95,
    weight_decay: Scalar = 0.0,
    *,
    nesterov: bool = True,
    consistent_rms: Scalar | None = 0.2,
    mask: Mask = None,
    rest: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024): momentum, made orthogonal. For matrices; other leaves follow another rule.

        B <- a B + g                                a = momentum, in [0, 1)
        X = g + a B  (`nesterov`),  else B
        X <- X / |X|,  then five times              |X| the root of the sum of squares
            A = X X',    X <- 3.4445 X + (-4.7750 A + 2.0315 A²) X
        W <- W - lr (s X + lambda W)                lambda = weight_decay
        s = consistent_rms sqrt(max(rows, columns)),  or for None  sqrt(max(1, columns / rows))

    The steps of Newton and Schulz bring all singular values of X near 1, between 0.7 and 1.2. `consistent_rms`
    gives a step the size of Adam's (Liu et al. 2025, equation 4), so that one rate suits both rules; None is
    Jordan's own scale, for W[in, out]. A kernel [h, w, in, out] is seen as a matrix [h w in, out]. `mask` says
    which leaves are made orthogonal, and decay: by default those of two axes or more. The others follow `rest`,
    by default `adam(learning_rate)`. Biases and scales belong there, and by the authors' advice the first and
    the last layer too.

    Differs from    in                          removed by
        optax       consistent_rms = None       optax.contrib.muon(lr, consistent_rms=0.2, nesterov=False, eps=1e-20)
                    eps = 1e-8 beside |X|       is nn.muon(lr, nesterov=False) for matrices; kernels there need
                    matrices of two axes only   muon_weight_dimension_numbers
                    `nesterov` corrects the     nothing; it fades as 0.95^t, and makes the rule of the other
                    start of B and of g         leaves NAdam
        PyTorch     weight_decay = 0.1, Jordan's    torch.optim.Muon(params, lr, weight_decay=0.0,
                    scale for W[out, in]        adjust_lr_fn="match_rms_adamw")
                    products in bfloat16, and   nothing: it is off by some hundredths
                    |X| at least 1e-7
                    refuses all but matrices    give the rest to another optimizer
        textbook    has none                    -

    Raises:
        ValueError: a number is out of range, `mask` does not fit or names a leaf of fewer than two axes, or
            `update` is not given the parameters while weights decay.
        TypeError: `mask` holds something else than True or False.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> optimizer = nn.muon(0.1)
    >>> params = {"W": jnp.eye(4), "b": jnp.ones(4)}
    >>> update, _ = optimizer.update({"W": 3 * jnp.eye(4), "b": jnp.ones(4)}, optimizer.init(params))
    >>> print(f"{update['W'][0, 0]:.3f} {update['b'][0]:.3f}")  # about lr 0.2 sqrt(4), and Adam's first step
    -0.031 -0.100
    """
    check_rate(learning_rate)
    check_number("momentum", momentum, at_least=0, below=1)
    check_number("weight_decay", weight_decay, at_least=0)
    check_flag("nesterov", nesterov)
    if consistent_rms is not None:
        check_number("consistent_rms", consistent_rms, above=0)
    if rest is not None and not isinstance(rest, optax.GradientTransformation):
        raise TypeError(f"rest must be an optimizer, such as adam(0.001); got {type(rest).__name__}")
    other = optax.with_extra_args_support(adam(learning_rate) if rest is None else rest)

    def init(params: PyTree) -> MuonState:
        check_floating(params)
        is_matrix = mask_over(mask, params)
        _check_matrices(is_matrix, params)
        matrices, others = _part(is_matrix, params)
        return MuonState(zero_count(), map_leaves(zeros, matrices), other.init(others))

    def update(grads: PyTree, state: MuonState, params: PyTree = None, **extra: Any) -> tuple[PyTree, MuonState]:
        check_state(state, MuonState)
        check_update(grads, params, params)
        check_update(grads, params, state.B)
        is_matrix = map_leaves(lambda B: not is_masked(B), state.B, is_leaf=is_masked)
        matrix_grads, other_grads = _part(is_matrix, grads)
        matrices, others = (None, None) if params is None else _part(is_matrix, params)
        lr = rate_at(learning_rate, state.count)
        B = map_leaves(lambda B, g: times(momentum, B) + gradient(B, g), state.B, matrix_grads)
        ahead = map_leaves(lambda B, g: times(momentum, B) + gradient(B, g), B, matrix_grads) if nesterov else B
        steps = map_leaves(lambda X: -lr(X) * _scale(X, consistent_rms) * _orthogonal(X), ahead)
        steps = decay_weights("muon", steps, matrices, lr, weight_decay, mask=True)
        matrix_updates = updates_of(steps, matrix_grads, matrices)
        other_updates, other_state = other.update(other_grads, state.rest, others, **extra)
        updates = map_leaves(
            lambda is_matrix, own, other: own if is_matrix else other, is_matrix, matrix_updates, other_updates
        )
        return updates, MuonState(optax.safe_increment(state.count), B, other_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _orthogonal(X: Float[Array, "*kernel in out"]) -> Float[Array, "*kernel in out"]:
    """The matrix with the singular vectors of X and singular values near 1."""
    rows, columns = _rows_and_columns(X)
    matrix = X.reshape(rows, columns)
    wide = matrix.T if rows > columns else matrix  # the smaller of X X' and X' X
    # The largest entry first: the square of a number below 1e-19 is 0 in float32, and above 1e19 infinite.
    largest = jnp.max(jnp.abs(wide), initial=0)
    wide = wide / jnp.where(largest > 0, largest, 1)
    wide = wide / jnp.maximum(root(jnp.sum(wide**2)), 1)  # at least 1, but for X = 0

    def newton_schulz(_: Any, X: Array) -> Array:
        A = X @ X.T
        return 3.4445 * X + (-4.7750 * A + 2.0315 * (A @ A)) @ X

    wide = jax.lax.fori_loop(0, 5, newton_schulz, wide)
    return (wide.T if rows > columns else wide).reshape(X.shape)


def _scale(X: Float[Array, "*kernel in out"], consistent_rms: Scalar | None) -> Float[Array, ""]:
    rows, columns = _rows_and_columns(X)
    if consistent_rms is None:
        return like(X, max(1, columns / max(rows, 1)) ** 0.5)
    return like(X, consistent_rms) * max(rows, columns) ** 0.5


def _rows_and_columns(X: Array) -> tuple[int, int]:
    return math.prod(X.shape[:-1]), X.shape[-1]


def _check_matrices(is_matrix: PyTree, params: PyTree) -> None:
    for (path, leaf), chosen in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(is_matrix), strict=True):
        if chosen and jnp.ndim(leaf) < 2:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}; muon makes only leaves of two axes "
                "or more orthogonal (mask must say False there)"
            )


def _part(is_matrix: PyTree, tree: PyTree) -> tuple[PyTree, PyTree]:
    """The matrices and the other leaves, each with `optax.MaskedNode()` in place of the other kind."""
    matrices = map_leaves(lambda chosen, leaf: leaf if chosen else optax.MaskedNode(), is_matrix, tree)
    others = map_leaves(lambda chosen, leaf: optax.MaskedNode() if chosen else leaf, is_matrix, tree)
    return matrices, others
