"""What the command has compiled, kept for the next time: a second `jaxnn train` of the same network skips XLA."""

import contextlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

import jax

__all__ = ["cache_folder", "keep_compiled", "total_bytes"]

MOST_BYTES = 256 * 2**20  # a network's programs take 0.3 to 2 MB
_SHORTEST = 0.1  # seconds to compile; JAX's own default, 1, leaves out most programs of small networks
_COMPLAINT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)'")


def cache_folder() -> Path:
    """Where compiled programs are kept, beside downloaded data."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("jaxnn")) / "compiled"


def keep_compiled(folder: Path, most: int = MOST_BYTES) -> None:
    """Let JAX keep its compiled programs in a folder, and take those from it that are there.

    What was used longest ago goes first when they are more than so many bytes. JAX's own limit on the size needs a
    lock, and stops keeping anything once a process was killed between two of its writes. A folder or a limit that the
    user has given JAX stays as it is, and where nothing can be written everything is compiled as ever.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            return
        _make_room(folder, most)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)
    said = warnings.showwarning

    def hear(message: Warning | str, *about: Any, **more: Any) -> None:
        """Half a program, as a killed process leaves it, is thrown away, where JAX would find it each time anew."""
        failed = _COMPLAINT.match(str(message))
        if failed is None:
            said(message, *about, **more)
        else:
            for path in folder.glob(f"{failed[2]}-*"):
                path.unlink(missing_ok=True)

    warnings.showwarning = hear


def total_bytes(folder: Path) -> int:
    """What the files of a folder take."""
    return sum(size for _, size, _ in _files(folder))


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
