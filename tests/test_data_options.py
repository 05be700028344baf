"""The command's settings of the data: what is chosen where nothing is said, and what is refused."""

from dataclasses import fields
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnn import cli
from jaxnn.data import Description
from jaxnn.data_options import (
    DataOptions,
    DivisionOptions,
    as_arguments,
    check_options,
    check_scaling,
    choose_scaling,
    fit_scaling,
    load_data,
    scaling_like,
)

PIXELS = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1)
COLUMNS = np.array([[1.0, -50.0], [3.0, 50.0]], np.float32)


@pytest.mark.parametrize(
    ("x", "columns", "name"),
    [
        (PIXELS, (), "min_max"),
        (PIXELS / 255, (), "min_max"),
        (COLUMNS, (), "standardize"),
        (COLUMNS / 100 + 0.5, (), "none"),
        (COLUMNS / 100 + 0.5, ("a", "b"), "standardize"),
    ],
)
def test_the_usual_scaling(x, columns, name):
    assert choose_scaling(x, Description("mine", "", x.shape[1:], ("0", "1"), columns=columns)) == name


def test_pixels_share_a_scale_and_columns_do_not():
    np.testing.assert_allclose(fit_scaling("min_max", PIXELS)(PIXELS), PIXELS / 47.0, rtol=1e-6)
    np.testing.assert_allclose(fit_scaling("min_max", COLUMNS)(COLUMNS), [[0, 0], [1, 1]])
    np.testing.assert_allclose(fit_scaling("standardize", COLUMNS)(COLUMNS), [[-1, -1], [1, 1]])
    assert float(fit_scaling("standardize", PIXELS).mean) == 23.5
    assert fit_scaling("none", COLUMNS) is None


@pytest.mark.parametrize("name", ["min_max", "standardize", "none"])
@pytest.mark.parametrize("x", [PIXELS, COLUMNS])
def test_what_is_read_back_has_the_form_of_what_was_fitted(name, x):
    form = lambda tree: (jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)])
    assert form(scaling_like(name, x.shape[1:])) == form(fit_scaling(name, x))


@pytest.mark.parametrize(
    "text", ["", "0", "64x", "64x0", "x64", "64X64", "-3", "12345", "64x64x3", "6 4", "６４", "6４"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="--image-size must be HEIGHTxWIDTH in pixels, such as 64x64; got"):
        check_options(DataOptions(image_size=text))


def test_settings_reach_the_data():
    splits, about = load_data("diabetes", DataOptions(validation=0.5, test=21, split_seed=4))
    assert [len(part.x) for part in splits] == [200, 221, 21]
    assert about.targets == ("disease progression",)
    other, _ = load_data("diabetes", DataOptions(validation=0.5, test=21))
    assert not np.array_equal(other.test.x, splits.test.x)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"validation": 0.25, "test": 30, "split_seed": 4},
        {"data_dir": Path("my data"), "label_column": "-y", "task": "regression", "image_size": "8x6"},
    ],
)
def test_options_become_the_words_that_set_them(options):
    words = as_arguments(DataOptions(dataset="x", scaling="none", **options))
    parsed = cli._parse(["data", "check", "x", *words])
    for field in fields(DivisionOptions):
        assert getattr(parsed, field.name) == options.get(field.name, field.default)
    assert len(words) <= 2 * len(options), "what is as by default is left out"


def test_pictures_of_whole_numbers_are_scaled():
    with pytest.raises(
        ValueError, match=r"--scaling none leaves the pictures of sky in whole numbers, .* choose min_max"
    ):
        check_scaling("none", PIXELS, "sky")
    check_scaling("min_max", PIXELS, "sky")
    check_scaling("none", PIXELS / np.float32(255), "sky")
    check_scaling("none", COLUMNS, "sky")
