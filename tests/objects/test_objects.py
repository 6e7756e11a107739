"""Outlines, selections, GeoJSON and tables against shapely, roifile, pandas and our own reader."""

import json
import weakref
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import roifile
import shapely
import tifffile
from scenes import disc, discs_scene, two_touching_discs
from scipy import ndimage as ndi
from shapely.geometry import shape as to_shape

from oce2stardist import predict_images
from oce2stardist.annotations import read_annotations
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_pixel_size
from oce2stardist.objects import measure_objects, pack_rois, to_features, to_roi, trace_objects


def tangled_labels():
    """Objects as noise makes them: holes, islands in holes, pieces, corners, single pixels."""
    noise = ndi.gaussian_filter(np.random.default_rng(0).normal(size=(50, 60)), 1.2)
    cut = np.digitize(noise, np.quantile(noise, (0.3, 0.55, 0.8))).astype(np.int32)
    cut[0, 0] = 4  # one pixel, in a corner of the image
    cut[35:44, 40:49] = 5
    cut[37:42, 42:47] = 0
    cut[39, 44] = 5  # an island
    return cut


def one_shape(polygons):
    return shapely.unary_union([shapely.Polygon(each.outer, each.holes) for each in polygons])


def square_pixels(mask):
    rows, columns = np.nonzero(mask)
    return shapely.unary_union(shapely.box(columns, rows, columns + 1, rows + 1))


SCENES = {"discs": two_touching_discs(), "tangled": tangled_labels()}


@pytest.fixture(params=SCENES)
def labels(request):
    return SCENES[request.param]


def read_back(tmp_path, name, content, labels):
    (tmp_path / name).write_bytes(content)
    found = read_annotations(
        {"x": tmp_path / "images" / "x.tif"},
        {"x": labels.shape},
        tmp_path / name,
        instances="labels",  # noise is in more pieces than cells are
    )
    assert found.notes == []
    return np.maximum(found.labels["x"], 0), found.names["x"]


def rois_of(labels):
    outlines = trace_objects(labels)
    return [to_roi(polygons, name=f"{label:04d}") for label, polygons in outlines.items()]


# --- outlines


def test_outlines_hold_the_centres_of_the_objects_pixels_and_no_others(labels):
    y, x = np.indices(labels.shape) + 0.5
    for label, polygons in trace_objects(labels).items():
        inside = shapely.contains_xy(one_shape(polygons), x, y)
        np.testing.assert_array_equal(inside, labels == label)


def test_outlines_stay_within_half_a_pixel_of_the_edges_of_the_pixels(labels):
    for label, polygons in trace_objects(labels).items():
        edges = square_pixels(labels == label).boundary
        distance = one_shape(polygons).boundary.hausdorff_distance(edges)
        assert distance <= 0.5


def test_an_outline_without_holes_has_the_area_of_its_pixels_less_one_half():
    labels = two_touching_discs()
    for label, (polygon,) in trace_objects(labels).items():
        assert shapely.Polygon(polygon.outer).area == (labels == label).sum() - 0.5


def test_a_square_has_eight_corners_half_a_pixel_from_its_own():
    labels = np.zeros((9, 9), np.int32)
    labels[2:5, 3:7] = 1
    assert trace_objects(np.full_like(labels, -1)) == {}
    (polygon,) = trace_objects(labels)[1]
    expected = {(3.5, 2), (6.5, 2), (7, 2.5), (7, 4.5), (6.5, 5), (3.5, 5), (3, 4.5), (3, 2.5)}
    assert {tuple(point) for point in polygon.outer.tolist()} == expected
    assert len(polygon.outer) == 8


def test_pieces_holes_and_islands_are_told_apart():
    pieces = trace_objects(tangled_labels())[5]
    assert [len(piece.holes) for piece in pieces] == [1, 0]
    assert [shapely.Polygon(piece.outer).area for piece in pieces] == [80.5, 0.5]


# --- what is written is what is read


def test_selections_come_back_as_the_same_pixels(labels, tmp_path):
    content = pack_rois(rois_of(labels))
    assert content == pack_rois(rois_of(labels))  # the same bytes each time
    read, names = read_back(tmp_path, "x_rois.zip", content, labels)
    np.testing.assert_array_equal(read, labels)
    assert names == {label: f"{label:04d}" for label in range(1, labels.max() + 1)}


