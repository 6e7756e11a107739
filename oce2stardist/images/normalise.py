"""Intensities of an image, brought to a common range."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ByChannel = tuple[float, ...]  # an intensity for each channel


def normalise_percentiles(image: NDArray[Any]) -> NDArray[np.float32]:
    """Scale every channel of (Y, X, C) so that its percentiles 1 and 99.8 become 0 and 1.

    Values beyond are not clipped. Where the two are equal, see `part_equal`; a constant channel
    becomes 0.
    """
    scaled: NDArray[np.float32] = image.astype(np.float32)
    return normalise_between(scaled, *measure_percentiles([scaled]))


def measure_percentiles(parts: Sequence[NDArray[np.float32]]) -> tuple[ByChannel, ByChannel]:
    """Measure the percentiles 1 and 99.8 of every channel over all parts (Y, X, C) of an image.

    Where both are the same, on a ground of one value, those of what differs are taken: see
    `part_equal`.
    """
    pixels = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    measured = np.percentile(pixels, (1.0, 99.8), axis=0, overwrite_input=True)
    low, high = part_equal(pixels, *measured.astype(np.float32))
    return tuple(map(float, low)), tuple(map(float, high))


def part_equal(
    pixels: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Part the percentiles (C,) of pixels (N, C) where they are equal and the pixels are not.

    A few bright cells on a ground of 0, as background subtraction leaves it, cover less than the
    percentiles leave out. The upper one becomes the percentile 99.8 of what lies above the ground;
    if nothing does, the lower one the percentile 1 of what lies below.
    """
    low, high = low.copy(), high.copy()
    for channel in np.flatnonzero(high <= low):
        values, ground = pixels[:, channel], low[channel]
        if (above := values[values > ground]).size:
            high[channel] = np.percentile(above, 99.8)
        elif (below := values[values < ground]).size:
            low[channel] = np.percentile(below, 1.0)
    return low, high


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
