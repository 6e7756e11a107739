"""Build the U-Net that predicts offsets in stacks: that of images in 3-D, with half its view.

Cells are half as large there (see `OF_STACKS` in config.py), so that the network again sees less
than a cell, at an eighth of the voxels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oce2stardist.embeddings.network import widen


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Build a valid 3x3x3 convolution and a 1x1x1 one, each with a ReLU."""
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, 3),
        nn.ReLU(inplace=True),
        nn.Conv3d(channels_out, channels_out, 1),
        nn.ReLU(inplace=True),
    )


class VolumeOffsetNetwork(nn.Module):
    """U-Net of depth 1 with valid convolutions and a field of view of 8x8x8 voxels.

    Takes the parameters of `OffsetNetwork`.
    """

    field_of_view = 8
    ndim = 3

    def __init__(
        self,
        *,
        channels: int,
        feature_maps: int,
        growth: int,
        initialisation: Literal["wide", "default"] = "wide",
    ) -> None:
        super().__init__()
        wide = feature_maps * growth
        self.encoder = _block(channels, feature_maps)
        self.bottom = _block(feature_maps, wide)
        self.decoder = _block(feature_maps + wide, feature_maps)
        self.head = nn.Sequential(
            nn.Conv3d(feature_maps, feature_maps, 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(feature_maps, 3, 1),
        )
        if initialisation == "wide":
            widen(self)

    def forward(self, volumes: Tensor) -> Tensor:
        """Predict offsets (z, y, x), voxels, of shape (B, 3, Z - 8, Y - 8, X - 8).

        Volumes have shape (B, C, Z, Y, X) and are normalised; sides are even and at least 10.
        """
        fine = self.encoder(volumes)  # (B, F, Z-2, Y-2, X-2)
        coarse = self.bottom(F.max_pool3d(fine, 2))  # (B, F*growth, (Z-6)/2, ...)
        coarse = F.interpolate(coarse, scale_factor=2, mode="nearest")  # (B, F*growth, Z-6, ...)
        merged = torch.cat([fine[..., 2:-2, 2:-2, 2:-2], coarse], dim=1)
        features = self.head[:-1](self.decoder(merged))
        # bfloat16 would round offsets as in images.
        with torch.autocast(volumes.device.type, enabled=False):
            return self.head[-1](features.to(self.head[-1].weight.dtype))
