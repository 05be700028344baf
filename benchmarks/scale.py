"""Many runs and many devices: `sweep`, `random_search` and `data_parallel` as a user calls them.

The search is the textbook's: six hidden layers of 100 with relu, He's initial weights, SGD; 500 images, of which 100
judge; a learning rate from 1e-6 to 0.01 and a weight decay from 1e-8 to 0.0001 for each trial, both log-uniform. The
textbook's loop in NumPy takes 111 s, measuring both accuracies after each epoch; it is left out, and here everybody
measures once, at the end. Everybody draws trials and initial weights of his own. So the value is the error rate at one
learning rate, read from a line through the trials around it: about 0.5, which the draws move by a tenth.

Elsewhere it is the first network, 784-50-10, for one epoch from its initial weights in each run. The value is the mean
loss over runs and steps. jaxnn against itself, for other numbers of parallel runs or of devices, must have the same
one to rounding. More devices than cores cannot be faster: they only show that the numbers agree.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.data import flat_images, scaled
from benchmarks.row import OURS, Contender, Row, Run
from benchmarks.two_layer_net import BATCH, OPERATIONS, STD, cores, pytorch_func, pytorch_processes

# The textbook's search.
TRAIN, VALIDATION = 400, 100
HIDDEN = [100] * 6
RATES, DECAYS = (1e-6, 1e-2), (1e-8, 1e-4)
# From the first to the end of the range, the error rate falls along a line over the logarithm of the rate.
LEARNING_FROM, MIDDLE_RATE = 1e-3, 3e-3
# Products of a forward pass per example; a step has one more for W and, but for the first layer, one for its input.
FORWARD = 784 * 100 + 5 * 100 * 100 + 100 * 10
STEP = 3 * FORWARD - 784 * 100

# Programs of other widths, and on other numbers of devices, add the same numbers up in another order.
ROUNDING = 1e-4
WIDTHS = (1, 4, 16, 64, 256)
DEVICES = (1, 2, 4, 8)

# The network whose batches are split over devices.
WIDE, LARGE_BATCH = 1024, 1024
WIDE_STEP = 2 * LARGE_BATCH * (3 * (784 * WIDE + WIDE * WIDE + WIDE * 10) - 784 * WIDE)


def rows(quick: bool) -> list[Row]:
    """The search, many networks, what compiling them takes, more of them at once, more devices."""
    return [
        _search_row(quick),
        _many_row(quick),
        _compilation_row(),
        _widths_row(quick),
        _devices_row(quick),
        _data_parallel_row(quick),
    ]


def _search_row(quick: bool) -> Row:
    trials, epochs = (20 if quick else 100), 50
    steps = epochs * (TRAIN // BATCH)
    return Row(
        group="scale",
        name="search",
        work=f"{trials} trials of a net of six hidden layers, {epochs} epochs, whole process from a cold start",
        unit="s a search",
        units=1,
        operations=2 * trials * (steps * BATCH * STEP + VALIDATION * FORWARD),
        contenders={
            OURS: Contender(functools.partial(search, trials, epochs)),
            "PyTorch eager": Contender(functools.partial(pytorch_search, trials, epochs), ("torch",)),
        },
        # A tenth of the textbook's 111 s.
        seconds_target=None if quick else 11.1,
        margin=0.3,
        below=0.75,  # without learning it is 0.85 or more
        whole_process=True,
        rounds=2,
    )


def _many_row(quick: bool) -> Row:
    examples, runs = 4_000 if quick else 60_000, 256
    pytorch = functools.partial(pytorch_func, examples, rates=_rates(runs), anew=True)
    return Row(
        group="scale",
        name="256 two-layer nets",
        work="256 runs with rates of their own, an epoch of MNIST's size, by sweep",
        unit="µs a run and step",
        units=runs * (examples // BATCH),
        operations=OPERATIONS,
        contenders={
            OURS: Contender(functools.partial(sweep, examples, runs)),
            "PyTorch torch.func": Contender(pytorch, ("torch",)),
            "PyTorch torch.func compiled": Contender(functools.partial(pytorch, compiled=True), ("torch",)),
            "PyTorch, a process a core": Contender(
                functools.partial(pytorch_processes, examples, every_rate=_rates(runs), anew=True),
                ("torch",),
                processes=cores(),
            ),
        },
        target=0.35,
        floors_target=1.6,
        below=2.3,
        rounds=1,  # of 10 to 50 s each, after the first run
    )


def _compilation_row() -> Row:
    return Row(
        group="scale",
        name="compiling a sweep",
        work="tracing and compiling the search's network for three runs on each core, beside one run",
        unit="s",
        units=1,
        operations=0,
        contenders={OURS: Contender(compiling_sweep), "one run": Contender(compiling_one)},
        target=1.3,
        rounds=9,
    )


def _widths_row(quick: bool) -> Row:
    examples, runs = 1_000 if quick else 4_000, 256
    contender = functools.partial(sweep, examples, runs)
    return Row(
        group="scale",
        name="parallel runs",
        work="a sweep of 256 runs, as many at once as sweep itself takes, beside from 1 to 256",
        unit="µs a run and step",
        units=runs * (examples // BATCH),
        operations=OPERATIONS,
        contenders={OURS: Contender(contender)}
        | {f"{width} at once": Contender(functools.partial(contender, at_once=width)) for width in WIDTHS},
        margin=ROUNDING,
        rounds=2,
    )


def _devices_row(quick: bool) -> Row:
    examples, runs = 2_000 if quick else 6_000, 64
    contender = functools.partial(sweep, examples, runs)
    return Row(
        group="scale",
        name="devices, a sweep",
        work="a sweep of 64 runs, a device a core, beside from 1 to 8 devices",
        unit="µs a run and step",
        units=runs * (examples // BATCH),
        operations=OPERATIONS,
        contenders=_by_devices(lambda devices: functools.partial(contender, devices=devices)),
        against=("1 device",),
        margin=ROUNDING,
        rounds=2,
    )


def _data_parallel_row(quick: bool) -> Row:
    steps = 4 if quick else 20
    return Row(
        group="scale",
        name="devices, a split batch",
        work=f"784-{WIDE}-{WIDE}-10, batch {LARGE_BATCH} split by data_parallel, a device a core, beside from 1 to 8",
        unit="ms a step",
        units=steps,
        operations=WIDE_STEP,
        contenders=_by_devices(lambda devices: functools.partial(data_parallel, steps, devices)),
        against=("1 device",),
        margin=ROUNDING,
        rounds=2,
    )


def _by_devices(build: Callable[[int], Callable[[], Run]]) -> dict[str, Contender]:
    return {OURS: Contender(build(cores()))} | {
        f"{devices} device{'s' * (devices > 1)}": Contender(build(devices)) for devices in DEVICES
    }


def search(trials: int, epochs: int) -> Run:
    """`random_search`, its trials spread over the cores."""
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    import jaxnn as nn

    trial = _trial(TRAIN, epochs)
    space = nn.SearchSpace(rate=nn.log_uniform(*RATES), decay=nn.log_uniform(*DECAYS))

    def run() -> float:
        key = jax.random.key(0)
        found = nn.random_search(trial, space, key=key, trials=trials, rounds=1, metric="accuracy", progress=False)
        return at_middle_rate(found.trials.configs["rate"], 1 - found.trials.outcomes["accuracy"][:, 0])

    return run


def _trial(train_examples: int, epochs: int) -> Callable[[Any, Any], Any]:
    """One training of the search, as `sweep` takes it."""
    import jaxnn as nn

    x, y = flat_images(TRAIN + VALIDATION)
    train, validation = (x[:train_examples], y[:train_examples]), (x[TRAIN:], y[TRAIN:])
    model = nn.mlp(HIDDEN, 10)

    def trial(config: Any, key: Any) -> Any:
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            nn.sgd(config["rate"]),
            train,
            key=key,
            epochs=epochs,
            batch_size=BATCH,
            sampling="replacement",
            metrics={},
            penalty=nn.l2_penalty(config["decay"]),
            preprocess=scaled,
        )
        accuracy = nn.evaluate(model, result.params, result.model_state, validation, preprocess=scaled)["accuracy"]
        return {"accuracy": accuracy, "loss": result.history.loss.mean()}

    return trial


def pytorch_search(trials: int, epochs: int) -> Run:
    """One trial after the other, in the usual loop."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = map(torch.from_numpy, flat_images(TRAIN + VALIDATION))
    y = y.long()
    rates, decays = (np.exp(rng.uniform(*np.log(bounds), trials)) for bounds in (RATES, DECAYS))

    def error_rate(rate: float, decay: float) -> float:
        layers: list[nn.Module] = []
        for inputs, outputs in zip([784, *HIDDEN], [*HIDDEN, 10], strict=True):
            dense = nn.Linear(inputs, outputs)
            nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
            nn.init.zeros_(dense.bias)
            layers += [dense, nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay)
        for _ in range(epochs * (TRAIN // BATCH)):
            index = torch.randint(TRAIN, (BATCH,))
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(x[index].float().div_(255)), y[index])
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            return float((model(x[TRAIN:].float().div_(255)).argmax(1) != y[TRAIN:]).float().mean())

    def run() -> float:
        return at_middle_rate(rates, [error_rate(*map(float, trial)) for trial in zip(rates, decays, strict=True)])

    return run


def at_middle_rate(rates: Any, error_rates: Any) -> float:
    """The error rate at `MIDDLE_RATE`, whatever rates were drawn: from a line through the trials that learn.

    >>> print(f"{at_middle_rate([1e-6, 1e-3, 1e-2], [0.9, 0.85, 0.1]):.2f}")
    0.49
    """
    rates, error_rates = np.asarray(rates), np.asarray(error_rates)
    learns = rates >= LEARNING_FROM
    line = np.polynomial.Polynomial.fit(np.log(rates[learns]), error_rates[learns], 1)
    return float(line(np.log(MIDDLE_RATE)))


def sweep(examples: int, runs: int, *, devices: int | None = None, at_once: int | None = None) -> Run:
    """`sweep`, spread over the cores unless told otherwise; what it has compiled is kept from run to run."""
    import jax

    devices = devices or min(cores(), at_once or runs)
    jax.config.update("jax_num_cpu_devices", devices)
    import jaxnn as nn
    from jaxnn._columns import as_columns
    from jaxnn.sweep import Sweeper

    train = tuple(map(jax.numpy.asarray, flat_images(examples)))
    model = nn.two_layer_net(weight_init_std=STD)

    def one(config: Any, key: Any) -> Any:
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            nn.sgd(config["rate"]),
            train,
            key=key,
            epochs=1,
            batch_size=BATCH,
            metrics={},
            preprocess=scaled,
        )
        return result.history.loss.mean()

    sweeper = Sweeper(
        one,
        key=jax.random.key(0),
        seeds=1,
        devices=None,
        max_parallel=None if at_once is None else -(-at_once // devices),
    )
    columns = as_columns({"rate": _rates(runs)})
    return lambda: float(sweeper(columns, lambda report: None).outcomes.mean())


def _rates(runs: int) -> np.ndarray:
    return np.logspace(-1.5, 0, runs).astype(np.float32)


def compiling_sweep() -> Run:
    """`sweep`, with nothing kept, for the few runs that fill a core's caches: they are soon done."""
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    import jaxnn as nn

    trial, key = _trial(2 * BATCH, 2), jax.random.key(0)
    configs = {name: np.geomspace(*bounds, 3 * cores()) for name, bounds in (("rate", RATES), ("decay", DECAYS))}

    def run() -> float:
        jax.clear_caches()
        return float(nn.sweep(trial, configs, key=key, progress=False).outcomes["loss"].mean())

    return run


def compiling_one() -> Run:
    """The same function under `jax.jit`, in the middle of the ranges."""
    import jax

    trial, key = _trial(2 * BATCH, 2), jax.random.fold_in(jax.random.key(0), 0)
    config = {name: np.sqrt(np.prod(bounds)) for name, bounds in (("rate", RATES), ("decay", DECAYS))}

    def run() -> float:
        jax.clear_caches()
        return float(jax.jit(trial)(config, key)["loss"])

    return run


def data_parallel(steps: int, devices: int) -> Run:
    """`fit` under `jit`, with every batch split over the devices; the data lies on each of them."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    import jaxnn as nn

    batch_sharding = nn.data_parallel()
    everywhere = jax.NamedSharding(batch_sharding.mesh, jax.P())
    train, key = jax.device_put((flat_images(steps * LARGE_BATCH), jax.random.key(0)), everywhere)
    model = nn.mlp([WIDE, WIDE], 10)

    @jax.jit
    def losses(train: Any, key: Any) -> Any:
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            nn.sgd(0.01),
            train,
            key=key,
            epochs=1,
            batch_size=LARGE_BATCH,
            metrics={},
            preprocess=scaled,
            batch_sharding=batch_sharding,
        )
        return result.history.loss

    return lambda: float(losses(train, key).mean())
