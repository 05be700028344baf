"""Each fault that is planted is found, with its number and place, and nothing else is."""

import json
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxnn as nn
from jaxnn.data import DataError, Dataset, Splits, _duplicates, _part
from jaxnn.data.checks import validate
from jaxnn.data.report import DataReport

SIZES = {"train": 300, "validation": 100, "test": 100}
NAMES = tuple(SIZES)


def table(seed=0):
    """Arrays `train_x`, `train_y`, … of a classification that has no fault."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, size in SIZES.items():
        arrays[f"{name}_x"] = random.normal(size=(size, 4)).astype(np.float32)
        arrays[f"{name}_y"] = random.permutation(np.arange(size) % 3).astype(np.int32)
    return arrays


def regression(seed=0):
    random = np.random.default_rng(seed)
    return table(seed) | {f"{name}_y": random.exponential(size=(size, 2)) for name, size in SIZES.items()}


def pictures(seed=0):
    random = np.random.default_rng(seed)
    images = {f"{name}_x": random.integers(0, 256, (size, 3, 5, 1), np.uint8) for name, size in SIZES.items()}
    return table(seed) | images


def splits(arrays):
    return Splits(*(Dataset(arrays[f"{name}_x"], arrays[f"{name}_y"]) for name in NAMES))


def found(report):
    return [(f.severity, f.check, f.part, f.count, f.examples) for f in report.findings]


def drawn_labels(seed=0):
    """Classes in proportions that vary by chance."""
    random = np.random.default_rng(seed)
    return table(seed) | {f"{name}_y": random.integers(0, 3, size) for name, size in SIZES.items()}


@pytest.mark.parametrize("make", [table, drawn_labels, regression, pictures])
def test_data_without_a_fault_has_no_findings(make):
    for seed in range(20):
        report = validate(splits(make(seed)))
        assert report.findings == () and report.ok
        report.raise_for_errors()
    assert "no findings" in str(report)


@pytest.mark.parametrize("seed", range(5))
def test_heavy_but_ordinary_tails_are_no_outliers(seed):
    random = np.random.default_rng(seed)
    draws = [
        *random.normal(size=(5, 100_000)),
        *random.exponential(size=(5, 100_000)),
        *random.lognormal(size=(5, 100_000)),
        random.uniform(size=100_000),
        (random.random(100_000) < 0.001) * 1.0,  # a rare indicator
        # Pixels at the border of drawings.
        *(random.integers(0, 256, 100_000) * (random.random(100_000) < share) for share in (0.04, 0.052, 0.07)),
    ]
    data = nn.data.split(Dataset(np.stack(draws, axis=1).astype(np.float32), np.arange(100_000, dtype=np.int32) % 3))
    assert validate(data).findings == ()


def test_a_shift_within_half_the_range_is_no_finding():
    arrays = table()
    arrays["validation_x"][:, 2] += np.ptp(arrays["train_x"][:, 2]) / 2
    assert np.mean(arrays["validation_x"][:, 2] > arrays["train_x"][:, 2].max()) > 0.3
    assert validate(splits(arrays)).findings == ()


def test_digits_have_nothing_but_dark_pixels(digits):
    report = validate(digits, classes=10)
    train = digits.train.x.reshape(len(digits.train.x), -1)
    dark = np.flatnonzero(train.max(axis=0) == train.min(axis=0))
    assert found(report) == [("note", "constant", "train", len(dark), tuple(dark[:5]))]
    for part, data in zip(report.parts, digits, strict=True):
        pixels = data.x.astype(np.float64)
        assert (part.examples, part.shape, part.dtype) == (len(data.x), (8, 8, 1), "uint8")
        np.testing.assert_allclose(
            [part.minimum, part.maximum, part.mean, part.std], [0, 16, pixels.mean(), pixels.std()], rtol=1e-12
        )
        assert dict(part.classes) == Counter(data.y.tolist())
        assert (part.y_shape, part.y_dtype) == ((), "int32")


def test_real_mnist(mnist_dir):
    data = nn.data.load("mnist", mnist_dir)
    report = validate(data, classes=10)
    pixels = data.train.x.reshape(50_000, -1)
    dark = np.flatnonzero(~pixels.any(axis=0))
    # No picture is there twice, in one part or in two.
    assert found(report) == [("note", "constant", "train", len(dark), tuple(dark[:5]))]
    assert sum(dict(part.classes)[5] for part in report.parts[:2]) == 5421  # as its authors' page counts them
    assert dict(report.parts[2].classes)[5] == 892
    counts = np.bincount(pixels.ravel(), minlength=256)
    mean = counts @ np.arange(256) / counts.sum()
    std = np.sqrt(counts @ (np.arange(256) - mean) ** 2 / counts.sum())
    np.testing.assert_allclose([report.parts[0].mean, report.parts[0].std], [mean, std], rtol=1e-10)
    dark = np.flatnonzero(~pixels[:3000].any(axis=0))
    some = [Dataset(pixels[part], data.train.y[part]) for part in (slice(3000), slice(3000, 4000), slice(4000, 5000))]
    assert found(validate(Splits(*some), classes=10)) == [("note", "constant", "train", len(dark), tuple(dark[:5]))]
    # As a table: pixels that are seldom bright are no outliers.
    for size in (100, 300, 1000, 3000):
        some = [Dataset(pixels[i : i + size] - 0.5, data.train.y[i : i + size]) for i in (0, size, 2 * size)]
        assert {f.check for f in validate(Splits(*some)).findings} <= {"constant", "order"}


FAULTS = {}


def fault(make, *expected):
    def register(plant):
        FAULTS[plant.__name__] = (make, plant, expected)
        return plant

    return register


@fault(regression, "error", "constant", "train", 2, (0, 1))
def constant_targets(a):
    for name in NAMES:
        a[f"{name}_y"][:] = 3.5, 1.5


@fault(regression, "error", "constant", "train", 1, (0,))
def one_constant_target(a):
    for name in NAMES:
        a[f"{name}_y"] = np.full(SIZES[name], 3.5)


@fault(regression, "warning", "constant", "train", 1, (1,))
def constant_among_targets(a):
    for name in NAMES:
        a[f"{name}_y"][:, 1] = 3.5


@fault(table, "warning", "sentinel", "train", 1, (2,))
def missing_values(a):
    for name in NAMES:
        a[f"{name}_x"][::5, 2] = -999


@fault(regression, "warning", "sentinel", "train", 1, (1,))
def missing_targets(a):
    for name in NAMES:
        a[f"{name}_y"][3::10, 1] = 9999


@fault(table, "warning", "precision", "train", 1, (3,))
def timestamps(a):
    for name, size in SIZES.items():
        a[f"{name}_x"][:, 3] = 1_700_000_000 + np.random.default_rng(0).integers(0, 20_000, size)


@fault(regression, "warning", "precision", "train", 1, (0,))
def timestamps_to_predict(a):
    for name, size in SIZES.items():
        a[f"{name}_y"][:, 0] = 1_700_000_000 + np.arange(size) % 50


@fault(table, "error", "finite", "test", 3, (7, 9))
def not_finite(a):
    a["test_x"][[7, 9, 9], [2, 0, 3]] = np.nan, np.inf, -np.inf


@fault(pictures, "error", "finite", "train", 1, (2,))
def not_finite_pixel(a):
    for name in NAMES:
        a[f"{name}_x"] = a[f"{name}_x"].astype(np.float32)
    a["train_x"][2, 1, 3, 0] = np.inf


@fault(regression, "error", "finite", "train", 2, (0, 299))
def not_finite_targets(a):
    a["train_y"][[0, 299], 1] = np.nan


@fault(table, "error", "constant", "train", 300, ())
def all_constant(a):
    a["train_x"][:] = 2.5


@fault(table, "warning", "constant", "train", 2, (0, 3))
def constant_features(a):
    for name in NAMES:
        a[f"{name}_x"][:, [0, 3]] = 7


@fault(pictures, "note", "constant", "train", 2, (1, 14))
def constant_pixels(a):
    a["train_x"].reshape(300, -1)[:, [1, 14]] = 7


@fault(pictures, "warning", "blank", "train", 2, (4, 250))
def blank_pictures(a):
    a["train_x"][4], a["train_x"][250] = 0, 255


@fault(pictures, "warning", "outliers", "test", 1, (8,))
def unscaled_picture(a):
    for name in NAMES:
        a[f"{name}_x"] = a[f"{name}_x"] / np.float32(255)
    a["test_x"][8] *= 255


@fault(table, "warning", "outliers", "train", 3, (5, 6))
def outliers(a):
    a["train_x"][5, 1], a["train_x"][5, 2], a["train_x"][6, 2] = 1e4, -9999, -9999


@fault(table, "warning", "outliers", "validation", 1, (99,))
def outlier_of_another_part(a):
    a["validation_x"][99, 0] = 500


@fault(regression, "warning", "outliers", "test", 1, (3,))
def outlier_among_targets(a):
    a["test_y"][3, 0] = 1e3


@fault(table, "warning", "range", "train and test", 4, (0, 1, 2, 3))
def unscaled_test_data(a):
    a["test_x"] = a["test_x"] * 255 + 128


@fault(table, "warning", "range", "train and validation", 1, (2,))
def shrunk_feature(a):
    a["validation_x"][:, 2] /= 255


@fault(pictures, "warning", "range", "train and test", 100 * 15, ())
def unscaled_pictures(a):
    for name in NAMES:
        a[f"{name}_x"] = a[f"{name}_x"] / np.float32(255)
    a["test_x"] = a["test_x"] * 255 + 2


@fault(table, "error", "shape", "validation", 2, ())
def lengths(a):
    a["validation_y"] = a["validation_y"][:-2]


@fault(table, "error", "shape", "train and test", 100, ())
def shapes(a):
    a["test_x"] = a["test_x"][:, :3]


@fault(regression, "error", "shape", "train and validation", 100, ())
def target_shapes(a):
    a["validation_y"] = a["validation_y"][:, :1]


@fault(table, "error", "dtype", "train and test", 100, ())
def dtypes(a):
    a["test_x"] = a["test_x"].astype(np.float64)


@fault(table, "error", "dtype", "train and validation", 100, ())
def kinds_of_targets(a):
    a["validation_y"] = np.random.default_rng(0).normal(size=100)


@fault(table, "error", "dtype", "train", 300, ())
def words(a):
    a["train_y"] = np.array([["cat", "dog"][label % 2] for label in a["train_y"]])


@fault(table, "error", "empty", "train", 0, ())
def no_training_data(a):
    a["train_x"], a["train_y"] = a["train_x"][:0], a["train_y"][:0]


@fault(table, "warning", "empty", "validation", 0, ())
def no_validation_data(a):
    a["validation_x"], a["validation_y"] = np.zeros((0, 4)), np.zeros(0)


@fault(table, "error", "labels", "test", 2, (1, 5))
def negative_labels(a):
    a["test_y"][[1, 5]] = -1, -2


@fault(table, "error", "labels", "train", 300, ())
def a_column_of_labels(a):
    a["train_y"] = a["train_y"][:, None]


@fault(table, "error", "classes", "test", 2, (4, 6))
def class_without_training_examples(a):
    a["test_y"][[4, 6]] = 3


@fault(table, "error", "classes", "train", 300, ())
def one_class(a):
    a["train_y"][:] = 1


@fault(table, "warning", "classes", "train", 2, (1, 2))
def classes_without_examples(a):
    for name in NAMES:
        a[f"{name}_y"] = np.array([0, 3, 4], np.int32)[a[f"{name}_y"]]


@fault(table, "warning", "classes", "validation", 1, (1,))
def class_absent_from_a_part(a):
    y = a["validation_y"]
    y[y == 1] = np.arange((y == 1).sum()) % 2 * 2


@fault(table, "note", "classes", "test", 1, (2,))
def rare_class_absent_from_a_part(a):
    for name, size in SIZES.items():
        a[f"{name}_y"] = (np.random.default_rng(0).permutation(size) % 10 > 4).astype(np.int32)
    for name in ("train", "validation"):
        a[f"{name}_y"][: SIZES[name] // 10] = 2


@fault(table, "warning", "imbalance", "train", 1, (2,))
def imbalance(a):
    for name, size in SIZES.items():
        a[f"{name}_y"] = np.random.default_rng(0).permutation(
            np.array([0, 1] * (size // 2 - size // 50) + [2] * (size // 25))
        )


@fault(table, "warning", "proportions", "test", 37, (0,))
def proportions(a):
    a["test_y"] = np.random.default_rng(0).permutation([0] * 70 + [1] * 15 + [2] * 15).astype(np.int32)


@fault(table, "note", "order", "train", 300, ())
def order(a):
    a["train_y"].sort()


@fault(table, "warning", "duplicate", "train", 3, (20, 21, 299))
def duplicates(a):
    x, y = a["train_x"], a["train_y"]
    x[10, 0], x[20:22] = 0.0, x[10]
    x[20, 0] = -0.0
    x[299] = x[10]
    y[[20, 21, 299]] = y[10]


@fault(table, "warning", "contradiction", "validation", 2, (30, 40))
def contradictions(a):
    x, y = a["validation_x"], a["validation_y"]
    x[[30, 40]] = x[2]
    y[[30, 40]] = (y[2] + [1, 2]) % 3


@fault(pictures, "warning", "leakage", "train and test", 10, (0, 1, 2, 3, 4))
def a_little_leakage(a):
    a["test_x"][:10] = a["train_x"][50:60]


@fault(table, "error", "leakage", "validation and test", 11, (60, 61, 62, 63, 64))
def much_leakage(a):
    a["test_x"][60:71] = a["validation_x"][:11]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_nothing_else(name):
    make, plant, expected = FAULTS[name]
    arrays = make(1)
    plant(arrays)
    report = validate(splits(arrays))
    (finding,) = found(report)
    assert finding == expected
    assert report.ok == (expected[0] != "error")
    with pytest.MonkeyPatch.context() as patch:  # the same from pieces of one row or column
        patch.setattr(_part, "_BLOCK", 1)
        patch.setattr(_duplicates, "_BLOCK", 1)
        assert validate(splits(arrays)).findings == report.findings


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("not_finite", "test: x[7, 2] is nan; 3 values are not finite"),
        ("not_finite_pixel", "train: x[2, 1, 3, 0] is inf"),
        ("a_column_of_labels", "train: y has shape (300, 1); labels must be of shape (300,) (use y[:, 0])"),
        ("negative_labels", "test: the label y[1] is -1, and 1 more are out of range; expected 0 or more"),
        ("lengths", "validation: x has 100 examples and y has 98; they must be as many"),
        ("words", "train: y must hold real numbers; got dtype <U3"),
    ],
)
def test_errors_are_raised_with_their_sentence(name, sentence):
    make, plant, _ = FAULTS[name]
    arrays = make(1)
    plant(arrays)
    with pytest.raises(DataError) as caught:
        validate(splits(arrays)).raise_for_errors()
    assert str(caught.value) == sentence
    arrays["validation_x"] = arrays["validation_x"][:, :2]
    with pytest.raises(DataError, match=r"\(and \d more error"):
        validate(splits(arrays)).raise_for_errors()


def test_known_classes():
    arrays = table()
    assert found(validate(splits(arrays), classes=3)) == []
    assert found(validate(splits(arrays), classes=4)) == [("warning", "classes", "train", 1, (3,))]
    above = np.flatnonzero(arrays["test_y"] == 2)
    arrays = table() | {"train_y": table()["train_y"] % 2, "validation_y": table()["validation_y"] % 2}
    expected = [
        ("error", "labels", "test", len(above), tuple(above[:5])),
        # What is out of range counts for no class.
        *[row for row in found(validate(splits(arrays), classes=2)) if row[1] == "proportions"],
    ]
    assert found(validate(splits(arrays), classes=2)) == expected
    numbers = validate(splits(regression()), classes=3)
    assert [(f.severity, f.check, f.part) for f in numbers.findings] == [("error", "labels", name) for name in NAMES]
    with pytest.raises(ValueError, match="classes must be at least 1"):
        validate(splits(arrays), classes=0)


def test_other_forms_of_labels():
    labels = table()
    one_hot = labels | {f"{name}_y": np.eye(3, dtype=np.float32)[labels[f"{name}_y"]] for name in NAMES}
    report = validate(splits(one_hot), classes=3)
    assert report.findings == ()
    assert dict(report.parts[0].classes) == {0: 100, 1: 100, 2: 100}
    for dtype in (np.float32, np.bool_):
        floats = labels | {f"{name}_y": labels[f"{name}_y"].astype(dtype) for name in NAMES}
        report = validate(splits(floats))
        assert found(report) == [("warning", "labels", "train", 300, ())]
        assert "astype(np.int32)" in str(report)
    columns = labels | {f"{name}_y": labels[f"{name}_y"].astype(np.float32)[:, None] for name in NAMES}
    assert validate(splits(columns)).findings == ()  # a regression with few values
    report = validate(splits(columns), classes=3)
    assert found(report) == [("error", "labels", name, size, ()) for name, size in SIZES.items()]
    assert "use y[:, 0].astype(np.int32)" in report.errors[0].message
    scores = labels | {f"{name}_y": np.arange(size) * 1.0 for name, size in SIZES.items()}
    assert validate(splits(scores)).findings == ()  # too many whole numbers to be labels


def test_known_from_elsewhere_is_no_leak_where_examples_can_take_few_values():
    random = np.random.default_rng(0)
    arrays = table()
    for name, size in SIZES.items():
        arrays[f"{name}_x"] = random.integers(0, 2, (size, 2))
        arrays[f"{name}_y"] = arrays[f"{name}_x"].sum(axis=1) % 2
    report = validate(splits(arrays))
    assert report.ok
    assert {f.check for f in report.findings} == {"duplicate", "leakage"}


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(
        st.sampled_from([np.uint8, np.int64, np.float32]),
        st.tuples(st.integers(30, 60), st.integers(1, 3)),
        elements=st.integers(0, 3),
    ),
    y=st.integers(1, 3),
    collide=st.booleans(),
)
def test_repetitions_are_those_of_a_counter(x, y, collide):
    y = np.arange(len(x)) % y
    parts = Splits(Dataset(x[10:], y[10:]), Dataset(x[:4], y[:4]), Dataset(x[4:10], y[4:10]))
    with pytest.MonkeyPatch.context() as patch:
        if collide:  # equal hashes alone decide nothing
            patch.setattr(_duplicates, "_hashes", lambda rows: np.zeros(len(rows), np.uint64))
        report = validate(parts)
    counted = {(f.check, f.part): f.count for f in report.findings if f.check in CHECKS}
    expected = Counter()
    rows = {name: [tuple(row) for row in part.x.tolist()] for name, part in zip(NAMES, parts, strict=True)}
    for name, part in zip(NAMES, parts, strict=True):
        first = {}
        for row, label in zip(rows[name], part.y.tolist(), strict=True):
            if row in first:
                expected["duplicate" if first[row] == label else "contradiction", name] += 1
            first.setdefault(row, label)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        expected["leakage", f"{one} and {other}"] = sum(row in set(rows[one]) for row in rows[other])
    if (parts.train.x == parts.train.x[0, 0]).all():
        expected = Counter()
    assert counted == +expected


CHECKS = ("duplicate", "contradiction", "leakage")


def test_equal_rows_of_every_width_and_type():
    random = np.random.default_rng(0)
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        for width in (1, 3, 8, 17):
            x = random.integers(0, 40, (3000, width)).astype(dtype)
            x[1000:1400] = x[:400][::-1]
            first = _duplicates.first_equals([x[:1100], x[1100:]])
            _, earliest, group = np.unique(x, axis=0, return_index=True, return_inverse=True)
            np.testing.assert_array_equal(first, earliest[group.ravel()])


def test_outliers_are_measured_by_the_median():
    arrays = table()
    arrays["train_x"][17, 3] = 3000
    message = validate(splits(arrays)).findings[0].message
    values = np.sort(arrays["train_x"][:, 3].astype(float))
    median = (values[149] + values[150]) / 2
    distances = np.sort(np.abs(values - median))
    scale = max((distances[149] + distances[150]) / 2 / 0.6745, (values[284] - values[15]) / 3.29)
    assert (
        message == f"outliers in x: 1 of 1,200 values; farthest is x[17, 3] = 3000 (z = {(3000 - median) / scale:.3g})"
    )


def test_report_prints_and_survives_json():
    arrays = table() | {"test_x": table()["test_x"][:0], "test_y": table()["test_y"][:0]}
    arrays["train_y"] = arrays["train_y"] * 30 + np.arange(300, dtype=np.int32) % 10
    arrays["validation_x"][3, 1] = -np.inf
    report = validate(splits(arrays))
    copy = DataReport.from_json(report.to_json())
    assert copy == report and str(copy) == str(report)
    assert json.loads(report.to_json(), parse_constant=pytest.fail) == report.as_dict()
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100
    headings = [line.split()[1:] for line in text.splitlines() if line.startswith("class ")]
    assert [label for heading in headings for label in heading] == [
        *map(str, range(10)),
        *map(str, range(30, 40)),
        *map(str, range(60, 70)),
    ]
    assert f"{len(report.errors)} error" in text.splitlines()[0]
    severities = [f.severity for f in report.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index) and len(set(severities)) == 3
    assert (report.parts[2].minimum, report.parts[2].std) == (None, None)
    finite = arrays["validation_x"][np.isfinite(arrays["validation_x"])].astype(float)
    np.testing.assert_allclose([report.parts[1].minimum, report.parts[1].mean], [finite.min(), finite.mean()])
    for text in ("{", "[]", '{"parts": [], "findings": [{"severity": 1}]}'):
        with pytest.raises(DataError, match="no data report"):
            DataReport.from_json(text)


def test_many_classes_are_summed_up():
    arrays = table() | {f"{name}_y": np.random.default_rng(0).permutation(size) % 50 for name, size in SIZES.items()}
    lines = str(validate(splits(arrays))).splitlines()
    assert any(line.split() == ["train", "50", "6", "6"] for line in lines)


def test_no_data_stops_a_report():
    weird = [
        np.array(3.0),
        np.zeros((0, 3)),
        np.zeros((5, 0)),
        np.array(["a"] * 5),
        np.array([None] * 5, object),
        np.full((5, 3), 1j),
        np.full((5, 3), 1e308),
        np.ones((5, 3), ">f4"),
        np.arange(5, dtype=np.uint64) + 2**63,
        np.array([-(2**63)] * 5),
        jax.random.split(jax.random.key(0), 5),
        jnp.ones((5, 3), jnp.bfloat16),
        np.full((40, 2), np.nan),
        np.arange(40.0),
    ]
    for x in weird:
        for y in weird:
            report = validate(Splits(Dataset(x, y), Dataset(y, x), Dataset(x, x)), classes=3)
            assert not report.ok
            assert DataReport.from_json(report.to_json()) == report
            assert str(report).startswith("data report")


def test_jax_arrays_give_the_same_report():
    arrays = table()
    arrays["train_x"][3, 0] = np.nan
    assert validate(splits({name: jnp.asarray(array) for name, array in arrays.items()})) == validate(splits(arrays))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((1, 2, 3), r"splits must be Splits\(train, validation, test\); got tuple"),
        (Splits(1, 2, 3), r"splits.train must be a Dataset \(x, y\); got int"),
        (Splits(Dataset(np.ones(3), [1, 2, 3]), 2, 3), "splits.train.y must be an array; got list"),
    ],
)
def test_what_is_no_splits_gets_a_sentence(data, sentence):
    with pytest.raises(TypeError, match=sentence):
        validate(data)


def test_a_finding_reads_as_a_sentence():
    assert str(nn.data.Finding("error", "nan", "test", "x[3] is nan", 1, (3,))) == "test: x[3] is nan"


def test_examples_that_can_take_few_values_have_not_leaked():
    """Parts of one table whose rows are 1 of 100: what they share, chance has put there."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        data = nn.data.Dataset(random.integers(0, 100, (200, 1)).astype(np.float32), np.arange(200, dtype=np.int32) % 2)
        report = nn.data.validate(nn.data.split(data, seed=seed))
        assert [finding.check for finding in report.errors] == []
        assert "leakage" in {finding.check for finding in report.warnings}


