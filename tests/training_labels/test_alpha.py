"""How much the pseudo labels count."""

import numpy as np
import pytest
from scenes import discs_scene

from oce2stardist.training_labels.alpha import choose_alpha


def cells(n=12):
    return discs_scene(n, (200, 200), 9, seed=3)[1].astype(np.int32)


def alpha_of(pseudo_labels, known, *, asked="auto", trusted=None):
    return choose_alpha(asked, pseudo_labels, known, trusted=trusted, seed=0)


def without(labels, share):
    """Drop a share of the objects, and turn them into as many where nothing is."""
    ids = np.unique(labels[labels > 0])
    return np.where(np.isin(labels, ids[: round(share * len(ids))]), 0, labels)


def test_good_pseudo_labels_weigh_as_much_as_annotations():
    alpha = alpha_of({"a": cells()}, {"a": cells()})
    assert alpha.value == 0.5
    assert "F1 1.00 on 12 annotated cells" in alpha.reason and alpha.reason.endswith("): good")
    assert alpha.interval == (1.0, 1.0)


def test_useless_pseudo_labels_do_not_count():
    alpha = alpha_of({"a": np.zeros((200, 200), np.int32)}, {"a": cells()})
    assert alpha.value == 0.0
    assert "as good as useless" in alpha.reason


def test_alpha_falls_with_the_share_of_cells_that_are_right():
    values = [alpha_of({"a": without(cells(), share)}, {"a": cells()}).value
              for share in (0.3, 0.65, 0.75, 0.9)]  # fmt: skip
    assert values == sorted(values, reverse=True)
    assert values[0] == 0.5 and 0 < values[1] < 0.5 and values[-1] == 0


def test_labels_that_their_run_distrusts_count_only_if_the_cells_contradict():
    poor = {"a": without(cells(), 0.7)}
    assert alpha_of(poor, {"a": cells()}).value > 0
    distrusted = alpha_of(poor, {"a": cells()}, trusted=False)
    assert distrusted.value == 0
    assert "did not trust" in distrusted.reason
    assert alpha_of({"a": cells()}, {"a": cells()}, trusted=False).value == 0.5


def test_a_few_cells_are_too_few_to_contradict_a_run_that_distrusts_its_labels():
    few = np.where(cells() <= 4, cells(), -1)
    assert alpha_of({"a": cells()}, {"a": few}).value == 0.5
    distrusted = alpha_of({"a": cells()}, {"a": few}, trusted=False)
    assert distrusted.value == 0
    assert "on 4 annotated cells (too few for an interval)" in distrusted.reason


@pytest.mark.parametrize(("trusted", "wanted"), [(None, 0.5), (True, 0.5), (False, 0.0)])
def test_without_a_cell_to_judge_by_the_run_says_so(trusted, wanted):
    alpha = alpha_of({"a": cells()}, {"a": np.zeros((200, 200), np.int32)}, trusted=trusted)
    assert alpha.value == wanted
    assert "no annotated cell to judge" in alpha.reason


def test_images_without_pseudo_labels_do_not_judge_them():
    alpha = alpha_of({"a": cells()}, {"a": cells(), "b": cells()})
    assert "on 12 annotated cells" in alpha.reason


def test_an_alpha_that_was_asked_for_is_taken():
    assert alpha_of({}, {"a": cells()}, asked=0.25).value == 0.25
    assert alpha_of({}, {"a": cells()}).value == 0.0
