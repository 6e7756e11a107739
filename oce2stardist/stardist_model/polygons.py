"""Find StarDist's objects block by block, each once, and draw them block by block, each whole.

A network sees as far as its receptive field, and non-maximum suppression of a polygon depends on
those it overlaps, which depend on those that they overlap. A block's window reaches so far that
what happens outside does not matter for the centres inside.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from oce2stardist.images.blocks import Window, widen
from oce2stardist.stardist_model.backend import dist_to_coord, non_maximum_suppression_inds
from oce2stardist.stardist_model.network import SparseStarDist2D

_NEIGHBOURS = 2
"""Objects, side by side, around a block that take part in suppression there."""

_SPARE = 1.05
"""How much larger than expected an object may be before its block is predicted again."""

_LARGEST_TILE = 768
"""Pixels a side that go through the network at once."""

_EDGE = 2
"""Pixels of the network's grid, at the edge of an image, where stardist looks for no centres."""

_WIDEST_MARGIN = 2048

Read = Callable[[Window], NDArray[np.float32]]
"""Reads a window of the normalised image, float32 of shape (Y, X, C)."""


@dataclass(frozen=True)
class Objects:
    """Polygons of one image: centres (y, x) and distances to the outline, both in pixels."""

    points: NDArray[np.number]  # (n, 2)
    prob: NDArray[np.float32]  # (n,)
    dist: NDArray[np.float32]  # (n, rays)

    def __len__(self) -> int:
        return len(self.prob)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Objects":
        return Objects(self.points[chosen], self.prob[chosen], self.dist[chosen])

    @property
    def reach(self) -> float:
        """Largest distance of any outline from its centre; 0 without objects."""
        return float(self.dist.max()) if len(self) else 0.0

    def zoomed(self, factor: float) -> "Objects":
        """Bring the objects to an image that is so many times as large, as stardist does."""
        if factor == 1.0:
            return self
        return Objects(self.points * factor, self.prob, self.dist * np.float32(factor))

    @classmethod
    def join(cls, parts: list["Objects"]) -> "Objects":
        """Put the objects of several blocks, at least one, one after another."""
        return cls(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.prob for part in parts]),
            np.concatenate([part.dist for part in parts]),
        )


