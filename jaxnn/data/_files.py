"""Opening files: what the system or gzip says against one becomes a DataError, and none unfolds without bound."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from jaxnn._checks import in_words
from jaxnn.data.dataset import DataError

__all__ = ["GZIP_MAGIC", "TEXT", "as_path", "largest", "opened", "printable", "reading", "unfolded"]

GZIP_MAGIC = b"\x1f\x8b"
TEXT = 2**26
"""Bytes that a compressed text may unfold to, however small: numbers in text take far longer to read than in bytes."""
_CHUNK = 2**20


def largest(stored: int, least: int = 2**28) -> int:
    """How many bytes a compressed file of `stored` bytes may unfold to: 50 times its size, and at least 256 MiB."""
    return max(least, 50 * stored)


def printable(text: str | Path) -> str:
    """The text in one line, with escapes for what would break it or reach the terminal as a command."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


def as_path(path: Any, name: str = "path") -> Path:
    """What was given as one.

    Raises:
        TypeError: it is none.
        DataError: no file can be called that.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path, as a text or a Path; got {in_words(path)}")
    if "\0" in str(path):
        raise DataError(f"{name} {str(path)!r} has a NUL in it, which no path has")
    return Path(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the system says against this path, or one within it, is a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{printable(error.filename or path)}: cannot be read ({error.strerror or error})") from None


@contextmanager
def opened(path: Path) -> Iterator[BufferedIOBase]:
    """A file to read. A device or a pipe, which may have no end or never begin, is none."""
    with reading(path):
        if not path.is_file() and path.exists():
            raise DataError(f"{path}: is no file{', but a folder' if path.is_dir() else ''}")
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        with file:
            yield file


def unfolded(path: Path, least: int = 2**28) -> Iterator[bytes]:
    """The content of a file in pieces, unzipped if it is gzipped.

    Raises:
        DataError: the file is missing, a corrupt or truncated gzip stream, or would unfold beyond `largest(…, least)`.
    """
    with opened(path) as stored:
        gzipped = stored.read(2) == GZIP_MAGIC
        stored.seek(0)
        file: BufferedIOBase = gzip.GzipFile(fileobj=stored) if gzipped else stored
        limit = largest(path.stat().st_size, least)
        length = 0
        try:
            while chunk := file.read(_CHUNK):
                length += len(chunk)
                if gzipped and length > limit:
                    raise DataError(f"{path}: unfolds to more than {limit} bytes")
                yield chunk
        except EOFError:
            raise DataError(f"{path}: is truncated: the gzip stream has no end") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: is corrupt: gzip says {error}") from None
