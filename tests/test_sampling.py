"""The order of the examples: each once, and every order as likely as any other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.sampling import epoch_indices, permutation

pytestmark = pytest.mark.little_optimized

KEY = jax.random.key(0)


def test_shuffle_sees_each_example_once():
    index = epoch_indices(KEY, 0, 53, 10, "shuffle")
    assert index.shape == (5, 10)
    assert len(np.unique(index)) == 50
    assert not np.array_equal(index, epoch_indices(KEY, 1, 53, 10, "shuffle"))
    left_out = [set(range(53)) - set(np.asarray(epoch_indices(KEY, e, 53, 10, "shuffle")).ravel()) for e in range(9)]
    assert len(set(map(frozenset, left_out))) > 1, "the examples left out must not be the same in each epoch"


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_permutation_is_as_likely(count):
    possible = math.factorial(count)
    draws = jax.jit(jax.vmap(lambda key: permutation(key, count)))(jax.random.split(KEY, 400 * possible))
    _, seen = np.unique(np.asarray(draws), axis=0, return_counts=True)
    assert len(seen) == possible
    chi_squared = ((seen - 400) ** 2 / 400).sum()
    assert chi_squared < scipy.stats.chi2.ppf(0.999, possible - 1)


def test_every_place_is_as_likely_where_random_bits_are_few():
    """131,072 examples leave 15 bits a round to chance: where the first and last of them land is uniform still."""
    count, draws = 131_072, 100
    orders = jax.lax.map(jax.jit(lambda key: permutation(key, count)[jnp.array([0, -1])]), jax.random.split(KEY, draws))
    for place in np.asarray(orders).T:
        assert scipy.stats.kstest(place / count, "uniform").pvalue > 1e-3


@settings(max_examples=3, deadline=None)
@given(count=st.integers(1, 70_000))
def test_a_permutation_has_each_number_once(count):
    np.testing.assert_array_equal(np.sort(permutation(KEY, count)), np.arange(count))


def test_replacement_draws_afresh():
    index = np.asarray(epoch_indices(KEY, 0, 1000, 100, "replacement"))
    assert index.shape == (10, 100)
    # 1,000 draws from 1,000 leave a fraction 1/e unseen.
    assert 0.32 < 1 - len(np.unique(index)) / 1000 < 0.42
    assert 0 <= index.min() <= index.max() < 1000


def test_in_order():
    np.testing.assert_array_equal(epoch_indices(KEY, 3, 7, 2, "in_order"), [[0, 1], [2, 3], [4, 5]])


def test_a_data_key_that_is_the_run_key_does_not_draw_the_weights_again():
    """JAX's fold_in(key, 0) is split(key)[0], from which the weights are drawn."""
    first = epoch_indices(KEY, 0, 50, 50, "shuffle")
    reused = permutation(jax.random.split(KEY)[0], 50)
    assert not np.array_equal(first[0], reused)
