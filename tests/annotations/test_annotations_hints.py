"""Clicks, strokes, boxes and verdicts: the same place in every format, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile

from oce2stardist.annotations import read_annotations
from oce2stardist.annotations.hints import find_hints
from oce2stardist.annotations.known import digest_annotations, read_known
from oce2stardist.annotations.shapes import Mark, Reading
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet

SHAPE = (20, 30)


def read(folder, *stems, **told):
    stems = stems or ("x",)
    paths = {stem: Path(f"images/{stem}.tif") for stem in stems}
    return read_annotations(paths, dict.fromkeys(stems, SHAPE), folder, **told)


def said(hints):
    """Roles, and the pixels of each stroke."""
    return [(one.role, one.pixels.tolist()) for one in hints.strokes]


def point_roi(name, *places):
    roi = roifile.ImagejRoi.frompoints(np.array(places, np.float32), name=name)
    roi.roitype = roifile.ROI_TYPE.POINT
    return roi


def feature(kind, coordinates, role=None):
    properties = {"classification": {"name": role}} if role else {}
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def write_imagej(folder):
    rois = [point_roi("1", (7.2, 4.6), (12, 9)), point_roi("background-1", (20.5, 10.5))]
    roifile.roiwrite(folder / "x.zip", rois)


def write_geojson(folder):
    features = [
        feature("MultiPoint", [[7.2, 4.6], [12.5, 9.5]], "Tumour"),
        feature("Point", [20.5, 10.5], "Background"),
    ]
    document = {"type": "FeatureCollection", "features": features}
    (folder / "x.geojson").write_text(json.dumps(document))


def write_labelme(folder):
    places = [("cell", [7.2, 4.6]), ("cell", [12.5, 9.5]), ("background", [20.5, 10.5])]
    shapes = [{"label": label, "points": [at], "shape_type": "point"} for label, at in places]
    (folder / "x.json").write_text(json.dumps({"version": "5.5", "shapes": shapes}))


def write_napari(folder):
    # as napari 0.6 saves a Points layer with the feature label
    rows = "0.0,4.1,6.7,cell\n1.0,9.0,12.0,\n2.0,10.0,20.0,negative\n"
    (folder / "x.csv").write_text("index,axis-0,axis-1,label\n" + rows)


def write_table(folder):
    rows = "x.tif,4.1,6.7,cell\nx,9,12,1\nx,10,20,0\n"
    (folder / "clicks.csv").write_text("\ufeffimage,y,x,label\n" + rows, encoding="utf-8")


WRITERS = [write_imagej, write_geojson, write_labelme, write_napari, write_table]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_clicks_on_the_same_pixels(tmp_path, write):
    write(tmp_path)
    found = read(tmp_path, "x", "y")
    assert found.labels == {} and found.notes == [] and list(found.hints) == ["x"]
    expected = [("cell", [[4, 7]]), ("cell", [[9, 12]]), ("background", [[10, 20]])]
    assert said(found.hints["x"]) == expected
    assert found.clicked["x"].tolist() == [[4, 7], [9, 12]] and not found.has_cells


def line_roi():
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.LINE, "l"
    roi.x1, roi.y1, roi.x2, roi.y2 = 2.5, 3.5, 6.5, 3.5
    return roi


def test_lines_are_strokes_through_every_pixel_between_their_corners(tmp_path):
    corners = [[2.5, 3.5], [6.5, 3.5], [6.5, 5.5]]
    roi = roifile.ImagejRoi.frompoints(np.array(corners, np.float32))
    roi.roitype = roifile.ROI_TYPE.FREELINE
    roifile.roiwrite(tmp_path / "a.roi", roi)
    (tmp_path / "b.geojson").write_text(json.dumps(feature("LineString", corners)))
    shape = {"label": "cell", "points": corners, "shape_type": "linestrip"}
    (tmp_path / "c.json").write_text(json.dumps({"version": "5", "shapes": [shape]}))
    rows = [f"0,path,{at},{y - 0.5},{x - 0.5}" for at, (x, y) in enumerate(corners)]
    head = "index,shape-type,vertex-index,axis-0,axis-1"
    (tmp_path / "d.csv").write_text("\n".join([head, *rows]))
    found = read(tmp_path, *"abcd")
    expected = [[3, 2], [3, 3], [3, 4], [3, 5], [3, 6], [4, 6], [5, 6]]
    for stem in "abcd":
        assert said(found.hints[stem]) == [("cell", expected)]
    roifile.roiwrite(tmp_path / "e.roi", line_roi())
    assert said(read(tmp_path, "e").hints["e"]) == [("cell", expected[:5])]


def test_a_sloping_stroke_has_no_gap(tmp_path):
    line = np.array([[1.2, 1.7], [25.3, 18.9], [28.0, 2.0]])
    pixels = (
        find_hints([("t", Reading([], [], [Mark((line,), "cell", "", 1)]))], shape=SHAPE)
        .strokes[0]
        .pixels
    )
    assert np.abs(np.diff(pixels, axis=0)).max() == 1
    assert pixels[0].tolist() == [1, 1] and pixels[-1].tolist() == [2, 28]
    along = pixels[:25]  # within a pixel of the line
    assert np.abs(along[:, 0] + 0.5 - (1.7 + (along[:, 1] + 0.5 - 1.2) * 17.2 / 24.1)).max() <= 1


def test_lines_of_one_feature_or_group_are_one_stroke(tmp_path):
    lines = [[[2.5, 3.5], [4.5, 3.5]], [[8.5, 3.5], [9.5, 3.5]]]
    (tmp_path / "a.geojson").write_text(json.dumps(feature("MultiLineString", lines)))
    collection = {"type": "GeometryCollection", "geometries": [
        {"type": "LineString", "coordinates": line} for line in lines]}  # fmt: skip
    document = {"type": "Feature", "geometry": collection, "properties": {}}
    (tmp_path / "b.geojson").write_text(json.dumps(document))
    shapes = [
        {"label": "cell", "points": line, "shape_type": "line", "group_id": 4} for line in lines
    ]
    (tmp_path / "c.json").write_text(json.dumps({"version": "5", "shapes": shapes}))
    found = read(tmp_path, *"abc")
    for stem in "abc":
        assert said(found.hints[stem]) == [("cell", [[3, 2], [3, 3], [3, 4], [3, 8], [3, 9]])]


def test_boxes_are_rectangles_of_that_name_and_boxes_of_coco_without_outline(tmp_path):
    square = [[5, 2], [15, 2], [15, 8], [5, 8], [5, 2]]
    (tmp_path / "a.geojson").write_text(json.dumps(feature("Polygon", [square], "Box")))
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, "box-7"
    roi.left, roi.top, roi.right, roi.bottom = 5, 2, 15, 8
    roifile.roiwrite(tmp_path / "b.roi", roi)
    shape = {"label": "bbox", "points": [[5, 2], [15, 8]], "shape_type": "rectangle"}
    (tmp_path / "c.json").write_text(json.dumps({"version": "5", "shapes": [shape]}))
    coco = {
        "images": [{"id": 1, "file_name": "d.tif"}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [5, 2, 10, 6], "segmentation": []}],
    }
    (tmp_path / "all.json").write_text(json.dumps(coco))
    shape["shape_type"] = "line"  # from corner to corner
    (tmp_path / "e.json").write_text(json.dumps({"version": "5", "shapes": [shape]}))
    found = read(tmp_path, *"abcde")
    assert found.labels == {}
    for stem in "abcde":
        (box,) = found.hints[stem].boxes
        assert box.window == (slice(2, 8), slice(5, 15)) and not found.hints[stem].strokes


def test_verdicts_are_by_number_in_a_table_of_all_images(tmp_path):
    (tmp_path / "v.csv").write_text(
        "image,id,verdict\nx.tif,3,right\nx,7, Wrong \ny,1,background\nx,9,\n"
    )
    found = read(tmp_path, "x", "y")
    words = {stem: {i: one.word for i, one in found.hints[stem].verdicts.items()} for stem in "xy"}
    assert words == {"x": {3: "right", 7: "wrong"}, "y": {1: "background"}}
    assert found.hints["x"].verdicts[3].centroid is None


def test_a_column_added_to_objects_csv_is_verdicts_with_places(tmp_path):
    head = "image,label,area,diameter,y,x,confidence,verdict\n"
    (tmp_path / "v.csv").write_text(head + "x,3,50,8,10.5,7.25,0.9,right\nx,4,50,8,1,1,0.9,\n")
    (verdict,) = read(tmp_path, "x").hints["x"].verdicts.values()
    assert verdict.centroid == (10.5, 7.25)
    (tmp_path / "v.csv").write_text(head.replace(",verdict", "") + "x,3,50,8,10.5,7.25,0.9\n")
    with pytest.raises(InputError, match=r"v.csv: a table, not napari's shapes or points"):
        read(tmp_path, "x", "y")


def test_outlines_are_in_one_file_and_hints_in_any_number_beside_it(tmp_path):
    for write in WRITERS:
        write(tmp_path)
    (tmp_path / "v.csv").write_text("image,id,verdict\nx,3,right\n")
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:8, 2:8] = 7
    tifffile.imwrite(tmp_path / "x.tif", labels)
    found = read(tmp_path, "x", zero_is_background=True)
    # said five times, counts once
    assert [one.role for one in found.hints["x"].strokes] == ["cell", "cell", "background"]
    assert len(found.hints["x"].verdicts) == 1
    assert len(found.files) == 7 and found.has_cells
    np.testing.assert_array_equal(found.labels["x"], np.where(labels, 7, -1))
    assert found.notes == ["x: 0 is unknown there, as hints are for what was not outlined"]


def test_changed_clicks_are_changed_annotations(tmp_path):
    images = ImageSet({"x": tmp_path / "x.tif"}, {"x": np.zeros((*SHAPE, 1), np.float32)})
    digests = set()
    for place in ("4,7", "4,8"):
        (tmp_path / "clicks.csv").write_text(f"image,y,x\nx,{place}\n")
        digests.add(digest_annotations(read_known(images, tmp_path / "clicks.csv")))
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "y,x\n4,40\n", "mark 1 of x.csv must lie inside its image of 30 x 20 pixels"),
        ("x.csv", "y,x\n4,nan\n", "x.csv: x must be a finite number. Got 'nan'"),
        ("x.csv", "y,x\nlow,4\n", "x.csv: y must be a finite number. Got 'low'"),
        ("x.csv", "index,axis-0,axis-1\n0,nan,3\n", "mark 1 of x.csv must have finite coordinates"),
        ("x.csv", "index,axis-0,axis-1\n0,a,3\n", "x.csv can't be read as points of napari"),
        ("x.csv", "index,axis-0,axis-1,axis-2\n0,1,3,4\n1,2,3,4\n", "lie on 2 planes, the image"),
        ("v.csv", "image,id,verdict\nx,1,good\n", "right, wrong, background. Got 'good'"),
        ("v.csv", "image,id,verdict\nx,0,right\n", "its number in the label image. Got 0; count"),
        ("v.csv", "image,id,verdict\nx,1.5,right\n", "its number in the label image. Got 1.5;"),
        ("v.csv", "image,id,verdict\nx,one,right\n", "v.csv: id must be a finite number. Got 'o"),
        ("v.csv", "image,id,verdict\nx,1,right\nx,1,wrong\n", "Got right and wrong for 1; remove"),
        ("v.csv", "image,id,verdict\nx,1,right\nx.tif,1,wrong\n", "Got right and, in x.tif in v"),
        ("x.geojson", '{"type": "Point", "coordinates": [3]}', "it must have 1 points"),
        ("x.geojson", '{"type": "Point", "coordinates": [3, 1e999]}', "must have finite coord"),
        ("x.geojson", '{"type": "LineString", "coordinates": [[3, 1]]}', "it must have 2 points"),
        ("x.json", '{"version": "5", "shapes": [{"shape_type": "point", "points": ["a"]}]}',
         "shape 1 of .*x.json can't be read as a shape of LabelMe"),
        ("x.geojson", json.dumps(feature("Polygon", [[[3, 3], [3.2, 3], [3.2, 3.2]]], "box")),
         "must be a box of at least one pixel. Got x, y from 3, 3 to 3.2, 3.2"),
    ],
)  # fmt: skip
def test_a_hint_that_can_not_be_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, "x", "y")
    assert "\n" not in str(caught.value)


def test_a_click_that_rounding_carries_over_the_border_is_on_it(tmp_path):
    (tmp_path / "x.csv").write_text("y,x\n19.9,30.2\n-0.7,-0.6\n")
    assert said(read(tmp_path, "x", "y").hints["x"]) == [("cell", [[19, 29]]), ("cell", [[0, 0]])]


def test_marks_without_number_and_strokes_without_end_are_refused(monkeypatch):
    click = Mark((np.array([[3.0, 3.0]]),), "cell", "", 1)
    there_and_back = Mark((np.array([[0.0, 3.0], [29.0, 3.0]] * 20),), "cell", "", 1)
    monkeypatch.setattr("oce2stardist.annotations.hints.MAX_SHAPES", 2)
    monkeypatch.setattr("oce2stardist.annotations.hints.MAX_LENGTH", 1000)
    with pytest.raises(InputError, match=r"t must hold at most 2 marks an image. Got 3"):
        find_hints([("t", Reading([], [], [click] * 3))], shape=SHAPE)
    with pytest.raises(InputError, match=r"must be at most 500 pixels long. Got 1131"):
        find_hints([("t", Reading([], [], [there_and_back]))], shape=SHAPE)


def test_ignored_marks_are_unknown(tmp_path):
    (tmp_path / "x.csv").write_text("y,x,label\n4,7,ignore\n5,9,Mitosis*\n")
    assert {one.role for one in read(tmp_path, "x", "y").hints["x"].strokes} == {"unknown"}
