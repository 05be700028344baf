"""`jaxnn search`: settings that train well, found on validation data."""

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from rich.console import Console

from jaxnn import data, hosts
from jaxnn._checks import Scalar, is_concrete
from jaxnn.config import PLACE, TrainConfig, build_optimizer, decouples
from jaxnn.data._files import printable
from jaxnn.data.description import Description
from jaxnn.data_options import check_scaling, choose_scaling, fit_scaling, load_data
from jaxnn.evaluation import Examples, evaluate
from jaxnn.losses import l2_penalty
from jaxnn.objective import Objective, choose_objective
from jaxnn.plotting import plot_search, save_figure
from jaxnn.precision import mixed_precision
from jaxnn.presets import build_model
from jaxnn.progress import format_seconds
from jaxnn.random_search import SearchResult, random_search
from jaxnn.run_folder import create, data_digest, settings_of, write_json
from jaxnn.run_report import describe_targets
from jaxnn.sampling import Sampling
from jaxnn.search_options import SearchConfig, check_search, resolve_search, resolve_trial
from jaxnn.terminal import FAILED, INTERRUPTED, complain, print_json
from jaxnn.train_command import check_alike, check_data, devices_of, join
from jaxnn.training import init_state, train_epoch

__all__ = ["run"]

_STAGES = 8


def run(config: SearchConfig, console: Console) -> int:
    """Search, write the folder, and return the exit status."""
    space = check_search(config)
    writes, console = join(config, console)
    devices = devices_of(config)
    label = f"{data.name_of(config.dataset)}-{config.model}-search"
    with create(config.out, label) if writes else contextlib.nullcontext() as folder:
        splits, about = load_data(config.dataset, config)
        check_scaling(config.scaling, np.asarray(splits.train.x), config.dataset)
        check_data(config, splits, about, console)
        if config.coordinator is not None:
            check_alike(config, data_digest(splits))
        # From here on there is no test data.
        train, validation = _some(splits.train, config.examples, config.seed), splits.validation
        del splits
        scaling = config.scaling or choose_scaling(np.asarray(train.x), about)
        given, config = config, resolve_search(replace(config, scaling=scaling), len(train.x))
        targets = data.standardize(train.y) if about.targets else None
        objective = choose_objective(targets)
        if targets is not None:
            train, validation = (part._replace(y=np.asarray(targets(part.y))) for part in (train, validation))
        scale = fit_scaling(scaling, np.asarray(train.x))
        epochs = config.epochs or 1
        stage_epochs = -(-epochs // _STAGES) if config.halving else epochs
        stages = -(-epochs // stage_epochs)
        metric = f"validation_{objective.metric_name}"

        console.print(
            f"data    {printable(about.name)}: {about.title}, {describe_targets(about)}; "
            f"{len(train.x):,} / {len(validation.x):,} for training / validation"
        )
        for number, (name, values) in enumerate(space.items()):
            console.print(f"{'vary' if number == 0 else '':8}{name.replace('_', ' ')}: {values}")
        console.print(
            f"search  {_count(config.rounds, 'round')} of {_count(config.trials, 'training')} of {config.model}, "
            f"{_count(stages * stage_epochs, 'epoch')} each"
            f"{', worse halves stopped early' if config.halving and stages > 1 else ''}; "
            f"{_count(len(devices), 'device')} ({devices[0].platform})"
        )
        train_stage = _stage(config, about, train, validation, scale, objective, stage_epochs)
        result = random_search(
            train_stage if config.halving else lambda settings, key: train_stage(settings, key, None)[1],
            space,
            key=jax.random.key(config.seed),
            trials=config.trials,
            rounds=config.rounds,
            keep=config.keep,
            metric=(metric, "validation_loss"),  # accuracies are often equal
            mode="min" if targets is not None else "max",
            halving=config.halving,
            stages=stages,
            devices=devices,
        )
        if folder is None:
            return 0
        facts = _facts(result, metric)
        for line in facts:
            console.print(line)
        _write(folder.aside, config, result, metric, facts)
        final = folder.finish()

    trials = result.trials
    console.print(
        f"time    {format_seconds(trials.compile_seconds)} to compile {_count(trials.programs, 'program')}, "
        f"{format_seconds(trials.run_seconds)} to train"
    )
    console.print(f"saved   {printable(final)}: every trial (trials.csv), search.png, summary.txt, config.json")
    console.print(f"next    {printable(_next_command(given, result))}")
    if config.json:
        best = {"settings": result.best.config, metric: result.best.value}
        trained = int(trials.finished.sum())
        print_json({"folder": final, "trials": trained, "best": best, "next": _next_command(given, result)})
    if result.interrupted:
        lost = hosts.lost()
        why = "stopped by Ctrl-C" if lost is None else f"{lost}; stopped"
        complain(f"{why} after {int(trials.finished.sum())} trainings; what they showed is saved in {final}")
        return INTERRUPTED if lost is None else FAILED
    return 0


def _some(part: data.Dataset, examples: int | None, seed: int) -> data.Dataset:
    """So many of the examples, at random; all without a number."""
    if examples is None:
        return part
    if examples > len(part.x):
        raise ValueError(f"--examples is {examples}, but there are only {len(part.x)} training examples")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(part.x))[:examples])
    return part._replace(x=part.x[chosen], y=part.y[chosen])


