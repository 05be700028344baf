"""Figures, drawn by matplotlib without its global state."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnn.training import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_history", "save_figure"]

# Of Okabe & Ito (2008), which colour-blind readers can tell apart.
_TRAIN, _VALIDATION = "#0072B2", "#D55E00"


def plot_history(history: History, title: str = "") -> "Figure":
    """Draw a run: the loss over the steps, and each metric over the epochs.

    >>> import numpy as np, jaxnn as nn
    >>> history = nn.History(np.array([2.0, 1.0]), {"accuracy": np.array([0.9])}, {})
    >>> print(len(plot_history(history).axes))
    2
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = [name for name in {**history.train, **history.validation} if name != "loss"]
    figure = Figure(figsize=(4.6 * (1 + len(metrics)), 3.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 1 + len(metrics)))

    loss = np.asarray(history.loss)
    steps = np.arange(1, len(loss) + 1)
    epochs = len(next(iter({**history.train, **history.validation}.values()), ()))
    axes[0].plot(steps, loss, color=_TRAIN, alpha=0.35, linewidth=0.8, label="training, each step")
    if epochs:
        by_epoch = steps.reshape(epochs, -1)
        axes[0].plot(by_epoch.mean(axis=1), loss.reshape(epochs, -1).mean(axis=1), color=_TRAIN, label="its mean")
        if "loss" in history.validation:
            axes[0].plot(by_epoch[:, -1], history.validation["loss"], color=_VALIDATION, label="validation")
    axes[0].legend(frameon=False)
    axes[0].set(xlabel="step", ylabel="loss", xlim=(0, len(loss)))
    if loss.min() >= 0:
        axes[0].set_ylim(bottom=0)

    for axis, name in zip(axes[1:], metrics, strict=True):
        for label, values, color in (
            ("training", history.train.get(name), _TRAIN),
            ("validation", history.validation.get(name), _VALIDATION),
        ):
            if values is not None:
                numbers = np.arange(1, len(values) + 1)
                axis.plot(numbers, values, color=color, label=label, marker="o" if len(values) < 40 else "", ms=3)
        axis.set_xlabel("epoch")
        axis.set_ylabel(name.replace("_", " "), parse_math=False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, parse_math=False)  # a name with dollars is no formula
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a PNG file. Letters that the font lacks become boxes, without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(path, dpi=130)
