"""Models against the textbook's figures and float64 back-propagation."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64

pytestmark = pytest.mark.little_optimized


def sigmoid_64(x):
    return 1 / (1 + np.exp(-x))


def backpropagation_64(params, x, labels):
    """The textbook's two-layer net by hand: forward, then the chain rule backwards."""
    W1, b1, W2, b2 = (np.asarray(params[layer][leaf], np.float64) for layer in ("dense1", "dense2") for leaf in "Wb")
    x = x.astype(np.float64)
    z1 = sigmoid_64(x @ W1 + b1)
    a2 = z1 @ W2 + b2
    e = np.exp(a2 - a2.max(1, keepdims=True))
    y = e / e.sum(1, keepdims=True)
    t = np.eye(10)[labels]
    loss = -np.log((y * t).sum(1)).mean()
    dy = (y - t) / len(x)
    da1 = (dy @ W2.T) * z1 * (1 - z1)
    return loss, {"dense1": {"W": x.T @ da1, "b": da1.sum(0)}, "dense2": {"W": z1.T @ dy, "b": dy.sum(0)}}


@pytest.mark.slow  # the audit of every model does the same
@pytest.mark.parametrize("std", [0.01, 0.3])
def test_two_layer_net_gradient_equals_backpropagation(std):
    random = np.random.default_rng(0)
    x = random.random((100, 784), np.float32)
    labels = random.integers(0, 10, 100)
    model = nn.two_layer_net(weight_init_std=std)
    params, model_state, _ = model.init(jax.random.key(0), (784,))

    def loss(params, x):
        return nn.softmax_cross_entropy(model.apply(params, model_state, x)[0], jnp.asarray(labels, jnp.int32))

    expected_loss, expected = backpropagation_64(params, x, labels)
    # In float64 the formulas agree to 1e-6 and far beyond; in float32 to its rounding.
    with enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params)
        value, gradient = jax.value_and_grad(loss)(wide, jnp.asarray(x, jnp.float64))
        np.testing.assert_allclose(value, expected_loss, rtol=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-15), gradient, expected)
    gradient = jax.grad(loss)(params, jnp.asarray(x))
    for layer, leaf in (("dense1", "W"), ("dense1", "b"), ("dense2", "W"), ("dense2", "b")):
        a, b = gradient[layer][leaf], expected[layer][leaf]
        assert np.linalg.norm(a - b) / np.linalg.norm(b) < 1e-6, f"{layer}/{leaf}"


def test_two_layer_net_is_the_textbooks():
    params, model_state, output_shape = nn.two_layer_net().init(jax.random.key(0), (28, 28, 1))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {"dense1": {"W": (784, 50), "b": (50,)}, "dense2": {"W": (50, 10), "b": (10,)}}
    assert (model_state, output_shape) == ({}, (10,))
    np.testing.assert_allclose(params["dense1"]["W"].std(), 0.01, rtol=0.02)
    np.testing.assert_array_equal(params["dense1"]["b"], 0)


def test_perceptron_learns_as_in_the_notes():
    """Row D4: rate 0.3, w from (1, 0, 0), one pass; weights after each example, then three answers."""
    x = jnp.array([[1, 3], [2, 5], [1, 8], [2, 15], [3, 7], [4, 29]], jnp.float32)
    y = jnp.array([1, 1, -1, -1, 1, -1], jnp.float32)
    model, optimizer = nn.perceptron(), nn.sgd(0.3)
    state = nn.init_state(model, optimizer, (2,), jax.random.key(0))
    state = state._replace(params={"dense1": {"W": jnp.zeros((2, 1)), "b": jnp.ones(1)}})

    def halved(outputs, targets):
        return 0.5 * nn.mean_squared_error(outputs, targets)

    def step(state, example):
        x, y = example
        state, _ = nn.train_step(model, halved, optimizer, state, x[None], y[None, None])
        layer = state.params["dense1"]
        return state, jnp.concatenate([layer["b"], layer["W"][:, 0]])

    state, weights = jax.lax.scan(step, state, (x, y))
    expected = [(1, 0, 0), (1, 0, 0), (0.4, -0.6, -4.8), (0.4, -0.6, -4.8), (1, 1.2, -0.6), (1, 1.2, -0.6)]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    answers, _ = model.apply(state.params, {}, jnp.array([[9, 19], [9, 64], [5, 11]], jnp.float32))
    np.testing.assert_array_equal(answers[:, 0], [1, -1, 1])


