import json
import math

import numpy as np
import pytest
from label_pairs import random_labels, relabel
from scenes import disc, empty_image, two_touching_discs
from scipy import ndimage as ndi

from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import (
    leave_out_border,
    overlap_matrix,
    pool_scores,
    score_image,
    score_sparse,
)

THRESHOLDS = [0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0]


def square(row, column, size, shape=(40, 40), value=1):
    labels = np.zeros(shape, np.int32)
    labels[row : row + size, column : column + size] = value
    return labels


def counts(scores):
    return scores.tp, scores.fp, scores.fn


@pytest.mark.parametrize("shift", [1, 3, 4, 5])
def test_a_shifted_square_scores_the_iou_of_geometry(shift):
    truth, predicted = square(10, 10, 10), square(10, 10 + shift, 10)
    iou = (10 - shift) / (10 + shift)
    assert score_image(predicted, truth, iou_threshold=iou).tp == 1
    assert score_image(predicted, truth, iou_threshold=iou + 1e-6).tp == 0
    # a shift of 5 leaves exactly half of the true cell covered: not more than half
    assert score_image(predicted, truth).seg == pytest.approx(iou if shift < 5 else 0)


def test_a_larger_concentric_disc_scores_the_ratio_of_areas():
    truth = disc((80, 80), (40, 40), 20).astype(np.int32)
    predicted = disc((80, 80), (40, 40), 25).astype(np.int32)
    scores = score_image(predicted, truth)
    assert scores.seg == pytest.approx((20 / 25) ** 2, abs=0.02)
    assert counts(scores) == (1, 0, 0)


def test_an_object_is_matched_only_once():
    truth = square(0, 0, 8)
    halves = truth.copy()
    halves[:, 4:8] *= 2  # two halves, each with an IoU of exactly 0.5
    assert counts(score_image(halves, truth)) == (1, 1, 0)
    assert counts(score_image(truth, halves)) == (1, 0, 1)


def test_two_cells_merged_into_one_match_one_of_them_at_most():
    truth = two_touching_discs()
    at, above = score_sparse((truth > 0).astype(int), truth, iou_thresholds=[0.5, 0.51])
    assert counts(at) == (1, 0, 1)  # either disc is half of the two: IoU 0.5
    assert counts(above) == (0, 1, 2)
    assert at.seg == above.seg == pytest.approx(0.5)


def test_low_thresholds_find_the_most_matches():
    # object 1 overlaps both cells, object 2 only cell 1: greedy by IoU would match one
    truth = np.array([[1] * 10 + [2] * 10])
    predicted = np.array([[2] * 3 + [1] * 12 + [0] * 5])
    assert counts(score_image(predicted, truth, iou_threshold=0.25)) == (2, 0, 0)


def test_relabelling_changes_no_score_even_with_gaps_and_large_ids():
    rng = np.random.default_rng(0)
    predicted, truth = random_labels(rng), random_labels(rng)
    truth[:10, :10] = -1
    expected = score_sparse(predicted, truth, iou_thresholds=THRESHOLDS)
    for _ in range(3):
        renamed = relabel(rng, predicted), relabel(rng, truth)
        assert renamed[0].max() > 65535
        for one, other in zip(
            expected, score_sparse(*renamed, iou_thresholds=THRESHOLDS), strict=True
        ):
            assert one.to_dict() == pytest.approx(other.to_dict())


def test_overlap_matrix_counts_pixels_by_id():
    truth = square(10, 10, 10, value=70_000) + square(30, 30, 5, value=3)
    truth[0, :] = -1
    predicted = square(10, 14, 10, value=5) + square(0, 0, 4, value=2_000_000)
    overlap = overlap_matrix(predicted, truth)
    assert overlap.predicted_ids.tolist() == [5, 2_000_000]
    assert overlap.true_ids.tolist() == [3, 70_000]
    assert overlap.predicted_sizes.tolist() == [100, 16]
    assert overlap.true_sizes.tolist() == [25, 100]
    assert overlap.predicted_known.tolist() == [100, 12]
    assert overlap.pixels.toarray().tolist() == [[0, 60], [0, 0]]
    assert overlap.pixels.nnz == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, ">u2"])
def test_any_integer_type_scores_alike(dtype):
    labels = two_touching_discs()
    assert score_image(labels.astype(dtype), labels).f1 == 1


def test_an_empty_image_predicted_empty_is_perfect():
    scores = score_image(empty_image(), empty_image())
    assert (scores.f1, scores.precision, scores.recall) == (1, 1, 1)
    assert counts(scores) == (0, 0, 0)
    assert math.isnan(scores.seg)


def test_finding_nothing_scores_zero():
    scores = score_image(empty_image(), two_touching_discs())
    assert (scores.f1, scores.precision, scores.recall, scores.seg) == (0, 0, 0, 0)
    assert counts(scores) == (0, 0, 2)


def test_finding_cells_in_an_empty_image_scores_zero():
    scores = score_image(two_touching_discs(), empty_image())
    assert (scores.f1, scores.precision, scores.recall) == (0, 0, 0)
    assert counts(scores) == (0, 2, 0)
    assert math.isnan(scores.seg)


def test_a_missing_seg_is_null_in_json():
    fields = score_image(empty_image(), empty_image()).to_dict()
    assert json.loads(json.dumps(fields, allow_nan=False))["seg"] is None
    assert score_image(two_touching_discs(), two_touching_discs()).to_dict() == {
        "f1": 1.0, "seg": 1.0, "precision": 1.0, "recall": 1.0, "tp": 2, "fp": 0, "fn": 0,
        "n_true": 2, "n_predicted": 2, "iou_threshold": 0.5,
    }  # fmt: skip


