"""The textbook's mini-batches: in fit's order, every example once, refused when called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.data.batching import batches
from jaxnn.sampling import epoch_indices

X = np.arange(22, dtype=np.float32).reshape(11, 2)
DATA = nn.data.Dataset(X, np.arange(11, dtype=np.int32))
KEY = jax.random.key(3)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_is_that_of_fit_and_the_rest_comes_last(shuffle):
    order = epoch_indices(KEY, 2, 11, 4, "shuffle" if shuffle else "in_order")
    full = list(batches(DATA, 4, key=KEY, epoch=2, shuffle=shuffle, drop_last=True))
    np.testing.assert_array_equal([batch.y for batch in full], order)
    for x, y in full:
        np.testing.assert_array_equal(x, np.stack([2 * y, 2 * y + 1], 1))
    *same, rest = batches(DATA, 4, key=KEY, epoch=2, shuffle=shuffle)
    np.testing.assert_array_equal([batch.y for batch in same], order)
    assert set(rest.y) == set(range(11)) - set(np.ravel(order))
    assert len(rest.y) == 3


def test_each_epoch_has_an_order_of_its_own_which_the_key_repeats():
    def order(epoch):
        return np.concatenate([y for _, y in batches(DATA, 4, key=KEY, epoch=epoch)]).tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert sorted(order(1)) == list(range(11))


def test_without_a_rest_there_is_no_empty_batch():
    data = nn.data.Dataset(X[:8], np.arange(8))
    assert [len(y) for _, y in batches(data, 4, key=KEY)] == [4, 4]


def test_arrays_stay_of_their_kind():
    x, y = next(batches(DATA, 4, key=KEY))
    assert (type(x), type(y), x.dtype) == (np.ndarray, np.ndarray, np.float32)
    x, y = next(batches((jnp.asarray(X), jnp.arange(11)), 4, key=KEY))
    assert isinstance(x, jax.Array)
    assert isinstance(y, jax.Array)


@pytest.mark.parametrize(
    "arguments, error, sentence",
    [
        ({"batch_size": 12}, ValueError, "batch_size is 12, but there are only 11"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"epoch": -1}, ValueError, "epoch must be at least 0; got -1"),
        ({"key": 7}, TypeError, r"key must be a PRNG key; got int \(use jax.random.key\(7\)\)"),
        ({"dataset": X}, TypeError, r"dataset must be a Dataset \(x, y\); got ndarray"),
    ],
)
def test_refuses_when_called_and_not_at_the_first_batch(arguments, error, sentence, types_unchecked):
    with pytest.raises(error, match=sentence):
        batches(**({"dataset": DATA, "batch_size": 4, "key": KEY} | arguments))
