"""The settings of the command that say which data, and how it is divided and scaled."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, TypeAlias, cast

import numpy as np
import tyro

from jaxnn import data
from jaxnn._checks import check_choice, check_number, check_size
from jaxnn.data.description import Description
from jaxnn.data.loading import Loaded, Task

__all__ = [
    "DataOptions",
    "DivisionOptions",
    "Scaling",
    "as_arguments",
    "check_options",
    "check_scaling",
    "choose_scaling",
    "fit_scaling",
    "load_data",
    "scaling_like",
]

Scaling: TypeAlias = data.MinMax | data.Standardize | None

SCALINGS = ("min_max", "standardize", "none")


@dataclass(frozen=True)
class DivisionOptions:
    """Where files are, and how what they hold is divided."""

    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder that holds the files of a data set with a name. Without it: $JAXNN_DATA, the cache, or a download."""
    validation: Annotated[
        int | float | None, tyro.conf.arg(metavar="SIZE", help_behavior_hint="(default: the data's own, else 0.1)")
    ] = None
    """Validation data: a fraction such as 0.1, or a number of examples, out of the training data."""
    test: Annotated[
        int | float | None, tyro.conf.arg(metavar="SIZE", help_behavior_hint="(default: the data's own, else 0.2)")
    ] = None
    """Test data: likewise, where the data has no test part of its own."""
    split_seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Random seed of the division."""
    label_column: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: label, target, class or y)")
    ] = None
    """Column of a table that holds what to predict."""
    task: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: by the column)")] = None
    """What the targets of a table are: classification, regression."""
    image_size: Annotated[
        str | None, tyro.conf.arg(metavar="HEIGHTxWIDTH", help_behavior_hint="(default: as they are)")
    ] = None
    """Size to which the pictures of a folder are scaled, such as 64x64."""


@dataclass(frozen=True)
class DataOptions(DivisionOptions):
    """A data set."""

    dataset: Annotated[str, tyro.conf.arg(metavar="NAME_OR_PATH")] = "digits"
    """A name that jaxnn data lists, or files of yours: a folder of pictures with a subfolder per class, a table
    (.csv, .tsv), .npz, .json, IDX or CIFAR files."""
    scaling: Annotated[
        str | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: min_max for pictures, standardize for tables)"),
    ] = None
    """How features are scaled, by the training data: min_max, standardize, none. To be trained on, pictures of whole
    numbers, as all picture files are, need one of the first two."""


def check_options(options: DivisionOptions) -> None:
    """Refuse what can be refused before any file is read."""
    if options.task is not None:
        check_choice("task", options.task, ["classification", "regression"])
    if isinstance(options, DataOptions) and options.scaling is not None:
        check_choice("scaling", options.scaling, SCALINGS)
    check_size("--split-seed", options.split_seed, at_least=0)
    for name in ("validation", "test"):
        size = getattr(options, name)
        if size is not None:
            check_number(f"--{name}", size, above=0)
    _image_size(options.image_size)


def load_data(dataset: str, options: DivisionOptions) -> Loaded:
    """The data that the settings name."""
    return data.load_described(
        dataset,
        options.data_dir,
        validation=options.validation,
        test=options.test,
        seed=options.split_seed,
        label=options.label_column,
        task=cast(Task | None, options.task),
        image_size=_image_size(options.image_size),
    )


def as_arguments(options: DivisionOptions) -> list[str]:
    """The words of the command that set these options, without those that are as they are by default.

    >>> print(as_arguments(DivisionOptions(test=0.3, image_size="8x6")))
    ['--test', '0.3', '--image-size', '8x6']
    """
    words = []
    for field in fields(DivisionOptions):
        value = getattr(options, field.name)
        if value != field.default:
            flag, text = f"--{field.name.replace('_', '-')}", str(value)
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return words


def _image_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", text)
    if match is None:
        raise ValueError(f"--image-size must be HEIGHTxWIDTH in pixels, such as 64x64; got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def choose_scaling(x: np.ndarray, about: Description) -> str:
    """The usual scaling for such training data: one range for pixels, mean and deviation for columns of a table.

    Rows without names of columns that lie in [0, 1] stay as they are: pixels that somebody has scaled already.
    """
    if x.ndim != 2:
        return "min_max"
    return "none" if not about.columns and x.min() >= 0 and x.max() <= 1 else "standardize"


def check_scaling(name: str | None, x: np.ndarray, dataset: str) -> None:
    """Refuse to train on whole numbers as they are.

    Raises:
        ValueError: `name` is none, and the training data `x` of the data set is pictures of bytes.
    """
    if name == "none" and not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"--scaling none leaves the pictures of {dataset} in whole numbers, and networks take decimals; "
            "choose min_max or standardize"
        )


def fit_scaling(name: str, x: np.ndarray) -> Scaling:
    """Fit a scaling to the training data.

    >>> import numpy as np
    >>> print(fit_scaling("standardize", np.array([[1.0, 5.0], [3.0, 7.0]])).mean)
    [2. 6.]
    """
    match name:
        case "min_max":
            return data.min_max(x, axis=_axis(x.shape[1:]))
        case "standardize":
            return data.standardize(x, axis=_axis(x.shape[1:]))
    return None


def scaling_like(name: str, shape: tuple[int, ...]) -> Scaling:
    """What `fit_scaling` returns for examples of this shape, with other values."""
    return fit_scaling(name, np.zeros((1, *shape), np.float32))


def _axis(shape: tuple[int, ...]) -> int | None:
    """Pixels share one scale, and each column of a table has its own."""
    return 0 if len(shape) == 1 else None
