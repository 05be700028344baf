"""The division of examples into three parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn as nn


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


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave none of 10 examples to train on"),
        ({"validation": -1}, "validation must be a fraction from 0 to below 1 or a number of examples; got -1"),
        ({"test": 1.5}, "test must be a fraction"),
        ({"test": 10}, "leave none of 10"),
    ],
)
def test_bad_sizes_get_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        nn.data.split(nn.data.Dataset(np.ones((10, 2)), np.zeros(10, int)), **settings)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="x has 10 examples and y has 9"):
        nn.data.split(nn.data.Dataset(np.ones((10, 2)), np.zeros(9, int)))
