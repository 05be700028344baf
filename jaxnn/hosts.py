"""Many hosts: processes that train one network together find each other, and notice when one of them is gone.

JAX ends a process in which anything goes wrong with the others, in words that are not meant for whoever started it. So
the processes call the roll before JAX starts, and keep these connections: a process that ends closes its own, and one
that hangs falls silent.
"""

import atexit
import contextlib
import json
import os
import re
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import jax

from jaxnn._checks import check_size

__all__ = ["PeerLostError", "call", "check_roll", "leave", "loss_heard", "lost", "quiet_libraries", "start"]

Result = TypeVar("Result")

SECONDS_TO_ANSWER = 60  # until process 0 must have been started
SECONDS_TO_GATHER = 300  # until the last process must have been
SECONDS_OF_SILENCE = 40  # of a process that is alive
SECONDS_TO_REACT = 10  # to a loss, before the process is ended
_HEARTBEAT = 1.0
_LONGEST_LINE = 200


class PeerLostError(RuntimeError):
    """Another process of the run has ended or hangs."""


def start(coordinator: str, processes: int | None = None, process_id: int | None = None) -> None:
    """Join the processes that train together; afterwards `jax.devices()` are those of all of them.

    Called first of all in each process, before anything computes, with the same `coordinator` and `processes`. When one
    of them is gone, ended or silent for 40 seconds, `runner.train` returns in the others what the finished epochs have
    learned, as after Ctrl-C. What else waits for that process is ended after 10 seconds, with a sentence on stderr and
    status 1; and so is, at once, every process when process 0 is gone, without which JAX cannot go on.

    Args:
        coordinator: `HOST:PORT` of process 0, a free port there that all can reach; or "auto" on Slurm, Open MPI and
            cloud TPUs, where JAX finds all three by itself. There it is JAX that ends who waits for a lost process.
        processes: how many there are.
        process_id: which this one is, from 0.

    Raises:
        TypeError, ValueError: arguments that do not fit, or "auto" where nothing can be found.
        ConnectionError: process 0 does not answer, or the others do not come.

    ```python
    hosts.start("10.0.0.1:7777", processes=2, process_id=0)
    result = runner.train(..., batch_sharding=nn.data_parallel())
    hosts.leave()
    ```
    """
    global _roll
    address = check_roll(coordinator, processes, process_id)
    if address is None:
        try:
            jax.distributed.initialize(heartbeat_timeout_seconds=SECONDS_OF_SILENCE)
        except ValueError as error:
            raise ValueError(
                f"no cluster was found that says which processes there are ({error}); give the coordinator as "
                "HOST:PORT, with processes and process_id"
            ) from None
        return
    assert processes is not None and process_id is not None
    if _roll is not None:
        raise RuntimeError("hosts.start was called before: a process joins once")
    peers = _call_the_roll(address, processes) if process_id == 0 else {0: _answer(address, processes, process_id)}
    _roll = _Roll(peers, processes, process_id)
    atexit.register(_at_exit)
    jax.distributed.initialize(
        coordinator,
        processes,
        process_id,
        cluster_detection_method="deactivate",
        initialization_timeout=SECONDS_TO_ANSWER,
        heartbeat_timeout_seconds=3 * SECONDS_OF_SILENCE,  # ours are heard first
        shutdown_timeout_seconds=SECONDS_TO_ANSWER,
    )


def leave(*, failed: bool = False) -> None:
    """Part from the others: when all have come to this, or at once where this process has `failed` or lost one.

    The end of the program does it too. After a loss it ends with status 1.
    """
    global _roll
    if _roll is None:
        if jax.distributed.is_initialized() and not failed:
            jax.distributed.shutdown()
        return
    if failed or _roll.lost is not None:
        _roll.part()
        return
    jax.distributed.shutdown()
    _roll.done.set()
    _roll = None
    atexit.unregister(_at_exit)


def _at_exit() -> None:
    leave(failed=hasattr(sys, "last_value"))
    if _roll is not None:
        # JAX would wait here for those who do not come.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(1)


