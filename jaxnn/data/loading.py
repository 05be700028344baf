"""`load`: data from a name or a path, in three parts."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from jaxnn._checks import check_choice, check_size, unknown
from jaxnn.data._arrays import Stored, as_stored, check_alike
from jaxnn.data._files import as_path, reading
from jaxnn.data.cifar import read_cifar10, read_cifar100
from jaxnn.data.dataset import DataError, Dataset, Parts, Size, Splits, check_part, divide
from jaxnn.data.description import Description
from jaxnn.data.formats import read_idx
from jaxnn.data.image_folder import check_image_size, read_image_folder
from jaxnn.data.images import drawing_of
from jaxnn.data.json_lists import read_json
from jaxnn.data.npz import read_npz
from jaxnn.data.sources import by_name, find, load_named, sources
from jaxnn.data.tables import check_label, read_csv

__all__ = ["Loaded", "load", "load_described", "name_of"]

Task: TypeAlias = Literal["classification", "regression"]


_PICTURES = "pictures"


class Loaded(NamedTuple):
    """A data set, and what is known of it beside its arrays."""

    splits: Splits
    about: Description


@dataclass(frozen=True)
class _Options:
    """What some kinds of files can be read with."""

    label: str | None
    task: Task | None
    image_size: tuple[int, int] | None

    def refuse_others(self, name_or_path: str | Path, kind: str, *own: str) -> None:
        for name, what in {
            "label": "label= (--label-column) names the column of a table",
            "task": "task= (--task) is for the targets of a table",
            "image_size": "image_size= (--image-size) is for a folder of pictures",
        }.items():
            if getattr(self, name) is not None and name not in own:
                raise ValueError(f"{what}, and {name_or_path} is {kind}")


def load(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    *,
    validation: Size | None = None,
    test: Size | None = None,
    seed: int = 0,
    label: str | None = None,
    task: Task | None = None,
    image_size: tuple[int, int] | None = None,
) -> Splits:
    """Load training, validation and test data, by name or from files of yours.

    Names are those of `sources()`: digits and diabetes are built in; mnist, fashion_mnist, kmnist, cifar10 and cifar100
    are looked for in `data_dir` and nowhere else if it is given; else in `$JAXNN_DATA` and the user's cache; and else
    downloaded into the cache and verified. Names go before paths: write `./mnist`, or `Path("mnist")`, for a folder of
    that name.

    A path is
        a folder with a subfolder of pictures for each class, or with such folders in `train`, `test`, `validation`;
        a folder with MNIST's four IDX files, or a file of images in that format, its labels beside it;
        a folder with CIFAR-10's or CIFAR-100's binary files, or one of these;
        `.npz` with arrays x and y, or x_train, y_train, x_test, …;
        `.json` or `.json.gz`: a list of three [images, labels];
        `.csv` or `.tsv`: a table with a header line, gzipped or not.

    Images come as uint8 `[n, height, width, channels]`, rows of numbers as float32 `[n, features]`; classes as labels
    `[n]` from 0, numbers to predict as float32 `[n, targets]`.

    Args:
        name_or_path: name of a data set, or path of a file or folder.
        data_dir: folder with the files of a data set that has a name.
        validation: fraction (below 1) or number of examples for validation, out of the training data. None is the
            data set's own, else a tenth.
        test: likewise for test, where the data has no test part of its own: that is never mixed with other data. None
            is a fifth.
        seed: of the division, which is stratified: each part has each class in proportion. The same seed makes the
            same parts.
        label: column of a table that holds what to predict. None is the column called label, target, class or y.
        task: what a table's targets are, "classification" or "regression". None follows from the column: text is
            classes, decimals are numbers, whole numbers are classes where there are at most 20 different ones, each
            there five times on average.
        image_size: (height, width) for the pictures of a folder: their middle, scaled. None takes them as they are,
            and refuses pictures of different sizes.

    Raises:
        DataError: there is no such data set or file; or the file is truncated, corrupt, or not what its name says.
        ValueError: a size, label or task that does not go with the data.

    >>> import jaxnn as nn
    >>> train, validation, test = nn.data.load("digits")
    >>> print(train.x.shape, train.x.dtype, train.y[:3])
    (1258, 8, 8, 1) uint8 [5 8 6]
    >>> print([len(part.x) for part in nn.data.load("diabetes", validation=50, test=0.25)])
    [282, 50, 110]
    """
    return load_described(
        name_or_path,
        data_dir,
        validation=validation,
        test=test,
        seed=seed,
        label=label,
        task=task,
        image_size=image_size,
    ).splits


def load_described(
    name_or_path: str | Path,
    data_dir: str | Path | None = None,
    *,
    validation: Size | None = None,
    test: Size | None = None,
    seed: int = 0,
    label: str | None = None,
    task: Task | None = None,
    image_size: tuple[int, int] | None = None,
) -> Loaded:
    """As `load`, with the names of the classes and columns and all else that is known.

    >>> import jaxnn as nn
    >>> print(nn.data.load_described("diabetes").about.columns[:3])
    ('age', 'sex', 'bmi')
    """
    check_size("seed", seed, at_least=0)
    for part, size in {"validation": validation, "test": test}.items():
        if size is not None:
            check_part(part, size)
    if task is not None:
        check_choice("task", task, ["classification", "regression"])
    check_label(label)
    if image_size is not None:
        check_image_size(image_size)
    if data_dir is not None:
        as_path(data_dir, "data_dir")
    options = _Options(label, task, image_size)
    source = by_name(name_or_path)
    if source is not None:
        options.refuse_others(source.name, "a data set by name")
        with reading(Path(data_dir or source.name)):
            return Loaded(load_named(source, data_dir, validation=validation, test=test, seed=seed), source.about)
    if not str(name_or_path):
        raise DataError("data is named by a name such as 'digits', or a path; got an empty text")
    try:
        path = Path(name_or_path).expanduser()
        exists = path.exists()
    except PermissionError:
        raise DataError(f"{name_or_path}: cannot be read (Permission denied)") from None
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, or with a NUL; nobody's home
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{str(name_or_path)[:80]!r} is neither a data set nor a path ({reason})") from None
    if not exists:
        if len(path.parts) > 1 or path.suffix:
            raise DataError(f"{path}: no such file or folder")
        raise DataError(unknown("data set", str(name_or_path), [source.name for source in sources()]))
    if data_dir is not None:
        raise ValueError(f"data_dir= (--data-dir) is for data sets with a name, and {path} is a path")
    with reading(path):
        parts, title = _read_folder(path, options) if path.is_dir() else _read_file(path, options)
    try:
        splits = divide(parts, validation=validation, test=test, seed=seed)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return Loaded(splits, _describe(path, parts, title))


def name_of(name_or_path: str | Path) -> str:
    """What to call a data set: its name, or that of its folder, or that of its file without the ending.

    >>> print(name_of("fashion-mnist"), name_of("tables/flowers.csv.gz"))
    fashion_mnist flowers
    """
    source = by_name(name_or_path)
    if source is not None:
        return source.name
    path = Path(name_or_path).expanduser().absolute()
    return path.name if path.is_dir() else path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _read_folder(path: Path, options: _Options) -> tuple[Parts, str]:
    names = {entry.name for entry in path.iterdir()}
    idx = sorted(name for name in names if _is_idx_name(name) and "images" in name)
    idx = [name for name in idx if name.removesuffix(".gz") not in idx or not name.endswith(".gz")]  # unpacked twice
    if idx:
        options.refuse_others(path, "a folder of IDX files")
        return _read_idx_folder(path, idx), "images from IDX files"
    training = sorted(name for name in names if re.fullmatch(r"data_batch_[1-9]\.bin", name))
    if training:
        options.refuse_others(path, "a folder of CIFAR-10's files")
        last = int(training[-1][len("data_batch_")])
        if len(training) != last:
            raise DataError(f"{path}: of the files data_batch_1.bin to data_batch_{last}.bin some are missing")
        return _read_cifar(path, read_cifar10, training, "test_batch.bin", "cifar10"), "photos from CIFAR-10's files"
    if "train.bin" in names:
        options.refuse_others(path, "a folder of CIFAR-100's files")
        return _read_cifar(path, read_cifar100, ["train.bin"], "test.bin", "cifar100"), "photos from CIFAR-100's files"
    options.refuse_others(path, "a folder of pictures", "image_size")
    return read_image_folder(path, image_size=options.image_size), _PICTURES


def _read_file(path: Path, options: _Options) -> tuple[Parts, str]:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        options.refuse_others(path, "a table", "label", "task")
        return read_csv(path, label=options.label, task=options.task), "rows of a table"
    options.refuse_others(path, "a file of another kind")
    if name.endswith(".npz"):
        return read_npz(path), "arrays"
    if name.endswith(".json"):
        return Parts(*read_json(path)), "rows of numbers"
    if _is_idx_name(path.name):
        examples = _read_idx_pair(path)
        return Parts(examples.dataset, classes=examples.classes), "images from an IDX file"
    if name.startswith(("data_batch", "test_batch")) and name.endswith(".bin"):
        return Parts(read_cifar10(path), classes=find("cifar10").about.classes), "photos from a file of CIFAR-10"
    if name in ("train.bin", "test.bin"):
        return Parts(read_cifar100(path), classes=find("cifar100").about.classes), "photos from a file of CIFAR-100"
    raise DataError(
        f"{path}: unknown kind of file; there are .npz, .json, .csv, .tsv, IDX files (…-images-idx3-ubyte), "
        "CIFAR's binary files (data_batch_1.bin, train.bin) and folders of pictures"
    )


def _is_idx_name(name: str) -> bool:
    return "-idx" in name or ".idx" in name


def _read_idx_folder(path: Path, images: list[str]) -> Parts:
    """The part with t10k or test in its name is the test data."""
    test = [name for name in images if {"t10k", "test"} & set(re.split("[-_.]", name))]
    training = [name for name in images if name not in test]
    if len(training) != 1 or len(test) > 1:
        raise DataError(f"{path}: expected one file of training images and at most one of test images; got {images}")
    parts = [_read_idx_pair(path / name) for name in (*training, *test)]
    check_alike(path, parts)
    return Parts(parts[0].dataset, test=parts[1].dataset if test else None, classes=parts[0].classes)


def _read_idx_pair(path: Path) -> Stored:
    if "images" not in path.name:
        raise DataError(f"{path}: name the file of the images; that of the labels is looked for beside it")
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    found = [path.with_name(name) for name in (stem, f"{stem}.gz") if path.with_name(name).is_file()]
    if not found:
        raise DataError(
            f"{path.with_name(stem)}: no such file, gzipped or not; it would hold the labels of {path.name}"
        )
    stored = path.stat().st_size + found[0].stat().st_size
    names = path.name, found[0].name
    return as_stored(path, read_idx(path), read_idx(found[0]), names=names, stored=stored)


def _read_cifar(path: Path, read: Callable[[Path], Dataset], training: list[str], test: str, known: str) -> Parts:
    batches = [read(path / name) for name in training]
    train = Dataset(np.concatenate([part.x for part in batches]), np.concatenate([part.y for part in batches]))
    return Parts(
        train,
        test=read(path / test) if (path / test).exists() else None,
        classes=find(known).about.classes,
    )


def _describe(path: Path, parts: Parts, title: str) -> Description:
    x, y = parts.train
    given = [part for part in (parts.train, parts.validation, parts.test) if part is not None]
    classes = parts.classes
    targets: tuple[str, ...] = ()
    if np.issubdtype(y.dtype, np.integer):
        classes = classes or tuple(str(label) for label in range(1 + max(int(part.y.max()) for part in given)))
    else:
        targets = parts.targets or tuple(f"target {number}" for number in range(1, 1 + y.shape[1]))
    is_picture = x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] in (1, 3)
    # Pictures of a folder are read as they are; of arrays, what files would look like shows in the images alone.
    brightest = 255 if title == _PICTURES or not is_picture else _white(np.asarray(x))
    as_arrays = is_picture and x.shape[-1] == 1 and title != _PICTURES
    return Description(
        name=name_of(path),
        title=title,
        shape=x.shape[1:],
        classes=classes,
        targets=targets,
        brightest=brightest if is_picture else None,
        drawing=drawing_of(np.asarray(x), brightest) if as_arrays else None,
        columns=parts.columns,
    )


def _white(x: np.ndarray) -> int:
    """What white is in images that came as arrays: 255, unless they use less than half of that."""
    most = int(x.max())
    return most if 0 < most < 128 else 255
