"""The host loop: the same arithmetic as `fit`, an epoch at a time, for people rather than programs."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray, PyTree

from jaxnn.layers import Layer, ModelState, Params
from jaxnn.training import (
    Augment,
    Examples,
    History,
    Loss,
    Metrics,
    Penalty,
    Preprocess,
    Sampling,
    TrainState,
    check_run,
    default_metrics,
    init_state,
    measure,
    train_epoch,
)

__all__ = ["DivergedError", "EpochReport", "RunResult", "train"]


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
    batches. Every epoch runs the same compiled program, so a run equals itself bit for bit. In between,
    `report` is called, and Ctrl-C is heard: it ends the run with what the finished epochs have learned.

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
    metrics = default_metrics(train) if metrics is None else metrics
    check_run(
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

    def one_epoch(
        state: TrainState, train: Examples, validation: Examples | None
    ) -> tuple[TrainState, History]:
        state, losses = train_epoch(
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
        return state, History(losses, *measure(model, loss, state, train, validation, metrics, preprocess))

    began = time.perf_counter()
    state = jax.jit(start)(key)
    # The state is not donated: if Ctrl-C cuts an epoch off, the one before it is still there.
    compiled = jax.jit(one_epoch).lower(state, train, validation).compile()
    train, validation = jax.device_put((train, validation))
    compile_seconds = time.perf_counter() - began

    finished: list[History] = []
    interrupted = False
    began = time.perf_counter()
    try:
        while len(finished) < epochs:
            next_state, measured = compiled(state, train, validation)
            _wait(measured)
            measured = jax.tree.map(np.asarray, measured)
            _check_loss(measured.loss, len(finished), epochs)
            state = next_state
            finished.append(measured)
            if report is not None:
                report(_report(finished, epochs, len(train[0]), time.perf_counter() - began))
    except KeyboardInterrupt:
        if not finished:
            raise
        interrupted = True
    run_seconds = time.perf_counter() - began
    return RunResult(
        state.params,
        state.model_state,
        state.opt_state,
        _join(finished),
        len(finished),
        interrupted and len(finished) < epochs,
        compile_seconds,
        run_seconds,
    )


def _wait(values: Any) -> None:
    """Wait for a computation with short sleeps: while blocked inside JAX, Python would not hear Ctrl-C."""
    pause = 1e-4
    leaves = jax.tree.leaves(values)
    while not all(leaf.is_ready() for leaf in leaves):
        time.sleep(pause)
        pause = min(1.2 * pause, 0.02)


def _check_loss(losses: np.ndarray, epochs_before: int, epochs: int) -> None:
    bad = ~np.isfinite(losses)
    if bad.any():
        step = int(np.argmax(bad))
        raise DivergedError(
            f"the loss became {losses[step]} at step {epochs_before * len(losses) + step + 1} "
            f"(epoch {epochs_before + 1} of {epochs}): a smaller learning rate is the usual remedy"
        )


def _report(finished: list[History], epochs: int, examples: int, seconds: float) -> EpochReport:
    last = finished[-1]
    per_epoch = seconds / len(finished)
    return EpochReport(
        epoch=len(finished),
        epochs=epochs,
        loss=float(last.loss.mean()),
        train={name: float(value) for name, value in last.train.items()},
        validation={name: float(value) for name, value in last.validation.items()},
        examples_per_second=examples / per_epoch,
        seconds_left=per_epoch * (epochs - len(finished)),
    )


def _join(finished: list[History]) -> History:
    history: History = jax.tree.map(lambda *epochs: np.stack(epochs), *finished)
    return history._replace(loss=history.loss.reshape(-1))
