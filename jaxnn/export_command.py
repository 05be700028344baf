"""`jaxnn export`: the weights of a run for other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxnn.data._files import printable
from jaxnn.trained import load_trained
from jaxnn.weights import export

__all__ = ["ExportConfig", "run"]


@dataclass(frozen=True)
class ExportConfig:
    """Write the weights of a trained network to a file for other programs, an array a leaf, named by its path."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of a run that jaxnn train made."""
    file: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FILE")]]
    """What to write: NAME.safetensors or NAME.npz, which must not exist yet."""
    at: Literal["end", "last", "best"] = "end"
    """The network as it was at the end of the run; at its last checkpoint; at that of its best epoch, on validation
    data."""
    debug: bool = False
    """Show the whole traceback of an error."""


def run(config: ExportConfig, console: Console) -> int:
    """Write the file."""
    if config.file.exists():
        raise ValueError(f"{config.file} exists already, and nothing is ever overwritten; choose another name")
    _, trained = load_trained(config.run, config.at)
    tree = trained.tree()
    export(config.file, tree)
    console.print(f"saved   {printable(config.file)}")
    return 0
