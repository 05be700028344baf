"""Layers: pairs of pure functions. A model is a layer too, and `sequential` makes one of many.

A layer takes arrays `[batch, features]` or `[batch, height, width, channels]`. What the optimizer moves is in
`params`; what training updates otherwise, such as batch norm's running moments, in `model_state`.

Each `init` raises a TypeError or ValueError for what is not one key and a tuple of sizes; each `apply` for what is no
array, and for `params` or a `model_state` of another layer.
"""

import math
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn import initializers
from jaxnn._checks import (
    Scalar,
    check_array,
    check_callable,
    check_choice,
    check_entries,
    check_flag,
    check_floating,
    check_functions,
    check_key,
    check_number,
    check_size,
    check_start,
    is_concrete,
)
from jaxnn._dtypes import at_least_float32
from jaxnn.initializers import Initializer

__all__ = ["Layer", "activation", "batch_norm", "dense", "dropout", "flatten", "sequential"]

Params: TypeAlias = dict[str, Any]
ModelState: TypeAlias = dict[str, Any]
Shape: TypeAlias = tuple[int, ...]

_SCALE = " (scale it first: preprocess=…)"

Init: TypeAlias = Callable[[PRNGKeyArray, Shape], tuple[Params, ModelState, Shape]]
Apply: TypeAlias = Callable[..., tuple[Array, ModelState]]


class Layer(NamedTuple):
    """A layer, or a model made of layers: two pure functions and a word for its kind.

    `init(key, input_shape) -> (params, model_state, output_shape)`, shapes without the batch axis;
    `apply(params, model_state, x, *, training=False, key=None) -> (y, new_model_state)`.
    `sequential` names the parameters after `kind`: `params["dense1"]["W"]`.

    A layer of one's own is two functions:

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> def init(key, input_shape):
    ...     return {"gain": jnp.ones(input_shape)}, {}, input_shape
    >>> def apply(params, model_state, x, *, training=False, key=None):
    ...     return params["gain"] * x, model_state
    >>> model = nn.sequential(nn.Layer(init, apply, "scale"), nn.dense(2))
    >>> params, model_state, output_shape = model.init(jax.random.key(0), (3,))
    >>> print(sorted(params), output_shape)
    ['dense1', 'scale1'] (2,)
    """

    init: Init
    apply: Apply
    kind: str = "layer"


def dense(
    outputs: int,
    initializer: Initializer | None = None,
    *,
    bias_initializer: Initializer = initializers.zeros,
) -> Layer:
    """Fully connected layer, the textbook's affine layer.

        y = x W + b        x [batch, in], W [in, outputs], b [outputs]

    `initializer` draws W; without one `xavier()` does, which keeps the variance of a linear layer. Before a
    relu `he()` is the right one.

    Raises:
        TypeError: x is not floating point, as unscaled pixels are.
        ValueError: `outputs` below 1, or x not of shape `[batch, in]`.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> layer = nn.dense(2, nn.constant(1.0))
    >>> params, model_state, output_shape = layer.init(jax.random.key(0), (3,))
    >>> y, _ = layer.apply(params, model_state, jnp.array([[1.0, 2.0, 3.0]]))
    >>> print(y, output_shape)
    [[6. 6.]] (2,)
    """
    check_size("outputs", outputs)
    initializer = initializers.xavier() if initializer is None else initializer
    check_functions(
        initializer=(initializer, "(key, shape) -> array"),
        bias_initializer=(bias_initializer, "(key, shape) -> array"),
    )

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        check_start(key, input_shape)
        if len(input_shape) != 1:
            raise ValueError(f"dense takes examples of shape (features,); got {input_shape} (put flatten() before it)")
        W_key, b_key = jax.random.split(key)
        W = initializer(W_key, (*input_shape, outputs))
        b = bias_initializer(b_key, (outputs,))
        return {"W": W, "b": b}, {}, (outputs,)

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        del training, key
        check_entries("params", params, "W", "b")
        check_floating("dense", "x", x, _SCALE)
        W, b = params["W"], params["b"]
        if x.ndim != 2 or x.shape[1] != W.shape[0]:
            raise ValueError(f"dense takes x of shape [batch, {W.shape[0]}]; got {x.shape}")
        if b.shape != W.shape[1:]:
            raise ValueError(f"dense takes b of shape {W.shape[1:]}, as W is {W.shape}; got {b.shape}")
        return x @ W + b[None, :], model_state

    return Layer(init, apply, "dense")


def activation(function: Callable[[Array], Array]) -> Layer:
    """A function of arrays as a layer, such as `relu`; it has no parameters and keeps the shape.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> y, _ = nn.activation(nn.relu).apply({}, {}, jnp.array([[-1.0, 2.0]]))
    >>> print(y)
    [[0. 2.]]
    """
    check_callable("activation", function, "(x) -> array")
    return without_params(function, lambda shape: shape, "activation")


