"""Predict the offsets of images of any size, averaged over noisy copies, and their spread."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oce2stardist.config import EmbeddingConfig
from oce2stardist.embeddings.device import (
    Precision,
    autocast,
    channels_last,
    on_device,
    torch_device,
)
from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.embeddings.noise import copies_per_cycle, noise_turns
from oce2stardist.embeddings.volume_network import VolumeOffsetNetwork
from oce2stardist.embeddings.workers import workers_for

Window = tuple[slice, ...]
"""Rows and columns of an image, or planes, rows and columns of a stack."""
AnyOffsetNetwork = OffsetNetwork | VolumeOffsetNetwork

NOISE_VALUES = (0.5, 1.0)
"""What salt-and-pepper pixels are set to, in turn, as in the paper's code."""

_COPIES_ON_GPU = 8
"""Copies in a batch: enough work for a graphics processor in tiles of 256 pixels; about 1 GB."""


class ImageSource(Protocol):
    """An image that is read in windows: an array of NumPy or Zarr, or what slices like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(Y, X, C), or (Z, Y, X, C) of a stack."""

    def __getitem__(self, window: Any, /) -> Any:
        """Return pixels of shape (y, x, C), normalised, at the network's scale."""


class PredictedOffsets(NamedTuple):
    """Mean offsets (2, y, x) in a window of an image, and their spread (y, x), pixels.

    In stacks they have shapes (3, z, y, x) and (z, y, x). The spread is the standard deviation
    over copies, summed over the components.
    """

    window: Window
    offsets: NDArray[np.float32]
    spread: NDArray[np.float32]


@dataclass(frozen=True)
class PredictionSettings:
    """How offsets are predicted; whatever the device. See `EmbeddingConfig`.

    Attributes
    ----------
    copies : int, >= 1
        Half have noise of value 0.5, half of value 1. One copy has a spread of 0.
    tile_size : int, at least the network's field of view
        Memory and speed depend on it, the result does not: windows carry the full field of view,
        and noise belongs to the pixel. On processors 256 to 384 is fastest
        (benchmarks/inference.py); larger leaves the cache.
    """

    copies: int
    noise: float
    tile_size: int
    precision: Precision
    seed: int

    @classmethod
    def of(cls, settings: EmbeddingConfig, *, copies: int, seed: int) -> "PredictionSettings":
        """Take what a config says; the number of copies may depend on the set of images."""
        return cls(copies, settings.noise, settings.tile_size, settings.precision, seed)


def predict_offsets(
    network: AnyOffsetNetwork,
    image: ImageSource,
    settings: PredictionSettings,
    *,
    device: str,
    region: Window | None = None,
) -> PredictedOffsets:
    """Predict offsets on noisy copies of one image (paper, section 3, foreground).

    Takes the parameters of `predict_tiles` and puts its tiles together; the arrays are as large
    as the region.
    """
    region = region or _whole(image)
    spread = np.empty([span.stop - span.start for span in region], np.float32)
    offsets = np.empty((len(region), *spread.shape), np.float32)
    for tile in predict_tiles(network, image, settings, device=device, region=region):
        place = tuple(
            slice(span.start - first.start, span.stop - first.start)
            for span, first in zip(tile.window, region, strict=True)
        )
        for component, predicted in zip(offsets, tile.offsets, strict=True):
            component[place] = predicted
        spread[place] = tile.spread
    return PredictedOffsets(region, offsets, spread)


def predict_tiles(
    network: AnyOffsetNetwork,
    image: ImageSource,
    settings: PredictionSettings,
    *,
    device: str,
    region: Window | None = None,
) -> Iterator[PredictedOffsets]:
    """Predict offsets tile by tile, holding no more of the image than one tile needs.

    Parameters
    ----------
    image : float32 array of shape (Y, X, C) or (Z, Y, X, C), or what slices like one
        Normalised, at the network's scale. Read once, in overlapping windows.
    device : {"auto", "cpu", "cuda", "mps"}
    region : slices, optional
        Rows and columns of the image to predict (of stacks planes, too); they begin at even
        pixels, where pooling joins the same pairs as in the whole image. Default: all.

    Yields
    ------
    PredictedOffsets
        In reading order; together they cover the region once.

    Raises
    ------
    ValueError
        If `tile_size` is below the field of view: the image is mirrored at its border, so a tile
        must hold what is mirrored; or if the region begins at an odd pixel.

    Notes
    -----
    What lies beyond the image is its mirror image with noise of its own, so that a pixel at
    the border sees as much noise as any other.
    """
    if settings.tile_size < network.field_of_view:
        raise ValueError(
            f"tile_size must be at least {network.field_of_view} pixels. Got "
            f"{settings.tile_size} instead."
        )
    region = region or _whole(image)
    if any(span.start % 2 for span in region):
        starts = ", ".join(str(span.start) for span in region)
        raise ValueError(f"a region must begin at even pixels. Got {starts}; widen it.")
    margin = network.field_of_view // 2
    where = torch_device(device)
    network = on_device(network, where)
    tiles = itertools.product(*(_even_parts(span, settings.tile_size) for span in region))

    def predict(tile: Window) -> PredictedOffsets:
        seen = tuple(_widened(span, margin) for span in tile)
        window = torch.from_numpy(_read_window(image, seen)).to(where)
        batches = _noisy_batches(window, seen, settings)
        passes = (_run(network, batch, settings.precision) for batch in batches)
        mean, spread = _mean_and_spread(itertools.chain.from_iterable(passes))
        inside = tuple(slice(span.stop - span.start) for span in tile)
        every_component = (slice(None), *inside)
        return PredictedOffsets(tile, mean[every_component].numpy(), spread[inside].numpy())

    with workers_for(where) as workers:
        yield from workers.map(predict, tiles)


