"""Write the row of pictures that sums the demo up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.transform import resize

from oce2stardist.files.atomic import write_bytes
from oce2stardist.labels import BACKGROUND, Image, Labels, object_sizes
from oce2stardist.reports.drawing.pictures import (
    RGB,
    picture_of_image,
    picture_of_labels,
    picture_of_training_labels,
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

    `images` (Y, X, C) have the keys "train" and "test". `arrows`, the picture of the embeddings
    at working scale, `pseudo` and `annotations` are of "train", `predicted` and `truth` of "test".
    """
    side = min(min(image.shape[:2]) for image in images.values())
    upper = _fullest_square((annotations > BACKGROUND) + 0.3 * (pseudo > BACKGROUND), side)
    lower = _fullest_square(truth > BACKGROUND, side)
    train, test = images["train"][upper], images["test"][lower]
    whole = images["train"].shape[:2]
    arrows = resize(arrows, whole, order=0, preserve_range=True, anti_aliasing=False)
    arrows = arrows.astype(np.uint8)
    annotated = picture_of_training_labels(train, annotations[upper])
    n_annotated = len(object_sizes(annotations)[0])
    panels = [
        ("1  Nuclei", picture_of_image(train)),
        ("2  Embeddings,\n    learned without labels", arrows[upper]),
        ("3  Pseudo labels,\n    without any outline", picture_of_labels(train, pseudo[upper])),
        (f"4  Annotated cells\n    ({n_annotated} in all)", annotated),
        ("5  StarDist where nothing\n    was annotated", picture_of_labels(test, predicted[lower])),
        ("6  Truth there", picture_of_labels(test, truth[lower])),
    ]
    write_bytes(path, bytes(imagecodecs.png_encode(_join(panels, height=190), level=7)))


def _join(panels: Sequence[tuple[str, RGB]], height: int) -> RGB:
    """Join captioned pictures to one row on white; captions stand above and add to the height."""
    gap, dpi = 8, 100
    resized = []
    for _, picture in panels:
        shape = (height, round(height * picture.shape[1] / picture.shape[0]))
        smooth = resize(picture.astype(np.float32), shape, order=1, anti_aliasing=True)
        resized.append(np.rint(smooth).astype(np.uint8))
    lines = max(caption.count("\n") + 1 for caption, _ in panels)
    total_height = height + 19 * lines + 10
    total_width = sum(picture.shape[1] + gap for picture in resized) + gap
    figure = Figure(figsize=(total_width / dpi, total_height / dpi), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    left = gap
    for (caption, _), picture in zip(panels, resized, strict=True):
        figure.figimage(picture, left, gap // 2, origin="upper")
        figure.text(
            left / total_width, (height + gap) / total_height, caption, color="#1c1e21",
            fontsize=9.5, linespacing=1.3, verticalalignment="bottom",
        )  # fmt: skip
        left += picture.shape[1] + gap
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _fullest_square(weight: NDArray[Any], side: int) -> tuple[slice, slice]:
    """Find the square of greatest weight."""
    sums = np.pad(weight.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)
