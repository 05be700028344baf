"""Many hosts: processes that train one network together find each other, and notice when one of them is gone.

JAX ends a process in which anything goes wrong with the others, in words that are not meant for whoever started it. So
the processes call the roll before JAX starts, and keep these connections: a process that ends closes its own, one that
hangs falls silent, and one that has finished says so and waits for the others.
"""

import atexit
import contextlib
import inspect
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TextIO, TypeVar

import jax

from jaxnn import _peers
from jaxnn._checks import check_size
from jaxnn._peers import Peers

__all__ = [
    "PeerLostError",
    "at_end",
    "call",
    "check_roll",
    "leave",
    "loss_heard",
    "lost",
    "parting",
    "quiet_libraries",
    "start",
    "waiting",
]

Result = TypeVar("Result")

SECONDS_TO_ANSWER = 60  # until process 0 must have been started
SECONDS_TO_GATHER = 300  # until the last process must have been
SECONDS_TO_GREET = 5
SECONDS_OF_JAX = 600  # until JAX ends all processes when one is gone: as long may saving what was learned take
_LONGEST_LINE = 200


class PeerLostError(RuntimeError):
    """Another process of the run has ended or hangs."""


def start(coordinator: str, processes: int | None = None, process_id: int | None = None) -> None:
    """Join the processes that train together; afterwards `jax.devices()` are those of all of them.

    Called first of all in each process, before anything computes, with the same `coordinator` and `processes`. When one
    of them is gone, ended or silent for 40 seconds, `runner.train` returns in the others what the finished epochs have
    learned, as after Ctrl-C; so is one that has finished while the others wait for it for 10 seconds. What else waits
    for it, in `waiting`, is ended after 10 seconds with a sentence on stderr and status 1; and so is, at once, every
    process when process 0 is gone, without which JAX cannot go on.

    Args:
        coordinator: `HOST:PORT` of process 0, a free port there that all can reach; or "auto" on Slurm, Open MPI and
            cloud TPUs, where JAX finds all three by itself. There it is JAX that ends who waits for a lost process.
        processes: how many there are.
        process_id: which this one is, from 0.

    Raises:
        TypeError, ValueError: arguments that do not fit, or "auto" where nothing can be found.
        ConnectionError: process 0 does not answer, or the others do not come.
        RuntimeError: JAX has computed something already.

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
            jax.distributed.initialize(heartbeat_timeout_seconds=_peers.SECONDS_OF_SILENCE)
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
    _roll = Peers(peers, processes, process_id)
    try:
        with waiting():
            name = "shutdown_timeout_seconds"  # JAX 0.7 has no such limit
            takes = inspect.signature(jax.distributed.initialize).parameters
            limits: dict[str, Any] = {name: SECONDS_TO_ANSWER} if name in takes else {}
            jax.distributed.initialize(
                coordinator,
                processes,
                process_id,
                cluster_detection_method="deactivate",
                initialization_timeout=SECONDS_TO_ANSWER,
                heartbeat_timeout_seconds=SECONDS_OF_JAX,
                **limits,
            )
    except BaseException as error:
        _roll.part()
        _roll = None
        if "must be called before" in str(error):
            raise RuntimeError("hosts.start must come before anything that JAX computes") from None
        raise
    atexit.register(_at_exit)


def leave(*, failed: bool = False) -> None:
    """Part from the others: when all have come to this, or at once where this process has `failed` or one is lost.

    It waits for them as long as they work. The end of the program does it too, and after a loss with status 1.
    """
    global _roll
    if _roll is None:
        if jax.distributed.is_initialized() and not failed:
            jax.distributed.shutdown()
        return
    if failed or _roll.closed or not _roll.farewell():
        _roll.part()
        return
    try:
        jax.distributed.shutdown()  # it waits for all, and all are here
    finally:
        _roll.close()
        _roll = None
        atexit.unregister(_at_exit)


def _at_exit() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        leave()
    if _roll is None:
        return
    # JAX would wait here for those who do not come.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _roll.end(quietly=_roll.told)


def parting() -> None:
    """From now on this process speaks for itself: the loss of process 0 does not end it before it does."""
    if _roll is not None:
        _roll.parting = True


def lost(within: float | int = 0) -> PeerLostError | None:
    """Who is gone, if it is known now or `within` seconds."""
    if _roll is None:
        return None
    _roll.gone.wait(within)
    if _roll.lost is None:
        return None
    _roll.told = True
    return PeerLostError(_roll.lost)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Around what waits for the other processes: where one of them is gone, 10 seconds of it end this process."""
    roll, began = _roll, time.monotonic()
    if roll is None:
        yield
        return
    roll.waits.append(began)
    try:
        yield
    finally:
        roll.waits.remove(began)


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
    with waiting():
        while True:
            with contextlib.suppress(TimeoutError):
                return outcome.result(timeout=0.1)
            if outcome.done():  # just now, or with such an error of its own
                return outcome.result()
            gone = lost()
            if gone is not None:
                raise gone
            if _roll is not None and _roll.event is not None and _roll.event.is_set():
                raise KeyboardInterrupt


def quiet_libraries(*, errors: bool = True) -> None:
    """Let nothing but Python write to stdout, where gloo greets, and to stderr, where JAX tells of a loss in C++."""
    sys.stdout = _python_alone(sys.stdout, 1)
    if errors:
        sys.stderr = _python_alone(sys.stderr, 2)
        _peers.STDERR = sys.stderr.fileno()


def _python_alone(stream: TextIO, number: int) -> TextIO:
    stream.flush()
    alone = os.fdopen(os.dup(number), "w", encoding=stream.encoding, errors="replace", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return alone


def at_end(clean_up: Callable[[], object]) -> None:
    """Call it where this process is ended because another one is gone."""
    _peers.AT_END.append(clean_up)


@contextlib.contextmanager
def loss_heard(event: threading.Event) -> Iterator[None]:
    """Set the event when a process is gone."""
    roll = _roll
    if roll is None:
        yield
        return
    roll.event = event
    if roll.lost is not None:
        event.set()
    try:
        yield
    finally:
        roll.event = None


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
    both = socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server(
            ("", address[1]), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
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
            try:
                theirs, number = json.loads(_read_line(peer, SECONDS_TO_GREET))
                if type(theirs) is not int or type(number) is not int:
                    raise TypeError
            except (OSError, ValueError, TypeError):
                peer.close()  # none of us
                continue
            for ended in [other for other, known in peers.items() if not _is_open(known)]:
                peers.pop(ended).close()  # it may be started again
            refusal = None
            if theirs != processes:
                refusal = f"process {number} was told of {theirs} processes, and process 0 of {processes}"
            elif not 0 < number < processes or number in peers:
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
        answer = _read_line(peer, SECONDS_TO_GATHER + 10)
    except (OSError, ValueError):
        answer = ""
    if answer != "go":
        peer.close()
        raise ConnectionError(answer or f"{where} was there, and is gone: process 0 has ended, or it is no process 0")
    return peer


def _read_line(peer: socket.socket, seconds: float | int) -> str:
    until = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        peer.settimeout(max(1e-3, until - time.monotonic()))
        byte = peer.recv(1)
        if not byte or len(line) > _LONGEST_LINE or time.monotonic() > until:
            raise ValueError("no line")
        line += byte
    return line.decode().strip()


def _is_open(peer: socket.socket) -> bool:
    timeout = peer.gettimeout()
    peer.setblocking(False)
    try:
        return peer.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        peer.settimeout(timeout)


_roll: Peers | None = None
