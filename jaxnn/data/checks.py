"""What a machine can check of a data set before a network learns from it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import jax
import numpy as np

from jaxnn._checks import check_size, in_words
from jaxnn.data._duplicates import first_equals
from jaxnn.data._label_checks import label_kinds, labels
from jaxnn.data._part import SHOWN, Part, read_part
from jaxnn.data._value_checks import values
from jaxnn.data.dataset import Dataset, Splits
from jaxnn.data.report import DataReport, Finding, Severity

__all__ = ["check_names", "check_splits", "validate"]

_LEAK = 0.1  # fraction of a part, known from another, above which its figures mean nothing
_TOGETHER = 100  # times as many equal examples as there were if features had nothing to do with each other


def validate(splits: Splits, *, classes: int | Sequence[str] | None = None, columns: Sequence[str] = ()) -> DataReport:
    """Check shapes, types, values, labels and repetitions of training, validation and test data.

    `classes` is the number of classes, or their names in the order of the labels, if they are known: then y must hold
    labels from 0 to one less. `columns` are the names of the features of a table. Labels are integers `[n]`, or
    one-hot rows; other y are numbers to predict. Nothing is changed, and whatever the arrays hold, the result is a
    report. Its findings are

        error      no numbers, shapes or dtypes that do not fit together, no training examples, NaN or infinity,
                   x or all targets constant, labels that are negative, too large, `[n, 1]`, of one class alone, or of
                   a class without training examples, more than 10 % of a part known from another one
        warning    no validation or test examples, constant features of a table, one of several targets constant, blank
                   pictures, values far outside the training range, outliers, a value that may stand for "missing",
                   large values that hardly differ, training labels `[n]` in floats or booleans, classes without
                   examples, of very different sizes or in other proportions than in training, equal examples, also
                   with different labels
        note       constant pixels, a rare class missing from a small part, training labels in order

    Pictures are x `[n, height, width]`, with channels or without, and also rows without `columns` of a square number
    of values from 64 on that can be brightnesses: whole numbers from 0, or all of them from 0 to 1. Other rows are a
    table.

    A value is far outside a range if its distance is more than half of the range; this is found where more than
    10 % of a feature's values do so, and more than chance leaves out of a small part, or 1 % of the pixels.

    An outlier lies more than 20 robust standard deviations from the training median, of a feature, of a number to
    predict, or of the pictures' means and standard deviations, and 5 times as far as any value nearer to it. The
    former is the z of Iglewicz & Hoaglin (1993), 0.6745 |x - median| / MAD, with 20 in place of their 3.5, and with
    the distance from the 5th to the 95th percentile over 3.29 in place of MAD / 0.6745 where it is larger. So a slip
    of the decimal point to ten times the median is found where that deviation is at most 40 % of the median and no
    other value lies beyond 4.5 deviations; slips of many sizes, which bridge the gap, are not. The largest of 100,000
    normal, exponential or log-normal values are none (z near 4.5, 13 and 49), but of 300 log-normal values the largest
    is one in 4 of 1,000 columns. If more than four fifths of the values are the same, 1.2533 times the mean distance
    of the others takes the scale's place where it is larger: a rare 1 among zeros is no outlier. With fewer than 21
    training examples, or fewer than 21 such others, nothing is called one.

    A value may stand for "missing" if it is the least or the greatest of a table's column, is there at least twice and
    in 1 % of the training examples, and lies farther from the nearest of the others than 3 times their range, at least
    21 of them and 10 different ones: -9999, however frequent, but not a -1 among numbers from 0 to 1, nor one of two
    such values. Outliers are then looked for without it.

    Large values hardly differ where a column of a table, or a number to predict, goes through less than 965 steps of
    float32 from its least value to its greatest (11 of float16; JAX keeps float64 as float32 unless told otherwise),
    and neighbours lie one step apart or less: timestamps, for one.

    Equal examples are equal bit by bit, but -0.0 is 0.0. Parts of examples that can take few values share some by
    chance: then more than 10 % is a warning too, up to the fraction of training examples that have a twin there. Few
    are at most 10 n different ones, n being the examples of the part they are known from, counted by the steps of each
    feature; or so few that chance put 1 % of those found among n, if features had nothing to do with each other.

    A part whose x is not all finite is not looked at for constants, ranges and outliers. No value is left out,
    whatever the size: the work is done in blocks, and for outliers by the column.

    Raises:
        TypeError: not Splits of Datasets of arrays, or names that are no texts.
        ValueError: a name that is there twice, or other than one name for each feature of a training example.

    >>> import numpy as np
    >>> from jaxnn.data import Dataset, split
    >>> from jaxnn.data.checks import validate
    >>> x, y = np.arange(80.0).reshape(40, 2), np.arange(40, dtype=np.int32) % 2
    >>> x[x == 21] = np.nan
    >>> print(validate(split(Dataset(x, y)), classes=["cat", "dog"], columns=["height", "weight"]))
    data report: 1 error
    <BLANKLINE>
    part        x          y      examples  minimum  maximum    mean     std
    train       2 float64  int32        28        0       79  42.357  21.855
    validation  2 float64  int32         4        2       75  35.286  27.937
    test        2 float64  int32         8        4       69    32.5  23.372
    <BLANKLINE>
    class       cat  dog
    train        14   14
    validation    2    2
    test          4    4
    <BLANKLINE>
    error    validation: x[3, 1] ('weight') is nan
    """
    check_splits(splits)
    names: tuple[str, ...] = ()
    if classes is not None and not isinstance(classes, int | np.integer):
        names = _names("classes", classes)
        classes = len(names)
    if classes is not None:
        check_size("classes", classes)
    columns = _names("columns", columns)
    if columns and splits.train.x.shape[1:] != (len(columns),):
        shape = splits.train.x.shape
        raise ValueError(f"columns must be the names of the features; got {len(columns)}, and train.x of shape {shape}")
    with np.errstate(all="ignore"):  # of what overflows in a mean
        parts = [read_part(name, part, columns) for name, part in zip(Splits._fields, splits, strict=True)]
        found = [
            *_agreement(parts),
            *label_kinds(parts, classes),
            *values(parts),
            *labels(parts, classes, names),
            *_repetitions(parts),
        ]
        facts = tuple(part.facts() for part in parts)
    severities: tuple[Severity, ...] = ("error", "warning", "note")
    findings = tuple(sorted(found, key=lambda finding: severities.index(finding.severity)))
    return DataReport(facts, findings, names, columns)


def check_names(argument: str, names: Any) -> None:
    """Refuse what is no list of names."""
    is_list = isinstance(names, Sequence | np.ndarray) and not isinstance(names, str)
    if not is_list or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be names; got {in_words(names)}")


def _names(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    check_names(argument, names)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"{argument} has the name {twice[0]!r} twice; expected different names")
    return tuple(names)


def check_splits(splits: Any) -> None:
    """Refuse what is not Splits of Datasets of arrays."""
    if not isinstance(splits, Splits):
        raise TypeError(f"splits must be Splits(train, validation, test); got {type(splits).__name__}")
    for name, part in zip(Splits._fields, splits, strict=True):
        if not isinstance(part, Dataset):
            raise TypeError(f"splits.{name} must be a Dataset (x, y); got {type(part).__name__}")
        for letter, array in zip("xy", part, strict=True):
            if not isinstance(array, np.ndarray | jax.Array):
                raise TypeError(f"splits.{name}.{letter} must be an array; got {type(array).__name__}")


def _agreement(parts: list[Part]) -> Iterator[Finding]:
    """Numbers of examples, shapes and dtypes, by themselves and against the training data."""
    train = parts[0]
    for part in parts:
        x, y = part.dataset
        for letter, array, numbers in (("x", x, part.x), ("y", y, part.y)):
            if array.ndim == 0:
                yield Finding(
                    "error", "shape", part.name, f"{letter} must be an array of examples; got a scalar", 1, ()
                )
            elif numbers is None:
                message = f"{letter} must hold real numbers; got dtype {array.dtype}"
                yield Finding("error", "dtype", part.name, message, len(array), ())
        if x.ndim == 0 or y.ndim == 0:
            continue
        if len(x) != len(y):
            message = f"x has {len(x)} examples and y has {len(y)}; they must be as many"
            yield Finding("error", "shape", part.name, message, abs(len(x) - len(y)), ())
        elif len(x) == 0:
            yield Finding("error" if part is train else "warning", "empty", part.name, "there are no examples", 0, ())
        elif 0 in x.shape:
            message = f"x has examples of shape {x.shape[1:]}, which hold no values"
            yield Finding("error", "shape", part.name, message, len(x), ())
    for part in parts[1:]:
        if part.examples == 0 or train.examples == 0:
            continue
        both = f"train and {part.name}"
        for letter, one, other in zip("xy", train.dataset, part.dataset, strict=True):
            if letter == "y" and train.kind == part.kind == "labels":  # a column of them is found by itself
                continue
            if one.ndim and other.ndim and one.shape[1:] != other.shape[1:]:
                message = f"examples have {letter} of shape {one.shape[1:]} in train, {other.shape[1:]} in {part.name}"
                yield Finding("error", "shape", both, message, len(other), ())
        if train.dataset.x.dtype != part.dataset.x.dtype:
            message = f"x is {train.dataset.x.dtype} in train, {part.dataset.x.dtype} in {part.name}"
            yield Finding("error", "dtype", both, message, part.examples, ())
        if train.y is not None and part.y is not None and train.kind != part.kind:
            message = f"y holds {train.kind} in train, {part.kind} in {part.name}"
            yield Finding("error", "dtype", both, message, part.examples, ())


def _repetitions(parts: list[Part]) -> Iterator[Finding]:
    """Examples that are there more than once, in one part or in two."""
    train = parts[0]
    parts = [part for part in parts if part.values and part.like(train)]
    if not train.values or train.constant:
        return
    first = first_equals([part.x for part in parts if part.x is not None])
    ends = np.cumsum([0, *(part.examples for part in parts)])
    groups = {part.name: first[start:end] for part, (start, end) in zip(parts, pairwise(ends), strict=True)}
    for part in parts:
        _, earliest, group = np.unique(groups[part.name], return_index=True, return_inverse=True)
        again = np.flatnonzero(earliest[group] != np.arange(part.examples))
        yield from _within(part, again, earliest[group[again]])
    for one, other in combinations(parts, 2):
        known = np.flatnonzero(np.isin(groups[other.name], groups[one.name]))
        if len(known):
            share = len(known) / other.examples
            leaked = share > _LEAK
            if leaked:
                by_chance = other.examples * _by_chance(train, groups[train.name], one.examples)
                leaked = len(known) > by_chance + 4 * np.sqrt(by_chance)
            twin = int(np.argmax(groups[one.name] == groups[other.name][known[0]]))
            message = (
                f"known from {one.name}: {len(known):,} of {other.examples:,} {other.name} examples ({share:.2%}); "
                f"{other.name} x[{known[0]}] equals {one.name} x[{twin}]"
            )
            shown = tuple(known[:SHOWN].tolist())
            both = f"{one.name} and {other.name}"
            yield Finding("error" if leaked else "warning", "leakage", both, message, len(known), shown)


def _by_chance(train: Part, groups: np.ndarray, examples: int) -> float:
    """The most of a part that may be among so many other examples without any having leaked.

    No more than the fraction of training examples that have a twin in training, and this only where few different
    examples are possible: at most 10 n, of as many steps in each feature as its smallest difference makes. Of more,
    V, chance puts n / V among n others; or n Π q, if two different training examples agree in a feature with
    probability q and features have nothing to do with each other. They have: hence 100 times that.
    """
    assert train.x is not None
    _, earliest, sizes = np.unique(groups, return_index=True, return_counts=True)
    twins = float(sizes[sizes > 1].sum() / train.examples)
    different = train.x[earliest]
    possible, agree = 1.0, 1.0
    for column in range(different.shape[1]):
        values, counts = np.unique(different[:, column].astype(np.float64), return_counts=True)
        if len(values) > 1:
            possible *= 1 + (values[-1] - values[0]) / np.diff(values).min()
            agree *= float(counts @ (counts - 1)) / (len(different) * (len(different) - 1))
        share = examples * max(1 / possible, _TOGETHER * agree)
        if share < _LEAK / 100:  # more features make it even less
            return 0.0
    return twins if _LEAK * possible <= examples else min(twins, share)


def _within(part: Part, again: np.ndarray, earliest: np.ndarray) -> Iterator[Finding]:
    """Examples of one part that repeat an earlier one of it, with its y and with another."""
    differ = np.zeros(len(again), bool)
    y = part.y
    if y is not None and len(y) == part.examples:
        y = y.reshape(len(y), -1)
        differ = (y[again] != y[earliest]).any(axis=1)
    for check, which, words in (("contradiction", differ, "with another y"), ("duplicate", ~differ, "with the same y")):
        if which.any():
            repeats, originals = again[which], earliest[which]
            message = (
                f"repetitions {words}: {len(repeats):,} of {part.examples:,} examples; "
                f"x[{repeats[0]}] equals x[{originals[0]}]"
            )
            yield Finding("warning", check, part.name, message, len(repeats), tuple(repeats[:SHOWN].tolist()))
