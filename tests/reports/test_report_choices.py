"""What other settings would have found: every value is tried, and scores stand with theirs."""

import re
from dataclasses import replace

import numpy as np
import pytest
from run_folders import gathering_run

from oce2stardist.config import Config, PseudoConfig
from oce2stardist.pseudo_labels.choose import Choice, segmentation_settings
from oce2stardist.pseudo_labels.inputs import SegmentationInputs
from oce2stardist.reports import choices as contact_sheet
from oce2stardist.reports import write_choices


def tuned_run(tmp_path, shape=(200, 260), **settings):
    """What `write_choices` gets of a run that found eight discs."""
    config = Config(seed=7, pseudo=PseudoConfig(**settings))
    prepared, labels = gathering_run(tmp_path / "run", config, shape=shape)
    return {
        "scenes": SegmentationInputs(prepared, tmp_path / "run", config),
        "labels": labels,
        "settings": segmentation_settings(config.pseudo, ndim=2),
        "choices": [],
        "seed": 7,
    }


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a run, perhaps changed; returns the rows of the picture by their first word."""

    def draw(run=None, **settings):
        rows = {}

        def keep(given):
            rows.update({re.split(r"\W", row.setting)[0]: row for row in given})
            return b"picture"

        monkeypatch.setattr(contact_sheet, "choices_picture", keep)
        write_choices(tmp_path / "a.png", **(run or tuned_run(tmp_path, **settings)))
        assert (tmp_path / "a.png").read_bytes() == b"picture"
        return rows

    return draw


def test_choices_are_shown_on_five_diameters_and_one_of_each_setting_is_chosen(drawn):
    rows = drawn()
    assert [len(row.panels) for row in rows.values()] == [3, 4, 5, 2]
    for row in rows.values():
        assert [panel.chosen for panel in row.panels].count(True) == 1
        assert row.image.shape == (140, 140, 1)
    chosen = [next(p for p in row.panels if p.chosen) for row in rows.values()]
    assert [panel.value for panel in chosen[1:]] == [
        "12.04 px (0.43)",
        f"contrast, level {PseudoConfig().level:g}",
        f"{PseudoConfig().min_unity:g}",
    ]
    for panel in chosen[2:]:
        np.testing.assert_array_equal(panel.labels, chosen[1].labels)


def test_chosen_panel_shows_the_objects_of_the_window_and_halo_changes_their_size(drawn):
    rows = drawn()
    panels = {panel.value: panel.labels for panel in rows["Halo"].panels}
    bright = rows["Halo"].image[..., 0] > 0.5
    chosen = panels[f"contrast, level {PseudoConfig().level:g}"] > 0
    assert (chosen & bright).sum() / (chosen | bright).sum() > 0.8
    assert (panels["shrink 3 px"] > 0).sum() < (panels["none"] > 0).sum()


@pytest.mark.parametrize("threshold", ["auto", "per_image"])
def test_thresholds_below_and_above_the_chosen_one_are_shown(tmp_path, drawn, threshold):
    run = tuned_run(tmp_path, threshold=threshold)
    row = drawn(run)["Foreground"]
    low, chosen, high = ((panel.labels > 0).sum() for panel in row.panels)
    assert low < chosen < high
    assert [panel.chosen for panel in row.panels] == [False, True, False]
    assert row.panels[1].value == f"threshold {run['scenes'].thresholds['a']:.2f}"


@pytest.mark.parametrize("threshold", [np.inf, -np.inf])
def test_a_foreground_of_all_or_nothing_is_shown_as_it_is(tmp_path, drawn, threshold):
    run = tuned_run(tmp_path, shape=(120, 260))
    run["scenes"].thresholds["a"] = threshold
    (panel,) = drawn(run)["Foreground"].panels
    assert panel.chosen
    assert (panel.labels > 0).all() == (threshold > 0)


def test_scores_stand_with_the_values_that_were_compared(tmp_path, drawn):
    tried = {9.24: 0.9512, 10.64: 0.25, 12.04: 1.0}
    run = tuned_run(tmp_path, bandwidth=9.24)
    run["choices"] = [Choice("bandwidth", 9.24, "in numbers: 7.84: 0.1", tried)]
    assert {panel.value: panel.score for panel in drawn(run)["Bandwidth"].panels} == {
        "7.84 px (0.28)": None,
        "9.24 px (0.33)": 0.9512,
        "12.04 px (0.43)": 1.0,
        "14 px (0.50)": None,
    }


def test_scores_of_shrinking_stand_with_no_other_way_to_take_the_halo_off(tmp_path, drawn):
    run = tuned_run(tmp_path, halo="shrink", shrink=5.0)
    run["choices"] = [Choice("shrink", 5.0, "F1", {5: 0.75, 0: 0.5})]
    scores = {panel.value: panel.score for panel in drawn(run)["Halo"].panels}
    assert scores.pop("shrink 5 px") == 0.75
    assert set(scores.values()) == {None}


def test_the_chosen_settings_are_framed_where_the_config_says_something_else(tmp_path, drawn):
    run = tuned_run(tmp_path)
    run["settings"] = replace(run["settings"], bandwidth=12.04, level=0.25)
    rows = drawn(run)
    framed = {name: [p.value for p in row.panels if p.chosen] for name, row in rows.items()}
    assert framed["Bandwidth"] == ["12.04 px (0.43)"]
    assert framed["Halo"] == ["contrast, level 0.25"]


def test_the_fullest_image_is_shown(tmp_path, drawn):
    run = tuned_run(tmp_path)
    expected = drawn(run)["Halo"].image
    run["labels"] = {"emptier": run["labels"]["a"] * (run["labels"]["a"] < 3)} | run["labels"]
    np.testing.assert_array_equal(drawn(run)["Halo"].image, expected)


@pytest.mark.parametrize(
    ("changes", "halo", "joining"),
    [
        ({"halo": "shrink", "shrink": 5.0}, "shrink 5 px", "0.675"),
        ({"halo": "otsu"}, "otsu", "0.675"),
        ({"halo": "none", "min_unity": 1.0}, "none", "off (1)"),
    ],
)
def test_settings_of_the_config_are_those_framed(drawn, changes, halo, joining):
    rows = drawn(**changes)
    for name, value in (("Halo", halo), ("Joining", joining)):
        assert [panel.value for panel in rows[name].panels if panel.chosen] == [value]


def test_small_images_are_shown_whole(drawn):
    rows = drawn(shape=(120, 260))
    assert rows["Halo"].image.shape == (120, 140, 1)


def test_without_objects_there_is_no_contact_sheet(tmp_path):
    run = tuned_run(tmp_path)
    run["labels"] = {"a": 0 * run["labels"]["a"]}
    write_choices(tmp_path / "choices.png", **run)
    assert not (tmp_path / "choices.png").exists()
