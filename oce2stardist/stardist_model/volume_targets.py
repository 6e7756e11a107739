"""Turn labels of a stack, known only in places, into StarDist3D targets."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.labels import BACKGROUND, UNLABELLED, cut_cells, object_sizes
from oce2stardist.stardist_model.backend import Rays_Base, edt_prob, star_dist3D

Labels = NDArray[np.int32]  # (Z, Y, X)
Weights = NDArray[np.float32]  # (objects + 1,): of the background and of the objects 1..n


def known_in_plane_only(labels: Labels) -> NDArray[np.bool_]:
    """Mark the voxels of which only rays within their plane are known; of a whole stack.

    These are the cells that are outlined on single planes, and background above and below which
    nothing is known. Shape (Z, Y, X).
    """
    known = np.pad(labels > UNLABELLED, [(1, 1), (0, 0), (0, 0)])
    lone = (labels == BACKGROUND) & ~known[2:] & ~known[:-2]
    return np.asarray(lone | np.isin(labels, cut_cells(labels)))


def volume_targets(
    labels: Labels,
    flat: NDArray[np.bool_],
    weights: Weights | None = None,
    *,
    rays: Rays_Base,
    grid: tuple[int, int, int],
    anisotropy: float,
    radii: NDArray[np.float32],
) -> tuple[NDArray[np.float32], ...]:
    """Compute what StarDist3D is to predict for one patch.

    Parameters
    ----------
    labels : int32 array of shape (Z, Y, X)
        Unlabelled voxels (-1) end objects as background does.
    flat : bool array of the same shape
        As `known_in_plane_only` has it for the stack that the patch comes from.
    weights : float32 array of shape (objects + 1,), optional
        Of the background and the objects, by id; 1 where not given.
    anisotropy : float > 0
        How many times as many voxels a cell has in y and x as in z.
    radii : float32 array of shape (objects + 1,)
        Of the cells, by id, voxels in y and x: by these the probability of their cuts is read.

    Returns
    -------
    prob : float32 array of shape (Z/grid, Y/grid, X/grid, 1)
        Normalised distance to the object's surface, 0 elsewhere; of a cut see `cut_prob`.
    dist : float32 array of shape (Z/grid, Y/grid, X/grid, n_rays)
        Distances to the surface along each ray, voxels.
    weight : float32 array of shape (Z/grid, Y/grid, X/grid, 1)
        How much each voxel counts: its object's weight, 1 on background, 0 if unlabelled.
    flat : float32 array of shape (Z/grid, Y/grid, X/grid, 1)
        1 where only the distances of rays in the plane count.
    """
    step = tuple(slice(None, None, size) for size in grid)
    objects = np.maximum(labels, 0)
    ids, numbered = np.unique(objects, return_inverse=True)  # stardist counts in 16 bits
    numbered = numbered.reshape(labels.shape) + (1 if ids[0] > 0 else 0)
    dist = star_dist3D(numbered, rays, grid=grid).astype(np.float32)
    whole = np.where(flat, 0, objects)
    prob = np.zeros(labels.shape, np.float32)
    if whole.any():
        prob = _edge_distance(whole, anisotropy)
    for plane in np.flatnonzero((flat & (objects > 0)).any(axis=(1, 2))):
        cuts = np.where(flat[plane], objects[plane], 0)
        prob[plane] = np.maximum(prob[plane], cut_prob(cuts, radii))
    weight = (labels[step] != UNLABELLED).astype(np.float32)
    if weights is not None:
        is_object = objects[step] > 0
        weight[is_object] = weights[objects[step][is_object]]
    return (
        prob[step][..., None],
        dist,
        weight[..., None],
        flat[step].astype(np.float32)[..., None],
    )


def cut_prob(cuts: NDArray[np.integer], radii: NDArray[np.floating]) -> NDArray[np.float32]:
    """Estimate the object probability in a plane (Y, X) from the cuts of cells there.

    It is the distance to the cut's edge divided by the radius of the cell, `radii` by id, or by the
    cut's own if that is larger; 0 outside of cuts, which are > 0.

    Notes
    -----
    StarDist's probability is the distance to the cell's surface divided by the largest such
    distance, of which a plane tells neither. On 20 planes of plant nuclei this estimate with the
    radius of the cell's volume is 0.076 off in the mean (correlation 0.87), with that of a median
    cell 0.093 (0.82), with the cut's own alone 0.110 (0.77), as cuts near the end of a cell are
    then taken for its middle; that of a ball which has such a cut 0.078 (0.88).
    """
    prob = np.zeros(cuts.shape, np.float32)
    ids = object_sizes(cuts)[0]
    numbered = np.searchsorted(ids, cuts) + 1
    numbered[cuts <= 0] = 0
    for number, box in enumerate(ndi.find_objects(numbered), start=1):
        window = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        is_cut = numbered[window] == number
        if is_cut.all():
            depth = ndi.distance_transform_edt(np.pad(is_cut, 1))[1:-1, 1:-1]
        else:
            depth = ndi.distance_transform_edt(is_cut)
        prob[window][is_cut] = (depth / max(radii[ids[number - 1]], depth.max()))[is_cut]
    return prob


def _edge_distance(objects: NDArray[np.integer], anisotropy: float) -> NDArray[np.float32]:
    spacing = (anisotropy, 1.0, 1.0)
    if (objects == objects.flat[0]).all():
        # All one object: stardist assumes background around it, too, but warns of it.
        padded = edt_prob(np.pad(objects, 1), anisotropy=spacing)
        return padded[1:-1, 1:-1, 1:-1].astype(np.float32)
    return edt_prob(objects, anisotropy=spacing).astype(np.float32)
