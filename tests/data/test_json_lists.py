"""MNIST as nested lists in JSON: the arrays that `json.loads` gives, from texts cut anywhere; others are refused."""

import gzip
import itertools
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn.data.json_lists as json_lists
from jaxnn.data import DataError
from jaxnn.data.json_lists import read_json
from tests.conftest import REAL_DATA

BLANK = st.text(" \t\n\r", max_size=2)
NUMBER = st.one_of(
    st.sampled_from(["1", "1.0", "1e0", "-0.0", "-0", "1E+2", "1e-400", "3.4028234e38", "0.1", "16777217", "9" * 30]),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(json.dumps),
    st.integers(-(2**70), 2**70).map(str),
)


@st.composite
def texts(draw):
    """Texts of the three parts with any blanks, as the parts' tokens with blanks between."""
    width = draw(st.integers(1, 3))

    def joined(items):
        tokens = ["["]
        for i, item in enumerate(items):
            tokens += [","] * (i > 0) + item
        return [*tokens, "]"]

    parts = []
    for _ in range(3):
        count = draw(st.integers(1, 3))
        rows = [joined([[draw(NUMBER)] for _ in range(width)]) for _ in range(count)]
        labels = [[str(draw(st.integers(0, 9999)))] for _ in range(count)]
        parts.append(joined([joined(rows), joined(labels)]))
    tokens = joined(parts)
    return "".join(token + draw(BLANK) for token in ["", *tokens])


def from_pieces(text, sizes=(), limit=2**28):
    """What is read from the text cut into pieces of these sizes, in turn; whole if there are none."""

    def pieces():
        at = 0
        for size in itertools.cycle(sizes or [len(text) or 1]):
            if at >= len(text):
                return
            yield text[at : at + size]
            at += size

    return json_lists._splits(json_lists._Text(Path("file"), pieces()), limit)


def assert_as_the_standard_library(splits, text):
    for (x, y), (images, labels) in zip(splits, json.loads(text), strict=True):
        np.testing.assert_array_equal(x, np.array(images, np.float64).astype(np.float32), strict=True)
        np.testing.assert_array_equal(y, np.array(labels, np.int32), strict=True)


@settings(max_examples=80, deadline=None)
@given(text=texts(), sizes=st.lists(st.integers(1, 40), max_size=3))
def test_as_json_and_numpy_from_pieces_of_any_size(text, sizes):
    assert_as_the_standard_library(from_pieces(text.encode(), sizes), text)


@pytest.mark.parametrize("gzipped", [False, True])
def test_files_cut_into_pieces_anywhere(gzipped, tmp_path, monkeypatch):
    text = json.dumps([[[[0.25, 1.0], [7, 2e-3]], [3, 0]], [[[1, 1]], [2]], [[[0, 0.5]], [9]]], indent=1)
    path = tmp_path / "three.json"
    path.write_bytes(gzip.compress(text.encode()) if gzipped else text.encode())
    for chunk in (1, 2, 3, 7, 2**20):
        monkeypatch.setattr("jaxnn.data._files._CHUNK", chunk)
        assert_as_the_standard_library(read_json(path), text)


ROWS = "[[[0, 1], [2, 3]], [4, 5]]"
PART = "[[[6, 7]], [8]]"
GOOD = f" [{ROWS}, {PART}, {PART}]"


def with_row(row):
    """The good text with another second row in the training images; it begins at byte 12."""
    return GOOD.replace("[2, 3]", row)


def with_labels(labels):
    """The good text with other training labels; they begin at byte 21."""
    return GOOD.replace("[4, 5]", labels)


