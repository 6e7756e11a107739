"""The dock widget, driven as a user would. A viewer without window stands for napari's."""

import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import yaml
from napari_import import ViewerModel, napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox
from run_folders import pseudo_run
from scenes import disc, discs_scene
from scipy import ndimage as ndi

from oce2stardist.config import Config
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.napari_plugin.job import Outcome
from oce2stardist.napari_plugin.layers import KEY
from oce2stardist.napari_plugin.readers import get_reader
from oce2stardist.napari_plugin.widget import StepsWidget

LONG = 550_000  # milliseconds; other tests run beside, and pytest ends a test after 600 s


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def widget(viewer, qtbot, tmp_path):
    widget = StepsWidget(viewer)
    widget.images.folder.show_folder(tmp_path / "work")
    yield widget
    widget.job.close()


def open_scene(viewer, name="cells", n=6, shape=(110, 140), **options):
    """Open an image of discs; returns layer and true labels."""
    image, truth = discs_scene(n, shape, 12, seed=4)
    return viewer.add_image((1000 * image).clip(0).astype(np.uint16), name=name, **options), truth


def add_pseudo(widget, image, pseudo):
    """Show pseudo labels as after step 2; returns their layer."""
    folder = widget._open_work().pseudo / "pseudo" / "labels"
    write_labels(folder / f"{image.name}.tif", pseudo)
    result = {"labels": str(folder), "n_objects": int(pseudo.max()), "n_images": 1}
    widget._show_pseudo_labels({image.name: image}, result | {"trusted": True, "report": "x"})
    return widget.table.cells_of(image)


SHORT = {
    "embedding": {"crop_size": 100, "copies": 2},
    "pseudo": {"choose": False, "variants": 0, "witness": "none"},
    "stardist": {"width": 4, "features": 8, "n_rays": 8, "patch_size": 64, "batch_size": 2},
}


@pytest.fixture
def short(widget, tmp_path, monkeypatch):
    """Add a config to each training with which it takes seconds."""
    start, config = widget.job.start, tmp_path / "short.yaml"
    config.write_text(yaml.safe_dump(SHORT))

    def start_short(words):
        trains = words[0] in ("pseudo", "finetune")
        start([*words, "--config", str(config)] if trains else words)

    monkeypatch.setattr(widget.job, "start", start_short)


@pytest.fixture
def commands(widget, monkeypatch):
    """Commands that would have been started."""
    given = []
    monkeypatch.setattr(widget.job, "start", given.append)
    return given


