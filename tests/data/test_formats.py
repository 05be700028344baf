"""IDX files and tar archives: what is written is read, and files that lie are refused."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxnn.data import DataError, read_idx
from jaxnn.data.formats import read_tar

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


def test_gzip_members_one_after_the_other_are_one_file(tmp_path):
    path = tmp_path / "images.gz"
    for cut in (3, 10, 16, 30):
        path.write_bytes(gzip.compress(GOOD[:cut]) + gzip.compress(GOOD[cut:]) + bytes(512))
        np.testing.assert_array_equal(read_idx(path), IMAGES)


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
        (b"\0\0\x08\x03" + b"\xff" * 12 + GOOD[16:], "which no array has"),
        (b"\0\0\x08\x01" + b"\xff" * 4 + GOOD[16:], "is truncated"),
        (b"\0\0\x08\x04" + bytes(4) + b"\xff" * 12, r"announces shape \(0, 4294967295, .*, which no array has"),
        (gzip.compress(GOOD)[:-12], "is truncated"),
        (gzip.compress(GOOD)[:-3], "the gzip stream has no end"),
        (gzip.compress(GOOD)[:-1] + b"\xff", "is corrupt: gzip says"),
        (gzip.compress(GOOD[:-1]), "is truncated"),
        (gzip.compress(GOOD + b"!"), "there are more"),
        (gzip.compress(GOOD) + b"junk", "gzip says Not a gzipped file"),
        (gzip.compress(b"\0\0\x08\x01" + b"\xff" * 4), "is truncated"),
        (gzip.compress(b"\0\0\x08\x02" + struct.pack(">2I", 1, 1) + b"\0" * 10**7), "there are more"),
    ],
)
def test_files_that_lie_are_refused(content, sentence, tmp_path):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("read", [read_idx, lambda path: read_tar(path, {"a": 1})])
def test_missing_file_and_folder(read, tmp_path):
    with pytest.raises(DataError, match="missing: no such file"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match="is no file, but a folder"):
        read(tmp_path)


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


RANDOM = np.random.default_rng(0)
SIZES = {"folder/a": 700, "folder/b": 512}
CONTENT = {name: RANDOM.bytes(size) for name, size in SIZES.items()}


def tar_bytes(members, tar_format=tarfile.GNU_FORMAT):
    """An archive of `(name, content)` and `(name, content, type)`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as archive:
        for name, content, *kind in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type, member.linkname = (kind[0], "/etc/passwd") if kind else (tarfile.REGTYPE, "")
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def header(name, size, kind=tarfile.REGTYPE):
    """A header alone, which may claim any size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


A, B = CONTENT.items()
TAR = tar_bytes([A, B])
ZIPPED = gzip.compress(TAR, mtime=0)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_files_are_read_from_an_archive(tar_format, pack, prefix, tmp_path):
    """Whatever else is in it is passed over; PAX's and GNU's long names are members of their own."""
    others = [("folder", b"", tarfile.DIRTYPE), ("folder/readme.html", b"<p>"), ("folder/ü" + "x" * 80, b"long")]
    members = [*others, (prefix + B[0], B[1]), ("folder/link", b"", tarfile.SYMTYPE), (prefix + A[0], A[1])]
    hard_link = header("folder/hard", 700, tarfile.LNKTYPE)  # the size is its target's: no content follows
    path = tmp_path / "archive"
    path.write_bytes(pack(hard_link + tar_bytes(members, tar_format)))
    assert read_tar(path, SIZES) == CONTENT
    assert list(tmp_path.iterdir()) == [path], "nothing is unpacked"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is truncated: it ends at byte 0 without an end of archive"),
        (b"no archive", "is truncated: it ends at byte 10"),
        (b"no archive" * 100, "is no tar archive, or corrupt: no member's header at byte 0"),
        (tar_bytes([A]), "does not hold folder/b"),
        (tar_bytes([]), "does not hold folder/a"),
        (tar_bytes([A, ("../folder/b", B[1])]), "does not hold folder/b"),
        (tar_bytes([A, ("/folder/b", B[1])]), "does not hold folder/b"),
        (tar_bytes([A, ("folder/x/../b", B[1])]), "does not hold folder/b"),
        (tar_bytes([A, ("folder/b", b"", tarfile.SYMTYPE)]), "folder/b, at byte 1536, is no regular file"),
        (tar_bytes([A, ("folder/b", b"", tarfile.LNKTYPE)]), "folder/b, at byte 1536, is no regular file"),
        (tar_bytes([A, ("folder/b", b"", tarfile.CHRTYPE)]), "folder/b, at byte 1536, is no regular file"),
        (tar_bytes([A, ("folder/b", b"", tarfile.DIRTYPE)]), "folder/b, at byte 1536, is no regular file"),
        (header("folder/a", 700, tarfile.GNUTYPE_SPARSE) + TAR, "folder/a, at byte 0, is no regular file"),
        (tar_bytes([A, B, ("./folder/a", A[1])]), "holds folder/a twice, again at byte 2560"),
        (tar_bytes([A, ("folder/b", B[1] + b"!")]), "folder/b, at byte 1536, has 513 bytes; expected 512"),
        (tar_bytes([A, ("folder/b", B[1][1:])]), "folder/b, at byte 1536, has 511 bytes; expected 512"),
        (header("folder/a", 2**60) + TAR, f"the member at byte 0 claims {2**60} bytes; the archive may hold 16778428"),
        (header("other", 2**24) + TAR, "is truncated: it ends at byte 10752, within the member at byte 0"),
        (header("other", 2**24 + 1213) + TAR, "the member at byte 0 claims 16778429 bytes"),
        (header("PaxHeader", 2**33 - 1, tarfile.XHDTYPE) + TAR, "the member at byte 0 claims 8589934591 bytes"),
        (header("long name", 2**33 - 1, tarfile.GNUTYPE_LONGNAME) + TAR, "claims 8589934591 bytes"),
        (header("folder/a", -512) + TAR, "the member at byte 0 claims -512 bytes"),
        (TAR[:1000], "is truncated: it ends at byte 1000, within the member at byte 0"),
        (TAR[:1600], "is truncated: it ends at byte 1600 without an end of archive"),
        (TAR[:2560], "is truncated: it ends at byte 2560 without an end of archive"),
        (TAR[:1536] + b"!" + TAR[1537:], "or corrupt: no member's header at byte 1536"),
        (TAR + bytes(2**24), "it goes on after the end of the archive, beyond byte 16778428"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_archives_that_lie_are_refused(content, sentence, pack, tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(pack(content))
    with pytest.raises(DataError, match=sentence) as raised:
        read_tar(path, SIZES)
    assert str(raised.value).startswith(f"{path}: ")
    assert list(tmp_path.iterdir()) == [path]


def renamed(name, content, **headers):
    """A member of that name in its header, before which PAX's says something else of it."""
    member = tarfile.TarInfo(name)
    member.size, member.pax_headers = len(content), headers
    stored = member.tobuf(tarfile.PAX_FORMAT) + content
    return stored + bytes(-len(stored) % 512)


