"""Readers of files. No length in a header is believed before it is compared with the bytes that are there."""

import gzip
import hashlib
import math
import re
import struct
import tarfile
import zlib
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from jaxnn.data._arrays import is_possible
from jaxnn.data._files import GZIP_MAGIC, as_path, opened, unfolded
from jaxnn.data.dataset import DataError

__all__ = ["idx_sha256", "read_idx", "read_tar"]

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_IDX_AXES = 8
_LONGEST_IDX_HEADER = 4 + 4 * _MOST_IDX_AXES
_BLOCK = tarfile.BLOCKSIZE
_BESIDES = 2**24  # bytes that an archive may hold besides the members that are wanted
_CHUNK = 2**20
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,8}) ([^=\n]+)=")
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array from an IDX file, the format of MNIST, gzipped or not.

        bytes 0-1: zero · byte 2: type · byte 3: number of axes · 4 bytes each: sizes · then the values, big-endian

    Raises:
        DataError: the file is missing, truncated, corrupt, or longer than its header says.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
    ...     print(read_idx(path))
    [7 3]
    """
    path = as_path(path)
    pieces = unfolded(path)
    content = bytearray()
    while len(content) < _LONGEST_IDX_HEADER and (piece := next(pieces, None)) is not None:
        content += piece
    shape, dtype, header = _idx_header(path, bytes(content[:_LONGEST_IDX_HEADER]))
    expected = header + math.prod(shape) * dtype.itemsize
    while len(content) <= expected and (piece := next(pieces, None)) is not None:
        content += piece
    if len(content) != expected:
        what = "corrupt" if len(content) > expected else "truncated"
        found = "there are more" if len(content) > expected else f"it ends after {len(content)}"
        raise DataError(f"{path}: is {what}: its header announces shape {shape}, {expected} bytes; {found}")
    return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _idx_header(path: Path, start: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and the header's length, from the first bytes of a file."""
    if len(start) < 4:
        raise DataError(f"{path}: is no IDX file: {len(start)} bytes, and the header alone has 4")
    if start[:2] != b"\0\0" or start[2] not in _IDX_DTYPES or start[3] == 0:
        raise DataError(f"{path}: is no IDX file: it starts with {start[:4].hex(' ')}, not 00 00, a type and a rank")
    rank = start[3]
    if rank > _MOST_IDX_AXES:
        raise DataError(f"{path}: is no IDX file: it claims {rank} axes")
    header = 4 + 4 * rank
    if len(start) < header:
        raise DataError(f"{path}: is truncated: {len(start)} bytes, and the header alone has {header}")
    shape = struct.unpack(f">{rank}I", start[4:header])
    dtype = np.dtype(_IDX_DTYPES[start[2]])
    if not is_possible(shape, dtype):
        raise DataError(f"{path}: announces shape {shape}, which no array has")
    return shape, dtype, header


def idx_sha256(array: np.ndarray) -> str:
    """The SHA-256 of the IDX file, not gzipped, that holds an array of bytes.

    >>> import numpy as np
    >>> print(idx_sha256(np.array([7, 3], np.uint8))[:16])
    6174a6c654c87759
    """
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    digest = hashlib.sha256(header)
    digest.update(np.ascontiguousarray(array, np.uint8).data)
    return digest.hexdigest()


