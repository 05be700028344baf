"""Many hosts: the roll, the loss of a process, and real processes on this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import _peers, hosts, runner

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
    assert f"kept True {lost} {lost}\n" in started.said[0].read_text()
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


ENDS = """
import sys
import time
import jax
import numpy as np
import jaxnn as nn
from jaxnn import hosts, runner

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    number, epochs, then = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    hosts.SECONDS_TO_ANSWER = 15  # JAX's barrier at the end would wait as long
    hosts.start(sys.argv[1], 2, number)
    data = nn.data.Dataset(*np.load("data.npz").values())
    result = runner.train(
        nn.sequential(nn.dense(3)), nn.softmax_cross_entropy, nn.sgd(0.1), data, key=jax.random.key(0),
        epochs=epochs, batch_size=24, metrics={}, batch_sharding=nn.data_parallel(),
        report=lambda told: print("epoch", told.epoch, flush=True) if told.epoch < 9 else None,
    )
    print("kept", result.epochs, hosts.lost(), flush=True)
    if then == "works":
        time.sleep(20)
    elif then == "exits":
        sys.exit(3)
    elif then == "fails":
        raise ValueError("its own")
    elif then == "is killed":
        time.sleep(1000)
    print("whole", flush=True)
"""


def two_ends(tmp_path, port, *ends):
    (tmp_path / "ends.py").write_text(ENDS)
    commands = [
        [sys.executable, "ends.py", f"localhost:{port}", str(number), str(epochs), then]
        for number, (epochs, then) in enumerate(ends)
    ]
    return Started(*commands, cwd=tmp_path)


@pytest.mark.slow
def test_process_0_may_work_long_after_the_others(tmp_path, port, data):
    with two_ends(tmp_path, port, (2, "works"), (2, "ends")) as started:
        assert [process.wait(60) for process in started.processes] == [0, 0]
    for said in started.said:
        assert said.read_text().splitlines()[-2:] == ["kept 2 None", "whole"]


@pytest.mark.slow
@pytest.mark.parametrize("early", [0, 1])
@pytest.mark.parametrize("how", ["ends", "exits", "fails"])
def test_a_process_that_finishes_early_is_noticed_by_who_waits_for_it(tmp_path, port, data, early, how):
    ends = [(10**6, "ends")] * 2
    ends[early] = (3, how)
    with two_ends(tmp_path, port, *ends) as started:
        started.wait_until_said(early, "kept 3 None\n")
        began = time.monotonic()
        assert [process.wait(30) for process in started.processes] == [1, 1]
        assert 9 < time.monotonic() - began < 20
    sentence = f"process {early} of 2 is gone: it has finished, before the others have"
    assert f"kept 3 {sentence}" in started.said[1 - early].read_text()
    assert f"jaxnn: {sentence}" in started.said[early].read_text().splitlines()[-1]


@pytest.mark.slow
def test_what_works_alone_goes_on_after_the_loss_of_process_1(tmp_path, port, data):
    with two_ends(tmp_path, port, (2, "works"), (2, "is killed")) as started:
        started.wait_until_said(0, "kept 2 None\n")
        started.processes[1].kill()
        assert started.processes[0].wait(60) == 1
    said = started.said[0].read_text().splitlines()
    assert said[-2] == "whole"
    assert said[-1].startswith("jaxnn: process 1 of 2 is gone: it has ended")


def command_of_two(tmp_path, port, *options):
    command = [sys.executable, "-m", "jaxnn.cli", "train", "--model", "two-layer-net", *options,
               "--coordinator", f"localhost:{port}", "--processes", "2", "--process-id"]  # fmt: skip
    return Started([*command, "0"], [*command, "1"], cwd=tmp_path)


@pytest.mark.slow
def test_the_command_ends_with_one_sentence_when_process_0_is_killed(tmp_path, port):
    with command_of_two(tmp_path, port, "--epochs", "100000") as started:
        started.wait_until_said(0, "epoch 1/")
        started.processes[0].kill()
        assert started.processes[1].wait(60) == 1
    (said,) = started.said[1].read_text().splitlines()
    assert said.startswith("jaxnn: process 0 of 2 is gone: it has ended")


@pytest.mark.slow
def test_the_command_says_in_all_processes_once_that_training_diverged(tmp_path, port):
    with command_of_two(tmp_path, port, "--learning-rate", "1e30", "--activation", "relu") as started:
        assert [process.wait(60) for process in started.processes] == [1, 1]
    for said in started.said:
        assert said.read_text().count("jaxnn: ") == 1
        assert said.read_text().splitlines()[-1].startswith("jaxnn: the loss became ")


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
        "jaxnn: process 1 of 2 is gone: it has ended, and the others cannot go on without it; stopped after epoch "
        in said
    )
    assert "Gloo" not in said
    assert started.said[1].read_text() == ""
    (folder,) = (tmp_path / "runs").iterdir()
    content = json.loads((folder / "config.json").read_text())
    assert not {"devices", "coordinator", "processes", "process_id"} & content["config"].keys()
    assert content["epochs_finished"] >= 1
    assert f"saved in runs/{folder.name}" in said
    assert "(process 1 of 2 is gone: it has ended" in (folder / "summary.txt").read_text()
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


@pytest.fixture
def peers(monkeypatch):
    """Process 0, or another one, and its end of the connections to all it knows."""
    monkeypatch.setattr(_peers, "HEARTBEAT", 0.02)
    monkeypatch.setattr(_peers, "SECONDS_TO_REACT", 0.2)
    with contextlib.ExitStack() as opened:

        def join(processes, process_id):
            others = range(1, processes) if process_id == 0 else [0]
            pairs = {number: socket.socketpair() for number in others}
            roll = _peers.Peers({number: ours for number, (ours, _) in pairs.items()}, processes, process_id)
            opened.callback(roll.thread.join, 5)
            opened.callback(roll.close)
            for _, theirs in pairs.values():
                opened.enter_context(theirs)
                theirs.settimeout(5)
            monkeypatch.setattr(hosts, "_roll", roll)
            return roll, {number: theirs for number, (_, theirs) in pairs.items()}

        yield join


@pytest.fixture
def ended(monkeypatch):
    """Set instead of the end of the process."""
    ended = threading.Event()
    monkeypatch.setattr(_peers.Peers, "end", lambda self, **how: ended.set())
    return ended


def until(condition):
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def lines_until(theirs, word):
    said = b""
    while word not in said:
        said += theirs.recv(200)
    return said.decode()


def test_a_process_that_falls_silent_is_lost(monkeypatch, peers, ended):
    monkeypatch.setattr(_peers, "SECONDS_OF_SILENCE", 0.3)
    _, theirs = peers(2, 0)
    heard = threading.Event()
    with hosts.loss_heard(heard):
        for _ in range(10):
            theirs[1].send(b"\n")
            time.sleep(0.05)
        assert hosts.lost() is None and not heard.is_set()
        assert heard.wait(5)
        assert "process 1 of 2 is gone: it has been silent for 0.3 s" in str(hosts.lost())


def test_work_that_waits_for_nobody_goes_on_after_a_loss_and_what_waits_is_ended(peers, ended):
    _, theirs = peers(2, 0)
    theirs[1].close()
    assert "process 1 of 2 is gone: it has ended" in str(hosts.lost(within=5))
    assert not ended.wait(0.5)
    for _ in range(10):  # again and again, but never long
        with hosts.waiting():
            time.sleep(0.04)
    assert not ended.is_set()
    with hosts.waiting():
        assert ended.wait(5)


def test_the_loss_of_process_0_ends_a_process_at_once_unless_it_is_parting(peers, ended):
    _, theirs = peers(2, 1)
    theirs[0].close()
    assert ended.wait(5)
    ended.clear()
    _, theirs = peers(2, 1)
    hosts.parting()
    theirs[0].close()
    assert "process 0 of 2 is gone" in str(hosts.lost(within=5)) and not ended.wait(0.1)


def test_the_farewell_waits_for_work_of_any_length_and_then_nobody_is_lost(peers, ended):
    zero, to_1 = peers(2, 0)
    one, to_0 = peers(2, 1)
    outcomes = []
    leaving = threading.Thread(target=lambda: outcomes.append(one.farewell()))
    leaving.start()
    assert "done" in lines_until(to_0[0], b"done\n")
    to_1[1].send(b"done\n")
    time.sleep(0.5)  # process 0 is at work, longer than SECONDS_TO_REACT
    assert leaving.is_alive() and zero.lost is None
    assert zero.farewell()
    assert "done\nbye\n" in lines_until(to_1[1], b"bye\n").replace("\n\n", "\n")
    to_0[0].send(b"done\nbye\n")
    to_0[0].close()
    to_1[1].close()
    leaving.join(5)
    time.sleep(0.1)
    assert outcomes == [True] and zero.lost is one.lost is None and not ended.is_set()


def test_a_farewell_without_an_answer_ends(peers, ended):
    roll, theirs = peers(2, 1)
    theirs[0].send(b"done\n")
    until(lambda: roll._done)
    theirs[0].close()  # process 0 was killed while it waited
    assert not roll.farewell() and "process 0 of 2 is gone" in roll.lost
    roll, theirs = peers(2, 0)
    theirs[1].send(b"done\n")
    theirs[1].close()
    until(lambda: not roll._peers)
    assert roll.lost is None  # of process 0's work nothing is missing
    assert not roll.farewell() and "process 1 of 2 is gone" in roll.lost


def test_who_waits_for_a_process_that_has_finished_has_lost_it(peers, ended):
    roll, theirs = peers(3, 0)
    theirs[1].send(b"done\n")
    until(lambda: roll._done)
    assert hosts.lost(within=0.5) is None
    sentence = "process 1 of 3 is gone: it has finished, before the others have, and the others cannot go on without it"
    with hosts.waiting():
        assert str(hosts.lost(within=5)) == sentence
    for number in (1, 2):
        assert sentence in lines_until(theirs[number], b"without it\n")


def test_a_loss_is_told_to_the_others_and_process_0_stays_until_they_have_gone(peers, ended):
    roll, theirs = peers(3, 0)
    theirs[1].close()
    assert "process 1 of 3" in lines_until(theirs[2], b"without it\n")
    parting = threading.Thread(target=hosts.leave)
    parting.start()
    time.sleep(0.1)
    assert parting.is_alive()
    theirs[2].close()
    parting.join(5)
    assert not parting.is_alive() and "process 1 of 3" in roll.lost
    # In the third process it is no loss of process 0.
    _, theirs = peers(3, 2)
    theirs[0].send(f"{roll.lost}\n".encode())
    assert "process 1 of 3" in str(hosts.lost(within=5)) and not ended.is_set()


def test_a_failure_in_the_watch_and_a_closed_stderr_are_no_hang(monkeypatch, peers):
    status = []
    monkeypatch.setattr(os, "_exit", status.append)
    monkeypatch.setattr(_peers, "STDERR", 10**6)
    cleaned = []
    monkeypatch.setattr(_peers, "AT_END", [])
    hosts.at_end(lambda: cleaned.append(1))
    monkeypatch.setattr(_peers.Peers, "_read", lambda self, number: 1 // 0)
    roll, theirs = peers(2, 0)
    theirs[1].send(b"\n")
    roll.thread.join(5)
    assert status == [1] and cleaned == [1] and "has failed: ZeroDivisionError" in roll.lost


@pytest.mark.parametrize("greeting", [b'[2, "x"]\n', b"[2, [1]]\n", b"[2, true]\n", b"[2.0, 1]\n", b"7\n", b"\xff\n"])
def test_a_stranger_is_no_process(greeting, port):
    with answered(port, 2) as roll:
        stranger = connected(port)
        stranger.send(greeting)
        assert stranger.recv(1) == b""
        stranger.close()
        hosts._answer(("127.0.0.1", port), 2, 1).close()
    assert list(roll) == [1]


def test_a_stranger_who_speaks_slowly_does_not_keep_the_others_waiting(monkeypatch, port):
    monkeypatch.setattr(hosts, "SECONDS_TO_GREET", 0.3)
    with answered(port, 2), connected(port) as stranger:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 5:
                stranger.send(b" ")
                time.sleep(0.05)
        assert time.monotonic() - began < 3
        hosts._answer(("127.0.0.1", port), 2, 1).close()


def test_a_process_that_is_started_again_takes_its_own_place(port):
    with answered(port, 3) as roll:
        with connected(port) as first:
            first.send(b"[3, 1]\n")
        answers = [
            threading.Thread(target=lambda n=n: hosts._answer(("127.0.0.1", port), 3, n).close()) for n in (2, 1)
        ]
        answers[0].start()
        time.sleep(0.3)  # the roll is not over: who was 1 has ended
        assert not roll
        answers[1].start()
        for answer in answers:
            answer.join()
    assert sorted(roll) == [1, 2]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
def test_ipv6(port):
    with answered(port, 2) as roll:
        hosts._answer(("::1", port), 2, 1).close()
    assert list(roll) == [1]


@contextlib.contextmanager
def answered(port, processes):
    """The roll is called meanwhile."""
    roll = {}
    calling = threading.Thread(target=lambda: roll.update(hosts._call_the_roll(("", port), processes)))
    calling.start()
    yield roll
    calling.join(10)
    assert not calling.is_alive()
    for peer in roll.values():
        peer.close()


def connected(port):
    give_up = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            assert time.monotonic() < give_up
            time.sleep(0.02)


def test_start_comes_first_and_may_be_tried_again(monkeypatch, port):
    jax.devices()  # so JAX has begun
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"hosts\.start must come before anything that JAX computes"):
            hosts.start(f"localhost:{port}", 1, 0)
        assert hosts._roll is None


def test_a_call_whose_function_times_out(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def fails():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        hosts.call(fails)
    assert hosts.call(lambda x: x + 1, 1) == 2


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_and_all_go_on(tmp_path, port):
    def command(*arguments):
        network = [
            "--model",
            "two-layer-net",
            "--hidden-sizes",
            "8",
            "--batch-size",
            "200",
            "--checkpoint-seconds",
            "0",
        ]
        together = ["--coordinator", f"localhost:{port}", "--processes", "2", "--process-id"]
        words = [sys.executable, "-m", "jaxnn.cli", "train", *arguments, *together]
        return [[*words, str(number), *(network if "--out" in arguments else [])] for number in range(2)]

    with Started(*command("--out", "run", "--epochs", "100000"), cwd=tmp_path) as started:
        started.wait_until_said(0, "epoch 1/")
        started.processes[1].send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in started.processes] == [130, 143]
    assert "stopped by a signal to another process after epoch" in started.said[0].read_text()
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    epochs = content["epochs_finished"] + 3
    with Started(*command("--resume", "run", "--epochs", str(epochs)), cwd=tmp_path) as started:
        assert [process.wait(120) for process in started.processes] == [0, 0]
    assert f"epoch {epochs}/{epochs}" in started.said[0].read_text()
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == epochs + 1
