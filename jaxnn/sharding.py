"""Data parallelism: each mini-batch is split over devices, of one host or of many."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from jaxnn._checks import in_words

__all__ = [
    "Pieces",
    "as_on_device",
    "check_batch_sharding",
    "checked_devices",
    "constrain_batch",
    "constrain_whole",
    "data_parallel",
    "number_of_parts",
    "own_rows",
    "place_rows",
    "place_steps",
    "place_whole",
    "split_evenly",
    "whole",
]

Tree = TypeVar("Tree")


def data_parallel(devices: Sequence[jax.Device] | None = None) -> NamedSharding:
    """How a mini-batch lies on several devices, an equal part on each: the `batch_sharding` of `fit`, `runner.train`.

    Each of D devices has a copy of the parameters θ and `batch_size / D` of the examples. The loss is the mean over
    the whole batch, so that its gradient is the mean of the devices' own; they exchange these sums in every step:

        L(θ) = 1/D ∑_d L_d(θ),    ∂L/∂θ = 1/D ∑_d ∂L_d/∂θ

    What looks at the whole batch still does: batch norm takes its moments over all D parts, and dropout draws one
    mask. So the result is that of one device but for the order in which numbers are added. The batch size must be a
    multiple of D. Give the data itself to `fit` as always; every device then holds all of it.

    Args:
        devices: which; None is all there are, `jax.devices()`, those of all hosts after `hosts.start`.

    Returns:
        a `NamedSharding` of the first axis over a mesh of one axis, "batch".

    Raises:
        TypeError: `devices` is no list of devices.
        ValueError: no devices, or one of them twice.

    >>> import jax, jaxnn as nn
    >>> train, _, _ = nn.data.load("digits")
    >>> result = nn.fit(
    ...     nn.mlp([32], outputs=10, batch_norm=True), nn.softmax_cross_entropy, nn.adam(0.01), train,
    ...     key=jax.random.key(0), epochs=5, batch_size=96,
    ...     preprocess=nn.data.min_max(train.x, axis=None), batch_sharding=data_parallel(),
    ... )
    >>> print(bool(result.history.train["accuracy"][-1] > 0.8))
    True
    """
    # Not jax.make_mesh: its axes are explicit, and every x[index] would have to say how its result is laid out.
    mesh = Mesh(np.array(checked_devices(devices)), ("batch",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("batch"))


def checked_devices(devices: Any) -> list[jax.Device]:
    """Those that are meant, all for None; refuse what is no list of different ones."""
    if devices is None:
        return jax.devices()
    if isinstance(devices, np.ndarray):
        devices = devices.ravel().tolist()
    if not isinstance(devices, Sequence) or isinstance(devices, str):
        raise TypeError(f"devices must be a list such as jax.devices(); got {in_words(devices)}")
    for device in devices:
        if not isinstance(device, jax.Device):
            raise TypeError(f"devices must be a list such as jax.devices(); it holds {in_words(device)}")
    if not devices:
        raise ValueError("devices is empty; at least one device is needed")
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices has a device twice: {', '.join(map(str, devices))}")
    return list(devices)


def check_batch_sharding(batch_sharding: Any, batch_size: int | None) -> None:
    """Refuse what `data_parallel` does not return, a batch that it cannot split, and a process without a device.

    Without a size, batches need not be split evenly.
    """
    if batch_sharding is None:
        return
    if (
        not isinstance(batch_sharding, NamedSharding)
        or len(batch_sharding.spec) != 1
        or any(kind != AxisType.Auto for kind in batch_sharding.mesh.axis_types)
    ):
        raise TypeError(f"batch_sharding must be made by data_parallel(…); got {in_words(batch_sharding)}")
    parts = number_of_parts(batch_sharding)
    if batch_size is not None and batch_size % parts:
        raise ValueError(
            f"batch_size is {batch_size}, which {parts} devices cannot share evenly; use a multiple of {parts}"
        )
    without = set(range(jax.process_count())) - {device.process_index for device in batch_sharding.mesh.devices.flat}
    if without:
        raise ValueError(
            f"process {min(without)} of {jax.process_count()} has none of the devices that share the batches; "
            "use devices of every process"
        )


def number_of_parts(batch_sharding: NamedSharding | None) -> int:
    """Into how many parts it splits a batch.

    >>> import jax
    >>> print(number_of_parts(data_parallel(jax.devices()[:1])), number_of_parts(None))
    1 1
    """
    if batch_sharding is None:
        return 1
    axes = batch_sharding.spec[0]
    names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
    return math.prod(batch_sharding.mesh.shape[name] for name in names)


class Pieces(NamedTuple):
    """The batches of a pass over all examples, in this order."""

    steps: int
    size: int  # of each of the steps; a multiple of the parts
    tail: int  # of one more batch, smaller, and a multiple too
    rest: int  # too few to be shared


def split_evenly(examples: int, at_most: int, parts: int) -> Pieces:
    """Split a pass over all examples into batches of `at_most`, or of `parts`, that so many devices can share.

    >>> print(split_evenly(1999, 1000, 8))
    Pieces(steps=1, size=1000, tail=992, rest=7)
    """
    size = max(at_most // parts, 1) * parts
    steps, left = divmod(examples, size)
    return Pieces(steps, size, left // parts * parts, left % parts)


def constrain_batch(batch: Tree, batch_sharding: NamedSharding | None) -> Tree:
    """In a compiled function: split arrays `[batch, …]` over the devices; as they are if they cannot share evenly."""
    if batch_sharding is None:
        return batch
    parts = number_of_parts(batch_sharding)

    def split(part: Array) -> Array:
        return part if len(part) % parts else jax.lax.with_sharding_constraint(part, batch_sharding)

    return jax.tree.map(split, batch)


def constrain_whole(tree: Tree, batch_sharding: NamedSharding | None) -> Tree:
    """In a compiled function: all of each array on each device, as parameters are."""
    if batch_sharding is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, whole(batch_sharding))


def whole(batch_sharding: NamedSharding) -> NamedSharding:
    """All of an array on each of the devices."""
    return NamedSharding(batch_sharding.mesh, PartitionSpec())


def own_rows(batch_sharding: NamedSharding, size: int) -> Int[np.ndarray, " rows"]:
    """Which rows of a batch of `size` the devices of this process want: all if they cannot share it evenly.

    >>> import jax
    >>> print(own_rows(data_parallel(jax.devices()[:1]), 3))
    [0 1 2]
    """
    wanted = np.zeros(size, bool)
    for rows in _layout(batch_sharding, size).addressable_devices_indices_map((size,)).values():
        wanted[rows] = True
    return np.flatnonzero(wanted)


def place_rows(rows: Tree, batch_sharding: NamedSharding, size: int) -> Tree:
    """A batch of `size` on the devices, of which this process brings its `own_rows`."""
    own = own_rows(batch_sharding, size)

    def place(part: np.ndarray) -> Array:
        values = as_on_device(part)

        def of_device(index: Any) -> np.ndarray:
            wanted = np.arange(size)[index[0]]
            first = int(np.searchsorted(own, wanted[0]))
            return values[first : first + len(wanted)]

        shape = (size, *values.shape[1:])
        return jax.make_array_from_callback(shape, _layout(batch_sharding, size), of_device)

    return jax.tree.map(place, rows)


def place_steps(examples: PyTree, order: Int[np.ndarray, "steps batch"], batch_sharding: NamedSharding) -> PyTree:
    """Arrays `[steps, batch, …]` of the examples in that order, of which each device gets its part of every batch."""
    layout = NamedSharding(batch_sharding.mesh, PartitionSpec(None, *batch_sharding.spec))

    def place(part: Array | np.ndarray) -> Array:
        values = as_on_device(part)

        def of_device(index: Any) -> np.ndarray:
            return values[order[index[:2]]]

        return jax.make_array_from_callback((*order.shape, *values.shape[1:]), layout, of_device)

    return jax.tree.map(place, examples)


def place_whole(tree: Tree, batch_sharding: NamedSharding) -> Tree:
    """All of each array on each device; every process brings the same values."""
    layout = whole(batch_sharding)

    def place(leaf: Any) -> Array:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        values = as_on_device(leaf)
        return jax.make_array_from_callback(values.shape, layout, lambda index: values[index])

    return jax.tree.map(place, tree)


def _layout(batch_sharding: NamedSharding, size: int) -> NamedSharding:
    return whole(batch_sharding) if size % number_of_parts(batch_sharding) else batch_sharding


def as_on_device(values: Any) -> np.ndarray:
    """Values of the dtype that they will have there."""
    values = np.asarray(values)
    return values.astype(jax.dtypes.canonicalize_dtype(values.dtype), copy=False)
