"""Pure operations on label images: integer arrays of shape (Y, X).

``labels > 0`` are instances, ``0`` is background, ``-1`` is unlabelled.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

BACKGROUND = 0
UNLABELLED = -1


def object_sizes(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of every object.

    Parameters
    ----------
    labels : integer array of any shape
        Values below 1 are not objects.

    Returns
    -------
    ids, sizes : int64 arrays of shape (objects,)
        Ascending ids and their number of pixels. Ids may have gaps.
    """
    ids, sizes = np.unique(labels[labels > BACKGROUND], return_counts=True)
    return ids.astype(np.int64), sizes.astype(np.int64)


def median_diameter(label_images: Iterable[NDArray[np.integer]]) -> float | None:
    """Find the median equivalent diameter, in pixels, of the objects of all images.

    The equivalent diameter is that of the disc with the object's area. Returns
    None where there is no object.
    """
    sizes = [object_sizes(labels)[1] for labels in label_images]
    pooled = np.concatenate(sizes) if sizes else np.empty(0, np.int64)
    if pooled.size == 0:
        return None
    return float(np.median(np.sqrt(4.0 * pooled / np.pi)))


def remove_objects(
    labels: NDArray[np.integer], ids: Iterable[int], *, value: int = BACKGROUND
) -> NDArray[np.integer]:
    """Return a copy in which the pixels of the objects ``ids`` have ``value``."""
    cleaned = labels.copy()
    cleaned[np.isin(labels, np.fromiter(ids, dtype=np.int64))] = value
    return cleaned
