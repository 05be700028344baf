"""Layers against float64 NumPy, and what holds for every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

pytestmark = pytest.mark.little_optimized

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(size=(6, 3, 2, 4)).astype(np.float32)

# layer, an input for it, the shape of an example's output
LAYERS = {
    "dense": (nn.dense(3), X, (3,)),
    "activation": (nn.activation(nn.tanh), X, (4,)),
    "flatten": (nn.flatten(), IMAGES, (24,)),
    "batch_norm": (nn.batch_norm(), X, (4,)),
    "batch_norm on images": (nn.batch_norm(), IMAGES, (3, 2, 4)),
    "conv2d": (nn.conv2d(5, 2, padding="SAME"), IMAGES, (3, 2, 5)),
    "max_pool2d": (nn.max_pool2d((3, 1)), IMAGES, (1, 2, 4)),
    "average_pool2d": (nn.average_pool2d(), IMAGES, (1, 1, 4)),
    "dropout": (nn.dropout(0.4), X, (4,)),
    "dropout, textbook's": (nn.dropout(0.4, scale_at="inference"), X, (4,)),
    "sequential": (
        nn.sequential(nn.flatten(), nn.dense(5, nn.he()), nn.batch_norm(), nn.activation(nn.relu), nn.dropout(0.2)),
        IMAGES,
        (5,),
    ),
    "nested": (nn.sequential(nn.sequential(nn.dense(5)), nn.sequential(nn.dense(2))), X, (2,)),
}


def seen(layer, x, key=0):
    """Parameters, and the state after one training batch."""
    params, model_state, output_shape = layer.init(jax.random.key(key), x.shape[1:])
    _, model_state = layer.apply(params, model_state, jnp.asarray(x), training=True, key=jax.random.key(1))
    return params, model_state, output_shape


@pytest.mark.parametrize("name", LAYERS)
class TestEveryLayer:
    def test_output_shape_is_as_announced(self, name):
        layer, x, shape = LAYERS[name]
        params, model_state, output_shape = seen(layer, x)
        assert output_shape == shape
        for training in (True, False):
            y, _ = layer.apply(params, model_state, jnp.asarray(x), training=training, key=jax.random.key(2))
            assert y.shape == (len(x), *shape)

    def test_same_bits_twice_and_under_jit(self, name):
        layer, x, _ = LAYERS[name]
        params, model_state, _ = seen(layer, x)
        for training in (True, False):

            def apply(params, model_state, x, key, training=training):
                return layer.apply(params, model_state, x, training=training, key=key)

            arguments = params, model_state, jnp.asarray(x), jax.random.key(5)
            first, again, jitted = apply(*arguments), apply(*arguments), jax.jit(apply)(*arguments)
            for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
                np.testing.assert_array_equal(a, b)
            for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(jitted), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    def test_keeps_structure_and_dtype_of_the_state(self, name):
        layer, x, _ = LAYERS[name]
        params, model_state, _ = layer.init(jax.random.key(0), x.shape[1:])
        y, new_state = layer.apply(params, model_state, jnp.asarray(x), training=True, key=jax.random.key(1))
        assert y.dtype == x.dtype
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new_state) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), model_state
        )

    def test_vmap_over_parameters_equals_a_loop(self, name):
        layer, x, _ = LAYERS[name]
        runs = [seen(layer, x, key)[:2] for key in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)

        def apply(run, key):
            return layer.apply(*run, jnp.asarray(x), training=True, key=key)[0]

        keys = jax.random.split(jax.random.key(9), 3)
        together = jax.vmap(apply)(stacked, keys)
        for number, run in enumerate(runs):
            np.testing.assert_allclose(together[number], apply(run, keys[number]), rtol=1e-5, atol=1e-5)

    def test_does_not_change_its_arguments(self, name):
        layer, x, _ = LAYERS[name]
        params, model_state, _ = layer.init(jax.random.key(0), x.shape[1:])
        before = jax.tree.map(np.asarray, (params, model_state))
        layer.apply(params, model_state, jnp.asarray(x), training=True, key=jax.random.key(1))
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves((params, model_state)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_dense_equals_numpy():
    layer = nn.dense(3, nn.normal(1.0), bias_initializer=nn.normal(1.0))
    params, _, _ = layer.init(jax.random.key(0), (4,))
    y, _ = layer.apply(params, {}, jnp.asarray(X))
    W, b = (np.asarray(params[name], np.float64) for name in "Wb")
    assert not np.array_equal(b, W[0]), "W and b must not come from one key"
    np.testing.assert_allclose(y, X @ W + b, rtol=1e-5, atol=1e-6)


def test_dense_starts_from_xavier_and_zero_bias():
    params, _, _ = nn.dense(300).init(jax.random.key(0), (400,))
    np.testing.assert_allclose(params["W"].std(), 1 / 20, rtol=0.02)
    np.testing.assert_array_equal(params["b"], 0)


def batch_norm_64(x, gamma, beta, mean, var, eps):
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


@pytest.mark.parametrize("x", [X, IMAGES], ids=["features", "images"])
def test_batch_norm_equals_numpy_in_training_and_at_inference(x):
    momentum, eps = 0.8, 1e-3
    layer = nn.batch_norm(momentum, eps)
    params, model_state, _ = layer.init(jax.random.key(0), x.shape[1:])
    params = {"gamma": jnp.arange(1.0, 5.0), "beta": jnp.arange(4.0)}
    axes = tuple(range(x.ndim - 1))
    running_mean, running_var = np.zeros(4), np.zeros(4)
    batches = [x, 2 * x + 1, x - 3]
    for batch in batches:
        y, model_state = layer.apply(params, model_state, jnp.asarray(batch), training=True)
        batch = batch.astype(np.float64)
        mean, var = batch.mean(axes), batch.var(axes)
        expected = batch_norm_64(batch, np.arange(1, 5), np.arange(4), mean, var, eps)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var
    np.testing.assert_allclose(model_state["mean"], running_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model_state["var"], running_var, rtol=1e-5)
    y, after = layer.apply(params, model_state, jnp.asarray(x))
    assert after is model_state
    # Weighted means of what was seen: the weights of three batches, made to sum to one.
    weights = (1 - momentum) * momentum ** np.array([2, 1, 0])
    weights /= weights.sum()
    mean = sum(w * b.astype(np.float64).mean(axes) for w, b in zip(weights, batches, strict=True))
    var = sum(w * b.astype(np.float64).var(axes) for w, b in zip(weights, batches, strict=True))
    expected = batch_norm_64(x, np.arange(1, 5), np.arange(4), mean, var, eps)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_gradient_goes_through_the_moments():
    """The textbook's backward formula, in float64."""
    layer = nn.batch_norm(eps=1e-3)
    params, model_state, _ = layer.init(jax.random.key(0), (4,))
    weight = np.random.default_rng(2).normal(size=X.shape)

    def objective(x):
        return jnp.sum(layer.apply(params, model_state, x, training=True)[0] * jnp.asarray(weight, jnp.float32))

    x = X.astype(np.float64)
    std = np.sqrt(x.var(0) + 1e-3)
    x_hat = (x - x.mean(0)) / std
    expected = (weight - weight.mean(0) - x_hat * (weight * x_hat).mean(0)) / std
    np.testing.assert_allclose(jax.grad(objective)(jnp.asarray(X)), expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_is_right_after_one_batch():
    """The running moments start at 0 and are corrected for it: no warm-up is needed."""
    layer = nn.batch_norm()
    params, model_state, _ = seen(layer, X)
    trained, _ = layer.apply(params, model_state, jnp.asarray(X), training=True)
    inferred, _ = layer.apply(params, model_state, jnp.asarray(X))
    np.testing.assert_allclose(trained, inferred, rtol=1e-4, atol=1e-5)


def test_batch_norm_before_any_batch():
    layer = nn.batch_norm()
    params, model_state, _ = layer.init(jax.random.key(0), (4,))
    with pytest.raises(ValueError, match="has seen no batch yet"):
        layer.apply(params, model_state, jnp.asarray(X))
    y, _ = jax.jit(layer.apply)(params, model_state, jnp.asarray(X))
    assert jnp.isnan(y).all(), "under jit nothing can be raised; NaN is not silent"


def test_batch_norm_of_one_value():
    layer = nn.batch_norm()
    params, model_state, _ = layer.init(jax.random.key(0), (4,))
    with pytest.raises(ValueError, match="two values or more per channel"):
        layer.apply(params, model_state, jnp.asarray(X[:1]), training=True)


@pytest.mark.parametrize("scale_at", ["training", "inference"])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.7])
def test_dropout_drops_the_fraction_and_keeps_the_expectation(scale_at, rate):
    layer = nn.dropout(rate, scale_at=scale_at)
    x = jnp.full((200, 500), 3.0)
    training, _ = layer.apply({}, {}, x, training=True, key=jax.random.key(0))
    inference, _ = layer.apply({}, {}, x)
    # 100,000 draws: four standard errors of the fraction kept.
    tolerance = 4 * np.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose((training == 0).mean(), rate, atol=tolerance + 1e-9)
    np.testing.assert_allclose(training.mean(), inference.mean(), atol=3 * tolerance / (1 - rate) + 1e-5)
    kept = 3 / (1 - rate) if scale_at == "training" else 3
    np.testing.assert_allclose(np.unique(training)[-1], kept, rtol=1e-6)
    np.testing.assert_allclose(inference, 3 if scale_at == "training" else 3 * (1 - rate), rtol=1e-6)


