"""Reading while training against reading and training in turns (row A5), and what is in memory beside both.

One epoch of a small network from fixed first weights; the value is its last loss. XLA computes on one thread and the
stream reads in one, so that on two cores each has its own, and what is gained is overlap and not more readers.
Reading alone and computing alone are timed in the same turns. The share that is hidden,

    (in turns - stream) / min(reading alone, computing alone),

is 1 where the shorter of the two costs nothing any more.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import flat_images
from benchmarks.row import COMPUTING, IN_TURNS, OURS, READING, Contender, Row, Run

BATCH = 32
SIZE = 128  # of the pictures, in pixels
WIDTH = 1000  # of the hidden layers
FILES = 256
DELAY = 0.001  # seconds an example
IN_MEMORY_BATCH = 100


def rows(quick: bool) -> list[Row]:
    """Slow by decoding, slow by waiting, and not slow at all."""
    batches = 6 if quick else 25
    found = []
    for name, make, layers, work in (
        ("PNG files", Pictures, 4, f"{SIZE} x {SIZE} colour PNG files decoded"),
        ("a delay", Delayed, 8, f"{DELAY * 1000:g} ms of waiting for each example"),
    ):
        settings = make, layers, batches
        found.append(
            Row(
                group="reading",
                name=f"reading, {name}",
                work=f"{work}, a step on each {BATCH}",
                unit="ms a step",
                units=batches,
                operations=6 * BATCH * WIDTH * (16 * 16 * 3 + (layers - 1) * WIDTH),
                contenders={
                    OURS: Contender(functools.partial(streamed, *settings)),
                    IN_TURNS: Contender(functools.partial(in_turns, *settings)),
                    READING: Contender(functools.partial(reading_alone, *settings)),
                    COMPUTING: Contender(functools.partial(computing_alone, *settings)),
                    "PyTorch's DataLoader, 1 worker": Contender(
                        functools.partial(pytorch_loader, *settings), ("torch",), processes=1
                    ),
                },
                hidden_target=0.8,
                against=(IN_TURNS,),
                margin=1e-3,
                rounds=15,
            )
        )
    examples = 6_000 if quick else 60_000
    found.append(
        Row(
            group="reading",
            name="reading, in memory",
            work=f"{examples:,} images of 784 bytes, 784-50-10, batches of {IN_MEMORY_BATCH}",
            unit="µs a step",
            units=examples // IN_MEMORY_BATCH,
            operations=6 * IN_MEMORY_BATCH * (784 * 50 + 50 * 10),
            contenders={
                OURS: Contender(functools.partial(in_memory, examples)),
                "batches(), in turns": Contender(functools.partial(in_memory_batches, examples)),
                "stream()": Contender(functools.partial(in_memory_stream, examples)),
            },
            target=1.0,
            margin=1e-3,
            rounds=5,
        )
    )
    return found


class Pictures:
    """A folder of PNG files: noise, and a bright square whose place tells the class."""

    def __init__(self, examples: int) -> None:
        from PIL import Image

        self.examples = examples
        self.folder = tempfile.TemporaryDirectory()
        random = np.random.default_rng(0)
        self.paths = [str(Path(self.folder.name) / f"{number}.png") for number in range(min(examples, FILES))]
        for number, path in enumerate(self.paths):
            pixels = random.integers(0, 128, (SIZE, SIZE, 3), dtype=np.uint8)
            start = 12 * (number % 10)
            pixels[start : start + 16, start : start + 16] |= 128
            Image.fromarray(pixels).save(path)

    def __getstate__(self) -> dict[str, Any]:
        return {"examples": self.examples, "paths": self.paths}

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        from PIL import Image

        number = index % len(self.paths)
        with Image.open(self.paths[number]) as picture:
            return np.asarray(picture), number % 10


class Delayed:
    """Noise in memory that is slow to come, as from a network."""

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.pixels = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        time.sleep(DELAY)
        return self.pixels[index % 16], index % 10


def streamed(make: Callable[[int], Any], layers: int, batches: int) -> Run:
    """`nn.data.stream` with one thread."""
    one_thread()
    import jax

    from jaxnn.data.streaming import stream

    train = trainer(layers)
    data = stream(make(BATCH * batches), threads=1, prefetch=4)
    return lambda: train(data.batches(BATCH, key=jax.random.key(1)))


def in_turns(make: Callable[[int], Any], layers: int, batches: int) -> Run:
    """Read a batch, compute a step, wait for it."""
    one_thread()
    train = trainer(layers)
    source = make(BATCH * batches)
    return lambda: train(read(source, index) for index in order(batches))


def reading_alone(make: Callable[[int], Any], layers: int, batches: int) -> Run:
    """The batches that are trained on, read and put on the device; the value is no loss and is not compared."""
    one_thread()
    import jax

    source = make(BATCH * batches)
    return lambda: float(
        sum(jax.block_until_ready(jax.device_put(read(source, index)))[1].shape[0] for index in order(batches))
    )


def computing_alone(make: Callable[[int], Any], layers: int, batches: int) -> Run:
    """The steps, on batches that lie on the device."""
    one_thread()
    import jax

    train = trainer(layers)
    source = make(BATCH * batches)
    lying = [jax.device_put(read(source, index)) for index in order(batches)]
    return lambda: train(lying)


def pytorch_loader(make: Callable[[int], Any], layers: int, batches: int) -> Run:
    """PyTorch's DataLoader, whose process lives on from run to run, before the same step."""
    one_thread()
    import torch.utils.data

    train = trainer(layers)
    loader = torch.utils.data.DataLoader(
        make(BATCH * batches),
        batch_sampler=[index.tolist() for index in order(batches)],
        num_workers=1,
        prefetch_factor=4,
        collate_fn=stacked,
        multiprocessing_context="spawn",  # a fork of a process with JAX's threads may stop for ever
        persistent_workers=True,
    )
    return lambda: train(loader)


