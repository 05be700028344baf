"""From the values of a function at several steps to a verdict on its derivative. NumPy, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["Judged", "Values", "central", "judge", "ladder", "noise", "relative_error"]

# From one step of a ladder to the next they fall by this.
_RATIO = 8.0
# Rounding errors of a whole computation add up to several times those of its result.
_NOISE = 10.0


class Values(NamedTuple):
    """What a function is at p, at p + up and at p - down, for each entry (rows) and each step (columns)."""

    at: float
    above: Float[np.ndarray, "entries steps"]
    below: Float[np.ndarray, "entries steps"]
    up: Float[np.ndarray, "entries steps"]
    down: Float[np.ndarray, "entries steps"]


class Judged(NamedTuple):
    """The verdict on each entry."""

    numerical: Float[np.ndarray, " entries"]  # the surest central difference
    error: Float[np.ndarray, " entries"]  # how far it may be off
    left: Float[np.ndarray, " entries"]  # slopes on both sides where they differ most
    right: Float[np.ndarray, " entries"]
    is_kink: Bool[np.ndarray, " entries"]
    is_wrong: Bool[np.ndarray, " entries"]


def ladder(h: float, eps: float) -> np.ndarray:
    """Steps at which doubtful entries are looked at again: from 8 h down to h / 262,144, as far as eps lets them."""
    steps = h * _RATIO ** np.arange(1.0, -7.0, -1.0)
    return steps[steps > 4 * eps]


def central(values: Values) -> Float[np.ndarray, "entries steps"]:
    """(f(p + up) - f(p - down)) / (up + down), or the one slope that is a number where f ends at p."""
    left, right = _slopes(values)
    both = (values.above - values.below) / (values.up + values.down)
    return np.where(np.isfinite(both), both, np.where(np.isfinite(right), right, left))


def _slopes(values: Values) -> tuple[np.ndarray, np.ndarray]:
    return (values.at - values.below) / values.down, (values.above - values.at) / values.up


def noise(rounding: float, distance: np.ndarray) -> np.ndarray:
    """What the rounding of f can make of a difference over this distance."""
    return _NOISE * rounding / distance


def relative_error(numerical: np.ndarray, analytic: np.ndarray, error: np.ndarray, rtol: float) -> np.ndarray:
    """|numerical - analytic| over the larger of both; above `rtol` only if `error` cannot account for it.

    What is not a number is off by infinity.
    """
    scale = np.maximum(np.maximum(np.abs(numerical), np.abs(analytic)), error / rtol)
    relative = np.abs(numerical - analytic) / np.where(scale > 0, scale, 1)
    return np.where(np.isfinite(scale) & ~np.isnan(relative), relative, np.inf)


def judge(values: Values, analytic: Float[np.ndarray, " entries"], rounding: float, rtol: float) -> Judged:
    """Tell right from wrong, and both from a kink, by the values at all steps of the ladder.

    The gradient is right if it equals the central difference at the surest step: where it changes least from one step
    to the next, rounding included. Where f is smooth, the difference of its slopes on both sides, right - left = h f'',
    falls with the step. Where a step reaches over a kink it does not: it stays as it is, or vanishes at once when a
    shorter step no longer reaches. Then the gradient may lie between the two slopes instead, at every step.
    """
    noises = noise(rounding, np.minimum(values.up, values.down))
    differences = central(values)
    # Twice what changed is safe even where differences fall in proportion to the step.
    errors = 2 * np.abs(np.diff(differences, axis=1)) + noises[:, :-1]
    # A step that moves nothing tells nothing, if a longer one does.
    is_still = (values.above == values.at) & (values.below == values.at)
    errors[is_still[:, :-1] & ~is_still.all(axis=1, keepdims=True) | np.isnan(errors)] = np.inf
    rows, surest = np.arange(len(errors)), errors.argmin(axis=1)
    numerical, error = differences[rows, surest], errors[rows, surest]
    is_right = relative_error(numerical, analytic, error, rtol) <= rtol

    # The longest step shows more of a curve than of a kink.
    left, right = (slope[:, 1:] for slope in _slopes(values))
    slack = rtol * np.maximum(np.abs(right), np.abs(left)) + noises[:, 1:]
    jump = right - left
    surprise = np.abs(jump[:, :-1] - _RATIO * jump[:, 1:])
    expected = np.abs(jump[:, :-1]) / 4 + (slack[:, :-1] + _RATIO * slack[:, 1:]) / 2
    has_kink = (surprise > expected).any(axis=1)
    is_below = analytic[:, None] <= np.maximum(left, right) + slack
    is_above = analytic[:, None] >= np.minimum(left, right) - slack
    is_between = (is_below & is_above).all(axis=1)

    sharpest = np.where(np.isnan(jump), -1, np.abs(jump)).argmax(axis=1)
    is_kink = has_kink & (is_right | is_between)
    return Judged(
        numerical,
        error,
        left=left[rows, sharpest],
        right=right[rows, sharpest],
        is_kink=is_kink,
        is_wrong=~(is_right | is_kink),
    )