def test_training_data_that_was_repeated_on_purpose_hides_no_leak():
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    y = np.arange(1000, dtype=np.int32) % 2
    train = nn.data.Dataset(np.concatenate([x, x]), np.concatenate([y, y]))
    leaky = nn.data.Splits(train, nn.data.Dataset(x[:50] + 100, y[:50]), nn.data.Dataset(x[:300], y[:300]))
    (error,) = (finding for finding in nn.data.validate(leaky).errors if finding.check == "leakage")
    assert error.count == 300


def test_a_report_speaks_in_names():
    arrays = table()
    for name in NAMES:
        arrays[f"{name}_x"][:, 2] = 7
        arrays[f"{name}_y"][arrays[f"{name}_y"] == 2] = 3
    arrays["train_x"][4, 1] = 1e4
    classes, columns = ["cats", "dogs", "birds", "fish"], ["height", "weight", "legs", "tail"]
    report = validate(splits(arrays), classes=classes, columns=columns)
    assert [str(f) for f in report.findings] == [
        "train: constant features: 1 of 4 are the same in all examples, x[:, 2] ('legs')",
        report.findings[1].message.join(["train: ", ""]),
        "train: without any examples: class 'birds', of 4 classes",
    ]
    assert "farthest is x[4, 1] ('weight') = 1e+04" in report.findings[1].message
    assert report.findings[2].examples == (2,)
    headings = next(line for line in str(report).splitlines() if line.startswith("class "))
    assert headings.split() == ["class", *classes]
    assert (report.classes, report.columns) == (tuple(classes), tuple(columns))
    content = json.loads(report.to_json())
    assert (content["classes"], content["columns"]) == (classes, columns)
    assert DataReport.from_json(report.to_json()) == report

    arrays = table()
    arrays["test_y"][5:] = 1
    arrays["validation_y"][:30] = 0
    arrays["train_y"] = np.concatenate([np.zeros(290, np.int32), np.arange(10, dtype=np.int32) % 2])
    text = " ".join(f.message for f in validate(splits(arrays), classes=classes).findings)
    for words in (
        "class 'cats' has 295 examples and class 'dogs' only 5: 59 times",
        "without training examples: class 'birds', such as y[",
        "most of all class 'cats'",
        "class 'fish', of 4 classes",
    ):
        assert words in text
    arrays["train_y"][:] = 1
    assert "all 300 labels are 'dogs'" in str(validate(splits(arrays), classes=classes))
    assert "class 'x" not in str(validate(splits(table()), classes=3))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("names", "error", "sentence"),
    [
        ({"classes": ["a", "b", "a"]}, ValueError, "classes has the name 'a' twice; expected different names"),
        ({"columns": ["a", "b", "c", "b"]}, ValueError, "columns has the name 'b' twice"),
        ({"columns": ["a", "b"]}, ValueError, r"names of the features; got 2, and train.x of shape \(300, 4\)"),
        ({"classes": "abc"}, TypeError, "classes must be names; got 'abc'"),
        ({"columns": [1, 2, 3, 4]}, TypeError, r"columns must be names; got \[1, 2, 3, 4\]"),
        ({"classes": []}, ValueError, "classes must be at least 1; got 0"),
    ],
)
def test_names_that_cannot_be(names, error, sentence):
    with pytest.raises(error, match=sentence):
        validate(splits(table()), **names)


