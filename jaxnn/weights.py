"""Weights in files that other programs read too, by name. Nothing is ever unpickled."""

import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn._checks import in_words
from jaxnn._tensors import (
    Tensors,
    as_tensors,
    from_tensors,
    key_kinds,
    longest,
    read_tensors,
    write_aside,
    write_tensors,
)
from jaxnn.data._files import as_path

__all__ = ["export", "load_weights"]

_SUFFIXES = (".safetensors", ".npz")
_LONGEST_HEADER = 10_000  # bytes of an array in an .npz, before its values


def export(path: str | Path, tree: PyTree, about: dict[str, Any] | None = None) -> None:
    """Write a pytree of arrays, such as `params`, to a file: one array a leaf, named by its path, `dense1/W`.

    The file has its name when it is whole; one of that name that was there before is replaced.

    Args:
        path: ends in `.safetensors`, exact for every dtype that training uses, with a checksum; or in `.npz`, for
            NumPy's own dtypes, to be read by `numpy.load`.
        tree: arrays; PRNG keys are written as the words they are made of.
        about: said in the file beside the arrays, as JSON has it; only in `.safetensors`.

    Raises:
        TypeError: no path, no tree of arrays, or an `about` that is no dict.
        ValueError: another ending, two leaves of one name, or a dtype that the file has no form for.
        OSError: the file cannot be written.

    >>> import pathlib, tempfile
    >>> import jax.numpy as jnp, jaxnn as nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "weights.npz")
    ...     nn.export(path, {"dense1": {"b": jnp.array([1.5, 2.0])}})
    ...     print(nn.load_weights(path, {"dense1": {"b": jnp.zeros(2)}}))
    {'dense1': {'b': Array([1.5, 2. ], dtype=float32)}}
    """
    path = _checked(path)
    _check_leaves("tree", tree)
    if about is not None and not isinstance(about, dict):
        raise TypeError(f"about must be a dict; got {in_words(about)}")
    tensors = as_tensors(tree)
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, {**(about or {}), "keys": key_kinds(tree)})
        return
    if about is not None:
        raise ValueError(f"{path}: an .npz has no place for what is said about it; use .safetensors")
    for name, values in tensors.items():
        if values.dtype.kind not in "biufc":
            raise ValueError(f"{name} is {values.dtype.name}, which NumPy does not know; export to .safetensors")
    with write_aside(path) as aside, zipfile.ZipFile(aside, "w") as archive:  # np.savez knows no leaf named file
        for name, values in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def load_weights(path: str | Path, like: PyTree) -> PyTree:
    """Read a pytree from a file that `export` has written, or any other program, with such names in it.

    Args:
        path: a `.safetensors` or `.npz`. The checksum of a file that has one is compared.
        like: what is expected, arrays or their shapes: the parameters of a model are like
            `jax.eval_shape(lambda key: model.init(key, input_shape)[0], key)`.

    Raises:
        ValueError: the file is missing or damaged, or holds other names, shapes or dtypes than `like`.

    >>> import pathlib, tempfile
    >>> import jax, jaxnn as nn
    >>> model = nn.mlp([4], outputs=2)
    >>> shapes = jax.eval_shape(lambda key: model.init(key, (3,))[0], jax.random.key(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "weights.safetensors")
    ...     nn.export(path, model.init(jax.random.key(0), (3,))[0])
    ...     params = nn.load_weights(path, like=shapes)
    >>> print(params["dense1"]["W"].shape)
    (3, 4)
    """
    path = _checked(path)
    _check_leaves("like", like)
    try:
        tensors = read_tensors(path.read_bytes(), str(path), checked=False)[0] if path.suffix != ".npz" else None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    return from_tensors(_read_npz(path, like) if tensors is None else tensors, like, str(path))


def _checked(path: str | Path) -> Path:
    path = as_path(path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path}: weights are kept in files that end in {' or '.join(_SUFFIXES)}")
    return path


def _check_leaves(name: str, tree: PyTree) -> None:
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | complex):
            place = jax.tree_util.keystr(path, simple=True, separator="/") or "only leaf"
            raise TypeError(f"{name} must hold arrays; its {place} is a {type(leaf).__name__}")


def _read_npz(path: Path, like: PyTree) -> Tensors:
    """The arrays of an archive; none is unfolded that is larger than what is expected."""
    most = longest(like) + _LONGEST_HEADER
    try:
        with np.load(path, allow_pickle=False) as archive:
            for member in archive.zip.infolist():
                if member.file_size > most:
                    raise ValueError(f"{member.filename} is larger than any array of this model")
            return dict(archive)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # NumPy and zipfile raise errors of many kinds on a corrupt archive
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path}: is no .npz archive of arrays, or is damaged ({said})") from None
