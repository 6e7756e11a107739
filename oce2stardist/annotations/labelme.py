"""LabelMe's JSON: polygons, rectangles, circles, masks, points and lines, one file an image.

Coordinates are (x, y) in pixels, integers at corners of pixels; a pixel belongs to an outline if
its centre is inside. The label says what is marked, as a class does (`role_of`). Shapes of one
label and one ``group_id`` are parts of one cell. Points are clicks, lines are strokes.
"""

import base64
import math
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.parsing import naming
from oce2stardist.annotations.shapes import (
    Mark,
    Outline,
    Patch,
    Reading,
    Shape,
    Skipped,
    role_of,
)
from oce2stardist.errors import InputError
from oce2stardist.images.find import image_stem
from oce2stardist.images.raster import decode_png

NO_AREA = "it encloses no pixels"
STROKES = ("point", "points", "line", "linestrip")
CORNERS = 128  # of a circle: within 0.01 px of an arc of 30 px radius


def is_labelme(document: Any) -> bool:
    """Tell whether parsed JSON looks like LabelMe's."""
    about = {"imagePath", "imageHeight", "version"}
    return isinstance(document, dict) and "shapes" in document and bool(about & document.keys())


def image_stem_of(document: dict[str, Any]) -> str:
    """Return the stem of the image that a document names; of both separators, as Windows writes."""
    return image_stem(PureWindowsPath(str(document.get("imagePath") or "")).name)


def read_labelme(document: dict[str, Any], *, shape: tuple[int, int], file: Path) -> Reading:
    """Read the shapes of a parsed document; `shape` is (Y, X) of the image."""
    parts: dict[tuple[str, str], list[Outline | Patch]] = {}
    lines: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    skipped = Skipped()
    with naming(str(file), expected="LabelMe's JSON"):
        said = document.get("imageHeight") or shape[0], document.get("imageWidth") or shape[1]
        sizes = int(said[0]), int(said[1])
        drawn = list(document["shapes"])
    if sizes != shape:
        raise InputError(
            f"{file} must have the size of the image. Got {sizes} and {shape} (Y, X); annotate the "
            "image itself or resample it."
        )
    for number, one in enumerate(drawn, start=1):
        with naming(f"shape {number} of {file}", expected="a shape of LabelMe"):
            label, group = str(one.get("label") or ""), one.get("group_id")
            key = (label, f"shape {number}" if group is None else f"group {group}")
            if one.get("shape_type") in STROKES:
                points = np.array(one["points"], np.float64).reshape(-1, 2)
                several = list(points[:, None]) if "point" in one["shape_type"] else [points]
                for at, line in enumerate(several):
                    own = (*key[:1], f"{key[1]}, {at}") if group is None else key
                    lines.setdefault(own, []).append(line)
                continue
            part = _to_part(one, shape=shape, file=file)
        if part is None:
            skipped.add(label or f"shape {number}", reason=NO_AREA)
        else:
            parts.setdefault(key, []).append(part)
    shapes = [
        Shape(tuple(of_cell), role_of(label), label, number)
        for number, ((label, _), of_cell) in enumerate(parts.items(), start=1)
    ]
    marks = [
        Mark(tuple(of_cell), role_of(label), label, number)
        for number, ((label, _), of_cell) in enumerate(lines.items(), start=1)
    ]
    return Reading(shapes, skipped.notes(file.name), marks)


def _to_part(
    drawn: dict[str, Any], *, shape: tuple[int, int], file: Path
) -> Outline | Patch | None:
    kind = drawn.get("shape_type") or "polygon"
    points = np.array(drawn["points"], np.float64).reshape(-1, 2)
    if kind == "mask":
        left, top = points[0].round().astype(int).tolist()
        largest = (shape[0] + 1, shape[1] + 1)  # LabelMe counts both ends
        mask = decode_png(base64.b64decode(drawn["mask"]), largest=largest) > 0
        return Patch(top, left, mask if mask.ndim == 2 else mask[..., 0])
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif kind == "circle":
        centre, edge = points
        turns = np.linspace(0, 2 * math.pi, CORNERS, endpoint=False)[:, None]
        arms = np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
        points = centre + math.dist(centre, edge) * arms
    elif kind not in ("polygon", "rectangle"):
        return None
    return Outline((points,)) if len(points) > 2 else None
