"""Begin with an offset network that was trained on drawn cells.

benchmarks/drawn_offsets.py made the weights, those of images and those of stacks, with the loss of
the default preset and no label; no real image took part.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.embeddings.volume_network import VolumeOffsetNetwork

_FOLDER = Path(__file__).parents[1] / "drawn"
WEIGHTS = {2: _FOLDER / "offsets.safetensors", 3: _FOLDER / "volume_offsets.safetensors"}
"""By the network's dimensions."""

_FIRST = "encoder.0.weight"


@torch.no_grad()
def begin_drawn(network: OffsetNetwork | VolumeOffsetNetwork) -> None:
    """Give a network the start's weights: of several channels it sees the mean.

    The network must have the width of the default preset; see `EmbeddingConfig.begins_drawn`.
    """
    weights = load_file(WEIGHTS[network.ndim])
    first = weights[_FIRST]  # (maps, 1, ...)
    channels = network.state_dict()[_FIRST].shape[1]
    weights[_FIRST] = torch.cat([first] * channels, dim=1) / channels
    network.load_state_dict(weights)
