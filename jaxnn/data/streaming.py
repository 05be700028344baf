"""Data that does not fit in memory: read, decoded and brought to the device while the model trains."""

import multiprocessing
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxnn._checks import (
    check_batch_size,
    check_callable,
    check_choice,
    check_examples,
    check_flag,
    check_key,
    check_number,
    check_size,
)
from jaxnn.data._reading import Arrays, Recipe, check_picklable
from jaxnn.data._reading_threads import EndedError, Reading
from jaxnn.data.batching import Index, epoch_order
from jaxnn.data.dataset import Dataset
from jaxnn.sampling import Sampling

__all__ = ["Stream", "StreamIterator", "stream"]


def stream(
    source: Any,
    *,
    decode: Callable[[Any], Any] | None = None,
    threads: int = 4,
    workers: int = 0,
    prefetch: int | None = None,
    timeout: float | int = 60,
) -> "Stream":
    """A data set that is read from its source again and again, a few batches ahead of who trains on it.

    What is in memory anyway trains faster as a `Dataset`. How often training reads a stream through is told by
    `runner.train`.

    Args:
        source: anything with `len(source)` and `source[i]`, such as an `ImageFolder`; or two arrays `(x, y)`, such
            as those of `np.memmap`. Several threads read it at once.
        decode: `source[i] -> (x, y)`, one example, also called in the reading threads. Without it the source's
            records are pairs `(x, y)`.
        threads: batches that are read at the same time. The order of the examples does not depend on it.
        workers: read in so many processes instead. They start within seconds and are worth it where `decode` is
            Python code that keeps the interpreter busy, or where reading may hang: only a process can be ended.
            `source` and `decode` are pickled for them: of two arrays those that view an `np.memmap`, but for one of
            mode "c", by the name of its file, which they map too; all else with all that is in it. The program must
            keep its own work below `if __name__ == "__main__":`.
        prefetch: how many batches may be in memory, half read ones counted, beside those that were taken, and so how
            many may be read at the same time. None is 8, or twice the threads or workers if that is more.
        timeout: seconds for which a batch may be waited for while it is read.

    Raises:
        ModuleNotFoundError: grain is not installed.
        TypeError, ValueError: arguments that do not fit, or, with workers, cannot be pickled.

    >>> import jax, jaxnn as nn
    >>> data = stream(range(6), decode=lambda i: ([i / 10], i))
    >>> for x, y in data.batches(2, key=jax.random.key(0), sampling="in_order"):
    ...     print(x.shape, y)
    (2, 1) [0 1]
    (2, 1) [2 3]
    (2, 1) [4 5]
    """
    try:
        import grain  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "reading a stream needs grain, which is not installed: python -m pip install grain"
        ) from None
    if isinstance(source, str | Path):
        raise TypeError(
            f"source must hold examples; got the path {str(source)!r} (for a folder of pictures use "
            "list_image_folder(path).train)"
        )
    if isinstance(source, tuple) and hasattr(source, "train"):
        raise TypeError(f"source must be one part of the data; got {type(source).__name__} (use its .train)")
    if isinstance(source, tuple) and len(source) == 2 and all(hasattr(part, "shape") for part in source):
        check_examples("source", source)
        if any(isinstance(part, np.ma.MaskedArray) for part in source):
            raise TypeError("source holds a masked array; fill or leave out what is masked")
        source = Arrays(*(np.asarray(part) for part in source))
    elif not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise TypeError(
            f"source must have len(source) and source[i], or be two arrays (x, y); got {type(source).__name__}"
        )
    if len(source) == 0:
        raise ValueError("source has no examples")
    if decode is not None:
        check_callable("decode", decode, "(source[i]) -> (x, y)")
    check_size("threads", threads)
    check_size("workers", workers, at_least=0)
    if prefetch is None:
        prefetch = max(8, 2 * (workers or threads))
    check_size("prefetch", prefetch)
    check_number("timeout", timeout, above=0)
    if workers:
        if multiprocessing.current_process().daemon:
            raise ValueError(f"workers={workers}: this process, a worker itself, may start no others (use workers=0)")
        check_picklable(Recipe(source, decode, None))
    return Stream(source, decode, threads=threads, workers=workers, prefetch=prefetch, timeout=timeout)


