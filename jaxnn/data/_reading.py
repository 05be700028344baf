"""A batch read from its source example by example and checked; in this process or in one of its own."""

import contextlib
import json
import mmap
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._checks import first_bad
from jaxnn.data.batching import Index
from jaxnn.data.dataset import DataError, Dataset

START_SECONDS = 120.0  # for a process to import the user's program
_END_SECONDS = 1.0  # how long the end of a process is waited for
_NUMBER = struct.Struct("=q")
_WIDEST = {"f": 8, "c": 16}  # bytes of the numbers that JAX knows
_READY, _BATCH, _FAILED = -1, -2, -3  # messages of a reading process; one from 0 is the example that it reads


class Arrays(NamedTuple):
    """Arrays in memory or mapped from a file, as a source of records `(x, y)`."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Any:
        return self.x[index], self.y[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (_packed(self.x), _packed(self.y))


class _Mapped(NamedTuple):
    """An array that lies in a file which is mapped into memory."""

    filename: str
    dtype: np.dtype
    place: int  # of its first value, in bytes
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _packed(array: np.ndarray) -> np.ndarray | _Mapped:
    """What is pickled: of an array that views a mapped file how it lies there, else the array."""
    mapped: Any = array
    while mapped is not None and not isinstance(mapped, np.memmap):
        mapped = getattr(mapped, "base", None)
    # Changes in mode "c" are in memory alone.
    if mapped is None or mapped.mode == "c" or mapped.filename is None or not Path(mapped.filename).is_file():
        return array
    whole = np.frombuffer(mapped._mmap, np.uint8)  # type: ignore[attr-defined]
    within = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    start = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY  # where np.memmap begins to map
    return _Mapped(str(mapped.filename), array.dtype, start + within, array.shape, array.strides)


def _unpacked(*parts: np.ndarray | _Mapped) -> Arrays:
    return Arrays(*map(_array, parts))


def _array(part: np.ndarray | _Mapped) -> np.ndarray:
    if not isinstance(part, _Mapped):
        return part
    file = np.memmap(part.filename, np.uint8, "r")
    return np.ndarray(part.shape, part.dtype, file.data, part.place, part.strides)


class Recipe(NamedTuple):
    """How a batch is made."""

    source: Any
    decode: Callable[[Any], Any] | None
    labels_below: int | None  # where it is known how many classes there are


def checked_order(indices: Any, examples: int) -> Index:
    """The indices of a batch, if they are numbers of examples.

    Raises:
        ValueError: they are not.
    """
    order = np.asarray(indices)
    if order.ndim != 1 or not len(order) or order.dtype.kind not in "iu":
        raise ValueError(
            f"a batch's order must be whole numbers [batch_size]; got {order.dtype} of shape {order.shape}"
        )
    bad = (order < 0) | (order >= examples)
    if bad.any():
        raise ValueError(f"a batch's order holds {order[first_bad(bad)]}; there are examples 0 to {examples - 1}")
    return order


def read_batch(recipe: Recipe, indices: Index, note: Callable[[int], None]) -> Dataset:
    """Read, decode, stack and check the examples; `note` is told of each before it is read.

    Raises:
        DataError: an example cannot be read or does not fit, by its index.
    """
    if isinstance(recipe.source, Arrays) and recipe.decode is None:
        note(int(indices[0]))
        parts = list(recipe.source[indices])
    else:
        parts = _stacked(recipe, indices, note)
    x, y = (np.asarray(part, part.dtype.newbyteorder("=")) for part in parts)
    _check_numbers("x", x, indices)
    _check_numbers("y", y, indices)
    _check_labels(y, indices, recipe.labels_below)
    return Dataset(x, y)


def _stacked(recipe: Recipe, indices: Index, note: Callable[[int], None]) -> list[np.ndarray]:
    parts: list[np.ndarray] = []
    for place, index in enumerate(indices.tolist()):
        note(index)
        example = _read_example(recipe, index)
        if not parts:
            try:
                parts = [np.empty((len(indices), *part.shape), part.dtype) for part in example]
            except MemoryError:
                size = sum(part.nbytes for part in example)
                raise DataError(
                    f"example {index}: has {size:,} bytes, and there is no memory for {len(indices)} like it"
                ) from None
        for name, part, stacked in zip("xy", example, parts, strict=True):
            if (part.shape, part.dtype) != (stacked.shape[1:], stacked.dtype):
                raise DataError(
                    f"example {index}: {name} is {part.dtype} of shape {part.shape}, and that of example {indices[0]} "
                    f"is {stacked.dtype} of shape {stacked.shape[1:]}; all must be alike (decode can make them so)"
                )
            stacked[place] = part
    return parts


def _read_example(recipe: Recipe, index: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        record = recipe.source[index]
        if recipe.decode is not None:
            record = recipe.decode(record)
        if isinstance(record, tuple | list) and len(record) == 2:
            return np.asarray(record[0]), np.asarray(record[1])
    except BaseException as error:  # what the user's code raises ends the reading, and must not end a thread unheard
        raise DataError(f"example {index} could not be read: {reason(error)}") from error
    maker = "the source" if recipe.decode is None else "decode"
    raise DataError(f"example {index}: expected a pair (x, y) of {maker}; got {type(record).__name__}")


def reason(error: BaseException) -> str:
    """What an error says of itself."""
    if isinstance(error, DataError):
        return str(error)
    try:
        said = str(error)
    except Exception:  # of the user's own class
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _check_numbers(name: str, values: np.ndarray, indices: Index) -> None:
    if not (jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool) or (
        values.dtype.itemsize > _WIDEST.get(values.dtype.kind, 8)
    ):
        raise DataError(f"example {indices[0]}: {name} must hold numbers; got dtype {values.dtype}")
    kind = jax.dtypes.canonicalize_dtype(values.dtype)  # that of the device
    if jnp.issubdtype(kind, jnp.floating):
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(values.astype(kind, copy=False))
        right = "every value must be finite"
    elif jnp.issubdtype(kind, jnp.integer) and kind != values.dtype:
        least, most = np.iinfo(kind).min, np.iinfo(kind).max
        bad = (values < least) | (values > most)
        right = f"expected {least} to {most}, what {kind} holds (jax_enable_x64 allows more)"
    else:
        return
    if bad.any():
        place, *inside = first_bad(bad)
        where = f"[{', '.join(map(str, inside))}]" if inside else ""
        raise DataError(f"example {indices[place]}: {name}{where} is {values[(place, *inside)]}; {right}")


def _check_labels(y: np.ndarray, indices: Index, below: int | None) -> None:
    if below is None or y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        return
    bad = (y < 0) | (y >= below)
    if bad.any():
        (place,) = first_bad(bad)
        raise DataError(
            f"example {indices[place]}: y is {y[place]}; expected labels 0 to {below - 1} for {below} outputs"
        )


class ReadingProcess:
    """A process that reads batches, one after the other, and can be ended whatever it does."""

    def __init__(self, recipe: Recipe) -> None:
        # Not a copy of this process, whose JAX has threads that a copy would lack.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        settings = (theirs, bool(jax.config.read("jax_enable_x64")))
        self._recipe: Recipe | None = recipe
        self._process = context.Process(target=_serve, args=settings, name="jaxnn-reading", daemon=True)
        self._ending = threading.Lock()
        self._ended = False
        try:
            # Little is sent along: were it more than a pipe holds, and the process dead, this would never return.
            with _deaf():
                self._process.start()
        finally:
            theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until the process has imported what it needs, and knows what it reads.

        Raises:
            DataError: it ended before, or takes too long.
        """
        if self._recipe is None:
            return
        try:
            started = self._connection.poll(START_SECONDS) and self._receive_number() == _READY
            if started:
                self._connection.send_bytes(pickle.dumps(self._recipe, pickle.HIGHEST_PROTOCOL))
                started = self._receive_number() == _READY
        except (EOFError, OSError):
            started = False
        if not started:
            raise self._never_ready()
        self._recipe = None

    def read(self, indices: Index, note: Callable[[int], None]) -> Dataset:
        """As `read_batch`, in the process."""
        index = int(indices[0])
        try:
            self._connection.send_bytes(indices.astype(np.int64).tobytes())
            while (message := self._receive_number()) >= 0:
                index = message
                note(index)
            if message == _BATCH:
                return Dataset(self._receive(), self._receive())
            said, trace = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise DataError(f"example {index} could not be read: the process that read it {self._end()}") from None
        raise DataError(said) from RuntimeError(f"in the reading process:\n{trace}")

    def _receive_number(self) -> int:
        (number,) = _NUMBER.unpack(self._connection.recv_bytes())
        return int(number)

    def _receive(self) -> np.ndarray:
        shape, dtype = json.loads(self._connection.recv_bytes())
        array = np.empty(shape, np.dtype(dtype))
        if array.nbytes:
            self._connection.recv_bytes_into(array.reshape(-1).view(np.uint8).data)
        return array

    def _never_ready(self) -> DataError:
        return DataError(
            f"a reading process {self._end()} before it could read: what it prints says why; the program that starts "
            "it must be a file that can be imported, its own work below `if __name__ == '__main__':`"
        )

    def _end(self) -> str:
        with self._ending:
            if self._ended:
                return "was ended"
            self._process.join(_END_SECONDS)
            code = self._process.exitcode
        if code is None:
            return f"did nothing for {START_SECONDS:g} s"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        """End the process, without waiting; whoever waits for it is told that it ended."""
        with contextlib.suppress(ValueError):  # it was given back
            self._process.kill()

    def end(self) -> None:
        """Wait for the end of a killed process, and give back what it held; once is enough."""
        with self._ending:
            if self._ended:
                return
            self._process.join(_END_SECONDS)
            if self._process.exitcode is not None:
                self._connection.close()
                self._process.close()
                self._ended = True


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let a process that starts inherit that Ctrl-C is not for it: the terminal sends it to all of them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would start with the process, and make this thread hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_picklable(recipe: Recipe) -> None:
    """Refuse what cannot be sent to another process."""

    class Nowhere:
        def write(self, data: Any) -> int:
            return memoryview(data).nbytes

    for name in ("source", "decode"):
        try:
            pickle.Pickler(Nowhere(), protocol=pickle.HIGHEST_PROTOCOL).dump(getattr(recipe, name))
        except Exception as error:
            raise ValueError(
                f"{name} cannot be sent to a reading process ({reason(error)}); use functions and classes that are "
                "defined at the top of a file and hold no open files, or read in threads with workers=0"
            ) from error


def _serve(connection: Connection, x64: bool) -> None:
    """What the process does: read the batches that are asked for until nobody asks."""
    jax.config.update("jax_enable_x64", x64)  # what a number may be depends on it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which then ends this process
    _end_with_parent()

    def send(number: int) -> None:
        connection.send_bytes(_NUMBER.pack(number))

    with contextlib.suppress(EOFError, OSError):
        send(_READY)
        recipe = pickle.loads(connection.recv_bytes())
        send(_READY)
        while True:
            indices = np.frombuffer(connection.recv_bytes(), np.int64)
            try:
                batch = read_batch(recipe, indices, send)
            except DataError as error:
                send(_FAILED)
                connection.send_bytes(json.dumps([str(error), traceback.format_exc()]).encode())
                continue
            send(_BATCH)
            for part in batch:
                connection.send_bytes(json.dumps([part.shape, part.dtype.name]).encode())
                if part.nbytes:
                    connection.send_bytes(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)


def _end_with_parent() -> None:
    """End when the parent does, however it does; on Linux even while code that is not Python's hangs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":
        import fcntl

        # The sentinel is a pipe into which nobody writes: its end is told by SIGIO, which ends a process.
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
