"""CIFAR's records: what is written is read, and files that lie are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.data import DataError
from jaxnn.data.cifar import cifar_examples, read_cifar10, read_cifar100


def cifar_bytes(images, *labels):
    """Records as the authors describe them: labels, then the planes of red, green and blue, each row by row."""
    records = []
    for image, *bytes_before in zip(images, *labels, strict=True):
        planes = [bytes(int(image[row, column, c]) for row in range(32) for column in range(32)) for c in range(3)]
        records.append(bytes(int(label) for label in bytes_before) + b"".join(planes))
    return b"".join(records)


RANDOM = np.random.default_rng(0)
PHOTOS = RANDOM.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
TEN = cifar_bytes(PHOTOS, [9, 0, 4])
HUNDRED = cifar_bytes(PHOTOS, [19, 0, 4], [99, 0, 51])


@pytest.mark.parametrize("records", [None, 3])
@pytest.mark.parametrize("read, content, labels", [(read_cifar10, TEN, [9, 0, 4]), (read_cifar100, HUNDRED, [99, 0, 51])])  # fmt: skip
def test_records_are_read(read, content, labels, records, tmp_path):
    (tmp_path / "batch.bin").write_bytes(content)
    x, y = read(tmp_path / "batch.bin", records=records)
    assert (x.dtype, y.dtype) == (np.uint8, np.int32)
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, PHOTOS)
    np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize(
    ("read", "content", "records", "sentence"),
    [
        (read_cifar10, b"", None, "is no file of whole records of 3073 bytes: the one at byte 0 has 0"),
        (read_cifar10, TEN[:-1], None, "whole records of 3073 bytes: the one at byte 6146 has 3072"),
        (read_cifar10, TEN + b"!", None, "whole records of 3073 bytes: the one at byte 9219 has 1"),
        (read_cifar10, TEN[:-1], 3, "is truncated: 3 records are 9219 bytes; it ends after 9218"),
        (read_cifar10, TEN[:3073], 3, "is truncated: 3 records are 9219 bytes; it ends after 3073"),
        (read_cifar10, b"", 3, "it ends after 0"),
        (read_cifar10, TEN + b"!", 3, "is too long: 3 records end at byte 9219"),
        (read_cifar10, TEN + TEN, 3, "is too long: 3 records end at byte 9219"),
        (read_cifar10, TEN[:3073] + b"\x0a" + TEN[3074:], 3, "label at byte 3073 is 10; expected 0 to 9"),
        (read_cifar10, TEN[:6146] + b"\xff" + TEN[6147:], None, "label at byte 6146 is 255; expected 0 to 9"),
        (read_cifar10, HUNDRED, None, "whole records of 3073 bytes: the one at byte 9219 has 3"),
        (read_cifar100, TEN, None, "whole records of 3074 bytes: the one at byte 6148 has 3071"),
        (read_cifar100, HUNDRED + b"!", 3, "is too long: 3 records end at byte 9222"),
        (read_cifar100, HUNDRED[:-1], 3, "is truncated: 3 records are 9222 bytes; it ends after 9221"),
        (read_cifar100, HUNDRED[:3074] + b"\x14" + HUNDRED[3075:], 3, "coarse label at byte 3074 is 20; expected 0 to 19"),
        (read_cifar100, HUNDRED[:6149] + b"\x64" + HUNDRED[6150:], 3, "fine label at byte 6149 is 100; expected 0 to 99"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(read, content, records, sentence, tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as raised:
        read(path, records=records)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize("read", [read_cifar10, read_cifar100])
def test_missing_file_and_folder(read, tmp_path):
    with pytest.raises(DataError, match="missing: no such file"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match="is no file, but a folder"):
        read(tmp_path)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([(10,), (20, 100)]),
    pairs=st.lists(st.tuples(st.integers(0, 9) | st.integers(0, 255), st.integers(0, 99) | st.just(100)), max_size=3),
    pixels=st.binary(max_size=40),
    tail=st.just(b"") | st.binary(max_size=20),
    records=st.none() | st.integers(0, 4),
)
def test_any_bytes_give_the_examples_or_a_data_error(kind, pairs, pixels, tail, records):
    plane = (pixels * 3072 or b"\x07" * 3072)[:3072]
    before = [pair[: len(kind)] for pair in pairs]
    content = b"".join(bytes(labels) + plane for labels in before) + tail
    known = all(label < classes for labels in before for label, classes in zip(labels, kind, strict=True))
    right = known and pairs != [] and tail == b"" and records in (None, len(pairs))
    try:
        x, y = cifar_examples(content, "batch", kind, records=records)
    except DataError:
        assert not right
        return
    assert right
    np.testing.assert_array_equal(y, [labels[-1] for labels in before])
    record = len(kind) + 3072
    for number in range(len(pairs)):
        for row, column, channel in ((0, 0, 0), (0, 31, 1), (31, 0, 2), (13, 7, 1)):
            place = number * record + len(kind) + 1024 * channel + 32 * row + column
            assert x[number, row, column, channel] == content[place]
