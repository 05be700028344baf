"""Mutated tables and nested lists of numbers, and what they hold."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from jaxnn.data import Dataset, Splits
from jaxnn.data.dataset import Parts
from tests.fuzzing.mutations import BLIND, MEBIBYTE, Change, changed, gzip_bomb, gzipped, put, unfold

_NUMBERS = (
    "0",
    "1",
    "-1",
    "2.5",
    "-0",
    "-0.0",
    "1e3",
    "1E-3",
    ".5",
    "5.",
    "+7",
    "007",
    "3.4028235e38",
    "1e-45",
    "16777217",
)
_ODD = (
    "nan", "NaN", "-nan", "inf", "-Infinity", "1e39", "1e400", "-1e400", "1e-400", "9" * 400, "9" * 5000, "0x10", "1_000",
    "1,5", "1.5.2", "1e", "e5", ".", "-", "+-1", "--1", "٣", "１", "²", "½", "true", "FALSE", "None", "NULL", "N/A", "",
    " ", "  7  ", "\t7", "7\v", "\u00a07", "'7'", '"7"', '"7', '7"8', '""', '"1\n2"', "=1+2", "=cmd|' /C calc'!A0",
    "@SUM(1)", "+1+1", "2024-01-31", "12:30", "1/2", "$5", "5%", "1 000", "\0", "\x1b[31mred", "\r", "\u2028", "é" * 300,
    "x" * 3000, "#", ";", "\ufeff1", "\u202e1", "1\u200b", "3.40282356779733661637539395458e38", "3.4028236e38",
)  # fmt: skip


def _csv_seed(random: Random, separator: str) -> str:
    label = random.choice(("label", "target", "class", "y", "Label", "CLASS"))
    names = [*random.sample(("a", "b", "width", "x 1", '"q,r"', "größe"), random.randint(0, 2)), "c", "d", label]
    random.shuffle(names)
    kind = random.choice(("text", "whole", "decimal", "few"))
    labels = {
        "text": ("cat", "dog", "other"),
        "whole": ("0", "1", "7", "-3"),
        "decimal": _NUMBERS,
        "few": ("1", "01", "2", "+2", "10"),
    }[kind]
    rows = [
        [random.choice(labels) if name == label else random.choice(_NUMBERS) for name in names]
        for _ in range(random.choice((1, 4, 8, 12, 30)))
    ]
    if kind in ("text", "whole") and len(rows) > 1:  # of one class alone there is nothing to learn
        for row, text in zip(rows, labels, strict=False):
            row[names.index(label)] = text
    end = random.choice(("\n", "\n", "\r\n", "\r"))
    text = end.join(separator.join(row) for row in [names, *rows])
    return text + random.choice((end, "", end * 3))


def _change_cell(random: Random, content: bytearray) -> str:
    text = content.decode("utf-8", "surrogateescape")
    separator = "\t" if "\t" in text.split("\n")[0] else ","
    lines = text.split("\n")
    number = random.randrange(len(lines))
    cells = lines[number].split(separator)
    place = random.randrange(len(cells))
    kind = random.choice(("odd", "odd", *["number"] * 6, "removed", "again", *["quoted", "spaced"] * 2))
    if kind == "odd":
        cells[place] = random.choice(_ODD)
    elif kind == "number":
        cells[place] = random.choice(_NUMBERS)
    elif kind == "removed":
        del cells[place]
    elif kind == "again":
        cells.insert(place, cells[place])
    elif kind == "quoted":
        cells[place] = '"' + cells[place] + '"'
    else:
        cells[place] = random.choice((" ", "\t", "  ")) + cells[place] + random.choice((" ", "\t", ""))
    shown = cells[place][:40] if place < len(cells) else ""
    lines[number] = separator.join(cells)
    content[:] = "\n".join(lines).encode("utf-8", "surrogateescape")
    return f"cell {place} of line {number + 1} {kind}: {shown!r}"


def _change_line(random: Random, content: bytearray) -> str:
    lines = bytes(content).split(b"\n")
    number = random.randrange(len(lines))
    kind = random.choice(("removed", "again", "blank", "moved", "joined", "semicolons", "header again"))
    if kind == "removed":
        del lines[number]
    elif kind == "again":
        lines[number:number] = [lines[number]] * random.choice((1, 5, 40))
    elif kind == "blank":
        lines.insert(number, random.choice((b"", b"  ", b",", b'""', b"\r")))
    elif kind == "moved":
        lines.insert(random.randrange(len(lines)), lines.pop(number))
    elif kind == "joined":
        lines[number : number + 2] = [b"".join(lines[number : number + 2])]
    elif kind == "semicolons":
        lines[number] = lines[number].replace(b",", b";")
    else:
        lines.insert(number, lines[0])
    content[:] = b"\n".join(lines)
    return f"line {number + 1} {kind}"


def _encoded(random: Random, content: bytearray) -> str:
    text = content.decode("utf-8", "replace")
    name = random.choice(("utf-8-sig", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037"))
    content[:] = text.encode(name, "replace")
    return f"encoded as {name}"


def mutate_csv(separator: str) -> Callable[[Random, Path], list[str]]:
    changes: tuple[Change, ...] = (*BLIND, *[_change_cell] * 20, *[_change_line] * 5, _encoded)

    def mutate(random: Random, path: Path) -> list[str]:
        content = _csv_seed(random, separator).encode()
        done: list[str] = []
        if random.random() < 0.97:
            content = changed(random, content, changes, done, most=5)
            if random.random() < 0.2:
                content = gzipped(random, content, done)
        else:
            done.append("none, but few rows or another kind of labels may be refused")
        return put(random, path, content, done)

    return mutate


def csv_bomb(separator: str) -> Callable[[Random, Path], list[str]]:
    def bomb(random: Random, path: Path) -> list[str]:
        content = _csv_seed(random, separator).encode()
        row = separator.join("1" for _ in range(content.split(b"\n")[0].count(separator.encode()) + 1)).encode()
        one_row = "Ā,".encode() * 1000 + b'"\n",'
        filling, times = random.choice(
            ((row + b"\n", 400), (b"7", 400), (b" ", 400), (b"\n", 300), (b'"', 300), (one_row, 60), (b"7,", 60))
        )
        path.write_bytes(gzip_bomb(content, filling * (MEBIBYTE // len(filling)), times))
        return [f"bomb of {times} MiB of {filling[:20]!r}"]

    return bomb


def _table(path: Path, separator: str) -> tuple[list[str], list[list[str]]]:
    text = unfold(path).decode("utf-8").removeprefix("\ufeff")
    assert "\0" not in text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    rows = list(reader)
    while rows and not "".join(rows[-1]).strip(" \t") and len(rows[-1]) < 2:
        rows.pop()
    names = [name.strip(" \t") for name in rows[0]]
    assert all(names) and len(set(names)) == len(names)
    assert all(len(row) == len(names) for row in rows) and len(rows) > 1
    return names, rows[1:]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return bool(text) and set(text) <= set("0123456789+-.eE")


def _float32(numbers: list[list[float]]) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = np.array(numbers, np.float64).astype(np.float32)
    assert np.isfinite(array).all() and array.size
    return array


def _features(names: list[str], rows: list[list[str]], columns: list[str]) -> np.ndarray:
    cells = [[row[names.index(column)].strip(" \t") for column in columns] for row in rows]
    assert all(_is_number(cell) for row in cells for cell in row)
    return _float32([[float(cell) for cell in row] for row in cells])


def csv_features_oracle(path: Path) -> np.ndarray:
    names, rows = _table(path, "\t")
    return _features(names, rows, ["d", "c"])


def csv_oracle(task: str | None) -> Callable[[Path], Parts]:
    def oracle(path: Path) -> Parts:
        names, rows = _table(path, ",")
        (label,) = [name for name in names if name.lower() in ("label", "target", "class", "y")]
        columns = [name for name in names if name != label]
        x = _features(names, rows, columns)
        cells = [row[names.index(label)].strip(" \t") for row in rows]
        assert all(cells)
        whole = all(cell.lstrip("+-").isdecimal() and _is_number(cell) for cell in cells)
        if all(map(_is_number, cells)) and task != "classification":
            different = {int(cell) for cell in cells} if whole else set()
            few = whole and len(different) <= 20 and len(cells) >= 5 * len(different)
            if not few or task == "regression":
                y = _float32([[float(cell)] for cell in cells])
                return Parts(Dataset(x, y), targets=(label,), columns=tuple(columns))
        assert task != "regression", "texts are no numbers to predict"
        assert task or whole or not any(map(_is_number, cells)), "a text among numbers, or numbers among texts"
        assert task or not {"nan", "NaN", "NA", "?", "null", "N/A"} & set(cells), "a missing label"
        if all(map(_is_number, cells)):
            cells = [cell.partition(".")[0] if not cell.partition(".")[2].strip("0") else cell for cell in cells]
        whole = all(_is_number(cell) and float(cell).is_integer() and "." not in cell for cell in cells)
        values = [int(cell) for cell in cells] if whole else cells
        classes = sorted(set(values))  # type: ignore[type-var]
        y = np.array([classes.index(value) for value in values], np.int32)  # type: ignore[arg-type]
        return Parts(Dataset(x, y), classes=tuple(map(str, classes)), columns=tuple(columns))

    return oracle


_PLAIN = ("0", "1", "0.5", "255", "-1", "1e-3", "1E+2", "-0.0", "3.4028235e38", "16777217", "0.1")


def _json_seed(random: Random) -> str:
    width = random.randint(1, 5)

    def part() -> str:
        count = random.randint(1, 3)
        rows = (f"[{', '.join(random.choice(_PLAIN) for _ in range(width))}]" for _ in range(count))
        labels = (random.choice(("0", "1", "9", "9999", "-0")) for _ in range(count))
        return f"[[{', '.join(rows)}], [{', '.join(labels)}]]"

    text = f"[{', '.join(part() for _ in range(3))}]"
    if random.random() < 0.2:
        text = text.replace(", ", random.choice((",", ",\n ", " \t,\r\n")))
    return text + random.choice(("", "\n"))


def _change_token(random: Random, content: bytearray) -> str:
    """A number, a bracket or a comma is another, is gone or is there again."""
    text = content.decode("utf-8", "surrogateescape")
    tokens: list[str] = []
    for character in text:
        if tokens and character not in "[], \n" and tokens[-1] not in "[], \n":
            tokens[-1] += character
        else:
            tokens.append(character)
    if not tokens:
        return "nothing to change"
    kind = random.choice(
        ("odd", "odd", *["number"] * 6, "spaced", "spaced", "removed", "again", "other", "swapped", "list", "deep")
    )
    places = [i for i, token in enumerate(tokens) if token not in "[], \n"] if kind in ("odd", "number", "list") else []
    place = random.choice(places) if places else random.randrange(len(tokens))
    shown = tokens[place]
    if kind == "number":
        tokens[place] = shown = random.choice((*_PLAIN, "12", "7", "0e5", "1E2", "4.25", "1e-60", "123456789"))
    elif kind == "spaced":
        tokens[place] += random.choice((" ", "\n", "\t\r\n", " " * 70_000))
    elif kind == "odd":
        tokens[place] = random.choice(
            (
                *_NUMBERS,
                *_ODD,
                "null",
                "true",
                "{}",
                "[]",
                '"7"',
                "01",
                "1.",
                "-",
                "10000",
                "-1",
                "1.0",
                "3e0",
                "Infinity",
            )
        )
        shown = tokens[place][:40]
    elif kind == "removed":
        del tokens[place]
    elif kind == "again":
        tokens.insert(place, tokens[place])
    elif kind == "other":
        tokens[place] = random.choice(("[", "]", ",", "{", "}", ":", '"', " ", "", "//", "[[", "]]", ",,", "[1]"))
        shown = tokens[place]
    elif kind == "swapped":
        other = random.randrange(len(tokens))
        tokens[place], tokens[other] = tokens[other], tokens[place]
    elif kind == "list":
        tokens[place] = f"[{tokens[place]}]"
    else:
        tokens[place] = "[" * random.choice((3, 100, 100_000)) + tokens[place]
        shown = ""
    content[:] = "".join(tokens).encode("utf-8", "surrogateescape")
    return f"token {place} {kind} {shown!r}"


def mutate_json(random: Random, path: Path) -> list[str]:
    content = _json_seed(random).encode()
    done: list[str] = []
    if random.random() < 0.97:
        changes: tuple[Change, ...] = (*BLIND, *[_change_token] * 30, _encoded)
        content = changed(random, content, changes, done)
        if random.random() < 0.3:
            content = gzipped(random, content, done)
    return put(random, path, content, done)


def json_bomb(random: Random, path: Path) -> list[str]:
    fillings = (b"[1,2,3],", b"1,", b"[", b" ", b"9", b"[0],", b"0.0000000,")
    filling, times = random.choice(fillings), random.choice((30, 240, 400))
    beginning = random.choice((b"[[[", b"[[[[", b"[[[[1,2,3],", b"[[[[0],", b"[[[[1]],["))
    path.write_bytes(gzip_bomb(beginning, filling * (MEBIBYTE // len(filling)), times, b"[1]]"))
    return [f"bomb of {times} MiB of {filling!r} after {beginning!r}"]


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} is no number")


def json_oracle(path: Path) -> Splits:
    # A whole number is left as its text in a tuple: an int forgets that a zero is negative.
    stored = json.loads(unfold(path), parse_constant=_no_constant, parse_int=lambda text: (text,))
    assert len(stored) == 3
    datasets = []
    for images, labels in stored:
        assert type(images) is type(labels) is list and all(type(row) is list for row in images)
        x = _float32([[_number(number) for number in row] for row in images])
        assert all(type(label) is tuple and 0 <= int(label[0]) < 10_000 for label in labels)
        assert x.ndim == 2 and len(x) == len(labels) and x.shape[1:] == (datasets or [Dataset(x, x)])[0].x.shape[1:]
        datasets.append(Dataset(x, np.array([int(label[0]) for label in labels], np.int32)))
    return Splits(*datasets)


def _number(stored: object) -> float:
    assert isinstance(stored, float | tuple)
    return stored if isinstance(stored, float) else float(stored[0])
