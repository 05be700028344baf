"""The numerical gradient of all parameters of the textbook's net (row B3): two evaluations for each of 39,760."""

import functools
from typing import Any

import numpy as np

from benchmarks.row import OURS, Contender, Row, Run

INPUTS, OUTPUTS, BATCH = 784, 10, 100
STEP = 1e-4  # the textbook's


def rows(quick: bool) -> list[Row]:
    """One row; its quick form has a narrower net."""
    hidden = 2 if quick else 50
    entries = INPUTS * hidden + hidden + hidden * OUTPUTS + OUTPUTS
    forward = 2 * BATCH * (INPUTS * hidden + hidden * OUTPUTS)
    return [
        Row(
            group="numerical_gradient",
            name="numerical gradient",
            work=f"central differences of {INPUTS}-{hidden}-{OUTPUTS}, {entries:,} entries, {BATCH} images, float64",
            unit="s a gradient",
            units=1,
            operations=2 * entries * forward,
            contenders={
                OURS: Contender(functools.partial(jaxnn, hidden)),
                "JAX by hand, vmap": Contender(functools.partial(jax_by_hand, hidden)),
                "NumPy, the textbook's loop": Contender(functools.partial(numpy_textbook, hidden)),
            },
            target=0.3,
            against=("NumPy",),
            margin=1e-5,
            rounds=2,
        )
    ]


def jaxnn(hidden: int) -> Run:
    """`nn.numerical_gradient`, compiled."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jaxnn as nn

    params, x, y = _arrays(hidden)

    def loss(params: Any, x: Any, y: Any) -> Any:
        h = nn.sigmoid(x @ params["W1"] + params["b1"])
        return nn.softmax_cross_entropy(h @ params["W2"] + params["b2"], y)

    @jax.jit
    def gradient(params: Any, x: Any, y: Any) -> Any:
        return nn.numerical_gradient(lambda params: loss(params, x, y), params, step=STEP)

    arrays = [jax.tree.map(jax.numpy.asarray, part) for part in (params, x, y)]
    return lambda: _norm(jax.device_get(gradient(*arrays)))


def jax_by_hand(hidden: int) -> Run:
    """What one writes without it: every point a whole forward pass, mapped 100 entries at a time."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    params, x, y = (jax.tree.map(jnp.asarray, part) for part in _arrays(hidden))
    flat, unravel = ravel_pytree(params)

    def loss(flat: Any, x: Any, y: Any) -> Any:
        params = unravel(flat)
        z = jax.nn.sigmoid(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))

    @jax.jit
    def gradient(flat: Any, x: Any, y: Any) -> Any:
        def difference(i: Any) -> Any:
            above, below = loss(flat.at[i].add(STEP), x, y), loss(flat.at[i].add(-STEP), x, y)
            return (above - below) / (2 * STEP)

        return jax.lax.map(difference, jnp.arange(flat.size), batch_size=100)

    return lambda: _norm({"all": jax.device_get(gradient(flat, x, y))})


def numpy_textbook(hidden: int) -> Run:
    """The textbook's loop: each entry up, each entry down."""
    params, x, y = _arrays(hidden)

    def loss() -> Any:
        h = 1 / (1 + np.exp(-(x @ params["W1"] + params["b1"])))
        z = h @ params["W2"] + params["b2"]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(BATCH), y] + 1e-7).mean()

    def run() -> float:
        gradient = {name: np.zeros_like(array) for name, array in params.items()}
        for name, array in params.items():
            for place in np.ndindex(array.shape):
                kept = array[place]
                array[place] = kept + STEP
                above = loss()
                array[place] = kept - STEP
                below = loss()
                array[place] = kept
                gradient[name][place] = (above - below) / (2 * STEP)
        return _norm(gradient)

    return run


def _norm(gradient: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(part)) for part in gradient.values())))


def _arrays(hidden: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Params, pixels and labels."""
    random = np.random.default_rng(0)
    params = {
        "W1": 0.01 * random.normal(size=(INPUTS, hidden)),
        "b1": np.zeros(hidden),
        "W2": 0.01 * random.normal(size=(hidden, OUTPUTS)),
        "b2": np.zeros(OUTPUTS),
    }
    return params, random.uniform(size=(BATCH, INPUTS)), random.integers(0, OUTPUTS, BATCH)
