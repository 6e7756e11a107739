"""Confidence: how well objects overlap with those of other settings."""

import numpy as np
import pytest

from oce2stardist.pseudo_labels.confidence import agreement, best_overlaps


def random_labels(seed, n=12):
    """Rectangles drawn over each other, so that sizes differ and some ids may vanish."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 50), np.int32)
    for index in range(1, n + 1):
        y, x = rng.integers(0, 35), rng.integers(0, 45)
        labels[y : y + rng.integers(2, 15), x : x + rng.integers(2, 15)] = index
    return labels


def overlaps_one_by_one(labels, others):
    """Every pair of objects, counted."""
    best = np.zeros(labels.max())
    for index in np.unique(labels[labels > 0]):
        for other in np.unique(others[others > 0]):
            one, two = labels == index, others == other
            best[index - 1] = max(best[index - 1], (one & two).sum() / (one | two).sum())
    return best


@pytest.mark.parametrize("seed", range(4))
def test_best_overlaps_are_those_counted_pair_by_pair(seed):
    labels, others = random_labels(seed, 25), random_labels(seed + 100, 9)
    expected = overlaps_one_by_one(labels, others)
    assert 0 < expected.max() < 1
    np.testing.assert_allclose(best_overlaps(labels, others), expected, atol=1e-12)


def test_overlap_is_1_with_itself_and_0_with_nothing():
    labels = random_labels(0)
    there = np.isin(np.arange(1, labels.max() + 1), labels)
    np.testing.assert_array_equal(best_overlaps(labels, labels), there.astype(float))
    np.testing.assert_array_equal(best_overlaps(labels, 0 * labels), 0.0)
    assert best_overlaps(0 * labels, labels).shape == (0,)


def test_names_in_the_other_image_do_not_matter():
    labels, others = random_labels(1), random_labels(2)
    np.testing.assert_array_equal(
        best_overlaps(labels, others), best_overlaps(labels, np.where(others, 7 * others + 3, 0))
    )


def test_agreement_is_the_mean_over_variants():
    labels = np.zeros((10, 20), np.int32)
    labels[:, :10], labels[:, 10:] = 1, 2
    half = np.where(labels == 1, 1, 0)
    half[5:, :10] = 0  # half of object 1, nothing of object 2
    found = agreement(labels, [labels, half])
    np.testing.assert_allclose(found, [0.75, 0.5])


def test_without_variants_all_are_sure():
    np.testing.assert_array_equal(agreement(random_labels(0, 5), []), np.ones(5))
