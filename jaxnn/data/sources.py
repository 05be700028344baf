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
from jaxnn.data.formats import CIFAR10_RECORD, cifar10_examples, idx_sha256, read_cifar10, read_idx, read_tar

__all__ = ["Source", "find", "load", "sources", "where"]


@dataclass(frozen=True)
class DataFile:
    """One of a data set's files."""

    name: str
    count: int
    """Examples in it."""
    sha256: str | None = None
    """Digest of the content."""
    gzip_sha256: str | None = None
    """Digest of the gzipped file as its authors distribute it, where that of the content is not published."""


@dataclass(frozen=True)
class Archive:
    """The one file in which a data set's files are distributed."""

    name: str
    folder: str
    """Of the files in it, and hence where people unpack it."""
    sha256: str


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
    files: tuple[DataFile, ...] = ()
    """Training images, training labels, test images, test labels; of an archive, training files and the test file;
    none if the data set is built in."""
    mirrors: tuple[str, ...] = ()
    archive: Archive | None = None
    """None if each file is distributed by itself."""
    folds: int = 6
    """Equal parts of the training data, of which the last is the validation data."""

    @property
    def colour(self) -> bool:
        """Whether the images are photos in red, green and blue, else drawings in shades of grey."""
        return self.shape[-1] == 3


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
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_IDX_FILES = {
    "train-images-idx3-ubyte": 60_000,
    "train-labels-idx1-ubyte": 60_000,
    "t10k-images-idx3-ubyte": 10_000,
    "t10k-labels-idx1-ubyte": 10_000,
}


