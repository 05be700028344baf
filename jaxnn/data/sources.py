"""Data sets by name: found in a folder or in the cache, else downloaded and verified."""

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from jaxnn._checks import in_words, unknown
from jaxnn.data._files import as_path, opened
from jaxnn.data.catalogue import SOURCES, Archive, DataFile, Source
from jaxnn.data.cifar import cifar_examples, record_size
from jaxnn.data.dataset import DataError, Dataset, Parts, Size, Splits, divide
from jaxnn.data.download import fetch
from jaxnn.data.formats import idx_sha256, read_idx, read_tar

__all__ = ["download", "find", "load_named", "sources", "where"]


def sources() -> tuple[Source, ...]:
    """The data sets that `load` knows by name.

    >>> import jaxnn as nn
    >>> print([source.name for source in nn.data.sources()])
    ['digits', 'diabetes', 'mnist', 'fashion_mnist', 'kmnist', 'cifar10', 'cifar100']
    """
    return SOURCES


def find(name: str) -> Source:
    """What is known of a data set.

    Raises:
        DataError: no data set has this name.

    >>> import jaxnn as nn
    >>> print(nn.data.find("mnist").about.shape)
    (28, 28, 1)
    """
    source = by_name(name)
    if source is None:
        raise DataError(unknown("data set", name, [source.name for source in SOURCES]))
    return source


def by_name(name_or_path: str | Path) -> Source | None:
    """The data set of this name; None if there is none, as for a path. A `Path` is always a path.

    >>> print(by_name("fashion-mnist").about.shape, by_name("./mnist"))
    (28, 28, 1) None
    """
    if not isinstance(name_or_path, str | Path):
        raise TypeError(f"data is named by a name such as 'digits', or a path; got {in_words(name_or_path)}")
    if isinstance(name_or_path, Path):
        return None
    name = name_or_path.replace("-", "_")
    return next((source for source in SOURCES if source.name == name), None)


def load_named(
    source: Source,
    data_dir: str | Path | None = None,
    *,
    validation: Size | None = None,
    test: Size | None = None,
    seed: int = 0,
) -> Splits:
    """Load one of the `sources`: training, validation and test data.

    Images are uint8 `[n, height, width, channels]` with labels int32 `[n]`. `digits` is built in: 1,258 / 180 / 359
    images of 8x8 pixels from 0 to 16. `mnist`, `fashion_mnist` and `kmnist` are 50,000 / 10,000 / 10,000 of 28x28
    pixels from 0 to 255; `cifar10` and `cifar100` 40,000 / 10,000 / 10,000 of 32x32 in red, green and blue, the
    latter with its 100 fine labels. `diabetes` is built in as well: 310 / 44 / 88 patients with ten measurements in
    their own units, float32 `[n, 10]`, and one number to predict, float32 `[n, 1]`.

    A built-in set is divided at random by `seed`, always the same way for the same seed, by default into 70 / 10 /
    20 %; `validation` and `test` set other fractions below 1 or numbers of examples. The others have a test set of
    their own, which nothing changes; their validation data is the last of the official training data, or, where
    `validation` is given, so much of it at random by `seed`, stratified.

    Their files are looked for in `data_dir` and nowhere else if it is given; else in `$JAXNN_DATA` and the user's
    cache; and else downloaded into the cache. A folder may hold the files or a subfolder of the data set's name.
    MNIST, Fashion-MNIST and KMNIST share their files' names: where the digests of labels say that they are another
    one's, `data_dir` is refused and `$JAXNN_DATA` passed over. IDX files may be gzipped. MNIST's of the official size
    must have the official content, by SHA-256, and Fashion-MNIST's and KMNIST's are verified when they are downloaded;
    files with fewer or more examples in the same layout are taken as they are. CIFAR's are the binary versions: files
    of the official numbers of records, by themselves, in the folder that their archive makes, or in the archive, which
    is verified when it is downloaded.

    Raises:
        ValueError: `test` for a data set with a test set of its own, or parts too large or too small.
        DataError: a file is missing, truncated, corrupt or not of this data set; or no mirror delivers it.

    >>> import jaxnn as nn
    >>> train, validation, test = load_named(nn.data.find("diabetes"), test=100)
    >>> print(train.x.shape, train.x.dtype, len(test.x))
    (298, 10) float32 100
    """
    if not source.files:
        return divide(Parts(_BUILT_IN[source.name]()), validation=validation, test=test, seed=seed)
    if test is not None:
        raise ValueError(f"test={test}: {source.name} has a test set of its own, which is never mixed in; leave it out")
    train, official = _read_parts(source, _folder(source, data_dir))
    if validation is not None:
        return divide(Parts(train, test=official), validation=validation, seed=seed)
    kept = len(train.x) - len(train.x) // source.folds
    return Splits(Dataset(train.x[:kept], train.y[:kept]), Dataset(train.x[kept:], train.y[kept:]), official)


