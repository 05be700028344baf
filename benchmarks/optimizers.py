"""One update of Adam, parameters and state in place: what a step of training pays besides its gradient.

Four square matrices and four vectors. XLA's update is one compiled call that takes its arguments' memory, as a loop
in Python makes it. At ten million parameters memory decides: W, m, v and g must be read and W, m, v written, 7 arrays
of 4 bytes an entry. XLA makes three loops of it, for jaxnn and for optax, and moves 10; PyTorch's fused kernel is one.
The value is the mean magnitude of the parameters: it moves by the rate at every step.
"""

import functools
from typing import Any

import numpy as np

from benchmarks.row import OURS, Contender, Row, Run

RATE = 0.001
LAYERS = 4


def rows(quick: bool) -> list[Row]:
    """A million and ten million parameters."""
    found = []
    for name, width, steps in (("1M", 500, 100), ("10M", 1581, 10)):
        steps = steps // 10 if quick else steps
        settings = width, steps
        found.append(
            Row(
                group="optimizers",
                name=f"Adam, {name} parameters",
                work="one update, in place",
                unit="ms a step",
                units=steps,
                operations=0,
                bytes_moved=7 * 4 * LAYERS * (width**2 + width),  # g, m, v, W read; m, v, W written
                contenders={
                    OURS: Contender(functools.partial(jaxnn, *settings)),
                    "optax": Contender(functools.partial(optax, *settings)),
                    "PyTorch foreach": Contender(functools.partial(pytorch, *settings, foreach=True), ("torch",)),
                    "PyTorch fused": Contender(functools.partial(pytorch, *settings, fused=True), ("torch",)),
                },
                target=1.0,
                against=("optax",),
                margin=1e-3,
                rounds=15,
            )
        )
    return found


def jaxnn(width: int, steps: int) -> Run:
    """`nn.adam`."""
    import jaxnn as nn

    return _in_jax(nn.adam(RATE), width, steps)


def optax(width: int, steps: int) -> Run:
    """`optax.adam`."""
    import optax

    return _in_jax(optax.adam(RATE), width, steps)


def _in_jax(optimizer: Any, width: int, steps: int) -> Run:
    import jax
    import optax

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    # Copies: an array of NumPy's own memory would have to be copied at every call.
    params, grads = ([jax.numpy.array(array) for array in arrays] for arrays in _arrays(width))
    state = optimizer.init(params)

    def run() -> float:
        nonlocal params, state
        for _ in range(steps):
            params, state = update(params, state, grads)
        return _mean([np.asarray(W) for W in jax.block_until_ready(params)])

    return run


def pytorch(width: int, steps: int, **settings: bool) -> Run:
    """`torch.optim.Adam`, all leaves in one call of its kernels."""
    import torch

    params, grads = ([torch.from_numpy(array) for array in arrays] for arrays in _arrays(width))
    for W, g in zip(params, grads, strict=True):
        W.grad = g
    optimizer = torch.optim.Adam(params, RATE, **settings)

    def run() -> float:
        for _ in range(steps):
            optimizer.step()
        return _mean([W.numpy() for W in params])

    return run


def _arrays(width: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Parameters and gradients."""
    rng = np.random.default_rng(0)
    shapes = LAYERS * [(width, width), (width,)]

    def draw() -> list[np.ndarray]:
        return [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    return draw(), draw()


def _mean(params: list[np.ndarray]) -> float:
    """Of the first rows: to read all would take as long as the work."""
    return float(np.mean([np.abs(W[:100]).mean() for W in params]))