def test_dropout_takes_a_traced_rate():
    x = jnp.ones((100, 100))

    def dropped(rate):
        return jnp.mean(nn.dropout(rate).apply({}, {}, x, training=True, key=jax.random.key(0))[0] == 0)

    np.testing.assert_allclose(jax.vmap(dropped)(jnp.array([0.0, 0.5, 0.9])), [0, 0.5, 0.9], atol=0.02)


def test_sequential_gives_each_layer_its_own_key():
    model = nn.sequential(nn.dropout(0.5), nn.dropout(0.5))
    y, _ = model.apply({}, {}, jnp.ones((100, 100)), training=True, key=jax.random.key(0))
    # With one mask for both half would survive, with two a quarter.
    np.testing.assert_allclose((y > 0).mean(), 0.25, atol=0.03)


def test_batch_norm_and_dropout_leave_the_other_weights_alone():
    plain, _, _ = nn.mlp([5, 4], 2).init(jax.random.key(0), (3,))
    with_both, _, _ = nn.mlp([5, 4], 2, batch_norm=True, dropout=0.5).init(jax.random.key(0), (3,))
    weights = [layer["W"] for layer in plain.values()]
    assert len({float(W[0, 0]) for W in weights}) == 3
    for name, layer in plain.items():
        np.testing.assert_array_equal(layer["W"], with_both[name]["W"])


