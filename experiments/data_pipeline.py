"""What happens to data before a network learns from it, and when does it pay to read ahead?

It is divided into three parts that share no image: one to train on, one to choose settings by, one that is measured
once at the end. The notes store them as a JSON list of three [images, labels], an image being its 784 numbers; such a
file is written here and read back.

It is checked twice. The machine finds what can be stated: NaN, labels out of range, test images that are trained on.
What cannot, such as labels that belong to other images, a person finds who looks at samples.

It is read: in turns with training, or ahead of it into a bounded queue, so that both overlap:

    time of a step = reading + computing   in turns,        max(reading / readers, computing)   ahead

Expect reading ahead to pay where reading is slow, and not where all data is in memory already. (Rows A1, A4, A5.)

    python -m experiments.data_pipeline
"""

import contextlib
import functools
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, equal, near, true
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes, is_the_books
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, Picture, panels, tiles
from jaxnn.data import Dataset, Splits


@dataclass(frozen=True)
class Config:
    """The notes' file; the training that is read for is ours."""

    stored: tuple[int, int, int] = (5000, 1000, 1000)
    """Examples of each part in the JSON file, or all where there are fewer."""
    hidden_sizes: tuple[int, ...] = (2000, 2000)
    """Of the network that is read for; a step of it takes some milliseconds."""
    batch_size: int = 32
    """Examples per step."""
    steps: int = 15
    """Of each training that is timed."""
    rounds: int = 3
    """Of which the faster counts."""
    slowness: tuple[float, ...] = (0, 1, 4)
    """Of three sources: how long reading a batch takes, in steps of computing. The first is in memory."""
    readers: tuple[int, ...] = (1, 4)
    """Threads that read ahead."""
    prefetch: int = 4
    """Batches that the queue holds at most."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """What the parts hold, what is read back, what the checks find, and how long a step takes."""
    splits = Splits(data.train, data.validation, data.test)
    report = nn.data.validate(splits, classes=10)
    written = [
        Dataset(np.asarray(data.scale(part.x[:count])).reshape(-1, part.x[0].size), part.y[:count])
        for part, count in zip(splits, config.stored, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.json")
        path.write_text(json.dumps([[part.x.tolist(), part.y.tolist()] for part in written]))
        stored = nn.data.load(path)
    return {
        "sizes": [part.examples for part in report.parts],
        "shared": sum(finding.count for finding in report.findings if finding.check == "leakage"),
        "written": written,
        "stored": stored,
        **checks(stored),
        **reading(config, data, key),
    }


def checks(good: Splits) -> Outcomes:
    """What is found in good data, in data with one fault each, and where labels belong to other images."""
    train, _, test = good
    nan, ten, known = np.array(train.x), np.array(train.y), np.array(test.x)
    nan[17, 30], ten[3], known[5] = np.nan, 10, train.x[8]
    moved = good._replace(train=Dataset(train.x, np.roll(train.y, 1)))
    faults = (
        ("a pixel that is NaN", "finite in train, 17", good._replace(train=Dataset(nan, train.y))),
        ("a label 10 of classes 0 to 9", "labels in train, 3", good._replace(train=Dataset(train.x, ten))),
        ("a test image that is trained on", "leakage in train and test, 5", good._replace(test=Dataset(known, test.y))),
        ("one label too few", "shape in train", good._replace(train=Dataset(train.x, train.y[1:]))),
    )

    def found(splits: Splits) -> list[str]:
        report = nn.data.validate(splits, classes=10)
        return [
            f"{one.check} in {one.part}" + "".join(f", {example}" for example in one.examples[:1])
            for one in (*report.errors, *report.warnings)
        ]

    return {
        "in_good": found(good),
        "in_faulty": [(fault, wanted, found(splits)) for fault, wanted, splits in faults],
        "in_moved": found(moved),
        "moved": moved,
    }


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


def reading(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Milliseconds of a step `[sources, in turns and by readers ahead]`; and the order and the bound of the queue."""
    train = data.first(config.batch_size * config.steps)
    try:
        nn.data.stream(train)
    except ModuleNotFoundError as error:
        warnings.warn(f"row A5 is left out: {error}", stacklevel=1)
        return {"milliseconds": None}
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
        "labels_in_turns": np.concatenate([y for _, y in in_memory]),
        "labels_ahead": np.concatenate([y for _, y in ahead(train, config.readers[-1])]),
    }


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Samples with their own labels and with others; the time of a step by source and way of reading."""
    pictures = {"samples": draw_samples(outcomes)}
    return pictures if outcomes["milliseconds"] is None else {**pictures, "reading": draw_reading(config, outcomes)}


def draw_samples(outcomes: Outcomes) -> Picture:
    """Eight images for each label, as it is and as it is when moved."""
    figure, (axes,) = panels(1, 2, width=4.2, height=5.4)
    titles = ("the data", "labels moved by one image: the machine finds nothing")
    for axis, title, train in zip(axes, titles, (outcomes["stored"].train, outcomes["moved"].train), strict=True):
        chosen = np.concatenate([np.flatnonzero(train.y == label)[:8] for label in range(10)])
        side = math.isqrt(train.x.shape[1])
        tiles(axis, train.x[chosen].reshape(-1, side, side), columns=8)
        for label in range(10):
            axis.text(-0.3 * side, (label + 0.5) * (side + 1), f"{label}:", ha="center", va="center", fontsize=11)
        axis.set_title(title, fontsize=10, pad=10)
    return Picture(
        figure,
        "Ten rows of eight handwritten digits, each beside its label. Left every row shows the digit that the label "
        "says. Right the labels are moved by one image, and every row is a jumble of digits.",
    )


def draw_reading(config: Config, outcomes: Outcomes) -> Picture:
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
    return Picture(
        figure,
        "Bars of the time of a step for three sources. In memory all three are low. Where reading "
        "takes as long as computing, reading in turns is the slowest; where it takes four times as long, one reader "
        "ahead saves a little of it, and four of them most.",
    )


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of the parts and their file, of the checks, and of reading ahead."""
    pairs = zip(outcomes["written"], outcomes["stored"], strict=True)
    changed = sum((one != two).sum() for parts in pairs for one, two in zip(*parts, strict=True))
    found = [
        near("A1", "images that two of the three parts share", outcomes["shared"], 0, 0, "the notes"),
        near("A1", "numbers that come back from the JSON file changed", changed, 0, 0, "the notes"),
        near("A4", "errors and warnings about good data", len(outcomes["in_good"]), 0, 0, "the notes"),
        *(
            true("A4", f"found: {fault}", wanted in words, "; ".join(words) or "nothing", wanted, "the notes")
            for fault, wanted, words in outcomes["in_faulty"]
        ),
        near("A4", "errors and warnings about labels that belong to other images: it takes an eye",
             len(outcomes["in_moved"]), 0, 0, "the notes"),
    ]  # fmt: skip
    if data.name == "mnist":
        sizes = (50_000, 10_000, 10_000)
        found.append(equal("A1", "examples to train, validate and test with", outcomes["sizes"], sizes, 0, "the notes"))
    if outcomes["milliseconds"] is not None:
        in_turns, *ahead = outcomes["milliseconds"].T
        gain = in_turns / ahead[-1]
        moved = outcomes["labels_in_turns"] != outcomes["labels_ahead"]
        found += [
            near("A5", f"examples in another order when {config.readers[-1]} read ahead", moved.sum(), 0, 0, "our own"),
            between("A5", f"batches that wait in a queue of {config.prefetch} when training pauses",
                    outcomes["waiting"], 1, config.prefetch),
        ]  # fmt: skip
        if is_the_books(config):
            found += [
                at_most("A5", "time in turns over time ahead, where all is in memory", gain[0], 2),
                at_least("A5", f"the same where reading takes {config.slowness[-1]:g} x computing", gain[-1], 1.3),
            ]
    return sorted(found, key=lambda claim: claim.row)


EXPERIMENT = Experiment(
    name="data_pipeline",
    rows=("A1", "A4", "A5"),
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
