"""Which pixels are cell: low spread over noisy copies (arXiv:2310.08501, section 3)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

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