def find_objects(
    model: SparseStarDist2D, read: Read, core: Window, shape: tuple[int, int], *, reach: float
) -> Objects:
    """Find the objects whose centres lie in the core of a block.

    They are those that a prediction of the whole image would have there, sorted by position.

    Parameters
    ----------
    shape : (Y, X)
        Of the whole image.
    reach : float
        Largest expected distance of an outline from its centre. Where the block holds a clearly
        larger one, it is predicted again in a wider window.
    """
    step = model.multiple
    while True:
        # Windows end at multiples of `step`: what that leaves to spare is used.
        wanted = -int(-2 * _NEIGHBOURS * _SPARE * reach // step) * step
        margin = min(_WIDEST_MARGIN, wanted)
        objects = _suppress(_candidates(model, read, core, shape, margin), model.thresholds.nms)
        objects = objects[_inside(objects.points, core)]
        whole = widen(core, margin, shape) == (slice(0, shape[0]), slice(0, shape[1]))
        if whole or margin == _WIDEST_MARGIN or 2 * _NEIGHBOURS * objects.reach <= margin:
            return objects[np.lexsort((objects.points[:, 1], objects.points[:, 0]))]
        reach = objects.reach


def _candidates(
    model: SparseStarDist2D, read: Read, core: Window, shape: tuple[int, int], margin: int
) -> Objects:
    """Predict a polygon at every pixel that may be a centre, up to `margin` around the core."""
    step = model.multiple
    context = int(max(model._axes_tile_overlap("YX")))
    window = widen(core, margin + context, shape, align=step)
    tiles = tuple(-(-(side.stop - side.start) // _LARGEST_TILE) for side in window)
    prob, dist, points = model.predict_sparse(
        read(window), n_tiles=(*tiles, 1), show_tile_progress=False, b=0
    )
    points = points + np.array([window[0].start, window[1].start])
    grid = model.config.grid[0]
    # As stardist does with the whole image, which it pads to multiples of `step`.
    last = [-(-size // step) * step - _EDGE * grid for size in shape]
    centre = _inside(points, widen(core, margin, shape))
    centre &= ((points >= _EDGE * grid) & (points < last)).all(axis=1)
    return Objects(
        points[centre].astype(np.int32),
        prob[centre].astype(np.float32),
        dist[centre].astype(np.float32),
    )


def _suppress(candidates: Objects, nms_thresh: float) -> Objects:
    """Keep, of overlapping polygons, the most probable; of equals the first by position."""
    if not len(candidates):
        return candidates
    y, x = candidates.points.T
    ordered = candidates[np.lexsort((x, y, -candidates.prob))]
    return ordered[_survivors(ordered, nms_thresh)]


def _survivors(ordered: Objects, nms_thresh: float) -> NDArray[np.bool_]:
    dist, points = np.ascontiguousarray(ordered.dist), np.ascontiguousarray(ordered.points)
    survivors = non_maximum_suppression_inds(
        dist, points, scores=ordered.prob, thresh=nms_thresh, verbose=False
    )
    return np.asarray(survivors, bool)


def _inside(points: NDArray[np.number], window: Window) -> NDArray[np.bool_]:
    rows, columns = window
    y, x = points.T
    return (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)


def drop_doubles(own: Objects, others: Objects, *, nms_thresh: float) -> NDArray[np.bool_]:
    """Tell which objects of a block stay, given those of the blocks around it.

    Two blocks may, in a long chain of overlapping cells, both have kept one of a pair that
    suppression allows only one of. Each pair is judged by itself, so that both blocks come to
    the same answer: the less probable goes, of equals the later by position.
    """
    stays = np.ones(len(own), bool)
    if not len(own) or not len(others):
        return stays
    low, high = _boxes(own)
    other_low, other_high = _boxes(others)
    near = ((other_low <= high.max(axis=0)) & (other_high >= low.min(axis=0))).all(axis=1)
    for index in np.flatnonzero(near):
        meets = ((low <= other_high[index]) & (high >= other_low[index])).all(axis=1)
        for mine in np.flatnonzero(meets & stays):
            pair = Objects.join([others[np.array([index])], own[np.array([mine])]])
            y, x = pair.points.T
            if np.lexsort((x, y, -pair.prob))[0] == 0:  # the other comes first
                stays[mine] = _survivors(pair, nms_thresh)[1]
    return stays


def _boxes(objects: Objects) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bound every polygon; two arrays of shape (n, 2)."""
    outlines = dist_to_coord(objects.dist, objects.points)
    return outlines.min(axis=2), outlines.max(axis=2)


def draw_objects(objects: Objects, ids: NDArray[np.int32], window: Window) -> NDArray[np.int32]:
    """Draw what lies of the objects in a window; int32 labels of its shape.

    Where objects overlap, the more probable is on top, of equals the earlier by position. Every
    polygon is drawn relative to its own centre, so its pixels are the same in every window.
    """
    rows, columns = window
    labels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
    y, x = objects.points.T
    places = np.floor(objects.points).astype(int)
    outlines = dist_to_coord(objects.dist, objects.points - places)
    for index in np.lexsort((x, y, -objects.prob))[::-1]:
        corner = np.floor(outlines[index].min(axis=1)).astype(int)
        inside = polygon(*(outlines[index] - corner[:, None]))
        at_y = inside[0] + corner[0] + places[index, 0] - rows.start
        at_x = inside[1] + corner[1] + places[index, 1] - columns.start
        seen = (at_y >= 0) & (at_y < labels.shape[0]) & (at_x >= 0) & (at_x < labels.shape[1])
        labels[at_y[seen], at_x[seen]] = ids[index]
    return labels