def test_a_part_of_another_form_has_no_names_for_its_columns():
    arrays = table()
    arrays["test_x"] = np.full((100, 6), np.nan, np.float32)
    report = validate(splits(arrays), columns=["a", "b", "c", "d"])
    assert "test: x[0, 0] is nan; 600 values are not finite" in map(str, report.errors)


def test_labels_beyond_the_names():
    report = validate(splits(table()), classes=["a", "b"])
    assert "expected 0 to 1" in report.errors[0].message


@pytest.mark.parametrize("test_examples", [40, 100, 150])
@pytest.mark.parametrize("kind", ["digits", "one", "two", "four"])
def test_repeating_all_examples_before_the_division_is_a_leak(kind, test_examples, digits):
    random = np.random.default_rng(0)
    columns = {"one": 1, "two": 2, "four": 4}
    x = digits.train.x if kind == "digits" else random.normal(size=(500, columns[kind])).astype(np.float32)
    y = np.arange(len(x), dtype=np.int32) % 10
    train = Dataset(np.concatenate([x, x]), np.concatenate([y, y]))
    other = Dataset(x[:150] + x.dtype.type(100), y[:150])
    report = validate(Splits(train, other, Dataset(x[:test_examples], y[:test_examples])))
    assert [(f.check, f.count) for f in report.errors if f.part == "train and test"] == [("leakage", test_examples)]


