"""The checkpoints of a run: saved beside training, the newest and the best kept, and found again."""

import contextlib
import json
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
from jaxnn._tensors import ASIDE, DamagedError, as_tensors, read_whole, sync
from jaxnn.checkpoint import Checkpoint, parse_checkpoint, read_about, save_checkpoint
from jaxnn.training import TrainState

__all__ = ["Checkpoints", "Keeper", "best_of", "check_free", "checkpoints_in"]


_LOCK = ".lock"
_DAMAGED = ".damaged-"
SECONDS_TO_END = 2.0


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
    name: a large accuracy, a small loss or error. It is named best-…, and no run goes on after it."""
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
        try:
            json.dumps(self.config)
        except (TypeError, ValueError) as error:
            raise TypeError(f"config must be what JSON can say: {error}") from None
        if self.best is not None and (
            mode_of(str(self.best)) is None or str(self.best).partition("/")[0] not in ("train", "validation")
        ):
            raise ValueError(
                f"best must name an accuracy, a loss or an error, such as validation/accuracy; got {self.best!r}"
            )


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run, from the oldest to the newest."""
    return _numbered(folder, "step")


def _numbered(folder: Path, kind: str) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = [(re.fullmatch(rf"{kind}-(\d+)\.safetensors", path.name), path) for path in folder.iterdir()]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]
    return []


