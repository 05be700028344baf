"""IDX files: a round trip through every type, and files that lie."""

import gzip
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxnn.data import DataError, read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@settings(max_examples=80, deadline=None)
@given(data=st.data(), code=st.sampled_from(list(CODES)), gzipped=st.booleans())
def test_round_trip(data, code, gzipped, tmp_path_factory):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    array = data.draw(hnp.arrays(code, shape))
    path = tmp_path_factory.getbasetemp() / "round_trip"
    path.write_bytes(gzip.compress(idx_bytes(array)) if gzipped else idx_bytes(array))
    back = read_idx(path)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx_bytes(IMAGES)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no IDX file: 0 bytes"),
        (b"\0\0\x08", "is no IDX file: 3 bytes"),
        (b"PNG\x01" + GOOD, "is no IDX file: it starts with 50 4e 47 01"),
        (b"\0\0\x07\x01" + GOOD[4:], "is no IDX file"),
        (b"\0\0\x08\x63" + GOOD[4:], "it claims 99 axes"),
        (GOOD[:10], "is truncated: 10 bytes, and the header alone has 16"),
        (GOOD[:-1], r"announces shape \(2, 3, 4\), 40 bytes; it ends after 39"),
        (GOOD + b"!", r"announces shape \(2, 3, 4\), 40 bytes; there are more"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + GOOD[16:], "is truncated"),
        (gzip.compress(GOOD)[:-12], "is truncated"),
        (gzip.compress(GOOD)[:-3], "the gzip stream has no end"),
        (gzip.compress(GOOD)[:-1] + b"\xff", "is corrupt: gzip says"),
        (gzip.compress(GOOD[:-1]), "is truncated"),
        (gzip.compress(GOOD + b"!"), "there are more"),
        (gzip.compress(GOOD) + b"junk", "4 bytes follow the end"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "claims .* bytes in its header"),
        (gzip.compress(b"\0\0\x08\x02" + struct.pack(">2I", 1, 1) + b"\0" * 10**7), "there are more"),
    ],
)
def test_files_that_lie_are_refused(content, sentence, tmp_path):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "missing")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


@pytest.mark.parametrize("gzipped", [False, True])
def test_mutated_files_give_the_data_or_a_data_error(gzipped, tmp_path):
    random = np.random.default_rng(0)
    original = gzip.compress(GOOD) if gzipped else GOOD
    path = tmp_path / "mutated"
    refused = 0
    for _ in range(1000):
        content = bytearray(original)
        for _ in range(random.integers(1, 4)):
            match random.integers(3):
                case 0:
                    content[random.integers(len(content))] ^= 1 << random.integers(8)
                case 1 if len(content) > 1:
                    del content[random.integers(1, len(content)) :]
                case _:
                    content[random.integers(len(content)) :] += random.bytes(random.integers(1, 9))
        path.write_bytes(content)
        try:
            array = read_idx(path)
        except DataError:
            refused += 1
            continue
        # What is read must be what the bytes say; a flipped pixel is for the digest to find.
        plain = zlib.decompress(content, wbits=31) if gzipped and content[:2] == b"\x1f\x8b" else bytes(content)
        assert idx_bytes(array) == plain
    assert refused > 500
