"""Mutated files are read one by one under guard, and each is refused in one sentence or read as an oracle reads it."""

import ctypes
import faulthandler
import gc
import math
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from jaxnn.data import DataError

SECONDS = 10.0
"""Longest time of the processor that one file may take; by the clock, three times as long."""
MEMORY = 10**9
"""Bytes that reading one file may take beyond what the interpreter has with its imports."""
_SENTENCE = 600  # characters, beside the file's name: more is no sentence that anyone reads
_HUNG = 120.0  # seconds by the clock after which the process is ended
_BOMBS = 300  # files of which one is a bomb, where there are any
_ROOM = 2 * 10**9  # bytes of address space: the machine must outlive a reader that believes a length
_FORBIDDEN = re.compile(
    r"os\.(mkdir|remove|rename|rmdir|link|symlink|truncate|chmod|chown|utime|system|exec|posix_spawn|fork|forkpty)"
    r"|shutil\..*|tempfile\..*|subprocess\.Popen|socket\.(connect|bind|getaddrinfo)|urllib\.Request|pickle\.find_class"
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Reader(NamedTuple):
    """What is put to the test, and what it is compared with."""

    name: str
    read: Callable[[Path], object]
    mutate: Callable[[Random, Path], list[str]]
    """Put a file, mutated or not, or something else at the path; what was done to it, nothing if it is intact."""
    oracle: Callable[[Path], object]
    """What the file holds, or any exception if it holds nothing that a reader may return."""
    bomb: Callable[[Random, Path], list[str]] | None = None
    """Put a small file there that is enormous unfolded, in place of every 300th."""
    tolerance: float = 0.0
    suffix: str = ""


class Broken(Exception):  # noqa: N818 - no error of the script, but of a reader
    """The reader did what no reader may do."""


class _TooSlow(BaseException):
    """No reader takes it for an error in its file."""


class _Forbidden(BaseException):
    """Something was about to be written, run, connected or unpickled."""


@dataclass
class Broke:
    """The mutation with which a reader broke, and how."""

    reader: str
    seed: int
    number: int
    mutations: list[str]
    reason: str
    kept: Path | None

    def __str__(self) -> str:
        done = "; ".join(self.mutations) or "none: the file is intact"
        kept = f"\n  file: {self.kept}" if self.kept else ""
        return (
            f"{self.reader} broke at mutation {self.number} of seed {self.seed}\n  mutations: {done}{kept}\n"
            f"  again: python -m tests.fuzz_readers --reader {self.reader} --seed {self.seed} --only {self.number}\n"
            f"  {self.reason}"
        )


@dataclass
class Report:
    """What became of all files of a reader."""

    reader: str
    count: int = 0
    refused: int = 0
    exact: int = 0
    seconds: float = 0.0
    worst: float = 0.0
    peak: int = 0
    sentences: Counter[str] = field(default_factory=Counter)
    strict: Counter[str] = field(default_factory=Counter)
    """Sentences about files in which the oracle finds data all the same."""
    broken: list[Broke] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.reader}: {self.count} files, {self.refused} refused, {self.exact} read exactly, "
            f"{len(self.broken)} broken; {self.seconds:.1f} s, the slowest {self.worst:.2f} s of the processor; "
            f"at most {self.peak / 1e6:.0f} MB; {len(self.sentences)} kinds of sentences"
        ]
        lines += [f"  {count:6d} × {kind}" for kind, count in self.sentences.most_common(12)]
        if self.strict:
            lines.append(f"  refused although the oracle reads them: {self.strict.total()}")
            lines += [f"  {count:6d} × {kind}" for kind, count in self.strict.most_common(8)]
        return "\n".join(lines)


