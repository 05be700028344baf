"""`.npz` archives: what NumPy writes is read, and archives that lie are refused with a sentence."""

import io
import pickle
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxnn.data import DataError
from jaxnn.data.npz import read_npz

X = np.arange(12.0).reshape(3, 4)
Y = np.array([0, 2, 1])


def npy(array, **kwargs):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **kwargs)
    return file.getvalue()


def header(text, version=(1, 0)):
    """The first bytes of an array whose header is any text."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text.encode("latin1")


def archive(members, method=zipfile.ZIP_STORED):
    """An archive of these bytes by name, or of these pairs of names and bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a name twice
        for name, content in members.items() if isinstance(members, dict) else members:
            made.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def with_x(content, method=zipfile.ZIP_STORED):
    return archive({"x.npy": content, "y.npy": npy(Y)}, method)


def read(content, tmp_path):
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    return read_npz(path)


DTYPES = st.one_of(
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
    hnp.boolean_dtypes(),
)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), dtype=DTYPES, compressed=st.booleans(), fortran=st.booleans())
def test_round_trip(data, dtype, compressed, fortran, tmp_path_factory):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    values = {
        "f": st.floats(width=16, allow_nan=False, allow_infinity=False),
        "b": st.booleans(),
        "u": st.integers(0, 255 if dtype.itemsize == 1 else 2**16 - 1),
        "i": st.integers(-(2 ** (8 * min(dtype.itemsize, 3) - 1)), 2 ** (8 * min(dtype.itemsize, 3) - 1) - 1),
    }
    x = data.draw(hnp.arrays(dtype, shape, elements=values[dtype.kind]))
    labels = data.draw(hnp.arrays(np.int64, shape[:1], elements=st.integers(0, 9999)))
    path = tmp_path_factory.getbasetemp() / "round_trip.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, x=np.asfortranarray(x) if fortran else x, y=labels)
    parts = read_npz(path)
    back = parts.train.x
    as_bytes = dtype.kind == "b" or dtype == np.uint8
    images = as_bytes and x.ndim == 3 and min(x.shape[1:]) > 1
    wanted = x.astype(np.uint8 if as_bytes else np.float32)
    np.testing.assert_array_equal(back[..., 0] if images else back, wanted, strict=True)
    assert back.ndim == x.ndim + images
    assert back.flags.c_contiguous and back.dtype.isnative
    np.testing.assert_array_equal(parts.train.y, labels.astype(np.int32), strict=True)
    assert parts[1:] == (None, None, (), (), ())


NAMES = [
    (["x", "y"], ""),
    (["X", "Y"], ""),
    (["x_train", "y_train"], ""),
    (["X_train", "y_train", "X_test", "y_test"], "t"),
    (["x_train", "y_train", "x_test", "y_test", "x_val", "y_val"], "tv"),
    (["x_train", "y_train", "x_validation", "y_validation"], "v"),
    (["train_x", "train_y", "valid_x", "valid_y"], "v"),
    (["train_images", "train_labels", "test_images", "test_labels"], "t"),
    (["train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"], "tv"),
]


@pytest.mark.parametrize(("names", "others"), NAMES)
def test_names_say_the_part(names, others, tmp_path):
    arrays = {}
    for x, y in zip(names[::2], names[1::2], strict=True):
        place = 10 if "test" in x else 20 if "val" in x else 0
        arrays |= {x: X + place, y: Y + place}
    np.savez(tmp_path / "set.npz", **dict(reversed(arrays.items())))
    parts = read_npz(tmp_path / "set.npz")
    for part, place, letter in ((parts.train, 0, ""), (parts.test, 10, "t"), (parts.validation, 20, "v")):
        if letter not in others:
            assert part is None
            continue
        np.testing.assert_array_equal(part.x, X + place)
        np.testing.assert_array_equal(part.y, Y + place)


def test_classes_and_numbers_to_predict(tmp_path):
    for order in "<>":
        names = np.array(["cat", "Hündin", "三"]).astype(order + "U6")
        np.savez(tmp_path / "set.npz", x=X, y=Y, classes=names)
        assert read_npz(tmp_path / "set.npz").classes == ("cat", "Hündin", "三")
    np.savez(tmp_path / "set.npz", x=X, y=np.array([0.5, 1.5, 2.5]))
    np.testing.assert_array_equal(
        read_npz(tmp_path / "set.npz").train.y, np.array([[0.5], [1.5], [2.5]], np.float32), strict=True
    )


