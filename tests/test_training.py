"""`fit` against loops written out by hand, alone and many at once; and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64
from jaxnn.training import epoch_indices

pytestmark = pytest.mark.little_optimized

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(50, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 50).astype(np.int32)
DATA = nn.data.Dataset(X, Y)
FIT = {"key": KEY, "epochs": 3, "batch_size": 8}


def fit(model=None, optimizer=None, data=DATA, loss=nn.softmax_cross_entropy, **settings):
    model = nn.mlp([5], 3, activation=nn.tanh) if model is None else model
    return nn.fit(model, loss, optimizer or nn.sgd(0.1), data, **{**FIT, **settings})


@functools.cache
def plain():
    return fit()


def assert_same(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


def test_fit_equals_numpy():
    """A linear model and squared error, the textbook's loop written out in float64."""
    targets = (X @ RANDOM.normal(size=(6, 2))).astype(np.float32)
    model = nn.linear_regression(2)
    result = nn.fit(model, nn.mean_squared_error, nn.sgd(0.05), (X, targets), data_key=jax.random.key(4), **FIT)
    start = nn.init_state(model, nn.sgd(0.05), (6,), KEY).params["dense1"]
    W, b = (np.asarray(start[name], np.float64) for name in "Wb")
    losses = []
    for epoch in range(3):
        for index in epoch_indices(jax.random.key(4), epoch, 50, 8, "shuffle"):
            x, y = X[index].astype(np.float64), targets[index]
            error = x @ W + b - y
            losses.append((error**2).mean())
            W = W - 0.05 * x.T @ (2 * error / error.size)
            b = b - 0.05 * (2 * error / error.size).sum(0)
    np.testing.assert_allclose(result.history.loss, losses, rtol=1e-5)
    np.testing.assert_allclose(result.params["dense1"]["W"], W, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.params["dense1"]["b"], b, rtol=1e-5, atol=1e-6)


def test_fit_equals_its_parts():
    """`fit` is `init_state`, then `train_epoch` again and again; an epoch is `train_step` again and again."""
    # Momentum, for Adam would blow up the rounding in the gradient of a bias that batch norm cancels.
    model, optimizer = nn.mlp([5], 3, batch_norm=True, dropout=0.3), nn.momentum(0.1)
    result = fit(model, optimizer)
    by_epoch = by_step = nn.init_state(model, optimizer, (6,), KEY)
    train_epoch = jax.jit(functools.partial(nn.train_epoch, model, nn.softmax_cross_entropy, optimizer, batch_size=8))
    train_step = jax.jit(functools.partial(nn.train_step, model, nn.softmax_cross_entropy, optimizer))
    losses = []
    for epoch in range(3):
        by_epoch, epoch_losses = train_epoch(by_epoch, DATA)
        losses += list(epoch_losses)
        data_key = jax.random.split(by_step.key, 3)[0]
        for index in epoch_indices(data_key, epoch, 50, 8, "shuffle"):
            by_step, _ = train_step(by_step, X[index], Y[index])
    np.testing.assert_allclose(result.history.loss, losses, rtol=1e-5)
    for state in (by_epoch, by_step):
        assert state.step == 18
        assert_same(result.params, state.params, rtol=2e-4, atol=1e-5)
        assert_same(result.model_state, state.model_state, rtol=2e-4, atol=1e-5)


def test_history_is_measured_on_all_examples_after_each_epoch():
    validation = nn.data.Dataset(X[:7] + 1, Y[:7])
    model = nn.mlp([5], 3, activation=nn.tanh)
    metrics = {"accuracy": nn.accuracy, "squares": lambda outputs, y: jnp.mean(outputs**2)}
    result = fit(model, validation=validation, metrics=metrics)
    assert result.history.loss.shape == (18,)
    assert set(result.history.train) == {"accuracy", "squares"}
    assert set(result.history.validation) == {"accuracy", "squares", "loss"}
    for epochs in (1, 2, 3):
        params = fit(model, epochs=epochs).params
        for data, history in ((DATA, result.history.train), (validation, result.history.validation)):
            outputs = np.asarray(model.apply(params, {}, jnp.asarray(data.x))[0], np.float64)
            assert history["accuracy"].shape == (3,)
            np.testing.assert_allclose(history["accuracy"][epochs - 1], (outputs.argmax(1) == data.y).mean(), rtol=1e-6)
            np.testing.assert_allclose(history["squares"][epochs - 1], (outputs**2).mean(), rtol=1e-5)
    log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    np.testing.assert_allclose(result.history.validation["loss"][2], -log_p[np.arange(7), Y[:7]].mean(), rtol=1e-5)