REFUSED = [
    ("", r"byte 0: expected '\[' that opens the three parts, .*; found the end of the text"),
    (" \n", "byte 2: expected '\\[' that opens the three parts"),
    ("\ufeff" + GOOD, r"byte 0: expected '\[' that opens the three parts, .*; found '\\xef'"),
    ('{"x": 1}', "byte 0: .* found '{'"),
    ("\f" + GOOD, r"byte 0: .* found '\\x0c'"),
    (" \v" + GOOD, r"byte 1: .* found '\\x0b'"),
    ("null", "byte 0: .* found 'n'"),
    ("[]", r"byte 1: expected '\[' that opens the training part, \[images, labels\]; found '\]'"),
    ("[[]]", r"byte 2: expected '\[' that opens the training images; found '\]'"),
    ("[[[], []]]", "byte 3: the training part has no images"),
    (f" [{ROWS}]", "byte 28: expected ',' and the validation part; found ']'"),
    (f" [{ROWS}, {PART}]", "byte 45: expected ',' and the test part; found ']'"),
    (f" [{ROWS}, {PART}, {PART}, {PART}]", "byte 62: expected ']' that closes the three parts; found ','"),
    (f" [{ROWS}, {PART}, [[[6, 7]]]]", "expected ',' between the test images and their labels; found ']'"),
    (f" [{ROWS}, {PART}, [[[6, 7]], [8], [8]]]", "expected ']' that closes the test part, .*; found ','"),
    (f" [{ROWS}, [[], []], {PART}]", "byte 32: the validation part has no images"),
    (f" [{ROWS}, [[[6]], [8]], {PART}]", "byte 32: row 0 of the validation images has 1 numbers; expected 2"),
    (f" [{ROWS}, [[[6, 7]], []], {PART}]", "the validation part has 1 images and 0 labels"),
    (GOOD + "x", "byte 63: expected the end of the text; found 'x'"),
    (GOOD + "\n" + GOOD, r"byte 65: expected the end of the text; found '\['"),
    (GOOD + "\0", "byte 63: expected the end of the text"),
    (GOOD[:-1], "byte 62: expected ']' that closes the three parts; found the end of the text"),
    (GOOD[:15], "byte 15: is truncated: the text ends within row 1 of the training images"),
    (GOOD[:23], "byte 23: is truncated: the text ends within the training labels"),
    (with_row("[]"), "byte 12: row 1 of the training images has 0 numbers; expected 2"),
    (f"[[[[], []], [4, 5]], {PART}, {PART}]", "byte 3: row 0 of the training images has 0 numbers; expected some"),
    (with_row("[2]"), "byte 12: row 1 of the training images has 1 numbers; expected 2"),
    (with_row("[2, 3, 4]"), "byte 12: row 1 of the training images has 3 numbers; expected 2"),
    (with_row("2"), r"byte 12: expected '\[' that opens row 1 of the training images; found '2'"),
    (with_row("2[, 3]"), r"byte 12: expected '\[' that opens row 1 of the training images; found '2'"),
    (with_row("2[, 3], [2, 3]"), r"byte 12: expected '\[' that opens row 1 of the training images; found '2'"),
    (
        "[[[[1], 2[], [3]], [4, 5, 6]], [[[1]], [8]], [[[1]], [8]]]",
        r"byte 8: expected '\[' that opens row 1 .*; found '2'",
    ),
    (with_row("[2, 3],"), r"byte 19: expected '\[' that opens row 2 .*; found '\]'"),
    (with_row("[2, 3] [2, 3]"), r"byte 19: expected ',' or '\]' after row 1 of the training images; found '\['"),
    (with_row("[2, true]"), "byte 16: expected numbers in row 1 of the training images; found 't'"),
    (with_row("[null, 2]"), "byte 13: .* found 'n'"),
    (with_row("[2, NaN]"), "byte 16: .* found 'N'"),
    (with_row("[2, Infinity]"), "byte 16: .* found 'I'"),
    (with_row("[2, -Infinity]"), "byte 17: .* found 'I'"),
    (with_row('[2, "3"]'), "byte 16: .* found '\"'"),
    (with_row('[2, "]"]'), "byte 16: .* found '\"'"),
    (with_row("[2, {}]"), "byte 16: .* found '{'"),
    (with_row("[2, [3]]"), r"byte 16: expected numbers in row 1 of the training images; found '\['"),
    (with_row("[[2, 3]]"), r"byte 13: .* found '\['"),
    (with_row("[2, 1_0]"), "byte 17: .* found '_'"),
    (with_row("[2, 0x1]"), "byte 17: .* found 'x'"),
    (with_row("[2,\f3]"), r"byte 15: .* found '\\x0c'"),
    (with_row("[2, 3é]"), r"byte 17: .* found '\\xc3'"),
    (with_row("[2, ١]"), r"byte 16: .* found '\\xd9'"),
    (with_row("[2, 03]"), "byte 17: row 1 of the training images is no list of numbers as JSON writes them"),
    (with_row("[2 3]"), "byte 15: row 1 .* is no list of numbers"),
    (with_row("[2, 3,]"), "row 1 .* is no list of numbers"),
    (with_row("[,2, 3]"), "row 1 .* is no list of numbers"),
    (with_row("[2, +3]"), "row 1 .* is no list of numbers"),
    (with_row("[2, .3]"), "row 1 .* is no list of numbers"),
    (with_row("[2, 3.]"), "row 1 .* is no list of numbers"),
    (with_row("[2, -]"), "row 1 .* is no list of numbers"),
    (with_row("[2, 1e]"), "row 1 .* is no list of numbers"),
    (with_row("[2, 1e999]"), "byte 12: number 1 in row 1 of the training images is inf; float32 cannot hold it"),
    (with_row("[-1e39, 0]"), r"byte 12: number 0 in row 1 of the training images is -1e\+39; float32 cannot hold it"),
    (with_row(f"[2, {10**400}]"), "number 1 in row 1 of the training images is inf; float32 cannot hold it"),
    (with_row(f"[2, {'9' * 10_000}]"), "number 1 in row 1 of the training images is inf; float32 cannot hold it"),
    (with_row("[" * 10_000), r"byte 13: .* found '\['"),
    (with_labels("4, 5"), r"byte 21: expected '\[' that opens the training labels; found '4'"),
    (with_labels("[4, 5.0]"), "byte 21: number 1 in the training labels is 5.0; a label is a whole number"),
    (with_labels("[4, 5e0]"), "number 1 in the training labels is 5.0; a label is a whole number"),
    (with_labels("[4, -1]"), "byte 21: number 1 in the training labels is -1; labels are 0 to 9999"),
    (with_labels("[10000, 1]"), "number 0 in the training labels is 10000; labels are 0 to 9999"),
    (with_labels(f"[{10**30}, 1]"), "number 0 in the training labels is 10000000000000000000; labels are"),
    (with_labels(f"[4, {'9' * 10_000}]"), "byte 21: the training labels holds a number of too many digits"),
    (with_labels("[4, true]"), "byte 25: expected numbers in the training labels; found 't'"),
    (with_labels("[4, [5]]"), r"byte 25: expected numbers in the training labels; found '\['"),
    (with_labels("[[0, 1], [1, 0]]"), r"byte 22: expected numbers in the training labels; found '\['"),
    (with_labels("[4]"), "the training part has 2 images and 1 labels; they must be as many"),
    (with_labels("[4, 5, 6]"), "the training part has 2 images and 3 labels; they must be as many"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=range(len(REFUSED)))
def test_other_texts_are_refused(text, sentence):
    for sizes in ((), (5,)):
        with pytest.raises(DataError, match=f"^file: (byte [0-9]+: )?{sentence}"):
            from_pieces(text.encode(), sizes)


def test_a_long_row_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(json_lists, "_LONGEST_LIST", 20)
    monkeypatch.setattr(json_lists, "_AT_ONCE", 20)
    row = "[0, 1, 2, 3, 4, 5.0]"
    assert len(row) == 20
    fits = f"[[[{row}], [1]], [[{row}], [1]], [[{row}], [1]]]"
    assert_as_the_standard_library(from_pieces(fits.encode()), fits)
    head, tail = fits.rsplit(f"[[{row}], [1]], [[", 1)
    longer = f"{head}[[{row[:-1]} ]], [1]], [[{tail}"
    for sizes in ((), (1,), (7,)):
        with pytest.raises(
            DataError, match=f"byte {len(head) + 2}: row 0 of the validation images has more than 20 bytes"
        ):
            from_pieces(longer.encode(), sizes)

    def endless():
        yield b"[[["
        for _ in range(5):
            yield b"[0, 1, 2, 3, "
        raise AssertionError("read on")

    with pytest.raises(DataError, match="byte 3: row 0 of the training images has more than 20 bytes"):
        json_lists._splits(json_lists._Text(Path("file"), endless()), 2**28)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("[7, -0, 1e-2]", None),
        ("[7, 8, 16777217]", None),
        (f"[1, 2, {10**30}]", None),
        ("[ 1,\n2 ,\t3 ] \r\n", None),
        ("[1, 2]", "byte 10: row 1000 of the training images has 2 numbers; expected 3"),
        ("[]", "byte 10: row 1000 of the training images has 0 numbers; expected 3"),
        ("[1, 2, 1e39]", "byte 10: number 2 in row 1000 of the training images is 1e\\+39; float32 cannot hold it"),
        (f"[1, 2, {'9' * 5000}]", "byte 10: number 2 in row 1000 of the training images is inf"),
        ("[1, 2, 03]", "byte 18: row 1000 of the training images is no list of numbers"),
        ("[1, 2, 3 4]", "byte 19: row 1000 of the training images is no list of numbers"),
        ("[1, 2, NaN]", "byte 17: expected numbers in row 1000 of the training images; found 'N'"),
        ("[1, 2, 3]4", "byte 19: expected ',' or ']' after row 1000 of the training images; found '4'"),
        ("4[1, 2, 3]", "byte 10: expected '\\[' that opens row 1000 of the training images; found '4'"),
        ("4[, 2, 3]", "byte 10: expected '\\[' that opens row 1000 of the training images; found '4'"),
        ("[1, 2, ]3", "byte 17: row 1000 of the training images is no list of numbers"),
        ("[1, 2, 3][1, 2, 3]", "byte 19: expected ',' or ']' after row 1000 of the training images; found '\\['"),
    ],
)
def test_many_rows_at_once_are_read_as_one_by_one(row, sentence):
    before = "[[[" + "[5, 6, 0.5]," * 1000
    text = f"{before}{row},[5, 6, 7]], {[3] * 1002}], [[[1, 2, 3]], [4]], [[[1, 2, 3], [4, 5, 6]], [5, 6]]]"
    if sentence is None:
        read = from_pieces(text.encode(), sizes=(5000,))
        assert_as_the_standard_library(read, text)
        np.testing.assert_array_equal(np.signbit(read.train.x[1000]), [False, "-" in row.partition("e")[0], False])
        return
    place, said = sentence.removeprefix("byte ").split(": ", 1)
    for sizes in ((), (5000,)):
        with pytest.raises(DataError, match=f"^file: byte {len(before) + int(place) - 10}: {said}"):
            from_pieces(text.encode(), sizes)


