"""Score labels on annotated cells, each with the background that is known around it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.evaluation.scores import score_sparse
from oce2stardist.labels import BACKGROUND, UNLABELLED, Labels, cut_cells, renumber

IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds over which F1 is averaged: what outlines are worth shows above 0.5 only."""

_MARGIN = 32
"""Pixels of image around a cell, so that its surroundings are seen as in the whole image."""

_MARGIN_OF_STACKS = 16
"""The same in stacks, voxels: they are looked at at a smaller scale."""

FEWEST_FOR_INTERVAL = 5
"""Cells below which no interval is given."""

_DRAWS = 1000
"""Draws of the bootstrap."""

Scalar = TypeVar("Scalar", bound=np.generic)
Counts = NDArray[np.int64]  # (cells, IoUs, 3): true positives, false positives, false negatives


@dataclass(frozen=True)
class Window:
    """One annotated cell with its surroundings."""

    stem: str
    place: tuple[slice, ...]
    """In that image or stack; beyond its lower and right edge only if the image is smaller."""
    known: Labels
    """The cell, its known background 0, -1 where nothing is known; ends where the image does."""

    def cut(self, image: NDArray[Scalar]) -> NDArray[Scalar]:
        """Cut the window out of the image ((Z), Y, X, ...); beyond its edge it is mirrored."""
        index = (
            _mirrored(np.arange(side.start, side.stop), length)
            for side, length in zip(self.place, image.shape, strict=False)
        )
        return image[np.ix_(*index)]

    def compared(self, predicted: Labels) -> tuple[Labels, Labels]:
        """Return what of the labels predicted in the window is compared with what is known.

        Of a cell that is outlined on single planes of a stack these planes alone: how far it goes
        beyond them nobody knows.
        """
        inside = predicted[tuple(slice(side) for side in self.known.shape)]
        if self.known.ndim == 3 and cut_cells(self.known).size:
            planes = (self.known > BACKGROUND).any(axis=(1, 2))
            return inside[planes], self.known[planes]
        return inside, self.known


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    period = index % (2 * length)
    return np.minimum(period, 2 * length - 1 - period)


def find_windows(
    known: Mapping[str, Labels],
    *,
    multiple_of: int | tuple[int, ...],
    at_most: int,
    seed: int,
) -> list[Window]:
    """Cut a window around every annotated cell, or around some of them drawn with the seed.

    Every known background pixel goes with the annotated cell nearest to it, so that each
    false positive counts once; what is farther away than the window reaches is not looked at.

    Parameters
    ----------
    known : mapping of image stem to int32 array of shape (Y, X), or of all (Z, Y, X)
        Annotated cells > 0, known background 0, unknown -1.
    multiple_of : int or one for each axis
        That the sides of the windows must be. All windows are alike; in y and x they are square.
    """
    cells = []
    for stem, labels in sorted(known.items()):
        numbered, ids = renumber(labels)
        extents = ndi.find_objects(np.maximum(numbered, 0))
        cells += [(stem, label, own) for label, own in zip(ids.tolist(), extents, strict=True)]
    if not cells:
        return []
    sides = _window_sides([window for *_, window in cells], multiple_of)
    chosen = np.random.default_rng([seed, 2]).permutation(len(cells))[:at_most]
    by_stem: dict[str, list[tuple[int, tuple[slice, ...]]]] = {}
    for index in sorted(chosen):
        stem, label, window = cells[index]
        by_stem.setdefault(stem, []).append((label, window))
    return [
        window
        for stem, some in by_stem.items()
        for window in _windows_of(stem, known[stem], some, sides=sides)
    ]


def _window_sides(
    extents: Sequence[tuple[slice, ...]], multiple_of: int | tuple[int, ...]
) -> list[int]:
    """Choose the sides of windows that hold every cell and its surroundings."""
    n_axes = len(extents[0])
    parts = (multiple_of,) * n_axes if isinstance(multiple_of, int) else multiple_of
    longest = [max(box[axis].stop - box[axis].start for box in extents) for axis in range(n_axes)]
    longest[-2:] = [max(longest[-2:])] * 2
    margin = _MARGIN if n_axes == 2 else _MARGIN_OF_STACKS
    return [
        math.ceil((extent + 2 * margin) / part) * part
        for extent, part in zip(longest, parts, strict=True)
    ]


