"""Mutated files: every reader refuses them in one sentence or reads exactly what they hold; and whoever does not is caught."""

import gzip
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import time
import warnings
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import DataError, Dataset, Parts, read_idx, read_image_folder
from tests.fuzzing.archives import SIZES
from tests.fuzzing.binary import idx_oracle, mutate_idx
from tests.fuzzing.folders import folder_bomb
from tests.fuzzing.harness import Reader, difference, fuzz, remove
from tests.fuzzing.mutations import gzip_bomb
from tests.fuzzing.readers import READERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")


@pytest.mark.parametrize("name", READERS)
def test_mutated_files_are_refused_or_read_exactly(name):
    report = fuzz(READERS[name], range(100))
    assert not report.broken, report.broken[0]
    assert report.refused >= 20 and report.exact >= 10 and report.refused + report.exact == report.count == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_mutated_files(name):
    report = fuzz(READERS[name], range(10_000))
    assert not report.broken, report.broken[0]
    assert len(report.sentences) >= 4


def tar_of(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, size, headers in members:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = size, headers
            archive.addfile(member, io.BytesIO(bytes(size)))
    return stream.getvalue()


def long_name_alone():
    """A header of GNU's that announces the name of a member, which does not come."""
    whole = tar_of(*((name, size, {}) for name, size in SIZES.items()))
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 6
    end = whole.index(b"three") + 1024
    return whole[:end] + member.tobuf() + b"other\0".ljust(512, b"\0") + bytes(1024)


def jpeg_with_damaged_exif():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    Image.new("L", (3, 2), 128).save(stream, "JPEG", exif=exif)
    return (
        stream.getvalue()
        .replace(b"\x0e\x01\x02\x00", b"\x0e\x01\x02\xff")
        .replace(b"\x01\x0e\0\x02", b"\x01\x0e\xff\x02")
    )


OTHERS = [(name, size, {}) for name, size in SIZES.items() if name != "three"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("idx", b"\0\0\x08\x04" + struct.pack(">4I", 0, 2**32 - 1, 2**32 - 1, 2**32 - 1), "shape"),
        ("idx", b"\0\0\x0e\x03" + struct.pack(">3I", 2**31, 0, 2**31), "shape"),
        ("tar", tar_of(*OTHERS, ("three", 5, {"path": "four"})), "three"),
        ("tar", tar_of(*OTHERS, ("three", 5, {}), ("four", 5, {"path": "three"})), "three"),
        ("tar", tar_of(*OTHERS, ("three", 5, {"size": "99999999999"})), "size"),
        ("tar", tar_of(*OTHERS, ("three", 5, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})), "sparse"),
        ("tar", long_name_alone(), "header"),
        ("picture", jpeg_with_damaged_exif(), None),
        ("csv", b"a,y\n" + b"1,1\n" * 4 + b"1,01\n" + b"1,2\n" * 5, None),
        ("csv", gzip_bomb(b"a,y\n1,2\n", b"\n" * 2**20, 200), ""),
        ("tsv-features", b'c\td\n"1"2\t3\n', "line"),
    ],
)
def test_what_readers_once_stumbled_over(name, content, sentence):
    def mutate(random, path):
        path.write_bytes(content)
        return ["bomb, or less"] if sentence is not None else []  # whatever refuses it is right

    report = fuzz(READERS[name]._replace(mutate=mutate), range(1))
    assert not report.broken, report.broken[0]
    assert all(sentence in said for said in report.sentences)


@pytest.mark.parametrize("name", [name for name in READERS if name != "image-folder"])
def test_what_is_no_file_is_refused_at_once(name):
    def pipe(random, path):
        os.mkfifo(path)
        return ["special: a pipe, into which nobody writes"]

    def endless(random, path):
        path.symlink_to("/dev/zero")
        return ["special: a link to a device without end"]

    for mutate in (pipe, endless):
        report = fuzz(READERS[name]._replace(mutate=mutate), range(1))
        assert not report.broken, report.broken[0]


@pytest.mark.parametrize("where", ["x\ny", "x\ny/1.png", "cats/x\ny.txt", "cats/x\ny.png", "cats/\x1b[31mred/deep"])
def test_odd_names_in_a_folder_of_pictures(where):
    def mutate(random, path):
        for name in ("cats/1.png", "dogs/1.png", where):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2) if name != where else (3, 3)).save(path / name, "PNG")
        return ["an odd name"]

    report = fuzz(READERS["image-folder"]._replace(mutate=mutate), range(1))
    assert not report.broken, report.broken[0]


