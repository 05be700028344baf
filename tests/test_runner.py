"""The host loop: the numbers of `fit`, and what happens on the way."""

import functools
import signal

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import runner

pytestmark = pytest.mark.little_optimized

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
DATA = nn.data.Dataset(X, np.random.default_rng(1).integers(0, 3, 50).astype(np.int32))
VALIDATION = nn.data.Dataset(X[:9] + 0.1, DATA.y[:9])
MODEL = nn.mlp([5], 3, batch_norm=True, dropout=0.3)
SETTINGS = {"key": jax.random.key(0), "epochs": 4, "batch_size": 8, "validation": VALIDATION}


def train(model=MODEL, optimizer=None, data=DATA, **settings):
    return runner.train(
        model, nn.softmax_cross_entropy, optimizer or nn.momentum(0.1), data, **{**SETTINGS, **settings}
    )


@functools.cache
def trained():
    """A run, and what it reported."""
    reports = []
    return train(report=reports.append), reports


def regress(**settings):
    """A run that is compiled soon, for what numbers do not matter to."""
    data = nn.data.Dataset(X, X[:, :2])
    settings = {**SETTINGS, "validation": None, **settings}
    return runner.train(
        nn.linear_regression(2), nn.mean_squared_error, settings.pop("optimizer", nn.sgd(0.1)), data, **settings
    )


@pytest.mark.parametrize("sampling", ["shuffle", pytest.param("replacement", marks=pytest.mark.slow)])
def test_equals_fit_to_rounding(sampling):
    ours = trained()[0] if sampling == "shuffle" else train(sampling=sampling)
    theirs = nn.fit(MODEL, nn.softmax_cross_entropy, nn.momentum(0.1), DATA, sampling=sampling, **SETTINGS)
    assert jax.tree.structure(ours.history) == jax.tree.structure(theirs.history)
    for name in ("params", "model_state", "opt_state", "history"):
        for a, b in zip(jax.tree.leaves(getattr(ours, name)), jax.tree.leaves(getattr(theirs, name)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_same_bits_twice():
    for a, b in zip(jax.tree.leaves(trained()[0][:4]), jax.tree.leaves(train()[:4]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_reports_each_epoch():
    result, reports = trained()
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    np.testing.assert_allclose(
        [report.loss for report in reports], result.history.loss.reshape(4, 6).mean(1), rtol=1e-6
    )
    np.testing.assert_allclose([r.validation["loss"] for r in reports], result.history.validation["loss"], rtol=1e-6)
    assert reports[-1].seconds_left == 0
    assert (result.epochs, result.interrupted) == (4, None)


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 2, 4])
def test_ctrl_c_keeps_the_finished_epochs(last):
    def report(epoch):
        if epoch.epoch == last:
            raise KeyboardInterrupt

    result = train(report=report)
    assert result.epochs == last
    assert result.interrupted == ("Ctrl-C" if last < 4 else None)
    shorter = train(epochs=last)
    for a, b in zip(jax.tree.leaves(result[:4]), jax.tree.leaves(shorter[:4]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ctrl_c_before_the_first_epoch_goes_on_up(monkeypatch):
    def interrupted(values, heard, gives_up):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        regress()


def once(number):
    """A report that sends this process a signal after the first epoch."""
    return lambda epoch: signal.raise_signal(number) if epoch.epoch == 1 else None


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_is_noted_and_ends_the_run_after_the_chunks_in_flight(number, name):
    before = signal.getsignal(number)
    result = regress(report=once(number), epochs=50)
    assert result.interrupted == name
    assert result.epochs == 2
    assert len(result.history.loss) == 12
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_raised_and_goes_on_up():
    with pytest.raises(KeyboardInterrupt):
        regress(report=lambda epoch: signal.raise_signal(signal.SIGINT))


def test_a_signal_handler_of_somebody_elses_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        result = regress(report=once(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.epochs, result.interrupted, heard) == (4, None, [True])


def test_divergence_is_said_with_its_step():
    with pytest.raises(
        runner.DivergedError,
        match=r"the loss became inf at step \d+ \(epoch \d of 4\): the largest .* in dense1/W; a smaller",
    ):
        regress(optimizer=nn.sgd(1e9))


def test_refuses_what_fit_refuses():
    with pytest.raises(ValueError, match="batch_size is 51, but there are only 50"):
        train(batch_size=51)
