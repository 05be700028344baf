"""Pytrees as named tensors in a safetensors file: written whole or not at all, compared with their SHA-256 when read.

The digest is one of content, not of bytes: names, dtypes, shapes, values and what is said about them.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnn.data._files import opened
from jaxnn.data.dataset import DataError

__all__ = [
    "ASIDE",
    "DamagedError",
    "Tensors",
    "as_tensors",
    "from_tensors",
    "key_kinds",
    "longest",
    "read_tensors",
    "read_whole",
    "sync",
    "write_aside",
    "write_tensors",
]

Tensors = dict[str, np.ndarray]

ASIDE = ".unfinished-"  # how the name of a file begins until it is whole
_ABOUT = "about"
_DIGEST = "sha256"
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
_MOST_DIFFERENCES = 3  # that are named


class DamagedError(ValueError):
    """A file does not hold what was written to it."""


def as_tensors(tree: PyTree) -> Tensors:
    """The leaves of a tree by the paths to them; of PRNG keys the words that they are made of.

    Raises:
        ValueError: two leaves have the same name, or one is of a dtype that safetensors does not know.

    >>> import numpy as np
    >>> print(list(as_tensors({"dense1": {"W": np.ones((2, 3))}, "step": np.int32(4)})))
    ['dense1/W', 'step']
    """
    tensors: Tensors = {}
    for name, leaf in _named_leaves(tree):
        if name in tensors:
            raise ValueError(f"two leaves would both be named {name!r}; no key of a tree may have a / in it")
        values = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else _as_array(leaf), order="C")
        if values.dtype.name not in _DTYPES.values():
            raise ValueError(f"{name} is of dtype {values.dtype.name}, for which safetensors has no form")
        tensors[name] = values
    return tensors


def from_tensors(
    tensors: Mapping[str, np.ndarray], like: PyTree, place: str, there: str = "file", here: str = "model"
) -> PyTree:
    """The tree that such tensors make up, of the structure, shapes and dtypes of `like`.

    Raises:
        ValueError: they are other tensors than those of `like`; the sentence begins with `place`.

    >>> import numpy as np
    >>> from_tensors({"W": np.ones((100, 10))}, {"W": np.ones((50, 10))}, "weights.npz")
    Traceback (most recent call last):
    ValueError: weights.npz: W is (100, 10) in the file, (50, 10) in this model
    """
    expected = dict(_named_leaves(like))
    differences = []
    for name in dict.fromkeys([*expected, *tensors]):
        if name not in expected or name not in tensors:
            differences.append(f"{name} is only in {f'this {here}' if name in expected else f'the {there}'}")
            continue
        found, wanted = _form(tensors[name]), _form(expected[name])
        if found != wanted:
            # Of two that differ in the shape alone, the dtype says nothing.
            theirs, ours = (
                f"{shape}" if found[1] == wanted[1] else f"{dtype}{list(shape)}" for shape, dtype in (found, wanted)
            )
            differences.append(f"{name} is {theirs} in the {there}, {ours} in this {here}")
    if differences:
        more = len(differences) - _MOST_DIFFERENCES
        said = [*differences[:_MOST_DIFFERENCES], *([f"and {more} more differ"] if more > 0 else [])]
        raise ValueError(f"{place}: {'; '.join(said)}")
    leaves = [_like(tensors[name], leaf) for name, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def longest(tree: PyTree) -> int:
    """How many bytes the largest leaf has."""
    forms = [_form(leaf) for _, leaf in _named_leaves(tree)]
    return max((math.prod(shape) * jnp.dtype(dtype).itemsize for shape, dtype in forms), default=0)


def key_kinds(tree: PyTree) -> dict[str, str]:
    """The names of the leaves that are PRNG keys, and what kind of key each one is."""
    return {name: str(_kind(leaf)) for name, leaf in _named_leaves(tree) if _is_key(leaf)}


def write_tensors(path: Path, tensors: Tensors, about: dict[str, Any]) -> None:
    """Write tensors, and what there is to say about them, as one file: it is whole when it has its name.

    Raises:
        OSError: it cannot be written; what was there by that name is still there.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    said = json.dumps(about)
    metadata = {_ABOUT: said, _DIGEST: _digest(tensors, said)}
    with write_aside(path) as aside:
        try:
            save_file(tensors, aside, metadata)
        except SafetensorError as error:  # what the system says is in it as text
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file to; at the end of the block it is on the disk, and named `path`."""
    aside = path.with_name(f"{ASIDE}{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        aside.touch()
        mode = aside.stat().st_mode  # as the user has files made; a library may make private ones
        yield aside
        aside.chmod(mode)
        sync(aside)
        aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    with contextlib.suppress(OSError):  # some file systems have it for files alone
        sync(path.parent)


def read_whole(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DamagedError: it is missing, is no file, or cannot be read.
    """
    try:
        with opened(path) as file:
            return file.read()
    except DataError as error:
        raise DamagedError(str(error)) from None


def read_tensors(content: bytes, place: str, *, checked: bool = True) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a file that `write_tensors` has written, and what it says about them.

    Where it need not be `checked`, it may be another program's, and have no checksum.

    Raises:
        DamagedError: it is no such file, or is damaged; the sentence begins with `place`.
    """
    from safetensors import SafetensorError, deserialize

    try:
        tensors = {
            name: np.frombuffer(tensor["data"], jnp.dtype(_DTYPES[tensor["dtype"]])).reshape(tensor["shape"])
            for name, tensor in deserialize(content)
        }
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DamagedError(f"{place}: is no safetensors file, or is damaged ({said})") from None
    if not {_ABOUT, _DIGEST} <= metadata.keys():
        if not checked:
            return tensors, {}
        raise DamagedError(f"{place}: was not written by jaxnn: it has no checksum")
    if metadata[_DIGEST] != _digest(tensors, metadata[_ABOUT]):
        raise DamagedError(f"{place}: is damaged: what is in it has another SHA-256 than it says")
    about: dict[str, Any] = json.loads(metadata[_ABOUT])
    return tensors, about


def _digest(tensors: Mapping[str, np.ndarray], about: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name]
        digest.update(json.dumps([name, values.dtype.name, values.shape]).encode())
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    digest.update(about.encode())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/") or "value", leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kind(key: Any) -> Any:
    kinds: list[Any] = []
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), key)  # of a key's shape alone JAX does not tell
    return kinds[0]


def _as_array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)


def _form(leaf: Any) -> tuple[tuple[int, ...], str]:
    leaf = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else _as_array(leaf)
    return leaf.shape, leaf.dtype.name


def _like(values: np.ndarray, leaf: Any) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(values), impl=_kind(leaf))
    # JAX would make float32 of float64.
    return values if isinstance(leaf, np.ndarray | np.generic) else jnp.asarray(values)
