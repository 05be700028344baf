"""With which versions, and on what, something was made."""

import platform
from importlib import metadata

import jax

__all__ = ["describe_devices", "versions"]

_PACKAGES = ("jaxnn", "jax", "jaxlib", "numpy", "optax")


def versions() -> dict[str, str]:
    """Those of Python and of the packages that the numbers of a run depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def describe_devices() -> list[str]:
    """Each device of all processes, by platform and kind."""
    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
