"""What a metric's name tells: whether it is good when it is large or small."""

from typing import Literal, TypeAlias

__all__ = ["Mode", "mode_of"]

Mode: TypeAlias = Literal["max", "min"]


def mode_of(name: str) -> Mode | None:
    """What is good by a metric's name; None where it does not tell.

    >>> print(mode_of("validation/accuracy"), mode_of("mean_absolute_error"), mode_of("loss"), mode_of("recall"))
    max min min None
    """
    words = set(name.rpartition("/")[2].lower().replace("-", "_").split("_"))
    large, small = "accuracy" in words, not words.isdisjoint(("loss", "error"))
    if large == small:
        return None
    return "max" if large else "min"