def test_geojson_comes_back_as_the_same_pixels(labels, tmp_path):
    features = to_features("x", trace_objects(labels), {})
    content = json.dumps(features).encode()
    read, names = read_back(tmp_path, "x.geojson", content, labels)
    np.testing.assert_array_equal(read, labels)
    assert names == {label: str(label) for label in range(1, labels.max() + 1)}


# --- each format read by others


def test_roifile_reads_sub_pixel_outlines_names_and_probabilities(tmp_path):
    labels = two_touching_discs()
    rois = [
        to_roi(polygons, name=f"{label:04d}", properties={"probability": 0.25 * label})
        for label, polygons in trace_objects(labels).items()
    ]
    (tmp_path / "x.zip").write_bytes(pack_rois(rois))
    read = roifile.roiread(tmp_path / "x.zip")
    assert [roi.name for roi in read] == ["0001", "0002"]
    assert [roi.props for roi in read] == ["probability: 0.25\n", "probability: 0.5\n"]
    for label, roi in enumerate(read, start=1):
        rows, columns = np.nonzero(labels == label)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (roi.left, roi.top, roi.right - 1, roi.bottom - 1) == pytest.approx(box, abs=1)
        outline = shapely.Polygon(roi.coordinates())
        assert outline.bounds == box
        middle = outline.centroid
        assert (middle.x, middle.y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))


def test_an_object_in_pieces_is_one_composite_selection():
    rings = rois_of(tangled_labels())[4].coordinates(multi=True)
    areas = sorted(shapely.Polygon(ring).area for ring in rings)
    assert areas == [0.5, 24.5, 80.5]


def test_geojson_holds_valid_polygons_and_what_qupath_shows():
    labels = tangled_labels()
    document = to_features("x", trace_objects(labels), {4: {"Area px^2": 1.0, "x": np.nan}})
    ids = {feature["id"] for feature in document["features"]}
    assert len(ids) == labels.max()
    for label, feature in enumerate(document["features"], start=1):
        outline = to_shape(feature["geometry"])
        assert outline.is_valid
        assert outline.area == pytest.approx((labels == label).sum(), rel=0.5)
    corner = document["features"][3]["properties"]
    assert (corner["objectType"], corner["classification"]["name"]) == ("detection", "cell")
    assert corner["measurements"] == {"Area px^2": 1.0}


# --- measurements


def test_a_disc_measures_what_geometry_says():
    inside = disc((80, 90), (30, 50), 20)
    image = np.stack([np.where(inside, 7.0, 1.0), np.indices((80, 90))[1]], axis=-1)
    table = measure_objects(
        3 * inside.astype(np.int32),
        image.astype(np.float32),
        probabilities=np.array([0.1, 0.2, 0.3]),
        pixel_size=(0.5, 0.25),
    )
    (row,) = table.to_dict("records")
    assert (row["label"], row["probability"], row["area"]) == (3, 0.3, inside.sum())
    assert (row["centroid_y"], row["centroid_x"]) == pytest.approx((30, 50))
    assert row["axis_major"] == pytest.approx(40, rel=0.01)
    assert row["eccentricity"] == pytest.approx(0, abs=0.1)
    assert row["solidity"] == pytest.approx(1, abs=0.05)
    assert (row["intensity_1"], row["intensity_2"]) == pytest.approx((7, 50))
    assert row["area_um2"] == pytest.approx(inside.sum() / 8)
    assert (row["centroid_y_um"], row["centroid_x_um"]) == pytest.approx((15, 12.5))
    assert (row["axis_major_um"], row["axis_minor_um"]) == pytest.approx((20, 10), rel=0.01)


TWO_UNITS = {
    "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm",
    "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "\\u00B5m"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "micron"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2e-3, 4e-3), "metadata": {"unit": "nm"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "mm"}}, (250, 500)),
        ({"imagej": True, "resolution": (300, 300), "metadata": {"unit": "inch"}}, None),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}}, (0.25, 0.5)),
        ({"ome": True, "metadata": TWO_UNITS}, (0.25, 0.5)),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.5}}, None),
        ({"ome": True}, None),
    ],
)
def test_pixel_sizes_are_read_where_the_file_says_a_unit(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 5), np.uint8), **options)
    found = read_pixel_size(tmp_path / "x.tif")
    assert found == (expected and pytest.approx(expected))


