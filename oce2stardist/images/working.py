"""A large image as the offset network sees it: rescaled and normalised, window by window."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage as ndi

from oce2stardist.images.blocks import Window
from oce2stardist.images.channels import ChannelChoice
from oce2stardist.images.intensity import compress_by, middle_and_unit
from oce2stardist.images.lazy import LazyImage, sample_windows
from oce2stardist.images.normalise import ByChannel, measure_percentiles, normalise_between
from oce2stardist.labels import Image

_REACH = 4.0
"""Standard deviations up to which SciPy's Gaussian reaches."""


@dataclass(frozen=True)
class Levels:
    """Which intensities of each channel become 0 and 1, for the network and linear ones.

    They are percentiles 1 and 99.8 over the whole image; for the network compressed by `middle`,
    the median, and `unit`, the noise, unless `knee` is None: see
    `oce2stardist.images.intensity.compress`.
    """

    low: ByChannel
    high: ByChannel
    linear_low: ByChannel
    linear_high: ByChannel
    knee: float | None = None
    middle: ByChannel = ()
    unit: ByChannel = ()


@dataclass(frozen=True)
class RescaledImage:
    """An image at working scale; indexed by rows and columns, it is normalised for the network.

    Windows agree wherever they overlap: the places of the new pixels, the smoothing before an
    image is made smaller, and the intensities are those of the whole image, as
    `skimage.transform.rescale` and `oce2stardist.images.normalise` would have them.
    """

    image: LazyImage
    factor: float  # new pixels for each stored one
    channels: ChannelChoice
    levels: Levels | None = None  # needed for normalised windows

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(Y, X, C) at working scale."""
        height, width, stored = self.image.shape
        y, x = (max(1, int(np.round(self.factor * size))) for size in (height, width))
        return y, x, {"grey": 1, "stains": 2}.get(self.channels.mode, stored)

    def __getitem__(self, window: Window) -> Image:
        """Read a window as the network sees it, float32 of shape (Y, X, C)."""
        levels = self._known_levels()
        pixels = self.scaled(window)
        if levels.knee is not None:
            middle, unit = np.array([levels.middle, levels.unit], np.float32)
            pixels = compress_by(pixels, middle, unit, knee=levels.knee)
        return normalise_between(pixels, levels.low, levels.high)

    def linear(self, window: Window) -> Image:
        """Read a window with linear intensities, float32 of shape (Y, X, C)."""
        levels = self._known_levels()
        return normalise_between(self.scaled(window), levels.linear_low, levels.linear_high)

    def scaled(self, window: Window) -> Image:
        """Read a window at working scale, not normalised."""
        if self.factor == 1.0:
            return self.channels.apply(self.image.read(window))
        spans = [
            _Span.of(side, new, stored)
            for side, new, stored in zip(window, self.shape, self.image.shape, strict=False)
        ]
        stored = self.channels.apply(self.image.read((spans[0].read, spans[1].read)))
        sigma = [span.sigma for span in spans]
        planes = [
            ndi.affine_transform(
                ndi.gaussian_filter(plane, sigma, mode="mirror") if any(sigma) else plane,
                [span.step for span in spans],
                offset=[span.first for span in spans],
                output_shape=tuple(side.stop - side.start for side in window),
                order=1,
                mode="mirror",
            )
            for plane in np.moveaxis(stored, -1, 0)
        ]
        return np.stack(planes, axis=-1).astype(np.float32)

    def to_working(self, window: Window) -> Window:
        """Find the window of working pixels that belong to one of stored pixels.

        Windows that lie side by side stay so, without a gap.
        """
        rows, columns = (
            slice(-(-side.start * new // stored), -(-side.stop * new // stored))
            for side, new, stored in zip(window, self.shape, self.image.shape, strict=False)
        )
        return rows, columns

    def with_levels(self, *, knee: float | None, seed: int) -> "RescaledImage":
        """Measure the levels on the whole image, or where that is large on a sample of it."""
        windows = sample_windows(self.shape[:2], seed=seed)
        parts = [self.scaled(window) for window in windows]
        if knee is None:
            low, high = measure_percentiles(parts)
            return replace(self, levels=Levels(low, high, low, high))
        middle, unit = middle_and_unit(parts, knee=knee)
        compressed = [compress_by(part, middle, unit, knee=knee) for part in parts]
        ranges = (*measure_percentiles(compressed), *measure_percentiles(parts))
        compression = tuple(map(float, middle)), tuple(map(float, unit))
        return replace(self, levels=Levels(*ranges, knee, *compression))

    def _known_levels(self) -> Levels:
        if self.levels is None:
            raise ValueError("levels must be measured first. Got none; call with_levels.")
        return self.levels


@dataclass(frozen=True)
class _Span:
    """Along one axis: what to read, and where in it the new pixels lie."""

    read: slice
    first: float
    step: float
    sigma: float

    @classmethod
    def of(cls, wanted: slice, new: int, stored: int) -> "_Span":
        step = stored / new
        sigma = max(0.0, (step - 1) / 2)
        first, last = ((place + 0.5) * step - 0.5 for place in (wanted.start, wanted.stop - 1))
        margin = int(np.ceil(_REACH * sigma)) + 2
        read = slice(
            max(0, int(np.floor(first)) - margin), min(stored, int(np.ceil(last)) + margin + 1)
        )
        return cls(read, first - read.start, step, sigma)
