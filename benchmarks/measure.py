"""Measuring: contenders in processes of their own, timed in turns, beside the machine's rate of matrix products."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.row import Row

ROOT = Path(__file__).parents[1]
LONGEST_RUN = 1200.0  # seconds
# Threads that wait for more work keep a core busy for a while after each run.
PAUSE = 0.05


class ContenderError(RuntimeError):
    """A contender did not deliver, and why."""


@dataclass
class Measured:
    """What one contender showed."""

    seconds: list[float] = field(default_factory=list)  # of each timed run
    first_seconds: float | None = None  # of the first run, compilation included
    values: list[float] = field(default_factory=list)  # of all runs
    peak_megabytes: float | None = None
    failed: str | None = None


class Worker:
    """One contender in a process of its own."""

    def __init__(self, row: Row, contender: str, *, quick: bool) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_COMPILATION_CACHE": "false",
        }
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", row.name, contender, *(["--quick"] if quick else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env=environment,
        )
        try:
            self._answer()
        except ContenderError:
            self.close()
            raise

    def run(self) -> tuple[float, float]:
        """Seconds and value of one run."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the missing answer says it better
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["value"]

    def end(self) -> float:
        """End the process; its peak memory in megabytes."""
        assert self.process.stdin
        self.process.stdin.close()
        peak = self._answer()["peak_megabytes"]
        self.process.wait(60)
        return peak

    def close(self) -> None:
        """End the process, whatever state it is in."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout
        timer = threading.Timer(LONGEST_RUN, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            self.process.wait()
            self.stderr.seek(0)
            said = [text.strip() for text in self.stderr if text.strip()]
            raise ContenderError(said[-1][:200] if said else f"ended with code {self.process.returncode}")
        return json.loads(line)


class MachineRate:
    """A rate of the machine, of matrix products or of memory: the best of XLA's and PyTorch's."""

    def __init__(self, row: Row, *, quick: bool) -> None:
        self.workers = []
        for name, contender in row.contenders.items():
            if not missing(contender.needs):
                self.workers.append(Worker(row, name, quick=quick))

    def measure(self) -> float:
        """The rate now."""
        return max(worker.run()[1] for worker in self.workers)

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers:
            worker.close()


def missing(packages: tuple[str, ...]) -> list[str]:
    """Which of the packages are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def measure_row(
    row: Row, rate: Callable[[], float], *, quick: bool, say: Callable[[str], None] = print
) -> tuple[dict[str, Measured], float]:
    """Measure the row's contenders in turns: what each showed, and the best rate of products meanwhile."""
    present = {}
    for name, contender in row.contenders.items():
        if absent := missing(contender.needs):
            say(f"{name} is left out: {', '.join(absent)} not installed (python -m pip install -e '.[bench]')")
        else:
            present[name] = Measured()
    rounds = min(row.rounds, 3) if quick else row.rounds
    rates = [rate()]
    measure = _whole_processes if row.whole_process else _alternating
    for _ in measure(row, present, rounds, quick):
        rates.append(rate())
    return present, max(rates)


def _alternating(row: Row, present: dict[str, Measured], rounds: int, quick: bool) -> Iterator[None]:
    workers: dict[str, Worker] = {}
    try:
        for name, measured in present.items():
            with _noting(measured):
                workers[name] = Worker(row, name, quick=quick)
                measured.first_seconds, value = workers[name].run()
                measured.values.append(value)
        for number in range(rounds):
            # There and back: nobody always comes after the same neighbour.
            for name in list(workers)[:: 1 if number % 2 == 0 else -1]:
                if present[name].failed is None:
                    time.sleep(PAUSE)
                    with _noting(present[name]):
                        seconds, value = workers[name].run()
                        present[name].seconds.append(seconds)
                        present[name].values.append(value)
            yield
        for name, worker in workers.items():
            if present[name].failed is None:
                with _noting(present[name]):
                    present[name].peak_megabytes = worker.end()
    finally:
        for worker in workers.values():
            worker.close()


def _whole_processes(row: Row, present: dict[str, Measured], rounds: int, quick: bool) -> Iterator[None]:
    for number in range(rounds):
        for name in list(present)[:: 1 if number % 2 == 0 else -1]:
            measured = present[name]
            if measured.failed is None:
                time.sleep(PAUSE)
                with _noting(measured):
                    start = time.perf_counter()
                    worker = Worker(row, name, quick=quick)
                    try:
                        measured.values.append(worker.run()[1])
                        measured.peak_megabytes = worker.end()
                        measured.seconds.append(time.perf_counter() - start)
                    finally:
                        worker.close()
        yield


@contextlib.contextmanager
def _noting(measured: Measured) -> Iterator[None]:
    """A contender that fails is told of in the table, and the others go on."""
    try:
        yield
    except ContenderError as error:
        measured.failed = str(error)


def machine() -> dict[str, Any]:
    """This machine: a name for files, the processor and the cores that we may use."""
    from jaxnn.versions import available_cores, describe_processor

    cores, processor = available_cores(), describe_processor()
    slug = "-".join("".join(letter if letter.isalnum() else " " for letter in processor.lower()).split())
    return {"name": f"{slug}-{cores}-cores", "processor": processor, "cores": cores}