def download(source: str | Source, data_dir: str | Path | None = None) -> Path:
    """Fetch a data set into the folder of its name in `data_dir`, or in the user's cache, if it is not there yet.

    Where `where` finds it, nothing is fetched; of what the folder of its name holds in part, the rest is, in
    `$JAXNN_DATA` as well. Everything is read once, and so verified as `load` verifies it. Returns the folder.

    Raises:
        DataError: no such data set, or it is built in; no mirror delivers it, or it cannot be stored; or a file that
            is there already is truncated, corrupt or not of this data set.

    >>> try:
    ...     download("digits")
    ... except DataError as error:
    ...     print(error)
    digits is built in: there is nothing to download
    """
    source = source if isinstance(source, Source) else find(source)
    if not source.files:
        raise DataError(f"{source.name} is built in: there is nothing to download")
    base, found = _found(source, data_dir)
    folder = base / source.name
    if found is None or not _is_own(source, found):
        _fetch_missing(source, folder)
        found = folder
    _read_parts(source, found)
    return folder if found.is_relative_to(folder) else found


def where(source: Source, data_dir: str | Path | None = None) -> Path | None:
    """The folder in which a data set lies, whole; None if it is built in or would have to be downloaded.

    MNIST, Fashion-MNIST and KMNIST share their files' names. Whose they are in a folder that has the name of none is
    told by the digest of the test labels as they are distributed; files of another size in this layout are MNIST's.

    >>> import jaxnn as nn
    >>> print(nn.data.where(nn.data.find("digits")))
    None
    """
    if not isinstance(source, Source):
        raise TypeError(f"source must be a Source, as find('mnist') gives it; got {in_words(source)}")
    _, folder = _found(source, data_dir)
    return folder if folder is not None and _is_own(source, folder) else None


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Dataset(digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int32))


def _diabetes() -> Dataset:
    from sklearn.datasets import load_diabetes

    # Its scaled form is scaled by all patients, those to be tested on among them.
    diabetes = load_diabetes(scaled=False)
    return Dataset(diabetes.data.astype(np.float32), diabetes.target.astype(np.float32)[:, None])


_BUILT_IN = {"digits": _digits, "diabetes": _diabetes}


def _read_parts(source: Source, folder: Path) -> tuple[Dataset, Dataset]:
    """The official training and test data."""
    return _read_cifar(source, source.archive, folder) if source.archive else _read_mnist(source, folder)


def _read_mnist(source: Source, folder: Path) -> tuple[Dataset, Dataset]:
    with ThreadPoolExecutor() as pool:
        paths = [_existing(folder, file) or folder / file.name for file in source.files]
        arrays = list(pool.map(_read, [source] * len(paths), source.files, paths))
    for images, labels in ((0, 1), (2, 3)):
        _check_pair(source, paths[images], arrays[images], paths[labels], arrays[labels])
    train_x, train_y, test_x, test_y = arrays
    return Dataset(train_x[..., None], train_y.astype(np.int32)), Dataset(test_x[..., None], test_y.astype(np.int32))


def _read_cifar(source: Source, archive: Archive, folder: Path) -> tuple[Dataset, Dataset]:
    record = record_size(archive.labels)

    def read(file: DataFile) -> Dataset:
        path = folder / file.name
        with opened(path) as stored:
            # One byte beyond tells a file that is too long from one that is right.
            content = stored.read(file.count * record + 1)
        return cifar_examples(content, str(path), archive.labels, records=file.count)

    if all(_existing(folder, file) for file in source.files):
        with ThreadPoolExecutor() as pool:
            batches = list(pool.map(read, source.files))
    else:
        path = _archive(source, folder)
        assert path is not None
        sizes = {f"{archive.folder}/{file.name}": file.count * record for file in source.files}
        members = read_tar(path, sizes)
        batches = [cifar_examples(members.pop(name), f"{path}: {name}", archive.labels) for name in sizes]
    *training, test = batches
    return Dataset(np.concatenate([part.x for part in training]), np.concatenate([part.y for part in training])), test


def _found(source: Source, data_dir: str | Path | None) -> tuple[Path, Path | None]:
    """A place to look in that has files of the data set, and their folder there; else the last place, and None.

    A folder that has all files goes before one that has some, wherever they are.
    """
    bases = [_cache()] if data_dir is None else [as_path(data_dir, "data_dir").expanduser()]
    if data_dir is None and (environment := os.environ.get("JAXNN_DATA")):
        bases.insert(0, Path(environment).expanduser())
    begun = [(base, folder) for base in bases for folder in _begun(source, base) if not _is_anothers(source, folder)]
    whole = [(base, folder) for base, folder in begun if _is_whole(source, folder)]
    return next(iter(whole + begun), (bases[-1], None))


