"""Weights in files: safetensors, named after the tree's paths. Nothing is ever unpickled."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

__all__ = ["load_weights", "save_weights"]


def save_weights(path: str | Path, tree: PyTree) -> None:
    """Write a pytree of arrays to a safetensors file, one tensor a leaf, named by its path: `params/dense1/W`.

    >>> import pathlib, tempfile
    >>> import jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "weights.safetensors")
    ...     save_weights(path, {"dense1": {"b": jnp.array([1.5, 2.0])}, "count": jnp.array(3)})
    ...     print(load_weights(path, {"dense1": {"b": jnp.zeros(2)}, "count": jnp.array(0)}))
    {'count': Array(3, dtype=int32), 'dense1': {'b': Array([1.5, 2. ], dtype=float32)}}
    """
    from safetensors.numpy import save

    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named_leaves(tree)}
    Path(path).write_bytes(save(tensors))


def load_weights(path: str | Path, like: PyTree) -> PyTree:
    """Read a pytree that `save_weights` has written. `like` gives the structure, shapes and dtypes expected.

    Raises:
        ValueError: the file is missing, damaged, or holds other tensors, shapes or dtypes than `like`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    try:
        tensors = load(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no safetensors file, or is damaged ({error})") from None
    expected = dict(_named_leaves(like))
    for name in sorted(expected.keys() ^ tensors.keys()):
        where = "this model" if name in expected else path.name
        raise ValueError(f"{path}: {name} is only in {where}: the weights are another model's")
    for name, leaf in expected.items():
        found = tensors[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(
                f"{path}: {name} is {found.dtype}{list(found.shape)} in the file, "
                f"{leaf.dtype}{list(leaf.shape)} in this model"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [jax.numpy.asarray(tensors[name]) for name in expected])


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
