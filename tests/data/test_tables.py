"""Tables: what is written is read, cell by cell; what is no number, no class and no table is refused with its line."""

import csv
import gzip
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxnn.data import DataError
from jaxnn.data._files import TEXT, unfolded
from jaxnn.data.tables import read_csv, read_csv_features

RANDOM = np.random.default_rng(0)


def written(folder, content, name="table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        read_csv(path, **options)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize(
    ("name", "ending", "encoding"),
    [
        ("table.csv", "\n", "utf-8"),
        ("TABLE.CSV", "\r\n", "utf-8-sig"),
        ("table.tsv", "\n", "utf-8-sig"),
        ("table.csv.gz", "\r\n", "utf-8"),
        ("table.tsv.gz", "\r\n", "utf-8-sig"),
        ("table.csv", "\r", "utf-8"),
    ],
)
def test_round_trip(name, ending, encoding, quoting, tmp_path):
    values = (RANDOM.normal(size=(60, 2)) * 10.0 ** RANDOM.integers(-30, 30, (60, 2))).astype(np.float32)
    classes = sorted(["'", 'b"b', "b,b", "b b", "é"])
    labels = [*range(len(classes)), *RANDOM.integers(0, len(classes), 60 - len(classes))]
    text = io.StringIO(newline="")
    delimiter = "\t" if "tsv" in name.lower() else ","
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(["width, in mm", "label", 'length "in mm"'])
    writer.writerows([a, classes[label], b] for (a, b), label in zip(values, labels, strict=True))
    content = text.getvalue().encode(encoding)
    parts = read_csv(written(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name))
    assert (parts.train.x.dtype, parts.train.y.dtype) == (np.float32, np.int32)
    assert (parts.validation, parts.test, parts.targets) == (None, None, ())
    assert (parts.classes, parts.columns) == (tuple(classes), ("width, in mm", 'length "in mm"'))
    np.testing.assert_array_equal(parts.train.x, values)
    np.testing.assert_array_equal(parts.train.y, labels)


def test_many_rows_are_converted_in_blocks_and_their_lines_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnn.data.tables._BLOCK", 64)
    x = RANDOM.normal(size=(2000, 3)).astype(np.float32)
    lines = ["a,b,c,y", *(",".join(map(str, [*row, number / 2])) for number, row in enumerate(x.tolist()))]
    parts = read_csv(written(tmp_path, "\n".join(lines)))
    np.testing.assert_array_equal(parts.train.x, x)
    np.testing.assert_array_equal(parts.train.y, np.arange(2000, dtype=np.float32)[:, None] / 2)
    assert (parts.classes, parts.targets) == ((), ("y",))
    lines[1500] = "1,-4e38,3,4"
    assert refusal(written(tmp_path, "\n".join(lines))) == (
        "line 1501, column 'b' holds a number beyond float32's largest, 3.4e38"
    )


def test_lines_that_pieces_of_the_file_cut_through_are_whole(tmp_path, monkeypatch):
    content = 'é,y\r\n1,"a\r\nb"\r\n2,c\r\n3,c\r\n4,c\r\n\r\n'.encode()
    for length in (1, 2, 3, 7):
        pieces = [content[start : start + length] for start in range(0, len(content), length)]
        monkeypatch.setattr("jaxnn.data.tables.unfolded", lambda path, least, pieces=pieces: iter(pieces))
        np.testing.assert_array_equal(read_csv_features(tmp_path / "table.csv", ("é",))[:, 0], [1, 2, 3, 4])


@pytest.mark.parametrize(
    "text", ["1", "+1", "-1.", ".5", "1e5", "1.5E-3", "  2\t", "-0", "007", "1e-99", "3.4028235e38"]
)
def test_plain_decimal_numbers_are_read(text, tmp_path):
    x = read_csv_features(written(tmp_path, f"a,b\n{text},0\n"), ("a",))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.float32([[float(text)]]))


