"""Intensities of an image, brought to a common range."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ByChannel = tuple[float, ...]  # an intensity for each channel


def normalise_percentiles(image: NDArray[Any]) -> NDArray[np.float32]:
    """Scale every channel of (Y, X, C) so that its percentiles 1 and 99.8 become 0 and 1.

    Values beyond are not clipped. A channel whose two percentiles are equal becomes 0 everywhere.
    """
    scaled: NDArray[np.float32] = image.astype(np.float32)
    return normalise_between(scaled, *measure_percentiles([scaled]))


def measure_percentiles(parts: Sequence[NDArray[np.float32]]) -> tuple[ByChannel, ByChannel]:
    """Measure the percentiles 1 and 99.8 of every channel over all parts (Y, X, C) of an image."""
    pixels = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    measured = np.percentile(pixels, (1.0, 99.8), axis=0, overwrite_input=True)
    low, high = measured.astype(np.float32)
    return tuple(map(float, low)), tuple(map(float, high))


def normalise_between(
    image: NDArray[np.float32], low: ByChannel, high: ByChannel
) -> NDArray[np.float32]:
    """Bring ``low`` to 0 and ``high`` to 1; a channel where they are equal becomes 0."""
    bottom, top = np.array([low, high], np.float32)
    flat = top <= bottom
    scaled = image - bottom
    scaled /= np.where(flat, np.float32(1), top - bottom)
    scaled[..., flat] = 0
    return scaled
