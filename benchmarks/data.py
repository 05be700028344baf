"""Generated images: shapes and types of MNIST and CIFAR-10, with something to learn in them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def images(
    count: int, size: int = 28, channels: int = 1, *, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Noisy pictures of ten coarse patterns, and which: x uint8 `[count, size, size, channels]`, y int32 `[count]`.

    About a fifth of the pixels is bright, as in MNIST. A tenth of the labels is drawn anew, so that no loss falls to 0
    and losses stay comparable.

    >>> x, y = images(100)
    >>> print(x.shape, x.dtype, y.shape, y.dtype)
    (100, 28, 28, 1) uint8 (100,) int32
    """
    rng = np.random.default_rng(seed)
    coarse = rng.random((10, size // 4, size // 4, channels)) < 0.4
    patterns = np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)
    y = rng.integers(0, 10, count, dtype=np.int32)
    noise = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    # Half of a pattern's pixels are missing, at random; the rest is between 128 and 255.
    noise *= noise >> 7
    noise *= patterns[y]
    drawn_anew = rng.random(count) < 0.1
    return noise, np.where(drawn_anew, rng.integers(0, 10, count, dtype=np.int32), y)


def flat_images(count: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """MNIST's shape for networks without convolution: x uint8 `[count, 784]`, y int32 `[count]`."""
    x, y = images(count, seed=seed)
    return x.reshape(count, -1), y


def scaled(x: Any) -> Any:
    """Pixels from 0 to 1, inside the step."""
    return x.astype("float32") / 255
