"""Readers of CIFAR-10's and CIFAR-100's binary distributions."""

from pathlib import Path

import numpy as np

from jaxnn._checks import check_size
from jaxnn.data._files import as_path, opened
from jaxnn.data.dataset import DataError, Dataset

__all__ = ["cifar_examples", "read_cifar10", "read_cifar100", "record_size"]

_PIXELS = 3 * 32 * 32


def read_cifar10(path: str | Path, *, records: int | None = None) -> Dataset:
    """Read examples from a file of CIFAR-10's binary distribution: x uint8 `[n, 32, 32, 3]`, y int32 `[n]`.

        record of 3,073 bytes: label · 1,024 red · 1,024 green · 1,024 blue, each colour row by row

    The official files hold 10,000 `records` each; None takes as many as there are.

    Raises:
        DataError: the file is missing, does not end with a record, holds another number of records, or a label
            beyond 9.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "batch.bin")
    ...     _ = path.write_bytes(bytes([6]) + bytes([255]) * 1024 + bytes(2048))  # a frog, all red
    ...     x, y = read_cifar10(path)
    >>> print(x.shape, x[0, 0, 0], y)
    (1, 32, 32, 3) [255   0   0] [6]
    """
    return _read(path, (10,), records)


def read_cifar100(path: str | Path, *, records: int | None = None) -> Dataset:
    """Read examples from a file of CIFAR-100's binary distribution: x uint8 `[n, 32, 32, 3]`, y int32 `[n]`.

        record of 3,074 bytes: coarse label · fine label · 1,024 red · 1,024 green · 1,024 blue, each row by row

    The labels are the fine ones, 0 to 99. The official files hold 50,000 and 10,000 `records`; None takes as many as
    there are.

    Raises:
        DataError: the file is missing, does not end with a record, holds another number of records, a coarse label
            beyond 19 or a fine one beyond 99.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "test.bin")
    ...     _ = path.write_bytes(bytes([4, 0]) + bytes([255]) * 1024 + bytes(2048))  # a fruit: an apple, all red
    ...     x, y = read_cifar100(path)
    >>> print(x.shape, x[0, 0, 0], y)
    (1, 32, 32, 3) [255   0   0] [0]
    """
    return _read(path, (20, 100), records)


def record_size(labels: tuple[int, ...]) -> int:
    """Bytes of one example with so many labels before its pixels.

    >>> print(record_size((20, 100)))
    3074
    """
    return len(labels) + _PIXELS


def cifar_examples(content: bytes, name: str, labels: tuple[int, ...], *, records: int | None = None) -> Dataset:
    """The examples in the bytes of a file of either distribution.

    `labels` are the numbers of classes that the bytes before an image know, the last of which is its label: (10,)
    for CIFAR-10, (20, 100) for CIFAR-100.

    Raises:
        DataError: as `read_cifar10` and `read_cifar100`; the sentence begins with `name`.
    """
    record = record_size(labels)
    whole, rest = divmod(len(content), record)
    if records is not None:
        expected = records * record
        if len(content) < expected:
            raise DataError(
                f"{name}: is truncated: {records} records are {expected} bytes; it ends after {len(content)}"
            )
        if len(content) > expected:
            raise DataError(f"{name}: is too long: {records} records end at byte {expected}; there are more")
    if rest or not whole:
        raise DataError(
            f"{name}: is no file of whole records of {record} bytes: the one at byte {len(content) - rest} has {rest}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(whole, record)
    kinds = ("label",) if len(labels) == 1 else ("coarse label", "fine label")
    for column, (kind, classes) in enumerate(zip(kinds, labels, strict=True)):
        wrong = np.flatnonzero(rows[:, column] >= classes)
        if len(wrong):
            raise DataError(
                f"{name}: {kind} at byte {wrong[0] * record + column} is {rows[wrong[0], column]}; "
                f"expected 0 to {classes - 1}"
            )
    images = rows[:, len(labels) :].reshape(whole, 3, 32, 32).transpose(0, 2, 3, 1)
    return Dataset(np.ascontiguousarray(images), rows[:, len(labels) - 1].astype(np.int32))


def _read(path: str | Path, labels: tuple[int, ...], records: int | None) -> Dataset:
    path = as_path(path)
    if records is not None:
        check_size("records", records)
    with opened(path) as file:
        # One byte beyond tells a file that is too long from one that is right.
        content = file.read(-1 if records is None else records * record_size(labels) + 1)
    return cifar_examples(content, str(path), labels, records=records)
