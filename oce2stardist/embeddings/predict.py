"""Offsets of whole images, averaged over noisy passes, and their spread."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from oce2stardist.embeddings.device import autocast, on_device, torch_device
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork

NOISE_VALUES = (0.5, 1.0)
"""What salt-and-pepper pixels are set to, in turn, as in the paper's code."""


@dataclass(frozen=True)
class PredictedOffsets:
    """Mean offsets (y, x) of shape (2, Y, X) and their spread of shape (Y, X), pixels."""

    offsets: NDArray[np.float32]
    spread: NDArray[np.float32]


def predict_offsets(
    network: OffsetNetwork,
    image: NDArray[np.float32],
    *,
    copies: int,
    noise: float,
    tile_size: int,
    precision: Literal["auto", "fp32", "bf16"],
    device: str,
    seed: int,
) -> PredictedOffsets:
    """Predict offsets on noisy copies of one image (paper, section 3, foreground).

    Parameters
    ----------
    network : OffsetNetwork
    image : float32 array of shape (Y, X, C)
        Normalised, at the network's scale.
    copies : int, >= 2
        Number of noisy copies; half have noise of value 0.5, half of value 1.
    noise : float, in [0, 1)
        Probability of a pixel to be replaced (all channels together).
    tile_size : int
        Side of the tiles in pixels. Noise is drawn for the whole image and tiles carry
        the full field of view, so that tiles do not change the result.
    seed : int
        Seeds the noise.

    Returns
    -------
    PredictedOffsets
        The spread is the standard deviation over copies, summed over both components.
    """
    where = torch_device(device)
    network = on_device(network, where)
    height, width = image.shape[:2]
    margin = FIELD_OF_VIEW // 2
    # The pooling needs even sizes; what is added is cropped below.
    padded = np.pad(
        image,
        [(margin, margin + height % 2), (margin, margin + width % 2), (0, 0)],
        mode="symmetric",
    )
    rng = np.random.default_rng(seed)
    mean = np.zeros((2, height, width), np.float64)
    squares = np.zeros((2, height, width), np.float64)
    tile_size += tile_size % 2
    for copy in range(copies):
        noisy = padded.copy()
        noisy[rng.random(padded.shape[:2]) < noise] = NOISE_VALUES[copy % 2]
        for top in range(0, height, tile_size):
            for left in range(0, width, tile_size):
                tile = noisy[
                    top : top + tile_size + FIELD_OF_VIEW, left : left + tile_size + FIELD_OF_VIEW
                ]
                batch = torch.from_numpy(np.ascontiguousarray(tile.transpose(2, 0, 1)))[None]
                batch = batch.to(where, memory_format=torch.channels_last)
                with torch.inference_mode(), autocast(where, precision):
                    predicted = network(batch)[0].float().cpu().numpy()
                bottom = min(top + predicted.shape[1], height)
                right = min(left + predicted.shape[2], width)
                predicted = predicted[:, : bottom - top, : right - left]
                mean[:, top:bottom, left:right] += predicted
                squares[:, top:bottom, left:right] += np.square(predicted, dtype=np.float64)
    mean /= copies
    variance = np.maximum(squares / copies - mean**2, 0.0)
    return PredictedOffsets(
        offsets=mean.astype(np.float32),
        spread=np.sqrt(variance).sum(axis=0).astype(np.float32),
    )
