"""With which versions, and on what, something was made."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import jax

__all__ = ["__version__", "available_cores", "describe_devices", "describe_processor", "versions"]

__version__ = metadata.version("jaxnn")

_PACKAGES = ("jaxnn", "jax", "jaxlib", "numpy", "optax")


def versions() -> dict[str, str]:
    """Those of Python and of the packages that the numbers of a run depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def describe_devices() -> list[str]:
    """Each device of all processes, by platform and kind."""
    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]


def describe_processor() -> str:
    """Its name, where the system says it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Those of the machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
