"""The host loop: the same arithmetic as `fit`, an epoch at a time, for people rather than programs."""

import contextlib
import functools
import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.typing import DTypeLike
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn._checks import check_batch_size, check_callable, check_choice, check_flag, check_functions
from jaxnn.checkpoint import Checkpoint
from jaxnn.checkpoint_folder import Checkpoints, Keeper
from jaxnn.data.streaming import Stream
from jaxnn.divergence import DivergedError, SlowedState, slowed
from jaxnn.evaluation import Examples, Loss, Metrics, Preprocess, evaluate, means_of_batch
from jaxnn.host_loop import EpochReport, HostLoop, Mark, OnDivergence, Plan, Reached, Waiting
from jaxnn.interrupts import noted_interrupts, wait
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.precision import check_compute_dtype, mixed_precision
from jaxnn.programs import Arithmetic, Learned, compile_on_one, compile_split, draw_order
from jaxnn.sampling import Sampling
from jaxnn.sharding import number_of_parts
from jaxnn.stream_programs import Feeder, Order, compile_streamed, sample
from jaxnn.training import (
    Augment,
    History,
    Penalty,
    TrainState,
    check_run,
    init_state,
    objective_of_step,
    split_by_purpose,
    train_epoch,
    train_step,
)
from jaxnn.versions import describe_devices, versions

__all__ = ["DivergedError", "EpochReport", "RunResult", "train"]

_MOST_HASHED = 1000  # examples that stand for all


