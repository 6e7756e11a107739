"""Which channels enter the network: all of them, one grey, or the densities of two stains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

from oce2stardist.errors import InputError
from oce2stardist.labels import Image

ChannelMode = Literal["auto", "as_is", "stains", "grey"]

_WHITE = 255
_MAX_SAMPLES = 20_000
"""Pixels of an image that the tests below look at."""


@dataclass(frozen=True)
class ChannelChoice:
    """What `choose_channels` chose; the same for every image, and for every window of one.

    `low` and `high` are the densities of haematoxylin and eosin that become 0 and 1.
    """

    mode: ChannelMode  # not "auto"
    reason: str  # what is done and why, for people to read
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def apply(self, image: Image) -> Image:
        """Turn stored channels (Y, X, C) into those that the network sees (Y, X, C')."""
        if self.mode == "grey":
            return image.mean(axis=-1, keepdims=True, dtype=np.float32)
        if self.mode == "stains":
            low, high = np.array([self.low, self.high], np.float32)
            flat = high - low < 1e-6
            width = np.where(flat, np.float32(np.inf), high - low)
            return np.clip((_densities(image) - low) / width, 0, 1).astype(np.float32)
        return image


def choose_channels(images: Sequence[Image], *, mode: ChannelMode) -> ChannelChoice:
    """Choose what the network sees of the stored channels of a set of images.

    Parameters
    ----------
    images : sequence of float32 arrays of shape (Y, X, C)
        Stored values, before any normalisation; C is the same for all.
    mode : {"auto", "as_is", "stains", "grey"}
        ``as_is`` keeps all channels as stored, so that cells may be bright or dark; ``stains``
        takes the densities of haematoxylin and eosin of RGB bright field, 0 to 1 and bright
        where stained [1]_; ``grey`` the mean of the channels. ``auto`` takes ``stains`` where
        `is_brightfield_rgb`, one channel where several hold the same grey image, and otherwise
        all channels.

    References
    ----------
    .. [1] Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23(4), 2001.
    """
    counts = sorted({image.shape[-1] for image in images})
    if len(counts) != 1:
        raise InputError(
            f"images must share one number of channels. Got {counts}; put them in separate folders."
        )
    channels = counts[0]
    if mode == "stains" or (mode == "auto" and is_brightfield_rgb(images)):
        said = "asked for" if mode == "stains" else "the images look like bright-field RGB"
        low, high = _range_of_stains(images)
        reason = f"densities of haematoxylin and eosin: {said}"
        return ChannelChoice("stains", reason, low, high)
    if mode == "grey":
        return ChannelChoice("grey", f"mean of {channels} channel(s): asked for")
    if mode == "auto" and channels > 1 and all(_is_grey(image) for image in images):
        reason = f"one channel: the {channels} stored channels hold the same grey image"
        return ChannelChoice("grey", reason)
    said = "asked for" if mode == "as_is" else "every channel may show cells"
    return ChannelChoice("as_is", f"{channels} channel(s) as stored: {said}")


def is_brightfield_rgb(images: Sequence[Image]) -> bool:
    """Tell a stained bright-field section from fluorescence, by what light does to it.

    It is one if more than half of the images (Y, X, C), stored values, that show any difference
    of brightness have three channels of whole numbers 0 to 255 that are coloured, bright nearly
    everywhere, and darken together: a stain absorbs from all colours, while fluorescent
    channels are dark where nothing is labelled and vary on their own.
    """
    votes = [_looks_stained(image) for image in images if np.ptp(image) > 0]
    return 2 * sum(votes) > len(votes)


def _range_of_stains(images: Sequence[Image]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Find the densities of both stains that become 0 and 1: percentiles 0.1 and 99.9 of the set.

    What lies beyond is clipped: a single black speck has a density far above any nucleus.
    """
    for image in images:
        if image.shape[-1] != 3 or image.min() < 0 or image.max() > _WHITE:
            raise InputError(
                f"images must be RGB of 0 to 255 to separate stains. Got {image.shape[-1]} "
                f"channel(s) of {image.min():g} to {image.max():g}; take channels as_is."
            )
    pooled = np.concatenate([_sample(_densities(image)) for image in images])  # (N, 2)
    low, high = np.percentile(pooled, (0.1, 99.9), axis=0).astype(np.float32)
    return tuple(map(float, low)), tuple(map(float, high))


def _densities(image: Image) -> Image:
    """Unmix optical densities into haematoxylin and eosin (Y, X, 2), by rgb2hed's fixed vectors."""
    return np.asarray(rgb2hed(image / np.float32(_WHITE))[..., :2], np.float32)


def _sample(image: Image) -> NDArray[np.float32]:
    """Take up to some thousand pixels (N, C), evenly over the image."""
    pixels = image.reshape(-1, image.shape[-1])
    return pixels[:: max(1, len(pixels) // _MAX_SAMPLES)]


def _is_grey(image: Image) -> bool:
    """Tell whether channels differ by no more than compression leaves behind."""
    pixels = _sample(image)
    return float(np.percentile(np.ptp(pixels, axis=1), 99)) <= 0.03 * float(pixels.max())


def _looks_stained(image: Image) -> bool:
    pixels = _sample(image)
    if pixels.shape[1] != 3 or pixels.min() < 0 or not 1 < pixels.max() <= _WHITE:
        return False
    if np.any(pixels != np.rint(pixels)) or _is_grey(image):
        return False
    light = pixels.mean(axis=1)
    # Light that has passed the section: most pixels keep a good share of the brightest.
    bright = np.median(light) > 0.45 * np.percentile(light, 99.5)
    return bool(bright and np.percentile(light, 5) > 0.1 * _WHITE) and _darken_together(pixels)


def _darken_together(pixels: NDArray[np.float32]) -> bool:
    """Tell whether densities of the three colours rise together; pixels (N, 3), 0 to 255."""
    density = -np.log((pixels + 1) / (_WHITE + 1))
    if np.any(density.std(axis=0) < 1e-3):
        return False
    return float(np.corrcoef(density.T)[np.triu_indices(3, 1)].mean()) > 0.45
