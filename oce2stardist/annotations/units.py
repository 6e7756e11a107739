"""Tell outlines in micrometres from outlines in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oce2stardist.annotations.shapes import Outline, Shape
from oce2stardist.images.pixel_size import PixelSize

_FEWEST = 5  # outlines: fewer may lie anywhere (taste)
_SMALLER = 0.75  # micrometres: pixels of about 1 say nothing (taste)
_REACH = (0.6, 1.05)  # of the part of the image that micrometres can fill (taste)


@dataclass(frozen=True)
class Drawn:
    """The shapes of one image of (Y, X), and the size of its pixels."""

    title: str
    shapes: Sequence[Shape]
    shape: tuple[int, int]
    pixel: PixelSize | None


def warn_of_micrometres(images: Sequence[Drawn]) -> list[str]:
    """Say that all outlines lie where they would be if their numbers were micrometres.

    That is in the upper left part of their images, which they fill: its side is that of a pixel in
    micrometres. Coordinates in whole or half pixels are no micrometres.
    """
    told = [image for image in images if image.pixel is not None and _points(image).size]
    n_outlines = sum(len(image.shapes) for image in told)
    if n_outlines < _FEWEST or any(max(image.pixel or ()) > _SMALLER for image in told):
        return []
    reaches = []  # along y and x, in sides of that part
    for image in told:
        points = _points(image)
        if (2 * points == np.rint(2 * points)).all():
            return []
        y, x = image.pixel or (1.0, 1.0)
        right, bottom = points.max(axis=0)
        reaches.append((bottom / (y * image.shape[0]), right / (x * image.shape[1])))
    reach = np.max(reaches, axis=0)
    if not (_REACH[0] <= reach.min() and reach.max() <= _REACH[1]):
        return []
    first = told[0]
    assert first.pixel is not None
    sides = np.concatenate([_sides(shape) for image in told for shape in image.shapes])
    return [
        f"{first.title}: all outlines, of {np.median(sides):.3g} px, lie in the first "
        f"{first.pixel.x:.0%} of the image, whose pixels measure {first.pixel.x:.4g} µm: are they "
        "in micrometres? Export them in pixels"
    ]


def _outlines(shape: Shape) -> list[Outline]:
    return [part for part in shape.parts if isinstance(part, Outline)]


def _points(image: Drawn) -> np.ndarray:
    """List all corners, (n, 2), (x, y)."""
    rings = [ring for shape in image.shapes for one in _outlines(shape) for ring in one.rings]
    return np.concatenate(rings) if rings else np.empty((0, 2))


def _sides(shape: Shape) -> np.ndarray:
    """Measure the mean side of the box of each outline."""
    boxes = np.array([one.bounds for one in _outlines(shape)]).reshape(-1, 4)
    return (boxes[:, 2:] - boxes[:, :2]).mean(axis=1)