def test_a_copy_of_training_examples_on_a_grid_is_a_leak():
    x, y = np.linspace(0, 1, 200, dtype=np.float32)[:, None], np.arange(200, dtype=np.int32) % 2
    data = Splits(Dataset(x, y), Dataset(x[:0], y[:0]), Dataset(x[:50], y[:50]))
    assert [f.check for f in validate(data).errors] == ["leakage"]


def features_of_few_values(random):
    """Columns that hang together, as passengers' class, fare, age and company do; some ages are filled in."""
    n = 900
    group = random.choice(3, n, p=[0.25, 0.2, 0.55])
    age = np.round(np.clip(random.normal(29, 14, n), 1, 80))
    age[random.random(n) < 0.4] = 28
    fare = np.where(group == 0, random.integers(20, 90, n), np.where(group == 1, 13, random.choice([7, 8, 9], n)))
    columns = [
        group,
        age,
        fare,
        random.random(n) < 0.35,
        random.random(n) < 0.1,
        random.choice(3, n, p=[0.8, 0.1, 0.1]),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_features_that_hang_together_make_equal_examples_by_chance(seed):
    random = np.random.default_rng(seed)
    for x in (features_of_few_values(random), (random.random((300, 12)) < 0.15).astype(np.float32)):
        report = validate(nn.data.split(Dataset(x, np.arange(len(x), dtype=np.int32) % 2), seed=seed))
        shares = [f.count / part.examples for f, part in leaks_and_parts(report)]
        assert max(shares) > 0.1, "more than a tenth is known"
        assert report.ok


def leaks_and_parts(report):
    parts = {part.name: part for part in report.parts}
    return [(f, parts[f.part.split()[-1]]) for f in report.findings if f.check == "leakage"]


@pytest.mark.parametrize("value", [-9999, -999, 99_999])
@pytest.mark.parametrize("share", [0.01, 0.06, 0.1, 0.3, 0.6, 0.9])
def test_what_stands_for_missing_is_found_however_frequent(value, share):
    random = np.random.default_rng(0)
    data = nn.data.load("diabetes")
    for column in (0, 3, 4, 8):
        x = data.train.x.copy()
        x[random.permutation(len(x))[: round(share * len(x))], column] = value
        x[0, 6] = 10 * np.median(x[:, 6])
        kept = data.train.x[:, column][x[:, column] != value]
        report = validate(Splits(Dataset(x, data.train.y), data.validation, data.test))
        found_here = {f.check: f for f in report.warnings if f.part == "train"}
        if share > 0.01:
            assert found_here["sentinel"].examples == (column,)
            count = len(x) - len(kept)
            sentence = f"x[:, {column}] is {value} in {count} of {len(x)} examples, and {kept.min():.4g} to "
            assert found_here["sentinel"].message.startswith(sentence)
            assert f"x[0, 6] = {x[0, 6]:.4g}" in found_here["outliers"].message
        assert found_here["outliers"].count == (1 if share > 0.01 else 1 + round(share * len(x)))


def test_a_slip_of_the_decimal_point_beside_missing_values():
    arrays = table()
    for name in NAMES:
        arrays[f"{name}_x"][:, 1] += 10
        arrays[f"{name}_x"][:60, 1] = -999
    arrays["train_x"][200, 1] = 110
    # With the missing ones the scale would be 300.
    report = validate(splits(arrays))
    assert [(f.check, f.part) for f in report.findings] == [("sentinel", "train"), ("outliers", "train")]
    assert report.findings[1].examples == (200,)


def test_what_stands_for_nothing_missing():
    for seed in range(5):
        random = np.random.default_rng(seed)
        n = 1000
        zeros = random.random(n) < 0.4
        draws = [
            random.integers(0, 2, n),
            random.random(n) < 0.02,
            np.where(zeros, 0, random.integers(200, 301, n)),
            np.where(zeros, 0, random.poisson(3, n)),
            np.where(zeros, 0, random.exponential(size=n)),
            np.where(zeros, random.normal(0, 1, n), random.normal(1000, 1, n)),
            np.where(zeros, -1, random.random(n)),
            random.choice([0, 1, 2, 3, 99], n),
            random.choice([1, 10, 100, 1000], n),
            random.poisson(0.05, n),
        ]
        data = nn.data.split(Dataset(np.stack(draws, axis=1).astype(np.float32), np.arange(n, dtype=np.int32) % 2))
        assert validate(data).findings == ()


@pytest.mark.parametrize("column", range(10))
def test_a_slip_of_the_decimal_point_is_found(column):
    data = nn.data.load("diabetes")
    assert validate(data).findings == ()
    x = data.train.x.copy()
    x[7, column] = 10 * np.median(x[:, column])
    report = validate(Splits(Dataset(x, data.train.y), data.validation, data.test))
    assert found(report) == [("warning", "outliers", "train", 1, (7,))]


def test_a_small_part_that_lacks_rare_values_has_no_other_range():
    for seed in range(20):
        random = np.random.default_rng(seed)
        x = (random.random((300, 10)) < 0.13).astype(np.float32) * 5
        x[:, 0] = np.arange(300)
        checks = {f.check for f in validate(nn.data.split(Dataset(x, np.arange(300) % 2), seed=seed)).findings}
        assert "range" not in checks


@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_rows_of_pictures_are_pictures(scale, digits):
    flat = Splits(*(Dataset(p.x.reshape(len(p.x), -1).astype(np.float32) * np.float32(scale), p.y) for p in digits))
    assert found(validate(flat, classes=10)) == found(validate(digits, classes=10))
    other = Splits(*(Dataset(p.x - np.float32(0.3), p.y) for p in flat))
    assert validate(other).findings[0].severity == "warning"  # no brightnesses
    table = validate(flat, columns=[f"pixel{number}" for number in range(64)])  # names say that it is one
    assert any(finding.check == "constant" and finding.severity == "warning" for finding in table.findings)
    narrow = Splits(*(Dataset(p.x[:, :63], p.y) for p in flat))
    assert {f.severity for f in validate(narrow).findings} == {"warning"}  # no square


def test_images_are_the_pictures_of_rows(digits):
    part = digits.train
    for x in (part.x, part.x[..., 0], part.x.reshape(len(part.x), 64), part.x.reshape(len(part.x), 64) / 16):
        images = _part.images(_part.read_part("train", Dataset(x, part.y)))
        np.testing.assert_array_equal(images.astype(float) * (16 if x.max() <= 1 else 1), part.x)
    for x in (part.x.reshape(-1, 64) - 0.5, part.x.reshape(-1, 64)[:, :63], np.zeros((0, 64)), np.array([["a"]])):
        assert _part.images(_part.read_part("train", Dataset(x, part.y))) is None


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e307, 2.0**-1060])
def test_figures_of_very_large_and_small_numbers(scale):
    x = np.random.default_rng(0).normal(size=(40, 3))
    with_nan = np.where(np.arange(120).reshape(40, 3) == 7, np.nan, x)
    for values in (x, with_nan):
        data = Dataset(values * scale, np.arange(40) % 2)
        part = validate(Splits(data, data, data)).parts[0]
        figures = [part.minimum, part.maximum, part.mean, part.std]
        expected = [figure(values) for figure in (np.nanmin, np.nanmax, np.nanmean, np.nanstd)]
        np.testing.assert_allclose(np.array(figures) / scale, expected, rtol=1e-9 if scale > 1e-300 else 1e-3)