def test_metrics_by_default():
    assert set(plain().history.train) == {"accuracy"}
    assert fit(metrics={}).history.train == {}
    one_hot = nn.data.Dataset(X, np.eye(3, dtype=np.float32)[Y])
    assert fit(data=one_hot).history.train == {}


class TestSampling:
    @pytest.mark.parametrize("sampling", ["shuffle", "replacement", "in_order"])
    def test_each_trains(self, sampling):
        losses = fit(sampling=sampling, epochs=40).history.loss
        assert losses[-6:].mean() < 0.9 * losses[:6].mean()


class TestKeys:
    def test_same_key_same_bits(self):
        model = nn.mlp([5], 3, batch_norm=True, dropout=0.3)
        run = jax.jit(lambda key: fit(model, nn.adam(0.01), key=key))
        assert_same(run(KEY), run(KEY), rtol=0, atol=0)
        assert not np.allclose(run(KEY).history.loss, run(jax.random.key(1)).history.loss)

    def test_data_key_alone_decides_the_order(self):
        """Same weights and another order; another start and the same order."""
        seen = []

        def spy(x):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
            return x

        for key, data_key in ((0, 5), (0, 6), (1, 5)):
            fit(
                key=jax.random.key(key),
                data_key=jax.random.key(data_key),
                preprocess=spy,
                metrics={},
                epochs=1,
            )
        jax.effects_barrier()
        first, other_order, other_start = np.split(np.stack(seen), 3)
        np.testing.assert_array_equal(first, other_start)
        assert not np.array_equal(first, other_order)

    def test_dropout_draws_a_new_mask_each_step(self):
        model = nn.sequential(nn.dropout(0.5), nn.dense(1, nn.constant(1.0)))
        state = nn.init_state(model, nn.sgd(0.0), (1000,), KEY)
        outputs = lambda z, y: jnp.mean(z)
        x, y = jnp.ones((2, 1000)), jnp.ones((2, 1))
        losses = []
        for _ in range(3):
            state, loss = nn.train_step(model, outputs, nn.sgd(0.0), state, x, y)
            losses.append(float(loss))
        assert len(set(losses)) == 3

    @pytest.mark.slow
    def test_older_keys_work(self):
        old = fit(key=jax.random.PRNGKey(0))
        assert_same(old.params, fit(key=jax.random.key(0)).params)


class TestManyAtOnce:
    @staticmethod
    def run(rate, data, model=None, **settings):
        return fit(model, nn.sgd(rate), data, **settings).history

    @pytest.mark.slow  # its short form is in the README
    def test_eight_learning_rates_on_the_digits(self, digits):
        """Each history equals that of the run alone, to float32 rounding."""
        scale = nn.data.min_max(digits.train.x, axis=None)
        model = nn.mlp([32], 10)
        settings = {"epochs": 5, "batch_size": 100, "preprocess": scale, "validation": digits.validation}
        run = functools.partial(self.run, model=model, **settings)
        rates = jnp.logspace(-3, 0, 8)
        together = jax.jit(jax.vmap(run, in_axes=(0, None)))(rates, digits.train)
        assert together.loss.shape == (8, 60)
        alone = jax.jit(run)
        for number, rate in enumerate(rates):
            history = alone(rate, digits.train)
            np.testing.assert_allclose(together.loss[number], history.loss, rtol=1e-4)
            for name, values in history.validation.items():
                np.testing.assert_allclose(together.validation[name][number], values, rtol=1e-4, atol=2e-2)
        assert together.loss[-2, -1] < 0.5 * together.loss[0, -1]

    @pytest.mark.slow
    @pytest.mark.parametrize("shared_batches", [True, False])
    def test_keys_with_batch_norm_and_dropout(self, shared_batches):
        model = nn.mlp([5, 4], 3, batch_norm=True, dropout=0.2)
        data_key = jax.random.key(3) if shared_batches else None
        run = lambda key: fit(model, nn.momentum(0.1), key=key, data_key=data_key, validation=DATA)
        keys = jax.random.split(KEY, 3)
        together = jax.jit(jax.vmap(run))(keys)
        for number, key in enumerate(keys):
            alone = run(key)
            np.testing.assert_allclose(together.history.loss[number], alone.history.loss, rtol=1e-4)
            assert_same(
                jax.tree.map(lambda leaf, n=number: leaf[n], together.params),
                alone.params,
                rtol=1e-3,
                atol=1e-4,
            )

    @pytest.mark.slow
    def test_decay_factors_initial_scales_and_dropout_rates(self):
        def run(decay, std, rate):
            model = nn.mlp([5], 3, initializer=nn.normal(std), batch_norm=True, dropout=rate)
            return fit(model, penalty=nn.l2_penalty(decay)).history.loss

        settings = jnp.array([0.0, 0.1]), jnp.array([0.1, 1.0]), jnp.array([0.0, 0.5])
        together = jax.vmap(run)(*settings)
        for number in range(2):
            alone = run(*(float(setting[number]) for setting in settings))
            np.testing.assert_allclose(together[number], alone, rtol=1e-4)

    def test_a_diverged_run_leaves_its_neighbours_alone(self):
        targets = nn.data.Dataset(X, X[:, :2])
        run = lambda rate: (
            nn.fit(nn.linear_regression(2), nn.mean_squared_error, nn.sgd(rate), targets, **FIT).history.loss
        )
        together = jax.vmap(run)(jnp.array([0.1, 1e30]))
        assert not np.isfinite(together[1]).all()
        np.testing.assert_array_equal(together[0], jax.vmap(run)(jnp.array([0.1, 0.1]))[0])


