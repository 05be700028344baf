"""Folders of pictures: each class, part and format is read to the bit, and nothing in them is passed over in silence."""

import os
import pickle
import shutil
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import DataError
from jaxnn.data.description import Description
from jaxnn.data.image_folder import list_image_folder, read_image_folder
from jaxnn.data.images import fit, read_image, to_example

RANDOM = np.random.default_rng(0)


def noise(*shape):
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def saved(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def refusal(root, read=read_image_folder, **options):
    with pytest.raises(DataError) as caught:
        read(root, **options)
    assert str(caught.value).startswith(str(root))
    return str(caught.value)


@pytest.fixture
def two_classes(tmp_path):
    """Three colour pictures of one size, b/2.png, b/10.png and a/x.png."""
    pictures = {name: noise(3, 4, 3) for name in ("b/2.png", "b/10.png", "a/x.png")}
    for name, picture in pictures.items():
        saved(tmp_path / name, picture)
    return tmp_path, pictures


def test_classes_and_pictures_are_sorted_by_name(two_classes):
    root, pictures = two_classes
    parts = read_image_folder(str(root))
    assert (parts.classes, parts.targets, parts.columns) == (("a", "b"), (), ())
    assert (parts.validation, parts.test) == (None, None)
    assert (parts.train.x.dtype, parts.train.y.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(parts.train.x, [pictures[name] for name in ("a/x.png", "b/10.png", "b/2.png")])
    assert parts.train.y.tolist() == [0, 1, 1]


def test_more_pictures_than_a_thread_takes_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnn.data.image_folder._STRETCH", 3)
    pictures = noise(10, 2, 2)
    for number, picture in enumerate(pictures):
        saved(tmp_path / "ab"[number > 6] / f"{number}.png", picture)
    parts = read_image_folder(tmp_path)
    np.testing.assert_array_equal(parts.train.x[..., 0], pictures)
    assert parts.train.y.tolist() == [0] * 7 + [1] * 3


LOSSLESS = {
    "png": {},
    "PNG": {},
    "bmp": {},
    "tif": {},
    "tiff": {"compression": "tiff_lzw"},
    "ppm": {},
    "webp": {"lossless": True},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats(suffix, channels, tmp_path):
    pictures = noise(2, 5, 4, channels)
    for name, picture in zip("ab", pictures, strict=True):
        saved(tmp_path / name / f"0.{suffix}", picture if channels == 3 else picture[..., 0], **LOSSLESS[suffix])
    images = read_image_folder(tmp_path).train.x
    if suffix == "webp" and channels == 1:  # it knows no grey
        pictures = pictures.repeat(3, -1)
    np.testing.assert_array_equal(images, pictures)


def test_gif_and_pgm_and_jpeg(tmp_path):
    grey, palette = noise(8, 8), Image.new("P", (8, 8))
    palette.putpalette(noise(768).tobytes())
    palette.putdata(range(64))
    saved(tmp_path / "a/0.gif", grey)
    saved(tmp_path / "b/0.pgm", grey)
    saved(tmp_path / "b/1.jpeg", np.full((8, 8), 77, np.uint8))
    images = read_image_folder(tmp_path).train.x
    np.testing.assert_array_equal(images[..., 0], [grey, grey, np.full((8, 8), 77)])
    saved(tmp_path / "b/2.gif", palette)
    images = read_image_folder(tmp_path).train.x
    np.testing.assert_array_equal(images[:2], np.broadcast_to(grey[..., None], (2, 8, 8, 3)))
    np.testing.assert_array_equal(images[3], palette.convert("RGB"))


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), shade) for shade in ("red", "blue", "lime")]
    for name, suffix in (("a", "gif"), ("b", "webp"), ("b", "tiff"), ("c", "png")):
        options = {"lossless": True} if suffix == "webp" else {}
        saved(tmp_path / name / f"0.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    assert (read_image_folder(tmp_path).train.x == [255, 0, 0]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_a_prediction_sees_the_bits_that_training_saw(mode, tmp_path):
    """Of pictures of every mode, with `image_size` or without."""
    if mode == "I;16":
        pictures = [Image.fromarray(RANDOM.integers(0, 2**16, (9, 12)).astype(np.uint16)) for _ in range(2)]
    else:
        pictures = [Image.fromarray(noise(9, 12, 4), "RGBA") for _ in range(2)]
        if mode != "RGBA":
            pictures = [picture.convert("RGB").convert(mode) for picture in pictures]
        if mode == "LA":
            for picture in pictures:
                picture.putalpha(Image.fromarray(noise(9, 12)))
    for name, picture in zip("ab", pictures, strict=True):
        saved(tmp_path / name / f"0.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}", picture)
    channels = 1 if mode in ("1", "L", "LA", "I;16") else 3
    for image_size in (None, (4, 4), (3, 7), (20, 30)):
        parts = read_image_folder(tmp_path, image_size=image_size)
        assert parts.train.x.shape == (2, *(image_size or (9, 12)), channels)
        description = Description("own", "", parts.train.x.shape[1:], parts.classes, brightest=255)
        listed = list_image_folder(tmp_path, image_size=image_size).train
        for (image, label), path, expected in zip(listed, listed.paths, parts.train.x, strict=True):
            np.testing.assert_array_equal(image, expected)
            assert parts.classes[label] == path.parent.name
            picture = read_image(path, colour=description.colour)
            np.testing.assert_array_equal(to_example(picture, description), expected)


def test_transparent_is_white_and_mixed_grey_is_colour(tmp_path):
    saved(tmp_path / "a/0.png", Image.new("RGBA", (2, 2), (9, 9, 9, 0)))
    saved(tmp_path / "b/0.png", Image.new("L", (2, 2), 7))
    images = read_image_folder(tmp_path).train.x
    assert images.shape == (2, 2, 2, 3)
    assert (images[0] == 255).all() and (images[1] == 7).all()


def test_pictures_of_several_sizes_need_one(tmp_path):
    pictures = [noise(9, 12, 3), noise(20, 8, 3), noise(5, 5, 3)]
    for name, picture in zip(("a/0.png", "a/1.png", "b/0.png"), pictures, strict=True):
        saved(tmp_path / name, picture)
    for read in (read_image_folder, list_image_folder):
        assert refusal(tmp_path, read).endswith(
            ": a/0.png has 9x12 pixels (height x width) and a/1.png 20x8; give one size to bring them to, such as "
            "image_size=(64, 64) (--image-size 64x64)"
        )
    images = read_image_folder(tmp_path, image_size=(5, 6)).train.x
    np.testing.assert_array_equal(images, [fit(picture, (5, 6)) for picture in pictures])


def test_sizes_are_those_of_upright_pictures(tmp_path):
    """Those that EXIF turns, also where PNG has it behind the pixels, which the header pass does not reach."""
    exif = Image.Exif()
    exif[274] = 6
    stored = noise(3, 5)
    for name in ("a/0.png", "b/0.tif"):
        saved(tmp_path / name, stored, exif=exif)
    saved(tmp_path / "b/1.png", noise(5, 3))
    np.testing.assert_array_equal(read_image_folder(tmp_path).train.x[:2, ..., 0], [np.rot90(stored, -1)] * 2)
    content = (tmp_path / "a/0.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    (tmp_path / "b/2.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert "b/2.png 3x5" in refusal(tmp_path)
    images = read_image_folder(tmp_path, image_size=(5, 3)).train.x
    np.testing.assert_array_equal(images[3, ..., 0], np.rot90(stored, -1))
    for name in ("a/0.png", "b/0.tif", "b/1.png"):
        (tmp_path / name).unlink()
    (tmp_path / "b/2.png").rename(tmp_path / "a/0.png")
    saved(tmp_path / "b/0.png", noise(3, 5))
    said = refusal(tmp_path)
    assert "1 of 2 pictures cannot be read: a/0.png has 5x3 pixels (height x width), not 3x5" in said


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("Training", "val", None),
        ("train", None, "TEST"),
        ("training", None, "Testing"),
    ],
)
def test_official_parts(names, tmp_path):
    pictures = {}
    for part in filter(None, names):
        for name in ("a", "b") if part.lower().startswith("train") else ("b",):
            pictures[part, name] = noise(2, 3)
            saved(tmp_path / part / name / "0.png", pictures[part, name])
    (tmp_path / ".git").mkdir()
    parts = read_image_folder(tmp_path)
    assert parts.classes == ("a", "b")
    np.testing.assert_array_equal(parts.train.x[..., 0], [pictures[names[0], "a"], pictures[names[0], "b"]])
    assert parts.train.y.tolist() == [0, 1]
    for name, part in ((names[1], parts.validation), (names[2], parts.test)):
        if name is None:
            assert part is None
        else:
            np.testing.assert_array_equal(part.x[..., 0], [pictures[name, "b"]])
            assert (part.y.tolist(), part.y.dtype) == ([1], np.int32)


