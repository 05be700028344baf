"""What can happen to a file of any format: to its bytes, to what compresses it, to the place where it lies."""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

INTERESTING = (0, 1, 2, 3, 7, 9, 10, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
MEBIBYTE = 2**20
Change = Callable[[Random, bytearray], str]


def _place(random: Random, content: bytearray) -> int:
    return random.randrange(len(content) + 1)


def _stretch(random: Random, content: bytearray) -> tuple[int, int]:
    start = _place(random, content)
    longest = random.choice((1, 4, 16, 512, len(content)))
    return start, min(len(content), start + random.randint(1, max(1, longest)))


def flip_bits(random: Random, content: bytearray) -> str:
    places = [random.randrange(len(content)) for _ in range(random.choice((1, 1, 1, 2, 8)))] if content else []
    for place in places:
        content[place] ^= 1 << random.randrange(8)
    return f"bits flipped at {places}"


def set_byte(random: Random, content: bytearray) -> str:
    if not content:
        return "nothing to set"
    place = random.randrange(len(content))
    content[place] = random.choice((0, 1, 9, 10, 32, 127, 128, 254, 255, random.randrange(256)))
    return f"byte {place} set to {content[place]}"


def set_number(random: Random, content: bytearray) -> str:
    code = random.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(code)
    if len(content) < size:
        return "no room for a number"
    place = random.randrange(len(content) - size + 1)
    value = random.choice(INTERESTING) % 256**size
    struct.pack_into(code, content, place, value)
    return f"{value} put at {place} as {code}"


def truncate(random: Random, content: bytearray) -> str:
    length = random.choice((_place(random, content), max(0, len(content) - random.randint(1, 20)), 0, 1, 2, 3, 4))
    del content[length:]
    return f"truncated to {length} bytes"


def insert(random: Random, content: bytearray) -> str:
    start = _place(random, content)
    new = random.choice((b"\0", b"\n", b"\xff", b"\0" * 512, random.randbytes(random.randint(1, 40))))
    content[start:start] = new
    return f"{len(new)} bytes inserted at {start}"


def remove_stretch(random: Random, content: bytearray) -> str:
    start, end = _stretch(random, content)
    del content[start:end]
    return f"bytes {start} to {end} removed"


def duplicate_stretch(random: Random, content: bytearray) -> str:
    start, end = _stretch(random, content)
    place = random.choice((end, _place(random, content)))
    content[place:place] = content[start:end]
    return f"bytes {start} to {end} again at {place}"


def clear_stretch(random: Random, content: bytearray) -> str:
    start, end = _stretch(random, content)
    value = random.choice((0, 0, 255, 32))
    content[start:end] = bytes([value]) * (end - start)
    return f"bytes {start} to {end} set to {value}"


def append(random: Random, content: bytearray) -> str:
    new = random.choice((b"\0", b"\n", b"\0" * random.randint(1, 2000), random.randbytes(random.randint(1, 40))))
    content += new
    return f"{len(new)} bytes appended"


def prepend(random: Random, content: bytearray) -> str:
    new = random.choice((b"\0", b"\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04", b"#!"))
    content[:0] = new
    return f"begins with {new!r}"


BLIND: tuple[Change, ...] = (
    flip_bits,
    flip_bits,
    set_byte,
    set_byte,
    set_number,
    truncate,
    insert,
    remove_stretch,
    duplicate_stretch,
    clear_stretch,
    append,
    prepend,
)


def changed(random: Random, content: bytes, changes: Sequence[Change], done: list[str], *, most: int = 3) -> bytes:
    """The bytes after a few of the changes, often one."""
    new = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, most))):
        done.append(random.choice(changes)(random, new))
    return bytes(new)


def gzipped(random: Random, content: bytes, done: list[str]) -> bytes:
    """The content in a gzip stream of which now and then a field, the end or what follows is not as it must be."""
    kind = random.random()
    if kind < 0.6:
        return gzip.compress(content, 1, mtime=0)
    if kind < 0.7:
        done.append("gzip: in two members")
        middle = random.randint(0, len(content))
        return gzip.compress(content[:middle], 1, mtime=0) + gzip.compress(content[middle:], 1, mtime=0)
    if kind < 0.75:
        done.append("gzip: twice")
        return gzip.compress(gzip.compress(content, 1, mtime=0), 1, mtime=0)
    if kind < 0.8:
        done.append("gzip: a header with a name, a comment, an extra field and a checksum")
        return _gzip_with_every_field(content, right=random.random() < 0.5)
    stream = bytearray(gzip.compress(content, 1, mtime=0))
    if kind < 0.85:
        done.append("gzip: wrong checksum")
        stream[-8] ^= 1 << random.randrange(8)
    elif kind < 0.9:
        done.append("gzip: wrong length at the end")
        struct.pack_into("<I", stream, len(stream) - 4, random.choice(INTERESTING))
    elif kind < 0.93:
        done.append("gzip: zeros after the end")
        stream += bytes(random.randint(1, 600))
    else:
        done.append("gzip: " + random.choice(BLIND)(random, stream))
    return bytes(stream)


def _gzip_with_every_field(content: bytes, *, right: bool) -> bytes:
    header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff" + struct.pack("<H", 4) + b"jax!" + b"name\0" + b"comment\0"
    checksum = zlib.crc32(header) & 0xFFFF if right else 0xBEEF
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packer.compress(content) + packer.flush()
    return header + struct.pack("<H", checksum) + body + struct.pack("<II", zlib.crc32(content), len(content))


def gzip_bomb(beginning: bytes, filling: bytes, times: int, end: bytes = b"") -> bytes:
    """A right gzip stream in which a filling comes so many times: each is packed once, however often it comes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(beginning) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(filling) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(beginning)
    for _ in range(times):
        checksum = zlib.crc32(filling, checksum)
    last = packer.compress(end) + packer.flush()
    length = len(beginning) + len(filling) * times + len(end)
    trailer = struct.pack("<II", zlib.crc32(end, checksum), length % 2**32)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + first + block * times + last + trailer


def unfold(path: Path) -> bytes:
    """The content of a file, gzipped or not, as a whole."""
    stored = path.read_bytes()
    return gzip.decompress(stored) if stored[:2] == b"\x1f\x8b" else stored


def put(random: Random, path: Path, content: bytes, done: list[str]) -> list[str]:
    """Write the content to the path; one time in a hundred something else is there."""
    if random.random() > 0.01 or not done:
        path.write_bytes(content)
        return done
    kind = random.choice(("empty", "missing", "folder", "pipe", "endless", "link", "loop", "link to nothing"))
    if kind == "link":  # a link to a file is as good as the file
        target = path.with_name(path.name + "-target")
        target.write_bytes(content)
        path.symlink_to(target)
        return [*done, "a link to the file"]
    {
        "empty": lambda: path.write_bytes(b""),
        "missing": lambda: None,
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "endless": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path.name),
        "link to nothing": lambda: path.symlink_to("nowhere"),
    }[kind]()
    return [f"special: {kind}"]
