"""The machine's rate of matrix products in float32, which floors are reckoned with."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.row import Contender, Row, Run

SIZES = (512, 1024, 2048)
REPEATS = 5


def row() -> Row:
    """Not in the table; the value of a run is the rate itself, in operations per second."""
    return Row(
        group="products",
        name="products",
        work="products of square matrices",
        unit="s a run",
        units=1,
        operations=0,
        contenders={"XLA": Contender(xla), "PyTorch": Contender(pytorch, ("torch",))},
    )


def xla() -> Run:
    """XLA's products."""
    import jax

    product = jax.jit(lambda a, b: a @ b)
    matrices = [jax.numpy.asarray(_matrix(size)) for size in SIZES]
    return lambda: max(_rate(lambda a: product(a, a).block_until_ready(), a) for a in matrices)


def pytorch() -> Run:
    """PyTorch's products, into memory that is there already."""
    import torch

    matrices = [torch.from_numpy(_matrix(size)) for size in SIZES]
    results = [torch.empty_like(a) for a in matrices]
    return lambda: max(
        _rate(lambda a, out=out: torch.mm(a, a, out=out), a) for a, out in zip(matrices, results, strict=True)
    )


def _matrix(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)


def _rate(product: Callable[[Any], Any], a: Any) -> float:
    return 2 * len(a) ** 3 / shortest(lambda: product(a))


def shortest(step: Callable[[], object]) -> float:
    """Seconds of the shortest of several runs, after one that warms up."""
    step()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