def fuzz(
    reader: Reader,
    numbers: Iterable[int],
    *,
    seed: int = 0,
    failures: int = 1,
    keep: Path | None = None,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Report:
    """Read mutated files by their numbers, until so many of them broke the reader."""
    report = Report(reader.name)
    shared = Path("/dev/shm")
    guard = _Guard(seconds, memory)
    with _scratch(shared if shared.is_dir() else None, reader.name) as scratch, _bells(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of mutations and oracles; a reader's are recorded
        start = time.perf_counter()
        for number in numbers:
            path = scratch / f"mutant-{number}{reader.suffix}"
            make = reader.bomb if reader.bomb and number % _BOMBS == _BOMBS - 1 else reader.mutate
            mutations = make(Random(f"{reader.name} {seed} {number}"), path)
            try:
                _examine(reader, path, mutations, guard, report)
            except Broken as broken:
                kept = _keep(path, keep / f"{reader.name}-{seed}-{number}{reader.suffix}") if keep else None
                report.broken.append(Broke(reader.name, seed, number, mutations, str(broken), kept))
                if len(report.broken) >= failures:
                    break
            finally:
                report.count += 1
                for left in scratch.iterdir():
                    remove(left)
        report.seconds = time.perf_counter() - start
    return report


def _examine(reader: Reader, path: Path, mutations: list[str], guard: "_Guard", report: Report) -> None:
    guard.start()
    result, refusal, elapsed = _read(reader, path, guard)
    peak = guard.peak()
    report.worst = max(report.worst, elapsed)
    report.peak = max(report.peak, peak)
    if peak > guard.memory:
        raise Broken(f"took {peak / 1e6:.0f} MB ({_said(refusal)})")
    if refusal is not None:
        sentence = str(refusal)
        _check_sentence(sentence, path)
        if not mutations:
            raise Broken(f"refused an intact file: {sentence}")
        kind = _kind(sentence, path)
        report.refused += 1
        report.sentences[kind] += 1
        # Bombs take long to unfold, and whatever refuses them is right.
        if not any(mutation.startswith(("bomb", "special")) for mutation in mutations) and _has_data(reader, path):
            report.strict[kind] += 1
        return
    try:
        expected = reader.oracle(path)
    except Exception as error:
        raise Broken(
            f"gave {_outline(result)} where the oracle finds no data ({type(error).__name__}: {error})"
        ) from error
    different = difference(result, expected, reader.tolerance)
    if different:
        raise Broken(f"gave wrong data: {different}")
    report.exact += 1


def _read(reader: Reader, path: Path, guard: "_Guard") -> tuple[object, DataError | None, float]:
    """The data or the refusal, and the seconds of the processor that it took."""
    start = time.process_time()
    result: object = None
    refusal = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with guard.watching():
                result = reader.read(path)
        except DataError as error:
            refusal = error.with_traceback(None)
        except _TooSlow:
            raise Broken("hangs: it had not come back in time\n" + _where()) from None
        except _Forbidden as error:
            raise Broken(f"reached for what a reader must leave alone: {error}") from None
        except MemoryError:
            raise Broken("asked for more memory than there is (MemoryError)\n" + _where()) from None
        except Exception as error:
            raise Broken(f"let {type(error).__name__} out: {error}\n" + _where()) from None
    if warned:
        raise Broken(f"warned: {warned[0].category.__name__}: {warned[0].message}")
    return result, refusal, time.process_time() - start


def _where() -> str:
    """The end of the traceback of the exception at hand."""
    return "".join(traceback.format_tb(sys.exc_info()[2])[-3:]).rstrip()


def _check_sentence(sentence: str, path: Path) -> None:
    if not sentence.startswith(str(path)):
        raise Broken(f"refused with a sentence that does not begin with the file's name: {sentence!r}")
    rest = sentence.replace(str(path), "")
    # A byte that a terminal obeys, a second line, or half a character that cannot be printed.
    if not rest.isprintable():
        raise Broken(f"refused with a sentence that is not one printable line: {sentence!r}")
    if len(rest) > _SENTENCE:
        raise Broken(f"refused with a sentence of {len(rest)} characters: {rest[:200]!r} …")
    if len(re.findall(r"[A-Za-z]{2,}", rest)) < 2:
        raise Broken(f"refused without saying what is wrong: {sentence!r}")


def _has_data(reader: Reader, path: Path) -> bool:
    try:
        reader.oracle(path)
    except Exception:
        return False
    return True


def _kind(sentence: str, path: Path) -> str:
    """A sentence without what differs from file to file."""
    kind = sentence.replace(str(path), "…")
    kind = re.sub(r"b?'[^']*'|b?\"[^\"]*\"", "‹›", kind)
    kind = re.sub(r"\b[0-9a-f]{2}( [0-9a-f]{2})+|(?<![\w.])[-+]?\d[\w.,+]*", "0", kind)
    return re.sub(r"0(, 0)+,?", "0, …", kind)[:140]


def _said(refusal: DataError | None) -> str:
    return f"and then refused: {refusal}" if refusal else "and then gave data"


def _outline(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_outline, value))})"
    return repr(value)[:80]


