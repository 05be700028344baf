"""The rules in float64 NumPy, each `(W, gradients of each step) -> W after each step`, for one leaf.

Those of the textbook bear its names and its defaults; the others are written from their papers.
"""

import functools

import numpy as np


def rule(transition):
    """A generator of W, one for each gradient, as a function that stacks what it yields."""

    @functools.wraps(transition)
    def with_settings(*settings, **named):
        def run(W, gradients):
            W, gradients = np.asarray(W, np.float64), np.asarray(gradients, np.float64)
            return np.stack(list(transition(W, gradients, *settings, **named)))

        return run

    return with_settings


@rule
def SGD(W, gradients, lr=0.01):  # noqa: N802
    for g in gradients:
        W = W - lr * g
        yield W


@rule
def Momentum(W, gradients, lr=0.01, momentum=0.9):  # noqa: N802
    v = 0.0
    for g in gradients:
        v = momentum * v - lr * g
        W = W + v
        yield W


@rule
def Nesterov(W, gradients, lr=0.01, momentum=0.9):  # noqa: N802
    v = 0.0
    for g in gradients:
        W = W + momentum * momentum * v - (1 + momentum) * lr * g
        v = momentum * v - lr * g
        yield W


@rule
def AdaGrad(W, gradients, lr=0.01, eps=1e-7, start=0.0):  # noqa: N802
    h = start
    for g in gradients:
        h = h + g * g
        W = W - lr * g / (np.sqrt(h) + eps)
        yield W


@rule
def RMSprop(W, gradients, lr=0.01, decay_rate=0.99, eps=1e-7, momentum=0.0, centered=False):  # noqa: N802
    h = m = v = 0.0
    for g in gradients:
        h = decay_rate * h + (1 - decay_rate) * g * g
        m = decay_rate * m + (1 - decay_rate) * g
        v = momentum * v - lr * g / (np.sqrt(np.maximum(h - m * m, 0) if centered else h) + eps)
        W = W + v
        yield W


@rule
def Adam(W, gradients, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-7):  # noqa: N802
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        lr_t = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        m = m + (1 - beta1) * (g - m)
        v = v + (1 - beta2) * (g**2 - v)
        W = W - lr_t * m / (np.sqrt(v) + eps)
        yield W


@rule
def adamw(W, gradients, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, least_axes=2):
    """Of the papers: eps beside the corrected root. Leaves of fewer than `least_axes` axes do not decay."""
    m = v = 0.0
    decay = weight_decay if W.ndim >= least_axes else 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        W = W - lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * W)
        yield W


@rule
def lion(W, gradients, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0, least_axes=2):
    m = 0.0
    decay = weight_decay if W.ndim >= least_axes else 0.0
    for g in gradients:
        W = W - lr * (np.sign(beta1 * m + (1 - beta1) * g) + decay * W)
        m = beta2 * m + (1 - beta2) * g
        yield W


@rule
def _muon(W, gradients, lr, momentum, weight_decay, nesterov, consistent_rms):
    rows, columns = np.prod(W.shape[:-1]), W.shape[-1]
    scale = np.sqrt(max(1, columns / rows)) if consistent_rms is None else consistent_rms * np.sqrt(max(rows, columns))
    B = 0.0
    for g in gradients:
        B = momentum * B + g
        X = g + momentum * B if nesterov else B
        X = X.reshape(rows, columns)
        X = X / (np.sqrt((X**2).sum()) or 1)
        for _ in range(5):  # X X' X from the left, though it may have more rows than columns
            A = X @ X.T
            X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
        W = W - lr * (scale * X.reshape(W.shape) + weight_decay * W)
        yield W


def muon(lr=0.001, momentum=0.95, weight_decay=0.0, nesterov=True, consistent_rms=0.2, eps=1e-8):
    """Matrices by Newton and Schulz, the rest by Adam."""
    matrix, rest = _muon(lr, momentum, weight_decay, nesterov, consistent_rms), adamw(lr, eps=eps)
    return lambda W, gradients: (matrix if np.ndim(W) >= 2 else rest)(W, gradients)
