"""Load TensorFlow, Keras and what StarDist builds on them quietly.

The other modules of this folder take them from here, so that none makes TensorFlow speak.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from oce2stardist.runs.interruption import stop_on_signal


@contextmanager
def quiet_native_code() -> Iterator[None]:
    """Send what compiled code writes to standard error to nowhere; exceptions still come."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


# TensorFlow leaves oneDNN off on processors without AVX-512, where it is faster, too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# TensorFlow reports missing GPU drivers several times, past Python and its own log level. A module
# that Ctrl-C breaks off says anything: it waits until all are there.
with quiet_native_code(), stop_on_signal():
    import tensorflow as tf  # isort: split
    import keras
    from csbdeep.models.base_model import save_weights_to_hdf5_group
    from csbdeep.models.pretrained import get_model_details, get_registered_models
    from stardist import (
        dist_to_coord,
        edt_prob,
        non_maximum_suppression,
        polygons_to_label,
        polyhedron_to_label,
        star_dist,
        star_dist3D,
    )
    from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D
    from stardist.models.base import StarDistBase
    from stardist.nms import non_maximum_suppression_3d, non_maximum_suppression_inds
    from stardist.rays3d import Rays_Base, Rays_Explicit, rays_from_json, reorder_faces
    from tensorflow.python.framework.func_graph import dismantle_func_graph

    # TensorFlow looks for GPUs, and complains about none, when it is first asked for them.
    GPUS = tf.config.list_physical_devices("GPU")

__all__ = [
    "GPUS", "Config2D", "Config3D", "Rays_Base", "Rays_Explicit", "StarDist2D", "StarDist3D",
    "StarDistBase", "dismantle_func_graph", "dist_to_coord", "edt_prob",
    "get_model_details", "get_registered_models", "keras", "non_maximum_suppression",
    "non_maximum_suppression_3d", "non_maximum_suppression_inds", "polygons_to_label",
    "polyhedron_to_label", "quiet_native_code",
    "rays_from_json", "reorder_faces", "save_weights_to_hdf5_group", "star_dist", "star_dist3D",
    "tf",
]  # fmt: skip