class RunResult(NamedTuple):
    """What `train` returns: as `FitResult`, and how the run went."""

    params: Params
    model_state: ModelState
    opt_state: PyTree
    history: History  # NumPy arrays: the loss of every step, the metrics of the finished epochs
    epochs: int  # finished
    interrupted: str | None  # by what, before the last epoch: Ctrl-C, SIGTERM, the loss of another process
    saved_step: int | None  # that of the newest checkpoint on the disk
    compile_seconds: float
    run_seconds: float  # those before it was continued included


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
    compute_dtype: DTypeLike | None = None,
    batch_sharding: NamedSharding | None = None,
    report: Callable[[EpochReport], None] | None = None,
    checkpoints: Checkpoints | None = None,
    on_divergence: OnDivergence = "stop",
    debug_nans: bool = False,
    warn: Callable[[str], object] = warnings.warn,
) -> RunResult:
    """Train a model from the host, an epoch at a time.

    The arguments are those of `fit`, and so are the numbers, to rounding: the same keys draw the same weights and
    batches. Every epoch runs the same compiled program, so a run equals itself bit for bit. While an epoch
    trains, the one before it is measured and given to `report`.

    An epoch of more than a few seconds is cut into chunks, by its arithmetic, so always the same ones. Ctrl-C and
    SIGTERM end the run after the current chunk, with what has been learned until then; a second Ctrl-C ends it at once.

    With `checkpoints` all that the run is made of is saved beside training, and a run that was interrupted, killed, or
    lost its machine goes on to the same bits: the same arguments with `Checkpoints(folder, resume=True)`, on the same
    kind of machine, with as many devices and the same versions. `epochs` may be others.

    A loss, or something learned, that becomes NaN or infinite ends the run after the chunk, and the steps of the chunk
    are taken again one by one to say where it began. `on_divergence="restore"` goes back instead to the end of the
    last good epoch, one whose mean loss was no larger than that of the first step, with a third of the learning rate,
    five times at most.
    "ignore" looks at nothing. `debug_nans` takes the step that failed by single operations, and names the first that
    makes NaN or infinity. `warn` is told, in a sentence, what went wrong and did not end the run: a full disk, a
    damaged checkpoint, other versions than before, a way back.

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
        DivergedError: the loss, or what was learned, became NaN or infinite.
        KeyboardInterrupt: Ctrl-C or SIGTERM before the first chunk was finished, or a second Ctrl-C.
        PeerLostError: another process is gone, before the first chunk was finished.

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
    2 None
    """
    _check_options(checkpoints, on_divergence, report, debug_nans, warn)
    model = model if compute_dtype is None else mixed_precision(model, compute_dtype)
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

    if checkpoints is not None and checkpoints.best is not None:
        part, _, name = checkpoints.best.partition("/")
        of_part = [*metrics] if part == "train" else [] if validation is None else ["loss", *metrics]
        check_choice("metric for checkpoints.best", name, of_part)
    examples = len(train) if isinstance(train, Stream) else len(train[0])
    steps = examples // batch_size

    def start(key: PRNGKeyArray) -> TrainState:
        return init_state(model, optimizer, train_sample[0].shape[1:], key)

    def one_step(
        state: TrainState, x: Array, y: Array, batch_sharding: NamedSharding | None = batch_sharding
    ) -> tuple[TrainState, Array]:
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

    def gradient_step(state: TrainState, x: Array, y: Array) -> tuple[TrainState, Array, PyTree]:
        objective = objective_of_step(model, loss, state, x, y, penalty=penalty, preprocess=preprocess, augment=augment)
        grads, _ = jax.grad(objective, has_aux=True)(state.params)
        return *one_step(state, x, y, None), grads

    def some_steps(state: TrainState, train: Examples, steps: int | None) -> tuple[TrainState, Array]:
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
            steps=steps,
        )

    def means(metrics: Metrics, learned: Learned, examples: Examples) -> dict[str, Array]:
        if batch_sharding is not None:
            return means_of_batch(model, *learned, examples, metrics, preprocess)
        return evaluate(model, *learned, examples, metrics, preprocess=preprocess)

    def infer(learned: Learned, x: Array) -> Array:
        return model.apply(*learned, x if preprocess is None else preprocess(x), training=False)[0]

    def batches(state: TrainState, step: int, count: int) -> Iterator[Examples]:
        order_key = split_by_purpose(state.key).data if data_key is None else data_key
        order = np.asarray(draw_order(order_key, step // steps, examples, batch_size, sampling))
        order = order[step % steps : step % steps + count]
        if isinstance(train, Stream):
            with train.read(order, len(order)) as read:
                yield from read
        else:
            yield from ((train[0][index], train[1][index]) for index in order)

    gone = threading.Event()  # another process
    with noted_interrupts() as heard, hosts.loss_heard(gone), contextlib.ExitStack() as opened:
        began = time.perf_counter()

        def wait_until(values: Any, gives_up: Callable[[], bool]) -> bool:
            with contextlib.nullcontext() if batch_sharding is None else hosts.waiting():
                return wait(values, gone, gives_up)

        def wait_for(values: Any) -> None:
            wait_until(values, lambda: False)

        keeper = restored = None
        plain = optimizer
        run: dict[str, Any] = {}
        if checkpoints is not None:
            run = _what_began(train, examples, batch_size, sampling, key, data_key)
            run |= {"metrics": ", ".join(metrics), "digest of the validation data": _digest_of(validation)}
            run["compute_dtype"] = None if compute_dtype is None else str(check_compute_dtype(compute_dtype))
            keeper = opened.enter_context(Keeper(checkpoints, warn).opened())
            like = jax.eval_shape(functools.partial(init_state, model, optimizer, train_sample[0].shape[1:]), key)
            restored = keeper.restore(like, run, finite=on_divergence != "ignore")
        place = {"versions": versions(), "devices": describe_devices(), "parts": number_of_parts(batch_sharding)}
        factor = 1.0
        if restored is not None:
            _check_restored(restored, epochs, steps, place, warn)
            factor = restored.about["factor"]
        is_slowed = on_divergence == "restore" or factor != 1.0
        if is_slowed:
            optimizer = slowed(optimizer, factor)
        good_step, good_state = 0, None
        if restored is not None and keeper is not None and on_divergence == "restore":
            good_step = restored.about["good_step"]
            good_state = restored.state if good_step == int(restored.state.step) else keeper.good(like, good_step)
            if good_step == 0:
                good_state = jax.jit(functools.partial(init_state, model, plain, train_sample[0].shape[1:]))(key)
        begun = None if restored is None else _with_factor(restored.state, factor if is_slowed else None)

        arithmetic = Arithmetic(start, one_step, some_steps, means, infer, metrics, {"loss": loss, **metrics})
        if isinstance(train, Stream) or isinstance(validation, Stream):
            programs = compile_streamed(
                arithmetic,
                key,
                begun,
                0 if restored is None else restored.about["measured"],
                train,
                validation,
                Order(epochs, batch_size, data_key, sampling),
                opened,
                Feeder(wait_for, threading.Event() if jax.process_count() > 1 else heard, gone),
                lambda loss: on_divergence == "ignore" or bool(np.isfinite(loss)),
                batch_sharding,
            )
        elif batch_sharding is not None:
            programs = compile_split(
                arithmetic, key, begun, train, validation, batch_size, data_key, sampling, batch_sharding
            )
        else:
            programs = compile_on_one(arithmetic, key, begun, train, validation, batch_size)
        compile_seconds = time.perf_counter() - began

        seconds_before = 0.0 if restored is None else restored.about["seconds"]

        def snapshot(mark: Mark, good: int, history: History, score: float | None, seconds: float) -> Checkpoint:
            state = jax.tree.map(_on_host, mark.state)
            about = {
                "steps": steps,  # of an epoch
                "epoch": mark.step // steps,
                "batch": mark.step % steps,  # the next one of the epoch
                "measured": mark.epochs,
                "restored": mark.restored,
                "good_step": min(good, mark.step),
                "factor": float(state.opt_state.factor) if is_slowed else 1.0,
                "is_finite": mark.is_finite,
                "score": score,
                "seconds": seconds_before + seconds,
                "run": run,
                **place,
                "config": {} if checkpoints is None else checkpoints.config,
            }
            beside = None if checkpoints is None else checkpoints.beside
            return Checkpoint(_with_factor(state, None), history, beside, about)

        plan = Plan(epochs, steps, batch_size, on_divergence, debug_nans, gradient_step, batches, report, warn)
        reached = Reached(programs.first, restored, good_step)
        good = None
        if good_state is not None:
            good = reached.mark._replace(
                state=programs.place(_with_factor(good_state, factor)),
                step=good_step,
                chunks=1 if good_step else 0,
                epochs=good_step // steps,
                is_finite=True,
            )
        loop = HostLoop(programs, plan, Waiting(heard, wait_for, wait_until), reached, keeper, snapshot, good)
        del restored, begun, good_state, good
        interrupted = loop.run()
    state = reached.mark.state
    learned = state.params, state.model_state, _with_factor(state, None).opt_state
    if batch_sharding is not None:
        # Arrays over several hosts would go with no others.
        learned = jax.tree.map(lambda leaf: leaf.addressable_data(0), learned)
    return RunResult(
        *learned,
        reached.history(reached.mark),
        reached.mark.epochs,
        interrupted,
        None if keeper is None else keeper.saved_step,
        compile_seconds,
        seconds_before + loop.seconds,
    )


def _check_options(checkpoints: Any, on_divergence: Any, report: Any, debug_nans: Any, warn: Any) -> None:
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise TypeError(f"checkpoints must be Checkpoints(folder, …); got {type(checkpoints).__name__}")
    check_choice("on_divergence", on_divergence, get_args(OnDivergence))
    check_functions(report=(report, "(epoch) -> None"))
    check_flag("debug_nans", debug_nans)
    check_callable("warn", warn, "(sentence) -> None")


def _what_began(
    train: Examples | Stream,
    examples: int,
    batch_size: int,
    sampling: Sampling,
    key: PRNGKeyArray,
    data_key: PRNGKeyArray | None,
) -> dict[str, Any]:
    """What a run must have in common with its checkpoint, to be the same run: the data by a sample of it."""

    def words(key: PRNGKeyArray | None) -> str | None:
        if key is None:
            return None
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(key) if is_typed else key).tobytes().hex()

    return {
        "number of examples": examples,
        "batch_size": batch_size,
        "sampling": sampling,
        "key": words(key),
        "data_key": words(data_key),
        "digest of the data": _digest_of(train),
    }


def _digest_of(data: Examples | Stream | None) -> str | None:
    """Of how many examples there are, and a sample of them."""
    if data is None:
        return None
    parts = data.example if isinstance(data, Stream) else data
    digest = hashlib.sha256(f"{len(data) if isinstance(data, Stream) else len(data[0])}".encode())
    for part in parts:
        some = np.unique(np.linspace(0, len(part) - 1, _MOST_HASHED).astype(int))
        digest.update(f"{part.dtype}{part.shape[1:]}".encode())
        digest.update(np.ascontiguousarray(part[some]).tobytes())
    return digest.hexdigest()[:16]


def _check_restored(
    restored: Checkpoint, epochs: int, steps: int, place: dict[str, Any], warn: Callable[[str], object]
) -> None:
    """Refuse to go on to an earlier epoch; say what may make the last bits differ."""
    about = restored.about
    if int(restored.state.step) > epochs * steps:
        raise ValueError(f"epochs is {epochs}, but the run is in epoch {about['epoch'] + 1} already")
    changes = [
        f"{name} {about['versions'].get(name)}, now {version}"
        for name, version in place["versions"].items()
        if about["versions"].get(name) != version
    ]
    for name in ("devices", "parts"):
        if about[name] != place[name]:
            changes.append(f"{name} {about[name]}, now {place[name]}")
    if changes:
        warn(f"the run was saved with {'; '.join(changes)}: from here on its last bits may be others")


def _with_factor(state: TrainState, factor: float | None) -> TrainState:
    """The state with its optimizer's slowed by such a factor; None takes the factor away."""
    inner = state.opt_state.inner if isinstance(state.opt_state, SlowedState) else state.opt_state
    return state._replace(opt_state=inner if factor is None else SlowedState(jnp.asarray(factor, jnp.float32), inner))


def _on_host(leaf: Any) -> Any:
    """An array as NumPy has it; a PRNG key as it is."""
    if isinstance(leaf, jax.Array):
        leaf = leaf.addressable_data(0)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)