def best_of(folder: Path) -> Path | None:
    """The checkpoint of the best epoch, if there is one."""
    return next(reversed(_numbered(folder, "best")), None)


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
        self.saved_step: int | None = None  # the last one that is on the disk
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
            with contextlib.suppress(OSError):
                for folder in (self._folder.parent, self._folder.parent.parent):
                    sync(folder)
            try:
                yield self
            finally:
                if self._saving is not None:  # after a second Ctrl-C: it still needs the lock
                    self._saving.join(SECONDS_TO_END)

    def restore(self, like: TrainState, run: dict[str, Any], *, finite: bool) -> Checkpoint | None:
        """The newest checkpoint that is whole, and `finite` if it must be; None where there is none.

        Raises:
            ValueError: it is another model's, or its `run` was another; or there are some, and none will do.
        """
        if not self._settings.resume:
            return None
        found, content = self._newest(like, finite) if self._writes else (None, b"")
        if jax.process_count() > 1:
            shared = _from_the_first(content)
            found = parse_checkpoint(shared, like, self._settings.beside, str(self._folder)) if shared else None
        if found is None:
            return None
        then = found.about["run"]
        for name in run:
            if then.get(name) != run[name]:
                raise ValueError(
                    f"{self._folder}: {name} was {then.get(name)} when the run began, and is {run[name]} now: "
                    "a run goes on only with what it began with"
                )
        theirs, ours = as_tensors(found.beside), as_tensors(self._settings.beside)
        for name, values in ours.items():
            if values.tobytes() != theirs[name].tobytes():
                raise ValueError(f"{self._folder}: beside/{name} has other values than when the run began")
        best = best_of(self._folder) if self._writes else None
        score = (read_about(best) or {}).get("score") if best is not None else None
        self._best_score = -np.inf if score is None else score
        self.saved_step = int(found.state.step)
        return found

    def good(self, like: TrainState, step: int) -> TrainState | None:
        """The state that a run would go back to if it diverged, where it was saved beside a later one."""
        path = self._path("good", step)
        content = b""
        if self._writes and path.exists():
            with contextlib.suppress(DamagedError):
                content = read_whole(path)
        if jax.process_count() > 1:
            content = _from_the_first(content)
        try:
            return parse_checkpoint(content, like, self._settings.beside, str(path)).state if content else None
        except DamagedError:
            return None

    def _newest(self, like: TrainState, finite: bool) -> tuple[Checkpoint | None, bytes]:
        """The newest checkpoint that will do, and the file's content; newer ones that are damaged lose their names."""
        damaged: list[Path] = []
        paths = checkpoints_in(self._folder)
        for path in reversed(paths):
            try:
                content = read_whole(path)
                found = parse_checkpoint(content, like, self._settings.beside, str(path))
            except DamagedError as error:
                problem = str(error)
                damaged.append(path)
            else:
                if found.about["is_finite"] or not finite:
                    for other in damaged:
                        other.rename(other.with_name(f"{_DAMAGED}{other.name}"))
                    return found, content
                problem = f"{path}: is of a run that had diverged"
            if path == paths[0]:
                raise ValueError(f"{problem}; no other checkpoint is left in {self._folder}")
            self._warn(f"{problem}; going on after the one before")
        return None, b""

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._began >= self._settings.seconds

    def score(self, figures: dict[str, Any]) -> float | None:
        """How good an epoch was by its figures, the larger the better; None where that is not asked for."""
        if self._settings.best is None:
            return None
        part, _, name = self._settings.best.rpartition("/")
        value = float(figures[part][name])
        if np.isnan(value):
            return None
        return value if mode_of(name) == "max" else -value

    def note(self, figures: dict[str, Any], checkpoint: Callable[[], Checkpoint]) -> None:
        """Hold on to the run after an epoch that is the best so far, until the next save."""
        score = self.score(figures)
        if score is not None and score > self._best_score and self._writes:
            self._best_score = score
            self._best = checkpoint()

    def forget_after(self, step: int) -> None:
        """Remove what was saved of steps that a run has gone back from."""
        if not self._writes:
            return
        self.wait()
        for kind in ("step", "best"):
            for path in _numbered(self._folder, kind):
                if int(path.stem.removeprefix(f"{kind}-")) > step:
                    path.unlink(missing_ok=True)
        if self._best is None or int(self._best.state.step) > step:
            self._best, self._best_score = None, -np.inf

    def save(self, checkpoint: Checkpoint, good: Checkpoint | None) -> None:
        """Begin to save a checkpoint, after the save before has ended.

        With it go the best one if it has not been saved, and where it would go back to, if that is another.
        """
        self._began = time.monotonic()
        if not self._writes:
            return
        self.wait()
        self._saving = threading.Thread(target=self._write, args=(checkpoint, self._best, good), daemon=True)
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

    def _write(self, checkpoint: Checkpoint, best: Checkpoint | None, good: Checkpoint | None) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # it may have vanished
            step = int(checkpoint.state.step)
            newest = self._path("step", step)
            if good is not None:
                save_checkpoint(self._path("good", int(good.state.step)), good)
            save_checkpoint(newest, checkpoint)
            for other in _numbered(self._folder, "good"):
                if other != self._path("good", checkpoint.about["good_step"]):
                    other.unlink(missing_ok=True)
            self.saved_step = step
            self._remove_old(newest)
            if best is not None:
                path = self._path("best", int(best.state.step))
                save_checkpoint(path, best)
                if self._best is best:
                    self._best = None
                for other in _numbered(self._folder, "best"):
                    if other != path:
                        other.unlink(missing_ok=True)
            self._complaint = None
        except Exception as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            step_kept = self.saved_step
            last = "there is none" if step_kept is None else f"the last one is that after step {step_kept}"
            self._complaint = f"{self._folder}: a checkpoint could not be saved ({said}); {last}"

    def _remove_old(self, newest: Path) -> None:
        """Keep the newest, and the newest that is finite."""
        paths = checkpoints_in(self._folder)
        kept = {newest, *paths[-self._settings.keep :]}
        if not any((read_about(path) or {}).get("is_finite") for path in kept):
            kept |= {*[path for path in paths if (read_about(path) or {}).get("is_finite")][-1:]}
        for path in set(paths) - kept:
            path.unlink(missing_ok=True)

    def _path(self, kind: str, step: int) -> Path:
        return self._folder / f"{kind}-{step:08d}.safetensors"


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
