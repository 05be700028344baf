"""The textbook's first network, 784-50-10 with a sigmoid, SGD 0.1, batches of 100: one run, 64 runs, the first step.

Everybody has the images as uint8 in memory, shuffles them each epoch, and scales a batch to [0, 1] in the step.
All weights start from N(0, 0.01²), biases from 0. The value of a run is its mean loss.
"""

import functools
import os
from typing import Any

import numpy as np

from benchmarks.data import flat_images, scaled
from benchmarks.row import OURS, Contender, Row, Run

BATCH = 100
RATE = 0.1
STD = 0.01
RUNS = 64
RATES = np.logspace(-1.5, 0, RUNS).astype(np.float32)

# A step of one run: three products per weight of the second layer, two of the first, whose input needs no gradient.
OPERATIONS = 2 * BATCH * (2 * 784 * 50 + 3 * 50 * 10)


def rows(quick: bool) -> list[Row]:
    """One run, 64 runs, the first result."""
    examples = 12_000 if quick else 60_000
    examples_of_many = 4_000 if quick else 6_000
    one = functools.partial(Row, operations=OPERATIONS, group="two_layer_net", name="two_layer_net")
    return [
        one(
            work="784-50-10, sigmoid, SGD, batch 100, one run",
            unit="µs a step",
            units=examples // BATCH,
            contenders={
                OURS: Contender(functools.partial(jaxnn, examples)),
                "PyTorch eager": Contender(functools.partial(pytorch, examples), ("torch",)),
                "PyTorch compiled": Contender(functools.partial(pytorch, examples, compiled=True), ("torch",)),
                "Flax NNX": Contender(functools.partial(flax_nnx, examples), ("flax",)),
                "Keras on JAX": Contender(functools.partial(keras_on_jax, examples), ("keras",)),
                "NumPy": Contender(functools.partial(numpy_textbook, examples)),
                "JAX, step in a loop": Contender(functools.partial(plain_jax, examples)),
            },
            target=0.55,
            below=2.28,
        ),
        one(
            group="two_layer_net_64",
            name="two_layer_net_64",
            work="64 runs with rates of their own that share mini-batches",
            unit="µs a run and step",
            units=RUNS * (examples_of_many // BATCH),
            contenders={
                OURS: Contender(functools.partial(jaxnn_many, examples_of_many)),
                "PyTorch torch.func": Contender(functools.partial(pytorch_func, examples_of_many), ("torch",)),
                "PyTorch torch.func compiled": Contender(
                    functools.partial(pytorch_func, examples_of_many, compiled=True), ("torch",)
                ),
                "PyTorch, a process a core": Contender(
                    functools.partial(pytorch_processes, examples_of_many), ("torch",), processes=cores()
                ),
            },
            target=0.35,
            floors_target=1.5,
            below=2.3,
            rounds=5,
        ),
        one(
            group="first_result",
            operations=0,
            name="first_result",
            work="from a cold start: import, build, compile, first step",
            unit="s a process",
            units=1,
            contenders={
                OURS: Contender(jaxnn_first_step),
                "PyTorch eager": Contender(pytorch_first_step, ("torch",)),
            },
            target=1.0,
            margin=0.1,
            whole_process=True,
            rounds=5,
        ),
    ]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jaxnn(examples: int) -> Run:
    """An epoch is one compiled program."""
    import jax

    import jaxnn as nn

    train = tuple(map(jax.numpy.asarray, flat_images(examples)))
    model, optimizer = nn.two_layer_net(weight_init_std=STD), nn.sgd(RATE)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state: nn.TrainState, train: Any) -> Any:
        return nn.train_epoch(
            model, nn.softmax_cross_entropy, optimizer, state, train, batch_size=BATCH, preprocess=scaled
        )

    state = nn.init_state(model, optimizer, (784,), jax.random.key(0))

    def run() -> float:
        nonlocal state
        state, losses = epoch(state, train)
        return float(losses.mean())

    return run


def pytorch(examples: int, *, compiled: bool = False) -> Run:
    """The usual loop; compiled, with everything up to the loss in `torch.compile`."""
    import torch

    x, y = _tensors(examples)
    model = _pytorch_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def loss_of(index: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(x[index].float().div_(255)), y[index])

    if compiled:
        loss_of = torch.compile(loss_of)

    def run() -> float:
        losses = []
        for index in torch.randperm(len(x)).split(BATCH):
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
            initializer = nnx.initializers.normal(STD)
            self.dense1 = nnx.Linear(784, 50, kernel_init=initializer, rngs=rngs)
            self.dense2 = nnx.Linear(50, 10, kernel_init=initializer, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.dense2(nnx.sigmoid(self.dense1(x)))

    @nnx.jit
    def step(model: Net, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array, index: jax.Array) -> jax.Array:
        def loss_of(model: Net) -> jax.Array:
            logits = model(x[index].astype(jax.numpy.float32) / 255)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[index]).mean()

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    x, y = map(jax.numpy.asarray, flat_images(examples))
    model = Net(nnx.Rngs(0))
    cached_step = nnx.cached_partial(step, model, nnx.Optimizer(model, optax.sgd(RATE), wrt=nnx.Param))
    rng = np.random.default_rng(0)

    def run() -> float:
        indices = rng.permutation(len(x)).astype(np.int32).reshape(-1, BATCH)
        return float(np.mean([cached_step(x, y, index) for index in indices]))

    return run


