"""Pictures from files, brought into the form of a data set's own images."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from jaxnn.data.dataset import DataError
from jaxnn.data.sources import Source

__all__ = ["read_image", "to_example"]


def read_image(path: str | Path) -> Float[np.ndarray, "height width"]:
    """Read a picture (PNG, JPEG, …) as shades of grey from 0, black, to 1, white; what is transparent is white.

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
    grey = Image.alpha_composite(paper, picture).convert("L")
    return np.asarray(grey, np.float32) / 255


def to_example(
    picture: Float[np.ndarray, "height width"], source: Source
) -> UInt8[np.ndarray, "example_height example_width 1"]:
    """Scale and centre a picture as the data set's images are: bright strokes on black.

    A picture on a bright ground is inverted. What is drawn is cut out, scaled so that its longer side fills the
    data set's box, and centred: by its mass for MNIST (LeCun et al. 1998, section III.A), else by its outline. A
    picture that has the size of the data set's images already only changes its brightness.

    Raises:
        DataError: nothing is drawn.

    >>> import numpy as np, jaxnn as nn
    >>> picture = np.ones((100, 60), np.float32)
    >>> picture[20:80, 28:33] = 0.0  # a black stroke on white paper
    >>> example = to_example(picture, nn.data.find("digits"))
    >>> print(example[..., 0].max(), example[:, 3:5, 0].sum() > 0.9 * example.sum())
    16 True
    """
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
    return np.rint(ink * source.brightest).astype(np.uint8)[..., None]


def _place(
    ink: Float[np.ndarray, "height width"], shape: tuple[int, int], box: int, by_mass: bool
) -> Float[np.ndarray, "new_height new_width"]:
    from PIL import Image

    rows, columns = (np.flatnonzero((ink > 0.2).any(axis=axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(cut.shape)
    height, width = (max(1, round(scale * side)) for side in cut.shape)
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(cut).resize((width, height), resample), np.float32)

    weights = small if by_mass else np.ones_like(small)
    placed = np.zeros(shape, np.float32)
    corner = []
    for axis, (size, whole) in enumerate(zip(small.shape, shape, strict=True)):
        centre = np.average(np.arange(size), weights=weights.sum(axis=1 - axis))
        start = round((whole - 1) / 2 - centre) if not by_mass else round(whole / 2 - centre)
        corner.append(min(max(start, 0), whole - size))
    placed[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = small
    return np.clip(placed, 0, 1)
