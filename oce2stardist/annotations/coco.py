"""COCO JSON: polygons and both forms of run-length encoding, for one or many images.

pycocotools rasterises the polygons, so that pixels are those the COCO tools themselves see
(they differ from "centre inside" along the edge). Run lengths are expanded here, in time
proportional to the object instead of the image, and without handing unchecked runs to C code.
The category says what is marked: background, ``Ignore``, or a cell. A box without a segmentation
is a box around a cell. ``iscrowd`` means several cells in one outline, which stays unknown; but
CVAT sets it wherever cells were painted by its brush. So a crowd counts as a cell if it is in one
piece and not far larger than the others.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask
from skimage.measure import label as connect

from oce2stardist.annotations.parsing import naming
from oce2stardist.annotations.rasterise import to_patch
from oce2stardist.annotations.shapes import (
    Outline,
    Patch,
    Reading,
    Shape,
    Skipped,
    count,
    reaches_over,
    role_of,
)
from oce2stardist.errors import InputError, name_some
from oce2stardist.images.find import image_stem

CROWD = 4.0  # times the median: cells that are more than one (taste)
ONE_PIECE = 0.8  # of the pixels of a cell, at least: a brush leaves crumbs (taste)
NO_OUTLINE = "without a segmentation or a box no cell is marked"


@dataclass(frozen=True)
class CocoImage:
    """One entry of ``images`` with its annotations and the names of all categories."""

    file_name: str
    shape: tuple[int | None, int | None]  # None where the file does not say
    annotations: list[dict[str, Any]]
    categories: dict[str, str]  # by id

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
        kinds = document.get("categories") or []
        categories = {_key(kind["id"]): str(kind["name"]) for kind in kinds}
        of_image = defaultdict(list)
        for annotation in document["annotations"]:
            of_image[_key(annotation["image_id"])].append(annotation)
        images = {}
        for entry in document["images"]:
            number, name = _key(entry["id"]), str(entry["file_name"])
            if number in images:
                raise ValueError(f"two images have the id {number}")
            height, width = entry.get("height"), entry.get("width")
            shape = int(height) if height else None, int(width) if width else None
            images[number] = CocoImage(name, shape, of_image[number], categories)
        homeless = sorted(of_image.keys() - images.keys())
        if homeless:
            raise ValueError(f"annotations refer to image_id {homeless[0]}, which images lacks")
    return list(images.values())


def _key(number: Any) -> str:
    """Make one of what tools write as 7, 7.0 and "7"."""
    if isinstance(number, list | dict):
        raise ValueError(f"an id must be a number or a text, not {str(number)[:40]}")
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


def read_annotated(image: CocoImage, *, shape: tuple[int, int], file: Path) -> Reading:
    """Read the annotations of one image, which is (Y, X) as it is."""
    if any(said not in (None, size) for said, size in zip(image.shape, shape, strict=True)):
        raise InputError(
            f"{image.file_name} in {file} must have the size of the image. Got {image.shape} and "
            f"{shape} (Y, X); annotate the image itself or resample it."
        )
    shapes: list[Shape] = []
    crowds: list[int] = []  # places in shapes
    skipped = Skipped()
    for number, annotation in enumerate(image.annotations, start=1):
        name = str(annotation.get("id", ""))
        what = f"annotation {name or number} of {image.file_name} in {file}"
        with naming(what, expected="a COCO annotation"):
            parts = tuple(_parts(annotation.get("segmentation"), shape=shape, what=what))
            crowd, category = annotation.get("iscrowd"), _key(annotation.get("category_id"))
            role = role_of(image.categories.get(category, ""))
            box = _box(annotation.get("bbox")) if not parts and role in ("cell", "box") else None
        if box is not None:
            shapes.append(Shape((box,), "box", name, number))
            continue
        if not parts:
            skipped.add(name or str(number), reason=NO_OUTLINE)
            continue
        if role == "cell" and crowd not in (None, 0, "0"):
            crowds.append(len(shapes))
        shapes.append(Shape(parts, role, name, number))
    notes = _judge_crowds(shapes, crowds, shape=shape, file=file) if crowds else []
    return Reading(shapes, skipped.notes(file.name) + notes)


def _judge_crowds(
    shapes: list[Shape], crowds: list[int], *, shape: tuple[int, int], file: Path
) -> list[str]:
    """Make crowds of several cells unknown, in place; tell how many are, and how many are not."""
    masks = [to_patch(drawn, shape=shape, file=file).mask for drawn in shapes]
    cells = [drawn.role == "cell" for drawn in shapes]
    usual = np.median(
        [np.count_nonzero(mask) for mask, cell in zip(masks, cells, strict=True) if cell]
    )
    several = []
    for at in crowds:
        area = np.count_nonzero(masks[at])
        pieces = np.bincount(connect(masks[at], connectivity=2).ravel())[1:]
        if area and (pieces.max() < ONE_PIECE * area or area > CROWD * usual):
            several.append(shapes[at].name or str(shapes[at]))
            shapes[at] = replace(shapes[at], role="unknown")
    n_single = len(crowds) - len(several)
    notes = []
    if n_single:
        notes.append(
            f"{file.name}: {count(n_single, 'shape')} with iscrowd 1 taken as a cell each, being "
            "of one piece and of usual size: CVAT marks what its brush painted so"
        )
    if several:
        notes.append(
            f"{file.name}: {count(len(several), 'shape')} with iscrowd 1 left unknown, being "
            f"several cells ({name_some(several)})"
        )
    return notes


def _box(bounds: Any) -> Outline | None:
    """Return the rectangle of left, top, width and height; None of a box that is missing."""
    if bounds is None or len(bounds) == 0:
        return None
    left, top, width, height = np.array(bounds, np.float64).tolist()
    right, bottom = left + width, top + height
    return Outline((np.array([(left, top), (right, top), (right, bottom), (left, bottom)]),))


def _parts(segmentation: Any, *, shape: tuple[int, int], what: str) -> Iterator[Patch]:
    """Yield the pixels of run lengths, of polygons or of one polygon that is in no list.

    Parts of no or two points, which CVAT and others leave of edited outlines, enclose nothing.
    """
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != shape:
            raise ValueError(
                f"its run lengths are of size {segmentation['size']}, the image of {list(shape)}"
            )
        counts = segmentation["counts"]
        yield _expand(unpack(counts) if isinstance(counts, str) else counts, shape=shape)
    elif isinstance(segmentation, list):
        is_flat = bool(segmentation) and not isinstance(segmentation[0], list | dict)
        for part in [segmentation] if is_flat else segmentation:
            if isinstance(part, dict):
                yield from _parts(part, shape=shape, what=what)
            elif np.size(part) not in (0, 2, 4):
                yield _fill(part, shape=shape, what=what)
    elif segmentation is not None:
        raise ValueError(f"it is neither run lengths nor polygons: {str(segmentation)[:40]!r}")


def _fill(polygon: list[float], *, shape: tuple[int, int], what: str) -> Patch:
    """Rasterise x, y, x, y, ... as pycocotools does."""
    points = np.array(polygon, np.float64)
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.ravel()  # (x, y), (x, y), ...
    if points.ndim != 1 or points.size < 6 or points.size % 2:
        raise ValueError(f"a polygon must be 3 or more pairs x, y, got {points.size} numbers")
    x, y = points[::2], points[1::2]
    is_cut = reaches_over((x.min(), y.min(), x.max(), y.max()), shape=shape, what=what)
    (runs,) = coco_mask.frPyObjects([points.tolist()], *shape)
    inside = _expand(unpack(runs["counts"].decode("ascii")), shape=shape)
    return replace(inside, is_cut=is_cut)


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