def flatten() -> Layer:
    """Make `[batch, height, width, channels]`, or any shape, `[batch, features]`.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> y, _ = nn.flatten().apply({}, {}, jnp.zeros((5, 8, 8, 1)))
    >>> print(y.shape)
    (5, 64)
    """

    def flat(x: Array) -> Array:
        if x.ndim == 0:
            raise ValueError("flatten takes x of shape [batch, …]; got a scalar")
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))

    return without_params(flat, lambda shape: (math.prod(shape),), "flatten")


def dropout(rate: Scalar, *, scale_at: Literal["training", "inference"] = "training") -> Layer:
    """Dropout (Srivastava et al. 2014, section 4): in training each unit is silent with probability `rate`.

        scale_at="training":   training  y = x mask / (1 - rate)      inference  y = x
        scale_at="inference":  training  y = x mask                   inference  y = x (1 - rate)

    Both have the same expectation. The first is the usual one of libraries (PyTorch, Keras, Flax), the second
    the textbook's and the paper's. `rate` is the fraction dropped, in [0, 1); it may be traced.

    Raises:
        ValueError: `rate` out of range, an unknown `scale_at`, or training without a key.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> y, _ = nn.dropout(0.5).apply({}, {}, jnp.ones((1, 8)), training=True, key=jax.random.key(1))
    >>> print(y)
    [[2. 0. 2. 2. 0. 0. 0. 0.]]
    """
    check_number("rate", rate, at_least=0, below=1)
    check_choice("scale_at", scale_at, ["training", "inference"])

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        check_start(key, input_shape)
        return {}, {}, input_shape

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        del params
        check_floating("dropout", "x", x, _SCALE)
        check_flag("training", training)
        if isinstance(rate, int | float) and rate == 0:
            return x, model_state
        if not training:
            return (x * jnp.asarray(1 - rate, x.dtype) if scale_at == "inference" else x), model_state
        if key is None:
            raise ValueError("dropout needs a key in training: apply(params, model_state, x, training=True, key=key)")
        check_key("key", key)
        keep = jnp.asarray(1 - rate, x.dtype)
        # Drawn flat: the same numbers, and XLA compiles narrow matrices of random bits four times slower.
        mask = jax.random.bernoulli(key, jnp.asarray(1 - rate, jnp.float32), (x.size,)).reshape(x.shape)
        kept = x / keep if scale_at == "training" else x
        return jnp.where(mask, kept, jnp.zeros_like(x)), model_state

    return Layer(init, apply, "dropout")


def batch_norm(momentum: Scalar = 0.9, eps: Scalar = 1e-6) -> Layer:
    """Batch normalisation (Ioffe & Szegedy 2015, algorithms 1 and 2).

        y = gamma (x - mean) / sqrt(var + eps) + beta
        training:   mean, var of the batch;  running <- momentum running + (1 - momentum) batch
        inference:  mean, var = running / (1 - momentum^count)

    Moments are per channel, over all axes but the last; gamma starts at 1, beta at 0. `momentum` and `eps` are
    the textbook's. The running moments start at 0, as the textbook's do, and are corrected for that start as
    Adam's are, so that they are right from the first batch on. PyTorch and Flax start them at 0 and 1
    uncorrected, with eps = 1e-5; PyTorch's `momentum` is 1 - this one, and its running variance is unbiased,
    n / (n - 1) of the batch's.

    Raises:
        ValueError: `momentum` or `eps` out of range; training on one value per channel, which would
            normalise to 0; or inference before any batch was seen (NaN under `jit`, where nothing can be raised).

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> layer = nn.batch_norm()
    >>> params, model_state, _ = layer.init(jax.random.key(0), (1,))
    >>> x = jnp.array([[1.0], [3.0]])
    >>> y, model_state = layer.apply(params, model_state, x, training=True)
    >>> print(y.round(3).T, model_state["mean"].round(3), model_state["count"])
    [[-1.  1.]] [0.2] 1
    >>> y, _ = layer.apply(params, model_state, x)
    >>> print(y.round(3).T)
    [[-1.  1.]]
    """
    check_number("momentum", momentum, at_least=0, below=1)
    check_number("eps", eps, above=0)

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        check_start(key, input_shape)
        if not input_shape:
            raise ValueError("batch_norm takes examples with a channel axis; got scalars")
        channels = input_shape[-1:]
        params = {"gamma": jnp.ones(channels), "beta": jnp.zeros(channels)}
        model_state = {
            "mean": jnp.zeros(channels),
            "var": jnp.zeros(channels),
            "count": jnp.zeros((), jnp.int32),  # batches seen
        }
        return params, model_state, input_shape

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        del key
        check_entries("params", params, "gamma", "beta")
        check_entries("model_state", model_state, "mean", "var", "count")
        check_floating("batch_norm", "x", x, _SCALE)
        check_flag("training", training)
        if x.shape[-1:] != (channels := params["gamma"].shape):
            raise ValueError(f"batch_norm takes x of shape [batch, …, {channels[0]}]; got {x.shape}")
        per_channel = (1,) * (x.ndim - 1) + x.shape[-1:]
        if training:
            mean, var = _moments(x)
            model_state = {
                "mean": _blend(momentum, model_state["mean"], mean),
                "var": _blend(momentum, model_state["var"], var),
                "count": model_state["count"] + 1,
            }
        else:
            count = model_state["count"]
            if is_concrete(count) and np.asarray(count) == 0:  # NumPy's: inside a scan, JAX's would be traced
                raise ValueError("batch_norm has seen no batch yet: its running moments are not known before training")
            running = model_state["mean"].dtype
            seen = 1 - jnp.asarray(momentum, running) ** count.astype(running)
            mean, var = model_state["mean"] / seen, model_state["var"] / seen
        scale = params["gamma"].astype(var.dtype) / jnp.sqrt(var + jnp.asarray(eps, var.dtype))
        beta = params["beta"].astype(var.dtype)
        centred = x.astype(var.dtype) - mean.reshape(per_channel)
        y = centred * scale.reshape(per_channel) + beta.reshape(per_channel)
        return y.astype(x.dtype), model_state

    return Layer(init, apply, "batch_norm")


