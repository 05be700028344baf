"""The connections between the processes of a run: what they tell each other while they are alive."""

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["Peers"]

SECONDS_OF_SILENCE = 40  # of a process that is alive
SECONDS_TO_REACT = 10  # for who waits for a process that is gone or has finished
HEARTBEAT = 1.0
_AT_ONCE = 4096  # bytes that are read

STDERR = 2  # where to say why the process is ended
AT_END: list[Callable[[], object]] = []  # and what to do before


class Peers:
    """The connections that are kept, of process 0 to all the others, and the thread that listens to them.

    Each message is a line. An empty one says that a process is alive, "done" that it has come to its end, and "bye",
    of process 0, that all have. Any other is the sentence about a loss, which process 0 tells all the others.
    """

    def __init__(self, peers: dict[int, socket.socket], processes: int, process_id: int) -> None:
        now = time.monotonic()
        self._peers = peers
        self._processes = processes
        self._process_id = process_id
        self._heard = dict.fromkeys(peers, now)
        self._rest = dict.fromkeys(peers, b"")
        self._done: dict[int, float] = {}  # who has come to the end, and when
        self._bye = False
        self.closed = False
        self._lost_at = 0.0
        self.lost: str | None = None
        self.gone = threading.Event()  # somebody is lost
        self.event: threading.Event | None = None  # of `loss_heard`
        self.told = False  # of it, by `lost`
        self.parting = False  # what this process does and says is its own, without the others
        self.waits: list[float] = []  # since when something has been waiting for the others
        self.thread = threading.Thread(target=self._watch, name="jaxnn-hosts", daemon=True)
        self.thread.start()

    def farewell(self) -> bool:
        """Come to the end, and wait without limit until all have; False after a loss."""
        self.parting = True
        if self.lost is None:
            self._say("done")
        while self.lost is None and not (self._bye if self._process_id else len(self._done) == self._processes - 1):
            time.sleep(0.02)
        if self._process_id == 0:
            ended = sorted(self._done.keys() - self._peers.keys())
            if ended:
                self._lose(ended[0], "has ended")  # no loss before; but JAX would wait for it now
            elif self.lost is None:
                self._say("bye")
        return self.lost is None

    def part(self) -> None:
        """Leave without the others, and tell them why; process 0 gives them time, for JAX in them depends on it."""
        if self.closed:
            return
        self.parting = True
        self._say(self.lost or self._sentence(self._process_id, "has stopped early"))
        until = time.monotonic() + SECONDS_TO_REACT + 1
        while self._process_id == 0 and self._peers and time.monotonic() < until:
            time.sleep(0.02)
        self.close()

    def close(self) -> None:
        self.closed = True
        for peer in list(self._peers.values()):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def end(self, *, quietly: bool = False) -> None:
        """End the process, with a sentence."""
        if self.lost is not None and not quietly:
            # Below Python's own stream: the main thread may hold its lock.
            with contextlib.suppress(OSError):
                os.write(STDERR, f"jaxnn: {self.lost}\n".encode())
        for clean_up in AT_END:
            with contextlib.suppress(Exception):
                clean_up()
        os._exit(1)

    def _sentence(self, number: int, how: str) -> str:
        return f"process {number} of {self._processes} is gone: it {how}, and the others cannot go on without it"

    def _say(self, line: str) -> None:
        for peer in list(self._peers.values()):
            with contextlib.suppress(OSError):  # reading will tell
                peer.send(f"{line}\n".encode())

    def _watch(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                self._listen(selector)
        except BaseException as error:  # nobody would notice a loss any more
            self.lost = self.lost or f"the watch over the other processes has failed: {error!r}"
            self.end()
        for peer in self._peers.values():
            peer.close()

    def _listen(self, selector: selectors.BaseSelector) -> None:
        for number, peer in self._peers.items():
            peer.setblocking(False)
            selector.register(peer, selectors.EVENT_READ, number)
        beat = 0.0
        while True:
            ended: dict[int, str] = {}
            for key, _ in selector.select(timeout=HEARTBEAT):
                if not self._read(key.data):
                    ended[key.data] = "has ended"
            now = time.monotonic()
            for number in self._peers.keys() - ended.keys():
                if now - self._heard[number] > SECONDS_OF_SILENCE:
                    ended[number] = f"has been silent for {SECONDS_OF_SILENCE} s"
            if self.closed:
                return
            for number, how in ended.items():
                selector.unregister(self._peers[number])
                self._peers.pop(number).close()
                if not (self._bye if number == 0 else number in self._done):
                    self._lose(number, how)
                if number == 0 and not self.parting:
                    self.end()
            if now - beat >= HEARTBEAT:
                beat = now
                self._say("")
                self._check_waits(now)

    def _read(self, number: int) -> bool:
        """Hear what a process says; whether its connection is open still."""
        try:
            said = self._peers[number].recv(_AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._heard[number] = time.monotonic()
        *lines, self._rest[number] = (self._rest[number] + said).split(b"\n")
        for line in lines:
            if line in (b"done", b"bye"):
                self._done.setdefault(number, self._heard[number])
                self._bye = self._bye or line == b"bye"
            elif line:
                self._hear_of_loss(line.decode(errors="replace"))
        return said != b""

    def _check_waits(self, now: float) -> None:
        """Let nothing wait without end for a process that is gone, or has come to its end."""

        def in_vain(since: float) -> bool:
            return any(now - max(began, since) > SECONDS_TO_REACT for began in list(self.waits))

        if self.lost is not None:
            if in_vain(self._lost_at) and not self.parting:
                self.end()
            return
        for number, since in self._done.items():
            if in_vain(since):
                self._lose(number, "has finished, before the others have")
                return

    def _lose(self, number: int, how: str) -> None:
        self._hear_of_loss(self._sentence(number, how))

    def _hear_of_loss(self, sentence: str) -> None:
        if self.lost is not None:
            return
        self.lost, self._lost_at = sentence, time.monotonic()
        if self._process_id == 0:
            self._say(sentence)
        self.gone.set()
        if self.event is not None:
            self.event.set()
