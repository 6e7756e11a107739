"""Segment cells without learning, which every learned method has to beat."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from oce2stardist.pseudo_labels.halo import remove_small

_SMOOTHING = 1 / 14
"""Standard deviation of both Gaussians, in diameters."""
_APART = 1 / 3
"""Least distance of two cell centres, in diameters: cells overlap and vary in size."""
_SMALLEST = 1 / 16
"""Smallest object, as share of the area of a cell of median diameter, as in our labels."""


def segment_classically(image: NDArray[np.floating], diameter: float) -> NDArray[np.int32]:
    """Segment bright cells by Otsu's threshold and a watershed of their distance transform.

    Smooth, threshold, fill holes; the deepest places of what is left are cell centres, from
    which a watershed floods it.

    Parameters
    ----------
    image : float array of shape (Y, X, C)
        Cells brighter than the ground; channels are averaged.
    diameter : float, > 0
        Median cell diameter, pixels. All other parameters follow from it.

    Returns
    -------
    int32 array of shape (Y, X)
        Labels 1..n, 0 elsewhere; all 0 for a constant image.

    Raises
    ------
    ValueError
        If `diameter` is not above 0.
    """
    if not diameter > 0:
        raise ValueError(f"diameter must be above 0. Got {diameter} instead.")
    smooth = ndi.gaussian_filter(image.mean(axis=-1), _SMOOTHING * diameter)
    cells = ndi.binary_fill_holes(smooth > threshold_otsu(smooth))
    depth = ndi.gaussian_filter(ndi.distance_transform_edt(cells), _SMOOTHING * diameter)
    parts = watershed(-depth, _mark_centres(depth, cells, diameter), mask=cells)
    return remove_small(parts, min_size=_SMALLEST * np.pi / 4 * diameter**2)


def _mark_centres(
    depth: NDArray[np.floating], cells: NDArray[np.bool_], diameter: float
) -> NDArray[np.int32]:
    """Number the deepest places, at least one in every connected part."""
    parts, _ = ndi.label(cells)
    peaks = peak_local_max(
        depth,
        min_distance=max(1, round(_APART * diameter)),
        labels=parts,
        exclude_border=False,
    )
    markers = np.zeros(cells.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return markers
