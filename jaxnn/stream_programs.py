"""The parts of a run whose data is read while it trains: one compiled step, called batch by batch."""

import contextlib
import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn.data.batching import Index
from jaxnn.data.dataset import Dataset
from jaxnn.data.streaming import Stream, StreamIterator
from jaxnn.evaluation import Examples, Metrics
from jaxnn.programs import (
    Arithmetic,
    Learned,
    Measured,
    Programs,
    draw_order,
    on_device,
    split_epoch,
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


class Order(NamedTuple):
    """Which examples each step sees."""

    epochs: int
    batch_size: int
    data_key: PRNGKeyArray | None  # None until the run's state is there to take it from
    sampling: Sampling

    def of_training(self, examples: int, *, measured: bool) -> Iterator[Index]:
        """Each epoch's batches, and where it is `measured` all examples once more.

        The order of an epoch is drawn while the one before it is read: of many millions of examples it takes as long.
        """

        def draw(epoch: int) -> Array:
            assert self.data_key is not None
            return draw_order(self.data_key, epoch, examples, self.batch_size, self.sampling)

        # Now, and so compiled in this thread: one that reads must be able to end soon.
        first = draw(0)

        def batches() -> Iterator[Index]:
            drawn = first
            for epoch in range(self.epochs):
                order = np.asarray(drawn)
                if epoch + 1 < self.epochs:
                    drawn = draw(epoch + 1)  # JAX does not wait for it
                yield from order
                if measured:
                    yield from self.of_pass(examples)

        return batches()

    def of_measuring(self, examples: int) -> Iterator[Index]:
        """A pass after each epoch."""
        for _ in range(self.epochs):
            yield from self.of_pass(examples)

    def of_pass(self, examples: int) -> Iterator[Index]:
        """All examples in order; the last batch may be smaller."""
        for start in range(0, examples, self.batch_size):
            yield np.arange(start, min(start + self.batch_size, examples))

    def pass_sizes(self, examples: int) -> list[int]:
        """How many examples each batch of a pass has."""
        full, rest = divmod(examples, self.batch_size)
        return [self.batch_size] * full + ([rest] if rest else [])


class Feeder(NamedTuple):
    """How the host waits, and Ctrl-C is heard while it does."""

    wait: Callable[[Any], None]  # for what is computed
    heard: threading.Event  # Ctrl-C

    def feed(
        self,
        batches: StreamIterator,
        count: int,
        call: Callable[[Any, Any], Any],
        settle: Callable[[Any], None],
    ) -> None:
        """Call a compiled program with so many batches, a few calls ahead of its results, which `settle` gets."""
        in_flight: deque[Any] = deque()

        def settle_one() -> None:
            result = in_flight.popleft()
            self.wait(result)
            settle(result)

        for _ in range(count):
            while not batches.ready(within=SECONDS_DEAF) and not self.heard.is_set():
                pass
            if self.heard.is_set():
                raise KeyboardInterrupt
            in_flight.append(hosts.call(call, *next(batches)))
            if len(in_flight) == STEPS_IN_FLIGHT:
                settle_one()
        while in_flight:
            settle_one()


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
    train: Examples | Stream,
    validation: Examples | Stream | None,
    order: Order,
    opened: contextlib.ExitStack,
    feeder: Feeder,
    check_loss: Callable[[Any, int, int], None],
    batch_sharding: NamedSharding | None,
) -> Programs:
    """Compile a run of whose data at least one part is a stream; `opened` closes what is read from.

    `check_loss` is told each loss, its step in the run, from 0, and how many steps an epoch has.
    """
    where = Where(batch_sharding)
    started = jax.jit(arithmetic.start).lower(key).compile()(key)
    if order.data_key is None:
        order = order._replace(data_key=split_by_purpose(started.key).data)
    first = where.put(started)
    learned: Learned = (first.params, first.model_state)

    def read(stream: Stream, indices: Iterator[Index], sizes: list[int]) -> StreamIterator:
        # Reading begins now, and goes on while the programs are compiled. `sizes` are those of an epoch's batches.
        return opened.enter_context(
            stream.read(
                map(where.own, indices),
                order.epochs * len(sizes),
                labels_below=_labels_below(arithmetic.infer, learned, stream),
                like=stream.example,
                place=lambda number, rows: where.put_rows(rows, sizes[number % len(sizes)]),
            )
        )

    def means_of(
        data: Examples | Stream | None, batches: StreamIterator | None, metrics: Metrics
    ) -> Callable[[Learned], dict[str, Any]]:
        if data is None or not metrics:
            return lambda learned: {}
        means = functools.partial(arithmetic.means, metrics)
        if isinstance(data, Stream):
            assert batches is not None
            return _means(means, learned, data, batches, order, where, feeder)
        if batch_sharding is not None:
            return split_means(arithmetic.means, learned, data, metrics, batch_sharding)()
        in_memory = where.put(data)
        compiled = jax.jit(means).lower(learned, in_memory).compile()
        return lambda learned: compiled(learned, in_memory)

    epoch: Callable[[TrainState], tuple[TrainState, Any]]
    train_batches = validation_batches = None
    if isinstance(validation, Stream):
        passes = order.of_measuring(len(validation))
        validation_batches = read(validation, passes, order.pass_sizes(len(validation)))
    if isinstance(train, Stream):
        steps = len(train) // order.batch_size
        measured = bool(arithmetic.train_metrics)
        sizes = [order.batch_size] * steps + (order.pass_sizes(len(train)) if measured else [])
        train_batches = read(train, order.of_training(len(train), measured=measured), sizes)
        example = where.shapes(train, order.batch_size)
        epoch = _epoch(arithmetic.step, first, example, train_batches, steps, where, feeder, check_loss)
    elif batch_sharding is not None:
        assert order.data_key is not None
        epoch = split_epoch(
            arithmetic.step, first, train, order.batch_size, order.data_key, order.sampling, batch_sharding
        )()
    else:
        data = where.put(train)
        compiled_epoch = jax.jit(arithmetic.epoch).lower(first, data).compile()

        def epoch(state: TrainState) -> tuple[TrainState, Any]:
            return compiled_epoch(state, data)

    train_means = means_of(train, train_batches, arithmetic.train_metrics)
    validation_means = means_of(validation, validation_batches, arithmetic.validation_metrics)

    def measure_both(state: TrainState) -> Measured:
        learned = state.params, state.model_state
        return train_means(learned), validation_means(learned)

    return Programs(start=lambda: first, epoch=epoch, measured=measure_both, in_flight=1)


