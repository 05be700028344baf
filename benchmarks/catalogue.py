"""All rows, by name."""

from benchmarks import (
    batch_norm_experiment,
    checkpoints,
    convnets,
    convolutions,
    files,
    gradients,
    memory,
    optimizers,
    products,
    reading,
    scale,
    two_layer_net,
)
from benchmarks.row import Row

PRODUCTS, MEMORY = products.row(), memory.row()


def catalogue(*, quick: bool) -> list[Row]:
    """All rows, in the order of the table."""
    themes = (
        two_layer_net,
        convnets,
        convolutions,
        optimizers,
        gradients,
        batch_norm_experiment,
        files,
        reading,
        checkpoints,
        scale,
    )
    return [row for theme in themes for row in theme.rows(quick)]


def groups() -> dict[str, list[Row]]:
    """Rows by their name on the command line."""
    found: dict[str, list[Row]] = {}
    for row in catalogue(quick=False):
        found.setdefault(row.group, []).append(row)
    return found


def find(name: str, *, quick: bool) -> Row:
    """The row with this name in the table."""
    return next(row for row in (*catalogue(quick=quick), PRODUCTS, MEMORY) if row.name == name)