def test_penalty_joins_the_loss_and_its_gradient():
    plain = fit(epochs=1, batch_size=50, sampling="in_order")
    decayed = fit(epochs=1, batch_size=50, sampling="in_order", penalty=nn.l2_penalty(0.3))
    start = nn.init_state(nn.mlp([5], 3, activation=nn.tanh), nn.sgd(0.1), (6,), KEY).params
    squares = sum(float((layer["W"] ** 2).sum()) for layer in start.values())
    np.testing.assert_allclose(decayed.history.loss[0] - plain.history.loss[0], 0.5 * 0.3 * squares, rtol=1e-4)
    for name, layer in start.items():
        difference = decayed.params[name]["W"] - plain.params[name]["W"]
        np.testing.assert_allclose(difference, -0.1 * 0.3 * layer["W"], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(decayed.params[name]["b"], plain.params[name]["b"], atol=1e-7)


def test_pixels_stay_uint8_until_preprocess():
    pixels = RANDOM.integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    scale = nn.data.min_max(pixels, axis=None)
    seen = []

    def preprocess(x):
        seen.append(x.dtype)
        return scale(x)

    from_pixels = fit(data=nn.data.Dataset(pixels, Y), preprocess=preprocess, validation=nn.data.Dataset(pixels, Y))
    scaled = np.asarray(scale(pixels))
    from_floats = fit(data=nn.data.Dataset(scaled, Y), validation=nn.data.Dataset(scaled, Y))
    assert set(seen) == {np.dtype(np.uint8)}
    assert_same(from_pixels.history, from_floats.history, rtol=1e-4, atol=1e-5)


def test_augment_changes_training_alone_and_each_step_anew():
    shifts = []

    def augment(key, x):
        shift = jax.random.normal(key)
        jax.debug.callback(lambda s: shifts.append(float(s)), shift)
        return x + shift

    result = fit(augment=augment, optimizer=nn.sgd(0.0))
    jax.effects_barrier()
    assert len(set(shifts)) == 18
    plain = fit(optimizer=nn.sgd(0.0))
    assert_same(result.history.train, plain.history.train)
    assert not np.allclose(result.history.loss, plain.history.loss)


@pytest.mark.slow
def test_schedule_and_optax_optimizer():
    decaying = fit(optimizer=nn.sgd(optax.exponential_decay(0.1, 1, 0.5)))
    chained = fit(optimizer=optax.chain(optax.clip_by_global_norm(0.1), nn.sgd(0.1)))
    with jax.numpy_dtype_promotion("standard"):
        theirs = fit(optimizer=optax.adam(0.01))
    assert_same(theirs.params, fit(optimizer=nn.adam(0.01)).params, rtol=1e-4, atol=1e-5)
    for result in (decaying, chained):
        assert not np.allclose(result.history.loss[1:], plain().history.loss[1:])


@pytest.mark.slow
def test_runs_in_float64():
    with enable_x64(True):
        data = nn.data.Dataset(X.astype(np.float64), Y.astype(np.int64))
        result = fit(nn.mlp([5], 3, batch_norm=True, dropout=0.1), nn.adam(0.01), data, validation=data)
        assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype(np.float64)}
        assert result.history.loss.dtype == np.float64


