"""The compiled parts of a run, and those of a run whose data is in memory."""

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn.divergence import all_finite
from jaxnn.evaluation import Examples, Metrics
from jaxnn.layers import ModelState, Params
from jaxnn.sampling import Sampling, epoch_indices
from jaxnn.sharding import as_on_device, number_of_parts, place_steps, place_whole, split_evenly, whole
from jaxnn.training import TrainState, split_by_purpose

__all__ = [
    "Arithmetic",
    "Chunk",
    "Learned",
    "Measured",
    "Programs",
    "RunChunk",
    "choose_chunk",
    "compile_chunks",
    "compile_on_one",
    "compile_split",
    "draw_order",
    "on_device",
    "split_chunks",
    "split_means",
]

Learned: TypeAlias = tuple[Params, ModelState]
Measured: TypeAlias = tuple[dict[str, Any], dict[str, Any]]

# The next state, the losses of the steps, and whether all that was learned is finite.
Chunk: TypeAlias = tuple[TrainState, Any, Any]

# (state, its step, how many steps to take, all within one epoch)
RunChunk: TypeAlias = Callable[[TrainState, int, int], Chunk]
# What has been traced, to be compiled in any thread; how many steps a chunk has.
CompileChunk: TypeAlias = Callable[[], tuple[RunChunk, int]]

# Examples of a batch that is measured.
MEASURED = 1000
# Operations of a chunk: a few seconds on two cores, so that a run can be ended, and saved, within them.
OPERATIONS = 4e11

draw_order = jax.jit(epoch_indices, static_argnums=(2, 3, 4))


class Programs(NamedTuple):
    """The compiled parts of a run, with the data where they want it."""

    first: TrainState  # the run's, or the one that it goes on from, where the programs want it
    chunk: RunChunk
    chunk_steps: int  # an epoch's, or fewer
    measured: Callable[[TrainState, int], Measured | None]  # (state, its epoch, from 0); None where Ctrl-C came first
    place: Callable[[TrainState], TrainState]  # another state, where the programs want it
    reads: bool  # its data while it trains, and so returns when all is computed


class Arithmetic(NamedTuple):
    """What a run computes, before it is compiled."""

    start: Callable[[PRNGKeyArray], TrainState]
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]]
    epoch: Callable[[TrainState, Examples, int | None], tuple[TrainState, Array]]  # so many steps of it, or all
    means: Callable[[Metrics, Learned, Examples], dict[str, Array]]  # of all; split over devices, of one batch
    infer: Callable[[Learned, Array], Array]
    train_metrics: Metrics
    validation_metrics: Metrics


def on_device(device: jax.Device, shapes: PyTree) -> PyTree:
    """Shapes of arrays that will lie on a device."""
    sharding = SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def choose_chunk(lowered: Callable[[], Any], state: TrainState, batch: tuple[int, ...], steps: int) -> int:
    """How many of an epoch's steps are taken at once: all, unless a whole epoch would keep a signal waiting.

    It follows from the arithmetic, not from a clock: so the same run is cut up in the same way each time. `batch` is a
    batch's shape. `lowered` has the operations of one step; it is asked only where the model's size leaves it open.
    """
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    places = math.prod(batch[1:-1])  # a weight meets at most one number at each
    if 6 * params * places * batch[0] * steps <= OPERATIONS:
        return steps
    costs = lowered().cost_analysis() or {}
    operations = float(costs.get("flops", 0)) * steps
    fewest = math.ceil(operations / OPERATIONS)
    if fewest <= 1:
        return steps
    # Chunks of one size are one program.
    even = next((chunks for chunks in range(fewest, min(2 * fewest, steps) + 1) if steps % chunks == 0), fewest)
    return max(1, math.ceil(steps / even))


