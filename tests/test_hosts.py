"""Many hosts: the roll, the loss of a process, and real processes on this machine."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import hosts, runner

PROGRAM = """
import sys
import jax
import numpy as np
import jaxnn as nn
from jaxnn import hosts, runner

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    number = int(sys.argv[2])
    hosts.start(sys.argv[1], 2, number)
    data = nn.data.Dataset(*np.load("data.npz").values())
    read = set()

    def decode(i):
        read.add(i)
        return data.x[i], data.y[i]

    result = runner.train(
        nn.mlp([8], outputs=3, batch_norm=True), nn.softmax_cross_entropy, nn.momentum(0.05),
        nn.data.stream(range(96), decode=decode), key=jax.random.key(0), epochs=2, batch_size=24, validation=data,
        sampling="in_order", metrics={}, batch_sharding=nn.data_parallel(),
    )
    leaves = jax.tree.leaves((result.params, result.model_state, result.history))
    np.savez(f"out{number}.npz", *map(np.asarray, leaves), read=len(read))

    def run(rate, key):
        return nn.fit(nn.mlp([8], outputs=3, dropout=0.5), nn.softmax_cross_entropy, nn.sgd(rate), data, key=key,
                      epochs=2, batch_size=24).history

    swept = nn.sweep(run, np.array([0.1, 0.2, 0.3]), key=jax.random.key(0), max_parallel=1, progress=False)
    np.savez(f"swept{number}.npz", *jax.tree.leaves(swept.outcomes))
    result = runner.train(
        nn.sequential(nn.dense(3)), nn.softmax_cross_entropy, nn.sgd(0.1), data, key=jax.random.key(0),
        epochs=10**6, batch_size=24, metrics={}, batch_sharding=nn.data_parallel(),
        report=lambda told: print("epoch", told.epoch, flush=True),
    )
    print("kept", result.epochs > 2, result.interrupted, hosts.lost())
