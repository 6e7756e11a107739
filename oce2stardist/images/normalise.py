"""Intensities of an image, brought to a common range."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def normalise_percentiles(
    image: NDArray[Any], low: float = 1.0, high: float = 99.8
) -> NDArray[np.float32]:
    """Scale every channel so that its percentiles ``low`` and ``high`` become 0 and 1.

    Parameters
    ----------
    image : array of shape (Y, X, C)
    low, high : float, 0 to 100

    Returns
    -------
    float32 array of shape (Y, X, C)
        Not clipped. A channel whose two percentiles are equal becomes 0 everywhere.
    """
    scaled: NDArray[np.float32] = image.astype(np.float32)
    bottom, top = np.percentile(scaled, (low, high), axis=(0, 1)).astype(np.float32)  # (C,)
    flat = top <= bottom
    scaled -= bottom
    scaled /= np.where(flat, np.float32(1), top - bottom)
    scaled[..., flat] = 0
    return scaled
