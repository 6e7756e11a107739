"""Documents are built as QuPath exports them; pixels follow from geometry."""

import json
from pathlib import Path

import numpy as np
import pytest

from oce2stardist.annotations.geojson import is_geojson, read_features
from oce2stardist.annotations.rasterise import draw_shapes
from oce2stardist.errors import InputError

SHAPE = (30, 40)
FILE = Path("x.geojson")


def square(left, top, side):
    right, bottom = left + side, top + side
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def feature(*rings, kind="Polygon", class_name=None, object_type="annotation", **more):
    properties = {"objectType": object_type}
    if class_name:
        properties["classification"] = {"name": class_name, "color": [200, 0, 0]}
    coordinates = rings[0] if kind != "Polygon" else list(rings)
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **more}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def draw(document):
    reading = read_features(json.loads(json.dumps(document)), file=FILE)
    drawing = draw_shapes(reading.shapes, shape=SHAPE, ground=-1, file=FILE)
    return drawing, reading.notes


def test_a_polygon_holds_the_pixels_whose_centres_are_inside():
    labels = draw(collection(feature(square(2.4, 3, 5))))[0].labels
    expected = np.full(SHAPE, -1)
    expected[3:8, 2:7] = 1
    np.testing.assert_array_equal(labels, expected)


def test_the_hole_of_a_polygon_is_outside():
    labels = draw(collection(feature(square(2, 2, 10), square(5, 5, 3))))[0].labels
    assert np.count_nonzero(labels == 1) == 100 - 9 and (labels[5:8, 5:8] == -1).all()


def test_a_multipolygon_is_one_cell():
    polygons = [[square(2, 2, 4)], [square(20, 2, 6), square(22, 4, 2)]]
    labels = draw(collection(feature(polygons, kind="MultiPolygon")))[0].labels
    assert np.count_nonzero(labels == 1) == 16 + 36 - 4 and labels.max() == 1


def test_a_geometry_collection_is_one_cell():
    parts = [
        {"type": "Polygon", "coordinates": [square(2, 2, 4)]},
        {"type": "Point", "coordinates": [9, 9]},
        {"type": "Polygon", "coordinates": [square(20, 2, 4)]},
    ]
    geometry = {"type": "GeometryCollection", "geometries": parts}
    labels = draw({"type": "Feature", "geometry": geometry, "properties": {}})[0].labels
    assert np.count_nonzero(labels == 1) == 32


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


@pytest.mark.parametrize(
    "document",
    [
        {"type": "MultiPolygon", "coordinates": [[square(2, 2, 4)], [square(20, 2, 4)]]},
        {"type": "GeometryCollection", "geometries": [
            polygon(square(2, 2, 4)),
            {"type": "GeometryCollection", "geometries": [
                {"type": "MultiPolygon", "coordinates": [[square(20, 2, 4)]]}]},
        ]},
        [polygon(square(2, 2, 4)), polygon(square(20, 2, 4))],
        collection(polygon(square(2, 2, 4)), polygon(square(20, 2, 4))),
    ],
)  # fmt: skip
def test_each_polygon_of_geometries_without_a_feature_is_a_cell(document):
    assert is_geojson(document)
    labels = draw(document)[0].labels
    assert (labels[2:6, 2:6] == 1).all() and (labels[2:6, 20:24] == 2).all()
    assert np.count_nonzero(labels > 0) == 32


@pytest.mark.parametrize("kind", ["annotation", ""])
def test_the_annotation_in_which_qupath_detected_cells_is_left_out(kind):
    parent = feature(square(1, 1, 14), object_type=kind, id="p")
    cells = [feature(square(left, 3, 4), object_type="detection") for left in (2, 8)]
    drawing, _ = draw(collection(parent, *cells))
    assert len(drawing.names) == 2 and drawing.labels[14, 14] == -1
    assert "left out 1 shape (p): a region" in drawing.notes[0]
    by_hand = feature(square(20, 20, 6), class_name="Tumor", id="drawn")
    assert "drawn" in draw(collection(by_hand, *cells))[0].names.values()


