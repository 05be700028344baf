"""The host loop: the same arithmetic as `fit`, an epoch at a time, for people rather than programs."""

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxnn.evaluation import Examples, Loss, Metrics, Preprocess, measure
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.sampling import Sampling
from jaxnn.training import Augment, History, Penalty, TrainState, check_run, init_state, train_epoch

__all__ = ["DivergedError", "EpochReport", "RunResult", "train"]


Learned: TypeAlias = tuple[Params, ModelState]
Measured: TypeAlias = tuple[dict[str, Array], dict[str, Array]]


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
    interrupted: bool  # by Ctrl-C, before the last epoch
    compile_seconds: float
    run_seconds: float


def train(
    model: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    train: Examples,
    *,
    key: PRNGKeyArray,
    epochs: int = 10,
    batch_size: int = 100,
    validation: Examples | None = None,
    metrics: Metrics | None = None,
    penalty: Penalty | None = None,
    data_key: PRNGKeyArray | None = None,
    sampling: Sampling = "shuffle",
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    report: Callable[[EpochReport], None] | None = None,
) -> RunResult:
    """Train a model from the host, an epoch at a time.

    The arguments are those of `fit`, and so are the numbers, to rounding: the same keys draw the same weights and
    batches. Every epoch runs the same compiled program, so a run equals itself bit for bit. While an epoch
    trains, the one before it is measured and given to `report`, and Ctrl-C is heard: it ends the run with what
    the finished epochs have learned.

    Raises:
        TypeError, ValueError: arguments that do not fit, before any work.
        DivergedError: the loss became NaN or infinite.
        KeyboardInterrupt: Ctrl-C before the first epoch was finished.

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
    metrics = check_run(
        model,
        loss,
        optimizer,
        train,
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        validation=validation,
        metrics=metrics,
        penalty=penalty,
        data_key=data_key,
        sampling=sampling,
        preprocess=preprocess,
        augment=augment,
    )

    def start(key: PRNGKeyArray) -> TrainState:
        return init_state(model, optimizer, train[0].shape[1:], key)

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

    def measured(learned: Learned, train: Examples, validation: Examples | None) -> Measured:
        return measure(model, loss, *learned, train, validation, metrics, preprocess)

    with _noted_interrupts() as heard:
        began = time.perf_counter()
        programs = _compile(start, one_epoch, measured, key, train, validation)
        state = programs.start()
        compile_seconds = time.perf_counter() - began

        # The states are not donated: when Ctrl-C cuts an epoch off, the one before it is still there.
        reached = state
        finished: list[History] = []
        in_flight: deque[tuple[TrainState, History]] = deque()

        def settle() -> None:
            nonlocal reached
            next_state, history = in_flight.popleft()
            _wait(history, heard)
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
                if len(in_flight) == 2:
                    settle()
            settle()
        except KeyboardInterrupt:
            if not finished:
                raise
            interrupted = len(finished) < epochs
    run_seconds = time.perf_counter() - began
    return RunResult(
        reached.params,
        reached.model_state,
        reached.opt_state,
        _join(finished),
        len(finished),
        interrupted,
        compile_seconds,
        run_seconds,
    )


class _Programs(NamedTuple):
    """The compiled parts of a run, with the data where they want it."""

    start: Callable[[], TrainState]
    epoch: Callable[[TrainState], tuple[TrainState, Array]]
    measured: Callable[[TrainState], Measured]


def _compile(
    start: Callable[[PRNGKeyArray], TrainState],
    epoch: Callable[[TrainState, Examples], tuple[TrainState, Array]],
    measured: Callable[[Learned, Examples, Examples | None], Measured],
    key: PRNGKeyArray,
    train: Examples,
    validation: Examples | None,
) -> _Programs:
    # One epoch is measured while the next one trains: on another device where there is one, else in its turn.
    here, *others = jax.local_devices()
    beside = others[0] if others else here
    data = jax.device_put(train, here)
    data_beside = data if beside == here else jax.device_put(train, beside), jax.device_put(validation, beside)
    state = jax.eval_shape(start, key)
    lowered = (
        jax.jit(start).lower(key),
        jax.jit(epoch).lower(_on(here, state), data),
        jax.jit(measured).lower(_on(beside, (state.params, state.model_state)), *data_beside),
    )
    with ThreadPoolExecutor() as pool:
        run_start, run_epoch, run_measured = pool.map(lambda program: program.compile(), lowered)

    def measure_beside(state: TrainState) -> Measured:
        learned = jax.device_put((state.params, state.model_state), beside)
        result: Measured = run_measured(learned, *data_beside)
        return result

    return _Programs(
        start=lambda: jax.device_put(run_start(key), here),
        epoch=lambda state: run_epoch(state, data),
        measured=measure_beside,
    )


def _on(device: jax.Device, shapes: PyTree) -> PyTree:
    """Shapes of arrays that will lie on a device."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[threading.Event]:
    """Note Ctrl-C instead of raising it: an exception that falls into a callback of JAX's is lost.

    The second one is raised.
    """
    heard = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if heard.is_set():
            signal.default_int_handler(number, frame)
        heard.set()

    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield heard
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait(values: Any, heard: threading.Event) -> None:
    """Wait for a computation with short sleeps, and end the wait on Ctrl-C: blocked inside JAX, Python hears none."""
    pause = 1e-4
    leaves = jax.tree.leaves(values)
    while True:
        if heard.is_set():
            raise KeyboardInterrupt
        if all(leaf.is_ready() for leaf in leaves):
            return
        time.sleep(pause)
        pause = min(1.2 * pause, 0.002)


def _check_losses(history: History, epochs_before: int, epochs: int) -> None:
    epoch = epochs_before + 1
    bad = ~np.isfinite(history.loss)
    if bad.any():
        step = int(np.argmax(bad))
        what = f"the loss became {history.loss[step]} at step {epochs_before * len(bad) + step + 1}"
    elif not np.isfinite(history.validation.get("loss", 0.0)):
        what = f"the validation loss became {history.validation['loss']}"
    else:
        return
    raise DivergedError(f"{what} (epoch {epoch} of {epochs}): a smaller learning rate is the usual remedy")


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
