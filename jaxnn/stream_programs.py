"""The parts of a run whose data is read while it trains: one compiled step, called batch by batch."""

import contextlib
import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxnn.data.batching import Index
from jaxnn.data.dataset import Dataset
from jaxnn.data.streaming import Stream, StreamIterator
from jaxnn.evaluation import Examples, Metrics
from jaxnn.layers import ModelState, Params
from jaxnn.sampling import Sampling, epoch_indices
from jaxnn.training import TrainState, split_by_purpose

__all__ = [
    "Arithmetic",
    "Feeder",
    "Learned",
    "Measured",
    "Order",
    "Programs",
    "compile_streamed",
    "on_device",
    "sample",
]

Learned: TypeAlias = tuple[Params, ModelState]
Measured: TypeAlias = tuple[dict[str, Any], dict[str, Any]]

# As many steps may wait for the device, and hold their batches there.
STEPS_IN_FLIGHT = 4
# How long a wait for data may be deaf to Ctrl-C.
SECONDS_DEAF = 0.05

_drawn = jax.jit(epoch_indices, static_argnums=(2, 3, 4))


class Programs(NamedTuple):
    """The compiled parts of a run, with the data where they want it."""

    start: Callable[[], TrainState]
    epoch: Callable[[TrainState], tuple[TrainState, Any]]
    measured: Callable[[TrainState], Measured]
    in_flight: int  # epochs that may be, the one that is settled among them


class Arithmetic(NamedTuple):
    """What a run computes, before it is compiled."""

    start: Callable[[PRNGKeyArray], TrainState]
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]]
    epoch: Callable[[TrainState, Examples], tuple[TrainState, Array]]
    means: Callable[[Metrics, Learned, Examples], dict[str, Array]]
    infer: Callable[[Learned, Array], Array]
    train_metrics: Metrics
    validation_metrics: Metrics


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
            return _drawn(self.data_key, epoch, examples, self.batch_size, self.sampling)

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

    def pass_length(self, examples: int) -> int:
        """How many batches a pass has."""
        return -(-examples // self.batch_size)


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
            in_flight.append(call(*next(batches)))
            if len(in_flight) == STEPS_IN_FLIGHT:
                settle_one()
        while in_flight:
            settle_one()


def sample(data: Examples | Stream, size: int) -> Examples:
    """What a run's arguments are checked with: of a stream its first example, `size` times."""
    if not isinstance(data, Stream):
        return data
    return Dataset(*(np.broadcast_to(part, (size, *part.shape[1:])) for part in data.example))


def on_device(device: jax.Device, shapes: PyTree) -> PyTree:
    """Shapes of arrays that will lie on a device."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def compile_streamed(
    arithmetic: Arithmetic,
    key: PRNGKeyArray,
    train: Examples | Stream,
    validation: Examples | Stream | None,
    order: Order,
    opened: contextlib.ExitStack,
    feeder: Feeder,
    check_loss: Callable[[Any, int, int], None],
) -> Programs:
    """Compile a run of whose data at least one part is a stream; `opened` closes what is read from.

    `check_loss` is told each loss, its step in the run, from 0, and how many steps an epoch has.
    """
    here = jax.local_devices()[0]
    first = jax.device_put(jax.jit(arithmetic.start).lower(key).compile()(key), here)
    state = on_device(here, first)
    learned: Learned = (state.params, state.model_state)
    if order.data_key is None:
        order = order._replace(data_key=split_by_purpose(first.key).data)

    def read(stream: Stream, indices: Iterator[Index], count: int) -> StreamIterator:
        # Reading begins now, and goes on while the programs are compiled.
        below = _labels_below(arithmetic.infer, learned, stream, here)
        return opened.enter_context(stream.read(indices, count, labels_below=below, like=stream.example, device=here))

    def means_of(
        data: Examples | Stream | None, batches: StreamIterator | None, metrics: Metrics
    ) -> Callable[[Learned], dict[str, Any]]:
        if data is None or not metrics:
            return lambda learned: {}
        means = functools.partial(arithmetic.means, metrics)
        if isinstance(data, Stream):
            assert batches is not None
            return _means(means, learned, data, batches, order, here, feeder)
        in_memory = jax.device_put(data, here)
        compiled = jax.jit(means).lower(learned, in_memory).compile()
        return lambda learned: compiled(learned, in_memory)

    train_batches = validation_batches = None
    if isinstance(validation, Stream):
        passes = order.of_measuring(len(validation))
        validation_batches = read(validation, passes, order.epochs * order.pass_length(len(validation)))
    if isinstance(train, Stream):
        steps = len(train) // order.batch_size
        measured = bool(arithmetic.train_metrics)
        per_epoch = steps + (order.pass_length(len(train)) if measured else 0)
        train_batches = read(train, order.of_training(len(train), measured=measured), order.epochs * per_epoch)
        example = _batch_of(train, order.batch_size, here)
        epoch = _epoch(arithmetic.step, state, example, train_batches, steps, feeder, check_loss)
    else:
        data = jax.device_put(train, here)
        compiled_epoch = jax.jit(arithmetic.epoch).lower(state, data).compile()

        def epoch(state: TrainState) -> tuple[TrainState, Any]:
            return compiled_epoch(state, data)

    train_means = means_of(train, train_batches, arithmetic.train_metrics)
    validation_means = means_of(validation, validation_batches, arithmetic.validation_metrics)

    def measure_both(state: TrainState) -> Measured:
        learned = state.params, state.model_state
        return train_means(learned), validation_means(learned)

    return Programs(start=lambda: first, epoch=epoch, measured=measure_both, in_flight=1)


def _batch_of(stream: Stream, size: int, device: jax.Device) -> Any:
    """The shapes of a batch on the device."""
    shapes = [jax.ShapeDtypeStruct((size, *part.shape[1:]), part.dtype) for part in stream.example]
    return tuple(on_device(device, shapes))


def _labels_below(
    infer: Callable[[Learned, Array], Array], learned: Learned, stream: Stream, device: jax.Device
) -> int | None:
    """How many classes the model tells apart, where the stream has integer labels."""
    x, y = _batch_of(stream, 1, device)
    outputs = jax.eval_shape(infer, learned, x)
    has_labels = outputs.ndim == 2 and outputs.shape[1] > 1 and y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer)
    return outputs.shape[1] if has_labels else None


def _epoch(
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]],
    state: TrainState,
    example: Any,
    batches: StreamIterator,
    steps: int,
    feeder: Feeder,
    check_loss: Callable[[Any, int, int], None],
) -> Callable[[TrainState], tuple[TrainState, Float[np.ndarray, " steps"]]]:
    """Compile a step for such a state and such a batch; an epoch feeds it `steps` batches."""
    compiled = jax.jit(step, donate_argnums=0).lower(state, *example).compile()
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
    device: jax.Device,
    feeder: Feeder,
) -> Callable[[Learned], dict[str, Any]]:
    """Compile the means of metrics over a batch; a pass over the stream weighs them by the examples they are of."""
    sizes = [len(index) for index in order.of_pass(len(stream))]
    compiled = {size: jax.jit(means).lower(learned, _batch_of(stream, size, device)).compile() for size in set(sizes)}

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
