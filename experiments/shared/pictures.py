"""Figures in one style: colours that a colour-blind reader can tell apart, bands where seeds were run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

__all__ = ["COLOURS", "GREY", "Animation", "Picture", "curve", "panels", "signed_tiles", "smooth", "tiles"]

# Of Okabe & Ito (2008), without their yellow, which is too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "#6b7280"


class Animation(NamedTuple):
    """A figure that moves: `draw(i)` changes it to frame i."""

    draw: Callable[[int], Any]
    frames: int
    per_second: int = 8


class Picture(NamedTuple):
    """A figure, and in words what is to be seen in it."""

    figure: Figure
    alt: str
    animation: Animation | None = None


def panels(
    rows: int = 1, columns: int = 1, *, width: float = 4.4, height: float = 3.4, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of that many panels, `width` by `height` inches each, and their axes `[rows, columns]`."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **settings)
    for axis in axes.flat:
        plain(axis)
    return figure, axes


def plain(axis: Axes) -> None:
    """No frame, a pale grid."""
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def curve(axis: Axes, x: ArrayLike, values: ArrayLike, label: str, colour: str, **settings: Any) -> None:
    """A line of the mean over the seeds of `values [seeds, n]`, in a band from the least to the most."""
    runs = np.atleast_2d(np.asarray(values, float))
    axis.plot(x, runs.mean(axis=0), color=colour, label=label, **{"linewidth": 1.6, **settings})
    if len(runs) > 1:
        axis.fill_between(np.asarray(x, float), runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.18, lw=0)


def smooth(values: ArrayLike, window: int) -> np.ndarray:
    """The mean over the last `window` values, along the last axis; over those there are, at the start.

    >>> print(smooth([2.0, 4.0, 6.0, 8.0], 2))
    [2. 3. 5. 7.]
    """
    sums = np.cumsum(np.asarray(values, float), axis=-1)
    before = np.concatenate([np.zeros_like(sums[..., :window]), sums[..., :-window]], axis=-1)[..., : sums.shape[-1]]
    return (sums - before) / np.minimum(np.arange(1, sums.shape[-1] + 1), window)


def tiles(axis: Axes, images: ArrayLike, columns: int, *, gap: int = 1, **settings: Any) -> Any:
    """Show images `[n, height, width]` or `[n, height, width, 3]` in a grid."""
    pictures = np.asarray(images)
    count, height, width = pictures.shape[:3]
    rows = -(-count // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *pictures.shape[3:]), np.nan)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    axis.grid(visible=False)
    axis.axis("off")
    return axis.imshow(canvas, interpolation="nearest", **{"cmap": "gray_r", **settings})


def signed_tiles(axis: Axes, values: ArrayLike, columns: int) -> None:
    """Tiles, each in colours of its own scale: red above 0, blue below; few colours, for the GIF's sake."""
    numbers = np.asarray(values)
    most = np.abs(numbers).max(axis=(1, 2), keepdims=True) + 1e-12
    colours = matplotlib.colormaps["RdBu_r"].resampled(21)
    tiles(axis, numbers / most, columns, cmap=colours, vmin=-1, vmax=1)
