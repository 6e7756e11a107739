"""The page of stage one: what was found, how sure it is, and whether to trust it."""

import base64

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import yaml
from colours import SKY, pixels_of
from pages import SCRIPT, Page, assert_self_contained
from run_folders import change_parameters, image_set, pseudo_run

from oce2stardist.errors import InputError
from oce2stardist.pseudo_labels.witness import START
from oce2stardist.reports import write_pseudo_report
from oce2stardist.reports.selection import choose_by_count


def test_images_are_chosen_at_even_quantiles_of_their_number_of_objects():
    counts = pd.Series({"a": 9, "b": 0, "c": 4, "d": 4, "e": 100})
    assert choose_by_count(counts) == ["b", "c", "d", "a", "e"]
    assert choose_by_count(counts, 3) == ["b", "d", "e"]
    assert len(set(choose_by_count(pd.Series(range(80))))) == 12


def run_on_one_image(tmp_path, *, blank=False):
    """Images, labels of image "a", and the run folder that holds them."""
    images, labels = image_set(tmp_path, ["a"])
    found = {"a": labels["a"] * (not blank)}
    return images, found["a"], pseudo_run(tmp_path / "run", found)


def test_pseudo_report_shows_twelve_images_evenly_and_counts_all(tmp_path):
    stems = [f"{i:02d}" for i in range(23)]
    images, labels = image_set(tmp_path, stems)
    page = Page(write_pseudo_report(pseudo_run(tmp_path / "run", labels), images))
    assert page.source.startswith("<!doctype html>")
    assert_self_contained(page)
    assert page.texts["h3"][:12] == [f"{i:02d}" for i in range(0, 23, 2)]
    assert "What was learned and found: 12 of 23 images" in page.texts["h2"]
    assert page.texts["p"][0].startswith("138 objects found in 23 images;")
    assert page.texts["figcaption"].count("Pseudo labels: 6 objects") == 12
    assert {"6 (6 to 6)", "0.5 ×", "14 px", "why halo", "2 min 5 s", "6.5 s", "2 min 12 s"} < set(
        page.texts["td"]
    )
    record = yaml.safe_load(page.texts["pre"][0])
    assert (record["command"], record["seed"]) == ("oce2stardist pseudo x", 7)
    assert "numpy" in record["versions"]


def test_file_names_and_commands_cannot_inject_html(tmp_path):
    stem = "<img src=x onerror=alert(1)>&amp;"
    images, labels = image_set(tmp_path, [stem])
    run = pseudo_run(tmp_path / "run", labels, command=f"pseudo '{SCRIPT}'")
    page = Page(write_pseudo_report(run, images))
    assert_self_contained(page)
    assert page.texts["h3"][0] == stem
    assert SCRIPT in page.texts["pre"][0]


@pytest.mark.parametrize("trusted", [True, False])
def test_pseudo_report_says_first_whether_to_trust_the_labels(tmp_path, trusted):
    images, _, run = run_on_one_image(tmp_path)
    reason = f"these can't be trusted: {SCRIPT}"
    measures = {"separation": 0.123, "alike": 0.9}
    change_parameters(run, trust={"value": trusted, "reason": reason, "measures": measures})
    page = Page(write_pseudo_report(run, images))
    assert_self_contained(page)
    verdict = page.texts["p"][1]
    assert "separation 0.12, alike 0.90" in verdict
    red = "● Red Do not train on these labels yet: these can't"
    assert verdict.startswith("● Green All measures" if trusted else red)
    assert (SCRIPT in verdict) == (not trusted)
    assert "trust" not in page.texts["td"]
    train = "oce2stardist finetune images/ "
    wanted = f"--pseudo {run} --annotations masks/" if trusted else "--annotations masks/ --alpha 0"
    assert page.texts["code"][-1] == f"{train}{wanted} -o model"


def test_labels_of_the_drawn_start_are_amber_though_those_of_the_run_failed(tmp_path):
    images, _, run = run_on_one_image(tmp_path)
    change_parameters(run, trust={"value": False, "reason": "objects change", "measures": {}})
    table = pd.read_csv(run / "pseudo" / "objects.csv")
    table.assign(found_by=START).to_csv(run / "pseudo" / "objects.csv", index=False)
    page = Page(write_pseudo_report(run, images))
    assert page.texts["p"][1].startswith("● Amber These labels are those of the network")
    assert page.texts["p"][1].endswith("failed: objects change.")


