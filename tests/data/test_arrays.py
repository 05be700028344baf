"""Raw arrays become data sets: what fits is kept, what would be changed is refused."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxnn.data._arrays as arrays
from jaxnn.data import DataError
from jaxnn.data._arrays import as_dataset

LABELS = np.array([0, 2, 1])


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (np.zeros((3, 2, 2), np.uint8), (3, 2, 2, 1), np.uint8),
        (np.zeros((3, 28, 20), bool), (3, 28, 20, 1), np.uint8),
        (np.zeros((3, 1, 2), np.uint8), (3, 1, 2), np.uint8),
        (np.zeros((3, 2, 1), np.uint8), (3, 2, 1), np.uint8),
        (np.zeros((3, 2, 2), np.int8), (3, 2, 2), np.float32),
        (np.zeros((3, 2, 2), np.float32), (3, 2, 2), np.float32),
        (np.zeros(3, np.uint8), (3,), np.uint8),
        (np.zeros((3, 4), np.uint8), (3, 4), np.uint8),
        (np.zeros((3, 4, 5, 3), np.uint8), (3, 4, 5, 3), np.uint8),
    ],
)
def test_form_of_x(x, shape, dtype):
    made = as_dataset("file", x, LABELS)
    assert made.x.shape == shape
    assert made.x.dtype == dtype


def test_booleans_are_bytes_of_0_and_1():
    np.testing.assert_array_equal(as_dataset("file", np.array([[True, False]]), LABELS[:1]).x, [[1, 0]])


@pytest.mark.parametrize(
    ("y", "wanted"),
    [
        (np.array([0, 9999], ">u8"), np.array([0, 9999], np.int32)),
        (np.array([True, False]), np.array([1, 0], np.int32)),
        (np.array([[0, 1, 0], [0, 0, 1]], np.uint8), np.array([1, 2], np.int32)),
        (np.array([[False, True], [True, False]]), np.array([1, 0], np.int32)),
        (np.array([[0.0, 1.0], [1.0, 0.0]], ">f8"), np.array([1, 0], np.int32)),
        (np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0, 1], [1, 1]], np.float32)),
        (np.array([[0.0, 2.0], [1.0, -1.0]]), np.array([[0, 2], [1, -1]], np.float32)),
        (np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0, 1], [0, 0]], np.float32)),
        (np.array([[1.0, 1e-9], [0.0, 1.0]]), np.array([[1, 1e-9], [0, 1]], np.float32)),
        (np.array([1.0, 0.1]), np.array([[1], [0.1]], np.float32)),
        (np.array([[1.0], [0.0]]), np.array([[1], [0]], np.float32)),
    ],
)
def test_form_of_y(y, wanted):
    made = as_dataset("file", np.zeros((2, 1)), y).y
    assert made.dtype == wanted.dtype
    np.testing.assert_array_equal(made, wanted, strict=True)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), dtype=hnp.integer_dtypes(endianness="?"), block=st.integers(1, 4))
def test_integers_keep_their_value_or_are_refused(data, dtype, block):
    smallest, biggest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    near = [2**k + d for k in (23, 24, 25, 31, 32, 53, 62, 63, 64) for d in (-(2**40), -1, 0, 1, 2)]
    values = st.one_of(
        st.integers(smallest, biggest),
        st.sampled_from([v for n in near for v in (n, -n) if smallest <= v <= biggest] + [smallest, biggest]),
    )
    numbers = data.draw(st.lists(values, min_size=1, max_size=6))
    x = np.array(numbers, dtype)
    if dtype == np.uint8:
        np.testing.assert_array_equal(as_dataset("file", x, np.zeros(len(x), int)).x, x, strict=True)
        return
    # Python compares integers with floats exactly.
    changed = [i for i, number in enumerate(numbers) if int(float(np.float32(float(number)))) != number]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_BLOCK", block)
        if changed:
            sentence = f"file: x[{changed[0]}] is {numbers[changed[0]]}; float32 cannot hold it"
            with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
                as_dataset("file", x, np.zeros(len(x), int))
            return
        made = as_dataset("file", x, np.zeros(len(x), int)).x
    assert [int(value) for value in made] == numbers
    assert made.dtype == np.float32


@settings(max_examples=100, deadline=None)
@given(data=st.data(), dtype=hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"), block=st.integers(1, 4))
def test_floats_are_rounded_to_float32_or_refused(data, dtype, block):
    x = data.draw(hnp.arrays(dtype, st.tuples(st.integers(1, 3), st.integers(1, 3))))
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float32)
    bad = [(i, j) for i, j in np.ndindex(x.shape) if not np.isfinite(wanted[i, j])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_BLOCK", block)
        if bad:
            i, j = bad[0]
            why = "float32 cannot hold it" if np.isfinite(x[i, j]) else "every value must be finite"
            with pytest.raises(DataError, match=f"^{re.escape(f'file: x[{i}, {j}] is {x[i, j]}; {why}')}$"):
                as_dataset("file", np.asfortranarray(x), np.zeros(len(x), int))
            return
        made = as_dataset("file", np.asfortranarray(x), np.zeros(len(x), int)).x
    np.testing.assert_array_equal(made, wanted, strict=True)
    assert made.dtype.isnative and made.flags.c_contiguous


def test_a_signalling_nan_is_found_without_a_warning():
    x = np.array([[0x7FF0_0000_0000_0001]], np.uint64).view(np.float64)
    with pytest.raises(DataError, match=r"x\[0, 0\] is nan; every value must be finite"):
        as_dataset("file", x, LABELS[:1])


@pytest.mark.parametrize("y", [np.zeros(10**6, np.int8), np.eye(2, dtype=np.uint8)[np.zeros(10**6, int)]])
def test_labels_are_checked_in_blocks(y, monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK", 1000)
    x = np.zeros(10**6, np.uint8)
    tracemalloc.start()
    as_dataset("file", x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 10**6 + 200_000  # the labels, and blocks


X = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (np.array(1.0), LABELS, "file: images is a single number"),
        (X, np.array(1), "file: labels is a single number"),
        (X[:0], LABELS[:0], "file: images has no examples"),
        (X, LABELS[:0], "file: labels has no examples"),
        (X[:, :0], LABELS, r"file: images has shape \(3, 0\); its examples hold nothing"),
        (X, np.zeros((3, 0)), r"file: labels has shape \(3, 0\)"),
        (X, LABELS[:2], "file: images has 3 examples and labels has 2"),
        (X.astype(complex), LABELS, "file: images has dtype complex128"),
        (X, np.array(["a", "b", "c"]), "file: labels has dtype <U1"),
        (X, np.array([0, -1, -2]), r"file: labels\[1\] is -1; integers are labels, 0 to 9999; numbers to predict"),
        (X, np.array([0, 5, 10_000]), r"file: labels\[2\] is 10000; integers are labels"),
        (X, np.array([0, 5, 2**64 - 1], np.uint64), r"file: labels\[2\] is 18446744073709551615"),
        (
            X,
            np.array([[1], [2], [3]]),
            r"labels has shape \(3, 1\); expected \(3,\) integer labels \(write y\[:, 0\]\)",
        ),
        (X, np.array([[True]] * 3), r"write y\[:, 0\]"),
        (X, np.array([[0, 1], [1, 1], [0, 0]]), r"labels\[1\] is not one-hot"),
        (X, np.array([[0, 1], [1, 0], [0, 2]]), r"labels\[2\] is not one-hot"),
        (X, np.zeros((3, 2, 2)), r"labels has shape \(3, 2, 2\)"),
        (X, np.array([1.0, 2.0, np.nan]), r"labels\[2, 0\] is nan; every value must be finite"),
        (X, np.array([[1.0, 2.0], [-np.inf, 0.0], [1.0, 0.0]]), r"labels\[1, 0\] is -inf; every value must be finite"),
        (X + 1e300, LABELS, r"images\[0, 0\] is 1e\+300; float32 cannot hold it"),
    ],
)
def test_what_is_no_data_set_is_refused(x, y, sentence):
    with pytest.raises(DataError, match=sentence) as raised:
        as_dataset("file", x, y, x_name="images", y_name="labels")
    assert str(raised.value).startswith("file: ")


def test_checks_need_little_memory(monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK", 1000)
    x = np.zeros((500, 400), np.int64)
    tracemalloc.start()
    as_dataset("file", x, np.zeros(500, np.int32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes / 2 + 100_000  # the float32 array, and blocks


def test_arrays_in_form_are_not_copied():
    for x in (np.ones((3, 2), np.float32), np.ones((3, 2, 2), np.uint8)):
        made = as_dataset("file", x, LABELS.astype(np.int32))
        assert np.shares_memory(made.x, x)
