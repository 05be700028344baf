"""A run chunk by chunk: what is done when each one is finished, and what ends a run before its last step."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxnn import hosts
from jaxnn._operations import first_bad_operation
from jaxnn.checkpoint import Checkpoint
from jaxnn.checkpoint_folder import Keeper
from jaxnn.data.dataset import DataError
from jaxnn.divergence import (
    MOST_RESTORED,
    SLOWER,
    DivergedError,
    StepWithGradient,
    find_origin,
    learning_rate,
)
from jaxnn.evaluation import Examples
from jaxnn.interrupts import Interrupts, is_ready
from jaxnn.programs import Measured, Programs
from jaxnn.training import History, TrainState

__all__ = ["EpochReport", "HostLoop", "Mark", "OnDivergence", "Plan", "Reached", "Waiting"]

OnDivergence: TypeAlias = Literal["stop", "restore", "ignore"]

# Between XLA's complaint and the news that a process is gone.
SECONDS_TO_KNOW = 2
# How long the figures of an epoch are waited for after Ctrl-C: they can be measured later.
SECONDS_TO_MEASURE = 2


class EpochReport(NamedTuple):
    """What is told after each epoch."""

    epoch: int  # finished, from 1
    epochs: int
    loss: float  # mean over the epoch's steps
    train: dict[str, float]
    validation: dict[str, float]
    examples_per_second: float
    seconds_left: float


class Plan(NamedTuple):
    """What a run is to do."""

    epochs: int
    steps: int  # of an epoch
    batch_size: int
    on_divergence: OnDivergence
    debug_nans: bool
    gradient_step: StepWithGradient
    batches: Callable[[TrainState, int, int], Iterable[Examples]]  # (state, its step, how many)
    report: Callable[[EpochReport], None] | None
    warn: Callable[[str], object]


class Waiting(NamedTuple):
    """How the host waits for what is computed."""

    heard: Interrupts
    wait_for: Callable[[Any], None]
    wait_until: Callable[[Any, Callable[[], bool]], bool]  # (values, whether to give up) -> whether they are there


class Mark(NamedTuple):
    """A place that a run has come to."""

    state: TrainState
    step: int
    chunks: int
    epochs: int  # that have been measured
    restored: int  # times that the run had gone back after it diverged
    is_finite: bool


class Reached:
    """How far a run has come, and what was measured on the way."""

    def __init__(self, state: TrainState, checkpoint: Checkpoint | None = None, good_step: int = 0) -> None:
        """From the start, or from a checkpoint whose state is `state`; up to `good_step` it may have to go back."""
        self._losses: list[np.ndarray] = []  # of the chunks
        self._measured: list[Measured] = []  # of the epochs
        self.mark = Mark(state, 0, 0, 0, 0, True)
        if checkpoint is not None:
            history, about = checkpoint.history, checkpoint.about
            parts = history.train, history.validation
            self._losses = [loss for loss in np.split(np.asarray(history.loss), [good_step]) if len(loss)]
            for epoch in range(about["measured"]):
                on_train, on_validation = ({name: part[name][epoch] for name in part} for part in parts)
                self._measured.append((on_train, on_validation))
            self.mark = Mark(
                state,
                len(history.loss),
                len(self._losses),
                len(self._measured),
                about["restored"],
                about["is_finite"],
            )

    def take(self, state: TrainState, losses: np.ndarray, is_finite: bool) -> None:
        """Go on by a chunk."""
        del self._losses[self.mark.chunks :], self._measured[self.mark.epochs :]
        self._losses.append(losses)
        self.mark = self.mark._replace(
            state=state, step=self.mark.step + len(losses), chunks=self.mark.chunks + 1, is_finite=is_finite
        )

    def measure(self, figures: Measured) -> None:
        """Note the figures of the epoch that has ended."""
        self._measured.append(figures)
        self.mark = self.mark._replace(epochs=self.mark.epochs + 1)

    def history(self, mark: Mark) -> History:
        """What was measured until there, as NumPy arrays."""
        losses, measured = self._losses[: mark.chunks], self._measured[: mark.epochs]
        parts: tuple[Any, Any] = ({}, {})
        if measured:
            parts = jax.tree.map(lambda *epochs: np.stack(epochs), *measured)
        loss: Any = np.concatenate(losses) if losses else np.zeros(0, np.float32)
        return History(loss, *parts)

    @property
    def first_loss(self) -> float:
        """Of the first step."""
        return float(self._losses[0][0])

    def mean_loss(self, steps: int) -> float:
        """Of the last steps."""
        return float(np.concatenate(self._losses[-steps:])[-steps:].mean())


class _Chunk(NamedTuple):
    """A chunk that a device is busy with."""

    before: TrainState
    after: TrainState
    losses: Any
    is_finite: Any
    measured: Measured | None  # where an epoch ends, and nothing has to be read for it


class _BadError(Exception):
    """What a chunk has come to is no number."""

    def __init__(self, what: str, step: int, chunk: _Chunk | None = None) -> None:
        super().__init__(what)
        self.step = step  # from 0
        self.chunk = chunk


class HostLoop:
    """A run, from where it stands to its end."""

    def __init__(
        self,
        programs: Programs,
        plan: Plan,
        waiting: Waiting,
        reached: Reached,
        keeper: Keeper | None,
        snapshot: Callable[[Mark, int, History, float | None, float], Checkpoint],
        good: Mark | None,
    ) -> None:
        self.reached = reached
        self._programs, self._plan, self._waiting = programs, plan, waiting
        self._keeper, self._snapshot = keeper, snapshot
        self._began = time.perf_counter()
        self._epochs_before = reached.mark.epochs
        # Where a run that diverges goes back to: the end of the last epoch that was no worse than the first step, so
        # that it is not on its way up already; and an epoch's end, so that no clock decides.
        self._good = reached.mark if good is None else good
        self._good_saved: int | None = None if good is None else good.step
        self._saved = reached.mark.step, reached.mark.epochs
        self._all_stop = False

    @property
    def seconds(self) -> float:
        """For how long it has trained, this time."""
        return time.perf_counter() - self._began

    def run(self) -> str | None:
        """Train to the last step; returns what has ended the run before it, None if nothing has."""
        in_flight: deque[_Chunk] = deque()
        why = None
        try:
            while True:
                try:
                    self._advance(in_flight)
                    break
                except _BadError as bad:
                    in_flight.clear()
                    self._go_back(bad)
            if self.reached.mark.epochs < self._plan.epochs:
                if self.reached.mark.step == 0:
                    raise self._waiting.heard.error()
                why = self._signal()
        except BaseException as error:
            why = self._ended_by(error, in_flight)
        self._save_last()
        return why

    def _advance(self, in_flight: deque[_Chunk]) -> None:
        """Train until the last step, or until a signal is heard."""
        programs, steps = self._programs, self._plan.steps
        state, step = self.reached.mark.state, self.reached.mark.step
        if self.reached.mark.epochs < step // steps:  # it was interrupted in between
            measured = None if programs.reads else programs.measured(state, step // steps - 1)
            if not self._settle_epoch(measured):
                return
        while True:
            while len(in_flight) < (1 if programs.reads else 2) and step < self._plan.epochs * steps:
                if self._stops:
                    break
                in_epoch = step % steps
                count = min(programs.chunk_steps - in_epoch % programs.chunk_steps, steps - in_epoch)
                before = state
                state, losses, is_finite = programs.chunk(state, step, count)
                if len(losses) == 0:  # nothing has been read yet
                    continue
                step += len(losses)
                ends = step % steps == 0
                measured = programs.measured(state, step // steps - 1) if ends and not programs.reads else None
                in_flight.append(_Chunk(before, state, losses, is_finite, measured))
            if not in_flight:
                return
            if not self._settle(in_flight.popleft()):
                in_flight.clear()  # what comes after an epoch that is not measured is trained again
                return
            if jax.process_count() > 1 and step < self._plan.epochs * steps:  # all stop after the same chunk
                heard = np.array(self._waiting.heard.is_set())
                self._all_stop = bool(np.any(hosts.call(multihost_utils.process_allgather, heard)))

    def _settle(self, chunk: _Chunk) -> bool:
        """Wait for a chunk, look at it, and keep it; False where an epoch's figures are left for another time."""
        self._waiting.wait_for((chunk.losses, chunk.is_finite))
        mark, losses = self.reached.mark, np.array(chunk.losses)  # copies: JAX's own can go
        bad = ~np.isfinite(losses)
        is_finite = bool(chunk.is_finite) and not bad.any()
        if not is_finite and self._plan.on_divergence != "ignore":
            number = int(np.argmax(bad)) if bad.any() else len(losses) - 1
            what = f"the loss became {losses[number]}" if bad.any() else "what was learned became infinite or NaN"
            raise _BadError(what, mark.step + number, chunk)
        self.reached.take(chunk.after, losses, is_finite)
        if self.reached.mark.step % self._plan.steps == 0 and not self._settle_epoch(chunk.measured):
            return False
        if self._keeper is not None and self._keeper.is_due:
            self._save()
        return True

    def _settle_epoch(self, figures: Measured | None) -> bool:
        """Wait for the figures of the epoch that has ended; False if a signal was heard, and there was no time."""
        mark = self.reached.mark
        if figures is None:
            figures = self._programs.measured(mark.state, mark.step // self._plan.steps - 1)
        elif not self._waiting.wait_until(figures, self._gives_up()):
            figures = None
        if figures is None:
            return False
        on_train, on_validation = jax.tree.map(np.array, figures)
        if self._plan.on_divergence != "ignore" and not np.isfinite(on_validation.get("loss", 0.0)):
            raise _BadError(f"the validation loss became {on_validation['loss']}", mark.step - 1)
        self.reached.measure((on_train, on_validation))
        mark = self.reached.mark
        if self.reached.mean_loss(self._plan.steps) <= self.reached.first_loss:
            self._good = mark
        if self._keeper is not None:
            self._keeper.note({"train": on_train, "validation": on_validation}, lambda: self._checkpoint(mark))
        if self._plan.report is not None:
            self._plan.report(self._report(on_train, on_validation))
        return True

    def _gives_up(self) -> Callable[[], bool]:
        """Whether a wait has been long enough, counted from a signal."""
        until: list[float] = []

        def gives_up() -> bool:
            if not until and self._stops:
                until.append(time.monotonic() + SECONDS_TO_MEASURE)
            return bool(until) and time.monotonic() > until[0]

        return gives_up

    @property
    def _stops(self) -> bool:
        """Whether no chunk is to be begun; of many processes all must say the same."""
        return self._all_stop if jax.process_count() > 1 else self._waiting.heard.is_set()

    def _signal(self) -> str:
        heard = self._waiting.heard.first
        if heard is None:  # or somebody's own KeyboardInterrupt
            return "a signal to another process" if self._all_stop else "Ctrl-C"
        return "Ctrl-C" if heard == signal.SIGINT else heard.name

    def _ended_by(self, error: BaseException, in_flight: deque[_Chunk]) -> str | None:
        """What has ended a run early; an error that is no interruption goes on up, after a save."""
        is_lost = None
        if not isinstance(error, DivergedError | DataError):
            # What XLA says when another process ends may come before that is known.
            is_lost = hosts.lost(within=0 if isinstance(error, KeyboardInterrupt) else SECONDS_TO_KNOW)
        if is_lost is None and isinstance(error, KeyboardInterrupt) and self._waiting.heard.is_set():
            raise error  # the second one: at once
        # A chunk that was over before, perhaps why the other process ended: what diverges does in all.
        self._waiting = self._waiting._replace(wait_for=jax.block_until_ready, wait_until=_is_there)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while is_lost is not None and in_flight and is_ready(in_flight[0][2:]):
                self._settle(in_flight.popleft())
        is_interruption = is_lost is not None or isinstance(error, KeyboardInterrupt)
        if self.reached.mark.step == 0 or not is_interruption:
            self._save_last()
            if is_lost is not None:
                raise is_lost from None
            raise error
        if self.reached.mark.epochs == self._plan.epochs:
            return None
        return self._signal() if is_lost is None else str(is_lost)

    def _go_back(self, bad: _BadError) -> None:
        """Go back to before the run diverged, with smaller steps; or end it, saying what has happened."""
        good = self._good
        if self._plan.on_divergence != "restore" or good.restored == MOST_RESTORED:
            raise DivergedError(self._explain(bad))
        restored = good.restored + 1
        opt_state = good.state.opt_state
        opt_state = opt_state._replace(factor=jnp.full_like(opt_state.factor, SLOWER**restored))
        self._good = good._replace(restored=restored, state=good.state._replace(opt_state=opt_state))
        self.reached.mark = self._good
        self._saved = good.step, good.epochs
        if self._keeper is not None:
            self._keeper.forget_after(good.step)
        self._plan.warn(
            f"{bad} at {self._place(bad.step)}; going on after step {good.step}, with {SLOWER**restored:.3g} times the "
            "learning rate"
        )

    def _explain(self, bad: _BadError) -> str:
        """In one sentence where a run has diverged, and what to do."""
        step, said, origin = bad.step, str(bad), None
        if bad.chunk is not None:
            begun = self.reached.mark.step
            state = jax.tree.map(lambda leaf: leaf.addressable_data(0), bad.chunk.before)
            with contextlib.suppress(Exception):  # the device may have no room for it
                batches = self._plan.batches(state, begun, step - begun + 1)
                origin = find_origin(self._plan.gradient_step, state, batches)
        if origin is not None:
            step = begun + origin.number
            loss = (
                f"the loss became {origin.loss}" if not np.isfinite(origin.loss) else f"the loss is {origin.loss:.3g}"
            )
            said = f"{loss} at {self._place(step)}: {origin.describe()}"
        else:
            said += f" at {self._place(step)}"
        rate = learning_rate(self.reached.mark.state.opt_state)
        if rate is not None:
            said += f", with a learning rate of {rate:.3g}"
        if origin is not None and self._plan.debug_nans:
            with contextlib.suppress(Exception):  # some operations cannot be taken alone
                batch = map(jnp.asarray, origin.batch)
                operation = first_bad_operation(self._plan.gradient_step, origin.state, *batch)
                said += f"; the first operation to blame is {operation}" if operation is not None else ""
        if step == 0:
            return f"{said}; it was so before any update: look at the data, its scaling, and the initial weights"
        if self._good.restored:
            said += f"; going back {self._good.restored} times, with ever smaller steps, was no help"
        return f"{said}; a smaller learning rate is the usual remedy"

    def _place(self, step: int) -> str:
        return f"step {step + 1} (epoch {step // self._plan.steps + 1} of {self._plan.epochs})"

    def _save(self) -> None:
        """Begin to save the run as it is."""
        mark = self.reached.mark
        if self._keeper is None or mark.step == 0 or (mark.step, mark.epochs) == self._saved:
            return
        self._saved = mark.step, mark.epochs
        good = None
        if self._plan.on_divergence == "restore" and self._good.step not in (0, mark.step, self._good_saved):
            good, self._good_saved = self._checkpoint(self._good), self._good.step
        self._keeper.save(self._checkpoint(mark), good)

    def _save_last(self) -> None:
        """Save what has not been, and wait until it is on the disk."""
        if self._keeper is None:
            return
        try:
            self._save()
        except Exception as error:  # the device may have failed
            self._plan.warn(f"what has been trained since the last checkpoint could not be saved ({error})")
        self._keeper.wait()

    def _checkpoint(self, mark: Mark) -> Checkpoint:
        history, score = self.reached.history(mark), None
        if mark.epochs and mark.step == mark.epochs * self._plan.steps:
            last = jax.tree.map(lambda values: values[-1], history._asdict())
            score = self._keeper.score(last) if self._keeper is not None else None
        return self._snapshot(mark, self._good.step, history, score, self.seconds)

    def _report(self, on_train: dict[str, Any], on_validation: dict[str, Any]) -> EpochReport:
        epoch = self.reached.mark.epochs
        # After a way back fewer are finished than have been trained.
        per_epoch = self.seconds / max(1, epoch - self._epochs_before)
        return EpochReport(
            epoch=epoch,
            epochs=self._plan.epochs,
            loss=self.reached.mean_loss(self._plan.steps),
            train={name: float(value) for name, value in on_train.items()},
            validation={name: float(value) for name, value in on_validation.items()},
            examples_per_second=self._plan.steps * self._plan.batch_size / per_epoch,
            seconds_left=per_epoch * (self._plan.epochs - epoch),
        )


def _is_there(values: Any, gives_up: Callable[[], bool]) -> bool:
    """Of what is ready: whether it has not failed."""
    jax.block_until_ready(values)
    return True
