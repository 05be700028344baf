"""Metrics against counts made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn as nn


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(1, 2), (30, 4)]))
def test_equal_counts_by_hand(seed, shape):
    batch, classes = shape
    random = np.random.default_rng(seed)
    outputs, labels = (
        random.normal(size=(batch, classes)).astype(np.float32),
        random.integers(0, classes, batch),
    )
    predicted = outputs.argmax(1)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    matrix = np.zeros((classes, classes), int)
    for true, guess in zip(labels, predicted, strict=True):
        matrix[true, guess] += 1
    for targets in (labels.astype(np.int32), one_hot):
        got = nn.accuracy(jnp.asarray(outputs), jnp.asarray(targets))
        np.testing.assert_allclose(got, (predicted == labels).mean(), rtol=1e-6)
        np.testing.assert_array_equal(nn.confusion_matrix(jnp.asarray(outputs), jnp.asarray(targets)), matrix)


def test_ties_go_to_the_first_class():
    assert nn.accuracy(jnp.zeros((2, 3)), jnp.array([0, 1])) == 0.5


@pytest.mark.parametrize("metric", [nn.accuracy, nn.confusion_matrix])
def test_refuse_what_does_not_fit(metric):
    with pytest.raises(ValueError, match="two classes or more"):
        metric(jnp.zeros((3, 1)), jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match=r"use targets\[:, 0\]"):
        metric(jnp.zeros((3, 2)), jnp.zeros((3, 1), jnp.int32))
    with pytest.raises(TypeError, match="expected integer labels"):
        metric(jnp.zeros((3, 2)), jnp.zeros(3))


def test_under_jit_and_vmap():
    outputs, labels = jnp.eye(3)[None].repeat(2, 0), jnp.array([[0, 1, 2], [0, 1, 1]])
    np.testing.assert_allclose(jax.jit(jax.vmap(nn.accuracy))(outputs, labels), [1, 2 / 3], rtol=1e-6)
