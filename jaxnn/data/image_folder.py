"""Pictures in folders, one folder per class."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8

from jaxnn._checks import check_size, in_words
from jaxnn.data._files import as_path, printable, reading
from jaxnn.data.dataset import DataError, Dataset, Parts
from jaxnn.data.images import PictureHeader, fit, read_header, read_pixels

__all__ = ["FolderParts", "ImageFolder", "check_image_size", "list_image_folder", "read_image_folder"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_LITTER = ("thumbs.db", "desktop.ini")
_PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
_IMAGE_SIZE = "image_size=(64, 64) (--image-size 64x64)"
_MOST_BYTES = 2**32
_THREADS = 4
_STRETCH = 64  # pictures that a thread takes at a time
_LARGE = 13_000_000  # pixels, more than most phones' photos have: decoding takes 10 to 18 bytes for each

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ImageFolder:
    """Pictures that are read when they are asked for: `folder[i]` is the i-th image and its label."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    """Their names, in the order of the labels."""
    shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    fitted: bool
    """Whether pictures of other sizes are brought to this one, else refused."""

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[UInt8[np.ndarray, "height width channels"], np.int32]:
        """Read one picture.

        Raises:
            DataError: it is damaged, or has another size than it must have.
        """
        height, width, channels = self.shape
        pixels = read_pixels(self.paths[index], colour=channels == 3)
        if not self.fitted and pixels.shape[:2] != (height, width):
            found = "x".join(map(str, pixels.shape[:2]))
            raise DataError(
                f"{self.paths[index]}: has {found} pixels (height x width), not {height}x{width} as its header or "
                f"the others have it; give one size to bring them to, such as {_IMAGE_SIZE}"
            )
        return fit(pixels, (height, width)), np.int32(self.labels[index])


class FolderParts(NamedTuple):
    """The pictures of a folder, in the parts into which it divides them itself; None where it has no such part."""

    train: ImageFolder
    """All pictures, if the folder does not divide them."""
    validation: ImageFolder | None = None
    test: ImageFolder | None = None


def list_image_folder(path: str | Path, *, image_size: tuple[int, int] | None = None) -> FolderParts:
    """List the pictures of a folder by their headers, to read each when it is asked for.

    The folder, its parts, `image_size` and what is refused are as in `read_image_folder`, but the pixels are not
    looked at yet, and there may be any number of them.

    Raises:
        DataError: as `read_image_folder`, as far as the headers tell.
        ValueError, TypeError: `image_size` is no height and width.

    >>> import numpy as np, pathlib, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, shade in (("day", 250), ("night", 5)):
    ...         pathlib.Path(folder, name).mkdir()
    ...         Image.new("L", (4, 3), shade).save(pathlib.Path(folder, name, "sky.png"))
    ...     pictures = list_image_folder(folder).train
    ...     image, label = pictures[1]
    >>> print(len(pictures), pictures.shape, image[0, 0], pictures.classes[label])
    2 (3, 4, 1) [5] night
    """
    return _listed(as_path(path), image_size, thorough=False)[0]


def read_image_folder(path: str | Path, *, image_size: tuple[int, int] | None = None) -> Parts:
    """Read a folder with one subfolder per class: images uint8 `[n, height, width, channels]`, labels int32 `[n]`.

        folder/cats/1.png · folder/cats/2.png · folder/dogs/1.jpg

    The classes are the names of the subfolders, sorted as text (10 before 2); so are the pictures of each. Folders
    `train` (or `training`), `validation` (`valid`, `val`) and `test` (`testing`) around the class folders are parts
    that the data set divides itself into. The pictures are PNG, JPEG, BMP, GIF, WebP, TIFF, PPM or PGM, by their
    suffix, read as `read_image` does. They have one channel if all of them are stored in shades of grey, else three:
    a palette is colour.

    Without `image_size`, height and width, all must have one size. With it, the middle of each with that aspect
    ratio is scaled to it, exactly as a photo is for a prediction.

    Raises:
        DataError: the folder has another layout, or holds something else besides hidden files; pictures are damaged,
            of several sizes, or more than 4 GiB in all.
        ValueError, TypeError: `image_size` is no height and width.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, shade in (("day", 250), ("night", 5)):
    ...         pathlib.Path(folder, name).mkdir()
    ...         Image.new("RGB", (60, 40), (shade, 0, 0)).save(pathlib.Path(folder, name, "sky.png"))
    ...     parts = read_image_folder(folder, image_size=(8, 8))
    >>> print(parts.train.x.shape, parts.train.x[:, 0, 0, 0], parts.train.y, parts.classes)
    (2, 8, 8, 3) [250   5] [0 1] ('day', 'night')
    """
    root = as_path(path)
    folders, headers = _listed(root, image_size, thorough=True)
    count = sum(len(folder) for folder in folders if folder)
    shape = folders.train.shape
    taken = count * prod(shape)
    if taken > _MOST_BYTES:
        raise DataError(
            f"{root}: {count:,} images of {'x'.join(map(str, shape))} take {taken / 2**30:.1f} GiB as one array, and "
            f"{_MOST_BYTES / 2**30:.0f} GiB are the most; read them as they are needed with jaxnn.data.stream, or "
            f"make them smaller, such as with {_IMAGE_SIZE}"
        )
    images = np.empty((count, *shape), np.uint8)
    places = [(folder, index) for folder in folders if folder for index in range(len(folder))]

    def decode(number: int) -> None:
        folder, index = places[number]
        images[number] = folder[index][0]

    outcomes = _in_threads(decode, range(count), headers)
    _refuse_damaged(root, [folder.paths[index] for folder, index in places], outcomes)

    datasets: list[Dataset | None] = []
    start = 0
    for folder in folders:
        if folder is None:
            datasets.append(None)
            continue
        datasets.append(Dataset(images[start : start + len(folder)], np.array(folder.labels, np.int32)))
        start += len(folder)
    train, validation, test = datasets
    assert train is not None
    return Parts(train, validation, test, classes=folders.train.classes)


def _listed(
    root: Path, image_size: tuple[int, int] | None, *, thorough: bool
) -> tuple[FolderParts, list[PictureHeader]]:
    """The pictures and their headers; where one is damaged, a thorough look finds those damaged further in too."""
    if image_size is not None:
        check_image_size(image_size)
    with reading(root):  # a folder may be listed and not entered
        classes, files = _files(root)
    paths = [path for listed in files.values() for path, _ in listed]

    outcomes = _in_threads(read_header, paths)
    headers = [outcome for outcome in outcomes if not isinstance(outcome, DataError)]
    if thorough and len(headers) < len(paths):
        pairs = zip(outcomes, _in_threads(_decode, paths, outcomes), strict=True)
        _refuse_damaged(root, paths, [first if isinstance(first, DataError) else last for first, last in pairs])
    _refuse_damaged(root, paths, outcomes)
    size = image_size or _common_size(root, paths, headers)
    shape = (*size, 1 if all(header.grey for header in headers) else 3)
    folders = {
        part: ImageFolder(
            tuple(path for path, _ in listed),
            tuple(label for _, label in listed),
            classes,
            shape,
            image_size is not None,
        )
        for part, listed in files.items()
    }
    return FolderParts(**folders), headers


def _files(root: Path) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
    """The classes, and each part's picture files with their labels."""
    places = _parts(root)
    classes = tuple(folder.name for folder in _class_folders(places["train"]))
    for name in classes:
        if not name.isprintable():
            what = "is the name of a class and has characters that cannot be printed; rename the folder"
            raise _refusal(places["train"] / name, what)
    if len(classes) < 2:
        raise DataError(f"{places['train']}: holds one class alone, {printable(classes[0])}; expected two or more")
    return classes, {part: _pictures(place, classes, needed=part == "train") for part, place in places.items()}


