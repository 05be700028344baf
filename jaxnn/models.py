"""Models of the textbook. Each is a `Layer`; the size of the input comes from the data, at `init`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array

from jaxnn import activations, initializers
from jaxnn._checks import Scalar, check_callable, check_flag, check_number, check_size, in_words
from jaxnn.convolution import Padding, Pair, pair
from jaxnn.image_layers import average_pool2d, conv2d, max_pool2d
from jaxnn.initializers import Initializer
from jaxnn.layers import Layer, batch_norm, dense, flatten, sequential
from jaxnn.layers import activation as activation_layer
from jaxnn.layers import dropout as dropout_layer

__all__ = ["convnet", "linear_regression", "mlp", "perceptron", "simple_convnet", "two_layer_net"]


def linear_regression(outputs: int = 1, *, initializer: Initializer | None = None) -> Layer:
    """Linear regression, for `mean_squared_error`.

        z = x W + b        with L = (z - y)² / 2:  ∂L/∂W = (z - y) x,  ∂L/∂b = z - y

    W starts small, from `normal(0.01)`, unless an `initializer` is given. Outputs are `[batch, outputs]`: give
    targets of that shape.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> model = nn.linear_regression()
    >>> params, model_state, _ = model.init(jax.random.key(0), (3,))
    >>> z, _ = model.apply(params, model_state, jnp.ones((5, 3)))
    >>> print(params["dense1"]["W"].shape, z.shape)
    (3, 1) (5, 1)
    """
    return sequential(flatten(), dense(outputs, initializers.normal(0.01) if initializer is None else initializer))


def perceptron(
    outputs: int = 1,
    *,
    initializer: Initializer = initializers.zeros,
    bias_initializer: Initializer | None = None,
) -> Layer:
    """The sign perceptron (Rosenblatt 1958), which learns by W += rate (target - sign(x W + b)) x.

        y = sign(x W + b), in {-1, 1}        learned as if dy/dz were 1 (Widrow & Hoff's delta rule)

    The sign has no slope, so the derivative passes straight through it. With the halved squared error,
    `0.5 * mean_squared_error(y, targets)`, and one example a batch, plain SGD then is the perceptron's rule,
    and a right answer changes nothing. W starts at 0 and b at 1, as in the textbook's example, w = (1, 0, 0).

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> model = nn.perceptron()
    >>> params, model_state, _ = model.init(jax.random.key(0), (2,))
    >>> y, _ = model.apply(params, model_state, jnp.array([[1.0, 8.0]]))
    >>> print(y)
    [[1.]]
    """
    bias_initializer = initializers.constant(1.0) if bias_initializer is None else bias_initializer
    return sequential(
        flatten(),
        dense(outputs, initializer, bias_initializer=bias_initializer),
        activation_layer(_sign_with_straight_derivative),
    )


def two_layer_net(
    hidden_size: int = 50,
    outputs: int = 10,
    weight_init_std: Scalar = 0.01,
    *,
    activation: Callable[[Array], Array] = activations.sigmoid,
) -> Layer:
    """The textbook's first network: one hidden layer, weights from `normal(weight_init_std)`, zero biases.

        logits = h(x W1 + b1) W2 + b2        h = sigmoid

    The softmax belongs to the loss, `softmax_cross_entropy`. On MNIST it has 39,760 parameters.

    Raises:
        ValueError: a size below 1, or a negative `weight_init_std`.

    >>> import jax, jaxnn as nn
    >>> params, _, _ = nn.two_layer_net().init(jax.random.key(0), (28, 28, 1))
    >>> print(sum(leaf.size for leaf in jax.tree.leaves(params)))
    39760
    """
    check_size("hidden_size", hidden_size)
    check_number("weight_init_std", weight_init_std, at_least=0)
    return mlp([hidden_size], outputs, activation=activation, initializer=initializers.normal(weight_init_std))


def mlp(
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    activation: Callable[[Array], Array] = activations.relu,
    initializer: Initializer | None = None,
    batch_norm: bool = False,
    dropout: Scalar = 0.0,
) -> Layer:
    """Fully connected network (multilayer perceptron) of any depth.

        per hidden layer:  dense, batch norm if asked, activation, dropout if asked;  then dense for the logits

    `initializer` draws all weights; without one, `he()` where the activation is a relu and `xavier()`
    elsewhere, as the textbook advises. `dropout` is the fraction of hidden units dropped in training.

    Raises:
        TypeError: `hidden_sizes` is no list of sizes, or a function is none.
        ValueError: a size below 1, or `dropout` outside [0, 1).

    >>> import jax, jaxnn as nn
    >>> model = nn.mlp([100, 50], outputs=10, batch_norm=True)
    >>> params, model_state, output_shape = model.init(jax.random.key(0), (8, 8, 1))
    >>> print(list(params), output_shape)
    ['dense1', 'batch_norm1', 'dense2', 'batch_norm2', 'dense3'] (10,)
    """
    if not _is_list(hidden_sizes):
        raise TypeError(f"hidden_sizes must be a list of sizes, such as [100, 50]; got {in_words(hidden_sizes)}")
    for number, size in enumerate(hidden_sizes, start=1):
        check_size(f"hidden size {number}", size)
    check_flag("batch_norm", batch_norm)
    check_number("dropout", dropout, at_least=0, below=1)
    initializer = _initializer_for(activation, initializer)
    layers = [flatten()]
    for size in hidden_sizes:
        layers += _hidden_block(size, activation, initializer, batch_norm, dropout)
    return sequential(*layers, dense(outputs, initializer))


def simple_convnet(
    outputs: int = 10,
    *,
    filters: int = 30,
    filter_size: int | Pair = 5,
    stride: int | Pair = 1,
    padding: Padding = 0,
    pool_size: int | Pair = 2,
    hidden_size: int = 100,
    activation: Callable[[Array], Array] = activations.relu,
    initializer: Initializer | None = None,
) -> Layer:
    """The textbook's convolutional network: one convolution, one hidden layer.

        conv (30 of 5x5) - relu - max pool (2x2) - dense (100) - relu - dense (outputs)

    Without an `initializer`, weights come from `he()` where the activation is a relu and from `xavier()` elsewhere; the
    textbook's own, `normal(0.01)`, learns more slowly at first. Biases are 0. On MNIST it has 433,890 parameters and
    learns with Adam at 0.001 and batches of 100.

    Raises:
        ValueError: a size below 1, a negative `padding`, or images smaller than a filter.

    >>> import jax, jaxnn as nn
    >>> params, _, output_shape = nn.simple_convnet().init(jax.random.key(0), (28, 28, 1))
    >>> print({name: layer["W"].shape for name, layer in params.items()}, output_shape)
    {'conv1': (5, 5, 1, 30), 'dense1': (4320, 100), 'dense2': (100, 10)} (10,)
    """
    check_size("hidden_size", hidden_size)
    kernel, window = pair("filter_size", filter_size), pair("pool_size", pool_size)
    initializer = _initializer_for(activation, initializer)
    return sequential(
        conv2d(filters, kernel, initializer, stride=stride, padding=padding),
        activation_layer(activation),
        max_pool2d(window),
        flatten(),
        dense(hidden_size, initializer),
        activation_layer(activation),
        dense(outputs, initializer),
    )


def convnet(
    outputs: int = 10,
    *,
    blocks: Sequence[Sequence[int]] = ((32, 32), (64, 64), (128, 128)),
    filter_size: int | Pair = 3,
    activation: Callable[[Array], Array] = activations.relu,
    initializer: Initializer | None = None,
    dropout: Scalar = 0.0,
) -> Layer:
    """Deep convolutional network in the manner of VGG (Simonyan & Zisserman 2015), with batch normalisation.

        per block:  for each number of filters  conv - batch norm - relu;  then max pool (2x2)
        then:       mean over what is left of the image - dropout if asked - dense (outputs)

    Convolutions keep the size of the image ("SAME") and have no bias, which batch norm would take away again. Each
    block halves the image, so images must be at least 2^blocks pixels high and wide. Without an `initializer`, weights
    come from `he()` where the activation is a relu and from `xavier()` elsewhere.

    Raises:
        TypeError: `blocks` is not a list of lists of sizes.
        ValueError: a size below 1, or `dropout` outside [0, 1).

    >>> import jax, jaxnn as nn
    >>> params, _, output_shape = nn.convnet(blocks=[[16], [32]]).init(jax.random.key(0), (32, 32, 3))
    >>> print(list(params), output_shape)
    ['conv1', 'batch_norm1', 'conv2', 'batch_norm2', 'dense1'] (10,)
    """
    check_number("dropout", dropout, at_least=0, below=1)
    if not _is_list(blocks) or not all(map(_is_list, blocks)):
        raise TypeError(f"blocks must be lists of numbers of filters, such as [[32, 32], [64]]; got {in_words(blocks)}")
    kernel = pair("filter_size", filter_size)
    initializer = _initializer_for(activation, initializer)
    layers = []
    for block in blocks:
        for filters in block:
            convolution = conv2d(filters, kernel, initializer, padding="SAME", bias=False)
            layers += [convolution, batch_norm(), activation_layer(activation)]
        layers.append(max_pool2d(2))
    return sequential(*layers, average_pool2d(), flatten(), dropout_layer(dropout), dense(outputs, initializer))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _initializer_for(activation: Callable[[Array], Array], initializer: Initializer | None) -> Initializer:
    """The one given, or else the one that the activation asks for."""
    check_callable("activation", activation, "(x) -> array")
    if initializer is not None:
        return initializer
    relus = (activations.relu, activations.leaky_relu, jax.nn.relu, jax.nn.leaky_relu)
    return initializers.he() if activation in relus else initializers.xavier()


def _hidden_block(
    size: int,
    function: Callable[[Array], Array],
    initializer: Initializer,
    use_batch_norm: bool,
    rate: Scalar,
) -> list[Layer]:
    normalisation = [batch_norm()] if use_batch_norm else []
    return [dense(size, initializer), *normalisation, activation_layer(function), dropout_layer(rate)]


@jax.custom_jvp
def _sign_with_straight_derivative(z: Array) -> Array:
    return activations.sign(z)


@_sign_with_straight_derivative.defjvp
def _straight(primals: Any, tangents: Any) -> Any:
    return activations.sign(*primals), *tangents
