"""The threads that read batches ahead of who takes them: how they wait, are told late, and end."""

import atexit
import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxnn.data._reading import ReadingProcess, Recipe, checked_order, read_batch
from jaxnn.data.batching import Index
from jaxnn.data.dataset import DataError, Dataset
from jaxnn.older_jax import enable_x64

_END_SECONDS = 1.0  # how long closing waits for an example that is being read
_LOOK_SECONDS = 1.0  # how often whoever waits looks again


class EndedError(Exception):
    """Ends a reading thread, and tells who takes batches that the reading is closed."""


class _Work:
    """A batch that is being read, and then is there."""

    def __init__(self) -> None:
        self.first = self.index = -1
        self.index_began = math.inf
        self.looked: float | None = None  # when somebody looked for it last; None before it began
        self.waited = 0.0  # seconds
        self.outside = False  # in the source, `decode` or a process, which may never return
        self.done = False
        self.error: BaseException | None = None
        self.batch: Dataset | None = None

    def begin(self, index: int) -> None:
        self.first = self.index = index
        self.index_began = self.looked = time.monotonic()

    def left(self, timeout: float | int) -> float:
        """The seconds that are left of the timeout.

        Between two looks not more than a little counts: where the whole program was stopped for a while, its readers
        were too.
        """
        if self.looked is None:
            return math.inf
        now = time.monotonic()
        self.waited += min(now - self.looked, 2 * _LOOK_SECONDS)
        self.looked = now
        return timeout - self.waited


