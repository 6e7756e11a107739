"""Pseudo ground truth and sparse annotations in, two kinds of training labels out.

*Sparse* labels hold only what a human vouched for, or what follows from it;
*pseudo* labels are the pseudo ground truth corrected by it. For every pixel, with
"near" meaning within ``background_distance`` of an annotated cell:

===========  ==================  ====  ======  =================
annotations  pseudo_gt           near  sparse  pseudo
===========  ==================  ====  ======  =================
cell         any                 any   cell    cell, same id
0            any                 any   0       0
-1           0                   yes   0       0
-1           0                   no    -1      0
-1           object, kept        any   -1      object, new id
-1           object, dropped     any   -1      0
-1           -1                  any   -1      -1
-1           none for the image  yes   0       0
-1           none for the image  no    -1      -1
===========  ==================  ====  ======  =================

A pseudo object is dropped if it shares a pixel with an annotated cell, or has more
than half of its pixels on known background; one with fewer there is cut.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.errors import InputError
from oce2stardist.labels import BACKGROUND, UNLABELLED, object_sizes

MAX_ID = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class MergedLabels:
    """Training labels of one image.

    Attributes
    ----------
    sparse, pseudo : int32 arrays of shape (Y, X)
        Objects > 0, background 0, unlabelled -1. An annotated cell has one id in both.
    objects : DataFrame
        One row per object of `pseudo`, ascending by id: ``id``; ``source`` ("manual" or
        "pseudo"); ``pseudo_id``, its id in the pseudo ground truth or -1; ``area`` in
        pixels; ``y``, ``x``, its centroid in pixels; ``confidence``, 1.0 if manual.
    """

    sparse: NDArray[np.int32]
    pseudo: NDArray[np.int32]
    objects: pd.DataFrame


def draw_cells(
    annotations: Mapping[str, NDArray[np.integer]],
    *,
    fraction: float | None = None,
    count: int | None = None,
    seed: int,
) -> dict[str, list[int]]:
    """Draw annotated cells at random over a whole set of images.

    At one seed draws are nested: each holds every smaller one.

    Parameters
    ----------
    annotations : mapping of image name to integer array
        Its cells are > 0. The order of the mapping does not matter.
    fraction : float in (0, 1], optional
        Share of all cells, rounded to whole cells but at least one.
    count : int, >= 1, optional
        Number of cells. Give either this or `fraction`.
    seed : int

    Returns
    -------
    dict of image name to list of int
        Ascending ids; every image is there, if only with an empty list.

    Raises
    ------
    InputError
        If not exactly one of `fraction` and `count` is given, if it is out of range,
        or if there are fewer than `count` cells, or none.
    """
    if (fraction is None) == (count is None):
        raise InputError(
            "exactly one of fraction and count must be given. "
            f"Got fraction={fraction} and count={count}; leave one out."
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(
            f"fraction must be above 0 and at most 1. Got {fraction}; 0.01 keeps 1 % of the cells."
        )
    cells = [
        (name, int(i)) for name in sorted(annotations) for i in object_sizes(annotations[name])[0]
    ]
    if not cells:
        raise InputError(
            f"annotations must hold at least one cell. Got none in {len(annotations)} images; "
            "annotate a cell (labels > 0) first."
        )
    if count is not None and not 1 <= count <= len(cells):
        raise InputError(
            f"count must be between 1 and the {len(cells)} annotated cells. Got {count}; "
            "ask for fewer cells or annotate more."
        )
    n_drawn = max(1, round(fraction * len(cells))) if fraction is not None else count
    drawn: dict[str, list[int]] = {name: [] for name in sorted(annotations)}
    # one permutation cut at different lengths is what nests the draws
    for index in sorted(np.random.default_rng(seed).permutation(len(cells))[:n_drawn]):
        name, i = cells[index]
        drawn[name].append(i)
    return drawn


def keep_cells(
    truth: NDArray[np.integer], ids: Iterable[int], *, background_distance: float = 30.0
) -> NDArray[np.int32]:
    """Simulate few annotations: keep some cells of a complete ground truth.

    Parameters
    ----------
    truth : integer array of shape (Y, X)
        Cells > 0, background 0, unlabelled -1.
    ids : iterable of int
        The cells to keep, for example drawn by `draw_cells`.
    background_distance : float, >= 0
        In pixels. True background within this distance of a kept cell is kept too.

    Returns
    -------
    int32 array of shape (Y, X)
        Kept cells under their ids, kept background 0, everything else -1. To
        `merge_annotations` these go with ``background_distance=0``, as they already
        say all that the truth knows nearby.

    Raises
    ------
    InputError
        If an id is not in `truth` or does not fit int32, or the distance is negative.
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


