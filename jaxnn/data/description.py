"""What is known of a data set beside its arrays: enough to bring a new example into its form."""

from dataclasses import dataclass

__all__ = ["Description", "Drawing"]


@dataclass(frozen=True)
class Drawing:
    """How a drawing lies in its image."""

    box: int
    """Pixels that the longer side of what is drawn fills."""
    centred_by_mass: bool
    """Whether what is drawn is centred by its mass, else by its outline."""


@dataclass(frozen=True)
class Description:
    """A data set in words and sizes. A run keeps it beside its weights."""

    name: str
    title: str
    shape: tuple[int, ...]
    """Of one example."""
    classes: tuple[str, ...] = ()
    """Their names, in the order of the labels; none if the targets are numbers."""
    targets: tuple[str, ...] = ()
    """Names of the numbers to predict, in a regression."""
    brightest: int | None = None
    """Value of a white pixel; None if the examples are not pictures that a file could hold."""
    drawing: Drawing | None = None
    """For drawings, bright strokes on black; None for photos, and for what is no picture."""
    columns: tuple[str, ...] = ()
    """Names of the features, where a table has them."""

    @property
    def outputs(self) -> int:
        """How many numbers a network must return for an example."""
        return len(self.classes) or len(self.targets)

    @property
    def colour(self) -> bool:
        """Whether the examples are pictures in red, green and blue."""
        return self.brightest is not None and self.shape[-1] == 3