@settings(max_examples=80, deadline=None)
@given(st.text(st.sampled_from("0123456789+-.eE \t_xanif１∞"), max_size=6))
@example("1_000")
@example("nan")
@example("inf")
@example("１２")
@example("0x10")
@example("=1+1")
@example("True")
@example("2024-01-01")
@example("")
@example("1e")
@example(".")
@example("1 2")
@example("\xa01")
@example("1\x0b")
@example("é" * 100)
def test_a_cell_is_a_number_by_its_grammar_alone(tmp_path_factory, text):
    """The grammar written once more, without regular expressions."""

    def digits(part):
        return all(character in "0123456789" for character in part)

    mantissa, e, exponent = text.strip(" \t").replace("E", "e").partition("e")
    mantissa, exponent = (part[1:] if part[:1] in ("+", "-") else part for part in (mantissa, exponent))
    whole, _, fraction = mantissa.partition(".")
    plain = whole + fraction != "" and digits(whole + fraction) and digits(exponent) and (exponent != "") == (e != "")
    path = written(tmp_path_factory.getbasetemp(), f'a,b\n1,2\n3,"{text}"\n', "grammar.csv")
    if plain and float(text) < 3e38:
        assert read_csv_features(path, ("b", "a"))[1].tolist() == [np.float32(float(text)), 3]
        return
    with pytest.raises(DataError, match=r"line 3, column 'b' (is empty|holds)") as caught:
        read_csv_features(path, ("b", "a"))
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,y\n", "has a header line and no rows"),
        ("\na,y\n1,2\n", "line 1 is blank"),
        ("a,y\n1,2\n\n3,4\n", "line 3 is blank; expected blank lines at the end alone"),
        ("1,2.5\n3,4\n", "has no header line"),
        ("a,,y\n1,2,3\n", "column 2 has no name"),
        ("a,b, a ,y\n1,2,3,4\n", "two columns are called 'a'"),
        ("y\n1\n", "has no column besides 'y'"),
        ("a;b;y\n1,5;2;3\n", "has semicolons between its columns; save it with tabs as .tsv, with commas as .csv"),
        ("a\tb\ty\n1\t2\t3\n", "has tabs between its columns"),
        ("a,b\n1,2\n", "none of 'a', 'b' is called the column to predict; name it with label=… (--label-column)"),
        ("Y,Target\n1,2\n", "both 'Y' and 'Target' may be the column to predict; name it"),
        ("a,y\n1,2\n3,4,5\n", "line 3 has 3 cells; expected 2"),
        ('y,a\np,"2\n"\n', "line 2, column 'a' holds '2\\n'; expected a plain decimal number"),
        ('y,a\n"p\nq",2\n', "line 2, column 'y' holds 'p\\nq', with characters that cannot be printed"),
        ("a,y\n1,\x1b[31mred\n", "line 2, column 'y' holds '\\x1b[31mred', with characters that cannot be printed"),
        ('y,"a\nb"\n1,2\n', "column 2 is called 'a\\nb'; expected a name that can be printed"),
        (
            ",y\n0,1\n",
            "column 1 has no name in the header line; if it is the index that pandas writes, write the table",
        ),
        ("a,y\n1,2\n" + "\n" * 1001 + "1,2\n", "line 3 is blank, and so are the 1,000 lines after it"),
        ('a,y\n1,"2\n3,4\n', "line 2 cannot be read"),
        ('a,y\n1,"2"3\n', "line 2 cannot be read"),
        (f"a,y\n1,{'x' * 200_000}\n", "line 2 cannot be read"),
        (f"a,y\n1,{'x' * 201}\n", f"line 2, column 'y' holds '{'x' * 39}…', 201 characters; expected a label of"),
        ("a,y\n1,2\n1,\n", "line 3, column 'y' is empty; expected a label"),
        ("a,y\n1,2\n ,3\n", "line 3, column 'a' is empty; expected a plain decimal number"),
        ("a,y\nred,2\n", "line 2, column 'a' holds 'red'; expected a plain decimal number such as 1.5"),
        ("a,y\n1,2\n1\0,2\n", "line 3 holds a zero byte"),
        ("a,y\n1,x\n1,x\n", "column 'y' holds one class alone, 'x'"),
        ("a,y\n1,ä\n".encode("latin-1"), "line 2 is not UTF-8 (byte 0xe4)"),
        ("a,y\n1,2\n".encode("utf-16"), "line 1 is not UTF-8 (byte 0xff)"),
        ("a,y\n1,2.5\n1,1e39\n", "line 3, column 'y' holds a number beyond float32's largest"),
    ],
)
def test_what_is_no_table_is_refused(content, sentence, tmp_path):
    assert refusal(written(tmp_path, content)).startswith(sentence)


