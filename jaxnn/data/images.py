"""Pictures from files, brought into the form of a data set's own images."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from jaxnn.data.dataset import DataError
from jaxnn.data.sources import Source

__all__ = ["read_image", "to_example"]


def read_image(path: str | Path, *, colour: bool = False) -> Float[np.ndarray, "height width *channels"]:
    """Read a picture (PNG, JPEG, …) as shades of grey from 0, black, to 1, white; what is transparent is white.

    With `colour` as red, green and blue, `[height, width, 3]`.

    Raises:
        DataError: the file is missing, no picture, damaged or too large.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I") and picture.mode != "I":  # 16 bits, which convert would cut off at 255
                picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
            picture = picture.convert("RGBA")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture ({error})") from None
    paper = Image.new("RGBA", picture.size, "white")
    opaque = Image.alpha_composite(paper, picture).convert("RGB" if colour else "L")
    return np.asarray(opaque, np.float32) / 255


def to_example(
    picture: Float[np.ndarray, "height width *channels"], source: Source
) -> UInt8[np.ndarray, "example_height example_width example_channels"]:
    """Bring a picture into the form of the data set's images: a photo in colour, a drawing as bright strokes on black.

    Of a photo the square in the middle is scaled to the data set's size.

    A drawing on a bright ground is inverted. What is drawn is cut out, scaled so that its longer side fills the
    data set's box, and centred: by its mass for MNIST (LeCun et al. 1998, section III.A), else by its outline. A
    drawing that has the size of the data set's images already only changes its brightness.

    Raises:
        DataError: nothing is drawn.

    >>> import numpy as np, jaxnn as nn
    >>> picture = np.ones((100, 60), np.float32)
    >>> picture[20:80, 28:33] = 0.0  # a black stroke on white paper
    >>> example = to_example(picture, nn.data.find("digits"))
    >>> print(example[..., 0].max(), example[:, 3:5, 0].sum() > 0.9 * example.sum())
    16 True
    >>> sky = np.full((200, 300, 3), [0.2, 0.4, 0.8], np.float32)
    >>> print(to_example(sky, nn.data.find("cifar10"))[0, 0])
    [ 51 102 204]
    """
    values = _photo(picture, source.shape[:2]) if source.colour else _drawing(picture, source)[..., None]
    return np.rint(values * source.brightest).astype(np.uint8)


def _photo(
    picture: Float[np.ndarray, "height width 3"], shape: tuple[int, ...]
) -> Float[np.ndarray, "new_height new_width 3"]:
    side = min(picture.shape[:2])
    top, left = ((whole - side) // 2 for whole in picture.shape[:2])
    square = picture[top : top + side, left : left + side]
    return np.stack([_resize(square[..., channel], shape) for channel in range(3)], axis=-1)


def _drawing(picture: Float[np.ndarray, "height width"], source: Source) -> Float[np.ndarray, "new_height new_width"]:
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    ink = (1 - picture) if np.median(border) > 0.5 else picture
    height, width, _ = source.shape
    if np.ptp(picture) < 0.1:
        raise DataError("nothing is drawn there: the picture is of one shade")
    if picture.shape != (height, width):
        ink = ink - np.median(1 - border if np.median(border) > 0.5 else border)
        strength = ink.max()
        if strength < 0.1:
            raise DataError("nothing is drawn there that stands out from the border")
        ink = _place(np.clip(ink / strength, 0, 1), (height, width), source.box, source.centred_by_mass)
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