def compile_on_one(
    arithmetic: Arithmetic,
    key: PRNGKeyArray,
    restored: TrainState | None,
    train: Examples,
    validation: Examples | None,
    batch_size: int,
) -> Programs:
    """A run that trains on one device.

    One epoch is measured while the next one trains: on another device where there is one, else in its turn.
    """

    def measured(learned: Learned, train: Examples, validation: Examples | None) -> Measured:
        on_train = arithmetic.means(arithmetic.train_metrics, learned, train) if arithmetic.train_metrics else {}
        if validation is None:
            return on_train, {}
        return on_train, arithmetic.means(arithmetic.validation_metrics, learned, validation)

    here, *others = jax.local_devices()
    beside = others[0] if others else here
    data = jax.device_put(train, here)
    data_beside = data if beside == here else jax.device_put(train, beside), jax.device_put(validation, beside)
    state = on_device(here, jax.eval_shape(arithmetic.start, key))
    compile_chunk = compile_chunks(arithmetic, state, data, batch_size)
    lowered = [jax.jit(measured).lower(on_device(beside, (state.params, state.model_state)), *data_beside)]
    lowered += [jax.jit(arithmetic.start).lower(key)] if restored is None else []
    with ThreadPoolExecutor() as pool:
        chunk = pool.submit(compile_chunk)
        run_measured, *run_start = pool.map(lambda program: program.compile(), lowered)

    def measure_beside(state: TrainState, epoch: int) -> Measured:
        learned = jax.device_put((state.params, state.model_state), beside)
        result: Measured = run_measured(learned, *data_beside)
        return result

    def place(state: TrainState) -> TrainState:
        return jax.device_put(state, here)

    first = place(run_start[0](key) if restored is None else restored)
    return Programs(first, *chunk.result(), measure_beside, place, reads=False)


def compile_chunks(arithmetic: Arithmetic, state: TrainState, train: Examples, batch_size: int) -> CompileChunk:
    """Trace a chunk on one device, where the data lies."""
    steps = len(train[0]) // batch_size

    def lower(count: int) -> Any:
        def chunk(state: TrainState, train: Examples) -> Chunk:
            state, losses = arithmetic.epoch(state, train, None if count == steps else count)
            return state, losses, all_finite((state.params, state.model_state))

        return jax.jit(chunk).lower(state, train)

    lowered = lower(steps)
    chunk_steps = choose_chunk(lambda: lowered, state, (batch_size, *train[0].shape[1:]), steps)
    if chunk_steps != steps:
        lowered = lower(chunk_steps)

    def compiled() -> tuple[RunChunk, int]:
        chunks = {chunk_steps: lowered.compile()}

        def run(state: TrainState, step: int, count: int) -> Chunk:
            if count not in chunks:  # the rest of an epoch
                chunks[count] = lower(count).compile()
            result: Chunk = chunks[count](state, train)
            return result

        return run, chunk_steps

    return compiled


def compile_split(
    arithmetic: Arithmetic,
    key: PRNGKeyArray,
    restored: TrainState | None,
    train: Examples,
    validation: Examples | None,
    batch_size: int,
    data_key: PRNGKeyArray | None,
    sampling: Sampling,
    batch_sharding: NamedSharding,
) -> Programs:
    """A run that splits its batches over devices, each of which holds its part of the data."""
    first = jax.jit(arithmetic.start)(key) if restored is None else restored
    data_key = split_by_purpose(first.key).data if data_key is None else data_key
    state = place_whole(first, batch_sharding)
    learned: Learned = (state.params, state.model_state)
    compile_chunks = split_chunks(arithmetic.step, state, train, batch_size, data_key, sampling, batch_sharding)
    compile_means = [
        split_means(arithmetic.means, learned, examples, metrics, batch_sharding)
        for examples, metrics in ((train, arithmetic.train_metrics), (validation, arithmetic.validation_metrics))
    ]
    with ThreadPoolExecutor() as pool, hosts.waiting():
        chunks = pool.submit(compile_chunks)
        train_means, validation_means = pool.map(lambda compiled: compiled(), compile_means)

    def measured(state: TrainState, epoch: int) -> Measured:
        learned = state.params, state.model_state
        return train_means(learned), validation_means(learned)

    def place(state: TrainState) -> TrainState:
        placed: TrainState = place_whole(state, batch_sharding)
        return placed

    return Programs(state, *chunks.result(), measured, place, reads=False)