def _windows_of(
    stem: str,
    labels: Labels,
    cells: Iterable[tuple[int, tuple[slice, ...]]],
    *,
    sides: Sequence[int],
) -> Iterator[Window]:
    nearest = ndi.distance_transform_edt(
        labels <= BACKGROUND, return_distances=False, return_indices=True
    )
    owner = labels[tuple(nearest)]
    for label, window in cells:
        # Moved back into the image: a network sees cells at the edge as they are, not mirrored.
        place = tuple(
            slice(
                start := max(0, min((own.start + own.stop - side) // 2, length - side)),
                start + side,
            )
            for own, length, side in zip(window, labels.shape, sides, strict=True)
        )
        own = np.where(owner[place] == label, labels[place], UNLABELLED)
        yield Window(stem, place, own.astype(np.int32))


def count_matches(windows: Sequence[Window], labels: Iterable[Labels]) -> Counts:
    """Match labels, predicted in each window, with its annotated cell.

    Returns true positives, false positives where background is known, and false negatives, an
    int64 array of shape (windows, len(IOUS), 3).
    """
    counts = []
    for window, predicted in zip(windows, labels, strict=True):
        scores = score_sparse(*window.compared(predicted), iou_thresholds=IOUS)
        counts.append([[score.tp, score.fp, score.fn] for score in scores])
    return np.array(counts, np.int64).reshape(-1, len(IOUS), 3)


def f1_by_iou(counts: Counts) -> NDArray[np.float64]:
    """Pool counts over cells; float64 array of shape (..., len(IOUS)), NaN without a cell."""
    true, false, missed = np.moveaxis(counts.sum(axis=-3), -1, 0).astype(float)
    total = 2 * true + false + missed
    return np.divide(2 * true, total, out=np.full(total.shape, math.nan), where=total > 0)


def mean_f1(counts: Counts) -> float:
    """Take the mean F1 over `IOUS`; NaN without a cell."""
    return float(np.mean(f1_by_iou(counts)))


def bootstrap_interval(
    counts: Counts, score: Callable[[NDArray[np.float64]], NDArray[np.float64]], *, seed: int
) -> tuple[float, float] | None:
    """Tell how sure a score is: its 90 % interval if other cells had been annotated.

    None for fewer than `FEWEST_FOR_INTERVAL` cells, of which draws tell next to nothing: those
    of a single cell are all alike. `score` takes F1 by IoU (draws, len(IOUS)).

    Notes
    -----
    Percentile bootstrap over cells. Cells of one image are more alike than those of two,
    which this can't see: where cells come from few images, the truth may lie outside.
    """
    if len(counts) < FEWEST_FOR_INTERVAL:
        return None
    pooled = np.tensordot(_draw_cells(len(counts), seed), counts, axes=1)  # (draws, IoUs, 3)
    scores = score(f1_by_iou(pooled[:, None]))
    low, high = np.percentile(scores, [5, 95])
    return float(low), float(high)


def standard_error(counts: Counts, *, seed: int) -> float:
    """Tell how much the mean F1 would vary if other cells had been annotated (bootstrap).

    0 for a single cell, whose draws are all alike.
    """
    draws = np.tensordot(_draw_cells(len(counts), seed), counts, axes=1)  # (draws, IoUs, 3)
    return float(np.std(np.mean(f1_by_iou(draws[:, None]), axis=-1)))


def difference(one: Counts, other: Counts, *, seed: int) -> tuple[float, float]:
    """Tell by how much the mean F1 of `one` is above that of `other` on the same cells.

    Returns the difference and its standard error if other cells had been annotated (bootstrap
    over cells, the same for both).
    """
    draws = _draw_cells(len(one), seed)
    first, second = (
        np.mean(f1_by_iou(np.tensordot(draws, counts, axes=1)[:, None]), axis=-1)
        for counts in (one, other)
    )
    return mean_f1(one) - mean_f1(other), float(np.std(first - second))


def nearest_to_default_among_best(
    counts: NDArray[np.int64], order: Sequence[int], *, seed: int
) -> int:
    """Choose between ways of predicting the same cells, by their mean F1 over `IOUS`.

    Takes the first in `order`, the ways from the one to be preferred on, that scores no worse than
    the best less its standard error, which the bootstrap over cells gives. `counts` is of shape
    (ways, cells, len(IOUS), 3), with at least one cell.

    Notes
    -----
    The best of many on a handful of cells is best by luck. This is the one-standard-error rule
    of Breiman et al., Classification and Regression Trees (1984). The error of each difference
    in its place, which is smaller, lets poor ways pass whose difference happens to be vague: on
    DSB 2018 it took a probability threshold of 0.7, on 10 cells, where 0.5 scored better.
    """
    scores = np.mean(f1_by_iou(counts), axis=-1)
    best = int(scores.argmax())
    error = standard_error(counts[best], seed=seed)
    return next(way for way in order if scores[way] >= scores[best] - error)


def _draw_cells(count: int, seed: int) -> NDArray[np.int64]:
    """Tell how often each cell is in each draw; int64 array of shape (_DRAWS, count).

    So a sum over the cells drawn needs no copy of them for every draw.
    """
    drawn = np.random.default_rng([seed, 3]).integers(count, size=(_DRAWS, count))
    times = np.zeros((_DRAWS, count), np.int64)
    np.add.at(times, (np.arange(_DRAWS)[:, None], drawn), 1)
    return times
