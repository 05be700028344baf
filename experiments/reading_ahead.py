"""When does it pay to read data ahead of training?

A step needs a batch, and then computes. Read in turns with it, as by a generator, the times of both add up. Read ahead
by other threads, into a bounded queue, they overlap and the longer one counts:

    time of a step = reading + computing   in turns,        max(reading / readers, computing)   ahead

The batches are the same, in the same order, however many threads read. Expect reading ahead to pay where reading is
slow, and not where all data is in memory already. (Row A5.)

    python -m experiments.reading_ahead
"""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, equal
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, panels
from jaxnn.data import Dataset


@dataclass(frozen=True)
class Config:
    """All are our own."""

    hidden_sizes: tuple[int, ...] = (2000, 2000)
    """Of the network that is read for; a step of it takes some milliseconds."""
    batch_size: int = 32
    """Examples per step."""
    steps: int = 15
    """Of each training that is timed."""
    rounds: int = 3
    """Of which the fastest counts."""
    slowness: tuple[float, ...] = (0, 1, 4)
    """Of three sources: how long reading a batch takes, in steps of computing. The first is in memory."""
    readers: tuple[int, ...] = (1, 4)
    """Threads that read ahead."""
    prefetch: int = 4
    """Batches that the queue holds at most."""


class Slow:
    """Examples that have to be waited for, as from a disk or over a network; they are counted."""

    def __init__(self, data: Dataset, seconds: float) -> None:
        self.data, self.seconds, self.read = data, seconds, 0

    def __len__(self) -> int:
        return len(self.data.x)

    def __getitem__(self, number: int) -> Dataset:
        time.sleep(self.seconds)
        self.read += 1
        return Dataset(self.data.x[number], self.data.y[number])


def in_turns(source: Dataset | Slow, batch_size: int, key: PRNGKeyArray) -> Iterator[Dataset]:
    """The textbook's generator; of a slow source it yields the numbers, and the examples are read one by one."""
    if isinstance(source, Dataset):
        yield from nn.data.batches(source, batch_size, key=key)
    else:
        for numbers, y in nn.data.batches(Dataset(np.arange(len(source)), source.data.y), batch_size, key=key):
            yield Dataset(np.stack([source[number].x for number in numbers]), y)


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Milliseconds of a step `[sources, in turns and by readers ahead]`; and the order and the bound of the queue."""
    train = data.first(config.batch_size * config.steps)
    nn.data.stream(train)  # says at once if grain is missing
    model, optimizer = nn.mlp(config.hidden_sizes, 10), nn.sgd(0.01)
    start = nn.init_state(model, optimizer, train.x.shape[1:], key)

    @jax.jit
    def step(state: nn.TrainState, x: Array, y: Array) -> nn.TrainState:
        return nn.train_step(model, nn.softmax_cross_entropy, optimizer, state, x, y, preprocess=data.scale)[0]

    def milliseconds(ways: list[Callable[[], Iterable[Dataset]]]) -> np.ndarray:
        times = np.empty((config.rounds, len(ways)))
        for place in np.ndindex(times.shape):  # by turns, so that what else the machine does meets all of them
            state, began = start, time.perf_counter()
            for x, y in ways[place[1]]():
                state = jax.block_until_ready(step(state, x, y))
            times[place] = 1000 * (time.perf_counter() - began) / config.steps
        return times.min(axis=0)

    def ahead(source: Dataset | Slow, readers: int) -> Generator[Dataset, None, None]:
        stream = nn.data.stream(source, threads=readers, prefetch=config.prefetch)
        with stream.batches(config.batch_size, key=key) as batches:
            yield from batches

    in_memory = list(in_turns(train, config.batch_size, key))
    jax.block_until_ready(step(start, *in_memory[0]))  # compiles
    (computing,) = milliseconds([lambda: in_memory])
    found = []
    for slowness in config.slowness:
        source = Slow(train, slowness * computing / 1000 / config.batch_size) if slowness else train
        by_readers = [functools.partial(ahead, source, readers) for readers in config.readers]
        found.append(milliseconds([functools.partial(in_turns, source, config.batch_size, key), *by_readers]))

    counted, read = Slow(train, 0), 0
    with contextlib.closing(ahead(counted, 1)) as paused:
        next(paused)
        while counted.read > read:  # until it has come to rest
            read = counted.read
            time.sleep(0.3)
    return {
        "milliseconds": np.array(found),
        "waiting": read / config.batch_size - 1,
        "moved": [moved(in_memory, ahead(train, readers)) for readers in config.readers],
    }


def moved(batches: Iterable[Dataset], others: Iterable[Dataset]) -> int:
    """How many examples are not the same at the same place."""
    return sum(
        int(((x != other_x).reshape(len(y), -1).any(axis=1) | (y != other_y)).sum())
        for (x, y), (other_x, other_y) in zip(batches, others, strict=True)
    )


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Bars for each source: in turns, and ahead by number of readers."""
    figure, ((axis,),) = panels(width=7.4, height=3.8)
    names = ["in turns", *(f"ahead, {count} reader{'s' * (count > 1)}" for count in config.readers)]
    places = np.arange(len(config.slowness))
    width = 0.8 / len(names)
    ways = zip(names, outcomes["milliseconds"].T, (COLOURS[1], COLOURS[4], COLOURS[0], *COLOURS[2:4]), strict=False)
    for number, (name, milliseconds, colour) in enumerate(ways):
        bars = axis.bar(places + width * number, milliseconds, 0.93 * width, label=name, color=colour)
        axis.bar_label(bars, fmt="%.0f", fontsize=8, padding=1)
    axis.set_xticks(
        places + width * (len(names) - 1) / 2,
        [f"reading is {slow:g} × computing" if slow else "in memory" for slow in config.slowness],
    )
    axis.set_ylabel("milliseconds a step")
    axis.legend(frameon=False, fontsize=9)
    alt = (
        "Bars of the time of a step for three sources. In memory all three are low. Where reading takes as long as "
        "computing, reading in turns is the slowest; where it takes four times as long, one reader ahead saves a "
        "little of it, and four of them most."
    )
    return {"reading": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """The order of the batches, the bound of the queue, and when reading ahead pays."""
    in_turns, *ahead = outcomes["milliseconds"].T
    gain = in_turns / ahead[-1]
    found = [
        equal("A5", "examples at another place when they are read ahead, by readers", outcomes["moved"],
              [0] * len(config.readers), source="our own"),
        between("A5", f"batches that wait in a queue of {config.prefetch} when training pauses",
                outcomes["waiting"], 1, config.prefetch),
    ]  # fmt: skip
    if is_the_books(config):
        found += [
            at_most("A5", "time in turns over time ahead, where all is in memory", gain[0], 1.5),
            at_least("A5", f"the same where reading takes {config.slowness[-1]:g} x computing", gain[-1], 2),
        ]
    return found


EXPERIMENT = Experiment(
    name="reading_ahead",
    rows=("A5",),
    formula=r"t_{\text{in turns}} = t_{\text{read}} + t_{\text{compute}}, \qquad "
    r"t_{\text{ahead}} = \max\left(\frac{t_{\text{read}}}{\text{readers}},\ t_{\text{compute}}\right)",
    config=Config(),
    quick=Config(steps=6, rounds=2),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
