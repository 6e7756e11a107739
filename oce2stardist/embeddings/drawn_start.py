"""Begin with an offset network that was trained on drawn cells.

benchmarks/drawn_offsets.py made the weights, with the loss of the default preset and no label;
no real image took part.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from oce2stardist.embeddings.network import OffsetNetwork

WEIGHTS = Path(__file__).parents[1] / "drawn" / "offsets.safetensors"

_FIRST = "encoder.0.weight"


@torch.no_grad()
def begin_drawn(network: OffsetNetwork) -> None:
    """Give a network the start's weights: of several channels it sees the mean.

    The network must have the width of the default preset; see `EmbeddingConfig.begins_drawn`.
    """
    weights = load_file(WEIGHTS)
    channels = network.state_dict()[_FIRST].shape[1]
    weights[_FIRST] = weights[_FIRST].repeat(1, channels, 1, 1) / channels
    network.load_state_dict(weights)
