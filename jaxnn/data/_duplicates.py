"""Equal rows: found by a hash, believed only after a comparison."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["first_equals"]

_BLOCK = 2**21  # bytes looked at in one go


def first_equals(parts: Sequence[np.ndarray]) -> np.ndarray:
    """For each row of the parts `[n, features]` put below each other, the number of the first row equal to it.

    Rows are compared by their bits, except that -0.0 equals 0.0. The parts have one dtype and number of features.
    """
    hashes = np.concatenate([_hashes(part) for part in parts])
    order = np.argsort(hashes, kind="stable")
    starts = np.diff(hashes[order], prepend=hashes[order[:1]] + np.uint64(1)) != 0
    first = np.empty(len(order), np.int64)
    first[order] = order[starts][np.cumsum(starts) - 1]

    later = np.flatnonzero(first != np.arange(len(first)))
    collided: set[int] = set()
    for some in _blocks(later, parts[0]):
        unequal = (_rows(parts, some) != _rows(parts, first[some])).any(axis=1)
        collided.update(first[some[unequal]].tolist())
    seen: dict[bytes, int] = {}
    for some in _blocks(np.flatnonzero(np.isin(first, list(collided))), parts[0]):
        for number, row in zip(some, _rows(parts, some), strict=True):
            first[number] = seen.setdefault(row.tobytes(), number)
    return first


def _hashes(rows: np.ndarray) -> np.ndarray:
    """64 bits for each row."""
    random = np.random.default_rng(0)
    width = -(-rows.shape[1] * rows.itemsize // 8)
    factors = random.integers(0, 2**63, width, np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.empty(len(rows), np.uint64)
    for some in _blocks(np.arange(len(rows)), rows):
        words = _words(rows[some[0] : some[-1] + 1])
        words = words ^ (words >> np.uint64(32))  # round numbers in floating point differ in their upper bits alone
        hashes[some] = words @ factors
    return hashes


def _rows(parts: Sequence[np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """Some rows of the parts put below each other, in words."""
    ends = np.cumsum([0, *map(len, parts)])
    rows = np.empty((len(numbers), parts[0].shape[1]), parts[0].dtype)
    for part, (start, end) in zip(parts, pairwise(ends), strict=True):
        here = (start <= numbers) & (numbers < end)
        rows[here] = part[numbers[here] - start]
    return _words(rows)


def _words(rows: np.ndarray) -> np.ndarray:
    """The rows' bits, 64 at a time."""
    if rows.dtype.kind == "f":
        rows = rows + rows.dtype.type(0)  # -0.0 becomes 0.0
    content = np.ascontiguousarray(rows).view(np.uint8)
    missing = -content.shape[1] % 8
    if missing:
        content = np.pad(content, ((0, 0), (0, missing)))
    return content.view(np.uint64)


def _blocks(numbers: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """The numbers in pieces of a bounded size in bytes."""
    size = max(1, _BLOCK // (rows.shape[1] * rows.itemsize))
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
