"""The host loop: the same arithmetic as `fit`, an epoch at a time, for people rather than programs."""

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn._checks import check_batch_size
from jaxnn.data.dataset import DataError
from jaxnn.data.streaming import Stream
from jaxnn.evaluation import Examples, Loss, Metrics, Preprocess, evaluate, means_of_batch
from jaxnn.interrupts import is_ready, noted_interrupts, wait
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.programs import Arithmetic, Learned, compile_on_one, compile_split
from jaxnn.sampling import Sampling
from jaxnn.stream_programs import Feeder, Order, compile_streamed, sample
from jaxnn.training import (
    Augment,
    History,
    Penalty,
    TrainState,
    check_run,
    init_state,
    train_epoch,
    train_step,
)

__all__ = ["DivergedError", "EpochReport", "RunResult", "train"]


# Between XLA's complaint and the news that a process is gone.
SECONDS_TO_KNOW = 2


class DivergedError(RuntimeError):
    """The loss of a run is no longer a number."""


class EpochReport(NamedTuple):
    """What is told after each epoch."""

    epoch: int  # finished, from 1
    epochs: int
    loss: float  # mean over the epoch's steps
    train: dict[str, float]
    validation: dict[str, float]
    examples_per_second: float
    seconds_left: float


class RunResult(NamedTuple):
    """What `train` returns: as `FitResult`, and how the run went."""

    params: Params
    model_state: ModelState
    opt_state: PyTree
    history: History  # of the finished epochs, as NumPy arrays
    epochs: int  # finished
    interrupted: bool  # by Ctrl-C or the loss of another process, before the last epoch
    compile_seconds: float
    run_seconds: float


def train(
    model: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    train: Examples | Stream,
    *,
    key: PRNGKeyArray,
    epochs: int = 10,
    batch_size: int = 100,
    validation: Examples | Stream | None = None,
    metrics: Metrics | None = None,
    penalty: Penalty | None = None,
    data_key: PRNGKeyArray | None = None,
    sampling: Sampling = "shuffle",
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    batch_sharding: NamedSharding | None = None,
    report: Callable[[EpochReport], None] | None = None,
) -> RunResult:
    """Train a model from the host, an epoch at a time.

    The arguments are those of `fit`, and so are the numbers, to rounding: the same keys draw the same weights and
    batches. Every epoch runs the same compiled program, so a run equals itself bit for bit. While an epoch
    trains, the one before it is measured and given to `report`, and Ctrl-C is heard: it ends the run with what
    the finished epochs have learned.

    `train` and `validation` may each be a `Stream` instead, for data that does not fit in memory: the numbers are
    the same again. A compiled step is then called batch by batch while the next ones are read. Each epoch reads the
    training stream once to train, in the order of `sampling`; once more to measure `metrics`, all examples in order,
    which `metrics={}` spares (None is the accuracy where the targets are labels); and then the validation stream
    once, for the loss and `metrics`; an epoch is measured and given to `report` before the next one trains.

    `batch_sharding`, such as `data_parallel()`, splits every batch over devices, which train and measure together. Each
    device holds its part of the data alone, and each process gathers or reads the rows of its own devices; the order is
    that of one device. Every process calls `train` with the same arguments, and gets the same result, as arrays on its
    first device.

    Raises:
        TypeError, ValueError: arguments that do not fit, before any work but the reading of a stream's first example.
        DataError: an example of a stream cannot be read, or takes too long; the stream is closed.
        DivergedError: the loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C before the first epoch was finished.
        PeerLostError: another process is gone, before the first epoch was finished.

    >>> import jax, jaxnn as nn
    >>> from jaxnn import runner
    >>> data = nn.data.load("digits")
    >>> result = runner.train(
    ...     nn.mlp([32], outputs=10), nn.softmax_cross_entropy, nn.adam(0.01), data.train,
    ...     key=jax.random.key(0), epochs=2, preprocess=nn.data.min_max(data.train.x, axis=None),
    ...     report=lambda epoch: print(epoch.epoch, epoch.loss < 2),
    ... )
    1 True
    2 True
    >>> print(result.epochs, result.interrupted)
    2 False
    """
    if isinstance(train, Stream):
        check_batch_size(batch_size, len(train))
    train_sample = sample(train, batch_size)
    metrics = check_run(
        model,
        loss,
        optimizer,
        train_sample,
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        validation=None if validation is None else sample(validation, 1),
        metrics=metrics,
        penalty=penalty,
        data_key=data_key,
        sampling=sampling,
        preprocess=preprocess,
        augment=augment,
        batch_sharding=batch_sharding,
    )

    def start(key: PRNGKeyArray) -> TrainState:
        return init_state(model, optimizer, train_sample[0].shape[1:], key)

    def one_step(state: TrainState, x: Array, y: Array) -> tuple[TrainState, Array]:
        return train_step(
            model,
            loss,
            optimizer,
            state,
            x,
            y,
            penalty=penalty,
            preprocess=preprocess,
            augment=augment,
            batch_sharding=batch_sharding,
        )

    def one_epoch(state: TrainState, train: Examples) -> tuple[TrainState, Array]:
        return train_epoch(
            model,
            loss,
            optimizer,
            state,
            train,
            batch_size=batch_size,
            data_key=data_key,
            sampling=sampling,
            penalty=penalty,
            preprocess=preprocess,
            augment=augment,
        )

    def means(metrics: Metrics, learned: Learned, examples: Examples) -> dict[str, Array]:
        if batch_sharding is not None:
            return means_of_batch(model, *learned, examples, metrics, preprocess)
        return evaluate(model, *learned, examples, metrics, preprocess=preprocess)

    def infer(learned: Learned, x: Array) -> Array:
        return model.apply(*learned, x if preprocess is None else preprocess(x), training=False)[0]

    with noted_interrupts() as heard, hosts.loss_heard(heard), contextlib.ExitStack() as opened:
        began = time.perf_counter()

        def wait_for(values: Any) -> None:
            with contextlib.nullcontext() if batch_sharding is None else hosts.waiting():
                wait(values, heard)

        arithmetic = Arithmetic(start, one_step, one_epoch, means, infer, metrics, {"loss": loss, **metrics})
        if isinstance(train, Stream) or isinstance(validation, Stream):
            programs = compile_streamed(
                arithmetic,
                key,
                train,
                validation,
                Order(epochs, batch_size, data_key, sampling),
                opened,
                Feeder(wait_for, heard),
                functools.partial(_check_loss, epochs=epochs),
                batch_sharding,
            )
        elif batch_sharding is not None:
            programs = compile_split(arithmetic, key, train, validation, batch_size, data_key, sampling, batch_sharding)
        else:
            programs = compile_on_one(arithmetic, key, train, validation)
        state = programs.start()
        compile_seconds = time.perf_counter() - began

        # The states are not donated: when Ctrl-C cuts an epoch off, the one before it is still there.
        reached = state
        finished: list[History] = []
        in_flight: deque[tuple[TrainState, History]] = deque()

        def settle() -> None:
            wait_for(in_flight[0][1])
            keep()

        def keep() -> None:
            nonlocal reached
            next_state, history = in_flight.popleft()
            history = jax.tree.map(np.asarray, history)
            _check_losses(history, len(finished), epochs)
            reached = next_state
            finished.append(history)
            if report is not None:
                report(_report(finished, epochs, batch_size, time.perf_counter() - began))

        interrupted = False
        began = time.perf_counter()
        try:
            for _ in range(epochs):
                state, losses = programs.epoch(state)
                in_flight.append((state, History(losses, *programs.measured(state))))
                if len(in_flight) == programs.in_flight:
                    settle()
            while in_flight:
                settle()
        except (DivergedError, DataError):
            raise
        except (KeyboardInterrupt, Exception) as error:
            # What XLA says when another process ends may come before that is known.
            lost = hosts.lost(within=0 if isinstance(error, KeyboardInterrupt) else SECONDS_TO_KNOW)
            # An epoch that was over before, perhaps why the other process ended: what diverges does in all.
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                while lost is not None and in_flight and is_ready(in_flight[0][1]):
                    keep()
            if lost is not None and not finished:
                raise lost from None
            if not finished or (lost is None and not isinstance(error, KeyboardInterrupt)):
                raise
            interrupted = len(finished) < epochs
    run_seconds = time.perf_counter() - began
    learned = reached.params, reached.model_state, reached.opt_state
    if batch_sharding is not None:
        # Arrays over several hosts would go with no others.
        learned = jax.tree.map(lambda leaf: leaf.addressable_data(0), learned)
    return RunResult(
        *learned,
        _join(finished),
        len(finished),
        interrupted,
        compile_seconds,
        run_seconds,
    )