def test_a_small_text_does_not_unfold_beyond_64_mebibytes(tmp_path):
    """Rows of a few bytes take long to read. Of a larger file it is 50 times its size."""
    start, megabyte = b"a,y\n", gzip.compress(b"1,2\n" * 2**18)  # gzip goes on with the next member
    path = written(tmp_path, gzip.compress(start) + megabyte * 64, "small.csv.gz")
    assert refusal(path) == f"unfolds to more than {2**26} bytes"
    noise = RANDOM.bytes(2**21)
    path = written(tmp_path, gzip.compress(noise) + megabyte * 64, "larger.csv.gz")
    assert sum(map(len, unfolded(path, TEXT))) == 2**21 + 2**26


def test_what_lies_about_the_file_is_refused(tmp_path, monkeypatch):
    good = b"a,y\n1,2\n"
    assert "is no table by its name; expected .csv" in refusal(written(tmp_path, good, "table.txt"))
    assert "line 1 cannot be read ('tab' expected" in refusal(written(tmp_path, 'a\t"b"c', "table.tsv"))
    assert "no such file" in refusal(tmp_path / "missing.csv")
    assert "is no file, but a folder" in refusal(written_folder(tmp_path / "folder.csv"))
    assert "gzip stream has no end" in refusal(written(tmp_path, gzip.compress(good)[:-3], "cut.csv.gz"))
    monkeypatch.setattr("jaxnn.data.tables._LONGEST_LINE", 2**20)
    bomb = gzip.compress(b"a,y\n" + b"1," * 2**21)
    assert "line 2 has more than 1,048,576 bytes" in refusal(written(tmp_path, bomb, "bomb.csv.gz"))
    in_quotes = b"a,y\n" + (b"1," * 1000 + b'"\n",') * 2**10
    assert "line 2: a row has more than 1,048,576 characters" in refusal(written(tmp_path, in_quotes, "row.csv"))


@pytest.mark.parametrize("mark", ["NaN", "nan", "NA", "N/A", "#N/A", "<NA>", "null", "NULL", "?"])
def test_what_stands_for_a_missing_value_is_no_class(mark, tmp_path):
    path = written(tmp_path, f"a,y\n1,cat\n2,dog\n3,{mark}\n4,cat\n5,dog\n6,None\n7,None\n")
    assert refusal(path).startswith(f"line 4, column 'y' holds '{mark}', which stands for a missing value; leave out")
    parts = read_csv(path, task="classification")
    assert parts.classes == tuple(sorted([mark, "cat", "dog", "None"]))
    np.testing.assert_array_equal([parts.classes[label] for label in parts.train.y][2:5], [mark, "cat", "dog"])


def written_folder(path):
    path.mkdir()
    return path


def labelled(folder, labels):
    return written(folder, "x,Class\n" + "".join(f"{n},{label}\n" for n, label in enumerate(labels)))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "9", "10", "-1", "9", "9", "9", "9", "9", "9", "9", "9", "9", "9"], ("-1", "9", "10")),
        (["1", "01", "+1", " 2", "2"] * 2, ("1", "2")),
        (["b ", ' "a"', "B", " b", '"b"'] * 2, ("B", "a", "b")),
    ],
)
def test_classes(labels, classes, tmp_path):
    parts = read_csv(labelled(tmp_path, labels))
    number = {name: place for place, name in enumerate(classes)}
    whole = all(name.lstrip("-").isdigit() for name in classes)
    canonical = [str(int(text)) if whole else text.strip(' "') for text in labels]
    assert (parts.classes, parts.targets, parts.columns) == (classes, (), ("x",))
    assert parts.train.y.dtype == np.int32
    assert parts.train.y.tolist() == [number[name] for name in canonical]


@pytest.mark.parametrize(
    "labels", [["1", "2"] * 4, ["1.0", "2.0"] * 20, [*range(21)] * 6], ids=["few", "decimals", "many"]
)
def test_numbers_to_predict(labels, tmp_path):
    """Few of each, decimals, or more than 20 different ones."""
    parts = read_csv(labelled(tmp_path, labels))
    assert (parts.classes, parts.targets, parts.train.y.dtype) == ((), ("Class",), np.float32)
    np.testing.assert_array_equal(parts.train.y, np.array(labels, np.float32)[:, None])