def test_one_hot_rows_say_how_many_classes_there_are(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=X, y_train=np.eye(5, dtype=np.uint8)[Y], x_test=X, y_test=Y)
    parts = read_npz(tmp_path / "set.npz")
    np.testing.assert_array_equal(parts.train.y, Y)
    assert parts.classes == ("0", "1", "2", "3", "4")


def test_a_small_file_does_not_unfold_to_any_number_of_tiny_examples(tmp_path):
    path, many = tmp_path / "set.npz", 2**23
    np.savez_compressed(path, x=np.zeros(many, np.uint8), y=np.zeros(many, np.uint8))
    assert len(read_npz(path).train.x) == many
    np.savez_compressed(path, x=np.zeros(many + 1, np.uint8), y=np.zeros(many + 1, np.uint8))
    with pytest.raises(DataError, match="x has 8388609 examples; so small a file may unfold to 8388608"):
        read_npz(path)


def test_an_array_of_python_2_is_read(tmp_path):
    """Its header has a long integer, which NumPy reads with a warning."""
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L), }\n"
    np.testing.assert_array_equal(read(with_x(header(text) + X.tobytes()), tmp_path).train.x, X)


EXPECTED = "; expected x and y; or x_train and y_train, with x_validation"
Z = np.zeros((3, 5))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "has no examples for training; it holds no arrays" + EXPECTED),
        ({"x": X}, "'x' is without 'y'; it holds 'x'" + EXPECTED),
        ({"y": Y}, "'y' is without 'x'; it holds 'y'" + EXPECTED),
        ({"x_train": X, "train_labels": Y}, "'x_train' is without 'y_train'; it holds 'x_train', 'train_labels'"),
        ({"x": X, "y": Y, "ids": Y}, "'ids' is not understood; it holds 'x', 'y', 'ids'" + EXPECTED),
        ({"arr_0": X, "arr_1": Y}, "'arr_0' is not understood; it holds 'arr_0', 'arr_1'" + EXPECTED),
        ({"x\n": X, "y": Y}, r"'x\\n' is not understood"),
        ({f"a{i}": Y for i in range(30)}, "'a19', …; expected"),
        ({"x_test": X, "y_test": Y}, "has no examples for training; it holds 'x_test', 'y_test'" + EXPECTED),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "'x' and 'y' are all examples, but there are other parts"),
        ({"x_train": X, "y_train": Y, "train_x": X, "train_y": Y}, "'x_train' and 'train_x' are the same part"),
        ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "'x' and 'x_train' are the same part"),
        ({"x_train": X, "y_train": Y, "x_val": X, "y_val": Y, "x_valid": X, "y_valid": Y}, "are the same part"),
        ({"x": X, "y": Y, "X": X}, "holds 'X' twice"),
        ({"x": X, "y": Y[:2]}, "x has 3 examples and y has 2"),
        ({"X_train": X + np.inf, "y_train": Y}, r"X_train\[0, 0\] is inf; every value must be finite"),
        ({"x": X, "y": Y[:, None]}, r"write y\[:, 0\]"),
        (
            {"x_train": X, "y_train": Y, "X_test": Z, "y_test": Y},
            r"X_test has examples of float32 \(5,\), and x_train of float32 \(4,\); the parts must be alike",
        ),
        (
            {"x_train": X, "y_train": Y, "x_val": X.astype(np.uint8), "y_val": Y},
            r"x_val has examples of uint8 \(4,\), and x_train of float32 \(4,\)",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 0.5},
            r"y_test has examples of float32 \(1,\), and y_train of int32 \(\); the parts must be alike",
        ),
        (
            {"x_train": X, "y_train": np.eye(3)[Y], "x_test": X, "y_test": np.eye(5)[Y]},
            "y_test has one-hot rows of 5, and y_train of 3; the parts must be alike",
        ),
        (
            {"x": X, "y": np.eye(4)[Y], "classes": np.array(["a", "b", "c"])},
            "y has one-hot rows of 4, and classes has 3 names",
        ),
        ({"x": X, "y": Y, "classes": np.array(["a", "b"])}, r"y\[1\] is 2, and classes has 2 names"),
        ({"x": X, "y": Y + 0.5, "classes": np.array(["a", "b"])}, "has classes, but y holds numbers to predict"),
        ({"x": X, "y": Y, "classes": np.array([["a", "b", "c"]])}, r"classes has shape \(1, 3\)"),
        ({"x": X, "y": Y, "classes": np.zeros(0, "U3")}, r"classes has shape \(0,\); expected 1 to 10000 names"),
        (
            {"x": X, "y": Y, "classes": np.zeros(10_001, "U1")},
            r"classes has shape \(10001,\); expected 1 to 10000 names",
        ),
        (
            {"x": X, "y": Y, "classes": np.full(3, 0x110000, "u4").view("U1")},
            "classes holds numbers that stand for no character",
        ),
        ({"x": X, "y": Y, "classes": np.array(["a", "b", "a"])}, r"classes\[2\] is 'a', as an earlier one"),
        ({"x": X, "y": Y, "classes": np.array(["a", "", "b"])}, r"classes\[1\] is ''; expected a name"),
        ({"x": X, "y": Y, "classes": np.array(["a", " ", "b"])}, r"classes\[1\] is ' '; expected a name"),
        ({"x": X, "y": Y, "classes": np.array(["a", "b\x1b[2J", "c"])}, r"classes\[1\] is 'b\\x1b\[2J'"),
        ({"x": X, "y": Y, "classes": Y}, "classes.npy: holds values of dtype int64; expected text of NumPy's dtype U"),
        ({"x": X, "y": Y, "classes": np.array([b"a", b"b", b"c"])}, "expected text of NumPy's dtype U"),
        (
            {"x": np.array(["1", "2", "3"]), "y": Y},
            "x.npy: holds values of dtype str32; expected booleans, .* 64 bits$",
        ),
        ({"x": X.astype(complex), "y": Y}, "x.npy: holds values of dtype complex128; expected booleans, integers"),
        ({"x": X.astype("M8[s]"), "y": Y}, r"x.npy: holds values of dtype datetime64\[s\]"),
        ({"x": X.astype("m8[s]"), "y": Y}, r"x.npy: holds values of dtype timedelta64\[s\]"),
        ({"x": np.zeros(3, "V4"), "y": Y}, "x.npy: holds values of dtype void32"),
        ({"x": np.zeros(3, "f4,i2"), "y": Y}, "x.npy: holds structured records"),
        ({"x": X, "y": np.array([{}, None, "c"])}, "y.npy: holds values of dtype object.* as classes$"),
        (
            {"x": X, "y": np.array(["cat", "dog", "dog"])},
            "y.npy: holds values of dtype str96; expected .*; store labels as numbers from 0, and the names .* as classes$",
        ),
    ],
)
def test_other_arrays_are_refused(arrays, sentence, tmp_path):
    content = archive({f"{name}.npy": npy(array) for name, array in arrays.items()})
    with pytest.raises(DataError, match=sentence) as raised:
        read(content, tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'set.npz'}: ")


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    for trap in (npy(np.array([Trap()] * 3, object)), pickle.dumps(Trap())):
        with pytest.raises(DataError, match=r"x.npy: (holds values of dtype object|has no header of an array)"):
            read(with_x(trap), tmp_path)
        with pytest.raises(DataError, match=r"is no .npz archive"):
            read(trap, tmp_path)


