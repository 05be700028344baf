"""How long a compiled function takes."""

import time
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["seconds_of"]


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    """Of one call: the quickest of three, after one that compiles.

    >>> print(seconds_of(jax.jit(lambda x: x + 1), 1.0) < 1)
    True
    """
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - began)
    return min(seconds)
