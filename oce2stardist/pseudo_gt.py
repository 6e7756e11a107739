"""From predicted offsets to pseudo ground truth: foreground, clusters, halo, size.

The steps of Wolf et al., arXiv:2310.08501, section 3, on NumPy arrays. Deliberate
differences from the paper are said where they are made.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max
from skimage.filters import threshold_li, threshold_otsu
from skimage.measure import label as connected_components

from oce2stardist.labels import object_sizes, remove_objects

_SMALLEST_SPREAD = 1e-4
"""Pixels; keeps the logarithm finite where no copy differs from another."""


def smooth_log_spread(spread: NDArray[np.floating], *, smoothing: float) -> NDArray[np.float32]:
    """Smooth the logarithm of the spread over noisy copies.

    Parameters
    ----------
    spread : array of shape (Y, X)
        Standard deviation of the offsets over noisy copies, pixels.
    smoothing : float, >= 0
        Standard deviation of the Gaussian, pixels.

    Returns
    -------
    float32 array of shape (Y, X)
    """
    logarithm = np.log(np.maximum(spread, _SMALLEST_SPREAD)).astype(np.float32)
    return ndi.gaussian_filter(logarithm, smoothing) if smoothing > 0 else logarithm


def foreground_threshold(maps: Sequence[NDArray[np.floating]]) -> float:
    """Split a set of spread maps into foreground (below) and background with one threshold.

    Otsu over the pooled pixels of the whole set. The paper thresholds every image by
    itself, which fails where an image is nearly all or nearly nothing but background;
    for that, pass a sequence of one map.
    """
    return float(threshold_otsu(np.concatenate([np.ravel(one) for one in maps]), nbins=1024))


def cluster_embeddings(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    *,
    bandwidth: float,
    method: Literal["density", "mean_shift"],
    seed: int = 0,
) -> NDArray[np.int32]:
    """Group foreground pixels that embed to the same place.

    Parameters
    ----------
    offsets : array of shape (2, Y, X)
        Predicted offsets (y, x), pixels.
    foreground : bool array of shape (Y, X)
    bandwidth : float, > 0
        Radius of the kernel, pixels; somewhat less than half a cell diameter is a good value.
    method : {"density", "mean_shift"}
        ``mean_shift`` is scikit-learn's, with bin seeding. ``density`` finds the same
        modes as peaks of a smoothed density image of the embeddings and is some tens of
        times faster.
    seed : int
        Seeds the choice of pixels that mean shift is fitted to.

    Returns
    -------
    int32 array of shape (Y, X)
        Labels 1..n on the foreground, 0 elsewhere.

    Notes
    -----
    Only differences of offsets enter the training loss, so a constant may be added to
    all of them: the median over the foreground is taken off first.
    """
    labels = np.zeros(foreground.shape, np.int32)
    if not foreground.any():
        return labels
    pixels = np.argwhere(foreground)  # (N, 2)
    drawn = offsets[:, foreground].T.astype(np.float64)  # (N, 2)
    embeddings = pixels + drawn - np.median(drawn, axis=0)
    if method == "density":
        centres = _density_peaks(embeddings, foreground.shape, bandwidth)
    else:
        centres = _mean_shift_centres(embeddings, bandwidth, seed)
    labels[foreground] = cKDTree(centres).query(embeddings)[1] + 1
    return labels


def _density_peaks(
    embeddings: NDArray[np.float64], shape: tuple[int, ...], bandwidth: float
) -> NDArray[np.float64]:
    """Find the modes of the embeddings; float array of shape (modes, 2)."""
    margin = int(np.ceil(bandwidth))
    low, high = -margin, np.array(shape) + margin
    # An embedding far outside the image is an outlier; it is moved to the rim so that one
    # wild pixel can't ask for a huge density image.
    inside = np.clip(np.rint(embeddings).astype(np.int64), low, high - 1) - low
    counts = np.zeros(np.array(shape) + 2 * margin, np.float32)
    np.add.at(counts, (inside[:, 0], inside[:, 1]), 1.0)
    # A flat kernel of radius h climbs the density under an Epanechnikov kernel of radius h,
    # whose standard deviation along each axis is h / sqrt(6).
    density = ndi.gaussian_filter(counts, bandwidth / np.sqrt(6.0), mode="constant")
    peaks = peak_local_max(
        density,
        min_distance=max(1, round(bandwidth)),
        threshold_abs=0.0,
        exclude_border=False,
        p_norm=2,
    )
    if len(peaks) == 0:
        peaks = np.array([np.unravel_index(int(density.argmax()), density.shape)])
    return peaks.astype(np.float64) + low


def _mean_shift_centres(
    embeddings: NDArray[np.float64], bandwidth: float, seed: int
) -> NDArray[np.float64]:
    from sklearn.cluster import MeanShift  # slow to import, and only the reference needs it

    # The paper's code fits mean shift to a tenth of the pixels.
    rng = np.random.default_rng(seed)
    keep = rng.random(len(embeddings)) < 0.1
    fitted = embeddings[keep] if keep.sum() >= 100 else embeddings
    model = MeanShift(bandwidth=bandwidth, bin_seeding=True, cluster_all=True).fit(fitted)
    return np.asarray(model.cluster_centers_, dtype=np.float64)


def gathering(
    labels: NDArray[np.integer], offsets: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Measure how far each object's pixels come together in embedding space.

    Parameters
    ----------
    labels : integer array of shape (Y, X)
    offsets : array of shape (2, Y, X)
        Predicted offsets (y, x), pixels.

    Returns
    -------
    ids, ratios : arrays of shape (objects,)
        Standard deviation of the object's embeddings over that of its pixels: 0 where all
        embed to one point, 1 where offsets are constant, as on structureless background.
    """
    ids, index = np.unique(labels[labels > 0], return_inverse=True)
    pixels = np.argwhere(labels > 0).astype(np.float64)
    embeddings = pixels + offsets[:, labels > 0].T
    spatial, embedded = (_variance(points, index, len(ids)) for points in (pixels, embeddings))
    return ids.astype(np.int64), np.sqrt(embedded / np.maximum(spatial, 1e-9))


def _variance(
    points: NDArray[np.float64], index: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Variance of points (N, 2) around the mean of their group, both axes together."""
    size = np.bincount(index, minlength=count)
    total = np.zeros(count)
    for column in points.T:
        mean = np.bincount(index, column, minlength=count) / size
        total += np.bincount(index, (column - mean[index]) ** 2, minlength=count) / size
    return total


def remove_ungathered(
    labels: NDArray[np.integer], offsets: NDArray[np.floating], *, max_ratio: float
) -> NDArray[np.integer]:
    """Remove objects whose pixels don't come together: background taken for foreground.

    An addition to the paper; see `gathering` for the ratio.
    """
    ids, ratios = gathering(labels, offsets)
    return remove_objects(labels, ids[ratios > max_ratio])


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
