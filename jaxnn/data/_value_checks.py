"""Checks of the values of x, and of numbers to predict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data._part import SHOWN, Part, blocks
from jaxnn.data.report import Finding

__all__ = ["values"]

_OUTLIER = 20.0  # robust standard deviations
_RARE = 0.2  # fraction of values that differ from the median, below which percentiles may lie at their edge
_APART = 5  # times as far from the median as the next value, where a long tail ends and outliers begin
_TAILS = 21  # examples from which on a single one lies beyond the 95th percentile; fewer show no range
_MISSING = 0.01  # fraction of a feature's values, from which on one of them may stand for "missing"
_REMOTE = 3  # ranges of all other values, by which it lies away from the nearest
_SOME = 1000  # examples, of which in most columns one lies in the middle half of the range
_MANY = 10  # different values, below which they are categories
_FAR = 0.5  # of a range, by which a value lies far outside it
_ASTRAY = {False: 0.1, True: 0.01}  # fraction of a feature's values, or of all pixels, that may lie far outside
_CHANCE = 1e-6  # that none of a few examples is among the fraction of the others that lie far outside their range


def values(parts: Sequence[Part]) -> Iterator[Finding]:
    """What is not finite, constant, blank, out of range or far from everything else."""
    train = parts[0]
    for part in parts:
        for letter, array in (("x", part.x), ("y", part.y)):
            if array is not None:
                yield from _not_finite(part, letter, array)
    targets = [part for part in parts if _finite_targets(part, train)] if _finite_targets(train, train) else []
    if targets:
        yield from _constant_targets(train)
        yield from _imprecise("y", train)
    for part in parts:
        if part.pictures and part.moments is not None and part.moments.blank.any() and not train.constant:
            which = np.flatnonzero(part.moments.blank)
            value = part.moments.means[which[0]]
            message = f"blank pictures: {len(which):,} of {part.examples:,}; all of x[{which[0]}] is {value:g}"
            yield Finding("warning", "blank", part.name, message, len(which), tuple(which[:SHOWN].tolist()))
    if train.moments is None:
        return
    if train.constant:
        message = f"every value of x is {train.moments.low[0]:g}: there is nothing to learn from"
        yield Finding("error", "constant", train.name, message, train.examples, ())
        return
    yield from _constant_features(train)
    if not train.pictures:
        yield from _imprecise("x", train)

    comparable = [train]
    for part in parts[1:]:
        if part.moments is None or not part.like(train):
            continue
        astray = list(_ranges(train, part))
        yield from astray
        comparable += [] if astray else [part]
    yield from _outliers("x", comparable)
    if targets:
        yield from _outliers("y", targets)


def _finite_targets(part: Part, train: Part) -> bool:
    """Whether y holds finite numbers to predict, as many as in training."""
    if part.kind != "numbers" or part.y is None or part.y.size == 0:
        return False
    return part.dataset.y.shape[1:] == train.dataset.y.shape[1:] and bool(np.isfinite(part.y).all())


def _not_finite(part: Part, letter: str, array: np.ndarray) -> Iterator[Finding]:
    if array.dtype.kind != "f" or (letter == "x" and part.moments is not None):
        return
    bad = ~np.isfinite(array.reshape(len(array), -1)) if array.size else np.zeros((0, 0), bool)
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        column = int(np.argmax(bad[rows[0]]))
        number = int(np.count_nonzero(bad))
        value = array.reshape(len(array), -1)[rows[0], column]
        others = f"; {number:,} values are not finite" if number > 1 else ""
        message = f"{part.element(letter, int(rows[0]), column)} is {value}{others}"
        yield Finding("error", "finite", part.name, message, number, tuple(rows[:SHOWN].tolist()))


def _constant_features(train: Part) -> Iterator[Finding]:
    assert train.moments is not None
    which = np.flatnonzero(train.moments.low == train.moments.high)
    if train.examples < 2 or not len(which):
        return
    shown = tuple(which[:SHOWN].tolist())
    total = len(train.moments.low)
    if train.pictures:
        message = f"constant pixels: {len(which):,} of {total:,} are the same in all pictures"
        yield Finding("note", "constant", train.name, message, len(which), shown)
    else:
        same = f"{len(which):,} of {total:,} are the same in all examples, {_list(train, 'x', which)}"
        message = f"constant features: {same}"
        yield Finding("warning", "constant", train.name, message, len(which), shown)


def _constant_targets(train: Part) -> Iterator[Finding]:
    assert train.y is not None
    y = train.y
    which = np.flatnonzero(y.min(axis=0) == y.max(axis=0))
    if train.examples < 2 or not len(which):
        return
    shown = tuple(which[:SHOWN].tolist())
    if len(which) == y.shape[1]:
        value = f"every target is {y[0, 0]:g}" if len(which) == 1 else "the targets of all examples are the same"
        message = f"{value}: there is nothing to learn"
        yield Finding("error", "constant", train.name, message, len(which), shown)
    else:
        same = f"{len(which):,} of {y.shape[1]:,} are the same in all examples, {_list(train, 'y', which)}"
        message = f"constant targets: {same}"
        yield Finding("warning", "constant", train.name, message, len(which), shown)


def _list(part: Part, letter: str, columns: np.ndarray) -> str:
    """The first few columns."""
    first = [part.feature(letter, column) for column in columns[:SHOWN].tolist()]
    return ", ".join([*first, *(["…"] if len(columns) > SHOWN else [])])


def _imprecise(letter: str, train: Part) -> Iterator[Finding]:
    """Columns that take so few steps of their floating-point format that it runs values together."""
    table = train.x if letter == "x" else train.y
    assert table is not None
    kind = getattr(train.dataset, letter).dtype
    if not jnp.issubdtype(kind, jnp.floating) or not len(table):
        return
    kind = jax.dtypes.canonicalize_dtype(kind)  # in which JAX keeps it
    eps = float(jnp.finfo(kind).eps)
    low, high = (np.asarray(end, np.float64) for end in (table.min(axis=0), table.max(axis=0)))
    largest = np.maximum(np.abs(low), np.abs(high))
    steps = np.ldexp(eps, np.frexp(largest)[1] - 1)
    few = steps / (3 * np.sqrt(eps))  # 965 steps of float32, 11 of float16, 4 of bfloat16
    which = []
    for column in np.flatnonzero((low < high) & (high - low < few)).tolist():
        if np.diff(np.unique(table[:, column].astype(np.float64))).min() <= steps[column]:
            which.append(column)
    if which:
        column = which[0]
        more = f" (and so do {len(which) - 1:,} more)" if len(which) > 1 else ""
        message = (
            f"{train.feature(letter, column)} lies within {high[column] - low[column]:.3g} of {low[column]:.6g}, where "
            f"{kind} tells steps of {steps[column]:.3g} apart{more}: subtract an offset before storing it"
        )
        yield Finding("warning", "precision", train.name, message, len(which), tuple(which[:SHOWN]))


def _ranges(train: Part, part: Part) -> Iterator[Finding]:
    """Whether a part reaches far out of the training data's range, or they out of the part's."""
    for inner, outer in ((train, part), (part, train)):
        if inner.examples < _TAILS:
            continue
        astray = _astray(inner, outer)
        if astray:
            column, fraction, low, high = astray[0]
            where = "the values" if train.pictures else train.feature("x", column)
            more = f" (and so in {len(astray) - 1:,} more features)" if len(astray) > 1 else ""
            message = (
                f"{fraction:.0%} of {where} in {outer.name} lie far outside the range in {inner.name}, "
                f"{low:.4g} to {high:.4g}{more}: are both scaled in the same way?"
            )
            count = round(fraction * (outer.x.size if outer.x is not None else 0)) if train.pictures else len(astray)
            shown = () if train.pictures else tuple(feature for feature, *_ in astray[:SHOWN])
            yield Finding("warning", "range", f"{train.name} and {part.name}", message, count, shown)
            return


def _astray(inner: Part, outer: Part) -> list[tuple[int, float, float, float]]:
    """Features of which much of `outer` lies far out of the range in `inner`: which, how much, and that range.

    The values of pictures count as one feature.
    """
    assert inner.moments is not None and outer.moments is not None and outer.x is not None
    low, high, least, most = inner.moments.low, inner.moments.high, outer.moments.low, outer.moments.high
    x = outer.x
    if inner.pictures:
        low, high, least, most = low.min(keepdims=True), high.max(keepdims=True), least.min(), most.max()
        x = x.reshape(-1, 1)
    far = _FAR * (high - low)
    found: list[tuple[int, float, float, float]] = []
    for column in np.flatnonzero((least < low - far) | (most > high + far)).tolist():
        values = x[:, column]
        outside = np.count_nonzero(values < (low - far)[column]) + np.count_nonzero(values > (high + far)[column])
        by_chance = 0.0 if inner.pictures else 1 - _CHANCE ** (1 / inner.examples)
        if outside > max(2, max(_ASTRAY[inner.pictures], by_chance) * len(values)):
            found.append((column, float(outside / len(values)), float(low[column]), float(high[column])))
    return found


def _outliers(letter: str, parts: Sequence[Part]) -> Iterator[Finding]:
    """Values many robust standard deviations from the training median; of pictures, their mean and spread."""
    train = parts[0]
    if len(_table(letter, train, False)) < _TAILS:
        return
    pictures = letter == "x" and train.pictures
    tables, least = [_table(letter, part, pictures) for part in parts], 0.0
    missing = {} if pictures else _missing(tables[0])
    if missing:
        yield _sentinel(letter, train, tables[0], missing)
    if pictures:  # pictures scaled one by one differ in these by rounding alone
        least = 1e-3 * float(tables[0][:, 1].max())
    for part, table, far in zip(parts, tables, _far(tables, least, missing), strict=True):
        if not far.number:
            continue
        value = table[far.row, far.column]
        if pictures:
            number, what = (
                len(far.rows),
                f"outliers in brightness or contrast: {len(far.rows):,} of {part.examples:,} pictures",
            )
            which = f"the {('mean', 'standard deviation')[far.column]} of x[{far.row}]"
        else:
            number, what = far.number, f"outliers in {letter}: {far.number:,} of {table.size:,} values"
            which = part.element(letter, far.row, far.column)
        message = f"{what}; farthest is {which} = {value:.4g} (z = {far.score:.3g})"
        yield Finding("warning", "outliers", part.name, message, number, tuple(sorted(far.rows)[:SHOWN]))


def _table(letter: str, part: Part, pictures: bool) -> np.ndarray:
    if pictures:
        assert part.moments is not None
        return np.stack([part.moments.means, part.moments.stds], axis=1)
    table = part.x if letter == "x" else part.y
    assert table is not None
    return table


def _missing(table: np.ndarray) -> dict[int, float]:
    """By column, the value that may stand for "missing": many times the least or greatest, and far from all others."""
    low, high = (np.asarray(end, np.float64) for end in (table.min(axis=0), table.max(axis=0)))
    some, quarter = table[:_SOME], (high - low) / 4
    found = {}
    # If the rest takes a quarter of the range at most, the middle half is empty.
    for column in np.flatnonzero(~((some > low + quarter) & (some < high - quarter)).any(axis=0)).tolist():
        values = table[:, column].astype(np.float64)
        for end in (low[column], high[column]):
            others = values[values != end]
            number = len(values) - len(others)
            if len(others) < _TAILS or number < max(2, _MISSING * len(values)):
                continue
            if np.abs(others - end).min() > _REMOTE * np.ptp(others) and len(np.unique(others)) >= _MANY:
                found[column] = float(end)
    return found


def _sentinel(letter: str, train: Part, table: np.ndarray, missing: dict[int, float]) -> Finding:
    column, value = next(iter(missing.items()))
    others = table[table[:, column] != value, column]
    more = f" (and so in {len(missing) - 1:,} more)" if len(missing) > 1 else ""
    message = (
        f"{train.feature(letter, column)} is {value:g} in {len(table) - len(others):,} of {len(table):,} examples, and "
        f"{others.min():.4g} to {others.max():.4g} in the others{more}: does it stand for 'missing'?"
    )
    return Finding("warning", "sentinel", train.name, message, len(missing), tuple(missing)[:SHOWN])


@dataclass
class _Far:
    """Outliers of a table: how many, in which rows, and the farthest."""

    number: int = 0
    rows: set[int] = field(default_factory=set)
    score: float = 0.0
    row: int = 0
    column: int = 0


def _far(tables: Sequence[np.ndarray], least: float, missing: dict[int, float]) -> list[_Far]:
    """The outliers of each table, by the median and scale of the first one's features, without what is missing."""
    far = [_Far() for _ in tables]
    width = tables[0].shape[1]
    for columns in blocks(width, len(tables[0])):
        here = [(column - columns.start, missing[column]) for column in range(width)[columns] if column in missing]
        known = tables[0][:, columns].copy() if here else tables[0][:, columns]
        for column, value in here:  # the others, repeated, in its place
            known[:, column] = np.resize(known[known[:, column] != value, column], len(known))
        median, scale = _robust(known)
        scale = np.maximum(scale, least)
        scores = [np.abs(table[:, columns] - median) / scale for table in tables]
        for column, value in here:
            for table, score in zip(tables, scores, strict=True):
                score[table[:, columns.start + column] == value, column] = 0
        highest = np.max([score.max(axis=0) for score in scores], axis=0)
        for column in np.flatnonzero(highest > _OUTLIER).tolist():
            limit = _gap(np.concatenate([score[:, column] for score in scores]))
            for found, score in zip(far, scores, strict=True):
                rows = np.flatnonzero(score[:, column] >= limit)
                if not len(rows):
                    continue
                found.number += len(rows)
                found.rows.update(rows.tolist())
                row = int(rows[np.argmax(score[rows, column])])
                if score[row, column] > found.score:
                    found.score, found.row, found.column = float(score[row, column]), row, column + columns.start
    return far


def _gap(scores: np.ndarray) -> float:
    """The lowest score of an outlier: far from the median, and from all that is nearer. Infinity if there is none."""
    beyond = np.sort(scores[scores > _OUTLIER])
    nearer = np.array([scores[scores <= _OUTLIER].max(initial=0), *beyond[:-1]])
    apart = beyond[beyond > _APART * nearer]
    return float(apart[0]) if len(apart) else np.inf


def _robust(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each feature, the median and a robust standard deviation; infinity where too few values differ."""
    columns = np.ascontiguousarray(x.T, dtype=np.float64)
    n = columns.shape[1]
    tail = n // 20
    ordered = np.partition(columns, sorted({tail, (n - 1) // 2, n // 2, n - 1 - tail}), axis=1)
    median = (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2
    distance = np.abs(columns - median[:, None])
    scale = np.maximum(np.median(distance, axis=1) / 0.6745, (ordered[:, n - 1 - tail] - ordered[:, tail]) / 3.29)
    differing = np.count_nonzero(distance, axis=1)
    others = np.where(differing < _TAILS, np.inf, 1.253314 * distance.sum(axis=1) / np.maximum(differing, 1))
    return median, np.where(differing < _RARE * n, np.maximum(scale, others), scale)
