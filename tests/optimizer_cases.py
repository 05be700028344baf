"""Every optimizer and its variants, beside the settings that make optax's and PyTorch's the same formula."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import jaxnn as nn
from tests import textbook

EVERY_LEAF = lambda params: jax.tree.map(lambda _: True, params)


def as_matrices(params):
    """For optax: kernels [h, w, in, out] as matrices [h w in, out]."""
    axes = lambda W: optax.contrib.MuonDimensionNumbers(tuple(range(W.ndim - 1)), W.ndim - 1)
    return jax.tree.map(lambda W: axes(W) if W.ndim >= 2 else None, params)


class Case(NamedTuple):
    """One formula, as everybody writes it, at the same rate."""

    make: Callable[..., optax.GradientTransformation]  # of the rate
    rate: float
    numpy: Callable[[Any, Any], Any]  # (W, gradients) -> W after each step, in float64
    optax: Any = None
    torch: Callable[[Any], Any] | None = None  # of torch.optim and the parameters
    float32: float = 1e-6  # how close this comes to it in float32, relatively
    optax_float32: float = 1e-6  # and how close optax and PyTorch come to this
    torch_float32: float = 1e-6


CASES = {
    "sgd": Case(nn.sgd, 0.1, textbook.SGD(0.1), optax.sgd(0.1), lambda optim, params: optim.SGD(params, 0.1)),
    "momentum": Case(
        nn.momentum,
        0.01,
        textbook.Momentum(0.01),
        optax.sgd(0.01, 0.9),
        lambda optim, params: optim.SGD(params, 0.01, 0.9),
    ),
    "nesterov": Case(
        nn.nesterov,
        0.01,
        textbook.Nesterov(0.01),
        optax.sgd(0.01, 0.9, nesterov=True),
        lambda optim, params: optim.SGD(params, 0.01, 0.9, nesterov=True),
    ),
    "adagrad": Case(
        nn.adagrad, 0.01, textbook.AdaGrad(0.01), None, lambda optim, params: optim.Adagrad(params, 0.01, eps=1e-7)
    ),
    "adagrad from 0.1": Case(
        lambda learning_rate: nn.adagrad(learning_rate, eps=1e-20, initial_accumulator=0.1),
        0.01,
        textbook.AdaGrad(0.01, 0, 0.1),
        optax.adagrad(0.01, eps=0.0),
        lambda optim, params: optim.Adagrad(params, 0.01, eps=1e-20, initial_accumulator_value=0.1),
    ),
    "rmsprop": Case(
        nn.rmsprop,
        0.001,
        textbook.RMSprop(0.001),
        optax.rmsprop(0.001, decay=0.99, eps=1e-7, eps_in_sqrt=False),
        lambda optim, params: optim.RMSprop(params, 0.001, eps=1e-7),
    ),
    "rmsprop centered, with momentum": Case(
        lambda learning_rate: nn.rmsprop(learning_rate, eps=1e-3, momentum=0.9, centered=True),
        0.001,
        textbook.RMSprop(0.001, eps=1e-3, momentum=0.9, centered=True),
        optax.rmsprop(0.001, decay=0.99, eps=1e-3, eps_in_sqrt=False, momentum=0.9, centered=True),
        lambda optim, params: optim.RMSprop(params, 0.001, eps=1e-3, momentum=0.9, centered=True),
        # h - m² is a small difference, and theirs carries the rounding of decay.
        optax_float32=2e-6,
        torch_float32=3e-6,
    ),
    "adam": Case(
        nn.adam,
        0.001,
        textbook.adamw(0.001),
        optax.adam(0.001),
        lambda optim, params: optim.Adam(params, 0.001),
        # They multiply by a beta2 that float32 has rounded; see "adam, betas that float32 holds".
        optax_float32=8e-6,
        torch_float32=2e-6,
    ),
    "adam, betas that float32 holds": Case(
        lambda learning_rate: nn.adam(learning_rate, 1 - 2**-3, 1 - 2**-10),
        0.001,
        textbook.adamw(0.001, 1 - 2**-3, 1 - 2**-10),
        optax.adam(0.001, 1 - 2**-3, 1 - 2**-10),
        lambda optim, params: optim.Adam(params, 0.001, (1 - 2**-3, 1 - 2**-10)),
    ),
    "adam, eps beside v": Case(
        lambda learning_rate: nn.adam(learning_rate, eps=1e-7, eps_beside="v"), 0.001, textbook.Adam(0.001)
    ),
    # Where no gradient comes, the decay is the same step again and again, and rounds the same way.
    "adamw": Case(nn.adamw, 0.001, textbook.adamw(0.001, weight_decay=0.01), float32=1.5e-6),
    "adamw on every leaf": Case(
        lambda learning_rate: nn.adamw(learning_rate, mask=EVERY_LEAF),
        0.001,
        textbook.adamw(0.001, weight_decay=0.01, least_axes=0),
        optax.adamw(0.001, weight_decay=0.01),
        lambda optim, params: optim.AdamW(params, 0.001),
        float32=1.5e-6,
        optax_float32=8e-6,  # as adam's
        torch_float32=3e-5,  # it multiplies W by 1 - lr lambda, rounded
    ),
    # Steps of the same length round the same way each time: this rate is a sum that float32 holds.
    # Where c is no more than rounding, an entry may go the other way: one in 3,000 that does is 4e-5 of all.
    "lion": Case(
        lambda learning_rate: nn.lion(learning_rate, weight_decay=0.1, mask=EVERY_LEAF),
        2**-10,
        textbook.lion(2**-10, weight_decay=0.1, least_axes=0),
        optax.lion(2**-10, weight_decay=0.1),
        float32=1e-4,
        optax_float32=1e-4,
    ),
    "muon": Case(nn.muon, 0.001, textbook.muon(0.001)),
    "muon, its own scale": Case(
        lambda learning_rate: nn.muon(
            learning_rate, weight_decay=0.1, nesterov=False, consistent_rms=None, rest=nn.adam(learning_rate, eps=1e-20)
        ),
        0.001,
        textbook.muon(0.001, weight_decay=0.1, nesterov=False, consistent_rms=None, eps=1e-20),
        # One eps for both rules: it is added to |X| too.
        optax.contrib.muon(
            0.001, eps=1e-20, weight_decay=0.1, nesterov=False, muon_weight_dimension_numbers=as_matrices
        ),
        optax_float32=8e-6,  # as adam's, for the leaves that are no matrices
    ),
}


def run(optimizer, params, gradients):
    """The parameters after each step, and the last state."""

    def step(carry, grads):
        params, state = carry
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    (_, state), walked = jax.lax.scan(step, (params, optimizer.init(params)), gradients)
    return walked, state


def last(tree):
    return jax.tree.map(lambda leaf: leaf[-1], tree)
