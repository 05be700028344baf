"""How much memory a device has left."""

import os
from pathlib import Path

import jax

__all__ = ["free_bytes", "free_bytes_of_host"]

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: jax.Device) -> int:
    """Bytes that may still be taken: of the device's own memory, or of the host's for a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return free_bytes_of_host()


def free_bytes_of_host() -> int:
    """What the machine has free, or less where a container allows less."""
    free = _available()
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        # What files were read into the cache is given back when it is needed.
        return max(0, min(free, limit - used + int(stat.get("inactive_file", 0))))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
