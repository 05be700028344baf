"""Ranges: what is drawn from them, and how they narrow."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn as nn

KEY = jax.random.key(5)


def test_uniform_draws_evenly_and_log_uniform_by_orders_of_magnitude():
    """Quarters of the range, of the logarithm's range, each get a quarter of the draws: to 5 standard deviations."""
    generator = np.random.default_rng(5)
    for values, scale in (
        (nn.uniform(-2.0, 6.0), lambda x: (x + 2) / 8),
        (nn.log_uniform(1e-6, 1e-2), lambda x: (np.log10(x) + 6) / 4),
    ):
        drawn = scale(np.asarray(values.draw(generator, 10_000), np.float64))
        assert drawn.min() > -1e-6
        assert drawn.max() < 1 + 1e-6
        counts, _ = np.histogram(drawn, bins=4, range=(0, 1))
        assert np.abs(counts - 2500).max() < 5 * np.sqrt(10_000 * 0.25 * 0.75)


def test_integers_include_both_ends_and_choices_get_even_shares():
    generator = np.random.default_rng(5)
    drawn = nn.integers(2, 4).draw(generator, 300)
    assert set(drawn) == {2, 3, 4}
    assert all(type(value) is int for value in drawn)
    assert min(drawn.count(value) for value in (2, 3, 4)) > 60
    assert nn.integers(3, 3).draw(generator, 2) == [3, 3]
    words = nn.choice("a", "b", "c").draw(generator, 100)
    assert sorted(words.count(word) for word in "abc") == [33, 33, 34]
    assert words != sorted(words)


@settings(deadline=None)
@given(st.floats(1e-30, 1e30), st.floats(1.001, 1e6), st.integers(0, 2**31))
def test_draws_lie_in_their_range_and_narrowed_ranges_in_it(low, factor, seed):
    values = nn.log_uniform(low, low * factor)
    drawn = np.asarray(values.draw(np.random.default_rng(seed), 20))
    assert (drawn >= np.float32(values.low)).all()
    assert (drawn <= np.float32(values.high)).all()
    narrowed = values.narrowed(list(drawn[3:7]))
    assert values.low <= narrowed.low <= narrowed.high <= values.high
    np.testing.assert_allclose([narrowed.low, narrowed.high], [drawn[3:7].min(), drawn[3:7].max()], rtol=1e-6)


def test_space():
    space = nn.SearchSpace(rate=nn.log_uniform(1e-3, 1.0), width=nn.integers(5, 50), kind=nn.choice("a", "b", None))
    columns = space.sample(KEY, 30)
    assert {name: len(column) for name, column in columns.items()} == {"rate": 30, "width": 30, "kind": 30}
    narrowed = space.narrowed({"rate": [0.01, 0.5, 0.02], "width": [7, 9], "kind": [None, "a", "a"]})
    assert narrowed["rate"] == (pytest.approx(0.01), 0.5)
    assert narrowed["width"] == (7, 9)
    assert narrowed["kind"].options == ("a", None)
    again = space.sample(KEY, 30)
    np.testing.assert_array_equal(columns["rate"], again["rate"])
    assert columns["width"] == again["width"]


def test_draws_depend_on_key_name_and_range():
    both = nn.SearchSpace(a=nn.uniform(0, 1), b=nn.uniform(0, 1)).sample(KEY, 20)
    alone = nn.SearchSpace(b=nn.uniform(0, 1)).sample(KEY, 20)
    np.testing.assert_array_equal(both["b"], alone["b"])
    others = nn.SearchSpace(b=nn.uniform(0, 1)).sample(jax.random.key(6), 20)
    for one, other in ((both["a"], both["b"]), (both["b"], others["b"])):
        assert np.abs(np.corrcoef(one, other)[0, 1]) < 0.8  # chance: 0.44 in 1 of 20
    assert both["a"].dtype == np.float32


@pytest.mark.parametrize(
    "make, error, sentence",
    [
        (lambda: nn.uniform(1.0, 0.5), ValueError, "uniform: low is 1, which is not below high, 0.5"),
        (lambda: nn.uniform(0.5, 0.5), ValueError, "not below high"),
        (lambda: nn.log_uniform(-1e-3, 1.0), ValueError, "log_uniform's low must be finite and above 0; got -0.001"),
        (lambda: nn.log_uniform(0.0, 1.0), ValueError, "log_uniform's low must be finite and above 0; got 0"),
        (lambda: nn.log_uniform(1.0, float("inf")), ValueError, "log_uniform's high must be finite"),
        (lambda: nn.log_uniform("a", 1.0), TypeError, "log_uniform's low must be a number; got 'a'"),
        (lambda: nn.integers(3, 1), ValueError, "integers: low is 3, which is above high, 1"),
        (lambda: nn.integers(1.5, 3), TypeError, "integers' low must be a whole number"),
        (lambda: nn.choice(), ValueError, "choice needs at least one option"),
        (lambda: nn.choice("a", "a"), ValueError, "choice has the option 'a' twice"),
        (lambda: nn.SearchSpace(), ValueError, "a SearchSpace needs at least one range"),
        (lambda: nn.SearchSpace(rate=0.1), TypeError, r"rate must be uniform\(…\), log_uniform\(…\)"),
        (lambda: nn.SearchSpace(rate=nn.uniform(0, 1)).sample(KEY, 0), ValueError, "trials must be at least 1"),
        (lambda: nn.SearchSpace(rate=nn.uniform(0, 1)).sample(3, 1), TypeError, "key must be a PRNG key"),
        (lambda: jax.jit(lambda key: nn.SearchSpace(rate=nn.uniform(0, 1)).sample(key, 1))(KEY), TypeError, "key is traced"),
    ],
)  # fmt: skip
def test_refuses(make, error, sentence, types_unchecked):
    with pytest.raises(error, match=sentence):
        make()
