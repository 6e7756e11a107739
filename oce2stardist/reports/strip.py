"""The row of pictures that sums the demo up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from oce2stardist.files.atomic import write_bytes
from oce2stardist.labels import BACKGROUND, Image, Labels, object_sizes
from oce2stardist.reports.drawing.pictures import (
    RGB,
    picture_of_image,
    picture_of_labels,
    picture_of_training_labels,
    strip,
)


def write_strip(
    path: Path,
    *,
    images: Mapping[str, Image],
    arrows: RGB,
    pseudo: Labels,
    annotations: Labels,
    predicted: Labels,
    truth: Labels,
) -> None:
    """Write squares of one size from both parts of the demo's image as a PNG.

    Parameters
    ----------
    path : Path
    images : mapping with the keys "train" and "test"
        Images of shape (Y, X, C).
    arrows : RGB
        Embeddings of "train", at working scale.
    pseudo, annotations : int32 arrays of shape (Y, X)
        Of "train".
    predicted, truth : int32 arrays of shape (Y, X)
        Of "test".
    """
    side = min(min(image.shape[:2]) for image in images.values())
    upper = _fullest_square((annotations > BACKGROUND) + 0.3 * (pseudo > BACKGROUND), side)
    lower = _fullest_square(truth > BACKGROUND, side)
    train, test = images["train"][upper], images["test"][lower]
    n_annotated = len(object_sizes(annotations)[0])
    panels = [
        ("1  Nuclei", picture_of_image(train)),
        (
            "2  Embeddings,\n    learned without labels",
            _resize(arrows, images["train"].shape)[upper],
        ),
        ("3  Pseudo labels,\n    drawn by nobody", picture_of_labels(train, pseudo[upper])),
        (
            f"4  Annotated cells\n    ({n_annotated} in all)",
            picture_of_training_labels(train, annotations[upper]),
        ),
        (
            "5  StarDist where nothing\n    was annotated",
            picture_of_labels(test, predicted[lower]),
        ),
        ("6  Truth there", picture_of_labels(test, truth[lower])),
    ]
    write_bytes(path, bytes(imagecodecs.png_encode(strip(panels, height=190), level=7)))


def _fullest_square(weight: NDArray[Any], side: int) -> tuple[slice, slice]:
    """Find the square of greatest weight."""
    sums = np.pad(weight.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)


def _resize(picture: RGB, shape: Sequence[int]) -> RGB:
    """Bring a picture at working scale to the size of its image."""
    resized: RGB = resize(
        picture, shape[:2], order=0, preserve_range=True, anti_aliasing=False
    ).astype(np.uint8)
    return resized
