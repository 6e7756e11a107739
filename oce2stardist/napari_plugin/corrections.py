"""Tell which cells of an edited labels layer are annotations, and which still pseudo labels.

A layer is compared with its *baseline*, the pseudo labels as the run made them (nothing, for a
layer that was drawn from scratch). A *piece* is a connected set of pixels of one label; corners
connect. For every piece:

=====================================================  =======================
piece                                                  counts as
=====================================================  =======================
has exactly the pixels of an object of the baseline,   pseudo: unknown (-1)
whatever its label
has a pixel whose label is not that of the baseline    annotated cell
is what is left of an object that was partly erased    annotated cell
is what is left of an object after a cell was drawn    unknown (-1): nobody
over it, and nothing was erased                        looked at its outline
has fewer than `SMALLEST` pixels                       unknown (-1): a slip
=====================================================  =======================

Background that holds an object in the baseline was erased: known background (0). All other
background is unknown (-1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as label_pieces

from oce2stardist.labels import BACKGROUND, UNLABELLED, Labels, renumber
from oce2stardist.training_labels.merge import merge_annotations

SMALLEST = 10
"""Pixels; what is smaller is no cell, but what a brush or an eraser left."""


@dataclass(frozen=True)
class Corrections:
    """What a user did to a layer."""

    annotations: Labels  # cells 1 to n, known background 0, unknown -1
    n_cells: int
    n_erased: int  # objects of the baseline of which nothing is left, under no other cell either


def find_corrections(
    labels: NDArray[np.integer], baseline: NDArray[np.integer] | None = None
) -> Corrections:
    """Find what was drawn, changed or erased; see the table in this module's docstring.

    Without a baseline, every cell was drawn.
    """
    before = np.zeros_like(labels) if baseline is None else np.maximum(baseline, BACKGROUND)
    is_erased = (labels == BACKGROUND) & (before > BACKGROUND)
    annotations = np.full(labels.shape, UNLABELLED, np.int32)
    annotations[is_erased] = BACKGROUND
    now, before = _keep_touched(np.maximum(labels, BACKGROUND), before)
    pieces = label_pieces(now, background=BACKGROUND, connectivity=2)
    counts = _is_annotated(pieces, now, before)
    annotated, ids = renumber(np.where(counts[pieces], pieces, BACKGROUND))
    annotations[annotated > BACKGROUND] = annotated[annotated > BACKGROUND]
    gone = np.setdiff1d(before[is_erased], before[labels != BACKGROUND])
    return Corrections(annotations, len(ids), len(gone))


def _keep_touched(
    now: NDArray[np.integer], before: NDArray[np.integer]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Remove the objects of which no pixel changed: counting while someone paints must be quick.

    What is left is numbered together, so that equal labels stay equal and none is too large to
    count.
    """
    is_changed = now != before
    kept = [_is_one_of(now, now[is_changed]), _is_one_of(before, before[is_changed])]
    both, _ = renumber(np.stack([now, before]).astype(np.int64) * (kept[0] | kept[1]))
    return both[0], both[1]


def _is_one_of(labels: NDArray[np.integer], some: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return where an object among `some` lies."""
    ids = np.unique(some)
    return np.isin(labels, ids[ids > BACKGROUND])


def _is_annotated(
    pieces: NDArray[np.integer], now: NDArray[np.integer], before: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Decide for each piece, by its number, whether it is an annotated cell."""
    size = np.bincount(pieces.ravel())
    objects = label_pieces(before, background=BACKGROUND, connectivity=2)
    object_size = np.bincount(objects.ravel())
    is_painted = np.zeros(len(size), bool)
    is_painted[pieces[now != before]] = True
    was_erased = np.zeros(len(object_size), bool)
    was_erased[objects[now == BACKGROUND]] = True
    was_erased[0] = False

    # The object below a piece, if it is one and the same everywhere.
    below = np.zeros(len(size), objects.dtype)
    below[pieces] = objects
    is_one = np.ones(len(size), bool)
    is_one[pieces[objects != below[pieces]]] = False
    is_on_object = is_one & (below > 0)
    is_unchanged = is_on_object & (size == object_size[below])
    is_left = is_on_object & was_erased[below]
    counts = (is_painted | is_left) & ~is_unchanged & (size >= SMALLEST)
    counts[0] = False
    return counts


def confirm_cell(
    labels: NDArray[np.integer], baseline: NDArray[np.integer], cell: int
) -> NDArray[np.integer]:
    """Let a cell count as annotated though nothing is wrong with it; return the new baseline."""
    confirmed = baseline.copy()
    confirmed[labels == cell] = BACKGROUND
    return confirmed


def carry_over(annotations: Labels, pseudo: NDArray[np.integer]) -> tuple[Labels, Labels]:
    """Put annotations into pseudo labels; return the layer and its baseline.

    `find_corrections` finds the same annotations in these two.
    """
    labels = merge_annotations(pseudo, annotations, background_distance=0.0).pseudo
    labels = np.maximum(labels, BACKGROUND)
    baseline = labels.copy()
    baseline[annotations > BACKGROUND] = BACKGROUND
    baseline[annotations == BACKGROUND] = labels.max() + 1
    return labels, baseline
