"""Sentences for bad input, written before any work is done."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Scalar: TypeAlias = float | int | np.number[Any] | jax.Array  # a hyperparameter: a number, or traced


def is_concrete(value: Any) -> bool:
    """Whether the value can be looked at now: a tracer (under jit, vmap, grad) cannot."""
    return not isinstance(value, jax.core.Tracer)


def check_number(
    name: str,
    value: Any,
    *,
    at_least: float | int | None = None,
    above: float | int | None = None,
    below: float | int | None = None,
) -> None:
    """Refuse a hyperparameter that is no real scalar or lies out of its range.

    A traced value passes, because it cannot be looked at: under `vmap` over learning rates nothing raises.
    """
    if not is_concrete(value):
        shape, kind = value.shape, value.dtype
    elif isinstance(value, bool) or not isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        raise TypeError(f"{name} must be a number; got {value!r}")
    else:
        shape, kind = np.shape(value), jnp.result_type(value)
    if shape != ():
        raise ValueError(f"{name} must be a scalar; got an array of shape {shape} (use jax.vmap to try many)")
    if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        raise TypeError(f"{name} must be a real number; got dtype {kind}")
    if not is_concrete(value):
        return
    number = float(value)
    bounds = [
        (at_least, lambda bound: number >= bound, "at least"),
        (above, lambda bound: number > bound, "above"),
        (below, lambda bound: number < bound, "below"),
    ]
    wanted = [f"{words} {bound:g}" for bound, _, words in bounds if bound is not None]
    if not np.isfinite(number) or not all(holds(bound) for bound, holds, _ in bounds if bound is not None):
        raise ValueError(f"{name} must be {' and '.join(['finite', *wanted])}; got {number:g}")


def check_size(name: str, value: Any, *, at_least: int = 1, below: int | None = None) -> None:
    """Refuse a size that is not a whole number of at least `at_least`: sizes are shapes, known before tracing."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}; got {value}")
    if below is not None and value >= below:
        raise ValueError(f"{name} must be below {below}; got {value}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a word that is not among `choices`, naming the nearest ones."""
    if value in choices:
        return
    raise ValueError(unknown(name, value, choices))


def unknown(name: str, value: Any, choices: Sequence[str]) -> str:
    """The sentence for a word that is not among `choices`."""
    import difflib

    near = difflib.get_close_matches(str(value).lower(), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(choices)}"
    return f"unknown {name} {value!r}: {hint}"


def check_callable(name: str, value: Any, signature: str) -> None:
    """Refuse a value that cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function {signature}; got {type(value).__name__} {value!r}")


def check_key(name: str, key: Any) -> None:
    """Refuse anything but one PRNG key: typed (`jax.random.key`) or of the older form (`uint32[2]`)."""
    if isinstance(key, jax.Array | jax.core.Tracer):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.shape == ():
                return
            raise ValueError(f"{name} must be one key; got {key.shape} of them (use jax.vmap for many runs)")
        if key.dtype == jnp.uint32 and key.shape in ((2,), (4,)):
            return
    hint = f"jax.random.key({key})" if isinstance(key, int) else "jax.random.key(0)"
    raise TypeError(f"{name} must be a PRNG key; got {type(key).__name__} (use {hint})")


def first_bad(bad: np.ndarray) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))


def check_finite(name: str, values: Any) -> None:
    """Refuse a concrete floating array that holds a NaN or an infinity, saying where."""
    if not is_concrete(values) or not jnp.issubdtype(jnp.result_type(values), jnp.floating):
        return
    values = np.asarray(values)
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(jax.dtypes.canonicalize_dtype(values.dtype)))
    if bad.any():
        where = first_bad(bad)
        place = ", ".join(map(str, where))
        raise ValueError(f"{name}[{place}] is {values[where]}; every value must be finite")


def check_labels(name: str, labels: Any, classes: int) -> None:
    """Refuse concrete integer labels outside 0 … classes - 1, saying which and where."""
    if not is_concrete(labels):
        return
    labels = np.asarray(labels)
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        where = first_bad(bad)
        place = ", ".join(map(str, where))
        raise ValueError(
            f"{name}[{place}] is {labels[where]}; expected labels 0 to {classes - 1} for {classes} outputs"
        )


def check_examples(name: str, examples: Any) -> None:
    """Refuse what is no data set by its shapes and dtypes: arrays `x [n, …]` and `y [n, …]`."""
    if not isinstance(examples, tuple) or len(examples) != 2:
        hint = f" (use {name}=splits.train)" if hasattr(examples, "train") else ""
        raise TypeError(f"{name} must be a Dataset (x, y); got {type(examples).__name__}{hint}")
    for part, values in zip("xy", examples, strict=True):
        if not isinstance(values, np.ndarray | jax.Array | jax.core.Tracer):
            raise TypeError(f"{name}.{part} must be an array; got {type(values).__name__}")
        if jnp.issubdtype(values.dtype, jax.dtypes.prng_key) or not (
            jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool
        ):
            raise TypeError(f"{name}.{part} must hold numbers; got dtype {values.dtype}")
        if values.ndim == 0:
            raise TypeError(f"{name}.{part} must be an array of examples; got a scalar")
    x, y = examples
    if len(x) != len(y):
        raise ValueError(f"{name}.x has {len(x)} examples and {name}.y has {len(y)}; they must be as many")
    if len(x) == 0:
        raise ValueError(f"{name} has no examples")


def check_values(name: str, examples: Any, outputs: int) -> None:
    """Refuse values that are not finite, and labels that do not fit a model of so many outputs.

    Integer `y` are labels where there are two outputs or more; what shape and dtype other targets must have is the
    loss's to say. Values are looked at where they are concrete.
    """
    x, y = examples
    check_finite(f"{name}.x", x)
    check_finite(f"{name}.y", y)
    if outputs < 2 or not jnp.issubdtype(y.dtype, jnp.integer):
        return
    if y.ndim == 2 and y.shape[1] == 1:
        raise ValueError(f"{name}.y has shape {y.shape}; expected ({len(y)},) integer labels (use y[:, 0])")
    if y.ndim == 1:
        check_labels(f"{name}.y", y, outputs)


def check_batch_size(batch_size: Any, examples: int) -> None:
    """Refuse a batch size below 1 or above the number of examples."""
    check_size("batch_size", batch_size)
    if batch_size > examples:
        raise ValueError(f"batch_size is {batch_size}, but there are only {examples} training examples")


def check_functions(**functions: tuple[Callable | None, str]) -> None:
    """Refuse those given that cannot be called; None stands for 'not given'."""
    for name, (function, signature) in functions.items():
        if function is not None:
            check_callable(name, function, signature)
