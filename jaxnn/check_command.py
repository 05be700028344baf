"""`jaxnn check-gradients`: the audit of a model on a data set, and what a numerical gradient costs."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from rich.console import Console

from jaxnn._checks import check_size
from jaxnn.data_options import check_options, choose_scaling, fit_scaling, load_data
from jaxnn.gradient_check import check_gradients
from jaxnn.gradients import numerical_gradient
from jaxnn.layers import Params
from jaxnn.losses import mean_squared_error, softmax_cross_entropy
from jaxnn.older_jax import enable_x64
from jaxnn.presets import ModelConfig, build_model, check_model, resolve_model
from jaxnn.progress import format_seconds
from jaxnn.terminal import print_json

__all__ = ["CheckGradientsConfig", "run"]

# Of a network with more entries, this many are timed, and the rest is reckoned.
_TIMED = 50_000
_SOME = 500


@dataclass(frozen=True)
class CheckGradientsConfig(ModelConfig):
    """Check jax.grad of a network and its loss against central differences in float64, entry by entry.

    Prints a table with a row for each leaf of the parameters, and how much longer a numerical gradient takes. The exit
    status is 1 if a gradient is wrong.
    """

    batch_size: Annotated[int, tyro.conf.arg(metavar="INT")] = 20
    """Training examples that the loss is the mean of."""
    sample: Annotated[int, tyro.conf.arg(metavar="INT")] = 200
    """Entries to check of each leaf, at random; smaller leaves are checked whole."""
    every_entry: bool = False
    """Check every entry of every leaf."""
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Random seed of the initial weights, dropout, the sample and the directions."""
    json: bool = False
    """Print it in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


def run(config: CheckGradientsConfig, console: Console) -> bool:
    """Print the report; whether the gradient is right."""
    check_model(config)
    check_size("--batch-size", config.batch_size)
    check_size("--sample", config.sample)
    check_size("--seed", config.seed, at_least=0, below=2**32)
    check_options(config)
    config = resolve_model(config)
    (train, *_), about = load_data(config.dataset, config)
    model = build_model(config, about.outputs)
    if config.batch_size > len(train.x):
        raise ValueError(f"--batch-size is {config.batch_size}, but there are only {len(train.x)} training examples")
    features = np.asarray(train.x)
    scale = fit_scaling(config.scaling or choose_scaling(features, about), features)
    x = features[: config.batch_size]
    x = np.asarray(x if scale is None else scale(x), np.float64)
    y = jnp.asarray(train.y[: config.batch_size])
    objective = softmax_cross_entropy if about.classes else mean_squared_error
    init_key, layer_key = jax.random.split(jax.random.key(config.seed))
    params, model_state, _ = model.init(init_key, about.shape)
    entries = sum(leaf.size for leaf in jax.tree.leaves(params))

    def loss(params: Params, model_state: Any, x: Array, y: Array) -> Array:
        outputs, _ = model.apply(params, model_state, x, training=True, key=layer_key)
        return objective(outputs, y)

    console.print(f"data    {about.name}: {config.batch_size} training examples")
    console.print(f"model   {config.model}: {entries:,} parameters, initial weights of seed {config.seed}")
    sample = None if config.every_entry else config.sample
    report = check_gradients(loss, params, model_state, x, y, sample=sample, seed=config.seed)
    if config.json:
        print_json({**dataclasses.asdict(report), "ok": report.ok, "failed": report.failed})
        return report.ok
    console.print(str(report))
    console.print(_cost(loss, params, model_state, x, y))
    return report.ok


def _cost(loss: Callable[..., Array], params: Params, *args: Any) -> str:
    """One gradient of either kind, compiled, in float64."""
    with enable_x64(True):
        params, args = jax.tree.map(_in_float64, (params, args))
        flat, unravel = ravel_pytree(params)
        timed = np.linspace(0, flat.size - 1, flat.size if flat.size <= _TIMED else _SOME).astype(int)

        def of_entries(entries: Array, *args: Any) -> Array:
            return loss(unravel(flat.at[timed].set(entries)), *args)

        def numerical(params: Params, *args: Any) -> Any:
            if len(timed) < flat.size:
                return numerical_gradient(lambda entries: of_entries(entries, *args), flat[timed])
            return numerical_gradient(lambda params: loss(params, *args), params)

        analytic_seconds = _seconds(jax.jit(jax.grad(loss)), params, *args)
        numerical_seconds = _seconds(jax.jit(numerical), params, *args) * flat.size / len(timed)
    reckoned = f", reckoned from {len(timed)}" if len(timed) < flat.size else ""
    return (
        f"cost    {_duration(numerical_seconds)} for a numerical gradient of all {flat.size:,} entries{reckoned}; "
        f"jax.grad takes {_duration(analytic_seconds)}, {numerical_seconds / analytic_seconds:,.0f} times less"
    )


def _in_float64(leaf: Any) -> Any:
    return jnp.asarray(np.asarray(leaf, np.float64)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _seconds(function: Callable[..., Any], *args: Any) -> float:
    """Of one call, compiled before; the best of up to five."""
    jax.block_until_ready(function(*args))
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < 2:
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else format_seconds(seconds)
