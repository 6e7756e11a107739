"""Sub-pixel outlines of the objects of a label image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import find_contours, points_in_poly

from oce2stardist.labels import renumber

Ring = NDArray[np.float64]  # (points, 2), (x, y); the first point is not repeated


@dataclass(frozen=True)
class Polygon:
    """One connected piece of an object: its outer ring and the rings around its holes.

    Coordinates are (x, y) with integers at the corners of pixels: the pixel in column 0 and
    row 0 has its centre at (0.5, 0.5). That is how ImageJ and QuPath count.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The outer ring first."""
        return (self.outer, *self.holes)


def trace_objects(labels: NDArray[np.integer]) -> dict[int, list[Polygon]]:
    """Trace every object of (Y, X) by ascending label, the largest piece of an object first.

    Values below 1 are not objects. Pieces that touch at a corner are one.

    A ring passes through the middle between each pair of neighbouring pixels, one inside and
    one outside (marching squares). It cuts convex corners off as it fills concave ones, so the
    area of a piece without holes is its number of pixels less one half.
    """
    numbered, ids = renumber(labels)
    boxes = ndi.find_objects(np.maximum(numbered, 0))
    return {
        int(name): _trace(numbered[box] == number, box)
        for number, (name, box) in enumerate(zip(ids, boxes, strict=True), start=1)
    }


def _trace(mask: NDArray[np.bool_], box: tuple[slice, slice]) -> list[Polygon]:
    # Padded by one pixel; the centre of pixel 0 is at 0.5: together half a pixel back.
    corner = np.array([box[1].start, box[0].start]) - 0.5
    padded = np.pad(mask, 1).astype(np.float64)
    rings = [
        _straighten(ring[:-1, ::-1]) + corner
        for ring in find_contours(padded, 0.5, fully_connected="high")
    ]
    areas = [_signed_area(ring) for ring in rings]
    # The ring that reaches furthest up is an outer one: its sense is that of all outer rings.
    sense = np.sign(areas[int(np.argmin([ring[:, 1].min() for ring in rings]))])
    order = np.argsort([-abs(area) for area in areas], kind="stable").tolist()
    outer = [rings[index] for index in order if areas[index] * sense > 0]
    holes: list[list[Ring]] = [[] for _ in outer]
    for index in order:
        if areas[index] * sense < 0:
            holes[_ring_around(rings[index], outer)].append(rings[index])
    return [Polygon(ring, tuple(inside)) for ring, inside in zip(outer, holes, strict=True)]


def _ring_around(hole: Ring, outer: list[Ring]) -> int:
    """Find the smallest ring that holds a hole; `outer` goes from the largest to the smallest."""
    for index in reversed(range(len(outer))):
        ring = outer[index]
        in_box = (ring.min(axis=0) < hole[0]).all() and (hole[0] < ring.max(axis=0)).all()
        if in_box and points_in_poly(hole[:1], ring)[0]:
            return index
    raise AssertionError("a hole has a ring around it")


def _straighten(ring: Ring) -> Ring:
    """Leave out the points between two others on a straight line."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return ring[turns]


def _signed_area(ring: Ring) -> float:
    x, y = (ring - ring[0]).T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)