def _whole(image: ImageSource) -> Window:
    return tuple(slice(0, side) for side in image.shape[:-1])


def _even_parts(span: slice, largest: int) -> list[slice]:
    """Cut a span into parts of one size, but for the last.

    Every part starts at an even pixel, so that pooling joins the same pairs whatever the
    tiles; no narrow strip is left at the end, where the margin would cost more than the tile.
    """
    length = span.stop - span.start
    count = -(-length // (largest // 2 * 2))
    size = 2 * -(-length // (2 * count))
    return [
        slice(start, min(start + size, span.stop)) for start in range(span.start, span.stop, size)
    ]


def _widened(span: slice, margin: int) -> slice:
    """Widen rows or columns to what the network sees of them; an even number of pixels."""
    return slice(span.start - margin, span.stop + margin + (span.stop - span.start) % 2)


def _read_window(image: ImageSource, window: Window) -> NDArray[np.float32]:
    """Read (C, y, x); beyond the image's border comes its mirror image."""
    inside, beyond = [], []
    for span, length in zip(window, image.shape[:-1], strict=True):
        inside.append(slice(max(span.start, 0), min(span.stop, length)))
        beyond.append((max(-span.start, 0), max(span.stop - length, 0)))
    pixels = np.asarray(image[tuple(inside)], np.float32)
    padded = np.pad(pixels, [*beyond, (0, 0)], mode="symmetric")
    return np.ascontiguousarray(np.moveaxis(padded, -1, 0))


def _noisy_batches(window: Tensor, place: Window, settings: PredictionSettings) -> Iterator[Tensor]:
    """Make noisy copies of a window (C, y, x) at a place, in batches (B, C, y, x)."""
    copies, noise, seed = settings.copies, settings.noise, settings.seed
    # On a processor, more than one only leave its cache.
    at_once = 1 if window.device.type == "cpu" else _COPIES_ON_GPU
    batch: list[Tensor] = []
    turns = torch.full(window.shape[1:], -1, dtype=torch.int32, device=window.device)
    cycle_length = copies_per_cycle(noise) if noise > 0 else copies
    for copy in range(copies):
        cycle, turn = divmod(copy, cycle_length)
        if turn == 0 and noise > 0:
            drawn = noise_turns(place, noise=noise, seed=seed, cycle=cycle)
            turns = torch.from_numpy(drawn).to(window.device)
        batch.append(window.masked_fill(turns == turn, NOISE_VALUES[copy % 2]))
        if len(batch) == at_once or copy == copies - 1:
            yield torch.stack(batch)
            batch = []


def _run(network: AnyOffsetNetwork, batch: Tensor, precision: Precision) -> Tensor:
    """Predict offsets (B, 2, y, x) of a batch without keeping anything for gradients."""
    batch = batch.contiguous(memory_format=channels_last(batch.ndim))
    with torch.inference_mode(), autocast(batch.device, precision):
        return network(batch).float()


def _mean_and_spread(passes: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Take the mean (2, y, x), and the standard deviation summed over components (y, x).

    Welford's running sums: single precision loses nothing where offsets are long and their
    spread is small.
    """
    mean = next(passes).clone()  # (2, y, x)
    squares = torch.zeros_like(mean)
    count = 1
    for predicted in passes:
        count += 1
        change = predicted - mean
        mean += change / count
        squares += change * (predicted - mean)
    return mean.cpu(), (squares / count).sqrt().sum(dim=0).cpu()
