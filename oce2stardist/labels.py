"""Pure operations on label images: integer arrays of shape (Y, X), or (Z, Y, X) of stacks.

``labels > 0`` are instances, ``0`` is background, ``-1`` is unlabelled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Image = NDArray[np.float32]  # (Y, X, C), or (Z, Y, X, C) of a stack
Labels = NDArray[np.int32]  # (Y, X) or (Z, Y, X)
Instances = Literal["auto", "labels", "components"]
"""How labels are taken: see `images.instances`."""
BACKGROUND = 0
UNLABELLED = -1


@dataclass(frozen=True)
class FoundObjects:
    """Label images by stem, and by id how sure their maker is of each object, 0 to 1."""

    labels: Mapping[str, Labels]
    confidence: Mapping[str, Mapping[int, float]]


def object_sizes(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the ids of the objects, ascending, perhaps with gaps, and their numbers of pixels."""
    ids, sizes = np.unique(labels[labels > BACKGROUND], return_counts=True)
    return ids.astype(np.int64), sizes.astype(np.int64)


def cut_cells(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """List the objects of a stack (Z, Y, X) that are on no two planes following each other.

    They are cuts through a cell, drawn on single planes; ids ascend.
    """
    goes_on = labels[1:][(labels[1:] == labels[:-1]) & (labels[1:] > BACKGROUND)]
    return np.setdiff1d(object_sizes(labels)[0], np.unique(goes_on))


def cell_size(diameter: float, *, ndim: int) -> float:
    """Tell how many pixels a disc of so many pixels across has, or a ball of voxels."""
    if ndim == 2:
        return float(np.pi / 4 * diameter**2)
    return float(np.pi / 6 * diameter**3)


def equivalent_diameter(sizes: NDArray[np.number], *, ndim: int) -> NDArray[np.float64]:
    """Tell, in pixels, how far across discs of these sizes are, or balls."""
    if ndim == 2:
        return np.asarray(np.sqrt(4 * sizes / np.pi))
    return np.asarray(np.cbrt(6 * sizes / np.pi))


def renumber(labels: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the objects 1..n in the order of their ids; the id of object i is ``ids[i - 1]``.

    Values below 1 stay. What counts up to the largest id, as scipy.ndimage.find_objects does,
    would need gigabytes where someone's ids are large.
    """
    is_object = labels > BACKGROUND
    ids, numbers = np.unique(labels[is_object], return_inverse=True)
    numbered = np.minimum(labels, BACKGROUND).astype(np.int32)
    numbered[is_object] = numbers + 1
    return numbered, ids.astype(np.int64)


def median_diameter(label_images: Iterable[NDArray[np.integer]]) -> float | None:
    """Find the median equivalent diameter, in pixels, of the objects of all images.

    The equivalent diameter is that of the disc with the object's area. Objects that the
    image's edge may cut are left out, unless there are no others. Returns None where there
    is no object.
    """
    whole, cut = [], []
    for labels in label_images:
        ids, sizes = object_sizes(labels)
        at_edge = np.isin(ids, ids_at_edge(labels))
        whole.append(sizes[~at_edge])
        cut.append(sizes[at_edge])
    for group in (whole, cut):
        pooled = np.concatenate(group) if group else np.empty(0, np.int64)
        if pooled.size:
            return float(np.median(equivalent_diameter(pooled, ndim=2)))
    return None


def ids_at_edge(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """List the ids of the objects that touch the edge of an image of shape (Y, X)."""
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.unique(rim[rim > BACKGROUND]).astype(np.int64)


def centroids(labels: NDArray[np.integer], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Find the centroids of objects, in pixels; array of shape (objects, dimensions).

    `ids`, in any order, must occur. Five times as fast as `scipy.ndimage.center_of_mass`, which
    goes through the whole image once for each sum.
    """
    where = np.nonzero(labels > BACKGROUND)
    values, order = labels[where], np.argsort(ids)
    at = np.searchsorted(ids, values, sorter=order)
    is_asked = at < len(ids)
    is_asked[is_asked] = ids[order[at[is_asked]]] == values[is_asked]
    index = order[at[is_asked]]
    sizes = np.bincount(index, minlength=len(ids))
    sums = [np.bincount(index, along[is_asked], minlength=len(ids)) for along in where]
    return np.stack(sums, axis=1) / sizes[:, None]


def remove_objects(labels: NDArray[np.integer], ids: Iterable[int]) -> NDArray[np.integer]:
    """Return a copy in which the pixels of the objects ``ids`` are background."""
    cleaned = labels.copy()
    cleaned[np.isin(labels, np.fromiter(ids, dtype=np.int64))] = BACKGROUND
    return cleaned


def resize_labels(labels: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Bring labels to another size without mixing them: each pixel takes the nearest one."""
    if labels.shape == tuple(shape):
        return labels
    places = (
        nearest_pixels(wanted, have) for wanted, have in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(*places)]


def nearest_pixels(wanted: int, have: int) -> NDArray[np.int64]:
    """Tell, along one axis, which of `have` pixels each of `wanted` pixels takes its value from."""
    return np.minimum(((np.arange(wanted) + 0.5) * have / wanted).astype(np.int64), have - 1)


def rescale_labels(labels: NDArray[np.integer], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Bring labels to another size and keep outlines smooth: no steps where they are enlarged.

    Each object's signed distance to its own outline is interpolated, as `scipy.ndimage.zoom`
    interpolates the image: corner pixels stay corner pixels. A pixel belongs to the object in
    which it lies deepest; unlabelled pixels (-1) are treated as one more object, and a pixel in
    none is background. An object that leaves no pixel is gone.

    Parameters
    ----------
    labels : integer array of shape (Y, X)
    shape : (Y, X)
        What is wanted.

    Returns
    -------
    int32 array of this shape
    """
    numbered, ids = renumber(labels)
    numbered = np.where(numbered < 0, len(ids) + 1, numbered)  # unlabelled: one more object
    deepest = np.zeros(shape, np.float32)
    scaled = np.zeros(shape, np.int32)
    # (wanted pixel) -> (pixel that it has been), along each axis
    steps = [(have - 1) / max(want - 1, 1) for have, want in zip(labels.shape, shape, strict=True)]
    for number, box in enumerate(ndi.find_objects(numbered), start=1):
        if box is None:
            continue
        pad = [slice(max(0, one.start - 2), one.stop + 2) for one in box]
        inside = numbered[tuple(pad)] == number
        to_edge = _signed_distance(inside)
        # Where the wanted pixels lie in this window.
        target = [
            slice(int(np.ceil(one.start / step)), min(want, int(one.stop / step) + 1))
            for one, step, want in zip(pad, steps, shape, strict=True)
        ]
        places = [
            np.arange(one.start, one.stop) * step - side.start
            for one, step, side in zip(target, steps, pad, strict=True)
        ]
        grid = np.meshgrid(*places, indexing="ij")
        depth = ndi.map_coordinates(to_edge, grid, order=1, mode="nearest")
        window = tuple(target)
        wins = depth > deepest[window]
        deepest[window][wins] = depth[wins]
        scaled[window][wins] = number
    back = np.array([BACKGROUND, *ids, UNLABELLED], np.int32)
    return back[scaled]


def _signed_distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Measure how deep each pixel's centre lies in an object, pixels; negative outside."""
    within = ndi.distance_transform_edt(inside) - 0.5
    without = ndi.distance_transform_edt(~inside) - 0.5
    return np.where(inside, within, -without).astype(np.float32)
