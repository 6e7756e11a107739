"""Merge pseudo ground truth and sparse annotations into two kinds of training labels.

*Sparse* labels hold only what a human vouched for, or what follows from it;
*pseudo* labels are the pseudo ground truth corrected by it. For every pixel, with
"near" meaning within ``background_distance`` of an annotated cell:

===========  =====================  ====  ======  =================
annotations  pseudo_labels              near  sparse  pseudo
===========  =====================  ====  ======  =================
cell         any                    any   cell    cell, same id
0            any                    any   0       0
-1           0                      yes   0       0
-1           0                      no    -1      0
-1           object, kept           any   -1      object, new id
-1           object, dropped        any   -1      0
-1           object, piece cut off  any   -1      -1
-1           -1                     any   -1      -1
-1           none for the image     yes   0       0
-1           none for the image     no    -1      -1
===========  =====================  ====  ======  =================

What becomes of a pseudo object, by the first line that applies:

===================================================  ==================================
pseudo object                                        result
===================================================  ==================================
has more than the share ``overlap`` of its pixels    dropped
on annotated cells (at 0: has one there)
would be left as a ring around an annotated cell     dropped
has more than half of its pixels on known            dropped
background
has no pixel outside of cells and known background   dropped
has some pixels on either                            kept without them; of several pieces
                                                     that are left, the largest
any other                                            kept whole
===================================================  ==================================

What points, boxes and verdicts make of pseudo objects comes before: `training_labels.hints`. A
cell that they confirm is an annotated one here. In a stack, what outlines on single planes make
of them comes before, too: `training_labels.planes`. "Near" is measured within each plane.

A small piece may belong to a cell or not, so it becomes unlabelled. Pieces touch by edges or
corners; of equal ones the first in reading order is kept. ``docs/merge.md`` shows each case.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label as label_pieces

from oce2stardist.errors import InputError
from oce2stardist.labels import BACKGROUND, UNLABELLED, centroids, object_sizes
from oce2stardist.training_labels.planes import UNDECIDED, VoxelSize, claim_on_planes

MAX_ID = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class MergedLabels:
    """Training labels of one image.

    Attributes
    ----------
    sparse, pseudo : int32 arrays of shape (Y, X) or (Z, Y, X)
        Objects > 0, background 0, unlabelled -1. An annotated cell has one id in both; in a stack
        `pseudo` may have more of it than the plane on which it is outlined.
    objects : DataFrame
        One row per object of `pseudo`, ascending by id: ``id``; ``source`` ("manual" or
        "pseudo"); ``pseudo_id``, its id in the pseudo ground truth or -1; ``area`` in
        pixels; ``y``, ``x``, in stacks ``z`` before, its centroid in pixels; ``confidence``, 1.0
        if manual.
    """

    sparse: NDArray[np.int32]
    pseudo: NDArray[np.int32]
    objects: pd.DataFrame


def keep_cells(
    truth: NDArray[np.integer], ids: Iterable[int], *, background_distance: float = 30.0
) -> NDArray[np.int32]:
    """Simulate few annotations: keep some cells of a complete ground truth.

    Kept cells have their ids, true background within `background_distance` pixels of one is 0,
    everything else -1. These go to `merge_annotations` with ``background_distance=0``, as they
    already say all that the truth knows nearby.

    Parameters
    ----------
    truth : integer array of shape (Y, X)
        Cells > 0, background 0, unlabelled -1.
    ids : iterable of int
        For example drawn by `draw_cells`.
    """
    wanted = np.unique(np.fromiter(ids, dtype=np.int64))
    missing = np.setdiff1d(wanted, object_sizes(truth)[0])
    if missing.size:
        raise InputError(
            f"ids must be cells of truth. Got {missing[:5].tolist()}, which it does not hold; "
            "draw the cells from this same truth."
        )
    _check_largest_id(int(wanted.max(initial=0)))
    is_kept = np.isin(truth, wanted)
    annotations = np.full(truth.shape, UNLABELLED, np.int32)
    annotations[_is_near(is_kept, background_distance) & (truth == BACKGROUND)] = BACKGROUND
    annotations[is_kept] = truth[is_kept]
    return annotations


def infer_background(
    annotations: NDArray[np.integer],
    pseudo_labels: NDArray[np.integer] | None,
    *,
    background_distance: float = 30.0,
) -> NDArray[np.int32]:
    """Add to annotations the background that follows from them: the *sparse* labels.

    Parameters
    ----------
    annotations : integer array of shape (Y, X)
        Annotated cells > 0, known background 0, unknown -1.
    pseudo_labels : integer array of shape (Y, X), or None
        Objects > 0, background 0, unlabelled -1.
    background_distance : float, >= 0
        In pixels. Unknown pixels within this distance of an annotated cell that are
        background in `pseudo_labels` become background; at 0 none does.

    Notes
    -----
    Without `pseudo_labels` nothing tells cells that were not annotated from background:
    near pixels then all become background unless `background_distance` is 0.
    """
    if pseudo_labels is not None and pseudo_labels.shape != annotations.shape:
        raise InputError(
            f"annotations must have the shape of pseudo_labels. Got {annotations.shape} "
            f"and {pseudo_labels.shape}; crop or resample annotations first."
        )
    _check_largest_id(int(annotations.max(initial=0)))
    is_inferred = _is_near(annotations > BACKGROUND, background_distance)
    is_inferred &= annotations < BACKGROUND
    if pseudo_labels is not None:
        is_inferred &= pseudo_labels == BACKGROUND
    sparse = np.maximum(annotations.astype(np.int32), UNLABELLED)
    sparse[is_inferred] = BACKGROUND
    return sparse


def merge_annotations(
    pseudo_labels: NDArray[np.integer] | None,
    annotations: NDArray[np.integer],
    *,
    background_distance: float = 30.0,
    overlap: float = 0.0,
    confidence: Mapping[int, float] | None = None,
    reserved_ids: Iterable[int] = (),
    voxel_size: VoxelSize = (1.0, 1.0, 1.0),
) -> MergedLabels:
    """Merge annotations into the pseudo ground truth of one image or stack.

    The module's docstring has the rules as tables.

    Parameters
    ----------
    pseudo_labels : integer array of shape (Y, X) or (Z, Y, X), or None
        Objects > 0, background 0, unlabelled -1. With None, `pseudo` equals `sparse`.
    annotations : integer array of the same shape
        Annotated cells > 0, known background 0, unknown -1.
    background_distance : float, >= 0
        In pixels; see `infer_background`.
    overlap : float, in [0, 1)
        Share of a pseudo object's pixels that may lie on annotated cells. At 0, as in the
        paper, one such pixel drops it.
    confidence : mapping of int to float, optional
        Confidence of objects by their id in `pseudo_labels`; 1.0 where not given.
    reserved_ids : iterable of int
        Ids that no pseudo object may get, beside those of the annotated cells.
    voxel_size : (z, y, x)
        Of stacks, in any unit: voxels of an object that two outlines share go to the nearer one.

    Returns
    -------
    MergedLabels
        Annotated cells keep their ids; pseudo objects follow the largest id in use, in
        the order of their ids in `pseudo_labels`. Where int32 has no room there, they take the
        smallest ids that are free.

    Raises
    ------
    InputError
        If the shapes differ, a number is out of range or ids do not fit int32.
    """
    if not 0 <= overlap < 1:
        raise InputError(
            f"overlap must be at least 0 and below 1. Got {overlap}; 0 drops every pseudo object "
            "that shares a pixel with an annotated cell."
        )
    sparse = infer_background(annotations, pseudo_labels, background_distance=background_distance)
    if pseudo_labels is None:
        return MergedLabels(sparse, sparse.copy(), _describe(sparse, {}, {}))
    judging, claims = annotations, None
    if annotations.ndim == 3:
        claims = claim_on_planes(pseudo_labels, annotations, voxel_size=voxel_size)
        pseudo_labels, judging = claims.left, claims.others
    codes, ids, is_kept, is_cut = _judge_pseudo_objects(pseudo_labels, judging, overlap=overlap)
    taken = {*object_sizes(annotations)[0].tolist(), *reserved_ids}
    kept_ids = free_ids(taken, int(is_kept.sum()))
    new_ids = np.where(ids < BACKGROUND, UNLABELLED, BACKGROUND).astype(np.int32)
    new_ids[is_kept] = kept_ids
    pseudo = new_ids[codes]
    pseudo[annotations >= BACKGROUND] = BACKGROUND
    keep_largest_pieces(pseudo, new_ids[is_cut])
    if claims is not None:
        pseudo = np.where(claims.decided > UNDECIDED, claims.decided, pseudo)
    is_cell = annotations > BACKGROUND
    pseudo[is_cell] = annotations[is_cell]
    pseudo_ids = dict(zip(kept_ids.tolist(), ids[is_kept].tolist(), strict=True))
    return MergedLabels(sparse, pseudo, _describe(pseudo, pseudo_ids, confidence or {}))


def _judge_pseudo_objects(
    pseudo_labels: NDArray[np.integer], annotations: NDArray[np.integer], *, overlap: float
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Decide which pseudo objects are kept, and which of these lose pixels.

    Returns the position of every pixel's pseudo label among the ids (Y, X), the ids, ascending and
    those below 1 included, and which of them are kept and which are cut (labels,).
    """
    # factorize hashes where np.unique sorts: linear in pixels, whatever the ids
    flat_codes, ids = pd.factorize(pseudo_labels.ravel().astype(np.int64), sort=True)
    codes = flat_codes.reshape(pseudo_labels.shape)
    is_cell = annotations > BACKGROUND
    size = np.bincount(flat_codes)
    n_on_cells = np.bincount(codes[is_cell], minlength=len(ids))
    n_on_background = np.bincount(codes[annotations == BACKGROUND], minlength=len(ids))
    n_lost = n_on_cells + n_on_background
    is_kept = (
        (ids > BACKGROUND)
        & (n_on_cells / size <= overlap)
        & (2 * n_on_background <= size)
        & (n_lost < size)
    )
    is_kept &= ~_surrounds_a_cell(codes, is_cell, is_kept & (n_on_cells > 0))
    return codes, ids, is_kept, is_kept & (n_lost > 0)