def sequential(*layers: Layer) -> Layer:
    """Layers one after the other.

        y = f_n(… f_2(f_1(x)))

    Parameters and state are dicts by layer: `params["dense1"]["W"]`, `params["batch_norm2"]["gamma"]`, numbered
    per kind in order. Layers without parameters do not appear. Each layer draws from a key of its own, derived from its
    name: `dense2` starts from the same weights with batch norm and without.

    Raises:
        TypeError: something that is not a Layer.
        ValueError: no layer at all, or shapes that do not fit.

    >>> import jax, jaxnn as nn
    >>> model = nn.sequential(nn.dense(4, nn.he()), nn.activation(nn.relu), nn.dense(2))
    >>> params, _, output_shape = model.init(jax.random.key(0), (3,))
    >>> print({name: layer["W"].shape for name, layer in params.items()}, output_shape)
    {'dense1': (3, 4), 'dense2': (4, 2)} (2,)
    """
    if not layers:
        raise ValueError("sequential needs at least one layer")
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = " (wrap a function in activation(…))" if callable(layer) else ""
            raise TypeError(f"sequential takes layers; got {type(layer).__name__}{hint}")
    numbers: Counter[str] = Counter()
    names = []
    for layer in layers:
        numbers[layer.kind] += 1
        names.append(f"{layer.kind}{numbers[layer.kind]}")

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        check_start(key, input_shape)
        params, model_state = {}, {}
        for name, layer in zip(names, layers, strict=True):
            layer_params, layer_state, input_shape = layer.init(_key_of(name, key), input_shape)
            if jax.tree.leaves(layer_params):
                params[name] = layer_params
            if jax.tree.leaves(layer_state):
                model_state[name] = layer_state
        return params, model_state, input_shape

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        check_entries("params", params)
        check_entries("model_state", model_state)
        check_flag("training", training)
        if key is not None:
            check_key("key", key)
        new_state = dict(model_state)
        for name, layer in zip(names, layers, strict=True):
            layer_key = None if key is None else _key_of(name, key)
            x, layer_state = layer.apply(
                params.get(name, {}), model_state.get(name, {}), x, training=training, key=layer_key
            )
            if jax.tree.leaves(layer_state):
                new_state[name] = layer_state
        return x, new_state

    return Layer(init, apply, "sequential")


def _key_of(name: str, key: PRNGKeyArray) -> PRNGKeyArray:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def without_params(function: Callable[[Array], Array], shape_of: Callable[[Shape], Shape], kind: str) -> Layer:
    """A function of arrays as a layer."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Params, ModelState, Shape]:
        check_start(key, input_shape)
        return {}, {}, shape_of(input_shape)

    def apply(
        params: Params,
        model_state: ModelState,
        x: Array,
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ModelState]:
        del params, training, key
        check_array("x", x)
        return function(x), model_state

    return Layer(init, apply, kind)


def _moments(x: Float[Array, "batch *rest channels"]) -> tuple[Array, Array]:
    """Mean and variance of a batch, per channel, in float32 at least."""
    if math.prod(x.shape[:-1]) < 2:
        raise ValueError(f"batch_norm needs two values or more per channel in training; got x of shape {x.shape}")
    axes = tuple(range(x.ndim - 1))
    x = x.astype(at_least_float32(x.dtype))
    mean = jnp.mean(x, axes, keepdims=True)
    var = jnp.mean((x - mean) ** 2, axes)
    return mean.reshape(x.shape[-1:]), var


def _blend(momentum: Scalar, running: Array, batch: Array) -> Array:
    old = jnp.asarray(momentum, running.dtype)
    return old * running + (1 - old) * batch.astype(running.dtype)
