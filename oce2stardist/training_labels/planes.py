"""Correct the pseudo labels of a stack by cells that are outlined on single planes.

A cell that is outlined on no two planes that follow each other is a *cut* through it; any other is
outlined as a whole, and the rules of `training_labels.merge` hold for it as in two dimensions. An
object is *broad* on a plane if its section there is at least half as large as its largest.

What becomes of a pseudo object, by the first line that applies:

=================================================  ==================  ======================
pseudo object                                      on the plane        elsewhere
=================================================  ==================  ======================
covers more than half of a cut                     the cut             the cut's cell
is broad there, with more than half in a cut       the cut             the cut's cell
either, of several cuts                            the cuts            the cell nearest to it
is broad there, more than half on background       0                   unlabelled
reaches into a cut or background                   without that        of pieces the largest
any other                                          as it was           as it was
=================================================  ==================  ======================

Of what a cell gets beyond its cut only what hangs together with the cut stays; the rest is
unlabelled. A cut that no object covers so is a cell that was missed: background within the radius
of a disc of its size, in all directions, is unlabelled. What a single plane can't tell stays.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label as label_pieces

from oce2stardist.labels import BACKGROUND, UNLABELLED, cut_cells, object_sizes

UNDECIDED = -2
"""Where planes say nothing of pseudo labels."""

VoxelSize = tuple[float, float, float]  # (z, y, x), in any unit


@dataclass(frozen=True)
class Claims:
    """What cuts make of the pseudo labels of a stack; arrays of shape (Z, Y, X).

    Attributes
    ----------
    left : int array
        The pseudo labels without the objects that cuts claim or refute.
    decided : int32 array
        Ids of cut cells, 0, and -1 where unlabelled; `UNDECIDED` where the other objects, or the
        annotations, say what is there.
    others : int32 array
        The annotations without the cuts' cells, which are known background for other objects.
    """

    left: NDArray[np.integer]
    decided: NDArray[np.int32]
    others: NDArray[np.int32]


def claim_on_planes(
    pseudo_labels: NDArray[np.integer],
    annotations: NDArray[np.integer],
    *,
    voxel_size: VoxelSize,
) -> Claims:
    """Decide about the pseudo objects that annotated planes meet.

    Parameters
    ----------
    pseudo_labels, annotations : integer arrays of shape (Z, Y, X)
        As in `merge_annotations`.
    voxel_size : (z, y, x)
        For distances; in any unit.
    """
    is_cut = np.isin(annotations, cut_cells(annotations))
    # factorize hashes where np.unique sorts: linear in voxels, whatever the ids
    flat, ids = pd.factorize(pseudo_labels.ravel().astype(np.int64), sort=True)
    codes = flat.reshape(pseudo_labels.shape)
    sections = np.stack([np.bincount(plane.ravel(), minlength=len(ids)) for plane in codes])
    claimants = _find_claimants(codes, ids, np.where(is_cut, annotations, 0), sections)
    is_refuted = _find_refuted(codes, ids, _lone_background(annotations), sections)
    is_refuted[list(claimants)] = False
    is_decided = is_refuted.copy()
    is_decided[list(claimants)] = True

    decided = np.full(codes.shape, UNDECIDED, np.int32)
    decided[is_refuted[codes]] = UNLABELLED
    windows = ndi.find_objects(codes + 1)
    for code, cells in claimants.items():
        window = windows[code]
        cells_here = np.where(np.isin(annotations[window], cells), annotations[window], 0)
        decided[window][codes[window] == code] = _share_out(
            cells_here, codes[window] == code, voxel_size
        )
    _clear_planes(decided, annotations, is_cut)
    decided[annotations > UNLABELLED] = UNDECIDED
    _drop_loose_pieces(decided, np.where(is_cut, annotations, 0))
    taken = {cell for cells in claimants.values() for cell in cells}
    missed = sorted(set(cut_cells(annotations).tolist()) - taken)
    _doubt_around(decided, pseudo_labels, annotations, missed, voxel_size)
    return Claims(
        left=np.where(is_decided[codes], BACKGROUND, pseudo_labels),
        decided=decided,
        others=np.where(is_cut, np.int32(BACKGROUND), annotations).astype(np.int32),
    )


def _find_claimants(
    codes: NDArray[np.intp],
    ids: NDArray[np.int64],
    cuts: NDArray[np.integer],
    sections: NDArray[np.int64],
) -> dict[int, list[int]]:
    """Find the cut cells, ascending, to which each object goes; objects by code."""
    largest = sections.max(axis=0)
    claimants: dict[int, set[int]] = {}
    for plane in np.flatnonzero(cuts.any(axis=(1, 2))):
        size_of = dict(zip(*(part.tolist() for part in object_sizes(cuts[plane])), strict=True))
        both = (cuts[plane] > 0) & (ids[codes[plane]] > BACKGROUND)
        pairs = np.stack([cuts[plane][both], codes[plane][both]])
        met, shared = np.unique(pairs, axis=1, return_counts=True)
        for (cell, code), n_shared in zip(met.T.tolist(), shared.tolist(), strict=True):
            section = sections[plane, code]
            covers = 2 * n_shared > size_of[cell]
            lies_in_it = 2 * n_shared > section and 2 * section >= largest[code]
            if covers or lies_in_it:
                claimants.setdefault(code, set()).add(cell)
    return {code: sorted(cells) for code, cells in claimants.items()}


def _lone_background(annotations: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark background of planes on both sides of which nothing is known."""
    known = np.pad(annotations > UNLABELLED, [(1, 1), (0, 0), (0, 0)])
    return np.asarray((annotations == BACKGROUND) & ~known[2:] & ~known[:-2])


