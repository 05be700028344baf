"""The parts of a run whose data is read while it trains: one compiled step, called batch by batch."""

import contextlib
import functools
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn.data.batching import Index
from jaxnn.data.dataset import Dataset
from jaxnn.data.streaming import Stream, StreamIterator
from jaxnn.divergence import all_finite
from jaxnn.evaluation import Examples, Metrics
from jaxnn.programs import (
    Arithmetic,
    Chunk,
    Learned,
    Measured,
    Programs,
    RunChunk,
    choose_chunk,
    compile_chunks,
    draw_order,
    on_device,
    split_chunks,
    split_means,
)
from jaxnn.sampling import Sampling
from jaxnn.sharding import number_of_parts, own_rows, place_rows, place_whole, whole
from jaxnn.training import TrainState, split_by_purpose

__all__ = ["Feeder", "Order", "compile_streamed", "sample"]

# As many steps may wait for the device, and hold their batches there.
STEPS_IN_FLIGHT = 4
# How long a wait for data may be deaf to Ctrl-C.
SECONDS_DEAF = 0.05
# After which a chunk ends, however slowly its data is read.
SECONDS_OF_READING = 10.0


class Order(NamedTuple):
    """Which examples each step sees."""

    epochs: int
    batch_size: int
    data_key: PRNGKeyArray | None  # None until the run's state is there to take it from
    sampling: Sampling

    def of_training(self, examples: int, start: int = 0, *, measured: bool) -> Iterator[Index]:
        """Each epoch's batches, and where it is `measured` all examples once more; `start` batches are left out.

        The order of an epoch is drawn while the one before it is read: of many millions of examples it takes as long.
        """
        first, passed = divmod(start, len(self.training_sizes(examples, measured=measured)))

        def draw(epoch: int) -> Array:
            assert self.data_key is not None
            return draw_order(self.data_key, epoch, examples, self.batch_size, self.sampling)

        # Now, and so compiled in this thread: one that reads must be able to end soon.
        first_drawn = draw(first)

        def batches() -> Iterator[Index]:
            drawn = first_drawn
            for epoch in range(first, self.epochs):
                order = np.asarray(drawn)
                if epoch + 1 < self.epochs:
                    drawn = draw(epoch + 1)  # JAX does not wait for it
                yield from order
                if measured:
                    yield from self.of_pass(examples)

        return itertools.islice(batches(), passed, None)

    def training_sizes(self, examples: int, *, measured: bool) -> list[int]:
        """How many examples each batch of an epoch has, that of the pass that measures included."""
        return [self.batch_size] * (examples // self.batch_size) + (self.pass_sizes(examples) if measured else [])

    def of_measuring(self, examples: int, start: int = 0) -> Iterator[Index]:
        """A pass after each epoch; `start` batches are left out."""
        first, passed = divmod(start, len(self.pass_sizes(examples)))
        passes = itertools.chain.from_iterable(self.of_pass(examples) for _ in range(first, self.epochs))
        return itertools.islice(passes, passed, None)

    def of_pass(self, examples: int) -> Iterator[Index]:
        """All examples in order; the last batch may be smaller."""
        for start in range(0, examples, self.batch_size):
            yield np.arange(start, min(start + self.batch_size, examples))

    def pass_sizes(self, examples: int) -> list[int]:
        """How many examples each batch of a pass has."""
        full, rest = divmod(examples, self.batch_size)
        return [self.batch_size] * full + ([rest] if rest else [])


class Feeder(NamedTuple):
    """How the host waits, and what ends the wait."""

    wait: Callable[[Any], None]  # for what is computed
    heard: threading.Event  # Ctrl-C or SIGTERM; not where many processes must take the same steps
    gone: threading.Event  # another process

    def feed(
        self,
        batches: StreamIterator,
        count: int,
        call: Callable[[Any, Any], Any],
        settle: Callable[[Any], bool],
        seconds: float = math.inf,
    ) -> int:
        """Call a compiled program with so many batches, a few calls ahead of its results, which `settle` gets.

        It ends early when a signal is heard, after so many seconds, or when `settle` is False. Returns how many batches
        it was called with.
        """
        in_flight: deque[Any] = deque()
        until = time.monotonic() + seconds
        goes_on, fed = True, 0

        def settle_one() -> bool:
            result = in_flight.popleft()
            self.wait(result)
            return settle(result)

        while goes_on and fed < count and not self.heard.is_set() and time.monotonic() < until:
            if self.gone.is_set():
                raise KeyboardInterrupt
            if not batches.ready(within=SECONDS_DEAF):
                continue
            in_flight.append(hosts.call(call, *next(batches)))
            fed += 1
            if len(in_flight) == STEPS_IN_FLIGHT:
                goes_on = settle_one()
        while in_flight:
            goes_on = settle_one() and goes_on
        return fed


class Reader:
    """The batches of a run that come from a stream, from wherever they are wanted."""

    def __init__(self, start: Callable[[int], StreamIterator]) -> None:
        self._start = start
        self._batches: StreamIterator | None = None

    def at(self, number: int) -> StreamIterator:
        """Go on with this batch of the run, from 0."""
        if self._batches is None or self._batches.batch != number:
            self.close()
            self._batches = self._start(number)
        return self._batches

    def close(self) -> None:
        """End the reading."""
        if self._batches is not None:
            self._batches.close()


def sample(data: Examples | Stream, size: int) -> Examples:
    """What a run's arguments are checked with: of a stream its first example, `size` times."""
    if not isinstance(data, Stream):
        return data
    return Dataset(*(np.broadcast_to(part, (size, *part.shape[1:])) for part in data.example))


class Where(NamedTuple):
    """Where a run's arrays lie: on this host's first device, or split over several."""

    batch_sharding: NamedSharding | None

    def put(self, tree: PyTree) -> PyTree:
        """What is not split."""
        if self.batch_sharding is None:
            return jax.device_put(tree, jax.local_devices()[0])
        return place_whole(tree, self.batch_sharding)

    def put_rows(self, rows: Dataset, size: int) -> Dataset:
        """A batch of which this process has read its rows."""
        return self.put(rows) if self.batch_sharding is None else place_rows(rows, self.batch_sharding, size)

    def own(self, index: Index) -> Index:
        """The examples of a batch that this process reads."""
        return index if self.batch_sharding is None else index[own_rows(self.batch_sharding, len(index))]

    def shapes(self, stream: Stream, size: int) -> Any:
        """The shapes of a batch there."""
        shapes = [jax.ShapeDtypeStruct((size, *part.shape[1:]), part.dtype) for part in stream.example]
        if self.batch_sharding is None:
            return tuple(on_device(jax.local_devices()[0], shapes))
        split = whole(self.batch_sharding) if size % number_of_parts(self.batch_sharding) else self.batch_sharding
        return tuple(jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=split) for part in shapes)

    def jit(self, function: Callable, **options: Any) -> Any:
        """`jax.jit`; of what is not a batch each device has all."""
        if self.batch_sharding is None:
            return jax.jit(function, **options)
        return jax.jit(function, out_shardings=whole(self.batch_sharding), **options)