def click(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def click_and_wait(qtbot, widget, button):
    with qtbot.waitSignal(widget.job.ended, timeout=LONG) as ended:
        click(qtbot, button)
    return ended.args[0]


def said(widget):
    return widget.panel.status.text()


# --- all five steps


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_from_an_open_image_to_predicted_cells_in_five_steps(qtbot, viewer, widget, tmp_path):
    image, truth = open_scene(viewer, scale=(0.5, 0.5), translate=(10, 20))
    widget.pseudo.steps.setValue(2)
    widget.pseudo.diameter.setValue(24)
    outcome = click_and_wait(qtbot, widget, widget.pseudo.button)
    assert outcome.result is not None, outcome.message
    run = tmp_path / "work" / "pseudo"
    cells = widget.table.cells_of(image)
    np.testing.assert_array_equal(cells.data, read_labels(run / "pseudo" / "labels" / "cells.tif"))
    assert cells.scale.tolist() == [0.5, 0.5] and cells.translate.tolist() == [10, 20]

    cells.data = truth  # whatever two steps found, the user draws all cells anew
    widget.finetune.steps.setValue(2)
    outcome = click_and_wait(qtbot, widget, widget.finetune.button)
    assert outcome.result is not None, outcome.message
    model = tmp_path / "work" / "model"
    assert "annotated cells in 1 of 1 image" in widget.panel.log.toPlainText()
    assert (model / "weights_best.h5").exists() and (model / "training" / "cells.csv").exists()

    outcome = click_and_wait(qtbot, widget, widget.predict.button)
    assert outcome.result is not None, outcome.message
    predicted = viewer.layers["cells predicted"]
    folder = tmp_path / "work" / "predicted" / "labels"
    np.testing.assert_array_equal(predicted.data, read_labels(folder / "cells.tif"))
    assert predicted.scale.tolist() == [0.5, 0.5] and predicted.translate.tolist() == [10, 20]


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_stop_keeps_what_was_trained_and_the_same_button_goes_on(qtbot, viewer, widget):
    open_scene(viewer)
    widget.pseudo.steps.setValue(15)
    widget.pseudo.diameter.setValue(24)
    stop = widget.panel.stop_button
    assert not stop.isEnabled()
    at_stop = []

    def stop_in_the_middle(progress):
        if progress.done >= 3 and not at_stop:
            assert stop.isEnabled() and not widget.finetune.button.isEnabled()
            assert "of 15" in said(widget)
            at_stop.append(progress.done)
            click(qtbot, stop)

    widget.job.progressed.connect(stop_in_the_middle)
    outcome = click_and_wait(qtbot, widget, widget.pseudo.button)
    assert outcome.stopped and "the same button goes on from there" in said(widget)
    assert not stop.isEnabled() and widget.finetune.button.isEnabled()
    n_done = int(said(widget).split("step ")[1].split()[0])
    assert at_stop[0] <= n_done < 15

    outcome = click_and_wait(qtbot, widget, widget.pseudo.button)
    assert outcome.result is not None, outcome.message
    assert f"Going on after step {n_done} of 15." in widget.panel.log.toPlainText()


def test_a_closed_widget_stops_its_command_and_hears_no_more_of_napari(qtbot, viewer, tmp_path):
    widget = StepsWidget(viewer)
    widget.images.folder.show_folder(tmp_path / "work")
    image, truth = open_scene(viewer)
    cells = add_pseudo(widget, image, truth)
    click(qtbot, widget.pseudo.button)
    job, process = widget.job, widget.job._process
    assert process.waitForStarted()
    started = time.monotonic()
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    assert time.monotonic() - started < 15
    assert process.state() == process.ProcessState.NotRunning and not job.is_running
    cells.paint((5, 5), 99)
    image.name = "renamed"
    viewer.add_image(truth)


# --- what is asked of the commands


def give_both_trainings(viewer, widget, qtbot):
    image, truth = open_scene(viewer)
    click(qtbot, widget.pseudo.button)
    widget.job.ended.emit(Outcome(stopped=True, message="Stopped."))
    add_pseudo(widget, image, np.zeros_like(truth)).data = truth
    click(qtbot, widget.finetune.button)


def test_defaults_are_those_of_the_command_line(viewer, widget, commands, qtbot):
    give_both_trainings(viewer, widget, qtbot)
    pseudo, finetune = commands
    assert pseudo[pseudo.index("--steps") + 1] == str(Config().embedding.usual_steps)
    steps = Config().stardist.filled(from_nothing=False).steps
    assert finetune[finetune.index("--steps") + 1] == str(steps)
    assert not {"--diameter", "--config", "--seed", "--annotations"} & set(pseudo)
    assert not {"--alpha", "--config", "--seed"} & set(finetune)


def test_fields_become_options(viewer, widget, commands, qtbot):
    widget.pseudo.diameter.setValue(24.5)
    widget.finetune.alpha.setValue(0)
    give_both_trainings(viewer, widget, qtbot)
    pseudo, finetune = commands
    assert pseudo[pseudo.index("--diameter") + 1] == "24.5"
    assert finetune[finetune.index("--alpha") + 1] == "0.0"


def test_only_changed_cells_are_written_as_annotations(viewer, widget, commands, qtbot, tmp_path):
    image, truth = open_scene(viewer)
    cells = add_pseudo(widget, image, truth)
    cells.data[truth == 3] = 0
    new = disc(truth.shape, (8, 8), 6) & (truth == 0)
    cells.data[new] = cells.selected_label
    click(qtbot, widget.finetune.button)
    written = read_labels(tmp_path / "work" / "annotations" / "cells.tif")
    np.testing.assert_array_equal(written > 0, new)
    np.testing.assert_array_equal(written == 0, truth == 3)
    assert (written[(truth > 0) & (truth != 3) & ~new] == -1).all()
    ((*_, pseudo, run),) = [c[: c.index("--pseudo") + 2] for c in commands]
    assert (pseudo, run) == ("--pseudo", str(tmp_path / "work" / "pseudo"))


def test_an_image_without_corrections_has_no_annotations(viewer, widget, commands, qtbot, tmp_path):
    for name in ("a", "b"):
        image, truth = open_scene(viewer, name=name)
        cells = add_pseudo(widget, image, truth)
    cells.data[truth == 1] = 0
    cells.data[2:8, 2:8] = cells.selected_label
    click(qtbot, widget.finetune.button)
    written = [path.name for path in (tmp_path / "work" / "annotations").iterdir()]
    assert written == ["b.tif"] and len(commands) == 1


def test_cells_drawn_without_pseudo_labels_train_alone(viewer, widget, commands, qtbot):
    _, truth = open_scene(viewer)
    click(qtbot, widget.cells.draw_button)
    cells = viewer.layers["cells cells"]
    assert viewer.layers.selection.active is cells and cells.mode == "paint"
    cells.data = truth
    click(qtbot, widget.finetune.button)
    assert "--pseudo" not in commands[0]


def test_a_layer_chosen_in_the_table_is_used(viewer, widget, commands, qtbot, tmp_path):
    _, truth = open_scene(viewer)
    viewer.add_labels(truth, name="mine")
    box = widget.table.cellWidget(0, 1)
    assert isinstance(box, QComboBox) and box.currentText() == "(none yet)"
    box.setCurrentText("mine")
    box.activated.emit(box.currentIndex())
    click(qtbot, widget.finetune.button)
    written = read_labels(tmp_path / "work" / "annotations" / "cells.tif")
    np.testing.assert_array_equal(written > 0, truth > 0)
    assert len(commands) == 1


def test_a_run_dropped_into_napari_is_trained_on(viewer, widget, commands, qtbot, tmp_path):
    image, truth = discs_scene(6, (60, 90), 7, seed=0)
    run = pseudo_run(tmp_path / "run", {"field": truth})
    tifffile.imwrite(tmp_path / "field.tif", image)
    content = yaml.safe_load((run / "run.yaml").read_text())
    content["inputs"]["images_from"] = str(tmp_path / "field.tif")
    (run / "run.yaml").write_text(yaml.safe_dump(content))
    for data, options, kind in get_reader(str(run))(str(run)):
        getattr(viewer, f"add_{kind}")(data, **options)
    cells = widget.table.cells_of(viewer.layers["field"])
    assert cells is viewer.layers["field cells"]
    cells.data = np.where(ndi.binary_dilation(truth == 2), 2, truth)
    click(qtbot, widget.finetune.button)
    (command,) = commands
    assert command[command.index("--pseudo") + 1] == str(run)
    written = read_labels(tmp_path / "work" / "annotations" / "field.tif")
    np.testing.assert_array_equal(written > 0, ndi.binary_dilation(truth == 2))


def test_new_pseudo_labels_keep_what_was_drawn(viewer, widget, qtbot):
    image, truth = open_scene(viewer)
    cells = add_pseudo(widget, image, np.zeros_like(truth))
    cells.data[truth == 2] = 50
    again = add_pseudo(widget, image, np.where(truth == 2, 0, truth))
    assert again is cells
    np.testing.assert_array_equal(cells.data > 0, truth > 0)
    widget._count()
    assert widget.cells.count.text() == "1 annotated cell"


def test_annotated_cells_are_counted_while_painting(viewer, widget, qtbot):
    image, truth = open_scene(viewer)
    cells = add_pseudo(widget, image, truth)
    widget._count()
    assert widget.cells.count.text() == "0 annotated cells"
    cells.brush_size = 9
    cells.paint((5, 5), cells.selected_label)
    qtbot.waitUntil(lambda: widget.cells.count.text() == "1 annotated cell", timeout=5000)


def test_a_picked_cell_counts_when_it_is_called_right(viewer, widget, qtbot):
    image, truth = open_scene(viewer)
    cells = add_pseudo(widget, image, truth)
    viewer.layers.selection.active = cells
    cells.selected_label = 4
    click(qtbot, widget.cells.confirm_button)
    assert widget.cells.count.text() == "1 annotated cell"
    (found,) = widget._find_corrections({"cells": image}).values()
    np.testing.assert_array_equal(found.annotations > 0, truth == 4)


def test_an_image_keeps_its_file_name_when_its_layer_is_renamed(viewer, widget, commands, qtbot):
    image, _ = open_scene(viewer, name="field 1 [raw]")
    click(qtbot, widget.pseudo.button)
    image.name = "other"
    widget._checked_images()
    assert image.metadata[KEY]["stem"] == "field_1_raw"
    assert widget.table.item(0, 0).text() == "other"


def test_an_unchecked_image_is_left_alone(viewer, widget, commands, qtbot, tmp_path):
    open_scene(viewer, name="a")
    open_scene(viewer, name="b")
    widget.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    click(qtbot, widget.pseudo.button)
    assert [path.name for path in (tmp_path / "work" / "images").iterdir()] == ["b.tif"]


# --- bad input: one line, and nothing is started


def refused(qtbot, widget, button):
    """What the widget says; nothing may have been started."""
    click(qtbot, button)
    assert not widget.job.is_running
    assert "\n" not in said(widget) and button.isEnabled()
    return said(widget)


def test_without_an_image_layer_each_step_asks_for_one(qtbot, widget):
    steps = (widget.pseudo.button, widget.cells.draw_button, widget.finetune.button)
    for button in (*steps, widget.predict.button):
        assert refused(qtbot, widget, button).startswith(
            "At least one image layer must be checked. Got none"
        )


@pytest.mark.parametrize(
    ("data", "rgb", "expected"),
    [
        (np.zeros((20, 30, 3), np.uint8), True, "Got the RGB layer 'bad'"),
        (np.zeros((5, 20, 30), np.uint8), False, "Got shape (5, 20, 30) in the layer 'bad'"),
        (np.full((20, 30), np.nan), False, "Got NaN, infinity or float64 in the layer 'bad'"),
    ],
)
def test_what_is_no_plane_of_numbers_is_refused(qtbot, viewer, widget, data, rgb, expected):
    viewer.add_image(data, name="bad", rgb=rgb, contrast_limits=(0, 1))
    widget.table.item(0, 0).setCheckState(Qt.CheckState.Checked)
    for button in (widget.pseudo.button, widget.finetune.button, widget.predict.button):
        assert expected in refused(qtbot, widget, button)


def test_rgb_and_stacks_are_not_checked_by_themselves(viewer, widget):
    viewer.add_image(np.zeros((5, 20, 30), np.uint8), name="stack")
    viewer.add_image(np.zeros((20, 30, 3), np.uint8), name="rgb", rgb=True)
    image, _ = open_scene(viewer)
    assert widget.table.checked_images() == [image]


def test_training_without_an_annotated_cell_is_refused(qtbot, viewer, widget):
    image, truth = open_scene(viewer)
    expected = "At least one cell must be drawn, changed or confirmed. Got none"
    assert refused(qtbot, widget, widget.finetune.button).startswith(expected)
    add_pseudo(widget, image, truth)
    assert refused(qtbot, widget, widget.finetune.button).startswith(expected)


def test_labels_of_another_size_are_refused(qtbot, viewer, widget):
    image, _ = open_scene(viewer)
    small = viewer.add_labels(np.ones((20, 30), np.int32), name="small")
    widget.table.set_cells(image, small)
    assert "Got shape (20, 30) in 'small' over (110, 140) in 'cells'" in refused(
        qtbot, widget, widget.finetune.button
    )


def test_a_step_without_what_it_needs_is_refused(qtbot, viewer, widget):
    open_scene(viewer)
    assert "There must be a model. Got none" in refused(qtbot, widget, widget.predict.button)
    assert "A cell must be picked. Got none" in refused(qtbot, widget, widget.cells.confirm_button)


def test_a_working_folder_with_other_files_is_left_alone(qtbot, viewer, widget, tmp_path):
    open_scene(viewer)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    widget.images.folder.show_folder(tmp_path / "mine")
    assert "which holds something else" in refused(qtbot, widget, widget.pseudo.button)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_what_a_command_refuses_is_said_in_the_widget(qtbot, viewer, widget, tmp_path):
    open_scene(viewer)
    (tmp_path / "no model").mkdir()
    widget.predict.model.show_folder(tmp_path / "no model")
    outcome = click_and_wait(qtbot, widget, widget.predict.button)
    assert outcome.result is None and "no model" in said(widget) and "\n" not in said(widget)
    assert widget.predict.button.isEnabled()


# --- napari and the plugin


def test_importing_the_plugin_loads_neither_torch_nor_tensorflow():
    modules = ("widget", "readers", "sample_data")
    imports = ", ".join(f"oce2stardist.napari_plugin.{name}" for name in modules)
    code = f"import sys, {imports}; print([m for m in ('torch', 'tensorflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_napari_is_of_a_version_that_the_plugin_supports():
    assert tuple(map(int, napari.__version__.split(".")[:2])) >= (0, 6)