def test_compiles_once_for_all_learning_rates():
    traces = []

    @jax.jit
    def run(rate):
        traces.append(1)
        return fit(optimizer=nn.sgd(rate)).history.loss

    first, second = run(0.1), run(0.2)
    assert len(traces) == 1
    assert not np.allclose(first, second)


def changed(part, index, value, dtype=None):
    x, y = X.copy(), Y.copy()
    {"x": x, "y": y}[part][index] = value
    return nn.data.Dataset(x, y)


BAD = {
    "labels (N, 1)": ({"data": (X, Y[:, None])}, ValueError, r"train.y has shape \(50, 1\); expected \(50,\) integer labels \(use y\[:, 0\]\)"),
    "labels as floats": ({"data": (X, Y.astype(np.float32))}, TypeError, r"targets have dtype float32; expected integer labels"),
    "label too large": ({"data": changed("y", 7, 3)}, ValueError, r"train.y\[7\] is 3; expected labels 0 to 2 for 3 outputs"),
    "label negative": ({"data": changed("y", 9, -1)}, ValueError, r"train.y\[9\] is -1; expected labels 0 to 2"),
    "validation label too large": ({"validation": changed("y", 7, 3)}, ValueError, r"validation.y\[7\] is 3"),
    "NaN": ({"data": changed("x", (4, 2), np.nan)}, ValueError, r"train.x\[4, 2\] is nan; every value must be finite"),
    "infinity": ({"validation": changed("x", (4, 2), np.inf)}, ValueError, r"validation.x\[4, 2\] is inf"),
    "lengths differ": ({"data": (X, Y[:-1])}, ValueError, "train.x has 50 examples and train.y has 49"),
    "no examples": ({"data": (X[:0], Y[:0])}, ValueError, "train has no examples"),
    "three parts": ({"data": nn.data.Splits(DATA, DATA, DATA)}, TypeError, r"use train=splits.train"),
    "a list": ({"data": (X.tolist(), Y)}, TypeError, "train.x must be an array; got list"),
    "strings": ({"data": (X.astype(str), Y)}, TypeError, "train.x must hold numbers"),
    "batch size 0": ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
    "batch size too large": ({"batch_size": 51}, ValueError, "batch_size is 51, but there are only 50 training examples"),
    "batch size a float": ({"batch_size": 10.0}, TypeError, "batch_size must be a whole number; got 10.0"),
    "epochs 0": ({"epochs": 0}, ValueError, "epochs must be at least 1; got 0"),
    "key a number": ({"key": 7}, TypeError, r"key must be a PRNG key; got int \(use jax.random.key\(7\)\)"),
    "many keys": ({"key": jax.random.split(KEY, 3)}, ValueError, "key must be one key"),
    "data_key": ({"data_key": "a"}, TypeError, "data_key must be a PRNG key; got str"),
    "sampling": ({"sampling": "shufle"}, ValueError, "unknown sampling 'shufle': did you mean shuffle?"),
    "model": ({"model": nn.relu}, TypeError, "model must be a Layer"),
    "loss": ({"loss": "mse"}, TypeError, r"loss must be a function \(outputs, targets\) -> scalar; got str 'mse'"),
    "loss of many": ({"loss": lambda z, y: z.sum(1)}, ValueError, r"the loss has shape \(8,\); expected a scalar"),
    "optimizer": ({"optimizer": 0.1}, TypeError, "optimizer must be made by sgd"),
    "metric": ({"metrics": {"accuracy": 3}}, TypeError, "metric 'accuracy' must be a function"),
    "metric of counts": ({"metrics": {"hits": lambda z, y: jnp.sum(y)}}, TypeError, "metric 'hits' must return a float"),
    "penalty": ({"penalty": 0.1}, TypeError, r"penalty must be a function \(params\) -> scalar"),
    "pixels": ({"data": (X.astype(np.uint8), Y)}, TypeError, "dense takes floating-point x; got uint8"),
    "validation of another shape": ({"validation": (X[:, :3], Y)}, ValueError, r"validation.x has examples of shape \(3,\)"),
    "regression (n,)": ({"data": (X, X[:, 0]), "model": nn.linear_regression(), "loss": nn.mean_squared_error}, ValueError, r"use targets\[:, None\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_before_any_work(name, types_unchecked):
    settings, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence) as raised:
        fit(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["labels (N, 1)", "lengths differ", "batch size too large", "validation of another shape"]
)
def test_shapes_are_refused_under_jit_too(name, types_unchecked):
    settings, error, sentence = BAD[name]
    data = settings.pop("data", DATA) if "data" in settings else DATA
    settings = {key: value for key, value in settings.items() if key != "data"}
    with pytest.raises(error, match=sentence):
        jax.jit(lambda data: fit(data=data, **settings).history.loss)(data)


@pytest.mark.slow
@pytest.mark.parametrize("make", [nn.sgd, nn.adam])
def test_a_run_has_a_gradient_even_where_a_weight_never_moves(make):
    """As for the border pixels of digits, which are 0 in every picture."""
    data = nn.data.Dataset(np.where(np.arange(6) == 2, 0, X).astype(np.float32), Y)
    last_loss = jax.jit(lambda rate: fit(optimizer=make(rate), data=data, metrics={}).history.loss[-1])
    slope = jax.grad(last_loss)(0.01)
    step = 5e-4
    numerical = (last_loss(0.01 + step) - last_loss(0.01 - step)) / (2 * step)
    np.testing.assert_allclose(slope, numerical, rtol=0.1)


@pytest.mark.slow
def test_optimizers_that_ask_for_more_than_the_gradient():
    with jax.numpy_dtype_promotion("standard"):
        patient = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
        assert_same(fit(optimizer=patient).params, plain().params)
        whole = {"batch_size": 50, "sampling": "in_order", "epochs": 15, "metrics": {}}
        quasi_newton = fit(optimizer=optax.lbfgs(), **whole).history.loss[-1]
    assert quasi_newton < 0.9 * fit(**whole).history.loss[-1]


def test_metrics_of_the_wrong_kind():
    per_example = {"hits": lambda z, y: (jnp.argmax(z, -1).astype(jnp.int32) == y).astype(jnp.float32)}
    with pytest.raises(TypeError, match=r"metric 'hits' must return a float scalar, .* got float32 of shape \(8,\)"):
        fit(metrics=per_example)
    state = nn.init_state(nn.mlp([5], 3), nn.sgd(0.1), (6,), KEY)
    with pytest.raises(TypeError, match="metric 'hits' must return a float scalar"):
        nn.evaluate(nn.mlp([5], 3), state.params, {}, DATA, per_example)
    with pytest.raises(ValueError, match="a metric cannot be called 'loss'"):
        fit(metrics={"loss": nn.accuracy})


def test_train_epoch_refuses_a_batch_that_no_epoch_holds():
    model, optimizer = nn.mlp([5], 3), nn.sgd(0.1)
    state = nn.init_state(model, optimizer, (6,), KEY)
    with pytest.raises(ValueError, match="batch_size is 51, but there are only 50"):
        nn.train_epoch(model, nn.softmax_cross_entropy, optimizer, state, DATA, batch_size=51)


@pytest.mark.slow
def test_outputs_and_targets_of_ones_own():
    """A mean and a variance for each float target: no labels, though there are two outputs."""
    gaussian = lambda z, y: jnp.mean((z[:, 0] - y) ** 2 * jnp.exp(-z[:, 1]) + z[:, 1])
    result = fit(nn.mlp([5], 2), data=nn.data.Dataset(X, X[:, 0]), loss=gaussian, epochs=20)
    assert result.history.loss[-6:].mean() < result.history.loss[:6].mean() - 0.5
    sigmoid_loss = lambda z, y: jnp.mean(jnp.logaddexp(0.0, jnp.where(y[:, None] == 1, -z, z)))
    binary = fit(nn.mlp([5], 1), data=nn.data.Dataset(X, (X[:, 0] > 0).astype(np.int32)), loss=sigmoid_loss)
    assert binary.history.train == {}


def test_a_value_that_float32_cannot_hold():
    wide = X.astype(np.float64)
    wide[3, 1] = 1e39
    with pytest.raises(ValueError, match=r"train.x\[3, 1\] is 1e\+39"):
        fit(data=nn.data.Dataset(wide, Y))