def compile_streamed(
    arithmetic: Arithmetic,
    key: PRNGKeyArray,
    restored: TrainState | None,
    epochs_measured: int,
    train: Examples | Stream,
    validation: Examples | Stream | None,
    order: Order,
    opened: contextlib.ExitStack,
    feeder: Feeder,
    goes_on: Callable[[Any], bool],
    batch_sharding: NamedSharding | None,
) -> Programs:
    """Compile a run of whose data at least one part is a stream; `opened` closes what is read from.

    `goes_on` is told each loss: whether the steps after it are wanted.
    """
    where = Where(batch_sharding)
    started = jax.jit(arithmetic.start).lower(key).compile()(key) if restored is None else restored
    if order.data_key is None:
        order = order._replace(data_key=split_by_purpose(started.key).data)
    first = where.put(started)
    learned: Learned = (first.params, first.model_state)

    def read(stream: Stream, order_from: Callable[[int], Iterator[Index]], sizes: list[int], number: int) -> Reader:
        """Begin to read, and go on while the programs are compiled. `sizes` are those of an epoch's batches."""

        def start(number: int) -> StreamIterator:
            return stream.read(
                map(where.own, order_from(number)),
                order.epochs * len(sizes) - number,
                labels_below=_labels_below(arithmetic.infer, learned, stream),
                like=stream.example,
                place=lambda later, rows: where.put_rows(rows, sizes[(number + later) % len(sizes)]),
                start=number,
            )

        reader = Reader(start)
        opened.callback(reader.close)
        if number < order.epochs * len(sizes):
            reader.at(number)
        return reader

    def means_of(
        data: Examples | Stream | None, pass_of: Callable[[int], StreamIterator] | None, metrics: Metrics
    ) -> Callable[[Learned, int], dict[str, Any] | None]:
        if data is None or not metrics:
            return lambda learned, epoch: {}
        means = functools.partial(arithmetic.means, metrics)
        if isinstance(data, Stream):
            assert pass_of is not None
            return _means(means, learned, data, pass_of, order, where, feeder)
        if batch_sharding is not None:
            split = split_means(arithmetic.means, learned, data, metrics, batch_sharding)()
            return lambda learned, epoch: split(learned)
        in_memory = where.put(data)
        compiled = jax.jit(means).lower(learned, in_memory).compile()
        return lambda learned, epoch: compiled(learned, in_memory)

    train_pass = validation_pass = None
    if isinstance(validation, Stream):
        passes = order.pass_sizes(len(validation))
        of_measuring = functools.partial(order.of_measuring, len(validation))
        validation_reader = read(validation, of_measuring, passes, epochs_measured * len(passes))

        def validation_pass(epoch: int) -> StreamIterator:
            return validation_reader.at(epoch * len(passes))

    if isinstance(train, Stream):
        steps = len(train) // order.batch_size
        measured = bool(arithmetic.train_metrics)
        sizes = order.training_sizes(len(train), measured=measured)
        of_training = functools.partial(order.of_training, len(train), measured=measured)

        def number_of(step: int) -> int:
            return step // steps * len(sizes) + step % steps

        def train_pass(epoch: int) -> StreamIterator:
            return train_reader.at(epoch * len(sizes) + steps)

        begun = int(first.step)
        is_measured = epochs_measured == begun // steps
        train_reader = read(
            train, of_training, sizes, number_of(begun) if is_measured else epochs_measured * len(sizes) + steps
        )
        example = where.shapes(train, order.batch_size)
        chunk, chunk_steps = _chunk(
            arithmetic.step,
            first,
            example,
            lambda step: train_reader.at(number_of(step)),
            steps,
            where,
            feeder,
            goes_on,
        )
    elif batch_sharding is not None:
        assert order.data_key is not None
        chunk, chunk_steps = split_chunks(
            arithmetic.step, first, train, order.batch_size, order.data_key, order.sampling, batch_sharding
        )()
    else:
        chunk, chunk_steps = compile_chunks(arithmetic, first, where.put(train), order.batch_size)()

    train_means = means_of(train, train_pass, arithmetic.train_metrics)
    validation_means = means_of(validation, validation_pass, arithmetic.validation_metrics)

    def measure_both(state: TrainState, epoch: int) -> Measured | None:
        learned = state.params, state.model_state
        on_train, on_validation = train_means(learned, epoch), validation_means(learned, epoch)
        return None if on_train is None or on_validation is None else (on_train, on_validation)

    return Programs(first, chunk, chunk_steps, measure_both, where.put, reads=True)


