"""Layers for images `[batch, height, width, channels]`; their arithmetic is in `convolution`."""

from typing import Any

import jax
from jaxtyping import Array, PRNGKeyArray

from jaxnn import convolution, initializers
from jaxnn._checks import check_entries, check_flag, check_functions, check_size, check_start
from jaxnn.convolution import Padding, Pair, check_padding, geometry_of, pair, pooling_of
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
        TypeError: x is not floating point, as unscaled pixels are; `params` without W or b.
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
    check_flag("bias", bias)
    initializer = initializers.xavier() if initializer is None else initializer
    check_functions(
        initializer=(initializer, "(key, shape) -> array"),
        bias_initializer=(bias_initializer, "(key, shape) -> array"),
    )

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        check_start(key, input_shape)
        height, width, channels = _image_shape("conv2d", input_shape)
        output = geometry_of((height, width), kernel, strides, padding, "the kernel").output
        W_key, b_key = jax.random.split(key)
        params = {"W": initializer(W_key, (*kernel, channels, filters))}
        if bias:
            params["b"] = bias_initializer(b_key, (filters,))
        return params, {}, (*output, filters)

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        del training, key
        check_entries("params", params, "W", *(["b"] if bias else []))
        W = params["W"]
        if bias and params["b"].shape != W.shape[3:]:
            raise ValueError(f"conv2d takes b of shape {W.shape[3:]}, as W is {W.shape}; got {params['b'].shape}")
        y = convolution.conv2d(x, W, stride=strides, padding=padding)
        return (y + params["b"].reshape(1, 1, 1, -1) if bias else y), model_state

    return Layer(init, apply, "conv")


def max_pool2d(window: int | Pair = 2, *, stride: int | Pair | None = None, padding: Padding = "VALID") -> Layer:
    """The largest value of each window as a layer; see `convolution.max_pool2d`.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> y, _ = nn.max_pool2d(2).apply({}, {}, jnp.zeros((5, 28, 28, 3)))
    >>> print(y.shape)
    (5, 14, 14, 3)
    """
    return _pool(convolution.max_pool2d, "max_pool", pair("window", window), stride, padding)


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
        height, width, channels = _image_shape(f"{kind}2d", input_shape)
        output = pooling_of((height, width), windows or (height, width), strides, padding).output
        return *output, channels

    return without_params(pool, shape_of, kind)


def _image_shape(kind: str, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"{kind} takes examples of shape (height, width, channels); got {shape}")
    height, width, channels = shape
    return height, width, channels
