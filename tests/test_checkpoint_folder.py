"""Checkpoints beside a run: when they are saved, which are kept, what goes wrong, and how a run goes on after them."""

import errno
import itertools
import shutil
import subprocess
import sys
import threading
import types

import jax
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn import checkpoint_folder, programs, runner
from jaxnn.checkpoint import read_about, read_history
from jaxnn.checkpoint_folder import best_of, checkpoints_in
from jaxnn.older_jax import unregister

pytestmark = pytest.mark.little_optimized

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
DATA = nn.data.Dataset(X, np.random.default_rng(1).integers(0, 3, 50).astype(np.int32))
VALIDATION = nn.data.Dataset(X[:9] + 0.1, DATA.y[:9])
STEPS = 6


def train(folder=None, *, model=None, optimizer=None, data=DATA, validation=VALIDATION, **settings):
    keep = {
        name: settings.pop(name)
        for name in ("seconds", "keep", "best", "resume", "beside", "config")
        if name in settings
    }
    checkpoints = None if folder is None else nn.Checkpoints(folder, **{"seconds": 0, **keep})
    return runner.train(
        model or nn.sequential(nn.dense(3)),  # compiled soon
        nn.softmax_cross_entropy,
        optimizer or nn.momentum(0.01),
        data,
        validation=validation,
        checkpoints=checkpoints,
        **{"key": jax.random.key(0), "epochs": 4, "batch_size": 8, **settings},
    )


class StopError(Exception):
    """Ends a run as a fault of the program's own would."""


def stopping(epoch):
    """A report that ends a run at an epoch."""

    def report(told):
        if told.epoch == epoch:
            raise StopError

    return report


def steps_in(folder):
    return [int(path.stem.removeprefix("step-")) for path in checkpoints_in(folder)]


def assert_same(one, other):
    for ours, theirs in zip(jax.tree.leaves(one[:4]), jax.tree.leaves(other[:4]), strict=True):
        if jax.numpy.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def stopped(folder, epoch=2, **settings):
    with pytest.raises(StopError):
        train(folder, report=stopping(epoch), **settings)


@pytest.fixture(scope="module")
def whole():
    return train()


def test_a_run_goes_on_to_the_same_bits(tmp_path, whole):
    stopped(tmp_path)
    assert steps_in(tmp_path)[-1] == 2 * STEPS
    reports = []
    result = train(tmp_path, resume=True, report=reports.append)
    assert_same(result, whole)
    assert [report.epoch for report in reports] == [3, 4]
    assert (result.epochs, result.interrupted) == (4, None)
    # And from its end to more epochs, as if they had been meant from the start.
    assert_same(train(tmp_path, resume=True, epochs=6), train(epochs=6))


@pytest.mark.parametrize(
    "kind", ["both", *(pytest.param(part, marks=pytest.mark.slow) for part in ("train", "validation"))]
)
def test_a_stream_goes_on_where_it_was(kind, tmp_path):
    parts = {"data": DATA, "validation": VALIDATION}
    names = {"train": ["data"], "validation": ["validation"], "both": ["data", "validation"]}[kind]
    parts |= {name: nn.data.stream(parts[name]) for name in names}
    stopped(tmp_path, **parts)
    assert_same(train(tmp_path, resume=True, **parts), train(**parts))


@pytest.mark.slow
def test_chunks_of_an_epoch_are_saved_and_gone_on_after(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "choose_chunk", lambda *_: 4)  # 4 steps and 2
    whole = train()
    count, saves = itertools.count(), checkpoint_folder.Keeper.save

    def save(keeper, checkpoint, good):
        saves(keeper, checkpoint, good)
        if next(count) == 2:  # after 4, 6, 10
            raise StopError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_folder.Keeper, "save", save)
        with pytest.raises(StopError):
            train(tmp_path, keep=9)
    assert steps_in(tmp_path) == [4, 6, 10]
    assert read_about(checkpoints_in(tmp_path)[-1])["batch"] == 4
    result = train(tmp_path, keep=9, resume=True)
    assert_same(result, whole)
    assert steps_in(tmp_path) == [4, 6, 10, 12, 16, 18, 22, 24]


def test_the_newest_and_the_best_are_kept(tmp_path):
    result = train(tmp_path, epochs=12, best="validation/loss", keep=3, optimizer=nn.sgd(30.0))
    best = int(np.argmin(result.history.validation["loss"]))
    assert steps_in(tmp_path) == [STEPS * epoch for epoch in (10, 11, 12)]
    assert best_of(tmp_path).stem == f"best-{STEPS * (best + 1):08d}"
    assert len(list(tmp_path.glob("best-*"))) == 1


