"""Mutated IDX files and CIFAR's records, and what they hold."""

import math
import struct
from pathlib import Path
from random import Random

import numpy as np

from jaxnn.data import Dataset
from jaxnn.data.dataset import Parts
from tests.fuzzing.forms import features_of, targets_of
from tests.fuzzing.mutations import BLIND, INTERESTING, MEBIBYTE, Change, changed, gzip_bomb, gzipped, put, unfold

_IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _idx_seed(random: Random) -> bytes:
    code = random.choice(list(_IDX))
    shape = [random.randint(0 if random.random() < 0.1 else 1, 4) for _ in range(random.randint(1, 4))]
    body = random.randbytes(math.prod(shape) * np.dtype(_IDX[code]).itemsize)
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + body


def _wrong_size(random: Random, content: bytearray) -> str:
    if len(content) < 8 or not content[3]:
        return "no size to change"
    place = 4 + 4 * random.randrange(content[3])
    if place + 4 > len(content):
        return "no size to change"
    size = int.from_bytes(content[place : place + 4], "big")
    new = random.choice((size + 1, max(0, size - 1), size * 2, 0, *INTERESTING)) % 2**32
    struct.pack_into(">I", content, place, new)
    return f"size at {place} is {new}"


def _wrong_rank(random: Random, content: bytearray) -> str:
    if len(content) < 4:
        return "no rank to change"
    content[3] = random.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 64, 255))
    return f"rank {content[3]}"


def _wrong_type(random: Random, content: bytearray) -> str:
    if len(content) < 4:
        return "no type to change"
    content[2] = random.choice((*_IDX, 0, 7, 10, 15, 255))
    return f"type {content[2]}"


def _enormous(random: Random, content: bytearray) -> str:
    """Sizes of which the product is zero, one or beyond any integer, with a body that fits the first two."""
    sizes = [random.choice((0, 1, 1, 2**16, 2**31, 2**32 - 1)) for _ in range(random.randint(1, 8))]
    content[:] = struct.pack(f">BBBB{len(sizes)}I", 0, 0, random.choice(list(_IDX)), len(sizes), *sizes)
    content += bytes(random.choice((0, 0, 1, 2, 4, 8)))
    return f"shape {sizes}"


def _fit(content: bytes) -> bytes:
    """The header's own length of content, if that is small."""
    if len(content) < 4 or content[2] not in _IDX or len(content) < 4 + 4 * content[3]:
        return content
    header = 4 + 4 * content[3]
    length = math.prod(struct.unpack(f">{content[3]}I", content[4:header])) * np.dtype(_IDX[content[2]]).itemsize
    return content if length > 4096 else (content + bytes(length))[: header + length]


def mutate_idx(random: Random, path: Path) -> list[str]:
    content = _idx_seed(random)
    done: list[str] = []
    if random.random() < 0.97:
        changes: tuple[Change, ...] = (*BLIND, _wrong_size, _wrong_size, _wrong_rank, _wrong_type, _enormous)
        content = changed(random, content, changes, done)
        if random.random() < 0.3:
            done.append("length made to fit")
            content = _fit(content)
        if random.random() < 0.4:
            content = gzipped(random, content, done)
    return put(random, path, content, done)


def idx_bomb(random: Random, path: Path) -> list[str]:
    size, times = random.choice((10, 2**27, 2**28, 2**32 - 1)), random.choice((128, 400))
    path.write_bytes(gzip_bomb(struct.pack(">BBBBI", 0, 0, 8, 1, size), bytes(MEBIBYTE), times))
    return [f"bomb of {times} MiB that claims {size} bytes"]


def idx_oracle(path: Path) -> np.ndarray:
    content = unfold(path)
    zeros, code, rank = struct.unpack(">HBB", content[:4])
    assert zeros == 0 and rank >= 1
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content[4 + 4 * rank :], _IDX[code])
    assert values.size == math.prod(shape)
    return np.reshape(values, shape).astype(values.dtype.newbyteorder("="))


def mutate_idx_folder(random: Random, path: Path) -> list[str]:
    """Images and labels for training and perhaps for testing: whole files exchanged, or the bytes in one changed."""
    path.mkdir()
    done: list[str] = []
    kinds: list[int] = []
    forms = [(2, 3), (1, 3), (3, 2, 1), (4,)]
    shape, code = random.choice(forms), random.choice(list(_IDX))
    parts = ("train", "t10k") if random.random() < 0.7 else ("train",)
    for part in parts:
        count = random.randint(1, 4)
        if part != "train" and random.random() < 0.3:
            done.append("a test part of another form")
            shape, code = random.choice((shape, *forms)), random.choice((code, *_IDX))
        labels = count
        if random.random() < 0.2:
            done.append("another number of labels")
            labels = random.randint(0, 4)
        kinds.append(kind := random.choice((8, 8, 8, 11)))
        y = [random.choice((*[0, 1, 2, 9] * 6, 10_000 if kind == 11 else 255)) for _ in range(labels)]
        one_hot = random.random() < 0.1
        sizes, values = (labels,), y
        if one_hot:
            width = random.choice((3, 3, 4))
            done += ["one-hot rows of 4"] if width == 4 else []
            sizes, values = (labels, width), [int(place == one % 3) for one in y for place in range(width)]
        contents = {
            f"{part}-images-idx3-ubyte": _idx(code, (count, *shape), random.randbytes(count * math.prod(shape) * 8)),
            f"{part}-labels-idx1-ubyte": _idx(kind, sizes, np.array(values, _IDX[kind]).tobytes()),
        }
        for name, content in contents.items():
            if random.random() < 0.15:
                done.append(f"{name}: {random.choice(BLIND)(random, changing := bytearray(content))}")
                content = bytes(changing)
            if random.random() < 0.3:
                content, name = gzipped(random, content, done), f"{name}.gz"
            if random.random() < 0.97:
                (path / name).write_bytes(content)
            else:
                done.append(f"{name} is missing")
    # Those of chance are also NaN, infinity, integers that float32 cannot hold and labels of 10,000.
    return done or ([] if code == 8 and set(kinds) == {8} else ["values of chance"])


