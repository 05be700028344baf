"""The textbook's batch-norm experiment: 32 trainings, from a cold start and as a compiled run alone.

Five hidden layers of 100 with relu, SGD 0.01, 1,000 images in batches of 100, 20 epochs; 16 scales of the initial
weights from 1 to 0.0001, each without batch norm and with it; accuracy on the training data after each epoch. The
value of a run is the mean of the 32 final error rates.
"""

import functools
from typing import Any

import numpy as np

from benchmarks.data import flat_images, scaled
from benchmarks.row import OURS, Contender, Row, Run

EXAMPLES = 1_000
BATCH = 100
RATE = 0.01
HIDDEN = [100] * 5

# Products of a forward pass per example; a step has one more for W and, but for the first layer, one for its input.
FORWARD = 784 * 100 + 4 * 100 * 100 + 100 * 10
STEP = 3 * FORWARD - 784 * 100


def rows(quick: bool) -> list[Row]:
    """The whole process; the compiled run."""
    epochs, scales = (5, 4) if quick else (20, 16)
    operations = 2 * scales * epochs * EXAMPLES * 2 * (STEP + FORWARD)
    jaxnn_contender = Contender(functools.partial(jaxnn, epochs, scales))
    pytorch_contender = Contender(functools.partial(pytorch, epochs, scales), ("torch",))
    row = functools.partial(
        Row, group="batch_norm_experiment", unit="s a run", units=1, operations=operations, margin=0.1, rounds=3
    )
    return [
        row(
            name="batch_norm_experiment",
            work=f"{2 * scales} trainings of {epochs} epochs, whole process from a cold start",
            contenders={OURS: jaxnn_contender, "PyTorch eager": pytorch_contender},
            seconds_target=None if quick else 4.0,
            whole_process=True,
        ),
        row(
            name="batch_norm_experiment, compiled",
            work="the same, compiled already",
            contenders={OURS: jaxnn_contender},
            floors_target=2.5,
        ),
    ]


def jaxnn(epochs: int, scales: int) -> Run:
    """`fit` under `vmap` over the scales, without batch norm and with it, as one compiled program."""
    import jax

    import jaxnn as nn

    train = flat_images(EXAMPLES)

    def accuracies(scale: jax.Array, train: Any, data_key: jax.Array, *, batch_norm: bool) -> jax.Array:
        model = nn.mlp(HIDDEN, 10, initializer=nn.normal(scale), batch_norm=batch_norm)
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            nn.sgd(RATE),
            train,
            key=jax.random.key(0),
            data_key=data_key,
            epochs=epochs,
            batch_size=BATCH,
            metrics={"accuracy": nn.accuracy},
            preprocess=scaled,
        )
        return result.history.train["accuracy"]

    @jax.jit
    def experiment(scales: jax.Array, train: Any, data_key: jax.Array) -> list[jax.Array]:
        return [
            jax.vmap(functools.partial(accuracies, batch_norm=batch_norm), (0, None, None))(scales, train, data_key)
            for batch_norm in (False, True)
        ]

    def run() -> float:
        without, with_batch_norm = experiment(_scales(scales), train, jax.random.key(1))
        return _error_rate([without, with_batch_norm])

    return run


def pytorch(epochs: int, scales: int) -> Run:
    """One training after the other, in the usual loop."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, y = map(torch.from_numpy, flat_images(EXAMPLES))
    y = y.long()

    def accuracies(scale: float, batch_norm: bool) -> list[float]:
        layers: list[nn.Module] = []
        for inputs, outputs in zip([784, *HIDDEN], [*HIDDEN, 10], strict=True):
            dense = nn.Linear(inputs, outputs)
            nn.init.normal_(dense.weight, std=scale)
            nn.init.zeros_(dense.bias)
            layers += [dense, *([nn.BatchNorm1d(outputs)] if batch_norm else []), nn.ReLU()]
        # The last layer has neither.
        model = nn.Sequential(*layers[: -2 if batch_norm else -1])
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        history = []
        for _ in range(epochs):
            model.train()
            for index in torch.randperm(EXAMPLES).split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(model(x[index].float().div_(255)), y[index])
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.inference_mode():
                history.append(float((model(x.float().div_(255)).argmax(1) == y).float().mean()))
        return history

    def run() -> float:
        return _error_rate(
            [[accuracies(float(scale), batch_norm) for scale in _scales(scales)] for batch_norm in (False, True)]
        )

    return run


def _scales(count: int) -> np.ndarray:
    return np.logspace(0, -4, count).astype(np.float32)


def _error_rate(histories: Any) -> float:
    """Mean over the trainings, after the last epoch; of accuracies [with or without, scales, epochs]."""
    return float(1 - np.asarray(histories)[:, :, -1].mean())
