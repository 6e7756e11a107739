"""The table of scores of a test set, beside slow readings by hand."""

from itertools import product

import numpy as np
import pytest
from experiment_folders import labelled
from scenes import disc, empty_image, two_touching_discs

from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import overlap_matrix, score_image, seg_at_thresholds, seg_ious
from oce2stardist.experiments.scoring import (
    IOU_THRESHOLDS,
    SCORE_COLUMNS,
    Border,
    score_labels,
)


def blocks(rng, shape=(40, 50), n=12):
    """Rectangles painted over each other, with ids that have gaps."""
    labels = np.zeros(shape, np.int32)
    for label in rng.permutation(30)[:n] + 1:
        y, x = (rng.integers(0, side - 5) for side in shape)
        height, width = rng.integers(3, 14, 2)
        labels[y : y + height, x : x + width] = label
    return labels


def random_pair(seed):
    """Truth, and a prediction that is now better, now worse."""
    rng = np.random.default_rng(seed)
    truth = blocks(rng)
    predicted = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
    others = blocks(rng, n=3)
    return np.where(others > 0, others + 100, predicted), truth


def seg_ious_by_hand(predicted, truth):
    """The definition, pixel by pixel and pair by pair."""
    ious = []
    for cell in sorted(set(truth[truth > 0])):
        best = 0.0
        for label in set(predicted[predicted > 0]):
            shared = int(((truth == cell) & (predicted == label)).sum())
            if shared > (truth == cell).sum() / 2:
                best = shared / int(((truth == cell) | (predicted == label)).sum())
        ious.append(best)
    return ious


def data_set(labels, **options):
    """A data set of label images by stem, with empty images."""
    return labelled({stem: (own[..., None] * 0.0, own) for stem, own in labels.items()}, **options)


@pytest.mark.parametrize("seed", range(8))
def test_seg_over_thresholds_is_what_the_definition_says(seed):
    predicted, truth = random_pair(seed)
    ious = seg_ious_by_hand(predicted, truth)
    assert 0 < np.count_nonzero(ious) <= len(ious)
    overlap = overlap_matrix(predicted, truth)
    np.testing.assert_allclose(seg_ious(overlap), ious)
    by_hand = [sum(iou for iou in ious if iou >= at) / len(ious) for at in (0, *IOU_THRESHOLDS)]
    seg_at = seg_at_thresholds(overlap, iou_thresholds=(0, *IOU_THRESHOLDS))
    np.testing.assert_allclose(seg_at, by_hand)
    assert seg_at == sorted(seg_at, reverse=True)
    assert seg_at[0] == pytest.approx(score_image(predicted, truth).seg)


def test_seg_over_thresholds_of_an_image_without_cells_is_nan():
    overlap = overlap_matrix(two_touching_discs(), empty_image())
    assert np.isnan(seg_at_thresholds(overlap, iou_thresholds=IOU_THRESHOLDS)).all()


def test_a_table_has_a_row_for_every_image_and_threshold():
    pairs = {f"{seed:02}": random_pair(seed) for seed in range(4)}
    truth = {stem: true for stem, (_, true) in pairs.items()} | {"none": empty_image()}
    predicted = {stem: found for stem, (found, _) in pairs.items()} | {"none": empty_image()}
    reads = []
    test = data_set(truth, groups={"01": "skin"}, reads=reads)
    table = score_labels(predicted, test, Border())
    assert reads == list(truth)
    assert tuple(table.columns) == SCORE_COLUMNS
    assert list(zip(table["image"], table["iou"], strict=True)) == list(
        product(truth, (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95))
    )
    assert set(table.loc[table["image"] == "01", "group"]) == {"skin"}
    assert set(table.loc[table["image"] != "01", "group"]) == {""}
    for row in table.itertuples():
        by_itself = score_image(predicted[row.image], truth[row.image], iou_threshold=row.iou)
        for name in ("f1", "seg", "precision", "recall", "tp", "fp", "fn", "n_true", "n_predicted"):
            expected = pytest.approx(getattr(by_itself, name), nan_ok=True)
            assert getattr(row, name) == expected
    without = table[table["image"] == "none"]
    assert without[["seg", "seg_at"]].isna().all(axis=None)
    assert (without["f1"] == 1).all()


def edge_scene():
    """Three discs: at the edge, with the centroid near the edge, and in the middle."""
    labels = np.zeros((60, 60), np.int32)
    for label, centre in enumerate([(2, 20), (9, 45), (35, 30)], start=1):
        labels[disc(labels.shape, centre, 6)] = label
    return labels


@pytest.mark.parametrize(
    ("options", "n_true"),
    [
        ({}, 3),
        ({"rim": 5}, 3),
        ({"rim": 10}, 2),  # the first ends at row 8, the second reaches row 15
        ({"by_centroid": 10}, 1),
        ({"by_centroid": 5}, 2),
    ],
)
def test_objects_outside_the_field_are_left_out_predicted_or_true(options, n_true):
    truth = edge_scene()
    test, border = data_set({"a": truth}), Border(**options)
    table = score_labels({"a": truth}, test, border)
    assert set(table["n_true"]) == set(table["n_predicted"]) == {n_true}
    nothing = score_labels({"a": np.zeros_like(truth)}, test, border)
    assert set(nothing["fn"]) == {n_true}


def test_an_image_without_a_prediction_is_named():
    test = data_set({"a": empty_image(), "b": empty_image()})
    with pytest.raises(InputError, match="Got none for b; predict it"):
        score_labels({"a": empty_image()}, test, Border())
