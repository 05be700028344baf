"""Examples and their three parts."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jax import Array

from jaxnn._checks import Scalar, check_examples, check_number, check_size, is_concrete

__all__ = ["DataError", "Dataset", "Parts", "Size", "Splits", "check_part", "divide", "split"]


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


class Parts(NamedTuple):
    """What a file holds, in the parts into which it divides its examples itself; None where it has no such part."""

    train: Dataset
    """All examples, if the file does not divide them."""
    validation: Dataset | None = None
    test: Dataset | None = None
    classes: tuple[str, ...] = ()
    """Names of the classes, where the file has them."""
    targets: tuple[str, ...] = ()
    """Names of the numbers to predict, where it has them."""
    columns: tuple[str, ...] = ()
    """Names of the features, where it has them."""


Size: TypeAlias = Scalar
"""A part of the examples: a fraction below 1, or a number of them."""


def split(dataset: Dataset, *, validation: Size = 0.1, test: Size = 0.2, seed: int = 0) -> Splits:
    """Divide examples at random into training, validation and test data.

    `validation` and `test` are fractions below 1, or numbers of examples; the rest is for training. Integer
    labels are stratified: each part has each class in nearly the same proportion, to within two examples where the
    classes are alike. The same `seed` makes the same parts.

    Raises:
        TypeError: no data set of arrays.
        ValueError: x and y that are not as many, a part that is negative, or nothing left to train on.

    >>> import numpy as np, jaxnn as nn
    >>> x, y = np.arange(100.0).reshape(100, 1), np.arange(100) % 2
    >>> parts = nn.data.split(nn.data.Dataset(x, y), validation=0.1, test=20)
    >>> print([len(part.x) for part in parts], parts.test.y.mean())
    [70, 10, 20] 0.5
    """
    check_examples("dataset", dataset)
    check_size("seed", seed, at_least=0)
    x, y = map(np.asarray, dataset)
    sizes = [_part_size(name, size, len(x)) for name, size in (("validation", validation), ("test", test))]
    if sum(sizes) >= len(x):
        raise ValueError(f"validation={validation} and test={test} leave none of {len(x)} examples to train on")
    validation_size, test_size = sizes
    order = _stratified_order(y, np.random.default_rng(seed))
    parts = np.split(order, [test_size, test_size + validation_size])
    test_set, validation_set, train_set = (Dataset(x[part], y[part]) for part in parts)
    return Splits(train_set, validation_set, test_set)


def divide(parts: Parts, *, validation: Size | None = None, test: Size | None = None, seed: int = 0) -> Splits:
    """Complete the parts that a data set came in: what it has stays as it is, what it lacks is taken from `train`.

    `validation` and `test` are fractions of what `train` holds, or numbers of examples, and are taken as `split`
    takes them; by default 0.1 and 0.2.

    Raises:
        ValueError: a size for a part that there is already; a part that would be empty, though its size is not 0;
            or nothing left to train on.

    >>> import numpy as np, jaxnn as nn
    >>> x, y = np.arange(100.0).reshape(100, 1), np.arange(100) % 2
    >>> train, test = nn.data.Dataset(x[:60], y[:60]), nn.data.Dataset(x[60:], y[60:])
    >>> print([len(part.x) for part in divide(Parts(train, test=test), validation=0.25)])
    [45, 15, 40]
    """
    if not isinstance(parts, Parts):
        raise TypeError(f"parts must be Parts(train, validation, test, …); got {type(parts).__name__}")
    check_examples("parts.train", parts.train)
    if parts.validation is not None and parts.test is not None and validation is None and test is None:
        return Splits(parts.train, parts.validation, parts.test)
    examples = len(parts.train.x)
    sizes: dict[str, Size] = {}
    for name, given, official, default in (
        ("validation", validation, parts.validation, 0.1),
        ("test", test, parts.test, 0.2),
    ):
        if official is not None and given is not None:
            raise ValueError(f"{name}={given}: the data has a {name} part of its own, which is never mixed in")
        sizes[name] = 0 if official is not None else default if given is None else given
        if _part_size(name, sizes[name], examples) == 0 and sizes[name] != 0:
            hint = f"give {name} a number of them, or more data"
            raise ValueError(f"{name}={sizes[name]:g} of {examples} examples is not one: {hint}")
    made = split(parts.train, validation=sizes["validation"], test=sizes["test"], seed=seed)
    return Splits(
        made.train,
        made.validation if parts.validation is None else parts.validation,
        made.test if parts.test is None else parts.test,
    )


def check_part(name: str, size: Any) -> int | float:
    """The part as a plain number; refuse what is neither a fraction nor a number of examples."""
    check_number(name, size, at_least=0)
    if not is_concrete(size):
        raise TypeError(f"{name} is traced; data is divided outside of jit and vmap")
    number = np.asarray(size).item()
    if isinstance(number, float) and number >= 1:
        raise ValueError(f"{name} must be a fraction from 0 to below 1 or a number of examples; got {number}")
    return number


def _part_size(name: str, size: Size, examples: int) -> int:
    number = check_part(name, size)
    return number if isinstance(number, int) else round(number * examples)


def _stratified_order(y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random order of which every stretch holds the classes in proportion."""
    order = random.permutation(len(y))
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        return order
    # The i-th of n examples of a class belongs at (i + u) / n of the way, u random per class.
    by_class = np.argsort(y[order], kind="stable")
    sizes = np.unique(y, return_counts=True)[1]
    rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    size = np.repeat(sizes, sizes)
    place = (rank + np.repeat(random.random(len(sizes)), sizes)) / size
    place[size == 1] = 1  # at the end, where the training data is: what is never learned cannot be tested
    return order[by_class[np.lexsort((by_class, place))]]
