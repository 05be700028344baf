"""Activations against float64 NumPy, at ordinary values and at the extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxnn as nn

pytestmark = pytest.mark.little_optimized


def stable_sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def softmax_64(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# function, its value and its derivative in float64
ELEMENTWISE = {
    "identity": (nn.identity, lambda x: x, lambda x: np.ones_like(x)),
    "sign": (nn.sign, lambda x: np.where(x >= 0, 1.0, -1.0), lambda x: np.zeros_like(x)),
    "relu": (nn.relu, lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
    "leaky_relu": (
        nn.leaky_relu,
        lambda x: np.where(x > 0, x, 0.01 * x),
        lambda x: np.where(x > 0, 1.0, 0.01),
    ),
    "tanh": (nn.tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (nn.sigmoid, stable_sigmoid, lambda x: stable_sigmoid(x) * stable_sigmoid(-x)),
}
# One shape, so that XLA compiles once for all examples.
FLOATS = hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-50, 50, width=32, allow_subnormal=False))


def value_and_slope(function):
    return jax.jit(lambda x: (function(x), jax.grad(lambda x: function(x).sum())(x)))


VALUES_AND_SLOPES = {name: value_and_slope(case[0]) for name, case in ELEMENTWISE.items()}


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=100, deadline=None)
@given(x=FLOATS)
def test_values_and_derivatives_equal_float64(name, x):
    _, value, derivative = ELEMENTWISE[name]
    y, slope = VALUES_AND_SLOPES[name](jnp.asarray(x))
    np.testing.assert_allclose(y, value(x.astype(np.float64)), rtol=2e-6, atol=1e-30)
    # 1 - tanh² cancels where tanh is near 1.
    np.testing.assert_allclose(slope, derivative(x.astype(np.float64)), rtol=4e-6, atol=1e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_extremes_stay_in_range(name):
    function, value, _ = ELEMENTWISE[name]
    x = np.array([-1e30, -1e4, -100.0, 0.0, 100.0, 1e4, 1e30], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_allclose(function(jnp.asarray(x)), value(x.astype(np.float64)), rtol=1e-5, atol=1e-38)
    slope = jax.vmap(jax.grad(function))(jnp.asarray(x))
    assert np.isfinite(slope).all()
    assert abs(slope).max() <= 1


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_is_not_hidden(name):
    assert jnp.isnan(ELEMENTWISE[name][0](jnp.array([jnp.nan]))).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("function", [case[0] for case in ELEMENTWISE.values()] + [nn.softmax])
def test_keeps_the_dtype(function, dtype):
    assert function(jnp.ones(3, dtype)).dtype == dtype


def test_derivatives_at_the_kink_are_the_textbooks():
    slopes = {name: float(jax.grad(ELEMENTWISE[name][0])(0.0)) for name in ("relu", "leaky_relu", "sigmoid")}
    assert slopes == {"relu": 0.0, "leaky_relu": pytest.approx(0.01), "sigmoid": 0.25}


def test_sigmoid_keeps_its_tail():
    np.testing.assert_allclose(nn.sigmoid(jnp.float32(-80)), np.exp(-80.0), rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(x=hnp.arrays(np.float32, (4, 6), elements=st.floats(-1e4, 1e4, width=32)))
def test_softmax_equals_float64_and_sums_to_one(x):
    p = nn.softmax(jnp.asarray(x))
    with np.errstate(under="ignore"):
        np.testing.assert_allclose(p, softmax_64(x.astype(np.float64)), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    shifted = nn.softmax(jnp.asarray(x).T, axis=0).T
    np.testing.assert_array_equal(p, shifted)


def test_softmax_gives_the_figures_of_the_notes():
    np.testing.assert_array_equal(nn.softmax(jnp.array([3.0, 1.0, -3.0])).round(2), np.float32([0.88, 0.12, 0.00]))
