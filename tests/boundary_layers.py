"""Bad input for layers and models: calls, each with a part of the sentence that refuses it."""

import numpy as np

import jaxnn as nn
from tests.boundary_formulas import (
    FRACTION,
    IMAGES,
    KERNEL,
    KEY,
    KEYS,
    WORDS,
    X,
    not_a_number,
    not_a_size,
    not_a_window,
    not_floating,
    not_images,
    not_strides,
)


def never(*args, **settings):
    raise AssertionError("was called before the refusal")


NEVER = nn.Layer(never, never)


def not_a_start(layer, shape=(3,)):
    """What a layer cannot begin with."""
    return [
        (lambda: layer.init(0, shape), "key must be a PRNG key; got int (use jax.random.key(0))"),
        (lambda: layer.init(KEYS, shape), "key must be one key; got (3,) of them (use jax.vmap for many runs)"),
        (lambda: layer.init("a", shape), "key must be a PRNG key; got str"),
        (lambda: layer.init(KEY, 3), "input_shape must be a tuple of whole numbers; got 3"),
        (lambda: layer.init(KEY, "ab"), "input_shape must be a tuple of whole numbers; got 'ab'"),
        (lambda: layer.init(KEY, (*shape[1:], 3.0)), "every size in input_shape must be a whole number; got 3.0"),
        (lambda: layer.init(KEY, (*shape[1:], -3)), "every size in input_shape must be at least 1; got -3"),
        (lambda: layer.init(KEY, (*shape[1:], True)), "every size in input_shape must be a whole number; got True"),
    ]


def not_an_initializer(make, *names):
    return [
        (
            lambda name=name, wrong=wrong: make(**{name: wrong}),
            f"{name} must be a function (key, shape) -> array; got {words}",
        )
        for name in names
        for wrong, words in ((3, "int 3"), ("he", "str 'he'"), (0, "int 0"))
    ]


def not_an_array(layer):
    """What a layer that takes all numbers cannot take."""
    return [
        (lambda: layer.apply({}, {}, "a"), "x must be an array; got str"),
        (lambda: layer.apply({}, {}, None), "x must be an array; got NoneType"),
        (lambda: layer.apply({}, {}, X.tolist()), "x must be an array; got list"),
        (lambda: layer.apply({}, {}, WORDS), "x must hold numbers; got dtype object"),
        (lambda: layer.apply({}, {}, np.array(["a"])), "x must hold numbers; got dtype <U1"),
    ]