def _labels_below(infer: Callable[[Learned, Array], Array], learned: Learned, stream: Stream) -> int | None:
    """How many classes the model tells apart, where the stream has integer labels."""
    x, y = stream.example
    outputs = jax.eval_shape(infer, learned, x)
    has_labels = outputs.ndim == 2 and outputs.shape[1] > 1 and y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer)
    return outputs.shape[1] if has_labels else None


def _chunk(
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]],
    state: TrainState,
    example: Any,
    batches_from: Callable[[int], StreamIterator],
    steps: int,
    where: Where,
    feeder: Feeder,
    goes_on: Callable[[Any], bool],
) -> tuple[RunChunk, int]:
    """Compile a step for such a state and such a batch; a chunk feeds it batch by batch, of an epoch of `steps`."""
    lowered = where.jit(step, donate_argnums=0).lower(state, *example)
    chunk_steps = choose_chunk(lambda: lowered, state, example[0].shape, steps)
    compiled = lowered.compile()
    learned = state.params, state.model_state
    is_finite = where.jit(all_finite).lower(learned).compile()

    def chunk(state: TrainState, step: int, count: int) -> Chunk:
        # A step takes its state's memory; the copy leaves the chunk's first state as it is, to go back to.
        state = jax.tree.map(jnp.copy, state)
        losses: list[np.ndarray] = []

        def call(x: Array, y: Array) -> Array:
            nonlocal state
            state, loss = compiled(state, x, y)
            return loss

        def settle(loss: Array) -> bool:
            losses.append(np.asarray(loss))
            return goes_on(losses[-1])

        # Of one process the chunks may have any length: the steps are the same.
        seconds = SECONDS_OF_READING if jax.process_count() == 1 else math.inf
        feeder.feed(batches_from(step), count, call, settle, seconds)
        if not losses:
            return state, np.zeros(0, np.float32), True
        return state, np.stack(losses), hosts.call(is_finite, (state.params, state.model_state))

    return chunk, chunk_steps


def _means(
    means: Callable[[Learned, Examples], dict[str, Array]],
    learned: Learned,
    stream: Stream,
    pass_of: Callable[[int], StreamIterator],
    order: Order,
    where: Where,
    feeder: Feeder,
) -> Callable[[Learned, int], dict[str, Any] | None]:
    """Compile the means of metrics over a batch; a pass over the stream weighs them by the examples they are of."""
    sizes = order.pass_sizes(len(stream))
    compiled = {size: where.jit(means).lower(learned, where.shapes(stream, size)).compile() for size in set(sizes)}

    def over_the_stream(learned: Learned, epoch: int) -> dict[str, Any] | None:
        parts: list[dict[str, np.ndarray]] = []

        def settle(part: dict[str, Array]) -> bool:
            parts.append(jax.device_get(part))
            return True

        fed = feeder.feed(pass_of(epoch), len(sizes), lambda x, y: compiled[len(x)](learned, (x, y)), settle)
        if fed < len(sizes):
            return None
        return {
            name: np.average([part[name] for part in parts], weights=sizes).astype(parts[0][name].dtype)
            for name in parts[0]
        }

    return over_the_stream