def keras_on_jax(examples: int) -> Run:
    """`fit` on the JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    x, y = flat_images(examples)
    initializer = functools.partial(keras.initializers.RandomNormal, stddev=STD)
    model = keras.Sequential(
        [
            keras.Input((784,), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(50, activation="sigmoid", kernel_initializer=initializer()),
            keras.layers.Dense(10, kernel_initializer=initializer()),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss)
    return lambda: float(model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0).history["loss"][0])


def numpy_textbook(examples: int, rate: float = RATE) -> Run:
    """Forward and backward pass written out, as in the textbook."""
    x, y = flat_images(examples)
    rng = np.random.default_rng(0)
    W1 = rng.normal(0, STD, (784, 50)).astype(np.float32)
    W2 = rng.normal(0, STD, (50, 10)).astype(np.float32)
    b1, b2 = np.zeros(50, np.float32), np.zeros(10, np.float32)

    def step(x: np.ndarray, y: np.ndarray) -> float:
        h = 1 / (1 + np.exp(-(x @ W1 + b1)))
        logits = h @ W2 + b2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.log(p[rows, y] + 1e-7).mean()
        p[rows, y] -= 1
        d2 = p / len(y)
        d1 = (d2 @ W2.T) * h * (1 - h)
        for parameter, gradient in ((W1, x.T @ d1), (b1, d1.sum(0)), (W2, h.T @ d2), (b2, d2.sum(0))):
            parameter -= rate * gradient
        return loss

    def run() -> float:
        indices = rng.permutation(len(x)).reshape(-1, BATCH)
        return float(np.mean([step(x[index].astype(np.float32) / 255, y[index]) for index in indices]))

    return run


def plain_jax(examples: int) -> Run:
    """JAX without a library: a compiled step in a Python loop."""
    import jax
    import jax.numpy as jnp

    x, y = map(jnp.asarray, flat_images(examples))
    key1, key2 = jax.random.split(jax.random.key(0))
    params = {
        "W1": STD * jax.random.normal(key1, (784, 50)),
        "b1": jnp.zeros(50),
        "W2": STD * jax.random.normal(key2, (50, 10)),
        "b2": jnp.zeros(10),
    }

    def loss_of(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        hidden = jax.nn.sigmoid(x @ params["W1"] + params["b1"])
        log_p = jax.nn.log_softmax(hidden @ params["W2"] + params["b2"])
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def step(params: dict[str, jax.Array], x: jax.Array, y: jax.Array, index: jax.Array) -> Any:
        batch = x[index].astype(jnp.float32) / 255
        loss, grads = jax.value_and_grad(loss_of)(params, batch, y[index])
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), loss

    rng = np.random.default_rng(0)

    def run() -> float:
        nonlocal params
        losses = []
        for index in rng.permutation(len(x)).astype(np.int32).reshape(-1, BATCH):
            params, loss = step(params, x, y, index)
            losses.append(loss)
        return float(np.mean(losses))

    return run


def jaxnn_many(examples: int) -> Run:
    """The same epoch under `vmap`; the runs are spread over the cores."""
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    import jaxnn as nn

    x, y = flat_images(examples)
    model = nn.two_layer_net(weight_init_std=STD)
    mesh = jax.make_mesh((cores(),), ("runs",))
    by_run, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("runs",), ()))

    def start(key: jax.Array, rate: jax.Array) -> nn.TrainState:
        return nn.init_state(model, nn.sgd(rate), (784,), key)

    def epoch(state: nn.TrainState, rate: jax.Array, data_key: jax.Array, train: Any) -> Any:
        return nn.train_epoch(
            model,
            nn.softmax_cross_entropy,
            nn.sgd(rate),
            state,
            train,
            batch_size=BATCH,
            data_key=data_key,
            preprocess=scaled,
        )

    # The number of the step, which the order of the data depends on, is one for all: else nothing would be shared.
    axes = nn.TrainState(params=0, model_state=0, opt_state=0, key=0, step=None)
    specs = nn.TrainState(*(jax.P("runs") if axis == 0 else jax.P() for axis in axes))
    many = jax.jit(
        jax.shard_map(
            jax.vmap(epoch, in_axes=(axes, 0, None, None), out_axes=(axes, 0)),
            mesh=mesh,
            in_specs=(specs, jax.P("runs"), jax.P(), jax.P()),
            out_specs=(specs, jax.P("runs")),
        ),
        donate_argnums=0,
    )
    keys, rates = (jax.device_put(array, by_run) for array in (jax.random.split(jax.random.key(0), RUNS), RATES))
    train, data_key = jax.device_put(((x, y), jax.random.key(1)), everywhere)
    states = jax.jit(jax.vmap(start, out_axes=axes))(keys, rates)
    states = jax.device_put(states, nn.TrainState(*(by_run if axis == 0 else everywhere for axis in axes)))

    def run() -> float:
        nonlocal states
        states, losses = many(states, rates, data_key, train)
        return float(losses.mean())

    return run


def pytorch_func(examples: int, *, rates: np.ndarray = RATES, anew: bool = False, compiled: bool = False) -> Run:
    """Model ensembling as PyTorch's tutorial has it: stacked parameters, `functional_call`, `vmap` over `grad`.

    `anew`: from the initial weights in each run.
    """
    import torch

    x, y = _tensors(examples)
    params, _ = torch.func.stack_module_state([_pytorch_net() for _ in rates])
    params = {name: value.detach() for name, value in params.items()}
    skeleton = _pytorch_net().to("meta")
    column = torch.from_numpy(rates)

    def loss_of(params: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(torch.func.functional_call(skeleton, params, (x,)), y)

    grads_and_losses = torch.func.vmap(torch.func.grad_and_value(loss_of), in_dims=(0, None, None))

    def step(params: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        grads, losses = grads_and_losses(params, x[index].float().div_(255), y[index])
        for name, value in params.items():
            value.sub_(column.reshape(-1, *[1] * (value.ndim - 1)) * grads[name])
        return losses

    if compiled:
        step = torch.compile(step)

    def run() -> float:
        if anew:
            _start_anew(params)
        return float(torch.stack([step(params, index) for index in torch.randperm(len(x)).split(BATCH)]).mean())

    return run


def pytorch_processes(examples: int, *, every_rate: np.ndarray = RATES, anew: bool = False) -> Run:
    """One process a core; each trains its share of the networks one after the other, on one thread."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pipes = []
    for rates in np.array_split(every_rate, cores()):
        here, there = context.Pipe()
        context.Process(target=_train_several, args=(there, examples, rates, anew), daemon=True).start()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()

    def run() -> float:
        for pipe in pipes:
            pipe.send("run")
        return sum(pipe.recv() for pipe in pipes) / len(every_rate)

    return run