def test_an_empty_row_of_one_column_is_refused():
    with pytest.raises(DataError, match="byte 7: row 1 of the training images has 0 numbers; expected 1"):
        from_pieces(b"[[[[1],[]], [1, 2]], [[[1]], [4]], [[[1]], [4]]]")


def test_rows_are_decoded_together(monkeypatch):
    """One by one, what unfolds from a small file would take minutes."""
    text = f"[[[{', '.join(['[1, 2]'] * 5000)}], {[3] * 5000}], [[[1, 2]], [4]], [[[1, 2]], [4]]]"
    singly = []
    monkeypatch.setattr(json_lists, "_row", lambda *row, one=json_lists._row: singly.append(1) or one(*row))
    assert_as_the_standard_library(from_pieces(text.encode(), sizes=(10_000,)), text)
    assert 1 <= len(singly) <= 10


def test_arrays_are_bounded_by_the_file():
    # Two rows of two float32 numbers are 16 bytes, and one more row in each other part.
    assert_as_the_standard_library(from_pieces(GOOD.encode(), limit=32), GOOD)
    for limit, row in ((31, "row 0 of the test"), (23, "row 0 of the validation"), (15, "row 1 of the training")):
        with pytest.raises(DataError, match=f"{row} images is one too many: so small a file may hold"):
            from_pieces(GOOD.encode(), limit=limit)


