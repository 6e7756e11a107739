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
    which a watershed floods it. A constant image has no cell.

    Parameters
    ----------
    image : float array of shape (Y, X, C)
        Cells brighter than the ground; channels are averaged.
    diameter : float, > 0
        Median cell diameter, pixels. All other parameters follow from it.
    """
    if not diameter > 0:
        raise ValueError(f"diameter must be above 0. Got {diameter} instead.")
    smooth = ndi.gaussian_filter(image.mean(axis=-1), _SMOOTHING * diameter)
    cells = ndi.binary_fill_holes(smooth > threshold_otsu(smooth))
    depth = ndi.gaussian_filter(ndi.distance_transform_edt(cells), _SMOOTHING * diameter)
    connected, _ = ndi.label(cells)
    centres = peak_local_max(  # at least one in every connected part
        depth, min_distance=max(1, round(_APART * diameter)), labels=connected, exclude_border=False
    )
    markers = np.zeros(cells.shape, np.int32)
    markers[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    parts = watershed(-depth, markers, mask=cells)
    return remove_small(parts, min_size=_SMALLEST * np.pi / 4 * diameter**2)
