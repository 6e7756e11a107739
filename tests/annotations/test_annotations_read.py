"""Files of every format, matched with images by name."""

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile

from oce2stardist.annotations import read_annotations
from oce2stardist.annotations.open import ENDINGS
from oce2stardist.errors import InputError
from oce2stardist.images.find import label_paths
from oce2stardist.images.pixel_size import PixelSize

SHAPE = (20, 30)


def images(folder, *stems):
    paths = {stem: folder / "images" / f"{stem}.tif" for stem in stems}
    return paths, dict.fromkeys(paths, SHAPE)


def labels():
    drawn = np.zeros(SHAPE, np.uint16)
    drawn[2:8, 2:8] = 7
    return drawn


def save_labels(path, drawn=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, labels() if drawn is None else drawn)


def save_roi(path, name="r"):
    path.parent.mkdir(parents=True, exist_ok=True)
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name
    roi.left, roi.top, roi.right, roi.bottom = 2, 2, 8, 8
    roifile.roiwrite(path, [roi] if path.suffix == ".zip" else roi)


def save_geojson(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    square = [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]
    geometry = {"type": "Polygon", "coordinates": [square]}
    path.write_text(json.dumps({"type": "Feature", "geometry": geometry, "id": "q"}))


def save_coco(path, *file_names):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = labels().ravel(order="F") > 0
    edges = np.flatnonzero(np.diff(mask.astype(int))) + 1
    runs = np.diff([0, *edges, mask.size]).tolist()
    document = {
        "images": [
            {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
            for number, name in enumerate(file_names)
        ],
        "annotations": [
            {"id": 50, "image_id": 0, "segmentation": {"size": list(SHAPE), "counts": runs}}
        ],
    }
    path.write_text(json.dumps(document))


SAVE = {
    "x.tif": save_labels,
    "x_masks.tif": save_labels,
    "x.zip": save_roi,
    "x_RoiSet.zip": save_roi,
    "x.roi": save_roi,
    "x.geojson": save_geojson,
    "x.tif.geojson": save_geojson,
    "x.json": save_geojson,
    "all.json": lambda path: save_coco(path, "x.tif"),
}


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("zero_is_background", [False, True])
def test_every_format_gives_the_same_square(tmp_path, name, zero_is_background):
    SAVE[name](tmp_path / "drawn" / name)
    found = read_annotations(
        *images(tmp_path, "x", "y"), tmp_path / "drawn", zero_is_background=zero_is_background
    )
    expected = np.full(SHAPE, 0 if zero_is_background else -1)
    expected[2:8, 2:8] = 7 if name in ("x.tif", "x_masks.tif") else 1
    assert list(found.labels) == ["x"] and found.labels["x"].dtype == np.int32
    np.testing.assert_array_equal(found.labels["x"], expected)
    assert found.files == [tmp_path / "drawn" / name] and found.notes == []
    assert list(found.names["x"]) == [expected.max()]


def test_names_are_those_the_tool_gave(tmp_path):
    save_roi(tmp_path / "drawn" / "a.zip", name="0007-0008")
    save_geojson(tmp_path / "drawn" / "b.geojson")
    save_coco(tmp_path / "drawn" / "all.json", "c.png")
    save_labels(tmp_path / "drawn" / "d.tif")
    found = read_annotations(*images(tmp_path, "a", "b", "c", "d"), tmp_path / "drawn")
    assert found.names == {"a": {1: "0007-0008"}, "b": {1: "q"}, "c": {1: "50"}, "d": {7: ""}}


def test_minus_one_stays_unknown_either_way(tmp_path):
    drawn = labels().astype(np.int32)
    drawn[10:, :] = -1
    save_labels(tmp_path / "drawn" / "x.tif", drawn)
    for zero_is_background in (False, True):
        read = read_annotations(
            *images(tmp_path, "x"), tmp_path / "drawn", zero_is_background=zero_is_background
        ).labels["x"]
        assert (read[10:] == -1).all() and read[0, 0] == zero_is_background - 1


def test_ignored_regions_stay_unknown_where_zero_is_background(tmp_path):
    save_roi(tmp_path / "drawn" / "x.roi", name="Ignore")
    read = read_annotations(*images(tmp_path, "x"), tmp_path / "drawn", zero_is_background=True)
    assert (read.labels["x"] == np.where(labels() > 0, -1, 0)).all()


def test_a_folder_of_selections_belongs_to_the_image_of_its_name(tmp_path):
    (tmp_path / "drawn").mkdir()
    save_roi(tmp_path / "drawn" / "x" / "1.roi")
    found = read_annotations(*images(tmp_path, "x", "y"), tmp_path / "drawn")
    assert found.files == [tmp_path / "drawn" / "x"] and found.labels["x"].max() == 1


def test_label_images_match_as_label_paths_finds_them(tmp_path):
    folder = tmp_path / "images"  # beside the images, x itself is no label image
    for name in ("x.tif", "y.tif", "x_masks.tif", "y_labels.tif"):
        save_labels(folder / name)
    paths, shapes = images(tmp_path, "x", "y")
    found = read_annotations(paths, shapes, folder)
    assert found.files == sorted(label_paths(paths.values(), folder).values())
    assert found.notes == []


def test_one_coco_file_serves_several_images(tmp_path):
    save_coco(tmp_path / "drawn" / "all.json", "a/x.png", "b/y.png", "z.png")
    found = read_annotations(*images(tmp_path, "x", "y"), tmp_path / "drawn")
    assert found.labels["x"].max() == 1 and (found.labels["y"] == -1).all()
    assert found.files == [tmp_path / "drawn" / "all.json"]
    assert found.notes == ["match no image: z.png in all.json"]


def test_what_matches_no_image_is_named(tmp_path):
    save_labels(tmp_path / "drawn" / "x.tif")
    save_labels(tmp_path / "drawn" / "stray.tif")
    save_roi(tmp_path / "drawn" / "other.zip")
    save_roi(tmp_path / "drawn" / "cells" / "1.roi")
    save_geojson(tmp_path / "drawn" / "q.geojson")
    found = read_annotations(*images(tmp_path, "x"), tmp_path / "drawn")
    assert found.notes == ["match no image: cells, other.zip, q.geojson, stray.tif"]


def test_json_of_another_kind_is_left_out_and_named(tmp_path):
    save_labels(tmp_path / "drawn" / "x.tif")
    (tmp_path / "drawn" / "settings.json").write_text('{"gain": 2}')
    (tmp_path / "drawn" / "README.md").write_text("not JSON")
    found = read_annotations(*images(tmp_path, "x"), tmp_path / "drawn")
    assert found.notes == ["settings.json: left out, neither GeoJSON, COCO JSON nor LabelMe's"]


@pytest.mark.parametrize("ending", [*ENDINGS, "_MASKS", "_Label"])
@pytest.mark.parametrize("suffixes", [("", ""), (".ome", ""), ("", ".tif"), (".ome", ".tif")])
def test_names_may_have_every_known_ending_and_keep_the_suffixes_of_the_image(
    tmp_path, ending, suffixes
):
    save_roi(tmp_path / "drawn" / f"x{''.join(suffixes)}{ending}.zip")
    found = read_annotations(*images(tmp_path, "x", "y"), tmp_path / "drawn")
    assert list(found.labels) == ["x"]


@pytest.mark.parametrize("name", ["x.ome.zip", "x.OME.ZIP", "x.GEOJSON", "x_cp_masks.PNG", "X.ROI"])
def test_suffixes_may_be_of_any_case(tmp_path, name):
    path = tmp_path / "drawn" / name
    path.parent.mkdir()
    if path.suffix == ".PNG":
        path.write_bytes(imagecodecs.png_encode(labels()))
    else:
        save = save_geojson if path.suffix == ".GEOJSON" else save_roi
        save(path.with_name("drawn" + path.suffix.lower()))
        path.with_name("drawn" + path.suffix.lower()).rename(path)
    found = read_annotations(*images(tmp_path, name[0], "y"), tmp_path / "drawn")
    assert list(found.labels) == [name[0]]


@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.json", '{"_via_img_metadata": {}}', r"VGG Image Annotator's \(VIA\); export COCO"),
        ("x.json", '[{"data": {}, "annotations": []}]', "Label Studio's; export COCO JSON"),
        ("x.json", '[{"data_row": {}}]', "Labelbox's; export COCO JSON"),
        ("x.json", '{"objects": [], "size": {}}', "Supervisely's; export COCO JSON"),
        ("x.json", '[{"image_id": 1, "segmentation": []}]', "COCO results, without images"),
        ("x.json", '{"images": []}', "COCO JSON without annotations"),
        ("x.json", '{"type": "Topology"}', "TopoJSON; export GeoJSON"),
        ("x.json", "{}", "neither GeoJSON, COCO JSON nor LabelMe's"),
        ("x.csv", "image,label\nx,1\n", "a table, not napari's shapes"),
        ("x.csv", "", "a table, not napari's shapes"),
        ("x_seg.npy", "", "Cellpose's _seg.npy is a pickle.* save the masks in Cellpose as PNG"),
        ("x.mat", "", "arrays in .mat are not read; save label images as TIFF"),
        ("x.svg", "<svg/>", ".svg is no format of annotations"),
        ("x", "", "no suffix is no format of annotations"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_its_reason_in_a_folder_too(
    tmp_path, as_folder, name, content, reason
):
    path = tmp_path / "drawn" / name
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match=rf"annotations.* Got {name}: {reason}") as caught:
        read_annotations(*images(tmp_path, "x"), path.parent if as_folder else path)
    assert "\n" not in str(caught.value)


def test_a_file_of_an_image_without_annotations_is_named_where_others_have_them(tmp_path):
    save_labels(tmp_path / "drawn" / "x.tif")
    for name in ("x_seg.npy", "y_seg.npy", "y.csv", "notes.csv", "LICENSE"):
        (tmp_path / "drawn" / name).write_text("")
    found = read_annotations(*images(tmp_path, "x", "y"), tmp_path / "drawn")
    assert [note[:30] for note in found.notes] == [
        "y.csv: left out, a table, not ",
        "y_seg.npy: left out, Cellpose'",
    ]
    save_roi(tmp_path / "else" / "stray.zip")
    (tmp_path / "else" / "y_seg.npy").write_text("")
    with pytest.raises(InputError, match=r"Got stray.zip for .*; y_seg.npy: left out, Cellpose"):
        read_annotations(*images(tmp_path, "x", "y"), tmp_path / "else")


def test_json_may_be_of_any_unicode(tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        save_geojson(tmp_path / "x.json")
        text = (tmp_path / "x.json").read_text()
        (tmp_path / "x.json").write_text(text, encoding=encoding)
        assert read_annotations(*images(tmp_path, "x"), tmp_path / "x.json").labels["x"].max() == 1


@pytest.mark.parametrize("kind", ["mask", "outline"])
def test_one_number_for_cells_far_apart_is_refused_or_taken_by_pieces(tmp_path, kind):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:5, 2:5] = drawn[15:18, 25:28] = drawn[2:5, 25:28] = 255
    if kind == "mask":
        save_labels(tmp_path / "x.tif", drawn)
    else:
        corners = [(2, 2), (25, 15), (25, 2)]
        rings = [[[[x, y], [x + 3, y], [x + 3, y + 3], [x, y + 3]]] for x, y in corners]
        geometry = {"type": "MultiPolygon", "coordinates": rings}
        (tmp_path / "x.json").write_text(json.dumps({"type": "Feature", "geometry": geometry}))
    (path,) = tmp_path.glob("x.*")
    with pytest.raises(InputError, match=rf"{path.name} must have one number .* in 3 pieces"):
        read_annotations(*images(tmp_path, "x"), path)
    found = read_annotations(*images(tmp_path, "x"), path, instances="components")
    assert sorted(found.names["x"]) == [1, 2, 3]
    np.testing.assert_array_equal(found.labels["x"] > 0, drawn > 0)
    assert (found.labels["x"][drawn == 0] == -1).all()


# --- micrometres


def save_outlines(path, factor, *, count=12):
    """Save squares all over an image, their coordinates times a factor."""
    places = [(x + 0.3, y + 0.3) for y in (1, 7, 13) for x in (1, 8, 15, 23)][:count]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [
            (factor * np.array([(x, y), (x + 5, y), (x + 5, y + 5), (x, y + 5)])).tolist()]}}
        for x, y in places
    ]  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.mark.parametrize(
    ("factor", "size", "warns"), [(0.325, 0.325, True), (1, 0.325, False), (0.325, None, False)]
)
def test_outlines_in_micrometres_are_noticed_where_the_pixel_size_is_known(
    tmp_path, factor, size, warns
):
    save_outlines(tmp_path / "x.geojson", factor)
    sizes = {"x": size and PixelSize(size, size)}
    found = read_annotations(*images(tmp_path, "x"), tmp_path / "x.geojson", pixel_sizes=sizes)
    told = [note for note in found.notes if "are they in micrometres?" in note]
    assert len(told) == warns
    if warns:
        assert told[0].startswith("x.geojson: all outlines, of 1.62 px, lie in the first 32% of")


