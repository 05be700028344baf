"""`load` by path: every kind of file gives the arrays that were written, in three parts, and its description."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxnn as nn
from jaxnn.data import DataError, Description
from jaxnn.data.images import to_example
from tests.data.test_formats import idx_bytes


def rows(count, features=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, features)).astype(np.float32), (np.arange(count) % 3).astype(np.int32)


def images(count, shape=(6, 5), seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape)).astype(np.uint8), (np.arange(count) % 3).astype(np.int32)


def write_npz(folder):
    x, y = rows(60)
    np.savez(folder / "mine.v2.npz", x=x, y=y)
    return (
        folder / "mine.v2.npz",
        x,
        y,
        {"name": "mine.v2", "title": "arrays", "shape": (4,), "classes": ("0", "1", "2")},
    )


def write_csv(folder):
    x, y = rows(60)
    path = folder / "flowers.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "species", "c", "d"])
        for row, label in zip(x.tolist(), y, strict=True):
            writer.writerow([*row[:2], ["iris", "rose", "tulip"][label], *row[2:]])
    facts = {"classes": ("iris", "rose", "tulip"), "columns": ("a", "b", "c", "d"), "shape": (4,)}
    return path, x, y, {"name": "flowers", "title": "rows of a table", **facts}


def write_numbers(folder):
    x, _ = rows(60)
    path = folder / "prices.csv.gz"
    lines = ["a,b,c,d,price", *(",".join(map(repr, [*row, row[0] * 2])) for row in x.tolist())]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    facts = {"targets": ("price",), "columns": ("a", "b", "c", "d"), "shape": (4,)}
    return path, x, 2 * x[:, :1], {"name": "prices", "title": "rows of a table", **facts}


def write_folder(folder):
    x, y = images(60, (6, 5, 3))
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        place = folder / "pets.old" / ["cat", "dog", "emu"][label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    order = np.argsort(y, kind="stable")
    facts = {"title": "pictures", "shape": (6, 5, 3), "classes": ("cat", "dog", "emu"), "brightest": 255}
    return folder / "pets.old", x[order], y[order], {"name": "pets.old", **facts}


def write_idx_pair(folder):
    x, y = images(60)
    (folder / "some-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(x)))
    (folder / "some-labels-idx1-ubyte").write_bytes(idx_bytes(y.astype(np.uint8)))
    facts = {"title": "images from an IDX file", "shape": (6, 5, 1), "classes": ("0", "1", "2"), "brightest": 255}
    return folder / "some-images-idx3-ubyte.gz", x[..., None], y, {"name": "some-images-idx3-ubyte", **facts}


def write_cifar(folder):
    x, y = images(60, (32, 32, 3))
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(x, y, strict=True)]
    (folder / "data_batch_1.bin").write_bytes(b"".join(records))
    facts = {"title": "photos from a file of CIFAR-10", "shape": (32, 32, 3), "brightest": 255}
    classes = nn.data.find("cifar10").about.classes
    return folder / "data_batch_1.bin", x, y, {"name": "data_batch_1", "classes": classes, **facts}


UNDIVIDED = [write_npz, write_csv, write_numbers, write_folder, write_idx_pair, write_cifar]


def in_one_order(x, y):
    flat = np.concatenate([x.reshape(len(x), -1), y.reshape(len(y), -1)], axis=1)
    return flat[np.lexsort(flat.T)]


@pytest.mark.parametrize("write", UNDIVIDED)
def test_what_the_file_does_not_divide_is_divided_and_nothing_else_happens_to_it(write, tmp_path):
    path, x, y, facts = write(tmp_path)
    label = "species" if path.name == "flowers.csv" else "price" if path.name == "prices.csv.gz" else None
    splits, about = nn.data.load_described(path, label=label)
    assert about == Description(**facts)
    assert [len(part.x) for part in splits] == [42, 6, 12]
    for part in splits:
        assert (part.x.dtype, part.y.dtype) == (x.dtype, y.dtype)
    together = [np.concatenate(parts) for parts in zip(*splits, strict=True)]
    np.testing.assert_array_equal(in_one_order(*together), in_one_order(x, y))
    if facts.get("classes"):
        assert [np.bincount(part.y).tolist()[:3] for part in splits] == [[14] * 3, [2] * 3, [4] * 3]
    again = nn.data.load(str(path), label=label, validation=10, test=0.5, seed=3)
    assert [len(part.x) for part in again] == [20, 10, 30]


def write_divided_npz(folder):
    parts = [rows(count, seed=count) for count in (30, 12)]
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez_compressed(folder / "divided.npz", **dict(zip(names, [*parts[0], *parts[1]], strict=True)))
    return folder / "divided.npz", parts


def write_idx_folder(folder):
    parts = [images(count, seed=count) for count in (30, 12)]
    for start, (x, y) in zip(("train", "t10k"), parts, strict=True):
        (folder / f"{start}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(idx_bytes(y.astype(np.uint8)))
    return folder, [(x[..., None], y) for x, y in parts]


def write_cifar100_folder(folder):
    parts = [images(count, (32, 32, 3), seed=count) for count in (30, 12)]
    for name, (x, y) in zip(("train", "test"), parts, strict=True):
        records = [bytes([5, label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(x, y, strict=True)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    return folder, parts


def write_cifar10_folder(folder):
    parts = [images(count, (32, 32, 3), seed=count) for count in (30, 12)]
    records = [
        [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(x, y, strict=True)]
        for x, y in parts
    ]
    (folder / "data_batch_1.bin").write_bytes(b"".join(records[0][:20]))
    (folder / "data_batch_2.bin").write_bytes(b"".join(records[0][20:]))
    (folder / "test_batch.bin").write_bytes(b"".join(records[1]))
    return folder, parts


def write_image_folder(folder):
    parts = [images(count, seed=count) for count in (30, 12)]
    sorted_parts = []
    for name, (x, y) in zip(("train", "test"), parts, strict=True):
        for number, (image, label) in enumerate(zip(x, y, strict=True)):
            (folder / name / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name / str(label) / f"{number:02}.png")
        order = np.argsort(y, kind="stable")
        sorted_parts.append((x[order][..., None], y[order]))
    return folder, sorted_parts


DIVIDED = [write_divided_npz, write_idx_folder, write_cifar100_folder, write_cifar10_folder, write_image_folder]


@pytest.mark.parametrize("write", DIVIDED)
def test_a_test_part_of_its_own_is_never_mixed_in(write, tmp_path):
    path, (train, test) = write(tmp_path)
    splits = nn.data.load(path, seed=7)
    assert [len(part.x) for part in splits] == [27, 3, 12]
    np.testing.assert_array_equal(splits.test.x, test[0])
    np.testing.assert_array_equal(splits.test.y, test[1])
    together = [np.concatenate(parts) for parts in zip(*splits[:2], strict=True)]
    np.testing.assert_array_equal(in_one_order(*together), in_one_order(*train))
    with pytest.raises(ValueError, match="test"):
        nn.data.load(path, test=0.1)


def test_the_three_lists_of_a_json_are_the_parts(tmp_path):
    parts = [rows(count, seed=count) for count in (9, 4, 5)]
    path = tmp_path / "three.json.gz"
    path.write_bytes(gzip.compress(json.dumps([[x.tolist(), y.tolist()] for x, y in parts]).encode()))
    splits, about = nn.data.load_described(path)
    for part, (x, y) in zip(splits, parts, strict=True):
        np.testing.assert_array_equal(part.x, x)
        np.testing.assert_array_equal(part.y, y)
    assert about == Description("three", "rows of numbers", (4,), ("0", "1", "2"))


def test_names_go_before_paths_and_dots_help(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image_folder(tmp_path / "digits")
    assert nn.data.load("digits").train.x.shape == (1258, 8, 8, 1)
    for path in ("./digits", tmp_path / "digits", Path("digits")):
        assert nn.data.load(path).train.x.shape == (27, 6, 5, 1)


def test_pictures_of_a_folder_are_scaled_on_request(tmp_path):
    path, *_ = write_folder(tmp_path)
    splits, about = nn.data.load_described(path, image_size=(3, 4))
    assert splits.train.x.shape == (42, 3, 4, 3)
    assert about.shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("minst", {}, "unknown data set 'minst': did you mean mnist"),
        ("nowhere/", {}, "unknown data set 'nowhere/'"),
        ("no/where", {}, "no/where: no such file or folder"),
        ("nothing.csv", {}, "nothing.csv: no such file or folder"),
        ("a" * 5000, {}, "^'a{80}' is neither a data set nor a path .File name too long.$"),
        ("a\0b", {}, "is neither a data set nor a path|unknown data set"),
        ("empty", {}, "empty: "),
        ("notes.txt", {}, "notes.txt: unknown kind of file; there are .npz"),
        ("rows.npz", {"label": "a"}, r"label= \(--label-column\) names the column of a table, and rows.npz is a file of another kind"),
        ("digits", {"image_size": (8, 8)}, "is for a folder of pictures, and digits is a data set by name"),
        ("rows.npz", {"data_dir": "empty"}, "is for data sets with a name, and rows.npz is a path"),
        ("rows.npz", {"validation": 60}, "rows.npz: "),
        ("rows.npz", {"seed": -1}, "seed must be at least 0"),
        ("rows.npz", {"task": "regresion"}, "unknown task 'regresion': did you mean regression"),
        ("some-labels-idx1-ubyte", {}, "name the file of the images"),
        ("lone-images-idx3-ubyte", {}, "lone-labels-idx1-ubyte: no such file, gzipped or not"),
        ("", {}, "got an empty text"),
        ("~nobody-at-all/x.csv", {}, "is neither a data set nor a path|no such file"),
        ("rows.npz", {"test": float("nan")}, "test must be finite and at least 0; got nan"),
        ("rows.npz", {"validation": "0.1"}, "validation must be a number; got '0.1'"),
        (3, {}, "data is named by a name such as 'digits', or a path; got 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_gets_a_sentence(name, settings, sentence, tmp_path, monkeypatch, types_unchecked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    x, y = rows(30)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    write_idx_pair(tmp_path)
    (tmp_path / "lone-images-idx3-ubyte").write_bytes(idx_bytes(images(6)[0]))
    with pytest.raises((ValueError, TypeError), match=sentence):
        nn.data.load(name, **settings)


def test_files_that_are_there_unpacked_and_packed(tmp_path):
    _, (_, test) = write_idx_folder(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        path.with_name(f"emnist-{path.name}").write_bytes(path.read_bytes())
        path.with_name(f"emnist-{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    splits = nn.data.load(tmp_path)
    np.testing.assert_array_equal(splits.test.x, test[0])
    assert len(splits.train.x) == 27


def test_cifars_files_are_all_there_or_refused(tmp_path):
    path, _ = write_cifar10_folder(tmp_path)
    (tmp_path / "data_batch_1 (1).bin").write_bytes(b"downloaded again")
    assert [len(part.x) for part in nn.data.load(path)] == [27, 3, 12]
    (tmp_path / "data_batch_1.bin").unlink()
    with pytest.raises(DataError, match=r"of the files data_batch_1.bin to data_batch_2.bin some are missing"):
        nn.data.load(path)


def test_what_is_never_learned_is_not_tested(tmp_path):
    """A class with a single example goes to the training data."""
    x, _ = rows(43)
    np.savez(tmp_path / "rare.npz", x=x, y=np.r_[np.arange(40) % 2, 2, 3, 4])
    for seed in range(10):
        splits = nn.data.load(tmp_path / "rare.npz", seed=seed)
        assert set(splits.train.y.tolist()) == {0, 1, 2, 3, 4}


def test_drawings_in_arrays_are_told_from_photos(tmp_path, mnist_dir):
    """So that a picture of a digit of one's own is prepared for MNIST's files as it is for MNIST by name."""
    named = nn.data.find("mnist").about.drawing
    assert nn.data.load_described(mnist_dir).about.drawing == named
    x, y = images(30)
    np.savez(tmp_path / "photos.npz", x=x, y=y)
    assert nn.data.load_described(tmp_path / "photos.npz").about.drawing is None


@pytest.mark.parametrize("white", [1, 16])
def test_what_white_is_shows_in_the_arrays(white, tmp_path, mnist_dir):
    """Digits that are stored from 0 to 1 or 16 lie as those from 0 to 255, and pictures are brought to their range."""
    x, y = (part[:300] for part in nn.data.load(mnist_dir).train)
    np.savez(tmp_path / "digits.npz", x=np.rint(x[..., 0] * (white / 255)).astype(np.uint8), y=y)
    about = nn.data.load_described(tmp_path / "digits.npz").about
    assert (about.brightest, about.drawing) == (white, nn.data.find("mnist").about.drawing)
    strokes = x[0, ..., 0].astype(np.float32) / 255
    np.testing.assert_array_equal(to_example(strokes, about)[..., 0], np.rint(strokes * white))


def test_a_folder_with_two_sets_of_idx_files_is_refused(tmp_path):
    write_idx_folder(tmp_path)
    write_idx_pair(tmp_path)
    with pytest.raises(DataError, match="expected one file of training images"):
        nn.data.load(tmp_path)


def test_the_parts_of_an_idx_folder_must_be_alike(tmp_path):
    write_idx_folder(tmp_path)
    for other in (images(12, (6, 6))[0], images(12)[0].astype(np.float32)):
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(other))
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte has examples of .*; the parts must be alike"):
            nn.data.load(tmp_path)


def test_what_the_system_says_is_a_sentence(tmp_path, monkeypatch):
    """A name to which nothing may be appended, and folders that may be listed but not entered."""
    path = tmp_path / f"{'a' * 237}-images-idx3-ubyte"
    path.write_bytes(idx_bytes(images(60)[0]))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz: cannot be read \(File name too long\)"):
        nn.data.load(path)

    def refused(entry):
        raise PermissionError(13, "Permission denied", str(entry))

    write_folder(tmp_path)
    (tmp_path / "mnist").mkdir()
    for name in ("is_file", "is_dir"):
        monkeypatch.setattr(Path, name, refused)
    for name, data_dir in ((tmp_path / "pets.old", None), ("mnist", tmp_path)):
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
            nn.data.load(name, data_dir)
