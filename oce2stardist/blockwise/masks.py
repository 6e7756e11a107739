"""Keep the objects of one block with all their pixels, to draw them whole in every block."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from oce2stardist.images.blocks import Window
from oce2stardist.pseudo_labels.halo import each_object

_SAME = 0.5
"""Share of the smaller object's pixels that two must have in common to be one cell."""


@dataclass(frozen=True)
class Masks:
    """Objects of one image."""

    points: NDArray[np.float64]  # (n, 2): centroids (y, x), pixels of the image
    corners: NDArray[np.int64]  # (n, 2): upper left pixel of each object's box
    confidence: NDArray[np.float64]  # (n,)
    pixels: tuple[NDArray[np.bool_], ...]  # each object in its box

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Masks":
        kept = tuple(self.pixels[index] for index in np.flatnonzero(chosen))
        return Masks(self.points[chosen], self.corners[chosen], self.confidence[chosen], kept)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of every box, (n, 2)."""
        return np.array([inside.shape for inside in self.pixels], np.int64).reshape(-1, 2)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of every object."""
        return np.array([np.count_nonzero(inside) for inside in self.pixels], np.int64)

    @property
    def reach(self) -> float:
        """Largest distance, along rows or columns, of any pixel from its centroid."""
        if not len(self):
            return 0.0
        before, after = self.points - self.corners, self.corners + self.sizes - 1 - self.points
        return float(max(before.max(), after.max()))

    @classmethod
    def join(cls, parts: Sequence["Masks"]) -> "Masks":
        """Put the objects of several blocks, at least one, one after another."""
        return cls(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.corners for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            tuple(chain.from_iterable(part.pixels for part in parts)),
        )

    @classmethod
    def from_labels(
        cls,
        labels: NDArray[np.int32],
        confidence: NDArray[np.float64],
        *,
        corner: tuple[int, int],
        core: Window,
    ) -> "Masks":
        """Take the objects of a window whose centroids lie in the core of a block.

        Labels are 1..n; `corner` is that of the window in the image, pixels. The core is half
        open: a centroid on its far border belongs to the next block.
        """
        points, corners, chosen, pixels = [], [], [], []
        for index, box, inside in each_object(labels):
            place = np.array([side.start for side in box]) + corner
            point = np.argwhere(inside).mean(axis=0) + place
            if all(side.start <= at < side.stop for side, at in zip(core, point, strict=True)):
                points.append(point)
                corners.append(place)
                chosen.append(confidence[index - 1])
                pixels.append(inside)
        return cls(
            np.array(points, np.float64).reshape(-1, 2),
            np.array(corners, np.int64).reshape(-1, 2),
            np.array(chosen, np.float64),
            tuple(pixels),
        )

    def box(self, index: int) -> Window:
        """Return the window that holds an object."""
        (top, left), (height, width) = self.corners[index], self.sizes[index]
        return slice(top, top + height), slice(left, left + width)

    def touching(self, window: Window) -> NDArray[np.bool_]:
        """Tell which objects' boxes reach into a window."""
        start, stop = np.array([(side.start, side.stop) for side in window]).T
        ends = self.corners + self.sizes
        return np.asarray(((self.corners < stop) & (ends > start)).all(axis=1))


def drop_double_masks(own: Masks, others: Masks) -> NDArray[np.bool_]:
    """Tell which objects of a block stay, given those of the blocks around it.

    Where two blocks saw a cell a little differently, each may have found its centroid on its own
    side of their border. Of two objects with more than half of the smaller one's pixels in
    common the larger stays, of equals the earlier by position; both blocks come to the same
    answer.
    """
    stays = np.ones(len(own), bool)
    if not len(own) or not len(others):
        return stays
    first, last = own.corners.min(axis=0), (own.corners + own.sizes).max(axis=0)
    near = others.touching((slice(first[0], last[0]), slice(first[1], last[1])))
    for index in np.flatnonzero(near).tolist():
        for mine in np.flatnonzero(own.touching(others.box(index)) & stays).tolist():
            common = _in_common(own, mine, others, index)
            if common > _SAME * min(own.areas[mine], others.areas[index]):
                stays[mine] = _rank(own, mine) < _rank(others, index)
    return stays


def _rank(masks: Masks, index: int) -> tuple[float, ...]:
    return (-float(masks.areas[index]), *map(float, masks.points[index]))


def _in_common(own: Masks, mine: int, others: Masks, index: int) -> int:
    """Count the pixels that two objects share."""
    corner, other = own.corners[mine], others.corners[index]
    low = np.maximum(corner, other)
    high = np.minimum(corner + own.sizes[mine], other + others.sizes[index])
    part = own.pixels[mine][tuple(map(slice, low - corner, high - corner))]
    other_part = others.pixels[index][tuple(map(slice, low - other, high - other))]
    return int(np.count_nonzero(part & other_part))


def draw_masks(masks: Masks, ids: NDArray[np.int32], window: Window) -> NDArray[np.int32]:
    """Draw what lies of the objects in a window; int32 labels of its shape.

    Of objects that overlap, the smaller is on top, of equals the earlier by position.
    """
    rows, columns = window
    labels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
    for index in np.lexsort((masks.points[:, 1], masks.points[:, 0], masks.areas))[::-1]:
        pixels = masks.pixels[index]
        top, left = masks.corners[index] - (rows.start, columns.start)
        first_row, first_column = max(0, -top), max(0, -left)
        part = pixels[first_row : labels.shape[0] - top, first_column : labels.shape[1] - left]
        if 0 in part.shape or top >= labels.shape[0] or left >= labels.shape[1]:
            continue
        y, x = top + first_row, left + first_column
        labels[y : y + part.shape[0], x : x + part.shape[1]][part] = ids[index]
    return labels
