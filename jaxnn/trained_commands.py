"""`jaxnn evaluate` and `jaxnn predict`: trained networks at work."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from jaxnn import data
from jaxnn.activations import softmax
from jaxnn.data.description import Description
from jaxnn.data.images import read_image, to_example
from jaxnn.data.tables import read_csv_features
from jaxnn.data_options import load_data
from jaxnn.run_folder import data_digest
from jaxnn.terminal import print_json
from jaxnn.trained import load_trained, measure

__all__ = ["EvaluateConfig", "PredictConfig", "run_evaluate", "run_predict"]


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained network on data that it was not trained on."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of a run that jaxnn train made."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: the run's)")] = None
    """Where the files lie that it was trained on, if they have moved."""
    split: Literal["test", "validation", "train"] = "test"
    """Which part of the data set to measure on."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the run's)")] = None
    """Folder that holds the data set's files."""
    at: Literal["end", "last", "best"] = "end"
    """The network as it was at the end of the run; at its last checkpoint; at that of its best epoch, on validation
    data."""
    json: bool = False
    """Print it in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


@dataclass(frozen=True)
class PredictConfig:
    """Let a trained network name what is in picture files, or answer for the rows of a table."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of a run that jaxnn train made."""
    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")]]
    """Pictures, PNG or JPEG. Of drawings, one digit each, dark on light or light on dark: each is scaled and centred
    as the training data is. Of photos the middle counts. For a network trained on a table: tables with its columns."""
    at: Literal["end", "last", "best"] = "end"
    """The network as it was at the end of the run; at its last checkpoint; at that of its best epoch, on validation
    data."""
    json: bool = False
    """Print it in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


def run_evaluate(config: EvaluateConfig, console: Console) -> int:
    """Print the figure."""
    run, trained = load_trained(config.run, config.at)
    settings = run.config
    if config.dataset is not None:
        settings = replace(settings, dataset=config.dataset)
    if config.data_dir is not None:
        settings = replace(settings, data_dir=config.data_dir)
    splits, _ = load_data(settings.dataset, settings)
    if data_digest(splits) != run.data_sha256:
        raise ValueError(
            f"{settings.dataset} is not what {config.run} was trained on, or has changed since: divided anew, its "
            "parts share examples with those of then"
        )
    part: data.Dataset = getattr(splits, config.split)
    words = trained.objective.metric_name.replace("_", " ")
    what = "images" if trained.about.brightest else "examples"
    figure = measure(trained, part)
    if config.json:
        about = {"run": config.run, "dataset": settings.dataset, "split": config.split, "at": config.at}
        print_json({**about, "examples": len(part.x), "metric": trained.objective.metric_name, "value": figure})
        return 0
    console.print(f"{config.split} {words}: {figure:.4f} on {len(part.x):,} {what} of {trained.about.name}")
    return 0


def run_predict(config: PredictConfig, console: Console) -> int:
    """Print an answer for each picture, or each row."""
    if not config.files:
        raise ValueError("name at least one file, such as digit.png")
    _, trained = load_trained(config.run, config.at)
    about = trained.about
    if about.brightest is not None:
        names = [str(path) for path in config.files]
        x = np.stack([_read_picture(path, about) for path in config.files])
    elif about.columns:
        tables = [read_csv_features(path, about.columns) for path in config.files]
        counted = zip(config.files, tables, strict=True)
        names = [f"{path}, row {row}" for path, rows in counted for row in range(1, 1 + len(rows))]
        x = np.concatenate(tables)
    else:
        raise ValueError(
            f"{config.run} was trained on arrays of shape {about.shape}, which neither pictures nor tables fit; "
            "in Python, jaxnn.trained.load_trained has the network"
        )
    inputs = x if trained.scale is None else trained.scale(x)
    outputs, _ = trained.model.apply(trained.params, trained.model_state, inputs)
    of_names = trained.about.targets or trained.about.classes
    rows = softmax(jnp.asarray(outputs)) if trained.targets is None else trained.targets.inverse(outputs)
    answers = [dict(zip(of_names, row.tolist(), strict=True)) for row in np.asarray(rows)]
    if config.json:
        kind = "probabilities" if trained.targets is None else "values"
        print_json([{"example": name, kind: answer} for name, answer in zip(names, answers, strict=True)])
        return 0
    in_words = _named if trained.targets is None else _valued
    for name, answer in zip(names, answers, strict=True):
        console.print(f"{name}: {in_words(answer)}")
    return 0


def _valued(values: dict[str, float]) -> str:
    return "  ".join(f"{target} {value:.6g}" for target, value in values.items())


def _named(probabilities: dict[str, float]) -> str:
    """The likeliest class, and the ten likeliest ones' probabilities."""
    order = sorted(probabilities, key=lambda name: -probabilities[name])
    return f"{order[0]}   " + "  ".join(f"{name} {probabilities[name]:.3f}" for name in order[:10])


def _read_picture(path: Path, about: Description) -> np.ndarray:
    try:
        return to_example(read_image(path, colour=about.colour), about)
    except data.DataError as error:
        raise data.DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
