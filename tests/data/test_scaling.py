"""Scaling against NumPy, fitted on the training data alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxnn as nn


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


def test_is_a_pytree_and_works_under_jit():
    scale = nn.data.min_max(np.array([[0, 4], [2, 8]]))
    assert len(jax.tree.leaves(scale)) == 2
    batch = jnp.array([[1, 8]])
    np.testing.assert_allclose(jax.jit(lambda scale, x: scale(x))(scale, batch), [[0.5, 1]])


@pytest.mark.parametrize(
    ("x", "settings", "sentence"),
    [
        (np.ones((0, 3)), {}, "x must hold examples"),
        (np.array([[1.0, np.nan]]), {}, r"x\[0, 1\] is nan"),
        (np.ones((2, 3)), {"axis": 1}, "axis must be 0 .* or None"),
    ],
)
def test_bad_input_gets_a_sentence(x, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        nn.data.min_max(x, **settings)
