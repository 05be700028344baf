"""Training on a stream: the numbers of training in memory, and how it ends when the reading does."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import runner, stream_programs
from jaxnn.data.dataset import DataError
from jaxnn.data.streaming import stream
from jaxnn.sampling import epoch_indices

pytestmark = pytest.mark.little_optimized

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
DATA = nn.data.Dataset(X, np.random.default_rng(1).integers(0, 3, 50).astype(np.int32))
VALIDATION = nn.data.Dataset(X[:9] + 0.1, DATA.y[:9])
NUMBERS = nn.data.Dataset(X, X @ np.arange(6, dtype=np.float32)[:, None])
VALIDATION_NUMBERS = nn.data.Dataset(X[:9] + 0.1, NUMBERS.y[:9])
SETTINGS = {"key": jax.random.key(0), "epochs": 3, "batch_size": 8}


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def classify(data, **settings):
    """All that a step may hold: dropout, batch norm, a penalty, augmentation, preprocessing."""
    return runner.train(
        nn.mlp([5], 3, batch_norm=True, dropout=0.3),
        nn.softmax_cross_entropy,
        nn.momentum(0.1),
        data,
        penalty=nn.l2_penalty(1e-3),
        preprocess=lambda x: 2 * x,
        augment=lambda key, x: x + 0.1 * jax.random.normal(key, x.shape, x.dtype),
        **SETTINGS | settings,
    )


def regress(data, rate=0.01, **settings):
    return runner.train(
        nn.linear_regression(), nn.mean_squared_error, nn.sgd(rate), data, **SETTINGS | {"metrics": {}} | settings
    )


def assert_equal(ours, theirs):
    for name in ("params", "model_state", "opt_state", "history"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_equals_training_in_memory():
    reports = {"memory": [], "stream": []}
    in_memory = classify(DATA, validation=VALIDATION, report=reports["memory"].append)
    read = stream(range(50), decode=lambda index: (DATA.x[index], DATA.y[index]), threads=3)
    streamed = classify(read, validation=stream(VALIDATION), report=reports["stream"].append)
    assert_equal(streamed, in_memory)
    assert len(streamed.history.loss) == 18
    for ours, theirs in zip(reports["stream"], reports["memory"], strict=True):
        assert (ours.epoch, ours.epochs) == (theirs.epoch, theirs.epochs)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert ours.train == pytest.approx(theirs.train, rel=1e-6)
        assert ours.validation == pytest.approx(theirs.validation, rel=1e-6)


@pytest.mark.parametrize("sampling", ["replacement", "in_order"])
def test_every_order_of_the_examples(sampling):
    key = jax.random.key(5)
    assert_equal(
        regress(stream(NUMBERS), sampling=sampling, data_key=key), regress(NUMBERS, sampling=sampling, data_key=key)
    )


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["replacement", "in_order"])
def test_every_order_of_the_examples_with_all_that_a_step_may_hold(sampling):
    assert_equal(classify(stream(DATA), sampling=sampling), classify(DATA, sampling=sampling))


@pytest.mark.parametrize("part", [pytest.param(part, marks=pytest.mark.slow) for part in ("train", "validation")])
def test_the_other_part_may_be_in_memory(part):
    metrics = {"error": nn.mean_absolute_error}
    data = {"train": NUMBERS, "validation": VALIDATION_NUMBERS}
    in_memory = regress(data["train"], validation=data["validation"], metrics=metrics)
    data[part] = stream(data[part])
    assert_equal(regress(data["train"], validation=data["validation"], metrics=metrics), in_memory)


def test_without_metrics_the_training_data_is_read_once_an_epoch():
    seen = []
    read = stream(range(50), decode=lambda index: (seen.append(index), (NUMBERS.x[index], NUMBERS.y[index]))[1])
    regress(read, sampling="in_order")
    assert sorted(seen) == sorted([*range(48)] * 3 + [0])  # and the first example to see what is read


@pytest.mark.parametrize("when", ["train", pytest.param("validation", marks=pytest.mark.slow)])
def test_a_reading_error_ends_it(when):
    def decode(index):
        if index == 33:
            raise OSError("bad sector")
        return NUMBERS.x[index], NUMBERS.y[index]

    read = stream(range(50), decode=decode)
    with pytest.raises(DataError, match="example 33 could not be read: OSError: bad sector") as caught:
        regress(**({"data": read} if when == "train" else {"data": NUMBERS, "validation": read}))
    assert isinstance(caught.value.__cause__, OSError)


def test_an_odd_first_batch_is_named():
    read = stream(range(50), decode=lambda index: (X[index, : 6 - (index > 0)], NUMBERS.y[index]))
    order = epoch_indices(jax.random.key(1), 0, 50, 8, "shuffle")
    assert 0 not in order[0]
    with pytest.raises(
        DataError,
        match=rf"^example {order[0, 0]}: \(x, y\) are float32 of shape \(5,\) .* those of example 0 float32 of",
    ):
        regress(read, data_key=jax.random.key(1))


def test_orders_are_compiled_by_the_caller_and_drawn_an_epoch_ahead(monkeypatch):
    drawn = []

    def draw(key, epoch, *arguments):
        drawn.append(epoch)
        return epoch_indices(key, epoch, *arguments)

    monkeypatch.setattr(stream_programs, "draw_order", draw)
    order = stream_programs.Order(3, 8, jax.random.key(0), "shuffle").of_training(50, measured=True)
    assert drawn == [0]  # before anyone asks for a batch, so in the thread that calls
    for epoch in range(3):
        batches = [next(order) for _ in range(6)]
        assert drawn == [*range(min(epoch + 2, 3))]
        np.testing.assert_array_equal(batches, epoch_indices(jax.random.key(0), epoch, 50, 8, "shuffle"))
        assert np.concatenate([next(order) for _ in range(7)]).tolist() == [*range(50)]
    assert next(order, None) is None


def test_a_label_without_an_output_is_found():
    y = DATA.y.copy()
    y[41] = 3
    with pytest.raises(DataError, match="example 41: y is 3; expected labels 0 to 2 for 3 outputs"):
        runner.train(
            nn.two_layer_net(2, 3), nn.softmax_cross_entropy, nn.sgd(0.1), stream((X, y)), metrics={}, **SETTINGS
        )


def test_divergence_is_said_with_its_step():
    """The loss is no number at an example that the first epoch leaves out."""
    key = jax.random.key(2)
    first, second = (epoch_indices(key, epoch, 50, 8, "shuffle").tolist() for epoch in (0, 1))
    bad = next(index for row in second for index in row if not any(index in row for row in first))
    (step,) = (number for number, row in enumerate(second) if bad in row)

    def loss(outputs, y):
        return jnp.where(jnp.any(y == bad), jnp.inf, jnp.mean(outputs**2))

    read = stream(range(50), decode=lambda index: (X[index], np.float32(index)))
    with pytest.raises(
        runner.DivergedError, match=rf"the loss became inf at step {6 + step + 1} \(epoch 2 of 3\): .* a smaller"
    ):
        runner.train(nn.linear_regression(), loss, nn.sgd(0.01), read, data_key=key, metrics={}, **SETTINGS)


def test_ctrl_c_is_heard_while_waiting_for_data():
    let_go = threading.Event()
    read_so_far = []

    def decode(index):
        read_so_far.append(index)
        if len(read_so_far) > 1 + 48 + 20:  # in the second epoch
            let_go.wait()
        return NUMBERS.x[index], NUMBERS.y[index]

    def report(epoch):
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()

    read = stream(range(50), decode=decode, prefetch=2, timeout=5)
    try:
        result = regress(read, report=report, sampling="in_order")
    finally:
        let_go.set()
    assert (result.epochs, result.interrupted) == (1, "Ctrl-C")
    taken = len(result.history.loss)
    assert 6 + 2 <= taken < 12
    state = nn.init_state(nn.linear_regression(), nn.sgd(0.01), (6,), SETTINGS["key"])
    learned = jax.tree.map(lambda part: np.asarray(part, np.float64), state.params["dense1"])
    for step in range(taken):
        rows = slice(8 * (step % 6), 8 * (step % 6) + 8)
        error = 2 / 8 * (X[rows] @ learned["W"] + learned["b"] - NUMBERS.y[rows])
        learned = {"W": learned["W"] - 0.01 * X[rows].T @ error, "b": learned["b"] - 0.01 * error.sum(0)}
    for name, part in learned.items():
        np.testing.assert_allclose(result.params["dense1"][name], part, rtol=1e-4, atol=1e-5)
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(5)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="batch_size is 51, but there are only 50"):
        regress(stream(NUMBERS), batch_size=51)
    with pytest.raises(ValueError, match=r"validation.x has examples of shape \(2,\), and train.x of \(6,\)"):
        regress(stream(NUMBERS), validation=stream((X[:, :2], NUMBERS.y)))
    with pytest.raises(ValueError, match=r"train.y\[0\] is 7; expected labels 0 to 2"):
        classify(stream((X, jnp.full(50, 7))))
