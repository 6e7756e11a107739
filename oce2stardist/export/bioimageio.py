"""Write the description (rdf.yaml) of a bioimage.io model package."""

import re
from collections.abc import Sequence
from typing import Any

from oce2stardist.export.facts import Facts

_FORMAT_VERSION = "0.5.12"
_INPUT = "input"


def describe_package(
    facts: Facts,
    *,
    stardist_config: dict[str, Any],
    files: dict[str, str],
    opset: int,
    authors: Sequence[str],
) -> dict[str, Any]:
    """Make the content of rdf.yaml, as the bioimage.io model specification 0.5 wants it.

    `files` are the SHA-256 of those in the package by name: ``test_input.npy``,
    ``test_output.npy``, ``weights.onnx``, ``README.md``; all others are attachments. `opset` is
    that of the ONNX file, `stardist_config` the content of the model's config.json.
    """

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": files[name]}

    described = {"test_input.npy", "test_output.npy", "weights.onnx", "README.md"}
    attached = sorted(files.keys() - described)
    return {
        "type": "model",
        "format_version": _FORMAT_VERSION,
        "name": _legal_name(facts.name),
        "description": "StarDist model: cells as star-convex polygons.",
        "authors": [{"name": name} for name in authors],
        "cite": [
            {
                "text": "Schmidt et al., Cell Detection with Star-Convex Polygons, MICCAI 2018",
                "doi": "10.1007/978-3-030-00934-2_30",
            }
        ],
        "tags": ["stardist", "instance-segmentation", "unet", "2d", "cells"],
        "documentation": file("README.md"),
        "attachments": [file(name) for name in attached],
        "inputs": [_describe_input(facts) | {"test_tensor": file("test_input.npy")}],
        "outputs": [_describe_output(facts) | {"test_tensor": file("test_output.npy")}],
        "weights": {"onnx": file("weights.onnx") | {"opset_version": opset}},
        "config": {
            "stardist": {
                "thresholds": {"prob": facts.prob_thresh, "nms": facts.nms_thresh},
                "scale": facts.scale,
                "working_diameter": facts.working_diameter,
                "weights": next((name for name in attached if name.endswith(".h5")), None),
                "config": stardist_config,
            }
        },
    }


def _describe_input(facts: Facts) -> dict[str, Any]:
    (low, high), step = facts.percentiles, facts.multiple
    kwargs = {"axes": ["y", "x"], "min_percentile": low, "max_percentile": high}
    sides = [
        {"type": "space", "id": axis, "size": {"min": max(64, step), "step": step}}
        | _scale(facts, index, 1)
        for index, axis in enumerate("yx")
    ]
    channels = [f"channel{index + 1}" for index in range(facts.channels)]
    tensor = _describe_tensor(_INPUT, "The image as stored.", sides, channels)
    return tensor | {"preprocessing": [{"id": "scale_range", "kwargs": kwargs}]}


def _describe_output(facts: Facts) -> dict[str, Any]:
    what = "Object probability, and distances to the outline along the rays in pixels."
    sides = [
        {"type": "space", "id": axis, "size": {"tensor_id": _INPUT, "axis_id": axis}}
        | _scale(facts, index, facts.grid[index])
        for index, axis in enumerate("yx")
    ]
    channels = ["prob", *(f"dist{ray}" for ray in range(facts.n_rays))]
    return _describe_tensor("output", what, sides, channels)


def _describe_tensor(
    name: str, description: str, sides: list[dict[str, Any]], channels: list[str]
) -> dict[str, Any]:
    return {
        "id": name,
        "description": description,
        "axes": [{"type": "batch"}, *sides, {"type": "channel", "channel_names": channels}],
        "data": {"type": "float32"},
    }


def _scale(facts: Facts, index: int, grid: int) -> dict[str, Any]:
    """Give the extent of a pixel; in pixels of the image where its size is not known."""
    if facts.pixel_size is None:
        return {"scale": float(grid)}
    return {"scale": facts.pixel_size[index] * grid, "unit": "micrometer"}


def _legal_name(name: str) -> str:
    """Keep the characters that bioimage.io allows, and make it long enough."""
    return re.sub(r"[^\w+\- ()]", "_", f"StarDist {name}", flags=re.ASCII)[:64]
