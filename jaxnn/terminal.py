"""What the command says when something is wrong, and the exit statuses that go with it."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

from jax.errors import JaxRuntimeError

from jaxnn.data._files import printable

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "TERMINATED", "complain", "print_json", "sentence_of"]

BAD_INPUT, FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143


def sentence_of(error: BaseException) -> str:
    """What to say of an error.

    >>> print(sentence_of(MemoryError()))
    out of memory; a smaller --batch-size or a smaller model needs less
    """
    said = str(error)
    is_of_jax = isinstance(error, JaxRuntimeError) and re.search("RESOURCE_EXHAUSTED|Out of memory", said)
    if isinstance(error, MemoryError) or is_of_jax:
        asked = re.search(r"allocating ([\d.]+ ?[KMGT]?i?B|\d+ bytes)", said)
        wanted = f": {asked[1]} could not be had" if asked else ""
        return f"out of memory{wanted}; a smaller --batch-size or a smaller model needs less"
    return said or type(error).__name__


def complain(sentence: str) -> None:
    """One line on stderr, whatever is in it."""
    print(f"jaxnn: {printable(sentence.strip())}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print what a program may read: JSON on stdout, in ASCII for any terminal. What is no number there is null.

    >>> print_json({"accuracy": 0.5, "error": float("nan"), "classes": ("a", "b")})
    {
      "accuracy": 0.5,
      "error": null,
      "classes": [
        "a",
        "b"
      ]
    }
    """
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    value = value.item() if hasattr(value, "item") else value  # NumPy's and JAX's numbers
    return None if isinstance(value, float) and not math.isfinite(value) else value
