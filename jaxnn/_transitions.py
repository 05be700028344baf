"""What the optimizers' transitions share: arithmetic in the dtype of the state, and sentences for bad input."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from jaxnn._checks import Scalar, check_number
from jaxnn._dtypes import at_least_float32

Rate: TypeAlias = Scalar | Callable[[Any], Any]
RateLike: TypeAlias = Callable[[Array], Float[Array, ""]]
Mask: TypeAlias = PyTree | Callable[[PyTree], PyTree] | None

map_leaves = jax.tree.map


def check_rate(learning_rate: Any) -> None:
    """Refuse a rate out of range; a schedule's rates are not known yet."""
    if not callable(learning_rate):
        check_number("learning_rate", learning_rate, at_least=0)


def check_floating(params: PyTree, name: str = "params") -> None:
    """Refuse leaves that no small step can move: integers, booleans, complex numbers."""
    for path, leaf in jax.tree.leaves_with_path(params):
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        if not isinstance(leaf, float) and not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} is {kind}; an optimizer moves floating-point leaves only "
                "(leave this one out with optax.masked)"
            )


def check_state(state: Any, kind: type) -> None:
    """Refuse what is not the state of an optimizer."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state must be the {kind.__name__} that init or update has returned; got {type(state).__name__}"
        )


def check_update(grads: PyTree, params: PyTree, own: PyTree) -> None:
    """Refuse gradients, and parameters if they are given, that are not like `own`: a tree of the state if it has one.

    What is masked in `own` may be anything.
    """
    check_floating(grads, "grads")
    own = grads if own is None else own
    expected = jax.tree.structure(own, is_masked)
    for name, tree in (("grads", grads), ("params", grads if params is None else params)):
        found = jax.tree.structure(tree, is_masked)
        if found != expected:  # type: ignore[operator]
            words = [str(structure).removeprefix("PyTreeDef(").removesuffix(")") for structure in (found, expected)]
            raise ValueError(f"{name} has the structure {words[0]}; expected that of the parameters, {words[1]}")
        leaves = jax.tree.leaves_with_path(tree, is_masked)
        for (path, leaf), like in zip(leaves, jax.tree.leaves(own, is_masked), strict=True):
            if not is_masked(like) and jnp.shape(leaf) != jnp.shape(like):
                place, shape = f"{name}{jax.tree_util.keystr(path)}", jnp.shape(leaf)
                raise ValueError(f"{place} has shape {shape}; expected that of its parameter, {jnp.shape(like)}")


def is_masked(node: Any) -> bool:
    """Whether `optax.masked`, or an optimizer of two rules, has taken a leaf away here."""
    return isinstance(node, optax.MaskedNode)


def zero_count() -> Int[Array, ""]:
    """No step taken yet."""
    return jnp.zeros((), jnp.int32)


def zeros(W: Any) -> Array:
    """Zeros for the state, where W lies, in float32 at least: bfloat16 would round 0.999 to 1, and forget nothing."""
    return jnp.zeros_like(W, dtype=at_least_float32(jnp.result_type(W)))


def like(array: Any, value: Any) -> Array:
    """A value in an array's dtype: a rate in float64 must not widen float32 parameters."""
    return jnp.asarray(value, jnp.result_type(array))


def gradient(h: Array, g: Any) -> Array:
    """A gradient in the dtype of the state that it meets."""
    return like(h, g)


def widened(g: Any) -> Array:
    """A gradient in float32 at least."""
    return jnp.asarray(g, at_least_float32(jnp.result_type(g)))


def rate_at(learning_rate: Rate, count: Int[Array, ""]) -> RateLike:
    """The rate of this step, in the dtype of the array it will meet."""
    rate = learning_rate(count) if callable(learning_rate) else learning_rate
    if jnp.shape(rate) != ():
        raise ValueError(f"the schedule gave a rate of shape {jnp.shape(rate)}; expected a scalar")
    return lambda array: like(array, rate)


def times(a: Scalar, v: Array) -> Array:
    """The product a v, as v - (1 - a) v: 0.9 rounded would bend a whole path, 1 - 0.9 rounded hardly does."""
    return jnp.where(jnp.isinf(v), v, v - like(v, 1 - a) * v)


def moving_mean(beta: Scalar, m: Array, g: Array) -> Array:
    """The moving mean beta m + (1 - beta) g, of weights that add up to 1 also where beta is rounded."""
    beta = like(m, beta)
    return beta * m + (1 - beta) * g


def one_minus_power(beta: Scalar, t: Int[Array, ""], m: Array) -> Float[Array, ""]:
    """1 - beta^t for the same beta, by logarithms: the power itself rounds to a number near 1."""
    return -jnp.expm1(t.astype(m.dtype) * jnp.log1p(-(1 - like(m, beta))))


def updates_of(steps: PyTree, grads: PyTree, params: PyTree) -> PyTree:
    """Steps as updates: in the dtype of the gradients, or of the parameters where that is wider."""
    if params is None:
        return map_leaves(like, grads, steps)

    def update(step: Array, g: Any, W: Any) -> Array:
        kinds = jnp.result_type(g), jnp.result_type(W)
        return step.astype(max(kinds, key=lambda kind: jnp.finfo(kind).bits))

    return map_leaves(update, steps, grads, params)


@jax.custom_jvp
def root(h: Array) -> Array:
    """The square root, with slope 0 at 0: a gradient through a whole run meets weights that no example moves."""
    return jnp.sqrt(h)


@root.defjvp
def _root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (h,), (dh,) = primals, tangents
    y = root(h)
    return y, dh * jnp.where(h > 0, 0.5 / jnp.where(h > 0, y, 1), 0)


def mask_over(mask: Mask, params: PyTree) -> PyTree:
    """True or False for every leaf of params; without a mask, True for leaves of two axes or more."""
    if mask is None:
        return map_leaves(lambda W: jnp.ndim(W) >= 2, params)
    chosen = mask(params) if callable(mask) else mask
    for path, leaf in jax.tree.leaves_with_path(chosen):
        if not isinstance(leaf, bool | np.bool_):
            raise TypeError(f"mask{jax.tree_util.keystr(path)} must be True or False; got {leaf!r}")
    try:
        return jax.tree.broadcast(chosen, params)
    except ValueError:
        raise ValueError(
            f"mask has the structure {jax.tree.structure(chosen)}; "
            f"expected that of params or the beginning of it, {jax.tree.structure(params)}"
        ) from None


def decay_weights(name: str, steps: PyTree, params: PyTree, lr: RateLike, weight_decay: Scalar, mask: Mask) -> PyTree:
    """Each step minus lr lambda W, where the mask says so; lambda is `weight_decay`."""
    is_zero = not isinstance(weight_decay, jax.Array) and weight_decay == 0
    if is_zero or not jax.tree.leaves(steps):
        return steps
    if params is None:
        raise ValueError(f"{name} decays the parameters themselves: call update(grads, state, params)")
    return map_leaves(
        lambda step, W, decays: step - lr(step) * like(step, weight_decay) * like(step, W) if decays else step,
        steps,
        params,
        mask_over(mask, params),
    )
