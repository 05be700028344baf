"""The configs of a sweep as columns: which of them are traced, and which change the program."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnn._checks import is_concrete

Column: TypeAlias = np.ndarray | jax.Array | list[Any]  # an array is traced; a list changes the program


class Columns(NamedTuple):
    """Hyperparameters, each with a value for every config."""

    structure: Any  # of one config
    names: tuple[str, ...]
    values: tuple[Column, ...]
    configs: int  # how many

    @property
    def traced(self) -> tuple[Any, ...]:
        """The arrays among the columns."""
        return tuple(column for column in self.values if not isinstance(column, list))

    def program_of(self, config: int) -> tuple[Any, ...]:
        """The values that make the program of one config."""
        return tuple(column[config] for column in self.values if isinstance(column, list))

    def programs(self) -> dict[tuple[Any, ...], list[int]]:
        """Which configs share a program, in the order in which they come first."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for config in range(self.configs):
            program = self.program_of(config)
            # 1, 1.0 and True are equal, and make three programs.
            groups.setdefault((*program, *map(type, program)), []).append(config)
        return groups

    def take(self, configs: Sequence[int]) -> "Columns":
        """Some of the configs."""
        index = np.asarray(configs)
        values = tuple(
            [column[config] for config in configs] if isinstance(column, list) else column[index]
            for column in self.values
        )
        return self._replace(values=values, configs=len(configs))

    def build(self, program: Sequence[Any], traced: Sequence[Any]) -> PyTree:
        """One config again, from the values of its program and those that are traced."""
        fixed, moving = iter(program), iter(traced)
        leaves = [next(fixed) if isinstance(column, list) else next(moving) for column in self.values]
        return jax.tree.unflatten(self.structure, leaves)

    def tree(self) -> PyTree:
        """The columns in the structure of one config."""
        return jax.tree.unflatten(self.structure, list(self.values))


def as_columns(configs: Any) -> Columns:
    """Columns of a list of configs, or of a pytree whose leaves are columns.

    Raises:
        TypeError, ValueError: what does not make columns of one length, in one sentence.
    """
    structure, named = _by_config(configs) if isinstance(configs, list) else _by_column(configs)
    lengths = {name: len(column) for name, column in named.items()}
    (first, count), *others = lengths.items()
    for name, length in others:
        if length != count:
            raise ValueError(
                f"configs: {first} has {count} values and {name} has {length}; every column needs one for each config"
            )
    if count == 0:
        raise ValueError("configs is empty: there is nothing to run")
    return Columns(structure, tuple(named), tuple(_column(name, values) for name, values in named.items()), count)


def name_leaves(tree: PyTree, alone: str, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves of a pytree by their paths, `validation/accuracy`; a lone leaf is called `alone`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    return {jax.tree_util.keystr(path, simple=True, separator="/") or alone: leaf for path, leaf in leaves}


def _by_config(configs: list[Any]) -> tuple[Any, dict[str, list[Any]]]:
    """Turn rows into columns: dicts and named tuples are looked into, all else is a value."""
    if not configs:
        raise ValueError("configs is empty: there is nothing to run")

    def is_value(node: Any) -> bool:
        return not isinstance(node, dict) and not (isinstance(node, tuple) and hasattr(node, "_fields"))

    rows = [name_leaves(config, "config", is_value) for config in configs]
    structures: list[Any] = [jax.tree.structure(config, is_leaf=is_value) for config in configs]
    for number, (row, structure) in enumerate(zip(rows, structures, strict=True)):
        if structure != structures[0]:
            raise ValueError(
                f"configs[{number}] has {_listed(row)}, and configs[0] has {_listed(rows[0])}; all need the same"
            )
    if not rows[0]:
        raise ValueError("configs[0] is empty: it has no hyperparameter")
    return structures[0], {name: [row[name] for row in rows] for name in rows[0]}


def _by_column(configs: Any) -> tuple[Any, dict[str, Any]]:
    def is_column(node: Any) -> bool:
        return isinstance(node, list)

    named = name_leaves(configs, "configs", is_column)
    if not named:
        raise ValueError("configs is empty: there is nothing to run")
    for name, column in named.items():
        if isinstance(column, list):
            continue
        if not isinstance(column, np.ndarray | jax.Array):
            where = "configs" if name == "configs" else f"configs: {name}"
            raise TypeError(
                f"{where} is {column!r}; expected a column, an array or a list with a value for each config"
            )
        if column.ndim == 0:
            raise TypeError(f"configs: {name} is a scalar; expected a column with a value for each config")
    return jax.tree.structure(configs, is_leaf=is_column), named


def _column(name: str, values: Any) -> Column:
    """An array if its values are traced, otherwise a list."""
    if not isinstance(values, list):
        if not is_concrete(values):
            raise TypeError(f"configs: {name} is traced; sweep compiles and runs by itself, outside of jit and vmap")
        return _checked_array(name, values)
    if any(_is_decimal(value) for value in values) and all(_is_decimal(value) or _is_whole(value) for value in values):
        return np.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))
    if all(isinstance(value, np.ndarray | jax.Array) for value in values):
        shapes = {value.shape for value in values}
        if len(shapes) > 1:
            raise ValueError(f"configs: {name} has arrays of the shapes {', '.join(map(str, sorted(shapes)))}")
        return _checked_array(name, jnp.stack([jnp.asarray(value) for value in values]))
    values = [int(value) if isinstance(value, np.integer) else value for value in values]
    for value in values:
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"configs: {name} has the value {value!r}, which cannot tell programs apart: use a tuple"
            ) from None
    return values


def _checked_array(name: str, values: Any) -> np.ndarray | jax.Array:
    if isinstance(values, np.ndarray) and not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
        raise TypeError(f"configs: {name} is an array of {values.dtype}; give words as a list")
    if isinstance(values, np.ndarray):
        return values.astype(jax.dtypes.canonicalize_dtype(values.dtype))
    return values


def _is_decimal(value: Any) -> bool:
    return isinstance(value, float | np.floating) or (
        isinstance(value, np.ndarray | jax.Array) and value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.floating)
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A scalar out of an array as a Python number, the shortest that rounds to it; all else as it is."""
    is_number = isinstance(value, np.ndarray | np.generic | jax.Array) and not jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    )
    if not is_number or value.ndim:
        return value
    return float(str(value)) if jnp.issubdtype(value.dtype, jnp.floating) else value.item()


def _listed(row: dict[str, Any]) -> str:
    return ", ".join(row) or "nothing"