def test_names_are_numbered_per_kind():
    model = nn.sequential(nn.flatten(), nn.dense(4), nn.batch_norm(), nn.dense(4), nn.batch_norm(), nn.dense(2))
    params, model_state, _ = model.init(jax.random.key(0), (2, 3))
    assert list(params) == ["dense1", "batch_norm1", "dense2", "batch_norm2", "dense3"]
    assert list(params["dense3"]) == ["W", "b"]
    assert list(params["batch_norm2"]) == ["gamma", "beta"]
    assert list(model_state) == ["batch_norm1", "batch_norm2"]


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: nn.dense(0), ValueError, "outputs must be at least 1; got 0"),
        (lambda: nn.dense(2.5), TypeError, "outputs must be a whole number; got 2.5"),
        (
            lambda: nn.dense(3).init(jax.random.key(0), (28, 28)),
            ValueError,
            r"\(28, 28\) \(put flatten\(\) before it\)",
        ),
        (
            lambda: nn.dense(3).apply({"W": jnp.ones((4, 3)), "b": jnp.ones(3)}, {}, jnp.ones((2, 5))),
            ValueError,
            r"\[batch, 4\]; got \(2, 5\)",
        ),
        (
            lambda: nn.dense(3).apply({"W": jnp.ones((4, 3)), "b": jnp.ones(3)}, {}, jnp.ones((2, 4), jnp.uint8)),
            TypeError,
            "scale it first",
        ),
        (lambda: nn.dropout(1.0), ValueError, "rate must be finite and at least 0 and below 1; got 1"),
        (
            lambda: nn.dropout(0.5).apply({}, {}, jnp.ones((2, 2)), training=True),
            ValueError,
            "needs a key in training",
        ),
        (lambda: nn.dropout(0.5, scale_at="never"), ValueError, "unknown scale_at 'never'"),
        (
            lambda: nn.batch_norm(momentum=1.0),
            ValueError,
            "momentum must be finite and at least 0 and below 1",
        ),
        (lambda: nn.batch_norm(eps=0.0), ValueError, "eps must be finite and above 0"),
        (lambda: nn.activation("relu"), TypeError, "activation must be a function"),
        (lambda: nn.sequential(), ValueError, "at least one layer"),
        (
            lambda: nn.sequential(nn.relu),
            TypeError,
            r"sequential takes layers; got .*wrap a function in activation",
        ),
    ],
)
def test_bad_input_gets_a_sentence(make, error, sentence, types_unchecked):
    with pytest.raises(error, match=sentence):
        make()


@pytest.mark.parametrize(
    "layer", [nn.dense(2), nn.batch_norm(), nn.dropout(0.5)], ids=["dense", "batch_norm", "dropout"]
)
def test_pixels_that_nobody_scaled_are_refused(layer):
    params, model_state, _ = layer.init(jax.random.key(0), (4,))
    with pytest.raises(TypeError, match="takes floating-point x; got uint8"):
        layer.apply(params, model_state, jnp.ones((3, 4), jnp.uint8), training=True, key=jax.random.key(1))


def test_batch_norm_in_bfloat16_keeps_its_moments_in_float32():
    layer = nn.batch_norm(momentum=0.999)
    params, model_state, _ = layer.init(jax.random.key(0), (4,))
    x = jax.random.normal(jax.random.key(1), (500, 4), jnp.bfloat16) * 3 + 2
    for _ in range(5):
        y, model_state = layer.apply(params, model_state, x, training=True)
    assert y.dtype == jnp.bfloat16
    inferred, _ = layer.apply(params, model_state, x)
    np.testing.assert_allclose(inferred.astype(jnp.float32).mean(0), 0, atol=0.02)
    np.testing.assert_allclose(inferred.astype(jnp.float32).std(0), 1, atol=0.02)


def test_a_layer_of_ones_own_with_a_parameter_of_zero():
    def init(key, input_shape):
        return jnp.zeros(()), {}, input_shape

    def apply(params, model_state, x, *, training=False, key=None):
        return x + params, model_state

    model = nn.sequential(nn.Layer(init, apply, "shift"))
    params, _, _ = model.init(jax.random.key(0), (4,))
    assert list(params) == ["shift1"]
    np.testing.assert_array_equal(model.apply(params, {}, jnp.asarray(X))[0], X)