def difference(actual: object, expected: object, tolerance: float = 0.0) -> str:
    """How one value differs from another in type, shape or content; nothing if it does not."""
    if isinstance(expected, np.ndarray):
        return _array_difference(actual, expected, tolerance)
    if isinstance(expected, tuple):
        if not isinstance(actual, tuple) or len(actual) != len(expected):
            return f"{_outline(actual)}; expected {_outline(expected)}"
        pairs = zip(actual, expected, strict=True)
        found = ((number, difference(one, other, tolerance)) for number, (one, other) in enumerate(pairs))
        return next((f"part {number}: {what}" for number, what in found if what), "")
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or set(actual) != set(expected):
            return f"{_outline(actual)}; expected {_outline(expected)}"
        found = ((name, difference(actual[name], expected[name], tolerance)) for name in expected)
        return next((f"{name}: {what}" for name, what in found if what), "")
    same = type(actual) is type(expected) and actual == expected
    return "" if same else f"{_outline(actual)}; expected {_outline(expected)}"


def _array_difference(actual: object, expected: np.ndarray, tolerance: float) -> str:
    if not isinstance(actual, np.ndarray) or (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return f"{_outline(actual)}; expected {_outline(expected)}"
    if tolerance and expected.dtype in (np.float32, np.uint8):
        wrong = ~(np.abs(actual.astype(np.float64) - expected) <= tolerance)
    else:  # NaN is NaN, and -0 is not 0
        wrong = (_bytes(actual) != _bytes(expected)).any(axis=-1).reshape(expected.shape)
    if not wrong.any():
        return ""
    first = tuple(int(index[0]) for index in np.nonzero(wrong))
    return f"{wrong.sum()} of {wrong.size} values, first at {list(first)}: {actual[first]}; expected {expected[first]}"


def _bytes(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.itemsize)


class _Guard:
    """What one file may take of this process, beyond what it has: time and memory; and nothing else."""

    def __init__(self, seconds: float, memory: int) -> None:
        self.memory = memory
        self._seconds = seconds
        self._armed = -math.inf
        self._base = _status("VmRSS")
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if not _hooked:
            sys.addaudithook(_audit)
            _hooked.append(_audit)

    def start(self) -> None:
        if self._trim and _status("VmRSS") > self._base + 2**26:
            gc.collect()
            self._trim(0)  # what the last file took is not this one's
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on

    def peak(self) -> int:
        return max(0, _status("VmHWM") - self._base)

    @contextmanager
    def watching(self) -> Iterator[None]:
        if time.monotonic() > self._armed + 10:  # code that never leaves C hears no bell
            faulthandler.dump_traceback_later(_HUNG, exit=True)
            self._armed = time.monotonic()
        # Again and again: where an exception is ignored, as in a callback, it would have rung for nothing.
        signal.setitimer(signal.ITIMER_PROF, self._seconds, 1.0)
        signal.setitimer(signal.ITIMER_REAL, 3 * self._seconds, 1.0)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        room = _status("VmSize") + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room if hard == resource.RLIM_INFINITY else min(room, hard), hard))
        _watching.append(True)
        try:
            yield
        finally:
            _watching.clear()
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
                signal.setitimer(timer, 0)


def _status(name: str) -> int:
    line = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert line
    return 1024 * int(line[1])


_watching: list[bool] = []  # empty, or the one that a file is under guard
_hooked: list[Callable[..., None]] = []  # a hook cannot be taken back: one is enough


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        raise _Forbidden(f"open for writing: {arguments[0]!r}")
    if event != "open" and _FORBIDDEN.fullmatch(event):
        raise _Forbidden(f"{event} {arguments!r}")


@contextmanager
def _bells() -> Iterator[None]:
    """What happens when a reader's time is over; and an import within a reader writes nothing."""

    def ring(_signal: int, _frame: object) -> None:
        raise _TooSlow

    before = {number: signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGPROF)}
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        sys.dont_write_bytecode = bytecode
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _scratch(parent: Path | None, name: str) -> Iterator[Path]:
    """A folder in memory. It stays if the process is ended within it."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def remove(path: Path) -> None:
    """Remove a file, a folder or a link; it need not be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keep(path: Path, kept: Path) -> Path:
    kept.parent.mkdir(parents=True, exist_ok=True)
    remove(kept)
    shutil.move(path, kept)
    return kept
