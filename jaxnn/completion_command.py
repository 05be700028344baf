"""`jaxnn completion`: what a shell needs to complete jaxnn's commands, options and names."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from jaxnn import data
from jaxnn.config import CHOICES
from jaxnn.data.loading import Task
from jaxnn.data_options import SCALINGS
from jaxnn.presets import ACTIVATIONS, PRESETS

__all__ = ["CompletionConfig", "run"]


@dataclass(frozen=True)
class CompletionConfig:
    """Print a script that lets a shell complete commands, options and names with the tab key.

    bash: jaxnn completion bash > ~/.local/share/bash-completion/completions/jaxnn. zsh: jaxnn completion zsh > _jaxnn,
    in a folder of $fpath. fish: jaxnn completion fish > ~/.config/fish/completions/jaxnn.fish. The scripts ask python3
    rather than jaxnn, and so are quick.
    """

    shell: tyro.conf.Positional[Annotated[Literal["bash", "zsh", "fish"], tyro.conf.arg(metavar="bash|zsh|fish")]]
    """The shell."""
    debug: bool = False
    """Show the whole traceback of an error."""


_NAMES: dict[str, tuple[str, ...]] = {
    **CHOICES,
    "model": tuple(PRESETS),
    "activation": tuple(ACTIVATIONS),
    "dataset": tuple(source.name for source in data.sources()),
    "scaling": SCALINGS,
    "task": get_args(Task),
    "on_divergence": ("stop", "restore", "ignore"),
}


# The parser's scripts complete files after some options alone: not for runs and pictures, which come without one, nor
# for a data set, which has a name or a path.
_FILES = {
    "bash": """
_jaxnn() { _tyro_jaxnn; [ -z "${COMPREPLY[*]}" ] && COMPREPLY=(); }
complete -o default -o filenames -F _jaxnn jaxnn""",
    "zsh": """
[[ $words[2] == (evaluate|predict|export|diff|data) && $words[CURRENT] != -* ]] && _files
[[ $words[CURRENT-1] == --dataset ]] && _files""",
    "fish": """
complete --command jaxnn --force-files --condition '__fish_seen_subcommand_from evaluate predict export diff data'
complete --command jaxnn --force-files --condition 'string match --quiet -- --dataset (commandline -poc)[-1]'""",
}


def run(config: CompletionConfig, commands: Mapping[str, Callable[..., Any]]) -> int:
    """Print the script for these commands."""
    with contextlib.suppress(SystemExit):  # with which the parser ends when it has printed
        tyro.extras.subcommand_cli_from_dict(
            {name: _completable(command) for name, command in commands.items()},
            prog="jaxnn",
            args=["--tyro-print-completion", config.shell],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    print(_FILES[config.shell])
    return 0


def _completable(config: Callable[..., Any]) -> Callable[..., Any]:
    """The same options, but that those which take a name say which names there are.

    To be completed alone: parsed with, they would take no path for a data set, and say less of a misspelt name.
    """
    if not dataclasses.is_dataclass(config):
        return config
    hints = get_type_hints(config, include_extras=True)
    named: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        kind, *details = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if field.name in _NAMES and (kind is str or kind == str | None):
            literal: Any = Literal[_NAMES[field.name]]
            named[field.name] = Annotated[literal if kind is str else literal | None, *details]
    defaults = {field.name: field.default for field in dataclasses.fields(config) if field.name in named}
    return dataclass(frozen=True)(
        type(config.__name__, (config,), {**defaults, "__annotations__": named, "__doc__": config.__doc__})
    )
