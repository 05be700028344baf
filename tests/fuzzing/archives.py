"""Mutated tar archives, and the members that they hold."""

import io
import struct
import tarfile
from pathlib import Path
from random import Random

from tests.fuzzing.mutations import BLIND, MEBIBYTE, changed, gzip_bomb, gzipped, put

SIZES = {"batches/one.bin": 700, "batches/two.bin": 512, "three": 5}
"""The members that are wanted."""
_BLOCK = 512
_NAMES = ("../outside", "/tmp/outside", "batches/../../outside", "readme", "./readme", "batches/", "a" * 90, "é\udcff")
_TYPES = (b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"X", b"V", b"D", b"9")


def _members(random: Random) -> list[tuple[tarfile.TarInfo, bytes]]:
    members = []
    for name, size in SIZES.items():
        member = tarfile.TarInfo(random.choice(("", "", "./")) + name)
        member.size = size
        members.append((member, random.randbytes(size)))
    for _ in range(random.choice((0, 0, 1, 3))):
        member = tarfile.TarInfo("other" * random.choice((1, 1, 30)))
        member.size = random.choice((0, 1, 512, 2000))
        members.insert(random.randrange(len(members) + 1), (member, random.randbytes(member.size)))
    return members


def _change_members(random: Random, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    if not members:
        return "no member to change"
    number = random.randrange(len(members))
    member, content = members[number]
    kind = random.choice(("removed", "again", "moved", "name", "wanted name", "link", "type", "content", "pax"))
    if kind == "removed":
        del members[number]
    elif kind == "again":
        members.insert(random.randrange(len(members) + 1), (member, random.choice((content, content[::-1]))))
    elif kind == "moved":
        members.insert(random.randrange(len(members)), members.pop(number))
    elif kind == "name":
        member.name = random.choice(_NAMES)
    elif kind == "wanted name":
        member.name = random.choice(("", "./", "././", "/", "../", "batches/../")) + random.choice(list(SIZES))
    elif kind == "link":
        member.type = random.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
        member.linkname = random.choice(("/etc/passwd", "../../outside", "three", "batches/one.bin", member.name))
    elif kind == "type":
        member.type = random.choice(_TYPES)
    elif kind == "content":
        new = random.choice((content + b"!", content[:-1], b"", bytes(513)))
        member.size = len(new)
        members[number] = member, new
    else:
        field = random.choice(("path", "size", "linkpath", "mtime", "comment", "GNU.sparse.name", "GNU.sparse.major"))
        value = random.choice(("three", "batches/one.bin", "../outside", "0", "5", "99999999999", "1.5", "-1", "é"))
        member.pax_headers = {**member.pax_headers, field: value}
        return f"member {number}: {field}={value} in a pax header"
    return f"member {number} {kind} {member.name[:30]!r} {member.type!r}"


def _header(member: tarfile.TarInfo, form: int) -> bytes:
    """Like `TarInfo.tobuf`, for types too that it would not write."""
    kind, member.type = member.type, tarfile.REGTYPE if member.type not in (b"1", b"2", b"3", b"4") else member.type
    header = bytearray(member.tobuf(form, "utf-8", "surrogateescape"))
    member.type = kind
    header[-_BLOCK + 156 : -_BLOCK + 157] = kind
    return bytes(header[:-_BLOCK]) + _checked(header[-_BLOCK:])


def _checked(header: bytes) -> bytes:
    """A header's block with the checksum that it must have."""
    block = bytearray(header)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _archive(random: Random, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    form = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    out = b""
    for member, content in members:
        try:
            out += _header(member, form)
        except ValueError:  # a name too long for this form
            out += _header(member, tarfile.GNU_FORMAT)
        out += content + bytes(-len(content) % _BLOCK)
    return out + bytes(2 * _BLOCK)


def _change_header(random: Random, content: bytearray) -> str:
    """A field of a block that looks like a header says something else, with the right checksum."""
    headers = [at for at in range(0, len(content) - 511, _BLOCK) if content[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return "no header to change"
    start = random.choice(headers)
    field, at, length = random.choice(
        (("name", 0, 100), ("size", 124, 12), ("size", 124, 12), ("size", 124, 12), ("type", 156, 1), ("link", 157, 100),
         ("magic", 257, 8), ("prefix", 345, 155), ("mode", 100, 8), ("time", 136, 12), ("checksum", 148, 8))
    )  # fmt: skip
    octal = b"%011o\0" % random.choice((0, 1, 5, 511, 513, 2**20, 2**30, 2**33 - 1))
    values = {
        "size": (octal, octal, b"-0000000001\0", b"\x80" + struct.pack(">3xQ", 2**62), b"\xff" * 12, b"banana\0",
                 b"           5", b"0x10\0", b"1_0\0", "٣".encode() + b"\0", b"\0" * 12, b"+5\0", b" 700 \0"),
        "type": _TYPES,
        "magic": (b"ustar\x0000", b"ustar  \0", b"\0" * 8),
        "name": tuple(name.encode("utf-8", "surrogateescape") for name in (*_NAMES, *SIZES, "")),
        "link": (b"/etc/passwd", b"three", b""),
    }.get(field, (b"", b"/", b"\xff" * length, random.randbytes(length), b"777\0"))  # fmt: skip
    value = random.choice(values)[:length]
    content[start + at : start + at + length] = value.ljust(length, b"\0")
    block = _checked(content[start : start + _BLOCK])
    if field != "checksum":
        content[start : start + _BLOCK] = block
    return f"{field} of the header at {start} is {value[:20]!r}"


def _change_blocks(random: Random, content: bytearray) -> str:
    blocks = [bytes(content[at : at + _BLOCK]) for at in range(0, len(content), _BLOCK)]
    if not blocks:
        return "no block to change"
    number = random.randrange(len(blocks))
    kind = random.choice(("removed", "again", "zero", "swapped", "zeros at the end", "cut off here"))
    if kind == "removed":
        del blocks[number]
    elif kind == "again":
        blocks.insert(number, blocks[number])
    elif kind == "zero":
        blocks[number] = bytes(_BLOCK)
    elif kind == "swapped":
        other = random.randrange(len(blocks))
        blocks[number], blocks[other] = blocks[other], blocks[number]
    elif kind == "zeros at the end":
        blocks += [bytes(_BLOCK)] * random.choice((1, 18, 1000))
    else:
        del blocks[number:]
    content[:] = b"".join(blocks)
    return f"block {number} {kind}"


def mutate_tar(random: Random, path: Path) -> list[str]:
    members = _members(random)
    done: list[str] = []
    intact = random.random() < 0.03
    if not intact and random.random() < 0.5:
        done += [_change_members(random, members) for _ in range(random.choice((1, 1, 2, 4)))]
    content = _archive(random, members)
    if not intact and (not done or random.random() < 0.4):
        changes = (*BLIND, _change_blocks, _change_blocks, *[_change_header] * 6)
        content = changed(random, content, changes, done)
    if random.random() < 0.4:
        content = gzipped(random, content, done) if done else _plain_gzip(content)
    return put(random, path, content, done)


def tar_bomb(random: Random, path: Path) -> list[str]:
    content = _archive(random, _members(random))
    huge = tarfile.TarInfo("filler")
    huge.size = random.choice((400 * MEBIBYTE, 2**40))
    before = random.choice((b"", content[: -2 * _BLOCK], content))
    path.write_bytes(gzip_bomb(before + huge.tobuf(tarfile.GNU_FORMAT), bytes(MEBIBYTE), 400))
    return [f"bomb: a member of {huge.size} bytes after {len(before)} bytes"]


def _plain_gzip(content: bytes) -> bytes:
    return gzip_bomb(content, b"", 0)


def tar_oracle(path: Path) -> dict[str, bytes]:
    """By the standard library, which follows every kind of extended header."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:*") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name not in SIZES:
                continue
            assert member.isreg() and not member.issparse(), f"{name} is of type {member.type!r}"
            assert name not in found, f"{name} is there twice"
            file = archive.extractfile(member)
            assert file
            found[name] = file.read(10**6)
            assert len(found[name]) == member.size == SIZES[name], f"{name} has {member.size} bytes"
    return {name: found[name] for name in SIZES}
