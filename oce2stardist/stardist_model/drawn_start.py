"""Make a StarDist folder of the start that was trained on drawn cells, for any number of channels.

The package holds its weights as float16 (benchmarks/drawn_start.py made them); the folder is a
StarDist folder like any other and lies in Keras' cache.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from oce2stardist.config import StarDistConfig
from oce2stardist.drawn import DIAMETER
from oce2stardist.files.atomic import write_bytes
from oce2stardist.files.digests import digest
from oce2stardist.images.channels import is_brightfield_rgb
from oce2stardist.labels import Image
from oce2stardist.stardist_model.scale import ModelScale, write_scale

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

WEIGHTS = Path(__file__).parents[1] / "drawn" / "start.safetensors"
NAME = "drawn"
"""What users call the start, where a model folder is asked for."""

THRESHOLDS = (0.6, 0.3)
"""Of probability and of suppression: a compromise over training images of ten sets for the start,
better than 0.5 and 0.4 on two of three for models that began with it (benchmarks/TRIALS.md)."""

STAIN = (0.8, 0.1, 0.1)
"""How much red, green and blue count where tissue is stained: haematoxylin is dark in red, eosin
is not. On three images of `he_kumar` red alone gave F1 0.576, the mean of all 0.545."""

_OWN_SHAPE = ("n_rays", "grid", "blocks", "width", "features", "batch_norm")
"""Settings that the weights fix."""


def start_settings() -> StarDistConfig:
    """Return the settings of the network that the start is."""
    return StarDistConfig()


def fits(settings: StarDistConfig) -> bool:
    """Tell whether a training with these settings can begin with the start."""
    own = start_settings()
    return all(getattr(settings, name) == getattr(own, name) for name in _OWN_SHAPE)


def folder_for(
    images: Sequence[Image], *, device: str = "auto", threads: int | None = None
) -> Path:
    """Return the start as a StarDist folder for images like these; it is written on first use.

    The network was trained on one channel. Of several it sees the mean; of RGB bright field, how
    much darker than white it is, mostly in red, where haematoxylin is dark and eosin is not: so
    stained nuclei are bright.

    Parameters
    ----------
    images : sequence of float32 arrays of shape (Y, X, C)
        At least one; stored values.
    device, threads
        For `prepare_tensorflow`, which comes before the first model: writing builds one.
    """
    channels = images[0].shape[-1]
    sees = "stain" if is_brightfield_rgb(images) else "light"
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    name = f"drawn-{digest([WEIGHTS])[:12]}-{sees}-{channels}"
    folder = home / "models" / "StarDist2D" / "oce2stardist" / name
    if not (folder / "thresholds.json").exists():
        from oce2stardist.stardist_model.network import prepare_tensorflow

        prepare_tensorflow(device, threads=threads)
        _write(folder, channels, sees)
    return folder


def _write(folder: Path, channels: int, sees: str) -> None:
    from oce2stardist.stardist_model.checkpoint import write_thresholds, write_weights
    from oce2stardist.stardist_model.network import create_model

    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(dir=folder.parent))
    try:
        model = create_model(made, start_settings(), channels=channels, seed=0)
        stored = load_file(WEIGHTS)
        weights = [stored[f"{index:03d}"].astype(np.float32) for index in range(len(stored))]
        weights[:2] = _spread(weights[0], weights[1], channels, sees)
        model.keras_model.set_weights(weights)
        write_weights(made / "weights_best.h5", model)
        write_scale(made, ModelScale(1.0, DIAMETER, "drawn cells", per_image=True))
        write_thresholds(made, prob=THRESHOLDS[0], nms=THRESHOLDS[1])
        made.rename(folder)
    except OSError:
        if not (folder / "thresholds.json").exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _spread(
    kernel: NDArray[np.float32], bias: NDArray[np.float32], channels: int, sees: str
) -> list[NDArray[np.float32]]:
    """Share the first layer, (3, 3, 1, features), out among channels.

    What it sees of stained tissue is 1 - colour: the minus goes into the kernel, the 1 into the
    bias.
    """
    if sees == "stain":
        weights = np.array(STAIN, np.float32)[:, None]
        return [-weights * kernel, (bias + kernel.sum(axis=(0, 1, 2))).astype(np.float32)]
    return [np.repeat(kernel, channels, axis=2) / np.float32(channels), bias]


def store_start(model: "SparseStarDist2D", path: Path = WEIGHTS) -> None:
    """Store the weights of a trained network of one channel: kernels as float16."""
    arrays = {
        f"{index:03d}": array.astype(np.float16 if array.ndim > 1 else np.float32)
        for index, array in enumerate(model.keras_model.get_weights())
    }
    write_bytes(path, save(arrays, metadata={"config": json.dumps(vars(model.config))}))
