"""Tables of numbers in text files: CSV and TSV."""

import codecs
import csv
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxnn._checks import check_choice, in_words
from jaxnn.data._files import TEXT, as_path, unfolded
from jaxnn.data.dataset import DataError, Dataset, Parts

__all__ = ["check_label", "read_csv", "read_csv_features"]

_BLANK = " \t"
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_WHOLE_DECIMAL = re.compile(r"[+-]?[0-9]+\.0*")  # as pandas writes integers beside cells that were empty
_FOREIGN = re.compile(r"[^0-9+\-.eE \t]")  # of what has none, float takes exactly the plain numbers
_TOO_LARGE = 2.0**128 - 2.0**103  # what rounds to infinity in float32
_LONGEST_LINE = 2**23
_MISSING = ("nan", "NaN", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "?")  # None may well be a class
_LONGEST_LABEL = 200
_BLOCK = 2**16  # cells that are converted at a time
_LABEL_NAMES = ("label", "target", "class", "y")
_MOST_BLANK_LINES = 1000
_MOST_CLASSES = 1000
_MOST_NUMBERED = 20  # classes whose names are whole numbers: more are ages, years, counts
_AS_CLASSES = "task='classification' (--task classification)"
_MOST_CODES = 2**16  # classes that may be asked for


def read_csv(
    path: str | Path, *, label: str | None = None, task: Literal["classification", "regression"] | None = None
) -> Parts:
    r"""Read a table: x float32 `[n, features]`, and labels int32 `[n]` or numbers to predict float32 `[n, 1]`.

    A `.csv` file has commas between its cells, a `.tsv` file tabs; it may be gzipped (`.csv.gz`) and is UTF-8. Its
    first line names the columns. The column called `label`, or the one called label, target, class or y, is what to
    predict; every other one is a feature, whose cells must all be plain decimal numbers. They are rounded to the 24
    bits of float32: of whole numbers beyond 16,777,216 not each has its own.

    Texts to predict are classes, sorted by name; one that stands for a missing value (NaN, NA, null, ?) is
    refused. Whole numbers are classes, sorted by value, if there are at most 20 different ones and 5 examples of each
    on average, else they are numbers to predict, as decimals are. `task` says which it shall be: "classification"
    makes classes of more whole numbers, of 0.0, 1.0 and the like (called 0, 1), and of texts together with numbers or
    with missing values, which else are refused.

    Raises:
        DataError: the file is missing, damaged, no such table, or has a cell that does not fit, with its line.
        ValueError, TypeError: an unknown `task`, or a `label` that is no text.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "flowers.csv")
    ...     _ = path.write_text("length,width,class\n5.1,3.5,setosa\n6.2,2.9,other\n4.9,3,setosa\n6,3.1,other\n")
    ...     parts = read_csv(path)
    >>> print(parts.train.x[0], parts.train.y, parts.classes, parts.columns)
    [5.1 3.5] [1 0 1 0] ('other', 'setosa') ('length', 'width')
    """
    if task is not None:
        check_choice("task", task, ("classification", "regression"))
    check_label(label)
    path = as_path(path)
    rows = _rows(path)
    names = _header(path, rows)
    target = _label_column(path, names, label)
    columns = tuple(name for name in names if name != target)
    if not columns:
        raise DataError(f"{path}: has no column besides {_short(target)}; expected features in others")
    features, labels = _Features(path, names, columns), _Labels(path, target)
    place = names.index(target)
    for line, cells in rows:
        features.add(line, cells)
        labels.add(line, cells[place])
    x = features.values()
    if labels.are_classes(task):
        y, classes = labels.classes()
        return Parts(Dataset(x, y), classes=classes, columns=columns)
    return Parts(Dataset(x, labels.numbers()), targets=(target,), columns=columns)


def check_label(label: Any) -> None:
    """Refuse what names no column."""
    if not isinstance(label, str | None):
        raise TypeError(f"label must be the name of a column; got {in_words(label)}")


