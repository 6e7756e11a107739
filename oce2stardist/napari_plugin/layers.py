"""Read layers as arrays: what can be used of an image layer, and where its labels go."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.images.find import LABEL_ENDINGS

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

KEY = "oce2stardist"
"""In ``layer.metadata``: a dict with `stem` of images and their labels, `baseline` of labels."""


def read_plane(layer: "Image") -> NDArray[Any]:
    """Take the pixels (Y, X) of an image layer: one plane of one channel, of finite numbers."""
    data = _finest(layer)
    if layer.rgb:
        raise InputError(
            f"an image must have one channel. Got the RGB layer {layer.name!r}; right-click it, "
            "choose Split RGB, and check one of its channels."
        )
    if data.ndim != 2:
        raise InputError(
            f"an image must be one plane (Y, X). Got shape {tuple(data.shape)} in the layer "
            f"{layer.name!r}; right-click it, choose Split Stack, and check single planes."
        )
    plane = np.asarray(data)
    if plane.dtype.kind not in "biuf" or not np.isfinite(plane).all():
        raise InputError(
            f"an image must hold finite numbers. Got NaN, infinity or {plane.dtype} in the layer "
            f"{layer.name!r}; replace them."
        )
    return plane


def is_plane(layer: "Image") -> bool:
    """Tell whether `read_plane` would take this layer, by its shape."""
    return not layer.rgb and layer.ndim == 2


def read_cells(layer: "Labels", image: "Image") -> NDArray[np.integer]:
    """Take the labels of a layer that lies over an image of the same size."""
    data, shape = _finest(layer), _finest(image).shape
    if data.shape != shape:
        raise InputError(
            f"cells must lie pixel on pixel over their image. Got shape {tuple(data.shape)} in "
            f"{layer.name!r} over {tuple(shape)} in {image.name!r}; choose another labels layer."
        )
    return np.asarray(data)


def _finest(layer: "Image | Labels") -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def notes_of(layer: "Layer") -> dict[str, Any]:
    """Return what this plugin noted on a layer, to read and to change."""
    notes: dict[str, Any] = layer.metadata.setdefault(KEY, {})
    return notes


def name_stems(layers: Iterable["Image"]) -> dict[str, "Image"]:
    """Name a file for every image layer; one that was named before keeps its name."""
    named: dict[str, Image] = {}
    for layer in layers:
        wanted = notes_of(layer).get("stem") or _to_stem(layer.name)
        stem, number = wanted, 1
        while stem.lower() in map(str.lower, named):
            number += 1
            stem = f"{wanted}-{number}"
        notes_of(layer)["stem"] = stem
        named[stem] = layer
    return named


def _to_stem(name: str) -> str:
    stem = re.sub(r"[^\w.-]+", "_", name).strip("._") or "image"
    # A file that is named like labels would not be taken for an image.
    return f"{stem}-image"[:80] if stem.endswith(LABEL_ENDINGS) else stem[:80]


def placed_like(image: "Image") -> dict[str, Any]:
    """Say where labels lie that belong to an image, as arguments of a layer."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units")
    return {name: getattr(image, name) for name in names}
