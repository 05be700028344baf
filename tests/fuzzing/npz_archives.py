"""Mutated `.npz` archives, and the arrays that they hold."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random

import numpy as np

from jaxnn.data import Dataset
from jaxnn.data.dataset import Parts
from tests.fuzzing.forms import features_of, targets_of
from tests.fuzzing.mutations import (
    BLIND,
    INTERESTING,
    MEBIBYTE,
    changed,
    clear_stretch,
    flip_bits,
    gzipped,
    put,
    set_byte,
)

Members = list[tuple[str, bytes]]
_PAIRS = {
    "train": (("x", "y"), ("x_train", "y_train"), ("train_x", "train_y"), ("train_images", "train_labels")),
    "validation": (("x_validation", "y_validation"), ("x_val", "y_val"), ("x_valid", "y_valid")),
    "test": (("x_test", "y_test"), ("test_x", "test_y"), ("test_images", "test_labels")),
}
_NAMES = (
    "x",
    "y",
    "X",
    "x_train",
    "y_train",
    "x_test",
    "Y_test",
    "classes",
    "../x",
    "/x",
    "x\ny",
    "a" * 300,
    "",
    "é",
    "\x1b[31m",
)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def _values(random: Random, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    count = int(np.prod(shape))
    values = np.array([random.randint(0, 255) for _ in range(count)]).reshape(shape)
    return values.astype(dtype)


def _seed(random: Random) -> Members:
    shape = random.choice(((3,), (2, 2), (4, 1), (2, 3, 1), (1, 4)))
    dtype = random.choice(("u1", "u1", "f4", "<f8", ">f4", "i2", ">i8", "?", "f2", "u4"))
    labels = random.choice(("i8", "u1", "one-hot", "f4", ">f8", "targets"))
    parts = ["train", *random.choice(((), ("test",), ("validation", "test")))]
    arrays: dict[str, np.ndarray] = {}
    for part in parts:
        count = random.randint(1, 4)
        x_name, y_name = random.choice(_PAIRS[part][1:] if part == "train" and len(parts) > 1 else _PAIRS[part])
        x = _values(random, (count, *shape), dtype)
        arrays[x_name] = np.asfortranarray(x) if random.random() < 0.2 else x
        if labels == "one-hot":
            arrays[y_name] = np.eye(3, dtype=random.choice(("u1", "f4", "?")))[
                [random.randrange(3) for _ in range(count)]
            ]
        elif labels == "targets":
            arrays[y_name] = _values(random, (count, 2), "f4") / 2 + np.float32(0.3)
        elif labels.endswith(("f4", "f8")):
            arrays[y_name] = _values(random, (count,), labels)
        else:
            arrays[y_name] = _values(random, (count,), labels) % 3
    if labels in ("i8", "u1", "one-hot") and random.random() < 0.4:
        arrays["classes"] = np.array(["cat", "größe", "dog"])
    return [(name + ".npy", _npy(array)) for name, array in arrays.items()]


def _other_array(random: Random) -> np.ndarray:
    """An array that a reader must look at twice."""
    kinds = (
        lambda: np.array([{"a": 1}, len, None], dtype=object),
        lambda: np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        lambda: np.array(["2024-01-31", "NaT"], dtype="datetime64[D]"),
        lambda: np.array([1 + 2j, 3]),
        lambda: np.array([b"cat", b"dog"]),
        lambda: np.array(["cat", "cat", ""]),
        lambda: np.array(["cat\0\0", "\ud800" if random.random() < 0.5 else "x\ny"]),
        lambda: np.array(3),
        lambda: np.zeros((0, 3)),
        lambda: np.zeros((3, 0), "u1"),
        lambda: np.array([np.nan, 1, np.inf]),
        lambda: np.array([1e39, -1e300, 1e-320]),
        lambda: np.array([2**24 + 1, 2**53 + 1, -(2**63)]),
        lambda: np.array([2**64 - 1, 2**63, 2**24], "u8"),
        lambda: np.array([0, 1, 9999, random.choice((10_000, -1, 2**40))]),
        lambda: np.array([0.1, 0.2], np.longdouble),
        lambda: np.array([[1, 0], [0, 1], [random.choice((0, 1, 2)), 0]]),
        lambda: np.ones((2,) * random.choice((3, 8, 17)), "u1"),
        lambda: np.array([0, 1, 1], ">u2"),
        lambda: np.zeros(3, "V0"),
        lambda: np.zeros(3, "U0"),
    )
    return random.choice(kinds)()


def _change_members(random: Random, members: Members) -> str:
    if not members:
        return "no member to change"
    number = random.randrange(len(members))
    name, content = members[number]
    kind = random.choice(("name", "removed", "again", "array", "array", "header", "header", "content", "pickle",
                          *["values"] * 6))  # fmt: skip
    if kind == "name":
        name = random.choice(_NAMES) + random.choice((".npy", ".npy", ".npy", "", ".txt", ".npy.npy"))
    elif kind == "removed":
        del members[number]
        return f"member {name} removed"
    elif kind == "again":
        members.append((random.choice((name, name.upper())), random.choice((content, content[::-1]))))
        return f"member {name} again"
    elif kind == "array":
        array = _other_array(random)
        content = _npy(array)
        kind = f"holds {array.dtype} {array.shape}"
    elif kind == "header":
        content, kind = _change_header(random, content)
    elif kind == "values":
        header = 10 + int.from_bytes(content[8:10], "little")
        values = bytearray(content[header:])
        kind = "values: " + random.choice((flip_bits, set_byte, clear_stretch))(random, values)
        content = content[:header] + values
    elif kind == "content":
        new = bytearray(content)
        kind = random.choice(BLIND)(random, new)
        content = bytes(new)
    else:
        content = b"\x80\x04cposix\nsystem\nX\x04\0\0\0true\x85R."
    members[number] = name, content
    return f"member {number} {name[:20]!r}: {kind}"


def _change_header(random: Random, content: bytes) -> tuple[bytes, str]:
    """The text in an array's header says something else, with the right length before it."""
    if content[:6] != b"\x93NUMPY" or content[6] != 1:
        return content, "no header to change"
    length = int.from_bytes(content[8:10], "little")
    text, body = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    old, new = random.choice(
        (
            ("'shape': (", f"'shape': ({random.choice((0, 1, 2, -1, 2**31, 2**63, 2**64, 10**30))}, "),
            ("'shape': (", "'shape': (True, "),
            ("'shape': (", "'shape': (1.0, "),
            ("'shape': (", "'shape': (" + "1, " * random.choice((1, 30, 32, 64, 65))),
            ("'shape': (", "'shape': (0, 9223372036854775807, "),
            ("'shape': ", "'shape': " + "(" * random.choice((1, 500, 5000))),
            (
                "'descr': '",
                "'descr': '" + random.choice(("|O", "<f16", ">", "V", "<U9", "(2,2)", "<M8[s]", "S", "\\n")),
            ),
            ("'descr': '<f8'", "'descr': '<i8'"),
            ("'descr': '|u1'", f"'descr': '{random.choice(('|b1', '|i1', '|S1', '|V1', '|O', 'u1', '<u2', '|U1'))}'"),
            ("'descr': '<f4'", f"'descr': '{random.choice(('>f4', '<i4', '<f2', '<U1', '<c8', '<m8[s]'))}'"),
            ("False", random.choice(("True", "1", "None", "__import__('os')"))),
            ("'fortran_order'", random.choice(("'order'", "'shape'", "b'fortran_order'"))),
            ("}", random.choice((", 'more': 1}", "", "}}", "} # end", "L}", "\\0}"))),
            ("{", random.choice(("[", "{{", "{0: ", " " * 12_000 + "{"))),
        )
    )
    text = text.replace(old, new, 1).rstrip()
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    version = random.choice((1, 1, 1, 2, 3))
    size = struct.pack("<H" if version == 1 else "<I", len(text) % 65536)
    return content[:6] + bytes([version, 0]) + size + text.encode("latin-1") + body, f"{old!r} becomes {new[:40]!r}"


