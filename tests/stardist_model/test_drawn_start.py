"""The start that has seen drawn cells only: any number of channels, and it measures cells."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from run_folders import pseudo_run
from scenes import discs_scene
from small_models import FINETUNING
from stardist.models import StarDist2D

from oce2stardist import Config, finetune_stardist, predict_images
from oce2stardist.evaluation.scores import score_image
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.runs.interruption import Interrupted
from oce2stardist.stardist_model import predict
from oce2stardist.stardist_model.drawn_start import WEIGHTS, fits, folder_for
from oce2stardist.stardist_model.network import can_compute_in_half_precision, open_model
from oce2stardist.stardist_model.predict import measure_diameter, predict_labels
from oce2stardist.stardist_model.teacher import can_teach
from oce2stardist.stardist_model.train import StarDistTraining

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_pages")]

FEW = {
    "stardist.steps": 2, "stardist.checks": 1, "stardist.folds": 0, "stardist.batch_size": 2,
    "stardist.patch_size": 64, "stardist.teacher": False,  # which is a training more
}  # fmt: skip


@pytest.fixture(scope="module")
def discs():
    """A grey image of discs of 28 px, and their labels."""
    return discs_scene(9, (200, 220), 14, seed=1)


def image_set(image):
    return ImageSet.from_arrays({"a": image})


def test_the_weights_are_small_enough_to_travel_with_the_package():
    assert WEIGHTS.stat().st_size < 4_000_000


@pytest.mark.parametrize("radius", [8, 14, 30])
def test_discs_of_any_size_are_found_without_training(radius):
    image, truth = discs_scene(6, (16 * radius, 16 * radius), radius, seed=2)
    found = predict_images(image_set(image), model="drawn")["a"]
    scores = score_image(found, truth)
    assert scores.f1 > 0.9 and scores.seg > 0.75


@pytest.mark.parametrize("radius", [8, 14, 30])
def test_it_measures_discs_of_any_size(radius):
    image = discs_scene(6, (16 * radius, 16 * radius), radius, seed=2)[0]
    seen = normalise_percentiles(np.asarray(image, np.float32)[..., None])
    diameter = measure_diameter(open_model(folder_for([seen])), seen, 28.0)
    assert diameter == pytest.approx(2 * radius, rel=0.1)


def test_a_given_diameter_is_taken(discs):
    image, truth = discs
    found = predict_images(image_set(image), model="drawn", diameter=28.0)["a"]
    assert score_image(found, truth).f1 > 0.9


def test_three_alike_channels_are_seen_as_one(discs):
    image = normalise_percentiles(np.asarray(discs[0], np.float32)[..., None])
    grey = open_model(folder_for([image]))
    colour = open_model(folder_for([np.repeat(image, 3, axis=-1)]))
    outputs = [
        model.keras_model([np.repeat(image, channels, axis=-1)[None, :192, :208]])[0]
        for model, channels in ((grey, 1), (colour, 3))
    ]
    np.testing.assert_allclose(*outputs, atol=1e-3)


def test_stained_nuclei_are_bright_to_it(discs):
    image, truth = discs
    stain = np.array([0.65, 0.70, 0.29])  # haematoxylin takes most from red and green
    light = 255 * np.exp(-np.clip(image, 0.1, None)[..., None] * stain)
    found = predict_images(image_set(np.rint(light).astype(np.uint8)), model="drawn")["a"]
    assert score_image(found, truth).f1 > 0.9


def test_plain_stardist_opens_the_folder(discs):
    image = normalise_percentiles(np.asarray(discs[0], np.float32)[..., None])
    folder = folder_for([image])
    plain = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    scale = 1.3
    labels = plain.predict_instances(image, scale=scale)[0]
    np.testing.assert_array_equal(labels, predict_labels(open_model(folder), image, scale=scale))


def test_a_training_begins_with_it_unless_told_otherwise(discs, tmp_path):
    image, truth = discs
    nothing = Config().replace(**FEW, **{"stardist.start": "none"})
    trainings = {
        "default": (Config().replace(**FEW), None),
        "config": (nothing, None),
        "option": (nothing, "drawn"),
    }
    loss, best = {}, {}
    for name, (config, init) in trainings.items():
        result = finetune_stardist(
            image_set(image), tmp_path / name, annotations={"a": truth}, init=init, config=config
        )
        loss[name] = result.history["loss"].iloc[0]
        best[name] = result.parameters["best"]
    assert loss["default"] == loss["option"] < 0.5 * loss["config"]
    assert set(best["default"]["scores"]) == {"model", "drawn start"}
    assert set(best["config"]["scores"]) == {"model"}


@pytest.mark.parametrize(
    ("pseudo", "alpha", "whose"),
    [
        ("perfect", "auto", "run"),
        ("shifted", "auto", "drawn start"),
        ("shifted", 0.5, None),
    ],
    ids=["as good", "worse", "alpha given"],
)
def test_annotated_cells_choose_whose_labels_a_training_learns_from(
    discs, tmp_path, pseudo, alpha, whose
):
    image, truth = discs
    labels = np.roll(truth, 9, axis=1) if pseudo == "shifted" else truth
    run = pseudo_run(tmp_path / "run", {"a": labels})
    (run / "pseudo" / "stage.yaml").write_text("finished: true")
    result = finetune_stardist(
        image_set(image),
        tmp_path / "model",
        annotations={"a": truth},
        pseudo=run,
        config=Config().replace(
            **FEW | {"stardist.alpha": alpha, "stardist.teacher": alpha != "auto"}
        ),
    )
    assert result.parameters.get("labels_from", {}).get("value") == whose
    assert "teacher" not in result.parameters  # where alpha is given there is none
    learned = tifffile.imread(result.model / "training" / "pseudo" / "a.tif")
    f1 = score_image(np.maximum(learned, 0), truth).f1
    assert f1 > 0.9 if whose else f1 < 0.9  # what was shifted stays wrong around held-back cells
    assert result.parameters["alpha"]["value"] == 0.5


def test_pseudo_objects_that_the_annotated_cells_speak_against_are_not_taught(discs, tmp_path):
    image, truth = discs
    empty = np.zeros((60, 220), np.int32)
    nowhere = empty.copy()
    nowhere[15:45, 100:130] = truth.max() + 1  # where the image shows nothing
    taller = np.concatenate([image, np.full((60, 220), np.median(image), image.dtype)])
    run = pseudo_run(tmp_path / "run", {"a": np.concatenate([truth, nowhere])})
    (run / "pseudo" / "stage.yaml").write_text("finished: true")
    result = finetune_stardist(
        image_set(taller),
        tmp_path / "model",
        annotations={"a": np.concatenate([truth, np.full_like(empty, -1)])},
        pseudo=run,
        config=Config().replace(**FEW | {"stardist.teacher": True}),
    )
    learned = tifffile.imread(result.model / "training" / "pseudo" / "a.tif")
    assert (learned[200:][nowhere > 0] == -1).all()
    assert np.unique(learned[learned > 0]).size == truth.max()
    assert "on which the pseudo labels agree" in result.parameters["teacher"]["reason"]


def test_of_many_images_some_are_labelled_and_annotated_ones_first(discs, tmp_path, monkeypatch):
    image, truth = discs
    monkeypatch.setattr("oce2stardist.runners.refine._MOST_LABELLED", 2)  # else it takes minutes
    run = pseudo_run(tmp_path / "run", {"c": np.roll(truth, 9, axis=1)})
    (run / "pseudo" / "stage.yaml").write_text("finished: true")
    result = finetune_stardist(
        ImageSet.from_arrays(dict.fromkeys("abcd", image)),
        tmp_path / "model",
        annotations={"c": truth},
        pseudo=run,
        config=Config().replace(**FEW),
    )
    assert result.parameters["labels_from"]["value"] == "drawn start"
    learned = sorted((result.model / "training" / "pseudo").glob("*.tif"))
    assert [path.stem for path in learned] == ["a", "c"]


@pytest.mark.parametrize(
    ("shift", "steps", "rate"), [(0, 500, 3e-4), (9, 800, 1e-3)], ids=["knows them", "does not"]
)
def test_it_learns_in_small_steps_where_it_finds_the_cells_already(
    discs, tmp_path, monkeypatch, shift, steps, rate
):
    image, truth = discs
    trained = []
    monkeypatch.setattr(  # how long it would train is what is asked, and would take minutes
        "oce2stardist.stardist_model.train.train_stardist",
        lambda *_, steps, rate_at, **__: (
            trained.append((steps, max(map(rate_at, range(steps)))))
            or StarDistTraining(history=[{"step": 1, "loss": 0.0, "seconds": 0.0}])
        ),
    )
    with pytest.raises(Interrupted):
        finetune_stardist(
            image_set(image),
            tmp_path / "model",
            annotations={"a": np.roll(truth, shift, axis=1)},
            config=Config().replace(**{"stardist.alpha": 0.0}),
        )
    assert trained == [(steps, pytest.approx(rate))]


def test_its_first_use_leaves_the_threads_to_be_fixed(discs, tmp_path):
    """Writing its folder builds a network, after which TensorFlow takes no number of threads."""
    image, truth = discs
    for name, array in {"images": image, "masks": truth}.items():
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", array)
    (tmp_path / "few.yaml").write_text(Config().replace(**FEW).to_yaml())
    command = (
        "finetune images --annotations masks --zero background -o model --config few.yaml",
        "predict images --model drawn -o found",
    )
    for words in command:
        done = subprocess.run(
            [sys.executable, "-m", "oce2stardist", *words.split(), "--deterministic"],
            cwd=tmp_path,
            env=os.environ | {"KERAS_HOME": str(tmp_path / words.split()[0])},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_a_network_of_another_shape_begins_with_nothing():
    assert fits(Config().stardist)
    assert not fits(FINETUNING.stardist)


@pytest.mark.parametrize(
    ("changed", "can"),
    [
        ({}, True),
        ({"n_annotated": 1}, False),  # of 30 images
        ({"n_annotated": 1, "n_images": 3}, True),
        ({"n_cells": 4}, False),
        ({"alpha": 0.2}, False),  # pseudo labels of little use
        ({"alpha": 1.0}, False),  # nothing is annotated
    ],
)
def test_a_teacher_needs_cells_of_several_images_and_labels_worth_judging(changed, can):
    known = {"n_cells": 5, "n_annotated": 5, "n_images": 30, "alpha": 0.5} | changed
    settings = Config().stardist.filled(from_nothing=False)
    assert can_teach(settings, **known) is can
    assert not can_teach(settings.model_copy(update={"teacher": False}), **known)


def test_labels_in_half_precision_are_those_in_single_precision_but_for_a_few_pixels(discs):
    if not can_compute_in_half_precision():
        pytest.skip("needs instructions for bfloat16 on a processor, or a GPU")
    image, _ = discs
    seen = normalise_percentiles(np.asarray(image, np.float32)[..., None])
    folder = folder_for([seen])
    single, half = (
        predict_labels(open_model(folder, half_precision=half), seen, scale=1.0)
        for half in (False, True)
    )
    scores = score_image(half, single, iou_threshold=0.9)
    assert scores.f1 == 1


def test_half_precision_takes_large_images_in_tiles(discs, monkeypatch):
    if not can_compute_in_half_precision():
        pytest.skip("needs instructions for bfloat16 on a processor, or a GPU")
    seen = normalise_percentiles(np.asarray(discs[0], np.float32)[..., None])
    folder = folder_for([seen])
    model, single = (open_model(folder, half_precision=half) for half in (True, False))
    whole = predict_labels(model, seen, scale=1.0)
    monkeypatch.setattr(predict, "_LARGEST_TILE", max(seen.shape) // 2)
    in_tiles = predict_labels(model, seen, scale=1.0)
    assert score_image(in_tiles, whole, iou_threshold=0.9).f1 == 1
    assert model._axes_tile_overlap("YX") == single._axes_tile_overlap("YX")
