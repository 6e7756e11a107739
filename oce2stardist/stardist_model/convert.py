"""Convert a StarDist network to ONNX and TensorFlow's SavedModel, and run those files."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oce2stardist.files.atomic import replacing
from oce2stardist.stardist_model.backend import keras, quiet_native_code, tf
from oce2stardist.stardist_model.network import SparseStarDist2D

Layout = Literal["split", "joined"]
"""What comes out of an ONNX file: prob and dist; both in one tensor."""
Arrays = list[NDArray[np.float32]]


def run_network(model: SparseStarDist2D, image: NDArray[np.float32]) -> Arrays:
    """Run the network itself on an image (Y, X, C): prob (Y, X, 1) and dist (Y, X, rays)."""
    return [
        np.asarray(output[0])
        for output in model.keras_model(tf.constant(image[None]), training=False)
    ]


def _at_full_size(model: SparseStarDist2D) -> keras.Model:
    """Bring the outputs of the network to the size of its input, and join them."""
    network = model.keras_model
    prob, dist = network.outputs
    grid = tuple(model.config.grid)
    if grid != (1, 1):
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

    See `make_onnx` for its inputs and outputs.
    """
    from oce2stardist.stardist_model.onnx_graph import make_onnx

    grid = (int(model.config.grid[0]), int(model.config.grid[1]))
    made = make_onnx(model.keras_model, grid=grid, joined=layout == "joined")
    for name, value in metadata.items():
        made.metadata_props.add(key=name, value=value)
    with replacing(path) as temporary:
        temporary.write_bytes(made.SerializeToString())


def run_onnx(path: Path, image: NDArray[np.float32]) -> Arrays:
    """Run an ONNX file on an image (Y, X, C): prob and dist, or output, (Y, X, C) as well."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    if len(session.get_outputs()) == 1:
        return [session.run(["output"], {"input": image[None]})[0][0]]
    outputs = session.run(["prob", "dist"], {"input": image.transpose(2, 0, 1)[None]})
    return [output[0].transpose(1, 2, 0) for output in outputs]


def write_saved_model(folder: Path, model: SparseStarDist2D) -> None:
    """Write a SavedModel with one output of the size of the input, for TensorFlow 1.x.

    What Keras exports needs the TensorFlow that wrote it: variables are resources, calls are
    functions, and every attribute is written. Here the variables are constants of a plain graph,
    with the signature that csbdeep's own export had, and attributes that have their default value,
    among them those which TensorFlow 1 does not know, are left out.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    network = _at_full_size(model)
    shape = (None, None, None, model.config.n_channel_in)
    call = tf.function(
        lambda image: network(image, training=False)["output"],
        input_signature=[tf.TensorSpec(shape, tf.float32, name="input")],
        autograph=False,
    )
    v1 = tf.compat.v1
    with _silence("tensorflow"), quiet_native_code():
        frozen = convert_variables_to_constants_v2(call.get_concrete_function())
        with tf.Graph().as_default(), v1.Session() as session:
            tf.import_graph_def(frozen.graph.as_graph_def(), name="")
            image, output = (
                session.graph.get_tensor_by_name(tensor.name)
                for tensor in (frozen.inputs[0], frozen.outputs[0])
            )
            signature = v1.saved_model.predict_signature_def({"input": image}, {"output": output})
            builder = v1.saved_model.Builder(str(folder))
            builder.add_meta_graph_and_variables(
                session,
                ["serve"],
                signature_def_map={"serving_default": signature},
                strip_default_attrs=True,
            )
            builder.save()


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
