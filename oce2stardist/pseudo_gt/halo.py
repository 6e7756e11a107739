"""The rim of background around each cell, and what is left when it is off."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.filters import threshold_li
from skimage.measure import label as connected_components

from oce2stardist.labels import object_sizes, remove_objects


def remove_halo(
    labels: NDArray[np.integer],
    image: NDArray[np.floating],
    *,
    method: Literal["none", "shrink", "intensity"],
    shrink: float,
) -> NDArray[np.int32]:
    """Take off the rim of background that embeds into each cell.

    Within half a field of view of a cell, background still sees the cell and embeds into
    it, so raw objects come out up to 8 pixels too large (paper, section 4).

    Parameters
    ----------
    labels : integer array of shape (Y, X)
    image : float array of shape (Y, X, C)
        Normalised image at the same scale.
    method : {"none", "shrink", "intensity"}
        ``shrink`` takes off all pixels within `shrink` px of another object or the
        background (paper); ``intensity`` keeps, within each object, what is brighter than
        the object's own threshold, filled. The paper's code ("nucleus" mode) takes Otsu's;
        here it is Li's minimum cross-entropy, which suits intensities with photon noise
        and cuts less off dim cells (benchmarks/RESULTS.md, "Halo").
    shrink : float, >= 0
        Pixels, for ``shrink``.

    Returns
    -------
    int32 array of shape (Y, X)
    """
    cleaned = labels.astype(np.int32, copy=True)
    if method == "shrink" and shrink > 0:
        cleaned[_depth(labels) <= shrink] = 0
    elif method == "intensity":
        brightness = ndi.gaussian_filter(image.mean(axis=-1), 1.0)
        cleaned[~_brighter_parts(cleaned, brightness)] = 0
    return split_parts(cleaned)


def split_parts(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give every 4-connected part of every object a label of its own, 1..n.

    Cells that embed to one place although dark ground lies between them come apart here.
    """
    return np.asarray(connected_components(labels, background=0, connectivity=1), dtype=np.int32)


def _depth(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Measure, inside each object, the distance in pixels to the nearest pixel of another label."""
    depth = np.zeros(labels.shape)
    for index, window in enumerate(ndi.find_objects(labels), start=1):
        if window is None:
            continue
        object_ = np.pad(labels[window] == index, 1)
        inner = ndi.distance_transform_edt(object_)[1:-1, 1:-1]
        depth[window] = np.maximum(depth[window], inner)
    return depth


def _brighter_parts(
    labels: NDArray[np.integer], brightness: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Find, within each object, the pixels above its own threshold, and their holes."""
    bright = np.zeros(labels.shape, bool)
    for index, window in enumerate(ndi.find_objects(labels), start=1):
        if window is None:
            continue
        object_ = labels[window] == index
        values = brightness[window][object_]
        if values.min() < values.max():
            brighter = object_ & (brightness[window] > threshold_li(values))
            bright[window] |= ndi.binary_fill_holes(brighter) & object_
        else:
            bright[window] |= object_
    return bright


def remove_small(labels: NDArray[np.integer], *, min_size: float) -> NDArray[np.int32]:
    """Remove objects of fewer than min_size pixels and number the rest 1..n."""
    ids, sizes = object_sizes(labels)
    kept = remove_objects(labels, ids[sizes < min_size])
    return (
        np.unique(np.concatenate([[0], kept.ravel()]), return_inverse=True)[1][1:]
        .reshape(labels.shape)
        .astype(np.int32)
    )
