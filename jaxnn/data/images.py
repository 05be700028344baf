"""Pictures from files, brought into the form of a data set's own images."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from jaxnn.data._files import printable
from jaxnn.data.dataset import DataError
from jaxnn.data.description import Description, Drawing

__all__ = ["PictureHeader", "fit", "read_header", "read_image", "read_pixels", "to_example"]

# Others that Pillow knows run programs (EPS) or have no pixels of their own (WMF).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 2**25
_GREY = ("1", "L", "LA", "La", "I", "F")
_WHITE = 65535  # of 16 bits
_ENOUGH_DRAWINGS = 1000  # to see how they lie
_SAVE_AGAIN = "save it with 8 bits a pixel"


class PictureHeader(NamedTuple):
    """What a picture's file says of it before its pixels."""

    height: int
    width: int
    grey: bool


def read_image(path: str | Path, *, colour: bool = False) -> Float[np.ndarray, "height width *channels"]:
    """Read a picture as shades of grey from 0, black, to 1, white; what is transparent is white.

    With `colour` as red, green and blue, `[height, width, 3]`. The formats are PNG, JPEG, BMP, GIF, WebP, TIFF and
    PPM; of an animation the first frame is read. A photo is turned upright as its EXIF orientation says. PNG has
    checksums; in JPEG and others without, damage that leaves the file decodable cannot be told from a picture.

    Raises:
        DataError: the file is missing, no picture, damaged or larger than 2²⁵ pixels, or its numbers have 32 bits,
            of which none is known to be white.

    >>> import numpy as np, pathlib, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "grey.png")
    ...     Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(path)
    ...     print(read_image(path))
    [[0.  0.2 1. ]]
    """
    # Not in read_pixels, which several threads run at a time, and the filters are those of all of them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF data, of which a picture is none the worse
        shades = read_pixels(Path(path), colour=colour).astype(np.float32)
    shades /= 255
    return shades


def read_header(path: Path) -> PictureHeader:
    """The size of a picture, upright, and whether it is in shades of grey, by its mode.

    Raises:
        DataError: as `read_image`, as far as the header tells.
    """
    from PIL import ExifTags, Image

    with _decoding(path) as stored, Image.open(stored, formats=_FORMATS) as file:
        width, height = file.size
        grey = file.mode.split(";")[0] in _GREY
        # PNG's own getexif would decode the pixels; TIFF's size is that of the upright picture already.
        exif = {} if file.format == "TIFF" else Image.Image.getexif(file)
        if exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
            width, height = height, width
    _check_pixels(path, (width, height))
    return PictureHeader(height, width, grey)


def read_pixels(path: Path, *, colour: bool) -> UInt8[np.ndarray, "height width *channels"]:
    """The pixels of a picture as `read_image` has them, but as bytes.

    Raises:
        DataError: as `read_image`.
    """
    from PIL import Image

    with _decoding(path) as stored:
        with Image.open(stored, formats=_FORMATS) as file:
            _check_pixels(path, file.size)
            if file.format == "PNG":
                file.verify()  # decoding alone does not look at the checksums; it needs a file opened anew
        with Image.open(stored, formats=_FORMATS) as file:
            picture = _on_white(path, file)
        # What is not needed is not copied: of a large picture each copy takes 100 MB and more.
        mode = "RGB" if colour else "L"
        return np.array(picture if picture.mode == mode else picture.convert(mode))


def _on_white(path: Path, file: Any) -> Any:
    """The picture upright, with at most 8 bits a channel, before white where it is transparent."""
    from PIL import Image, ImageOps

    file.load()
    ImageOps.exif_transpose(file, in_place=True)
    picture = _eight_bits(path, file)
    if not picture.has_transparency_data:
        return picture
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture if picture.mode == "RGBA" else picture.convert("RGBA"))
    return white


@contextmanager
def _decoding(path: Path) -> Iterator[BufferedReader]:
    """A file to decode; whatever the decoder says against it becomes a DataError."""
    from PIL import UnidentifiedImageError

    try:
        if path.exists() and not path.is_file():  # a pipe may never begin
            raise DataError(f"{path}: cannot be read as a picture (it is no file)")
        with path.open("rb") as stored:
            # Not the path: what Pillow maps into memory (a bare TIFF), it scrambles where EXIF has it turned.
            yield stored
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: cannot be read as a picture (it is none of {', '.join(_FORMATS)})") from None
    except Exception as error:  # a damaged file makes Pillow raise SyntaxError, struct.error, KeyError and others
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a picture ({printable(reason)})") from None


