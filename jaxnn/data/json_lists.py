"""MNIST as nested lists of numbers in JSON, read as a stream."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from jaxnn._checks import first_bad
from jaxnn.data._arrays import MOST_CLASSES
from jaxnn.data._files import TEXT, as_path, largest, unfolded
from jaxnn.data.dataset import DataError, Dataset, Splits

__all__ = ["read_json"]

_LONGEST_LIST = 2**24  # bytes of one image or of one part's labels
_AT_ONCE = 2**16  # bytes of rows that are decoded together
_WHITESPACE = re.compile(rb"[ \t\n\r]*")
_CLOSED_TWICE = re.compile(rb"\][ \t\n\r]*\]")
_MINUS_ZERO = re.compile(rb"-0(?![.eE])")  # an int forgets its sign
_BRACKETS_TO_BLANKS = bytes.maketrans(b"[]", b"  ")
_IN_NUMBERS = b"0123456789+-.eE \t\n\r"
_OF_NUMBERS = b"0123456789+-.eE, \t\n\r"
# Every number becomes a float at once: no integer is too long, only too large.
_FLOATS = json.JSONDecoder(parse_int=float)
_NUMBERS = json.JSONDecoder()


def read_json(path: str | Path) -> Splits:
    """Read training, validation and test data from the nested lists of a JSON file, gzipped or not.

        [[images, labels], [images, labels], [images, labels]]

    `images` is a list of rows, each the numbers of one image; `labels` a list of whole numbers, 0 to 9,999, one for
    each image. The order of the parts is training, validation, test. x comes out as float32 `[n, features]`, the
    numbers rounded to its 24 bits and not scaled; y as int32 `[n]`.

    The text is read as a stream: memory holds the arrays, and of the text a piece.

    Raises:
        DataError: the file is missing, truncated or corrupt, or of another form; rows are of different lengths; a
            number is beyond float32; or a part has no images, or not as many labels.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "tiny.json")
    ...     _ = path.write_text("[[[[0, 0.5], [1, 0]], [3, 8]], [[[0, 1]], [3]], [[[1, 1]], [8]]]")
    ...     train, validation, test = read_json(path)
    >>> print(train.x, train.y, validation.y, test.y)
    [[0.  0.5]
     [1.  0. ]] [3 8] [3] [8]
    """
    path = as_path(path)
    text = _Text(path, unfolded(path, TEXT))
    return _splits(text, largest(path.stat().st_size, TEXT))


class _Text:
    """The text from where reading has come to, with as much of what follows as was needed so far."""

    def __init__(self, path: Path, pieces: Iterator[bytes]) -> None:
        self._path = path
        self._pieces = pieces
        self._held = next(pieces, b"")
        self._at = 0
        self._before = 0  # bytes in front of those held
        self._singly = 0  # up to this byte rows are to be taken one by one

    @property
    def offset(self) -> int:
        return self._before + self._at

    def refuse(self, what: str, offset: int | None = None) -> NoReturn:
        raise DataError(f"{self._path}: byte {self.offset if offset is None else offset}: {what}")

    def _more(self) -> bool:
        piece = next(self._pieces, b"")
        self._held = self._held[self._at :] + piece
        self._before, self._at = self.offset, 0
        return bool(piece)

    def peek(self) -> bytes:
        """The next byte that is no whitespace, not yet taken; empty at the end."""
        while True:
            self._at = _WHITESPACE.match(self._held, self._at).end()  # type: ignore[union-attr]  # it matches always
            if self._at < len(self._held) or not self._more():
                return self._held[self._at : self._at + 1]

    def take(self, wanted: bytes, what: str) -> None:
        """Go on over the byte `wanted`, which opens, closes or separates `what`."""
        if (found := self.peek()) != wanted:
            self.refuse(f"expected {_shown(wanted)} {what}; found {_shown(found)}")
        self._at += 1

    def numbers(self, decoder: json.JSONDecoder, what: str) -> list[float | int]:
        """The numbers of a list without lists in it."""
        if (found := self.peek()) != b"[":
            self.refuse(f"expected {_shown(b'[')} that opens {what}; found {_shown(found)}")
        searched = 0
        while (end := self._held.find(b"]", self._at + searched)) < 0 and len(self._held) - self._at <= _LONGEST_LIST:
            searched = len(self._held) - self._at
            if not self._more():
                self.refuse(f"is truncated: the text ends within {what}", self.offset + searched)
        if end < 0 or end + 1 - self._at > _LONGEST_LIST:
            self.refuse(f"{what} has more than {_LONGEST_LIST} bytes")
        found = self._held[self._at : end + 1]
        if (foreign := found.translate(None, _OF_NUMBERS)) != b"[]":
            wrong = foreign[1:2]
            self.refuse(f"expected numbers in {what}; found {_shown(wrong)}", self.offset + found.index(wrong, 1))
        try:
            numbers = decoder.decode(found.decode("ascii"))
        except json.JSONDecodeError as error:
            self.refuse(f"{what} is no list of numbers as JSON writes them", self.offset + error.pos)
        except ValueError:  # Python converts no integer of thousands of digits
            self.refuse(f"{what} holds a number of too many digits")
        self._at = end + 1
        return numbers

    def rows(self, width: int, most: int) -> np.ndarray:
        """The next rows, some together; none unless all of them are right: `numbers` says of one what is wrong."""
        none = np.empty((0, width), np.float32)
        if self.offset < self._singly:
            return none
        end = self._held.rfind(b"]", self._at, self._at + _AT_ONCE) + 1
        if closed := _CLOSED_TWICE.search(self._held, self._at, end):
            end = closed.start() + 1
        self._singly = self._before + end
        found = self._held[self._at : end]
        count = found.count(b"[")
        # Each number of the right count of rows, and nothing before a row but the comma after another.
        form = b",".join([b"[" + b"," * (width - 1) + b"]"] * min(count, most))
        between = found.translate(None, b" \t\n\r").count(b"],[")
        if found[:1] != b"[" or found.translate(None, _IN_NUMBERS) != form or between != count - 1:
            return none
        decoder = _FLOATS if _MINUS_ZERO.search(found) else _NUMBERS
        try:
            numbers = decoder.decode(f"[{found.translate(_BRACKETS_TO_BLANKS).decode('ascii')}]")
            with np.errstate(over="ignore"):
                block = np.array(numbers, np.float64).astype(np.float32)
        except (ValueError, OverflowError):  # no JSON, or an integer of so many digits
            return none
        if len(block) != count * width or not np.isfinite(block).all():  # of one column a row may be empty
            return none
        self._at = end
        return block.reshape(count, width)


def _shown(found: bytes) -> str:
    return repr(found)[1:] if found else "the end of the text"


def _splits(text: _Text, limit: int) -> Splits:
    """The parts in the text, in arrays of at most `limit` bytes together."""
    datasets: list[Dataset] = []
    width = 0  # as long as it is unknown
    text.take(b"[", "that opens the three parts, [training, validation, test]")
    for part in ("training", "validation", "test"):
        if datasets:
            text.take(b",", f"and the {part} part")
        text.take(b"[", f"that opens the {part} part, [images, labels]")
        left = limit - sum(dataset.x.nbytes for dataset in datasets)
        images = _images(text, part, width, left)
        width = images.shape[1]
        text.take(b",", f"between the {part} images and their labels")
        labels = _labels(text, f"the {part} labels")
        if len(images) != len(labels):
            text.refuse(f"the {part} part has {len(images)} images and {len(labels)} labels; they must be as many")
        text.take(b"]", f"that closes the {part} part, [images, labels]")
        datasets.append(Dataset(images, labels))
    text.take(b"]", "that closes the three parts")
    if rest := text.peek():
        text.refuse(f"expected the end of the text; found {_shown(rest)}")
    return Splits(*datasets)


def _images(text: _Text, part: str, width: int, limit: int) -> np.ndarray:
    """The rows of a part's images, of the given width, or that of the first if it is 0."""
    text.take(b"[", f"that opens the {part} images")
    if text.peek() == b"]":
        text.refuse(f"the {part} part has no images")
    images = np.empty((0, width), np.float32)
    count = 0
    while True:
        text.peek()
        rows = text.rows(width, limit // (4 * width) - count) if width else images
        if not len(rows):
            offset = text.offset
            name = f"row {count} of the {part} images"
            rows = _row(text, name, width)
            width = rows.shape[1]
            if count == limit // (4 * width):
                text.refuse(f"{name} is one too many: so small a file may hold {limit} bytes of numbers", offset)
        if count + len(rows) > len(images):
            longer = np.empty((min(max(2 * count, count + len(rows)), limit // (4 * width)), width), np.float32)
            longer[:count] = images[:count].reshape(-1, width)
            images = longer
        images[count : count + len(rows)] = rows
        count += len(rows)
        if text.peek() == b"]":
            text.take(b"]", f"that closes the {part} images")
            images.resize((count, width), refcheck=False)  # in place: what was reserved in advance goes back
            return images
        text.take(b",", f"or ']' after row {count - 1} of the {part} images")


def _row(text: _Text, name: str, width: int) -> np.ndarray:
    """The next row alone, `[1, width]`."""
    offset = text.offset
    numbers = np.array(text.numbers(_FLOATS, name), np.float64)
    if len(numbers) != (width or len(numbers)) or not len(numbers):
        text.refuse(f"{name} has {len(numbers)} numbers; expected {width or 'some'}", offset)
    with np.errstate(over="ignore"):
        row = numbers.astype(np.float32)
    if not np.isfinite(row).all():
        (place,) = first_bad(~np.isfinite(row))
        text.refuse(f"number {place} in {name} is {numbers[place]}; float32 cannot hold it", offset)
    return row[None]


def _labels(text: _Text, name: str) -> np.ndarray:
    text.peek()
    offset = text.offset
    labels = text.numbers(_NUMBERS, name)
    for i, label in enumerate(labels):
        if isinstance(label, float):
            text.refuse(f"number {i} in {name} is {label}; a label is a whole number, without a point", offset)
        if not 0 <= label < MOST_CLASSES:
            text.refuse(f"number {i} in {name} is {label!s:.20}; labels are 0 to {MOST_CLASSES - 1}", offset)
    return np.array(labels, np.int32)
