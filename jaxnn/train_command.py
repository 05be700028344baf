"""`jaxnn train`: from data to a run folder."""

import contextlib
import dataclasses
import hashlib
import importlib
import shlex
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from rich.console import Console

from jaxnn import data, hosts, runner
from jaxnn.checkpoint_folder import Checkpoints, check_free, checkpoints_in
from jaxnn.config import TrainConfig, build_optimizer, check_names, decouples, resolve
from jaxnn.data._files import printable
from jaxnn.data.description import Description
from jaxnn.data_options import as_arguments, check_scaling, choose_scaling, fit_scaling, load_data
from jaxnn.host_loop import EpochReport, OnDivergence
from jaxnn.interrupts import Terminated, noted_interrupts
from jaxnn.losses import l2_penalty
from jaxnn.presets import build_model
from jaxnn.progress import EpochProgress, format_seconds
from jaxnn.run_folder import (
    CHECKPOINTS,
    MetricsLog,
    RunConfig,
    create,
    data_digest,
    read_config,
    settings_of,
    write_config,
)
from jaxnn.run_report import (
    describe_data,
    describe_method,
    describe_model,
    describe_targets,
    next_steps,
    verdict,
    write_results,
)
from jaxnn.sampling import Sampling
from jaxnn.sharding import data_parallel, number_of_parts
from jaxnn.terminal import FAILED, INTERRUPTED, TERMINATED, complain, print_json, sentence_of
from jaxnn.train_options import KEPT, TrainOptions, check_options, earlier, goes_on_with
from jaxnn.trained import Trained, measure
from jaxnn.training import Penalty

__all__ = ["check_alike", "check_data", "devices_of", "join", "run"]


class _Job(NamedTuple):
    """All that a run begins with."""

    config: TrainConfig  # resolved
    splits: data.Splits
    trained: Trained  # not yet: its shapes, and what was fitted to the data
    digest: str

    @property
    def steps(self) -> int:
        """Of an epoch."""
        assert self.config.batch_size is not None
        return len(self.splits.train.x) // self.config.batch_size


def run(config: TrainOptions, console: Console) -> int:
    """Train, write the run folder, and return the exit status."""
    check_names(config)
    check_options(config)
    writes, console = join(config, console)
    batch_sharding = _batch_sharding(config)
    before = earlier(config)
    began = None if before is None else read_config(before)
    if began is not None and config.resume is not None:
        goes_on_with(config, began.config, config.resume)
    label = f"{data.name_of(config.dataset)}-{config.model}"
    with create(config.out, label) if writes and config.resume is None else contextlib.nullcontext() as folder:
        job = _prepare(config, batch_sharding, console)
        if began is not None:
            _check_earlier(config, job, began)
        if config.coordinator is not None:
            check_alike(config, job.digest)
        options = {name: getattr(config, name) for name in KEPT}
        facts = {} if began is None or config.resume is None else began.facts
        name = uuid.uuid4().hex if began is None or config.resume is None else began.run
        kept = RunConfig(job.config, options, job.trained.about, job.digest, name, facts)
        if folder is not None:
            write_config(folder.aside, kept)
            final = folder.finish()
        else:
            final = config.resume or Path()
            if writes:
                write_config(final, kept)
        with _removed_if_nothing_is_saved(final) if folder is not None else contextlib.nullcontext():
            return _train(config, job, kept, final, batch_sharding, writes, console)


