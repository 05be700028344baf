"""Raw arrays from a file, brought into the form of a data set."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn._checks import first_bad
from jaxnn.data._files import largest
from jaxnn.data.dataset import DataError, Dataset

__all__ = ["MOST_CLASSES", "Stored", "as_dataset", "as_stored", "check_alike", "is_possible"]

MOST_CLASSES = 10_000
"""Beyond it integers are taken to be no labels."""
_LEAST_EXAMPLE = 32  # bytes: dividing takes about twice as many for each, be it one in its file
_BLOCK = 2**20  # values converted at a time, so that what a check needs beside the arrays stays small


def as_dataset(path: str | Path, x: np.ndarray, y: np.ndarray, *, x_name: str = "x", y_name: str = "y") -> Dataset:
    """The examples in a file's arrays, in the forms that training takes.

    `x [n, …]`:

    - bytes (uint8) stay bytes, and booleans become 0 and 1 in bytes; of shape `[n, height, width]`, with a height
      and width of at least 2, they are images and become `[n, height, width, 1]`;
    - other integers and floats become float32.

    `y`:

    - integers or booleans `[n]` are labels, 0 to 9,999, and become int32;
    - rows `[n, classes]` with one 1 each and else 0, of any dtype and with at least 2 classes, are one-hot: they
      become the labels `[n]`;
    - other floats are numbers to predict: float32 `[n, targets]`, where `[n]` becomes `[n, 1]`.

    Arrays already in this form are not copied. `path`, `x_name` and `y_name` are for the sentences.

    Raises:
        DataError: no examples, or not as many x as y; a dtype that holds no numbers; a value that is not finite or
            that float32 cannot hold (an integer must keep its value, a float only stay finite); labels out of
            range; integers `[n, …]` that are no labels.

    >>> import numpy as np
    >>> x, y = as_dataset("digits.npz", np.zeros((3, 8, 8), np.uint8), np.array([2, 0, 1]))
    >>> print(x.shape, x.dtype, y, y.dtype)
    (3, 8, 8, 1) uint8 [2 0 1] int32
    >>> print(as_dataset("houses.npz", np.zeros((2, 5)), np.array([1.5, 2.5])).y.tolist())
    [[1.5], [2.5]]
    """
    x_name, y_name = f"{path}: {x_name}", f"{path}: {y_name}"
    for name, values in ((x_name, x), (y_name, y)):
        if values.dtype.kind not in "biuf":
            raise DataError(f"{name} has dtype {values.dtype}; expected integers or floats")
        if values.ndim == 0:
            raise DataError(f"{name} is a single number; expected an array of examples")
        if len(values) == 0:
            raise DataError(f"{name} has no examples")
        if values.size == 0:
            raise DataError(f"{name} has shape {values.shape}; its examples hold nothing")
    if len(x) != len(y):
        raise DataError(f"{x_name} has {len(x)} examples and {y_name.removeprefix(f'{path}: ')} has {len(y)}")
    return Dataset(_features(x_name, x), _targets(y_name, y))


class Stored(NamedTuple):
    """A part of the examples as a file has them."""

    dataset: Dataset
    names: tuple[str, str]
    """What x and y are called there."""
    one_hot: int
    """How many classes its one-hot rows have; 0 if its y are stored otherwise."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names for the classes of one-hot rows: their numbers."""
        return tuple(map(str, range(self.one_hot)))


def as_stored(path: Path, x: np.ndarray, y: np.ndarray, *, names: tuple[str, str], stored: int) -> Stored:
    """As `as_dataset`, of files of so many `stored` bytes, which may not unfold to any number of tiny examples."""
    most = largest(stored) // _LEAST_EXAMPLE
    if x.ndim and len(x) > most:
        raise DataError(f"{path}: {names[0]} has {len(x)} examples; so small a file may unfold to {most}")
    dataset = as_dataset(path, x, y, x_name=names[0], y_name=names[1])
    return Stored(dataset, names, y.shape[1] if y.ndim == 2 and dataset.y.ndim == 1 else 0)