def lost(within: float | int = 0) -> PeerLostError | None:
    """Who is gone, if it is known now or `within` seconds. Whoever asks is not ended any more."""
    if _roll is None:
        return None
    _roll.heard_of.wait(within)
    if _roll.lost is None:
        return None
    _roll.reacted.set()
    return PeerLostError(_roll.lost)


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a compiled program of all hosts: when a process is gone, even to start the next one may wait without end.

    Raises:
        PeerLostError: a process is gone, and the call has not returned.
        KeyboardInterrupt: so is the event of `loss_heard` set.
    """
    if jax.process_count() == 1:
        return function(*arguments)
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            result = function(*arguments)
            if jax.default_backend() == "cpu":
                # Gloo mixes up what programs say to each other that run at the same time, as independent ones may.
                jax.block_until_ready(result)
            outcome.set_result(result)
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # no executor's: the end of the program waits for those
    while True:
        try:
            return outcome.result(timeout=0.1)
        except TimeoutError:
            if outcome.done():  # with such an error of its own
                raise
            gone = lost()
            if gone is not None:
                raise gone from None
            if _roll is not None and _roll.event is not None and _roll.event.is_set():
                raise KeyboardInterrupt from None


def quiet_libraries() -> None:
    """Let nothing but Python write to stdout: gloo greets there, in every process."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = stdout


@contextlib.contextmanager
def loss_heard(event: threading.Event) -> Iterator[None]:
    """Set the event when a process is gone."""
    if _roll is None:
        yield
        return
    _roll.tell(event)
    try:
        yield
    finally:
        _roll.tell(None)


def check_roll(coordinator: str, processes: int | None, process_id: int | None) -> tuple[str, int] | None:
    """Refuse what `start` cannot use; return host and port, or None for "auto".

    >>> print(check_roll("10.0.0.1:7777", 2, 0), check_roll("auto", None, None))
    ('10.0.0.1', 7777) None
    """
    if coordinator == "auto":
        if processes is not None or process_id is not None:
            raise ValueError("with the coordinator auto JAX finds processes and process_id by itself; leave them out")
        return None
    match = re.fullmatch(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>\d{1,5})", coordinator)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(f"coordinator must be HOST:PORT, such as 10.0.0.1:7777, or auto; got {coordinator!r}")
    if processes is None or process_id is None:
        raise ValueError("with a coordinator HOST:PORT both processes and process_id are needed")
    check_size("processes", processes)
    check_size("process_id", process_id, at_least=0)
    if process_id >= processes:
        raise ValueError(f"process_id is {process_id}, but {processes} processes are numbered 0 to {processes - 1}")
    return match["v6"] or match["host"], int(match["port"])


def _call_the_roll(address: tuple[str, int], processes: int) -> dict[int, socket.socket]:
    """In process 0: wait until all the others have said who they are."""
    peers: dict[int, socket.socket] = {}
    try:
        listening = socket.create_server(("", address[1]))
    except OSError as error:
        raise ConnectionError(
            f"process 0 cannot listen on port {address[1]} ({error.strerror}); choose another one for the coordinator"
        ) from None
    with listening:
        until = time.monotonic() + SECONDS_TO_GATHER
        while len(peers) < processes - 1:
            listening.settimeout(max(0.01, until - time.monotonic()))
            try:
                peer, _ = listening.accept()
            except TimeoutError:
                for peer in peers.values():
                    peer.close()
                missing = ", ".join(str(i) for i in range(1, processes) if i not in peers)
                raise ConnectionError(
                    f"of {processes} processes these have not come within {SECONDS_TO_GATHER} s: {missing}"
                ) from None
            peer.settimeout(5)
            try:
                theirs, number = json.loads(_read_line(peer))
            except (OSError, ValueError, TypeError):
                peer.close()  # none of us
                continue
            refusal = None
            if theirs != processes:
                refusal = f"process {number} was told of {theirs} processes, and process 0 of {processes}"
            elif number in peers or not 0 < number < processes:
                refusal = f"there is a process {number} already"
            if refusal is not None:
                with contextlib.suppress(OSError), peer:
                    peer.sendall(f"{refusal}\n".encode())
                continue
            peers[number] = peer
    # All of them are let go when nobody listens here any more: the port is JAX's from now on.
    for peer in peers.values():
        with contextlib.suppress(OSError):
            peer.sendall(b"go\n")
    return peers


