"""Gradients by differences."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, PyTree

from jaxnn._checks import Scalar, check_callable, check_number, check_size, first_bad, is_concrete
from jaxnn._nearby import bytes_of_one_evaluation, nearby

__all__ = ["numerical_gradient"]

# What the points evaluated at once may take, in bytes, if nothing is fused: with more it gets slower, not faster.
_WORKING_SET = 2**27


def numerical_gradient(
    f: Callable[[PyTree], Any], params: PyTree, *, step: Scalar | None = None, batch: int | None = None
) -> PyTree:
    """The gradient by central differences, entry by entry: two evaluations of `f` for each.

        ∂f/∂p ≈ (f(p + h) - f(p - h)) / 2h

    `f` is a black box that JAX can trace; nothing is differentiated. The error is about h² f'''/6 + eps |f| / h with
    eps the rounding of the dtype: least near h = eps^(1/3) max(1, |p|), the default. In float64 that h is 6e-6 and the
    error 1e-10; in float32 5e-3 and 1e-4, which is noise to a small gradient, and in half precision there is nothing
    but noise. For differences to rely on give params and data in float64 (`with jax.enable_x64(True)`), as the textbook
    does with h = 1e-4, or use `check_gradients`, which sees to that itself.

    Args:
        f: `(params) -> scalar`.
        params: any pytree of floating-point arrays.
        step: h, the same for all entries. Without it: from the dtype and the size of the entry.
        batch: entries evaluated at once. Without it as many as keep what they compute under 128 MiB or so.

    Returns the structure, shapes and dtypes of `params`, as arrays of JAX. It can be compiled, and mapped over. What
    the entries leave alone is computed once, the product with the first matrix of a network included: all 39,760
    entries of `two_layer_net` take about a second.

    Raises:
        TypeError: a leaf that is not floating point, or an `f` that does not return one real number.
        ValueError: `step` or `batch` out of range, or a step that is lost in the rounding of an entry.

    *Deep Learning from Scratch*, section 4.4.2; for the step, Press et al. 2007, *Numerical Recipes*, section 5.7.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> f = lambda p: jnp.sum(p["x"] ** 2) + 3 * p["y"]
    >>> gradient = nn.numerical_gradient(f, {"x": jnp.array([3.0, 4.0]), "y": jnp.array(0.0)})
    >>> print(gradient["x"].round(1), gradient["y"].round(1))
    [6. 8.] 3.0
    """
    check_callable("f", f, "(params) -> scalar")
    check_entries(params)
    if step is not None:
        check_number("step", step, above=0)
    if batch is not None:
        check_size("batch", batch)
    params = jax.tree.map(jnp.asarray, params)
    check_one_number(f, params)
    if step is not None:
        _check_step_is_felt(params, step)
    leaves, structure = jax.tree.flatten(params)
    size = sum(leaf.size for leaf in leaves)
    if size == 0:
        return params
    batch = min(size, batch or entries_at_once(jax.make_jaxpr(f)(params)))
    evaluate = jax.vmap(nearby(f, params))
    up, down = (join([side(leaf, step) for leaf in leaves]) for side in (_up, _down))

    def differences(index: Array) -> Array:
        offsets = jnp.concatenate([up[index], -down[index]])
        above, below = evaluate(jnp.concatenate([index, index]), offsets).reshape(2, batch)
        return (above - below).astype(up.dtype) / (up[index] + down[index])

    # The last chunk is filled up with the last entry.
    chunks = jnp.minimum(jnp.arange(-(-size // batch) * batch), size - 1).reshape(-1, batch)
    gradient = jax.lax.map(differences, chunks).reshape(-1)
    ends = itertools.accumulate(leaf.size for leaf in leaves)
    parts = [
        gradient[end - leaf.size : end].reshape(leaf.shape).astype(leaf.dtype)
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def default_step(leaf: Array) -> Array:
    """The step for each entry, eps^(1/3) max(1, |p|), at which both errors are about equal."""
    return jnp.asarray(np.cbrt(float(jnp.finfo(leaf.dtype).eps)), leaf.dtype) * jnp.maximum(jnp.abs(leaf), 1)


def _up(leaf: Array, step: Scalar | None) -> Array:
    """How far p + h really is from p: p + h is rounded, the difference of neighbours is not."""
    return (leaf + _step(leaf, step)) - leaf


def _down(leaf: Array, step: Scalar | None) -> Array:
    return leaf - (leaf - _step(leaf, step))


def _step(leaf: Array, step: Scalar | None) -> Array:
    return default_step(leaf) if step is None else jnp.full(leaf.shape, step, leaf.dtype)


def join(leaves: list[Array]) -> Array:
    """The entries of all leaves in one row, in the widest of their dtypes and float32 at least."""
    wide = jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in leaves) else jnp.float32
    return jnp.concatenate([leaf.astype(wide).reshape(-1) for leaf in leaves])


def entries_at_once(traced: ClosedJaxpr) -> int:
    """How many entries to evaluate in one go, two points each."""
    return max(1, _WORKING_SET // (2 * bytes_of_one_evaluation(traced)))


def leaf_names(params: PyTree) -> list[str]:
    """The names of the leaves, such as dense1/W."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    return [jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path in paths]


def check_entries(params: PyTree) -> None:
    """Refuse leaves that have no gradient."""
    for name, leaf in zip(leaf_names(params), jax.tree.leaves(params), strict=True):
        if not isinstance(leaf, float | np.ndarray | np.generic | jax.Array):
            raise TypeError(f"{name} is a {type(leaf).__name__}; only arrays of real numbers have a gradient")
        if not jnp.issubdtype(kind := getattr(leaf, "dtype", np.dtype(float)), jnp.floating):
            raise TypeError(
                f"{name} has dtype {kind}; only real floating-point entries have a gradient (leave it out of params)"
            )


def check_one_number(f: Callable[..., Any], *args: Any) -> None:
    """Refuse a function that does not return one real number."""
    value = jax.eval_shape(f, *args)
    if not hasattr(value, "shape"):
        raise TypeError(f"f returned a {type(value).__name__}; expected one scalar (leave out what goes beside it)")
    if value.shape != ():
        raise TypeError(f"f returned an array of shape {value.shape}; expected a scalar (its mean or sum)")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"f returned dtype {value.dtype}; expected a real floating-point scalar")


def _check_step_is_felt(params: PyTree, step: Scalar) -> None:
    for name, leaf in zip(leaf_names(params), jax.tree.leaves(params), strict=True):
        if not is_concrete(leaf) or not is_concrete(step):
            continue
        lost = np.asarray(
            (leaf + jnp.asarray(step, leaf.dtype) == leaf) | (leaf - jnp.asarray(step, leaf.dtype) == leaf)
        )
        if lost.any():
            where = first_bad(lost)
            place = f"{name}{list(where)}" if where else name
            raise ValueError(
                f"step {float(step):g} is lost beside {place}, which is {float(leaf[where]):g} in {leaf.dtype}"
            )
