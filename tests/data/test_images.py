"""Photos, brought into the form of a data set in colour; drawings are tested with `jaxnn predict`."""

import numpy as np
import pytest
from PIL import Image

from jaxnn import data
from jaxnn.data.images import read_image, to_example

CIFAR10 = data.find("cifar10")
RANDOM = np.random.default_rng(0)


def example_of(picture, path):
    picture.save(path)
    return to_example(read_image(path, colour=True), CIFAR10)


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
