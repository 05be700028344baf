"""Checks of the labels."""

import math
from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np

from jaxnn.data._part import SHOWN, Part
from jaxnn.data.report import Finding

__all__ = ["label_kinds", "labels"]

_FEW = 20  # distinct whole numbers, up to which floats may be meant as labels
_IMBALANCE = 10  # times as many examples in the largest class as in the smallest
_EXPECTED = 15  # examples of a class, of which chance leaves none in one of three million parts
_RARE = 5  # expected examples, below which chi-square does not hold
_NORMAL = 4.75  # standard deviations that chance exceeds once in a million
_SMALL_EFFECT = 0.1  # Cohen's w
_IN_ORDER = 20  # examples that chance does not put in order


def label_kinds(parts: Sequence[Part], classes: int | None) -> Iterator[Finding]:
    """Whether y has the form of labels where it holds some."""
    for part in parts:
        y = part.dataset.y
        if part.y is None or not part.examples:
            continue
        if part.kind == "labels" and y.shape[1:] == (1,):
            message = f"y has shape {y.shape}; labels must be of shape ({len(y)},) (use y[:, 0])"
            yield Finding("error", "labels", part.name, message, len(y), ())
        elif part.labels is None and classes is not None:
            whole = y.shape[1:] in ((), (1,)) and _few_whole_numbers(part.y)
            form = f" (use y{'[:, 0]' if y.ndim == 2 else ''}.astype(np.int32))" if whole else ""
            message = f"y is {y.dtype} of shape {y.shape}; expected integer labels of {classes} classes{form}"
            yield Finding("error", "labels", part.name, message, len(y), ())
    train = parts[0]
    y = train.dataset.y
    if train.y is None or not train.examples:
        return
    if y.dtype == bool:
        message = "y holds True and False; labels must be integers (use y.astype(np.int32))"
        yield Finding("warning", "labels", train.name, message, len(y), ())
    elif classes is None and train.kind == "numbers" and y.ndim == 1:  # numbers to predict are [n, targets]
        whole = _few_whole_numbers(train.y)
        if whole:
            message = (
                f"y is {y.dtype}, but holds whole numbers alone, {whole} of them: labels must be integers "
                "(use y.astype(np.int32)), and numbers to predict of shape [n, 1] (use y[:, None])"
            )
            yield Finding("warning", "labels", train.name, message, len(y), ())


