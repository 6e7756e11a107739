"""Write and read weights, thresholds and the state of an unfinished training."""

import io
import json
from pathlib import Path

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from oce2stardist.files.atomic import write_bytes, write_text
from oce2stardist.files.checkpoints import read_checkpoint, write_checkpoint
from oce2stardist.stardist_model.backend import save_weights_to_hdf5_group
from oce2stardist.stardist_model.base import QuietNetwork
from oce2stardist.stardist_model.train import State


def write_state(path: Path, state: State) -> None:
    """Write the state of a training, proven readable; the state before it is kept beside it."""
    arrays, facts = state
    # Not ascontiguousarray: it would turn the step counter, a scalar, into a vector.
    contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
    content = save(contiguous, metadata={"facts": json.dumps(facts)})
    write_checkpoint(path, content, read=_load)


def read_state(path: Path) -> State | None:
    """Read what `write_state` wrote, or the state before it; None if there is neither."""
    return read_checkpoint(path, read=_load)


def _load(path: Path) -> State:
    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["facts"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)


def write_weights(path: Path, model: QuietNetwork) -> None:
    """Write the weights as StarDist does (HDF5, Keras 2 layout).

    HDF5 writes to memory: on a full disk it would end the process.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        save_weights_to_hdf5_group(file, model.keras_model)
    write_bytes(path, content.getvalue())


def write_thresholds(folder: Path, *, prob: float, nms: float) -> None:
    """Write thresholds.json as StarDist does."""
    write_text(folder / "thresholds.json", json.dumps({"prob": prob, "nms": nms}))