PLAIN = {name: header(name, len(content)) + content + bytes(-len(content) % 512) for name, content in CONTENT.items()}
LONG_NAME = header("././@LongLink", 9, tarfile.GNUTYPE_LONGNAME)
END = bytes(1024)


def pax(record, kind=tarfile.XHDTYPE):
    return header("pax", len(record), kind) + record.ljust(512, b"\0")


def test_extended_headers_give_names(tmp_path):
    path = tmp_path / "archive"
    b = PLAIN["folder/b"]
    for a in (
        renamed("other", A[1], path="folder/a", mtime="1.5", comment="=\n9 path=c\n"),
        renamed("folder/a", A[1], mtime="1.5", comment="a"),
        renamed("folder/a", b"passed over", path="other") + PLAIN["folder/a"],
        LONG_NAME + b"folder/a\0".ljust(512, b"\0") + header("other", 700) + A[1] + bytes(324),
        pax(b"11 mtime=1\n", tarfile.XGLTYPE) + PLAIN["folder/a"],
    ):
        path.write_bytes(a + b + END)
        assert read_tar(path, SIZES) == CONTENT


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (renamed("folder/a", A[1], path="other"), b"", "does not hold folder/a"),
        (renamed("other", A[1], path="folder/b"), PLAIN["folder/a"], "folder/b, at byte 1024, has 700 bytes"),
        (renamed("folder/a", A[1], size="9"), b"", "the extended header at byte 0 sets size"),
        (renamed("folder/a", A[1], **{"GNU.sparse.major": "1"}), b"", "extended header at byte 0 sets GNU.sparse;"),
        (pax(b"17 path=folder/a\n", tarfile.XGLTYPE), PLAIN["folder/a"], "the extended header at byte 0 sets path"),
        (pax(b"14 path=other\n") * 2, PLAIN["folder/a"], "extended header at byte 1024 names a member that has a name already"),
        (pax(b"99 path=folder/a\n"), PLAIN["folder/a"], "header at byte 0 is corrupt: it has no record at its byte 0"),
        (pax(b"8 path=folder/a\n"), PLAIN["folder/a"], "header at byte 0 is corrupt: it has no record at its byte 0"),
        (pax(b"11 mtime=1\n!"), PLAIN["folder/a"], "header at byte 0 is corrupt: it has no record at its byte 11"),
        (PLAIN["folder/a"], pax(b"11 mtime=1\n"), "ends at byte 3584, after an extended header without its member"),
        (header("other", 0, tarfile.GNUTYPE_SPARSE), PLAIN["folder/a"], "the member at byte 0 is stored sparsely"),
    ],
)  # fmt: skip
def test_extended_headers_that_lie_are_refused(before, after, sentence, tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(before + PLAIN["folder/b"] + after + END)
    with pytest.raises(DataError, match=sentence):
        read_tar(path, SIZES)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (ZIPPED[:-9], "is truncated: the gzip stream has no end"),
        (ZIPPED[:-3], "is truncated: the gzip stream has no end"),
        (ZIPPED[:5], "is truncated: the gzip stream has no end"),
        (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "is corrupt: gzip says CRC check failed"),
        (ZIPPED[:10] + b"\x07" + ZIPPED[11:], "is corrupt: gzip says .*invalid block type"),
        (ZIPPED + b"junk", "is corrupt: gzip says Not a gzipped file"),
        (b"\x1f\x8b\x09" + bytes(20), "is corrupt: gzip says Unknown compression method"),
    ],
)
def test_gzip_streams_that_are_broken_are_refused(content, sentence, tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_tar(path, SIZES)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_bomb_is_not_unfolded(place, tmp_path):
    """100 MB of zeros behind 100 kB: refused after at most what the archive may hold."""
    bomb = bytes(10**8)
    path = tmp_path / "archive"
    path.write_bytes(gzip.compress(header("bomb", len(bomb)) + bomb if place == "before" else TAR + bomb))
    del bomb
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="claims 100000000 bytes" if place == "before" else "goes on after the end"):
            read_tar(path, SIZES)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