def test_gzip_is_followed_to_its_end(tmp_path):
    path = tmp_path / "three.json.gz"
    good = gzip.compress(GOOD.encode())
    for content, sentence in (
        (good[:-9], "is truncated: the gzip stream has no end"),
        (good[:-8] + b"\0\0\0\0" + good[-4:], "is corrupt: gzip says"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            read_json(path)
    with pytest.raises(DataError, match="missing: no such file"):
        read_json(tmp_path / "missing")
    with pytest.raises(DataError, match="is no file, but a folder"):
        read_json(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_texts_give_the_arrays_or_a_data_error(data):
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 3))
        text[at : at + length] = data.draw(
            st.sampled_from([b"", b"[", b"]", b",", b"1", b"-", b".", b"e9", b" ", b"\xff"])
        )
    try:
        splits = from_pieces(bytes(text))
    except DataError:
        return
    assert_as_the_standard_library(splits, text.decode())


def test_memory_holds_the_arrays_and_a_piece_of_the_text(tmp_path):
    row = json.dumps([round(i / 255, 4) for i in range(250)])
    rows, labels = ", ".join([row] * 300), json.dumps([7] * 300)
    path = tmp_path / "three.json.gz"
    path.write_bytes(gzip.compress(f"[[[{rows}], {labels}], [[{row}], [7]], [[{row}], [7]]]".encode(), 1))
    tracemalloc.start()
    splits = read_json(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    array = 300 * 250 * 4
    assert splits.train.x.nbytes == array
    assert kept < 1.1 * array + 100_000
    assert peak < 3.5 * array + 2 * 2**20  # what was reserved in advance, and pieces of a MiB


def test_the_real_file_of_the_course():
    path = REAL_DATA / "mnist_json" / "mnist_5000_1000_1000.json.gz"
    if not path.is_file():
        pytest.skip(f"the textbook's JSON file is not here: put it at {path}, or set JAXNN_TEST_DATA")
    splits = read_json(path)
    assert [part.x.shape for part in splits] == [(5000, 784), (1000, 784), (1000, 784)]
    for x, y in splits:
        assert x.dtype == np.float32 and y.dtype == np.int32
        np.testing.assert_array_equal(x, (np.rint(x * 255.0) / 255).round(4).astype(np.float32))
        assert set(y.tolist()) == set(range(10))
    # MNIST's first digits, and the mean pixel as it is known.
    assert splits.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert splits.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert abs(splits.train.x.mean() - 0.1307) < 0.003
