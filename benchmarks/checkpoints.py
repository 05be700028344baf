"""What checkpoints cost a training: the same run with one after every epoch, written beside it, and without any.

A minute lies between two by default; here it is a second or two, so this is thirty times worse than what a user sees.
A checkpoint holds the parameters and Adam's two moments of 1.9 million weights, 22 MB. The value is the mean loss of
the last epoch.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.row import OURS, Contender, Row, Run

WIDTH, BATCH, EXAMPLES = 1024, 100, 20_000
PRODUCTS = 784 * WIDTH + WIDTH * WIDTH + WIDTH * 10


def rows(quick: bool) -> list[Row]:
    """One run, its epochs as the unit."""
    epochs = 2 if quick else 10
    return [
        Row(
            group="checkpoints",
            name="checkpoints",
            work="an epoch of 784-1024-1024-10 with Adam, and a checkpoint of 22 MB after it",
            unit="ms an epoch",
            units=epochs,
            operations=2 * EXAMPLES * (3 * PRODUCTS - 784 * WIDTH),
            contenders={
                OURS: Contender(functools.partial(jaxnn, epochs, saves=True)),
                "without checkpoints": Contender(functools.partial(jaxnn, epochs, saves=False)),
            },
            target=1.05,
            rounds=3,
        )
    ]


def jaxnn(epochs: int, *, saves: bool) -> Run:
    """`runner.train`, whose compilation is in the time of both."""
    import jax

    import jaxnn as nn
    from jaxnn import runner

    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 784)).astype(np.float32)
    data = nn.data.Dataset(x, random.integers(0, 10, EXAMPLES).astype(np.int32))

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            result = runner.train(
                nn.mlp([WIDTH, WIDTH], outputs=10),
                nn.softmax_cross_entropy,
                nn.adam(1e-4),
                data,
                key=jax.random.key(0),
                epochs=epochs,
                batch_size=BATCH,
                metrics={},
                checkpoints=nn.Checkpoints(Path(folder, "checkpoints"), seconds=0) if saves else None,
            )
        return float(result.history.loss[-EXAMPLES // BATCH :].mean())

    return run
