"""A training to be killed: `python -m tests.crashing KIND EPOCHS FOLDER RESULT`; - for FOLDER saves nothing.

It says each epoch when it is measured, and writes what it has learned, of which every bit counts, to RESULT.
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn
from jaxnn import programs, runner, stream_programs

SEED = np.random.default_rng(0)
X = SEED.normal(size=(70, 8, 8, 2)).astype(np.float32)
DATA = nn.data.Dataset(X, SEED.integers(0, 3, 70).astype(np.int32))
VALIDATION = nn.data.Dataset(X[:20] + 0.1, DATA.y[:20])
STEPS = 7


def settings(kind):
    """Three ways to train, of which each step depends on all that came before."""
    if kind == "mlp":
        return {
            "model": nn.mlp([16], 3, dropout=0.3),
            "optimizer": nn.adam(0.003),
            "train": DATA,
            "validation": VALIDATION,
        }
    if kind == "convnet":
        # Chunks of 3, 3 and 1 steps.
        programs.OPERATIONS = 1.0
        programs.choose_chunk = lambda *_: 3
        return {
            "model": nn.sequential(
                nn.conv2d(3, 3), nn.batch_norm(), nn.activation(nn.relu), nn.max_pool2d(2), nn.flatten(), nn.dense(3)
            ),
            "optimizer": nn.momentum(0.003),
            "train": DATA,
            "validation": VALIDATION,
            "augment": lambda key, x: x + 0.1 * jax.random.normal(key, x.shape, x.dtype),
        }
    # Chunks of as many steps as were read in time.
    stream_programs.SECONDS_OF_READING = 0.002
    return {
        "model": nn.mlp([16], 3, batch_norm=True),
        "optimizer": nn.rmsprop(0.003),
        "train": nn.data.stream(range(70), decode=lambda i: (X[i], DATA.y[i])),
        "validation": nn.data.stream(VALIDATION),
        "preprocess": lambda x: jnp.tanh(x),
    }


def main(kind, epochs, folder, result):
    """Train, from where the folder's checkpoints are."""
    keep = None
    if folder != "-":
        keep = nn.Checkpoints(folder, seconds=0, best="validation/loss", resume=True, config={"kind": kind})
    run = settings(kind)
    learned = runner.train(
        run.pop("model"),
        nn.softmax_cross_entropy,
        run.pop("optimizer"),
        run.pop("train"),
        key=jax.random.key(0),
        epochs=int(epochs),
        batch_size=10,
        report=lambda told: os.write(1, f"epoch {told.epoch}\n".encode()),
        checkpoints=keep,
        **run,
    )
    if learned.interrupted is None:
        np.savez(result, *map(np.asarray, jax.tree.leaves(learned[:4])))
    os.write(1, f"ended {learned.interrupted}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