MEMBERS = st.tuples(
    st.sampled_from(["folder/a", "folder/b", "./folder/b", "../folder/a", "/folder/a", "folder/c", "folder//a"]),
    st.sampled_from([A[1], B[1], b"", b"short"]),
    st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.AREGTYPE, tarfile.SYMTYPE, tarfile.CONTTYPE, b"V"]),
)


@settings(max_examples=150, deadline=None)
@given(members=st.lists(MEMBERS, max_size=3), order=st.permutations([A, B]), both=st.booleans())
def test_any_archive_gives_the_files_or_a_data_error(members, order, both, tmp_path_factory):
    members = [(*member, tarfile.REGTYPE) for member in order if both] + members
    path = tmp_path_factory.getbasetemp() / "any.tar"
    # tarfile writes no content for a link, but keeps the size that is claimed.
    path.write_bytes(tar_bytes([(n, b"" if kind == tarfile.SYMTYPE else c, kind) for n, c, kind in members]))
    meant = [(name.removeprefix("./"), content, kind) for name, content, kind in members]
    meant = [member for member in meant if member[0] in SIZES]
    right = sorted(name for name, _, _ in meant) == ["folder/a", "folder/b"] and all(
        kind in (tarfile.REGTYPE, tarfile.AREGTYPE) and len(content) == SIZES[name] for name, content, kind in meant
    )
    try:
        found = read_tar(path, SIZES)
    except DataError:
        assert not right
        return
    assert right
    assert found == {name: content for name, content, _ in meant}


@pytest.mark.parametrize("gzipped", [False, True])
def test_mutated_archives_give_what_is_in_them_or_a_data_error(gzipped, tmp_path):
    random = np.random.default_rng(0)
    original = ZIPPED if gzipped else TAR[:3584]
    path = tmp_path / "mutated"
    refused = 0
    for _ in range(1000):
        content = bytearray(original)
        for _ in range(random.integers(1, 4)):
            match random.integers(3):
                case 0:
                    content[random.integers(len(content))] ^= 1 << random.integers(8)
                case 1:
                    del content[random.integers(1, len(content)) :]
                case _:
                    content[random.integers(len(content)) :] += random.bytes(random.integers(1, 9))
        path.write_bytes(content)
        try:
            found = read_tar(path, SIZES)
        except DataError:
            refused += 1
            continue
        if gzipped:  # its checksum has seen to the content
            assert found == CONTENT
        else:  # the content may be changed, but is what lies there
            assert found == {"folder/a": content[512:1212], "folder/b": content[2048:2560]}
    assert refused > 500
