"""What an experiment is, and how one is run: timed, drawn, its claims checked, everything written down."""

import dataclasses
import datetime
import inspect
import json
import math
import shlex
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax

from experiments.shared.claims import Claim
from experiments.shared.images import Images, Place
from experiments.shared.pictures import Picture
from jaxnn.older_jax import unregister
from jaxnn.versions import available_cores, describe_devices, describe_processor, versions

__all__ = [
    "RESULTS",
    "Experiment",
    "Outcomes",
    "check_folder",
    "command_of",
    "has_seeds",
    "is_the_books",
    "perform",
    "use_all_cores",
    "with_seeds",
]

RESULTS = Path(__file__).parent.parent / "results"

# A vector figure is shown in place of its PNG where it is no larger than this.
_SMALL_SVG = 120_000
_DPI = 130

Outcomes: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A question of the textbook. With `load`, all functions are given what it returns as well, after the config."""

    name: str
    """Of its file."""
    rows: tuple[str, ...]
    """Of the textbook's list, which its claims are about."""
    formula: str
    """What it is about, in LaTeX."""
    config: Any
    """A frozen dataclass; its defaults are the textbook's numbers."""
    quick: Any
    """The same, smaller: seconds on two cores."""
    run: Callable[..., Outcomes]
    """(config, [data,] key) -> outcomes. Pure: no file, no clock but where the question is one of time."""
    draw: Callable[..., dict[str, Picture]]
    """(config, [data,] outcomes) -> pictures by name."""
    claims: Callable[..., list[Claim]]
    """(config, [data,] outcomes) -> claims."""
    load: Callable[[Place], Any] | None = None
    """The data."""
    book_seconds: float | None = None
    """What the same takes the book's code, on two cores."""

    @property
    def description(self) -> str:
        """The docstring of its file."""
        return inspect.getdoc(inspect.getmodule(self.run)) or ""

    @property
    def question(self) -> str:
        """Its first line."""
        return self.description.partition("\n")[0]


def is_the_books(config: Any) -> bool:
    """Whether all numbers but that of the seeds are the textbook's, so that its figures are to be expected."""
    return config == with_seeds(type(config)(), getattr(config, "seeds", None))


def has_seeds(config: Any) -> bool:
    """Whether a number of seeds is among its numbers."""
    return any(field.name == "seeds" for field in dataclasses.fields(config))


def with_seeds(config: Any, seeds: int | None) -> Any:
    """The config with so many seeds, if it has any."""
    return dataclasses.replace(config, seeds=seeds) if seeds is not None and has_seeds(config) else config


def perform(
    experiment: Experiment, config: Any, place: Place, folder: Path, say: Callable[[str], Any] = print
) -> dict[str, Any]:
    """Run an experiment, check its claims, write `result.json` and the pictures; return what is in the file.

    Where the bundled digits stand in for images that cannot be had, the full form becomes the quick one, which is made
    for them; that is said. The folder is replaced as a whole, once everything is there.
    """
    check_folder(folder)
    compiling = CompileSeconds()
    data = () if experiment.load is None else (experiment.load(place),)
    quick = place.quick
    if data and isinstance(data[0], Images) and data[0].why and not quick:
        say(f"{data[0].why}; {data[0].title} instead, in the quick form")
        config, quick = with_seeds(experiment.quick, getattr(config, "seeds", None)), True
    began = time.perf_counter()
    with compiling, jax.default_matmul_precision("highest"):
        outcomes = jax.block_until_ready(experiment.run(config, *data, jax.random.key(0)))
    seconds = time.perf_counter() - began
    claims = experiment.claims(config, *data, outcomes)
    pictures = experiment.draw(config, *data, outcomes)

    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        result = {
            "name": experiment.name,
            "question": experiment.question,
            "description": experiment.description,
            "rows": experiment.rows,
            "formula": experiment.formula,
            "quick": quick,
            "data": data[0].title if data and isinstance(data[0], Images) else None,
            "config": dataclasses.asdict(config),
            "claims": [dataclasses.asdict(claim) for claim in claims],
            "figures": [_write_picture(name, picture, aside) for name, picture in pictures.items()],
            "seconds": round(seconds, 3),
            "compile_seconds": round(compiling.seconds, 3),
            "book_seconds": experiment.book_seconds,
            "command": command_of(experiment, config, quick),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "devices": describe_devices(),
            "processor": f"{describe_processor()}, {available_cores()} cores",
        }
        text = json.dumps(_without_nan(result), indent=1, ensure_ascii=False, allow_nan=False)
        (aside / "result.json").write_text(text + "\n", encoding="utf-8")
        _put_in_place(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return json.loads(text)


def check_folder(folder: Path) -> None:
    """Refuse to replace a folder that holds something else than an earlier result.

    Raises:
        ValueError: there is such a folder, or a file of that name.
    """
    if folder.exists() and not (folder / "result.json").is_file():
        raise ValueError(f"{folder} holds no result of an experiment and is not replaced; name another --out")


def command_of(experiment: Experiment, config: Any, quick: bool) -> str:
    """What is typed to have the same again.

    >>> from experiments.perceptron import EXPERIMENT, Config
    >>> print(command_of(EXPERIMENT, Config(learning_rate=0.5, passes=2), quick=False))
    python -m experiments.perceptron --learning-rate 0.5 --passes 2
    >>> print(command_of(EXPERIMENT, Config(), quick=True))
    python -m experiments.perceptron --quick
    """
    words = [f"python -m experiments.{experiment.name}"] + ["--quick"] * quick
    usual = experiment.quick if quick else experiment.config
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if value == getattr(usual, field.name):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, *_flat(value)]
    return " ".join(words)


def _flat(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [word for part in value for word in _flat(part)]
    return [shlex.quote(str(value))]


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _put_in_place(aside: Path, folder: Path) -> None:
    """Give a folder its name; the earlier one of that name is gone only when that is done."""
    earlier = aside.with_name(f"{aside.name}-earlier")
    if folder.exists():
        folder.rename(earlier)
    try:
        aside.rename(folder)
    except BaseException:
        if earlier.exists():
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


class CompileSeconds:
    """Adds up what XLA spends on compiling, in a `with` block."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> "CompileSeconds":
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        unregister(self._hear, "event_duration")

    def _hear(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += duration_secs


def use_all_cores() -> None:
    """A device for each core, so that the runs of a sweep go side by side; before anything is computed."""
    jax.config.update("jax_num_cpu_devices", available_cores())


def _write_picture(name: str, picture: Picture, folder: Path) -> dict[str, Any]:
    """PNG always, SVG where it is small, GIF where it moves."""
    written: dict[str, Any] = {"png": f"{name}.png", "alt": picture.alt}
    picture.figure.savefig(folder / written["png"], dpi=_DPI)
    vector = folder / f"{name}.svg"
    picture.figure.savefig(vector, metadata={"Date": None})
    if vector.stat().st_size <= _SMALL_SVG:
        written["svg"] = vector.name
    else:
        vector.unlink()
    if picture.animation is not None:
        from matplotlib.animation import FuncAnimation, PillowWriter

        written["gif"] = f"{name}.gif"
        moving = FuncAnimation(picture.figure, picture.animation.draw, frames=picture.animation.frames, blit=False)
        moving.save(folder / written["gif"], writer=PillowWriter(fps=picture.animation.per_second), dpi=90)
    return written
