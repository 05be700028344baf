"""A part of a data set, in the form in which its values are checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data.dataset import Dataset
from jaxnn.data.report import PartReport

__all__ = ["SHOWN", "Part", "blocks", "read_part"]

SHOWN = 5  # indices in a finding
_BLOCK = 2**18  # values converted to float64 in one go: as many as a core's cache holds


@dataclass(frozen=True)
class Moments:
    """Figures of x, if it holds values and all of them are finite."""

    low: np.ndarray
    """Of each feature, the smallest value."""
    high: np.ndarray
    means: np.ndarray
    """Of each example."""
    stds: np.ndarray
    blank: np.ndarray
    """Which examples have one value alone."""


@dataclass(frozen=True)
class Part:
    """A part, its arrays as numbers in NumPy's own formats; None if they hold none."""

    name: str
    dataset: Dataset
    x: np.ndarray | None
    """`[n, features]`."""
    y: np.ndarray | None
    """Labels `[n]`, or numbers to predict `[n, targets]`."""
    kind: str
    """Of y: "labels", "one-hot rows" or "numbers"."""
    moments: Moments | None

    @property
    def examples(self) -> int:
        return 0 if self.dataset.x.ndim == 0 else len(self.dataset.x)

    @property
    def pictures(self) -> bool:
        return self.dataset.x.ndim > 2

    @property
    def labels(self) -> np.ndarray | None:
        return self.y if self.y is not None and self.y.ndim == 1 else None

    @property
    def values(self) -> bool:
        """Whether x holds any."""
        return self.x is not None and self.x.size > 0

    @property
    def constant(self) -> bool:
        """Whether x is one and the same number in several examples."""
        moments = self.moments
        return moments is not None and self.examples > 1 and bool(moments.low.min() == moments.high.max())

    def like(self, other: "Part") -> bool:
        """Whether both have the same form of x."""
        x, other_x = self.dataset.x, other.dataset.x
        return x.shape[1:] == other_x.shape[1:] and x.dtype == other_x.dtype

    def facts(self) -> PartReport:
        x, y = self.dataset
        labels, counts = np.unique(self.labels, return_counts=True) if self.labels is not None else ((), ())
        classes = tuple((int(label), int(count)) for label, count in zip(labels, counts, strict=True))
        minimum, maximum, mean, std = self._figures()
        return PartReport(
            self.name,
            self.examples,
            x.shape[1:],
            str(x.dtype),
            minimum,
            maximum,
            mean,
            std,
            y.shape[1:],
            str(y.dtype),
            classes,
        )

    def _figures(self) -> Sequence[float | None]:
        """Minimum, maximum, mean and standard deviation of the finite values."""
        if self.moments is not None:
            means, stds = self.moments.means, self.moments.stds
            std = np.sqrt(np.mean(stds**2) + means.var())
            figures = [self.moments.low.min(), self.moments.high.max(), means.mean(), std]
        else:
            finite = np.zeros(0) if self.x is None else self.x[np.isfinite(self.x)]
            if not finite.size:
                return [None] * 4
            figures = [finite.min(), finite.max(), finite.mean(dtype=np.float64), finite.std(dtype=np.float64)]
        return [None if math.isnan(figure) else float(figure) for figure in figures]


def read_part(name: str, dataset: Dataset) -> Part:
    """Look at a part once, to have what several checks need."""
    x = _numbers(dataset.x)
    y, kind = _targets(_numbers(dataset.y))
    if x is not None:
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    return Part(name, dataset, x, y, kind, None if x is None else _moments(x))


def blocks(count: int, size: int) -> list[slice]:
    """Slices of `count` things that hold about `size` values each."""
    step = max(1, _BLOCK // max(size, 1))
    return [slice(start, start + step) for start in range(0, count, step)]


def _numbers(values: np.ndarray | jax.Array) -> np.ndarray | None:
    kind = values.dtype
    if values.ndim == 0 or not (
        jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating) or kind == np.bool_
    ):
        return None
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if jnp.issubdtype(kind, jnp.integer):
        return array.astype(np.int32)  # a format of 4 bits
    return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)


def _targets(y: np.ndarray | None) -> tuple[np.ndarray | None, str]:
    if y is None:
        return None, "nothing"
    if y.dtype.kind in "iu" and y.shape[1:] in ((), (1,)):
        return y.reshape(len(y)), "labels"
    if y.ndim == 2 and y.shape[1] > 1 and len(y) and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all():
        return y.argmax(axis=1), "one-hot rows"
    return y.reshape(len(y), math.prod(y.shape[1:])), "numbers"


def _moments(x: np.ndarray) -> Moments | None:
    if x.size == 0:
        return None
    low, high = x.min(axis=0), x.max(axis=0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    means, stds, blank = np.empty(len(x)), np.empty(len(x)), np.empty(len(x), bool)
    for some in blocks(len(x), x.shape[1]):
        values = x[some].astype(np.float64)
        means[some] = values.mean(axis=1)
        blank[some] = (values == values[:, :1]).all(axis=1)
        values -= means[some, None]
        stds[some] = np.sqrt(np.einsum("ij,ij->i", values, values) / x.shape[1])
    return Moments(low.astype(np.float64), high.astype(np.float64), means, stds, blank)
