"""Convolutional networks: the textbook's, one and eight at once, and one for CIFAR-10.

The textbook's: 30 filters of 5x5, relu, max pooling of 2, 100 hidden units, relu, 10 outputs; Adam 0.001, batch 100,
weights from N(0, 0.01²). Data as in `two_layer_net`. The value of a run is its mean loss.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.data import images, scaled
from benchmarks.row import OURS, Contender, Row, Run

RATE = 0.001
STD = 0.01
BATCH = 100
NETWORKS = 8

# Per block of the CIFAR-10 network: the channels of its convolutions (3x3, batch norm, relu); a max pool of 2 ends it.
BLOCKS = ((32, 32), (64, 64), (128, 128))
CIFAR_BATCH = 128

# No gradient for the images.
SIMPLE_OPERATIONS = 2 * BATCH * (2 * 25 * 30 * 24 * 24 + 3 * (12 * 12 * 30 * 100 + 100 * 10))


def rows(quick: bool) -> list[Row]:
    """The textbook's convnet, CIFAR-10's, eight of the textbook's."""
    examples = 1_000 if quick else 10_000
    cifar_examples = 15 * CIFAR_BATCH if quick else 100 * CIFAR_BATCH
    eight_examples = 500 if quick else 2_000
    eight = functools.partial(
        Row,
        group="eight_convnets",
        unit="ms a network and step",
        units=NETWORKS * (eight_examples // BATCH),
        operations=SIMPLE_OPERATIONS,
        target=1.0,
        below=2.2,
        rounds=5,
    )
    alone = Contender(functools.partial(jaxnn_one_after_the_other, eight_examples))
    return [
        Row(
            group="simple_convnet",
            name="simple_convnet",
            work="conv 30 of 5x5, pool, dense 100, Adam, batch 100",
            unit="ms a step",
            units=examples // BATCH,
            operations=SIMPLE_OPERATIONS,
            contenders={
                OURS: Contender(functools.partial(jaxnn, examples)),
                "PyTorch channels last": Contender(
                    functools.partial(pytorch, examples, channels_last=True), ("torch",)
                ),
                "PyTorch": Contender(functools.partial(pytorch, examples), ("torch",)),
                "PyTorch compiled": Contender(functools.partial(pytorch, examples, compiled=True), ("torch",)),
                "Flax NNX": Contender(functools.partial(flax_nnx, examples), ("flax",)),
                "Keras on JAX": Contender(functools.partial(keras_on_jax, examples), ("keras",)),
                "JAX, step in a loop": Contender(functools.partial(plain_jax, examples)),
                "JAX, lax.conv in a scan": Contender(functools.partial(plain_jax, examples, scan=True)),
            },
            target=0.55,
            against=("PyTorch",),
            margin=0.15,
            below=2.29,
            rounds=5,
        ),
        Row(
            group="convnet_cifar10",
            name="convnet_cifar10",
            work=f"3x3 convolutions {BLOCKS}, batch norm, Adam, batch {CIFAR_BATCH}; an epoch of 50,000 is 390 steps",
            unit="ms a step",
            units=cifar_examples // CIFAR_BATCH,
            operations=_convnet_operations(BLOCKS),
            contenders={
                OURS: Contender(functools.partial(jaxnn_convnet, cifar_examples, BLOCKS)),
                "PyTorch channels last": Contender(
                    functools.partial(pytorch_convnet, cifar_examples, BLOCKS, channels_last=True), ("torch",)
                ),
                "PyTorch": Contender(functools.partial(pytorch_convnet, cifar_examples, BLOCKS), ("torch",)),
            },
            target=0.9,
            margin=0.2,
            below=2.0,
            rounds=2,
        ),
        eight(
            name="eight_convnets, orders of their own",
            work="eight simple_convnets under vmap, against one after the other",
            contenders={
                OURS: Contender(functools.partial(jaxnn_eight, eight_examples, share=False)),
                "one alone": alone,
            },
        ),
        eight(
            name="eight_convnets, one order",
            work="the same with mini-batches shared",
            contenders={
                OURS: Contender(functools.partial(jaxnn_eight, eight_examples, share=True)),
                "one alone": alone,
            },
        ),
    ]


def jaxnn(examples: int) -> Run:
    """An epoch is one compiled program."""
    import jaxnn as nn

    return _jaxnn_run(nn.simple_convnet(initializer=nn.normal(STD)), images(examples), BATCH)


def jaxnn_convnet(examples: int, blocks: Sequence[Sequence[int]]) -> Run:
    """An epoch is one compiled program."""
    import jaxnn as nn

    return _jaxnn_run(nn.convnet(blocks=blocks), images(examples, 32, 3), CIFAR_BATCH)


def _jaxnn_run(model: Any, data: tuple[np.ndarray, np.ndarray], batch_size: int) -> Run:
    import jax

    import jaxnn as nn

    epoch, state = _jaxnn_epoch(model, data[0].shape[1:], batch_size)
    compiled = jax.jit(epoch, donate_argnums=0)
    train = tuple(map(jax.numpy.asarray, data))
    state = nn.init_state(model, nn.adam(RATE), data[0].shape[1:], jax.random.key(0))

    def run() -> float:
        nonlocal state
        state, losses = compiled(state, train)
        return float(losses.mean())

    return run


def _jaxnn_epoch(model: Any, shape: tuple[int, ...], batch_size: int) -> tuple[Callable[..., Any], Any]:
    """An epoch as a function of state and data, and the initial state as one of a key."""
    import jaxnn as nn

    optimizer = nn.adam(RATE)

    def epoch(state: nn.TrainState, train: Any, data_key: Any = None) -> Any:
        return nn.train_epoch(
            model,
            nn.softmax_cross_entropy,
            optimizer,
            state,
            train,
            batch_size=batch_size,
            data_key=data_key,
            preprocess=scaled,
        )

    return epoch, functools.partial(nn.init_state, model, optimizer, shape)


def jaxnn_eight(examples: int, *, share: bool) -> Run:
    """Eight networks under `vmap`, each with its own order of the data or all with one."""
    import jax

    import jaxnn as nn

    data = images(examples)
    epoch, start = _jaxnn_epoch(nn.simple_convnet(initializer=nn.normal(STD)), data[0].shape[1:], BATCH)
    # The number of the step, which the order of the data depends on, is one for all: else nothing would be shared.
    axes = nn.TrainState(params=0, model_state=0, opt_state=0, key=0, step=None)
    train, data_key = jax.device_put((data, jax.random.key(1) if share else None))
    many = jax.jit(jax.vmap(epoch, in_axes=(axes, None, None), out_axes=(axes, 0)), donate_argnums=0)
    states = jax.vmap(start, out_axes=axes)(jax.random.split(jax.random.key(0), NETWORKS))

    def run() -> float:
        nonlocal states
        states, losses = many(states, train, data_key)
        return float(losses.mean())

    return run


def jaxnn_one_after_the_other(examples: int) -> Run:
    """The same eight networks, each alone."""
    import jax

    import jaxnn as nn

    data = images(examples)
    epoch, start = _jaxnn_epoch(nn.simple_convnet(initializer=nn.normal(STD)), data[0].shape[1:], BATCH)
    train = jax.device_put(data)
    alone = jax.jit(epoch, donate_argnums=0)
    states = [start(key) for key in jax.random.split(jax.random.key(0), NETWORKS)]

    def run() -> float:
        nonlocal states
        total = 0.0
        for number, state in enumerate(states):
            states[number], losses = alone(state, train)
            total += float(losses.mean())
        return total / NETWORKS

    return run


def pytorch(examples: int, *, channels_last: bool = False, compiled: bool = False) -> Run:
    """The usual loop, with the fused Adam; compiled, with everything up to the loss in `torch.compile`."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 30, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12 * 12 * 30, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    for layer in (model[0], model[4], model[6]):
        nn.init.normal_(layer.weight, std=STD)
        nn.init.zeros_(layer.bias)
    return _pytorch_run(model, images(examples), BATCH, channels_last=channels_last, compiled=compiled)


def pytorch_convnet(examples: int, blocks: Sequence[Sequence[int]], *, channels_last: bool = False) -> Run:
    """The mirror of `nn.convnet`."""
    return _pytorch_run(_pytorch_blocks(blocks), images(examples, 32, 3), CIFAR_BATCH, channels_last=channels_last)


def _pytorch_blocks(blocks: Sequence[Sequence[int]]) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[Any] = []
    inputs = 3
    for block in blocks:
        for channels in block:
            conv = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
            inputs = channels
        layers.append(nn.MaxPool2d(2))
    dense = nn.Linear(inputs, 10)
    nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
    nn.init.zeros_(dense.bias)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)


def _pytorch_run(
    model: Any,
    data: tuple[np.ndarray, np.ndarray],
    batch_size: int,
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> Run:
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.from_numpy(data[0]).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    y = torch.from_numpy(data[1]).long()
    model = model.to(memory_format=layout).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    used = len(x) // batch_size * batch_size

    def loss_of(index: torch.Tensor) -> torch.Tensor:
        batch = x[index].to(torch.float32, memory_format=layout).div_(255)
        return torch.nn.functional.cross_entropy(model(batch), y[index])

    if compiled:
        loss_of = torch.compile(loss_of)

    def run() -> float:
        losses = []
        for index in torch.randperm(len(x))[:used].split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(index)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    return run


def flax_nnx(examples: int) -> Run:
    """A step under `nnx.jit`, with the graph cached as Flax's performance guide advises, in a Python loop."""
    import jax
    import optax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            normal = nnx.initializers.normal(STD)
            self.conv = nnx.Conv(1, 30, (5, 5), padding="VALID", kernel_init=normal, rngs=rngs)
            self.dense1 = nnx.Linear(12 * 12 * 30, 100, kernel_init=normal, rngs=rngs)
            self.dense2 = nnx.Linear(100, 10, kernel_init=normal, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), strides=(2, 2))
            return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))

    @nnx.jit
    def step(model: Net, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array, index: jax.Array) -> jax.Array:
        def loss_of(model: Net) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(scaled(x[index])), y[index]).mean()

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    x, y = map(jax.numpy.asarray, images(examples))
    model = Net(nnx.Rngs(0))
    cached_step = nnx.cached_partial(step, model, nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param))
    batches = _shuffled(examples)
    return lambda: float(np.mean([cached_step(x, y, index) for index in next(batches)]))