DENSE = {"W": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
RUNNING = {"mean": X[0], "var": X[0], "count": np.int32(1)}
SCALES = {"gamma": X[0], "beta": X[0]}


def not_weights(layer, x, params):
    return [
        (lambda: layer.apply({}, {}, x), "params must be a dict with W and b; got a dict of nothing"),
        (lambda: layer.apply(None, {}, x), "params must be a dict with W and b; got None"),
        (lambda: layer.apply({"W": params["W"]}, {}, x), "params must be a dict with W and b; got a dict of W"),
        (lambda: layer.apply([params["W"]], {}, x), "params must be a dict with W and b; got"),
    ]


LAYERS = {
    "dense": [
        *not_a_size(nn.dense, "outputs"),
        *not_an_initializer(lambda **settings: nn.dense(2, **settings), "initializer", "bias_initializer"),
        *not_a_start(nn.dense(2)),
        (lambda: nn.dense(2).init(KEY, (3, 3)), "dense takes examples of shape (features,); got (3, 3) (put flatten() before it)"),
        *not_weights(nn.dense(2), X, DENSE),
        *not_floating(lambda x: nn.dense(2).apply(DENSE, {}, x), "x", "dense"),
        (lambda: nn.dense(2).apply(DENSE, {}, X[:, :2]), "dense takes x of shape [batch, 3]; got (4, 2)"),
        (lambda: nn.dense(2).apply(DENSE | {"b": DENSE["b"][:1]}, {}, X), "dense takes b of shape (2,), as W is (3, 2); got (1,)"),
        (lambda: nn.dense(2).apply(DENSE, {}, X[0]), "dense takes x of shape [batch, 3]; got (3,)"),
    ],
    "activation": [
        *((lambda wrong=wrong: nn.activation(wrong), "activation must be a function (x) -> array") for wrong in ("relu", None, 3, X)),
        *not_a_start(nn.activation(never)),
        *not_an_array(nn.activation(never)),
    ],
    "flatten": [
        *not_a_start(nn.flatten()),
        *not_an_array(nn.flatten()),
        (lambda: nn.flatten().apply({}, {}, np.float32(1)), "flatten takes x of shape [batch, …]; got a scalar"),
    ],
    "dropout": [
        *not_a_number(nn.dropout, "rate"),
        *((lambda rate=rate: nn.dropout(rate), "rate must be finite and at least 0 and below 1; got") for rate in FRACTION),
        (lambda: nn.dropout(0.5, scale_at="never"), "unknown scale_at 'never': there are training, inference"),
        (lambda: nn.dropout(0.5, scale_at=1), "unknown scale_at 1"),
        *not_a_start(nn.dropout(0.5)),
        *not_floating(lambda x: nn.dropout(0.5).apply({}, {}, x), "x", "dropout"),
        (lambda: nn.dropout(0.5).apply({}, {}, X, training=1), "training must be True or False; got 1"),
        (lambda: nn.dropout(0.5).apply({}, {}, X, training=True), "dropout needs a key in training"),
        (lambda: nn.dropout(0.5).apply({}, {}, X, training=True, key=3), "key must be a PRNG key; got int"),
        (lambda: nn.dropout(0.5).apply({}, {}, X, training=True, key=KEYS), "key must be one key; got (3,) of them"),
    ],
    "batch_norm": [
        *not_a_number(nn.batch_norm, "momentum"),
        *((lambda value=value: nn.batch_norm(value), "momentum must be finite and at least 0 and below 1") for value in FRACTION),
        *not_a_number(lambda eps: nn.batch_norm(eps=eps), "eps"),
        (lambda: nn.batch_norm(eps=0), "eps must be finite and above 0; got 0"),
        *not_a_start(nn.batch_norm()),
        (lambda: nn.batch_norm().init(KEY, ()), "batch_norm takes examples with a channel axis; got scalars"),
        *not_floating(lambda x: nn.batch_norm().apply(SCALES, RUNNING, x), "x", "batch_norm"),
        (lambda: nn.batch_norm().apply(SCALES, RUNNING, X, training="yes"), "training must be True or False; got 'yes'"),
        (lambda: nn.batch_norm().apply(SCALES, RUNNING, X[:, :2]), "batch_norm takes x of shape [batch, …, 3]; got (4, 2)"),
        (lambda: nn.batch_norm().apply(SCALES, RUNNING, X[0, 0]), "batch_norm takes x of shape [batch, …, 3]; got ()"),
        (lambda: nn.batch_norm().apply({}, RUNNING, X), "params must be a dict with gamma and beta; got a dict of nothing"),
        (lambda: nn.batch_norm().apply(SCALES, {}, X), "model_state must be a dict with mean, var and count; got a dict of nothing"),
        (lambda: nn.batch_norm().apply(SCALES, RUNNING, X[:1], training=True), "batch_norm needs two values or more per channel in training; got x of shape (1, 3)"),
        (lambda: nn.batch_norm().apply(SCALES, RUNNING | {"count": np.int32(0)}, X), "batch_norm has seen no batch yet"),
    ],
    "sequential": [
        (lambda: nn.sequential(), "sequential needs at least one layer"),
        (lambda: nn.sequential(nn.relu), "sequential takes layers; got function (wrap a function in activation(…))"),
        (lambda: nn.sequential("dense"), "sequential takes layers; got str"),
        (lambda: nn.sequential([nn.dense(2)]), "sequential takes layers; got list"),
        (lambda: nn.sequential(None), "sequential takes layers; got NoneType"),
        (lambda: nn.sequential(nn.dense), "sequential takes layers; got function"),
        *not_a_start(nn.sequential(NEVER)),
        *not_an_array(nn.sequential(nn.flatten(), NEVER)),
        (lambda: nn.sequential(nn.dense(2)).apply({}, {}, X), "params must be a dict with W and b; got a dict of nothing"),
        (lambda: nn.sequential(NEVER).apply(None, {}, X), "params must be a dict; got None"),
        (lambda: nn.sequential(NEVER).apply({}, [], X), "model_state must be a dict; got []"),
        (lambda: nn.sequential(NEVER).apply({}, {}, X, training=None), "training must be True or False; got None"),
        (lambda: nn.sequential(NEVER).apply({}, {}, X, key=7), "key must be a PRNG key; got int (use jax.random.key(7))"),
    ],
    "conv2d": [
        *not_a_size(nn.conv2d, "filters"),
        *not_an_initializer(lambda **settings: nn.conv2d(4, **settings), "initializer", "bias_initializer"),
        *not_strides(lambda **settings: nn.conv2d(4, **settings)),
        (lambda: nn.conv2d(4, 0), "size must be at least 1; got 0"),
        (lambda: nn.conv2d(4, "3"), "size must be one number or two"),
        (lambda: nn.conv2d(4, bias=1), "bias must be True or False; got 1"),
        (lambda: nn.conv2d(4, 3, bias=False).apply({}, {}, IMAGES), "params must be a dict with W; got a dict of nothing"),
        *not_a_start(nn.conv2d(4), (5, 6, 3)),
        (lambda: nn.conv2d(4).init(KEY, (5, 6)), "conv2d takes examples of shape (height, width, channels); got (5, 6)"),
        (lambda: nn.conv2d(4, 7).init(KEY, (5, 6, 3)), "the kernel is 7x7, larger than the image of 5x6"),
        *not_weights(nn.conv2d(4), IMAGES, {"W": KERNEL}),
        *not_images(lambda x: nn.conv2d(4).apply({"W": KERNEL, "b": X[:, 0]}, {}, x), "conv2d"),
    ],
    **{
        name: [
            *not_a_window(make),
            *not_strides(lambda make=make, **settings: make(2, **settings)),
            *not_a_start(make(2), (5, 6, 3)),
            *not_an_array(make(2)),
            (lambda make=make, name=name: make(2).apply({}, {}, IMAGES[0]), f"{name} takes x of shape [batch, height, width, channels]"),
            (lambda make=make: make(2).apply({}, {}, IMAGES > 0), f"{name} takes floating-point x; got bool"),
            (lambda make=make: make(2).apply({}, {}, IMAGES.astype(np.uint8)), f"{name} takes floating-point x; got uint8 (scale it first"),
            (lambda make=make: make(2).init(KEY, (5, 6)), f"{name} takes examples of shape (height, width, channels); got (5, 6)"),
            (lambda make=make: make(7).init(KEY, (5, 6, 3)), "the window is 7x7, larger than the image of 5x6"),
        ]
        for name, make in {"max_pool2d": nn.max_pool2d, "average_pool2d": nn.average_pool2d}.items()
    },
}  # fmt: skip
LAYERS["max_pool2d"] += [(lambda: nn.max_pool2d(None), "window must be a whole number; got None")]
LAYERS["average_pool2d"] += [
    (lambda: nn.average_pool2d(stride=2), "average_pool2d of the whole image takes no stride and no padding")
]


def not_an_activation(make):
    return [
        (lambda wrong=wrong: make(activation=wrong), "activation must be a function (x) -> array; got")
        for wrong in ("relu", None, 3, X)
    ]


MODELS = {
    "linear_regression": [
        *not_a_size(nn.linear_regression, "outputs"),
        *not_an_initializer(nn.linear_regression, "initializer"),
        *not_a_start(nn.linear_regression()),
    ],
    "perceptron": [
        *not_a_size(nn.perceptron, "outputs"),
        *not_an_initializer(nn.perceptron, "initializer", "bias_initializer"),
        *not_a_start(nn.perceptron()),
    ],
    "two_layer_net": [
        *not_a_size(nn.two_layer_net, "hidden_size"),
        *not_a_size(lambda outputs: nn.two_layer_net(50, outputs), "outputs"),
        *not_a_number(lambda std: nn.two_layer_net(50, 10, std), "weight_init_std"),
        (lambda: nn.two_layer_net(50, 10, -0.01), "weight_init_std must be finite and at least 0; got -0.01"),
        *not_an_activation(nn.two_layer_net),
        *not_a_start(nn.two_layer_net()),
    ],
    "mlp": [
        *not_a_size(lambda size: nn.mlp([5, size], 3), "hidden size 2"),
        *not_a_size(lambda outputs: nn.mlp([5], outputs), "outputs"),
        (lambda: nn.mlp(5, 3), "hidden_sizes must be a list of sizes, such as [100, 50]; got 5"),
        (lambda: nn.mlp("55", 3), "hidden_sizes must be a list of sizes, such as [100, 50]; got '55'"),
        (lambda: nn.mlp(np.ones(2), 3), "hidden_sizes must be a list of sizes, such as [100, 50]; got an array of float64"),
        *not_an_activation(lambda **settings: nn.mlp([5], 3, **settings)),
        *not_an_activation(lambda **settings: nn.mlp([], 3, **settings)),
        *not_an_initializer(lambda **settings: nn.mlp([5], 3, **settings), "initializer"),
        *not_a_number(lambda rate: nn.mlp([5], 3, dropout=rate), "dropout"),
        *((lambda rate=rate: nn.mlp([], 3, dropout=rate), "dropout must be finite and at least 0 and below 1") for rate in FRACTION),
        (lambda: nn.mlp([5], 3, batch_norm=1), "batch_norm must be True or False; got 1"),
        (lambda: nn.mlp([], 3, batch_norm="no"), "batch_norm must be True or False; got 'no'"),
    ],
    "simple_convnet": [
        *not_a_size(nn.simple_convnet, "outputs"),
        *not_a_size(lambda filters: nn.simple_convnet(filters=filters), "filters"),
        *not_a_size(lambda size: nn.simple_convnet(hidden_size=size), "hidden_size"),
        (lambda: nn.simple_convnet(filter_size=0), "filter_size must be at least 1; got 0"),
        (lambda: nn.simple_convnet(pool_size=2.5), "pool_size must be a whole number; got 2.5"),
        (lambda: nn.simple_convnet(pool_size=None), "pool_size must be a whole number; got None"),
        *not_strides(nn.simple_convnet),
        *not_an_activation(nn.simple_convnet),
        *not_an_initializer(nn.simple_convnet, "initializer"),
    ],
    "convnet": [
        *not_a_size(nn.convnet, "outputs"),
        *not_a_size(lambda filters: nn.convnet(blocks=[[filters]]), "filters"),
        (lambda: nn.convnet(blocks=3), "blocks must be lists of numbers of filters, such as [[32, 32], [64]]; got 3"),
        (lambda: nn.convnet(blocks=[32, 64]), "blocks must be lists of numbers of filters, such as [[32, 32], [64]]; got"),
        (lambda: nn.convnet(blocks=["32"]), "blocks must be lists of numbers of filters, such as [[32, 32], [64]]; got"),
        (lambda: nn.convnet(filter_size=0), "filter_size must be at least 1; got 0"),
        *not_an_activation(nn.convnet),
        *not_an_initializer(nn.convnet, "initializer"),
        *not_a_number(lambda rate: nn.convnet(dropout=rate), "dropout"),
        *((lambda rate=rate: nn.convnet(dropout=rate), "dropout must be finite and at least 0 and below 1") for rate in FRACTION),
    ],
}  # fmt: skip
