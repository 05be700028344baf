"""Ctrl-C and SIGTERM while XLA computes: noted, and heard where nothing is lost by it."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import jax

__all__ = ["Interrupts", "Terminated", "is_ready", "noted_interrupts", "terminate", "wait"]


class Terminated(KeyboardInterrupt):
    """SIGTERM: a cluster, or the system, wants the program to end."""


class Interrupts(threading.Event):
    """What was noted: an event, set by Ctrl-C or SIGTERM."""

    first: signal.Signals | None = None
    """Which one came first, of several."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; Ctrl-C after another one is raised."""
        if self.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.is_set():
            self.first = signal.Signals(number)
        self.set()

    def error(self) -> KeyboardInterrupt:
        """What would have been raised if it had not been noted."""
        return Terminated() if self.first is signal.SIGTERM else KeyboardInterrupt()


def terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Raise SIGTERM as Python raises Ctrl-C, so that what was begun is put in order; a handler."""
    raise Terminated


@contextlib.contextmanager
def noted_interrupts() -> Iterator[Interrupts]:
    """Note Ctrl-C and SIGTERM instead of ending by them: an exception that falls into a callback of JAX's is lost.

    A second Ctrl-C is raised. A handler of somebody else's stays, and within such a block the same is noted for all.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interrupts()
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for handler in before.values():
        if isinstance(handler, Interrupts):
            yield handler
            return
    noted = Interrupts()
    taken = [number for number, handler in before.items() if handler in _OURS]
    for number in taken:
        signal.signal(number, noted)
    try:
        yield noted
    finally:
        for number in taken:
            signal.signal(number, before[number])


_OURS = (signal.default_int_handler, signal.SIG_DFL, terminate)


def wait(values: Any, heard: threading.Event, gives_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait for a computation with short sleeps, for blocked inside JAX Python hears nothing; whether it is there.

    Raises:
        KeyboardInterrupt: `heard` is set.
    """
    pause = 1e-4
    while True:
        if heard.is_set():
            raise KeyboardInterrupt
        if is_ready(values):
            # What has failed, for want of memory say, is ready too: this raises, where making NumPy's of it can hang.
            jax.block_until_ready(values)
            return True
        if gives_up():
            return False
        time.sleep(pause)
        pause = min(1.2 * pause, 0.002)


def is_ready(values: Any) -> bool:
    """Whether all of it has been computed."""
    leaves: list[Any] = [leaf for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.Array)]
    return all(leaf.is_ready() for leaf in leaves)