def test_pooling_equals_scoring_one_large_image():
    rng = np.random.default_rng(1)
    pairs = [(random_labels(rng), random_labels(rng)) for _ in range(4)]
    pairs += [(two_touching_discs(), empty_image()), (empty_image(), empty_image())]
    pooled = pool_scores([score_image(*pair) for pair in pairs])

    def beside(images):
        """Place images beside each other under ids of their own."""
        return np.concatenate(
            [np.where(image > 0, image + 1000 * k, 0).ravel() for k, image in enumerate(images)]
        )

    predicted, truth = zip(*pairs, strict=True)
    whole = score_image(beside(predicted), beside(truth))
    assert pooled.to_dict() == pytest.approx(whole.to_dict())


def test_pooling_empty_images_is_perfect():
    pooled = pool_scores([score_image(empty_image(), empty_image())] * 2)
    assert pooled.f1 == 1
    assert math.isnan(pooled.seg)


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.7]])
def test_pooling_needs_one_threshold(thresholds):
    scores = score_sparse(empty_image(), empty_image(), iou_thresholds=thresholds)
    with pytest.raises(ValueError, match=rf"one IoU threshold. Got thresholds \{thresholds}"):
        pool_scores(scores)


@pytest.mark.parametrize(("unknown_columns", "fp"), [(0, 1), (4, 1), (5, 0), (6, 0), (10, 0)])
def test_a_false_positive_needs_more_than_half_of_its_pixels_known(unknown_columns, fp):
    truth = np.zeros((40, 40), np.int32)
    truth[:, 10 : 10 + unknown_columns] = -1
    scores = score_image(square(10, 10, 10), truth)
    assert counts(scores) == (0, fp, 0)
    assert scores.n_predicted == fp
    assert scores.f1 == (0 if fp else 1)


def test_objects_on_unknown_pixels_still_match_annotated_cells():
    annotations = np.full((40, 40), -1, np.int32)
    annotations[10:20, 10:20] = 7
    predicted = square(10, 10, 10, value=2)
    predicted[10:20, 20:35] = 2  # 100 of 250 pixels are known
    low, half = score_sparse(predicted, annotations, iou_thresholds=[0.4, 0.5])
    assert counts(low) == (1, 0, 0)
    assert counts(half) == (0, 0, 1)  # unmatched, and ignored
    assert low.seg == pytest.approx(0.4)


def test_known_background_and_annotated_cells_make_false_positives():
    annotations = np.full((40, 40), -1, np.int32)
    annotations[:20] = 0
    annotations[25:35, 25:35] = 1
    on_background, on_cell, on_unknown = (
        square(5, 5, 8, value=1), square(25, 25, 4, value=2), square(25, 5, 8, value=3),
    )  # fmt: skip
    scores = score_sparse(on_background + on_cell + on_unknown, annotations, iou_thresholds=[0.5])
    assert counts(scores[0]) == (0, 2, 1)


def test_known_objects_go_first_where_two_compete_for_a_cell():
    # IoUs with the cell 2/10 and 3/14: matching the higher would leave a false positive
    annotations = np.array([[0] * 2 + [1] * 8 + [-1] * 6])
    for known, unknown in [(1, 2), (2, 1)]:
        predicted = np.array([[known] * 4 + [0] * 3 + [unknown] * 9])
        scores = score_sparse(predicted, annotations, iou_thresholds=[0.15])
        assert counts(scores[0]) == (1, 0, 0)


def test_no_thresholds_give_no_scores():
    assert score_sparse(empty_image(), empty_image(), iou_thresholds=[]) == []


def test_leave_out_border_goes_by_the_centroid():
    # centroids at 4.5 from the top, 5.5 from the top, and 4.5 from the right edge
    labels = square(0, 10, 10, value=70_000) + square(20, 31, 9, value=3)
    labels[25:36, 5:16] = 9
    assert set(np.unique(leave_out_border(labels, 4)).tolist()) == {0, 3, 9, 70_000}
    assert set(np.unique(leave_out_border(labels, 4.5)).tolist()) == {0, 9, 70_000}
    assert set(np.unique(leave_out_border(labels, 4.6)).tolist()) == {0, 9}
    assert np.array_equal(leave_out_border(labels, 0), labels)


def test_leave_out_border_agrees_with_the_rule_object_by_object():
    rng = np.random.default_rng(4)
    labels = relabel(rng, random_labels(rng))
    expected, (height, width) = labels.copy(), labels.shape
    for i in np.unique(labels[labels > 0]):
        y, x = ndi.center_of_mass(labels == i)
        if min(y, x, height - 1 - y, width - 1 - x) < 12:
            expected[labels == i] = 0
    assert np.array_equal(leave_out_border(labels, 12), expected)
    assert expected.any()


def test_leave_out_border_changes_neither_its_input_nor_unlabelled_pixels():
    labels = square(0, 0, 4)
    labels[20:] = -1
    before = labels.copy()
    assert set(np.unique(leave_out_border(labels, 5)).tolist()) == {-1, 0}
    assert np.array_equal(labels, before)
    assert not leave_out_border(empty_image(), 5).any()


def test_shapes_that_differ_are_refused_with_both():
    with pytest.raises(InputError, match=r"Got \(48, 80\) and \(48, 79\)"):
        score_image(empty_image(), empty_image()[:, 1:])


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, math.nan])
def test_thresholds_outside_their_range_are_refused(threshold):
    with pytest.raises(InputError, match=f"at most 1. Got {threshold};"):
        score_image(empty_image(), empty_image(), iou_threshold=threshold)
