"""GeoJSON: a FeatureCollection, a list of features, one feature, or geometries alone.

Coordinates are (x, y) in pixels of the full-resolution image, integers at corners of pixels; a
pixel belongs to a shape if its centre is inside. The classification says what is marked: a
class called background known background, ``Ignore*`` what stays unknown, any other, or none, a
cell. A geometry of several polygons is one cell where it belongs to a feature; alone it has no
objects to tell apart, and each polygon is a cell. Every point is a click, also each of several in
one feature; the lines of a feature are one stroke. QuPath exports with its cells the annotation
in which it looked for them: one without class may be such a region. Of a QuPath cell the outline
counts, not that of its nucleus. Tiles, TMA cores and features without a geometry are left out.

Label images that QuPath itself exports lie half a pixel further right and down: it fills with
Java's ``Graphics2D`` at its default hints. Of 300 random polygons filled so by Java 17, 1.1 % of
the pixels differ from the centre rule if the outline is moved by that half pixel, 24 % if not
(small, many-pointed polygons). Here the outline stays where it was drawn.
"""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.parsing import naming
from oce2stardist.annotations.shapes import Mark, Outline, Reading, Shape, Skipped, role_of

NO_GEOMETRY = "without a geometry nothing is marked"
NO_CELL = "tiles and TMA cores are no cells"
NOT_CELLS = ("tile", "tma_core", "root")
DETECTED = ("detection", "cell")
AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")
GEOMETRIES = (*AREAS, "Point", "MultiPoint", "LineString", "MultiLineString")

Points = NDArray[np.float64]  # (n, 2), (x, y)


def is_geojson(document: Any) -> bool:
    """Tell whether parsed JSON looks like GeoJSON, as against COCO or something else."""
    features = document if isinstance(document, list) else [document]
    kinds = [feature.get("type") if isinstance(feature, dict) else None for feature in features]
    return all(kind in ("Feature", "FeatureCollection", *GEOMETRIES) for kind in kinds)


def read_features(document: Any, *, file: Path) -> Reading:
    """Read the shapes of a parsed GeoJSON document."""
    shapes: list[Shape] = []
    marks: list[Mark] = []
    skipped = Skipped()
    with naming(str(file), expected="GeoJSON"):
        features = list(_features(document))
        is_detected = any(_properties(feature)[2] in DETECTED for feature in features)
    for number, feature in enumerate(features, start=1):
        with naming(f"feature {number} of {file}", expected="GeoJSON"):
            name, role_name, kind = _properties(feature)
            parts = _parts(feature.get("geometry") or {})
            clicks, strokes = _lines(feature.get("geometry") or {})
        if kind in NOT_CELLS:
            skipped.add(name or f"feature {number}", reason=NO_CELL)
            continue
        role = role_of(role_name)
        drawn: list[tuple[Points, ...]] = [(line,) for line in clicks]
        drawn += [tuple(strokes)] if strokes else []
        marks += [Mark(lines, role, name, number) for lines in drawn]
        if parts:
            may_be_region = is_detected and kind in ("annotation", "") and not role_name
            shapes.append(Shape(parts, role, name, number, may_be_region))
        elif not drawn:
            skipped.add(name or f"feature {number}", reason=NO_GEOMETRY)
    return Reading(shapes, skipped.notes(file.name), marks)


def _features(document: Any) -> Iterator[Any]:
    """Yield the features of collections and of lists; of geometries alone, each polygon as one."""
    for part in document if isinstance(document, list) else [document]:
        if part.get("type") == "FeatureCollection":
            yield from _features(list(part["features"]))
        elif part.get("type") in GEOMETRIES:
            yield from ({"geometry": polygon} for polygon in _polygons(part))
        else:
            yield part


def _polygons(geometry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Part what holds several geometries."""
    if geometry["type"] == "GeometryCollection":
        for one in geometry["geometries"]:
            yield from _polygons(one)
    elif geometry["type"] == "MultiPolygon":
        for rings in geometry["coordinates"]:
            yield {"type": "Polygon", "coordinates": rings}
    else:
        yield geometry


def _properties(feature: dict[str, Any]) -> tuple[str, str, str]:
    """Return the name or id, the class and QuPath's type of object, "" for what is missing."""
    properties = feature.get("properties") or {}
    named = properties.get("classification") or {}
    if isinstance(named, str):
        named = {"name": named}
    class_name = named.get("name") or ": ".join(named.get("names") or [])
    kind = properties.get("objectType") or properties.get("object_type") or ""
    name = properties.get("name") or feature.get("id") or ""
    # QuPath 0.2 has the kind in place of an id: PathDetectionObject.
    old = re.fullmatch(r"Path(\w+)Object", str(name))
    if old:
        kind, name = kind or old[1], properties.get("name") or ""
    return str(name), str(class_name), str(kind).lower()


def _parts(geometry: dict[str, Any]) -> tuple[Outline, ...]:
    """Return one outline per polygon, its holes included; none of points and lines."""
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        return tuple(chain.from_iterable(map(_parts, geometry["geometries"])))
    if kind not in AREAS:
        return ()
    polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return tuple(Outline(tuple(map(_ring, rings))) for rings in polygons if rings)


def _lines(geometry: dict[str, Any]) -> tuple[list[Points], list[Points]]:
    """Return the points of a geometry, one by one, and its lines."""
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        found = [_lines(one) for one in geometry["geometries"]]
        return [one for clicks, _ in found for one in clicks], [
            one for _, strokes in found for one in strokes
        ]
    if kind not in GEOMETRIES or kind in AREAS:
        return [], []
    placed = geometry["coordinates"]
    match kind:
        case "Point":
            return [_points([placed], at_least=1)], []
        case "MultiPoint":
            return [_points([one], at_least=1) for one in placed], []
        case "LineString":
            return [], [_points(placed, at_least=2)]
    return [], [_points(line, at_least=2) for line in placed]


def _ring(positions: list[list[float]]) -> Points:
    return _points(positions, at_least=3)


def _points(positions: list[list[float]], *, at_least: int) -> Points:
    points = np.array([position[:2] for position in positions], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < at_least:
        raise ValueError(f"it must have {at_least} points (x, y) or more, got {len(points)}")
    return points
