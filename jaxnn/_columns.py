"""The configs of a sweep as columns: which of them are traced, and which change the program."""

from collections.abc import Callable, Collection, Sequence
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
    weak: tuple[bool, ...]  # of Python's decimals: they take the type of what they meet, as they do outside of JAX
    configs: int  # how many

    @property
    def traced(self) -> tuple[Any, ...]:
        """The arrays among the columns."""
        return tuple(column for column in self.values if not isinstance(column, list))

    @property
    def example(self) -> list[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of what is traced of one config."""
        return [
            jax.ShapeDtypeStruct(column.shape[1:], column.dtype, weak_type=weak)
            for column, weak in zip(self.values, self.weak, strict=True)
            if not isinstance(column, list)
        ]

    def program_of(self, config: int) -> tuple[Any, ...]:
        """The values that make the program of one config."""
        return tuple(column[config] for column in self.values if isinstance(column, list))

    def programs(self) -> dict[tuple[Any, ...], list[int]]:
        """Which configs share a program, in the order in which they come first."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for config in range(self.configs):
            program = self.program_of(config)
            # 1, 1.0 and True are equal, and make three programs.
            groups.setdefault((program, _types(program)), []).append(config)
        return groups

    def take(self, configs: Sequence[int]) -> "Columns":
        """Some of the configs."""
        index = np.asarray(configs)
        values = tuple(
            [column[config] for config in configs] if isinstance(column, list) else column[index]
            for column in self.values
        )
        return self._replace(values=values, configs=len(configs))

    def beside(self, **arrays: tuple[Any, ...]) -> "Columns":
        """The same configs, each with arrays of its own: `{"config": config, name: (array, …)}`."""
        rest = tuple(array for name in sorted(arrays) for array in arrays[name])
        config = jax.tree.unflatten(self.structure, [0] * len(self.values))
        structure = jax.tree.structure({"config": config, **arrays})
        return Columns(structure, self.names, (*self.values, *rest), (*self.weak, *[False] * len(rest)), self.configs)

    def build(self, program: Sequence[Any], traced: Sequence[Any]) -> PyTree:
        """One config again, from the values of its program and those that are traced."""
        fixed, moving = iter(program), iter(traced)
        leaves = [next(fixed) if isinstance(column, list) else next(moving) for column in self.values]
        return jax.tree.unflatten(self.structure, leaves)

    def tree(self) -> PyTree:
        """The columns in the structure of one config."""
        return jax.tree.unflatten(self.structure, list(self.values))


def as_columns(configs: Any, static: Collection[str] = ()) -> Columns:
    """Columns of a list of configs, or of a pytree whose leaves are columns.

    Those called `static` change the program whatever is in them.

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
    columns = {name: _column(name, values, is_static=name in static) for name, values in named.items()}
    weak = [isinstance(values, list) and not isinstance(columns[name], list) for name, values in named.items()]
    weak = [
        flag and all(type(value) in (int, float) for value in named[name])
        for flag, name in zip(weak, named, strict=True)
    ]
    return Columns(structure, tuple(named), tuple(columns.values()), tuple(weak), count)


def name_leaves(tree: PyTree, alone: str, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves of a pytree by their paths, `validation/accuracy`; a lone leaf is called `alone`.

    Raises:
        ValueError: two leaves have the same name.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or alone
        if name in named:
            raise ValueError(f"two leaves of the {alone} are called {name}: give one another name")
        named[name] = leaf
    return named


def _by_config(configs: list[Any]) -> tuple[Any, dict[str, list[Any]]]:
    """Turn rows into columns: dicts and the like are looked into, and a config that is a tuple; all else is a value."""
    if not configs:
        raise ValueError("configs is empty: there is nothing to run")
    rows: list[dict[str, Any]] = []
    structures: list[Any] = []
    for config in configs:

        def is_value(node: Any, config: Any = config) -> bool:
            is_plain = isinstance(node, list | tuple) and not hasattr(node, "_fields")
            return node is None or (is_plain and not (node is config and isinstance(node, tuple)))

        rows.append(name_leaves(config, "config", is_value))
        structures.append(jax.tree.structure(config, is_leaf=is_value))
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
                f"{where} is {column!r}; expected a column: an array or a list with a value for each config"
            )
        if column.ndim == 0:
            raise TypeError(f"configs: {name} is a scalar; expected a column with a value for each config")
    return jax.tree.structure(configs, is_leaf=is_column), named


def _column(name: str, values: Any, *, is_static: bool) -> Column:
    """An array if its values are traced, otherwise a list."""
    if not isinstance(values, list):
        return _checked_array(name, values)
    are_numbers = all(_is_decimal(value) or _is_whole(value) for value in values)
    if not is_static and are_numbers and any(map(_is_decimal, values)):
        return _cast(name, np.asarray([float(value) for value in values]))
    if all(isinstance(value, np.ndarray | jax.Array) for value in values):
        shapes = {value.shape for value in values}
        if len(shapes) > 1:
            raise ValueError(f"configs: {name} has arrays of the shapes {', '.join(map(str, sorted(shapes)))}")
        return _checked_array(name, jnp.stack([jnp.asarray(value) for value in values]))
    values = [int(value) if isinstance(value, np.integer) else value for value in values]
    for value in values:
        if isinstance(value, np.ndarray | jax.Array):
            raise TypeError(f"configs: {name} has arrays beside other values; make all of them arrays, or none")
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"configs: {name} has the value {value!r}, which cannot tell programs apart: use a tuple"
            ) from None
    return values


def _checked_array(name: str, values: Any) -> np.ndarray | jax.Array:
    if not is_concrete(values):
        raise TypeError(f"configs: {name} is traced; sweep compiles and runs by itself, outside of jit and vmap")
    if isinstance(values, jax.Array):
        return values
    if not (jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool):
        raise TypeError(f"configs: {name} is an array of {values.dtype}; give words as a list")
    return _cast(name, values)


def _cast(name: str, values: np.ndarray) -> np.ndarray:
    """In the dtype that JAX computes with.

    Raises:
        ValueError: a value would become another one: a whole number, an infinity, or 0.
    """
    with np.errstate(over="ignore", under="ignore"):
        cast = values.astype(jax.dtypes.canonicalize_dtype(values.dtype))
    if jnp.issubdtype(values.dtype, jnp.inexact):
        changed = (np.isfinite(values) & ~np.isfinite(cast)) | ((values != 0) & (cast == 0))
    else:
        changed = cast != values
    if changed.any():
        raise ValueError(f"configs: {name} has the value {values[changed].flat[0]}, which {cast.dtype} cannot hold")
    return cast


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


def _types(value: Any) -> Any:
    """The types of a value and of what is in it."""
    return (type(value), *map(_types, value)) if isinstance(value, tuple | frozenset) else type(value)


def _listed(row: dict[str, Any]) -> str:
    return ", ".join(row) or "nothing"
