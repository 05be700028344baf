"""The same seed, machine, versions and number of devices: the same bits, for every model and every optimizer.

In this process each run is compiled anew; the slow test starts two processes side by side, as two days would.
`python -m tests.test_reproducible` prints a digest for each case.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import models, runner
from jaxnn.config import OPTIMIZERS

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 12, 12, 1)).astype(np.float32)
LABELS = nn.data.Dataset(X, RANDOM.integers(0, 3, 60).astype(np.int32))
SIGNS = nn.data.Dataset(X[:, 0, :, 0], np.sign(X[:, 0, :1, 0]))
NUMBERS = nn.data.Dataset(X[:, 0, :, 0], X[:, 0, :1, 0])


def augment(key, x):
    """Every second picture, drawn at random, mirrored."""
    return jax.numpy.where(jax.random.bernoulli(key, shape=(len(x), 1, 1, 1)), x[:, :, ::-1], x)


def jitter(key, x):
    return x + 0.1 * jax.random.normal(key, x.shape, x.dtype)


# Every model and every optimizer at least once; dropout, batch norm and augmentation too.
CASES = {
    "linear regression, sgd": (nn.linear_regression(), "sgd", NUMBERS, nn.mean_squared_error, jitter),
    "perceptron, momentum": (nn.perceptron(), "momentum", SIGNS, nn.mean_squared_error, None),
    "two-layer net, nesterov": (nn.two_layer_net(8, 3), "nesterov", LABELS, nn.softmax_cross_entropy, augment),
    "mlp, adagrad": (nn.mlp([8, 8], 3, dropout=0.3), "adagrad", LABELS, nn.softmax_cross_entropy, augment),
    "mlp, rmsprop": (nn.mlp([8], 3, batch_norm=True), "rmsprop", LABELS, nn.softmax_cross_entropy, None),
    "mlp, adamw": (nn.mlp([8], 3, activation=nn.tanh), "adamw", LABELS, nn.softmax_cross_entropy, None),
    "mlp, lion": (nn.mlp([8], 3), "lion", LABELS, nn.softmax_cross_entropy, jitter),
    "simple convnet, muon": (
        nn.simple_convnet(3, filters=4, filter_size=3, hidden_size=8), "muon", LABELS, nn.softmax_cross_entropy, augment
    ),
    "convnet, adam": (
        nn.convnet(3, blocks=((4,), (8,)), dropout=0.2), "adam", LABELS, nn.softmax_cross_entropy, augment
    ),
}  # fmt: skip
QUICK = ("mlp, adagrad",)


def digest(case):
    model, optimizer, data, loss, change = CASES[case]
    result = runner.train(
        model, loss, OPTIMIZERS[optimizer](0.01), data, key=jax.random.key(3), epochs=3, batch_size=10, augment=change,
        validation=data,
    )  # fmt: skip
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(result[:4]):
        content.update(np.asarray(leaf).tobytes())
    return content.hexdigest()


def test_all_are_there():
    assert {optimizer for _, optimizer, *_ in CASES.values()} == set(OPTIMIZERS)
    made = {"linear_regression", "perceptron", "two_layer_net", "mlp", "simple_convnet", "convnet"}
    assert made == set(models.__all__)


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES])
def test_the_same_bits_twice(case):
    with jax.numpy_rank_promotion("allow"):
        assert digest(case) == digest(case)


@pytest.mark.slow
def test_the_same_bits_in_two_processes():
    command = [sys.executable, "-m", "tests.test_reproducible"]
    pipes = {"stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[1]}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        ours, theirs = one.communicate()[0], other.communicate()[0]
    assert ours == theirs
    assert len(set(ours.splitlines())) == len(CASES)


if __name__ == "__main__":
    for case in CASES:
        print(digest(case))