def described(descr="'<f8'", fortran="False", shape="(3, 4)"):
    return header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n") + X.tobytes()


HEADERS = [
    (b"", "x.npy: has no header of an array"),
    (b"\x93NUMPY\1", "x.npy: has no header of an array"),
    (b"\x93NUMPY\1\0\x76\0{'descr", "x.npy: has no header of an array"),
    (b"\x93NUMPY\2\0\xff\xff\xff\xff{'descr", "x.npy: has no header of an array"),
    (b"PNG" + npy(X), "has no header of an array"),
    (npy(X, version=(3, 0)), "version 3.0 is not 1.0 or 2.0"),
    (b"\x93NUMPY\1\1" + npy(X)[8:], "version 1.1 is not 1.0 or 2.0"),
    (header("{'descr'", (1, 0)), "has no header of an array"),
    (header("\xff\xfe"), "has no header of an array"),
    (header("0" * 9000), "has no header of an array"),
    (header("(" * 9000), "has no header of an array"),
    (header("-" * 9000 + "1"), "has no header of an array"),
    (header("[" * 60 + "]" * 60), "has no header of an array"),
    (header(" " * 20_000), "has no header of an array: NumPy says Header info length"),
    (header("{'a': '\\ud800'}"), "has no header of an array"),
    (header("{'descr': '<f8', 'shape': (3, 4)}"), "has no header of an array"),
    (header("__import__('os')"), "has no header of an array"),
    (described(descr="'nonsense'"), "has no header of an array"),
    (described(descr="('<f8', (10**9, 10**9))"), "has no header of an array"),
    (described(descr="('<f8', (4,))", shape="(3,)"), "holds values of dtype void256"),
    (described(descr="'<f8,<f8'"), "holds structured records"),
    (described(descr="'|O'"), "holds values of dtype object"),
    (described(descr="'<U0'"), "holds values of dtype str"),
    (described(descr="'<f16'"), "holds values of dtype|has no header of an array"),  # not every machine has it
    (described(fortran="1"), "has no header of an array"),
    (described(shape="[3, 4]"), "has no header of an array"),
    (described(shape="(3.0, 4)"), "has no header of an array"),
    (described(shape="(-3, -4)"), r"announces the shape \(-3, -4\), which no array has"),
    (described(shape="(True, 12)"), r"announces the shape \(True, 12\), which no array has"),
    (described(shape=str((1,) * 40 + (12,))), r"announces the shape \(1, 1, .*, which no array has"),
    (described(shape=f"(0, {2**80})"), "announces the shape .*, which no array has"),
    (described(shape=f"({2**62}, {2**62})"), r"announces the shape \(4611686018427387904, .*, which no array has"),
    (
        header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {2**62})}}\n"),
        r"shape \(0, .*, which no array has",
    ),
    (header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 0)}}\n"), r"shape \(.*, which no array has"),
    (
        described(shape=f"({2**50},)"),
        r"x.npy: announces shape \(1125899906842624,\) .*; the archive's directory says 177",
    ),
    (described(shape="(3, 5)"), r"x.npy: announces shape \(3, 5\) of float64, 188 bytes .*; the .* directory says 164"),
    (described(shape="(3, 3)"), r"announces shape \(3, 3\) of float64, 140 bytes .*; the .* directory says 164"),
    (described(shape="(0, 4)"), r"announces shape \(0, 4\)"),
    (described(shape="()"), r"announces shape \(\)"),
    (npy(X)[:-1], r"announces shape \(3, 4\) of float64, 224 bytes .*; the archive's directory says 223"),
    (npy(X) + b"!", r"announces shape \(3, 4\) of float64, 224 bytes .*; the archive's directory says 225"),
    (npy(np.array(1.0)), "x is a single number"),
    (npy(np.zeros((0, 4))), "x has no examples"),
    (npy(np.ones((3, 2), bool))[:-1] + b"\2", "x.npy: byte 133 is 2; a boolean is 0 or 1"),
]