def _answer(address: tuple[str, int], processes: int, process_id: int) -> socket.socket:
    """In every other process: tell process 0, and wait for the rest."""
    where = f"{address[0]}:{address[1]}"
    until = time.monotonic() + SECONDS_TO_ANSWER
    while True:
        try:
            peer = socket.create_connection(address, timeout=5)
            break
        except OSError as error:
            if time.monotonic() > until:
                raise ConnectionError(
                    f"nobody answers at {where} ({error.strerror or error}); is process 0 running there, and is that "
                    "port open to this host?"
                ) from None
        time.sleep(0.2)
    try:
        peer.sendall(f"{json.dumps([processes, process_id])}\n".encode())
        peer.settimeout(SECONDS_TO_GATHER + 10)
        answer = _read_line(peer)
    except (OSError, ValueError):
        answer = ""
    if answer != "go":
        peer.close()
        raise ConnectionError(answer or f"{where} was there, and is gone: process 0 has ended, or it is no process 0")
    return peer


def _read_line(peer: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n"):
        byte = peer.recv(1)
        if not byte or len(line) > _LONGEST_LINE:
            raise ValueError("no line")
        line += byte
    return line.decode().strip()


class _Roll:
    """The connections that are kept: of process 0 to all the others."""

    def __init__(self, peers: dict[int, socket.socket], processes: int, process_id: int) -> None:
        self._peers = peers
        self._processes = processes
        self._process_id = process_id
        self.event: threading.Event | None = None
        self.lost: str | None = None
        self.heard_of = threading.Event()  # a loss
        self.reacted = threading.Event()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="jaxnn-hosts", daemon=True)
        self.thread.start()

    def tell(self, event: threading.Event | None) -> None:
        self.event = event
        if event is not None and self.lost is not None:
            event.set()

    def part(self) -> None:
        """Let the others know, and if they depend on this process wait a moment until they have ended."""
        self.reacted.set()
        self.done.set()
        for peer in self._peers.values():
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
        if self._process_id == 0:
            until = time.monotonic() + 2
            for peer in self._peers.values():
                with contextlib.suppress(OSError):
                    peer.settimeout(max(0.01, until - time.monotonic()))
                    while peer.recv(_LONGEST_LINE):
                        pass

    def _watch(self) -> None:
        heard = dict.fromkeys(self._peers, time.monotonic())
        with selectors.DefaultSelector() as selector:
            for number, peer in self._peers.items():
                peer.setblocking(False)
                selector.register(peer, selectors.EVENT_READ, number)
            beat = 0.0
            while not self.done.is_set():
                for key, _ in selector.select(timeout=_HEARTBEAT):
                    number = key.data
                    try:
                        said = self._peers[number].recv(_LONGEST_LINE)
                    except BlockingIOError:
                        continue
                    except OSError:
                        said = b""
                    if not said:
                        self._lose(number, "has ended")
                        return
                    heard[number] = time.monotonic()
                now = time.monotonic()
                if now - beat < _HEARTBEAT:
                    continue
                for number, peer in self._peers.items():
                    if now - heard[number] > SECONDS_OF_SILENCE:
                        self._lose(number, f"has been silent for {SECONDS_OF_SILENCE} s")
                        return
                    with contextlib.suppress(OSError):  # reading will tell
                        peer.send(b".")
                beat = now

    def _lose(self, number: int, how: str) -> None:
        if self.done.is_set():
            return
        self.lost = f"process {number} of {self._processes} is gone: it {how}, and the others cannot go on without it"
        if number == 0:
            self._end()
        self.heard_of.set()
        if self.event is not None:
            self.event.set()
        until = time.monotonic() + SECONDS_TO_REACT
        while time.monotonic() < until:
            if self.reacted.is_set() or self.done.is_set():
                return
            time.sleep(0.05)
        self._end()

    def _end(self) -> None:
        # Below Python's own stream: the main thread may hold its lock.
        os.write(2, f"jaxnn: {self.lost}\n".encode())
        os._exit(1)


_roll: _Roll | None = None
