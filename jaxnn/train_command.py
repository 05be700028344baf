"""`jaxnn train`: from data to a run folder."""

import contextlib
import hashlib
import importlib
import shlex
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from rich.console import Console

from jaxnn import data, hosts, runner
from jaxnn.config import TrainConfig, build_optimizer, check_names, decouples, resolve
from jaxnn.data._files import printable
from jaxnn.data.description import Description
from jaxnn.data_options import as_arguments, check_scaling, choose_scaling, fit_scaling, load_data
from jaxnn.losses import l2_penalty
from jaxnn.plotting import plot_history, save_figure
from jaxnn.presets import build_model
from jaxnn.progress import EpochProgress, format_seconds
from jaxnn.run_folder import create, data_digest, write_config, write_metrics
from jaxnn.sampling import Sampling
from jaxnn.sharding import data_parallel, number_of_parts
from jaxnn.terminal import FAILED, INTERRUPTED, complain
from jaxnn.trained import Trained, measure, save_trained

__all__ = ["check_alike", "check_data", "describe_targets", "devices_of", "join", "run"]


def run(config: TrainConfig, console: Console) -> int:
    """Train, write the run folder, and return the exit status."""
    check_names(config)
    writes, console = join(config, console)
    batch_sharding = _batch_sharding(config)
    label = f"{data.name_of(config.dataset)}-{config.model}"
    with create(config.out, label) if writes else contextlib.nullcontext() as folder:
        splits, about = load_data(config.dataset, config)
        check_scaling(config.scaling, np.asarray(splits.train.x), config.dataset)
        check_data(config, splits, about, console)
        is_path = data.by_name(config.dataset) is None
        dataset = str(Path(config.dataset).expanduser().absolute()) if is_path else config.dataset
        scaling = config.scaling or choose_scaling(np.asarray(splits.train.x), about)
        devices = number_of_parts(batch_sharding)
        if devices > len(splits.train.x):
            raise ValueError(
                f"{devices} devices cannot share batches of {len(splits.train.x)} training examples; "
                "use fewer --devices"
            )
        config = resolve(replace(config, dataset=dataset, scaling=scaling), len(splits.train.x), devices)
        assert config.epochs is not None and config.batch_size is not None
        model = build_model(config, about.outputs)
        params, model_state = jax.eval_shape(lambda key: model.init(key, about.shape)[:2], jax.random.key(0))
        trained = Trained(
            about,
            model,
            params,
            model_state,
            scale=fit_scaling(scaling, np.asarray(splits.train.x)),
            targets=data.standardize(splits.train.y) if about.targets else None,
        )
        objective = trained.objective
        parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        sizes = " / ".join(f"{len(part.x):,}" for part in splits)
        console.print(
            f"data    {printable(about.name)}: {about.title}, {describe_targets(about)}; "
            f"{sizes} for training / validation / test"
        )
        console.print(f"model   {config.model}: {_describe_model(config)}, {parameters:,} parameters")
        console.print(
            f"method  {_describe_method(config)}, scaling {scaling}, {config.epochs} epochs of "
            f"{len(splits.train.x) // config.batch_size} steps, batches of {config.batch_size}; "
            f"{_describe_devices(devices)}"
        )
        digest = data_digest(splits)
        if config.coordinator is not None:
            check_alike(config, digest)
        # Its import takes as long as drawing: done while XLA compiles, it costs nothing.
        threading.Thread(target=importlib.import_module, args=("matplotlib.figure",), daemon=True).start()
        with EpochProgress(config.epochs, console) as progress:
            result = runner.train(
                model,
                objective.loss,
                build_optimizer(config, len(splits.train.x)),
                trained.scaled(splits.train),
                key=jax.random.key(config.seed),
                epochs=config.epochs,
                batch_size=config.batch_size,
                validation=trained.scaled(splits.validation),
                metrics={objective.metric_name: objective.metric},
                penalty=l2_penalty(config.weight_decay) if config.weight_decay and not decouples(config) else None,
                sampling=cast(Sampling, config.sampling),
                preprocess=trained.scale,
                batch_sharding=batch_sharding,
                report=progress,
            )
        lost = hosts.lost()
        if folder is None:
            if lost is not None:
                raise lost
            return INTERRUPTED if result.interrupted else 0
        with _undisturbed():
            trained = trained._replace(params=result.params, model_state=result.model_state)
            # After Ctrl-C the device may still be busy with an epoch: measuring would wait for it.
            on_test = None if result.interrupted else measure(trained, splits.test)
            facts = [
                f"data: {about.name}, {sizes} examples for training / validation / test",
                f"model: {config.model}, {_describe_model(config)}, {parameters:,} parameters",
                f"optimizer: {_describe_method(config)}",
            ]
            _write_run(folder.aside, config, trained, result, facts, on_test, digest)
            final = folder.finish()

    if lost is not None:
        complain(
            f"{lost}; the network as it was after epoch {result.epochs} of {config.epochs} is saved in {final} "
            f"(measure it with jaxnn evaluate {final})"
        )
        return FAILED
    if on_test is None:
        complain(
            f"stopped by Ctrl-C after epoch {result.epochs} of {config.epochs}; the network as it was then is saved "
            f"in {final} (measure it with jaxnn evaluate {final})"
        )
        return INTERRUPTED
    console.print(
        f"time    {format_seconds(result.compile_seconds)} to compile, {format_seconds(result.run_seconds)} to train"
    )
    console.print(_verdict(trained, on_test, splits))
    written = [name for name in ("metrics.csv", "curves.png", "summary.txt") if (final / name).exists()]
    console.print(f"saved   {printable(final)}: weights, settings, {', '.join(written)}")
    console.print("next    " + "\n        ".join(map(printable, _next_steps(config, about, final))))
    return 0


