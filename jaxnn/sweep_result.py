"""What a sweep has found: outcomes beside their configs, as arrays, a table, or a file."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PyTree

from jaxnn._checks import check_choice, in_words
from jaxnn._columns import name_leaves, plain
from jaxnn._metric_names import Mode, mode_of

__all__ = ["Best", "Metric", "Mode", "SweepResult", "check_metric", "check_metric_kind"]

# An outcome's name, or outcomes -> array [configs, seeds]; of a tuple, each next name decides between equals.
OneMetric: TypeAlias = str | Callable[[Any], Any]
Metric: TypeAlias = OneMetric | tuple[str, ...]


class Best(NamedTuple):
    """The config that did best."""

    row: int  # of the configs
    config: Any  # as `run` takes it
    value: float  # of the metric, of a tuple of the first: the mean over the seeds
    seeds: Float[np.ndarray, " seeds"]  # of the same, by seed


class SweepResult(NamedTuple):
    """What `sweep` returns."""

    configs: PyTree  # columns: arrays of what was traced, lists of what made programs
    outcomes: PyTree  # of arrays [configs, seeds, …]; NaN, or 0 of whole numbers, where a run has not finished
    diverged: Bool[np.ndarray, "configs seeds"]  # some outcome is NaN or infinite
    finished: Bool[np.ndarray, "configs seeds"]  # False where Ctrl-C came first
    interrupted: bool  # by Ctrl-C, or the loss of another process
    programs: int  # different ones
    compile_seconds: float  # tracing included
    run_seconds: float

    def best(self, metric: Metric | None = None, mode: Mode | None = None) -> Best:
        """The config with the best mean of a metric over the seeds.

        Args:
            metric: the name of an outcome, or the end of one (`"accuracy"` for `validation/accuracy`); of a curve,
                such as a history, its last value counts. Or a function of the outcomes that returns one number for
                each run, `[configs, seeds]`. Or a tuple of names, `("accuracy", "loss")`: each next one decides
                between configs that are equal by those before it, to six digits, as accuracies often are; where
                none decides, the first config is the best. Not needed if there is one outcome.
            mode: "max" or "min", whichever is good. Without it a metric whose name has the word accuracy in it is to
                be large, one with the word loss or error small; of others it must be said. Of a tuple it is meant
                for the first; the names of the others must tell.

        A config of which a run has diverged, or not finished, is not the best.

        Raises:
            TypeError: a metric that is neither a name, nor a function, nor a tuple of names.
            ValueError: an unknown metric, a metric that is no number for each run, or no config all of whose runs
                are good.
        """
        order = self.order(metric, mode)
        if not order:
            raise ValueError("no config is the best: of each a run has diverged or not finished")
        values = self.score(_parts(metric)[0])[order[0]]
        return Best(order[0], self.config(order[0]), float(values.mean()), values)

    def order(self, metric: Metric | None = None, mode: Mode | None = None) -> list[int]:
        """The configs from the best to the worst, by the rules of `best`; those that cannot be the best are left out.

        >>> import numpy as np
        >>> outcomes = {"accuracy": np.array([[0.5], [0.9], [0.9]]), "loss": np.array([[2.0], [0.4], [0.3]])}
        >>> good = np.ones((3, 1), bool)
        >>> result = SweepResult({"rate": np.arange(3.0)}, outcomes, ~good, good, False, 1, 0.0, 0.0)
        >>> print(result.order("accuracy"), result.order(("accuracy", "loss")))
        [1, 2, 0] [2, 1, 0]
        """
        means = [self.score(one).mean(axis=1) for one in _parts(metric)]
        signs = [-1 if mode == "max" else 1 for mode in _modes(self.outcomes, metric, mode)]
        *first, last = (sign * mean for sign, mean in zip(signs, means, strict=True))
        # Equals differ by rounding: the same examples right in other batches, other seeds with the same sum.
        keys = [*(np.array([float(f"{value:.6g}") for value in key]) for key in first), last]
        # The last key of lexsort comes first; equals stay in their order.
        return [int(index) for index in np.lexsort(keys[::-1]) if np.isfinite(means[0][index])]

    def score(self, metric: OneMetric | None = None) -> Float[np.ndarray, "configs seeds"]:
        """One number for each run, as `best` takes it; NaN where a run has diverged or not finished."""
        values = _score(self.outcomes, metric, self.finished.shape)
        return np.where(self.finished & ~self.diverged, values, np.nan)

    def config(self, index: int) -> Any:
        """One of the configs, as `run` takes it: plain numbers."""
        return jax.tree.map(lambda column: plain(column[index]), self.configs, is_leaf=_is_column)

    def table(self, *metrics: str) -> str:
        """A line for each config: its settings, and the metrics' mean over the seeds, with their standard deviation.

        Without names all outcomes that are a number for each run, and the last values of curves.

        >>> import numpy as np
        >>> outcomes = {"accuracy": np.array([[0.5, 0.7], [0.9, 0.8]])}
        >>> good = np.ones((2, 2), bool)
        >>> print(SweepResult({"rate": np.array([0.1, 1.0])}, outcomes, ~good, good, False, 1, 0.0, 0.0).table())
        rate         accuracy
         0.1  0.6000 ± 0.1414
           1  0.8500 ± 0.0707
        """
        settings, columns = self._columns(metrics)
        good = self.finished & ~self.diverged
        lines = [[*settings, *columns, ""]]
        for index in range(len(self.finished)):
            cells = [_word(column[index]) for column in settings.values()]
            for values in columns.values():
                cells.append(_mean_and_spread(values[index][good[index]] if good[index].any() else values[index][:1]))
            marks = []
            if self.diverged[index].any():
                marks.append(_some("diverged", self.diverged[index]))
            if not self.finished[index].all():
                marks.append(_some("not finished", ~self.finished[index]))
            lines.append([*cells, ", ".join(marks)])
        return _aligned(lines)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """Write a line for each run: settings, seed, outcomes, whether it diverged and finished.

        The text itself without a path. A file is replaced as a whole or not at all. Outcomes that are neither a
        number nor a curve for each run are left out; of curves the last values are written.
        """
        settings, columns = self._columns(())
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*settings, "seed", *columns, "diverged", "finished"])
        for index, seed in np.ndindex(self.finished.shape):
            writer.writerow(
                [
                    *(_exact(column[index]) for column in settings.values()),
                    seed,
                    *(plain(values[index, seed]) for values in columns.values()),
                    bool(self.diverged[index, seed]),
                    bool(self.finished[index, seed]),
                ]
            )
        if path is None:
            return text.getvalue()
        aside = Path(path).with_name(f".{Path(path).name}.unfinished")
        try:
            aside.write_text(text.getvalue(), encoding="utf-8")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return None

    def _columns(self, metrics: Sequence[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings = name_leaves(self.configs, "config", _is_column)
        named = name_leaves(self.outcomes, "outcome")
        if metrics:
            columns = {name: _score(self.outcomes, name, self.finished.shape) for name in metrics}
        else:
            columns = {name: _last(values) for name, values in named.items() if values.ndim <= 3 and values.size}
        # Where a setting, an outcome and what is written beside them are called alike.
        own = {"seed", "diverged", "finished"}
        settings = {f"config/{name}" if name in own | columns.keys() else name: v for name, v in settings.items()}
        return settings, {f"outcome/{name}" if name in own else name: values for name, values in columns.items()}


def check_metric(outcomes: PyTree, metric: Metric | None, mode: Mode | None) -> None:
    """Refuse a metric that is no number for each run, or of which nobody says what is good, before any run.

    `outcomes` are the shapes of those of one run.
    """
    of_one_run = jax.tree.map(lambda leaf: np.zeros((1, 1, *leaf.shape), leaf.dtype), outcomes)
    for one in _parts(metric):
        _score(of_one_run, one, (1, 1))
    _modes(of_one_run, metric, mode)


def check_metric_kind(metric: Any, mode: Any) -> None:
    """Refuse a metric that is neither a name, nor a function, nor a tuple of names, whatever the outcomes are."""
    for one in _parts(metric):
        if not isinstance(one, str | None) and not callable(one):
            raise TypeError(f"metric must be a name, a function, or a tuple of names; got {in_words(one)}")
    if mode is not None:
        check_choice("mode", mode, ["max", "min"])


def _score(outcomes: PyTree, metric: OneMetric | None, shape: tuple[int, ...]) -> np.ndarray:
    """One number for each run."""
    if callable(metric):
        values, name = np.asarray(metric(outcomes)), "the metric"
    else:
        name, values = _find(outcomes, metric)
        values = _last(values) if values.ndim <= len(shape) + 1 else values
    is_real = (
        values.dtype == bool or jnp.issubdtype(values.dtype, jnp.integer) or jnp.issubdtype(values.dtype, jnp.floating)
    )
    if values.shape != shape or not is_real:
        raise ValueError(
            f"{name} is {values.dtype}{list(values.shape)}; expected one real number for each run, {list(shape)}"
        )
    return values.astype(np.float64)


def _modes(outcomes: PyTree, metric: Metric | None, mode: Mode | None) -> list[Mode]:
    """What is good, of each metric of a tuple; of the first as said."""
    check_metric_kind(metric, mode)
    first, *others = _parts(metric)
    return [
        mode or _mode_of(outcomes, first, "say mode='max' or mode='min'"),
        *(_mode_of(outcomes, name, "after the first, a metric's name must tell") for name in others),
    ]


def _parts(metric: Metric | None) -> tuple[OneMetric | None, ...]:
    """The first metric, and the names that follow."""
    if not isinstance(metric, tuple):
        return (metric,)
    if not metric or not all(isinstance(name, str) for name in metric):
        raise TypeError(f"metric must be a name, a function, or a tuple of names; got {in_words(metric)}")
    return metric


def _find(outcomes: PyTree, metric: str | None) -> tuple[str, np.ndarray]:
    check_metric_kind(metric, None)
    named = name_leaves(outcomes, "outcome")
    if metric is None:
        if len(named) > 1:
            raise ValueError(f"which outcome is the metric? there are {', '.join(named)}")
        return next(iter(named.items()))
    if metric in named:
        return metric, named[metric]
    meant = [name for name in named if name.endswith(f"/{metric}")]
    if len(meant) > 1:
        raise ValueError(f"metric {metric!r} could be {' or '.join(meant)}")
    if not meant:
        check_choice("metric", metric, list(named))
    return meant[0], named[meant[0]]


def _mode_of(outcomes: PyTree, metric: OneMetric | None, hint: str) -> Mode:
    """What is good by a metric's name."""
    name = "the metric" if callable(metric) else _find(outcomes, metric)[0]
    mode = mode_of(name)
    if mode is None:
        raise ValueError(f"is {name} good when it is large or small? {hint}")
    return mode


