"""Scaling against NumPy, fitted on the training data alone."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxnn as nn
from jaxnn.older_jax import enable_x64


@settings(max_examples=60, deadline=None)
@given(x=hnp.arrays(np.float32, (7, 3), elements=st.floats(-1000, 1000, width=16)))
def test_each_feature_fills_zero_to_one(x):
    scaled = np.asarray(nn.data.min_max(x)(x))
    for column, values in zip(scaled.T, x.astype(np.float64).T, strict=True):
        extent = np.ptp(values)
        np.testing.assert_allclose(column, (values - values.min()) / (extent or 1), rtol=1e-5, atol=1e-6)
        assert column.min() == 0
        np.testing.assert_allclose(column.max(), 1 if extent else 0, rtol=1e-6)


def test_pixels_share_one_range():
    x = np.array([[[0, 10]], [[255, 20]]], np.uint8)
    np.testing.assert_allclose(nn.data.min_max(x, axis=None)(x), x / 255.0, rtol=1e-6)


def test_a_constant_feature_does_not_divide_by_zero():
    scale = nn.data.min_max(np.array([[5.0, 1.0], [5.0, 3.0]]))
    np.testing.assert_allclose(scale(np.array([[5.0, 2.0], [7.0, 5.0]])), [[0, 0.5], [2, 2]])


@settings(max_examples=60, deadline=None)
@given(x=hnp.arrays(np.float32, (9, 3), elements=st.floats(-1000, 1000, width=16)), axis=st.sampled_from([0, None]))
def test_standardize_has_mean_and_deviation_of_the_training_data(x, axis):
    fitted = nn.data.standardize(x, axis=axis)
    exact = x.astype(np.float64)
    mean, std = exact.mean(axis=axis), exact.std(axis=axis)
    std = np.where(np.ptp(x, axis=axis) == 0, 1, std)
    np.testing.assert_allclose(fitted(x), (exact - mean) / std, rtol=1e-4, atol=1e-5 * (1 + np.abs(mean / std).max()))
    np.testing.assert_allclose(fitted.inverse(fitted(x)), x, rtol=1e-5, atol=1e-6 * np.abs(x).max())


def test_standardize_equals_scikit_learns_on_data_it_was_not_fitted_to():
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    train = (random.normal(size=(1000, 4)) * [1e-3, 1, 50, 1e4] + [1, 0, -700, 3e4]).astype(np.float32)
    test = train[:7] * np.float32(1.1)
    reference = StandardScaler().fit(train.astype(np.float64)).transform(test.astype(np.float64))
    np.testing.assert_allclose(nn.data.standardize(train)(test), reference, rtol=2e-4)


def test_standardize_in_blocks_is_that_of_the_whole(monkeypatch):
    module = importlib.import_module("jaxnn.data.scaling")
    x = np.random.default_rng(1).integers(0, 256, (103, 4, 5)).astype(np.uint8)
    monkeypatch.setattr(module, "_BLOCK", 50)
    for axis in (0, None):
        fitted = nn.data.standardize(x, axis=axis)
        np.testing.assert_allclose(fitted.mean, x.mean(axis=axis), rtol=1e-6)
        np.testing.assert_allclose(fitted.std, x.std(axis=axis), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.1, 1e-20, 16777217.0, -3e30])
def test_a_constant_feature_has_no_deviation(constant):
    x = np.stack([np.full(1001, constant), np.arange(1001.0)], axis=1).astype(np.float32)
    fitted = nn.data.standardize(x)
    assert fitted.std[0] == 0
    np.testing.assert_array_equal(fitted(x)[:, 0], 0)
    np.testing.assert_allclose(
        fitted(x[:1] + np.float32([1, 0]))[0, 0], np.float32(constant) + 1 - np.float32(constant)
    )


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (nn.data.min_max(np.array([[0, 4], [2, 8]])), [[0.5, 1]]),
        (nn.data.standardize(np.array([[0, 4], [2, 8]])), [[0, 1]]),
    ],
)
def test_is_a_pytree_and_works_under_jit(scale, expected):
    assert len(jax.tree.leaves(scale)) == 2
    np.testing.assert_allclose(jax.jit(lambda scale, x: scale(x))(scale, jnp.array([[1, 8]])), expected)


@pytest.mark.parametrize(
    ("x", "settings", "sentence"),
    [
        (np.ones((0, 3)), {}, "x must hold examples"),
        (np.array([[1.0, np.nan]]), {}, r"x\[0, 1\] is nan"),
        (np.ones((2, 3)), {"axis": 1}, "axis must be 0 .* or None"),
        (
            1e9 + np.arange(8.0).reshape(4, 2),
            {},
            r"x\[:, 0\] lies between 1000000000.0 and 1000000006.0, which float32",
        ),
        (np.array([[1.0, 3e38], [2.0, -3e38]]), {}, r"x\[:, 1\] lies between -3e\+38 and 3e\+38"),
        (np.arange(4.0)[:, None] * 1e-40, {}, r"x\[:, 0\] lies between 0.0 and 2.9+8e-40"),
        ((np.arange(4.0)[:, None] * 1e-39).astype(np.float32), {}, r"x\[:, 0\] lies between 0.0 and 3"),
        (2**40 + np.arange(6).reshape(3, 2), {"axis": None}, r"x lies between 1099511627776.0 and 1099511627781.0"),
    ],
)
def test_bad_input_gets_a_sentence(x, settings, sentence):
    for fit in (nn.data.min_max, nn.data.standardize):
        with pytest.raises(ValueError, match=sentence):
            fit(x, **settings)


@pytest.mark.parametrize("x", [np.ones((2, 3), complex), np.array([["a"]]), [[1.0, 2.0]]])
def test_what_is_no_array_of_numbers(x, types_unchecked):
    for fit in (nn.data.min_max, nn.data.standardize):
        with pytest.raises(TypeError, match="x must be an array of real numbers"):
            fit(x)


def test_a_masked_array_is_refused():
    for fit in (nn.data.min_max, nn.data.standardize):
        with pytest.raises(TypeError, match="x is a masked array"):
            fit(np.ma.masked_values([[-999.0], [1.0], [2.0]], -999))


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_a_deviation_of_any_size(size):
    x = np.random.default_rng(0).normal(size=(100, 3))
    with enable_x64(True):
        fitted = nn.data.standardize(x * size)
        np.testing.assert_allclose(fitted.std, x.std(axis=0) * size, rtol=1e-12)
        np.testing.assert_allclose(fitted(x * size), (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-10, atol=1e-12)


def test_a_deviation_near_the_largest_number():
    x = np.array([[0.0], [0.0], [0.0], [0.0], [1.5e308]])
    with enable_x64(True):
        np.testing.assert_allclose(nn.data.standardize(x).std, [0.4 * 1.5e308], rtol=1e-12)


@pytest.mark.parametrize(
    ("fitted_to", "scaled"), [((4, 3), (5, 1)), ((4, 3), (3,)), ((4, 3), (4, 3, 1)), ((5, 1), (4, 3)), ((4, 2, 3), (4, 6))]
)  # fmt: skip
def test_features_of_another_number_are_not_broadcast(fitted_to, scaled):
    x = np.random.default_rng(0).normal(size=fitted_to)
    for scale in (nn.data.min_max(x), nn.data.standardize(x), nn.data.standardize(x).inverse):
        with pytest.raises(ValueError, match="this scaling was fitted to features of shape"):
            jax.jit(scale)(jnp.ones(scaled)) if scaled != (3,) else scale(jnp.ones(1))