@pytest.mark.slow
def test_enormous_pictures_are_decoded_one_at_a_time(monkeypatch):
    def all_white(path):
        count = len(list((path / "cats").iterdir()))
        x = np.full((count + 1, 8, 8, 3), 255, np.uint8)
        return Parts(Dataset(x, np.array([0] * count + [1], np.int32)), classes=("cats", "dogs"))

    def read(path):
        return read_image_folder(path, image_size=(8, 8))

    monkeypatch.setattr("os.cpu_count", lambda: 4)
    report = fuzz(READERS["image-folder"]._replace(read=read, mutate=folder_bomb, oracle=all_white), range(6))
    assert not report.broken, report.broken[0]
    assert report.exact == 6 and report.peak > 2 * 10**8


def idx_reader(read):
    return Reader("idx", read, mutate_idx, idx_oracle)


def zeros_for_what_is_missing(path):
    try:
        return read_idx(path)
    except DataError as error:
        if "announces" not in str(error):
            raise
        return np.zeros(3, np.uint8)


def another_type(path):
    return read_idx(path).astype(np.float64)


def one_value_is_wrong(path):
    array = read_idx(path)
    array.reshape(-1)[-1:] += 1
    return array


def index_error(path):
    try:
        return read_idx(path)
    except DataError:
        return [][0]


def endless(path):
    while True:
        pass


def asleep(path):
    time.sleep(100)


def eats_memory(path):
    return len(b"x" * 3 * 10**8)


def asks_for_memory(path):
    return bytearray(10**12)


def warns(path):
    warnings.warn("look out", stacklevel=1)
    return read_idx(path)


def writes(path):
    with gzip.open(path.parent / "outside.gz", "wb"):
        return read_idx(path)


def runs_a_program(path):
    subprocess.run(["true"], check=True)


def unpickles(path):
    return pickle.loads(pickle.dumps(Random))


def without_a_name(path):
    raise DataError("the file is damaged")


def says_nothing(path):
    raise DataError(f"{path}: 404")


def two_lines(path):
    raise DataError(f"{path}: is damaged\nat its end")


def colours_the_terminal(path):
    raise DataError(f"{path}: holds the name \x1b[31mred")


def recites(path):
    raise DataError(f"{path}: holds what is no number: {'seven ' * 1000}")


def refuses_everything(path):
    raise DataError(f"{path}: is no IDX file")


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (zeros_for_what_is_missing, "gave uint8 .3. where the oracle finds no data"),
        (another_type, "gave wrong data: float64 .*; expected"),
        (one_value_is_wrong, "gave wrong data: 1 of"),
        (index_error, "let IndexError out"),
        (endless, "hangs"),
        (asleep, "hangs"),
        (eats_memory, "took 3.. MB"),
        (asks_for_memory, "MemoryError"),
        (warns, "warned: UserWarning: look out"),
        (writes, "open for writing: .*outside.gz"),
        (runs_a_program, "subprocess.Popen"),
        (unpickles, "pickle.find_class"),
        (without_a_name, "does not begin with the file's name"),
        (says_nothing, "without saying what is wrong"),
        (two_lines, "not one printable line"),
        (colours_the_terminal, "not one printable line"),
        (recites, "a sentence of 60.. characters"),
        (refuses_everything, "refused an intact file"),
    ],
)
def test_a_broken_reader_is_caught(read, reason, tmp_path):
    report = fuzz(idx_reader(read), range(100), keep=tmp_path, seconds=0.3 if reason == "hangs" else 10, memory=10**8)
    (broke,) = report.broken
    assert re.search(reason, broke.reason), broke.reason
    assert broke.kept is not None and broke.kept.parent == tmp_path
    assert f"--only {broke.number}" in str(broke)


def test_a_mutation_can_be_made_again(tmp_path):
    for name, reader in READERS.items():
        done = []
        for path in (tmp_path / f"one{reader.suffix}", tmp_path / f"two{reader.suffix}"):
            mutations = reader.mutate(Random(f"{name} 0 7"), path)
            content = path.read_bytes() if path.is_file() else sorted(entry.name for entry in path.iterdir())
            done.append((mutations, content))
            remove(path)
        assert done[0] == done[1]


@pytest.mark.parametrize(
    ("actual", "expected", "sentence"),
    [
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), ""),
        (np.array([0.0]), np.array([-0.0]), "1 of 1 values"),
        (np.zeros((0, 3)), np.zeros((0, 4)), "expected float64 .0, 4."),
        (np.zeros(3, ">i4"), np.zeros(3, "<i4"), "expected int32"),
        ((np.zeros(2), None), (np.zeros(2), np.zeros(2)), "part 1"),
        ({"a": b"1", "b": b"2"}, {"b": b"2", "a": b"1"}, ""),
        ({"a": b"1"}, {"a": b"2"}, "a: "),
        (("cats",), ("dogs",), "part 0"),
    ],
)
def test_differences_are_found(actual, expected, sentence):
    found = difference(actual, expected)
    assert bool(found) == bool(sentence)
    assert re.search(sentence, found)


@pytest.mark.slow
def test_the_command(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz_readers", "--reader", "idx", "cifar10", "--count", "40"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "idx: 40 files" in done.stdout and "cifar10: 40 files" in done.stdout
