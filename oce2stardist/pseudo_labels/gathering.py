"""Measure how far the pixels of an object come together in embedding space."""

import numpy as np
from numpy.typing import NDArray

from oce2stardist.labels import remove_objects


def gathering(
    labels: NDArray[np.integer], offsets: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Measure how far each object's pixels come together; returns ids and ratios, (objects,).

    The ratio is the standard deviation of an object's embeddings over that of its pixels: 0 where
    all embed to one point, 1 where offsets are constant, as on structureless background. Offsets
    have shape (2, Y, X), labels (Y, X); of a stack (3, Z, Y, X) and (Z, Y, X).
    """
    ids, index = np.unique(labels[labels > 0], return_inverse=True)
    pixels = np.argwhere(labels > 0).astype(np.float64)
    embeddings = pixels + offsets[:, labels > 0].T
    spatial, embedded = (_variance(points, index, len(ids)) for points in (pixels, embeddings))
    return ids.astype(np.int64), np.sqrt(embedded / np.maximum(spatial, 1e-9))


def _variance(
    points: NDArray[np.float64], index: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Take the variance of points (N, 2 or 3) around the mean of their group, all axes together."""
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
