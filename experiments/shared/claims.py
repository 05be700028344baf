"""Claims: a statement, the figures that a run measured, the reference, the margin, and whether it holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Claim", "at_least", "at_most", "between", "equal", "near", "true"]


@dataclass(frozen=True)
class Claim:
    """What an experiment says of a row of the textbook, and whether it is so."""

    row: str
    """Of the textbook's list, such as C7."""
    words: str
    """The statement."""
    measured: str
    """What this run found; of several seeds the mean and the standard deviation."""
    reference: str
    """What was to be found, and how far from it is near enough."""
    source: str
    """Where the reference comes from: the book, the notes, optax, arithmetic; or that it is our own."""
    holds: bool
    values: tuple[float | None, ...] = field(default=(), repr=False)
    """The measured numbers, one for each seed; in JSON null where they are not finite."""


def near(row: str, words: str, measured: ArrayLike, reference: float, margin: float, source: str = "our own") -> Claim:
    """The mean of what was measured is at most `margin` from the reference.

    >>> print(near("C2", "loss of SGD", [0.25, 0.31], 0.29, margin=0.05).measured)
    0.280 ± 0.030
    >>> near("C2", "loss of SGD", float("nan"), 0.29, margin=0.05).holds
    False
    """
    shown = number(reference) + (f" ± {margin:g}" if margin else "")
    return _of_numbers(row, words, measured, shown, source, lambda mean: abs(mean - reference) <= margin)


def between(
    row: str, words: str, measured: ArrayLike, low: float, high: float, margin: float = 0, source: str = "our own"
) -> Claim:
    """The mean of what was measured lies in a range, or at most `margin` beside it."""
    reference = f"{number(low)} to {number(high)}" + (f" ± {margin:g}" if margin else "")
    return _of_numbers(row, words, measured, reference, source, lambda mean: low - margin <= mean <= high + margin)


def at_least(row: str, words: str, measured: ArrayLike, least: float, source: str = "our own") -> Claim:
    """The mean of what was measured is no less than `least`."""
    return _of_numbers(row, words, measured, f"at least {number(least)}", source, lambda mean: mean >= least)


def at_most(row: str, words: str, measured: ArrayLike, most: float, source: str = "our own") -> Claim:
    """The mean of what was measured is no more than `most`."""
    return _of_numbers(row, words, measured, f"at most {number(most)}", source, lambda mean: mean <= most)


def equal(
    row: str, words: str, measured: ArrayLike, reference: ArrayLike, margin: float = 0, source: str = "our own"
) -> Claim:
    """Two arrays agree entry by entry, to `margin`; short ones are shown.

    >>> print(equal("D4", "weights", [0.4, -0.6], [0.4, -0.6], margin=1e-6).measured)
    (0.4, -0.6)
    """
    found, wanted = np.asarray(measured, float), np.asarray(reference, float)
    same_shape = found.shape == wanted.shape
    apart = float(np.abs(found - wanted).max()) if same_shape and found.size else np.inf
    if wanted.size <= 12:
        shown, to_find = _listed(found), _listed(wanted) + (f" ± {margin:g}" if margin else "")
    else:
        shown, to_find = f"{apart:.1e} apart at most", f"at most {margin:g}"
    return Claim(row, words, shown, to_find, source, bool(same_shape and apart <= margin), tuple(found.ravel()[:12]))


def true(row: str, words: str, holds: Any, measured: str, reference: str, source: str = "our own") -> Claim:
    """What no number says: an order, a shape, a name."""
    return Claim(row, words, measured, reference, source, bool(holds))


def number(value: float) -> str:
    """Three digits that count, and powers of ten where they are shorter.

    >>> print(number(0.98), number(39760), number(1.2e-7), number(0.1), number(1))
    0.98 39,760 1.2e-07 0.1 1
    """
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"


def _of_numbers(
    row: str, words: str, measured: ArrayLike, reference: str, source: str, holds: Callable[[float], bool]
) -> Claim:
    values = np.asarray(measured, float).ravel()
    mean = float(values.mean())
    shown = number(mean)
    if values.size > 1:
        spread = float(values.std())
        shown = f"{mean:.3f} ± {spread:.3f}" if 1e-2 <= abs(mean) < 100 else f"{number(mean)} ± {number(spread)}"
    return Claim(row, words, shown, reference, source, bool(holds(mean)), tuple(map(float, values)))


def _listed(values: np.ndarray) -> str:
    if values.ndim == 0:
        return number(float(values))
    return "(" + ", ".join(_listed(value) for value in values) + ")"
