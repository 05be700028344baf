"""The checkpoints of a run: saved beside training, the newest and the best kept, and found again."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from jaxnn import hosts
from jaxnn._checks import check_flag, check_number, check_size, in_words
from jaxnn._metric_names import mode_of
from jaxnn._tensors import ASIDE, DamagedError, read_whole
from jaxnn.checkpoint import Checkpoint, parse_checkpoint, read_about, save_checkpoint
from jaxnn.training import TrainState

__all__ = ["Checkpoints", "Keeper", "best_of", "check_free", "checkpoints_in"]


_LOCK = ".lock"


@dataclass(frozen=True)
class Checkpoints:
    """Where, and how often, `runner.train` saves all that it takes to go on.

    Each checkpoint is a file of its own, `step-00001200.safetensors`, with a checksum, and has its name when it is
    whole and on the disk. It is written by another thread while training goes on, one at a time. So a run that is
    killed, or loses its power, loses what it did in `seconds`, in one chunk (see `runner.train`), and while a
    checkpoint was written. One is saved besides at the end of the run, and when it is interrupted or fails.
    """

    folder: str | Path
    """Made if it is not there. While a run trains, no other one can have it."""
    seconds: float | int = 60
    """Between the beginnings of two saves, at least; 0 saves every chunk, and waits for the save before."""
    keep: int = 2
    """How many of the newest are kept: where one is damaged, the one before is taken."""
    best: str | None = None
    """A metric, such as "validation/accuracy": the epoch where it was best is kept too. What is good follows from the
    name: a large accuracy, a small loss or error."""
    resume: bool = False
    """Go on after the newest checkpoint in the folder, if there is one. Without it a folder that has one is refused."""
    beside: PyTree = None
    """Arrays that belong to the network, such as a fitted scaling: saved, and compared when the run goes on."""
    config: dict[str, Any] | None = None
    """Settings, as JSON has them, to be found in the checkpoint by whoever reads it."""

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path):
            raise TypeError(f"folder must be a path; got {type(self.folder).__name__}")
        check_number("seconds", self.seconds, at_least=0)
        check_size("keep", self.keep)
        check_flag("resume", self.resume)
        if not isinstance(self.config, dict | None):
            raise TypeError(f"config must be a dict; got {in_words(self.config)}")
        if self.best is not None and (
            mode_of(str(self.best)) is None or str(self.best).partition("/")[0] not in ("train", "validation")
        ):
            raise ValueError(
                f"best must name an accuracy, a loss or an error, such as validation/accuracy; got {self.best!r}"
            )


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run, from the oldest to the newest."""
    with contextlib.suppress(OSError):
        found = [(re.fullmatch(r"step-(\d+)\.safetensors", path.name), path) for path in folder.iterdir()]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]
    return []


def best_of(paths: list[Path]) -> Path | None:
    """The checkpoint that was saved as the best, if there is one."""
    scores = {path: (read_about(path) or {}).get("score") for path in paths}
    scored = {path: score for path, score in scores.items() if score is not None}
    return max(scored, key=lambda path: scored[path], default=None)


def check_free(folder: Path) -> None:
    """Refuse a folder in which a run is training now.

    Raises:
        ValueError: there is one.
    """
    if folder.is_dir():
        with (folder / _LOCK).open("a") as lock:
            _lock(lock, folder)


