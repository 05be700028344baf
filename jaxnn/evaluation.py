"""Measuring a model: metrics as means over all examples of a data set."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array

from jaxnn._checks import check_callable, check_examples, check_functions, check_size
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.metrics import accuracy
from jaxnn.sharding import check_batch_sharding, constrain_batch, number_of_parts, split_evenly

__all__ = ["evaluate"]

Examples: TypeAlias = tuple[Array | np.ndarray, Array | np.ndarray]  # (x, y), such as a Dataset
Loss: TypeAlias = Callable[[Array, Array], Array]  # (outputs, targets) -> scalar
Metrics: TypeAlias = Mapping[str, Loss]
Preprocess: TypeAlias = Callable[[Any], Array]  # x -> x


def evaluate(
    model: Layer,
    params: Params,
    model_state: ModelState,
    data: Examples,
    metrics: Metrics | None = None,
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 1000,
    batch_sharding: NamedSharding | None = None,
) -> dict[str, Array]:
    """Each metric on all of the data, at inference (no dropout, running moments in batch norm).

    A metric is a function `(outputs, targets) -> mean over the batch`, as losses are; without `metrics` it is
    `{"accuracy": accuracy}`. The last batch may be smaller and weighs as many examples as it has: every example
    counts once. `batch_size` bounds memory and leaves the result alone; so does `batch_sharding`, such as
    `data_parallel()`, which splits the batches over devices.

    Raises:
        TypeError, ValueError: a batch size below 1, data that does not fit the contract, a `model`, `metrics` or
            `preprocess` that are none.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> model = nn.linear_regression(outputs=2)
    >>> params, model_state, _ = model.init(jax.random.key(0), (3,))
    >>> data = (jnp.ones((7, 3)), jnp.zeros((7, 2)))
    >>> print(list(nn.evaluate(model, params, model_state, data, {"error": nn.mean_squared_error})))
    ['error']
    """
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    check_model(model)
    _check_functions(metrics)
    check_functions(preprocess=(preprocess, "(x) -> x"))
    check_size("batch_size", batch_size)
    check_batch_sharding(batch_sharding, None)
    check_examples("data", data)
    x, y = jnp.asarray(data[0]), jnp.asarray(data[1])
    batch_size = min(batch_size, len(x))
    steps, batch_size, tail, rest = split_evenly(len(x), batch_size, number_of_parts(batch_sharding))

    def of_batch(start: int | Array, size: int) -> dict[str, Array]:
        batch = jax.lax.dynamic_slice_in_dim(x, start, size)
        targets = jax.lax.dynamic_slice_in_dim(y, start, size)
        batch, targets = constrain_batch((batch, targets), batch_sharding)
        return means_of_batch(model, params, model_state, (batch, targets), metrics, preprocess)

    totals: list[dict[str, Array]] = []
    if steps:
        starts = jnp.arange(steps) * batch_size
        means = jax.lax.map(lambda start: of_batch(start, batch_size), starts)
        if not tail and not rest:
            return jax.tree.map(lambda mean: jnp.mean(mean, axis=0), means)
        totals.append({name: jnp.sum(mean, axis=0) * batch_size for name, mean in means.items()})
    for start, size in ((len(x) - rest - tail, tail), (len(x) - rest, rest)):
        if size:
            totals.append({name: mean * size for name, mean in of_batch(start, size).items()})
    return {name: functools.reduce(jnp.add, [total[name] for total in totals]) / len(x) for name in metrics}


def means_of_batch(
    model: Layer,
    params: Params,
    model_state: ModelState,
    batch: Examples,
    metrics: Metrics,
    preprocess: Preprocess | None,
) -> dict[str, Array]:
    """Each metric on one batch."""
    x, y = batch
    x = x if preprocess is None else preprocess(x)
    outputs, _ = model.apply(params, model_state, x, training=False)
    return {name: mean_of_batch(name, metric(outputs, jnp.asarray(y))) for name, metric in metrics.items()}


def measure(
    model: Layer,
    loss: Loss,
    params: Params,
    model_state: ModelState,
    train: Examples,
    validation: Examples | None,
    metrics: Metrics,
    preprocess: Preprocess | None,
    batch_sharding: NamedSharding | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The metrics after an epoch, on the training data and on the validation data (there with the loss)."""
    on_train: dict[str, Array] = {}
    on_validation: dict[str, Array] = {}
    if metrics:
        on_train = evaluate(
            model, params, model_state, train, metrics, preprocess=preprocess, batch_sharding=batch_sharding
        )
    if validation is not None:
        on_validation = evaluate(
            model,
            params,
            model_state,
            validation,
            {"loss": loss, **metrics},
            preprocess=preprocess,
            batch_sharding=batch_sharding,
        )
    return on_train, on_validation


def check_model(model: Any) -> None:
    """Refuse what is no model."""
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a Layer, such as mlp([100], outputs=10); got {type(model).__name__}")


def check_metrics(metrics: Any) -> None:
    """Refuse what are no metrics of a training."""
    _check_functions(metrics)
    if "loss" in metrics:
        raise ValueError("a metric cannot be called 'loss': the history of the validation data has the loss itself")


def _check_functions(metrics: Any) -> None:
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict such as {{'accuracy': accuracy}}; got {type(metrics).__name__}")
    for name, metric in metrics.items():
        check_callable(f"metric {name!r}", metric, "(outputs, targets) -> scalar")


def mean_of_batch(name: str, value: Array) -> Array:
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"metric {name!r} must return a float scalar, the mean over the batch; "
            f"got {jnp.result_type(value)} of shape {jnp.shape(value)}"
        )
    return value
