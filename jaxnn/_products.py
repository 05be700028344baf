"""Convolution as matrix products, for CPUs: patches (im2col), and Winograd's minimal filtering for kernels 3 wide.

The three contractions of `convolution`, each of two arrays without groups:

    x [batch, height, width, in]    W [kernel_height, kernel_width, in, out]    y [batch, out_height, out_width, out]
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

Pair: TypeAlias = tuple[int, int]

# What one pass may hold beside its operands, in numbers, or one example's share if that is more: beyond it falls out
# of the last cache. Found by measurement.
_WORKING_SET = 2**22
# From this many channels on, Winograd's filtering is used: faster there by measurement. Below, sums stay plain.
_WINOGRAD_CHANNELS = 16


class Geometry(NamedTuple):
    """What the shapes of two of the three arrays leave open."""

    image: Pair  # height, width
    kernel: Pair
    strides: Pair
    pads: tuple[Pair, Pair]

    @property
    def output(self) -> Pair:
        """Height and width of y."""
        height, width = (
            (size + sum(pad) - extent) // stride + 1
            for size, extent, stride, pad in zip(self.image, self.kernel, self.strides, self.pads, strict=True)
        )
        return height, width


def convolve(x: Array, W: Array, *, geometry: Geometry) -> Array:
    """y, from x and W."""
    if _is_for_winograd(geometry, W.shape[2:]):
        matrices = _winograd_kernel(W)
        per_example = _winograd_working_set(geometry, W.shape[2:])
        return _by_chunks(lambda x: _winograd(x, matrices, geometry), x, per_example)
    matrix = W.reshape(-1, W.shape[3])
    per_example = geometry.output[0] * geometry.output[1] * len(matrix)
    shape = (*geometry.output, W.shape[3])
    return _by_chunks(
        lambda x: (_patches(x, geometry).reshape(-1, len(matrix)) @ matrix).reshape(len(x), *shape), x, per_example
    )


def image_gradient(y: Array, W: Array, *, geometry: Geometry) -> Array:
    """x, from y and W: y spread over the places that it came from."""
    into, out = W.shape[2:]
    if geometry.strides == (1, 1) and (out <= into or _is_for_winograd(geometry, (into, out))):
        # The convolution of y, padded, with the kernel turned by 180 degrees.
        (top, bottom), (left, right) = geometry.pads
        below, beside = (extent - 1 for extent in geometry.kernel)
        turned = Geometry(
            geometry.output, geometry.kernel, (1, 1), ((below - top, below - bottom), (beside - left, beside - right))
        )
        return convolve(y, W[::-1, ::-1].swapaxes(2, 3), geometry=turned)
    matrix = W.reshape(-1, out)
    per_example = geometry.output[0] * geometry.output[1] * len(matrix)
    return _by_chunks(lambda y: _overlap(y @ matrix.T, into, geometry), y, per_example)


def kernel_gradient(x: Array, y: Array, *, geometry: Geometry) -> Array:
    """W, from x and y: how much each place of the window goes with each output."""
    into, out = x.shape[3], y.shape[3]
    if _is_for_winograd(geometry, (into, out)):
        products = _sum_by_chunks(
            lambda x, y: _winograd_products(x, y, geometry), x, y, _winograd_working_set(geometry, (into, out))
        )
        is_narrow = geometry.kernel[0] * into <= out
        columns = [product if is_narrow else product.T for product in _combinations(_G.T, products)]
        return jnp.stack([column.reshape(-1, into, out) for column in columns], axis=1)
    rows = math.prod(geometry.kernel) * into
    product = _sum_by_chunks(
        lambda x, y: _narrow_product(_patches(x, geometry).reshape(-1, rows), y.reshape(-1, out)),
        x,
        y,
        math.prod(geometry.output) * rows,
    )
    return (product if rows <= out else product.T).reshape(*geometry.kernel, into, out)


def _narrow_product(a: Array, b: Array) -> Array:
    """a.T b, or its transpose b.T a if b is narrower: on CPUs XLA is faster where the narrower one is transposed."""
    return a.T @ b if a.shape[1] <= b.shape[1] else b.T @ a


def _by_chunks(function: Callable[[Array], Array], x: Array, per_example: int) -> Array:
    """function(x) a few examples at a time, `per_example` numbers of working set each."""
    chunks = _chunks(len(x), per_example)
    if chunks <= 1:
        return function(x)
    chunk = -(-len(x) // chunks)
    shape = jax.eval_shape(function, x)

    def write(number: Array, out: Array) -> Array:
        # A last chunk that would reach beyond the end is moved back, here and there, and overlaps the one before.
        part = function(lax.dynamic_slice_in_dim(x, number * chunk, chunk))
        return lax.dynamic_update_slice_in_dim(out, part, number * chunk, 0)

    return lax.fori_loop(0, chunks, write, jnp.zeros(shape.shape, shape.dtype))


def _sum_by_chunks(function: Callable[[Array, Array], Any], x: Array, y: Array, per_example: int) -> Any:
    """function(x, y), arrays of sums over the examples, a few examples at a time."""
    chunks = _chunks(len(x), per_example)
    if chunks <= 1:
        return function(x, y)
    chunk = -(-len(x) // chunks)
    missing = chunks * chunk - len(x)
    x, y = (jnp.pad(part, ((0, missing), *((0, 0),) * 3)) for part in (x, y))
    parts = [part.reshape(chunks, chunk, *part.shape[1:]) for part in (x, y)]
    start = jax.tree.map(lambda sums: jnp.zeros(sums.shape, sums.dtype), jax.eval_shape(function, x, y))
    total, _ = lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, function(*part)), None), start, parts)
    return total


def _chunks(examples: int, per_example: int) -> int:
    """How many chunks: few, and as long as each other if that does not double their number."""
    least = -(-examples // max(1, _WORKING_SET // max(1, per_example)))
    return next((chunks for chunks in range(least, 2 * least) if examples % chunks == 0), least)


def _pad(x: Array, pads: tuple[Pair, Pair]) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))


def _patches(x: Array, geometry: Geometry) -> Array:
    """im2col: [batch, out_height, out_width, kernel_height kernel_width in]."""
    (height, width), (down, across) = geometry.output, geometry.strides
    x = _pad(x, geometry.pads)
    x = jnp.concatenate([x[:, :, b : b + across * (width - 1) + 1 : across] for b in range(geometry.kernel[1])], axis=3)
    return jnp.concatenate([x[:, a : a + down * (height - 1) + 1 : down] for a in range(geometry.kernel[0])], axis=3)


def _overlap(patches: Array, channels: int, geometry: Geometry) -> Array:
    """col2im, the transpose of `_patches`: what lies on one pixel is added up."""
    patches = patches.reshape(*patches.shape[:3], *geometry.kernel, channels)
    sizes = zip(geometry.image, geometry.kernel, geometry.strides, geometry.pads, geometry.output, strict=True)
    spans = [
        (stride - 1, [(a - pad[0], size + pad[0] - a - stride * (count - 1) - 1) for a in range(extent)])
        for size, extent, stride, pad, count in sizes
    ]
    (gap_down, down), (gap_across, across) = spans
    zero = jnp.zeros((), patches.dtype)
    total = None
    for a, rows in enumerate(down):
        for b, columns in enumerate(across):
            placed = lax.pad(
                patches[:, :, :, a, b], zero, ((0, 0, 0), (*rows, gap_down), (*columns, gap_across), (0, 0, 0))
            )
            total = placed if total is None else total + placed
    assert total is not None
    return total


# Winograd's minimal filtering (Lavin & Gray 2016, equation 8): F(4, 3) computes 4 outputs of a filter of 3 from a tile
# of 6 inputs with 6 products instead of 12, y = A.T [(G w) * (B.T d)], here along the width, and summed over channels
# and the kernel's rows by one matrix product per place in the tile. The kernel's gradient is the transpose,
# w = G.T [(B.T d) * (A y)]. In both directions it would save half of the products again, at six times as many places
# to transform and compile: by measurement slower for images of 32x32, faster for those of 8x8.
_B_T = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
_OUTPUTS, _TILE, _FILTER = len(_A_T), *_G.shape


def _is_for_winograd(geometry: Geometry, channels: tuple[int, ...]) -> bool:
    return (
        geometry.kernel[1] == _FILTER
        and geometry.strides == (1, 1)
        and geometry.output[1] >= _OUTPUTS
        and min(channels) >= _WINOGRAD_CHANNELS
    )


def _tiles(geometry: Geometry) -> int:
    return -(-geometry.output[1] // _OUTPUTS)


def _winograd_working_set(geometry: Geometry, channels: tuple[int, ...]) -> int:
    """Numbers of working set per example."""
    into, out = channels
    return _TILE * geometry.output[0] * _tiles(geometry) * (geometry.kernel[0] * into + out)


def _winograd_kernel(W: Array) -> list[Array]:
    """G w: per place in the tile a matrix [kernel_height in, out]."""
    return _combinations(_G, [W[:, b].reshape(-1, W.shape[3]) for b in range(_FILTER)])


def _winograd_places(x: Array, geometry: Geometry) -> list[Array]:
    """B.T d: per place in the tile a matrix [batch out_height tiles, kernel_height in]."""
    height, tiles = geometry.output[0], _tiles(geometry)
    vertical, (left, right) = geometry.pads
    x = _pad(x, (vertical, (left, right + _OUTPUTS * tiles - geometry.output[1])))
    places = _combinations(_B_T, [x[:, :, j : j + _OUTPUTS * (tiles - 1) + 1 : _OUTPUTS] for j in range(_TILE)])
    rows = geometry.kernel[0]
    return [
        jnp.concatenate([place[:, a : a + height] for a in range(rows)], axis=3).reshape(-1, rows * x.shape[3])
        for place in places
    ]


def _winograd(x: Array, matrices: list[Array], geometry: Geometry) -> Array:
    height, width = geometry.output
    out = matrices[0].shape[1]
    products = [place @ matrix for place, matrix in zip(_winograd_places(x, geometry), matrices, strict=True)]
    y = jnp.stack(_combinations(_A_T, products), axis=1)
    return y.reshape(len(x), height, _OUTPUTS * _tiles(geometry), out)[:, :, :width]


def _winograd_products(x: Array, y: Array, geometry: Geometry) -> list[Array]:
    """(B.T d).T (A y), or its transpose (`_narrow_product`): the kernel's gradient before G.T."""
    y = _pad(y, ((0, 0), (0, _OUTPUTS * _tiles(geometry) - y.shape[2])))
    outputs = _combinations(_A_T.T, [y[:, :, i::_OUTPUTS].reshape(-1, y.shape[3]) for i in range(_OUTPUTS)])
    return [_narrow_product(*pair) for pair in zip(_winograd_places(x, geometry), outputs, strict=True)]


def _combinations(matrix: np.ndarray, arrays: list[Array]) -> list[Array]:
    """The matrix times the column of arrays, written out: many entries are 0 or 1."""
    return [
        functools.reduce(
            jnp.add,
            [
                array if factor == 1 else array * float(factor)
                for factor, array in zip(row, arrays, strict=True)
                if factor
            ],
        )
        for row in matrix
    ]
