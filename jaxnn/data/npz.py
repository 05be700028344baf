"""NumPy's `.npz` archives: arrays by name, never unpickled, and no length in them believed."""

import io
import itertools
import math
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.lib import format as npy

from jaxnn._checks import first_bad
from jaxnn.data._arrays import MOST_CLASSES, Stored, as_stored, check_alike, is_possible
from jaxnn.data._files import as_path, largest, opened
from jaxnn.data.dataset import DataError, Parts, Splits

__all__ = ["read_npz"]

_UNDIVIDED = ("x", "y")
_SPELLINGS = {
    "train": (("x_train", "y_train"), ("train_x", "train_y"), ("train_images", "train_labels")),
    "validation": (
        ("x_validation", "y_validation"),
        ("x_val", "y_val"),
        ("x_valid", "y_valid"),
        ("validation_x", "validation_y"),
        ("val_x", "val_y"),
        ("valid_x", "valid_y"),
        ("validation_images", "validation_labels"),
        ("val_images", "val_labels"),
    ),
    "test": (("x_test", "y_test"), ("test_x", "test_y"), ("test_images", "test_labels")),
}
_EXPECTED = (
    "expected x and y; or x_train and y_train, with x_validation and y_validation, x_test and y_test if wanted; "
    "and the names of the classes as classes if wanted"
)
_TEXT_LABELS = "; store labels as numbers from 0, and the names that they stand for, in order, as classes"
_LONGEST_HEADER = 10_000  # bytes that NumPy itself takes to be safe to parse
_MOST_AXES = 32
_LOCAL_HEADER = 30  # bytes before a member's name in the archive
_ENCRYPTED = 0x1
_FLAGS = 0x080F  # those that change nothing in how the bytes are read
_CHUNK = 2**20


def read_npz(path: str | Path) -> Parts:
    """Read examples from an `.npz`, as `numpy.savez` and `numpy.savez_compressed` write it.

    The names of the arrays say what they are, capitals or not:

    - `x` and `y`: all examples, undivided;
    - or `x_train` and `y_train` (also `train_x`, `train_images` with `train_labels`), and in the same spellings
      `x_test` and `x_validation`, `x_val` or `x_valid`, where there are such parts;
    - `classes`, if it is there: the names of the classes, text `[classes]`.

    Bytes (uint8) `[n, height, width]` become images `[n, height, width, 1]`; other numbers become float32. Integers
    in `y`, or one-hot rows, become labels, int32 `[n]`; floats become float32 `[n, targets]`.

    Nothing is unpickled, and nothing is unfolded before an array's shape agrees with the archive's directory.

    Raises:
        DataError: the file is missing, truncated, corrupt, encrypted or too large; it holds an array of another name,
            one part of a pair, or a part twice; an array holds objects, records, dates or complex numbers; values
            are not finite; or the parts differ in the form of their examples.

    >>> import numpy as np, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "shapes.npz")
    ...     np.savez(path, x=np.zeros((3, 4, 4), np.uint8), y=[1, 0, 1], classes=["round", "square"])
    ...     train, validation, test, classes, *_ = read_npz(path)
    >>> print(train.x.shape, train.y, validation, test, classes)
    (3, 4, 4, 1) [1 0 1] None None ('round', 'square')
    """
    path = as_path(path)
    with opened(path) as file:
        members = _members(path, file)
        parts = _parts(path, [name for name in members if name != "classes"])
        # One part at a time: beside what is kept, memory holds one as it lies in the file.
        read = {
            part: as_stored(
                path,
                _array(path, file, members[x], "biuf"),
                _array(path, file, members[y], "biuf", hint=_TEXT_LABELS),
                names=(_name(members[x]), _name(members[y])),
                stored=path.stat().st_size,
            )
            for part, (x, y) in parts.items()
        }
        names = _array(path, file, members["classes"], "U") if "classes" in members else None
    check_alike(path, list(read.values()))
    classes = read["train"].classes if names is None else _classes(path, names, list(read.values()))
    train, validation, test = (read[part].dataset if part in read else None for part in Splits._fields)
    assert train is not None
    return Parts(train, validation, test, classes)


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _members(path: Path, file: BufferedIOBase) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by their names in small letters, refused together if they claim too much."""
    try:
        members = zipfile.ZipFile(cast(IO[bytes], file)).infolist()
    except Exception as error:  # zipfile raises errors of many kinds on a corrupt directory
        said = str(error) or type(error).__name__
        raise DataError(f"{path}: is no .npz archive, or it is truncated or corrupt: zipfile says {said}") from None
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        if not member.filename.endswith(".npy"):
            raise DataError(f"{path}: holds {member.filename!r:.80}, which is no array (.npy); {_EXPECTED}")
        name = _name(member).lower()
        if name in found:
            raise DataError(f"{path}: holds {_name(member)!r:.80} twice")
        found[name] = member
    claimed, limit = sum(member.file_size for member in members), largest(path.stat().st_size)
    if claimed > limit:
        raise DataError(f"{path}: claims to unfold to {claimed} bytes; so small a file may unfold to {limit}")
    return found


def _parts(path: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Which pair of names is which part."""
    held = ", ".join(f"{name!r:.80}" for name in names[:20]) + (", …" if len(names) > 20 else "")

    def refused(what: str) -> DataError:
        return DataError(f"{path}: {what}; it holds {held or 'no arrays'}; {_EXPECTED}")

    table = {"train": (_UNDIVIDED, *_SPELLINGS["train"])} | {part: _SPELLINGS[part] for part in ("validation", "test")}
    pairs = [(part, pair) for part, pairs in table.items() for pair in pairs]
    known = {name for _, pair in pairs for name in pair}
    for name in names:
        if name not in known:
            raise refused(f"{name!r:.80} is not understood")
    parts: dict[str, tuple[str, str]] = {}
    for part, (x, y) in pairs:
        if x not in names and y not in names:
            continue
        if x not in names or y not in names:
            there, missing = (x, y) if x in names else (y, x)
            raise refused(f"{there!r} is without {missing!r}")
        if part in parts:
            raise refused(f"{parts[part][0]!r} and {x!r} are the same part")
        parts[part] = (x, y)
    if "train" not in parts:
        raise refused("has no examples for training")
    if parts["train"] == _UNDIVIDED and len(parts) > 1:
        raise refused("'x' and 'y' are all examples, but there are other parts")
    return parts


