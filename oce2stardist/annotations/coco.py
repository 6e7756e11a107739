"""COCO JSON: polygons and both forms of run-length encoding, for one or many images.

pycocotools rasterises the polygons, so that pixels are those the COCO tools themselves see
(they differ from "centre inside" along the edge). Run lengths are expanded here, in time
proportional to the object instead of the image, and without handing unchecked runs to C code.
The category says what is marked: background, ``Ignore``, or a cell. A crowd (``iscrowd``),
several cells in one outline, stays unknown.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

from oce2stardist.annotations.parsing import naming
from oce2stardist.annotations.shapes import (
    Patch,
    Reading,
    Role,
    Shape,
    Skipped,
    check_inside,
    role_of,
)
from oce2stardist.errors import InputError
from oce2stardist.images.find import image_stem

NO_OUTLINE = "a box alone or no segmentation at all outlines no cell"


@dataclass(frozen=True)
class CocoImage:
    """One entry of ``images`` with its annotations and the names of all categories."""

    file_name: str
    shape: tuple[int, int]
    annotations: list[dict[str, Any]]
    categories: dict[Any, str]

    @property
    def stem(self) -> str:
        # Of both separators: Windows tools write backslashes.
        return image_stem(PureWindowsPath(self.file_name).name)


def is_coco(document: Any) -> bool:
    """Tell whether parsed JSON looks like COCO."""
    return isinstance(document, dict) and {"images", "annotations"} <= document.keys()


def list_images(document: dict[str, Any], *, file: Path) -> list[CocoImage]:
    """List the images of a parsed COCO document in its order."""
    with naming(str(file), expected="COCO JSON"):
        categories = {kind["id"]: str(kind["name"]) for kind in document.get("categories", [])}
        of_image = defaultdict(list)
        for annotation in document["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        images = {}
        for entry in document["images"]:
            number, name = entry["id"], str(entry["file_name"])
            shape = int(entry["height"]), int(entry["width"])
            images[number] = CocoImage(name, shape, of_image[number], categories)
        homeless = sorted(map(str, of_image.keys() - images.keys()))
        if homeless:
            raise ValueError(f"annotations refer to image_id {homeless[0]}, which images lacks")
    return list(images.values())


def read_annotated(image: CocoImage, *, shape: tuple[int, int], file: Path) -> Reading:
    """Read the annotations of one image, which is (Y, X) as it is."""
    if image.shape != shape:
        raise InputError(
            f"{image.file_name} in {file} must have the size of the image. Got {image.shape} and "
            f"{shape} (Y, X); annotate the image itself or resample it."
        )
    shapes, skipped = [], Skipped()
    for number, annotation in enumerate(image.annotations, start=1):
        name = str(annotation.get("id", ""))
        what = f"annotation {name or number} of {image.file_name} in {file}"
        with naming(what, expected="a COCO annotation"):
            parts = tuple(_parts(annotation.get("segmentation"), shape=shape, what=what))
            crowd, category = annotation.get("iscrowd"), annotation.get("category_id")
            role: Role = "unknown" if crowd else role_of(image.categories.get(category, ""))
        if parts:
            shapes.append(Shape(parts, role, name, number))
        else:
            skipped.add(name or str(number), reason=NO_OUTLINE)
    return Reading(shapes, skipped.notes(file.name))


def _parts(segmentation: Any, *, shape: tuple[int, int], what: str) -> Iterator[Patch]:
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != shape:
            raise ValueError(
                f"its run lengths are of size {segmentation['size']}, the image of {list(shape)}"
            )
        counts = segmentation["counts"]
        yield _expand(unpack(counts) if isinstance(counts, str) else counts, shape=shape)
    for polygon in segmentation if isinstance(segmentation, list) else []:
        yield _fill(polygon, shape=shape, what=what)


def _fill(polygon: list[float], *, shape: tuple[int, int], what: str) -> Patch:
    """Rasterise x, y, x, y, ... as pycocotools does."""
    points = np.array(polygon, np.float64)
    if points.ndim != 1 or points.size < 6 or points.size % 2:
        raise ValueError(f"a polygon must be 3 or more pairs x, y, got {points.size} numbers")
    x, y = points[::2], points[1::2]
    check_inside((x.min(), y.min(), x.max(), y.max()), shape=shape, what=what)
    (runs,) = coco_mask.frPyObjects([points.tolist()], *shape)
    return _expand(unpack(runs["counts"].decode("ascii")), shape=shape)


def unpack(text: str) -> list[int]:
    """Decode COCO's compressed run lengths.

    Each is stored in groups of five bits, lowest first, a sixth saying whether more follow, as
    the character 48 places on; from the fourth on it is the difference to the one before last,
    whose sign is the highest bit stored.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} occurs in its compressed run lengths")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:  # the last group
            value -= (code & 16) and 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its compressed run lengths end in the middle of a number")
    return counts


def _expand(counts: ArrayLike, *, shape: tuple[int, int]) -> Patch:
    """Turn run lengths, outside and inside by turns, down the columns, into pixels."""
    runs: NDArray[np.int64] = np.array(counts, np.int64)
    height, width = shape
    if runs.ndim != 1 or (runs < 0).any() or (runs > height * width).any():
        raise ValueError("its run lengths must be numbers from 0 to the size of the image")
    if runs.sum() != height * width:
        raise ValueError(f"its run lengths add up to {runs.sum()}, not {height * width} pixels")
    lengths = runs[1::2]
    starts = (runs.cumsum() - runs)[1::2]
    inside = np.arange(lengths.sum()) + np.repeat(starts - lengths.cumsum() + lengths, lengths)
    if not inside.size:
        return Patch(0, 0, np.zeros((0, 0), np.bool_))
    columns, rows = np.divmod(inside, height)
    top, left = int(rows.min()), int(columns.min())
    mask = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.bool_)
    mask[rows - top, columns - left] = True
    return Patch(top, left, mask)
