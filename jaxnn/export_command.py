"""`jaxnn export`: the weights of a run for other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxnn.data._files import printable
from jaxnn.interop import to_layout
from jaxnn.peer_source import peer_source
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
    layout: Literal["jaxnn", "torch", "keras"] = "jaxnn"
    """Names and layouts of the arrays: as jaxnn has them, with the scalings beside them; or as a network of PyTorch or
    Keras has them. Python that builds that network, loads the file and predicts is then printed."""
    debug: bool = False
    """Show the whole traceback of an error."""


def run(config: ExportConfig, console: Console) -> int:
    """Write the file."""
    if config.file.exists():
        raise ValueError(f"{config.file} exists already, and nothing is ever overwritten; choose another name")
    if config.layout == "jaxnn":
        _, trained = load_trained(config.run, config.at)
        export(config.file, trained.tree())
        console.print(f"saved   {printable(config.file)}")
        return 0
    if config.file.suffix != ".safetensors":
        raise ValueError(f"{config.file}: --layout {config.layout} is for files that end in .safetensors")
    run, trained = load_trained(config.run, config.at)
    export(config.file, to_layout(config.layout, trained.params, trained.model_state, trained.about.shape))
    console.out(f"# {printable(config.run)} in {printable(config.file)}, for {config.layout}")
    console.out(peer_source(config.layout, run.config, trained, config.file), highlight=False)
    return 0
