"""Build the U-Net that predicts offsets to a cell-specific point."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oce2stardist.embeddings.cpu_network import forward_on_cpu

FIELD_OF_VIEW = 16
"""Nominal side of the square, in pixels, that one output pixel sees (paper, App. A).

The output is exactly this much smaller than the input; because pooling joins pixels in
pairs, what a single output pixel depends on is up to 2 pixels wider.
"""


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Build two valid 3x3 convolutions around two 1x1 ones, each with a ReLU (App. A)."""
    layers: list[nn.Module] = []
    for kernel in (3, 1, 1, 3):
        layers += [nn.Conv2d(channels_in, channels_out, kernel), nn.ReLU(inplace=True)]
        channels_in = channels_out
    return nn.Sequential(*layers)


@torch.no_grad()
def widen(network: nn.Module) -> None:
    """Let offsets start some pixels long.

    From offsets near zero the loss, flat for pairs far apart, is escaped late or never
    (benchmarks/TRIALS.md, "Initial offsets").
    """
    kinds = nn.Conv2d, nn.Conv3d
    convolutions = [module for module in network.modules() if isinstance(module, kinds)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    convolutions[-1].weight.mul_(3.0)


class OffsetNetwork(nn.Module):
    """U-Net of depth 1 with valid convolutions and a field of view of 16x16 pixels.

    Architecture of App. A of Wolf et al., arXiv:2310.08501: 2x2 max-pooling, nearest
    ("constant") upsampling, two 1x1 convolutions as head. A field of view smaller than
    a cell is what keeps the network from finding an answer without objects in it.

    Parameters
    ----------
    channels : int
        Channels of the input image.
    feature_maps, growth : int
        See `EmbeddingConfig`; the paper has 64 and 3.
    initialisation : {"wide", "default"}
        ``wide`` starts from offsets some pixels long (Kaiming's normal distribution, the last
        layer three times as wide); ``default`` leaves what torch draws, as the paper, which
        names none, presumably does.
    """

    field_of_view = FIELD_OF_VIEW
    ndim = 2

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
            nn.Conv2d(feature_maps, feature_maps, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(feature_maps, 2, 1),
        )
        if initialisation == "wide":
            widen(self)

    def forward(self, images: Tensor) -> Tensor:
        """Predict offsets (y, x), pixels, of shape (B, 2, Y - 16, X - 16).

        Images have shape (B, C, Y, X) and are normalised; Y and X are even and at least 18.
        """
        if images.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return forward_on_cpu(self, images)
        return self.forward_plain(images)

    def forward_plain(self, images: Tensor) -> Tensor:
        """Compute the same as `forward`, layer by layer as the paper draws the network."""
        fine = self.encoder(images)  # (B, F, Y-4, X-4)
        coarse = self.bottom(F.max_pool2d(fine, 2))  # (B, F*growth, (Y-12)/2, (X-12)/2)
        coarse = F.interpolate(coarse, scale_factor=2, mode="nearest")  # (B, F*growth, Y-12, X-12)
        merged = torch.cat([fine[..., 4:-4, 4:-4], coarse], dim=1)
        features = self.head[:-1](self.decoder(merged))
        # bfloat16 rounds offsets of 8 px to sixteenths, more than the spread of a sharp cell.
        with torch.autocast(images.device.type, enabled=False):
            return self.head[-1](features.to(self.head[-1].weight.dtype))
