"""What happens to data before a network learns from it?

It is divided into three parts that share no image: one to train on, one to choose settings by, one that is measured
once at the end. The notes store them as a JSON list of three [images, labels], an image being its 784 numbers,

    pixel = byte / 255

Such a file is written here and read back. Then the data is checked twice. The machine finds what can be stated: NaN,
labels out of range, test images that are trained on. What cannot, such as labels that belong to other images, a person
finds who looks at samples. (Rows A1, A4.)

    python -m experiments.data_pipeline
"""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import PRNGKeyArray

import jaxnn as nn
from experiments.shared.claims import Claim, equal, near, true
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import Picture, panels, tiles
from jaxnn.data import Dataset, Splits


@dataclass(frozen=True)
class Config:
    """The notes' file."""

    stored: tuple[int, int, int] = (5000, 1000, 1000)
    """Examples of each part in the JSON file, or all where there are fewer."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """What the parts hold, what is read back, and what the checks find."""
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


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
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
    alt = (
        "Ten rows of eight handwritten digits, each beside its label. Left every row shows the digit that the label "
        "says. Right the labels are moved by one image, and every row is a jumble of digits."
    )
    return {"samples": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of the parts and their file, and of the checks."""
    pairs = zip(outcomes["written"], outcomes["stored"], strict=True)
    changed = sum((one != two).sum() for parts in pairs for one, two in zip(*parts, strict=True))
    scaled = outcomes["stored"].train.x
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
        found += [
            equal("A1", "examples to train, validate and test with", outcomes["sizes"], sizes, 0, "the notes"),
            equal("A1", "pixels as they are read back, and bytes / 255", scaled,
                  data.first(len(scaled)).x.reshape(scaled.shape) / 255, 1e-6, "the notes"),
        ]  # fmt: skip
    return sorted(found, key=lambda claim: claim.row)


EXPERIMENT = Experiment(
    name="data_pipeline",
    rows=("A1", "A4"),
    formula=r"x_{\text{pixel}} = \frac{\text{byte}}{255} \in [0, 1]",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
