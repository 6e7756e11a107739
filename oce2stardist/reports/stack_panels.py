"""Draw a stack as three orthogonal sections and a maximum projection."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.labels import BACKGROUND, Image, Labels, resize_labels
from oce2stardist.reports.drawing.pictures import (
    RGB,
    picture_of_confidence,
    picture_of_image,
    picture_of_offsets,
    picture_of_spread,
)
from oce2stardist.reports.wording import count_objects

_PLANES = ("xy", "xz", "yz")
"""What a section along z, y or x shows."""

_SMALLEST = 300
"""Pixels that the longer side of a picture has at least: small stacks are enlarged."""


@dataclass(frozen=True)
class StackCuts:
    """Where a stack (Z, Y, X) is cut, and how its voxels are shaped.

    Attributes
    ----------
    places : (int, int, int)
        The plane of each axis that is shown.
    sides : (float, float, float)
        Of a voxel, in units of its width.
    """

    places: tuple[int, ...]
    sides: tuple[float, ...]

    @classmethod
    def through_objects(cls, labels: Labels, sides: tuple[float, ...]) -> "StackCuts":
        """Cut where most of the objects is; in the middle where there is none."""
        inside = labels > BACKGROUND
        sums = [
            inside.sum(axis=tuple(other for other in range(3) if other != axis))
            for axis in range(3)
        ]
        middles = [size // 2 for size in labels.shape]
        places = [
            int(own.argmax()) if own.any() else at for own, at in zip(sums, middles, strict=True)
        ]
        return cls(tuple(places), sides)

    def scaled(self, shape: tuple[int, ...], to: tuple[int, ...]) -> "StackCuts":
        """Return the same cuts of the same stack at another scale, whose voxels are cubes."""
        places = (
            min(at * new // old, new - 1)
            for at, old, new in zip(self.places, shape, to, strict=True)
        )
        return StackCuts(tuple(places), (1.0, 1.0, 1.0))

    def cut(self, array: NDArray[Any], axis: int) -> NDArray[Any]:
        """Take a section across an axis of (Z, Y, X) or (Z, Y, X, C); z is downwards or right.

        Rows, and columns, are repeated so that lengths compare along both sides.
        """
        section = np.take(array, self.places[axis], axis=axis)
        return self._stretched(section, [side for at, side in enumerate(self.sides) if at != axis])

    def project(self, array: NDArray[Any], where: NDArray[np.int64]) -> NDArray[Any]:
        """Take of each column along z of (Z, Y, X) or (Z, Y, X, C) the voxel at `where` (Y, X)."""
        index = where.reshape(1, *where.shape, *[1] * (array.ndim - 3))
        return self._stretched(np.take_along_axis(array, index, axis=0)[0], list(self.sides[1:]))

    def _stretched(self, section: NDArray[Any], sides: list[float]) -> NDArray[Any]:
        """Bring a section to square pixels, as large as the page needs."""
        lengths = [size * side for size, side in zip(section.shape[:2], sides, strict=True)]
        factor = max(1.0, _SMALLEST / max(lengths)) / min(sides)
        for axis, length in enumerate(lengths):
            size, wanted = section.shape[axis], max(1, round(length * factor * min(sides)))
            section = section.take(np.arange(wanted) * size // wanted, axis=axis)
        return section


def stack_panels(
    image: Image,
    labels: Labels,
    confidence: NDArray[np.floating],
    predicted: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    sides: tuple[float, ...],
    limits: tuple[float, float],
) -> list[tuple[str, RGB]]:
    """Draw image (Z, Y, X, C), embeddings and labels (Z, Y, X) of a stack, with their captions.

    `predicted` are offsets (3, z, y, x) and spread (z, y, x) at working scale, `confidence` is that
    of each label, see `picture_of_confidence`, and `limits` those of the spread.
    """
    cuts = StackCuts.through_objects(labels, sides)
    offsets, spread = predicted
    small = cuts.scaled(labels.shape, spread.shape)
    inside = resize_labels(labels, spread.shape) > BACKGROUND
    panels = []
    for axis, plane in enumerate(_PLANES):
        place = f"{plane} at {'zyx'[axis]} = {cuts.places[axis]}"
        section, found = cuts.cut(image, axis), cuts.cut(labels, axis)
        ways = np.stack([small.cut(one, axis) for at, one in enumerate(offsets) if at != axis])
        panels += [
            (f"Image, {place}", picture_of_image(section)),
            (f"Embeddings, {place}", picture_of_offsets(ways, small.cut(inside, axis))),
            ("Spread under noise", picture_of_spread(small.cut(spread, axis), limits)),
            ("Pseudo labels in this section", picture_of_confidence(section, found, confidence)),
        ]
    brightest = image.mean(axis=-1).argmax(axis=0)
    shown, found = cuts.project(image, brightest), cuts.project(labels, brightest)
    caption = f"Largest value along z; pseudo labels there, of {count_objects(labels)} in all"
    return [
        *panels,
        ("Largest value along z", picture_of_image(shown)),
        (caption, picture_of_confidence(shown, found, confidence)),
    ]