def test_a_few_cells_in_a_corner_are_not_taken_for_micrometres(tmp_path):
    save_outlines(tmp_path / "x.geojson", 0.325, count=4)
    sizes = {"x": PixelSize(0.325, 0.325)}
    found = read_annotations(*images(tmp_path, "x"), tmp_path / "x.geojson", pixel_sizes=sizes)
    assert not any("micrometres" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "save"),
    [("RoiSet.zip", save_roi), ("cell.roi", save_roi), ("q.geojson", save_geojson),
     ("Labels.tif", save_labels)],
)  # fmt: skip
def test_one_file_for_one_image_need_not_have_its_name(tmp_path, name, save):
    save(tmp_path / name)
    found = read_annotations(*images(tmp_path, "x"), tmp_path / name)
    assert found.notes == [f"{name}: taken for x, the only image"]
    assert found.labels["x"].max() > 0


def test_one_coco_image_for_one_image_need_not_have_its_name(tmp_path):
    save_coco(tmp_path / "one.json", "elsewhere.tif")
    found = read_annotations(*images(tmp_path, "x"), tmp_path / "one.json")
    assert found.notes == ["elsewhere.tif in one.json: taken for x, the only image"]


def test_a_folder_of_nothing_but_selections_is_that_of_the_only_image(tmp_path):
    for name in ("0001-0002.roi", "0003-0004.roi"):
        save_roi(tmp_path / "drawn" / name)
    found = read_annotations(*images(tmp_path, "x"), tmp_path / "drawn")
    assert found.notes[0] == "drawn: taken for x, the only image"


