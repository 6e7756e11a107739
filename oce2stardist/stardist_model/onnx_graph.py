"""Write a StarDist network as an ONNX graph that OpenCV reads, too.

OpenCV, with which QuPath runs networks, has channels before rows, and refuses or misreads what
tf2onnx makes of Keras' upsampling (4.6 to 4.11). Here every layer becomes the node of its name, so
that nothing depends on the height and width, which stay free.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from oce2stardist.errors import InputError
from oce2stardist.stardist_model.backend import keras

OPSET = 13
_IR_VERSION = 8
"""Of the file: read by onnxruntime since 1.10 and by OpenCV since 4.5."""

_ACTIVATIONS = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu", "selu": "Selu",
    "softplus": "Softplus",
}  # fmt: skip

_TO_FRONT, _TO_END = (0, 3, 1, 2), (0, 2, 3, 1)
"""Axes that bring the channels (B, Y, X, C) to the front, and back."""


def make_onnx(network: keras.Model, *, grid: tuple[int, int], joined: bool) -> onnx.ModelProto:
    """Make the graph of a network (B, Y, X, C) -> prob, dist, of free batch size and image size.

    Parameters
    ----------
    network : keras.Model
        Of convolutions, batch normalisation, pooling, upsampling and concatenation.
    grid : (int, int)
        Pixels of the image per pixel of the outputs, (y, x): part of the names of their sides.
    joined : bool
        False: ``input`` (B, C, Y, X) -> ``prob`` (B, 1, Y/grid, X/grid) and ``dist`` (B, rays,
        Y/grid, X/grid). True: ``input`` (B, Y, X, C) -> ``output`` (B, Y/grid, X/grid, 1 + rays).

    Raises
    ------
    InputError
        If the network has a layer of another kind.
    """
    graph = _Graph()
    channels, rays = network.inputs[0].shape[-1], network.outputs[1].shape[-1]
    image: list[str | int] = ["batch", channels, "height", "width"]
    sides = [f"height/{grid[0]}", f"width/{grid[1]}"]
    first = graph.add("Transpose", ["input"], "channels_first", perm=_TO_FRONT) if joined else ""
    prob, dist = _add_layers(graph, network, first or "input")
    if joined:
        both = graph.add("Concat", [prob, dist], "prob_and_dist", axis=1)
        graph.add("Transpose", [both], "output", perm=_TO_END)
        image = [image[index] for index in _TO_END]
        outputs = [_value("output", ["batch", *sides, 1 + rays])]
    else:
        outputs = [_value(prob, ["batch", 1, *sides]), _value(dist, ["batch", rays, *sides])]
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, "stardist", [_value("input", image)], outputs, graph.constants
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="oce2stardist",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def _value(name: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


class _Graph:
    """Nodes and constants; a value has the name of the node that makes it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        array = np.ascontiguousarray(values, np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def _add_layers(graph: _Graph, network: keras.Model, first: str) -> list[str]:
    """Add the nodes of all layers; `first` is what they see. Returns the names of the outputs."""
    names: dict[int, str] = {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            names[id(layer.output)] = first
            continue
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        names[id(layer.output)] = _add_layer(graph, layer, [names[id(one)] for one in given])
    return [names[id(output)] for output in network.outputs]


def _add_layer(graph: _Graph, layer: keras.Layer, given: list[str]) -> str:
    """Add the nodes of one layer; returns the name of what it makes."""
    layers, name = keras.layers, layer.name
    match layer:
        case layers.Conv2D(strides=(1, 1), dilation_rate=(1, 1), groups=1):
            return _add_convolution(graph, layer, given)
        case layers.BatchNormalization(axis=-1 | 3):
            return _add_normalisation(graph, layer, given)
        case layers.MaxPooling2D():
            size = list(layer.pool_size)
            return graph.add("MaxPool", given, name, kernel_shape=size, strides=list(layer.strides))
        case layers.UpSampling2D(interpolation="nearest"):
            scales = graph.constant(f"{name}/scales", [1, 1, *layer.size])
            return graph.add(
                "Resize", [*given, "", scales], name, mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )  # fmt: skip
        case layers.Concatenate():
            return graph.add("Concat", given, name, axis=1)
        case layers.ReLU(negative_slope=0, max_value=None, threshold=0):
            return graph.add("Relu", given, name)
        case layers.Activation():
            return _add_activation(graph, layer, given[0])
        case layers.Dropout():
            return given[0]
    raise _unknown(layer)


def _add_convolution(graph: _Graph, layer: keras.Layer, given: list[str]) -> str:
    height, width = layer.kernel_size
    same = layer.padding == "same"
    before_and_after = [(height - 1) // 2, (width - 1) // 2, height // 2, width // 2]
    kernel, *bias = layer.get_weights()  # (y, x, in, out)
    inputs = [*given, graph.constant(f"{layer.name}/kernel", kernel.transpose(3, 2, 0, 1))]
    inputs += [graph.constant(f"{layer.name}/bias", values) for values in bias]
    plain = keras.activations.serialize(layer.activation) == "linear"
    made = graph.add(
        "Conv", inputs, layer.name if plain else f"{layer.name}/convolved",
        kernel_shape=[height, width], pads=before_and_after if same else [0, 0, 0, 0],
    )  # fmt: skip
    return made if plain else _add_activation(graph, layer, made)


def _add_normalisation(graph: _Graph, layer: keras.Layer, given: list[str]) -> str:
    mean = layer.moving_mean
    ones, zeros = np.ones(mean.shape), np.zeros(mean.shape)
    values = {
        "gamma": layer.gamma if layer.scale else ones,
        "beta": layer.beta if layer.center else zeros,
        "mean": mean,
        "variance": layer.moving_variance,
    }
    constants = [graph.constant(f"{layer.name}/{name}", value) for name, value in values.items()]
    inputs = [*given, *constants]
    return graph.add("BatchNormalization", inputs, layer.name, epsilon=float(layer.epsilon))


def _add_activation(graph: _Graph, layer: keras.Layer, given: str) -> str:
    name = keras.activations.serialize(layer.activation)
    if name == "linear":
        return given
    if name not in _ACTIVATIONS:
        raise _unknown(layer)
    return graph.add(_ACTIVATIONS[name], [given], layer.name)


def _unknown(layer: keras.Layer) -> InputError:
    return InputError(
        "a network can be exported to onnx if it is made of plain convolutions, batch "
        f"normalisation, pooling, upsampling and joins. Got the layer {layer.name} "
        f"({type(layer).__name__}); export to stardist or savedmodel instead."
    )
