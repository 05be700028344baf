"""Convolution and pooling of images `[batch, height, width, channels]`.

A convolution is bilinear in the image and the kernel, so one trilinear form says all:

    T(x, W, y) = Σ y[n, i, j, o] x[n, i s + a - p, j s + b - p, c] W[a, b, c, o]     s stride, p padding

Leaving out y gives the convolution ∂T/∂y, leaving out x the gradient for the image, leaving out W the one for the
kernel; and the derivatives of these three are the three again. So one primitive with three outputs to choose from has
derivatives of every order and in both modes. How it is computed is decided where it is compiled: GPUs and TPUs have
XLA's convolution; on a CPU, where that crawls inside `lax.scan`, it becomes matrix products (`_products`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from jaxnn._checks import check_floating, check_size, in_words
from jaxnn._dtypes import at_least_float32
from jaxnn._products import Geometry, convolve, image_gradient, kernel_gradient

__all__ = ["average_pool2d", "conv2d", "max_pool2d"]

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = Literal["VALID", "SAME"] | int | Sequence[Pair]

_PADDING = "padding must be 'VALID', 'SAME', a number or ((top, bottom), (left, right))"


def conv2d(
    x: Float[Array, "batch height width in_channels"],
    W: Float[Array, "kernel_height kernel_width in_channels out_channels"],
    *,
    stride: int | Pair = 1,
    padding: Padding = "VALID",
) -> Float[Array, "batch out_height out_width out_channels"]:
    """Convolution of images with a kernel, as neural networks mean it: the kernel is not flipped.

        y[n, i, j, o] = Σ x[n, i s + a - p, j s + b - p, c] W[a, b, c, o]        over a, b, c
        out_height = (height + padding - kernel_height) // s + 1, and so for the width

    `stride` s is one number or (vertical, horizontal). `padding` surrounds the image with zeros: "VALID" with none,
    "SAME" so that the output has size / s positions rounded up, a number with so many on all four sides, and
    `((top, bottom), (left, right))` with so many on each. It is the textbook's im2col and product, LeCun et al. 1998.

    Derivatives have any order, in forward and reverse mode, and keep only x and W; on a CPU, XLA may also keep patches
    of 4 million numbers, or of one example if those are more, where that is cheaper than making them twice. There,
    kernels 3 wide with stride 1, between 16 channels and more, use Winograd's minimal filtering along the width
    (Lavin & Gray 2016) if the output is at least 4 wide. It has half of the products; in float32 it rounds to a few
    1e-6 of the largest value, where the plain sum does to about 1e-6, and an infinity makes NaN around it. Half
    precision is summed in float32. On GPUs and TPUs `jax.default_matmul_precision` holds.

    `nn.conv2d` is the layer, `nn.convolution.conv2d` this function.

    Raises:
        TypeError: x or W are not floating point.
        ValueError: a shape, stride or padding that does not fit; a kernel larger than the padded image.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> print(nn.convolution.conv2d(x, jnp.ones((2, 2, 1, 1)))[0, :, :, 0])
    [[ 8. 12.]
     [20. 24.]]
    >>> print(nn.convolution.conv2d(x, jnp.ones((3, 3, 1, 5)), stride=2, padding=1).shape)
    (1, 2, 2, 5)
    """
    _check_images("conv2d", x)
    check_floating("conv2d", "W", W)
    if W.ndim != 4:
        raise ValueError(f"W must be [kernel height, kernel width, in, out channels]; got shape {W.shape}")
    if 0 in W.shape:
        raise ValueError(f"W must not be empty; got shape {W.shape}")
    if x.shape[3] != W.shape[2]:
        raise ValueError(
            f"x has {x.shape[3]} channels and W takes {W.shape[2]}: x is {x.shape} [batch, height, width, channels], "
            f"W is {W.shape} [kernel height, kernel width, in, out channels]"
        )
    image, kernel = (x.shape[1], x.shape[2]), (W.shape[0], W.shape[1])
    geometry = geometry_of(image, kernel, pair("stride", stride), padding, "the kernel")
    dtype = jnp.result_type(x, W)
    x, W = _varying_alike(x.astype(dtype), W.astype(dtype))
    y = _contract.bind(x[None], W[None], out="y", geometry=geometry)
    return y.reshape(y.shape[1:])


def max_pool2d(
    x: Float[Array, "batch height width channels"],
    window: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: Padding = "VALID",
) -> Float[Array, "batch out_height out_width channels"]:
    """The largest value of each window, per channel.

        y[n, i, j, c] = max x[n, i s + a - p, j s + b - p, c]        over a, b in the window

    `stride` is the window's size unless given: windows side by side. Padding never wins. The gradient goes to the
    largest value; of equal ones to the first, row by row, as in PyTorch; and to the first NaN if there is one.

    Raises:
        TypeError: x is not floating point.
        ValueError: x is not four-dimensional; a window, stride or padding that does not fit.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> print(nn.convolution.max_pool2d(x, 2)[0, :, :, 0])
    [[ 5.  7.]
     [13. 15.]]
    """
    _check_images("max_pool2d", x)
    _, windows, strides, pads = pooling_of((x.shape[1], x.shape[2]), window, stride, padding)
    if windows == strides and pads == ((0, 0), (0, 0)):
        return _largest_side_by_side(windows, x)
    # Width first: then the first of equal ones is the first row by row.
    for axis in (2, 1):
        x = _largest_along(axis, windows[axis - 1], strides[axis - 1], pads[axis - 1], x)
    return x


def average_pool2d(
    x: Float[Array, "batch height width channels"],
    window: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: Padding = "VALID",
) -> Float[Array, "batch out_height out_width channels"]:
    """The mean of each window, per channel.

        y[n, i, j, c] = mean x[n, i s + a - p, j s + b - p, c]        over a, b in the window and inside the image

    `stride` is the window's size unless given. The mean is over the image's own values: padding does not count, as
    in Keras; PyTorch counts it unless told `count_include_pad=False`.

    Raises:
        TypeError: x is not floating point.
        ValueError: x is not four-dimensional; a window, stride or padding that does not fit.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> print(nn.convolution.average_pool2d(x, 2)[0, :, :, 0])
    [[ 2.5  4.5]
     [10.5 12.5]]
    """
    _check_images("average_pool2d", x)
    sizes, windows, strides, pads = pooling_of((x.shape[1], x.shape[2]), window, stride, padding)
    dtype = x.dtype
    x = x.astype(at_least_float32(dtype))
    for axis in (2, 1):
        along = (windows[axis - 1], strides[axis - 1], pads[axis - 1])
        counts = sum(_places(np.ones(sizes[axis - 1], bool), *along))
        per_position = np.expand_dims(1 / counts, [other for other in range(4) if other != axis])
        x = functools.reduce(jnp.add, _windows(x, axis, *along, fill=0.0)) * jnp.asarray(per_position, x.dtype)
    return x.astype(dtype)


Name: TypeAlias = Literal["x", "W", "y"]

# Each array has a leading axis of groups that do not mix; an operand with one group serves all groups of the other.
# These are the axes that two of the three have in common:
#   x [groups, batch, height, width, in]   W [groups, height, width, in, out]   y [groups, batch, height, width, out]
_AXES: dict[Name, dict[str, int]] = {"x": {"batch": 1, "in": 4}, "W": {"in": 3, "out": 4}, "y": {"batch": 1, "out": 4}}
_OPERANDS: dict[Name, tuple[Name, Name]] = {"y": ("x", "W"), "x": ("y", "W"), "W": ("x", "y")}

# (first, second, *, out, geometry) -> out: the trilinear form without `out`, its operands in the order above.
_contract = Primitive("convolution")


@functools.partial(jax.jit, static_argnames=("out", "geometry"))
def _compiled(first: Array, second: Array, *, out: Name, geometry: Geometry) -> Array:
    return _contract.bind(first, second, out=out, geometry=geometry)


def _shape_of(first: Any, second: Any, *, out: Name, geometry: Geometry) -> Any:
    sizes = {
        label: operand.shape[axis]
        for name, operand in zip(_OPERANDS[out], (first, second), strict=True)
        for label, axis in _AXES[name].items()
    }
    shape: tuple[int, ...]
    if out == "x":
        shape = (sizes["batch"], *geometry.image, sizes["in"])
    elif out == "W":
        shape = (*geometry.kernel, sizes["in"], sizes["out"])
    else:
        shape = (sizes["batch"], *geometry.output, sizes["out"])
    groups = second.shape[0] if first.shape[0] == 1 else first.shape[0]
    return first.update(shape=(groups, *shape), weak_type=False)


def _transposed(operand: Literal[0, 1]) -> Callable[..., Array]:
    """The derivative of the form for one operand: the same form without that operand."""

    def rule(cotangent: Array, first: Any, second: Any, *, out: Name, geometry: Geometry) -> Array:
        wanted, other = _OPERANDS[out][operand], _OPERANDS[out][1 - operand]
        given = {out: cotangent, other: (first, second)[1 - operand]}
        result = _contract.bind(*(given[name] for name in _OPERANDS[wanted]), out=wanted, geometry=geometry)
        groups = (first, second)[operand].aval.shape[0]  # of the operand itself there is a placeholder only
        return result if groups == len(result) else result.sum(axis=0, keepdims=True)

    return rule


def _batched(
    operands: tuple[Array, Array], axes: tuple[int | None, int | None], *, out: Name, geometry: Geometry
) -> tuple[Array, int]:
    """Under `vmap` there are more groups."""
    (size,) = {operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None}
    # [size or 1, groups or 1, …]
    first, second = (
        operand[None] if axis is None else jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes, strict=True)
    )
    groups = second.shape[1] if first.shape[1] == 1 else first.shape[1]
    wide = []
    for operand in (first, second):
        if operand.shape[:2] != (1, 1):  # else it serves all
            operand = jnp.broadcast_to(operand, (size, groups, *operand.shape[2:]))
        wide.append(operand.reshape(operand.shape[0] * operand.shape[1], *operand.shape[2:]))
    result = _contract.bind(*wide, out=out, geometry=geometry)
    return result.reshape(size, groups, *result.shape[1:]), 0


def _on_cpu(first: Array, second: Array, *, out: Name, geometry: Geometry) -> Array:
    dtype = at_least_float32(first.dtype)
    return _by_products(first.astype(dtype), second.astype(dtype), out=out, geometry=geometry).astype(first.dtype)


def _by_products(first: Array, second: Array, *, out: Name, geometry: Geometry) -> Array:
    one = functools.partial({"y": convolve, "x": image_gradient, "W": kernel_gradient}[out], geometry=geometry)
    if out != "W" and len(second) == 1:
        # One kernel for all groups: they are one batch.
        result = one(first.reshape(first.shape[0] * first.shape[1], *first.shape[2:]), second[0])
        return result.reshape(*first.shape[:2], *result.shape[1:])
    # One group after the other: each finds the caches to itself.
    if len(first) == 1:
        return jax.lax.map(lambda second: one(first[0], second), second)
    if len(second) == 1:
        return jax.lax.map(lambda first: one(first, second[0]), first)
    return jax.lax.map(lambda group: one(*group), (first, second))


def _by_xla(first: Array, second: Array, *, out: Name, geometry: Geometry) -> Array:
    """XLA's convolution; where one operand serves all groups, one wide convolution, not one of groups."""
    if len(first) == len(second):
        return jax.vmap(functools.partial(_xla, out=out, geometry=geometry))(first, second)
    which = 0 if len(second) == 1 else 1
    name, many = _OPERANDS[out][which], (first, second)[which]
    (label,) = _AXES[name].keys() & _AXES[out].keys()
    axis = _AXES[name][label] - 1
    wide = jnp.moveaxis(many, 0, axis)
    wide = wide.reshape(*wide.shape[:axis], wide.shape[axis] * wide.shape[axis + 1], *wide.shape[axis + 2 :])
    result = _xla(*((wide, second[0]) if which == 0 else (first[0], wide)), out=out, geometry=geometry)
    axis = _AXES[out][label] - 1
    result = result.reshape(*result.shape[:axis], len(many), result.shape[axis] // len(many), *result.shape[axis + 1 :])
    return jnp.moveaxis(result, axis, 0)


def _xla(first: Array, second: Array, *, out: Name, geometry: Geometry) -> Array:
    def convolution(x: Array, W: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, W, geometry.strides, geometry.pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    if out == "y":
        return convolution(first, second)
    operands = (jax.typeof(operand[None]) for operand in (first, second))
    wanted = jax.ShapeDtypeStruct(_shape_of(*operands, out=out, geometry=geometry).shape[1:], first.dtype)
    if out == "x":
        (result,) = jax.linear_transpose(lambda x: convolution(x, second), wanted)(first)
    else:
        (result,) = jax.linear_transpose(lambda W: convolution(first, W), wanted)(second)
    return result


_contract.def_impl(_compiled)
_contract.def_abstract_eval(_shape_of)
ad.defbilinear(_contract, _transposed(0), _transposed(1))
batching.primitive_batchers[_contract] = _batched
mlir.register_lowering(_contract, mlir.lower_fun(_by_xla, multiple_results=False))
mlir.register_lowering(_contract, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")


def _check_images(kind: str, x: Array) -> None:
    check_floating(kind, "x", x, hint=" (scale it first: preprocess=…)")
    if x.ndim != 4:
        raise ValueError(f"{kind} takes x of shape [batch, height, width, channels]; got {x.shape}")
    if any(jax.typeof(x).sharding.spec):
        raise ValueError(f"{kind} takes no explicitly sharded x: make the mesh's axes jax.sharding.AxisType.Auto")


def _varying_alike(x: Array, W: Array) -> tuple[Array, Array]:
    """Under `shard_map`, let both vary over each axis of the mesh that one varies over: gradients are summed so."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return x, W
    zero = jnp.zeros_like(x).sum() + jnp.zeros_like(W).sum()
    return x + zero, W + zero


def pair(name: str, value: int | Pair) -> Pair:
    """One number for both directions, or (vertical, horizontal); at least 1."""
    both = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value, value)
    if len(both) != 2:
        raise ValueError(f"{name} must be one number or two, (vertical, horizontal); got {in_words(value)}")
    for size in both:
        check_size(name, size)
    return int(both[0]), int(both[1])


def check_padding(padding: Padding) -> tuple[Pair, Pair] | None:
    """Zeros around the image as ((top, bottom), (left, right)); None for "SAME", which waits for the image's size."""
    if isinstance(padding, str) and padding == "SAME":
        return None
    sides: Any = 0 if isinstance(padding, str) and padding == "VALID" else padding
    try:
        (top, bottom), (left, right) = sides if isinstance(sides, Sequence | np.ndarray) else ((sides, sides),) * 2
    except (TypeError, ValueError):
        raise ValueError(f"{_PADDING}; got {in_words(padding)}") from None
    for zeros in (top, bottom, left, right):
        check_size("padding", zeros, at_least=0)
    return (int(top), int(bottom)), (int(left), int(right))


def geometry_of(image: Pair, window: Pair, strides: Pair, padding: Padding, what: str) -> Geometry:
    """Where the window comes to lie on an image of this size; refuse what leaves no room for it."""
    pads = check_padding(padding)
    if pads is None:
        vertical, horizontal = (
            max((-(-size // stride) - 1) * stride + extent - size, 0)
            for size, extent, stride in zip(image, window, strides, strict=True)
        )
        pads = (vertical // 2, vertical - vertical // 2), (horizontal // 2, horizontal - horizontal // 2)
    height, width = (size + sum(pad) for size, pad in zip(image, pads, strict=True))
    if window[0] > height or window[1] > width:
        padded = "" if (height, width) == image else f" padded to {height}x{width}"
        raise ValueError(f"{what} is {window[0]}x{window[1]}, larger than the image of {image[0]}x{image[1]}{padded}")
    return Geometry(image, window, strides, pads)


def pooling_of(image: Pair, window: int | Pair, stride: int | Pair | None, padding: Padding) -> Geometry:
    """The same for pooling; refuse a window of nothing but padding."""
    windows = pair("window", window)
    strides = windows if stride is None else pair("stride", stride)
    geometry = geometry_of(image, windows, strides, padding, "the window")
    for extent, pad in zip(windows, geometry.pads, strict=True):
        if max(pad) >= extent:
            raise ValueError(
                f"padding {max(pad)} is as large as the window's {extent}: it would pool nothing but padding"
            )
    return geometry


def _windows(x: Array, axis: int, window: int, stride: int, pad: Pair, *, fill: float) -> list[Array]:
    """Entry a of the result: for every window along the axis, its value number a."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (*pad, 0)
    x = jax.lax.pad(x, jnp.asarray(fill, x.dtype), config)
    count = (x.shape[axis] - window) // stride + 1
    return [jax.lax.slice_in_dim(x, a, a + stride * (count - 1) + 1, stride, axis) for a in range(window)]


def _places(inside: np.ndarray, window: int, stride: int, pad: Pair) -> list[np.ndarray]:
    """`_windows` of what is known before there is an x: which places are the image's own."""
    inside = np.pad(inside, pad)
    return [inside[a : len(inside) - window + a + 1 : stride] for a in range(window)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _largest_along(axis: int, window: int, stride: int, pad: Pair, x: Array) -> Array:
    return functools.reduce(jnp.maximum, _windows(x, axis, window, stride, pad, fill=-np.inf))


@_largest_along.defjvp
def _slope_of_largest_along(axis: int, window: int, stride: int, pad: Pair, primals: Any, tangents: Any) -> Any:
    (x,), (x_dot,) = primals, tangents
    largest = _largest_along(axis, window, stride, pad, x)
    values = _windows(x, axis, window, stride, pad, fill=-np.inf)
    slopes = _windows(x_dot, axis, window, stride, pad, fill=0.0)
    places = _places(np.ones(x.shape[axis], bool), window, stride, pad)
    slope = jnp.zeros_like(largest)
    for value, value_dot, inside in reversed(list(zip(values, slopes, places, strict=True))):
        inside = np.expand_dims(inside, [other for other in range(x.ndim) if other != axis])
        slope = jnp.where(_is_largest(value, largest) & inside, value_dot, slope)
    return largest, slope


def _is_largest(value: Array, largest: Array) -> Array:
    return (value == largest) | jnp.isnan(value)


def _in_windows(x: Array, windows: Pair) -> Array:
    """Windows side by side: [batch, down, window height, across, window width, channels], what is left over cut off."""
    (high, wide), (height, width) = windows, x.shape[1:3]
    x = x[:, : height - height % high, : width - width % wide]
    return x.reshape(len(x), height // high, high, width // wide, wide, x.shape[3])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _largest_side_by_side(windows: Pair, x: Array) -> Array:
    x = _in_windows(x, windows)
    return functools.reduce(jnp.maximum, [x[:, :, a, :, b] for a in range(windows[0]) for b in range(windows[1])])


@_largest_side_by_side.defjvp
def _slope_of_largest_side_by_side(windows: Pair, primals: Any, tangents: Any) -> Any:
    (x,), (x_dot,) = primals, tangents
    largest = _largest_side_by_side(windows, x)
    x = _in_windows(x, windows)
    # The transpose spreads y's gradient by comparing with each place, where that of slices would pad and add.
    places = np.arange(1, windows[0] * windows[1] + 1)
    winner = jnp.zeros(largest.shape, jnp.float32)
    for place in reversed(places):
        a, b = divmod(place - 1, windows[1])
        winner = jnp.where(_is_largest(x[:, :, a, :, b], largest), np.float32(place**2), winner)
    # What XLA's CPU backend takes to be cheap it computes anew for each reader, here for each place of the window; a
    # square root it computes once. That of a square is exact, or on some accelerator nearly so.
    winner = jnp.sqrt(winner)[:, :, None, :, None]
    is_winner = jnp.abs(winner - np.float32(places.reshape(1, 1, windows[0], 1, windows[1], 1))) < 0.5
    return largest, jnp.sum(jnp.where(is_winner, _in_windows(x_dot, windows), 0), axis=(2, 4))
