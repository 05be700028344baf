"""Single convolutions, 3x3, SAME, stride 1, batch 64: the result and both gradients.

A chain without extra copies: the gradient for the image is the next image, the result the next gradient that comes in,
and W moves by 1e-12 of its gradient. The value is the mean magnitude of the last image plus that of the last gradient
for W.
"""

import functools
from typing import Any

import numpy as np

from benchmarks.row import OURS, Contender, Row, Run

BATCH = 64
SHAPES = ((3, 32, 32), (32, 64, 16), (64, 64, 32), (64, 256, 16), (256, 256, 8))  # in, out, image


def rows(quick: bool) -> list[Row]:
    """One row per shape."""
    steps = 5 if quick else 20
    return [
        Row(
            group="convolutions",
            name=f"conv 3x3, {inputs} to {outputs}, {size}x{size}",
            work="result and both gradients, batch 64",
            unit="ms a step",
            units=steps,
            operations=3 * 2 * 9 * inputs * outputs * size**2 * BATCH,
            contenders={
                OURS: Contender(functools.partial(jaxnn, inputs, outputs, size, steps)),
                "PyTorch channels last": Contender(
                    functools.partial(pytorch, inputs, outputs, size, steps), ("torch",)
                ),
            },
            target=1.0,
            margin=1e-3,
        )
        for inputs, outputs, size in SHAPES
    ]


def jaxnn(inputs: int, outputs: int, size: int, steps: int) -> Run:
    """`nn.convolution.conv2d` inside `lax.scan`, where training has it."""
    import jax

    import jaxnn as nn

    def step(carry: Any, _: None) -> Any:
        x, W, g, _ = carry
        y, gradients = jax.vjp(functools.partial(nn.convolution.conv2d, padding="SAME"), x, W)
        dx, dW = gradients(g)
        return (dx, W + 1e-12 * dW, y, dW), None

    @jax.jit
    def chain(x: jax.Array, W: jax.Array, g: jax.Array) -> jax.Array:
        (x, _, _, dW), _ = jax.lax.scan(step, (x, W, g, W), length=steps)
        return jax.numpy.abs(x).mean() + jax.numpy.abs(dW).mean()

    arrays = [jax.numpy.asarray(array) for array in _arrays(inputs, outputs, size)]
    return lambda: float(chain(*arrays))


def pytorch(inputs: int, outputs: int, size: int, steps: int) -> Run:
    """In PyTorch's fast layout for CPUs, channels last."""
    import torch

    x, W, g = (torch.from_numpy(array) for array in _arrays(inputs, outputs, size))
    start = [array.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) for array in (x, g)]
    weights = W.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def run() -> float:
        (x, g), W = start, weights.clone()
        for _ in range(steps):
            x.requires_grad_()
            W.requires_grad_()
            y = torch.nn.functional.conv2d(x, W, padding=1)
            x, dW = torch.autograd.grad(y, (x, W), g)
            W = W.detach().add_(dW, alpha=1e-12)
            g = y.detach()
        return float(x.abs().mean() + dW.abs().mean())

    return run


def _arrays(inputs: int, outputs: int, size: int) -> tuple[np.ndarray, ...]:
    """x, W and the gradient that comes in."""
    rng = np.random.default_rng(0)
    shapes = (BATCH, size, size, inputs), (3, 3, inputs, outputs), (BATCH, size, size, outputs)
    x, W, g = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, W / np.float32(6 * (inputs * outputs) ** 0.25), g
