"""The offset network on disk: finished weights, and the state of an unfinished training."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.io import replacing


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training; the file is complete or the old one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(state, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """Read the state of a training; only tensors and plain values are accepted."""
    return torch.load(path, map_location="cpu", weights_only=True)


def write_weights(
    path: Path, network: OffsetNetwork, *, channels: int, feature_maps: int, growth: int
) -> None:
    """Write the weights with what is needed to build the network again."""
    shape = {"channels": channels, "feature_maps": feature_maps, "growth": growth}
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"network": json.dumps(shape)})


def read_weights(path: Path) -> OffsetNetwork:
    """Build the network that `write_weights` wrote."""
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["network"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    network = OffsetNetwork(**shape)
    network.load_state_dict(tensors)
    return network.eval()