class Keeper:
    """The folder of `Checkpoints` while a run trains. Of many processes the first writes; all find the same."""

    def __init__(self, settings: Checkpoints, warn: Callable[[str], object]) -> None:
        self._settings = settings
        self._warn = warn
        self._folder = Path(settings.folder)
        self._writes = jax.process_index() == 0
        self._began = time.monotonic()  # the last save
        self._saving: threading.Thread | None = None
        self._complaint: str | None = None  # of the last save
        self._told: str | None = None  # the last complaint
        self._saved_step: int | None = None
        self._best: Checkpoint | None = None  # not saved yet
        self._best_score = -np.inf

    @contextlib.contextmanager
    def opened(self) -> Iterator["Keeper"]:
        """Keep other runs out of the folder.

        Raises:
            ValueError: it cannot be written, another run trains in it, or it has checkpoints and `resume` is False.
        """
        if not self._writes:
            yield self
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / _LOCK).open("a")
        except OSError as error:
            raise ValueError(f"{self._folder}: checkpoints cannot be written there ({error.strerror})") from None
        with lock:
            _lock(lock, self._folder)
            if checkpoints_in(self._folder) and not self._settings.resume:
                raise ValueError(
                    f"{self._folder} holds checkpoints already; resume=True goes on after the newest, and another "
                    "folder begins anew"
                )
            for leftover in self._folder.glob(f"{ASIDE}*"):
                leftover.unlink(missing_ok=True)
            yield self

    def restore(self, like: TrainState, run: dict[str, Any]) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none.

        Raises:
            ValueError: it is another model's, or its `run` was another; or there are some, and all are damaged.
        """
        if not self._settings.resume:
            return None
        paths = checkpoints_in(self._folder) if self._writes else []
        found = None
        for path in reversed(paths):
            try:
                content = read_whole(path)
                found = parse_checkpoint(content, like, self._settings.beside, str(path))
                break
            except DamagedError as error:
                if path == paths[0]:
                    raise ValueError(f"{error}; no other checkpoint is left in {self._folder}") from None
                self._warn(f"{error}; going on after the one before")
        if jax.process_count() > 1:
            shared = _from_the_first(b"" if found is None else content)
            found = parse_checkpoint(shared, like, self._settings.beside, str(self._folder)) if shared else None
        if found is None:
            return None
        then = found.about["run"]
        for name in run:
            if then[name] != run[name]:
                raise ValueError(
                    f"{self._folder}: {name} was {then[name]} when the run began, and is {run[name]} now: "
                    "a run goes on only with what it began with"
                )
        best = best_of(paths)
        if best is not None:
            self._best_score = (read_about(best) or {}).get("score", -np.inf)
        self._saved_step = int(found.state.step)
        return found

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._began >= self._settings.seconds

    @property
    def saved(self) -> Path | None:
        """The newest checkpoint that is on the disk, or will be when those being saved are."""
        return None if self._saved_step is None else self._path(self._saved_step)

    def score(self, figures: dict[str, Any]) -> float | None:
        """How good an epoch was by its figures, the larger the better; None where that is not asked for."""
        if self._settings.best is None:
            return None
        part, _, name = self._settings.best.rpartition("/")
        value = float(figures[part][name])
        return value if mode_of(name) == "max" else -value

    def note(self, figures: dict[str, Any], checkpoint: Callable[[], Checkpoint]) -> None:
        """Hold on to the run after an epoch that is the best so far, until the next save."""
        score = self.score(figures)
        if score is not None and score > self._best_score and self._writes:
            self._best_score = score
            self._best = checkpoint()

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to save a checkpoint, and the best one if it has not been, after the save before has ended."""
        self._began = time.monotonic()
        if not self._writes:
            return
        self.wait()
        best, self._best = self._best, None
        to_save = [checkpoint]
        if best is not None and int(best.state.step) != int(checkpoint.state.step):
            to_save.insert(0, best)
        self._saving = threading.Thread(target=self._write, args=(to_save,), daemon=True)
        self._saving.start()

    def wait(self) -> None:
        """Wait until what is being saved is on the disk, and say if it could not be."""
        if self._saving is None:
            return
        self._saving.join()
        self._saving = None
        if self._complaint is not None and self._complaint != self._told:
            self._warn(self._complaint)
        self._told = self._complaint

    def _write(self, checkpoints: list[Checkpoint]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # it may have vanished
            for checkpoint in checkpoints:
                step = int(checkpoint.state.step)
                save_checkpoint(self._path(step), checkpoint)
                self._saved_step = step
            self._complaint = None
            self._remove_old()
        except Exception as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            last = (
                "there is none" if self._saved_step is None else f"the last one is that after step {self._saved_step}"
            )
            self._complaint = f"{self._folder}: a checkpoint could not be saved ({said}); {last}"

    def _remove_old(self) -> None:
        """Keep the newest, the best, and the newest that is finite."""
        paths = checkpoints_in(self._folder)
        about = {path: read_about(path) or {} for path in paths}
        finite = [path for path in paths if about[path].get("is_finite")]
        kept = {*paths[-self._settings.keep :], *finite[-1:]}
        best = best_of(paths)
        kept |= set() if best is None else {best}
        for path in set(paths) - kept:
            path.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.safetensors"


def _lock(file: IO[str], folder: Path) -> None:
    """Take the lock of a folder; the system lets it go when the process ends, however it does."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{folder}: another run is training there") from None
    except OSError:  # a file system without locks
        return


def _from_the_first(content: bytes) -> bytes:
    """What process 0 has, in every process."""
    share = multihost_utils.broadcast_one_to_all
    length = int(hosts.call(share, np.array(len(content), np.int32)))
    mine = np.frombuffer(content, np.uint8) if jax.process_index() == 0 else np.zeros(length, np.uint8)
    return np.asarray(hosts.call(share, mine)).tobytes()