def read_tar(path: str | Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Read regular files of known names and `sizes` from a tar archive, gzipped or not, into memory.

        blocks of 512 bytes: a header (name, size, type, checksum), then the content; a block of zeros at the end

    Nothing is written to disk and no path in the archive is believed: other members are passed over. A size in a
    header is compared with what is expected, or with what an archive of these files may hold, before anything of
    that size is read or unfolded. An extended header (PAX, GNU) may give the member after it another name.

    Raises:
        DataError: the archive is missing, truncated, corrupt or too large; an extended header sets a size, or a file
            is stored sparsely; or a file is not in it, is there twice, is a link or has another size.

    >>> import io, pathlib, tarfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "letters.tar.gz")
    ...     with tarfile.open(path, "w:gz") as archive:
    ...         member = tarfile.TarInfo("letters/a")
    ...         member.size = 3
    ...         archive.addfile(member, io.BytesIO(b"AAA"))
    ...     print(read_tar(path, {"letters/a": 3}))
    {'letters/a': b'AAA'}
    """
    path = Path(path)
    with opened(path) as stored:
        gzipped = stored.read(2) == GZIP_MAGIC
        stored.seek(0)
        try:
            return _tar_members(path, gzip.GzipFile(fileobj=stored) if gzipped else stored, sizes)
        except EOFError:
            raise DataError(f"{path}: is truncated: the gzip stream has no end") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: is corrupt: gzip says {error}") from None


def _tar_members(path: Path, file: BufferedIOBase, sizes: Mapping[str, int]) -> dict[str, bytes]:
    limit = sum(sizes.values()) + _BESIDES
    found: dict[str, bytes] = {}
    offset = 0
    extended, new_name = False, None  # whether an extended header came just before, and the name that it gives
    while (block := file.read(_BLOCK)) != bytes(_BLOCK):
        if len(block) < _BLOCK:
            raise DataError(f"{path}: is truncated: it ends at byte {offset + len(block)} without an end of archive")
        try:
            # `tarfile` reads this header alone: its walk from member to member believes what the headers say.
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise DataError(f"{path}: is no tar archive, or corrupt: no member's header at byte {offset}") from None
        name = (member.name if new_name is None else new_name).removeprefix("./")
        size = 0 if member.type in _WITHOUT_CONTENT else member.size
        padded = -(-size // _BLOCK) * _BLOCK
        if size < 0 or offset + padded > limit:
            raise DataError(f"{path}: the member at byte {offset} claims {size} bytes; the archive may hold {limit}")
        wanted = name in sizes
        if wanted:
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise DataError(f"{path}: {name}, at byte {offset}, is no regular file (tar's type {member.type!r})")
            if name in found:
                raise DataError(f"{path}: holds {name} twice, again at byte {offset}")
            if size != sizes[name]:
                raise DataError(f"{path}: {name}, at byte {offset}, has {size} bytes; expected {sizes[name]}")
        if member.type == tarfile.GNUTYPE_SPARSE:  # more of its header would follow
            raise DataError(f"{path}: the member at byte {offset} is stored sparsely; expected whole files")
        content = file.read(padded)
        start, offset = offset, offset + _BLOCK + len(content)
        if len(content) < padded:
            raise DataError(f"{path}: is truncated: it ends at byte {offset}, within the member at byte {start}")
        if member.type in _EXTENDED:
            extended = True
            given = _given_name(f"{path}: the extended header at byte {start}", member.type, content[:size])
            if given is not None and new_name is not None:
                raise DataError(f"{path}: the extended header at byte {start} names a member that has a name already")
            new_name = new_name if given is None else given
            continue
        extended, new_name = False, None
        if wanted:
            found[name] = content[:size]
    if extended:
        raise DataError(f"{path}: is corrupt: it ends at byte {offset}, after an extended header without its member")
    for name in sizes:
        if name not in found:
            raise DataError(f"{path}: does not hold {name}")
    while rest := file.read(_CHUNK):  # to the end, where gzip compares its checksum
        offset += len(rest)
        if offset > limit:
            raise DataError(f"{path}: is corrupt: it goes on after the end of the archive, beyond byte {limit}")
    return found


def _given_name(place: str, kind: bytes, content: bytes) -> str | None:
    """The name that an extended header gives to the member after it: PAX's in records of length and value."""
    if kind == tarfile.GNUTYPE_LONGLINK:
        return None
    if kind == tarfile.GNUTYPE_LONGNAME:
        return content.split(b"\0")[0].decode("utf-8", "surrogateescape")
    name, at = None, 0
    while at < len(content):
        record = _PAX_RECORD.match(content, at)
        end = at + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise DataError(f"{place} is corrupt: it has no record at its byte {at}")
        key = record[2]
        sparse = key.startswith(b"GNU.sparse.")
        if sparse or key == b"size" or (key == b"path" and kind == tarfile.XGLTYPE):
            what = "GNU.sparse" if sparse else key.decode()
            raise DataError(f"{place} sets {what}; expected at most the name of one member, and whole files")
        if key == b"path":
            name = content[record.end() : end - 1].decode("utf-8", "surrogateescape")
        at = end
    return name
