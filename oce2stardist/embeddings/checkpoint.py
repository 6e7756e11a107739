"""Write and read the offset network: finished weights, and the state of a training."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.embeddings.volume_network import VolumeOffsetNetwork
from oce2stardist.errors import InputError, first_line, is_out_of_memory
from oce2stardist.files.atomic import write_bytes
from oce2stardist.files.checkpoints import read_checkpoint, write_checkpoint


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training, proven readable; the state before it is kept beside it."""
    content = io.BytesIO()
    torch.save(state, content)
    write_checkpoint(path, content.getvalue(), read=_load)


def read_state(path: Path) -> dict[str, Any] | None:
    """Read the state of a training, or the one before it; None if there is neither."""
    return read_checkpoint(path, read=_load)


def _load(path: Path) -> dict[str, Any]:
    """Read a file; only tensors and plain values are accepted, so that none can run code."""
    return torch.load(path, map_location="cpu", weights_only=True)


def write_weights(path: Path, network: OffsetNetwork | VolumeOffsetNetwork) -> None:
    """Write the weights with what is needed to build the network again."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, save(tensors, metadata={"network": json.dumps(_shape_of(tensors))}))


def read_weights(path: Path) -> OffsetNetwork | VolumeOffsetNetwork:
    """Build the network that `write_weights` wrote.

    Raises
    ------
    InputError
        If the file is broken or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shape = json.loads(file.metadata()["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if shape != _shape_of(tensors):  # before memory is taken
            raise ValueError(f"its network is said to be {shape} and is {_shape_of(tensors)}")
        is_volume = tensors["encoder.0.weight"].ndim == 5
        network = (VolumeOffsetNetwork if is_volume else OffsetNetwork)(**shape)
        network.load_state_dict(tensors)
    except Exception as error:  # whatever a broken file makes the libraries raise
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{path} must hold the weights of an offset network. Got a file that can't be read: "
            f"{first_line(error)}; run `oce2stardist pseudo` again into another folder."
        ) from error
    return network.eval()


def _shape_of(tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    """Tell from its weights which parameters `OffsetNetwork` was built with."""
    maps, channels, *_ = tensors["encoder.0.weight"].shape
    wide = tensors["bottom.0.weight"].shape[0]
    return {"channels": channels, "feature_maps": maps, "growth": wide // maps}