@pytest.mark.parametrize(("content", "sentence"), HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_lie_are_refused(content, sentence, method, tmp_path):
    with pytest.raises(DataError, match=sentence) as raised:
        read(with_x(content, method), tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'set.npz'}: x")


def changed(content, signature, offset, value, form="<I"):
    """An archive with another value in its first header that begins with the signature."""
    content = bytearray(content)
    struct.pack_into(form, content, content.index(signature) + offset, value)
    return bytes(content)


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
STORED = with_x(npy(X))
DEFLATED = with_x(npy(X), zipfile.ZIP_DEFLATED)
SIZE, PACKED = len(npy(X)), zipfile.ZipFile(io.BytesIO(DEFLATED)).getinfo("x.npy").compress_size


def claiming(size, content, *, crc=None):
    """A deflated archive whose directory says that x has this many bytes."""
    made = changed(with_x(content, zipfile.ZIP_DEFLATED), CENTRAL, 24, size)
    return made if crc is None else changed(made, CENTRAL, 16, crc)


ZIPS = [
    (b"", "is no .npz archive, or it is truncated or corrupt: zipfile says"),
    (b"PK\3\4", "is no .npz archive"),
    (npy(X), "is no .npz archive"),
    (STORED[:-1], "is no .npz archive, or it is truncated or corrupt"),
    (STORED[: len(STORED) // 2], "is no .npz archive, or it is truncated or corrupt"),
    (STORED[100:], "x.npy: is corrupt: the archive's directory puts it at byte -100"),
    (changed(STORED, END, 16, 2**31), "x.npy: is corrupt: the archive's directory puts it at byte -"),
    (changed(STORED, CENTRAL, 6, 99, "<H"), "is no .npz archive"),  # a later version of zip
    (archive({"x.npy": npy(X), "y.npy": npy(Y), "README": b"text"}), "holds 'README', which is no array"),
    (archive({"a/": b"", "a/x.npy": npy(X)}), "holds 'a/', which is no array"),
    (archive({"a/x.npy": npy(X), "a/y.npy": npy(Y)}), "'a/x' is not understood"),
    (archive([("x.npy", npy(X)), ("y.npy", npy(Y)), ("x.npy", npy(X + 1))]), "holds 'x' twice"),
    (with_x(npy(X), zipfile.ZIP_BZIP2), "x.npy: is compressed by zip's method 12; expected 0 or 8"),
    (with_x(npy(X), zipfile.ZIP_LZMA), "x.npy: is compressed by zip's method 14; expected 0 or 8"),
    (changed(STORED, CENTRAL, 10, 77, "<H"), "x.npy: is compressed by zip's method 77"),
    (changed(STORED, CENTRAL, 8, 1, "<H"), "x.npy: is encrypted"),
    (changed(STORED, CENTRAL, 8, 0x20, "<H"), "x.npy: has the zip flags 0x0020"),
    (changed(STORED, CENTRAL, 8, 0x40, "<H"), "x.npy: has the zip flags 0x0040"),
    (changed(STORED, CENTRAL, 42, 2**31), "x.npy: is corrupt: the archive's directory puts it at byte 2147483648"),
    (changed(STORED, CENTRAL, 42, 7), "x.npy: is corrupt: it does not begin at byte 7"),
    (changed(STORED, CENTRAL, 42, STORED.rindex(LOCAL)), "x.npy: is corrupt: it does not begin at byte"),
    (changed(STORED, LOCAL, 0, 0), "x.npy: is corrupt: it does not begin at byte 0"),
    (changed(STORED, LOCAL, 30, b"z", "c"), "x.npy: is corrupt: it does not begin at byte 0"),
    (changed(STORED, LOCAL, 28, 2**16 - 1, "<H"), "x.npy: is truncated: its 224 bytes would go on"),
    (changed(STORED, LOCAL, 28, 1, "<H"), "x.npy: is corrupt: its checksum is"),
    (changed(STORED, CENTRAL, 16, 0), "x.npy: is corrupt: its checksum is [0-9a-f]{8}; the directory says 00000000"),
    (STORED.replace(X.tobytes(), X.tobytes()[:-1] + b"!"), "x.npy: is corrupt: its checksum is"),
    (changed(STORED, CENTRAL, 24, SIZE - 1), "x.npy: is corrupt: the directory says 223 bytes; there are more"),
    (changed(STORED, CENTRAL, 24, SIZE + 1), "x.npy: is corrupt: the directory says 225 bytes; it has 224"),
    (changed(STORED, CENTRAL, 20, SIZE - 1), "x.npy: is corrupt: the directory says 224 bytes; it has 223"),
    (changed(DEFLATED, CENTRAL, 20, 10**6), "x.npy: is truncated: its 1000000 bytes would go on"),
    (changed(DEFLATED, CENTRAL, 20, 10), "x.npy: is corrupt: its compressed bytes do not end where"),
    (changed(DEFLATED, CENTRAL, 20, PACKED - 1), "x.npy: is corrupt: its compressed bytes do not end where"),
    (changed(DEFLATED, CENTRAL, 20, PACKED + 1), "x.npy: is corrupt: its compressed bytes do not end where"),
    (changed(STORED, CENTRAL, 10, 8, "<H"), "x.npy: is corrupt: "),
    (changed(DEFLATED, LOCAL, 35, b"\xff", "c"), "x.npy: is corrupt: zlib says"),
    (claiming(2**32 - 2, npy(X)), "claims to unfold to 4294967[0-9]* bytes; so small a file may unfold to 268435456"),
    (claiming(10, npy(X)), "x.npy: is corrupt: the directory says 10 bytes; there are more"),
    (
        claiming(SIZE, npy(X) + bytes(10**7), crc=zlib.crc32(npy(X))),
        "x.npy: is corrupt: the directory says 224 bytes; there are more",
    ),
    (claiming(SIZE + 8, npy(X)), "directory says 232"),
    (claiming(224, npy(X)[:-8]), "x.npy: is corrupt: the directory says 224 bytes; it has 216"),
]


@pytest.mark.parametrize(("content", "sentence"), ZIPS, ids=range(len(ZIPS)))
def test_archives_that_lie_are_refused(content, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence) as raised:
        read(content, tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'set.npz'}: ")


@pytest.mark.parametrize("chunk", [1, 2, 50])
@pytest.mark.parametrize("content", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_arrays_are_read_in_pieces_of_any_size(content, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnn.data.npz._CHUNK", chunk)
    np.testing.assert_array_equal(read(content, tmp_path).train.x, X)


def test_bytes_after_the_end_of_a_compressed_array_are_seen_in_the_next_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnn.data.npz._CHUNK", PACKED)
    with pytest.raises(DataError, match=r"x.npy: is corrupt: its compressed bytes do not end where"):
        read(changed(DEFLATED, CENTRAL, 20, PACKED + 1), tmp_path)


def test_empty_names_by_the_thousand_million_are_refused(tmp_path):
    """They take no bytes in the file."""
    names = header("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,)}\n")
    with pytest.raises(DataError, match=r"classes.npy: holds values of dtype str"):
        read(archive({"x.npy": npy(X), "y.npy": npy(Y), "classes.npy": names}), tmp_path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="missing: no such file"):
        read_npz(tmp_path / "missing")
    with pytest.raises(DataError, match="is no file, but a folder"):
        read_npz(tmp_path)


def test_all_arrays_together_are_bounded(tmp_path, monkeypatch):
    total = len(npy(X)) + len(npy(Y))
    monkeypatch.setattr("jaxnn.data.npz.largest", lambda stored: total)
    np.testing.assert_array_equal(read(STORED, tmp_path).train.x, X)
    monkeypatch.setattr("jaxnn.data.npz.largest", lambda stored: total - 1)
    with pytest.raises(
        DataError, match=f"claims to unfold to {total} bytes; so small a file may unfold to {total - 1}"
    ):
        read(STORED, tmp_path)


def test_what_lies_is_not_unfolded(tmp_path):
    """Of 64 MiB of zeros no more is unfolded than it takes to see that the directory lies."""
    path = tmp_path / "set.npz"
    path.write_bytes(claiming(SIZE, npy(X) + bytes(2**26)))
    tracemalloc.start()
    with pytest.raises(DataError, match="there are more"):
        read_npz(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f8", np.float16])
@pytest.mark.parametrize("order", "CF")
def test_memory_is_at_most_three_times_the_content(dtype, order, tmp_path):
    path = tmp_path / "set.npz"
    x = np.asarray(np.ones((1000, 2000)), dtype, order=order)
    np.savez_compressed(path, x=x, y=np.zeros(1000, np.uint8))
    tracemalloc.start()
    read_npz(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * x.nbytes + 2**24


@pytest.mark.parametrize("content", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_mutated_archives_give_the_arrays_or_a_data_error(content, tmp_path):
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        mutated = bytearray(content)
        for _ in range(random.integers(1, 4)):
            match random.integers(3):
                case 0:
                    mutated[random.integers(len(mutated))] ^= 1 << random.integers(8)
                case 1 if len(mutated) > 1:
                    del mutated[random.integers(1, len(mutated)) :]
                case _:
                    at = random.integers(len(mutated))
                    mutated[at:at] = random.bytes(random.integers(1, 9))
        try:
            parts = read(bytes(mutated), tmp_path)
        except DataError:
            refused += 1
            continue
        np.testing.assert_array_equal(parts.train.x, X)
        np.testing.assert_array_equal(parts.train.y, Y)
    assert 150 < refused < 300
