"""Figures, drawn by matplotlib without its global state."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnn.random_search import SearchResult
from jaxnn.search_space import Choice, LogUniform
from jaxnn.training import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_history", "plot_search", "save_figure"]

# Of Okabe & Ito (2008), which colour-blind readers can tell apart.
_TRAIN, _VALIDATION = "#0072B2", "#D55E00"
_ROUNDS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00")


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


def plot_search(result: SearchResult, metric: str, title: str = "") -> "Figure":
    """Draw every trial of a search: the metric over each hyperparameter, a colour for each round.

    Bars above show the range of each round. Trials that were stopped early are hollow; diverged ones have no metric:
    they are crosses at the bottom.
    """
    from matplotlib.figure import Figure

    names = list(result.spaces[0])
    figure = Figure(figsize=(1.4 + 3.9 * len(names), 4.2), layout="constrained")
    values = result.trials.score(metric)[:, 0]
    low, high = np.nanmin(values), np.nanmax(values)
    step = 0.04 * ((high - low) or 1.0)
    rounds = int(result.round.max()) + 1
    axes = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    for axis, name in zip(axes, names, strict=True):
        places = _places(result, name, axis)
        for number in range(rounds):
            color = _ROUNDS[number % len(_ROUNDS)]
            here = result.round == number
            good, bad = here & np.isfinite(values), here & ~np.isfinite(values)
            whole, stopped = good & ~result.stopped, good & result.stopped
            axis.scatter(places[whole], values[whole], s=16, color=color, alpha=0.75, lw=0, label=f"round {number + 1}")
            axis.scatter(places[stopped], values[stopped], s=14, facecolors="none", edgecolors=color, lw=0.8)
            axis.scatter(places[bad], np.full(bad.sum(), low - 2 * step), s=16, color=color, marker="x", lw=1)
            space = result.spaces[number][name]
            if not isinstance(space, Choice):
                height = high + (1 + rounds - number) * step
                axis.plot([space.low, space.high], [height, height], color=color, lw=4, solid_capstyle="butt")
        best = result.best.row
        axis.scatter(places[best], values[best], s=110, marker="*", color="black", zorder=3, label="best")
        axis.set_xlabel(name.replace("_", " "), parse_math=False)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(metric.replace("_", " "), parse_math=False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.suptitle(title, parse_math=False)
    return figure


def _places(result: SearchResult, name: str, axis: Any) -> np.ndarray:
    """Where the trials stand on the axis of a hyperparameter, which is given its scale."""
    space, column = result.spaces[0][name], result.trials.configs[name]
    if not isinstance(space, Choice):
        axis.set_xscale("log" if isinstance(space, LogUniform) else "linear")
        return np.asarray(column)
    axis.set_xticks(range(len(space.options)), space.labels)
    known = [np.float32(option) if space.is_traced else option for option in space.options]  # as they were traced
    numbers = [known.index(value) for value in column]
    # Side by side within an option, not one upon the other.
    return np.array(numbers) + np.random.default_rng(0).uniform(-0.2, 0.2, len(numbers))


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a PNG file. Letters that the font lacks become boxes, without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(path, dpi=130)
