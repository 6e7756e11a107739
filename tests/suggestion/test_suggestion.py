"""Objects that leave something open, and windows around them; answers come from the scenes."""

import numpy as np
import pandas as pd
import pytest
from scenes import disc, empty_image, two_touching_discs

from oce2stardist.errors import InputError
from oce2stardist.suggestion.open_objects import compare_objects
from oce2stardist.suggestion.windows import (
    choose_typical_windows,
    choose_windows,
    explain,
    propose_windows,
    window_side,
)


def row_of_discs(n, *, radius=8, spacing=40):
    """Labels (spacing, n * spacing): disc i in the middle of square i of the row."""
    shape = (spacing, n * spacing)
    labels = np.zeros(shape, np.int32)
    for i in range(n):
        labels[disc(shape, (spacing // 2, spacing // 2 + i * spacing), radius)] = i + 1
    return labels


def without(labels, *ids):
    return np.where(np.isin(labels, ids), 0, labels).astype(np.int32)


def kinds(objects):
    """The kind of each disc of `row_of_discs`, from left to right."""
    return objects.sort_values("x")["kind"].tolist()


def window(image="a", score=1.0, y0=0, x0=0, side=10, **counts):
    return {"image": image, "score": score, "y0": y0, "x0": x0, "y1": y0 + side, "x1": x0 + side,
            **counts}  # fmt: skip


def test_an_object_that_one_side_lacks_is_a_contradiction():
    both = row_of_discs(4)
    objects = compare_objects(without(both, 3), np.ones(4), without(both, 2))
    assert kinds(objects) == ["agreed", "model_only", "pseudo_only", "agreed"]
    np.testing.assert_array_equal(objects.sort_values("x")["weight"], [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(objects.sort_values("x")["x"], [20, 60, 100, 140])


def test_an_object_that_is_split_is_a_contradiction_of_three():
    one = np.minimum(two_touching_discs(), 1)
    objects = compare_objects(one, np.ones(1), two_touching_discs())
    # Each half covers half of the whole at most, and a partner more than that.
    assert sorted(objects["kind"]) == ["model_only", "pseudo_only", "pseudo_only"]


def test_shifted_outlines_are_partners_while_they_share_half_of_their_union():
    shape = (40, 60)
    square = np.zeros(shape, np.int32)
    square[10:30, 10:30] = 1
    near, far = np.roll(square, 6, axis=1), np.roll(square, 7, axis=1)  # IoU 14 / 26, 13 / 27
    assert kinds(compare_objects(square, np.ones(1), near)) == ["agreed"]
    assert kinds(compare_objects(square, np.ones(1), far)) == ["model_only", "pseudo_only"]


def test_swapping_the_sides_swaps_who_found_an_object():
    one, other = without(row_of_discs(5), 1, 4), without(row_of_discs(5), 2)
    swap = {"model_only": "pseudo_only", "pseudo_only": "model_only", "agreed": "agreed"}
    forth = compare_objects(one, np.ones(5), other)
    back = compare_objects(other, np.ones(5), one)
    assert kinds(forth) == [swap[kind] for kind in kinds(back)]


def test_ids_do_not_matter():
    labels, rng = row_of_discs(5), np.random.default_rng(0)
    order = np.append(0, rng.permutation(5) + 1)
    probabilities = np.linspace(0.3, 0.9, 5)
    renumbered = np.empty(5)
    renumbered[order[1:] - 1] = probabilities
    pseudo = without(labels, 2)
    one = compare_objects(labels, probabilities, pseudo)
    other = compare_objects(order[labels], renumbered, 1000 * pseudo)
    columns = ["y", "x", "kind", "weight", "probability"]
    pd.testing.assert_frame_equal(
        one.sort_values("x")[columns].reset_index(drop=True),
        other.sort_values("x")[columns].reset_index(drop=True),
    )


def test_objects_below_the_threshold_are_nearly_found_and_weigh_most_if_pseudo_objects_too():
    labels = row_of_discs(3)
    objects = compare_objects(
        labels, np.array([0.3, 0.45, 0.45]), without(labels, 1, 2), prob_thresh=0.6
    ).sort_values("x")
    assert kinds(objects) == ["nearly_found"] * 3
    np.testing.assert_allclose(objects["weight"], [0.5, 0.5, 1])
    assert not objects["in_model"].any()


def test_agreed_objects_weigh_a_tenth_of_their_larger_doubt():
    labels = row_of_discs(3)
    objects = compare_objects(
        labels, np.array([1, 0.75, 0.75]), labels, {1: 0.4, 2: 0.9, 3: 0.2}, prob_thresh=0.5
    ).sort_values("x")
    np.testing.assert_allclose(objects["weight"], [0.06, 0.025, 0.08])


def test_without_a_model_only_confidence_counts():
    objects = compare_objects(None, None, row_of_discs(2), {1: 1.0, 2: 0.2})
    assert kinds(objects) == ["agreed", "agreed"]
    np.testing.assert_allclose(objects["weight"], [0, 0.08])
    assert objects["probability"].isna().all()


@pytest.mark.parametrize("pseudo", [None, np.full((40, 80), -1, np.int32)])
def test_where_nothing_is_known_of_pseudo_labels_there_is_no_contradiction(pseudo):
    objects = compare_objects(row_of_discs(2), np.array([1, 0.75]), pseudo)
    assert kinds(objects) == ["agreed", "agreed"]
    np.testing.assert_allclose(objects.sort_values("x")["weight"], [0, 0.025])


def test_annotated_objects_are_settled():
    labels = row_of_discs(3)
    known = labels == 2
    known[:, :20] = True  # half of disc 1 and the middle column are not more than half
    objects = compare_objects(labels, np.ones(3), np.zeros_like(labels), known=known)
    assert kinds(objects) == ["model_only", "model_only"]
    np.testing.assert_array_equal(sorted(objects["x"]), [20, 100])
    nothing = compare_objects(labels, np.ones(3), labels, known=np.ones_like(known))
    assert nothing.empty


def test_empty_images_hold_no_objects():
    objects = compare_objects(empty_image(), np.empty(0), empty_image())
    assert objects.empty
    assert propose_windows(objects, (48, 80), window=20).empty


def test_neither_model_nor_pseudo_labels_is_our_mistake():
    with pytest.raises(ValueError, match="Got None for both"):
        compare_objects(None, None, None)


def test_windows_measure_five_median_diameters():
    objects = compare_objects(row_of_discs(3, radius=8), np.ones(3), None)
    assert window_side([objects, objects]) == pytest.approx(5 * 16, abs=2)
    assert window_side([objects.iloc[:0]]) == 128


def test_a_window_scores_the_weight_in_it_for_each_object_outlined():
    labels = row_of_discs(4)
    objects = compare_objects(labels, np.ones(4), without(labels, 1, 2))
    windows = propose_windows(objects, labels.shape, window=70).set_index("x0")
    # Images lower than a window are taken whole; windows stay inside.
    assert sorted(windows.index) == [0, 26, 66, 90]
    assert set(windows["y1"] - windows["y0"]) == {40}
    # Discs at 20, 60, 100 and 140, of which the first two are open; five more for the way.
    for x0, (n_open, n) in {0: (2, 2), 26: (1, 1), 66: (0, 1), 90: (0, 2)}.items():
        assert windows.loc[x0, "score"] == pytest.approx(0.5 * n_open / (n + 5))
        assert windows.loc[x0, "n_disagree"] == n_open
        assert windows.loc[x0, "n_objects"] == n


def test_objects_on_the_rim_of_a_window_are_counted_as_its_slice_holds_them():
    objects = compare_objects(row_of_discs(9), np.ones(9), None)
    for row in propose_windows(objects, (40, 360), window=75).itertuples():
        held = objects["x"].between(row.x0, row.x1 - 1) & objects["y"].between(row.y0, row.y1 - 1)
        assert row.n_objects == held.sum()


def test_annotated_pixels_take_from_the_score_and_half_of_them_end_it():
    labels = row_of_discs(1)
    objects = compare_objects(labels, np.ones(1), np.zeros_like(labels))
    scores = []
    for columns in (0, 10, 20, 21):
        known = np.zeros(labels.shape, bool)
        known[:, :columns] = True
        (score,) = propose_windows(objects, labels.shape, window=40, known=known)["score"]
        scores.append(score)
    np.testing.assert_allclose(scores, np.array([1, 0.75, 0.5, 0]) / 12)


def test_a_window_that_is_too_small_is_refused():
    objects = compare_objects(row_of_discs(1), np.ones(1), None)
    with pytest.raises(InputError, match=r"at least 8 pixels\. Got 7"):
        propose_windows(objects, (40, 40), window=7)


def test_confidence_is_that_of_the_model_where_there_is_one():
    labels = row_of_discs(2)
    for objects, expected in (
        (compare_objects(labels, np.array([0.9, 0.7]), labels, {1: 0.1, 2: 0.1}), 0.8),
        (compare_objects(np.zeros_like(labels), np.empty(0), labels), np.nan),
        (compare_objects(None, None, labels, {1: 0.1, 2: 0.3}), 0.2),
    ):
        windows = propose_windows(objects, (40, 80), window=80)
        np.testing.assert_allclose(windows["mean_confidence"], expected)


def test_chosen_windows_do_not_overlap_and_the_best_come_first():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 90, (60, 2))
    candidates = pd.DataFrame(
        [window("ab"[i % 2], rng.random(), *corner) for i, corner in enumerate(corners)]
    )
    chosen = choose_windows(candidates, count=12, n_images=2)
    assert chosen["score"].is_monotonic_decreasing
    assert chosen["score"].max() == candidates["score"].max()
    for _, rows in chosen.groupby("image"):
        area = np.zeros((100, 100), int)
        for row in rows.itertuples():
            area[row.y0 : row.y1, row.x0 : row.x1] += 1
        assert area.max() == 1


def test_no_image_gets_all_windows_unless_the_others_have_none():
    best = [window("a", 1 - 0.01 * i, x0=10 * i) for i in range(10)]
    other = [window("b", 0.1, x0=10 * i) for i in range(10)]
    shared = choose_windows(pd.DataFrame(best + other), count=4, n_images=2)
    assert shared["image"].tolist() == ["a", "a", "a", "b"]  # ceil(4 / 2) + 1 of one
    alone = choose_windows(pd.DataFrame([*best, other[0]]), count=6, n_images=2)
    assert (alone["image"] == "a").sum() == 5


def test_windows_without_anything_to_settle_are_not_suggested():
    candidates = pd.DataFrame([window(score=0.0), window(score=0.2, x0=50)])
    assert choose_windows(candidates, count=5, n_images=1)["x0"].tolist() == [50]


def test_typical_windows_come_from_the_middle_of_every_group_the_largest_first():
    def group(image, n, n_objects):
        return [
            window(image, x0=20 * i, n_objects=n_objects + i % 3, mean_log_area=5.0,
                   mean_confidence=0.9)
            for i in range(n)
        ]  # fmt: skip

    candidates = pd.DataFrame(group("few", 30, 4) + group("many", 10, 60))
    chosen = choose_typical_windows(candidates, count=2, n_images=2)
    assert chosen["image"].tolist() == ["few", "many"]
    np.testing.assert_allclose(chosen["stands_for"], [0.75, 0.25])
    assert chosen["n_objects"].tolist() == [5, 61]


def test_typical_windows_avoid_those_taken_already():
    candidates = pd.DataFrame(
        [window(x0=x0, n_objects=3, mean_log_area=5.0, mean_confidence=1.0) for x0 in (0, 5, 30)]
    )
    chosen = choose_typical_windows(candidates, count=3, n_images=1, taken=candidates.iloc[[0]])
    assert chosen["x0"].tolist() == [30]


def test_no_candidates_give_no_typical_windows():
    nothing = pd.DataFrame([window(n_objects=1, mean_log_area=5.0, mean_confidence=1.0)]).iloc[:0]
    assert choose_typical_windows(nothing, count=3, n_images=1).empty


def test_asking_for_no_windows_is_our_mistake():
    with pytest.raises(ValueError, match="Got 0 and 1"):
        choose_windows(pd.DataFrame([window()]), count=0, n_images=1)


def test_reasons_name_what_there_is_and_nothing_else():
    counts = {"n_model_only": 3, "n_pseudo_only": 0, "n_nearly_found": 1, "n_unsure": 0}
    assert explain(counts) == "3 only found by the model, 1 nearly found"
    assert explain({**counts, "stands_for": 0.314}).startswith("typical of 31% of the places, 3")
    nothing = dict.fromkeys(counts, 0)
    assert explain(nothing) == "objects that are less sure than elsewhere"
