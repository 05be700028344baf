"""The rate at which the machine moves memory, which floors of work without arithmetic are reckoned with."""

from collections.abc import Callable

import numpy as np

from benchmarks.products import shortest
from benchmarks.row import Contender, Row, Run

SIZE = 2**25  # numbers of 4 bytes: far more than any cache holds


def row() -> Row:
    """Not in the table; the value of a run is the rate itself, in bytes per second."""
    return Row(
        group="memory",
        name="memory",
        work="b <- a + b",
        unit="s a run",
        units=1,
        operations=0,
        contenders={"XLA": Contender(xla), "PyTorch": Contender(pytorch, ("torch",))},
    )


def xla() -> Run:
    """XLA's sum, in place."""
    import jax

    add = jax.jit(lambda a, b: a + b, donate_argnums=1)
    a, b = (jax.numpy.array(np.ones(SIZE, np.float32)) for _ in range(2))

    def step() -> None:
        nonlocal b
        b = add(a, b).block_until_ready()

    return lambda: _rate(step)


def pytorch() -> Run:
    """PyTorch's sum, in place."""
    import torch

    a, b = torch.ones(SIZE), torch.ones(SIZE)
    return lambda: _rate(lambda: b.add_(a))


def _rate(step: Callable[[], object]) -> float:
    return 3 * 4 * SIZE / shortest(step)  # two arrays read, one written