def _array(path: Path, file: BufferedIOBase, member: zipfile.ZipInfo, kinds: str, *, hint: str = "") -> np.ndarray:
    """An array of numbers or text (`kinds`, NumPy's letters), in the machine's order of bytes; a hint if it is text."""
    place = f"{path}: {member.filename}"
    pieces = _pieces(place, file, member)
    start = b""
    while len(start) < _LONGEST_HEADER and (piece := next(pieces, None)) is not None:
        start += piece
    shape, fortran_order, dtype, header = _header(place, start)
    if dtype.kind not in kinds or not 0 < dtype.itemsize <= (8 if kinds != "U" else math.inf):
        held = "structured records" if dtype.names else f"values of dtype {dtype.name}"
        wanted = "text of NumPy's dtype U" if kinds == "U" else "booleans, integers, or floats of at most 64 bits"
        raise DataError(f"{place}: holds {held}; expected {wanted}{hint if dtype.kind in 'OSU' else ''}")
    length = math.prod(shape) * dtype.itemsize
    if header + length != member.file_size:
        raise DataError(
            f"{place}: announces shape {shape} of {dtype.name}, {header + length} bytes with its header; "
            f"the archive's directory says {member.file_size}"
        )
    content = np.empty(length, np.uint8)
    filled = 0
    for piece in itertools.chain([start[header:]], pieces):
        content[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    if dtype.kind == "b" and content.max(initial=0) > 1:
        (byte,) = first_bad(content > 1)
        raise DataError(f"{place}: byte {header + byte} is {content[byte]}; a boolean is 0 or 1")
    array = content.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(place: str, start: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether column by column, dtype and the header's length, from an array's first bytes."""
    file = io.BytesIO(start)
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]} is not 1.0 or 2.0")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2, which are understood
            shape, fortran_order, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except Exception as error:  # NumPy and Python's parser raise errors of many kinds on a corrupt header
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{place}: has no header of an array: NumPy says {said}") from None
    if (
        len(shape) > _MOST_AXES
        or any(isinstance(size, bool) or size < 0 for size in shape)
        or not is_possible(shape, dtype)
    ):
        raise DataError(f"{place}: announces the shape {str(shape)[:200]}, which no array has")
    return shape, fortran_order, dtype, file.tell()


def _pieces(place: str, file: BufferedIOBase, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's content: never more bytes than the directory says, and in the end compared with its checksum.

    `zipfile` would pass over what follows the length in the directory.
    """
    if member.flag_bits & _ENCRYPTED:
        raise DataError(f"{place}: is encrypted; expected an archive without a password")
    if member.flag_bits & ~_FLAGS:
        raise DataError(f"{place}: has the zip flags {member.flag_bits:#06x}; expected none beside {_FLAGS:#06x}")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{place}: is compressed by zip's method {member.compress_type}; expected 0 or 8 (deflate)")
    end = file.seek(0, io.SEEK_END)
    if not 0 <= member.header_offset <= end - _LOCAL_HEADER:
        raise DataError(f"{place}: is corrupt: the archive's directory puts it at byte {member.header_offset}")
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    name_length, extra_length = struct.unpack("<2H", header[-4:])
    if header[:4] != b"PK\3\4" or file.read(name_length) != member.filename.encode():
        raise DataError(f"{place}: is corrupt: it does not begin at byte {member.header_offset}")
    left = member.compress_size
    if file.seek(extra_length, io.SEEK_CUR) + left > end:
        raise DataError(f"{place}: is truncated: its {left} bytes would go on beyond the end of the file")
    inflate = zlib.decompressobj(wbits=-15) if member.compress_type == zipfile.ZIP_DEFLATED else None
    length, checksum, stored = 0, 0, b""
    while not (inflate and inflate.eof):
        if not stored:
            stored = file.read(min(left, _CHUNK))
            left = left - len(stored) if stored else 0  # the file may have become shorter
        if inflate:
            try:
                piece = inflate.decompress(stored, _CHUNK)
            except zlib.error as error:
                raise DataError(f"{place}: is corrupt: zlib says {error}") from None
            stored = inflate.unconsumed_tail
        else:
            piece, stored = stored, b""
        if not (piece or stored or left):
            break
        length += len(piece)
        if length > member.file_size:
            raise DataError(f"{place}: is corrupt: the directory says {member.file_size} bytes; there are more")
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if inflate and (not inflate.eof or inflate.unused_data or left):
        raise DataError(f"{place}: is corrupt: its compressed bytes do not end where the directory says")
    if length != member.file_size:
        raise DataError(f"{place}: is corrupt: the directory says {member.file_size} bytes; it has {length}")
    if checksum != member.CRC:
        raise DataError(f"{place}: is corrupt: its checksum is {checksum:08x}; the directory says {member.CRC:08x}")


def _classes(path: Path, names: np.ndarray, parts: Sequence[Stored]) -> tuple[str, ...]:
    """The names of the classes, compared with the labels."""
    if names.ndim != 1 or not 0 < len(names) <= MOST_CLASSES:
        raise DataError(f"{path}: classes has shape {names.shape}; expected 1 to {MOST_CLASSES} names [classes]")
    if (names.view(np.uint32) > sys.maxunicode).any():
        raise DataError(f"{path}: classes holds numbers that stand for no character")
    classes = tuple(names.tolist())
    earlier: set[str] = set()
    for i, name in enumerate(classes):
        if not name.strip() or not name.isprintable():
            raise DataError(f"{path}: classes[{i}] is {name!r}; expected a name that can be printed")
        if name in earlier:
            raise DataError(f"{path}: classes[{i}] is {name!r}, as an earlier one; the names must differ")
        earlier.add(name)
    for (_, y), (_, y_name), one_hot in parts:
        if y.ndim != 1:
            raise DataError(f"{path}: has classes, but {y_name} holds numbers to predict, not labels")
        if one_hot not in (0, len(classes)):
            raise DataError(f"{path}: {y_name} has one-hot rows of {one_hot}, and classes has {len(classes)} names")
        bad = np.asarray(y) >= len(classes)
        if bad.any():
            (i,) = first_bad(bad)
            raise DataError(f"{path}: {y_name}[{i}] is {y[i]}, and classes has {len(classes)} names")
    return classes
