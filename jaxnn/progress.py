"""What a person sees while a network learns: a bar on a terminal, plain lines elsewhere."""

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from jaxnn.runner import EpochReport
from jaxnn.sweep import ChunkReport

__all__ = ["EpochProgress", "SweepProgress", "format_seconds"]

_PLAIN_LINES = 20
_QUIET_SECONDS = 10.0


class EpochProgress:
    """Shows an `EpochReport` after each epoch; a context manager, given to `runner.train` as `report`."""

    def __init__(self, epochs: int, console: Console) -> None:
        self._console = console
        self._every = math.ceil(epochs / _PLAIN_LINES)
        self._bar = Progress(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=console,
        )
        self._task = self._bar.add_task("compiling …", total=epochs)

    def __enter__(self) -> "EpochProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def __call__(self, report: EpochReport) -> None:
        """Show one epoch."""
        text = describe(report)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=report.epoch, description=text)
        elif report.epoch in (1, report.epochs) or report.epoch % self._every == 0:
            self._console.print(f"epoch {report.epoch}/{report.epochs}  {text}", soft_wrap=True, highlight=False)


class SweepProgress:
    """Shows a `ChunkReport` after each chunk, on stderr; a context manager, given to a sweep as what reports."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True) if console is None else console
        self._is_live = self._console.is_terminal or self._console.is_jupyter
        self._bar = Progress(BarColumn(bar_width=24), TextColumn("{task.description}"), console=self._console)
        self._task = self._bar.add_task("compiling …", total=None)
        self._said = time.perf_counter()

    def __enter__(self) -> "SweepProgress":
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._bar.stop()

    def __call__(self, report: ChunkReport) -> None:
        """Show what is done after a chunk; where it would stay on the screen, every ten seconds."""
        text = describe_chunk(report)
        if self._is_live:
            self._bar.update(self._task, completed=report.finished, total=report.runs, description=text)
        elif report.finished and time.perf_counter() - self._said >= _QUIET_SECONDS:
            self._console.print(text)
            self._said = time.perf_counter()


def describe_chunk(report: ChunkReport) -> str:
    """One line of how far a sweep has come.

    >>> print(describe_chunk(ChunkReport(finished=300, runs=1200, program=2, programs=4, seconds_left=90.0)))
    300 of 1,200 runs, program 2 of 4, 1 min 30 s left
    """
    words = [f"{report.finished:,} of {report.runs:,} runs"]
    words += [f"program {report.program} of {report.programs}"] if report.programs > 1 else []
    if report.seconds_left is not None and report.finished < report.runs:
        words.append(f"{format_seconds(report.seconds_left)} left")
    return ", ".join(words)


def describe(report: EpochReport) -> str:
    """One line of an epoch's figures.

    >>> print(describe(EpochReport(1, 10, 0.5, {"accuracy": 0.9}, {"loss": 0.6, "accuracy": 0.8}, 1e5, 90.0)))
    loss 0.500  accuracy 0.900  validation loss 0.600  validation accuracy 0.800  100,000 examples/s  1 min 30 s left
    """
    figures = [f"loss {report.loss:.3f}"]
    figures += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in report.train.items()]
    figures += [f"validation {name.replace('_', ' ')} {value:.3f}" for name, value in report.validation.items()]
    figures += [f"{report.examples_per_second:,.0f} examples/s"]
    if report.epoch < report.epochs:
        figures += [f"{format_seconds(report.seconds_left)} left"]
    return "  ".join(figures)


def format_seconds(seconds: float | int) -> str:
    """A duration in words.

    >>> print(format_seconds(0.42), format_seconds(75), format_seconds(7260), sep=", ")
    0.4 s, 1 min 15 s, 2 h 01 min
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