def _surrounds_a_cell(
    codes: NDArray[np.intp], is_cell: NDArray[np.bool_], is_candidate: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Mark those of the pseudo labels, by code, that without its pixels enclose a cell."""
    surrounds = np.zeros(len(is_candidate), bool)
    if not is_candidate.any():
        return surrounds
    windows = ndi.find_objects(codes + 1)  # codes have no gaps, whatever the ids
    for code in np.flatnonzero(is_candidate):
        window = windows[code]
        left = (codes[window] == code) & ~is_cell[window]
        surrounds[code] = np.any(ndi.binary_fill_holes(left) & ~left & is_cell[window])
    return surrounds


def free_ids(taken: set[int], count: int) -> NDArray[np.int64]:
    """Find `count` ids, ascending: behind those taken if int32 allows it, else between them."""
    first = max(taken, default=0) + 1
    if first + count - 1 <= MAX_ID:
        return np.arange(first, first + count)
    free = np.setdiff1d(np.arange(1, count + len(taken) + 1), list(taken))
    return free[:count]


def keep_largest_pieces(labels: NDArray[np.int32], ids: NDArray[np.integer]) -> None:
    """Leave of each of these objects its largest piece; the others become unlabelled, in place."""
    if not ids.size:
        return
    cut = np.where(np.isin(labels, ids), labels, BACKGROUND)
    pieces = label_pieces(cut, connectivity=cut.ndim)  # neighbours of different ids stay apart
    _, first_pixel, sizes = np.unique(pieces, return_index=True, return_counts=True)
    owners = cut.ravel()[first_pixel]
    # Per object the largest piece comes first, of equal ones the first in reading order.
    order = np.lexsort([first_pixel, -sizes, owners])
    is_largest = np.zeros(len(owners), bool)
    is_largest[order[np.flatnonzero(np.diff(owners[order], prepend=-1))]] = True
    labels[~is_largest[pieces] & (pieces > 0)] = UNLABELLED


def _describe(
    labels: NDArray[np.int32], pseudo_ids: Mapping[int, int], confidence: Mapping[int, float]
) -> pd.DataFrame:
    """Tabulate the objects of `labels`; the keys of `pseudo_ids` are the pseudo ones."""
    ids, areas = object_sizes(labels)
    origins = [pseudo_ids.get(i, -1) for i in ids.tolist()]
    places = dict(zip("zyx"[-labels.ndim :], centroids(labels, ids).T, strict=True))
    is_manual = np.array(origins, np.int64) < 0
    sure = [confidence.get(origin, 1.0) for origin in origins]
    return pd.DataFrame(
        {
            "id": ids,
            "source": pd.Series(np.where(is_manual, "manual", "pseudo"), dtype=str),
            "pseudo_id": np.array(origins, np.int64),
            "area": areas,
            **places,
            "confidence": np.where(is_manual, 1.0, np.array(sure, np.float64)),
        }
    )


def _is_near(is_cell: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Mark the pixels within `distance` pixels (Euclidean) of a cell; nothing for 0.

    In a stack each plane is looked at alone: what is above or below an outline nobody drew.
    """
    if not distance >= 0:
        raise InputError(
            f"background_distance must be at least 0. Got {distance}; 30 is usual, 0 turns it off."
        )
    if is_cell.ndim == 3:
        return np.stack([_is_near(plane, distance) for plane in is_cell])
    # without a cell the transform would measure distances to nothing
    if distance == 0 or not is_cell.any():
        return np.zeros(is_cell.shape, bool)
    return np.asarray(ndi.distance_transform_edt(~is_cell) <= distance)


def _check_largest_id(largest: int) -> None:
    if largest > MAX_ID:
        raise InputError(
            f"ids must fit int32, at most {MAX_ID}. Got {largest}; renumber the annotations."
        )