def _archive(random: Random, members: Members, done: list[str]) -> bytes:
    stream = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    if random.random() < 0.01:
        method = random.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        done.append(f"zip's method {method}")
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.compress_type = method
            with archive.open(member, "w", force_zip64=random.random() < 0.3) as file:  # as np.savez does
                file.write(content)
    return stream.getvalue()


def _change_directory(random: Random, content: bytearray) -> str:
    """A field of a local header, the directory or its end says something else."""
    kind, signature, fields = random.choice(
        (
            ("local header", b"PK\3\4", ((4, "H"), (6, "H"), (8, "H"), (14, "I"), (18, "I"), (22, "I"), (26, "H"), (28, "H"))),
            ("directory", b"PK\1\2", ((8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (42, "I"))),
            ("directory", b"PK\1\2", ((8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (32, "H"), (42, "I"))),
            ("end", b"PK\5\6", ((4, "H"), (8, "H"), (10, "H"), (12, "I"), (16, "I"), (20, "H"))),
        )
    )  # fmt: skip
    starts = []
    start = content.find(signature)
    while start >= 0:
        starts.append(start)
        start = content.find(signature, start + 1)
    if not starts:
        return f"no {kind} to change"
    start = random.choice(starts)
    at, code = random.choice(fields)
    if start + at + struct.calcsize(code) > len(content):
        return f"{kind} cut off"
    (old,) = struct.unpack_from("<" + code, content, start + at)
    new = random.choice((old + 1, old - 1, old * 2, 0, 1, 8, *INTERESTING)) % 256 ** struct.calcsize(code)
    struct.pack_into("<" + code, content, start + at, new)
    return f"{kind} at {start}: field {at} is {new}"


def npz_bomb(random: Random, path: Path) -> list[str]:
    """An archive of zeros, which claims as many as there are, fewer or more."""
    times = random.choice((100, 200, 400))
    shape = random.choice(((times, MEBIBYTE), (times * MEBIBYTE,), (times * 2**19, 2), (2**40,), (10,)))
    header = _npy(np.zeros((1, 1), "u1"))[:-1].replace(b"(1, 1)", str(shape).encode(), 1)
    # A header's length must fit its text.
    text = header[10:].rstrip()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    header = header[:8] + struct.pack("<H", len(text)) + text
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = first + block * times + packer.flush()
    checksum = zlib.crc32(header)
    for _ in range(times):
        checksum = zlib.crc32(bytes(MEBIBYTE), checksum)
    size = random.choice((len(header) + times * MEBIBYTE, len(header) + times * MEBIBYTE, 1000))
    members = [(b"x.npy", body, checksum, size)]
    y = _npy(np.zeros(random.choice((times, 10, (times * 2**19, 2))), "u1"))
    members.append((b"y.npy", zlib.compress(y)[2:-4], zlib.crc32(y), len(y)))
    archive, directory = b"", b""
    for name, packed, crc, length in members:
        fields = struct.pack("<5H3I2H", 20, 0, 8, 0, 33, crc, len(packed), length, len(name), 0)
        directory += b"PK\1\2\x14\0" + fields + struct.pack("<3H2I", 0, 0, 0, 0, len(archive)) + name
        archive += b"PK\3\4" + fields + name + packed
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 2, 2, len(directory), len(archive), 0)
    path.write_bytes(archive + directory + end)
    return [f"bomb of {times} MiB that claims {size} bytes and shape {shape}"]


def mutate_npz(random: Random, path: Path) -> list[str]:
    members = _seed(random)
    done: list[str] = []
    intact = random.random() < 0.03
    if not intact and random.random() < 0.6:
        done += [_change_members(random, members) for _ in range(random.choice((1, 1, 2)))]
    content = _archive(random, members, done)
    if not intact and (not done or random.random() < 0.2):
        content = changed(random, content, (*BLIND, *[_change_directory] * 8), done)
        if random.random() < 0.02:
            content = gzipped(random, content, done)
    return put(random, path, content, done)


def npz_oracle(path: Path) -> Parts:
    """By NumPy's own reader, and the rules for what the arrays become."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:  # which compares each checksum
        for name in archive.namelist():
            assert name.endswith(".npy") and name[:-4].lower() not in arrays
            arrays[name[:-4].lower()] = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
    classes = arrays.pop("classes", None)
    parts, widths = {}, {}
    for part, pairs in _PAIRS.items():
        for x, y in pairs:
            if x in arrays:
                assert part not in parts
                stored = arrays.pop(y)
                parts[part] = Dataset(features_of(arrays.pop(x)), targets_of(stored))
                if stored.ndim == 2 and parts[part].y.ndim == 1:
                    widths[part] = stored.shape[1]
    assert not arrays, "an array of another name"
    assert len(set(widths.values()) - {widths.get("train", 0)}) == 0 or "train" not in widths
    forms = {(part.x.dtype, part.x.shape[1:], part.y.dtype, part.y.shape[1:]) for part in parts.values()}
    assert len(forms) == 1 and all(len(part.x) == len(part.y) > 0 for part in parts.values())
    texts = tuple(map(str, range(widths.get("train", 0))))
    if classes is not None:
        assert classes.dtype.kind == "U" and classes.ndim == 1
        texts = tuple(str(text) for text in classes)
        assert all(texts) and len(set(texts)) == len(texts)
        assert all(part.y.ndim == 1 and part.y.max() < len(texts) for part in parts.values())
        assert all(width == len(texts) for width in widths.values())
    return Parts(parts["train"], parts.get("validation"), parts.get("test"), texts)