# --- predict


@pytest.fixture
def predicted_discs(monkeypatch):
    """Make `predict_images` find the true discs of whatever scene it is given.

    Which network finds them is no matter here; test_cli.py has a trained one.
    """
    scenes = {stem: discs_scene(6, (60, 90), 7, seed=i) for i, stem in enumerate("ab")}
    # by image, not by turn: several are predicted at a time
    answers = {
        normalise_percentiles(np.asarray(image)[..., None]).tobytes(): labels
        for image, labels in scenes.values()
    }

    def find(network, image, *, scale):
        return answers[image.tobytes()], np.linspace(0.5, 1, 6, dtype=np.float32)

    network = SimpleNamespace(config=SimpleNamespace(n_channel_in=1))
    monkeypatch.setattr("oce2stardist.stardist_model.network.open_model", lambda folder: network)
    monkeypatch.setattr("oce2stardist.stardist_model.predict.predict_objects", find)
    return scenes


def test_predict_writes_the_same_objects_in_every_format(predicted_discs, tmp_path):
    for stem, (image, _) in predicted_discs.items():
        size = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}
        (tmp_path / "images").mkdir(exist_ok=True)
        path = tmp_path / "images" / f"{stem}.tif"
        tifffile.imwrite(path, image, **(size if stem == "a" else {}))
    out = tmp_path / "out"
    predict_images(
        tmp_path / "images", out, model="m", write="labels, rois,geojson,csv", overlay=True
    )
    assert {path.name for path in out.iterdir()} == {"objects.csv"} | {
        f"{stem}{end}" for stem in "ab" for end in (".tif", "_rois.zip", ".geojson", "_overlay.png")
    }
    table = pd.read_csv(out / "objects.csv")
    assert table["image"].tolist() == ["a"] * 6 + ["b"] * 6
    for stem, (image, labels) in predicted_discs.items():
        np.testing.assert_array_equal(read_labels(out / f"{stem}.tif"), labels)
        rois = roifile.roiread(out / f"{stem}_rois.zip")
        features = json.loads((out / f"{stem}.geojson").read_text())["features"]
        rows = table[table["image"] == stem]
        assert len(rois) == len(features) == len(rows) == 6
        for roi, feature, (_, row) in zip(rois, features, rows.iterrows(), strict=True):
            inside = labels == row["label"]
            middle = np.argwhere(inside).mean(axis=0)
            assert int(roi.name) == int(feature["properties"]["name"]) == row["label"]
            assert (row["centroid_y"], row["centroid_x"]) == pytest.approx(middle, abs=0.01)
            for outline in (shapely.Polygon(roi.coordinates()), to_shape(feature["geometry"])):
                centre = (outline.centroid.y - 0.5, outline.centroid.x - 0.5)
                assert centre == pytest.approx(middle, abs=0.1)
            measured = feature["properties"]["measurements"]
            assert row["probability"] == pytest.approx(0.5 + 0.1 * (row["label"] - 1))
            assert measured["Detection probability"] == pytest.approx(row["probability"])
            assert measured["Channel 1: Mean"] == pytest.approx(image[inside].mean(), rel=1e-4)
            assert ("Area µm^2" in measured) == (stem == "a")
            assert row["area"] == inside.sum()
    assert (table["area_um2"] * 4)[:6].tolist() == pytest.approx(table["area"][:6].tolist())
    assert table["area_um2"][6:].isna().all()


