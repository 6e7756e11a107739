"""F1 beside stardist's and SEG beside a slow reading of its definition: 1,000 pairs of labels."""

import math

import numpy as np
import pytest
from label_pairs import KINDS
from scenes import discs_scene
from stardist.matching import matching, matching_dataset

from oce2stardist.evaluation.scores import pool_scores, score_image, score_sparse

PAIRS_OF_A_KIND = 100
THRESHOLDS = [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0]
"""stardist promises one-to-one matches at 0.5 and above; below, it finds as many as we do."""

each_kind = pytest.mark.parametrize("draw", KINDS, ids=lambda draw: draw.__name__[5:])


@pytest.fixture(scope="module")
def pairs_of():
    """Draw the pairs of a kind once."""
    drawn = {}

    def pairs(draw):
        if draw not in drawn:
            rng = np.random.default_rng(KINDS.index(draw))
            drawn[draw] = [draw(rng) for _ in range(PAIRS_OF_A_KIND)]
        return drawn[draw]

    return pairs


def counts(scores):
    return scores.tp, scores.fp, scores.fn


def seg_by_definition(predicted, truth):
    """The Cell Tracking Challenge's text, object by object."""
    found = []
    for i in np.unique(truth[truth > 0]):
        r = truth == i
        found.append(0.0)
        for j in np.unique(predicted[r & (predicted > 0)]):
            s = predicted == j
            if (r & s).sum() > r.sum() / 2:
                found[-1] = (r & s).sum() / (r | s).sum()
    return np.mean(found) if found else math.nan


def test_a_thousand_pairs_are_drawn():
    assert PAIRS_OF_A_KIND * len(KINDS) == 1000


@each_kind
def test_counts_and_f1_agree_with_stardist(pairs_of, draw):
    for predicted, truth in pairs_of(draw):
        ours = score_sparse(predicted, truth, iou_thresholds=THRESHOLDS)
        for scores, reference in zip(ours, matching(truth, predicted, THRESHOLDS), strict=True):
            assert counts(scores) == (reference.tp, reference.fp, reference.fn)
            assert (scores.n_true, scores.n_predicted) == (reference.n_true, reference.n_pred)
            if scores.n_true + scores.n_predicted:  # see the next test but one
                assert scores.f1 == pytest.approx(reference.f1)
                assert scores.precision == pytest.approx(reference.precision)
                assert scores.recall == pytest.approx(reference.recall)


@each_kind
def test_pooled_f1_agrees_with_that_of_stardist(pairs_of, draw):
    predicted, truth = zip(*pairs_of(draw), strict=True)
    scores = [
        score_sparse(*pair, iou_thresholds=[0.5, 0.75])
        for pair in zip(predicted, truth, strict=True)
    ]
    references = matching_dataset(truth, predicted, [0.5, 0.75], show_progress=False)
    for of_threshold, reference in zip(zip(*scores, strict=True), references, strict=True):
        pooled = pool_scores(of_threshold)
        assert counts(pooled) == (reference.tp, reference.fp, reference.fn)
        if pooled.n_true + pooled.n_predicted:
            assert pooled.f1 == pytest.approx(reference.f1)


def test_stardist_scores_nothing_at_all_0_and_we_score_it_1():
    empty = np.zeros((20, 30), np.int32)
    assert matching(empty, empty).f1 == matching_dataset([empty], [empty], show_progress=False).f1
    assert matching(empty, empty).f1 == 0
    scores = score_image(empty, empty)
    assert (scores.f1, scores.precision, scores.recall) == (1, 1, 1)
    assert math.isnan(scores.seg)


@each_kind
def test_seg_agrees_with_its_definition(pairs_of, draw):
    for predicted, truth in pairs_of(draw):
        expected = seg_by_definition(predicted, truth)
        assert score_image(predicted, truth).seg == pytest.approx(expected, nan_ok=True)


def test_pooled_seg_is_the_mean_over_all_cells(pairs_of):
    # ids of their own make one image of many
    pairs = [pair for draw in KINDS for pair in pairs_of(draw)[:3]]
    beside = [
        np.concatenate(
            [np.where(labels > 0, labels + 10_000 * at, 0).ravel() for at, labels in part]
        )
        for part in (enumerate(side) for side in zip(*pairs, strict=True))
    ]
    pooled = pool_scores([score_image(*pair) for pair in pairs])
    assert pooled.seg == pytest.approx(seg_by_definition(*beside))


@pytest.mark.parametrize("shift", [1, 2, 5])
def test_counts_agree_with_stardist_on_shifted_cells(shift):
    _, truth = discs_scene(12, (120, 120), 9, seed=3)
    predicted = np.roll(truth, shift, axis=1)
    for threshold in THRESHOLDS:
        reference = matching(truth, predicted, threshold)
        scores = score_image(predicted, truth, iou_threshold=threshold)
        assert counts(scores) == (reference.tp, reference.fp, reference.fn)
