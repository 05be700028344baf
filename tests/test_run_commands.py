"""Runs that go on, are repeated, compared and exported by the command, in this process."""

import csv
import errno
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from jaxnn import checkpoint_folder, cli, host_loop, programs, run_folder, train_command
from jaxnn.checkpoint_folder import checkpoints_in

pytestmark = pytest.mark.little_optimized

SMALL = ["--model", "two-layer-net", "--hidden-sizes", "8", "--batch-size", "200", "--epochs"]
STEPS = 6


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXNN_DATA", raising=False)


def command(*arguments, status=0):
    assert cli.main(list(map(str, arguments))) == status


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of four epochs, and one of two."""
    folder = tmp_path_factory.mktemp("runs")
    for epochs in (4, 2):
        command("train", *SMALL, epochs, "--out", folder / str(epochs))
    return folder


@pytest.fixture
def two(runs, tmp_path):
    """A copy of the run of two epochs, to go on with."""
    return shutil.copytree(runs / "2", tmp_path / "two")


def said_in_one_line(capsys):
    said = capsys.readouterr().err
    assert said.startswith("jaxnn: ")
    assert said.count("\n") == 1, said
    return said


def test_a_run_goes_on_to_more_epochs_and_is_the_same(runs, two, capsys):
    command("train", "--resume", two, "--epochs", 4)
    assert f"resume  {two}, after step {2 * STEPS}" in capsys.readouterr().out
    command("diff", runs / "4", two)
    assert f"the same in all {4 * STEPS} steps, to the bit: losses, figures, parameters" in capsys.readouterr().out
    assert json.loads((two / "config.json").read_text())["config"]["epochs"] == 4
    ours, theirs = ((run / "metrics.csv").read_text() for run in (runs / "4", two))
    assert ours == theirs
    ours, theirs = ((run / "summary.txt").read_text().splitlines() for run in (runs / "4", two))
    assert [line for line in ours if "seconds" not in line] == [line for line in theirs if "seconds" not in line]
    # Once more there is nothing to do, and nothing is lost by it.
    before = (two / "metrics.csv").read_text()
    command("train", "--resume", two)
    assert (two / "metrics.csv").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--learning-rate 0.5", "--learning-rate was 0.1 when two began, and cannot become 0.5; what may change is --epochs"),
        ("--hidden-sizes 9", "--hidden-sizes was 8 when two began, and cannot become 9"),
        ("--seed 3", "jaxnn train --from two --seed 3"),
        ("--batch-size 100", "--batch-size was 200 when two began"),
        ("--epochs 1", f"--epochs is 1, but two has come to step {2 * STEPS} already, in epoch 3"),
        ("--out elsewhere", "--resume writes into the folder of its run; leave out --out"),
        ("--from two", "--resume goes on with a run, and --from begins another one like it: which is meant?"),
        ("--keep-checkpoints 0", "--keep-checkpoints must be at least 1; got 0"),
        ("--checkpoint-seconds -1", "--checkpoint-seconds must be finite and at least 0; got -1"),
        ("--on-divergence pray", "unknown --on-divergence 'pray': there are stop, restore, ignore"),
    ],
)  # fmt: skip
def test_what_cannot_change_is_said(arguments, sentence, two, capsys):
    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}
    command("train", "--resume", "two", *arguments.split(), status=2)
    assert sentence in said_in_one_line(capsys)
    assert {path: path.read_bytes() for path in two.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_rate_that_moves_by_the_epochs_does_not_go_on_to_others(capsys):
    with jax.numpy_dtype_promotion("standard"):  # for optax's schedule
        command("train", *SMALL, 2, "--schedule", "cosine", "--out", "run")
    capsys.readouterr()
    command("train", "--resume", "run", "--epochs", 4, status=2)
    assert (
        "--epochs was 2 when run began, and cannot change: its learning rate moves by the schedule"
        in capsys.readouterr().err
    )


def test_nowhere_is_no_run(capsys):
    command("train", "--resume", "nowhere", status=2)
    assert "nowhere holds no run" in said_in_one_line(capsys)


def test_other_data_is_refused(two, capsys):
    content = json.loads((two / "config.json").read_text())
    content["data_sha256"] = "0" * 64
    (two / "config.json").write_text(json.dumps(content))
    command("train", "--resume", two, status=2)
    assert "digits is not what" in said_in_one_line(capsys)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_anew(runs, two, capsys):
    """Killed before its first one."""
    shutil.rmtree(two / "checkpoints")
    for name in ("weights.safetensors", "metrics.csv", "summary.txt", "curves.png"):
        (two / name).unlink()
    command("evaluate", two, status=2)
    assert "the run has not ended, and has no weights yet; jaxnn train --resume" in said_in_one_line(capsys)
    command("train", "--resume", two)
    assert "from the beginning: it has no checkpoint" in capsys.readouterr().out
    command("diff", runs / "2", two)


@pytest.mark.slow
def test_from_repeats_a_run(runs, capsys):
    command("train", "--from", runs / "2")
    said = capsys.readouterr().out
    assert f"jaxnn diff {runs / '2'} runs/digits-two-layer-net-001    where it parts from that run" in said
    command("diff", runs / "2", "runs/digits-two-layer-net-001")
    assert f"the same in all {2 * STEPS} steps" in capsys.readouterr().out


def test_diff_tells_where_two_runs_part(runs, capsys):
    command("train", "--from", runs / "2", "--seed", 1, "--out", "other")
    capsys.readouterr()
    command("diff", runs / "2", "other", status=1)
    settings, parting = capsys.readouterr().out.splitlines()
    assert settings == "seed: 0 | 1"
    assert parting.startswith("part at step 1 (epoch 1): loss ")
    command("diff", runs / "2", runs / "4")
    assert f"the same in the first {2 * STEPS} steps, to the bit; steps {2 * STEPS} in" in capsys.readouterr().out
    command("diff", runs / "2", "nowhere", status=2)


def test_diff_finds_a_single_bit(runs, two, capsys):
    from jaxnn import _tensors

    (*_, newest) = checkpoints_in(two / "checkpoints")
    tensors, said = _tensors.read_tensors(newest.read_bytes(), "c")
    whole = dict(tensors)
    loss = tensors["history/loss"].copy()
    loss[STEPS + 1] = np.nextafter(loss[STEPS + 1], np.float32(9))
    _tensors.write_tensors(newest, whole | {"history/loss": loss}, said)
    command("diff", runs / "2", two, status=1)
    assert f"part at step {STEPS + 2} (epoch 2): loss" in capsys.readouterr().out
    b = tensors["params/dense1/b"].copy()
    b[0] += 1
    _tensors.write_tensors(newest, whole | {"params/dense1/b": b}, said)
    command("diff", runs / "2", two, status=1)
    assert f"the same losses in all {2 * STEPS} steps, and part in params/dense1/b" in capsys.readouterr().out


@pytest.mark.parametrize("at", ["best", *(pytest.param(at, marks=pytest.mark.slow) for at in ("end", "last"))])
def test_export_and_evaluate_at_a_checkpoint(at, runs, capsys):
    command("export", runs / "4", "w.npz", "--at", at)
    with np.load("w.npz") as archive:
        W = archive["params/dense1/W"]
        assert "preprocess/maximum" in archive.files
    step = {"end": 4 * STEPS, "last": 4 * STEPS}.get(at)
    path = checkpoint_folder.best_of(runs / "4" / "checkpoints")
    if step is not None:
        path = runs / "4" / "checkpoints" / f"step-{step:08d}.safetensors"
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(W, load_file(path)["params/dense1/W"])
    command("evaluate", runs / "4", "--at", at)
    assert "test accuracy: " in capsys.readouterr().out
    command("export", runs / "4", "w.npz", status=2)
    assert "w.npz exists already" in capsys.readouterr().err


def test_weights_of_another_run_are_refused(runs, two, capsys):
    shutil.copy(runs / "4" / "weights.safetensors", two)
    command("evaluate", two, status=2)
    assert "weights.safetensors: is another run's than" in said_in_one_line(capsys)


def raised_in_epoch(monkeypatch, epoch, action):
    """Do something when an epoch is reported."""
    log = run_folder.MetricsLog.__call__

    def spy(self, report):
        log(self, report)
        if report.epoch == epoch:
            action()

    monkeypatch.setattr(train_command.MetricsLog, "__call__", spy)


@pytest.mark.parametrize(
    ("number", "status", "name"),
    [(signal.SIGTERM, 143, "SIGTERM"), pytest.param(signal.SIGINT, 130, "Ctrl-C", marks=pytest.mark.slow)],
)
def test_a_signal_is_said_with_how_to_go_on(number, status, name, runs, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        raised_in_epoch(patched, 1, lambda: signal.raise_signal(number))
        command("train", *SMALL, 4, "--out", "run", status=status)
    said = said_in_one_line(capsys)
    assert f"stopped by {name} after epoch 2 of 4, step {2 * STEPS}; all of it is saved in run" in said
    assert said.endswith("go on with jaxnn train --resume run\n")
    command("evaluate", "run")
    command("train", "--resume", "run")
    command("diff", runs / "4", "run")


def test_a_second_ctrl_c_ends_at_once_and_says_what_there_is(monkeypatch, capsys):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    raised_in_epoch(monkeypatch, 3, twice)
    command("train", *SMALL, 4, "--checkpoint-seconds", 0, "--out", "run", status=130)
    said = said_in_one_line(capsys)
    assert "stopped at once by Ctrl-C; run holds the run as it was after step " in said
    assert said.endswith("go on with jaxnn train --resume run\n")


def test_divergence_says_how_to_go_on_and_keeps_the_checkpoint(tmp_path, capsys):
    arguments = ["--model", "two-layer-net", "--activation", "identity", "--batch-size", 200, "--epochs", 60]
    command("train", *arguments, "--learning-rate", 3.3, "--optimizer", "momentum", "--out", "run", status=1)
    said = said_in_one_line(capsys)
    assert "run holds the run as it was after step " in said
    assert said.endswith("jaxnn train --resume run --on-divergence restore goes on from there\n")
    assert ", with a learning rate of 3.3; a smaller learning rate is the usual remedy;" in said
    assert len(checkpoints_in(tmp_path / "run" / "checkpoints")) >= 1
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert rows[0]["epoch"] == "1"


def test_a_log_that_cannot_be_written_costs_one_sentence(monkeypatch, capsys):
    row = run_folder._row

    def full(epoch, *arguments):
        if epoch in (2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        return row(epoch, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "_row", full)
        patched.setattr(train_command, "write_results", lambda *_: None)
        command("train", *SMALL, 4, "--out", "run")
    said = said_in_one_line(capsys)
    assert "metrics.csv: cannot be written (No space left on device); the run goes on without this log" in said


@pytest.mark.slow
def test_results_that_cannot_be_written_are_written_next_time(monkeypatch, capsys, runs):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "run/weights.safetensors")

    with monkeypatch.context() as patched:
        patched.setattr(train_command, "write_results", full)
        command("train", *SMALL, 4, "--out", "run", status=1)
    said = said_in_one_line(capsys)
    assert (
        "run/weights.safetensors: cannot be written (No space left on device); jaxnn train --resume run writes" in said
    )
    command("train", "--resume", "run")
    command("diff", runs / "4", "run")
    command("evaluate", "run")


def test_too_large_a_model_is_said_in_a_sentence(tmp_path, capsys):
    command("train", *SMALL, 1, "--hidden-sizes", 10**11, "--out", "run", status=1)
    said = said_in_one_line(capsys)
    assert "out of memory: " in said
    assert "bytes could not be had; a smaller --batch-size or a smaller model needs less" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_that_runs_out_on_the_way_keeps_the_checkpoint(monkeypatch, capsys):
    def full():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4000 bytes.")

    raised_in_epoch(monkeypatch, 2, full)
    command("train", *SMALL, 4, "--out", "run", status=1)
    said = said_in_one_line(capsys)
    assert (
        f"less; run holds the run as it was after step {2 * STEPS}: jaxnn train --resume run goes on from there" in said
    )


@pytest.mark.slow
def test_a_signal_in_the_middle_of_the_first_epoch(runs, monkeypatch, capsys):
    """There are no figures yet, and the figure has one curve."""
    monkeypatch.setattr(programs, "choose_chunk", lambda *_: 2)
    settle = host_loop.HostLoop._settle

    def interrupted(loop, chunk):
        loop._waiting.heard(signal.SIGTERM, None)
        return settle(loop, chunk)

    with monkeypatch.context() as patched:
        patched.setattr(host_loop.HostLoop, "_settle", interrupted)
        command("train", *SMALL, 4, "--out", "run", status=143)
    assert "stopped by SIGTERM after epoch 0 of 4, step 4; all of it is saved in run" in said_in_one_line(capsys)
    command("evaluate", "run")
    command("train", "--resume", "run")
    command("train", *SMALL, 4, "--out", "whole")
    command("diff", "run", "whole")


def test_what_is_not_saved_is_not_said_to_be(monkeypatch, capsys):
    def full(path, checkpoint):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint_folder, "save_checkpoint", full)
    raised_in_epoch(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGTERM))
    command("train", *SMALL, 4, "--out", "run", status=143)
    failure, ending = capsys.readouterr().err.splitlines()
    assert "run/checkpoints: a checkpoint could not be saved (No space left on device); there is none" in failure
    assert ending.endswith(f"step {2 * STEPS}; there is no checkpoint of it, but its weights are in run")
    command("evaluate", "run")