def test_files_keep_to_the_order_of_the_images(tmp_path):
    for stem in "cab":
        save_roi(tmp_path / "drawn" / f"{stem}.roi")
    found = read_annotations(*images(tmp_path, "b", "c", "a"), tmp_path / "drawn")
    assert list(found.labels) == ["b", "c", "a"]
    assert [path.name for path in found.files] == ["a.roi", "b.roi", "c.roi"]


# --- errors


@pytest.mark.parametrize(
    ("first", "second"),
    [("x.tif", "x.zip"), ("x.geojson", "x.roi"), ("all.json", "x.tif"), ("x.tif", "x_masks.tif")],
)
def test_two_files_for_one_image_are_an_error_that_names_both(tmp_path, first, second):
    for name in (first, second):
        SAVE[name](tmp_path / "drawn" / name)
    with pytest.raises(
        InputError, match=rf"x.tif must have .* in one file. .*{first} and {second}"
    ):
        read_annotations(*images(tmp_path, "x"), tmp_path / "drawn")


def test_two_coco_images_of_one_stem_are_an_error(tmp_path):
    save_coco(tmp_path / "drawn" / "all.json", "a/x.png", "b/x.png")
    with pytest.raises(InputError, match=r"a/x.png in all.json and b/x.png in all.json"):
        read_annotations(*images(tmp_path, "x"), tmp_path / "drawn")


