"""A part of a data set, in the form in which its values are checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data.dataset import Dataset
from jaxnn.data.report import PartReport

__all__ = ["SHOWN", "Part", "blocks", "images", "read_part"]

SHOWN = 5  # indices in a finding
_BLOCK = 2**18  # values converted to float64 in one go: as many as a core's cache holds
_SIDE = 8  # pixels, from which on rows of a square number of values may be pictures


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
    pictures: bool
    """Whether x holds some: by its shape, or as rows of brightnesses."""
    columns: tuple[str, ...]
    """Names of the features, if they are known."""

    @property
    def examples(self) -> int:
        return 0 if self.dataset.x.ndim == 0 else len(self.dataset.x)

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

    def feature(self, letter: str, column: int) -> str:
        """A column of x or y, as code and by its name."""
        return self._place(letter, ":", column)

    def element(self, letter: str, number: int, column: int) -> str:
        """An element of x or y, by its index in the array as it was given and by its column's name."""
        return self._place(letter, str(number), column)

    def _place(self, letter: str, example: str, column: int) -> str:
        shape = getattr(self.dataset, letter).shape[1:]
        index = ", ".join([example, *(map(str, np.unravel_index(column, shape)) if shape else ())])
        name = f" ({self.columns[column]!r})" if letter == "x" and self.columns else ""
        return letter if index == ":" else f"{letter}[{index}]{name}"

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
            low, high = self.moments.low.min(), self.moments.high.max()
            unit = _unit(low, high)
            means, stds = self.moments.means / unit, self.moments.stds / unit
            mean, std = means.mean(), np.sqrt(np.mean(stds**2) + means.var())
        else:
            finite = np.zeros(0) if self.x is None else self.x[np.isfinite(self.x)].astype(np.float64)
            if not finite.size:
                return [None] * 4
            low, high = finite.min(), finite.max()
            unit = _unit(low, high)
            mean, std = (finite / unit).mean(), (finite / unit).std()
        figures = [low, high, mean * unit, std * unit]
        return [None if math.isnan(figure) else float(figure) for figure in figures]


def read_part(name: str, dataset: Dataset, columns: Sequence[str] = ()) -> Part:
    """Look at a part once, to have what several checks need."""
    x = _numbers(dataset.x)
    y, kind = _targets(_numbers(dataset.y))
    if x is not None:
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    moments = None if x is None else _moments(x)
    named = tuple(columns) if dataset.x.shape[1:] == (len(columns),) else ()
    in_rows = x is not None and dataset.x.ndim == 2 and not named and _side(x, moments) > 0
    pictures = dataset.x.ndim > 2 or in_rows
    return Part(name, dataset, x, y, kind, moments, pictures, named)


def images(part: Part) -> np.ndarray | None:
    """The examples as pictures `[n, height, width, channels]` of 1, 3 or 4 channels, if they are some.

    What holds pictures is x `[n, height, width, channels]` or `[n, height, width]`, and rows of a square number of
    values from 64 on that can be brightnesses: whole numbers from 0, or all of them from 0 to 1.
    """
    x, flat = part.dataset.x, part.x
    if flat is None or not part.pictures or x.ndim > 4:
        return None
    if x.ndim == 2:
        side = math.isqrt(flat.shape[1])
        return flat.reshape(-1, side, side, 1)
    pictures = flat.reshape(*x.shape[:3], -1)
    return pictures if pictures.shape[3] in (1, 3, 4) else pictures[..., :1]


def _side(x: np.ndarray, moments: Moments | None) -> int:
    """Of square pictures in rows, the side in pixels; 0 if they can be none."""
    side = math.isqrt(x.shape[1])
    if side < _SIDE or side**2 != x.shape[1] or moments is None or moments.low.min() < 0:
        return 0
    brightness = x.dtype.kind in "iu" or moments.high.max() <= 1
    whole = brightness or all(np.array_equal(x[some], np.round(x[some])) for some in blocks(len(x), x.shape[1]))
    return side if whole else 0


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
    unit = _unit(low.min(), high.max())
    means, stds, blank = np.empty(len(x)), np.empty(len(x)), np.empty(len(x), bool)
    for some in blocks(len(x), x.shape[1]):
        values = x[some].astype(np.float64)
        values /= unit
        means[some] = values.mean(axis=1)
        blank[some] = (values == values[:, :1]).all(axis=1)
        values -= means[some, None]
        stds[some] = np.sqrt(np.einsum("ij,ij->i", values, values) / x.shape[1])
    return Moments(low.astype(np.float64), high.astype(np.float64), means * unit, stds * unit, blank)


def _unit(low: np.generic, high: np.generic) -> float:
    """A power of two near the largest value, in which squares neither overflow nor vanish; exact to divide by."""
    return float(np.ldexp(0.5, np.frexp(max(abs(float(low)), abs(float(high))))[1]))