def test_labels_that_only_annotated_cells_speak_for_are_amber(tmp_path):
    images, _, run = run_on_one_image(tmp_path)
    trust = {
        "value": True,
        "reason": "annotated cells overrule",
        "overruled": ["x"],
        "measures": {},
    }
    change_parameters(run, trust=trust)
    page = Page(write_pseudo_report(run, images))
    assert page.texts["p"][1] == "● Amber Annotated cells overrule."


def test_what_is_proposed_names_the_images_of_the_run_or_their_crops(tmp_path):
    images, _, run = run_on_one_image(tmp_path)
    record = yaml.safe_load((run / "run.yaml").read_text())
    record["inputs"] = {"images_from": "my images"}
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    page = Page(write_pseudo_report(run, images))
    assert page.texts["code"][-1].startswith("oce2stardist finetune 'my images' --pseudo")
    (run / "crops").mkdir()
    page = Page(write_pseudo_report(run, images))
    assert page.texts["code"][-1].startswith(f"oce2stardist finetune {run / 'crops'} --pseudo")


def test_a_run_without_objects_is_told_what_can_be_done(tmp_path):
    images, _, run = run_on_one_image(tmp_path, blank=True)
    trust = {"value": False, "reason": "no object was found", "measures": {"separation": 0.5}}
    change_parameters(run, trust=trust | {"advice": "Pass --diameter."})
    page = Page(write_pseudo_report(run, images))
    assert page.texts["p"][0].startswith("0 objects found in 1 image;")
    red = "● Red Do not train on these labels yet: no object was found. Measured"
    assert page.texts["p"][1].startswith(red)
    assert page.texts["li"][0] == "Pass --diameter."
    assert "–" in page.texts["td"]


def test_settings_show_intervals_and_ranges_over_images(tmp_path):
    images, _, run = run_on_one_image(tmp_path)
    change_parameters(
        run,
        diameter={"value": 26.12, "reason": "measured", "interval": [25.03, 26.7]},
        scale={"value": 0.5, "reason": "sizes differ", "images": {"a": 0.25, "b": 1.5}},
    )
    cells = Page(write_pseudo_report(run, images)).texts["td"]
    assert "26.12 px (90 % interval: 25.03 to 26.7 px)" in cells
    assert "0.5 × (images: 0.25 to 1.5 ×)" in cells


def test_pseudo_report_shows_the_pictures_that_the_run_made(tmp_path):
    images, _, run = run_on_one_image(tmp_path)
    without = Page(write_pseudo_report(run, images))
    assert "How large a cell is" not in without.texts["h2"]
    change_parameters(run, diameter={"value": 26.0, "reason": "428 cells measured"})
    for i, name in enumerate(("diameter", "choices")):
        sheet = np.full((10 + i, 20, 3), 200, np.uint8)
        (run / "pseudo" / f"{name}.png").write_bytes(imagecodecs.png_encode(sheet))
    page = Page(write_pseudo_report(run, images))
    at = page.texts["h2"].index("How large a cell is")
    assert page.texts["h2"][at + 1] == "What each choice looks like"
    assert "428 cells measured." in page.texts["p"]
    assert {"10", "11"} < {picture["height"] for picture in page.pictures}


def test_confidence_is_shown_by_colour_plot_and_words(tmp_path):
    images, labels, run = run_on_one_image(tmp_path)
    table = pd.read_csv(run / "pseudo" / "objects.csv")
    table["confidence"] = [0.2, 1, 1, 1, 1, 1]
    table.to_csv(run / "pseudo" / "objects.csv", index=False)
    page = Page(write_pseudo_report(run, images))
    assert "Confidence of the 6 objects; 17% are below 0.5." in page.texts["figcaption"]
    assert any("orange-red (confidence 0" in caption for caption in page.texts["figcaption"])
    (shown,) = (img for img in page.pictures if img["alt"] == "Pseudo labels: 6 objects")
    png = imagecodecs.png_decode(base64.b64decode(shown["src"].partition(",")[2]))
    assert pixels_of(png, SKY)[labels > 1].any()
    assert not pixels_of(png, SKY)[labels == 1].any()


def test_unfinished_runs_and_foreign_images_are_refused(tmp_path):
    images, _, run = run_on_one_image(tmp_path)
    with pytest.raises(InputError, match=r"needs a finished run\. Got no .*parameters\.yaml;"):
        write_pseudo_report(tmp_path / "nothing", images)
    others, _ = image_set(tmp_path, ["b"])
    with pytest.raises(InputError, match=r"must be those of the run\. Got none of .*such as b;"):
        write_pseudo_report(run, others)
