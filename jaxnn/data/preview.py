"""What a person should see of a data set before a network learns from it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxnn._checks import check_size
from jaxnn.data._part import Part, images, read_part
from jaxnn.data.checks import check_names, check_splits
from jaxnn.data.dataset import Splits
from jaxnn.data.report import short, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Preview", "preview"]

_CLASSES = 20  # rows of pictures
_LINES = 40  # classes in the table
_FEATURES = 16  # histograms
_ROWS = 5  # examples of a table
_COLUMNS = 7  # of their features
_TARGETS = 4
_QUANTILES = {"minimum": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "maximum": 1.0}
# Of Okabe & Ito (2008), which colour-blind readers can tell apart.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")


def preview(
    splits: Splits,
    classes: Sequence[str] = (),
    *,
    columns: Sequence[str] = (),
    targets: Sequence[str] = (),
    per_class: int = 8,
    seed: int = 0,
) -> "Preview":
    """Show a data set to a person: `print` the result, and look at its `figure()`.

    `classes` are the names of the labels 0, 1, …, `columns` and `targets` those of features and of numbers to predict
    (`load_described` has them all); `per_class` is how many pictures of each are drawn, at random by
    `seed`. What holds pictures is `x [n, height, width, channels]` or `[n, height, width]`, and rows of a square
    number of values from 64 on that can be brightnesses, whole numbers from 0 or all of them from 0 to 1, unless there
    are names of `columns`.

    Raises:
        TypeError: not Splits of Datasets of arrays, or names that are no texts.
        ValueError: no training examples, arrays without numbers, or x and y that are not as many.

    >>> import numpy as np
    >>> from jaxnn.data import Dataset, Splits
    >>> from jaxnn.data.preview import preview
    >>> data = Dataset(np.array([[0.0, 1.5], [2.0, 0.5], [3.0, 0.1]], np.float32), np.array([0, 1, 1]))
    >>> print(preview(Splits(data, data, data), ["cat", "dog"]))
    3 train, 3 validation, 3 test examples of 2 float32
    <BLANKLINE>
    class  train   share  validation   share  test   share
    cat        1  33.3 %           1  33.3 %     1  33.3 %
    dog        2  66.7 %           2  66.7 %     2  66.7 %
    <BLANKLINE>
    example  x[:, 0]  x[:, 1]    y
    train 0        0      1.5  cat
    train 1        2      0.5  dog
    train 2        3      0.1  dog
    """
    check_splits(splits)
    for argument, names in {"classes": classes, "columns": columns, "targets": targets}.items():
        check_names(argument, names)
    check_size("per_class", per_class)
    check_size("seed", seed, at_least=0)
    parts = tuple(read_part(name, part, columns) for name, part in zip(Splits._fields, splits, strict=True))
    for part in parts:
        for letter, numbers in (("x", part.x), ("y", part.y)):
            if numbers is None:
                array = getattr(part.dataset, letter)
                raise ValueError(
                    f"{part.name}.{letter} must hold examples in real numbers; got {array.dtype} of shape {array.shape}"
                )
        if len(part.dataset.x) != len(part.dataset.y):
            lengths = f"{len(part.dataset.x)} examples and {part.name}.y has {len(part.dataset.y)}"
            raise ValueError(f"{part.name}.x has {lengths}; they must be as many")
    for letter, numbers in (("x", parts[0].x), ("y", parts[0].y)):
        if numbers is None or not numbers.size:
            shape = getattr(parts[0].dataset, letter).shape
            raise ValueError(f"train.{letter} has shape {shape}: there is nothing to show")
    return Preview(parts, tuple(classes), tuple(columns), tuple(targets), per_class, seed)


@dataclass(frozen=True)
class Preview:
    """The result of `preview`: a table, and a figure."""

    parts: tuple[Part, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    per_class: int
    seed: int

    @property
    def train(self) -> Part:
        """The training data."""
        return self.parts[0]

    def __str__(self) -> str:
        sizes = ", ".join(f"{part.examples:,} {part.name}" for part in self.parts)
        x = self.train.dataset.x
        form = " ".join(["×".join(map(str, x.shape[1:])), str(x.dtype)]).strip()
        blocks = [f"{sizes} examples of {form}"]
        blocks.append(self._class_table() if self.train.labels is not None else self._target_table())
        if images(self.train) is None:
            blocks.append(self._first_rows())
        return "\n\n".join(blocks)

    def figure(self) -> "Figure":
        """Draw training examples: random pictures of each class, or histograms of the features and targets."""
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        pictures = images(self.train)
        if pictures is None:
            self._draw_features(figure)
        elif self.train.labels is not None:
            self._draw_classes(figure, pictures, self.train.labels)
        else:
            self._draw_targets(figure, pictures)
        return figure

    def _name(self, label: int) -> str:
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def _feature(self, column: int) -> str:
        return self.columns[column] if column < len(self.columns) else f"x[:, {column}]"

    def _target(self, column: int) -> str:
        return self.targets[column] if column < len(self.targets) else f"y[:, {column}]"

    def _class_table(self) -> str:
        counts = [Counter([] if part.labels is None else part.labels.tolist()) for part in self.parts]
        labels = sorted(set().union(*counts, range(len(self.classes))))
        rows = [
            (
                self._name(label),
                *(cell for of_part in counts for cell in _share(of_part[label], of_part.total())),
            )
            for label in labels[:_LINES]
        ]
        headings = ["class", *(heading for part in self.parts for heading in (part.name, "share"))]
        more = [f"and {len(labels) - _LINES:,} more classes"] if len(labels) > _LINES else []
        return "\n".join([table(headings, rows), *more])

    def _target_table(self) -> str:
        targets = 0 if self.train.y is None else self.train.y.shape[1]
        rows = []
        for target in range(min(targets, _TARGETS)):
            for part in self.parts:
                y = part.y if part.kind == "numbers" and part.y is not None else np.zeros((0, 0))
                values = y[:, target] if target < y.shape[1] else y[:0]
                values = values[np.isfinite(values)]
                figures = np.quantile(values, list(_QUANTILES.values())) if len(values) else []
                cells = [f"{figure:.4g}" for figure in figures] or ["-"] * len(_QUANTILES)
                rows.append((self._target(target) if self.train.dataset.y.ndim > 1 else "y", part.name, *cells))
        more = [f"and {targets - _TARGETS:,} more targets"] if targets > _TARGETS else []
        return "\n".join([table(("target", "part", *_QUANTILES), rows, left=2), *more])

    def _first_rows(self) -> str:
        x = self.train.x
        assert x is not None
        names = [short(self._feature(column)) for column in range(min(x.shape[1], _COLUMNS))]
        more = ["…"] if x.shape[1] > _COLUMNS else []
        rows = []
        for number in range(min(len(x), _ROWS)):
            values = [f"{value:.4g}" for value in x[number, :_COLUMNS].tolist()]
            target = self.train.y[number].tolist() if self.train.y is not None else 0
            if isinstance(target, list):
                shown = ", ".join(f"{value:.4g}" for value in target[:_TARGETS]) + (
                    ", …" if len(target) > _TARGETS else ""
                )
            else:
                shown = self._name(target)
            rows.append((f"train {number}", *values, *more, shown))
        return table(("example", *names, *more, "y"), rows)

    def _draw_classes(self, figure: "Figure", images: np.ndarray, labels: np.ndarray) -> None:
        random = np.random.default_rng(self.seed)
        there = np.unique(labels).tolist()
        names = [short(self._name(label)) for label in there[:_CLASSES]]
        members = [random.permutation(np.flatnonzero(labels == label)) for label in there[:_CLASSES]]
        drawn = [some[: self.per_class] for some in members]
        size = _size(images, 0.72 if len(drawn) <= 10 else 0.5)
        which = f"the first {_CLASSES} of {len(there):,} classes" if len(there) > _CLASSES else "each class"
        title = f"random training examples of {which}{size.note}"
        beside = 0.09 * max(map(len, names)) + 0.3
        figure.set_size_inches(
            max(_LETTER * len(title), max(map(len, drawn)) * size.width + beside), len(drawn) * size.height + 0.5
        )
        axes = figure.subplots()
        axes.set_anchor("W")  # else the room for the names is taken from beside them
        _draw_pictures(axes, images, drawn, size, (_PITCH, _PITCH))
        axes.set_yticks([(row + 0.5) * images.shape[1] * _PITCH for row in range(len(drawn))], names, parse_math=False)
        figure.suptitle(title)

    def _draw_targets(self, figure: "Figure", images: np.ndarray) -> None:
        y = self.train.y
        assert y is not None and y.ndim == 2
        target = y[:, 0]
        random = np.random.default_rng(self.seed)
        chosen = random.permutation(len(images))[: 3 * self.per_class]
        chosen = chosen[np.argsort(target[chosen], kind="stable")]
        drawn = [chosen[start : start + self.per_class] for start in range(0, len(chosen), self.per_class)]
        height, width = images.shape[1:3]
        size = _size(images, 0.72)
        title = f"random training examples with their targets{size.note}"
        room = 0.22 / size.height  # below a picture, for its target
        down, across = _PITCH + room, _PITCH * max(1.0, 0.72 / size.width)
        inches = len(drawn) * down * size.height
        figure.set_size_inches(max(_LETTER * len(title), len(drawn[0]) * across * size.width + 0.6), inches + 2.6)
        pictures, histogram = figure.subplots(2, 1, height_ratios=(inches, 1.8))
        _draw_pictures(pictures, images, drawn, size, (down, across))
        for row, numbers in enumerate(drawn):
            for column, number in enumerate(numbers):
                where = ((column * across + 0.5) * width, (row * down + _PITCH + 0.4 * room) * height)
                pictures.text(*where, f"{target[number]:.3g}", ha="center", va="center", fontsize=8)
        pictures.set_yticks([])
        _draw_histogram(histogram, target, self._groups())
        more = f", the first of {y.shape[1]} targets" if y.shape[1] > 1 else ""
        histogram.set_xlabel(f"y[:, 0]{more}")
        histogram.set_ylabel("examples")
        figure.suptitle(title)

    def _draw_features(self, figure: "Figure") -> None:
        train, groups = self.train, self._groups()
        x = train.x
        assert x is not None
        subjects = [(short(self._feature(column)), x[:, column]) for column in range(min(x.shape[1], _FEATURES))]
        if train.labels is None and train.y is not None:
            shown = range(min(train.y.shape[1], _TARGETS))
            subjects += [(f"target {short(self._target(column))}", train.y[:, column]) for column in shown]
        columns = min(4, len(subjects))
        rows = -(-len(subjects) // columns)
        figure.set_size_inches(max(4.5, 2.9 * columns), 1.9 * rows + 0.9)
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes in grid[len(subjects) :]:
            axes.remove()
        for number, (axes, (name, values)) in enumerate(zip(grid, subjects, strict=False)):
            _draw_histogram(axes, values, groups)
            axes.set_title(name, fontsize=9, parse_math=False)
            if number % columns == 0:
                axes.set_ylabel("examples", fontsize=8)
        legend = figure.legend(
            grid[0].patches[1::2],  # the outlines
            list(groups),
            loc="outside lower center",
            ncols=min(len(groups), 2 * columns),
            frameon=False,
            fontsize=9,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        few = f"the first {_FEATURES} of {x.shape[1]:,} features" if x.shape[1] > _FEATURES else "features"
        figure.suptitle(f"training data: {few}{' and targets' if train.labels is None else ''}")

    def _groups(self) -> dict[str, np.ndarray]:
        """The training examples in groups to be told apart by their colours."""
        labels, y = self.train.labels, self.train.y
        everything = {"all training examples": np.ones(self.train.examples, bool)}
        if labels is not None:
            there = np.unique(labels).tolist()
            if len(there) > len(_COLORS):
                return {f"all {len(there):,} classes": everything.popitem()[1]}
            return {short(self._name(label)): labels == label for label in there}
        if y is None or not y.size or not np.isfinite(y[:, 0]).all():
            return everything
        low, high = np.quantile(y[:, 0], [1 / 3, 2 / 3])
        thirds = {
            f"target up to {low:.4g}": y[:, 0] <= low,
            f"up to {high:.4g}": (y[:, 0] > low) & (y[:, 0] <= high),
            f"above {high:.4g}": y[:, 0] > high,
        }
        return thirds if all(third.any() for third in thirds.values()) else everything


_PITCH = 1.08  # pictures' distance over their size
_LETTER = 0.1  # inches of a title for each of its letters


class _Size(NamedTuple):
    """Of a picture in the figure, in inches."""

    height: float
    width: float
    note: str
    """What the title says of it."""


def _size(images: np.ndarray, inches: float) -> _Size:
    """Height and width that names and neighbours leave room for: very long pictures are drawn less long."""
    height, width = images.shape[1:3]
    drawn_height = min(max(inches * height / width, 0.25), 2 * inches)
    drawn_width = min(max(drawn_height * width / height, inches / 2), 2 * inches)
    stretched = not math.isclose(drawn_height * width, drawn_width * height)
    return _Size(drawn_height, drawn_width, ", stretched" if stretched else "")


def _draw_pictures(
    axes: "Axes", images: np.ndarray, drawn: list[np.ndarray], size: _Size, pitch: tuple[float, float]
) -> None:
    """Draw rows of pictures into one pair of axes, in units of their pixels.

    `pitch` is how many heights rows are apart, and widths columns.
    """
    down, across = pitch
    height, width, channels = images.shape[1:]
    some = images[np.concatenate(drawn)]
    finite = some[np.isfinite(some)]
    low, high = min(float(finite.min(initial=0)), 0.0), float(finite.max(initial=0))
    if channels > 1:
        high = max(high, 255.0 if images.dtype == np.uint8 else 1.0)
    high = high if high > low else low + 1
    for row, numbers in enumerate(drawn):
        for column, number in enumerate(numbers):
            left, top = column * width * across, (row * down + (_PITCH - 1) / 2) * height
            extent = (left, left + width, top + height, top)
            if channels == 1:
                axes.imshow(images[number, :, :, 0], cmap="gray", vmin=low, vmax=high, extent=extent)
            else:
                axes.imshow(np.clip((images[number] - low) / (high - low), 0, 1), extent=extent)
    axes.set_aspect((size.height / height) / (size.width / width))
    axes.set(xlim=(0, max(map(len, drawn)) * width * across), ylim=(len(drawn) * height * down, 0), xticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_histogram(axes: "Axes", values: np.ndarray, groups: dict[str, np.ndarray]) -> None:
    from matplotlib.ticker import MaxNLocator

    finite = np.isfinite(values)
    distinct = np.unique(values[finite])
    if 0 < len(distinct) <= 12 and (distinct == np.round(distinct)).all() and np.ptp(distinct) < 24:
        edges = np.arange(distinct[0], distinct[-1] + 2) - 0.5  # a bar for each whole number
    else:
        edges = np.histogram_bin_edges(values[finite].astype(np.float64), bins=min(24, max(8, math.isqrt(len(values)))))
    for (name, members), color in zip(groups.items(), _COLORS, strict=False):
        counts, _ = np.histogram(values[finite & members], edges)
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.3)
        axes.stairs(counts, edges, color=color, linewidth=1.2, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _share(count: int, total: int) -> tuple[str, str]:
    return f"{count:,}", f"{100 * count / total:.1f} %" if total else "-"