def check_alike(path: Path, parts: Sequence[Stored]) -> None:
    """Refuse parts whose examples differ in form from those of the first, the training data."""
    train = parts[0]
    for part in parts[1:]:
        for name, values, train_name, like in zip(part.names, part.dataset, train.names, train.dataset, strict=True):
            form, wanted = ((array.dtype.name, array.shape[1:]) for array in (values, like))
            if form != wanted:
                raise DataError(
                    f"{path}: {name} has examples of {form[0]} {form[1]}, and {train_name} of {wanted[0]} {wanted[1]}; "
                    "the parts must be alike"
                )
        if 0 != part.one_hot != train.one_hot != 0:
            raise DataError(
                f"{path}: {part.names[1]} has one-hot rows of {part.one_hot}, and {train.names[1]} of {train.one_hot}; "
                "the parts must be alike"
            )


def is_possible(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Whether an array may have the shape: NumPy refuses one of 2⁶³ bytes, be another of its sizes 0 or not."""
    return math.prod(max(size, 1) for size in shape) * dtype.itemsize < 2**63


def _features(name: str, x: np.ndarray) -> np.ndarray:
    if x.dtype == np.bool_:
        x = x.astype(np.uint8)
    if x.dtype != np.uint8:
        return _as_float32(name, x)
    x = np.ascontiguousarray(x)
    return x[..., None] if x.ndim == 3 and min(x.shape[1:]) >= 2 else x


def _targets(name: str, y: np.ndarray) -> np.ndarray:
    whole = y.dtype.kind in "biu"
    if y.ndim > 2:
        raise DataError(f"{name} has shape {y.shape}; expected labels [n], one-hot rows or targets [n, outputs]")
    if y.ndim == 2 and y.shape[1] >= 2:
        labels, row = _one_hot_labels(y)
        if row is None:
            return _labels(name, labels)
        if whole:
            raise DataError(
                f"{name}[{row}] is not one-hot, which is one 1 and else 0; numbers to predict must be stored as floats"
            )
    elif y.ndim == 2 and whole:
        raise DataError(f"{name} has shape {y.shape}; expected ({len(y)},) integer labels (write y[:, 0])")
    if whole:
        return _labels(name, y)
    return _as_float32(name, y.reshape(len(y), -1))


def _one_hot_labels(y: np.ndarray) -> tuple[np.ndarray, int | None]:
    """The labels that one-hot rows stand for, and the first row that is not one-hot, if there is one."""
    labels = np.empty(len(y), np.int32)
    step = max(1, _BLOCK // y.shape[1])
    for start in range(0, len(y), step):
        rows = y[start : start + step]
        one_hot = ((rows == 1).sum(axis=1) == 1) & ((rows != 0).sum(axis=1) == 1)
        if not one_hot.all():
            return labels, start + first_bad(~one_hot)[0]
        labels[start : start + step] = rows.argmax(axis=1)
    return labels, None


def _labels(name: str, labels: np.ndarray) -> np.ndarray:
    for start in range(0, len(labels), _BLOCK):
        block = labels[start : start + _BLOCK]
        bad = (block < 0) | (block >= MOST_CLASSES)
        if bad.any():
            (within,) = first_bad(bad)
            raise DataError(
                f"{name}[{start + within}] is {block[within]}; integers are labels, 0 to {MOST_CLASSES - 1}; "
                "numbers to predict must be stored as floats"
            )
    return np.ascontiguousarray(labels, np.int32)


def _as_float32(name: str, values: np.ndarray) -> np.ndarray:
    values = np.ascontiguousarray(values)
    converted = values if values.dtype == np.float32 else np.empty(values.shape, np.float32)
    for start in range(0, values.size, _BLOCK):
        block = values.reshape(-1)[start : start + _BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN is found below
            rounded = block.astype(np.float32, copy=False)
        bad = _changed(block, rounded) if block.dtype.kind in "iu" else ~np.isfinite(rounded)
        if bad.any():
            (within,) = first_bad(bad)
            place = ", ".join(str(i) for i in np.unravel_index(start + within, values.shape))
            what = "every value must be finite" if not np.isfinite(block[within]) else "float32 cannot hold it"
            raise DataError(f"{name}[{place}] is {block[within]}; {what}")
        if converted is not values:
            converted.reshape(-1)[start : start + _BLOCK] = rounded
    return converted


def _changed(integers: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """Which integers float32 has rounded to another value."""
    beyond = rounded >= float(np.iinfo(integers.dtype).max) + 1  # the way back would overflow
    return np.where(beyond, np.float32(0), rounded).astype(integers.dtype) != integers
