"""Layers for images `[batch, height, width, channels]`; their arithmetic is in `convolution`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxnn import convolution, initializers
from jaxnn._checks import check_functions, check_size
from jaxnn.convolution import Padding, Pair, check_padding, pair
from jaxnn.initializers import Initializer
from jaxnn.layers import Layer, ModelState, Params, Shape, without_params

__all__ = ["average_pool2d", "conv2d", "max_pool2d"]


def conv2d(
    filters: int,
    size: int | Pair = 3,
    initializer: Initializer | None = None,
    *,
    stride: int | Pair = 1,
    padding: Padding = "VALID",
    bias: bool = True,
    bias_initializer: Initializer = initializers.zeros,
) -> Layer:
    """Layer of a convolution with `filters` kernels of `size`, one number or (height, width).

        y = conv2d(x, W) + b        x [batch, height, width, in], W [size, size, in, filters], b [filters]

    `stride` and `padding` are those of `convolution.conv2d`. `initializer` draws W; without one `xavier()` does, which
    keeps the variance of a linear layer. Before a relu `he()` is the right one, and before batch norm, which
    subtracts the mean, b is idle: `bias=False`.

    Raises:
        TypeError: x is not floating point, as unscaled pixels are.
        ValueError: a size, stride or padding out of range; images smaller than the kernel.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> layer = nn.conv2d(30, 5)
    >>> params, model_state, output_shape = layer.init(jax.random.key(0), (28, 28, 1))
    >>> print(params["W"].shape, output_shape)
    (5, 5, 1, 30) (24, 24, 30)
    """
    check_size("filters", filters)
    kernel = pair("size", size)
    strides = pair("stride", stride)
    check_padding(padding)
    initializer = initializers.xavier() if initializer is None else initializer
    check_functions(
        initializer=(initializer, "(key, shape) -> array"),
        bias_initializer=(bias_initializer, "(key, shape) -> array"),
    )

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        _check_image_shape("conv2d", input_shape)
        W_key, b_key = jax.random.split(key)
        params = {"W": initializer(W_key, (*kernel, input_shape[2], filters))}
        if bias:
            params["b"] = bias_initializer(b_key, (filters,))
        output = jax.eval_shape(
            lambda x, W: convolution.conv2d(x, W, stride=strides, padding=padding),
            jax.ShapeDtypeStruct((1, *input_shape), params["W"].dtype),
            params["W"],
        )
        return params, {}, output.shape[1:]

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        del training, key
        y = convolution.conv2d(x, params["W"], stride=strides, padding=padding)
        return (y + params["b"].reshape(1, 1, 1, -1) if bias else y), model_state

    return Layer(init, apply, "conv")


def max_pool2d(window: int | Pair = 2, *, stride: int | Pair | None = None, padding: Padding = "VALID") -> Layer:
    """The largest value of each window as a layer; see `convolution.max_pool2d`.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> y, _ = nn.max_pool2d(2).apply({}, {}, jnp.zeros((5, 28, 28, 3)))
    >>> print(y.shape)
    (5, 14, 14, 3)
    """
    return _pool(convolution.max_pool2d, "max_pool", window, stride, padding)


def average_pool2d(
    window: int | Pair | None = None, *, stride: int | Pair | None = None, padding: Padding = "VALID"
) -> Layer:
    """The mean of each window as a layer; see `convolution.average_pool2d`. Without a window, of the whole image.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> y, _ = nn.average_pool2d().apply({}, {}, jnp.zeros((5, 7, 7, 64)))
    >>> print(y.shape)
    (5, 1, 1, 64)
    """
    return _pool(convolution.average_pool2d, "average_pool", window, stride, padding)


def _pool(function: Any, kind: str, window: int | Pair | None, stride: int | Pair | None, padding: Padding) -> Layer:
    if window is None and (stride is not None or padding != "VALID"):
        raise ValueError(f"{kind}2d of the whole image takes no stride and no padding")
    windows = None if window is None else pair("window", window)
    strides = None if stride is None else pair("stride", stride)
    check_padding(padding)

    def pool(x: Array) -> Array:
        return function(x, x.shape[1:3] if windows is None else windows, stride=strides, padding=padding)

    def shape_of(input_shape: Shape) -> Shape:
        _check_image_shape(f"{kind}2d", input_shape)
        return jax.eval_shape(pool, jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)).shape[1:]

    return without_params(pool, shape_of, kind)


def _check_image_shape(kind: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"{kind} takes examples of shape (height, width, channels); got {shape}")