def test_perceptron_starts_where_the_notes_start():
    params, _, _ = nn.perceptron().init(jax.random.key(0), (2,))
    np.testing.assert_array_equal(params["dense1"]["W"], np.zeros((2, 1)))
    np.testing.assert_array_equal(params["dense1"]["b"], [1])


def test_linear_regression_finds_the_plane():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3)).astype(np.float32)
    A = np.c_[x, np.ones(200)]
    y = x @ np.float32([[1.0], [-2.0], [0.5]]) + 3 + 0.1 * random.normal(size=(200, 1)).astype(np.float32)
    least_squares, *_ = np.linalg.lstsq(A, y, rcond=None)
    result = nn.fit(
        nn.linear_regression(),
        nn.mean_squared_error,
        nn.sgd(0.1),
        (x, y),
        key=jax.random.key(0),
        epochs=200,
        batch_size=200,
    )
    learned = np.r_[result.params["dense1"]["W"], result.params["dense1"]["b"][:, None]]
    np.testing.assert_allclose(learned, least_squares, atol=1e-4)
    assert result.history.train == {}


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_mlp_equals_numpy_at_any_depth(depth):
    model = nn.mlp([7] * depth, outputs=3, activation=nn.tanh)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    params, _, _ = model.init(jax.random.key(0), (2, 3))
    h = x.reshape(4, 6).astype(np.float64)
    for number in range(1, depth + 2):
        layer = params[f"dense{number}"]
        h = h @ np.asarray(layer["W"], np.float64) + np.asarray(layer["b"], np.float64)
        h = np.tanh(h) if number <= depth else h
    np.testing.assert_allclose(model.apply(params, {}, jnp.asarray(x))[0], h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("activation", "variance"), [(nn.relu, 2), (nn.leaky_relu, 2), (nn.sigmoid, 1), (nn.tanh, 1)])
def test_mlp_chooses_initial_weights_by_activation(activation, variance):
    params, _, _ = nn.mlp([300], 10, activation=activation).init(jax.random.key(0), (400,))
    np.testing.assert_allclose(params["dense1"]["W"].std(), np.sqrt(variance / 400), rtol=0.02)


def test_mlp_with_batch_norm_and_dropout_places_them_in_order():
    model = nn.mlp([8], 2, batch_norm=True, dropout=0.5)
    params, model_state, _ = model.init(jax.random.key(0), (4,))
    x = jax.random.normal(jax.random.key(1), (200, 4))
    trained, state = model.apply(params, model_state, x, training=True, key=jax.random.key(2))
    # By hand: dense, batch norm, relu, dropout with a key of its own, dense.
    h = x @ params["dense1"]["W"]
    h = jnp.maximum((h - h.mean(0)[None]) / jnp.sqrt(h.var(0) + 1e-6)[None], 0)
    mask = jax.random.bernoulli(jax.random.fold_in(jax.random.key(2), zlib.crc32(b"dropout1")), 0.5, h.shape)
    np.testing.assert_allclose(trained, jnp.where(mask, h / 0.5, 0) @ params["dense2"]["W"], rtol=1e-3, atol=1e-4)
    assert state["batch_norm1"]["count"] == 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.mlp([10, 0], 2), "hidden size 2 must be at least 1; got 0"),
        (lambda: nn.mlp([10], 0), "outputs must be at least 1; got 0"),
        (lambda: nn.mlp([10], 2, dropout=1.5), "dropout must be finite and at least 0 and below 1; got 1.5"),
        (lambda: nn.two_layer_net(0), "hidden_size must be at least 1; got 0"),
        (
            lambda: nn.two_layer_net(weight_init_std=-1.0),
            "weight_init_std must be finite and at least 0; got -1",
        ),
    ],
)
def test_bad_sizes_get_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.slow
def test_any_optax_optimizer_and_jax_initializer_can_stand_in():
    model = nn.mlp([5], 2, initializer=jax.nn.initializers.glorot_normal())
    x, y = jnp.ones((20, 3)), jnp.zeros(20, jnp.int32)
    with jax.numpy_dtype_promotion("standard"):
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            optax.adamw(0.01),
            (x, y),
            key=jax.random.key(0),
            epochs=30,
            batch_size=10,
        )
    assert result.history.loss[-1] < 0.3 * result.history.loss[0]


