"""Which precision to compute in."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def at_least_float32(dtype: Any) -> np.dtype:
    """The dtype to keep sums and moments in: float32 for half precision, else the dtype itself."""
    return np.dtype(np.float32) if jnp.finfo(dtype).bits < 32 else np.dtype(dtype)
