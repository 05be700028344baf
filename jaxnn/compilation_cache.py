"""What the command has compiled, kept for the next time: a second `jaxnn train` of the same network skips XLA."""

import contextlib
import hashlib
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from jaxnn.older_jax import unregister

__all__ = ["MOST_BYTES", "cache_folder", "keep_compiled", "kept_in", "total_bytes"]

MOST_BYTES = 256 * 2**20  # a network's programs take 0.3 to 2 MB
_SHORTEST = 0.1  # seconds to compile; JAX's own default, 1, leaves out most programs of small networks
_COMPLAINT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)'")


def cache_folder() -> Path:
    """Where compiled programs are kept, beside downloaded data."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("jaxnn")) / "compiled"


def kept_in() -> Path | None:
    """Where JAX keeps what it compiles now, if it does: the command's folder, or one that the user has chosen."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    return Path(folder) if folder and jax.config.values["jax_enable_compilation_cache"] else None


def keep_compiled(root: Path, most: int = MOST_BYTES) -> None:
    """Let JAX keep its compiled programs in a folder, and take those from it that are there.

    Each kind of processor and each version of jaxlib has its own, since a home may be shared by several. What was used
    longest ago goes first when all are more than so many bytes. JAX's own limit on the size needs a lock, and stops
    keeping anything once a process was killed between two of its writes. A folder that the user has given JAX stays as
    it is. Where nothing can be written, or nothing is taken back (on some CPUs with AVX-512, jax issue 38445),
    everything is compiled as ever.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]:
        return
    folder = root / _kind_of_machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            return
        _make_room(root, most)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if not _takes_back(folder / "takes-back"):
            jax.config.update("jax_compilation_cache_dir", None)
            return
    except OSError:
        jax.config.update("jax_compilation_cache_dir", None)
        return
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)
    said = warnings.showwarning

    def hear(message: Warning | str, *about: Any, **more: Any) -> None:
        """Half a program, as a killed process leaves it, is thrown away, where JAX would find it each time anew."""
        failed = _COMPLAINT.match(str(message))
        if failed is None:
            said(message, *about, **more)
        elif failed[1] == "reading":  # which of this name it was is not said
            for path in folder.glob(f"{failed[2]}-*"):
                path.unlink(missing_ok=True)

    warnings.showwarning = hear


def total_bytes(folder: Path) -> int:
    """What the files of a folder take."""
    return sum(size for _, size, _ in _files(folder))


def _kind_of_machine() -> str:
    """A name for what a compiled program is made for."""
    told = [platform.machine(), platform.processor()]
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        told += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return f"jaxlib-{metadata.version('jaxlib')}-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def _takes_back(verdict: Path) -> bool:
    """Whether a program that was kept is taken from the folder again: tried once with a small one, and written down."""
    if not verdict.exists():
        hits = []

        def count(event: str, **_: Any) -> None:
            if event == "/jax/compilation_cache/cache_hits":
                hits.append(event)

        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.monitoring.register_event_listener(count)
        with _quiet():  # XLA's own log of a refusal
            for _ in range(2):
                jax.jit(lambda x: x + 1).lower(0.0).compile()
        unregister(count, "event")
        verdict.write_text("yes" if hits else "no")
    return verdict.read_text() == "yes"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stderr, of what is compiled from C++ either."""
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _make_room(folder: Path, most: int) -> None:
    files = sorted(_files(folder))
    taken = sum(size for _, size, _ in files)
    for _, size, path in files:
        if taken <= most:
            break
        path.unlink(missing_ok=True)
        taken -= size


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """When each was used last, its size, and the file."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room too
            stat = path.stat()
            if path.is_file():
                found.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    return found