def check_image_size(image_size: Any) -> None:
    """Refuse what is no height and width."""
    if not isinstance(image_size, tuple) or len(image_size) != 2:
        raise TypeError(f"image_size must be a height and a width, such as (64, 64); got {in_words(image_size)}")
    for name, size in zip(("height", "width"), image_size, strict=True):
        check_size(f"the {name} of image_size", size)


def _parts(root: Path) -> dict[str, Path]:
    """The folders that hold class folders: those of the parts, or the one folder of all."""
    folders = _class_folders(root)
    names = [_PARTS.get(folder.name.lower()) for folder in folders]
    if "train" not in names or None in names:
        return {"train": root}
    if len(set(names)) < len(names):
        listed = ", ".join(printable(folder.name) for folder in folders)
        raise DataError(f"{root}: holds a part twice, among {listed}; expected train, validation and test once at most")
    found = {name: folder for name, folder in zip(names, folders, strict=True) if name}
    return {part: found[part] for part in FolderParts._fields if part in found}


def _class_folders(folder: Path) -> list[Path]:
    entries = _visible(folder)
    for entry in entries:
        _check_link(entry)
        if not entry.is_dir():
            raise _refusal(entry, "lies outside the class folders; expected one folder per class beside it")
    if not entries:
        raise _refusal(folder, "is empty; expected one folder per class, with its pictures")
    return entries


