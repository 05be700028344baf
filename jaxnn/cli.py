"""The `jaxnn` command."""

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxnn import check_command, data, runner
from jaxnn._checks import check_choice
from jaxnn.activations import softmax
from jaxnn.check_command import CheckGradientsConfig
from jaxnn.checkpoint import load_weights, save_weights
from jaxnn.config import TrainConfig, build_optimizer, check_names, decouples, resolve
from jaxnn.data.images import read_image, to_example
from jaxnn.evaluation import evaluate
from jaxnn.layers import Layer, ModelState, Params
from jaxnn.losses import l2_penalty, softmax_cross_entropy
from jaxnn.metrics import accuracy
from jaxnn.plotting import plot_history, save_figure
from jaxnn.presets import PRESETS, build_model
from jaxnn.progress import EpochProgress, format_seconds
from jaxnn.run_folder import WEIGHTS, create, read_config, write_config, write_metrics
from jaxnn.sampling import Sampling

__all__ = ["main"]

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained network on data that it was not trained on."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of a run that jaxnn train made."""
    split: Literal["test", "validation", "train"] = "test"
    """Which part of the data set to measure on."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the run's)")] = None
    """Folder that holds the data set's files."""
    debug: bool = False
    """Show the whole traceback of an error."""


@dataclass(frozen=True)
class PredictConfig:
    """Let a trained network name what is drawn in picture files."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of a run that jaxnn train made."""
    images: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IMAGE ...")]]
    """PNG or JPEG files. Of drawings, one digit each, dark on light or light on dark: each is scaled and centred as
    the training data is. Of photos the square in the middle counts."""
    debug: bool = False
    """Show the whole traceback of an error."""


@dataclass(frozen=True)
class ModelsConfig:
    """List the networks that jaxnn train knows, with the settings each one starts from."""

    debug: bool = False
    """Show the whole traceback of an error."""


