"""Sentences for bad input, written before any work is done.

Of what is traced only shapes and dtypes are looked at, so that nothing of this is left in a compiled program.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Scalar: TypeAlias = float | int | np.number[Any] | jax.Array  # a hyperparameter: a number, or traced

_ARRAYS = (np.ndarray, np.generic, jax.Array)  # what is traced is a jax.Array too


def is_concrete(value: Any) -> bool:
    """Whether the value can be looked at now: a tracer (under jit, vmap, grad) cannot."""
    return not isinstance(value, jax.core.Tracer)


def in_words(value: Any) -> str:
    """What was given, in one short line: of an array shape and dtype, of a dict the names in it."""
    if not is_concrete(value):
        return "a traced value, which is not known yet"
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, value)) or 'nothing'}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the {type(value).__name__} {value.__name__}"
    words = " ".join(repr(value).split())
    return words if len(words) <= 80 else f"{words[:79]}…"


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
    if isinstance(value, bool) or not isinstance(value, (int, float, *_ARRAYS)):
        raise TypeError(f"{name} must be a number; got {in_words(value)}")
    if np.shape(value) != ():
        raise ValueError(f"{name} must be a scalar; got an array of shape {np.shape(value)} (use jax.vmap to try many)")
    kind = getattr(value, "dtype", np.dtype(float))
    if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        raise TypeError(f"{name} must be a real number; got dtype {kind}")
    if not is_concrete(value):
        return
    try:
        number = float(value)
    except OverflowError:  # of a whole number
        number = math.inf
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
        raise TypeError(f"{name} must be a whole number; got {in_words(value)}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}; got {value}")
    if below is not None and value >= below:
        raise ValueError(f"{name} must be below {below}; got {value}")


def check_shape(name: str, shape: Any, *, at_least: int = 1) -> None:
    """Refuse what is no tuple of sizes of at least `at_least`."""
    if not isinstance(shape, tuple | list):
        raise TypeError(f"{name} must be a tuple of whole numbers; got {in_words(shape)}")
    for size in shape:
        check_size(f"every size in {name}", size, at_least=at_least)


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False; got {in_words(value)}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a word that is not among `choices`, naming the nearest ones."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(unknown(name, value, choices))


def unknown(name: str, value: Any, choices: Sequence[str]) -> str:
    """The sentence for a word that is not among `choices`."""
    import difflib

    near = difflib.get_close_matches(str(value).lower(), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(choices)}"
    return f"unknown {name} {in_words(value)}: {hint}"


def check_callable(name: str, value: Any, signature: str) -> None:
    """Refuse a value that cannot be called."""
    if not callable(value):
        words = in_words(value)
        found = words if words.startswith(("a ", "an ")) else f"{type(value).__name__} {words}"
        raise TypeError(f"{name} must be a function {signature}; got {found}")


def check_key(name: str, key: Any) -> None:
    """Refuse anything but one PRNG key: typed (`jax.random.key`) or of the older form (`uint32[2]`)."""
    if isinstance(key, np.ndarray | jax.Array):
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if is_typed or (key.dtype == jnp.uint32 and key.shape[-1:] in ((2,), (4,))):
            keys = key.shape if is_typed else key.shape[:-1]
            if keys == ():
                return
            raise ValueError(f"{name} must be one key; got {keys} of them (use jax.vmap for many runs)")
    hint = f"jax.random.key({key})" if isinstance(key, int) else "jax.random.key(0)"
    found = f"{key.dtype}{list(key.shape)}" if isinstance(key, np.ndarray | jax.Array) else type(key).__name__
    raise TypeError(f"{name} must be a PRNG key; got {found} (use {hint})")


def check_start(key: Any, input_shape: Any) -> None:
    """Refuse what no layer can begin with: a key that is none, sizes that no array has."""
    check_key("key", key)
    check_shape("input_shape", input_shape)


def check_entries(name: str, tree: Any, *entries: str) -> None:
    """Refuse params, or a state, of another layer."""
    if isinstance(tree, Mapping) and all(entry in tree for entry in entries):
        return
    listed = " and ".join(filter(None, [", ".join(entries[:-1]), *entries[-1:]]))
    wanted = f" with {listed}" if listed else ""
    raise TypeError(f"{name} must be a dict{wanted}; got {in_words(tree)}")


def check_array(name: str, values: Any, *, real: bool = False) -> None:
    """Refuse what is no array of numbers; where they must be `real`, truth values and complex numbers too."""
    if not isinstance(values, _ARRAYS):
        raise TypeError(f"{name} must be an array; got {type(values).__name__}")
    kinds = (jnp.integer, jnp.floating) if real else (jnp.number, np.bool_)
    if not any(jnp.issubdtype(values.dtype, kind) for kind in kinds):
        raise TypeError(f"{name} must hold {'real ' if real else ''}numbers; got dtype {values.dtype}")


def check_floating(function: str, name: str, values: Any, hint: str = "") -> None:
    """Refuse what is no array of floating-point numbers; of integers the `hint` says what to do."""
    if not isinstance(values, _ARRAYS):
        raise TypeError(f"{function} takes {name} as an array; got {type(values).__name__}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        hint = hint if jnp.issubdtype(values.dtype, jnp.integer) else ""
        raise TypeError(f"{function} takes floating-point {name}; got {values.dtype}{hint}")


def check_dtype(name: str, dtype: Any) -> None:
    """Refuse what is no dtype of floating-point numbers."""
    try:
        fits = jnp.issubdtype(np.dtype(dtype), jnp.floating)
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(f"{name} must be a floating-point dtype, such as jnp.float32; got {in_words(dtype)}")


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
        check_array(f"{name}.{part}", values)
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