def test_folders_that_are_no_parts_are_classes(tmp_path):
    for name in ("train", "bus", "test"):
        saved(tmp_path / name / "0.png", noise(2, 2))
    assert read_image_folder(tmp_path).classes == ("bus", "test", "train")


def test_parts_that_do_not_fit_are_refused(tmp_path):
    for name in ("train/a", "train/b", "test/b"):
        saved(tmp_path / name / "0.png", noise(2, 2))
    saved(tmp_path / "test/c/0.png", noise(2, 2))
    assert refusal(tmp_path).endswith("test/c: is a class that the training data lacks; it has a, b")
    (tmp_path / "test/c").rename(tmp_path / "training")
    assert "holds a part twice, among test, train, training" in refusal(tmp_path)
    (tmp_path / "training/0.png").unlink()
    (tmp_path / "training").rmdir()
    (tmp_path / "test/b/0.png").unlink()
    assert refusal(tmp_path).endswith("test: holds no pictures")
    saved(tmp_path / "test/0.png", noise(2, 2))
    assert "test/0.png: lies outside the class folders" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a/notes.txt", "a/notes.txt: is no picture file; expected names that end with .png, .jpg"),
        ("a/png", "a/png: is no picture file"),
        ("README.md", "README.md: lies outside the class folders; expected one folder per class beside it"),
        ("a/more/0.png", "a/more: is a folder in a class folder; expected pictures alone there"),
        ("a/\x1b[31mmore\n.txt", "a/\\x1b[31mmore\\n.txt: is no picture file"),
        ("a/more.png/0.png", "a/more.png: is a folder in a class folder"),
    ],
)
def test_what_else_lies_there_is_refused(name, sentence, two_classes):
    root, _ = two_classes
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"text")
    for read in (read_image_folder, list_image_folder):
        assert f"{root}/{sentence}" in refusal(root, read)


