"""Ctrl-C while XLA computes: noted, and heard where nothing is lost by it."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax

__all__ = ["is_ready", "noted_interrupts", "wait"]


@contextlib.contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Note Ctrl-C instead of raising it: an exception that falls into a callback of JAX's is lost.

    The second one is raised.
    """
    heard = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if heard.is_set():
            signal.default_int_handler(number, frame)
        heard.set()

    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield heard
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def wait(values: Any, heard: threading.Event) -> None:
    """Wait for a computation with short sleeps, and end the wait on Ctrl-C: blocked inside JAX, Python hears none."""
    pause = 1e-4
    while True:
        if heard.is_set():
            raise KeyboardInterrupt
        if is_ready(values):
            return
        time.sleep(pause)
        pause = min(1.2 * pause, 0.002)


def is_ready(values: Any) -> bool:
    """Whether all of it has been computed."""
    leaves: list[Any] = [leaf for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.Array)]
    return all(leaf.is_ready() for leaf in leaves)
