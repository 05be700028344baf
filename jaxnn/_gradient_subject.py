"""A function near its parameters, and its gradient there: what a gradient check asks for, compiled once."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxnn._nearby import narrower_dtype, nearby
from jaxnn.gradients import check_one_number, entries_at_once, join, leaf_names

__all__ = ["Subject", "prepare"]

NOT_DETERMINISTIC = "f is not deterministic: {} from one call to the next (is it dropout without a fixed key?)"


class Subject(NamedTuple):
    """A function near `params`, and its gradient there. Entries are counted through all leaves."""

    names: list[str]  # of the leaves
    shapes: list[tuple[int, ...]]
    starts: list[int]  # of the leaves among the entries, and where the last one ends
    entries: np.ndarray  # params in one row
    analytic: np.ndarray  # the gradient to be checked
    value: float  # f(params)
    at: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (entries, offsets) -> f with one of them moved
    along: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (direction, distances) -> f(params + distance direction)
    elsewhere: Callable[[np.ndarray], "Subject"]  # entries -> the same function there
    narrower: str  # a dtype in which f computes on its way and which rounds more than the check's; mostly none, ""


def prepare(
    f: Callable[..., Any],
    gradient: Callable[..., PyTree] | None,
    params: PyTree,
    args: tuple[Any, ...],
    points: int,
) -> Subject:
    """What a check of `f` at `params` needs; refuse what cannot be checked. `points` is how many it will ask for."""
    # Arrays are arguments of the compiled programs, not constants of theirs; what is no array stays outside.
    parts, structure = jax.tree.flatten(args)
    is_array = [isinstance(part, np.ndarray | jax.Array) for part in parts]
    arrays = [part for part, dynamic in zip(parts, is_array, strict=True) if dynamic]

    def g(params: PyTree, arrays: list[Array]) -> Any:
        given = iter(arrays)
        merged = [next(given) if dynamic else part for part, dynamic in zip(parts, is_array, strict=True)]
        return f(params, *jax.tree.unflatten(structure, merged))

    try:
        check_one_number(g, params, arrays)
        traced = jax.make_jaxpr(lambda params: g(params, arrays))(params)
    except TypeError as error:
        error.add_note("check_gradients widens params and args: give f the arrays that it finds elsewhere as args too")
        raise
    leaves, leaf_structure = jax.tree.flatten(params)
    starts = [0, *itertools.accumulate(leaf.size for leaf in leaves)]
    dtype = leaves[0].dtype
    points = max(16, min(points, 2 * entries_at_once(traced)))
    narrower = narrower_dtype(traced, dtype)

    @jax.jit
    def with_one_moved(params: PyTree, arrays: list[Array], index: Array, offset: Array) -> Array:
        return jax.vmap(nearby(lambda params: g(params, arrays), params))(index, offset)

    @jax.jit
    def with_all_moved(params: PyTree, arrays: list[Array], direction: PyTree, distances: Array) -> Array:
        def with_moved(distance: Array) -> Array:
            return g(jax.tree.map(lambda p, d: p + distance * d, params, direction), arrays)

        return jax.lax.map(with_moved, distances)

    @jax.jit
    def value_and_gradient(params: PyTree, arrays: list[Array]) -> tuple[Array, PyTree]:
        return (g(params, arrays), ()) if gradient is not None else jax.value_and_grad(g)(params, arrays)

    def as_tree(row: np.ndarray) -> PyTree:
        parts = [
            jnp.asarray(row[a : a + leaf.size].reshape(leaf.shape)) for a, leaf in zip(starts, leaves, strict=False)
        ]
        return jax.tree.unflatten(leaf_structure, parts)

    def subject_at(entries: np.ndarray) -> Subject:
        params = as_tree(entries)
        value, grads = value_and_gradient(params, arrays)
        if gradient is not None:
            grads = gradient(params, *args)
            _check_alike(grads, params)

        def at(index: np.ndarray, offset: np.ndarray) -> np.ndarray:
            missing = -len(index) % points  # chunks of one size: one program serves them all
            chunks = (np.pad(part, (0, missing)).reshape(-1, points) for part in (index, offset))
            found = [np.asarray(with_one_moved(params, arrays, *chunk)) for chunk in zip(*chunks, strict=True)]
            return np.concatenate(found)[: len(index)].astype(np.float64)

        def along(direction: np.ndarray, distances: np.ndarray) -> np.ndarray:
            return np.asarray(with_all_moved(params, arrays, as_tree(direction), distances), np.float64)

        analytic = np.asarray(join([jnp.asarray(grad) for grad in jax.tree.leaves(grads)]), np.float64)
        names, shapes = leaf_names(params), [leaf.shape for leaf in leaves]
        return Subject(names, shapes, starts, entries, analytic, float(value), at, along, subject_at, narrower)

    subject = subject_at(np.asarray(join(leaves)))
    if not np.isfinite(subject.value):
        raise ValueError(f"f is {subject.value} at these params; a gradient can be checked where f is finite")
    # At a point of no symmetry too: times 0, a draw makes no difference.
    for one in (subject, subject_at(subject.entries * dtype.type(0.9) + dtype.type(0.1))):
        (again,) = one.at(np.zeros(1, int), np.zeros(1, dtype))
        # Another program rounds otherwise: only more than that is worth two compilations.
        if not np.isclose(again, one.value, rtol=1e3 * np.finfo(dtype).eps, atol=0, equal_nan=True):
            first, second = (float(jax.jit(lambda *given: g(*given))(as_tree(one.entries), arrays)) for _ in range(2))
            if first != second:
                raise ValueError(NOT_DETERMINISTIC.format(f"it gave {first!r} and {second!r}"))
    return subject


def _check_alike(grads: PyTree, params: PyTree) -> None:
    expected, found = jax.tree.structure(params), jax.tree.structure(grads)
    if found != expected:  # type: ignore[operator]
        raise ValueError(f"gradient returned the structure {found}; expected that of params, {expected}")
    for name, grad, param in zip(leaf_names(params), jax.tree.leaves(grads), jax.tree.leaves(params), strict=True):
        if not jnp.issubdtype(jnp.result_type(grad), jnp.floating):
            raise TypeError(f"gradient returned dtype {jnp.result_type(grad)} for {name}; expected real numbers")
        if np.shape(grad) != param.shape:
            raise ValueError(f"gradient returned shape {np.shape(grad)} for {name}; expected {param.shape}")
