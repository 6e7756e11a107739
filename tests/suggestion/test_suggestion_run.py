"""`suggest` on run folders: which files it writes, where it points, what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import discs_scene
from small_models import write_model

from oce2stardist import suggest_regions
from oce2stardist.errors import InputError
from oce2stardist.images.label_files import write_labels
from oce2stardist.suggestion.evidence import SuggestionRun
from oce2stardist.suggestion.run import to_geojson


def write_run(folder, *, annotated=()):
    """A folder as `pseudo` leaves it: two images, their labels, doubt about one, and run.yaml."""
    rows = []
    for index, stem in enumerate(("left", "right")):
        image, labels = discs_scene(12, (128, 160), 10, seed=index)
        tifffile.imwrite(folder.parent / "images" / f"{stem}.tif", image)
        write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", labels)
        rows += [(stem, label, 0.1 if stem == "left" else 1.0) for label in range(1, 13)]
        if stem in annotated:
            write_labels(folder / "training" / "sparse" / f"{stem}.tif", labels)
    pd.DataFrame(rows, columns=["image", "label", "confidence"]).to_csv(
        folder / "pseudo" / "objects.csv", index=False
    )
    (folder / "pseudo" / "stage.yaml").write_text("{finished: true, settings: {}}")
    recorded = {"inputs": {"images_from": str(folder.parent / "images")}}
    (folder / "run.yaml").write_text(yaml.safe_dump(recorded))
    return folder


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path


@pytest.fixture
def run(lab):
    return write_run(lab / "run")


def test_the_least_sure_regions_come_first_and_typical_ones_between(run):
    table = suggest_regions(run, count=4, window=50)
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["image"].iloc[0] == "left"
    assert "unsure" in table["reason"].iloc[0]
    assert table["reason"].iloc[1].startswith("typical of ")
    assert table["n_model"].eq(0).all() and table["n_pseudo"].gt(0).all()
    left = table[table["image"] == "left"]
    np.testing.assert_allclose(left["mean_confidence"], 0.1)


def test_csv_geojson_and_picture_tell_the_same(lab, run):
    table = suggest_regions(run, lab / "out", count=3, window=40)
    pd.testing.assert_frame_equal(pd.read_csv(lab / "out" / "suggestions.csv"), table)
    assert (lab / "out" / "suggestions.png").read_bytes().startswith(b"\x89PNG")
    corners = {}
    for path in (lab / "out" / "geojson").glob("*.geojson"):
        for feature in json.loads(path.read_text())["features"]:
            ring = np.array(feature["geometry"]["coordinates"][0])
            assert (ring[0] == ring[-1]).all() and len(ring) == 5
            assert feature["properties"]["classification"]["name"] == "Suggestion*"
            corners[feature["properties"]["name"]] = (path.stem, *ring.min(0), *ring.max(0))
    assert corners == {
        f"Suggestion {row.rank}": (row.image, row.x0, row.y0, row.x1, row.y1)
        for row in table.itertuples()
    }


def test_rectangles_are_written_x_first():
    row = {"rank": 1, "y0": 1, "x0": 20, "y1": 11, "x1": 30, "reason": "why"}
    (feature,) = to_geojson(pd.DataFrame([row]))["features"]
    assert feature["geometry"]["coordinates"] == [[[20, 1], [30, 1], [30, 11], [20, 11], [20, 1]]]


def test_annotated_images_are_not_suggested(lab):
    run = write_run(lab / "run", annotated=["left"])
    table = suggest_regions(run, count=4, window=50)
    assert set(table["image"]) == {"right"}


def test_earlier_suggestions_are_replaced(run):
    suggest_regions(run, count=4, window=50)
    assert (run / "suggestions" / "geojson" / "left.geojson").exists()
    write_run(run, annotated=["left", "right"])
    assert suggest_regions(run, count=4, window=50).empty
    assert not list((run / "suggestions").rglob("*.geojson"))
    assert not (run / "suggestions" / "suggestions.png").exists()
    assert len(pd.read_csv(run / "suggestions" / "suggestions.csv")) == 0


def test_the_command_lists_regions_and_names_the_picture(run):
    result = CliRunner().invoke(main, ["suggest", str(run), "--count", "2", "--window", "50", "-q"])
    assert result.exit_code == 0, result.output
    *regions, last = result.output.splitlines()
    assert [line.split()[0] for line in regions] == ["1", "2"]
    assert last == f"Look at {run / 'suggestions' / 'suggestions.png'}"


def refused(folder, *arguments):
    """Exit code 2 and one line, which is returned."""
    result = CliRunner().invoke(main, ["suggest", str(folder), "-q", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    return line


def test_a_folder_of_another_kind_is_one_line(lab):
    assert "must be a model folder of `oce2stardist finetune`" in refused(lab)


def test_a_run_that_does_not_name_its_images_is_one_line(lab, run):
    (run / "run.yaml").write_text("inputs: {images: 2}")
    assert "must say where the images are" in refused(run)
    table = suggest_regions(run, images=lab / "images", count=1)
    assert len(table) == 1


def test_images_that_have_moved_are_one_line(lab, run):
    (lab / "images").rename(lab / "moved")
    line = refused(run)
    assert str(lab / "images") in line and "pass --images" in line


def test_images_of_other_names_are_one_line(lab, run):
    (lab / "other").mkdir()
    tifffile.imwrite(lab / "other" / "new.tif", np.zeros((64, 64), np.uint8))
    assert "such as new.tif" in refused(run, "--images", lab / "other")


def test_labels_of_another_shape_are_one_line(lab, run):
    tifffile.imwrite(lab / "images" / "left.tif", np.zeros((64, 64), np.uint8))
    assert "(128, 160)" in refused(run)


def test_asking_for_no_region_is_refused(lab):
    with pytest.raises(InputError, match=r"count must be at least 1\. Got 0"):
        suggest_regions(lab, count=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network in a model folder, with labels of which one image lacks half."""
    lab = tmp_path_factory.mktemp("lab")
    folder = write_model(lab / "model", prob=0.9, nms=0.4)
    (lab / "images").mkdir()
    for index in range(2):
        image, labels = discs_scene(12, (128, 160), 10, seed=index)
        tifffile.imwrite(lab / "images" / f"field{index}.tif", image)
        write_labels(folder / "training" / "pseudo" / f"field{index}.tif", labels)
    known = np.full((128, 160), -1, np.int32)
    known[:, :80] = labels[:, :80]
    write_labels(folder / "training" / "sparse" / "field1.tif", known)
    return folder