def join(config: TrainConfig, console: Console) -> tuple[bool, Console]:
    """Join the other processes, if there are any; whether this one writes, and what it prints to."""
    if config.coordinator is None:
        return True, console
    hosts.quiet_libraries(errors=not config.debug)
    hosts.start(config.coordinator, config.processes, config.process_id)
    with hosts.waiting():  # until all know each other's devices
        writes = jax.process_index() == 0
    return writes, console if writes else Console(quiet=True)


def devices_of(config: TrainConfig) -> list[jax.Device]:
    """Those that `--devices` names; all without it."""
    devices = jax.devices()
    if config.devices is None or config.devices == "all":
        return devices
    if int(config.devices) > len(devices):
        raise ValueError(f"--devices is {config.devices}, but there are only {len(devices)} ({devices[0].platform})")
    return devices[: int(config.devices)]


def _batch_sharding(config: TrainConfig) -> NamedSharding | None:
    if config.devices is None and config.coordinator is None:
        return None
    return data_parallel(devices_of(config))


def check_alike(config: TrainConfig, digest: str) -> None:
    """Refuse to train with processes that have other data or settings."""
    settings = replace(config, process_id=None, out=None, data_dir=None, dataset="", debug=False)
    ours = hashlib.sha256(f"{settings} {digest}".encode()).digest()
    everybodys = hosts.call(multihost_utils.process_allgather, np.frombuffer(ours, np.uint8))
    for number, theirs in enumerate(everybodys):
        if not np.array_equal(theirs, everybodys[0]):
            raise ValueError(f"process {number} has other data or settings than process 0")


def check_data(config: TrainConfig, splits: data.Splits, about: Description, console: Console) -> None:
    """Stop at what makes training wrong, and say once what looks odd."""
    report = data.validate(splits, classes=about.classes or None, columns=about.columns)
    try:
        report.raise_for_errors()
    except data.DataError as error:
        command = shlex.join(["jaxnn", "data", "check", config.dataset, *as_arguments(config)])
        raise data.DataError(f"{config.dataset}: {error}; {command} shows all") from None
    for finding in report.warnings:
        console.print(f"check   {finding}")


def _verdict(trained: Trained, on_test: float, splits: data.Splits) -> str:
    count = f"{len(splits.test.x):,}"
    if trained.targets is None:
        what = "images" if trained.about.brightest else "examples"
        return f"test accuracy: {on_test:.4f} on {count} {what} it has never seen"
    guess = np.abs(splits.test.y - np.mean(splits.train.y, axis=0, dtype=np.float64)).mean()
    return (
        f"test mean absolute error: {on_test:.4g} on {count} examples it has never seen; "
        f"always guessing the mean: {guess:.4g}"
    )


def _write_run(
    folder: Path,
    config: TrainConfig,
    trained: Trained,
    result: runner.RunResult,
    facts: list[str],
    on_test: float | None,
    digest: str,
) -> None:
    """Write all files of a run into its folder, the figure last: a run is worth more than its picture."""
    metric = trained.objective.metric_name
    words = metric.replace("_", " ")
    stopped = ", stopped by Ctrl-C" if hosts.lost() is None else ", stopped by the loss of a process"
    save_trained(folder, trained)
    write_config(
        folder,
        config,
        trained.about,
        digest,
        epochs_finished=result.epochs,
        **{f"test_{metric}": on_test},
        compile_seconds=result.compile_seconds,
        run_seconds=result.run_seconds,
    )
    write_metrics(folder, result.history)
    summary = [
        *facts,
        f"epochs: {result.epochs} of {config.epochs}{stopped if result.interrupted else ''}",
        f"seconds: {result.compile_seconds:.2f} to compile, {result.run_seconds:.2f} to train",
        f"training {words}: {result.history.train[metric][-1]:.4f}",
        f"validation {words}: {result.history.validation[metric][-1]:.4f}",
        f"test {words}: " + ("not measured; jaxnn evaluate does" if on_test is None else f"{on_test:.4f}"),
    ]
    # A file's name may hold what has no form in UTF-8.
    (folder / "summary.txt").write_text("\n".join(map(printable, summary)) + "\n", encoding="utf-8")
    curves = folder / "curves.png"
    try:
        save_figure(plot_history(result.history, f"{config.model} on {trained.about.name}"), curves)
    except Exception as error:  # whatever it is, the network has been trained
        curves.unlink(missing_ok=True)
        complain(f"curves.png could not be drawn ({str(error) or type(error).__name__}); all else of the run is saved")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no Ctrl-C into the fraction of a second in which a run is measured and written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _next_steps(config: TrainConfig, about: Description, folder: Path) -> list[str]:
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


def _describe_devices(shared_by: int) -> str:
    device = f"device {jax.devices()[0].platform}"
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return device if shared_by == 1 else f"{device}, {shared_by}{hosts}"


def _describe_model(config: TrainConfig) -> str:
    words = []
    if config.filters is not None:
        words.append(f"{'-'.join(map(str, config.filters))} filters of {config.filter_size}x{config.filter_size}")
    if config.hidden_sizes is not None:
        words.append(f"{'-'.join(map(str, config.hidden_sizes)) or 'no'} hidden units")
    words.append(str(config.activation))
    words += ["batch norm"] if config.batch_norm else []
    words += [f"dropout {config.dropout:g}"] if config.dropout else []
    return ", ".join(words)


def _describe_method(config: TrainConfig) -> str:
    schedule = "" if config.schedule == "constant" else f" ({config.schedule})"
    return f"{config.optimizer}, learning rate {config.learning_rate:g}{schedule}"
