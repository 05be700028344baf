"""Mini-batches as the textbook draws them: shuffle an index list, then take it a stretch at a time."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from jaxnn._checks import check_batch_size, check_examples, check_flag, check_key, check_size
from jaxnn.data.dataset import Dataset
from jaxnn.sampling import Sampling, epoch_indices

__all__ = ["Index", "batches", "epoch_order"]

Index: TypeAlias = Int[np.ndarray, " _"]  # the examples of a batch, by number


def batches(
    dataset: Dataset | tuple[np.ndarray | Array, np.ndarray | Array],
    batch_size: int,
    *,
    key: PRNGKeyArray,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Iterator[Dataset]:
    """Yield one epoch's mini-batches `(x[index], y[index])`, arrays of the data set's own kind.

    The order is a function of `key` and `epoch` alone, and the one of `fit(data_key=key)` in that epoch, counted
    from 0. Without `shuffle` the data comes as it lies. When `batch_size` does not divide the number of examples,
    the last batch is smaller, so that every example is seen once; `fit` leaves those examples out, because its
    compiled step has one shape, and `drop_last=True` does as `fit` does.

    Raises:
        TypeError, ValueError: when called: no data set, no key, a batch size below 1 or above the number of
            examples, a negative epoch.

    >>> import jax, numpy as np, jaxnn as nn
    >>> data = nn.data.Dataset(np.arange(5.0), np.arange(5))
    >>> for x, y in batches(data, 2, key=jax.random.key(0), shuffle=False):
    ...     print(x, y)
    [0. 1.] [0 1]
    [2. 3.] [2 3]
    [4.] [4]
    """
    check_examples("dataset", dataset)
    x, y = dataset
    check_batch_size(batch_size, len(x))
    check_key("key", key)
    check_size("epoch", epoch, at_least=0)
    check_flag("shuffle", shuffle)
    check_flag("drop_last", drop_last)
    order = epoch_order(key, epoch, len(x), batch_size, "shuffle" if shuffle else "in_order", drop_last=drop_last)
    return (Dataset(x[index], y[index]) for index in order)


def epoch_order(
    key: PRNGKeyArray, epoch: int, examples: int, batch_size: int, sampling: Sampling, *, drop_last: bool
) -> list[Index]:
    """The rows of `epoch_indices`, and unless `drop_last` the examples they leave over.

    A random choice with replacement leaves none over.
    """
    if sampling == "replacement" or drop_last:
        return list(np.asarray(epoch_indices(key, epoch, examples, batch_size, sampling)))
    # Batches of one: the whole order, of which the batches are stretches whatever their size.
    order = np.asarray(epoch_indices(key, epoch, examples, 1, sampling))[:, 0]
    return np.split(order, range(batch_size, examples, batch_size))