@pytest.mark.slow
def test_pseudo_objects_that_the_model_misses_are_suggested_unless_annotated(model):
    # The untrained network's probability is about a half everywhere: it finds nothing.
    images = model.parent / "images"
    table = suggest_regions(model, model.parent / "out", images=images, count=6, window=64)
    assert table["n_model"].eq(0).all()
    np.testing.assert_array_equal(table["n_disagree"], table["n_pseudo"])
    assert table["reason"].str.contains("only in the pseudo labels").all()
    right = table[table["image"] == "field1"]
    assert len(right) and (right["x0"] + right["x1"] >= 2 * 80 - 2).all()


@pytest.mark.slow
def test_a_lower_threshold_adds_objects_and_leaves_the_others(model):
    from oce2stardist.images.normalise import normalise_percentiles
    from oce2stardist.images.read import read_image
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import predict_labels, predict_objects

    network = open_model(model)
    image = normalise_percentiles(read_image(model.parent / "images" / "field0.tif"))
    probability, _ = network.predict(image, show_tile_progress=False)
    network.thresholds = {"prob": float(np.quantile(probability, 0.98)), "nms": 0.4}
    plain = predict_labels(network, image)
    labels, probabilities = predict_objects(network, image)
    np.testing.assert_array_equal(labels, plain)
    assert len(probabilities) >= labels.max() > 0
    lower = float(np.quantile(probability, 0.9))
    more, of_more = predict_objects(network, image, prob_thresh=lower)
    is_sure = np.append(False, of_more >= network.thresholds.prob)
    np.testing.assert_array_equal(is_sure[more], plain > 0)
    assert len(of_more) > len(probabilities)


def test_axes_are_those_that_the_run_was_told(run):
    (run / "oce").mkdir()
    (run / "oce" / "stage.yaml").write_text("{finished: true, settings: {axes: XY}}")
    source = SuggestionRun(run)
    with pytest.raises(InputError, match=r"Got \(128, 160\).*\(160, 128\)"):
        source.view("left")
