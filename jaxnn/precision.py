"""Mixed precision: weights that are kept in float32, and a model that computes in bfloat16."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxnn._checks import check_array, check_entries, in_words
from jaxnn._dtypes import at_least_float32
from jaxnn.evaluation import check_model
from jaxnn.layers import Layer, ModelState, Params

__all__ = ["mixed_precision"]


def mixed_precision(model: Layer, compute_dtype: DTypeLike = jnp.bfloat16) -> Layer:
    """The same model, computing in a narrower dtype than its parameters are kept in (Micikevicius et al. 2018).

        y = float32(apply(bfloat16(params), model_state, bfloat16(x)))        ∂L/∂params in float32

    The weights that an optimizer moves stay as they are, in float32, since in bfloat16 W + step is W again for every
    step below a 512th of W. What they are rounded to for each product has a significand of 8 bits and float32's range,
    so no loss needs to be scaled. Float32 stay besides: the sums within products and convolutions, the moments of
    `batch_norm` and their running means, the logits' loss, and the optimizer's state. `model_state` is not cast: a
    layer of your own casts what it takes from there, `model_state["mean"].astype(x.dtype)`.

    `fit(…, compute_dtype=…)`, `runner.train` and `jaxnn train --compute-dtype` do this to the model of a training. It
    pays where products are large and the device has units for them, such as a GPU's tensor cores; a CPU is slower.
    float32 changes nothing unless the parameters are wider. float16 would need its loss scaled, and is refused.

    Raises:
        TypeError: no model, or no dtype.
        ValueError: a dtype other than bfloat16 and float32.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> model = nn.mixed_precision(nn.dense(1, nn.constant(1.0)))
    >>> params, model_state, _ = model.init(jax.random.key(0), (2,))
    >>> y, _ = model.apply(params, model_state, jnp.array([[1.0, 1e-3]]))
    >>> print(params["W"].dtype, y.dtype, y)
    float32 float32 [[1.]]
    """
    check_model(model)
    dtype = check_compute_dtype(compute_dtype)

    def narrow(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_floating(leaf) else leaf, tree)

    def widen(y: Array) -> Array:
        return y.astype(at_least_float32(y.dtype)) if is_floating(y) else y

    def is_floating(leaf: Any) -> bool:
        return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        check_entries("params", params)
        check_array("x", x)
        y, model_state = model.apply(narrow(params), model_state, narrow(x), training=training, key=key)
        return widen(y), model_state

    return Layer(model.init, apply, model.kind)


def check_compute_dtype(compute_dtype: Any) -> np.dtype:
    """The dtype, if a model can compute in it."""
    try:
        dtype = None if compute_dtype is None else np.dtype(compute_dtype)  # NumPy's None is float64
    except TypeError:
        dtype = None
    if dtype is None:
        raise TypeError(f"compute_dtype must be a dtype such as jnp.bfloat16; got {in_words(compute_dtype)}")
    if dtype == np.float16:
        raise ValueError("compute_dtype float16 would need its loss scaled, or small gradients are 0; use bfloat16")
    if dtype not in (jnp.bfloat16, np.float32):
        raise ValueError(f"compute_dtype must be bfloat16 or float32; got {dtype}")
    return dtype