def merge_annotations(
    pseudo_gt: NDArray[np.integer] | None,
    annotations: NDArray[np.integer],
    *,
    background_distance: float = 30.0,
    confidence: Mapping[int, float] | None = None,
) -> MergedLabels:
    """Merge annotations into the pseudo ground truth of one image.

    The module's docstring has the rules as a table.

    Parameters
    ----------
    pseudo_gt : integer array of shape (Y, X), or None
        Objects > 0, background 0, unlabelled -1. With None, `pseudo` equals `sparse`.
    annotations : integer array of shape (Y, X)
        Annotated cells > 0, known background 0, unknown -1.
    background_distance : float, >= 0
        In pixels. Unknown pixels within this distance of an annotated cell that are
        background in `pseudo_gt` are background in `sparse`; 0 leaves them unlabelled.
    confidence : mapping of int to float, optional
        Confidence of objects by their id in `pseudo_gt`; 1.0 where not given.

    Returns
    -------
    MergedLabels
        Annotated cells keep their ids; pseudo objects follow the largest of them, in
        the order of their ids in `pseudo_gt`.

    Raises
    ------
    InputError
        If the shapes differ, the distance is negative or ids do not fit int32.

    Notes
    -----
    Without `pseudo_gt` nothing tells cells that were not annotated from background:
    near pixels then all become background unless `background_distance` is 0.
    """
    if pseudo_gt is not None and pseudo_gt.shape != annotations.shape:
        raise InputError(
            f"annotations must have the shape of pseudo_gt. Got {annotations.shape} "
            f"and {pseudo_gt.shape}; crop or resample annotations first."
        )
    largest = int(annotations.max(initial=0))
    _check_largest_id(largest)
    is_cell, is_background = annotations > BACKGROUND, annotations == BACKGROUND

    sparse = np.maximum(annotations.astype(np.int32), UNLABELLED)
    is_inferred = _is_near(is_cell, background_distance) & (annotations < BACKGROUND)
    if pseudo_gt is not None:
        is_inferred &= pseudo_gt == BACKGROUND
    sparse[is_inferred] = BACKGROUND

    pseudo_ids = np.empty(0, np.int64)
    pseudo = sparse.copy()
    if pseudo_gt is not None:
        pseudo, pseudo_ids = _keep_pseudo_objects(
            pseudo_gt, is_cell, is_background, first_id=largest + 1
        )
        pseudo[is_cell] = annotations[is_cell]
    return MergedLabels(sparse, pseudo, _describe(pseudo, pseudo_ids, confidence or {}))


def _keep_pseudo_objects(
    pseudo_gt: NDArray[np.integer],
    is_cell: NDArray[np.bool_],
    is_background: NDArray[np.bool_],
    *,
    first_id: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Drop, cut and renumber pseudo objects; return labels and the old ids in new order."""
    # factorize hashes where np.unique sorts: linear in pixels, whatever the ids
    codes, ids = pd.factorize(pseudo_gt.ravel().astype(np.int64), sort=True)

    def count(codes: NDArray[np.integer]) -> NDArray[np.integer]:
        return np.bincount(codes, minlength=len(ids))

    n_on_cells, n_cut = count(codes[is_cell.ravel()]), count(codes[is_background.ravel()])
    is_kept = (ids > BACKGROUND) & (n_on_cells == 0) & (2 * n_cut <= count(codes))
    n_kept = int(is_kept.sum())
    _check_largest_id(first_id + n_kept - 1)
    new_ids = np.where(ids < BACKGROUND, UNLABELLED, BACKGROUND).astype(np.int32)
    new_ids[is_kept] = first_id + np.arange(n_kept)
    labels = new_ids[codes].reshape(pseudo_gt.shape)
    labels[is_background] = BACKGROUND
    return labels, ids[is_kept]


def _describe(
    labels: NDArray[np.int32], pseudo_ids: NDArray[np.int64], confidence: Mapping[int, float]
) -> pd.DataFrame:
    """Tabulate the objects of `labels`, of which the last ``len(pseudo_ids)`` are pseudo."""
    ids, areas = object_sizes(labels)
    n_manual = len(ids) - len(pseudo_ids)
    centroids = np.empty((0, 2))
    if ids.size:
        centroids = np.array(ndi.center_of_mass(labels > BACKGROUND, labels, ids))
    return pd.DataFrame(
        {
            "id": ids,
            "source": ["manual"] * n_manual + ["pseudo"] * len(pseudo_ids),
            "pseudo_id": np.concatenate([np.full(n_manual, -1), pseudo_ids]),
            "area": areas,
            "y": centroids[:, 0],
            "x": centroids[:, 1],
            "confidence": [1.0] * n_manual + [float(confidence.get(int(i), 1)) for i in pseudo_ids],
        }
    )


def _is_near(is_cell: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Mark the pixels within `distance` pixels (Euclidean) of a cell; nothing for 0."""
    if not distance >= 0:
        raise InputError(
            f"background_distance must be at least 0. Got {distance}; 30 is usual, 0 turns it off."
        )
    # without a cell the transform would measure distances to nothing
    if distance == 0 or not is_cell.any():
        return np.zeros(is_cell.shape, bool)
    return np.asarray(ndi.distance_transform_edt(~is_cell) <= distance)


def _check_largest_id(largest: int) -> None:
    if largest > MAX_ID:
        raise InputError(
            f"ids must fit int32, at most {MAX_ID}. Got {largest}; renumber the annotations."
        )
