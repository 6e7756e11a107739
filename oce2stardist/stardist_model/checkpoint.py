"""The StarDist network on disk: weights, thresholds, and the state of an unfinished training."""

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from oce2stardist.io import replacing, write_text
from oce2stardist.stardist_model.network import SparseStarDist2D
from oce2stardist.stardist_model.train import State


def write_state(path: Path, state: State) -> None:
    """Write the state of a training; the file is complete or the old one stays."""
    arrays, facts = state
    # Not ascontiguousarray: it would turn the step counter, a scalar, into a vector.
    contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"facts": json.dumps(facts)})


def read_state(path: Path) -> State:
    """Read what `write_state` wrote."""
    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["facts"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)


def write_weights(path: Path, model: SparseStarDist2D) -> None:
    """Write the weights as StarDist does (HDF5, Keras 2 layout)."""
    with replacing(path) as temporary:
        model.keras_model.save_weights(str(temporary))


def write_thresholds(folder: Path, *, prob: float, nms: float) -> None:
    """Write thresholds.json as StarDist does."""
    write_text(folder / "thresholds.json", json.dumps({"prob": prob, "nms": nms}))
