"""Trainings that are killed at random moments, and go on to the same bits.

The short part kills two kinds of training once; the long one, marked slow, each kind 70 times.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnn.checkpoint import read_history
from jaxnn.checkpoint_folder import checkpoints_in
from tests.crashing import STEPS

KINDS = ["mlp", "convnet", "stream"]
# Little optimized, they compile faster; a run and its continuation are compiled alike.
ENVIRONMENT = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}


def start(*arguments):
    command = [sys.executable, "-m", "tests.crashing", *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], env=ENVIRONMENT, stdout=subprocess.PIPE)


def killed(kind, epochs, folder, result, rng):
    """Start a training, or go on with it, and kill it after a random while; whether it was killed before its end.

    Most moments are counted from the first epoch that this process has trained, the others from its start.
    """
    process = start(kind, epochs, folder, result)
    said = b""
    if rng.random() < 0.9:
        said = process.stdout.readline()
        time.sleep(rng.exponential(0.15))
    else:
        time.sleep(rng.uniform(0, 4))
    # Half of the time in the middle of a save, as nearly as that can be seen from here.
    number = signal.SIGKILL if rng.random() < 0.8 else rng.choice([signal.SIGTERM, signal.SIGINT])
    if rng.random() < 0.5:
        until = time.monotonic() + 0.5
        while not list(folder.glob(".unfinished-*")) and time.monotonic() < until:
            pass
    process.send_signal(number)
    said += process.stdout.read()
    status = process.wait()
    process.stdout.close()
    check(folder, said.decode(), status)
    return b"ended None" not in said


def check(folder, said, status):
    """All checkpoints are whole, and the newest is no older than is promised."""
    reported = [int(epoch) for epoch in re.findall(r"epoch (\d+)\n", said)]
    newest = 0
    for path in checkpoints_in(folder):
        history, tensors, about = read_history(path)
        assert int(tensors["step"]) == len(history.loss) == STEPS * about["epoch"] + about["batch"]
        newest = int(tensors["step"])
    assert len(checkpoints_in(folder)) <= 4  # two, the best, and one that could not be removed yet
    if status == 0 and reported:
        assert newest >= STEPS * reported[-1]  # ended by itself, or by a signal that it heard
    elif reported:
        # That of the epoch before may not be begun yet, and the one before that not be written.
        assert newest >= STEPS * (reported[-1] - 2)


def same(one, other):
    with np.load(one) as ours, np.load(other) as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            assert ours[name].tobytes() == theirs[name].tobytes(), name


def crash(kind, tmp_path, kills, seed, epochs):
    folder, result, whole = tmp_path / "checkpoints", tmp_path / "result.npz", tmp_path / "whole.npz"
    reference = start(kind, epochs, "-", whole)
    rng = np.random.default_rng(seed)
    done = 0
    while done < kills:
        if killed(kind, epochs, folder, result, rng):
            done += 1
        else:
            reference.stdout.read()
            same(whole, result)
            shutil.rmtree(folder)
    last = start(kind, epochs, folder, result)
    said = last.stdout.read()
    assert last.wait() == 0, said
    assert said.endswith(b"ended None\n")
    reference.stdout.read()
    assert reference.wait() == 0
    for process in (last, reference):
        process.stdout.close()
    same(whole, result)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "convnet")) for kind in KINDS])
def test_a_killed_training_goes_on_to_the_same_bits(kind, tmp_path):
    crash(kind, tmp_path, kills=1, seed=KINDS.index(kind), epochs=60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_seventy_times(kind, tmp_path):
    crash(kind, tmp_path, kills=70, seed=100 + KINDS.index(kind), epochs=600)
