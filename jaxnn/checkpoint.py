"""A training run in a file, as it was after some step: all that it takes to go on to the same bits."""

import contextlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxnn._tensors import Tensors, as_tensors, from_tensors, key_kinds, read_tensors, read_whole, write_tensors
from jaxnn.training import History, TrainState

__all__ = ["Checkpoint", "load_checkpoint", "parse_checkpoint", "read_about", "read_history", "save_checkpoint"]

VERSION = 1
_HISTORY = "history/"


class Checkpoint(NamedTuple):
    """A run after some step."""

    state: TrainState  # parameters, model state, optimizer state, key and step
    history: History  # NumPy arrays: the loss of every step, the metrics of every epoch that has been measured
    beside: PyTree  # arrays that belong to the network, such as a fitted scaling
    about: dict[str, Any]  # what JSON can say: settings, position, versions


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as one safetensors file, with a SHA-256 of its content. It has its name when it is whole.

    Raises:
        ValueError: a leaf is of a dtype that safetensors does not know, or two have the same name.
        OSError: the file cannot be written; one of that name that was there before still is.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import jax, jaxnn as nn
    >>> from jaxnn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    >>> state = nn.init_state(nn.mlp([4], 2), nn.adam(0.1), (3,), jax.random.key(0))
    >>> history = nn.History(np.zeros(0, np.float32), {}, {})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "start.safetensors")
    ...     save_checkpoint(path, Checkpoint(state, history, {}, {"made by": "hand"}))
    ...     found = load_checkpoint(path, like=state)
    >>> print(found.about, bool((found.state.params["dense1"]["W"] == state.params["dense1"]["W"]).all()))
    {'made by': 'hand'} True
    """
    state, history, beside, about = checkpoint
    content = {**state._asdict(), "history": history._asdict(), "beside": beside}
    said = {"version": VERSION, "keys": key_kinds(content), "about": about}
    write_tensors(Path(path), as_tensors(content), said)


def load_checkpoint(path: str | Path, like: TrainState, beside: PyTree = None) -> Checkpoint:
    """Read a checkpoint, for a run whose state is like `like`: arrays, or their shapes.

    `beside` is like what was saved beside the state.

    Raises:
        ValueError: the file is missing or damaged, or its tensors have other names, shapes or dtypes.
    """
    return parse_checkpoint(read_whole(Path(path)), like, beside, str(path))


def parse_checkpoint(content: bytes, like: TrainState, beside: PyTree, place: str) -> Checkpoint:
    """The checkpoint that a file's content is; see `load_checkpoint`. Every sentence begins with `place`.

    Raises:
        DamagedError: the content is not what was written.
        ValueError: it is, and is another model's.
    """
    tensors, history, about, kinds = _parts(content, place)
    # In this order, for of many differences the first are named.
    expected = OrderedDict(**like._asdict(), beside=beside)
    tree = from_tensors(tensors, expected, place, there="checkpoint")
    for name, kind in key_kinds(expected).items():
        if kinds.get(name) != kind:
            raise ValueError(f"{place}: {name} is a key of {kinds.get(name)} in the checkpoint, of {kind} in this run")
    saved_beside = tree.pop("beside")
    return Checkpoint(TrainState(**tree), history, saved_beside, about)


def read_history(path: Path) -> tuple[History, Tensors, dict[str, Any]]:
    """What was measured until a checkpoint, its other tensors by name, and what it says; no model is needed.

    Raises:
        ValueError: the file is missing or damaged.
    """
    tensors, history, about, _ = _parts(read_whole(path), str(path))
    return history, tensors, about


def read_about(path: Path) -> dict[str, Any] | None:
    """What a checkpoint says, from its first bytes; None where they do not say it. Nothing is compared."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
        about = json.loads(json.loads(header)["__metadata__"]["about"])["about"]
        return about if isinstance(about, dict) else None
    return None


def _parts(content: bytes, place: str) -> tuple[Tensors, History, dict[str, Any], dict[str, str]]:
    tensors, said = read_tensors(content, place)
    if said.get("version") != VERSION:
        raise ValueError(f"{place}: is no checkpoint of version {VERSION}, the one that this jaxnn reads")
    # How long a history is, and what was measured, no model says.
    of_history = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_HISTORY)}
    loss: Any = of_history.pop(f"{_HISTORY}loss")
    measured: dict[str, dict[str, Any]] = {"train": {}, "validation": {}}
    for name, values in of_history.items():
        part, _, metric = name.removeprefix(_HISTORY).partition("/")
        measured[part][metric] = values
    return tensors, History(loss, **measured), said["about"], said["keys"]
