"""What a machine can check of a data set before a network learns from it."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import jax
import numpy as np

from jaxnn._checks import check_size
from jaxnn.data._duplicates import first_equals
from jaxnn.data._label_checks import label_kinds, labels
from jaxnn.data._part import SHOWN, Part, read_part
from jaxnn.data._value_checks import values
from jaxnn.data.dataset import Dataset, Splits
from jaxnn.data.report import DataReport, Finding, Severity

__all__ = ["check_splits", "validate"]

_LEAK = 0.1  # fraction of a part, known from another, above which its figures mean nothing


def validate(splits: Splits, *, classes: int | None = None) -> DataReport:
    """Check shapes, types, values, labels and repetitions of training, validation and test data.

    `classes` is the number of classes, if they are known: then y must hold labels from 0 to classes - 1. Labels are
    integers `[n]`, or one-hot rows; other y are numbers to predict. Nothing is changed, and whatever the arrays
    hold, the result is a report. Its findings are

        error      no numbers, shapes or dtypes that do not fit together, no training examples, NaN or infinity,
                   x constant, labels that are negative, too large, `[n, 1]`, of one class alone, or of a class
                   without training examples, more than 10 % of a part known from another one
        warning    no validation or test examples, constant features of a table, blank pictures, values far outside
                   the training range, outliers, integers as floats, classes without examples, of very different
                   sizes or in other proportions than in training, equal examples, also with different labels
        note       constant pixels, a rare class missing from a small part, training labels in order

    A value is far outside a range if its distance is more than half of the range; this is found where more than
    10 % of a feature's values do so, or 1 % of the pixels. An outlier lies more than 50 robust standard deviations
    from the training median, of a feature, of a number to predict, or of the pictures' means and standard
    deviations, and twice as far as any value nearer to it. The former is the z of Iglewicz & Hoaglin (1993),
    0.6745 |x - median| / MAD, with 50 in place of their 3.5, and with the distance from the 5th to the 95th
    percentile over 3.29 in place of MAD / 0.6745 where it is larger. So the largest of 100,000 normal (z near 4.5),
    exponential (13) or log-normal (49) values are none, and a slip of the decimal point or a -9999 for "missing" is.
    If both are 0, 1.2533 times the mean distance of those values that differ from the median takes their place: a
    rare 1 among zeros is no outlier. With fewer than 21 training examples nothing is called one.

    Equal examples are equal bit by bit, but -0.0 is 0.0. A part whose x is not all finite is not looked at for
    constants, ranges and outliers. No value is left out, whatever the size: the work is done in blocks, and for
    outliers by the column.

    Raises:
        TypeError: not Splits of Datasets of arrays.

    >>> import numpy as np
    >>> from jaxnn.data import Dataset, split
    >>> from jaxnn.data.checks import validate
    >>> x, y = np.arange(80.0).reshape(40, 2), np.arange(40, dtype=np.int32) % 2
    >>> x[x == 21] = np.nan
    >>> print(validate(split(Dataset(x, y))))
    data report: 1 error
    <BLANKLINE>
    part        x          y      examples  minimum  maximum    mean     std
    train       2 float64  int32        28        0       79  42.357  21.855
    validation  2 float64  int32         4        2       75  35.286  27.937
    test        2 float64  int32         8        4       69    32.5  23.372
    <BLANKLINE>
    class        0   1
    train       14  14
    validation   2   2
    test         4   4
    <BLANKLINE>
    error    validation: x[3, 1] is nan
    """
    check_splits(splits)
    if classes is not None:
        check_size("classes", classes)
    with np.errstate(all="ignore"):  # of what overflows in a mean
        parts = [read_part(name, part) for name, part in zip(Splits._fields, splits, strict=True)]
        found = [
            *_agreement(parts),
            *label_kinds(parts, classes),
            *values(parts),
            *labels(parts, classes),
            *_repetitions(parts),
        ]
        facts = tuple(part.facts() for part in parts)
    severities: tuple[Severity, ...] = ("error", "warning", "note")
    return DataReport(facts, tuple(sorted(found, key=lambda finding: severities.index(finding.severity))))


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
    repeated = {}
    for part in parts:
        _, earliest, group = np.unique(groups[part.name], return_index=True, return_inverse=True)
        again = np.flatnonzero(earliest[group] != np.arange(part.examples))
        repeated[part.name] = len(again) / part.examples
        yield from _within(part, again, earliest[group[again]])
    for one, other in combinations(parts, 2):
        known = np.flatnonzero(np.isin(groups[other.name], groups[one.name]))
        if len(known):
            share = len(known) / other.examples
            leaked = len(known) > max(_LEAK * other.examples, _by_chance(train, one, other, repeated))
            twin = int(np.argmax(groups[one.name] == groups[other.name][known[0]]))
            message = (
                f"known from {one.name}: {len(known):,} of {other.examples:,} {other.name} examples ({share:.2%}); "
                f"{other.name} x[{known[0]}] equals {one.name} x[{twin}]"
            )
            shown = tuple(known[:SHOWN].tolist())
            both = f"{one.name} and {other.name}"
            yield Finding("error" if leaked else "warning", "leakage", both, message, len(known), shown)


def _by_chance(train: Part, one: Part, other: Part, repeated: dict[str, float]) -> float:
    """How many examples of a part may be in another without any having leaked: where they can take few values.

    Of n examples that can take V values about n² / 2V repeat another if n is small beside V, and n - V if it is large,
    which the training data tells V by; of m others up to m n / V are among the n. Chance alone also makes m² / 2V of
    the others repeat: where they do not, the training data was repeated on purpose.
    """
    share = repeated[train.name]
    per_value = max(2 * share, share / (1 - share)) / train.examples  # 1 / V
    repeating = min(per_value * other.examples**2 / 2, other.examples / 2)
    if repeated[other.name] * other.examples < repeating - 4 * np.sqrt(repeating):
        return 0.0
    known = per_value * other.examples * one.examples
    return float(known + 4 * np.sqrt(known))


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