def keras_on_jax(examples: int) -> Run:
    """`fit` on the JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    x, y = images(examples)
    normal = functools.partial(keras.initializers.RandomNormal, stddev=STD)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(30, 5, activation="relu", kernel_initializer=normal()),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(100, activation="relu", kernel_initializer=normal()),
            keras.layers.Dense(10, kernel_initializer=normal()),
        ]
    )
    model.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return lambda: float(model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0).history["loss"][0])


def plain_jax(examples: int, *, scan: bool = False) -> Run:
    """JAX and optax without a library: a compiled step in a Python loop, or an epoch of them in `lax.scan`."""
    import jax
    import jax.numpy as jnp
    import optax

    x, y = map(jnp.asarray, images(examples))
    shapes = {"W1": (5, 5, 1, 30), "W2": (12 * 12 * 30, 100), "W3": (100, 10)}
    keys = jax.random.split(jax.random.key(0), 3)
    params = {name: STD * jax.random.normal(key, shapes[name]) for name, key in zip(shapes, keys, strict=True)}
    params |= {f"b{name[1]}": jnp.zeros(shape[-1]) for name, shape in shapes.items()}
    optimizer = optax.adam(RATE)

    def loss_of(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        z = jax.lax.conv_general_dilated(x, params["W1"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        z = jax.nn.relu(z + params["b1"])
        z = jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        z = jax.nn.relu(z.reshape(len(z), -1) @ params["W2"] + params["b2"])
        log_p = jax.nn.log_softmax(z @ params["W3"] + params["b3"])
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    def step(state: Any, x: jax.Array, y: jax.Array, index: jax.Array) -> Any:
        params, opt_state = state
        loss, grads = jax.value_and_grad(loss_of)(params, scaled(x[index]), y[index])
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), loss

    state = (params, optimizer.init(params))
    batches = _shuffled(examples)
    compiled = jax.jit(step, donate_argnums=0)
    epoch = jax.jit(
        lambda state, x, y, indices: jax.lax.scan(lambda s, index: step(s, x, y, index), state, indices),
        donate_argnums=0,
    )

    def run() -> float:
        nonlocal state
        if scan:
            state, losses = epoch(state, x, y, next(batches))
            return float(losses.mean())
        losses = []
        for index in next(batches):
            state, loss = compiled(state, x, y, index)
            losses.append(loss)
        return float(np.mean(losses))

    return run


def _shuffled(examples: int) -> Iterator[np.ndarray]:
    """Per epoch the indices of its batches."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.permutation(examples).astype(np.int32).reshape(-1, BATCH)


def _convnet_operations(blocks: Sequence[Sequence[int]]) -> float:
    """Of one step: three products per convolution, two for the first, which needs no gradient for the images."""
    total, inputs, size = 0, 3, 32
    for block in blocks:
        for channels in block:
            total += (2 if inputs == 3 else 3) * 9 * inputs * channels * size**2
            inputs = channels
        size //= 2
    return 2 * CIFAR_BATCH * (total + 3 * inputs * 10)
