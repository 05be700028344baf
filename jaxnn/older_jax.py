"""What JAX before 0.8.1 has in other places: the JAX that Colab's machines bring with them is some months old."""

from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
from jax import experimental

__all__ = ["enable_x64", "unregister"]

enable_x64: Callable[[bool], Any]
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64  # type: ignore[attr-defined]


def unregister(listener: Callable[..., None], of: str) -> None:
    """Let a listener to JAX's "event" or "event_duration" hear no more."""
    name = f"unregister_{of}_listener"
    if hasattr(jax.monitoring, name):
        getattr(jax.monitoring, name)(listener)
    else:
        from jax._src import monitoring

        getattr(monitoring, f"_{name}_by_callback")(listener)