def order(batches: int) -> list[NDArray[np.int32]]:
    """The stream's own order."""
    import jax

    from jaxnn.sampling import epoch_indices

    return list(np.asarray(epoch_indices(jax.random.key(1), 0, BATCH * batches, BATCH, "shuffle")))


def read(source: Any, index: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A batch as one reads it by hand."""
    return stacked([source[number] for number in index.tolist()])


def stacked(examples: list[tuple[NDArray[np.uint8], int]]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """One array of pixels and one of labels."""
    x, y = zip(*examples, strict=True)
    return np.stack(x), np.array(y, np.int32)


def one_thread() -> None:
    """Leave a core to who reads: XLA computes on one thread. To be called before JAX is imported."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"


def trainer(layers: int) -> Callable[[Iterable[Any]], float]:
    """`in_steps` for the pictures: a deep network on 16 x 16 pixels."""
    import jaxnn as nn

    # Few weights and much arithmetic: what waits for memory would slow down a decoder beside it, overlap or not.
    model = nn.sequential(nn.average_pool2d(SIZE // 16), nn.mlp([WIDTH] * layers, 10))
    return in_steps(model, (SIZE, SIZE, 3), nn.sgd(0.01))


def in_steps(model: Any, shape: tuple[int, ...], optimizer: Any) -> Callable[[Iterable[Any]], float]:
    """A function that trains from the same first weights, each step waited for, and returns the last loss."""
    import jax

    import jaxnn as nn
    from benchmarks.data import scaled

    first = nn.init_state(model, optimizer, shape, jax.random.key(0))
    step = jax.jit(functools.partial(nn.train_step, model, nn.softmax_cross_entropy, optimizer, preprocess=scaled))

    def train(batches: Iterable[Any]) -> float:
        state = first
        for x, y in batches:
            state, loss = jax.block_until_ready(step(state, x, y))
        return float(loss)

    return train


def in_memory(examples: int) -> Run:
    """What `runner.train` compiles for a `Dataset`: a whole epoch."""
    import jax

    import jaxnn as nn
    from benchmarks.data import scaled

    model, optimizer = small_net(), nn.sgd(0.1)
    first = nn.init_state(model, optimizer, (784,), jax.random.key(0))

    @jax.jit
    def epoch(state: Any, data: Any) -> Any:
        return nn.train_epoch(
            model,
            nn.softmax_cross_entropy,
            optimizer,
            state,
            data,
            batch_size=IN_MEMORY_BATCH,
            data_key=jax.random.key(1),
            preprocess=scaled,
        )

    data = jax.device_put(flat_images(examples))
    return lambda: float(epoch(first, data)[1][-1])


def in_memory_batches(examples: int) -> Run:
    """`nn.data.batches` and a compiled step."""
    import jax

    import jaxnn as nn
    from jaxnn.data.batching import batches

    train = in_steps(small_net(), (784,), nn.sgd(0.1))
    data = nn.data.Dataset(*flat_images(examples))
    return lambda: train(batches(data, IN_MEMORY_BATCH, key=jax.random.key(1), drop_last=True))


def in_memory_stream(examples: int) -> Run:
    """`nn.data.stream` and a compiled step."""
    import jax

    import jaxnn as nn
    from jaxnn.data.streaming import stream

    train = in_steps(small_net(), (784,), nn.sgd(0.1))
    data = stream(flat_images(examples))
    return lambda: train(data.batches(IN_MEMORY_BATCH, key=jax.random.key(1)))


def small_net() -> Any:
    """784-50-10."""
    import jaxnn as nn

    return nn.mlp([50], 10)
