"""Raw arrays from a file, brought into the form of a data set."""

from pathlib import Path

import numpy as np

from jaxnn._checks import first_bad
from jaxnn.data.dataset import DataError, Dataset

__all__ = ["MOST_CLASSES", "as_dataset"]

MOST_CLASSES = 10_000
"""Beyond it integers are taken to be no labels."""
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
        one_hot = ((y == 1).sum(axis=1) == 1) & ((y != 0).sum(axis=1) == 1)
        if one_hot.all():
            return _labels(name, y.argmax(axis=1))
        if whole:
            row = first_bad(~one_hot)[0]
            raise DataError(
                f"{name}[{row}] is not one-hot, which is one 1 and else 0; numbers to predict must be stored as floats"
            )
    elif y.ndim == 2 and whole:
        raise DataError(f"{name} has shape {y.shape}; expected ({len(y)},) integer labels (write y[:, 0])")
    if whole:
        return _labels(name, y)
    return _as_float32(name, y.reshape(len(y), -1))


def _labels(name: str, labels: np.ndarray) -> np.ndarray:
    bad = (labels < 0) | (labels >= MOST_CLASSES)
    if bad.any():
        where = first_bad(bad)
        raise DataError(
            f"{name}[{where[0]}] is {labels[where]}; integers are labels, 0 to {MOST_CLASSES - 1}; "
            "numbers to predict must be stored as floats"
        )
    return np.ascontiguousarray(labels, np.int32)


def _as_float32(name: str, values: np.ndarray) -> np.ndarray:
    values = np.ascontiguousarray(values)
    converted = values if values.dtype == np.float32 else np.empty(values.shape, np.float32)
    for start in range(0, values.size, _BLOCK):
        block = values.reshape(-1)[start : start + _BLOCK]
        with np.errstate(over="ignore"):
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
