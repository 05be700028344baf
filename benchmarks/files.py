"""Reading the textbook's three-way JSON (row A1), and checking what was read (row A4)."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import images
from benchmarks.row import OURS, Contender, Row, Run

# As the decoder of the standard library alone takes its text, and with what turns its lists into arrays.
DECODED, CONVERTED = "json.loads alone", "json.loads and NumPy"


def rows(quick: bool) -> list[Row]:
    """MNIST's 70,000 images, 50,000 + 10,000 + 10,000 of them."""
    thousands = 1 if quick else 10
    count = 7_000 * thousands
    return [
        Row(
            group="files",
            name="JSON",
            work=f"{count:,} images of 784 floats read from nested lists",
            unit="s",
            units=1,
            operations=0,
            bytes_moved=count * 784 * 4,  # the arrays, written once
            contenders={
                OURS: Contender(functools.partial(read, thousands)),
                DECODED: Contender(functools.partial(decode, thousands)),
                CONVERTED: Contender(functools.partial(decode_and_convert, thousands)),
            },
            target=2.0,
            against=(DECODED,),
            margin=1e-5,
            rounds=3,
        ),
        Row(
            group="files",
            name="checks",
            work=f"{count:,} images of 28 x 28 bytes checked by validate",
            unit="s",
            units=1,
            operations=0,
            bytes_moved=count * 784,  # read once
            contenders={OURS: Contender(functools.partial(check, thousands))},
            seconds_target=5.0,
            rounds=3,
        ),
    ]


def write(folder: Path, thousands: int) -> Path:
    """The three parts as JSON: brightnesses from 0 to 1, labels as integers."""
    texts = np.array([str(value / 256) for value in range(256)], object)
    parts = []
    for seed, share in enumerate((5, 1, 1)):
        x, y = images(1_000 * thousands * share, seed=seed)
        lists = ", ".join(f"[{', '.join(texts[row])}]" for row in x.reshape(len(x), -1))
        parts.append(f"[[{lists}], {y.tolist()}]")
    path = folder / "mnist.json"
    path.write_text(f"[{', '.join(parts)}]")
    return path


def read(thousands: int) -> Run:
    """`nn.data.read_json`."""
    folder = tempfile.TemporaryDirectory()
    path = write(Path(folder.name), thousands)

    def run() -> float:
        import jaxnn as nn

        return value(folder, nn.data.read_json(path))

    return run


def decode(thousands: int) -> Run:
    """The standard library's nested lists."""
    folder = tempfile.TemporaryDirectory()
    path = write(Path(folder.name), thousands)
    return lambda: value(folder, json.loads(path.read_bytes()))


def decode_and_convert(thousands: int) -> Run:
    """The standard library's lists as arrays."""
    folder = tempfile.TemporaryDirectory()
    path = write(Path(folder.name), thousands)

    def run() -> float:
        parts = json.loads(path.read_bytes())
        return value(folder, [(np.array(x, np.float32), np.array(y, np.int32)) for x, y in parts])

    return run


def check(thousands: int) -> Run:
    """`nn.data.validate` on the same images in bytes; the value is how many findings there are."""
    import jaxnn as nn

    parts = (images(1_000 * thousands * share, seed=seed) for seed, share in enumerate((5, 1, 1)))
    splits = nn.data.Splits(*(nn.data.Dataset(*part) for part in parts))
    return lambda: float(len(nn.data.validate(splits, classes=10).findings))


def value(folder: tempfile.TemporaryDirectory[str], parts: Any) -> float:
    """The sum of each part's last image and labels; the folder must be there until then."""
    assert Path(folder.name).exists()
    return float(sum(float(sum(x[-1])) + sum(y) for x, y in parts))