@dataclass(frozen=True)
class DataConfig:
    """List the data sets that jaxnn train knows, and where each one would come from."""

    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder to look in. Without it: $JAXNN_DATA and the cache."""
    debug: bool = False
    """Show the whole traceback of an error."""


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "models": ModelsConfig,
    "data": DataConfig,
    "check-gradients": CheckGradientsConfig,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0: done · 1: the run failed · 2: bad usage or bad input · 130: Ctrl-C. Errors are one line on stderr.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    debug = "--debug" in arguments
    try:
        config = _parse(arguments)
        return _run(config, console)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C; nothing was saved")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left, as `head` does; point stdout away so that closing it stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        _complain(str(error) or type(error).__name__)
        return BAD_INPUT if isinstance(error, ValueError | TypeError | OSError) else FAILED


def entry() -> None:
    """The console script: `main`, then out at once.

    After Ctrl-C, XLA may still be busy with an epoch that nobody waits for, and a normal exit would wait for it;
    and where all is done, taking JAX apart in order would cost another quarter of a second.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII alone still gets its line
    # One device trains while the other measures the epoch before.
    jax.config.update("jax_num_cpu_devices", min(2, os.cpu_count() or 1))
    sys.unraisablehook = _hear_lost_interrupts
    status = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _hear_lost_interrupts(lost: "sys.UnraisableHookArgs") -> None:
    """Send Ctrl-C again where it fell into a callback, such as JAX's at each garbage collection: there it is lost."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # From a thread and a moment later: raised in here, it would be lost too.
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _parse(arguments: list[str]) -> Any:
    if not arguments:
        arguments = ["--help"]
    if not arguments[0].startswith("-"):
        check_choice("command", arguments[0], list(COMMANDS))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="jaxnn",
                description="Deep learning from scratch, compiled. Start with: jaxnn train",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            command = " ".join(["jaxnn", *(word for word in arguments[:1] if word in COMMANDS)])
            _complain(f"{_one_line(complaint.getvalue())} (see {command} --help)")
        raise


def _one_line(box: str) -> str:
    """The sentence in the box that the parser draws around its complaint."""
    rows = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    rules = [number for number, row in enumerate(rows) if set(row) == {"─"}]
    sentence = " ".join(rows[: rules[0]] if rules else rows).strip()
    sentence = sentence.split(" Got errors:")[0].replace("{None}|", "").rstrip(".")
    meant = re.search(r"Perhaps you meant:\s+(--[\w-]+)", " ".join(rows))
    return f"{sentence}; did you mean {meant[1]}?" if meant else sentence


def _complain(sentence: str) -> None:
    print(f"jaxnn: {' '.join(sentence.split())}", file=sys.stderr)


def _run(config: Any, console: Console) -> int:
    match config:
        case TrainConfig():
            return _train(config, console)
        case EvaluateConfig():
            return _evaluate(config, console)
        case PredictConfig():
            return _predict(config, console)
        case ModelsConfig():
            return _models(console)
        case DataConfig():
            return _data(config, console)
        case CheckGradientsConfig():
            return 0 if check_command.run(config, console) else FAILED
    raise AssertionError(config)


def _train(config: TrainConfig, console: Console) -> int:
    check_names(config)
    source = data.find(config.dataset)
    label = f"{source.name}-{config.model}"
    with create(config.out, label) as folder:
        splits = data.load(config.dataset, config.data_dir)
        config = resolve(config, len(splits.train.x))
        assert config.epochs is not None and config.batch_size is not None
        model = build_model(config, len(source.classes))
        scale = data.min_max(splits.train.x, axis=None)
        weights = jax.eval_shape(lambda key: model.init(key, source.shape)[0], jax.random.key(0))
        parameters = sum(leaf.size for leaf in jax.tree.leaves(weights))
        sizes = " / ".join(f"{len(part.x):,}" for part in splits)
        console.print(f"data    {source.name}: {source.title}; {sizes} for training / validation / test")
        console.print(f"model   {config.model}: {_describe_model(config)}, {parameters:,} parameters")
        console.print(
            f"method  {_describe_method(config)}, {config.epochs} epochs of "
            f"{len(splits.train.x) // config.batch_size} steps, batches of {config.batch_size}; "
            f"device {jax.devices()[0].platform}"
        )
        # Its import takes as long as drawing: done while XLA compiles, it costs nothing.
        threading.Thread(target=importlib.import_module, args=("matplotlib.figure",), daemon=True).start()
        with EpochProgress(config.epochs, console) as progress:
            result = runner.train(
                model,
                softmax_cross_entropy,
                build_optimizer(config, len(splits.train.x)),
                splits.train,
                key=jax.random.key(config.seed),
                epochs=config.epochs,
                batch_size=config.batch_size,
                validation=splits.validation,
                metrics={"accuracy": accuracy},
                penalty=l2_penalty(config.weight_decay) if config.weight_decay and not decouples(config) else None,
                sampling=cast(Sampling, config.sampling),
                preprocess=scale,
                report=progress,
            )
        with _undisturbed():
            # After Ctrl-C the device may still be busy with an epoch: measuring would wait for it.
            test_accuracy = None
            if not result.interrupted:
                test_accuracy = _accuracy(model, result.params, result.model_state, splits.test, scale)
            facts = [
                f"data: {source.name}, {sizes} examples for training / validation / test",
                f"model: {config.model}, {_describe_model(config)}, {parameters:,} parameters",
                f"optimizer: {_describe_method(config)}",
            ]
            _write_run(folder.aside, config, result, scale, facts, test_accuracy)
            run = folder.finish()

    if test_accuracy is None:
        _complain(
            f"stopped by Ctrl-C after epoch {result.epochs} of {config.epochs}; the network as it was then is saved "
            f"in {run} (measure it with jaxnn evaluate {run})"
        )
        return INTERRUPTED
    console.print(
        f"time    {format_seconds(result.compile_seconds)} to compile, {format_seconds(result.run_seconds)} to train"
    )
    console.print(f"test accuracy: {test_accuracy:.4f} on {len(splits.test.x):,} images it has never seen")
    console.print(f"saved   {run}: weights, settings, metrics.csv, curves.png, summary.txt")
    console.print("next    " + "\n        ".join(_next_steps(config, source, run)))
    return 0


def _write_run(
    folder: Path,
    config: TrainConfig,
    result: runner.RunResult,
    scale: data.MinMax,
    facts: list[str],
    test_accuracy: float | None,
) -> None:
    """Write all files of a run into its folder."""
    learned = {"params": result.params, "model_state": result.model_state, "preprocess": scale}
    save_weights(folder / WEIGHTS, learned)
    write_config(
        folder,
        config,
        epochs_finished=result.epochs,
        test_accuracy=test_accuracy,
        compile_seconds=result.compile_seconds,
        run_seconds=result.run_seconds,
    )
    write_metrics(folder, result.history)
    save_figure(plot_history(result.history, f"{config.model} on {config.dataset}"), folder / "curves.png")
    summary = [
        *facts,
        f"epochs: {result.epochs} of {config.epochs}{', stopped by Ctrl-C' if result.interrupted else ''}",
        f"seconds: {result.compile_seconds:.2f} to compile, {result.run_seconds:.2f} to train",
        f"training accuracy: {result.history.train['accuracy'][-1]:.4f}",
        f"validation accuracy: {result.history.validation['accuracy'][-1]:.4f}",
        "test accuracy: " + ("not measured; jaxnn evaluate does" if test_accuracy is None else f"{test_accuracy:.4f}"),
    ]
    (folder / "summary.txt").write_text("\n".join(summary) + "\n")


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


def _next_steps(config: TrainConfig, source: data.Source, run: Path) -> list[str]:
    yours = "name a photo" if source.colour else "read a digit"
    steps = [f"jaxnn predict {run} PICTURE.png    let it {yours} of yours"]
    if source.name == "digits":
        steps.append("jaxnn train --dataset mnist    larger pictures, 70,000 of them")
    if config.model != "two-layer-net":
        steps.append("jaxnn train --model two-layer-net    the textbook's first network")
    steps.append("jaxnn train --help    every setting")
    return steps


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


def _accuracy(model: Layer, params: Params, model_state: ModelState, part: data.Dataset, scale: data.MinMax) -> float:
    measure = jax.jit(lambda params, state, part: evaluate(model, params, state, part, preprocess=scale))
    return float(measure(params, model_state, part)["accuracy"])


class _Trained(NamedTuple):
    """A network that a run has left behind."""

    config: TrainConfig
    source: data.Source
    model: Layer
    params: Params
    model_state: ModelState
    scale: data.MinMax


def _load_run(run: Path) -> _Trained:
    config = read_config(run)
    source = data.find(config.dataset)
    model = build_model(config, len(source.classes))
    params, model_state = jax.eval_shape(lambda key: model.init(key, source.shape)[:2], jax.random.key(0))
    number = np.zeros((), np.float32)
    like = {"params": params, "model_state": model_state, "preprocess": data.MinMax(number, number)}
    weights = load_weights(run / WEIGHTS, like)
    return _Trained(config, source, model, weights["params"], weights["model_state"], weights["preprocess"])


def _evaluate(config: EvaluateConfig, console: Console) -> int:
    trained = _load_run(config.run)
    splits = data.load(trained.config.dataset, config.data_dir or trained.config.data_dir)
    part: data.Dataset = getattr(splits, config.split)
    measured = _accuracy(trained.model, trained.params, trained.model_state, part, trained.scale)
    console.print(f"{config.split} accuracy: {measured:.4f} on {len(part.x):,} images of {trained.source.name}")
    return 0


def _predict(config: PredictConfig, console: Console) -> int:
    if not config.images:
        raise ValueError("name at least one picture, such as digit.png")
    trained = _load_run(config.run)
    examples = []
    for path in config.images:
        try:
            examples.append(to_example(read_image(path, colour=trained.source.colour), trained.source))
        except data.DataError as error:
            raise data.DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    logits, _ = trained.model.apply(trained.params, trained.model_state, trained.scale(np.stack(examples)))
    for path, probabilities in zip(config.images, np.asarray(softmax(logits)), strict=True):
        order = np.argsort(-probabilities)
        figures = "  ".join(f"{trained.source.classes[k]} {probabilities[k]:.3f}" for k in order)
        console.print(f"{path}: {trained.source.classes[order[0]]}   {figures}")
    return 0


def _models(console: Console) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "what it is", "starts from"):
        table.add_column(heading)
    for name, preset in PRESETS.items():
        settings = [f"--{flag.replace('_', '-')} {_flag_value(value)}" for flag, value in preset.settings.items()]
        settings += [
            f"--optimizer {preset.optimizer}",
            f"--learning-rate {preset.learning_rate:g}",
            f"--batch-size {preset.batch_size}",
            f"--sampling {preset.sampling}",
            f"--schedule {preset.schedule}",
            f"--epochs {preset.epochs}" if preset.epochs else f"{preset.steps:,} steps",
        ]
        table.add_row(name, preset.description, "\n".join(settings))
    Console(highlight=False, markup=False).print(table)
    return 0


def _flag_value(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _data(config: DataConfig, console: Console) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("data set", "what it is", "classes", "where"):
        table.add_column(heading, overflow="fold")  # a path cut off helps nobody
    for source in data.sources():
        folder = data.where(source, config.data_dir)
        where = "built in" if not source.files else str(folder) if folder else "not here: downloaded at first use"
        table.add_row(source.name, source.title, ", ".join(source.classes), where)
    Console(highlight=False, markup=False).print(table)
    return 0


if __name__ == "__main__":
    entry()