class Reading:
    """What the reading threads and the one that takes batches share.

    The threads and their order are grain's. Around them lies what grain does not do: its iterators wait without end
    for a reader that hangs, and so does their `close`; its pool of threads is joined by the exiting interpreter, its
    processes are started anew for each pass. So each thread is grain's `ThreadPrefetch`, a daemon; nobody asks it for
    a batch before this class knows that the batch is there; and processes are our own.
    """

    def __init__(
        self,
        orders: Iterator[Index],
        prefetch: int,
        timeout: float | int,
        place: Callable[[int, Dataset], Dataset],
        like: Dataset | None,
    ) -> None:
        self._process = os.getpid()
        self._orders = orders
        self._order_error: Exception | None = None
        self._order_lock = threading.Lock()
        self._ahead: dict[int, Index] = {}  # orders that another thread will need
        self._ordered = 0
        self._prefetch = prefetch
        self._timeout = timeout
        self._place = place
        self._x64 = bool(jax.config.read("jax_enable_x64"))  # may be that of the caller's thread alone
        self._changed = threading.Condition()
        self._ending = threading.RLock()
        self._work: dict[int, _Work] = {}
        self._taken = 0
        self._closed = False
        self._like = None if like is None else (0, _form(like))  # an example, and what all must be like
        self._processes: list[ReadingProcess] = []
        self._threads: list[Any] = []

    def begin(self, recipe: Recipe, count: int, readers: int, *, in_processes: bool) -> None:
        """Start the threads; the n-th reads the batches n, n + readers, n + 2 readers, …"""
        import grain

        _open.add(self)
        for number in range(readers):
            if in_processes:
                self._processes.append(ReadingProcess(recipe))
            turn = _Turn(self, recipe, self._processes[number] if in_processes else None, range(number, count, readers))
            batches = grain.MapDataset.source(turn).to_iter_dataset(grain.ReadOptions(0, 0))
            # The buffer has room for all that `prefetch` lets in: the thread never waits there.
            thread = iter(
                grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=self._prefetch + 1)
            )
            self._threads.append(thread)
        for thread in self._threads:
            thread.start_prefetch()

    def fetch(self, number: int, recipe: Recipe, process: ReadingProcess | None) -> _Work:
        """In a reading thread: the batch, as soon as there is room for it."""
        try:
            with enable_x64(self._x64):
                return self._fetch(number, recipe, process)
        finally:
            if self._closed and process is not None:
                process.end()

    def _fetch(self, number: int, recipe: Recipe, process: ReadingProcess | None) -> _Work:
        work = _Work()
        with self._changed:
            while not (self._closed or number < self._taken + self._prefetch):
                self._changed.wait(_LOOK_SECONDS)
            if self._closed:
                raise EndedError
            self._work[number] = work

        def note(index: int) -> None:
            if self._closed:
                raise EndedError
            work.index, work.index_began = index, time.monotonic()

        try:
            indices = checked_order(self._order(number), len(recipe.source))
            self._step(work, outside=True)
            if process is not None:
                process.wait_until_ready()
            with self._changed:
                work.begin(int(indices[0]))
                self._changed.notify_all()
            read = read_batch(recipe, indices, note) if process is None else process.read(indices, note)
            self._step(work, outside=False)
            # Not waited for: a CPU that computes a step makes the transfer wait its turn, and reading with it.
            work.batch = self._place(number, read)
            return work
        except BaseException as error:
            work.error = error  # not through grain, which would add sentences of its own
            raise EndedError from None
        finally:
            with self._changed:
                work.done = True
                self._changed.notify_all()

    def _step(self, work: _Work, *, outside: bool) -> None:
        """Go on, unless closed: a thread that closing did not wait for must not come back to JAX."""
        with self._changed:
            if self._closed:
                raise EndedError
            work.outside = outside

    def _order(self, number: int) -> Index:
        with self._order_lock:
            while self._ordered <= number:
                if self._closed:
                    raise EndedError
                if self._order_error is None:
                    try:
                        self._ahead[self._ordered] = next(self._orders)
                    except StopIteration:
                        self._order_error = RuntimeError(
                            f"the order of the examples ends after {self._ordered} batches"
                        )
                    except Exception as error:  # of every batch from here on, whichever thread asks for it
                        self._order_error = error
                if self._order_error is not None:
                    raise self._order_error
                self._ordered += 1
            return self._ahead.pop(number)

    def wait(self, within: float | int) -> bool:
        """Wait until the next batch is there or late, or the reading closed; whether it is."""
        end = time.monotonic() + within
        with self._changed:
            while True:
                work = self._work.get(self._taken)
                left = work.left(self._timeout) if work else math.inf
                if self._closed or (work and work.done) or left <= 0:
                    return True
                more = end - time.monotonic()
                if more <= 0:
                    return False
                self._changed.wait(min(more, left, _LOOK_SECONDS))

    def take(self) -> Dataset:
        """The next batch, which `wait` has seen.

        Raises:
            DataError: why there is none.
            EndedError: the reading is closed.
        """
        with self._changed:
            if self._closed:
                raise EndedError
            work = self._work[self._taken]
            if not work.done:
                raise self._late(work)
            if work.error is not None:
                raise work.error
            batch: Dataset = next(self._threads[self._taken % len(self._threads)]).batch
            form = _form(batch)
            self._like = self._like or (work.first, form)
            if form != self._like[1]:
                raise DataError(
                    f"example {work.first}: (x, y) are {_words(form)}, and those of example {self._like[0]} "
                    f"{_words(self._like[1])}; all must be alike (decode can make them so)"
                )
            del self._work[self._taken]
            self._taken += 1
            self._changed.notify_all()
        return batch

    def _late(self, work: _Work) -> DataError:
        now = time.monotonic()
        advice = "" if self._processes else " (what hangs in a thread cannot be ended; with workers it can)"
        return DataError(
            f"example {work.index} has been read for {now - work.index_began:.1f} s and its batch waited for "
            f"{work.waited:.1f} s, longer than timeout={self._timeout:g} s: the reader hangs, or needs a "
            f"longer timeout{advice}"
        )

    def abandon(self) -> None:
        """Have threads and processes end, and wait for nothing.

        The garbage collector calls this in any thread, one of the reading's own too, and whatever locks that holds.
        Where the lock is not free nobody is told: threads that wait look again after `_LOOK_SECONDS`.
        """
        self._closed = True
        if self._is_copy():
            return
        for process in self._processes:
            process.kill()
        for work in list(self._work.values()):
            work.batch = None
        if self._changed.acquire(blocking=False):
            try:
                self._changed.notify_all()
            finally:
                self._changed.release()

    def close(self) -> None:
        """End threads and processes, and wait for them.

        A thread in the midst of an example is waited for a little, then left to end. One that draws an order or
        brings a batch to the device is waited for in any case: the interpreter must not end while it is in JAX.
        """
        self.abandon()
        if self._is_copy():
            return
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._unfinished(), _END_SECONDS)
            self._changed.wait_for(lambda: all(work.outside for work in self._unfinished().values()))
            busy = {number % len(self._threads) for number in self._unfinished() if self._threads}
        with self._ending:
            for number, thread in enumerate(self._threads):
                # Only a thread that is about to end: grain waits for it. `close` may be called on such a thread.
                if number not in busy:
                    with contextlib.suppress(RuntimeError):
                        thread.close()
            for number, process in enumerate(self._processes):
                if number not in busy:  # whose thread does it
                    process.end()
            if not busy:  # else grain would wait for a thread that is forgotten
                self._threads = []  # which hold this object
        _open.discard(self)

    def _is_copy(self) -> bool:
        """Whether this is a fork of the process that reads: it has no threads, and the processes are not its own."""
        return os.getpid() != self._process

    def _unfinished(self) -> dict[int, _Work]:
        return {number: work for number, work in self._work.items() if not work.done}


_open: weakref.WeakSet[Reading] = weakref.WeakSet()  # its threads keep a reading alive


@atexit.register  # before JAX ends, which was imported earlier
def _close_all() -> None:
    for reading in list(_open):
        reading.close()


def _form(examples: Dataset) -> list[tuple[Any, tuple[int, ...]]]:
    return [(part.dtype, part.shape[1:]) for part in examples]


def _words(form: list[tuple[Any, tuple[int, ...]]]) -> str:
    return " and ".join(f"{dtype} of shape {shape}" for dtype, shape in form)


class _Turn:
    """The batches of one thread, as grain's kind of source."""

    def __init__(self, reading: Reading, recipe: Recipe, process: ReadingProcess | None, numbers: range) -> None:
        self._reading = reading
        self._recipe = recipe
        self._process = process
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> _Work:
        return self._reading.fetch(self._numbers[place], self._recipe, self._process)
