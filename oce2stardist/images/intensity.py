"""Intensities of very different cells brought close to each other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oce2stardist.images.normalise import part_equal

Floats = NDArray[np.float32]


def compress(image: NDArray[np.floating], *, knee: float) -> Floats:
    """Compress each channel's intensities so that dim cells count beside bright ones.

    Each channel, the last axis, in any unit, becomes ``arcsinh((x - median) / (knee * noise))``:
    linear around the median, logarithmic from about `knee` standard deviations of the noise on.
    A network that is trained on linear intensities overlooks cells that are some ten times
    dimmer than the brightest (benchmarks/TRIALS.md, "Intensities"). An addition to the paper
    (arXiv:2310.08501).

    The noise is measured on the differences of neighbouring pixels: their median size over
    0.6745, the median size of a standard normal variable, and over the root of two. A channel
    without noise, as drawn images may have, takes a hundredth of its range instead.
    """
    values = np.asarray(image, dtype=np.float32)
    return compress_by(values, *middle_and_unit([values], knee=knee), knee=knee)


def middle_and_unit(
    images: Sequence[NDArray[np.floating]], *, knee: float
) -> tuple[Floats, Floats]:
    """Measure median and noise, (C,), for `compress_by`: of one image or of windows (Y, X, C)."""
    steps = [np.abs(np.diff(image, axis=-2)).reshape(-1, image.shape[-1]) for image in images]
    noise = np.median(np.concatenate(steps), axis=0) / 0.6745 / np.sqrt(2.0)
    values = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
    low, middle, high = np.percentile(values, (1, 50, 99.8), axis=0)
    low, high = part_equal(values, low, high)
    unit = np.maximum(noise, 0.01 * (high - low) / knee)
    return middle.astype(np.float32), np.maximum(unit, 1e-12).astype(np.float32)


def compress_by(image: Floats, middle: Floats, unit: Floats, *, knee: float) -> Floats:
    """Compress with a median and a noise that are known, see `compress`."""
    return np.arcsinh((image - middle) / (knee * unit)).astype(np.float32)