def test_the_best_is_kept_that_no_save_was_due_for(tmp_path):
    result = train(tmp_path, epochs=12, best="validation/loss", seconds=1000, optimizer=nn.sgd(30.0))
    best = int(np.argmin(result.history.validation["loss"])) + 1
    assert best < 12, "else this tests nothing"
    assert steps_in(tmp_path) == [STEPS * 12]
    assert best_of(tmp_path).stem == f"best-{STEPS * best:08d}"


def test_what_is_saved_beside_it_comes_back(tmp_path):
    scale = nn.data.min_max(X)
    train(tmp_path, beside={"scale": scale}, config={"name": "mine"})
    with pytest.raises(ValueError, match="beside/scale/minimum has other values than when the run began"):
        train(tmp_path, resume=True, beside={"scale": nn.data.min_max(X - 1)})
    history, tensors, about = read_history(checkpoints_in(tmp_path)[-1])
    np.testing.assert_array_equal(tensors["beside/scale/minimum"], scale.minimum)
    assert about["config"] == {"name": "mine"}
    assert (about["epoch"], about["batch"], len(history.loss)) == (4, 0, 24)
    assert about["versions"]["jax"] == jax.__version__


def test_saves_are_as_far_apart_as_is_asked(tmp_path, monkeypatch):
    clock = itertools.count()  # a second more each time that it is looked at: once at each save, and at each epoch
    monkeypatch.setattr(checkpoint_folder, "time", types.SimpleNamespace(monotonic=lambda: float(next(clock))))
    train(tmp_path, seconds=3, keep=99, epochs=9)
    assert steps_in(tmp_path) == [STEPS * epoch for epoch in (3, 6, 9)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 10}, "batch_size was 8 when the run began, and is 10 now"),
        ({"sampling": "in_order"}, "sampling was shuffle when the run began, and is in_order now"),
        ({"key": jax.random.key(1)}, "key was .* when the run began, and is .* now"),
        ({"data_key": jax.random.key(1)}, "data_key was None when the run began"),
        ({"data": nn.data.Dataset(X[:49], DATA.y[:49])}, "number of examples was 50 when the run began, and is 49 now"),
        ({"data": nn.data.Dataset(X * 2, DATA.y)}, "digest of the data was"),
        ({"model": nn.mlp([5], 3)}, r"params/dense1/W is \(6, 3\) in the checkpoint, \(6, 5\) in this model"),
        ({"optimizer": nn.sgd(0.1)}, "opt_state/.* is only in the checkpoint"),
        ({"epochs": 1}, "epochs is 1, but the run is in epoch 3 already"),
        ({"beside": {"a": np.ones(1)}}, "beside/a is only in this model"),
        ({"metrics": {}}, "metrics was accuracy when the run began, and is  now"),
        ({"validation": None}, "digest of the validation data was .* when the run began, and is None now"),
        ({"validation": nn.data.Dataset(X[:8], DATA.y[:8])}, "digest of the validation data was"),
        ({"resume": False}, "holds checkpoints already; resume=True goes on after the newest"),
    ],
)
def test_another_run_does_not_go_on(settings, sentence, tmp_path, saved):
    folder = shutil.copytree(saved, tmp_path / "copy")
    with pytest.raises(ValueError, match=sentence):
        train(folder, **{"resume": True, **settings})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    stopped(folder)
    return folder


def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(tmp_path, saved, whole):
    folder = shutil.copytree(saved, tmp_path / "copy")
    newest = checkpoints_in(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:-3])
    said = []
    assert_same(train(folder, resume=True, warn=said.append), whole)
    (sentence,) = said
    assert str(newest) in sentence
    assert "is damaged" in sentence
    assert sentence.endswith("going on after the one before")


def test_where_all_are_damaged_nothing_begins(tmp_path, saved):
    folder = shutil.copytree(saved, tmp_path / "copy")
    for path in checkpoints_in(folder):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is damaged .*; no other checkpoint is left in"):
        train(folder, resume=True, warn=lambda sentence: None)
    assert len(checkpoints_in(folder)) == 2


def test_other_versions_are_told(tmp_path, saved, monkeypatch):
    folder = shutil.copytree(saved, tmp_path / "copy")
    monkeypatch.setattr(runner, "versions", lambda: {"jax": "9.9"})
    said = []
    train(folder, resume=True, warn=said.append)
    assert said == [f"the run was saved with jax {jax.__version__}, now 9.9: from here on its last bits may be others"]


def test_leftovers_of_a_killed_save_are_removed(tmp_path, saved):
    folder = shutil.copytree(saved, tmp_path / "copy")
    (folder / ".unfinished-12345678.safetensors").write_bytes(b"half")
    train(folder, resume=True)
    assert not list(folder.glob(".unfinished-*"))