def test_the_task_may_be_said(tmp_path):
    path = labelled(tmp_path, ["2", "1"] * 4)
    assert read_csv(path, task="classification").classes == ("1", "2")
    path = labelled(tmp_path, ["2", "1"] * 10)
    assert read_csv(path).classes == ("1", "2")
    parts = read_csv(path, task="regression")
    assert (parts.targets, parts.train.y[:2].tolist()) == (("Class",), [[2], [1]])
    path = labelled(tmp_path, map("name {}".format, range(1500)))
    assert len(read_csv(path, task="classification").classes) == 1500
    assert "line 3, column 'Class' holds 'x', no number" in refusal(labelled(tmp_path, "1x"), task="regression")
    path = labelled(tmp_path, ["1", "2.5"])
    assert "line 3, column 'Class' holds '2.5', a decimal number" in refusal(path, task="classification")
    parts = read_csv(labelled(tmp_path, ["1.0", "-0.0", "10.", "2", "01.00", "0"]), task="classification")
    assert (parts.classes, parts.train.y.tolist()) == (("0", "1", "2", "10"), [1, 0, 3, 2, 1, 0])
    for odd in ("1e0", "1e-400", "0.99999999999999999999"):
        assert f"line 3, column 'Class' holds '{odd}', a dec" in refusal(
            labelled(tmp_path, [1, odd]), task="classification"
        )
    parts = read_csv(labelled(tmp_path, ["3", "n/a", "2.5"] * 2), task="classification")
    assert (parts.classes, parts.train.y.tolist()) == (("2.5", "3", "n/a"), [1, 2, 0, 1, 2, 0])
    assert read_csv(labelled(tmp_path, [*range(20)] * 5)).classes == tuple(map(str, range(20)))
    assert len(read_csv(labelled(tmp_path, [*range(21)] * 5), task="classification").classes) == 21


def test_an_unknown_task_is_refused(tmp_path, types_unchecked):
    with pytest.raises(ValueError, match="did you mean regression"):
        read_csv(labelled(tmp_path, "12"), task="regresion")


def test_one_text_among_numbers_to_predict_makes_no_classes(tmp_path):
    values = [f"{value:.3f}" for value in RANDOM.normal(size=50) + np.arange(50)]
    path = labelled(tmp_path, [*values[:20], "n/a", *values[20:]])
    assert refusal(path, task="classification").startswith(
        "line 22, column 'Class' holds 'n/a', no number, but 51 different texts in 51 rows are too many"
    )
    assert refusal(path) == (
        f"line 22, column 'Class' holds 'n/a', no number, and line 2 the number '{values[0]}'; leave out the rows "
        "without a number, or say task='classification' (--task classification) if all are names of classes"
    )
    for mixed in (["1", "2", "1"] * 333 + ["?"], ["cat", "dog"] * 10 + ["3"]):
        said = refusal(labelled(tmp_path, mixed))
        assert (
            f"line {mixed.index('?') + 2 if '?' in mixed else 2}, column 'Class' holds" in said and "the number" in said
        )
    assert "are too many for classes (if they are classes, say task='classification' (--task classification))" in (
        refusal(labelled(tmp_path, map("name {}".format, range(1500))))
    )


def test_more_different_labels_than_codes(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnn.data.tables._MOST_CODES", 4)
    path = labelled(tmp_path, range(10))
    np.testing.assert_array_equal(read_csv(path).train.y[:, 0], np.arange(10))
    assert "line 6, column 'Class' holds '4', yet another class; expected at most 4" in refusal(
        path, task="classification"
    )


def test_the_label_column_is_named(tmp_path):
    path = written(tmp_path, "y,price,target\n1,2.5,3\n4,5.5,6\n")
    parts = read_csv(path, label="price")
    assert (parts.columns, parts.targets) == (("y", "target"), ("price",))
    np.testing.assert_array_equal(parts.train.x, np.float32([[1, 3], [4, 6]]))
    np.testing.assert_array_equal(parts.train.y, np.float32([[2.5], [5.5]]))
    assert "has no column 'prize'; it has 'y', 'price', 'target'" in refusal(path, label="prize")


def test_features_by_name(tmp_path):
    path = written(tmp_path, "c,name,a\n1,x,2\n3,,4\n")
    np.testing.assert_array_equal(read_csv_features(path, ("a", "c")), np.float32([[2, 1], [4, 3]]))
    for columns, sentence in [(("a", "b"), "has no column 'b'; it has 'c', 'name', 'a'"), (("name",), "holds 'x'")]:
        with pytest.raises(DataError, match=sentence):
            read_csv_features(path, columns)
    with pytest.raises(ValueError, match="columns is empty"):
        read_csv_features(path, ())
    with pytest.raises(DataError, match="line 4 has 1 cells; expected 2"):
        read_csv_features(written(tmp_path, 'name,a\n"p\nq",2\n3\n'), ("a",))
    with pytest.raises(DataError, match="line 3, column 'a' is empty"):
        read_csv_features(written(tmp_path, 'a\n1\n""\n'), ("a",))