"""


@pytest.fixture
def port():
    with socket.socket() as taken:
        taken.bind(("", 0))
        return taken.getsockname()[1]


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    data = nn.data.Dataset((np.eye(3, 5)[y] + rng.normal(size=(96, 5))).astype(np.float32), y.astype(np.int32))
    np.savez(tmp_path / "data.npz", *data)
    return data


class Started:
    """Two processes; whatever happens, they end with the test."""

    def __init__(self, *commands, cwd):
        self.said = [cwd / f"said{number}" for number in range(len(commands))]
        # Little optimized, they compile faster.
        flags = "--xla_backend_optimization_level=0"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XLA_FLAGS": flags}
        self.processes = []
        for command, path in zip(commands, self.said, strict=True):
            with path.open("w") as said:
                self.processes.append(
                    subprocess.Popen(command, cwd=cwd, stdout=said, stderr=subprocess.STDOUT, env=environment)
                )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait_until_said(self, number, words, seconds=120):
        until = time.monotonic() + seconds
        while words not in self.said[number].read_text():
            assert self.processes[number].poll() is None, self.said[number].read_text()
            assert time.monotonic() < until
            time.sleep(0.02)


def swept_run(data):
    """What the program sweeps."""

    def run(rate, key):
        return nn.fit(
            nn.mlp([8], outputs=3, dropout=0.5),
            nn.softmax_cross_entropy,
            nn.sgd(rate),
            data,
            key=key,
            epochs=2,
            batch_size=24,
        ).history

    return run


def two_programs(tmp_path, port):
    (tmp_path / "program.py").write_text(PROGRAM)
    commands = [[sys.executable, "program.py", f"localhost:{port}", str(number)] for number in range(2)]
    return Started(*commands, cwd=tmp_path)


def test_two_processes_learn_what_one_does_and_one_notices_the_end_of_the_other(tmp_path, port, data):
    with two_programs(tmp_path, port) as started:
        expected = runner.train(
            nn.mlp([8], outputs=3, batch_norm=True), nn.softmax_cross_entropy, nn.momentum(0.05), data,
            key=jax.random.key(0), epochs=2, batch_size=24, validation=data, sampling="in_order", metrics={},
        )  # fmt: skip
        started.wait_until_said(0, "epoch 3\n")
        started.processes[1].kill()
        assert started.processes[0].wait(60) == 1
    lost = "process 1 of 2 is gone: it has ended, and the others cannot go on without it"
    assert f"kept True True {lost}\n" in started.said[0].read_text()
    alone = jax.jit(jax.vmap(swept_run(data), (0, None)))(
        np.float32([0.1, 0.2, 0.3]), jax.random.fold_in(jax.random.key(0), 0)
    )
    for number in range(2):
        with np.load(tmp_path / f"swept{number}.npz") as swept:
            for place, leaf in enumerate(jax.tree.leaves(alone)):
                np.testing.assert_allclose(swept[f"arr_{place}"][:, 0], leaf, rtol=0, atol=1e-5)
        with np.load(tmp_path / f"out{number}.npz") as out:
            leaves = jax.tree.leaves((expected.params, expected.model_state, expected.history))
            for place, leaf in enumerate(leaves):
                np.testing.assert_allclose(out[f"arr_{place}"], leaf, rtol=0, atol=1e-5)
            assert out["read"] == 48 + (number == 1)  # of 96; both read example 0, to know its shape


@pytest.mark.slow
def test_who_waits_for_a_killed_process_0_is_ended_with_a_sentence(tmp_path, port, data):
    with two_programs(tmp_path, port) as started:
        started.wait_until_said(1, "epoch 3\n")
        started.processes[0].kill()
        assert started.processes[1].wait(60) != 0
    assert "jaxnn: process 0 of 2 is gone: it has ended" in started.said[1].read_text()


@pytest.mark.slow
def test_the_command_in_two_processes_writes_one_folder_and_survives_the_loss_of_one(tmp_path, port):
    command = [sys.executable, "-m", "jaxnn.cli", "train", "--model", "two-layer-net", "--epochs", "100000",
               "--coordinator", f"localhost:{port}", "--processes", "2", "--process-id"]  # fmt: skip
    with Started([*command, "0"], [*command, "1"], cwd=tmp_path) as started:
        started.wait_until_said(0, "epoch 1/")
        started.processes[1].kill()
        assert started.processes[0].wait(60) == 1
    said = started.said[0].read_text()
    assert (
        "jaxnn: process 1 of 2 is gone: it has ended, and the others cannot go on without it; the network as " in said
    )
    assert "Gloo" not in said
    assert started.said[1].read_text() == ""
    (folder,) = (tmp_path / "runs").iterdir()
    content = json.loads((folder / "config.json").read_text())
    assert not {"devices", "coordinator", "processes", "process_id"} & content["config"].keys()
    assert content["epochs_finished"] >= 1
    assert f"saved in runs/{folder.name}" in said
    assert "stopped by the loss of a process" in (folder / "summary.txt").read_text()
    from jaxnn.trained import load_trained

    load_trained(folder)


@pytest.mark.parametrize(
    "coordinator, processes, process_id, words",
    [
        ("10.0.0.1", 2, 0, "coordinator must be HOST:PORT, such as 10.0.0.1:7777, or auto; got '10.0.0.1'"),
        ("10.0.0.1:0", 2, 0, "must be HOST:PORT"),
        ("::1:7777", 2, 0, "must be HOST:PORT"),
        ("10.0.0.1:7777", 2, None, "both processes and process_id are needed"),
        ("10.0.0.1:7777", 0, 0, "processes must be at least 1"),
        ("10.0.0.1:7777", 2, 2, "process_id is 2, but 2 processes are numbered 0 to 1"),
        ("10.0.0.1:7777", 2, -1, "process_id must be at least 0"),
        ("auto", 2, 0, "finds processes and process_id by itself"),
    ],
)
def test_bad_arguments_are_refused(coordinator, processes, process_id, words):
    with pytest.raises(ValueError) as refused:
        hosts.start(coordinator, processes, process_id)
    assert words in str(refused.value)


def test_addresses():
    assert hosts.check_roll("host.example:7777", 2, 1) == ("host.example", 7777)
    assert hosts.check_roll("[::1]:7777", 2, 1) == ("::1", 7777)


def test_a_coordinator_that_is_not_there(monkeypatch, port):
    monkeypatch.setattr(hosts, "SECONDS_TO_ANSWER", 0.1)
    with pytest.raises(ConnectionError, match=f"nobody answers at localhost:{port} .*; is process 0 running there"):
        hosts.start(f"localhost:{port}", 2, 1)


def test_a_port_that_is_taken():
    with (
        socket.create_server(("", 0)) as taken,
        pytest.raises(ConnectionError, match="process 0 cannot listen on port"),
    ):
        hosts.start(f"localhost:{taken.getsockname()[1]}", 2, 0)


def test_processes_that_do_not_come_or_do_not_fit(monkeypatch, port):
    monkeypatch.setattr(hosts, "SECONDS_TO_GATHER", 2)
    said = {}

    def answer(name, processes, number):
        with pytest.raises(ConnectionError) as refused:
            hosts._answer(("localhost", port), processes, number).close()
        said[name] = str(refused.value)

    answers = [("first", 3, 1), ("other size", 4, 2), ("second", 3, 1)]
    threads = [threading.Thread(target=answer, args=arguments) for arguments in answers]

    def come():
        for thread in threads:
            thread.start()
            time.sleep(0.3)

    coming = threading.Thread(target=come)
    coming.start()
    with pytest.raises(ConnectionError, match="of 3 processes these have not come within 2 s: 2"):
        hosts.start(f"localhost:{port}", 3, 0)
    for thread in (coming, *threads):
        thread.join()
    assert said["other size"] == "process 2 was told of 4 processes, and process 0 of 3"
    assert said["second"] == "there is a process 1 already"
    assert said["first"].endswith("was there, and is gone: process 0 has ended, or it is no process 0")


def test_a_process_that_falls_silent_is_lost(monkeypatch):
    monkeypatch.setattr(hosts, "SECONDS_OF_SILENCE", 0.3)
    monkeypatch.setattr(hosts, "_HEARTBEAT", 0.05)
    ours, theirs = socket.socketpair()
    roll = hosts._Roll({1: ours}, 2, 0)
    monkeypatch.setattr(hosts, "_roll", roll)
    heard = threading.Event()
    with theirs, ours, hosts.loss_heard(heard):
        for _ in range(10):
            theirs.send(b".")
            time.sleep(0.05)
        assert hosts.lost() is None and not heard.is_set()
        assert heard.wait(5)
        assert "process 1 of 2 is gone: it has been silent for 0.3 s" in str(hosts.lost())
        roll.thread.join(5)