def _pictures(place: Path, classes: tuple[str, ...], *, needed: bool) -> list[tuple[Path, int]]:
    """The picture files of one part, each with its label."""
    found = []
    for folder in _class_folders(place):
        if folder.name not in classes:
            has = printable(", ".join(classes[:10])) + (", …" if len(classes) > 10 else "")
            raise _refusal(folder, f"is a class that the training data lacks; it has {has}")
        entries = _visible(folder)
        for entry in entries:
            _check_link(entry)
            if entry.is_dir():
                what = "is a folder in a class folder; expected pictures alone there"
                raise _refusal(entry, f"{what} (class folders may lie in folders train, validation and test)")
            if entry.suffix.lower() not in _SUFFIXES or not entry.is_file():
                raise _refusal(entry, f"is no picture file; expected names that end with {', '.join(_SUFFIXES)}")
        if needed and not entries:
            raise _refusal(folder, "holds no pictures; expected at least one of each class")
        label = classes.index(folder.name)
        found += [(entry, label) for entry in entries]
    if not found:
        raise DataError(f"{place}: holds no pictures")
    return found


def _check_link(entry: Path) -> None:
    if entry.is_symlink() and not entry.exists():
        raise _refusal(entry, "is a link to nothing; expected what it should lead to, or no link")


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name, without hidden files and what systems leave behind."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise _refusal(folder, "no such folder") from None
    except OSError as error:
        raise _refusal(folder, f"cannot be read as a folder ({error.strerror})") from None
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _LITTER]


def _refusal(path: Path, what: str) -> DataError:
    return DataError(f"{printable(path)}: {what}")


def _common_size(root: Path, paths: Sequence[Path], headers: Sequence[PictureHeader]) -> tuple[int, int]:
    sizes = [(header.height, header.width) for header in headers]
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"{root}: {_within(root, paths[0])} has {sizes[0][0]}x{sizes[0][1]} pixels (height x width) and "
                f"{_within(root, path)} {size[0]}x{size[1]}; give one size to bring them to, such as "
                f"{_IMAGE_SIZE}"
            )
    return sizes[0]


def _decode(path: Path) -> None:
    read_pixels(path, colour=False)


def _in_threads(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    headers: Sequence[PictureHeader | DataError] = (),
) -> list[_Result | DataError]:
    """What the function returns for each, or what it raises against a file.

    Pictures that are large by their headers come one after the other.
    """
    large = [number for number, header in enumerate(headers) if _is_large(header)]
    others = sorted(set(range(len(items))) - set(large))

    def outcomes(numbers: Sequence[int]) -> dict[int, _Result | DataError]:
        return {number: outcome(items[number]) for number in numbers}

    def outcome(item: _Item) -> _Result | DataError:
        try:
            return function(item)
        except DataError as error:
            return error

    # A picture with damaged EXIF is none the worse; Pillow warns of it. The filters are those of all threads, so they
    # are set here and not in each.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")
        found: dict[int, _Result | DataError] = {}
        for some in pool.map(outcomes, (others[i : i + _STRETCH] for i in range(0, len(others), _STRETCH))):
            found |= some
        found |= outcomes(large)
    return [found[number] for number in range(len(items))]


def _is_large(header: PictureHeader | DataError) -> bool:
    return isinstance(header, PictureHeader) and header.height * header.width > _LARGE


def _refuse_damaged(root: Path, paths: Sequence[Path], outcomes: Sequence[object]) -> None:
    damaged = [(path, error) for path, error in zip(paths, outcomes, strict=True) if isinstance(error, DataError)]
    if not damaged:
        return
    named = [f"{_within(root, path)} {str(error).removeprefix(f'{path}: ')}" for path, error in damaged[:3]]
    more = ", …" if len(damaged) > len(named) else ""
    raise DataError(f"{root}: {len(damaged)} of {len(paths)} pictures cannot be read: {', '.join(named)}{more}")


def _within(root: Path, path: Path) -> str:
    return printable(path.relative_to(root))
