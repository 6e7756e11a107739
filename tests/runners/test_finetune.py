"""From annotations and pseudo labels to a StarDist folder: what is chosen, judged and kept."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from listener import Listener
from small_models import FINETUNING, fields

from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.runners import finetune
from oce2stardist.runners.finetune import finetune_stardist
from oce2stardist.runs.interruption import Interrupted
from oce2stardist.stardist_model import more_cells, rounds
from oce2stardist.training_labels.draw_cells import CellDraw

no_pages = pytest.mark.usefixtures("without_pages")


def tune(output, annotations, *, settings=None, n_images=2, **options):
    """Fine-tune on the drawn fields; `settings` are those of the section stardist that differ."""
    changes = {f"stardist.{name}": value for name, value in (settings or {}).items()}
    config = FINETUNING.replace(**changes)
    images, _ = fields(n_images)
    return finetune_stardist(images, output, annotations=annotations, config=config, **options)


@pytest.fixture
def truth():
    return fields()[1]


def only(truth, *ids):
    """Annotations of a few cells; nothing else is known."""
    return np.where(np.isin(truth, ids), truth, -1).astype(np.int32)


def pseudo_run(folder, labels):
    """A run folder as far as stage three reads it."""
    for name, drawn in labels.items():
        write_labels(folder / "pseudo" / "labels" / f"{name}.tif", drawn)
    (folder / "pseudo" / "stage.yaml").write_text("finished: true\n")
    rows = [(name, i, 1.0) for name, drawn in labels.items() for i in np.unique(drawn[drawn > 0])]
    table = pd.DataFrame(rows, columns=["image", "label", "confidence"])
    table.to_csv(folder / "pseudo" / "objects.csv", index=False)
    return folder


def roles(model):
    return pd.read_csv(model / "training" / "cells.csv")["role"].value_counts().to_dict()


@no_pages
def test_few_cells_all_train_and_are_judged_by_cross_validation(tmp_path, truth):
    listener = Listener()
    result = tune(
        tmp_path / "model",
        {name: only(one, 1, 2, 3) for name, one in truth.items()},
        pseudo=pseudo_run(tmp_path / "run", truth),
        settings={"folds": "auto"},
        reporter=listener,
    )
    assert roles(result.model) == {"training": 6}
    assert result.parameters["alpha"]["value"] == 0.5
    assert "on 6 annotated cells" in result.parameters["alpha"]["reason"]
    assert result.parameters["alpha"]["reason"].endswith("): good")
    assert "3-fold cross-validation over 6 annotated cells" in result.parameters["f1"]["reason"]
    low, high = result.parameters["f1"]["interval"]
    assert 0 <= low <= result.parameters["f1"]["value"] <= high <= 1
    assert result.parameters["kept_step"]["value"] == 4
    assert any("all train; 3 more trainings" in line for line in listener.said)
    for number in (1, 2, 3):
        assert len(pd.read_csv(result.model / "folds" / str(number) / "history.csv")) == 4


@no_pages
def test_with_enough_cells_some_are_held_back(tmp_path, truth):
    result = tune(tmp_path / "model", truth, settings={"held_back": 0.5})
    assert roles(result.model) == {"training": 6, "held_back": 6}
    assert result.parameters["alpha"] == {"value": 0.0, "reason": "there are no pseudo labels"}
    assert result.parameters["held_back_score"]["reason"].endswith("6 held-back annotated cells")
    for name, held in ((path.stem, read_labels(path)) for path in
                       (result.model / "training" / "held_back").glob("*.tif")):  # fmt: skip
        trained = read_labels(result.model / "training" / "sparse" / f"{name}.tif")
        assert not ((held >= 0) & (trained >= 0)).any()


@no_pages
@pytest.mark.parametrize("with_pseudo", [False, True])
def test_a_single_annotated_cell_trains_and_the_run_says_that_nothing_was_judged(
    tmp_path, truth, with_pseudo
):
    pseudo = pseudo_run(tmp_path / "run", truth) if with_pseudo else None
    result = tune(tmp_path / "model", {"field0": only(truth["field0"], 5)}, pseudo=pseudo)
    assert np.isfinite(result.history["loss"]).all()
    assert result.parameters["f1"]["value"] is None
    assert result.parameters["f1"]["reason"] == "no annotated cell could be held back to judge"
    thresholds = yaml.safe_load((result.model / "thresholds.json").read_text())
    assert thresholds == {"prob": 0.5, "nms": 0.4}


@no_pages
def test_images_without_background_or_without_cells_train(tmp_path):
    _, truth = fields(3)
    full = np.ones((96, 96), np.int32)
    full[:48] = 2
    annotations = {
        "field0": full,  # no background
        "field1": np.zeros((96, 96), np.int32),  # nothing but background
        "field2": only(truth["field2"], 1, 2),
    }
    pseudo = pseudo_run(tmp_path / "run", truth)
    result = tune(
        tmp_path / "model", annotations, pseudo=pseudo, n_images=3, settings={"steps": 12}
    )
    history = result.history[["loss", "loss_sparse", "loss_pseudo"]]
    assert np.isfinite(history).all(axis=None)


@no_pages
def test_useless_pseudo_labels_are_left_out_and_the_run_says_why(tmp_path, truth):
    wrong = {name: np.roll(one, 20, axis=0) for name, one in truth.items()}
    result = tune(tmp_path / "model", truth, pseudo=pseudo_run(tmp_path / "run", wrong))
    assert result.parameters["alpha"]["value"] == 0
    assert "as good as useless" in result.parameters["alpha"]["reason"]
    assert (result.history["loss_pseudo"] == 0).all()


@no_pages
def test_the_cells_of_a_run_can_be_used_again(tmp_path, truth):
    first = tune(tmp_path / "a", truth, cells=CellDraw(count=5))
    listed = CellDraw(listed_in=first.model / "training" / "cells.csv")
    again = tune(tmp_path / "b", truth, cells=listed)
    assert sum(roles(first.model).values()) == 5
    for name in ("cells.csv", "objects.csv"):
        text = [(one.model / "training" / name).read_text() for one in (first, again)]
        assert text[0] == text[1]
    np.testing.assert_allclose(first.history["loss"], again.history["loss"], rtol=1e-4)


@no_pages
def test_a_round_that_scores_lower_is_dropped(tmp_path, truth, monkeypatch):
    scores = {"1": 0.6, "2": 0.7, "3": 0.5}
    monkeypatch.setattr(rounds.Outcome, "score", property(lambda one: scores[one.folder.name]))
    result = tune(tmp_path / "model", truth, settings={"rounds": 4, "alpha": 0.0})
    tried = result.parameters["rounds"]
    assert tried["value"] == 2
    assert [one["kept"] for one in tried["tried"]] == [True, False]
    kept = (result.model / "weights_best.h5").read_bytes()
    assert kept == (result.model / "rounds" / "2" / "weights_best.h5").read_bytes()


@no_pages
def test_a_model_can_be_started_from_another(tmp_path, truth):
    first = tune(tmp_path / "a", truth).model
    before = {path.name: path.read_bytes() for path in first.glob("*.*")}
    second = tune(tmp_path / "b", truth, init=first, settings={"learning_rate": 1e-12})
    from oce2stardist.stardist_model.network import open_model

    layers = [
        {layer.name: layer.get_weights() for layer in open_model(one).keras_model.layers}
        for one in (first, second.model)
    ]
    np.testing.assert_allclose(layers[0]["dist"][0], layers[1]["dist"][0], atol=1e-6)
    assert {path.name: path.read_bytes() for path in first.glob("*.*")} == before


@pytest.mark.slow
def test_short_trainings_on_parts_of_the_cells_tell_what_more_would_bring(
    tmp_path, truth, monkeypatch
):
    first = tune(tmp_path / "first", truth).model
    plain = tune(tmp_path / "plain", truth, init=first)
    ask = {"how_many_more": True}

    def stop(*_, **__):
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(more_cells, "fit_learning_curve", stop)
        with pytest.raises(Interrupted):
            tune(tmp_path / "asked", truth, init=first, settings=ask)
    parts = sorted((tmp_path / "asked" / "more_cells").glob("*/weights_last.h5"))
    before = [path.stat().st_mtime_ns for path in parts]
    asked = tune(tmp_path / "asked", truth, init=first, settings=ask)
    assert [path.stat().st_mtime_ns for path in parts] == before and len(parts) == 3
    told = asked.parameters["how_many_more"]
    assert told["trained_on"] == [2, 5, 10] and told["more"] == 12  # of 12 cells 2 are held back
    assert told["interval"][0] <= told["value"] <= told["interval"][1]
    assert told["reason"].startswith("12 more cells: F1 ")
    pd.testing.assert_series_equal(plain.history["loss"], asked.history["loss"])
    kept = {name: one for name, one in asked.parameters.items() if name != "how_many_more"}
    assert kept == plain.parameters  # the model, its thresholds and its scores depend on none of it
    again = tune(tmp_path / "again", truth, init=first, settings=ask)
    assert again.parameters["how_many_more"] == told
    page = asked.report.read_text(encoding="utf-8")
    assert "How many more cells?" in page and "12 more cells: F1" in page


@no_pages
def test_few_cells_and_a_start_from_nothing_cannot_tell_what_more_would_bring(tmp_path, truth):
    ask = {"how_many_more": True}
    result = tune(tmp_path / "few", {"field0": only(truth["field0"], 1, 2)}, settings=ask)
    assert result.parameters["how_many_more"]["value"] is None
    assert result.parameters["how_many_more"]["reason"].endswith("would bring; there are 2")
    assert not (result.model / "more_cells").exists()
    result = tune(tmp_path / "nothing", truth, settings=ask)
    assert "from nothing, as here" in result.parameters["how_many_more"]["reason"]


def test_a_number_as_alpha_needs_pseudo_labels(tmp_path, truth):
    with pytest.raises(InputError, match=r"alpha 0.3 needs pseudo labels. Got no --pseudo"):
        tune(tmp_path / "model", truth, settings={"alpha": 0.3})
    assert not (tmp_path / "model").exists()


def test_draws_that_contradict_are_refused_before_anything_is_written(tmp_path, truth):
    with pytest.raises(InputError, match="exactly one of fraction and count"):
        tune(tmp_path / "model", truth, cells=CellDraw(fraction=0.5, count=3))
    assert not (tmp_path / "model").exists()


def test_a_missing_tensorboard_is_said_before_anything_is_written(tmp_path, truth, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"tensorboard must be installed"):
        tune(tmp_path / "model", truth, tensorboard=True)
    assert not (tmp_path / "model").exists()


def test_annotations_must_fit_the_images(tmp_path, truth):
    with pytest.raises(InputError, match=r"must belong to images. Got 'fields'"):
        tune(tmp_path / "m", {"fields": truth["field0"]})
    with pytest.raises(InputError, match=r"integers of shape \(96, 96\). Got int32 of shape"):
        tune(tmp_path / "m", {"field0": truth["field0"][:50]})


def test_every_image_is_read_and_normalised_once_and_the_report_is_written(tmp_path, monkeypatch):
    images, truth = fields(3)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in images.images.items():
        tifffile.imwrite(folder / f"{name}.tif", image[..., 0])
    read, normalised = [], []

    class Noted(tifffile.TiffFile):
        @property
        def series(self):  # what whoever wants the pixels asks for, after the size of a pixel
            if Path(self.filehandle._fh.name).parent == folder:
                read.append(self.filehandle.name)
            return super().series

    def normalise(image, *, original=finetune.normalise_percentiles):
        normalised.append(image)
        return original(image)

    monkeypatch.setattr(tifffile, "TiffFile", Noted)
    monkeypatch.setattr(finetune, "normalise_percentiles", normalise)
    for _ in ("new", "finished"):
        read.clear()
        normalised.clear()
        result = finetune_stardist(folder, tmp_path / "model", annotations=truth, config=FINETUNING)
        assert sorted(read) == ["field0.tif", "field1.tif", "field2.tif"]
        assert len(normalised) == 3
        assert result.report == tmp_path / "model" / "report" / "index.html"
        assert "Prediction: " in result.report.read_text(encoding="utf-8")
        result.report.unlink()


LONG = {"steps": 120, "checks": 3}
KILLED = """
import sys
sys.path.insert(0, {tests!r})
from small_models import fields
from test_finetune import LONG, tune
from oce2stardist.stardist_model import train
train.SAVE_EVERY = 0.1
tune(sys.argv[1], fields()[1], settings=LONG)
"""


@pytest.mark.slow
@no_pages
def test_a_killed_training_goes_on_where_it_was(tmp_path, truth):
    killed, state = tmp_path / "killed", tmp_path / "killed" / "state.safetensors"
    script = KILLED.format(tests=str(Path(__file__).parents[1]))
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.getenv("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(killed)], env=os.environ | {"PYTHONPATH": path}
    )
    while not state.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "weights_last.h5").exists()
    ended, whole = (tune(folder, truth, settings=LONG) for folder in (killed, tmp_path / "whole"))
    assert ended.history["step"].tolist() == list(range(1, 121))
    assert "going on after step" in (killed / "log.txt").read_text()
    np.testing.assert_array_equal(ended.history["loss"], whole.history["loss"])


@pytest.mark.slow
def test_without_annotations_a_model_learns_from_pseudo_labels_alone(tmp_path, truth):
    run = pseudo_run(tmp_path / "run", truth)
    listener = Listener()
    result = tune(tmp_path / "model", None, pseudo=run, reporter=listener)
    assert result.parameters["alpha"] == {"value": 1.0, "reason": "nothing is annotated"}
    assert result.parameters["f1"]["value"] is None
    assert "best" not in result.parameters  # nobody can tell
    assert result.history["loss_pseudo"].gt(0).all()
    assert (result.model / "weights_best.h5").exists() and result.report.exists()
    again = tune(tmp_path / "model", None, pseudo=run)
    pd.testing.assert_frame_equal(again.history, result.history)


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "Got no --annotations and no --pseudo"), ({"cells": CellDraw(count=3)}, "to draw cells")],
    ids=["nothing", "a draw of nothing"],
)
def test_a_model_must_learn_from_something(tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        tune(tmp_path / "model", None, **options)
    assert not (tmp_path / "model").exists()
