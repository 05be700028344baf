"""Readers of files. No length in a header is believed before it is compared with the bytes that are there."""

import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxnn.data.dataset import DataError

__all__ = ["idx_sha256", "read_idx"]

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST = 2**30  # bytes that a gzipped file may unfold to


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
    path = Path(path)
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None

    def corrupt(what: str) -> DataError:
        return DataError(f"{path}: {what}")

    unzip = zlib.decompressobj(wbits=31) if stored[:2] == _GZIP_MAGIC else None
    longest_header = 4 + 4 * 8
    try:
        content = unzip.decompress(stored, longest_header) if unzip else stored
        if len(content) < 4:
            raise corrupt(f"is no IDX file: {len(content)} bytes, and the header alone has 4")
        if content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES or content[3] == 0:
            raise corrupt(f"is no IDX file: it starts with {content[:4].hex(' ')}, not 00 00, a type and a rank")
        rank = content[3]
        if rank > 8:
            raise corrupt(f"is no IDX file: it claims {rank} axes")
        header = 4 + 4 * rank
        if len(content) < header:
            raise corrupt(f"is truncated: {len(content)} bytes, and the header alone has {header}")
        shape = struct.unpack(f">{rank}I", content[4:header])
        dtype = np.dtype(_IDX_DTYPES[content[2]])
        expected = header + math.prod(shape) * dtype.itemsize
        if unzip:
            if expected > _LARGEST:
                raise corrupt(f"claims {expected} bytes in its header; gzipped files may unfold to {_LARGEST}")
            content += unzip.decompress(unzip.unconsumed_tail, max(expected - len(content), 0) + 1)
    except zlib.error as error:
        raise corrupt(f"is corrupt: gzip says {error}") from None
    if len(content) < expected:
        raise corrupt(
            f"is truncated: its header announces shape {shape}, {expected} bytes; it ends after {len(content)}"
        )
    if len(content) > expected:
        raise corrupt(f"is corrupt: its header announces shape {shape}, {expected} bytes; there are more")
    if unzip and not unzip.eof:
        raise corrupt("is truncated: the gzip stream has no end")
    if unzip and unzip.unused_data:
        raise corrupt(f"is corrupt: {len(unzip.unused_data)} bytes follow the end of the gzip stream")
    return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


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
