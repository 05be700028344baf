"""What a look at a data set found: a table for people, dataclasses for programs."""

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from jaxnn.data.dataset import DataError

__all__ = ["DataReport", "Finding", "PartReport", "short", "table"]

Severity: TypeAlias = Literal["error", "warning", "note"]

_WIDTH = 100
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    severity: Severity
    """"error": what is learned would surely be wrong; "warning": look at it; "note": good to know."""
    check: str
    """Name of the check."""
    part: str
    """"train", "validation" or "test", or two of them, such as "train and test"."""
    message: str
    """One sentence with the numbers."""
    count: int
    """How many examples it concerns; of non-finite values and of outliers how many values; and where the check is
    about features, targets or classes, how many of these."""
    examples: tuple[int, ...]
    """The first few of them by index: of two parts, indices into the second."""

    def __str__(self) -> str:
        return f"{self.part}: {self.message}"


@dataclass(frozen=True)
class PartReport:
    """The facts of one part. Numbers are None where there is nothing to compute them from."""

    name: str
    examples: int
    shape: tuple[int, ...]
    """Of one example."""
    dtype: str
    minimum: float | None
    """Of the finite values of x, like the three figures below."""
    maximum: float | None
    mean: float | None
    std: float | None
    y_shape: tuple[int, ...]
    """Of one example's target: () for a label."""
    y_dtype: str
    classes: tuple[tuple[int, int], ...]
    """Each label that occurs, with its number of examples; none if y holds no labels."""


@dataclass(frozen=True)
class DataReport:
    """The result of `validate`. `print(report)` shows it as a table."""

    parts: tuple[PartReport, ...]
    """Training, validation and test data."""
    findings: tuple[Finding, ...]
    """Errors first, then warnings, then notes."""
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, …, if they are known."""
    columns: tuple[str, ...] = ()
    """Names of the features, if they are known."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that make the result surely wrong."""
        return self._of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings to look at."""
        return self._of("warning")

    @property
    def notes(self) -> tuple[Finding, ...]:
        """Findings that are good to know."""
        return self._of("note")

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def raise_for_errors(self) -> None:
        """Raise a `DataError` with the first error, if there is one."""
        if self.ok:
            return
        first, *others = self.errors
        more = f" (and {_plural(len(others), 'more error')})" if others else ""
        raise DataError(f"{first}{more}")

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types, as JSON has them; a number that is not finite becomes a string."""
        return {"ok": self.ok} | _plain(asdict(self))

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "DataReport":
        """The report that `to_json` wrote.

        Raises:
            DataError: the text is not such a report.
        """
        try:
            content = json.loads(text)
            parts = tuple(_part(row) for row in content["parts"])
            findings = tuple(Finding(**row | {"examples": tuple(row["examples"])}) for row in content["findings"])
            names = [tuple(map(str, content[which])) for which in ("classes", "columns")]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the text is no data report: {error!r}") from None
        return cls(parts, findings, *names)

    def __str__(self) -> str:
        found = [_plural(len(self._of(severity)), severity) for severity in _SEVERITIES if self._of(severity)]
        blocks = [table(_HEADINGS, map(_row, self.parts), left=3), *_class_tables(self.parts, self.classes)]
        if self.findings:
            blocks.append("\n".join(map(_line, self.findings)))
        return "\n\n".join([f"data report: {', '.join(found) or 'no findings'}", *blocks])

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == severity)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Text in columns, of which the first `left` are flush left and the others flush right."""
    rows = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in cells)


def short(name: str) -> str:
    """A name that fits into a table."""
    return name if len(name) <= 24 else f"{name[:23]}…"


_HEADINGS = ("part", "x", "y", "examples", "minimum", "maximum", "mean", "std")
_FIGURES = ("minimum", "maximum", "mean", "std")


def _row(part: PartReport) -> tuple[str, ...]:
    kinds = [
        " ".join(["×".join(map(str, shape)), dtype]).strip()
        for shape, dtype in ((part.shape, part.dtype), (part.y_shape, part.y_dtype))
    ]
    figures = [getattr(part, name) for name in _FIGURES]
    return (
        part.name,
        *kinds,
        f"{part.examples:,}",
        *("-" if figure is None else f"{figure:.5g}" for figure in figures),
    )


def _class_tables(parts: Sequence[PartReport], names: Sequence[str]) -> list[str]:
    """The classes' examples, in as many tables below each other as the width asks for."""
    counts = [dict(part.classes) for part in parts]
    if not any(counts):
        return []
    labels = sorted({label for of_part in counts for label in of_part}.union(range(len(names))))
    if len(labels) > 40:
        rows = [
            (part.name, f"{len(of_part):,}", *(f"{figure(of_part.values(), default=0):,}" for figure in (min, max)))
            for part, of_part in zip(parts, counts, strict=True)
        ]
        return [table(("part", "classes", "fewest examples", "most examples"), rows)]
    headings = {label: short(names[label]) if 0 <= label < len(names) else str(label) for label in labels}
    cells = [*headings.values(), *(f"{number:,}" for of_part in counts for number in of_part.values())]
    fit = max(1, (_WIDTH - len("validation")) // (max(map(len, cells)) + 2))
    tables = []
    for start in range(0, len(labels), fit):
        some = labels[start : start + fit]
        rows = [
            (part.name, *(f"{of_part.get(label, 0):,}" for label in some))
            for part, of_part in zip(parts, counts, strict=True)
        ]
        tables.append(table(("class", *(headings[label] for label in some)), rows))
    return tables


def _line(finding: Finding) -> str:
    return textwrap.fill(
        f"{finding.severity:<9}{finding}",
        _WIDTH,
        subsequent_indent=" " * 9,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _part(row: dict[str, Any]) -> PartReport:
    figures = {name: None if row[name] is None else float(row[name]) for name in _FIGURES}
    shapes = {name: tuple(row[name]) for name in ("shape", "y_shape")}
    return PartReport(**row | figures | shapes | {"classes": tuple((label, count) for label, count in row["classes"])})