def _labels_below(infer: Callable[[Learned, Array], Array], learned: Learned, stream: Stream) -> int | None:
    """How many classes the model tells apart, where the stream has integer labels."""
    x, y = stream.example
    outputs = jax.eval_shape(infer, learned, x)
    has_labels = outputs.ndim == 2 and outputs.shape[1] > 1 and y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer)
    return outputs.shape[1] if has_labels else None


def _epoch(
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]],
    state: TrainState,
    example: Any,
    batches: StreamIterator,
    steps: int,
    where: Where,
    feeder: Feeder,
    check_loss: Callable[[Any, int, int], None],
) -> Callable[[TrainState], tuple[TrainState, Float[np.ndarray, " steps"]]]:
    """Compile a step for such a state and such a batch; an epoch feeds it `steps` batches."""
    compiled = where.jit(step, donate_argnums=0).lower(state, *example).compile()
    numbers = itertools.count()

    def epoch(state: TrainState) -> tuple[TrainState, Float[np.ndarray, " steps"]]:
        # A step takes its state's memory; the copy leaves the epoch's first state as it is, for when Ctrl-C comes.
        state = jax.tree.map(jnp.copy, state)
        losses: list[np.ndarray] = []

        def call(x: Array, y: Array) -> Array:
            nonlocal state
            state, loss = compiled(state, x, y)
            return loss

        def settle(loss: Array) -> None:
            losses.append(np.asarray(loss))
            check_loss(losses[-1], next(numbers), steps)

        feeder.feed(batches, steps, call, settle)
        return state, np.stack(losses)

    return epoch


def _means(
    means: Callable[[Learned, Examples], dict[str, Array]],
    learned: Learned,
    stream: Stream,
    batches: StreamIterator,
    order: Order,
    where: Where,
    feeder: Feeder,
) -> Callable[[Learned], dict[str, Any]]:
    """Compile the means of metrics over a batch; a pass over the stream weighs them by the examples they are of."""
    sizes = order.pass_sizes(len(stream))
    compiled = {size: where.jit(means).lower(learned, where.shapes(stream, size)).compile() for size in set(sizes)}

    def over_the_stream(learned: Learned) -> dict[str, Any]:
        parts: list[dict[str, np.ndarray]] = []
        feeder.feed(
            batches,
            len(sizes),
            lambda x, y: compiled[len(x)](learned, (x, y)),
            lambda part: parts.append(jax.device_get(part)),
        )
        return {
            name: np.average([part[name] for part in parts], weights=sizes).astype(parts[0][name].dtype)
            for name in parts[0]
        }

    return over_the_stream