def test_a_damaged_checkpoint_costs_no_other(tmp_path, saved, whole):
    """With one kept, and a run that is interrupted before it has come as far again."""
    folder = shutil.copytree(saved, tmp_path / "copy")
    newest = checkpoints_in(folder)[-1]
    newest.rename(newest.with_name("step-00000900.safetensors"))
    newest = newest.with_name("step-00000900.safetensors")
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with pytest.raises(StopError):
        train(folder, resume=True, keep=1, report=stopping(3), warn=lambda sentence: None)
    assert steps_in(folder) == [3 * STEPS]
    assert_same(train(folder, resume=True), whole)
    assert [path.name for path in folder.glob(".damaged-*")] == [f".damaged-{newest.name}"]


@pytest.mark.slow
def test_the_best_outlives_a_save_that_fails(tmp_path, monkeypatch):
    save = checkpoint_folder.save_checkpoint
    result = train(tmp_path / "a", epochs=12, best="validation/loss", optimizer=nn.sgd(30.0))
    best = STEPS * (int(np.argmin(result.history.validation["loss"])) + 1)
    failed = []

    def fail_at_the_best(path, checkpoint):
        if int(checkpoint.state.step) == best and not failed:
            failed.append(path)
            full(path)
        save(path, checkpoint)

    monkeypatch.setattr(checkpoint_folder, "save_checkpoint", fail_at_the_best)
    settings = {"epochs": 12, "best": "validation/loss", "optimizer": nn.sgd(30.0), "warn": lambda sentence: None}
    train(tmp_path / "b", **settings)
    assert failed
    assert best_of(tmp_path / "b").stem == f"best-{best:08d}"


def test_figures_that_a_signal_leaves_out_are_measured_of_their_own_epoch(tmp_path, monkeypatch, whole):
    """Two chunks are in flight: the later one is not taken before the earlier one is measured."""
    from jaxnn import host_loop

    settle, calls = host_loop.HostLoop._settle_epoch, itertools.count()

    def given_up(loop, figures):
        if next(calls) == 1:
            loop._waiting.heard.set()
            return False
        return settle(loop, figures)

    with monkeypatch.context() as patched:
        patched.setattr(host_loop.HostLoop, "_settle_epoch", given_up)
        result = train(tmp_path)
    assert (result.epochs, len(result.history.loss), result.interrupted) == (1, 2 * STEPS, "Ctrl-C")
    assert_same(train(tmp_path, resume=True), whole)


def test_a_folder_whose_names_cannot_be_brought_to_the_disk_is_good_enough(tmp_path, monkeypatch, whole):
    """As some file systems over a network have it."""
    from jaxnn import _tensors

    sync = _tensors.sync

    def refuse(path):
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(path)

    monkeypatch.setattr(_tensors, "sync", refuse)
    monkeypatch.setattr(checkpoint_folder, "sync", refuse)
    assert_same(train(tmp_path), whole)
    assert steps_in(tmp_path) == [3 * STEPS, 4 * STEPS]


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of this kind")
def test_a_file_that_may_not_grow_is_a_system_error(tmp_path):
    """What safetensors makes of a full disk is no OSError by itself."""
    program = (
        "import resource, signal, sys, numpy as np, jaxnn as nn\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    nn.export(sys.argv[1], {'W': np.ones(10**6)})\n"
        "except OSError as error:\n    print(error)\n"
    )
    path = tmp_path / "w.safetensors"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == f"[Errno 27] File too large: '{path}'\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def full(path):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch, whole):
    save, said = checkpoint_folder.save_checkpoint, []

    def save_until_full(path, checkpoint):
        if int(checkpoint.state.step) in (3 * STEPS, 4 * STEPS):
            full(path)
        save(path, checkpoint)

    monkeypatch.setattr(checkpoint_folder, "save_checkpoint", save_until_full)
    assert_same(train(tmp_path, warn=said.append), whole)
    assert said == [
        f"{tmp_path}: a checkpoint could not be saved (No space left on device); the last one is that after step 12"
    ]
    assert steps_in(tmp_path) == [STEPS, 2 * STEPS]
    monkeypatch.undo()
    assert_same(train(tmp_path, resume=True), whole)


def test_a_folder_that_vanishes_comes_back(tmp_path, whole):
    def report(told):
        if told.epoch == 2:
            while (tmp_path / "run").exists():  # the next checkpoint may be being written
                shutil.rmtree(tmp_path / "run", ignore_errors=True)

    said = []
    assert_same(train(tmp_path / "run", report=report, warn=said.append), whole)
    assert steps_in(tmp_path / "run")[-1] == 4 * STEPS
    assert len(said) <= 1  # the save that was being made meanwhile


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run: checkpoints cannot be written there \(Not a directory\)"):
        train(tmp_path / "file" / "run", model=None)