def read_csv_features(path: str | Path, columns: tuple[str, ...]) -> Float[np.ndarray, "n features"]:
    r"""Read the named columns of a table, in that order, to predict from; other columns are ignored.

    Raises:
        DataError: as `read_csv`; or the table lacks a column.
        ValueError: no `columns`.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "flowers.csv")
    ...     _ = path.write_text("width,name,length\n3.5,first,5.1\n")
    ...     print(read_csv_features(path, ("length", "width")))
    [[5.1 3.5]]
    """
    if not columns:
        raise ValueError("columns is empty; expected the names of the features")
    path = as_path(path)
    rows = _rows(path)
    names = _header(path, rows)
    missing = set(columns) - set(names)
    if missing:
        first = next(name for name in columns if name in missing)
        raise DataError(f"{path}: has no column {_short(first)}; it has {_listed(names)}")
    features = _Features(path, names, columns)
    for line, cells in rows:
        features.add(line, cells)
    return features.values()


class _Features:
    """Cells that must be numbers, converted by blocks so that their texts need not be kept."""

    def __init__(self, path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
        self._path, self._columns = path, columns
        place_of = {name: place for place, name in enumerate(names)}
        self._places = [place_of[column] for column in columns]
        self._stored = bytearray()
        self._block: list[float] = []
        self._lines: list[int] = []

    def add(self, line: int, cells: Sequence[str]) -> None:
        taken = [cells[place] for place in self._places]
        if _FOREIGN.search("".join(taken)):
            raise self._no_number(line, taken)
        try:
            self._block += map(float, taken)
        except ValueError:
            raise self._no_number(line, taken) from None
        self._lines.append(line)
        if len(self._block) >= _BLOCK:
            self._convert()

    def values(self) -> np.ndarray:
        self._convert()
        if not self._stored:
            raise DataError(f"{self._path}: has a header line and no rows")
        return np.frombuffer(self._stored, np.float32).reshape(-1, len(self._columns))

    def _convert(self) -> None:
        block = np.array(self._block).reshape(-1, len(self._columns))
        large = np.argwhere(np.abs(block) >= _TOO_LARGE)
        if len(large):
            row, column = large[0]
            raise _too_large(self._path, self._lines[row], self._columns[column])
        self._stored += block.astype(np.float32).tobytes()
        self._block, self._lines = [], []

    def _no_number(self, line: int, taken: Sequence[str]) -> DataError:
        wrong = (
            pair for pair in zip(self._columns, taken, strict=True) if not _NUMBER.fullmatch(pair[1].strip(_BLANK))
        )
        return _no_number(self._path, line, *next(wrong))


class _Labels:
    """The cells of the column to predict: as codes of their texts, and as numbers where they are."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._texts: dict[str, int] = {}
        self._codes = array("H")
        self._values = array("d")
        self._first: dict[str, tuple[int, str]] = {}  # the first text, decimal, … with its line

    def add(self, line: int, cell: str) -> None:
        text = cell.strip(_BLANK)
        if not text:
            raise _no_number(self._path, line, self._name, cell, "a label")
        if len(text) > _LONGEST_LABEL:
            what = f"{len(text):,} characters; expected a label of at most {_LONGEST_LABEL}"
            raise self._refusal((line, text), what)
        code = self._texts.get(text)
        if code is None:
            if not text.isprintable():
                raise self._refusal((line, text), "with characters that cannot be printed; expected a plain name")
            kind = _kind(text)
            self._first.setdefault(kind, (line, text))
            if kind != "text":
                self._first.setdefault("number", (line, text))
            if text in _MISSING:
                self._first.setdefault("missing", (line, text))
            if kind != "text" and abs(float(text)) >= _TOO_LARGE:
                self._first.setdefault("large", (line, text))
            if len(self._texts) < _MOST_CODES:
                code = self._texts[text] = len(self._texts)
        if code is None:
            self._first.setdefault("uncoded", (line, text))
            code = 0
        self._codes.append(code)
        self._values.append(float(text) if _NUMBER.fullmatch(text) else np.nan)

    def are_classes(self, task: str | None) -> bool:
        """Whether the column holds classes, as its cells or `task` say; refused where it can be neither."""
        if task == "regression":
            return False
        text, number, decimal = (self._first.get(kind) for kind in ("text", "number", "decimal"))
        count, different = len(self._codes), len(self._texts)
        if text is None:
            if decimal is None:
                different = len(set(map(_integer, self._texts)))
            if task is None:
                decimals = decimal or self._first.get("whole decimal")
                return not decimals and different <= _MOST_NUMBERED and count >= 5 * different
            if decimal is not None:
                raise self._refusal(decimal, "a decimal number; expected texts or whole numbers as classes")
        elif task is None and number is not None:
            other = f"and line {number[0]} the number {_short(number[1])}"
            remedy = f"leave out the rows without a number, or say {_AS_CLASSES} if all are names of classes"
            raise self._refusal(text, f"no number, {other}; {remedy}")
        elif task is None and "missing" in self._first:
            remedy = f"leave out the row, or say {_AS_CLASSES} if it is the name of a class"
            raise self._refusal(self._first["missing"], f"which stands for a missing value; {remedy}")
        elif (task is None or decimal is not None) and (different > _MOST_CLASSES or count < 2 * different):
            hint = f" (if they are classes, say {_AS_CLASSES})" if task is None else ""
            many = f"{different:,} different texts in {count:,} rows are too many for classes{hint}"
            raise self._refusal(text, f"no number, but {many}")
        if "uncoded" in self._first:
            raise self._refusal(self._first["uncoded"], f"yet another class; expected at most {_MOST_CODES:,}")
        return True

    def classes(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The labels and the names of their classes."""
        if "text" in self._first:
            names = {text: text for text in sorted(self._texts)}
        else:
            names = {text: str(_integer(text)) for text in sorted(self._texts, key=_integer)}  # 01 and 1.0 are 1
        classes = tuple(dict.fromkeys(names.values()))
        if len(classes) < 2:
            raise DataError(f"{self._path}: column {_short(self._name)} holds one class alone, {_short(classes[0])}")
        ranks = {name: rank for rank, name in enumerate(classes)}
        label_of_code = np.array([ranks[names[text]] for text in self._texts], np.int32)
        return label_of_code[np.frombuffer(self._codes, np.uint16)], classes

    def numbers(self) -> np.ndarray:
        """The numbers to predict."""
        if "text" in self._first:
            raise self._refusal(self._first["text"], "no number; a regression needs a number in each row")
        if "large" in self._first:
            raise _too_large(self._path, self._first["large"][0], self._name)
        return np.frombuffer(self._values, np.float64).astype(np.float32)[:, None]

    def _refusal(self, cell: tuple[int, str], what: str) -> DataError:
        line, text = cell
        return DataError(f"{self._path}: line {line}, column {_short(self._name)} holds {_short(text)}, {what}")


def _kind(text: str) -> str:
    kinds = (("whole", _WHOLE), ("whole decimal", _WHOLE_DECIMAL), ("decimal", _NUMBER))
    return next((kind for kind, pattern in kinds if pattern.fullmatch(text)), "text")


def _integer(text: str) -> int:
    return int(text.partition(".")[0])


def _header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, cells = next(rows, (0, None))
    if cells is None:
        raise DataError(f"{path}: is empty; expected a line with the names of the columns, then the rows")
    names = [cell.strip(_BLANK) for cell in cells]
    for other, word in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if len(names) == 1 and other in cells[0]:
            kind = "tabs as .tsv, with commas as .csv"
            raise DataError(f"{path}: has {word} between its columns; save it with {kind}")
    if all(_NUMBER.fullmatch(name) for name in names):
        raise DataError(
            f"{path}: has no header line; expected names of the columns in line 1, which holds numbers alone"
        )
    seen: set[str] = set()
    for place, name in enumerate(names):
        if not name:
            hint = "" if place else "; if it is the index that pandas writes, write the table with index=False"
            raise DataError(f"{path}: column {place + 1} has no name in the header line{hint}")
        if not name.isprintable():
            raise DataError(f"{path}: column {place + 1} is called {_short(name)}; expected a name that can be printed")
        if name in seen:
            raise DataError(f"{path}: two columns are called {_short(name)}; expected different names")
        seen.add(name)
    return names


def _label_column(path: Path, names: list[str], label: str | None) -> str:
    if label is not None:
        if label not in names:
            raise DataError(f"{path}: has no column {_short(label)}; it has {_listed(names)}")
        return label
    found = [name for name in names if name.lower() in _LABEL_NAMES]
    if len(found) == 1:
        return found[0]
    why = f"both {_short(found[0])} and {_short(found[1])} may be" if found else f"none of {_listed(names)} is called"
    raise DataError(f"{path}: {why} the column to predict; name it with label=… (--label-column)")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows, each with the number of its first line, all of one width."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in (".csv", ".tsv"):
        raise DataError(f"{path}: is no table by its name; expected .csv, with commas, or .tsv, with tabs (or .gz)")
    length = 0  # of the row that is read: in quotes it may go on over many lines

    def lines() -> Iterator[str]:
        nonlocal length
        for text in _lines(path):
            length += len(text)
            if length > _LONGEST_LINE:
                raise DataError(
                    f"{path}: line {line}: a row has more than {_LONGEST_LINE:,} characters; is it a table?"
                )
            yield text

    reader = csv.reader(lines(), delimiter="," if suffix == ".csv" else "\t", strict=True, skipinitialspace=True)
    width = blank = 0
    while True:
        line, length = reader.line_num + 1, 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error).replace("\t", "tab")
            raise DataError(f"{path}: line {line} cannot be read ({reason})") from None
        if not cells or (len(cells) == 1 != width and not cells[0].strip(_BLANK)):
            blank = blank or line
            if line - blank >= _MOST_BLANK_LINES:
                raise DataError(f"{path}: line {blank} is blank, and so are the {_MOST_BLANK_LINES:,} lines after it")
            continue
        if blank:
            raise DataError(f"{path}: line {blank} is blank; expected blank lines at the end alone")
        width = width or len(cells)
        if len(cells) != width:
            raise DataError(f"{path}: line {line} has {len(cells)} cells; expected {width}, as the header line has")
        yield line, cells


