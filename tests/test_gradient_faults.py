"""Faults that people make in derivatives, each planted in a small net: the audit must find all, at the right leaves."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

pytestmark = pytest.mark.little_optimized

BATCH = 6
LARGE, SMALL = (123, 17), (93, 15)  # of a matrix of 200 x 30, and not in the sample


class Fault(NamedTuple):
    loss: Callable  # (params, x, y) -> scalar, wrongly differentiated
    shapes: dict  # of the params
    wrong: set[str]  # the leaves whose gradient is wrong
    inputs: tuple = (BATCH, 5)


def with_gradient(function, backward):
    """A function with a derivative of its own, backward(g, *inputs): the gradient for each input."""
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda *inputs: (function(*inputs), inputs), lambda inputs, g: backward(g, *inputs))
    return wrapped


def affine(x, W, b):
    return x @ W + b[None, :]


def net(*, first=affine, second=affine, between=jnp.tanh, loss=nn.softmax_cross_entropy):
    """Two layers, of which a part can be replaced."""

    def value(params, x, y):
        h = between(first(x, params["W1"], params["b1"]))
        return loss(second(h, params["W2"], params["b2"]), y)

    return value


def right(g, x, W, b):
    """The derivatives of x W + b."""
    return g @ W.T, x.T @ g, g.sum(0)


NET = {"W1": (5, 4), "b1": (4,), "W2": (4, 3), "b2": (3,)}
BELOW = {"W1", "b1"}  # what a fault between the layers reaches


def twice(factor):
    def backward(g, x, W, b):
        dx, dW, db = right(g, x, W, b)
        return dx, factor * dW, db

    return with_gradient(affine, backward)


def transposed_weights():
    shapes = {"W1": (5, 4), "b1": (4,), "W2": (4, 4), "b2": (4,)}
    layer = with_gradient(affine, lambda g, x, W, b: (g @ W, x.T @ g, g.sum(0)))
    return Fault(net(second=layer), shapes, BELOW)


def one_entry_of_a_large_matrix(place):
    def backward(g, x, W, b):
        dx, dW, db = right(g, x, W, b)
        return dx, dW.at[place].multiply(1.5), db

    shapes = {"W1": (200, 30), "b1": (30,), "W2": (30, 3), "b2": (3,)}
    return Fault(net(first=with_gradient(affine, backward)), shapes, {"W1"}, (BATCH, 200))


def batch_norm(constant_moments):
    def normalise(x):
        mean, var = x.mean(0, keepdims=True), x.var(0, keepdims=True)
        if constant_moments:
            mean, var = jax.lax.stop_gradient((mean, var))
        return (x - mean) / jnp.sqrt(var + 1e-5)

    return lambda x: jnp.tanh(normalise(x))


def dropout_without_scale():
    mask = jnp.asarray(np.random.default_rng(3).uniform(size=(BATCH, 4)) > 0.4)
    dropped = with_gradient(lambda h: jnp.where(mask, h / 0.6, 0.0), lambda g, h: (jnp.where(mask, g, 0.0),))
    return Fault(net(between=lambda x: dropped(jnp.tanh(x))), NET, BELOW)


def unbroadcast_sum_forgotten():
    scaled = with_gradient(lambda x, s: x * s[None, :], lambda g, x, s: (g * s[None, :], (g * x)[0]))
    loss = lambda p, x, y: net(between=lambda h: jnp.tanh(scaled(h, p["scale"])))(p, x, y)
    return Fault(loss, NET | {"scale": (4,)}, {"scale"})


def tied_weights_counted_once():
    def loss(params, x, y):
        W = params["W"]
        h = jnp.tanh(jnp.tanh(x @ W) @ jax.lax.stop_gradient(W))
        return nn.softmax_cross_entropy(h, y % 5)

    return Fault(loss, {"W": (5, 5)}, {"W"})


def penalty_without_its_factor():
    squares = with_gradient(lambda W: 0.1 * jnp.sum(W**2), lambda g, W: (0.1 * g * W,))
    return Fault(lambda p, x, y: net()(p, x, y) + squares(p["W1"]), NET, {"W1"})


def gathered_rows_that_overwrite():
    """A word that comes twice must add up twice."""
    words = jnp.array([0, 2, 2, 1, 2, 0])
    take = with_gradient(lambda table: table[words], lambda g, table: (jnp.zeros_like(table).at[words].set(g),))
    loss = lambda p, x, y: nn.softmax_cross_entropy(jnp.tanh(take(p["table"])) @ p["W"], y)
    return Fault(loss, {"table": (4, 5), "W": (5, 3)}, {"table"})


def convolutional(convolution=nn.convolution.conv2d, pool=nn.convolution.average_pool2d):
    def loss(params, x, y):
        h = pool(jnp.tanh(convolution(x, params["kernel"])), 2)
        return nn.softmax_cross_entropy(h.reshape(len(h), -1) @ params["W"], y)

    return loss


CONV = {"kernel": (3, 3, 2, 2), "W": (8, 3)}
IMAGES = (BATCH, 6, 6, 2)


def flipped_kernel():
    conv2d = nn.convolution.conv2d

    def backward(g, x, W):
        dx, dW = jax.vjp(conv2d, x, W)[1](g)
        return dx, dW[::-1, ::-1]

    return Fault(convolutional(convolution=with_gradient(conv2d, backward)), CONV, {"kernel"}, IMAGES)


def pool_with(backward, forward=nn.convolution.average_pool2d):
    def pool(x, window):
        return with_gradient(
            lambda x: forward(x, window), lambda g, x: (backward(jnp.repeat(jnp.repeat(g, 2, 1), 2, 2), x),)
        )(x)

    return Fault(convolutional(pool=pool), CONV, {"kernel"}, IMAGES)


def layer_norm_without_the_variance():
    def normalise(x):
        centred = x - x.mean(1, keepdims=True)
        return centred / jax.lax.stop_gradient(jnp.sqrt(centred.var(1, keepdims=True) + 1e-5))

    return Fault(net(between=normalise), NET, BELOW)


def activation_with(function, slope):
    return Fault(net(between=with_gradient(function, lambda g, x: (g * slope(x),))), NET, BELOW)


def logits_with(backward):
    loss = lambda z, y: with_gradient(
        lambda z: nn.softmax_cross_entropy(z, y), lambda g, z: (g * backward(z, jax.nn.one_hot(y, 3, dtype=z.dtype)),)
    )(z)
    return Fault(net(loss=loss), NET, set(NET))


FAULTS = {
    "a custom derivative off by a factor of 2": Fault(net(first=twice(2.0)), NET, {"W1"}),
    "a custom derivative off by a factor of 1.001": Fault(net(second=twice(1.001)), NET, {"W2"}),
    "transposed weights": transposed_weights(),
    "a bias gradient missing the batch mean": Fault(
        net(first=with_gradient(affine, lambda g, x, W, b: (*right(g, x, W, b)[:2], BATCH * g.sum(0)))), NET, {"b1"}
    ),
    "the wrong axis summed": Fault(
        net(first=with_gradient(affine, lambda g, x, W, b: (*right(g, x, W, b)[:2], g.sum(1)[:4]))), NET, {"b1"}
    ),
    "one entry of a large matrix": one_entry_of_a_large_matrix(LARGE),
    "one small entry of a large matrix": one_entry_of_a_large_matrix(SMALL),
    "a stop_gradient left in": Fault(net(second=lambda x, W, b: affine(x, jax.lax.stop_gradient(W), b)), NET, {"W2"}),
    "batch norm with constant moments": Fault(net(between=batch_norm(constant_moments=True)), NET, BELOW),
    "dropout without its scale": dropout_without_scale(),
    "an unbroadcast sum forgotten": unbroadcast_sum_forgotten(),
    "relu's condition turned round": activation_with(nn.relu, lambda x: (x < 0).astype(x.dtype)),
    "sigmoid's slope with the wrong sign": activation_with(nn.sigmoid, lambda x: nn.sigmoid(x) * (1 + nn.sigmoid(x))),
    "tanh's slope without the square": activation_with(jnp.tanh, lambda x: 1 - jnp.tanh(x)),
    "a slope taken at the output": activation_with(jnp.sin, lambda x: jnp.cos(jnp.sin(x))),
    "cross-entropy without the mean": logits_with(lambda z, t: jax.nn.softmax(z) - t),
    "cross-entropy without the labels": logits_with(lambda z, t: jax.nn.softmax(z) / len(z)),
    "a penalty without its factor": penalty_without_its_factor(),
    "a flipped kernel": flipped_kernel(),
    "an average pool that does not divide": pool_with(lambda g, x: g),
    "a max pool that spreads evenly": pool_with(lambda g, x: g / 4, nn.convolution.max_pool2d),
    "tied weights counted once": tied_weights_counted_once(),
    "rows gathered twice that overwrite": gathered_rows_that_overwrite(),
    "layer norm without its variance": layer_norm_without_the_variance(),
    "rows off by one": Fault(
        net(first=with_gradient(affine, lambda g, x, W, b: (g @ W.T, jnp.roll(x.T @ g, 1, 0), g.sum(0)))), NET, {"W1"}
    ),
    "a clip left in": Fault(
        net(second=with_gradient(affine, lambda g, x, W, b: (jnp.clip(g @ W.T, -0.01, 0.01), x.T @ g, g.sum(0)))),
        NET,
        BELOW,
    ),
}


def drawn(shapes, inputs):
    """Params, x and y."""
    random = np.random.default_rng(1)
    params = {leaf: jnp.asarray(random.normal(size=shape), jnp.float32) for leaf, shape in shapes.items()}
    return params, jnp.asarray(random.normal(size=inputs), jnp.float32), jnp.asarray(random.integers(0, 3, BATCH))


# Each like another one that is always planted.
LIKE_ANOTHER = (
    "a custom derivative off by a factor of 2",
    "sigmoid's slope with the wrong sign",
    "tanh's slope without the square",
    "a slope taken at the output",
    "cross-entropy without the labels",
    "an average pool that does not divide",
    "one entry of a large matrix",
    "rows off by one",
    "rows gathered twice that overwrite",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_ANOTHER)) for name in FAULTS]
)
def test_a_planted_fault_is_found_at_the_right_leaf(name):
    fault = FAULTS[name]
    report = nn.check_gradients(fault.loss, *drawn(fault.shapes, fault.inputs))
    assert set(report.failed) == fault.wrong, f"\n{report}"
    if "entry" in name:
        found = next(leaf for leaf in report.leaves if leaf.name == "W1")
        assert found.where == (SMALL if "small" in name else LARGE)
        assert found.checked == 201


@pytest.mark.parametrize(
    ("loss", "shapes", "inputs"),
    [
        (net(), NET, (BATCH, 5)),
        (net(between=batch_norm(constant_moments=False)), NET, (BATCH, 5)),
        (convolutional(), CONV, IMAGES),
    ],
)
def test_the_same_nets_without_faults_pass(loss, shapes, inputs):
    nn.check_gradients(loss, *drawn(shapes, inputs)).raise_if_failed()
