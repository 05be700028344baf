"""Bad input for the formulas: calls, each with a part of the sentence that refuses it."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn
from jaxnn import convolution

NAN, INFINITY = float("nan"), float("inf")
KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 3)
X = np.ones((4, 3), np.float32)
IMAGES = np.ones((2, 5, 6, 3), np.float32)
KERNEL = np.ones((3, 3, 3, 4), np.float32)
WORDS = np.array(["a", "b"], object)


def not_floating(function, name, taker, *others):
    """What is no array of floating-point numbers, given first."""
    return [
        (lambda: function("a", *others), f"{taker} takes {name} as an array; got str"),
        (lambda: function(None, *others), f"{taker} takes {name} as an array; got NoneType"),
        (lambda: function(X.tolist(), *others), f"{taker} takes {name} as an array; got list"),
        (lambda: function(1, *others), f"{taker} takes {name} as an array; got int"),
        (lambda: function(X.astype(int), *others), f"{taker} takes floating-point {name}; got int64"),
        (lambda: function(X > 0, *others), f"{taker} takes floating-point {name}; got bool"),
        (lambda: function(X.astype(complex), *others), f"{taker} takes floating-point {name}; got complex128"),
        (lambda: function(WORDS, *others), f"{taker} takes floating-point {name}; got object"),
        (lambda: function(KEYS, *others), f"{taker} takes floating-point {name}; got key<fry>"),
    ]


def not_a_number(function, name):
    """What is no finite real number."""
    return [
        (lambda: function("0.1"), f"{name} must be a number; got '0.1'"),
        (lambda: function(True), f"{name} must be a number; got True"),
        (lambda: function(NAN), f"{name} must be finite"),
        (lambda: function(INFINITY), f"{name} must be finite"),
        (lambda: function(10**400), f"{name} must be finite"),
        (lambda: function(np.ones(2)), f"{name} must be a scalar; got an array of shape (2,) (use jax.vmap to try many)"),
        (lambda: function(np.complex64(1)), f"{name} must be a real number; got dtype complex64"),
    ]  # fmt: skip


def not_a_size(function, name, least=1):
    """What is no whole number that is large enough."""
    return [
        (lambda: function("3"), f"{name} must be a whole number; got '3'"),
        (lambda: function(2.0), f"{name} must be a whole number; got 2.0"),
        (lambda: function(True), f"{name} must be a whole number; got True"),
        (lambda: function(least - 1), f"{name} must be at least {least}; got {least - 1}"),
    ]


def not_a_draw(initializer):
    """A key, shape or dtype that an initializer cannot draw from."""
    return [
        (lambda: initializer(0, (2, 3)), "key must be a PRNG key; got int (use jax.random.key(0))"),
        (lambda: initializer(KEYS, (2, 3)), "key must be one key; got (3,) of them (use jax.vmap for many runs)"),
        (lambda: initializer(np.zeros((3, 2), np.uint32), (2, 3)), "key must be one key; got (3,) of them"),
        (lambda: initializer(np.zeros(2, np.int32), (2, 3)), "key must be a PRNG key; got int32[2] (use jax.random.key"),
        (lambda: initializer(None, (2, 3)), "key must be a PRNG key; got NoneType"),
        (lambda: initializer(KEY, 3), "shape must be a tuple of whole numbers; got 3"),
        (lambda: initializer(KEY, (2, 3.0)), "every size in shape must be a whole number; got 3.0"),
        (lambda: initializer(KEY, (2, -3)), "every size in shape must be at least 0; got -3"),
        (lambda: initializer(KEY, (2, 3), jnp.int32), "dtype must be a floating-point dtype"),
        (lambda: initializer(KEY, (2, 3), "float31"), "dtype must be a floating-point dtype, such as jnp.float32; got 'float31'"),
    ]  # fmt: skip


def not_a_pair(loss, taker):
    """Outputs and targets that do not fit, for a regression."""
    y = np.ones((4, 1), np.float32)
    return [
        *not_floating(loss, "outputs", taker, X),
        (lambda: loss(0.5, X), f"{taker} takes outputs as an array; got float"),
        (lambda: loss(y, y[:, 0]), "outputs have shape (4, 1) and targets (4,); expected the same (use targets[:, None])"),
        (lambda: loss(y[:, 0], y), "outputs have shape (4,) and targets (4, 1); expected the same (use targets[:, 0])"),
        (lambda: loss(y, y[:3]), "outputs have shape (4, 1) and targets (3, 1); expected the same"),
        (lambda: loss(y, "a"), "targets must be an array; got str"),
        (lambda: loss(y, y.tolist()), "targets must be an array; got list"),
        (lambda: loss(y, y > 0), "targets must hold real numbers; got dtype bool"),
        (lambda: loss(y, y.astype(complex)), "targets must hold real numbers; got dtype complex128"),
    ]  # fmt: skip


def not_classified(function):
    """Outputs and targets that do not fit, for a classification."""
    labels = np.array([0, 1, 2, 0])
    return [
        *not_floating(function, "outputs", "classification", labels),
        (lambda: function(0.5, labels), "classification takes outputs as an array; got float"),
        (lambda: function(X[:, :1], labels), "outputs have shape (4, 1); expected [batch, classes] with two classes or more"),
        (lambda: function(np.float32(1), labels), "outputs have shape (); expected [batch, classes]"),
        (lambda: function(X, labels[:, None]), "targets have shape (4, 1); expected integer labels (4,) (use targets[:, 0])"),
        (lambda: function(X, labels[:3]), "targets have shape (3,); expected integer labels (4,)"),
        (lambda: function(X, X[:, 0]), "targets have dtype float32; expected integer labels (use targets.astype(int))"),
        (lambda: function(X, X[:, 0] > 0), "targets must hold real numbers; got dtype bool"),
        (lambda: function(X, labels.tolist()), "targets must be an array; got list"),
        (lambda: function(X, None), "targets must be an array; got NoneType"),
        (lambda: function(X, labels.astype(object)), "targets must hold real numbers; got dtype object"),
    ]  # fmt: skip


def label_out_of_range(loss):
    return [
        (lambda: loss(X, np.array([0, 1, 3, 2])), "targets[2] is 3; expected labels 0 to 2 for 3 outputs"),
        (lambda: loss(X, np.array([0, -1, 1, 2])), "targets[1] is -1; expected labels 0 to 2 for 3 outputs"),
    ]


def not_a_rate(make):
    return [
        *not_a_number(make, "learning_rate"),
        (lambda: make(-0.1), "learning_rate must be finite and at least 0; got -0.1"),
        (lambda: make(None), "learning_rate must be a number; got None"),
    ]


PARAMS = {"W": X, "b": X[0]}


def not_params(make):
    """Params and gradients that an optimizer cannot move, or not together."""
    optimizer, scheduled = make(0.1), make(lambda step: np.ones(2))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(optimizer.init, PARAMS))

    def update(grads, params=PARAMS):
        return optimizer.update(grads, state, params)

    return [
        (lambda: optimizer.init(PARAMS | {"W": X.astype(int)}), "params['W'] is int64; an optimizer moves floating-point leaves only"),
        (lambda: optimizer.init(PARAMS | {"W": "a"}), "params['W'] is str; an optimizer moves floating-point leaves only"),
        (lambda: optimizer.init(PARAMS | {"b": X[0] > 0}), "params['b'] is bool; an optimizer moves floating-point leaves only"),
        (lambda: optimizer.init(X.astype(complex)), "params is complex128; an optimizer moves floating-point leaves only"),
        (lambda: update({"W": X}), "grads has the structure {'W': *}; expected that of the parameters"),
        (lambda: optimizer.update(PARAMS, None, PARAMS), "that init or update has returned; got NoneType"),
        (lambda: optimizer.update(PARAMS, (), PARAMS), "that init or update has returned; got tuple"),
        (lambda: update(None), "grads has the structure None; expected that of the parameters"),
        (lambda: update(PARAMS | {"b": X}), "grads['b'] has shape (4, 3); expected that of its parameter, (3,)"),
        (lambda: update(PARAMS | {"b": X[0].astype(int)}), "grads['b'] is int64; an optimizer moves"),
        (lambda: update(PARAMS | {"W": "a"}), "grads['W'] is str; an optimizer moves"),
        (lambda: update(PARAMS, {"W": X}), "; expected that of the parameters, {'W': *"),
        (lambda: scheduled.update(PARAMS, state, PARAMS), "the schedule gave a rate of shape (2,); expected a scalar"),
    ]  # fmt: skip


def optimizer(make, numbers, *more):
    """`numbers` are the hyperparameters beside the rate, each with what is out of its range."""
    return [
        *not_a_rate(make),
        *not_params(make),
        *(bad for name in numbers for bad in not_a_number(lambda value, name=name: make(0.1, **{name: value}), name)),
        *(
            (lambda name=name, value=value: make(0.1, **{name: value}), f"{name} must be finite and ")
            for name, values in numbers.items()
            for value in values
        ),
        *more,
    ]


FRACTION, POSITIVE, NOT_NEGATIVE = (-0.1, 1, 2.0), (0, -1e-8), (-0.1,)


def not_a_mask(make):
    optimizer = make(0.1, mask={"W": 1, "b": True})
    return [
        (lambda: optimizer.init(PARAMS), "mask['W'] must be True or False; got 1"),
        (lambda: make(0.1, mask="W").init(PARAMS), "mask must be True or False; got 'W'"),
        (lambda: make(0.1, mask={"V": True}).init(PARAMS), "mask has the structure PyTreeDef({'V': *}); expected"),
    ]


def not_images(function, name, *others):
    """`others` come after the images."""
    return [
        *not_floating(function, "x", name, *others),
        (lambda: function(IMAGES[0], *others), f"{name} takes x of shape [batch, height, width, channels]; got (5, 6, 3)"),
        (lambda: function(IMAGES[..., None], *others), f"{name} takes x of shape [batch, height, width, channels]; got"),
    ]  # fmt: skip


def not_strides(function):
    """`function` takes stride and padding by name."""
    return [
        (lambda: function(stride=0), "stride must be at least 1; got 0"),
        (lambda: function(stride=True), "stride must be a whole number; got True"),
        (lambda: function(stride=1.5), "stride must be a whole number; got 1.5"),
        (lambda: function(stride=(1, 2, 3)), "stride must be one number or two, (vertical, horizontal); got (1, 2, 3)"),
        (lambda: function(padding=-1), "padding must be at least 0; got -1"),
        (lambda: function(padding="FULL"), "padding must be 'VALID', 'SAME', a number or ((top, bottom), (left, right)); got 'FULL'"),
        (lambda: function(padding=NAN), "padding must be a whole number; got nan"),
        (lambda: function(padding=(1, 2)), "padding must be 'VALID', 'SAME', a number or ((top, bottom), (left, right)); got (1, 2)"),
    ]  # fmt: skip


def not_a_window(function):
    return [
        (lambda: function(0), "window must be at least 1; got 0"),
        (lambda: function("2"), "window must be one number or two"),
        (lambda: function(2.0), "window must be a whole number; got 2.0"),
        (lambda: function((2, 2, 2)), "window must be one number or two, (vertical, horizontal); got (2, 2, 2)"),
    ]


def pool(function, name):
    return [
        *not_images(function, name, 2),
        *not_a_window(lambda window: function(IMAGES, window)),
        *not_strides(lambda **settings: function(IMAGES, 2, **settings)),
        (lambda: function(IMAGES, 7), "the window is 7x7, larger than the image of 5x6"),
        (lambda: function(IMAGES, 2, padding=2), "padding 2 is as large as the window's 2"),
    ]


def square(params, *args):
    return (params**2).sum()


def not_a_function_to_differentiate(check):
    """`check(f, params)` takes `step` by name too."""
    return [
        (lambda: check(3, X), "f must be a function (params"),
        (lambda: check(None, X), "f must be a function (params"),
        (lambda: check(square, {"n": np.arange(3)}), "n has dtype int64; only real floating-point entries have a gradient"),
        (lambda: check(square, X > 0), "params has dtype bool; only real floating-point entries have a gradient"),
        (lambda: check(square, X.astype(complex)), "params has dtype complex128; only real floating-point entries"),
        (lambda: check(square, {"f": {"g": "W"}}), "f/g is a str; only arrays of real numbers have a gradient"),
        (lambda: check(square, KEYS), "params has dtype key<fry>; only real floating-point entries"),
        *not_a_number(lambda step: check(square, X, step=step), "step"),
        (lambda: check(square, X, step=0.0), "step must be finite and above"),
    ]  # fmt: skip


FORMULAS = {
    **{
        name: not_floating(getattr(nn, name), "x", name)
        for name in ("identity", "relu", "sigmoid", "sign", "tanh")
    },
    "constant": [*not_a_number(nn.constant, "value"), *not_a_draw(nn.constant(1.0))],
    "normal": [
        *not_a_number(nn.normal, "std"),
        (lambda: nn.normal(-0.1), "std must be finite and at least 0; got -0.1"),
        *not_a_draw(nn.normal()),
    ],
    "zeros": not_a_draw(nn.zeros),
    "leaky_relu": [
        *not_floating(nn.leaky_relu, "x", "leaky_relu"),
        *not_a_number(lambda slope: nn.leaky_relu(X, slope), "negative_slope"),
    ],
    "softmax": [
        *not_floating(nn.softmax, "x", "softmax"),
        (lambda: nn.softmax(0.5), "softmax takes x with an axis of classes; got a scalar"),
        (lambda: nn.softmax(X, 2), "axis must be below 2; got 2"),
        (lambda: nn.softmax(X, -3), "axis must be at least -2; got -3"),
        (lambda: nn.softmax(X, 0.5), "axis must be a whole number; got 0.5"),
        (lambda: nn.softmax(X, None), "axis must be a whole number; got None"),
        (lambda: nn.softmax(X, True), "axis must be a whole number; got True"),
    ],
    **{
        make.__name__: [
            *not_a_draw(make()),
            (lambda make=make: make()(KEY, (3,)), "shape"),
        ]
        for make in (nn.xavier, nn.he)
    },
    "mean_squared_error": not_a_pair(nn.mean_squared_error, "a loss"),
    "mean_absolute_error": not_a_pair(nn.mean_absolute_error, "a loss"),
    "softmax_cross_entropy": [*not_classified(nn.softmax_cross_entropy), *label_out_of_range(nn.softmax_cross_entropy)],
    "cross_entropy": [
        *not_classified(nn.cross_entropy),
        *label_out_of_range(nn.cross_entropy),
        *not_a_number(lambda eps: nn.cross_entropy(X, np.zeros(4, int), eps), "eps"),
        (lambda: nn.cross_entropy(X, np.zeros(4, int), 0.0), "eps must be finite and above 0; got 0"),
    ],
    "l2_penalty": [
        *not_a_number(nn.l2_penalty, "weight_decay"),
        (lambda: nn.l2_penalty(-1e-4), "weight_decay must be finite and at least 0; got -0.0001"),
        (lambda: nn.l2_penalty(0.1)({"b": X[0]}), "l2_penalty found no weights: no leaf of params has two axes or more"),
        (lambda: nn.l2_penalty(0.1)({"W": "a"}), "l2_penalty found no weights: no leaf of params has two axes or more"),
        (lambda: nn.l2_penalty(0.1)({"W": X.astype(int)}), "l2_penalty takes floating-point weights; got int64"),
    ],
    "accuracy": not_classified(nn.accuracy),
    "confusion_matrix": not_classified(nn.confusion_matrix),
    "convolution.conv2d": [
        *not_images(convolution.conv2d, "conv2d", KERNEL),
        *not_floating(lambda W: convolution.conv2d(IMAGES, W), "W", "conv2d"),
        *not_strides(lambda **settings: convolution.conv2d(IMAGES, KERNEL, **settings)),
        (lambda: convolution.conv2d(IMAGES, KERNEL[0]), "W must be [kernel height, kernel width, in, out channels]; got shape"),
        (lambda: convolution.conv2d(IMAGES, KERNEL[..., :0]), "W must not be empty; got shape (3, 3, 3, 0)"),
        (lambda: convolution.conv2d(IMAGES[..., :2], KERNEL), "x has 2 channels and W takes 3"),
        (lambda: convolution.conv2d(IMAGES[:, :2], KERNEL), "the kernel is 3x3, larger than the image of 2x6"),
    ],
    "convolution.max_pool2d": pool(convolution.max_pool2d, "max_pool2d"),
    "convolution.average_pool2d": pool(convolution.average_pool2d, "average_pool2d"),
    "sgd": optimizer(nn.sgd, {}),
    "momentum": optimizer(nn.momentum, {"momentum": FRACTION}),
    "nesterov": optimizer(nn.nesterov, {"momentum": FRACTION}),
    "adagrad": optimizer(nn.adagrad, {"eps": POSITIVE, "initial_accumulator": NOT_NEGATIVE}),
    "rmsprop": optimizer(
        nn.rmsprop,
        {"decay": FRACTION, "eps": POSITIVE, "momentum": FRACTION},
        (lambda: nn.rmsprop(0.1, centered=1), "centered must be True or False; got 1"),
        (lambda: nn.rmsprop(0.1, centered="yes"), "centered must be True or False; got 'yes'"),
    ),
    "adam": optimizer(
        nn.adam,
        {"beta1": FRACTION, "beta2": FRACTION, "eps": POSITIVE},
        (lambda: nn.adam(eps_beside="vhat"), "unknown eps_beside 'vhat': did you mean v_hat"),
        (lambda: nn.adam(eps_beside=3), "unknown eps_beside 3: there are v_hat, v"),
    ),
    "adamw": optimizer(
        nn.adamw,
        {"beta1": FRACTION, "beta2": FRACTION, "eps": POSITIVE, "weight_decay": NOT_NEGATIVE},
        *not_a_mask(nn.adamw),
    ),
    "lion": optimizer(
        nn.lion, {"beta1": FRACTION, "beta2": FRACTION, "weight_decay": NOT_NEGATIVE}, *not_a_mask(nn.lion)
    ),
    "muon": optimizer(
        nn.muon,
        {"momentum": FRACTION, "weight_decay": NOT_NEGATIVE, "consistent_rms": POSITIVE},
        *not_a_mask(nn.muon),
        (lambda: nn.muon(nesterov=1), "nesterov must be True or False; got 1"),
        (lambda: nn.muon(rest=0.1), "rest must be an optimizer, such as adam(0.001); got float"),
        (lambda: nn.muon(mask=True).init(PARAMS), "params['b'] has shape (3,); muon makes only leaves of two axes"),
    ),
    "numerical_gradient": [
        *not_a_function_to_differentiate(nn.numerical_gradient),
        *not_a_size(lambda batch: nn.numerical_gradient(square, X, batch=batch), "batch"),
    ],
    "check_gradients": [
        *not_a_function_to_differentiate(nn.check_gradients),
        *not_a_size(lambda sample: nn.check_gradients(square, X, sample=sample), "sample"),
        *not_a_size(lambda directions: nn.check_gradients(square, X, directions=directions), "directions", 0),
        *not_a_size(lambda seed: nn.check_gradients(square, X, seed=seed), "seed", 0),
        *not_a_number(lambda rtol: nn.check_gradients(square, X, rtol=rtol), "rtol"),
        (lambda: nn.check_gradients(square, X, gradient=X), "gradient must be a function (params, *args) -> tree"),
        (lambda: nn.check_gradients(square, X, dtype=jnp.bfloat16), "dtype must be float64 or float32; in bfloat16"),
        (lambda: nn.check_gradients(square, X, dtype="float31"), "dtype must be a floating-point dtype, such as jnp.float32; got 'float31'"),
        (lambda: nn.check_gradients(square, X * np.float32(NAN)), "params[0, 0] is nan; every value must be finite"),
        (lambda: nn.check_gradients(square, X[:0]), "params has no entries"),
    ],
}  # fmt: skip
