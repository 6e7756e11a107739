"""Shapes layers as napari saves them: a CSV file with one corner a row.

Coordinates are (y, x) in pixels, integers at centres of pixels, perhaps with the number of a plane
before; a pixel belongs to a shape if its centre is inside. Paths and lines enclose nothing.
"""

import csv
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.parsing import naming, read_limited
from oce2stardist.annotations.shapes import Outline, Reading, Shape, Skipped

MAX_BYTES = 256 * 2**20
COLUMNS = ("index", "shape-type", "vertex-index", "axis-0", "axis-1")
NO_AREA = "paths, lines and shapes of two corners enclose no pixels"
STEPS = 128  # of an ellipse: within 0.01 px of an arc of 30 px radius


def is_napari(file: Path) -> bool:
    """Tell by its first line whether a CSV file holds shapes of napari."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        return set(COLUMNS) <= set(next(csv.reader([lines.readline(10_000)]), []))


def read_shapes(file: Path, *, shape: tuple[int, int]) -> Reading:
    """Read the shapes of a file; `shape`, (Y, X) of the image, is checked where they are drawn."""
    del shape
    corners: dict[float, list[tuple[float, ...]]] = {}
    kinds: dict[float, str] = {}
    with naming(str(file), expected="shapes of napari"):
        text = read_limited(file, at_most=MAX_BYTES).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text))
        axes = [name for name in rows.fieldnames or () if name.startswith("axis-")]
        for row in rows:
            number = float(row["index"])
            kinds[number] = row["shape-type"].strip().lower()
            place = (float(row["vertex-index"]), *(float(row[axis]) for axis in axes))
            corners.setdefault(number, []).append(place)
        planes = {corner[1:-2] for places in corners.values() for corner in places}
        if len(planes) > 1:
            raise ValueError(f"its shapes lie on {len(planes)} planes, the image is one")
        shapes, skipped = [], Skipped()
        for number, (index, places) in enumerate(corners.items(), start=1):
            points = np.array(sorted(places))[:, :-3:-1] + 0.5  # (corners, 2), (x, y)
            name = f"{index:g}"
            if kinds[index] == "ellipse":
                points = _bend(points)
            if len(points) < 3 or kinds[index] in ("path", "line"):
                skipped.add(name, reason=NO_AREA)
            else:
                shapes.append(Shape((Outline((points,)),), "cell", name, number))
    return Reading(shapes, skipped.notes(file.name))


def _bend(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw the ellipse that fits into a rectangle, which may be turned, of four corners."""
    if len(corners) != 4:
        raise ValueError(f"an ellipse must have 4 corners, got {len(corners)}")
    first, second = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    turns = np.linspace(0, 2 * math.pi, STEPS, endpoint=False)[:, None]
    return np.asarray(corners.mean(axis=0) + np.cos(turns) * first + np.sin(turns) * second)