def test_what_systems_leave_behind_is_ignored(two_classes):
    root, _ = two_classes
    for name in (".DS_Store", "a/._x.png", "a/Thumbs.db", "b/desktop.ini", "Desktop.ini"):
        (root / name).write_bytes(b"text")
    (root / "b/.cache").mkdir()
    assert len(read_image_folder(root).train.x) == 3


def test_links_are_followed(two_classes, tmp_path_factory):
    root, pictures = two_classes
    other = tmp_path_factory.mktemp("linked")
    (other / "a").symlink_to(root / "b")
    (other / "b").mkdir()
    (other / "b/0.png").symlink_to(root / "a/x.png")
    images = read_image_folder(other).train.x
    np.testing.assert_array_equal(images, [pictures[name] for name in ("b/10.png", "b/2.png", "a/x.png")])
    (other / "b/1.png").symlink_to(other / "nowhere")
    assert "b/1.png: is a link to nothing" in refusal(other)
    (other / "c").symlink_to(other / "c")
    assert "c: is a link to nothing" in refusal(other)


@pytest.mark.parametrize("name", ["c\n", "c\x1b[31m", "c\udcff"])
def test_a_class_is_a_name_that_can_be_printed(name, two_classes):
    root, _ = two_classes
    saved(root / name / "0.png", noise(2, 3))
    shown = repr(name)[1:-1]
    assert refusal(root).endswith(
        f"{shown}: is the name of a class and has characters that cannot be printed; rename the folder"
    )


def test_a_pipe_is_not_waited_for(two_classes):
    root, _ = two_classes
    os.mkfifo(root / "a/y.png")
    assert "a/y.png: is no picture file" in refusal(root)


def test_folders_that_are_none(two_classes):
    root, _ = two_classes
    assert refusal(root / "missing").endswith("missing: no such folder")
    assert "x.png: cannot be read as a folder (Not a directory)" in refusal(root / "a/x.png")
    (root / "c").mkdir()
    assert refusal(root).endswith("c: holds no pictures; expected at least one of each class")
    assert "c: is empty; expected one folder per class" in refusal(root / "c")
    shutil.rmtree(root / "b")
    (root / "c").rmdir()
    assert refusal(root).endswith("holds one class alone, a; expected two or more")


def test_what_may_not_be_read_is_named(two_classes, monkeypatch):
    root, _ = two_classes
    kind = type(root)
    listing, opening = kind.iterdir, kind.open

    def forbidden(path, *arguments):
        if path.name in ("x.png", "forbidden"):
            raise PermissionError(13, "Permission denied", str(path))
        return (opening if arguments else listing)(path, *arguments)

    monkeypatch.setattr(kind, "iterdir", forbidden)
    monkeypatch.setattr(kind, "open", forbidden)
    assert refusal(root).endswith("a/x.png cannot be read as a picture (Permission denied)")
    (root / "forbidden").mkdir()
    assert refusal(root).endswith("forbidden: cannot be read as a folder (Permission denied)")


