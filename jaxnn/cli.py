"""The `jaxnn` command."""

import contextlib
import difflib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from jaxnn import (
    check_command,
    completion_command,
    data,
    data_command,
    diff_command,
    doctor_command,
    export_command,
    hosts,
    search_command,
    train_command,
)
from jaxnn._checks import check_choice
from jaxnn.check_command import CheckGradientsConfig
from jaxnn.compilation_cache import cache_folder, keep_compiled
from jaxnn.completion_command import CompletionConfig
from jaxnn.config import OPTIMIZERS, TrainConfig
from jaxnn.data_command import DataConfig
from jaxnn.diff_command import DiffConfig
from jaxnn.doctor_command import DoctorConfig
from jaxnn.export_command import ExportConfig
from jaxnn.interrupts import Terminated, terminate
from jaxnn.presets import PRESETS
from jaxnn.run_folder import read_config
from jaxnn.search_options import SearchConfig
from jaxnn.terminal import BAD_INPUT, FAILED, INTERRUPTED, TERMINATED, complain, print_json, sentence_of
from jaxnn.train_options import TrainOptions, earlier, options_of
from jaxnn.trained_commands import EvaluateConfig, PredictConfig, run_evaluate, run_predict
from jaxnn.versions import available_cores, describe_devices, versions

__all__ = ["main"]


@dataclass(frozen=True)
class ModelsConfig:
    """List the networks that jaxnn train knows, with the settings each one starts from."""

    json: bool = False
    """Print it in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainOptions,
    "search": SearchConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "diff": DiffConfig,
    "models": ModelsConfig,
    "data": DataConfig,
    "check-gradients": CheckGradientsConfig,
    "doctor": DoctorConfig,
    "completion": CompletionConfig,
}


def main(arguments: Sequence[str] | None = None, *, compiled: Path | None = None) -> int:
    """Run the command and return its exit status.

    0: done · 1: the run failed · 2: bad usage or bad input · 130: Ctrl-C · 143: SIGTERM. Errors are one line on stderr.
    Programs are kept compiled in the folder `compiled`, if there is one.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        if arguments == ["--version"]:
            return _version()
        config = _parse(arguments)
        if compiled is not None and _may_keep(config):
            keep_compiled(compiled)
        # What a program reads is alone on stdout.
        console = Console(stderr=getattr(config, "json", False), highlight=False, soft_wrap=True, markup=False)
        try:
            return _run(config, console)
        except BaseException:
            hosts.parting()  # one sentence: this one's own
            raise
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        is_terminated = isinstance(stop, Terminated)
        complain(f"stopped by {'SIGTERM' if is_terminated else 'Ctrl-C'}; nothing was saved")
        return TERMINATED if is_terminated else INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left, as `head` does; point stdout away so that closing it stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        complain(sentence_of(error))
        return BAD_INPUT if isinstance(error, ValueError | TypeError | OSError) else FAILED


def entry() -> None:
    """The console script: `main`, then out at once.

    After Ctrl-C, XLA may still be busy with an epoch that nobody waits for, and a normal exit would wait for it;
    and where all is done, taking JAX apart in order would cost another quarter of a second.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII alone still gets its line
    # A device for each core that this process may use: one trains while another measures the epoch before.
    jax.config.update("jax_num_cpu_devices", available_cores())
    sys.unraisablehook = _hear_lost_interrupts
    signal.signal(signal.SIGTERM, terminate)
    status = main(compiled=cache_folder())
    try:
        hosts.leave(failed=status != 0)
    except KeyboardInterrupt:
        status = status or INTERRUPTED
    lost = hosts.lost()
    if status == 0 and lost is not None and jax.process_index() != 0:  # process 0 has saved what there is
        complain(str(lost))
        status = FAILED
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
            config = tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="jaxnn",
                description="Deep learning from scratch, compiled. Start with: jaxnn train (versions: jaxnn --version)",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            run = earlier(config) if isinstance(config, TrainOptions) else None
            if run is None:
                return config
            # What is not given is as that run had it.
            default = options_of(read_config(run))
            flags = (tyro.conf.FlagCreatePairsOff,)
            return tyro.cli(TrainOptions, default=default, args=arguments[1:], prog="jaxnn train", config=flags)
    except SystemExit as stop:
        if stop.code:
            command = " ".join(["jaxnn", *(word for word in arguments[:1] if word in COMMANDS)])
            complain(f"{_one_line(complaint.getvalue())} (see {command} --help)")
        raise


def _one_line(box: str) -> str:
    """The sentence in the box that the parser draws around its complaint, with lines or, for ASCII, with dashes."""
    rows = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]  # the first is a title
    text = "\n".join("" if set(row) <= {"─", "-"} else row for row in rows)
    sentence = " ".join(text.strip().split("\n\n")[0].split("\n"))
    sentence = sentence.split(" Got errors:")[0].replace("{None}|", "").rstrip(".")
    meant = re.search(r"Perhaps you meant:\s+(--[\w-]+)", " ".join(rows))
    stray = re.fullmatch(r"Unrecognized options: (\S+)", sentence)
    nearest = meant[1] if meant else _flag_for(stray[1]) if stray else None
    return f"{sentence}; did you mean {nearest}?" if nearest else sentence


def _flag_for(word: str) -> str | None:
    """The option that a stray word is a value of, or is near to."""
    if word in PRESETS:
        return f"--model {word}"
    if data.by_name(word) is not None or Path(word).exists():
        return f"--dataset {word}"
    if word in OPTIMIZERS:
        return f"--optimizer {word}"
    near = difflib.get_close_matches(word, ["--version", "--help"], n=1)
    return near[0] if near else None


def _run(config: Any, console: Console) -> int:
    match config:
        case SearchConfig():
            return search_command.run(config, console)
        case TrainOptions():
            return train_command.run(config, console)
        case EvaluateConfig():
            return run_evaluate(config, console)
        case PredictConfig():
            return run_predict(config, console)
        case ExportConfig():
            return export_command.run(config, console)
        case DiffConfig():
            return diff_command.run(config, console)
        case ModelsConfig():
            return _models(config.json)
        case DataConfig():
            return data_command.run(config, console)
        case CheckGradientsConfig():
            return 0 if check_command.run(config, console) else FAILED
        case DoctorConfig():
            return doctor_command.run(config, console)
        case CompletionConfig():
            return completion_command.run(config, COMMANDS)
    raise AssertionError(config)


def _may_keep(config: Any) -> bool:
    """Whether a command compiles programs that are worth keeping."""
    if isinstance(config, TrainConfig):
        # What several processes compile is in part for devices of others; and they meet before JAX looks at its own.
        return not (config.no_compilation_cache or config.coordinator)
    return isinstance(config, EvaluateConfig | PredictConfig | CheckGradientsConfig | DoctorConfig)


def _version() -> int:
    """Print what a report of a fault should begin with."""
    kinds = Counter(describe_devices())
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print("devices " + ", ".join(f"{count} of {kind}" for kind, count in kinds.items()))
    return 0


def _models(is_json: bool) -> int:
    if is_json:
        print_json({name: {n: v for n, v in vars(preset).items() if n != "build"} for name, preset in PRESETS.items()})
        return 0
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


if __name__ == "__main__":
    entry()