def split_chunks(
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]],
    state: TrainState,
    train: Examples,
    batch_size: int,
    data_key: PRNGKeyArray,
    sampling: Sampling,
    batch_sharding: NamedSharding,
) -> CompileChunk:
    """Trace a chunk, before each of which this process gathers the rows that its devices want of every batch.

    What is returned compiles it, in any thread: it is tracing that looks at how JAX is configured in this one.
    """
    x, y = as_on_device(train[0]), as_on_device(train[1])
    steps = len(x) // batch_size

    def chunk(state: TrainState, batches: tuple[Array, Array]) -> Chunk:
        state, losses = jax.lax.scan(lambda state, batch: step(state, *batch), state, batches)
        return state, losses, all_finite((state.params, state.model_state))

    jitted = jax.jit(chunk, out_shardings=whole(batch_sharding))
    drawn: dict[int, Array] = {}

    def draw(epoch: int) -> Array:
        if epoch not in drawn:
            drawn[epoch] = draw_order(data_key, epoch, len(x), batch_size, sampling)
        return drawn[epoch]

    def placed(step: int, count: int) -> Examples:
        epoch, first = divmod(step, steps)
        return place_steps((x, y), np.asarray(draw(epoch))[first : first + count], batch_sharding)

    def of_one_step() -> Any:
        return jax.jit(step).lower(state, *(part[0] for part in placed(0, 1)))

    chunk_steps = choose_chunk(of_one_step, state, (batch_size, *x.shape[1:]), steps)
    lowered = jitted.lower(state, placed(0, chunk_steps))

    def compiled() -> tuple[RunChunk, int]:
        chunks = {chunk_steps: lowered.compile()}

        def run(state: TrainState, step: int, count: int) -> Chunk:
            batches = placed(step, count)
            if (step + count) % steps == 0:
                # The next order is drawn before the device is busy with this chunk.
                drawn.clear()
                draw((step + count) // steps)
            if count not in chunks:  # the rest of an epoch
                chunks[count] = jitted.lower(state, batches).compile()
            return hosts.call(chunks[count], state, batches)

        return run, chunk_steps

    return compiled


def split_means(
    means: Callable[[Metrics, Learned, Examples], dict[str, Array]],
    learned: Learned,
    examples: Examples | None,
    metrics: Metrics,
    batch_sharding: NamedSharding,
) -> Callable[[], Callable[[Learned], dict[str, Any]]]:
    """Trace the means of metrics over data of which each device holds its part of every batch.

    What is returned compiles them, in any thread.
    """
    if examples is None or not metrics:
        return lambda: lambda learned: {}
    x, y = as_on_device(examples[0]), as_on_device(examples[1])
    steps, size, tail, rest = split_evenly(len(x), MEASURED, number_of_parts(batch_sharding))
    order = np.arange(len(x))
    in_steps, shared = steps * size, len(x) - rest
    parts: list[Examples] = []  # each with a first axis of batches
    if steps:
        parts.append(place_steps((x, y), order[:in_steps].reshape(steps, size), batch_sharding))
    if tail:
        parts.append(place_steps((x, y), order[None, in_steps:shared], batch_sharding))
    if rest:
        parts.append(place_whole((x[None, shared:], y[None, shared:]), batch_sharding))

    def over_all(learned: Learned, parts: list[Examples]) -> dict[str, Array]:
        totals: list[dict[str, Array]] = []
        for batches in parts:
            of_batches = jax.lax.map(lambda batch: means(metrics, learned, batch), batches)
            totals.append({name: jnp.sum(of_batches[name]) * batches[0].shape[1] for name in metrics})
        return {name: functools.reduce(jnp.add, [total[name] for total in totals]) / len(x) for name in metrics}

    lowered = jax.jit(over_all, out_shardings=whole(batch_sharding)).lower(learned, parts)

    def compiled() -> Callable[[Learned], dict[str, Any]]:
        program = lowered.compile()
        return lambda learned: hosts.call(program, learned, parts)

    return compiled
