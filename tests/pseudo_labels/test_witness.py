"""A second witness parts, joins and adds objects, and leaves alone what it does not contradict."""

import numpy as np
import pytest

from oce2stardist.pseudo_labels.witness import correct


def draw(*boxes, shape=(20, 40)):
    """Number boxes (top, bottom, left, right) 1, 2, ..."""
    labels = np.zeros(shape, np.int32)
    for number, (top, bottom, left, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = number
    return labels


def same_objects(one, other):
    """Tell whether two label images hold the same objects, whatever their ids."""
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


LEFT, RIGHT, BOTH = (2, 10, 2, 10), (2, 10, 11, 19), (2, 10, 2, 19)


@pytest.mark.parametrize(
    ("labels", "witness", "expected"),
    [
        (draw(BOTH), draw(LEFT, RIGHT), draw(LEFT, RIGHT)),
        (draw(LEFT, RIGHT), draw(BOTH), draw(BOTH)),
        (draw(LEFT), draw(LEFT, RIGHT), draw(LEFT, RIGHT)),
        (draw(LEFT, RIGHT), draw(LEFT), draw(LEFT, RIGHT)),
        (draw(BOTH), draw(LEFT), draw(BOTH)),
        (draw(LEFT), draw((3, 11, 3, 11)), draw(LEFT)),
        (draw(LEFT), draw(), draw(LEFT)),
        (draw(), draw(LEFT), draw(LEFT)),
        # a speck in a cell is no second part of it
        (draw(BOTH), draw((3, 5, 3, 5), (6, 8, 12, 14)), draw(BOTH)),
    ],
    ids=["parts", "joins", "adds", "misses", "one part", "outline", "silent", "alone", "specks"],
)
def test_what_a_witness_changes(labels, witness, expected):
    assert same_objects(correct(labels, witness), expected)


def test_objects_that_stay_keep_their_ids_and_new_ones_come_after():
    labels, witness = draw(LEFT, BOTH, shape=(20, 40)), draw((12, 18, 20, 30))
    corrected = correct(labels, witness)
    np.testing.assert_array_equal(corrected[:11], labels[:11])
    assert corrected[15, 25] == labels.max() + 1


def test_a_witness_that_agrees_changes_nothing():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.permutation(60).reshape(6, 10), np.ones((5, 5))).astype(np.int32)
    np.testing.assert_array_equal(correct(labels, labels), labels)