def _begun(source: Source, base: Path) -> list[Path]:
    """The folders, below `base` or it, with files of such names as the data set has."""
    folders = [base / source.name, base]
    if source.archive is not None:
        # What is unpacked is read faster than the archive beside it.
        folders = [place for folder in folders for place in (folder / source.archive.folder, folder)]
    return [
        folder
        for folder in folders
        if _archive(source, folder) or any(_existing(folder, file) for file in source.files)
    ]


def _is_whole(source: Source, folder: Path) -> bool:
    return bool(_archive(source, folder)) or all(_existing(folder, file) for file in source.files)


def _is_anothers(source: Source, folder: Path) -> bool:
    """Whether labels in the folder are known to be another data set's. They are small: it takes no time."""
    for path in (_existing(folder, file) for file in source.files if "labels" in file.name):
        if path is None:
            continue
        with contextlib.suppress(DataError):  # which is for the reading to say
            labels = read_idx(path)
            if labels.dtype == np.uint8 and _owner(idx_sha256(labels), path) not in (source.name, None):
                return True
    return False


def _is_own(source: Source, folder: Path) -> bool:
    """Whether the folder has all files of the data set, and surely no other's of the same names."""
    names = [file.name for file in source.files]
    alike = [other.name for other in SOURCES if [file.name for file in other.files] == names]
    if not _is_whole(source, folder) or len(alike) == 1 or folder.name == source.name:
        return _is_whole(source, folder)
    file = source.files[-1]
    path = _existing(folder, file)
    assert path is not None
    try:
        labels = _read(source, file, path)
    except DataError:
        return False
    if len(labels) != file.count:
        return source.name == alike[0]
    return file.sha256 is not None or _sha256(path) == file.gzip_sha256


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("jaxnn"))


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
    base, folder = _found(source, data_dir)
    if folder is None and data_dir is not None:
        # Of another data set's files the reading says whose they are.
        folder = next(iter(_begun(source, base)), None)
    if folder is None and data_dir is not None:
        names = ", ".join(file.name for file in source.files)
        forms = f"or {source.archive.name} (the binary version)" if source.archive else "gzipped or not"
        missing = "" if Path(data_dir).expanduser().is_dir() else "no such folder; "
        raise DataError(f"{data_dir}: {missing}expected the files of {source.name} there: {names}, {forms}")
    cached = _cache() / source.name
    if folder is None or folder == cached:
        _fetch_missing(source, cached)
        return cached
    for file in source.files:
        if _existing(folder, file) is None and _archive(source, folder) is None:
            also = "" if source.archive else ", gzipped or not"
            raise DataError(f"{folder / file.name}: no such file{also}; {source.name} needs it")
    return folder


def _fetch_missing(source: Source, folder: Path) -> None:
    missing = [file for file in source.files if _existing(folder, file) is None]
    archive = source.archive
    if archive is None:
        for file in missing:
            target = folder / f"{file.name}.gz"
            fetch(source.name, target, source.mirrors, file.gzip_size, partial(_verify, source, file))
    elif missing and _archive(source, folder) is None:
        verify = partial(_check_digest, archive.sha256)
        fetch(source.name, folder / archive.name, source.mirrors, archive.size, verify)


def _verify(source: Source, file: DataFile, path: Path) -> None:
    if file.gzip_sha256 is None:
        _read(source, file, path)
    else:
        _check_digest(file.gzip_sha256, path)


def _check_digest(sha256: str, path: Path) -> None:
    if _sha256(path) != sha256:
        raise DataError("another file than expected, by its SHA-256")


def _sha256(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(source: Source, file: DataFile, path: Path) -> np.ndarray:
    """The array in one of MNIST's files, or of a data set in its layout, if it is not another one's."""
    array = read_idx(path)
    if len(array) != file.count or array.dtype != np.uint8:
        return array
    digest = idx_sha256(array)
    owner = _owner(digest, path)
    if owner not in (source.name, None):
        raise DataError(f"{path}: is a file of {owner}, not of {source.name}")
    if file.sha256 not in (digest, None):
        raise DataError(f"{path}: is damaged, or not {source.name}'s: SHA-256 {digest}, expected {file.sha256}")
    return array


def _owner(digest: str, path: Path) -> str | None:
    """The data set that a file is known to be of: by the `digest` of its content, or by that of the file."""
    stored = _sha256(path)
    return next(
        (
            known.name
            for known in SOURCES
            if any(digest == file.sha256 or stored == file.gzip_sha256 for file in known.files)
        ),
        None,
    )


def _check_pair(source: Source, image_path: Path, images: np.ndarray, label_path: Path, labels: np.ndarray) -> None:
    height_width = source.about.shape[:2]
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
    wrong = np.flatnonzero((labels < 0) | (labels >= source.about.outputs))
    if len(wrong):
        raise DataError(
            f"{label_path}: label {wrong[0]} is {labels[wrong[0]]}; expected 0 to {source.about.outputs - 1}"
        )