def _check_losses(history: History, epochs_before: int, epochs: int) -> None:
    steps = len(history.loss)
    bad = ~np.isfinite(history.loss)
    if bad.any():
        step = int(np.argmax(bad))
        _check_loss(history.loss[step], epochs_before * steps + step, steps, epochs)
    if not np.isfinite(history.validation.get("loss", 0.0)):
        raise _diverged(f"the validation loss became {history.validation['loss']}", epochs_before + 1, epochs)


def _check_loss(loss: Any, step: int, steps: int, epochs: int) -> None:
    """Refuse a loss that is no number; `step` counts from 0 through epochs of `steps`."""
    if not np.isfinite(loss):
        raise _diverged(f"the loss became {loss} at step {step + 1}", step // steps + 1, epochs)


def _diverged(what: str, epoch: int, epochs: int) -> DivergedError:
    return DivergedError(f"{what} (epoch {epoch} of {epochs}): a smaller learning rate is the usual remedy")


def _report(finished: list[History], epochs: int, batch_size: int, seconds: float) -> EpochReport:
    last = finished[-1]
    per_epoch = seconds / len(finished)
    return EpochReport(
        epoch=len(finished),
        epochs=epochs,
        loss=float(last.loss.mean()),
        train={name: float(value) for name, value in last.train.items()},
        validation={name: float(value) for name, value in last.validation.items()},
        examples_per_second=len(last.loss) * batch_size / per_epoch,
        seconds_left=per_epoch * (epochs - len(finished)),
    )


def _join(finished: list[History]) -> History:
    history: History = jax.tree.map(lambda *epochs: np.stack(epochs), *finished)
    return history._replace(loss=history.loss.reshape(-1))
