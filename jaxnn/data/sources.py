"""Data sets by name: found in a folder or in the cache, else downloaded and verified."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jaxnn._checks import unknown
from jaxnn.data.dataset import DataError, Dataset, Splits, split
from jaxnn.data.download import download
from jaxnn.data.formats import idx_sha256, read_idx

__all__ = ["Source", "find", "load", "sources", "where"]


@dataclass(frozen=True)
class IdxFile:
    """One of a data set's files."""

    name: str
    count: int
    """Examples in it."""
    sha256: str | None = None
    """Digest of the content."""
    gzip_sha256: str | None = None
    """Digest of the gzipped file as its authors distribute it, where that of the content is not published."""


@dataclass(frozen=True)
class Source:
    """What is known of a data set before it is read."""

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    """Of one example."""
    brightest: int
    """Value of a white pixel."""
    box: int
    """Pixels that the longer side of what is drawn fills."""
    centred_by_mass: bool
    """Whether what is drawn is centred by its mass, else by its outline."""
    files: tuple[IdxFile, ...] = ()
    """Training images, training labels, test images, test labels; none if the data set is built in."""
    mirrors: tuple[str, ...] = ()


_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

_SOURCES = (
    Source(
        "digits",
        "handwritten digits of 8x8 pixels, built in (scikit-learn)",
        _DIGITS,
        (8, 8, 1),
        16,
        8,
        False,
    ),
    Source(
        "mnist",
        "handwritten digits of 28x28 pixels (LeCun, Cortes & Burges 1998)",
        _DIGITS,
        (28, 28, 1),
        255,
        20,
        True,
        (
            IdxFile(
                "train-images-idx3-ubyte",
                60_000,
                sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            IdxFile(
                "train-labels-idx1-ubyte",
                60_000,
                sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            IdxFile(
                "t10k-images-idx3-ubyte",
                10_000,
                sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            IdxFile(
                "t10k-labels-idx1-ubyte",
                10_000,
                sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    Source(
        "fashion_mnist",
        "clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017)",
        _FASHION,
        (28, 28, 1),
        255,
        28,
        False,
        (
            IdxFile(
                "train-images-idx3-ubyte",
                60_000,
                gzip_sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            IdxFile(
                "train-labels-idx1-ubyte",
                60_000,
                gzip_sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            IdxFile(
                "t10k-images-idx3-ubyte",
                10_000,
                gzip_sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            IdxFile(
                "t10k-labels-idx1-ubyte",
                10_000,
                gzip_sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
)


def sources() -> tuple[Source, ...]:
    """The data sets that `load` knows by name.

    >>> import jaxnn as nn
    >>> print([source.name for source in nn.data.sources()])
    ['digits', 'mnist', 'fashion_mnist']
    """
    return _SOURCES


def find(name: str) -> Source:
    """What is known of a data set.

    Raises:
        DataError: no data set has this name.

    >>> import jaxnn as nn
    >>> print(nn.data.find("mnist").shape)
    (28, 28, 1)
    """
    for source in _SOURCES:
        if source.name == str(name).replace("-", "_"):
            return source
    raise DataError(unknown("data set", name, [source.name for source in _SOURCES]))


def load(name: str, data_dir: str | Path | None = None) -> Splits:
    """Load a data set by name: training, validation and test data, images `[n, height, width, 1]` in uint8.

    `digits` is built in: 1,258 / 180 / 359 images of 8x8 pixels from 0 to 16, always the same division. `mnist` and
    `fashion_mnist` are 50,000 / 10,000 / 10,000 of 28x28 pixels from 0 to 255, the validation data being the
    last of the official training data. Their IDX files, gzipped or not, are looked for in `data_dir` and
    nowhere else if it is given; else in `$JAXNN_DATA` and the user's cache; and else downloaded into the cache.
    A folder may hold the files or a subfolder of the data set's name. MNIST's files of the official size must have the
    official content, by SHA-256, and Fashion-MNIST's are verified when they are downloaded; files with fewer or
    more examples in the same layout are taken as they are.

    Raises:
        DataError: no such data set; a file is missing, truncated, corrupt or not of this data set; or no mirror
            delivers it.

    >>> import jaxnn as nn
    >>> train, validation, test = nn.data.load("digits")
    >>> print(train.x.shape, train.x.dtype, train.y[:3])
    (1258, 8, 8, 1) uint8 [5 8 6]
    """
    source = find(name)
    if not source.files:
        return _load_digits()
    folder = _folder(source, data_dir)
    with ThreadPoolExecutor() as pool:
        paths = [_existing(folder, file) or folder / file.name for file in source.files]
        arrays = list(pool.map(_read, [source] * len(paths), source.files, paths))
    for images, labels in ((0, 1), (2, 3)):
        _check_pair(source, paths[images], arrays[images], paths[labels], arrays[labels])
    train_x, train_y, test_x, test_y = arrays
    held_out = len(train_x) // 6  # 10,000 of the official 60,000
    parts = [
        (train_x[: len(train_x) - held_out], train_y[: len(train_x) - held_out]),
        (train_x[len(train_x) - held_out :], train_y[len(train_x) - held_out :]),
        (test_x, test_y),
    ]
    return Splits(*(Dataset(x[..., None], y.astype(np.int32)) for x, y in parts))


def where(source: Source, data_dir: str | Path | None = None) -> Path | None:
    """The folder in which files of a data set lie; None if it is built in or would have to be downloaded.

    >>> import jaxnn as nn
    >>> print(nn.data.where(nn.data.find("digits")))
    None
    """
    for folder in _places(source, data_dir):
        if any(_existing(folder, file) for file in source.files):
            return folder
    return None


def _load_digits() -> Splits:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    return split(Dataset(images, digits.target.astype(np.int32)), validation=0.1, test=0.2, seed=0)


def _places(source: Source, data_dir: str | Path | None) -> list[Path]:
    if data_dir is not None:
        bases = [Path(data_dir).expanduser()]
    else:
        environment = os.environ.get("JAXNN_DATA")
        bases = [*([Path(environment).expanduser()] if environment else []), _cache()]
    return [folder for base in bases for folder in (base / source.name, base)]


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("jaxnn"))


def _existing(folder: Path, file: IdxFile) -> Path | None:
    dotted = file.name.replace("-idx", ".idx")  # as some archives spell it
    for name in (file.name, f"{file.name}.gz", dotted, f"{dotted}.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _folder(source: Source, data_dir: str | Path | None) -> Path:
    """The folder with the data set's files, after downloading them if need be."""
    folder = where(source, data_dir)
    if folder is None and data_dir is not None:
        names = ", ".join(file.name for file in source.files)
        missing = "" if Path(data_dir).expanduser().is_dir() else "no such folder; "
        raise DataError(f"{data_dir}: {missing}expected the files of {source.name} there: {names}, gzipped or not")
    cached = _cache() / source.name
    if folder is None or folder == cached:
        _download(source, cached)
        return cached
    for file in source.files:
        if _existing(folder, file) is None:
            raise DataError(f"{folder / file.name}: no such file, gzipped or not; {source.name} needs it")
    return folder


def _read(source: Source, file: IdxFile, path: Path) -> np.ndarray:
    array = read_idx(path)
    if len(array) != file.count or array.dtype != np.uint8:
        return array
    digest = idx_sha256(array)
    for other in _SOURCES:
        if other is not source and any(digest == known.sha256 for known in other.files):
            raise DataError(f"{path}: is a file of {other.name}, not of {source.name}")
    if file.sha256 not in (digest, None):
        raise DataError(f"{path}: is damaged, or not {source.name}'s: SHA-256 {digest}, expected {file.sha256}")
    return array


def _download(source: Source, folder: Path) -> None:
    """Fetch what is missing."""
    for file in source.files:
        if _existing(folder, file) is None:
            verify = partial(_verify, source, file)
            download(source.name, folder / f"{file.name}.gz", source.mirrors, verify)


def _verify(source: Source, file: IdxFile, path: Path) -> None:
    if file.gzip_sha256 is None:
        _read(source, file, path)
    elif hashlib.sha256(path.read_bytes()).hexdigest() != file.gzip_sha256:
        raise DataError("another file than expected, by its SHA-256")


def _check_pair(source: Source, image_path: Path, images: np.ndarray, label_path: Path, labels: np.ndarray) -> None:
    height_width = source.shape[:2]
    if images.dtype != np.uint8 or images.shape[1:] != height_width:
        raise DataError(
            f"{image_path}: holds {images.dtype} of shape {images.shape}; expected uint8 images of "
            f"{height_width[0]}x{height_width[1]} pixels"
        )
    if labels.ndim != 1:
        hint = " (write the column alone)" if labels.shape[1:] == (1,) else ""
        raise DataError(f"{label_path}: holds labels of shape {labels.shape}; expected ({len(labels)},){hint}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{label_path}: holds {labels.dtype}; expected integer labels")
    if len(images) != len(labels):
        raise DataError(f"{label_path}: holds {len(labels)} labels, but {image_path.name} {len(images)} images")
    if len(images) < 6:
        raise DataError(f"{image_path}: holds {len(images)} images; 6 or more are needed")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
    if len(wrong):
        raise DataError(
            f"{label_path}: label {wrong[0]} is {labels[wrong[0]]}; expected 0 to {len(source.classes) - 1}"
        )