def test_kinds_are_read_as_qupath_0_2_wrote_them():
    tile = feature(square(2, 2, 4), object_type=None, id="PathTileObject")
    cell = feature(square(9, 9, 4), object_type=None, id="PathDetectionObject")
    drawing, _ = draw(collection(tile, cell))
    assert drawing.names == {1: ""} and (drawing.labels[9:13, 9:13] == 1).all()


@pytest.mark.parametrize(
    ("class_name", "label"),
    [(None, 1), ("Tumor", 1), ("background", 0), ("Background", 0), ("Ignore*", -1)],
)
def test_the_class_tells_cells_background_and_unknown(class_name, label):
    around = feature(square(0, 0, 20), class_name="Background")
    one = feature(square(5, 5, 5), class_name=class_name)
    labels = draw(collection(around, one))[0].labels
    assert (labels[5:10, 5:10] == label).all() and labels[0, 0] == 0 and labels[29, 39] == -1


def test_classes_are_read_as_qupath_has_spelled_them_over_time():
    for classification in ({"name": "Ignore*"}, {"names": ["Ignore*"]}, "Ignore*"):
        one = feature(square(5, 5, 5))
        one["properties"]["classification"] = classification
        (shape,) = read_features(one, file=FILE).shapes
        assert shape.role == "unknown"


def test_a_collection_a_list_and_one_feature_read_alike():
    one = feature(square(5, 5, 5))
    for document in (collection(one), [one], one, [collection(one)]):
        assert is_geojson(document)
        assert np.count_nonzero(draw(document)[0].labels == 1) == 25


def test_cells_carry_their_name_else_their_id():
    named = feature(square(2, 2, 4), id="6f0c")
    named["properties"]["name"] = "mitotic"
    others = feature(square(9, 9, 4), id="77aa"), feature(square(20, 9, 4))
    drawing, _ = draw(collection(named, *others))
    assert drawing.names == {1: "mitotic", 2: "77aa", 3: ""}


def test_of_a_qupath_cell_the_outline_counts():
    cell = feature(square(2, 2, 8), object_type="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [square(4, 4, 3)]}
    assert np.count_nonzero(draw(collection(cell))[0].labels == 1) == 64


def test_tiles_and_features_without_geometry_are_left_out_and_named():
    drawing, notes = draw(
        collection(
            feature(square(2, 2, 20), object_type="tile", id="t"),
            {"type": "Feature", "geometry": None, "properties": None, "id": "empty"},
            feature(square(5, 5, 5)),
        )
    )
    assert np.count_nonzero(drawing.labels == 1) == 25
    assert notes == [
        "x.geojson: left out 1 shape (t): tiles and TMA cores are no cells",
        "x.geojson: left out 1 shape (empty): without a geometry nothing is marked",
    ]


def test_an_elevation_is_dropped():
    ring = [[x, y, 5.0] for x, y in square(2, 2, 4)]
    assert np.count_nonzero(draw(collection(feature(ring)))[0].labels == 1) == 16


@pytest.mark.parametrize(
    "ring", [[[1, 2], [3, 4]], [[1, 2], [3, "a"], [5, 6]], [[1], [2], [3]], [1, 2, 3], 5, None]
)
def test_a_broken_ring_is_an_error_that_names_the_feature(ring):
    document = collection(feature(square(2, 2, 4)), feature(ring))
    with pytest.raises(InputError, match=r"feature 2 of x.geojson can't be read as GeoJSON"):
        draw(document)


@pytest.mark.parametrize("document", [{"type": "FeatureCollection"}, collection(5)])
def test_a_broken_document_is_an_error_that_names_the_file(document):
    with pytest.raises(InputError, match=r"x.geojson can't be read as GeoJSON"):
        draw(document)


def test_infinite_coordinates_are_refused():
    document = collection(feature([[1, 1], [1e999, 1], [5, 5]]))  # as JSON: Infinity
    with pytest.raises(InputError, match=r"shape 1 of x.geojson must have finite coordinates"):
        draw(document)
