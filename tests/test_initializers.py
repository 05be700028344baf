"""Initial weights: their distribution, their shapes, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

pytestmark = pytest.mark.little_optimized

INITIALIZERS = {
    "zeros": (nn.zeros, lambda shape: 0.0),
    "normal": (nn.normal(0.01), lambda shape: 0.01),
    "xavier": (nn.xavier(), lambda shape: 1 / np.sqrt(np.prod(shape[:-1]))),
    "he": (nn.he(), lambda shape: np.sqrt(2 / np.prod(shape[:-1]))),
}


@pytest.mark.parametrize("shape", [(784, 50), (50, 400), (5, 5, 30, 40)])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_spread_is_the_formulas(name, shape):
    initializer, std = INITIALIZERS[name]
    W = np.asarray(initializer(jax.random.key(0), shape), np.float64)
    assert W.shape == shape
    # The standard error of a standard deviation is std / sqrt(2 n); four of them.
    tolerance = 4 / np.sqrt(2 * W.size)
    np.testing.assert_allclose(W.std(), std(shape), rtol=tolerance)
    np.testing.assert_allclose(W.mean(), 0, atol=4 * std(shape) / np.sqrt(W.size))
    if std(shape):
        beyond = np.mean(abs(W) > 2 * std(shape))
        assert 0.035 < beyond < 0.056, "a Gaussian has 4.6 % beyond two standard deviations; not truncated"


@pytest.mark.parametrize("name", [*INITIALIZERS, "constant"])
def test_same_key_same_bits_and_dtype(name):
    initializer = nn.constant(1.5) if name == "constant" else INITIALIZERS[name][0]
    key = jax.random.key(3)
    first = initializer(key, (4, 3), jnp.bfloat16)
    assert first.dtype == jnp.bfloat16
    assert initializer(key, (4, 3)).dtype == jnp.float32
    np.testing.assert_array_equal(first, jax.jit(initializer, static_argnums=(1, 2))(key, (4, 3), jnp.bfloat16))


def test_constant():
    np.testing.assert_array_equal(nn.constant(2.5)(jax.random.key(0), (2, 2)), np.full((2, 2), 2.5))


def test_normal_takes_a_traced_std():
    stds = jnp.array([0.0, 0.1, 1.0])
    W = jax.vmap(lambda std: nn.normal(std)(jax.random.key(0), (100, 100)))(stds)
    np.testing.assert_allclose(W[1], 0.1 * W[2], rtol=1e-6)
    np.testing.assert_array_equal(W[0], 0)


def test_equals_jax_normal():
    key = jax.random.key(7)
    np.testing.assert_array_equal(nn.normal(1.0)(key, (50, 10)), jax.random.normal(key, (50, 10)))


@pytest.mark.parametrize("std", [-0.1, float("nan"), float("inf")])
def test_normal_refuses_a_bad_std(std):
    with pytest.raises(ValueError, match=r"std must be finite and at least 0; got"):
        nn.normal(std)


@pytest.mark.parametrize("initializer", [nn.xavier(), nn.he()])
def test_fan_in_needs_two_axes(initializer):
    with pytest.raises(ValueError, match="shape \\(3,\\); it takes two axes"):
        initializer(jax.random.key(0), (3,))
