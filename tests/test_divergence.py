"""A run whose numbers become NaN or infinite: where, why, and what is done about it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import runner
from jaxnn.checkpoint import read_about, read_history
from jaxnn.checkpoint_folder import checkpoints_in
from jaxnn.config import OPTIMIZERS
from jaxnn.divergence import all_finite, learning_rate, slowed

pytestmark = pytest.mark.little_optimized

X = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
DATA = nn.data.Dataset(X, np.arange(48, dtype=np.float32))  # the targets say which example it is
STEPS = 6
MODEL = nn.sequential(nn.dense(3), nn.dense(1))


def train(loss, *, optimizer=None, epochs=3, data=DATA, **settings):
    return runner.train(
        settings.pop("model", MODEL),
        loss,
        optimizer or nn.sgd(0.01),
        data,
        key=jax.random.key(0),
        epochs=epochs,
        batch_size=8,
        sampling="in_order",
        metrics={},
        **settings,
    )


def refused(loss, **settings):
    with pytest.raises(runner.DivergedError) as refusal:
        train(loss, **settings)
    said = str(refusal.value)
    assert "\n" not in said
    return said


def good(outputs, y):
    return jnp.mean(outputs**2)


def bad_at(example, make):
    """A loss whose batch with that example is made bad."""

    def loss(outputs, y):
        # Not by jnp.where: its derivative has both sides in it.
        return jax.lax.cond(jnp.any(y == example), make, lambda outputs: good(outputs, y), outputs)

    return loss


def gradient_only(outputs):
    """Finite itself; its derivative is that of a square root at 0."""
    return jnp.sqrt(jnp.sum(outputs * 0)) + good(outputs, None)


@pytest.mark.parametrize("make_stream", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_gradient_that_is_not_finite_is_named_with_its_step_and_leaf(make_stream):
    """Example 20 is in the third batch: its loss is a number, and the one after it is none."""
    data = nn.data.stream(DATA) if make_stream else DATA
    said = refused(bad_at(20, gradient_only), data=data)
    assert re.match(
        r"the loss is [\d.]+ at step 3 \(epoch 1 of 3\): the gradient of dense1/W, first of 4 leaves, is not", said
    )
    assert said.endswith("a smaller learning rate is the usual remedy")


@pytest.mark.slow
def test_the_last_step_of_all_is_looked_at_too():
    """No loss comes after it."""
    said = refused(bad_at(47, gradient_only), epochs=1)
    assert "at step 6 (epoch 1 of 1): the gradient of dense1/W" in said


def test_a_loss_that_is_not_finite_before_any_update_is_no_matter_of_the_rate():
    said = refused(bad_at(1, lambda outputs: jnp.inf * jnp.sum(outputs**2)))
    assert "at step 1 (epoch 1 of 3)" in said
    assert said.endswith("look at the data, its scaling, and the initial weights")
    assert "learning rate" not in said


def test_the_rate_is_told_where_the_state_has_it():
    import optax

    optimizer = optax.inject_hyperparams(nn.sgd)(learning_rate=1e9)
    said = refused(good, optimizer=optimizer)
    assert ", with a learning rate of 1e+09; a smaller" in said
    assert re.search(r"the largest parameter before was [\d.]+e\+\d\d, in dense\d/[Wb]", said)
    assert "learning rate of" not in refused(good, optimizer=nn.sgd(1e9))


@pytest.mark.slow
def test_moments_of_batch_norm_are_looked_at():
    model = nn.sequential(nn.dense(3), nn.batch_norm(), nn.dense(1))
    data = nn.data.Dataset(np.concatenate([X[:8], X[8:] * np.float32(1e25)]), DATA.y)
    said = refused(good, model=model, data=data)
    assert "at step 2 (epoch 1 of 3)" in said
    assert "model_state/batch_norm1/var" in said or "the gradient of" in said


def test_the_validation_loss_counts():
    said = refused(
        bad_at(99, lambda outputs: jnp.nan * jnp.sum(outputs)),
        validation=nn.data.Dataset(X[:8], np.full(8, 99, np.float32)),
    )
    assert said.startswith("the validation loss became nan at step 6 (epoch 1 of 3)")


def test_the_operation_is_named(monkeypatch):
    def root(outputs):
        return jnp.mean(jnp.log(-jnp.abs(outputs) - 1))

    assert "log" not in refused(bad_at(20, root))
    said = refused(bad_at(20, root), debug_nans=True)
    assert "the first operation to blame is log, which makes nan, in root, test_divergence.py:" in said
    # Where the derivative alone is to blame.
    said = refused(bad_at(20, gradient_only), debug_nans=True)
    assert re.search(r"to blame is \w+, which makes (inf|nan), in gradient_only, test_divergence.py:\d+", said)


def test_the_last_good_checkpoint_stays(tmp_path):
    refused(good, optimizer=nn.sgd(0.8), epochs=9, checkpoints=nn.Checkpoints(tmp_path, seconds=1000))
    (only,) = checkpoints_in(tmp_path)
    about = read_about(only)
    assert about["is_finite"]
    assert about["epoch"] >= 1
    history, tensors, _ = read_history(only)
    assert np.isfinite(history.loss).all()
    assert all(np.isfinite(values).all() for name, values in tensors.items() if name.startswith("params"))


def test_restore_goes_back_with_smaller_steps_until_it_works():
    told = []
    result = train(good, optimizer=nn.sgd(30.0), on_divergence="restore", warn=told.append, epochs=4)
    assert result.epochs == 4
    assert np.isfinite(result.history.loss).all()
    assert len(result.history.loss) == 4 * STEPS
    assert 1 <= len(told) <= 5
    for number, sentence in enumerate(told, start=1):
        assert re.search(rf"going on after step \d+, with {(1 / 3) ** number:.3g} times the learning rate$", sentence)
    # The same numbers as a run with that rate from where it went on, here from the start.
    if all("after step 0" in sentence for sentence in told):
        slower = train(good, optimizer=nn.sgd(30.0 / 3 ** len(told)), epochs=4)
        np.testing.assert_allclose(result.history.loss, slower.history.loss, rtol=1e-4)


@pytest.mark.slow
def test_restore_ends_after_five_times():
    told = []
    with pytest.raises(runner.DivergedError, match="going back 5 times, with ever smaller steps, was no help"):
        train(bad_at(20, gradient_only), on_divergence="restore", warn=told.append)
    assert len(told) == 5


def test_a_restored_run_that_is_interrupted_is_the_same(tmp_path):
    """It goes back to ends of epochs, and so do checkpoints: no clock decides."""

    class StopError(Exception):
        pass

    def stop(told):
        if told.epoch == 3:
            raise StopError

    settings = {"optimizer": nn.momentum(3.0), "on_divergence": "restore", "warn": lambda sentence: None, "epochs": 5}
    whole = train(good, **settings)
    with pytest.raises(StopError):
        train(good, report=stop, checkpoints=nn.Checkpoints(tmp_path, seconds=0), **settings)
    about = read_about(checkpoints_in(tmp_path)[-1])
    assert about["factor"] < 1
    assert about["restored"] > 0
    # What was slowed stays so, whatever is to be done next time.
    for policy in ("restore", "stop"):
        settings |= {"on_divergence": policy}
        keep = nn.Checkpoints(tmp_path, seconds=0, resume=True, keep=99)
        result = train(good, checkpoints=keep, **settings)
        for ours, theirs in zip(jax.tree.leaves(result[:4]), jax.tree.leaves(whole[:4]), strict=True):
            assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
        for path in checkpoints_in(tmp_path)[-2:]:
            path.unlink()


@pytest.mark.slow
def test_ignore_looks_at_nothing_and_keeps_the_last_good_checkpoint(tmp_path):
    keep = nn.Checkpoints(tmp_path, seconds=0, keep=1)
    result = train(good, optimizer=nn.sgd(0.8), on_divergence="ignore", epochs=4, checkpoints=keep)
    assert result.epochs == 4
    bad = ~np.isfinite(result.history.loss)
    assert bad[-1]
    assert not bad[:STEPS].any()
    # That of the first epoch, and the newest.
    assert [(read_about(path)["epoch"], read_about(path)["is_finite"]) for path in checkpoints_in(tmp_path)] == [
        (1, True),
        (4, False),
    ]


QUICK = ("momentum", "adam")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in OPTIMIZERS])
def test_smaller_steps_are_those_of_a_smaller_rate(name):
    """Of rules that are linear in the rate; the others of the textbook are none."""
    rng = np.random.default_rng(0)
    params = {"W": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}
    grads = [{"W": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)} for _ in range(5)]
    one, other = slowed(OPTIMIZERS[name](0.3), 1 / 3), OPTIMIZERS[name](0.1)
    states = [one.init(params), other.init(params)]
    ours = theirs = params
    for grad in grads:
        updates, states[0] = one.update(grad, states[0], ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        updates, states[1] = other.update(grad, states[1], theirs)
        theirs = jax.tree.map(jnp.add, theirs, updates)
    np.testing.assert_allclose(ours["W"], theirs["W"], rtol=1e-5, atol=1e-6)


def test_a_factor_of_one_changes_no_bit():
    params = {"W": jnp.asarray(X)}
    for dtype in (jnp.float32, jnp.bfloat16):
        tree = jax.tree.map(lambda leaf: leaf.astype(dtype), params)  # noqa: B023
        one, other = slowed(nn.adam(0.1), 1.0), nn.adam(0.1)
        ours, _ = one.update(tree, one.init(tree), tree)
        theirs, _ = other.update(tree, other.init(tree), tree)
        assert ours["W"].dtype == theirs["W"].dtype
        np.testing.assert_array_equal(ours["W"], theirs["W"])


def test_all_finite():
    assert all_finite({"count": jnp.int32(3), "key": jax.random.key(0)})
    assert all_finite({"a": jnp.zeros((2, 0)), "b": jnp.ones((), jnp.bfloat16)})
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not all_finite({"a": jnp.ones(3), "b": (jnp.ones((2, 2)), jnp.ones((2, 2)).at[1, 0].set(bad))})


def test_a_rate_that_is_not_there_is_not_told():
    import optax

    state = optax.inject_hyperparams(nn.sgd)(learning_rate=0.25).init({})
    assert learning_rate(state) == 0.25
    assert learning_rate(slowed(optax.inject_hyperparams(nn.sgd)(learning_rate=0.25), 0.5).init({})) == 0.125
    assert learning_rate(nn.sgd(0.1).init({})) is None
    assert learning_rate((state, state)) is None
