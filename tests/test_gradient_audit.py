"""Every activation, loss, layer and model of jaxnn under the audit, and random networks made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import activations, image_layers, layers, losses, models

pytestmark = pytest.mark.little_optimized

RANDOM = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def weighted(y, number=0):
    """A sum in which every output counts differently, so that none can stand in for another."""
    weights = np.random.default_rng(number).uniform(0.5, 1.5, y.shape)
    return jnp.sum(y * jnp.asarray(weights, y.dtype))


def audit(functions, inputs):
    """One check of many functions: each has a leaf, or a branch of leaves, of its own."""

    def total(tree, states):
        return sum((weighted(f(tree[name], states.get(name)), i) for i, (name, f) in enumerate(functions.items())), 0.0)

    params, states = inputs if isinstance(inputs, tuple) else (inputs, {})
    report = nn.check_gradients(total, {name: params[name] for name in functions}, states)
    report.raise_if_failed()
    return {leaf.name: leaf for leaf in report.leaves}


def ignoring_state(function):
    return lambda x, _: function(x)


def test_activations():
    names = ("identity", "leaky_relu", "relu", "sigmoid", "sign", "softmax", "tanh")
    x = jnp.array([[-30.0, -2.0, -0.3, 0.1, 1.5, 25.0], [0.0, 0.0, 1e-8, 0.5, -0.5, 3.0]])
    leaves = audit({name: ignoring_state(getattr(nn, name)) for name in names}, dict.fromkeys(names, x))
    assert set(leaves) == set(activations.__all__)
    kinks = {name for name, leaf in leaves.items() if leaf.kinks}
    assert kinks == {"leaky_relu", "relu", "sign"}


def test_losses():
    labels, rows = jnp.array([0, 2, 1, 1]), jax.nn.softmax(draw(4, 3))
    targets = draw(4, 3)
    functions = {
        "softmax_cross_entropy of labels": lambda z, _: nn.softmax_cross_entropy(z, labels),
        "softmax_cross_entropy of rows": lambda z, _: nn.softmax_cross_entropy(z, rows),
        "cross_entropy": lambda z, _: nn.cross_entropy(nn.softmax(z), labels),
        "mean_squared_error": lambda z, _: nn.mean_squared_error(z, targets),
        "mean_absolute_error": lambda z, _: nn.mean_absolute_error(z, targets),
        "l2_penalty": lambda z, _: nn.l2_penalty(0.1)({"W": z, "b": z[0]}),
    }
    audit(functions, {name: draw(4, 3) for name in functions})
    assert {name.split()[0] for name in functions} == set(losses.__all__)


LAYERS = {
    "dense": (nn.dense(3), (4, 5)),
    "activation": (nn.activation(nn.tanh), (4, 3)),
    "flatten": (nn.flatten(), (2, 2, 3, 1)),
    "batch_norm": (nn.batch_norm(), (5, 3)),
    "batch_norm of images": (nn.batch_norm(), (2, 3, 2, 2)),
    "dropout": (nn.dropout(0.4), (4, 5)),
    "dropout, scaled at inference": (nn.dropout(0.4, scale_at="inference"), (4, 5)),
    "max_pool2d": (nn.max_pool2d(2), (2, 4, 4, 2)),
    "max_pool2d, overlapping": (nn.max_pool2d(3, stride=2, padding="SAME"), (1, 5, 6, 2)),
    "average_pool2d": (nn.average_pool2d(2), (2, 4, 4, 2)),
    "average_pool2d of all": (nn.average_pool2d(), (2, 3, 3, 2)),
    "sequential": (nn.sequential(nn.dense(4), nn.activation(nn.relu), nn.dense(2)), (3, 4)),
}
CONVOLUTIONS = {
    "conv2d": (nn.conv2d(2, 3), (2, 5, 5, 2)),
    "conv2d, strided": (nn.conv2d(3, (3, 2), stride=(2, 1), padding="SAME"), (1, 6, 5, 2)),
    "conv2d, many channels": (nn.conv2d(17, 3, padding="SAME"), (1, 5, 6, 16)),
}


@pytest.mark.parametrize("training", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_layers(training):
    """With respect to parameters and input."""
    check_layers(LAYERS, training)
    named = {name.replace(",", "").split()[0] for name in LAYERS | CONVOLUTIONS}
    assert named == {*layers.__all__, *image_layers.__all__} - {"Layer"}


@pytest.mark.slow
def test_convolutions():
    """Their derivatives are jaxnn's own, Winograd's among them (kernel 3 wide, 16 channels and more)."""
    check_layers(CONVOLUTIONS, training=True)


def check_layers(group, training):
    functions, params, states = {}, {}, {}
    for number, (name, (layer, shape)) in enumerate(group.items()):
        own, states[name], _ = layer.init(jax.random.key(number), shape[1:])
        params[name] = {"params": own, "x": draw(*shape)}
        if name.startswith("batch_norm") and not training:
            _, states[name] = layer.apply(own, states[name], draw(*shape), training=True)
        key = jax.random.key(100 + number)
        functions[name] = lambda tree, state, layer=layer, key=key: layer.apply(
            tree["params"], state, tree["x"], training=training, key=key
        )[0]
    leaves = audit(functions, (params, states))
    assert {name.split("/")[0] for name in leaves} - {"all leaves"} == set(group)


MODELS = {
    "linear_regression": (nn.linear_regression(2), (6, 3), nn.mean_squared_error),
    "two_layer_net": (nn.two_layer_net(7, 3), (6, 5), nn.softmax_cross_entropy),
    "mlp": (nn.mlp([6, 5], 3, batch_norm=True, dropout=0.3), (8, 4), nn.softmax_cross_entropy),
    "simple_convnet": (
        nn.simple_convnet(3, filters=4, filter_size=3, hidden_size=5),
        (3, 7, 6, 1),
        nn.softmax_cross_entropy,
    ),
    "convnet": (nn.convnet(3, blocks=[[3, 4], [5]], dropout=0.2), (4, 6, 7, 2), nn.softmax_cross_entropy),
}


def check_model(model, shape, loss, number=0):
    params, state, (outputs,) = model.init(jax.random.key(number), shape[1:])
    x = draw(*shape)
    y = (
        jnp.asarray(RANDOM.integers(0, outputs, shape[0]))
        if loss is nn.softmax_cross_entropy
        else draw(shape[0], outputs)
    )

    def value(params, state, x, y, key):
        return loss(model.apply(params, state, x, training=True, key=key)[0], y)

    return nn.check_gradients(value, params, state, x, y, jax.random.key(number + 1))


LONG = ("mlp", "convnet")  # their layers are checked one by one as well


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in MODELS])
def test_models(name):
    check_model(*MODELS[name]).raise_if_failed()


def test_no_model_is_left_out():
    assert {*MODELS, "perceptron"} == set(models.__all__)


def test_the_perceptron_is_learned_by_a_rule_that_is_no_gradient():
    """The sign has slope 0, and its layer passes the derivative straight through: the audit sees that, and must."""
    report = check_model(nn.perceptron(), (4, 3), nn.mean_squared_error)
    assert set(report.failed) == {"dense1/W", "dense1/b"}


def random_network(seed):
    """Depth, width, activation, initial weights, batch norm, dropout, convolutions and loss, all at random."""
    random = np.random.default_rng(seed)
    pick = lambda *choices: choices[random.integers(len(choices))]
    activation = nn.activation(pick(nn.sigmoid, nn.tanh, nn.relu, nn.leaky_relu, nn.identity, nn.softmax))
    weights = pick(nn.he(), nn.xavier(), nn.normal(0.01), nn.normal(1.0))
    normalisation = [nn.batch_norm()] if random.random() < 0.4 else []
    dropout = random.random() < 0.4
    parts = []
    if random.random() < 0.3:
        shape = (int(random.integers(5, 9)), int(random.integers(5, 9)), int(random.integers(1, 4)))
        for _ in range(random.integers(1, 3)):
            convolution = nn.conv2d(
                int(random.integers(1, 5)),
                int(random.integers(1, 4)),
                weights,
                padding=pick("SAME", "SAME", "VALID"),
                stride=pick(1, 2),
            )
            parts += [convolution, *normalisation, activation]
        parts += pick([], [nn.max_pool2d(2, padding="SAME")], [nn.average_pool2d(2, padding="SAME")])
    else:
        shape = (int(random.integers(1, 12)),)
    parts.append(nn.flatten())
    for _ in range(random.integers(0, 4)):
        parts += [nn.dense(int(random.integers(1, 12)), weights), *normalisation, activation]
        if dropout:
            parts.append(nn.dropout(random.uniform(0, 0.8), scale_at=pick("training", "inference")))
    parts.append(nn.dense(int(random.integers(2, 6)), weights))
    loss = pick(nn.softmax_cross_entropy, nn.softmax_cross_entropy, nn.mean_squared_error, nn.mean_absolute_error)
    return nn.sequential(*parts), (int(random.integers(2, 7)), *shape), loss


@pytest.mark.parametrize(
    "seeds",
    [pytest.param(range(n, min(n + 14, 200)), marks=pytest.mark.slow) for n in range(0, 200, 14)],
    ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}",
)
def test_random_networks_give_no_false_alarm(seeds):
    for seed in seeds:
        check_model(*random_network(seed), number=seed).raise_if_failed()
