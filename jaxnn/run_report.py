"""What is said of a run, and written about it when it has ended."""

import shlex
from pathlib import Path

import jax
import numpy as np

from jaxnn import data
from jaxnn._tensors import write_aside
from jaxnn.config import TrainConfig
from jaxnn.data._files import printable
from jaxnn.data.description import Description
from jaxnn.layers import Params
from jaxnn.plotting import plot_history, save_figure
from jaxnn.run_folder import RunConfig, write_config, write_metrics
from jaxnn.runner import RunResult
from jaxnn.terminal import complain
from jaxnn.trained import Trained, save_trained

__all__ = [
    "describe_data",
    "describe_method",
    "describe_model",
    "describe_targets",
    "next_steps",
    "verdict",
    "write_results",
]


def write_results(
    folder: Path, run: RunConfig, trained: Trained, result: RunResult, splits: data.Splits, on_test: float | None
) -> None:
    """Write all files of a run but its checkpoints, the figure last: a run is worth more than its picture."""
    config, metric = run.config, trained.objective.metric_name
    assert config.batch_size is not None
    words, steps = metric.replace("_", " "), len(splits.train.x) // config.batch_size
    history = result.history
    save_trained(folder, trained, run.run)
    write_metrics(folder, history, result.epochs, steps)
    by_part = {"training": history.train, "validation": history.validation}
    # A file's name may hold what has no form in UTF-8.
    summary = [
        f"data: {printable(trained.about.name)}, {describe_data(splits)} examples for training / validation / test",
        f"model: {config.model}, {describe_model(config, trained.params)}",
        f"optimizer: {describe_method(config)}",
        f"epochs: {result.epochs} of {config.epochs}"
        + (f", stopped after step {len(history.loss)} ({result.interrupted})" if result.interrupted else ""),
        f"seconds: {result.compile_seconds:.2f} to compile, {result.run_seconds:.2f} to train",
        *(f"{part} {words}: {figures[metric][-1]:.4f}" for part, figures in by_part.items() if result.epochs),
        f"test {words}: " + ("not measured; jaxnn evaluate does" if on_test is None else f"{on_test:.4f}"),
    ]
    with write_aside(folder / "summary.txt") as aside:
        aside.write_text("\n".join(summary) + "\n", encoding="utf-8")
    facts = {
        "epochs_finished": result.epochs,
        f"test_{metric}": on_test,
        "compile_seconds": result.compile_seconds,
        "run_seconds": result.run_seconds,
    }
    write_config(folder, run._replace(facts=facts))
    whole_epochs = history._replace(loss=history.loss[: result.epochs * steps]) if result.epochs else history
    try:
        with write_aside(folder / "curves.png") as aside:
            save_figure(plot_history(whole_epochs, f"{config.model} on {trained.about.name}"), aside)
    except Exception as error:  # whatever it is, the network has been trained
        complain(f"curves.png could not be drawn ({str(error) or type(error).__name__}); all else of the run is saved")


def verdict(trained: Trained, on_test: float, splits: data.Splits) -> str:
    """What a network is worth, by the figure on test data."""
    count = f"{len(splits.test.x):,}"
    if trained.targets is None:
        what = "images" if trained.about.brightest else "examples"
        return f"test accuracy: {on_test:.4f} on {count} {what} it has never seen"
    guess = np.abs(splits.test.y - np.mean(splits.train.y, axis=0, dtype=np.float64)).mean()
    return (
        f"test mean absolute error: {on_test:.4g} on {count} examples it has never seen; "
        f"always guessing the mean: {guess:.4g}"
    )


def next_steps(config: TrainConfig, about: Description, folder: Path) -> list[str]:
    """What to type next."""
    run = shlex.quote(str(folder))
    if about.brightest:
        yours = "read a digit" if about.drawing else "name a picture"
        steps = [f"jaxnn predict {run} PICTURE.png    let it {yours} of yours"]
    elif about.columns:
        steps = [f"jaxnn predict {run} TABLE.csv    let it answer for rows of yours"]
    else:
        steps = [f"jaxnn evaluate {run} --split validation    measure it on another part"]
    if about.name == "digits":
        steps.append("jaxnn train --dataset mnist    larger pictures, 70,000 of them")
    if config.model != "two-layer-net" and about.classes:
        steps.append("jaxnn train --model two-layer-net    the textbook's first network")
    steps.append("jaxnn train --help    every setting")
    return steps


def describe_targets(about: Description) -> str:
    """What is to be predicted, in words."""
    return f"{len(about.classes)} classes" if about.classes else f"numbers to predict: {', '.join(about.targets)}"


def describe_data(splits: data.Splits) -> str:
    """How many examples each part has."""
    return " / ".join(f"{len(part.x):,}" for part in splits)


def describe_model(config: TrainConfig, params: Params) -> str:
    """A network's settings, and its size."""
    words = []
    if config.filters is not None:
        words.append(f"{'-'.join(map(str, config.filters))} filters of {config.filter_size}x{config.filter_size}")
    if config.hidden_sizes is not None:
        words.append(f"{'-'.join(map(str, config.hidden_sizes)) or 'no'} hidden units")
    words.append(str(config.activation))
    words += ["batch norm"] if config.batch_norm else []
    words += [f"dropout {config.dropout:g}"] if config.dropout else []
    words.append(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    return ", ".join(words)


def describe_method(config: TrainConfig) -> str:
    """How it is trained."""
    schedule = "" if config.schedule == "constant" else f" ({config.schedule})"
    precision = "" if config.compute_dtype is None else f", computed in {config.compute_dtype}"
    return f"{config.optimizer}, learning rate {config.learning_rate:g}{schedule}{precision}"