def _check_pixels(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if not 0 < width * height <= _MOST_PIXELS:
        raise DataError(f"{path}: has {height}x{width} pixels; expected 1 to {_MOST_PIXELS:,} of them in all")


def _eight_bits(path: Path, file: Any) -> Any:
    """The picture with at most 8 bits a channel; of more, Pillow's own conversion would cut off what is above 255."""
    from PIL import Image
    from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

    kind = file.mode.split(";")[0]
    if kind not in ("I", "F"):
        return file
    if kind == "F" or (file.mode == "I" and file.format == "TIFF"):
        raise DataError(f"{path}: holds 32-bit numbers, of which none is known to be white; {_SAVE_AGAIN}")
    if file.format == "TIFF":
        # Pillow leaves 12 bits as they are, and does not invert 16 bits of which 0 is white.
        bits, meaning = (file.tag_v2.get(tag) for tag in (BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION))
        if (bits, meaning) != ((16,), 1):
            raise DataError(f"{path}: holds 12-bit numbers, or inverted ones of 16 bits; {_SAVE_AGAIN}")
    values = np.asarray(file)
    if "transparency" in file.info:
        values = np.where(values == file.info["transparency"], _WHITE, values)
    return Image.fromarray((values // (_WHITE // 255)).astype(np.uint8))


def fit(
    picture: UInt8[np.ndarray, "height width *channels"], shape: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width new_channels"]:
    """The middle of a picture with the aspect ratio of `shape`, height and width, scaled to that size.

    A pixel of a reduced picture is the mean of the pixels that fall together there. A picture of that size stays as
    it is. Shades of grey without an axis of channels get one.

    >>> import numpy as np
    >>> print(fit(np.array([[9, 10, 20, 9], [9, 30, 40, 9]], np.uint8), (1, 1))[..., 0])
    [[25]]
    """
    if picture.ndim == 2:
        picture = picture[..., None]
    whole = picture.shape[:2]
    if whole == shape:
        return picture
    height, width = shape
    scale = min(whole[0] / height, whole[1] / width)
    rows, columns = (_middle(size, max(1, round(scale * side))) for size, side in zip(whole, shape, strict=True))
    middle = picture[rows, columns]
    channels = (middle[..., channel].astype(np.float32) for channel in range(middle.shape[-1]))
    scaled = np.stack([_resize(channel, shape) for channel in channels], axis=-1)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def _middle(size: int, kept: int) -> slice:
    start = (size - kept) // 2
    return slice(start, start + kept)


def to_example(
    picture: Float[np.ndarray, "height width *channels"], description: Description
) -> UInt8[np.ndarray, "example_height example_width example_channels"]:
    """Bring a picture, as `read_image` has it, into the form of the data set's images.

    A photo is cut and scaled as `fit` says. A drawing becomes bright strokes on black: on a bright ground it is
    inverted; what is drawn is cut out, scaled so that its longer side fills the data set's box, and centred: by its
    mass for MNIST (LeCun et al. 1998, section III.A), else by its outline. A drawing that has the size of the data
    set's images already only changes its brightness.

    Raises:
        DataError: nothing is drawn.
        ValueError: the data set's examples are no pictures, or have another number of channels.

    >>> import numpy as np
    >>> from jaxnn.data.description import Description, Drawing
    >>> picture = np.ones((100, 60), np.float32)
    >>> picture[20:80, 28:33] = 0.0  # a black stroke on white paper
    >>> digits = Description("digits", "", (8, 8, 1), brightest=16, drawing=Drawing(box=8, centred_by_mass=False))
    >>> example = to_example(picture, digits)
    >>> print(example[..., 0].max(), example[:, 3:5, 0].sum() > 0.9 * example.sum())
    16 True
    >>> sky = np.full((200, 300, 3), [0.2, 0.4, 0.8], np.float32)
    >>> print(to_example(sky, Description("photos", "", (32, 32, 3), brightest=255))[0, 0])
    [ 51 102 204]
    """
    if description.brightest is None:
        raise ValueError(f"the examples of {description.name} are no pictures")
    height, width, channels = description.shape
    if (*picture.shape, 1)[2] != channels:
        raise ValueError(
            f"the picture has shape {picture.shape}, but the images of {description.name} have {channels} channels "
            f"(use read_image(path, colour={description.colour}))"
        )
    if description.drawing:
        values = _drawing(picture, (height, width), description.drawing)[..., None] * description.brightest
    else:
        values = fit(np.rint(picture * 255).astype(np.uint8), (height, width)) * (description.brightest / 255)
    return np.rint(values).astype(np.uint8)


def drawing_of(images: UInt8[np.ndarray, "examples height width 1"], brightest: int = 255) -> Drawing | None:
    """How what is drawn lies in images that came as arrays; None if they are no bright strokes on black.

    `brightest` is the value of white.

    They are if the border is black in nine of ten. The box is the median of the longer sides of what is drawn; it is
    centred by its mass if the centre of mass keeps nearer to the middle than that of the outline.

    >>> import numpy as np
    >>> images = np.zeros((10, 9, 9, 1), np.uint8)
    >>> images[:, 2:7, 4] = 255
    >>> print(drawing_of(images), drawing_of(255 - images))
    Drawing(box=5, centred_by_mass=False) None
    """
    some = images[:: -(-len(images) // _ENOUGH_DRAWINGS), ..., 0]
    border = np.concatenate([some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]], axis=1)
    drawn = some[(some > 0.2 * brightest).any(axis=(1, 2))]
    if np.mean(np.median(border, axis=1) == 0) < 0.9 or not len(drawn):
        return None
    sides, of_outline, of_mass = [], [], []
    for axis in (1, 2):
        along = drawn.max(axis=3 - axis) > 0.2 * brightest
        size = along.shape[1]
        first, last = along.argmax(axis=1), size - 1 - along[:, ::-1].argmax(axis=1)
        sides.append(last - first + 1)
        of_outline.append((first + last) / 2 - (size - 1) / 2)
        mass = drawn.sum(axis=3 - axis, dtype=np.float64)
        of_mass.append(mass @ np.arange(size) / mass.sum(axis=1) - size / 2)  # MNIST's middle lies between pixels
    box = int(np.median(np.maximum(*sides)))
    return Drawing(box, bool(np.square(of_mass).mean() < np.square(of_outline).mean()))


def _drawing(
    picture: Float[np.ndarray, "height width"], shape: tuple[int, int], drawing: Drawing
) -> Float[np.ndarray, "new_height new_width"]:
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    ink = (1 - picture) if np.median(border) > 0.5 else picture
    if np.ptp(picture) < 0.1:
        raise DataError("nothing is drawn there: the picture is of one shade")
    if picture.shape != shape:
        ink = ink - np.median(1 - border if np.median(border) > 0.5 else border)
        strength = ink.max()
        if strength < 0.1:
            raise DataError("nothing is drawn there that stands out from the border")
        ink = _place(np.clip(ink / strength, 0, 1), shape, drawing.box, drawing.centred_by_mass)
    return ink


def _place(
    ink: Float[np.ndarray, "height width"], shape: tuple[int, int], box: int, by_mass: bool
) -> Float[np.ndarray, "new_height new_width"]:
    rows, columns = (np.flatnonzero((ink > 0.2).any(axis=axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(cut.shape)
    height, width = (max(1, round(scale * side)) for side in cut.shape)
    small = _resize(cut, (height, width))

    weights = small if by_mass else np.ones_like(small)
    placed = np.zeros(shape, np.float32)
    corner = []
    for axis, (size, whole) in enumerate(zip(small.shape, shape, strict=True)):
        centre = np.average(np.arange(size), weights=weights.sum(axis=1 - axis))
        start = round((whole - 1) / 2 - centre) if not by_mass else round(whole / 2 - centre)
        corner.append(min(max(start, 0), whole - size))
    placed[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = small
    return np.clip(placed, 0, 1)


def _resize(
    grey: Float[np.ndarray, "height width"], shape: tuple[int, ...]
) -> Float[np.ndarray, "new_height new_width"]:
    from PIL import Image

    height, width = shape
    # The mean of the pixels that fall together; between pixels that are drawn apart, a ramp.
    resample = Image.Resampling.BOX if max(shape) < max(grey.shape) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(grey).resize((width, height), resample), np.float32)