def _is_column(node: Any) -> bool:
    return isinstance(node, list)


def _last(values: np.ndarray) -> np.ndarray:
    """A curve's last value, `[configs, seeds, points] -> [configs, seeds]`."""
    return values[..., -1] if values.ndim == 3 and values.size else values


def _mean_and_spread(values: np.ndarray) -> str:
    values = values.astype(np.float64)
    if len(values) == 1:
        return f"{values[0]:.4f}" if 1e-3 <= abs(values[0]) < 1e4 or values[0] == 0 else f"{values[0]:.4g}"
    mean, spread = values.mean(), values.std(ddof=1)
    return f"{mean:.4f} ± {spread:.4f}" if 1e-3 <= abs(mean) < 1e4 else f"{mean:.4g} ± {spread:.2g}"


def _some(what: str, marked: np.ndarray) -> str:
    return what if marked.all() else f"{marked.sum()} of {len(marked)} {what}"


def _word(value: Any) -> str:
    value = _exact(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _exact(value: Any) -> Any:
    """A setting as a cell: a function's name, the numbers in a key or an array."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    value = plain(value)
    return value.tolist() if isinstance(value, np.ndarray | jax.Array) else getattr(value, "__name__", value)


def _aligned(lines: list[list[str]]) -> str:
    """Columns to the right, but for the last one, the remarks."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(line[:-1], widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )
