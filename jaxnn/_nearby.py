"""A function at points that differ in one entry of its parameters, without repeating what that entry leaves alone.

x @ (W + offset e_ij) is x @ W, the same at all points, plus offset x_i in column j. So a perturbed matrix is carried
as the matrix and its perturbation until something else than a matrix product needs it; there it is added up. Under
`jax.vmap` over the points, the product with the first and largest matrix is then made once, not once a point.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array, Float, Int, PyTree

__all__ = ["bytes_of_one_evaluation", "inner_jaxprs", "narrower_dtype", "nearby"]


class _Perturbed(NamedTuple):
    """A matrix and what is added to one entry of it."""

    matrix: Array
    place: Array  # of the entry, counted through the rows
    offset: Array


def nearby(
    f: Callable[[PyTree], Array], params: PyTree
) -> Callable[[Int[Array, ""], Float[Array, ""]], Float[Array, ""]]:
    """The function `(index, offset) -> f(params with offset added to the entry)`, to be mapped over many entries.

    The index counts through the leaves in their order, and through the rows of each.
    """
    leaves = jax.tree.leaves(params)
    traced = jax.make_jaxpr(f)(params)
    starts = [0, *itertools.accumulate(leaf.size for leaf in leaves)]

    def evaluate(index: Int[Array, ""], offset: Float[Array, ""]) -> Float[Array, ""]:
        inputs = []
        for leaf, start in zip(leaves, starts, strict=False):
            if leaf.size == 0:
                inputs.append(leaf)
                continue
            is_here = (index >= start) & (index < start + leaf.size)
            own = _Perturbed(
                leaf,
                jnp.where(is_here, index - start, 0),
                jnp.where(is_here, offset, jnp.zeros_like(offset)).astype(leaf.dtype),
            )
            inputs.append(own if leaf.ndim == 2 else _added(own))
        (value,) = _evaluate(traced.jaxpr, traced.consts, inputs)
        return _added(value)

    return evaluate


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for eqn in jaxpr.eqns:
        outputs = _evaluate_one(eqn, [read(variable) for variable in eqn.invars])
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _evaluate_one(eqn: JaxprEqn, inputs: list[Any]) -> list[Any]:
    perturbed = [isinstance(value, _Perturbed) for value in inputs]
    if any(perturbed) and eqn.primitive.name in _CALLS:
        inner = eqn.params[_CALLS[eqn.primitive.name]]
        return _evaluate(inner.jaxpr, inner.consts, inputs)
    if eqn.primitive is jax.lax.dot_general_p and sum(perturbed) == 1 and _is_plain_product(eqn, perturbed.index(True)):
        return [_product(eqn, inputs, perturbed.index(True))]
    given = eqn.primitive.get_bind_params(eqn.params)
    functions, params = given if isinstance(given, tuple) else ((), given)  # they are apart before JAX 0.9.2
    with eqn.ctx.manager:
        outputs = eqn.primitive.bind(*functions, *map(_added, inputs), **params)
    return outputs if eqn.primitive.multiple_results else [outputs]


# Calls of a function, and where each keeps it. Custom derivatives play no part: nothing is differentiated here.
_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def _is_plain_product(eqn: JaxprEqn, side: int) -> bool:
    contracted, batched = eqn.params["dimension_numbers"]
    return len(contracted[side]) == 1 and not batched[side]


def _product(eqn: JaxprEqn, inputs: list[Any], side: int) -> Array:
    """The product of an array with a perturbed matrix: as without the perturbation, and what that adds."""
    own, other = inputs[side], inputs[1 - side]
    contracted, _ = eqn.params["dimension_numbers"]
    (axis,), (other_axis,) = contracted[side], contracted[1 - side]
    with eqn.ctx.manager:
        y = eqn.primitive.bind(*(own.matrix if number == side else other for number in (0, 1)), **eqn.params)
    columns = own.matrix.shape[1]
    coordinates = (own.place // columns, own.place % columns)
    met = jax.lax.dynamic_index_in_dim(other, coordinates[axis], other_axis, keepdims=False)
    free = own.matrix.shape[1 - axis]
    is_moved = jnp.arange(free) == coordinates[1 - axis]
    added = (own.offset * met.astype(own.offset.dtype)).astype(y.dtype)
    # The free axes of the left factor come first.
    shapes = ((free, *(1,) * met.ndim), (1, *met.shape)) if side == 0 else ((*(1,) * met.ndim, free), (*met.shape, 1))
    return y + jnp.where(is_moved.reshape(shapes[0]), added.reshape(shapes[1]), jnp.zeros((), y.dtype))


def _added(value: Any) -> Any:
    if not isinstance(value, _Perturbed):
        return value
    flat = value.matrix.reshape(-1)
    return flat.at[value.place].add(value.offset).reshape(value.matrix.shape)


def bytes_of_one_evaluation(traced: ClosedJaxpr) -> int:
    """Of the arguments of a function and all that it computes on the way: about what one point takes."""
    variables = [*traced.jaxpr.invars, *(variable for eqn in _equations(traced.jaxpr) for variable in eqn.outvars)]
    avals = [variable.aval for variable in variables]
    return sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in avals if hasattr(aval, "shape"))


def narrower_dtype(traced: ClosedJaxpr, dtype: Any) -> str:
    """A floating dtype narrower than `dtype` to which a function rounds what depends on its arguments, or ""."""
    return next(_roundings(traced.jaxpr, [True] * len(traced.jaxpr.invars), jnp.finfo(dtype).bits), "")


def _roundings(jaxpr: Jaxpr, depending: Sequence[bool], bits: int) -> Iterator[str]:
    reached = {variable for variable, depends in zip(jaxpr.invars, depending, strict=True) if depends}
    for eqn in jaxpr.eqns:
        depending = [not isinstance(variable, Literal) and variable in reached for variable in eqn.invars]
        if not any(depending):
            continue
        for inner in inner_jaxprs(eqn):
            # Loops and branches have further arguments: there any may depend.
            same = len(inner.invars) == len(depending)
            yield from _roundings(inner, depending if same else [True] * len(inner.invars), bits)
        reached.update(eqn.outvars)
        if eqn.primitive.name == "convert_element_type":
            old, new = eqn.invars[0].aval.dtype, eqn.params["new_dtype"]  # type: ignore[attr-defined]
            is_floating = jnp.issubdtype(old, jnp.floating) and jnp.issubdtype(new, jnp.floating)
            if is_floating and jnp.finfo(new).bits < bits <= jnp.finfo(old).bits:
                yield np.dtype(new).name


def _equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in inner_jaxprs(eqn):
            yield from _equations(inner)


def inner_jaxprs(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    """The functions that an operation calls."""
    for part in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda node: isinstance(node, Jaxpr | ClosedJaxpr)):
        if isinstance(part, Jaxpr | ClosedJaxpr):
            yield part.jaxpr if isinstance(part, ClosedJaxpr) else part