def simple_convnet_64(params, x):
    """The textbook's network, forward, as sums over windows."""
    (W1, b1), (W2, b2), (W3, b3) = (
        (np.asarray(params[layer]["W"], np.float64), np.asarray(params[layer]["b"], np.float64))
        for layer in ("conv1", "dense1", "dense2")
    )
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (5, 5), (1, 2))
    conv = np.maximum(np.einsum("nijcab,abco->nijo", windows, W1) + b1, 0)
    pooled = conv.reshape(len(x), 12, 2, 12, 2, -1).max((2, 4))
    return np.maximum(pooled.reshape(len(x), -1) @ W2 + b2, 0) @ W3 + b3


def test_simple_convnet_equals_the_textbooks():
    model = nn.simple_convnet(initializer=nn.normal(0.1))
    params, model_state, output_shape = model.init(jax.random.key(0), (28, 28, 1))
    assert output_shape == (10,)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 433_890
    x = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    y, _ = model.apply(params, model_state, jnp.asarray(x))
    np.testing.assert_allclose(y, simple_convnet_64(params, x), rtol=1e-4, atol=1e-4)


def test_simple_convnet_takes_every_number():
    model = nn.simple_convnet(
        3, filters=4, filter_size=(3, 2), stride=2, padding=1, pool_size=3, hidden_size=7, activation=nn.tanh
    )
    params, _, output_shape = model.init(jax.random.key(0), (13, 12, 3))
    assert jax.tree.map(jnp.shape, params) == {
        "conv1": {"W": (3, 2, 3, 4), "b": (4,)},
        "dense1": {"W": (2 * 2 * 4, 7), "b": (7,)},
        "dense2": {"W": (7, 3), "b": (3,)},
    }
    assert output_shape == (3,)


def test_convnet_is_blocks_of_convolutions_and_a_pool():
    model = nn.convnet(7, blocks=[[4, 6], [8]])
    params, model_state, output_shape = model.init(jax.random.key(0), (8, 8, 3))
    assert {name: layer["W"].shape for name, layer in params.items() if "W" in layer} == {
        "conv1": (3, 3, 3, 4),
        "conv2": (3, 3, 4, 6),
        "conv3": (3, 3, 6, 8),
        "dense1": (8, 7),
    }
    assert all("b" not in params[f"conv{number}"] for number in (1, 2, 3))
    assert sorted(model_state) == ["batch_norm1", "batch_norm2", "batch_norm3"]
    assert output_shape == (7,)


@pytest.mark.slow
def test_convnet_learns_to_tell_where_a_stripe_is():
    """Which of four rows of a noisy picture is bright: seconds, and a fully trained network."""
    random = np.random.default_rng(0)
    y = random.integers(0, 4, 400).astype(np.int32)
    x = random.normal(size=(400, 8, 8, 1)).astype(np.float32)
    x[np.arange(400), 2 * y] += 2
    train, test = nn.data.Dataset(x[:300], y[:300]), nn.data.Dataset(x[300:], y[300:])
    model = nn.convnet(4, blocks=[[8], [16]])
    accuracies = []
    for seed in range(3):
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            nn.adam(0.01),
            train,
            key=jax.random.key(seed),
            epochs=12,
            batch_size=50,
            validation=test,
        )
        accuracies.append(result.history.validation["accuracy"][-1])
    assert min(accuracies) > 0.7, accuracies


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    "make, error, sentence",
    [
        (lambda: nn.simple_convnet(filters=0), ValueError, "filters must be at least 1; got 0"),
        (lambda: nn.simple_convnet(hidden_size=0), ValueError, "hidden_size must be at least 1; got 0"),
        (lambda: nn.simple_convnet(filter_size=30), ValueError, "the kernel is 30x30, larger than the image of 28x28"),
        (lambda: nn.simple_convnet(padding=-1), ValueError, "padding must be at least 0; got -1"),
        (lambda: nn.convnet(blocks=[32, 64]), TypeError, "blocks must be lists of numbers of filters"),
        (lambda: nn.convnet(blocks=[[0]]), ValueError, "filters must be at least 1; got 0"),
        (lambda: nn.convnet(dropout=1.0), ValueError, "dropout must be .* below 1"),
        (lambda: nn.convnet(blocks=[[4]] * 5), ValueError, "the window is 2x2, larger than the image of 1x1"),
    ],
)
def test_convnets_refuse_bad_input(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make().init(jax.random.key(0), (28, 28, 1))