def test_no_match_is_an_error_that_names_files_and_images(tmp_path):
    save_roi(tmp_path / "drawn" / "a.zip")
    with pytest.raises(InputError, match=r"Got a.zip for the images x.tif, y.tif"):
        read_annotations(*images(tmp_path, "x", "y"), tmp_path / "drawn")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Got none for the images x.tif"):
        read_annotations(*images(tmp_path, "x"), tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "must exist. Got no such file or folder"),
        ("x.csv", "x.csv must be annotations .* Got x.csv: a table"),
        ("x.json", "x.json must be annotations .* Got x.json: neither"),
    ],
)
def test_a_missing_source_and_other_formats_are_errors(tmp_path, name, message):
    for written in ("x.csv", "x.json"):
        (tmp_path / written).write_text("{}")
    with pytest.raises(InputError, match=message):
        read_annotations(*images(tmp_path, "x"), tmp_path / name)


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_broken_json_is_an_error_in_one_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"x.json can't be read as JSON") as caught:
        read_annotations(*images(tmp_path, "x"), path)
    assert "\n" not in str(caught.value)


def test_too_large_a_json_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("oce2stardist.annotations.open.MAX_JSON_BYTES", 10)
    save_geojson(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"x.json must have at most 10 bytes"):
        read_annotations(*images(tmp_path, "x"), tmp_path / "x.json")


def test_labels_of_another_shape_are_an_error(tmp_path):
    save_labels(tmp_path / "drawn" / "x.tif", np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match=r"shape of their image. Got \(5, 5\) in .*x.tif"):
        read_annotations(*images(tmp_path, "x"), tmp_path / "drawn")


def test_nothing_is_written(tmp_path):
    for name in ("a.zip", "b.geojson"):
        (save_roi if name == "a.zip" else save_geojson)(tmp_path / "drawn" / name)
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(tmp_path).rglob("*"))
    read_annotations(*images(tmp_path, "a", "b"), tmp_path / "drawn")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
