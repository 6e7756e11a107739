"""The pages of a StarDist model and of the demo."""

import imagecodecs
import numpy as np
import pytest
import yaml
from pages import Page, assert_self_contained
from run_folders import finetuned, image_set, pseudo_run, two_annotated

from oce2stardist.errors import InputError
from oce2stardist.reports import write_demo_report, write_finetune_report
from oce2stardist.reports.verdicts import demo_verdict, finetune_verdict


def test_finetune_report_shows_annotated_images_first(tmp_path):
    images, labels = image_set(tmp_path, [f"{i:02d}" for i in range(8)])
    annotations = {stem: two_annotated(labels[stem]) for stem in ("03", "05")}
    training = finetuned(tmp_path, annotations, labels)
    page = Page(write_finetune_report(tmp_path, images, labels, held_back=training.held_back))
    assert_self_contained(page)
    assert page.texts["h3"][:6] == ["03", "05", "00", "02", "04", "07"]
    assert "What it learned from and finds: 6 of 8 images" in page.texts["h2"]
    lead = "Trained on 2 annotated cells, judged by 2 others, in a set of 8 images."
    n_pseudo = (training.objects["source"] == "pseudo").sum()
    assert page.texts["p"][0] == lead
    assert page.texts["p"][1].startswith("● Amber No annotated cell judged this model")
    assert page.texts["td"][1:6:2] == ["2", "2", str(n_pseudo)]
    captions = page.texts["figcaption"]
    assert "A cell held back to judge" in captions
    assert sum(caption.startswith("Pseudo training labels") for caption in captions) == 6
    assert captions.count("Prediction: 6 objects") == 6


@pytest.mark.parametrize("has_pseudo", [False, True])
def test_finetune_report_at_alpha_0_shows_no_pseudo_labels(tmp_path, has_pseudo):
    images, labels = image_set(tmp_path, ["a"])
    annotations = {"a": two_annotated(labels["a"])}
    finetuned(tmp_path, annotations, labels if has_pseudo else {}, alpha=0.0)
    page = Page(write_finetune_report(tmp_path, images, labels, held_back={}))
    captions = page.texts["figcaption"]
    assert page.texts["td"][5] == "0"
    assert "Sparse training labels: 1 annotated cell, 1 held back" in captions
    assert not any(caption.startswith("Pseudo") for caption in captions)