def test_an_ome_zarr_holds_the_image_and_its_labels_at_the_same_places(predicted_discs, tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
    from oce2stardist.images.sources import list_images

    out = tmp_path / "out"
    (tmp_path / "images").mkdir()
    for stem, (image, _) in predicted_discs.items():
        size = {"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}}
        tifffile.imwrite(tmp_path / "images" / f"{stem}.tif", image, **size)
    predict_images(tmp_path / "images", out, model="m", write="ome-zarr")
    assert {path.name for path in out.iterdir()} == {"a.ome.zarr", "b.ome.zarr"}
    image, labels = predicted_discs["a"]
    (stored,) = list_images(out / "a.ome.zarr")
    np.testing.assert_array_equal(stored.read((slice(0, 60), slice(0, 90)))[..., 0], image)
    assert stored.pixel_size == (0.25, 0.5)
    root = zarr.open_group(str(out / "a.ome.zarr"), mode="r")
    np.testing.assert_array_equal(root["labels/cells/0"][:], labels)
    assert root["labels"].attrs["ome"]["labels"] == ["cells"]


def test_a_store_of_something_else_is_not_replaced(predicted_discs, tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
    zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="w").attrs["mine"] = True
    with pytest.raises(InputError, match="must not replace a store of something else"):
        predict_images(as_set(predicted_discs), tmp_path, model="m", write="ome-zarr")
    assert dict(zarr.open_group(str(tmp_path / "a.ome.zarr")).attrs) == {"mine": True}


def test_a_large_image_has_coarser_levels_that_lie_over_the_finest(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
    from oce2stardist.images.zarr_labels import write_with_labels

    labels = np.zeros((1100, 1300), np.int32)
    labels[300:600, 700:900] = 1
    pixels = (100 * labels[..., None]).astype(np.uint8)
    write_with_labels(tmp_path / "a.ome.zarr", pixels, labels, name="cells", size=None)
    root = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    coarse = root["1"][0]
    assert coarse.shape == root["labels/cells/1"].shape == (550, 650)
    np.testing.assert_array_equal(coarse > 50, root["labels/cells/1"][:] == 1)


def as_set(scenes):
    return ImageSet.from_arrays({stem: image for stem, (image, _) in scenes.items()})


def test_predict_writes_labels_alone_unless_told_otherwise(predicted_discs, tmp_path):
    predict_images(as_set(predicted_discs), tmp_path / "out", model="m")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tif", "b.tif"}


def test_of_labels_that_are_only_counted_no_two_are_in_memory(
    monkeypatch, predicted_discs, tmp_path
):
    made, alive = [], []

    def find(*_, **__):
        alive.append(sum(labels() is not None for labels in made))
        labels = np.ones((60, 90), np.int32)
        made.append(weakref.ref(labels))
        return labels, np.ones(1, np.float32)

    monkeypatch.setattr("oce2stardist.stardist_model.predict.predict_objects", find)
    images = ImageSet.from_arrays({name: np.zeros((60, 90)) for name in "abcd"})
    counted = predict_images(images, tmp_path, model="m", write=["labels", "csv"], keep=False)
    assert max(alive) <= 1
    assert counted == {} and counted.counts == dict.fromkeys("abcd", 1)
    assert pd.read_csv(tmp_path / "objects.csv")["image"].tolist() == list("abcd")
    assert len(predict_images(images, model="m")) == 4


def test_a_table_without_objects_still_has_its_columns(monkeypatch, predicted_discs, tmp_path):
    nothing = np.zeros((60, 90), np.int32), np.zeros(0, np.float32)
    monkeypatch.setattr(
        "oce2stardist.stardist_model.predict.predict_objects", lambda *_, **__: nothing
    )
    images = ImageSet.from_arrays({"a": np.zeros((60, 90))})
    predict_images(images, tmp_path, model="m", write=["csv", "rois", "geojson"])
    table = pd.read_csv(tmp_path / "objects.csv")
    assert len(table) == 0
    assert {"image", "label", "probability", "area", "intensity_1"} <= set(table.columns)
    assert zipfile.ZipFile(tmp_path / "a_rois.zip").namelist() == []


@pytest.mark.parametrize(("write", "got"), [("labels,roi", "'roi'"), ("", "''"), ([], "nothing")])
def test_what_cannot_be_written_is_named(write, got, tmp_path):
    kinds = "labels, rois, geojson, csv, overlay, ome-zarr"
    with pytest.raises(InputError, match=rf"among {kinds}\. Got {got};"):
        predict_images("nowhere", tmp_path, model="m", write=write)
