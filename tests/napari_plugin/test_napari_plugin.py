"""What napari finds of the plugin: manifest, readers of folders, sample data, the dock widget."""

from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from napari_import import ViewerModel, notification_manager, npe2
from run_folders import finetuned, image_set, pseudo_run, two_annotated

from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.napari_plugin.corrections import find_corrections
from oce2stardist.napari_plugin.layers import KEY
from oce2stardist.napari_plugin.readers import get_reader
from oce2stardist.napari_plugin.work_folder import WorkFolder
from oce2stardist.objects.write import Prediction, write_prediction


@pytest.fixture
def manifest():
    return npe2.PluginManifest.from_distribution("oce2stardist")


def opened(path):
    """Layers as a viewer has them after a folder was dropped into it."""
    viewer = ViewerModel()
    for data, options, kind in get_reader(str(path))(str(path)):
        getattr(viewer, f"add_{kind}")(data, **options)
    return viewer.layers


@pytest.fixture
def images(tmp_path):
    """A folder with the images a and b, and their true labels."""
    found, truth = image_set(tmp_path / "images", ["a", "b"])
    (tmp_path / "images").mkdir()
    for stem, image in found.images.items():
        tifffile.imwrite(tmp_path / "images" / f"{stem}.tif", image[..., 0])
    return found, truth


def note_images(run, source):
    """Let run.yaml say where the images are."""
    content = yaml.safe_load((run / "run.yaml").read_text())
    content["inputs"]["images_from"] = str(source)
    (run / "run.yaml").write_text(yaml.safe_dump(content))


# --- manifest


def test_the_installed_package_names_a_manifest_that_npe2_accepts(manifest):
    assert manifest.name == "oce2stardist"
    assert any(
        point.group == "napari.manifest" for point in distribution("oce2stardist").entry_points
    )


def test_every_command_of_the_manifest_can_be_imported(manifest):
    manifest.validate_imports()
    commands = {one.id for one in manifest.contributions.commands}
    contributions = manifest.contributions
    used = [*contributions.widgets, *contributions.readers, *contributions.sample_data]
    assert {one.command for one in used} == commands


def test_images_of_other_programs_are_left_to_their_readers(manifest):
    (reader,) = manifest.contributions.readers
    matches = [
        name
        for name in ("run.yaml", "/x/run.yaml", "/x/image.tif", "/x/labels.yaml", "a.ome.zarr")
        if any(fnmatch(name, pattern) for pattern in reader.filename_patterns)
    ]
    assert matches == ["run.yaml", "/x/run.yaml"]


def command_of(manifest, contribution):
    (found,) = (c for c in manifest.contributions.commands if c.id == contribution.command)
    return npe2.manifest.utils.import_python_name(found.python_name)


def test_the_dock_widget_is_made_with_the_viewer(manifest, qtbot):
    (contribution,) = manifest.contributions.widgets
    widget = command_of(manifest, contribution)(napari_viewer=ViewerModel())
    qtbot.addWidget(widget)
    assert widget.pseudo.button.text() == "Make pseudo labels"


# --- sample data


def test_the_sample_is_the_nuclei_that_stardist_ships(manifest):
    (sample,) = manifest.contributions.sample_data
    ((data, options, kind),) = command_of(manifest, sample)()
    assert kind == "image" and options["name"] == "nuclei" and data.shape == (512, 512)
    from stardist.data import test_image_nuclei_2d

    np.testing.assert_array_equal(data, test_image_nuclei_2d())


# --- readers


def test_a_pseudo_run_opens_as_images_with_labels_to_correct(images, tmp_path):
    found, truth = images
    run = pseudo_run(tmp_path / "run", truth)
    note_images(run, tmp_path / "images")
    layers = opened(run)
    assert [layer.name for layer in layers] == ["a", "b", "a cells", "b cells"]
    np.testing.assert_array_equal(layers["b"].data, found.images["b"][..., 0])
    np.testing.assert_array_equal(layers["b cells"].data, truth["b"])
    notes = layers["b cells"].metadata[KEY]
    assert notes["run"] == str(run) and layers["b"].metadata[KEY]["stem"] == notes["stem"] == "b"
    assert find_corrections(layers["b cells"].data, notes["baseline"]).n_cells == 0


@pytest.mark.parametrize("source", ["images", "images/*.tif"])
def test_images_are_found_beside_a_run_that_was_moved_with_them(images, tmp_path, source):
    run = pseudo_run(tmp_path / "runs" / "run", images[1])
    note_images(run, source)
    for dropped in (run, run / "run.yaml"):
        names = [layer.name for layer in opened(dropped)]
        assert names == ["a", "b", "a cells", "b cells"]