def _idx_files(kind: str, *digests: str) -> tuple[DataFile, ...]:
    """MNIST's four files, with digests of one kind."""
    known = zip(_IDX_FILES.items(), digests, strict=True)
    return tuple(DataFile(name, count, **{kind: digest}) for (name, count), digest in known)


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
        _idx_files(
            "sha256",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
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
        _idx_files(
            "gzip_sha256",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    Source(
        "cifar10",
        "colour photos of 32x32 pixels (Krizhevsky 2009)",
        _CIFAR10,
        (32, 32, 3),
        255,
        32,
        False,
        (*(DataFile(f"data_batch_{n}.bin", 10_000) for n in range(1, 6)), DataFile("test_batch.bin", 10_000)),
        ("https://www.cs.toronto.edu/~kriz/",),
        Archive(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            # The authors publish an MD5 alone, c32a1d4ab5d03f1284b67883e8d87530; this is the same file's SHA-256.
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        folds=5,
    ),
)


def sources() -> tuple[Source, ...]:
    """The data sets that `load` knows by name.

    >>> import jaxnn as nn
    >>> print([source.name for source in nn.data.sources()])
    ['digits', 'mnist', 'fashion_mnist', 'cifar10']
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
    """Load a data set by name: training, validation and test data, images `[n, height, width, channels]` in uint8.

    `digits` is built in: 1,258 / 180 / 359 images of 8x8 pixels from 0 to 16, always the same division. `mnist` and
    `fashion_mnist` are 50,000 / 10,000 / 10,000 of 28x28 pixels from 0 to 255, and `cifar10` 40,000 / 10,000 /
    10,000 of 32x32 in red, green and blue; the validation data is the last of the official training data. Their
    files are looked for in `data_dir` and nowhere else if it is given; else in `$JAXNN_DATA` and the user's cache;
    and else downloaded into the cache. A folder may hold the files or a subfolder of the data set's name.

    MNIST's and Fashion-MNIST's IDX files may be gzipped. MNIST's of the official size must have the official content,
    by SHA-256, and Fashion-MNIST's are verified when they are downloaded; files with fewer or more examples in the
    same layout are taken as they are. CIFAR-10 is the binary version: six files of 10,000 records, by themselves,
    in a folder `cifar-10-batches-bin` or in the archive `cifar-10-binary.tar.gz`, which is verified when it is
    downloaded.

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
    train, test = _load_cifar10(source, folder) if source.archive else _load_idx(source, folder)
    kept = len(train.x) - len(train.x) // source.folds
    return Splits(Dataset(train.x[:kept], train.y[:kept]), Dataset(train.x[kept:], train.y[kept:]), test)


def where(source: Source, data_dir: str | Path | None = None) -> Path | None:
    """The folder in which files of a data set lie; None if it is built in or would have to be downloaded.

    >>> import jaxnn as nn
    >>> print(nn.data.where(nn.data.find("digits")))
    None
    """
    for folder in _places(source, data_dir):
        if _archive(source, folder) or any(_existing(folder, file) for file in source.files):
            return folder
    return None


def _load_digits() -> Splits:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    return split(Dataset(images, digits.target.astype(np.int32)), validation=0.1, test=0.2, seed=0)


def _load_idx(source: Source, folder: Path) -> tuple[Dataset, Dataset]:
    with ThreadPoolExecutor() as pool:
        paths = [_existing(folder, file) or folder / file.name for file in source.files]
        arrays = list(pool.map(_read, [source] * len(paths), source.files, paths))
    for images, labels in ((0, 1), (2, 3)):
        _check_pair(source, paths[images], arrays[images], paths[labels], arrays[labels])
    train_x, train_y, test_x, test_y = arrays
    return Dataset(train_x[..., None], train_y.astype(np.int32)), Dataset(test_x[..., None], test_y.astype(np.int32))


def _load_cifar10(source: Source, folder: Path) -> tuple[Dataset, Dataset]:
    if any(_existing(folder, file) is None for file in source.files):
        batches = _unpack(source, folder)
    else:
        with ThreadPoolExecutor() as pool:
            batches = list(pool.map(lambda f: read_cifar10(folder / f.name, records=f.count), source.files))
    *training, test = batches
    return Dataset(np.concatenate([part.x for part in training]), np.concatenate([part.y for part in training])), test


def _unpack(source: Source, folder: Path) -> list[Dataset]:
    path = _archive(source, folder)
    assert source.archive is not None and path is not None
    names = [f"{source.archive.folder}/{file.name}" for file in source.files]
    sizes = [file.count * CIFAR10_RECORD for file in source.files]
    members = read_tar(path, dict(zip(names, sizes, strict=True)))
    return [cifar10_examples(members.pop(name), f"{path}: {name}") for name in names]


def _places(source: Source, data_dir: str | Path | None) -> list[Path]:
    if data_dir is not None:
        bases = [Path(data_dir).expanduser()]
    else:
        environment = os.environ.get("JAXNN_DATA")
        bases = [*([Path(environment).expanduser()] if environment else []), _cache()]
    folders = [folder for base in bases for folder in (base / source.name, base)]
    if source.archive is None:
        return folders
    # What is unpacked is read faster than the archive beside it.
    return [place for folder in folders for place in (folder / source.archive.folder, folder)]


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("jaxnn"))


def _existing(folder: Path, file: DataFile) -> Path | None:
    names = [file.name]
    if "-idx" in file.name:
        dotted = file.name.replace("-idx", ".idx")  # as some archives spell it
        names = [file.name, f"{file.name}.gz", dotted, f"{dotted}.gz"]
    return _first(folder, names)


def _archive(source: Source, folder: Path) -> Path | None:
    if source.archive is None:
        return None
    return _first(folder, [source.archive.name, source.archive.name.removesuffix(".gz")])  # as some browsers store it


def _first(folder: Path, names: list[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _folder(source: Source, data_dir: str | Path | None) -> Path:
    """The folder with the data set's files, after downloading them if need be."""
    folder = where(source, data_dir)
    if folder is None and data_dir is not None:
        names = ", ".join(file.name for file in source.files)
        forms = f"or {source.archive.name} (the binary version)" if source.archive else "gzipped or not"
        missing = "" if Path(data_dir).expanduser().is_dir() else "no such folder; "
        raise DataError(f"{data_dir}: {missing}expected the files of {source.name} there: {names}, {forms}")
    cached = _cache() / source.name
    if folder is None or folder == cached:
        _download(source, cached)
        return cached
    for file in source.files:
        if _existing(folder, file) is None and _archive(source, folder) is None:
            also = "" if source.archive else ", gzipped or not"
            raise DataError(f"{folder / file.name}: no such file{also}; {source.name} needs it")
    return folder


def _read(source: Source, file: DataFile, path: Path) -> np.ndarray:
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
    missing = [file for file in source.files if _existing(folder, file) is None]
    if source.archive is None:
        for file in missing:
            download(source.name, folder / f"{file.name}.gz", source.mirrors, partial(_verify, source, file))
    elif missing and _archive(source, folder) is None:
        verify = partial(_check_digest, source.archive.sha256)
        download(source.name, folder / source.archive.name, source.mirrors, verify)


def _verify(source: Source, file: DataFile, path: Path) -> None:
    if file.gzip_sha256 is None:
        _read(source, file, path)
    else:
        _check_digest(file.gzip_sha256, path)


def _check_digest(sha256: str, path: Path) -> None:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
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