class Stream:
    """What `stream` returns: as many passes over the data as wanted, and nothing of it kept in between."""

    def __init__(
        self,
        source: Any,
        decode: Callable[[Any], Any] | None,
        *,
        threads: int,
        workers: int,
        prefetch: int,
        timeout: float | int,
    ) -> None:
        self._source = source
        self._decode = decode
        self._threads = threads
        self._workers = workers
        self._prefetch = prefetch
        self._timeout = timeout
        self._example: Dataset | None = None

    def __len__(self) -> int:
        return len(self._source)

    @property
    def example(self) -> Dataset:
        """The first example, as a data set of one; it is read when first asked for."""
        if self._example is None:
            with self.read([np.zeros(1, np.int64)], 1) as batches:
                self._example = Dataset(*(np.asarray(part) for part in next(batches)))
        return self._example

    def batches(
        self,
        batch_size: int,
        *,
        key: PRNGKeyArray,
        epoch: int = 0,
        sampling: Sampling = "shuffle",
        drop_last: bool = True,
        start: int = 0,
        device: jax.Device | None = None,
    ) -> "StreamIterator":
        """One epoch's mini-batches `(x, y)` on the device, in the order that `fit(data_key=key)` has in that epoch.

        `drop_last` leaves out the examples that do not fill a batch, as `fit` does: a compiled step has one shape.
        `start` batches are passed over without being read, to go on where an earlier iterator has stopped. With
        workers, their processes are started anew.

        Raises:
            TypeError, ValueError: arguments that do not fit, when called.
            DataError: from the iterator, at the batch concerned: an example that cannot be read, is not like the
                others or holds values that are not finite; a batch that took longer than `timeout`.

        >>> import jax, numpy as np, jaxnn as nn
        >>> data = stream((np.arange(60.0).reshape(6, 10), np.arange(6)))
        >>> with data.batches(2, key=jax.random.key(0)) as batches:
        ...     x, y = next(batches)
        ...     print(x.shape, batches.batch)
        (2, 10) 1
        """
        check_batch_size(batch_size, len(self))
        check_key("key", key)
        check_size("epoch", epoch, at_least=0)
        check_choice("sampling", sampling, get_args(Sampling))
        check_flag("drop_last", drop_last)
        whole, rest = divmod(len(self), batch_size)
        is_left = bool(rest) and not drop_last and sampling != "replacement"
        check_size("start", start, at_least=0, below=whole + is_left + 1)
        order = epoch_order(key, epoch, len(self), batch_size, sampling, drop_last=drop_last)
        return self.read(order[start:], len(order) - start, device=device, epoch=epoch, start=start)

    def read(
        self,
        orders: Iterable[Index],
        count: int,
        *,
        labels_below: int | None = None,
        like: Dataset | None = None,
        device: jax.Device | None = None,
        place: Callable[[int, Dataset], Dataset] | None = None,
        epoch: int = 0,
        start: int = 0,
    ) -> "StreamIterator":
        """The `count` batches whose examples `orders` names: for an order of one's own.

        Labels must lie from 0 to below `labels_below`, and the examples must be as example 0 is, if given by `like`.
        `place` brings batch n, from 0, to where it is wanted, instead of to `device`: several threads call it at once.
        `epoch` and `start` are only noted.

        Raises:
            DataError: from the iterator, as from that of `batches`.
            RuntimeError, ValueError: from the iterator: `orders` ends early, or names an example that is not there.

        >>> import numpy as np, jaxnn as nn
        >>> data = stream((np.arange(6.0)[:, None], np.arange(6)))
        >>> for x, y in data.read([np.array([4, 0]), np.array([5])], 2):
        ...     print(y)
        [4 0]
        [5]
        """
        recipe = Recipe(self._source, self._decode, labels_below)
        readers = min(self._workers or self._threads, self._prefetch, count)
        if place is None:

            def place(number: int, batch: Dataset) -> Dataset:
                return jax.device_put(batch, device)

        reading = Reading(iter(orders), self._prefetch, self._timeout, place, like)
        try:
            reading.begin(recipe, count, readers, in_processes=self._workers > 0)
        except BaseException:
            reading.close()
            raise
        return StreamIterator(reading, count, epoch, start)


class StreamIterator(Iterator[Dataset]):
    """One pass over a stream. It closes itself at its end, at an error and when it is forgotten.

    Threads that share it get different batches; one that waits when another closes it gets none.
    """

    epoch: int
    """Which epoch this is, from 0."""
    batch: int
    """The number in the epoch, from 0, of the batch that comes next."""

    def __init__(self, reading: Reading, count: int, epoch: int, start: int) -> None:
        self.epoch = epoch
        self.batch = start
        self._reading = reading
        self._left = count
        self._taking = threading.Lock()
        weakref.finalize(self, reading.abandon).atexit = False  # the end of the program has its own way
        if count == 0:
            self.close()

    def ready(self, within: float | int) -> bool:
        """Wait `within` seconds at most until the next batch is there, or is known never to come."""
        return self._reading.wait(within)

    def __next__(self) -> Dataset:
        with self._taking:
            try:
                while not self.ready(within=1):
                    pass
                batch = self._reading.take()
            except EndedError:
                raise StopIteration from None
            except BaseException:
                self.close()
                raise
            self.batch += 1
            self._left -= 1
            if self._left == 0:
                self.close()
            return batch

    def close(self) -> None:
        """End the reading. What hangs in a thread ends when it returns; what hangs in a process ends now."""
        self._reading.close()

    def __enter__(self) -> "StreamIterator":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