def _prepare(config: TrainOptions, batch_sharding: NamedSharding | None, console: Console) -> _Job:
    """Read and check the data, fill in the settings, and say what will be trained."""
    splits, about = load_data(config.dataset, config)
    check_scaling(config.scaling, np.asarray(splits.train.x), config.dataset)
    check_data(config, splits, about, console)
    is_path = data.by_name(config.dataset) is None
    dataset = str(Path(config.dataset).expanduser().absolute()) if is_path else config.dataset
    scaling = config.scaling or choose_scaling(np.asarray(splits.train.x), about)
    devices = number_of_parts(batch_sharding)
    if devices > len(splits.train.x):
        raise ValueError(
            f"{devices} devices cannot share batches of {len(splits.train.x)} training examples; use fewer --devices"
        )
    settings = TrainConfig(**{field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)})
    settings = resolve(replace(settings, dataset=dataset, scaling=scaling), len(splits.train.x), devices)
    model = build_model(settings, about.outputs)
    params, model_state = jax.eval_shape(lambda key: model.init(key, about.shape)[:2], jax.random.key(0))
    trained = Trained(
        about,
        model,
        params,
        model_state,
        scale=fit_scaling(scaling, np.asarray(splits.train.x)),
        targets=data.standardize(splits.train.y) if about.targets else None,
    )
    job = _Job(settings, splits, trained, data_digest(splits))
    console.print(
        f"data    {printable(about.name)}: {about.title}, {describe_targets(about)}; "
        f"{describe_data(splits)} for training / validation / test"
    )
    console.print(f"model   {settings.model}: {describe_model(settings, params)}")
    console.print(
        f"method  {describe_method(settings)}, scaling {scaling}, {settings.epochs} epochs of "
        f"{job.steps} steps, batches of {settings.batch_size}; {_describe_devices(devices)}"
    )
    return job


def _check_earlier(config: TrainOptions, job: _Job, began: RunConfig) -> None:
    """Refuse to go on with other data than a run began with, or to where it has been already."""
    before = earlier(config)
    assert before is not None and job.config.epochs is not None
    changed = f"{printable(job.config.dataset)} is not what {before} was trained on, or has changed since"
    if config.resume is None:
        if job.digest != began.data_sha256 and job.config.dataset == began.config.dataset:
            complain(f"{changed}: this will be another run than that one")
        return
    if job.digest != began.data_sha256:
        raise ValueError(f"{changed}; a run goes on only with the data it began with")
    folder = before / CHECKPOINTS
    saved = checkpoints_in(folder)
    if saved and _step(saved[-1]) > job.config.epochs * job.steps:
        raise ValueError(
            f"--epochs is {job.config.epochs}, but {before} has come to step {_step(saved[-1])} already, in epoch "
            f"{_step(saved[-1]) // job.steps + 1}"
        )
    check_free(folder)