def _few_whole_numbers(y: np.ndarray) -> int:
    """How many different values there are, if they are few and all of them whole and not negative; else 0."""
    distinct = np.unique(y)
    if len(distinct) > min(_FEW, len(y) // 2) or not np.isfinite(distinct).all():
        return 0
    return len(distinct) if (distinct >= 0).all() and (distinct == np.round(distinct)).all() else 0


def labels(parts: Sequence[Part], classes: int | None, names: Sequence[str]) -> Iterator[Finding]:
    """Labels out of range, classes that are missing, of unequal sizes, or otherwise in one part than in training."""
    usable = []
    for part in parts:
        if part.labels is None:
            continue
        yield from _out_of_range(part, classes)
        kept = part.labels >= 0
        if classes is not None:
            kept &= part.labels < classes
        if kept.any():
            usable.append((part, part.labels, kept, *np.unique(part.labels[kept], return_counts=True)))
    if not usable or usable[0][0] is not parts[0]:
        return
    (train, train_labels, _, known, sizes), *others = usable
    if len(known) == 1 and train.examples > 1:
        message = f"all {sizes[0]:,} labels are {_name(int(known[0]), names)}: there is nothing to tell apart"
        yield Finding("error", "classes", train.name, message, len(train_labels), ())
        return
    yield from _training_classes(train_labels, known, sizes, names)
    top = classes if classes is not None else 1 + max(int(seen[-1]) for *_, seen, _ in usable)
    yield from _missing(top, np.unique(np.concatenate([seen.astype(np.int64) for *_, seen, _ in usable])), names)
    for part, of_part, kept, seen, counts in others:
        unknown = np.flatnonzero(kept & ~np.isin(of_part, known))
        if len(unknown):
            new = np.setdiff1d(seen, known)
            message = f"without training examples: {_named(new[:SHOWN], len(new), names)}, such as y[{unknown[0]}]"
            shown = tuple(unknown[:SHOWN].tolist())
            yield Finding("error", "classes", part.name, message, len(unknown), shown)
        shared = np.isin(seen, known)
        aligned = np.zeros(len(known), np.int64)
        aligned[np.searchsorted(known, seen[shared])] = counts[shared]
        yield from _against_training(part.name, known, sizes, aligned, names)


def _out_of_range(part: Part, classes: int | None) -> Iterator[Finding]:
    assert part.labels is not None
    expected = "0 or more" if classes is None else f"0 to {classes - 1}"
    wrong = [part.labels < 0] + ([] if classes is None else [part.labels >= classes])
    for bad in wrong:
        if bad.any():
            which = np.flatnonzero(bad)
            others = f", and {len(which) - 1:,} more are out of range" if len(which) > 1 else ""
            message = f"the label y[{which[0]}] is {part.labels[which[0]]}{others}; expected {expected}"
            yield Finding("error", "labels", part.name, message, len(which), tuple(which[:SHOWN].tolist()))


def _training_classes(
    train_labels: np.ndarray, known: np.ndarray, sizes: np.ndarray, names: Sequence[str]
) -> Iterator[Finding]:
    largest, smallest = np.argmax(sizes), np.argmin(sizes)
    if sizes[largest] > _IMBALANCE * sizes[smallest]:
        many, few = _name(int(known[largest]), names), _name(int(known[smallest]), names)
        message = (
            f"class {many} has {sizes[largest]:,} examples and class {few} only {sizes[smallest]:,}: "
            f"{sizes[largest] / sizes[smallest]:.3g} times as many"
        )
        rare = known[sizes * _IMBALANCE < sizes[largest]]
        yield Finding("warning", "imbalance", "train", message, len(rare), tuple(rare[:SHOWN].tolist()))
    earlier, later = train_labels[:-1], train_labels[1:]
    if len(known) > 1 and len(train_labels) >= _IN_ORDER and ((earlier <= later).all() or (earlier >= later).all()):
        message = "the examples are in order of their labels: batches need them shuffled"
        yield Finding("note", "order", "train", message, len(train_labels), ())


def _missing(top: int, seen: np.ndarray, names: Sequence[str]) -> Iterator[Finding]:
    number = top - len(seen)
    if number:
        there = set(seen.tolist())
        first = np.array(list(islice((label for label in count() if label not in there), min(number, SHOWN))))
        message = f"without any examples: {_named(first, number, names)}, of {top:,} classes"
        yield Finding("warning", "classes", "train", message, number, tuple(first.tolist()))


def _name(label: int, names: Sequence[str]) -> str:
    """A class by its name, or by its number if it has none."""
    return repr(names[label]) if 0 <= label < len(names) else str(label)


def _named(classes: np.ndarray, number: int, names: Sequence[str]) -> str:
    first = [_name(label, names) for label in classes.tolist()]
    if number == 1:
        return f"class {first[0]}"
    return f"{number:,} classes ({', '.join(first)}{', …' if number > len(first) else ''})"


def _against_training(
    name: str, known: np.ndarray, sizes: np.ndarray, counts: np.ndarray, names: Sequence[str]
) -> Iterator[Finding]:
    """Classes that a part lacks, or has in other proportions than the training data."""
    expected = sizes / sizes.sum() * counts.sum()
    for rare in (False, True):
        lacking = known[(counts == 0) & ((expected < _EXPECTED) == rare)]
        if len(lacking):
            also = ", rare in train" if rare else ""
            message = f"without examples here: {_named(lacking[:SHOWN], len(lacking), names)}{also}"
            shown = tuple(lacking[:SHOWN].tolist())
            yield Finding("note" if rare else "warning", "classes", name, message, len(lacking), shown)
    known, sizes, counts = (values[counts > 0] for values in (known, sizes, counts))
    if len(known) < 2:
        return
    # Two samples of the same proportions? Chi-square over the classes, the rare ones taken together.
    shares, of_part = sizes / sizes.sum(), counts / counts.sum()
    pooled = (sizes + counts) / (sizes.sum() + counts.sum())
    rare = pooled * counts.sum() < _RARE
    table = np.array([[*row[~rare], row[rare].sum()] for row in (sizes, counts)], float)
    table = table[:, table.sum(axis=0) > 0]
    freedom = table.shape[1] - 1
    if freedom < 1:
        return
    fitted = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    chi_square = float(((table - fitted) ** 2 / fitted).sum())
    # Wilson & Hilferty (1931): the cube root of chi-square over its degrees of freedom is nearly normal.
    limit = freedom * (1 - 2 / (9 * freedom) + _NORMAL * math.sqrt(2 / (9 * freedom))) ** 3
    effect = math.sqrt(((of_part - shares) ** 2 / shares).sum())
    if chi_square > limit and effect > _SMALL_EFFECT:
        worst = int(np.argmax(np.abs(of_part - shares)))
        moved = round(float(np.abs(of_part - shares).sum()) / 2 * counts.sum())
        message = (
            f"the classes' proportions are not those of train, most of all class {_name(int(known[worst]), names)}: "
            f"{of_part[worst]:.1%} here, {shares[worst]:.1%} there (chi-square {chi_square:.0f}, by chance up to "
            f"{limit:.0f})"
        )
        yield Finding("warning", "proportions", name, message, moved, (int(known[worst]),))
