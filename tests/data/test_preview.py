"""What a preview prints and draws is what is in the data."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxnn.data import Dataset, Splits
from jaxnn.data.preview import preview


def parts(x, y):
    """The same examples in three parts of different sizes."""
    n = len(x)
    return Splits(Dataset(x, y), Dataset(x[: n // 2], y[: n // 2]), Dataset(x[: n // 4], y[: n // 4]))


def drawn(axes):
    """Rows of pictures by where they lie, from top left."""
    rows = {}
    for image in axes.images:
        left, _, _, top = image.get_extent()
        rows.setdefault(round(top, 6), {})[left] = np.asarray(image.get_array())
    return [[row[left] for left in sorted(row)] for _, row in sorted(rows.items())]


def members(images, labels, label, pictures):
    """The numbers of the pictures, each of which must be one of a class and there once."""
    numbers = []
    for picture in pictures:
        (same,) = np.nonzero((images == picture).all(axis=(1, 2)))
        assert len(same) == 1 and labels[same[0]] == label
        numbers.append(int(same[0]))
    assert len(set(numbers)) == len(numbers)
    return numbers


@pytest.mark.parametrize("form", ["channel", "no channel", "rows", "floats"])
def test_each_row_of_pictures_is_of_its_class(form):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (60, 9, 9), np.uint8), np.repeat([0, 1, 2], [40, 15, 5])
    random.shuffle(labels)
    x = {"channel": images[..., None], "no channel": images, "rows": images.reshape(60, 81)}.get(form)
    if x is None:
        images = x = images / np.float32(255)
    numbers = []
    for seed in (0, 0, 1):
        figure = preview(parts(x, labels), ["cat", "dog"], seed=seed).figure()
        (axes,) = figure.axes
        rows = drawn(axes)
        assert [len(row) for row in rows] == [8, 8, 5]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog", "2"]
        numbers.append([members(images, labels, label, row) for label, row in enumerate(rows)])
        for label, where in enumerate(axes.get_yticks()):  # each name beside the middle of its row
            lefts = [image.get_extent() for image in axes.images[label * 8 : label * 8 + 5]]
            np.testing.assert_allclose(where, [(bottom + top) / 2 for _, _, bottom, top in lefts])
    assert numbers[0] == numbers[1] != numbers[2]
    assert {image.get_clim() for image in axes.images} == {(0, max(image.max() for row in rows for image in row))}
    assert figure.get_suptitle() == "random training examples of each class"


@pytest.mark.parametrize("scale", [1, 255, None])
def test_colours(scale):
    random = np.random.default_rng(0)
    images = random.integers(0, 201, (12, 4, 6, 3), np.uint8)
    x = images if scale is None else images / 255 * scale  # bytes, or floats up to 1 or 255
    figure = preview(parts(x, np.arange(12) % 2), per_class=100).figure()
    rows = drawn(figure.axes[0])
    top = x.max() if scale == 255 else {1: 1, None: 255}[scale]
    for label, row in enumerate(rows):
        expected = x[label::2].astype(float) / top
        assert len(row) == 6
        for picture in row:
            assert np.isclose(expected, picture, atol=1 / 254).all(axis=(1, 2, 3)).sum() == 1


def test_what_is_not_shown_is_said():
    random = np.random.default_rng(0)
    x, y = random.random((120, 8, 8)), np.arange(120) % 43
    shown = preview(parts(x, y), [f"a very long name of the class {n}" for n in range(44)], per_class=2)
    figure = shown.figure()
    (axes,) = figure.axes
    assert len(drawn(axes)) == 20
    assert figure.get_suptitle() == "random training examples of the first 20 of 43 classes"
    assert axes.get_yticklabels()[0].get_text() == "a very long name of the…"
    lines = str(shown).splitlines()
    assert lines[-1] == "and 4 more classes" and len(lines) == 2 + 1 + 40 + 1
    assert lines[3].split()[-9:] == ["3", "2.5", "%", "2", "3.3", "%", "1", "3.3", "%"]
    wide = preview(parts(random.normal(size=(40, 33)), random.normal(size=(40, 6))))
    figure = wide.figure()
    assert figure.get_suptitle() == "training data: the first 16 of 33 features and targets"
    assert len(figure.axes) == 16 + 4
    assert "and 2 more targets" in str(wide) and "…" in str(wide)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize(("height", "width", "classes"), [(4, 200, 10), (500, 4, 20), (30, 90, 5), (28, 28, 3)])
def test_long_pictures_leave_room_for_names_and_end(height, width, classes, regression):
    random = np.random.default_rng(0)
    images, labels = random.random((60, height, width, 1), np.float32), np.arange(60) % classes
    y = random.normal(size=(60, 1)) * 1e4 if regression else labels
    figure = preview(parts(images, y), [f"class {n}" for n in range(classes)], per_class=3).figure()
    figure.draw_without_rendering()
    axes, rows = figure.axes[0], 3 if regression else classes
    inches = axes.get_window_extent().height / figure.dpi / rows
    assert 0.2 <= inches <= 1.8
    assert figure.get_figheight() <= 1.8 * rows + 2.6
    assert figure.get_figwidth() <= 6
    texts = axes.texts if regression else [text for text in axes.get_yticklabels() if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == (9 if regression else classes)
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    stretched = not 1 / 6 < height / width < 6
    assert figure.get_suptitle().endswith(", stretched") == stretched
    if not stretched:
        assert axes.get_aspect() == pytest.approx(1)


@pytest.mark.parametrize(("classes", "shape"), [(100, (8, 8)), (100, (99, 8)), (None, (8, 8))])
def test_titles_are_whole(classes, shape):
    images = np.random.default_rng(0).random((300, *shape))
    y = images.sum(axis=(1, 2)) if classes is None else np.arange(300) % classes
    figure = preview(parts(images, y), per_class=2).figure()
    figure.draw_without_rendering()
    (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    box = title.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_names_are_no_formulas_and_none_is_hidden():
    random = np.random.default_rng(0)
    names = ["c $\\foo$", "_b", "$_$"]
    table = parts(random.normal(size=(60, 3)), np.arange(60) % 3)
    histograms = preview(table, names, columns=names).figure()
    pictures = preview(parts(random.random((60, 8, 8)), np.arange(60) % 3), names).figure()
    for figure in (histograms, pictures):
        figure.savefig(io.BytesIO(), format="png", dpi=20)
    assert [axes.get_title() for axes in histograms.axes] == names
    (legend,) = histograms.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    colors = [to_rgba(line.get_color()) for line in legend.legend_handles]
    assert colors == [outline.get_edgecolor() for outline in histograms.axes[0].patches[1::2]]
    assert [text.get_text() for text in pictures.axes[0].get_yticklabels()] == names


def test_class_table_counts():
    y = np.repeat([3, 0, 7], [10, 20, 10])
    lines = str(preview(parts(np.random.default_rng(0).normal(size=(40, 2)), y), list("abcd"))).splitlines()
    assert lines[0] == "40 train, 20 validation, 10 test examples of 2 float64"
    rows = [line.split() for line in lines[3:8]]
    assert rows[0] == ["a", "20", "50.0", "%", "10", "50.0", "%", "0", "0.0", "%"]
    assert rows[1][:4] == ["b", "0", "0.0", "%"]  # a name without examples
    assert rows[3] == ["d", "10", "25.0", "%", "10", "50.0", "%", "10", "100.0", "%"]
    assert rows[4] == ["7", "10", "25.0", "%", "0", "0.0", "%", "0", "0.0", "%"]


def test_target_table_has_quantiles_and_first_rows_are_the_first():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 2)), random.exponential(size=(40, 1))
    y[5] = np.nan
    lines = [line.split() for line in str(preview(parts(x, y))).splitlines()]
    known = np.sort(y[:, 0][np.isfinite(y[:, 0])])
    place = [q * (len(known) - 1) for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)]
    expected = [known[int(p)] + (p % 1) * (known[min(int(p) + 1, len(known) - 1)] - known[int(p)]) for p in place]
    assert lines[3] == ["y[:,", "0]", "train", *(f"{value:.4g}" for value in expected)]
    assert [line[2] for line in lines[3:6]] == ["train", "validation", "test"]
    for number, line in enumerate(lines[8:13]):
        assert line == ["train", str(number), *(f"{value:.4g}" for value in [*x[number], *y[number]])]
    assert len(lines) == 13


def test_histograms_count_every_training_example():
    random = np.random.default_rng(0)
    x = np.stack([random.normal(size=100), random.integers(0, 3, 100)], axis=1)
    y = random.integers(0, 2, 100)
    figure = preview(parts(x, y), ["cat", "dog"]).figure()
    assert [axes.get_title() for axes in figure.axes] == ["x[:, 0]", "x[:, 1]"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog"]
    for axes, values in zip(figure.axes, x.T, strict=True):
        outlines = axes.patches[1::2]
        assert [patch.get_label() for patch in outlines] == ["cat", "dog"]
        for label, patch in enumerate(outlines):
            counts, edges, _ = patch.get_data()
            np.testing.assert_array_equal(counts, np.histogram(values[y == label], edges)[0])
            assert counts.sum() == (y == label).sum()
    whole, edges, _ = figure.axes[1].patches[1].get_data()
    np.testing.assert_array_equal(edges, [-0.5, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(whole, np.bincount(x[y == 0, 1].astype(int), minlength=3))
    assert len(preview(parts(x, np.arange(100) % 9)).figure().axes[0].patches) == 2  # too many classes for colours


def test_a_regression_has_a_histogram_of_its_target():
    random = np.random.default_rng(0)
    y = np.round(random.exponential(size=(90, 1)), 3)
    table = preview(parts(random.normal(size=(90, 2)), y)).figure()
    pictures = preview(parts(random.random((90, 5, 7, 1)), y), per_class=4).figure()
    assert [axes.get_title() for axes in table.axes] == ["x[:, 0]", "x[:, 1]", "target y[:, 0]"]
    for axes in (table.axes[2], pictures.axes[1]):  # in thirds
        counts = [patch.get_data()[0].sum() for patch in axes.patches[1::2]]
        assert sum(counts) == 90 and all(29 <= count <= 31 for count in counts)
    assert [len(row) for row in drawn(pictures.axes[0])] == [4, 4, 4]
    texts = [float(text.get_text()) for text in pictures.axes[0].texts]
    assert texts == sorted(texts) and len(set(texts)) > 9


def test_pictures_stand_over_their_targets():
    random = np.random.default_rng(0)
    images = random.random((30, 8, 8))
    targets = images.sum(axis=(1, 2))
    axes = preview(parts(images, targets)).figure().axes[0]
    pictures = [picture for row in drawn(axes) for picture in row]
    texts = sorted(axes.texts, key=lambda text: (text.get_position()[1], text.get_position()[0]))
    assert [text.get_text() for text in texts] == [f"{picture.sum():.3g}" for picture in pictures]


def test_tables_that_could_be_no_pictures_are_histograms():
    random = np.random.default_rng(0)
    labels = np.arange(30) % 2
    for x in (random.normal(size=(30, 64)), 300.5 * random.random((30, 64)), random.random((30, 5))):
        assert len(preview(parts(x, labels)).figure().axes) == min(16, x.shape[1])
    assert len(preview(parts(random.random((30, 16)), labels)).figure().axes) == 16  # too small
    assert len(preview(parts(random.random((30, 64)), labels)).figure().axes) == 1


def test_values_that_are_not_finite_are_drawn_around():
    random = np.random.default_rng(0)
    x, y = random.random((30, 8, 8)), np.arange(30) % 2
    x[:, 0, 0], x[:, 0, 1] = np.nan, np.inf
    limits = {image.get_clim() for image in preview(parts(x, y), per_class=30).figure().axes[0].images}
    assert limits == {(0, x[np.isfinite(x)].max())}
    table = preview(parts(x[:, 0, :4], y)).figure()
    assert table.axes[0].patches[1].get_data()[0].sum() == 0
    assert table.axes[2].patches[1].get_data()[0].sum() == 15


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (
            np.ones((4, 2)),
            np.array(["a"] * 4),
            r"train.y must hold examples in real numbers; got <U1 of shape \(4,\)",
        ),
        (np.ones((4, 2)), np.zeros(5, int), "train.x has 4 examples and train.y has 5"),
        (np.ones((0, 2)), np.zeros(0, int), r"train.x has shape \(0, 2\): there is nothing to show"),
        (np.ones((4, 0)), np.zeros(4, int), "there is nothing to show"),
        (np.ones((4, 2)), np.zeros((4, 0)), r"train.y has shape \(4, 0\)"),
    ],
)
def test_data_that_cannot_be_shown_gets_a_sentence(x, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        preview(Splits(*[Dataset(x, y)] * 3))
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        preview(parts(np.ones((4, 2)), np.zeros(4, int)), per_class=0)