def test_all_damaged_pictures_are_counted_and_three_named(two_classes):
    root, _ = two_classes
    (root / "a/0.png").write_bytes(b"")
    (root / "a/1.jpg").write_bytes(b"no picture")
    flipped = bytearray((root / "b/2.png").read_bytes())
    flipped[flipped.index(b"IDAT") + 12] ^= 1
    (root / "b/3.png").write_bytes(flipped)
    named = (
        ": 3 of 6 pictures cannot be read: a/0.png cannot be read as a picture (it is none of PNG, JPEG, BMP, GIF, WEBP, "
        "TIFF, PPM), a/1.jpg cannot be read as a picture (it is none of PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM), b/3.png "
        "cannot be read as a picture (broken PNG file"
    )
    assert named in refusal(root)
    assert "2 of 6 pictures cannot be read: a/0.png" in refusal(root, list_image_folder)
    saved(root / "b/4.jpg", noise(3, 4, 3))
    (root / "b/4.jpg").write_bytes((root / "b/4.jpg").read_bytes()[:-30])
    said = refusal(root)
    assert "4 of 7 pictures cannot be read" in said and said.endswith(", …") and "4.jpg" not in said
    for name in ("a/0.png", "a/1.jpg"):
        (root / name).unlink()
    (root / "b/4.jpg").rename(root / "b/4\udcff\n.jpg")
    assert "b/4\\udcff\\n.jpg cannot be read as a picture (" in refusal(root)
    (root / "b/4\udcff\n.jpg").rename(root / "b/4.jpg")
    said = refusal(root)
    assert "2 of 5 pictures cannot be read: b/3.png" in said and "b/4.jpg cannot be read as a picture (" in said
    listed = list_image_folder(root).train
    with pytest.raises(DataError, match=r"3\.png: cannot be read as a picture"):
        listed[3]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tiff", "ppm"])
def test_any_damage_is_survived(suffix, tmp_path):
    """Cut anywhere or with bytes changed, a picture is read or refused by one sentence, and nothing else is raised."""
    exif = Image.Exif()
    exif[274] = 3
    options = {"exif": exif} if suffix in ("png", "jpg", "webp", "tiff") else {}
    path = saved(tmp_path / "a" / f"0.{suffix}", noise(6, 7, 3), **options)
    good = path.read_bytes()
    (tmp_path / "a").rename(tmp_path / "good")
    for number in range(60):
        damaged = bytearray(good)
        for place in RANDOM.integers(0, min(len(good), 300), 3):
            damaged[place] = RANDOM.integers(256)
        damaged = damaged[: RANDOM.integers(len(good))] if number % 2 else damaged
        name = tmp_path / "ab"[number % 2] / f"{number}.{suffix}"
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(damaged)
    said = refusal(tmp_path)
    assert " of 61 pictures cannot be read: " in said or "give one size to bring them to" in said
    assert "\n" not in said


def test_what_the_decoder_only_warns_of_is_taken(two_classes):
    """Here, where warnings are errors: EXIF data whose entries end too soon."""
    root, _ = two_classes
    exif = b"Exif\0\0II*\0\x08\0\0\0\x03\0" + struct.pack("<HHII", 270, 2, 100, 5000)
    for name in ("a/y.jpg", "b/y.jpg"):
        saved(root / name, np.full((3, 4, 3), 50, np.uint8), exif=exif)
    before = list(warnings.filters)
    with pytest.warns(UserWarning, match=r".") as caught, Image.open(root / "a/y.jpg") as file:
        file.getexif()
    assert caught
    parts = read_image_folder(root)
    assert (parts.train.x[1] == 50).all() and (parts.train.x[4] == 50).all()
    np.testing.assert_array_equal(np.rint(read_image(root / "a/y.jpg") * 255), np.full((3, 4), 50))
    assert warnings.filters == before


def test_more_than_fits_in_one_array_is_for_a_stream(two_classes, monkeypatch):
    root, _ = two_classes
    monkeypatch.setattr("jaxnn.data.image_folder._MOST_BYTES", 3 * 3 * 4 * 3)
    assert len(read_image_folder(root).train.x) == 3
    said = refusal(root, image_size=(60000, 60000))
    assert "3 images of 60000x60000x3 take 30.2 GiB as one array" in said and "jaxnn.data.stream" in said
    assert len(list_image_folder(root, image_size=(60000, 60000)).train) == 3


def test_a_listed_folder_travels_to_other_processes(two_classes):
    root, _ = two_classes
    listed = list_image_folder(root).train
    image, label = pickle.loads(pickle.dumps(listed))[1]
    np.testing.assert_array_equal(image, listed[1][0])
    assert (label, label.dtype, image.flags.writeable) == (1, np.int32, True)


@pytest.mark.parametrize(
    ("image_size", "error", "sentence"),
    [
        (64, TypeError, "image_size must be a height and a width, such as"),
        ((64,), TypeError, "image_size must be a height and a width"),
        ((0, 3), ValueError, "the height of image_size must be at least 1; got 0"),
        ((3, 2.5), TypeError, "the width of image_size must be a whole number"),
    ],
)
def test_an_image_size_that_is_none(image_size, error, sentence, two_classes, types_unchecked):
    with pytest.raises(error, match=sentence):
        read_image_folder(two_classes[0], image_size=image_size)
