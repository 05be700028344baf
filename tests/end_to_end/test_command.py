"""The command as a person runs it: a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

COMMAND = [sys.executable, "-m", "jaxnn.cli"]


def run(*arguments, cwd):
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow  # the gate does the same
def test_one_command_from_nothing_to_a_trained_network(tmp_path):
    done = run("train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert float(re.search(r"test accuracy: ([\d.]+)", done.stdout)[1]) >= 0.97
    assert "epoch 30/30" in done.stdout, "plain lines where the output is no terminal"
    assert "\x1b" not in done.stdout
    assert "to compile" in done.stdout
    assert "next    jaxnn predict runs/digits-mlp-001" in done.stdout
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-mlp-001"]


def interrupted(arguments, seen, number, cwd):
    """Start a run, send a signal once a line has been seen, and return what it said and its status."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, *arguments], cwd=cwd, env=environment, **pipes) as process:
        try:
            for line in process.stdout:
                if seen in line:
                    break
            time.sleep(0.3)
            process.send_signal(number)
            _, complaint = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, complaint


def test_ctrl_c_says_what_was_saved(tmp_path):
    status, said = interrupted(["train", "--epochs", "100000"], "epoch 1/", signal.SIGINT, tmp_path)
    assert status == 130, said
    epoch, folder = re.fullmatch(
        r"jaxnn: stopped by Ctrl-C after epoch (\d+) of 100000, step \d+; all of it is saved in (\S+): go on with "
        r"jaxnn train --resume \2\n",
        said,
    ).groups()
    run_folder = tmp_path / folder
    assert (
        f"epochs: {epoch} of 100000, stopped after step {12 * int(epoch)} (Ctrl-C)"
        in (run_folder / "summary.txt").read_text()
    )
    assert len((run_folder / "metrics.csv").read_text().splitlines()) == int(epoch) + 1
    measured = run("evaluate", folder, cwd=tmp_path)
    assert float(measured.stdout.split("test accuracy: ")[1].split()[0]) > 0.8


@pytest.mark.slow
def test_sigterm_ends_it_at_any_moment(tmp_path):
    """A cluster's last warning: while JAX is imported, data read, programs compiled, a network trained."""
    for number, seconds in enumerate((0.2, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0)):
        with subprocess.Popen(
            [*COMMAND, "train", "--epochs", "100000", "--out", f"run{number}"], cwd=tmp_path, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            time.sleep(seconds)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        assert process.returncode in (143, -15), said
        if "saved in" in said:
            assert list((tmp_path / f"run{number}" / "checkpoints").glob("step-*.safetensors"))
        else:
            assert not (tmp_path / f"run{number}").exists()


def test_ctrl_c_before_the_first_epoch_leaves_nothing(tmp_path):
    status, said = interrupted(["train", "--epochs", "100000"], "method", signal.SIGINT, tmp_path)
    assert status == 130, said
    if "nothing was saved" in said:  # else the machine was so fast that an epoch was done
        assert list(tmp_path.iterdir()) == []


LOSES_CTRL_C = """
import os, signal, sys, time
from jaxnn import cli

class Collected:
    def __del__(self):  # what is raised in here, Python reports and forgets
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)

def command(is_json):
    Collected()
    time.sleep(600)
    return 0

cli._models = command
sys.argv[1:] = ["models"]
cli.entry()
"""


def test_ctrl_c_that_falls_into_a_callback_is_not_lost(tmp_path):
    script = [sys.executable, "-c", LOSES_CTRL_C]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "jaxnn: stopped by Ctrl-C; nothing was saved\n")


def test_a_pipe_whose_reader_leaves(tmp_path):
    process = subprocess.Popen([*COMMAND, "models"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)


def accuracies(mnist_dir, folder, *arguments, seeds):
    for seed in range(seeds):
        out = folder / f"run{seed}"
        done = run("train", "--dataset", "mnist", "--data-dir", str(mnist_dir), *arguments, "--seed", str(seed),
                   "--out", str(out), cwd=folder)  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield float((out / "summary.txt").read_text().split("test accuracy: ")[1])


@pytest.mark.slow
def test_two_layer_net_on_mnist(mnist_dir, tmp_path):
    """Rows B1 and B2: 10,000 steps of SGD. The textbook's 0.971 is the same net with relu; with sigmoid the same loop
    in NumPy reaches 0.946 to 0.948."""
    sigmoid = list(accuracies(mnist_dir, tmp_path, "--model", "two-layer-net", seeds=3))
    assert all(0.940 <= accuracy <= 0.955 for accuracy in sigmoid), sigmoid
    (tmp_path / "relu").mkdir()
    relu = list(accuracies(mnist_dir, tmp_path / "relu", "--model", "two-layer-net", "--activation", "relu", seeds=3))
    assert all(0.965 <= accuracy <= 0.975 for accuracy in relu), relu


@pytest.mark.slow
def test_mlp_on_mnist(mnist_dir, tmp_path):
    (accuracy,) = accuracies(mnist_dir, tmp_path, "--model", "mlp", seeds=1)
    assert accuracy >= 0.98


@pytest.mark.slow
def test_simple_convnet_on_mnist(mnist_dir, tmp_path):
    """The textbook's 0.985, within 3 epochs."""
    reached = list(accuracies(mnist_dir, tmp_path, "--model", "simple-convnet", seeds=3))
    assert min(reached) >= 0.985, reached


@pytest.mark.slow
def test_convnet_on_mnist(mnist_dir, tmp_path):
    reached = list(accuracies(mnist_dir, tmp_path, "--model", "convnet", seeds=2))
    assert min(reached) >= 0.992, reached


@pytest.mark.slow
def test_every_seed_learns_the_digits(tmp_path):
    reached = []
    for seed in range(10):
        done = run("train", "--seed", str(seed), cwd=tmp_path)
        reached.append(float(re.search(r"test accuracy: ([\d.]+)", done.stdout)[1]))
    assert min(reached) >= 0.97, reached
    assert np.mean(reached) >= 0.975, reached
