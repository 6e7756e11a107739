"""Which settings are chosen, on offsets where geometry says which are right."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import disc

from oce2stardist.config import PseudoConfig
from oce2stardist.pseudo_labels.choose import (
    Choice,
    choose_by_annotations,
    choose_by_stability,
    score_annotated,
    segmentation_settings,
)
from oce2stardist.pseudo_labels.inputs import Scene

SHAPE = (200, 220)
BANDWIDTHS = [7.84, 9.24, 10.64, 12.04, 14.0]  # 0.28 to 0.5 of a working diameter of 28
DEFAULT = 12.04
PLAIN = replace(segmentation_settings(PseudoConfig(), ndim=2), halo="none", min_unity=1.0)


def pairs(gaps):
    """Draw two squares side by side for each gap, which embed to places a gap apart.

    Two such peaks of the density melt into one where the gap is below 1.4 bandwidths or so.

    Returns
    -------
    scene : Scene
    halves, wholes : int32 arrays of shape (Y, X)
        Labels of the squares, 2 a pair, and of the pairs; in the order of the gaps.
    """
    rng = np.random.default_rng(0)
    offsets, pixels = np.zeros((2, *SHAPE)), np.indices(SHAPE)
    halves = np.zeros(SHAPE, np.int32)
    for index, gap in enumerate(gaps):
        y, x = 20 + 60 * (index // 3), 20 + 65 * (index % 3)
        for side in (0, 1):
            square = (slice(y, y + 20), slice(x + 20 * side, x + 20 * side + 20))
            halves[square] = 2 * index + 1 + side
            place = np.array([y + 9.5, x + 19.5 + gap * (side - 0.5)])
            inside = halves == 2 * index + 1 + side
            noise = rng.normal(0, 1, (2, 400))
            offsets[:, inside] = place[:, None] + noise - pixels[:, inside]
    image = (halves > 0)[..., None].astype(np.float32)
    scene = Scene(offsets.astype(np.float32), halves > 0, image)
    return scene, halves, (halves + 1) // 2


@pytest.mark.parametrize(
    ("gap", "truth", "expected"),
    [
        (12, "halves", 7.84),  # melts at the default
        (13.5, "halves", 7.84),  # of those at which it stays apart, the first
        (13.5, "wholes", DEFAULT),
        (17, "wholes", 14.0),  # comes apart at the default
    ],
)
def test_annotations_choose_the_bandwidth_that_geometry_demands(gap, truth, expected):
    scene, halves, wholes = pairs([gap] * 4)
    known = {"halves": halves, "wholes": wholes}[truth]
    settings, (choice,) = choose_by_annotations(
        PLAIN, {"a": scene}, {"a": known}, free=["bandwidth"], seed=0
    )
    assert settings == replace(PLAIN, bandwidth=expected)
    assert choice.value == expected
    assert list(choice.tried) == pytest.approx(BANDWIDTHS)
    assert choice.tried[expected] == 1.0
    # Half of a pair has an IoU of 0.5 with it: one match in three at the first of four thresholds.
    assert min(choice.tried.values()) == pytest.approx(2 / 3 / 4)
    assert f"on {known.max()} annotated cells of 1 image (7.84: " in choice.reason


def test_annotations_at_the_original_scale_choose_the_same():
    scene, halves, _ = pairs([12, 12])
    fine = np.repeat(np.repeat(halves, 2, axis=0), 2, axis=1)
    found = [
        choose_by_annotations(PLAIN, {"a": scene}, {"a": known}, free=["bandwidth"], seed=0)
        for known in (halves, fine)
    ]
    assert found[0] == found[1]


def test_objects_and_images_without_annotation_are_not_looked_at():
    # Four pairs that would demand 14 surround two that demand 7.84; only these are annotated.
    scene, halves, _ = pairs([12, 12, 17, 17, 17, 17])
    known = np.where(halves <= 4, halves, 0)
    alone, few, _ = pairs([12, 12])
    mixed, (choice,) = choose_by_annotations(
        PLAIN, {"a": scene, "b": None, "c": None}, {"a": known, "c": 0 * known},
        free=["bandwidth"], seed=0,
    )  # fmt: skip
    given = {"a": alone}, {"a": few}
    _, (expected,) = choose_by_annotations(PLAIN, *given, free=["bandwidth"], seed=0)
    assert mixed.bandwidth == 7.84
    assert choice.tried == expected.tried


def test_what_is_not_free_is_not_changed():
    scene, halves, _ = pairs([12])
    for free in ([], ["min_unity", "halo"]):
        found = choose_by_annotations(PLAIN, {"a": scene}, {"a": halves}, free=free, seed=0)
        assert found == (PLAIN, [])


def test_without_an_annotated_cell_nothing_is_chosen():
    scene, halves, _ = pairs([12])
    for annotations in ({}, {"a": 0 * halves}, {"a": halves - 99}):
        found = choose_by_annotations(PLAIN, {"a": scene}, annotations, free=["bandwidth"], seed=0)
        assert found == (PLAIN, [])


@pytest.mark.parametrize(("radius", "expected"), [(14.8, 0.25), (10.2, 0.5)])
def test_annotations_choose_the_level_at_which_their_outline_lies(monkeypatch, radius, expected):
    monkeypatch.setattr("oce2stardist.pseudo_labels.choose._LEVELS", (0.25, 0.5))
    # The upper quartile of a cone of radius 16 is half its height, so at a level of a quarter
    # the outline has a radius of 14 (IoU 0.89 with 14.8), at a half one of 12 (0.72 with 10.2).
    shape, centres = (130, 130), [(35, 35), (35, 95), (95, 35), (95, 95)]
    offsets, pixels = np.zeros((2, *shape), np.float32), np.indices(shape)
    image, known = np.zeros((*shape, 1), np.float32), np.zeros(shape, np.int32)
    for index, centre in enumerate(centres, start=1):
        towards = np.array(centre)[:, None, None] - pixels
        cone = disc(shape, centre, 16)
        offsets[:, cone] = towards[:, cone]
        image[..., 0] += np.maximum(0, 1 - np.hypot(*towards) / 16)
        known[disc(shape, centre, radius)] = index
    scene = Scene(offsets, image[..., 0] > 0, image)
    start = replace(PLAIN, halo="contrast", level=0.42)
    given = {"a": scene}, {"a": known}
    settings, choices = choose_by_annotations(start, *given, free=["level"], seed=0)
    assert settings.level == expected
    assert [choice.setting for choice in choices] == ["level"]


def test_annotated_specks_lower_the_smallest_size():
    # 25 pixels are 0.041 of the area of a median cell: above 1/32 and below the default of 1/16.
    shape = (100, 100)
    offsets, pixels = np.zeros((2, *shape), np.float32), np.indices(shape)
    known = np.zeros(shape, np.int32)
    for index, (y, x) in enumerate([(20, 20), (20, 70), (70, 20), (70, 70)], start=1):
        known[y : y + 5, x : x + 5] = index
        inside = known == index
        offsets[:, inside] = np.array([[y + 2], [x + 2]]) - pixels[:, inside]
    scene = Scene(offsets, known > 0, (known > 0)[..., None].astype(np.float32))
    start = replace(PLAIN, min_cluster=0.0)
    given = {"a": scene}, {"a": known}
    settings, _ = choose_by_annotations(start, *given, free=["min_size"], seed=0)
    assert settings.min_size == 1 / 32


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([12, 12, 17, 17], 10.64),  # some melt below 9.24, some above 12.04
        ([13.5, 13.5, 13.5], 12.04),  # all melt between 9.24 and 10.64
        ([4, 4, 30, 30], DEFAULT),  # nothing ever changes
    ],
)
def test_without_annotations_the_bandwidth_is_where_nothing_changes(gaps, expected):
    scene, _, _ = pairs(gaps)
    settings, (choice,) = choose_by_stability(PLAIN, {"a": scene}, free=["bandwidth"], seed=0)
    assert settings == replace(PLAIN, bandwidth=expected)
    assert list(choice.tried) == pytest.approx(BANDWIDTHS[1:-1])
    assert choice.tried[expected] == 1.0


def test_stability_leaves_a_bandwidth_alone_that_is_not_free_or_without_images():
    scene, _, _ = pairs([14])
    assert choose_by_stability(PLAIN, {"a": scene}, free=["level"], seed=0) == (PLAIN, [])
    assert choose_by_stability(PLAIN, {}, free=["bandwidth"], seed=0) == (PLAIN, [])


def test_images_without_objects_choose_the_default():
    nothing = Scene(
        np.zeros((2, 50, 60), np.float32), np.zeros((50, 60), bool), np.zeros((50, 60, 1))
    )
    settings, _ = choose_by_stability(PLAIN, {"a": nothing}, free=["bandwidth"], seed=0)
    assert settings == PLAIN


def test_the_settings_are_what_the_config_says():
    given = PseudoConfig(working_diameter=20, bandwidth=5, halo="shrink", shrink=2, level=0.3)
    settings = segmentation_settings(given, ndim=2)
    assert settings.cell_area == pytest.approx(np.pi * 100)
    found = (settings.bandwidth, settings.halo, settings.shrink, settings.level)
    assert found == (5, "shrink", 2, 0.3)
    default = segmentation_settings(PseudoConfig(working_diameter=20), ndim=2)
    assert default.bandwidth == pytest.approx(0.43 * 20)


def test_a_score_on_annotated_cells_ignores_what_is_not_annotated():
    _, halves, wholes = pairs([12] * 5)
    known = np.where(halves <= 4, halves, 0)
    assert score_annotated({"a": halves}, {"a": known}) == 1.0
    # Two wholes for four halves: IoU 0.5, each matched once.
    assert score_annotated({"a": wholes}, {"a": known}) == pytest.approx(2 * 2 / (2 + 4))
    assert score_annotated({"a": halves}, {"a": 0 * known, "b": known}) is None


def test_a_choice_without_alternatives_says_its_criterion():
    assert Choice("level", 0.4, "set in the config").reason == "set in the config"