def _lines(path: Path) -> Iterator[str]:
    for _ in unfolded(path, TEXT):
        pass  # a file that unfolds too far or is cut is refused before its rows are looked at
    number, rest = 0, b""
    for piece in unfolded(path, TEXT):
        # The last may go on in the next piece, be it with the \n of its \r\n.
        *whole, rest = (rest + piece).splitlines(keepends=True)
        for line in whole:
            number += 1
            yield _text(path, number, line)
        if len(rest) > _LONGEST_LINE:
            raise DataError(f"{path}: line {number + 1} has more than {_LONGEST_LINE:,} bytes; is it a table?")
    if rest:
        yield _text(path, number + 1, rest)


def _text(path: Path, number: int, line: bytes) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: line {number} is not UTF-8 (byte {line[error.start]:#04x}); save it as UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: line {number} holds a zero byte; expected text")
    return text


def _no_number(path: Path, line: int, column: str, cell: str, expected: str = "a plain decimal number") -> DataError:
    if not cell.strip(_BLANK):
        return DataError(
            f"{path}: line {line}, column {_short(column)} is empty; expected {expected}, or leave out the row"
        )
    return DataError(
        f"{path}: line {line}, column {_short(column)} holds {_short(cell)}; expected {expected} such as 1.5"
    )


def _too_large(path: Path, line: int, column: str) -> DataError:
    return DataError(f"{path}: line {line}, column {_short(column)} holds a number beyond float32's largest, 3.4e38")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _listed(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > 20 else ""
    return ", ".join(map(_short, names[:20])) + more
