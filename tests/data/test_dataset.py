"""The division of examples into three parts."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn as nn
from jaxnn.data.dataset import Dataset, Parts, divide


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(10, 300),
    classes=st.integers(1, 5),
    validation=st.floats(0, 0.4),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 99),
)
def test_every_example_lands_in_one_part(n, classes, validation, test, seed):
    y = np.random.default_rng(seed).integers(0, classes, n)
    x = np.arange(n)[:, None]
    parts = nn.data.split(nn.data.Dataset(x, y), validation=validation, test=test, seed=seed)
    assert [len(part.x) for part in parts][1:] == [round(validation * n), round(test * n)]
    np.testing.assert_array_equal(np.sort(np.concatenate([part.x[:, 0] for part in parts])), np.arange(n))
    for part in parts:
        np.testing.assert_array_equal(part.y, y[part.x[:, 0]])
        for label in range(classes):  # in proportion
            assert abs((part.y == label).sum() - len(part.y) * (y == label).mean()) <= 2
    again = nn.data.split(nn.data.Dataset(x, y), validation=validation, test=test, seed=seed)
    np.testing.assert_array_equal(again.train.x, parts.train.x)


def test_seeds_differ_and_the_order_is_random():
    data = nn.data.Dataset(np.arange(1000)[:, None], np.zeros(1000, int))
    first, second = (nn.data.split(data, seed=seed).train.x[:, 0] for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.1


def test_regression_targets_and_counts():
    parts = nn.data.split(
        nn.data.Dataset(np.ones((10, 2)), np.linspace(0, 1, 10)[:, None]), validation=2, test=np.int64(3)
    )
    assert [len(part.x) for part in parts] == [5, 2, 3]


def numbered(n, start=0):
    """Examples that are their own numbers, so that each can be found again."""
    return Dataset(np.arange(start, start + n)[:, None], np.zeros(n, np.int32))


@st.composite
def any_labels(draw):
    """Of classes alike, of many with one or two examples, of one that outweighs all others."""
    counts = draw(st.lists(st.integers(1, 4) | st.integers(1, 60), min_size=1, max_size=40))
    labels = np.repeat(np.arange(len(counts)) * draw(st.sampled_from([1, -3])), counts)
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(labels)


@settings(max_examples=100, deadline=None)
@given(
    y=any_labels(),
    validation=st.floats(0, 0.45) | st.integers(0, 9),
    test=st.floats(0, 0.45) | st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_every_part_has_its_share_of_every_class(y, validation, test, seed):
    data = Dataset(np.arange(len(y))[:, None], y)
    sizes = [round(size * len(y)) if isinstance(size, float) else size for size in (validation, test)]
    empty = any(size == 0 and given != 0 for size, given in zip(sizes, (validation, test), strict=True))
    if empty or sum(sizes) >= len(y):
        with pytest.raises(ValueError, match="is not one" if empty else "leave none of"):
            divide(Parts(data), validation=validation, test=test, seed=seed)
        return
    parts = divide(Parts(data), validation=validation, test=test, seed=seed)
    assert [len(part.x) for part in parts] == [len(y) - sum(sizes), *sizes]
    np.testing.assert_array_equal(np.sort(np.concatenate([part.x[:, 0] for part in parts])), np.arange(len(y)))
    for part in parts:
        np.testing.assert_array_equal(part.y, y[part.x[:, 0]])
        for label in np.unique(y):
            # Class c of C has its i-th example between i / n_c and (i + 1) / n_c of the way, and so each cut is off by
            # less than C / n of the way.
            share = np.mean(y == label)
            assert abs(np.sum(part.y == label) - len(part.y) * share) < 2 * (1 + len(np.unique(y)) * share)
    again = divide(Parts(data), validation=validation, test=test, seed=seed)
    for part, same in zip(parts, again, strict=True):
        np.testing.assert_array_equal(part.x, same.x)


@pytest.mark.parametrize("classes", [2, 3, 7, 10])
def test_classes_alike_stay_alike(classes):
    y = np.repeat(np.arange(classes), 31)
    for seed in range(5):
        for part in divide(Parts(Dataset(np.arange(len(y)), y)), seed=seed):
            assert np.ptp(np.bincount(part.y, minlength=classes)) <= 2
            assert not np.array_equal(np.sort(part.x), part.x), "in a random order"


def test_what_a_file_divides_itself_stays_as_it_is():
    train, validation, test = numbered(60), numbered(10, 60), numbered(30, 70)
    whole = divide(Parts(train, validation, test), seed=3)
    assert whole.train is train and whole.validation is validation and whole.test is test
    made = divide(Parts(train, test=test), seed=3)
    assert made.test is test
    assert [len(part.x) for part in made] == [54, 6, 30], "a tenth of the training data"
    np.testing.assert_array_equal(np.sort(np.r_[made.train.x, made.validation.x], axis=0), train.x)
    made = divide(Parts(train, validation), test=15)
    assert made.validation is validation
    np.testing.assert_array_equal(np.sort(np.r_[made.train.x, made.test.x], axis=0), train.x)
    assert [len(part.x) for part in divide(Parts(numbered(100)))] == [70, 10, 20]
    assert [len(part.x) for part in divide(Parts(numbered(6)))] == [4, 1, 1], "the fewest by default"
    assert [len(part.x) for part in divide(Parts(numbered(5)), validation=0, test=1)] == [4, 0, 1], "none, if asked for"


@pytest.mark.parametrize(
    ("parts", "settings", "sentence"),
    [
        (Parts(numbered(60), test=numbered(9)), {"test": 5}, "test=5: the data has a test part of its own, which is never"),
        (Parts(numbered(60), test=numbered(9)), {"test": 0}, "test=0: the data has a test part of its own"),
        (Parts(numbered(60), numbered(9)), {"validation": 0.2}, "validation=0.2: the data has a validation part of its own"),
        (Parts(numbered(60), numbered(9), numbered(9)), {"validation": 1}, "has a validation part of its own"),
        (Parts(numbered(5)), {}, "validation=0.1 of 5 examples is not one: give validation a number of them, or more data"),
        (Parts(numbered(5), test=numbered(9)), {}, "validation=0.1 of 5 examples is not one"),
        (Parts(numbered(6)), {"test": 0.05}, "test=0.05 of 6 examples is not one"),
        (Parts(numbered(6)), {"validation": 3, "test": 3}, "leave none of 6 examples to train on"),
        (Parts(numbered(6)), {"validation": -1}, "validation must be finite and at least 0; got -1"),
        (Parts(numbered(1), test=numbered(9)), {"validation": 1}, "leave none of 1 examples"),
    ],
)  # fmt: skip
def test_parts_that_cannot_be_made_get_a_sentence(parts, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        divide(parts, **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave none of 10 examples to train on"),
        ({"validation": -1}, "validation must be finite and at least 0; got -1"),
        ({"validation": float("nan")}, "validation must be finite"),
        ({"test": 1.5}, "test must be a fraction from 0 to below 1 or a number of examples; got 1.5"),
        ({"test": 10}, "leave none of 10"),
    ],
)
def test_bad_sizes_get_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        nn.data.split(nn.data.Dataset(np.ones((10, 2)), np.zeros(10, int)), **settings)


@pytest.mark.parametrize(("size", "sentence"), [(True, "must be a number"), (jnp.ones(2), "must be a scalar")])
def test_what_is_no_size_gets_a_sentence(size, sentence):
    with pytest.raises((TypeError, ValueError), match=f"test {sentence}"):
        nn.data.split(nn.data.Dataset(np.ones((10, 2)), np.zeros(10, int)), test=size)


@pytest.mark.parametrize("fraction", [0.25, np.float32(0.25), jnp.float32(0.25)])
@pytest.mark.parametrize("number", [25, np.int64(25), jnp.int32(25)])
def test_sizes_may_be_any_scalars(fraction, number):
    data = nn.data.Dataset(np.ones((100, 2)), np.zeros(100, int))
    for parts in (
        nn.data.split(data, validation=fraction, test=number),
        nn.data.split(data, validation=number, test=fraction),
    ):
        assert [len(part.x) for part in parts] == [50, 25, 25]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"dataset\.x has 10 examples and dataset\.y has 9"):
        nn.data.split(nn.data.Dataset(np.ones((10, 2)), np.zeros(9, int)))