def _find_refuted(
    codes: NDArray[np.intp],
    ids: NDArray[np.int64],
    background: NDArray[np.bool_],
    sections: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Mark the objects, by code, through whose breadth a plane sees background."""
    largest = sections.max(axis=0)
    refuted = np.zeros(len(ids), bool)
    for plane in np.flatnonzero(background.any(axis=(1, 2))):
        seen = np.bincount(codes[plane][background[plane]], minlength=len(ids))
        refuted |= (2 * seen > sections[plane]) & (2 * sections[plane] >= largest)
    return refuted & (ids > BACKGROUND)


def _share_out(
    cells: NDArray[np.integer], of_object: NDArray[np.bool_], voxel_size: VoxelSize
) -> NDArray[np.int32]:
    """Give each voxel of an object, in order, to the nearest of the cells in its window."""
    nearest = ndi.distance_transform_edt(
        cells == 0, sampling=voxel_size, return_distances=False, return_indices=True
    )
    return cells[tuple(nearest[:, of_object])].astype(np.int32)


def _drop_loose_pieces(decided: NDArray[np.int32], cuts: NDArray[np.integer]) -> None:
    """Unlabel, in place, what does not hang together with the cut of its cell."""
    joined = np.where(cuts > 0, cuts, np.maximum(decided, 0))
    pieces = label_pieces(joined, connectivity=3)  # neighbours of different ids stay apart
    is_held = np.zeros(int(pieces.max()) + 1, bool)
    is_held[pieces[cuts > 0]] = True
    decided[(decided > 0) & ~is_held[pieces]] = UNLABELLED


def _clear_planes(
    decided: NDArray[np.int32], annotations: NDArray[np.integer], is_cut: NDArray[np.bool_]
) -> None:
    """Leave of each cell, in place, nothing but the outline on the planes of its outline."""
    for plane in np.flatnonzero(is_cut.any(axis=(1, 2))):
        outlined = np.unique(annotations[plane][is_cut[plane]])
        decided[plane][np.isin(decided[plane], outlined)] = BACKGROUND


def _doubt_around(
    decided: NDArray[np.int32],
    pseudo_labels: NDArray[np.integer],
    annotations: NDArray[np.integer],
    cells: list[int],
    voxel_size: VoxelSize,
) -> None:
    """Unlabel, in place, background about cuts that are of no object."""
    for plane in np.flatnonzero(np.isin(annotations, cells).any(axis=(1, 2))) if cells else []:
        for cell in np.intersect1d(annotations[plane], cells):
            rows, columns = np.nonzero(annotations[plane] == cell)
            radius = np.sqrt(len(rows) * voxel_size[1] * voxel_size[2] / np.pi)
            reach = [int(radius / side) + 1 for side in voxel_size]
            window = tuple(
                slice(max(0, int(np.min(at)) - far), int(np.max(at)) + far + 1)
                for at, far in zip((np.array([plane]), rows, columns), reach, strict=True)
            )
            here = np.zeros(annotations.shape, bool)[window]
            here[plane - window[0].start] = annotations[plane][window[1:]] == cell
            is_near = ndi.distance_transform_edt(~here, sampling=voxel_size) <= radius
            is_open = (pseudo_labels[window] == BACKGROUND) & (annotations[window] == UNLABELLED)
            decided[window][is_near & is_open] = UNLABELLED