def _train(
    config: TrainOptions,
    job: _Job,
    kept: RunConfig,
    final: Path,
    batch_sharding: NamedSharding | None,
    writes: bool,
    console: Console,
) -> int:
    """Train, from the newest checkpoint if there is one, write what has come of it, and return the exit status."""
    settings, trained, objective = job.config, job.trained, job.trained.objective
    assert settings.epochs is not None and settings.batch_size is not None
    folder = final / CHECKPOINTS
    saved = checkpoints_in(folder)
    if config.resume is not None:
        where = f"after step {_step(saved[-1])}" if saved else "from the beginning: it has no checkpoint"
        console.print(f"resume  {printable(final)}, {where}")
    # Its import takes as long as drawing: done while XLA compiles, it costs nothing.
    threading.Thread(target=importlib.import_module, args=("matplotlib.figure",), daemon=True).start()
    log = MetricsLog(final, job.steps) if writes else None
    go_on = f"jaxnn train --resume {shlex.quote(str(final))}"
    beside = {"preprocess": trained.scale, "targets": trained.targets}
    with EpochProgress(settings.epochs, console) as progress:

        def report(epoch: EpochReport) -> None:
            if log is not None:
                log(epoch)
            progress(epoch)

        try:
            result = runner.train(
                trained.model,
                objective.loss,
                build_optimizer(settings, len(job.splits.train.x)),
                trained.scaled(job.splits.train),
                key=jax.random.key(settings.seed),
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                validation=trained.scaled(job.splits.validation),
                metrics={objective.metric_name: objective.metric},
                penalty=_penalty(settings),
                sampling=cast(Sampling, settings.sampling),
                preprocess=trained.scale,
                compute_dtype=settings.compute_dtype,
                batch_sharding=batch_sharding,
                report=report,
                checkpoints=Checkpoints(
                    folder,
                    seconds=config.checkpoint_seconds,
                    keep=config.keep_checkpoints,
                    best=f"validation/{objective.metric_name}",
                    resume=True,
                    beside={name: part for name, part in beside.items() if part is not None},
                    config={"run": kept.run, **settings_of(settings)},
                ),
                on_divergence=cast(OnDivergence, config.on_divergence),
                debug_nans=config.debug_nans,
                warn=complain,
            )
        except (KeyboardInterrupt, RuntimeError, MemoryError) as error:
            saved = checkpoints_in(folder)
            if not saved or not writes or (config.debug and not isinstance(error, KeyboardInterrupt)):
                raise
            holds = f"{final} holds the run as it was after step {_step(saved[-1])}"
            if isinstance(error, KeyboardInterrupt):
                is_terminated = isinstance(error, Terminated)
                complain(f"stopped at once by {'SIGTERM' if is_terminated else 'Ctrl-C'}; {holds}: go on with {go_on}")
                return TERMINATED if is_terminated else INTERRUPTED
            if isinstance(error, runner.DivergedError) and config.on_divergence == "stop":
                go_on += " --on-divergence restore"
            complain(f"{sentence_of(error)}; {holds}: {go_on} goes on from there")
            return FAILED
    lost = hosts.lost()
    if lost is not None and result.interrupted not in (None, str(lost)):
        lost = None  # all have stopped for a signal, and the other was the first to leave
    if not writes:
        if lost is not None:
            raise lost
        return _status(result.interrupted)
    with noted_interrupts():  # measured and written it is whole
        trained = trained._replace(params=result.params, model_state=result.model_state)
        # After a signal the device may still be busy with a chunk: measuring would wait for it.
        on_test = None if result.interrupted else measure(trained, job.splits.test)
        try:
            write_results(final, kept, trained, result, job.splits, on_test)
        except OSError as error:
            what = printable(error.filename or final)
            remedy = "nothing is saved" if result.saved_step is None else f"{go_on} writes what is missing"
            complain(f"{what}: cannot be written ({error.strerror or error}); {remedy}")
            return FAILED
    if config.json:
        print_json({"run": final, "interrupted": result.interrupted, **read_config(final).facts})
    if result.interrupted:
        why = f"{result.interrupted}; stopped" if lost else f"stopped by {result.interrupted}"
        complain(
            f"{why} after epoch {result.epochs} of "
            f"{settings.epochs}, step {len(result.history.loss)}; "
            + (
                f"all of it is saved in {final}: go on with {go_on}"
                if result.saved_step == len(result.history.loss)
                else f"there is no checkpoint of it, but its weights are in {final}"
            )
        )
        return FAILED if lost else _status(result.interrupted)
    assert on_test is not None
    console.print(
        f"time    {format_seconds(result.compile_seconds)} to compile, {format_seconds(result.run_seconds)} to train"
    )
    console.print(verdict(trained, on_test, job.splits))
    written = ["checkpoints"] if result.saved_step is not None else []
    written += [name for name in ("metrics.csv", "curves.png", "summary.txt") if (final / name).exists()]
    console.print(f"saved   {printable(final)}: weights, settings, {', '.join(written)}")
    steps = next_steps(settings, trained.about, final)
    if config.from_run is not None:
        compare = shlex.join(["jaxnn", "diff", str(config.from_run), str(final)])
        steps.insert(0, f"{compare}    where it parts from that run")
    console.print("next    " + "\n        ".join(map(printable, steps)))
    return 0


def _penalty(config: TrainConfig) -> Penalty | None:
    return l2_penalty(config.weight_decay) if config.weight_decay and not decouples(config) else None


def _status(interrupted: str | None) -> int:
    return 0 if interrupted is None else TERMINATED if interrupted == "SIGTERM" else INTERRUPTED


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.rpartition("-")[2])


@contextlib.contextmanager
def _removed_if_nothing_is_saved(folder: Path) -> Iterator[None]:
    """Leave no folder behind of a run that has ended before its first checkpoint."""
    try:
        yield
    except BaseException:
        # The log has the epochs of a run whose disk was full.
        if not checkpoints_in(folder / CHECKPOINTS) and not (folder / "metrics.csv").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


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
    settings = replace(settings, json=False, no_compilation_cache=False)
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


def _describe_devices(shared_by: int) -> str:
    device = f"device {jax.devices()[0].platform}"
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return device if shared_by == 1 else f"{device}, {shared_by}{hosts}"
