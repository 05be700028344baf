"""A function operation by operation: which one is the first to make NaN or infinity of numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import Literal

__all__ = ["first_bad_operation"]

# Where an operation keeps the operations that it consists of.
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_PACKAGES = (str(Path(jax.__file__).parent), str(Path(optax.__file__).parent))


def first_bad_operation(function: Callable[..., Any], *arguments: Any) -> str | None:
    """The first operation whose inputs are all finite, and its outputs are not; None where there is none.

    It looks into what is compiled and into the branch of a `cond` that is taken; a loop is one operation. A NaN that
    stands in the program, such as one side of a `where`, is not made by any.

    >>> import jax.numpy as jnp
    >>> def inverse_root(x):
    ...     return 1 / jnp.sqrt(x)
    >>> print(first_bad_operation(inverse_root, jnp.array([4.0, 0.0])).split(":")[0])
    div, which makes inf, in inverse_root, <doctest jaxnn._operations.first_bad_operation[1]>
    """
    program = jax.make_jaxpr(function)(*arguments)
    try:
        _walk(program.jaxpr, program.consts, jax.tree.leaves(arguments))
    except _FoundError as found:
        return str(found)
    return None


class _FoundError(Exception):
    """The operation is found."""


def _walk(program: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Compute what a program computes, and stop at the first operation that makes what is not finite."""
    known = dict(zip([*program.constvars, *program.invars], [*constants, *arguments], strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for operation in program.eqns:
        inputs = [value(variable) for variable in operation.invars]
        inner = _inside(operation, inputs)
        if inner is not None:
            outputs = _walk(*inner)
        else:
            outputs = operation.primitive.bind(*inputs, **operation.params)
            outputs = outputs if operation.primitive.multiple_results else [outputs]
            made = [output for output in outputs if not _is_finite(output)]
            if made and all(_is_finite(given) for given in inputs):
                kind = "nan" if any(np.isnan(np.asarray(output)).any() for output in made) else "inf"
                raise _FoundError(f"{operation.primitive.name}, which makes {kind},{_place(operation)}")
        known.update(zip(operation.outvars, outputs, strict=True))
    return [value(variable) for variable in program.outvars]


def _inside(operation: Any, inputs: Sequence[Any]) -> tuple[Any, Sequence[Any], Sequence[Any]] | None:
    """The operations that one consists of, their constants and their inputs."""
    if operation.primitive.name == "cond":
        branch = operation.params["branches"][int(inputs[0])]
        return branch.jaxpr, branch.consts, inputs[1:]
    inner = next((operation.params[name] for name in _INNER if name in operation.params), None)
    if inner is None or operation.primitive.name in ("scan", "while"):
        return None
    return getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs


def _is_finite(value: Any) -> bool:
    return not jnp.issubdtype(jnp.result_type(value), jnp.inexact) or bool(jnp.isfinite(value).all())


def _place(operation: Any) -> str:
    """Where the operation stands in a program; one that JAX has derived stands where it was derived from."""
    traceback = operation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not frame.file_name.startswith(_PACKAGES):
            return f" in {frame.function_name.rpartition('.')[2]}, {Path(frame.file_name).name}:{frame.line_num}"
    return ""
