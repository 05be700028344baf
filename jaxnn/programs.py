"""The compiled parts of a run, and those of a run whose data is in memory."""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn.evaluation import Examples, Metrics
from jaxnn.layers import ModelState, Params
from jaxnn.sampling import Sampling, epoch_indices
from jaxnn.sharding import as_on_device, number_of_parts, place_steps, place_whole, split_evenly, whole
from jaxnn.training import TrainState, split_by_purpose

__all__ = [
    "Arithmetic",
    "Learned",
    "Measured",
    "Programs",
    "compile_on_one",
    "compile_split",
    "draw_order",
    "on_device",
    "split_epoch",
    "split_means",
]

Learned: TypeAlias = tuple[Params, ModelState]
Measured: TypeAlias = tuple[dict[str, Any], dict[str, Any]]

# Examples of a batch that is measured.
MEASURED = 1000

draw_order = jax.jit(epoch_indices, static_argnums=(2, 3, 4))


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
    means: Callable[[Metrics, Learned, Examples], dict[str, Array]]  # of all; split over devices, of one batch
    infer: Callable[[Learned, Array], Array]
    train_metrics: Metrics
    validation_metrics: Metrics


def on_device(device: jax.Device, shapes: PyTree) -> PyTree:
    """Shapes of arrays that will lie on a device."""
    sharding = SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def compile_on_one(arithmetic: Arithmetic, key: PRNGKeyArray, train: Examples, validation: Examples | None) -> Programs:
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
    state = jax.eval_shape(arithmetic.start, key)
    lowered = (
        jax.jit(arithmetic.start).lower(key),
        jax.jit(arithmetic.epoch).lower(on_device(here, state), data),
        jax.jit(measured).lower(on_device(beside, (state.params, state.model_state)), *data_beside),
    )
    with ThreadPoolExecutor() as pool:
        run_start, run_epoch, run_measured = pool.map(lambda program: program.compile(), lowered)

    def measure_beside(state: TrainState) -> Measured:
        learned = jax.device_put((state.params, state.model_state), beside)
        result: Measured = run_measured(learned, *data_beside)
        return result

    return Programs(
        start=lambda: jax.device_put(run_start(key), here),
        epoch=lambda state: run_epoch(state, data),
        measured=measure_beside,
        in_flight=2,
    )


def compile_split(
    arithmetic: Arithmetic,
    key: PRNGKeyArray,
    train: Examples,
    validation: Examples | None,
    batch_size: int,
    data_key: PRNGKeyArray | None,
    sampling: Sampling,
    batch_sharding: NamedSharding,
) -> Programs:
    """A run that splits its batches over devices, each of which holds its part of the data."""
    first = jax.jit(arithmetic.start)(key)
    data_key = split_by_purpose(first.key).data if data_key is None else data_key
    state = place_whole(first, batch_sharding)
    learned: Learned = (state.params, state.model_state)
    compile_epoch = split_epoch(arithmetic.step, state, train, batch_size, data_key, sampling, batch_sharding)
    compile_means = [
        split_means(arithmetic.means, learned, examples, metrics, batch_sharding)
        for examples, metrics in ((train, arithmetic.train_metrics), (validation, arithmetic.validation_metrics))
    ]
    with ThreadPoolExecutor() as pool, hosts.waiting():
        epoch = pool.submit(compile_epoch)
        train_means, validation_means = pool.map(lambda compiled: compiled(), compile_means)

    def measured(state: TrainState) -> Measured:
        learned = state.params, state.model_state
        return train_means(learned), validation_means(learned)

    return Programs(start=lambda: state, epoch=epoch.result(), measured=measured, in_flight=2)


def split_epoch(
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Array]],
    state: TrainState,
    train: Examples,
    batch_size: int,
    data_key: PRNGKeyArray,
    sampling: Sampling,
    batch_sharding: NamedSharding,
) -> Callable[[], Callable[[TrainState], tuple[TrainState, Float[Array, " steps"]]]]:
    """Trace an epoch, before each of which this process gathers the rows that its devices want of every batch.

    What is returned compiles it, in any thread: it is tracing that looks at how JAX is configured in this one.
    """
    x, y = as_on_device(train[0]), as_on_device(train[1])

    def epoch(state: TrainState, batches: tuple[Array, Array]) -> tuple[TrainState, Array]:
        return jax.lax.scan(lambda state, batch: step(state, *batch), state, batches)

    def draw(number: int) -> Int[Array, "steps batch"]:
        return draw_order(data_key, number, len(x), batch_size, sampling)

    def placed(order: Int[np.ndarray, "steps batch"]) -> Examples:
        return place_steps((x, y), order, batch_sharding)

    drawn = draw(0)
    lowered = jax.jit(epoch, out_shardings=whole(batch_sharding)).lower(state, placed(np.asarray(drawn)))
    numbers = itertools.count(1)

    def compiled() -> Callable[[TrainState], tuple[TrainState, Array]]:
        program = lowered.compile()

        def run(state: TrainState) -> tuple[TrainState, Array]:
            nonlocal drawn
            order = np.asarray(drawn)
            # The next order is drawn before the device is busy with this epoch.
            drawn = draw(next(numbers))
            return hosts.call(program, state, placed(order))

        return run

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