def test_labels_open_alone_where_the_images_are_gone(images, tmp_path):
    run = pseudo_run(tmp_path / "run", images[1])
    note_images(run, tmp_path / "gone")
    layers = opened(run)
    assert [layer.name for layer in layers] == ["a cells", "b cells"]
    assert f"images of {run} were not found" in notification_manager.records[-1].message


def test_a_model_folder_opens_what_it_was_trained_on(images, tmp_path):
    _, truth = images
    annotations = {"a": two_annotated(truth["a"])}
    model = tmp_path / "model"
    labels = finetuned(model, annotations, {"a": truth["a"]})
    (model / "config.json").write_text("{}")
    note_images(model, tmp_path / "images")
    layers = opened(model)
    assert [layer.name for layer in layers] == ["a", "a trained on", "a held back"]
    np.testing.assert_array_equal(layers["a trained on"].data, np.maximum(labels.pseudo["a"], 0))
    np.testing.assert_array_equal(layers["a held back"].data, np.maximum(labels.held_back["a"], 0))


def test_a_folder_of_predicted_labels_opens_over_its_images(images, tmp_path):
    found, truth = images
    file = tmp_path / "images" / "a.tif"
    made = Prediction("a", found.images["a"], truth["a"], np.ones(6, np.float32), None, file)
    write_prediction(tmp_path / "out", made, ["labels"])
    layers = opened(tmp_path / "out")
    assert [layer.name for layer in layers] == ["a", "a predicted"]
    np.testing.assert_array_equal(layers["a predicted"].data, truth["a"])


@pytest.mark.parametrize("name", ["empty", "images", "run.yaml", "none"])
def test_what_is_not_ours_is_left_to_other_readers(images, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run.yaml").write_text("x: 1")
    assert get_reader(str(tmp_path / name)) is None


def test_a_run_that_was_interrupted_is_refused(images, tmp_path):
    run = pseudo_run(tmp_path / "run", images[1])
    (run / "pseudo" / "stage.yaml").write_text("finished: false\nsettings: {}\n")
    with pytest.raises(ValueError, match=r"must be a finished run\. Got one that was interrupted"):
        opened(run)


def test_a_working_folder_opens_as_it_was_left(images, tmp_path):
    found, truth = images
    work = WorkFolder.claim(tmp_path / "work")
    work.write_images({"a": found.images["a"][..., 0]})
    pseudo_run(work.pseudo, {"a": np.where(truth["a"] == 1, 0, truth["a"])})
    drawn = np.where(truth["a"] == 1, 1, np.where(truth["a"] == 2, 0, -1)).astype(np.int32)
    work.write_annotations({"a": drawn})
    write_labels(work.predicted / "a.tif", truth["a"])
    layers = opened(work.folder)
    assert [layer.name for layer in layers] == ["a", "a cells", "a predicted"]
    cells = layers["a cells"]
    np.testing.assert_array_equal(cells.data > 0, (truth["a"] > 0) & (truth["a"] != 2))
    found_again = find_corrections(cells.data, cells.metadata[KEY]["baseline"])
    np.testing.assert_array_equal(found_again.annotations, drawn)


# --- the working folder


def test_files_of_images_that_are_no_longer_used_are_removed(tmp_path):
    work = WorkFolder(tmp_path)
    plane = np.zeros((20, 30), np.uint16)
    work.write_images({"a": plane, "b": plane})
    work.write_images({"b": plane})
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["b.tif"]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float32", "float64"])
def test_pixels_of_every_type_come_through_alike_each_time_so_that_a_run_goes_on(tmp_path, dtype):
    plane = np.arange(600).reshape(20, 30).astype(dtype)
    contents = set()
    for _ in range(2):
        WorkFolder(tmp_path).write_images({"a": plane})
        contents.add((tmp_path / "images" / "a.tif").read_bytes())
    assert len(contents) == 1
    written = tifffile.imread(tmp_path / "images" / "a.tif")
    np.testing.assert_array_equal(written.astype(float), plane.astype(float))


def test_a_file_is_no_working_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"must be a folder\. Got the file"):
        WorkFolder.claim(tmp_path / "file")


def test_labels_tell_which_image_they_belong_to(tmp_path):
    from oce2stardist.images.label_files import read_image_file

    labels = np.ones((20, 30), np.int32)
    write_labels(tmp_path / "a.tif", labels, image="fields/ä 1.tif")
    write_labels(tmp_path / "b.tif", labels)
    assert read_image_file(tmp_path / "a.tif") == Path("fields/ä 1.tif")
    assert read_image_file(tmp_path / "b.tif") is None
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
