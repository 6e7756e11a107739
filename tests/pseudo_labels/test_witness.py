"""A second witness says which objects there are; their outlines, and what it misses, stay."""

import numpy as np
import pytest

from oce2stardist.labels import FoundObjects
from oce2stardist.pseudo_labels.witness import EMBEDDINGS, START, correct, hear_witness, keep_agreed


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
        (draw(BOTH), draw(LEFT), draw(LEFT)),
        (draw(LEFT), draw((2, 10, 3, 11)), draw(LEFT)),  # IoU 7 / 9
        (draw(LEFT), draw((3, 11, 3, 11)), draw((3, 11, 3, 11))),  # 49 / 79
        (draw(LEFT), draw(), draw(LEFT)),
        (draw(), draw(LEFT), draw(LEFT)),
        # a speck in a cell is no second part of it
        (draw(BOTH), draw((3, 5, 3, 5), (6, 8, 12, 14)), draw(BOTH)),
    ],
    ids=[
        "parts",
        "joins",
        "adds",
        "misses",
        "shrinks",
        "same outline",
        "another outline",
        "silent",
        "alone",
        "specks",
    ],
)
def test_what_a_witness_changes(labels, witness, expected):
    assert same_objects(correct(labels, witness, np.full(2, 0.9)), expected)


def test_what_the_witness_misses_goes_where_the_embeddings_are_not_sure_of_it():
    sure = np.array([0.5, 0.9])
    assert same_objects(correct(draw(LEFT, RIGHT), draw(), sure), draw(RIGHT))


def test_an_outline_gives_way_to_a_cell_that_only_the_witness_shows():
    wide, rest = (2, 10, 2, 12), (2, 10, 11, 19)  # IoU of wide and LEFT: 8 / 10
    corrected = correct(draw(wide), draw(LEFT, rest), np.ones(1))
    assert same_objects(corrected, draw((2, 10, 2, 11), rest))


def test_objects_that_stay_keep_their_ids_and_new_ones_come_after():
    labels, witness = draw(LEFT, BOTH, shape=(20, 40)), draw((12, 18, 20, 30))
    corrected = correct(labels, witness, np.ones(2))
    np.testing.assert_array_equal(corrected[:11], labels[:11])
    assert corrected[15, 25] == labels.max() + 1


def test_a_witness_that_agrees_changes_nothing():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.permutation(60).reshape(6, 10), np.ones((5, 5))).astype(np.int32)
    np.testing.assert_array_equal(correct(labels, labels, np.zeros(59)), labels)


def hear(own, theirs, *, trusted=True, scores=None, clicked=None):
    """Hear a witness that is 0.8 sure of everything about labels that are 0.9 sure."""
    witness = FoundObjects({"a": theirs}, {"a": dict.fromkeys(range(1, 9), 0.8)})
    return hear_witness(
        {"a": own},
        {"a": np.full(int(own.max()), 0.9)},
        witness,
        trusted=trusted,
        score=lambda labels: None if scores is None else scores[labels["a"] is theirs],
        clicked={} if clicked is None else {"a": np.array(clicked)},
    )


SPECKS = draw((3, 5, 3, 5), (6, 8, 12, 14))
OVER = (2, 10, 6, 16)  # half of LEFT, and as much beside it


@pytest.mark.parametrize(
    ("own", "theirs", "clicked", "expected"),
    [
        (draw(BOTH), SPECKS, None, draw(BOTH)),  # too little to part it
        (draw(BOTH), SPECKS, [(3, 4), (7, 13)], SPECKS),
        (draw(BOTH), SPECKS, [(3, 4)], draw(BOTH)),  # one cell
        (draw(BOTH), draw((3, 5, 3, 5)), [(3, 4), (7, 13)], draw(BOTH)),  # it has one of two cells
        (draw(BOTH), draw(BOTH), [(3, 4), (5, 15)], draw(BOTH)),  # it does not part them either
        (draw(LEFT), draw(OVER), [(5, 14)], draw(OVER)),
        (draw(), draw(), [(5, 14)], draw()),
    ],
)
def test_clicks_choose_between_what_both_found(own, theirs, clicked, expected):
    assert same_objects(hear(own, theirs, clicked=clicked).labels["a"], expected)


def test_an_object_that_both_find_is_surer_and_one_that_a_single_one_finds_less_sure():
    heard = hear(draw(LEFT, (12, 18, 2, 10)), draw(LEFT, (12, 18, 20, 30)))
    assert heard.found_by["a"].tolist() == [EMBEDDINGS, EMBEDDINGS, START]
    assert heard.confidence["a"] == pytest.approx([(0.9 + 1) / 2, 0.9 / 2, 0.8 / 2])
    assert heard.labels["a"].max() == 3
    assert "alone finds 2 cells of 8.9 px; 1 of the pseudo objects" in heard.reason


def test_the_witness_gets_what_takes_the_place_of_the_object_with_the_highest_number():
    heard = hear(draw((12, 18, 2, 10), BOTH), draw((12, 18, 2, 10), LEFT, RIGHT))
    assert heard.found_by["a"].tolist() == [EMBEDDINGS, START, START]


def test_labels_that_can_not_be_trusted_give_way_to_those_of_the_witness():
    heard = hear(draw(BOTH), draw(LEFT), trusted=False)
    np.testing.assert_array_equal(heard.labels["a"], draw(LEFT))
    assert heard.confidence["a"] == pytest.approx([(0.8 + 64 / 136) / 2])  # IoU with BOTH: 8 / 17
    assert heard.by_start == 1
    assert "its labels are taken: the embeddings can't be trusted" in heard.reason


@pytest.mark.parametrize(("of_start", "taken"), [(0.9, [LEFT]), (0.2, [LEFT, RIGHT])])
def test_annotated_cells_choose_whatever_else_speaks_for_trust(of_start, taken):
    scores = {True: of_start, False: 0.5}
    for trusted in (True, False):
        heard = hear(draw(LEFT, RIGHT), draw(LEFT), trusted=trusted, scores=scores)
        assert same_objects(heard.labels["a"], draw(*taken))
        assert f"F1 on annotated cells {of_start:.2f}, that of the corrected" in heard.reason


def test_silence_on_both_sides_is_no_object():
    heard = hear(draw(), draw())
    assert heard.labels["a"].max() == 0 and len(heard.confidence["a"]) == 0
    assert "alone finds 0 cells; 0 of the" in heard.reason


def test_of_two_segmentations_what_only_one_takes_for_an_object_is_unknown():
    mine_alone, theirs_alone, unsure = (12, 18, 2, 10), (12, 18, 20, 30), (0, 2, 30, 40)
    other = draw((3, 10, 2, 10), theirs_alone)  # the first: IoU with LEFT 56 / 64
    other[unsure[0] : unsure[1], unsure[2] : unsure[3]] = -1
    kept = keep_agreed(draw(LEFT, mine_alone), other)
    expected = draw(LEFT)
    for top, bottom, left, right in (mine_alone, theirs_alone, unsure):
        expected[top:bottom, left:right] = -1
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize(("left", "count"), [(4, 1), (5, 0), (6, 0)])
def test_the_same_object_has_an_iou_of_a_half(left, count):
    other = (2, 10, left, left + 8)  # of LEFT, which is 8 px wide: 6 / 10, 5 / 11 and 4 / 12
    assert keep_agreed(draw(LEFT), draw(other)).max(initial=0) == count
