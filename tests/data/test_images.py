"""Photos, brought into the form of a data set of photos; drawings are tested with `jaxnn predict`."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from jaxnn.data import DataError
from jaxnn.data.description import Description, Drawing
from jaxnn.data.images import fit, read_header, read_image, to_example

COLOUR = Description("photos", "", (32, 32, 3), brightest=255)
GREY = Description("grey photos", "", (4, 6, 1), brightest=255)
RANDOM = np.random.default_rng(0)


def example_of(picture, path):
    picture.save(path)
    return to_example(read_image(path, colour=True), COLOUR)


def test_a_photo_of_the_data_sets_own_size_stays_as_it_is(tmp_path):
    """Bright or dark at its border, off centre, of one shade: nothing is inverted, moved or refused."""
    for photo in (RANDOM.integers(0, 256, (32, 32, 3)).astype(np.uint8), np.full((32, 32, 3), 250, np.uint8)):
        np.testing.assert_array_equal(example_of(Image.fromarray(photo), tmp_path / "own.png"), photo)


@pytest.mark.parametrize("turned", [False, True])
def test_the_middle_square_of_a_photo_is_scaled(turned, tmp_path):
    square = RANDOM.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    large = np.kron(square, np.ones((4, 4, 1), np.uint8))
    page = np.full((128, 228, 3), 255, np.uint8)
    page[:, 50:178] = large
    if turned:
        page, square = page.transpose(1, 0, 2), square.transpose(1, 0, 2)
    np.testing.assert_array_equal(example_of(Image.fromarray(page), tmp_path / "wide.png"), square)


def test_a_reduced_photo_is_the_mean_of_its_pixels(tmp_path):
    photo = RANDOM.integers(0, 256, (96, 97, 3)).astype(np.uint8)
    expected = photo[:, :96].reshape(32, 3, 32, 3, 3).mean((1, 3))
    np.testing.assert_allclose(example_of(Image.fromarray(photo), tmp_path / "photo.png"), expected, atol=0.501)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (1, 500), (40, 31)])
def test_any_size_becomes_the_data_sets(size, tmp_path):
    example = example_of(Image.new("RGB", size, (10, 200, 90)), tmp_path / "photo.png")
    assert (example.shape, example.dtype) == ((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(example, np.broadcast_to(np.array([10, 200, 90], np.uint8), (32, 32, 3)))


def test_grey_and_transparent_pictures_have_colours_too(tmp_path):
    assert (example_of(Image.new("L", (50, 40), 77), tmp_path / "grey.png") == 77).all()
    assert (example_of(Image.new("RGBA", (50, 40), (9, 9, 9, 0)), tmp_path / "clear.png") == 255).all()


def test_a_photo_may_be_grey_and_oblong(tmp_path):
    page = RANDOM.integers(0, 256, (12, 30)).astype(np.uint8)
    Image.fromarray(page).save(tmp_path / "page.png")
    example = to_example(read_image(tmp_path / "page.png"), GREY)
    expected = page[:, 6:24].reshape(4, 3, 6, 3).mean((1, 3))
    assert (example.shape, example.dtype) == ((4, 6, 1), np.uint8)
    np.testing.assert_allclose(example[..., 0], expected, atol=0.501)


def test_the_brightest_value_is_the_data_sets(tmp_path):
    picture = np.arange(24, dtype=np.float32).reshape(4, 6) / 23
    example = to_example(picture, Description("dim", "", (4, 6, 1), brightest=16))
    np.testing.assert_allclose(example[..., 0], picture * 16, atol=0.55)


@pytest.mark.parametrize(
    ("size", "shape", "block"),
    [((41, 45), (3, 5), 9), ((45, 41), (5, 3), 9), ((43, 40), (1, 40), 1), ((41, 44), (1, 1), 41), ((7, 7), (7, 7), 1)],
)
def test_fit_is_the_mean_over_the_middle(size, shape, block):
    picture = RANDOM.integers(0, 256, (*size, 3)).astype(np.uint8)
    height, width = shape
    top, left = (size[0] - height * block) // 2, (size[1] - width * block) // 2
    middle = picture[top : top + height * block, left : left + width * block].astype(np.float64)
    expected = middle.reshape(height, block, width, block, 3).mean((1, 3))
    fitted = fit(picture, shape)
    assert (fitted.shape, fitted.dtype) == ((*shape, 3), np.uint8)
    np.testing.assert_allclose(fitted, expected, atol=0.501)
    np.testing.assert_array_equal(fit(picture[..., 0], shape), fitted[..., :1])


def test_fit_enlarges_along_ramps():
    picture = RANDOM.integers(0, 256, (5, 4)).astype(np.uint8)
    rows, columns = ((np.arange(3 * side) + 0.5) / 3 - 0.5 for side in picture.shape)
    wide = np.array([np.interp(columns, range(4), row) for row in picture])
    expected = np.array([np.interp(rows, range(5), column) for column in wide.T]).T
    np.testing.assert_allclose(fit(picture, (15, 12))[..., 0], expected, atol=0.501)


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"images of photos have 3 channels \(use read_image\(path, colour=True\)\)"):
        to_example(np.zeros((8, 8), np.float32), COLOUR)
    with pytest.raises(ValueError, match="have 1 channels"):
        to_example(np.zeros((8, 8, 3), np.float32), GREY)
    with pytest.raises(ValueError, match="the examples of iris are no pictures"):
        to_example(np.zeros((8, 8), np.float32), Description("iris", "", (4,)))


def test_a_drawing_fills_its_box():
    page = np.ones((50, 70), np.float32)
    page[10:40, 5:15] = 0
    digits = Description("digits", "", (28, 28, 1), brightest=255, drawing=Drawing(box=20, centred_by_mass=True))
    example = to_example(page, digits)[..., 0]
    rows, columns = np.nonzero(example > 127)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 7)
    assert abs(np.average(rows) - 14) <= 1


SIXTEEN_BITS = np.array([[0, 257, 300, 32768, 65535]], np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled(suffix, tmp_path):
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(SIXTEEN_BITS).save(path)
    assert read_header(path) == (1, 5, True)
    np.testing.assert_array_equal(np.rint(read_image(path) * 255), SIXTEEN_BITS // 257)


def test_a_transparent_shade_of_sixteen_bits_is_white(tmp_path):
    Image.fromarray(SIXTEEN_BITS).save(tmp_path / "grey.png", transparency=300)
    assert (np.rint(read_image(tmp_path / "grey.png") * 255) == [[0, 1, 255, 127, 255]]).all()


def test_numbers_without_a_white_are_refused(tmp_path):
    path = tmp_path / "numbers.tif"
    for dtype in (np.int32, np.float32):
        Image.fromarray(np.ones((2, 2), dtype)).save(path)
        assert read_header(path).grey
        with pytest.raises(DataError, match="holds 32-bit numbers, of which none is known to be white; save it with 8"):
            read_image(path)
    Image.fromarray(SIXTEEN_BITS).save(path)
    content = path.read_bytes()
    black_is_zero = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert content.count(black_is_zero) == 1
    path.write_bytes(content.replace(black_is_zero, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    with pytest.raises(DataError, match="or inverted ones of 16 bits"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation, suffix, tmp_path):
    """By where row 0 and column 0 of what is stored lie, as the EXIF standard has it (tag 274)."""
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255
    stored[:8, 16:] = 128
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: a[::-1].T,
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: a.T[::-1],
    }
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    upright = turns[orientation](stored)
    assert read_header(path)[:2] == upright.shape
    np.testing.assert_allclose(read_image(path) * 255, upright, atol=3)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (8192, 4097)).save(path)
    tracemalloc.start()
    for read in (read_image, read_header):
        with pytest.raises(DataError, match="has 4097x8192 pixels; expected 1 to 33,554,432 of them"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path):
        with pytest.raises(DataError, match=r"cannot be read as a picture \(it is no file\)"):
            read_image(path)
    with pytest.raises(DataError, match=r"missing.png: no such file"):
        read_image(tmp_path / "missing.png")


def test_other_formats_are_none(tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "drawing.png", format="EPS")
    with pytest.raises(DataError, match=r"drawing.png: cannot be read as a picture \(it is none of PNG, JPEG"):
        read_image(tmp_path / "drawing.png")


def test_a_flipped_bit_of_a_png_is_found(tmp_path):
    path = tmp_path / "flipped.png"
    Image.fromarray(RANDOM.integers(0, 256, (20, 20)).astype(np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 3):
        content[place] ^= 8
        path.write_bytes(content)
        content[place] ^= 8
        if b"IEND" not in content[place : place + 8] and place < len(content) - 8:
            with pytest.raises(DataError, match=r"flipped\.png: (cannot be read as a picture|has .* pixels)"):
                read_image(path)
