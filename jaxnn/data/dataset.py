"""Examples and their three parts."""

from typing import NamedTuple

import numpy as np
from jax import Array

__all__ = ["DataError", "Dataset", "Splits", "split"]


class DataError(ValueError):
    """A file that cannot be used, with its name and what is wrong."""


class Dataset(NamedTuple):
    """Examples `x [n, …]` with their targets `y`: integer labels `[n]`, or `[n, outputs]`."""

    x: np.ndarray | Array
    y: np.ndarray | Array


class Splits(NamedTuple):
    """What is trained on, what settings are chosen by, and what is measured once at the end."""

    train: Dataset
    validation: Dataset
    test: Dataset


def split(
    dataset: Dataset,
    *,
    validation: float | int | np.number = 0.1,
    test: float | int | np.number = 0.2,
    seed: int = 0,
) -> Splits:
    """Divide examples at random into training, validation and test data.

    `validation` and `test` are fractions below 1, or numbers of examples; the rest is for training. Integer
    labels are stratified: each part has each class in nearly the same proportion. The same `seed` makes the same
    parts.

    Raises:
        ValueError: a part that is negative, or nothing left to train on.

    >>> import numpy as np, jaxnn as nn
    >>> x, y = np.arange(100.0).reshape(100, 1), np.arange(100) % 2
    >>> parts = nn.data.split(nn.data.Dataset(x, y), validation=0.1, test=20)
    >>> print([len(part.x) for part in parts], parts.test.y.mean())
    [70, 10, 20] 0.5
    """
    x, y = np.asarray(dataset.x), np.asarray(dataset.y)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y has {len(y)}; they must be as many")
    sizes = [_part_size(name, size, len(x)) for name, size in (("validation", validation), ("test", test))]
    if sum(sizes) >= len(x):
        raise ValueError(f"validation={validation} and test={test} leave none of {len(x)} examples to train on")
    order = _stratified_order(y, np.random.default_rng(seed))
    validation_size, test_size = sizes
    parts = np.split(order, [test_size, test_size + validation_size])
    test_set, validation_set, train_set = (Dataset(x[part], y[part]) for part in parts)
    return Splits(train_set, validation_set, test_set)


def _part_size(name: str, size: float | int | np.number, examples: int) -> int:
    is_fraction = isinstance(size, float | np.floating)
    if size < 0 or (is_fraction and size >= 1):
        raise ValueError(f"{name} must be a fraction from 0 to below 1 or a number of examples; got {size}")
    return round(float(size) * examples) if is_fraction else int(size)


def _stratified_order(y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random order of which every stretch holds the classes in proportion."""
    order = random.permutation(len(y))
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        return order
    # The i-th of n examples of a class belongs at (i + u) / n of the way, u random per class.
    place = np.empty(len(y))
    for label in np.unique(y):
        members = np.flatnonzero(y[order] == label)
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return order[np.argsort(place, kind="stable")]
