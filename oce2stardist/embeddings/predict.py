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
from oce2stardist.embeddings.device import Precision, autocast, on_device, torch_device
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.noise import copies_per_cycle, noise_turns
from oce2stardist.embeddings.workers import workers_for
from oce2stardist.images.blocks import Window

NOISE_VALUES = (0.5, 1.0)
"""What salt-and-pepper pixels are set to, in turn, as in the paper's code."""

_MARGIN = FIELD_OF_VIEW // 2

_COPIES_ON_GPU = 8
"""Copies in a batch: enough work for a graphics processor in tiles of 256 pixels; about 1 GB."""


class ImageSource(Protocol):
    """An image that is read in windows: an array of NumPy or Zarr, or what slices like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(Y, X, C)."""

    def __getitem__(self, window: Window, /) -> Any:
        """Return pixels of shape (y, x, C), normalised, at the network's scale."""


class PredictedOffsets(NamedTuple):
    """Mean offsets (2, y, x) in a window of an image, and their spread (y, x), pixels.

    The spread is the standard deviation over copies, summed over both components.
    """

    rows: slice
    columns: slice
    offsets: NDArray[np.float32]
    spread: NDArray[np.float32]


@dataclass(frozen=True)
class PredictionSettings:
    """How offsets are predicted; whatever the device. See `EmbeddingConfig`.

    Attributes
    ----------
    copies : int, >= 1
        Half have noise of value 0.5, half of value 1. One copy has a spread of 0.
    tile_size : int, >= 16
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
    network: OffsetNetwork,
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
    top, left = (span.start for span in region)
    spread = np.empty([span.stop - span.start for span in region], np.float32)
    offsets = np.empty((2, *spread.shape), np.float32)
    for tile in predict_tiles(network, image, settings, device=device, region=region):
        rows = slice(tile.rows.start - top, tile.rows.stop - top)
        columns = slice(tile.columns.start - left, tile.columns.stop - left)
        offsets[:, rows, columns] = tile.offsets
        spread[rows, columns] = tile.spread
    return PredictedOffsets(*region, offsets, spread)


def predict_tiles(
    network: OffsetNetwork,
    image: ImageSource,
    settings: PredictionSettings,
    *,
    device: str,
    region: Window | None = None,
) -> Iterator[PredictedOffsets]:
    """Predict offsets tile by tile, holding no more of the image than one tile needs.

    Parameters
    ----------
    image : float32 array of shape (Y, X, C), or what slices like one
        Normalised, at the network's scale. Read once, in overlapping windows.
    device : {"auto", "cpu", "cuda", "mps"}
    region : pair of slices, optional
        Rows and columns of the image to predict; they begin at even pixels, where pooling
        joins the same pairs as in the whole image. Default: all.

    Yields
    ------
    PredictedOffsets
        In reading order; together they cover the region once.

    Raises
    ------
    ValueError
        If `tile_size` is below 16: the image is mirrored at its border, so a tile must hold
        what is mirrored; or if the region begins at an odd pixel.

    Notes
    -----
    What lies beyond the image is its mirror image with noise of its own, so that a pixel at
    the border sees as much noise as any other.
    """
    if settings.tile_size < FIELD_OF_VIEW:
        raise ValueError(
            f"tile_size must be at least {FIELD_OF_VIEW} pixels. Got {settings.tile_size} instead."
        )
    region = region or _whole(image)
    if region[0].start % 2 or region[1].start % 2:
        raise ValueError(
            f"a region must begin at even pixels. Got rows from {region[0].start} and columns from "
            f"{region[1].start}; widen it."
        )
    where = torch_device(device)
    network = on_device(network, where)
    tiles = itertools.product(*(_even_parts(span, settings.tile_size) for span in region))

    def predict(tile: tuple[slice, ...]) -> PredictedOffsets:
        rows, columns = tile
        window = torch.from_numpy(_read_window(image, rows, columns)).to(where)
        batches = _noisy_batches(window, rows, columns, settings)
        passes = (_run(network, batch, settings.precision) for batch in batches)
        mean, spread = _mean_and_spread(itertools.chain.from_iterable(passes))
        height, width = rows.stop - rows.start, columns.stop - columns.start
        mean, spread = mean[:, :height, :width], spread[:height, :width]
        return PredictedOffsets(rows, columns, mean.numpy(), spread.numpy())

    with workers_for(where) as workers:
        yield from workers.map(predict, tiles)


def _whole(image: ImageSource) -> Window:
    return slice(0, image.shape[0]), slice(0, image.shape[1])


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


def _seen(span: slice) -> slice:
    """Widen rows or columns to what the network sees of them; an even number of pixels."""
    return slice(span.start - _MARGIN, span.stop + _MARGIN + (span.stop - span.start) % 2)


def _read_window(image: ImageSource, rows: slice, columns: slice) -> NDArray[np.float32]:
    """Read (C, y, x) around a tile; beyond the image's border comes its mirror image."""
    inside, beyond = [], []
    for span, length in zip((_seen(rows), _seen(columns)), image.shape[:2], strict=True):
        inside.append(slice(max(span.start, 0), min(span.stop, length)))
        beyond.append((max(-span.start, 0), max(span.stop - length, 0)))
    pixels = np.asarray(image[inside[0], inside[1]], np.float32)
    padded = np.pad(pixels, [*beyond, (0, 0)], mode="symmetric")
    return np.ascontiguousarray(padded.transpose(2, 0, 1))


def _noisy_batches(
    window: Tensor, rows: slice, columns: slice, settings: PredictionSettings
) -> Iterator[Tensor]:
    """Make noisy copies of a window (C, y, x), in batches (B, C, y, x)."""
    copies, noise, seed = settings.copies, settings.noise, settings.seed
    # On a processor, more than one only leave its cache.
    at_once = 1 if window.device.type == "cpu" else _COPIES_ON_GPU
    batch: list[Tensor] = []
    turns = torch.full(window.shape[1:], -1, dtype=torch.int32, device=window.device)
    cycle_length = copies_per_cycle(noise) if noise > 0 else copies
    for copy in range(copies):
        cycle, turn = divmod(copy, cycle_length)
        if turn == 0 and noise > 0:
            drawn = noise_turns(_seen(rows), _seen(columns), noise=noise, seed=seed, cycle=cycle)
            turns = torch.from_numpy(drawn).to(window.device)
        batch.append(window.masked_fill(turns == turn, NOISE_VALUES[copy % 2]))
        if len(batch) == at_once or copy == copies - 1:
            yield torch.stack(batch)
            batch = []


def _run(network: OffsetNetwork, batch: Tensor, precision: Precision) -> Tensor:
    """Predict offsets (B, 2, y, x) of a batch without keeping anything for gradients."""
    batch = batch.contiguous(memory_format=torch.channels_last)
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
