"""Shapes and Points layers as napari saves them: a CSV file with one corner, or one point, a row.

Coordinates are (y, x) in pixels, integers at centres of pixels, perhaps with the number of a plane
before; a pixel belongs to a shape if its centre is inside. Paths and lines are strokes, points are
clicks: on what the feature ``label`` of the layer says, on cells if there is none.
"""

import csv
import io
import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.parsing import naming, read_limited
from oce2stardist.annotations.shapes import Mark, Outline, Reading, Shape, Skipped
from oce2stardist.annotations.tables import role_of_label

MAX_BYTES = 256 * 2**20
COLUMNS = ("index", "shape-type", "vertex-index", "axis-0", "axis-1")
POINT_COLUMNS = ("index", "axis-0", "axis-1")
NO_AREA = "shapes of two corners enclose no pixels"
STEPS = 128  # of an ellipse: within 0.01 px of an arc of 30 px radius


def is_shapes(columns: Collection[str]) -> bool:
    """Tell by its columns whether a table holds shapes of napari."""
    return set(COLUMNS) <= set(columns)


def is_points(columns: Collection[str]) -> bool:
    """Tell by its columns whether a table holds points of napari."""
    return set(POINT_COLUMNS) <= set(columns) and not is_shapes(columns)


def read_shapes(file: Path, *, shape: tuple[int, int]) -> Reading:
    """Read the shapes of a file; `shape`, (Y, X) of the image, is checked where they are drawn."""
    del shape
    corners: dict[float, list[tuple[float, ...]]] = {}
    marks: list[Mark] = []
    kinds: dict[float, str] = {}
    with naming(str(file), expected="shapes of napari"):
        rows, axes = _read_rows(file)
        for row in rows:
            number = float(row["index"])
            kinds[number] = row["shape-type"].strip().lower()
            place = (float(row["vertex-index"]), *(float(row[axis]) for axis in axes))
            corners.setdefault(number, []).append(place)
        _check_planes(corner[1:] for places in corners.values() for corner in places)
        shapes, skipped = [], Skipped()
        for number, (index, places) in enumerate(corners.items(), start=1):
            points = np.array(sorted(places))[:, :-3:-1] + 0.5  # (corners, 2), (x, y)
            name = f"{index:g}"
            if kinds[index] == "ellipse":
                points = _bend(points)
            if kinds[index] in ("path", "line"):
                marks.append(Mark((points,), "cell", name, number))
            elif len(points) < 3:
                skipped.add(name, reason=NO_AREA)
            else:
                shapes.append(Shape((Outline((points,)),), "cell", name, number))
    return Reading(shapes, skipped.notes(file.name), marks)


def read_points(file: Path, *, shape: tuple[int, int]) -> Reading:
    """Read the points of a file; `shape` is checked where they are used."""
    del shape
    with naming(str(file), expected="points of napari"):
        rows, axes = _read_rows(file)
        placed = [(tuple(float(row[axis]) for axis in axes), row.get("label")) for row in rows]
        _check_planes(place for place, _ in placed)
        marks = [
            Mark((np.array([place[:-3:-1]]) + 0.5,), role_of_label(label or ""), "", number)
            for number, (place, label) in enumerate(placed, start=1)
        ]
    return Reading([], [], marks)


def _read_rows(file: Path) -> tuple[Iterable[dict[str, str]], list[str]]:
    """Read the rows of a table, and the names of its axes."""
    text = read_limited(file, at_most=MAX_BYTES).decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text))
    return rows, [name for name in rows.fieldnames or () if name.startswith("axis-")]


def _check_planes(places: Iterable[tuple[float, ...]]) -> None:
    """Refuse what lies on several planes; the last two numbers of a place are y and x."""
    planes = {place[:-2] for place in places}
    if len(planes) > 1:
        raise ValueError(f"its marks lie on {len(planes)} planes, the image is one")


def _bend(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw the ellipse that fits into a rectangle, which may be turned, of four corners."""
    if len(corners) != 4:
        raise ValueError(f"an ellipse must have 4 corners, got {len(corners)}")
    first, second = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    turns = np.linspace(0, 2 * math.pi, STEPS, endpoint=False)[:, None]
    return np.asarray(corners.mean(axis=0) + np.cos(turns) * first + np.sin(turns) * second)