def _stage(
    config: SearchConfig,
    about: Description,
    train: Examples,
    validation: Examples,
    scale: Callable[[Any], Array] | None,
    objective: Objective,
    epochs: int,
) -> Callable[..., PyTree]:
    """Some epochs of one trial's training, as `random_search` takes it with halving."""

    def stage(settings: dict[str, Any], key: PRNGKeyArray, state: Any) -> tuple[Any, dict[str, Array]]:
        trial = resolve_trial(config, settings, len(train[0]))
        model = build_model(trial, about.outputs)
        model = model if config.compute_dtype is None else mixed_precision(model, config.compute_dtype)
        optimizer = build_optimizer(trial, len(train[0]))
        decay = cast(Scalar, trial.weight_decay)
        has_penalty = not decouples(trial) and not (is_concrete(decay) and decay == 0)

        def one_epoch(state: Any, _: None) -> tuple[Any, Array]:
            state, losses = train_epoch(
                model,
                objective.loss,
                optimizer,
                state,
                train,
                batch_size=cast(int, trial.batch_size),
                sampling=cast(Sampling, trial.sampling),
                penalty=l2_penalty(decay) if has_penalty else None,
                preprocess=scale,
            )
            return state, losses.mean()

        state = init_state(model, optimizer, about.shape, key) if state is None else state
        state, losses = jax.lax.scan(one_epoch, state, length=epochs)
        metrics = {objective.metric_name: objective.metric, "loss": objective.loss}
        measured = evaluate(model, state.params, state.model_state, validation, metrics, preprocess=scale)
        return state, {"training_loss": losses[-1], **{f"validation_{name}": value for name, value in measured.items()}}

    return stage


def _facts(result: SearchResult, metric: str) -> list[str]:
    """What each round showed."""
    lines = []
    values = result.trials.score(metric)[:, 0]
    for number in range(int(result.round.max()) + 1):
        of_round = values[result.round == number]
        good = of_round[np.isfinite(of_round)]
        bad = int(result.trials.diverged[result.round == number].sum())
        line = f"round {number + 1}: {metric.replace('_', ' ')} "
        line += f"{good.min():.4f} to {good.max():.4f}" if len(good) else "of no trial"
        line += f", {bad} of {len(of_round)} diverged" if bad else ""
        if number + 1 < len(result.spaces):
            ranges = "; ".join(
                f"{name.replace('_', ' ')} {values}" for name, values in result.spaces[number + 1].items()
            )
            line += f"; the best: {ranges}"
        lines.append(line.replace(", logarithmic", ""))
    settings = ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in result.best.config.items())
    lines.append(f"best    {metric.replace('_', ' ')} {result.best.value:.4f}: {settings}")
    return lines


def _write(folder: Path, config: SearchConfig, result: SearchResult, metric: str, facts: list[str]) -> None:
    """Write all files of a search into its folder, the figure last."""
    trials = result.trials
    more = {"round": result.round[:, None] + 1, "stages": result.stage[:, None]}
    trials._replace(outcomes={**more, **trials.outcomes}).to_csv(folder / "trials.csv")
    write_json(
        folder / "config.json",
        {
            "config": settings_of(config),
            "ranges": [{name: str(values) for name, values in space.items()} for space in result.spaces],
            "best": {"settings": result.best.config, metric: result.best.value},
            "compile_seconds": trials.compile_seconds,
            "run_seconds": trials.run_seconds,
        },
    )
    (folder / "summary.txt").write_text("\n".join(map(printable, facts)) + "\n", encoding="utf-8")
    figure = folder / "search.png"
    try:
        save_figure(plot_search(result, metric, f"{config.model} on {data.name_of(config.dataset)}"), figure)
    except Exception as error:  # whatever it is, the search has been done
        figure.unlink(missing_ok=True)
        complain(f"search.png could not be drawn ({str(error) or type(error).__name__}); all else is saved")


def _next_command(config: SearchConfig, result: SearchResult) -> str:
    """Train with the best settings, and all others that were given."""
    words = ["jaxnn", "train"]
    for field in fields(TrainConfig):
        value = result.best.config.get(field.name, getattr(config, field.name))
        if value == field.default or field.name in ("epochs", "out", "debug", *PLACE):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        texts = [str(part) for part in (value if isinstance(value, tuple) else (value,))]
        words += [f"{flag}={texts[0]}"] if texts[0].startswith("-") else [flag, *texts]
    return shlex.join(words)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