def test_columns_that_float32_hardly_tells_apart():
    arrays = table()
    for name, size in SIZES.items():
        arrays[f"{name}_x"][:, 1] = 1_700_000_000 + np.random.default_rng(size).integers(0, 20_000, size)
    columns = ["a", "time", "b", "c"]
    step = np.spacing(np.float32(1_700_000_000))
    (finding,) = validate(splits(arrays), columns=columns).findings
    assert finding.message == (
        f"x[:, 1] ('time') lies within {np.ptp(arrays['train_x'][:, 1]):.3g} of 1.7e+09, where float32 tells steps of "
        f"{step:.0f} apart: subtract an offset before storing it"
    )
    wide = {name: array.astype(np.float64) for name, array in arrays.items() if name.endswith("x")}
    assert [f.check for f in validate(splits(arrays | wide)).findings] == ["precision"]  # JAX keeps them as float32
    whole = {name: array.astype(np.int32) for name, array in wide.items()}
    assert "precision" not in {f.check for f in validate(splits(arrays | whole)).findings}


def test_columns_that_float32_tells_apart():
    arrays, random = table(), np.random.default_rng(0)
    for name, size in SIZES.items():
        arrays[f"{name}_x"] = np.stack(
            [
                random.integers(1990, 2021, size),  # years
                1e6 + random.integers(0, 2, size),  # two codes, 16 steps apart
                101_325 + random.normal(0, 500, size),  # pascals
                1_700_000_000 + random.integers(0, 3_000_000, size),  # a month
                random.integers(0, 2, size),
            ],
            axis=1,
        ).astype(np.float32)
    assert validate(splits(arrays)).findings == ()
