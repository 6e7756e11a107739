"""Convert a StarDist network to ONNX and TensorFlow's SavedModel, and run those files."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oce2stardist.files.atomic import replacing
from oce2stardist.stardist_model.backend import keras, quiet_native_code, tf
from oce2stardist.stardist_model.network import SparseStarDist2D

OPSET = 17
Layout = Literal["split", "joined", "full"]
"""What comes out: prob and dist; both in one tensor; the same at the size of the input."""
Arrays = list[NDArray[np.float32]]


def run_network(model: SparseStarDist2D, image: NDArray[np.float32]) -> Arrays:
    """Run the network itself on an image (Y, X, C): prob (Y, X, 1) and dist (Y, X, rays)."""
    return [np.asarray(output[0]) for output in model.keras_model([image[None]], training=False)]


def _arrange(model: SparseStarDist2D, layout: Layout) -> keras.Model:
    """Put the outputs of the network into a layout."""
    network = model.keras_model
    prob, dist = network.outputs
    if layout == "split":
        return network
    grid = tuple(model.config.grid)
    if layout == "full" and grid != (1, 1):
        # As StarDist exports it: zeros between the grid points are no candidates.
        prob = keras.layers.Conv2DTranspose(
            1, 1, strides=grid, padding="same", kernel_initializer="ones", use_bias=False
        )(prob)
        dist = keras.layers.UpSampling2D(grid)(dist)
    return keras.Model(network.inputs[0], {"output": keras.layers.Concatenate()([prob, dist])})


def write_onnx(
    path: Path, model: SparseStarDist2D, *, layout: Layout, metadata: dict[str, str]
) -> None:
    """Write the network as ONNX with free batch size, height and width.

    Its input is ``input`` (B, Y, X, C); its outputs are ``prob`` and ``dist``, or ``output``.
    """
    import onnx
    import tf2onnx

    network = _arrange(model, layout)

    def call(image: tf.Tensor) -> dict[str, tf.Tensor]:
        if layout != "split":
            return network(image, training=False)
        prob, dist = network([image], training=False)
        # The same, but that it does not end with a transposition of one channel: of such a one
        # tf2onnx makes a reshape with an axis too many and a squeeze, and it forgets the squeeze
        # where the reshape has become the output already (1 of 60 conversions).
        prob = tf.expand_dims(tf.squeeze(prob, -1), -1)
        return {"prob": prob, "dist": dist}

    shape = (None, None, None, model.config.n_channel_in)
    signature = [tf.TensorSpec(shape, tf.float32, name="input")]
    with _silence("tf2onnx"), quiet_native_code():
        converted, _ = tf2onnx.convert.from_function(
            tf.function(call, input_signature=signature, autograph=False),
            input_signature=signature,
            opset=OPSET,
        )
    _name_free_sides(converted.graph, model.config.grid)
    for name, value in metadata.items():
        converted.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(converted, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(converted.SerializeToString())


def _name_free_sides(graph: Any, grid: tuple[int, int]) -> None:
    """Call the free dimensions batch, height and width."""
    at_grid = ("batch", f"height/{grid[0]}", f"width/{grid[1]}")
    named = [(value, ("batch", "height", "width")) for value in graph.input]
    named += [(value, at_grid) for value in graph.output]
    for value, names in named:
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name


def run_onnx(path: Path, image: NDArray[np.float32]) -> Arrays:
    """Run an ONNX file on an image (Y, X, C): prob and dist, or output, without batch axis."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    split = len(session.get_outputs()) == 2
    outputs = session.run(["prob", "dist"] if split else ["output"], {"input": image[None]})
    return [output[0] for output in outputs]


def write_saved_model(folder: Path, model: SparseStarDist2D) -> str:
    """Write a SavedModel with one output of the size of the input; return TensorFlow's version."""
    with _silence("tensorflow"), quiet_native_code():
        _arrange(model, "full").export(str(folder), format="tf_saved_model", verbose=False)
    return str(tf.__version__)


def run_saved_model(folder: Path, image: NDArray[np.float32]) -> Arrays:
    """Run a SavedModel on an image (Y, X, C): its one output, without batch axis."""
    with _silence("tensorflow"), quiet_native_code():
        loaded = tf.saved_model.load(str(folder))
        (output,) = loaded.signatures["serving_default"](tf.constant(image[None])).values()
    return [np.asarray(output)[0]]


@contextmanager
def _silence(name: str) -> Iterator[None]:
    """Keep the warnings and the log of a converter off the terminal; exceptions still come."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