def _idx(code: int, shape: tuple[int, ...], body: bytes) -> bytes:
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)
    return header + body[: math.prod(shape) * np.dtype(_IDX[code]).itemsize]


def idx_folder_bomb(random: Random, path: Path) -> list[str]:
    """As many labels as images, of a byte each."""
    path.mkdir()
    times = random.choice((100, 200))
    shape = random.choice(((times * MEBIBYTE,), (times * MEBIBYTE, 1, 1)))
    for name, sizes in (("train-images-idx3-ubyte.gz", shape), ("train-labels-idx1-ubyte.gz", shape[:1])):
        header = struct.pack(f">BBBB{len(sizes)}I", 0, 0, 8, len(sizes), *sizes)
        (path / name).write_bytes(gzip_bomb(header, bytes(MEBIBYTE), times))
    return [f"bomb of {times} MiB of images and of labels"]


def idx_folder_oracle(path: Path) -> Parts:
    """File by file, and the rules for what the arrays become."""
    parts, widths = [], []
    names = {entry.name.removesuffix(".gz"): entry for entry in path.iterdir()}
    for part in ("train", "t10k"):
        images = names.get(f"{part}-images-idx3-ubyte")
        if images is None and part == "t10k":
            continue
        assert images is not None
        stored = idx_oracle(names[f"{part}-labels-idx1-ubyte"])
        x, y = features_of(idx_oracle(images)), targets_of(stored)
        assert len(x) == len(y)
        parts.append(Dataset(x, y))
        widths.append(stored.shape[1] if stored.ndim == 2 and y.ndim == 1 else 0)
    assert len({(part.x.dtype, part.x.shape[1:], part.y.dtype, part.y.shape[1:]) for part in parts}) == 1
    assert 0 in widths or len(set(widths)) == 1
    return Parts(parts[0], test=parts[1] if len(parts) > 1 else None, classes=tuple(map(str, range(widths[0]))))


def _cifar(random: Random, labels: int) -> bytes:
    """A few records, of which the first bytes are labels."""
    most = {1: (10,), 2: (20, 100)}[labels]
    return b"".join(
        bytes(random.randrange(many) for many in most) + random.randbytes(3072) for _ in range(random.randint(1, 3))
    )


def _record_changes(size: int, labels: int) -> tuple[Change, ...]:
    def whole_record(random: Random, content: bytearray) -> str:
        record = random.randrange(len(content) // size + 1) * size
        kind = random.choice(("removed", "again", "of zeros", "moved to the end", "of ones"))
        taken = content[record : record + size]
        if kind in ("removed", "moved to the end"):
            del content[record : record + size]
        content += {"again": taken, "of zeros": bytes(size), "moved to the end": taken}.get(kind, b"")
        content += b"\1" * size if kind == "of ones" else b""
        return f"record at {record} {kind}"

    def label(random: Random, content: bytearray) -> str:
        place = random.randrange(len(content) // size + 1) * size + random.randrange(labels)
        if place >= len(content):
            return "no label to change"
        content[place] = random.choice((0, 1, 9, 10, 19, 20, 99, 100, 255))
        return f"label at {place} is {content[place]}"

    def off_by_one(random: Random, content: bytearray) -> str:
        length = random.randrange(4) * size + random.choice((-1, 0, 1))
        content[:] = (content + bytes(4 * size))[: max(0, length)]
        return f"cut or filled to {length} bytes"

    return (*BLIND, whole_record, whole_record, label, label, off_by_one)


def mutate_cifar(labels: int):
    size = labels + 3072
    changes = _record_changes(size, labels)

    def mutate(random: Random, path: Path) -> list[str]:
        content = _cifar(random, labels)
        done: list[str] = []
        if random.random() < 0.97:
            content = changed(random, content, changes, done)
            if random.random() < 0.02:
                content = gzipped(random, content, done)
                done.append("gzip")
            elif random.random() < 0.3 and content:
                done.append("whole records made of it")
                content = (content + bytes(size))[: max(1, len(content) // size) * size]
        return put(random, path, content, done)

    return mutate


def cifar_oracle(labels: int):
    """All records, byte by byte where they must be; labels below 10, or below 20 and 100 of which the last counts."""
    size = labels + 3072

    def oracle(path: Path) -> Dataset:
        content = path.read_bytes()
        assert content and len(content) % size == 0
        count = len(content) // size
        x = np.empty((count, 32, 32, 3), np.uint8)
        y = np.empty(count, np.int32)
        for record in range(count):
            start = record * size
            y[record] = content[start + labels - 1]
            for colour in range(3):
                plane = content[start + labels + 1024 * colour : start + labels + 1024 * (colour + 1)]
                x[record, :, :, colour] = np.frombuffer(plane, np.uint8).reshape(32, 32)
            assert content[start] < (10 if labels == 1 else 20) and y[record] < (10 if labels == 1 else 100)
        return Dataset(x, y)

    return oracle