def test_finetune_report_says_that_folds_were_trained_as_long(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    finetuned(tmp_path, {"a": np.where(labels["a"] == 1, 1, -1).astype(np.int32)}, labels)
    (tmp_path / "folds").mkdir()
    page = Page(write_finetune_report(tmp_path, images, labels, held_back={}))
    lead = "Trained on 1 annotated cell, judged by trainings of the same length on parts of them,"
    assert page.texts["p"][0] == f"{lead} in a set of 1 image."


JUDGED = {
    "green": (0.9, 12, False),
    "amber": (0.9, 4, False),  # few cells
    "amber, too": (0.6, 12, False),
    "red": (0.4, 12, False),
    "red, too": (0.9, 12, True),  # than what went into it
}


@pytest.mark.parametrize("light", JUDGED)
def test_the_verdict_on_a_model_is_that_of_the_cells_that_judged_it(tmp_path, light):
    f1, n_judge, worse = JUDGED[light]
    parameters = {"f1": {"value": f1}, "best": {"reason": "compared", "clearly_worse": worse}}
    verdict = finetune_verdict(tmp_path, parameters, n_judge)
    assert verdict.light == light.split(",")[0]
    assert verdict.text.startswith(f"F1 {f1:.2f} on {n_judge} annotated cells that did not train.")
    assert "Compared." in verdict.text
    assert ("So few cells tell little." in verdict.text) == (n_judge < 10)
    predicts = [step.command.startswith("oce2stardist predict") for step in verdict.steps]
    assert any(predicts) == (verdict.light != "red")


def test_a_model_that_no_cell_judged_is_amber(tmp_path):
    verdict = finetune_verdict(tmp_path, {"f1": {"value": None, "reason": "no cell"}}, 0)
    assert verdict.light == "amber" and verdict.text.startswith("No annotated cell judged")


@pytest.mark.parametrize(("last", "light"), [(0.9, "green"), (0.7, "amber")])
def test_the_demo_is_green_where_the_last_line_is_best(last, light):
    scores = [{"name": "pseudo labels alone", "f1": 0.8}, {"name": "both", "f1": last}]
    assert demo_verdict(scores).light == light


def test_a_model_that_is_not_finished_and_foreign_images_are_refused(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    with pytest.raises(InputError, match=r"needs a finished run\. Got no .*parameters\.yaml;"):
        write_finetune_report(tmp_path / "nothing", images, labels, held_back={})
    finetuned(tmp_path / "model", {"a": two_annotated(labels["a"])}, labels)
    with pytest.raises(InputError, match=r"must be those of the run\. Got none of .*such as a;"):
        write_finetune_report(tmp_path / "model", images, {}, held_back={})


@pytest.mark.parametrize("saw_test", [False, True])
def test_demo_report_tells_the_story_in_order(tmp_path, saw_test):
    train, upper = image_set(tmp_path, ["train"], shape=(96, 120))
    test, lower = image_set(tmp_path, ["test"], shape=(60, 120))
    labels = upper | lower
    annotations = two_annotated(labels["train"])
    pseudo = pseudo_run(tmp_path / "pseudo", labels)
    models = {"alone": tmp_path / "m0", "both": tmp_path / "m5"}
    finetuned(models["alone"], {"train": annotations}, labels, alpha=0.0)
    finetuned(models["both"], {"train": annotations}, labels if saw_test else upper)
    score = {"f1": 0.875, "seg": 0.5, "n_true": 6, "n_predicted": 6}
    path = write_demo_report(
        tmp_path,
        images=train.images | test.images,
        annotations=annotations,
        pseudo=pseudo,
        models=models,
        predictions=dict.fromkeys(("pseudo labels alone", *models), labels["test"]),
        truth=labels["test"],
        scores=[{"name": name, **score} for name in models],
        seconds={"pseudo": 61.0},
    )
    page = Page(path)
    assert_self_contained(page)
    assert [heading[:2] for heading in page.texts["h2"]] == [f"{i}." for i in range(1, 10)]
    captions = page.texts["figcaption"]
    order = ["Embeddings", "Upper part: 6 objects", "Truth: 6 objects", "Both: 6 objects"]
    assert [caption for caption in captions if caption in order] == order
    assert "A cell held back to judge" in captions
    assert {"0.875", "1 min 1 s"} < set(page.texts["td"])
    assert ("StarDist never saw this part" in page.source) != saw_test
    assert ("in the training of: both." in page.source) == saw_test
    strip = imagecodecs.png_decode(path.with_name("strip.png").read_bytes())
    assert 200 < strip.shape[0] < 280 and 1100 < strip.shape[1] < 1300 and strip.shape[2] == 3


def test_the_page_shows_what_more_cells_would_bring_where_that_was_asked(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    finetuned(tmp_path, {"a": two_annotated(labels["a"])}, labels)
    record = tmp_path / "parameters.yaml"
    told = {
        "value": 0.02, "interval": [0.0, 0.05], "more": 40, "trained_on": [8, 16, 32],
        "f1": [0.8, 0.85, 0.88], "reason": "40 more cells: F1 +0.02",
        "ahead": [
            {"cells": 32, "f1": 0.88, "interval": [0.88, 0.88]},
            {"cells": 64, "f1": 0.9, "interval": [0.88, 0.93]},
        ],
    }  # fmt: skip
    before = record.read_text()
    for entry, said in (
        (told, "40 more cells: F1 +0.02."),
        ({"value": None, "reason": "too few"}, "Too few."),
    ):
        record.write_text(before + yaml.safe_dump({"how_many_more": entry}))
        page = Page(write_finetune_report(tmp_path, images, labels, held_back={}))
        assert "How many more cells?" in page.texts["h2"]
        assert said in page.texts["p"]