def test_two_runs_cannot_have_one_folder(tmp_path):
    def report(told):
        if told.epoch == 1:
            program = "import sys; from pathlib import Path; from jaxnn.checkpoint_folder import check_free; check_free(Path(sys.argv[1]))"
            other = subprocess.run(
                [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
            )
            assert f"ValueError: {tmp_path}: another run is training there" in other.stderr

    train(tmp_path, report=report)
    checkpoint_folder.check_free(tmp_path)


def test_saving_does_not_stop_training(tmp_path, monkeypatch):
    """While a checkpoint is written, the next epoch is trained and reported."""
    save, reported, together = checkpoint_folder.save_checkpoint, threading.Event(), []

    def slow(path, checkpoint):
        if int(checkpoint.state.step) == STEPS:
            together.append(reported.wait(30))
        save(path, checkpoint)

    def report(told):
        if told.epoch == 2:
            reported.set()

    monkeypatch.setattr(checkpoint_folder, "save_checkpoint", slow)
    train(tmp_path, report=report)
    assert together == [True]


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"folder": 3}, TypeError, "folder must be a path; got int"),
        ({"seconds": -1}, ValueError, "seconds must be finite and at least 0; got -1"),
        ({"seconds": float("nan")}, ValueError, "seconds must be finite"),
        ({"keep": 0}, ValueError, "keep must be at least 1; got 0"),
        ({"keep": 1.5}, TypeError, "keep must be a whole number"),
        (
            {"best": "accuracy"},
            ValueError,
            "best must name an accuracy, a loss or an error, such as validation/accuracy",
        ),
        ({"best": "validation/recall"}, ValueError, "best must name an accuracy, a loss or an error"),
    ],
)
def test_what_checkpoints_refuse(settings, error, sentence, types_unchecked):
    with pytest.raises(error, match=sentence):
        nn.Checkpoints(**{"folder": "nowhere", **settings})


def test_a_best_that_is_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown metric for checkpoints.best 'error': there are loss, accuracy"):
        train(tmp_path / "run", best="validation/error")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_time_that_is_left_counts_this_part_alone(tmp_path, saved):
    folder = shutil.copytree(saved, tmp_path / "copy")
    reports = []
    result = train(folder, resume=True, report=reports.append)
    assert reports[-1].seconds_left == 0
    before = read_about(checkpoints_in(saved)[-1])["seconds"]
    assert result.run_seconds > before > 0


def test_memory_stays_flat(tmp_path):
    """A thousand epochs leave no array behind, on the device or off it."""
    counted = []

    def report(told):
        if told.epoch in (50, 1000):
            counted.append(sum(leaf.nbytes for leaf in jax.live_arrays()))

    train(tmp_path, epochs=1000, report=report, seconds=0.05, best="validation/loss")
    assert counted[1] <= counted[0]


def test_nothing_is_compiled_after_the_first_epoch(tmp_path):
    compiled, epochs = [], []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(len(epochs))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train(tmp_path, epochs=10, report=epochs.append, best="validation/loss")
    finally:
        unregister(listen, "event_duration")
    assert compiled, "the listener hears"
    assert not [epoch for epoch in compiled if epoch >= 1]


@pytest.mark.slow
def test_a_run_that_ended_between_an_epoch_and_its_figures_measures_first(tmp_path, monkeypatch, whole):
    from jaxnn.host_loop import HostLoop

    settle = HostLoop._settle_epoch

    def interrupted(loop, figures):
        if loop.reached.mark.step == 2 * STEPS:
            raise StopError
        return settle(loop, figures)

    with monkeypatch.context() as patched:
        patched.setattr(HostLoop, "_settle_epoch", interrupted)
        with pytest.raises(StopError):
            train(tmp_path)
    assert read_about(checkpoints_in(tmp_path)[-1])["measured"] == 1
    assert steps_in(tmp_path)[-1] == 2 * STEPS
    reports = []
    assert_same(train(tmp_path, resume=True, report=reports.append), whole)
    assert [told.epoch for told in reports] == [2, 3, 4]


def noise(key):
    """As optax.add_noise, whose state holds a key."""

    def update(updates, key, params=None):
        key, now = jax.random.split(key)
        return jax.tree.map(lambda leaf: leaf + 0.01 * jax.random.normal(now, leaf.shape, leaf.dtype), updates), key

    return optax.GradientTransformation(lambda params: key, update)


@pytest.mark.slow
def test_other_states_come_back(tmp_path):
    """An optimizer with a key in its state, keys of the older form, several parts in a chain."""

    settings = {
        "optimizer": optax.chain(noise(jax.random.key(2)), optax.sgd(0.01)),
        "key": jax.random.PRNGKey(3),
        "data_key": jax.random.PRNGKey(4),
    }
    stopped(tmp_path, **settings)
    assert_same(train(tmp_path, resume=True, **settings), train(**settings))