def _train_several(pipe: Any, examples: int, rates: np.ndarray, anew: bool) -> None:
    import torch

    torch.set_num_threads(1)
    x, y = _tensors(examples)
    models = [_pytorch_net() for _ in rates]
    optimizers = [
        torch.optim.SGD(model.parameters(), lr=float(rate)) for model, rate in zip(models, rates, strict=True)
    ]
    pipe.send("ready")
    while pipe.recv():
        total = 0.0
        order = torch.randperm(len(x))
        for model, optimizer in zip(models, optimizers, strict=True):
            if anew:
                with torch.no_grad():
                    _start_anew(dict(model.named_parameters()))
            losses = []
            for index in order.split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(model(x[index].float().div_(255)), y[index])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            total += float(torch.stack(losses).mean())
        pipe.send(total)


def _start_anew(params: dict[str, Any]) -> None:
    """Initial weights and biases."""
    for name, value in params.items():
        value.normal_(std=STD) if name.endswith("weight") else value.zero_()


def jaxnn_first_step() -> Run:
    """How far the first step moves W2: the same for all, but for the initial weights."""
    import jax

    import jaxnn as nn

    x, y = flat_images(BATCH)
    model, optimizer = nn.two_layer_net(weight_init_std=STD), nn.sgd(RATE)

    @jax.jit
    def first_step(x: jax.Array, y: jax.Array) -> jax.Array:
        state = nn.init_state(model, optimizer, (784,), jax.random.key(0))
        after, _ = nn.train_step(model, nn.softmax_cross_entropy, optimizer, state, x, y, preprocess=scaled)
        return jax.numpy.linalg.norm(after.params["dense2"]["W"] - state.params["dense2"]["W"])

    return lambda: float(first_step(x, y))


def pytorch_first_step() -> Run:
    """The usual lines."""
    import torch

    x, y = _tensors(BATCH)
    model = _pytorch_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def run() -> float:
        before = model[2].weight.detach().clone()
        torch.nn.functional.cross_entropy(model(x.float().div_(255)), y).backward()
        optimizer.step()
        return float(torch.linalg.norm(model[2].weight.detach() - before))

    return run


def _tensors(examples: int) -> Any:
    import torch

    torch.manual_seed(0)
    x, y = map(torch.from_numpy, flat_images(examples))
    return x, y.long()


def _pytorch_net() -> Any:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(784, 50), torch.nn.Sigmoid(), torch.nn.Linear(50, 10))
    for layer in (model[0], model[2]):
        torch.nn.init.normal_(layer.weight, std=STD)
        torch.nn.init.zeros_(layer.bias)
    return model
