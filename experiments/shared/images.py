"""The images that experiments learn from: the real set where it can be had, the bundled digits otherwise."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

import jaxnn as nn
from jaxnn.data import DataError, Dataset

__all__ = ["Images", "Place", "load_images", "load_mnist"]

_TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "the bundled digits"}


class Place(NamedTuple):
    """Where to look for the real images."""

    data_dir: Path | None = None  # None: $JAXNN_DATA, the cache, a download
    quick: bool = False  # the bundled digits at once, unless a folder is named


class Images(NamedTuple):
    """Images with their labels, as uint8; `scale` makes numbers from 0 to 1 of them, inside the step."""

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    scale: nn.data.MinMax
    why: str = ""  # these stand in for others that could not be had

    @property
    def title(self) -> str:
        """For people."""
        return _TITLES[self.name]

    def first(self, count: int) -> Dataset:
        """The first examples of the training data, or all where there are fewer."""
        return Dataset(self.train.x[:count], self.train.y[:count])

    @property
    def official(self) -> Dataset:
        """Training and validation data together: MNIST's 60,000, with which the book trains."""
        return Dataset(*(np.concatenate(pair) for pair in zip(self.train, self.validation, strict=True)))


def load_mnist(place: Place) -> Images:
    """MNIST, or the bundled digits."""
    return load_images("mnist", place)


def load_images(name: str, place: Place) -> Images:
    """The images of that name, or the bundled digits where they cannot be had.

    >>> images = load_images("mnist", Place(quick=True))
    >>> print(images.title, images.train.x.shape)
    the bundled digits (1258, 8, 8, 1)
    """
    why = ""
    if place.quick and place.data_dir is None:
        name = "digits"
    try:
        splits = nn.data.load(name, place.data_dir)
    except DataError as error:
        why, name = f"{_TITLES[name]} could not be had ({error})", "digits"
        splits = nn.data.load(name)
    return Images(name, *splits, nn.data.min_max(splits.train.x, axis=None), why)
